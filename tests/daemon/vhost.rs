//! A comparator behind three vhost ports, whose peer dies in the middle of its streams and comes
//! again: every byte that leaves is right, and every mbuf is accounted for.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use colo_testkit::rng::Rng;
use serde_json::Value;
use tempfile::TempDir;

use crate::frames::Flow;
use crate::node::{self, Node, comparator, vhost, virtio_user};
use crate::traffic::{Script, Traffic};

/// Streams that are cut off.
const CUTS: usize = 5;

/// The sockets of three vhost ports.
pub struct Sockets {
    dir: TempDir,
}

impl Sockets {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { dir }
    }

    fn path(&self, n: u32) -> PathBuf {
        self.dir.path().join(format!("{n}.sock"))
    }

    /// The node's ends.
    pub fn backends(&self) -> Vec<String> {
        (0..3).map(|n| vhost(n, &self.path(n))).collect()
    }

    /// The sockets themselves.
    pub fn paths(&self) -> Vec<PathBuf> {
        (0..3).map(|n| self.path(n)).collect()
    }

    /// The guests' ends.
    pub fn frontends(&self) -> Vec<String> {
        (0..3).map(|n| virtio_user(n, &self.path(n))).collect()
    }
}

fn number(stats: &Value, path: &str) -> u64 {
    let value = stats.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{path} is no number: {stats:#}"))
}

/// A P is in the primary pool exactly as long as it is held: nothing else keeps one where no
/// checkpoint is ever taken.
fn assert_only_held(node: &Node) -> Value {
    node.wait_for("as many mbufs in use as frames held", |stats| {
        number(stats, "/mempools/primary/in_use") == number(stats, "/held")
    })
}

#[test]
fn streams_survive_a_peer_that_dies() {
    let _turn = node::beside_others();
    let mut random = Rng::for_test("streams_survive_a_peer_that_dies");
    let sockets = Sockets::new();
    let node = Node::start(&sockets.backends(), &comparator("net_vhost"));

    let whole = ["--run", "1", "--flows", "32", "--bytes", "300000"];
    let report = Traffic::streams(&sockets.frontends(), &whole).report();
    println!("undisturbed: {report}");
    assert_eq!(report["bytes"], 32 * 300_000);
    let stats = node.wait_for("the release of all", |stats| stats["held"] == 0);
    assert_eq!(stats["released"], report["frames"]);
    assert_eq!(stats["divergences"], Value::Object(Default::default()));
    assert_only_held(&node);

    for run in 2..2 + CUTS {
        let before = number(&node.stats(), "/ports/net_vhost2/tx");
        let traffic = Traffic::streams(&sockets.frontends(), &["--run", &run.to_string()]);
        node.wait_for("frames of the next run", |stats| {
            number(stats, "/ports/net_vhost2/tx") > before
        });
        thread::sleep(Duration::from_micros(random.within(0..400_000) as u64));
        // As kill -9: the vhost ports hear only of closed sockets.
        drop(traffic);
    }

    let last = ["--run", "99", "--flows", "32", "--bytes", "300000"];
    let report = Traffic::streams(&sockets.frontends(), &last).report();
    println!("after {CUTS} cuts: {report}");
    assert_eq!(report["bytes"], 32 * 300_000);
    let stats = assert_only_held(&node);
    println!("held of the runs that were cut: {}", stats["held"]);
    let ended = node.stop();
    let summary = ended.summary();
    let taken = number(summary, "/ports/net_vhost0/rx");
    let (released, held) = (number(summary, "/released"), number(summary, "/held"));
    assert_eq!(taken, released + held, "a P is lost");
    let (sent, dropped) = (
        number(summary, "/ports/net_vhost2/tx"),
        number(summary, "/ports/net_vhost2/dropped"),
    );
    assert_eq!(
        released,
        sent + dropped,
        "a released frame has neither left nor been counted"
    );
}

#[test]
fn what_cannot_leave_is_counted() {
    const FRAMES: u32 = 100;
    let _turn = node::beside_others();
    let sockets = Sockets::new();
    let node = Node::start(&sockets.backends(), &comparator("net_vhost"));
    let mut script = Script::new(&sockets.paths());
    // Nobody takes what is released.
    for vm in [0, 1] {
        script.start(vm);
        for n in 0..FRAMES {
            script.post(vm, &Flow::v4(1).udp(&n.to_be_bytes()));
        }
    }
    node.wait_for("the release", |stats| stats["released"] == FRAMES);
    drop(script);
    let ended = node.stop();
    let out = &ended.summary()["ports"]["net_vhost2"];
    assert_eq!((&out["tx"], &out["dropped"]), (&0.into(), &FRAMES.into()));
}

#[test]
fn a_node_without_peers_ends_cleanly() {
    let _turn = node::beside_others();
    let sockets = Sockets::new();
    let node = Node::start(&sockets.backends(), &comparator("net_vhost"));
    node.wait_for("a round", |stats| number(stats, "/polls") > 0);
    let ended = node.stop();
    assert_eq!(ended.summary()["held"], 0);
    for n in 0..3 {
        assert!(!sockets.path(n).exists(), "a vhost socket stays");
    }
}
