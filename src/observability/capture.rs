//! The files of `--capture`: all that a node saw and did, in one order, for `dpdk-colo-audit`.
//!
//! In go frames and [`Note`]s, each with a sequence number that orders them exactly and a time of
//! `CLOCK_MONOTONIC`; out come `<pair>-<role>-<n>.<random>.pcapng`, whose interfaces are the [`Place`]s and
//! whose comments carry number and epoch, and a `.jsonl` of the same name, a line for each note. Nobody can
//! guess the random part. Numbers that are in neither file were lost. `docs/audit.md` describes both.
//! What a directory holds is bounded, the files of earlier runs included ([`Room`]).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::pcapng::Section;
use super::private;
use crate::compare::Reason;
use crate::config::{MaskExtent, MaskRule, PairSettings, PolicyRule, RoleSettings};
use crate::flow::FlowKey;
use crate::protect::{Cause, Migration, QemuEvent, State};

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// What the VM sent, as it was taken to be held or passed on.
    P,
    /// What the SVM sent, with the PVM's numbers: as the primary received it, or as the secondary
    /// sends it over the link.
    S,
    /// What the uplink took.
    Out,
    /// What the VM's ring took.
    In,
    /// What the SVM sent, with its own numbers.
    Raw,
}

impl Place {
    /// All places, in the order of their interfaces.
    pub const ALL: [Place; 5] = [Place::P, Place::S, Place::Out, Place::In, Place::Raw];

    /// The name of the interface.
    pub fn word(self) -> &'static str {
        match self {
            Place::P => "P",
            Place::S => "S",
            Place::Out => "OUT",
            Place::In => "IN",
            Place::Raw => "RAW",
        }
    }
}

/// Something that happened to the pair's state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The guest's ring stopped; all that was taken before belongs to an epoch before this one.
    Fence {
        /// The epoch that begins.
        epoch: u32,
    },
    /// What the monitor said, before the node acts on it.
    Monitor(QemuEvent),
    /// The word for what the node does has changed, or the epoch has.
    State {
        /// The word.
        state: State,
        /// The epoch.
        epoch: u32,
    },
    /// Everything that was held when this epoch began may leave.
    Commit {
        /// The epoch that the commit begins.
        epoch: u32,
    },
    /// The secondary has reported a load, before the node acts on it.
    Loaded {
        /// The report contains what was taken in epochs up to this one, if in any.
        covers: Option<u32>,
    },
    /// Whether the secondary can report loads and is heard has changed.
    Witness {
        /// It can.
        able: bool,
    },
    /// Held frames were dropped because their VM is gone.
    Discarded {
        /// How many, since the node began.
        frames: u64,
    },
    /// A difference was found.
    Divergence {
        /// What is wrong.
        reason: Reason,
        /// Where, if known.
        flow: Option<FlowKey>,
        /// In which epoch.
        epoch: u32,
    },
    /// A checkpoint was asked for.
    Request {
        /// Why.
        cause: Cause,
    },
    /// This node's VM goes on without the other, by somebody's decision and whatever its monitor
    /// says: what it sends leaves uncompared.
    Alone,
    /// A secondary goes on as the primary that its VM has become.
    Takeover,
}

impl Note {
    fn fields(&self) -> Value {
        match self {
            Note::Fence { epoch } => json!({"event": "fence", "epoch": epoch}),
            Note::Monitor(monitor) => said(monitor),
            Note::State { state, epoch } => {
                json!({"event": "state", "state": state.word(), "epoch": epoch})
            }
            Note::Commit { epoch } => json!({"event": "commit", "epoch": epoch}),
            Note::Loaded { covers } => json!({"event": "loaded", "covers": covers}),
            Note::Witness { able } => json!({"event": "witness", "able": able}),
            Note::Discarded { frames } => json!({"event": "discarded", "frames": frames}),
            Note::Divergence {
                reason,
                flow,
                epoch,
            } => json!({
                "event": "divergence",
                "reason": reason.word(),
                "flow": flow.map(|flow| flow.to_string()),
                "epoch": epoch,
            }),
            Note::Request { cause } => json!({"event": "request", "cause": cause.word()}),
            Note::Alone => json!({"event": "alone"}),
            Note::Takeover => json!({"event": "takeover"}),
        }
    }
}

