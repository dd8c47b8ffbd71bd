//! The secondary node's half: mirrored input waits for an SVM that runs its epoch, and what the SVM
//! sends leaves for the primary with the PVM's numbers and the SVM's epoch.
//!
//! The primary sends an epoch when it is committed, and from then on the SVM's frames bear its
//! number. From the SVM's stop until then it is not polled, so that none of its frames has an
//! unknown epoch. A number that comes late finds an SVM that runs a later epoch or waits for one:
//! the primary drops what bears it. A number may lag behind the SVM's state, but never runs ahead.
//!
//! Before the SVM's QEMU has got the failover command, nothing that the SVM sends goes anywhere but
//! to the primary (rule R6). QEMU says so by the migration state `completed`. The offsets that hold
//! then are those of the state that the SVM runs. Its own monitor counts its loads, and the primary's epochs follow
//! them. Where it has loaded more than epochs came, no offset holds.

use super::announce::Announcement;
use super::cession::{CessionNews, Succession};
use super::input_queue::{InputQueue, Next};
use super::load_reporter::LoadReporter;
use super::peer::{Action, OnPeerLost, Peer};
use super::peer_link::PeerLink;
use super::qemu::Qemu;
use super::svm_epoch::SvmEpoch;
use super::svm_ring::SvmRing;
use super::svm_traffic::{Last, SvmTraffic};
use super::takeover::HandoverState;
use super::{Migration, QemuEvent, Setup, State};
use crate::flow::FlowKey;
use crate::frame::{Frame, Ticks};
use crate::link::secure::Begun;
use crate::link::{DATA_HEADER, Endpoint, Event, Message, Received, Transmit};
use crate::packet::serial::before;
use crate::rewrite::{Offset, Rewriter};

/// What the secondary has counted besides its link and rewriter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input frames given to the SVM's ring.
    pub delivered: u64,
    /// Input frames of an epoch that is over, dropped.
    pub stale: u64,
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

/// The secondary node of one VM pair.
pub struct Secondary<F> {
    link: PeerLink,
    traffic: SvmTraffic<F>,
    /// The node announces the VM's place to the network.
    announces: bool,
    peer: Peer,
    succession: Succession,
    /// A node before this one has given up the lead in this place: this VM never speaks.
    ceded: bool,
    auto: bool,
    qemu: Qemu,
    /// Takeovers before the present primary led, once that has said so.
    term: Option<u32>,
    /// Takeovers before a node before this one led in this place.
    led: Option<u32>,
    /// The VM is the primary one of its pair.
    leads: bool,
    /// QEMU takes no more checkpoints of this COLO.
    ended: bool,
    /// An epoch of this COLO has come in this session, and the primary has not been lost and heard again since: the
    /// VM's state and its connections' numbers cover all that the primary has let out.
    covers: bool,
    ring: SvmRing,
    epoch: SvmEpoch,
    reporter: LoadReporter,
    input: InputQueue<F>,
    counts: Counts,
}

impl<F: Frame> Secondary<F> {
    /// The seeds of its tables.
    #[cfg(test)]
    pub(super) fn hash_seeds(&self) -> [u64; 2] {
        self.traffic.hash_seeds()
    }

    /// A node whose VM does not run yet.
    pub fn new(setup: Setup, now: Ticks) -> Self {
        let mut failover = setup.failover;
        if failover.on_peer_lost == OnPeerLost::Release {
            // What a primary may take for certain lets no secondary take over.
            failover.on_peer_lost = OnPeerLost::Hold;
        }
        Self {
            link: PeerLink::new(&setup, now),
            traffic: SvmTraffic::new(&setup),
            announces: false,
            peer: Peer::new(failover),
            succession: Succession::new(failover.retry),
            ceded: false,
            auto: failover.auto,
            qemu: Qemu::default(),
            term: None,
            led: None,
            leads: false,
            ended: false,
            covers: false,
            ring: SvmRing::default(),
            epoch: SvmEpoch::new(),
            reporter: LoadReporter::default(),
            input: InputQueue::new(setup.window),
            counts: Counts::default(),
        }
    }

    /// The word for what the node does now.
    pub fn state(&self) -> State {
        match (self.ring.is_started(), self.epoch.bound()) {
            _ if self.peer.is_lost() => State::PeerLost,
            _ if self.runs() => State::Protected,
            (false, None) if self.link.end.has_session() => State::Pairing,
            (false, None) => State::Solo,
            _ => State::Checkpointing,
        }
    }

