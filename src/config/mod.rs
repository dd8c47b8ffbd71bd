//! What a process is to do: the settings that come out of the command line and the TOML file.
//!
//! In go the keys as written ([`keys`]), from up to three places that override each other: the
//! command line, a `[[pair]]` table, the file's top level. Out come [`Settings`]: complete,
//! checked, with every default applied, and with exactly the ports that each role needs. The
//! caller has only to check that the ports exist.

#![warn(unreachable_pub)]

mod control;
mod failover;
mod fault;
mod file;
mod heartbeat_udp;
pub mod keys;
pub mod link_key;
mod listen;
mod macs;
mod mask;
mod metrics;
mod policy;
pub mod reload;
mod resolve;
mod sharing;
mod value;

pub use control::{ControlPlace, ControlSettings};
pub use failover::{
    FailoverMode, FailoverModeError, FailoverSettings, HeartbeatLoss, HeartbeatLossError,
    OnPeerLost, OnPeerLostError,
};
pub use fault::{KeySource, PairFault, SettingsError};
pub use file::{ConfigError, File, PairTable};
pub use heartbeat_udp::{HeartbeatUdp, HeartbeatUdpError};
pub(crate) use keys::pair_keys;
pub use keys::{PairKey, PairKeys, ProcessKeys};
pub use link_key::{KeyFileError, LinkKey};
pub use listen::{ListenAddress, ListenAddressError};
pub use macs::{Macs, MacsError};
pub use mask::{MaskError, MaskExtent, MaskRule};
pub use metrics::{MetricsAddress, MetricsAddressError};
pub use policy::{PolicyRule, Prefix, PrefixError, Protocol, RuleError, RuleName};
pub use resolve::resolve;
pub use sharing::Sharing;
pub use value::{Bounded, OutOfRange, PortName, PortNameError, UnknownRole};

pub use crate::qmp::{Address as QmpAddress, AddressError as QmpAddressError};
use crate::switch::Mac;

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longer than a poll core stands still that shares its CPU, and shorter than an operator takes to look.
const DEFAULT_STALL_LIMIT: Duration = Duration::from_secs(30);
/// An idle core takes some percent of a CPU. 1 Gbit/s brings 372 frames meanwhile, which a port's ring holds.
const DEFAULT_IDLE_SLEEP: Duration = Duration::from_micros(250);

/// Everything one process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What concerns the process as a whole.
    pub process: ProcessSettings,
    /// The VM pairs, at least one, in the order of the file.
    pub pairs: Vec<PairSettings>,
}

/// What concerns the process as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    /// How long a poll core without work sleeps at most; `None` is never.
    pub idle_sleep: Option<Duration>,
    /// How long QEMU waits for a poll core that stands still before the process ends; `None` is for ever.
    pub stall_limit: Option<Duration>,
    /// Time between two prints of the table on stdout; `None` prints none.
    pub stats_period: Option<Duration>,
    /// Where the JSON summary goes at the end.
    pub summary: Option<PathBuf>,
    /// Directory of the divergence records.
    pub report_dir: Option<PathBuf>,
    /// The captures that an audit reads.
    pub capture: Option<CaptureSettings>,
    /// The socket for an operator's program.
    pub control: ControlSettings,
    /// Where the metrics are served; `None` is nowhere.
    pub metrics: Option<MetricsAddress>,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            idle_sleep: Some(DEFAULT_IDLE_SLEEP),
            stall_limit: Some(DEFAULT_STALL_LIMIT),
            stats_period: None,
            summary: None,
            report_dir: None,
            capture: None,
            control: ControlSettings::default(),
            metrics: None,
        }
    }
}

/// Where captures go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSettings {
    /// Their directory.
    pub dir: PathBuf,
    /// Bytes that all captures there may have, earlier runs' included.
    pub limit: u64,
}

/// One VM pair as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSettings {
    /// Name in logs, counters and the summary; no other pair of the process has it.
    pub name: String,
    /// The pair's id in the frames of the link; both nodes must give the same.
    pub vm_id: u16,
    /// The role of this node, with its ports and its QEMU.
    pub role: RoleSettings,
    /// Age at which an unmatched frame of the PVM asks for a checkpoint, in whole milliseconds,
    /// at least 1 ms. A secondary compares nothing and does not use it.
    pub compare_timeout: Duration,
    /// Percent of the time for which checkpoints for differences may stop the VM, from 1 to 100; 100 is no limit.
    pub checkpoint_share: u8,
    /// The MTU in bytes of the ports to the network, of a comparator all its ports; `None` for what
    /// each device has.
    pub mtu: Option<u16>,
    /// Bound on the frames held for this pair.
    pub hold_frames: NonZeroU32,
    /// Flows that the pair's table can hold.
    pub flows: NonZeroU32,
    /// What happens when the other node is lost; a comparator has none and does not use it.
    pub failover: FailoverSettings,
    /// The addresses of its VM at an uplink that it shares; none: they are learned.
    pub macs: Vec<Mac>,
    /// Where this node's QEMU waits for a VM's state while it is the secondary.
    pub migrate_listen: Option<ListenAddress>,
    /// Where it serves its disks then.
    pub nbd_listen: Option<ListenAddress>,
    /// Rules for flows that leave uncompared: the process-wide ones first, then the pair's own.
    pub policy: Vec<PolicyRule>,
}

