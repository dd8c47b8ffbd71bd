//! A primary pair's frames: guest ↔ uplink, and the link beside them.

use std::thread;
use std::time::Duration;

use super::capture::{Tap, View};
use super::clock::Clock;
use super::counts::{self, Tally};
use super::lane::Lane;
use super::mailbox::{PollEnd, ToControl, ToPoll};
use super::overheard::Overheard;
use super::own::{copy_out, reclaim, send_own, strip};
use super::stamps::Stamps;
use crate::dpdk::{Burst, FenceCore, Mbuf, Mempool, tsc};
use crate::frame::{Frame, Ticks};
use crate::link::{self, DATA_HEADER};
use crate::monitor::capture::{Note, Place};
use crate::monitor::counters::{Counter, Writer};
use crate::monitor::latency::Recorder;
use crate::packet::Packet;
use crate::protect::{AWAITED, Primary, State, Unreachable};

/// How often a client is told after a takeover of each segment that it may wait for; each time takes
/// back one doubling of its retransmission timer, and three make up for 1.4 s with Linux's shortest one.
const REMINDERS: usize = 3;
/// Tries to send what is free to leave when the node ends.
pub const LAST_TRIES: usize = 1000;
/// Time between two such tries while workers have something left to do.
pub const LAST_WAIT: Duration = Duration::from_micros(100);

/// One primary pair on its poll core.
pub struct PrimaryNode {
    state: Primary<Mbuf>,
    guest: Lane,
    uplink: Lane,
    link: Lane,
    fence: FenceCore,
    generation: u64,
    mail: PollEnd,
    headers: Mempool,
    scratch: Burst,
    /// Input that the guest's ring has not taken yet.
    input: Burst,
    input_since: Ticks,
    /// Input that came while nobody served the VM.
    overheard: Overheard<Mbuf>,
    shares: Burst,
    header_burst: Burst,
    stamps: Stamps,
    tally: Tally,
    tap: Tap,
    clock: Clock,
    /// How long input for a guest that takes none is kept while nothing is protected.
    patience: Ticks,
    /// Until then input is kept for a guest that takes none: its driver may still fill its ring.
    starts_until: Ticks,
    /// Slot of the next inherited offset to save for a node that comes after this one.
    to_save: Option<usize>,
}

/// What a [`PrimaryNode`] is made of.
pub struct Parts {
    /// The pair's state machine.
    pub state: Primary<Mbuf>,
    /// The guest port.
    pub guest: Lane,
    /// The uplink.
    pub uplink: Lane,
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
    /// The TSC's rate.
    pub clock: Clock,
    /// See [`PrimaryNode`].
    pub patience: Ticks,
}

/// What a capture may tell of.
fn view(state: &Primary<Mbuf>, now: Ticks) -> View {
    View {
        state: state.state(),
        epoch: state.epoch(),
        committed: state.committed(),
        alone: state.is_alone(),
        discarded: state.counts().discarded,
        reports: state.reports(),
        witnessed: state.is_witnessed(now),
    }
}

impl PrimaryNode {
    /// A pair that this core polls from now on.
    pub fn new(parts: Parts) -> Self {
        let mut node = Self::at(parts, 0);
        node.uplink.feeds(node.guest.abilities());
        node.generation = node.fence.quiesce();
        node
    }

    /// A pair whose node took over, having seen the fence at this generation. Its VM's ring has just
    /// started; until `starts_until` the driver may have no buffers in it.
    pub fn after_takeover(
        parts: Parts,
        overheard: Overheard<Mbuf>,
        generation: u64,
        starts_until: Ticks,
    ) -> Self {
        Self {
            overheard,
            starts_until,
            to_save: Some(0),
            ..Self::at(parts, generation)
        }
    }

