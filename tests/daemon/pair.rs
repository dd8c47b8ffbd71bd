//! A primary and a secondary node without any QEMU: `colo-traffic` is both guests and the network,
//! scripted monitors play the COLO sequence.
//!
//! The order of stops, events and starts is QEMU's (`colo_do_checkpoint_transaction` in
//! migration/colo.c): the SVM stops first, rings stop before STOP is sent, MIGRATION_PASS comes in
//! between, the SVM starts before the PVM, RESUME is sent before the rings start.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use colo_testkit::qmp::Monitor;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::audit;
use crate::frames::{Flow, ack_of, payload_of, seq_of};
use crate::monitor::Qemu;
use crate::node::{self, Node, vhost, virtio_user};
use crate::traffic::Script;

/// The ports of `colo-traffic`.
pub const PVM: usize = 0;
pub const NETWORK: usize = 1;
pub const SVM: usize = 2;
/// The network at the secondary's uplink.
pub const ELSEWHERE: usize = 3;

/// The ends of a link that is a segment with room for others ([`Plan::segment`]).
pub const LINK_OF_PRIMARY: usize = 4;
pub const LINK_OF_SECONDARY: usize = 5;
/// A place on that segment.
pub const LINK_OF_THIRD: usize = 6;

/// A checkpoint delay that is nobody's default.
const DELAY: u32 = 12_345;
/// How long a frame that may not leave is waited for.
pub const A_WHILE: Duration = Duration::from_millis(100);
/// After this a silent link is down.
pub const LINK_SILENCE: Duration = Duration::from_millis(600);
/// What a request may take from the differing byte on a machine that runs other tests meanwhile;
/// the figure itself is shown.
const REQUEST_MAX: Duration = Duration::from_millis(500);

pub struct Pair {
    pub primary: Node,
    pub secondary: Node,
    pub pvm: Qemu,
    pub svm: Qemu,
    pub frames: Script,
    pub primary_words: Vec<String>,
    pub secondary_words: Vec<String>,
    pub dir: TempDir,
}

/// What a node's `--link-key` is.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// The file that both nodes have.
    Shared,
    /// None.
    None,
    /// A file with these keys.
    Own(&'a str),
}

impl Key<'_> {
    /// The option's value; files lie in a directory.
    pub fn word(self, dir: &Path, name: &str) -> String {
        let (path, text) = match self {
            Key::None => return "none".to_owned(),
            Key::Shared => (dir.join("link.key"), SHARED),
            Key::Own(text) => (dir.join(format!("{name}.key")), text),
        };
        let mut file = fs::OpenOptions::new();
        file.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(&path).expect("a key file");
        file.write_all(text.as_bytes()).expect("its text");
        path.to_str().expect("a plain path").to_owned()
    }
}

/// The key that both nodes have.
const SHARED: &str = "6f1d3c5a7b9e8f0011223344556677889900aabbccddeeff0123456789abcdef\n";

/// How a pair differs from the usual one.
pub struct Plan<'a> {
    /// Cores of the primary node for polling and comparing.
    pub cores: u32,
    /// The primary's and the secondary's device of the link, if not virtio_user and vhost.
    pub link: Option<[(String, &'a str); 2]>,
    /// Whether the link is a segment that the test can listen at and speak on.
    pub segment: bool,
    /// The primary's and the secondary's key.
    pub keys: [Key<'a>; 2],
    /// Whether the nodes are to find each other.
    pub meets: bool,
    /// The primary's device of the network, if not vhost.
    pub uplink: Option<(String, &'a str)>,
    /// Whether the network leaves checksums and segmentation to the nodes. (A virtio_user device
    /// with offloads starts its rings twice, which no VM does that is started once.)
    pub offloads: bool,
    /// Whether monitors offer commands out of band.
    pub oob: bool,
    /// More options for the primary.
    pub of_primary: &'a [&'a str],
    /// More options for the secondary.
    pub of_secondary: &'a [&'a str],
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            cores: node::usual_cores(),
            link: None,
            segment: false,
            keys: [Key::Shared; 2],
            meets: true,
            uplink: None,
            offloads: false,
            oob: true,
            of_primary: &[],
            of_secondary: &[],
        }
    }
}

