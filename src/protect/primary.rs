//! The primary node's half: what the PVM sends is held until the SVM has sent the same or a commit
//! covers it, and what reaches the PVM is mirrored.
//!
//! What ends an epoch and what commits it is [`Epochs`]' decision. Here frames of the guest, the uplink and the link
//! meet: each is translated, counted, mirrored, or passed to the comparison of its epoch.
//!
//! A secondary that has taken over goes on as a primary ([`Primary::inherit`]), and has some more to do
//! (`takeover.rs`).

use super::announce::{Announcement, Announcer};
use super::comparison::Comparison;
use super::epochs::Epochs;
use super::input_mirror::InputMirror;
use super::peer::Action;
use super::peer_link::PeerLink;
use super::retransmit_cache::CachedSegment;
use super::takeover::Takeover;
use super::{Cause, CessionNews, HandoverState, QemuEvent, Request, Setup, State};
use crate::compare::Release;
use crate::frame::{Frame, Ticks};
use crate::link::secure::Begun;
use crate::link::{DATA_HEADER, Endpoint, Event, Message, Received, Transmit};
use crate::packet;
use crate::spread::{DispatcherEnd, RedirectionTable};

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

/// The primary node of one VM pair.
pub struct Primary<F> {
    epochs: Epochs<F>,
    link: PeerLink,
    mirror: InputMirror,
    /// The state that this node keeps because it was the secondary.
    takeover: Option<Takeover<F>>,
    announcer: Option<Announcer>,
    millisecond: Ticks,
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
            link: PeerLink::new(&setup, now),
            mirror: InputMirror::new(setup.limits.timeout),
            takeover: None,
            announcer: None,
            millisecond: setup.millisecond,
            stale: 0,
            epochs: Epochs::new(setup, ends, table),
        }
    }

    /// Goes on where a secondary has taken over; this node has done nothing yet.
    pub(crate) fn inherit(&mut self, inheritance: HandoverState<F>, now: Ticks) {
        let HandoverState {
            link,
            mut traffic,
            epoch,
            term,
            superseded,
            stops,
            migration,
            ceded,
        } = inheritance;
        traffic.announcer.begin(now);
        self.link = PeerLink::of(link);
        self.announcer = Some(traffic.announcer);
        self.takeover = Some(Takeover::new(traffic.rewriter, traffic.last));
        self.epochs.succeed(epoch, stops, term, migration, now);
        // What the old primary takes for heard, the VM that goes on now would have to know (rules R5, R6).
        let term = self.epochs.term();
        self.link.end.take_lead(Message::Leads(term));
        if ceded {
            self.epochs.cession_is_written();
        }
        if superseded {
            self.epochs.hear_successor();
        }
    }

    /// Gives up the lead for good, if the SVM could go on at this moment; what came of it is news.
    pub(crate) fn cede(&mut self, now: Ticks) {
        self.epochs.cede(&self.link, now);
    }

    /// The lead was given up, and that is written down: the other node is to hear it.
    pub(crate) fn cession_is_written(&mut self) {
        self.epochs.cession_is_written();
    }

    /// Takes the lead back: the other node heard nothing, or its VM certainly sends nothing.
    pub(crate) fn take_back(&mut self) {
        self.epochs.take_back(&mut self.link);
    }

    /// What the control thread does not know of the cession. `is_idle`: nothing waits at the uplink.
    pub(crate) fn next_cession_news(&mut self, is_idle: bool) -> Option<CessionNews> {
        self.epochs.next_cession_news(is_idle, &self.link)
    }

    /// The word for what the node does now.
    pub fn state(&self) -> State {
        self.epochs.state(&self.link)
    }

    /// Number of the epoch that the PVM runs, or will run when it starts again.
    pub fn epoch(&self) -> u32 {
        self.epochs.output().epoch()
    }

    /// What is known of the epochs and of who leads.
    pub fn epochs(&self) -> &Epochs<F> {
        &self.epochs
    }

    /// Whether the secondary is heard and may report loads: it has not said that it cannot.
    pub fn is_witnessed(&self, now: Ticks) -> bool {
        self.epochs.is_witnessed(&self.link, now)
    }

    /// The comparator and its findings.
    pub fn comparison(&self) -> &Comparison<F> {
        self.epochs.output().comparison()
    }

    /// The comparator and its findings, for what does not depend on epochs.
    #[inline]
    pub(crate) fn comparison_mut(&mut self) -> &mut Comparison<F> {
        self.epochs.output_mut().comparison_mut()
    }

    /// Frames that wait for their counterpart are overdue at this age from now on.
    pub(crate) fn set_timeout(&mut self, timeout: Ticks) {
        self.epochs.output_mut().set_timeout(timeout);
        self.mirror.set_timeout(timeout);
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

    /// What is left of this node's time as the secondary.
    pub(crate) fn takeover(&self) -> Option<&Takeover<F>> {
        self.takeover.as_ref()
    }

    /// The announcements of a VM that no node served, or another one, until now.
    pub(crate) fn announcer(&mut self) -> Option<&mut Announcer> {
        self.announcer.as_mut()
    }

    /// The counters.
    pub fn counts(&self) -> Counts {
        Counts {
            mirrored: self.mirror.mirrored(),
            unmirrored: self.mirror.missed(),
            stale: self.stale,
            discarded: self.comparison().discarded(),
            untranslated: self.takeover.as_ref().map_or(0, Takeover::untranslated),
            offsets_lost: self.takeover.as_ref().map_or(0, Takeover::offsets_lost),
            losses: self.epochs.losses(),
        }
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        let last = self.takeover.as_ref().map_or(0, Takeover::frames);
        self.epochs.output().frames() + last
    }

    /// P that wait for their counterpart, a commit or an acknowledgment.
    pub fn held(&self) -> usize {
        self.epochs.output().held()
    }

    /// Whether the guest's ring may be polled: its frames have a known epoch and a burst has room.
    /// Until the monitor has answered whether the VM is in COLO they stay in the ring (rule R8).
    pub fn wants_output(&self) -> bool {
        !self.epochs.is_stopped() && self.epochs.output().has_room()
    }

    /// Whether what the PVM sends is compared. If not, nothing is protected, and it may leave at once.
    pub(crate) fn compares(&self) -> bool {
        self.epochs.output().compares()
    }

    /// Takes in P, of which the caller has a burst at most and has seen [`Primary::wants_output`], and S that
    /// [`Primary::admits`] has let pass. Between that and this nothing else was taken in.
    pub(crate) fn ingest(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        debug_assert!(
            !self.epochs.is_stopped(),
            "nothing was taken since the ring has stopped"
        );
        self.epochs.output_mut().ingest(primary, secondary, now);
    }

    /// Whether output of the SVM from this epoch is compared; counts it if it is not.
    #[inline]
    pub(crate) fn admits(&mut self, epoch: u32) -> bool {
        let admits = self.epochs.admits(epoch);
        self.stale += u64::from(!admits);
        admits
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
        let over = self.compares() || self.epochs.is_superseded();
        let takeover = self.takeover.as_mut()?;
        if over {
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

    /// The next frame for the uplink. The link gets a connection's ISNs before any frame of it leaves.
    pub(crate) fn next_release(&mut self) -> Option<Release<F>> {
        self.epochs.next_release(&mut self.link)
    }

    /// Input frames that may be given to the guest now.
    pub(crate) fn input_room(&self, now: Ticks) -> usize {
        if self.epochs.is_stopped() {
            0
        } else if self.mirrors(now) {
            self.link.end.room()
        } else {
            usize::MAX
        }
    }

    /// Translates a frame that the network sent; to be called once for each, before the guest gets
    /// it. False for one that must be dropped.
    pub(crate) fn input(&mut self, frame: &mut F, now: Ticks) -> bool {
        let Some(takeover) = &mut self.takeover else {
            return true;
        };
        takeover.translate_input(frame, now)
    }

    /// Whether input that the guest takes is to be mirrored.
    pub(crate) fn mirrors(&self, now: Ticks) -> bool {
        self.epochs.is_paired() && self.link.end.is_up(now)
    }

    /// The bytes to put in front of an input frame that the guest's ring has taken.
    pub(crate) fn mirror(&mut self, length: usize) -> [u8; DATA_HEADER] {
        let epoch = self.epoch();
        self.mirror.header(&mut self.link.end, epoch, length)
    }

    /// Looks at input that the guest's ring has taken and that was mirrored: if a client resets a
    /// connection, what one VM sent before and the other never will is not waited for.
    #[inline]
    pub(crate) fn mirrored(&mut self, frame: &F, now: Ticks) {
        if let Some(reset) = packet::reset_of(frame.head(), frame.len()) {
            self.epochs.output_mut().client_reset(&reset, now);
        }
    }

    /// The guest's ring has taken input that cannot be mirrored.
    pub(crate) fn input_missed(&mut self, frames: usize, now: Ticks) {
        if frames > 0 && self.compares() {
            self.mirror.miss(frames);
            let cause = if self.link.end.is_up(now) {
                Cause::InputLost
            } else {
                Cause::LinkDown
            };
            self.epochs.mark_uncertain(cause, now);
        }
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
        match self.link.end.receive(head, frame_len, now) {
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
        self.link.end.has_events()
    }

    /// Takes in what the link has said. All S from earlier frames were taken in before.
    pub(crate) fn link_events(&mut self, now: Ticks) {
        while let Some(event) = self.link.next_event(now) {
            if event != Event::Session {
                self.epochs.hear(event, &mut self.link, now);
                continue;
            }
            if let Some(takeover) = &mut self.takeover {
                takeover.send_again();
            }
            let offsets = self.takeover.is_some();
            self.epochs.session(offsets, &mut self.link, now);
        }
    }

    /// The guest's ring has stopped: everything taken from it so far belongs to the epoch that
    /// ends here. Called from the poll core before the stop is confirmed to QEMU.
    pub(crate) fn guest_stopped(&mut self) {
        self.epochs.guest_stopped();
    }

    /// Takes in what the monitor says.
    pub(crate) fn monitor(&mut self, event: QemuEvent, now: Ticks) {
        if let QemuEvent::Connected {
            migration, running, ..
        } = event
            && self.epochs.was_served_before(migration, running)
        {
            let millisecond = self.millisecond;
            self.announcer
                .get_or_insert_with(|| Announcer::new(millisecond));
        }
        self.epochs.monitor(event, &mut self.link, now);
    }

    /// What depends on time alone; to be called at least every tenth of a millisecond.
    pub(crate) fn tick(&mut self, now: Ticks) {
        if let Some(takeover) = &mut self.takeover {
            takeover.age(now);
        }
        if !self.epochs.tick(&mut self.link, now) {
            return;
        }
        let mirrors = self.mirrors(now);
        if self.mirror.stalls(mirrors, &self.link.end, now)
            && !self.comparison().checkpoints().is_wanted()
        {
            self.epochs.output_mut().want(Cause::InputLost, now);
        }
    }

    /// What the control thread is to do about a peer that is lost.
    pub(crate) fn next_action(&mut self, now: Ticks) -> Option<Action> {
        self.epochs.next_action(now)
    }

    /// What a fencing command came to.
    pub(crate) fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        self.epochs.fenced(number, down, now);
    }

    /// The next checkpoint request to write to the monitor.
    pub(crate) fn next_request(&mut self, now: Ticks) -> Option<Request> {
        self.epochs.next_request(now)
    }

    /// The next frame that announces where the VM is now, or asks where the VM's peers are. A node that has
    /// not taken over asks when its VM's output may leave.
    pub(crate) fn next_announcement(&mut self, now: Ticks) -> Option<Announcement> {
        // While it is uncertain whether the SVM speaks, the network must not look for the VM here (rule R6).
        let silent =
            self.epochs.is_superseded() || self.epochs.is_stopped() || self.epochs.is_uncertain();
        let may_begin = self.epochs.lets_out();
        let announcer = self.announcer.as_mut().filter(|_| !silent)?;
        if may_begin && announcer.is_new() {
            announcer.begin(now);
        }
        announcer.next(now)
    }

    /// The next frame of the link's own.
    pub(crate) fn next_transmit(&mut self, now: Ticks) -> Option<Transmit> {
        if let Some(takeover) = &mut self.takeover
            && takeover.send_offsets(&mut self.link.end)
        {
            self.epochs.offsets_sent();
        }
        self.epochs.tell(&mut self.link);
        self.link.next_transmit(now)
    }
}
