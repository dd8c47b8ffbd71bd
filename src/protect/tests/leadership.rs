//! Two nodes that lead: the one that took over last is heard, the other one falls silent (rule R6).

use super::survivor::pair_with;
use super::*;
use crate::protect::CessionNews;

/// Whether a frame of the link says who leads.
fn says_who_leads(frame: &[u8]) -> bool {
    frame.get(DATA_HEADER) == Some(&5)
}

/// Lets two nodes that lead say what they have to say; the second one hears nothing that `is_lost`.
fn converse(
    one: &mut Primary<HeapFrame>,
    other: &mut Primary<HeapFrame>,
    is_lost: impl Fn(&[u8]) -> bool,
    now: Ticks,
) {
    for _ in 0..6 {
        while let Some(t) = one.next_transmit(now) {
            if !is_lost(t.bytes()) {
                hear(other, t.bytes(), now);
            }
        }
        while let Some(t) = other.next_transmit(now) {
            hear(one, t.bytes(), now);
        }
    }
}

/// A pair in COLO whose primary has taken over itself; its secondary has heard no term.
fn led_before(linked: bool) -> (Primary<HeapFrame>, Secondary<HeapFrame>, Ticks) {
    let mut pair = Pair::protected();
    pair.secondary_fails_over();
    let now = pair.now + TIMING.silence;
    let mut pair = Pair {
        primary: pair.take_over(),
        secondary: Secondary::new(setup(20), now),
        cut: false,
        stops: 1,
        now,
    };
    // What says who leads is lost, and all behind it is not heard in its turn.
    for _ in 0..8 {
        while let Some(t) = pair.primary.next_transmit(pair.now) {
            if linked && !says_who_leads(t.bytes()) {
                let (bytes, len) = (t.bytes(), t.bytes().len());
                pair.secondary.link_frame(bytes, len, pair.now);
            }
        }
        while let Some(t) = pair.secondary.next_transmit(pair.now) {
            if linked {
                hear(&mut pair.primary, t.bytes(), pair.now);
            }
        }
        pair.now += TIMING.retransmit / 2;
    }
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary_started(0, true);
    pair.resume();
    pair.secondary_fails_over();
    assert_eq!(pair.primary.epochs().term(), 1);
    (pair.primary, pair.secondary, pair.now)
}

#[test]
fn a_primary_that_hears_of_the_takeover_never_leads_again() {
    for policy in [OnPeerLost::Hold, OnPeerLost::Release] {
        let mut pair = pair_with(policy, false);
        pair.output(datagram(1));
        pair.silence();
        pair.secondary_fails_over();
        let leaves = pair.released().len();
        assert_eq!(leaves, usize::from(policy == OnPeerLost::Release));
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
        primary.tick(now);
        assert_eq!(output(&mut primary, datagram(2), now), None);
        primary.monitor(QemuEvent::Migration(Migration::Completed), now);
        primary.tick(now + 10 * TIMING.silence);
        assert!(primary.next_release().is_none());
        assert_eq!(primary.state(), State::PeerLost);
    }
}

#[test]
fn nothing_opens_on_an_acknowledgment_of_a_peer_that_has_taken_over() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.secondary_fails_over();
    let Pair {
        mut primary,
        secondary,
        mut now,
        ..
    } = pair;
    let mut successor = Primary::<HeapFrame>::new(setup(9), now);
    successor.inherit(secondary.into_handover_state(), now);
    assert!(primary.next_release().is_none(), "nobody has heard");
    let mut lost = 0;
    for _ in 0..20 {
        // An acknowledgment goes by itself where it is not due together with what is lost.
        for _ in 0..3 {
            while let Some(t) = successor.next_transmit(now) {
                if says_who_leads(t.bytes()) {
                    lost += 1;
                    continue;
                }
                hear(&mut primary, t.bytes(), now);
            }
            while let Some(t) = primary.next_transmit(now) {
                hear(&mut successor, t.bytes(), now);
            }
            now += TIMING.retransmit / 5;
        }
        primary.tick(now);
        assert!(primary.next_release().is_none(), "R5: the SVM's differs");
        now += TIMING.retransmit / 2;
    }
    assert!(lost > 1, "it is said again");
    // It is heard at last.
    for _ in 0..4 {
        while let Some(t) = successor.next_transmit(now) {
            hear(&mut primary, t.bytes(), now);
        }
        while let Some(t) = primary.next_transmit(now) {
            hear(&mut successor, t.bytes(), now);
        }
    }
    assert!(primary.epochs().is_superseded() && primary.next_release().is_none());
    assert!(primary.link().is_settled() && successor.link().is_settled());
}

