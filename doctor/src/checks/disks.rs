//! Disks that a checkpoint does not cover.

use super::pairs;
use crate::facts::Facts;
use crate::finding::Findings;

/// The drivers on top of a replicated disk: QEMU's documentation has a quorum at the primary, and a quorum over the
/// replication driver, or that driver alone, at the secondary.
const REPLICATED: &[&str] = &["quorum", "replication"];

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    for (_, pair, seen) in pairs(facts) {
        for disk in seen.qemu.iter().flat_map(|qemu| &qemu.disks) {
            if !REPLICATED.contains(&disk.driver.as_str()) {
                found.error(
                    "disk-not-replicated",
                    format!("pair {}: disk {}", pair.name, disk.name),
                    format!(
                        "its driver is {}: the other host does not have what the VM writes, and a takeover goes on with \
                         another disk",
                        disk.driver
                    ),
                    "put a quorum above it at the primary and the replication driver at the secondary (docs/disk.md), or \
                     make it readonly=on",
                );
            }
        }
    }
}
