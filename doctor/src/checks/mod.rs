//! The checks, one file for each family. Each is a function over [`Facts`].

mod clocks;
mod cores;
mod disks;
mod guest;
mod keys;
mod link;
mod memory;
mod monitor;
mod peer;
mod ports;
mod qemu;
mod sockets;

use crate::facts::{Facts, Node, Pair, Seen};
use crate::finding::{Finding, Findings};

/// All findings, the worst first.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = Findings::default();
    for check in [
        memory::check,
        sockets::check,
        monitor::check,
        qemu::check,
        guest::check,
        disks::check,
        ports::check,
        keys::check,
        link::check,
        cores::check,
        clocks::check,
        peer::check,
    ] {
        check(facts, &mut found);
    }
    found.sorted()
}

/// Each pair of the node, and what was seen of it.
fn pairs(facts: &Facts) -> impl Iterator<Item = (&Node, &Pair, Seen)> {
    let pairs = facts.node.iter().flat_map(|node| {
        let pairs = node.pairs.iter();
        pairs.map(move |pair| (node, pair))
    });
    pairs.map(|(node, pair)| {
        let seen = facts.seen.get(&pair.name).cloned();
        (node, pair, seen.unwrap_or_default())
    })
}

/// Numbers for a reader.
fn list(numbers: &[u32]) -> String {
    let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
    words.join(",")
}
