//! pcapng files: interfaces, and frames with comments (IETF
//! draft-ietf-opsawg-pcapng, sections 4.1 to 4.3). Little-endian, timestamps in nanoseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;

const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
/// 10^-9 s.
const NANOSECONDS: u8 = 9;

/// A section under construction.
pub(super) struct Section {
    bytes: Vec<u8>,
}

impl Section {
    /// A section written by `program`, without an interface.
    pub(super) fn new(program: &str) -> Self {
        let mut section = Self { bytes: Vec::new() };
        section.block(SECTION_HEADER, |body| {
            body.extend(BYTE_ORDER.to_le_bytes());
            body.extend(1u16.to_le_bytes());
            body.extend(0u16.to_le_bytes());
            // The section's length is left open.
            body.extend(u64::MAX.to_le_bytes());
            option(body, SHB_USERAPPL, program.as_bytes());
            end_of_options(body);
        });
        section
    }

    /// Adds an Ethernet interface; the first has the number 0, the next 1.
    pub(super) fn interface(&mut self, name: &str) {
        self.block(INTERFACE_DESCRIPTION, |body| {
            body.extend(LINKTYPE_ETHERNET.to_le_bytes());
            body.extend(0u16.to_le_bytes());
            // No bound on the captured length.
            body.extend(0u32.to_le_bytes());
            option(body, IF_NAME, name.as_bytes());
            option(body, IF_TSRESOL, &[NANOSECONDS]);
            end_of_options(body);
        });
    }

    /// Adds a frame that came in at `time`; `frame` is what is left of its `wire_len` bytes.
    pub(super) fn frame(
        &mut self,
        interface: u32,
        time: SystemTime,
        frame: &[u8],
        wire_len: usize,
        comment: &str,
    ) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        // Nanoseconds fit 64 bits until the year 2554.
        let ns = since.as_nanos() as u64;
        self.block(ENHANCED_PACKET, |body| {
            body.extend(interface.to_le_bytes());
            body.extend(((ns >> 32) as u32).to_le_bytes());
            body.extend((ns as u32).to_le_bytes());
            body.extend((frame.len() as u32).to_le_bytes());
            body.extend((wire_len as u32).to_le_bytes());
            padded(body, frame);
            option(body, OPT_COMMENT, comment.as_bytes());
            end_of_options(body);
        });
    }

    /// Bytes that were added since then.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What was added since the last time, to be written behind it.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The file.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds a block: type, length, body, length again.
    fn block(&mut self, block_type: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend(block_type.to_le_bytes());
        self.bytes.extend(0u32.to_le_bytes());
        fill(&mut self.bytes);
        let len = (self.bytes.len() - start + 4) as u32;
        self.bytes[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        self.bytes.extend(len.to_le_bytes());
    }
}

/// Adds an option; a value over 65535 bytes is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    padded(body, value);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// Adds bytes, and zeros up to a multiple of 4.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, total length and body of each block.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let mut blocks = Vec::new();
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"));
        while !bytes.is_empty() {
            let len = word(&bytes[4..]) as usize;
            assert_eq!(len % 4, 0);
            assert_eq!(word(&bytes[len - 4..]) as usize, len);
            blocks.push((word(bytes), &bytes[8..len - 4]));
            bytes = &bytes[len..];
        }
        blocks
    }

    #[test]
    fn blocks_carry_their_length_twice_and_their_options() {
        let mut section = Section::new("test");
        section.interface("primary");
        let time = UNIX_EPOCH + Duration::from_nanos(0x1_0000_0002);
        section.frame(0, time, b"abcde", 9, "P");
        let bytes = section.into_bytes();
        let blocks = blocks(&bytes);
        assert_eq!(
            blocks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            [SECTION_HEADER, INTERFACE_DESCRIPTION, ENHANCED_PACKET]
        );
        assert_eq!(
            blocks[1].1,
            b"\x01\0\0\0\0\0\0\0\x02\0\x07\0primary\0\x09\0\x01\0\x09\0\0\0\0\0\0\0"
        );
        assert_eq!(
            blocks[2].1,
            b"\0\0\0\0\x01\0\0\0\x02\0\0\0\x05\0\0\0\x09\0\0\0abcde\0\0\0\x01\0\x01\0P\0\0\0\0\0\0\0"
        );
    }
}
