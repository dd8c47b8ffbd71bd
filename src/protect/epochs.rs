//! The PVM's epochs: where one ends, what the stop that ended it was, and what becomes of the output that is held.
//!
//! A stop of the guest's ring is the fence that ends an epoch ([`Epochs::guest_stopped`]). What
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
//! In: stops, what the monitor and the link say, time. Out: messages for the link, requests, P that may leave.

use super::cession::{Cession, CessionNews};
use super::epoch_notice::EpochNotice;
use super::leadership::{Found, Leader, Leadership};
use super::load_reports::{LoadReports, Reports};
use super::output_commit::{Mode, OutputCommit};
use super::peer::Action;
use super::peer_link::PeerLink;
use super::qemu::Qemu;
use super::stop::{Resumed, Stops, Takes};
use super::{Cause, Migration, QemuEvent, Request, Setup, State};
use crate::compare::Release;
use crate::frame::{Frame, Ticks};
use crate::link::{Event, Message};
use crate::spread::{DispatcherEnd, RedirectionTable};

/// The epochs of one PVM.
pub struct Epochs<F> {
    output: OutputCommit<F>,
    stops: Stops,
    notice: EpochNotice,
    reports: LoadReports,
    qemu: Qemu,
    leadership: Leadership,
    cession: Cession,
}

impl<F: Frame> Epochs<F> {
    /// Nothing is protected yet. Whether the VM is in COLO is not known before its monitor has answered.
    pub(super) fn new(setup: Setup, ends: Vec<DispatcherEnd<F>>, table: RedirectionTable) -> Self {
        Self {
            stops: Stops::new(),
            notice: EpochNotice::default(),
            reports: LoadReports::new(setup.evidence),
            qemu: Qemu::default(),
            leadership: Leadership::new(setup.failover),
            cession: Cession::default(),
            output: OutputCommit::new(setup, ends, table),
        }
    }

    /// Goes on with a VM that this node served as the secondary, behind these stops of its ring, after a primary of this term,
    /// if the term was heard.
    pub(super) fn succeed(
        &mut self,
        epoch: u32,
        stops: u32,
        term: Option<u32>,
        migration: Migration,
        now: Ticks,
    ) {
        self.output.set_epoch(epoch);
        self.qemu.migrated(migration);
        self.stops = Stops::running_after(stops, epoch);
        self.notice.ring_runs();
        self.qemu.connected();
        self.leadership.succeed(term);
        self.note_follower();
        // A node that was started again while its VM leads a pair.
        self.not_a_checkpoint(Cause::MonitorLost, now);
    }

    /// The word for what the node does now.
    pub(super) fn state(&self, link: &PeerLink) -> State {
        match self.output.mode() {
            Mode::Alone => State::Solo,
            Mode::Off if link.end.has_session() => State::Pairing,
            Mode::Off => State::Solo,
            _ if self.leadership.is_lost() => State::PeerLost,
            _ if self.stops.is_unexplained() => State::Checkpointing,
            Mode::On => State::Protected,
            Mode::Uncertain => State::Uncertain,
        }
    }

    /// The epoch that began with the last commit, whatever has become of the protection since.
    pub fn committed(&self) -> Option<u32> {
        self.output.committed()
    }

    /// Whether it goes on without the other VM though QEMU has not got the failover command.
    pub fn is_alone(&self) -> bool {
        self.output.mode() == Mode::Alone
    }

    /// Whether the peer is lost and its VM certainly sends nothing any more.
    pub fn is_peer_gone(&self) -> bool {
        self.leadership.is_certain()
    }

    /// Takeovers before this node led.
    pub fn term(&self) -> u32 {
        self.leadership.term()
    }

    /// Whether another VM speaks in this one's place, or may: nothing more becomes free to leave.
    pub fn is_superseded(&self) -> bool {
        self.leadership.is_superseded()
    }

    /// Whether another VM speaks in this one's place: what was free to leave must not any more. A node that gives up its
    /// lead still sends that, because nobody hears of it before nothing waits ([`Epochs::next_cession_news`]).
    pub fn is_replaced(&self) -> bool {
        self.leadership.is_replaced()
    }

