//! The control socket's file: made with its owner and mode before anybody can connect, and removed at the end.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, chownat, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::{Gid, geteuid};

use crate::config::{ControlPlace, ControlSettings};
use crate::control::SOCKET;
use crate::observability::log::Log;
use crate::observability::private;

/// Connections that may wait for the thread that serves them.
const BACKLOG: i32 = 64;
/// Attempts to lock a path, and the pause between two: another node needs it for a moment only.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
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
pub(crate) struct ControlSocket {
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
    pub(crate) fn wanted(
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
        // Of two nodes that start at once one finds the other's socket, and not a dead one's that it may replace.
        let _turn = lock(path).map_err(refused)?;
        // It gets its name when it has its mode and listens: nobody finds it half made.
        let draft = path.with_file_name(format!(".{}", private::unpredictable()));
        let listener = listen_at(&draft, group).map_err(refused);
        let named = listener.and_then(|listener| {
            give_name(option, &draft, path)?;
            let found = fs::symlink_metadata(path).map_err(refused)?;
            Ok(Self {
                listener,
                path: path.to_owned(),
                file: (found.dev(), found.ino()),
            })
        });
        // It may not have come to be, or have got its name.
        let _ = fs::remove_file(&draft);
        named
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The socket.
    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A node that starts now waits, or has replaced the file. Without the lock the file stays, as a dead one's.
        let Ok(_turn) = lock(&self.path) else {
            return;
        };
        let is_own =
            fs::symlink_metadata(&self.path).is_ok_and(|f| (f.dev(), f.ino()) == self.file);
        if is_own {
            // Where it cannot be removed, the next node replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The right to make or remove a socket, for one process at a time: a locked file beside it, which goes with the right.
struct Turn {
    path: PathBuf,
    _file: OwnedFd,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // It is locked still: who waits for it finds that its name is gone, and makes another one.
        let _ = fs::remove_file(&self.path);
    }
}

/// Keeps other nodes from making or removing the socket at `path`, until it is dropped.
fn lock(path: &Path) -> io::Result<Turn> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".lock");
    let path = path.with_file_name(name);
    for _ in 0..ATTEMPTS {
        if let Some(file) = try_lock(&path)? {
            return Ok(Turn { path, _file: file });
        }
        thread::sleep(PAUSE);
    }
    Err(io::Error::new(
        ErrorKind::TimedOut,
        format!("another process has locked {path:?}"),
    ))
}

/// Locks the file; `None`: another process has it. It is its owner's alone: who could open it could keep a node from
/// starting.
fn try_lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(OWNER))?;
    let found = rustix::fs::fstat(&file)?;
    let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    let by_others = found.st_mode & 0o077 != 0;
    if !is_file || by_others || found.st_uid != geteuid().as_raw() {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            format!(
                "{path:?} is no lock file of this user's own, which nobody else may open; remove it"
            ),
        ));
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    // Who had it before has removed it, perhaps.
    let is_there = fs::symlink_metadata(path)
        .is_ok_and(|it| (it.dev(), it.ino()) == (found.st_dev, found.st_ino));
    Ok(is_there.then_some(file))
}

fn listen_at(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file that `bind` makes has the socket's own mode, whatever the umask takes from it.
    fchmod(&socket, Mode::from_raw_mode(OWNER))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    if let Some(group) = group {
        share(path, group)?;
    }
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Gives the file of an own socket to a group. Where the directory is others' to write, its name may be something else's
/// by now: what is changed is what was looked at.
fn share(path: &Path, group: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&file)?;
    let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
    if !is_socket || found.st_uid != geteuid().as_raw() {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "somebody has replaced the socket",
        ));
    }
    chownat(
        &file,
        "",
        None,
        Some(Gid::from_raw(group)),
        AtFlags::EMPTY_PATH,
    )?;
    // The mode of a file that is open as a path alone can be changed by this name of it only.
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::set_permissions(name, Permissions::from_mode(OWNER_AND_GROUP))
}

