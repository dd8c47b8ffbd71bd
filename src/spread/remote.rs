//! One worker as the front sees it.

use std::collections::VecDeque;

use super::BURST;
use super::control::{Change, Control};
use super::ring::{Amount, FrontEnd, Message, Report, STAGED, push_some};
use crate::compare::Release;
use crate::frame::{Frame, Ticks};

/// The front's side of one worker.
pub(super) struct Remote<F> {
    end: FrontEnd<F>,
    /// What the ring has not taken yet.
    staged: Vec<Message<F>>,
    /// The time that the worker was told last.
    told: Option<Ticks>,
    /// Messages that were staged.
    sent: u64,
    /// P that the worker got and has not given back, and their buffers. Less than none while a part
    /// of a long P is back before it was told of.
    outside: isize,
    outside_buffers: isize,
    /// Buffers of the S that the worker got.
    secondary_buffers: u64,
    /// Messages that had been staged at a point in time, and that point.
    mark: (u64, Ticks),
}

impl<F: Frame> Remote<F> {
    pub fn new(end: FrontEnd<F>) -> Self {
        Self {
            end,
            staged: Vec::with_capacity(STAGED),
            told: None,
            sent: 0,
            outside: 0,
            outside_buffers: 0,
            secondary_buffers: 0,
            mark: (0, 0),
        }
    }

    /// Buffers of the P that the worker got and has not given back.
    pub fn primary_buffers(&self) -> usize {
        self.outside_buffers.max(0) as usize
    }

    /// Buffers of the S that it keeps or has not come to.
    pub fn secondary_buffers(&self) -> usize {
        self.secondary_buffers.wrapping_sub(self.end.gauge.gone()) as usize
    }

    /// Whether it has come to all that it was told.
    pub fn is_idle(&self) -> bool {
        self.sent == self.end.gauge.done()
    }

    /// P that wait.
    pub fn held(&self) -> usize {
        self.end.gauge.held()
    }

    /// Flows that it knows.
    pub fn flows(&self) -> usize {
        self.end.gauge.flows()
    }

    /// Frames in its comparator and its rings, as far as is known.
    pub fn frames(&self) -> usize {
        let messages = self.sent - self.end.gauge.done();
        self.end.gauge.frames() + messages as usize + self.end.releases.slots()
    }

    /// Arrival of its oldest P that waits.
    pub fn primary_since(&self) -> Option<Ticks> {
        self.end.gauge.primary_since()
    }

    /// Arrival of its oldest S that waits.
    pub fn secondary_since(&self) -> Option<Ticks> {
        self.end.gauge.secondary_since()
    }

    /// Whether a burst each of P and S finds room.
    pub fn is_ready(&self) -> bool {
        self.staged.len() <= BURST
    }

    /// Whether it has done all that it was told and everything of that was taken.
    pub fn is_settled(&self) -> bool {
        self.is_idle()
            && self.end.releases.is_empty()
            && self.end.reports.is_empty()
            && self.outside == self.held() as isize
    }

    #[inline]
    pub fn primary(&mut self, frame: F, now: Ticks) -> Result<(), F> {
        if !self.has_room() {
            return Err(frame);
        }
        self.tell(now);
        self.outside += 1;
        self.outside_buffers += frame.buffers() as isize;
        self.stage(Message::Primary(frame));
        Ok(())
    }

    /// False if there was no room, and the frame is gone.
    #[inline]
    pub fn secondary(&mut self, frame: F, now: Ticks) -> bool {
        let room = self.has_room();
        if room {
            self.tell(now);
            self.secondary_buffers += frame.buffers() as u64;
            self.stage(Message::Secondary(frame));
        }
        room
    }

    /// Whether a frame and its time fit, and behind them some controls.
    pub fn has_room(&self) -> bool {
        self.staged.len() + 2 * BURST <= STAGED
    }

    #[inline]
    fn tell(&mut self, now: Ticks) {
        if self.told != Some(now) {
            self.told = Some(now);
            self.stage(Message::Now(now));
        }
    }

    #[inline]
    fn stage(&mut self, message: Message<F>) {
        self.staged.push(message);
        self.sent += 1;
        if self.staged.len() >= BURST {
            self.flush();
        }
    }

    /// Moves what is staged into the ring, as far as that has room.
    pub fn flush(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        let all = self.staged.len();
        let n = match self.end.messages.cached_slots() {
            free if free >= all => all,
            _ => self.end.messages.slots().min(all),
        };
        push_some(&mut self.end.messages, n, self.staged.drain(..n));
    }

    /// Stages a control behind everything that came before. There is always room: only a worker
    /// that stands still over some hundred checkpoints makes the list grow.
    pub fn change(&mut self, change: Change, generation: u32) {
        self.stage(Message::Control(Control { generation, change }));
        self.flush();
    }

    /// Has quiet flows forgotten, if the worker is not behind anyway.
    pub fn age(&mut self, now: Ticks) {
        if self.is_ready() {
            self.tell(now);
            self.stage(Message::Age);
        }
    }

    /// Asks for what is overdue; false if the worker is behind.
    pub fn ask(&mut self, now: Ticks) -> bool {
        let ready = self.is_ready();
        if ready {
            self.tell(now);
            self.stage(Message::Overdue);
        }
        ready
    }

    /// Whether the worker has P and has not come to what it was told for longer than `timeout`. A
    /// stall is told once in that time.
    pub fn stalls(&mut self, now: Ticks, timeout: Ticks) -> bool {
        let (sent, since) = self.mark;
        if self.end.gauge.done() >= sent {
            self.mark = (self.sent, now);
            return false;
        }
        let stalls = self.outside > 0 && now.saturating_sub(since) >= timeout;
        if stalls {
            self.mark.1 = now;
        }
        stalls
    }

    /// Takes a burst of released P; returns their buffers.
    pub fn take_releases(&mut self, released: &mut VecDeque<Release<F>>) -> usize {
        let n = self.end.releases.slots().min(BURST);
        let mut buffers = 0;
        if let Ok(chunk) = self.end.releases.read_chunk(n) {
            released.extend(chunk.into_iter().inspect(|r| buffers += r.frame.buffers()));
        }
        self.outside -= n as isize;
        self.outside_buffers -= buffers as isize;
        buffers
    }

    /// Reports that the ring holds at most.
    pub fn most_reports(&self) -> usize {
        self.end.reports.buffer().capacity()
    }

    /// The worker's next report.
    pub fn next_report(&mut self) -> Option<Report<F>> {
        let report = self.end.reports.pop().ok()?;
        let (more, less) = match report {
            Report::Divided(n) => (n, Amount::default()),
            Report::Discarded(n) => (Amount::default(), n),
            _ => return Some(report),
        };
        self.outside += more.frames as isize - less.frames as isize;
        self.outside_buffers += more.buffers as isize - less.buffers as isize;
        Some(report)
    }
}