impl Pair {
    /// Two nodes and their peers; the PVM runs alone.
    pub fn new() -> Self {
        Self::with(Plan::default())
    }

    pub fn with(plan: Plan<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = |name: &str| dir.path().join(name);
        let text = |name: &str| socket(name).to_str().expect("a plain path").to_owned();
        let monitor = Monitor {
            delay: DELAY,
            oob: plan.oob,
            ..Monitor::default()
        };
        let pvm = Qemu::listen(&socket("pvm.qmp"), monitor.clone());
        let svm = Qemu::listen(&socket("svm.qmp"), monitor);
        let link = plan.link.unwrap_or_else(|| {
            if plan.segment {
                return ["link-p.sock", "link-s.sock"]
                    .map(|name| (vhost(2, &socket(name)), "net_vhost2"));
            }
            let link = socket("link.sock");
            [
                (virtio_user(0, &link), "net_virtio_user0"),
                (vhost(2, &link), "net_vhost2"),
            ]
        });
        let network = |name: &str| {
            let tso = u8::from(plan.offloads);
            format!("{},tso={tso}", vhost(1, &socket(name)))
        };
        let words = |role: &str,
                     devices: [String; 3],
                     [uplink, link]: [&str; 2],
                     key: Key<'_>,
                     qmp: &str,
                     more: &[&str]| {
            let own = [
                "--",
                "--role",
                role,
                "--guest",
                "net_vhost0",
                "--uplink",
                uplink,
                "--link",
                link,
                "--link-key",
                &key.word(dir.path(), role),
                "--qmp",
                &text(qmp),
                "--capture",
                &text("capture"),
                "--idle-sleep",
                "50",
                "--hold-frames",
                "4096",
            ];
            let own = own.iter().chain(more).map(|word| (*word).to_owned());
            devices.into_iter().chain(own).collect::<Vec<_>>()
        };
        let [
            (primary_device, primary_link),
            (secondary_device, secondary_link),
        ] = link;
        let is_vhost = plan.uplink.is_none();
        let (primary_network, primary_uplink) = plan
            .uplink
            .unwrap_or_else(|| (network("network.sock"), "net_vhost1"));
        let primary_words = words(
            "primary",
            [
                vhost(0, &socket("pvm.sock")),
                primary_network,
                primary_device,
            ],
            [primary_uplink, primary_link],
            plan.keys[0],
            "pvm.qmp",
            plan.of_primary,
        );
        let secondary_words = words(
            "secondary",
            [
                vhost(0, &socket("svm.sock")),
                network("elsewhere.sock"),
                secondary_device,
            ],
            ["net_vhost1", secondary_link],
            plan.keys[1],
            "svm.qmp",
            plan.of_secondary,
        );
        // The secondary listens for the primary's end of the link.
        let secondary = Node::start_at(node::prefix(), node::usual_cores(), &secondary_words);
        let primary = Node::start_at(node::prefix(), plan.cores, &primary_words);
        pvm.wait_for_client();
        svm.wait_for_client();
        let mut frames = Script::new(&[
            socket("pvm.sock"),
            socket("network.sock"),
            socket("svm.sock"),
            socket("elsewhere.sock"),
            socket("link-p.sock"),
            socket("link-s.sock"),
            socket("third.sock"),
        ]);
        if plan.segment {
            frames.start(LINK_OF_PRIMARY);
            frames.start(LINK_OF_SECONDARY);
            frames.join(&[LINK_OF_PRIMARY, LINK_OF_SECONDARY]);
        }
        frames.start(PVM);
        let networks = [is_vhost.then_some(NETWORK), Some(ELSEWHERE)];
        for network in networks.into_iter().flatten() {
            match plan.offloads {
                true => frames.start_with_offloads(network),
                false => frames.start(network),
            }
        }
        if plan.meets {
            primary.wait_for("the link", |stats| stats["state"] == "pairing");
        }
        Self {
            primary,
            secondary,
            pvm,
            svm,
            frames,
            primary_words,
            secondary_words,
            dir,
        }
    }

