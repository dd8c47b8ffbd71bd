//! The dispatcher: the comparator's methods on the core that polls the ports.

use std::collections::VecDeque;
use std::iter;

use super::RedirectionTable;
use super::classifier::{Classifier, Core};
use super::control::Change;
use super::ring::{DispatcherEnd, Report};
use super::worker_handle::WorkerHandle;
use crate::compare::{
    Comparator, Divergence, Limits, Numbers, Policy, Reason, Release, Synchronized,
};
use crate::frame::{BURST, Frame, Ticks};
use crate::packet::Packet;

/// A comparator that passes flows to [`super::Worker`]s. It has the methods of [`Comparator`]. Results of workers show
/// once they have reported and [`Dispatcher::exchange`] was called.
pub struct Dispatcher<F> {
    local: Comparator<F>,
    workers: Box<[WorkerHandle<F>]>,
    classifier: Classifier<F>,
    timeout: Ticks,
    /// Buffers of P that all cores together may hold.
    max_primary_buffers: usize,
    /// Buffers of S that all cores together may keep.
    max_secondary_buffers: usize,
    /// Buffers of S that all cores kept at the last count, plus those passed on since.
    secondary_buffers: usize,
    /// S that this dispatcher dropped because no more may be kept.
    overflows: u64,
    /// P that workers dropped since [`Dispatcher::take_discarded`].
    discarded: usize,
    /// Counts fences, discards and commits. A report of an earlier generation is void.
    generation: u32,
    suspended: bool,
    /// Its capacity is twice the slots of all rings of reports.
    synchronized: VecDeque<Synchronized>,
    /// The first difference that a worker reported.
    divergence: Option<Divergence<F>>,
    /// A worker's answer to a query for its overdue frame.
    overdue: Option<Divergence<F>>,
    /// A worker has not answered such a query yet.
    overdue_queried: bool,
    /// S were dropped since [`Dispatcher::take_overflow`].
    overflowed: bool,
    /// The own comparator's overflow counter at the last [`Dispatcher::take_overflow`].
    overflow_seen: u64,
}

impl<F: Frame> Dispatcher<F> {
    /// A comparator without workers.
    pub fn alone(limits: Limits, numbers: Numbers, policy: Policy) -> Self {
        Self::new(
            limits,
            numbers,
            policy,
            Vec::new(),
            RedirectionTable::even(1, 1),
        )
    }

    /// A dispatcher with a worker behind each of `ends`. `limits` bound all cores together. In `table`, core 0 is the
    /// dispatcher's, and core `n` that of the worker at `ends[n - 1]`: make this worker with
    /// [`RedirectionTable::limits`] of core `n`.
    pub fn new(
        limits: Limits,
        numbers: Numbers,
        policy: Policy,
        ends: Vec<DispatcherEnd<F>>,
        table: RedirectionTable,
    ) -> Self {
        let workers: Box<[WorkerHandle<F>]> = ends.into_iter().map(WorkerHandle::new).collect();
        let reports: usize = workers.iter().map(WorkerHandle::report_capacity).sum();
        Self {
            local: Comparator::new(table.limits(&limits, 0), numbers, policy),
            classifier: Classifier::new(table, workers.len()),
            workers,
            timeout: limits.timeout,
            max_primary_buffers: limits.primary,
            max_secondary_buffers: limits.secondary,
            secondary_buffers: 0,
            overflows: 0,
            discarded: 0,
            generation: 0,
            suspended: false,
            synchronized: VecDeque::with_capacity(2 * reports),
            divergence: None,
            overdue: None,
            overdue_queried: false,
            overflowed: false,
            overflow_seen: 0,
        }
    }

    /// This core's comparator, for its counters. Each worker has its own.
    pub fn local(&self) -> &Comparator<F> {
        &self.local
    }

    /// Cores that compare.
    pub fn cores(&self) -> usize {
        1 + self.workers.len()
    }

    /// P that all cores together may still hold. With less room than a burst the caller stops polling the guest
    /// (rule R8).
    pub fn room(&self) -> usize {
        let at_workers = self.sum(0, WorkerHandle::primary_buffers);
        self.local.room().saturating_sub(at_workers)
    }

    /// Whether every worker has room for a burst. If not, the caller takes no P (rule R8).
    pub fn is_ready(&self) -> bool {
        self.workers.iter().all(WorkerHandle::is_ready)
    }

