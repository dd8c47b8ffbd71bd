//! The dispatcher's handle of one worker.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use rtrb::{Consumer, Producer};

use super::control::{Change, Control};
use super::frame_queue::FrameQueue;
use super::ring::{Amount, DispatcherEnd, Message, Report, Run};
use super::worker_status::WorkerStatus;
use crate::compare::Release;
use crate::frame::{BURST, Frame, Ticks};
use crate::packet::Packet;

/// Messages that may wait for the ring: one for each frame that waits, and some controls.
const WAITING: usize = 8 * BURST;

/// Sends frames and events to one worker and takes its results.
pub(super) struct WorkerHandle<F> {
    primary: FrameQueue<F>,
    secondary: FrameQueue<F>,
    messages: Producer<Message>,
    resets: Producer<Packet>,
    /// Messages that wait for a free slot of the rings.
    waiting: VecDeque<Message>,
    releases: Consumer<Release<F>>,
    /// Releases that may leave: the reports that they depend on have been read.
    admitted: usize,
    reports: Consumer<Report<F>>,
    status: Arc<CachePadded<WorkerStatus>>,
    /// Frames and other messages sent to the worker.
    sent: u64,
    /// P sent to the worker and not returned, and their buffers. Negative while a part of a split P has returned before
    /// the report of the split.
    outstanding: isize,
    outstanding_buffers: isize,
    /// Buffers of the S sent to the worker.
    secondary_buffers: u64,
    /// The value of `sent` at the last progress check, and the time of that check.
    progress_mark: (u64, Ticks),
}

impl<F: Frame> WorkerHandle<F> {
    pub(super) fn new(end: DispatcherEnd<F>) -> Self {
        let DispatcherEnd {
            primary,
            secondary,
            messages,
            resets,
            releases,
            reports,
            status,
        } = end;
        Self {
            primary: FrameQueue::new(primary),
            secondary: FrameQueue::new(secondary),
            messages,
            resets,
            waiting: VecDeque::with_capacity(WAITING),
            releases,
            admitted: 0,
            reports,
            status,
            sent: 0,
            outstanding: 0,
            outstanding_buffers: 0,
            secondary_buffers: 0,
            progress_mark: (0, 0),
        }
    }

    /// Buffers of the P sent to the worker and not returned.
    #[inline]
    pub(super) fn primary_buffers(&self) -> usize {
        self.outstanding_buffers.max(0) as usize
    }

    /// Buffers of the S that the worker keeps or has not processed.
    pub(super) fn secondary_buffers(&self) -> usize {
        self.secondary_buffers
            .wrapping_sub(self.status.secondary_freed()) as usize
    }

    /// Whether the worker has processed all messages.
    pub(super) fn is_idle(&self) -> bool {
        self.sent == self.status.done()
    }

    /// P that wait.
    pub(super) fn held(&self) -> usize {
        self.status.held()
    }

    /// Flows that the worker knows.
    pub(super) fn flows(&self) -> usize {
        self.status.flows()
    }

    /// Frames in the worker's comparator and rings, by its last status. Messages count as frames.
    pub(super) fn frames(&self) -> usize {
        let unprocessed = self.sent - self.status.done();
        self.status.frames() + unprocessed as usize + self.releases.slots()
    }

    /// Arrival of the oldest P that waits.
    pub(super) fn primary_since(&self) -> Option<Ticks> {
        self.status.primary_since()
    }

    /// Arrival of the oldest S that waits.
    pub(super) fn secondary_since(&self) -> Option<Ticks> {
        self.status.secondary_since()
    }

    /// Whether there is room for a burst of P and a burst of S.
    pub(super) fn is_ready(&self) -> bool {
        self.primary.waiting() <= BURST && self.secondary.waiting() <= BURST
    }

    /// P that there is room for.
    #[inline]
    pub(super) fn primary_room(&self) -> usize {
        self.primary.room()
    }

    /// S that there is room for.
    #[inline]
    pub(super) fn secondary_room(&self) -> usize {
        self.secondary.room()
    }

    /// Whether the worker has processed all messages and all its results have been taken.
    pub(super) fn is_settled(&self) -> bool {
        self.is_idle()
            && self.releases.is_empty()
            && self.reports.is_empty()
            && self.outstanding == self.held() as isize
    }

    /// Sends P and S, for which there must be room. `secondary_buffers` are the buffers of the S; `scarce` says that
    /// there is little room for S left on all cores together.
    #[inline]
    pub(super) fn send(
        &mut self,
        primary: impl ExactSizeIterator<Item = F>,
        secondary: impl ExactSizeIterator<Item = F>,
        secondary_buffers: usize,
        scarce: bool,
        now: Ticks,
    ) {
        let run = Run {
            primary: primary.len() as u32,
            secondary: secondary.len() as u32,
            scarce,
            now,
        };
        let mut buffers = 0;
        let primary = primary.inspect(|p| buffers += p.buffers());
        if self.waiting.is_empty()
            && !self.messages.is_full()
            && self.primary.fits(primary.len())
            && self.secondary.fits(secondary.len())
        {
            self.primary.push(primary);
            self.secondary.push(secondary);
            let pushed = self.messages.push(Message::Frames(run));
            debug_assert!(pushed.is_ok(), "a slot was free");
        } else {
            self.primary.enqueue(primary);
            self.secondary.enqueue(secondary);
            self.waiting.push_back(Message::Frames(run));
            self.flush();
        }
        self.count_sent(run, buffers, secondary_buffers);
    }

