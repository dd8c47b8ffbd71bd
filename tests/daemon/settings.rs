//! Settings that change while the node runs.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::control::Client;
use crate::frames::Flow;
use crate::node::{self, Node, eal_options, prefix};
use crate::pair::{PVM, Pair, Plan};

/// How long a frame of the PVM's without a counterpart waits until a checkpoint is asked for, about.
fn timeout(pair: &mut Pair, flow: u16) -> Duration {
    let before = pair.pvm.requests().len();
    let since = Instant::now();
    pair.frames
        .send(PVM, &Flow::v4(flow).data(1000, 1, b"alone"));
    pair.pvm.wait_for_requests(before + 1);
    let waited = since.elapsed();
    pair.checkpoint();
    waited
}

#[test]
fn a_compare_timeout_that_is_set_holds_from_then_on_for_every_core() {
    let _turn = node::beside_others();
    let mut pair = Pair::with(Plan {
        cores: 2,
        of_primary: &["--compare-timeout", "20000"],
        ..Plan::default()
    });
    pair.enter_colo();
    let mut client = Client::of(&pair.primary);
    assert_eq!(client.pair()["parameters"]["compare_timeout_ms"], 20_000);
    let done = client.done("set", json!({"name": "compare-timeout", "value": "200"}));
    assert_eq!(done["pairs"]["vm0"]["compare_timeout_ms"], 200, "{done}");
    assert_eq!(client.pair()["parameters"]["compare_timeout_ms"], 200);
    // Flows of both cores.
    for flow in 1..=6 {
        let waited = timeout(&mut pair, flow);
        assert!(waited < Duration::from_secs(10), "flow {flow}: {waited:?}");
        assert!(
            waited >= Duration::from_millis(150),
            "flow {flow}: {waited:?}"
        );
    }
}

#[test]
fn sighup_applies_all_that_the_configuration_changes_or_nothing() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("colo.toml");
    let write = |more: &str| {
        let text = format!(
            "[[pair]]\nname = \"a\"\nrole = \"compare\"\nprimary-in = \"net_null0\"\nsecondary-in = \"net_null1\"\n\
             out = \"net_null2\"\n{more}\n"
        );
        fs::write(&path, text).expect("a file");
    };
    write("compare-timeout = 4000");
    let prefix = prefix();
    let mut words = eal_options(&prefix, 2);
    let devices = [
        "net_null0,no-rx=1",
        "net_null1,no-rx=1",
        "net_null2,no-rx=1",
    ];
    words.extend(devices.map(|device| format!("--vdev={device}")));
    words.extend(["--", "--idle-sleep", "1000", "--config"].map(str::to_owned));
    words.push(path.to_str().expect("a plain path").to_owned());
    let mut node = Node::spawn(prefix, words, false);
    node.wait_for_line("ready");
    let mut client = Client::of(&node);
    let mut hang_up = |more: &str, says: &str, timeout: u64| {
        write(more);
        node.signal(Signal::HUP);
        node.wait_for_line(says);
        client.wait_for(says, |pair| {
            pair["parameters"]["compare_timeout_ms"] == timeout
        });
    };
    hang_up(
        "compare-timeout = 5000",
        "compare-timeout is 5000 ms now",
        5000,
    );
    hang_up(
        "compare-timeout = 6000\nflows = 64",
        "needs a restart of the node: flows of pair a",
        5000,
    );
    hang_up(
        "compare-timeout = 6000\ncolour = 1",
        "cannot be read again, and nothing is changed",
        5000,
    );
    hang_up(
        "compare-timeout = 6000",
        "compare-timeout is 6000 ms now",
        6000,
    );
    node.stop();
}
