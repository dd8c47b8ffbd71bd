//! The node at one moment, as `status` shows it. Keys, once there, stay.

use serde::Serialize;

use super::order::Order;
use crate::config::Role;
use crate::protect::State;

/// A node and its pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// The process.
    pub node: NodeStatus,
    /// Its pairs, in the order of the configuration.
    pub pairs: Vec<PairStatus>,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Of the program.
    pub version: &'static str,
    /// Its process id.
    pub pid: u32,
    /// Seconds since the start.
    pub seconds: f64,
    /// The least level of the lines in the log.
    pub log_level: &'static str,
    /// Sleep of a poll core without work, in microseconds; 0: none.
    pub idle_sleep_us: u64,
    /// How long QEMU waits for a poll core that stands still, in seconds; 0: for ever.
    pub stall_limit_s: u64,
}

/// A pair as this node sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairStatus {
    /// Its name.
    pub name: String,
    /// The role now.
    #[serde(serialize_with = "role_word")]
    pub role: RoleNow,
    /// The node began as the secondary and has taken over.
    pub taken_over: bool,
    /// Whether this VM could go on without loss, were the other one certainly down.
    pub promotable: bool,
    /// Why, or why not.
    pub promotable_why: String,
    /// The state.
    #[serde(serialize_with = "state_word")]
    pub state: State,
    /// Seconds for which it has been seen to be so.
    pub since_s: f64,
    /// The epoch.
    pub epoch: u64,
    /// Why the state is this.
    pub why: String,
    /// What an operator should do; `None`: nothing.
    pub todo: Option<String>,
    /// This node has given up its lead, and the other VM was not heard to lead yet.
    pub ceded: bool,
    /// This node has given up its VM at the other one's request, which goes on alone, or will.
    pub renounced: bool,
    /// And the other VM does.
    #[serde(skip)]
    pub gone_alone: bool,
    /// QEMU's monitor; `None` for a comparator without one.
    pub monitor: Option<MonitorStatus>,
    /// The guest's ring; `None` for a comparator.
    pub ring: Option<RingStatus>,
    /// The link; `None` for a comparator.
    pub link: Option<LinkStatus>,
    /// The other node; `None` for a comparator.
    pub peer: Option<PeerStatus>,
    /// Checkpoints.
    pub checkpoints: CheckpointStatus,
    /// Seconds since `stats-reset`, from when `requested`, `committed` and `losses` count; `None`: from the start.
    pub reset_s: Option<f64>,
    /// What an ordered protection is doing; `None`: none is under way.
    pub protect: Option<ProtectStatus>,
    /// What waits to leave.
    pub held: HeldStatus,
    /// Orders that are under way, or whose time is over and that may still take effect.
    pub orders: Vec<OrderStatus>,
    /// The settings in force.
    pub parameters: PairParameters,
}

/// What a node is now, whatever it began as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleNow {
    /// Its VM is the one that speaks, or would.
    Primary,
    /// Its VM follows.
    Secondary,
    /// Its VM led, another one goes on in its place, and it never speaks again.
    Superseded,
    /// It only compares.
    Compare,
}

impl RoleNow {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Superseded => "superseded",
            Self::Compare => "compare",
        }
    }
}

impl From<Role> for RoleNow {
    fn from(role: Role) -> Self {
        match role {
            Role::Primary => Self::Primary,
            Role::Secondary => Self::Secondary,
            Role::Compare => Self::Compare,
        }
    }
}

/// An order that has no outcome yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderStatus {
    /// The order.
    #[serde(serialize_with = "order_word")]
    pub order: Order,
    /// What it waits for.
    pub waits_for: &'static str,
    /// For how long.
    pub since_s: f64,
    /// Its time is over, and nobody waits for it any more.
    pub timed_out: bool,
    /// Who gave it.
    pub by: Giver,
}

/// The process that has given an order, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Giver {
    /// Its user.
    pub uid: u32,
    /// Its id then.
    pub pid: u32,
}

impl std::fmt::Display for Giver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "uid {}, pid {}", self.uid, self.pid)
    }
}

/// QEMU's monitor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MonitorStatus {
    /// Where it listens.
    pub address: String,
    /// `absent`, `connected` or `unresponsive`.
    pub state: &'static str,
    /// QEMU's version, once it was heard.
    pub qemu: Option<String>,
    /// `none`, `colo`, `completed` or `broken`.
    pub migration: &'static str,
    /// What QEMU owes where it is unresponsive.
    pub waits_for: Option<&'static str>,
    /// For how long.
    pub waits_ms: u64,
}

