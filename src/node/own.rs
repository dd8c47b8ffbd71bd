//! The link's headers and its own frames, as both roles move them.

use super::lane::Lane;
use crate::dpdk::{Mbuf, Mempool};
use crate::frame::Frame;
use crate::link::{DATA_HEADER, Transmit};

/// Takes the link's header off, and the padding that a short frame got on the way; false where
/// the frame is shorter than it says.
pub fn strip(frame: &mut Mbuf, length: usize) -> bool {
    if !frame.trim_front(DATA_HEADER) || frame.len() < length {
        return false;
    }
    let padding = frame.len() - length;
    padding == 0 || frame.trim_end(padding)
}

/// Puts a copy of a small frame of the node's own behind those that wait for a lane.
pub fn copy_out(pool: &Mempool, bytes: &[u8], lane: &mut Lane) -> bool {
    match pool.copy_of(bytes) {
        Some(frame) => {
            lane.push(frame);
            true
        }
        None => false,
    }
}

/// Sends what the link itself has to say, as far as there is room; true if there was anything.
pub fn send_own(
    link: &mut Lane,
    pool: &Mempool,
    mut next: impl FnMut() -> Option<Transmit>,
) -> bool {
    let mut any = false;
    while link.room() > 0 {
        let Some(transmit) = next() else {
            break;
        };
        if !copy_out(pool, transmit.bytes(), link) {
            break;
        }
        any = true;
    }
    link.flush();
    any
}
