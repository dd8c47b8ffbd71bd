//! Guests that leave checksums and segmentation to the node: frames of up to 64 KB are compared as
//! they come, and what leaves is right on a wire.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use dpdk_colo::packet::checksum::{TCP_CHECKSUM, UDP_CHECKSUM, pseudo_header, verify};
use dpdk_colo::packet::{Kind, Packet};

use crate::capture;
use crate::frames::Flow;
use crate::node::{self, Node, pcap, vhost, virtio_user};
use crate::pair::{NETWORK, PVM, Pair, Plan, SVM};
use crate::traffic::Script;

/// Bytes of payload in a segment on an Ethernet.
pub const MSS: u16 = 1448;
/// Payload of the longest frames: their IP header says 65,535 bytes at most.
const LONG: usize = 65_000;

/// The frame as a guest with checksum offload sends it.
pub fn unfinished(mut frame: Vec<u8>) -> Vec<u8> {
    let packet = Packet::parse(&frame, frame.len());
    let l4 = usize::from(packet.l4);
    let field = match packet.kind {
        Kind::Tcp => l4 + TCP_CHECKSUM,
        Kind::Udp => l4 + UDP_CHECKSUM,
        other => panic!("{other:?} has no checksum to leave"),
    };
    let sum = pseudo_header(&packet.key, (packet.end() - l4) as u32).expect("addresses");
    frame[field..field + 2].copy_from_slice(&sum.folded().to_be_bytes());
    frame
}

/// Whether the frame is right on a wire: its IP header's checksum and the one behind it.
pub fn is_right(frame: &[u8]) -> bool {
    let packet = Packet::parse(frame, frame.len());
    let ip = &frame[usize::from(packet.l3)..usize::from(packet.l4)];
    let mut sum = dpdk_colo::packet::checksum::Sum::default();
    sum.add(ip);
    let ip_is_right = !matches!(packet.key.src_ip(), Some(IpAddr::V4(_))) || sum.folded() == 0xffff;
    ip_is_right && verify(&packet, [frame]) == Some(true)
}

/// Payload of segments that follow each other from `seq` on.
pub fn joined(frames: &[Vec<u8>], mut seq: u32) -> Vec<u8> {
    let mut all = Vec::new();
    for frame in frames {
        let packet = Packet::parse(frame, frame.len());
        assert_eq!((packet.kind, packet.tcp.seq), (Kind::Tcp, seq));
        seq = seq.wrapping_add(packet.payload_len);
        all.extend_from_slice(&frame[usize::from(packet.payload)..packet.end()]);
    }
    all
}

/// Bytes of which none is like its neighbours.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 + n / 253) as u8).collect()
}

/// A comparator of two such guests, whose output goes to a capture.
fn comparator(sockets: &std::path::Path, out: &std::path::Path) -> Node {
    let guest = |n: u32| format!("{},tso=1", vhost(n, &sockets.join(format!("{n}.sock"))));
    Node::start(
        &[guest(0), guest(1), pcap(2, None, Some(out))],
        &[
            "--role",
            "compare",
            "--primary-in",
            "net_vhost0",
            "--secondary-in",
            "net_vhost1",
            "--out",
            "net_pcap2",
            "--idle-sleep",
            "50",
        ],
    )
}

/// The same with its two guests.
fn comparator_with_guests(dir: &std::path::Path, out: &std::path::Path) -> (Node, Script) {
    let node = comparator(dir, out);
    let sockets: Vec<_> = (0..2).map(|n| dir.join(format!("{n}.sock"))).collect();
    let mut script = Script::new(&sockets);
    script.start_with_offloads(0);
    script.start_with_offloads(1);
    (node, script)
}

