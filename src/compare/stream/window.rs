//! A P advertises no larger a window than the SVM did.

use crate::frame::Frame;
use crate::packet::checksum::{TCP_CHECKSUM, update_u16};
use crate::packet::{TcpFlags, is_signed};

/// Offset of the window field in the TCP header (RFC 9293, 3.1).
const WINDOW: usize = 14;

/// Lets a segment whose TCP header begins at `transport` and has this window advertise at most
/// `limit`; a frame with another owner and a signed one keep their own.
#[inline(always)]
pub(super) fn lower<F: Frame>(
    frame: &mut F,
    transport: u16,
    flags: TcpFlags,
    window: u16,
    limit: u16,
) {
    if window > limit && !flags.intersects(TcpFlags::SYN | TcpFlags::RST) {
        lower_to(frame, transport, window, limit);
    }
}

#[inline(never)]
fn lower_to<F: Frame>(frame: &mut F, transport: u16, window: u16, limit: u16) {
    let at = usize::from(transport);
    let partial = frame.has_partial_checksum();
    if is_signed(options(frame.head(), at)) {
        return;
    }
    let Some(header) = frame.head_mut().and_then(|head| head.get_mut(at..at + 20)) else {
        return;
    };
    header[WINDOW..WINDOW + 2].copy_from_slice(&limit.to_be_bytes());
    if !partial {
        let field = &mut header[TCP_CHECKSUM..TCP_CHECKSUM + 2];
        let sum = u16::from_be_bytes([field[0], field[1]]);
        field.copy_from_slice(&update_u16(sum, window, limit).to_be_bytes());
    }
}

/// The options of the TCP header at `at`.
fn options(head: &[u8], at: usize) -> &[u8] {
    let end = head
        .get(at + 12)
        .map_or(0, |byte| at + usize::from(byte >> 4) * 4);
    head.get(at + 20..end).unwrap_or_default()
}
