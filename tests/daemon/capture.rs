//! Capture files in the classic pcap format, which net_pcap reads and writes.

use std::fs;
use std::path::Path;

/// Writes Ethernet frames, each with its length.
pub fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut file = Vec::new();
    // Magic in this machine's byte order, version 2.4, snap length, link type Ethernet.
    for word in [0xa1b2_c3d4u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
        file.extend_from_slice(&word.to_ne_bytes());
    }
    for frame in frames {
        let len = frame.len() as u32;
        for word in [0, 0, len, len] {
            file.extend_from_slice(&word.to_ne_bytes());
        }
        file.extend_from_slice(frame);
    }
    fs::write(path, file).expect("a capture is written");
}

/// Reads the frames of a file that net_pcap wrote.
pub fn read(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).expect("a capture is read");
    let mut frames = Vec::new();
    let mut rest = &file[24..];
    while let Some((record, after)) = rest.split_at_checked(16) {
        let len = u32::from_ne_bytes([record[8], record[9], record[10], record[11]]) as usize;
        frames.push(after[..len].to_vec());
        rest = &after[len..];
    }
    assert!(rest.is_empty(), "the last record is whole");
    frames
}
