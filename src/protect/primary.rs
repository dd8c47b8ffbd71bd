//! The primary node's half: what the PVM sends is held until the SVM has sent the same or a commit
//! covers it, and what reaches the PVM is mirrored.
//!
//! A stop of the guest's ring is the fence that ends an epoch ([`Primary::guest_stopped`]). What
//! the stop was for is known when the monitor says RESUME: with MIGRATION_PASS in between it is the
//! commit; after the first entry into migration state `colo` it begins protection; else it was no
//! checkpoint, the SVM knows nothing of it, and everything is held until one comes.
//!
//! From its stop on the ring is not polled until it runs again and a barrier has shown that all
//! which the monitor had to tell until then was told. So a RESUME that comes while frames are held
//! ends a stop that came after all of them were taken, however late the monitor and however often
//! the VM or its driver stopped (rule R3). The secondary is told of an epoch then and not before: what
//! the SVM sends in its name is sent by an SVM that has loaded the state with which the epoch began.
//!
//! When the link falls silent or QEMU says that COLO has ended, everything is held until a commit or
//! until it is certain that the SVM does not speak (rule R6): QEMU's migration state became
//! `completed`, which only an operator's word makes it, or the peer's loss is certain by policy.
//!
//! A secondary that has taken over goes on as a primary ([`Primary::inherit`]). Connections that it
//! has an offset for are translated where they meet the uplink: the comparison, both VMs and the
//! link know the guest's numbers on the one side, the client's on the other, and nothing in between.

use super::announce::{Announcement, Announcer};
use super::last::{LastSegment, LastSegments};
use super::opening::Openings;
use super::peer::{Action, Peer};
use super::{Cause, Checkpoints, Inheritance, Migration, Monitor, Request, Setup, State};
use crate::compare::{Divergence, Reason, Release, Synchronized};
use crate::flow::FlowKey;
use crate::frame::{Frame, Ticks};
use crate::link::{DATA_HEADER, Endpoint, Event, Message, Received, Transmit};
use crate::packet::Packet;
use crate::packet::serial::before;
use crate::rewrite::{Offset, Opening, Outcome, Rewriter};
use crate::spread::{Front, FrontEnd, Shares};

/// Frames of a burst; nothing is polled that there is no room for.
pub(super) const BURST: usize = 32;

/// Whether the guest's output is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    Off,
    On,
    /// Everything is held until the next commit.
    Uncertain,
    /// The peer is certainly lost, though QEMU has not been told: everything leaves at once.
    Alone,
}

/// The guest's ring has stopped, or was not seen to run yet.
#[derive(Clone, Copy, Debug, Default)]
struct Stopped {
    /// STOP was told and no RESUME since.
    stop: bool,
    /// MIGRATION_PASS was told since.
    pass: bool,
    /// The SVM has loaded the PVM's state since the ring stopped.
    committed: bool,
}

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
    /// Times the peer was lost.
    pub losses: u64,
}

/// The primary node of one VM pair.
pub struct Primary<F> {
    comparator: Front<F>,
    link: Endpoint,
    checkpoints: Checkpoints,
    protection: Protection,
    stopped: Option<Stopped>,
    epoch: u32,
    /// The epoch that began with the last commit.
    committed: Option<u32>,
    /// Takeovers before this node led.
    term: u32,
    /// Stops of the guest's ring since the node began.
    stops: u32,
    connected: bool,
    migration: Migration,
    /// The VM has entered COLO and was not seen to run since.
    entering: bool,
    /// QEMU takes no more checkpoints of this COLO.
    ended: bool,
    /// The SVM speaks for itself: this VM never does, until another QEMU runs it.
    superseded: bool,
    peer: Peer,
    openings: Openings<F>,
    /// Offsets of connections from the time when this node was the secondary.
    inherited: Option<Rewriter>,
    /// Slot of the next inherited offset to tell the peer of.
    to_tell: Option<usize>,
    announcer: Option<Announcer>,
    millisecond: Ticks,
    /// What the VM sent last to a primary that may not have let it out.
    last: Option<LastSegments<F>>,
    /// The secondary is to be told of the epoch.
    untold: bool,
    waiting: Option<Synchronized>,
    /// What the SVM had granted when its input began to wait, and when that was.
    stalled: Option<(u32, Ticks)>,
    /// P that the comparator has room for.
    hold: usize,
    timeout: Ticks,
    record: Option<Divergence<F>>,
    counts: Counts,
}

