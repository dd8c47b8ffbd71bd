//! Captures of two guests that serve the same clients, frame by frame.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use colo_testkit::packets::{self, Ends, Segment};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, TsResolution};
use tempfile::TempDir;

pub const MS: u64 = 1_000_000;
/// When the captures begin, by P's clock.
const BEGIN: i64 = 1_796_083_200_000_000_000;
/// The client's first number.
const CLIENT: u32 = 5_000;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// One connection as one of the guests has it.
#[derive(Clone)]
pub struct Vm {
    ends: Ends,
    isn: u32,
    sent: u32,
    got: u32,
}

impl Vm {
    pub fn new(client_port: u16, isn: u32) -> Self {
        Self {
            ends: Ends {
                peer: 2,
                port: 80,
                peer_port: client_port,
                ..Ends::default()
            },
            isn,
            sent: 0,
            got: 0,
        }
    }

    pub fn client_syn(&self) -> Vec<u8> {
        let segment = Segment {
            seq: CLIENT,
            syn: true,
            options: packets::syn_options(1460, None),
            ..Segment::default()
        };
        packets::tcp(&self.ends.reversed(), &segment, 0)
    }

    fn ack(&self) -> Option<u32> {
        Some(CLIENT.wrapping_add(1).wrapping_add(self.got))
    }

    pub fn syn_ack(&self) -> Vec<u8> {
        let segment = Segment {
            seq: self.isn,
            ack: self.ack(),
            syn: true,
            window: 1000,
            options: packets::syn_options(1460, None),
            ..Segment::default()
        };
        packets::tcp(&self.ends, &segment, 0)
    }

    /// The client's next request.
    pub fn request(&mut self) -> Vec<u8> {
        let seq = CLIENT.wrapping_add(1).wrapping_add(self.got);
        self.got += REQUEST.len() as u32;
        let segment = Segment {
            seq,
            ack: Some(self.isn.wrapping_add(1).wrapping_add(self.sent)),
            payload: REQUEST.to_vec(),
            ..Segment::default()
        };
        packets::tcp(&self.ends.reversed(), &segment, 0)
    }

    pub fn answer(&mut self, payload: &[u8]) -> Vec<u8> {
        let segment = Segment {
            seq: self.isn.wrapping_add(1).wrapping_add(self.sent),
            ack: self.ack(),
            window: 1000,
            payload: payload.to_vec(),
            ..Segment::default()
        };
        self.sent += payload.len() as u32;
        packets::tcp(&self.ends, &segment, 0)
    }
}

/// A datagram of the guest's to its client.
pub fn datagram(payload: &[u8]) -> Vec<u8> {
    let ends = Ends {
        peer: 2,
        port: 53,
        peer_port: 5353,
        ..Ends::default()
    };
    packets::udp(&ends, payload, 0)
}

/// How a capture is written.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    Micros,
    Nanos,
    /// pcapng with this resolution of time stamps, if it is written.
    Ng(Option<u8>),
}

impl Format {
    pub const ALL: [Self; 5] = [
        Self::Micros,
        Self::Nanos,
        Self::Ng(None),
        Self::Ng(Some(9)),
        Self::Ng(Some(6)),
    ];
}

/// Two captures, and a folder for them.
pub struct Bench {
    dir: TempDir,
    frames: [Vec<(u64, bool, Vec<u8>)>; 2],
    pub format: Format,
    /// S's clock less P's, in nanoseconds.
    pub s_clock: i64,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            frames: Default::default(),
            format: Format::Nanos,
            s_clock: 0,
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// P's guest sends.
    pub fn p(&mut self, at: u64, bytes: Vec<u8>) {
        self.frames[0].push((at, true, bytes));
    }

    /// S's guest sends.
    pub fn s(&mut self, at: u64, bytes: Vec<u8>) {
        self.frames[1].push((at, true, bytes));
    }

    /// Both guests get this.
    pub fn both(&mut self, at: u64, make: impl Fn(usize) -> Vec<u8>) {
        for (i, frames) in self.frames.iter_mut().enumerate() {
            frames.push((at, false, make(i)));
        }
    }

    /// The captures go on until then.
    pub fn end(&mut self, at: u64) {
        let last = Vm::new(9, 0);
        self.both(at, |_| last.client_syn());
    }

