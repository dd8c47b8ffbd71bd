//! The same figures as text for a scraper: OpenMetrics 1.0.0, or Prometheus' older text format 0.0.4.
//!
//! Only the text is made here; who serves it is no concern of this module. [`families`] is the one table of metric
//! families. Most of its rows come from the list of counters ([`super::counters`]) by their groups; the others name a
//! figure of the tree.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use super::counters::{Counter, Group, Shape};
use super::latency::{BOUNDS, Buckets};
use super::summary::{MonitorState, PairSummary, PortSummary, WorkerSummary};
use crate::protect::State;

/// A format of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, for clients that do not ask for OpenMetrics.
    Prometheus,
}

impl Format {
    /// The best format that a client accepts, by its header `Accept`.
    pub fn accepted(accept: &str) -> Self {
        let mut media = accept.split(',');
        let wanted = media.any(|media| {
            let mut parts = media.split(';').map(str::trim);
            let is_open = parts
                .next()
                .is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            let parameters = || parts.clone().filter_map(|part| part.split_once('='));
            let is_version = |(key, value): (&str, &str)| key != "version" || value == "1.0.0";
            let is_refused = |(key, value): (&str, &str)| {
                key == "q" && value.parse::<f64>().is_ok_and(|q| q <= 0.0)
            };
            is_open && parameters().all(is_version) && !parameters().any(is_refused)
        });
        match wanted {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    /// The media type of the text.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows until the node ends.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// 1 for one state, 0 for the others; the label of the state has the family's name.
    StateSet,
    /// Always 1; its labels tell.
    Info,
    /// Values not greater than bounds, their number and their sum.
    Histogram,
}

impl Kind {
    /// Its name, and what its samples' names end with.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Counter => ("counter", "_total"),
            Self::Gauge => ("gauge", ""),
            Self::StateSet => ("stateset", ""),
            Self::Info => ("info", "_info"),
            Self::Histogram => ("histogram", ""),
        }
    }
}

/// A metric family.
pub struct Family {
    /// Its name, without what its samples' names end with.
    pub name: Cow<'static, str>,
    /// What it is.
    pub kind: Kind,
    /// The unit, which the name ends with; empty where the name says what is counted.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Labels of its samples, `pair` aside.
    pub labels: &'static [&'static str],
    read: Read,
}

impl Family {
    /// What the names of its samples begin with, which is the whole name but of a histogram's.
    pub fn sample_name(&self) -> String {
        format!("{}{}", self.name, self.kind.words().1)
    }

    /// The values of its label that are always there, with a sentence for each.
    pub fn values(&self) -> Vec<(&'static str, &'static str)> {
        let (Read::Group(group) | Read::Map(group, _)) = self.read else {
            return Vec::new();
        };
        let members = Counter::ALL.iter().filter(|it| it.group() == group);
        members.map(|it| (it.name(), it.help())).collect()
    }

    /// The word for its kind.
    pub fn kind_word(&self) -> &'static str {
        self.kind.words().0
    }
}

/// How the samples of a family are read from a pair.
#[derive(Clone, Copy)]
enum Read {
    /// A counter, in units of which this many make one of the family's.
    Counter(Counter, u64),
    /// All counters of a group, by name.
    Group(Group),
    /// One of the maps of the tree, in which are the counters of this group and perhaps others.
    Map(Group, fn(&PairSummary) -> &BTreeMap<String, u64>),
    /// A counter of each core.
    Core(Counter),
    /// Anything else.
    Samples(fn(&PairSummary) -> Vec<Sample>),
    /// One of the distributions.
    Buckets(usize),
}

/// The values of a family's labels, and a number.
type Sample = (Vec<String>, Number);

#[derive(Clone, Copy)]
enum Number {
    Whole(u64),
    Real(f64),
}

impl Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Real(number) => number.fmt(f),
        }
    }
}

fn seconds(ns: u64) -> Number {
    Number::Real(ns as f64 / 1e9)
}

fn one(number: Number) -> Vec<Sample> {
    vec![(Vec::new(), number)]
}

