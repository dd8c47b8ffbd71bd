//! Reads a capture: pcap or pcapng, with time stamps of any resolution.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

/// First bytes of a pcapng file.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// First bytes of a pcap file: microseconds and nanoseconds, in either order of bytes.
const PCAP: [[u8; 4]; 4] = [
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x4d, 0x3c, 0xb2, 0xa1],
];
/// Power of ten of a pcapng time stamp's unit where the file names none.
const MICROSECONDS: u8 = 6;

/// The interface of a node's own capture (docs/audit.md) that has a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// What the VM sent.
    P,
    /// What the SVM sent, in the PVM's numbers.
    S,
    /// What the SVM sent, in its own numbers.
    Raw,
    /// What the VM got.
    In,
    /// What left through the uplink.
    Out,
}

impl Place {
    const NAMES: [(&'static str, Place); 5] = [
        ("P", Place::P),
        ("S", Place::S),
        ("RAW", Place::Raw),
        ("IN", Place::In),
        ("OUT", Place::Out),
    ];

    fn of(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, place)| *place)
    }
}

/// A frame of a capture.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its time by the capture's clock, in nanoseconds.
    pub ns: u64,
    /// Where a node saw it, in a node's own capture.
    pub place: Option<Place>,
    /// The Ethernet frame.
    pub bytes: Vec<u8>,
}

/// A capture, in the order of its time stamps.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// All Ethernet frames.
    pub frames: Vec<Seen>,
    /// The file ends within a frame.
    pub is_torn: bool,
}

