//! What proves that the SVM has loaded the PVM's state (rules R3 and R9, `docs/commit-evidence.md`).

use super::*;

/// The PVM stops and goes on, as its monitor reports; `pass`: with MIGRATION_PASS in between.
fn blink(pair: &mut Pair, pass: bool) {
    pair.fence();
    pair.tell(QemuEvent::Stop);
    if pass {
        pair.tell(QemuEvent::Pass);
    }
    pair.resume();
}

/// The SVM stops for a load.
fn svm_stops(pair: &mut Pair) {
    pair.secondary.guest_stopped(0);
    pair.secondary.monitor(QemuEvent::Stop);
    pair.secondary.monitor(QemuEvent::StoppedFor { load: true });
}

fn svm_resumes(pair: &mut Pair, stops: u32) {
    pair.secondary.monitor(QemuEvent::Resume);
    pair.secondary_started(stops, false);
    pair.exchange();
}

#[test]
fn a_report_and_a_resume_commit_in_either_order_and_need_no_pass() {
    for report_first in [true, false] {
        let mut pair = Pair::protected();
        pair.output(datagram(1));
        svm_stops(&mut pair);
        pair.fence();
        pair.tell(QemuEvent::Stop);
        if report_first {
            svm_resumes(&mut pair, 1);
            assert_eq!(pair.released(), NOTHING, "the PVM has not gone on");
            pair.resume();
        } else {
            pair.resume();
            assert_eq!(
                pair.released(),
                NOTHING,
                "nothing says that the SVM has loaded"
            );
            assert!(!pair.primary.wants_output());
            svm_resumes(&mut pair, 1);
        }
        assert_eq!(pair.released(), [1]);
        assert_eq!(pair.primary.state(), State::Protected);
        pair.exchange();
        assert_eq!(pair.secondary.epoch(), pair.primary.epoch());
        pair.output(datagram(2));
        pair.svm(datagram(2));
        assert_eq!(pair.released(), [2]);
    }
}

#[test]
fn cont_inside_a_checkpoint_commits_nothing_before_the_load() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    svm_stops(&mut pair);
    blink(&mut pair, true);
    pair.exchange();
    assert_eq!(pair.released(), NOTHING);
    // QEMU starts a VM that runs already: no RESUME comes.
    svm_resumes(&mut pair, 1);
    assert_eq!(pair.released(), [1]);
}

#[test]
fn what_was_sent_behind_a_cont_inside_a_checkpoint_waits_for_the_next() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    svm_stops(&mut pair);
    blink(&mut pair, true);
    pair.exchange();
    pair.now += EVIDENCE;
    assert_eq!(pair.request(), Some(Cause::Unproven));
    pair.output(datagram(2));
    svm_resumes(&mut pair, 1);
    assert_eq!(pair.released(), NOTHING, "the state may be of before");
    pair.stop(2);
    pair.resume();
    assert_eq!(pair.released(), [1, 2]);
}

#[test]
fn an_operator_at_either_vm_commits_nothing() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    blink(&mut pair, false);
    pair.now += EVIDENCE;
    assert_eq!(pair.request(), Some(Cause::Unproven));
    // The SVM's run state is `paused`, whatever the PVM does meanwhile.
    pair.secondary.guest_stopped(0);
    pair.secondary.monitor(QemuEvent::Stop);
    pair.secondary
        .monitor(QemuEvent::StoppedFor { load: false });
    blink(&mut pair, true);
    svm_resumes(&mut pair, 1);
    assert_eq!(pair.released(), NOTHING);
    // A RESUME of a VM that was stopped by nobody is none, either.
    svm_resumes(&mut pair, 1);
    assert_eq!(pair.released(), NOTHING);
    pair.now += EVIDENCE;
    pair.request();
    pair.exchange();
    pair.stop(2);
    pair.resume();
    assert_eq!(pair.released(), [1]);
}

#[test]
fn a_report_covers_only_what_the_secondary_had_heard_of_at_its_stop() {
    let mut pair = Pair::protected();
    svm_stops(&mut pair);
    // An operator's stop of the PVM, and output behind it; only then QEMU's.
    blink(&mut pair, false);
    pair.now += EVIDENCE;
    pair.request();
    pair.output(datagram(1));
    pair.exchange();
    pair.fence();
    pair.tell(QemuEvent::Stop);
    svm_resumes(&mut pair, 1);
    pair.resume();
    assert_eq!(
        pair.released(),
        NOTHING,
        "it may have been sent behind the state"
    );
    pair.now += EVIDENCE;
    assert_eq!(pair.request(), Some(Cause::Unproven));
}