fn of_rules(counts: &BTreeMap<String, u64>) -> Vec<Sample> {
    let sample = |(rule, n): (&String, &u64)| (vec![rule.clone()], Number::Whole(*n));
    counts.iter().map(sample).collect()
}

/// 1 for the name of the state, and 0 for the others.
fn states(
    words: impl IntoIterator<Item = &'static str>,
    current: impl Fn(&str) -> bool,
) -> Vec<Sample> {
    let sample = |word: &'static str| {
        let is_current = Number::Whole(current(word).into());
        (vec![word.to_owned()], is_current)
    };
    words.into_iter().map(sample).collect()
}

/// The groups of counters that make one family each, and how its samples are read.
const GROUPS: &[(&str, &str, &str, &str, Read)] = &[
    (
        "colo_path_frames",
        "frames",
        "path",
        "Frames of the PVM by the path of the comparator that took them in.",
        Read::Group(Group::Path),
    ),
    (
        "colo_divergences",
        "",
        "reason",
        "Divergences and other reasons to ask for a checkpoint.",
        Read::Group(Group::Divergence),
    ),
    (
        "colo_policy_frames",
        "frames",
        "rule",
        "Frames that left uncompared, by rule.",
        Read::Map(Group::Policy, |p| &p.policy),
    ),
    (
        "colo_input_frames",
        "frames",
        "event",
        "The PVM's input on its way to the SVM.",
        Read::Map(Group::Input, |p| &p.input),
    ),
    (
        "colo_link_events",
        "",
        "event",
        "Frames of the link that were lost, sent again or dropped, and sessions.",
        Read::Map(Group::Link, |p| &p.link),
    ),
    (
        "colo_link_sent_bytes",
        "bytes",
        "kind",
        "Bytes for the other node, by what their frame is, without seals and fragments' headers.",
        Read::Map(Group::LinkSent, |p| &p.link_sent_bytes),
    ),
    (
        "colo_link_received_bytes",
        "bytes",
        "kind",
        "Bytes of the other node, by what their frame is, without seals and fragments' headers.",
        Read::Map(Group::LinkReceived, |p| &p.link_received_bytes),
    ),
    (
        "colo_faults",
        "",
        "fault",
        "Bad input and exhausted bounds.",
        Read::Group(Group::Fault),
    ),
];

/// A row of [`FIGURES`]: name, kind, unit, labels, help, samples.
type Figure = (
    &'static str,
    Kind,
    &'static str,
    &'static [&'static str],
    &'static str,
    fn(&PairSummary) -> Vec<Sample>,
);

