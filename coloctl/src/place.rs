//! Where a node's control socket is.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Its name in a runtime directory (`control::SOCKET` of the node).
const SOCKET: &str = "colo-control.sock";

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
        "this user may not look into {0:?}; ask as its owner, or give --control PATH of a node with --control-group"
    )]
    Closed(PathBuf),
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

/// The socket that the options name, or the only one that there is.
pub fn find(path: Option<&Path>, prefix: Option<&str>) -> Result<PathBuf, PlaceError> {
    match path {
        Some(path) => Ok(path.to_owned()),
        None => only(&bases(), prefix),
    }
}

/// The directories below which EAL has one directory for each process: root's, a user's, and anybody's.
fn bases() -> Vec<PathBuf> {
    let users = env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("dpdk"));
    [
        Some("/var/run/dpdk".into()),
        users,
        Some("/tmp/dpdk".into()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn only(bases: &[PathBuf], prefix: Option<&str>) -> Result<PathBuf, PlaceError> {
    let dirs = bases.iter().filter_map(|base| fs::read_dir(base).ok());
    let entries = dirs.flatten().filter_map(Result::ok);
    let named = entries
        .map(|entry| entry.path())
        .filter(|dir| prefix.is_none_or(|prefix| dir.file_name().is_some_and(|it| it == prefix)));
    let (mut found, mut closed) = (Vec::new(), None);
    for dir in named {
        let socket = dir.join(SOCKET);
        match fs::symlink_metadata(&socket) {
            Ok(_) => found.push(socket),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => closed = Some(dir),
            Err(_) => {}
        }
    }
    found.sort();
    if found.len() > 1 {
        // A node that was killed leaves its file.
        found.retain(|socket| is_alive(socket));
    }
    match found.len() {
        0 => Err(closed.map_or(PlaceError::Nowhere, PlaceError::Closed)),
        1 => Ok(found.remove(0)),
        _ => Err(PlaceError::Several(found)),
    }
}

/// Whether somebody may listen there.
fn is_alive(socket: &Path) -> bool {
    let refused = UnixStream::connect(socket).err();
    refused.is_none_or(|error| error.kind() != ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_only_socket_is_found_and_one_of_several_is_chosen_by_its_prefix() {
        let base = tempfile::tempdir().expect("a directory");
        let bases = [base.path().to_owned(), base.path().join("missing")];
        let make = |name: &str| {
            let dir = base.path().join(name);
            fs::create_dir(&dir).expect("a directory");
            dir.join(SOCKET)
        };
        make("empty");
        assert!(matches!(only(&bases, None), Err(PlaceError::Nowhere)));
        let first = make("p");
        let _node = UnixListener::bind(&first).expect("a socket");
        assert_eq!(only(&bases, None).expect("the only one"), first);
        let second = make("s");
        drop(UnixListener::bind(&second).expect("a socket"));
        let found = only(&bases, None).expect("the only one with a node");
        assert_eq!(found, first);
        fs::remove_file(&second).expect("it is stale");
        let _other = UnixListener::bind(&second).expect("a socket");
        let error = only(&bases, None).expect_err("which?");
        assert!(error.to_string().contains("--control PATH"), "{error}");
        assert_eq!(only(&bases, Some("s")).expect("it is named"), second);
        assert!(matches!(only(&bases, Some("x")), Err(PlaceError::Nowhere)));
        let given = find(Some(Path::new("/x")), None).expect("it is given");
        assert_eq!(given, Path::new("/x"));
    }
}
