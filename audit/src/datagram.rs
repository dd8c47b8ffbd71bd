//! A flow without a byte stream: UDP, ICMP, fragments, other protocols.
//!
//! A frame that leaves must be the next one that waits, and the SVM must have sent one with the
//! same content in the same epoch that no other has used up (rule R1).

use std::collections::{HashMap, VecDeque};

use dpdk_colo::packet::{Kind, Packet};

use crate::node::{Fault, Releasing, Standing, Why};
use crate::report::Rule;
use crate::same::first_difference;

struct Taken {
    standing: Standing,
    packet: Packet,
    bytes: Box<[u8]>,
}

/// One flow at one node.
#[derive(Default)]
pub struct Flow {
    waiting: VecDeque<Taken>,
    epoch: u32,
    /// What the SVM sent in this epoch, and how often.
    said: HashMap<Vec<u8>, u64>,
    synced: u64,
}

impl Flow {
    fn sync(&mut self, committed: u64) {
        if self.synced < committed {
            self.synced = committed;
            self.said.clear();
        }
    }

    /// The VM has sent a frame.
    pub fn taken(&mut self, standing: Standing, packet: Packet, bytes: Box<[u8]>, committed: u64) {
        self.sync(committed);
        self.waiting.push_back(Taken {
            standing,
            packet,
            bytes,
        });
    }

    /// Whether something waits to leave.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The other VM has sent a frame in `epoch`.
    pub fn witnessed(&mut self, epoch: u32, packet: &Packet, bytes: &[u8], committed: u64) {
        self.sync(committed);
        if self.epoch != epoch {
            self.epoch = epoch;
            self.said.clear();
        }
        *self.said.entry(content(packet, bytes)).or_default() += 1;
    }

    /// A frame has left.
    pub fn left(&mut self, packet: &Packet, out: &[u8], cx: &mut Releasing) -> Result<Why, Fault> {
        self.sync(cx.committed);
        let same = |taken: &Taken| first_difference(&taken.bytes, &taken.packet, out).is_none();
        let Some(index) = self.waiting.iter().position(same) else {
            return Err(self.stranger(out));
        };
        let first = self.waiting[0].standing.record;
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
            return Err(self.stranger(out));
        };
        if let Some(why) = taken.standing.why(cx) {
            return Ok(why);
        }
        let epoch = taken.standing.epoch;
        let known = (self.epoch == epoch)
            .then(|| self.said.get_mut(&content(packet, out)))
            .flatten()
            .filter(|n| **n > 0);
        match known {
            Some(n) => {
                *n -= 1;
                Ok(Why::Compared)
            }
            None => Err(Fault {
                rule: Rule::R1,
                position: None,
                records: vec![taken.standing.record],
                what: format!(
                    "it leaves, the SVM has not sent the same in epoch {epoch}, and no commit covers it"
                ),
            }),
        }
    }

    fn stranger(&self, out: &[u8]) -> Fault {
        let near = self.waiting.front();
        let at = near.and_then(|taken| first_difference(&taken.bytes, &taken.packet, out));
        Fault {
            rule: Rule::R1,
            position: at.map(|at| format!("byte {at} of the frame")),
            records: near
                .map(|taken| taken.standing.record)
                .into_iter()
                .collect(),
            what: "it leaves, and the VM has not sent it so".to_owned(),
        }
    }
}

/// What must be alike: the payload, of fragments also their place, of ICMP not the checksum.
fn content(packet: &Packet, bytes: &[u8]) -> Vec<u8> {
    let mut content = crate::tcp::payload(packet, bytes).to_vec();
    if packet.kind == Kind::Icmp && content.len() >= 4 {
        content[2..4].fill(0);
    }
    content.extend(packet.fragment.to_be_bytes());
    content
}
