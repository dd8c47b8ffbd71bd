//! `--metrics` from outside: a scraper gets the figures, whatever other clients do.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::frames::Flow;
use crate::node::{self, Node, PATIENCE, comparator, eal_options, prefix};
use crate::pair::{Pair, Plan};

const OPENMETRICS: &str = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";

/// A port of the loopback address that nobody has now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// Sends all of a request and reads to the end of the reply.
fn talk(mut stream: impl Read + Write, request: &[u8]) -> String {
    // The server may have heard enough before the end.
    let _ = stream.write_all(request);
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(reply).expect("text"),
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

fn ask(address: SocketAddr, line: &str, headers: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    talk(connect(address), request.as_bytes())
}

/// The text of a good reply.
fn body(reply: &str) -> &str {
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    reply.split_once("\r\n\r\n").expect("a body").1
}

/// The metrics, in the format for who asks for none.
pub fn scrape(address: SocketAddr) -> String {
    body(&ask(address, "GET /metrics", "")).to_owned()
}

/// A sample's value, by its name with all labels but the pair's.
fn value(text: &str, name: &str, labels: &str) -> f64 {
    let start = format!("{name}{{pair=\"vm0\"{labels}}} ");
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(&*start));
    let value = line.unwrap_or_else(|| panic!("no {start}: {text}"));
    value.parse().expect("a number")
}

/// A comparator whose ports give nothing.
fn start(metrics: &str) -> Node {
    let devices =
        ["net_null0", "net_null1", "net_null2"].map(|name| format!("--vdev={name},no-rx=1"));
    let mut own = comparator("net_null");
    own.extend(["--metrics".to_owned(), metrics.to_owned()]);
    Node::start(&devices, &own)
}

fn descriptors(node: &Node) -> usize {
    let found = fs::read_dir(format!("/proc/{}/fd", node.id()));
    found.expect("it runs").count()
}

fn threads(node: &Node) -> usize {
    let found = fs::read_dir(format!("/proc/{}/task", node.id()));
    found.expect("it runs").count()
}

fn promtool(text: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("promtool: {e}; scripts/install-packages installs it"));
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && said.is_empty(),
        "promtool: {said}"
    );
}

