//! From keys to [`Settings`]: who overrides whom, the defaults, what each role needs and forbids.
//!
//! The command line overrides a `[[pair]]` table, which overrides the file's top level. Every
//! fault is named with its place and its key, as the key is spelled there.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::CaptureLimit;
use super::{
    CaptureSettings, ControlSettings, FailoverMode, FailoverSettings, File, LinkKey, Macs,
    OnPeerLost, PairKeys, PairSettings, PolicyRule, PortName, PortRole, ProcessKeys,
    ProcessSettings, QmpAddress, Role, RoleSettings, RuleName, Settings,
};
use crate::switch::{MEMBERS, Mac};

const DEFAULT_COMPARE_TIMEOUT_MS: u32 = 3000;
const DEFAULT_HOLD_FRAMES: u32 = 16_384;
const DEFAULT_FLOWS: u32 = 65_536;
const DEFAULT_CAPTURE_LIMIT_MIB: u32 = 16_384;
const DEFAULT_HEARTBEAT_MS: u32 = 20;
const DEFAULT_HEARTBEAT_LOSS: u32 = 25;
const DEFAULT_PEER_STALL_LIMIT_MS: u32 = 5_000;
const DEFAULT_RESTART_LIMIT_MS: u32 = 30_000;

/// Longest sleeps in a silence, at least: two at each end, for a heartbeat and its answer.
const SLEEPS_IN_A_SILENCE: u32 = 4;

