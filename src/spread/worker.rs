//! A comparator on a core of its own.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::{Consumer, Producer};

use super::BURST;
use super::control::{Change, Control};
use super::gauge::Gauge;
use super::ring::{Amount, Message, Report, WorkerEnd, push_some};
use crate::compare::{Comparator, Divergence, Limits, Numbers, Policy, Release, Synchronized};
use crate::frame::{Frame, Ticks};

/// One worker's share of a VM pair's flows.
pub struct Worker<F> {
    messages: Consumer<Message<F>>,
    share: Share<F>,
}

/// All but the ring that it is told through.
struct Share<F> {
    comparator: Comparator<F>,
    releases: Producer<Release<F>>,
    reports: Producer<Report<F>>,
    gauge: Arc<CachePadded<Gauge>>,
    generation: u32,
    now: Ticks,
    /// Messages worked through.
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
            messages,
            releases,
            reports,
            gauge,
        } = end;
        Self {
            messages,
            share: Share {
                comparator: Comparator::new(limits, numbers, policy),
                releases,
                reports,
                gauge,
                generation: 0,
                now: 0,
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

    /// Works through a burst of messages; true if there was anything to do.
    pub fn poll(&mut self) -> bool {
        let waiting = self.messages.slots().min(BURST);
        if let Ok(chunk) = self.messages.read_chunk(waiting) {
            for message in chunk {
                self.share.take(message);
            }
        }
        let answered = self.share.answer();
        let busy = waiting > 0 || answered;
        if busy {
            let share = &mut self.share;
            share.done += waiting as u64;
            share
                .gauge
                .show(&share.comparator, share.done, share.secondary_buffers);
        }
        busy
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
    fn take(&mut self, message: Message<F>) {
        match message {
            Message::Primary(frame) => {
                // The front counts, so that one always fits.
                if let Err(refused) = self.comparator.primary(frame, self.now) {
                    self.due.discarded.frames += 1;
                    self.due.discarded.buffers += refused.buffers();
                }
            }
            Message::Secondary(frame) => {
                self.secondary_buffers += frame.buffers() as u64;
                self.comparator.secondary(frame, self.now);
            }
            Message::Now(now) => self.now = now,
            Message::Control(control) => self.control(control),
            Message::Age => self.comparator.age(self.now, BURST),
            Message::Overdue => self.due.overdue = Some(self.comparator.overdue(self.now)),
        }
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
        push_some(&mut self.releases, BURST, released) > 0
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
        match std::mem::take(&mut self.due.discarded) {
            Amount { frames: 0, .. } => None,
            discarded => Some(Report::Discarded(discarded)),
        }
    }
}