/// Gives the socket its name, unless something that lives has it. The path is locked.
fn give_name(option: &'static str, draft: &Path, path: &Path) -> Result<(), ControlSocketError> {
    let refused = |source| ControlSocketError::Refused {
        option,
        path: path.to_owned(),
        source,
    };
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        linked => return linked.map_err(refused),
    }
    let found = fs::symlink_metadata(path).map_err(refused)?;
    if !found.file_type().is_socket() {
        let path = path.to_owned();
        return Err(ControlSocketError::NoSocket { option, path });
    }
    match is_dead(path) {
        true => fs::rename(draft, path).map_err(refused),
        false => Err(ControlSocketError::Alive {
            option,
            path: path.to_owned(),
        }),
    }
}

/// Whether nobody listens behind a socket. One whose queue is full is not waited for.
fn is_dead(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connected = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    connected == Err(Errno::CONNREFUSED)
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
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;

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

    #[test]
    fn of_nodes_that_start_at_once_one_has_the_socket() {
        const NODES: usize = 4;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        for round in 0..200 {
            drop(UnixListener::bind(&path).expect("a dead node's socket"));
            let begin = Barrier::new(NODES);
            let start = || {
                begin.wait();
                ControlSocket::open(OPTION, &path, None)
            };
            let started: Vec<_> = thread::scope(|scope| {
                let nodes: Vec<_> = (0..NODES).map(|_| scope.spawn(start)).collect();
                nodes
                    .into_iter()
                    .map(|node| node.join().expect("no panic"))
                    .collect()
            });
            let (owners, others): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
            assert_eq!(owners.len(), 1, "round {round}: {others:?}");
            for other in others {
                let error = other.expect_err("another node has it");
                assert!(matches!(error, ControlSocketError::Alive { .. }), "{error}");
            }
            UnixStream::connect(&path).expect("its owner listens there");
            drop(owners);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_reader_of_the_directory_keeps_no_node_from_starting() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let reader = rustix::fs::open(dir.path(), flags, Mode::empty()).expect("it may read");
        flock(&reader, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
        drop(ControlSocket::open(OPTION, &path, None).expect("a socket"));
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn a_lock_file_is_its_owners_alone_and_no_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let held = lock(&path).expect("nobody has it");
        assert_eq!(mode(&held.path), OWNER);
        assert!(try_lock(&held.path).expect("it is a file").is_none());
        let name = held.path.clone();
        drop(held);
        assert!(!name.exists());
        let refused = || {
            let error = ControlSocket::open(OPTION, &path, None).expect_err("it is no lock");
            fs::remove_file(&name).expect("it is there");
            error.to_string()
        };
        let elsewhere = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &name).expect("a link");
        refused();
        assert!(!elsewhere.exists(), "it was not followed");
        fs::write(&name, "").expect("a file");
        fs::set_permissions(&name, Permissions::from_mode(0o644)).expect("the owner may");
        assert!(refused().contains("no lock file"));
        // A lock that a killed node has left is no lock.
        fs::write(&name, "").expect("a file");
        fs::set_permissions(&name, Permissions::from_mode(OWNER)).expect("the owner may");
        drop(ControlSocket::open(OPTION, &path, None).expect("nobody holds it"));
        assert!(!name.exists());
    }

    #[test]
    fn a_node_whose_queue_is_full_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let _node = ControlSocket::open(OPTION, &path, None).expect("a socket");
        let waiting: Vec<_> = std::iter::repeat_with(|| {
            let flags = SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(&path)?).map(|()| socket)
        })
        .take_while(Result::is_ok)
        .collect();
        assert!(waiting.len() > 1 && !is_dead(&path));
        let error = ControlSocket::open(OPTION, &path, None).expect_err("it lives");
        assert!(matches!(error, ControlSocketError::Alive { .. }), "{error}");
    }

    #[test]
    fn what_has_taken_the_place_of_a_socket_gets_no_group() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&path, b"text").expect("a file");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let was = fs::metadata(&path).expect("it exists");
        for replaced in [&path, &link] {
            let error = share(replaced, was.gid() + 1).expect_err("it is no socket");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
        let is = fs::metadata(&path).expect("it exists");
        assert_eq!((is.gid(), is.mode()), (was.gid(), was.mode()));
    }
}
