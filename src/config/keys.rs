//! The keys as written, before anything is known about the role: every one may be absent.
//!
//! The command line, the file's top level and a `[[pair]]` table all fill these structs, so that
//! one key has one type and one range wherever it stands.

use std::path::PathBuf;

use super::{
    Bounded, ControlPlace, FailoverMode, HeartbeatLoss, HeartbeatUdp, LinkKey, OnPeerLost,
    PortName, QmpAddress, Role,
};

/// Sleep of a poll core in microseconds; 0 is none.
pub type IdleSleep = Bounded<0, 1_000_000>;
/// Time in seconds that QEMU waits for a poll core at most; 0 is for ever.
pub type StallLimit = Bounded<0, 3600>;
/// Bound on the bytes of all captures in MiB; 0 is none.
pub type CaptureLimit = Bounded<0, 1_073_741_824>;
/// Period of the table in seconds; 0 is no table.
pub type StatsPeriod = Bounded<0, 86_400>;
/// Id of a pair on the link.
pub type VmId = Bounded<0, 65_535>;
/// Age that asks for a checkpoint, in milliseconds.
pub type CompareTimeout = Bounded<1, 3_600_000>;
/// MTU of the network in bytes: from the least of IPv4 (RFC 791) to what switches carry.
pub type Mtu = Bounded<68, 9216>;
/// Bound on held frames.
pub type HoldFrames = Bounded<1, 1_048_576>;
/// Time between two heartbeats in milliseconds.
pub type Heartbeat = Bounded<1, 10_000>;
/// How long a peer that lacks CPU is waited for, in milliseconds.
pub type PeerStallLimit = Bounded<0, 600_000>;
/// How long an announced restart of the peer may take, in milliseconds.
pub type RestartLimit = Bounded<1000, 600_000>;
/// Size of a flow table.
pub type Flows = Bounded<1, 16_777_216>;

/// Keys of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessKeys {
    /// Microseconds.
    pub idle_sleep: Option<IdleSleep>,
    /// Seconds.
    pub stall_limit: Option<StallLimit>,
    /// Seconds.
    pub stats_period: Option<StatsPeriod>,
    /// A file that is written at the end.
    pub summary: Option<PathBuf>,
    /// A directory, made when missing.
    pub report_dir: Option<PathBuf>,
    /// A directory, made when missing.
    pub capture: Option<PathBuf>,
    /// MiB.
    pub capture_limit: Option<CaptureLimit>,
    /// A socket, or none.
    pub control: Option<ControlPlace>,
    /// A group's name or number.
    pub control_group: Option<String>,
}

impl ProcessKeys {
    /// These keys, and `other`'s where one is absent.
    pub fn or(self, other: Self) -> Self {
        Self {
            idle_sleep: self.idle_sleep.or(other.idle_sleep),
            stall_limit: self.stall_limit.or(other.stall_limit),
            stats_period: self.stats_period.or(other.stats_period),
            summary: self.summary.or(other.summary),
            report_dir: self.report_dir.or(other.report_dir),
            capture: self.capture.or(other.capture),
            capture_limit: self.capture_limit.or(other.capture_limit),
            control: self.control.or(other.control),
            control_group: self.control_group.or(other.control_group),
        }
    }
}

/// Keys of a VM pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairKeys {
    /// The role of this node.
    pub role: Option<Role>,
    /// The port to the VM.
    pub guest: Option<PortName>,
    /// The port to the network.
    pub uplink: Option<PortName>,
    /// The port to the other node.
    pub link: Option<PortName>,
    /// Which frames of the link count.
    pub link_key: Option<LinkKey>,
    /// A comparator's port for the PVM's frames.
    pub primary_in: Option<PortName>,
    /// A comparator's port for the SVM's frames.
    pub secondary_in: Option<PortName>,
    /// A comparator's port for released frames.
    pub out: Option<PortName>,
    /// The QEMU of this node's VM.
    pub qmp: Option<QmpAddress>,
    /// The pair's id on the link.
    pub vm_id: Option<VmId>,
    /// Whether the SVM's sequence numbers are its own.
    pub raw_secondary: Option<bool>,
    /// Milliseconds.
    pub compare_timeout: Option<CompareTimeout>,
    /// Bytes.
    pub mtu: Option<Mtu>,
    /// Frames.
    pub hold_frames: Option<HoldFrames>,
    /// Flows.
    pub flows: Option<Flows>,
    /// Milliseconds.
    pub heartbeat: Option<Heartbeat>,
    /// Heartbeats.
    pub heartbeat_loss: Option<HeartbeatLoss>,
    /// Ends of the control threads' datagrams.
    pub heartbeat_udp: Option<HeartbeatUdp>,
    /// Milliseconds.
    pub peer_stall_limit: Option<PeerStallLimit>,
    /// Milliseconds.
    pub restart_limit: Option<RestartLimit>,
    /// What makes a loss certain.
    pub on_peer_lost: Option<OnPeerLost>,
    /// Who tells QEMU.
    pub failover: Option<FailoverMode>,
}

impl PairKeys {
    /// These keys, and `other`'s where one is absent.
    pub fn or(self, other: Self) -> Self {
        Self {
            role: self.role.or(other.role),
            guest: self.guest.or(other.guest),
            uplink: self.uplink.or(other.uplink),
            link: self.link.or(other.link),
            link_key: self.link_key.or(other.link_key),
            primary_in: self.primary_in.or(other.primary_in),
            secondary_in: self.secondary_in.or(other.secondary_in),
            out: self.out.or(other.out),
            qmp: self.qmp.or(other.qmp),
            vm_id: self.vm_id.or(other.vm_id),
            raw_secondary: self.raw_secondary.or(other.raw_secondary),
            compare_timeout: self.compare_timeout.or(other.compare_timeout),
            mtu: self.mtu.or(other.mtu),
            hold_frames: self.hold_frames.or(other.hold_frames),
            flows: self.flows.or(other.flows),
            heartbeat: self.heartbeat.or(other.heartbeat),
            heartbeat_loss: self.heartbeat_loss.or(other.heartbeat_loss),
            heartbeat_udp: self.heartbeat_udp.or(other.heartbeat_udp),
            peer_stall_limit: self.peer_stall_limit.or(other.peer_stall_limit),
            restart_limit: self.restart_limit.or(other.restart_limit),
            on_peer_lost: self.on_peer_lost.or(other.on_peer_lost),
            failover: self.failover.or(other.failover),
        }
    }

    /// The first key present that can belong to one pair only, the role included.
    pub fn first_of_one_pair(&self) -> Option<&'static str> {
        [
            (self.role.is_some(), "role"),
            (self.guest.is_some(), "guest"),
            (self.uplink.is_some(), "uplink"),
            (self.link.is_some(), "link"),
            (self.primary_in.is_some(), "primary-in"),
            (self.secondary_in.is_some(), "secondary-in"),
            (self.out.is_some(), "out"),
            (self.qmp.is_some(), "qmp"),
            (self.vm_id.is_some(), "vm-id"),
            (self.heartbeat_udp.is_some(), "heartbeat-udp"),
        ]
        .into_iter()
        .find_map(|(present, key)| present.then_some(key))
    }
}