#[test]
fn an_event_of_the_svm_that_is_read_late_covers_no_more() {
    let mut pair = Pair::protected();
    svm_stops(&mut pair);
    // The SVM has loaded, runs, and stops for the next load before its RESUME is read. The PVM's node
    // has committed the first stop by MIGRATION_PASS and has polled the ring since.
    pair.tell(QemuEvent::Disconnected);
    pair.fence();
    pair.tell(IN_COLO);
    pair.barrier(pair.stops, true);
    pair.output(datagram(1));
    pair.exchange();
    pair.secondary.guest_stopped(0);
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.secondary.monitor(QemuEvent::Resume);
    pair.exchange();
    pair.resume();
    assert_eq!(pair.released(), NOTHING, "that was the load before");
    // Its own load is reported for no more than that, until a barrier has come.
    pair.secondary_started(2, true);
    pair.exchange();
    assert_eq!(pair.released(), NOTHING);
    pair.now += EVIDENCE;
    pair.request();
    pair.exchange();
    pair.stop(3);
    pair.resume();
    assert_eq!(pair.released(), [1]);
}

#[test]
fn without_a_secondary_that_reports_a_pass_has_to_do() {
    for link_is_down in [true, false] {
        for pass in [true, false] {
            let mut pair = Pair::protected();
            pair.output(datagram(1));
            if link_is_down {
                pair.cut = true;
                pair.now += TIMING.silence;
                pair.request();
            } else {
                pair.secondary.monitor(QemuEvent::Disconnected);
                pair.exchange();
            }
            blink(&mut pair, pass);
            pair.request();
            let left: &[u8] = if pass { &[1] } else { &[] };
            assert_eq!(pair.released(), left, "{link_is_down}");
            assert!(pair.primary.wants_output(), "nobody will report");
        }
    }
}

#[test]
fn a_link_that_falls_silent_ends_the_wait_for_a_report() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    blink(&mut pair, true);
    assert!(!pair.primary.wants_output());
    pair.cut = true;
    pair.now += TIMING.silence;
    pair.request();
    assert_eq!(pair.released(), [1]);
}

#[test]
fn a_secondary_node_that_was_started_inside_a_checkpoint_reports_nothing_of_it() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    svm_stops(&mut pair);
    pair.secondary = Secondary::new(setup(3), pair.now);
    pair.secondary.monitor(CONNECTED_SECONDARY);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    pair.fence();
    pair.tell(QemuEvent::Stop);
    svm_resumes(&mut pair, 0);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
    pair.now += EVIDENCE;
    pair.request();
    pair.exchange();
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released(), [1]);
}

#[test]
fn a_load_for_a_takeover_or_behind_the_end_of_colo_is_no_commit() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    svm_stops(&mut pair);
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::ColoExit);
    svm_resumes(&mut pair, 1);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_stop_without_proof_is_asked_about_again_though_the_ring_does_not_run() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.fence();
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Resume);
    pair.now += REPEAT;
    assert!(pair.request().is_some(), "nobody would ever ask again");
}

#[test]
fn stops_that_nothing_proves_are_asked_about_more_and_more_seldom() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    let mut pauses = Vec::new();
    for _ in 0..5 {
        blink(&mut pair, false);
        pair.now += EVIDENCE;
        let begun = pair.now;
        while pair.request().is_none() {
            assert!(pair.now - begun < 100 * REPEAT, "nobody asks again");
            pair.now += REPEAT / 10;
            pair.exchange();
        }
        pauses.push((pair.now - begun) / REPEAT);
    }
    assert_eq!(pauses, [0, 0, 1, 2, 4]);
    assert_eq!(pair.primary.comparison().checkpoints().unproven_count(), 5);
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.comparison().checkpoints().unproven_count(), 0);
}

#[test]
fn a_secondary_that_is_back_is_given_some_tries_without_a_pause() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    for _ in 0..5 {
        blink(&mut pair, false);
        pair.now += EVIDENCE;
        while pair.request().is_none() {
            pair.now += REPEAT / 10;
            pair.exchange();
        }
    }
    // Its node starts again. Of the first loads it may not know what they cover.
    pair.secondary = Secondary::new(setup(3), pair.now);
    pair.secondary.monitor(CONNECTED_SECONDARY);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    assert!(pair.primary.is_witnessed(pair.now));
    for _ in 0..2 {
        blink(&mut pair, false);
        pair.now += EVIDENCE;
        pair.exchange();
        assert!(pair.request().is_some(), "a client would wait for nothing");
    }
}

