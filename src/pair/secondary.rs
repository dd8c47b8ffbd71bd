//! A secondary's round: guest ↔ link, until its VM goes on by itself.

use std::slice;

use super::link_out::{link_out, pass_notes};
use super::mail::{ToControl, ToPoll};
use super::ports::{Burst, Port, Ports};
use super::primary::PrimaryDriver;
use super::standby::StandbyBacklog;
use super::state::{Counts, PairState, Times};
use super::view::View;
use crate::frame::{Frame, Ticks};
use crate::link;
use crate::observability::capture::{Note, Place};
use crate::protect::{PeerLink, Primary, Secondary};

/// The driver of a node whose VM follows another.
pub struct SecondaryDriver<B: Burst> {
    state: Secondary<B::Frame>,
    pair: PairState<B>,
    /// What it goes on with when its VM does: a primary that has done nothing yet. `None` without an uplink.
    standby: Option<Primary<B::Frame>>,
    /// A capture knows of the takeover.
    decided: bool,
}

impl<B: Burst> SecondaryDriver<B> {
    /// A pair that is polled from now on, at a fence of this generation ([`Ports::quiesce`]). With a `standby` the ports
    /// have an uplink.
    pub fn new(
        state: Secondary<B::Frame>,
        standby: Option<Primary<B::Frame>>,
        generation: u64,
        times: Times,
    ) -> Self {
        Self {
            state,
            pair: PairState::new(generation, times, StandbyBacklog::new()),
            standby,
            decided: false,
        }
    }

    /// The state machine, for its figures.
    pub fn state(&self) -> &Secondary<B::Frame> {
        &self.state
    }

    /// The driver's own counters.
    pub fn counts(&self) -> Counts {
        self.pair.counts
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        self.state.frames() + self.pair.frames()
    }

    /// Whether the VM speaks for itself from now on, and this node can go on with it.
    pub fn takes_over(&self) -> bool {
        self.standby.is_some() && self.state.takes_over()
    }

