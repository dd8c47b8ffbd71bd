//! The control socket's file: made with its owner and mode before anybody can connect, and removed at the end.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::config::{ControlPlace, ControlSettings};
use crate::control::SOCKET;
use crate::observability::log::Log;
use crate::observability::private;

/// Connections that may wait for the thread that serves them.
const BACKLOG: i32 = 64;
/// Attempts to take the place of a file that nobody listens behind.
const ATTEMPTS: u32 = 3;
/// The option that names a control socket.
const OPTION: &str = "--control";
const OWNER: u32 = 0o600;
const OWNER_AND_GROUP: u32 = 0o660;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlSocketError {
    /// Somebody listens there.
    #[error(
        "{option} {path:?}: another process listens there; end it, or give each node a path of its own"
    )]
    Alive {
        /// The option that names it.
        option: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error(
        "{option} {path:?}: there is a file that is no socket; remove it, or name another path"
    )]
    NoSocket {
        /// The option that names it.
        option: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// No such group.
    #[error("--control-group {0}: /etc/group has no such group; give its name or its number")]
    NoGroup(String),
    /// The system refuses.
    #[error(
        "{option} {path:?}: {source}; the directory has to exist, and a path may have 80 bytes"
    )]
    Refused {
        /// The option that names it.
        option: &'static str,
        /// The path.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// A socket that listens, and its file.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl ControlSocket {
    /// The socket that the settings want, if they want one. That the default cannot be made costs a warning.
    ///
    /// # Errors
    /// When the socket that they name cannot be made.
    pub fn wanted(
        settings: &ControlSettings,
        runtime_dir: &Path,
        log: &Log,
    ) -> Result<Option<Self>, ControlSocketError> {
        let group = settings.group.as_deref();
        match &settings.place {
            ControlPlace::None => Ok(None),
            ControlPlace::At(path) => Self::open(OPTION, path, group).map(Some),
            ControlPlace::Runtime => match Self::open(OPTION, &runtime_dir.join(SOCKET), group) {
                Ok(socket) => Ok(Some(socket)),
                Err(error @ ControlSocketError::NoGroup(_)) => Err(error),
                Err(error) => {
                    log.alert(format_args!("coloctl cannot reach this node: {error}"));
                    Ok(None)
                }
            },
        }
    }

    /// Listens at `path`, which `option` names, where the file of a process that is gone is replaced.
    pub(super) fn open(
        option: &'static str,
        path: &Path,
        group: Option<&str>,
    ) -> Result<Self, ControlSocketError> {
        let group = group.map(group_id).transpose()?;
        let refused = |source| ControlSocketError::Refused {
            option,
            path: path.to_owned(),
            source,
        };
        // It gets its name when it has its mode and listens: nobody finds it half made.
        let draft = path.with_file_name(format!(".{}", private::unpredictable()));
        let listener = listen_at(&draft, group).map_err(refused);
        let linked = listener.and_then(|listener| {
            give_name(option, &draft, path)?;
            let found = fs::symlink_metadata(path).map_err(refused)?;
            Ok(Self {
                listener,
                path: path.to_owned(),
                file: (found.dev(), found.ino()),
            })
        });
        // It may not have come to be.
        let _ = fs::remove_file(&draft);
        linked
    }

    /// The socket.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let is_own =
            fs::symlink_metadata(&self.path).is_ok_and(|f| (f.dev(), f.ino()) == self.file);
        if is_own {
            // Where it cannot be removed, the next node replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen_at(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let mode = match group {
        None => OWNER,
        Some(group) => {
            chown(path, None, Some(group))?;
            OWNER_AND_GROUP
        }
    };
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Gives the socket its name, unless something that lives has it.
fn give_name(option: &'static str, draft: &Path, path: &Path) -> Result<(), ControlSocketError> {
    let place = || path.to_owned();
    let refused = |source| ControlSocketError::Refused {
        option,
        path: place(),
        source,
    };
    let alive = || ControlSocketError::Alive {
        option,
        path: place(),
    };
    for _ in 0..ATTEMPTS {
        match fs::hard_link(draft, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => return linked.map_err(refused),
        }
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found.map_err(refused)?,
        };
        if !found.file_type().is_socket() {
            return Err(ControlSocketError::NoSocket {
                option,
                path: place(),
            });
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(refused)?;
            }
            _ => return Err(alive()),
        }
    }
    Err(alive())
}

/// A group's number, by its name or the number itself.
fn group_id(group: &str) -> Result<u32, ControlSocketError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    // Each line has name, password, number and members.
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(group)).then_some(parts.nth(1))?
    });
    number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| ControlSocketError::NoGroup(group.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
    }

    #[test]
    fn a_socket_is_its_owners_and_goes_with_the_node() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let socket = ControlSocket::open(OPTION, &path, None).expect("a socket");
        assert_eq!(mode(&path), OWNER);
        UnixStream::connect(&path).expect("somebody listens");
        let error = ControlSocket::open(OPTION, &path, None).expect_err("it is alive");
        assert!(matches!(error, ControlSocketError::Alive { .. }), "{error}");
        drop(socket);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        let number = fs::metadata(dir.path())
            .expect("it exists")
            .gid()
            .to_string();
        let socket = ControlSocket::open(OPTION, &path, Some(&number)).expect("a socket");
        assert_eq!(mode(&path), OWNER_AND_GROUP);
        drop(socket);
        let error =
            ControlSocket::open(OPTION, &path, Some("no such group")).expect_err("no group");
        assert!(matches!(error, ControlSocketError::NoGroup(_)), "{error}");
    }

    #[test]
    fn a_dead_file_is_replaced_and_what_is_no_socket_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).expect("a socket"));
        let socket = ControlSocket::open(OPTION, &path, None).expect("it is stale");
        // Another node has the name by now.
        fs::remove_file(&path).expect("the owner may");
        let next = ControlSocket::open(OPTION, &path, None).expect("a free name");
        drop(socket);
        UnixStream::connect(&path).expect("the other's stays");
        drop(next);
        fs::write(&path, b"text").expect("a file");
        let error = ControlSocket::open(OPTION, &path, None).expect_err("a file is there");
        assert!(
            matches!(error, ControlSocketError::NoSocket { .. }),
            "{error}"
        );
        assert_eq!(fs::read(&path).expect("it stays"), b"text");
        let far = dir.path().join("missing/s");
        let error = ControlSocket::open(OPTION, &far, None).expect_err("no directory");
        assert!(error.to_string().contains("missing/s"), "{error}");
    }
}
