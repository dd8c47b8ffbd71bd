//! The tour: a protected pair at work, for somebody who sees it the first time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::check::moments;
use crate::error::LabError;
use crate::node::{Summary, huge_memory_free};
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::workload::http::{self, Page};
use crate::workload::iperf::{self, Direction};
use crate::workload::{Family, differ, redis};

/// Boots a pair, loads it, makes its VMs differ once, and shows what the nodes counted.
///
/// # Errors
/// Whatever did not go as it must.
pub fn run(host: &Host, bin: PathBuf) -> Result<(), LabError> {
    let free = huge_memory_free();
    say(
        "memory",
        format!("{free} MiB of free hugepages (without enough of them, --no-huge)"),
    );
    let mut pair = Pair::start(&Mode::Protected(bin), host, true)?;
    for family in [Family::V4, Family::V6] {
        load(&pair, family)?;
    }
    pair.alive()?;
    divergence(&pair)?;
    let records = records(&pair.dir().join("reports"));
    say("records", format!("{} in --report-dir", records.len()));
    if let Some(first) = records.first() {
        println!("{first}");
    }
    if let Some(summaries) = pair.finish()? {
        print(&summaries.primary);
    }
    say("end", "guests, nodes and network are gone");
    Ok(())
}

fn load(pair: &Pair, family: Family) -> Result<(), LabError> {
    let (before, dir) = (pair.checkpoints().len(), pair.dir());
    let page = pair
        .net
        .enter(|| Ok(http::fetch(family, Page::Usual, 20, None)?))?;
    say(
        "page",
        format!(
            "20 × 300 kB over {family}, every byte right, {:.1} MB/s",
            page.rate() / 1e6
        ),
    );
    let done = pair
        .net
        .enter(|| Ok(redis::exchange(family, 2000, 1, None)?))?;
    say(
        "redis",
        format!(
            "2,000 operations over {family}, every reply right, {:.0} per s",
            done.rate()
        ),
    );
    let cost = pair.checkpoints().len() - before;
    say("checkpoints", format!("{cost} for the pages and redis"));
    let run = pair
        .net
        .enter(|| iperf::run(family, Direction::FromGuest, 3, dir))?;
    say(
        "iperf3",
        format!(
            "{:.0} Mbit/s from the guest over {family}",
            run.bit_rate / 1e6
        ),
    );
    let cost = pair.checkpoints().len() - before - cost;
    say(
        "checkpoints",
        format!("{cost} for iperf3, whose closing report tells each VM's own CPU time"),
    );
    Ok(())
}

fn divergence(pair: &Pair) -> Result<(), LabError> {
    pair.wait_quiet()?;
    say(
        "divergence",
        "asking a service that no two VMs answer alike",
    );
    let answer = pair.net.enter(|| Ok(differ::ask(Family::V4)?))?;
    let checkpoint = pair.checkpoint_after(answer.asked, Duration::from_secs(10))?;
    let (primary, secondary) = pair.answers();
    let last = |answers: &[String]| {
        answers
            .last()
            .map_or_else(|| "nothing yet".to_owned(), Clone::clone)
    };
    say("  primary VM", last(&primary));
    say("  secondary VM", last(&secondary));
    say("  client got", &answer.line);
    say("  times", moments(&answer, checkpoint));
    Ok(())
}

/// The texts of all divergence records, in the order of their names.
fn records(dir: &Path) -> Vec<String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

fn print(summary: &Summary) {
    println!(
        "\n{:<28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "latency, µs", "p50", "p90", "p99", "p99.9", "max", "count"
    );
    for (key, name) in [
        ("hold_ns", "held"),
        ("skew_ns", "secondary behind primary"),
        ("release_ns", "match or commit to release"),
        ("request_ns", "difference to request"),
    ] {
        if let Some(latency) = summary.latency(key) {
            let us = |ns: u64| format!("{:.1}", ns as f64 / 1e3);
            println!(
                "{name:<28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                us(latency.p50),
                us(latency.p90),
                us(latency.p99),
                us(latency.p999),
                us(latency.max),
                latency.count
            );
        }
    }
    let counter = |pointer| summary.counter(pointer).unwrap_or(0);
    println!(
        "{} frames released; {} checkpoints requested, {} committed; divergences {:?}\n",
        counter("/released"),
        counter("/checkpoints/requested"),
        counter("/checkpoints/committed"),
        summary.divergences()
    );
}
