//! The mirror of the PVM's input, as the primary sees it (rule R7).
//!
//! In: input that the guest's ring has taken, the SVM's grants, time. Out: the header of each copy, and whether the SVM
//! has stopped to take its input.

use crate::frame::{BURST, Ticks};
use crate::link::{DATA_HEADER, Endpoint};

/// What was mirrored, and since when nothing more could be.
#[derive(Debug)]
pub(super) struct InputMirror {
    timeout: Ticks,
    /// What the SVM had granted when its input began to wait, and when that was.
    stalled: Option<(u32, Ticks)>,
    mirrored: u64,
    missed: u64,
}

impl InputMirror {
    /// Nothing was mirrored yet. An SVM may take no input for less than this.
    pub(crate) fn new(timeout: Ticks) -> Self {
        Self {
            timeout,
            stalled: None,
            mirrored: 0,
            missed: 0,
        }
    }

    /// The SVM may take no input for less than this from now on.
    pub(super) fn set_timeout(&mut self, timeout: Ticks) {
        self.timeout = timeout;
    }

    /// Input frames mirrored.
    pub(crate) fn mirrored(&self) -> u64 {
        self.mirrored
    }

    /// Input frames that could not be mirrored.
    pub(crate) fn missed(&self) -> u64 {
        self.missed
    }

    /// The bytes to put in front of a frame of this length.
    pub(crate) fn header(
        &mut self,
        link: &mut Endpoint,
        epoch: u32,
        length: usize,
    ) -> [u8; DATA_HEADER] {
        self.mirrored += 1;
        link.data_header(epoch, length as u32)
    }

    /// The guest's ring has taken input that the SVM cannot get.
    pub(crate) fn miss(&mut self, frames: usize) {
        self.missed += frames as u64;
    }

    /// Whether the SVM has taken no input for the timeout while the PVM's waits for it. To be asked all the time;
    /// `mirrors` says whether there is an SVM to wait for.
    pub(crate) fn stalls(&mut self, mirrors: bool, link: &Endpoint, now: Ticks) -> bool {
        if !mirrors || link.room() >= BURST {
            self.stalled = None;
            return false;
        }
        let granted = link.granted();
        match self.stalled {
            Some((then, since)) if then == granted => now.saturating_sub(since) >= self.timeout,
            _ => {
                self.stalled = Some((granted, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::tests::ends;

    #[test]
    fn an_svm_that_grants_nothing_for_the_timeout_stalls() {
        let [mut end, _] = ends();
        let mut mirror = InputMirror::new(100);
        let granted = end.room();
        while end.room() >= BURST {
            assert!(!mirror.stalls(true, &end, 1_000));
            mirror.header(&mut end, 1, 60);
        }
        assert_eq!(mirror.mirrored() as usize, granted - BURST + 1);
        assert!(!mirror.stalls(true, &end, 10));
        assert!(!mirror.stalls(true, &end, 109));
        assert!(mirror.stalls(true, &end, 110));
        assert!(!mirror.stalls(false, &end, 111), "nobody waits for it");
        assert!(!mirror.stalls(true, &end, 210), "it began to wait anew");
    }
}
