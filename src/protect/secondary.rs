//! The secondary node's half: mirrored input waits for an SVM that runs its epoch, and what the SVM
//! sends leaves for the primary with the PVM's numbers and the SVM's epoch.
//!
//! The primary tells of an epoch when it is committed, and from then on the SVM's frames bear its
//! number. From the SVM's stop until then it is not polled, so that none of its frames has an
//! unknown epoch. A number that comes late finds an SVM that runs a later epoch or waits for one:
//! the primary drops what bears it. A number may lag behind the SVM's state, but never runs ahead.
//!
//! Before the SVM's QEMU has got the failover command, nothing that the SVM sends goes anywhere but
//! to the primary (rule R6). QEMU says so by the migration state `completed`. The offsets that hold
//! then are those of the state that the SVM runs. Its own monitor counts its loads, and the primary's epochs follow
//! them. Where it has loaded more than epochs came, no offset holds.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use super::announce::{Announcement, Announcer};
use super::coverage::Coverage;
use super::peer::{Action, OnPeerLost, Peer};
use super::restart::RestartNotice;
use super::retransmit_cache::RetransmitCache;
use super::takeover::HandoverState;
use super::{Migration, QemuEvent, Setup, State};
use crate::flow::FlowKey;
use crate::frame::{Frame, Ticks};
use crate::link::secure::Begun;
use crate::link::{DATA_HEADER, Endpoint, Event, Message, Received, Transmit};
use crate::packet::serial::before;
use crate::packet::{Kind, Packet, TcpFlags};
use crate::rewrite::{self, Learned, Offset, Outcome, Rewriter};

struct Mirrored<F> {
    frame: F,
    epoch: u32,
    after: u32,
}

/// What the secondary has counted besides its link and rewriter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input frames given to the SVM's ring.
    pub delivered: u64,
    /// Input frames of an epoch that is over, dropped.
    pub stale: u64,
    /// Input frames dropped because there was no room, which the peer's grant should prevent.
    pub overflow: u64,
    /// Output frames of the SVM passed on.
    pub output: u64,
    /// Frames that could not be translated, dropped.
    pub untranslated: u64,
    /// Epochs that the SVM was bound to.
    pub epochs: u64,
    /// Times the peer was lost.
    pub losses: u64,
}

/// A frame for the link: the bytes to put in front, and the frame.
pub struct Outgoing<F> {
    /// Ethernet and link header.
    pub header: [u8; DATA_HEADER],
    /// What the SVM sent, with the PVM's numbers.
    pub frame: F,
    /// What it is the last segment of, to be kept ([`Secondary::keep`]).
    pub last: Option<Last>,
}

/// A connection and the kind of its last segment.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    flow: FlowKey,
    /// It takes no place in the stream.
    bare: bool,
    /// It opens the connection.
    opens: bool,
}

/// The secondary node of one VM pair.
pub struct Secondary<F> {
    link: Endpoint,
    restart: RestartNotice,
    rewriter: Rewriter,
    last: RetransmitCache<F>,
    announcer: Announcer,
    /// The node announces the VM's place to the network.
    announces: bool,
    peer: Peer,
    auto: bool,
    connected: bool,
    /// Takeovers before the present primary led, once that has said so.
    term: Option<u32>,
    /// The SVM has had a state of the PVM's.
    ran: bool,
    migration: Migration,
    /// The VM is the primary one of its pair.
    leads: bool,
    /// QEMU takes no more checkpoints of this COLO.
    ended: bool,
    /// Loads since the last `Epoch` message, and the SVM's lead over that epoch then; -1 if its monitor had not
    /// reported that epoch's own load.
    loads: i32,
    ahead: i32,
    /// A state was loaded since the ring stopped.
    loaded: bool,
    coverage: Coverage,
    /// STOP came and no RESUME since; run state `colo` came, too.
    vm_stopped: bool,
    for_load: bool,
    /// What the primary was last sent in this session about whether reports may come.
    sent_witness: Option<bool>,
    /// Input that the ring did not take before it stopped.
    cut_off: usize,
    /// Stops of the ring that no RESUME has ended.
    unexplained: u32,
    /// The SVM's ring runs.
    started: bool,
    /// The SVM may have loaded a state whose epoch has not come yet.
    awaits_epoch: bool,
    /// The last epoch that came.
    bound: Option<u32>,
    stops: u32,
    input: VecDeque<Mirrored<F>>,
    input_limit: usize,
    counts: Counts,
}

