//! Single situations between a dispatcher and its worker. `tests/properties` has random ones.

use std::iter;

use colo_testkit::packets::{self, Ends, Segment};

use super::*;
use crate::compare::{Limits, Numbers, Policy, Reason};
use crate::frame::{BURST, HeapFrame};
use crate::packet::Packet;

const TIMEOUT: u64 = 100;

const LIMITS: Limits = Limits {
    primary: 512,
    secondary: 64,
    history: 8,
    flows: 64,
    timeout: TIMEOUT,
    patience: 1,
    idle: 1000,
    half_open: 1000,
};

/// A dispatcher that compares nothing itself, and its only worker.
fn one_worker(sizes: RingSizes) -> (Dispatcher<HeapFrame>, Worker<HeapFrame>) {
    let table = RedirectionTable::weighted(&[0, 1], 1);
    let (dispatcher, worker) = rings(sizes);
    let bounds = table.limits(&LIMITS, 1);
    let (numbers, policy) = (Numbers::Translated, Policy::default());
    (
        Dispatcher::new(LIMITS, numbers, policy.clone(), vec![dispatcher], table),
        Worker::new(worker, bounds, numbers, policy),
    )
}

/// A UDP datagram of a flow.
fn datagram(flow: u16, content: u16) -> HeapFrame {
    let ends = Ends {
        peer: 9,
        port: flow,
        peer_port: 53,
        ..Ends::default()
    };
    HeapFrame::new(&packets::udp(&ends, &content.to_be_bytes(), 0))
}

/// A SYN+ACK to a client by its port.
fn opening(client: u16) -> Vec<u8> {
    let ends = Ends {
        peer: 8,
        port: 80,
        peer_port: 1024 + client,
        ..Ends::default()
    };
    let segment = Segment {
        syn: true,
        ack: Some(1),
        ..Segment::default()
    };
    packets::tcp(&ends, &segment, 0)
}

/// Lets the worker process everything, and the dispatcher take all results.
fn settle(dispatcher: &mut Dispatcher<HeapFrame>, worker: &mut Worker<HeapFrame>) {
    for _ in 0..100 {
        dispatcher.exchange();
        worker.poll();
    }
    dispatcher.exchange();
}

fn released(dispatcher: &mut Dispatcher<HeapFrame>) -> usize {
    std::iter::from_fn(|| dispatcher.next_release()).count()
}

#[test]
fn a_frame_that_waits_at_a_worker_is_reported_at_the_timeout() {
    let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
    assert!(dispatcher.primary(datagram(1, 7), 10).is_ok());
    settle(&mut dispatcher, &mut worker);
    assert_eq!(
        (dispatcher.held(), dispatcher.room()),
        (1, LIMITS.primary - 1)
    );
    assert!(dispatcher.overdue(10 + TIMEOUT - 1).is_none());
    settle(&mut dispatcher, &mut worker);
    assert!(
        dispatcher.overdue(10 + TIMEOUT).is_none(),
        "the worker is asked"
    );
    settle(&mut dispatcher, &mut worker);
    let divergence = dispatcher.overdue(11 + TIMEOUT).expect("the answer");
    assert_eq!(divergence.reason, Reason::MissingSecondary);
    assert_eq!(divergence.primary_arrived, Some(10));
}

#[test]
fn a_stalled_worker_is_reported() {
    let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
    assert!(dispatcher.overdue(5).is_none());
    assert!(dispatcher.primary(datagram(1, 7), 10).is_ok());
    dispatcher.exchange();
    assert!(dispatcher.overdue(10).is_none());
    assert!(dispatcher.overdue(10 + TIMEOUT - 1).is_none());
    let divergence = dispatcher
        .overdue(10 + TIMEOUT)
        .expect("nobody has answered");
    assert_eq!(divergence.reason, Reason::WorkerStalled);
    assert!(
        dispatcher.overdue(11 + TIMEOUT).is_none(),
        "once in a timeout"
    );
    // The worker goes on. The frame that it holds is then reported as usual.
    settle(&mut dispatcher, &mut worker);
    assert!(dispatcher.overdue(12 + TIMEOUT).is_none());
    settle(&mut dispatcher, &mut worker);
    let divergence = dispatcher.overdue(13 + TIMEOUT).expect("the answer");
    assert_eq!(divergence.reason, Reason::MissingSecondary);
}

#[test]
fn the_worker_names_the_flow_that_takes_half_of_the_room() {
    let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
    for content in 0..LIMITS.primary as u16 / 2 {
        assert!(dispatcher.crowding(10).is_none() && dispatcher.overdue(10).is_none());
        assert!(dispatcher.primary(datagram(1, content), 10).is_ok());
        settle(&mut dispatcher, &mut worker);
    }
    assert!(dispatcher.crowding(10).is_none(), "the worker is asked");
    settle(&mut dispatcher, &mut worker);
    let divergence = dispatcher.overdue(11).expect("the answer");
    assert_eq!(divergence.reason, Reason::FlowHold);
    assert_eq!(divergence.primary_arrived, Some(10));
}