    #[inline]
    fn count_sent(&mut self, run: Run, primary_buffers: usize, secondary_buffers: usize) {
        self.sent += u64::from(run.primary) + u64::from(run.secondary);
        self.outstanding += run.primary as isize;
        self.outstanding_buffers += primary_buffers as isize;
        self.secondary_buffers += secondary_buffers as u64;
    }

    /// Moves waiting messages and their frames into the rings, as many as fit.
    pub(super) fn flush(&mut self) {
        while let Some(message) = self.waiting.front_mut() {
            if self.messages.is_full() {
                return;
            }
            let mut whole = true;
            let mut sent = *message;
            if let (Message::Frames(left), Message::Frames(sent)) = (message, &mut sent) {
                // A burst is split only if the rings are too short for it.
                sent.primary = left.primary.min(self.primary.capacity());
                sent.secondary = left.secondary.min(self.secondary.capacity());
                let (p, s) = (sent.primary as usize, sent.secondary as usize);
                if !self.primary.fits(p) || !self.secondary.fits(s) {
                    return;
                }
                self.primary.flush(p);
                self.secondary.flush(s);
                left.primary -= sent.primary;
                left.secondary -= sent.secondary;
                whole = left.primary + left.secondary == 0;
            }
            let pushed = self.messages.push(sent);
            debug_assert!(pushed.is_ok(), "a slot was free");
            if whole {
                self.waiting.pop_front();
            }
        }
    }

    /// Sends a message without frames, behind all earlier messages.
    fn send_message(&mut self, message: Message) {
        self.sent += 1;
        self.waiting.push_back(message);
        self.flush();
    }

    /// Sends a change of the epoch. This never fails: the list of waiting messages grows only if a worker stalls for
    /// some hundred checkpoints.
    pub(super) fn change(&mut self, change: Change, generation: u32) {
        self.send_message(Message::Control(Control { generation, change }));
    }

    /// Sends the age at which frames are overdue from now on. An operator gives it, so that this is seldom.
    pub(super) fn set_timeout(&mut self, timeout: Ticks) {
        self.send_message(Message::Timeout(timeout));
    }

    /// Sends a client's reset of a connection, behind all earlier frames. Drops it if the ring is full.
    pub(super) fn client_reset(&mut self, packet: &Packet, now: Ticks) {
        if self.resets.push(*packet).is_ok() {
            self.send_message(Message::ClientReset(now));
        }
    }

    /// Asks the worker to remove idle flows, unless messages wait already.
    pub(super) fn age(&mut self, now: Ticks) {
        self.flush();
        if self.waiting.is_empty() {
            self.send_message(Message::Age(now));
        }
    }

    /// Asks the worker for the overdue frame. Returns false, and does not ask, if messages wait already.
    pub(super) fn ask_overdue(&mut self, now: Ticks) -> bool {
        self.ask(Message::Overdue(now))
    }

    /// Asks the worker who takes the room for P. Returns false, and does not ask, if messages wait already.
    pub(super) fn ask_crowding(&mut self, now: Ticks) -> bool {
        self.ask(Message::Crowding(now))
    }

    fn ask(&mut self, question: Message) -> bool {
        self.flush();
        let ready = self.waiting.is_empty();
        if ready {
            self.send_message(question);
        }
        ready
    }

    /// Whether the worker has P and has not made progress for `timeout`. Returns true at most once in that time.
    pub(super) fn take_stall(&mut self, now: Ticks, timeout: Ticks) -> bool {
        let (sent, since) = self.progress_mark;
        if self.status.done() >= sent {
            self.progress_mark = (self.sent, now);
            return false;
        }
        let stalled = self.outstanding > 0 && now.saturating_sub(since) >= timeout;
        if stalled {
            self.progress_mark.1 = now;
        }
        stalled
    }

    /// Whether admitted releases are left.
    #[inline]
    pub(super) fn has_releases(&self) -> bool {
        self.admitted > 0
    }

    /// Admits the releases in the ring. The caller then reads all reports: those that the releases depend on are in
    /// the ring already.
    pub(super) fn admit_releases(&mut self) {
        self.admitted = self.releases.slots();
    }

    /// The next admitted release.
    #[inline]
    pub(super) fn next_release(&mut self) -> Option<Release<F>> {
        if self.admitted == 0 {
            return None;
        }
        let release = self.releases.pop().ok()?;
        self.admitted -= 1;
        self.outstanding -= 1;
        self.outstanding_buffers -= release.frame.buffers() as isize;
        Some(release)
    }

    /// Slots of the ring of reports.
    pub(super) fn report_capacity(&self) -> usize {
        self.reports.buffer().capacity()
    }

    /// The worker's next report.
    pub(super) fn next_report(&mut self) -> Option<Report<F>> {
        let report = self.reports.pop().ok()?;
        let (more, less) = match report {
            Report::Split(n) => (n, Amount::default()),
            Report::Discarded(n) | Report::ResetDropped(n) => (Amount::default(), n),
            _ => return Some(report),
        };
        self.outstanding += more.frames as isize - less.frames as isize;
        self.outstanding_buffers += more.buffers as isize - less.buffers as isize;
        Some(report)
    }
}
