//! Checkpoint requests: one outstanding at a time, repeated if no STOP follows (rule R9).

use super::cause::{CAUSES, Cause};
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
    pub(super) fn new(repeat: Ticks) -> Self {
        Self {
            wanted: None,
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
    pub(super) fn stopped(&mut self) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.stopped = true;
        }
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

    /// What kept a proof away has gone: the next request need not wait, and what was unproven before does not count.
    pub(super) fn encourage(&mut self) {
        (self.unproven, self.not_before) = (0, 0);
    }

    /// Stops in a row that nothing has proven, since the last commit.
    pub fn unproven_count(&self) -> u32 {
        self.unproven
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
        let mut checkpoints = Checkpoints::new(10);
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
}
