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

use serde::Serialize;

use super::atomic_file;
use super::checkpoints::CheckpointTimes;
use super::counters::{Counter, Group, Snapshot};
use super::latency::{Interval, LatencySummary, Set};
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
    /// Epochs begun.
    pub epochs: u64,
    /// Number of the current epoch.
    pub epoch: u64,
    /// Ports by their ethdev names.
    pub ports: BTreeMap<String, PortSummary>,
    /// Frames of the PVM that left for the network.
    pub released: u64,
    /// Of these, frames that the SVM sent alike.
    pub released_equal: u64,
    /// Of these, frames that a commit covered.
    pub released_by_commit: u64,
    /// Frames of the PVM by the path of the comparator that took them in.
    pub paths: BTreeMap<String, u64>,
    /// Parts of unsegmented frames of the PVM that left before the rest.
    pub divided: u64,
    /// Retransmissions and bare acknowledgments that left before older frames of their connection.
    pub overtakes: u64,
    /// Frames of the PVM that were dropped because their client had reset the connection.
    pub reset_dropped: u64,
    /// RSTs of one VM alone for a connection that both had closed.
    pub closed_resets: u64,
    /// Frames of the PVM that wait now.
    pub held: u64,
    /// Most frames of the PVM that ever waited.
    pub held_max: u64,
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
    /// Rounds of the poll loops.
    pub polls: u64,
    /// Cycles in rounds that found work.
    pub busy_cycles: u64,
    /// Cycles in rounds that found none.
    pub idle_cycles: u64,
    /// Nanoseconds of the longest time from one round to the next.
    pub longest_round_ns: u64,
    /// Nanoseconds of rounds beyond a millisecond each, of the core that lacks CPU most.
    pub lost_time_ns: u64,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerSummary {
    /// It polls the pair's ports; others only compare.
    pub polls_ports: bool,
    /// Cycles in rounds that found work, for this pair or another.
    pub busy_cycles: u64,
    /// Cycles in rounds that found none.
    pub idle_cycles: u64,
    /// Flows of the pair that it knows.
    pub flows: u64,
    /// Frames of the PVM that wait there.
    pub held: u64,
}

impl WorkerSummary {
    fn new(counters: &Snapshot, polls_ports: bool) -> Self {
        Self {
            polls_ports,
            busy_cycles: counters.value(Counter::BusyCycles),
            idle_cycles: counters.value(Counter::IdleCycles),
            flows: counters.value(Counter::Flows),
            held: counters.value(Counter::Held),
        }
    }
}

/// Checkpoints of a pair; times in milliseconds, 0 when there was none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CheckpointSummary {
    /// Asked for.
    pub requested: u64,
    /// Whose commit was seen.
    pub committed: u64,
    /// Stops in a row since the last commit that nothing has proven to be a checkpoint.
    pub unproven_stops: u64,
    /// Median from a request's writing to its STOP.
    pub stop_ms: f64,
    /// Median from STOP to RESUME.
    pub pause_ms: f64,
    /// Longest from a request's writing to its STOP.
    pub stop_ms_max: f64,
    /// Longest from STOP to RESUME.
    pub pause_ms_max: f64,
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
        let counters = &counters;
        let value = |counter| counters.value(counter);
        let group = |group| counters_of(counters, group);
        let occurred = |group| {
            let mut counts = counters_of(counters, group);
            counts.retain(|_, count| *count > 0);
            counts
        };
        let between_nodes = |group| match pair.role.role() {
            Role::Compare => BTreeMap::new(),
            Role::Primary | Role::Secondary => counters_of(counters, group),
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
            epochs: value(Counter::Epochs),
            epoch: value(Counter::Epoch),
            ports: ports.collect(),
            released: value(Counter::Released),
            released_equal: value(Counter::ReleasedEqual),
            released_by_commit: value(Counter::ReleasedByCommit),
            paths: group(Group::Path),
            divided: value(Counter::Divided),
            overtakes: value(Counter::Overtakes),
            reset_dropped: value(Counter::ResetDropped),
            closed_resets: value(Counter::ClosedResets),
            held: value(Counter::Held),
            held_max: value(Counter::HeldMax),
            divergences: occurred(Group::Divergence),
            checkpoints: CheckpointSummary {
                requested: value(Counter::Requests),
                committed: value(Counter::Commits),
                unproven_stops: value(Counter::UnprovenStops),
                stop_ms: milliseconds(checkpoints.stop().p50),
                pause_ms: milliseconds(checkpoints.pause().p50),
                stop_ms_max: milliseconds(checkpoints.stop().max),
                pause_ms_max: milliseconds(checkpoints.pause().max),
            },
            hold_ns: latencies.summary(Interval::Hold),
            skew_ns: latencies.summary(Interval::Skew),
            release_ns: latencies.summary(Interval::Release),
            request_ns: latencies.summary(Interval::Request),
            polls: value(Counter::Polls),
            busy_cycles: value(Counter::BusyCycles),
            idle_cycles: value(Counter::IdleCycles),
            longest_round_ns: value(Counter::LongestRound),
            lost_time_ns: value(Counter::LostTime),
            workers: cores
                .iter()
                .enumerate()
                .map(|(i, (lcore, core))| (lcore.to_string(), WorkerSummary::new(core, i == 0)))
                .collect(),
            policy: group(Group::Policy).into_iter().chain(rules).collect(),
            input: between_nodes(Group::Input),
            link: between_nodes(Group::Link),
            peer: between_nodes(Group::Peer),
            faults: occurred(Group::Fault),
            monitor: None,
            records: None,
            mempools: BTreeMap::new(),
        }
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

fn counters_of(counters: &Snapshot, group: Group) -> BTreeMap<String, u64> {
    Counter::ALL
        .iter()
        .filter(|counter| counter.group() == group)
        .map(|counter| (counter.name().to_owned(), counters.value(*counter)))
        .collect()
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
