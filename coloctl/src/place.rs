//! Where a node's control socket is.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;

use crate::client;

/// Its name in a runtime directory (`control::SOCKET` of the node).
const SOCKET: &str = "colo-control.sock";
const ROOT: u32 = 0;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why no socket was chosen.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// No node runs, as far as can be seen.
    #[error(
        "no node runs: there is no {SOCKET} below EAL's runtime directories; give --control PATH if the node has one \
         elsewhere"
    )]
    Nowhere,
    /// One may run where this user cannot look.
    #[error(
        "this user may not look into {0:?}, where a node may run; ask as the node's user or as root, or start the node \
         with --control PATH and --control-group GROUP, and name PATH"
    )]
    Closed(PathBuf),
    /// One may run where nobody can look.
    #[error("cannot look into {path:?}, where a node may run: {source}")]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else may have made it.
    #[error(
        "{0:?} may be anybody's: it and the directories above it have to be this user's or root's, and nobody else's to \
         write; name it with --control PATH if you know whose it is"
    )]
    Foreign(PathBuf),
    /// Several nodes run, or have run.
    #[error("there are several control sockets; choose one with --file-prefix PREFIX or --control PATH: {}", list(.0))]
    Several(Vec<PathBuf>),
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

/// The name that the packaged unit gives a node's socket, in the instance's runtime directory.
const UNIT_SOCKET: &str = "control.sock";

/// A directory that has one directory for each node, with the node's socket in it.
#[derive(Clone, Debug)]
struct Base {
    path: PathBuf,
    socket: &'static str,
    /// Only root, or the service that this program is part of, can make anything there.
    trusted: bool,
}

/// The socket that the options name, or the only one that there is.
pub fn find(path: Option<&Path>, prefix: Option<&str>) -> Result<PathBuf, PlaceError> {
    match path {
        Some(path) => Ok(path.to_owned()),
        None => only(&bases(), prefix, geteuid().as_raw()),
    }
}

/// Where EAL looks itself: in a service's runtime directory, in root's, in a user's, and in anybody's. Besides, where
/// services have theirs that are called as the program is.
fn bases() -> Vec<Base> {
    let below = |path: PathBuf, trusted| Base {
        path: path.join("dpdk"),
        socket: SOCKET,
        trusted,
    };
    let own = env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    let own: Vec<PathBuf> = env::split_paths(&own)
        .filter(|dir| dir.is_absolute())
        .collect();
    let services = Path::new("/run/dpdk-colo");
    let instances = fs::read_dir(services).into_iter().flatten();
    let instances = instances.filter_map(Result::ok).map(|entry| entry.path());
    let users = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let users = users.filter(|dir| dir.is_absolute());
    let mut bases: Vec<Base> = own
        .into_iter()
        .chain([PathBuf::from("/var/run"), services.to_owned()])
        .chain(instances)
        .map(|dir| below(dir, true))
        .chain(users.map(|dir| below(dir, false)))
        .chain([below(PathBuf::from("/tmp"), false)])
        .collect();
    bases.push(Base {
        path: services.to_owned(),
        socket: UNIT_SOCKET,
        trusted: true,
    });
    // A service's own directory is one of them, too.
    let mut seen = Vec::new();
    bases.retain(|base| {
        let it = (base.path.clone(), base.socket);
        let is_new = !seen.contains(&it);
        seen.push(it);
        is_new
    });
    bases
}

/// What a directory that cannot be looked into hides; nothing where there is no such directory.
fn hidden(path: &Path, source: io::Error) -> Option<PlaceError> {
    match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => None,
        ErrorKind::PermissionDenied => Some(PlaceError::Closed(path.to_owned())),
        _ => Some(PlaceError::Unreadable {
            path: path.to_owned(),
            source,
        }),
    }
}