    /// The secondary's reports of loads.
    pub fn reports(&self) -> Reports {
        self.reports.last()
    }

    /// The output between its ring and the uplink.
    #[inline]
    pub(super) fn output(&self) -> &OutputCommit<F> {
        &self.output
    }

    /// The output between its ring and the uplink, for what does not end or commit an epoch.
    #[inline]
    pub(super) fn output_mut(&mut self) -> &mut OutputCommit<F> {
        &mut self.output
    }

    /// Times the peer was lost.
    pub(super) fn losses(&self) -> u64 {
        self.leadership.losses()
    }

    /// Whether the guest's ring has stopped, or what the stop was is not known yet.
    pub(super) fn is_stopped(&self) -> bool {
        self.stops.is_stopped()
    }

    /// Whether output is compared, and the SVM may still be the one that goes on.
    pub(super) fn is_paired(&self) -> bool {
        self.output.compares() && !self.leadership.has_ended()
    }

    /// In COLO this node's VM has an SVM, which may take over from it.
    fn note_follower(&mut self) {
        if self.qemu.in_colo() {
            self.leadership.has_follower();
        }
    }

    /// Whether it is unknown until the next commit what the SVM has sent, and so whether it speaks.
    pub(super) fn is_uncertain(&self) -> bool {
        self.output.mode() == Mode::Uncertain
    }

    /// Whether what the VM sends now may leave sooner or later without a commit.
    pub(super) fn lets_out(&self) -> bool {
        match self.output.mode() {
            Mode::On | Mode::Alone => true,
            Mode::Off => !self.qemu.in_colo(),
            Mode::Uncertain => false,
        }
    }

    /// Whether output of the SVM from this epoch is compared.
    #[inline]
    pub(super) fn admits(&self, epoch: u32) -> bool {
        let runs = self.output.mode() == Mode::On && !self.stops.is_stopped();
        runs && epoch == self.output.epoch()
    }

    /// Whether the secondary is heard and may report loads: it has not said that it cannot.
    pub(super) fn is_witnessed(&self, link: &PeerLink, now: Ticks) -> bool {
        self.reports.may_come() && link.end.is_up(now)
    }

    /// Whether what the SVM loads is a state of this COLO's.
    fn takes_checkpoints(&self) -> bool {
        self.qemu.in_colo() && !self.leadership.has_ended()
    }

    /// A session of the link began. `offsets` says that the peer must get offsets before the next epoch.
    pub(super) fn session(&mut self, offsets: bool, link: &mut PeerLink, now: Ticks) {
        self.notice.session(!self.stops.is_stopped(), offsets);
        self.reports.session();
        self.stops.forget_reports();
        self.output.revoke();
        // A queue that is full before anything else was said will be emptied by the next session.
        let _ = link.end.send(Message::Leads(self.leadership.term()));
        self.cession.session();
        if self.output.compares() {
            self.mark_uncertain(Cause::PeerRestarted, now);
        }
    }

    /// The peer was sent all offsets.
    pub(super) fn offsets_sent(&mut self) {
        self.notice.offsets_sent();
    }

    /// Takes in what the link says in a session.
    pub(super) fn hear(&mut self, event: Event, link: &mut PeerLink, now: Ticks) {
        match event {
            Event::Lost(_) => {
                if self.output.mode() == Mode::On {
                    self.output.want(Cause::OutputLost, now);
                }
            }
            Event::Message(Message::InputLost(_)) => {
                if self.output.mode() == Mode::On {
                    self.output.want(Cause::InputLost, now);
                }
            }
            Event::Message(Message::Leads(term)) => match self.leadership.hear(term) {
                // It comes first in a session, so that nothing that is to stay unheard was acknowledged before.
                Leader::Predecessor => link.end.take_lead(Message::Leads(self.term())),
                Leader::Successor if self.output.mode() != Mode::Off => self.hear_successor(),
                Leader::Successor | Leader::Former => {}
            },
            Event::Message(Message::Witnesses(able)) => {
                self.reports.hear_able(able);
                self.output.checkpoints_mut().encourage();
            }
            Event::Message(Message::Loaded(covers)) => {
                self.reports.hear(covers);
                if self.takes_checkpoints() && self.stops.reported(covers) {
                    self.commits(link, now);
                }
            }
            Event::Message(Message::VmLost) if self.output.mode() == Mode::On => {
                self.mark_uncertain(Cause::LinkDown, now);
            }
            Event::Session | Event::Message(_) => {}
        }
    }

