//! What an audit has proved, over which time and by which inputs: to be archived beside them.
//!
//! It states what was judged and nothing else. A rule is listed with the number of frames or commits that it was judged
//! for; where a rule is broken, none is listed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::report::{Report, Rule};

/// The program, as its certificates name it.
pub const PROGRAM: &str = concat!("dpdk-colo-audit ", env!("CARGO_PKG_VERSION"));

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Input {
    /// Its path, as it was found.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A run of a node that was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// The log.
    pub log: String,
    /// The node's role.
    pub role: &'static str,
    /// The pair.
    pub pair: String,
    /// The time of its first record that was judged, by the wall clock of the node's host.
    pub from: String,
    /// That of the last one.
    pub to: String,
    /// Nanoseconds between them.
    pub ns: u64,
    /// Its records that were judged.
    pub records: u64,
}

/// A rule, and for how much it was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proved {
    /// The rule.
    pub rule: Rule,
    /// What it was judged for.
    pub of: &'static str,
    /// How many.
    pub count: u64,
}

/// What left without having been proved equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// What it was.
    pub what: &'static str,
    /// The policy rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How many.
    pub count: u64,
}

/// How an audit ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No rule was broken, and everything could be judged.
    Clean,
    /// A rule was broken.
    Violation,
    /// Something could not be judged.
    #[default]
    Unproven,
}

/// The certificate of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The program and its version.
    pub program: String,
    /// How the audit ended.
    pub verdict: Verdict,
    /// The files.
    pub inputs: Vec<Input>,
    /// The nodes' runs.
    pub runs: Vec<Run>,
    /// Frames that left and were judged.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, the bytes of frames that left because the SVM had sent the same.
    pub compared_bytes: u64,
    /// Connections of which something left.
    pub connections: u64,
    /// Epochs in which something left, of each run.
    pub epochs: u64,
    /// The rules.
    pub proved: Vec<Proved>,
    /// What the rules allowed to leave otherwise.
    pub exceptions: Vec<Exception>,
    /// What was not judged, and why.
    pub not_judged: Vec<String>,
}

/// What was given to be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Nodes whose logs were given.
    pub nodes: usize,
    /// R6 could be judged: both nodes' times are in one order.
    pub ordered: bool,
    /// A client's capture was given.
    pub client: bool,
    /// Connections of which something left.
    pub connections: u64,
}

impl Certificate {
    /// That of a report which is complete; inputs and runs are known.
    pub fn of(report: &Report) -> Self {
        let (judged, scope) = (&report.judged, report.scope);
        let verdict = match report.status() {
            0 => Verdict::Clean,
            1 => Verdict::Violation,
            _ => Verdict::Unproven,
        };
        let mut certificate = Self {
            program: PROGRAM.to_owned(),
            verdict,
            inputs: report.certificate.inputs.clone(),
            runs: report.certificate.runs.clone(),
            frames: judged.released,
            bytes: judged.released_bytes,
            compared_bytes: judged.compared_bytes,
            connections: scope.connections,
            epochs: judged.epochs,
            ..Self::default()
        };
        if verdict != Verdict::Violation {
            certificate.prove(report, scope);
        }
        certificate.except(report);
        let mut missing = |what: &str| certificate.not_judged.push(what.to_owned());
        if scope.nodes < 2 {
            missing("R6: the log of one node only");
        } else if !scope.ordered {
            missing("R6: the nodes' clocks have no known relation");
        }
        if judged.commits == 0 {
            missing("R3: no commit");
        }
        missing("R7 to R11: a capture does not show them");
        certificate
    }

