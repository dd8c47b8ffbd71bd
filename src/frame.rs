//! What the pure rooms know of a frame and of time.
//!
//! A [`Frame`] owns bytes that arrived on a port, perhaps in several segments. The daemon's frames
//! are DPDK mbufs; tests, fuzzers and the simulation use [`HeapFrame`].

use std::sync::Arc;

/// A point in time in ticks of the caller's monotonic clock (the TSC in the daemon).
///
/// The pure rooms only subtract ticks and compare the difference with limits given in ticks, so
/// any unit serves as long as one caller keeps to it.
pub type Ticks = u64;

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

    /// Whether the transport checksum holds only the pseudo-header's sum, to be completed by
    /// whoever sends the frame (virtio's `NEEDS_CSUM`, an mbuf's `RTE_MBUF_F_TX_*_CKSUM`).
    fn has_partial_checksum(&self) -> bool {
        false
    }
}

/// A frame on the heap, for everything that runs without DPDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapFrame {
    segments: Vec<Arc<[u8]>>,
    partial_checksum: bool,
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
            partial_checksum: false,
        }
    }

    /// The same frame, marked as one whose transport checksum is partial.
    pub fn with_partial_checksum(mut self) -> Self {
        self.partial_checksum = true;
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

    fn has_partial_checksum(&self) -> bool {
        self.partial_checksum
    }
}