    /// Whether to take a burst of S: there is room for it, or waiting would make none.
    pub fn wants_secondary(&mut self) -> bool {
        self.is_ready()
            && (self.has_room_for_secondaries(BURST)
                || self.workers.iter().all(WorkerHandle::is_idle))
    }

    /// Whether `n` more buffers of S may be kept. Without workers the comparator checks that itself.
    fn has_room_for_secondaries(&mut self, n: usize) -> bool {
        self.workers.is_empty() || self.keeps_at_most(self.max_secondary_buffers, n)
    }

    /// Whether all cores keep at most this many buffers of S with `n` more.
    fn keeps_at_most(&mut self, most: usize, n: usize) -> bool {
        if self.secondary_buffers + n > most {
            self.secondary_buffers = self.sum(
                self.local.secondary_buffers(),
                WorkerHandle::secondary_buffers,
            );
        }
        self.secondary_buffers + n <= most
    }

    /// Limits of the P and S that the next round takes; see [`Comparator::take_budget`]. With workers there is no
    /// budget: each worker has other flows, which are not equally far.
    #[inline]
    pub fn take_budget(&mut self) -> [usize; 2] {
        match self.workers.is_empty() {
            true => self.local.take_budget(),
            false => [BURST; 2],
        }
    }

    /// S that this dispatcher dropped because no more may be kept. Comparators count their own drops.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// P that wait for a counterpart or a commit.
    pub fn held(&self) -> usize {
        self.sum(self.local.held(), WorkerHandle::held)
    }

    /// All frames here and at the workers, P and S.
    pub fn frames(&self) -> usize {
        let reported = [&self.divergence, &self.overdue]
            .into_iter()
            .flatten()
            .map(Divergence::frames);
        self.sum(self.local.frames(), WorkerHandle::frames) + reported.sum::<usize>()
    }

    /// Flows that all cores know.
    pub fn flows(&self) -> usize {
        self.sum(self.local.flows(), WorkerHandle::flows)
    }

    fn sum(&self, own: usize, of: impl Fn(&WorkerHandle<F>) -> usize) -> usize {
        own + self.workers.iter().map(of).sum::<usize>()
    }

    /// Whether every worker has processed all messages and all results have been taken.
    pub fn is_settled(&self) -> bool {
        self.workers.iter().all(WorkerHandle::is_settled)
    }

    /// [`Dispatcher::ingest`] of one P. Returns the frame as an error if there is no room.
    pub fn primary(&mut self, frame: F, now: Ticks) -> Result<(), F> {
        let mut frame = iter::once(frame);
        self.ingest(&mut frame, &mut iter::empty(), now);
        frame.next().map_or(Ok(()), Err)
    }

    /// [`Dispatcher::ingest`] of one S.
    pub fn secondary(&mut self, frame: F, now: Ticks) {
        self.ingest(&mut iter::empty(), &mut iter::once(frame), now);
    }

    /// Takes in P, and S of the same epoch; see [`Comparator::ingest`].
    pub fn ingest(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        if self.workers.is_empty() {
            return self.local.ingest(primary, secondary, now);
        }
        self.dispatch(primary, secondary, now);
    }

    /// Passes every core its frames.
    fn dispatch(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        loop {
            // The classifier must not take more P than every worker has room for: the others would be lost.
            let at_workers = self.workers.iter().map(WorkerHandle::primary_room);
            let room = at_workers.fold(self.room(), usize::min);
            let policy = self.local.policy();
            let taken = self.classifier.sort(primary, room, secondary, policy);
            let (mut p, mut s) = self.classifier.take(Core::OWN);
            if p.len() + s.len() > 0 {
                self.local.ingest(&mut p, &mut s, now);
            }
            drop((p, s));
            for worker in 0..self.workers.len() {
                self.pass(worker, now);
            }
            if taken < BURST {
                return;
            }
        }
    }

    /// Passes a worker its P, and as many of its S as may be kept. Drops the other S.
    fn pass(&mut self, worker: usize, now: Ticks) {
        let core = Core::of_worker(worker);
        if self.suspended {
            self.classifier.truncate_secondary(core, 0);
        }
        let queued = self.classifier.secondary(core);
        let (all, mut buffers) = (queued.len(), queued.iter().map(F::buffers).sum());
        let fits = all <= self.workers[worker].secondary_room();
        if all > 0 && !(fits && self.has_room_for_secondaries(buffers)) {
            buffers = self.drop_excess(worker);
        }
        // Each worker keeps the last quarter of the whole room by itself, too; but its share of what waits may be small.
        let most = self.max_secondary_buffers - self.max_secondary_buffers / 4;
        let scarce = buffers > 0 && !self.keeps_at_most(most, buffers);
        self.secondary_buffers += buffers;
        let (p, s) = self.classifier.take(core);
        if p.len() + s.len() > 0 {
            self.workers[worker].send(p, s, buffers, scarce, now);
        }
    }

