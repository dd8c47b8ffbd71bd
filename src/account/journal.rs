//! The last checkpoints one by one, for the account of an interval.

use std::collections::VecDeque;
use std::time::Duration;

use super::checkpoint::Checkpoint;

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Duration,
    checkpoint: Checkpoint,
}

/// The last checkpoints.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    most: usize,
    /// When the last one ended that is not kept any more.
    dropped: Option<Duration>,
}

impl Journal {
    pub(super) fn new(most: usize) -> Self {
        debug_assert!(most > 0, "one at least");
        Self {
            entries: VecDeque::new(),
            most,
            dropped: None,
        }
    }

    pub(super) fn push(&mut self, at: Duration, checkpoint: Checkpoint) {
        debug_assert!(
            self.entries.back().is_none_or(|last| last.at <= at),
            "checkpoints come in their order"
        );
        if self.entries.len() >= self.most {
            let oldest = self.entries.pop_front();
            self.dropped = oldest.map(|entry| entry.at).or(self.dropped);
        }
        self.entries.push_back(Entry { at, checkpoint });
    }

    /// From when on every checkpoint is here, not earlier than `from`.
    pub(super) fn reaches(&self, from: Duration) -> Duration {
        self.dropped.map_or(from, |dropped| dropped.max(from))
    }

    /// Those that ended after `from`.
    pub(super) fn after(&self, from: Duration) -> Vec<Checkpoint> {
        let first = self.entries.partition_point(|entry| entry.at <= from);
        let entries = self.entries.range(first..);
        entries.map(|entry| entry.checkpoint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Limits;

    #[test]
    fn the_documented_room_is_enough_for_the_documented_number() {
        let bytes = std::mem::size_of::<Entry>() * Limits::default().journal;
        assert!(bytes <= 7 << 19, "{bytes}: 3.5 MiB are documented");
    }
}
