//! Divergence records: for each divergence a JSON file, and beside it a pcapng file with the frames
//! of both sides.
//!
//! In goes a [`Divergence`], whose frames a control thread has copied out of their mbufs; out come
//! `divergence-<epoch>-<n>.<random>.json` and `.pcapng` in the directory of `--report-dir`, the JSON last and whole, so
//! that its reader finds the other file too. Nobody can guess the random part. The number and the bytes of the records
//! in the directory are bounded, those of earlier runs included. A disk that fails costs records, never the service.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::headers::Headers;
use super::log::Log;
use super::summary::RecordSummary;
use super::{atomic_file, pcapng, private, rfc3339};
use crate::config::Role;

/// What a directory holds at most unless somebody says otherwise.
pub const DEFAULT_LIMIT: Limit = Limit {
    records: 1000,
    bytes: 64 << 20,
};
/// How often a full directory is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A bound on a directory of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Records.
    pub records: u64,
    /// Bytes of all their files.
    pub bytes: u64,
}

/// Bytes of a side that a record shows in text.
const WINDOW: usize = 64;
/// Of these, bytes before the first one that differs.
const WINDOW_LEAD: usize = 32;

/// A divergence with what was at hand when it was found.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// When it was found.
    pub time: SystemTime,
    /// The role of this node.
    pub role: Role,
    /// The pair's name.
    pub pair: String,
    /// The pair's id on the link.
    pub vm_id: u16,
    /// The epoch in which it was found.
    pub epoch: u64,
    /// The flow.
    pub flow: String,
    /// The reason, as in the summary.
    pub reason: &'static str,
    /// Offset in the flow's stream of the first byte that differs or is missing; `None` where there
    /// is no stream.
    pub stream_offset: Option<u64>,
    /// The PVM's frame, if there is one.
    pub primary: Option<Capture>,
    /// The SVM's frame, if there is one.
    pub secondary: Option<Capture>,
}

/// A frame of one side.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Its bytes, or the first of them.
    pub bytes: Vec<u8>,
    /// Bytes that it had.
    pub wire_len: usize,
    /// Where its payload begins.
    pub payload_at: usize,
    /// Where the first byte that differs lies, if it lies in this frame; the frame's end where the
    /// other side has more.
    pub differs_at: Option<usize>,
    /// Time since its arrival.
    pub age: Duration,
}

/// The record as it is written.
#[derive(Serialize)]
struct Record<'a> {
    time: String,
    node: &'static str,
    pair: &'a str,
    vm_id: u16,
    epoch: u64,
    flow: &'a str,
    reason: &'static str,
    stream_offset: Option<u64>,
    primary: Option<Side>,
    secondary: Option<Side>,
    pcapng: &'a str,
}

#[derive(Serialize)]
struct Side {
    age_us: f64,
    length: usize,
    captured: usize,
    window: Window,
    headers: Headers,
}

/// Bytes around the first one that differs.
#[derive(Serialize)]
struct Window {
    /// Offset in the frame of the first byte shown.
    frame_offset: usize,
    /// Offset in the stream of the first byte shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_offset: Option<u64>,
    hex: String,
    /// The same with a dot for what is not printable.
    ascii: String,
}

impl Side {
    fn of(capture: &Capture, stream_offset: Option<u64>) -> Self {
        Self {
            age_us: capture.age.as_nanos() as f64 / 1e3,
            length: capture.wire_len,
            captured: capture.bytes.len(),
            window: Window::of(capture, stream_offset),
            headers: Headers::of(&capture.bytes),
        }
    }
}

impl Window {
    fn of(capture: &Capture, stream_offset: Option<u64>) -> Self {
        let len = capture.bytes.len();
        let payload = capture.payload_at.min(len);
        let differs = capture.differs_at.map(|at| at.clamp(payload, len));
        let start = differs.map_or(payload, |at| at.saturating_sub(WINDOW_LEAD).max(payload));
        let shown = &capture.bytes[start..len.min(start + WINDOW)];
        // The byte itself may lie behind what was captured.
        let lead = capture.differs_at.map(|at| at.max(payload) - start);
        Self {
            frame_offset: start,
            stream_offset: stream_offset
                .zip(lead)
                .map(|(offset, lead)| offset.wrapping_sub(lead as u64)),
            hex: shown.iter().map(|byte| format!("{byte:02x}")).collect(),
            ascii: shown
                .iter()
                .map(|byte| match byte {
                    b' '..=b'~' => char::from(*byte),
                    _ => '.',
                })
                .collect(),
        }
    }
}

/// A directory of divergence records.
#[derive(Debug)]
pub struct Reports {
    dir: PathBuf,
    limit: Limit,
    there: There,
    looked: Instant,
    next: u64,
}

/// What lies in a directory.
#[derive(Clone, Copy, Debug, Default)]
struct There {
    records: u64,
    bytes: u64,
    /// Behind the numbers of all records.
    next: u64,
}

impl There {
    fn look(dir: &Path) -> io::Result<Self> {
        let mut there = Self::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                continue;
            };
            // A draft that a killed node has left has a dot in front.
            let Some(n) = number(name.trim_start_matches('.')) else {
                continue;
            };
            there.next = there.next.max(n.saturating_add(1));
            there.records += u64::from(name.ends_with(".json"));
            // Somebody may be removing it.
            there.bytes += entry.metadata().map_or(0, |found| found.len());
        }
        Ok(there)
    }
}

/// What became of a divergence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its record is in this JSON file.
    Written(PathBuf),
    /// The directory holds as much as it may.
    OverLimit,
}