#[test]
fn a_pass_without_proof_commits_nothing_once_colo_has_ended() {
    // The guest's ring does not run again before the VM goes on alone, and after that the link is silent.
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Pass);
    pair.tell(QemuEvent::Resume);
    pair.tell(QemuEvent::ColoExit);
    pair.cut = true;
    pair.now += TIMING.silence;
    pair.request();
    assert_eq!(pair.released(), NOTHING, "nobody has said who goes on");
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Completed));
    assert_eq!(pair.released(), [1]);
    pair.request();
    pair.tell(QemuEvent::Resume);
    pair.barrier(pair.stops, false);
    pair.request();
    assert!(
        pair.output(datagram(2)).is_some(),
        "a VM that goes on alone must not be compared with nobody"
    );
}

#[test]
fn a_load_behind_the_end_of_the_svm_s_colo_is_not_reported() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    svm_stops(&mut pair);
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.secondary.monitor(QemuEvent::ColoExit);
    svm_resumes(&mut pair, 1);
    assert_eq!(pair.primary.epochs().reports().number, 0);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_report_of_a_session_that_is_over_commits_nothing() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    svm_stops(&mut pair);
    pair.fence();
    pair.tell(QemuEvent::Stop);
    svm_resumes(&mut pair, 1);
    pair.secondary = Secondary::new(setup(3), pair.now);
    pair.secondary.monitor(CONNECTED_SECONDARY);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    assert!(pair.primary.is_witnessed(pair.now));
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
    pair.now += EVIDENCE;
    assert!(pair.request().is_some());
}

#[test]
fn the_primary_learns_of_a_witness_though_the_queue_was_full_when_it_came() {
    for able in [true, false] {
        let mut pair = Pair::protected();
        let (before, after) = (QemuEvent::Disconnected, CONNECTED_SECONDARY);
        let (before, after) = if able {
            (before, after)
        } else {
            (after, before)
        };
        pair.secondary.monitor(before);
        pair.exchange();
        assert_eq!(pair.primary.is_witnessed(pair.now), !able);
        // Nothing that the secondary says arrives, and it has much to say.
        while pair.secondary.link().has_control_room() {
            pair.secondary.input_lost(1);
        }
        pair.secondary.monitor(after);
        for _ in 0..200 {
            pair.now += TIMING.retransmit;
            pair.exchange();
        }
        assert_eq!(pair.primary.is_witnessed(pair.now), able);
    }
}

#[test]
fn one_report_commits_one_stop() {
    let mut pair = Pair::protected();
    let before = pair.primary.comparison().checkpoints().committed_count();
    pair.output(datagram(1));
    pair.stop(1);
    pair.tell(QemuEvent::Resume);
    assert_eq!(
        pair.primary.comparison().checkpoints().committed_count(),
        before + 1
    );
    // An operator's stop before the ring was polled again.
    blink(&mut pair, true);
    pair.exchange();
    assert_eq!(
        pair.primary.comparison().checkpoints().committed_count(),
        before + 1
    );
    assert_eq!(pair.released(), [1]);
    pair.now += EVIDENCE;
    assert_eq!(pair.request(), Some(Cause::Unproven));
}

#[test]
fn a_stop_of_the_svm_for_no_load_is_not_reported() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.secondary.guest_stopped(0);
    pair.secondary.monitor(QemuEvent::Stop);
    pair.secondary
        .monitor(QemuEvent::StoppedFor { load: false });
    pair.fence();
    pair.tell(QemuEvent::Stop);
    svm_resumes(&mut pair, 1);
    assert_eq!(pair.primary.epochs().reports().number, 0);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
}

/// Lets the nodes say what they have to say, but for the secondary's messages.
fn exchange_heartbeats(pair: &mut Pair) {
    const KIND: usize = 14 + 3;
    const CONTROL: u8 = 5;
    for _ in 0..6 {
        while let Some(t) = pair.primary.next_transmit(pair.now) {
            let (bytes, len) = (t.bytes(), t.bytes().len());
            pair.secondary.link_frame(bytes, len, pair.now);
        }
        while let Some(t) = pair.secondary.next_transmit(pair.now) {
            if t.bytes()[KIND] != CONTROL {
                hear(&mut pair.primary, t.bytes(), pair.now);
            }
        }
    }
}