    /// Another VM leads in this one's place.
    pub(super) fn hear_successor(&mut self) {
        self.leadership.supersede();
        if self.leadership.has_ceded() {
            self.cession.succeed();
        }
        self.end();
    }

    /// Gives up the lead for good, if the SVM could go on at this moment. Who runs this node next must be as silent
    /// before anybody hears of it ([`Epochs::cession_is_written`]).
    pub(super) fn cede(&mut self, link: &PeerLink, now: Ticks) {
        let able = self.state(link) == State::Protected && link.end.is_up(now);
        if able {
            self.leadership.cede();
            self.cession.fall_silent();
        } else if !self.leadership.has_ceded() {
            self.cession.refuse();
        }
    }

    /// The lead was given up, by this node or by one before it, and that is written down.
    pub(super) fn cession_is_written(&mut self) {
        self.leadership.cede();
        self.cession.is_written();
        if !self.output.compares() {
            self.output.suspend();
        }
    }

    /// Takes the lead back: the other node heard nothing, or its VM certainly sends nothing.
    pub(super) fn take_back(&mut self, link: &mut PeerLink) {
        if self.leadership.take_back() {
            self.cession.forget();
            // A full queue means that the other one hears nothing anyway.
            let _ = link.end.send(Message::Leads(self.leadership.term()));
        }
    }

    /// What the control thread does not know of the cession. `is_idle`: nothing waits at the uplink.
    pub(super) fn next_cession_news(
        &mut self,
        is_idle: bool,
        link: &PeerLink,
    ) -> Option<CessionNews> {
        self.cession.next_news(is_idle, &link.end)
    }

    /// No commit comes any more, and nothing leaves before somebody has decided.
    fn end(&mut self) {
        self.leadership.end();
        if self.output.mode() != Mode::Alone || self.leadership.is_superseded() {
            self.output.suspend();
        }
        self.output.checkpoints_mut().settle();
    }

    /// The guest's ring has stopped: everything taken from it so far belongs to the epoch that
    /// ends here. Called from the poll core before the stop is confirmed to QEMU.
    pub(super) fn guest_stopped(&mut self) {
        self.stops.ring_stopped();
        self.notice.fence();
        self.output.fence();
    }

    /// Whether a VM whose monitor answers so was served by another node before this one.
    pub(super) fn was_served_before(&self, migration: Migration, running: bool) -> bool {
        let paired = matches!(migration, Migration::Colo | Migration::Completed);
        running && paired && self.stops.number() == 0 && self.stops.is_stopped()
    }

    /// Takes in what the monitor says.
    pub(super) fn monitor(&mut self, event: QemuEvent, link: &mut PeerLink, now: Ticks) {
        match event {
            QemuEvent::Connected { migration, .. } => {
                self.qemu.connected();
                self.stops.connected();
                self.qemu.migrated(migration);
                self.note_follower();
                self.output.checkpoints_mut().retry();
                self.reconnected(now);
            }
            QemuEvent::Disconnected => {
                self.qemu.disconnected();
                self.output.checkpoints_mut().disconnected();
                self.stops.forget();
            }
            QemuEvent::Stop => {
                self.output.checkpoints_mut().stopped(now);
                self.stops.vm_stopped();
            }
            QemuEvent::Pass => self.stops.pass(),
            QemuEvent::Migration(migration) => self.migrated(migration, now),
            QemuEvent::ColoExit => {
                link.end.end_restart();
                if self.output.mode() != Mode::Off {
                    self.end();
                }
            }
            QemuEvent::Resume => self.resumed(link, now),
            QemuEvent::Barrier {
                stops,
                migration,
                running,
            } => {
                if running && stops == self.stops.number() {
                    self.migrated(migration, now);
                    self.ring_runs(link, now);
                }
            }
            QemuEvent::StoppedFor { .. }
            | QemuEvent::Answered { .. }
            | QemuEvent::StartedWithoutMonitor { .. } => {}
        }
    }

