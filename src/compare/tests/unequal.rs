//! What an end system could act on must be equal, what every stack makes anew need not be: IPv4 and
//! IPv6, with and without tags, P first, S first and both at once, with and without a commit before, with
//! translated numbers and the SVM's own.

use super::*;

/// How frames reach the comparator.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    PrimaryFirst,
    SecondaryFirst,
    AtOnce,
}

const ORDERS: [Order; 3] = [Order::PrimaryFirst, Order::SecondaryFirst, Order::AtOnce];
/// Initial sequence numbers of the PVM and the SVM.
const ISNS: [u32; 2] = [1000, 70_000];

/// A connection that is open at both VMs, or any other flow.
struct Lab {
    pair: Pair,
    ends: Ends,
    order: Order,
    /// Number of the first byte that each VM has yet to send.
    next: [u32; 2],
    name: String,
}

/// Runs a case in all variants.
fn in_all_variants(run: impl Fn(&mut Lab)) {
    for v6 in [false, true] {
        for vlans in [vec![], vec![7], vec![7, 9]] {
            for numbers in [Numbers::Translated, Numbers::OwnIsn] {
                for order in ORDERS {
                    for committed in [false, true] {
                        let name =
                            format!("IPv6 {v6}, {vlans:?}, {numbers:?}, {order:?}, {committed}");
                        let mut lab = Lab {
                            pair: Pair::numbered(numbers, LIMITS, Vec::new()),
                            ends: Ends {
                                v6,
                                vlans: vlans.clone(),
                                ..ends(80)
                            },
                            order,
                            next: ISNS.map(|isn| isn + 1),
                            name,
                        };
                        lab.open(committed);
                        run(&mut lab);
                    }
                }
            }
        }
    }
}

impl Lab {
    fn open(&mut self, committed: bool) {
        let [p, s] = ISNS.map(|isn| {
            let syn = Segment {
                seq: isn,
                ack: Some(1),
                syn: true,
                window: 500,
                options: packets::syn_options(1460, None),
                ..Segment::default()
            };
            packets::tcp(&self.ends, &syn, 0)
        });
        self.pair.p(&p);
        self.pair.s(&s);
        self.leaves(1, "the SYN");
        if self.pair.comparator.numbers == Numbers::Translated {
            self.next[1] = self.next[0];
        }
        if committed {
            self.pair.checkpoint();
            self.next[1] = self.next[0];
        }
    }

    fn leaves(&mut self, count: usize, what: &str) {
        assert_eq!(self.pair.left(), count, "{what}: {}", self.name);
    }

    /// A segment of each VM at `at` behind the start of what follows the handshake.
    fn segments(&self, at: u32, change: [&dyn Fn(&mut Segment); 2]) -> [Vec<u8>; 2] {
        [0, 1].map(|vm| {
            let mut segment = Segment {
                window: 500,
                ..super::segment(self.next[vm] + at, 1, b"")
            };
            change[vm](&mut segment);
            packets::tcp(&self.ends, &segment, vm as u8)
        })
    }

    fn data(&self, at: u32, payload: &[u8]) -> [Vec<u8>; 2] {
        let change = |segment: &mut Segment| segment.payload = payload.to_vec();
        self.segments(at, [&change, &change])
    }

    fn send(&mut self, [p, s]: &[Vec<u8>; 2]) {
        match self.order {
            Order::PrimaryFirst => {
                self.pair.p(p);
                self.pair.s(s);
            }
            Order::SecondaryFirst => {
                self.pair.s(s);
                self.pair.p(p);
            }
            Order::AtOnce => self.pair.at_once(p, s),
        }
    }

    /// The P leaves, and nothing waits.
    fn equal(&mut self, frames: &[Vec<u8>; 2], what: &str) {
        self.send(frames);
        self.leaves(1, what);
        assert_eq!(self.pair.report(), None, "{what}: {}", self.name);
        assert_eq!(self.pair.overdue(), None, "{what}: {}", self.name);
    }

