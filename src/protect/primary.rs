//! The primary node's half: what the PVM sends is held until the SVM has sent the same or a commit
//! covers it, and what reaches the PVM is mirrored.
//!
//! A stop of the guest's ring is the fence that ends an epoch ([`Primary::guest_stopped`]). What
//! the stop was for is known when the monitor says RESUME and the secondary has reported a load
//! (`stop.rs`): then it is the commit; the first entry into migration state `colo` begins protection; else it was no
//! checkpoint, the SVM knows nothing of it, and everything is held until one comes. The secondary
//! gets an epoch when the ring runs again and not before: what the SVM sends in its name is sent by
//! an SVM that has loaded the state with which the epoch began (rule R3).
//!
//! When the link falls silent or QEMU says that COLO has ended (`leadership.rs`), everything is held
//! until a commit or until it is certain that the SVM does not speak (rule R6): QEMU's migration state
//! became `completed`, which only an operator's word makes it, or the peer's loss is certain by policy.
//!
//! A secondary that has taken over goes on as a primary ([`Primary::inherit`]), and has some more to do
//! (`takeover.rs`).

use super::announce::{Announcement, Announcer};
use super::leadership::{Found, Leader, Leadership};
use super::output_commit::{BURST, Mode, OutputCommit};
use super::peer::Action;
use super::restart::RestartNotice;
use super::retransmit_cache::CachedSegment;
use super::stop::{Resumed, Stops, Takes};
use super::takeover::Takeover;
use super::{Cause, Checkpoints, HandoverState, Migration, QemuEvent, Request, Setup, State};
use crate::compare::{Divergence, Release};
use crate::flow::FlowKey;
use crate::frame::{Frame, Ticks};
use crate::link::secure::Begun;
use crate::link::{DATA_HEADER, Endpoint, Event, Message, Received, Transmit};
use crate::packet::{self, Packet};
use crate::rewrite::Offset;
use crate::spread::{Dispatcher, DispatcherEnd, RedirectionTable};

/// What the primary has counted besides its comparator, link and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input frames mirrored to the SVM.
    pub mirrored: u64,
    /// Input frames that the SVM could not get.
    pub unmirrored: u64,
    /// Output of the SVM from an epoch that is over, dropped.
    pub stale: u64,
    /// P that were dropped because their VM is gone.
    pub discarded: u64,
    /// Frames that could not be translated, dropped.
    pub untranslated: u64,
    /// Connections that this node had no room for when it was the secondary, or since.
    pub offsets_lost: u64,
    /// Times the peer was lost.
    pub losses: u64,
}

/// The secondary's reports of loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// How many there were.
    pub number: u32,
    /// What the last one covers: see [`Message::Loaded`].
    pub covers: Option<u32>,
}

/// The primary node of one VM pair.
pub struct Primary<F> {
    output_commit: OutputCommit<F>,
    link: Endpoint,
    restart: RestartNotice,
    stops: Stops,
    /// The secondary must still get the epoch.
    unsent: bool,
    /// The secondary must still learn that the ring runs in the epoch.
    run_unsent: bool,
    /// What the secondary says of whether it can report loads.
    witness: Option<bool>,
    /// What it reported last, and how many loads it has.
    reports: Reports,
    /// The ring waits so long for a report.
    evidence: Ticks,
    connected: bool,
    migration: Migration,
    leadership: Leadership,
    /// What this node has to mind because it was the secondary.
    takeover: Option<Takeover<F>>,
    announcer: Option<Announcer>,
    millisecond: Ticks,
    /// What the SVM had granted when its input began to wait, and when that was.
    stalled: Option<(u32, Ticks)>,
    timeout: Ticks,
    /// Input frames mirrored, and those that could not be.
    mirrored: u64,
    unmirrored: u64,
    /// S from an epoch that is over.
    stale: u64,
}

impl<F: Frame> Primary<F> {
    /// A node that protects nothing yet and compares on this core alone.
    pub fn new(setup: Setup, now: Ticks) -> Self {
        Self::with_workers(setup, Vec::new(), RedirectionTable::even(1, 1), now)
    }

