//! Takeovers, survivors and restarts of nodes, without any QEMU.
//!
//! The order of events is QEMU's (`colo_do_failover` in migration/colo.c): the VM stops, its
//! migration completes, it runs again.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::frames::{Flow, ack_of, seq_of};
use crate::node::{self, Node};
use crate::pair::{A_WHILE, ELSEWHERE, LINK_SILENCE, NETWORK, PVM, Pair, Plan, SVM};

const CLIENT: u32 = 7_000;
const P: u32 = u32::MAX - 3;
const S: u32 = 1_000_000;

/// A connection that the client opened under protection, with numbers of its own in each VM.
fn open(pair: &mut Pair, flow: &Flow) {
    let client = flow.clone().reversed();
    let syn = client.syn(CLIENT, None);
    pair.frames.send(NETWORK, &syn);
    for vm in [PVM, SVM] {
        assert_eq!(pair.frames.receive(vm), syn);
    }
    let opened = flow.syn(P, Some(CLIENT + 1));
    pair.frames.send(PVM, &opened);
    pair.frames.send(SVM, &flow.syn(S, Some(CLIENT + 1)));
    assert_eq!(pair.frames.receive(NETWORK), opened);
}

/// The SVM's QEMU gets the failover command. The VM's driver fills its ring late, as on a machine that is busy.
pub fn fail_over_svm(pair: &mut Pair) {
    pair.svm.emit(
        "COLO_EXIT",
        "{\"mode\": \"secondary\", \"reason\": \"error\"}",
    );
    pair.frames.stop(SVM);
    pair.svm.stopped();
    pair.svm.migration("completed");
    pair.svm.resumed();
    pair.frames.start_slowly(SVM);
}

/// The next frame at a port that is no announcement.
fn next(pair: &mut Pair, port: usize) -> Vec<u8> {
    loop {
        let frame = pair.frames.receive(port);
        let ether_type = u16::from_be_bytes([frame[12], frame[13]]);
        if ether_type != 0x0806 && ether_type != 0x8035 {
            return frame;
        }
    }
}

#[test]
fn a_secondary_takes_over_and_its_node_may_restart() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let flow = Flow::v4(1);
    let client = flow.clone().reversed();
    open(&mut pair, &flow);
    // The VM is heard of by ARP.
    let mut arp = vec![0xff; 6];
    arp.extend([
        2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 9,
    ]);
    arp.resize(60, 0);
    pair.frames.send(SVM, &arp);
    // Before the takeover the secondary's uplink is deaf and dumb.
    let stray = Flow::v4(9).udp(b"stray");
    pair.frames.send(ELSEWHERE, &stray);
    pair.frames
        .send(SVM, &flow.data(S + 1, CLIENT + 1, b"lost"));
    pair.frames.silent(ELSEWHERE, A_WHILE);
    pair.secondary.wait_for("ignored input", |stats| {
        stats["input"]["ignored"] == 1 && stats["peer"]["taken_over"] == 0
    });
    pair.frames.silent(SVM, Duration::ZERO);

    // The primary's host dies, and the network does not know where the VM is.
    pair.frames.stop(PVM);
    let Pair { primary, .. } = &pair;
    primary.signal(rustix::process::Signal::KILL);
    pair.secondary.wait_for("the primary's silence", |stats| {
        stats["peer"]["silence_ms"].as_u64() >= Some(50)
    });
    let unserved = Flow::v4(9).udp(b"unserved");
    pair.frames.send(ELSEWHERE, &unserved);
    pair.frames.silent(SVM, A_WHILE);
    let commanded = Instant::now();
    fail_over_svm(&mut pair);
    let announced = pair.frames.receive(ELSEWHERE);
    println!(
        "the first announcement left {:?} after the command",
        commanded.elapsed()
    );
    assert_eq!(announced[6..12], [2, 0, 0, 0, 0, 1]);
    pair.secondary
        .wait_for("the takeover", |stats| stats["peer"]["taken_over"] == 1);
    assert_eq!(pair.frames.receive(SVM), unserved);

    // The node sends the lost segment again by itself, and asks the client to retransmit.
    let again = flow.data(S + 1, CLIENT + 1, b"lost");
    let heard = next(&mut pair, ELSEWHERE);
    assert_eq!(
        (seq_of(&heard), ack_of(&heard)),
        (P.wrapping_add(1), CLIENT + 1)
    );
    for _ in 0..3 {
        let reminder = next(&mut pair, ELSEWHERE);
        let (ip, quote) = (&reminder[14..34], &reminder[42..]);
        assert_eq!((ip[9], &reminder[34..36]), (1, &[3, 1][..]));
        assert_eq!(quote[24..28], (CLIENT + 1).to_be_bytes());
    }
    // The client's connection goes on in the numbers that it knows.
    pair.frames.send(SVM, &again);
    assert_eq!(seq_of(&next(&mut pair, ELSEWHERE)), P.wrapping_add(1));
    let request = client.data(CLIENT + 1, P.wrapping_add(5), b"request");
    pair.frames.send(ELSEWHERE, &request);
    let got = pair.frames.receive(SVM);
    assert_eq!((seq_of(&got), ack_of(&got)), (CLIENT + 1, S + 5));

    // The node dies and is started again with the same words: the connection goes on.
    let prefix = node::runtime_dir(&pair.secondary.prefix());
    let saved = prefix.join("colo-offsets-vm0.json");
    pair.secondary.wait_for("the file", |_| saved.exists());
    let words = pair.secondary_words.clone();
    pair.frames.stop(SVM);
    pair.frames.stop(ELSEWHERE);
    let killed = Instant::now();
    let prefix = pair.secondary.crash();
    pair.secondary = Node::start_at(prefix, node::usual_cores(), &words);
    pair.frames.start(SVM);
    pair.frames.start(ELSEWHERE);
    pair.frames.send(SVM, &again);
    let heard = next(&mut pair, ELSEWHERE);
    println!("the node was away for {:?}", killed.elapsed());
    assert_eq!(seq_of(&heard), P.wrapping_add(1));
    let summary = pair.secondary.stop();
    assert_eq!(summary.summary()["peer"]["taken_over"], 1);
    fs::metadata(saved).expect_err("the prefix was cleaned up");
}