    /// The P stays, which is a divergence at once or at the timeout, until a checkpoint.
    fn unequal(&mut self, frames: &[Vec<u8>; 2], reason: Reason) {
        self.send(frames);
        self.leaves(0, reason.word());
        let found = self.pair.report().or_else(|| self.pair.overdue());
        assert_eq!(found, Some(reason), "{}", self.name);
        self.pair.checkpoint();
        self.leaves(1, "by the commit");
        self.next[1] = self.next[0];
    }
}

fn edited(frame: &[u8], edit: impl Fn(&mut Vec<u8>, &Packet)) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let packet = Packet::parse(&frame, frame.len());
    edit(&mut frame, &packet);
    frame
}

/// Sets control bits and the urgent pointer.
fn with_flags(frame: &[u8], flags: u8, pointer: u16) -> Vec<u8> {
    edited(frame, |bytes, packet| {
        let l4 = usize::from(packet.l4);
        bytes[l4 + 13] = flags;
        bytes[l4 + 18..l4 + 20].copy_from_slice(&pointer.to_be_bytes());
    })
}

/// Puts IPv4 options, or for IPv6 a destination options header with them, behind the IP header.
fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    edited(frame, |bytes, packet| {
        let l3 = usize::from(packet.l3);
        let v6 = bytes[l3] >> 4 == 6;
        let mut inserted = Vec::new();
        if v6 {
            inserted.extend([bytes[l3 + 6], 0]);
            bytes[l3 + 6] = 60;
        }
        inserted.extend(options);
        let unit = if v6 { 8 } else { 4 };
        inserted.resize(inserted.len().next_multiple_of(unit), 0);
        if v6 {
            inserted[1] = (inserted.len() / 8 - 1) as u8;
        } else {
            bytes[l3] += (inserted.len() / 4) as u8;
        }
        let field = l3 + if v6 { 4 } else { 2 };
        let length = u16::from_be_bytes([bytes[field], bytes[field + 1]]) + inserted.len() as u16;
        bytes[field..field + 2].copy_from_slice(&length.to_be_bytes());
        let at = l3 + if v6 { 40 } else { 20 };
        bytes.splice(at..at, inserted);
    })
}

/// Lets the IP datagram go on behind the UDP datagram.
fn with_surplus(frame: &[u8], surplus: &[u8]) -> Vec<u8> {
    edited(frame, |bytes, packet| {
        let l3 = usize::from(packet.l3);
        let field = l3 + if bytes[l3] >> 4 == 6 { 4 } else { 2 };
        let length = u16::from_be_bytes([bytes[field], bytes[field + 1]]) + surplus.len() as u16;
        bytes[field..field + 2].copy_from_slice(&length.to_be_bytes());
        bytes.truncate(packet.end());
        bytes.extend(surplus);
    })
}

const ACK: u8 = 0x10;
const URG: u8 = 0x20;

#[test]
fn a_repeated_syn_with_other_options_needs_its_own_counterpart() {
    for v6 in [false, true] {
        for numbers in [Numbers::Translated, Numbers::OwnIsn] {
            for committed in [false, true] {
                let mut pair = Pair::numbered(numbers, LIMITS, Vec::new());
                let syn = |vm: usize, mss| {
                    let same = numbers == Numbers::OwnIsn && vm == 1 && committed;
                    let syn = Segment {
                        seq: ISNS[if same { 0 } else { vm }],
                        ack: Some(1),
                        syn: true,
                        options: packets::syn_options(mss, None),
                        ..Segment::default()
                    };
                    packets::tcp(&Ends { v6, ..ends(80) }, &syn, 0)
                };
                pair.p(&syn(0, 1460));
                pair.s(&syn(1, 1460));
                assert_eq!(pair.left(), 1);
                let s = usize::from(!committed);
                if committed {
                    pair.checkpoint();
                }
                pair.p(&syn(0, 1460));
                assert_eq!(pair.left(), 1, "the same again");
                pair.p(&syn(0, 536));
                assert_eq!((pair.left(), pair.report()), (0, None));
                pair.s(&syn(s, 1460));
                assert_eq!(pair.left(), 0);
                pair.s(&syn(s, 536));
                assert_eq!(pair.left(), 1);
                pair.s(&syn(s, 100));
                pair.p(&syn(0, 1200));
                assert_eq!((pair.left(), pair.report()), (0, Some(Reason::SynOptions)));
                pair.checkpoint();
                assert_eq!(pair.left(), 1);
                pair.p(&syn(0, 1200));
                assert_eq!(pair.left(), 1);
            }
        }
    }
}

