//! Why keys that are fine by themselves give no settings together, and where the fault lies.

use std::fmt;
use std::path::PathBuf;

use super::{PortName, QmpAddress, Role, RuleName};
use crate::switch::{MEMBERS, Mac};

/// Where the keys of a pair stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// All on the command line.
    CommandLine,
    /// In a file, the command line perhaps overriding some.
    File {
        /// The file.
        path: PathBuf,
        /// The name of the `[[pair]]` table; `None` at the top level.
        pair: Option<String>,
    },
}

impl KeySource {
    pub(super) fn fault(&self, fault: PairFault) -> SettingsError {
        SettingsError::Pair {
            place: self.clone(),
            fault,
        }
    }

    /// What precedes a key: the command line writes `--key`.
    fn dashes(&self) -> &'static str {
        match self {
            Self::CommandLine => "--",
            Self::File { .. } => "",
        }
    }
}

/// Why keys that are fine by themselves give no settings together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// The command line has a key of one pair, and the file has several pairs.
    WhichPair {
        /// The key.
        key: &'static str,
        /// Pairs in the file.
        pairs: usize,
    },
    /// Something is wrong with one pair.
    Pair {
        /// Where its keys stand.
        place: KeySource,
        /// What is wrong.
        fault: PairFault,
    },
}

