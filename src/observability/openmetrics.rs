//! The same figures as OpenMetrics text (version 1.0.0), for a scraper.
//!
//! Only the text is made here; who serves it is no concern of this module.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use super::latency::Interval;
use super::summary::{PairSummary, PortSummary, Summary};

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of a summary, from the first metric family to `# EOF`.
pub fn text(summary: &Summary) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_families(&mut text, &summary.pairs());
    text.push_str("# EOF\n");
    text
}

/// A value with its labels, the pair's aside.
type Sample = (Vec<Label>, u64);
type Label = (&'static str, String);

/// A metric family: its name without the suffix of a counter, its type, its help text, and how to
/// read its samples from a pair.
type Family = (
    &'static str,
    Kind,
    &'static str,
    fn(&PairSummary) -> Vec<Sample>,
);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}
use Kind::{Counter, Gauge};

impl Kind {
    /// Its name, and what a sample's name ends with.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Counter => ("counter", "_total"),
            Gauge => ("gauge", ""),
        }
    }
}

const FAMILIES: &[Family] = &[
    (
        "colo_state",
        Gauge,
        "1 for the state that the node is in.",
        |p| vec![(vec![("state", p.state.to_owned())], 1)],
    ),
    ("colo_epoch", Gauge, "Number of the current epoch.", |p| {
        one(p.epoch)
    }),
    (
        "colo_released_frames",
        Counter,
        "Frames of the PVM that left for the network.",
        |p| one(p.released),
    ),
    (
        "colo_released_equal_frames",
        Counter,
        "Frames of the PVM that left because the SVM sent the same.",
        |p| one(p.released_equal),
    ),
    (
        "colo_released_by_commit_frames",
        Counter,
        "Frames of the PVM that left because a commit covers them.",
        |p| one(p.released_by_commit),
    ),
    (
        "colo_path_frames",
        Counter,
        "Frames of the PVM by the path of the comparator that took them in.",
        |p| each("path", &p.paths),
    ),
    (
        "colo_divided_frames",
        Counter,
        "Parts of unsegmented frames of the PVM that left before the rest.",
        |p| one(p.divided),
    ),
    (
        "colo_overtakes_frames",
        Counter,
        "Retransmissions and bare acknowledgments that left before older frames of their connection.",
        |p| one(p.overtakes),
    ),
    (
        "colo_reset_dropped_frames",
        Counter,
        "Frames of the PVM that were dropped because their client had reset the connection.",
        |p| one(p.reset_dropped),
    ),
    (
        "colo_closed_resets",
        Counter,
        "RSTs of one VM alone for a connection that both had closed.",
        |p| one(p.closed_resets),
    ),
    (
        "colo_held_frames",
        Gauge,
        "Frames of the PVM that wait now.",
        |p| one(p.held),
    ),
    (
        "colo_held_max_frames",
        Gauge,
        "Most frames of the PVM that ever waited.",
        |p| one(p.held_max),
    ),
    (
        "colo_port_rx_frames",
        Counter,
        "Frames taken from a port.",
        |p| ports(p, |port| port.rx),
    ),
    (
        "colo_port_tx_frames",
        Counter,
        "Frames given to a port.",
        |p| ports(p, |port| port.tx),
    ),
    (
        "colo_port_dropped_frames",
        Counter,
        "Frames that a port did not take.",
        |p| ports(p, |port| port.dropped),
    ),
    ("colo_divergences", Counter, "Divergences by reason.", |p| {
        each("reason", &p.divergences)
    }),
    (
        "colo_checkpoints_requested",
        Counter,
        "Checkpoints asked for.",
        |p| one(p.checkpoints.requested),
    ),
    (
        "colo_checkpoints_committed",
        Counter,
        "Checkpoints whose commit was seen.",
        |p| one(p.checkpoints.committed),
    ),
    (
        "colo_unproven_stops",
        Gauge,
        "Stops in a row since the last commit that nothing has proven to be a checkpoint.",
        |p| one(p.checkpoints.unproven_stops),
    ),
    (
        "colo_policy_frames",
        Counter,
        "Frames that left uncompared, by rule.",
        |p| each("rule", &p.policy),
    ),
    (
        "colo_input_frames",
        Counter,
        "The PVM's input on its way to the SVM.",
        |p| each("event", &p.input),
    ),
    (
        "colo_link_frames",
        Counter,
        "Frames between the nodes.",
        |p| each("event", &p.link),
    ),
    (
        "colo_peer",
        Gauge,
        "Whether the other node is there, and whether this one has taken its place.",
        |p| each("figure", &p.peer),
    ),
    (
        "colo_monitor",
        Gauge,
        "1 for what the QEMU of the VM is to this node.",
        |p| {
            let monitor = p.monitor.iter();
            monitor
                .map(|monitor| (vec![("state", monitor.state.word().to_owned())], 1))
                .collect()
        },
    ),
    (
        "colo_monitor_unresponsive",
        Counter,
        "Times that QEMU owed something for a second or longer.",
        |p| {
            let monitor = p.monitor.iter();
            monitor
                .map(|monitor| (Vec::new(), monitor.unresponsive))
                .collect()
        },
    ),
    (
        "colo_records",
        Counter,
        "Divergence records by what became of them.",
        |p| {
            let records = p.records.iter().flat_map(|records| {
                [
                    ("written", records.written),
                    ("over_limit", records.over_limit),
                    ("failed", records.failed),
                ]
            });
            records
                .map(|(outcome, n)| (vec![("outcome", outcome.to_owned())], n))
                .collect()
        },
    ),
    (
        "colo_faults",
        Counter,
        "Bad input and exhausted bounds.",
        |p| each("fault", &p.faults),
    ),
    ("colo_polls", Counter, "Rounds of the poll loops.", |p| {
        one(p.polls)
    }),
    (
        "colo_busy_cycles",
        Counter,
        "Cycles in rounds that found work.",
        |p| one(p.busy_cycles),
    ),
    (
        "colo_idle_cycles",
        Counter,
        "Cycles in rounds that found none.",
        |p| one(p.idle_cycles),
    ),
    (
        "colo_flows",
        Gauge,
        "Flows of the pair that a core knows.",
        |p| {
            let cores = p.workers.iter();
            cores
                .map(|(lcore, core)| (vec![("lcore", lcore.clone())], core.flows))
                .collect()
        },
    ),
    (
        "colo_mempool_size_buffers",
        Gauge,
        "Buffers of a mempool.",
        |p| {
            let pools = p.mempools.iter();
            pools
                .map(|(name, pool)| (vec![("mempool", name.clone())], pool.size))
                .collect()
        },
    ),
    (
        "colo_mempool_used_buffers",
        Gauge,
        "Buffers of a mempool that are not free.",
        |p| {
            let pools = p.mempools.iter();
            pools
                .map(|(name, pool)| (vec![("mempool", name.clone())], pool.in_use))
                .collect()
        },
    ),
];

