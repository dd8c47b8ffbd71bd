//! CPUs, as `/sys` has them.

use std::collections::BTreeMap;

use super::Root;
use crate::facts::Cpus;

const CPUS: &str = "/sys/devices/system/cpu";
const NODES: &str = "/sys/devices/system/node";
const CGROUPS: &str = "/sys/fs/cgroup";

/// A list such as `0-3,8`.
pub(super) fn list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse(), last.parse::<u32>()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

pub(super) fn cpus(root: &Root, who: &str) -> Option<Cpus> {
    let online = list(&root.text(&format!("{CPUS}/online"))?);
    let mut isolated = Vec::new();
    for path in [
        format!("{CPUS}/isolated"),
        format!("{CGROUPS}/cpuset.cpus.isolated"),
    ] {
        isolated.extend(list(&root.text(&path).unwrap_or_default()));
    }
    isolated.extend(own_partition(root, who));
    let sibling = |cpu: &u32| {
        let path = format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list");
        Some((*cpu, list(&root.text(&path)?)))
    };
    Some(Cpus {
        siblings: online.iter().filter_map(sibling).collect(),
        numa: numa(root),
        allowed: super::processes::field(root, who, "Cpus_allowed_list").map(|text| list(&text)),
        online,
        isolated,
    })
}

fn numa(root: &Root) -> BTreeMap<u32, u32> {
    let mut numa = BTreeMap::new();
    for name in root.names(NODES) {
        let Some(node) = name.strip_prefix("node").and_then(|n| n.parse().ok()) else {
            continue;
        };
        let cpus = root.text(&format!("{NODES}/{name}/cpulist"));
        numa.extend(
            list(&cpus.unwrap_or_default())
                .into_iter()
                .map(|cpu| (cpu, node)),
        );
    }
    numa
}

/// The CPUs of a cpuset that the node's control group has to itself.
fn own_partition(root: &Root, who: &str) -> Vec<u32> {
    let groups = root
        .text(&format!("/proc/{who}/cgroup"))
        .unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let mut group = own.unwrap_or_default().trim_end_matches('/');
    while !group.is_empty() {
        let of = |file: &str| root.text(&format!("{CGROUPS}{group}/{file}"));
        if matches!(
            of("cpuset.cpus.partition").as_deref(),
            Some("isolated" | "root")
        ) {
            return list(&of("cpuset.cpus.effective").unwrap_or_default());
        }
        group = group.rsplit_once('/').map_or("", |(above, _)| above);
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn lists_have_numbers_and_ranges() {
        for (text, cpus) in [
            ("", vec![]),
            ("3\n", vec![3]),
            ("0-2,5", vec![0, 1, 2, 5]),
            ("x,1", vec![1]),
        ] {
            assert_eq!(list(text), cpus, "{text:?}");
        }
    }
}