    /// The SVM runs the bound epoch, as far as is known.
    fn runs(&self) -> bool {
        self.ring.is_started() && self.epoch.is_known()
    }

    /// Whether the VM is the secondary one of a pair.
    fn follows(&self) -> bool {
        self.qemu.in_colo() && !self.leads
    }

    /// Whether its QEMU takes commands that concern this pair.
    fn takes_commands(&self) -> bool {
        self.qemu.takes_commands() && !self.leads
    }

    /// The epoch that the SVM runs, or ran last; 0 before the first.
    pub fn epoch(&self) -> u32 {
        self.epoch.bound().unwrap_or(0)
    }

    /// The link's end, for its counters.
    pub fn link(&self) -> &Endpoint {
        &self.link.end
    }

    /// The link's end, for what does not depend on the role.
    #[inline]
    pub(crate) fn peer_link(&mut self) -> &mut PeerLink {
        &mut self.link
    }

    /// The rewriter, for its counters.
    pub fn rewriter(&self) -> &Rewriter {
        &self.traffic.rewriter
    }

    /// The counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        self.input.len() + self.traffic.last.len()
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
        let received = self.link.end.receive(head, frame_len, now);
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
        while let Some(event) = self.link.next_event(now) {
            self.link_event(event, now);
        }
    }

    /// Takes in a mirrored input frame.
    pub(crate) fn input(&mut self, frame: F, epoch: u32, after: u32) {
        if !self.input.push(frame, epoch, after, &mut self.link.end) {
            // The peer's grant should prevent this.
            self.report_loss(1);
        }
    }

    /// The next input frame for the SVM's ring, translated.
    pub(crate) fn next_input(&mut self, now: Ticks) -> Option<F> {
        let bound = self.epoch.bound()?;
        loop {
            let runs = self.runs();
            let mut frame = match self.input.next(bound, runs, &mut self.link.end)? {
                Next::Due(frame) => frame,
                Next::Stale(stale) => {
                    self.traffic.hear(&stale);
                    self.counts.stale += 1;
                    continue;
                }
            };
            if !self.traffic.translate_input(&mut frame, now) {
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
    pub(crate) fn output(&mut self, frame: F, now: Ticks) -> Option<Outgoing<F>> {
        debug_assert!(
            self.wants_output(),
            "the caller has seen that the SVM runs its epoch"
        );
        let epoch = self.epoch.bound()?;
        let Some((frame, last)) = self.traffic.translate_output(frame, now) else {
            // The primary misses it and asks for a checkpoint.
            self.counts.untranslated += 1;
            return None;
        };
        self.counts.output += 1;
        let header = self.link.end.data_header(epoch, frame.len() as u32);
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
        self.traffic.keep(last, frame);
    }

    /// The SVM's ring has stopped before it took these input frames, which the node has dropped: a
    /// loss if the stop turns out to be no checkpoint's.
    pub(crate) fn guest_stopped(&mut self, dropped: usize) {
        self.ring.stopped(dropped);
        self.epoch.ring_stopped();
        self.reporter.ring_stopped();
        self.send_loss();
    }

    /// Takes in what the SVM's monitor says.
    pub(crate) fn monitor(&mut self, event: QemuEvent) {
        match event {
            QemuEvent::Connected {
                migration, leads, ..
            } => {
                self.qemu.connected();
                self.ring.connected();
                self.reporter.connected();
                self.send_whether_it_reports();
                self.leads = leads && migration == Migration::Colo;
                self.migrated(migration);
            }
            QemuEvent::Disconnected => {
                self.qemu.disconnected();
                self.ring.disconnected();
                self.reporter.disconnected();
                self.send_whether_it_reports();
                self.send_loss();
            }
            QemuEvent::Migration(migration) => self.migrated(migration),
            QemuEvent::ColoExit => {
                self.link.end.end_restart();
                self.ended = self.qemu.in_colo();
            }
            QemuEvent::Resume => {
                let takes_loads = self.follows() && !self.ended;
                self.reporter.resumed(takes_loads, &mut self.link.end);
                let taken_over = self.has_taken_over();
                // The state came with a checkpoint, or with the migration that began it all.
                if self.ring.explain(taken_over) || !taken_over {
                    self.load();
                }
            }
            QemuEvent::Barrier {
                stops,
                migration,
                running,
            } => {
                self.migrated(migration);
                if running && stops == self.ring.stops() {
                    if self.ring.explain(self.has_taken_over()) {
                        self.load();
                    }
                    self.reporter.all_reported();
                    self.start();
                }
            }
            QemuEvent::StartedWithoutMonitor { stops } => {
                if stops == self.ring.stops() {
                    if self.ring.presume(self.has_taken_over()) {
                        self.load();
                    }
                    self.start();
                }
            }
            QemuEvent::Stop => self.reporter.stopped(),
            QemuEvent::StoppedFor { load } => self.reporter.stopped_for(load),
            QemuEvent::Answered { question, running } => {
                if running {
                    self.reporter.ran(question);
                }
            }
            QemuEvent::Pass => {}
        }
    }

    fn migrated(&mut self, migration: Migration) {
        if self.qemu.migrated(migration) != Migration::Colo {
            self.ended = false;
            self.succession.forget();
        }
        if self.follows() {
            // Another QEMU than the one that led.
            self.led = None;
        }
        self.covers &= migration == Migration::Colo;
        if self.has_taken_over() && self.ring.refute_presumption() {
            self.epoch.unload();
        }
    }

    /// Whether QEMU has left COLO to go on with this VM.
    fn has_taken_over(&self) -> bool {
        self.qemu.migration() == Migration::Completed
    }

    fn send_whether_it_reports(&mut self) {
        let able = self.qemu.is_connected();
        self.reporter.send_able(able, &mut self.link.end);
    }

    fn load(&mut self) {
        self.ring.load();
        self.epoch.loaded();
    }

    /// The ring runs.
    fn start(&mut self) {
        self.epoch.ring_runs(self.ring.has_loaded());
        let lost = self.ring.start();
        if lost > 0 {
            self.input_lost(lost);
        }
    }

    /// The primary learns sooner from its node than from its QEMU that the SVM is gone.
    fn send_loss(&mut self) {
        if !self.qemu.is_connected() && !self.ring.is_started() {
            // A full queue means that it hears nothing anyway.
            let _ = self.link.end.send(Message::VmLost);
        }
    }

    /// Whether it is certain that this VM goes on: its QEMU got the failover command, or leads a pair already. What the
    /// network sends to it from now on waits for its ring.
    pub fn is_chosen(&self) -> bool {
        self.has_taken_over() || self.leads
    }

    /// Whether the SVM could go on in the PVM's place without loss, once the PVM certainly sends nothing: it has loaded
    /// the state with which an epoch of this session began, and no primary that was lost has been heard again since,
    /// which may have let out what no state covers.
    pub fn is_promotable(&self) -> bool {
        self.takes_commands() && self.ring.has_run() && self.covers
    }

    /// Whether the primary is lost and its VM certainly sends nothing any more.
    pub fn is_peer_gone(&self) -> bool {
        self.peer.is_certain() || self.succession.has_heard()
    }

    /// A node before this one has given up the lead in this place, and has written that down.
    pub(crate) fn cession_is_written(&mut self) {
        self.ceded = true;
    }

    /// The lead that was given up is taken back.
    pub(crate) fn take_back(&mut self) {
        self.ceded = false;
    }

    /// What the control thread does not know of the primary's lead.
    pub(crate) fn next_cession_news(&mut self) -> Option<CessionNews> {
        self.succession.next_news()
    }

    /// Whether the SVM speaks for itself from now on: it is chosen, and its ring runs.
    pub fn takes_over(&self) -> bool {
        self.ring.is_started() && self.is_chosen()
    }

    /// The next frame that announces where the VM is, before its ring runs: what a client sends
    /// meanwhile would go to the primary's place, and be sent again only when its timer has run down.
    pub(crate) fn next_announcement(&mut self, now: Ticks) -> Option<Announcement> {
        if !self.is_chosen() || self.ceded || self.has_successor() {
            return None;
        }
        if !std::mem::replace(&mut self.announces, true) {
            self.traffic.announcer.begin(now);
        }
        self.traffic.announcer.next(now)
    }

    /// What the primary that this node becomes goes on with. Input that waits is dropped: its
    /// senders have no acknowledgment of it.
    pub(crate) fn into_handover_state(mut self) -> HandoverState<F> {
        let superseded = self.has_successor();
        if self.epoch.is_behind() {
            self.traffic.svm_loaded();
        }
        for frame in self.input.iter() {
            self.traffic.hear(frame);
        }
        self.input.clear(&mut self.link.end);
        HandoverState {
            link: self.link.end,
            traffic: self.traffic,
            epoch: self.epoch.bound().unwrap_or(0),
            // To go on where a node led is no other takeover.
            term: self.led.map_or(self.term, |led| Some(led.wrapping_sub(1))),
            superseded,
            stops: self.ring.stops(),
            migration: self.qemu.migration(),
            ceded: self.ceded,
        }
    }

    /// A node before this one led in this place, after this many takeovers: to go on there is no other takeover.
    pub fn led(&mut self, term: u32) {
        self.led = Some(term);
    }

    /// Whether this VM led, and the other node has said that its VM leads in this one's place. It says so once in a
    /// session, perhaps before this node knows what its QEMU does.
    fn has_successor(&self) -> bool {
        let led_and_heard = self.led.zip(self.term);
        led_and_heard.is_some_and(|(led, heard)| before(led, heard))
    }

    /// Takes in an offset that this node knew before it was started again, or its peer.
    pub(crate) fn inherit(&mut self, flow: FlowKey, offset: Offset, now: Ticks) {
        self.traffic.rewriter.inherit(flow, offset, now);
    }

    /// The next question to the SVM's monitor, unless its ring runs by now: whether the VM does. Without a ring
    /// nothing else shows what the next load covers.
    pub(crate) fn next_question(&mut self) -> Option<u32> {
        if self.ring.is_started() || !self.takes_commands() {
            return None;
        }
        self.reporter.next_question()
    }

    /// What the control thread is to do about a primary that is lost.
    pub(crate) fn next_action(&mut self, now: Ticks) -> Option<Action> {
        let able = self.takes_commands();
        if self.succession.succeeds() {
            // The primary's VM may run, and nobody fences it for that.
            return self.succession.next_action(now, able);
        }
        self.peer.next_action(now, able)
    }

    /// What a fencing command came to.
    pub(crate) fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        self.peer.fenced(number, down, now);
    }

    fn link_event(&mut self, event: Event, now: Ticks) {
        match event {
            Event::Session => {
                self.covers = false;
                self.epoch.session();
                self.reporter.session();
                self.send_whether_it_reports();
                self.input.clear(&mut self.link.end);
            }
            Event::Lost(frames) => self.report_loss(frames),
            Event::Message(Message::Epoch(epoch)) => {
                self.reporter.hear(epoch);
                self.bind(epoch);
            }
            Event::Message(Message::Runs(epoch)) => self.reporter.hear(epoch),
            Event::Message(Message::Synchronized {
                epoch,
                flow,
                pvm,
                svm,
            }) => {
                if self.epoch.bound() == Some(epoch) && !self.traffic.learn(flow, pvm, svm, now) {
                    self.report_loss(1);
                }
            }
            Event::Message(Message::Leads(term)) => {
                self.term = Some(term);
                self.succession.leads();
            }
            Event::Message(Message::Cedes(_)) if self.follows() => {
                let able = self.ring.has_run() && self.covers;
                self.succession.hear(able);
            }
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
        let unreported = !self.ring.is_started() && !self.ring.has_loaded();
        self.epoch.bind(epoch, unreported);
        self.counts.epochs += 1;
        // The monitor may report COLO later than the link its first epoch.
        self.covers = true;
        self.traffic.svm_loaded();
        // The primary does not wait for this; a full queue means that it hears nothing anyway.
        let _ = self.link.end.send(Message::Bound(epoch));
    }

    fn report_loss(&mut self, frames: u32) {
        // A full queue holds such a report already, or nothing that the peer would hear.
        let _ = self.link.end.send(Message::InputLost(frames));
    }

    /// What depends on time alone.
    pub(crate) fn tick(&mut self, now: Ticks) {
        self.traffic.rewriter.age(now);
        let lost = self.follows()
            && self.ring.has_run()
            && (self.ended || self.link.end.is_silent(now))
            && !self.succession.succeeds();
        let was_lost = self.peer.is_lost();
        self.counts.losses += u64::from(lost && !was_lost);
        self.covers &= lost || !was_lost;
        // A primary that is shot without anybody going on in its place helps nobody.
        self.peer.observe(lost, self.auto, now);
    }

    /// The next frame of the link's own.
    pub(crate) fn next_transmit(&mut self, now: Ticks) -> Option<Transmit> {
        self.send_whether_it_reports();
        self.link.next_transmit(now)
    }
}
