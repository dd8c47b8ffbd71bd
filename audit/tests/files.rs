//! The program on files: it reads what a node writes, distinguishes a death from a gap, and sets the exit
//! status.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dpdk_colo::cli;
use dpdk_colo::config::PairSettings;
use dpdk_colo::observability::capture::{CaptureError, Files, Note, Place, Room};
use dpdk_colo::protect::State;
use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use tempfile::TempDir;

fn pair(words: &str) -> PairSettings {
    let words = words.split_whitespace().map(Into::into);
    let Ok(cli::Command::Run(options)) = cli::Options::parse(words) else {
        panic!("it is a command line");
    };
    options.settings().expect("complete").pairs.remove(0)
}

fn comparator() -> PairSettings {
    pair("--role compare --primary-in a --secondary-in b --out c")
}

fn segment(seq: u32, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([192, 0, 2, 1], [198, 51, 100, 1], 64)
        .tcp(80, 40_000, seq, 1_000)
        .ack(7);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

/// A directory without a bound.
fn room(dir: &Path) -> Room {
    Room::open(dir, u64::MAX).expect("a directory")
}

/// The name of the log of this pair, role and number, which has a part that nobody can guess.
fn name_of(dir: &Path, log: &str) -> String {
    let names = fs::read_dir(dir).expect("a directory").filter_map(|entry| {
        let name = entry.expect("an entry").file_name().into_string().ok()?;
        let stem = name.strip_suffix(".jsonl")?;
        (stem.rsplit_once('.')?.0 == log).then(|| stem.to_owned())
    });
    let names: Vec<String> = names.collect();
    assert_eq!(names.len(), 1, "{log}: {names:?}");
    names[0].clone()
}

/// A log under construction.
struct Writer {
    files: Files,
    seq: u64,
}

impl Writer {
    fn new(dir: &Path) -> Self {
        let mut writer = Self {
            files: Files::create(&room(dir), &comparator(), 1).expect("a new log"),
            seq: 0,
        };
        let seq = writer.next();
        let state = State::Protected;
        writer
            .files
            .note(seq, seq, &Note::State { state, epoch: 1 });
        writer
    }

    fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn frame(&mut self, place: Place, bytes: &[u8]) {
        let seq = self.next();
        self.files.frame(place, seq, seq, 1, bytes);
    }

    /// Both VMs send this, and it leaves.
    fn agree(&mut self, bytes: &[u8]) {
        for place in [Place::P, Place::S, Place::Out] {
            self.frame(place, bytes);
        }
    }

    fn end(mut self) {
        self.files.end(self.seq, self.seq);
        self.files.flush().expect("written");
    }
}

/// The exit status and the text on both outputs.
fn audit(dir: &Path, more: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dpdk-colo-audit"))
        .arg("--primary")
        .arg(dir)
        .args(more)
        .output()
        .expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    println!("{text}");
    (output.status.code().expect("it ends by itself"), text)
}

fn log() -> (TempDir, Writer) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = Writer::new(dir.path());
    writer.agree(&segment(1, b"one"));
    writer.agree(&segment(4, b"two"));
    (dir, writer)
}

#[test]
fn what_a_node_writes_is_judged() {
    let (dir, writer) = log();
    writer.end();
    let (status, text) = audit(dir.path(), &[]);
    assert_eq!(status, 0);
    assert!(text.contains("2 frames left: 2 compared"), "{text}");

    // A second run of the node is judged behind the first, and its log stands beside it.
    let mut writer = Writer::new(dir.path());
    writer.frame(Place::P, &segment(7, b"mine"));
    writer.frame(Place::Out, &segment(7, b"mine"));
    writer.end();
    let second = name_of(dir.path(), "vm0-compare-1");
    assert!(dir.path().join(format!("{second}.pcapng")).exists());
    let (status, text) = audit(dir.path(), &["--json"]);
    assert_eq!(status, 1);
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["violation"]["rule"], "R1");
    assert_eq!(report["violation"]["log"], second);
    assert_eq!(report["violation"]["seq"], 3);
    assert_eq!(report["violation"]["records"], serde_json::json!([2]));
}

