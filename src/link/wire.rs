//! The link's frames, byte by byte.
//!
//! An Ethernet header with EtherType 0x88b5 (IEEE 802, local experimental 1), then, big endian:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 2 | magic 0xc010 |
//! | 2 | 1 | version 5 |
//! | 3 | 1 | kind: 0 heartbeat, 3 data, 5 control |
//! | 4 | 2 | VM id |
//! | 6 | 2 | Internet checksum (RFC 1071) of the 44 header bytes and of what follows, but for a data frame's payload |
//! | 8 | 4 | boot number of the sender |
//! | 12 | 4 | boot number of the receiver as the sender knows it, 0 if it does not |
//! | 16 | 4 | epoch of a data frame |
//! | 20 | 4 | data: its number; else: number of the next data frame |
//! | 24 | 4 | control: its number; else: control messages sent so far |
//! | 28 | 4 | control messages received in order |
//! | 32 | 4 | grant: data frames with lower numbers may be sent |
//! | 36 | 4 | bytes that follow; the frame may be longer by padding |
//! | 40 | 2 | of a data frame's payload: 1 if its transport checksum is partial, else 0 |
//! | 42 | 2 | of a data frame's payload: bytes in a TCP segment when it is to be cut, else 0 |
//!
//! What the checksum covers depends on the kind, so no two kinds differ in one bit alone.
//!
//! Behind a guard ([`secure`](super::secure)) the boot numbers are those of its session.
//!
//! A heartbeat is followed by 16 bytes:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 44 | 8 | mark: when the sender sent it, by its own clock; 0 if it wants no answer |
//! | 52 | 8 | echo: the latest mark of the receiver's that the sender has; 0 if it has none |
//!
//! The last two are what virtio's frame header says ([`Offload`]); the rest of that, where the
//! checksum lies and which protocol it is, the payload's own headers say.

use std::num::NonZeroU16;

use super::note::{PIECE, Piece};
use crate::flow::FlowKey;
use crate::frame::Offload;
use crate::packet::checksum::{Sum, update_u32};
use crate::packet::{Isn, Offset};

/// EtherType of the link (IEEE 802 local experimental 1).
pub const ETHER_TYPE: u16 = 0x88b5;

/// Bytes in front of a data frame's payload.
pub const DATA_HEADER: usize = ETHERNET + HEADER;

const ETHERNET: usize = 14;
const HEADER: usize = 44;
const MAGIC: u16 = 0xc010;
pub(super) const VERSION: u8 = 5;
/// Offset of what is left to do to the payload.
const OFFLOAD: usize = ETHERNET + 40;
/// Offset of the header's checksum.
const CHECKSUM: usize = ETHERNET + 6;

/// Room for the longest control frame.
pub const CONTROL_MAX: usize = DATA_HEADER + MESSAGE_MAX;
const MESSAGE_MAX: usize = 1 + 4 + 40 + 2 * OPENING;
/// ISN, whether there is a TSval, TSval.
const OPENING: usize = 4 + 1 + 4;
const _: () = assert!(5 + PIECE <= MESSAGE_MAX, "a piece has room in a message");

/// Says in a data frame's header what its payload's sender left to do.
pub fn set_offload(header: &mut [u8; DATA_HEADER], offload: Offload) {
    let old = u32::from_be_bytes([
        header[OFFLOAD],
        header[OFFLOAD + 1],
        header[OFFLOAD + 2],
        header[OFFLOAD + 3],
    ]);
    let segment = offload.segment.map_or(0, NonZeroU16::get);
    let new = u32::from(offload.partial_checksum) << 16 | u32::from(segment);
    let sum = u16::from_be_bytes([header[CHECKSUM], header[CHECKSUM + 1]]);
    header[OFFLOAD..OFFLOAD + 4].copy_from_slice(&new.to_be_bytes());
    header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&update_u32(sum, old, new).to_be_bytes());
}

/// What is left to do to the payload of a data frame that the endpoint took.
pub fn offload(head: &[u8]) -> Offload {
    Offload {
        partial_checksum: u16_at(head, OFFLOAD).is_some_and(|flags| flags & 1 != 0),
        segment: u16_at(head, OFFLOAD + 2).and_then(NonZeroU16::new),
    }
}

/// What follows a heartbeat's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The sender wants this back, unless it is 0.
    pub mark: u64,
    /// The receiver's latest that the sender has, if it is not 0.
    pub echo: u64,
}

/// Bytes of [`Marks`].
pub(super) const MARKS: usize = 16;

impl Marks {
    pub(crate) fn encode(self) -> [u8; MARKS] {
        let mut out = [0; MARKS];
        out[..8].copy_from_slice(&self.mark.to_be_bytes());
        out[8..].copy_from_slice(&self.echo.to_be_bytes());
        out
    }

    /// Those of a heartbeat, whose header was decoded from the same bytes.
    pub(crate) fn decode(head: &[u8]) -> Self {
        let word = |at: usize| -> u64 {
            let bytes = head.get(DATA_HEADER + at..).and_then(<[u8]>::first_chunk);
            debug_assert!(bytes.is_some(), "a heartbeat has its marks");
            u64::from_be_bytes(bytes.copied().unwrap_or_default())
        };
        Self {
            mark: word(0),
            echo: word(8),
        }
    }
}

