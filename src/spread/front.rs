//! The front: the comparator as the core that polls the ports knows it.

use std::collections::VecDeque;
use std::iter;

use super::Shares;
use super::control::Change;
use super::remote::Remote;
use super::ring::{FrontEnd, Report};
use super::sorter::{Core, Sorter};
use crate::compare::{
    Comparator, Divergence, Limits, Numbers, Policy, Reason, Release, Synchronized,
};
use crate::frame::{BURST, Frame, Ticks};
use crate::packet::Packet;

/// A comparator that may share its work with [`super::Worker`]s. Its methods are those of
/// [`Comparator`]; what they say of workers' frames comes as soon as the workers have answered and
/// [`Front::exchange`] was called.
pub struct Front<F> {
    local: Comparator<F>,
    remotes: Box<[Remote<F>]>,
    sorter: Sorter<F>,
    timeout: Ticks,
    /// Buffers of S that all cores together may keep, and how many were known to be kept when that
    /// was found out last.
    most_secondary_buffers: usize,
    secondary_buffers: usize,
    /// S that were dropped because no more could be kept.
    overflows: u64,
    /// P that workers dropped since [`Front::take_discarded`].
    discarded: usize,
    /// Counts fences, discards and commits: what a worker says of an earlier one is void.
    generation: u32,
    suspended: bool,
    /// Its capacity is twice what the workers can report at a time.
    synchronized: VecDeque<Synchronized>,
    found: Option<Divergence<F>>,
    overdue: Option<Divergence<F>>,
    /// A worker was asked for what is overdue and has not answered.
    asked: bool,
    /// S were dropped since [`Front::take_overflow`].
    overflowed: bool,
    overflow_seen: u64,
}

impl<F: Frame> Front<F> {
    /// A comparator without workers.
    pub fn alone(limits: Limits, numbers: Numbers, policy: Policy) -> Self {
        Self::new(limits, numbers, policy, Vec::new(), Shares::even(1, 1))
    }

    /// A front with a worker behind each of `ends`; `shares` says which flows are whose, the
    /// front's own first. `limits` bound all of them together: each worker is made with
    /// [`Shares::limits`] of its number, which is 1 more than its place in `ends`.
    pub fn new(
        limits: Limits,
        numbers: Numbers,
        policy: Policy,
        ends: Vec<FrontEnd<F>>,
        shares: Shares,
    ) -> Self {
        let remotes: Box<[Remote<F>]> = ends.into_iter().map(Remote::new).collect();
        let reports: usize = remotes.iter().map(Remote::most_reports).sum();
        Self {
            local: Comparator::new(shares.limits(&limits, 0), numbers, policy),
            sorter: Sorter::new(shares, remotes.len()),
            remotes,
            timeout: limits.timeout,
            most_secondary_buffers: limits.secondary,
            secondary_buffers: 0,
            overflows: 0,
            discarded: 0,
            generation: 0,
            suspended: false,
            synchronized: VecDeque::with_capacity(2 * reports),
            found: None,
            overdue: None,
            asked: false,
            overflowed: false,
            overflow_seen: 0,
        }
    }

    /// The comparator of this core, for its counters. Workers show their own.
    pub fn local(&self) -> &Comparator<F> {
        &self.local
    }

    /// Cores that compare.
    pub fn cores(&self) -> usize {
        1 + self.remotes.len()
    }

    /// P that may still be held, by whomever; with less room than a burst the caller pushes back
    /// on the guest (rule R8).
    pub fn room(&self) -> usize {
        let elsewhere = self.sum(0, Remote::primary_buffers);
        self.local.room().saturating_sub(elsewhere)
    }

    /// Whether a burst of P finds room in every ring. Without it the caller takes none (rule R8).
    pub fn is_ready(&self) -> bool {
        self.remotes.iter().all(Remote::is_ready)
    }

    /// Whether a burst of S finds room, or will find none however long it waits.
    pub fn wants_secondary(&mut self) -> bool {
        self.is_ready()
            && (self.has_room_for_secondaries(BURST) || self.remotes.iter().all(Remote::is_idle))
    }