    fn prove(&mut self, report: &Report, scope: Scope) {
        let judged = &report.judged;
        let frames = "frames that left";
        let rules = [Rule::R1, Rule::R2, Rule::R4, Rule::R5].map(|rule| (rule, frames));
        let mut rows: Vec<_> = rules
            .into_iter()
            .map(|(rule, of)| (rule, of, judged.released))
            .collect();
        rows.push((Rule::R3, "commits", judged.commits));
        if scope.nodes > 1 && scope.ordered {
            rows.push((Rule::R6, frames, judged.released));
        }
        if scope.client {
            let of = "segments of the client's capture";
            rows.push((Rule::R5, of, report.client_segments));
        }
        rows.sort_by_key(|(rule, ..)| *rule);
        let rows = rows.into_iter().filter(|(_, _, count)| *count > 0);
        self.proved = rows
            .map(|(rule, of, count)| Proved { rule, of, count })
            .collect();
    }

    fn except(&mut self, report: &Report) {
        let judged = &report.judged;
        let mut add = |what, rule: Option<&String>, count| {
            if count > 0 {
                let rule = rule.cloned();
                self.exceptions.push(Exception { what, rule, count });
            }
        };
        let unprotected = "frames that left while nothing was protected";
        add(unprotected, None, judged.unprotected);
        for (rule, count) in &judged.policy {
            add("frames that left uncompared", Some(rule), *count);
        }
        for (rule, count) in &judged.masked {
            add("bytes that differed and left masked", Some(rule), *count);
        }
        let again = "masked bytes that left again with another value";
        add(again, None, judged.masked_again);
        add("frames that a node dropped", None, judged.dropped);
    }
}

/// An instant by the wall clock, or by the host's monotonic clock where that is not known.
pub(crate) fn instant(wall_ns: i128, is_wall: bool) -> String {
    let ns = u64::try_from(wall_ns).unwrap_or(0);
    if !is_wall {
        return format!("{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000);
    }
    let (seconds, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (year, month, day) = date(seconds / 86_400);
    let second = seconds % 86_400;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ns:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day, `days` after 1970-01-01. Years begin with March here, so that the leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    match month {
        0..10 => (era * 400 + year, month + 3, day_of_month),
        _ => (era * 400 + year + 1, month - 9, day_of_month),
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Clean => "clean",
            Verdict::Violation => "a rule is broken: nothing is proved",
            Verdict::Unproven => "no violation in what could be judged",
        };
        writeln!(f, "certificate of {}: {verdict}", self.program)?;
        for input in &self.inputs {
            writeln!(
                f,
                "  input     {} {:>12} bytes  {}",
                input.sha256, input.bytes, input.file
            )?;
        }
        for run in &self.runs {
            let length = Duration::from_nanos(run.ns).as_secs_f64();
            writeln!(
                f,
                "  judged    {} of pair {}, {}: {} to {} ({length:.3} s), {} records",
                run.role, run.pair, run.log, run.from, run.to, run.records
            )?;
        }
        writeln!(
            f,
            "  over      {} frames of {} bytes, {} of them compared; {} connections, {} epochs",
            self.frames, self.bytes, self.compared_bytes, self.connections, self.epochs
        )?;
        for row in &self.proved {
            writeln!(f, "  proved    {:?} for {} {}", row.rule, row.count, row.of)?;
        }
        for exception in &self.exceptions {
            write!(f, "  exception {} {}", exception.count, exception.what)?;
            match &exception.rule {
                Some(rule) => writeln!(f, ", by the rule {rule}")?,
                None => writeln!(f)?,
            }
        }
        for (i, line) in self.not_judged.iter().enumerate() {
            let end = if i + 1 == self.not_judged.len() {
                ""
            } else {
                "\n"
            };
            write!(f, "  no claim  {line}{end}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_dates_where_the_wall_clock_is_known() {
        // From `date -u -d 2024-02-29T23:59:59Z +%s`.
        let ns = 1_709_251_199_000_000_007;
        assert_eq!(instant(ns, true), "2024-02-29T23:59:59.000000007Z");
        assert_eq!(instant(5_000_000_001, false), "5.000000001 s");
        // From `date -u -d 2026-12-01 +%s`.
        assert_eq!(
            instant(1_796_083_200_000_000_000, true),
            "2026-12-01T00:00:00.000000000Z"
        );
    }
}