#[test]
fn the_s_of_half_open_connections_at_two_workers_leave_room_for_those_of_others() {
    let table = RedirectionTable::weighted(&[0, 1, 1], 1);
    let (numbers, policy) = (Numbers::Translated, Policy::default());
    let limits = Limits {
        flows: 4096,
        ..LIMITS
    };
    let (mut ends, mut workers) = (Vec::new(), Vec::new());
    for core in 1..=2 {
        let (dispatcher, worker) = rings(RingSizes::default());
        let bounds = table.limits(&limits, core);
        ends.push(dispatcher);
        workers.push(Worker::new(worker, bounds, numbers, policy.clone()));
    }
    let mut dispatcher = Dispatcher::new(limits, numbers, policy, ends, table);
    let mut settle = |dispatcher: &mut Dispatcher<HeapFrame>| {
        for _ in 0..10 {
            dispatcher.exchange();
            for worker in &mut workers {
                worker.poll();
            }
        }
        dispatcher.exchange();
    };
    let mut overflowed = false;
    for n in 0..500 {
        dispatcher.secondary(HeapFrame::new(&opening(n)), 10);
        settle(&mut dispatcher);
        overflowed |= dispatcher.take_overflow();
        assert!(dispatcher.primary(datagram(1, n), 10).is_ok());
        settle(&mut dispatcher);
        dispatcher.secondary(datagram(1, n), 10);
        settle(&mut dispatcher);
        assert_eq!(released(&mut dispatcher), 1, "{n}");
    }
    assert!(overflowed, "a checkpoint is asked for");
}

#[test]
fn a_worker_s_report_of_an_ended_epoch_is_void() {
    let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
    assert!(dispatcher.primary(datagram(1, 7), 10).is_ok());
    settle(&mut dispatcher, &mut worker);
    assert!(
        dispatcher.overdue(10 + TIMEOUT).is_none(),
        "the worker is asked"
    );
    dispatcher.exchange();
    worker.poll();
    dispatcher.fence();
    settle(&mut dispatcher, &mut worker);
    assert!(
        dispatcher.overdue(10).is_none(),
        "the answer is of the epoch before"
    );
    dispatcher.commit(20);
    settle(&mut dispatcher, &mut worker);
    assert_eq!((released(&mut dispatcher), dispatcher.held()), (1, 0));
    assert!(dispatcher.take_divergence().is_none());
}

#[test]
fn a_burst_each_of_p_and_s_fits_behind_half_a_burst() {
    let sizes = RingSizes {
        frames: 16,
        ..RingSizes::default()
    };
    let (mut dispatcher, mut worker) = one_worker(sizes);
    let burst = |from: u16| (from..from + BURST as u16).map(|n| datagram(1, n));
    for n in 0..5 * BURST as u16 / 4 {
        assert!(dispatcher.primary(datagram(2, n), 10).is_ok());
    }
    assert!(dispatcher.is_ready());
    let (mut p, mut s) = (burst(0), burst(0));
    dispatcher.ingest(&mut iter::empty(), &mut s, 11);
    dispatcher.ingest(&mut p, &mut iter::empty(), 12);
    assert_eq!((p.count(), s.count()), (0, 0), "nothing is left over");
    let mut left = 0;
    for _ in 0..BURST {
        settle(&mut dispatcher, &mut worker);
        left += released(&mut dispatcher);
    }
    assert_eq!(left, BURST);
}

#[test]
fn a_full_ring_pushes_back_and_loses_nothing() {
    let sizes = RingSizes {
        frames: 16,
        releases: 16,
        reports: 1,
    };
    let (mut dispatcher, mut worker) = one_worker(sizes);
    let mut taken = 0;
    while dispatcher.is_ready() {
        assert!(dispatcher.primary(datagram(1, taken), 10).is_ok());
        taken += 1;
        dispatcher.exchange();
    }
    assert!(usize::from(taken) >= BURST);
    // A caller that ignores `is_ready` gets its frames back once the queue is full.
    let refused = (0..1000).find(|n| dispatcher.primary(datagram(1, taken + n), 10).is_err());
    taken += refused.expect("the list has an end");
    dispatcher.commit(11);
    let mut left = 0;
    for _ in 0..100 {
        settle(&mut dispatcher, &mut worker);
        left += released(&mut dispatcher);
    }
    assert_eq!(left, usize::from(taken));
    assert!(dispatcher.is_settled());
    assert_eq!(
        (dispatcher.room(), dispatcher.frames()),
        (LIMITS.primary, 0)
    );
}