    /// Drops the S of a worker that may not be kept. Returns the buffers of the others.
    #[cold]
    fn drop_excess(&mut self, worker: usize) -> usize {
        let core = Core::of_worker(worker);
        let room = self.workers[worker].secondary_room();
        let (mut kept, mut buffers) = (0, 0);
        while kept < room
            && let Some(more) = self.classifier.secondary(core).get(kept).map(F::buffers)
            && self.has_room_for_secondaries(buffers + more)
        {
            (kept, buffers) = (kept + 1, buffers + more);
        }
        self.overflows += self.classifier.truncate_secondary(core, kept) as u64;
        self.overflowed = true;
        buffers
    }

    /// Sends queued frames and messages to the workers, and takes their reports. Call it once a round. Without workers
    /// it does nothing.
    pub fn exchange(&mut self) {
        // No report is read while the caller has not taken the ISNs and releases of earlier ones: the list of ISNs must
        // have room for all reports.
        let room = self.synchronized.capacity() - self.synchronized.len();
        let reads = 2 * room >= self.synchronized.capacity()
            && !self.workers.iter().any(WorkerHandle::has_releases);
        for i in 0..self.workers.len() {
            self.workers[i].flush();
            if !reads {
                continue;
            }
            // A worker reports ISNs before it sends the releases that depend on them. So the releases are counted
            // first, and the reports read afterwards hold all that these depend on.
            self.workers[i].admit_releases();
            for _ in 0..self.workers[i].report_capacity() {
                let Some(report) = self.workers[i].next_report() else {
                    break;
                };
                self.apply(report);
            }
        }
    }

