//! Files, directories and sockets that a node names.

use std::collections::BTreeMap;
use std::fs::{self, FileType};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::{Root, is_path};
use crate::facts::{File, Key, Kind, Node};

pub(super) fn look(root: &Root, node: &Node, files: &mut BTreeMap<String, File>) {
    let mut sockets: Vec<&str> = node.control.as_deref().into_iter().collect();
    let mut paths: Vec<&str> = node.directories.iter().map(String::as_str).collect();
    for pair in &node.pairs {
        let ports = pair.ports.iter().filter_map(|port| port.socket.as_deref());
        sockets.extend(ports.chain(pair.qmp.as_deref()));
        if let Key::File { path, .. } = &pair.key {
            paths.push(path);
        }
    }
    for socket in sockets.into_iter().filter(|socket| is_path(socket)) {
        paths.push(socket);
        paths.extend(
            socket
                .rsplit_once('/')
                .map(|(dir, _)| if dir.is_empty() { "/" } else { dir }),
        );
    }
    for path in paths {
        files.insert(path.to_owned(), file(root, path));
    }
}

fn file(root: &Root, path: &str) -> File {
    match fs::metadata(root.path(path)) {
        Ok(found) => File {
            kind: kind(found.file_type()),
            mode: found.mode() & 0o7777,
            user: found.uid(),
            group: found.gid(),
        },
        Err(error) => File {
            kind: match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => Kind::Missing,
                _ => Kind::Hidden,
            },
            ..File::default()
        },
    }
}

fn kind(of: FileType) -> Kind {
    match () {
        () if of.is_file() => Kind::File,
        () if of.is_dir() => Kind::Directory,
        () if of.is_socket() => Kind::Socket,
        () => Kind::Other,
    }
}