fn said(monitor: &QemuEvent) -> Value {
    match monitor {
        QemuEvent::Connected {
            migration, running, ..
        } => {
            json!({"event": "monitor-connected", "colo": in_colo(migration), "running": running})
        }
        QemuEvent::Disconnected => json!({"event": "monitor-lost"}),
        QemuEvent::Stop => json!({"event": "stop"}),
        QemuEvent::Pass => json!({"event": "pass"}),
        QemuEvent::StoppedFor { load } => json!({"event": "run-state", "colo": load}),
        QemuEvent::Resume => json!({"event": "resume"}),
        QemuEvent::Migration(migration) => {
            json!({"event": "migration", "colo": in_colo(migration)})
        }
        QemuEvent::ColoExit => json!({"event": "colo-exit"}),
        QemuEvent::Barrier {
            stops,
            migration,
            running,
        } => json!({
            "event": "barrier",
            "stops": stops,
            "colo": in_colo(migration),
            "running": running,
        }),
        QemuEvent::Answered { running, .. } => json!({"event": "answered", "running": running}),
        QemuEvent::StartedWithoutMonitor { stops } => {
            json!({"event": "started", "stops": stops, "loaded": true})
        }
    }
}

fn in_colo(migration: &Migration) -> bool {
    *migration == Migration::Colo
}

/// What is left of a bound on the bytes of all captures in a directory; clones share it.
#[derive(Clone, Debug)]
pub struct Room {
    dir: PathBuf,
    limit: u64,
    left: Arc<AtomicU64>,
}

impl Room {
    /// Opens `dir`, whose captures are to have no more than `limit` bytes, making it when it is missing. Those
    /// of earlier runs count.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(dir: &Path, limit: u64) -> Result<Self, CaptureError> {
        let failed = |source| CaptureError::Open {
            path: dir.to_owned(),
            source,
        };
        private::make_dir(dir).map_err(failed)?;
        let mut there = 0u64;
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let extension = Path::new(&entry.file_name())
                .extension()
                .map(OsStr::to_owned);
            if EXTENSIONS
                .iter()
                .any(|one| extension.as_deref() == Some(OsStr::new(one)))
            {
                // Somebody may be removing it.
                let len = entry.metadata().map_or(0, |found| found.len());
                there = there.saturating_add(len);
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            limit,
            left: Arc::new(AtomicU64::new(limit.saturating_sub(there))),
        })
    }

    /// Takes all `bytes` or none.
    fn take(&self, bytes: u64) -> Result<(), CaptureError> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(CaptureError::Full {
                dir: self.dir.clone(),
                limit: self.limit,
            }),
        }
    }
}

/// Of a capture's two files: the frames and the notes.
const EXTENSIONS: [&str; 2] = ["pcapng", "jsonl"];

/// The two files of one run of a pair's node.
pub struct Files {
    frames: Out,
    notes: Out,
    section: Section,
    text: Vec<u8>,
    room: Room,
    /// The time of the last record.
    ns: u64,
}

struct Out {
    path: PathBuf,
    file: File,
}

impl Files {
    /// Makes the files where there is room. Files of earlier runs stay, and numbers go on behind theirs.
    /// `ns` is the time of `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// When a file cannot be made or written, or there is no room; there is then none.
    pub fn create(room: &Room, pair: &PairSettings, ns: u64) -> Result<Self, CaptureError> {
        let stem = format!("{}-{}", pair.name, pair.role.role());
        let number = next_number(&room.dir, &stem).map_err(|source| CaptureError::Open {
            path: room.dir.clone(),
            source,
        })?;
        let stem = format!("{stem}-{number}.{}", private::unpredictable());
        let open = |extension| {
            let path = room.dir.join(format!("{stem}.{extension}"));
            match private::create(&path) {
                Ok(file) => Ok(Out { path, file }),
                Err(source) => Err(CaptureError::Open { path, source }),
            }
        };
        let [frames, notes] = EXTENSIONS;
        let mut section = Section::new(crate::cli::VERSION);
        for place in Place::ALL {
            section.interface(place.word());
        }
        let mut files = Self {
            frames: open(frames)?,
            notes: open(notes)?,
            section,
            text: Vec::new(),
            room: room.clone(),
            ns,
        };
        files.line(&start(pair, ns));
        if let Err(error) = files.flush() {
            for out in [&files.frames, &files.notes] {
                // The first error is the one to report.
                let _ = fs::remove_file(&out.path);
            }
            return Err(error);
        }
        Ok(files)
    }

