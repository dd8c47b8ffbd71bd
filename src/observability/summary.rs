//! The tree of figures of a VM pair, and the `--summary` file.
//!
//! [`PairSummary::new`] makes the tree of one moment from the pair's settings, counters, latencies
//! and checkpoint times; serialized it is the JSON that users and the telemetry command
//! `/colo/stats` read, so a key, once there, stays. One pair's tree is the whole file; several lie
//! under `pairs`, each by its name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::atomic_file;
use super::checkpoints::CheckpointTimes;
use super::counters::{Counter, Group, Snapshot};
use super::latency::{Buckets, Interval, LatencySummary, Set};
use crate::config::{PairSettings, PortRole, Role};
use crate::protect::State;

/// What a [`PairSummary`] is made of.
#[derive(Clone, Copy, Debug)]
pub struct Figures<'a> {
    /// The pair.
    pub pair: &'a PairSettings,
    /// Time since the start.
    pub elapsed: Duration,
    /// Counters of all cores of the pair by lcore, the one that polls its ports first.
    pub cores: &'a [(u32, Snapshot)],
    /// Latencies of all poll cores of the pair.
    pub latencies: &'a Set,
    /// Durations of its checkpoints.
    pub checkpoints: &'a CheckpointTimes,
}

/// All figures of one pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairSummary {
    /// The pair's name.
    #[serde(skip)]
    pub name: String,
    /// The role of this node.
    pub role: &'static str,
    /// The state of this node.
    pub state: &'static str,
    /// Seconds since the start.
    pub seconds: f64,
    /// Ports by their ethdev names.
    pub ports: BTreeMap<String, PortSummary>,
    /// Frames of the PVM by the path of the comparator that took them in.
    pub paths: BTreeMap<String, u64>,
    /// Divergences by reason; only reasons that occurred.
    pub divergences: BTreeMap<String, u64>,
    /// Checkpoints.
    pub checkpoints: CheckpointSummary,
    /// From a frame's arrival from the PVM to its release.
    pub hold_ns: LatencySummary,
    /// Between the arrivals of what the two VMs sent for the same place.
    pub skew_ns: LatencySummary,
    /// From the moment when a frame may leave to its release.
    pub release_ns: LatencySummary,
    /// From a divergence to the request for a checkpoint.
    pub request_ns: LatencySummary,
    /// The cores that these figures come from, by their lcores.
    pub workers: BTreeMap<String, WorkerSummary>,
    /// Frames that left uncompared, by the rule that let them.
    pub policy: BTreeMap<String, u64>,
    /// The PVM's input on its way to the SVM; empty for a comparator.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub input: BTreeMap<String, u64>,
    /// Frames between the nodes; empty for a comparator.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub link: BTreeMap<String, u64>,
    /// Bytes for the other node, by what their frame is; empty for a comparator.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub link_sent_bytes: BTreeMap<String, u64>,
    /// Bytes of the other node; empty for a comparator.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub link_received_bytes: BTreeMap<String, u64>,
    /// Whether the other node is there; empty for a comparator.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub peer: BTreeMap<String, u64>,
    /// The QEMU of this node's VM, filled in by the control thread; `None` for a comparator that has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<MonitorSummary>,
    /// Counts of the divergence records, filled in by the control thread; `None` without `--report-dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordSummary>,
    /// Bad input and exhausted bounds; only those that occurred.
    pub faults: BTreeMap<String, u64>,
    /// Mempools by name, filled in by the control thread.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mempools: BTreeMap<String, MempoolSummary>,
    /// The counters of all cores; those with a key of their own stand beside the other keys.
    #[serde(flatten, serialize_with = "node_counters")]
    pub counters: Snapshot,
    /// What [`PairSummary::DISTRIBUTIONS`] names.
    #[serde(skip)]
    pub distributions: [Distribution; 6],
}

/// A latency of a pair in buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Its percentiles.
    pub summary: LatencySummary,
    /// Its buckets.
    pub buckets: Buckets,
}

/// The counters with a key of their own.
fn node_counters<S: Serializer>(counters: &Snapshot, serializer: S) -> Result<S::Ok, S::Error> {
    let own = Counter::ALL
        .iter()
        .filter(|counter| matches!(counter.group(), Group::Node(_)));
    serializer.collect_map(own.map(|counter| (counter.name(), counters.value(*counter))))
}

/// Frames at one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortSummary {
    /// What the port is to the pair.
    pub place: PortRole,
    /// Frames taken from it.
    pub rx: u64,
    /// Frames given to it.
    pub tx: u64,
    /// Frames that it did not take.
    pub dropped: u64,
}

/// One core that works for a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerSummary {
    /// It polls the pair's ports; others only compare.
    pub polls_ports: bool,
    /// Its counters, of which [`Counter::is_of_core`] are shown; cycles are those for this pair or another.
    #[serde(flatten, serialize_with = "core_counters")]
    pub counters: Snapshot,
}