#[test]
fn a_pass_proves_nothing_before_the_secondary_s_first_word_in_a_session() {
    for able in [true, false] {
        let mut pair = Pair::protected();
        pair.output(datagram(1));
        pair.secondary = Secondary::new(setup(3), pair.now);
        if able {
            pair.secondary.monitor(CONNECTED_SECONDARY);
        }
        pair.now += TIMING.heartbeat;
        exchange_heartbeats(&mut pair);
        assert_eq!(pair.request(), Some(Cause::PeerRestarted));
        blink(&mut pair, true);
        pair.request();
        assert_eq!(pair.released(), NOTHING, "it may report");
        assert!(!pair.primary.wants_output());
        pair.now += TIMING.retransmit;
        pair.exchange();
        pair.request();
        let left: &[u8] = if able { &[] } else { &[1] };
        assert_eq!(pair.released(), left);
        pair.now += EVIDENCE;
        assert_eq!(pair.request().is_some(), able, "the wait ends in a request");
    }
}

/// A pair in COLO whose SVM's ring has never run.
fn mute() -> Pair {
    let mut pair = Pair::new().forwards();
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.secondary
        .monitor(QemuEvent::Migration(Migration::Colo));
    pair.secondary.monitor(QemuEvent::Resume);
    pair.resume();
    pair.exchange();
    pair
}

/// A checkpoint of it.
fn mute_checkpoint(pair: &mut Pair) {
    pair.secondary.monitor(QemuEvent::Stop);
    pair.secondary.monitor(QemuEvent::StoppedFor { load: true });
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.secondary.monitor(QemuEvent::Resume);
    pair.exchange();
    pair.resume();
    pair.exchange();
}

fn answer(pair: &mut Pair, question: u32, running: bool) {
    pair.secondary
        .monitor(QemuEvent::Answered { question, running });
}

#[test]
fn an_svm_whose_ring_never_runs_is_asked_what_its_loads_cover() {
    let mut pair = mute();
    for says in 1..4 {
        pair.output(datagram(says));
        let question = pair.secondary.next_question().expect("a question");
        assert_eq!(pair.secondary.next_question(), None, "it was asked");
        answer(&mut pair, question, true);
        assert_eq!(pair.secondary.next_question(), None, "nothing is new");
        mute_checkpoint(&mut pair);
        assert_eq!(pair.released(), [says]);
    }
}

#[test]
fn a_load_covers_nothing_that_was_heard_behind_the_question() {
    let mut pair = mute();
    let question = pair.secondary.next_question().expect("a question");
    // An operator's stop of the PVM, and output behind it.
    blink(&mut pair, false);
    pair.now += EVIDENCE;
    pair.request();
    pair.output(datagram(1));
    pair.exchange();
    answer(&mut pair, question, true);
    mute_checkpoint(&mut pair);
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn an_svm_that_did_not_run_is_asked_again_when_it_may() {
    let mut pair = mute();
    pair.output(datagram(1));
    let question = pair.secondary.next_question().expect("a question");
    pair.secondary.monitor(QemuEvent::Stop);
    answer(&mut pair, question, false);
    assert_eq!(pair.secondary.next_question(), None, "it stands still");
    mute_checkpoint(&mut pair);
    assert_eq!(pair.released(), NOTHING);
    pair.now += EVIDENCE;
    assert_eq!(pair.request(), Some(Cause::Unproven));
    pair.exchange();
    let question = pair.secondary.next_question().expect("a question");
    answer(&mut pair, question, true);
    mute_checkpoint(&mut pair);
    assert_eq!(pair.released(), [1]);
}

#[test]
fn an_answer_of_a_session_that_is_over_covers_nothing() {
    let mut pair = mute();
    let question = pair.secondary.next_question().expect("a question");
    pair.primary = Primary::new(setup(3), pair.now);
    pair.tell(IN_COLO);
    pair.barrier(0, true);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    pair.output(datagram(1));
    answer(&mut pair, question, true);
    mute_checkpoint(&mut pair);
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn an_svm_is_asked_again_when_the_pvm_runs_another_epoch() {
    let mut pair = mute();
    let question = pair.secondary.next_question().expect("a question");
    answer(&mut pair, question, true);
    blink(&mut pair, false);
    pair.now += EVIDENCE;
    pair.request();
    pair.output(datagram(1));
    pair.exchange();
    let question = pair.secondary.next_question().expect("another question");
    answer(&mut pair, question, true);
    mute_checkpoint(&mut pair);
    assert_eq!(pair.released(), [1]);
}
