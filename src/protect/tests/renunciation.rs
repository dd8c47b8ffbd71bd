//! A secondary's VM that is given up for good, and a primary that goes on alone by that (rule R6).

use super::*;
use crate::protect::{Action, CessionNews};

#[test]
fn a_vm_that_is_given_up_never_speaks_whoever_lets_it_go_on() {
    for inherited in [false, true] {
        let mut pair = Pair::protected();
        assert!(pair.secondary.is_promotable());
        match inherited {
            true => pair.secondary.renunciation_is_written(),
            false => {
                pair.secondary.renounce();
                let news = pair.secondary.next_cession_news();
                assert_eq!(news, Some(CessionNews::Renounced));
            }
        }
        assert!(!pair.secondary.is_promotable());
        pair.secondary_fails_over();
        assert!(pair.secondary.next_announcement(pair.now).is_none());
        let mut pair = Pair {
            primary: pair.take_over(),
            ..Pair::protected()
        };
        assert!(pair.primary.epochs().is_superseded() && pair.primary.compares());
        assert!(pair.primary.next_announcement(pair.now).is_none());
        assert_eq!(pair.released(), [0; 0]);
    }
}

#[test]
fn a_vm_that_goes_on_already_is_not_given_up() {
    let mut pair = Pair::protected();
    pair.secondary
        .monitor(QemuEvent::Migration(Migration::Completed));
    pair.secondary.renounce();
    assert_eq!(
        pair.secondary.next_cession_news(),
        Some(CessionNews::IsChosen)
    );
    let mut primary = pair.take_over();
    assert!(!primary.epochs().is_superseded());
    primary.refuse_renunciation();
    assert_eq!(
        primary.next_cession_news(false),
        Some(CessionNews::IsChosen)
    );
}

#[test]
fn a_primary_whose_peer_has_given_up_gives_the_command_and_lets_all_out() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    assert_eq!(pair.released(), [0; 0]);
    pair.primary.peer_renounced(pair.now);
    assert_eq!(pair.released(), [0; 0], "it is compared while both run");
    let action = pair.primary.next_action(pair.now);
    assert_eq!(
        action,
        Some(Action::FailOver),
        "though nothing is automatic"
    );
    assert_eq!(pair.primary.next_action(pair.now), None);
    pair.tell(QemuEvent::ColoExit);
    pair.primary.tick(pair.now);
    assert_eq!(pair.released(), [1], "nobody waits for a fencing command");
    pair.tell(QemuEvent::Migration(Migration::Completed));
    assert_eq!(pair.primary.next_action(pair.now + (1 << 20)), None);
}

#[test]
fn another_colo_has_another_peer() {
    let mut pair = Pair::protected();
    pair.primary.peer_renounced(pair.now);
    pair.tell(QemuEvent::Migration(Migration::Completed));
    pair.tell(QemuEvent::Migration(Migration::Colo));
    assert_eq!(pair.primary.next_action(pair.now + (1 << 20)), None);
    // What is said of the last one comes late.
    let mut pair = Pair::protected();
    pair.tell(QemuEvent::Migration(Migration::Completed));
    pair.primary.peer_renounced(pair.now);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    assert_eq!(pair.primary.next_action(pair.now + (1 << 20)), None);
}
