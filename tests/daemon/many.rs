//! Twenty-eight pairs in one process: one link and one uplink for all, and a guest port for each (docs/many-pairs.md).
//! `colo-traffic` is the guests and the network, scripted monitors play the COLO sequence for two of the pairs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use colo_testkit::qmp::Monitor;
use serde_json::Value;
use tempfile::TempDir;

use crate::frames::Flow;
use crate::monitor::Qemu;
use crate::node::{self, Node, PATIENCE, vhost, virtio_user};
use crate::offload::{MSS, is_right, joined, payload, unfinished};
use crate::pair::{A_WHILE, Key};
use crate::traffic::Script;

const PAIRS: usize = 28;
/// The pairs that are protected; the others' VMs run alone.
const PROTECTED: [usize; 2] = [2, 3];
/// Its guest floods, and in the end it dies.
const FLOODER: usize = 0;
/// Its guest takes nothing.
const STALLED: usize = 1;
/// The first of the pairs that only send and receive.
const QUIET: usize = 4;
/// Of those, the one whose guest leaves checksums and segmentation to others.
const UNFINISHED: usize = QUIET;
/// Megabytes of each process: too few for all that is asked for, so that each pair has less.
const MEGABYTES: &str = "800";

/// Ports of the script, behind the guests.
const NETWORK: usize = PAIRS;
const SVM: usize = PAIRS + 1;

fn mac(pair: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, pair as u8]
}

const CLIENT: [u8; 6] = [2, 0, 0, 0, 9, 9];
const ALL: [u8; 6] = [0xff; 6];

/// A datagram between these, with this in it.
fn frame(to: [u8; 6], from: [u8; 6], word: &str) -> Vec<u8> {
    let mut frame = Flow::v4(1).udp(word.as_bytes());
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame
}

struct Host {
    node: Node,
    monitors: Vec<Qemu>,
    started: Duration,
}

impl Host {
    fn start(dir: &Path, role: &str, [link, uplink]: [String; 2], link_name: &str) -> Self {
        let text = |name: String| dir.join(name).to_str().expect("a plain path").to_owned();
        let key = Key::Shared.word(dir, role);
        let mut file = format!(
            "role = '{role}'\nlink = '{link_name}'\nuplink = 'net_vhost30'\nlink-key = '{key}'\nhold-frames = 256\n\
             flows = 256\nidle-sleep = 50\nheartbeat = 50\nheartbeat-loss = 200\n"
        );
        let mut words: Vec<String> = node::eal_options("", 2);
        let at = words.iter().position(|word| word == "256").expect("-m");
        words[at] = MEGABYTES.to_owned();
        let prefix = node::prefix();
        let at = words.iter().position(String::is_empty).expect("a prefix");
        words[at].clone_from(&prefix);
        words.extend([link, uplink]);
        let mut monitors = Vec::new();
        for pair in 0..PAIRS {
            let qmp = dir.join(format!("{role}{pair}.qmp"));
            monitors.push(Qemu::listen(&qmp, Monitor::default()));
            file.push_str(&format!(
                "[[pair]]\nvm-id = {}\nname = 'vm{pair}'\nguest = 'net_vhost{pair}'\nqmp = '{}'\n",
                500 + pair,
                qmp.display()
            ));
            let socket = dir.join(format!("{role}{pair}.sock"));
            let tso = u8::from(pair == UNFINISHED);
            words.push(format!("{},tso={tso}", vhost(pair as u32, &socket)));
        }
        let path = text(format!("{role}.toml"));
        fs::write(&path, file).expect("a file");
        words.extend(["--", "--config", &path].map(str::to_owned));
        let since = Instant::now();
        let mut node = Node::spawn(prefix, words, true);
        node.wait_for_line("ready");
        let started = since.elapsed();
        for monitor in &monitors {
            monitor.wait_for_client();
        }
        Self {
            node,
            monitors,
            started,
        }
    }

    fn stats(&self, pair: usize) -> Value {
        self.node.ask(&format!("/colo/stats,vm{pair}"))
    }