#[test]
fn a_death_and_a_gap_are_distinguished() {
    // The node died in the middle of a line and of a block.
    let (dir, mut writer) = log();
    writer.files.flush().expect("written");
    let name = name_of(dir.path(), "vm0-compare-0");
    for (extension, torn) in [
        ("jsonl", &b"{\"event\":\"st"[..]),
        ("pcapng", &[6, 0, 0, 0, 80, 0, 0, 0, 1][..]),
    ] {
        let path = dir.path().join(format!("{name}.{extension}"));
        let mut bytes = fs::read(&path).expect("a file");
        bytes.extend(torn);
        fs::write(&path, bytes).expect("written");
    }
    let (status, text) = audit(dir.path(), &[]);
    assert_eq!(status, 0);
    assert!(
        text.contains(&format!("note: {name} ends with record 7")),
        "{text}"
    );

    // A record is lost, and the node goes on.
    let (dir, mut writer) = log();
    writer.next();
    writer.files.lost(9, 1);
    writer.frame(Place::Out, &segment(7, b"bad"));
    writer.end();
    let (status, text) = audit(dir.path(), &[]);
    assert_eq!(status, 2);
    assert!(text.contains("records are lost behind record 7"), "{text}");

    // The same of a node that died later.
    let (dir, mut writer) = log();
    writer.next();
    writer.files.lost(9, 1);
    writer.frame(Place::Out, &segment(7, b"bad"));
    writer.files.flush().expect("written");
    assert_eq!(audit(dir.path(), &[]).0, 2);
}

#[test]
fn what_is_no_log_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (status, text) = audit(dir.path(), &[]);
    assert_eq!((status, text.lines().count()), (2, 1));
    assert!(
        text.contains("has no log of a primary or compare node"),
        "{text}"
    );
    let (status, text) = audit(Path::new("/nonexistent"), &[]);
    assert_eq!((status, text.lines().count()), (2, 1));

    for (extension, bytes) in [
        ("jsonl", &b"garbage\n"[..]),
        ("jsonl", b""),
        ("jsonl", b"{\"event\":\"end\",\"ns\":1}\n"),
        ("pcapng", b"garbage that is no capture"),
        ("pcapng", b""),
    ] {
        let (dir, writer) = log();
        writer.end();
        let file = format!("{}.{extension}", name_of(dir.path(), "vm0-compare-0"));
        fs::write(dir.path().join(&file), bytes).expect("written");
        let (status, text) = audit(dir.path(), &[]);
        assert_eq!((status, text.lines().count()), (2, 1), "{text}");
        assert!(text.contains(&file), "{text}");
    }

    // Of two pairs one must be named.
    let (dir, writer) = log();
    writer.end();
    let other = pair("--role compare --vm-id 3 --primary-in a --secondary-in b --out c");
    let mut files = Files::create(&room(dir.path()), &other, 1).expect("a new log");
    files.end(1, 0);
    files.flush().expect("written");
    let (status, text) = audit(dir.path(), &[]);
    assert_eq!(status, 2);
    assert!(text.contains("--pair"), "{text}");
    assert_eq!(audit(dir.path(), &["--pair", "vm0"]).0, 0);
    assert_eq!(audit(dir.path(), &["--pair", "vm9"]).0, 2);
    assert_eq!(audit(dir.path(), &["--paris"]).0, 2);
}

#[test]
fn a_client_s_capture_holds_only_bytes_that_left() {
    let (dir, writer) = log();
    writer.end();
    let client = |frames: &[Vec<u8>]| -> PathBuf {
        let path = dir.path().join("client.pcap");
        let mut writer =
            PcapWriter::new(fs::File::create(&path).expect("a file")).expect("a header");
        for frame in frames {
            let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, frame);
            writer.write_packet(&packet).expect("a packet");
        }
        path
    };
    let check = |frames: &[Vec<u8>]| {
        let path = client(frames);
        audit(
            dir.path(),
            &["--client-pcap", path.to_str().expect("plain")],
        )
    };
    // Other segmentation on the way is no matter.
    let (status, text) = check(&[segment(1, b"onetwo"), segment(4, b"two")]);
    assert_eq!(status, 0);
    assert!(text.contains("client: 2 segments"), "{text}");
    let (status, text) = check(&[segment(1, b"onetwO")]);
    assert_eq!(status, 1);
    assert!(
        text.contains("client record 1") && text.contains("sequence number 6"),
        "{text}"
    );
    assert_eq!(check(&[segment(1, b"onetwo and more")]).0, 1);
    fs::write(dir.path().join("client.pcap"), b"no").expect("written");
    let path = dir.path().join("client.pcap");
    let (status, _) = audit(
        dir.path(),
        &["--client-pcap", path.to_str().expect("plain")],
    );
    assert_eq!(status, 2);
}

