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
    Discarded(usize),
}

/// Messages that may be on their way.
const MESSAGES: usize = 1024;
/// Releases that may be on their way.
const RELEASES: usize = 1024;
/// Reports that may be on their way.
pub(super) const REPORTS: usize = 64;

/// Frames that the rings of one worker hold at most, in both directions.
pub const IN_RINGS: usize = MESSAGES + RELEASES + 8 * BURST;

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
pub fn ends<F>() -> (FrontEnd<F>, WorkerEnd<F>) {
    let (to_worker, from_front) = RingBuffer::new(MESSAGES);
    let (give_back, released) = RingBuffer::new(RELEASES);
    let (tell, told) = RingBuffer::new(REPORTS);
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
