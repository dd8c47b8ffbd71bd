//! The program's surroundings: the reader of its output, terminals, disks, devices. None of them ends the daemon. If
//! one keeps it from starting, the error names it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use colo_testkit::qmp::Monitor;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::monitor::Qemu;
use crate::node::{self, Node, comparator, eal_options, prefix};
use crate::telemetry;

/// Two periods of the table, and ample time to fall over it.
const A_WHILE: Duration = Duration::from_millis(2500);

/// A comparator on null devices, with these further options and somewhere else to write to.
fn start(options: &[&str], stdout: Stdio, stderr: Stdio) -> Node {
    let prefix = prefix();
    let mut words = eal_options(&prefix, 2);
    words.extend((0..3).map(|n| format!("--vdev=net_null{n},no-rx=1")));
    words.push("--".into());
    words.extend(comparator("net_null"));
    words.extend(options.iter().map(|&word| word.to_owned()));
    Node::spawn_to(prefix, words, true, stdout, stderr)
}

/// Its answer comes from the control thread's board: that it comes at all shows a living process.
fn lives(node: &Node) {
    let polls = |node: &Node| node.stats()["polls"].as_u64().expect("a number");
    let before = polls(node);
    node.wait_for("further rounds", |stats| {
        stats["polls"].as_u64() > Some(before)
    });
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    let (_, writer) = io::pipe().expect("a pipe");
    writer.into()
}

/// A disk that takes nothing.
fn full() -> Stdio {
    let full: File = OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    full.into()
}

/// A pipe that holds all that it can, and its reader, which reads nothing.
fn unread() -> (PipeReader, Stdio) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    fill(&mut writer).expect("a pipe can");
    (reader, writer.into())
}

fn fill(pipe: &mut PipeWriter) -> io::Result<()> {
    let flags = fcntl_getfl(&*pipe)?;
    fcntl_setfl(&*pipe, flags | OFlags::NONBLOCK)?;
    let mut bytes = vec![b'x'; 1 << 16];
    while !bytes.is_empty() {
        while pipe.write(&bytes).is_ok() {}
        bytes.truncate(bytes.len() / 2);
    }
    Ok(fcntl_setfl(&*pipe, flags)?)
}

#[test]
fn a_stdout_that_is_closed_full_or_unread_ends_nothing() {
    let _turn = node::beside_others();
    let (_reader, unread) = unread();
    for (stdout, says) in [
        (closed(), Some("Broken pipe")),
        (full(), Some("No space left")),
        (unread, None),
    ] {
        let mut node = start(&["--stats-period", "1"], stdout, Stdio::piped());
        node.wait_for_line("ready");
        if let Some(says) = says {
            node.wait_for_line(says);
        }
        thread::sleep(A_WHILE);
        lives(&node);
        node.stop();
    }
}

#[test]
fn a_stderr_that_is_closed_full_or_unread_ends_nothing() {
    let _turn = node::beside_others();
    // What DPDK itself says at its start waits for a reader: a pipe that is unread is filled afterwards.
    let (_reader, mut writer) = io::pipe().expect("a pipe");
    let unread = Stdio::from(writer.try_clone().expect("another end"));
    for (stderr, is_unread) in [(closed(), false), (full(), false), (unread, true)] {
        // A monitor that is not there is a line of the log.
        let options = ["--qmp", "/nonexistent/qmp.sock"];
        let node = start(&options, Stdio::piped(), stderr);
        node.wait_for_telemetry();
        if is_unread {
            fill(&mut writer).expect("a pipe can");
        }
        for _ in 0..3 {
            node.signal(Signal::HUP);
            thread::sleep(Duration::from_millis(100));
        }
        lives(&node);
        node.stop();
    }
}

#[test]
fn sighup_ends_nothing_and_is_logged() {
    let _turn = node::beside_others();
    let mut node = start(&[], Stdio::piped(), Stdio::piped());
    node.wait_for_line("ready");
    node.signal(Signal::HUP);
    node.wait_for_line("nothing in it has changed");
    lives(&node);
    node.stop();
}

#[test]
fn a_file_that_takes_no_more_ends_nothing() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let capture = dir.path().join("capture");
    let path = capture.to_str().expect("UTF-8");
    let mut node = start(&["--capture", path], Stdio::piped(), Stdio::piped());
    node.wait_for_line("ready");
    let pid = Pid::from_raw(node.id() as i32).expect("a process has an id");
    let none = Rlimit {
        current: Some(0),
        maximum: None,
    };
    prlimit(Some(pid), Resource::Fsize, none).expect("root may");
    // The end of the capture is written, and the summary.
    node.signal(Signal::TERM);
    let ended = node.wait();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    for what in ["--capture: cannot write", "--summary: cannot write"] {
        assert!(ended.stderr.contains(what), "{}", ended.stderr);
    }
}

