//! The rewriter against what its translation means: a frame comes out as if its sender had built it in the other VM's
//! numbers, checksum included. What is learned, loaded and taken over comes in any order.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dpdk_colo::flow::FlowKey;
use dpdk_colo::frame::{Frame, HeapFrame};
use dpdk_colo::packet::{Isn, Outcome, Packet, checksum};
use dpdk_colo::rewrite::{Learned, Limits, Offset, Rewriter};
use etherparse::{PacketBuilder, TcpHeader};

use colo_testkit::rng::Rng;

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 80;
/// Connections by the client's port, fewer than the rewriter has room for, closed ones included.
const CONNECTIONS: usize = 4;
const LIMITS: Limits = Limits {
    connections: 4 * CONNECTIONS,
    linger: 1 << 40,
    half_open: 1 << 40,
};

#[derive(Clone, Debug)]
struct Segment {
    from_client: bool,
    port: u16,
    seq: u32,
    ack: Option<u32>,
    syn: bool,
    fin: bool,
    rst: bool,
    /// Of no operation before the others: nothing aligns an option.
    shift: usize,
    stamps: Option<(u32, u32)>,
    sack: Vec<u32>,
    payload: Vec<u8>,
}

impl Segment {
    fn any(rng: &mut Rng, known: Option<&Known>) -> Self {
        let syn = rng.one_in(6);
        let isn = known.map(|known| known.isn).filter(|_| rng.one_in(2));
        Self {
            from_client: rng.one_in(2),
            port: 0,
            seq: isn.unwrap_or_else(|| number(rng)),
            ack: (!rng.one_in(4)).then(|| number(rng)),
            syn,
            fin: !syn && rng.one_in(8),
            rst: !syn && rng.one_in(12),
            shift: rng.below(4),
            stamps: rng.one_in(2).then(|| (number(rng), number(rng))),
            sack: (0..2 * [0, 0, 1, 3][rng.below(4)])
                .map(|_| number(rng))
                .collect(),
            payload: (0..rng.below(9)).map(|at| at as u8).collect(),
        }
    }

