//! The control socket: what an operator's program sees and orders, and what clients cannot do to a node.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use colo_testkit::thread as threads;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::failover::fail_over_svm;
use crate::node::{self, Node, PATIENCE, prefix};
use crate::pair::{PVM, Pair, Plan};

const SOCKET: &str = "colo-control.sock";
/// Clients that a node serves at a time.
const CLIENTS: usize = 32;

/// A client of a node's control socket.
pub struct Client {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Client {
    /// Connects, and takes the greeting.
    pub fn of(node: &Node) -> Self {
        Self::at(&node::runtime_dir(&node.prefix()).join(SOCKET))
    }

    pub fn at(path: &Path) -> Self {
        let mut client = Self::connect(path);
        let greeting = client.line().expect("a greeting");
        assert_eq!(greeting["dpdk-colo"]["protocol"], 1, "{greeting}");
        client
    }

    fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("a node listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time that it takes");
        let lines = BufReader::new(stream.try_clone().expect("a socket"));
        Self { stream, lines }
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))),
        }
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("it is read");
    }

    /// The reply to a request.
    pub fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({"id": command, "command": command, "arguments": arguments});
        self.send(&format!("{request}\n"));
        let reply = self.line().expect("a reply");
        assert_eq!(reply["id"], command, "{reply}");
        reply
    }

    /// What a request returns.
    pub fn done(&mut self, command: &str, arguments: Value) -> Value {
        let mut reply = self.ask(command, arguments);
        assert!(reply.get("error").is_none(), "{reply}");
        reply["return"].take()
    }

    /// The message of a request's error, which has this class.
    pub fn error(&mut self, command: &str, arguments: Value, class: &str) -> String {
        let reply = self.ask(command, arguments);
        assert_eq!(reply["error"]["class"], class, "{reply}");
        let message = reply["error"]["message"].as_str();
        message.expect("a message").to_owned()
    }

    /// The first pair of the status.
    pub fn pair(&mut self) -> Value {
        self.done("status", json!({}))["pairs"][0].take()
    }

    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let pair = self.pair();
            if wanted(&pair) {
                return pair;
            }
            assert!(since.elapsed() < PATIENCE, "{what}: {pair:#}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Asks at a node on a thread of its own.
pub fn asks(node: &Node, command: &'static str, arguments: Value) -> thread::JoinHandle<Value> {
    let mut client = Client::of(node);
    thread::spawn(move || client.ask(command, arguments))
}

#[test]
fn a_pair_is_operated_over_its_control_sockets() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    let mut primary = Client::of(&pair.primary);
    let mut secondary = Client::of(&pair.secondary);

    // Before COLO the status says what is missing.
    let status = primary.wait_for("the peer", |pair| {
        let connected = pair["monitor"]["state"] == "connected";
        connected && pair["peer"]["heard"] == true && pair["ring"]["runs"] == true
    });
    assert_eq!(
        (&status["role"], &status["state"]),
        (&json!("primary"), &json!("pairing")),
        "{status:#}"
    );
    assert!(
        status["todo"]
            .as_str()
            .is_some_and(|text| text.contains("migrate")),
        "{status:#}"
    );
    assert_eq!(status["monitor"]["qemu"], "7.2.22");
    assert_eq!(status["held"]["limit"], 4096);
    assert_eq!(status["parameters"]["failover"]["on_peer_lost"], "hold");
    assert_eq!(status["checkpoints"]["last"], Value::Null);
    primary.done("wait", json!({"for": "connected", "timeout": 0}));
    primary.done("wait", json!({"for": "leads", "timeout": 0}));
    let late = primary.error(
        "wait",
        json!({"for": "protected", "timeout": 0.1}),
        "timeout",
    );
    assert!(late.contains("pair vm0 is pairing"), "{late}");
    let refused = primary.error("checkpoint", json!({}), "refused");
    assert!(refused.contains("not in COLO"), "{refused}");
    for client in [&mut primary, &mut secondary] {
        let refused = client.error("maintenance", json!({"mode": "on"}), "refused");
        assert!(refused.contains("nothing is protected"), "{refused}");
        assert_eq!(client.pair()["promotable"], false);
    }

    let waits = [&pair.primary, &pair.secondary]
        .map(|node| asks(node, "wait", json!({"for": "protected", "timeout": 30})));
    pair.enter_colo();
    for wait in waits {
        let reply = wait.join().expect("the client's thread");
        assert_eq!(reply["return"]["pairs"][0]["state"], "protected", "{reply}");
    }
    let status = secondary.pair();
    assert_eq!(
        (&status["role"], &status["todo"]),
        (&json!("secondary"), &Value::Null)
    );
    assert_eq!(
        (&status["promotable"], &primary.pair()["promotable"]),
        (&json!(true), &json!(false)),
        "{status:#}"
    );
    secondary.done("wait", json!({"for": "promotable", "timeout": 0}));

    // What a doctor asks for: what the node is made of, and what its QEMU says of itself.
    let facts = primary.done("facts", json!({}));
    let its = &facts["pairs"][0];
    assert_eq!(
        (&its["role"], &its["hold_frames"]),
        (&json!("primary"), &json!(4096)),
        "{facts:#}"
    );
    assert_eq!(its["ports"].as_array().map(Vec::len), Some(3), "{facts:#}");
    let pools = facts["memory"]["pools"].as_array().expect("a list");
    assert!(
        !pools.is_empty() && pools.iter().all(|pool| pool["made"] == pool["asked"]),
        "{facts:#}"
    );
    assert!(
        facts["lcores"]
            .as_array()
            .is_some_and(|lcores| lcores.iter().any(|lcore| lcore["work"] == "polls")),
        "{facts:#}"
    );
    let said = secondary.done("examine", json!({"pair": "vm0"}));
    let said = &said["pairs"]["vm0"];
    assert_eq!(said["query-migrate"]["status"], "colo", "{said:#}");
    assert_eq!(said["nics"], json!([]), "{said:#}");

    // A checkpoint is one request at QEMU, and its reply comes with the commit.
    let checkpoint = asks(&pair.primary, "checkpoint", json!({"pair": "vm0"}));
    pair.pvm.wait_for_requests(1);
    pair.stop_and_load();
    thread::sleep(Duration::from_millis(50));
    assert!(!checkpoint.is_finished(), "nothing is committed yet");
    pair.resume();
    let reply = checkpoint.join().expect("the client's thread");
    let pause = reply["return"]["pairs"]["vm0"]["pause_ms"].as_f64();
    assert!(pause.is_some_and(|ms| ms >= 50.0), "{reply}");
    pair.wait_for_epoch(2);
    let last = primary.pair()["checkpoints"]["last"].take();
    assert_eq!(last["reason"], "ordered", "{last}");
    // The control thread notes the reason when it has read RESUME.
    secondary.wait_for("the load", |pair| {
        let checkpoints = &pair["checkpoints"];
        checkpoints["committed"] == 2 && checkpoints["last"]["reason"] == "qemu"
    });
    assert_eq!(pair.pvm.requests().len(), 1);
    let refused = secondary.error("checkpoint", json!({}), "refused");
    assert!(refused.contains("other node"), "{refused}");

    // While the peer is heard nobody fails over.
    for client in [&mut primary, &mut secondary] {
        for fenced in [false, true] {
            let refused = client.error("failover", json!({"fenced": fenced}), "refused");
            assert!(refused.contains("the peer is heard"), "{refused}");
        }
    }
    for qemu in [&pair.pvm, &pair.svm] {
        let commands = qemu.commands();
        assert!(
            commands
                .iter()
                .all(|it| it["execute"] != "x-colo-lost-heartbeat")
        );
    }

    primary.error("maintenance", json!({"mode": "off"}), "refused");
    let done = primary.done("maintenance", json!({"mode": "on"}));
    assert_eq!(done["pairs"]["vm0"]["announced"], true);
    pair.primary
        .wait_for_line("the peer has received the announcement");
    primary.error("set", json!({"name": "flows", "value": 5}), "refused");
    primary.done("set", json!({"name": "log-level", "value": "error"}));
    assert_eq!(
        primary.done("status", json!({}))["node"]["log_level"],
        "error"
    );
    pair.end();
}

