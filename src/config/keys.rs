//! The keys as written, before anything is known about the role: every one may be absent.
//!
//! The command line, the file's top level and a `[[pair]]` table all fill these structs, so that
//! one key has one type and one range wherever it stands.

use std::path::PathBuf;

use super::{Bounded, ControlPlace, MetricsAddress, Role};

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
/// Percent of the time for which checkpoints may stop the VM.
pub type CheckpointShare = Bounded<1, 100>;
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
    /// An address, or a socket.
    pub metrics: Option<MetricsAddress>,
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
            metrics: self.metrics.or(other.metrics),
        }
    }
}

/// Calls a macro with the list of a pair's keys, one row for each: what it is, the field, its type, the name of the key
/// and of the option, whether the option takes a value, the roles that may have the key, and the pairs that may share
/// it. Behind the macro's name stand tokens of its caller. The command line and both kinds of table of the file have
/// these keys; types are named from a module of [`config`](super).
macro_rules! pair_keys {
    ($then:ident $($caller:tt)*) => {
        $then! {
            { $($caller)* }
            /// The role of this node.
            role: super::Role = "role", value, Any, One;
            /// The port to the VM.
            guest: super::PortName = "guest", value, Nodes, One;
            /// The port to the network.
            uplink: super::PortName = "uplink", value, Nodes, All;
            /// The port to the other node.
            link: super::PortName = "link", value, Nodes, All;
            /// Which frames of the link count.
            link_key: super::LinkKey = "link-key", value, Nodes, All;
            /// The VM's addresses at an uplink that several pairs share.
            mac: super::Macs = "mac", value, Nodes, One;
            /// A comparator's port for the PVM's frames.
            primary_in: super::PortName = "primary-in", value, Comparator, One;
            /// A comparator's port for the SVM's frames.
            secondary_in: super::PortName = "secondary-in", value, Comparator, One;
            /// A comparator's port for released frames.
            out: super::PortName = "out", value, Comparator, One;
            /// The QEMU of this node's VM.
            qmp: super::QmpAddress = "qmp", value, Any, One;
            /// The pair's id on the link.
            vm_id: super::keys::VmId = "vm-id", value, Any, One;
            /// Whether the SVM's sequence numbers are its own.
            raw_secondary: bool = "raw-secondary", flag, Comparator, All;
            /// Milliseconds.
            compare_timeout: super::keys::CompareTimeout = "compare-timeout", value, Any, All;
            /// Percent.
            checkpoint_share: super::keys::CheckpointShare = "checkpoint-share", value, Any, All;
            /// Bytes.
            mtu: super::keys::Mtu = "mtu", value, Any, All;
            /// Frames.
            hold_frames: super::keys::HoldFrames = "hold-frames", value, Any, All;
            /// Flows.
            flows: super::keys::Flows = "flows", value, Any, All;
            /// Milliseconds.
            heartbeat: super::keys::Heartbeat = "heartbeat", value, Nodes, All;
            /// Heartbeats.
            heartbeat_loss: super::HeartbeatLoss = "heartbeat-loss", value, Nodes, All;
            /// Ends of the control threads' datagrams.
            heartbeat_udp: super::HeartbeatUdp = "heartbeat-udp", value, Nodes, One;
            /// Milliseconds.
            peer_stall_limit: super::keys::PeerStallLimit = "peer-stall-limit", value, Nodes, All;
            /// Milliseconds.
            restart_limit: super::keys::RestartLimit = "restart-limit", value, Nodes, All;
            /// What makes a loss certain.
            on_peer_lost: super::OnPeerLost = "on-peer-lost", value, Nodes, All;
            /// Who tells QEMU.
            failover: super::FailoverMode = "failover", value, Nodes, All;
            /// Where this node's QEMU waits for a VM's state.
            migrate_listen: super::ListenAddress = "migrate-listen", value, Nodes, One;
            /// Where this node's QEMU serves its disks.
            nbd_listen: super::ListenAddress = "nbd-listen", value, Nodes, One;
        }
    };
}
pub(crate) use pair_keys;

/// Which roles may have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roles {
    Any,
    /// Primary and secondary.
    Nodes,
    Comparator,
}

/// Which pairs may share the value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pairs {
    One,
    All,
}

/// What is known of a key of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairKey {
    /// Its name.
    pub name: &'static str,
    roles: Roles,
    pairs: Pairs,
}

impl PairKey {
    /// Whether a node of this role may have it.
    pub fn is_for(self, role: Role) -> bool {
        match self.roles {
            Roles::Any => true,
            Roles::Nodes => role != Role::Compare,
            Roles::Comparator => role == Role::Compare,
        }
    }
}

macro_rules! declare {
    ({} $($(#[$doc:meta])* $field:ident: $type:ty = $name:literal, $kind:ident, $roles:ident, $pairs:ident;)*) => {
        /// Keys of a VM pair.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct PairKeys {
            $($(#[$doc])* pub $field: Option<$type>,)*
        }

        impl PairKeys {
            /// The names of all keys.
            pub const NAMES: &[&str] = &[$($name),*];

            /// These keys, and `other`'s where one is absent.
            pub fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)* }
            }

            /// The keys that are present.
            pub fn present(&self) -> impl Iterator<Item = PairKey> {
                let keys = [$((
                    self.$field.is_some(),
                    PairKey { name: $name, roles: Roles::$roles, pairs: Pairs::$pairs },
                ),)*];
                keys.into_iter().filter_map(|(present, key)| present.then_some(key))
            }
        }
    };
}
pair_keys!(declare);

impl PairKeys {
    /// The first key present that can belong to one pair only, the role included.
    pub fn first_of_one_pair(&self) -> Option<&'static str> {
        let mut present = self.present();
        let key = present.find(|key| key.pairs == Pairs::One);
        key.map(|key| key.name)
    }
}
