//! Who else runs on the CPUs of lcores, and how far they are from their ports.

use std::collections::BTreeSet;

use super::list;
use crate::facts::{Cpus, Facts, Lcore, Node, Work};
use crate::finding::{Findings, Severity};

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    let (Some(node), Some(cpus)) = (&facts.node, &facts.host.cpus) else {
        return;
    };
    exist(node, cpus, found);
    with_each_other(node, found);
    with_others(facts, node, found);
    isolated(node, cpus, found);
    siblings(node, cpus, found);
    near_their_ports(node, cpus, found);
}

fn place(lcore: &Lcore) -> String {
    format!("lcore {} (CPU {})", lcore.id, list(&lcore.cpus))
}

/// Lcores that work. One that waits takes no time of a CPU.
fn working(node: &Node) -> impl Iterator<Item = &Lcore> {
    let lcores = node.lcores.iter();
    lcores.filter(|lcore| lcore.work != Work::Waits)
}

/// A core that sleeps between two looks leaves its CPU to others.
fn if_it_polls(node: &Node) -> Severity {
    match node.idle_sleep_us {
        0 => Severity::Warning,
        _ => Severity::Note,
    }
}

fn exist(node: &Node, cpus: &Cpus, found: &mut Findings) {
    for lcore in &node.lcores {
        let is_in = |list: &[u32]| lcore.cpus.iter().all(|cpu| list.contains(cpu));
        if !is_in(&cpus.online) {
            found.error(
                "lcore-offline",
                place(lcore),
                format!("this host has CPUs {} online", list(&cpus.online)),
                "choose other CPUs with -l, or bring it online: `echo 1 > /sys/devices/system/cpu/cpuN/online`",
            );
        } else if cpus.allowed.as_ref().is_some_and(|allowed| !is_in(allowed)) {
            found.error(
                "lcore-not-allowed",
                place(lcore),
                format!(
                    "a cpuset or an affinity leaves CPUs {} to this process",
                    list(cpus.allowed.as_deref().unwrap_or_default())
                ),
                "choose among these with -l, or widen AllowedCPUs= and CPUAffinity= of the unit, or the cpuset",
            );
        }
    }
}

fn with_each_other(node: &Node, found: &mut Findings) {
    let working: Vec<&Lcore> = working(node).collect();
    for (at, lcore) in working.iter().enumerate() {
        let shares = |other: &&&Lcore| other.cpus.iter().any(|cpu| lcore.cpus.contains(cpu));
        if let Some(other) = working[..at].iter().find(shares) {
            found.warning(
                "lcores-share",
                place(lcore),
                format!(
                    "lcore {} may run on the same CPU: while one runs, frames of the other wait",
                    other.id
                ),
                "give each lcore a CPU that no other has: -l A,B,C, the first of which only waits",
            );
        }
    }
}

fn with_others(facts: &Facts, node: &Node, found: &mut Findings) {
    for lcore in working(node) {
        let theirs = |pid| node.pid != Some(pid);
        let on = |cpu: &u32| {
            let mut threads = facts.host.pinned.iter();
            threads.find(|thread| thread.cpu == *cpu && theirs(thread.pid))
        };
        // One that may run on several CPUs has a free one as long as not all are taken.
        let others: Option<Vec<_>> = lcore.cpus.iter().map(on).collect();
        let other = others.and_then(|others| others.first().copied());
        if let Some(thread) = other {
            found.warning(
                "cpu-shared",
                place(lcore),
                format!("thread {} of process {} is bound to CPU {}, too", thread.name, thread.pid, thread.cpu),
                "give one of the two another CPU: -l of a node, vcpupin of libvirt, CPUAffinity= of a unit",
            );
        }
    }
}

fn isolated(node: &Node, cpus: &Cpus, found: &mut Findings) {
    let open: BTreeSet<u32> = working(node)
        .flat_map(|lcore| lcore.cpus.iter().copied())
        .filter(|cpu| cpus.online.contains(cpu) && !cpus.isolated.contains(cpu))
        .collect();
    if open.is_empty() {
        return;
    }
    let open: Vec<u32> = open.into_iter().collect();
    found.add(
        if_it_polls(node),
        "cpu-not-isolated",
        format!("CPU {}", list(&open)),
        "lcores poll there, and the scheduler puts other programs there, too",
        format!(
            "keep others off: boot with isolcpus={0} nohz_full={0}, or give the node's unit a cpuset of its own \
             (AllowedCPUs={0}, cpuset.cpus.partition=isolated); or let idle cores sleep: --idle-sleep 100",
            list(&open)
        ),
    );
}

fn siblings(node: &Node, cpus: &Cpus, found: &mut Findings) {
    let working: Vec<&Lcore> = working(node).collect();
    for (at, lcore) in working.iter().enumerate() {
        let [cpu] = lcore.cpus[..] else {
            continue;
        };
        let threads = cpus.siblings.get(&cpu);
        let mut siblings = threads.into_iter().flatten().filter(|it| **it != cpu);
        let shared = siblings.find_map(|sibling| {
            let other = working[..at].iter().find(|it| it.cpus == [*sibling]);
            other.map(|other| (sibling, other.id))
        });
        if let Some((sibling, other)) = shared {
            found.warning(
                "lcores-smt",
                place(lcore),
                format!("CPU {sibling} of lcore {other} is a hardware thread of the same core: each gets about half"),
                "choose CPUs of different cores with -l: /sys/devices/system/cpu/cpuN/topology/thread_siblings_list",
            );
        }
    }
}

fn near_their_ports(node: &Node, cpus: &Cpus, found: &mut Findings) {
    for lcore in working(node).filter(|lcore| lcore.work == Work::Polls) {
        let mut homes = lcore.cpus.iter().filter_map(|cpu| cpus.numa.get(cpu));
        let Some(home) = homes.next() else {
            continue;
        };
        for pair in &node.pairs {
            if !lcore.pairs.contains(&pair.name) {
                continue;
            }
            for port in &pair.ports {
                if let Some(numa) = port.numa.filter(|numa| numa != home) {
                    found.warning(
                        "port-numa",
                        format!("pair {}: {} {}", pair.name, port.place, port.name),
                        format!("its device is on NUMA node {numa}, and lcore {} polls it from node {home}", lcore.id),
                        format!("choose CPUs of NUMA node {numa} with -l (lscpu shows them), or another port"),
                    );
                }
            }
        }
    }
}
