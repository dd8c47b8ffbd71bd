//! [`Mbuf`]: an owned frame in a DPDK buffer.
//!
//! # Sharing
//!
//! [`Frame::share`] makes a second owner by raising the reference count of every segment; each
//! owner frees, sends or drops its own. Three rules make that sound, and the methods here keep
//! them:
//!
//! - **Bytes** are written only while their segment has one owner and is direct.
//! - **A segment's own fields** (its place and length, the link to the next one) are changed only
//!   while that segment has one owner. So a shared frame cannot be trimmed or prepended to;
//!   [`Mbuf::chain`] puts a segment of its own in front instead.
//! - **The chain behind a segment** is fixed once the segment is shared, and each owner of a
//!   segment is also an owner of all segments behind it. Both then walk the same links, and
//!   DPDK's free reads a link before it lets go of the segment that holds it.
//!
//! The drivers keep the rules too: they read what they send, and write (virtio's header in the
//! headroom) only where they find a count of 1.

use std::ptr::NonNull;

use super::dpdk_sys::{self, rte_mbuf};
use super::mbuf_fields::{Segment, SegmentMut};
use super::mempool::Mempool;
use super::slices::Slices;
use crate::frame::{Frame, Offload};

/// A frame in one mbuf or a chain of them. Dropping it gives the mbufs back to their pools, or
/// only this owner's references where there are others.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: an mbuf belongs to no thread: pools take it back on any, reference counts are atomic,
// and what owners on different threads share is read-only. It is not Sync: sharing an &Mbuf
// between threads would let both count references up without an atomic.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// # Safety
    /// `raw` is the first segment of a chain, and the caller hands over one reference to each
    /// segment.
    #[inline]
    pub(super) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self(raw)
    }

    #[inline]
    pub(super) fn first(&self) -> Segment<'_> {
        // SAFETY: this value owns a reference to each segment of the chain, and segments change
        // only through &mut self.
        unsafe { Segment::new(self.0) }
    }

    #[inline]
    pub(super) fn first_mut(&mut self) -> Option<SegmentMut<'_>> {
        // SAFETY: self is borrowed exclusively.
        unsafe { self.first().exclusive() }
    }

    fn chain_of(&self) -> impl Iterator<Item = Segment<'_>> {
        std::iter::successors(Some(self.first()), |s| s.next())
    }

    /// First and last segment for writing, which may be one. `None` where either is shared.
    fn ends_mut(&mut self) -> Option<(SegmentMut<'_>, Option<SegmentMut<'_>>)> {
        let last = self
            .chain_of()
            .last()
            .filter(|last| last.as_raw() != self.0);
        let last = match last {
            // SAFETY: self is borrowed exclusively, and this is not the first segment.
            Some(last) => Some(unsafe { last.exclusive() }?),
            None => None,
        };
        // SAFETY: self is borrowed exclusively.
        Some((unsafe { self.first().exclusive() }?, last))
    }

    /// The ethdev id of the port it was received on; meaningless for frames made here and for
    /// drivers that pass mbufs on as they are (net_ring).
    pub fn port(&self) -> u16 {
        self.first().port()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        usize::from(self.first().nb_segs())
    }

    /// Whether any segment has another owner or lies in another mbuf.
    pub fn is_shared(&self) -> bool {
        !self.chain_of().all(Segment::is_writable)
    }

    /// Free bytes before the first segment's data.
    pub fn headroom(&self) -> usize {
        self.first().headroom()
    }

    /// Free bytes behind the last segment's data.
    pub fn tailroom(&self) -> usize {
        self.chain_of().last().map_or(0, Segment::tailroom)
    }

    /// Whether [`Mbuf::prepend`] has room for `n` bytes.
    #[inline]
    pub fn can_prepend(&self, n: usize) -> bool {
        self.first().is_writable() && self.headroom() >= n
    }

    /// Puts `n` bytes of unspecified content in front and returns them; `None` where the frame
    /// is shared or the headroom is smaller.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        let mut first = self.first_mut()?;
        let len = first.get().pkt_len();
        if !first.grow_front(n) {
            return None;
        }
        first.set_pkt_len(len + n as u32);
        Some(&mut first.data_mut()[..n])
    }

    /// Takes `n` bytes off the front. `false`, and nothing done, where the frame is shared or
    /// its first segment has fewer.
    #[inline]
    #[must_use]
    pub fn trim_front(&mut self, n: usize) -> bool {
        let Some(mut first) = self.first_mut() else {
            return false;
        };
        let len = first.get().pkt_len();
        let done = first.shrink_front(n);
        if done {
            first.set_pkt_len(len - n as u32);
        }
        done
    }

    /// Takes `n` bytes off the end. `false`, and nothing done, where the frame is shared or its
    /// last segment has fewer.
    #[must_use]
    pub fn trim_end(&mut self, n: usize) -> bool {
        let Some((mut first, mut last)) = self.ends_mut() else {
            return false;
        };
        let len = first.get().pkt_len();
        let done = last.as_mut().unwrap_or(&mut first).shrink_back(n);
        if done {
            first.set_pkt_len(len - n as u32);
        }
        done
    }

    /// Puts `n` bytes of unspecified content at the end and returns them; `None` where the frame
    /// is shared or the last segment's tailroom is smaller.
    pub fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        let (mut first, mut last) = self.ends_mut()?;
        let len = first.get().pkt_len();
        if !last.as_mut().unwrap_or(&mut first).grow_back(n) {
            return None;
        }
        first.set_pkt_len(len + n as u32);
        let bytes = last.unwrap_or(first).data_mut();
        let at = bytes.len() - n;
        Some(&mut bytes[at..])
    }

    /// One frame of two: `tail` comes behind `head`, and nothing is copied. Other owners of `tail` may be sending it
    /// elsewhere meanwhile. (DPDK's ipv4_multicast example does the same where it does not clone.) Where the first or
    /// the last segment of `head` is shared, or the chain would exceed 65,535 segments, both are returned.
    ///
    /// Only ports that send chains take it: see `Port::sends_chains`.
    pub fn chain(mut head: Mbuf, tail: Mbuf) -> Result<Mbuf, (Mbuf, Mbuf)> {
        let segments = head.segment_count() + tail.segment_count();
        let bytes = head.len() + tail.len();
        let (Ok(segments), Ok(bytes)) = (u16::try_from(segments), u32::try_from(bytes)) else {
            return Err((head, tail));
        };
        let Some((mut first, mut last)) = head.ends_mut() else {
            return Err((head, tail));
        };
        let tail = tail.into_raw();
        // SAFETY: the references of `tail`, which is taken apart here, go over to `head`.
        unsafe { last.as_mut().unwrap_or(&mut first).set_next(tail) };
        first.set_nb_segs(segments);
        first.set_pkt_len(bytes);
        Ok(head)
    }

    /// Another frame with the same bytes, through indirect mbufs from `pool`: unlike
    /// [`Frame::share`] it costs an mbuf per segment, but can be trimmed apart from the original.
    /// `None` when the pool is short.
    pub fn clone_indirect(&self, pool: &Mempool) -> Option<Mbuf> {
        // SAFETY: this value owns a reference to the chain; the function attaches fresh mbufs to
        // it, counting each of its segments up, and returns them or null.
        let clone = unsafe { dpdk_sys::rte_pktmbuf_clone(self.0.as_ptr(), pool.as_ptr()) };
        // SAFETY: a fresh chain that nobody else owns.
        NonNull::new(clone).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// An empty mbuf from the pool that the first one is from.
    fn alloc_beside(&self) -> Option<Mbuf> {
        // SAFETY: an mbuf's pool lives as long as EAL, which outlives every mbuf.
        let mbuf = unsafe { dpdk_sys::shim_pktmbuf_alloc(self.first().pool()) };
        // SAFETY: a fresh mbuf of one segment and reference count 1, owned by nobody else.
        NonNull::new(mbuf).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    pub(super) fn as_raw(&self) -> NonNull<rte_mbuf> {
        self.0
    }

    fn into_raw(self) -> NonNull<rte_mbuf> {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this value owns one reference to each segment and gives them up.
        unsafe { dpdk_sys::shim_pktmbuf_free(self.0.as_ptr()) }
    }
}

impl Frame for Mbuf {
    #[inline]
    fn head(&self) -> &[u8] {
        self.first().data()
    }

    #[inline]
    fn head_mut(&mut self) -> Option<&mut [u8]> {
        Some(self.first_mut()?.data_mut())
    }

    #[inline]
    fn len(&self) -> usize {
        self.first().pkt_len() as usize
    }

    #[inline]
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.chain_of().map(Segment::data)
    }

    #[inline]
    fn prefetch(&self) {
        prefetch(self.0.as_ptr().cast_const());
    }

    #[inline]
    fn prefetch_head(&self) {
        prefetch(self.first().data().as_ptr());
    }

    #[inline]
    fn share(&self) -> Self {
        self.chain_of().for_each(Segment::retain);
        Self(self.0)
    }

    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self> {
        let mut head = self.alloc_beside()?;
        head.append(headers)?
            .copy_from_slice(self.head().get(..headers)?);
        let (flags, lengths) = self.first().work_left();
        let mut bytes = Slices::new(self.share())?;
        bytes.skip(start);
        let mut whole = match len {
            0 => head,
            _ => {
                let part = bytes.take_into(len, || self.alloc_beside())?;
                Self::chain(head, part).ok()?
            }
        };
        whole.first_mut()?.set_offload(flags, lengths);
        Some(whole)
    }

    /// Segments, and the mbufs whose bytes they borrow.
    #[inline]
    fn buffers(&self) -> usize {
        let segments = self.segment_count();
        if segments == 1 {
            // `next` lies in the mbuf's second cache line, which a single segment does not need.
            return 1;
        }
        let second = self.first().next();
        match second.is_some_and(Segment::is_indirect) {
            true => 2 * segments - 1,
            false => segments,
        }
    }

    #[inline]
    fn offload(&self) -> Offload {
        let first = self.first();
        Offload {
            partial_checksum: first.l4_checksum_is_missing(),
            segment: first.segment_size(),
        }
    }

    #[inline]
    fn has_partial_checksum(&self) -> bool {
        self.first().l4_checksum_is_missing()
    }
}

/// Starts to load the cache line at an address.
#[inline]
fn prefetch<T>(start: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint and accesses no memory, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}
