//! The pure modules' view of a frame and of time.
//!
//! A [`Frame`] owns bytes that arrived on a port, perhaps in several segments. The daemon's frames
//! are DPDK mbufs; tests, fuzzers and the simulation use [`HeapFrame`].

use std::num::NonZeroU16;
use std::sync::Arc;

/// Frames that a poll core moves at a time.
pub const BURST: usize = 32;

/// A point in time in ticks of the caller's monotonic clock (the TSC in the daemon).
///
/// The pure modules only subtract ticks and compare the difference with limits given in ticks, so
/// any unit serves as long as one caller keeps to it.
pub type Ticks = u64;

/// Work that the sender of a frame left to the port that transmits it, as in virtio's frame header
/// (virtio 1.1, 5.1.6) and in an mbuf's offload flags. The frame's own headers give the place and the protocol
/// of the checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offload {
    /// The transport checksum holds only the pseudo-header's sum (`NEEDS_CSUM`,
    /// `RTE_MBUF_F_TX_*_CKSUM`).
    pub partial_checksum: bool,
    /// The port cuts the frame into TCP segments of at most this payload, in bytes (`gso_size`,
    /// `tso_segsz`), each with these headers.
    pub segment: Option<NonZeroU16>,
}

impl Offload {
    /// The frame is as it is on a wire.
    pub const NONE: Self = Self {
        partial_checksum: false,
        segment: None,
    };
}

/// An owned Ethernet frame without FCS, in one segment or several.
///
/// All headers that matter to a comparison must lie in the first segment; a frame for which that
/// is not so counts as unreadable and is held until a checkpoint.
pub trait Frame: Sized {
    /// The first segment, which holds the headers.
    fn head(&self) -> &[u8];

    /// The first segment for writing, or `None` while the bytes have another owner.
    fn head_mut(&mut self) -> Option<&mut [u8]>;

    /// Bytes in all segments.
    fn len(&self) -> usize;

    /// Whether the frame has no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All segments in order, the first included.
    fn segments(&self) -> impl Iterator<Item = &[u8]>;

    /// Another owner of the same bytes; nothing is copied.
    fn share(&self) -> Self;

    /// Another frame, of a copy of the first `headers` bytes and, without a copy, the `len` bytes
    /// from `start` on, with as much left to do as here. `None` where the frame has no such bytes or
    /// there is no memory.
    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self>;

    /// Asks the processor for the memory that says where the frame's bytes lie. A hint: it has no
    /// effect that could be seen, and does not wait.
    fn prefetch(&self) {}

    /// Asks for the first bytes, likewise. It reads the memory that [`Frame::prefetch`] asks for.
    fn prefetch_head(&self) {}

    /// How many buffers of a bounded pool the frame keeps from others.
    fn buffers(&self) -> usize {
        1
    }

    /// What its sender left to do.
    fn offload(&self) -> Offload {
        Offload::NONE
    }

    /// Whether the transport checksum holds only the pseudo-header's sum.
    fn has_partial_checksum(&self) -> bool {
        self.offload().partial_checksum
    }
}

/// A frame on the heap, for everything that runs without DPDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapFrame {
    segments: Vec<Arc<[u8]>>,
    offload: Offload,
}

impl HeapFrame {
    /// A frame of one segment.
    pub fn new(bytes: &[u8]) -> Self {
        Self::chain(&[bytes])
    }

    /// A frame of several segments; an empty list makes one empty segment.
    pub fn chain(segments: &[&[u8]]) -> Self {
        let mut segments: Vec<Arc<[u8]>> = segments.iter().map(|s| Arc::from(*s)).collect();
        if segments.is_empty() {
            segments.push(Arc::from(&[][..]));
        }
        Self {
            segments,
            offload: Offload::NONE,
        }
    }

    /// The same frame, marked as one whose transport checksum is partial.
    pub fn with_partial_checksum(self) -> Self {
        self.with_offload(Offload {
            partial_checksum: true,
            segment: None,
        })
    }

    /// The same frame, with this offload work left to do.
    pub fn with_offload(mut self, offload: Offload) -> Self {
        self.offload = offload;
        self
    }

    /// All bytes in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments.concat()
    }
}

impl Frame for HeapFrame {
    fn head(&self) -> &[u8] {
        &self.segments[0]
    }

    fn head_mut(&mut self) -> Option<&mut [u8]> {
        Arc::get_mut(&mut self.segments[0])
    }

    fn len(&self) -> usize {
        self.segments.iter().map(|s| s.len()).sum()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(|s| &**s)
    }

    fn share(&self) -> Self {
        self.clone()
    }

    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self> {
        let bytes = self.to_vec();
        let part = bytes.get(start..start.checked_add(len)?)?;
        let excerpt = Self::chain(&[self.head().get(..headers)?, part]);
        Some(excerpt.with_offload(self.offload))
    }

    fn buffers(&self) -> usize {
        self.segments.len()
    }

    fn offload(&self) -> Offload {
        self.offload
    }
}