#[test]
fn a_partition_makes_both_hold() {
    let _turn = node::beside_others();
    let heartbeat = ["--heartbeat", "10", "--heartbeat-loss", "20"];
    let mut pair = Pair::with(Plan {
        of_primary: &heartbeat,
        of_secondary: &heartbeat,
        ..Plan::default()
    });
    pair.enter_colo();
    let flow = Flow::v4(1);
    pair.agree(&flow.data(100, 1, b"both"));
    // The secondary's node is frozen: to the primary that is a link that carries nothing.
    pair.secondary.signal(rustix::process::Signal::STOP);
    let held = flow.data(104, 1, b"held");
    pair.frames.send(PVM, &held);
    pair.frames.silent(NETWORK, LINK_SILENCE);
    pair.primary
        .wait_for("the loss", |stats| stats["state"] == "peer_lost");
    pair.secondary.signal(rustix::process::Signal::CONT);
    pair.primary
        .wait_for("the link", |stats| stats["state"] == "uncertain");
    pair.frames.silent(NETWORK, A_WHILE);
    pair.frames.silent(ELSEWHERE, Duration::ZERO);
    pair.pvm.wait_for_requests(1);
    pair.checkpoint();
    assert_eq!(pair.frames.receive(NETWORK), held);
    pair.wait_for_epoch(2);
    pair.agree(&flow.data(108, 1, b"again"));
    pair.end();
}

#[test]
fn a_fencing_command_decides_and_qemu_gets_the_failover_command() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let flag = dir.path().join("fenced");
    // The first attempt fails.
    let command = format!(
        "exec:ls /proc/self/fd > {0}.open; \
         test -e {0} && echo $COLO_ROLE $COLO_PAIR > {0}.done || {{ touch {0}; exit 1; }}",
        flag.display()
    );
    let mut pair = Pair::with(Plan {
        of_primary: &["--on-peer-lost", &command, "--failover", "auto"],
        ..Plan::default()
    });
    pair.enter_colo();
    let flow = Flow::v4(1);
    let held = flow.data(104, 1, b"held");
    pair.frames.send(PVM, &held);
    pair.secondary.signal(rustix::process::Signal::KILL);
    pair.frames.silent(NETWORK, LINK_SILENCE);
    assert_eq!(
        pair.frames.receive(NETWORK),
        held,
        "after the second attempt"
    );
    let said = fs::read_to_string(flag.with_extension("done")).expect("it succeeded");
    assert_eq!(said.trim(), "primary vm0");
    // Of the descriptors of a node it has the standard ones; the last is the directory that is listed.
    let open = fs::read_to_string(flag.with_extension("open")).expect("it ran");
    assert_eq!(
        open.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    pair.pvm.wait_for_command("x-colo-lost-heartbeat");
    pair.frames.stop(PVM);
    pair.pvm.stopped();
    pair.pvm.migration("completed");
    pair.pvm.resumed();
    pair.frames.start(PVM);
    let alone = flow.data(120, 1, b"alone");
    pair.frames.send(PVM, &alone);
    assert_eq!(pair.frames.receive(NETWORK), alone);
    drop(pair.frames);
    let ended = pair.primary.stop();
    assert_eq!(ended.summary()["held"], 0);
    assert!(
        ended.stderr.contains("nothing is certain, trying again"),
        "{}",
        ended.stderr
    );
}

