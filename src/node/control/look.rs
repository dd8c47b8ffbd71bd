//! How long the control thread sleeps between two looks at the poll cores' rings.
//!
//! A sleep takes longer than asked, by what the timer and the wake-up take: a few microseconds on
//! a machine of its own, twenty or more in a VM whose idle core has been given away. What sleeps
//! took too long is left out of the next ones, so that the looks themselves keep their period.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;

/// How often the poll cores' rings are looked at: a request must not wait long.
const PERIOD: Duration = Duration::from_micros(20);
/// The same where no pair has a monitor to write a request to: records and signals can wait.
const LEISURE: Duration = Duration::from_millis(10);
/// The shortest sleep.
const LEAST: Duration = Duration::from_micros(1);
/// One in so many parts of what is known of sleeps comes from the last one.
const WEIGHT: u32 = 8;

/// The rhythm of the looks.
pub struct Look {
    period: Duration,
    /// By how much sleeps are longer than asked, where they are to be shortened by that.
    late: Option<Duration>,
}

impl Look {
    /// The rhythm of this thread, which waits for requests if any pair has a monitor.
    pub fn new(has_monitor: bool, idle_sleep: Option<Duration>) -> Self {
        let (period, late) = match (has_monitor, idle_sleep) {
            (false, _) => (LEISURE, None),
            // Where the poll cores sleep, CPU is scarce.
            (true, Some(sleep)) => (sleep.max(PERIOD), None),
            (true, None) => {
                // The kernel's usual slack is 50 µs. If it stays, sleeps are only longer.
                let _ = set_current_timer_slack(NonZeroU64::new(1));
                (PERIOD, Some(Duration::ZERO))
            }
        };
        Self { period, late }
    }

    /// How long to sleep now.
    pub fn sleep(&self) -> Duration {
        let late = self.late.unwrap_or_default();
        self.period.saturating_sub(late).max(LEAST)
    }

    /// The sleep that [`Look::sleep`] said took so long.
    pub fn slept(&mut self, took: Duration) {
        let asked = self.sleep();
        if let Some(late) = &mut self.late
            // A shorter one was ended by the monitor.
            && let Some(over) = took.checked_sub(asked)
        {
            // Another program's turn on this core tells nothing of the next sleep.
            let over = over.min(self.period);
            *late = (*late * (WEIGHT - 1) + over) / WEIGHT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    #[test]
    fn looks_keep_their_period_where_sleeps_are_long() {
        let mut look = Look::new(true, None);
        for _ in 0..100 {
            let took = look.sleep() + 15 * MICROSECOND;
            look.slept(took);
        }
        let period = look.sleep() + 15 * MICROSECOND;
        assert!(period.abs_diff(PERIOD) <= MICROSECOND, "{period:?}");
    }

    #[test]
    fn a_sleep_is_never_nothing_and_recovers() {
        let mut look = Look::new(true, None);
        (0..100).for_each(|_| look.slept(Duration::from_secs(1)));
        assert_eq!(look.sleep(), LEAST);
        (0..100).for_each(|_| look.slept(look.sleep()));
        assert!(look.sleep() >= PERIOD - MICROSECOND);
    }

    #[test]
    fn who_has_time_or_little_cpu_is_not_hurried() {
        for (mut look, period) in [
            (Look::new(false, None), LEISURE),
            (Look::new(true, Some(50 * MICROSECOND)), 50 * MICROSECOND),
        ] {
            look.slept(2 * period);
            assert_eq!(look.sleep(), period);
        }
    }
}