/// The counters that are shown of a core.
fn core_counters<S: Serializer>(counters: &Snapshot, serializer: S) -> Result<S::Ok, S::Error> {
    let own = Counter::ALL.iter().filter(|counter| counter.is_of_core());
    serializer.collect_map(own.map(|counter| (counter.name(), counters.value(*counter))))
}

/// Checkpoints of a pair; times in milliseconds, 0 when there was none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckpointSummary {
    /// Requested, committed and the like.
    #[serde(flatten)]
    pub counts: BTreeMap<String, u64>,
    /// Stops of the VM by what asked for them; only reasons that occurred.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<&'static str, StopSummary>,
    /// Median from a request's writing to its STOP.
    pub stop_ms: f64,
    /// Median from STOP to RESUME.
    pub pause_ms: f64,
    /// Longest from a request's writing to its STOP.
    pub stop_ms_max: f64,
    /// Longest from STOP to RESUME.
    pub pause_ms_max: f64,
}

/// Stops of a VM for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StopSummary {
    /// How many.
    pub stops: u64,
    /// Nanoseconds from STOP to RESUME, in all.
    pub pause_ns: u64,
}

impl CheckpointSummary {
    fn new(counters: &Snapshot, times: &CheckpointTimes) -> Self {
        let reasons = times.reasons().iter().map(|(reason, stops)| {
            let summary = StopSummary {
                stops: stops.count,
                pause_ns: stops.pause,
            };
            (*reason, summary)
        });
        Self {
            counts: counters_of(counters, |group| matches!(group, Group::Checkpoint(_))),
            reasons: reasons.collect(),
            stop_ms: milliseconds(times.stop().p50),
            pause_ms: milliseconds(times.pause().p50),
            stop_ms_max: milliseconds(times.stop().max),
            pause_ms_max: milliseconds(times.pause().max),
        }
    }
}

/// Whether a QEMU answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MonitorState {
    /// There is no connection.
    Absent,
    /// It answers.
    Connected,
    /// It owes an answer, or the next step of a checkpoint, for a second or longer.
    Unresponsive,
}

impl MonitorState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Absent, Self::Connected, Self::Unresponsive];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Connected => "connected",
            Self::Unresponsive => "unresponsive",
        }
    }
}

/// The QEMU of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MonitorSummary {
    /// Whether it answers.
    pub state: MonitorState,
    /// What it owes where it is unresponsive.
    pub waits_for: Option<&'static str>,
    /// For how many milliseconds.
    pub waits_ms: u64,
    /// Times that it was unresponsive.
    pub unresponsive: u64,
    /// The longest of them in milliseconds.
    pub longest_ms: u64,
}

/// What became of the divergence records of `--report-dir`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordSummary {
    /// Records that lie in the directory.
    pub written: u64,
    /// Those for which it had no room.
    pub over_limit: u64,
    /// Those that could not be written.
    pub failed: u64,
}

/// Buffers of a mempool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MempoolSummary {
    /// All.
    pub size: u64,
    /// Those not free.
    pub in_use: u64,
}

impl PairSummary {
    /// The words of the distributions, and what each measures.
    pub const DISTRIBUTIONS: [(&str, &str); 6] = [
        (Interval::Hold.as_str(), Interval::Hold.help()),
        (Interval::Skew.as_str(), Interval::Skew.help()),
        (Interval::Release.as_str(), Interval::Release.help()),
        (Interval::Request.as_str(), Interval::Request.help()),
        ("checkpoint_stop", "From a request's writing to its STOP."),
        ("checkpoint_pause", "From STOP to RESUME."),
    ];

