//! Frames in the one VM's numbers against the same frames built anew, checksums included, in the
//! other's; segments, and what ICMP errors quote of them.

use colo_testkit::rng::{Rng, for_seeds};

use super::*;
use crate::packet::tests::{damage, frame};

/// A rewriter that knows the connection of `segment`, and the SVM's numbers minus the PVM's.
fn connected(random: &mut Rng, segment: &Segment) -> (Rewriter, Offsets) {
    let opening = |random: &mut Rng| Isn {
        number: number(random),
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
            seq: svm.number.wrapping_sub(pvm.number),
            timestamp,
        },
    )
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

    let opening = |timestamp| Isn {
        number: 1,
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
/// quote reaches; what is cut off looks like any other bytes, but the checksum is right.
#[test]
fn quotes_of_the_client_go_out_with_the_numbers_it_sent() {
    for_seeds(20_000, |random| {
        let sent = Segment {
            from_client: true,
            ..Segment::any(random)
        };
        let length = random.of(&[8, 10, 14, 16, 17, 18, 20, 60, 100]);
        let (mut rewriter, offsets) = connected(random, &sent);
        let got = sent.for_svm(offsets);
        let mut frame = HeapFrame::new(&got.quoted(length));
        let _ = pass(&mut rewriter, &Way::FromGuest, &mut frame, 0);
        // An echo of 0 stands for none, so one that is 0 for the SVM alone does not come back.
        let echo = |segment: &Segment| segment.timestamps.map_or(0, |(_, echo)| echo);
        let keeps_its_echo = echo(&got) != 0 || echo(&sent) == 0;
        if length >= 60 && keeps_its_echo {
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

#[test]
fn signed_segments_are_not_translated() {
    for_seeds(2_000, |random| {
        let mut segment = Segment::any(random);
        // As long as the option of TCP-MD5.
        segment.sack = (0..4).map(|_| number(random)).collect();
        let (mut rewriter, _) = connected(random, &segment);
        let mut bytes = segment.bytes();
        let packet = Packet::parse(&bytes, bytes.len());
        let stamps = if segment.timestamps.is_some() { 10 } else { 0 };
        let at = usize::from(packet.l4) + 20 + stamps + segment.shift;
        assert_eq!(bytes[at..at + 2], [5, 18]);
        bytes[at] = 19;
        for _ in 0..2 {
            let mut frame = HeapFrame::new(&bytes);
            let outcome = pass(&mut rewriter, &way(&segment), &mut frame, 0);
            assert_eq!(outcome, Outcome::Untouched, "{segment:?}");
            assert_eq!(frame.to_vec(), bytes, "{segment:?}");
            rewriter.take_over();
        }
    });
}