    /// The migration ends in COLO: both VMs are equal and run.
    pub fn enter_colo(&mut self) {
        self.frames.stop(PVM);
        self.pvm.stopped();
        self.pvm.migration("colo");
        self.svm.migration("colo");
        self.svm.resumed();
        self.frames.start(SVM);
        self.pvm.resumed();
        self.frames.start(PVM);
        self.wait_for_epoch(1);
    }

    pub fn wait_for_epoch(&self, epoch: u32) {
        for node in [&self.primary, &self.secondary] {
            node.wait_for("protection", |stats| {
                stats["state"] == "protected" && stats["epoch"] == epoch
            });
        }
    }

    /// Both VMs stop for a checkpoint, and the SVM loads the PVM's state and starts.
    pub fn stop_and_load(&mut self) {
        self.frames.stop(SVM);
        self.svm.stopped_for_checkpoint();
        self.frames.stop(PVM);
        self.pvm.stopped();
        self.pvm.pass();
        self.svm.resumed();
        self.frames.start(SVM);
    }

    /// The PVM runs again: the commit.
    pub fn resume(&mut self) {
        self.pvm.resumed();
        self.frames.start(PVM);
    }

    pub fn checkpoint(&mut self) {
        self.stop_and_load();
        self.resume();
    }

    /// Both VMs send this, and it leaves.
    pub fn agree(&mut self, frame: &[u8]) {
        self.frames.send(PVM, frame);
        self.frames.send(SVM, frame);
        let Some(left) = self.frames.try_receive(NETWORK) else {
            let [primary, secondary] = [&self.primary, &self.secondary].map(Node::stats);
            panic!("what both VMs sent does not leave: {primary:#}\n{secondary:#}");
        };
        assert_eq!(left, frame);
    }

    /// The VMs send frames that differ; returns the time when the later one was sent.
    fn differ(&mut self, p: &[u8], s: &[u8]) -> u128 {
        self.frames.send(PVM, p);
        self.frames.send(SVM, s)
    }

    pub fn end(self) -> (Value, Value) {
        drop(self.frames);
        let (primary, secondary) = (self.primary.stop(), self.secondary.stop());
        audit::pair(&self.dir.path().join("capture"));
        (primary.summary().clone(), secondary.summary().clone())
    }
}

/// A frame of the stream at an offset, and the same with another byte in it.
fn two_answers(flow: &Flow, offset: u32) -> (Vec<u8>, Vec<u8>) {
    let mut payload = [b'p'; 200];
    let p = flow.data(1000 + offset, 77, &payload);
    payload[123] = b's';
    (p, flow.data(1000 + offset, 77, &payload))
}

#[test]
fn a_pair_lives_through_colo() {
    lives_through_colo(node::usual_cores());
}

#[test]
fn a_pair_lives_through_colo_with_workers() {
    lives_through_colo(3);
}