/// The families that do not come from the list of counters.
const FIGURES: &[Figure] = &[
    (
        "colo_masked_bytes",
        Kind::Counter,
        "bytes",
        &["rule"],
        "Bytes that differed between the VMs and left, by mask rule.",
        |p| of_rules(&p.masked_bytes),
    ),
    (
        "colo_mask_dry_run",
        Kind::Counter,
        "",
        &["rule"],
        "Differences that a mask rule with dry-run would have masked whole.",
        |p| of_rules(&p.mask_dry_run),
    ),
    (
        "colo_pair",
        Kind::Info,
        "",
        &["role", "version"],
        "The role of this node, and the release of its program.",
        |p| {
            vec![(
                vec![p.role.to_owned(), env!("CARGO_PKG_VERSION").to_owned()],
                Number::Whole(1),
            )]
        },
    ),
    (
        "colo_state",
        Kind::StateSet,
        "",
        &["colo_state"],
        "1 for the state that the node is in.",
        |p| states(State::ALL.map(State::word), |word| word == p.state),
    ),
    (
        "colo_uptime_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "Time since the node began.",
        |p| one(Number::Real(p.seconds)),
    ),
    (
        "colo_port_rx_frames",
        Kind::Counter,
        "frames",
        &["port", "place"],
        "Frames taken from a port.",
        |p| ports(p, |port| port.rx),
    ),
    (
        "colo_port_tx_frames",
        Kind::Counter,
        "frames",
        &["port", "place"],
        "Frames given to a port.",
        |p| ports(p, |port| port.tx),
    ),
    (
        "colo_port_dropped_frames",
        Kind::Counter,
        "frames",
        &["port", "place"],
        "Frames that a port did not take.",
        |p| ports(p, |port| port.dropped),
    ),
    (
        "colo_vm_stops",
        Kind::Counter,
        "",
        &["reason"],
        "Stops of the VM that have ended, by what asked for them; qemu: nothing of this node did, begin: it has entered COLO.",
        |p| {
            p.checkpoints
                .reasons
                .iter()
                .map(|(reason, it)| (vec![(*reason).to_owned()], Number::Whole(it.stops)))
                .collect()
        },
    ),
    (
        "colo_vm_stopped_seconds",
        Kind::Counter,
        "seconds",
        &["reason"],
        "Time from STOP to RESUME, by what asked for the stop.",
        |p| {
            p.checkpoints
                .reasons
                .iter()
                .map(|(reason, it)| (vec![(*reason).to_owned()], seconds(it.pause_ns)))
                .collect()
        },
    ),
    (
        "colo_monitor",
        Kind::StateSet,
        "",
        &["colo_monitor"],
        "1 for what the QEMU of the VM is to this node.",
        |p| {
            p.monitor
                .iter()
                .flat_map(|it| {
                    states(MonitorState::ALL.map(MonitorState::word), |word| {
                        word == it.state.word()
                    })
                })
                .collect()
        },
    ),
    (
        "colo_monitor_unresponsive",
        Kind::Counter,
        "",
        &[],
        "Times that QEMU owed something for a second or longer.",
        |p| {
            p.monitor
                .iter()
                .flat_map(|it| one(Number::Whole(it.unresponsive)))
                .collect()
        },
    ),
    (
        "colo_monitor_wait_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "How long QEMU has owed something that it owes for a second or longer.",
        |p| {
            p.monitor
                .iter()
                .flat_map(|it| one(Number::Real(it.waits_ms as f64 / 1e3)))
                .collect()
        },
    ),
    (
        "colo_monitor_longest_wait_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "The longest of the times that QEMU owed something for a second or longer.",
        |p| {
            p.monitor
                .iter()
                .flat_map(|it| one(Number::Real(it.longest_ms as f64 / 1e3)))
                .collect()
        },
    ),
    (
        "colo_records",
        Kind::Counter,
        "",
        &["outcome"],
        "Divergence records by what became of them.",
        |p| {
            p.records
                .iter()
                .flat_map(|it| {
                    [
                        ("written", it.written),
                        ("over_limit", it.over_limit),
                        ("failed", it.failed),
                    ]
                })
                .map(|(outcome, n)| (vec![outcome.to_owned()], Number::Whole(n)))
                .collect()
        },
    ),
    (
        "colo_mempool_size_buffers",
        Kind::Gauge,
        "buffers",
        &["mempool"],
        "Buffers of a mempool.",
        |p| {
            p.mempools
                .iter()
                .map(|(name, it)| (vec![name.clone()], Number::Whole(it.size)))
                .collect()
        },
    ),
    (
        "colo_mempool_used_buffers",
        Kind::Gauge,
        "buffers",
        &["mempool"],
        "Buffers of a mempool that are not free.",
        |p| {
            p.mempools
                .iter()
                .map(|(name, it)| (vec![name.clone()], Number::Whole(it.in_use)))
                .collect()
        },
    ),
];

fn ports(pair: &PairSummary, count: fn(&PortSummary) -> u64) -> Vec<Sample> {
    let sample = |(name, port): (&String, &PortSummary)| {
        let labels = vec![name.clone(), port.place.key().to_owned()];
        (labels, Number::Whole(count(port)))
    };
    pair.ports.iter().map(sample).collect()
}