impl<F: Frame> Primary<F> {
    /// A node that protects nothing yet and compares on this core alone.
    pub fn new(setup: Setup, now: Ticks) -> Self {
        Self::with_workers(setup, Vec::new(), Shares::even(1, 1), now)
    }

    /// The same with a worker behind each of `ends`, which compares its share of the flows.
    pub fn with_workers(setup: Setup, ends: Vec<FrontEnd<F>>, shares: Shares, now: Ticks) -> Self {
        Self {
            hold: setup.limits.primary,
            timeout: setup.limits.timeout,
            comparator: Front::new(setup.limits, setup.numbers, setup.policy, ends, shares),
            link: Endpoint::new(
                setup.vm,
                setup.boot,
                setup.link_mac,
                setup.window,
                setup.link,
                now,
            ),
            checkpoints: Checkpoints::new(setup.repeat),
            protection: Protection::Off,
            // Whether the VM is in COLO is not known before its monitor has told.
            stopped: Some(Stopped::default()),
            epoch: 0,
            committed: None,
            term: 0,
            stops: 0,
            connected: false,
            migration: Migration::None,
            entering: false,
            ended: false,
            superseded: false,
            peer: Peer::new(setup.failover),
            openings: Openings::new(),
            inherited: None,
            to_tell: None,
            announcer: None,
            millisecond: setup.millisecond,
            last: None,
            untold: false,
            waiting: None,
            stalled: None,
            record: None,
            counts: Counts::default(),
        }
    }

    /// Goes on where a secondary has taken over; this node has done nothing yet.
    pub fn inherit(&mut self, inheritance: Inheritance<F>, now: Ticks) {
        let Inheritance {
            link,
            mut rewriter,
            last,
            mut announcer,
            epoch,
            term,
            stops,
            migration,
        } = inheritance;
        rewriter.take_over();
        announcer.begin(now);
        (self.link, self.inherited, self.announcer) = (link, Some(rewriter), Some(announcer));
        self.last = Some(last);
        (self.epoch, self.stops, self.migration) = (epoch, stops, migration);
        (self.term, self.connected) = (term, true);
        self.tell_lead();
        self.stopped = None;
        // A node that was started again while its VM leads a pair.
        self.not_a_checkpoint(Cause::MonitorLost, now);
    }

    /// The word for what the node does now.
    pub fn state(&self) -> State {
        match (self.protection, self.stopped) {
            (Protection::Alone, _) => State::Solo,
            (Protection::Off, _) if self.link.has_session() => State::Pairing,
            (Protection::Off, _) => State::Solo,
            _ if self.is_lost() => State::PeerLost,
            (_, Some(stopped)) if !stopped.committed => State::Checkpointing,
            (Protection::On, _) => State::Protected,
            (Protection::Uncertain, _) => State::Uncertain,
        }
    }

    /// Whether somebody has to say who goes on.
    fn is_lost(&self) -> bool {
        self.ended || self.superseded || self.peer.is_lost()
    }

    /// Whether it goes on without the other VM though QEMU has not been told.
    pub fn is_alone(&self) -> bool {
        self.protection == Protection::Alone
    }

    /// Whether it began as a secondary.
    pub fn has_taken_over(&self) -> bool {
        self.inherited.is_some()
    }

    fn in_colo(&self) -> bool {
        self.migration == Migration::Colo
    }

    fn compares(&self) -> bool {
        matches!(self.protection, Protection::On | Protection::Uncertain)
    }

