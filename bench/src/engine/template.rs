//! The frames of one case: headers made once, then only what differs is written.

use etherparse::PacketBuilder;

use super::case::{Case, Traffic};

/// Offset of the destination address's last three bytes, which number the flow.
const PEER_V4: usize = 14 + 16 + 1;
const PEER_V6: usize = 14 + 24 + 13;
/// Length of the pattern that all streams repeat; a prime, so that no two segments of a stream begin alike.
const PERIOD: usize = 1021;

/// Writes frames of one case.
pub struct Template {
    bytes: Vec<u8>,
    payload: usize,
    peer: usize,
    transport: usize,
    tcp: bool,
    pattern: Vec<u8>,
}

impl Template {
    /// Frames with `payload` bytes of payload.
    pub fn new(case: &Case, payload: usize) -> Self {
        let tcp = case.traffic != Traffic::Udp;
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut server = [0; 16];
        server[..2].copy_from_slice(&[0xfd, 0]);
        let ip = if case.v6 {
            ethernet.ipv6(server, server, 64)
        } else {
            ethernet.ipv4([192, 168, 0, 1], [10, 0, 0, 0], 64)
        };
        let content = vec![0; payload];
        let mut bytes = Vec::new();
        let written = if tcp {
            let segment = ip.tcp(80, 40_000, 0, 64_240).ack(5000).psh();
            segment.write(&mut bytes, &content)
        } else {
            ip.udp(80, 40_000).write(&mut bytes, &content)
        };
        written.expect("a vector takes all");
        Self {
            payload: bytes.len() - payload,
            peer: if case.v6 { PEER_V6 } else { PEER_V4 },
            transport: if case.v6 { 54 } else { 34 },
            bytes,
            tcp,
            pattern: pattern(PERIOD + payload),
        }
    }

    /// A frame as it begins.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of payload of a frame.
    pub fn content_len(&self) -> usize {
        self.bytes.len() - self.payload
    }

    /// Flow and offset of a frame that [`Template::write`] made of TCP.
    pub fn place(&self, frame: &[u8]) -> (usize, u32) {
        let word = |at: usize| {
            u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        let flow = word(self.peer - 1) as usize & 0xff_ffff;
        (flow, word(self.transport + 4))
    }

    /// Makes a frame, a copy of [`Template::bytes`], the one of a flow that begins at an offset of its stream.
    pub fn write(&self, frame: &mut [u8], flow: usize, offset: u32) {
        let [_, a, b, c] = (flow as u32).to_be_bytes();
        frame[self.peer..self.peer + 3].copy_from_slice(&[a, b, c]);
        if self.tcp {
            let seq = offset.to_be_bytes();
            frame[self.transport + 4..self.transport + 8].copy_from_slice(&seq);
        }
        let content = &mut frame[self.payload..];
        let from = offset as usize % PERIOD;
        let n = content.len();
        content.copy_from_slice(&self.pattern[from..from + n]);
    }
}

/// Bytes that repeat after [`PERIOD`] and look like nothing.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|i| {
            ((i % PERIOD) as u32)
                .wrapping_mul(0x9e37_79b9)
                .to_be_bytes()[0]
        })
        .collect()
}
