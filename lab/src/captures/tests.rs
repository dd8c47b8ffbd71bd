//! The oracle against planted faults, and the tool against small captures of its own.

use std::fs;

use colo_testkit::rng::Rng;
use dpdk_colo::compare::Numbers;

use super::header::{Body, read};
use super::oracle::{Oracle, Rule};
use super::read::Captured;
use super::run::{Outcome, Plan, run};
use super::sender::Sender;
use super::tally::Tally;
use super::vary::{Made, Target, Variation, vary};
use super::weave::Order;

const FIN: u8 = 0x11;
const PSH: u8 = 0x18;
const ISN: u32 = 0xffff_fff0;

/// A TCP segment over IPv4 in an Ethernet frame, with a right checksum.
fn segment(seq: u32, ack: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut tcp = vec![0x00, 0x50, 0x9c, 0x40];
    tcp.extend(seq.to_be_bytes());
    tcp.extend(ack.to_be_bytes());
    tcp.extend([0x50, flags, 0x03, 0xe8, 0, 0, 0, 0]);
    tcp.extend(data);
    let length = tcp.len() as u16;
    let mut pseudo = vec![10, 0, 0, 2, 10, 0, 0, 1, 0, 6];
    pseudo.extend(length.to_be_bytes());
    pseudo.extend(&tcp);
    let mut sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    tcp[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    over_ip(6, &tcp)
}

fn udp(data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x13, 0x88, 0x17, 0x70];
    datagram.extend((data.len() as u16 + 8).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    over_ip(17, &datagram)
}

fn over_ip(protocol: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![
        0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 8, 0, 0x45, 0,
    ];
    frame.extend((data.len() as u16 + 20).to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    let words = frame[14..34]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    // Small enough to be folded once.
    let sum: u32 = words.sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(data);
    frame
}

fn sender(frames: &[Vec<u8>]) -> Sender {
    let captured = frames.iter().enumerate().map(|(i, bytes)| Captured {
        number: i + 1,
        bytes: bytes.clone(),
    });
    Sender::new("a VM".to_owned(), captured.collect())
}

/// SYN+ACK, three segments, the second one twice, and a FIN; a wrap of the numbers among them.
fn connection() -> Vec<Vec<u8>> {
    let at = |k: u32| ISN.wrapping_add(1 + k);
    vec![
        segment(ISN, 7001, 0x12, b""),
        segment(at(0), 7001, PSH, b"0123456789"),
        segment(at(10), 7010, PSH, b"abcdefghij"),
        segment(at(10), 7020, PSH, b"abcdefghij"),
        segment(at(20), 7020, PSH, b"ABCDEFGHIJ"),
        segment(at(30), 7030, FIN, b""),
    ]
}

/// What the oracle says if the secondary sends frame after frame and `release` does what it likes.
fn judged<'a>(sender: &'a Sender, release: impl FnOnce(&mut Oracle<'a>, &[Made])) -> Vec<Rule> {
    let mut rng = Rng::for_purpose(1, "test");
    let (made, _) = vary(sender, Variation::Equal, &mut rng).expect("is always there");
    let mut oracle = Oracle::new(sender);
    release(&mut oracle, &made);
    oracle.breaches().iter().map(|breach| breach.rule).collect()
}

/// Both VMs send frame `i`, which leaves as `bytes`.
fn passes(oracle: &mut Oracle<'_>, made: &Made, i: usize, bytes: &[u8]) {
    oracle.secondary(made);
    oracle.primary(i);
    oracle.released(i, bytes);
}

#[test]
fn nothing_is_wrong_with_an_honest_release() {
    let frames = connection();
    let sender = sender(&frames);
    let rules = judged(&sender, |oracle, made| {
        for (i, bytes) in frames.iter().enumerate() {
            passes(oracle, &made[i], i, bytes);
        }
        oracle.finish(0, 0, false, None);
    });
    assert_eq!(rules, []);
}

#[test]
fn what_may_change_and_overtake_is_allowed() {
    let at = |k: u32| ISN.wrapping_add(1 + k);
    let frames = vec![
        segment(at(0), 7001, PSH, b"0123456789"),
        segment(at(10), 7001, PSH, b"abcdefghij"),
        segment(at(20), 7001, 0x10, b""),
        segment(at(0), 7001, PSH, b"0123456789"),
    ];
    let sender = sender(&frames);
    let rules = judged(&sender, |oracle, made| {
        passes(oracle, &made[0], 0, &frames[0]);
        oracle.primary(1);
        oracle.primary(2);
        oracle.secondary(&made[2]);
        // A bare acknowledgment overtakes held data, with the number of what has left.
        oracle.released(2, &segment(at(10), 7001, 0x10, b""));
        // So does a complete retransmission of what has left.
        oracle.primary(3);
        oracle.released(3, &frames[3]);
        oracle.secondary(&made[1]);
        let mut narrow = frames[1].clone();
        // The window shrinks by 0x0008, and the checksum grows by as much.
        narrow[49] -= 8;
        let sum = u16::from_be_bytes([narrow[50], narrow[51]]);
        narrow[50..52].copy_from_slice(&(sum + 8).to_be_bytes());
        oracle.released(1, &narrow);
        oracle.finish(0, 0, false, None);
    });
    assert_eq!(rules, []);
}

#[test]
fn parts_of_a_segment_leave_from_its_front() {
    let at = |k: u32| ISN.wrapping_add(1 + k);
    let frames = vec![segment(at(0), 7001, PSH | FIN, b"0123456789")];
    let sender = sender(&frames);
    let parts = |first: &[u8], flags: u8, second: &[u8]| {
        let front = segment(at(0), 7001, flags, first);
        let back = segment(at(first.len() as u32), 7001, PSH | FIN, second);
        judged(&sender, |oracle, made| {
            oracle.primary(0);
            oracle.secondary(&made[0]);
            oracle.released(0, &front);
            oracle.released(0, &back);
            oracle.finish(0, 1, false, None);
        })
    };
    assert_eq!(parts(b"0123", 0x10, b"456789"), []);
    assert_eq!(parts(b"012345678", 0x10, b"9"), []);
    // Another byte, one left out, the last part's flags at the first.
    for (first, flags, second) in [
        (&b"01x3"[..], 0x10, &b"456789"[..]),
        (b"0123", 0x10, b"56789"),
        (b"0123", PSH, b"456789"),
        (b"0123", FIN | 0x10, b"456789"),
    ] {
        let rules = parts(first, flags, second);
        assert!(rules.contains(&Rule::Conserved), "{first:?}: {rules:?}");
    }
    let mut garbled = segment(at(0), 7001, 0x10, b"0123");
    garbled[50] ^= 1;
    let rules = judged(&sender, |oracle, made| {
        oracle.primary(0);
        oracle.secondary(&made[0]);
        oracle.released(0, &garbled);
    });
    assert_eq!(rules, [Rule::Conserved], "a checksum that is wrong");
}

#[test]
fn a_flipped_byte_is_found() {
    let frames = connection();
    let sender = sender(&frames);
    let rules = judged(&sender, |oracle, made| {
        passes(oracle, &made[0], 0, &frames[0]);
        let mut flipped = frames[1].clone();
        *flipped.last_mut().expect("has payload") ^= 1;
        passes(oracle, &made[1], 1, &flipped);
    });
    assert_eq!(rules, [Rule::Conserved, Rule::Equal]);
}

#[test]
fn a_byte_before_the_secondary_is_found() {
    let frames = connection();
    let sender = sender(&frames);
    for early in [0, 1, 5] {
        let rules = judged(&sender, |oracle, made| {
            for i in 0..early {
                passes(oracle, &made[i], i, &frames[i]);
            }
            if early == 1 {
                // It has acknowledged as much, but sent nothing.
                oracle.secondary(&made[0]);
            }
            oracle.primary(early);
            oracle.released(early, &frames[early]);
        });
        assert!(rules.contains(&Rule::Equal), "frame {early}: {rules:?}");
    }
    let datagrams = vec![udp(b"one"), udp(b"one")];
    let sender = self::sender(&datagrams);
    let rules = judged(&sender, |oracle, made| {
        passes(oracle, &made[0], 0, &datagrams[0]);
        oracle.primary(1);
        oracle.released(1, &datagrams[1]);
    });
    assert_eq!(rules, [Rule::Equal]);
}

#[test]
fn a_doubled_byte_of_another_value_is_found() {
    let at = |k: u32| ISN.wrapping_add(1 + k);
    // Both VMs contradict themselves alike.
    let frames = vec![
        segment(at(0), 7001, PSH, b"0123456789"),
        segment(at(5), 7001, PSH, b"56x89"),
    ];
    let sender = sender(&frames);
    let rules = judged(&sender, |oracle, made| {
        passes(oracle, &made[0], 0, &frames[0]);
        passes(oracle, &made[1], 1, &frames[1]);
    });
    assert_eq!(rules, [Rule::Once]);
}

#[test]
fn an_acknowledgment_that_runs_ahead_is_found() {
    let at = |k: u32| ISN.wrapping_add(1 + k);
    let frames = vec![
        segment(at(0), 0xffff_fff0, 0x10, b""),
        segment(at(0), 0x0000_0010, 0x10, b""),
    ];
    let sender = sender(&frames);
    let rules = judged(&sender, |oracle, made| {
        passes(oracle, &made[0], 0, &frames[0]);
        oracle.primary(1);
        oracle.released(1, &frames[1]);
    });
    assert_eq!(rules, [Rule::Order]);
}

#[test]
fn new_bytes_out_of_order_are_found() {
    let frames = connection();
    let sender = sender(&frames);
    let rules = judged(&sender, |oracle, made| {
        for (i, made) in made.iter().enumerate() {
            oracle.secondary(made);
            oracle.primary(i);
        }
        for i in [0, 1, 4, 2] {
            oracle.released(i, &frames[i]);
        }
    });
    assert_eq!(rules, [Rule::Order]);
    let datagrams = vec![udp(b"one"), udp(b"two")];
    let sender = self::sender(&datagrams);
    let rules = judged(&sender, |oracle, made| {
        oracle.primary(0);
        passes(oracle, &made[1], 1, &datagrams[1]);
        oracle.secondary(&made[0]);
        oracle.released(0, &datagrams[0]);
    });
    assert_eq!(rules, [Rule::Order]);
}

#[test]
fn a_lost_and_a_doubled_frame_are_found() {
    let frames = connection();
    let sender = sender(&frames);
    let rules = judged(&sender, |oracle, made| {
        passes(oracle, &made[0], 0, &frames[0]);
        oracle.primary(1);
        oracle.finish(0, 0, false, None);
    });
    assert_eq!(rules, [Rule::Conserved]);
    let rules = judged(&sender, |oracle, made| {
        passes(oracle, &made[0], 0, &frames[0]);
        oracle.released(0, &frames[0]);
    });
    assert_eq!(rules, [Rule::Conserved]);
}

#[test]
fn an_altered_header_is_found() {
    let frames = connection();
    let sender = sender(&frames);
    // Offsets of a port, the flags, a raised window, the checksum, the IP destination.
    for (at, value) in [(35, 1), (47, 0x10), (48, 0x04), (50, 0x01), (33, 9)] {
        let rules = judged(&sender, |oracle, made| {
            passes(oracle, &made[0], 0, &frames[0]);
            let mut altered = frames[1].clone();
            altered[at] = match at {
                50 => altered[at] ^ value,
                _ => value,
            };
            passes(oracle, &made[1], 1, &altered);
        });
        assert!(rules.contains(&Rule::Conserved), "offset {at}: {rules:?}");
    }
}

#[test]
fn a_difference_that_nobody_reports_is_found() {
    let frames = connection();
    let sender = sender(&frames);
    let target = Target {
        frame: 4,
        at: frames[4].len() - 1,
        position: Some(ISN.wrapping_add(30)),
    };
    let rules = judged(&sender, |oracle, made| {
        for (i, bytes) in frames.iter().enumerate() {
            passes(oracle, &made[i], i, bytes);
        }
        oracle.finish(0, 0, false, Some(target));
    });
    assert_eq!(rules, [Rule::Seen, Rule::Seen]);
}

/// All runs of a sender.
fn all_runs(sender: &Sender) -> Vec<(Plan, Outcome)> {
    let mut outcomes = Vec::new();
    for variation in Variation::ALL {
        for order in Order::ALL {
            for numbers in [Numbers::Translated, Numbers::OwnIsn] {
                let plan = Plan {
                    variation,
                    order,
                    numbers,
                };
                let mut rng = Rng::for_purpose(1, &plan.words());
                if let Some(outcome) = run(sender, plan, &mut rng) {
                    outcomes.push((plan, outcome));
                }
            }
        }
    }
    outcomes
}

#[test]
fn an_ordinary_connection_passes_in_every_way() {
    let mut frames = connection();
    frames.extend([udp(b"one"), udp(b"two"), udp(b"one")]);
    let outcomes = all_runs(&sender(&frames));
    // Of so short a stream the dice may leave nothing to vary.
    assert!(outcomes.len() >= 72, "{}", outcomes.len());
    for (plan, outcome) in outcomes {
        let words = plan.words();
        assert_eq!(outcome.breaches, [], "{words}");
        assert_eq!(outcome.taken, outcome.released + outcome.held, "{words}");
        if plan.variation.is_equal() {
            assert_eq!(outcome.deviations, [], "{words}");
            assert_eq!(outcome.held, 0, "{words}");
        } else {
            assert!(!outcome.deviations.is_empty(), "{words}");
        }
    }
}

#[test]
fn resegmented_streams_say_the_same() {
    let mut rng = Rng::for_purpose(3, "test");
    let at = |k: u32| ISN.wrapping_add(1 + k);
    let frames: Vec<_> = (0..40)
        .map(|i| {
            segment(
                at(10 * i),
                7001,
                PSH,
                format!("{:010}", i * 7919).as_bytes(),
            )
        })
        .collect();
    let sender = sender(&frames);
    let (made, _) = vary(&sender, Variation::Resegmented, &mut rng).expect("there is payload");
    assert_ne!(made.len(), frames.len());
    let mut stream: Vec<u8> = Vec::new();
    for made in &made {
        let Body::Tcp(segment) = read(&made.bytes).body else {
            panic!("it is no segment: {:?}", made.body);
        };
        assert_eq!(segment.seq, at(stream.len() as u32));
        stream.extend(&made.bytes[segment.payload..]);
    }
    let whole: Vec<u8> = frames.iter().flat_map(|f| f[54..].to_vec()).collect();
    assert_eq!(stream, whole);
}

#[test]
fn captures_are_found_and_read_within_bounds() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut pcap = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    pcap.extend(65_535u32.to_le_bytes());
    pcap.extend(101u32.to_le_bytes());
    for (i, frame) in connection().iter().enumerate() {
        let data = &frame[14..];
        let cut = u32::from(i == 2);
        pcap.extend([0; 8]);
        pcap.extend((data.len() as u32).to_le_bytes());
        pcap.extend((data.len() as u32 + cut).to_le_bytes());
        pcap.extend(data);
    }
    let path = dir.path().join("raw");
    fs::write(&path, &pcap).expect("a file");
    fs::write(dir.path().join("broken.pcap"), b"no capture").expect("a file");
    fs::write(dir.path().join("notes.txt"), b"no capture").expect("a file");
    let files = super::read::find(dir.path()).expect("a directory");
    assert_eq!(files, [dir.path().join("broken.pcap"), path.clone()]);
    let mut tally = Tally::new(1);
    assert!(super::read::read(&files[0], 9, &mut tally).is_err());
    let frames = super::read::read(&path, 3, &mut tally).expect("a capture");
    // Frame 3 was cut by the capture.
    let numbers: Vec<usize> = frames.iter().map(|f| f.number).collect();
    assert_eq!(
        (numbers, tally.frames_cut, tally.captures_cut),
        (vec![1, 2, 4], 1, 1)
    );
    assert!(matches!(read(&frames[1].bytes).body, Body::Tcp(s) if s.len == 10));
    let half = dir.path().join("half.pcap");
    fs::write(&half, &pcap[..pcap.len() - 1]).expect("a file");
    let frames = super::read::read(&half, 9, &mut tally).expect("its first part");
    assert_eq!((frames.len(), tally.damaged.len()), (4, 1));
}
