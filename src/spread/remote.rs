//! One worker as the front sees it.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::{Consumer, Producer};

use super::control::{Change, Control};
use super::gauge::Gauge;
use super::lane::Lane;
use super::ring::{Amount, FrontEnd, Message, Report, Run};
use crate::compare::Release;
use crate::frame::{BURST, Frame, Ticks};
use crate::packet::Packet;

/// Messages that may wait for the ring: one for each frame that does, and some controls.
const WAITING: usize = 8 * BURST;

/// The front's side of one worker.
pub(super) struct Remote<F> {
    primary: Lane<F>,
    secondary: Lane<F>,
    messages: Producer<Message>,
    resets: Producer<Packet>,
    /// What the rings have not taken yet.
    waiting: VecDeque<Message>,
    releases: Consumer<Release<F>>,
    /// Releases that may be taken: what they depend on is known.
    ready: usize,
    reports: Consumer<Report<F>>,
    gauge: Arc<CachePadded<Gauge>>,
    /// Frames and other messages that the worker was told of.
    sent: u64,
    /// P that the worker got and has not given back, and their buffers. Less than none while a part
    /// of a long P is back before it was told of.
    outside: isize,
    outside_buffers: isize,
    /// Buffers of the S that the worker got.
    secondary_buffers: u64,
    /// What had been sent at a point in time, and that point.
    mark: (u64, Ticks),
}

impl<F: Frame> Remote<F> {
    pub(super) fn new(end: FrontEnd<F>) -> Self {
        let FrontEnd {
            primary,
            secondary,
            messages,
            resets,
            releases,
            reports,
            gauge,
        } = end;
        Self {
            primary: Lane::new(primary),
            secondary: Lane::new(secondary),
            messages,
            resets,
            waiting: VecDeque::with_capacity(WAITING),
            releases,
            ready: 0,
            reports,
            gauge,
            sent: 0,
            outside: 0,
            outside_buffers: 0,
            secondary_buffers: 0,
            mark: (0, 0),
        }
    }

    /// Buffers of the P that the worker got and has not given back.
    #[inline]
    pub(super) fn primary_buffers(&self) -> usize {
        self.outside_buffers.max(0) as usize
    }

    /// Buffers of the S that it keeps or has not come to.
    pub(super) fn secondary_buffers(&self) -> usize {
        self.secondary_buffers.wrapping_sub(self.gauge.gone()) as usize
    }

    /// Whether it has come to all that it was told.
    pub(super) fn is_idle(&self) -> bool {
        self.sent == self.gauge.done()
    }

    /// P that wait.
    pub(super) fn held(&self) -> usize {
        self.gauge.held()
    }

    /// Flows that it knows.
    pub(super) fn flows(&self) -> usize {
        self.gauge.flows()
    }

    /// Frames in its comparator and its rings, as far as is known.
    pub(super) fn frames(&self) -> usize {
        let told = self.sent - self.gauge.done();
        self.gauge.frames() + told as usize + self.releases.slots()
    }

    /// Arrival of its oldest P that waits.
    pub(super) fn primary_since(&self) -> Option<Ticks> {
        self.gauge.primary_since()
    }

    /// Arrival of its oldest S that waits.
    pub(super) fn secondary_since(&self) -> Option<Ticks> {
        self.gauge.secondary_since()
    }

    /// Whether a burst each of P and S finds room.
    pub(super) fn is_ready(&self) -> bool {
        self.primary.waiting() <= BURST && self.secondary.waiting() <= BURST
    }

    /// P that find room.
    #[inline]
    pub(super) fn primary_room(&self) -> usize {
        self.primary.room()
    }

    /// S that find room.
    #[inline]
    pub(super) fn secondary_room(&self) -> usize {
        self.secondary.room()
    }

    /// Whether it has done all that it was told and everything of that was taken.
    pub(super) fn is_settled(&self) -> bool {
        self.is_idle()
            && self.releases.is_empty()
            && self.reports.is_empty()
            && self.outside == self.held() as isize
    }

    /// Passes on P, and S of so many buffers, for which there is room.
    #[inline]
    pub(super) fn pass(
        &mut self,
        primary: impl ExactSizeIterator<Item = F>,
        secondary: impl ExactSizeIterator<Item = F>,
        secondary_buffers: usize,
        now: Ticks,
    ) {
        let run = Run {
            primary: primary.len() as u32,
            secondary: secondary.len() as u32,
            now,
        };
        let mut buffers = 0;
        let primary = primary.inspect(|p| buffers += p.buffers());
        if self.waiting.is_empty()
            && !self.messages.is_full()
            && self.primary.takes(primary.len())
            && self.secondary.takes(secondary.len())
        {
            self.primary.pass(primary);
            self.secondary.pass(secondary);
            let pushed = self.messages.push(Message::Frames(run));
            debug_assert!(pushed.is_ok(), "there was room");
        } else {
            self.primary.keep(primary);
            self.secondary.keep(secondary);
            self.waiting.push_back(Message::Frames(run));
            self.flush();
        }
        self.note(run, buffers, secondary_buffers);
    }