#[test]
fn a_scraper_gets_the_figures_that_telemetry_has() {
    let _turn = node::beside_others();
    let address = free_address();
    let node = start(&address.to_string());
    let before = node.stats();
    let text = scrape(address);
    let after = node.stats();
    promtool(&text);
    let number =
        |stats: &Value, path: &str| stats.pointer(path).and_then(Value::as_f64).expect(path);
    for (name, path) in [
        ("colo_polls_total", "/polls"),
        ("colo_idle_cycles_total", "/idle_cycles"),
        ("colo_busy_cycles_total", "/busy_cycles"),
        ("colo_released_frames_total", "/released"),
        ("colo_held_frames", "/held"),
        ("colo_hold_seconds_count", "/hold_ns/count"),
    ] {
        let seen = value(&text, name, "");
        assert!(
            number(&before, path) <= seen && seen <= number(&after, path),
            "{name}: {seen}, {before:#}, {after:#}"
        );
    }
    assert_eq!(
        value(&text, "colo_state", ",colo_state=\"protected\""),
        f64::from(before["state"] == "protected")
    );

    let old = ask(address, "GET /metrics", "");
    assert!(
        old.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{old}"
    );
    let open = ask(address, "GET /metrics?a=b", OPENMETRICS);
    assert!(
        open.contains(
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        ),
        "{open}"
    );
    assert!(
        body(&open).ends_with("# EOF\n") && body(&open).contains("# TYPE colo_state stateset\n"),
        "{open}"
    );
    let head = ask(address, "HEAD /metrics", "");
    assert_eq!(body(&head), "");
    for (line, status) in [
        ("GET /", "404 Not Found"),
        ("GET /metrics/", "404 Not Found"),
        ("GET //metrics", "404 Not Found"),
        ("POST /other", "404 Not Found"),
        ("POST /metrics", "405 Method Not Allowed"),
        ("DELETE /metrics", "405 Method Not Allowed"),
    ] {
        let reply = ask(address, line, "");
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{line}: {reply}"
        );
    }
    node.stop();
    let gone = TcpStream::connect(address).expect_err("the node has ended");
    assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn clients_that_do_wrong_do_no_harm() {
    let _turn = node::beside_others();
    let address = free_address();
    let node = start(&address.to_string());
    scrape(address);
    let (files, tasks) = (descriptors(&node), threads(&node));

    // What is no HTTP, or more than a request may be.
    let long = format!(
        "GET /metrics HTTP/1.1\r\nA: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(1 << 20));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "B: c\r\n".repeat(1000));
    let requests: [&[u8]; 8] = [
        b"\0\xff\x16\x03\x01\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        long.as_bytes(),
        path.as_bytes(),
        many.as_bytes(),
    ];
    for request in requests {
        let reply = talk(connect(address), request);
        let refused =
            reply.is_empty() || reply.starts_with("HTTP/1.1 4") || reply.starts_with("HTTP/1.0 4");
        assert!(
            refused,
            "{:?}: {reply}",
            String::from_utf8_lossy(&request[..request.len().min(60)])
        );
        scrape(address);
    }
    // A second request behind the first one gets no reply.
    let twice = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(
        talk(connect(address), twice).matches("HTTP/1.1 ").count(),
        1
    );

    // A hundred that say nothing, half of a request, or take no reply.
    let mut idle: Vec<TcpStream> = (0..100)
        .map(|n| {
            let mut stream = connect(address);
            match n % 3 {
                0 => {}
                1 => stream.write_all(b"GET /metr").expect("a few bytes"),
                _ => stream
                    .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
                    .expect("a few bytes"),
            }
            stream
        })
        .collect();
    let since = Instant::now();
    scrape(address);
    println!("a scrape behind 100 clients: {:?}", since.elapsed());
    // Two thirds of them would have 5 s each, 32 at a time.
    assert!(since.elapsed() < Duration::from_secs(8), "they keep it out");
    // Those who ask are all served, however many they are.
    let scrapers: Vec<_> = (0..100)
        .map(|_| thread::spawn(move || (0..5).for_each(|_| drop(scrape(address)))))
        .collect();
    for scraper in scrapers {
        scraper.join().expect("each scrape has a reply");
    }
    println!("500 scrapes by 100 more: {:?}", since.elapsed());
    assert!(
        descriptors(&node) <= files + 33,
        "{files}, {}",
        descriptors(&node)
    );
    assert_eq!(threads(&node), tasks);

    // One that sends a byte at a time is cut off.
    let mut slow = connect(address);
    let since = Instant::now();
    let cut_off = loop {
        let sent = slow.write_all(b"G");
        slow.set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a time-out");
        let ended = match slow.read(&mut [0; 64]) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        if sent.is_err() || ended {
            break since.elapsed();
        }
        assert!(since.elapsed() < PATIENCE, "it is not cut off");
    };
    println!("a slow client was cut off after {cut_off:?}");
    // By now the others are, too.
    for stream in &mut idle {
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }
    let since = Instant::now();
    while descriptors(&node) > files {
        assert!(since.elapsed() < PATIENCE, "descriptors are left");
        thread::sleep(Duration::from_millis(20));
    }
    let rounds = node.stats()["polls"].as_u64();
    node.wait_for("more rounds", |stats| stats["polls"].as_u64() > rounds);
    node.stop();
}

#[test]
fn metrics_are_served_on_a_socket() {
    let _turn = node::beside_others();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("metrics.sock");
    let place = format!("unix:{}", path.display());
    let node = start(&place);
    let mode = fs::metadata(&path)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    let stream = UnixStream::connect(&path).expect("it listens");
    let reply = talk(stream, b"GET /metrics HTTP/1.0\r\n\r\n");
    assert!(reply.contains("colo_polls_total{pair=\"vm0\"}"), "{reply}");
    assert!(refused(&place).contains("another process listens there"));
    node.stop();
    assert!(!path.exists());
}

/// What a node says that cannot serve its metrics there.
fn refused(metrics: &str) -> String {
    let prefix = prefix();
    let mut words = eal_options(&prefix, 2);
    words.extend((0..3).map(|n| format!("--vdev=net_null{n},no-rx=1")));
    words.push("--".into());
    words.extend(comparator("net_null"));
    words.extend(["--metrics".to_owned(), metrics.to_owned()]);
    let ended = Node::spawn(prefix, words, false).wait();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--metrics"), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn a_port_that_another_has_is_a_usage_error() {
    let _turn = node::beside_others();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let said = refused(&address);
    assert!(said.contains("a port that is free"), "{said}");
}

/// A Prometheus that scrapes two nodes.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(dir: &Path, targets: [SocketAddr; 2]) -> Self {
        let address = free_address();
        let rules = share("prometheus/dpdk-colo.rules.yml");
        let [a, b] = targets;
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n  - {}\n\
             scrape_configs:\n  - job_name: dpdk-colo\n    static_configs:\n      - targets: ['{a}', '{b}']\n",
            rules.display()
        );
        let path = dir.join("prometheus.yml");
        fs::write(&path, config).expect("a file");
        let log = fs::File::create(dir.join("prometheus.log")).expect("a file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("prometheus: {e}; scripts/install-packages installs it"));
        Self { child, address }
    }

    /// The result of a query, or `None` while it does not answer.
    fn query(&self, query: &str) -> Option<Vec<Value>> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric();
        let encoded: String = query
            .bytes()
            .map(|byte| match plain(byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect();
        let stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
        let reply = talk(stream, request.as_bytes());
        let (_, body) = reply.split_once("\r\n\r\n")?;
        let answer: Value = serde_json::from_str(body).ok()?;
        match answer["status"].as_str() {
            Some("success") => answer["data"]["result"].as_array().cloned(),
            // It is not ready.
            None => None,
            _ => panic!("{query}: {answer}"),
        }
    }

    /// Waits until a query has this many results.
    fn wait_for(&self, query: &str, results: usize) -> Vec<Value> {
        let since = Instant::now();
        loop {
            let found = self.query(query);
            if let Some(found) = found.as_ref().filter(|found| found.len() >= results) {
                return found.clone();
            }
            assert!(since.elapsed() < 2 * PATIENCE, "{query}: {found:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn share(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("share")
        .join(file)
}

#[test]
fn a_prometheus_scrapes_a_pair_and_the_board_has_answers() {
    let _turn = node::beside_others();
    let (primary, secondary) = (free_address(), free_address());
    let words = [primary, secondary].map(|address| address.to_string());
    let mut pair = Pair::with(Plan {
        of_primary: &["--metrics", &words[0]],
        of_secondary: &["--metrics", &words[1]],
        ..Plan::default()
    });
    let prometheus = Prometheus::start(pair.dir.path(), [primary, secondary]);
    prometheus.wait_for("up == 1", 2);
    pair.enter_colo();
    let flow = Flow::v4(1);
    for n in 0..20 {
        pair.agree(&flow.data(500 + n, 9, b"x"));
    }
    pair.checkpoint();
    pair.wait_for_epoch(2);

    for address in [primary, secondary] {
        promtool(&scrape(address));
    }
    let text = scrape(primary);
    let stats = pair.primary.stats();
    assert_eq!(value(&text, "colo_checkpoints_committed_total", ""), 1.0);
    assert_eq!(stats["checkpoints"]["committed"], 1);
    let stops = value(&text, "colo_vm_stops_total", ",reason=\"qemu\"");
    assert!(stops >= 1.0, "{text}");
    let sent = |kind: &str| {
        value(
            &text,
            "colo_link_sent_bytes_total",
            &format!(",kind=\"{kind}\""),
        )
    };
    assert!(sent("control") > 0.0 && sent("heartbeat") > 0.0, "{text}");
    let other = scrape(secondary);
    let data = value(&other, "colo_link_sent_bytes_total", ",kind=\"data\"");
    assert!(data > 20.0 * 44.0, "{other}");
    assert_eq!(
        data,
        value(&text, "colo_link_received_bytes_total", ",kind=\"data\"")
    );

    // Prometheus has taken the OpenMetrics of both.
    prometheus.wait_for("colo_state{colo_state=\"protected\"} == 1", 2);
    prometheus.wait_for("colo_checkpoints_committed_total == 1", 1);
    prometheus.wait_for("colo_epoch == 2", 2);
    prometheus.wait_for("colo_hold_seconds_bucket{le=\"+Inf\"} >= 20", 1);
    let wrong = prometheus
        .query("scrape_samples_scraped < 200")
        .expect("it answers");
    assert!(wrong.is_empty(), "{wrong:?}");
    let board = fs::read_to_string(share("grafana/dpdk-colo.json")).expect("the board");
    let board: Value = serde_json::from_str(&board).expect("JSON");
    // Nothing of the kind has happened.
    let may_be_empty = [
        "Divergences by reason",
        "Uncompared frames by rule",
        "Faults",
        "Losses on the link",
    ];
    for panel in board["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        let since = Instant::now();
        loop {
            let targets = panel["targets"].as_array().expect("targets").iter();
            let results = targets.map(|target| {
                let query = target["expr"].as_str().expect("a query");
                let query = query
                    .replace("$__rate_interval", "1m")
                    .replace("$instance", ".*")
                    .replace("$pair", ".*");
                prometheus.query(&query).expect("an answer").len()
            });
            // A rate needs two scrapes.
            if results.sum::<usize>() > 0 || may_be_empty.contains(&title) {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "no answer for {title:?}");
            thread::sleep(Duration::from_millis(200));
        }
    }
    drop(prometheus);
    pair.end();
}

#[test]
fn a_node_that_is_stopped_by_a_signal_ends_its_clients() {
    let _turn = node::beside_others();
    let address = free_address();
    let node = start(&address.to_string());
    let mut idle = connect(address);
    scrape(address);
    node.signal(Signal::INT);
    let since = Instant::now();
    let ended = node.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(idle.read(&mut [0; 16]).unwrap_or(0), 0);
}
