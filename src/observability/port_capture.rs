//! A capture of a pair's ports that an operator orders while the node runs: one pcapng file, for people.
//!
//! In go frames; out comes a file whose interfaces are the [`Place`]s, with the wall clock's time. It begins in the
//! middle of things, so the auditor could prove nothing by it, and it has no events. It is bounded and made new.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::capture::Place;
use super::pcapng::Section;
use super::private;

/// Bytes of a block beside the frame and its comment.
const BLOCK: u64 = 40;

/// A file that is being written.
pub struct PortFile {
    path: PathBuf,
    file: File,
    section: Section,
    /// What has to be added to a time of `CLOCK_MONOTONIC`.
    wall: Duration,
    /// Bytes that may still be written.
    left: u64,
    written: PortCapture,
}

/// What was captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCapture {
    /// Frames in the file.
    pub frames: u64,
    /// Its bytes.
    pub bytes: u64,
    /// It has reached its bound, and ended by that.
    pub full: bool,
    /// The disk has failed, and it ended by that.
    pub fault: Option<String>,
}

impl PortFile {
    /// Makes the file, which holds no more than `limit` bytes. `ns` is the time of `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// When there is one, or it cannot be made.
    pub fn create(path: &Path, limit: u64, ns: u64) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            private::make_dir(dir)?;
        }
        let file = private::create(path)?;
        let mut section = Section::new(crate::cli::VERSION);
        for place in Place::ALL {
            section.interface(place.word());
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut file = Self {
            path: path.to_owned(),
            file,
            left: limit.saturating_sub(section.len() as u64),
            section,
            wall: since
                .unwrap_or_default()
                .saturating_sub(Duration::from_nanos(ns)),
            written: PortCapture::default(),
        };
        file.flush();
        Ok(file)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a frame, where there is room for it.
    pub fn frame(&mut self, place: Place, ns: u64, epoch: u32, bytes: &[u8]) {
        if self.is_over() {
            return;
        }
        let comment = format!("epoch {epoch}");
        let padded = |len: usize| len.next_multiple_of(4) as u64;
        let needs = BLOCK + padded(bytes.len()) + padded(comment.len());
        match self.left.checked_sub(needs) {
            Some(left) => self.left = left,
            None => {
                self.written.full = true;
                return;
            }
        }
        let time = UNIX_EPOCH + self.wall + Duration::from_nanos(ns);
        self.section
            .frame(place as u32, time, bytes, bytes.len(), &comment);
        self.written.frames += 1;
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) {
        let bytes = self.section.take();
        match self.file.write_all(&bytes) {
            Ok(()) => self.written.bytes += bytes.len() as u64,
            Err(error) => {
                self.written.fault.get_or_insert(error.to_string());
            }
        }
    }

    /// Whether it takes nothing more.
    pub fn is_over(&self) -> bool {
        self.written.full || self.written.fault.is_some()
    }

    /// What was captured.
    pub fn end(mut self) -> PortCapture {
        self.flush();
        self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_whole_frames_up_to_its_bound() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("made/x.pcapng");
        let limit = 2_000;
        let mut file = PortFile::create(&path, limit, 0).expect("a new file");
        for n in 0..40 {
            file.frame(Place::Out, n, 7, &[0x5a; 61]);
            if n % 3 == 0 {
                file.flush();
            }
        }
        assert!(file.is_over());
        let done = file.end();
        let there = std::fs::read(&path).expect("the file");
        assert_eq!(there.len() as u64, done.bytes);
        assert!(
            done.full && done.bytes <= limit && done.bytes > limit - 200,
            "{done:?}"
        );
        let frames = there.windows(61).filter(|bytes| *bytes == [0x5a; 61]);
        assert_eq!(frames.count() as u64, done.frames);
        assert_eq!(there.len() % 4, 0, "the last block is whole");
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.pcapng");
        std::fs::write(&path, "old").expect("a file");
        let error = PortFile::create(&path, 1 << 20, 0)
            .err()
            .expect("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).expect("it stays"), b"old");
    }

    #[test]
    fn a_disk_that_fails_ends_it() {
        let mut file = PortFile::create(
            &tempfile::tempdir().expect("a directory").path().join("x"),
            1 << 20,
            0,
        )
        .expect("a new file");
        file.file = File::open("/dev/null").expect("one that cannot be written");
        file.frame(Place::P, 1, 1, &[1; 60]);
        file.flush();
        assert!(file.is_over() && file.end().fault.is_some());
    }
}