    /// The same with a worker behind each of `ends`, which compares its share of the flows.
    pub fn with_workers(
        setup: Setup,
        ends: Vec<DispatcherEnd<F>>,
        table: RedirectionTable,
        now: Ticks,
    ) -> Self {
        Self {
            timeout: setup.limits.timeout,
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
            // Whether the VM is in COLO is not known before its monitor has answered.
            stops: Stops::new(),
            unsent: false,
            run_unsent: false,
            witness: None,
            reports: Reports::default(),
            evidence: setup.evidence,
            connected: false,
            migration: Migration::None,
            leadership: Leadership::new(setup.failover),
            takeover: None,
            announcer: None,
            millisecond: setup.millisecond,
            stalled: None,
            mirrored: 0,
            unmirrored: 0,
            stale: 0,
            output_commit: OutputCommit::new(setup, ends, table),
        }
    }

    /// Goes on where a secondary has taken over; this node has done nothing yet.
    pub(crate) fn inherit(&mut self, inheritance: HandoverState<F>, now: Ticks) {
        let HandoverState {
            link,
            rewriter,
            last,
            mut announcer,
            epoch,
            term,
            stops,
            migration,
        } = inheritance;
        announcer.begin(now);
        (self.link, self.announcer) = (link, Some(announcer));
        self.takeover = Some(Takeover::new(rewriter, last));
        self.output_commit.set_epoch(epoch);
        self.migration = migration;
        self.stops = Stops::running_after(stops, epoch);
        self.run_unsent = true;
        self.connected = true;
        self.leadership.succeed(term);
        self.note_follower();
        // What the old primary takes for heard, the VM that goes on now would have to know (rules R5, R6).
        self.link.take_lead(Message::Leads(self.term()));
        // A node that was started again while its VM leads a pair.
        self.not_a_checkpoint(Cause::MonitorLost, now);
    }

    /// The word for what the node does now.
    pub fn state(&self) -> State {
        match self.output_commit.mode() {
            Mode::Alone => State::Solo,
            Mode::Off if self.link.has_session() => State::Pairing,
            Mode::Off => State::Solo,
            _ if self.leadership.is_lost() => State::PeerLost,
            _ if self.stops.is_unexplained() => State::Checkpointing,
            Mode::On => State::Protected,
            Mode::Uncertain => State::Uncertain,
        }
    }

    /// Whether it goes on without the other VM though QEMU has not got the failover command.
    pub fn is_alone(&self) -> bool {
        self.output_commit.mode() == Mode::Alone
    }

    /// Takeovers before this node led.
    pub fn term(&self) -> u32 {
        self.leadership.term()
    }

    /// Whether it began as a secondary.
    pub fn has_taken_over(&self) -> bool {
        self.takeover.is_some()
    }

    fn in_colo(&self) -> bool {
        self.migration == Migration::Colo
    }

    /// In COLO this node's VM has an SVM, which may take over from it.
    fn note_follower(&mut self) {
        if self.in_colo() {
            self.leadership.has_follower();
        }
    }

    /// Whether what the SVM loads is a state of this COLO's.
    fn takes_checkpoints(&self) -> bool {
        self.in_colo() && !self.leadership.has_ended()
    }

    /// Number of the epoch that the PVM runs, or will run when it starts again.
    pub fn epoch(&self) -> u32 {
        self.output_commit.epoch()
    }

    /// The epoch that began with the last commit, whatever has become of the protection since.
    pub fn committed(&self) -> Option<u32> {
        self.output_commit.committed()
    }

