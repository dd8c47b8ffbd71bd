//! The tour: a protected pair at work, for somebody who sees it the first time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::check::moments;
use crate::error::LabError;
use crate::faults;
use crate::net::GUEST_V4;
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
    let mode = Mode::Protected(bin.clone());
    let mut pair = Pair::start(&mode, host, true)?;
    for family in [Family::V4, Family::V6] {
        load(&pair, family)?;
    }
    stream(&pair)?;
    pair.alive()?;
    divergence(&pair)?;
    pair.alive()?;
    show_record(&pair.dir().join("reports"));
    if let Some(summaries) = pair.finish()? {
        print(&summaries.primary);
    }
    plug(host, bin)?;
    say("end", "guests, nodes and network are gone");
    Ok(())
}

fn load(pair: &Pair, family: Family) -> Result<(), LabError> {
    let before = pair.checkpoints().len();
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
    Ok(())
}

fn stream(pair: &Pair) -> Result<(), LabError> {
    let (before, dir) = (pair.checkpoints().len(), pair.dir());
    let family = Family::V4;
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
    let cost = pair.checkpoints().len() - before;
    say(
        "checkpoints",
        format!("{cost} for iperf3, whose closing report has each VM's own CPU time"),
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

/// Kills the primary's QEMU and node under load; the clients' open connections go on from the secondary.
fn plug(host: &Host, bin: PathBuf) -> Result<(), LabError> {
    let (records, qemu) = faults::pull_the_plug(host, bin)?;
    say(
        "the plug",
        "SIGKILL to the primary's QEMU and node; x-colo-lost-heartbeat to the secondary's QEMU",
    );
    let ms = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1e3);
    for record in records {
        say(
            &format!("  {}", record.name),
            format!(
                "the open connection goes on, {} bytes, all right; silent for {}, {} of them after the command",
                record.bytes,
                ms(record.silence),
                record.first.map_or_else(|| "none".to_owned(), ms),
            ),
        );
    }
    if let Some(qemu) = qemu {
        say(
            "  QEMU",
            format!("took {} of that to start the survivor", ms(qemu)),
        );
    }
    Ok(())
}

/// Shows what the primary node recorded of the divergence: both VMs' bytes where they part.
fn show_record(dir: &Path) {
    let records: Vec<Value> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "json"))
        .filter_map(|entry| serde_json::from_str(&fs::read_to_string(entry.path()).ok()?).ok())
        .collect();
    say("records", format!("{} in --report-dir", records.len()));
    let service = format!("{GUEST_V4}:{} ", differ::PORT);
    if let Some(record) = records.iter().find(|record| {
        record["flow"]
            .as_str()
            .is_some_and(|flow| flow.contains(&service))
    }) {
        say(
            "  flow",
            format!(
                "{} in epoch {}: {} at stream offset {}",
                record["flow"].as_str().unwrap_or_default(),
                record["epoch"],
                record["reason"].as_str().unwrap_or_default(),
                record["stream_offset"]
            ),
        );
        for side in ["primary", "secondary"] {
            let window = &record[side]["window"]["ascii"];
            say(&format!("  {side}"), window.as_str().unwrap_or("no frame"));
        }
    }
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
