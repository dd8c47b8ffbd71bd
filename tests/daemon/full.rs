//! More output than may be held: the node asks for one checkpoint, names the cause, pushes back on the PVM's ring, and
//! loses nothing.

use colo_testkit::qmp::Monitor;
use serde_json::Value;

use crate::frames::Flow;
use crate::monitor::Qemu;
use crate::node::{self, Node, comparator};
use crate::traffic::Script;
use crate::vhost::Sockets;

const HOLD: u64 = 64;
const FLOOD: u32 = 600;

const PRIMARY: usize = 0;
const SECONDARY: usize = 1;
const OUT: usize = 2;

#[test]
fn a_flood_is_pushed_back_and_nothing_is_lost() {
    let _turn = node::beside_others();
    let sockets = Sockets::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pvm.qmp");
    let qemu = Qemu::listen(
        &path,
        Monitor {
            migration: "colo",
            ..Monitor::default()
        },
    );
    let mut own = comparator("net_vhost");
    own.extend(["--hold-frames".into(), HOLD.to_string()]);
    own.extend(["--qmp".into(), path.to_str().unwrap().to_owned()]);
    let node = Node::start(&sockets.backends(), &own);
    qemu.wait_for_client();
    let mut frames = Script::new(&sockets.paths());
    for port in [PRIMARY, SECONDARY, OUT] {
        frames.start(port);
    }

    let flood = |from: u32| -> Vec<Vec<u8>> {
        let numbers = from..from + FLOOD;
        numbers.map(|n| Flow::v4(1).udp(&n.to_be_bytes())).collect()
    };
    let first = flood(0);
    for frame in &first {
        frames.post(PRIMARY, frame);
    }
    let full = |stats: &Value| stats["divergences"]["flow_hold"] == 1;
    let stats = node.wait_for("half of the hold to be one flow's", full);
    assert!(stats["held"].as_u64() <= Some(HOLD), "{stats:#}");
    qemu.wait_for_requests(1);

    // The SVM catches up: all leave, in order.
    for frame in &first {
        frames.post(SECONDARY, frame);
    }
    for frame in &first {
        assert_eq!(&frames.receive(OUT), frame);
    }

    // The SVM sends nothing at all: checkpoint after checkpoint lets out what is held.
    let second = flood(FLOOD);
    for frame in &second {
        frames.post(PRIMARY, frame);
    }
    let (mut left, mut checkpoints) = (second.iter().peekable(), 0u64);
    while left.peek().is_some() {
        let stats = node.wait_for("frames to be held", |stats| {
            stats["held"].as_u64() > Some(0)
        });
        assert!(stats["held"].as_u64() <= Some(HOLD), "{stats:#}");
        qemu.stopped();
        node.wait_for("the stop", |stats| stats["state"] == "checkpointing");
        let held = node.stats()["held"].as_u64().expect("a number");
        qemu.pass();
        qemu.resumed();
        checkpoints += 1;
        for frame in left.by_ref().take(held as usize) {
            assert_eq!(&frames.receive(OUT), frame);
        }
    }
    println!("{checkpoints} checkpoints let {FLOOD} frames out");
    drop(frames);
    let ended = node.stop();
    let summary = ended.summary();
    assert_eq!(summary["released"], 2 * FLOOD);
    assert_eq!(summary["held"], 0);
    assert!(summary["held_max"].as_u64() <= Some(HOLD), "{summary:#}");
    assert_eq!(summary["checkpoints"]["committed"], checkpoints);
}