impl Reports {
    /// Opens `dir`, which is to hold no more than `limit`, making it when it is missing. Records of earlier
    /// runs stay and count, and numbers go on behind theirs.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, limit: Limit) -> Result<Self, ReportError> {
        let failed = |source| ReportError::Open {
            dir: dir.to_owned(),
            source,
        };
        private::make_dir(dir).map_err(failed)?;
        let there = There::look(dir).map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
            limit,
            there,
            looked: Instant::now(),
            next: there.next,
        })
    }

    /// Whether there is room for a record of `bytes`. Deleted records make room.
    fn has_room(&mut self, bytes: u64) -> bool {
        let fits = |there: &There| {
            there.records < self.limit.records
                && there.bytes.saturating_add(bytes) <= self.limit.bytes
        };
        if fits(&self.there) {
            return true;
        }
        if self.looked.elapsed() < LOOK_AGAIN {
            return false;
        }
        self.looked = Instant::now();
        let Ok(there) = There::look(&self.dir) else {
            return false;
        };
        self.there = there;
        fits(&there)
    }

    /// Writes a record and counts it, and what hinders it as a line of the log.
    pub fn file(&mut self, divergence: &Divergence, log: &Log, counts: &mut RecordSummary) {
        let written = self.write(divergence);
        match &written {
            Ok(Outcome::Written(_)) => counts.written += 1,
            Ok(Outcome::OverLimit) => counts.over_limit += 1,
            Err(_) => counts.failed += 1,
        }
        match written {
            Ok(Outcome::Written(_)) => {}
            Ok(Outcome::OverLimit) => log.warning(
                "report-limit",
                format_args!(
                    "--report-dir: {:?} holds {} records in {} bytes, of {} in {}; further divergences are only \
                     counted until you move records away",
                    self.dir,
                    self.there.records,
                    self.there.bytes,
                    self.limit.records,
                    self.limit.bytes
                ),
            ),
            Err(error) => log.warning("report", format_args!("{error}")),
        }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// When a file cannot be written; what there was of it is removed.
    pub fn write(&mut self, divergence: &Divergence) -> Result<Outcome, ReportError> {
        let frames = frames_of(divergence);
        let random = private::unpredictable();
        let stem = format!("divergence-{}-{}.{random}", divergence.epoch, self.next);
        let text = json_of(divergence, &format!("{stem}.pcapng"));
        let bytes = (frames.len() + text.len()) as u64;
        if !self.has_room(bytes) {
            return Ok(Outcome::OverLimit);
        }
        self.next = self.next.saturating_add(1);
        let capture = self.dir.join(format!("{stem}.pcapng"));
        if let Err(source) = create(&capture, &frames) {
            return Err(ReportError::Write {
                path: capture,
                source,
            });
        }
        let path = self.dir.join(format!("{stem}.json"));
        match atomic_file::write(&path, text.as_bytes()) {
            Ok(()) => {
                self.there.records += 1;
                self.there.bytes += bytes;
                Ok(Outcome::Written(path))
            }
            Err(source) => {
                // The first error is the one to report.
                let _ = fs::remove_file(&capture);
                Err(ReportError::Write { path, source })
            }
        }
    }
}

/// The `n` of `divergence-<epoch>-<n>.<random>.<extension>`.
fn number(name: &str) -> Option<u64> {
    let (stem, _) = name.strip_prefix("divergence-")?.split_once('.')?;
    stem.split_once('-')?.1.parse().ok()
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private::create(path)?;
    file.write_all(bytes).inspect_err(|_| {
        // The first error is the one to report.
        let _ = fs::remove_file(path);
    })
}

fn json_of(divergence: &Divergence, pcapng: &str) -> String {
    let side = |capture: &Option<Capture>| {
        let capture = capture.as_ref();
        capture.map(|capture| Side::of(capture, divergence.stream_offset))
    };
    let record = Record {
        time: rfc3339::utc(divergence.time),
        node: divergence.role.as_str(),
        pair: &divergence.pair,
        vm_id: divergence.vm_id,
        epoch: divergence.epoch,
        flow: &divergence.flow,
        reason: divergence.reason,
        stream_offset: divergence.stream_offset,
        primary: side(&divergence.primary),
        secondary: side(&divergence.secondary),
        pcapng,
    };
    let mut text =
        serde_json::to_string_pretty(&record).expect("the keys are strings and the numbers finite");
    text.push('\n');
    text
}

fn frames_of(divergence: &Divergence) -> Vec<u8> {
    let mut section = pcapng::Section::new(crate::cli::VERSION);
    let sides = [
        ("primary", "P", &divergence.primary),
        ("secondary", "S", &divergence.secondary),
    ];
    for (name, ..) in sides {
        section.interface(name);
    }
    for (interface, (_, letter, capture)) in (0..).zip(sides) {
        if let Some(capture) = capture {
            let time = divergence.time.checked_sub(capture.age);
            let comment = match capture.differs_at {
                Some(at) => format!("{letter}: {}, byte {at} differs", divergence.reason),
                None => format!("{letter}: {}", divergence.reason),
            };
            section.frame(
                interface,
                time.unwrap_or(divergence.time),
                &capture.bytes,
                capture.wire_len,
                &comment,
            );
        }
    }
    section.into_bytes()
}

/// A record could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The directory cannot be made or read.
    #[error("--report-dir: cannot open {dir:?}: {source}")]
    Open {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("--report-dir: cannot write {path:?}: {source}; the divergence is only counted")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
