//! Single situations between a front and its workers; how they stand together over time is in
//! `tests/properties`.

use std::iter;

use super::*;
use crate::compare::{Limits, Numbers, Policy, Reason};
use crate::frame::{BURST, Frame, HeapFrame};
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

/// A front that compares nothing itself, and its only worker.
fn crew(sizes: Sizes) -> (Front<HeapFrame>, Worker<HeapFrame>) {
    let shares = Shares::weighted(&[0, 1], 1);
    let (front, worker) = ends(sizes);
    let bounds = shares.limits(&LIMITS, 1);
    let (numbers, policy) = (Numbers::Translated, Policy::default());
    (
        Front::new(LIMITS, numbers, policy.clone(), vec![front], shares),
        Worker::new(worker, bounds, numbers, policy),
    )
}

/// A UDP datagram of a flow.
fn datagram(flow: u16, content: u16) -> HeapFrame {
    let mut bytes = vec![2; 12];
    bytes.extend([0x08, 0x00, 0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0]);
    bytes.extend([192, 0, 2, 1, 198, 51, 100, 1]);
    bytes.extend(flow.to_be_bytes());
    bytes.extend([0, 53, 0, 10, 0, 0]);
    bytes.extend(content.to_be_bytes());
    HeapFrame::new(&bytes)
}

/// Lets the worker do everything and the front take it.
fn settle(front: &mut Front<HeapFrame>, worker: &mut Worker<HeapFrame>) {
    for _ in 0..100 {
        front.exchange();
        worker.poll();
    }
    front.exchange();
}

fn released(front: &mut Front<HeapFrame>) -> usize {
    std::iter::from_fn(|| front.next_release()).count()
}

#[test]
fn what_waits_with_a_worker_is_reported_at_the_timeout() {
    let (mut front, mut worker) = crew(Sizes::default());
    assert!(front.primary(datagram(1, 7), 10).is_ok());
    settle(&mut front, &mut worker);
    assert_eq!((front.held(), front.room()), (1, LIMITS.primary - 1));
    assert!(front.overdue(10 + TIMEOUT - 1).is_none());
    settle(&mut front, &mut worker);
    assert!(front.overdue(10 + TIMEOUT).is_none(), "the worker is asked");
    settle(&mut front, &mut worker);
    let divergence = front.overdue(11 + TIMEOUT).expect("the answer");
    assert_eq!(divergence.reason, Reason::MissingSecondary);
    assert_eq!(divergence.primary_arrived, Some(10));
}

#[test]
fn a_worker_that_stands_still_is_reported_itself() {
    let (mut front, mut worker) = crew(Sizes::default());
    assert!(front.overdue(5).is_none());
    assert!(front.primary(datagram(1, 7), 10).is_ok());
    front.exchange();
    assert!(front.overdue(10).is_none());
    assert!(front.overdue(10 + TIMEOUT - 1).is_none());
    let divergence = front.overdue(10 + TIMEOUT).expect("nobody has answered");
    assert_eq!(divergence.reason, Reason::WorkerStalled);
    assert!(front.overdue(11 + TIMEOUT).is_none(), "once in a timeout");
    // It gets on: what it holds by then is reported as ever.
    settle(&mut front, &mut worker);
    assert!(front.overdue(12 + TIMEOUT).is_none());
    settle(&mut front, &mut worker);
    let divergence = front.overdue(13 + TIMEOUT).expect("the answer");
    assert_eq!(divergence.reason, Reason::MissingSecondary);
}

#[test]
fn what_a_worker_says_of_an_epoch_that_has_ended_is_void() {
    let (mut front, mut worker) = crew(Sizes::default());
    assert!(front.primary(datagram(1, 7), 10).is_ok());
    settle(&mut front, &mut worker);
    assert!(front.overdue(10 + TIMEOUT).is_none(), "the worker is asked");
    front.exchange();
    worker.poll();
    front.fence();
    settle(&mut front, &mut worker);
    assert!(
        front.overdue(10).is_none(),
        "the answer is of the epoch before"
    );
    front.commit(20);
    settle(&mut front, &mut worker);
    assert_eq!((released(&mut front), front.held()), (1, 0));
    assert!(front.take_divergence().is_none());
}

#[test]
fn a_burst_each_of_p_and_s_fits_behind_half_a_burst() {
    let sizes = Sizes {
        frames: 16,
        ..Sizes::default()
    };
    let (mut front, mut worker) = crew(sizes);
    let burst = |from: u16| (from..from + BURST as u16).map(|n| datagram(1, n));
    for n in 0..5 * BURST as u16 / 4 {
        assert!(front.primary(datagram(2, n), 10).is_ok());
    }
    assert!(front.is_ready());
    let (mut p, mut s) = (burst(0), burst(0));
    front.ingest(&mut iter::empty(), &mut s, 11);
    front.ingest(&mut p, &mut iter::empty(), 12);
    assert_eq!((p.count(), s.count()), (0, 0), "nothing is left over");
    let mut left = 0;
    for _ in 0..BURST {
        settle(&mut front, &mut worker);
        left += released(&mut front);
    }
    assert_eq!(left, BURST);
}

