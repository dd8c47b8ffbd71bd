//! One file for each target.

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

/// A directory that goes with the value, in memory where there is such a place.
fn directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a directory")
}