/// Reads the capture at `path`.
///
/// # Errors
/// When it cannot be opened, is no capture, is damaged, or has frames that were cut or are not of Ethernet.
pub fn read(path: &Path) -> Result<Capture, ReadError> {
    let failed = |source| ReadError::Open {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut magic = [0; 4];
    match file.read_exact(&mut magic) {
        Ok(()) => file.rewind().map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(ReadError::NoCapture(path.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    }
    let mut into = Reading {
        path,
        number: 0,
        capture: Capture::default(),
    };
    let end = match magic {
        PCAPNG => pcapng(BufReader::new(file), &mut into)?,
        magic if PCAP.contains(&magic) => pcap(BufReader::new(file), &mut into)?,
        _ => return Err(ReadError::NoCapture(path.to_owned())),
    };
    let (number, mut capture) = (into.number, into.capture);
    match end {
        Ok(()) => {}
        Err(error) if is_end(&error) && number > 0 => capture.is_torn = true,
        Err(source) => {
            return Err(ReadError::Damaged {
                path: path.to_owned(),
                number,
                source,
            });
        }
    }
    capture.frames.sort_by_key(|seen| seen.ns);
    Ok(capture)
}

fn is_end(error: &PcapError) -> bool {
    match error {
        PcapError::IncompleteBuffer => true,
        PcapError::IoError(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}

struct Reading<'a> {
    path: &'a Path,
    number: u64,
    capture: Capture,
}

impl Reading<'_> {
    fn take(
        &mut self,
        link: DataLink,
        ns: u64,
        place: Option<Place>,
        (bytes, length): (&[u8], u32),
    ) -> Result<(), ReadError> {
        self.number += 1;
        if link != DataLink::ETHERNET {
            return Err(ReadError::LinkType {
                path: self.path.to_owned(),
                number: self.number,
                link: link.into(),
            });
        }
        if bytes.len() < length as usize {
            return Err(ReadError::Cut {
                path: self.path.to_owned(),
                number: self.number,
                had: length,
                has: bytes.len(),
            });
        }
        self.capture.frames.push(Seen {
            ns,
            place,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }
}

type End = Result<(), PcapError>;

fn pcap(file: impl Read, into: &mut Reading<'_>) -> Result<End, ReadError> {
    let mut reader = match PcapReader::new(file) {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(error)),
    };
    let link = reader.header().datalink;
    while let Some(packet) = reader.next_packet() {
        let packet = match packet {
            Ok(packet) => packet,
            Err(error) => return Ok(Err(error)),
        };
        let ns = u64::try_from(packet.timestamp.as_nanos()).unwrap_or(u64::MAX);
        into.take(link, ns, None, (&packet.data, packet.orig_len))?;
    }
    Ok(Ok(()))
}

/// What has to be known of an interface.
struct Interface {
    link: DataLink,
    resolution: u8,
    /// Seconds that are added to each time stamp.
    offset: u64,
    name: String,
}

impl Interface {
    fn of(block: &InterfaceDescriptionBlock<'_>) -> Self {
        let mut interface = Self {
            link: block.linktype,
            resolution: MICROSECONDS,
            offset: 0,
            name: String::new(),
        };
        for option in &block.options {
            match option {
                InterfaceDescriptionOption::IfTsResol(resolution) => {
                    interface.resolution = *resolution;
                }
                InterfaceDescriptionOption::IfTsOffset(offset) => interface.offset = *offset,
                InterfaceDescriptionOption::IfName(name) => interface.name = name.to_string(),
                _ => {}
            }
        }
        interface
    }

    /// The nanoseconds of a time stamp. Its unit is a negative power of 10, or of 2 with the highest bit set.
    fn ns(&self, units: u64) -> u64 {
        const NS: u128 = 1_000_000_000;
        let units = u128::from(units);
        let exponent = u32::from(self.resolution & 0x7f);
        let ns = match (self.resolution & 0x80, exponent) {
            (0, 0..=9) => units * 10u128.pow(9 - exponent),
            (0, 10..=28) => units / 10u128.pow(exponent - 9),
            (0, _) => 0,
            (_, 0..=64) => (units * NS) >> exponent,
            _ => 0,
        };
        let ns = ns + u128::from(self.offset) * NS;
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

fn pcapng(file: impl Read, into: &mut Reading<'_>) -> Result<End, ReadError> {
    let mut reader = match PcapNgReader::new(file) {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(error)),
    };
    let mut interfaces: Vec<Interface> = Vec::new();
    while let Some(block) = reader.next_block() {
        let (interface, ns, bytes, length) = match block {
            Err(error) => return Ok(Err(error)),
            Ok(Block::SectionHeader(_)) => {
                interfaces.clear();
                continue;
            }
            Ok(Block::InterfaceDescription(interface)) => {
                interfaces.push(Interface::of(&interface));
                continue;
            }
            Ok(Block::EnhancedPacket(packet)) => {
                // The library takes any unit for nanoseconds.
                let units = u64::try_from(packet.timestamp.as_nanos()).unwrap_or(u64::MAX);
                let interface = packet.interface_id as usize;
                (interface, units, packet.data, packet.original_len)
            }
            Ok(Block::SimplePacket(_)) => {
                return Err(ReadError::NoTime(into.path.to_owned()));
            }
            Ok(_) => continue,
        };
        let Some(interface) = interfaces.get(interface) else {
            return Ok(Err(PcapError::InvalidField("interface of a packet")));
        };
        let place = is_of_a_node(&interfaces).then(|| Place::of(&interface.name));
        let (link, ns) = (interface.link, interface.ns(ns));
        into.take(link, ns, place.flatten(), (&bytes, length))?;
    }
    Ok(Ok(()))
}

/// Whether the interfaces are those of a node's own capture.
fn is_of_a_node(interfaces: &[Interface]) -> bool {
    let has = |name: &str| interfaces.iter().any(|interface| interface.name == name);
    Place::NAMES.iter().all(|(name, _)| has(name))
}

/// A capture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened or read.
    #[error("cannot read {path:?}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It does not begin as one.
    #[error(
        "{0:?} is neither pcap nor pcapng; write it with tcpdump -w, dumpcap or `coloctl capture`"
    )]
    NoCapture(PathBuf),
    /// It breaks off in its headers, or has wrong bytes.
    #[error("{path:?} is damaged behind frame {number}: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The last good frame.
        number: u64,
        /// What the reader says.
        source: PcapError,
    },
    /// A frame was cut.
    #[error(
        "{path:?}: frame {number} had {had} bytes and the capture has {has}; capture whole frames (tcpdump -s 0)"
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// The frame.
        number: u64,
        /// Bytes on the wire.
        had: u32,
        /// Bytes in the file.
        has: usize,
    },
    /// No Ethernet.
    #[error(
        "{path:?}: frame {number} is of link type {link}, not of Ethernet (1); capture at the guest's own interface, \
         not at `any`"
    )]
    LinkType {
        /// The file.
        path: PathBuf,
        /// The frame.
        number: u64,
        /// Its number at tcpdump.org.
        link: u32,
    },
    /// Frames have no time.
    #[error(
        "{0:?} has frames without a time stamp, so that nobody can say how long they were held"
    )]
    NoTime(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stamp_has_the_unit_of_its_interface() {
        let interface = |resolution, offset| Interface {
            link: DataLink::ETHERNET,
            resolution,
            offset,
            name: String::new(),
        };
        for (resolution, offset, units, ns) in [
            (6, 0, 1_500_000, 1_500_000_000),
            (9, 0, 1_500_000_000, 1_500_000_000),
            (9, 7, 1, 7_000_000_001),
            (3, 0, 1_500, 1_500_000_000),
            (12, 0, 1_500, 1),
            (0x80 | 10, 0, 1536, 1_500_000_000),
            (0, 0, 3, 3_000_000_000),
        ] {
            assert_eq!(interface(resolution, offset).ns(units), ns, "{resolution}");
        }
    }
}
