//! Whom a node believes on the link, and the files that the keys are in.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::process::geteuid;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::link::secure::{KeyError, KeyRing};

/// Group may not write, others may do nothing.
const TOO_OPEN: u32 = 0o027;
/// Longest key file.
const LONGEST: u64 = 65_536;
/// What the standard library reads into to see that a file has ended.
const PROBE: usize = 64;

/// Which frames of the link count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum LinkKey {
    /// All: the operator declares the link trusted.
    Trusted,
    /// Those of who has the key in this file.
    File(PathBuf),
}

impl From<String> for LinkKey {
    fn from(word: String) -> Self {
        match word.as_str() {
            "none" => Self::Trusted,
            _ => Self::File(word.into()),
        }
    }
}

impl FromStr for LinkKey {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        Ok(word.to_owned().into())
    }
}

/// Why a key file gives no key, or is not made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("--link-key {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner and its group may read it, or others than its owner write.
    #[error(
        "--link-key {path:?}: mode {mode:04o}: only its owner may write to it, and only its owner and group read it; \
         `chmod 600` it, and make a new key if somebody may have read it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is neither this user's nor root's.
    #[error("--link-key {path:?}: it belongs to user {owner}, neither this one nor root")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// It is no file.
    #[error("--link-key {path:?}: not a regular file")]
    Kind {
        /// What is not.
        path: PathBuf,
    },
    /// It does not hold keys.
    #[error("--link-key {path:?}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// A new one cannot be made.
    #[error("--make-link-key {path:?}: {source}")]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(io::Error),
}

/// Random bytes of the operating system's.
///
/// # Errors
/// When it has none.
pub fn random<const N: usize>() -> Result<[u8; N], KeyFileError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        KeyFileError::Random(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::other(error.to_string()),
        })
    })?;
    Ok(bytes)
}

/// Reads the keys of a file.
///
/// # Errors
/// When it cannot be read, others may read it or write to it, or it does not hold one or two keys.
pub fn read(path: &Path) -> Result<KeyRing, KeyFileError> {
    let failed = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(KeyFileError::Kind {
            path: path.to_owned(),
        });
    }
    if found.uid() != geteuid().as_raw() && found.uid() != 0 {
        return Err(KeyFileError::Owner {
            path: path.to_owned(),
            owner: found.uid(),
        });
    }
    if found.mode() & TOO_OPEN != 0 {
        return Err(KeyFileError::Open {
            path: path.to_owned(),
            mode: found.mode() & 0o7777,
        });
    }
    // A text that grew would leave a copy where it was.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize + PROBE));
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    KeyRing::parse(&text).map_err(|source| KeyFileError::Content {
        path: path.to_owned(),
        source,
    })
}

/// Makes a file with a new key, its owner's alone.
///
/// # Errors
/// When there is anything by that name, or the system refuses.
pub fn make(path: &Path) -> Result<(), KeyFileError> {
    let key = Zeroizing::new(random()?);
    let text = KeyRing::text(&key);
    let failed = |source| KeyFileError::Make {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        make(&path).expect("a key");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o7777, 0o600);
        let ring = read(&path).expect("its own key");
        assert!(matches!(make(&path), Err(KeyFileError::Make { .. })));
        assert_eq!(read(&path).expect("the same"), ring);
        let other = dir.path().join("other");
        make(&other).expect("a key");
        assert_ne!(read(&other).expect("a key"), ring);
        let dangling = dir.path().join("dangling");
        symlink(dir.path().join("nowhere"), &dangling).expect("a link");
        assert!(make(&dangling).is_err());
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        make(&path).expect("a key");
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o660, false),
            (0o644, false),
            (0o604, false),
            (0o602, false),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("the owner may");
            assert_eq!(read(&path).is_ok(), good, "{mode:o}");
        }
        assert!(matches!(read(dir.path()), Err(KeyFileError::Kind { .. })));
        let gone = read(&dir.path().join("gone"))
            .expect_err("no file")
            .to_string();
        assert!(
            gone.starts_with("--link-key \"/") && !gone.contains('\n'),
            "{gone}"
        );
    }
}