/// The table of families.
pub fn families() -> Vec<Family> {
    let figure = |(name, kind, unit, labels, help, samples): &Figure| Family {
        name: (*name).into(),
        kind: *kind,
        unit,
        help,
        labels,
        read: Read::Samples(*samples),
    };
    let mut families: Vec<Family> = FIGURES.iter().map(figure).collect();
    for counter in Counter::ALL {
        families.extend(own_family(*counter));
        if counter.is_of_core() {
            families.push(family_of_cores(*counter));
        }
    }
    for (name, unit, label, help, read) in GROUPS {
        families.push(Family {
            name: (*name).into(),
            kind: Kind::Counter,
            unit,
            help,
            labels: std::slice::from_ref(label),
            read: *read,
        });
    }
    for (at, (word, help)) in PairSummary::DISTRIBUTIONS.into_iter().enumerate() {
        families.push(Family {
            name: format!("colo_{word}_seconds").into(),
            kind: Kind::Histogram,
            unit: "seconds",
            help,
            labels: &["le"],
            read: Read::Buckets(at),
        });
    }
    families
}

/// The family of a counter whose group has none.
fn own_family(counter: Counter) -> Option<Family> {
    let (prefix, shape) = match counter.group() {
        Group::Node(shape) => ("colo_", shape),
        Group::Checkpoint(shape) => ("colo_checkpoints_", shape),
        Group::Peer(shape) => ("colo_peer_", shape),
        _ => return None,
    };
    let (kind, unit, divisor, key) = shaped(counter.name(), shape);
    Some(Family {
        name: named(prefix, key, unit).into(),
        kind,
        unit,
        help: counter.help(),
        labels: &[],
        read: Read::Counter(counter, divisor),
    })
}

/// The family of a counter that is shown of each core.
fn family_of_cores(counter: Counter) -> Family {
    let (Group::Core(shape) | Group::Node(shape)) = counter.group() else {
        unreachable!("cores have such counters only")
    };
    let (kind, unit, _, key) = shaped(counter.name(), shape);
    Family {
        name: named("colo_core_", key, unit).into(),
        kind,
        unit,
        help: counter.help(),
        labels: &["lcore"],
        read: Read::Core(counter),
    }
}

/// Kind and unit of a family, how many of the counter's units make one of the family's, and the key without its unit.
fn shaped(key: &'static str, shape: Shape) -> (Kind, &'static str, u64, &'static str) {
    let without = |suffix| key.strip_suffix(suffix).unwrap_or(key);
    match shape {
        Shape::Total(unit) => (Kind::Counter, unit, 1, key),
        Shape::Level(unit) => (Kind::Gauge, unit, 1, key),
        Shape::TotalNs => (Kind::Counter, "seconds", 1_000_000_000, without("_ns")),
        Shape::LevelNs => (Kind::Gauge, "seconds", 1_000_000_000, without("_ns")),
        Shape::LevelMs => (Kind::Gauge, "seconds", 1_000, without("_ms")),
    }
}

fn named(prefix: &str, key: &str, unit: &str) -> String {
    match unit {
        "" => format!("{prefix}{key}"),
        unit => format!("{prefix}{key}_{unit}"),
    }
}

impl Read {
    /// The samples of a pair; a histogram has none.
    fn samples(&self, pair: &PairSummary) -> Vec<Sample> {
        match self {
            Self::Counter(counter, _) if !pair.has(*counter) => Vec::new(),
            Self::Counter(counter, 1) => one(Number::Whole(pair.value(*counter))),
            Self::Counter(counter, divisor) => {
                one(Number::Real(pair.value(*counter) as f64 / *divisor as f64))
            }
            Self::Group(group) => {
                let members = Counter::ALL.iter().filter(|it| it.group() == *group);
                let sample = |it: &Counter| (vec![it.name().to_owned()], pair.value(*it));
                whole(members.map(sample))
            }
            Self::Map(_, map) => {
                let map = map(pair).iter();
                whole(map.map(|(name, count)| (vec![name.clone()], *count)))
            }
            Self::Core(counter) => {
                let cores = pair.workers.iter();
                let count = |(lcore, core): (&String, &WorkerSummary)| {
                    (vec![lcore.clone()], core.counters.value(*counter))
                };
                whole(cores.map(count))
            }
            Self::Samples(samples) => samples(pair),
            Self::Buckets(_) => Vec::new(),
        }
    }
}