    fn options(&self) -> Vec<u8> {
        let mut options = vec![1; self.shift];
        if let Some((value, echo)) = self.stamps {
            options.extend([8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        if !self.sack.is_empty() {
            options.extend([5, 2 + 4 * self.sack.len() as u8]);
            options.extend(self.sack.iter().flat_map(|edge| edge.to_be_bytes()));
        }
        options
    }

    fn bytes(&self) -> Vec<u8> {
        let ([from, to], [source, destination]) = match self.from_client {
            true => ([CLIENT, GUEST], [self.port, PORT]),
            false => ([GUEST, CLIENT], [PORT, self.port]),
        };
        let mut tcp = TcpHeader::new(source, destination, self.seq, 5_000);
        tcp.acknowledgment_number = self.ack.unwrap_or(0);
        tcp.ack = self.ack.is_some();
        (tcp.syn, tcp.fin, tcp.rst) = (self.syn, self.fin, self.rst);
        tcp.set_options_raw(&self.options())
            .expect("at most 40 bytes");
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from.octets(), to.octets(), 64)
            .tcp_header(tcp)
            .write(&mut bytes, &self.payload)
            .expect("a frame");
        bytes
    }

    /// An ICMP error of the segment's receiver, which quotes all of it.
    fn quoted(&self) -> Vec<u8> {
        let frame = self.bytes();
        let [from, to] = match self.from_client {
            true => [GUEST, CLIENT],
            false => [CLIENT, GUEST],
        };
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from.octets(), to.octets(), 64)
            .icmpv4_raw(3, 3, [0; 4])
            .write(&mut bytes, &frame[14..])
            .expect("a frame");
        bytes
    }

    /// The client's segment in the guest's numbers.
    fn for_guest(&self, known: &Known) -> Self {
        let mut segment = self.clone();
        if let Some(ack) = &mut segment.ack {
            *ack = ack.wrapping_add(known.seq);
            segment
                .sack
                .iter_mut()
                .for_each(|edge| *edge = edge.wrapping_add(known.seq));
            // 0 says that there is nothing to echo.
            if let Some((_, echo)) = segment.stamps.as_mut().filter(|(_, echo)| *echo != 0) {
                *echo = echo.wrapping_add(known.stamp);
            }
        }
        segment
    }

    /// The guest's segment in the client's numbers. A SYN keeps its number, by which the comparison learns it, and so does
    /// the answer to a segment without ACK (RFC 9293, 3.10.7.1).
    fn for_client(&self, known: &Known, taken_over: bool) -> Self {
        let mut segment = self.clone();
        let answer = self.rst && self.ack.is_some() && self.seq == 0;
        if !(answer || self.syn && !taken_over) {
            segment.seq = self.seq.wrapping_sub(known.seq);
        }
        if taken_over {
            segment.stamps =
                (self.stamps).map(|(value, echo)| (value.wrapping_sub(known.stamp), echo));
        }
        segment
    }
}

/// Numbers near the wrap, whose sums carry, as often as others.
fn number(rng: &mut Rng) -> u32 {
    match rng.below(3) {
        0 => [0, 1, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX][rng.below(7)],
        _ => rng.word(),
    }
}

/// What is known of a connection.
#[derive(Clone, Debug)]
struct Known {
    seq: u32,
    stamp: u32,
    isn: u32,
    /// An earlier node knew it.
    inherited: bool,
}

struct Story {
    rewriter: Rewriter,
    known: BTreeMap<u16, Known>,
    /// A client has echoed a time stamp: after a takeover no segment bears an earlier one.
    heard: bool,
    taken_over: bool,
    now: u64,
}

/// Each draw is something that happens.
pub fn run(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    let mut story = Story {
        rewriter: Rewriter::new(LIMITS, rng.next()),
        known: BTreeMap::new(),
        heard: false,
        taken_over: false,
        now: 0,
    };
    loop {
        story.step(&mut rng);
        if !rng.is_chosen() {
            return;
        }
    }
}

impl Story {
    fn step(&mut self, rng: &mut Rng) {
        self.now += rng.below(3) as u64;
        let port = 4_000 + rng.below(CONNECTIONS) as u16;
        match rng.below(12) {
            0 | 1 => self.learn(rng, port),
            2 if rng.one_in(4) => {
                // Nothing is loaded by a VM that speaks for itself.
                if !self.taken_over {
                    self.rewriter.svm_loaded();
                    self.known.retain(|_, known| known.inherited);
                }
            }
            3 if rng.one_in(4) => {
                self.rewriter.take_over();
                self.taken_over = true;
            }
            4 if rng.one_in(2) => self.inherit(rng, port),
            5 => {
                self.rewriter.age(self.now);
            }
            6 => self.quote(rng, port),
            7 => self.shared(rng, port),
            _ => self.segment(rng, port),
        }
        assert!(self.rewriter.len() <= LIMITS.connections + LIMITS.connections.div_ceil(4));
    }

    fn key(port: u16) -> FlowKey {
        FlowKey::tcp((GUEST, PORT).into(), (CLIENT, port).into())
    }

    fn learn(&mut self, rng: &mut Rng, port: u16) {
        let opening = |rng: &mut Rng| Isn {
            number: number(rng),
            timestamp: rng.one_in(2).then(|| number(rng)),
        };
        let (pvm, svm) = (opening(rng), opening(rng));
        let stamp = match (pvm.timestamp, svm.timestamp) {
            (Some(pvm), Some(svm)) => svm.wrapping_sub(pvm),
            _ => 0,
        };
        let seq = svm.number.wrapping_sub(pvm.number);
        let learned = self.rewriter.learn(Self::key(port), pvm, svm, self.now);
        assert_eq!(learned, Learned::Stored, "there is room");
        self.known.remove(&port);
        if seq != 0 || stamp != 0 {
            let known = Known {
                seq,
                stamp,
                isn: svm.number,
                inherited: false,
            };
            self.known.insert(port, known);
        }
    }

    fn inherit(&mut self, rng: &mut Rng, port: u16) {
        let offset = Offset {
            seq: number(rng),
            timestamp: number(rng),
            isn: number(rng),
        };
        // Of what was known of the state before, something may be there still: nothing to judge by then.
        if self.known.contains_key(&port) || !self.rewriter.is_empty() && !self.all_is_swept() {
            return;
        }
        self.rewriter.inherit(Self::key(port), offset, self.now);
        let known = Known {
            seq: offset.seq,
            stamp: offset.timestamp,
            isn: offset.isn,
            inherited: true,
        };
        self.known.insert(port, known);
    }

    /// Whether the rewriter remembers no more than the model.
    fn all_is_swept(&self) -> bool {
        self.rewriter.len() == self.known.len()
    }

