//! Removes the link's headers, for both roles.

use super::egress::mark;
use crate::dpdk::{Abilities, Mbuf, Mempool, Slices};
use crate::frame::Frame;
use crate::link::DATA_HEADER;
use crate::packet::segmentation::HEADERS_MAX;

/// Removes the link's header, and the padding that a short frame got on the link. Returns false if the frame is shorter
/// than its header says.
pub(crate) fn strip(frame: &mut Mbuf, length: usize) -> bool {
    if !frame.trim_front(DATA_HEADER) || frame.len() < length {
        return false;
    }
    let padding = frame.len() - length;
    padding == 0 || frame.trim_end(padding)
}

/// A frame that went over the link, without the link's header. If the port still owns it, too, it gets headers of its
/// own from `pool`. `None` if the pool is empty, or if the frame is still to be segmented.
pub(crate) fn reclaim(mut frame: Mbuf, pool: &Mempool) -> Option<Mbuf> {
    if frame.trim_front(DATA_HEADER) {
        return Some(frame);
    }
    let offload = frame.offload();
    if offload.segment.is_some() {
        return None;
    }
    let headers = frame.head().get(DATA_HEADER..)?;
    let headers = &headers[..headers.len().min(HEADERS_MAX)];
    let mut own = pool.copy_of(headers)?;
    let mut rest = Slices::new(frame.share())?;
    rest.skip(DATA_HEADER + headers.len());
    if let left @ 1.. = rest.left() {
        own = Mbuf::chain(own, rest.take(left, pool)?).ok()?;
    }
    mark(&mut own, offload, Abilities::default());
    Some(own)
}
