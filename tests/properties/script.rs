//! What happens to a comparator, written down beforehand, so that several can go through the same.

use std::collections::VecDeque;
use std::sync::Arc;

use colo_testkit::packets::{ethernet, udp};
use colo_testkit::rng::Rng;
use dpdk_colo::compare::Numbers;
use dpdk_colo::frame::{Frame, HeapFrame};
use dpdk_colo::packet::Packet;

use crate::garbage::garbage;
use crate::harness::{Sent, in_segments};
use crate::loss::Given;
use crate::model::Meaning;
use crate::pair::{Conversation, Epoch, whole_output};
use crate::traffic::{Side, content, ends, merge};

/// A frame with a number, whose owners are counted.
#[derive(Debug)]
pub struct Tagged {
    frame: HeapFrame,
    /// Of a P; the order in which they came.
    pub number: usize,
    owners: Arc<()>,
}

impl Tagged {
    /// A frame of the same bytes under another count of owners.
    pub fn counted(&self, owners: &Arc<()>) -> Self {
        let segments: Vec<&[u8]> = self.frame.segments().collect();
        Self {
            frame: HeapFrame::chain(&segments),
            number: self.number,
            owners: Arc::clone(owners),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.frame.to_vec()
    }

    pub fn packet(&self) -> Packet {
        Packet::parse(self.head(), self.len())
    }
}

impl Frame for Tagged {
    fn head(&self) -> &[u8] {
        self.frame.head()
    }

    fn head_mut(&mut self) -> Option<&mut [u8]> {
        self.frame.head_mut()
    }

    fn len(&self) -> usize {
        self.frame.len()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.frame.segments()
    }

    fn share(&self) -> Self {
        Self {
            frame: self.frame.share(),
            number: self.number,
            owners: Arc::clone(&self.owners),
        }
    }

    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self> {
        Some(Self {
            frame: self.frame.excerpt(headers, start, len)?,
            number: self.number,
            owners: Arc::clone(&self.owners),
        })
    }
}

/// One thing that happens.
#[derive(Debug)]
pub enum Step {
    Primary(Tagged),
    Secondary(Tagged),
    Fence,
    Commit,
    Discard,
    /// Quiet flows are forgotten.
    Age,
}

/// Several flows of all kinds over several epochs.
pub struct Script {
    pub numbers: Numbers,
    /// No connection follows another on the same ports, and there is no garbage.
    pub is_plain: bool,
    pub steps: Vec<Step>,
    /// P in all.
    pub primaries: usize,
}

impl Script {
    pub fn random(rng: &mut Rng) -> Self {
        let numbers = [Numbers::Translated, Numbers::OwnIsn][rng.below(2)];
        let mut script = Self {
            numbers,
            is_plain: rng.one_in(2),
            steps: Vec::new(),
            primaries: 0,
        };
        let mut pair: Vec<Conversation> = (0..rng.between(1, 6))
            .map(|flow| {
                let connections = match script.is_plain {
                    true => 1,
                    false => rng.between(1, 2),
                };
                let window = [0, 0, 3][rng.below(3)];
                Conversation::random(rng, flow, numbers, connections, window)
            })
            .collect();
        let owners = Arc::new(());
        for _ in 0..rng.between(1, 4) {
            let epoch = Epoch {
                window: [0, 3][rng.below(2)],
                diverges: rng.one_in(2),
                last: rng.one_in(3),
                loss: 0,
            };
            let streams = whole_output(rng, &mut pair, &epoch);
            for (side, sent) in with_others(rng, streams, script.is_plain) {
                script.frame(rng, side, &sent, &owners);
                if rng.one_in(16) {
                    script.steps.push(Step::Age);
                }
            }
            script.end_epoch(rng, &mut pair, &owners);
        }
        script
    }

    /// What a comparator was given before.
    pub fn of(rng: &mut Rng, numbers: Numbers, given: Vec<Given>) -> Self {
        let mut script = Self {
            numbers,
            is_plain: true,
            steps: Vec::new(),
            primaries: 0,
        };
        let owners = Arc::new(());
        for given in given {
            match given {
                Given::Frame(side, sent) => script.frame(rng, side, &sent, &owners),
                Given::Fence => script.steps.push(Step::Fence),
                Given::Commit => script.steps.push(Step::Commit),
            }
        }
        script
    }

    /// What comes between fence and commit, and sometimes no checkpoint at all.
    fn end_epoch(&mut self, rng: &mut Rng, pair: &mut [Conversation], owners: &Arc<()>) {
        if !rng.one_in(8) {
            self.steps.push(Step::Fence);
        }
        let late = Epoch {
            window: 0,
            diverges: true,
            last: false,
            loss: 0,
        };
        for (side, sent) in whole_output(rng, pair, &late).into_iter().take(9) {
            self.frame(rng, side, &sent, owners);
        }
        if rng.one_in(8) {
            self.steps.push(Step::Fence);
        }
        if rng.one_in(12) {
            self.steps.push(Step::Discard);
        }
        self.steps.push(Step::Commit);
    }

    fn frame(&mut self, rng: &mut Rng, side: Side, sent: &Sent, owners: &Arc<()>) {
        let mut frame = Tagged {
            frame: in_segments(rng, sent),
            number: usize::MAX,
            owners: Arc::clone(owners),
        };
        self.steps.push(match side {
            Side::Primary => {
                frame.number = self.primaries;
                self.primaries += 1;
                Step::Primary(frame)
            }
            Side::Secondary => Step::Secondary(frame),
        });
    }
}

/// Mixes datagrams, frames that nothing is compared of, and garbage into the streams.
fn with_others(rng: &mut Rng, streams: Vec<(Side, Sent)>, is_plain: bool) -> Vec<(Side, Sent)> {
    const ARP: u16 = 0x0806;
    let mut queues: Vec<(Side, VecDeque<Sent>)> = Vec::new();
    for _ in 0..rng.below(4) {
        let flow = 100 + rng.below(4);
        let ends = ends(rng, flow);
        let sent: VecDeque<Sent> = (0..rng.below(12))
            .map(|_| {
                let payload = content(rng, 6);
                let bytes = match rng.below(8) {
                    0 => ethernet(&ends, ARP),
                    _ => udp(&ends, &payload, rng.byte()),
                };
                let headers = bytes.len() - payload.len().min(bytes.len());
                let (flow, meaning) = (flow, Meaning::Unknown);
                Sent {
                    flow,
                    meaning,
                    bytes,
                    headers,
                    cut: None,
                }
            })
            .collect();
        let mut theirs = sent.clone();
        if rng.one_in(3) {
            theirs.make_contiguous();
            rng.shuffle(theirs.as_mut_slices().0, 3);
        }
        if rng.one_in(3) {
            theirs.pop_front();
        }
        queues.push((Side::Primary, sent));
        queues.push((Side::Secondary, theirs));
    }
    if let Some((_, good)) = streams.first().filter(|_| !is_plain) {
        for side in [Side::Primary, Side::Secondary] {
            let bad = (0..rng.below(4)).map(|_| garbage(rng, good, 200)).collect();
            queues.push((side, bad));
        }
    }
    for side in [Side::Primary, Side::Secondary] {
        let of_side = streams.iter().filter(|(s, _)| *s == side);
        queues.push((side, of_side.map(|(_, sent)| sent.clone()).collect()));
    }
    merge(rng, queues)
}
