//! The bytes of the PVM that a rule has masked, so that they leave again only with the same values (rule R5): history has
//! the SVM's.
//!
//! A ring in which the youngest overwrites the oldest. An entry names the one before it of the same connection, whose
//! positions rise, so that a connection knows its last one only.

use crate::flow::FlowId;
use crate::frame::Ticks;

/// Bytes that are known at a time.
const MOST: usize = 4096;
/// Bytes that rules are asked about in a round at most. A look back takes about as long as the comparison of a frame,
/// and a guest decides how many of its bytes differ.
pub(super) const ROUND: usize = 1024;

/// The number of an entry, which begins anew after 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MaskedNumber(u32);

/// One masked byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaskedByte {
    pub flow: FlowId,
    /// Its position in the stream.
    pub position: u32,
    /// What the PVM has sent.
    pub value: u8,
    /// The one before it of the same connection.
    pub before: Option<MaskedNumber>,
}

/// A byte that a rule masks, if rules mask all that differs beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its position in the stream.
    pub position: u32,
    /// What the PVM has sent.
    pub value: u8,
    /// The rule by its place.
    pub rule: usize,
}

/// The ring.
pub(super) struct MaskedBytes {
    entries: Vec<MaskedByte>,
    /// The number of the next entry.
    next: u32,
    most: usize,
    candidates: Vec<Candidate>,
    /// The round in which rules were asked last, and how many bytes they may still be asked about in it.
    round: Ticks,
    left: usize,
}

impl MaskedBytes {
    /// None yet; without mask rules there never are any.
    pub(super) fn new(masks: bool) -> Self {
        Self::of(if masks { MOST } else { 0 })
    }

    fn of(most: usize) -> Self {
        debug_assert!(most == 0 || most.is_power_of_two());
        Self {
            entries: Vec::with_capacity(most),
            next: 0,
            most,
            candidates: Vec::with_capacity(most.min(ROUND)),
            round: 0,
            left: ROUND,
        }
    }

    /// Whether rules may be asked about one more byte in the round of this time; counts it.
    pub(super) fn may_ask(&mut self, now: Ticks) -> bool {
        if self.round != now {
            (self.round, self.left) = (now, ROUND);
        }
        let may = self.left > 0;
        self.left -= usize::from(may);
        may
    }

    /// Counts bytes that were looked at because they were masked before.
    pub(super) fn count_repeated(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// A comparison begins.
    pub(super) fn begin(&mut self) {
        self.candidates.clear();
    }

    /// Notes a byte that is added if all that differs is masked.
    pub(super) fn propose(&mut self, candidate: Candidate) {
        debug_assert!(self.candidates.len() < ROUND, "rules were asked about each");
        self.candidates.push(candidate);
    }

    /// Adds what was proposed since the comparison began behind a connection's last byte, and says each one's rule.
    /// Returns the connection's last byte.
    pub(super) fn add_proposed(
        &mut self,
        flow: FlowId,
        mut last: Option<MaskedNumber>,
        mut count: impl FnMut(usize),
    ) -> Option<MaskedNumber> {
        for at in 0..self.candidates.len() {
            let Candidate {
                position,
                value,
                rule,
            } = self.candidates[at];
            count(rule);
            last = self.push(MaskedByte {
                flow,
                position,
                value,
                before: last,
            });
        }
        self.candidates.clear();
        last
    }

    /// Adds a byte; `None` where there is no room for any.
    fn push(&mut self, byte: MaskedByte) -> Option<MaskedNumber> {
        if self.most == 0 {
            return None;
        }
        let number = MaskedNumber(self.next);
        let place = self.place(number);
        if place == self.entries.len() {
            self.entries.push(byte);
        } else {
            self.entries[place] = byte;
        }
        self.next = self.next.wrapping_add(1);
        Some(number)
    }

    /// A connection's entry, if it is there still.
    fn get(&self, flow: FlowId, number: MaskedNumber) -> Option<&MaskedByte> {
        let age = self.next.wrapping_sub(number.0) as usize;
        if !(1..=self.entries.len()).contains(&age) {
            return None;
        }
        let byte = self.entries.get(self.place(number))?;
        Some(byte).filter(|byte| byte.flow == flow)
    }

    /// A connection's masked bytes from its last one back, as far as they are known. `None` stands for those that are
    /// not known any more, if there were any.
    pub(super) fn back_from(
        &self,
        flow: FlowId,
        last: Option<MaskedNumber>,
    ) -> impl Iterator<Item = Option<MaskedByte>> {
        let mut number = last;
        std::iter::from_fn(move || {
            let byte = self.get(flow, number?).copied();
            number = byte.and_then(|byte| byte.before);
            Some(byte)
        })
    }

    fn place(&self, number: MaskedNumber) -> usize {
        number.0 as usize & (self.most - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowKey, FlowTable};

    #[test]
    fn a_byte_is_there_until_it_is_overwritten() {
        let mut table = FlowTable::new(2);
        let mut add = |id: u64| {
            let key = FlowKey::link([id as u8; 6], [0; 6], 0, Default::default());
            table.insert(key, id, ()).expect("room")
        };
        let (a, b) = (add(1), add(2));
        let mut ring = MaskedBytes::of(4);
        let mut numbers = Vec::new();
        for position in 0..6 {
            let byte = MaskedByte {
                flow: a,
                position,
                value: b'a' + position as u8,
                before: numbers.last().copied(),
            };
            numbers.extend(ring.push(byte));
            let value = |number| ring.get(a, number).map(|byte| byte.value);
            let known: Vec<_> = numbers.iter().filter_map(|number| value(*number)).collect();
            let all = &b"abcdef"[..=position as usize];
            assert_eq!(known, all[all.len().saturating_sub(4)..]);
        }
        assert!(ring.get(b, numbers[5]).is_none(), "another flow's");
        let byte = *ring.get(a, numbers[5]).expect("the last one");
        assert_eq!(byte.before, Some(numbers[4]));
        assert_eq!(MaskedBytes::new(false).push(byte), None);
        let back = ring.back_from(a, Some(numbers[5]));
        let values: Vec<_> = back.map(|byte| byte.map(|byte| byte.value)).collect();
        assert_eq!(
            values,
            [Some(b'f'), Some(b'e'), Some(b'd'), Some(b'c'), None],
            "more were there"
        );
        assert_eq!(ring.back_from(a, None).count(), 0);
    }

    #[test]
    fn a_round_has_a_bound_for_the_bytes_that_rules_are_asked_about() {
        let mut ring = MaskedBytes::of(4);
        for now in [0, 5, 6] {
            let asked = (0..2 * ROUND).filter(|_| ring.may_ask(now)).count();
            assert_eq!(asked, ROUND, "{now}");
        }
    }
}