    #[inline]
    fn note(&mut self, run: Run, primary_buffers: usize, secondary_buffers: usize) {
        self.sent += u64::from(run.primary) + u64::from(run.secondary);
        self.outside += run.primary as isize;
        self.outside_buffers += primary_buffers as isize;
        self.secondary_buffers += secondary_buffers as u64;
    }

    /// Moves what waits into the rings, as far as those have room.
    pub(super) fn flush(&mut self) {
        while let Some(message) = self.waiting.front_mut() {
            if self.messages.is_full() {
                return;
            }
            let mut whole = true;
            let mut told = *message;
            if let (Message::Frames(left), Message::Frames(told)) = (message, &mut told) {
                // A burst stays whole, unless the rings are too short for it.
                told.primary = left.primary.min(self.primary.capacity());
                told.secondary = left.secondary.min(self.secondary.capacity());
                let (p, s) = (told.primary as usize, told.secondary as usize);
                if !self.primary.takes(p) || !self.secondary.takes(s) {
                    return;
                }
                self.primary.flush(p);
                self.secondary.flush(s);
                left.primary -= told.primary;
                left.secondary -= told.secondary;
                whole = left.primary + left.secondary == 0;
            }
            let pushed = self.messages.push(told);
            debug_assert!(pushed.is_ok(), "there was room");
            if whole {
                self.waiting.pop_front();
            }
        }
    }

    /// Tells of something else than frames, behind everything that came before.
    fn tell(&mut self, message: Message) {
        self.sent += 1;
        self.waiting.push_back(message);
        self.flush();
    }

    /// There is always room: only a worker that stands still over some hundred checkpoints makes the
    /// list grow.
    pub(super) fn change(&mut self, change: Change, generation: u32) {
        self.tell(Message::Control(Control { generation, change }));
    }

    /// Tells that a client has reset a connection, behind all frames that came before; if there is no room, the
    /// worker does not hear of it.
    pub(super) fn client_reset(&mut self, packet: &Packet, now: Ticks) {
        if self.resets.push(*packet).is_ok() {
            self.tell(Message::ClientReset(now));
        }
    }

    /// Has quiet flows forgotten, if the worker is not behind anyway.
    pub(super) fn age(&mut self, now: Ticks) {
        self.flush();
        if self.waiting.is_empty() {
            self.tell(Message::Age(now));
        }
    }

    /// Asks for what is overdue; false if the worker is behind.
    pub(super) fn ask(&mut self, now: Ticks) -> bool {
        self.flush();
        let ready = self.waiting.is_empty();
        if ready {
            self.tell(Message::Overdue(now));
        }
        ready
    }

    /// Whether the worker has P and has not come to what it was told for longer than `timeout`. A
    /// stall is told once in that time.
    pub(super) fn stalls(&mut self, now: Ticks, timeout: Ticks) -> bool {
        let (sent, since) = self.mark;
        if self.gauge.done() >= sent {
            self.mark = (self.sent, now);
            return false;
        }
        let stalls = self.outside > 0 && now.saturating_sub(since) >= timeout;
        if stalls {
            self.mark.1 = now;
        }
        stalls
    }

    /// Whether there are releases that may be taken.
    #[inline]
    pub(super) fn has_releases(&self) -> bool {
        self.ready > 0
    }

    /// Lets the releases that are there be taken. What they depend on is among the reports by now.
    pub(super) fn admit_releases(&mut self) {
        self.ready = self.releases.slots();
    }

    /// The next release.
    #[inline]
    pub(super) fn next_release(&mut self) -> Option<Release<F>> {
        if self.ready == 0 {
            return None;
        }
        let release = self.releases.pop().ok()?;
        self.ready -= 1;
        self.outside -= 1;
        self.outside_buffers -= release.frame.buffers() as isize;
        Some(release)
    }

    /// Reports that the ring holds at most.
    pub(super) fn most_reports(&self) -> usize {
        self.reports.buffer().capacity()
    }

    /// The worker's next report.
    pub(super) fn next_report(&mut self) -> Option<Report<F>> {
        let report = self.reports.pop().ok()?;
        let (more, less) = match report {
            Report::Divided(n) => (n, Amount::default()),
            Report::Discarded(n) | Report::ResetDropped(n) => (Amount::default(), n),
            _ => return Some(report),
        };
        self.outside += more.frames as isize - less.frames as isize;
        self.outside_buffers += more.buffers as isize - less.buffers as isize;
        Some(report)
    }
}
