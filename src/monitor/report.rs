//! Divergence records: for each divergence a JSON file, and beside it a pcapng file with the frames
//! of both sides.
//!
//! In goes a [`Divergence`], whose frames a control thread has copied out of their mbufs; out come
//! `divergence-<epoch>-<n>.json` and `.pcapng` in the directory of `--report-dir`, the JSON last and
//! whole, so that whoever sees it finds the other. The number of records in a run is bounded, and a
//! disk that fails costs records, never the service.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::headers::Headers;
use super::log::Log;
use super::{atomic_file, pcapng, rfc3339};
use crate::config::Role;

/// Records in one run unless somebody says otherwise.
pub const DEFAULT_LIMIT: u64 = 1000;

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
    limit: u64,
    written: u64,
    next: u64,
}

/// What became of a divergence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its record is in this JSON file.
    Written(PathBuf),
    /// The run has as many records as it may have.
    OverLimit,
}

impl Reports {
    /// Opens `dir` for at most `limit` records, making it when it is missing. Records of earlier
    /// runs stay, and numbers go on behind theirs.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, limit: u64) -> Result<Self, ReportError> {
        let failed = |source| ReportError::Open {
            dir: dir.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(failed)?;
        let mut next = 0;
        for entry in fs::read_dir(dir).map_err(failed)? {
            if let Some(n) = entry.map_err(failed)?.file_name().to_str().and_then(number) {
                next = next.max(n.saturating_add(1));
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            limit,
            written: 0,
            next,
        })
    }

    /// Writes a record, and what hinders it as a line of the log.
    pub fn file(&mut self, divergence: &Divergence, log: &Log) {
        match self.write(divergence) {
            Ok(Outcome::Written(_)) => {}
            Ok(Outcome::OverLimit) => log.warning(
                "report-limit",
                format_args!(
                    "--report-dir: {:?} has {} records of this run; further divergences are only \
                     counted",
                    self.dir, self.limit
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
        if self.written >= self.limit {
            return Ok(Outcome::OverLimit);
        }
        let frames = frames_of(divergence);
        let (stem, capture) = loop {
            let stem = format!("divergence-{}-{}", divergence.epoch, self.next);
            let capture = self.dir.join(format!("{stem}.pcapng"));
            self.next = self.next.saturating_add(1);
            match create(&capture, &frames) {
                Ok(()) => break (stem, capture),
                // Another process writes to the same directory.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    return Err(ReportError::Write {
                        path: capture,
                        source,
                    });
                }
            }
        };
        let path = self.dir.join(format!("{stem}.json"));
        let text = json_of(divergence, &format!("{stem}.pcapng"));
        match atomic_file::write(&path, text.as_bytes()) {
            Ok(()) => {
                self.written += 1;
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

/// The `n` of `divergence-<epoch>-<n>.<extension>`.
fn number(name: &str) -> Option<u64> {
    let (stem, _) = name.strip_prefix("divergence-")?.split_once('.')?;
    stem.split_once('-')?.1.parse().ok()
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
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