    fn at(parts: Parts, generation: u64) -> Self {
        let Parts {
            state,
            guest,
            uplink,
            link,
            fence,
            mail,
            headers,
            tally,
            tap,
            clock,
            patience,
        } = parts;
        Self {
            state,
            guest,
            uplink,
            link,
            fence,
            generation,
            mail,
            headers,
            scratch: Burst::new(),
            input: Burst::new(),
            input_since: 0,
            overheard: Overheard::default(),
            shares: Burst::new(),
            header_burst: Burst::new(),
            stamps: Stamps::new(),
            tally,
            tap,
            clock,
            patience,
            starts_until: 0,
            to_save: None,
        }
    }

    /// One round; true if it found work.
    pub fn poll(&mut self, now: Ticks) -> bool {
        self.stops();
        self.read_mail(now);
        let mut busy = self.send_waiting();
        busy |= self.poll_link(now);
        busy |= self.send_again();
        busy |= self.poll_guest(now);
        self.state.exchange(now);
        busy |= self.release();
        busy |= self.poll_uplink(now);
        busy |= self.own_link_frames(now);
        self.watch(now);
        busy
    }

    /// Tells a capture what has changed.
    fn watch(&mut self, now: Ticks) {
        let state = &self.state;
        self.tap.watch(|| view(state, now));
    }

    /// Fences come first: what was taken before belongs to the old epoch, what comes after to the new.
    fn stops(&mut self) {
        let generation = self.fence.quiesce();
        while self.generation != generation {
            self.generation += 1;
            self.state.guest_stopped();
            self.tap.note(Note::Fence {
                epoch: self.state.epoch(),
            });
        }
    }

    fn read_mail(&mut self, now: Ticks) {
        while let Ok(message) = self.mail.inbox.pop() {
            match message {
                ToPoll::Monitor(event) => {
                    self.tap.note(Note::Monitor(event));
                    self.state.monitor(event, now);
                    self.watch(now);
                }
                ToPoll::Fenced { number, down } => self.state.fenced(number, down, now),
                // Told to whoever has not taken over yet.
                ToPoll::Inherit(..) | ToPoll::Led { .. } => {}
            }
        }
    }

    fn send_waiting(&mut self) -> bool {
        if self.state.is_superseded() && !self.uplink.out.is_empty() {
            self.stamps = Stamps::new();
            self.uplink.give_up(0);
        }
        let left = self
            .tap
            .flush(Place::Out, self.state.epoch(), &mut self.uplink);
        if left > 0 {
            self.stamps
                .left(left, tsc::now(), self.clock, &mut self.tally.latency);
        }
        left + self.link.flush() > 0
    }

    fn poll_link(&mut self, now: Ticks) -> bool {
        if !self.state.wants_link() {
            return false;
        }
        let n = self.link.receive(&mut self.scratch);
        if self.link.take_foreigner() {
            self.state.hear_foreigner(now);
        }
        for mut frame in self.scratch.drain() {
            let Some((epoch, length)) = self.state.link_frame(frame.head(), frame.len(), now)
            else {
                // A report of a load, one to a frame, is noted by itself, and so is a commit by it.
                let state = &self.state;
                self.tap.watch(|| view(state, now));
                continue;
            };
            if strip(&mut frame, length)
                && let Some(frame) = self.state.outward(frame, now)
            {
                self.tap.frame(Place::S, epoch, &frame);
                self.state.svm_output(frame, epoch, now);
            }
        }
        n > 0
    }

    /// After a takeover, what the VM sent last on each connection, and behind it what makes the client
    /// send again what it has sent in vain.
    fn send_again(&mut self) -> bool {
        let mut any = false;
        while self.uplink.room() > AWAITED * REMINDERS
            && let Some(last) = self.state.next_last()
        {
            any = true;
            let head = last.frame.head().get(DATA_HEADER..).unwrap_or_default();
            let packet = Packet::parse(head, last.frame.len().saturating_sub(DATA_HEADER));
            let reminders = last
                .awaited(packet.tcp.ack)
                .map(|sequence| Unreachable::about(head, &packet, sequence?));
            self.state.speaks_to(head, &packet);
            if last.counts
                && let Some(frame) = reclaim(last.frame, &self.headers)
                && let Some(frame) = self.state.outward_again(frame)
            {
                self.tap.frame(Place::P, self.state.epoch(), &frame);
                self.stamps.push_silent();
                self.uplink.push(frame);
            }
            let reminders = reminders.iter().flatten();
            for reminder in reminders.flat_map(|it| std::iter::repeat_n(it, REMINDERS)) {
                if copy_out(&self.headers, reminder.bytes(), &mut self.uplink) {
                    self.stamps.push_silent();
                }
            }
        }
        any
    }

