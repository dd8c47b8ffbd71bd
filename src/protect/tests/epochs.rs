//! Commits, epochs and what bears their numbers (rules R1, R3 and R9).

use super::*;

#[test]
fn equal_output_leaves_and_other_output_waits_for_the_commit() {
    let mut pair = Pair::protected();
    assert_eq!(pair.output(datagram(1)), None);
    assert_eq!(pair.released(), NOTHING);
    pair.svm(datagram(1));
    assert_eq!(pair.released(), [1]);
    pair.output(datagram(2));
    pair.svm(datagram(3));
    pair.now += TIMEOUT;
    assert_eq!(pair.request(), Some(Cause::Difference(Reason::Payload)));
    pair.stop(1);
    assert_eq!(pair.released(), NOTHING, "STOP is no commit");
    pair.resume();
    assert_eq!(pair.released(), [2]);
    assert_eq!(pair.request(), None);
    assert_eq!(pair.primary.comparison().checkpoints().committed_count(), 1);
}

#[test]
fn two_checkpoints_commit_one_after_the_other_under_a_late_monitor() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    for stop in 1..=2 {
        pair.secondary.guest_stopped(0);
        pair.fence();
        pair.secondary_started(stop, true);
    }
    pair.exchange();
    for commit in 1..=2 {
        pair.tell(QemuEvent::Stop);
        pair.tell(QemuEvent::Pass);
        assert!(!pair.primary.wants_output());
        pair.tell(QemuEvent::Resume);
        assert_eq!(
            pair.primary.comparison().checkpoints().committed_count(),
            commit
        );
    }
    assert_eq!(pair.released(), [1]);
    pair.barrier(pair.stops, true);
    assert_eq!(pair.primary.state(), State::Protected);
    pair.exchange();
    assert_eq!(pair.secondary.epoch(), pair.primary.epoch());
}

#[test]
fn what_bears_the_number_of_an_epoch_that_is_over_is_void() {
    let mut pair = Pair::protected();
    let old = pair.primary.epoch();
    pair.stop(1);
    pair.resume();
    pair.exchange();
    pair.output(datagram(1));
    for epoch in [
        old,
        old.wrapping_sub(1),
        pair.primary.epoch().wrapping_add(1),
    ] {
        pair.svm_output(datagram(1), epoch);
    }
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.counts().stale, 3);
}

#[test]
fn what_bears_the_number_of_an_epoch_to_come_is_void() {
    let mut pair = Pair::protected();
    pair.stop(1);
    let next = pair.primary.epoch();
    pair.svm_output(datagram(1), next);
    pair.resume();
    pair.output(datagram(1));
    assert_eq!(pair.released(), NOTHING, "it was sent before the commit");
}

#[test]
fn a_request_without_a_stop_is_repeated() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    pair.now += REPEAT - 1;
    assert_eq!(pair.request(), None, "one is outstanding");
    pair.now += 1;
    assert!(pair.request().is_some());
    pair.tell(QemuEvent::Disconnected);
    assert_eq!(pair.request(), None, "nobody hears it");
    pair.tell(IN_COLO);
    assert!(
        pair.request().is_some(),
        "the last one may not have been heard"
    );
}

#[test]
fn a_ring_that_waits_for_its_driver_does_not_keep_frames_for_ever() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.fence();
    pair.now += TIMEOUT;
    assert!(pair.request().is_some());
    pair.secondary.guest_stopped(0);
    pair.tell(QemuEvent::Stop);
    pair.secondary_started(1, true);
    pair.exchange();
    pair.tell(QemuEvent::Resume);
    assert_eq!(pair.released(), [1]);
}

#[test]
fn isns_of_an_epoch_are_not_sent_in_the_next() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    // The uplink is full: the frame is free to leave and does not.
    pair.stop(1);
    pair.resume();
    assert_eq!(pair.released(), NOTHING);
    pair.exchange();
    assert_eq!(pair.released().len(), 1);
    pair.exchange();
    assert_eq!(pair.secondary.rewriter().counters().learned, 0);
}

#[test]
fn numbers_are_heard_before_the_frame_leaves() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.output(datagram(1));
    pair.svm(datagram(1));
    pair.cut = true;
    assert_eq!(pair.released(), [1], "others do not wait");
    pair.exchange();
    pair.now += TIMING.retransmit;
    assert_eq!(pair.released(), NOTHING);
    assert_eq!(pair.primary.held(), 1);
    assert_eq!(pair.request(), None);
    pair.now += TIMEOUT;
    assert_eq!(
        pair.request(),
        Some(Cause::LinkDown),
        "it waits for too long"
    );
    pair.cut = false;
    pair.exchange();
    assert_eq!(pair.secondary.rewriter().counters().learned, 1);
    assert_eq!(pair.released().len(), 1);
    assert_eq!(pair.primary.frames(), 0);
}

