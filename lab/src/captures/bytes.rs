//! Which bytes a stream has had at which positions, position by position.

use std::collections::{HashMap, HashSet};

/// Bytes in one page; a power of two.
const PAGE: usize = 256;

/// All values that each position of a stream has had. Positions are sequence numbers, modulo 2^32.
#[derive(Default)]
pub struct ByteMap {
    pages: HashMap<u32, Box<Page>>,
    /// Values beside the first, of positions that have had several.
    others: HashSet<(u32, u8)>,
}

struct Page {
    known: [u64; PAGE / 64],
    first: [u8; PAGE],
}

/// What a byte was to a [`ByteMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The first at its position.
    New,
    /// Equal to the first.
    Equal,
    /// Another than the first.
    Other,
}

impl ByteMap {
    /// Notes a byte.
    pub fn note(&mut self, at: u32, value: u8) -> Note {
        let i = at as usize % PAGE;
        let page = self.pages.entry(at / PAGE as u32).or_insert_with(|| {
            Box::new(Page {
                known: [0; PAGE / 64],
                first: [0; PAGE],
            })
        });
        if page.known[i / 64] >> (i % 64) & 1 == 0 {
            page.known[i / 64] |= 1 << (i % 64);
            page.first[i] = value;
            Note::New
        } else if page.first[i] == value {
            Note::Equal
        } else {
            self.others.insert((at, value));
            Note::Other
        }
    }

    /// The first value at a position.
    pub fn first(&self, at: u32) -> Option<u8> {
        let page = self.pages.get(&(at / PAGE as u32))?;
        let i = at as usize % PAGE;
        (page.known[i / 64] >> (i % 64) & 1 == 1).then(|| page.first[i])
    }

    /// Whether a position has had this value.
    pub fn has(&self, at: u32, value: u8) -> bool {
        self.first(at) == Some(value) || self.others.contains(&(at, value))
    }
}

/// Whether sequence number `a` is `b` or lies before it, within 2^31 (RFC 9293, 3.4).
pub fn at_or_before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}
