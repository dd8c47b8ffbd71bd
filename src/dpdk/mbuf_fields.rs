//! Every access to a field of `rte_mbuf` is in this file.
//!
//! Fields are read and written at offsets that the C compiler took from the installed headers
//! (`csrc/shim.h`), which also checks their widths: the structure's layout and the nesting of its
//! unions may differ between DPDK versions, the names of the fields do not.
//!
//! [`Segment`] reads one segment of a chain, [`SegmentMut`] changes one that has a single owner.

use std::marker::PhantomData;
use std::num::NonZeroU16;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use super::dpdk_sys::{self as sys, rte_mbuf};

/// A segment for reading, as long as `'a`: a borrow of the mbuf that owns a reference to it.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    raw: NonNull<rte_mbuf>,
    _owner: PhantomData<&'a rte_mbuf>,
}

/// A segment for writing: nobody else has a reference to it or to its bytes.
pub(super) struct SegmentMut<'a>(Segment<'a>);

impl<'a> Segment<'a> {
    /// # Safety
    /// `raw` is an initialised mbuf, and the caller's owner keeps a reference to it and to the
    /// segments behind it during `'a`. Nobody changes its fields during `'a` but through a
    /// [`SegmentMut`] that borrows the same owner.
    pub(super) unsafe fn new(raw: NonNull<rte_mbuf>) -> Self {
        Self {
            raw,
            _owner: PhantomData,
        }
    }

    pub(super) fn as_raw(self) -> NonNull<rte_mbuf> {
        self.raw
    }

    #[inline]
    fn field<T>(self, offset: u32) -> *mut T {
        // SAFETY: the offset is that of a field of rte_mbuf, so it stays inside the mbuf.
        unsafe { self.raw.as_ptr().byte_add(offset as usize).cast() }
    }

    #[inline]
    fn read<T: Copy>(self, offset: u32) -> T {
        // SAFETY: the mbuf is initialised and unchanged during 'a (`new`); callers name an offset
        // together with that field's type, whose width shim.h asserts.
        unsafe { self.field::<T>(offset).read() }
    }