/// The guest's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RingStatus {
    /// The guest uses its port.
    pub runs: bool,
}

/// The link between the nodes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkStatus {
    /// The port.
    pub port: String,
    /// Only frames that are sealed with the pair's key count.
    pub sealed: bool,
    /// Sessions so far.
    pub sessions: u64,
    /// The last frames that did not count; `None`: none so far.
    pub refused: Option<RefusedFrames>,
}

/// Frames of the link that did not count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RefusedFrames {
    /// Why: `other_key`, `unsealed`, `sealed`, `version`, `same_role`, `second`, `reflected`, `stale` or `forged`.
    pub why: &'static str,
    /// Since the last of them.
    pub ago_s: f64,
}

/// The other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// It was heard within `lost_after_ms`.
    pub heard: bool,
    /// Since it was heard, or since the start.
    pub silence_ms: u64,
    /// A silence of this length is a loss.
    pub lost_after_ms: u64,
    /// Losses so far.
    pub losses: u64,
    /// Its VM certainly sends nothing any more: it is lost, by `--on-peer-lost`, or it has ceded the lead.
    pub certainly_lost: bool,
    /// It has ceded the lead to this node's VM.
    pub ceded: bool,
}

/// Checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckpointStatus {
    /// Requested by this node because something differed or was missing.
    pub requested: u64,
    /// Of a leading node: whose commit was seen. Of the other: epochs that its VM has loaded.
    pub committed: u64,
    /// The last one that was seen.
    pub last: Option<LastCheckpoint>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastCheckpoint {
    /// A word of the log; `ordered` over this socket; `qemu`: by QEMU's timer, or its first one.
    pub reason: &'static str,
    /// Its age.
    pub ago_s: f64,
    /// From the request to STOP, if there was a request.
    pub stop_ms: Option<f64>,
    /// From STOP to RESUME.
    pub pause_ms: f64,
}

/// An ordered protection that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProtectStatus {
    /// `looks`, `prepares`, `copies_disks`, `moves_state`, `settles` or `undoes`.
    pub step: &'static str,
    /// Bytes that this step has copied.
    pub done: u64,
    /// Bytes that it has to copy in all, as far as is known; 0: it copies nothing.
    pub total: u64,
}

/// What waits to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HeldStatus {
    /// Frames of the primary VM.
    pub frames: u64,
    /// Most of them so far.
    pub most: u64,
    /// How many may be held.
    pub limit: u64,
}

/// The settings of a pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairParameters {
    /// Id on the link.
    pub vm_id: u16,
    /// Age at which an unmatched frame asks for a checkpoint.
    pub compare_timeout_ms: u64,
    /// Flows that the table can hold.
    pub flows: u64,
    /// Policy rules by their names.
    pub policy: Vec<String>,
    /// What happens when the peer is lost; `None` for a comparator.
    pub failover: Option<FailoverParameters>,
}

/// What happens when the peer is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailoverParameters {
    /// `manual` or `auto`.
    pub mode: String,
    /// `hold`, `release` or `exec:COMMAND`.
    pub on_peer_lost: String,
    /// Time between two heartbeats.
    pub heartbeat_ms: u64,
    /// A peer whose poll core gets no CPU is waited for.
    pub peer_stall_limit_ms: u64,
    /// A peer that restarts is waited for.
    pub restart_limit_ms: u64,
}

/// What of a pair's status counts from the start, or from a reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Checkpoints that were asked for.
    pub requested: u64,
    /// Checkpoints that were committed.
    pub committed: u64,
    /// Times the peer was lost.
    pub losses: u64,
}

impl PairStatus {
    /// What counts.
    pub fn counted(&self) -> Counted {
        Counted {
            requested: self.checkpoints.requested,
            committed: self.checkpoints.committed,
            losses: self.peer.map_or(0, |peer| peer.losses),
        }
    }

    /// Counts from a reset, which was `seconds` ago and found `base`. After a takeover a VM counts other commits, which
    /// may be fewer.
    pub fn count_from(&mut self, base: Counted, seconds: f64) {
        let from = |count: &mut u64, base: u64| *count = count.saturating_sub(base);
        from(&mut self.checkpoints.requested, base.requested);
        from(&mut self.checkpoints.committed, base.committed);
        if let Some(peer) = &mut self.peer {
            from(&mut peer.losses, base.losses);
        }
        self.reset_s = Some(seconds);
    }

