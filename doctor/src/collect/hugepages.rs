//! Hugepages, reserved and mounted.

use std::collections::BTreeMap;

use super::Root;
use crate::facts::{HugePool, Mount};

const POOLS: &str = "/sys/kernel/mm/hugepages";
const NODES: &str = "/sys/devices/system/node";

/// `None` on a kernel that has none.
pub(super) fn pools(root: &Root) -> Option<Vec<HugePool>> {
    let names = root.names(POOLS);
    let mut pools = Vec::new();
    for name in &names {
        let kib = name
            .strip_prefix("hugepages-")
            .and_then(|it| it.strip_suffix("kB"));
        let Some(kib) = kib.and_then(|kib| kib.parse::<u64>().ok()) else {
            continue;
        };
        let count = |file: &str| root.number(&format!("{POOLS}/{name}/{file}")).unwrap_or(0);
        pools.push(HugePool {
            page: kib << 10,
            total: count("nr_hugepages"),
            free: count("free_hugepages"),
            free_of_node: of_nodes(root, name),
        });
    }
    (!pools.is_empty()).then_some(pools)
}

fn of_nodes(root: &Root, pool: &str) -> BTreeMap<u32, u64> {
    let nodes = root.names(NODES).into_iter();
    let of_node = |name: String| {
        let number = name.strip_prefix("node")?.parse().ok()?;
        let free = root.number(&format!("{NODES}/{name}/hugepages/{pool}/free_hugepages"))?;
        Some((number, free))
    };
    nodes.filter_map(of_node).collect()
}

pub(super) fn mounts(root: &Root) -> Vec<Mount> {
    let text = root
        .text("/proc/self/mounts")
        .or_else(|| root.text("/proc/mounts"));
    let mount = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, path, "hugetlbfs", options, ..] = words[..] else {
            return None;
        };
        let page = options
            .split(',')
            .find_map(|it| it.strip_prefix("pagesize="));
        Some(Mount {
            path: path.to_owned(),
            page: page.and_then(bytes),
        })
    };
    text.unwrap_or_default().lines().filter_map(mount).collect()
}

/// A size such as `2M`.
fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.chars().last()? {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number.parse::<u64>().ok().map(|number| number << shift)
}
