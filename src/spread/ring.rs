//! The rings between the front and one worker: single producer, single consumer, allocated once.
//!
//! Frames have rings of their own, one for each VM, and nothing else is in there: a cache line that
//! goes from core to core carries eight. In which order they came, when, and what came between them
//! is told by messages, one for all frames that a round of the poll loop found.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use super::control::Control;
use super::gauge::Gauge;
use crate::compare::{Divergence, Release, Synchronized};
use crate::frame::Ticks;
use crate::packet::Packet;

/// What the front tells a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Frames that the VMs sent, those of the SVM in the same epoch. They are in their rings before
    /// they are told of.
    Frames(Run),
    /// The epoch ends, or was committed.
    Control(Control),
    /// Quiet flows are to be forgotten.
    Age(Ticks),
    /// A client has reset a connection: the next of the resets' ring.
    ClientReset(Ticks),
    /// What has waited for too long is to be reported.
    Overdue(Ticks),
}

/// Frames that arrived at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// P.
    pub primary: u32,
    /// S.
    pub secondary: u32,
    pub now: Ticks,
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
    /// The number of P dropped because their client had reset the connection.
    ResetDropped(Amount),
}

/// Some P and the buffers that they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub frames: usize,
    pub buffers: usize,
}

/// Resets by clients that may be on their way to a worker. One that finds no room costs a checkpoint
/// at most.
const RESETS: usize = 64;

/// Items that may be on their way in each of a worker's rings, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// P from the front, as many S, and as many messages about them.
    pub frames: usize,
    /// P that may leave.
    pub releases: usize,
    /// Everything else that a worker says.
    pub reports: usize,
}

impl Default for Sizes {
    /// A few bursts, so that a worker that the system holds up for a moment holds up nobody else.
    fn default() -> Self {
        Self {
            frames: 1024,
            releases: 1024,
            reports: 64,
        }
    }
}

/// The front's end.
pub struct FrontEnd<F> {
    pub(super) primary: Producer<F>,
    pub(super) secondary: Producer<F>,
    pub(super) messages: Producer<Message>,
    pub(super) resets: Producer<Packet>,
    pub(super) releases: Consumer<Release<F>>,
    pub(super) reports: Consumer<Report<F>>,
    pub(super) gauge: Arc<CachePadded<Gauge>>,
}

/// A worker's end.
pub struct WorkerEnd<F> {
    pub(super) primary: Consumer<F>,
    pub(super) secondary: Consumer<F>,
    pub(super) messages: Consumer<Message>,
    pub(super) resets: Consumer<Packet>,
    pub(super) releases: Producer<Release<F>>,
    pub(super) reports: Producer<Report<F>>,
    pub(super) gauge: Arc<CachePadded<Gauge>>,
}

/// The two ends of one worker's rings.
pub fn ends<F>(sizes: Sizes) -> (FrontEnd<F>, WorkerEnd<F>) {
    let (p_to_worker, p_from_front) = RingBuffer::new(sizes.frames.max(1));
    let (s_to_worker, s_from_front) = RingBuffer::new(sizes.frames.max(1));
    let (to_worker, from_front) = RingBuffer::new(sizes.frames.max(1));
    let (resets_to_worker, resets_from_front) = RingBuffer::new(RESETS);
    let (give_back, released) = RingBuffer::new(sizes.releases.max(1));
    let (tell, told) = RingBuffer::new(sizes.reports.max(1));
    let gauge = Arc::default();
    (
        FrontEnd {
            primary: p_to_worker,
            secondary: s_to_worker,
            messages: to_worker,
            resets: resets_to_worker,
            releases: released,
            reports: told,
            gauge: Arc::clone(&gauge),
        },
        WorkerEnd {
            primary: p_from_front,
            secondary: s_from_front,
            messages: from_front,
            resets: resets_from_front,
            releases: give_back,
            reports: tell,
            gauge,
        },
    )
}

/// Slots of a ring that are free, as far as `wanted` asks to know.
#[inline]
pub(super) fn free<T>(ring: &Producer<T>, wanted: usize) -> usize {
    match ring.cached_slots() {
        free if free >= wanted => free,
        _ => ring.slots(),
    }
}

/// Moves up to `n` items into a ring, as far as there is room; returns how many.
#[inline]
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