    /// The state of the VM's migration is this now.
    fn migrated(&mut self, migration: Migration, now: Ticks) {
        match (self.qemu.migrated(migration), migration) {
            (Migration::Colo, Migration::Colo) => {}
            (_, Migration::Colo) => {
                self.stops.enter_colo();
                self.note_follower();
                self.leadership.forget_end();
                self.output.await_begin();
            }
            (Migration::Colo, Migration::Completed)
                if self.output.mode() != Mode::Off && !self.leadership.is_superseded() =>
            {
                self.leadership.forget_end();
                self.output.go_on_alone(Mode::Off, now);
            }
            (Migration::Colo, _) if self.output.mode() != Mode::Off => self.end(),
            _ => {}
        }
    }

    /// The VM runs again.
    fn resumed(&mut self, link: &mut PeerLink, now: Ticks) {
        self.output.checkpoints_mut().resumed(now);
        let takes = match self.output.mode() {
            _ if !self.qemu.in_colo() => Takes::Nothing,
            Mode::Off => Takes::First,
            _ if self.leadership.has_ended() => Takes::Nothing,
            _ => Takes::Checkpoints,
        };
        let witnessed = self.is_witnessed(link, now);
        match self.stops.resumed(takes, witnessed) {
            Resumed::Nothing => self.output.checkpoints_mut().retry(),
            Resumed::Checkpoint => self.commits(link, now),
            Resumed::Unproven => self.output.checkpoints_mut().went_on(),
            Resumed::Other => self.not_a_checkpoint(Cause::GuestReset, now),
        }
    }

    /// The stop was a checkpoint's. Nothing was polled since the ring stopped, so what is held is older
    /// than the stop.
    fn commits(&mut self, link: &mut PeerLink, now: Ticks) {
        match self.output.mode() {
            Mode::Off => self.output.begin(now),
            _ => self.output.commit(now),
        }
        if link.end.is_silent(now) {
            // QEMU's own connection works. What the VM sends next waits for the next commit. The loss is noted, so that
            // the link's return is: it may come before the next tick.
            self.leadership.observe(true, true, now);
            self.output.suspend();
        }
        if self.stops.awaits_report() {
            self.goes_on(link, now);
        }
    }

    /// The ring runs, and the monitor has reported everything before.
    fn ring_runs(&mut self, link: &mut PeerLink, now: Ticks) {
        if !self.stops.ring_runs(now) {
            self.goes_on(link, now);
        }
    }

    /// Ends the wait for a report that does not come.
    fn wait_for_report(&mut self, link: &mut PeerLink, now: Ticks) {
        // Where COLO has ended, no report and no MIGRATION_PASS commits any more.
        let patience = if !self.takes_checkpoints() {
            0
        } else if self.is_witnessed(link, now) {
            self.reports.patience()
        } else if self.stops.trust_pass() {
            return self.commits(link, now);
        } else {
            0
        };
        if self.stops.is_overdue(now, patience) {
            self.goes_on(link, now);
        }
    }

    /// The ring is polled from now on.
    fn goes_on(&mut self, link: &mut PeerLink, now: Ticks) {
        let unproven = self.stops.awaits_report() && self.stops.is_unexplained();
        let Some(committed) = self.stops.goes_on(self.output.epoch()) else {
            return;
        };
        self.notice.ring_runs();
        match self.output.mode() {
            Mode::On if committed => {
                self.notice.committed();
                // Before the ISNs of connections that open in this epoch.
                self.tell(link);
            }
            Mode::Uncertain if committed => {}
            _ if unproven => self.not_a_checkpoint(Cause::Unproven, now),
            _ => self.not_a_checkpoint(Cause::GuestReset, now),
        }
    }

    /// Sends the epoch to the secondary, if the link takes it now.
    pub(super) fn tell(&mut self, link: &mut PeerLink) {
        let (epoch, in_colo) = (self.output.epoch(), self.qemu.in_colo());
        self.notice.send(epoch, in_colo, &mut link.end);
        self.cession.send(self.leadership.term(), &mut link.end);
    }

