//! What a node waits for from its QEMU, and for how long: an answer, or the next step of a checkpoint.
//!
//! QEMU answers late while it saves or loads the state of devices, and a checkpoint's pause is QEMU's
//! business. But output waits with it, so the log reports it after a second. A connection that is given
//! up and made again is a part of the same wait: a QEMU that hangs takes connections and answers none.

use std::time::{Duration, Instant};

use crate::observability::summary::{MonitorState, MonitorSummary};

/// A wait of this length is not reported yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is waited for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// In words that follow "owes".
    pub what: &'static str,
    /// When the wait began.
    pub since: Instant,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The wait has become too long.
    Begins(&'static str, Duration),
    /// It is over, and was that long.
    Ends(Duration),
}

/// The waits of one pair.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// What is owed for too long at this moment.
    owed: Option<&'static str>,
    /// A wait that became too long began then, and its end was not seen.
    since: Option<Instant>,
    /// How long it lasts.
    time: Duration,
    count: u64,
    longest: Duration,
}

impl Waits {
    /// Takes in what is waited for at `now`, if anything is, and whether a monitor is connected and has answered.
    pub(crate) fn look(
        &mut self,
        awaited: impl IntoIterator<Item = Awaited>,
        connected: bool,
        now: Instant,
    ) -> Option<Change> {
        let oldest = awaited.into_iter().min_by_key(|awaited| awaited.since);
        let long =
            oldest.filter(|awaited| now.saturating_duration_since(awaited.since) >= PATIENCE);
        self.owed = long.map(|awaited| awaited.what);
        let Some(awaited) = long else {
            // Without a connection nothing is owed, and nothing was answered.
            let since = self.since.take_if(|_| connected)?;
            return Some(Change::Ends(now.saturating_duration_since(since)));
        };
        let begins = self.since.is_none();
        let since = *self.since.get_or_insert(awaited.since);
        self.time = now.saturating_duration_since(since);
        self.longest = self.longest.max(self.time);
        self.count += u64::from(begins);
        begins.then_some(Change::Begins(awaited.what, self.time))
    }

    /// The figures of this moment.
    pub(crate) fn summary(&self, connected: bool) -> MonitorSummary {
        let state = match (self.owed, connected) {
            (Some(_), _) => MonitorState::Unresponsive,
            (None, true) => MonitorState::Connected,
            (None, false) => MonitorState::Absent,
        };
        MonitorSummary {
            state,
            waits_for: self.owed,
            waits_ms: self.owed.map_or(0, |_| self.time.as_millis() as u64),
            unresponsive: self.count,
            longest_ms: self.longest.as_millis() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owes(what: &'static str, since: Instant) -> Option<Awaited> {
        Some(Awaited { what, since })
    }

    #[test]
    fn a_wait_is_reported_after_a_second_and_when_it_is_over() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut waits = Waits::default();
        let stop = |ms| owes("STOP", at(ms));
        assert_eq!(waits.look(stop(0), true, at(999)), None);
        assert_eq!(waits.look(None, true, at(999)), None);
        assert_eq!(waits.summary(true).state, MonitorState::Connected);
        assert_eq!(
            waits.look(stop(0), true, at(1000)),
            Some(Change::Begins("STOP", PATIENCE))
        );
        // The answer to a question that has just been asked is no sign that QEMU goes on.
        let both = stop(0).into_iter().chain(owes("query-status", at(2490)));
        assert_eq!(waits.look(both, true, at(2500)), None);
        let now = waits.summary(true);
        assert_eq!(now.state, MonitorState::Unresponsive);
        assert_eq!((now.waits_for, now.waits_ms), (Some("STOP"), 2500));
        assert_eq!(
            waits.look(stop(2500), true, at(2600)),
            Some(Change::Ends(Duration::from_millis(2600)))
        );
        let now = waits.summary(false);
        assert_eq!(now.state, MonitorState::Absent);
        assert_eq!(
            (now.unresponsive, now.longest_ms, now.waits_for),
            (1, 2500, None)
        );
    }

    #[test]
    fn a_connection_that_is_given_up_ends_no_wait() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut waits = Waits::default();
        assert!(
            waits
                .look(owes("query-status", start), true, at(1000))
                .is_some()
        );
        assert_eq!(waits.look(None, false, at(10_000)), None);
        assert_eq!(waits.summary(false).state, MonitorState::Absent);
        assert_eq!(
            waits.look(owes("its greeting", at(10_100)), false, at(10_200)),
            None
        );
        assert_eq!(
            waits.look(owes("its greeting", at(10_100)), false, at(11_100)),
            None
        );
        let now = waits.summary(false);
        assert_eq!(now.state, MonitorState::Unresponsive);
        assert_eq!((now.waits_ms, now.unresponsive), (11_100, 1));
        assert_eq!(
            waits.look(None, true, at(12_000)),
            Some(Change::Ends(Duration::from_secs(12)))
        );
    }
}