#[test]
fn an_ordered_failover_needs_the_operators_word() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    pair.enter_colo();
    pair.frames.stop(PVM);
    pair.primary.signal(Signal::KILL);
    let mut client = Client::of(&pair.secondary);
    let status = client.wait_for("the loss", |pair| pair["state"] == "peer_lost");
    assert!(
        status["why"]
            .as_str()
            .is_some_and(|why| why.contains("silent for")),
        "{status:#}"
    );
    let refused = client.error("failover", json!({}), "refused");
    assert!(refused.contains("--fenced"), "{refused}");
    client.error("maintenance", json!({"mode": "on"}), "refused");
    let done = client.done("failover", json!({"fenced": true}));
    assert_eq!(done["pairs"]["vm0"]["accepted"], true);
    pair.svm.wait_for_command("x-colo-lost-heartbeat");
    fail_over_svm(&mut pair);
    let done = client.done("wait", json!({"for": "leads", "timeout": 20}));
    assert_eq!(done["pairs"][0]["taken_over"], true, "{done:#}");
}

#[test]
fn an_ordered_failover_runs_the_fencing_command_first() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let flag = dir.path().join("tried");
    let command = format!(
        "exec:test -e {0} || {{ touch {0}; exit 3; }}",
        flag.display()
    );
    let mut pair = Pair::with(Plan {
        of_secondary: &["--on-peer-lost", &command],
        ..Plan::default()
    });
    pair.enter_colo();
    pair.frames.stop(PVM);
    pair.primary.signal(Signal::KILL);
    let mut client = Client::of(&pair.secondary);
    client.wait_for("the loss", |pair| pair["state"] == "peer_lost");
    assert!(!flag.exists(), "a secondary that is to wait fences nobody");
    let failed = client.error("failover", json!({}), "failed");
    assert!(failed.contains("exit status: 3"), "{failed}");
    let commands = pair.svm.commands();
    assert!(
        commands
            .iter()
            .all(|it| it["execute"] != "x-colo-lost-heartbeat")
    );
    let done = client.done("failover", json!({}));
    assert_eq!(done["pairs"]["vm0"]["accepted"], true);
    pair.svm.wait_for_command("x-colo-lost-heartbeat");
}