/// A role with all that belongs to it, and nothing that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleSettings {
    /// Holds the PVM's output and compares it.
    Primary {
        /// The vhost port to the PVM.
        guest: PortName,
        /// The port to the network.
        uplink: PortName,
        /// The port to the secondary node.
        link: PortName,
        /// Which of its frames count.
        link_key: LinkKey,
        /// The PVM's QEMU.
        qmp: QmpAddress,
    },
    /// Feeds the SVM and passes its output to the primary node.
    Secondary {
        /// The vhost port to the SVM.
        guest: PortName,
        /// The port to the network, used after a failover.
        uplink: Option<PortName>,
        /// The port to the primary node.
        link: PortName,
        /// Which of its frames count.
        link_key: LinkKey,
        /// The SVM's QEMU.
        qmp: QmpAddress,
    },
    /// Compares traffic that somebody else mirrors.
    Compare {
        /// Where the frames of the PVM come in.
        primary_in: PortName,
        /// Where the frames of the SVM come in.
        secondary_in: PortName,
        /// Where released frames leave.
        out: PortName,
        /// The PVM's QEMU; without it divergences are only reported.
        qmp: Option<QmpAddress>,
        /// Whether the SVM's sequence numbers are its own, so that they are taken relative to its
        /// own initial sequence number; else they carry the PVM's numbers already.
        raw_secondary: bool,
    },
}

impl PairSettings {
    /// The ports of this pair, each with its place.
    pub fn ports(&self) -> impl Iterator<Item = (PortRole, &PortName)> {
        let ports = match &self.role {
            RoleSettings::Primary {
                guest,
                uplink,
                link,
                ..
            } => [
                Some((PortRole::Guest, guest)),
                Some((PortRole::Uplink, uplink)),
                Some((PortRole::Link, link)),
            ],
            RoleSettings::Secondary {
                guest,
                uplink,
                link,
                ..
            } => [
                Some((PortRole::Guest, guest)),
                uplink.as_ref().map(|uplink| (PortRole::Uplink, uplink)),
                Some((PortRole::Link, link)),
            ],
            RoleSettings::Compare {
                primary_in,
                secondary_in,
                out,
                ..
            } => [
                Some((PortRole::PrimaryIn, primary_in)),
                Some((PortRole::SecondaryIn, secondary_in)),
                Some((PortRole::Out, out)),
            ],
        };
        ports.into_iter().flatten()
    }
}

impl RoleSettings {
    /// Which role this is.
    pub fn role(&self) -> Role {
        match self {
            Self::Primary { .. } => Role::Primary,
            Self::Secondary { .. } => Role::Secondary,
            Self::Compare { .. } => Role::Compare,
        }
    }

    /// Which frames of the link count, where there is a link.
    pub fn link_key(&self) -> Option<&LinkKey> {
        match self {
            Self::Primary { link_key, .. } | Self::Secondary { link_key, .. } => Some(link_key),
            Self::Compare { .. } => None,
        }
    }

    /// The QEMU that this node talks to, if any.
    pub fn qmp(&self) -> Option<&QmpAddress> {
        match self {
            Self::Primary { qmp, .. } | Self::Secondary { qmp, .. } => Some(qmp),
            Self::Compare { qmp, .. } => qmp.as_ref(),
        }
    }
}

/// The role of a node in a VM pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Role {
    /// On the PVM's host.
    Primary,
    /// On the SVM's host.
    Secondary,
    /// The bare comparator.
    Compare,
}

impl Role {
    /// The word that selects it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Compare => "compare",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, UnknownRole> {
        [Self::Primary, Self::Secondary, Self::Compare]
            .into_iter()
            .find(|role| role.as_str() == word)
            .ok_or(UnknownRole)
    }
}

impl TryFrom<String> for Role {
    type Error = UnknownRole;

    fn try_from(word: String) -> Result<Self, UnknownRole> {
        word.parse()
    }
}

/// What a port is to a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortRole {
    /// The vhost port to the VM.
    Guest,
    /// The port to the network.
    Uplink,
    /// The port to the other node.
    Link,
    /// Where a comparator takes the PVM's frames.
    PrimaryIn,
    /// Where a comparator takes the SVM's frames.
    SecondaryIn,
    /// Where a comparator's released frames leave.
    Out,
}

impl PortRole {
    /// The key of the file and, behind `--`, the option that names the port.
    pub fn key(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Uplink => "uplink",
            Self::Link => "link",
            Self::PrimaryIn => "primary-in",
            Self::SecondaryIn => "secondary-in",
            Self::Out => "out",
        }
    }

    /// Position among the at most three ports of a pair: 0, 1 or 2. Counters of ports lie in that
    /// order.
    pub const fn slot(self) -> usize {
        match self {
            Self::Guest | Self::PrimaryIn => 0,
            Self::Uplink | Self::SecondaryIn => 1,
            Self::Link | Self::Out => 2,
        }
    }
}

/// A transport port number that a rule may name.
pub type TransportPort = NonZeroU16;