#[test]
fn s_wait_for_a_slow_worker_and_are_bounded_over_all_cores() {
    let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
    let flows = 0..LIMITS.secondary as u16;
    for flow in flows.clone() {
        assert!(dispatcher.primary(datagram(flow, 0), 9).is_ok());
    }
    settle(&mut dispatcher, &mut worker);
    for flow in flows {
        assert!(dispatcher.wants_secondary() || flow as usize > LIMITS.secondary - BURST);
        dispatcher.secondary(datagram(flow, 1), 10);
    }
    assert!(!dispatcher.wants_secondary(), "the worker may make room");
    settle(&mut dispatcher, &mut worker);
    assert!(dispatcher.wants_secondary(), "waiting makes no room");
    assert!(!dispatcher.take_overflow());
    dispatcher.secondary(datagram(999, 1), 11);
    assert!(dispatcher.take_overflow());
    assert_eq!(dispatcher.overflows(), 1);
    dispatcher.fence();
    dispatcher.commit(12);
    let mut left = 0;
    while !dispatcher.is_settled() {
        settle(&mut dispatcher, &mut worker);
        left += released(&mut dispatcher);
    }
    assert_eq!(left, LIMITS.secondary);
    dispatcher.secondary(datagram(1000, 1), 13);
    assert!(!dispatcher.take_overflow(), "there is room again");
}

#[test]
fn a_worker_removes_idle_flows() {
    let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
    assert!(dispatcher.primary(datagram(1, 7), 10).is_ok());
    dispatcher.secondary(datagram(1, 7), 10);
    settle(&mut dispatcher, &mut worker);
    assert_eq!((released(&mut dispatcher), dispatcher.flows()), (1, 1));
    dispatcher.age(9 + LIMITS.idle, BURST);
    settle(&mut dispatcher, &mut worker);
    assert_eq!(dispatcher.flows(), 1);
    dispatcher.age(11 + 2 * LIMITS.idle, BURST);
    settle(&mut dispatcher, &mut worker);
    assert_eq!(dispatcher.flows(), 0);
}

#[test]
fn a_discard_frees_the_room() {
    let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
    for n in 0..5 {
        assert!(dispatcher.primary(datagram(1, n), 10).is_ok());
    }
    dispatcher.discard();
    assert_eq!(dispatcher.room(), LIMITS.primary - 5);
    settle(&mut dispatcher, &mut worker);
    assert_eq!(
        (dispatcher.room(), dispatcher.take_discarded()),
        (LIMITS.primary, 5)
    );
    dispatcher.commit(11);
    settle(&mut dispatcher, &mut worker);
    assert_eq!(released(&mut dispatcher), 0);
}

fn connection() -> Ends {
    Ends {
        peer: 9,
        port: 80,
        peer_port: 40_000,
        ..Ends::default()
    }
}

/// A TCP segment of the guest.
fn segment(seq: u32, payload: &[u8]) -> HeapFrame {
    let segment = Segment {
        seq,
        ack: Some(601),
        window: 256,
        payload: payload.to_vec(),
        ..Segment::default()
    };
    HeapFrame::new(&packets::tcp(&connection(), &segment, 0))
}

/// The RST of the segments' client.
fn client_reset(seq: u32) -> Packet {
    let segment = Segment {
        seq,
        rst: true,
        ..Segment::default()
    };
    let bytes = packets::tcp(&connection().reversed(), &segment, 0);
    Packet::parse(&bytes, bytes.len())
}

#[test]
fn a_worker_gets_a_client_s_reset_in_order() {
    for (seq, dropped) in [(601, 3), (600, 0)] {
        let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
        let equal = segment(1000, b"equal");
        assert!(dispatcher.primary(equal.clone(), 10).is_ok());
        dispatcher.secondary(equal, 10);
        for n in 0..3 {
            let ahead = segment(1005 + 5 * n, b"ahead");
            assert!(dispatcher.primary(ahead, 10).is_ok());
        }
        dispatcher.client_reset(&client_reset(seq), 10);
        settle(&mut dispatcher, &mut worker);
        assert_eq!(released(&mut dispatcher), 1);
        assert_eq!(dispatcher.room(), LIMITS.primary - 3);
        assert!(
            dispatcher.overdue(10 + TIMEOUT).is_none(),
            "the worker is asked"
        );
        settle(&mut dispatcher, &mut worker);
        let overdue = dispatcher.overdue(10 + TIMEOUT);
        assert_eq!(overdue.is_none(), dropped == 3);
        let counts = worker.comparator().counts();
        assert_eq!(counts.reset_dropped, dropped);
        assert_eq!(dispatcher.room(), LIMITS.primary - 3 + dropped as usize);
        assert_eq!(dispatcher.take_discarded(), 0);
        assert!(dispatcher.is_settled());
    }
}

#[test]
fn resets_beyond_the_ring_are_dropped() {
    let (mut dispatcher, mut worker) = one_worker(RingSizes::default());
    let reset = client_reset(601);
    for _ in 0..1000 {
        dispatcher.client_reset(&reset, 10);
    }
    for _ in 0..100 {
        settle(&mut dispatcher, &mut worker);
    }
    assert!(dispatcher.is_settled());
}
