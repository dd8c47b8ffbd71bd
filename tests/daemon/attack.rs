//! An attacker who can read and send frames on the link, and has no key. Against nodes with a key, nothing that it does
//! changes the output, the lead or the peer's state. Against nodes that trust their link, each attack works.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::frames::Flow;
use crate::node::{self, Node, vhost};
use crate::pair::{
    A_WHILE, Key, LINK_OF_PRIMARY, LINK_OF_SECONDARY, LINK_OF_THIRD, NETWORK, PVM, Pair, Plan, SVM,
};

/// Bytes that a seal puts in front of a frame, and where its number and its tag are.
const SEAL: usize = 46;
const NUMBER: usize = 22;
const TAG: usize = 30;
/// Fields of a frame below the seal.
const KIND: usize = 17;
/// Kinds but for a heartbeat's, which is 0.
const IS_DATA: u8 = 3;
const IS_CONTROL: u8 = 5;
const CHECKSUM: usize = 20;
const BOOT: usize = 22;
const EPOCH: usize = 30;
const DATA: usize = 34;
const CONTROL: usize = 38;
const LENGTH: usize = 50;
const PAYLOAD: usize = 58;
/// What follows a heartbeat's header: the mark that its sender wants back, and the one that it returns.
const MARK: std::ops::Range<usize> = PAYLOAD..PAYLOAD + 8;
const ECHO: std::ops::Range<usize> = PAYLOAD + 8..PAYLOAD + 16;
/// Messages.
const EPOCH_MESSAGE: u8 = 1;
const LEADS: u8 = 5;
const LOADED: u8 = 9;

/// Another pair's key.
const OTHER: &str = "00000000000000000000000000000000000000000000000000000000000000aa\n";

/// `colo-traffic` carries the link, and carries nothing while it starts or stops a port, which takes seconds on a machine
/// that is short of CPU. Half of the silence that is a loss lets the nodes begin another session, and the primary holds
/// its output from then on until a checkpoint that no test here takes.
const HEARTBEAT: [&str; 4] = ["--heartbeat", "50", "--heartbeat-loss", "200"];

