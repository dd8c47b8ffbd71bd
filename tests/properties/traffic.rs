//! TCP connections as a VM might send them: any segmentation, order, repetition and overlap.

use std::cell::Cell;
use std::collections::VecDeque;

use colo_testkit::packets::{self, Ends};
use colo_testkit::rng::Rng;
use dpdk_colo::compare::Numbers;

use crate::harness::Sent;
use crate::model::{Meaning, Segment};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Primary,
    Secondary,
}

/// How a connection begins, from the VM's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With a SYN+ACK.
    Passive,
    /// With a SYN.
    Active,
    /// It was there before.
    MidStream,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    Never,
    Fin,
    Reset,
}

/// One connection of a flow, as both VMs know it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub flow: usize,
    pub incarnation: usize,
    pub ends: Ends,
    pub numbers: Numbers,
    pub opening: Opening,
    pub close: Close,
    pub bytes: Vec<u8>,
    /// Bytes of the client that are acknowledged in the end.
    pub acknowledged: u32,
    pub pvm_isn: u32,
    pub svm_isn: u32,
    client_isn: u32,
    timestamps: bool,
    /// The last time stamp of either VM.
    clock: Cell<u32>,
}

/// The ends of a flow by its number.
pub fn ends(rng: &mut Rng, flow: usize) -> Ends {
    let tags = rng.below(4).saturating_sub(1);
    Ends {
        v6: rng.one_in(3),
        vlans: (0..tags).map(|i| 100 + i as u16).collect(),
        peer: 2 + rng.below(3) as u8,
        port: 1000 + flow as u16,
        peer_port: 40_000,
        ..Ends::default()
    }
}

/// Bytes of a small or a large alphabet, so that shifted streams are sometimes alike for a while.
pub fn content(rng: &mut Rng, most: usize) -> Vec<u8> {
    let letters = [2, 4, 256][rng.below(3)];
    (0..rng.below(most + 1))
        .map(|_| rng.below(letters) as u8)
        .collect()
}

impl Connection {
    pub fn random(rng: &mut Rng, flow: usize, ends: &Ends, numbers: Numbers) -> Self {
        let opening = [
            Opening::Passive,
            Opening::Passive,
            Opening::Active,
            Opening::MidStream,
        ][rng.below(4)];
        let pvm_isn = rng.sequence();
        Self {
            flow,
            incarnation: 0,
            ends: ends.clone(),
            numbers,
            opening,
            close: [Close::Never, Close::Fin, Close::Fin, Close::Reset][rng.below(4)],
            bytes: content(rng, 240),
            acknowledged: rng.below(400) as u32,
            pvm_isn,
            svm_isn: if opening == Opening::MidStream {
                pvm_isn
            } else {
                rng.sequence()
            },
            client_isn: rng.sequence(),
            timestamps: rng.one_in(2),
            clock: Cell::new(rng.sequence()),
        }
    }

    fn closing(&self, at: u32, data: &[u8]) -> Segment {
        Segment {
            incarnation: self.incarnation,
            at,
            data: data.to_vec(),
            fin: self.close == Close::Fin && at as usize + data.len() == self.bytes.len(),
            ..Segment::default()
        }
    }

    /// What a VM sends from byte `from` on, with `bytes` for the connection's stream, and its SYN
    /// if `syn`. Everything is sent at least once, and the last acknowledgment too.
    pub fn output(&self, rng: &mut Rng, syn: bool, from: u32, window: usize) -> Vec<Segment> {
        let len = self.bytes.len() as u32;
        let mut segments = Vec::new();
        let largest = [1, 7, 40, 300][rng.below(4)];
        let mut at = from;
        while at < len {
            let n = rng.between(1, largest.min((len - at) as usize));
            let mut segment = self.closing(at, &self.bytes[at as usize..][..n]);
            at += n as u32;
            if at == len && segment.fin && rng.one_in(2) {
                segment.fin = false;
            }
            segments.push(segment);
            if segments.len() >= 24 && at < len {
                segments.push(self.closing(at, &self.bytes[at as usize..]));
                at = len;
            }
        }
        if self.close == Close::Fin && !segments.iter().any(|s| s.fin) {
            segments.push(self.closing(len, &[]));
        }
        for _ in 0..[0, 0, 1, 3][rng.below(4)] {
            self.repeat(rng, from, &mut segments);
        }
        for _ in 0..rng.below(4) {
            let i = rng.below(segments.len() + 1);
            let at = segments.get(i).map_or(len, |s| s.at);
            let ack = Segment {
                incarnation: self.incarnation,
                at,
                ..Segment::default()
            };
            segments.insert(i, ack);
        }
        rng.shuffle(&mut segments, window);
        self.acknowledge(rng, from > 0, &mut segments);
        if syn && self.opening != Opening::MidStream {
            let again = rng.one_in(6);
            // No stack sends the SYN of a connection again behind its FIN.
            let fin = segments.iter().position(|segment| segment.fin);
            let position = rng.below(fin.unwrap_or(segments.len()) + 1);
            let syn = Segment {
                incarnation: self.incarnation,
                syn: true,
                ack: (self.opening == Opening::Passive).then_some(0),
                ..Segment::default()
            };
            if again {
                segments.insert(position, syn.clone());
            }
            segments.insert(0, syn);
        }
        if self.close == Close::Reset {
            let rst = Segment {
                incarnation: self.incarnation,
                at: len,
                rst: true,
                ack: Some(self.acknowledged),
                ..Segment::default()
            };
            for _ in 0..rng.between(1, 2) {
                segments.push(rst.clone());
            }
        }
        segments
    }

