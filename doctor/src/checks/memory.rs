//! Hugepages, and pools of packet buffers.

use crate::facts::{Facts, HugePool, Node};
use crate::finding::Findings;

/// The page size for which the advice is given.
const TWO_MIB: u64 = 2 << 20;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    let Some(node) = &facts.node else {
        return;
    };
    match node.pid {
        None => before(facts, node, found),
        Some(_) => running(node, found),
    }
}

fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn reserve(bytes: u64) -> String {
    format!(
        "`sysctl -w vm.nr_hugepages=N` with {} pages of 2 MiB more than other programs use, and a file below \
         /etc/sysctl.d for the next boot; or run the node without hugepages (--no-huge -m {})",
        bytes.div_ceil(TWO_MIB),
        megabytes(bytes)
    )
}

/// A node that has not started.
fn before(facts: &Facts, node: &Node, found: &mut Findings) {
    let memory = &node.memory;
    if !memory.hugepages {
        let Some(given) = memory.megabytes else {
            return;
        };
        let todo = format!("give EAL -m {}", megabytes(memory.needed));
        if given < megabytes(memory.least) {
            let least = megabytes(memory.least);
            let what = format!(
                "EAL gets {given} MB (-m with --no-huge; 64 by default), the least for these pairs is {least} MB: the \
                 node will not start"
            );
            found.error("memory-too-small", "the node", what, todo);
        } else if given < megabytes(memory.needed) {
            let what = format!(
                "EAL gets {given} MB, and all packet buffers need {} MB: each pair will hold fewer frames than \
                 --hold-frames says",
                megabytes(memory.needed)
            );
            found.warning("pools-too-small", "the node", what, todo);
        }
        return;
    }
    mounted(facts, node, found);
    let Some(pools) = &facts.host.hugepages else {
        return;
    };
    let free: u64 = pools.iter().map(|pool| pool.page * pool.free).sum();
    let reserved: u64 = pools.iter().map(|pool| pool.page * pool.total).sum();
    let place = "hugepages";
    if reserved == 0 {
        let what = format!(
            "none are reserved, and the node needs {} MB",
            megabytes(memory.needed)
        );
        found.error("hugepages-none", place, what, reserve(memory.needed));
    } else if free < memory.least {
        let what = format!(
            "{} MB of {} MB are free, the least for these pairs is {} MB: the node will not start",
            megabytes(free),
            megabytes(reserved),
            megabytes(memory.least)
        );
        found.error("hugepages-few", place, what, reserve(memory.needed));
    } else if free < memory.needed {
        let what = format!(
            "{} MB of {} MB are free, and all packet buffers need {} MB: each pair will hold fewer frames than \
             --hold-frames says",
            megabytes(free),
            megabytes(reserved),
            megabytes(memory.needed)
        );
        found.warning("hugepages-few", place, what, reserve(memory.needed));
    } else {
        numa(facts, node, pools, found);
    }
}

fn mounted(facts: &Facts, node: &Node, found: &mut Findings) {
    let memory = &node.memory;
    if memory.in_memory || facts.host.hugepages.is_none() {
        return;
    }
    let mounts = &facts.host.mounts;
    match &memory.huge_dir {
        Some(dir) if !mounts.iter().any(|mount| mount.path == *dir) => found.error(
            "hugepages-not-mounted",
            dir.as_str(),
            "--huge-dir names it, and no hugetlbfs is mounted there",
            format!("`mkdir -p {dir} && mount -t hugetlbfs nodev {dir}`, or name a mounted one"),
        ),
        None if mounts.is_empty() => found.error(
            "hugepages-not-mounted",
            "hugepages",
            "no hugetlbfs is mounted, so EAL ends with \"Permission denied\"",
            "`mkdir -p /dev/hugepages && mount -t hugetlbfs nodev /dev/hugepages`, or give EAL --in-memory",
        ),
        _ => {}
    }
}

/// Pages of another NUMA node are slow, and EAL takes them only where an option says so.
fn numa(facts: &Facts, node: &Node, pools: &[HugePool], found: &mut Findings) {
    let Some(cpus) = &facts.host.cpus else {
        return;
    };
    let free = |numa: u32| -> Option<u64> {
        let of_node = pools
            .iter()
            .map(|pool| Some(pool.page * pool.free_of_node.get(&numa)?));
        of_node.sum()
    };
    let main = node.lcores.first().and_then(|lcore| lcore.cpus.first());
    let Some(home) = main.and_then(|cpu| cpus.numa.get(cpu)) else {
        return;
    };
    if let Some(free) = free(*home)
        && free < node.memory.needed
    {
        let (here, needed) = (megabytes(free), megabytes(node.memory.needed));
        found.warning(
            "hugepages-numa",
            format!("NUMA node {home}"),
            format!("{here} MB of hugepages are free on the node's own NUMA node, and it needs {needed} MB there"),
            format!(
                "reserve pages on it: `echo N > /sys/devices/system/node/node{home}/hugepages/hugepages-2048kB/\
                 nr_hugepages`, or choose lcores of another NUMA node"
            ),
        );
    }
}

/// A node that runs.
fn running(node: &Node, found: &mut Findings) {
    for pair in &node.pairs {
        let pools = node.memory.pools.iter();
        let pools = pools.filter(|pool| pool.pair == pair.name);
        let (mut asked, mut made) = (0, 0);
        for pool in pools {
            asked += u64::from(pool.asked);
            made += u64::from(pool.made.unwrap_or(pool.asked));
        }
        if made < asked {
            found.warning(
                "pools-too-small",
                format!("pair {}", pair.name),
                format!(
                    "it has {made} of {asked} packet buffers ({} %), so fewer frames can be held than --hold-frames \
                     says",
                    made * 100 / asked.max(1)
                ),
                match node.memory.hugepages {
                    true => reserve(node.memory.needed),
                    false => format!(
                        "start the node with -m {}, or a lower --hold-frames",
                        megabytes(node.memory.needed)
                    ),
                },
            );
        }
    }
}
