//! Checkpoint requests: one outstanding at a time, repeated if no STOP follows, and none for a difference that the
//! governor lets wait (rule R9).

use super::cause::{CAUSES, Cause};
use super::governor::{CheckpointShare, Governor};
use crate::flow::FlowKey;
use crate::frame::Ticks;

/// A checkpoint to ask QEMU for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of the request.
    pub token: u64,
    /// The first cause since the last commit.
    pub cause: Cause,
    /// The flow in which it was seen, in the direction of the output, if it is of one.
    pub flow: Option<FlowKey>,
    /// When the cause was seen.
    pub seen: Ticks,
}

/// A checkpoint that is wanted.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    cause: Cause,
    flow: Option<FlowKey>,
    seen: Ticks,
}

/// Stops in a row without proof from which on requests wait.
pub const UNLUCKY: u32 = 3;
/// How often the pause between requests is doubled then.
const DOUBLINGS: u32 = 6;

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    asked: Ticks,
    stopped: bool,
}

/// The requests of one node and what became of them.
#[derive(Debug)]
pub struct Checkpoints {
    wanted: Option<Wanted>,
    /// One of the causes since the last commit cannot wait.
    urgent: bool,
    governor: Governor,
    /// The governor lets the wanted one wait.
    waits: bool,
    delayed: u64,
    outstanding: Option<Outstanding>,
    repeat: Ticks,
    /// Stops in a row that nothing has proven, since the last commit.
    unproven: u32,
    /// None is asked for before.
    not_before: Ticks,
    next_token: u64,
    causes: [u64; CAUSES],
    requested: u64,
    committed: u64,
}

impl Checkpoints {
    /// No request yet; one that no STOP follows is repeated after `repeat`.
    pub(super) fn new(repeat: Ticks, share: CheckpointShare) -> Self {
        Self {
            wanted: None,
            urgent: false,
            governor: Governor::new(share),
            waits: false,
            delayed: 0,
            outstanding: None,
            repeat,
            unproven: 0,
            not_before: 0,
            next_token: 1,
            causes: [0; CAUSES],
            requested: 0,
            committed: 0,
        }
    }

    /// Wants a checkpoint. The first cause since the last commit is the one that is reported.
    /// Differences between frames are counted by the comparator.
    pub(super) fn want(&mut self, cause: Cause, seen: Ticks) {
        self.want_for(cause, None, seen);
    }

    /// The same for a cause that was seen in a flow.
    pub(super) fn want_for(&mut self, cause: Cause, flow: Option<FlowKey>, seen: Ticks) {
        if !cause.is_counted_by_comparator() {
            self.causes[cause.index()] += 1;
        }
        self.want_uncounted(cause, flow, seen);
    }

    /// The same for a cause that is counted elsewhere.
    pub(super) fn want_uncounted(&mut self, cause: Cause, flow: Option<FlowKey>, seen: Ticks) {
        self.urgent |= !cause.may_wait();
        self.wanted.get_or_insert(Wanted { cause, flow, seen });
    }

    /// Whether a checkpoint is wanted that has not come.
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// The request to write now, if QEMU can take one.
    pub(super) fn next(&mut self, now: Ticks, able: bool) -> Option<Request> {
        let Wanted { cause, flow, seen } = self.wanted?;
        let waits = self
            .outstanding
            .is_some_and(|o| o.stopped || now.saturating_sub(o.asked) < self.repeat);
        if !able || waits || now < self.not_before {
            return None;
        }
        if !self.urgent && now < self.governor.not_before() {
            self.delayed += u64::from(!std::mem::replace(&mut self.waits, true));
            return None;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.requested += 1;
        self.outstanding = Some(Outstanding {
            asked: now,
            stopped: false,
        });
        Some(Request {
            token,
            cause,
            flow,
            seen,
        })
    }

    /// A STOP came: the request, if there was one, is being served.
    pub(super) fn stopped(&mut self, now: Ticks) {
        self.governor.stopped(now);
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.stopped = true;
        }
    }

    /// A RESUME came.
    pub(super) fn resumed(&mut self, now: Ticks) {
        self.governor.resumed(now);
    }

    /// The monitor is gone.
    pub(super) fn disconnected(&mut self) {
        self.governor.forget();
        self.retry();
    }