fn lives_through_colo(cores: u32) {
    let _turn = node::beside_others();
    let mut pair = Pair::with(Plan {
        cores,
        ..Plan::default()
    });

    // Alone the PVM's traffic passes both ways, and the SVM hears nothing.
    let alone = Flow::v4(1).data(1, 1, b"alone");
    pair.frames.send(PVM, &alone);
    assert_eq!(pair.frames.receive(NETWORK), alone);
    pair.frames.send(NETWORK, &alone);
    assert_eq!(pair.frames.receive(PVM), alone);

    pair.enter_colo();
    pair.frames.silent(SVM, Duration::ZERO);

    // Output waits for its counterpart, whichever comes first.
    let flow = Flow::v4(2);
    let first = flow.data(500, 9, b"from both");
    pair.frames.send(PVM, &first);
    pair.frames.silent(NETWORK, A_WHILE);
    pair.frames.send(SVM, &first);
    assert_eq!(pair.frames.receive(NETWORK), first);
    let second = flow.data(509, 9, b"and again");
    pair.frames.send(SVM, &second);
    pair.frames.silent(NETWORK, A_WHILE);
    pair.frames.send(PVM, &second);
    assert_eq!(pair.frames.receive(NETWORK), second);

    // Input reaches both, in the same order.
    let inputs: Vec<_> = (0..100u32)
        .map(|n| Flow::v6(3).udp(&n.to_be_bytes()))
        .collect();
    for input in &inputs {
        pair.frames.post(NETWORK, input);
    }
    for vm in [PVM, SVM] {
        for input in &inputs {
            assert_eq!(&pair.frames.receive(vm), input);
        }
    }
    assert!(
        pair.pvm.requests().is_empty(),
        "equal output cost a checkpoint"
    );

    // A differing byte: one request, with the delay that QEMU has; nothing leaves before RESUME.
    let (p, s) = two_answers(&Flow::v4(4), 0);
    let sent = pair.differ(&p, &s);
    let requests = pair.pvm.wait_for_requests(1);
    println!(
        "request {:.3} ms after the differing byte",
        requests[0].at.saturating_sub(sent) as f64 / 1e6
    );
    assert_eq!(requests[0].arguments, json!({"x-checkpoint-delay": DELAY}));
    pair.frames.silent(NETWORK, 4 * A_WHILE);
    assert_eq!(pair.pvm.requests().len(), 1, "one request at a time");
    // Other flows go on meanwhile.
    pair.agree(&flow.data(518, 9, b"another flow"));
    pair.stop_and_load();
    pair.frames.silent(NETWORK, A_WHILE);
    pair.pvm.resumed();
    assert_eq!(
        pair.frames.receive(NETWORK),
        p,
        "the PVM's answer leaves at the commit"
    );
    pair.frames.start(PVM);
    pair.wait_for_epoch(2);
    pair.frames.silent(NETWORK, A_WHILE);

    // The flow goes on from the PVM's state.
    pair.agree(&Flow::v4(4).data(1200, 77, b"agreed again"));
    pair.agree(&flow.data(530, 9, b"as before"));
    assert_eq!(pair.pvm.requests().len(), 1);
    assert!(
        pair.svm.requests().is_empty(),
        "the secondary's monitor is never asked"
    );

    let (primary, secondary) = pair.end();
    assert_eq!(primary["checkpoints"]["requested"], 1);
    assert_eq!(primary["checkpoints"]["committed"], 1);
    assert_eq!(primary["divergences"], json!({"payload": 1}));
    assert_eq!(primary["held"], 0);
    for (name, port) in primary["ports"].as_object().expect("ports") {
        assert_eq!(port["dropped"], 0, "{name}: {primary:#}");
    }
    assert_eq!(secondary["epochs"], 2);
    assert_eq!(secondary["link"]["lost_input"], 0, "{secondary:#}");
}

