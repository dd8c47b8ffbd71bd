//! What a run of the suite has seen: a line per injection, a table per kind, and JSON.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::inject::Outcome;
use crate::error::LabError;

/// What a whole run came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Injections that passed.
    pub passed: usize,
    /// Injections that did not.
    pub failed: usize,
    /// Of each takeover by the secondary: the longest silence on an open connection.
    pub silences: Vec<Duration>,
    /// Of the same: the time to the first new byte, beside QEMU's part, where QEMU's is known.
    pub beside_qemu: Vec<Duration>,
}

impl Tally {
    /// Counts outcomes.
    pub fn new(outcomes: &[Outcome]) -> Self {
        let mut tally = Self::default();
        for outcome in outcomes {
            match outcome.violations.is_empty() {
                true => tally.passed += 1,
                false => tally.failed += 1,
            }
            if outcome.plan.kind.is_takeover() {
                tally.silences.push(outcome.silence(false));
                tally.beside_qemu.extend(outcome.beside_qemu(false));
            }
        }
        tally
    }
}

/// All outcomes of one kind and phase.
#[derive(Debug, Default)]
struct Row {
    injections: usize,
    recoveries: usize,
    resets: u64,
    wrong: u64,
    silence: [Duration; 2],
    first: [Duration; 2],
    qemu: Duration,
    beside: Duration,
    stood_still: usize,
    audited: usize,
}

/// Connections that were open, and connections that are opened meanwhile.
const CONNECTIONS: [bool; 2] = [false, true];

/// One line: what was done and what came of it.
pub fn line(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
    let first = |opens| outcome.first(opens).map_or_else(|| "none".to_owned(), ms);
    let head = if outcome.violations.is_empty() {
        "ok     "
    } else {
        "FAILED "
    };
    let [open, opened] = CONNECTIONS;
    let mut text = format!(
        "{head} {} ({}), seed {}: silence {} ms ({} to connect), first byte after {} ms ({})",
        plan.kind,
        plan.phase,
        plan.seed,
        ms(outcome.silence(open)),
        ms(outcome.silence(opened)),
        first(open),
        first(opened),
    );
    if let Some(qemu) = outcome.qemu {
        text.push_str(&format!(", QEMU's part {} ms", ms(qemu)));
    }
    if outcome.inside {
        text.push_str(", inside a checkpoint");
    }
    if outcome.stood_still {
        text.push_str(", QEMU stood still inside a checkpoint");
    }
    if !outcome.disks.is_empty() {
        text.push_str(&format!(
            ", acknowledged records on {}",
            outcome.disks.join(" and ")
        ));
    }
    for violation in &outcome.violations {
        text.push_str("\n          ");
        text.push_str(&violation.replace('\n', "\n          "));
    }
    text
}

/// Prints the table of all outcomes.
pub fn print(outcomes: &[Outcome]) {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for outcome in outcomes {
        let plan = &outcome.plan;
        let key = (plan.kind.to_string(), plan.phase.to_string());
        let row = rows.entry(key).or_default();
        row.injections += 1;
        row.recoveries += usize::from(outcome.violations.is_empty());
        row.resets += outcome.sum(|record| record.resets);
        row.wrong += outcome.sum(|record| record.wrong);
        for (at, opens) in CONNECTIONS.into_iter().enumerate() {
            row.silence[at] = row.silence[at].max(outcome.silence(opens));
            row.first[at] = row.first[at].max(outcome.first(opens).unwrap_or_default());
        }
        row.audited += usize::from(outcome.audit.is_some());
        row.qemu = row.qemu.max(outcome.qemu.unwrap_or_default());
        row.beside = row
            .beside
            .max(outcome.beside_qemu(false).unwrap_or_default());
        row.stood_still += usize::from(outcome.stood_still);
    }
    println!(
        "\n{:<29} {:<15} {:>10} {:>10} {:>6} {:>5} {:>13} {:>13} {:>6} {:>6} {:>7} {:>6}",
        "", "", "", "", "", "", "silence, ms", "1st byte, ms", "QEMU", "beside", "", "QEMU"
    );
    println!(
        "{:<29} {:<15} {:>10} {:>10} {:>6} {:>5} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6}",
        "fault",
        "phase",
        "injections",
        "recoveries",
        "resets",
        "wrong",
        "open",
        "new",
        "open",
        "new",
        "ms",
        "ms",
        "audited",
        "hung"
    );
    let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
    for ((kind, phase), row) in &rows {
        println!(
            "{kind:<29} {phase:<15} {:>10} {:>10} {:>6} {:>5} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7} {:>6}",
            row.injections,
            row.recoveries,
            row.resets,
            row.wrong,
            ms(row.silence[0]),
            ms(row.silence[1]),
            ms(row.first[0]),
            ms(row.first[1]),
            ms(row.qemu),
            ms(row.beside),
            row.audited,
            row.stood_still
        );
    }
    println!();
}

/// Writes every outcome to `path`.
///
/// # Errors
/// [`LabError::File`].
pub fn write(outcomes: &[Outcome], path: &Path) -> Result<(), LabError> {
    let list: Vec<Value> = outcomes.iter().map(value).collect();
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(LabError::file(dir))?;
    }
    let text = format!("{:#}\n", json!({ "injections": list }));
    fs::write(path, text).map_err(LabError::file(path))
}

fn value(outcome: &Outcome) -> Value {
    let plan = &outcome.plan;
    let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let clients: Vec<Value> = outcome
        .records
        .iter()
        .map(|record| {
            json!({
                "name": record.name,
                "bytes": record.bytes,
                "answers": record.answers,
                "wrong": record.wrong,
                "resets": record.resets,
                "failures": record.failures,
                "silence_ms": ms(record.silence),
                "first_ms": record.first.map(ms),
                "words": record.words,
            })
        })
        .collect();
    json!({
        "fault": plan.kind.to_string(),
        "phase": plan.phase.to_string(),
        "seed": plan.seed,
        "delay_ms": ms(plan.delay),
        "notice_ms": ms(plan.notice),
        "passed": outcome.violations.is_empty(),
        "violations": outcome.violations,
        "silence_ms": ms(outcome.silence(false)),
        "first_ms": outcome.first(false).map(ms),
        "qemu_ms": outcome.qemu.map(ms),
        "beside_qemu_ms": outcome.beside_qemu(false).map(ms),
        "stood_still": outcome.stood_still,
        "inside": outcome.inside,
        "audit": outcome.audit,
        "disks": outcome.disks,
        "clients": clients,
    })
}
