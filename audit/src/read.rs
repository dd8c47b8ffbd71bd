//! Reads logs: merges the two files of each run into one order.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use pcap_file::PcapError;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};
use serde::Deserialize;

use crate::certificate::Input;
use crate::hashing::{self, Hashing};
use crate::record::{Body, Event, Place, Record, Start};

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With the node's own end, and with every record.
    Whole,
    /// With the node's death: later records were not written.
    Cut {
        /// The last record.
        after: u64,
    },
    /// Records are missing in the middle: nothing behind them can be judged.
    Gap {
        /// The last record before them.
        after: u64,
    },
}

/// The log of one run of a node.
pub struct Log {
    /// Its name in messages.
    pub name: String,
    /// Who wrote it.
    pub start: Start,
    events: VecDeque<Record>,
    /// The file that they came from.
    input: Option<Input>,
    frames: Frames,
    ahead: Option<Record>,
    last: u64,
    ended: bool,
    lost: bool,
}

enum Frames {
    Memory(VecDeque<Record>),
    File {
        path: PathBuf,
        reader: Box<PcapNgReader<Hashing<File>>>,
    },
}

/// One line of the events.
#[derive(Deserialize)]
struct Line {
    seq: Option<u64>,
    ns: u64,
    #[serde(flatten)]
    event: Event,
}

impl Log {
    /// A log of records that were made in memory, in their order.
    pub fn of_records(name: &str, start: Start, records: Vec<Record>) -> Self {
        let (events, frames): (VecDeque<_>, VecDeque<_>) = records
            .into_iter()
            .partition(|record| matches!(record.body, Body::Event(_)));
        let is = |wanted: &Event| {
            events.iter().any(
                |record: &Record| matches!(&record.body, Body::Event(event) if event == wanted),
            )
        };
        Self {
            name: name.to_owned(),
            start,
            ended: is(&Event::End),
            lost: false,
            events,
            input: None,
            frames: Frames::Memory(frames),
            ahead: None,
            last: 0,
        }
    }

    /// The log whose events are in `path`; its frames are beside it.
    ///
    /// # Errors
    /// When either file cannot be read, or does not begin as a log does.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let text = fs::read_to_string(path).map_err(|source| ReadError::Open {
            path: path.to_owned(),
            source,
        })?;
        let mut log = Self {
            name: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            start: first_line(path, &text)?,
            events: VecDeque::new(),
            input: Some(Input {
                file: path.display().to_string(),
                bytes: text.len() as u64,
                sha256: hashing::of(text.as_bytes()),
            }),
            frames: frames_beside(path)?,
            ahead: None,
            last: 0,
            ended: false,
            lost: false,
        };
        for (number, line) in text.split_inclusive('\n').enumerate().skip(1) {
            if !line.ends_with('\n') {
                // The node died while it wrote.
                break;
            }
            let Line { seq, ns, event } =
                serde_json::from_str(line).map_err(|source| ReadError::Line {
                    path: path.to_owned(),
                    line: number + 1,
                    source,
                })?;
            log.ended |= event == Event::End;
            log.lost |= matches!(event, Event::Gap { .. });
            if let Some(seq) = seq {
                let body = Body::Event(event);
                log.events.push_back(Record { seq, ns, body });
            }
        }
        Ok(log)
    }

    /// The next record, or `None` at the end; see [`Log::ending`].
    ///
    /// # Errors
    /// When the frames cannot be read.
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        if self.ahead.is_none() {
            self.ahead = self.frames.next()?;
        }
        let wanted = self.last + 1;
        let next = if self.events.front().is_some_and(|event| event.seq == wanted) {
            self.events.pop_front()
        } else if self.ahead.as_ref().is_some_and(|frame| frame.seq == wanted) {
            self.ahead.take()
        } else {
            None
        };
        self.last += u64::from(next.is_some());
        Ok(next)
    }

    /// The files that it was read from, each hashed whole.
    ///
    /// # Errors
    /// When the rest of its frames cannot be read.
    pub fn close(self) -> Result<Vec<Input>, ReadError> {
        let frames = match self.frames {
            Frames::Memory(_) => None,
            Frames::File { path, reader } => Some(close(&path, *reader)?),
        };
        Ok(self.input.into_iter().chain(frames).collect())
    }

    /// How the log ends, once [`Log::next_record`] has returned all records.
    pub fn ending(&self) -> Ending {
        let after = self.last;
        let rest = self.ahead.is_some() || !self.events.is_empty();
        if self.ended && !rest {
            Ending::Whole
        } else if self.lost || (self.ended && rest) {
            Ending::Gap { after }
        } else {
            Ending::Cut { after }
        }
    }
}

impl Frames {
    fn next(&mut self) -> Result<Option<Record>, ReadError> {
        let (path, reader) = match self {
            Frames::Memory(records) => return Ok(records.pop_front()),
            Frames::File { path, reader } => (path, reader),
        };
        loop {
            let block = match reader.next_block() {
                None => return Ok(None),
                Some(Ok(Block::EnhancedPacket(block))) => block.into_owned(),
                Some(Ok(_)) => continue,
                // The node died while it wrote.
                Some(Err(PcapError::IoError(error)))
                    if error.kind() == io::ErrorKind::UnexpectedEof =>
                {
                    return Ok(None);
                }
                Some(Err(source)) => {
                    return Err(ReadError::Frames {
                        path: path.clone(),
                        source,
                    });
                }
            };
            return match record(&block, reader.packet_interface(&block)) {
                Some(record) => Ok(Some(record)),
                None => Err(ReadError::Unnumbered { path: path.clone() }),
            };
        }
    }
}

