//! A secondary pair's frames: guest ↔ link.

use super::capture::{Tap, View};
use super::counts::{self, Tally};
use super::egress::mark;
use super::lane::Lane;
use super::mailbox::{PollEnd, ToPoll};
use super::primary::{copy_out, strip};
use crate::dpdk::{Burst, FenceCore, Mbuf, Mempool};
use crate::frame::{Frame, Ticks};
use crate::link;
use crate::monitor::capture::{Note, Place};
use crate::monitor::counters::{Counter, Writer};
use crate::monitor::latency::Recorder;
use crate::protect::Secondary;

/// One secondary pair on its poll core.
pub struct SecondaryNode {
    state: Secondary<Mbuf>,
    guest: Lane,
    link: Lane,
    fence: FenceCore,
    generation: u64,
    mail: PollEnd,
    headers: Mempool,
    scratch: Burst,
    /// Input that the guest's ring has not taken yet.
    input: Burst,
    /// Input that was dropped when the guest stopped; a loss if the stop was no checkpoint's.
    cut_off: usize,
    tally: Tally,
    tap: Tap,
}

/// What a [`SecondaryNode`] is made of.
pub struct Parts {
    /// The pair's state machine.
    pub state: Secondary<Mbuf>,
    /// The guest port.
    pub guest: Lane,
    /// The link.
    pub link: Lane,
    /// The poll core's place at the guest port's fence.
    pub fence: FenceCore,
    /// The poll core's end of the mailbox.
    pub mail: PollEnd,
    /// Mbufs for headers and the link's own frames.
    pub headers: Mempool,
    /// Where counters and latencies go.
    pub tally: Tally,
    /// Where captured frames go.
    pub tap: Tap,
}

impl SecondaryNode {
    /// A pair that this core polls from now on.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            state,
            guest,
            link,
            mut fence,
            mail,
            headers,
            tally,
            tap,
        } = parts;
        let generation = fence.quiesce();
        Self {
            state,
            guest,
            link,
            fence,
            generation,
            mail,
            headers,
            scratch: Burst::new(),
            input: Burst::new(),
            cut_off: 0,
            tally,
            tap,
        }
    }

    /// One round; true if it found work.
    pub fn poll(&mut self, now: Ticks) -> bool {
        self.stops();
        self.read_mail();
        let mut busy = self.link.flush() > 0;
        busy |= self.poll_link(now);
        busy |= self.feed_guest(now);
        busy |= self.poll_guest(now);
        busy |= self.own_link_frames(now);
        self.watch();
        busy
    }

    /// Tells a capture what has changed.
    fn watch(&mut self) {
        let state = &self.state;
        self.tap.watch(|| View {
            state: state.state(),
            epoch: state.epoch(),
            committed: None,
            alone: false,
            discarded: 0,
        });
    }

    fn stops(&mut self) {
        let generation = self.fence.quiesce();
        while self.generation != generation {
            self.generation += 1;
            self.state.guest_stopped();
            self.tap.note(Note::Fence {
                epoch: self.state.epoch(),
            });
            self.cut_off += self.input.len();
            self.input.clear();
        }
    }

    fn read_mail(&mut self) {
        while let Ok(message) = self.mail.inbox.pop() {
            if let ToPoll::Started { stops, loaded } = message {
                self.tap.note(Note::Started { stops, loaded });
                self.state.guest_started(stops, loaded);
                if !loaded && self.cut_off > 0 {
                    self.state.input_lost(self.cut_off);
                }
                self.cut_off = 0;
            }
        }
    }

    fn poll_link(&mut self, now: Ticks) -> bool {
        let n = self.link.receive(&mut self.scratch);
        for mut frame in self.scratch.drain() {
            let Some((epoch, length, after)) =
                self.state.link_frame(frame.head(), frame.len(), now)
            else {
                continue;
            };
            let offload = link::offload(frame.head());
            if strip(&mut frame, length) {
                mark(&mut frame, offload, self.guest.abilities());
                self.state.input(frame, epoch, after);
            }
        }
        n > 0
    }

    /// A full ring means wait, not drop (rule R7).
    fn feed_guest(&mut self, now: Ticks) -> bool {
        while !self.input.is_full() {
            let Some(frame) = self.state.next_input(now) else {
                break;
            };
            // The burst has room.
            let _ = self.input.push(frame);
        }
        if self.input.is_empty() {
            return false;
        }
        let taken = self.tap.transmit(
            Place::In,
            self.state.epoch(),
            &mut self.guest,
            &mut self.input,
        );
        if taken == 0 {
            self.tally.add(Counter::InputWaits, 1);
        }
        taken > 0
    }

    fn poll_guest(&mut self, now: Ticks) -> bool {
        if !self.state.wants_output()
            || !self.link.out.is_empty()
            || self.state.link().room() < Burst::CAPACITY
        {
            return false;
        }
        let n = self.guest.receive(&mut self.scratch);
        for frame in self.scratch.drain() {
            self.tap.frame(Place::Raw, self.state.epoch(), &frame);
            let Some(outgoing) = self.state.output(frame, now) else {
                continue;
            };
            let (mut header, mut frame) = (outgoing.header, outgoing.frame);
            link::set_offload(&mut header, frame.offload());
            self.tap.frame(Place::S, self.state.epoch(), &frame);
            match frame.prepend(header.len()) {
                Some(room) => {
                    room.copy_from_slice(&header);
                    self.link.push(frame);
                }
                // The primary sees the gap in the numbers and asks for a checkpoint.
                None => self.link.dropped += 1,
            }
        }
        self.link.flush();
        n > 0
    }

    fn own_link_frames(&mut self, now: Ticks) -> bool {
        let mut any = false;
        while self.link.room() > 0 {
            let Some(transmit) = self.state.next_transmit(now) else {
                break;
            };
            if !copy_out(&self.headers, transmit.bytes(), &mut self.link) {
                break;
            }
            any = true;
        }
        self.link.flush();
        any
    }

    /// What is due every now and then.
    pub fn tick(&mut self, now: Ticks) {
        self.state.tick(now);
    }

    /// Makes the counters readable for others.
    pub fn publish(&mut self) {
        let writer = self.tally.writer();
        counts::lanes_of_secondary(writer, &self.guest, &self.link);
        counts::link(writer, self.state.link(), Counter::LinkLostInput);
        let own = self.state.counts();
        writer.set(Counter::Mirrored, own.delivered);
        writer.set(Counter::InputStale, own.stale);
        writer.set(Counter::Untranslated, own.untranslated);
        writer.set(Counter::Epoch, u64::from(self.state.epoch()));
        writer.set(Counter::Epochs, own.epochs);
        writer.set(Counter::State, self.state.state() as u64);
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
