//! The rings between the front and one worker: single producer, single consumer, allocated once.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use super::BURST;
use super::control::Control;
use super::gauge::Gauge;
use crate::compare::{Divergence, Release, Synchronized};
use crate::frame::Ticks;

/// What the front tells a worker. Two words, so that a cache line carries four.
pub(super) enum Message<F> {
    /// The time from here on.
    Now(Ticks),
    /// A frame that the PVM sent.
    Primary(F),
    /// A frame that the SVM sent in the same epoch.
    Secondary(F),
    /// The epoch ends, or was committed.
    Control(Control),
    /// Quiet flows are to be forgotten.
    Age,
    /// What has waited for too long is to be reported.
    Overdue,
}

/// What a worker tells the front besides releases. `generation` is that of the last [`Control`]
/// that the worker had seen.
pub(super) enum Report<F> {
    /// ISNs that must be told before any frame released later leaves.
    Synchronized {
        generation: u32,
        synchronized: Synchronized,
    },
    /// A difference.
    Divergence {
        generation: u32,
        divergence: Divergence<F>,
    },
    /// An S found no room.
    Overflow { generation: u32 },
    /// The answer to [`Message::Overdue`].
    Overdue {
        generation: u32,
        divergence: Option<Divergence<F>>,
    },
    /// So many P were dropped as a discard asks.
    Discarded(Amount),
    /// So many P became of others than came, since parts of long ones left.
    Divided(Amount),
}

/// Some P and the buffers that they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub frames: usize,
    pub buffers: usize,
}

/// Items that may be on their way in each of a worker's rings, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// From the front: frames, the time, controls.
    pub messages: usize,
    /// P that may leave.
    pub releases: usize,
    /// Everything else that a worker says.
    pub reports: usize,
}

impl Default for Sizes {
    /// A few bursts, so that a worker that the system holds up for a moment holds up nobody else.
    fn default() -> Self {
        Self {
            messages: 1024,
            releases: 1024,
            reports: 64,
        }
    }
}

/// Messages that may wait for the ring: a burst that waited before, a burst each of P and S, the
/// time before each of them, and a few controls.
pub(super) const STAGED: usize = 8 * BURST;

/// The front's end.
pub struct FrontEnd<F> {
    pub(super) messages: Producer<Message<F>>,
    pub(super) releases: Consumer<Release<F>>,
    pub(super) reports: Consumer<Report<F>>,
    pub(super) gauge: Arc<CachePadded<Gauge>>,
}

/// A worker's end.
pub struct WorkerEnd<F> {
    pub(super) messages: Consumer<Message<F>>,
    pub(super) releases: Producer<Release<F>>,
    pub(super) reports: Producer<Report<F>>,
    pub(super) gauge: Arc<CachePadded<Gauge>>,
}

/// The two ends of one worker's rings.
pub fn ends<F>(sizes: Sizes) -> (FrontEnd<F>, WorkerEnd<F>) {
    let (to_worker, from_front) = RingBuffer::new(sizes.messages.max(1));
    let (give_back, released) = RingBuffer::new(sizes.releases.max(1));
    let (tell, told) = RingBuffer::new(sizes.reports.max(1));
    let gauge = Arc::default();
    (
        FrontEnd {
            messages: to_worker,
            releases: released,
            reports: told,
            gauge: Arc::clone(&gauge),
        },
        WorkerEnd {
            messages: from_front,
            releases: give_back,
            reports: tell,
            gauge,
        },
    )
}

/// Moves up to `n` items into a ring, as far as there is room; returns how many.
pub(super) fn push_some<T>(
    ring: &mut Producer<T>,
    n: usize,
    items: impl Iterator<Item = T>,
) -> usize {
    let n = match ring.write_chunk_uninit(n) {
        Ok(chunk) => return chunk.fill_from_iter(items),
        Err(ChunkError::TooFewSlots(n)) => n,
    };
    match ring.write_chunk_uninit(n) {
        Ok(chunk) => chunk.fill_from_iter(items),
        // A consumer only makes room.
        Err(ChunkError::TooFewSlots(_)) => 0,
    }
}