#[test]
fn captures_end_at_a_bound_that_outlives_a_restart() {
    use std::os::unix::fs::PermissionsExt;

    const LIMIT: u64 = 20_000;
    let dir = tempfile::tempdir().expect("a directory");
    let sizes = || -> Vec<u64> {
        let files = fs::read_dir(dir.path()).expect("a directory");
        let sizes = files.map(|entry| {
            let found = entry.expect("an entry").metadata().expect("its metadata");
            assert_eq!(found.permissions().mode() & 0o7777, 0o600);
            found.len()
        });
        sizes.collect()
    };
    // A restart does not begin anew: what is left becomes less from run to run, and no file is made at its end.
    let mut runs = 0;
    loop {
        let room = Room::open(dir.path(), LIMIT).expect("a directory");
        let mut files = match Files::create(&room, &comparator(), 1) {
            Ok(files) => files,
            Err(CaptureError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        };
        runs += 1;
        assert!(runs < 50, "{:?}", sizes());
        for seq in 1..=5 {
            files.frame(Place::P, seq, seq, 1, &segment(1, &[0; 400]));
            if let Err(error) = files.flush() {
                assert!(matches!(error, CaptureError::Full { .. }), "{error}");
                assert!(error.to_string().contains("--capture-limit"), "{error}");
                break;
            }
        }
    }
    let sizes = sizes();
    assert!(runs > 1, "{sizes:?}");
    assert_eq!(sizes.len(), 2 * runs);
    // Each run may say that it has lost something.
    let (sum, more) = (sizes.iter().sum::<u64>(), 60 * runs as u64);
    assert!((LIMIT / 2..LIMIT + more).contains(&sum), "{sizes:?}");
    // Where records are lost nothing is proven.
    assert_eq!(audit(dir.path(), &[]).0, 2);
}

#[test]
fn a_certificate_names_its_inputs_by_their_hashes() {
    use sha2::{Digest, Sha256};

    let (dir, mut writer) = log();
    let certificate = |status: i32| -> serde_json::Value {
        let (found, text) = audit(dir.path(), &["--json"]);
        assert_eq!(found, status);
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let certificate = report["certificate"].clone();
        let inputs = certificate["inputs"].as_array().expect("files");
        assert_eq!(inputs.len(), 2);
        for input in inputs {
            let bytes = fs::read(input["file"].as_str().expect("a path")).expect("the file");
            let hash: String = Sha256::digest(&bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(input["sha256"], hash);
            assert_eq!(input["bytes"], bytes.len());
        }
        certificate
    };
    writer.files.flush().expect("written");
    let cut = certificate(0);
    assert_eq!(cut["verdict"], "clean");
    assert_eq!(cut["connections"], 1);
    assert_eq!(cut["frames"], 2);
    let run = &cut["runs"][0];
    assert_eq!(
        (&run["role"], &run["pair"]),
        (&"compare".into(), &"vm0".into())
    );
    assert!(
        run["from"].as_str().expect("a time").starts_with("20"),
        "{run}"
    );

    // Where a rule is broken, the whole files are hashed all the same.
    writer.frame(Place::P, &segment(7, b"mine"));
    writer.frame(Place::Out, &segment(7, b"mine"));
    for _ in 0..100 {
        writer.agree(&segment(11, &[7; 1000]));
    }
    writer.end();
    let broken = certificate(1);
    assert_eq!(broken["verdict"], "violation");
    assert_eq!(broken["proved"], serde_json::json!([]));
    let (_, text) = audit(dir.path(), &[]);
    assert!(text.contains("nothing is proved"), "{text}");
}

#[test]
fn nobody_can_guess_the_name_of_a_log() {
    let names: Vec<String> = (0..2)
        .map(|_| {
            let (dir, _) = log();
            name_of(dir.path(), "vm0-compare-0")
        })
        .collect();
    assert_ne!(names[0], names[1]);
}