#[test]
fn a_connection_opened_under_protection_is_translated() {
    const CLIENT: u32 = 7_000;
    // The PVM's numbers wrap soon.
    const P: u32 = u32::MAX - 3;
    const S: u32 = 1_000_000;
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let flow = Flow::v4(1);
    let client = flow.clone().reversed();

    let syn = client.syn(CLIENT, None);
    pair.frames.send(NETWORK, &syn);
    for vm in [PVM, SVM] {
        assert_eq!(pair.frames.receive(vm), syn);
    }
    // The SVM chooses an ISN of its own, and the PVM's SYN+ACK waits for it.
    let opened = flow.syn(P, Some(CLIENT + 1));
    pair.frames.send(PVM, &opened);
    pair.frames.silent(NETWORK, A_WHILE);
    pair.frames.send(SVM, &flow.syn(S, Some(CLIENT + 1)));
    assert_eq!(pair.frames.receive(NETWORK), opened);

    // Input acknowledges each VM's own numbers, output carries the PVM's.
    let request = client.data(CLIENT + 1, P.wrapping_add(1), b"request");
    pair.frames.send(NETWORK, &request);
    assert_eq!(pair.frames.receive(PVM), request);
    let translated = pair.frames.receive(SVM);
    assert_eq!(
        (seq_of(&translated), ack_of(&translated)),
        (CLIENT + 1, S + 1)
    );
    let (at, len) = payload_of(&translated);
    assert_eq!(&translated[at..at + len], b"request");
    let answer = flow.data(P.wrapping_add(1), CLIENT + 8, b"answer");
    pair.frames.send(SVM, &flow.data(S + 1, CLIENT + 8, b"ans"));
    pair.frames.send(PVM, &answer);
    // What the SVM has sent of it leaves as a segment of its own, and then the rest.
    let part = |pair: &mut Pair, at: u32, bytes: &[u8]| {
        let left = pair.frames.receive(NETWORK);
        let (payload, len) = payload_of(&left);
        assert_eq!(seq_of(&left), P.wrapping_add(at));
        assert_eq!(&left[payload..payload + len], bytes);
    };
    part(&mut pair, 1, b"ans");
    pair.frames.send(SVM, &flow.data(S + 4, CLIENT + 8, b"wer"));
    part(&mut pair, 4, b"wer");

    // The ACK gate: the PVM has more of the client's bytes than the SVM.
    let ahead = flow.data(P.wrapping_add(7), CLIENT + 20, b"more");
    pair.frames.send(PVM, &ahead);
    pair.frames
        .send(SVM, &flow.data(S + 7, CLIENT + 19, b"more"));
    pair.frames.silent(NETWORK, A_WHILE);
    pair.frames.send(SVM, &flow.data(S + 11, CLIENT + 20, b""));
    assert_eq!(pair.frames.receive(NETWORK), ahead);
    assert!(pair.pvm.requests().is_empty());

    // The SVM has loaded the PVM's state: its numbers are the PVM's.
    pair.checkpoint();
    pair.wait_for_epoch(2);
    let request = client.data(CLIENT + 20, P.wrapping_add(11), b"again");
    pair.frames.send(NETWORK, &request);
    assert_eq!(pair.frames.receive(PVM), request);
    assert_eq!(pair.frames.receive(SVM), request);
    pair.agree(&flow.data(P.wrapping_add(11), CLIENT + 25, b"the same numbers"));
    pair.end();
}

#[test]
fn only_a_checkpoint_commits() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let (p, s) = two_answers(&Flow::v4(1), 0);
    pair.differ(&p, &s);
    pair.pvm.wait_for_requests(1);

    // No STOP follows: the request is repeated.
    pair.pvm.wait_for_requests(2);

    // A stop and cont that the SVM has no part in, with MIGRATION_PASS in between or without.
    pair.frames.stop(PVM);
    pair.pvm.stopped();
    pair.pvm.pass();
    pair.resume();
    pair.frames.silent(NETWORK, 2 * A_WHILE);

    // The monitor goes away and comes back; what is held is asked for again.
    let before = pair.pvm.requests().len();
    pair.pvm.hang_up();
    pair.pvm.wait_for_requests(before + 1);
    pair.frames.silent(NETWORK, Duration::ZERO);

    pair.stop_and_load();
    pair.frames.silent(NETWORK, A_WHILE);
    pair.resume();
    assert_eq!(pair.frames.receive(NETWORK), p);
    pair.wait_for_epoch(3);
    pair.agree(&Flow::v4(1).data(1200, 77, b"agreed again"));
    let (primary, _) = pair.end();
    assert_eq!(primary["checkpoints"]["committed"], 1);
    assert_eq!(primary["held"], 0);
}

