//! The file that says that a pair's node has given up its lead, for the node that is started in its place: that one must
//! be as silent (rule R6).
//!
//! It lies beside the file of offsets: a restart of the host empties the directory, as it ends the VM.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::observability::atomic_file;

/// The file of one pair.
#[derive(Debug)]
pub(crate) struct CededFile(PathBuf);

impl CededFile {
    /// The file in `dir` of the pair with this name.
    pub(crate) fn new(dir: &Path, pair: &str) -> Self {
        Self::named(dir, "ceded", pair)
    }

    /// The same of a VM that was given up (`docs/unprotect.md`).
    pub(crate) fn of_renunciation(dir: &Path, pair: &str) -> Self {
        Self::named(dir, "renounced", pair)
    }

    fn named(dir: &Path, what: &str, pair: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = pair.chars().map(plain).collect();
        Self(dir.join(format!("colo-{what}-{name}.json")))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self) -> io::Result<()> {
        atomic_file::write(&self.0, json!({ "given_up": true }).to_string().as_bytes())
    }

    /// Whether it is there, or may be.
    pub(crate) fn is_there(&self) -> bool {
        match fs::symlink_metadata(&self.0) {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Removes it.
    ///
    /// # Errors
    /// When it is still there.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_node_has_ceded_the_next_one_knows_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = || CededFile::new(dir.path(), "web/1");
        assert!(!file().is_there());
        file().write().expect("a writable directory");
        assert!(file().is_there());
        assert!(!CededFile::new(dir.path(), "web/2").is_there());
        assert!(!CededFile::of_renunciation(dir.path(), "web/1").is_there());
        for _ in 0..2 {
            file().remove().expect("it is gone");
            assert!(!file().is_there());
        }
    }

    #[test]
    fn what_cannot_be_looked_at_may_be_there() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let no_directory = dir.path().join("file");
        fs::write(&no_directory, "").expect("a file");
        assert!(CededFile::new(&no_directory, "a").is_there());
    }
}
