//! The known bytes of a stream, by position.
//!
//! Positions are 32-bit numbers that wrap. They are taken to lie within 2^31 of the furthest known one. Bytes far
//! behind that one are dropped, so that memory is bounded for a stream of any length.

use std::collections::BTreeMap;

use dpdk_colo::packet::serial::distance;

const PAGE: usize = 4096;
/// Bytes that are kept behind the furthest one.
pub const KEPT: i64 = 64 << 20;

struct Page {
    bytes: [u8; PAGE],
    known: [u64; PAGE / 64],
}

/// A byte that has two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Offset in the bytes given.
    pub offset: usize,
    /// The known value.
    pub known: u8,
    /// The value given.
    pub given: u8,
}

/// Bytes by position.
#[derive(Default)]
pub struct ByteMap {
    pages: BTreeMap<i64, Box<Page>>,
    /// One behind the furthest position, unwrapped.
    top: Option<i64>,
    /// All bytes are kept.
    pub everything: bool,
}

impl ByteMap {
    fn unwrapped(&self, at: u32) -> i64 {
        match self.top {
            Some(top) => top + i64::from(distance(top as u32, at)),
            // Far enough from 0 for positions before the first one.
            None => (1 << 40) + i64::from(at),
        }
    }

    /// Adds bytes from `at` on. Known bytes stay. Returns the first byte that differs from a known one.
    pub fn insert(&mut self, at: u32, bytes: &[u8]) -> Option<Conflict> {
        if bytes.is_empty() {
            return None;
        }
        let start = self.unwrapped(at);
        let mut conflict = None;
        let mut offset = 0;
        while offset < bytes.len() {
            let position = start + offset as i64;
            let (number, within) = split(position);
            let n = (PAGE - within).min(bytes.len() - offset);
            let page = self.pages.entry(number).or_insert_with(|| {
                Box::new(Page {
                    bytes: [0; PAGE],
                    known: [0; PAGE / 64],
                })
            });
            for i in 0..n {
                let (word, bit) = ((within + i) / 64, 1u64 << ((within + i) % 64));
                let given = bytes[offset + i];
                if page.known[word] & bit == 0 {
                    page.known[word] |= bit;
                    page.bytes[within + i] = given;
                } else if page.bytes[within + i] != given && conflict.is_none() {
                    conflict = Some(Conflict {
                        offset: offset + i,
                        known: page.bytes[within + i],
                        given,
                    });
                }
            }
            offset += n;
        }
        let end = start + bytes.len() as i64;
        if self.top.is_none_or(|top| top < end) {
            self.top = Some(end);
            let (oldest, _) = split(end - KEPT);
            while !self.everything
                && let Some(first) = self.pages.first_entry()
                && *first.key() < oldest
            {
                first.remove();
            }
        }
        conflict
    }

    /// The known ones of `n` bytes from `at` on.
    pub fn read(&self, at: u32, n: usize) -> Vec<Option<u8>> {
        let mut found = Vec::with_capacity(n);
        if self.top.is_none() {
            found.resize(n, None);
            return found;
        }
        let start = self.unwrapped(at);
        while found.len() < n {
            let (number, within) = split(start + found.len() as i64);
            let m = (PAGE - within).min(n - found.len());
            match self.pages.get(&number) {
                None => found.resize(found.len() + m, None),
                Some(page) => {
                    found.extend((within..within + m).map(|i| {
                        (page.known[i / 64] & 1 << (i % 64) != 0).then_some(page.bytes[i])
                    }))
                }
            }
        }
        found
    }
}

fn split(position: i64) -> (i64, usize) {
    let page = PAGE as i64;
    (
        position.div_euclid(page),
        position.rem_euclid(page) as usize,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_again_over_pages_and_the_wrap() {
        let mut map = ByteMap::default();
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i * 7) as u8).collect();
        let at = u32::MAX - 5_000;
        assert_eq!(map.insert(at, &bytes), None);
        let all: Vec<_> = bytes.iter().map(|b| Some(*b)).collect();
        assert_eq!(map.read(at, bytes.len()), all);
        assert_eq!(
            map.read(at.wrapping_sub(2), 3),
            [None, None, Some(bytes[0])]
        );
        assert_eq!(
            map.read(at.wrapping_add(9_999), 2),
            [Some(bytes[9_999]), None]
        );
        assert_eq!(map.insert(at.wrapping_add(50), &bytes[50..60]), None);
        let other = [bytes[6_000], bytes[6_001] ^ 1];
        assert_eq!(
            map.insert(at.wrapping_add(6_000), &other),
            Some(Conflict {
                offset: 1,
                known: bytes[6_001],
                given: bytes[6_001] ^ 1
            })
        );
        assert_eq!(map.read(at.wrapping_add(6_001), 1), [Some(bytes[6_001])]);
    }

    #[test]
    fn what_is_far_behind_is_forgotten() {
        let mut map = ByteMap::default();
        map.insert(0, b"old");
        for step in 1..=(KEPT >> 20) as u32 + 1 {
            map.insert(step << 20, b"new");
        }
        assert_eq!(map.read(0, 1), [None]);
        assert_eq!(map.read(3 << 20, 1), [Some(b'n')]);
    }
}
