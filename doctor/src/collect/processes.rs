//! Processes, as `/proc` has them.

use std::fs;

use super::Root;
use super::cpus::list;
use crate::facts::{PinnedThread, Process};

/// A field of a process's status.
pub(super) fn field(root: &Root, who: &str, name: &str) -> Option<String> {
    let status = root.text(&format!("/proc/{who}/status"))?;
    of_status(&status, name)
}

fn of_status(status: &str, name: &str) -> Option<String> {
    let mut lines = status.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// The effective user of a process, and its groups.
pub(super) fn user(root: &Root, who: &str) -> Option<(u32, Vec<u32>)> {
    let second = |text: String| text.split_whitespace().nth(1)?.parse().ok();
    let user = second(field(root, who, "Uid")?)?;
    let mut groups: Vec<u32> = field(root, who, "Gid")
        .and_then(second)
        .into_iter()
        .collect();
    let more = field(root, who, "Groups").unwrap_or_default();
    groups.extend(
        more.split_whitespace()
            .filter_map(|group| group.parse::<u32>().ok()),
    );
    Some((user, groups))
}

/// Whether two processes are in the same namespace of this kind.
pub(super) fn share(root: &Root, one: &str, other: &str, kind: &str) -> bool {
    let of = |who: &str| fs::read_link(root.path(&format!("/proc/{who}/ns/{kind}"))).ok();
    of(one) == of(other)
}

fn pids(root: &Root) -> impl Iterator<Item = u32> {
    let names = root.names("/proc").into_iter();
    names.filter_map(|name| name.parse().ok())
}

/// The words of a process's command line; none of a thread of the kernel.
fn words(root: &Root, pid: u32) -> Vec<String> {
    let text = root
        .text(&format!("/proc/{pid}/cmdline"))
        .unwrap_or_default();
    let words = text.split('\0').filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// The first process of one of these names.
pub(super) fn named(root: &Root, names: &[&str]) -> Option<String> {
    pids(root)
        .filter_map(|pid| root.text(&format!("/proc/{pid}/comm")))
        .find(|name| names.contains(&name.as_str()))
}

/// Threads of programs that are bound to one CPU.
pub(super) fn pinned(root: &Root) -> Vec<PinnedThread> {
    let mut pinned = Vec::new();
    for pid in pids(root).filter(|pid| !words(root, *pid).is_empty()) {
        for thread in root.names(&format!("/proc/{pid}/task")) {
            let Some(status) = root.text(&format!("/proc/{pid}/task/{thread}/status")) else {
                continue;
            };
            let cpus = of_status(&status, "Cpus_allowed_list").unwrap_or_default();
            if let [cpu] = list(&cpus)[..] {
                pinned.push(PinnedThread {
                    cpu,
                    pid,
                    name: of_status(&status, "Name").unwrap_or_default(),
                });
            }
        }
    }
    pinned
}

/// The QEMU whose command line has one of these paths.
pub(super) fn qemu(root: &Root, paths: &[&str]) -> Option<Process> {
    let names = |word: &String| {
        let mut parts = word.split([',', '=', ':']);
        parts.any(|part| paths.contains(&part))
    };
    let pid = pids(root).find(|pid| {
        let words = words(root, *pid);
        let is_qemu = words.first().is_some_and(|name| name.contains("qemu"));
        is_qemu && words.iter().any(names)
    })?;
    let (user, groups) = user(root, &pid.to_string())?;
    Some(Process { pid, user, groups })
}
