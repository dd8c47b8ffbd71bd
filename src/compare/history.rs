//! The S that segments in order have used up, kept for the PVM's retransmissions: a ring in which
//! the youngest overwrites the oldest.
//!
//! An entry names the entry before it of the same flow, so that a flow needs to know its last one
//! only, and nothing of the flow has to be touched when an entry falls off the end. A flow that has to
//! look at its history takes its entries back into the list of its witnesses.

use crate::flow::FlowId;
use crate::frame::{Frame, Ticks};

/// One S of history.
pub(super) struct Entry<F> {
    pub frame: F,
    /// When it came.
    pub arrived: Ticks,
    pub flow: FlowId,
    /// The entry before it of the same flow, if it is there still.
    pub before: Option<EntryNumber>,
    /// Position of its first byte in the stream, and how many there are.
    pub seq: u32,
    pub len: u32,
    /// Where they begin in the frame.
    pub payload: u16,
}

/// The number of an entry, which begins anew after 2^32. A flow's own last entry is newer than all
/// others that any flow of the same id has made, so the number and the id together name an entry or
/// none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryNumber(u32);

/// The ring.
pub(super) struct HistoryRing<F> {
    entries: Box<[Option<Entry<F>>]>,
    /// Numbers of the oldest entry and of the one that comes next.
    begin: u32,
    end: u32,
    /// Places of entries that were taken back.
    holes: usize,
    /// Buffers of the entries that are there.
    buffers: usize,
}

impl<F: Frame> HistoryRing<F> {
    /// A ring of at least `most` entries.
    pub(super) fn new(most: usize) -> Self {
        let places = most.max(1).next_power_of_two();
        Self {
            entries: (0..places).map(|_| None).collect(),
            begin: 0,
            end: 0,
            holes: 0,
            buffers: 0,
        }
    }

    /// Buffers of the entries in the ring.
    #[inline(always)]
    pub(super) fn buffers(&self) -> usize {
        self.buffers
    }

    /// Steps in the ring.
    pub(super) fn len(&self) -> usize {
        self.end.wrapping_sub(self.begin) as usize - self.holes
    }

    /// Whether the next entry has no place before the oldest is dropped.
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.end.wrapping_sub(self.begin) as usize == self.entries.len()
    }

    /// Whether there is no entry, nor the place of one.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Adds an entry. The caller has seen [`HistoryRing::is_full`].
    #[inline(always)]
    pub(super) fn push(&mut self, entry: Entry<F>) -> EntryNumber {
        let mark = EntryNumber(self.end);
        let place = self.place(mark);
        self.buffers += entry.frame.buffers();
        let old = self.entries[place].replace(entry);
        debug_assert!(old.is_none(), "the caller has seen that there is room");
        self.end = self.end.wrapping_add(1);
        mark
    }

    /// When the oldest entry came; drops holes before it.
    #[inline(always)]
    pub(super) fn oldest(&mut self) -> Option<Ticks> {
        while self.begin != self.end {
            let place = self.place(EntryNumber(self.begin));
            if let Some(entry) = &self.entries[place] {
                return Some(entry.arrived);
            }
            self.begin = self.begin.wrapping_add(1);
            self.holes -= 1;
        }
        None
    }

    /// Drops the oldest entry, or the hole in its place. The caller has seen [`HistoryRing::is_empty`].
    #[inline(always)]
    pub(super) fn drop_oldest(&mut self) {
        debug_assert!(!self.is_empty());
        let place = self.place(EntryNumber(self.begin));
        self.begin = self.begin.wrapping_add(1);
        match self.entries[place].take() {
            Some(entry) => self.buffers -= entry.frame.buffers(),
            None => self.holes -= 1,
        }
    }

    /// Takes a flow's entry back, if it is there still.
    pub(super) fn take(&mut self, flow: FlowId, mark: EntryNumber) -> Option<Entry<F>> {
        let span = self.end.wrapping_sub(self.begin);
        if mark.0.wrapping_sub(self.begin) >= span {
            return None;
        }
        let place = self.place(mark);
        let entry = self.entries[place].take_if(|entry| entry.flow == flow)?;
        self.holes += 1;
        self.buffers -= entry.frame.buffers();
        Some(entry)
    }

    #[inline(always)]
    fn place(&self, mark: EntryNumber) -> usize {
        mark.0 as usize & (self.entries.len() - 1)
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

    fn entry(flow: FlowId, seq: u32, before: Option<EntryNumber>) -> Entry<HeapFrame> {
        Entry {
            frame: HeapFrame::new(b"entry"),
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
        let mut ring = HistoryRing::new(3);
        // So that the numbers begin anew meanwhile.
        (ring.begin, ring.end) = (u32::MAX - 1, u32::MAX - 1);
        let marks: Vec<EntryNumber> = (0..4).map(|n| ring.push(entry(a, n, None))).collect();
        assert!(ring.is_full());
        assert_eq!(ring.oldest(), Some(0));
        assert!(ring.take(b, marks[1]).is_none(), "another flow's");
        assert_eq!(ring.take(a, marks[1]).map(|s| s.seq), Some(1));
        assert!(ring.take(a, marks[1]).is_none(), "taken");
        ring.drop_oldest();
        assert!(ring.take(a, marks[0]).is_none(), "dropped");
        assert_eq!((ring.len(), ring.buffers()), (2, 2), "and a hole");
        assert_eq!((ring.oldest(), ring.len()), (Some(2), 2));
        // The fifth entry lies where the first one was.
        let fifth = ring.push(entry(b, 4, None));
        assert!(ring.take(a, marks[0]).is_none());
        assert_eq!(ring.take(b, fifth).map(|s| s.seq), Some(4));
        assert_eq!((ring.len(), ring.buffers()), (2, 2));
    }
}