/// Bytes of the files in a directory.
fn bytes_in(dir: &Path) -> Vec<u64> {
    let files = fs::read_dir(dir).expect("a directory");
    files
        .map(|entry| entry.expect("an entry").metadata().expect("a file").len())
        .collect()
}

#[test]
fn captures_end_at_their_limit_and_nothing_else_does() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let capture = dir.path().join("capture");
    fs::create_dir(&capture).expect("a directory");
    let file = File::create(capture.join("vm0-compare-0.0.pcapng")).expect("a file");
    // Another run's file leaves room for 64 KiB, and then none: no file is made any more.
    for (earlier, files) in [((1 << 20) - (64 << 10), 3), (1 << 20, 3)] {
        file.set_len(earlier).expect("a sparse file");
        let before: u64 = bytes_in(&capture).iter().sum();
        let prefix = prefix();
        let mut words = eal_options(&prefix, 2);
        // Zeros that no other VM sends come in without end.
        let devices = ["net_null0", "net_null1,no-rx=1", "net_null2,no-rx=1"];
        words.extend(devices.map(|device| format!("--vdev={device}")));
        words.push("--".into());
        words.extend(comparator("net_null"));
        let path = capture.to_str().expect("UTF-8");
        words.extend(["--capture", path, "--capture-limit", "1"].map(str::to_owned));
        let mut node = Node::spawn(prefix, words, true);
        node.wait_for_line("1 MiB of --capture-limit");
        // Telemetry answers from a moment later on, where there is no room from the start.
        node.wait_for_line("ready");
        lives(&node);
        node.stop();
        let bytes = bytes_in(&capture);
        assert_eq!(bytes.len(), files, "{bytes:?}");
        let sum = bytes.iter().sum::<u64>();
        assert!(sum <= before.max(1 << 20), "{before} before, {bytes:?}");
    }
}

/// CPU time of a process in clock ticks, of which Linux has 100 a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 2..]
        .split(' ')
        .collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    ticks(11) + ticks(12)
}

#[test]
fn a_long_idle_sleep_with_a_monitor_is_a_sleep() {
    let _turn = node::alone();
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("qmp.sock");
    let qemu = Qemu::listen(&socket, Monitor::default());
    let prefix = prefix();
    let mut words = eal_options(&prefix, 2);
    words.extend((0..3).map(|n| format!("--vdev=net_null{n},no-rx=1")));
    let own = "-- --role compare --primary-in net_null0 --secondary-in net_null1 --out net_null2 \
               --idle-sleep 1000000 --qmp";
    words.extend(own.split_whitespace().map(str::to_owned));
    words.push(socket.to_str().expect("UTF-8").to_owned());
    let mut node = Node::spawn(prefix, words, true);
    node.wait_for_line("monitor connected");
    qemu.wait_for_client();
    let (since, before) = (Instant::now(), cpu_ticks(node.id()));
    thread::sleep(Duration::from_secs(3));
    let (time, used) = (since.elapsed(), cpu_ticks(node.id()) - before);
    // The control thread alone would have used all.
    assert!(
        (used as f64) < time.as_secs_f64() * 30.0,
        "{used} ticks of CPU in {time:?}"
    );
    node.stop();
}

/// Runs a line to its end; exit status and the program's last line.
fn refused(prefix: &str, line: &str) -> (Option<i32>, String) {
    let words = line.split_whitespace().map(str::to_owned).collect();
    let ended = Node::spawn(prefix.to_owned(), words, false).wait();
    let lines = ended.own_lines();
    assert_eq!(lines.len(), 1, "{line}: {}", ended.stderr);
    (ended.status.code(), lines[0].to_owned())
}

const NULL: &str = "--vdev net_null0 --vdev net_null1 --vdev net_null2 -- --role compare \
                    --primary-in net_null0 --secondary-in net_null1 --out net_null2";

#[test]
fn what_keeps_eal_from_starting_is_named() {
    let _turn = node::beside_others();
    let p = prefix();
    let mut first = start(&[], Stdio::piped(), Stdio::piped());
    first.wait_for_line("ready");
    let taken = first.prefix();
    let dir = tempfile::tempdir().expect("a directory");
    let huge = dir.path().display();
    for (line, status, says) in [
        (
            format!("--no-huge --no-pci -l 0 --file-prefix {taken} {NULL}"),
            1,
            ["Is another primary process running", "--file-prefix"],
        ),
        (
            // DPDK 25.11 takes --no-huge, which stands for --legacy-mem, together with --in-memory, and names these two
            // without their dashes.
            format!("--legacy-mem --in-memory --no-pci -l 0 --file-prefix {p} {NULL}"),
            2,
            ["in-memory", "legacy-mem"],
        ),
        (
            format!("--huge-dir {huge} --no-pci -l 0 --file-prefix {p} {NULL}"),
            1,
            ["hugepage", "hugetlbfs"],
        ),
        (
            format!(
                "--no-huge --no-pci -l 0 --file-prefix {p} --vdev net_af_packet0,iface=nosuchif0 {NULL}"
            ),
            1,
            ["net_af_packet0", "no interface nosuchif0"],
        ),
    ] {
        let (ended, said) = refused(&p, &line);
        assert_eq!(ended, Some(status), "{line}: {said}");
        for word in says {
            assert!(said.contains(word), "{line}: {said}");
        }
        assert!(!said.contains("os error 0"), "{line}: {said}");
    }
    first.stop();
}

