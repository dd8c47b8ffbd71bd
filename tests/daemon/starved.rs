//! Poll cores without CPU, and restarts that were announced: silences that are no loss.

use std::net::UdpSocket;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use colo_testkit::requirement;
use colo_testkit::thread::Held;
use rustix::process::Signal;

use crate::node::{self, Node};
use crate::pair::{NETWORK, PVM, Pair, Plan};

/// Longer than the silence after which a peer is lost, shorter than the usual limit of a stall.
const STALL: Duration = Duration::from_millis(1500);

/// Keeps the poll core of a node from running for [`STALL`]; `None` where the tests do without that.
fn stall(process: u32) -> Option<()> {
    let held = requirement::met("ptrace", Held::poll_core(process))?;
    thread::sleep(STALL);
    drop(held);
    Some(())
}

/// A pair whose nodes fence each other, and the file that says that one was.
fn pair(reports: bool, limit: Option<&str>) -> (Pair, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let command = |who: &str| format!("exec:touch {}", dir.path().join(who).display());
    let (of_primary, of_secondary) = (command("secondary"), command("primary"));
    // Two ports that nobody has now.
    let sockets = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let [p, s] = sockets.map(|socket| socket.local_addr().expect("it has a port").to_string());
    let ends = [format!("{p},{s}"), format!("{s},{p}")];
    let options = |command: &'static str, at: usize| {
        let mut words = vec!["--on-peer-lost", command, "--failover", "auto"];
        if reports {
            words.extend(["--heartbeat-udp", leak(ends[at].clone())]);
        }
        if let Some(limit) = limit {
            words.extend(["--peer-stall-limit", leak(limit.to_owned())]);
        }
        words
    };
    let mut pair = Pair::with(Plan {
        of_primary: &options(leak(of_primary), 0),
        of_secondary: &options(leak(of_secondary), 1),
        ..Plan::default()
    });
    pair.enter_colo();
    (pair, dir)
}

/// Words of a command line that live as long as the test.
fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn is_fenced(dir: &Path, who: &str) -> bool {
    dir.join(who).exists()
}

/// Waits until a node has been fenced, and says for how long.
fn wait_for_fence(dir: &Path, who: &str) -> Duration {
    let since = Instant::now();
    while !is_fenced(dir, who) {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "{who} is not fenced"
        );
        thread::sleep(Duration::from_millis(5));
    }
    since.elapsed()
}

#[test]
fn a_peer_without_cpu_is_waited_for_and_a_dead_one_is_fenced() {
    let _turn = node::beside_others();
    let (mut pair, dir) = pair(true, None);
    let (p, s) = (pair.primary.id(), pair.secondary.id());
    for (stalled, waits, who) in [
        (s, &mut pair.primary, "secondary"),
        (p, &mut pair.secondary, "primary"),
    ] {
        if stall(stalled).is_none() {
            return;
        }
        waits.wait_for_line("the peer reports that its poll core gets no CPU");
        waits.wait_for_line("the peer's poll core runs again");
        assert!(!is_fenced(dir.path(), who), "{who} lives");
    }
    pair.secondary.wait_for_line("got no CPU for");
    let stats = pair.secondary.wait_for("the time", |stats| {
        stats["lost_time_ns"].as_u64() >= Some(1_000_000_000)
    });
    assert!(
        stats["longest_round_ns"].as_u64() >= Some(1_000_000_000),
        "{stats:#}"
    );
    assert_eq!(stats["peer"]["losses"], 0, "{stats:#}");
    pair.secondary.signal(Signal::KILL);
    let time = wait_for_fence(dir.path(), "secondary");
    assert!(time < Duration::from_secs(5), "as soon as ever: {time:?}");
}

#[test]
fn without_reports_a_peer_without_cpu_is_fenced() {
    let _turn = node::beside_others();
    let (pair, dir) = pair(false, None);
    if stall(pair.secondary.id()).is_some() {
        wait_for_fence(dir.path(), "secondary");
    }
}

#[test]
fn a_peer_without_cpu_for_longer_than_the_limit_is_fenced() {
    let _turn = node::beside_others();
    let (pair, dir) = pair(true, Some("300"));
    if stall(pair.secondary.id()).is_some() {
        wait_for_fence(dir.path(), "secondary");
    }
}

#[test]
fn a_node_whose_restart_was_announced_is_not_fenced() {
    let _turn = node::beside_others();
    let (mut pair, dir) = pair(false, None);
    pair.primary.signal(Signal::USR1);
    pair.primary
        .wait_for_line("the peer has received the announcement");
    let (prefix, words) = (pair.primary.prefix(), pair.primary_words.clone());
    pair.frames.stop(PVM);
    pair.frames.stop(NETWORK);
    pair.primary.stop();
    thread::sleep(STALL);
    assert!(!is_fenced(dir.path(), "primary"), "it comes back");
    let again = Node::start_at(prefix, node::usual_cores(), &words);
    pair.secondary
        .wait_for("its session", |stats| stats["link"]["sessions"] == 2);
    assert!(!is_fenced(dir.path(), "primary"), "it is back");
    again.signal(Signal::KILL);
    let time = wait_for_fence(dir.path(), "primary");
    assert!(
        time < Duration::from_secs(5),
        "the announcement is used up: {time:?}"
    );
}

/// A host that shuts down sends SIGTERM to all its processes, and does not come back.
#[test]
fn a_plain_end_announces_nothing() {
    let _turn = node::beside_others();
    let (pair, dir) = pair(true, None);
    pair.secondary.stop();
    wait_for_fence(dir.path(), "secondary");
}
