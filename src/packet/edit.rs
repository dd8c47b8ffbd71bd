//! Changing the numbers in a TCP header, its checksum kept.

use super::checksum::{TCP_CHECKSUM, update_u32_at};
use super::{Packet, TcpFlags, is_signed, sack_edges, timestamp_echo};
use crate::Frame;

/// Offsets of fields in a TCP header (RFC 9293, 3.1).
const SEQUENCE: usize = 4;
const ACKNOWLEDGMENT: usize = 8;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const OPTIONS: usize = 20;
/// Options that a header has room for.
const MAX_OPTIONS: usize = 40;

/// What was done to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Nothing in it needed a change.
    Untouched,
    /// The frame was changed in place. The [`Packet`] parsed from it before has the old numbers.
    Translated,
    /// The frame needs a change but its bytes have another owner. It must not go on as it is.
    Shared,
}

/// A TCP header in a frame, or the start of one that an ICMP error quotes.
pub(crate) struct Segment<'a> {
    head: &'a mut [u8],
    /// Offset of the header.
    tcp: usize,
    /// Offset of the first byte after what is there of the header and its options.
    end: usize,
    /// Offset of the one checksum that a change of the header makes wrong, if there is one.
    checksum: Option<usize>,
    changed: bool,
}

impl<'a> Segment<'a> {
    /// Changes the TCP header of a frame. A partial checksum sums up the pseudo-header alone and
    /// stays. A signed segment stays whole.
    pub(crate) fn edit<F: Frame>(
        frame: &mut F,
        packet: &Packet,
        change: impl FnOnce(&mut Segment),
    ) -> Outcome {
        if is_signed(packet.tcp_options(frame.head())) {
            return Outcome::Untouched;
        }
        let tcp = usize::from(packet.l4);
        let checksum = (!frame.has_partial_checksum()).then_some(tcp + TCP_CHECKSUM);
        let Some(head) = frame.head_mut() else {
            return Outcome::Shared;
        };
        let end = usize::from(packet.payload).min(head.len());
        let mut segment = Segment {
            head,
            tcp,
            end,
            checksum,
            changed: false,
        };
        change(&mut segment);
        segment.outcome()
    }

    /// A quoted header. Its own checksum, if the quote reaches so far, is changed with the field:
    /// the two changes cancel in the sum of the ICMP message. Otherwise that sum's checksum at
    /// `icmp_checksum` changes.
    pub(crate) fn quoted(head: &'a mut [u8], tcp: usize, end: usize, icmp_checksum: usize) -> Self {
        let own = tcp + TCP_CHECKSUM;
        let checksum = if own + 2 <= end { own } else { icmp_checksum };
        let end = end.min(head.len());
        Self {
            head,
            tcp,
            end,
            checksum: Some(checksum),
            changed: false,
        }
    }

    /// What the changes came to.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.changed {
            Outcome::Translated
        } else {
            Outcome::Untouched
        }
    }

    /// The control bits, if the header reaches so far.
    pub(crate) fn flags(&self) -> Option<TcpFlags> {
        self.field(FLAGS).map(|[flags]| TcpFlags(flags))
    }

    /// Adds an offset to the sequence number.
    pub(crate) fn shift_sequence(&mut self, offset: u32) {
        self.shift(SEQUENCE, offset);
    }

    /// Adds `seq` to all that acknowledges sequence numbers, and `timestamp` to the echoed time
    /// stamp, of which 0 says that there is none to echo.
    pub(crate) fn shift_acknowledgments(&mut self, seq: u32, timestamp: u32) {
        self.shift(ACKNOWLEDGMENT, seq);
        let mut copy = [0; MAX_OPTIONS];
        let Some(length) = self.options().map(|options| {
            copy[..options.len()].copy_from_slice(options);
            options.len()
        }) else {
            return;
        };
        let options = &copy[..length];
        for edge in sack_edges(options) {
            self.shift(OPTIONS + edge, seq);
        }
        if let Some(echo) = timestamp_echo(options)
            && options[echo..echo + 4] != [0; 4]
        {
            self.shift(OPTIONS + echo, timestamp);
        }
    }

    /// Adds to the sender's time stamp (TSval; RFC 7323, 3.2).
    pub(crate) fn shift_timestamp(&mut self, by: u32) {
        if let Some(at) = self.timestamp() {
            self.shift(at, by);
        }
    }

    /// Puts another one in the place of the sender's time stamp.
    pub(crate) fn set_timestamp(&mut self, to: u32) {
        if let Some(at) = self.timestamp()
            && let Some(old) = self.timestamp_value()
        {
            self.shift(at, to.wrapping_sub(old));
        }
    }

    /// The sender's time stamp (TSval), if there is one.
    pub(crate) fn timestamp_value(&self) -> Option<u32> {
        self.field(self.timestamp()?).map(u32::from_be_bytes)
    }

    /// Offset of the sender's time stamp in the header.
    fn timestamp(&self) -> Option<usize> {
        let value = self
            .options()
            .and_then(timestamp_echo)
            .and_then(|echo| echo.checked_sub(4));
        value.map(|value| OPTIONS + value)
    }

    /// The options that are there, or `None` when there are none.
    fn options(&self) -> Option<&[u8]> {
        let [offset] = self.field(DATA_OFFSET)?;
        let header_end = self.tcp + usize::from(offset >> 4) * 4;
        let options = self
            .head
            .get(self.tcp + OPTIONS..header_end.min(self.end))?;
        (!options.is_empty()).then_some(options)
    }

    fn field<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let at = self.tcp + offset;
        self.head[..self.end]
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .copied()
    }

    /// Adds to 32 bits of the header, if it reaches so far. TCP headers begin at an even byte of
    /// what either checksum sums up.
    fn shift(&mut self, offset: usize, by: u32) {
        let Some(old) = self.field(offset).map(u32::from_be_bytes) else {
            return;
        };
        if by == 0 {
            return;
        }
        let new = old.wrapping_add(by);
        let at = self.tcp + offset;
        self.head[at..at + 4].copy_from_slice(&new.to_be_bytes());
        if let Some(field) = self.checksum.and_then(|at| self.head.get_mut(at..at + 2)) {
            let checksum = u16::from_be_bytes([field[0], field[1]]);
            let updated = update_u32_at(checksum, offset, old, new);
            field.copy_from_slice(&updated.to_be_bytes());
        }
        self.changed = true;
    }
}
