//! A comparator on a core of its own.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::{Consumer, Producer};

use super::control::{Change, Control};
use super::ring::{Amount, Message, Report, Run, WorkerEnd, push_some};
use super::worker_status::WorkerStatus;
use crate::compare::{Comparator, Divergence, Limits, Numbers, Policy, Release, Synchronized};
use crate::frame::{BURST, Frame};
use crate::packet::Packet;

/// Limit of one poll: frames and other messages processed, and P released.
const POLL_LIMIT: usize = 2 * BURST;

/// Compares the flows that the redirection table gives to its core.
pub struct Worker<F> {
    messages: Consumer<Message>,
    resets: Consumer<Packet>,
    primary: Consumer<F>,
    secondary: Consumer<F>,
    state: State<F>,
}

/// The comparator and the rings for its results. It is a struct of its own because it is borrowed together with the
/// input rings.
struct State<F> {
    comparator: Comparator<F>,
    releases: Producer<Release<F>>,
    reports: Producer<Report<F>>,
    status: Arc<CachePadded<WorkerStatus>>,
    generation: u32,
    /// Frames and other messages processed.
    done: u64,
    /// Buffers of the S among them.
    secondary_buffers: u64,
    /// The comparator's overflow counter as last reported.
    overflow_reported: u64,
    pending: Pending<F>,
}

/// Reports that wait for a free slot.
struct Pending<F> {
    /// While this waits, nothing is released.
    synchronized: Option<Synchronized>,
    overdue: Option<Option<Divergence<F>>>,
    discarded: Amount,
}

impl<F: Frame> Worker<F> {
    /// A worker with its comparator. Call it on the core that will poll the worker, so that the memory is local to that
    /// core. `limits` come from [`super::RedirectionTable::limits`]; `numbers` and `policy` are the dispatcher's.
    pub fn new(end: WorkerEnd<F>, limits: Limits, numbers: Numbers, policy: Policy) -> Self {
        let WorkerEnd {
            primary,
            secondary,
            messages,
            resets,
            releases,
            reports,
            status,
        } = end;
        Self {
            messages,
            resets,
            primary,
            secondary,
            state: State {
                comparator: Comparator::new(limits, numbers, policy),
                releases,
                reports,
                status,
                generation: 0,
                done: 0,
                secondary_buffers: 0,
                overflow_reported: 0,
                pending: Pending {
                    synchronized: None,
                    overdue: None,
                    discarded: Amount::default(),
                },
            },
        }
    }

    /// Processes messages, up to a limit, and sends results. Returns whether there was anything to do.
    pub fn poll(&mut self) -> bool {
        let mut taken = 0;
        while taken < POLL_LIMIT
            && let Ok(message) = self.messages.pop()
        {
            taken += self.process(message);
        }
        let answered = self.state.send_results();
        let busy = taken > 0 || answered;
        if busy {
            let state = &mut self.state;
            state.done += taken as u64;
            state
                .status
                .update(&state.comparator, state.done, state.secondary_buffers);
        }
        busy
    }

    /// Processes one message. Returns its number of frames, or 1 for any other message.
    #[inline]
    fn process(&mut self, message: Message) -> usize {
        match message {
            Message::Frames(run) => {
                let state = &mut self.state;
                state.compare(&mut self.primary, &mut self.secondary, run);
                return (run.primary + run.secondary) as usize;
            }
            Message::Control(control) => self.state.control(control),
            Message::ClientReset(now) => {
                // The dispatcher pushes the packet before the message.
                if let Ok(packet) = self.resets.pop() {
                    self.state.comparator.client_reset(&packet, now);
                }
            }
            Message::Age(now) => self.state.comparator.age(now, BURST),
            Message::Timeout(timeout) => self.state.comparator.set_timeout(timeout),
            Message::Overdue(now) => {
                self.state.pending.overdue = Some(self.state.comparator.overdue(now));
            }
            Message::Crowding(now) => {
                self.state.pending.overdue = Some(self.state.comparator.crowd(now));
            }
        }
        1
    }

    /// Whether the dispatcher is gone and every message is processed.
    pub fn is_over(&self) -> bool {
        self.messages.is_abandoned() && self.messages.is_empty()
    }

    /// The comparator, for its counters.
    pub fn comparator(&self) -> &Comparator<F> {
        &self.state.comparator
    }
}

