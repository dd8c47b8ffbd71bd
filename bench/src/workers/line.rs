//! How far apart the two cores are: what a line takes from the one to the other and back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::{FIRST, OTHER, pin};
use crate::engine::{Span, ticks};

const TIMES: u64 = 20_000;

/// Alone in its cache line, and in the next one, which the processor may load along with it.
#[repr(align(128))]
struct Line(AtomicU64);

/// Nanoseconds in which a core has seen the other's answer to what it wrote.
pub fn there_and_back() -> f64 {
    let span = Span::begin();
    let line = Line(AtomicU64::new(0));
    #[allow(
        clippy::missing_spin_loop,
        reason = "a pause would be part of the time"
    )]
    let wait_for = |value| while line.0.load(Ordering::Acquire) != value {};
    let ticks = thread::scope(|scope| {
        scope.spawn(|| {
            pin(OTHER);
            for turn in 0..TIMES {
                wait_for(2 * turn + 1);
                line.0.store(2 * turn + 2, Ordering::Release);
            }
        });
        pin(FIRST);
        let mut begin = ticks();
        for turn in 0..TIMES {
            if turn == TIMES / 2 {
                begin = ticks();
            }
            line.0.store(2 * turn + 1, Ordering::Release);
            wait_for(2 * turn + 2);
        }
        ticks() - begin
    });
    ticks as f64 * span.ns_per_tick() / (TIMES / 2) as f64
}
