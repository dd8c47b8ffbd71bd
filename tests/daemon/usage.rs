//! Wrong command lines: one line that says what is wrong, and exit status 2.

use std::process::Command;

use crate::node::{self, Node, prefix};

/// Runs a line to its end; exit status and the program's own lines.
fn run(line: &str) -> (Option<i32>, Vec<String>) {
    let prefix = prefix();
    let line = line.replace(
        "EAL",
        &format!("--no-huge --no-pci -m 256 --file-prefix {prefix} -l 0"),
    );
    let words = line.split_whitespace().map(str::to_owned).collect();
    let ended = Node::spawn(prefix, words, false).wait();
    let lines = ended
        .own_lines()
        .iter()
        .map(|&line| line.to_owned())
        .collect();
    (ended.status.code(), lines)
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let _turn = node::beside_others();
    for (line, says) in [
        ("EAL --role compare", "EAL options come before `--`"),
        ("EAL -- --role", "--role"),
        ("EAL -- --role tertiary", "tertiary"),
        ("EAL -- --role compare --out net_null0", "--primary-in"),
        ("EAL -- --role compare --vdev net_null0", "--vdev"),
        ("EAL -- --role compare --colour red", "--colour"),
        (
            "EAL -- --role compare --primary-in net_null0 --secondary-in net_null0 --out net_null1",
            "net_null0",
        ),
        (
            "EAL -- --role primary --guest net_null0 --uplink net_null1 --link net_null2 --link-key none",
            "--qmp",
        ),
        (
            "EAL -- --config /nonexistent/colo.toml",
            "/nonexistent/colo.toml",
        ),
    ] {
        let (status, lines) = run(line);
        assert_eq!(status, Some(2), "{line}: {lines:?}");
        assert_eq!(lines.len(), 1, "{line}: {lines:?}");
        assert!(lines[0].contains(says), "{line}: {lines:?}");
    }
}

#[test]
fn a_line_is_judged_and_nothing_starts() {
    // The nodes of other tests share CPUs with these lcores, which is a finding.
    let _turn = node::alone();
    let ports = "--primary-in net_null0 --secondary-in net_null1 --out net_null2";
    let vdevs = "--vdev net_null0 --vdev net_null1 --vdev net_null2";
    for (line, status, says) in [
        (
            format!(
                "--no-huge -m 512 --lcores 0@(0-1) {vdevs} -- --role compare {ports} --idle-sleep 100 --check"
            ),
            0,
            "nothing is wrong",
        ),
        (
            format!(
                "--no-huge -m 512 --lcores 0@(0-1) {vdevs} -- --role compare {ports} --idle-sleep 100 --check=json"
            ),
            0,
            "\"sound\":true",
        ),
        (
            format!("--no-huge -l 0 --vdev net_null0 -- --role compare {ports} --check"),
            1,
            "[port-missing]",
        ),
        (format!("-l 0 -- --role compare {ports} --check=xml"), 2, ""),
        ("-l 0 -- --role compare --check".to_owned(), 2, ""),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_dpdk-colo"));
        let ended = program.args(line.split(' ')).output().expect("it runs");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(status), "{line}: {said}");
        assert!(said.contains(says), "{line}: {said}");
        assert_eq!(ended.stderr.is_empty(), status < 2, "{line}");
    }
}

#[test]
fn an_unknown_port_is_named_with_those_that_exist() {
    let _turn = node::beside_others();
    let (status, lines) = run(
        "EAL --vdev net_null0 --vdev net_null1 -- --role compare --primary-in net_null0 \
         --secondary-in net_vhost7 --out net_null1",
    );
    assert_eq!((status, lines.len()), (Some(2), 1), "{lines:?}");
    for word in ["--secondary-in", "net_vhost7", "net_null0", "net_null1"] {
        assert!(lines[0].contains(word), "{lines:?}");
    }
    let (status, lines) = run("EAL -- --role compare --primary-in a --secondary-in b --out c");
    assert_eq!((status, lines.len()), (Some(2), 1), "{lines:?}");
}

#[test]
fn a_port_that_would_lose_frames_is_refused() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let vhost = format!("net_vhost0,iface={}/vm.sock,queues=2", dir.path().display());
    for (device, more, says) in [
        (
            vhost.as_str(),
            "",
            ["--out net_vhost0", "2 queues", "queues=1"],
        ),
        (
            "net_af_packet0,iface=lo,qpairs=2",
            "",
            ["--out net_af_packet0", "2 queues", "qpairs=1"],
        ),
        (
            "net_af_packet0,iface=lo",
            "--mtu 9000",
            [
                "--out net_af_packet0",
                "framesz=2048",
                "framesz=16384,blocksz=65536",
            ],
        ),
    ] {
        let name = device.split(',').next().expect("a name");
        let (status, lines) = run(&format!(
            "EAL --vdev net_null0 --vdev net_null1 --vdev {device} -- --role compare \
             --primary-in net_null0 --secondary-in net_null1 --out {name} {more}"
        ));
        assert_eq!((status, lines.len()), (Some(2), 1), "{device}: {lines:?}");
        for word in says {
            assert!(lines[0].contains(word), "{device}: {lines:?}");
        }
    }
}

#[test]
fn a_failure_at_run_time_is_another_status() {
    let _turn = node::beside_others();
    let (status, lines) =
        run("EAL --vdev net_nonsense0 -- --role compare --primary-in a --secondary-in b --out c");
    assert_eq!((status, lines.len()), (Some(1), 1), "{lines:?}");
    for option in ["--report-dir", "--capture"] {
        let (status, lines) = run(&format!(
            "EAL --vdev net_null0 --vdev net_null1 --vdev net_null2 -- --role compare \
             --primary-in net_null0 --secondary-in net_null1 --out net_null2 \
             {option} /proc/no/such/place"
        ));
        assert_eq!((status, lines.len()), (Some(1), 1), "{lines:?}");
        assert!(lines[0].contains(option), "{lines:?}");
    }
}

#[test]
fn help_and_version_need_no_dpdk() {
    let _turn = node::beside_others();
    for (ask, says) in [("--help", "Usage: dpdk-colo"), ("--version", "dpdk-colo ")] {
        let ended = Node::spawn(prefix(), vec![ask.to_owned()], false).wait();
        assert_eq!(ended.status.code(), Some(0));
        assert!(ended.stdout.starts_with(says), "{}", ended.stdout);
    }
}