    /// The comparator, for its counters.
    pub fn comparator(&self) -> &Dispatcher<F> {
        self.output_commit.comparator()
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

    /// The requests and their counters.
    pub fn checkpoints(&self) -> &Checkpoints {
        self.output_commit.checkpoints()
    }

    /// The counters.
    pub fn counts(&self) -> Counts {
        Counts {
            mirrored: self.mirrored,
            unmirrored: self.unmirrored,
            stale: self.stale,
            discarded: self.output_commit.discarded(),
            untranslated: self.takeover.as_ref().map_or(0, Takeover::untranslated),
            offsets_lost: self.takeover.as_ref().map_or(0, Takeover::offsets_lost),
            losses: self.leadership.losses(),
        }
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        let last = self.takeover.as_ref().map_or(0, Takeover::frames);
        self.output_commit.frames() + last
    }

    /// P that wait for their counterpart, a commit or an acknowledgment.
    pub fn held(&self) -> usize {
        self.output_commit.held()
    }

    /// Whether the guest's ring may be polled: its frames have a known epoch and a burst has room.
    /// Until the monitor has answered whether the VM is in COLO they stay in the ring (rule R8).
    pub fn wants_output(&self) -> bool {
        !self.stops.is_stopped() && self.output_commit.has_room()
    }

    /// Whether the link may be polled: a burst of what the SVM sent has room.
    pub(crate) fn wants_link(&mut self) -> bool {
        self.output_commit.wants_secondary()
    }

    /// Gives the workers what was taken in since the last call, and takes in what they found. To
    /// be called once a round.
    pub(crate) fn exchange(&mut self, now: Ticks) {
        self.output_commit.exchange(now);
    }

    /// Whether no worker has anything left to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.output_commit.is_settled()
    }

    /// Input frames that may be given to the guest now.
    pub(crate) fn input_room(&self, now: Ticks) -> usize {
        match self.output_commit.mode() {
            _ if self.stops.is_stopped() => 0,
            Mode::Off | Mode::Alone => usize::MAX,
            _ if self.link.is_up(now) && !self.leadership.has_ended() => self.link.room(),
            _ => usize::MAX,
        }
    }

    /// Whether input that the guest takes is to be mirrored.
    pub(crate) fn mirrors(&self, now: Ticks) -> bool {
        self.output_commit.compares() && !self.leadership.has_ended() && self.link.is_up(now)
    }

    /// Translates a frame that the network sent; to be called once for each, before the guest gets
    /// it. False for one that must be dropped.
    pub(crate) fn input(&mut self, frame: &mut F, now: Ticks) -> bool {
        let Some(takeover) = &mut self.takeover else {
            return true;
        };
        takeover.translate_input(frame, now)
    }

    /// What one of the VMs sent, in the client's numbers; to be called once for each frame before
    /// [`Primary::ingest`]. A frame that was just taken has no other owner.
    pub(crate) fn outward(&mut self, frame: F, now: Ticks) -> Option<F> {
        let Some(takeover) = &mut self.takeover else {
            return Some(frame);
        };
        takeover.translate_output(frame, now)
    }

    /// The next of the segments that the VM sent last on each connection before this node took over, as
    /// [`Secondary::keep`] got it. The network may not have got them, and nothing else would come
    /// before one end's retransmission timer. One that does not count must not leave: the VM has
    /// loaded another state since. None where a comparison has begun.
    ///
    /// [`Secondary::keep`]: super::Secondary::keep
    pub(crate) fn next_last(&mut self) -> Option<CachedSegment<F>> {
        let compares = self.output_commit.compares();
        let takeover = self.takeover.as_mut()?;
        if compares {
            takeover.forget_last();
        }
        takeover.next_last()
    }

    /// The frame of such a segment without what the caller put in front of it, in the client's numbers, ready to leave.
    pub(crate) fn outward_again(&mut self, frame: F) -> Option<F> {
        let Some(takeover) = &mut self.takeover else {
            return Some(frame);
        };
        takeover.repeat(frame)
    }

    /// After a takeover, whom the VM has sent this segment to: it is asked, too, so that the VM need not wait for
    /// an answer that its own question did not get. `packet` was parsed from it, `head` is its first part.
    pub(crate) fn speaks_to(&mut self, head: &[u8], packet: &Packet) {
        if let Some(announcer) = &mut self.announcer {
            announcer.speaks_to(head, packet);
        }
    }

