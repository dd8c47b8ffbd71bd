//! A planned move of the lead over the control socket: who is silent when, and what each QEMU is given.

use std::thread;

use serde_json::json;

use crate::control::{Client, asks};
use crate::failover::fail_over_svm;
use crate::frames::Flow;
use crate::node::{self, Node};
use crate::pair::{A_WHILE, NETWORK, PVM, Pair};

/// The place of a command among those that a monitor has got.
fn place(commands: &[serde_json::Value], name: &str) -> usize {
    let place = commands.iter().position(|it| it["execute"] == name);
    place.unwrap_or_else(|| panic!("{name} was not given"))
}

#[test]
fn the_lead_moves_and_the_old_primary_stays_silent_though_it_is_started_again() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let mut old = Client::of(&pair.primary);
    let mut new = Client::of(&pair.secondary);
    let refused = new.error("switchover", json!({}), "refused");
    assert!(refused.contains("at the other node"), "{refused}");
    new.wait_for("a state", |pair| pair["promotable"] == true);
    let order = asks(&pair.primary, "switchover", json!({}));
    pair.svm.wait_for_command("x-colo-lost-heartbeat");
    let commands = pair.svm.commands();
    assert!(
        place(&commands, "nbd-server-stop") < place(&commands, "x-colo-lost-heartbeat"),
        "the disk takes nothing more before the VM goes on"
    );
    // The SVM does not lead yet, and nothing leaves any more.
    let status = old.wait_for("the cession", |pair| pair["ceded"] == true);
    assert_eq!(
        (&status["role"], &status["orders"][0]["order"]),
        (&json!("superseded"), &json!("switchover")),
        "{status:#}"
    );
    pair.frames.send(PVM, &Flow::v4(3).udp(b"too late"));
    pair.frames.silent(NETWORK, A_WHILE);
    let refused = old.error("failover", json!({"fenced": true}), "refused");
    assert!(refused.contains("the peer is heard"), "{refused}");
    let gives_quit = |pair: &Pair| pair.pvm.commands().iter().any(|it| it["execute"] == "quit");
    assert!(!gives_quit(&pair), "its VM may be needed yet");
    assert!(!order.is_finished());
    fail_over_svm(&mut pair);
    new.done("wait", json!({"for": "leads", "timeout": 20}));
    pair.pvm.wait_for_command("quit");
    pair.pvm.hang_up();
    let reply = order.join().expect("the client's thread");
    let moved = &reply["return"]["pairs"]["vm0"];
    assert_eq!(moved["moved"], true, "{reply}");
    // The figures follow the reply.
    old.wait_for("the end of it", |pair| pair["ceded"] == false);
    // A node in its place has read what it wrote.
    let words = pair.primary_words.clone();
    pair.frames.stop(PVM);
    pair.frames.stop(NETWORK);
    let prefix = pair.primary.crash();
    pair.primary = Node::start_at(prefix, node::usual_cores(), &words);
    pair.frames.start(PVM);
    pair.frames.start(NETWORK);
    pair.primary.wait_for_line("has given up its lead");
    let mut old = Client::of(&pair.primary);
    old.wait_for("the silence", |pair| pair["role"] == "superseded");
    pair.frames.send(PVM, &Flow::v4(3).udp(b"too late"));
    pair.frames.silent(NETWORK, A_WHILE);
    thread::sleep(A_WHILE);
    assert_eq!(new.pair()["role"], "primary");
}
