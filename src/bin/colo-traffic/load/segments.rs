//! The frames of a load: what each segment of each flow says, how it gets into an mbuf, and whether
//! a released one is right.
//!
//! The stream of a flow is a row of segments of one length. Each begins with a [`STAMP`] that
//! depends on the flow and on its place in the stream; what follows is the same in all. So any byte
//! that is lost, moved or of another flow is seen, and writing a frame into an mbuf that has been
//! one of this load before takes one cache line: the rest is there already.

use dpdk_colo::Frame;
use dpdk_colo::dpdk::{Mbuf, Mempool};

use crate::frames::{
    CHECKSUM, DESTINATION, FLOWS_MAX, HEADER, Random, SEQ, address, header, start,
};

/// Bytes at the start of each segment that no other segment has.
const STAMP: usize = 8;
/// The least frame: headers, a stamp, and a byte on which two segmentations can differ.
pub const FRAME_MIN: usize = HEADER + STAMP + 1;
/// The most that fits into an mbuf of the default size.
pub const FRAME_MAX: usize = 2048;
/// Which VM's frames.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Vm {
    /// Whole segments.
    Primary,
    /// Segments, or frames of the same length that begin within one and end within the next.
    Secondary,
}

/// What all frames of a load have in common.
pub struct Segments {
    header: [u8; HEADER],
    /// A segment's bytes, the stamp's places zero.
    body: Vec<u8>,
    /// Where in a segment the secondary's frames begin; 0: where the primary's do.
    shift: usize,
    seed: u64,
}

impl Segments {
    /// Frames of `frame` bytes, the Ethernet header included.
    pub fn new(frame: usize, shifted: bool, seed: u32) -> Self {
        let payload = frame.clamp(FRAME_MIN, FRAME_MAX) - HEADER;
        let mut random = Random::new(seed);
        let mut body: Vec<u8> = (0..payload).map(|_| random.next() as u8).collect();
        body[..STAMP].fill(0);
        Self {
            header: header(0, 0, payload),
            shift: if shifted { (payload / 2).max(STAMP) } else { 0 },
            body,
            seed: u64::from(seed) << 1 | 1,
        }
    }

    /// Bytes of a frame.
    pub fn frame_len(&self) -> usize {
        HEADER + self.body.len()
    }

    /// Whether the VMs segment differently.
    pub fn shifted(&self) -> bool {
        self.shift > 0
    }

    /// A frame of a VM as it is but for addresses, numbers and stamp.
    fn blank(&self, vm: Vm) -> Vec<u8> {
        let mut frame = self.header.to_vec();
        let from = match vm {
            Vm::Primary => 0,
            Vm::Secondary => self.shift,
        };
        frame.extend_from_slice(&self.body[from..]);
        frame.extend_from_slice(&self.body[..from]);
        frame
    }

    /// Writes a VM's blank frame into every mbuf of a pool of its own, once.
    pub fn imprint(&self, vm: Vm, pool: &Mempool) {
        let blank = self.blank(vm);
        let mut all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
        for bytes in all.iter_mut().filter_map(|mbuf| mbuf.append(blank.len())) {
            bytes.copy_from_slice(&blank);
        }
    }

    /// The frame number `number` of a flow, in an mbuf of the imprinted pool of its VM.
    #[inline]
    pub fn frame(&self, vm: Vm, pool: &Mempool, flow: u32, number: u64) -> Option<Mbuf> {
        let mut mbuf = pool.alloc()?;
        let bytes = mbuf.append(self.frame_len())?;
        let len = self.body.len();
        let (shift, stamped) = match vm {
            Vm::Secondary if self.shift > 0 => (self.shift, number + 1),
            _ => (0, number),
        };
        self.number(bytes, flow, number * len as u64 + shift as u64);
        let at = HEADER + (len - shift) % len;
        bytes[at..at + STAMP].copy_from_slice(&self.stamp(flow, stamped));
        Some(mbuf)
    }

    /// The secondary's first frame of a flow where it segments differently: what lies before its
    /// frame number 0.
    pub fn lead(&self, flow: u32) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        bytes.extend_from_slice(&self.body[..self.shift]);
        bytes[16..18].copy_from_slice(&((HEADER - 14 + self.shift) as u16).to_be_bytes());
        self.number(&mut bytes, flow, 0);
        bytes[HEADER..HEADER + STAMP].copy_from_slice(&self.stamp(flow, 0));
        bytes
    }

    /// The flow of a released frame, if it is the frame of it that `next` says and every byte is
    /// the primary's; else what is wrong.
    #[inline]
    pub fn check(
        &self,
        frame: &Mbuf,
        next: impl FnOnce(u32) -> Option<u64>,
    ) -> Result<u32, &'static str> {
        let bytes = frame.head();
        if bytes.len() != self.frame_len() || frame.len() != bytes.len() {
            return Err("not of the length of a frame that was sent");
        }
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let flow = word(DESTINATION) & (FLOWS_MAX - 1);
        let number = next(flow).ok_or("of a flow that there is not")?;
        let mut head = [0; HEADER + STAMP];
        head[..HEADER].copy_from_slice(&self.header);
        self.number(&mut head, flow, number * self.body.len() as u64);
        head[HEADER..].copy_from_slice(&self.stamp(flow, number));
        if word(SEQ) != u32::from_be_bytes([head[SEQ], head[SEQ + 1], head[SEQ + 2], head[SEQ + 3]])
        {
            return Err("a gap, or left twice");
        }
        let (front, rest) = bytes.split_at(head.len());
        if front[..HEADER] != head[..HEADER] {
            return Err("other headers than the primary sent");
        }
        if front != head || *rest != self.body[STAMP..] {
            return Err("another byte than the primary sent");
        }
        Ok(flow)
    }

    /// Puts the server's address, with the IP checksum, and the sequence number in place.
    #[inline]
    fn number(&self, bytes: &mut [u8], flow: u32, offset: u64) {
        let (address, seq) = (address(flow), start(flow).wrapping_add(offset as u32));
        bytes[DESTINATION..DESTINATION + 4].copy_from_slice(&address.to_be_bytes());
        bytes[SEQ..SEQ + 4].copy_from_slice(&seq.to_be_bytes());
        // The blank header has flow 0's address and the sum with it.
        let rest = !u16::from_be_bytes([self.header[CHECKSUM], self.header[CHECKSUM + 1]]);
        let mut sum = u32::from(rest) + (flow >> 16) + (flow & 0xffff);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        bytes[CHECKSUM..CHECKSUM + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }

    #[inline]
    fn stamp(&self, flow: u32, number: u64) -> [u8; STAMP] {
        let place = u64::from(flow) << 32 | number & 0xffff_ffff;
        let mixed = (place ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).to_le_bytes()
    }
}
