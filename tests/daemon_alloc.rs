//! A comparator allocates nothing once it is made: all memory is there beforehand (rule R10), and a
//! poll core cannot wait for an allocator.
//!
//! Two VMs' traffic goes through one, with lost and differing frames, fences and commits, and every
//! allocation in it counts.

use allocation_counter::measure;
use colo_testkit::packets::{self, Ends, Segment};
use colo_testkit::rng::Rng;
use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy};
use dpdk_colo::frame::Frame;
use dpdk_colo::spread::{Dispatcher, RedirectionTable, RingSizes, Worker, rings};

/// A frame whose bytes live for ever, so that neither a share nor a drop concerns the allocator.
#[derive(Clone, Copy)]
struct Still(&'static [u8]);

impl Frame for Still {
    fn head(&self) -> &[u8] {
        self.0
    }

    fn head_mut(&mut self) -> Option<&mut [u8]> {
        None
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.0)
    }

    fn share(&self) -> Self {
        *self
    }

    fn excerpt(&self, _headers: usize, _start: usize, _len: usize) -> Option<Self> {
        None
    }
}

const LIMITS: Limits = Limits {
    primary: 512,
    secondary: 512,
    history: 128,
    flows: 64,
    timeout: 1_000,
    patience: 1,
    idle: 50_000,
    half_open: 50_000,
};

/// More flows than the table holds.
const FLOWS: u16 = 100;
const ROUNDS: u64 = 40_000;

fn still(bytes: Vec<u8>) -> Still {
    Still(bytes.leak())
}

/// Segment `n` of a flow: its SYN, data, or its FIN.
fn segment(flow: u16, n: u32, payload: &[u8]) -> Still {
    let ends = Ends {
        peer: flow as u8,
        port: 80,
        peer_port: 40_000 + flow,
        ..Ends::default()
    };
    let (syn, fin) = (n == 0, n == 15);
    let segment = Segment {
        seq: 1_000 + n * 8,
        ack: Some(5_000),
        syn,
        fin,
        window: 64_240,
        payload: if syn || fin {
            Vec::new()
        } else {
            payload.to_vec()
        },
        ..Segment::default()
    };
    still(packets::tcp(&ends, &segment, 0))
}

fn datagram(flow: u16, n: u32) -> Still {
    let ends = Ends {
        v6: true,
        peer: 8,
        port: 53,
        peer_port: 40_000 + flow,
        ..Ends::default()
    };
    still(packets::udp(&ends, &n.to_be_bytes(), 0))
}

/// Frames of all kinds.
fn frames() -> Vec<Still> {
    (0..FLOWS)
        .flat_map(|flow| {
            (0..16).flat_map(move |n| {
                [
                    segment(flow, n, b"the same"),
                    segment(flow, n, b"the fame"),
                    datagram(flow, n),
                ]
            })
        })
        .chain([still(vec![0x45; 9])])
        .collect()
}

#[test]
fn nothing_is_allocated_after_the_start() {
    let frames = frames();
    let mut comparator = Comparator::new(LIMITS, Numbers::Translated, Policy::new(Vec::new()));
    let mut random = Rng::new(1);
    let (mut released, mut divergences, mut commits) = (0u64, 0u64, 0u64);
    let mut drive = |rounds: std::ops::Range<u64>| {
        for now in rounds {
            let frame = frames[random.below(frames.len())];
            if random.below(20) > 0 && comparator.room() > 0 {
                assert!(comparator.primary(frame, now).is_ok());
            }
            if random.below(20) > 0 {
                comparator.secondary(frame, now);
            }
            while comparator.next_synchronized().is_some() {}
            while let Some(release) = comparator.next_release() {
                assert!(release.arrived <= now);
                released += 1;
            }
            divergences += u64::from(comparator.take_divergence().is_some());
            if now % 16 == 0 {
                divergences += u64::from(comparator.overdue(now).is_some());
                comparator.age(now, 32);
            }
            if now % 1_000 == 999 || comparator.room() == 0 {
                comparator.fence();
                comparator.commit(now);
                commits += 1;
            }
        }
    };
    drive(0..ROUNDS / 4);
    let info = measure(|| drive(ROUNDS / 4..ROUNDS));
    println!("{released} released, {divergences} divergences, {commits} commits: {info:?}");
    assert!(released > ROUNDS / 4 && divergences > 0 && commits > 0);
    assert_eq!(info.count_total, 0, "allocations: {info:?}");
    assert!(
        measure(|| drop(std::hint::black_box(vec![0u8; 100]))).count_total > 0,
        "allocations are not counted at all"
    );
}

#[test]
fn spreading_flows_over_workers_allocates_nothing_either() {
    let frames = frames();
    let table = RedirectionTable::even(3, 7);
    let policy = Policy::new(Vec::new());
    let (dispatcher_ends, worker_ends): (Vec<_>, Vec<_>) =
        (1..3).map(|_| rings(RingSizes::default())).unzip();
    let mut dispatcher = Dispatcher::new(
        LIMITS,
        Numbers::Translated,
        policy.clone(),
        dispatcher_ends,
        table.clone(),
    );
    let mut workers: Vec<Worker<Still>> = worker_ends
        .into_iter()
        .enumerate()
        .map(|(i, end)| {
            let limits = table.limits(&LIMITS, i + 1);
            Worker::new(end, limits, Numbers::Translated, policy.clone())
        })
        .collect();
    let mut random = Rng::new(1);
    let (mut released, mut reports) = (0u64, 0u64);
    let mut drive = |rounds: std::ops::Range<u64>| {
        for now in rounds {
            let frame = frames[random.below(frames.len())];
            let takes = dispatcher.is_ready() && dispatcher.room() > 0;
            let mut p = (takes && random.below(20) > 0).then_some(frame);
            let mut s = (dispatcher.wants_secondary() && random.below(20) > 0).then_some(frame);
            if now % 2 == 0 {
                let (mut p, mut s) = (p.take().into_iter(), s.take().into_iter());
                dispatcher.ingest(&mut p, &mut s, now);
                assert_eq!(p.len(), 0);
            }
            if let Some(p) = p {
                assert!(dispatcher.primary(p, now).is_ok());
            }
            if let Some(s) = s {
                dispatcher.secondary(s, now);
            }
            if now % 16 == 0 {
                reports += u64::from(dispatcher.overdue(now).is_some());
                dispatcher.age(now, 32);
            }
            if now % 8 == 0 {
                workers[random.below(2)].poll();
                dispatcher.exchange();
            }
            while dispatcher.next_synchronized().is_some() {}
            while dispatcher.next_release().is_some() {
                released += 1;
            }
            reports += u64::from(dispatcher.take_divergence().is_some());
            if now % 1_000 == 999 || dispatcher.room() == 0 {
                dispatcher.fence();
                dispatcher.commit(now);
            }
        }
    };
    drive(0..ROUNDS / 4);
    let info = measure(|| drive(ROUNDS / 4..ROUNDS));
    println!("{released} released, {reports} reports: {info:?}");
    assert!(released > ROUNDS / 4 && reports > 0);
    assert_eq!(info.count_total, 0, "allocations: {info:?}");
}
