//! What a node announces of its VM's place, and when.

use super::survivor::segment;
use super::*;
use crate::packet::Packet;
use crate::protect::Announcement;

const RARP: [u8; 2] = [0x80, 0x35];

const ARP: [u8; 2] = [0x08, 0x06];

const NONE: [[u8; 2]; 0] = [];

/// The EtherTypes of what a node says of its own accord.
fn said(mut next: impl FnMut() -> Option<Announcement>) -> Vec<[u8; 2]> {
    std::iter::from_fn(&mut next)
        .map(|frame| frame.bytes()[12..14].try_into().unwrap())
        .collect()
}

#[test]
fn the_announcement_leaves_when_qemu_has_decided_and_again_when_the_vm_runs() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    let now = pair.now;
    pair.secondary.guest_stopped(0);
    for event in [QemuEvent::ColoExit, QemuEvent::Stop] {
        pair.secondary.monitor(event);
        assert!(said(|| pair.secondary.next_announcement(now)).is_empty());
    }
    pair.secondary
        .monitor(QemuEvent::Migration(Migration::Completed));
    assert!(pair.secondary.is_chosen() && !pair.secondary.takes_over());
    assert_eq!(said(|| pair.secondary.next_announcement(now)), [RARP]);
    assert!(said(|| pair.secondary.next_announcement(now)).is_empty());
    pair.secondary.monitor(QemuEvent::Resume);
    pair.secondary.monitor(QemuEvent::Barrier {
        stops: 1,
        migration: Migration::Completed,
        running: true,
    });
    let mut successor = pair.take_over();
    assert_eq!(said(|| successor.next_announcement(now)), [RARP]);
    // Whom the VM has sent its last segment to is asked where it is.
    let last = segment(true, 5_001, 7, b"x").to_vec();
    let packet = Packet::parse(&last, last.len());
    successor.announcer().unwrap().speaks_to(&last, &packet);
    assert_eq!(said(|| successor.next_announcement(now)), [ARP]);
}

/// Its SVM may have been announced since.
#[test]
fn the_vms_place_is_not_announced_while_it_is_uncertain_who_speaks() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.secondary_fails_over();
    let begun = pair.now;
    let now = begun + TIMING.silence;
    let mut pair = Pair {
        primary: pair.take_over(),
        secondary: Secondary::new(setup(20), now),
        cut: false,
        stops: 1,
        now,
    };
    pair.exchange();
    assert_eq!(said(|| pair.primary.next_announcement(begun)), [RARP]);
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary_started(0, true);
    pair.resume();
    pair.exchange();
    let millisecond = setup(20).millisecond;
    // The first of those that come later, while the pair is protected.
    let late = begun + 60 * millisecond;
    assert_eq!(said(|| pair.primary.next_announcement(late)), [RARP]);
    pair.primary.input_missed(1, pair.now);
    assert_eq!(pair.primary.state(), State::Uncertain);
    let later = begun + 300 * millisecond;
    assert!(said(|| pair.primary.next_announcement(later)).is_empty());
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.primary.state(), State::Protected);
    assert_eq!(said(|| pair.primary.next_announcement(later)), [RARP]);
}

#[test]
fn a_primary_that_is_started_again_asks_the_vms_peers_behind_the_first_commit() {
    let heard = segment(false, 7, 5_001, b"x").to_vec();
    let packet = Packet::parse(&heard, heard.len());
    let restarted = |running| {
        let mut primary = Primary::<HeapFrame>::new(setup(3), 0);
        primary.monitor(
            QemuEvent::Connected {
                migration: Migration::Colo,
                running,
                leads: true,
            },
            1,
        );
        primary
    };
    let mut primary = restarted(true);
    assert!(primary.announcer().is_some_and(|it| !it.is_done()));
    primary.announcer().unwrap().hears(&heard, &packet);
    let barrier = |stops| QemuEvent::Barrier {
        stops,
        migration: Migration::Colo,
        running: true,
    };
    primary.monitor(barrier(0), 2);
    assert!(said(|| primary.next_announcement(2)).is_empty());
    primary.guest_stopped();
    for event in [QemuEvent::Stop, QemuEvent::Pass, QemuEvent::Resume] {
        assert!(said(|| primary.next_announcement(3)).is_empty());
        primary.monitor(event, 3);
    }
    primary.monitor(barrier(1), 3);
    let late = 3 + 1_000 * setup(3).millisecond;
    // The link is there, so that it is certain who speaks.
    let mut pair = Pair::protected();
    std::mem::swap(&mut pair.primary, &mut primary);
    pair.exchange();
    assert_eq!(said(|| pair.primary.next_announcement(late)), NONE);
    pair.stop(1);
    pair.resume();
    assert_eq!(said(|| pair.primary.next_announcement(late)), [ARP]);
    let later = late + 1_000 * setup(3).millisecond;
    assert_eq!(said(|| pair.primary.next_announcement(later)), [ARP]);
    assert!(pair.primary.announcer().is_none_or(|it| it.is_done()));
    assert!(
        restarted(false).announcer().is_none_or(|it| it.is_done()),
        "the VM was never without a node"
    );
}