    /// Adds a frame.
    pub fn frame(&mut self, place: Place, seq: u64, ns: u64, epoch: u32, bytes: &[u8]) {
        self.ns = ns;
        let time = UNIX_EPOCH + Duration::from_nanos(ns);
        let comment = format!("seq {seq} epoch {epoch}");
        self.section
            .frame(place as u32, time, bytes, bytes.len(), &comment);
    }

    /// Adds a note.
    pub fn note(&mut self, seq: u64, ns: u64, note: &Note) {
        let mut fields = note.fields();
        fields["seq"] = seq.into();
        fields["ns"] = ns.into();
        self.line(&fields);
    }

    /// Writes that `lost` records were lost since the node began.
    pub fn lost(&mut self, ns: u64, lost: u64) {
        self.line(&json!({"event": "gap", "ns": ns, "lost": lost}));
    }

    /// Writes that the node ended by itself, after `records` records.
    pub fn end(&mut self, ns: u64, records: u64) {
        self.line(&json!({"event": "end", "seq": records + 1, "ns": ns}));
    }

    /// Hands everything to the system, which keeps it should the process die.
    ///
    /// # Errors
    /// When a file cannot be written, or there is no room; the log then says that records are lost.
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        let frames = self.section.take();
        let bytes = (frames.len() + self.text.len()) as u64;
        if let Err(full) = self.room.take(bytes) {
            // It says that there are more, not how many.
            let gap = json!({"event": "gap", "ns": self.ns, "lost": 1});
            let _ = self.notes.file.write_all(format!("{gap}\n").as_bytes());
            return Err(full);
        }
        for (out, bytes) in [
            (&mut self.frames, &frames[..]),
            (&mut self.notes, &self.text[..]),
        ] {
            out.file
                .write_all(bytes)
                .map_err(|source| CaptureError::Write {
                    path: out.path.clone(),
                    source,
                })?;
        }
        self.text.clear();
        Ok(())
    }

    fn line(&mut self, fields: &Value) {
        self.text.extend_from_slice(fields.to_string().as_bytes());
        self.text.push(b'\n');
    }
}

/// The number behind those of all captures in `dir` whose names begin with `stem`.
fn next_number(dir: &Path, stem: &str) -> io::Result<u32> {
    let mut next = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(stem)?.strip_prefix('-')?.split_once('.'))
            .and_then(|(number, _)| number.parse::<u32>().ok());
        if let Some(number) = number {
            next = next.max(number.saturating_add(1));
        }
    }
    Ok(next)
}

/// The first line: who writes, on which host, under which rules.
fn start(pair: &PairSettings, ns: u64) -> Value {
    let own = matches!(
        pair.role,
        RoleSettings::Compare {
            raw_secondary: true,
            ..
        }
    );
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Two logs have one clock if they were written under one boot of one kernel.
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    json!({
        "event": "start",
        "seq": 0,
        "ns": ns,
        "wall_ns": wall.as_nanos() as u64,
        "host": host.trim(),
        "program": crate::cli::VERSION.trim(),
        "pair": pair.name,
        "vm_id": pair.vm_id,
        "role": pair.role.role().as_str(),
        "numbers": if own { "own-isn" } else { "translated" },
        "policy": pair.policy.iter().map(|it| rule(it, ns)).collect::<Vec<_>>(),
    })
}

fn rule(rule: &PolicyRule, ns: u64) -> Value {
    let mut shown = rule.to_json();
    shown["mask"] = json!(rule.mask.as_ref().map(|it| mask(it, ns)));
    shown
}

/// A mask rule; its end is on the clock of the records, on which it is `ns` now.
fn mask(rule: &MaskRule, ns: u64) -> Value {
    let (most, until) = match rule.extent {
        MaskExtent::Length(length) => (length, None),
        MaskExtent::Until { end, most } => (most, Some(end)),
    };
    let end = |expires: SystemTime| {
        let left = expires
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        ns.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
    };
    json!({
        "after": rule.after,
        "most": most,
        "until": until,
        "dry_run": rule.dry_run,
        "expires_ns": rule.expires.map(end),
    })
}

/// The capture cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file or the directory cannot be made.
    #[error("--capture: cannot make {path:?}: {source}")]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The directory holds as much as it may.
    #[error(
        "--capture: {dir:?} holds the {} MiB of --capture-limit; nothing more is captured for this pair until you \
         move captures away and start again",
        .limit >> 20
    )]
    Full {
        /// The directory.
        dir: PathBuf,
        /// How many bytes that is.
        limit: u64,
    },
    /// A file cannot be written.
    #[error("--capture: cannot write {path:?}: {source}; nothing more is captured for this pair")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
