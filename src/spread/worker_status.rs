//! A worker's status: the worker writes it, the dispatcher reads it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::compare::Comparator;
use crate::frame::{Frame, Ticks};

/// No frame waits.
const NONE: u64 = u64::MAX;

/// Values of the worker's last poll. Only `done` is exact; the others are advisory, and the dispatcher asks the
/// worker in band before it acts on them.
#[derive(Debug)]
pub(super) struct WorkerStatus {
    done: AtomicU64,
    held: AtomicU64,
    frames: AtomicU64,
    flows: AtomicU64,
    /// Buffers of S received minus those kept. It may fall: a commit turns released P into kept S.
    secondary_freed: AtomicU64,
    primary_since: AtomicU64,
    secondary_since: AtomicU64,
}

impl Default for WorkerStatus {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            done: zero(),
            held: zero(),
            frames: zero(),
            flows: zero(),
            secondary_freed: zero(),
            primary_since: AtomicU64::new(NONE),
            secondary_since: AtomicU64::new(NONE),
        }
    }
}

impl WorkerStatus {
    /// Writes the status after `done` messages, which brought `secondary_buffers` buffers of S. The results of these
    /// messages must be in the rings already.
    pub(super) fn update<F: Frame>(
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
        set(&self.secondary_freed, secondary_buffers.wrapping_sub(kept));
        set(&self.primary_since, since(comparator.oldest_primary()));
        set(&self.secondary_since, since(comparator.oldest_secondary()));
        // Release: a dispatcher that reads `done` finds the values above and the results in the rings.
        self.done.store(done, Ordering::Release);
    }

    /// Frames and other messages that the worker has processed.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Buffers of S that the worker received and does not keep.
    pub(super) fn secondary_freed(&self) -> u64 {
        self.secondary_freed.load(Ordering::Relaxed)
    }

    /// P that wait.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed) as usize
    }

    /// Frames in the worker's comparator.
    pub(super) fn frames(&self) -> usize {
        self.frames.load(Ordering::Relaxed) as usize
    }

    /// Flows that the worker knows.
    pub(super) fn flows(&self) -> usize {
        self.flows.load(Ordering::Relaxed) as usize
    }

    /// Arrival of the oldest P that waits.
    pub(super) fn primary_since(&self) -> Option<Ticks> {
        Some(self.primary_since.load(Ordering::Relaxed)).filter(|since| *since != NONE)
    }

    /// Arrival of the oldest S that waits.
    pub(super) fn secondary_since(&self) -> Option<Ticks> {
        Some(self.secondary_since.load(Ordering::Relaxed)).filter(|since| *since != NONE)
    }
}
