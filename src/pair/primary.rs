//! A primary's round: guest ↔ uplink, and the link beside them.

use std::slice;

use super::link_out::{link_out, pass_notes};
use super::mail::{ToControl, ToPoll};
use super::output;
use super::ports::{Burst, Port, Ports};
use super::standby::StandbyBacklog;
use super::state::{Counts, PairState, Times};
use super::view::View;
use crate::frame::{Frame, Ticks};
use crate::link::{self, DATA_HEADER};
use crate::observability::capture::{Note, Place};
use crate::packet::Packet;
use crate::protect::{AWAITED, HandoverState, PeerLink, Primary, State, Unreachable};

/// How often a node repeats to a client, after a takeover, each segment that it may wait for. Each time takes
/// back one doubling of its retransmission timer, and three make up for 1.4 s with Linux's shortest one.
const REMINDERS: usize = 3;

/// The driver of a node whose VM speaks.
pub struct PrimaryDriver<B: Burst> {
    state: Primary<B::Frame>,
    pair: PairState<B>,
    /// P and S that this round has taken and that are not compared yet; empty between two rounds.
    taken: [B; 2],
    /// Second owners of the input that is offered to the guest; empty between two rounds.
    shares: B,
    input_since: Ticks,
    /// Until then input is kept for a guest that takes none: its driver may still fill its ring.
    starts_until: Ticks,
    /// Slot of the next inherited offset to save for a node that comes after this one.
    to_save: Option<usize>,
    /// The term that was saved with them.
    saved_term: Option<u32>,
}

/// What a capture may tell of.
fn view<F: Frame>(state: &Primary<F>, now: Ticks) -> View {
    View {
        state: state.state(),
        epoch: state.epoch(),
        committed: state.epochs().committed(),
        alone: state.epochs().is_alone(),
        discarded: state.comparison().discarded(),
        reports: state.epochs().reports(),
        witnessed: state.is_witnessed(now),
    }
}

/// Gives the state machine what was taken of both VMs, if anything was.
#[inline]
fn ingest<B: Burst>(state: &mut Primary<B::Frame>, [primary, secondary]: &mut [B; 2], now: Ticks) {
    if !primary.is_empty() || !secondary.is_empty() {
        state.ingest(&mut primary.drain(), &mut secondary.drain(), now);
    }
}

impl<B: Burst> PrimaryDriver<B> {
    /// A pair that is polled from now on, at a fence of this generation ([`Ports::quiesce`]).
    pub fn new(state: Primary<B::Frame>, generation: u64, times: Times) -> Self {
        let pair = PairState::new(generation, times, StandbyBacklog::default());
        Self::at(state, pair)
    }

    /// A pair whose secondary went on: `state` has done nothing yet, and the VM's ring has just started.
    pub(super) fn after_takeover(
        mut state: Primary<B::Frame>,
        inheritance: HandoverState<B::Frame>,
        pair: PairState<B>,
        now: Ticks,
    ) -> Self {
        state.inherit(inheritance, now);
        Self {
            starts_until: now.saturating_add(pair.times.latest),
            to_save: Some(0),
            saved_term: None,
            ..Self::at(state, pair)
        }
    }

    fn at(state: Primary<B::Frame>, pair: PairState<B>) -> Self {
        Self {
            state,
            pair,
            taken: [B::default(), B::default()],
            shares: B::default(),
            input_since: 0,
            starts_until: 0,
            to_save: None,
            saved_term: None,
        }
    }

    /// The state machine, for its figures.
    pub fn state(&self) -> &Primary<B::Frame> {
        &self.state
    }

    /// The driver's own counters.
    pub fn counts(&self) -> Counts {
        self.pair.counts
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        let taken: usize = self.taken.iter().map(|burst| burst.len()).sum();
        self.state.frames() + self.pair.frames() + taken + self.shares.len()
    }

    /// Input that the guest's ring has not taken yet.
    pub fn waiting_input(&self) -> usize {
        self.pair.input.len() + self.pair.backlog.len()
    }

