//! [`Slices`]: one frame given out piece by piece, without a copy.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::dpdk_sys::{self, rte_mbuf};
use super::mbuf::Mbuf;
use super::mempool::Mempool;
use crate::frame::Frame;

/// The bytes of a frame from some offset on, to be taken in pieces. Each piece is a chain of
/// indirect mbufs that own the bytes together with the frame.
pub struct Slices {
    frame: Mbuf,
    /// The segment that holds the next byte, or the last one; a segment of `frame`.
    at: NonNull<rte_mbuf>,
    /// Of the next byte, in that segment.
    offset: usize,
    left: usize,
}

// SAFETY: `at` points into the chain that `frame` owns, which may go to another thread.
unsafe impl Send for Slices {}

impl Slices {
    /// All bytes of the frame; `None` for one whose segments have fewer bytes than its length says. No
    /// driver should make one, and its missing bytes would be waited for without end.
    pub fn new(frame: Mbuf) -> Option<Self> {
        let there: usize = frame.segments().map(<[u8]>::len).sum();
        (there >= frame.len()).then(|| Self {
            at: frame.as_raw(),
            offset: 0,
            left: frame.len(),
            frame,
        })
    }

    /// The frame whose bytes they are.
    pub fn frame(&self) -> &Mbuf {
        &self.frame
    }

    /// Bytes that were not taken yet.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Leaves out the next `n` bytes, or what is left.
    pub fn skip(&mut self, n: usize) {
        let n = n.min(self.left);
        self.left -= n;
        self.offset += n;
        self.settle();
    }

    /// Moves on to the segment that has the next byte.
    fn settle(&mut self) {
        loop {
            // SAFETY: `at` is a segment of the chain that `frame` owns.
            let segment = unsafe { super::mbuf_fields::Segment::new(self.at) };
            let len = usize::from(segment.data_len());
            match segment.next() {
                Some(next) if self.offset >= len => {
                    self.offset -= len;
                    self.at = next.as_raw();
                }
                _ => return,
            }
        }
    }

    /// The next `n` bytes, 1 to what is left, as a frame that can follow a header
    /// ([`Mbuf::chain`]); `None`, and nothing taken, when `pool` is short. The mbufs' own
    /// buffers are not used, so those of `pool` may be small.
    pub fn take(&mut self, n: usize, pool: &Mempool) -> Option<Mbuf> {
        self.take_into(n, || pool.alloc())
    }

    /// The same with mbufs from anywhere.
    pub(super) fn take_into(
        &mut self,
        n: usize,
        mut alloc: impl FnMut() -> Option<Mbuf>,
    ) -> Option<Mbuf> {
        if n == 0 || n > self.left {
            return None;
        }
        let before = (self.at, self.offset);
        let mut whole: Option<Mbuf> = None;
        let mut wanted = n;
        while wanted > 0 {
            self.settle();
            // SAFETY: as in `settle`.
            let len = usize::from(unsafe { super::mbuf_fields::Segment::new(self.at) }.data_len());
            let now = wanted.min(len.saturating_sub(self.offset));
            debug_assert!(now > 0, "the length agrees with the segments");
            let part = (now > 0).then(&mut alloc).flatten();
            let Some(part) = part else {
                (self.at, self.offset) = before;
                return None;
            };
            // SAFETY: the part is fresh and owned here alone, `at` a segment that this value owns
            // a reference to, and the range lies in its data: offset + now <= len.
            unsafe {
                dpdk_sys::shim_pktmbuf_attach_part(
                    part.as_raw().as_ptr(),
                    self.at.as_ptr(),
                    self.offset as u16,
                    now as u16,
                );
            }
            whole = match whole {
                None => Some(part),
                Some(head) => append(head, part),
            };
            if whole.is_none() {
                (self.at, self.offset) = before;
                return None;
            }
            self.offset += now;
            wanted -= now;
        }
        self.left -= n;
        whole
    }
}

/// One chain of two; `None`, and both freed, where it would have more segments than an mbuf counts.
fn append(head: Mbuf, tail: Mbuf) -> Option<Mbuf> {
    let tail = ManuallyDrop::new(tail);
    // SAFETY: both chains were made here and have no other owner. Where they are joined the tail's
    // reference goes over to the head; else neither was changed.
    let refused =
        unsafe { dpdk_sys::shim_pktmbuf_chain(head.as_raw().as_ptr(), tail.as_raw().as_ptr()) };
    if refused != 0 {
        drop(ManuallyDrop::into_inner(tail));
        return None;
    }
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::super::mbuf_fields::Segment;
    use super::*;

    /// Owners enough that no owner's end frees an mbuf that no pool made.
    const OWNERS: u16 = 1_000;

    /// The memory of an mbuf and its buffer behind it, as a pool lays them out.
    #[repr(C, align(128))]
    struct Made {
        mbuf: rte_mbuf,
        buffer: [u8; 256],
    }

    impl Made {
        /// An mbuf of `len` bytes whose header gives `whole` as the length of its chain.
        fn new(len: u16, whole: u32) -> Box<Self> {
            // SAFETY: an mbuf is plain numbers and pointers, for which zeros are values.
            let mut made: Box<Self> = Box::new(unsafe { std::mem::zeroed() });
            let buffer = made.buffer.as_mut_ptr();
            // SAFETY: the mbuf lives as long as its box, and nobody else has it yet.
            unsafe { Segment::new(NonNull::from(&mut made.mbuf)) }.made(buffer, len, whole, OWNERS);
            made
        }

        fn frame(&mut self) -> Mbuf {
            // SAFETY: it is initialised, and has references enough for each that is given up.
            unsafe { Mbuf::from_raw(NonNull::from(&mut self.mbuf)) }
        }
    }

    /// A chain of 100 and 50 bytes that says another length; it goes before its memory.
    fn chain(says: u32) -> ([Box<Made>; 2], Mbuf) {
        let (mut first, mut second) = (Made::new(100, says), Made::new(50, 50));
        // SAFETY: as in `Made::new`.
        unsafe { Segment::new(NonNull::from(&mut first.mbuf)) }
            .made_before(NonNull::from(&mut second.mbuf));
        let frame = first.frame();
        ([first, second], frame)
    }

    #[test]
    fn a_frame_that_is_shorter_than_it_says_has_no_slices() {
        for (says, has) in [(149, true), (150, true), (151, false), (u32::MAX, false)] {
            let (_made, frame) = chain(says);
            assert_eq!(Slices::new(frame).is_some(), has, "{says}");
        }
    }

    #[test]
    fn what_cannot_be_chained_is_none() {
        let (_heads, head) = chain(150);
        let (_tails, tail) = chain(150);
        // SAFETY: as in `Made::new`.
        unsafe { Segment::new(head.as_raw()) }.made_of(u16::MAX);
        let len = head.len();
        assert!(append(head.share(), tail).is_none());
        assert_eq!((head.len(), head.segments().count()), (len, 2));
    }
}