    /// Whether [`Primary::hears`] must get input: the VM ran while no node served it, and what it
    /// asked then got no answer.
    pub(crate) fn wants_peers(&self) -> bool {
        self.announcer
            .as_ref()
            .is_some_and(|announcer| !announcer.is_done())
    }

    /// A segment was sent to the VM; its sender is asked as in [`Primary::speaks_to`].
    pub(crate) fn hears(&mut self, head: &[u8], packet: &Packet) {
        if let Some(announcer) = &mut self.announcer {
            announcer.hears(head, packet);
        }
    }

    /// The bytes to put in front of an input frame that the guest's ring has taken.
    pub(crate) fn mirror(&mut self, length: usize, now: Ticks) -> [u8; DATA_HEADER] {
        self.mirrored += 1;
        self.link.data_header(self.epoch(), length as u32, now)
    }

    /// Looks at input that the guest's ring has taken and that was mirrored: if a client resets a
    /// connection, what one VM sent before and the other never will is not waited for.
    #[inline]
    pub(crate) fn mirrored(&mut self, frame: &F, now: Ticks) {
        if let Some(reset) = packet::reset_of(frame.head(), frame.len()) {
            self.output_commit.client_reset(&reset, now);
        }
    }

    /// The guest's ring has taken input that cannot be mirrored.
    pub(crate) fn input_missed(&mut self, frames: usize, now: Ticks) {
        if frames > 0 && self.output_commit.compares() {
            self.unmirrored += frames as u64;
            self.mark_uncertain(
                if self.link.is_up(now) {
                    Cause::InputLost
                } else {
                    Cause::LinkDown
                },
                now,
            );
        }
    }

    /// Whether what the PVM sends is compared. If not, nothing is protected, and it may leave at once.
    pub(crate) fn compares(&self) -> bool {
        self.output_commit.compares()
    }

    /// How many P and S the next round should take at most, where it finds more.
    #[inline]
    pub(crate) fn take_budget(&mut self) -> [usize; 2] {
        self.output_commit.take_budget()
    }

    /// Takes in P, of which the caller has a burst at most and has seen [`Primary::wants_output`], and S that
    /// [`Primary::admits`] has let pass. Between that and this nothing else was taken in.
    pub(crate) fn ingest(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        self.output_commit.ingest(primary, secondary, now);
    }

    /// Takes in a frame from the link; returns the epoch and the length of output of the SVM that it carries. What
    /// else it says waits for [`Primary::link_events`] and comes before that output, and behind what came in earlier
    /// frames.
    pub(crate) fn link_frame(
        &mut self,
        head: &[u8],
        frame_len: usize,
        now: Ticks,
    ) -> Option<(u32, usize)> {
        match self.link.receive(head, frame_len, now) {
            Received::Data { epoch, length, .. } => Some((epoch, length as usize)),
            Received::Consumed | Received::Ignored => None,
        }
    }

    /// The link's guard has begun a session. All S from earlier frames were taken in before.
    pub(crate) fn link_begins(&mut self, session: Begun, now: Ticks) {
        self.link.begin(session);
        self.link_events(now);
    }

    /// Whether the link has said something besides output of the SVM.
    #[inline]
    pub(crate) fn has_link_events(&self) -> bool {
        self.link.has_events()
    }

    /// Takes in what the link has said. All S from earlier frames were taken in before.
    pub(crate) fn link_events(&mut self, now: Ticks) {
        while let Some(event) = self.link.next_event() {
            self.link_event(event, now);
        }
    }

    /// Whether output of the SVM from this epoch is compared; counts it if it is not.
    #[inline]
    pub(crate) fn admits(&mut self, epoch: u32) -> bool {
        let runs = self.output_commit.mode() == Mode::On && !self.stops.is_stopped();
        let admits = runs && epoch == self.epoch();
        self.stale += u64::from(!admits);
        admits
    }

