//! What the PVM sends is compared, held, and let go by a commit.
//!
//! Input: P and S, the fence that ends an epoch, the commit that covers it, uncertainty, and the decision that this VM
//! goes on alone. Output: the P that may leave, wanted checkpoints, divergences. Their reasons are not known here. Frames
//! that fence and commit do not cover stay inside (rules R1 to R3). Uncertainty holds everything until the next commit
//! (rule R8). A frame that waits for longer than the timeout wants a checkpoint (rule R9).

use super::comparison::Comparison;
use super::handshake_gate::{HandshakeGate, SendIsns};
use super::{Cause, Checkpoints, Request, Setup};
use crate::compare::Release;
use crate::frame::{BURST, Frame, Ticks};
use crate::link::Endpoint;
use crate::packet::Packet;
use crate::spread::{DispatcherEnd, RedirectionTable};

/// Whether the guest's output is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Off,
    On,
    /// Everything is held until the next commit.
    Uncertain,
    /// The peer is certainly lost, though QEMU has not got the failover command: everything leaves at once.
    Alone,
}

/// The PVM's output from its ring to the uplink.
pub(super) struct OutputCommit<F> {
    mode: Mode,
    comparison: Comparison<F>,
    handshake_gate: HandshakeGate<F>,
    epoch: u32,
    /// The epoch that began with the last commit.
    committed: Option<u32>,
    /// P that the comparator has room for.
    hold: usize,
    timeout: Ticks,
}

impl<F: Frame> OutputCommit<F> {
    /// Nothing is protected yet. A worker behind each of `ends` compares its share of the flows.
    pub(crate) fn new(setup: Setup, ends: Vec<DispatcherEnd<F>>, table: RedirectionTable) -> Self {
        Self {
            mode: Mode::Off,
            hold: setup.limits.primary,
            timeout: setup.limits.timeout,
            comparison: Comparison::new(setup, ends, table),
            handshake_gate: HandshakeGate::new(),
            epoch: 0,
            committed: None,
        }
    }

    /// Whether the guest's output is compared.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether what the PVM sends goes to the comparator.
    pub(crate) fn compares(&self) -> bool {
        matches!(self.mode, Mode::On | Mode::Uncertain)
    }

    /// Number of the epoch that the PVM runs, or will run when it starts again.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The next fence ends this epoch.
    pub(crate) fn set_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    /// The epoch that began with the last commit.
    pub(crate) fn committed(&self) -> Option<u32> {
        self.committed
    }

    /// Frames that wait are overdue at this age from now on.
    pub(super) fn set_timeout(&mut self, timeout: Ticks) {
        self.timeout = timeout;
        self.comparison.comparator.set_timeout(timeout);
    }

    /// The comparator and its findings.
    pub(crate) fn comparison(&self) -> &Comparison<F> {
        &self.comparison
    }

    /// The comparator and its findings, for what does not depend on epochs.
    #[inline]
    pub(crate) fn comparison_mut(&mut self) -> &mut Comparison<F> {
        &mut self.comparison
    }

    /// The requests, which take QEMU's answers.
    pub(crate) fn checkpoints_mut(&mut self) -> &mut Checkpoints {
        &mut self.comparison.checkpoints
    }

    /// Frames that are in here.
    pub(crate) fn frames(&self) -> usize {
        self.comparison.frames() + self.handshake_gate.len()
    }

    /// P that wait for their counterpart, a commit or an acknowledgment.
    pub(crate) fn held(&self) -> usize {
        self.comparison.comparator.held() + self.handshake_gate.len()
    }

    /// Whether a burst of P has room.
    pub(crate) fn has_room(&self) -> bool {
        let all_left = || {
            let comparator = &self.comparison.comparator;
            comparator.room() >= self.hold && self.handshake_gate.len() == 0
        };
        match self.mode {
            // What leaves at once must not overtake what was held before.
            Mode::Off | Mode::Alone => self.comparison.comparator.is_ready() && all_left(),
            _ => self.comparison.has_room(),
        }
    }

    /// Takes in P and S of the epoch that the PVM runs.
    pub(crate) fn ingest(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        debug_assert!(self.compares(), "what is not compared does not come here");
        self.comparison.ingest(primary, secondary, now);
    }

    /// Takes in a RST that the client sent and that both VMs get.
    pub(crate) fn client_reset(&mut self, packet: &Packet, now: Ticks) {
        if self.mode == Mode::On {
            self.comparison.comparator.client_reset(packet, now);
        }
    }

