//! Files that nobody else reads, and that are where they seem to be.
//!
//! What a node writes holds its VM's traffic. A file is made new, never through a link that somebody has
//! laid at its name, and is its owner's alone (0600, in directories of 0700). A directory that has the
//! set-group-ID bit names a group: files in it are that group's to read (0640).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;

const OWNER: u32 = 0o600;
const OWNER_AND_GROUP: u32 = 0o640;
const SET_GROUP_ID: u32 = 0o2000;
#[cfg_attr(not(feature = "dpdk"), allow(dead_code))]
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Makes a directory and those above it that are missing; one that exists stays as it is.
///
/// # Errors
/// When the system refuses.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a new file.
///
/// # Errors
/// With [`ErrorKind::AlreadyExists`] where there is anything by its name, also a dangling link.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode_in(path.parent()))
        .open(path)
}

/// Makes a new file beside `path`, with a name that nobody can guess.
///
/// # Errors
/// When the path names no file, or the system refuses.
pub(crate) fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path
        .file_name()
        .ok_or(io::Error::from(ErrorKind::InvalidFilename))?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}", unpredictable()));
    let draft = path.with_file_name(draft);
    let file = create(&draft)?;
    Ok((draft, file))
}

/// A part of a name that nobody can guess: 16 hexadecimal digits.
pub(crate) fn unpredictable() -> String {
    // The keys of its hash come from the operating system.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// Reads a file that this program has written before.
///
/// # Errors
/// Where it is a link or no file, or somebody else's, or others may write to it.
#[cfg_attr(not(feature = "dpdk"), allow(dead_code))]
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)?;
    let found = file.metadata()?;
    let is_ours = found.uid() == geteuid().as_raw();
    if !found.is_file() || !is_ours || found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "it is not this user's own file, which nobody else may write to",
        ));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}

fn mode_in(directory: Option<&Path>) -> u32 {
    let directory = match directory {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let names_group =
        fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & SET_GROUP_ID != 0);
    match names_group {
        true => OWNER_AND_GROUP,
        false => OWNER,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
    }

    #[test]
    fn files_and_directories_are_their_owners_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b");
        make_dir(&deep).expect("directories");
        make_dir(&deep).expect("they stay");
        assert_eq!((mode(&dir.path().join("a")), mode(&deep)), (0o700, 0o700));
        create(&deep.join("file")).expect("a file");
        assert_eq!(mode(&deep.join("file")), OWNER);
        let shared = fs::Permissions::from_mode(0o2750);
        fs::set_permissions(&deep, shared).expect("the owner may");
        create(&deep.join("group")).expect("a file");
        // Where the caller's umask leaves it.
        assert_eq!(mode(&deep.join("group")) | 0o040, OWNER_AND_GROUP);
    }

    #[test]
    fn nothing_goes_through_a_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        symlink(&target, &link).expect("a link");
        let error = create(&link).expect_err("there is a link");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(!target.exists());
        create(&target).expect("a file");
        assert!(read(&link).is_err());
        assert_eq!(read(&target).expect("its own"), b"");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o622)).expect("the owner may");
        let error = read(&target).expect_err("others may write");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_draft_has_another_name_each_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let names: Vec<PathBuf> = (0..20)
            .map(|_| create_beside(&path).expect("a file").0)
            .collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name));
        }
    }
}
