//! The S that segments in order have used up, kept for the PVM's retransmissions: a ring in which
//! the youngest overwrites the oldest.
//!
//! A step names the step before it of the same flow, so that a flow needs to know its last one
//! only, and nothing of the flow has to be touched when a step falls off the end. A flow that has to
//! look at its history takes its steps back into the list of its witnesses.

use crate::flow::FlowId;
use crate::frame::{Frame, Ticks};

/// One S of history.
pub(super) struct Step<F> {
    pub frame: F,
    /// When it came.
    pub arrived: Ticks,
    pub flow: FlowId,
    /// The step before it of the same flow, if it is there still.
    pub before: Option<Mark>,
    /// Position of its first byte in the stream, and how many there are.
    pub seq: u32,
    pub len: u32,
    /// Where they begin in the frame.
    pub payload: u16,
}

/// The number of a step, which begins anew after 2^32. A flow's own last step is newer than all
/// others that any flow of the same id has made, so the number and the id together name a step or
/// none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark(u32);

/// The ring.
pub(super) struct Trail<F> {
    steps: Box<[Option<Step<F>>]>,
    /// Numbers of the oldest step and of the one that comes next.
    begin: u32,
    end: u32,
    /// Places of steps that were taken back.
    holes: usize,
    /// Buffers of the steps that are there.
    buffers: usize,
}

impl<F: Frame> Trail<F> {
    /// A ring of at least `most` steps.
    pub(super) fn new(most: usize) -> Self {
        let places = most.max(1).next_power_of_two();
        Self {
            steps: (0..places).map(|_| None).collect(),
            begin: 0,
            end: 0,
            holes: 0,
            buffers: 0,
        }
    }

    /// Buffers of the steps in the ring.
    #[inline(always)]
    pub(super) fn buffers(&self) -> usize {
        self.buffers
    }

    /// Steps in the ring.
    pub(super) fn len(&self) -> usize {
        self.end.wrapping_sub(self.begin) as usize - self.holes
    }

    /// Whether the next step has no place before the oldest is dropped.
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.end.wrapping_sub(self.begin) as usize == self.steps.len()
    }

    /// Whether there is no step, nor the place of one.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Adds a step. The caller has seen [`Trail::is_full`].
    #[inline(always)]
    pub(super) fn push(&mut self, step: Step<F>) -> Mark {
        let mark = Mark(self.end);
        let place = self.place(mark);
        self.buffers += step.frame.buffers();
        let old = self.steps[place].replace(step);
        debug_assert!(old.is_none(), "the caller has seen that there is room");
        self.end = self.end.wrapping_add(1);
        mark
    }

    /// When the oldest step came; drops holes before it.
    #[inline(always)]
    pub(super) fn oldest(&mut self) -> Option<Ticks> {
        while self.begin != self.end {
            let place = self.place(Mark(self.begin));
            if let Some(step) = &self.steps[place] {
                return Some(step.arrived);
            }
            self.begin = self.begin.wrapping_add(1);
            self.holes -= 1;
        }
        None
    }

    /// Drops the oldest step, or the hole in its place. The caller has seen [`Trail::is_empty`].
    #[inline(always)]
    pub(super) fn drop_oldest(&mut self) {
        debug_assert!(!self.is_empty());
        let place = self.place(Mark(self.begin));
        self.begin = self.begin.wrapping_add(1);
        match self.steps[place].take() {
            Some(step) => self.buffers -= step.frame.buffers(),
            None => self.holes -= 1,
        }
    }

    /// Takes a flow's step back, if it is there still.
    pub(super) fn take(&mut self, flow: FlowId, mark: Mark) -> Option<Step<F>> {
        let span = self.end.wrapping_sub(self.begin);
        if mark.0.wrapping_sub(self.begin) >= span {
            return None;
        }
        let place = self.place(mark);
        let step = self.steps[place].take_if(|step| step.flow == flow)?;
        self.holes += 1;
        self.buffers -= step.frame.buffers();
        Some(step)
    }

    #[inline(always)]
    fn place(&self, mark: Mark) -> usize {
        mark.0 as usize & (self.steps.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowKey, FlowTable};
    use crate::frame::HeapFrame;

    fn flows() -> [FlowId; 2] {
        let mut table = FlowTable::new(2);
        let mut add = |id: u64| {
            let key = FlowKey::link([id as u8; 6], [0; 6], 0, Default::default());
            table.insert(key, id, ()).expect("room")
        };
        [add(1), add(2)]
    }

    fn step(flow: FlowId, seq: u32, before: Option<Mark>) -> Step<HeapFrame> {
        Step {
            frame: HeapFrame::new(b"step"),
            arrived: u64::from(seq),
            flow,
            before,
            seq,
            len: 4,
            payload: 0,
        }
    }

    #[test]
    fn a_step_is_there_until_it_is_dropped_or_taken() {
        let [a, b] = flows();
        let mut trail = Trail::new(3);
        // So that the numbers begin anew meanwhile.
        (trail.begin, trail.end) = (u32::MAX - 1, u32::MAX - 1);
        let marks: Vec<Mark> = (0..4).map(|n| trail.push(step(a, n, None))).collect();
        assert!(trail.is_full());
        assert_eq!(trail.oldest(), Some(0));
        assert!(trail.take(b, marks[1]).is_none(), "another flow's");
        assert_eq!(trail.take(a, marks[1]).map(|s| s.seq), Some(1));
        assert!(trail.take(a, marks[1]).is_none(), "taken");
        trail.drop_oldest();
        assert!(trail.take(a, marks[0]).is_none(), "dropped");
        assert_eq!((trail.len(), trail.buffers()), (2, 2), "and a hole");
        assert_eq!((trail.oldest(), trail.len()), (Some(2), 2));
        // The fifth step lies where the first one was.
        let fifth = trail.push(step(b, 4, None));
        assert!(trail.take(a, marks[0]).is_none());
        assert_eq!(trail.take(b, fifth).map(|s| s.seq), Some(4));
        assert_eq!((trail.len(), trail.buffers()), (2, 2));
    }
}
