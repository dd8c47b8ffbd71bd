//! Link frames that are longer than the link's MTU travel in fragments.
//!
//! A link frame is fragmented as a whole, header and payload, below the numbering: one that lacks a
//! fragment never comes whole, its number is missing, and that is a loss like any other (rule R7).
//! Fragments come in the order in which they were sent or the frame counts as lost; so one frame at
//! a time is being put together (rule R10).
//!
//! A fragment has the Ethernet header of its frame and then, big endian:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 2 | magic 0xc01f |
//! | 2 | 1 | version 1 |
//! | 3 | 1 | 0 |
//! | 4 | 2 | bytes of the frame that follow; the fragment may be longer by padding |
//! | 6 | 2 | Internet checksum (RFC 1071) of these 20 bytes |
//! | 8 | 4 | number of the frame, one more than of the one before |
//! | 12 | 4 | offset of those bytes in the frame |
//! | 16 | 4 | bytes of the frame, its Ethernet header included |

use super::wire::ETHER_TYPE;
use crate::packet::checksum::Sum;

/// Bytes in front of a fragment's part of the frame, the Ethernet header included.
pub const FRAGMENT_HEADER: usize = ETHERNET + HEADER;

/// A longer frame is none of ours: a link header, an Ethernet header with tags, and 64 KB.
const FRAME_MAX: u32 = 66_000;

/// Bytes that every fragment but the last has at least.
const LEAST: u16 = 64;

const ETHERNET: usize = 14;
const HEADER: usize = 20;
const MAGIC: u16 = 0xc01f;
const VERSION: u8 = 1;

/// One fragment's place in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    frame: u32,
    offset: u32,
    total: u32,
    /// Bytes of the frame in it.
    pub length: u16,
}

impl Fragment {
    /// Whether a received frame is a fragment, good or bad; all others are whole link frames or
    /// garbage.
    #[inline]
    pub fn is_one(head: &[u8]) -> bool {
        head.get(12..16)
            == Some(&[
                (ETHER_TYPE >> 8) as u8,
                ETHER_TYPE as u8,
                (MAGIC >> 8) as u8,
                MAGIC as u8,
            ])
    }

    /// Reads a fragment's header; `None` where it contradicts itself or the frame's length.
    pub fn decode(head: &[u8], frame_len: usize) -> Option<Self> {
        let h: &[u8; HEADER] = head.get(ETHERNET..)?.first_chunk()?;
        let mut sum = Sum::default();
        sum.add(h);
        if !Self::is_one(head) || h[2] != VERSION || sum.folded() != 0xffff {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let fragment = Self {
            length: u16::from_be_bytes([h[4], h[5]]),
            frame: word(8),
            offset: word(12),
            total: word(16),
        };
        let end = fragment.offset.checked_add(u32::from(fragment.length))?;
        // Only the last one may be short, so that a frame has a bounded number of fragments.
        let long_enough = fragment.length >= LEAST || end == fragment.total;
        (fragment.length > 0
            && long_enough
            && fragment.total <= FRAME_MAX
            && end <= fragment.total
            && FRAGMENT_HEADER + usize::from(fragment.length) <= frame_len)
            .then_some(fragment)
    }

    fn encode(&self, ethernet: &[u8; ETHERNET]) -> [u8; FRAGMENT_HEADER] {
        let mut out = [0; FRAGMENT_HEADER];
        out[..ETHERNET].copy_from_slice(ethernet);
        let h = &mut out[ETHERNET..];
        h[0..2].copy_from_slice(&MAGIC.to_be_bytes());
        h[2] = VERSION;
        h[4..6].copy_from_slice(&self.length.to_be_bytes());
        for (at, word) in [(8, self.frame), (12, self.offset), (16, self.total)] {
            h[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        let mut sum = Sum::default();
        sum.add(h);
        let check = sum.checksum();
        h[6..8].copy_from_slice(&check.to_be_bytes());
        out
    }
}

/// The sending end: headers for the fragments of one frame after the other.
#[derive(Clone, Debug)]
pub struct Fragmenter {
    /// Bytes of a frame that fit in a fragment.
    part: u16,
    frame: u32,
    offset: u32,
    total: u32,
    ethernet: [u8; ETHERNET],
}

impl Fragmenter {
    /// For a link that carries frames of up to `longest` bytes, Ethernet header included; `None`
    /// where not even a fragment header fits with 64 bytes behind it.
    pub fn new(longest: usize) -> Option<Self> {
        let part = longest
            .checked_sub(FRAGMENT_HEADER)
            .filter(|&part| part >= usize::from(LEAST))?;
        Some(Self {
            part: u16::try_from(part).unwrap_or(u16::MAX),
            frame: 0,
            offset: 0,
            total: 0,
            ethernet: [0; ETHERNET],
        })
    }

    /// Begins a frame of `total` bytes that starts with `head`; false if it has no Ethernet header.
    /// The one before was fragmented to its end.
    pub fn begin(&mut self, head: &[u8], total: usize) -> bool {
        let (Some(&ethernet), Ok(total)) = (head.first_chunk(), u32::try_from(total)) else {
            return false;
        };
        (self.ethernet, self.total, self.offset) = (ethernet, total, 0);
        self.frame = self.frame.wrapping_add(1);
        true
    }

    /// Bytes of the frame that come next: 0 at its end.
    pub fn next_length(&self) -> usize {
        (self.total - self.offset).min(u32::from(self.part)) as usize
    }

    /// The bytes to put in front of them.
    pub fn next_header(&mut self) -> [u8; FRAGMENT_HEADER] {
        let length = self.next_length() as u16;
        let fragment = Fragment {
            frame: self.frame,
            offset: self.offset,
            total: self.total,
            length,
        };
        self.offset += u32::from(length);
        fragment.encode(&self.ethernet)
    }
}

/// What to do with a fragment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// They begin a frame; what was there of another one is lost.
    Begin,
    /// They come behind those that are there.
    Append,
    /// They begin a frame and end it.
    Whole,
    /// They come behind those that are there and end the frame.
    Finish,
    /// They belong to a frame that is lost.
    Drop,
}

/// The receiving end: which fragment continues the frame that is being put together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reassembly {
    /// The frame, its next offset and its length.
    open: Option<(u32, u32, u32)>,
    /// Fragments whose frame was lost, and frames that were begun and not ended.
    pub lost: u64,
}

impl Reassembly {
    /// Where a fragment belongs.
    pub fn step(&mut self, fragment: &Fragment) -> Step {
        let end = fragment.offset + u32::from(fragment.length);
        let ends = end == fragment.total;
        if fragment.offset == 0 {
            if self.open.take().is_some() {
                self.lost += 1;
            }
            if ends {
                return Step::Whole;
            }
            self.open = Some((fragment.frame, end, fragment.total));
            return Step::Begin;
        }
        if self.open != Some((fragment.frame, fragment.offset, fragment.total)) {
            // A fragment that comes twice or late does not spoil the frame, if that is complete
            // without it.
            self.lost += 1;
            return Step::Drop;
        }
        if ends {
            self.open = None;
            return Step::Finish;
        }
        self.open = Some((fragment.frame, end, fragment.total));
        Step::Append
    }