    /// What was taken in so far belongs to the epoch that ends here.
    pub(crate) fn fence(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.comparison.comparator.fence();
        self.handshake_gate.fence(&mut self.comparison.comparator);
    }

    /// The VM entered COLO: both VMs are equal now.
    pub(crate) fn begin(&mut self, now: Ticks) {
        self.comparison.checkpoints.settle();
        // What left meanwhile was not followed.
        self.comparison.discard();
        self.compare_again(now);
    }

    /// The SVM has loaded the PVM's state: what is held may leave, and comparing begins again.
    pub(crate) fn commit(&mut self, now: Ticks) {
        self.comparison.checkpoints.committed();
        self.compare_again(now);
    }

    fn compare_again(&mut self, now: Ticks) {
        self.comparison.comparator.commit(now);
        self.handshake_gate.free();
        self.committed = Some(self.epoch);
        self.mode = Mode::On;
    }

    /// Holds everything until the next commit.
    pub(crate) fn suspend(&mut self) {
        self.comparison.comparator.suspend();
        self.mode = Mode::Uncertain;
    }

    /// Holds everything until the next commit, also where everything is held already. There is a cause to ask
    /// for a checkpoint if one may come.
    pub(crate) fn mark_uncertain(&mut self, cause: Option<Cause>, now: Ticks) {
        if !self.comparison.comparator.is_suspended() {
            self.comparison.comparator.suspend();
        }
        self.mode = Mode::Uncertain;
        if let Some(cause) = cause
            && !self.comparison.checkpoints.is_wanted()
        {
            self.comparison.checkpoints.want(cause, now);
        }
    }

    /// The SVM does not go on, and this VM does: what is held leaves, and nothing is compared. `mode`
    /// says whether QEMU knows.
    pub(crate) fn go_on_alone(&mut self, mode: Mode, now: Ticks) {
        self.comparison.comparator.commit(now);
        self.handshake_gate.free();
        self.mode = mode;
        self.comparison.checkpoints.settle();
    }

    /// The VM that sent what is held is gone: nothing of that may leave, and nothing is compared.
    pub(crate) fn start_over(&mut self, now: Ticks) {
        self.comparison.discard();
        self.comparison
            .count_discarded(self.handshake_gate.discard());
        self.comparison.comparator.commit(now);
        self.mode = Mode::Off;
        self.comparison.checkpoints.settle();
    }

    /// What left while this VM was alone is known to QEMU, which has begun another COLO.
    pub(crate) fn await_begin(&mut self) {
        if self.mode == Mode::Alone {
            self.mode = Mode::Off;
        }
    }

    /// The peer knows nothing that it was sent.
    pub(crate) fn revoke(&mut self) {
        self.handshake_gate.revoke();
    }

    /// Wants a checkpoint.
    pub(crate) fn want(&mut self, cause: Cause, seen: Ticks) {
        self.comparison.checkpoints.want(cause, seen);
    }

    /// Forgets quiet flows, and wants a checkpoint for what has waited for too long; `lost` says that
    /// nothing more comes from the SVM.
    pub(crate) fn tick(&mut self, lost: bool, now: Ticks) {
        self.comparison.comparator.age(now, BURST);
        if self.comparison.checkpoints.is_wanted() {
            return;
        }
        let unheard = self
            .handshake_gate
            .oldest()
            .is_some_and(|arrived| now.saturating_sub(arrived) >= self.timeout);
        if unheard || lost && self.held() > 0 {
            self.want(Cause::LinkDown, now);
        } else {
            self.comparison.overdue(now);
        }
    }

    /// The next P that may leave. The link gets a connection's ISNs before any frame of it leaves.
    pub(crate) fn next_release(&mut self, link: &mut Endpoint) -> Option<Release<F>> {
        let send_isns = match self.mode {
            Mode::On => SendIsns::In(self.epoch),
            Mode::Uncertain => SendIsns::Later,
            Mode::Off | Mode::Alone => SendIsns::Nobody,
        };
        self.handshake_gate
            .next_release(&mut self.comparison.comparator, link, send_isns)
    }

    /// The next checkpoint request, if QEMU can take one.
    pub(crate) fn next_request(&mut self, now: Ticks, able: bool) -> Option<Request> {
        self.comparison
            .checkpoints
            .next(now, able && self.compares())
    }
}
