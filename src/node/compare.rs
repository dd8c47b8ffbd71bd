//! The bare comparator's frames: two ports in, one out.

use std::thread;

use super::capture::{Tap, View};
use super::clock::Clock;
use super::counts::{self, Tally};
use super::lane::Lane;
use super::mailbox::{PollEnd, ToControl, ToPoll};
use super::primary::{LAST_TRIES, LAST_WAIT};
use super::stamps::Stamps;
use crate::dpdk::{Burst, Mbuf, tsc};
use crate::frame::Ticks;
use crate::monitor::capture::{Note, Place};
use crate::monitor::counters::{Counter, Writer};
use crate::monitor::latency::Recorder;
use crate::protect::{Bare, Reports};

/// One comparator on its poll core.
pub struct CompareNode {
    state: Bare<Mbuf>,
    primary_in: Lane,
    secondary_in: Lane,
    out: Lane,
    mail: PollEnd,
    /// P and S of this round.
    scratch: [Burst; 2],
    stamps: Stamps,
    tally: Tally,
    tap: Tap,
    clock: Clock,
}

impl CompareNode {
    /// A comparator that this core polls from now on.
    pub fn new(
        state: Bare<Mbuf>,
        [primary_in, secondary_in, out]: [Lane; 3],
        mail: PollEnd,
        tally: Tally,
        tap: Tap,
        clock: Clock,
    ) -> Self {
        Self {
            state,
            primary_in,
            secondary_in,
            out,
            mail,
            scratch: [Burst::new(), Burst::new()],
            stamps: Stamps::new(),
            tally,
            tap,
            clock,
        }
    }

    /// One round; true if it found work.
    pub fn poll(&mut self, now: Ticks) -> bool {
        while let Ok(message) = self.mail.inbox.pop() {
            if let ToPoll::Monitor(event) = message {
                self.tap.note(Note::Monitor(event));
                self.state.monitor(event, now);
                self.watch();
            }
        }
        self.watch();
        let mut busy = self.send_waiting();
        let [primary, secondary] = &mut self.scratch;
        let [most_p, most_s] = self.state.take_budget();
        if self.state.wants_secondary() {
            busy |= self.secondary_in.receive_most(secondary, most_s) > 0;
        }
        if self.state.wants_primary() {
            busy |= self.primary_in.receive_most(primary, most_p) > 0;
        }
        if !primary.is_empty() || !secondary.is_empty() {
            let epoch = self.state.epoch();
            self.tap.frames(Place::S, epoch, secondary);
            self.tap.frames(Place::P, epoch, primary);
            self.state
                .bursts(&mut primary.drain(), &mut secondary.drain(), now);
        }
        self.state.exchange(now);
        busy | self.release()
    }

    /// Tells a capture what has changed.
    fn watch(&mut self) {
        let state = &self.state;
        self.tap.watch(|| View {
            state: state.state(),
            epoch: state.epoch(),
            // Its epochs begin with commits and with nothing else.
            committed: Some(state.epoch()),
            alone: false,
            discarded: state.discarded(),
            reports: Reports::default(),
            witnessed: false,
        });
    }

    fn release(&mut self) -> bool {
        let mut any = false;
        while self.out.room() > 0 {
            let Some(release) = self.state.next_release() else {
                break;
            };
            self.stamps
                .push(release.arrived, release.cleared, release.witnessed);
            self.out.push(release.frame);
            any = true;
            if self.out.room() == 0 {
                self.send_waiting();
            }
        }
        any | self.send_waiting()
    }

    fn send_waiting(&mut self) -> bool {
        let left = self
            .tap
            .flush(Place::Out, self.state.epoch(), &mut self.out);
        if left > 0 {
            self.stamps
                .left(left, tsc::now(), self.clock, &mut self.tally.latency);
        }
        left > 0
    }

    /// What is due every now and then.
    pub fn tick(&mut self, now: Ticks) {
        self.state.tick(now);
        if self.mail.has_room()
            && let Some(divergence) = self.state.next_record()
        {
            let epoch = self.state.epoch();
            self.tap.note(Note::Divergence {
                reason: divergence.reason,
                flow: divergence.flow,
                epoch,
            });
            self.mail.post(ToControl::Record(divergence, epoch));
        }
        self.ask(now);
    }

    /// Passes a checkpoint request on.
    pub fn ask(&mut self, now: Ticks) {
        if self.mail.has_room()
            && let Some(request) = self.state.next_request(now)
        {
            self.tap.note(Note::Request {
                cause: request.cause,
            });
            self.mail.post(ToControl::Request(request));
        }
    }

    /// Makes the counters readable for others.
    pub fn publish(&mut self) {
        let writer = self.tally.writer();
        counts::lanes(writer, [&self.primary_in, &self.secondary_in, &self.out]);
        counts::front(writer, self.state.comparator());
        counts::checkpoints(writer, self.state.checkpoints());
        writer.set(Counter::SecondaryDroppedStale, self.state.stale());
        writer.set(Counter::Discarded, self.state.discarded());
        writer.set(Counter::ReportsLost, self.mail.lost);
        writer.set(Counter::Epoch, u64::from(self.state.epoch()));
        writer.set(Counter::Epochs, u64::from(self.state.epoch()));
        writer.set(Counter::State, self.state.state() as u64);
        self.tally.latency.publish();
    }

    /// Sends what is free to leave, as far as the port takes it in a bounded number of tries.
    pub fn finish(&mut self) {
        for _ in 0..LAST_TRIES {
            self.state.exchange(tsc::now());
            self.release();
            if !self.state.is_settled() {
                thread::sleep(LAST_WAIT);
            } else if self.out.is_idle() {
                return;
            }
        }
        for _ in 0..LAST_TRIES {
            let left = std::iter::from_fn(|| self.state.next_release());
            self.out.give_up(left.count());
            if self.state.is_settled() {
                return;
            }
            self.state.exchange(tsc::now());
        }
    }

    /// The histograms, at the end.
    pub fn into_recorder(self) -> Recorder {
        self.tally.latency
    }

    /// The counters' writer, for the poll loop's own.
    pub fn writer(&self) -> &Writer {
        self.tally.writer()
    }
}
