//! Frames that no VM should send, at every port: nothing breaks, and none is let out.

use colo_testkit::rng::Rng;

use crate::compare::compare;
use crate::frames::{Flow, Numbering, connection};
use crate::node::{self, Node, pcap};
use crate::{capture, frames};

/// Truncated and lying frames.
fn malformed(random: &mut Rng) -> Vec<Vec<u8>> {
    let whole = [
        Flow::v4(90).data(1, 1, &[7; 100]),
        Flow::v6(91).data(1, 1, &[7; 100]),
        Flow::v4(92).tagged(&[300, 3]).data(1, 1, &[7; 100]),
        Flow::v4(93).udp(&[7; 100]),
        Flow::v6(94).echo_reply(1, &[7; 100]),
    ];
    let mut bad = Vec::new();
    for frame in &whole {
        bad.extend((0..frame.len()).step_by(3).map(|len| frame[..len].to_vec()));
    }
    let mut lie = |frame: &[u8], at: usize, value: &[u8]| {
        let mut frame = frame.to_vec();
        frame[at..at + value.len()].copy_from_slice(value);
        bad.push(frame);
    };
    for ihl in [0, 1, 4, 15] {
        lie(&whole[0], 14, &[0x40 | ihl]);
    }
    for version in [0x05, 0x65, 0xf5] {
        lie(&whole[0], 14, &[version]);
    }
    for total in [0u16, 19, 20, 39, 200, 65_535] {
        lie(&whole[0], 16, &total.to_be_bytes());
        lie(&whole[1], 18, &total.to_be_bytes());
    }
    for offset in [0, 0x10, 0x40, 0xf0] {
        lie(&whole[0], 46, &[offset]);
    }
    for length in [0u16, 7, 500, 65_535] {
        lie(&whole[3], 38, &length.to_be_bytes());
    }
    // Extension headers that never end, and one that points beyond the frame.
    for (next, length) in [(0u8, 0u8), (43, 0), (60, 255), (44, 0)] {
        let mut frame = whole[1].clone();
        frame[20] = next;
        for at in (54..frame.len() - 8).step_by(8) {
            (frame[at], frame[at + 1]) = (next, length);
        }
        bad.push(frame);
    }
    // Fragments that overlap and contradict each other.
    let mut fragments = Flow::v4(95).fragments(1, &[7; 600]);
    fragments[1][20..22].copy_from_slice(&0x2001u16.to_be_bytes());
    bad.extend(fragments);
    bad.push(random.bytes(9000));
    for _ in 0..200 {
        let len = random.within(14..1500);
        let mut frame = random.bytes(len);
        let kind = random.within(0..4);
        let ether_type: u16 = [0x0800, 0x86dd, 0x8100, 0x88a8][kind];
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        // Not neighbour discovery by chance, which a rule lets out.
        if ether_type == 0x86dd && len > 20 {
            frame[20] = 6;
        }
        bad.push(frame);
    }
    bad
}

#[test]
fn malformed_frames_are_held() {
    let _turn = node::beside_others();
    let mut random = Rng::for_test("malformed_frames_are_held");
    let dir = tempfile::tempdir().unwrap();
    let stream = random.bytes(30_000);
    let flow = Flow::v4(1);
    let good_p = connection(&flow, Numbering::own(5), &stream, &mut random);
    let good_s = connection(&flow, Numbering::own(5), &stream, &mut random);
    let (bad_p, bad_s) = (malformed(&mut random), malformed(&mut random));
    // The SVM's malformed frames differ from the PVM's, but for those that chance made equal.
    let bad_s: Vec<_> = bad_s
        .into_iter()
        .filter(|frame| !bad_p.contains(frame))
        .collect();
    let p = random.interleave(vec![good_p.clone(), bad_p]);
    let s = random.interleave(vec![good_s, bad_s]);
    let all = good_p.len() as u64;
    let options = ["--compare-timeout", "200"];
    let done = compare(dir.path(), &p, &s, &options, |stats| {
        stats["released"].as_u64() >= Some(all)
            && stats["divergences"]
                .as_object()
                .is_some_and(|d| !d.is_empty())
    });
    assert!(
        done.released == good_p,
        "{} frames left instead of {all}",
        done.released.len()
    );
    let unreadable = done.stats["faults"]["unreadable"].as_u64();
    assert!(unreadable > Some(100), "{:#}", done.stats["faults"]);
    assert!(
        done.ended
            .own_lines()
            .iter()
            .any(|line| line.contains("held")),
        "no word of them"
    );
}

#[test]
fn garbage_on_the_link_is_counted() {
    let _turn = node::beside_others();
    let mut random = Rng::for_test("garbage_on_the_link_is_counted");
    let dir = tempfile::tempdir().unwrap();
    let mut garbage = malformed(&mut random);
    // Frames of the link's EtherType that get further and further.
    for len in 14..120 {
        let mut frame = random.bytes(len);
        frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
        if len > 18 {
            frame[14..18].copy_from_slice(&[0xc0, 0x10, 1, (len % 4) as u8]);
        }
        garbage.push(frame);
    }
    garbage.extend((0u32..200).map(|n| link_frame(n, &mut random)));
    garbage.push(frames::Flow::v4(1).udp(b"not the link's"));
    let file = dir.path().join("link.pcap");
    capture::write(&file, &garbage);
    let node = Node::start(
        &[
            pcap(0, Some(&file), Some(&dir.path().join("out.pcap"))),
            "--vdev=net_null0,no-rx=1".to_owned(),
        ],
        &[
            "--role",
            "secondary",
            "--guest",
            "net_null0",
            "--link",
            "net_pcap0",
            "--link-key",
            "none",
            "--qmp",
            dir.path().join("none.qmp").to_str().unwrap(),
            "--idle-sleep",
            "50",
        ],
    );
    let all = garbage.len() as u64;
    let stats = node.wait_for("the end of the capture", |stats| {
        stats["ports"]["net_pcap0"]["rx"] == all
    });
    assert!(
        stats["faults"]["link_garbage"].as_u64() >= Some(all - 200),
        "{:#}",
        stats["faults"]
    );
    assert_eq!(
        stats["ports"]["net_null0"]["tx"], 0,
        "garbage reached the guest"
    );
    node.stop();
}

/// A link frame with a right checksum and lies in every other field, for VM 0.
fn link_frame(n: u32, random: &mut Rng) -> Vec<u8> {
    let mut frame = vec![0xff; 12];
    frame.extend_from_slice(&0x88b5u16.to_be_bytes());
    frame.extend_from_slice(&[0xc0, 0x10, 2, (n % 3) as u8, 0, 0, 0, 0]);
    frame.extend(random.bytes(28));
    let length: u32 = [0, 5, 20, 60, 1 << 31][random.within(0..5)];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend(random.bytes(4));
    let sum: u32 = frame[14..58]
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
    frame[20..22].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(random.bytes(60));
    frame
}