/// A seed that no client and no peer knows: its keys come from the operating system.
fn hash_seed() -> u64 {
    RandomState::new().hash_one(())
}

impl<F: Frame> Secondary<F> {
    /// The seeds of its tables.
    #[cfg(test)]
    pub(super) fn hash_seeds(&self) -> [u64; 2] {
        [self.rewriter.hash_seed(), self.last.hash_seed()]
    }

    /// A node whose VM does not run yet.
    pub fn new(setup: Setup, now: Ticks) -> Self {
        let limits = rewrite::Limits {
            connections: setup.connections,
            linger: setup.limits.idle,
            half_open: setup.limits.half_open,
        };
        let mut failover = setup.failover;
        if failover.on_peer_lost == OnPeerLost::Release {
            // What a primary may take for certain lets no secondary take over.
            failover.on_peer_lost = OnPeerLost::Hold;
        }
        // The window counts frames that were granted; heartbeats in between may let a few more come.
        let input_limit = setup.window as usize * 2;
        Self {
            restart: RestartNotice::default(),
            link: Endpoint::new(
                setup.vm,
                setup.boot,
                setup.link_mac,
                setup.window,
                setup.link,
                now,
            )
            .behind_guard(setup.sealed),
            rewriter: Rewriter::new(limits, hash_seed()),
            last: RetransmitCache::new(setup.last_segments, hash_seed()),
            announcer: Announcer::new(setup.millisecond),
            announces: false,
            peer: Peer::new(failover),
            auto: failover.auto,
            connected: false,
            term: None,
            ran: false,
            migration: Migration::None,
            leads: false,
            ended: false,
            loads: 0,
            ahead: 0,
            loaded: false,
            coverage: Coverage::default(),
            vm_stopped: false,
            for_load: false,
            sent_witness: None,
            cut_off: 0,
            unexplained: 0,
            started: false,
            awaits_epoch: true,
            bound: None,
            stops: 0,
            input: VecDeque::with_capacity(input_limit),
            input_limit,
            counts: Counts::default(),
        }
    }

    /// The word for what the node does now.
    pub fn state(&self) -> State {
        match (self.started, self.bound) {
            _ if self.peer.is_lost() => State::PeerLost,
            _ if self.runs() => State::Protected,
            (false, None) if self.link.has_session() => State::Pairing,
            (false, None) => State::Solo,
            _ => State::Checkpointing,
        }
    }

    /// The SVM runs the bound epoch, as far as is known.
    fn runs(&self) -> bool {
        self.started && !self.awaits_epoch && self.bound.is_some()
    }

    /// The epoch that the SVM runs, or ran last; 0 before the first.
    pub fn epoch(&self) -> u32 {
        self.bound.unwrap_or(0)
    }

    /// Somebody on the link says that it is the peer and cannot prove it.
    pub fn hear_foreigner(&mut self, now: Ticks) {
        self.link.hear_foreigner(now);
    }

    /// A round begins: what comes next may ask how long the peer has been silent.
    #[inline]
    pub(crate) fn begin_round(&mut self, now: Ticks) {
        self.link.look(now);
    }

    /// The peer's control thread has reported that its poll core does not run.
    pub(crate) fn peer_stalls(&mut self, now: Ticks) {
        self.link.excuse_stall(now);
    }

    /// An operator has announced that this node restarts.
    pub(crate) fn announce_restart(&mut self) {
        self.restart.announce();
    }