/// The record that a packet block is: its comment is `seq <number> epoch <number>`.
fn record(
    block: &EnhancedPacketBlock<'_>,
    interface: Option<&InterfaceDescriptionBlock<'_>>,
) -> Option<Record> {
    let name = interface?.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfName(name) => Some(name.as_ref()),
        _ => None,
    })?;
    let comment = block.options.iter().find_map(|option| match option {
        EnhancedPacketOption::Comment(text) => Some(text.as_ref()),
        _ => None,
    })?;
    let mut words = comment.split(' ');
    let mut number =
        |key: &str| -> Option<u64> { (words.next()? == key).then(|| words.next()?.parse().ok())? };
    let (seq, epoch) = (number("seq")?, number("epoch")?);
    Some(Record {
        seq,
        ns: u64::try_from(block.timestamp.as_nanos()).ok()?,
        body: Body::Frame {
            place: Place::of_interface(name),
            epoch: u32::try_from(epoch).ok()?,
            bytes: block.data.as_ref().into(),
        },
    })
}

fn close(path: &Path, reader: PcapNgReader<Hashing<File>>) -> Result<Input, ReadError> {
    let (bytes, sha256) = reader
        .into_inner()
        .finish()
        .map_err(|source| ReadError::Open {
            path: path.to_owned(),
            source,
        })?;
    Ok(Input {
        file: path.display().to_string(),
        bytes,
        sha256,
    })
}

fn first_line(path: &Path, text: &str) -> Result<Start, ReadError> {
    let first = text.lines().next().unwrap_or_default();
    match serde_json::from_str(first) {
        Ok(Event::Start(start)) => Ok(start),
        Ok(_) => Err(ReadError::NoStart {
            path: path.to_owned(),
        }),
        Err(source) => Err(ReadError::Line {
            path: path.to_owned(),
            line: 1,
            source,
        }),
    }
}

fn frames_beside(path: &Path) -> Result<Frames, ReadError> {
    let path = path.with_extension("pcapng");
    let file = File::open(&path).map_err(|source| ReadError::Open {
        path: path.clone(),
        source,
    })?;
    match PcapNgReader::new(Hashing::new(file)) {
        Ok(reader) => Ok(Frames::File {
            path,
            reader: Box::new(reader),
        }),
        Err(source) => Err(ReadError::Frames { path, source }),
    }
}

/// The logs of one pair in a directory, as `<pair>-<role>-<n>.<random>.jsonl`, oldest first.
///
/// # Errors
/// When the directory has none, logs of several pairs and none of them named, or one that cannot
/// be read.
pub fn logs(dir: &Path, roles: &[&str], pair: Option<&str>) -> Result<Vec<Log>, ReadError> {
    let open = |source| ReadError::Open {
        path: dir.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(open)? {
        let path = entry.map_err(open)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((stem, number)) = name
            .strip_suffix(".jsonl")
            .and_then(|stem| stem.rsplit_once('-'))
        else {
            continue;
        };
        let (number, _random) = number.split_once('.').unwrap_or((number, ""));
        let (Some((of, role)), Ok(number)) = (stem.rsplit_once('-'), number.parse::<u32>()) else {
            continue;
        };
        if roles.contains(&role) && pair.is_none_or(|pair| pair == of) {
            found.push((of.to_owned(), number, path.clone()));
        }
    }
    found.sort();
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        return Err(ReadError::None {
            dir: dir.to_owned(),
            roles: roles.join(" or "),
        });
    };
    if first.0 != last.0 {
        return Err(ReadError::SeveralPairs {
            dir: dir.to_owned(),
            first: first.0.clone(),
            second: last.0.clone(),
        });
    }
    found.iter().map(|(.., path)| Log::open(path)).collect()
}

/// A log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file or directory cannot be opened or read.
    #[error("cannot read {path:?}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line of the events is not one.
    #[error("{path:?} line {line}: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// The events do not begin with a start.
    #[error("{path:?} line 1: not the start of a log; was it written by `dpdk-colo --capture`?")]
    NoStart {
        /// The file.
        path: PathBuf,
    },
    /// The frames are not pcapng.
    #[error("{path:?}: {source}")]
    Frames {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        source: PcapError,
    },
    /// A frame has no number.
    #[error(
        "{path:?}: a frame without `seq` and `epoch` in its comment; was it written by `dpdk-colo --capture`?"
    )]
    Unnumbered {
        /// The file.
        path: PathBuf,
    },
    /// No log.
    #[error("{dir:?} has no log of a {roles} node; name the directory that --capture named")]
    None {
        /// The directory.
        dir: PathBuf,
        /// The role.
        roles: String,
    },
    /// Logs of several pairs, and none is named.
    #[error("{dir:?} has logs of several pairs ({first}, {second}); choose one with --pair")]
    SeveralPairs {
        /// The directory.
        dir: PathBuf,
        /// One pair.
        first: String,
        /// Another.
        second: String,
    },
}