#[test]
fn what_a_client_relies_on_in_a_syn_is_equal() {
    let mss = [2, 4, 5, 180];
    let capable = |key: u8| [&mss[..], &[30, 12, 1, 0x81], &[key; 8]].concat();
    let cookie = |byte: u8| [&mss[..], &[34, 10], &[byte; 8], &[1, 1]].concat();
    let unknown = |byte: u8| [&mss[..], &[253, 4, 0, byte]].concat();
    let stamps = |value: u8| [&mss[..], &[1, 1, 8, 10], &[value; 8]].concat();
    let moved = [&[1, 1, 8, 10][..], &[3; 8], &mss].concat();
    let key = |number: u8| [&mss[..], &[29, 16, number, 1], &[number; 12]].concat();
    let digest = |byte: u8| [&mss[..], &[19, 18], &[byte; 16], &[1, 1]].concat();
    let syn = Segment::default;
    for (p, s, flags, same) in [
        (capable(1), capable(1), [0, 0], true),
        (capable(1), capable(2), [0, 0], false),
        (cookie(1), cookie(2), [0, 0], false),
        (unknown(1), unknown(2), [0, 0], false),
        (unknown(1), mss.to_vec(), [0, 0], false),
        (stamps(1), stamps(2), [0, 0], true),
        (stamps(1), moved, [0, 0], true),
        (stamps(1), mss.to_vec(), [0, 0], false),
        (key(1), key(2), [0, 0], false),
        (digest(1), digest(2), [0, 0], true),
        (digest(1), mss.to_vec(), [0, 0], false),
        (mss.to_vec(), mss.to_vec(), [0x40, 0x40], true),
        (mss.to_vec(), mss.to_vec(), [0x40, 0], false),
        (mss.to_vec(), mss.to_vec(), [0, 0x80], false),
    ] {
        for order in ORDERS {
            for v6 in [false, true] {
                let mut pair = Pair::numbered(Numbers::OwnIsn, LIMITS, Vec::new());
                let [p, s] = [(0, &p), (1, &s)].map(|(vm, options)| {
                    let syn = Segment {
                        seq: ISNS[vm],
                        ack: Some(1),
                        syn: true,
                        options: options.clone(),
                        ..syn()
                    };
                    let frame = packets::tcp(&Ends { v6, ..ends(80) }, &syn, 0);
                    with_flags(&frame, 0x12 | flags[vm], 0)
                });
                match order {
                    Order::PrimaryFirst => (pair.p(&p), pair.s(&s)),
                    Order::SecondaryFirst => (pair.s(&s), pair.p(&p)),
                    Order::AtOnce => (pair.at_once(&p, &s), ()),
                };
                let expected = (!same).then_some(Reason::SynOptions);
                assert_eq!(pair.report(), expected, "{p:02x?} {s:02x?}");
                assert_eq!(pair.left(), usize::from(same));
            }
        }
    }
}

#[test]
fn numbers_of_a_signed_connection_are_made_one_by_a_checkpoint() {
    let syn = |isn| {
        let syn = Segment {
            seq: isn,
            ack: Some(1),
            syn: true,
            options: [&[19, 18][..], &[7; 16], &[1, 1]].concat(),
            ..Segment::default()
        };
        tcp(&syn)
    };
    let mut pair = Pair::new();
    pair.p(&syn(1000));
    pair.s(&syn(7000));
    assert_eq!((pair.left(), pair.report()), (0, Some(Reason::SynOptions)));
    pair.checkpoint();
    assert_eq!(pair.left(), 1);
    pair.both(&data(1001, b"signed"));
    assert_eq!(pair.left(), 1);
    let mut equal = Pair::new();
    equal.both(&syn(1000));
    assert_eq!((equal.left(), equal.report()), (1, None));
}