#[test]
fn a_primary_whose_secondary_dies_waits_for_the_decision() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let flow = Flow::v4(1);
    pair.agree(&flow.data(100, 1, b"both"));

    // The node dies with its host: what the PVM sends is held, and a checkpoint asked for.
    let Pair {
        primary,
        secondary,
        pvm,
        mut frames,
        dir,
        ..
    } = pair;
    drop(secondary);
    let p = flow.data(104, 1, b"only the primary");
    frames.send(PVM, &p);
    frames.silent(NETWORK, LINK_SILENCE);
    let input = Flow::v4(9).udp(b"input");
    frames.send(NETWORK, &input);
    assert_eq!(
        frames.receive(PVM),
        input,
        "the PVM is served without a link"
    );
    primary.wait_for("the loss of the link", |stats| {
        stats["divergences"]["link_down"] == 1 && stats["state"] == "peer_lost"
    });
    pvm.wait_for_requests(1);
    frames.silent(NETWORK, A_WHILE);

    // QEMU finds out at the checkpoint.
    pvm.emit(
        "COLO_EXIT",
        "{\"mode\": \"primary\", \"reason\": \"error\"}",
    );
    primary.wait_for("the loss", |stats| {
        stats["state"] == "peer_lost" && stats["peer"]["losses"] == 1
    });
    frames.silent(NETWORK, A_WHILE);

    // x-colo-lost-heartbeat: this VM goes on alone.
    frames.stop(PVM);
    pvm.stopped();
    pvm.migration("completed");
    assert_eq!(frames.receive(NETWORK), p);
    pvm.resumed();
    frames.start(PVM);
    let alone = flow.data(120, 1, b"alone");
    frames.send(PVM, &alone);
    assert_eq!(frames.receive(NETWORK), alone);
    drop(frames);
    let ended = primary.stop();
    assert_eq!(ended.summary()["held"], 0);
    audit::pair(&dir.path().join("capture"));
}

#[test]
fn output_of_a_qemu_that_died_never_leaves() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    let held = Flow::v4(1).data(100, 1, b"never seen");
    pair.frames.send(PVM, &held);
    pair.primary
        .wait_for("the frame", |stats| stats["held"] == 1);

    // QEMU is killed: ring and monitor are gone at once. Another one starts on the same sockets.
    pair.frames.stop(PVM);
    pair.pvm.replace(Monitor {
        delay: DELAY,
        ..Monitor::default()
    });
    pair.pvm.wait_for_client();
    pair.frames.start(PVM);
    pair.primary.wait_for("a node that starts anew", |stats| {
        stats["state"] == "pairing" && stats["held"] == 0
    });
    pair.frames.silent(NETWORK, A_WHILE);
    let alone = Flow::v4(1).data(5, 1, b"alone");
    pair.frames.send(PVM, &alone);
    assert_eq!(pair.frames.receive(NETWORK), alone);
    let (primary, _) = pair.end();
    assert_eq!(primary["faults"]["discarded"], 1, "{primary:#}");
}

#[test]
fn a_request_follows_a_differing_byte_at_once() {
    const ROUNDS: usize = 10;
    let _turn = node::alone();
    let mut pair = Pair::new();
    pair.enter_colo();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let (p, s) = two_answers(&Flow::v4(round as u16), 0);
        let sent = pair.differ(&p, &s);
        let requests = pair.pvm.wait_for_requests(round + 1);
        times.push(requests[round].at.saturating_sub(sent) as u64);
        pair.checkpoint();
        assert_eq!(pair.frames.receive(NETWORK), p);
        pair.wait_for_epoch(round as u32 + 2);
    }
    let (primary, _) = pair.end();
    times.sort_unstable();
    let ms = |ns: u64| ns as f64 / 1e6;
    println!(
        "from the differing byte to the request at the monitor, {ROUNDS} times: {:.3} ms to {:.3} ms, \
         median {:.3} ms; in the node: {}",
        ms(times[0]),
        ms(times[ROUNDS - 1]),
        ms(times[ROUNDS / 2]),
        primary["request_ns"]
    );
    assert_eq!(primary["checkpoints"]["requested"], ROUNDS);
    assert!(
        u128::from(times[ROUNDS / 2]) < REQUEST_MAX.as_nanos(),
        "{times:?}"
    );
}