#[test]
fn long_frames_leave_as_segments_with_right_checksums() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out.pcap");
    let (node, mut script) = comparator_with_guests(dir.path(), &out);
    let flows = [
        Flow::v4(1),
        Flow::v6(2),
        Flow::v4(3).tagged(&[7]),
        Flow::v6(4).tagged(&[7, 9]),
    ];
    let bytes = payload(LONG);
    for (n, flow) in flows.iter().enumerate() {
        // The SVM's segments are others, and what it has sent leaves before the rest.
        let half = LONG / 2 + 1;
        let p = unfinished(flow.data(1_000, 77, &bytes));
        script.post_unfinished(0, &p, MSS);
        for (at, part) in [(0, &bytes[..half]), (half, &bytes[half..])] {
            let s = unfinished(flow.data(1_000 + at as u32, 77, part));
            script.post_unfinished(1, &s, MSS);
            node.wait_for("the first part to leave", |stats| {
                stats["divided"] == n + 1 && stats["released"].as_u64() > Some(4 * n as u64)
            });
        }
        // A short one whose checksum alone is left.
        let p = unfinished(flow.data(1_000 + LONG as u32, 77, b"short"));
        script.post_unfinished(0, &p, 0);
        script.post_unfinished(1, &p, 0);
        let p = unfinished(flow.udp(b"a datagram"));
        script.post_unfinished(0, &p, 0);
        script.post_unfinished(1, &p, 0);
    }
    let released = 4 * flows.len();
    node.wait_for("the release of all", |stats| stats["released"] == released);
    drop(script);
    let ended = node.stop();
    let summary = ended.summary();
    assert_eq!(summary["ports"]["net_pcap2"]["tx"], released);
    assert_eq!(summary["ports"]["net_pcap2"]["dropped"], 0);
    assert_eq!(summary["divergences"], serde_json::json!({}));

    let frames = capture::read(&out);
    for frame in &frames {
        assert!(
            is_right(frame),
            "a wrong checksum: {:02x?}",
            &frame[..80.min(frame.len())]
        );
    }
    for flow in &flows {
        let key = |frame: &[u8]| Packet::parse(frame, frame.len());
        let like = key(&flow.data(0, 0, b"")).key;
        let mine: Vec<_> = frames
            .iter()
            .filter(|f| key(f).key == like)
            .cloned()
            .collect();
        // The first part ends within a segment.
        assert_eq!(mine.len(), LONG.div_ceil(usize::from(MSS)) + 2);
        assert_eq!(joined(&mine, 1_000), [&bytes[..], b"short"].concat());
        let like = key(&flow.udp(b"")).key;
        assert_eq!(frames.iter().filter(|f| key(f).key == like).count(), 1);
    }
}

/// A virtio port cuts and sums by itself: what leaves one comparator by such a port enters the next
/// one as it was, and is cut where it reaches a wire.
#[test]
fn a_port_that_can_gets_long_frames_whole() {
    const ROUNDS: u32 = 3;
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out.pcap");
    let behind = comparator(dir.path(), &out);
    let socket = |name: &str| dir.path().join(name);
    let guest = |n: u32, name| format!("{},tso=1", vhost(n, &socket(name)));
    let before = Node::start(
        &[
            guest(0, "p.sock"),
            guest(1, "s.sock"),
            virtio_user(0, &socket("0.sock")),
        ],
        &[
            "--role",
            "compare",
            "--primary-in",
            "net_vhost0",
            "--secondary-in",
            "net_vhost1",
            "--out",
            "net_virtio_user0",
            "--idle-sleep",
            "50",
        ],
    );
    let mut script = Script::new(&[socket("p.sock"), socket("s.sock"), socket("1.sock")]);
    let bytes = payload(LONG);
    for port in 0..3 {
        script.start_with_offloads(port);
        for round in 0..ROUNDS {
            for flow in [Flow::v4(1), Flow::v6(2).tagged(&[7])] {
                let frame = unfinished(flow.data(round * LONG as u32, 77, &bytes));
                script.post_unfinished(port, &frame, MSS);
            }
        }
    }
    behind.wait_for("the release of all", |stats| {
        stats["released"] == 2 * ROUNDS
    });
    drop(script);
    drop(before.stop());
    let ended = behind.stop();
    assert_eq!(ended.summary()["ports"]["net_vhost0"]["rx"], 2 * ROUNDS);
    let frames = capture::read(&out);
    assert_eq!(
        frames.len(),
        2 * ROUNDS as usize * LONG.div_ceil(usize::from(MSS))
    );
    assert!(frames.iter().all(|frame| is_right(frame)));
}

