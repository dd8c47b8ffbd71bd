//! A poll core that stands still while QEMU waits for it: QEMU is not let go before the core is quiet, an operator
//! hears of it, and the process ends where that lasts.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use colo_testkit::requirement;
use colo_testkit::thread::Held;

use crate::node::{self, Node, PATIENCE};
use crate::pair::{PVM, Pair, Plan};

const SIGABRT: i32 = 6;

/// Stops the poll core of a node until what it returns is dropped; `None` where the tests do without that.
fn hold(node: &Node) -> Option<Held> {
    requirement::met("ptrace", Held::poll_core(node.id()))
}

#[test]
fn qemu_waits_for_a_stalled_poll_core_and_the_log_reports_it() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    let Some(held) = hold(&pair.primary) else {
        return;
    };
    pair.frames.begin_stop(PVM);
    pair.primary.wait_for_line("stands still for 1.");
    let log = pair.primary.stderr();
    let line = log.lines().find(|line| line.contains("stands still"));
    let line = line.expect("it was waited for");
    assert!(line.starts_with("dpdk-colo: warning: pair vm0: "), "{line}");
    for word in ["QEMU has stopped the VM and waits", "--stall-limit"] {
        assert!(line.contains(word), "{line}");
    }
    // Rule R3.
    assert!(!pair.frames.has_stopped(PVM));
    drop(held);
    let since = Instant::now();
    while !pair.frames.has_stopped(PVM) {
        assert!(since.elapsed() < PATIENCE, "it does not stop");
    }
    pair.primary.wait_for_line("goes on after");
    pair.frames.start(PVM);
    pair.end();
}

#[test]
fn a_poll_core_that_stands_still_for_too_long_ends_the_process() {
    let _turn = node::beside_others();
    let mut pair = Pair::with(Plan {
        of_primary: &["--stall-limit", "2"],
        ..Plan::default()
    });
    let Some(held) = hold(&pair.primary) else {
        return;
    };
    pair.frames.begin_stop(PVM);
    pair.primary.wait_for_line("ends this process");
    // A thread that is traced has not ended before its tracer knows, nor has its process.
    drop(held);
    let ended = pair.primary.wait();
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{}", ended.stderr);
    // A line of the link's session may come behind it where the CPU is scarce.
    let lines = ended.own_lines();
    let said = lines.iter().any(|line| {
        line.starts_with("dpdk-colo: error: pair vm0: ")
            && line.contains("ends this process")
            && line.contains("start it again")
    });
    assert!(said, "{lines:?}");
}

#[test]
fn a_poll_core_that_stands_still_alone_ends_nothing() {
    let _turn = node::beside_others();
    let pair = Pair::with(Plan {
        of_primary: &["--stall-limit", "1"],
        ..Plan::default()
    });
    let Some(held) = hold(&pair.primary) else {
        return;
    };
    // Nobody waits for it.
    thread::sleep(Duration::from_secs(3));
    drop(held);
    pair.end();
}
