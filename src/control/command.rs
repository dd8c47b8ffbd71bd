//! The commands: what a request's words mean, and what follows from them over a snapshot.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::order::{Means, Order, check};
use super::status::{PairStatus, Snapshot};
use crate::config::keys::CompareTimeout;
use crate::observability::log::Level;
use crate::protect::State;

/// How long `wait` waits by default, in seconds.
const WAIT: f64 = 60.0;
/// How long it may be made to wait.
const WAIT_MAX: f64 = 86_400.0;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// QEMU's monitor answers.
    Connected,
    /// The other node is heard.
    Peer,
    /// The pair is protected.
    Protected,
    /// This node's VM leads.
    Leads,
    /// This node's VM could go on without loss.
    Promotable,
}

impl Condition {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Peer => "peer",
            Self::Protected => "protected",
            Self::Leads => "leads",
            Self::Promotable => "promotable",
        }
    }

    fn holds(self, pair: &PairStatus) -> bool {
        match self {
            Self::Connected => pair.has_monitor(),
            Self::Peer => pair.hears_peer(),
            Self::Protected => pair.state == State::Protected,
            Self::Leads => pair.leads(),
            Self::Promotable => pair.promotable,
        }
    }
}

/// A request that is understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Show everything.
    Status {
        /// Of this pair alone.
        pair: Option<String>,
    },
    /// Show everything once something is so.
    Wait {
        /// Of this pair alone.
        pair: Option<String>,
        /// What.
        condition: Condition,
        /// For how many seconds at most.
        timeout: f64,
    },
    /// Let the control thread do something.
    Order {
        /// For this pair.
        pair: Option<String>,
        /// What.
        order: Order,
    },
    /// Change the least level of the log's lines.
    SetLogLevel(Level),
    /// Show what the node is made of.
    Facts,
    /// Show what pairs are made of.
    ShowPairs {
        /// This pair alone.
        pair: Option<String>,
    },
    /// Show the policy rules and what each has let out.
    ListPolicy {
        /// Of this pair alone.
        pair: Option<String>,
    },
    /// Record what a pair's ports see, or end that.
    Capture {
        /// For this pair.
        pair: Option<String>,
        /// Which.
        order: Capture,
    },
    /// Count from now on, in `status`.
    ResetStats {
        /// This pair alone.
        pair: Option<String>,
    },
    /// Show what checkpoints cost, and why there are any.
    Why {
        /// Of this pair alone.
        pair: Option<String>,
        /// Of those that ended within this time; without it of all.
        since: Option<Duration>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfPair {
    pair: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfWait {
    pair: Option<String>,
    r#for: Condition,
    timeout: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfFailover {
    pair: Option<String>,
    #[serde(default)]
    fenced: bool,
    #[serde(default)]
    never_led: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfWhy {
    pair: Option<String>,
    since: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    On,
    Off,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfMaintenance {
    pair: Option<String>,
    mode: Mode,
}

/// What is ordered of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capture {
    /// Begin.
    Start {
        /// The file's name, in the node's directory for it.
        file: Option<String>,
        /// Its bound.
        limit_mib: u64,
    },
    /// End.
    Stop,
}

/// A capture's bound where nobody says it, in MiB.
const CAPTURE: u64 = 64;
/// The largest one.
const CAPTURE_MAX: u64 = 65_536;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfCapture {
    pair: Option<String>,
    file: Option<String>,
    limit_mib: Option<u64>,
}

fn capture(of: OfCapture) -> Result<Command, Fault> {
    let refused = |reason: String| Fault::Arguments {
        command: "capture-start",
        reason,
    };
    let limit_mib = of.limit_mib.unwrap_or(CAPTURE);
    if !(1..=CAPTURE_MAX).contains(&limit_mib) {
        return Err(refused(format!(
            "limit_mib is {limit_mib}; give MiB from 1 to {CAPTURE_MAX}"
        )));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if let Some(file) = &of.file
        && (file.starts_with(['.', '-'])
            || file.starts_with("divergence-")
            || !file.ends_with(".pcapng")
            || file.len() > 100
            || !file.bytes().all(plain))
    {
        return Err(refused(format!(
            "{file:?} is no name for a capture; give up to 100 letters, digits, \".\", \"_\" and \"-\" with \
             \".pcapng\" behind them: the node makes it in its --report-dir, or in EAL's runtime directory"
        )));
    }
    let order = Capture::Start {
        file: of.file,
        limit_mib,
    };
    Ok(Command::Capture {
        pair: of.pair,
        order,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfSet {
    pair: Option<String>,
    name: String,
    value: Value,
}

/// The arguments of a command.
fn read<T: DeserializeOwned>(
    command: &'static str,
    arguments: Map<String, Value>,
) -> Result<T, Fault> {
    serde_json::from_value(Value::Object(arguments)).map_err(|error| Fault::Arguments {
        command,
        reason: error.to_string(),
    })
}

impl Command {
    /// What a request's words mean.
    ///
    /// # Errors
    /// For a command that there is not, and arguments that it does not take.
    pub fn read(name: &str, arguments: Map<String, Value>) -> Result<Self, Fault> {
        let order = |pair, order| Self::Order { pair, order };
        Ok(match name {
            "status" => {
                let OfPair { pair } = read("status", arguments)?;
                Self::Status { pair }
            }
            "wait" => {
                let of: OfWait = read("wait", arguments)?;
                let timeout = of.timeout.unwrap_or(WAIT);
                if !(0.0..=WAIT_MAX).contains(&timeout) {
                    return Err(Fault::Arguments {
                        command: "wait",
                        reason: format!("timeout is {timeout}; give seconds from 0 to {WAIT_MAX}"),
                    });
                }
                Self::Wait {
                    pair: of.pair,
                    condition: of.r#for,
                    timeout,
                }
            }
            "checkpoint" => {
                let OfPair { pair } = read("checkpoint", arguments)?;
                order(pair, Order::Checkpoint)
            }
            "protect" => {
                let OfPair { pair } = read("protect", arguments)?;
                order(pair, Order::Protect)
            }
            "switchover" => {
                let OfPair { pair } = read("switchover", arguments)?;
                order(pair, Order::Switchover)
            }
            "failover" => {
                let OfFailover {
                    pair,
                    fenced,
                    never_led,
                } = read("failover", arguments)?;
                order(pair, Order::Failover { fenced, never_led })
            }
            "maintenance" => {
                let OfMaintenance { pair, mode } = read("maintenance", arguments)?;
                match mode {
                    Mode::On => order(pair, Order::Announce),
                    Mode::Off => return Err(Fault::NoWithdrawal),
                }
            }
            "set" => setting(read("set", arguments)?)?,
            "facts" => {
                let Nothing {} = read("facts", arguments)?;
                Self::Facts
            }
            "pair-show" => {
                let OfPair { pair } = read("pair-show", arguments)?;
                Self::ShowPairs { pair }
            }
            "policy-list" => {
                let OfPair { pair } = read("policy-list", arguments)?;
                Self::ListPolicy { pair }
            }
            "capture-start" => capture(read("capture-start", arguments)?)?,
            "capture-stop" => {
                let OfPair { pair } = read("capture-stop", arguments)?;
                let order = Capture::Stop;
                Self::Capture { pair, order }
            }
            "stats-reset" => {
                let OfPair { pair } = read("stats-reset", arguments)?;
                Self::ResetStats { pair }
            }
            "examine" => {
                let OfPair { pair } = read("examine", arguments)?;
                order(pair, Order::Examine)
            }
            "why" => {
                let OfWhy { pair, since } = read("why", arguments)?;
                let since = since.map(interval).transpose()?;
                Self::Why { pair, since }
            }
            other => return Err(Fault::UnknownCommand(other.to_owned())),
        })
    }
}

/// The interval of an account.
fn interval(seconds: f64) -> Result<Duration, Fault> {
    let since = Duration::try_from_secs_f64(seconds).ok();
    since
        .filter(|since| !since.is_zero())
        .ok_or_else(|| Fault::Arguments {
            command: "why",
            reason: format!("since is {seconds}; give seconds, more than 0"),
        })
}

fn setting(OfSet { pair, name, value }: OfSet) -> Result<Command, Fault> {
    if name == "log-level" && pair.is_some() {
        return Err(Fault::Arguments {
            command: "set",
            reason: "log-level is the process's, not a pair's".to_owned(),
        });
    }
    if name == "compare-timeout" {
        let timeout = match &value {
            Value::String(text) => text.parse().ok(),
            value => value
                .as_i64()
                .and_then(|ms| CompareTimeout::try_from(ms).ok()),
        };
        let timeout = timeout.ok_or_else(|| Fault::Arguments {
            command: "set",
            reason: format!("compare-timeout is {value}; give milliseconds from 1 to 3600000"),
        })?;
        let timeout = Duration::from_millis(CompareTimeout::value(timeout).into());
        return Ok(Command::Order {
            pair,
            order: Order::SetTimeout(timeout),
        });
    }
    if name == "log-level" {
        let level = value.as_str().and_then(Level::of_word);
        return level
            .map(Command::SetLogLevel)
            .ok_or_else(|| Fault::Arguments {
                command: "set",
                reason: format!("log-level is {value}; give \"info\", \"warning\" or \"error\""),
            });
    }
    let why = match name.as_str() {
        "policy" => {
            "each core that compares has its own copy, and a frame is judged by one value only"
        }
        "hold-frames" | "flows" | "mac" | "mtu" | "idle-sleep" => {
            "memory and cores are shared out at the start (rule R10)"
        }
        "heartbeat" | "heartbeat-loss" | "heartbeat-udp" | "peer-stall-limit" | "restart-limit"
        | "on-peer-lost" | "failover" => {
            "both nodes rely on what was configured when their session began"
        }
        "role" | "guest" | "uplink" | "link" | "link-key" | "qmp" | "vm-id" | "primary-in"
        | "secondary-in" | "out" | "raw-secondary" | "control" | "control-group" | "metrics"
        | "migrate-listen" | "nbd-listen" => "ports, keys and sockets are opened at the start only",
        "checkpoint-share" | "stats-period" | "summary" | "report-dir" | "capture"
        | "capture-limit" | "stall-limit" | "config" => "it is read at the start only",
        _ => return Err(Fault::UnknownParameter(name)),
    };
    Err(Fault::Fixed { name, why })
}

/// What follows from a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// This is the reply.
    Reply(Value),
    /// The reply comes later.
    Wait(Waiting),
    /// The control thread has this to do for the pairs of these numbers.
    Order {
        /// By their place in the snapshot, with their names.
        pairs: Vec<(usize, String)>,
        /// What.
        order: Order,
    },
    /// What the node is made of is the reply.
    Facts,
    /// The thread that writes captures has this to do for the pair of this number.
    Capture {
        /// By its place in the snapshot.
        pair: usize,
        /// Its name.
        name: String,
        /// What.
        order: Capture,
    },
    /// What these pairs are made of is the reply.
    Pairs(Vec<(usize, String)>),
    /// The policy of these pairs is the reply.
    Policy(Vec<(usize, String)>),
    /// `status` counts for these pairs from now on; then comes the reply.
    ResetStats(Vec<(usize, String)>, Value),
    /// The accounts of the checkpoints of the pairs of these numbers are the reply.
    Why {
        /// By their place in the snapshot, with their names.
        pairs: Vec<(usize, String)>,
        /// Of those that ended within this time; without it of all.
        since: Option<Duration>,
    },
    /// The log's level is to be this; then comes the reply.
    SetLogLevel(Level, Value),
}

/// Begins to carry out a command.
///
/// # Errors
/// For a pair that there is not, and for an order that has to name one.
pub fn begin(command: Command, snapshot: &Snapshot) -> Result<Step, Fault> {
    Ok(match command {
        Command::Status { pair } => {
            named(pair.as_deref(), snapshot)?;
            Step::Reply(show(pair.as_deref(), snapshot))
        }
        Command::Wait {
            pair,
            condition,
            timeout,
        } => {
            named(pair.as_deref(), snapshot)?;
            Step::Wait(Waiting {
                pair,
                condition,
                timeout,
            })
        }
        Command::Order { pair, order } => {
            let pairs = named(pair.as_deref(), snapshot)?;
            if order == Order::Announce {
                // All pairs or none: the process that restarts is one.
                for (number, _) in &pairs {
                    check(order, &snapshot.pairs[*number], Means::Nothing)?;
                }
            }
            let alone = match order {
                Order::Checkpoint => Some("checkpoint"),
                Order::Failover { .. } => Some("failover"),
                Order::Examine => Some("examine"),
                Order::Switchover => Some("switchover"),
                Order::Protect => Some("protect"),
                Order::Announce | Order::SetTimeout(_) => None,
            };
            if pairs.len() > 1
                && let Some(command) = alone
            {
                return Err(Fault::WhichPair {
                    command,
                    known: known(snapshot),
                });
            }
            Step::Order { pairs, order }
        }
        Command::Facts => Step::Facts,
        Command::ShowPairs { pair } => Step::Pairs(named(pair.as_deref(), snapshot)?),
        Command::ListPolicy { pair } => Step::Policy(named(pair.as_deref(), snapshot)?),
        Command::Capture { pair, order } => {
            let mut pairs = named(pair.as_deref(), snapshot)?;
            match (pairs.pop(), pairs.is_empty()) {
                (Some((pair, name)), true) => Step::Capture { pair, name, order },
                _ => {
                    return Err(Fault::WhichPair {
                        command: match order {
                            Capture::Start { .. } => "capture-start",
                            Capture::Stop => "capture-stop",
                        },
                        known: known(snapshot),
                    });
                }
            }
        }
        Command::ResetStats { pair } => {
            let pairs = named(pair.as_deref(), snapshot)?;
            let counted = pairs
                .iter()
                .map(|(number, name)| (name.clone(), json!(snapshot.pairs[*number].counted())));
            let reply = json!({ "pairs": counted.collect::<Map<_, _>>() });
            Step::ResetStats(pairs, reply)
        }
        Command::Why { pair, since } => Step::Why {
            pairs: named(pair.as_deref(), snapshot)?,
            since,
        },
        Command::SetLogLevel(level) => {
            let reply = json!({ "name": "log-level", "value": level.word() });
            Step::SetLogLevel(level, reply)
        }
    })
}

/// A reply that comes once something is so.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pair: Option<String>,
    condition: Condition,
    /// Seconds that it waits at most.
    pub timeout: f64,
}

impl Waiting {
    /// The reply, if it is so now.
    pub fn look(&self, snapshot: &Snapshot) -> Option<Value> {
        let pairs = &snapshot.pairs;
        let mut pairs = pairs.iter().filter(|pair| self.concerns(pair));
        pairs
            .all(|pair| self.condition.holds(pair))
            .then(|| show(self.pair.as_deref(), snapshot))
    }

    /// The reply when the time is over.
    pub fn late(&self, snapshot: &Snapshot) -> Fault {
        let pairs = snapshot.pairs.iter();
        let left = pairs.filter(|pair| self.concerns(pair) && !self.condition.holds(pair));
        let left: Vec<String> = left
            .map(|pair| format!("pair {} is {}: {}", pair.name, pair.state.word(), pair.why))
            .collect();
        Fault::Timeout {
            what: format!("{:?}", self.condition.word()),
            seconds: self.timeout,
            now: left.join("; "),
        }
    }

    fn concerns(&self, pair: &PairStatus) -> bool {
        self.pair.as_ref().is_none_or(|name| *name == pair.name)
    }
}

fn known(snapshot: &Snapshot) -> String {
    let names: Vec<&str> = snapshot.pairs.iter().map(|pair| &*pair.name).collect();
    names.join(", ")
}

/// The pairs that a name stands for: one, or all without a name.
fn named(name: Option<&str>, snapshot: &Snapshot) -> Result<Vec<(usize, String)>, Fault> {
    let all = snapshot.pairs.iter().enumerate();
    let meant: Vec<_> = all
        .filter(|(_, pair)| name.is_none_or(|name| pair.name == name))
        .map(|(number, pair)| (number, pair.name.clone()))
        .collect();
    match (meant.is_empty(), name) {
        (true, Some(name)) => Err(Fault::NoSuchPair {
            name: name.to_owned(),
            known: known(snapshot),
        }),
        _ => Ok(meant),
    }
}

/// The snapshot, or what of it concerns one pair.
fn show(pair: Option<&str>, snapshot: &Snapshot) -> Value {
    let pairs: Vec<&PairStatus> = snapshot
        .pairs
        .iter()
        .filter(|shown| pair.is_none_or(|name| shown.name == name))
        .collect();
    json!({ "node": &snapshot.node, "pairs": pairs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;
    use crate::control::fault::Class;
    use crate::control::status::{node, protected};

    fn command(name: &str, arguments: Value) -> Result<Command, Fault> {
        let Value::Object(arguments) = arguments else {
            panic!("an object")
        };
        Command::read(name, arguments)
    }

    fn two() -> Snapshot {
        node(vec![
            protected("a", Role::Primary),
            protected("b", Role::Secondary),
        ])
    }

    #[test]
    fn words_become_commands() {
        let pair = || Some("a".to_owned());
        for (name, arguments, expected) in [
            ("status", json!({}), Command::Status { pair: None }),
            (
                "status",
                json!({"pair": "a"}),
                Command::Status { pair: pair() },
            ),
            (
                "wait",
                json!({"for": "protected", "timeout": 2}),
                Command::Wait {
                    pair: None,
                    condition: Condition::Protected,
                    timeout: 2.0,
                },
            ),
            (
                "checkpoint",
                json!({"pair": "a"}),
                Command::Order {
                    pair: pair(),
                    order: Order::Checkpoint,
                },
            ),
            (
                "protect",
                json!({}),
                Command::Order {
                    pair: None,
                    order: Order::Protect,
                },
            ),
            (
                "failover",
                json!({"fenced": true}),
                Command::Order {
                    pair: None,
                    order: Order::Failover {
                        fenced: true,
                        never_led: false,
                    },
                },
            ),
            (
                "failover",
                json!({"fenced": true, "never_led": true}),
                Command::Order {
                    pair: None,
                    order: Order::Failover {
                        fenced: true,
                        never_led: true,
                    },
                },
            ),
            (
                "maintenance",
                json!({"mode": "on"}),
                Command::Order {
                    pair: None,
                    order: Order::Announce,
                },
            ),
            (
                "set",
                json!({"name": "log-level", "value": "error"}),
                Command::SetLogLevel(Level::Error),
            ),
            (
                "set",
                json!({"name": "compare-timeout", "value": "5", "pair": "a"}),
                Command::Order {
                    pair: pair(),
                    order: Order::SetTimeout(Duration::from_millis(5)),
                },
            ),
            (
                "set",
                json!({"name": "compare-timeout", "value": 70}),
                Command::Order {
                    pair: None,
                    order: Order::SetTimeout(Duration::from_millis(70)),
                },
            ),
            ("facts", json!({}), Command::Facts),
            ("pair-show", json!({}), Command::ShowPairs { pair: None }),
            (
                "policy-list",
                json!({"pair": "a"}),
                Command::ListPolicy { pair: pair() },
            ),
            (
                "capture-start",
                json!({"file": "a.pcapng", "limit_mib": 5}),
                Command::Capture {
                    pair: None,
                    order: Capture::Start {
                        file: Some("a.pcapng".to_owned()),
                        limit_mib: 5,
                    },
                },
            ),
            (
                "capture-stop",
                json!({"pair": "a"}),
                Command::Capture {
                    pair: pair(),
                    order: Capture::Stop,
                },
            ),
            ("stats-reset", json!({}), Command::ResetStats { pair: None }),
            (
                "why",
                json!({"pair": "a", "since": 90.5}),
                Command::Why {
                    pair: pair(),
                    since: Some(Duration::from_millis(90_500)),
                },
            ),
            (
                "examine",
                json!({"pair": "a"}),
                Command::Order {
                    pair: pair(),
                    order: Order::Examine,
                },
            ),
        ] {
            assert_eq!(command(name, arguments), Ok(expected), "{name}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_class() {
        for (name, arguments, class, says) in [
            (
                "reboot",
                json!({}),
                Class::Unknown,
                "the commands are: status",
            ),
            (
                "status",
                json!({"pear": "a"}),
                Class::Invalid,
                "unknown field `pear`",
            ),
            (
                "status",
                json!({"pair": 7}),
                Class::Invalid,
                "expected a string",
            ),
            ("wait", json!({}), Class::Invalid, "missing field `for`"),
            ("why", json!({"since": -1}), Class::Invalid, "more than 0"),
            ("why", json!({"since": 0}), Class::Invalid, "more than 0"),
            (
                "capture-start",
                json!({"limit_mib": 0}),
                Class::Invalid,
                "from 1 to 65536",
            ),
            (
                "capture-stop",
                json!({"file": "x.pcapng"}),
                Class::Invalid,
                "unknown field `file`",
            ),
            (
                "stats-reset",
                json!({"counter": "all"}),
                Class::Invalid,
                "unknown field `counter`",
            ),
            (
                "wait",
                json!({"for": "luck"}),
                Class::Invalid,
                "`protected`",
            ),
            (
                "wait",
                json!({"for": "peer", "timeout": -1}),
                Class::Invalid,
                "from 0 to 86400",
            ),
            (
                "failover",
                json!({"fenced": "yes"}),
                Class::Invalid,
                "expected a boolean",
            ),
            (
                "maintenance",
                json!({"mode": "off"}),
                Class::Refused,
                "--restart-limit",
            ),
            (
                "set",
                json!({"name": "log-level", "value": "loud"}),
                Class::Invalid,
                "\"warning\"",
            ),
            (
                "set",
                json!({"name": "flows", "value": 5}),
                Class::Refused,
                "restart the node",
            ),
            (
                "set",
                json!({"name": "compare-timeout", "value": 0}),
                Class::Invalid,
                "from 1 to 3600000",
            ),
            (
                "set",
                json!({"name": "compare-timeout", "value": "soon"}),
                Class::Invalid,
                "from 1 to 3600000",
            ),
            (
                "set",
                json!({"name": "log-level", "value": "error", "pair": "a"}),
                Class::Invalid,
                "the process's",
            ),
            (
                "set",
                json!({"name": "colour", "value": 5}),
                Class::Unknown,
                "colour",
            ),
        ] {
            let fault = command(name, arguments).expect_err(name);
            assert_eq!(fault.class(), class, "{fault}");
            assert!(fault.to_string().contains(says), "{fault}");
        }
    }

    #[test]
    fn every_option_of_the_program_can_be_asked_for() {
        for line in crate::cli::USAGE.lines() {
            let Some(name) = line.strip_prefix("  --") else {
                continue;
            };
            let name = name.split([' ', '|']).next().unwrap_or_default();
            if matches!(
                name,
                "make-link-key" | "check" | "help" | "version" | "compare-timeout"
            ) {
                continue;
            }
            let fault = command("set", json!({"name": name, "value": 1})).expect_err(name);
            assert_eq!(fault.class(), Class::Refused, "{fault}");
        }
    }

    #[test]
    fn orders_name_a_pair_where_there_are_several() {
        let read = |name, arguments| command(name, arguments).expect(name);
        let snapshot = two();
        let fault = begin(read("checkpoint", json!({})), &snapshot).expect_err("which?");
        assert!(fault.to_string().ends_with("name one of: a, b"), "{fault}");
        let step = begin(read("checkpoint", json!({"pair": "b"})), &snapshot);
        let pairs = vec![(1, "b".to_owned())];
        let order = Order::Checkpoint;
        assert_eq!(step, Ok(Step::Order { pairs, order }));
        let step = begin(read("maintenance", json!({"mode": "on"})), &snapshot);
        assert!(matches!(step, Ok(Step::Order { pairs, .. }) if pairs.len() == 2));
        let fault = begin(read("status", json!({"pair": "c"})), &snapshot).expect_err("no c");
        assert_eq!(fault.class(), Class::Unknown);
    }

    #[test]
    fn a_status_has_the_words_of_the_documents() {
        let step = begin(
            Command::Status {
                pair: Some("b".to_owned()),
            },
            &two(),
        );
        let Ok(Step::Reply(reply)) = step else {
            panic!("{step:?}")
        };
        let [pair] = reply["pairs"].as_array().expect("pairs").as_slice() else {
            panic!("{reply}")
        };
        assert_eq!(
            (&pair["name"], &pair["role"], &pair["state"], &pair["epoch"]),
            (
                &json!("b"),
                &json!("secondary"),
                &json!("protected"),
                &json!(3)
            )
        );
        assert_eq!(reply["node"]["pid"], 1);
        assert_eq!(pair["parameters"]["compare_timeout_ms"], 3000);
    }

    #[test]
    fn a_capture_has_a_plain_name_and_one_pair() {
        for name in [
            "",
            "x",
            "../x.pcapng",
            "/etc/x.pcapng",
            ".x.pcapng",
            "divergence-1-1.x.pcapng",
            "-x.pcapng",
            "a b.pcapng",
            "x.pcap",
        ] {
            let fault = command("capture-start", json!({"file": name})).expect_err(name);
            assert_eq!(fault.class(), Class::Invalid);
            assert!(
                fault.to_string().contains("no name for a capture"),
                "{fault}"
            );
        }
        let start = |pair: Option<&str>| {
            let order = command("capture-start", json!({"pair": pair})).expect("an order");
            begin(order, &two())
        };
        let fault = start(None).expect_err("which?");
        assert!(fault.to_string().ends_with("name one of: a, b"), "{fault}");
        let (pair, name) = (1, "b".to_owned());
        let order = Capture::Start {
            file: None,
            limit_mib: 64,
        };
        assert_eq!(start(Some("b")), Ok(Step::Capture { pair, name, order }));
        start(Some("c")).expect_err("no c");
    }

    #[test]
    fn a_reset_says_what_was_counted_and_concerns_the_pairs_that_it_names() {
        let snapshot = two();
        let reset = |pair: Option<&str>| {
            let pair = pair.map(str::to_owned);
            begin(Command::ResetStats { pair }, &snapshot)
        };
        let counted = json!({"requested": 1, "committed": 3, "losses": 0});
        assert_eq!(
            reset(Some("b")),
            Ok(Step::ResetStats(
                vec![(1, "b".to_owned())],
                json!({"pairs": {"b": counted}})
            ))
        );
        assert!(matches!(reset(None), Ok(Step::ResetStats(pairs, _)) if pairs.len() == 2));
        let fault = reset(Some("c")).expect_err("no c");
        assert_eq!(fault.class(), Class::Unknown);
    }

    #[test]
    fn a_wait_ends_when_all_pairs_are_so() {
        let wait = |pair: Option<&str>, condition| Waiting {
            pair: pair.map(str::to_owned),
            condition,
            timeout: 1.0,
        };
        let mut snapshot = two();
        for condition in [Condition::Connected, Condition::Peer, Condition::Protected] {
            assert!(
                wait(None, condition).look(&snapshot).is_some(),
                "{condition:?}"
            );
        }
        assert!(wait(None, Condition::Leads).look(&snapshot).is_none());
        assert!(wait(Some("a"), Condition::Leads).look(&snapshot).is_some());
        snapshot.pairs[1].state = State::PeerLost;
        snapshot.pairs[1].why = "silence".to_owned();
        let protected = wait(None, Condition::Protected);
        assert!(protected.look(&snapshot).is_none());
        assert!(
            wait(Some("a"), Condition::Protected)
                .look(&snapshot)
                .is_some()
        );
        assert_eq!(
            protected.late(&snapshot).to_string(),
            "\"protected\" did not come about within 1 s: pair b is peer_lost: silence"
        );
    }
}