    /// Whether the peer has received that announcement; true once.
    pub(crate) fn take_restart_acknowledged(&mut self) -> bool {
        self.restart.take_acknowledged(&self.link)
    }

    /// The link's end, for its counters.
    pub fn link(&self) -> &Endpoint {
        &self.link
    }

    /// The rewriter, for its counters.
    pub fn rewriter(&self) -> &Rewriter {
        &self.rewriter
    }

    /// The counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        self.input.len() + self.last.len()
    }

    /// Takes in a frame from the link. Returns the epoch, the payload's length and the control
    /// messages it follows if it carries input, which the caller strips and passes to
    /// [`Secondary::input`].
    pub(crate) fn link_frame(
        &mut self,
        head: &[u8],
        frame_len: usize,
        now: Ticks,
    ) -> Option<(u32, usize, u32)> {
        let received = self.link.receive(head, frame_len, now);
        self.link_events(now);
        match received {
            Received::Data {
                epoch,
                length,
                after,
            } => Some((epoch, length as usize, after)),
            Received::Consumed | Received::Ignored => None,
        }
    }

    /// The link's guard has begun a session.
    pub(crate) fn link_begins(&mut self, session: Begun, now: Ticks) {
        self.link.begin(session);
        self.link_events(now);
    }

    fn link_events(&mut self, now: Ticks) {
        while let Some(event) = self.link.next_event() {
            self.link_event(event, now);
        }
    }

    /// Takes in a mirrored input frame.
    pub(crate) fn input(&mut self, frame: F, epoch: u32, after: u32) {
        if self.input.len() == self.input_limit {
            self.counts.overflow += 1;
            self.report_loss(1);
            return;
        }
        self.input.push_back(Mirrored {
            frame,
            epoch,
            after,
        });
        self.link.set_backlog(self.input.len());
    }

    /// The next input frame for the SVM's ring, translated.
    pub(crate) fn next_input(&mut self, now: Ticks) -> Option<F> {
        loop {
            let first = self.input.front()?;
            let bound = self.bound?;
            if before(first.epoch, bound) {
                let stale = self.input.pop_front()?.frame;
                self.last.hear(&Packet::parse(stale.head(), stale.len()));
                self.link.set_backlog(self.input.len());
                self.counts.stale += 1;
                continue;
            }
            if first.epoch != bound || !self.runs() || !self.link.has_received(first.after) {
                return None;
            }
            let mut frame = self.input.pop_front()?.frame;
            self.link.set_backlog(self.input.len());
            let packet = Packet::parse(frame.head(), frame.len());
            self.last.hear(&packet);
            if self.rewriter.to_guest(&mut frame, &packet, now) == Outcome::Shared {
                self.counts.untranslated += 1;
                self.report_loss(1);
                continue;
            }
            self.counts.delivered += 1;
            return Some(frame);
        }
    }

    /// Input frames that [`Secondary::next_input`] gave out did not reach the SVM's ring.
    pub(crate) fn input_lost(&mut self, frames: usize) {
        self.counts.delivered = self.counts.delivered.saturating_sub(frames as u64);
        self.report_loss(frames as u32);
    }

    /// Whether the SVM's ring may be polled.
    pub(crate) fn wants_output(&self) -> bool {
        self.runs()
    }

    /// Takes in a frame that the SVM sent. Returns it for the link. The caller has seen
    /// [`Secondary::wants_output`].
    pub(crate) fn output(&mut self, mut frame: F, now: Ticks) -> Option<Outgoing<F>> {
        let epoch = self.bound?;
        let packet = Packet::parse(frame.head(), frame.len());
        self.announcer.learn(frame.head(), &packet);
        if self.rewriter.from_guest(&mut frame, &packet, now) == Outcome::Shared {
            // The primary misses it and asks for a checkpoint.
            self.counts.untranslated += 1;
            return None;
        }
        self.counts.output += 1;
        let header = self.link.data_header(epoch, frame.len() as u32, now);
        let ends = packet.tcp.flags.contains(TcpFlags::RST);
        if packet.kind == Kind::Tcp && ends {
            self.last.forget(&packet.key);
        }
        let last = (packet.kind == Kind::Tcp && !ends).then(|| Last {
            flow: packet.key,
            bare: packet.sequence_len() == 0,
            opens: packet.tcp.flags.contains(TcpFlags::SYN),
        });
        Some(Outgoing {
            header,
            frame,
            last,
        })
    }

    /// Keeps a connection's last segment, as it goes to the link, for [`Primary::next_last`].
    ///
    /// [`Primary::next_last`]: super::Primary::next_last
    pub(crate) fn keep(&mut self, last: Last, frame: F) {
        if last.opens {
            self.last.keep_opening(last.flow, frame);
        } else {
            self.last.keep(last.flow, frame, last.bare);
        }
    }

    /// The SVM's ring has stopped before it took these input frames, which the node has dropped: a
    /// loss if the stop turns out to be no checkpoint's.
    pub(crate) fn guest_stopped(&mut self, dropped: usize) {
        self.stops = self.stops.wrapping_add(1);
        self.cut_off += dropped;
        self.coverage.ring_stopped();
        self.unexplained += 1;
        self.started = false;
        self.awaits_epoch = true;
        self.loaded = false;
        self.send_loss();
    }

    /// Takes in what the SVM's monitor says.
    pub(crate) fn monitor(&mut self, event: QemuEvent) {
        match event {
            QemuEvent::Connected {
                migration, leads, ..
            } => {
                self.connected = true;
                self.vm_stopped = false;
                self.coverage.may_run();
                self.send_whether_it_witnesses();
                self.leads = leads && migration == Migration::Colo;
                // A takeover stops the ring once, too.
                let certain = u32::from(migration == Migration::Completed);
                if self.unexplained > certain {
                    self.load();
                }
                self.migrated(migration);
            }
            QemuEvent::Disconnected => {
                self.connected = false;
                self.vm_stopped = false;
                self.send_whether_it_witnesses();
                self.send_loss();
            }
            QemuEvent::Migration(migration) => self.migrated(migration),
            QemuEvent::ColoExit => {
                self.link.end_restart();
                self.ended = self.migration == Migration::Colo;
            }
            QemuEvent::Resume => {
                self.unexplained = 0;
                self.report();
                self.coverage.may_run();
                // The state came with a checkpoint, or with the migration that began it all.
                if self.migration != Migration::Completed {
                    self.load();
                }
            }
            QemuEvent::Barrier {
                stops,
                migration,
                running,
            } => {
                self.migrated(migration);
                if running && stops == self.stops {
                    self.unexplained = 0;
                    self.coverage.all_reported();
                    self.start();
                }
            }
            QemuEvent::StartedWithoutMonitor { stops } => {
                if stops == self.stops {
                    self.unexplained = 0;
                    self.load();
                    self.start();
                }
            }
            QemuEvent::Stop => (self.vm_stopped, self.for_load) = (true, false),
            QemuEvent::StoppedFor { load } => self.for_load |= load,
            QemuEvent::Answered { question, running } => {
                if running {
                    self.coverage.ran(question);
                }
            }
            QemuEvent::Pass => {}
        }
    }

    fn migrated(&mut self, migration: Migration) {
        if self.migration != Migration::Colo {
            self.ended = false;
        }
        self.migration = migration;
    }

    /// RESUME: reports a load if QEMU had stopped the VM for one (`docs/commit-evidence.md`).
    fn report(&mut self) {
        let stopped = std::mem::take(&mut self.vm_stopped);
        let in_colo = self.migration == Migration::Colo && !self.ended && !self.leads;
        if stopped && self.for_load && in_colo {
            // A full queue means that the primary hears nothing anyway, and asks again.
            let _ = self.link.send(Message::Loaded(self.coverage.covers()));
        }
    }

    /// The primary must know whether a report may come: it waits for one, or holds what nobody proves. Where the
    /// queue is full now, this is sent later.
    fn send_whether_it_witnesses(&mut self) {
        if self.link.has_session()
            && self.sent_witness != Some(self.connected)
            && self.link.send(Message::Witnesses(self.connected)).is_ok()
        {
            self.sent_witness = Some(self.connected);
        }
    }

    fn load(&mut self) {
        self.ran = true;
        self.loads = self.loads.saturating_add(1);
        self.loaded = true;
    }

    /// The ring runs. A reset of its driver does not end the epoch.
    fn start(&mut self) {
        (self.started, self.ran) = (true, true);
        self.awaits_epoch &= self.loaded;
        let cut_off = std::mem::take(&mut self.cut_off);
        if !self.loaded && cut_off > 0 {
            self.input_lost(cut_off);
        }
    }

    /// The primary learns sooner from its node than from its QEMU that the SVM is gone.
    fn send_loss(&mut self) {
        if !self.connected && !self.started {
            // A full queue means that it hears nothing anyway.
            let _ = self.link.send(Message::VmLost);
        }
    }

    /// Whether it is certain that this VM goes on: its QEMU got the failover command, or leads a pair already. What the
    /// network sends to it from now on waits for its ring.
    pub fn is_chosen(&self) -> bool {
        self.migration == Migration::Completed || self.leads
    }

    /// Whether the SVM speaks for itself from now on: it is chosen, and its ring runs.
    pub fn takes_over(&self) -> bool {
        self.started && self.is_chosen()
    }

    /// The next frame that tells the network where the VM is, before its ring runs: what a client sends
    /// meanwhile would go to the primary's place, and be sent again only when its timer has run down.
    pub(crate) fn next_announcement(&mut self, now: Ticks) -> Option<Announcement> {
        if !self.is_chosen() {
            return None;
        }
        if !std::mem::replace(&mut self.announces, true) {
            self.announcer.begin(now);
        }
        self.announcer.next(now)
    }

    /// What the primary that this node becomes goes on with. Input that waits is dropped: its
    /// senders have no acknowledgment of it.
    pub(crate) fn into_handover_state(mut self) -> HandoverState<F> {
        if self.ahead.saturating_add(self.loads) > 0 {
            self.loaded_other_state();
        }
        for Mirrored { frame, .. } in &self.input {
            self.last.hear(&Packet::parse(frame.head(), frame.len()));
        }
        self.link.set_backlog(0);
        HandoverState {
            link: self.link,
            rewriter: self.rewriter,
            last: self.last,
            announcer: self.announcer,
            epoch: self.bound.unwrap_or(0),
            term: self.term,
            stops: self.stops,
            migration: self.migration,
        }
    }

    /// A node before this one led in this place, after this many takeovers: to go on there is no other takeover.
    pub fn led(&mut self, term: u32) {
        self.term = Some(term.wrapping_sub(1));
    }

    /// Takes in an offset that this node knew before it was started again, or its peer.
    pub(crate) fn inherit(&mut self, flow: FlowKey, offset: Offset, now: Ticks) {
        self.rewriter.inherit(flow, offset, now);
    }

    /// The next question to the SVM's monitor, unless its ring runs by now: whether the VM does. Without a ring
    /// nothing else tells what the next load covers.
    pub(crate) fn next_question(&mut self) -> Option<u32> {
        let in_colo = self.migration == Migration::Colo && !self.leads;
        if self.started || self.vm_stopped || !self.connected || !in_colo {
            return None;
        }
        self.coverage.next_question()
    }

    /// What the control thread is to do about a primary that is lost.
    pub(crate) fn next_action(&mut self, now: Ticks) -> Option<Action> {
        let able = self.connected && self.migration == Migration::Colo && !self.leads;
        self.peer.next_action(now, able)
    }

    /// What a fencing command came to.
    pub(crate) fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        self.peer.fenced(number, down, now);
    }

    fn link_event(&mut self, event: Event, now: Ticks) {
        match event {
            Event::Session => {
                self.restart.session();
                self.bound = None;
                self.coverage.forget();
                self.sent_witness = None;
                self.send_whether_it_witnesses();
                self.ahead = 0;
                self.awaits_epoch = true;
                self.input.clear();
                self.link.set_backlog(0);
            }
            Event::Lost(frames) => self.report_loss(frames),
            Event::Message(Message::Epoch(epoch)) => {
                self.coverage.hear(epoch);
                self.bind(epoch);
            }
            Event::Message(Message::Runs(epoch)) => self.coverage.hear(epoch),
            Event::Message(Message::Synchronized {
                epoch,
                flow,
                pvm,
                svm,
            }) => {
                if self.bound == Some(epoch)
                    && self.rewriter.learn(flow, pvm, svm, now) == Learned::Full
                {
                    self.report_loss(1);
                }
            }
            Event::Message(Message::Leads(term)) => self.term = Some(term),
            Event::Message(Message::Restarts) => self.link.expect_restart(now),
            Event::Message(Message::Inherited { flow, offset }) => self.inherit(flow, offset, now),
            Event::Message(_) => {}
        }
    }

    /// The SVM has loaded the state with which this epoch began, and perhaps a later one since.
    fn bind(&mut self, epoch: u32) {
        if self.runs() {
            // It did so under the number before, which came so late that the next load was over: it
            // may have got input twice, and what it said was void.
            self.report_loss(1);
        }
        self.count_loads(epoch);
        self.bound = Some(epoch);
        self.awaits_epoch = false;
        self.counts.epochs += 1;
        self.loaded_other_state();
        // The primary does not wait for this; a full queue means that it hears nothing anyway.
        let _ = self.link.send(Message::Bound(epoch));
    }

    /// What was known of the state that the SVM ran before is void.
    fn loaded_other_state(&mut self) {
        self.rewriter.svm_loaded();
        self.last.svm_loaded();
    }

    /// Each state that the SVM loads ends an epoch of the PVM's. If it has loaded more than epochs
    /// have come since the last one, the one that comes now is late; if that does not change with
    /// the next one, a stop was counted that loaded nothing. If it is not known to have loaded
    /// anything since its ring stopped, its monitor is late.
    fn count_loads(&mut self, epoch: u32) {
        let unsent = i32::from(!self.started && !self.loaded);
        let loads = std::mem::take(&mut self.loads);
        let before = std::mem::take(&mut self.ahead);
        let Some(last) = self.bound else {
            self.ahead = -unsent;
            return;
        };
        let passed = i32::try_from(epoch.wrapping_sub(last)).unwrap_or(i32::MAX);
        let after = before.saturating_add(loads).saturating_sub(passed);
        if before <= 0 || after < before {
            self.ahead = after.max(-unsent);
        }
    }

    fn report_loss(&mut self, frames: u32) {
        // A full queue holds such a report already, or nothing that the peer would hear.
        let _ = self.link.send(Message::InputLost(frames));
    }

    /// What depends on time alone.
    pub(crate) fn tick(&mut self, now: Ticks) {
        self.rewriter.age(now);
        let lost = self.migration == Migration::Colo
            && !self.leads
            && self.ran
            && (self.ended || self.link.is_silent(now));
        self.counts.losses += u64::from(lost && !self.peer.is_lost());
        // A primary that is shot without anybody going on in its place helps nobody.
        self.peer.observe(lost, self.auto, now);
    }

    /// The next frame of the link's own.
    pub(crate) fn next_transmit(&mut self, now: Ticks) -> Option<Transmit> {
        self.send_whether_it_witnesses();
        self.restart.send(&mut self.link);
        self.link.next_transmit(now)
    }
}