    /// Gives up the frame that is being put together.
    pub fn abandon(&mut self) {
        if self.open.take().is_some() {
            self.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fragments of a frame, as they travel.
    fn cut(sender: &mut Fragmenter, frame: &[u8]) -> Vec<Vec<u8>> {
        assert!(sender.begin(frame, frame.len()));
        let (mut out, mut at) = (Vec::new(), 0);
        while sender.next_length() > 0 {
            let n = sender.next_length();
            let mut bytes = sender.next_header().to_vec();
            bytes.extend_from_slice(&frame[at..at + n]);
            at += n;
            out.push(bytes);
        }
        out
    }

    /// The frames that come whole.
    fn join(receiver: &mut Reassembly, fragments: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut whole, mut open) = (Vec::new(), Vec::new());
        for bytes in fragments {
            let fragment = Fragment::decode(bytes, bytes.len()).expect("a fragment");
            let part = &bytes[FRAGMENT_HEADER..FRAGMENT_HEADER + usize::from(fragment.length)];
            let step = receiver.step(&fragment);
            match step {
                Step::Begin | Step::Whole => open = part.to_vec(),
                Step::Append | Step::Finish => open.extend_from_slice(part),
                Step::Drop => {}
            }
            if matches!(step, Step::Whole | Step::Finish) {
                whole.push(std::mem::take(&mut open));
            }
        }
        whole
    }

    fn frame(n: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![n; len];
        bytes[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
        bytes
    }

    #[test]
    fn every_fragment_fits_the_link() {
        let mut sender = Fragmenter::new(1514).expect("a usual MTU");
        let fragments = cut(&mut sender, &frame(1, 65_593));
        assert!(fragments.iter().all(|f| f.len() <= 1514));
        assert_eq!(
            fragments.len(),
            65_593usize.div_ceil(1514 - FRAGMENT_HEADER)
        );
        let mut receiver = Reassembly::default();
        assert_eq!(join(&mut receiver, &fragments), [frame(1, 65_593)]);
        assert!(Fragmenter::new(FRAGMENT_HEADER + 63).is_none());
    }

    proptest! {
        /// Whatever is lost, doubled and reordered: what comes whole is a frame that was sent.
        #[test]
        fn nothing_but_what_was_sent_comes_whole(
            lengths in prop::collection::vec(64usize..9000, 1..6),
            longest in 98usize..3000,
            faults in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8), 0..4),
        ) {
            let mut sender = Fragmenter::new(longest).expect("room for 64 bytes");
            let frames: Vec<_> =
                lengths.iter().enumerate().map(|(n, &len)| frame(n as u8, len)).collect();
            let mut travelling: Vec<_> =
                frames.iter().flat_map(|frame| cut(&mut sender, frame)).collect();
            for (at, fault) in &faults {
                let at = at.index(travelling.len());
                match fault {
                    0 => drop(travelling.remove(at)),
                    1 => travelling.insert(at, travelling[at].clone()),
                    _ => {
                        let next = (at + 1) % travelling.len();
                        travelling.swap(at, next);
                    }
                }
                if travelling.is_empty() {
                    return Ok(());
                }
            }
            let whole = join(&mut Reassembly::default(), &travelling);
            prop_assert!(whole.iter().all(|frame| frames.contains(frame)));
            if faults.is_empty() {
                prop_assert_eq!(whole, frames);
            }
        }

        #[test]
        fn bytes_of_any_kind_are_read_without_harm(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80), ours: bool, seal: bool
        ) {
            if ours && bytes.len() >= 17 {
                bytes[12..17].copy_from_slice(&[0x88, 0xb5, 0xc0, 0x1f, VERSION]);
            }
            if seal && bytes.len() >= FRAGMENT_HEADER {
                bytes[20..22].fill(0);
                let mut sum = Sum::default();
                sum.add(&bytes[ETHERNET..FRAGMENT_HEADER]);
                bytes[20..22].copy_from_slice(&sum.checksum().to_be_bytes());
            }
            if let Some(fragment) = Fragment::decode(&bytes, bytes.len()) {
                prop_assert!(FRAGMENT_HEADER + usize::from(fragment.length) <= bytes.len());
                Reassembly::default().step(&fragment);
            }
        }
    }
}
