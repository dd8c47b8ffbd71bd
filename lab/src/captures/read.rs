//! Captures below a directory, read into Ethernet frames within fixed bounds of memory.
//!
//! A file counts as a capture by its first four bytes. Frames of other link types get an Ethernet
//! header (raw IP, loopback, Linux cooked); what has none that can be made is counted and left out, as
//! is a frame that the capture itself has cut.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use pcap_file::PcapError;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

use super::tally::Tally;

/// Longest frame that is taken, in bytes: no guest sends a longer one.
const LONGEST: usize = 65_550;
/// Bytes of a capture file that are read.
const FILE_BYTES: u64 = 64 << 20;

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its number in the capture, from 1.
    pub number: usize,
    /// The Ethernet frame, without FCS.
    pub bytes: Vec<u8>,
}

/// Files below `dir` that are captures, or are called so, in the order of their names.
///
/// # Errors
/// When a directory cannot be listed.
pub fn find(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if dir.is_file() {
        return Ok(vec![dir.to_owned()]);
    }
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let path = entry.path();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && (is_named_so(&path) || has_magic(&path)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_named_so(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    matches!(extension, Some("pcap" | "pcapng"))
}

fn has_magic(path: &Path) -> bool {
    magic(path).is_ok_and(|magic| PCAP.contains(&magic) || magic == PCAPNG)
}

const PCAP: [u32; 4] = [0xa1b2_c3d4, 0xd4c3_b2a1, 0xa1b2_3c4d, 0x4d3c_b2a1];
const PCAPNG: u32 = 0x0a0d_0d0a;

fn magic(path: &Path) -> io::Result<u32> {
    let mut bytes = [0; 4];
    File::open(path)?.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Reads the first `most` frames of a capture; counts what it leaves out, and names a file that ends
/// with an error.
///
/// # Errors
/// A reason in words when nothing of the file can be read.
pub fn read(path: &Path, most: usize, tally: &mut Tally) -> Result<Vec<Captured>, String> {
    let open = || -> Result<_, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        if file.metadata().is_ok_and(|data| data.len() > FILE_BYTES) {
            return Ok((BufReader::new(file.take(FILE_BYTES)), true));
        }
        Ok((BufReader::new(file.take(FILE_BYTES)), false))
    };
    let kind = magic(path).map_err(|error| error.to_string())?;
    let (file, is_long) = open()?;
    let mut into = Frames {
        most,
        number: 0,
        frames: Vec::new(),
        tally,
    };
    let end = if kind == PCAPNG {
        read_pcapng(file, &mut into)
    } else {
        read_pcap(file, &mut into)
    };
    let (number, taken) = (into.number, into.frames.len());
    let frames = into.frames;
    tally.captures_cut += usize::from(is_long || taken == most);
    match end {
        Err(error) if number == 0 => Err(error.to_string()),
        // The first bytes of a long file end anywhere.
        Err(error) if !is_long => {
            tally.damaged(path, &format!("behind frame {number}: {error}"));
            Ok(frames)
        }
        _ => Ok(frames),
    }
}

struct Frames<'a> {
    most: usize,
    number: usize,
    frames: Vec<Captured>,
    tally: &'a mut Tally,
}

impl Frames<'_> {
    fn is_full(&self) -> bool {
        self.frames.len() >= self.most
    }

    fn take(&mut self, link_type: u32, data: &[u8], length: usize) {
        self.number += 1;
        if data.len() < length {
            self.tally.frames_cut += 1;
        } else if data.len() > LONGEST {
            self.tally.frames_long += 1;
        } else if let Some(bytes) = as_ethernet(link_type, data) {
            self.tally.frames += 1;
            self.frames.push(Captured {
                number: self.number,
                bytes,
            });
        } else {
            *self.tally.link_types.entry(link_type).or_default() += 1;
        }
    }
}

fn read_pcap(file: impl Read, into: &mut Frames<'_>) -> Result<(), PcapError> {
    let mut reader = PcapReader::new(file)?;
    let link_type = u32::from(reader.header().datalink);
    while !into.is_full()
        && let Some(packet) = reader.next_raw_packet()
    {
        let packet = packet?;
        into.take(link_type, &packet.data, packet.orig_len as usize);
    }
    Ok(())
}

fn read_pcapng(file: impl Read, into: &mut Frames<'_>) -> Result<(), PcapError> {
    let mut reader = PcapNgReader::new(file)?;
    let mut link_types: Vec<u32> = Vec::new();
    while !into.is_full()
        && let Some(block) = reader.next_block()
    {
        let of = |interface: usize| link_types.get(interface).copied().unwrap_or(u32::MAX);
        match block? {
            Block::SectionHeader(_) => link_types.clear(),
            Block::InterfaceDescription(interface) => {
                link_types.push(u32::from(interface.linktype));
            }
            Block::EnhancedPacket(packet) => {
                let length = packet.original_len as usize;
                into.take(of(packet.interface_id as usize), &packet.data, length);
            }
            Block::SimplePacket(packet) => {
                into.take(of(0), &packet.data, packet.original_len as usize);
            }
            Block::Packet(packet) => {
                let length = packet.original_len as usize;
                into.take(of(usize::from(packet.interface_id)), &packet.data, length);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The frame with an Ethernet header, by its link type (tcpdump.org/linktypes.html).
fn as_ethernet(link_type: u32, data: &[u8]) -> Option<Vec<u8>> {
    const ETHERNET: u32 = 1;
    match link_type {
        ETHERNET => Some(data.to_vec()),
        // Raw IP, with and without a number of its own per system, and by version.
        12 | 14 | 101 | 228 | 229 => with_header(by_version(data)?, data),
        // A family of four bytes, whose value each system chose for itself.
        0 | 108 => with_header(by_version(data.get(4..)?)?, &data[4..]),
        113 => with_header(super::header::word(data, 14)?, data.get(16..)?),
        276 => with_header(super::header::word(data, 0)?, data.get(20..)?),
        _ => None,
    }
}

fn by_version(data: &[u8]) -> Option<u16> {
    match data.first()? >> 4 {
        4 => Some(0x0800),
        6 => Some(0x86dd),
        _ => None,
    }
}

/// An Ethernet header whose source address is made of the IP source's last bytes, so that senders
/// still differ.
fn with_header(ether_type: u16, data: &[u8]) -> Option<Vec<u8>> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let source = match ether_type {
        0x0800 => data.get(12..16),
        0x86dd => data.get(20..24),
        _ => None,
    };
    if let Some(source) = source {
        frame[8..12].copy_from_slice(source);
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(data);
    Some(frame)
}