/// A family whose one sample is a time: its name, its type, its help text, and how to read its nanoseconds.
type Time = (&'static str, Kind, &'static str, fn(&PairSummary) -> u64);

const TIMES: &[Time] = &[
    (
        "colo_longest_round_seconds",
        Gauge,
        "Longest time from one round of a core to the next, --idle-sleep aside.",
        |p| p.longest_round_ns,
    ),
    (
        "colo_lost_time_seconds",
        Counter,
        "Time of rounds beyond a millisecond each: the core had no CPU.",
        |p| p.lost_time_ns,
    ),
];

fn one(value: u64) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

fn each(key: &'static str, counts: &BTreeMap<String, u64>) -> Vec<Sample> {
    counts
        .iter()
        .map(|(name, count)| (vec![(key, name.clone())], *count))
        .collect()
}

fn ports(pair: &PairSummary, count: fn(&PortSummary) -> u64) -> Vec<Sample> {
    pair.ports
        .iter()
        .map(|(name, port)| {
            let labels = vec![
                ("port", name.clone()),
                ("place", port.place.key().to_owned()),
            ];
            (labels, count(port))
        })
        .collect()
}

/// OpenMetrics wants all samples of a family together, so families come before pairs.
fn write_families(text: &mut String, pairs: &[&PairSummary]) -> fmt::Result {
    for (name, kind, help, samples) in FAMILIES {
        let (kind, suffix) = kind.words();
        writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}")?;
        for pair in pairs {
            for (labels, value) in samples(pair) {
                write_sample(text, &format!("{name}{suffix}"), pair, &labels, value)?;
            }
        }
    }
    for (name, kind, help, ns) in TIMES {
        let (kind, suffix) = kind.words();
        writeln!(
            text,
            "# TYPE {name} {kind}\n# UNIT {name} seconds\n# HELP {name} {help}"
        )?;
        for pair in pairs {
            let seconds = ns(pair) as f64 / 1e9;
            write_sample(text, &format!("{name}{suffix}"), pair, &[], seconds)?;
        }
    }
    for (at, interval) in Interval::ALL.into_iter().enumerate() {
        let name = format!("colo_{}_seconds", interval.as_str());
        writeln!(text, "# TYPE {name} summary\n# UNIT {name} seconds")?;
        writeln!(text, "# HELP {name} {}", interval.help())?;
        for pair in pairs {
            let (_, latency) = pair.latencies()[at];
            for (quantile, ns) in [
                ("0.5", latency.p50),
                ("0.9", latency.p90),
                ("0.99", latency.p99),
                ("0.999", latency.p999),
                ("1.0", latency.max),
            ] {
                let labels = [("quantile", quantile.to_owned())];
                write_sample(text, &name, pair, &labels, ns as f64 / 1e9)?;
            }
            write_sample(text, &format!("{name}_count"), pair, &[], latency.count)?;
        }
    }
    Ok(())
}

fn write_sample(
    text: &mut String,
    name: &str,
    pair: &PairSummary,
    labels: &[Label],
    value: impl Display,
) -> fmt::Result {
    write!(text, "{name}{{pair=\"{}\"", escaped(&pair.name))?;
    for (key, label) in labels {
        write!(text, ",{key}=\"{}\"", escaped(label))?;
    }
    writeln!(text, "}} {value}")
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
