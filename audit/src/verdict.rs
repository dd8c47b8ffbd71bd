//! What judges of flows get and give: when a P or an S was captured, what may leave at a node, and why a frame might
//! leave or might not.

use std::collections::BTreeMap;

use crate::report::Rule;

/// Why a frame was allowed to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The SVM has sent the same.
    Compared,
    /// A commit covers it.
    Committed,
    /// Nothing was protected.
    Open,
    /// A policy rule names it.
    Policy(String),
    /// The node announces the VM's place to the network.
    Announcement,
}

/// A frame or event that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule that it breaks.
    pub rule: Rule,
    /// The position in the flow.
    pub position: Option<String>,
    /// Other records that show it.
    pub records: Vec<u64>,
    /// What was expected and what was seen.
    pub what: String,
}

/// When a P was captured.
#[derive(Clone, Copy, Debug)]
pub struct CapturePoint {
    /// Its record.
    pub record: u64,
    /// The epoch.
    pub epoch: u32,
    /// Fences before it.
    pub fences: u64,
    /// Nothing was protected.
    pub open: bool,
    /// The node's turn. Frames of one turn have no order.
    pub turn: u64,
}

impl CapturePoint {
    /// Why it may leave without a comparison, if it may.
    pub fn why(&self, cx: &Releasing) -> Option<Why> {
        if self.fences < cx.committed {
            Some(Why::Committed)
        } else if self.open || cx.open {
            Some(Why::Open)
        } else {
            cx.policy.clone().map(Why::Policy)
        }
    }
}

/// When an S was received.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its record.
    pub record: u64,
    /// The epoch.
    pub epoch: u32,
    /// The node's turn.
    pub turn: u64,
}

/// The node's state for the judge of a flow, when a frame leaves.
pub struct Releasing {
    /// A commit covers the frames that were taken before this many fences.
    pub committed: u64,
    /// Nothing is protected now.
    pub open: bool,
    /// The policy rule that covers the frame.
    pub policy: Option<String>,
    /// The node began as the secondary.
    pub has_taken_over: bool,
    /// Bytes that left masked, by rule; gathered here.
    pub masked: BTreeMap<String, u64>,
    /// Masked bytes that left again with another value, after a takeover; gathered here.
    pub masked_again: u64,
    /// Frames that the node dropped because their VM was gone, and that are not accounted for.
    pub vanished: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_comes_before_an_open_node_and_that_before_a_policy() {
        let point = |fences, open| CapturePoint {
            record: 1,
            epoch: 1,
            fences,
            open,
            turn: 0,
        };
        let cx = |open, policy: Option<&str>| Releasing {
            committed: 3,
            open,
            policy: policy.map(str::to_owned),
            has_taken_over: false,
            masked: BTreeMap::new(),
            masked_again: 0,
            vanished: 0,
        };
        assert_eq!(point(3, false).why(&cx(false, None)), None);
        assert_eq!(
            point(3, false).why(&cx(false, Some("ntp"))),
            Some(Why::Policy("ntp".into()))
        );
        assert_eq!(point(3, true).why(&cx(false, Some("ntp"))), Some(Why::Open));
        assert_eq!(point(3, false).why(&cx(true, None)), Some(Why::Open));
        assert_eq!(point(2, true).why(&cx(true, None)), Some(Why::Committed));
    }
}