/// Whether there was a session or not, the node that took over last is the later one.
#[test]
fn who_takes_over_unheard_leads_after_a_primary_that_has_taken_over_itself() {
    for linked in [false, true] {
        let (mut primary, secondary, mut now) = led_before(linked);
        let mut successor = Primary::<HeapFrame>::new(setup(30), now);
        successor.inherit(secondary.into_handover_state(), now);
        for _ in 0..8 {
            converse(&mut primary, &mut successor, |_| false, now);
            now += TIMING.retransmit;
        }
        assert!(primary.epochs().is_superseded(), "linked: {linked}");
        assert!(!successor.epochs().is_superseded(), "linked: {linked}");
        assert_eq!(successor.epochs().term(), 2);
        assert!(primary.link().is_settled() && successor.link().is_settled());
    }
}

/// The old primary knows from no acknowledgment that its numbers were heard before it is silent.
#[test]
fn who_takes_over_unheard_acknowledges_nothing_before_it_is_heard() {
    let (mut primary, secondary, mut now) = led_before(true);
    let mut successor = Primary::<HeapFrame>::new(setup(30), now);
    successor.inherit(secondary.into_handover_state(), now);
    for _ in 0..8 {
        converse(&mut primary, &mut successor, says_who_leads, now);
        now += TIMING.retransmit;
    }
    assert!(!primary.epochs().is_superseded() && !primary.link().is_settled());
    // Of the term that is heard at last nothing is acknowledged before the answer is.
    while let Some(t) = primary.next_transmit(now) {
        hear(&mut successor, t.bytes(), now);
    }
    for _ in 0..4 {
        now += TIMING.heartbeat;
        while let Some(t) = successor.next_transmit(now) {
            if !says_who_leads(t.bytes()) {
                hear(&mut primary, t.bytes(), now);
            }
        }
    }
    assert!(!primary.epochs().is_superseded() && !primary.link().is_settled());
    for _ in 0..4 {
        now += TIMING.retransmit;
        converse(&mut primary, &mut successor, |_| false, now);
    }
    assert!(primary.epochs().is_superseded() && primary.link().is_settled());
}

/// Who has taken over from a node that took over unheard is its successor, not its predecessor.
#[test]
fn who_took_over_unheard_hears_its_successor() {
    let mut pair = Pair::new();
    pair.cut = true;
    let now = pair.now;
    let mut secondary = Secondary::<HeapFrame>::new(setup(20), now);
    std::mem::swap(&mut pair.secondary, &mut secondary);
    pair.secondary.monitor(CONNECTED);
    pair.secondary_started(0, true);
    pair.secondary_fails_over();
    let mut pair = Pair {
        primary: pair.take_over(),
        secondary: Secondary::new(setup(31), now),
        cut: false,
        stops: 1,
        now,
    };
    for _ in 0..8 {
        pair.exchange();
        pair.now += TIMING.heartbeat;
    }
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary_started(0, true);
    pair.resume();
    pair.exchange();
    pair.secondary_fails_over();
    let Pair {
        mut primary,
        secondary,
        now,
        ..
    } = pair;
    let mut successor = Primary::<HeapFrame>::new(setup(9), now);
    successor.inherit(secondary.into_handover_state(), now);
    converse(&mut primary, &mut successor, |_| false, now);
    assert_eq!((primary.epochs().term(), successor.epochs().term()), (1, 2));
    assert!(primary.epochs().is_superseded() && !successor.epochs().is_superseded());
}