    /// One round; true if it found work.
    pub fn round<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        self.state.peer_link().begin_round(now);
        self.fence(ports);
        self.mail(ports, now);
        if self.state.takes_over() {
            return true;
        }
        let mut busy = ports.flush_link() > 0;
        busy |= self.link_in(ports, now);
        busy |= self.guest_out(ports, now);
        busy |= self.guest_in(ports, now);
        busy |= self.link_out(ports, now);
        self.watch(ports);
        if self.standby.is_some() {
            self.uplink(ports, now);
        }
        busy
    }

    /// Tells a capture what has changed.
    fn watch<P: Ports<Burst = B>>(&self, ports: &mut P) {
        let state = &self.state;
        ports.watch(|| View::plain(state.state(), state.epoch()));
    }

    /// Fences come first: what was taken before belongs to the old epoch, what comes after to the new.
    fn fence<P: Ports<Burst = B>>(&mut self, ports: &mut P) {
        for _ in 0..self.pair.stops(ports) {
            self.state.guest_stopped(self.pair.input.len());
            ports.note(Note::Fence {
                epoch: self.state.epoch(),
            });
            self.pair.input.clear();
        }
    }

    /// What comes behind the word that the VM goes on is the primary's to hear.
    fn mail<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        while !self.state.takes_over()
            && let Some(message) = ports.next_mail()
        {
            match message {
                ToPoll::Monitor(event) => {
                    ports.note(Note::Monitor(event));
                    self.state.monitor(event);
                }
                ToPoll::Fenced { number, down } => self.state.fenced(number, down, now),
                ToPoll::PeerStalls => self.state.peer_link().peer_stalls(now),
                ToPoll::Timeout(timeout) => {
                    // It compares nothing before it has taken over.
                    if let Some(standby) = &mut self.standby {
                        standby.set_timeout(timeout);
                    }
                }
                ToPoll::AnnounceRestart => self.state.peer_link().announce_restart(),
                ToPoll::WithdrawRestart => self.state.peer_link().withdraw_restart(),
                ToPoll::Note(piece) => self.state.peer_link().tell(piece),
                ToPoll::CessionIsWritten => self.state.cession_is_written(),
                ToPoll::TakeBack => self.state.take_back(),
                ToPoll::Renounce => self.state.renounce(),
                ToPoll::RenunciationIsWritten => self.state.renunciation_is_written(),
                // It leads nothing.
                ToPoll::Cede | ToPoll::PeerRenounced => {}
                ToPoll::Inherit(flow, offset) => self.state.inherit(flow, offset, now),
                ToPoll::Led { term } => self.state.led(term),
            }
        }
    }

    fn link_in<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        let PairState {
            rx,
            backlog,
            counts,
            ..
        } = &mut self.pair;
        let any = ports.receive(Port::Link, rx, B::CAPACITY);
        if let Some(session) = ports.next_session() {
            self.state.link_begins(session, now);
        }
        if !rx.is_empty() {
            counts.input_ignored += backlog.forget() as u64;
        }
        for mut frame in rx.drain() {
            let Some((epoch, length, after)) =
                self.state.link_frame(frame.head(), frame.len(), now)
            else {
                continue;
            };
            let offload = link::offload(frame.head());
            if ports.strip(&mut frame, length) {
                ports.mark(&mut frame, offload);
                self.state.input(frame, epoch, after);
            }
        }
        any
    }

    /// A full ring means wait, not drop (rule R7).
    fn guest_out<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        let PairState { input, counts, .. } = &mut self.pair;
        while !input.is_full()
            && let Some(frame) = self.state.next_input(now)
        {
            // The burst has room.
            let _ = input.push(frame);
        }
        if input.is_empty() {
            return false;
        }
        let taken = ports.give(self.state.epoch(), input);
        counts.input_waits += u64::from(taken == 0);
        taken > 0
    }

    fn guest_in<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        if !self.state.wants_output()
            || ports.link_room() < B::CAPACITY
            || self.state.link().room() < B::CAPACITY
        {
            return false;
        }
        let any = ports.receive(Port::Guest, &mut self.pair.rx, B::CAPACITY);
        for frame in self.pair.rx.drain() {
            ports.capture(Place::Raw, self.state.epoch(), slice::from_ref(&frame));
            let Some(outgoing) = self.state.output(frame, now) else {
                continue;
            };
            let (mut header, mut frame) = (outgoing.header, outgoing.frame);
            link::set_offload(&mut header, frame.offload());
            ports.capture(Place::S, self.state.epoch(), slice::from_ref(&frame));
            if ports.prepend(&mut frame, &header) {
                if let Some(last) = outgoing.last {
                    self.state.keep(last, frame.share());
                }
                ports.push_link(frame);
            } else {
                // The primary sees the gap in the numbers and asks for a checkpoint.
                ports.count_dropped(Port::Link, 1);
            }
        }
        ports.flush_link();
        any
    }

    fn link_out<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        link_out(ports, || self.state.next_transmit(now))
    }

    /// What the network sends is the primary's until this VM goes on (rule R6). The network gets the
    /// announcement as soon as that is certain.
    fn uplink<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        if self.state.is_chosen() {
            self.announce(ports, now);
            return;
        }
        let PairState {
            rx,
            backlog,
            counts,
            ..
        } = &mut self.pair;
        if ports.receive(Port::Uplink, rx, B::CAPACITY) {
            counts.input_ignored += backlog.add(rx.drain(), now) as u64;
        }
    }

    fn announce<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        self.note_takeover(ports);
        while ports.room() > 0
            && let Some(announcement) = self.state.next_announcement(now)
        {
            if let Some(frame) = ports.copy(announcement.bytes()) {
                ports.pass(frame);
            }
        }
        ports.flush(self.state.epoch());
    }

    fn note_takeover<P: Ports<Burst = B>>(&mut self, ports: &mut P) {
        if !std::mem::replace(&mut self.decided, true) {
            ports.note(Note::Takeover);
        }
    }

    /// What it goes on with; a second call finds nothing.
    pub(super) fn take_standby(&mut self) -> Option<Primary<B::Frame>> {
        self.standby.take()
    }

    /// Goes on as a primary at the ports that this node has.
    pub(super) fn take_over<P: Ports<Burst = B>>(
        mut self,
        standby: Primary<B::Frame>,
        ports: &mut P,
        now: Ticks,
    ) -> PrimaryDriver<B> {
        debug_assert!(self.state.takes_over(), "its VM speaks for itself");
        self.note_takeover(ports);
        let Self {
            state, mut pair, ..
        } = self;
        let oldest = now.saturating_sub(pair.times.latest);
        pair.counts.input_ignored += pair.backlog.expire(oldest) as u64;
        // Its senders have no acknowledgment of it.
        pair.input.clear();
        let inheritance = state.into_handover_state();
        PrimaryDriver::after_takeover(standby, inheritance, pair, now)
    }

    /// The state machine's end of the link.
    pub(super) fn peer_link(&mut self) -> &mut PeerLink {
        self.state.peer_link()
    }

    /// What is due every now and then.
    pub fn tick<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        self.state.tick(now);
        if ports.has_mail_room()
            && let Some(action) = self.state.next_action(now)
        {
            ports.post(ToControl::Act(action));
        }
        if ports.has_mail_room() && self.state.peer_link().take_restart_acknowledged() {
            ports.post(ToControl::RestartAcknowledged);
        }
        pass_notes(ports, self.state.peer_link());
        if ports.has_mail_room()
            && let Some(news) = self.state.next_cession_news()
        {
            ports.post(ToControl::Cession(news));
        }
        if ports.has_mail_room()
            && let Some(question) = self.state.next_question()
        {
            ports.post(ToControl::Ask(question));
        }
    }
}
