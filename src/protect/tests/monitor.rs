//! What the monitor says, and what it may have said while nobody listened (rules R8 and R9).

use super::*;

#[test]
fn nothing_is_taken_before_the_monitor_has_reported_the_vm() {
    let mut pair = Pair::new();
    assert!(!pair.primary.wants_output());
    // A node that was started again while the VM is in COLO.
    pair.tell(IN_COLO);
    pair.barrier(0, true);
    assert_eq!(pair.primary.state(), State::Uncertain);
    assert_eq!(pair.output(datagram(1)), None);
    assert_eq!(pair.request(), Some(Cause::MonitorLost));
    pair.stop(0);
    pair.resume();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Protected);
}

#[test]
fn colo_that_begins_before_the_guests_ring_runs_protects() {
    let mut pair = Pair::new();
    pair.tell(CONNECTED);
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.tell(QemuEvent::Resume);
    assert_eq!(pair.primary.state(), State::Protected);
    // Checkpoints go on while there is no ring to stop.
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Pass);
    pair.tell(QemuEvent::Resume);
    assert_eq!(pair.primary.comparison().checkpoints().committed_count(), 1);
    pair.barrier(0, true);
    assert_eq!(pair.output(datagram(1)), None);
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn however_late_the_monitor_a_commit_covers_its_own_stop() {
    let mut pair = Pair::new();
    pair.tell(CONNECTED);
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Migration(Migration::Colo));
    pair.tell(QemuEvent::Resume);
    // There was a checkpoint without a ring to stop, the ring came up, and another checkpoint has
    // stopped it; the monitor has reported nothing of it yet.
    assert!(!pair.primary.wants_output());
    pair.fence();
    for _ in 0..2 {
        pair.tell(QemuEvent::Stop);
        pair.tell(QemuEvent::Pass);
        pair.tell(QemuEvent::Resume);
        assert!(!pair.primary.wants_output(), "an event is still to come");
    }
    pair.barrier(0, true);
    assert!(!pair.primary.wants_output(), "that was before the stop");
    pair.barrier(1, true);
    assert_eq!(pair.primary.state(), State::Protected);
    assert!(pair.primary.wants_output());
}

#[test]
fn a_resume_without_a_report_commits_nothing() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.fence();
    assert!(!pair.primary.wants_output());
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Pass);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
    assert!(!pair.primary.wants_output(), "a report may still come");
    assert_eq!(pair.request(), None);
    pair.now += EVIDENCE;
    assert_eq!(pair.request(), Some(Cause::Unproven));
    assert_eq!(pair.primary.state(), State::Uncertain);
    // Not even the SVM's equal frame lets one leave: its state is not the PVM's.
    pair.output(datagram(2));
    pair.svm(datagram(2));
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_pass_counts_only_for_the_stop_before_it() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(QemuEvent::Pass);
    pair.fence();
    pair.tell(QemuEvent::Pass);
    pair.tell(QemuEvent::Stop);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn a_stop_is_not_ended_by_an_older_answer() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(QemuEvent::Disconnected);
    pair.fence();
    pair.tell(IN_COLO);
    assert!(!pair.primary.wants_output(), "the answer may be older");
    pair.barrier(1, true);
    assert!(!pair.primary.wants_output(), "so may this one");
    pair.secondary.guest_stopped(0);
    pair.tell(QemuEvent::Stop);
    pair.secondary_started(1, true);
    pair.exchange();
    pair.resume();
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.primary.state(), State::Protected);
}

#[test]
fn a_monitor_that_was_lost_between_stop_and_resume_commits_nothing() {
    for resume_is_heard in [false, true] {
        let mut pair = Pair::protected();
        pair.output(datagram(1));
        pair.stop(1);
        pair.tell(QemuEvent::Disconnected);
        pair.tell(QemuEvent::Connected {
            migration: Migration::Colo,
            leads: true,
            running: false,
        });
        if resume_is_heard {
            pair.resume();
        }
        pair.barrier(2, true);
        assert_eq!(pair.released(), NOTHING);
        assert_eq!(pair.primary.state(), State::Uncertain);
        assert!(pair.primary.wants_output());
        assert_eq!(pair.request(), Some(Cause::GuestReset));
    }
}

#[test]
fn a_resume_that_commits_nothing_lets_the_request_be_repeated() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    // The monitor reports a stop after which frames were taken: the ring was not up by then.
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Pass);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
    assert!(pair.request().is_some(), "nobody would ever ask again");
}

#[test]
fn after_an_error_everything_is_held_until_somebody_decides() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(QemuEvent::ColoExit);
    assert_eq!(pair.primary.state(), State::PeerLost);
    pair.output(datagram(2));
    pair.svm(datagram(1));
    pair.now += 2 * TIMEOUT;
    assert_eq!(pair.request(), None, "nobody would serve it");
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.input_room(pair.now), usize::MAX);
    assert!(!pair.primary.mirrors(pair.now));
    pair.tell(QemuEvent::Migration(Migration::Completed));
    assert_eq!(pair.released(), [1, 2]);
    assert_eq!(pair.primary.state(), State::Pairing);
}

#[test]
fn a_failed_checkpoint_commits_nothing() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.stop(1);
    pair.tell(QemuEvent::ColoExit);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
    // Another COLO may have begun while nobody listened.
    pair.tell(QemuEvent::Disconnected);
    pair.tell(IN_COLO);
    assert_eq!(pair.request(), Some(Cause::MonitorLost));
    assert_eq!(pair.released(), NOTHING);
}

#[test]
fn another_qemu_gets_nothing_of_its_predecessors_output() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(QemuEvent::Disconnected);
    pair.fence();
    pair.tell(CONNECTED);
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.counts().discarded, 1);
    assert_eq!(pair.primary.frames(), 0);
}
