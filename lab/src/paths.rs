//! Which way through the comparator the output of a real VM takes: `colo-lab paths`.
//!
//! Each load meets a pair of its own, because a node gives its counters when it ends. Out: for each load the frames of
//! the PVM that were compared and their shares by path, as a table in Markdown.

use std::fmt;
use std::path::PathBuf;

use crate::error::LabError;
use crate::loss::{self, Site, Task};
use crate::node::Summary;
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::workload::http::{self, Page};
use crate::workload::iperf::{self, Direction};
use crate::workload::short::{self, Close, Kind};
use crate::workload::{Family, redis};

const V4: Family = Family::V4;
/// Pages of 300,000 bytes.
const PAGES: usize = 100;
/// Operations of redis, one at a time.
const OPERATIONS: usize = 3000;
/// Seconds of an iperf3 run.
const IPERF: u32 = 5;
/// Connections that are made [`short::CROWD`] at a time.
const CONNECTIONS: usize = 1000;
/// Of the draws of a wire that loses frames.
const SEED: u64 = 1;

/// One load.
#[derive(Debug, Clone, Copy)]
enum Load {
    Pages,
    Redis,
    Iperf(Direction),
    Short,
    /// Pages on a wire that loses frames: of 1,000 towards the client and from it.
    LossyPages(u16),
}

const LOADS: [Load; 7] = [
    Load::Pages,
    Load::Redis,
    Load::Iperf(Direction::FromGuest),
    Load::Iperf(Direction::ToGuest),
    Load::Short,
    Load::LossyPages(1),
    Load::LossyPages(10),
];

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages => write!(f, "{PAGES} pages of 300 kB"),
            Self::Redis => write!(f, "redis, {OPERATIONS} operations, one at a time"),
            Self::Iperf(Direction::FromGuest) => write!(f, "iperf3 from the guest, {IPERF} s"),
            Self::Iperf(Direction::ToGuest) => write!(f, "iperf3 to the guest, {IPERF} s"),
            Self::Short => write!(f, "{CONNECTIONS} connections, {} at a time", short::CROWD),
            Self::LossyPages(of_1000) => write!(
                f,
                "the same pages, {} % of the frames lost either way",
                f64::from(*of_1000) / 10.0
            ),
        }
    }
}

impl Load {
    /// What the wire does meanwhile.
    fn wire(self) -> loss::Kind {
        match self {
            Self::LossyPages(of_1000) => loss::Kind::Loss(loss::Way::Both, of_1000),
            _ => loss::Kind::Clean,
        }
    }

    fn run(self, site: &Site) -> Result<(), LabError> {
        let pair: &Pair = &site.pair;
        let dir = pair.dir();
        match self {
            Self::Pages => pair
                .net
                .enter(|| Ok(http::fetch(V4, Page::Usual, PAGES, None)?))
                .map(|_| ()),
            Self::Redis => pair
                .net
                .enter(|| Ok(redis::exchange(V4, OPERATIONS, 1, None)?))
                .map(|_| ()),
            Self::Iperf(direction) => pair
                .net
                .enter(|| iperf::run(V4, direction, IPERF, dir))
                .map(|_| ()),
            Self::Short => short::run(
                &pair.net,
                Kind {
                    family: V4,
                    close: Close::Guest,
                    crowd: true,
                },
                CONNECTIONS,
            ),
            Self::LossyPages(_) => site
                .run(Task {
                    kind: self.wire(),
                    load: loss::Load::Pages,
                    family: V4,
                    pages: PAGES,
                    seed: SEED,
                })
                .map(|_| ()),
        }
    }
}

/// The primary node's counts of one load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Paths {
    paired: u64,
    in_order: u64,
    general: u64,
    equal: u64,
    by_commit: u64,
}

impl Paths {
    fn of(summary: &Summary) -> Self {
        let counter = |pointer| summary.counter(pointer).unwrap_or(0);
        Self {
            paired: counter("/paths/paired"),
            in_order: counter("/paths/in_order"),
            general: counter("/paths/general"),
            equal: counter("/released_equal"),
            by_commit: counter("/released_by_commit"),
        }
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let came = self.paired + self.in_order + self.general;
        let left = self.equal + self.by_commit;
        let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        write!(
            f,
            "{came} | {:.1} % | {:.1} % | {:.1} % | {:.2} %",
            share(self.paired, came),
            share(self.in_order, came),
            share(self.general, came),
            share(self.by_commit, left),
        )
    }
}

/// Runs each load beside a pair of its own, and prints the table.
///
/// # Errors
/// What kept a pair from running, or a load from its end.
pub fn run(host: &Host, bin: PathBuf) -> Result<(), LabError> {
    let mode = Mode::Protected(bin);
    let mut rows = Vec::new();
    for load in LOADS {
        let site = Site::start(&mode, host)?;
        load.run(&site)?;
        if let Some(summaries) = site.pair.finish()? {
            let paths = Paths::of(&summaries.primary);
            say("paths", format!("{load}: {paths}"));
            rows.push((load, paths));
        }
    }
    println!("| load | P compared | paired | in order | general | left by commit |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (load, paths) in rows {
        println!("| {load} | {paths} |");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_are_of_what_came_and_of_what_left() {
        let paths = Paths::of(&Summary(json!({
            "paths": {"paired": 6, "in_order": 3, "general": 1},
            "released_equal": 7,
            "released_by_commit": 1,
        })));
        assert_eq!(paths.to_string(), "10 | 60.0 % | 30.0 % | 10.0 % | 12.50 %");
    }
}
