//! What a comparison of two captures shows, as JSON and as text.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use dpdk_colo::Ticks;
use dpdk_colo::compare::REASONS;
use serde::Serialize;

use super::replay::{Difference, Outcome, Window};

/// One guest's capture.
#[derive(Debug, Serialize)]
pub struct Side {
    /// The file.
    pub file: String,
    /// The guest's address; none in a node's own capture.
    pub guest: Option<String>,
    /// Frames that the guest sent, and got.
    pub output: usize,
    /// See above.
    pub input: usize,
    /// The file ends within a frame.
    pub torn: bool,
}

/// S's clock beside P's.
#[derive(Debug, Serialize)]
pub struct ClockRow {
    /// S's clock less P's, in milliseconds.
    pub offset_ms: f64,
    /// How that is known: `option`, `input` or `output`.
    pub by: &'static str,
    /// Frames that show it.
    pub frames: usize,
}

/// What was compared.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// Seconds that both captures have.
    pub seconds: f64,
    /// P in them.
    pub p: u64,
    /// S in them.
    pub s: u64,
    /// P that a rule let out uncompared.
    pub exempt: u64,
    /// S of connections that P's capture does not have.
    pub s_without_p: u64,
    /// Bytes that S went past without having sent them.
    pub passed_over: u64,
    /// P that waited at the end.
    pub waiting_at_end: usize,
}

/// The checkpoints that a pair would make.
#[derive(Debug, Serialize)]
pub struct Checkpoints {
    /// All of them.
    pub count: u64,
    /// In each second.
    pub per_second: f64,
    /// By reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Differences that came while one was on its way.
    pub merged: usize,
}

/// How long P would have been held.
#[derive(Debug, Default, Serialize, PartialEq)]
pub struct Times {
    /// P.
    pub frames: usize,
    /// Those that waited at all.
    pub waited: usize,
    /// Half of all waited no longer, and so on.
    pub p50_ms: f64,
    /// See above.
    pub p90_ms: f64,
    /// See above.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Times {
    /// Of these times, by the nearest rank.
    pub fn of(mut times: Vec<Ticks>) -> Self {
        times.sort_unstable();
        let rank = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).copied().unwrap_or(0)
        };
        Self {
            frames: times.len(),
            waited: times.iter().filter(|time| **time > 0).count(),
            p50_ms: ms(rank(50)),
            p90_ms: ms(rank(90)),
            p99_ms: ms(rank(99)),
            max_ms: ms(rank(100)),
        }
    }
}

/// What is held.
#[derive(Debug, Serialize)]
pub struct Held {
    /// P that leave because S has sent the same.
    pub equal: Times,
    /// P that leave by a checkpoint.
    pub by_checkpoint: Times,
    /// Most at a time.
    pub most: u64,
}

/// What a mask rule would save.
#[derive(Debug, Serialize)]
pub struct MaskRow {
    /// The rule.
    pub rule: String,
    /// It is written with `dry-run`.
    pub dry_run: bool,
    /// Checkpoints with this mask rule alone.
    pub checkpoints: u64,
    /// How many fewer than without a mask rule.
    pub saves: i64,
    /// Bytes that it masks.
    pub masked_bytes: u64,
}

/// What the mask rules would save.
#[derive(Debug, Serialize)]
pub struct MaskTable {
    /// Checkpoints without a mask rule.
    pub without: u64,
    /// With all of them.
    pub with_all: u64,
    /// Each alone.
    pub rules: Vec<MaskRow>,
}

/// Bytes around the first one that differs.
#[derive(Debug, Serialize)]
struct WindowRow {
    frame_offset: usize,
    lead: usize,
    hex: String,
    ascii: String,
}

impl WindowRow {
    fn of(window: &Window) -> Self {
        let ascii = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        Self {
            frame_offset: window.at - window.lead,
            lead: window.lead,
            hex: window.bytes.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            }),
            ascii: window.bytes.iter().map(ascii).collect(),
        }
    }
}

/// One difference.
#[derive(Debug, Serialize)]
pub struct DifferenceRow {
    at_s: f64,
    reason: &'static str,
    flow: Option<String>,
    stream_offset: Option<u32>,
    checkpoint: bool,
    primary: Option<WindowRow>,
    secondary: Option<WindowRow>,
}

