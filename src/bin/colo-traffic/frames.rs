//! The headers of all TCP traffic of this program, and its random numbers.

use dpdk_colo::packet::checksum::Sum;

/// Bytes of Ethernet, IPv4 and TCP headers, without options.
pub const HEADER: usize = 54;
/// Flows at most: a flow's number has 24 bits of the server's address.
pub const FLOWS_MAX: u32 = 1 << 24;
/// Where the IP header's checksum is.
pub const CHECKSUM: usize = 24;
/// Where the server's address is.
pub const DESTINATION: usize = 30;
/// Where the sequence number is.
pub const SEQ: usize = 38;

/// The server's address of a flow.
pub fn address(flow: u32) -> u32 {
    0x0a00_0000 | flow
}

/// Ethernet, IPv4 and TCP. The TCP checksum is left out, as nobody compares it.
pub fn header(flow: u32, seq: u32, payload: usize) -> [u8; HEADER] {
    let mut h = [0; HEADER];
    h[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    h[12..14].copy_from_slice(&0x0800u16.to_be_bytes());
    h[14] = 0x45;
    h[16..18].copy_from_slice(&((HEADER - 14 + payload) as u16).to_be_bytes());
    (h[22], h[23]) = (64, 6);
    h[26..30].copy_from_slice(&[192, 0, 2, 1]);
    h[DESTINATION..34].copy_from_slice(&address(flow).to_be_bytes());
    let mut sum = Sum::default();
    sum.add(&h[14..34]);
    h[CHECKSUM..26].copy_from_slice(&sum.checksum().to_be_bytes());
    h[34..36].copy_from_slice(&80u16.to_be_bytes());
    h[36..38].copy_from_slice(&40_000u16.to_be_bytes());
    h[SEQ..42].copy_from_slice(&seq.to_be_bytes());
    h[42..46].copy_from_slice(&1u32.to_be_bytes());
    // ACK and PSH.
    (h[46], h[47]) = (0x50, 0x18);
    h[48..50].copy_from_slice(&u16::MAX.to_be_bytes());
    h
}

/// Sequence number of a flow's first byte; of every fourth flow it wraps soon.
#[inline]
pub fn start(flow: u32) -> u32 {
    match flow % 4 {
        0 => u32::MAX - 2000 - flow % 4096,
        _ => flow.wrapping_mul(0x9e37_79b9),
    }
}

/// xorshift64*.
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u32) -> Self {
        Self((u64::from(seed) << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next number.
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.next()) * n as u64) >> 32) as usize
    }
}