#[test]
fn a_summary_without_a_directory_is_refused_at_the_start() {
    let _turn = node::beside_others();
    let p = prefix();
    let line = format!(
        "--no-huge --no-pci -l 0 --file-prefix {p} {NULL} --summary /nonexistent/dir/summary.json"
    );
    let (status, said) = refused(&p, &line);
    assert_eq!(status, Some(2), "{said}");
    assert!(
        said.contains("--summary") && said.contains("/nonexistent/dir"),
        "{said}"
    );
}

#[test]
fn two_pairs_on_one_monitor_are_refused() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("colo.toml");
    let pair = |n: u32| {
        format!(
            "[[pair]]\nrole = 'compare'\nvm-id = {n}\nprimary-in = 'a{n}'\nsecondary-in = 'b{n}'\nout = 'c{n}'\n\
             qmp = '/run/one.sock'\n"
        )
    };
    fs::write(&config, pair(0) + &pair(1)).expect("a file");
    let p = prefix();
    let line = format!(
        "--no-huge --file-prefix {p} -- --config {}",
        config.display()
    );
    let (status, said) = refused(&p, &line);
    assert_eq!(status, Some(2), "{said}");
    assert!(
        said.contains("/run/one.sock") && said.contains("vm0"),
        "{said}"
    );
}

#[test]
fn telemetry_says_that_there_are_no_figures_yet() {
    let _turn = node::beside_others();
    let node = start(&[], Stdio::piped(), Stdio::piped());
    let since = Instant::now();
    // DPDK answers before the node has ports, and null to what it does not know.
    loop {
        assert!(since.elapsed() < node::PATIENCE, "no figures");
        let Ok(stats) = telemetry::ask(&node.prefix(), "/colo/stats") else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if stats.get("polls").is_some() {
            break;
        }
        let error = stats["error"].as_str().unwrap_or_default();
        assert!(error.contains("is starting"), "{stats}");
    }
    node.stop();
}

#[test]
fn a_node_that_has_a_key_leaves_no_core_dump() {
    /// The group of files of a process of which there may be a dump is its own, else root's.
    const GROUP: u32 = 12_345;
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("link.key");
    let text = format!("{}\n", "0123456789abcdef".repeat(4));
    fs::write(&key, text).expect("a file");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("the owner may");
    for (n, (key, group)) in [(key.to_str().expect("UTF-8"), 0), ("none", GROUP)]
        .into_iter()
        .enumerate()
    {
        let prefix = prefix();
        let mut words = eal_options(&prefix, 2);
        words.extend((0..3).map(|port| {
            let socket = dir.path().join(format!("{n}.{port}.sock"));
            node::vhost(port, &socket)
        }));
        let own = "-- --role primary --idle-sleep 50 --guest net_vhost0 --uplink net_vhost1 --link net_vhost2 \
                   --qmp /nonexistent/qmp.sock --link-key";
        words.extend(own.split_whitespace().map(str::to_owned));
        words.push(key.to_owned());
        let mut node = Node::spawn_in_group(GROUP, prefix, words);
        node.wait_for_line("ready");
        let found = fs::metadata(format!("/proc/{}/environ", node.id())).expect("it runs");
        assert_eq!(found.gid(), group, "--link-key {key}");
        node.stop();
    }
}

#[test]
fn records_that_find_no_room_are_counted() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let reports = dir.path().join("reports");
    fs::create_dir(&reports).expect("a directory");
    // Another run's records.
    for n in 0..1000 {
        File::create(reports.join(format!("divergence-1-{n}.0.json"))).expect("a file");
    }
    let prefix = prefix();
    let mut words = eal_options(&prefix, 2);
    // Zeros that no other VM sends.
    let devices = ["net_null0", "net_null1,no-rx=1", "net_null2,no-rx=1"];
    words.extend(devices.map(|device| format!("--vdev={device}")));
    words.push("--".into());
    words.extend(comparator("net_null"));
    let path = reports.to_str().expect("UTF-8");
    let more = ["--report-dir", path, "--compare-timeout", "1"];
    words.extend(more.map(str::to_owned));
    let mut node = Node::spawn(prefix, words, true);
    node.wait_for_line("ready");
    node.wait_for("records without room", |stats| {
        stats["records"]["over_limit"].as_u64() > Some(0)
    });
    node.wait_for_line("holds 1000 records");
    let ended = node.stop();
    let records = &ended.summary()["records"];
    assert_eq!(
        (&records["written"], &records["failed"]),
        (&0.into(), &0.into())
    );
    assert!(records["over_limit"].as_u64() > Some(0), "{records}");
}
