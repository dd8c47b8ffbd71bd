//! Frames in the one VM's numbers against the same frames built anew, checksums included, in the
//! other's.

use etherparse::{IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader, VlanId};

use super::*;
use crate::flow::Vlans;
use crate::frame::HeapFrame;
use crate::packet::tests::{Random, damage, for_seeds, frame};

const LIMITS: Limits = Limits {
    connections: 8,
    linger: 60,
    idle: 1000,
};

/// A segment between guest and client, of which each test varies what it is about.
#[derive(Clone, Debug)]
struct Segment {
    v6: bool,
    vlans: usize,
    from_client: bool,
    seq: u32,
    ack: u32,
    flags: TcpFlags,
    /// NOPs before the SACK option, which decide how it is aligned.
    shift: usize,
    sack: Vec<u32>,
    timestamps: Option<(u32, u32)>,
    payload: Vec<u8>,
}

impl Segment {
    fn any(random: &mut Random) -> Self {
        let count = random.below(3);
        let length = random.of(&[0, 0, 1, 2, 33]);
        Self {
            v6: random.one_in(2),
            vlans: random.below(3),
            from_client: random.one_in(2),
            seq: number(random),
            ack: number(random),
            flags: TcpFlags(random.next() as u8),
            shift: random.below(4),
            sack: (0..2 * count).map(|_| number(random)).collect(),
            timestamps: random
                .one_in(2)
                .then(|| (number(random), number(random).max(1))),
            payload: random.bytes(length),
        }
    }

    fn plain(flags: TcpFlags) -> Self {
        Self {
            v6: false,
            vlans: 0,
            from_client: false,
            seq: 0,
            ack: 0,
            flags,
            shift: 0,
            sack: Vec::new(),
            timestamps: None,
            payload: Vec::new(),
        }
    }

    fn key(&self) -> FlowKey {
        let key = if self.v6 {
            FlowKey::tcp(([0xfd; 16], 80).into(), ([0xfe; 16], 4242).into())
        } else {
            FlowKey::tcp(([10, 0, 0, 2], 80).into(), ([10, 0, 0, 1], 4242).into())
        };
        key.with_vlans(
            [
                Vlans::default(),
                Vlans { outer: 5, inner: 0 },
                Vlans { outer: 5, inner: 6 },
            ][self.vlans],
        )
    }

