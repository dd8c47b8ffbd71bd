//! A flow without a byte stream: UDP, ICMP, fragments, other protocols.
//!
//! A frame that leaves must be the next one that waits, and the SVM must have sent one with the
//! same content in the same epoch that no other has used up (rule R1). Fragments of one of the VM's
//! datagrams must all be fragments of one of the SVM's.

use std::collections::{BTreeSet, HashMap, VecDeque};

use dpdk_colo::packet::{Kind, Packet};

use crate::extras;
use crate::report::Rule;
use crate::same::first_difference;
use crate::verdict::{CapturePoint, Fault, Releasing, Why};

struct Taken {
    captured: CapturePoint,
    packet: Packet,
    bytes: Box<[u8]>,
}

/// The SVM's datagrams that may be the counterpart of one of the VM's.
#[derive(Default)]
struct Candidates {
    datagrams: BTreeSet<u32>,
    /// Places of the fragments that have left.
    places: BTreeSet<u16>,
}

/// One flow at one node.
#[derive(Default)]
pub struct Flow {
    waiting: VecDeque<Taken>,
    epoch: u32,
    /// The SVM's datagrams of this epoch, and their number.
    said: HashMap<Vec<u8>, u64>,
    /// The SVM's datagrams that have such a fragment.
    datagrams: HashMap<Vec<u8>, BTreeSet<u32>>,
    /// For each of the VM's datagrams: the SVM's datagrams that have all fragments that left of it.
    candidates: HashMap<u32, Candidates>,
    synced: u64,
}

impl Flow {
    fn sync(&mut self, committed: u64) {
        if self.synced < committed {
            self.synced = committed;
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.said.clear();
        self.datagrams.clear();
        self.candidates.clear();
    }

    /// Whether one datagram of the SVM has all fragments that have left of the VM's datagram, and this one.
    fn is_of_one_datagram(&mut self, packet: &Packet, out: &[u8]) -> bool {
        if packet.kind != Kind::Fragment {
            return true;
        }
        let nothing = BTreeSet::new();
        let here = self
            .datagrams
            .get(&content(packet, out))
            .unwrap_or(&nothing);
        let known = self
            .candidates
            .entry(extras::identification(packet, out))
            .or_default();
        // The same place again: the identification was used again, or it is a duplicate.
        if known.places.is_empty() || !known.places.insert(packet.fragment) {
            known.places = BTreeSet::from([packet.fragment]);
            known.datagrams = here.clone();
        }
        known.datagrams.retain(|id| here.contains(id));
        !known.datagrams.is_empty()
    }

    /// The VM has sent a frame.
    pub fn taken(
        &mut self,
        captured: CapturePoint,
        packet: Packet,
        bytes: Box<[u8]>,
        committed: u64,
    ) {
        self.sync(committed);
        self.waiting.push_back(Taken {
            captured,
            packet,
            bytes,
        });
    }

    /// Whether a frame waits to leave.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The other VM has sent a frame in `epoch`.
    pub fn witnessed(&mut self, epoch: u32, packet: &Packet, bytes: &[u8], committed: u64) {
        self.sync(committed);
        if self.epoch != epoch {
            self.epoch = epoch;
            self.forget();
        }
        if packet.kind == Kind::Fragment {
            let id = extras::identification(packet, bytes);
            let of = self.datagrams.entry(content(packet, bytes)).or_default();
            of.insert(id);
        }
        *self.said.entry(content(packet, bytes)).or_default() += 1;
    }

    /// A frame has left.
    pub fn left(&mut self, packet: &Packet, out: &[u8], cx: &mut Releasing) -> Result<Why, Fault> {
        self.sync(cx.committed);
        let same = |taken: &Taken| first_difference(&taken.bytes, &taken.packet, out).is_none();
        let Some(index) = self.waiting.iter().position(same) else {
            return Err(self.unexpected(out));
        };
        let first = self.waiting[0].captured.record;
        if index > 0 && cx.vanished < index as u64 {
            return Err(Fault {
                rule: Rule::R5,
                position: None,
                records: vec![first],
                what: format!("{index} frames of the VM before it have not left"),
            });
        }
        cx.vanished -= index as u64;
        self.waiting.drain(..index);
        let Some(taken) = self.waiting.pop_front() else {
            return Err(self.unexpected(out));
        };
        if let Some(why) = taken.captured.why(cx) {
            return Ok(why);
        }
        let epoch = taken.captured.epoch;
        let known = (self.epoch == epoch)
            .then(|| self.said.get_mut(&content(packet, out)))
            .flatten()
            .filter(|n| **n > 0);
        match known {
            Some(n) => {
                *n -= 1;
                if self.is_of_one_datagram(packet, out) {
                    return Ok(Why::Compared);
                }
                Err(Fault {
                    rule: Rule::R1,
                    position: None,
                    records: vec![taken.captured.record],
                    what: format!(
                        "it leaves, the SVM has sent the same in epoch {epoch} in another datagram only, \
                         and no commit covers it"
                    ),
                })
            }
            None => Err(Fault {
                rule: Rule::R1,
                position: None,
                records: vec![taken.captured.record],
                what: format!(
                    "it leaves, the SVM has not sent the same in epoch {epoch}, and no commit covers it"
                ),
            }),
        }
    }

    fn unexpected(&self, out: &[u8]) -> Fault {
        let near = self.waiting.front();
        let at = near.and_then(|taken| first_difference(&taken.bytes, &taken.packet, out));
        Fault {
            rule: Rule::R1,
            position: at.map(|at| format!("byte {at} of the frame")),
            records: near
                .map(|taken| taken.captured.record)
                .into_iter()
                .collect(),
            what: "it leaves, and the VM has not sent it so".to_owned(),
        }
    }
}

/// The bytes that must be equal: the payload, options, extension headers and bytes behind a UDP datagram. The place of
/// a fragment is one of them, the checksum of ICMP is not.
fn content(packet: &Packet, bytes: &[u8]) -> Vec<u8> {
    let mut content = crate::tcp::payload(packet, bytes).to_vec();
    if packet.kind == Kind::Icmp && content.len() >= 4 {
        content[2..4].fill(0);
    }
    content.extend(packet.fragment.to_be_bytes());
    content.push(0);
    content.extend(extras::surplus(packet, bytes));
    for part in extras::network(packet, bytes) {
        content.extend((part.len() as u16).to_be_bytes());
        content.extend(part);
    }
    content
}