/// What a link frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Heartbeat,
    Data,
    Control,
}

impl Kind {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Heartbeat => 0,
            Self::Data => 3,
            Self::Control => 5,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::Heartbeat, Self::Data, Self::Control]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    pub vm: u16,
    pub boot: u32,
    pub peer_boot: u32,
    pub epoch: u32,
    pub data: u32,
    pub control: u32,
    pub control_ack: u32,
    pub grant: u32,
    pub length: u32,
}

/// A whole frame without frame data: a heartbeat or a control message.
#[derive(Clone, Copy, Debug)]
pub struct Transmit {
    bytes: [u8; CONTROL_MAX],
    len: usize,
}

impl Transmit {
    pub(super) fn new(header: [u8; DATA_HEADER], payload: &[u8]) -> Self {
        let mut bytes = [0; CONTROL_MAX];
        bytes[..DATA_HEADER].copy_from_slice(&header);
        bytes[DATA_HEADER..DATA_HEADER + payload.len()].copy_from_slice(payload);
        Self {
            bytes,
            len: DATA_HEADER + payload.len(),
        }
    }

    /// The frame, Ethernet header included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What the nodes send each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Primary: the PVM runs this epoch, and the SVM has loaded the state that it began with.
    Epoch(u32),
    /// Secondary: what the SVM sends from now on bears this epoch.
    Bound(u32),
    /// Primary: the ISNs of a connection, sent before the frame with the PVM's leaves.
    Synchronized {
        /// Epoch in which they hold.
        epoch: u32,
        /// The connection, in the direction of the output.
        flow: FlowKey,
        /// What the PVM opened it with.
        pvm: Isn,
        /// What the SVM opened it with.
        svm: Isn,
    },
    /// Secondary: input frames did not reach the SVM.
    InputLost(u32),
    /// Primary: it releases its VM's output, after this many takeovers. A node that led after fewer does not lead any
    /// more.
    Leads(u32),
    /// Either: the monitor of the node's VM is gone, and perhaps the VM.
    VmLost,
    /// Primary: an offset that it has from the time when it was the secondary, and that outlives
    /// every epoch.
    Inherited {
        /// The connection, in the direction of the output.
        flow: FlowKey,
        /// What the VM's numbers are off.
        offset: Offset,
    },
    /// Primary: the PVM's ring is polled in this epoch from now on. [`Message::Epoch`] says so, too.
    Runs(u32),
    /// Secondary: the SVM was stopped for a load, has loaded, and runs. The state contains what the PVM
    /// sent up to the end of the epoch that the secondary had heard of before that stop, if of any.
    Loaded(Option<u32>),
    /// Secondary: whether it can report loads.
    Witnesses(bool),
    /// Either: the node is about to restart, as an operator has announced; its VM goes on.
    Restarts,
    /// Either: a piece of what its control thread sends to the other one.
    Note(Piece),
    /// Primary, in this term: it never releases its VM's output again, and has written that down. Only who has agreed
    /// before hears it.
    Cedes(u32),
}

impl Message {
    /// Bytes on the wire and how many they are.
    pub(super) fn encode(&self) -> ([u8; MESSAGE_MAX], usize) {
        let mut out = [0; MESSAGE_MAX];
        let (kind, number) = match self {
            Message::Epoch(e) => (1, e),
            Message::Bound(e) => (2, e),
            Message::Synchronized { epoch, .. } => (3, epoch),
            Message::InputLost(n) => (4, n),
            Message::Leads(n) => (5, n),
            Message::VmLost => (6, &0),
            Message::Inherited { offset, .. } => (7, &offset.seq),
            Message::Runs(e) => (8, e),
            Message::Loaded(Some(e)) => (9, e),
            Message::Loaded(None) => (10, &0),
            Message::Witnesses(false) => (11, &0),
            Message::Witnesses(true) => (11, &1),
            Message::Restarts => (12, &0),
            Message::Note(_) => (13, &0),
            Message::Cedes(n) => (14, n),
        };
        out[0] = kind;
        if let Message::Note(piece) = self {
            let len = usize::from(piece.len);
            out[1..5].copy_from_slice(&[
                piece.first.into(),
                piece.last.into(),
                piece.index,
                piece.len,
            ]);
            out[5..5 + PIECE].copy_from_slice(&piece.bytes);
            return (out, 5 + len);
        }
        out[1..5].copy_from_slice(&number.to_be_bytes());
        if let Message::Synchronized { flow, pvm, svm, .. } = self {
            out[5..45].copy_from_slice(&flow.to_bytes());
            encode_isn(&mut out[45..45 + OPENING], pvm);
            encode_isn(&mut out[45 + OPENING..], svm);
            return (out, MESSAGE_MAX);
        }
        if let Message::Inherited { flow, offset } = self {
            out[5..45].copy_from_slice(&flow.to_bytes());
            out[45..49].copy_from_slice(&offset.timestamp.to_be_bytes());
            out[49..53].copy_from_slice(&offset.isn.to_be_bytes());
            return (out, 53);
        }
        (out, 5)
    }

