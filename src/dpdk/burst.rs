//! [`Burst`]: up to 32 mbufs in a fixed array, the unit in which ports give and take.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::{ptr, slice};

use super::dpdk_sys::{self, rte_mbuf};
use super::mbuf::Mbuf;

/// Up to [`Burst::CAPACITY`] frames in order. Dropping it frees them in one call.
pub struct Burst {
    /// The first `len` are initialised.
    slots: [MaybeUninit<Mbuf>; Burst::CAPACITY],
    len: usize,
}

impl Burst {
    /// What a poll core moves at a time, the size that DPDK's drivers are tuned for.
    pub const CAPACITY: usize = crate::frame::BURST;

    /// An empty burst.
    #[inline]
    pub const fn new() -> Self {
        Self {
            slots: [const { MaybeUninit::uninit() }; Self::CAPACITY],
            len: 0,
        }
    }

    /// Whether no further frame fits.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == Self::CAPACITY
    }

    /// Appends a frame, or gives it back when the burst is full.
    #[inline]
    pub fn push(&mut self, frame: Mbuf) -> Result<(), Mbuf> {
        if self.is_full() {
            return Err(frame);
        }
        self.slots[self.len].write(frame);
        self.len += 1;
        Ok(())
    }

    /// Takes the last frame out.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the slot was the last initialised one, and is none of them any more.
        Some(unsafe { self.slots[self.len].assume_init_read() })
    }

    /// Takes the first frame out; the others move up.
    pub fn pop_front(&mut self) -> Option<Mbuf> {
        let first = self.slots[..self.len].first()?;
        // SAFETY: the slot is initialised, and overwritten or left behind below.
        let first = unsafe { first.assume_init_read() };
        self.len -= 1;
        let start = self.slots.as_mut_ptr();
        // SAFETY: moves the initialised slots 1..=len one down, inside the array.
        unsafe { ptr::copy(start.add(1), start, self.len) };
        Some(first)
    }

    /// Takes all frames out, in order; those that the iterator still has when it is dropped are
    /// freed.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        // Before any frame moves: a leaked Drain then leaks frames and frees none twice.
        let end = std::mem::take(&mut self.len);
        Drain {
            burst: self,
            next: 0,
            end,
        }
    }

    /// Frees all frames.
    #[inline]
    pub fn clear(&mut self) {
        let n = std::mem::take(&mut self.len);
        free(&mut self.slots[..n]);
    }

    /// Lets a C function append: it gets the first free slot and the number of free slots, and
    /// returns how many it filled, from the first on, with chains that nobody else owns. Returns
    /// that number.
    #[inline]
    pub(super) fn fill(&mut self, f: impl FnOnce(*mut *mut rte_mbuf, u16) -> u16) -> usize {
        let free = &mut self.slots[self.len..];
        let room = free.len();
        // An Mbuf is a transparent pointer, so a slot can hold what the C function writes.
        let filled = usize::from(f(free.as_mut_ptr().cast(), room as u16)).min(room);
        self.len += filled;
        filled
    }

    /// Lets a C function take leading frames: it gets the first one and their number, and returns
    /// how many, from the first on, it became the owner of. The rest stays, in order. Returns
    /// that number.
    #[inline]
    pub(super) fn take(&mut self, f: impl FnOnce(*mut *mut rte_mbuf, u16) -> u16) -> usize {
        let start = self.slots.as_mut_ptr();
        let taken = usize::from(f(start.cast(), self.len as u16)).min(self.len);
        let rest = self.len - taken;
        if taken > 0 && rest > 0 {
            // SAFETY: moves the initialised slots taken..len to the front; those that they
            // overwrite have another owner now.
            unsafe { ptr::copy(start.add(taken), start, rest) };
        }
        self.len = rest;
        taken
    }
}

#[inline]
fn free(slots: &mut [MaybeUninit<Mbuf>]) {
    if !slots.is_empty() {
        // SAFETY: callers pass initialised slots that they no longer count as such; the function
        // takes one reference of each chain.
        unsafe {
            dpdk_sys::rte_pktmbuf_free_bulk(slots.as_mut_ptr().cast(), slots.len() as u32);
        }
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Burst {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl Deref for Burst {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        // SAFETY: the first len slots are initialised.
        unsafe { slice::from_raw_parts(self.slots.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Burst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first len slots are initialised.
        unsafe { slice::from_raw_parts_mut(self.slots.as_mut_ptr().cast(), self.len) }
    }
}

/// See [`Burst::drain`].
pub struct Drain<'a> {
    burst: &'a mut Burst,
    next: usize,
    end: usize,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        if self.next == self.end {
            return None;
        }
        // SAFETY: slots next..end are initialised and belong to this iterator; this one is left
        // behind.
        let frame = unsafe { self.burst.slots[self.next].assume_init_read() };
        self.next += 1;
        Some(frame)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n = self.end - self.next;
        (n, Some(n))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        free(&mut self.burst.slots[self.next..self.end]);
    }
}

const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut rte_mbuf>());
