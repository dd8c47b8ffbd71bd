//! The bytes of the PVM that a rule has masked, so that they leave again only with the same values (rule R5): history has
//! the SVM's.
//!
//! A ring in which the youngest overwrites the oldest. An entry names the one before it of the same connection, whose
//! positions rise, so that a connection knows its last one only.

use crate::flow::FlowId;

/// Bytes that are known at a time.
const MOST: usize = 4096;

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

/// The ring.
pub(super) struct MaskedBytes {
    entries: Vec<MaskedByte>,
    /// The number of the next entry.
    next: u32,
    most: usize,
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
        }
    }

    /// Adds a byte; `None` where there is no room for any.
    pub(super) fn push(&mut self, byte: MaskedByte) -> Option<MaskedNumber> {
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
    pub(super) fn get(&self, flow: FlowId, number: MaskedNumber) -> Option<&MaskedByte> {
        let age = self.next.wrapping_sub(number.0) as usize;
        if !(1..=self.entries.len()).contains(&age) {
            return None;
        }
        let byte = self.entries.get(self.place(number))?;
        Some(byte).filter(|byte| byte.flow == flow)
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
    }
}
