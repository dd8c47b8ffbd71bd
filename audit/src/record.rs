//! The records of a node's log: frames and events, numbered in one order.

use serde::Deserialize;

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// What the VM sent, when the node took it.
    P,
    /// What the other VM sent, as the node received it, with the epoch it came under.
    S,
    /// What left through the uplink.
    Out,
    /// Input that the VM's ring took.
    In,
    /// The SVM's output before translation: not judged.
    Other,
}

impl Place {
    /// The place with the name of an interface of the capture.
    pub fn of_interface(name: &str) -> Self {
        match name {
            "P" => Self::P,
            "S" => Self::S,
            "OUT" => Self::Out,
            "IN" => Self::In,
            _ => Self::Other,
        }
    }

    /// The word for messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::P => "P",
            Self::S => "S",
            Self::Out => "OUT",
            Self::In => "IN",
            Self::Other => "other",
        }
    }
}

/// One entry of a log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place in the log: from 1, one more each.
    pub seq: u64,
    /// `CLOCK_MONOTONIC` of the node's host, in nanoseconds.
    pub ns: u64,
    /// What it is.
    pub body: Body,
}

/// The content of an entry.
#[derive(Clone, Debug)]
pub enum Body {
    /// A frame.
    Frame {
        /// Where it was seen.
        place: Place,
        /// The epoch: of an S the one in which the SVM sent it, else the node's own.
        epoch: u32,
        /// The whole frame.
        bytes: Box<[u8]>,
    },
    /// Something that happened.
    Event(Event),
}

/// The role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Holds the PVM's output.
    Primary,
    /// Feeds the SVM, and serves the network after a takeover.
    Secondary,
    /// Compares mirrored traffic.
    Compare,
}

impl Role {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Compare => "compare",
        }
    }
}

/// The numbering of the SVM's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Numbers {
    /// All but its SYN carry the PVM's numbers.
    Translated,
    /// All carry the SVM's own numbers.
    OwnIsn,
}

/// A rule under which output leaves uncompared, or bytes of it may differ.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PolicyRule {
    /// Its name.
    pub name: String,
    /// `tcp`, `udp`, `icmp` or `any`.
    pub protocol: String,
    /// A port at either end.
    pub port: Option<u16>,
    /// `address/length`, at either end.
    pub prefix: Option<String>,
    /// Id of the outer tag.
    pub vlan: Option<u16>,
    /// The bytes that may differ; without it the output leaves uncompared.
    #[serde(default)]
    pub mask: Option<Mask>,
}

/// The bytes of a stream that may differ: the value behind a literal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Mask {
    /// The literal.
    pub after: Vec<u8>,
    /// Most bytes of the value.
    pub most: usize,
    /// The byte before which it ends.
    pub until: Option<u8>,
    /// Nothing is masked.
    pub dry_run: bool,
    /// When the rule ends, by the records' clock.
    pub expires_ns: Option<u64>,
}

/// Who wrote a log, and under which rules.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Start {
    /// When, by `CLOCK_MONOTONIC`.
    pub ns: u64,
    /// When, by the wall clock, in nanoseconds since 1970.
    pub wall_ns: u64,
    /// Which boot of which host: logs with the same have the same clock.
    pub host: String,
    /// The VM pair.
    pub pair: String,
    /// The node's role.
    pub role: Role,
    /// How the SVM's sequence numbers come.
    pub numbers: Numbers,
    /// Rules besides the default ones.
    pub policy: Vec<PolicyRule>,
}

/// An event of a node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The log begins.
    Start(Start),
    /// The guest's ring stopped; the epoch that begins.
    Fence {
        /// Its number.
        epoch: u32,
    },
    /// The monitor answers.
    MonitorConnected {
        /// Migration state is `colo`.
        colo: bool,
        /// The VM runs.
        #[serde(default)]
        running: bool,
    },
    /// The monitor is gone.
    MonitorLost,
    /// The VM stopped.
    Stop,
    /// MIGRATION_PASS.
    Pass,
    /// The VM's run state behind a STOP.
    RunState {
        /// It is `colo`: the VM was stopped for a load.
        colo: bool,
    },
    /// The other node has reported a load.
    Loaded {
        /// Of a state that contains what was taken in epochs up to this one, if in any.
        covers: Option<u32>,
    },
    /// Whether the other node can report loads and is heard.
    Witness {
        /// It can.
        able: bool,
    },
    /// The VM runs again.
    Resume,
    /// The migration state changed.
    Migration {
        /// It is `colo`.
        colo: bool,
    },
    /// COLO ended.
    ColoExit,
    /// An answer of the monitor.
    Barrier {
        /// Migration state is `colo`.
        colo: bool,
    },
    /// The node's state.
    State {
        /// The word.
        state: String,
        /// The epoch.
        epoch: u32,
    },
    /// The held frames may leave.
    Commit {
        /// The epoch that begins.
        epoch: u32,
    },
    /// Held frames were dropped.
    Discarded {
        /// Their number since the node began.
        frames: u64,
    },
    /// A secondary is the primary from now on.
    Takeover,
    /// The node goes on without its peer, by a decision: its VM's output leaves uncompared.
    Alone,
    /// Records were lost.
    Gap {
        /// Their number since the node began.
        lost: u64,
    },
    /// The node ended by itself.
    End,
    /// Any event that is not judged: requests, divergences, starts of a ring.
    #[serde(other)]
    Other,
}
