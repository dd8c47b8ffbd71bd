//! What an operator hears where somebody has to act, and what nobody has to hear.

use std::time::Duration;

use colo_testkit::qmp::Monitor;

use crate::frames::Flow;
use crate::monitor::Qemu;
use crate::node::{self, Node, comparator, eal_options, prefix};
use crate::pair::{A_WHILE, NETWORK, PVM, Pair};

/// A comparator on idle null devices with a monitor.
fn compare(qmp: &[&str]) -> Node {
    let mut own = comparator("net_null");
    own.extend(qmp.iter().map(|&word| word.to_owned()));
    let devices: Vec<String> = (0..3)
        .map(|n| format!("--vdev=net_null{n},no-rx=1"))
        .collect();
    Node::start(&devices, &own)
}

#[test]
fn a_qemu_that_does_not_answer_is_logged_counted_and_shown() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("qmp.sock");
    let qemu = Qemu::listen(&socket, Monitor::default());
    let mut node = compare(&["--qmp", socket.to_str().expect("UTF-8")]);
    node.wait_for_line("monitor connected");
    node.wait_for("the monitor", |stats| {
        stats["monitor"]["state"] == "connected"
    });
    qemu.hang(true);
    node.wait_for_line("owes query-migrate-parameters for 1.");
    let stats = node.stats();
    assert_eq!(stats["monitor"]["state"], "unresponsive", "{stats:#}");
    assert_eq!(stats["monitor"]["unresponsive"], 1, "{stats:#}");
    assert_eq!(
        stats["monitor"]["waits_for"], "query-migrate-parameters",
        "{stats:#}"
    );
    qemu.hang(false);
    node.wait_for_line("QEMU goes on after");
    node.wait_for("the monitor", |stats| {
        stats["monitor"]["state"] == "connected"
            && stats["monitor"]["longest_ms"].as_u64() >= Some(1000)
    });
    node.stop();
}

#[test]
fn a_checkpoint_whose_steps_do_not_come_is_reported() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let flow = Flow::v4(1);
    pair.frames.send(PVM, &flow.data(100, 1, b"one"));
    pair.frames
        .send(crate::pair::SVM, &flow.data(100, 1, b"two"));
    pair.pvm.wait_for_requests(1);
    pair.frames.silent(NETWORK, A_WHILE);
    pair.primary
        .wait_for_line("owes the event STOP of a checkpoint for 1.");
    let stats = pair.primary.stats();
    assert_eq!(stats["monitor"]["state"], "unresponsive", "{stats:#}");
    pair.stop_and_load();
    pair.primary.wait_for_line("QEMU goes on after");
    pair.primary.wait_for_line("owes the event RESUME for 1.");
    let stats = pair.primary.stats();
    assert_eq!(stats["monitor"]["unresponsive"], 2, "{stats:#}");
    pair.resume();
    pair.primary.wait_for("the monitor", |stats| {
        stats["monitor"]["state"] == "connected"
    });
    pair.wait_for_epoch(2);
    assert_eq!(pair.frames.receive(NETWORK), flow.data(100, 1, b"one"));
    pair.end();
}

#[test]
fn each_pair_without_a_monitor_is_named() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("colo.toml");
    let pair = |n: usize| {
        format!(
            "[[pair]]\nrole = 'compare'\nvm-id = {n}\nprimary-in = 'net_null{}'\nsecondary-in = 'net_null{}'\n\
             out = 'net_null{}'\nqmp = '/nonexistent/{n}.sock'\n",
            3 * n,
            3 * n + 1,
            3 * n + 2
        )
    };
    std::fs::write(&config, pair(0) + &pair(1)).expect("a file");
    let devices: Vec<String> = (0..6)
        .map(|n| format!("--vdev=net_null{n},no-rx=1"))
        .collect();
    let own = [
        "--idle-sleep",
        "50",
        "--config",
        config.to_str().expect("UTF-8"),
    ];
    let mut node = Node::start(&devices, &own);
    for name in ["pair vm0: no monitor", "pair vm1: no monitor"] {
        node.wait_for_line(name);
    }
    node.stop();
}

#[test]
fn a_lost_peer_is_a_warning_that_says_what_to_do() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    pair.secondary.signal(rustix::process::Signal::KILL);
    pair.primary.wait_for_line("peer_lost, epoch");
    let log = pair.primary.stderr();
    let line = log
        .lines()
        .find(|line| line.contains("peer_lost"))
        .expect("a line");
    assert!(line.starts_with("dpdk-colo: warning: pair vm0: "), "{line}");
    for word in ["all output is held until", "x-colo-lost-heartbeat"] {
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn the_vhost_library_says_nothing_unless_it_is_asked() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    for (n, asked) in [None, Some("lib.vhost.config:info")]
        .into_iter()
        .enumerate()
    {
        let prefix = prefix();
        // The last option of the usual ones is the library's level, and its value.
        let mut words = eal_options(&prefix, 2);
        let at = words
            .iter()
            .position(|word| word == "--log-level")
            .expect("it is there");
        words.drain(at..at + 2);
        words.extend(
            asked
                .iter()
                .flat_map(|level| ["--log-level".to_owned(), (*level).to_owned()]),
        );
        words.extend((0..2).map(|n| format!("--vdev=net_null{n},no-rx=1")));
        words.push(node::vhost(2, &dir.path().join(format!("{n}.sock"))));
        let own = "-- --role compare --idle-sleep 50 --primary-in net_null0 --secondary-in net_null1 --out net_vhost2";
        words.extend(own.split_whitespace().map(str::to_owned));
        let mut node = Node::spawn(prefix, words, true);
        node.wait_for_line("ready");
        std::thread::sleep(Duration::from_millis(100));
        let log = node.stop().stderr;
        assert_eq!(log.contains("VHOST_CONFIG"), asked.is_some(), "{log}");
    }
}
