//! [`Slices`]: one frame given out piece by piece, without a copy.

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
    /// All bytes of the frame.
    pub fn new(frame: Mbuf) -> Self {
        Self {
            at: frame.as_raw(),
            offset: 0,
            left: frame.len(),
            frame,
        }
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
    /// ([`Mbuf::with_header`]); `None`, and nothing taken, when `pool` is short. The mbufs' own
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
            let now = wanted.min(len - self.offset);
            let Some(part) = alloc() else {
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
            whole = Some(match whole {
                None => part,
                Some(head) => {
                    let tail = std::mem::ManuallyDrop::new(part);
                    // SAFETY: both chains were made here and have no other owner; the tail's
                    // reference goes over to the head. A slice has no more segments than its
                    // frame, so their number fits.
                    unsafe {
                        dpdk_sys::shim_pktmbuf_chain(
                            head.as_raw().as_ptr(),
                            tail.as_raw().as_ptr(),
                        );
                    }
                    head
                }
            });
            self.offset += now;
            wanted -= now;
        }
        self.left -= n;
        whole
    }
}