    pub fn without_input(&mut self) {
        for frames in &mut self.frames {
            frames.retain(|(_, is_output, _)| *is_output);
        }
    }

    fn times(&self, side: usize) -> Vec<(Duration, bool, &[u8])> {
        let clock = if side == 1 { self.s_clock } else { 0 };
        let begin = BEGIN + clock;
        let mut frames: Vec<_> = self.frames[side]
            .iter()
            .map(|(at, is_output, bytes)| {
                let ns = begin.cast_unsigned() + at;
                (Duration::from_nanos(ns), *is_output, &bytes[..])
            })
            .collect();
        frames.sort_by_key(|(at, ..)| *at);
        frames
    }

    /// Writes both captures.
    pub fn write(&self) -> [PathBuf; 2] {
        [0, 1].map(|side| {
            let path = self.dir().join(["p", "s"][side]);
            let file = File::create(&path).expect("a file");
            let frames = self.times(side);
            match self.format {
                Format::Micros => pcap(file, TsResolution::MicroSecond, &frames),
                Format::Nanos => pcap(file, TsResolution::NanoSecond, &frames),
                Format::Ng(resolution) => pcapng(file, resolution, &frames),
            }
            path
        })
    }

    pub fn run(&self, files: &[&PathBuf], words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coloctl"));
        command.arg("compare").args(files).args(words);
        command.output().expect("the program runs")
    }

    pub fn compare(&self, words: &[&str]) -> Output {
        let [p, s] = self.write();
        self.run(&[&p, &s], words)
    }

    /// Both in one file, as a node writes it.
    pub fn compare_in_one(&self, words: &[&str]) -> Output {
        let path = self.dir().join("node.pcapng");
        let file = File::create(&path).expect("a file");
        let mut writer = PcapNgWriter::new(file).expect("a header");
        for name in ["P", "S", "OUT", "IN", "RAW"] {
            interface(&mut writer, Some(9), Some(name));
        }
        let (p, s) = (self.times(0), self.times(1));
        let p = p
            .into_iter()
            .map(|(at, out, bytes)| (at, if out { 0 } else { 3 }, bytes));
        let s = s.into_iter().filter(|(_, out, _)| *out);
        let s = s.map(|(at, _, bytes)| (at, 4, bytes));
        let mut all: Vec<_> = p.chain(s).collect();
        all.sort_by_key(|(at, ..)| *at);
        for (at, interface, bytes) in all {
            packet(&mut writer, interface, at, bytes);
        }
        self.run(&[&path, &path], words)
    }
}

fn pcap(file: File, ts_resolution: TsResolution, frames: &[(Duration, bool, &[u8])]) {
    let header = PcapHeader {
        ts_resolution,
        datalink: DataLink::ETHERNET,
        endianness: pcap_file::Endianness::Little,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(file, header).expect("a header");
    for (at, _, bytes) in frames {
        let packet = PcapPacket::new(*at, bytes.len() as u32, bytes);
        writer.write_packet(&packet).expect("a packet");
    }
}

fn interface(writer: &mut PcapNgWriter<File>, resolution: Option<u8>, name: Option<&str>) {
    let mut block = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
    if let Some(name) = name {
        let name = InterfaceDescriptionOption::IfName(name.to_owned().into());
        block.options.push(name);
    }
    if let Some(resolution) = resolution {
        let option = InterfaceDescriptionOption::IfTsResol(resolution);
        block.options.push(option);
    }
    writer.write_block(&block.into_block()).expect("a block");
}

/// The library writes the nanoseconds of a time as the file's units.
fn packet(writer: &mut PcapNgWriter<File>, interface_id: u32, units: Duration, bytes: &[u8]) {
    let block = EnhancedPacketBlock {
        interface_id,
        timestamp: units,
        original_len: bytes.len() as u32,
        data: bytes.to_vec().into(),
        options: Vec::new(),
    };
    writer.write_block(&block.into_block()).expect("a block");
}

fn pcapng(file: File, resolution: Option<u8>, frames: &[(Duration, bool, &[u8])]) {
    let mut writer = PcapNgWriter::new(file).expect("a header");
    interface(&mut writer, resolution, None);
    for (at, _, bytes) in frames {
        let units = match resolution {
            Some(9) => at.as_nanos() as u64,
            _ => at.as_micros() as u64,
        };
        packet(&mut writer, 0, Duration::from_nanos(units), bytes);
    }
}