    fn link_event(&mut self, event: Event, now: Ticks) {
        match event {
            Event::Session => {
                self.restart.session();
                // It knows no epoch, and learns the next one when that is committed.
                self.unsent = false;
                self.run_unsent = !self.stops.is_stopped();
                self.witness = None;
                self.stops.forget_reports();
                self.output_commit.revoke();
                if let Some(takeover) = &mut self.takeover {
                    takeover.send_again();
                }
                self.send_lead();
                if self.output_commit.compares() {
                    self.mark_uncertain(Cause::PeerRestarted, now);
                }
            }
            Event::Lost(_) => {
                if self.output_commit.mode() == Mode::On {
                    self.output_commit.want(Cause::OutputLost, now);
                }
            }
            Event::Message(Message::InputLost(_)) => {
                if self.output_commit.mode() == Mode::On {
                    self.output_commit.want(Cause::InputLost, now);
                }
            }
            Event::Message(Message::Leads(term)) => match self.leadership.hear(term) {
                // It comes first in a session, so that nothing that is to stay unheard was acknowledged before.
                Leader::Predecessor => self.link.take_lead(Message::Leads(self.term())),
                Leader::Successor if self.output_commit.mode() != Mode::Off => {
                    self.leadership.supersede();
                    self.end();
                }
                Leader::Successor | Leader::Former => {}
            },
            Event::Message(Message::Restarts) => self.link.expect_restart(now),
            Event::Message(Message::Witnesses(able)) => {
                self.witness = Some(able);
                self.output_commit.checkpoints_mut().encourage();
            }
            Event::Message(Message::Loaded(covers)) => {
                self.reports.number = self.reports.number.wrapping_add(1);
                self.reports.covers = covers;
                if self.takes_checkpoints() && self.stops.reported(covers) {
                    self.commits(now);
                }
            }
            Event::Message(Message::VmLost) if self.output_commit.mode() == Mode::On => {
                self.mark_uncertain(Cause::LinkDown, now);
            }
            Event::Message(_) => {}
        }
    }

    /// No commit comes any more, and nothing leaves before somebody has decided.
    fn end(&mut self) {
        self.leadership.end();
        if self.output_commit.mode() != Mode::Alone || self.leadership.is_superseded() {
            self.output_commit.suspend();
        }
        self.output_commit.checkpoints_mut().settle();
    }

    /// The guest's ring has stopped: everything taken from it so far belongs to the epoch that
    /// ends here. Called from the poll core before the stop is confirmed to QEMU.
    pub(crate) fn guest_stopped(&mut self) {
        self.stops.ring_stopped();
        (self.unsent, self.run_unsent) = (false, false);
        self.output_commit.fence();
    }

    /// Takes in what the monitor says.
    pub(crate) fn monitor(&mut self, event: QemuEvent, now: Ticks) {
        match event {
            QemuEvent::Connected {
                migration, running, ..
            } => {
                self.connected = true;
                let paired = matches!(migration, Migration::Colo | Migration::Completed);
                if running && paired && self.stops.number() == 0 && self.stops.is_stopped() {
                    // Another node served it before this one.
                    let millisecond = self.millisecond;
                    self.announcer
                        .get_or_insert_with(|| Announcer::new(millisecond));
                }
                self.stops.connected();
                self.migration = migration;
                self.note_follower();
                self.output_commit.checkpoints_mut().retry();
                self.reconnected(now);
            }
            QemuEvent::Disconnected => {
                self.connected = false;
                self.output_commit.checkpoints_mut().retry();
                self.stops.forget();
            }
            QemuEvent::Stop => {
                self.output_commit.checkpoints_mut().stopped();
                self.stops.vm_stopped();
            }
            QemuEvent::Pass => self.stops.pass(),
            QemuEvent::Migration(migration) => self.migrated(migration, now),
            QemuEvent::ColoExit => {
                self.link.end_restart();
                if self.output_commit.mode() != Mode::Off {
                    self.end();
                }
            }
            QemuEvent::Resume => self.resumed(now),
            QemuEvent::Barrier {
                stops,
                migration,
                running,
            } => {
                if running && stops == self.stops.number() {
                    self.migrated(migration, now);
                    self.ring_runs(now);
                }
            }
            QemuEvent::StoppedFor { .. }
            | QemuEvent::Answered { .. }
            | QemuEvent::StartedWithoutMonitor { .. } => {}
        }
    }

