//! A lead that the primary's node gives up for good, and that the secondary's takes for that (rule R6).
//!
//! In, at the primary: that it has fallen silent, that this is written down, sessions, acknowledgments, the successor's
//! word. Out: [`Message::Cedes`] in each session, and what the control thread has to know. In, at the secondary: that
//! message. Out: when QEMU gets the failover command. `docs/switchover.md` has the order of the steps.

use super::peer::Action;
use crate::frame::Ticks;
use crate::link::{Endpoint, Message};

/// What the control thread hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CessionNews {
    /// Primary: it is not protected at this moment, and has not fallen silent.
    NotNow,
    /// Primary: nothing leaves any more, and the other node does not know.
    Silent,
    /// Primary: the other node knows.
    Heard,
    /// Primary: the SVM leads.
    Succeeded,
    /// Secondary: whether the primary has ceded its lead.
    PeerCeded(bool),
    /// Secondary: its VM never leads.
    Renounced,
    /// Its VM leads already, or is about to.
    IsChosen,
}

/// How far the primary's cession is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    None,
    /// It is silent, and nobody may know yet.
    Silent,
    /// To be said when the link takes it.
    Due,
    /// Said as the control message of this number.
    Said(u32),
    /// The other node knows.
    Heard,
}

/// The primary's end.
#[derive(Debug, Default)]
pub(super) struct Cession {
    stage: Stage,
    refused: bool,
    /// The other node wants it to give up a VM that leads.
    is_chosen: bool,
    /// The control thread does not know yet that it is silent.
    fell_silent: bool,
    succeeded: bool,
}

impl Cession {
    /// It cannot be now.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// The VM leads, and is not given up.
    pub(super) fn keep(&mut self) {
        self.is_chosen = true;
    }

    /// Nothing leaves any more.
    pub(super) fn fall_silent(&mut self) {
        if self.stage == Stage::None {
            self.stage = Stage::Silent;
        }
        self.fell_silent = true;
    }

    /// That is written down: a node in its place is silent, too.
    pub(super) fn is_written(&mut self) {
        if matches!(self.stage, Stage::None | Stage::Silent) {
            self.stage = Stage::Due;
        }
    }

    /// The lead is taken back.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The SVM leads.
    pub(super) fn succeed(&mut self) {
        self.succeeded = true;
    }

    /// A session began: what was said in the one before may be forgotten there.
    pub(super) fn session(&mut self) {
        if !matches!(self.stage, Stage::None | Stage::Silent) {
            self.stage = Stage::Due;
        }
    }

    /// Says what is due, if the link takes it.
    pub(super) fn send(&mut self, term: u32, link: &mut Endpoint) {
        if self.stage == Stage::Due && link.has_session() && link.send(Message::Cedes(term)).is_ok()
        {
            self.stage = Stage::Said(link.sent());
        }
    }

    /// What the control thread does not know yet. `is_idle`: nothing waits at the uplink.
    pub(super) fn next_news(&mut self, is_idle: bool, link: &Endpoint) -> Option<CessionNews> {
        if std::mem::take(&mut self.refused) {
            return Some(CessionNews::NotNow);
        }
        if std::mem::take(&mut self.is_chosen) {
            return Some(CessionNews::IsChosen);
        }
        if is_idle && std::mem::take(&mut self.fell_silent) {
            return Some(CessionNews::Silent);
        }
        if let Stage::Said(number) = self.stage
            && link.is_acknowledged(number)
        {
            self.stage = Stage::Heard;
            return Some(CessionNews::Heard);
        }
        std::mem::take(&mut self.succeeded).then_some(CessionNews::Succeeded)
    }
}

/// The secondary's end: what it has heard.
#[derive(Debug)]
pub(super) struct Succession {
    /// The primary has ceded its lead, and has not said since that it leads.
    heard: bool,
    /// When it said so, the VM could go on without loss.
    accepts: bool,
    retry: Ticks,
    pause: Ticks,
    /// When QEMU may get the command again.
    order_at: Ticks,
    reported: bool,
}

impl Succession {
    /// Nothing was heard; QEMU gets a second command after `retry`, and further ones after twice the time each.
    pub(super) fn new(retry: Ticks) -> Self {
        Self {
            heard: false,
            accepts: false,
            retry,
            pause: retry,
            order_at: 0,
            reported: false,
        }
    }

