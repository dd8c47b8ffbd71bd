//! The end of a protection over the control sockets: who gives up what before whom, and that nobody is fenced for it.

use rustix::process::Signal;
use serde_json::json;

use crate::control::{Client, asks};
use crate::frames::Flow;
use crate::node::{self, Node};
use crate::pair::{A_WHILE, ELSEWHERE, NETWORK, PVM, Pair, Plan, SVM};

const LOST: &str = "x-colo-lost-heartbeat";

/// How often a VM's QEMU has got a command.
fn times(qemu: &crate::monitor::Qemu, name: &str) -> usize {
    let commands = qemu.commands();
    commands.iter().filter(|it| it["execute"] == name).count()
}

/// The PVM's QEMU leaves COLO, as it does after the failover command.
fn go_on_alone(pair: &mut Pair) {
    pair.pvm.emit(
        "COLO_EXIT",
        "{\"mode\": \"primary\", \"reason\": \"request\"}",
    );
    pair.svm.emit(
        "COLO_EXIT",
        "{\"mode\": \"secondary\", \"reason\": \"error\"}",
    );
    pair.frames.stop(PVM);
    pair.pvm.stopped();
    pair.pvm.migration("completed");
    pair.pvm.resumed();
    pair.frames.start(PVM);
}

#[test]
fn a_secondary_gives_its_vm_up_before_the_primary_s_goes_on_alone() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let flag = dir.path().join("fenced");
    let command = format!("exec:touch {}", flag.display());
    let decides = ["--failover", "auto", "--on-peer-lost", &command];
    let mut pair = Pair::with(Plan {
        of_primary: &decides,
        of_secondary: &decides,
        ..Plan::default()
    });
    let mut primary = Client::of(&pair.primary);
    let mut secondary = Client::of(&pair.secondary);
    let refused = primary.error("unprotect", json!({}), "refused");
    assert!(refused.contains("not protected"), "{refused}");
    pair.enter_colo();
    let refused = secondary.error("unprotect", json!({}), "refused");
    assert!(refused.contains("at the other node"), "{refused}");
    secondary.wait_for("a state", |pair| pair["promotable"] == true);
    // What is held leaves when the VM goes on alone.
    let held = Flow::v4(3).udp(b"held");
    pair.frames.send(PVM, &held);
    pair.primary
        .wait_for("the frame", |stats| stats["held"] == 1);
    let orders = [0; 2].map(|_| asks(&pair.primary, "unprotect", json!({})));
    pair.pvm.wait_for_command(LOST);
    let file = node::runtime_dir(&pair.secondary.prefix()).join("colo-renounced-vm0.json");
    assert!(
        file.exists(),
        "it is written down before anybody acts on it"
    );
    let status = secondary.wait_for("the renunciation", |pair| pair["renounced"] == true);
    assert_eq!(status["promotable"], false, "{status:#}");
    let status = primary.pair();
    assert_eq!(status["orders"][0]["order"], "unprotect", "{status:#}");
    let refused = primary.error("switchover", json!({}), "refused");
    assert!(refused.contains("unprotect"), "{refused}");
    let refused = secondary.error("failover", json!({"fenced": true}), "refused");
    assert!(refused.contains("the peer is heard"), "{refused}");
    assert_eq!(times(&pair.svm, "quit"), 0, "its VM may be needed yet");
    assert!(orders.iter().all(|order| !order.is_finished()));

    go_on_alone(&mut pair);
    assert_eq!(pair.frames.receive(NETWORK), held);
    pair.svm.wait_for_command("quit");
    pair.frames.stop(SVM);
    pair.svm.hang_up();
    for order in orders {
        let reply = order.join().expect("the client's thread");
        let done = &reply["return"]["pairs"]["vm0"];
        assert_eq!(
            (&done["unprotected"], &done["qemu_ended"]),
            (&json!(true), &json!(true)),
            "{reply}"
        );
    }
    primary.wait_for("the end of it", |pair| {
        pair["orders"] == json!([]) && pair["state"] == "pairing"
    });
    let alone = Flow::v4(3).udp(b"alone");
    pair.frames.send(PVM, &alone);
    assert_eq!(pair.frames.receive(NETWORK), alone);

    // Whatever becomes of its QEMU: a node in the place of this one knows that its VM never leads.
    let words = pair.secondary_words.clone();
    pair.frames.stop(ELSEWHERE);
    let prefix = pair.secondary.crash();
    pair.secondary = Node::start_at(prefix, node::usual_cores(), &words);
    pair.frames.start(ELSEWHERE);
    pair.secondary.wait_for_line("has given up this VM");
    pair.svm.stopped();
    pair.svm.migration("completed");
    pair.svm.resumed();
    pair.frames.start(SVM);
    pair.frames.send(SVM, &Flow::v4(4).udp(b"never"));
    pair.frames.silent(ELSEWHERE, A_WHILE);
    assert!(!flag.exists(), "somebody was fenced");
}