    /// The state of the VM's migration is this now.
    fn migrated(&mut self, migration: Migration, now: Ticks) {
        let was = std::mem::replace(&mut self.migration, migration);
        match (was, migration) {
            (Migration::Colo, Migration::Colo) => {}
            (_, Migration::Colo) => {
                self.stops.enter_colo();
                self.note_follower();
                self.leadership.forget_end();
                self.output_commit.await_begin();
            }
            (Migration::Colo, Migration::Completed)
                if self.output_commit.mode() != Mode::Off && !self.leadership.is_superseded() =>
            {
                self.leadership.forget_end();
                self.output_commit.go_on_alone(Mode::Off, now);
            }
            (Migration::Colo, _) if self.output_commit.mode() != Mode::Off => self.end(),
            _ => {}
        }
    }

    /// The VM runs again.
    fn resumed(&mut self, now: Ticks) {
        let takes = match self.output_commit.mode() {
            _ if !self.in_colo() => Takes::Nothing,
            Mode::Off => Takes::First,
            _ if self.leadership.has_ended() => Takes::Nothing,
            _ => Takes::Checkpoints,
        };
        match self.stops.resumed(takes, self.is_witnessed(now)) {
            Resumed::Nothing => self.output_commit.checkpoints_mut().retry(),
            Resumed::Checkpoint => self.commits(now),
            Resumed::Unproven => self.output_commit.checkpoints_mut().went_on(),
            Resumed::Other => self.not_a_checkpoint(Cause::GuestReset, now),
        }
    }

    /// Whether the secondary is heard and may report loads: it has not said that it cannot.
    pub fn is_witnessed(&self, now: Ticks) -> bool {
        self.witness != Some(false) && self.link.is_up(now)
    }

    /// Divergences that were found while an earlier one still waited to be written down.
    pub fn unrecorded(&self) -> u64 {
        self.output_commit.unrecorded()
    }

    /// The secondary's reports of loads.
    pub fn reports(&self) -> Reports {
        self.reports
    }

    /// The stop was a checkpoint's. Nothing was polled since the ring stopped, so what is held is older
    /// than the stop.
    fn commits(&mut self, now: Ticks) {
        match self.output_commit.mode() {
            Mode::Off => self.output_commit.begin(now),
            _ => self.output_commit.commit(now),
        }
        if self.link.is_silent(now) {
            // QEMU's own connection works. What the VM sends next waits for the next commit. The loss is noted, so that
            // the link's return is: it may come before the next tick.
            self.leadership.observe(true, true, now);
            self.output_commit.suspend();
        }
        if self.stops.awaits_report() {
            self.goes_on(now);
        }
    }

    /// The ring runs, and the monitor has reported everything before.
    fn ring_runs(&mut self, now: Ticks) {
        if !self.stops.ring_runs(now) {
            self.goes_on(now);
        }
    }

    /// Ends the wait for a report that does not come.
    fn wait_for_report(&mut self, now: Ticks) {
        // Where COLO has ended, no report and no MIGRATION_PASS commits any more.
        let patience = if !self.takes_checkpoints() {
            0
        } else if self.is_witnessed(now) {
            self.evidence
        } else if self.stops.trust_pass() {
            return self.commits(now);
        } else {
            0
        };
        if self.stops.is_overdue(now, patience) {
            self.goes_on(now);
        }
    }

    /// The ring is polled from now on.
    fn goes_on(&mut self, now: Ticks) {
        let unproven = self.stops.awaits_report() && self.stops.is_unexplained();
        let Some(committed) = self.stops.goes_on(self.output_commit.epoch()) else {
            return;
        };
        self.run_unsent = true;
        match self.output_commit.mode() {
            Mode::On if committed => {
                self.unsent = true;
                self.tell();
            }
            Mode::Uncertain if committed => {}
            _ if unproven => self.not_a_checkpoint(Cause::Unproven, now),
            _ => self.not_a_checkpoint(Cause::GuestReset, now),
        }
    }