#[test]
fn a_signed_segment_keeps_its_window() {
    for signature in [vec![1, 1, 19, 18], vec![29, 20, 1, 1]] {
        in_all_variants(|lab| {
            let mut options = signature.clone();
            options.resize(20, 9);
            let with = |window: u16, options: Vec<u8>| {
                move |segment: &mut Segment| {
                    segment.window = window;
                    segment.options = options.clone();
                    segment.payload = b"x".to_vec();
                }
            };
            let frames = lab.segments(0, [&with(400, options.clone()), &with(7, options)]);
            lab.send(&frames);
            let release = lab.pair.comparator.next_release().expect("it leaves");
            assert_eq!(release.frame, HeapFrame::new(&frames[0]), "{}", lab.name);
            let frames = lab.segments(1, [&with(400, vec![]), &with(7, vec![])]);
            lab.send(&frames);
            let release = lab.pair.comparator.next_release().expect("it leaves");
            let left = Packet::parse(release.frame.head(), release.frame.len());
            assert_eq!(left.tcp.window, 7, "{}", lab.name);
        });
    }
}

#[test]
fn a_segment_without_ack_needs_its_own_counterpart() {
    in_all_variants(|lab| {
        for flags in [0, 0x08, URG, 0x40] {
            let [p, s] = lab.segments(0, [&|_| {}, &|_| {}]);
            let null = [with_flags(&p, flags, 0), with_flags(&s, flags, 0)];
            lab.pair.p(&null[0]);
            lab.leaves(0, "the PVM's alone");
            lab.pair.s(&null[1]);
            lab.leaves(1, "both");
            lab.equal(&null, "again");
            lab.pair.p(&null[0]);
            lab.leaves(0, "one more of the PVM");
            lab.pair.s(&null[1]);
            lab.leaves(1, "both");
        }
        let data = lab.data(0, b"abcd");
        let without = with_flags(&data[0], 0, 0);
        lab.unequal(&[without, data[1].clone()], Reason::MissingSecondary);
    });
}

#[test]
fn urgent_data_ends_at_the_same_position() {
    let urgent = |frame: &[u8], pointer| with_flags(frame, URG | ACK, pointer);
    in_all_variants(|lab| {
        let [p, s] = lab.data(0, b"abcd");
        lab.equal(&[urgent(&p, 2), urgent(&s, 2)], "the same pointer");
        // The same position, in other segments.
        let [p, s] = lab.data(4, b"efgh");
        let [p2, _] = lab.data(6, b"gh");
        let (p1, whole) = (lab.data(4, b"ef")[0].clone(), urgent(&s, 3));
        lab.pair.p(&urgent(&p1, 3));
        lab.pair.p(&urgent(&p2, 1));
        lab.pair.s(&whole);
        lab.leaves(2, "cut differently");
        drop(p);
        for (n, pointers) in [[Some(2), None], [None, Some(2)], [Some(2), Some(3)]]
            .iter()
            .enumerate()
        {
            let frames = lab.data(8 + 4 * n as u32, b"ijkl");
            let frames = [0, 1].map(|vm| match pointers[vm] {
                Some(pointer) => urgent(&frames[vm], pointer),
                None => frames[vm].clone(),
            });
            lab.unequal(&frames, Reason::Urgent);
        }
        let frames = lab.data(20, b"mnop");
        lab.equal(
            &[urgent(&frames[0], 4), urgent(&frames[1], 4)],
            "after commits",
        );
        // An announcement without data, ahead of the urgent byte.
        let [p, s] = lab.data(24, b"");
        lab.pair.p(&urgent(&p, 1));
        lab.leaves(0, "announced by the PVM alone");
        lab.pair.s(&urgent(&s, 1));
        lab.leaves(1, "announced by both");
        let frames = lab.data(24, b"q");
        lab.equal(&[urgent(&frames[0], 1), urgent(&frames[1], 1)], "the byte");
    });
}

