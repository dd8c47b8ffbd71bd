//! How long checkpoints take, as the control thread sees them on QMP.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::latency::{LatencySummary, MAX_NS, histogram};

/// Durations of the checkpoints so far.
#[derive(Clone, Debug)]
pub struct CheckpointTimes {
    stop: Histogram<u64>,
    pause: Histogram<u64>,
}

impl Default for CheckpointTimes {
    fn default() -> Self {
        Self {
            stop: histogram(),
            pause: histogram(),
        }
    }
}

impl CheckpointTimes {
    /// Counts a time from a request's writing to its STOP; over 60 s counts as 60 s.
    pub fn record_stop(&mut self, time: Duration) {
        self.stop.saturating_record(nanoseconds(time));
    }

    /// Counts a time from STOP to RESUME; over 60 s counts as 60 s.
    pub fn record_pause(&mut self, time: Duration) {
        self.pause.saturating_record(nanoseconds(time));
    }

    /// From a request's writing to its STOP.
    pub fn stop(&self) -> LatencySummary {
        LatencySummary::of(&self.stop)
    }

    /// From STOP to RESUME.
    pub fn pause(&self) -> LatencySummary {
        LatencySummary::of(&self.pause)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(MAX_NS)
}
