//! Files that are whole or not there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::private;

/// Puts `bytes` in place of what is at `path`, also of a link: a reader sees the old file or the new one, whole.
/// What is neither a file nor a link, such as a pipe or a terminal, is written to as it is, as is all in
/// `/dev`, where `stdout` is a link.
///
/// # Errors
/// When the directory or the file cannot be written; the old file is then as it was.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let found = match path.starts_with("/dev") {
        true => fs::metadata(path),
        false => fs::symlink_metadata(path),
    };
    if found.is_ok_and(|found| !found.is_file() && !found.is_symlink()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let (draft, mut file) = private::create_beside(path)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("summary.json");
        for text in ["one", "two"] {
            write(&path, text.as_bytes()).expect("a writable directory");
            assert_eq!(fs::read_to_string(&path).expect("the file"), text);
        }
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1);
    }

    #[test]
    fn a_link_is_replaced_and_a_device_stays_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "old").expect("a file");
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        write(&link, b"new").expect("a writable directory");
        assert!(!link.is_symlink());
        assert_eq!(fs::read_to_string(&link).expect("the file"), "new");
        assert_eq!(fs::read_to_string(&target).expect("the file"), "old");

        write(Path::new("/dev/null"), b"gone").expect("a device");
        assert!(!Path::new("/dev/null").is_file());
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = write(&dir.path().join("none/summary.json"), b"").expect_err("no directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(write(Path::new("/"), b"").is_err());
    }
}