    fn options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some((value, echo)) = self.timestamps {
            options.extend([8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        options.extend(vec![1; self.shift]);
        if !self.sack.is_empty() {
            options.extend([5, 2 + 4 * self.sack.len() as u8]);
            options.extend(self.sack.iter().flat_map(|edge| edge.to_be_bytes()));
        }
        options
    }

    fn ip(&self, from_client: bool) -> IpHeaders {
        if self.v6 {
            let (source, destination) = if from_client {
                ([0xfe; 16], [0xfd; 16])
            } else {
                ([0xfd; 16], [0xfe; 16])
            };
            let header = Ipv6Header {
                source,
                destination,
                hop_limit: 64,
                ..Default::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        } else {
            let (guest, client) = ([10, 0, 0, 2], [10, 0, 0, 1]);
            let (source, destination) = if from_client {
                (client, guest)
            } else {
                (guest, client)
            };
            let header = Ipv4Header {
                source,
                destination,
                time_to_live: 64,
                ..Default::default()
            };
            IpHeaders::Ipv4(header, Default::default())
        }
    }

    fn tcp(&self) -> TcpHeader {
        let (source, destination) = if self.from_client {
            (4242, 80)
        } else {
            (80, 4242)
        };
        let mut tcp = TcpHeader::new(source, destination, self.seq, 5000);
        let has = |flag| self.flags.contains(flag);
        tcp.acknowledgment_number = self.ack;
        tcp.fin = has(TcpFlags::FIN);
        tcp.syn = has(TcpFlags::SYN);
        tcp.rst = has(TcpFlags::RST);
        tcp.psh = has(TcpFlags::PSH);
        tcp.ack = has(TcpFlags::ACK);
        tcp.urg = has(TcpFlags::URG);
        tcp.ece = has(TcpFlags::ECE);
        tcp.cwr = has(TcpFlags::CWR);
        tcp.set_options_raw(&self.options()).unwrap();
        tcp
    }

    /// The segment as a frame, checksums computed in full by `etherparse`.
    fn bytes(&self) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = self.ip(self.from_client);
        let id = |id| VlanId::try_new(id).unwrap();
        let builder = match self.vlans {
            0 => builder.ip(ip),
            1 => builder.single_vlan(id(5)).ip(ip),
            _ => builder.double_vlan(id(5), id(6)).ip(ip),
        };
        let mut bytes = Vec::new();
        builder
            .tcp_header(self.tcp())
            .write(&mut bytes, &self.payload)
            .unwrap();
        bytes
    }

    /// An ICMP error by the receiver of the segment, which quotes it up to `length` bytes of TCP.
    fn quoted(&self, length: usize) -> Vec<u8> {
        let frame = self.bytes();
        let packet = Packet::parse(&frame, frame.len());
        let start = usize::from(packet.l3);
        let end = packet.end().min(usize::from(packet.l4) + length);
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = self.ip(!self.from_client);
        let id = |id| VlanId::try_new(id).unwrap();
        let builder = match self.vlans {
            0 => builder.ip(ip),
            1 => builder.single_vlan(id(5)).ip(ip),
            _ => builder.double_vlan(id(5), id(6)).ip(ip),
        };
        let mut bytes = Vec::new();
        if self.v6 {
            builder
                .icmpv6_raw(1, 4, [0; 4])
                .write(&mut bytes, &frame[start..end])
                .unwrap();
        } else {
            builder
                .icmpv4_raw(3, 3, [0; 4])
                .write(&mut bytes, &frame[start..end])
                .unwrap();
        }
        bytes
    }

    fn has_ack(&self) -> bool {
        self.flags.contains(TcpFlags::ACK)
    }

    fn keeps_number(&self) -> bool {
        self.flags.contains(TcpFlags::SYN)
            || self.flags.contains(TcpFlags::RST | TcpFlags::ACK) && self.seq == 0
    }

    /// The segment of a client in the SVM's numbers.
    fn for_svm(&self, offsets: Offsets) -> Self {
        let mut segment = self.clone();
        if self.has_ack() {
            segment.ack = self.ack.wrapping_add(offsets.seq);
            segment.sack = self
                .sack
                .iter()
                .map(|edge| edge.wrapping_add(offsets.seq))
                .collect();
            segment.timestamps = self
                .timestamps
                .map(|(value, echo)| (value, echo.wrapping_add(offsets.timestamp)));
        }
        segment
    }

    /// The segment of the SVM in the PVM's numbers.
    fn for_client(&self, offsets: Offsets) -> Self {
        let mut segment = self.clone();
        if !self.keeps_number() {
            segment.seq = self.seq.wrapping_sub(offsets.seq);
        }
        segment
    }
}

/// Numbers near the wrap, whose sums carry, as often as others.
fn number(random: &mut Random) -> u32 {
    match random.below(3) {
        0 => random.of(&[0, 1, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        _ => random.next() as u32,
    }
}

#[derive(Clone, Copy, Debug)]
struct Offsets {
    seq: u32,
    timestamp: u32,
}

/// A rewriter that knows the connection of `segment`, and the SVM's numbers minus the PVM's.
fn connected(random: &mut Random, segment: &Segment) -> (Rewriter, Offsets) {
    let opening = |random: &mut Random| Opening {
        isn: number(random),
        timestamp: random.one_in(2).then(|| number(random)),
    };
    let (pvm, svm) = (opening(random), opening(random));
    let mut rewriter = Rewriter::new(LIMITS, random.next());
    assert_eq!(rewriter.learn(segment.key(), pvm, svm, 0), Learned::Stored);
    let timestamp = match (pvm.timestamp, svm.timestamp) {
        (Some(pvm), Some(svm)) => svm.wrapping_sub(pvm),
        _ => 0,
    };
    (
        rewriter,
        Offsets {
            seq: svm.isn.wrapping_sub(pvm.isn),
            timestamp,
        },
    )
}

enum Way {
    ToGuest,
    FromGuest,
}

fn pass(rewriter: &mut Rewriter, way: &Way, frame: &mut HeapFrame, now: Ticks) -> Outcome {
    let packet = Packet::parse(frame.head(), frame.len());
    match way {
        Way::ToGuest => rewriter.to_guest(frame, &packet, now),
        Way::FromGuest => rewriter.from_guest(frame, &packet, now),
    }
}

fn way(segment: &Segment) -> Way {
    if segment.from_client {
        Way::ToGuest
    } else {
        Way::FromGuest
    }
}

fn expected(segment: &Segment, offsets: Offsets) -> Segment {
    if segment.from_client {
        segment.for_svm(offsets)
    } else {
        segment.for_client(offsets)
    }
}

#[test]
fn segments_come_out_as_if_built_in_the_other_numbers() {
    for_seeds(50_000, |random| {
        let segment = Segment::any(random);
        let (mut rewriter, offsets) = connected(random, &segment);
        let bytes = segment.bytes();
        let split = random.below(2) * segment.payload.len();
        let (head, rest) = bytes.split_at(bytes.len() - split);
        let mut frame = HeapFrame::chain(&[head, rest]);
        let outcome = pass(&mut rewriter, &way(&segment), &mut frame, 0);
        let wanted = expected(&segment, offsets).bytes();
        assert_eq!(frame.to_vec(), wanted, "{segment:?} {offsets:?}");
        let changed = if wanted == bytes {
            Outcome::Untouched
        } else {
            Outcome::Translated
        };
        assert_eq!(outcome, changed);
    });
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for_seeds(5_000, |random| {
        let segment = Segment::any(random);
        let (mut rewriter, offsets) = connected(random, &segment);
        let mut bytes = segment.bytes();
        let last = bytes.len() - 1;
        let flip = 1 << random.below(8);
        bytes[last] ^= flip;
        let mut frame = HeapFrame::new(&bytes);
        let outcome = pass(&mut rewriter, &way(&segment), &mut frame, 0);
        let mut wanted = expected(&segment, offsets).bytes();
        // The last byte belongs to the payload, or to options or a field that may be translated.
        if !segment.payload.is_empty() {
            wanted[last] ^= flip;
            assert_eq!(frame.to_vec(), wanted);
        }
        let packet = Packet::parse(frame.head(), frame.len());
        let right = crate::packet::checksum::verify(&packet, frame.segments());
        assert_ne!(right, Some(true), "{segment:?} {outcome:?}");
    });
}

#[test]
fn a_partial_checksum_stays_as_it_is() {
    for_seeds(5_000, |random| {
        let segment = Segment::any(random);
        let (mut rewriter, offsets) = connected(random, &segment);
        let bytes = segment.bytes();
        let packet = Packet::parse(&bytes, bytes.len());
        let checksum = usize::from(packet.l4) + 16..usize::from(packet.l4) + 18;
        let mut frame = HeapFrame::new(&bytes).with_partial_checksum();
        let _ = pass(&mut rewriter, &way(&segment), &mut frame, 0);
        let mut wanted = expected(&segment, offsets).bytes();
        wanted[checksum.clone()].copy_from_slice(&bytes[checksum]);
        assert_eq!(frame.to_vec(), wanted);
    });
}

#[test]
fn shared_bytes_are_not_touched() {
    let segment = Segment {
        ack: 8,
        from_client: true,
        ..Segment::plain(TcpFlags::ACK)
    };
    let mut rewriter = Rewriter::new(LIMITS, 0);
    let _ = rewriter.learn(segment.key(), 1, 2, 0);
    let mut frame = HeapFrame::new(&segment.bytes());
    let owner = frame.share();
    assert_eq!(
        pass(&mut rewriter, &Way::ToGuest, &mut frame, 0),
        Outcome::Shared
    );
    assert_eq!(owner.to_vec(), segment.bytes());
    drop(owner);
    assert_eq!(
        pass(&mut rewriter, &Way::ToGuest, &mut frame, 0),
        Outcome::Translated
    );
    assert_eq!(
        (rewriter.counters().shared, rewriter.counters().to_guest),
        (1, 1)
    );

    let opening = |timestamp| Opening {
        isn: 1,
        timestamp: Some(timestamp),
    };
    assert_eq!(
        rewriter.learn(segment.key(), opening(5), opening(6), 0),
        Learned::Stored
    );
    let mut frame = HeapFrame::new(&Segment::plain(TcpFlags::ACK).bytes());
    let _owner = frame.share();
    let outcome = pass(&mut rewriter, &Way::FromGuest, &mut frame, 0);
    assert_eq!(outcome, Outcome::Untouched, "nothing had to change");
}

/// The client and the routers before it quote what they saw of the SVM, which holds the PVM's
/// numbers. The SVM is to see its own.
#[test]
fn quotes_of_the_svm_come_in_with_its_own_number() {
    for_seeds(20_000, |random| {
        let seen = Segment {
            from_client: false,
            ..Segment::any(random)
        };
        let length = random.of(&[8, 10, 14, 16, 17, 18, 20, 60, 100]);
        let (mut rewriter, offsets) = connected(random, &seen);
        let sent = Segment {
            seq: seen.seq.wrapping_add(offsets.seq),
            ..seen.clone()
        };
        let mut frame = HeapFrame::new(&seen.quoted(length));
        let _ = pass(&mut rewriter, &Way::ToGuest, &mut frame, 0);
        // Half a checksum cannot be kept by the difference.
        if length != 17 {
            assert_eq!(frame.to_vec(), sent.quoted(length), "{sent:?} {length}");
        }
        let packet = Packet::parse(frame.head(), frame.len());
        let right = crate::packet::checksum::verify(&packet, frame.segments());
        assert_eq!(right, Some(true), "{sent:?} {length}");
    });
}

/// The SVM quotes the client in its own numbers. The client is to see those it sent, as far as the
/// quote reaches; what is cut off cannot be told from other bytes, but the checksum is right.
#[test]
fn quotes_of_the_client_go_out_with_the_numbers_it_sent() {
    for_seeds(20_000, |random| {
        let sent = Segment {
            from_client: true,
            ..Segment::any(random)
        };
        let length = random.of(&[8, 10, 14, 16, 17, 18, 20, 60, 100]);
        let (mut rewriter, offsets) = connected(random, &sent);
        let mut frame = HeapFrame::new(&sent.for_svm(offsets).quoted(length));
        let _ = pass(&mut rewriter, &Way::FromGuest, &mut frame, 0);
        if length >= 60 {
            assert_eq!(frame.to_vec(), sent.quoted(length), "{sent:?} {length}");
        }
        let packet = Packet::parse(frame.head(), frame.len());
        let right = crate::packet::checksum::verify(&packet, frame.segments());
        assert_eq!(right, Some(true), "{sent:?} {length}");
    });
}

#[test]
fn damaged_frames_of_known_connections_do_no_harm() {
    for_seeds(50_000, |random| {
        let mut bytes = frame(random);
        let packet = Packet::parse(&bytes, bytes.len());
        let mut rewriter = Rewriter::new(LIMITS, 0);
        for key in [packet.key, packet.key.reversed()] {
            let _ = rewriter.learn(key, random.next() as u32, random.next() as u32, 0);
        }
        damage(random, &mut bytes);
        for way in [Way::ToGuest, Way::FromGuest] {
            let mut frame = HeapFrame::new(&bytes);
            let _ = pass(&mut rewriter, &way, &mut frame, 0);
            assert_eq!(frame.len(), bytes.len());
        }
    });
}

/// A connection in the numbers of its endpoints: the client's first number is 1000, the PVM's
/// 2000, the SVM's 7000.
struct Dialogue {
    rewriter: Rewriter,
}

impl Dialogue {
    fn new() -> Self {
        let mut rewriter = Rewriter::new(LIMITS, 0);
        let key = Segment::plain(TcpFlags::ACK).key();
        assert_eq!(rewriter.learn(key, 2000, 7000, 0), Learned::Stored);
        Self { rewriter }
    }

    /// The acknowledgment that the SVM sees when the client sends this.
    fn client(&mut self, flags: TcpFlags, seq: u32, ack: u32, now: Ticks) -> u32 {
        let segment = Segment {
            from_client: true,
            seq,
            ack,
            ..Segment::plain(flags)
        };
        self.pass(&segment, now).tcp.ack
    }

    /// The sequence number that leaves the node when the SVM sends this.
    fn svm(&mut self, flags: TcpFlags, seq: u32, ack: u32, now: Ticks) -> u32 {
        let segment = Segment {
            seq,
            ack,
            ..Segment::plain(flags)
        };
        self.pass(&segment, now).tcp.seq
    }

    fn pass(&mut self, segment: &Segment, now: Ticks) -> Packet {
        let mut frame = HeapFrame::new(&segment.bytes());
        let _ = pass(&mut self.rewriter, &way(segment), &mut frame, now);
        Packet::parse(frame.head(), frame.len())
    }
}

const ACK: TcpFlags = TcpFlags::ACK;
const RST: TcpFlags = TcpFlags::RST;

fn fin_ack() -> TcpFlags {
    TcpFlags::FIN | TcpFlags::ACK
}

#[test]
fn a_connection_from_syn_to_time_wait() {
    let mut d = Dialogue::new();
    assert_eq!(
        d.svm(TcpFlags::SYN | ACK, 7000, 1001, 0),
        7000,
        "a SYN keeps its number"
    );
    assert_eq!(d.client(ACK, 1001, 2001, 0), 7001);
    assert_eq!(d.svm(ACK, 7001, 1001, 0), 2001);
    assert_eq!(d.client(fin_ack(), 1001, 2001, 1), 7001);
    assert_eq!(d.svm(fin_ack(), 7001, 1002, 2), 2001);
    assert_eq!(
        d.rewriter.open.len(),
        1,
        "the SVM's FIN is not acknowledged yet"
    );
    assert_eq!(d.client(ACK, 1002, 2002, 3), 7002);
    assert_eq!((d.rewriter.open.len(), d.rewriter.closed.len()), (0, 1));
    assert_eq!(
        d.client(fin_ack(), 1001, 2001, 50),
        7001,
        "a retransmission meets the offset"
    );
    assert_eq!(d.svm(ACK, 7002, 1002, 50), 2002);
    assert_eq!(d.rewriter.age(50 + LIMITS.linger), 0);
    assert_eq!(d.rewriter.age(51 + LIMITS.linger), 1);
    assert!(d.rewriter.is_empty());
    assert_eq!(
        d.rewriter.counters().expired,
        0,
        "it was closed, so nothing is lost"
    );
}

#[test]
fn resets_close_and_are_translated() {
    let mut d = Dialogue::new();
    assert_eq!(
        d.svm(RST, 7500, 0, 0),
        2500,
        "a reset without ACK has a number of the connection"
    );
    assert_eq!(d.rewriter.closed.len(), 1);

    let mut d = Dialogue::new();
    assert_eq!(
        d.svm(RST | ACK, 0, 1001, 0),
        0,
        "it answers a segment without ACK"
    );

    let mut d = Dialogue::new();
    d.svm(ACK, 7001, 1001, 0);
    d.client(RST, 1500, 0, 0);
    assert_eq!(
        d.rewriter.closed.len(),
        0,
        "the number is not the expected one"
    );
    d.client(RST, 1001, 0, 0);
    assert_eq!(d.rewriter.closed.len(), 1);
}

#[test]
fn the_loaded_state_ends_all_offsets() {
    let mut d = Dialogue::new();
    d.rewriter.svm_loaded();
    assert_eq!(d.client(ACK, 1001, 2001, 0), 2001);
    assert_eq!(d.svm(ACK, 2001, 1001, 0), 2001);
    let key = Segment::plain(ACK).key();
    assert_eq!(d.rewriter.learn(key, 2000, 9000, 0), Learned::Stored);
    assert_eq!(d.client(ACK, 1001, 2001, 0), 9001);
    d.rewriter.svm_loaded();
    assert_eq!(
        d.rewriter.age(0),
        1,
        "what the state ended needs no time to age"
    );
    assert_eq!(d.rewriter.counters().expired, 0);
}

#[test]
fn a_new_connection_replaces_the_old_one_of_its_ports() {
    let mut d = Dialogue::new();
    let key = Segment::plain(ACK).key();
    d.svm(RST, 7500, 0, 0);
    assert_eq!(d.client(TcpFlags::SYN, 5000, 0, 1), 0);
    assert_eq!(d.rewriter.learn(key, 100, 90, 1), Learned::Stored);
    assert_eq!((d.rewriter.open.len(), d.rewriter.closed.len()), (1, 0));
    assert_eq!(d.client(ACK, 5001, 101, 1), 91);
    assert_eq!(d.rewriter.learn(key, 100, 90, 2), Learned::Stored);
    assert_eq!(d.rewriter.counters().learned, 2, "told twice, learned once");
    assert_eq!(d.rewriter.learn(key, 55, 55, 3), Learned::Stored);
    assert!(d.rewriter.is_empty(), "equal numbers need no offset");
    assert_eq!(d.client(ACK, 5001, 101, 3), 101);
}

#[test]
fn the_longest_unused_connection_gives_way_and_is_named() {
    let mut rewriter = Rewriter::new(LIMITS, 0);
    let key = |port: u16| FlowKey::tcp(([10, 0, 0, 2], 80).into(), ([10, 0, 0, 1], port).into());
    for port in 0..8 {
        assert_eq!(
            rewriter.learn(key(port), 1, 2, u64::from(port)),
            Learned::Stored
        );
    }
    assert_eq!(rewriter.learn(key(0), 1, 2, 8), Learned::Stored);
    assert_eq!(rewriter.learn(key(8), 1, 2, 9), Learned::Evicted(key(1)));
    assert_eq!(rewriter.counters().evicted, 1);
    rewriter.svm_loaded();
    assert_eq!(
        rewriter.learn(key(9), 1, 2, 10),
        Learned::Stored,
        "ended offsets go unnamed"
    );
    let mut none = Rewriter::new(
        Limits {
            connections: 0,
            ..LIMITS
        },
        0,
    );
    assert_eq!(none.learn(key(0), 1, 2, 0), Learned::Evicted(key(0)));
}

/// Linux refuses a SYN+ACK that echoes a time stamp it has not sent.
#[test]
fn the_svm_sees_its_own_time_stamps_echoed() {
    let syn = |isn, timestamp| Opening {
        isn,
        timestamp: Some(timestamp),
    };
    let key = Segment::plain(TcpFlags::SYN).key();
    let mut rewriter = Rewriter::new(LIMITS, 0);
    assert_eq!(
        rewriter.learn(key, syn(2000, 500), syn(7000, u32::MAX), 0),
        Learned::Stored
    );
    for (echo, seen) in [(500, u32::MAX), (501, 0), (0, 0)] {
        let answer = Segment {
            from_client: true,
            ack: 2001,
            timestamps: Some((9, echo)),
            ..Segment::plain(TcpFlags::SYN | ACK)
        };
        let mut frame = HeapFrame::new(&answer.bytes());
        let _ = pass(&mut rewriter, &Way::ToGuest, &mut frame, 0);
        let expected = Segment {
            ack: 7001,
            timestamps: Some((9, seen)),
            ..answer
        };
        assert_eq!(frame.to_vec(), expected.bytes());
    }
}

/// What a segment of the guest's clock comes out with, in a frame that is right in all else.
fn time_stamp(rewriter: &mut Rewriter, flags: TcpFlags, value: u32) -> u32 {
    let mut segment = Segment {
        timestamps: Some((value, 7)),
        payload: b"x".to_vec(),
        ..Segment::plain(flags)
    };
    let mut frame = HeapFrame::new(&segment.bytes());
    let packet = Packet::parse(frame.head(), frame.len());
    let outcome = rewriter.from_guest(&mut frame, &packet, 0);
    let tcp = usize::from(packet.l4);
    let out = u32::from_be_bytes(*frame.head()[tcp + 22..].first_chunk().unwrap());
    segment.timestamps = Some((out, 7));
    assert_eq!(frame.to_vec(), segment.bytes());
    assert_eq!(outcome == Outcome::Untouched, out == value);
    out
}

/// A client echoes what it has heard of the guest's clock.
fn echoes(rewriter: &mut Rewriter, flags: TcpFlags, echo: u32) {
    let segment = Segment {
        from_client: true,
        timestamps: Some((7, echo)),
        ..Segment::plain(flags)
    };
    let mut frame = HeapFrame::new(&segment.bytes());
    let packet = Packet::parse(frame.head(), frame.len());
    assert_eq!(
        rewriter.to_guest(&mut frame, &packet, 0),
        Outcome::Untouched
    );
}

#[test]
fn no_time_stamp_is_older_than_what_the_client_may_have_heard() {
    for base in [5_000, 0u32.wrapping_sub(40)] {
        let at = |ticks| base.wrapping_add(ticks);
        let mut rewriter = Rewriter::new(LIMITS, 7);
        echoes(&mut rewriter, TcpFlags::ACK, at(0));
        echoes(&mut rewriter, TcpFlags::ACK, at(0).wrapping_sub(9));
        // It is the primary that speaks.
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(0)), at(0));
        rewriter.take_over();
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(0)), at(100));
        // What it has heard by now it echoes, and no more is added.
        echoes(&mut rewriter, TcpFlags::ACK, at(100));
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(50)), at(100));
        echoes(&mut rewriter, TcpFlags::ACK, at(170));
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(120)), at(170));
        // The clock has come so far.
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(170)), at(170));
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(20)), at(20));
        assert!(rewriter.clocks.is_empty());
    }
}