    #[inline]
    fn refcnt_cell(self) -> &'a AtomicU16 {
        // SAFETY: the reference count is an aligned u16 inside an mbuf that lives during 'a, and
        // DPDK too accesses it atomically (RTE_MBUF_REFCNT_ATOMIC, the default).
        unsafe { AtomicU16::from_ptr(self.field(sys::SHIM_MBUF_REFCNT)) }
    }

    /// The bytes in this segment.
    #[inline]
    pub(super) fn data(self) -> &'a [u8] {
        // SAFETY: data_off and data_len lie within the buffer (`start`). Bytes are written only
        // through a SegmentMut.
        unsafe { slice::from_raw_parts(self.start(), usize::from(self.data_len())) }
    }

    /// Where the bytes begin. The pointer may write: it does not come from a shared slice.
    #[inline]
    fn start(self) -> *mut u8 {
        let buffer = self.read::<NonNull<u8>>(sys::SHIM_MBUF_BUF_ADDR);
        // SAFETY: data_off and data_len lie within the buffer, an invariant of every mbuf that
        // DPDK hands out and that SegmentMut keeps.
        unsafe { buffer.as_ptr().add(usize::from(self.data_off())) }
    }

    #[inline]
    fn data_off(self) -> u16 {
        self.read(sys::SHIM_MBUF_DATA_OFF)
    }

    #[inline]
    pub(super) fn data_len(self) -> u16 {
        self.read(sys::SHIM_MBUF_DATA_LEN)
    }

    /// Bytes of the whole chain; valid in the first segment.
    #[inline]
    pub(super) fn pkt_len(self) -> u32 {
        self.read(sys::SHIM_MBUF_PKT_LEN)
    }

    /// Segments of the chain; valid in the first segment.
    #[inline]
    pub(super) fn nb_segs(self) -> u16 {
        self.read(sys::SHIM_MBUF_NB_SEGS)
    }

    #[inline]
    pub(super) fn port(self) -> u16 {
        self.read(sys::SHIM_MBUF_PORT)
    }

    #[inline]
    fn ol_flags(self) -> u64 {
        self.read(sys::SHIM_MBUF_OL_FLAGS)
    }

    /// Whether the sender of the frame still has to complete its L4 checksum: it was received
    /// with "checksum not in the packet, data verified", or is marked for transmit offload.
    #[inline]
    pub(super) fn l4_checksum_is_missing(self) -> bool {
        let flags = self.ol_flags();
        flags & sys::SHIM_MBUF_F_RX_L4_CKSUM_MASK == sys::SHIM_MBUF_F_RX_L4_CKSUM_NONE
            || flags & (sys::SHIM_MBUF_F_TX_L4_MASK | sys::SHIM_MBUF_F_TX_TCP_SEG) != 0
    }

    /// Bytes of payload that each TCP segment of the frame is to have: it was received merged or
    /// unsegmented, or is marked for segmentation on transmit.
    #[inline]
    pub(super) fn segment_size(self) -> Option<NonZeroU16> {
        const SEGMENTED: u64 =
            sys::SHIM_MBUF_F_RX_LRO | sys::SHIM_MBUF_F_TX_TCP_SEG | sys::SHIM_MBUF_F_TX_UDP_SEG;
        if self.ol_flags() & SEGMENTED == 0 {
            return None;
        }
        let lengths = self.read::<u64>(sys::SHIM_MBUF_TX_OFFLOAD);
        NonZeroU16::new((lengths >> sys::SHIM_MBUF_TSO_SEGSZ_OFS) as u16)
    }

    /// What [`SegmentMut::set_offload`] takes, of a frame that was received or is to be sent.
    #[inline]
    pub(super) fn work_left(self) -> (u64, u64) {
        const OWN: u64 = sys::SHIM_MBUF_F_INDIRECT | sys::SHIM_MBUF_F_EXTERNAL;
        (self.ol_flags() & !OWN, self.read(sys::SHIM_MBUF_TX_OFFLOAD))
    }

    /// Whether its bytes lie in another mbuf.
    #[inline]
    pub(super) fn is_indirect(self) -> bool {
        self.ol_flags() & sys::SHIM_MBUF_F_INDIRECT != 0
    }

    /// The pool that it goes back to.
    #[inline]
    pub(super) fn pool(self) -> *mut sys::rte_mempool {
        self.read(sys::SHIM_MBUF_POOL)
    }

    /// Free bytes before the data.
    #[inline]
    pub(super) fn headroom(self) -> usize {
        usize::from(self.data_off())
    }

    /// Free bytes behind the data.
    #[inline]
    pub(super) fn tailroom(self) -> usize {
        let buffer = self.read::<u16>(sys::SHIM_MBUF_BUF_LEN);
        usize::from(buffer) - usize::from(self.data_off()) - usize::from(self.data_len())
    }

    #[inline]
    pub(super) fn next(self) -> Option<Segment<'a>> {
        let next = NonNull::new(self.read::<*mut rte_mbuf>(sys::SHIM_MBUF_NEXT))?;
        // SAFETY: the owner keeps a reference to each segment of the chain (`new`).
        Some(unsafe { Segment::new(next) })
    }

    /// Owners of this segment. Acquire, so that what other owners did with the bytes before they
    /// let go has happened before.
    #[inline]
    fn refcnt(self) -> u16 {
        self.refcnt_cell().load(Ordering::Acquire)
    }

    /// Adds an owner. The caller is one, and no other thread uses the caller's own reference.
    #[inline]
    pub(super) fn retain(self) {
        let cell = self.refcnt_cell();
        if cell.load(Ordering::Relaxed) == 1 {
            // The only owner is the caller: no one else can be counting.
            cell.store(2, Ordering::Relaxed);
        } else if cell.fetch_add(1, Ordering::Relaxed) > u16::MAX / 2 {
            // An overflow would free a segment that is in use.
            std::process::abort();
        }
    }

    /// Makes what no pool has made: its buffer, its bytes, what it says of its chain, its owners.
    #[cfg(test)]
    pub(super) fn made(self, buffer: *mut u8, len: u16, whole: u32, owners: u16) {
        let mut this = SegmentMut(self);
        this.write(sys::SHIM_MBUF_BUF_ADDR, buffer);
        this.write(sys::SHIM_MBUF_DATA_LEN, len);
        this.set_pkt_len(whole);
        this.set_nb_segs(1);
        self.refcnt_cell().store(owners, Ordering::Relaxed);
    }

    /// Hangs another one behind it.
    #[cfg(test)]
    pub(super) fn made_before(self, next: NonNull<rte_mbuf>) {
        SegmentMut(self).write(sys::SHIM_MBUF_NEXT, next.as_ptr());
        SegmentMut(self).set_nb_segs(2);
    }

    /// Sets the number of segments in its header.
    #[cfg(test)]
    pub(super) fn made_of(self, segments: u16) {
        SegmentMut(self).set_nb_segs(segments);
    }

    /// Whether the caller is the only owner, and the bytes lie in this mbuf's own buffer.
    #[inline]
    pub(super) fn is_writable(self) -> bool {
        let elsewhere = sys::SHIM_MBUF_F_INDIRECT | sys::SHIM_MBUF_F_EXTERNAL;
        self.refcnt() == 1 && self.ol_flags() & elsewhere == 0
    }

    /// The segment for writing, if it is writable.
    ///
    /// # Safety
    /// The caller's owner is borrowed exclusively during `'a`, and this is the only exclusive
    /// view of the segment.
    #[inline]
    pub(super) unsafe fn exclusive(self) -> Option<SegmentMut<'a>> {
        self.is_writable().then_some(SegmentMut(self))
    }
}

