//! `coloctl compare`: what a pair of two captured guests would hold, and which checkpoints it would make.
//!
//! In: two captures ([`read`]), of which [`traffic`] makes what both guests sent in one time. [`connections`] knows
//! where S's segments stand in P's streams. [`replay`] sends both through the library's comparator. Out: a
//! [`mod@report`]. docs/compare.md says how the comparison goes on behind a difference.

mod connections;
mod datagrams;
mod edit;
mod policy;
mod read;
mod replay;
mod report;
mod traffic;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use dpdk_colo::config::{ConfigError, PolicyRule};

use connections::Connections;
use policy::Masks;
use read::Place;
use replay::{Outcome, Settings};
use report::{
    Checkpoints, ClockRow, Compared, DifferenceRow, Held, MaskRow, MaskTable, Report, Side, Times,
};
use traffic::{By, Clock, Guest, Mac, Traffic};

/// The nanoseconds from 1970 to 2001: a capture with an earlier time has no wall clock.
const WALL: i128 = 1_000_000_000_000_000_000;
/// Flows that are known at a time, as at a node.
const FLOWS: usize = 65_536;

/// The words of `compare`.
#[derive(Debug, Args)]
pub struct Words {
    /// What the primary's guest sent: pcap or pcapng, taken at its port, or a node's own capture
    #[arg(value_name = "P")]
    primary: PathBuf,
    /// The same of the secondary's; a node's own capture may have both
    #[arg(value_name = "S")]
    secondary: PathBuf,
    /// A node's TOML file with [[policy]] rules
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The pair whose rules count besides those of all pairs
    #[arg(long, value_name = "NAME", requires = "policy")]
    pair: Option<String>,
    /// The guest's MAC address, where a capture does not show which one it is
    #[arg(long, value_name = "MAC")]
    guest: Option<Mac>,
    /// That of the secondary's guest, if it is another one
    #[arg(long, value_name = "MAC")]
    secondary_guest: Option<Mac>,
    /// S's clock less P's in milliseconds (default: estimated)
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    clock_offset: Option<f64>,
    /// What a node's --compare-timeout would be
    #[arg(long, value_name = "MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    compare_timeout: u64,
    /// From the request for a checkpoint to its end
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    checkpoint_time: u64,
    /// What a node's --hold-frames would be
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(128..))]
    hold_frames: u32,
    /// Differences that are shown
    #[arg(long, value_name = "N", default_value_t = 20)]
    differences: usize,
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A capture cannot be used.
    #[error(transparent)]
    Read(#[from] read::ReadError),
    /// A capture does not show the guest.
    #[error(transparent)]
    Guest(#[from] traffic::GuestError),
    /// The policy file.
    #[error("--policy: {}", .0.to_string().trim_start_matches("--config: "))]
    Policy(#[from] ConfigError),
    /// The policy file has no such pair.
    #[error("--pair: {0:?} is no pair of the policy file")]
    Pair(String),
    /// No frame is in both captures.
    #[error(
        "the captures have no frame in common that shows how their clocks differ; if both are of the same traffic, \
         give --clock-offset"
    )]
    NoClock,
    /// They are of different times.
    #[error(
        "the captures have no time in common (S's clock less P's: {0:.3} ms); give --clock-offset if that is wrong"
    )]
    Apart(f64),
    /// The reply cannot be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl CompareError {
    /// Whether the command line is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Policy(_) | Self::Pair(_))
    }
}

/// Compares, and prints what was found.
///
/// # Errors
/// When a capture or the policy cannot be used.
pub fn run(words: &Words, json: bool, out: &mut impl Write) -> Result<(), CompareError> {
    let rules = match &words.policy {
        Some(path) => {
            let pair = words.pair.as_deref();
            let missing = || CompareError::Pair(pair.unwrap_or_default().to_owned());
            policy::read(path, pair)?.ok_or_else(missing)?
        }
        None => Vec::new(),
    };
    let report = report(words, &rules)?;
    match json {
        // A report has plain keys and numbers.
        true => writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&report).unwrap_or_default()
        )?,
        false => write!(out, "{report}")?,
    }
    Ok(())
}

fn load(path: &Path, mac: Option<Mac>, wanted: [Place; 2]) -> Result<(Guest, Side), CompareError> {
    let capture = read::read(path)?;
    let torn = capture.is_torn;
    let guest = traffic::guest(path, capture, mac, wanted)?;
    let side = Side {
        file: path.display().to_string(),
        guest: guest.mac.map(|mac| mac.to_string()),
        output: guest.output.len(),
        input: guest.input.len(),
        torn,
    };
    Ok((guest, side))
}

