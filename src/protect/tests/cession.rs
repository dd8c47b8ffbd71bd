//! A lead that the primary gives up for good: who may speak, whatever is lost or started again (rule R6).

use super::*;
use crate::protect::{Action, CessionNews};

impl Pair {
    /// The primary falls silent, and that is written down if `written`.
    fn cedes(&mut self, written: bool) {
        self.primary.cede(self.now);
        let news = self.primary.next_cession_news(true);
        assert_eq!(news, Some(CessionNews::Silent));
        if written {
            self.primary.cession_is_written();
        }
        self.exchange();
    }
}

#[test]
fn who_has_ceded_lets_nothing_out_whatever_qemu_and_the_secondary_say() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.svm(datagram(1));
    pair.cedes(true);
    assert_eq!(pair.released(), [0; 0], "what was free to leave");
    // A checkpoint goes on, and commits.
    pair.stop(1);
    pair.resume();
    pair.exchange();
    assert_eq!(pair.released(), [0; 0]);
    for event in [
        QemuEvent::ColoExit,
        QemuEvent::Migration(Migration::Completed),
        QemuEvent::Disconnected,
        CONNECTED,
        QemuEvent::Disconnected,
        QemuEvent::Connected {
            migration: Migration::Completed,
            running: true,
            leads: false,
        },
    ] {
        pair.tell(event);
        pair.now += TIMING.silence;
        pair.primary.tick(pair.now);
        pair.primary.tick(pair.now + 10 * TIMING.silence);
        assert_eq!(pair.released(), [0; 0], "after {event:?}");
        assert!(
            pair.primary.compares(),
            "what does not goes straight to the uplink"
        );
        assert_eq!(pair.primary.next_action(pair.now), None);
        assert!(pair.primary.next_request(pair.now).is_none());
    }
}

#[test]
fn a_node_in_the_place_of_one_that_has_ceded_is_as_silent_and_says_so() {
    for migration in [Migration::None, Migration::Colo, Migration::Completed] {
        let mut pair = Pair::protected();
        pair.primary = Primary::new(setup(9), pair.now);
        pair.primary.cession_is_written();
        pair.tell(QemuEvent::Connected {
            migration,
            running: true,
            leads: true,
        });
        pair.barrier(0, migration == Migration::Colo);
        pair.exchange();
        assert!(pair.primary.compares(), "{migration:?}");
        assert_eq!(pair.released(), [0; 0]);
        assert!(pair.secondary.is_peer_gone());
        // It does not know what has left in the session before.
        assert_eq!(pair.secondary.next_action(pair.now), None);
    }
}

#[test]
fn the_secondary_goes_on_when_it_hears_that_and_not_before() {
    let mut pair = Pair::protected();
    pair.cedes(false);
    assert_eq!(
        pair.secondary.next_action(pair.now),
        None,
        "nothing is written"
    );
    assert!(!pair.secondary.is_peer_gone());
    pair.cut = true;
    pair.primary.cession_is_written();
    pair.exchange();
    assert_eq!(
        pair.secondary.next_action(pair.now),
        None,
        "nothing was heard"
    );
    pair.cut = false;
    pair.now += TIMING.retransmit;
    pair.exchange();
    assert!(pair.secondary.is_peer_gone());
    assert_eq!(pair.secondary.next_action(pair.now), Some(Action::Succeed));
    assert_eq!(
        pair.primary.next_cession_news(true),
        Some(CessionNews::Heard)
    );
    // COLO ends by that, and the primary is not fenced for it.
    pair.secondary.monitor(QemuEvent::ColoExit);
    pair.secondary.tick(pair.now);
    assert_eq!(pair.secondary.next_action(pair.now), None);
    pair.secondary
        .monitor(QemuEvent::Migration(Migration::Completed));
    let Pair {
        mut primary,
        secondary,
        now,
        ..
    } = pair;
    let mut successor = Primary::<HeapFrame>::new(setup(9), now);
    successor.inherit(secondary.into_handover_state(), now);
    for _ in 0..4 {
        while let Some(t) = successor.next_transmit(now) {
            hear(&mut primary, t.bytes(), now);
        }
        while let Some(t) = primary.next_transmit(now) {
            hear(&mut successor, t.bytes(), now);
        }
    }
    assert_eq!(
        primary.next_cession_news(true),
        Some(CessionNews::Succeeded)
    );
    primary.take_back();
    assert!(primary.epochs().is_superseded(), "its successor leads");
    assert!(!successor.epochs().is_superseded());
}

#[test]
fn what_is_taken_back_leaves_as_if_nothing_had_been() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.svm(datagram(1));
    pair.cedes(false);
    assert_eq!(pair.released(), [0; 0]);
    pair.primary.take_back();
    pair.exchange();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Protected);
    assert_eq!(pair.secondary.next_action(pair.now), None);
}

#[test]
fn a_secondary_that_hears_that_the_primary_leads_after_all_does_not_go_on() {
    let mut pair = Pair::protected();
    pair.cedes(true);
    assert!(pair.secondary.is_peer_gone());
    pair.primary.take_back();
    pair.exchange();
    assert!(!pair.secondary.is_peer_gone());
    assert_eq!(pair.secondary.next_action(pair.now), None);
}

#[test]
fn a_primary_that_is_not_protected_cedes_nothing() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.svm(datagram(1));
    pair.stop(1);
    pair.primary.cede(pair.now);
    assert_eq!(
        pair.primary.next_cession_news(true),
        Some(CessionNews::NotNow)
    );
    pair.resume();
    pair.exchange();
    assert_eq!(pair.released(), [1]);
}

#[test]
fn a_node_in_the_place_of_a_survivor_that_has_ceded_is_silent_too() {
    let mut pair = Pair::protected();
    pair.secondary.cession_is_written();
    pair.secondary_fails_over();
    assert!(pair.secondary.next_announcement(pair.now).is_none());
    let mut pair = Pair {
        primary: pair.take_over(),
        ..Pair::protected()
    };
    assert!(pair.primary.epochs().is_superseded() && pair.primary.compares());
    assert!(pair.primary.next_last().is_none());
    assert!(pair.primary.next_announcement(pair.now).is_none());
    assert_eq!(pair.released(), [0; 0]);
}
