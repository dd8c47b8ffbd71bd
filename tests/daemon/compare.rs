//! `--role compare` on captures: what leaves is the PVM's, whole and in its order, and nothing of a
//! flow leaves from its first difference on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use colo_testkit::rng::Rng;
use dpdk_colo::packet::Packet;
use serde_json::Value;

use crate::audit;
use crate::capture;
use crate::frames::{Flow, Numbering, connection, payload_of, seq_of};
use crate::node::{self, Ended, Node, comparator, pcap};

/// What became of two captures.
pub struct Compared {
    pub released: Vec<Vec<u8>>,
    pub stats: Value,
    pub ended: Ended,
}

/// Feeds two captures to a comparator and waits until it has worked through both; `settled` says
/// what else must have come about.
pub fn compare(
    dir: &Path,
    p: &[Vec<u8>],
    s: &[Vec<u8>],
    more: &[&str],
    settled: impl Fn(&Value) -> bool,
) -> Compared {
    compare_on(node::usual_cores(), dir, p, s, more, settled)
}

/// The same on `cores` cores.
pub fn compare_on(
    cores: u32,
    dir: &Path,
    p: &[Vec<u8>],
    s: &[Vec<u8>],
    more: &[&str],
    settled: impl Fn(&Value) -> bool,
) -> Compared {
    let file = |name: &str| -> PathBuf { dir.join(name) };
    capture::write(&file("p.pcap"), p);
    capture::write(&file("s.pcap"), s);
    let devices = [
        pcap(0, Some(&file("p.pcap")), None),
        pcap(1, Some(&file("s.pcap")), None),
        pcap(2, None, Some(&file("out.pcap"))),
    ];
    let mut own = comparator("net_pcap");
    let log = file("log");
    own.extend(["--capture".to_owned(), log.display().to_string()]);
    own.extend(more.iter().map(|&word| word.to_owned()));
    let node = Node::start_on(cores, &devices, &own);
    let (all_p, all_s) = (p.len() as u64, s.len() as u64);
    node.wait_for("the end of both captures", |stats| {
        stats["ports"]["net_pcap0"]["rx"] == all_p
            && stats["ports"]["net_pcap1"]["rx"] == all_s
            && settled(stats)
    });
    // Counters are published each millisecond.
    std::thread::sleep(Duration::from_millis(20));
    let stats = node.stats();
    let ended = node.stop();
    let summary = ended.summary();
    let number = |key: &str| summary[key].as_u64().expect("a number");
    assert_eq!(
        number("released") + number("held"),
        all_p,
        "a P is lost: {summary:#}"
    );
    audit::comparator(&log, number("released"));
    let released = capture::read(&file("out.pcap"));
    assert_eq!(released.len() as u64, number("released"));
    Compared {
        released,
        stats,
        ended,
    }
}

/// The frames of each flow, in order.
pub fn by_flow(frames: &[Vec<u8>]) -> HashMap<String, Vec<&[u8]>> {
    let mut flows: HashMap<String, Vec<&[u8]>> = HashMap::new();
    for frame in frames {
        let key = Packet::parse(frame, frame.len()).key;
        flows.entry(format!("{key:?}")).or_default().push(frame);
    }
    flows
}

/// All that a comparison must let leave: each flow whole and in order.
pub fn assert_whole(released: &[Vec<u8>], p: &[Vec<u8>]) {
    let (left, sent) = (by_flow(released), by_flow(p));
    for (flow, frames) in &sent {
        let left = left.get(flow).map_or(&[][..], Vec::as_slice);
        assert!(
            left == frames.as_slice(),
            "{flow}: {} of {} frames left, or not as they were sent",
            left.len(),
            frames.len()
        );
    }
    assert_eq!(left.len(), sent.len(), "flows that nobody sent have left");
}

/// Traffic of all kinds from two VMs that agree; the SVM's numbers are those of `numbering`.
pub fn agreeing(
    random: &mut Rng,
    numbering: impl Fn(u32, u32) -> Numbering,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut p, mut s) = (Vec::new(), Vec::new());
    let flows = [
        Flow::v4(1),
        Flow::v4(2),
        Flow::v6(3),
        Flow::v4(4).tagged(&[100]),
        Flow::v4(5).tagged(&[200, 100]),
        Flow::v6(6).tagged(&[200, 101]),
    ];
    for (n, flow) in flows.iter().enumerate() {
        // The first one's numbers wrap.
        let pvm = if n == 0 {
            u32::MAX - 5_000
        } else {
            random.next() as u32
        };
        let svm = random.next() as u32;
        let stream = random.bytes(60_000);
        p.push(connection(flow, Numbering::own(pvm), &stream, random));
        s.push(connection(flow, numbering(pvm, svm), &stream, random));
    }
    for flow in [Flow::v4(11), Flow::v6(12), Flow::v4(13).tagged(&[7])] {
        let datagrams: Vec<_> = (0..40)
            .map(|_| {
                let len = random.within(0..1200);
                flow.udp(&random.bytes(len))
            })
            .collect();
        p.push(datagrams.clone());
        s.push(datagrams);
    }
    for flow in [Flow::v4(21), Flow::v6(22)] {
        let replies: Vec<_> = (0..20)
            .map(|n| flow.echo_reply(n, &random.bytes(56)))
            .collect();
        p.push(replies.clone());
        s.push(replies);
    }
    let fragments: Vec<_> = (0..10)
        .flat_map(|n| Flow::v4(31).fragments(n, &random.bytes(2000)))
        .collect();
    p.push(fragments.clone());
    s.push(fragments);
    (random.interleave(p), random.interleave(s))
}