    /// Inserts a retransmission of a range that has been sent, cut anywhere.
    fn repeat(&self, rng: &mut Rng, from: u32, segments: &mut Vec<Segment>) {
        let i = rng.below(segments.len() + 1);
        let sent = segments[..i].iter().map(Segment::end).max().unwrap_or(from) as usize;
        let low = if rng.one_in(3) { 0 } else { from as usize };
        let a = rng.between(low, sent.max(low));
        let b = rng.between(a, sent.max(a));
        let fin_sent = segments[..i].iter().any(|s| s.fin);
        let mut again = self.closing(a as u32, &self.bytes[a..b]);
        again.fin &= fin_sent && rng.one_in(2);
        if !again.data.is_empty() || again.fin {
            segments.insert(i, again);
        }
    }

    /// Gives the segments acknowledgments that rise to the last one.
    fn acknowledge(&self, rng: &mut Rng, resumed: bool, segments: &mut Vec<Segment>) {
        let mut ack = if resumed { self.acknowledged / 2 } else { 0 };
        for segment in segments.iter_mut() {
            if rng.one_in(3) {
                ack += rng.below((self.acknowledged - ack) as usize + 1) as u32;
            }
            // A segment that was overtaken acknowledges less.
            let late = if rng.one_in(8) {
                rng.below(3) as u32
            } else {
                0
            };
            segment.ack = Some(ack.saturating_sub(late));
        }
        segments.push(Segment {
            incarnation: self.incarnation,
            at: self.bytes.len() as u32,
            ack: Some(self.acknowledged),
            ..Segment::default()
        });
    }

    /// The frame of a segment.
    pub fn frame(&self, rng: &mut Rng, side: Side, segment: &Segment) -> Sent {
        let isn = match (side, self.numbers, segment.syn) {
            (Side::Primary, ..) | (Side::Secondary, Numbers::Translated, false) => self.pvm_isn,
            (Side::Secondary, ..) => self.svm_isn,
        };
        let first = self.client_isn.wrapping_add(1);
        let number = isn.wrapping_add(u32::from(!segment.syn));
        let trivia = rng.byte();
        let stamp = self.clock.get().wrapping_add(rng.below(3) as u32);
        self.clock.set(stamp);
        let wire = packets::Segment {
            seq: number.wrapping_add(segment.at),
            ack: segment.ack.map(|ack| first.wrapping_add(ack)),
            syn: segment.syn,
            fin: segment.fin,
            rst: segment.rst,
            window: rng.word() as u16,
            options: match (segment.syn, self.timestamps) {
                (true, true) => packets::syn_options(1460, Some(stamp)),
                (true, false) => packets::syn_options(1460, None),
                (false, true) => packets::timestamp_options(stamp),
                (false, false) => Vec::new(),
            },
            payload: segment.data.clone(),
        };
        let mut bytes = packets::tcp(&self.ends, &wire, trivia);
        let headers = bytes.len() - segment.data.len();
        for _ in 0..[0, 0, 6][rng.below(3)] {
            bytes.push(rng.byte());
        }
        Sent {
            flow: self.flow,
            meaning: Meaning::Tcp(segment.clone()),
            bytes,
            headers,
            cut: None,
        }
    }

    /// The frames of segments.
    pub fn frames(&self, rng: &mut Rng, side: Side, segments: &[Segment]) -> VecDeque<Sent> {
        segments.iter().map(|s| self.frame(rng, side, s)).collect()
    }
}

/// Takes from several queues in random turns; some are much faster than others.
pub fn merge(rng: &mut Rng, queues: Vec<(Side, VecDeque<Sent>)>) -> Vec<(Side, Sent)> {
    let mut queues: Vec<_> = queues
        .into_iter()
        .map(|(side, queue)| ([1, 1, 4, 1000][rng.below(4)], side, queue))
        .collect();
    let mut merged = Vec::new();
    loop {
        queues.retain(|(_, _, queue)| !queue.is_empty());
        let total: usize = queues.iter().map(|(weight, ..)| weight).sum();
        if total == 0 {
            return merged;
        }
        let mut draw = rng.below(total);
        for (weight, side, queue) in &mut queues {
            if draw < *weight {
                merged.push((*side, queue.pop_front().expect("is not empty")));
                break;
            }
            draw -= *weight;
        }
    }
}