fn whole(samples: impl Iterator<Item = (Vec<String>, u64)>) -> Vec<Sample> {
    samples
        .map(|(labels, count)| (labels, Number::Whole(count)))
        .collect()
}

/// The text of these pairs.
pub fn text(pairs: &[&PairSummary], format: Format) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_families(&mut text, pairs, format);
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Both formats want all samples of a family together, so families come before pairs.
fn write_families(text: &mut String, pairs: &[&PairSummary], format: Format) -> fmt::Result {
    for family in families() {
        let Family {
            name, unit, help, ..
        } = &family;
        let sample_name = family.sample_name();
        match format {
            Format::OpenMetrics => {
                writeln!(text, "# TYPE {name} {}", family.kind_word())?;
                if !unit.is_empty() {
                    writeln!(text, "# UNIT {name} {unit}")?;
                }
                writeln!(text, "# HELP {name} {help}")?;
            }
            Format::Prometheus => {
                // It knows three kinds, by the name of the samples.
                let kind = match family.kind {
                    Kind::StateSet | Kind::Info => "gauge",
                    _ => family.kind_word(),
                };
                writeln!(
                    text,
                    "# HELP {sample_name} {help}\n# TYPE {sample_name} {kind}"
                )?;
            }
        }
        for pair in pairs {
            if let Read::Buckets(at) = family.read {
                write_buckets(text, name, pair, &pair.distributions[at].buckets)?;
            }
            for (values, number) in family.read.samples(pair) {
                let labels = family.labels.iter().copied().zip(&*values);
                write_sample(text, &sample_name, pair, labels, number)?;
            }
        }
    }
    Ok(())
}

fn write_buckets(
    text: &mut String,
    name: &str,
    pair: &PairSummary,
    buckets: &Buckets,
) -> fmt::Result {
    let bucket = format!("{name}_bucket");
    let bounds = BOUNDS.iter().map(|ns| seconds(*ns).to_string());
    let bounds = bounds.chain(["+Inf".to_owned()]);
    let counts = buckets.counts.into_iter().chain([buckets.count]);
    for (bound, count) in bounds.zip(counts) {
        write_sample(text, &bucket, pair, [("le", &bound)], Number::Whole(count))?;
    }
    let none = || std::iter::empty::<(&str, &String)>();
    write_sample(
        text,
        &format!("{name}_sum"),
        pair,
        none(),
        seconds(buckets.sum),
    )?;
    let count = Number::Whole(buckets.count);
    write_sample(text, &format!("{name}_count"), pair, none(), count)
}

fn write_sample<'a>(
    text: &mut String,
    name: &str,
    pair: &PairSummary,
    labels: impl IntoIterator<Item = (&'a str, &'a String)>,
    number: Number,
) -> fmt::Result {
    write!(text, "{name}{{pair=\"{}\"", escaped(&pair.name))?;
    for (key, label) in labels {
        write!(text, ",{key}=\"{}\"", escaped(label))?;
    }
    writeln!(text, "}} {number}")
}

fn escaped(label: &str) -> Cow<'_, str> {
    if !label.contains(['\\', '"', '\n']) {
        return label.into();
    }
    let label = label.replace('\\', "\\\\").replace('"', "\\\"");
    label.replace('\n', "\\n").into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        // What a Prometheus of 2.42 sends.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                          q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "text/plain, Application/OpenMetrics-Text; q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text; version=0.0.1",
                Format::Prometheus,
            ),
            ("application/openmetrics-text; q=0", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
            (";;,=,", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn families_are_named_as_the_formats_want() {
        let mut names = HashSet::new();
        let families = families();
        assert!(families.len() > 50, "{}", families.len());
        for family in families {
            let name = &*family.name;
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            assert!(
                name.starts_with("colo_") && name.ends_with(family.unit),
                "{name}"
            );
            let mut reserved = ["_total", "_count", "_sum", "_bucket", "_info"].iter();
            assert!(!reserved.any(|suffix| name.ends_with(suffix)), "{name}");
            let help = family.help;
            assert!(
                help.ends_with('.') && !help.contains(['\\', '\n']),
                "{help}"
            );
        }
    }
}
