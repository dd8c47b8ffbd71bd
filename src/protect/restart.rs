//! A restart of this node that an operator has announced.
//!
//! In: the operator's word, sessions, acknowledgments. Out: [`Message::Restarts`] on the link, and once whether the
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
    Sent(u32),
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
    pub(crate) fn session(&mut self) {
        if self.0 != Stage::None {
            self.0 = Stage::Due;
        }
    }

    /// Sends what is due, if there is a session and the link takes it.
    pub(crate) fn send(&mut self, link: &mut Endpoint) {
        if self.0 == Stage::Due && link.has_session() && link.send(Message::Restarts).is_ok() {
            self.0 = Stage::Sent(link.sent());
        }
    }

    /// Whether the peer has received it; true once.
    pub(crate) fn take_acknowledged(&mut self, link: &Endpoint) -> bool {
        let acknowledged = match self.0 {
            Stage::Sent(number) => link.is_acknowledged(number),
            Stage::None | Stage::Due => false,
        };
        if acknowledged {
            self.0 = Stage::None;
        }
        acknowledged
    }
}