#[test]
fn equal_traffic_leaves_whole_and_in_order() {
    let _turn = node::beside_others();
    let mut random = Rng::for_test("equal_traffic_leaves_whole_and_in_order");
    let dir = tempfile::tempdir().unwrap();
    let (p, s) = agreeing(&mut random, |pvm, svm| Numbering {
        isn: svm,
        stream: pvm,
    });
    let all = p.len() as u64;
    let done = compare(dir.path(), &p, &s, &[], |stats| stats["released"] == all);
    assert_whole(&done.released, &p);
    assert_eq!(done.stats["divergences"], Value::Object(Default::default()));
}

#[test]
fn a_raw_secondary_is_compared_by_its_own_numbers() {
    let _turn = node::beside_others();
    let mut random = Rng::for_test("a_raw_secondary_is_compared_by_its_own_numbers");
    let dir = tempfile::tempdir().unwrap();
    let (p, s) = agreeing(&mut random, |_, svm| Numbering::own(svm));
    let all = p.len() as u64;
    let raw = ["--raw-secondary"];
    let done = compare(dir.path(), &p, &s, &raw, |stats| stats["released"] == all);
    assert_whole(&done.released, &p);
}

#[test]
fn from_the_first_difference_on_nothing_of_the_flow_leaves() {
    let _turn = node::beside_others();
    let mut random = Rng::for_test("from_the_first_difference_on_nothing_of_the_flow_leaves");
    let dir = tempfile::tempdir().unwrap();
    let reports = dir.path().join("reports");
    let (mut p, mut s) = (Vec::new(), Vec::new());
    for n in 1..6 {
        let (pvm, svm) = (random.next() as u32, random.next() as u32);
        let stream = random.bytes(50_000);
        let translated = Numbering {
            isn: svm,
            stream: pvm,
        };
        p.push(connection(
            &Flow::v4(n),
            Numbering::own(pvm),
            &stream,
            &mut random,
        ));
        s.push(connection(&Flow::v4(n), translated, &stream, &mut random));
    }
    // One byte of one segment of the second flow.
    let victim = 1;
    let first = seq_of(&p[victim][0]).wrapping_add(1);
    let number = random.within(1..s[victim].len() - 1);
    let segment = &mut s[victim][number];
    let (at, len) = payload_of(segment);
    let within = random.within(0..len);
    segment[at + within] ^= 1 << random.within(0..8);
    let differs = seq_of(segment).wrapping_sub(first) + within as u32;
    println!("byte {differs} of the stream differs");

    let sent = p[victim].clone();
    let others: Vec<_> = [&p[..victim], &p[victim + 1..]].concat().concat();
    let (p, s) = (random.interleave(p), random.interleave(s));
    let options = ["--report-dir", reports.to_str().unwrap()];
    let done = compare(dir.path(), &p, &s, &options, |stats| {
        stats["divergences"]["payload"] == 1
            && stats["released"].as_u64() >= Some(others.len() as u64)
    });

    let port = Flow::v4(2).client.1.to_be_bytes();
    let (ours, rest): (Vec<_>, Vec<_>) = done
        .released
        .into_iter()
        .partition(|frame| frame[36..38] == port);
    assert_whole(&rest, &others);
    assert!(
        ours[..] == sent[..ours.len()],
        "what left of the flow is not its beginning"
    );
    for frame in &ours {
        let (_, len) = payload_of(frame);
        let end = seq_of(frame).wrapping_sub(first).wrapping_add(len as u32);
        // The SYN+ACK lies one byte before the stream.
        assert!(
            len == 0 || end <= differs,
            "byte {differs} has left, in a frame up to {end}"
        );
    }
    check_report(&reports, differs);
}

/// The record of a difference at this byte of the flow from [`Flow::v4`] 2.
fn check_report(dir: &Path, differs: u32) {
    let files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("records")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let json = files
        .iter()
        .filter(|path| path.extension() == Some("json".as_ref()));
    let records: Vec<Value> = json
        .map(|path| serde_json::from_slice(&std::fs::read(path).expect("a record")).expect("JSON"))
        .collect();
    let record = records
        .iter()
        .find(|record| record["reason"] == "payload")
        .unwrap_or_else(|| panic!("no record of the difference in {records:#?}"));
    assert_eq!(record["stream_offset"], differs);
    assert_eq!(record["epoch"], 1);
    let flow = record["flow"].as_str().expect("a text");
    assert!(
        flow.contains("198.51.100.2") && flow.contains("40002"),
        "{flow}"
    );
    for side in ["primary", "secondary"] {
        assert!(record[side]["window"]["hex"].is_string(), "{record:#}");
    }
    let capture = dir.join(record["pcapng"].as_str().expect("a name"));
    let output = Command::new("tshark").arg("-r").arg(&capture).output();
    let output =
        output.unwrap_or_else(|e| panic!("tshark: {e}; scripts/install-packages installs it"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "tshark cannot read {capture:?}");
    assert_eq!(text.lines().count(), 2, "both frames: {text}");
}
