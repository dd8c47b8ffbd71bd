//! What a service manager hears of a node.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use colo_testkit::requirement;
use colo_testkit::thread::Held;
use rustix::process::Signal;

use crate::node::{self, Node, PATIENCE, comparator, eal_options, prefix};

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a time that it takes");
        Self { socket }
    }

    /// A message, if one has come.
    fn message(&self) -> Option<String> {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..count].to_vec()).expect("text"))
    }

    /// Waits for this message, and returns what came before.
    fn wait_for(&self, what: &str) -> Vec<String> {
        let since = Instant::now();
        let mut before = Vec::new();
        loop {
            match self.message() {
                Some(message) if message == what => return before,
                Some(message) => before.push(message),
                None => assert!(since.elapsed() < PATIENCE, "no {what}, but {before:?}"),
            }
        }
    }

    /// What comes within this time.
    fn within(&self, time: Duration) -> Vec<String> {
        let since = Instant::now();
        let mut messages = Vec::new();
        while since.elapsed() < time {
            messages.extend(self.message());
        }
        messages
    }
}

/// A comparator without peers below a service manager that waits for this number of microseconds.
fn node_below(manager: &Path, watchdog: &str) -> Node {
    let prefix = prefix();
    let mut words = eal_options(&prefix, 1 + 1);
    words.extend((0..3).map(|n| format!("--vdev=net_null{n}")));
    words.push("--".into());
    words.extend(comparator("net_null"));
    let socket = manager.to_str().expect("a plain path");
    let environment = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", watchdog)];
    Node::spawn_with(&environment, prefix, words)
}

#[test]
fn a_service_manager_hears_of_the_start_the_state_the_cores_and_the_end() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("notify");
    let manager = Manager::at(&path);
    // A report is due every 500 ms.
    let node = node_below(&path, "2000000");
    assert_eq!(manager.wait_for("READY=1"), [""; 0]);
    manager.wait_for("STATUS=vm0: compares");
    manager.wait_for("WATCHDOG=1");
    let since = Instant::now();
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    assert!(since.elapsed() >= Duration::from_millis(600), "{since:?}");

    if let Some(held) = requirement::met("ptrace", Held::poll_core(node.id())) {
        // A report may have been on its way.
        manager.within(Duration::from_millis(700));
        let messages = manager.within(Duration::from_millis(1500));
        assert!(
            !messages.iter().any(|message| message == "WATCHDOG=1"),
            "{messages:?}"
        );
        assert!(
            node.stderr().contains("finishes no round"),
            "{}",
            node.stderr()
        );
        drop(held);
        manager.wait_for("WATCHDOG=1");
    }
    node.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    assert_eq!(node.wait().status.code(), Some(0));
}

#[test]
fn a_service_manager_that_reads_nothing_or_is_gone_keeps_no_node_waiting() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("notify");
    let manager = Manager::at(&path);
    let mut node = node_below(&path, "40000");
    manager.wait_for("READY=1");
    // With a report in each look the socket's queue is full within this time.
    thread::sleep(Duration::from_secs(3));
    node.signal(Signal::HUP);
    node.wait_for_line("SIGHUP");
    drop(manager);
    std::fs::remove_file(&path).expect("it is there");
    node.signal(Signal::USR1);
    thread::sleep(Duration::from_millis(300));
    node.stop();
}
