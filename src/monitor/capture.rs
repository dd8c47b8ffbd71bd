//! The files of `--capture`: all that a node saw and did, in one order, for `dpdk-colo-audit`.
//!
//! In go frames and [`Note`]s, each with a sequence number that orders them exactly and a time of
//! `CLOCK_MONOTONIC`; out come `<pair>-<role>-<n>.pcapng`, whose interfaces are the [`Place`]s and
//! whose comments carry number and epoch, and `<pair>-<role>-<n>.jsonl`, a line for each note.
//! Numbers that are in neither file were lost. `docs/audit.md` describes both.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::pcapng::Section;
use crate::compare::Reason;
use crate::config::{PairSettings, PolicyRule, Protocol, RoleSettings};
use crate::flow::FlowKey;
use crate::protect::{Cause, Migration, Monitor, State};

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
    Monitor(Monitor),
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

fn said(monitor: &Monitor) -> Value {
    match monitor {
        Monitor::Connected {
            migration, running, ..
        } => {
            json!({"event": "monitor-connected", "colo": in_colo(migration), "running": running})
        }
        Monitor::Disconnected => json!({"event": "monitor-lost"}),
        Monitor::Stop => json!({"event": "stop"}),
        Monitor::Pass => json!({"event": "pass"}),
        Monitor::StoppedFor { load } => json!({"event": "run-state", "colo": load}),
        Monitor::Resume => json!({"event": "resume"}),
        Monitor::Migration(migration) => {
            json!({"event": "migration", "colo": in_colo(migration)})
        }
        Monitor::ColoExit => json!({"event": "colo-exit"}),
        Monitor::Barrier {
            stops,
            migration,
            running,
        } => json!({
            "event": "barrier",
            "stops": stops,
            "colo": in_colo(migration),
            "running": running,
        }),
        Monitor::Answered { running, .. } => json!({"event": "answered", "running": running}),
        Monitor::Unexplained { stops } => {
            json!({"event": "started", "stops": stops, "loaded": true})
        }
    }
}

fn in_colo(migration: &Migration) -> bool {
    *migration == Migration::Colo
}

/// The two files of one run of a pair's node.
pub struct Files {
    frames: Out,
    notes: Out,
    section: Section,
    text: Vec<u8>,
}

struct Out {
    path: PathBuf,
    file: File,
}

impl Files {
    /// Makes the files in `dir`, which is made when it is missing. Files of earlier runs stay, and
    /// numbers go on behind theirs. `ns` is the time of `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// When a file cannot be made or written.
    pub fn create(dir: &Path, pair: &PairSettings, ns: u64) -> Result<Self, CaptureError> {
        let open = |path: &Path, source| CaptureError::Open {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(|source| open(dir, source))?;
        let stem = format!("{}-{}", pair.name, pair.role.role());
        let mut number = 0u32;
        let notes = loop {
            let path = dir.join(format!("{stem}-{number}.jsonl"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break Out { path, file },
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(open(&path, source)),
            }
        };
        let path = notes.path.with_extension("pcapng");
        let file = File::create(&path).map_err(|source| open(&path, source))?;
        let mut section = Section::new(crate::cli::VERSION);
        for place in Place::ALL {
            section.interface(place.word());
        }
        let mut files = Self {
            frames: Out { path, file },
            notes,
            section,
            text: Vec::new(),
        };
        files.line(&start(pair, ns));
        files.flush()?;
        Ok(files)
    }

    /// Adds a frame.
    pub fn frame(&mut self, place: Place, seq: u64, ns: u64, epoch: u32, bytes: &[u8]) {
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

    /// Says that records were lost, so many since the node began.
    pub fn lost(&mut self, ns: u64, lost: u64) {
        self.line(&json!({"event": "gap", "ns": ns, "lost": lost}));
    }

    /// Says that the node ended by itself, after so many records.
    pub fn end(&mut self, ns: u64, records: u64) {
        self.line(&json!({"event": "end", "seq": records + 1, "ns": ns}));
    }

    /// Hands everything to the system, which keeps it should the process die.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        let frames = self.section.take();
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
        "policy": pair.policy.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn rule(rule: &PolicyRule) -> Value {
    let protocol = match rule.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
        Protocol::Any => "any",
    };
    json!({
        "name": rule.name.as_str(),
        "protocol": protocol,
        "port": rule.port.map(|port| port.get()),
        "prefix": rule.prefix.map(|prefix| prefix.to_string()),
        "vlan": rule.vlan,
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
    /// A file cannot be written.
    #[error("--capture: cannot write {path:?}: {source}; nothing more is captured for this pair")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}
