//! A restart of this node that an operator has announced.
//!
//! In: the operator's command, sessions, acknowledgments. Out: [`Message::Restarts`] on the link, and once whether the
//! peer has received it. Until then the node must not end: to a peer that does not know, it would look dead.

use crate::link::{Endpoint, Message};

/// How far the announcement has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    /// To be sent when the link takes it.
    Due,
    /// Sent as the control message of this number.
    Sent {
        number: u32,
        /// Not withdrawn: it is sent again in the next session.
        again: bool,
    },
}

/// The announcement of a restart.
#[derive(Debug, Default)]
pub(super) struct RestartNotice(Stage);

impl RestartNotice {
    /// An operator has announced a restart. A second announcement is sent, too: it begins the peer's wait anew.
    pub(crate) fn announce(&mut self) {
        self.0 = Stage::Due;
    }

    /// A session began: what was sent in the one before does not count.
    pub(super) fn session(&mut self) {
        self.0 = match self.0 {
            Stage::None | Stage::Sent { again: false, .. } => Stage::None,
            Stage::Due | Stage::Sent { .. } => Stage::Due,
        };
    }

    /// The operator's time is over. What was sent may still arrive in this session, and nothing is sent any more.
    pub(super) fn withdraw(&mut self) {
        self.0 = match self.0 {
            Stage::None | Stage::Due => Stage::None,
            Stage::Sent { number, .. } => Stage::Sent {
                number,
                again: false,
            },
        };
    }

    /// Sends what is due, if there is a session and the link takes it.
    pub(crate) fn send(&mut self, link: &mut Endpoint) {
        if self.0 == Stage::Due && link.has_session() && link.send(Message::Restarts).is_ok() {
            self.0 = Stage::Sent {
                number: link.sent(),
                again: true,
            };
        }
    }

    /// Whether the peer has received it; true once.
    pub(crate) fn take_acknowledged(&mut self, link: &Endpoint) -> bool {
        let acknowledged = match self.0 {
            Stage::Sent { number, .. } => link.is_acknowledged(number),
            Stage::None | Stage::Due => false,
        };
        if acknowledged {
            self.0 = Stage::None;
        }
        acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::tests::{carry, ends};

    /// What the peer hears in all of a notice that is withdrawn, before it could be sent or afterwards.
    fn heard(sent_before: bool) -> Vec<Message> {
        let mut ends = ends();
        let mut notice = RestartNotice::default();
        notice.announce();
        if sent_before {
            notice.send(&mut ends[0]);
        }
        notice.withdraw();
        let mut heard = Vec::new();
        for _ in 0..3 {
            notice.session();
            notice.send(&mut ends[0]);
            heard.extend(carry(&mut ends));
        }
        heard
    }

    #[test]
    fn what_is_withdrawn_is_not_sent_any_more() {
        assert_eq!(heard(false), []);
        assert_eq!(heard(true), [Message::Restarts]);
    }

    #[test]
    fn what_was_sent_before_it_was_withdrawn_may_still_be_received() {
        let mut ends = ends();
        let mut notice = RestartNotice::default();
        notice.announce();
        notice.send(&mut ends[0]);
        notice.withdraw();
        assert!(!notice.take_acknowledged(&ends[0]));
        assert_eq!(carry(&mut ends), [Message::Restarts]);
        ends.reverse();
        carry(&mut ends);
        ends.reverse();
        assert!(notice.take_acknowledged(&ends[0]));
        assert!(!notice.take_acknowledged(&ends[0]));
    }
}
