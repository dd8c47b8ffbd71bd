//! The clock.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Root, processes};
use crate::facts::Clock;

/// Flags of `/proc/cpuinfo` without which a TSC is no clock.
const FLAGS: &[&str] = &["constant_tsc", "nonstop_tsc"];
/// Programs that set a host's clock, as `/proc/PID/comm` has them.
const KEEPERS: &[&str] = &[
    "chronyd",
    "ntpd",
    "ntp-daemon",
    "openntpd",
    "phc2sys",
    "systemd-timesyn",
];

pub(super) fn clock(root: &Root) -> Clock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    Clock {
        unix_s: since.unwrap_or_default().as_secs_f64(),
        source: root.text(source).unwrap_or_default(),
        missing_flags: missing_flags(&root.text("/proc/cpuinfo").unwrap_or_default()),
        keeper: processes::named(root, KEEPERS),
    }
}

/// None of a CPU that has no TSC.
fn missing_flags(cpuinfo: &str) -> Vec<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let flags: Vec<&str> = line.into_iter().flat_map(str::split_whitespace).collect();
    let missing = FLAGS.iter().filter(|flag| !flags.contains(*flag));
    match flags.contains(&"tsc") {
        true => missing.map(|flag| (*flag).to_owned()).collect(),
        false => Vec::new(),
    }
}
