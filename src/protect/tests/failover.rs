//! Which silence is a loss, and who may go on after it (rule R6).

use super::survivor::pair_with;
use super::*;
use crate::protect::Action;

#[test]
fn by_default_silence_lets_nothing_out_and_nobody_take_over() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.output(datagram(1));
    pair.silence();
    assert_eq!(pair.primary.state(), State::PeerLost);
    assert_eq!(pair.secondary.state(), State::PeerLost);
    for _ in 0..100 {
        pair.now += TIMING.silence;
        pair.primary.tick(pair.now);
        pair.secondary.tick(pair.now);
        assert_eq!(pair.primary.next_action(pair.now), None);
        assert_eq!(pair.secondary.next_action(pair.now), None);
        assert_eq!(pair.released(), NOTHING);
        assert!(!pair.secondary.takes_over());
    }
    // Not even what no comparison holds: another node may be answering for the VM.
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 8, 6]);
    arp.resize(60, 0);
    assert_eq!(pair.output(HeapFrame::new(&arp)), None);
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_link_that_comes_back_leads_through_a_checkpoint() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.silence();
    pair.cut = false;
    pair.exchange();
    pair.primary.tick(pair.now);
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.request(), Some(Cause::LinkDown));
    pair.output(datagram(1));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), NOTHING);
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Protected);
}

#[test]
fn a_checkpoint_that_qemu_takes_without_the_link_covers_what_came_before() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.output(datagram(1));
    pair.silence();
    assert_eq!(pair.request(), Some(Cause::LinkDown));
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::PeerLost);
    assert_eq!(pair.request(), None);
    pair.output(datagram(2));
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.request(), Some(Cause::LinkDown));
}

#[test]
fn a_primary_that_may_take_the_loss_for_certain_goes_on() {
    let mut pair = pair_with(OnPeerLost::Release, false);
    pair.output(datagram(1));
    pair.silence();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Solo);
    assert_eq!(pair.output(datagram(2)).map(|f| says(&f)), Some(2));
    // The secondary does not go by that.
    assert_eq!(pair.secondary.next_action(pair.now), None);
    // A reset of the driver is no reason to hold again, the link's return is.
    pair.fence();
    pair.barrier(pair.stops, true);
    assert_eq!(pair.output(datagram(3)).map(|f| says(&f)), Some(3));
    pair.cut = false;
    pair.exchange();
    pair.primary.tick(pair.now);
    assert_eq!(pair.output(datagram(4)), None);
    assert_eq!(pair.request(), Some(Cause::LinkDown));
}

#[test]
fn a_fenced_peer_is_certain_and_failover_auto_gives_the_failover_command() {
    for auto in [false, true] {
        let mut pair = pair_with(OnPeerLost::Fence, auto);
        pair.output(datagram(1));
        pair.silence();
        let Some(Action::Fence(number)) = pair.primary.next_action(pair.now) else {
            panic!("nobody is fenced");
        };
        assert_eq!(pair.released(), NOTHING);
        pair.primary.fenced(number, true, pair.now);
        pair.primary.tick(pair.now);
        assert_eq!(pair.released(), [1]);
        let reported = pair.primary.next_action(pair.now);
        assert_eq!(reported, auto.then_some(Action::FailOver));
        // The secondary shoots only where it goes on in the other's place.
        let fences = matches!(pair.secondary.next_action(pair.now), Some(Action::Fence(_)));
        assert_eq!(fences, auto);
    }
}

#[test]
fn a_secondary_that_has_fenced_the_primary_gives_the_failover_command() {
    let mut pair = pair_with(OnPeerLost::Fence, true);
    pair.secondary.monitor(CONNECTED_SECONDARY);
    pair.silence();
    let Some(Action::Fence(number)) = pair.secondary.next_action(pair.now) else {
        panic!("nobody is fenced");
    };
    pair.secondary.fenced(number, true, pair.now);
    assert!(!pair.secondary.takes_over());
    let reported = pair.secondary.next_action(pair.now);
    assert_eq!(reported, Some(Action::FailOver));
    pair.secondary_fails_over();
    assert_eq!(pair.secondary.next_action(pair.now + 100_000), None);
    pair.take_over();
}

#[test]
fn a_cancelled_migration_says_nothing_of_the_other_vm() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(QemuEvent::Migration(Migration::Broken));
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.state(), State::PeerLost);
    pair.tell(QemuEvent::Disconnected);
    pair.tell(QemuEvent::Connected {
        migration: Migration::Broken,
        running: true,
        leads: false,
    });
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn who_comes_back_from_a_silence_need_not_know_what_it_acknowledges() {
    let mut pair = pair_with(OnPeerLost::Hold, false);
    pair.cut = true;
    pair.output(syn(100));
    pair.svm(syn(5_000));
    assert!(pair.released().is_empty(), "the secondary has not heard");
    pair.silence();
    // It acknowledges the numbers, and may speak for the VM by now, with others.
    pair.cut = false;
    pair.now += TIMING.retransmit;
    pair.exchange();
    pair.primary.tick(pair.now);
    pair.exchange();
    assert!(pair.released().is_empty());
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released().len(), 1);
}