fn pair(keys: [Key<'_>; 2]) -> Pair {
    Pair::with(Plan {
        segment: true,
        of_primary: &HEARTBEAT,
        of_secondary: &HEARTBEAT,
        keys,
        ..Plan::default()
    })
}

fn is_sealed(frame: &[u8]) -> bool {
    frame[14..16] == [0xc0, 0x5e]
}

fn word(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"))
}

fn put(frame: &mut [u8], at: usize, word: u32) {
    frame[at..at + 4].copy_from_slice(&word.to_be_bytes());
}

/// Makes the checksum right, as anybody can.
fn sum(frame: &mut [u8]) {
    frame[CHECKSUM..CHECKSUM + 2].fill(0);
    let end = match frame[KIND] {
        IS_DATA => PAYLOAD,
        _ => frame.len(),
    };
    let sum: u32 = frame[14..end]
        .chunks(2)
        .map(|word| {
            u32::from(u16::from_be_bytes([
                word[0],
                word.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
    frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
}

impl Pair {
    /// The last heartbeat that came in at a joined port, as it travelled.
    fn heartbeat(&mut self, from: usize) -> Vec<u8> {
        self.frames.look(Duration::from_millis(30));
        let is_one = |frame: &&Vec<u8>| {
            let inner = if is_sealed(frame) {
                frame.get(SEAL..)
            } else {
                Some(&frame[..])
            };
            inner.is_some_and(|inner| inner.len() >= PAYLOAD && inner[14..18] == [0xc0, 0x10, 5, 0])
        };
        let last = self.frames.passed[from].iter().rev().find(is_one);
        last.expect("a heartbeat").clone()
    }

    /// Sends to the other end of the link what looks like a frame from one end, made of its last heartbeat: without
    /// a seal, and with all seals that a stranger can think of.
    fn forge(&mut self, from: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let heartbeat = self.heartbeat(from);
        let sealed = is_sealed(&heartbeat);
        let mut inner = heartbeat[if sealed { SEAL } else { 0 }..].to_vec();
        change(&mut inner);
        sum(&mut inner);
        let to = LINK_OF_PRIMARY + LINK_OF_SECONDARY - from;
        self.frames.post(to, &inner);
        if sealed {
            let seal = &heartbeat[..SEAL];
            let mut later = seal.to_vec();
            let number = word(seal, NUMBER + 4) + 20;
            put(&mut later, NUMBER + 4, number);
            let mut blank = later.clone();
            blank[TAG..].fill(0);
            for seal in [seal, &later[..], &blank[..]] {
                self.frames.post(to, &[seal, &inner].concat());
            }
        }
    }

    /// Forges a message, with each number that it may have to have.
    fn forge_control(&mut self, from: usize, message: u8, number: u32) {
        self.forge_controls(from, message, number, 3);
    }

    fn forge_controls(&mut self, from: usize, message: u8, number: u32, numbers: u32) {
        for ahead in 1..=numbers {
            self.forge(from, |frame| {
                frame.truncate(PAYLOAD);
                frame[KIND] = IS_CONTROL;
                let control = word(frame, CONTROL) + ahead;
                put(frame, CONTROL, control);
                put(frame, LENGTH, 5);
                frame.push(message);
                frame.extend(number.to_be_bytes());
            });
        }
    }

    fn forge_data(&mut self, from: usize, epoch: u32, payload: &[u8]) {
        self.forge(from, |frame| {
            frame.truncate(PAYLOAD);
            frame[KIND] = IS_DATA;
            put(frame, EPOCH, epoch);
            put(frame, LENGTH, payload.len() as u32);
            frame.extend(payload);
        });
    }

    fn forge_restart(&mut self, from: usize, boot: u32) {
        self.forge(from, |frame| {
            put(frame, BOOT, boot);
            put(frame, DATA, 0);
        });
    }
}

#[test]
fn nothing_that_a_stranger_does_to_a_sealed_link_counts() {
    let _turn = node::beside_others();
    let mut pair = pair([Key::Shared; 2]);
    pair.enter_colo();
    let flow = Flow::v4(1);
    let mut at = 100;
    let mut agree = |pair: &mut Pair| {
        pair.agree(&flow.data(at, 1, b"both"));
        at += 4;
    };
    agree(&mut pair);

    // Output that the SVM has not sent, and input that nobody has.
    let other = Flow::v4(2);
    let alone = other.data(500, 1, b"only the PVM");
    pair.frames.send(PVM, &alone);
    pair.forge_data(LINK_OF_SECONDARY, 1, &alone);
    pair.frames.silent(NETWORK, A_WHILE);
    pair.frames.send(SVM, &alone);
    assert_eq!(pair.frames.receive(NETWORK), alone);
    pair.forge_data(LINK_OF_PRIMARY, 1, &Flow::v4(3).udp(b"nobody's"));
    pair.frames.silent(SVM, A_WHILE);
    agree(&mut pair);

    // Who leads, which epoch it is, who was started again: small, large, wrapped.
    for number in [1, 2, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        pair.forge_control(LINK_OF_SECONDARY, LEADS, number);
        pair.forge_control(LINK_OF_PRIMARY, LEADS, number);
        pair.forge_control(LINK_OF_PRIMARY, EPOCH_MESSAGE, number);
        let boots = [LINK_OF_PRIMARY, LINK_OF_SECONDARY].map(|end| (end, pair.heartbeat(end)));
        for (end, heartbeat) in boots {
            let boot = word(&heartbeat[SEAL..], BOOT);
            pair.forge_restart(end, boot.wrapping_add(number));
        }
    }
    agree(&mut pair);

    // A report of a load that was none.
    let held = other.data(512, 1, b"held");
    pair.frames.send(PVM, &held);
    pair.frames.stop(PVM);
    pair.pvm.stopped();
    pair.pvm.pass();
    for epoch in [0, 1, 2] {
        pair.forge_control(LINK_OF_SECONDARY, LOADED, epoch);
    }
    pair.resume();
    for epoch in [0, 1, 2] {
        pair.forge_control(LINK_OF_SECONDARY, LOADED, epoch);
    }
    pair.frames.silent(NETWORK, 2 * A_WHILE);
    pair.checkpoint();
    assert_eq!(pair.frames.receive(NETWORK), held);
    pair.wait_for_epoch(3);
    agree(&mut pair);

    // All that was ever said: to its receiver again, to its sender, garbled, and without its end.
    pair.frames.look(A_WHILE);
    for (end, peer) in [
        (LINK_OF_PRIMARY, LINK_OF_SECONDARY),
        (LINK_OF_SECONDARY, LINK_OF_PRIMARY),
    ] {
        let said = pair.frames.passed[end].clone();
        let recent = said.len().saturating_sub(300);
        for frame in said.iter().take(100).chain(&said[recent..]) {
            pair.frames.post(peer, frame);
            pair.frames.post(end, frame);
        }
        for (n, frame) in said[recent..].iter().enumerate() {
            let mut bad = frame.clone();
            let byte = 16 + n % (bad.len() - 16);
            bad[byte] ^= 1 << (n % 8);
            pair.frames.post(peer, &bad);
            pair.frames.post(peer, &frame[..frame.len() - 1 - n % 30]);
        }
        pair.frames.look(A_WHILE);
        agree(&mut pair);
    }

    for node in [&pair.primary, &pair.secondary] {
        let stats = node.stats();
        assert_eq!(stats["state"], "protected");
        for name in ["link_forged", "link_stale", "link_foreign"] {
            let count = stats["faults"][name].as_u64();
            assert!(count > Some(10), "{name}: {:#}", stats["faults"]);
        }
        let log = node.stderr();
        for line in [
            "no seal",
            "its tag is wrong",
            "of an old session",
            "sent it itself",
        ] {
            assert!(log.contains(line), "no word of {line:?}:\n{log}");
        }
        assert_eq!(stats["link"]["sessions"], 1, "{:#}", stats["link"]);
    }
    assert_eq!(
        pair.primary.stats()["divergences"]["peer_restarted"],
        Value::Null
    );

    // A dead peer stays dead, whatever is said in its name.
    pair.secondary.signal(rustix::process::Signal::KILL);
    let since = Instant::now();
    let mut lost = false;
    while !lost {
        assert!(since.elapsed() < node::PATIENCE, "the dead peer is hidden");
        for frame in pair.frames.passed[LINK_OF_SECONDARY]
            .iter()
            .rev()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
        {
            pair.frames.post(LINK_OF_PRIMARY, &frame);
            pair.frames
                .post(LINK_OF_PRIMARY, &frame[SEAL.min(frame.len())..]);
        }
        pair.forge(LINK_OF_SECONDARY, |_| {});
        lost = pair.primary.stats()["state"] == "peer_lost";
    }
}

#[test]
fn on_a_trusted_link_a_stranger_lets_output_out_and_takes_the_lead() {
    let _turn = node::beside_others();
    let mut pair = pair([Key::None; 2]);
    for node in [&pair.primary, &pair.secondary] {
        assert!(
            node.stderr()
                .contains("--link-key none: anyone who can send"),
            "no warning"
        );
    }
    pair.enter_colo();
    let other = Flow::v4(2);
    let alone = other.data(500, 1, b"only the PVM");
    pair.frames.send(PVM, &alone);
    pair.forge_data(LINK_OF_SECONDARY, 1, &alone);
    assert_eq!(pair.frames.receive(NETWORK), alone, "uncompared");
    let input = Flow::v4(3).udp(b"nobody's");
    pair.forge_data(LINK_OF_PRIMARY, 1, &input);
    assert_eq!(pair.frames.receive(SVM), input);
    // A report of a load: what only the PVM has sent leaves.
    let held = other.data(512, 1, b"held");
    pair.frames.send(PVM, &held);
    pair.frames.stop(PVM);
    pair.pvm.stopped();
    pair.pvm.pass();
    pair.forge_control(LINK_OF_SECONDARY, LOADED, 1);
    pair.resume();
    // The first report may have come before the node had heard of STOP.
    pair.forge_controls(LINK_OF_SECONDARY, LOADED, 1, 9);
    assert_eq!(pair.frames.receive(NETWORK), held, "committed");
    pair.forge_controls(LINK_OF_SECONDARY, LEADS, 1, 20);
    pair.primary
        .wait_for("the end of its lead", |stats| stats["state"] == "peer_lost");
    pair.frames.send(PVM, &other.data(516, 1, b"never"));
    pair.frames.silent(NETWORK, 2 * A_WHILE);
}

#[test]
fn on_a_trusted_link_a_stranger_moves_the_epoch_and_shuts_the_peer_out() {
    let _turn = node::beside_others();
    let mut pair = pair([Key::None; 2]);
    pair.enter_colo();
    pair.forge_control(LINK_OF_PRIMARY, EPOCH_MESSAGE, 9);
    pair.secondary
        .wait_for("another epoch", |stats| stats["epoch"] == 9);
    // The true peer's boot number is older than this one from now on, as after an hour of a clock that was set back.
    let heartbeat = pair.heartbeat(LINK_OF_SECONDARY);
    pair.forge_restart(LINK_OF_SECONDARY, word(&heartbeat, BOOT) + 225_000);
    pair.primary
        .wait_for("the restart", |stats| stats["link"]["sessions"] == 2);
    pair.primary
        .wait_for("the loss", |stats| stats["state"] == "peer_lost");
}

#[test]
fn on_a_trusted_link_a_stranger_hides_a_dead_peer() {
    let _turn = node::beside_others();
    let mut pair = Pair::with(Plan {
        segment: true,
        keys: [Key::None; 2],
        of_primary: &["--heartbeat", "50", "--heartbeat-loss", "40"],
        ..Plan::default()
    });
    pair.enter_colo();
    pair.secondary.signal(rustix::process::Signal::KILL);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        let asked = pair.heartbeat(LINK_OF_PRIMARY);
        pair.forge(LINK_OF_SECONDARY, |frame| {
            frame[ECHO].copy_from_slice(&asked[MARK]);
        });
        assert_eq!(pair.primary.stats()["state"], "protected");
    }
}

#[test]
fn a_peer_with_another_key_or_none_is_named_and_is_no_silence() {
    let _turn = node::beside_others();
    for (keys, [of_primary, of_secondary]) in [
        (
            [Key::Shared, Key::Own(OTHER)],
            ["another key", "another key"],
        ),
        (
            [Key::Shared, Key::None],
            ["no seal", "while this node has none"],
        ),
    ] {
        let mut pair = Pair::with(Plan {
            segment: true,
            keys,
            meets: false,
            of_primary: &["--on-peer-lost", "exec:false", "--failover", "auto"],
            ..Plan::default()
        });
        // The node was started again while its VM is in COLO.
        pair.frames.stop(PVM);
        pair.pvm.stopped();
        pair.pvm.migration("colo");
        pair.pvm.resumed();
        pair.frames.start(PVM);
        pair.frames.look(Duration::from_millis(1500));
        for (node, line) in [
            (&mut pair.primary, of_primary),
            (&mut pair.secondary, of_secondary),
        ] {
            node.wait_for_line(line);
            assert_ne!(node.stats()["state"], "peer_lost", "{}", node.stderr());
            assert_eq!(node.stats()["link"]["sessions"], 0);
        }
        // Where nobody speaks, the peer is lost.
        pair.frames.mute(LINK_OF_SECONDARY);
        pair.primary
            .wait_for("the loss", |stats| stats["state"] == "peer_lost");
    }
}

#[test]
fn another_pair_with_the_same_id_is_named_and_changes_nothing() {
    let _turn = node::beside_others();
    let mut pair = pair([Key::Shared; 2]);
    pair.enter_colo();
    let flow = Flow::v4(1);
    pair.agree(&flow.data(100, 1, b"both"));
    let mut at = 104;
    for (key, line) in [
        (Key::Shared, "another one that is alive"),
        (Key::Own(OTHER), "another key"),
    ] {
        let socket = |name: &str| pair.dir.path().join(name);
        let words: Vec<String> = [
            &vhost(0, &socket("third-guest.sock")),
            &vhost(1, &socket("third.sock")),
            "--",
            "--role",
            "secondary",
            "--guest",
            "net_vhost0",
            "--link",
            "net_vhost1",
            "--link-key",
            &key.word(pair.dir.path(), "third"),
            "--qmp",
            socket("third.qmp").to_str().expect("a plain path"),
            "--idle-sleep",
            "50",
        ]
        .map(str::to_owned)
        .to_vec();
        let third = Node::start_at(node::prefix(), 1, &words);
        pair.frames.start(LINK_OF_THIRD);
        pair.frames
            .join(&[LINK_OF_PRIMARY, LINK_OF_SECONDARY, LINK_OF_THIRD]);
        for _ in 0..20 {
            pair.agree(&flow.data(at, 1, b"both"));
            at += 4;
            pair.frames.look(Duration::from_millis(20));
        }
        pair.primary.wait_for_line(line);
        assert_eq!(third.stats()["link"]["sessions"], 0);
        assert_eq!(pair.primary.stats()["link"]["sessions"], 1);
        pair.frames.join(&[LINK_OF_PRIMARY, LINK_OF_SECONDARY]);
        pair.frames.stop(LINK_OF_THIRD);
        third.stop();
    }
    pair.end();
}