/// What is wrong with a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairFault {
    /// No role.
    NoRole,
    /// The role needs a key.
    Missing {
        /// The role.
        role: Role,
        /// The key.
        key: &'static str,
        /// What its value is, in the words of the usage.
        value: &'static str,
    },
    /// The role has no use for a key.
    NotForRole {
        /// The role.
        role: Role,
        /// The key.
        key: &'static str,
    },
    /// A port has two places.
    PortTwice {
        /// The port.
        port: PortName,
        /// Its place here.
        key: &'static str,
        /// Its other place.
        other_key: &'static str,
        /// The pair of the other place, when it is another.
        other_pair: Option<String>,
    },
    /// Two pairs at one link port have one id.
    IdTwice {
        /// The port.
        port: PortName,
        /// The pair that has the id, too.
        other_pair: String,
    },
    /// A link port that is shared where nothing seals its frames.
    SharedWithoutKey {
        /// The port.
        port: PortName,
        /// A pair that has it, too.
        other_pair: String,
    },
    /// Two pairs at one uplink want different MTUs.
    MtuDiffers {
        /// The port.
        port: PortName,
        /// A pair that has it, too.
        other_pair: String,
    },
    /// Two pairs at one uplink have one address.
    MacTwice {
        /// The address.
        mac: Mac,
        /// The pair that has it, too.
        other_pair: String,
    },
    /// More pairs at a port than it tells apart.
    TooMany {
        /// The port.
        port: PortName,
    },
    /// Two pairs have one monitor, which serves one client at a time and speaks of one VM.
    MonitorTwice {
        /// The monitor.
        monitor: QmpAddress,
        /// The pair that has it, too.
        other_pair: String,
    },
    /// A secondary that takes over by itself though nothing makes sure of the primary.
    SplitBrain,
    /// A node that is to tell QEMU once it is certain, and never is.
    NeverCertain,
    /// The peer would be lost while poll cores sleep.
    SleepsTooLong {
        /// The longest sleep in microseconds.
        most: u64,
    },
    /// One address for two purposes.
    ListensTwice,
    /// Reports that nothing authenticates.
    ReportsWithoutKey,
    /// A limit on what nobody reports.
    LimitWithoutReports,
    /// Another pair has the name.
    NameTwice,
    /// A name that cannot be a counter's.
    Name,
    /// Two policy rules share a name.
    RuleTwice {
        /// The name.
        name: RuleName,
    },
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, fault) = match self {
            Self::WhichPair { key, pairs } => {
                return write!(
                    f,
                    "--{key} belongs to one pair, but --config has {pairs}; set `{key}` in the \
                     pair's table"
                );
            }
            Self::Pair { place, fault } => (place, fault),
        };
        if let KeySource::File { path, pair } = place {
            write!(f, "--config: {path:?}")?;
            if let Some(pair) = pair {
                write!(f, " pair {pair:?}")?;
            }
            f.write_str(": ")?;
        }
        let dashes = place.dashes();
        match fault {
            PairFault::NoRole if *place == KeySource::CommandLine => f.write_str(
                "--role is missing; give `-- --role primary|secondary|compare` or `-- --config FILE`",
            ),
            PairFault::NoRole => {
                f.write_str("role is missing; set it to \"primary\", \"secondary\" or \"compare\"")
            }
            PairFault::Missing { role, key, value } => {
                write!(f, "role {role} needs {dashes}{key} {value}")
            }
            PairFault::NotForRole { role, key } => {
                write!(f, "role {role} has no use for {dashes}{key}; remove it")
            }
            PairFault::PortTwice { port, key, other_key, other_pair } => {
                write!(f, "port {port} is {dashes}{key} and also {dashes}{other_key}")?;
                if let Some(pair) = other_pair {
                    write!(f, " of pair {pair:?}")?;
                }
                f.write_str("; give each a port of its own")
            }
            PairFault::IdTwice { port, other_pair } => write!(
                f,
                "{dashes}vm-id is also the id of pair {other_pair:?} at the same link port {port}; give each pair there an \
                 id of its own"
            ),
            PairFault::SharedWithoutKey { port, other_pair } => write!(
                f,
                "{dashes}link {port} is also the link of pair {other_pair:?}: without a key a fragment does not say which \
                 pair it is for; give both {dashes}link-key FILE"
            ),
            PairFault::MtuDiffers { port, other_pair } => write!(
                f,
                "{dashes}mtu differs from that of pair {other_pair:?}, which has the same uplink port {port}; a port has \
                 one MTU"
            ),
            PairFault::MacTwice { mac, other_pair } => write!(
                f,
                "{dashes}mac {mac} is also an address of pair {other_pair:?} at the same uplink; an address is one VM's"
            ),
            PairFault::TooMany { port } => write!(
                f,
                "port {port} would be the port of more than {MEMBERS} pairs; run another process with a port of its own"
            ),
            PairFault::MonitorTwice { monitor, other_pair } => write!(
                f,
                "{dashes}qmp {monitor} is also the monitor of pair {other_pair:?}; give each pair the monitor of \
                 its own QEMU"
            ),
            PairFault::SplitBrain => write!(
                f,
                "{dashes}failover auto with {dashes}on-peer-lost release could let both VMs speak \
                 for one when only the link is lost; give a secondary {dashes}on-peer-lost exec:COMMAND"
            ),
            PairFault::SleepsTooLong { most } => write!(
                f,
                "{dashes}idle-sleep is more than a quarter of {dashes}heartbeat times {dashes}heartbeat-loss: a peer \
                 that lives would be lost while a poll core sleeps; give at most {most}"
            ),
            PairFault::NeverCertain => write!(
                f,
                "{dashes}failover auto never acts with {dashes}on-peer-lost hold; give \
                 {dashes}on-peer-lost exec:COMMAND, or {dashes}failover manual"
            ),
            PairFault::ListensTwice => write!(
                f,
                "{dashes}migrate-listen and {dashes}nbd-listen are one address; give them different ports"
            ),
            PairFault::ReportsWithoutKey => write!(
                f,
                "{dashes}heartbeat-udp needs a key, because anybody can send such datagrams; give \
                 {dashes}link-key FILE"
            ),
            PairFault::LimitWithoutReports => write!(
                f,
                "{dashes}peer-stall-limit has no effect without {dashes}heartbeat-udp, by which the peer reports that its \
                 poll core gets no CPU"
            ),
            PairFault::NameTwice => {
                f.write_str("another pair has this name; give each its own `name` or `vm-id`")
            }
            PairFault::Name => f.write_str(
                "a pair's name has 1 to 64 printable ASCII characters without a space; change it",
            ),
            PairFault::RuleTwice { name } => {
                write!(f, "two policy rules are called {name}; rename one")
            }
        }
    }
}