#[test]
fn options_of_the_network_layer_are_equal() {
    let route = |last: u8| [131, 7, 4, 192, 0, 2, last];
    in_all_variants(|lab| {
        let [p, s] = lab.data(0, b"abcd");
        lab.equal(
            &[with_options(&p, &route(1)), with_options(&s, &route(1))],
            "data",
        );
        let [p, s] = lab.data(4, b"");
        lab.equal(
            &[with_options(&p, &route(1)), with_options(&s, &route(1))],
            "acknowledgment",
        );
        lab.unequal(
            &[with_options(&p, &route(3)), with_options(&s, &route(2))],
            Reason::MissingSecondary,
        );
        let [p, s] = lab.data(4, b"efgh");
        lab.unequal(
            &[with_options(&p, &route(1)), with_options(&s, &route(2))],
            Reason::Headers,
        );
        let [p, s] = lab.data(8, b"ijkl");
        lab.unequal(&[with_options(&p, &route(1)), s], Reason::Headers);
        let [p, s] = lab.data(12, b"mnop");
        lab.unequal(&[p, with_options(&s, &route(1))], Reason::Headers);
        let frame = packets::udp(&lab.ends, b"datagram", 0);
        let [one, other] = [1, 2].map(|last| with_options(&frame, &route(last)));
        lab.equal(&[one.clone(), one.clone()], "UDP");
        lab.unequal(&[one.clone(), other], Reason::Headers);
        lab.unequal(&[one.clone(), frame.clone()], Reason::Headers);
        lab.unequal(&[frame, one], Reason::Headers);
        let echo = packets::echo_reply(&lab.ends, b"echo", 0);
        let [one, other] = [1, 2].map(|last| with_options(&echo, &route(last)));
        lab.unequal(&[one, other], Reason::Headers);
    });
}

#[test]
fn padding_of_ipv4_options_may_differ() {
    for order in ORDERS {
        let mut lab = Lab {
            pair: Pair::new(),
            ends: ends(53),
            order,
            next: [0; 2],
            name: String::new(),
        };
        let frame = packets::udp(&lab.ends, b"datagram", 0);
        let alert = [148, 4, 0, 0];
        let one = with_options(&frame, &[&[1, 1, 1, 1][..], &alert].concat());
        let other = with_options(&frame, &[&alert[..], &[0, 9, 9, 9]].concat());
        lab.equal(&[one, other], "padding");
        lab.equal(
            &[frame.clone(), with_options(&frame, &[1, 1, 1, 1])],
            "nothing but padding",
        );
    }
}

