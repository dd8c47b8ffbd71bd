//! Input and its way to the SVM (rule R7), and the secondary that passes it on.

use super::*;

#[test]
fn an_svm_is_not_polled_before_its_epoch_is_committed() {
    let mut pair = Pair::protected();
    pair.stop(1);
    pair.exchange();
    assert!(!pair.secondary.wants_output());
    pair.resume();
    pair.exchange();
    assert!(pair.secondary.wants_output());
    pair.output(datagram(1));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), [1]);
}

#[test]
fn input_that_nobody_took_is_not_missed() {
    let mut pair = Pair::protected();
    pair.primary.input_missed(0, pair.now);
    assert_eq!(pair.primary.state(), State::Protected);
    pair.primary.input_missed(1, pair.now);
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.request(), Some(Cause::InputLost));
}

#[test]
fn a_lost_input_frame_asks_for_a_checkpoint() {
    let mut pair = Pair::protected();
    pair.primary.mirror(60);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    assert_eq!(pair.request(), Some(Cause::InputLost));
}

#[test]
fn an_svm_that_takes_no_input_asks_for_a_checkpoint() {
    let mut pair = Pair::protected();
    let input = datagram(9);
    while pair.primary.input_room(pair.now) >= crate::frame::BURST {
        pair.input(&input);
    }
    assert_eq!(pair.request(), None);
    pair.now += TIMEOUT - 1;
    pair.exchange();
    assert_eq!(pair.request(), None);
    pair.now += 1;
    assert_eq!(pair.request(), Some(Cause::InputLost));
}

#[test]
fn a_slow_svm_is_only_waited_for() {
    let mut pair = Pair::protected();
    let input = datagram(9);
    for _ in 0..20 {
        while pair.primary.input_room(pair.now) >= crate::frame::BURST {
            pair.input(&input);
        }
        for _ in 0..3 {
            assert!(pair.secondary.next_input(pair.now).is_some());
        }
        pair.now += TIMEOUT / 2;
        pair.exchange();
        assert_eq!(pair.request(), None);
    }
}

#[test]
fn input_of_an_epoch_waits_for_an_svm_that_runs_it() {
    let mut pair = Pair::protected();
    pair.input(&datagram(1));
    pair.stop(1);
    assert!(
        pair.secondary.next_input(pair.now).is_none(),
        "it is loading"
    );
    pair.resume();
    pair.input(&datagram(2));
    assert!(
        pair.secondary.next_input(pair.now).is_none(),
        "the epoch has not come yet"
    );
    pair.exchange();
    let next = pair.secondary.next_input(pair.now);
    assert_eq!(next.map(|f| says(&f)), Some(2), "the first is in the state");
    assert_eq!(pair.secondary.counts().stale, 1);
}

#[test]
fn an_svm_that_blinks_is_polled_again_after_the_next_commit() {
    let mut pair = Pair::protected();
    // An operator stops the SVM and lets it go on; that looks like a load.
    pair.secondary.guest_stopped(0);
    pair.secondary_started(1, true);
    assert!(!pair.secondary.wants_output());
    pair.output(datagram(1));
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    pair.stop(2);
    pair.resume();
    pair.exchange();
    assert!(pair.secondary.wants_output());
    assert_eq!(pair.released(), [1]);
}

#[test]
fn a_driver_that_resets_alone_goes_on_in_its_epoch() {
    let mut pair = Pair::protected();
    pair.secondary.guest_stopped(0);
    pair.secondary_started(0, false);
    assert!(!pair.secondary.wants_output(), "the start of an older stop");
    pair.secondary_started(1, false);
    pair.output(datagram(1));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), [1]);
}

#[test]
fn an_epoch_that_comes_too_late_is_reported() {
    let mut pair = Pair::protected();
    pair.stop(1);
    pair.resume();
    // The SVM stops and starts once more before it hears of that.
    pair.secondary.guest_stopped(0);
    pair.exchange();
    pair.secondary_started(2, true);
    assert!(pair.secondary.wants_output());
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Pass);
    pair.exchange();
    pair.resume();
    assert!(!pair.primary.wants_output(), "a report may still come");
    pair.now += EVIDENCE;
    // The secondary's report says nothing of an epoch that it had not heard of.
    assert_eq!(pair.request(), Some(Cause::Unproven));
    pair.output(datagram(1));
    pair.svm(datagram(1));
    assert_eq!(pair.released(), NOTHING, "it bears the old number");
    pair.exchange();
    pair.stop(3);
    pair.resume();
    assert_eq!(pair.released(), [1]);
    pair.exchange();
    assert_eq!(pair.request(), None);
}

#[test]
fn a_restarted_secondary_is_believed_after_a_commit() {
    let mut pair = Pair::protected();
    pair.secondary = Secondary::new(setup(3), pair.now);
    pair.secondary_started(0, true);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.request(), Some(Cause::PeerRestarted));
    assert!(!pair.secondary.wants_output());
    pair.output(datagram(1));
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released(), [1]);
    pair.exchange();
    assert!(pair.secondary.wants_output());
}
