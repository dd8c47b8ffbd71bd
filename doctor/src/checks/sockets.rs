//! Sockets: their directories, and who may use them.

use super::pairs;
use crate::facts::{Facts, File, Kind, Pair, Port, Seen};
use crate::finding::Findings;

/// Bytes of a unix socket's path at most (`sun_path` without its end).
const PATH_MAX: usize = 107;
const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    for (_, pair, seen) in pairs(facts) {
        for port in &pair.ports {
            if let Some(path) = &port.socket {
                vhost(facts, pair, port, path, &seen, found);
            }
        }
    }
    control(facts, found);
    directories(facts, found);
}

fn directory(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((dir, _)) => dir,
        None => ".",
    }
}

/// Reports a directory in which the node cannot make a socket; whether there is none to report.
fn can_be_made(facts: &Facts, place: &str, path: &str, found: &mut Findings) -> bool {
    if path.len() > PATH_MAX {
        found.error(
            "socket-path-long",
            place,
            format!(
                "{path} has {} bytes, and a socket's path has at most {PATH_MAX}",
                path.len()
            ),
            "choose a shorter path",
        );
        return false;
    }
    let dir = directory(path);
    let Some(file) = facts.host.files.get(dir) else {
        return true;
    };
    if file.kind == Kind::Missing {
        found.error(
            "directory-missing",
            place,
            format!("there is no directory {dir} for the socket {path}"),
            format!("`install -d -m 0750 {dir}`; below /run it needs a file in /etc/tmpfiles.d, or RuntimeDirectory="),
        );
        return false;
    }
    if !node_may(facts, file, WRITE | SEARCH) {
        found.error(
            "directory-rights",
            place,
            format!(
                "the node's user may not make {path}: {dir} has mode {:04o} and user {}",
                file.mode, file.user
            ),
            format!("`chown` {dir} to the node's user, or give its group write access"),
        );
        return false;
    }
    true
}

fn node_may(facts: &Facts, file: &File, bits: u32) -> bool {
    let user = facts.host.user.as_ref();
    user.is_none_or(|(user, groups)| file.lets((*user, groups), bits))
}

fn vhost(facts: &Facts, pair: &Pair, port: &Port, path: &str, seen: &Seen, found: &mut Findings) {
    let place = format!("pair {}: {} {}", pair.name, port.place, port.name);
    let runs = facts.node.as_ref().is_some_and(|node| node.pid.is_some());
    if !runs && port.listens {
        can_be_made(facts, &place, path, found);
        return;
    }
    let Some(file) = facts.host.files.get(path) else {
        return;
    };
    if file.kind != Kind::Socket {
        return;
    }
    // Who connects needs the right to write.
    if port.listens
        && let Some(process) = &seen.process
        && !file.lets((process.user, &process.groups), WRITE)
    {
        found.error(
            "vhost-socket-rights",
            place,
            format!(
                "QEMU (process {}) runs as user {} and may not connect to {path}: mode {:04o}, user {}",
                process.pid, process.user, file.mode, file.user
            ),
            format!(
                "let both be of one group: `chgrp GROUP {path} && chmod g+w {path}`, and UMask=0007 of the node's \
                 unit; or let QEMU listen (server=on) and the node connect (client=1)"
            ),
        );
    }
}

fn control(facts: &Facts, found: &mut Findings) {
    let Some(node) = &facts.node else {
        return;
    };
    let Some(path) = &node.control else {
        return;
    };
    let place = "--control";
    if node.pid.is_none() {
        if can_be_made(facts, place, path, found)
            && let Some(file) = facts.host.files.get(path)
            && !matches!(file.kind, Kind::Missing | Kind::Hidden | Kind::Socket)
        {
            found.error(
                "control-socket-file",
                place,
                format!("{path} is there and is no socket"),
                "remove it, or choose another path",
            );
        }
        return;
    }
    let Some(file) = facts.host.files.get(path) else {
        return;
    };
    if file.kind == Kind::Socket && file.mode & WRITE != 0 {
        found.error(
            "control-socket-rights",
            place,
            format!("{path} has mode {:04o}: every user of this host may order a failover", file.mode),
            format!("`chmod o-rwx {path}`, and find out who changed it: the node makes it with mode 0600 or 0660"),
        );
    }
    if file.kind == Kind::Socket && node.control_group.is_some() {
        let dir = directory(path);
        if let Some(above) = facts.host.files.get(dir)
            && above.mode & (SEARCH << 3 | SEARCH) == 0
        {
            found.warning(
                "control-socket-hidden",
                place,
                format!("its group may use {path}, but {dir} (mode {:04o}) lets only its owner in", above.mode),
                "give --control a path in a directory that the group may enter, such as one below /run",
            );
        }
    }
}

/// Directories of records and captures are made where they are missing; a file in their place is a mistake.
fn directories(facts: &Facts, found: &mut Findings) {
    for dir in facts.node.iter().flat_map(|node| &node.directories) {
        let Some(file) = facts.host.files.get(dir) else {
            continue;
        };
        let place = dir.as_str();
        match file.kind {
            Kind::File | Kind::Socket | Kind::Other => found.error(
                "directory-is-file",
                place,
                "it is no directory",
                "move it away, or name another directory",
            ),
            Kind::Directory if !node_may(facts, file, READ | WRITE | SEARCH) => found.error(
                "directory-rights",
                place,
                format!(
                    "the node's user may not write there: mode {:04o}, user {}",
                    file.mode, file.user
                ),
                "`chown` it to the node's user",
            ),
            _ => {}
        }
    }
}