    fn wait_for(&self, pair: usize, what: &str, wanted: impl Fn(&Value) -> bool) {
        let since = Instant::now();
        loop {
            let stats = self.stats(pair);
            if wanted(&stats) {
                return;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "pair {pair}: {what} did not come about: {stats:#}\n{}",
                self.node.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory in MB.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.node.id()));
        let status = status.expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes.and_then(|n| n.trim().parse().ok()).unwrap_or(0) / 1024
    }
}

struct Hosts {
    primary: Host,
    secondary: Host,
    frames: Script,
    /// The guests of the pairs that make trouble.
    trouble: Script,
    _dir: TempDir,
}

impl Hosts {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let link = at("link.sock");
        let secondary = Host::start(
            dir.path(),
            "secondary",
            [vhost(29, &link), vhost(30, &at("elsewhere.sock"))],
            "net_vhost29",
        );
        let primary = Host::start(
            dir.path(),
            "primary",
            [virtio_user(0, &link), vhost(30, &at("network.sock"))],
            "net_virtio_user0",
        );
        let guest = |pair: usize| at(&format!("primary{pair}.sock"));
        let mut sockets: Vec<_> = (0..PAIRS).map(guest).collect();
        sockets.push(at("network.sock"));
        sockets.extend(PROTECTED.map(|pair| at(&format!("secondary{pair}.sock"))));
        let mut hosts = Self {
            primary,
            secondary,
            frames: Script::new(&sockets),
            trouble: Script::new(&[FLOODER, STALLED].map(guest)),
            _dir: dir,
        };
        hosts.frames.start(NETWORK);
        for pair in QUIET..PAIRS {
            match pair == UNFINISHED {
                true => hosts.frames.start_with_offloads(pair),
                false => hosts.frames.start(pair),
            }
        }
        for pair in PROTECTED {
            hosts.frames.start(pair);
        }
        for pair in 0..PAIRS {
            hosts
                .primary
                .wait_for(pair, "the link", |stats| stats["state"] == "pairing");
        }
        hosts
    }

    /// The migration of a pair ends in COLO.
    fn protect(&mut self, at: usize) {
        let pair = PROTECTED[at];
        let (pvm, svm) = (
            self.primary.monitors[pair].clone(),
            self.secondary.monitors[pair].clone(),
        );
        self.frames.stop(pair);
        pvm.stopped();
        pvm.migration("colo");
        svm.migration("colo");
        svm.resumed();
        self.frames.start(SVM + at);
        pvm.resumed();
        self.frames.start(pair);
        for host in [&self.primary, &self.secondary] {
            host.wait_for(pair, "protection", |stats| stats["state"] == "protected");
        }
    }

    /// The VM says something to the network, so that the switch knows its address.
    fn speak(&mut self, pair: usize) {
        let word = frame(CLIENT, mac(pair), "here I am");
        self.frames.send(pair, &word);
        assert_eq!(self.frames.receive(NETWORK), word);
    }

    /// Delays of frames of all quiet pairs to the network and back, and to each other: p50, p90 and p99 in microseconds.
    fn delays(&mut self) -> [f64; 3] {
        let mut delays = Vec::new();
        for round in 0..16 {
            for pair in QUIET..PAIRS {
                let word = format!("round {round} of {pair}");
                let out = frame(CLIENT, mac(pair), &word);
                delays.push(self.frames.delay(pair, NETWORK, &out));
                let into = frame(mac(pair), CLIENT, &word);
                delays.push(self.frames.delay(NETWORK, pair, &into));
                let next = if pair + 1 < PAIRS { pair + 1 } else { QUIET };
                let over = frame(mac(next), mac(pair), &word);
                delays.push(self.frames.delay(pair, next, &over));
            }
        }
        delays.sort_unstable();
        let at = |share: usize| delays[(delays.len() - 1) * share / 100] as f64 / 1e3;
        [at(50), at(90), at(99)]
    }

    fn is_silent(&mut self, ports: &[usize]) {
        self.frames.look(A_WHILE);
        for port in ports {
            self.frames.silent(*port, Duration::ZERO);
        }
    }
}