impl DifferenceRow {
    /// Of a difference; the captures' common time begins at `begin`.
    pub fn of(difference: &Difference, begin: Ticks) -> Self {
        let [primary, secondary] = &difference.windows;
        Self {
            at_s: ms(difference.at.saturating_sub(begin)) / 1000.0,
            reason: difference.reason.word(),
            flow: difference.flow.map(|flow| flow.to_string()),
            stream_offset: difference.offset,
            checkpoint: difference.asks,
            primary: primary.as_ref().map(WindowRow::of),
            secondary: secondary.as_ref().map(WindowRow::of),
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// P's capture.
    pub primary: Side,
    /// S's.
    pub secondary: Side,
    /// Their clocks.
    pub clock: ClockRow,
    /// From the request for a checkpoint to its end, as given.
    pub checkpoint_ms: f64,
    /// What was compared.
    pub compared: Compared,
    /// Predicted checkpoints.
    pub checkpoints: Checkpoints,
    /// What is held.
    pub held: Held,
    /// What mask rules save; none without a policy.
    pub masks: Option<MaskTable>,
    /// Differences: the first of them.
    pub differences: Vec<DifferenceRow>,
    /// How many more there were.
    pub more_differences: usize,
    /// For the reader.
    pub notes: Vec<String>,
}

/// Milliseconds of nanoseconds.
pub fn ms(ticks: Ticks) -> f64 {
    ticks as f64 / 1e6
}

impl Checkpoints {
    /// Of what came of a run over this time.
    pub fn of(outcome: &Outcome, seconds: f64) -> Self {
        debug_assert!(outcome.checkpoints.len() <= REASONS);
        let count = outcome.count();
        let reasons = outcome.checkpoints.iter();
        Self {
            count,
            per_second: count as f64 / seconds,
            reasons: reasons.map(|(reason, n)| (reason.word(), *n)).collect(),
            merged: outcome.differences.iter().filter(|it| !it.asks).count(),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} frames", self.file, self.output)?;
        if let Some(mac) = &self.guest {
            write!(f, " from {mac}")?;
        }
        write!(f, ", {} to it", self.input)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>8} {:>8} {:>10.3} {:>10.3} {:>10.3} {:>10.3}",
            self.frames, self.waited, self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms
        )
    }
}

impl fmt::Display for WindowRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, behind) = self.ascii.split_at(self.lead.min(self.ascii.len()));
        let cut = (2 * self.lead).min(self.hex.len());
        let (hex_before, hex_behind) = self.hex.split_at(cut);
        write!(f, "{before}[{behind}]  {hex_before}[{hex_behind}]")
    }
}

impl fmt::Display for DifferenceRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:>10.3} s  {}", self.at_s, self.reason)?;
        if let Some(flow) = &self.flow {
            write!(f, "  {flow}")?;
        }
        if let Some(offset) = self.stream_offset {
            write!(f, "  byte {offset} of the stream")?;
        }
        if !self.checkpoint {
            f.write_str("  (a checkpoint was on its way)")?;
        }
        writeln!(f)?;
        for (side, window) in [("P", &self.primary), ("S", &self.secondary)] {
            if let Some(window) = window {
                writeln!(f, "      {side} at {:>5}: {window}", window.frame_offset)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "P  {}\nS  {}", self.primary, self.secondary)?;
        let clock = &self.clock;
        let how = match clock.by {
            "option" => "as given".to_owned(),
            by => format!("estimated from {} frames of {by}", clock.frames),
        };
        writeln!(f, "S's clock less P's: {:.3} ms, {how}", clock.offset_ms)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let compared = &self.compared;
        writeln!(
            f,
            "compared: {} P and {} S in {:.3} s; {} P by a rule uncompared, {} waiting at the end",
            compared.p, compared.s, compared.seconds, compared.exempt, compared.waiting_at_end
        )?;
        let made = &self.checkpoints;
        write!(
            f,
            "\ncheckpoints: {}, {:.3} a second (each {} ms)",
            made.count, made.per_second, self.checkpoint_ms
        )?;
        for (reason, n) in &made.reasons {
            write!(f, "; {reason} {n}")?;
        }
        writeln!(
            f,
            "\n\nheld           P   waited     p50 ms     p90 ms     p99 ms     max ms"
        )?;
        writeln!(f, "equal   {}", self.held.equal)?;
        writeln!(f, "commit  {}", self.held.by_checkpoint)?;
        writeln!(f, "at most {} at a time", self.held.most)?;
        if let Some(masks) = &self.masks {
            writeln!(
                f,
                "\nmask rules: {} checkpoints without, {} with all of them",
                masks.without, masks.with_all
            )?;
            for row in &masks.rules {
                writeln!(
                    f,
                    "  {} alone: {} checkpoints, saves {}, masks {} bytes{}",
                    row.rule,
                    row.checkpoints,
                    row.saves,
                    row.masked_bytes,
                    if row.dry_run {
                        " (dry-run in the file)"
                    } else {
                        ""
                    }
                )?;
            }
        }
        if !self.differences.is_empty() {
            writeln!(f, "\ndifferences:")?;
        }
        for row in &self.differences {
            write!(f, "{row}")?;
        }
        if self.more_differences > 0 {
            writeln!(f, "  and {} more", self.more_differences)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = Times::of((1..=100).map(|n| n * 1_000_000).collect());
        assert_eq!(
            (times.p50_ms, times.p90_ms, times.p99_ms, times.max_ms),
            (50.0, 90.0, 99.0, 100.0)
        );
        assert_eq!(Times::of(Vec::new()), Times::default());
        let few = Times::of(vec![0, 0, 3_000_000]);
        assert_eq!((few.waited, few.p50_ms, few.p90_ms), (1, 0.0, 3.0));
    }
}
