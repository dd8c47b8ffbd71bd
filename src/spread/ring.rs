//! The rings between the dispatcher and one worker. Each has one producer and one consumer, and is allocated once.
//!
//! Frames have rings of their own, one for each VM, so that a cache line carries eight of them between the cores. The
//! messages carry their order, their times and the events between them: one message for all frames of a round.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use super::control::Control;
use super::worker_status::WorkerStatus;
use crate::compare::{Divergence, Release, Synchronized};
use crate::frame::Ticks;
use crate::packet::Packet;

/// An event that the dispatcher sends to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Frames of one epoch. They are in their rings before this message is sent.
    Frames(Run),
    /// The epoch ends, or is committed.
    Control(Control),
    /// Remove the flows that are idle.
    Age(Ticks),
    /// A client has reset a connection. Its packet is the next one in the ring of resets.
    ClientReset(Ticks),
    /// Frames that wait are overdue at this age from now on.
    Timeout(Ticks),
    /// Report the frame that is overdue, if any.
    Overdue(Ticks),
    /// Report who takes the room for P, if it is one flow or one kind of flows.
    Crowding(Ticks),
}

/// Frames that arrived at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Number of P.
    pub primary: u32,
    /// Number of S.
    pub secondary: u32,
    /// Little room for S is left on all cores together.
    pub scarce: bool,
    pub now: Ticks,
}

/// What a worker sends to the dispatcher besides releases. `generation` is that of the last [`Control`] that the worker
/// had processed.
pub(super) enum Report<F> {
    /// ISNs that the secondary must get before any later release leaves.
    Synchronized {
        generation: u32,
        synchronized: Synchronized,
    },
    /// A difference.
    Divergence {
        generation: u32,
        divergence: Divergence<F>,
    },
    /// The worker dropped an S, because it may keep no more.
    Overflow { generation: u32 },
    /// The answer to [`Message::Overdue`] or [`Message::Crowding`].
    Overdue {
        generation: u32,
        divergence: Option<Divergence<F>>,
    },
    /// P that the worker dropped for a discard, or because it may hold no more.
    Discarded(Amount),
    /// P that the worker added when it split P.
    Split(Amount),
    /// P that the worker dropped because their client had reset the connection.
    ResetDropped(Amount),
}

/// A number of P and of their buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub frames: usize,
    pub buffers: usize,
}

/// Slots of the ring of client resets. A reset that does not fit is dropped, which costs at most a checkpoint.
const RESETS: usize = 64;

/// Slots of each of a worker's rings, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// P to the worker, as many S, and as many messages.
    pub frames: usize,
    /// P that may leave.
    pub releases: usize,
    /// Reports of the worker.
    pub reports: usize,
}

impl Default for RingSizes {
    /// Some bursts: if the system preempts a worker for a moment, the dispatcher need not wait.
    fn default() -> Self {
        Self {
            frames: 1024,
            releases: 1024,
            reports: 64,
        }
    }
}

/// The dispatcher's end of one worker's rings.
pub struct DispatcherEnd<F> {
    pub(super) primary: Producer<F>,
    pub(super) secondary: Producer<F>,
    pub(super) messages: Producer<Message>,
    pub(super) resets: Producer<Packet>,
    pub(super) releases: Consumer<Release<F>>,
    pub(super) reports: Consumer<Report<F>>,
    pub(super) status: Arc<CachePadded<WorkerStatus>>,
}

/// The worker's end of its rings.
pub struct WorkerEnd<F> {
    pub(super) primary: Consumer<F>,
    pub(super) secondary: Consumer<F>,
    pub(super) messages: Consumer<Message>,
    pub(super) resets: Consumer<Packet>,
    pub(super) releases: Producer<Release<F>>,
    pub(super) reports: Producer<Report<F>>,
    pub(super) status: Arc<CachePadded<WorkerStatus>>,
}

/// Makes one worker's rings and returns their two ends.
pub fn rings<F>(sizes: RingSizes) -> (DispatcherEnd<F>, WorkerEnd<F>) {
    let (p_to_worker, p_from_dispatcher) = RingBuffer::new(sizes.frames.max(1));
    let (s_to_worker, s_from_dispatcher) = RingBuffer::new(sizes.frames.max(1));
    let (to_worker, from_dispatcher) = RingBuffer::new(sizes.frames.max(1));
    let (resets_to_worker, resets_from_dispatcher) = RingBuffer::new(RESETS);
    let (send_release, released) = RingBuffer::new(sizes.releases.max(1));
    let (send_report, reported) = RingBuffer::new(sizes.reports.max(1));
    let status = Arc::default();
    (
        DispatcherEnd {
            primary: p_to_worker,
            secondary: s_to_worker,
            messages: to_worker,
            resets: resets_to_worker,
            releases: released,
            reports: reported,
            status: Arc::clone(&status),
        },
        WorkerEnd {
            primary: p_from_dispatcher,
            secondary: s_from_dispatcher,
            messages: from_dispatcher,
            resets: resets_from_dispatcher,
            releases: send_release,
            reports: send_report,
            status,
        },
    )
}

/// Free slots of a ring. The value is exact only below `wanted`.
#[inline]
pub(super) fn free<T>(ring: &Producer<T>, wanted: usize) -> usize {
    match ring.cached_slots() {
        free if free >= wanted => free,
        _ => ring.slots(),
    }
}

/// Moves up to `n` items into a ring, as many as fit. Returns their number.
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
        // Not reached: the consumer only frees slots.
        Err(ChunkError::TooFewSlots(_)) => 0,
    }
}