    /// The tree of this moment.
    pub fn new(figures: Figures<'_>) -> Self {
        let Figures {
            pair,
            elapsed,
            cores,
            latencies,
            checkpoints,
        } = figures;
        let mut counters = Snapshot::zero(pair.policy.len());
        cores.iter().for_each(|(_, core)| counters.merge(core));
        let value = |counter| counters.value(counter);
        let group = |wanted| counters_of(&counters, |group| group == wanted);
        let occurred = |wanted| {
            let mut counts = group(wanted);
            counts.retain(|_, count| *count > 0);
            counts
        };
        let between_nodes = |is_wanted: fn(Group) -> bool| match pair.role.role() {
            Role::Compare => BTreeMap::new(),
            Role::Primary | Role::Secondary => counters_of(&counters, is_wanted),
        };
        let ports = pair.ports().map(|(place, port)| {
            let port_summary = PortSummary {
                place,
                rx: value(Counter::rx(place)),
                tx: value(Counter::tx(place)),
                dropped: value(Counter::dropped(place)),
            };
            (port.to_string(), port_summary)
        });
        let rules = pair.policy.iter().map(|rule| rule.name.to_string());
        let rules = rules.zip(counters.rules().iter().copied());
        Self {
            name: pair.name.clone(),
            role: pair.role.role().as_str(),
            state: usize::try_from(value(Counter::State))
                .ok()
                .and_then(|code| State::ALL.get(code))
                .map_or("unknown", |state| state.word()),
            seconds: elapsed.as_secs_f64(),
            ports: ports.collect(),
            paths: group(Group::Path),
            divergences: occurred(Group::Divergence),
            checkpoints: CheckpointSummary::new(&counters, checkpoints),
            hold_ns: latencies.summary(Interval::Hold),
            skew_ns: latencies.summary(Interval::Skew),
            release_ns: latencies.summary(Interval::Release),
            request_ns: latencies.summary(Interval::Request),
            workers: cores
                .iter()
                .enumerate()
                .map(|(i, (lcore, core))| {
                    let summary = WorkerSummary {
                        polls_ports: i == 0,
                        counters: core.clone(),
                    };
                    (lcore.to_string(), summary)
                })
                .collect(),
            policy: group(Group::Policy).into_iter().chain(rules).collect(),
            input: between_nodes(|group| group == Group::Input),
            link: between_nodes(|group| group == Group::Link),
            link_sent_bytes: between_nodes(|group| group == Group::LinkSent),
            link_received_bytes: between_nodes(|group| group == Group::LinkReceived),
            peer: between_nodes(|group| matches!(group, Group::Peer(_))),
            faults: occurred(Group::Fault),
            monitor: None,
            records: None,
            mempools: BTreeMap::new(),
            distributions: distributions(latencies, checkpoints),
            counters,
        }
    }

    /// The value of a counter, of all cores.
    pub fn value(&self, counter: Counter) -> u64 {
        self.counters.value(counter)
    }

    /// Whether it counts for a node of this role: a comparator has no peer.
    pub fn has(&self, counter: Counter) -> bool {
        !matches!(counter.group(), Group::Peer(_)) || !self.peer.is_empty()
    }

    /// The latencies with the words for them.
    pub fn latencies(&self) -> [(Interval, LatencySummary); 4] {
        Interval::ALL.map(|interval| {
            let summary = match interval {
                Interval::Hold => self.hold_ns,
                Interval::Skew => self.skew_ns,
                Interval::Release => self.release_ns,
                Interval::Request => self.request_ns,
            };
            (interval, summary)
        })
    }
}

fn counters_of(counters: &Snapshot, is_wanted: impl Fn(Group) -> bool) -> BTreeMap<String, u64> {
    Counter::ALL
        .iter()
        .filter(|counter| is_wanted(counter.group()))
        .map(|counter| (counter.name().to_owned(), counters.value(*counter)))
        .collect()
}

fn distributions(latencies: &Set, checkpoints: &CheckpointTimes) -> [Distribution; 6] {
    let [hold, skew, release, request] =
        Interval::ALL.map(|it| (latencies.summary(it), latencies.buckets(it)));
    let stop = (checkpoints.stop(), checkpoints.stop_buckets());
    let pause = (checkpoints.pause(), checkpoints.pause_buckets());
    [hold, skew, release, request, stop, pause]
        .map(|(summary, buckets)| Distribution { summary, buckets })
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// All figures of a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Summary {
    /// The tree of the only pair.
    One(Box<PairSummary>),
    /// The trees of several pairs.
    Many {
        /// Seconds since the start.
        seconds: f64,
        /// The trees by the names of the pairs.
        pairs: BTreeMap<String, PairSummary>,
    },
}

impl Summary {
    /// The summary of a process `elapsed` after its start.
    pub fn new(elapsed: Duration, mut pairs: Vec<PairSummary>) -> Self {
        match pairs.pop() {
            Some(only) if pairs.is_empty() => Self::One(Box::new(only)),
            last => Self::Many {
                seconds: elapsed.as_secs_f64(),
                pairs: pairs
                    .into_iter()
                    .chain(last)
                    .map(|pair| (pair.name.clone(), pair))
                    .collect(),
            },
        }
    }

    /// The trees.
    pub fn pairs(&self) -> Vec<&PairSummary> {
        match self {
            Self::One(pair) => vec![pair],
            Self::Many { pairs, .. } => pairs.values().collect(),
        }
    }

    /// The JSON in one line, as a telemetry command answers.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("the keys are strings and the numbers finite")
    }

    /// Puts the JSON in place of the file at `path`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written; an old one is then as it was.
    pub fn write(&self, path: &Path) -> Result<(), SummaryError> {
        let mut text = serde_json::to_string_pretty(self)
            .expect("the keys are strings and the numbers finite");
        text.push('\n');
        atomic_file::write(path, text.as_bytes()).map_err(|source| SummaryError {
            path: path.to_owned(),
            source,
        })
    }
}

/// The summary could not be written.
#[derive(Debug, thiserror::Error)]
#[error("--summary: cannot write {path:?}: {source}")]
pub struct SummaryError {
    path: PathBuf,
    source: io::Error,
}