    /// Whether S of so many more buffers may be kept; without workers the comparator sees to that.
    fn has_room_for_secondaries(&mut self, n: usize) -> bool {
        if self.secondary_buffers + n > self.most_secondary_buffers {
            self.secondary_buffers =
                self.sum(self.local.secondary_buffers(), Remote::secondary_buffers);
        }
        self.remotes.is_empty() || self.secondary_buffers + n <= self.most_secondary_buffers
    }

    /// How many P and S the next round should take at most; see [`Comparator::take_budget`]. With workers
    /// each has streams of its own, and a round takes what there is.
    #[inline]
    pub fn take_budget(&mut self) -> [usize; 2] {
        match self.remotes.is_empty() {
            true => self.local.take_budget(),
            false => [BURST; 2],
        }
    }

    /// S that were dropped because no more could be kept, not counting those that a comparator
    /// dropped.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// P that wait for a counterpart or a commit.
    pub fn held(&self) -> usize {
        self.sum(self.local.held(), Remote::held)
    }

    /// Frames in here and with the workers, P and S, whatever their standing.
    pub fn frames(&self) -> usize {
        let reported = [&self.found, &self.overdue]
            .into_iter()
            .flatten()
            .map(Divergence::frames);
        self.sum(self.local.frames(), Remote::frames) + reported.sum::<usize>()
    }

    /// Flows that are known.
    pub fn flows(&self) -> usize {
        self.sum(self.local.flows(), Remote::flows)
    }

    fn sum(&self, own: usize, of: impl Fn(&Remote<F>) -> usize) -> usize {
        own + self.remotes.iter().map(of).sum::<usize>()
    }

    /// Whether every worker has worked through all that it was told and nothing of it is on its way.
    pub fn is_settled(&self) -> bool {
        self.remotes.iter().all(Remote::is_settled)
    }

    /// [`Front::ingest`] of a P alone. Without room it comes back.
    pub fn primary(&mut self, frame: F, now: Ticks) -> Result<(), F> {
        let mut frame = iter::once(frame);
        self.ingest(&mut frame, &mut iter::empty(), now);
        frame.next().map_or(Ok(()), Err)
    }

    /// [`Front::ingest`] of an S alone.
    pub fn secondary(&mut self, frame: F, now: Ticks) {
        self.ingest(&mut iter::empty(), &mut iter::once(frame), now);
    }

    /// Takes in what the PVM has sent and what the SVM has sent in the same epoch; see [`Comparator::ingest`].
    pub fn ingest(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        if self.remotes.is_empty() {
            return self.local.ingest(primary, secondary, now);
        }
        self.divide(primary, secondary, now);
    }

    /// Gives every core its frames.
    fn divide(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        loop {
            // A frame that was taken out and finds no room would be lost.
            let rooms = self.remotes.iter().map(Remote::primary_room);
            let room = rooms.fold(self.room(), usize::min);
            let policy = self.local.policy();
            let taken = self.sorter.sort(primary, room, secondary, policy);
            let (mut p, mut s) = self.sorter.take(Core::OWN);
            if p.len() + s.len() > 0 {
                self.local.ingest(&mut p, &mut s, now);
            }
            drop((p, s));
            for worker in 0..self.remotes.len() {
                self.pass(worker, now);
            }
            if taken < BURST {
                return;
            }
        }
    }

    /// Passes a worker its P, and as many of its S as may be kept.
    fn pass(&mut self, worker: usize, now: Ticks) {
        let core = Core::of_worker(worker);
        if self.suspended {
            self.sorter.keep_secondary(core, 0);
        }
        let theirs = self.sorter.secondary(core);
        let (all, mut buffers) = (theirs.len(), theirs.iter().map(F::buffers).sum());
        let fits = all <= self.remotes[worker].secondary_room();
        if all > 0 && !(fits && self.has_room_for_secondaries(buffers)) {
            buffers = self.drop_excess(worker);
        }
        self.secondary_buffers += buffers;
        let (p, s) = self.sorter.take(core);
        if p.len() + s.len() > 0 {
            self.remotes[worker].pass(p, s, buffers, now);
        }
    }