    /// Tells the peer that this node leads.
    fn send_lead(&mut self) {
        // A queue that is full before anything else was said will be emptied by the next session.
        let _ = self.link.send(Message::Leads(self.leadership.term()));
    }

    /// Tells the secondary of the epoch, if the link takes it now.
    fn tell(&mut self) {
        if self.unsent
            && self.takeover.as_ref().is_none_or(Takeover::has_sent_all)
            && self.link.send(Message::Epoch(self.epoch())).is_ok()
        {
            (self.unsent, self.run_unsent) = (false, false);
        }
        if self.run_unsent
            && self.in_colo()
            && self.link.has_session()
            && self.link.send(Message::Runs(self.epoch())).is_ok()
        {
            self.run_unsent = false;
        }
    }

    /// The guest's ring stopped and started, but the SVM did not get the state.
    fn not_a_checkpoint(&mut self, cause: Cause, now: Ticks) {
        match self.output_commit.mode() {
            Mode::Off if self.in_colo() => {
                self.mark_uncertain(Cause::MonitorLost, now);
            }
            Mode::Off | Mode::Alone => {}
            Mode::On | Mode::Uncertain => {
                let checkpoints = self.output_commit.checkpoints_mut();
                if cause == Cause::Unproven {
                    checkpoints.unproven(now);
                } else {
                    checkpoints.retry();
                }
                self.mark_uncertain(cause, now);
            }
        }
    }

    fn reconnected(&mut self, now: Ticks) {
        match (self.output_commit.mode(), self.migration) {
            (Mode::Off, Migration::Colo) => self.not_a_checkpoint(Cause::MonitorLost, now),
            // It may be another COLO by now; if it is not, no checkpoint will come.
            (_, Migration::Colo)
                if self.leadership.has_ended() && !self.leadership.is_superseded() =>
            {
                self.leadership.forget_end();
                if self.output_commit.compares() {
                    self.mark_uncertain(Cause::MonitorLost, now);
                }
            }
            // Only a RESUME or a barrier shows that a stop is over: the VM's state in the answer
            // may be older than the stop.
            (_, Migration::Colo) | (Mode::Off, _) => {}
            (_, Migration::Broken) => self.end(),
            (_, Migration::Completed) if self.leadership.is_superseded() => {}
            (_, Migration::None | Migration::Completed) => {
                // Another QEMU, or one that got the failover command while no node listened: what its
                // predecessor sent must not leave now.
                self.leadership.start_over();
                self.output_commit.start_over(now);
            }
        }
    }

    /// Holds everything until the next commit.
    fn mark_uncertain(&mut self, cause: Cause, now: Ticks) {
        let cause = (!self.leadership.has_ended()).then_some(cause);
        self.output_commit.mark_uncertain(cause, now);
    }

    /// What depends on time alone; to be called at least every tenth of a millisecond.
    pub(crate) fn tick(&mut self, now: Ticks) {
        if let Some(takeover) = &mut self.takeover {
            takeover.age(now);
        }
        self.watch(now);
        self.wait_for_report(now);
        if !self.output_commit.compares()
            || self.leadership.has_ended()
            || self.stops.is_vm_stopped()
        {
            return;
        }
        self.output_commit.tick(self.leadership.is_peer_lost(), now);
        if self.input_stalls(now) && !self.checkpoints().is_wanted() {
            self.output_commit.want(Cause::InputLost, now);
        }
    }