    /// The VM goes on, and what the stop was is not known yet.
    pub(super) fn went_on(&mut self) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.stopped = false;
        }
    }

    /// A checkpoint was completed; whatever asked for one is settled.
    pub(super) fn committed(&mut self) {
        self.committed += 1;
        (self.unproven, self.not_before) = (0, 0);
        self.settle();
    }

    /// Nothing is wanted any more.
    pub(super) fn settle(&mut self) {
        self.wanted = None;
        (self.urgent, self.waits) = (false, false);
        self.outstanding = None;
    }

    /// What was asked for may not have been heard, or came to nothing: ask again.
    pub(super) fn retry(&mut self) {
        self.outstanding = None;
    }

    /// A stop may have been a checkpoint, and nothing proves it. The second one in a row may have had
    /// bad luck, too; from the third on there is a pause before the next request, twice as long each time.
    pub(super) fn unproven(&mut self, now: Ticks) {
        self.outstanding = None;
        self.unproven = self.unproven.saturating_add(1);
        if let Some(doublings) = self.unproven.checked_sub(UNLUCKY) {
            self.not_before = now + (self.repeat << doublings.min(DOUBLINGS));
        }
    }

    /// What kept a proof away has gone: the next request need not wait, and what was unproven before tells nothing.
    pub(super) fn encourage(&mut self) {
        (self.unproven, self.not_before) = (0, 0);
    }

    /// Stops in a row that nothing has proven, since the last commit.
    pub fn unproven_count(&self) -> u32 {
        self.unproven
    }

    /// Requests that waited for the VM to run for its share of the time.
    pub fn delayed(&self) -> u64 {
        self.delayed
    }

    /// Requests written.
    pub fn requested(&self) -> u64 {
        self.requested
    }

    /// Checkpoints that committed an epoch.
    pub fn committed_count(&self) -> u64 {
        self.committed
    }

    /// How often a cause came up that the comparator does not count.
    pub fn count(&self, cause: Cause) -> u64 {
        self.causes[cause.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Reason;

    #[test]
    fn a_request_and_its_repetition_name_the_flow_of_the_first_cause() {
        let flow = |port| FlowKey::tcp(([10, 0, 0, 2], port).into(), ([10, 0, 0, 1], 9).into());
        let mut checkpoints = Checkpoints::new(10, CheckpointShare::ALL);
        let payload = Cause::Difference(Reason::Payload);
        checkpoints.want_for(payload, Some(flow(80)), 1);
        checkpoints.want_for(payload, Some(flow(81)), 2);
        checkpoints.want(Cause::InputLost, 3);
        for now in [5, 15] {
            let request = checkpoints.next(now, true).expect("one is due");
            assert_eq!(
                (request.cause, request.flow, request.seen),
                (payload, Some(flow(80)), 1)
            );
        }
        checkpoints.committed();
        checkpoints.want(Cause::InputLost, 20);
        let request = checkpoints.next(21, true).expect("one is due");
        assert_eq!((request.cause, request.flow), (Cause::InputLost, None));
    }

    #[test]
    fn a_difference_waits_for_the_vms_share_and_nothing_else_does() {
        let share = CheckpointShare {
            percent: 25,
            most: 1_000,
        };
        let payload = Cause::Difference(Reason::Payload);
        for (later, due) in [
            (None, 160),
            (Some(payload), 160),
            (Some(Cause::Difference(Reason::HoldFull)), 115),
            (Some(Cause::InputLost), 115),
        ] {
            let mut checkpoints = Checkpoints::new(10, share);
            checkpoints.want(payload, 90);
            assert!(checkpoints.next(90, true).is_some(), "the first one");
            checkpoints.stopped(100);
            checkpoints.resumed(115);
            checkpoints.committed();
            checkpoints.want(payload, 115);
            later
                .into_iter()
                .for_each(|cause| checkpoints.want(cause, 115));
            for now in [115, 159, 160] {
                let asked = checkpoints.next(now, true).is_some();
                assert_eq!(asked, now == due, "{later:?} at {now}");
                if asked {
                    break;
                }
            }
            assert_eq!(checkpoints.delayed(), u64::from(due > 115));
        }
    }
}