    /// The primary cedes its lead. `able`: the VM could go on without loss.
    pub(super) fn hear(&mut self, able: bool) {
        self.heard = true;
        self.accepts |= able;
    }

    /// The primary says that it leads. If it has ceded, it says that next.
    pub(super) fn leads(&mut self) {
        self.heard = false;
    }

    /// Another COLO: nothing that was said counts.
    pub(super) fn forget(&mut self) {
        let reported = self.reported;
        *self = Self::new(self.retry);
        self.reported = reported;
    }

    /// Whether the primary certainly sends nothing, and never will.
    pub(super) fn has_heard(&self) -> bool {
        self.heard
    }

    /// Whether the VM goes on by that.
    pub(super) fn succeeds(&self) -> bool {
        self.heard && self.accepts
    }

    /// What is to be done; `able`: QEMU has not got the command yet, and takes one.
    pub(super) fn next_action(&mut self, now: Ticks, able: bool) -> Option<Action> {
        if !self.succeeds() || !able || now < self.order_at {
            return None;
        }
        self.order_at = now + self.pause;
        self.pause = (self.pause * 2).min(self.retry * 32);
        Some(Action::Succeed)
    }

    /// What the control thread does not know yet.
    pub(super) fn next_news(&mut self) -> Option<CessionNews> {
        let changed = std::mem::replace(&mut self.reported, self.heard) != self.heard;
        changed.then_some(CessionNews::PeerCeded(self.heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::tests::{carry, ends};

    #[test]
    fn nobody_hears_of_it_before_it_is_written_down() {
        let mut ends = ends();
        let mut cession = Cession::default();
        cession.fall_silent();
        for _ in 0..2 {
            cession.send(0, &mut ends[0]);
            cession.session();
        }
        assert_eq!(carry(&mut ends), []);
        assert_eq!(
            cession.next_news(false, &ends[0]),
            None,
            "a frame may leave yet"
        );
        assert_eq!(cession.next_news(true, &ends[0]), Some(CessionNews::Silent));
        cession.is_written();
        cession.send(3, &mut ends[0]);
        assert_eq!(carry(&mut ends), [Message::Cedes(3)]);
        assert_eq!(cession.next_news(true, &ends[0]), None);
        ends.reverse();
        carry(&mut ends);
        ends.reverse();
        assert_eq!(cession.next_news(true, &ends[0]), Some(CessionNews::Heard));
        assert_eq!(cession.next_news(true, &ends[0]), None);
    }

    #[test]
    fn it_is_said_in_each_session_until_it_is_taken_back() {
        let mut ends = ends();
        let mut cession = Cession::default();
        cession.is_written();
        for _ in 0..3 {
            cession.session();
            cession.send(1, &mut ends[0]);
            assert_eq!(carry(&mut ends), [Message::Cedes(1)]);
        }
        cession.forget();
        cession.session();
        cession.send(1, &mut ends[0]);
        assert_eq!(carry(&mut ends), []);
    }

    #[test]
    fn a_secondary_goes_on_only_if_it_could_when_it_heard() {
        let mut succession = Succession::new(10);
        assert_eq!(succession.next_action(5, true), None);
        succession.hear(false);
        assert!(succession.has_heard() && !succession.succeeds());
        assert_eq!(succession.next_news(), Some(CessionNews::PeerCeded(true)));
        assert_eq!(succession.next_news(), None);
        assert_eq!(succession.next_action(5, true), None);
        succession.hear(true);
        assert_eq!(succession.next_action(5, false), None, "QEMU takes nothing");
        assert_eq!(succession.next_action(5, true), Some(Action::Succeed));
        assert_eq!(succession.next_action(14, true), None);
        assert_eq!(succession.next_action(15, true), Some(Action::Succeed));
        assert_eq!(succession.next_action(34, true), None);
        // In another session, in which it could not be judged.
        succession.leads();
        assert_eq!(succession.next_action(100, true), None);
        succession.hear(false);
        assert_eq!(succession.next_action(100, true), Some(Action::Succeed));
        succession.forget();
        assert_eq!(succession.next_action(1_000, true), None);
        assert_eq!(succession.next_news(), Some(CessionNews::PeerCeded(false)));
    }
}
