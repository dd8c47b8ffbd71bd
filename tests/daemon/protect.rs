//! `protect`: two nodes set COLO up by their own monitors, on one order.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::{self, Node, PATIENCE};
use crate::pair::{Pair, Plan};

/// Where the secondary's QEMU is to listen; nobody does in this test.
const LISTEN: &str = "192.0.2.2:9998";

/// The reply to a request at a node's control socket.
fn ask(node: &Node, command: &'static str) -> JoinHandle<Value> {
    let path = node::runtime_dir(&node.prefix()).join("colo-control.sock");
    let mut stream = UnixStream::connect(path).expect("a node listens");
    let patience = Some(PATIENCE * 3);
    stream.set_read_timeout(patience).expect("a time");
    thread::spawn(move || {
        let request = json!({"id": 1, "command": command});
        writeln!(stream, "{request}").expect("it is read");
        let mut lines = BufReader::new(stream).lines();
        lines.next().expect("a greeting").expect("text");
        let reply = lines.next().expect("a reply").expect("text");
        serde_json::from_str(&reply).expect("JSON")
    })
}

fn reply(node: &Node, command: &'static str) -> Value {
    ask(node, command).join().expect("the client's thread")
}

/// The message of the error that ordering protection gets, which has this class.
fn refused(node: &Node, class: &str) -> String {
    let reply = reply(node, "protect");
    assert_eq!(reply["error"]["class"], class, "{reply}");
    let message = reply["error"]["message"].as_str();
    message.expect("a message").to_owned()
}

fn wait_for_step(node: &Node, step: &str) {
    let since = Instant::now();
    loop {
        let status = reply(node, "status");
        let pair = &status["return"]["pairs"][0];
        if pair["protect"]["step"] == step {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{pair:#}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_order_makes_a_pair() {
    let _turn = node::beside_others();
    let mut pair = Pair::with(Plan {
        of_secondary: &["--migrate-listen", LISTEN],
        ..Plan::default()
    });
    let follows = refused(&pair.secondary, "refused");
    assert!(follows.contains("at the other node"), "{follows}");
    // A VM that has run is not overwritten.
    let runs = refused(&pair.primary, "failed");
    assert!(runs.contains("-incoming defer"), "{runs}");
    assert!(runs.contains("the secondary's node refuses"), "{runs}");

    // A transfer that somebody cancels.
    pair.svm.waits_for_a_state();
    let ordered = ask(&pair.primary, "protect");
    pair.pvm.wait_for_command("migrate");
    wait_for_step(&pair.primary, "moves_state");
    wait_for_step(&pair.secondary, "moves_state");
    pair.pvm.migration("cancelled");
    let failed = ordered.join().expect("the client's thread");
    let message = failed["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("is cancelled"), "{failed}");
    pair.secondary
        .wait_for_line("the primary's node has given up");

    pair.pvm.migration("none");
    let ordered = ask(&pair.primary, "protect");
    wait_for_step(&pair.primary, "moves_state");
    assert!(!ordered.is_finished(), "QEMU is not in COLO yet");
    pair.enter_colo();
    let done = ordered.join().expect("the client's thread");
    assert_eq!(done["return"]["pairs"]["vm0"]["protected"], true, "{done}");
    let uri = json!({"uri": format!("tcp:{LISTEN}")});
    for (qemu, command, count) in [
        (&pair.svm, "migrate-incoming", 2),
        (&pair.pvm, "migrate", 2),
    ] {
        let all = qemu.commands();
        let given: Vec<_> = all.iter().filter(|it| it["execute"] == command).collect();
        assert_eq!(given.len(), count, "{given:?}");
        assert!(given.iter().all(|it| it["arguments"] == uri), "{given:?}");
    }
    let again = refused(&pair.primary, "refused");
    assert!(again.contains("protected already"), "{again}");
    let status = reply(&pair.primary, "status");
    assert_eq!(status["return"]["pairs"][0]["protect"], Value::Null);
    pair.end();
}