#[test]
fn a_peer_that_is_heard_while_it_is_fenced_ends_the_ordered_failover() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let flag = dir.path().join("go");
    let command = format!(
        "exec:while ! test -e {}; do sleep 0.05; done",
        flag.display()
    );
    let mut pair = Pair::with(Plan {
        of_secondary: &["--on-peer-lost", &command],
        ..Plan::default()
    });
    pair.enter_colo();
    pair.primary.signal(Signal::STOP);
    let mut client = Client::of(&pair.secondary);
    client.wait_for("the loss", |pair| pair["state"] == "peer_lost");
    let order = thread::spawn(move || client.error("failover", json!({}), "refused"));
    let since = Instant::now();
    while !pair
        .secondary
        .stderr()
        .contains("the peer is lost; running")
    {
        assert!(since.elapsed() < PATIENCE, "no fencing command runs");
        thread::sleep(Duration::from_millis(20));
    }
    pair.primary.signal(Signal::CONT);
    let mut other = Client::of(&pair.secondary);
    other.wait_for("the peer", |pair| pair["peer"]["heard"] == true);
    fs::write(&flag, "").expect("a file");
    let refused = order.join().expect("an answer");
    assert!(refused.contains("the peer is heard"), "{refused}");
    let commands = pair.svm.commands();
    assert!(
        commands
            .iter()
            .all(|it| it["execute"] != "x-colo-lost-heartbeat")
    );
}

/// A comparator without VMs whose control socket is at a path.
fn comparator(path: &Path, more: &[&str]) -> (String, Vec<String>) {
    let prefix = prefix();
    let path = path.to_str().expect("a plain path");
    let line = format!(
        "--no-huge --no-pci -m 256 --file-prefix {prefix} -l 0 --vdev net_null0 --vdev net_null1 --vdev net_null2 -- \
         --role compare --primary-in net_null0 --secondary-in net_null1 --out net_null2 --idle-sleep 1000 \
         --control {path}"
    );
    let words = line.split_whitespace().chain(more.iter().copied());
    (prefix, words.map(str::to_owned).collect())
}

