//! The offsets of a node that has taken over, kept in a file for the node that is started in its
//! place: they do not change any more, and its VM's old connections cannot do without.
//!
//! The file lies in EAL's runtime directory, which a restart of the host empties, as it ends the VM.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::flow::FlowKey;
use crate::monitor::{atomic_file, private};
use crate::rewrite::Offset;

#[derive(Serialize, Deserialize)]
struct Line {
    flow: Vec<u8>,
    offset: Offset,
}

/// The file of one pair.
#[derive(Debug)]
pub struct OffsetFile {
    path: PathBuf,
    collected: Vec<(FlowKey, Offset)>,
}

impl OffsetFile {
    /// The file in `dir` of the pair with this name.
    pub fn new(dir: &Path, pair: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = pair.chars().map(plain).collect();
        Self {
            path: dir.join(format!("colo-offsets-{name}.json")),
            collected: Vec::new(),
        }
    }

    /// Another one of them.
    pub fn collect(&mut self, flow: FlowKey, offset: Offset) {
        self.collected.push((flow, offset));
    }

    /// Writes what was collected; gives back how many there were.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self) -> io::Result<usize> {
        let collected = std::mem::take(&mut self.collected);
        let lines: Vec<Line> = collected
            .iter()
            .map(|(flow, offset)| Line {
                flow: flow.to_bytes().to_vec(),
                offset: *offset,
            })
            .collect();
        atomic_file::write(&self.path, &serde_json::to_vec(&lines)?)?;
        Ok(lines.len())
    }

    /// What a node before this one wrote; nothing if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn read(&self) -> io::Result<Vec<(FlowKey, Offset)>> {
        let bytes = match private::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let lines: Vec<Line> = serde_json::from_slice(&bytes)?;
        let known = |line: &Line| {
            let flow = FlowKey::from_bytes(line.flow.as_slice().try_into().ok()?)?;
            Some((flow, line.offset))
        };
        Ok(lines.iter().filter_map(known).collect())
    }

    /// The VM is another one: what is in the file does not concern it.
    pub fn forget(&mut self) {
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
        assert!(file.read().unwrap().is_empty());
        file.collect(flow, offset);
        assert_eq!(file.write().unwrap(), 1);
        let mut next = OffsetFile::new(dir.path(), "web/1");
        assert_eq!(next.read().unwrap(), [(flow, offset)]);
        next.forget();
        assert!(next.read().unwrap().is_empty());
        fs::write(dir.path().join("colo-offsets-web_1.json"), b"[{}]").unwrap();
        assert!(next.read().is_err());
    }
}
