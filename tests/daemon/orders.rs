//! Orders over the control socket that meet something else: another order, a QEMU that does not answer, another VM that
//! goes on.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::control::{Client, asks};
use crate::failover::fail_over_svm;
use crate::node::{self, Node};
use crate::pair::{Key, NETWORK, PVM, Pair, Plan};

/// Long enough for an order to be begun.
const A_WHILE: Duration = Duration::from_millis(300);

/// How often a command of this name has come to the SVM's monitor.
fn times(pair: &Pair, name: &str) -> usize {
    let commands = pair.svm.commands();
    commands.iter().filter(|it| it["execute"] == name).count()
}

#[test]
fn a_second_failover_joins_the_first_and_fences_nobody_again() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("fenced");
    let command = format!("exec:echo $$ >> {}", log.display());
    let mut pair = Pair::with(Plan {
        of_secondary: &["--on-peer-lost", &command],
        ..Plan::default()
    });
    pair.enter_colo();
    let mut client = Client::of(&pair.secondary);
    // What somebody has to act on is said at each level.
    client.done("set", json!({"name": "log-level", "value": "error"}));
    pair.frames.stop(PVM);
    pair.primary.signal(Signal::KILL);
    client.wait_for("the loss", |pair| pair["state"] == "peer_lost");
    pair.svm.hang(true);
    let first = asks(&pair.secondary, "failover", json!({}));
    pair.svm.wait_for_command("x-colo-lost-heartbeat");
    let more = [false, true].map(|fenced| {
        let arguments = json!({"fenced": fenced});
        asks(&pair.secondary, "failover", arguments)
    });
    thread::sleep(A_WHILE);
    let runs = fs::read_to_string(&log)
        .expect("it has run")
        .lines()
        .count();
    assert_eq!((runs, times(&pair, "x-colo-lost-heartbeat")), (1, 1));
    let orders = client.pair()["orders"].take();
    assert_eq!(
        (&orders[0]["order"], &orders[0]["timed_out"]),
        (&json!("failover"), &json!(false)),
        "{orders:#}"
    );
    assert!(!first.is_finished(), "QEMU has not answered");
    pair.svm.hang(false);
    for order in [first].into_iter().chain(more) {
        let reply = order.join().expect("the client's thread");
        assert_eq!(reply["return"]["pairs"]["vm0"]["accepted"], true, "{reply}");
    }
    client.wait_for("the end of the order", |pair| pair["orders"] == json!([]));
    let own = format!("pid {}", std::process::id());
    pair.secondary.wait_for_line(&own);
    let said = pair.secondary.stderr();
    for line in [
        "peer_lost, epoch 1: the SVM stays silent",
        "the peer is lost; running",
        "failover is ordered",
    ] {
        assert!(said.contains(line), "no line with {line:?} in {said}");
    }
}

#[test]
fn a_state_alone_makes_no_loss_certain() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let flag = dir.path().join("fenced");
    let command = format!("exec:touch {}", flag.display());
    let mut plan = Plan {
        of_primary: &["--on-peer-lost", &command],
        // The nodes do not find each other.
        meets: false,
        ..Plan::default()
    };
    plan.keys[1] = Key::Own("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
    let pair = Pair::with(plan);
    pair.pvm.migration("colo");
    let mut client = Client::of(&pair.primary);
    client.wait_for("COLO", |pair| pair["monitor"]["migration"] == "colo");
    let status = client.pair();
    assert_eq!(status["state"], "solo", "{status:#}");
    let refused = client.error("failover", json!({}), "refused");
    assert!(
        refused.contains("does not take its peer for lost"),
        "{refused}"
    );
    let commands = pair.pvm.commands();
    assert!(
        commands
            .iter()
            .all(|it| it["execute"] != "x-colo-lost-heartbeat")
    );
    assert!(!flag.exists());
}

#[test]
fn a_primary_that_another_vm_has_replaced_says_so_and_takes_no_order() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let mut old = Client::of(&pair.primary);
    let mut new = Client::of(&pair.secondary);
    // Somebody gives the command to a VM whose peer lives.
    fail_over_svm(&mut pair);
    new.done("wait", json!({"for": "leads", "timeout": 20}));
    let status = old.wait_for("the news", |pair| pair["role"] == "superseded");
    assert_eq!(
        (&status["state"], &status["promotable"]),
        (&json!("peer_lost"), &json!(false)),
        "{status:#}"
    );
    for key in ["why", "todo"] {
        let text = status[key].as_str().expect("a text");
        assert!(text.contains("another VM goes on"), "{status:#}");
    }
    pair.primary
        .wait_for_line("another VM goes on in this one's place");
    for (command, arguments) in [
        ("failover", json!({"fenced": true})),
        ("checkpoint", json!({})),
        ("maintenance", json!({"mode": "on"})),
    ] {
        old.error(command, arguments, "refused");
    }
    old.error("wait", json!({"for": "leads", "timeout": 0}), "timeout");
    assert_eq!(new.pair()["role"], "primary");
}

#[test]
fn a_secondary_may_be_promoted_once_a_checkpoint_covers_what_it_knows() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let mut client = Client::of(&pair.secondary);
    client.wait_for("a state", |pair| pair["promotable"] == true);
    let words = pair.primary_words.clone();
    pair.frames.stop(PVM);
    pair.frames.stop(NETWORK);
    let prefix = pair.primary.crash();
    let lost = client.wait_for("the loss", |pair| pair["state"] == "peer_lost");
    assert_eq!(lost["promotable"], true, "{lost:#}");
    // Another node of the primary's: nobody knows what has left before it came.
    pair.primary = Node::start_at(prefix, node::usual_cores(), &words);
    pair.frames.start(PVM);
    pair.frames.start(NETWORK);
    let doubted = client.wait_for("the doubt", |pair| {
        pair["peer"]["heard"] == true && pair["promotable"] == false
    });
    let why = doubted["promotable_why"].as_str().expect("a text");
    assert!(why.contains("no checkpoint was committed"), "{why}");
    pair.pvm.wait_for_requests(1);
    pair.checkpoint();
    client.wait_for("a checkpoint", |pair| pair["promotable"] == true);
}

#[test]
fn a_checkpoint_that_is_never_taken_keeps_no_other_one_waiting() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let ended = |order: thread::JoinHandle<serde_json::Value>, says: &str| {
        let since = Instant::now();
        while !order.is_finished() {
            assert!(
                since.elapsed() < Duration::from_secs(10),
                "it waits: {says}"
            );
            thread::sleep(Duration::from_millis(10));
        }
        let reply = order.join().expect("the client's thread");
        let message = reply["error"]["message"].as_str().expect("an error");
        assert!(message.contains(says), "{message}");
    };
    // QEMU accepts it and takes none, and then COLO ends.
    let order = asks(&pair.primary, "checkpoint", json!({}));
    let mut client = Client::of(&pair.primary);
    client.wait_for("the order", |pair| {
        pair["orders"][0]["waits_for"] == "the event STOP"
    });
    pair.pvm.emit(
        "COLO_EXIT",
        "{\"mode\": \"primary\", \"reason\": \"error\"}",
    );
    ended(order, "COLO has ended");
    assert_eq!(
        client.wait_for("none", |pair| pair["orders"] == json!([]))["orders"],
        json!([])
    );
}