fn start(path: &Path, more: &[&str]) -> Node {
    let (prefix, words) = comparator(path, more);
    let mut node = Node::spawn(prefix, words, false);
    node.wait_for_line("ready");
    node
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("c");
    (dir, path)
}

#[test]
fn pairs_and_rules_are_shown_and_status_counts_anew() {
    let _turn = node::beside_others();
    let (dir, path) = place();
    let config = dir.path().join("colo.toml");
    let rule = "[[policy]]\nname = \"ntp\"\naction = \"exempt\"\nprotocol = \"udp\"\nport = 123\n";
    fs::write(&config, rule).expect("a file");
    let config = config.to_str().expect("a plain path");
    let node = start(&path, &["--config", config]);
    let mut client = Client::at(&path);
    let name = client.pair()["name"].as_str().expect("a name").to_owned();

    let shown = client.done("pair-show", json!({}));
    let pair = &shown["pairs"][0];
    assert_eq!(
        (&pair["name"], &pair["role"], &pair["role_now"]),
        (&json!(name), &json!("compare"), &json!("compare"))
    );
    let ports: Vec<&str> = pair["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .filter_map(|port| port["name"].as_str())
        .collect();
    assert_eq!(ports, ["net_null0", "net_null1", "net_null2"], "{pair:#}");
    assert_eq!(pair["lcores"], json!([0]), "{pair:#}");

    let policy = client.done("policy-list", json!({"pair": name}));
    let rules = policy["pairs"][&name].as_array().expect("rules");
    assert_eq!(rules.len(), 6, "{policy:#}");
    assert_eq!(
        (&rules[0]["name"], &rules[0]["default"]),
        (&json!("arp"), &json!(true))
    );
    assert_eq!(
        rules[5],
        json!({"name": "ntp", "protocol": "udp", "port": 123, "prefix": null, "vlan": null, "default": false, "action": "exempt",
            "frames": 0})
    );

    // The null devices differ, so that checkpoints are wanted; there is no monitor, so that none is written.
    assert_eq!(client.pair()["reset_s"], Value::Null);
    let polls = node.stats()["polls"].as_u64();
    let before = client.done("stats-reset", json!({"pair": name}));
    assert!(before["pairs"][&name]["requested"].is_u64(), "{before}");
    let pair = client.pair();
    assert!(
        pair["reset_s"].as_f64().is_some_and(|s| s < 10.0),
        "{pair:#}"
    );
    assert!(
        node.stats()["polls"].as_u64() >= polls,
        "the node's counts go on"
    );
    for command in ["pair-show", "policy-list", "stats-reset"] {
        client.error(command, json!({"pair": "none"}), "unknown");
        client.error(command, json!({"rule": "ntp"}), "invalid");
    }
    node.stop();
}

#[test]
fn what_ports_see_is_captured_while_the_node_runs() {
    let _turn = node::beside_others();
    let (dir, path) = place();
    let reports = dir.path().join("reports");
    let text = reports.to_str().expect("a plain path");
    let node = start(&path, &["--report-dir", text]);
    let mut client = Client::at(&path);
    let name = client.pair()["name"].as_str().expect("a name").to_owned();
    let refused = client.error("capture-stop", json!({}), "refused");
    assert!(refused.contains("no capture runs"), "{refused}");
    // The null devices bring frames without end: it comes to its bound.
    for round in 0..2 {
        let file = format!("x{round}.pcapng");
        let begun = client.done(
            "capture-start",
            json!({"file": file, "limit_mib": 1, "pair": name}),
        );
        let file = reports.join(file);
        assert_eq!(
            begun["pairs"][&name]["path"],
            file.to_str().expect("a plain path")
        );
        let since = Instant::now();
        loop {
            let again = client.ask("capture-start", json!({"file": "y.pcapng", "limit_mib": 1}));
            let Some(said) = again["error"]["message"].as_str() else {
                // The first one has ended by then, and is reported no more.
                break;
            };
            assert!(
                said.contains("runs already") || said.contains("just ending"),
                "{said}"
            );
            assert!(since.elapsed() < PATIENCE, "{said}");
            thread::sleep(Duration::from_millis(20));
        }
        let ended = client.done("capture-stop", json!({}));
        let ended = &ended["pairs"][&name];
        let second = reports.join("y.pcapng");
        assert_eq!(ended["path"], second.to_str().expect("a plain path"));
        for written in [&file, &second] {
            let found = fs::metadata(written).expect("the file");
            assert_eq!(found.permissions().mode() & 0o777, 0o600);
            assert!((1..=1 << 20).contains(&found.len()), "{}", found.len());
        }
        assert!(
            fs::metadata(&file).expect("the file").len() > (1 << 20) - 4096,
            "it is full"
        );
        assert_eq!(
            ended["bytes"],
            fs::metadata(&second).expect("the file").len()
        );
        fs::remove_file(&second).expect("it is there");
    }
    let there = client.error("capture-start", json!({"file": "x0.pcapng"}), "refused");
    assert!(there.contains("name another file"), "{there}");
    client.error("capture-start", json!({"file": "../x.pcapng"}), "invalid");
    client.error("capture-start", json!({"pair": "none"}), "unknown");
    // One that runs ends with the node.
    client.done("capture-start", json!({"limit_mib": 4096}));
    node.stop();
}

#[test]
fn a_node_that_captures_from_its_start_takes_no_order_for_it() {
    let _turn = node::beside_others();
    let (dir, path) = place();
    let captures = dir.path().join("captures");
    let text = captures.to_str().expect("a plain path");
    let node = start(&path, &["--capture", text, "--capture-limit", "1"]);
    let mut client = Client::at(&path);
    for command in ["capture-start", "capture-stop"] {
        let refused = client.error(command, json!({}), "refused");
        assert!(refused.contains("--capture"), "{refused}");
    }
    node.stop();
}

#[test]
fn garbage_and_slow_clients_disturb_nobody() {
    let _turn = node::beside_others();
    let (_dir, path) = place();
    let node = start(&path, &[]);
    let mut client = Client::at(&path);
    for garbage in [
        "hello",
        "{}",
        "\u{0}\u{1}",
        "[[[[",
        "{\"command\":\"status\",\"id\":",
    ] {
        client.send(&format!("{garbage}\n"));
        let reply = client.line().expect("a reply");
        assert_eq!(
            (&reply["id"], &reply["error"]["class"]),
            (&Value::Null, &json!("protocol"))
        );
    }
    client.error("dance", json!({}), "unknown");
    client.error("status", json!({"pair": "none"}), "unknown");
    client.error("status", json!({"pear": 1}), "invalid");
    assert_eq!(client.pair()["role"], "compare");
    // A line without an end.
    let mut endless = Client::at(&path);
    while endless.stream.write_all(&[b'x'; 4096]).is_ok() {}
    let reply = endless.line();
    assert!(reply.is_none_or(|reply| reply["error"]["class"] == "protocol"));
    // Requests in one write are answered in their order, also behind the end of what the client sends.
    let mut many = Client::at(&path);
    many.send("{\"id\":1,\"command\":\"status\"}\n{\"id\":2,\"command\":\"nothing\"}\n{\"id\":3,\"command\":\"status\"}\n");
    many.stream
        .shutdown(std::net::Shutdown::Write)
        .expect("an open socket");
    for id in 1..=3 {
        assert_eq!(many.line().expect("a reply")["id"], id);
    }
    assert!(many.line().is_none());

    // A client that asks without end and takes nothing is read no more.
    let slow = Client::connect(&path);
    slow.stream
        .set_nonblocking(true)
        .expect("a mode that it has");
    let request = "{\"command\":\"status\"}\n".repeat(500);
    let mut sent = 0;
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(500) {
        match (&slow.stream).write(request.as_bytes()) {
            Ok(count) => sent += count,
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
    assert!(sent < 4 << 20, "{sent} bytes were taken");
    let before = node.stats()["polls"].as_u64();
    for _ in 0..20 {
        client.pair();
    }
    assert!(node.stats()["polls"].as_u64() > before, "it polls");
    // Nobody turns in circles about it.
    let thread = threads::named(node.id(), &["colo-socket"]).expect("the socket's thread");
    let busy = || -> u64 {
        let path = format!("/proc/{}/task/{thread}/schedstat", node.id());
        let text = fs::read_to_string(path).expect("the scheduler's figures");
        text.split(' ')
            .next()
            .and_then(|ns| ns.parse().ok())
            .expect("a number")
    };
    let began = busy();
    thread::sleep(Duration::from_secs(1));
    let share = (busy() - began) as f64 / 1e9;
    println!("the thread takes {share:.3} of a CPU beside a slow client");
    assert!(share < 0.2, "{share:.3} of a CPU");
    // At last it is cut off.
    let since = Instant::now();
    slow.stream
        .set_nonblocking(false)
        .expect("a mode that it has");
    slow.stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time");
    thread::sleep(Duration::from_secs(11));
    let mut left = Vec::new();
    let _ = (&slow.stream).read_to_end(&mut left);
    assert!(since.elapsed() < PATIENCE, "it is never cut off");
    assert_eq!(client.pair()["role"], "compare");
    node.stop();
    assert!(!path.exists(), "the file stays");
}

#[test]
fn a_hundred_clients_are_served_or_turned_away() {
    let _turn = node::beside_others();
    let (_dir, path) = place();
    let node = start(&path, &[]);
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(&path)).collect();
    let (mut served, mut turned_away) = (Vec::new(), 0);
    for mut client in clients.drain(..) {
        let line = client.line().expect("a greeting or an error");
        if line["error"]["class"] == "busy" {
            turned_away += 1;
            assert!(client.line().is_none(), "the connection ends");
        } else {
            served.push(client);
        }
    }
    assert_eq!((served.len(), turned_away), (CLIENTS, 100 - CLIENTS));
    for client in &mut served {
        assert_eq!(client.pair()["role"], "compare");
    }
    drop(served);
    // All at once, on threads.
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || {
                let mut client = Client::connect(&path);
                let greeted = client
                    .line()
                    .is_some_and(|line| line.get("error").is_none());
                (0..if greeted { 20 } else { 0 }).all(|_| client.pair()["role"] == "compare")
            })
        })
        .collect();
    for thread in threads {
        assert!(thread.join().expect("a client's thread"));
    }
    // One that has asked nothing for long makes room.
    let idle: Vec<Client> = (0..CLIENTS).map(|_| Client::at(&path)).collect();
    let turned_away = Client::connect(&path).line().expect("an error");
    assert_eq!(turned_away["error"]["class"], "busy");
    thread::sleep(Duration::from_secs(11));
    assert_eq!(Client::at(&path).pair()["role"], "compare");
    drop(idle);
    node.stop();
}