    /// One round; true if it found work.
    pub fn round<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        self.state.peer_link().begin_round(now);
        self.fence(ports);
        self.mail(ports, now);
        let mut busy = self.tx_pending(ports);
        let [most_p, most_s] = self.state.comparison_mut().take_budget();
        busy |= self.link_in(ports, most_s, now);
        busy |= self.send_again(ports);
        busy |= self.guest_in(ports, most_p, now);
        self.ingest(now);
        self.state.comparison_mut().exchange(now);
        busy |= self.release(ports);
        busy |= self.uplink_in(ports, now);
        busy |= self.link_out(ports, now);
        self.watch(ports, now);
        output::ask(ports, || self.state.next_request(now));
        busy
    }

    /// Tells a capture what has changed.
    fn watch<P: Ports<Burst = B>>(&self, ports: &mut P, now: Ticks) {
        ports.watch(|| view(&self.state, now));
    }

    /// Fences come first: what was taken before belongs to the old epoch, what comes after to the new.
    fn fence<P: Ports<Burst = B>>(&mut self, ports: &mut P) {
        debug_assert!(
            self.taken.iter().all(|burst| burst.is_empty()),
            "what was taken before a fence was ingested before it"
        );
        for _ in 0..self.pair.stops(ports) {
            self.state.guest_stopped();
            ports.note(Note::Fence {
                epoch: self.state.epoch(),
            });
        }
    }

    fn mail<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        while let Some(message) = ports.next_mail() {
            match message {
                ToPoll::Monitor(event) => {
                    ports.note(Note::Monitor(event));
                    self.state.monitor(event, now);
                    self.watch(ports, now);
                }
                ToPoll::Fenced { number, down } => self.state.fenced(number, down, now),
                ToPoll::PeerStalls => self.state.peer_link().peer_stalls(now),
                ToPoll::Timeout(timeout) => self.state.set_timeout(timeout),
                ToPoll::AnnounceRestart => self.state.peer_link().announce_restart(),
                ToPoll::WithdrawRestart => self.state.peer_link().withdraw_restart(),
                ToPoll::Note(piece) => self.state.peer_link().tell(piece),
                ToPoll::Cede => self.state.cede(now),
                ToPoll::CessionIsWritten => self.state.cession_is_written(),
                ToPoll::TakeBack => self.state.take_back(),
                ToPoll::PeerRenounced => self.state.peer_renounced(now),
                // Its VM leads.
                ToPoll::Renounce => self.state.refuse_renunciation(),
                ToPoll::RenunciationIsWritten => {}
                // For a node that has not taken over yet.
                ToPoll::Inherit(..) | ToPoll::Led { .. } => {}
            }
        }
    }

    fn tx_pending<P: Ports<Burst = B>>(&mut self, ports: &mut P) -> bool {
        self.drop_replaced(ports);
        ports.flush(self.state.epoch()) + ports.flush_link() > 0
    }

    /// Another VM speaks in this one's place: what was free to leave must not any more (rule R6).
    fn drop_replaced<P: Ports<Burst = B>>(&mut self, ports: &mut P) {
        if self.state.epochs().is_replaced() && ports.room() < B::CAPACITY {
            ports.give_up(0);
        }
    }

    /// Takes S from the link. They wait for this round's P, unless the link says something else behind them: what it
    /// says may end what they are compared in.
    fn link_in<P: Ports<Burst = B>>(&mut self, ports: &mut P, most: usize, now: Ticks) -> bool {
        if !self.state.comparison_mut().wants_secondary() {
            return false;
        }
        let Self {
            state,
            pair: PairState { rx, .. },
            taken,
            ..
        } = self;
        let any = ports.receive(Port::Link, rx, most);
        if let Some(session) = ports.next_session() {
            state.link_begins(session, now);
            ports.watch(|| view(state, now));
        }
        for mut frame in rx.drain() {
            let data = state.link_frame(frame.head(), frame.len(), now);
            if state.has_link_events() {
                ingest(state, taken, now);
                state.link_events(now);
            }
            let Some((epoch, length)) = data else {
                // A report of a load, one to a frame, is noted by itself, and so is a commit by it.
                ports.watch(|| view(state, now));
                continue;
            };
            if ports.strip(&mut frame, length)
                && let Some(frame) = state.outward(frame, now)
            {
                ports.capture(Place::S, epoch, slice::from_ref(&frame));
                if state.admits(epoch) {
                    let pushed = taken[1].push(frame);
                    debug_assert!(pushed.is_ok(), "no more than the link has brought");
                }
            }
        }
        any
    }

    /// After a takeover, what the VM sent last on each connection, and behind it what makes the client
    /// send again what it has sent in vain.
    fn send_again<P: Ports<Burst = B>>(&mut self, ports: &mut P) -> bool {
        let mut any = false;
        while ports.room() > AWAITED * REMINDERS
            && let Some(last) = self.state.next_last()
        {
            any = true;
            let head = last.frame.head().get(DATA_HEADER..).unwrap_or_default();
            let packet = Packet::parse(head, last.frame.len().saturating_sub(DATA_HEADER));
            let reminders = last
                .awaited(packet.tcp.ack)
                .map(|sequence| Unreachable::about(head, &packet, sequence?));
            if let Some(announcer) = self.state.announcer() {
                announcer.speaks_to(head, &packet);
            }
            if last.counts
                && let Some(frame) = ports.reclaim(last.frame)
                && let Some(frame) = self.state.outward_again(frame)
            {
                ports.capture(Place::P, self.state.epoch(), slice::from_ref(&frame));
                ports.pass(frame);
            }
            let reminders = reminders.iter().flatten();
            for reminder in reminders.flat_map(|it| std::iter::repeat_n(it, REMINDERS)) {
                if let Some(frame) = ports.copy(reminder.bytes()) {
                    ports.pass(frame);
                }
            }
        }
        any
    }

    /// Takes P from the guest's ring.
    fn guest_in<P: Ports<Burst = B>>(&mut self, ports: &mut P, most: usize, now: Ticks) -> bool {
        if !self.state.wants_output() || ports.room() < B::CAPACITY {
            return false;
        }
        let [primary, _] = &mut self.taken;
        let any = ports.receive(Port::Guest, primary, most);
        if self.state.takeover().is_some() {
            std::mem::swap(primary, &mut self.pair.rx);
            for frame in self.pair.rx.drain() {
                if let Some(frame) = self.state.outward(frame, now) {
                    // The burst has room for all.
                    let _ = primary.push(frame);
                }
            }
        }
        ports.capture(Place::P, self.state.epoch(), primary);
        if !self.state.compares() {
            primary.drain().for_each(|frame| ports.pass(frame));
        }
        any
    }

    /// Compares what this round has taken of both VMs.
    fn ingest(&mut self, now: Ticks) {
        ingest(&mut self.state, &mut self.taken, now);
    }

    fn release<P: Ports<Burst = B>>(&mut self, ports: &mut P) -> bool {
        self.drop_replaced(ports);
        output::release(ports, self.state.epoch(), || self.state.next_release())
    }

    fn uplink_in<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        if self.state.input_room(now) < B::CAPACITY {
            return false;
        }
        let mut busy = false;
        if self.pair.input.is_empty() {
            busy = self.receive_input(ports);
            self.input_since = now;
            self.translate_input(ports, now);
            // The VM ran while no node served it, and what it asked then got no answer.
            if let Some(announcer) = self.state.announcer()
                && !announcer.is_done()
            {
                for frame in self.pair.input.iter() {
                    let head = frame.head();
                    announcer.hears(head, &Packet::parse(head, frame.len()));
                }
            }
        }
        if self.pair.input.is_empty() {
            return false;
        }
        if self.state.mirrors(now) {
            busy |= self.deliver_mirrored(ports, now);
        } else {
            let taken = ports.give(self.state.epoch(), &mut self.pair.input);
            self.state.input_missed(taken, now);
            busy |= taken > 0;
        }
        if matches!(self.state.state(), State::Solo | State::Pairing)
            && now >= self.starts_until
            && now.saturating_sub(self.input_since) >= self.pair.times.patience
        {
            // Nobody is protected and the guest takes nothing: a NIC would drop it.
            ports.count_dropped(Port::Guest, self.pair.input.len());
            self.pair.input.clear();
        }
        busy
    }

    /// Takes input from the network; first what came before the VM could take any.
    fn receive_input<P: Ports<Burst = B>>(&mut self, ports: &mut P) -> bool {
        let PairState { input, backlog, .. } = &mut self.pair;
        while !input.is_full()
            && let Some(frame) = backlog.next()
        {
            // There is room.
            let _ = input.push(frame);
        }
        !input.is_empty() || ports.receive(Port::Uplink, input, B::CAPACITY)
    }

    /// Input in the guest's numbers, where those are not its client's.
    fn translate_input<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        if self.state.takeover().is_none() {
            return;
        }
        let PairState { input, rx, .. } = &mut self.pair;
        debug_assert!(rx.is_empty(), "it is empty between two steps");
        std::mem::swap(input, rx);
        let mut dropped = 0;
        for mut frame in rx.drain() {
            match self.state.input(&mut frame, now) {
                // The burst has room for all.
                true => drop(input.push(frame)),
                // It has another owner, who reads it as it is: a group's frame at a port that pairs share, which is no
                // segment of a connection.
                false => dropped += 1,
            }
        }
        if dropped > 0 {
            ports.count_dropped(Port::Uplink, dropped);
        }
    }

    /// Gives input to the guest and mirrors exactly what its ring took (rule R7).
    fn deliver_mirrored<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        let n = self.pair.input.len();
        if ports.link_room() < B::CAPACITY || !ports.reserve_headers(n) {
            self.pair.counts.input_waits += 1;
            return false;
        }
        for frame in self.pair.input.iter() {
            // The burst is empty and as long as the input's.
            let _ = self.shares.push(frame.share());
        }
        let taken = ports.give(self.state.epoch(), &mut self.pair.input);
        let state = &mut self.state;
        ports.mirror(&mut self.shares, taken, |share| {
            state.mirrored(share, now);
            let mut header = state.mirror(share.len());
            link::set_offload(&mut header, share.offload());
            header
        });
        ports.flush_link();
        taken > 0
    }

    fn link_out<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        link_out(ports, || self.state.next_transmit(now))
    }

    /// Tells the network where the VM is, after a takeover.
    fn announce<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        while ports.room() > 0
            && let Some(announcement) = self.state.next_announcement(now)
        {
            if let Some(frame) = ports.copy(announcement.bytes()) {
                ports.pass(frame);
            }
        }
    }

    /// Passes on what has to be done about a peer that is lost, and what a node that comes after
    /// this one has to know.
    fn act<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
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
            && let Some(news) = self.state.next_cession_news(ports.is_idle())
        {
            ports.post(ToControl::Cession(news));
        }
        let term = self.state.epochs().term();
        if self.saved_term.is_some_and(|saved| saved != term) {
            // It has heard its predecessor's only now.
            (self.to_save, self.saved_term) = (Some(0), None);
        }
        while let Some(slot) = self.to_save
            && ports.has_mail_room()
        {
            let takeover = self.state.takeover();
            let message = match takeover.and_then(|takeover| takeover.offset_from(slot)) {
                Some((next, None)) => {
                    self.to_save = Some(next);
                    continue;
                }
                Some((next, Some((flow, offset)))) => {
                    self.to_save = Some(next);
                    ToControl::Offset(flow, offset)
                }
                None => {
                    (self.to_save, self.saved_term) = (None, Some(term));
                    ToControl::OffsetsEnd { term }
                }
            };
            ports.post(message);
        }
    }

    /// The state machine's end of the link.
    pub(super) fn peer_link(&mut self) -> &mut PeerLink {
        self.state.peer_link()
    }

    /// What is due every now and then.
    pub fn tick<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        self.state.tick(now);
        // Before what a loss that is certain lets out.
        self.watch(ports, now);
        self.announce(ports, now);
        self.act(ports, now);
        let epoch = self.state.epoch();
        output::record(ports, epoch, self.state.comparison_mut());
        output::ask(ports, || self.state.next_request(now));
    }

    /// Sends what is free to leave, as far as the port takes it in a bounded number of tries.
    pub fn finish<P: Ports<Burst = B>>(&mut self, ports: &mut P) {
        output::finish(
            self,
            ports,
            |driver| driver.state.comparison_mut(),
            |driver, ports| {
                driver.release(ports);
                ports.flush_link();
            },
            |driver| driver.state.next_release(),
        );
    }
}