    /// Drops those S of a worker that may not be kept; returns the buffers of the others.
    #[cold]
    fn drop_excess(&mut self, worker: usize) -> usize {
        let core = Core::of_worker(worker);
        let room = self.remotes[worker].secondary_room();
        let (mut kept, mut buffers) = (0, 0);
        while kept < room
            && let Some(more) = self.sorter.secondary(core).get(kept).map(F::buffers)
            && self.has_room_for_secondaries(buffers + more)
        {
            (kept, buffers) = (kept + 1, buffers + more);
        }
        self.overflows += self.sorter.keep_secondary(core, kept) as u64;
        self.overflowed = true;
        buffers
    }

    /// Gives the workers what was taken in, and takes what they have answered. To be called once a
    /// round; without workers it does nothing.
    pub fn exchange(&mut self) {
        // Releases depend on ISNs, which wait here while nobody takes them.
        let room = self.synchronized.capacity() - self.synchronized.len();
        let takes = 2 * room >= self.synchronized.capacity()
            && !self.remotes.iter().any(Remote::has_releases);
        for i in 0..self.remotes.len() {
            self.remotes[i].flush();
            if !takes {
                continue;
            }
            // Releases before reports: whatever a release depends on was reported before it left
            // the worker, and so is found here.
            self.remotes[i].admit_releases();
            for _ in 0..self.remotes[i].most_reports() {
                let Some(report) = self.remotes[i].next_report() else {
                    break;
                };
                self.reported(report);
            }
        }
    }

    fn reported(&mut self, report: Report<F>) {
        let present = self.generation;
        match report {
            Report::Synchronized {
                generation,
                synchronized,
            } if generation == present => self.synchronized.push_back(synchronized),
            Report::Divergence {
                generation,
                divergence,
            } if generation == present => {
                self.found.get_or_insert(divergence);
            }
            Report::Overflow { generation } => self.overflowed |= generation == present,
            Report::Overdue {
                generation,
                divergence,
            } => {
                self.asked = false;
                if generation == present {
                    self.overdue = divergence;
                }
            }
            Report::Discarded(n) => self.discarded += n.frames,
            Report::Synchronized { .. }
            | Report::Divergence { .. }
            | Report::Divided(_)
            | Report::ResetDropped(_) => {}
        }
    }

    /// The next P to send. Offsets in [`Front::next_synchronized`] must have been sent to the secondary first.
    #[inline]
    pub fn next_release(&mut self) -> Option<Release<F>> {
        match self.local.next_release() {
            None => self.remotes.iter_mut().find_map(Remote::next_release),
            release => release,
        }
    }

    /// Offsets that the secondary must know before any frame released from now on leaves.
    #[inline]
    pub fn next_synchronized(&mut self) -> Option<Synchronized> {
        match self.local.next_synchronized() {
            None => self.synchronized.pop_front(),
            synchronized => synchronized,
        }
    }

    /// The first difference since the last call.
    #[inline]
    pub fn take_divergence(&mut self) -> Option<Divergence<F>> {
        match self.local.take_divergence() {
            None => self.found.take(),
            divergence => divergence,
        }
    }

    /// Takes in a RST that a client sent and that both VMs got; see [`Comparator::client_reset`].
    pub fn client_reset(&mut self, packet: &Packet, now: Ticks) {
        match self.sorter.core_of_flow(&packet.key).worker() {
            _ if self.remotes.is_empty() => self.local.client_reset(packet, now),
            None => self.local.client_reset(packet, now),
            Some(worker) => self.remotes[worker].client_reset(packet, now),
        }
    }

    /// Whether an S of this epoch was dropped for want of room since the last call.
    #[inline]
    pub fn take_overflow(&mut self) -> bool {
        let dropped = self.local.counts().secondary_overflow;
        let more = std::mem::replace(&mut self.overflow_seen, dropped) != dropped;
        std::mem::take(&mut self.overflowed) | more
    }