#[test]
fn a_guest_that_lies_about_what_is_left_harms_nobody() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out.pcap");
    let (node, mut script) = comparator_with_guests(dir.path(), &out);
    let bytes = payload(9_000);
    let whole = |n| unfinished(Flow::v4(n).data(1_000, 77, &bytes));
    let mut lies = Vec::new();
    // A byte of payload in each segment, and more than the frame has.
    lies.extend([(whole(1), 1), (whole(2), u16::MAX)]);
    // What cannot be cut: a SYN, a fragment, a datagram that ends before its header does.
    let mut syn = whole(3);
    syn[47] |= 2;
    let mut fragment = whole(4);
    fragment[20] |= 0x20;
    let mut short = whole(5);
    short[16..18].copy_from_slice(&30u16.to_be_bytes());
    let mut offset = whole(6);
    offset[46] = 0xf0;
    lies.extend([(syn, MSS), (fragment, MSS), (short, MSS), (offset, MSS)]);
    // Payload and checksum of a datagram whose length lies.
    let mut udp = unfinished(Flow::v4(7).udp(&bytes[..600]));
    udp[38..40].copy_from_slice(&9_000u16.to_be_bytes());
    lies.push((udp, 0));
    for (frame, size) in &lies {
        script.post_unfinished(0, frame, *size);
        script.post_unfinished(1, frame, *size);
    }
    let honest = Flow::v4(9).udp(b"after all lies");
    script.post(0, &honest);
    script.post(1, &honest);
    node.wait_for("the honest frame", |stats| {
        stats["released"].as_u64() >= Some(4)
            && stats["ports"]["net_vhost0"]["rx"] == lies.len() + 1
            && stats["ports"]["net_vhost1"]["rx"] == lies.len() + 1
    });
    drop(script);
    let ended = node.stop();
    let port = &ended.summary()["ports"]["net_pcap2"];
    let (sent, dropped) = (port["tx"].as_u64(), port["dropped"].as_u64());
    assert_eq!(
        ended.summary()["released"].as_u64(),
        sent.zip(dropped).map(|(sent, dropped)| sent + dropped),
        "a released frame has neither left nor been counted"
    );
    let frames = capture::read(&out);
    assert!(frames.contains(&honest));
    // 48 bytes are the least that is believed.
    let cut = frames.iter().filter(|f| {
        Packet::parse(f, f.len()).key == Packet::parse(&lies[0].0, lies[0].0.len()).key
    });
    assert_eq!(cut.count(), 9_000usize.div_ceil(48));
}

