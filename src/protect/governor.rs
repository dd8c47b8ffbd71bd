//! How long the VM runs between two checkpoints at least, so that a VM that differs in each answer does not stand still
//! for most of the time.
//!
//! In: the VM's stops and their ends, time. Out: the time before which a difference asks for no checkpoint (rule R9).
//! What differs meanwhile waits for the same checkpoint.

use crate::frame::Ticks;

/// The bounds of a [`Governor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointShare {
    /// Percent of the time for which stops may hold the VM up, from 1 to 100. With 100 differences never wait.
    pub percent: u32,
    /// A difference waits for at most this.
    pub most: Ticks,
}

impl CheckpointShare {
    /// Differences never wait.
    pub const ALL: Self = Self {
        percent: 100,
        most: 0,
    };
}

/// The last stop of one VM, and what follows from it.
#[derive(Debug)]
pub(super) struct Governor {
    share: CheckpointShare,
    stopped_at: Option<Ticks>,
    not_before: Ticks,
}

impl Governor {
    /// The VM has not stopped yet.
    pub(super) fn new(share: CheckpointShare) -> Self {
        debug_assert!((1..=100).contains(&share.percent), "a percentage");
        Self {
            share,
            stopped_at: None,
            not_before: 0,
        }
    }

    /// The VM has stopped.
    pub(super) fn stopped(&mut self, now: Ticks) {
        self.stopped_at.get_or_insert(now);
    }

    /// The VM runs again.
    pub(super) fn resumed(&mut self, now: Ticks) {
        if let Some(at) = self.stopped_at.take() {
            let stood = now.saturating_sub(at);
            let percent = Ticks::from(self.share.percent);
            let runs = stood.saturating_mul(100 - percent) / percent;
            self.not_before = now.saturating_add(runs.min(self.share.most));
        }
    }

    /// Nobody knows any more when the VM stops and runs.
    pub(super) fn forget(&mut self) {
        self.stopped_at = None;
    }

    /// A difference asks for no checkpoint before.
    pub(super) fn not_before(&self) -> Ticks {
        self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn governor(percent: u32) -> Governor {
        Governor::new(CheckpointShare {
            percent,
            most: 1_000,
        })
    }

    #[test]
    fn the_vm_runs_for_its_share_behind_each_stop() {
        for (percent, runs) in [(100, 0), (50, 30), (30, 70), (1, 1_000)] {
            let mut governor = governor(percent);
            assert_eq!(governor.not_before(), 0);
            governor.stopped(100);
            governor.stopped(110);
            governor.resumed(130);
            assert_eq!(governor.not_before(), 130 + runs, "{percent} %");
        }
    }

    #[test]
    fn a_stop_whose_end_nobody_has_seen_does_not_count() {
        let mut governor = governor(30);
        governor.stopped(100);
        governor.forget();
        governor.resumed(9_000);
        assert_eq!(governor.not_before(), 0);
        governor.stopped(9_500);
        governor.resumed(9_530);
        assert_eq!(governor.not_before(), 9_600);
    }
}
