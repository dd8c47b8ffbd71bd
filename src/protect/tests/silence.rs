//! Silences that are no loss: a peer whose poll core gets no CPU, and one whose restart was announced.

use super::*;
use crate::protect::Action;

/// A pair that fences by itself, on a link that is cut from now on.
fn cut_pair() -> Pair {
    let mut pair = Pair::protected_with(|setup| {
        setup.failover = Failover {
            on_peer_lost: OnPeerLost::Fence,
            auto: true,
            retry: 1_000,
        };
    });
    pair.cut = true;
    pair
}

/// Both nodes run once.
fn run(pair: &mut Pair) {
    pair.primary.peer_link().begin_round(pair.now);
    pair.secondary.peer_link().begin_round(pair.now);
    pair.primary.tick(pair.now);
    pair.secondary.tick(pair.now);
}

/// What both nodes do about each other at this time.
fn actions(pair: &mut Pair) -> [Option<Action>; 2] {
    run(pair);
    [
        pair.primary.next_action(pair.now),
        pair.secondary.next_action(pair.now),
    ]
}

#[test]
fn a_peer_that_reports_a_stall_is_fenced_only_at_the_limit() {
    let mut pair = cut_pair();
    let step = TIMING.silence / 2;
    // The last report that counts comes a step before the limit.
    let end = pair.now + TIMING.stall - step + TIMING.silence;
    while pair.now + step < end {
        pair.now += step;
        pair.primary.peer_link().peer_stalls(pair.now);
        pair.secondary.peer_link().peer_stalls(pair.now);
        assert_eq!(actions(&mut pair), [None, None], "at {}", pair.now);
        assert_eq!(pair.primary.state(), State::Protected);
    }
    pair.now = end;
    pair.primary.peer_link().peer_stalls(pair.now);
    pair.secondary.peer_link().peer_stalls(pair.now);
    let [primary, secondary] = actions(&mut pair);
    assert!(matches!(primary, Some(Action::Fence(_))), "{primary:?}");
    assert!(matches!(secondary, Some(Action::Fence(_))), "{secondary:?}");
}

/// The node itself did not run: it cannot have heard its peer.
#[test]
fn a_node_that_wakes_late_takes_its_peer_for_alive() {
    let mut pair = Pair::protected_with(|setup| {
        setup.link.gap = TIMING.heartbeat;
        setup.failover = Failover {
            on_peer_lost: OnPeerLost::Fence,
            auto: true,
            retry: 1_000,
        };
    });
    assert_eq!(actions(&mut pair), [None, None]);
    pair.cut = true;
    pair.now += 3 * TIMING.silence;
    assert_eq!(
        actions(&mut pair),
        [None, None],
        "nobody was heard for want of CPU"
    );
    for _ in 0..TIMING.silence / TIMING.heartbeat {
        pair.now += TIMING.heartbeat;
        run(&mut pair);
    }
    assert!(
        actions(&mut pair).iter().all(Option::is_some),
        "silence while it runs is a loss"
    );
}

#[test]
fn a_peer_that_reports_nothing_is_fenced_in_the_configured_time() {
    let mut pair = cut_pair();
    pair.now += TIMING.silence;
    assert!(actions(&mut pair).iter().all(Option::is_some));
}

#[test]
fn an_announced_restart_is_no_loss_until_its_limit() {
    for by_primary in [true, false] {
        let mut pair = cut_pair();
        pair.cut = false;
        match by_primary {
            true => pair.primary.peer_link().announce_restart(),
            false => pair.secondary.peer_link().announce_restart(),
        }
        pair.exchange();
        let heard = match by_primary {
            true => pair.primary.peer_link().take_restart_acknowledged(),
            false => pair.secondary.peer_link().take_restart_acknowledged(),
        };
        assert!(heard, "the operator learns that the peer knows");
        assert!(!pair.primary.peer_link().take_restart_acknowledged());
        assert!(!pair.secondary.peer_link().take_restart_acknowledged());
        pair.cut = true;
        let peer = usize::from(by_primary);
        pair.now += TIMING.restart - 1;
        assert_eq!(actions(&mut pair)[peer], None, "{by_primary}");
        pair.now += 1;
        assert!(actions(&mut pair)[peer].is_some(), "{by_primary}");
    }
}

#[test]
fn an_announcement_that_the_peer_has_not_received_is_not_acknowledged() {
    let mut pair = cut_pair();
    pair.primary.peer_link().announce_restart();
    pair.exchange();
    assert!(!pair.primary.peer_link().take_restart_acknowledged());
    pair.now += TIMING.silence;
    assert!(
        actions(&mut pair)[1].is_some(),
        "it is like any other death"
    );
}

/// QEMU says that COLO has ended: whatever was announced, the VM behind it is gone.
#[test]
fn a_vm_that_dies_in_an_announced_restart_is_lost_at_once() {
    for by_primary in [true, false] {
        let mut pair = cut_pair();
        pair.cut = false;
        match by_primary {
            true => pair.primary.peer_link().announce_restart(),
            false => pair.secondary.peer_link().announce_restart(),
        }
        pair.exchange();
        pair.cut = true;
        pair.now += 10;
        match by_primary {
            true => pair.secondary.monitor(QemuEvent::ColoExit),
            false => pair.tell(QemuEvent::ColoExit),
        }
        let peer = usize::from(by_primary);
        assert!(actions(&mut pair)[peer].is_some(), "{by_primary}");
    }
}

/// The node is back: its next silence is like any other.
#[test]
fn a_restart_that_is_over_excuses_nothing() {
    let mut pair = cut_pair();
    pair.cut = false;
    pair.secondary.peer_link().announce_restart();
    pair.exchange();
    assert!(pair.secondary.peer_link().take_restart_acknowledged());
    pair.secondary = Secondary::new(setup(3), pair.now);
    for _ in 0..4 {
        pair.now += TIMING.heartbeat;
        pair.exchange();
    }
    pair.cut = true;
    pair.now += TIMING.silence;
    assert!(actions(&mut pair)[0].is_some());
}

/// A commit finds the link silent, and the peer is heard before the next tick: that is a loss and a return.
#[test]
fn a_link_that_returns_right_behind_a_commit_leads_to_a_checkpoint() {
    let mut pair = Pair::protected();
    pair.cut = true;
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Pass);
    pair.now += TIMING.silence;
    pair.resume();
    pair.cut = false;
    pair.exchange();
    pair.primary.tick(pair.now);
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert!(
        pair.primary.comparison().checkpoints().is_wanted(),
        "nothing else ends the doubt"
    );
}
