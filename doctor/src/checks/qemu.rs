//! QEMU's release, and what has to be set in it.

use super::pairs;
use crate::facts::{Facts, Qemu};
use crate::finding::{Findings, Severity};

/// A pause between checkpoints below which QEMU's own timer does more than the node asks for: what `coloctl protect`
/// sets.
const SHORT_DELAY_MS: u64 = 600_000;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    for (_, pair, seen) in pairs(facts) {
        let Some(qemu) = &seen.qemu else {
            continue;
        };
        let place = format!("pair {}: QEMU", pair.name);
        if let Some(version) = qemu.version {
            release(&place, version, found);
        }
        if qemu.capabilities.is_empty() {
            continue;
        }
        if !qemu.capabilities.contains_key("x-colo") {
            found.error(
                "qemu-no-colo",
                place,
                "this build has no capability x-colo",
                "use a build with CONFIG_REPLICATION, such as Debian's",
            );
            continue;
        }
        capabilities(&place, qemu, found);
        let role = seen
            .status
            .as_ref()
            .map_or(&pair.role, |status| &status.role);
        if role == "primary"
            && let Some(delay) = qemu
                .checkpoint_delay
                .filter(|delay| *delay < SHORT_DELAY_MS)
        {
            found.add(
                Severity::Note,
                "checkpoint-delay",
                place,
                format!("x-checkpoint-delay is {delay} ms: QEMU takes a checkpoint that often besides those of the node"),
                "leave one of QEMU's defaults to `coloctl protect`; by hand: migrate-set-parameters \
                 {\"x-checkpoint-delay\": 600000}",
            );
        }
    }
}

fn release(place: &str, version: (u32, u32, u32), found: &mut Findings) {
    let (major, minor, micro) = version;
    let name = format!("{major}.{minor}.{micro}");
    match (major, minor, micro) {
        (..7, ..) | (7, ..2, _) => found.error(
            "qemu-too-old",
            place,
            format!("release {name} is older than 7.2"),
            "use 7.2 or later",
        ),
        (10, 0, ..7) | (10, 1, ..3) => found.error(
            "qemu-never-enters-colo",
            place,
            format!("release {name} never enters COLO"),
            "use 10.0.7, 10.1.3, 10.2.0, a later release of these, or one before 10.0",
        ),
        (8, 2, _) | (9, 0, _) => found.warning(
            "qemu-secondary-aborts",
            place,
            format!(
                "a secondary of release {name} with replicated disks may abort when it enters COLO"
            ),
            "use 9.1 or later",
        ),
        _ if (major, minor) > (11, 1) || micro >= 50 => found.warning(
            "qemu-unknown",
            place,
            format!("release {name} is a development build, or newer than 11.1"),
            "try a pair before you rely on it",
        ),
        _ => {}
    }
}

fn capabilities(place: &str, qemu: &Qemu, found: &mut Findings) {
    let on = |name| qemu.capabilities.get(name) == Some(&true);
    let since_11 = qemu.version.map(|(major, ..)| major >= 11);
    let give = |name, state| {
        format!(
            "nothing where `coloctl protect` sets COLO up; by hand: migrate-set-capabilities {{\"capabilities\": [{{\"capability\": \"{name}\", \"state\": {state}}}]}} on \
             both QEMUs, before `migrate`"
        )
    };
    match since_11 {
        Some(false) if on("return-path") => found.add(
            Severity::Note,
            "return-path-set",
            place,
            "return-path is on, which breaks COLO before QEMU 11.0",
            give("return-path", false),
        ),
        Some(true) if !on("return-path") => found.add(
            Severity::Note,
            "return-path-missing",
            place,
            "return-path is off, and x-colo needs it from QEMU 11.0 on",
            give("return-path", true),
        ),
        _ => {}
    }
    let moving = matches!(qemu.migration.as_deref(), Some("colo"));
    if !on("x-colo") && !moving {
        found.add(
            Severity::Note,
            "x-colo-off",
            place,
            "the capability x-colo is off: a migration would move the VM and protect nothing",
            give("x-colo", true),
        );
    }
}