#[test]
fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let _turn = node::beside_others();
    let (dir, path) = place();
    let node = start(&path, &[]);
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let refused = |path: &Path, more: &[&str], says: &str| {
        let (prefix, words) = comparator(path, more);
        let ended = Node::spawn(prefix, words, false).wait();
        let lines = ended.own_lines();
        assert_eq!(ended.status.code(), Some(2), "{lines:?}");
        assert!(lines.len() == 1 && lines[0].contains(says), "{lines:?}");
    };
    refused(&path, &[], "another process listens there");
    assert_eq!(
        Client::at(&path).pair()["role"],
        "compare",
        "it is undisturbed"
    );
    node::clean(&node.crash());
    assert!(path.exists(), "it died without a chance to remove it");
    let node = start(&path, &["--control-group", "0"]);
    assert_eq!(mode(&path), 0o660);
    assert_eq!(Client::at(&path).pair()["role"], "compare");
    node.stop();
    let names = fs::read_dir(dir.path()).expect("the directory").count();
    assert_eq!(names, 0, "nothing is left");
    fs::write(&path, "text").expect("a file");
    refused(&path, &[], "no socket");
    assert_eq!(fs::read_to_string(&path).expect("it stays"), "text");
    refused(
        &dir.path().join("d"),
        &["--control-group", "no-such-group"],
        "no-such-group",
    );
    refused(&dir.path().join("missing/d"), &[], "missing/d");
    let node = start(Path::new("none"), &[]);
    assert!(!node::runtime_dir(&node.prefix()).join(SOCKET).exists());
    node.stop();
}
