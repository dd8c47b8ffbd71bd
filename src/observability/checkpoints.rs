//! How long checkpoints take, as the control thread sees them on QMP.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::latency::{Buckets, LatencySummary, MAX_NS, histogram};

/// Stops of one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stops {
    /// How many.
    pub count: u64,
    /// Nanoseconds from STOP to RESUME, in all.
    pub pause: u64,
}

/// Durations of the checkpoints so far.
#[derive(Clone, Debug)]
pub struct CheckpointTimes {
    stop: Histogram<u64>,
    pause: Histogram<u64>,
    reasons: BTreeMap<&'static str, Stops>,
}

impl Default for CheckpointTimes {
    fn default() -> Self {
        Self {
            stop: histogram(),
            pause: histogram(),
            reasons: BTreeMap::new(),
        }
    }
}

impl CheckpointTimes {
    /// Counts a time from a request's writing to its STOP; over 60 s counts as 60 s.
    pub fn record_stop(&mut self, time: Duration) {
        self.stop.saturating_record(nanoseconds(time));
    }

    /// Counts a time from STOP to RESUME with the word for what asked for the stop; in the histogram over 60 s counts
    /// as 60 s.
    pub fn record_pause(&mut self, reason: &'static str, time: Duration) {
        let pause = nanoseconds(time);
        self.pause.saturating_record(pause);
        let stops = self.reasons.entry(reason).or_default();
        stops.count += 1;
        stops.pause = stops.pause.saturating_add(pause);
    }

    /// The stops by what asked for them; only reasons that occurred.
    pub fn reasons(&self) -> &BTreeMap<&'static str, Stops> {
        &self.reasons
    }

    /// From a request's writing to its STOP.
    pub fn stop(&self) -> LatencySummary {
        LatencySummary::of(&self.stop)
    }

    /// From STOP to RESUME.
    pub fn pause(&self) -> LatencySummary {
        LatencySummary::of(&self.pause)
    }

    /// The same as [`CheckpointTimes::stop`] in buckets.
    pub fn stop_buckets(&self) -> Buckets {
        Buckets::of(&self.stop)
    }

    /// The same as [`CheckpointTimes::pause`] in buckets.
    pub fn pause_buckets(&self) -> Buckets {
        Buckets::of(&self.pause)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(MAX_NS)
}
