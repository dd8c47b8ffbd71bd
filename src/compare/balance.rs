//! How far one VM's frames are ahead of the other's, and how many of each the next round should take.
//!
//! Counterparts that come in one round meet the paired fast path. Once a round has found a burst of one
//! VM only, all later rounds of a busy pair would find P and S that are a burst apart: so the VM that is
//! ahead waits, in its port's ring, until the other one has caught up. It waits for what lies in the other
//! port's ring only, one round at a time: a VM that is silent keeps nobody waiting, and neither do two VMs
//! whose frames are not alike.

use crate::frame::BURST;

/// Frames of a VM that say that more of them wait in its port's ring.
const FULL: usize = BURST - BURST / 4;
/// Rounds with frames of both VMs and no counterparts after which nothing is known.
const PATIENCE: u32 = 8;
/// Such rounds after which it is tried anew.
const AGAIN: u32 = 256;
/// Frames ahead that are worth waiting for.
const MOST: usize = 8 * BURST;

/// What is known of the two streams of frames.
#[derive(Debug)]
pub(super) struct Balance {
    /// P by which the PVM is ahead; negative where the SVM is.
    lead: isize,
    /// Rounds in a row that had frames of both VMs and no counterparts.
    futile: u32,
    /// Most P and S of the next round.
    shares: [usize; 2],
}

impl Balance {
    pub(super) fn new() -> Self {
        Self {
            lead: 0,
            futile: 0,
            shares: [BURST; 2],
        }
    }

    /// Whether both VMs send and no counterparts were found for long.
    #[inline(always)]
    pub(super) fn is_lost(&self) -> bool {
        self.futile > PATIENCE
    }

    /// A round took this many P and S; `behind` of them came behind the last counterparts, if there
    /// were any.
    #[inline(always)]
    pub(super) fn took(&mut self, [p, s]: [usize; 2], behind: Option<[usize; 2]>) {
        if let Some([p, s]) = behind {
            self.lead = p as isize - s as isize;
            self.futile = 0;
        } else {
            self.lead += p as isize - s as isize;
            self.futile = (self.futile + u32::from(p > 0 && s > 0)) % AGAIN;
            if self.is_lost() || self.lead.unsigned_abs() > MOST {
                self.lead = 0;
            }
        }
        let share = |ahead: isize, other: usize| match other >= FULL {
            true => BURST - ahead.clamp(0, BURST as isize) as usize,
            false => BURST,
        };
        self.shares = [share(self.lead, s), share(-self.lead, p)];
    }

    /// How many P and S the next round should take at most; the round after it is free again unless
    /// [`Balance::took`] is called for this one.
    #[inline(always)]
    pub(super) fn take_budget(&mut self) -> [usize; 2] {
        std::mem::replace(&mut self.shares, [BURST; 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rings that fill faster than rounds empty them, with the same frames in both.
    struct Rings {
        balance: Balance,
        /// Frames of each VM that were taken.
        taken: [usize; 2],
    }

    impl Rings {
        fn new() -> Self {
            Self {
                balance: Balance::new(),
                taken: [0; 2],
            }
        }

        /// A round in which at most `there` frames are found; returns how many were taken.
        fn round(&mut self, there: [usize; 2]) -> [usize; 2] {
            let shares = self.balance.take_budget();
            let [p, s] = [0, 1].map(|vm| shares[vm].min(there[vm]));
            let ends = [self.taken[0] + p, self.taken[1] + s];
            let last = ends[0].min(ends[1]);
            let met = last > self.taken[0].max(self.taken[1]);
            self.taken = ends;
            if p + s > 0 {
                let behind = met.then(|| ends.map(|end| end - last));
                self.balance.took([p, s], behind);
            }
            [p, s]
        }

        fn rounds(&mut self, rounds: usize, there: [usize; 2]) {
            for _ in 0..rounds {
                self.round(there);
            }
        }
    }

    #[test]
    fn streams_that_are_apart_come_together_and_stay() {
        for first in [[BURST, 0], [0, BURST], [20, 3], [3, 20], [BURST, 31]] {
            let mut rings = Rings::new();
            rings.round(first);
            rings.rounds(4, [BURST; 2]);
            assert_eq!(rings.taken[0], rings.taken[1], "{first:?}");
            assert_eq!(rings.round([BURST; 2]), [BURST; 2], "{first:?}");
        }
    }

    #[test]
    fn streams_far_apart_come_together_if_it_is_worth_it() {
        let mut rings = Rings::new();
        rings.rounds(5, [BURST, 0]);
        rings.rounds(8, [BURST; 2]);
        assert_eq!(rings.taken[0], rings.taken[1]);
        let mut rings = Rings::new();
        rings.rounds(10, [BURST, 0]);
        let before = rings.taken;
        rings.rounds(10, [BURST; 2]);
        let taken = [0, 1].map(|vm| rings.taken[vm] - before[vm]);
        assert!(taken[0] >= 8 * BURST, "{taken:?}");
    }

    #[test]
    fn who_is_silent_keeps_nobody_waiting() {
        let mut rings = Rings::new();
        rings.round([BURST; 2]);
        for _ in 0..100 {
            assert_eq!(rings.round([BURST, 0]), [BURST, 0]);
        }
        // It was the other one's turn, and nothing comes of it.
        let mut rings = Rings::new();
        rings.round([BURST, 0]);
        rings.round([BURST; 2]);
        assert_eq!(rings.round([BURST, 0]), [0, 0]);
        assert_eq!(rings.round([BURST, 0]), [BURST, 0]);
    }

    #[test]
    fn frames_without_counterparts_are_taken_as_they_come() {
        let mut balance = Balance::new();
        balance.took([BURST, 0], None);
        for _ in 0..=PATIENCE {
            balance.took([BURST, BURST], None);
        }
        for _ in PATIENCE..AGAIN - 2 {
            assert!(balance.is_lost());
            assert_eq!(balance.take_budget(), [BURST; 2]);
            balance.took([BURST, BURST / 2], None);
        }
        assert!(balance.is_lost());
        balance.took([BURST, BURST / 2], None);
        assert!(!balance.is_lost(), "they may be alike again");
        balance.took([BURST, BURST], Some([4, 0]));
        assert!(!balance.is_lost());
        assert_eq!(balance.take_budget(), [BURST - 4, BURST]);
    }
}
