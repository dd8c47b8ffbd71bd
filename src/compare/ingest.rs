//! The one way in: a burst of each VM, either of which may be empty, goes through the same stages.
//!
//! | stage | what it does | where |
//! | --- | --- | --- |
//! | fill | moves as many frames as have room into the burst's array | `intake.rs` |
//! | read | reads the headers, then finds the flows; of S only those that the next stage leaves | `intake.rs` |
//! | pair | takes in a P and an S that are the same segment together | `pairs.rs` |
//! | in order | takes in a frame that continues what its flow has compared, without a slot | `stream`, `datagram.rs` |
//! | general | puts the frame into a slot and compares whatever that makes comparable | `stream`, `datagram.rs` |
//!
//! Each stage takes what it can and leaves the rest to the next one, so every frame that is not as simple as it looks
//! ends in the general one.

use std::iter;

use super::Comparator;
use super::intake::Bursts;
use crate::frame::{BURST, Frame, Ticks};

impl<F: Frame> Comparator<F> {
    /// Takes in what the PVM has sent and what the SVM has sent in the same epoch, both in order. Frames that come at
    /// once cost less than frames that come one after the other; what may leave is the same. P that there is no room
    /// for stay in the iterator.
    pub fn ingest(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        let Some(mut bursts) = self.bursts.take() else {
            return;
        };
        loop {
            bursts.primary.fill(primary, self.hold.primary_room());
            bursts.secondary.fill(secondary, BURST);
            let taken = [bursts.primary.len, bursts.secondary.len];
            if taken == [0, 0] {
                break;
            }
            self.take_both(&mut bursts, now);
            if taken.iter().all(|len| *len < BURST) {
                break;
            }
        }
        self.note_held();
        self.bursts = Some(bursts);
    }

    #[inline(never)]
    fn take_both(&mut self, bursts: &mut Bursts<F>, now: Ticks) {
        let ends = (bursts.primary.len, bursts.secondary.len);
        if ends.0 > 0 {
            bursts.secondary.touch_headers();
            self.read(&mut bursts.primary, 0..ends.0);
        }
        let (p, s) = self.take_pairs(bursts, now);
        self.take_primaries(&mut bursts.primary, p..ends.0, now);
        self.take_secondaries(&mut bursts.secondary, s..ends.1, now);
    }

    /// [`Comparator::ingest`] of a P alone. Without room it is returned.
    pub fn primary(&mut self, frame: F, now: Ticks) -> Result<(), F> {
        let mut frame = iter::once(frame);
        self.ingest(&mut frame, &mut iter::empty(), now);
        frame.next().map_or(Ok(()), Err)
    }

    /// [`Comparator::ingest`] of an S alone.
    pub fn secondary(&mut self, frame: F, now: Ticks) {
        self.ingest(&mut iter::empty(), &mut iter::once(frame), now);
    }
}
