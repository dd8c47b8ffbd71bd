//! The test mode of the command line: three net_null ports, which always have frames and take all.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::node::{self, Ended, Node, PATIENCE, prefix, runtime_dir};

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

const DEVICES: &str = "--no-huge --vdev net_null0 --vdev net_null1 --vdev net_null2";
const OWN: &str =
    "-- --role compare --primary-in net_null0 --secondary-in net_null1 --out net_null2";

/// Starts the test mode with further words of EAL's and the program's own.
fn start(eal: &str, own: &str) -> Node {
    let prefix = prefix();
    let line = format!("{DEVICES} --file-prefix {prefix} {eal} {OWN} {own}");
    let mut node = Node::spawn(prefix, words(&line), true);
    node.wait_for_line("ready");
    node
}

/// Keys and kinds of a tree, down to the leaves.
fn shape(value: &Value, path: &str, into: &mut Vec<String>) {
    match value.as_object() {
        Some(entries) => {
            for (key, value) in entries {
                shape(value, &format!("{path}/{key}"), into);
            }
        }
        None => into.push(path.to_owned()),
    }
}

fn shape_of(value: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    shape(value, "", &mut paths);
    paths.sort();
    paths
}

const LATENCY: [&str; 6] = ["p50", "p90", "p99", "p999", "max", "count"];

fn check_summary(ended: &Ended) {
    let summary = ended.summary();
    let number = |path: String| {
        let value = summary.pointer(&path).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("{path} is no number: {summary:#}"))
    };
    assert_eq!(summary["role"], "compare");
    for key in [
        "seconds",
        "epochs",
        "released",
        "held",
        "held_max",
        "busy_cycles",
        "idle_cycles",
        "polls",
    ] {
        number(format!("/{key}"));
    }
    for n in 0..3 {
        for key in ["rx", "tx", "dropped"] {
            number(format!("/ports/net_null{n}/{key}"));
        }
    }
    for key in ["requested", "committed", "stop_ms", "pause_ms"] {
        number(format!("/checkpoints/{key}"));
    }
    for interval in ["hold_ns", "skew_ns", "release_ns", "request_ns"] {
        for key in LATENCY {
            number(format!("/{interval}/{key}"));
        }
    }
    assert!(summary["divergences"].is_object());
    assert!(
        number("/polls".into()) > 0.0,
        "no poll was counted: {summary:#}"
    );
    assert!(number("/seconds".into()) > 0.0);
    assert!(number("/busy_cycles".into()) + number("/idle_cycles".into()) > 0.0);
    let released = number("/released".into());
    assert!(released > 0.0, "equal frames do not leave: {summary:#}");
    assert_eq!(released, number("/ports/net_null2/tx".into()));
    assert_eq!(released, number("/hold_ns/count".into()));
    assert_eq!(
        number("/ports/net_null0/rx".into()),
        released + number("/held".into())
    );
}

#[test]
fn it_runs_and_ends_at_either_signal() {
    let _turn = node::beside_others();
    for (signal, eal) in [(Signal::INT, ""), (Signal::TERM, "-l 0")] {
        let node = start(eal, "--stats-period 1");
        let since = Instant::now();
        while node.stdout().matches("busy").count() < 2 {
            assert!(
                since.elapsed() < PATIENCE,
                "no two tables: {}",
                node.stdout()
            );
            thread::sleep(Duration::from_millis(50));
        }
        let telemetry = node.stats();
        node.signal(signal);
        let ended = node.wait();
        assert_eq!(ended.status.code(), Some(0), "{signal:?}: {}", ended.stderr);
        check_summary(&ended);
        assert!(
            ended.stdout.contains("net_null0 (primary-in)"),
            "{}",
            ended.stdout
        );
        let mut written = shape_of(ended.summary());
        // Telemetry omits empty objects.
        written.retain(|path| telemetry.pointer(path).is_some() || !path.starts_with("/faults"));
        assert_eq!(
            shape_of(&telemetry),
            written,
            "telemetry shows another tree than the summary"
        );
        for pool in ended.summary()["mempools"]
            .as_object()
            .expect("the pools")
            .values()
        {
            assert_eq!(pool["in_use"], 0);
        }
    }
}

/// Files that DPDK itself leaves of a process, by what testpmd leaves.
fn left_by_testpmd() -> Vec<String> {
    let prefix = prefix();
    let line =
        format!("{DEVICES} --no-pci -m 64 --file-prefix {prefix} -l 0,1 -- --total-num-mbufs=2048");
    let mut child = Command::new("dpdk-testpmd")
        .args(words(&line))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("dpdk-testpmd: {e}; scripts/install-packages installs it"));
    // It ends at a key.
    let stdin = child.stdin.as_mut().expect("a pipe");
    std::io::Write::write_all(stdin, b"\n").expect("testpmd reads keys");
    let status = child.wait().expect("testpmd ends");
    assert!(status.success(), "dpdk-testpmd: {status}");
    let left = files(&prefix);
    node::clean(&prefix);
    left
}

fn files(prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(runtime_dir(prefix)) else {
        return Vec::new();
    };
    let names =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn nothing_is_left_that_dpdk_does_not_leave() {
    let _turn = node::beside_others();
    let ended = {
        let prefix = prefix();
        let line = format!("{DEVICES} --no-pci --file-prefix {prefix} {OWN}");
        let mut node = Node::spawn(prefix.clone(), words(&line), false);
        node.wait_for_line("ready");
        node.signal(Signal::TERM);
        let left = {
            // The directory goes with the node.
            let since = Instant::now();
            while runtime_dir(&prefix).join("dpdk_telemetry.v2").exists() {
                assert!(since.elapsed() < PATIENCE, "the telemetry socket stays");
                thread::sleep(Duration::from_millis(10));
            }
            thread::sleep(Duration::from_millis(200));
            files(&prefix)
        };
        assert_eq!(node.wait().status.code(), Some(0));
        left
    };
    println!("left: {ended:?}");
    let testpmd = left_by_testpmd();
    println!("left by testpmd: {testpmd:?}");
    for file in &ended {
        assert!(
            testpmd.contains(file),
            "{file} stays, testpmd leaves {testpmd:?}"
        );
    }
}
