//! A comparator on a core of its own.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::{Consumer, Producer};

use super::control::{Change, Control};
use super::gauge::Gauge;
use super::ring::{Amount, Message, Report, Run, WorkerEnd, push_some};
use crate::compare::{Comparator, Divergence, Limits, Numbers, Policy, Release, Synchronized};
use crate::frame::{BURST, Frame};
use crate::packet::Packet;

/// Frames and other messages after which a worker answers, and releases that it gives back then.
const MOST: usize = 2 * BURST;

/// One worker's share of a VM pair's flows.
pub struct Worker<F> {
    messages: Consumer<Message>,
    resets: Consumer<Packet>,
    primary: Consumer<F>,
    secondary: Consumer<F>,
    share: Share<F>,
}

/// All but the rings that it is told through.
struct Share<F> {
    comparator: Comparator<F>,
    releases: Producer<Release<F>>,
    reports: Producer<Report<F>>,
    gauge: Arc<CachePadded<Gauge>>,
    generation: u32,
    /// Frames and other messages worked through.
    done: u64,
    /// Buffers of the S among them.
    secondary_buffers: u64,
    overflow_seen: u64,
    due: Due<F>,
}

/// What waits for room among the reports.
struct Due<F> {
    /// While it waits nothing is released.
    synchronized: Option<Synchronized>,
    overdue: Option<Option<Divergence<F>>>,
    discarded: Amount,
}

impl<F: Frame> Worker<F> {
    /// A worker with its comparator; to be called on the core that will run it, where its memory
    /// is then close by. The bounds and the policy are those that the front was made with.
    pub fn new(end: WorkerEnd<F>, limits: Limits, numbers: Numbers, policy: Policy) -> Self {
        let WorkerEnd {
            primary,
            secondary,
            messages,
            resets,
            releases,
            reports,
            gauge,
        } = end;
        Self {
            messages,
            resets,
            primary,
            secondary,
            share: Share {
                comparator: Comparator::new(limits, numbers, policy),
                releases,
                reports,
                gauge,
                generation: 0,
                done: 0,
                secondary_buffers: 0,
                overflow_seen: 0,
                due: Due {
                    synchronized: None,
                    overdue: None,
                    discarded: Amount::default(),
                },
            },
        }
    }

    /// Works through what the front has told, some bursts at most; true if there was anything to do.
    pub fn poll(&mut self) -> bool {
        let mut taken = 0;
        while taken < MOST
            && let Ok(message) = self.messages.pop()
        {
            taken += self.take(message);
        }
        let answered = self.share.answer();
        let busy = taken > 0 || answered;
        if busy {
            let share = &mut self.share;
            share.done += taken as u64;
            share
                .gauge
                .show(&share.comparator, share.done, share.secondary_buffers);
        }
        busy
    }

    /// Does what a message says; returns for how many frames or other messages it stands.
    #[inline]
    fn take(&mut self, message: Message) -> usize {
        match message {
            Message::Frames(run) => {
                let share = &mut self.share;
                share.frames(&mut self.primary, &mut self.secondary, run);
                return (run.primary + run.secondary) as usize;
            }
            Message::Control(control) => self.share.control(control),
            Message::ClientReset(now) => {
                // It was there before the message.
                if let Ok(packet) = self.resets.pop() {
                    self.share.comparator.client_reset(&packet, now);
                }
            }
            Message::Age(now) => self.share.comparator.age(now, BURST),
            Message::Overdue(now) => {
                self.share.due.overdue = Some(self.share.comparator.overdue(now));
            }
        }
        1
    }

    /// Whether the front is gone and nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.messages.is_abandoned() && self.messages.is_empty()
    }

    /// The comparator, for its counters.
    pub fn comparator(&self) -> &Comparator<F> {
        &self.share.comparator
    }
}

impl<F: Frame> Share<F> {
    fn frames(&mut self, primary: &mut Consumer<F>, secondary: &mut Consumer<F>, run: Run) {
        let (n, m) = (run.primary as usize, run.secondary as usize);
        let (Some(mut primary), Some(secondary)) = (upcoming(primary, n), upcoming(secondary, m))
        else {
            return;
        };
        let mut buffers = 0;
        let mut secondary = secondary.take(m).inspect(|s| buffers += s.buffers());
        self.comparator
            .ingest(&mut primary.by_ref().take(n), &mut secondary, run.now);
        // The front counts, so that all P fit.
        let left = n - primary.iterated();
        for refused in primary.take(left) {
            self.due.discarded.frames += 1;
            self.due.discarded.buffers += refused.buffers();
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
                self.due.discarded.frames += self.comparator.discard();
                self.due.discarded.buffers += before - self.comparator.primary_buffers();
            }
        }
        // What the epoch before would have asked for, the change has settled.
        self.due.synchronized = None;
        while self.comparator.next_synchronized().is_some() {}
        self.overflow_seen = self.comparator.counts().secondary_overflow;
    }

    /// Gives the front what it may have; true if there was anything.
    fn answer(&mut self) -> bool {
        // Reports before releases: a frame must not leave before the ISNs that it depends on.
        self.report() | (self.due.synchronized.is_none() && self.release())
    }

    fn release(&mut self) -> bool {
        let comparator = &mut self.comparator;
        let released = std::iter::from_fn(|| comparator.next_release());
        push_some(&mut self.releases, MOST, released) > 0
    }

    fn report(&mut self) -> bool {
        let mut any = false;
        while self.reports.cached_slots() > 0 || !self.reports.is_full() {
            let Some(report) = self.next_report() else {
                return any;
            };
            any |= self.reports.push(report).is_ok();
        }
        if self.due.synchronized.is_none() {
            self.due.synchronized = self.comparator.next_synchronized();
        }
        any
    }

    fn next_report(&mut self) -> Option<Report<F>> {
        let generation = self.generation;
        let synchronized = self.due.synchronized.take();
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
        if overflow != self.overflow_seen {
            self.overflow_seen = overflow;
            return Some(Report::Overflow { generation });
        }
        if let Some(divergence) = self.due.overdue.take() {
            return Some(Report::Overdue {
                generation,
                divergence,
            });
        }
        let (frames, buffers) = self.comparator.take_divided();
        if frames > 0 {
            return Some(Report::Divided(Amount { frames, buffers }));
        }
        let (frames, buffers) = self.comparator.take_dropped();
        if frames > 0 {
            return Some(Report::ResetDropped(Amount { frames, buffers }));
        }
        match std::mem::take(&mut self.due.discarded) {
            Amount { frames: 0, .. } => None,
            discarded => Some(Report::Discarded(discarded)),
        }
    }
}

/// The next frames of a ring, at least `n`, which it has: no frame is told of that is not there.
///
/// Another core has written them last, and it takes far longer to get a line from there than to compare a
/// frame. So those behind the `n`, as far as they have come, are asked for now: where the next `n`
/// lie was asked for a call ago.
#[inline]
fn upcoming<F: Frame>(
    ring: &mut Consumer<F>,
    n: usize,
) -> Option<rtrb::chunks::ReadChunkIntoIter<'_, F>> {
    let known = match ring.cached_slots() {
        known if known >= 2 * n => known,
        _ => ring.slots(),
    };
    debug_assert!(known >= n, "all frames that were told of are there");
    let chunk = ring.read_chunk(known.min(3 * n)).ok()?;
    let (first, second) = chunk.as_slices();
    let behind = |from: usize| first.iter().chain(second).skip(from);
    behind(2 * n).for_each(F::prefetch);
    behind(n).take(n).for_each(F::prefetch_head);
    Some(chunk.into_iter())
}