    fn poll_guest(&mut self, now: Ticks) -> bool {
        if !self.state.wants_output() || !self.uplink.out.is_empty() {
            return false;
        }
        let n = self.guest.receive(&mut self.scratch);
        for frame in self.scratch.drain() {
            let Some(frame) = self.state.outward(frame, now) else {
                continue;
            };
            self.tap.frame(Place::P, self.state.epoch(), &frame);
            if let Some(frame) = self.state.output(frame, now) {
                self.stamps.push_silent();
                self.uplink.push(frame);
            }
        }
        n > 0
    }

    fn release(&mut self) -> bool {
        let mut any = false;
        while self.uplink.room() > 0 {
            let Some(release) = self.state.next_release() else {
                break;
            };
            self.stamps
                .push(release.arrived, release.cleared, release.witnessed);
            self.uplink.push(release.frame);
            any = true;
            if self.uplink.room() == 0 {
                self.send_waiting();
            }
        }
        any | self.send_waiting()
    }

    fn poll_uplink(&mut self, now: Ticks) -> bool {
        let room = self.state.input_room(now);
        if room < Burst::CAPACITY {
            return false;
        }
        let mut busy = false;
        if self.input.is_empty() {
            busy = self.receive_input() > 0;
            self.input_since = now;
            self.translate_input(now);
            if self.state.wants_peers() {
                for frame in self.input.iter() {
                    let head = frame.head();
                    self.state.hears(head, &Packet::parse(head, frame.len()));
                }
            }
        }
        if self.input.is_empty() {
            return false;
        }
        if self.state.mirrors(now) {
            busy |= self.deliver_mirrored(now);
        } else {
            let taken = self.give_input();
            self.state.input_missed(taken, now);
            busy |= taken > 0;
        }
        if matches!(self.state.state(), State::Solo | State::Pairing)
            && now >= self.starts_until
            && now.saturating_sub(self.input_since) >= self.patience
        {
            // Nobody is protected and the guest takes nothing: a NIC would drop it.
            self.guest.dropped += self.input.len() as u64;
            self.input.clear();
        }
        busy
    }

    /// Takes input from the network; first what came before the VM could take any.
    fn receive_input(&mut self) -> usize {
        while !self.input.is_full()
            && let Some(frame) = self.overheard.next()
        {
            // There is room.
            let _ = self.input.push(frame);
        }
        match self.input.len() {
            0 => self.uplink.receive(&mut self.input),
            n => n,
        }
    }

    /// Input in the guest's numbers, where those are not its client's.
    fn translate_input(&mut self, now: Ticks) {
        if !self.state.has_taken_over() {
            return;
        }
        let state = &mut self.state;
        if !self.input.iter_mut().all(|frame| state.input(frame, now)) {
            // No driver gives out a frame that it shares: the whole burst is in doubt.
            self.uplink.dropped += self.input.len() as u64;
            self.input.clear();
        }
    }

    /// Gives input to the guest; returns how much its ring took.
    fn give_input(&mut self) -> usize {
        self.tap.transmit(
            Place::In,
            self.state.epoch(),
            &mut self.guest,
            &mut self.input,
        )
    }