    /// Whether this node's VM is the one that speaks.
    pub fn leads(&self) -> bool {
        self.role == RoleNow::Primary
    }

    /// Whether it is certain that the other node's VM sends nothing any more.
    pub fn is_peer_certainly_lost(&self) -> bool {
        self.peer.is_some_and(|peer| peer.certainly_lost)
    }

    /// Whether the other node is heard.
    pub fn hears_peer(&self) -> bool {
        self.peer.is_some_and(|peer| peer.heard)
    }

    /// Whether QEMU's monitor has a connection.
    pub fn has_monitor(&self) -> bool {
        let monitor = self.monitor.as_ref();
        monitor.is_some_and(|monitor| monitor.state != "absent")
    }

    /// Whether QEMU is in COLO.
    pub fn in_colo(&self) -> bool {
        let monitor = self.monitor.as_ref();
        monitor.is_some_and(|monitor| monitor.migration == "colo")
    }
}

fn role_word<S: serde::Serializer>(role: &RoleNow, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(role.word())
}

fn order_word<S: serde::Serializer>(order: &Order, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(order)
}

fn state_word<S: serde::Serializer>(state: &State, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.word())
}

/// A pair for tests: protected, with everything as it should be.
#[cfg(test)]
pub(super) fn protected(name: &str, role: Role) -> PairStatus {
    let alone = role == Role::Compare;
    PairStatus {
        name: name.to_owned(),
        role: role.into(),
        taken_over: false,
        promotable: role == Role::Secondary,
        promotable_why: String::new(),
        state: State::Protected,
        since_s: 1.5,
        epoch: 3,
        why: String::new(),
        todo: None,
        ceded: false,
        renounced: false,
        gone_alone: false,
        monitor: Some(MonitorStatus {
            address: "/run/p.qmp".to_owned(),
            state: "connected",
            qemu: Some("7.2.22".to_owned()),
            migration: "colo",
            waits_for: None,
            waits_ms: 0,
        }),
        ring: (!alone).then_some(RingStatus { runs: true }),
        link: (!alone).then(|| LinkStatus {
            port: "net_tap0".to_owned(),
            sealed: true,
            sessions: 1,
            refused: None,
        }),
        peer: (!alone).then_some(PeerStatus {
            heard: true,
            silence_ms: 3,
            lost_after_ms: 500,
            losses: 0,
            certainly_lost: false,
            ceded: false,
        }),
        checkpoints: CheckpointStatus {
            requested: 1,
            committed: 3,
            last: None,
        },
        reset_s: None,
        protect: None,
        held: HeldStatus {
            frames: 0,
            most: 7,
            limit: 16_384,
        },
        orders: Vec::new(),
        parameters: PairParameters {
            vm_id: 0,
            compare_timeout_ms: 3_000,
            flows: 65_536,
            policy: Vec::new(),
            failover: (!alone).then(|| FailoverParameters {
                mode: "manual".to_owned(),
                on_peer_lost: "hold".to_owned(),
                heartbeat_ms: 20,
                peer_stall_limit_ms: 5_000,
                restart_limit_ms: 30_000,
            }),
        },
    }
}

/// A node for tests.
#[cfg(test)]
pub(super) fn node(pairs: Vec<PairStatus>) -> Snapshot {
    Snapshot {
        node: NodeStatus {
            version: "0.1.0",
            pid: 1,
            seconds: 2.0,
            log_level: "info",
            idle_sleep_us: 0,
            stall_limit_s: 30,
        },
        pairs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_begin_again_with_a_reset_and_nothing_else_does() {
        let mut pair = protected("a", Role::Primary);
        pair.checkpoints.requested = 7;
        pair.peer.as_mut().expect("it has one").losses = 2;
        let base = pair.counted();
        pair.checkpoints.requested = 9;
        // A takeover: it counts its own commits from now on.
        pair.checkpoints.committed = 1;
        let before = pair.clone();
        pair.count_from(base, 4.5);
        let counted = Counted {
            requested: 2,
            committed: 0,
            losses: 0,
        };
        assert_eq!((pair.counted(), pair.reset_s), (counted, Some(4.5)));
        assert_eq!((pair.held, pair.epoch), (before.held, before.epoch));
        assert_eq!(pair.link, before.link);
    }
}