impl<F: Frame> State<F> {
    fn compare(&mut self, primary: &mut Consumer<F>, secondary: &mut Consumer<F>, run: Run) {
        let (n, m) = (run.primary as usize, run.secondary as usize);
        let (Some(mut primary), Some(secondary)) = (upcoming(primary, n), upcoming(secondary, m))
        else {
            return;
        };
        let mut buffers = 0;
        self.comparator.reserve_room(run.scarce);
        let mut secondary = secondary.take(m).inspect(|s| buffers += s.buffers());
        self.comparator
            .ingest(&mut primary.by_ref().take(n), &mut secondary, run.now);
        // None is refused as a rule: the dispatcher counts the P of all cores.
        let left = n - primary.iterated();
        for refused in primary.take(left) {
            self.pending.discarded.frames += 1;
            self.pending.discarded.buffers += refused.buffers();
        }
        self.secondary_buffers += buffers as u64;
    }

    fn control(&mut self, Control { generation, change }: Control) {
        self.generation = generation;
        match change {
            Change::Fence => self.comparator.fence(),
            Change::Commit(now) => self.comparator.commit(now),
            Change::Discard => {
                let before = self.comparator.primary_buffers();
                self.pending.discarded.frames += self.comparator.discard();
                self.pending.discarded.buffers += before - self.comparator.primary_buffers();
            }
        }
        // ISNs and overflows of the ended epoch are void.
        self.pending.synchronized = None;
        while self.comparator.next_synchronized().is_some() {}
        self.overflow_reported = self.comparator.counts().secondary_overflow;
    }

    /// Sends reports and releases. Returns whether there were any.
    fn send_results(&mut self) -> bool {
        // Reports go first: a frame must not leave before the ISNs that it depends on.
        self.report() | (self.pending.synchronized.is_none() && self.release())
    }

    fn release(&mut self) -> bool {
        let comparator = &mut self.comparator;
        let released = std::iter::from_fn(|| comparator.next_release());
        push_some(&mut self.releases, POLL_LIMIT, released) > 0
    }

    fn report(&mut self) -> bool {
        let mut any = false;
        while self.reports.cached_slots() > 0 || !self.reports.is_full() {
            let Some(report) = self.next_report() else {
                return any;
            };
            any |= self.reports.push(report).is_ok();
        }
        if self.pending.synchronized.is_none() {
            self.pending.synchronized = self.comparator.next_synchronized();
        }
        any
    }

    fn next_report(&mut self) -> Option<Report<F>> {
        let generation = self.generation;
        let synchronized = self.pending.synchronized.take();
        if let Some(synchronized) = synchronized.or_else(|| self.comparator.next_synchronized()) {
            return Some(Report::Synchronized {
                generation,
                synchronized,
            });
        }
        if let Some(divergence) = self.comparator.take_divergence() {
            return Some(Report::Divergence {
                generation,
                divergence,
            });
        }
        let overflow = self.comparator.counts().secondary_overflow;
        if overflow != self.overflow_reported {
            self.overflow_reported = overflow;
            return Some(Report::Overflow { generation });
        }
        if let Some(divergence) = self.pending.overdue.take() {
            return Some(Report::Overdue {
                generation,
                divergence,
            });
        }
        let (frames, buffers) = self.comparator.take_divided();
        if frames > 0 {
            return Some(Report::Split(Amount { frames, buffers }));
        }
        let (frames, buffers) = self.comparator.take_dropped();
        if frames > 0 {
            return Some(Report::ResetDropped(Amount { frames, buffers }));
        }
        match std::mem::take(&mut self.pending.discarded) {
            Amount { frames: 0, .. } => None,
            discarded => Some(Report::Discarded(discarded)),
        }
    }
}

/// The next frames of a ring, at least `n`. The ring has `n`: a message follows its frames.
///
/// A cache miss on a line that another core wrote takes much longer than a comparison. So this call prefetches frames
/// that later calls will take, as far as the ring has them: the bytes of the next `n`, whose descriptors the call
/// before prefetched, and the descriptors of the `n` behind those.
#[inline]
fn upcoming<F: Frame>(
    ring: &mut Consumer<F>,
    n: usize,
) -> Option<rtrb::chunks::ReadChunkIntoIter<'_, F>> {
    let known = match ring.cached_slots() {
        known if known >= 2 * n => known,
        _ => ring.slots(),
    };
    debug_assert!(known >= n, "the frames of a message are in the ring");
    let chunk = ring.read_chunk(known.min(3 * n)).ok()?;
    let (first, second) = chunk.as_slices();
    let behind = |from: usize| first.iter().chain(second).skip(from);
    behind(2 * n).for_each(F::prefetch);
    behind(n).take(n).for_each(F::prefetch_head);
    Some(chunk.into_iter())
}