    /// The guest's ring stopped and started, but the SVM did not get the state.
    fn not_a_checkpoint(&mut self, cause: Cause, now: Ticks) {
        match self.output.mode() {
            Mode::Off if self.qemu.in_colo() => {
                self.mark_uncertain(Cause::MonitorLost, now);
            }
            Mode::Off | Mode::Alone => {}
            Mode::On | Mode::Uncertain => {
                let checkpoints = self.output.checkpoints_mut();
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
        match (self.output.mode(), self.qemu.migration()) {
            (Mode::Off, Migration::Colo) => self.not_a_checkpoint(Cause::MonitorLost, now),
            // It may be another COLO by now; if it is not, no checkpoint will come.
            (_, Migration::Colo)
                if self.leadership.has_ended() && !self.leadership.is_superseded() =>
            {
                self.leadership.forget_end();
                if self.output.compares() {
                    self.mark_uncertain(Cause::MonitorLost, now);
                }
            }
            // Only a RESUME or a barrier shows that a stop is over: the VM's state in the answer
            // may be older than the stop.
            (_, Migration::Colo) | (Mode::Off, _) => {}
            (_, Migration::Broken) => self.end(),
            (_, Migration::Completed) if self.leadership.is_superseded() => {}
            // No other QEMU speaks here either.
            (_, Migration::None) if self.leadership.has_ceded() => {}
            (_, Migration::None | Migration::Completed) => {
                // Another QEMU, or one that got the failover command while no node listened: what its
                // predecessor sent must not leave now.
                self.leadership.start_over();
                self.output.start_over(now);
            }
        }
    }

    /// Holds everything until the next commit.
    pub(super) fn mark_uncertain(&mut self, cause: Cause, now: Ticks) {
        let cause = (!self.leadership.has_ended()).then_some(cause);
        self.output.mark_uncertain(cause, now);
    }

    /// What depends on time alone. Returns whether the VM's input is of interest to the comparison now.
    pub(super) fn tick(&mut self, link: &mut PeerLink, now: Ticks) -> bool {
        self.watch(link, now);
        self.wait_for_report(link, now);
        if !self.is_paired() || self.stops.is_vm_stopped() {
            return false;
        }
        self.output.tick(self.leadership.is_peer_lost(), now);
        true
    }

    /// Whether the peer is lost, and what follows from it.
    fn watch(&mut self, link: &PeerLink, now: Ticks) {
        let paired = self.output.mode() != Mode::Off;
        let silent = link.end.is_silent(now);
        let found = self.leadership.observe(paired, silent, now);
        if matches!(found, Found::Lost | Found::Back) {
            // The peer may have taken over meanwhile, and acknowledge numbers that it has not learned (rule R6).
            self.output.revoke();
        }
        if found == Found::Back {
            self.output.checkpoints_mut().encourage();
        }
        match (self.output.mode(), found) {
            (Mode::On | Mode::Uncertain, Found::Gone) => {
                self.output.go_on_alone(Mode::Alone, now);
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
    pub(super) fn next_action(&mut self, now: Ticks) -> Option<Action> {
        self.leadership.next_action(now, self.qemu.takes_commands())
    }

    /// What a fencing command came to.
    pub(super) fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        self.leadership.fenced(number, down, now);
    }

    /// The next frame for the uplink. The link gets a connection's ISNs before any frame of it leaves.
    pub(super) fn next_release(&mut self, link: &mut PeerLink) -> Option<Release<F>> {
        if self.is_superseded() {
            return None;
        }
        self.output.next_release(&mut link.end)
    }

    /// The next checkpoint request to write to the monitor.
    pub(super) fn next_request(&mut self, now: Ticks) -> Option<Request> {
        // While the ring does not run and nothing is held, a checkpoint would help nobody; and one of a
        // VM whose port is not there yet would carry to the SVM that its NIC has no link.
        let waits_for_ring = self.stops.is_stopped() && self.output.held() == 0;
        let able = self.qemu.takes_commands()
            && !self.leadership.has_ended()
            && !self.leadership.is_superseded()
            && !self.stops.is_vm_stopped()
            && !self.stops.awaits_report()
            && !waits_for_ring;
        self.output.next_request(now, able)
    }
}
