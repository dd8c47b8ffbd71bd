//! What a worker shows of itself: written by the worker alone, read by the front.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::compare::Comparator;
use crate::frame::{Frame, Ticks};

/// No frame waits.
const NONE: u64 = u64::MAX;

/// Values of a moment ago. All but the first are guides; what depends on them is asked for in band.
#[derive(Debug)]
pub(super) struct Gauge {
    done: AtomicU64,
    held: AtomicU64,
    frames: AtomicU64,
    flows: AtomicU64,
    /// Buffers of S that came minus those that are kept; P that a commit let leave are kept as S, too, so that
    /// this may fall.
    gone: AtomicU64,
    primary_since: AtomicU64,
    secondary_since: AtomicU64,
}

impl Default for Gauge {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            done: zero(),
            held: zero(),
            frames: zero(),
            flows: zero(),
            gone: zero(),
            primary_since: AtomicU64::new(NONE),
            secondary_since: AtomicU64::new(NONE),
        }
    }
}

impl Gauge {
    /// Shows a comparator after `done` messages, among them S of so many buffers. What these led to is in
    /// the rings by now.
    pub(super) fn show<F: Frame>(
        &self,
        comparator: &Comparator<F>,
        done: u64,
        secondary_buffers: u64,
    ) {
        let set = |cell: &AtomicU64, value: u64| cell.store(value, Ordering::Relaxed);
        let since = |waiting: Option<Ticks>| waiting.unwrap_or(NONE);
        set(&self.held, comparator.held() as u64);
        set(&self.frames, comparator.frames() as u64);
        set(&self.flows, comparator.flows() as u64);
        let kept = comparator.secondary_buffers() as u64;
        set(&self.gone, secondary_buffers.wrapping_sub(kept));
        set(&self.primary_since, since(comparator.oldest_primary()));
        set(&self.secondary_since, since(comparator.oldest_secondary()));
        self.done.store(done, Ordering::Release);
    }

    /// Messages that the worker has worked through.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// What is to be taken from the buffers of S that it got, so that those remain that it keeps.
    pub(super) fn gone(&self) -> u64 {
        self.gone.load(Ordering::Relaxed)
    }

    /// P that wait.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed) as usize
    }

    /// Frames in its comparator.
    pub(super) fn frames(&self) -> usize {
        self.frames.load(Ordering::Relaxed) as usize
    }

    /// Flows that it knows.
    pub(super) fn flows(&self) -> usize {
        self.flows.load(Ordering::Relaxed) as usize
    }

    /// Arrival of its oldest P that waits.
    pub(super) fn primary_since(&self) -> Option<Ticks> {
        Some(self.primary_since.load(Ordering::Relaxed)).filter(|since| *since != NONE)
    }

    /// Arrival of its oldest S that waits.
    pub(super) fn secondary_since(&self) -> Option<Ticks> {
        Some(self.secondary_since.load(Ordering::Relaxed)).filter(|since| *since != NONE)
    }
}
