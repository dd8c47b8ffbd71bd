//! Clocks: the TSC by which a node measures time, and the time of day of its logs.

use crate::facts::Facts;
use crate::finding::{Findings, Severity};

/// Seconds that the clocks of two hosts may differ before their logs are hard to compare.
const APART_S: f64 = 2.0;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    let Some(clock) = &facts.host.clock else {
        return;
    };
    if !clock.missing_flags.is_empty() {
        found.warning(
            "tsc-unsteady",
            "CPU",
            format!(
                "it lacks {}: its TSC changes its rate or stops, and a node counts heartbeats by it",
                clock.missing_flags.join(", ")
            ),
            "run the node on another machine, or let the hypervisor offer an invariant TSC (invtsc)",
        );
    }
    if clock.keeper.is_none() {
        found.add(
            Severity::Note,
            "clock-not-kept",
            "clock",
            "no program that sets this host's clock was found",
            "run chrony or systemd-timesyncd on both hosts, so that their logs and records can be compared",
        );
    }
    let peer = facts
        .peer
        .as_ref()
        .and_then(|peer| peer.host.clock.as_ref());
    if let Some(peer) = peer {
        // The peer's facts are older than these.
        let ahead = peer.unix_s - clock.unix_s;
        if ahead > APART_S {
            found.warning(
                "clocks-apart",
                "clock",
                format!("the other host's clock is {ahead:.0} s ahead of this one"),
                "run chrony or systemd-timesyncd on both hosts; without --link-key the clock also decides which of two \
                 nodes is the later one",
            );
        }
    }
}