    /// What has waited for longer than the timeout, here or with a worker; the oldest frame stands
    /// for all (rule R9). A worker's answer comes at a later call. One that has not come to its
    /// frames for as long is reported itself.
    pub fn overdue(&mut self, now: Ticks) -> Option<Divergence<F>> {
        if self.remotes.is_empty() {
            return self.local.overdue(now);
        }
        if let Some(divergence) = self.overdue.take() {
            return Some(divergence);
        }
        let timeout = self.timeout;
        if self.remotes.iter_mut().any(|r| r.stalls(now, timeout)) {
            return Some(Divergence::without_frames(Reason::WorkerStalled, now));
        }
        if self.asked {
            return None;
        }
        let old = |since: &Ticks| now.saturating_sub(*since) >= timeout;
        let primary = self.oldest(Comparator::oldest_primary, Remote::primary_since);
        let secondary = self.oldest(Comparator::oldest_secondary, Remote::secondary_since);
        let (_, core) = [primary, secondary]
            .into_iter()
            .flatten()
            .find(|(since, _)| old(since))?;
        match core.checked_sub(1) {
            None => self.local.overdue(now),
            Some(worker) => {
                self.asked = self.remotes[worker].ask(now);
                None
            }
        }
    }

    /// Arrival of the frame that has waited for longest, P before S.
    pub fn oldest_waiting(&self) -> Option<Ticks> {
        self.oldest(Comparator::oldest_primary, Remote::primary_since)
            .or_else(|| self.oldest(Comparator::oldest_secondary, Remote::secondary_since))
            .map(|(since, _)| since)
    }

    /// The oldest of a kind of frames, and the core that has it.
    fn oldest(
        &self,
        own: impl Fn(&Comparator<F>) -> Option<Ticks>,
        of: impl Fn(&Remote<F>) -> Option<Ticks>,
    ) -> Option<(Ticks, usize)> {
        std::iter::once(own(&self.local))
            .chain(self.remotes.iter().map(of))
            .enumerate()
            .filter_map(|(core, since)| Some((since?, core)))
            .min()
    }

    /// Ends the epoch: what was not released waits for the commit, what the SVM sent is void.
    pub fn fence(&mut self) {
        self.suspended = true;
        self.local.fence();
        self.change(Change::Fence);
    }

    /// Holds every P without a comparison until the next commit, because what the SVM sends says nothing.
    pub fn suspend(&mut self) {
        self.fence();
    }

    /// Whether comparing has stopped until a commit.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// The SVM has loaded the PVM's state: everything held leaves, each flow in the order in which
    /// the PVM sent it, and comparing begins again from the PVM's state.
    pub fn commit(&mut self, now: Ticks) {
        self.suspended = false;
        self.local.commit(now);
        self.change(Change::Commit(now));
    }

    /// Drops every held P and forgets all flows: the VM that sent them is gone and nothing of
    /// them may be seen. Returns how many this core dropped; see [`Front::take_discarded`].
    pub fn discard(&mut self) -> usize {
        self.suspended = true;
        let dropped = self.local.discard();
        self.change(Change::Discard);
        dropped
    }

    /// Tells every worker, behind all frames that came before.
    fn change(&mut self, change: Change) {
        self.generation = self.generation.wrapping_add(1);
        self.found = None;
        self.overdue = None;
        self.overflowed = false;
        self.overflow_seen = self.local.counts().secondary_overflow;
        for remote in &mut self.remotes {
            remote.change(change, self.generation);
        }
    }

    /// How many held P workers have dropped since the last call, as they were told to.
    pub fn take_discarded(&mut self) -> usize {
        std::mem::take(&mut self.discarded)
    }

    /// Forgets flows that have been quiet for the idle time, at most `most` of them on this core.
    pub fn age(&mut self, now: Ticks, most: usize) {
        self.local.age(now, most);
        for remote in &mut self.remotes {
            remote.age(now);
        }
    }
}
