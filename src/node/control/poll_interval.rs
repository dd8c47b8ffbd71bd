//! How long the control thread sleeps between two looks at the poll cores' rings.
//!
//! Poll cores make no system call, so nothing wakes this thread: it looks. Shorter sleeps than
//! these find a request no sooner where setting a timer costs as much as they last, which in a VM
//! it does, and take the whole CPU.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;

/// How often the poll cores' rings are looked at: a request must not wait long.
const PERIOD: Duration = Duration::from_micros(20);
/// The same where no pair has a monitor to write a request to: records and signals can wait.
const SLOW_PERIOD: Duration = Duration::from_millis(10);

/// Readies this thread and says how long it is to sleep at a time: it waits for requests if any pair
/// has a monitor. Where the poll cores sleep, for `idle_sleep`, CPU is scarce and it has time, too,
/// as long as signals and records can wait.
pub(crate) fn begin(has_monitor: bool, idle_sleep: Option<Duration>) -> Duration {
    if has_monitor && idle_sleep.is_none() {
        // The kernel's usual slack is 50 µs. If it stays, sleeps are only longer.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
    }
    period(has_monitor, idle_sleep)
}

fn period(has_monitor: bool, idle_sleep: Option<Duration>) -> Duration {
    match (has_monitor, idle_sleep) {
        (false, _) => SLOW_PERIOD,
        (true, Some(sleep)) => sleep.clamp(PERIOD, SLOW_PERIOD),
        (true, None) => PERIOD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_time_or_little_cpu_is_not_hurried() {
        let sleep = Duration::from_micros(50);
        assert_eq!(period(true, None), PERIOD);
        assert_eq!(period(true, Some(sleep)), sleep);
        assert_eq!(period(true, Some(sleep / 50)), PERIOD);
        assert_eq!(period(false, Some(sleep)), SLOW_PERIOD);
        assert_eq!(period(true, Some(Duration::from_secs(1))), SLOW_PERIOD);
    }
}