#[test]
fn twenty_eight_pairs_share_a_link_and_an_uplink() {
    let _turn = node::alone();
    let mut hosts = Hosts::new();
    for host in [&hosts.primary, &hosts.secondary] {
        println!(
            "{PAIRS} pairs: ready after {} ms, {} MB resident",
            host.started.as_millis(),
            host.resident()
        );
    }
    for pair in QUIET..PAIRS {
        hosts.speak(pair);
    }
    for at in 0..PROTECTED.len() {
        hosts.protect(at);
    }
    the_switch_keeps_its_rules(&mut hosts);
    what_is_unfinished_is_finished_for_each(&mut hosts);
    trouble_stays_with_its_pairs(&mut hosts);
    let Hosts {
        primary,
        secondary,
        frames,
        trouble,
        ..
    } = hosts;
    drop((frames, trouble));
    primary.node.stop();
    secondary.node.stop();
}

fn the_switch_keeps_its_rules(hosts: &mut Hosts) {
    let (a, b) = (QUIET, QUIET + 1);
    let [protected, other] = PROTECTED;
    let others: Vec<usize> = (0..PAIRS).filter(|pair| *pair > STALLED).collect();

    // Between VMs of the host, and nowhere else.
    let word = frame(mac(b), mac(a), "to a neighbour");
    hosts.frames.send(a, &word);
    assert_eq!(hosts.frames.receive(b), word);
    // From the network to one VM.
    let word = frame(mac(a), CLIENT, "to one");
    hosts.frames.send(NETWORK, &word);
    assert_eq!(hosts.frames.receive(a), word);
    hosts.is_silent(&[NETWORK, a, b, protected, other, SVM, SVM + 1]);

    // To all: every VM that leads, and both VMs of a protected pair.
    for from in [NETWORK, a] {
        let sender = if from == NETWORK { CLIENT } else { mac(a) };
        let word = frame(ALL, sender, "to all");
        hosts.frames.send(from, &word);
        let to = others.iter().copied().chain([NETWORK, SVM, SVM + 1]);
        for port in to.filter(|port| *port != from) {
            assert_eq!(hosts.frames.receive(port), word, "port {port}");
        }
        hosts.is_silent(&[from, NETWORK, a, b, protected, SVM]);
    }

    // What a protected VM says leaves for a neighbour once both have said it. What the SVM says alone never leaves.
    let alone = frame(mac(a), mac(protected), "the SVM alone");
    hosts.frames.send(SVM, &alone);
    hosts.is_silent(&[a, b, NETWORK]);
    hosts.frames.send(protected, &alone);
    assert_eq!(hosts.frames.receive(a), alone);
    // Its address is known now. What a neighbour says to it is input of both VMs.
    let word = frame(mac(protected), mac(a), "input of a neighbour");
    hosts.frames.send(a, &word);
    assert_eq!(hosts.frames.receive(protected), word);
    assert_eq!(hosts.frames.receive(SVM), word);
    hosts.is_silent(&[a, b, NETWORK, other, SVM + 1]);
}

