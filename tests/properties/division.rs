//! Long frames of guests with offloads: what was found equal leaves, also of a frame whose rest
//! still waits, so that no window of the SVM's can be too small for a frame of the PVM's.

use std::num::NonZeroU16;

use colo_testkit::packets::{self, Ends};
use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy};
use dpdk_colo::frame::{Frame, HeapFrame, Offload};
use dpdk_colo::packet::{Kind, Packet};

use crate::harness::ample;
use crate::traffic::ends;

const SIZE: u16 = 100;
const ACK: u32 = 77;

/// One VM's output: a stream from `isn` on, sent up to a point.
struct Sender<'a> {
    ends: &'a Ends,
    isn: u32,
    bytes: Vec<u8>,
    sent: usize,
    fin: bool,
    /// Starts and ends of what was sent as a frame to be cut.
    long: Vec<(usize, usize)>,
}

impl Sender<'_> {
    fn send(&mut self, rng: &mut Rng, len: usize) -> HeapFrame {
        let (from, to) = (self.sent, self.sent + len);
        self.sent = to;
        let segment = packets::Segment {
            seq: self.isn.wrapping_add(from as u32),
            ack: Some(ACK),
            syn: false,
            fin: self.fin && to == self.bytes.len(),
            rst: false,
            window: 500,
            options: packets::timestamp_options(rng.word()),
            payload: self.bytes[from..to].to_vec(),
        };
        let bytes = packets::tcp(self.ends, &segment, rng.byte());
        let headers = bytes.len() - len;
        let cut = headers + rng.below(len + 1);
        let frame = HeapFrame::chain(&[&bytes[..cut], &bytes[cut..]]);
        if len <= usize::from(SIZE) {
            return frame;
        }
        self.long.push((from, to));
        frame.with_offload(Offload {
            partial_checksum: true,
            segment: NonZeroU16::new(SIZE),
        })
    }

    /// What of the bytes before `equal` may leave: all of a frame, or any part of a long one.
    fn may_leave(&self, frames: &[(usize, usize)], equal: usize) -> usize {
        let within = |&&(from, to): &&(usize, usize)| from < equal && equal < to;
        let long = self.long.iter().any(|range| within(&range));
        match frames.iter().find(within) {
            Some((from, _)) if !long => *from,
            _ => equal,
        }
    }
}

/// What the network has seen: a stream in order, each byte once.
struct Network {
    isn: u32,
    bytes: Vec<u8>,
    fin: bool,
}

impl Network {
    fn take(&mut self, comparator: &mut Comparator<HeapFrame>) {
        while let Some(release) = comparator.next_release() {
            let frame = release.frame;
            let whole = frame.to_vec();
            let packet = Packet::parse(frame.head(), frame.len());
            assert_eq!(packet.kind, Kind::Tcp);
            assert_eq!((packet.end(), packet.tcp.ack), (whole.len(), ACK));
            let expected = self.isn.wrapping_add(self.bytes.len() as u32);
            assert_eq!(packet.tcp.seq, expected, "each byte once, in order");
            assert!(!self.fin, "nothing behind the FIN");
            self.fin = packet.tcp.flags.contains(dpdk_colo::packet::TcpFlags::FIN);
            self.bytes.extend(&whole[usize::from(packet.payload)..]);
        }
    }
}

#[test]
fn what_is_equal_of_a_long_frame_leaves_and_no_byte_more() {
    for_cases("what_is_equal_of_a_long_frame_leaves", 5_000, long_frames);
}

pub fn long_frames(rng: &mut Rng) {
    let ends = ends(rng, 0);
    let isn = rng.sequence();
    let bytes: Vec<u8> = (0..rng.between(1, 3_000)).map(|_| rng.byte()).collect();
    let flip = rng.one_in(2).then(|| rng.below(bytes.len()));
    let fin = rng.one_in(2);
    let sender = |bytes: Vec<u8>| Sender {
        ends: &ends,
        isn,
        bytes,
        sent: 0,
        fin,
        long: Vec::new(),
    };
    let (mut p, mut s) = (sender(bytes.clone()), sender(bytes.clone()));
    if let Some(flip) = flip {
        s.bytes[flip] ^= 1 << rng.below(8);
    }
    let mut network = Network {
        isn,
        bytes: Vec::new(),
        fin: false,
    };
    let limits = Limits {
        patience: rng.between(0, 5) as u64,
        ..ample(20_000, 4_000)
    };
    let mut comparator = Comparator::new(limits, Numbers::Translated, Policy::default());
    let (window, longest) = (rng.between(1, 800), rng.between(1, 1_500));
    let mut frames = Vec::new();
    let (mut now, mut idle) = (0, 0);
    while idle < 20 {
        now += 1;
        idle += 1;
        if rng.one_in(2) && p.sent < p.bytes.len() {
            let len = rng.between(1, longest.min(p.bytes.len() - p.sent));
            frames.push((p.sent, p.sent + len));
            let frame = p.send(rng, len);
            assert!(comparator.primary(frame, now).is_ok(), "there is room");
            idle = 0;
        }
        // The SVM sends what its window allows beyond what the client has got.
        let allowed = s.bytes.len().min(network.bytes.len() + window);
        if allowed > s.sent {
            let len = rng.between(1, longest.min(allowed - s.sent));
            let frame = s.send(rng, len);
            comparator.secondary(frame, now);
            idle = 0;
        }
        let looked = rng.one_in(2);
        if looked {
            now += limits.patience;
            comparator.age(now, 1);
        }
        network.take(&mut comparator);
        let equal = p.sent.min(s.sent).min(flip.unwrap_or(usize::MAX));
        let may_leave = p.may_leave(&frames, equal);
        if looked && flip.is_none_or(|flip| p.sent.min(s.sent) <= flip) {
            assert_eq!(network.bytes.len(), may_leave);
        }
        assert!(network.bytes.len() <= may_leave, "no byte that differs");
        if p.sent < p.bytes.len() {
            idle = 0;
        }
    }
    if flip.is_none() {
        let short = |len: usize| len <= usize::from(SIZE);
        // Only a frame that is not to be cut can be longer than the SVM's window.
        let stuck = frames
            .iter()
            .any(|(from, to)| short(to - from) && to - from > window);
        assert!(stuck || network.bytes.len() == bytes.len(), "nothing waits");
        assert!(comparator.take_divergence().is_none());
    } else if s.sent > flip.unwrap_or(0) {
        assert!(comparator.take_divergence().is_some(), "it is reported");
    }
    comparator.fence();
    comparator.commit(now);
    network.take(&mut comparator);
    assert_eq!((network.bytes, network.fin), (bytes, fin));
    assert_eq!(comparator.primary_buffers(), 0);
}