#[test]
fn numbers_lost_with_the_secondary_hold_the_frame_until_a_commit() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.cut = true;
    assert_eq!(pair.released(), NOTHING);
    pair.exchange();
    pair.cut = false;
    pair.secondary = Secondary::new(setup(3), pair.now);
    pair.now += TIMING.heartbeat;
    pair.exchange();
    assert_eq!(pair.released(), NOTHING);
    pair.secondary_started(0, true);
    pair.fence();
    pair.tell(QemuEvent::Stop);
    pair.tell(QemuEvent::Pass);
    pair.resume();
    assert_eq!(pair.released().len(), 1);
}

#[test]
fn numbers_that_a_doubt_or_a_fence_overtakes_wait_for_a_commit() {
    for fence in [false, true] {
        let mut pair = Pair::protected();
        pair.output(syn(100));
        pair.svm(syn(5_000));
        // Both have sent it, and the uplink has not asked for it yet.
        if !fence {
            pair.primary.input_missed(1, pair.now);
            pair.exchange();
            assert_eq!(pair.released(), NOTHING, "the secondary has not heard");
        }
        pair.stop(1);
        pair.exchange();
        assert_eq!(pair.released(), NOTHING, "the secondary has not heard");
        pair.resume();
        assert_eq!(pair.released().len(), 1);
    }
}

#[test]
fn isns_sent_before_an_uncertainty_are_acknowledged_in_it() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.svm(datagram(1));
    pair.output(syn(100));
    pair.svm(syn(5_000));
    // The ISNs are sent before the first frame leaves.
    let first = pair.primary.next_release().expect("a datagram");
    assert_eq!(says(&first.frame), 1);
    pair.primary.input_missed(1, pair.now);
    assert_eq!(pair.released(), NOTHING, "the secondary has not heard");
    pair.exchange();
    assert_eq!(pair.released().len(), 1);
}

#[test]
fn a_load_forgets_the_numbers() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.stop(1);
    pair.resume();
    pair.exchange();
    let mut header = TcpHeader::new(40_000, 80, 101, 1_000);
    header.ack = true;
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp_header(header);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[1]).unwrap();
    let outgoing = pair.secondary.output(HeapFrame::new(&bytes), pair.now);
    assert_eq!(outgoing.unwrap().frame.to_vec(), bytes, "the offset is 0");
}

#[test]
fn an_epoch_that_the_link_cannot_take_is_sent_later() {
    let mut pair = Pair::protected_with(|setup| {
        let limits = &mut setup.limits;
        (limits.flows, limits.primary, limits.secondary) = (2_000, 2_000, 2_000);
    });
    pair.stop(1);
    pair.cut = true;
    // Numbers of many connections fill the link's queue.
    pair.resume();
    pair.cut = false;
    pair.exchange();
    let first = pair.secondary.epoch();
    for isn in 0.. {
        let frame = || {
            let mut header = TcpHeader::new(1_000 + isn as u16, 80, isn, 1_000);
            header.syn = true;
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp_header(header);
            let mut bytes = Vec::new();
            builder.write(&mut bytes, &[]).unwrap();
            HeapFrame::new(&bytes)
        };
        pair.output(frame());
        pair.svm(frame());
        assert!(pair.primary.next_release().is_none());
        if !pair.primary.link().has_control_room() {
            break;
        }
        assert!(isn < 10_000, "the queue is never full");
    }
    pair.stop(2);
    pair.resume();
    pair.exchange();
    pair.now += TIMING.retransmit;
    pair.exchange();
    assert_ne!(pair.secondary.epoch(), first);
    assert_eq!(pair.secondary.epoch(), pair.primary.epoch());
}

#[test]
fn what_leaves_at_once_does_not_overtake_what_was_held() {
    let mut pair = Pair::protected();
    pair.output(datagram(1));
    pair.tell(QemuEvent::Migration(Migration::Completed));
    assert!(!pair.primary.wants_output());
    assert_eq!(pair.released(), [1]);
    assert_eq!(pair.output(datagram(2)).map(|f| says(&f)), Some(2));
}

#[test]
fn what_leaves_at_once_does_not_overtake_what_waited_for_the_link() {
    let mut pair = Pair::protected();
    pair.cut = true;
    pair.output(syn(100));
    pair.svm(syn(5_000));
    assert!(pair.released().is_empty(), "the secondary has not heard");
    pair.tell(QemuEvent::Migration(Migration::Completed));
    assert!(!pair.primary.wants_output());
    assert_eq!(pair.released().len(), 1);
    assert!(pair.output(syn(100)).is_some());
}
