//! The poll thread makes no system call, with and without traffic and scrapers (`COLO_WATCH` sets the seconds of
//! each look), and the control thread sleeps between two looks at it.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use colo_testkit::{requirement, thread as threads};
use rustix::process::{Pid, Signal, kill_process};

use crate::metrics;
use crate::node::{self, Node, comparator};
use crate::traffic::Traffic;
use crate::vhost::Sockets;

/// System calls of a thread in some time and what strace says of them; its last line where the kernel lets
/// nobody look.
fn system_calls(thread: i32, time: Duration) -> Result<(u64, String), String> {
    let mut strace = Command::new("strace")
        .args(["-c", "-p", &thread.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("strace: {e}; scripts/install-packages installs it"));
    thread::sleep(time);
    let pid = Pid::from_raw(strace.id() as i32).expect("a child's id");
    // Where it could not attach it has ended by itself.
    let _ = kill_process(pid, Signal::INT);
    let mut text = String::new();
    let mut stderr = strace.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut text).expect("text");
    strace.wait().expect("it ends");
    if !text.contains("attached") {
        let last = text.lines().last().unwrap_or_default();
        return Err(format!("strace: {last}"));
    }
    // The last line of the table is the total; without a call there is no table.
    let total = text.lines().rev();
    let total = total
        .map(str::trim_end)
        .find(|line| line.ends_with("total"));
    let calls = total.map_or(Some(0), |line| line.split_whitespace().nth(3)?.parse().ok());
    let calls = calls.unwrap_or_else(|| panic!("no number of calls: {text}"));
    Ok((calls, text))
}

/// A node's control thread.
fn control(node: &Node) -> i32 {
    threads::named(node.id(), &["colo-control"]).expect("a control thread")
}

/// A comparator's options, with a poll thread that never sleeps.
fn awake() -> Vec<String> {
    let mut own = comparator("net_vhost");
    let sleep = own.iter().position(|word| word == "--idle-sleep");
    own[sleep.expect("the option") + 1] = "0".into();
    own
}

#[test]
fn the_control_thread_sleeps_while_it_waits_for_requests() {
    let _turn = node::alone();
    let sockets = Sockets::new();
    let mut own = awake();
    // Nobody listens, and it is looked at as often as if somebody did.
    own.extend(["--qmp", "/nonexistent/monitor.sock"].map(str::to_owned));
    let node = Node::start(&sockets.backends(), &own);
    let control = control(&node);
    let path = format!("/proc/{}/task/{control}/schedstat", node.id());
    // Nanoseconds on a CPU.
    let busy = || -> u64 {
        let text = fs::read_to_string(&path).expect("the scheduler's figures");
        let first = text.split_whitespace().next();
        first.and_then(|ns| ns.parse().ok()).expect("a number")
    };
    let (before, began) = (busy(), Instant::now());
    thread::sleep(Duration::from_secs(1));
    let share = (busy() - before) as f64 / began.elapsed().as_nanos() as f64;
    println!("the control thread takes {share:.2} of a CPU");
    assert!(share < 0.75, "{share:.2} of a CPU");
    node.stop();
}

#[test]
fn the_poll_thread_makes_no_system_call() {
    let _turn = node::alone();
    let seconds = std::env::var("COLO_WATCH")
        .ok()
        .and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(2));
    let sockets = Sockets::new();
    let (mut own, address) = (awake(), metrics::free_address());
    own.extend(["--metrics".to_owned(), address.to_string()]);
    let node = Node::start(&sockets.backends(), &own);

    let control = control(&node);
    let looked = system_calls(control, Duration::from_millis(300));
    let Some((calls, _)) = requirement::met("ptrace", looked) else {
        return;
    };
    assert!(
        calls > 0,
        "strace shows no call of a thread that polls descriptors"
    );

    let poller = threads::poll_core(node.id()).expect("a worker lcore");
    let before = node.stats()["polls"].as_u64();
    let (calls, table) = system_calls(poller, time).expect("strace has run before");
    let after = node.stats()["polls"].as_u64();
    println!("idle: {calls} system calls, polls {before:?} to {after:?}");
    assert!(after > before, "it does not poll");
    assert_eq!(calls, 0, "{table}");

    let traffic = Traffic::streams(&sockets.frontends(), &[]);
    let stats = node.wait_for("traffic", |stats| stats["released"].as_u64() > Some(1000));
    let looks = Arc::new(AtomicBool::new(true));
    let scraper = {
        let looks = Arc::clone(&looks);
        thread::spawn(move || {
            let mut scrapes = 0;
            while looks.load(Ordering::Relaxed) {
                metrics::scrape(address);
                scrapes += 1;
            }
            scrapes
        })
    };
    let (calls, table) = system_calls(poller, time).expect("strace has run before");
    looks.store(false, Ordering::Relaxed);
    let scrapes = scraper.join().expect("each scrape has a reply");
    assert!(scrapes > 10, "{scrapes} scrapes");
    let (before, after) = (
        stats["released"].as_u64(),
        node.stats()["released"].as_u64(),
    );
    println!("busy: {calls} system calls, {scrapes} scrapes, released {before:?} to {after:?}");
    assert!(after > before, "nothing was released meanwhile");
    assert_eq!(calls, 0, "{table}");
    drop(traffic);
    node.stop();
}