impl<'a> SegmentMut<'a> {
    #[inline]
    fn write<T>(&mut self, offset: u32, value: T) {
        // SAFETY: nobody else refers to this segment; offset and type as in Segment::read.
        unsafe { self.0.field::<T>(offset).write(value) }
    }

    pub(super) fn get(&self) -> Segment<'_> {
        self.0
    }

    /// The bytes in this segment, for writing.
    #[inline]
    pub(super) fn data_mut(self) -> &'a mut [u8] {
        let (start, len) = (self.0.start(), usize::from(self.0.data_len()));
        // SAFETY: the bytes lie within the buffer and the pointer may write (`start`). The segment
        // has no other owner and its buffer is its own, and this value, which borrows the owner
        // exclusively during 'a, is used up.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }

    /// Takes `n` bytes of headroom into the data.
    #[inline]
    pub(super) fn grow_front(&mut self, n: usize) -> bool {
        let seg = self.0;
        match (u16::try_from(n), seg.headroom().checked_sub(n)) {
            (Ok(n), Some(left)) => {
                self.write(sys::SHIM_MBUF_DATA_OFF, left as u16);
                self.write(sys::SHIM_MBUF_DATA_LEN, seg.data_len() + n);
                true
            }
            _ => false,
        }
    }

    /// Takes `n` bytes of tailroom into the data.
    #[inline]
    pub(super) fn grow_back(&mut self, n: usize) -> bool {
        let fits = n <= self.0.tailroom();
        if fits {
            self.write(sys::SHIM_MBUF_DATA_LEN, self.0.data_len() + n as u16);
        }
        fits
    }

    /// Leaves out the first `n` bytes.
    #[inline]
    pub(super) fn shrink_front(&mut self, n: usize) -> bool {
        let fits = n <= usize::from(self.0.data_len());
        if fits {
            self.write(sys::SHIM_MBUF_DATA_OFF, self.0.data_off() + n as u16);
            self.write(sys::SHIM_MBUF_DATA_LEN, self.0.data_len() - n as u16);
        }
        fits
    }

    /// Leaves out the last `n` bytes.
    #[inline]
    pub(super) fn shrink_back(&mut self, n: usize) -> bool {
        let fits = n <= usize::from(self.0.data_len());
        if fits {
            self.write(sys::SHIM_MBUF_DATA_LEN, self.0.data_len() - n as u16);
        }
        fits
    }

    /// Sets the chain's length in bytes, in its first segment.
    #[inline]
    pub(super) fn set_pkt_len(&mut self, bytes: u32) {
        self.write(sys::SHIM_MBUF_PKT_LEN, bytes);
    }

    /// Sets the chain's number of segments, in its first segment.
    #[inline]
    pub(super) fn set_nb_segs(&mut self, n: u16) {
        self.write(sys::SHIM_MBUF_NB_SEGS, n);
    }

    /// Sets what the port is to do with the frame, in its first segment: transmit flags and header
    /// lengths as rte_mbuf_core.h lays them out. Nothing stays of what was asked or received.
    #[inline]
    pub(super) fn set_offload(&mut self, flags: u64, lengths: u64) {
        const KEPT: u64 = sys::SHIM_MBUF_F_INDIRECT | sys::SHIM_MBUF_F_EXTERNAL;
        let kept = self.0.ol_flags() & KEPT;
        self.write(sys::SHIM_MBUF_OL_FLAGS, kept | flags);
        self.write(sys::SHIM_MBUF_TX_OFFLOAD, lengths);
    }

    /// Hangs a chain behind this segment, which is the last of its own.
    ///
    /// # Safety
    /// The chain's owner gives its references over to the owner of this segment.
    #[inline]
    pub(super) unsafe fn set_next(&mut self, chain: NonNull<rte_mbuf>) {
        self.write(sys::SHIM_MBUF_NEXT, chain.as_ptr());
    }
}