    /// Gives input to the guest and mirrors exactly what its ring took (rule R7).
    fn deliver_mirrored(&mut self, now: Ticks) -> bool {
        let n = self.input.len();
        if !self.link.out.is_empty() || !self.headers.alloc_bulk(&mut self.header_burst, n) {
            self.tally.add(Counter::InputWaits, 1);
            return false;
        }
        for frame in self.input.iter() {
            // The burst is empty and as long as the input's.
            let _ = self.shares.push(frame.share());
        }
        let taken = self.give_input();
        let shares = self.shares.drain();
        for (share, mut header) in shares.zip(self.header_burst.drain()).take(taken) {
            self.state.mirrored(&share, now);
            let mut bytes = self.state.mirror(share.len(), now);
            link::set_offload(&mut bytes, share.offload());
            if let Some(room) = header.append(DATA_HEADER) {
                room.copy_from_slice(&bytes);
            }
            match Mbuf::with_header(header, share) {
                Ok(frame) => self.link.push(frame),
                Err(_) => self.link.dropped += 1,
            }
        }
        self.link.flush();
        taken > 0
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

    /// Tells the network where the VM is, after a takeover.
    fn announce(&mut self, now: Ticks) {
        while self.uplink.room() > 0 {
            let Some(frame) = self.state.next_announcement(now) else {
                return;
            };
            if copy_out(&self.headers, frame.bytes(), &mut self.uplink) {
                self.stamps.push_silent();
            }
        }
    }

    /// Passes on what has to be done about a peer that is lost, and what a node that comes after
    /// this one has to know.
    fn act(&mut self, now: Ticks) {
        if self.mail.has_room()
            && let Some(action) = self.state.next_action(now)
        {
            self.mail.post(ToControl::Act(action));
        }
        while let Some(slot) = self.to_save
            && self.mail.has_room()
        {
            let message = match self.state.inherited(slot) {
                Some((next, None)) => {
                    self.to_save = Some(next);
                    continue;
                }
                Some((next, Some((flow, offset)))) => {
                    self.to_save = Some(next);
                    ToControl::Offset(flow, offset)
                }
                None => {
                    self.to_save = None;
                    ToControl::OffsetsEnd {
                        term: self.state.term(),
                    }
                }
            };
            self.mail.post(message);
        }
    }

    /// What is due every now and then.
    pub fn tick(&mut self, now: Ticks) {
        self.state.tick(now);
        // Before what a loss that is certain lets out.
        self.watch(now);
        self.announce(now);
        self.act(now);
        if self.mail.has_room()
            && let Some(notice) = self.link.next_notice()
        {
            self.mail.post(ToControl::Link(notice));
        }
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
        counts::lanes(writer, [&self.guest, &self.uplink, &self.link]);
        counts::front(writer, self.state.comparator());
        counts::checkpoints(writer, self.state.checkpoints());
        let void = self.link.void();
        counts::link(writer, self.state.link(), void, Counter::LinkLostOutput);
        let own = self.state.counts();
        writer.set(Counter::Mirrored, own.mirrored);
        writer.set(Counter::Unmirrored, own.unmirrored);
        writer.set(Counter::SecondaryDroppedStale, own.stale);
        writer.set(Counter::Discarded, own.discarded);
        writer.set(Counter::Held, self.state.held() as u64);
        writer.set(Counter::PeerLosses, own.losses);
        writer.set(Counter::Untranslated, own.untranslated);
        writer.set(Counter::OffsetsLost, own.offsets_lost);
        writer.set(Counter::TakenOver, u64::from(self.state.has_taken_over()));
        counts::peer(writer, self.state.link(), self.clock);
        writer.set(Counter::ReportsLost, self.mail.lost);
        writer.set(Counter::Epoch, u64::from(self.state.epoch()));
        writer.set(Counter::Epochs, u64::from(self.state.epoch()));
        writer.set(Counter::State, self.state.state() as u64);
        self.tally.latency.publish();
    }

    /// Sends what is free to leave, as far as the port takes it in a bounded number of tries, and parts from the peer.
    pub fn finish(&mut self) {
        self.release_last();
        self.link.part();
    }

    fn release_last(&mut self) {
        for _ in 0..LAST_TRIES {
            self.state.exchange(tsc::now());
            self.release();
            if !self.state.is_settled() {
                thread::sleep(LAST_WAIT);
            } else if self.uplink.is_idle() {
                return;
            }
        }
        for _ in 0..LAST_TRIES {
            let left = std::iter::from_fn(|| self.state.next_release());
            self.uplink.give_up(left.count());
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