    fn apply(&mut self, report: Report<F>) {
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
                self.divergence.get_or_insert(divergence);
            }
            Report::Overflow { generation } => self.overflowed |= generation == present,
            Report::Overdue {
                generation,
                divergence,
            } => {
                self.overdue_queried = false;
                if generation == present {
                    self.overdue = divergence;
                }
            }
            Report::Discarded(n) => self.discarded += n.frames,
            Report::Synchronized { .. }
            | Report::Divergence { .. }
            | Report::Split(_)
            | Report::ResetDropped(_) => {}
        }
    }

    /// The next P to send. The ISNs of [`Dispatcher::next_synchronized`] must be sent to the secondary first.
    #[inline]
    pub fn next_release(&mut self) -> Option<Release<F>> {
        match self.local.next_release() {
            None => self.workers.iter_mut().find_map(WorkerHandle::next_release),
            release => release,
        }
    }

    /// ISNs that the secondary must know before any frame released from now on leaves.
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
            None => self.divergence.take(),
            divergence => divergence,
        }
    }

    /// Takes in a RST that a client has sent to both VMs; see [`Comparator::client_reset`].
    pub fn client_reset(&mut self, packet: &Packet, now: Ticks) {
        match self.classifier.core_of_flow(&packet.key).worker() {
            _ if self.workers.is_empty() => self.local.client_reset(packet, now),
            None => self.local.client_reset(packet, now),
            Some(worker) => self.workers[worker].client_reset(packet, now),
        }
    }

    /// Whether an S of this epoch was dropped since the last call because no more may be kept.
    #[inline]
    pub fn take_overflow(&mut self) -> bool {
        let dropped = self.local.counts().secondary_overflow;
        let more = std::mem::replace(&mut self.overflow_seen, dropped) != dropped;
        std::mem::take(&mut self.overflowed) | more
    }

    /// Frames that wait are overdue at this age from now on, on all cores.
    pub fn set_timeout(&mut self, timeout: Ticks) {
        self.timeout = timeout;
        self.local.set_timeout(timeout);
        for worker in &mut self.workers {
            worker.set_timeout(timeout);
        }
    }

    /// The oldest frame that has waited for the timeout or longer, on any core (rule R9). A worker is asked first, so
    /// its frame is returned by a later call. A worker without progress for the timeout is reported itself.
    pub fn overdue(&mut self, now: Ticks) -> Option<Divergence<F>> {
        if self.workers.is_empty() {
            return self.local.overdue(now);
        }
        if let Some(divergence) = self.overdue.take() {
            return Some(divergence);
        }
        let timeout = self.timeout;
        if self
            .workers
            .iter_mut()
            .any(|worker| worker.take_stall(now, timeout))
        {
            return Some(Divergence::without_frames(Reason::WorkerStalled, now));
        }
        if self.overdue_queried {
            return None;
        }
        let old = |since: &Ticks| now.saturating_sub(*since) >= timeout;
        let primary = self.oldest(Comparator::oldest_primary, WorkerHandle::primary_since);
        let secondary = self.oldest(Comparator::oldest_secondary, WorkerHandle::secondary_since);
        let (_, core) = [primary, secondary]
            .into_iter()
            .flatten()
            .find(|(since, _)| old(since))?;
        match core.checked_sub(1) {
            None => self.local.overdue(now),
            Some(worker) => {
                self.overdue_queried = self.workers[worker].ask_overdue(now);
                None
            }
        }
    }

    /// A checkpoint that is wanted before the room for P is full; see [`Comparator::crowding`]. The worker with most of
    /// them is asked first, so its answer is returned by a later [`Dispatcher::overdue`].
    pub fn crowding(&mut self, now: Ticks) -> Option<Divergence<F>> {
        if self.workers.is_empty() {
            return self.local.crowding(now);
        }
        let is_half_full = 2 * self.room() <= self.max_primary_buffers;
        if is_half_full && !self.overdue_queried && !self.suspended {
            let fullest = self
                .workers
                .iter_mut()
                .max_by_key(|worker| worker.primary_buffers());
            self.overdue_queried = fullest.is_some_and(|worker| worker.ask_crowding(now));
        }
        None
    }

    /// Arrival of the oldest P that waits; if there is none, of the oldest S.
    pub fn oldest_waiting(&self) -> Option<Ticks> {
        self.oldest(Comparator::oldest_primary, WorkerHandle::primary_since)
            .or_else(|| self.oldest(Comparator::oldest_secondary, WorkerHandle::secondary_since))
            .map(|(since, _)| since)
    }

    /// The earliest arrival on any core, and that core.
    fn oldest(
        &self,
        own: impl Fn(&Comparator<F>) -> Option<Ticks>,
        of: impl Fn(&WorkerHandle<F>) -> Option<Ticks>,
    ) -> Option<(Ticks, usize)> {
        std::iter::once(own(&self.local))
            .chain(self.workers.iter().map(of))
            .enumerate()
            .filter_map(|(core, since)| Some((since?, core)))
            .min()
    }

    /// Ends the epoch: P that are held wait for the commit, and S are dropped.
    pub fn fence(&mut self) {
        self.suspended = true;
        self.local.fence();
        self.change(Change::Fence);
    }

    /// Holds every P without a comparison until the next commit, because the S are of no use for one.
    pub fn suspend(&mut self) {
        self.fence();
    }

    /// Whether nothing is compared until the next commit.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// The SVM has loaded the PVM's state: all held P leave, each flow's in the PVM's order. Comparing begins again
    /// from the PVM's state.
    pub fn commit(&mut self, now: Ticks) {
        self.suspended = false;
        self.local.commit(now);
        self.change(Change::Commit(now));
    }

    /// Drops every held P and removes all flows: the VM that sent the P is gone, and none of them may leave. Returns
    /// the number that this core dropped; [`Dispatcher::take_discarded`] returns that of the workers.
    pub fn discard(&mut self) -> usize {
        self.suspended = true;
        let dropped = self.local.discard();
        self.change(Change::Discard);
        dropped
    }

    /// Sends the change to every worker, behind all earlier frames.
    fn change(&mut self, change: Change) {
        self.generation = self.generation.wrapping_add(1);
        self.divergence = None;
        self.overdue = None;
        self.overflowed = false;
        self.overflow_seen = self.local.counts().secondary_overflow;
        for worker in &mut self.workers {
            worker.change(change, self.generation);
        }
    }

    /// The number of P that workers have dropped since the last call, for a discard or for want of room.
    pub fn take_discarded(&mut self) -> usize {
        std::mem::take(&mut self.discarded)
    }

    /// Removes flows that have been idle for the idle time, at most `most` of them on this core.
    pub fn age(&mut self, now: Ticks, most: usize) {
        self.local.age(now, most);
        for worker in &mut self.workers {
            worker.age(now);
        }
    }
}
