//! The part of [`Ports`](crate::pair::Ports) that all roles share, with DPDK: the output port, the mailbox, the tap,
//! the metrics.

use std::thread;
use std::time::Duration;

use super::capture::Tap;
use super::clock::Clock;
use super::counts::PairMetrics;
use super::mailbox::{PollEnd, ToControl, ToPoll};
use super::outlet::Outlet;
use crate::compare::Release;
use crate::dpdk::{Burst, Mbuf, tsc};
use crate::frame::Ticks;
use crate::observability::capture::{Note, Place};
use crate::pair::{self, Host, View};

/// When the node ends and workers still have frames: time between two tries to send the rest.
const LAST_WAIT: Duration = Duration::from_micros(100);

/// A pair's ports and channels on its poll core. `inputs` are the ports besides the output port.
pub(crate) struct NodeHost<I> {
    /// The input ports.
    pub inputs: I,
    /// The port to the network; a secondary may have none.
    pub out: Option<Outlet>,
    /// The poll core's end of the mailbox.
    pub mail: PollEnd,
    /// Counters and latencies.
    pub metrics: PairMetrics,
    /// The capture.
    pub tap: Tap,
    /// The TSC's rate.
    pub clock: Clock,
}

impl pair::Burst for Burst {
    type Frame = Mbuf;

    const CAPACITY: usize = Burst::CAPACITY;

    #[inline]
    fn is_full(&self) -> bool {
        self.is_full()
    }

    #[inline]
    fn push(&mut self, frame: Mbuf) -> Result<(), Mbuf> {
        self.push(frame)
    }

    #[inline]
    fn drain(&mut self) -> impl Iterator<Item = Mbuf> {
        self.drain()
    }

    #[inline]
    fn clear(&mut self) {
        self.clear();
    }
}

impl<I> Host for NodeHost<I> {
    type Burst = Burst;

    #[inline]
    fn room(&self) -> usize {
        self.out.as_ref().map_or(0, |out| out.queue.room())
    }

    #[inline]
    fn release(&mut self, release: Release<Mbuf>) {
        if let Some(out) = &mut self.out {
            out.release(release);
        }
    }

    #[inline]
    fn pass(&mut self, frame: Mbuf) {
        if let Some(out) = &mut self.out {
            out.pass(frame);
        }
    }

    #[inline]
    fn flush(&mut self, epoch: u32) -> usize {
        let latency = &mut self.metrics.latency;
        match &mut self.out {
            Some(out) => out.flush(epoch, &mut self.tap, self.clock, latency),
            None => 0,
        }
    }

    fn is_idle(&self) -> bool {
        self.out.as_ref().is_none_or(|out| out.queue.is_idle())
    }

    fn give_up(&mut self, more: usize) {
        if let Some(out) = &mut self.out {
            out.give_up(more);
        }
    }

    #[inline]
    fn next_mail(&mut self) -> Option<ToPoll> {
        self.mail.inbox.pop().ok()
    }

    #[inline]
    fn has_mail_room(&self) -> bool {
        self.mail.has_room()
    }

    fn post(&mut self, message: ToControl) {
        self.mail.post(message);
    }

    #[inline]
    fn capture(&mut self, place: Place, epoch: u32, frames: &[Mbuf]) {
        self.tap.frames(place, epoch, frames);
    }

    #[inline]
    fn note(&mut self, note: Note) {
        self.tap.note(note);
    }

    #[inline]
    fn watch(&mut self, view: impl FnOnce() -> View) {
        self.tap.watch(view);
    }

    fn now(&self) -> Ticks {
        tsc::now()
    }

    fn pause(&mut self) {
        thread::sleep(LAST_WAIT);
    }
}