/// Makes settings of the command line's keys and of the file, which its path names in errors.
///
/// # Errors
/// When a pair lacks what its role needs or has what it forbids, or when two pairs collide.
pub fn resolve(
    process: ProcessKeys,
    pair: PairKeys,
    file: Option<(&Path, &File)>,
) -> Result<Settings, SettingsError> {
    let (process, pairs) = match file {
        None => {
            let name = pair_name(None, &pair);
            let settings = pair_settings(name, pair, Vec::new())
                .map_err(|fault| KeySource::CommandLine.fault(fault))?;
            (process, vec![(KeySource::CommandLine, settings)])
        }
        Some((path, file)) => (
            process.or(file.process_keys()),
            pairs_of_file(&pair, path, file)?,
        ),
    };
    refuse_collisions(&pairs)?;
    let idle_sleep = match process.idle_sleep {
        None => ProcessSettings::default().idle_sleep,
        Some(us) => at_least_one(us.value()).map(|us| Duration::from_micros(us.into())),
    };
    for (place, pair) in &pairs {
        refuse_sleepers(pair, idle_sleep).map_err(|fault| place.fault(fault))?;
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Ok(Settings {
        process: ProcessSettings {
            idle_sleep,
            stall_limit: match process.stall_limit {
                None => ProcessSettings::default().stall_limit,
                Some(limit) => at_least_one(limit.value()).map(seconds),
            },
            stats_period: process
                .stats_period
                .and_then(|s| at_least_one(s.value()))
                .map(seconds),
            summary: process.summary,
            report_dir: process.report_dir,
            capture: process.capture.map(|dir| CaptureSettings {
                dir,
                limit: capture_limit(process.capture_limit),
            }),
            control: ControlSettings {
                place: process.control.unwrap_or_default(),
                group: process.control_group,
            },
            metrics: process.metrics,
        },
        pairs: pairs.into_iter().map(|(_, pair)| pair).collect(),
    })
}

fn capture_limit(given: Option<CaptureLimit>) -> u64 {
    match given.map_or(DEFAULT_CAPTURE_LIMIT_MIB, |mib| mib.value()) {
        0 => u64::MAX,
        mib => u64::from(mib) << 20,
    }
}

/// A heartbeat and its answer wait while a core at either end sleeps, and the peer must not be lost for that.
fn refuse_sleepers(pair: &PairSettings, idle_sleep: Option<Duration>) -> Result<(), PairFault> {
    let has_peer = pair.role.role() != Role::Compare;
    let longest = pair.failover.silence() / SLEEPS_IN_A_SILENCE;
    match idle_sleep {
        Some(sleep) if has_peer && sleep > longest => Err(PairFault::SleepsTooLong {
            most: longest.as_micros().try_into().unwrap_or(u64::MAX),
        }),
        _ => Ok(()),
    }
}

fn at_least_one(number: u32) -> Option<u32> {
    (number > 0).then_some(number)
}

fn pairs_of_file(
    cli: &PairKeys,
    path: &Path,
    file: &File,
) -> Result<Vec<(KeySource, PairSettings)>, SettingsError> {
    let top = file.pair_keys();
    if file.pair.is_empty() {
        let keys = cli.clone().or(top);
        let place = KeySource::File {
            path: path.to_owned(),
            pair: None,
        };
        return pair_settings(pair_name(None, &keys), keys, file.policy.clone())
            .map(|settings| vec![(place.clone(), settings)])
            .map_err(|fault| place.fault(fault));
    }
    if let (2.., Some(key)) = (file.pair.len(), cli.first_of_one_pair()) {
        return Err(SettingsError::WhichPair {
            key,
            pairs: file.pair.len(),
        });
    }
    let settings_of = |table: &super::PairTable| {
        let keys = cli.clone().or(table.pair_keys()).or(top.clone());
        let name = pair_name(table.name.as_deref(), &keys);
        let place = KeySource::File {
            path: path.to_owned(),
            pair: Some(name.clone()),
        };
        let policy = file.policy.iter().chain(&table.policy).cloned().collect();
        pair_settings(name, keys, policy)
            .map(|settings| (place.clone(), settings))
            .map_err(|fault| place.fault(fault))
    };
    file.pair.iter().map(settings_of).collect()
}

fn pair_name(given: Option<&str>, keys: &PairKeys) -> String {
    match given {
        Some(name) => name.to_owned(),
        None => format!("vm{}", keys.vm_id.map_or(0, |id| id.value())),
    }
}

fn pair_settings(
    name: String,
    keys: PairKeys,
    policy: Vec<PolicyRule>,
) -> Result<PairSettings, PairFault> {
    let printable = |c: char| c.is_ascii_graphic();
    if !(1..=64).contains(&name.len()) || !name.chars().all(printable) {
        return Err(PairFault::Name);
    }
    for (at, rule) in policy.iter().enumerate() {
        if policy[..at].iter().any(|earlier| earlier.name == rule.name) {
            return Err(PairFault::RuleTwice {
                name: rule.name.clone(),
            });
        }
    }
    let compare_timeout = keys
        .compare_timeout
        .map_or(DEFAULT_COMPARE_TIMEOUT_MS, |ms| ms.value());
    Ok(PairSettings {
        // The bound of the type keeps it below 2^16.
        vm_id: keys.vm_id.map_or(0, |id| id.value() as u16),
        compare_timeout: Duration::from_millis(compare_timeout.into()),
        // The bound of the type keeps it below 2^16.
        mtu: keys.mtu.map(|bytes| bytes.value() as u16),
        hold_frames: at_least_one_or(keys.hold_frames.map(|n| n.value()), DEFAULT_HOLD_FRAMES),
        flows: at_least_one_or(keys.flows.map(|n| n.value()), DEFAULT_FLOWS),
        failover: failover_settings(&keys)?,
        macs: keys.mac.clone().map_or_else(Vec::new, Macs::into_vec),
        migrate_listen: keys.migrate_listen,
        nbd_listen: keys.nbd_listen,
        role: role_settings(keys)?,
        name,
        policy,
    })
}

/// Refuses what could let both VMs speak, as far as one node can know, and what would never act.
fn failover_settings(keys: &PairKeys) -> Result<FailoverSettings, PairFault> {
    let settings = FailoverSettings {
        heartbeat: Duration::from_millis(
            keys.heartbeat
                .map_or(DEFAULT_HEARTBEAT_MS, |ms| ms.value())
                .into(),
        ),
        heartbeat_loss: keys
            .heartbeat_loss
            .map_or(DEFAULT_HEARTBEAT_LOSS, |n| n.value()),
        heartbeat_udp: keys.heartbeat_udp,
        peer_stall_limit: Duration::from_millis(
            keys.peer_stall_limit
                .map_or(DEFAULT_PEER_STALL_LIMIT_MS, |ms| ms.value())
                .into(),
        ),
        restart_limit: Duration::from_millis(
            keys.restart_limit
                .map_or(DEFAULT_RESTART_LIMIT_MS, |ms| ms.value())
                .into(),
        ),
        on_peer_lost: keys.on_peer_lost.clone().unwrap_or_default(),
        mode: keys.failover.unwrap_or_default(),
    };
    if settings.heartbeat_udp.is_some() && keys.link_key == Some(LinkKey::Trusted) {
        return Err(PairFault::ReportsWithoutKey);
    }
    if keys.migrate_listen.is_some() && keys.migrate_listen == keys.nbd_listen {
        return Err(PairFault::ListensTwice);
    }
    if settings.heartbeat_udp.is_none() && keys.peer_stall_limit.is_some() {
        return Err(PairFault::LimitWithoutReports);
    }
    match (keys.role, settings.mode, &settings.on_peer_lost) {
        (Some(Role::Secondary), FailoverMode::Auto, OnPeerLost::Release) => {
            Err(PairFault::SplitBrain)
        }
        (_, FailoverMode::Auto, OnPeerLost::Hold) => Err(PairFault::NeverCertain),
        _ => Ok(settings),
    }
}

fn at_least_one_or(given: Option<u32>, default: u32) -> NonZeroU32 {
    NonZeroU32::new(given.unwrap_or(default)).unwrap_or(NonZeroU32::MIN)
}

fn role_settings(mut keys: PairKeys) -> Result<RoleSettings, PairFault> {
    let role = keys.role.ok_or(PairFault::NoRole)?;
    keys.raw_secondary = keys.raw_secondary.filter(|is_raw| *is_raw);
    if let Some(key) = keys.present().find(|key| !key.is_for(role)) {
        return Err(PairFault::NotForRole {
            role,
            key: key.name,
        });
    }
    let port = |port: Option<PortName>, place: PortRole| {
        port.ok_or(PairFault::Missing {
            role,
            key: place.key(),
            value: "PORT",
        })
    };
    let link_key = PairFault::Missing {
        role,
        key: "link-key",
        value: "FILE, or none where nobody else can send frames on the link (--make-link-key FILE makes a key)",
    };
    let qmp = PairFault::Missing {
        role,
        key: "qmp",
        value: "SOCKET",
    };
    Ok(match role {
        Role::Primary => RoleSettings::Primary {
            guest: port(keys.guest, PortRole::Guest)?,
            uplink: port(keys.uplink, PortRole::Uplink)?,
            link: port(keys.link, PortRole::Link)?,
            qmp: keys.qmp.ok_or(qmp)?,
            link_key: keys.link_key.ok_or(link_key)?,
        },
        Role::Secondary => RoleSettings::Secondary {
            guest: port(keys.guest, PortRole::Guest)?,
            uplink: keys.uplink,
            link: port(keys.link, PortRole::Link)?,
            qmp: keys.qmp.ok_or(qmp)?,
            link_key: keys.link_key.ok_or(link_key)?,
        },
        Role::Compare => RoleSettings::Compare {
            primary_in: port(keys.primary_in, PortRole::PrimaryIn)?,
            secondary_in: port(keys.secondary_in, PortRole::SecondaryIn)?,
            out: port(keys.out, PortRole::Out)?,
            qmp: keys.qmp,
            raw_secondary: keys.raw_secondary.unwrap_or(false),
        },
    })
}

fn refuse_collisions(pairs: &[(KeySource, PairSettings)]) -> Result<(), SettingsError> {
    let mut ports: HashMap<&PortName, (usize, PortRole)> = HashMap::new();
    let mut monitors: HashMap<&QmpAddress, usize> = HashMap::new();
    for (at, (place, pair)) in pairs.iter().enumerate() {
        if pairs[..at]
            .iter()
            .any(|(_, earlier)| earlier.name == pair.name)
        {
            return Err(place.fault(PairFault::NameTwice));
        }
        for (key, port) in pair.ports() {
            let Some((other, other_key)) = ports.insert(port, (at, key)) else {
                continue;
            };
            let is_shared = key == other_key && matches!(key, PortRole::Link | PortRole::Uplink);
            if !is_shared {
                return Err(place.fault(PairFault::PortTwice {
                    port: port.clone(),
                    key: key.key(),
                    other_key: other_key.key(),
                    other_pair: (other != at).then(|| pairs[other].1.name.clone()),
                }));
            }
            let sharers = pairs[..at].iter().map(|(_, earlier)| earlier);
            let sharers = sharers.filter(|earlier| earlier.port(key) == Some(port));
            refuse_sharing(key, port, pair, sharers).map_err(|fault| place.fault(fault))?;
        }
        if let Some(monitor) = pair.role.qmp()
            && let Some(other) = monitors.insert(monitor, at)
        {
            return Err(place.fault(PairFault::MonitorTwice {
                monitor: monitor.clone(),
                other_pair: pairs[other].1.name.clone(),
            }));
        }
    }
    Ok(())
}

/// Refuses what pairs at one port cannot have: the port could not tell which of them a frame is for.
fn refuse_sharing<'a>(
    place: PortRole,
    port: &PortName,
    pair: &PairSettings,
    sharers: impl Iterator<Item = &'a PairSettings>,
) -> Result<(), PairFault> {
    let port = || port.clone();
    let mut number = 1;
    for other in sharers {
        let other_pair = || other.name.clone();
        number += 1;
        match place {
            PortRole::Link if other.vm_id == pair.vm_id => {
                return Err(PairFault::IdTwice {
                    port: port(),
                    other_pair: other_pair(),
                });
            }
            PortRole::Link
                if [other, pair]
                    .map(|it| it.role.link_key())
                    .contains(&Some(&LinkKey::Trusted)) =>
            {
                return Err(PairFault::SharedWithoutKey {
                    port: port(),
                    other_pair: other_pair(),
                });
            }
            PortRole::Uplink if other.mtu != pair.mtu => {
                return Err(PairFault::MtuDiffers {
                    port: port(),
                    other_pair: other_pair(),
                });
            }
            _ => {}
        }
        let twice = pair.macs.iter().find(|mac| other.macs.contains(mac));
        if let (PortRole::Uplink, Some(mac)) = (place, twice) {
            return Err(PairFault::MacTwice {
                mac: *mac,
                other_pair: other_pair(),
            });
        }
    }
    match number > MEMBERS {
        true => Err(PairFault::TooMany { port: port() }),
        false => Ok(()),
    }
}

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
    fn fault(&self, fault: PairFault) -> SettingsError {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Settings, SettingsError> {
        with_command_line(PairKeys::default(), text)
    }

    fn with_command_line(cli: PairKeys, text: &str) -> Result<Settings, SettingsError> {
        let path = Path::new("colo.toml");
        let file = File::parse(text, path).expect("a file with known keys");
        resolve(ProcessKeys::default(), cli, Some((path, &file)))
    }

    fn port(name: &str) -> PortName {
        name.parse().expect("a port name")
    }

    const TWO_PAIRS: &str = r#"
        stats-period = 5
        compare-timeout = 100
        role = "compare"
        [[policy]]
        name = "ntp"
        action = "exempt"
        protocol = "udp"
        port = 123
        [[pair]]
        name = "web"
        primary-in = "a0"
        secondary-in = "a1"
        out = "a2"
        [[pair]]
        role = "secondary"
        vm-id = 7
        guest = "b0"
        link = "b1"
        link-key = "/etc/b.key"
        qmp = "/run/b.sock"
        compare-timeout = 50
        [[pair.policy]]
        name = "backup"
        action = "exempt"
        prefix = "10.9.0.0/16"
    "#;

    #[test]
    fn a_file_has_many_pairs_with_defaults_at_the_top() {
        let settings = from_file(TWO_PAIRS).expect("two good pairs");
        assert_eq!(settings.process.stats_period, Some(Duration::from_secs(5)));
        let [web, other] = &settings.pairs[..] else {
            panic!("{} pairs", settings.pairs.len());
        };
        assert_eq!((web.name.as_str(), other.name.as_str()), ("web", "vm7"));
        assert_eq!((web.vm_id, other.vm_id), (0, 7));
        assert_eq!(web.compare_timeout, Duration::from_millis(100));
        assert_eq!(other.compare_timeout, Duration::from_millis(50));
        assert_eq!(web.hold_frames.get(), DEFAULT_HOLD_FRAMES);
        assert_eq!(web.role.role(), Role::Compare);
        let names = |pair: &PairSettings| -> Vec<String> {
            pair.policy
                .iter()
                .map(|rule| rule.name.to_string())
                .collect()
        };
        assert_eq!(names(web), ["ntp"]);
        assert_eq!(names(other), ["ntp", "backup"]);
        let places: Vec<_> = other
            .ports()
            .map(|(place, port)| (place.key(), port.as_str()))
            .collect();
        assert_eq!(places, [("guest", "b0"), ("link", "b1")]);
        let key = super::super::LinkKey::File("/etc/b.key".into());
        assert_eq!(
            (web.role.link_key(), other.role.link_key()),
            (None, Some(&key))
        );
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let cli = PairKeys {
            compare_timeout: "9".parse().ok(),
            ..PairKeys::default()
        };
        let settings = with_command_line(cli, TWO_PAIRS).expect("a tunable for all pairs");
        let overridden = Duration::from_millis(9);
        for pair in &settings.pairs {
            assert_eq!(pair.compare_timeout, overridden, "{}", pair.name);
        }

        let one = "role = 'compare'\nprimary-in = 'a0'\nsecondary-in = 'a1'\nout = 'a2'";
        let cli = PairKeys {
            out: Some(port("x2")),
            ..PairKeys::default()
        };
        let settings = with_command_line(cli.clone(), one).expect("one pair");
        assert!(
            settings.pairs[0]
                .ports()
                .any(|(_, port)| port.as_str() == "x2")
        );
        assert_eq!(settings.pairs[0].name, "vm0");

        let error = with_command_line(cli, TWO_PAIRS).expect_err("which of the two?");
        assert_eq!(
            error.to_string(),
            "--out belongs to one pair, but --config has 2; set `out` in the pair's table"
        );
    }

    /// Two primaries at one link and one uplink.
    fn sharers(first: &str, second: &str) -> String {
        let pair = |n: u8, more: &str| {
            format!("[[pair]]\nvm-id = {n}\nguest = 'g{n}'\nqmp = '/q{n}'\n{more}\n")
        };
        format!(
            "role = 'primary'\nlink = 'l'\nuplink = 'u'\nlink-key = '/k'\n{}{}",
            pair(1, first),
            pair(2, second)
        )
    }

    #[test]
    fn pairs_may_share_a_link_and_an_uplink() {
        let settings = from_file(&sharers("mac = '52:54:00:00:00:01'", "")).expect("two pairs");
        let macs = settings.pairs.iter().map(|pair| pair.macs.len());
        assert_eq!(macs.collect::<Vec<_>>(), [1, 0]);
        for (first, second, line) in [
            (
                "",
                "name = 'x'\nvm-id = 1",
                "vm-id is also the id of pair \"vm1\" at the same link port l;",
            ),
            (
                "",
                "link-key = 'none'",
                "link l is also the link of pair \"vm1\": without a key",
            ),
            (
                "link-key = 'none'",
                "",
                "link l is also the link of pair \"vm1\": without a key",
            ),
            ("mtu = 1500", "", "mtu differs from that of pair \"vm1\","),
            (
                "mac = '52:54:00:00:00:01'",
                "mac = '52:54:00:00:00:02,52:54:00:00:00:01'",
                "mac 52:54:00:00:00:01 is also an address of pair \"vm1\"",
            ),
            ("", "link = 'u'", "port u is link and also uplink;"),
            (
                "",
                "guest = 'g1'",
                "port g1 is guest and also guest of pair \"vm1\";",
            ),
        ] {
            let text = sharers(first, second).replace(
                "vm-id = 2\nguest = 'g2'",
                match second {
                    _ if second.contains("vm-id") => "guest = 'g2'",
                    _ if second.contains("guest") => "vm-id = 2",
                    _ => "vm-id = 2\nguest = 'g2'",
                },
            );
            let error = from_file(&text).expect_err(&text).to_string();
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn faults_name_the_file_the_pair_and_the_key() {
        let compare = "primary-in = 'a0'\nsecondary-in = 'a1'\nout = 'a2'";
        for (text, line) in [
            (
                "".to_owned(),
                "--config: \"colo.toml\": role is missing; set it to \"primary\", \"secondary\" or \"compare\"",
            ),
            (
                "role = 'primary'\nguest = 'g'\nuplink = 'u'\nlink = 'l'".to_owned(),
                "--config: \"colo.toml\": role primary needs qmp SOCKET",
            ),
            (
                "role = 'primary'\nguest = 'g'\nuplink = 'u'\nlink = 'l'\nqmp = '/q'".to_owned(),
                "--config: \"colo.toml\": role primary needs link-key FILE, or none where nobody else can send frames on \
                 the link (--make-link-key FILE makes a key)",
            ),
            (
                format!("[[pair]]\nname = 'w'\nrole = 'compare'\nguest = 'g'\n{compare}"),
                "--config: \"colo.toml\" pair \"w\": role compare has no use for guest; remove it",
            ),
            (
                format!("role = 'compare'\n[[pair]]\n{compare}\n[[pair]]\nvm-id = 1\n{compare}"),
                "--config: \"colo.toml\" pair \"vm1\": port a0 is primary-in and also primary-in \
                 of pair \"vm0\"; give each a port of its own",
            ),
            (
                format!(
                    "role = 'compare'\n[[pair]]\n{compare}\n[[pair]]\n{}",
                    compare.replace("'a", "'b")
                ),
                "--config: \"colo.toml\" pair \"vm0\": another pair has this name; give each its \
                 own `name` or `vm-id`",
            ),
            (
                format!(
                    "role = 'compare'\n{compare}\n{0}{0}",
                    "[[policy]]\nname = 'x'\naction = 'exempt'\nvlan = 1\n"
                ),
                "--config: \"colo.toml\": two policy rules are called x; rename one",
            ),
            (
                format!(
                    "role = 'compare'\n[[pair]]\nqmp = '/run/a.sock'\n{compare}\n[[pair]]\nvm-id = 1\n\
                     qmp = '/run//./a.sock'\n{}",
                    compare.replace("'a", "'b")
                ),
                "--config: \"colo.toml\" pair \"vm1\": qmp /run//./a.sock is also the monitor of pair \"vm0\"; \
                 give each pair the monitor of its own QEMU",
            ),
            (
                format!("role = 'compare'\n[[pair]]\nname = 'a b'\n{compare}"),
                "--config: \"colo.toml\" pair \"a b\": a pair's name has 1 to 64 printable ASCII \
                 characters without a space; change it",
            ),
        ] {
            let error = from_file(&text).expect_err(&text);
            assert_eq!(error.to_string(), line);
        }
    }
}