fn report(words: &Words, rules: &[PolicyRule]) -> Result<Report, CompareError> {
    let (p, primary) = load(&words.primary, words.guest, [Place::P, Place::P])?;
    let mac = words.secondary_guest.or(words.guest);
    let (s, secondary) = load(&words.secondary, mac, [Place::Raw, Place::S])?;
    let clock = match words.clock_offset {
        Some(offset) => Clock {
            offset: (offset * 1e6) as i64,
            by: By::Option,
            frames: 0,
        },
        None => traffic::clock(&p, &s).ok_or(CompareError::NoClock)?,
    };
    let offset_ms = clock.offset as f64 / 1e6;
    let traffic = Traffic::new(p, s, clock.offset);
    if !traffic.overlaps() {
        return Err(CompareError::Apart(offset_ms));
    }
    let settings = Settings {
        timeout: words.compare_timeout * 1_000_000,
        checkpoint: words.checkpoint_time * 1_000_000,
        hold: words.hold_frames as usize,
        flows: FLOWS,
    };
    let runs = Runs {
        connections: Connections::new(&traffic),
        traffic: &traffic,
        rules,
        settings,
    };
    let outcome = runs.run(Masks::AsWritten);
    let seconds = report::ms(traffic.span.1 - traffic.span.0) / 1000.0;
    let shown = outcome.differences.iter().take(words.differences);
    let shown = shown.map(|it| DifferenceRow::of(it, traffic.span.0));
    Ok(Report {
        notes: notes(&traffic, &outcome, [&primary, &secondary]),
        primary,
        secondary,
        clock: ClockRow {
            offset_ms,
            by: clock.by.word(),
            frames: clock.frames,
        },
        checkpoint_ms: words.checkpoint_time as f64,
        compared: Compared {
            seconds,
            p: outcome.taken,
            s: outcome.witnessed,
            exempt: outcome.exempt,
            s_without_p: outcome.strange,
            passed_over: outcome.passed_over,
            waiting_at_end: outcome.held_at_end,
        },
        checkpoints: Checkpoints::of(&outcome, seconds),
        masks: runs.masks(),
        differences: shown.collect(),
        more_differences: outcome.differences.len().saturating_sub(words.differences),
        held: Held {
            most: outcome.held_most,
            equal: Times::of(outcome.equal),
            by_checkpoint: Times::of(outcome.committed),
        },
    })
}

/// The same traffic under several sets of rules.
struct Runs<'a> {
    connections: Connections,
    traffic: &'a Traffic,
    rules: &'a [PolicyRule],
    settings: Settings,
}

impl Runs<'_> {
    fn run(&self, masks: Masks) -> Outcome {
        let origin = Some(self.traffic.origin).filter(|origin| *origin > WALL);
        let rules = policy::rules(self.rules, masks, origin);
        replay::run(self.traffic, self.connections.clone(), rules, self.settings)
    }

    fn masks(&self) -> Option<MaskTable> {
        if self.rules.iter().all(|rule| rule.mask.is_none()) {
            return None;
        }
        let without = self.run(Masks::None).count();
        let masking = self.rules.iter().enumerate();
        let masking = masking.filter_map(|(at, rule)| Some((at, rule, rule.mask.as_ref()?)));
        let rules = masking.map(|(at, rule, mask)| {
            let outcome = self.run(Masks::Alone(at));
            let name = rule.name.as_str();
            let used = outcome.uses.iter().find(|(of, _)| of == name);
            MaskRow {
                rule: name.to_owned(),
                dry_run: mask.dry_run,
                checkpoints: outcome.count(),
                saves: without.cast_signed() - outcome.count().cast_signed(),
                masked_bytes: used.map_or(0, |(_, n)| *n),
            }
        });
        Some(MaskTable {
            without,
            rules: rules.collect(),
            with_all: self.run(Masks::All).count(),
        })
    }
}

fn notes(traffic: &Traffic, outcome: &Outcome, sides: [&Side; 2]) -> Vec<String> {
    let mut notes = Vec::new();
    for side in sides.into_iter().filter(|side| side.torn) {
        notes.push(format!(
            "{} ends within a frame, which is left out",
            side.file
        ));
    }
    if let Some((p, s)) = traffic.other_addresses() {
        notes.push(format!(
            "P sends from {p} and S from {s}: flows of different addresses are not compared with each other"
        ));
    }
    if outcome.strange > 0 {
        notes.push(format!(
            "{} S belong to connections that P's capture does not have, and are left out",
            outcome.strange
        ));
    }
    if outcome.passed_over > 0 {
        notes.push(format!(
            "S went past {} bytes of its streams without having sent them, which count as equal: a checkpoint of the \
             pair that was captured, or loss in the capture",
            outcome.passed_over
        ));
    }
    notes
}