#[test]
fn another_connection_has_another_clock() {
    for from_client in [false, true] {
        let mut rewriter = Rewriter::new(LIMITS, 7);
        echoes(&mut rewriter, TcpFlags::ACK, 5_000);
        if from_client {
            echoes(&mut rewriter, TcpFlags::SYN, 0);
        }
        rewriter.take_over();
        if !from_client {
            assert_eq!(time_stamp(&mut rewriter, TcpFlags::SYN, 30), 30);
        }
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, 31), 31);
    }
    // Whoever has been silent for longest makes room.
    let mut rewriter = Rewriter::new(LIMITS, 7);
    echoes(&mut rewriter, TcpFlags::ACK, 5_000);
    for port in 0..8 {
        let key = FlowKey::tcp(([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into());
        let mut other = Segment {
            from_client: true,
            timestamps: Some((7, 1)),
            ..Segment::plain(TcpFlags::ACK)
        }
        .bytes();
        other[34..36].copy_from_slice(&port.to_be_bytes());
        let packet = Packet::parse(&other, other.len());
        assert_eq!(packet.key, key);
        rewriter.clocks.hear(&other, &packet, false);
    }
    rewriter.take_over();
    assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, 31), 31);
}

#[test]
fn an_idle_connection_is_forgotten_and_counted() {
    let mut d = Dialogue::new();
    d.svm(ACK, 7001, 1001, 5);
    assert_eq!(d.rewriter.age(5 + LIMITS.idle), 0);
    assert_eq!(d.rewriter.age(6 + LIMITS.idle), 1);
    assert_eq!(d.rewriter.counters().expired, 1);
}

#[test]
fn only_tcp_has_numbers() {
    let mut rewriter = Rewriter::new(LIMITS, 0);
    let udp = FlowKey::udp(([10, 0, 0, 2], 80).into(), ([10, 0, 0, 1], 1).into());
    assert_eq!(rewriter.learn(udp, 1, 2, 0), Learned::NotTcp);
    assert!(rewriter.is_empty());
}