    /// The connection that counts for a segment now.
    fn counts(&self, port: u16) -> Option<Known> {
        let known = self.known.get(&port)?;
        (!known.inherited || self.taken_over).then(|| known.clone())
    }

    fn segment(&mut self, rng: &mut Rng, port: u16) {
        let known = self.counts(port);
        let mut segment = Segment::any(rng, known.as_ref());
        segment.port = port;
        if self.taken_over && self.heard {
            // What the clock must say then is the rewriter's own tests' matter.
            segment.stamps = None;
        }
        let echoes = segment.from_client && segment.stamps.is_some() && segment.ack.is_some();
        self.heard |= echoes && !self.taken_over;
        let opens_another = self.taken_over
            && !segment.from_client
            && segment.syn
            && known.as_ref().is_some_and(|known| known.isn != segment.seq);
        let expected = match &known {
            None => segment.clone(),
            Some(_) if opens_another => segment.clone(),
            Some(known) if segment.from_client => segment.for_guest(known),
            Some(known) => segment.for_client(known, self.taken_over),
        };
        if opens_another {
            self.known.remove(&port);
        }
        let mut bytes = segment.bytes();
        let mut wanted = expected.bytes();
        let partial = rng.one_in(6);
        if !partial && rng.one_in(6) && !segment.payload.is_empty() {
            // A wrong checksum stays wrong, and wrong by as much.
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            wanted[last] ^= 1;
        }
        let mut frame = HeapFrame::new(&bytes);
        if partial {
            frame = frame.with_partial_checksum();
            let packet = Packet::parse(&bytes, bytes.len());
            let at = usize::from(packet.l4) + 16;
            wanted[at..at + 2].copy_from_slice(&bytes[at..at + 2]);
        }
        let outcome = self.pass(&mut frame, segment.from_client);
        assert_eq!(
            frame.to_vec(),
            wanted,
            "{segment:?} {known:?} over {}",
            self.taken_over
        );
        let changed = if wanted == bytes {
            Outcome::Untouched
        } else {
            Outcome::Translated
        };
        assert_eq!(outcome, changed, "{segment:?} {known:?}");
    }

    fn pass(&mut self, frame: &mut HeapFrame, from_client: bool) -> Outcome {
        let packet = Packet::parse(frame.head(), frame.len());
        match from_client {
            true => self.rewriter.to_guest(frame, &packet, self.now),
            false => self.rewriter.from_guest(frame, &packet, self.now),
        }
    }

    /// A frame that has another owner is not changed.
    fn shared(&mut self, rng: &mut Rng, port: u16) {
        if self.taken_over {
            return;
        }
        let mut segment = Segment::any(rng, None);
        (segment.port, segment.syn, segment.fin, segment.rst) = (port, false, false, false);
        segment.stamps = None;
        let mut frame = HeapFrame::new(&segment.bytes());
        let owner = frame.share();
        let outcome = self.pass(&mut frame, segment.from_client);
        assert!(matches!(outcome, Outcome::Shared | Outcome::Untouched));
        assert_eq!(owner.to_vec(), segment.bytes());
    }

    /// What an ICMP error quotes is in its receiver's numbers.
    fn quote(&mut self, rng: &mut Rng, port: u16) {
        let known = self.counts(port);
        let mut seen = Segment::any(rng, None);
        seen.port = port;
        let becomes_none = |known: &Known| seen.for_guest(known).stamps.is_some_and(|s| s.1 == 0);
        if known.as_ref().is_some_and(becomes_none) {
            seen.stamps = None;
        }
        let wanted = match (&known, seen.from_client) {
            (None, _) => seen.clone(),
            // The guest quotes the client's in its own numbers.
            (Some(known), true) => {
                let sent = seen.clone();
                seen = sent.for_guest(known);
                sent
            }
            (Some(known), false) => Segment {
                seq: seen.seq.wrapping_add(known.seq),
                ..seen.clone()
            },
        };
        let mut frame = HeapFrame::new(&seen.quoted());
        let _ = self.pass(&mut frame, !seen.from_client);
        assert_eq!(frame.to_vec(), wanted.quoted(), "{wanted:?} {known:?}");
        let packet = Packet::parse(frame.head(), frame.len());
        assert_eq!(checksum::verify(&packet, frame.segments()), Some(true));
    }
}