    /// The message that the bytes hold, if they hold one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let number = u32_at(bytes, 1)?;
        Some(match bytes.first()? {
            1 => Message::Epoch(number),
            2 => Message::Bound(number),
            3 => Message::Synchronized {
                epoch: number,
                flow: FlowKey::from_bytes(bytes.get(5..45)?.try_into().ok()?)?,
                pvm: isn_at(bytes, 45)?,
                svm: isn_at(bytes, 45 + OPENING)?,
            },
            4 => Message::InputLost(number),
            5 => Message::Leads(number),
            6 => Message::VmLost,
            7 => Message::Inherited {
                flow: FlowKey::from_bytes(bytes.get(5..45)?.try_into().ok()?)?,
                offset: Offset {
                    seq: number,
                    timestamp: u32_at(bytes, 45)?,
                    isn: u32_at(bytes, 49)?,
                },
            },
            8 => Message::Runs(number),
            9 => Message::Loaded(Some(number)),
            10 => Message::Loaded(None),
            11 => Message::Witnesses(number != 0),
            12 => Message::Restarts,
            13 => Message::Note(piece_at(bytes)?),
            14 => Message::Cedes(number),
            _ => return None,
        })
    }
}

fn piece_at(message: &[u8]) -> Option<Piece> {
    let [_, first, last, index, len] = *message.first_chunk()?;
    let mut bytes = [0; PIECE];
    let text = message.get(5..5 + usize::from(len))?;
    bytes.get_mut(..text.len())?.copy_from_slice(text);
    Some(Piece {
        first: first != 0,
        last: last != 0,
        index,
        len,
        bytes,
    })
}

fn encode_isn(out: &mut [u8], isn: &Isn) {
    out[0..4].copy_from_slice(&isn.number.to_be_bytes());
    out[4] = u8::from(isn.timestamp.is_some());
    out[5..9].copy_from_slice(&isn.timestamp.unwrap_or(0).to_be_bytes());
}

fn isn_at(bytes: &[u8], at: usize) -> Option<Isn> {
    let timestamp = u32_at(bytes, at + 5)?;
    Some(Isn {
        number: u32_at(bytes, at)?,
        timestamp: (bytes[at + 4] != 0).then_some(timestamp),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

impl Header {
    /// Ethernet and link header; `message` is what follows it, but for a data frame's payload.
    pub(crate) fn encode(&self, to: [u8; 6], from: [u8; 6], message: &[u8]) -> [u8; DATA_HEADER] {
        let mut out = [0; DATA_HEADER];
        out[0..6].copy_from_slice(&to);
        out[6..12].copy_from_slice(&from);
        out[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
        let h = &mut out[ETHERNET..];
        h[0..2].copy_from_slice(&MAGIC.to_be_bytes());
        h[2] = VERSION;
        h[3] = self.kind.code();
        h[4..6].copy_from_slice(&self.vm.to_be_bytes());
        let words = [
            self.boot,
            self.peer_boot,
            self.epoch,
            self.data,
            self.control,
            self.control_ack,
            self.grant,
            self.length,
        ];
        for (i, word) in words.iter().enumerate() {
            h[8 + 4 * i..12 + 4 * i].copy_from_slice(&word.to_be_bytes());
        }
        let mut sum = Sum::default();
        sum.add(h);
        sum.add(message);
        let check = sum.checksum();
        h[6..8].copy_from_slice(&check.to_be_bytes());
        out
    }

    /// The header of a frame and the sender's address; `None` for anything that is not a link
    /// frame of this version with room for the payload it names. What follows the header lies in `head`
    /// with it, but for a data frame's payload.
    pub(crate) fn decode(head: &[u8], frame_len: usize) -> Option<(Self, [u8; 6])> {
        let h = head.get(ETHERNET..DATA_HEADER)?;
        if u16_at(head, 12)? != ETHER_TYPE || u16_at(h, 0)? != MAGIC || h[2] != VERSION {
            return None;
        }
        let kind = Kind::of_code(h[3])?;
        let length = u32_at(h, 36)?;
        if kind == Kind::Heartbeat && length as usize != MARKS {
            return None;
        }
        let mut sum = Sum::default();
        sum.add(h);
        if kind != Kind::Data {
            sum.add(
                head.get(DATA_HEADER..DATA_HEADER.checked_add(usize::try_from(length).ok()?)?)?,
            );
        }
        if sum.checksum() != 0 {
            return None;
        }
        let header = Self {
            kind,
            vm: u16_at(h, 4)?,
            boot: u32_at(h, 8)?,
            peer_boot: u32_at(h, 12)?,
            epoch: u32_at(h, 16)?,
            data: u32_at(h, 20)?,
            control: u32_at(h, 24)?,
            control_ack: u32_at(h, 28)?,
            grant: u32_at(h, 32)?,
            length,
        };
        if header.length as usize > frame_len.checked_sub(DATA_HEADER)? {
            return None;
        }
        Some((header, head.get(6..12)?.try_into().ok()?))
    }
}
