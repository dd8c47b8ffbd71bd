//! A secondary pair's frames: guest ↔ link, until it takes over.

use std::time::Duration;

use super::capture::{Tap, View};
use super::clock::Clock;
use super::counts::{self, Tally};
use super::egress::mark;
use super::lane::Lane;
use super::mailbox::{PollEnd, ToControl, ToPoll};
use super::overheard::Overheard;
use super::own::{copy_out, send_own, strip};
use super::primary::{self, PrimaryNode};
use crate::dpdk::{Burst, FenceCore, Mbuf, Mempool};
use crate::frame::{Frame, Ticks};
use crate::link;
use crate::monitor::capture::{Note, Place};
use crate::monitor::counters::{Counter, Writer};
use crate::monitor::latency::Recorder;
use crate::protect::{Primary, Reports, Secondary};

/// How late what the network has sent may reach a VM that takes over.
const LATEST: Duration = Duration::from_secs(1);

/// What a secondary goes on with when it takes over.
pub struct Heir {
    /// A primary that has done nothing yet.
    pub state: Primary<Mbuf>,
    /// The port to the network.
    pub uplink: Lane,
}

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
    overheard: Overheard<Mbuf>,
    tally: Tally,
    clock: Clock,
    patience: Ticks,
    tap: Tap,
    /// A capture knows of the takeover.
    decided: bool,
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
    /// The TSC's rate.
    pub clock: Clock,
    /// See [`PrimaryNode`].
    pub patience: Ticks,
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
            clock,
            patience,
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
            overheard: Overheard::new(),
            tally,
            clock,
            patience,
            tap,
            decided: false,
        }
    }

    /// One round; true if it found work.
    pub fn poll(&mut self, now: Ticks) -> bool {
        self.stops();
        self.read_mail(now);
        if self.takes_over() {
            return true;
        }
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
            reports: Reports::default(),
            witnessed: false,
        });
    }

    fn stops(&mut self) {
        let generation = self.fence.quiesce();
        while self.generation != generation {
            self.generation += 1;
            self.state.guest_stopped(self.input.len());
            self.tap.note(Note::Fence {
                epoch: self.state.epoch(),
            });
            self.input.clear();
        }
    }

    fn read_mail(&mut self, now: Ticks) {
        while !self.takes_over()
            && let Ok(message) = self.mail.inbox.pop()
        {
            match message {
                ToPoll::Monitor(event) => {
                    self.tap.note(Note::Monitor(event));
                    self.state.monitor(event);
                }
                ToPoll::Fenced { number, down } => self.state.fenced(number, down, now),
                ToPoll::Inherit(flow, offset) => self.state.inherit(flow, offset, now),
                ToPoll::Led { term } => self.state.led(term),
            }
        }
    }

    fn poll_link(&mut self, now: Ticks) -> bool {
        let n = self.link.receive(&mut self.scratch);
        if self.link.take_foreigner() {
            self.state.hear_foreigner(now);
        }
        if !self.scratch.is_empty() {
            let dropped = self.overheard.forget();
            self.tally.add(Counter::InputIgnored, dropped as u64);
        }
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
                    if let Some(last) = outgoing.last {
                        self.state.keep(last, frame.share());
                    }
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
        let Self {
            state,
            link,
            headers,
            ..
        } = self;
        send_own(link, headers, || state.next_transmit(now))
    }

    /// What the network sends is the primary's until this node takes over (rule R6).
    pub fn overhear(&mut self, uplink: &mut Lane, now: Ticks) {
        if uplink.receive(&mut self.scratch) > 0 {
            let dropped = self.overheard.add(self.scratch.drain(), now);
            self.tally.add(Counter::InputIgnored, dropped as u64);
        }
    }

    /// Whether it is certain that the VM goes on here, though it may not run yet.
    pub fn is_chosen(&self) -> bool {
        self.state.is_chosen()
    }

    /// Tells the network where the VM is, as soon as that is certain.
    pub fn announce(&mut self, uplink: &mut Lane, now: Ticks) {
        if !std::mem::replace(&mut self.decided, true) {
            self.tap.note(Note::Takeover);
        }
        while uplink.room() > 0
            && let Some(frame) = self.state.next_announcement(now)
        {
            copy_out(&self.headers, frame.bytes(), uplink);
        }
        self.tap.flush(Place::Out, self.state.epoch(), uplink);
    }

    /// Whether the VM speaks for itself from now on.
    pub fn takes_over(&self) -> bool {
        self.state.takes_over()
    }

    /// Goes on as a primary on the ports that this node had.
    pub fn take_over(mut self, heir: Heir, now: Ticks) -> PrimaryNode {
        if !self.decided {
            self.tap.note(Note::Takeover);
        }
        let Heir { mut state, uplink } = heir;
        let latest = self.clock.ticks(LATEST);
        let oldest = now.saturating_sub(latest);
        let dropped = self.overheard.expire(oldest);
        self.tally.add(Counter::InputIgnored, dropped as u64);
        state.inherit(self.state.into_inheritance(), now);
        let parts = primary::Parts {
            state,
            guest: self.guest,
            uplink,
            link: self.link,
            fence: self.fence,
            mail: self.mail,
            headers: self.headers,
            tally: self.tally,
            tap: self.tap,
            clock: self.clock,
            patience: self.patience,
        };
        PrimaryNode::after_takeover(parts, self.overheard, self.generation, now + latest)
    }

    /// What is due every now and then.
    pub fn tick(&mut self, now: Ticks) {
        self.state.tick(now);
        if self.mail.has_room()
            && let Some(action) = self.state.next_action(now)
        {
            self.mail.post(ToControl::Act(action));
        }
        if self.mail.has_room()
            && let Some(notice) = self.link.next_notice()
        {
            self.mail.post(ToControl::Link(notice));
        }
        if self.mail.has_room()
            && let Some(question) = self.state.next_question()
        {
            self.mail.post(ToControl::Ask(question));
        }
    }

    /// Parts from the peer.
    pub fn finish(&mut self) {
        self.link.part();
    }

    /// Makes the counters readable for others.
    pub fn publish(&mut self, uplink: Option<&Lane>) {
        let writer = self.tally.writer();
        counts::lanes_of_secondary(writer, &self.guest, uplink, &self.link);
        counts::peer(writer, self.state.link(), self.clock);
        let void = self.link.void();
        counts::link(writer, self.state.link(), void, Counter::LinkLostInput);
        let own = self.state.counts();
        writer.set(Counter::PeerLosses, own.losses);
        writer.set(Counter::Mirrored, own.delivered);
        writer.set(Counter::InputStale, own.stale);
        writer.set(Counter::Untranslated, own.untranslated);
        let rewriter = self.state.rewriter().counters();
        writer.set(Counter::OffsetsLost, rewriter.evicted);
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