/// Long frames reach both VMs and leave again; what is left to do to input is done alike for both.
fn converse(pair: &mut Pair) {
    pair.enter_colo();
    let flow = Flow::v4(1);
    let bytes = payload(LONG);
    let half = LONG / 2;
    for round in 0..4u32 {
        let seq = 1_000 + round * LONG as u32;
        let p = flow.data(seq, 9, &bytes);
        pair.frames.post(PVM, &p);
        for (at, part) in [(0, &bytes[..half]), (half, &bytes[half..])] {
            let s = flow.data(seq + at as u32, 9, part);
            pair.frames.post(SVM, &s);
        }
        assert!(pair.frames.receive(NETWORK) == p, "another frame left");
        let input = flow.clone().reversed().data(seq, 9, &bytes);
        pair.frames.post(NETWORK, &input);
        for vm in [PVM, SVM] {
            assert!(pair.frames.receive(vm) == input, "another frame came");
        }
    }

    // A checksum is completed on the way to a guest that cannot do it.
    for input in [
        flow.clone().reversed().data(500, 9, b"input"),
        Flow::v6(2).reversed().data(500, 9, b"input"),
        Flow::v6(2).tagged(&[7]).reversed().udp(b"input"),
    ] {
        pair.frames
            .post_unfinished(NETWORK, &unfinished(input.clone()), 0);
        for vm in [PVM, SVM] {
            assert_eq!(pair.frames.receive_with_left(vm), (input.clone(), None));
        }
    }
    // Long input that is to be cut comes in the same segments to both.
    let input = unfinished(flow.reversed().data(600, 9, &bytes[..20_000]));
    pair.frames.post_unfinished(NETWORK, &input, MSS);
    let [to_pvm, to_svm] = [PVM, SVM].map(|vm| {
        (0..20_000usize.div_ceil(usize::from(MSS)))
            .map(|_| pair.frames.receive(vm))
            .collect::<Vec<_>>()
    });
    assert!(to_pvm == to_svm, "the VMs get different segments");
    assert!(to_pvm.iter().all(|frame| is_right(frame)));
    assert!(joined(&to_pvm, 600) == bytes[..20_000], "other bytes came");
    assert!(
        pair.pvm.requests().is_empty(),
        "equal output cost a checkpoint"
    );
}

#[test]
fn long_frames_pass_a_pair() {
    let _turn = node::beside_others();
    let mut pair = Pair::with(Plan {
        offloads: true,
        ..Plan::default()
    });
    converse(&mut pair);
    let (primary, secondary) = pair.end();
    assert_eq!(primary["link"]["lost_output"], 0);
    assert_eq!(secondary["link"]["lost_input"], 0);
}

/// A veth pair, gone at the end of the test.
struct Veth([String; 2]);

impl Veth {
    fn new() -> Self {
        let names = ["a", "b"].map(|end| format!("cofrag{}{end}", std::process::id()));
        let veth = Self(names);
        let [a, b] = &veth.0;
        ip(&["link", "add", a, "type", "veth", "peer", "name", b]);
        for name in &veth.0 {
            // The host itself must say nothing on the link.
            let quiet = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            let _ = fs::write(quiet, "1");
            ip(&["link", "set", name, "up"]);
        }
        veth
    }

    fn device(&self, n: usize) -> String {
        format!(
            "--vdev=net_af_packet{n},iface={},blocksz=65536,framesz=2048,framecnt=2048,qdisc_bypass=1",
            self.0[n]
        )
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["link", "del", &self.0[0]])
            .status();
    }
}

pub fn ip(arguments: &[&str]) {
    let status = Command::new("ip")
        .args(arguments)
        .status()
        .expect("ip runs");
    assert!(status.success(), "ip {arguments:?}");
}

#[test]
fn long_frames_cross_a_link_of_1500_bytes_in_fragments() {
    let _turn = node::beside_others();
    let veth = Veth::new();
    let link = [
        (veth.device(0), "net_af_packet0"),
        (veth.device(1), "net_af_packet1"),
    ];
    let mut pair = Pair::with(Plan {
        link: Some(link),
        offloads: true,
        ..Plan::default()
    });
    converse(&mut pair);
    // A frame of the usual 1514 bytes does not fit behind the link's header, either.
    let usual = Flow::v4(8).udp(&[7; 1472]);
    pair.frames.send(NETWORK, &usual);
    assert_eq!(pair.frames.receive(PVM), usual);
    assert_eq!(pair.frames.receive(SVM), usual);
    std::thread::sleep(Duration::from_millis(50));
    let (primary, secondary) = pair.end();
    assert_eq!(primary["link"]["lost_output"], 0, "{primary:#}");
    assert_eq!(secondary["link"]["lost_input"], 0, "{secondary:#}");
}
