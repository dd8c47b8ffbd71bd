//! One file for each target.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tempfile::TempDir;

pub mod captures;
pub mod comparator;
pub mod config;
pub mod handshake;
pub mod link;
pub mod loss;
mod node;
pub mod offsets;
pub mod packets;
pub mod primary;
pub mod qmp;
pub mod rewriter;
pub mod secondary;
mod story;

/// A target: it panics where something is wrong.
pub type Target = fn(&[u8]);

/// What the targets are called, and what they do.
pub const TARGETS: &[(&str, Target)] = &[
    ("captures", captures::run),
    ("comparator", comparator::run),
    ("config", config::run),
    ("handshake", handshake::run),
    ("link", link::run),
    ("loss", loss::run),
    ("offsets", offsets::run),
    ("packets", packets::run),
    ("primary", primary::run),
    ("qmp", qmp::run),
    ("rewriter", rewriter::run),
    ("secondary", secondary::run),
];

/// Runs what needs a directory in this thread's, which is the same each time and goes with the thread. It is in memory
/// where there is such a place.
fn in_directory<T>(run: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static DIRECTORY: TempDir = directory());
    DIRECTORY.with(|directory| run(directory.path()))
}

fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a directory")
}

/// Puts a file of its owner's in the place of one before it.
fn put(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.expect("a file");
}
