//! Checks a client's capture: every byte of the VM's in it must have left a node, with the same value.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use dpdk_colo::flow::{FlowKey, Vlans};
use dpdk_colo::packet::{Kind, Packet};
use pcap_file::PcapError;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};

use crate::certificate::Input;
use crate::hashing::Hashing;
use crate::node::Incarnations;
use crate::report::{Report, Rule, Violation};
use crate::tcp::{Incarnation, payload, payload_at};

/// First bytes of a pcapng file.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Looks up the TCP segments of a client's capture (pcap or pcapng) among the bytes that left.
///
/// # Errors
/// When the capture cannot be read.
pub fn check(
    path: &Path,
    incarnations: &Incarnations,
    report: &mut Report,
) -> Result<(), ClientError> {
    // The client's side may have taken VLAN tags off.
    let mut untagged: HashMap<FlowKey, Vec<&Incarnation>> = HashMap::new();
    for (key, incarnations) in incarnations {
        let key = key.with_vlans(Vlans::default());
        untagged.entry(key).or_default().extend(incarnations);
    }
    let mut number = 0u64;
    let input = each_frame(path, |bytes| {
        number += 1;
        if report.violation.is_some() {
            return;
        }
        let packet = Packet::parse(bytes, bytes.len());
        let piece = payload(&packet, bytes);
        let Some(incarnations) = untagged.get(&packet.key.with_vlans(Vlans::default())) else {
            return;
        };
        if packet.kind != Kind::Tcp || piece.is_empty() {
            return;
        }
        report.client_segments += 1;
        judge(number, &packet, piece, incarnations, report);
    })?;
    report.certificate.inputs.push(input);
    report.scope.client = true;
    report.certify();
    Ok(())
}

fn judge(
    number: u64,
    packet: &Packet,
    piece: &[u8],
    incarnations: &[&Incarnation],
    report: &mut Report,
) {
    let at = payload_at(packet);
    let mut nearest = None;
    for incarnation in incarnations {
        let known = incarnation.bytes.read(at, piece.len());
        let wrong = (0..piece.len()).find(|&i| {
            let number = at.wrapping_add(i as u32);
            known[i] != Some(piece[i]) && !incarnation.masked.left_as(number, piece[i])
        });
        match wrong {
            None => return,
            Some(i) => {
                nearest = nearest.max(Some((i, known[i])));
            }
        }
    }
    let Some((i, known)) = nearest else { return };
    // The last bytes of a node that died may have left without a record.
    let cut = !report.notes.is_empty();
    let what = match known {
        Some(known) => format!(
            "the client got {:#04x} for a byte that left as {known:#04x}",
            piece[i]
        ),
        None if cut => {
            let line = format!(
                "client frame {number}: bytes that no log has; a log ends with its node's death"
            );
            if report.unproven.is_empty() {
                report.unproven.push(line);
            }
            return;
        }
        None => "the client got a byte that no node has released".to_owned(),
    };
    report.violation = Some(Violation {
        rule: Rule::R5,
        log: "client".to_owned(),
        seq: number,
        ns: 0,
        epoch: 0,
        flow: Some(packet.key.to_string()),
        position: Some(format!("sequence number {}", at.wrapping_add(i as u32))),
        records: Vec::new(),
        what,
    });
}

/// Calls a function with each whole Ethernet frame of a capture, and hashes it.
fn each_frame(path: &Path, mut tell: impl FnMut(&[u8])) -> Result<Input, ClientError> {
    let open = |source| ClientError::Open {
        path: path.to_owned(),
        source,
    };
    let read = |source| ClientError::Read {
        path: path.to_owned(),
        source,
    };
    let torn = |error: &PcapError| matches!(error, PcapError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof);
    let mut file = File::open(path).map_err(open)?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).map_err(open)?;
    file.rewind().map_err(open)?;
    let file = Hashing::new(file);
    let rest = if magic == PCAPNG {
        let mut reader = PcapNgReader::new(file).map_err(read)?;
        while let Some(block) = reader.next_block() {
            match block {
                Ok(Block::EnhancedPacket(block))
                    if block.data.len() == block.original_len as usize =>
                {
                    tell(&block.data);
                }
                Ok(_) => {}
                Err(error) if torn(&error) => break,
                Err(error) => return Err(read(error)),
            }
        }
        reader.into_inner()
    } else {
        let mut reader = PcapReader::new(file).map_err(read)?;
        while let Some(packet) = reader.next_packet() {
            match packet {
                Ok(packet) if packet.data.len() == packet.orig_len as usize => tell(&packet.data),
                Ok(_) => {}
                Err(error) if torn(&error) => break,
                Err(error) => return Err(read(error)),
            }
        }
        reader.into_reader()
    };
    let (bytes, sha256) = rest.finish().map_err(open)?;
    Ok(Input {
        file: path.display().to_string(),
        bytes,
        sha256,
    })
}

/// The client's capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be opened.
    #[error("--client-pcap: cannot read {path:?}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no capture.
    #[error("--client-pcap: {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        source: PcapError,
    },
}
