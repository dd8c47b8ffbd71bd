//! The offsets of a node that has taken over and the term of its lead, kept in a file for the node that is started in
//! its place: they do not change any more, its VM's old connections cannot do without, and a node that led before must
//! not find itself the later one.
//!
//! The file lies in EAL's runtime directory, which a restart of the host empties, as it ends the VM.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::flow::FlowKey;
use crate::observability::{atomic_file, private};
use crate::rewrite::Offset;

#[derive(Serialize, Deserialize)]
struct Line {
    flow: Vec<u8>,
    offset: Offset,
}

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Saved {
    term: u32,
    offsets: Vec<Line>,
}

/// What a node that has taken over left for the next one.
#[derive(Debug, PartialEq)]
pub(crate) struct Left {
    /// Takeovers before it led.
    pub term: u32,
    /// Its offsets.
    pub offsets: Vec<(FlowKey, Offset)>,
}

/// The file of one pair.
#[derive(Debug)]
pub(crate) struct OffsetFile {
    path: PathBuf,
    collected: Vec<(FlowKey, Offset)>,
}

impl OffsetFile {
    /// The file in `dir` of the pair with this name.
    pub(crate) fn new(dir: &Path, pair: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = pair.chars().map(plain).collect();
        Self {
            path: dir.join(format!("colo-offsets-{name}.json")),
            collected: Vec::new(),
        }
    }

    /// Another one of them.
    pub(crate) fn collect(&mut self, flow: FlowKey, offset: Offset) {
        self.collected.push((flow, offset));
    }

    /// Writes what was collected, and the term of the lead. Returns the number of offsets.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&mut self, term: u32) -> io::Result<usize> {
        let collected = std::mem::take(&mut self.collected);
        let offsets: Vec<Line> = collected
            .iter()
            .map(|(flow, offset)| Line {
                flow: flow.to_bytes().to_vec(),
                offset: *offset,
            })
            .collect();
        let number = offsets.len();
        let saved = Saved { term, offsets };
        atomic_file::write(&self.path, &serde_json::to_vec(&saved)?)?;
        Ok(number)
    }

    /// What a node before this one wrote: the term of its lead and the offsets; nothing if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub(crate) fn read(&self) -> io::Result<Option<Left>> {
        let bytes = match private::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let saved: Saved = serde_json::from_slice(&bytes)?;
        let known = |line: &Line| {
            let flow = FlowKey::from_bytes(line.flow.as_slice().try_into().ok()?)?;
            Some((flow, line.offset))
        };
        Ok(Some(Left {
            term: saved.term,
            offsets: saved.offsets.iter().filter_map(known).collect(),
        }))
    }

    /// The VM is another one: what is in the file does not concern it.
    pub(crate) fn forget(&mut self) {
        self.collected.clear();
        // Most often there is none.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_node_writes_the_next_one_reads() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let flow = FlowKey::tcp(
            "10.0.0.1:80".parse().unwrap(),
            "10.0.0.2:4000".parse().unwrap(),
        );
        let offset = Offset {
            seq: 5,
            timestamp: u32::MAX,
            isn: 7,
        };
        let mut file = OffsetFile::new(dir.path(), "web/1");
        assert_eq!(file.read().unwrap(), None);
        file.collect(flow, offset);
        assert_eq!(file.write(3).unwrap(), 1);
        let mut next = OffsetFile::new(dir.path(), "web/1");
        let left = Left {
            term: 3,
            offsets: vec![(flow, offset)],
        };
        assert_eq!(next.read().unwrap(), Some(left));
        next.forget();
        assert_eq!(next.read().unwrap(), None);
        fs::write(dir.path().join("colo-offsets-web_1.json"), b"[{}]").unwrap();
        assert!(next.read().is_err());
    }
}
