//! The table of `--stats-period`: what moves, how fast, since the table before.
//!
//! In goes a [`Summary`] each period; out comes text for stdout. On a terminal each table takes the
//! screen, elsewhere they follow one another.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use super::counters::Counter;
use super::latency::LatencySummary;
use super::summary::{PairSummary, Summary};

/// Clears a terminal and goes to its upper left corner (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Makes one table after another.
#[derive(Debug)]
pub struct Table {
    terminal: bool,
    before: HashMap<String, PairSummary>,
}

impl Table {
    /// Tables for a terminal, or for anything else.
    pub fn new(terminal: bool) -> Self {
        Self {
            terminal,
            before: HashMap::new(),
        }
    }

    /// The next table, with a line end. Rates are those since the last one, at first since the
    /// start.
    pub fn next(&mut self, summary: &Summary) -> String {
        let mut text = String::from(if self.terminal { CLEAR } else { "" });
        for pair in summary.pairs() {
            // Writing to a string cannot fail.
            let _ = write_pair(&mut text, pair, self.before.get(&pair.name));
            self.before.insert(pair.name.clone(), pair.clone());
        }
        text
    }
}

fn write_pair(text: &mut String, now: &PairSummary, before: Option<&PairSummary>) -> fmt::Result {
    let seconds = now.seconds - before.map_or(0.0, |before| before.seconds);
    let rate = |now: u64, before: Option<u64>| {
        let gone = now.saturating_sub(before.unwrap_or(0));
        Rate(if seconds > 0.0 {
            gone as f64 / seconds
        } else {
            0.0
        })
    };

    writeln!(
        text,
        "---- {} {}  {}  epoch {}  {:.1} s ----",
        now.name,
        now.role,
        now.state,
        now.value(Counter::Epoch),
        now.seconds
    )?;
    if let Some(monitor) = now.monitor
        && let Some(what) = monitor.waits_for
    {
        let seconds = monitor.waits_ms as f64 / 1e3;
        writeln!(
            text,
            "QEMU is unresponsive: {what} is awaited for {seconds:.1} s"
        )?;
    }
    writeln!(
        text,
        "{:<32} {:>9} {:>9} {:>9} {:>14} {:>14} {:>10}",
        "port", "rx/s", "tx/s", "drop/s", "rx", "tx", "dropped"
    )?;
    let mut ports: Vec<_> = now.ports.iter().collect();
    ports.sort_by_key(|(_, port)| port.place.slot());
    for (name, port) in ports {
        let last = before.and_then(|before| before.ports.get(name));
        writeln!(
            text,
            "{:<32} {:>9} {:>9} {:>9} {:>14} {:>14} {:>10}",
            format!("{name} ({})", port.place.key()),
            rate(port.rx, last.map(|last| last.rx)),
            rate(port.tx, last.map(|last| last.tx)),
            rate(port.dropped, last.map(|last| last.dropped)),
            port.rx,
            port.tx,
            port.dropped,
        )?;
    }

    let since = |counter| {
        let last = before.map_or(0, |before| before.value(counter));
        now.value(counter).saturating_sub(last)
    };
    let (busy, idle) = (since(Counter::BusyCycles), since(Counter::IdleCycles));
    writeln!(
        text,
        "released {} ({}/s)  held {}, at most {}  busy {:.1} %",
        now.value(Counter::Released),
        rate(
            now.value(Counter::Released),
            before.map(|before| before.value(Counter::Released))
        ),
        now.value(Counter::Held),
        now.value(Counter::HeldMax),
        100.0 * busy as f64 / (busy + idle).max(1) as f64,
    )?;
    writeln!(
        text,
        "checkpoints {} requested, {} committed, stop {:.1} ms, pause {:.1} ms",
        now.value(Counter::Requests),
        now.value(Counter::Commits),
        now.checkpoints.stop_ms,
        now.checkpoints.pause_ms,
    )?;
    write_counts(text, "divergences", &now.divergences)?;
    write_counts(text, "faults", &now.faults)?;

    if now.latencies().iter().any(|(_, latency)| latency.count > 0) {
        writeln!(
            text,
            "{:<10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12}",
            "us", "p50", "p90", "p99", "p99.9", "max", "count"
        )?;
    }
    for (interval, latency) in now.latencies() {
        let LatencySummary {
            p50,
            p90,
            p99,
            p999,
            max,
            count,
        } = latency;
        if count > 0 {
            write!(text, "{:<10}", interval.as_str())?;
            for ns in [p50, p90, p99, p999, max] {
                write!(text, " {:>10.1}", ns as f64 / 1e3)?;
            }
            writeln!(text, " {count:>12}")?;
        }
    }
    Ok(())
}

fn write_counts<'a>(
    text: &mut String,
    what: &str,
    counts: impl IntoIterator<Item = (&'a String, &'a u64)>,
) -> fmt::Result {
    let mut counts = counts.into_iter().peekable();
    if counts.peek().is_some() {
        text.push_str(what);
        for (name, count) in counts {
            write!(text, "  {name} {count}")?;
        }
        text.push('\n');
    }
    Ok(())
}

/// A rate with three or four digits and a decimal prefix.
struct Rate(f64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, prefix) = match self.0 {
            rate if rate < 999.5 => return f.pad(&format!("{rate:.0}")),
            rate if rate < 999.95e3 => (rate / 1e3, 'k'),
            rate if rate < 999.95e6 => (rate / 1e6, 'M'),
            rate => (rate / 1e9, 'G'),
        };
        f.pad(&format!("{value:.1}{prefix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_prefixes() {
        for (rate, text) in [
            (0.0, "0"),
            (0.4, "0"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (12_345.0, "12.3k"),
            (999_949.0, "999.9k"),
            (999_951.0, "1.0M"),
            (14_880_952.0, "14.9M"),
            (2.5e9, "2.5G"),
        ] {
            assert_eq!(Rate(rate).to_string(), text);
        }
        assert_eq!(format!("{:>6}", Rate(5.0)), "     5");
    }
}