#[test]
fn a_full_ring_pushes_back_and_loses_nothing() {
    let sizes = Sizes {
        frames: 16,
        releases: 16,
        reports: 1,
    };
    let (mut front, mut worker) = crew(sizes);
    let mut taken = 0;
    while front.is_ready() {
        assert!(front.primary(datagram(1, taken), 10).is_ok());
        taken += 1;
        front.exchange();
    }
    assert!(usize::from(taken) >= BURST);
    // A caller that does not look is refused in the end.
    let refused = (0..1000).find(|n| front.primary(datagram(1, taken + n), 10).is_err());
    taken += refused.expect("the list has an end");
    front.commit(11);
    let mut left = 0;
    for _ in 0..100 {
        settle(&mut front, &mut worker);
        left += released(&mut front);
    }
    assert_eq!(left, usize::from(taken));
    assert!(front.is_settled());
    assert_eq!((front.room(), front.frames()), (LIMITS.primary, 0));
}

#[test]
fn secondary_frames_wait_for_a_worker_that_is_behind_and_are_bounded_in_all() {
    let (mut front, mut worker) = crew(Sizes::default());
    for n in 0..LIMITS.secondary as u16 {
        assert!(front.wants_secondary() || n as usize > LIMITS.secondary - BURST);
        front.secondary(datagram(1, n), 10);
    }
    assert!(!front.wants_secondary(), "the worker may make room");
    settle(&mut front, &mut worker);
    assert!(front.wants_secondary(), "waiting makes no room");
    assert!(!front.take_overflow());
    front.secondary(datagram(1, 999), 11);
    assert!(front.take_overflow());
    assert_eq!(front.overflows(), 1);
    for n in 0..LIMITS.secondary as u16 {
        assert!(front.primary(datagram(1, n), 12).is_ok());
    }
    let mut left = 0;
    while !front.is_settled() {
        settle(&mut front, &mut worker);
        left += released(&mut front);
    }
    assert_eq!(left, LIMITS.secondary);
    front.secondary(datagram(1, 1000), 13);
    assert!(!front.take_overflow(), "there is room again");
}

#[test]
fn a_worker_forgets_quiet_flows() {
    let (mut front, mut worker) = crew(Sizes::default());
    assert!(front.primary(datagram(1, 7), 10).is_ok());
    front.secondary(datagram(1, 7), 10);
    settle(&mut front, &mut worker);
    assert_eq!((released(&mut front), front.flows()), (1, 1));
    front.age(9 + LIMITS.idle, BURST);
    settle(&mut front, &mut worker);
    assert_eq!(front.flows(), 1);
    front.age(11 + 2 * LIMITS.idle, BURST);
    settle(&mut front, &mut worker);
    assert_eq!(front.flows(), 0);
}

#[test]
fn a_discard_gives_the_room_back() {
    let (mut front, mut worker) = crew(Sizes::default());
    for n in 0..5 {
        assert!(front.primary(datagram(1, n), 10).is_ok());
    }
    front.discard();
    assert_eq!(front.room(), LIMITS.primary - 5);
    settle(&mut front, &mut worker);
    assert_eq!((front.room(), front.take_discarded()), (LIMITS.primary, 5));
    front.commit(11);
    settle(&mut front, &mut worker);
    assert_eq!(released(&mut front), 0);
}

/// A TCP segment from the guest, or from its client.
fn segment(from_guest: bool, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> HeapFrame {
    let (guest, client) = ([192, 0, 2, 1], [198, 51, 100, 1]);
    let mut bytes = vec![2; 12];
    let length = 40 + payload.len() as u8;
    bytes.extend([0x08, 0x00, 0x45, 0, 0, length, 0, 0, 0, 0, 64, 6, 0, 0]);
    let (ends, ports) = match from_guest {
        true => ([guest, client], [80u16, 40_000]),
        false => ([client, guest], [40_000, 80]),
    };
    bytes.extend(ends.concat());
    bytes.extend(ports.map(u16::to_be_bytes).concat());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend([0x50, flags, 1, 0, 0, 0, 0, 0]);
    bytes.extend(payload);
    HeapFrame::new(&bytes)
}

#[test]
fn a_worker_hears_of_a_client_s_reset_where_it_happened() {
    const ACK: u8 = 0x10;
    const RST: u8 = 0x04;
    for (seq, dropped) in [(601, 3), (600, 0)] {
        let (mut front, mut worker) = crew(Sizes::default());
        let equal = segment(true, 1000, 601, ACK, b"equal");
        assert!(front.primary(equal.clone(), 10).is_ok());
        front.secondary(equal, 10);
        for n in 0..3 {
            let ahead = segment(true, 1005 + 5 * n, 601, ACK, b"ahead");
            assert!(front.primary(ahead, 10).is_ok());
        }
        let reset = segment(false, seq, 0, RST, b"");
        let reset = Packet::parse(reset.head(), reset.len());
        front.client_reset(&reset, 10);
        settle(&mut front, &mut worker);
        assert_eq!(released(&mut front), 1);
        assert_eq!(front.room(), LIMITS.primary - 3);
        assert!(front.overdue(10 + TIMEOUT).is_none(), "the worker is asked");
        settle(&mut front, &mut worker);
        let overdue = front.overdue(10 + TIMEOUT);
        assert_eq!(overdue.is_none(), dropped == 3);
        let counts = worker.comparator().counts();
        assert_eq!(counts.reset_dropped, dropped);
        assert_eq!(front.room(), LIMITS.primary - 3 + dropped as usize);
        assert_eq!(front.take_discarded(), 0);
        assert!(front.is_settled());
    }
}

#[test]
fn more_resets_than_fit_are_forgotten() {
    let (mut front, mut worker) = crew(Sizes::default());
    let reset = segment(false, 601, 0, 0x04, b"");
    let reset = Packet::parse(reset.head(), reset.len());
    for _ in 0..1000 {
        front.client_reset(&reset, 10);
    }
    for _ in 0..100 {
        settle(&mut front, &mut worker);
    }
    assert!(front.is_settled());
}