fn directories(base: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(base)?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Whether nobody but root and this user can have made a socket and the directories above it, or can replace them.
fn is_safe(base: &Path, dir: &Path, socket: &Path, own: u32) -> bool {
    let is_ours = |path: &Path| {
        let found = fs::symlink_metadata(path).ok()?;
        let ours = found.uid() == own || found.uid() == ROOT;
        ours.then_some(found)
    };
    let is_closed = |path: &Path| {
        is_ours(path).is_some_and(|found| found.is_dir() && found.mode() & WRITABLE_BY_OTHERS == 0)
    };
    let is_socket = is_ours(socket).is_some_and(|found| found.file_type().is_socket());
    is_closed(base) && is_closed(dir) && is_socket
}

fn only(bases: &[Base], prefix: Option<&str>, own: u32) -> Result<PathBuf, PlaceError> {
    let (mut found, mut unseen) = (Vec::new(), None);
    for base in bases {
        let dirs = match prefix {
            Some(prefix) => Ok(vec![base.path.join(prefix)]),
            None => directories(&base.path),
        };
        let dirs = dirs.unwrap_or_else(|error| {
            unseen = unseen.take().or_else(|| hidden(&base.path, error));
            Vec::new()
        });
        for dir in dirs {
            let socket = dir.join(base.socket);
            match fs::symlink_metadata(&socket) {
                Ok(_) if base.trusted || is_safe(&base.path, &dir, &socket, own) => {
                    found.push(socket);
                }
                Ok(_) => unseen = unseen.or(Some(PlaceError::Foreign(socket))),
                Err(error) => unseen = unseen.or_else(|| hidden(&dir, error)),
            }
        }
    }
    found.sort();
    if found.len() > 1 {
        // A node that was killed leaves its file.
        found.retain(|socket| is_alive(socket));
    }
    match found.len() {
        0 => Err(unseen.unwrap_or(PlaceError::Nowhere)),
        1 => Ok(found.remove(0)),
        _ => Err(PlaceError::Several(found)),
    }
}

/// Whether somebody may listen there.
fn is_alive(socket: &Path) -> bool {
    let refused = client::open(socket, Duration::ZERO).err();
    refused.is_none_or(|error| error.kind() != ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    const TRUSTED: bool = true;

    fn base(path: &Path, trusted: bool) -> Base {
        Base {
            path: path.to_owned(),
            socket: SOCKET,
            trusted,
        }
    }

    fn own() -> u32 {
        geteuid().as_raw()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("the owner may");
    }

    #[test]
    fn the_socket_of_a_packaged_unit_is_found_by_its_instance() {
        let dir = tempfile::tempdir().expect("a directory");
        let unit = dir.path().join("vm1");
        fs::create_dir(&unit).expect("a directory");
        let _node = UnixListener::bind(unit.join(UNIT_SOCKET)).expect("a socket");
        let bases = [Base {
            socket: UNIT_SOCKET,
            ..base(dir.path(), TRUSTED)
        }];
        for prefix in [None, Some("vm1")] {
            let found = only(&bases, prefix, own()).expect("it is there");
            assert_eq!(found, unit.join(UNIT_SOCKET));
        }
        assert!(only(&bases, Some("vm2"), own()).is_err());
    }

    #[test]
    fn the_only_socket_is_found_and_one_of_several_is_chosen_by_its_prefix() {
        let dir = tempfile::tempdir().expect("a directory");
        let bases = [dir.path().to_owned(), dir.path().join("missing")];
        let bases = bases.map(|path| base(&path, TRUSTED));
        let only = |prefix| only(&bases, prefix, own());
        let make = |name: &str| {
            let dir = dir.path().join(name);
            fs::create_dir(&dir).expect("a directory");
            dir.join(SOCKET)
        };
        make("empty");
        assert!(matches!(only(None), Err(PlaceError::Nowhere)));
        let first = make("p");
        let _node = UnixListener::bind(&first).expect("a socket");
        assert_eq!(only(None).expect("the only one"), first);
        let second = make("s");
        drop(UnixListener::bind(&second).expect("a socket"));
        let found = only(None).expect("the only one with a node");
        assert_eq!(found, first);
        fs::remove_file(&second).expect("it is stale");
        let _other = UnixListener::bind(&second).expect("a socket");
        let error = only(None).expect_err("which?");
        assert!(error.to_string().contains("--control PATH"), "{error}");
        assert_eq!(only(Some("s")).expect("it is named"), second);
        assert!(matches!(only(Some("x")), Err(PlaceError::Nowhere)));
        let given = find(Some(Path::new("/x")), None).expect("it is given");
        assert_eq!(given, Path::new("/x"));
    }

    #[test]
    fn what_anybody_may_have_made_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let below = dir.path().join("p");
        fs::create_dir(&below).expect("a directory");
        let socket = below.join(SOCKET);
        let _node = UnixListener::bind(&socket).expect("a socket");
        let bases = [base(dir.path(), !TRUSTED)];
        let is_foreign = |own: u32| matches!(only(&bases, None, own), Err(PlaceError::Foreign(path)) if path == socket);
        let modes = [0o700, 0o755];
        for mode in modes {
            set_mode(&below, mode);
            set_mode(dir.path(), mode);
            assert_eq!(only(&bases, None, own()).expect("it is ours"), socket);
        }
        for open in [dir.path(), &below] {
            for mode in [0o777, 0o1777, 0o775] {
                set_mode(open, mode);
                assert!(is_foreign(own()), "{open:?} {mode:o}");
                set_mode(open, 0o755);
            }
        }
        // What is root's is trusted by all.
        if own() != ROOT {
            assert!(is_foreign(own() + 1));
            return;
        }
        assert_eq!(only(&bases, None, 4711).expect("it is root's"), socket);
        for foreign in [socket.as_path(), &below, dir.path()] {
            std::os::unix::fs::lchown(foreign, Some(4711), None).expect("root may");
            assert!(is_foreign(ROOT), "{foreign:?}");
            assert!(is_foreign(4712), "{foreign:?}");
            std::os::unix::fs::lchown(foreign, Some(ROOT), None).expect("root may");
        }
    }

    #[test]
    fn a_link_to_somebody_s_socket_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let below = dir.path().join("p");
        fs::create_dir(&below).expect("a directory");
        let elsewhere = dir.path().join("elsewhere");
        let _node = UnixListener::bind(&elsewhere).expect("a socket");
        symlink(&elsewhere, below.join(SOCKET)).expect("a link");
        let found = only(&[base(dir.path(), !TRUSTED)], None, own());
        assert!(matches!(found, Err(PlaceError::Foreign(_))), "{found:?}");
    }
}