#[test]
fn a_primary_that_is_started_again_goes_on_alone_by_itself() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let order = asks(&pair.primary, "unprotect", json!({}));
    pair.pvm.wait_for_command(LOST);
    let words = pair.primary_words.clone();
    pair.frames.stop(PVM);
    pair.frames.stop(NETWORK);
    let prefix = pair.primary.crash();
    drop(order);
    let before = times(&pair.pvm, LOST);
    pair.primary = Node::start_at(prefix, node::usual_cores(), &words);
    pair.frames.start(PVM);
    pair.frames.start(NETWORK);
    pair.primary
        .wait_for_line("the other node has given up its VM");
    let mut primary = Client::of(&pair.primary);
    primary.wait_for("the command", |_| times(&pair.pvm, LOST) > before);
    assert_eq!(times(&pair.svm, "quit"), 0);
    go_on_alone(&mut pair);
    pair.svm.wait_for_command("quit");
    // Another QEMU: nothing of this is left.
    let file = node::runtime_dir(&pair.secondary.prefix()).join("colo-renounced-vm0.json");
    assert!(file.exists());
    pair.frames.stop(SVM);
    pair.svm.migration("none");
    pair.svm.waits_for_a_state();
    pair.svm.hang_up();
    let mut secondary = Client::of(&pair.secondary);
    secondary.wait_for("another QEMU", |pair| pair["renounced"] == false);
    assert!(!file.exists());
}

#[test]
fn a_vm_that_was_given_up_leads_only_by_an_operator_s_word() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let order = asks(&pair.primary, "unprotect", json!({}));
    pair.pvm.wait_for_command(LOST);
    // The primary's host is lost before its VM goes on.
    pair.frames.stop(PVM);
    pair.primary.signal(Signal::KILL);
    drop(order);
    let mut secondary = Client::of(&pair.secondary);
    let status = secondary.wait_for("the loss", |pair| pair["state"] == "peer_lost");
    assert_eq!(
        (&status["promotable"], &status["renounced"]),
        (&json!(false), &json!(true)),
        "{status:#}"
    );
    let todo = status["todo"].as_str().expect("a text");
    assert!(todo.contains("failover --fenced"), "{status:#}");
    let refused = secondary.error("failover", json!({}), "refused");
    assert!(refused.contains("unprotect"), "{refused}");
    assert_eq!(times(&pair.svm, LOST), 0);
    let done = secondary.done("failover", json!({"fenced": true}));
    assert_eq!(done["pairs"]["vm0"]["accepted"], true, "{done}");
    pair.frames.stop(SVM);
    pair.svm.stopped();
    pair.svm.migration("completed");
    pair.svm.resumed();
    pair.frames.start_slowly(SVM);
    secondary.done("wait", json!({"for": "leads", "timeout": 20}));
    let file = node::runtime_dir(&pair.secondary.prefix()).join("colo-renounced-vm0.json");
    assert!(!file.exists());
}