/// The term of a lead outlives the process: a node that led earlier does not find itself the later one.
#[test]
fn a_survivor_that_is_started_again_leads_in_the_term_that_it_led_in() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.secondary.led(5);
    pair.secondary_fails_over();
    assert_eq!(pair.take_over().epochs().term(), 5);
}

/// Its successor speaks while the node does not know yet whether its QEMU leads, and does not say so again.
#[test]
fn a_survivor_that_is_started_again_heeds_the_successor_that_it_heard_first() {
    for led_first in [true, false] {
        let mut before = pair_with(OnPeerLost::Hold, false);
        before.secondary.led(6);
        before.secondary_fails_over();
        let mut again = pair_with(OnPeerLost::Hold, false);
        let now = again.now;
        again.primary = before.take_over();
        again.secondary = Secondary::new(setup(31), now);
        if led_first {
            again.secondary.led(5);
        }
        again.exchange();
        if !led_first {
            again.secondary.led(5);
        }
        again.secondary.cession_is_written();
        again.secondary_fails_over();
        let Pair {
            primary: mut successor,
            secondary,
            ..
        } = again;
        let mut node = Primary::<HeapFrame>::new(setup(9), now);
        node.inherit(secondary.into_handover_state(), now);
        converse(&mut node, &mut successor, |_| false, now);
        assert_eq!((node.epochs().term(), successor.epochs().term()), (5, 6));
        assert!(node.epochs().is_superseded() && !successor.epochs().is_superseded());
        let mut news = std::iter::from_fn(|| node.next_cession_news(true));
        assert!(
            news.any(|it| it == CessionNews::Succeeded),
            "its QEMU may end"
        );
        node.take_back();
        assert!(node.epochs().is_superseded());
    }
}

#[test]
fn a_secondary_may_be_promoted_while_an_epoch_of_this_session_covers_what_has_left() {
    let pair = Pair::new().forwards();
    assert!(!pair.secondary.is_promotable(), "it has no state");
    let mut pair = pair_with(OnPeerLost::Hold, false);
    assert!(pair.secondary.is_promotable());
    // A checkpoint that is under way changes nothing: the state before it is whole.
    pair.stop(1);
    assert!(pair.secondary.is_promotable());
    pair.resume();
    pair.exchange();
    // What is lost may be replaced; what comes back may have let out what no state covers.
    pair.silence();
    assert_eq!(pair.secondary.state(), State::PeerLost);
    assert!(pair.secondary.is_promotable());
    pair.cut = false;
    pair.exchange();
    pair.secondary.tick(pair.now);
    pair.primary.tick(pair.now);
    assert!(!pair.secondary.is_promotable());
    pair.stop(2);
    pair.resume();
    pair.exchange();
    assert!(pair.secondary.is_promotable());
    // Another node of the primary's.
    let mut began_anew = pair_with(OnPeerLost::Hold, false);
    began_anew.primary = Primary::new(setup(9), began_anew.now);
    began_anew.exchange();
    assert!(!began_anew.secondary.is_promotable());
    // Its QEMU is gone, or leads, or has left COLO.
    pair.secondary.monitor(QemuEvent::Disconnected);
    assert!(!pair.secondary.is_promotable());
    pair.secondary.monitor(CONNECTED_SECONDARY);
    assert!(pair.secondary.is_promotable());
    pair.secondary_fails_over_at(3);
    assert!(!pair.secondary.is_promotable());
    let mut other = pair_with(OnPeerLost::Hold, false);
    other.secondary.monitor(CONNECTED);
    other.secondary.monitor(CONNECTED_SECONDARY);
    assert!(
        !other.secondary.is_promotable(),
        "another QEMU has no state"
    );
}