/// The commands that the PVM's monitor got after the loss: each one's verb and arguments.
fn loss_commands(pair: &Pair) -> Vec<(String, Value)> {
    let mut commands = Vec::new();
    for command in pair.pvm.commands() {
        for verb in ["execute", "exec-oob"] {
            if command[verb] == "yank" || command[verb] == "x-colo-lost-heartbeat" {
                commands.push((
                    format!("{verb} {}", command[verb]),
                    command["arguments"].clone(),
                ));
            }
        }
    }
    commands
}

/// The secondary's host vanishes, and the first attempt to fence it fails; the monitor gets the failover command at last.
fn lose_secondary(oob: bool, hangs: bool) -> (Pair, Vec<(String, Value)>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (tried, down) = (dir.path().join("tried"), dir.path().join("down"));
    let command = format!("exec:touch {}; test -e {}", tried.display(), down.display());
    let mut pair = Pair::with(Plan {
        of_primary: &["--on-peer-lost", &command, "--failover", "auto"],
        oob,
        ..Plan::default()
    });
    pair.enter_colo();
    if hangs {
        pair.pvm.hang_in_band();
    }
    pair.secondary.signal(rustix::process::Signal::KILL);
    pair.primary.wait_for("an attempt", |_| tried.exists());
    pair.frames.silent(NETWORK, A_WHILE);
    assert!(loss_commands(&pair).is_empty(), "nothing is certain yet");
    fs::write(&down, "").expect("a file");
    pair.pvm.wait_for_command("x-colo-lost-heartbeat");
    let commands = loss_commands(&pair);
    (pair, commands)
}

#[test]
fn qemu_that_waits_for_a_lost_peer_is_freed_before_the_failover_command() {
    let _turn = node::beside_others();
    let (mut pair, commands) = lose_secondary(true, true);
    let migration = json!({"instances": [{"type": "migration"}]});
    assert_eq!(
        commands[..2],
        [
            ("exec-oob \"yank\"".to_owned(), migration),
            ("execute \"x-colo-lost-heartbeat\"".to_owned(), Value::Null),
        ]
    );
    pair.frames.stop(PVM);
    pair.pvm.stopped();
    pair.pvm.migration("completed");
    pair.pvm.resumed();
    pair.frames.start(PVM);
    let alone = Flow::v4(1).data(120, 1, b"alone");
    pair.frames.send(PVM, &alone);
    assert_eq!(pair.frames.receive(NETWORK), alone);
    drop(pair.frames);
    let ended = pair.primary.stop();
    assert!(
        ended
            .stderr
            .contains("QEMU has cut the migration connection"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_monitor_without_oob_gets_the_failover_command_alone() {
    let _turn = node::beside_others();
    let (pair, commands) = lose_secondary(false, false);
    assert_eq!(
        commands[0],
        ("execute \"x-colo-lost-heartbeat\"".to_owned(), Value::Null)
    );
    assert!(
        commands.iter().all(|(name, _)| !name.contains("yank")),
        "{commands:?}"
    );
    drop(pair.frames);
    pair.primary.stop();
}

#[test]
fn a_vm_that_took_over_a_state_without_a_link_gets_one() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    pair.frames.stop(SVM);
    pair.svm.stopped();
    pair.svm.migration("completed");
    pair.svm.resumed();
    pair.svm.wait_for_command("set_link");
    pair.frames.start(SVM);
    let flow = Flow::v4(1);
    let alone = flow.data(100, 1, b"alone");
    pair.frames.send(SVM, &alone);
    assert_eq!(next(&mut pair, ELSEWHERE), alone);
    pair.end();
}

#[test]
fn a_primary_that_is_started_again_lets_nothing_out_before_a_checkpoint() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let flow = Flow::v4(1);
    pair.agree(&flow.data(100, 1, b"both"));
    pair.frames.send(PVM, &flow.data(104, 1, b"gone"));
    pair.primary
        .wait_for("the frame", |stats| stats["held"] == 1);
    let words = pair.primary_words.clone();
    pair.frames.stop(PVM);
    pair.frames.stop(NETWORK);
    let killed = Instant::now();
    let prefix = pair.primary.crash();
    pair.primary = Node::start_at(prefix, node::usual_cores(), &words);
    pair.frames.start(PVM);
    pair.frames.start(NETWORK);
    let again = flow.data(104, 1, b"gone");
    pair.frames.send(PVM, &again);
    pair.frames.silent(NETWORK, A_WHILE);
    let before = pair.pvm.requests().len();
    pair.pvm.wait_for_requests(before.max(1));
    pair.checkpoint();
    assert_eq!(pair.frames.receive(NETWORK), again);
    println!(
        "the node was away, and a checkpoint later it released, {:?}",
        killed.elapsed()
    );
    pair.end();
}
