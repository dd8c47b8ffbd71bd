//! Divergence records on disk: what they say, their bound, what a failing disk does, and that
//! Wireshark's own tools read the frames.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use dpdk_colo::config::Role;
use dpdk_colo::observability::log::Log;
use dpdk_colo::observability::report::{Capture, Divergence, Limit, Outcome, Reports};
use dpdk_colo::observability::summary::RecordSummary;
use etherparse::PacketBuilder;
use serde_json::{Value, json};

/// A bound on records alone.
fn records(records: u64) -> Limit {
    Limit {
        records,
        bytes: u64::MAX,
    }
}

fn segment(seq: u32, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .single_vlan(etherparse::VlanId::try_new(5).expect("a VLAN id"))
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(80, 40000, seq, 512)
        .ack(77);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, payload)
        .expect("a frame in memory");
    frame
}

/// The payload of an Ethernet frame with one VLAN tag, IPv4 and TCP without options.
const PAYLOAD_AT: usize = 14 + 4 + 20 + 20;

fn capture(bytes: Vec<u8>, differs_at: Option<usize>, age_us: u64) -> Capture {
    Capture {
        wire_len: bytes.len(),
        bytes,
        payload_at: PAYLOAD_AT,
        differs_at,
        age: Duration::from_micros(age_us),
    }
}

/// Both sides sent 100 bytes that differ in the one at offset 1050 of the stream; the PVM's segment
/// begins at 1000, the SVM's at 1040.
fn divergence() -> Divergence {
    let stream: Vec<u8> = (0..200).map(|at| b'0' + at % 10).collect();
    let mut other = stream.clone();
    other[50] = b'X';
    Divergence {
        time: UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
        role: Role::Primary,
        pair: "vm0".into(),
        vm_id: 0,
        epoch: 12,
        flow: "tcp 10.0.0.1:80 > 10.0.0.2:40000 vlan 5".into(),
        reason: "payload",
        stream_offset: Some(1050),
        primary: Some(capture(
            segment(1000, &stream[..100]),
            Some(PAYLOAD_AT + 50),
            250,
        )),
        secondary: Some(capture(
            segment(1040, &other[40..140]),
            Some(PAYLOAD_AT + 10),
            90,
        )),
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a record")).expect("JSON")
}

fn written(outcome: Outcome) -> std::path::PathBuf {
    match outcome {
        Outcome::Written(path) => path,
        Outcome::OverLimit => panic!("over the limit"),
    }
}

/// The name of a record of this epoch and number without its extension; nobody can guess the rest.
fn name_of(path: &Path, record: &str) -> String {
    let name = path.file_name().and_then(|name| name.to_str());
    let stem = name.and_then(|name| name.strip_suffix(".json"));
    let stem = stem.unwrap_or_else(|| panic!("{path:?}"));
    let (named, random) = stem.split_once('.').unwrap_or_else(|| panic!("{path:?}"));
    assert_eq!((named, random.len()), (record, 16), "{path:?}");
    stem.to_owned()
}

#[test]
fn a_record_shows_both_sides_around_the_first_difference() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut reports =
        Reports::open(&dir.path().join("reports"), records(10)).expect("a new directory");
    let path = written(reports.write(&divergence()).expect("a record"));
    let name = name_of(&path, "divergence-12-0");
    let record = read(&path);

    for (key, value) in [
        ("time", json!("2023-11-14T22:13:20.123456Z")),
        ("node", json!("primary")),
        ("pair", json!("vm0")),
        ("vm_id", json!(0)),
        ("epoch", json!(12)),
        ("flow", json!("tcp 10.0.0.1:80 > 10.0.0.2:40000 vlan 5")),
        ("reason", json!("payload")),
        ("stream_offset", json!(1050)),
        ("pcapng", json!(format!("{name}.pcapng"))),
    ] {
        assert_eq!(record[key], value, "{key}");
    }
    let (p, s) = (&record["primary"], &record["secondary"]);
    assert_eq!((&p["age_us"], &s["age_us"]), (&json!(250.0), &json!(90.0)));
    // 32 bytes lead where the segment has them, else what it has.
    assert_eq!(p["window"]["frame_offset"], PAYLOAD_AT + 18);
    assert_eq!(p["window"]["stream_offset"], 1018);
    assert_eq!(s["window"]["frame_offset"], PAYLOAD_AT);
    assert_eq!(s["window"]["stream_offset"], 1040);
    assert_eq!(
        p["window"]["ascii"],
        "8901234567890123456789012345678901234567890123456789012345678901"
    );
    assert_eq!(
        s["window"]["ascii"],
        "0123456789X12345678901234567890123456789012345678901234567890123"[..64]
    );
    assert_eq!(
        s["window"]["hex"].as_str().map(|hex| &hex[16..26]),
        Some("3839583132")
    );
    assert_eq!(
        p["headers"],
        json!({
            "ethernet": {
                "source": "02:00:00:00:00:01",
                "destination": "02:00:00:00:00:02",
                "ether_type": "0x8100",
            },
            "vlans": [5],
            "ip": {
                "source": "10.0.0.1", "destination": "10.0.0.2", "protocol": 6, "hops": 64,
                "id": 0, "fragment": false,
            },
            "tcp": {
                "source_port": 80, "destination_port": 40000, "seq": 1000, "ack": 77,
                "flags": "ACK", "window": 512,
            },
        })
    );
}