#[test]
fn options_of_a_segment_with_data_are_equal() {
    let mapping = |data: u32, subflow: u32| {
        let words = [data, subflow].map(u32::to_be_bytes).concat();
        [&[30, 16, 0x20, 0x05, 0, 0, 0, subflow as u8][..], &words].concat()
    };
    let with = |options: Vec<u8>, payload: &'static [u8]| {
        move |segment: &mut Segment| {
            segment.options = options.clone();
            segment.payload = payload.to_vec();
        }
    };
    in_all_variants(|lab| {
        let stamps = packets::timestamp_options;
        let frames = lab.segments(0, [&with(stamps(1), b"ab"), &with(stamps(2), b"ab")]);
        lab.equal(&frames, "time stamps");
        let sack = |edge: u8| vec![1, 1, 5, 10, 0, 0, 0, edge, 0, 0, 0, edge + 1];
        let frames = lab.segments(2, [&with(sack(1), b"cd"), &with(sack(2), b"cd")]);
        lab.equal(&frames, "SACK");
        let unknown = |byte| vec![253, 4, 0, byte];
        let frames = lab.segments(4, [&with(unknown(1), b"ef"), &with(unknown(1), b"ef")]);
        lab.equal(&frames, "unknown");
        let frames = lab.segments(6, [&with(unknown(1), b"gh"), &with(unknown(2), b"gh")]);
        lab.unequal(&frames, Reason::Headers);
        // Of the length of time stamps.
        let like = |byte: u8| [&[253, 12][..], &[byte; 10]].concat();
        let frames = lab.segments(8, [&with(stamps(1), b"ij"), &with(like(1), b"ij")]);
        lab.unequal(&frames, Reason::Headers);
        let frames = lab.segments(
            10,
            [
                &with(mapping(500, 10), b"kl"),
                &with(mapping(500, 10), b"kl"),
            ],
        );
        lab.equal(&frames, "mapped alike");
        let frames = lab.segments(
            12,
            [
                &with(mapping(502, 12), b"mn"),
                &with(mapping(600, 12), b"mn"),
            ],
        );
        lab.unequal(&frames, Reason::Headers);
        // An option on an acknowledgment says something once.
        let frames = lab.segments(14, [&with(unknown(1), b""), &with(unknown(1), b"")]);
        lab.equal(&frames, "acknowledgment");
        let frames = lab.segments(14, [&with(unknown(1), b""), &with(unknown(2), b"")]);
        lab.unequal(&frames, Reason::MissingSecondary);
    });
}

#[test]
fn bytes_behind_a_udp_datagram_are_equal() {
    in_all_variants(|lab| {
        let frame = packets::udp(&lab.ends, b"abc", 0);
        let surplus = |bytes: &[u8]| with_surplus(&frame, bytes);
        lab.equal(&[surplus(b"TEST"), surplus(b"TEST")], "equal");
        lab.equal(&[frame.clone(), frame.clone()], "none");
        lab.unequal(&[surplus(b"TEST"), surplus(b"TESS")], Reason::Headers);
        lab.unequal(&[surplus(b"TEST"), surplus(b"TES")], Reason::Headers);
        lab.unequal(&[surplus(b"T"), frame.clone()], Reason::Headers);
        lab.unequal(&[frame.clone(), surplus(b"T")], Reason::Headers);
    });
}

fn half(ends: &Ends, id: u8, second: bool, byte: u8) -> Vec<u8> {
    let fragment = packets::Fragment {
        offset: u16::from(second),
        more: !second,
    };
    packets::ip(ends, packets::UDP, Some(fragment), id, &[byte; 8])
}

#[test]
fn fragments_belong_to_the_datagram_of_their_identification() {
    in_all_variants(|lab| {
        let ends = lab.ends.clone();
        let datagram = |id, bytes: &[u8; 2]| [0, 1].map(|n| half(&ends, id, n == 1, bytes[n]));
        // Equal datagrams under other identifications, whose parts are interleaved.
        let [p1, p2] = datagram(1, b"Aa");
        let [p3, p4] = datagram(2, b"Ab");
        let [s1, s2] = datagram(11, b"Aa");
        let [s3, s4] = datagram(12, b"Ab");
        for frames in [[p1, s1], [p3, s3], [p4, s4], [p2, s2]] {
            lab.equal(&frames, "interleaved");
        }
        // Identifications are free again, for other partners.
        let (p, s) = (datagram(1, b"Cc"), datagram(12, b"Cc"));
        for n in 0..2 {
            lab.equal(&[p[n].clone(), s[n].clone()], "again");
        }
        // The same parts make other datagrams.
        let ([p1, p2], [p3, p4]) = (datagram(3, b"Aa"), datagram(4, b"Bb"));
        let ([s1, s2], [s3, s4]) = (datagram(3, b"Ab"), datagram(4, b"Ba"));
        for (p, s) in [(&p1, &s1), (&p2, &s2), (&p3, &s3), (&p4, &s4)] {
            lab.send(&[p.clone(), s.clone()]);
        }
        lab.leaves(1, "the first half of the first");
        assert_eq!(lab.pair.overdue(), Some(Reason::Payload), "{}", lab.name);
        lab.pair.checkpoint();
        lab.leaves(3, "by the commit");
        // Without the first fragment, twice, and overlapping.
        let tail = [half(&ends, 5, true, 7), half(&ends, 6, true, 7)];
        lab.equal(&tail, "the first is missing");
        lab.equal(&tail, "a duplicate");
        let other = [half(&ends, 5, true, 8), half(&ends, 6, true, 8)];
        lab.equal(&other, "other bytes at the same place");
        let swapped = [half(&ends, 5, false, 9), half(&ends, 7, false, 9)];
        lab.unequal(&swapped, Reason::Payload);
    });
}