    /// Number of the epoch that the PVM runs, or will run when it starts again.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The epoch that began with the last commit, whatever has become of the protection since.
    pub fn committed(&self) -> Option<u32> {
        self.committed
    }

    /// The comparator, for its counters.
    pub fn comparator(&self) -> &Front<F> {
        &self.comparator
    }

    /// The link's end, for its counters.
    pub fn link(&self) -> &Endpoint {
        &self.link
    }

    /// The requests and their counters.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// The counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        let record = self.record.as_ref().map_or(0, Divergence::frames);
        let last = self.last.as_ref().map_or(0, LastSegments::len);
        self.comparator.frames() + self.openings.len() + record + last
    }

    /// P that wait for their counterpart, a commit or an acknowledgment.
    pub fn held(&self) -> usize {
        self.comparator.held() + self.openings.len()
    }

    /// Whether the guest's ring may be polled: its frames have a known epoch and a burst has room.
    /// Until the monitor has told whether the VM is in COLO they stay in the ring (rule R8).
    pub fn wants_output(&self) -> bool {
        let room = match self.protection {
            // What leaves at once must not overtake what was held before.
            Protection::Off | Protection::Alone => self.hold,
            _ => BURST,
        };
        self.stopped.is_none() && self.comparator.is_ready() && self.comparator.room() >= room
    }

    /// Whether the link may be polled: a burst of what the SVM sent has room.
    pub fn wants_link(&mut self) -> bool {
        self.comparator.wants_secondary()
    }

    /// Gives the workers what was taken in since the last call, and takes in what they found. To
    /// be called once a round.
    pub fn exchange(&mut self, now: Ticks) {
        self.comparator.exchange();
        self.counts.discarded += self.comparator.take_discarded() as u64;
        self.examine(now);
    }

    /// Whether no worker has anything left to do.
    pub fn is_settled(&self) -> bool {
        self.comparator.is_settled()
    }

    /// Input frames that may be given to the guest now.
    pub fn input_room(&self, now: Ticks) -> usize {
        match (self.stopped, self.protection) {
            (Some(_), _) => 0,
            (None, Protection::Off | Protection::Alone) => usize::MAX,
            (None, _) if self.link.is_up(now) && !self.ended => self.link.room(),
            (None, _) => usize::MAX,
        }
    }

    /// Whether input that the guest takes is to be mirrored.
    pub fn mirrors(&self, now: Ticks) -> bool {
        self.compares() && !self.ended && self.link.is_up(now)
    }

    /// Translates a frame that the network sent; to be called once for each, before the guest gets
    /// it. False for one that must be dropped.
    pub fn input(&mut self, frame: &mut F, now: Ticks) -> bool {
        let Some(rewriter) = &mut self.inherited else {
            return true;
        };
        let packet = Packet::parse(frame.head(), frame.len());
        let translated = rewriter.to_guest(frame, &packet, now) != Outcome::Shared;
        self.counts.untranslated += u64::from(!translated);
        translated
    }

    /// What one of the VMs sent, in the client's numbers; to be called once for each frame before
    /// [`Primary::output`] or [`Primary::svm_output`]. A frame that was just taken has no other owner.
    pub fn outward(&mut self, mut frame: F, now: Ticks) -> Option<F> {
        let Some(rewriter) = &mut self.inherited else {
            return Some(frame);
        };
        let packet = Packet::parse(frame.head(), frame.len());
        if rewriter.from_guest(&mut frame, &packet, now) == Outcome::Shared {
            self.counts.untranslated += 1;
            return None;
        }
        Some(frame)
    }

    /// The next of the segments that the VM sent last on each connection before this node took over, as
    /// [`Secondary::keep`] got it. The network may not have got them, and nothing else would come
    /// before one end's retransmission timer. One that does not count must not leave: the VM has
    /// loaded another state since. None where a comparison has begun.
    ///
    /// [`Secondary::keep`]: super::Secondary::keep
    pub fn next_last(&mut self) -> Option<LastSegment<F>> {
        if self.compares() {
            self.last = None;
        }
        let last = self.last.as_mut()?.next();
        if last.is_none() {
            self.last = None;
        }
        last
    }

    /// After a takeover, whom the VM has sent this segment to: it is asked, too, so that the VM need not wait for
    /// an answer that its own question did not get. `packet` was parsed from it, `head` is its first part.
    pub fn speaks_to(&mut self, head: &[u8], packet: &Packet) {
        if let Some(announcer) = &mut self.announcer {
            announcer.speaks_to(head, packet);
        }
    }

    /// Whether [`Primary::hears`] is to be told of input: the VM ran while no node served it, and what it
    /// asked then got no answer.
    pub fn wants_peers(&self) -> bool {
        self.announcer
            .as_ref()
            .is_some_and(|announcer| !announcer.is_done())
    }

    /// A segment was sent to the VM; its sender is asked as in [`Primary::speaks_to`].
    pub fn hears(&mut self, head: &[u8], packet: &Packet) {
        if let Some(announcer) = &mut self.announcer {
            announcer.hears(head, packet);
        }
    }

    /// The same frame without what the caller put in front of it, in the client's numbers, ready to leave.
    pub fn outward_again(&mut self, mut frame: F) -> Option<F> {
        let packet = Packet::parse(frame.head(), frame.len());
        if let Some(rewriter) = &mut self.inherited
            && rewriter.repeat(&mut frame, &packet) == Outcome::Shared
        {
            self.counts.untranslated += 1;
            return None;
        }
        Some(frame)
    }

    /// The bytes to put in front of an input frame that the guest's ring has taken.
    pub fn mirror(&mut self, length: usize, now: Ticks) -> [u8; DATA_HEADER] {
        self.counts.mirrored += 1;
        self.link.data_header(self.epoch, length as u32, now)
    }

    /// The guest's ring has taken input that cannot be mirrored.
    pub fn input_missed(&mut self, frames: usize, now: Ticks) {
        if frames > 0 && self.compares() {
            self.counts.unmirrored += frames as u64;
            self.doubt(
                if self.link.is_up(now) {
                    Cause::InputLost
                } else {
                    Cause::LinkDown
                },
                now,
            );
        }
    }

    /// Takes in a frame that the PVM sent; gives it back if it may leave at once, uncompared,
    /// because nothing is protected. The caller has seen [`Primary::wants_output`].
    pub fn output(&mut self, frame: F, now: Ticks) -> Option<F> {
        if !self.compares() {
            return Some(frame);
        }
        // A frame that does not fit is dropped, which no caller that asks first will see.
        if self.comparator.primary(frame, now).is_err() {
            self.counts.discarded += 1;
        }
        self.examine(now);
        None
    }

    /// Takes in a frame from the link; gives back the bytes to skip of one that carries output of
    /// the SVM, which the caller strips and passes to [`Primary::svm_output`].
    pub fn link_frame(
        &mut self,
        head: &[u8],
        frame_len: usize,
        now: Ticks,
    ) -> Option<(u32, usize)> {
        let received = self.link.receive(head, frame_len, now);
        while let Some(event) = self.link.next_event() {
            self.link_event(event, now);
        }
        match received {
            Received::Data { epoch, length, .. } => Some((epoch, length as usize)),
            Received::Consumed | Received::Ignored => None,
        }
    }

    /// Takes in a frame that the SVM sent in an epoch.
    pub fn svm_output(&mut self, frame: F, epoch: u32, now: Ticks) {
        if epoch != self.epoch || self.protection != Protection::On || self.stopped.is_some() {
            self.counts.stale += 1;
        } else {
            self.comparator.secondary(frame, now);
            self.examine(now);
        }
    }

    fn link_event(&mut self, event: Event, now: Ticks) {
        match event {
            Event::Session => {
                // It knows no epoch, and learns the next one when that is committed.
                self.untold = false;
                self.openings.revoke();
                self.to_tell = self.inherited.as_ref().map(|_| 0);
                self.tell_lead();
                if self.compares() {
                    self.doubt(Cause::PeerRestarted, now);
                }
            }
            Event::Lost(_) => {
                if self.protection == Protection::On {
                    self.checkpoints.want(Cause::OutputLost, now);
                }
            }
            Event::Message(Message::InputLost(_)) => {
                if self.protection == Protection::On {
                    self.checkpoints.want(Cause::InputLost, now);
                }
            }
            Event::Message(Message::Leads(term)) => {
                if before(self.term, term) && self.protection != Protection::Off {
                    self.superseded = true;
                    self.end();
                }
            }
            Event::Message(Message::VmLost) if self.protection == Protection::On => {
                self.doubt(Cause::LinkDown, now);
            }
            Event::Message(_) => {}
        }
    }

    /// No commit comes any more, and nothing leaves before somebody has decided.
    fn end(&mut self) {
        self.ended = true;
        if self.protection != Protection::Alone || self.superseded {
            self.comparator.suspend();
            self.protection = Protection::Uncertain;
        }
        self.checkpoints.settle();
    }

    /// The guest's ring has stopped: everything taken from it so far belongs to the epoch that
    /// ends here. Called from the poll core before the stop is confirmed to QEMU.
    pub fn guest_stopped(&mut self) {
        self.stops = self.stops.wrapping_add(1);
        self.epoch = self.epoch.wrapping_add(1);
        self.untold = false;
        self.comparator.fence();
        // The SVM is about to load numbers that have no offset.
        self.waiting = None;
        while self.comparator.next_synchronized().is_some() {}
        self.stopped.get_or_insert_default().committed = false;
    }

    /// Takes in what the monitor says.
    pub fn monitor(&mut self, event: Monitor, now: Ticks) {
        match event {
            Monitor::Connected {
                migration, running, ..
            } => {
                self.connected = true;
                let paired = matches!(migration, Migration::Colo | Migration::Completed);
                if running && paired && self.stops == 0 && self.stopped.is_some() {
                    // Another node served it before this one.
                    let millisecond = self.millisecond;
                    self.announcer
                        .get_or_insert_with(|| Announcer::new(millisecond));
                }
                self.entering = false;
                self.migration = migration;
                self.checkpoints.retry();
                self.reconnected(now);
            }
            Monitor::Disconnected => {
                self.connected = false;
                self.checkpoints.retry();
                if let Some(stopped) = &mut self.stopped {
                    // Another stop may be the one that the next RESUME ends.
                    stopped.stop = false;
                    stopped.pass = false;
                }
            }
            Monitor::Stop => {
                self.checkpoints.stopped();
                if let Some(stopped) = &mut self.stopped {
                    stopped.stop = true;
                    stopped.pass = false;
                }
            }
            Monitor::Pass => {
                if let Some(stopped) = &mut self.stopped {
                    stopped.pass = stopped.stop;
                }
            }
            Monitor::Migration(migration) => self.migrated(migration, now),
            Monitor::ColoExit => {
                if self.protection != Protection::Off {
                    self.end();
                }
            }
            Monitor::Resume => self.resumed(now),
            Monitor::Barrier {
                stops,
                migration,
                running,
            } => {
                if running && stops == self.stops {
                    self.migrated(migration, now);
                    self.goes_on(now);
                }
            }
            Monitor::Unexplained { .. } => {}
        }
    }

    /// The state of the VM's migration is this now.
    fn migrated(&mut self, migration: Migration, now: Ticks) {
        let was = std::mem::replace(&mut self.migration, migration);
        match (was, migration) {
            (Migration::Colo, Migration::Colo) => {}
            (_, Migration::Colo) => {
                self.entering = true;
                self.ended = false;
                if self.protection == Protection::Alone {
                    self.protection = Protection::Off;
                }
            }
            (Migration::Colo, Migration::Completed)
                if self.protection != Protection::Off && !self.superseded =>
            {
                self.go_on_alone(Protection::Off, now);
            }
            (Migration::Colo, _) if self.protection != Protection::Off => self.end(),
            _ => {}
        }
    }

    /// The VM runs again.
    fn resumed(&mut self, now: Ticks) {
        let Some(was) = self.stopped else {
            // A ring that runs stops before its VM does.
            self.checkpoints.retry();
            return;
        };
        // Nothing was polled since the ring stopped, so what is held is older than this stop.
        let committed = match self.protection {
            Protection::Off => self.in_colo() && was.stop,
            _ => {
                let checkpoint = was.pass || self.entering;
                self.in_colo() && !self.ended && was.stop && checkpoint
            }
        };
        self.entering &= !committed;
        self.stopped = Some(Stopped {
            committed,
            ..Stopped::default()
        });
        match self.protection {
            Protection::Off if committed => self.begin(now),
            _ if committed => self.commit(now),
            _ => self.not_a_checkpoint(Cause::GuestReset, now),
        }
    }

    /// The ring runs, and the monitor has told all that came before.
    fn goes_on(&mut self, now: Ticks) {
        self.entering = false;
        let Some(was) = self.stopped.take() else {
            return;
        };
        match self.protection {
            Protection::On if was.committed => {
                self.untold = true;
                self.tell();
            }
            Protection::Uncertain if was.committed => {}
            _ => self.not_a_checkpoint(Cause::GuestReset, now),
        }
    }

    /// The VM entered COLO: both VMs are equal now.
    fn begin(&mut self, now: Ticks) {
        self.checkpoints.settle();
        // What left meanwhile was not followed.
        self.counts.discarded += self.comparator.discard() as u64;
        self.compare_again(now);
    }

    /// The SVM has loaded the PVM's state: what is held may leave, and comparing begins again.
    fn commit(&mut self, now: Ticks) {
        self.checkpoints.committed();
        self.compare_again(now);
    }

    fn compare_again(&mut self, now: Ticks) {
        self.comparator.commit(now);
        self.openings.free();
        self.committed = Some(self.epoch);
        self.protection = Protection::On;
        if self.link.is_silent(now) {
            // QEMU's own connection works. What the VM sends next waits for the next commit.
            self.comparator.suspend();
            self.protection = Protection::Uncertain;
        }
    }

    /// Tells the peer that this node leads.
    fn tell_lead(&mut self) {
        // A queue that is full before anything else was said will be emptied by the next session.
        let _ = self.link.send(Message::Leads(self.term));
    }

    /// Tells the secondary of the epoch, if the link takes it now.
    fn tell(&mut self) {
        if self.untold
            && self.to_tell.is_none()
            && self.link.send(Message::Epoch(self.epoch)).is_ok()
        {
            self.untold = false;
        }
    }

    /// The guest's ring stopped and started, but the SVM did not get the state.
    fn not_a_checkpoint(&mut self, cause: Cause, now: Ticks) {
        match self.protection {
            Protection::Off if self.in_colo() => {
                self.protection = Protection::Uncertain;
                self.doubt(Cause::MonitorLost, now);
            }
            Protection::Off | Protection::Alone => {}
            Protection::On | Protection::Uncertain => {
                self.checkpoints.retry();
                self.doubt(cause, now);
            }
        }
    }

    fn reconnected(&mut self, now: Ticks) {
        match (self.protection, self.migration) {
            (Protection::Off, Migration::Colo) => self.not_a_checkpoint(Cause::MonitorLost, now),
            // It may be another COLO by now; if it is not, no checkpoint will come.
            (_, Migration::Colo) if self.ended && !self.superseded => {
                self.ended = false;
                if self.compares() {
                    self.doubt(Cause::MonitorLost, now);
                }
            }
            // Whether a stop is over is told by a RESUME or a barrier: the VM's state in the answer
            // may be older than the stop.
            (_, Migration::Colo) | (Protection::Off, _) => {}
            (_, Migration::Broken) => self.end(),
            (_, Migration::Completed) if self.superseded => {}
            (_, Migration::None | Migration::Completed) => {
                // Another QEMU, or one that was told to go on alone while nobody listened: what its
                // predecessor sent must not leave now.
                self.counts.discarded += self.comparator.discard() as u64;
                self.counts.discarded += self.openings.discard() as u64;
                (self.ended, self.superseded) = (false, false);
                self.comparator.commit(now);
                self.protection = Protection::Off;
                self.checkpoints.settle();
            }
        }
    }

    /// The SVM does not go on, and this VM does: what is held leaves, and nothing is compared.
    fn go_on_alone(&mut self, as_what: Protection, now: Ticks) {
        self.comparator.commit(now);
        self.openings.free();
        self.protection = as_what;
        self.ended &= as_what == Protection::Alone;
        self.checkpoints.settle();
    }

    /// Holds everything until the next commit.
    fn doubt(&mut self, cause: Cause, now: Ticks) {
        if !self.comparator.is_suspended() {
            self.comparator.suspend();
        }
        self.protection = Protection::Uncertain;
        if !self.checkpoints.is_wanted() && !self.ended {
            self.checkpoints.want(cause, now);
        }
    }

    /// Looks at what the comparator found.
    fn examine(&mut self, now: Ticks) {
        if let Some(divergence) = self.comparator.take_divergence() {
            self.diverged(divergence);
        }
        if self.comparator.take_overflow() {
            self.checkpoints
                .want(Cause::Difference(Reason::SecondaryOverflow), now);
        }
    }

    fn diverged(&mut self, divergence: Divergence<F>) {
        self.checkpoints
            .want(Cause::Difference(divergence.reason), divergence.seen);
        self.record.get_or_insert(divergence);
    }

    /// What depends on time alone; to be called at least every tenth of a millisecond.
    pub fn tick(&mut self, now: Ticks) {
        if let Some(rewriter) = &mut self.inherited {
            rewriter.age(now);
        }
        self.watch(now);
        if !self.compares() || self.ended || self.is_stopping() {
            return;
        }
        self.comparator.age(now, BURST);
        let stalled = self.input_stalls(now);
        if self.checkpoints.is_wanted() {
            return;
        }
        let unheard = self
            .openings
            .oldest()
            .is_some_and(|arrived| now.saturating_sub(arrived) >= self.timeout);
        if unheard || self.peer.is_lost() && self.held() > 0 {
            self.checkpoints.want(Cause::LinkDown, now);
        } else if let Some(divergence) = self.comparator.overdue(now) {
            self.diverged(divergence);
        } else if self.comparator.room() < BURST && self.comparator.held() > 0 {
            self.checkpoints
                .want(Cause::Difference(Reason::HoldFull), now);
        } else if stalled {
            self.checkpoints.want(Cause::InputLost, now);
        }
    }

    /// Whether the peer is lost, and what follows from it.
    fn watch(&mut self, now: Ticks) {
        let watches = self.protection != Protection::Off && !self.superseded;
        let lost = watches && (self.ended || self.link.is_silent(now));
        let was_lost = self.peer.is_lost();
        self.counts.losses += u64::from(lost && !was_lost);
        self.peer.observe(lost, true, now);
        match self.protection {
            Protection::Alone if !lost => self.doubt(Cause::LinkDown, now),
            Protection::On | Protection::Uncertain if self.peer.is_certain() => {
                self.go_on_alone(Protection::Alone, now);
            }
            Protection::On if lost => self.doubt(Cause::LinkDown, now),
            // The SVM may have missed what nobody sent it.
            Protection::Uncertain if was_lost && !lost => self.doubt(Cause::LinkDown, now),
            _ => {}
        }
    }

    /// What the control thread is to do about a peer that is lost.
    pub fn next_action(&mut self, now: Ticks) -> Option<Action> {
        let able = self.connected && self.in_colo();
        self.peer.next_action(now, able)
    }

    /// What a fencing command came to.
    pub fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        self.peer.fenced(number, down, now);
    }

    /// Whether the VM is stopped. A ring that has stopped alone waits for the guest's driver, which
    /// may take its time.
    fn is_stopping(&self) -> bool {
        self.stopped.is_some_and(|stopped| stopped.stop)
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
        self.superseded
    }

    /// The next frame for the uplink. The link is told of a connection's ISNs before any frame of it leaves.
    pub fn next_release(&mut self) -> Option<Release<F>> {
        if self.superseded {
            return None;
        }
        if let Some(release) = self.openings.next(&self.link) {
            return Some(release);
        }
        loop {
            if let Some(synchronized) = self.waiting {
                let message = Message::Synchronized {
                    epoch: self.epoch,
                    flow: synchronized.flow,
                    pvm: opening(synchronized.pvm),
                    svm: opening(synchronized.svm),
                };
                if self.protection == Protection::On && self.link.send(message).is_err() {
                    return None;
                }
                self.waiting = None;
            }
            self.waiting = self.comparator.next_synchronized();
            if self.waiting.is_some() {
                continue;
            }
            // What became free to leave before the protection was in doubt still follows what opens
            // its connection.
            if self.protection != Protection::On && self.openings.len() == 0 {
                return self.comparator.next_release();
            }
            if self.openings.is_full() {
                return None;
            }
            let release = self.comparator.next_release()?;
            if let Some(release) = self.openings.admit(release, &self.link) {
                return Some(release);
            }
        }
    }

    /// The next checkpoint request to write to the monitor.
    pub fn next_request(&mut self, now: Ticks) -> Option<Request> {
        // While the ring does not run and nothing is held, a checkpoint would help nobody; and one of a
        // VM whose port is not there yet would carry to the SVM that its NIC has no link.
        let waits_for_ring = self.stopped.is_some() && self.held() == 0;
        let able = self.connected
            && self.in_colo()
            && self.compares()
            && !self.ended
            && !self.is_stopping()
            && !waits_for_ring;
        self.checkpoints.next(now, able)
    }

    /// The next frame that tells the network where the VM is now, or asks where the VM's peers are. A node that has
    /// not taken over asks when its VM's output may leave.
    pub fn next_announcement(&mut self, now: Ticks) -> Option<Announcement> {
        let silent = self.superseded || self.stopped.is_some();
        let may_begin = match self.protection {
            Protection::On | Protection::Alone => true,
            Protection::Off => !self.in_colo(),
            Protection::Uncertain => false,
        };
        let announcer = self.announcer.as_mut().filter(|_| !silent)?;
        if may_begin && announcer.is_new() {
            announcer.begin(now);
        }
        announcer.next(now)
    }

    /// The inherited offset at or behind a slot, and the next slot to ask for; `None` when there
    /// is no slot any more.
    pub fn inherited(&self, slot: usize) -> Option<(usize, Option<(FlowKey, Offset)>)> {
        self.inherited.as_ref()?.offset_from(slot)
    }

    /// Tells the peer of offsets that its VM would need after a takeover; it is told of no epoch
    /// before it has heard of all of them.
    fn tell_inherited(&mut self) {
        while let Some(slot) = self.to_tell
            && self.link.has_session()
            && self.link.has_control_room()
        {
            let Some((next, found)) = self.inherited(slot) else {
                self.to_tell = None;
                return;
            };
            self.to_tell = Some(next);
            let Some((flow, offset)) = found else {
                // The next call goes on from there.
                return;
            };
            let sent = self.link.send(Message::Inherited { flow, offset });
            debug_assert!(sent.is_ok(), "there was room");
        }
    }

    /// The next divergence to write down.
    pub fn next_record(&mut self) -> Option<Divergence<F>> {
        self.record.take()
    }

    /// The next frame of the link's own.
    pub fn next_transmit(&mut self, now: Ticks) -> Option<Transmit> {
        self.tell_inherited();
        self.tell();
        self.link.next_transmit(now)
    }
}

fn opening((isn, timestamp): (u32, Option<u32>)) -> Opening {
    Opening { isn, timestamp }
}