#[test]
fn records_need_neither_two_sides_nor_readable_frames() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut reports = Reports::open(dir.path(), records(1000)).expect("the directory");
    for len in [0, 1, 13, 14, 15, 30, 60] {
        for (payload_at, differs_at) in [(0, None), (99, Some(0)), (0, Some(usize::MAX))] {
            let record = Divergence {
                primary: Some(Capture {
                    bytes: vec![0x81; len],
                    wire_len: 60,
                    payload_at,
                    differs_at,
                    age: Duration::MAX,
                }),
                secondary: None,
                stream_offset: Some(0),
                ..divergence()
            };
            let record = read(&written(reports.write(&record).expect("a record")));
            assert_eq!(record["primary"]["captured"], len);
            assert_eq!(record["secondary"], Value::Null);
        }
    }
}

#[test]
fn a_directory_holds_no_more_than_its_limit_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = || std::fs::read_dir(dir.path()).expect("the directory");
    for run in 0..3 {
        let mut reports = Reports::open(dir.path(), records(4)).expect("the directory");
        for n in 0..3 {
            let n = run * 3 + n;
            let outcome = reports.write(&divergence()).expect("no error");
            if n < 4 {
                name_of(&written(outcome), &format!("divergence-12-{n}"));
            } else {
                assert_eq!(outcome, Outcome::OverLimit);
            }
        }
    }
    assert_eq!(files().count(), 8);

    // The bytes of all files count, too, and so does their mode.
    let there: u64 = files()
        .map(|file| {
            let found = file.expect("a file").metadata().expect("its metadata");
            assert_eq!(found.permissions().mode() & 0o7777, 0o600);
            found.len()
        })
        .sum();
    let bytes = |bytes| Limit {
        records: u64::MAX,
        bytes,
    };
    let write = |limit| {
        let mut reports = Reports::open(dir.path(), limit).expect("the directory");
        reports.write(&divergence()).expect("no error")
    };
    assert_eq!(write(bytes(there + 100)), Outcome::OverLimit);
    written(write(bytes(there * 2)));
}

#[test]
fn nobody_can_guess_the_name_of_a_record() {
    let names: Vec<String> = (0..2)
        .map(|_| {
            let dir = tempfile::tempdir().expect("a directory");
            let mut reports = Reports::open(dir.path(), records(1)).expect("the directory");
            let path = written(reports.write(&divergence()).expect("a record"));
            name_of(&path, "divergence-12-0")
        })
        .collect();
    assert_ne!(names[0], names[1]);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_disk_is_one_line_and_nothing_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let gone = dir.path().join("gone");
    let mut reports = Reports::open(&gone, records(10)).expect("a new directory");
    std::fs::remove_dir(&gone).expect("an empty directory");
    let lines = Lines::default();
    let log = Log::to(lines.clone());
    let mut counts = RecordSummary::default();
    for _ in 0..5 {
        reports.file(&divergence(), &log, &mut counts);
    }
    let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("UTF-8");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("dpdk-colo: warning: --report-dir: cannot write "),
        "{text}"
    );
    std::fs::create_dir(&gone).expect("the directory again");
    reports.file(&divergence(), &log, &mut counts);
    let expected = RecordSummary {
        written: 1,
        over_limit: 0,
        failed: 5,
    };
    assert_eq!(counts, expected);
}

#[test]
fn wireshark_reads_the_frames() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut reports = Reports::open(dir.path(), records(1)).expect("the directory");
    let path = written(reports.write(&divergence()).expect("a record"));
    let path = path.with_extension("pcapng");
    let fields = [
        "frame.interface_name",
        "frame.time_epoch",
        "frame.comment",
        "frame.len",
        "vlan.id",
        "tcp.seq_raw",
    ];
    let mut tshark = Command::new("tshark");
    tshark
        .arg("-r")
        .arg(&path)
        .args(["-n", "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output = tshark.output();
    let output =
        output.unwrap_or_else(|e| panic!("tshark: {e}; scripts/install-packages installs it"));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "primary|1700000000.123206789|P: payload, byte 108 differs|158|5|1000\n\
         secondary|1700000000.123366789|S: payload, byte 68 differs|158|5|1040\n"
    );
}