#[test]
fn garbage_behind_an_802_3_length_is_padding() {
    for order in ORDERS {
        for vlans in [vec![], vec![7], vec![7, 9]] {
            let ends = Ends { vlans, ..ends(0) };
            let mut lab = Lab {
                pair: Pair::new(),
                ends: ends.clone(),
                order,
                next: [0; 2],
                name: format!("{order:?}"),
            };
            let frame = |length: u16, padding: u8| {
                let mut bytes = packets::ethernet(&ends, length);
                bytes.extend([0x42, 0x42, 3]);
                bytes.resize(64, padding);
                bytes
            };
            lab.equal(&[frame(3, 0), frame(3, 9)], "behind the length");
            let (frames, reason) = ([frame(4, 0), frame(4, 9)], Reason::Payload);
            lab.unequal(&frames, reason);
        }
    }
}

#[test]
fn a_port_is_used_again_with_the_same_number_on_both_sides() {
    in_all_variants(|lab| {
        let rst = |segment: &mut Segment| segment.rst = true;
        let fin = |segment: &mut Segment| segment.fin = true;
        let ends: [&dyn Fn(&mut Segment); 2] = [&rst, &fin];
        for end in ends {
            for payload in [b"first", b"other"] {
                let frames = lab.data(0, payload);
                lab.equal(&frames, "data");
                let frames = lab.segments(5, [end, end]);
                lab.equal(&frames, "the end");
                let same = lab.next[0] == lab.next[1];
                let own = lab.pair.comparator.numbers == Numbers::OwnIsn;
                let isns = [ISNS[0], if own && !same { ISNS[1] } else { ISNS[0] }];
                let syns = isns.map(|seq| {
                    let syn = Segment {
                        seq,
                        ack: Some(1),
                        syn: true,
                        options: packets::syn_options(1460, None),
                        ..Segment::default()
                    };
                    packets::tcp(&lab.ends, &syn, 0)
                });
                lab.equal(&syns, "the same SYN");
            }
        }
    });
}

#[test]
fn nothing_that_differs_overtakes_what_is_held() {
    in_all_variants(|lab| {
        let route = [131, 7, 4, 192, 0, 2, 1];
        let signal = |segment: &mut Segment| segment.options = vec![253, 4, 0, 1];
        lab.equal(&lab.data(0, b"abcd"), "data");
        let held = lab.data(4, b"held")[0].clone();
        lab.pair.p(&held);
        let [ack, _] = lab.data(8, b"");
        lab.pair.p(&with_options(&ack, &route));
        lab.pair.p(&lab.segments(8, [&signal, &signal])[0].clone());
        let again = lab.data(0, b"abcd")[0].clone();
        lab.pair.p(&with_flags(&again, URG | ACK, 2));
        lab.leaves(0, "the held, and what differs");
        lab.pair.p(&ack);
        lab.leaves(1, "a bare acknowledgment");
        lab.pair.checkpoint();
        lab.leaves(4, "by the commit");
    });
}

#[test]
fn an_rst_needs_one_with_the_same_ack_bit() {
    in_all_variants(|lab| {
        let with = |segment: &mut Segment| segment.rst = true;
        let without = |segment: &mut Segment| (segment.rst, segment.ack) = (true, None);
        let frames = lab.segments(0, [&with, &without]);
        lab.unequal(&frames, Reason::MissingSecondary);
    });
}