/// A guest leaves checksums and segmentation to others, and its frames go to VMs that know nothing of that: one, a
/// protected one, all of them and the network.
fn what_is_unfinished_is_finished_for_each(hosts: &mut Hosts) {
    let [protected, _] = PROTECTED;
    let neighbour = UNFINISHED + 1;
    let others = (STALLED + 1..PAIRS).filter(|pair| *pair != UNFINISHED);
    let all: Vec<usize> = others.chain([NETWORK, SVM, SVM + 1]).collect();
    let bytes = payload(20_000);
    for (to, ports) in [
        (mac(neighbour), vec![neighbour]),
        (mac(protected), vec![protected, SVM]),
        (ALL, all.clone()),
    ] {
        let word = frame(to, mac(UNFINISHED), "no checksum yet");
        hosts
            .frames
            .send_unfinished(UNFINISHED, &unfinished(word.clone()), 0);
        for port in &ports {
            assert_eq!(hosts.frames.receive(*port), word, "port {port}");
        }
        let mut long = Flow::v4(2).data(1000, 77, &bytes);
        long[..6].copy_from_slice(&to);
        long[6..12].copy_from_slice(&mac(UNFINISHED));
        hosts
            .frames
            .send_unfinished(UNFINISHED, &unfinished(long), MSS);
        let number = bytes.len().div_ceil(usize::from(MSS));
        for port in &ports {
            let segments: Vec<_> = (0..number).map(|_| hosts.frames.receive(*port)).collect();
            assert!(
                segments.iter().all(|segment| is_right(segment)),
                "port {port}"
            );
            assert!(segments.iter().all(|segment| segment[..6] == to));
            assert!(joined(&segments, 1000) == bytes, "port {port}: other bytes");
        }
    }
    // What cannot be segmented, such as a SYN, is dropped and counted.
    let mut syn = Flow::v4(2).data(1000, 77, &bytes);
    syn[..6].copy_from_slice(&mac(protected));
    syn[6..12].copy_from_slice(&mac(UNFINISHED));
    syn[47] |= 2;
    hosts
        .frames
        .send_unfinished(UNFINISHED, &unfinished(syn), MSS);
    hosts.primary.wait_for(protected, "a refusal", |stats| {
        stats["ports"]["net_vhost30"]["dropped"] == 1
    });
    hosts.is_silent(&all);
}

fn trouble_stays_with_its_pairs(hosts: &mut Hosts) {
    let before = hosts.delays();
    // The guest that takes nothing has been heard once.
    for guest in [FLOODER, STALLED] {
        hosts.trouble.start(guest);
    }
    let word = frame(CLIENT, mac(STALLED), "here I am");
    hosts.trouble.send(STALLED, &word);
    assert_eq!(hosts.frames.receive(NETWORK), word);
    hosts.trouble.stop(STALLED);
    let flood = frame(mac(STALLED), mac(FLOODER), "and again");
    hosts.trouble.flood(FLOODER, &flood);
    let dropped = |stats: &Value| {
        let of = |port: &str| stats["ports"][port]["dropped"].as_u64().unwrap_or(0);
        of("net_vhost1") + of("net_vhost30") > 1000
    };
    hosts.primary.wait_for(STALLED, "a flood", dropped);
    let crossed = |host: &Host| host.stats(FLOODER)["crossed_locally"].as_u64();
    let (since, first) = (Instant::now(), crossed(&hosts.primary));
    let flooded = hosts.delays();
    let n = crossed(&hosts.primary).unwrap_or(0) - first.unwrap_or(0);
    println!(
        "the flood: {:.0} frames a second",
        n as f64 / since.elapsed().as_secs_f64()
    );

    // The guest dies in the middle of it.
    let id = rustix::process::Pid::from_raw(hosts.trouble.id() as i32).expect("an id");
    rustix::process::kill_process(id, rustix::process::Signal::KILL).expect("it is killed");
    let dead = hosts.delays();
    println!(
        "delays in µs, p50, p90 and p99: before {before:.0?}, flooded {flooded:.0?}, after a death {dead:.0?}"
    );
    for (what, after) in [("flooded", flooded), ("after a death", dead)] {
        let ratios: Vec<f64> = (0..3).map(|at| after[at] / before[at]).collect();
        println!("{what}, by what they were before: {ratios:.2?}");
    }
    // The protected pairs have not diverged or lost their peer for it.
    for pair in PROTECTED {
        let stats = hosts.primary.stats(pair);
        assert_eq!(stats["state"], "protected", "{stats:#}");
        assert_eq!(stats["epoch"], 1, "{stats:#}");
    }
    for pair in QUIET..PAIRS {
        let stats = hosts.primary.stats(pair);
        assert_eq!(stats["ports"]["net_vhost30"]["dropped"], 0, "{stats:#}");
    }
}
