//! Flows that are new with every pair, in a table that is full: each gives up the oldest one.

use std::time::Instant;

use dpdk_colo::Ticks;
use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy};
use dpdk_colo::frame::BURST;

use crate::engine::case;
use crate::engine::clock;
use crate::engine::pool::{Pool, PoolFrame};
use crate::engine::template::Template;

/// Flows that the table holds, as by default.
const CAPACITY: usize = 65_536;
const HOLD: usize = 16_384;

/// Shows `flows` new flows at least; returns how many, and the ticks that it took.
///
/// # Panics
/// When a P is not released.
pub fn run(flows: usize) -> (usize, f64) {
    let limits = Limits {
        primary: HOLD,
        secondary: HOLD,
        history: HOLD / 4,
        flows: CAPACITY,
        timeout: Ticks::MAX,
        patience: 1,
        idle: Ticks::MAX,
        half_open: Ticks::MAX,
    };
    let mut comparator: Comparator<PoolFrame> =
        Comparator::new(limits, Numbers::Translated, Policy::default());
    let template = Template::new(&case::PLAIN, case::SMALL);
    let mut pools = [2 * BURST, HOLD].map(|n| Pool::new(n, template.bytes()));
    let (mut flow, mut ticks, mut released) = (0, 0, 0);
    let began = Instant::now();
    let all = flows.max(CAPACITY) + CAPACITY;
    let mut bursts = [Vec::with_capacity(BURST), Vec::with_capacity(BURST)];
    while flow < all {
        for (pool, burst) in pools.iter_mut().zip(&mut bursts) {
            for n in 0..BURST {
                burst.push(pool.take(|bytes| template.write(bytes, flow + n, 0)));
            }
        }
        let [p, s] = &mut bursts;
        let begin = clock::ticks();
        let now = began.elapsed().as_nanos() as Ticks;
        for frame in p.drain(..) {
            assert!(comparator.primary(frame, now).is_ok(), "there is room");
        }
        for frame in s.drain(..) {
            comparator.secondary(frame, now);
        }
        while comparator.next_release().is_some() {
            released += 1;
        }
        // The first flows find room.
        if flow >= CAPACITY {
            ticks += clock::ticks() - begin;
        }
        flow += BURST;
    }
    assert_eq!(released, flow, "released");
    (flow - CAPACITY, ticks as f64)
}