    /// Whether the peer is lost, and what follows from it.
    fn watch(&mut self, now: Ticks) {
        let paired = self.output_commit.mode() != Mode::Off;
        let silent = self.link.is_silent(now);
        let found = self.leadership.observe(paired, silent, now);
        if matches!(found, Found::Lost | Found::Back) {
            // The peer may have taken over meanwhile, and acknowledge numbers that it has not learned (rule R6).
            self.output_commit.revoke();
        }
        if found == Found::Back {
            self.output_commit.checkpoints_mut().encourage();
        }
        match (self.output_commit.mode(), found) {
            (Mode::On | Mode::Uncertain, Found::Gone) => {
                self.output_commit.go_on_alone(Mode::Alone, now);
            }
            (Mode::On, Found::Lost)
            | (Mode::Uncertain, Found::Back)
            | (Mode::Alone, Found::Back | Found::Present) => {
                self.mark_uncertain(Cause::LinkDown, now);
            }
            _ => {}
        }
    }

    /// What the control thread is to do about a peer that is lost.
    pub(crate) fn next_action(&mut self, now: Ticks) -> Option<Action> {
        let able = self.connected && self.in_colo();
        self.leadership.next_action(now, able)
    }

    /// What a fencing command came to.
    pub(crate) fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        self.leadership.fenced(number, down, now);
    }

    /// Whether the SVM has taken no input for the timeout while the PVM's waits for it.
    fn input_stalls(&mut self, now: Ticks) -> bool {
        if !self.mirrors(now) || self.link.room() >= BURST {
            self.stalled = None;
            return false;
        }
        let granted = self.link.granted();
        match self.stalled {
            Some((then, since)) if then == granted => now.saturating_sub(since) >= self.timeout,
            _ => {
                self.stalled = Some((granted, now));
                false
            }
        }
    }

    /// Whether another VM speaks in this one's place: what was free to leave must not any more.
    pub fn is_superseded(&self) -> bool {
        self.leadership.is_superseded()
    }

    /// The next frame for the uplink. The link gets a connection's ISNs before any frame of it leaves.
    pub(crate) fn next_release(&mut self) -> Option<Release<F>> {
        if self.is_superseded() {
            return None;
        }
        self.output_commit.next_release(&mut self.link)
    }

    /// The next checkpoint request to write to the monitor.
    pub(crate) fn next_request(&mut self, now: Ticks) -> Option<Request> {
        // While the ring does not run and nothing is held, a checkpoint would help nobody; and one of a
        // VM whose port is not there yet would carry to the SVM that its NIC has no link.
        let waits_for_ring = self.stops.is_stopped() && self.held() == 0;
        let able = self.connected
            && self.in_colo()
            && !self.leadership.has_ended()
            && !self.stops.is_vm_stopped()
            && !self.stops.awaits_report()
            && !waits_for_ring;
        self.output_commit.next_request(now, able)
    }

    /// The next frame that tells the network where the VM is now, or asks where the VM's peers are. A node that has
    /// not taken over asks when its VM's output may leave.
    pub(crate) fn next_announcement(&mut self, now: Ticks) -> Option<Announcement> {
        let mode = self.output_commit.mode();
        // While it is uncertain whether the SVM speaks, the network must not look for the VM here (rule R6).
        let silent = self.is_superseded() || self.stops.is_stopped() || mode == Mode::Uncertain;
        let may_begin = mode != Mode::Off || !self.in_colo();
        let announcer = self.announcer.as_mut().filter(|_| !silent)?;
        if may_begin && announcer.is_new() {
            announcer.begin(now);
        }
        announcer.next(now)
    }

    /// The inherited offset at or behind a slot, and the next slot to ask for; `None` when there
    /// is no slot any more.
    pub(crate) fn inherited(&self, slot: usize) -> Option<(usize, Option<(FlowKey, Offset)>)> {
        self.takeover.as_ref()?.offset_from(slot)
    }

    /// The next divergence to write down.
    pub(crate) fn next_record(&mut self) -> Option<Divergence<F>> {
        self.output_commit.next_record()
    }

    /// The next frame of the link's own.
    pub(crate) fn next_transmit(&mut self, now: Ticks) -> Option<Transmit> {
        if let Some(takeover) = &mut self.takeover {
            takeover.tell(&mut self.link);
        }
        self.tell();
        self.restart.send(&mut self.link);
        self.link.next_transmit(now)
    }
}
