//! A poll core that stands still while QEMU waits for it: QEMU is not let go before the core is quiet, an operator
//! hears of it, and the process ends where that lasts.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::node::{self, Node, PATIENCE};
use crate::pair::{PVM, Pair, Plan};
use crate::quiet::{WORKER, thread_of};

const SIGABRT: i32 = 6;

/// Traces a thread, stops it, and lets it go when nobody wants it stopped any more.
const HOLD: &str = "
import ctypes, os, sys
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
thread = int(sys.argv[1])
for request in SEIZE, INTERRUPT:
    if libc.ptrace(request, thread, None, None) < 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        sys.exit(1)
os.waitpid(thread, WALL)
print('held', flush=True)
sys.stdin.read()
";

/// A thread that does not run until this is dropped.
struct Held(Child);

impl Held {
    /// The poll core of a node; nothing where the kernel lets nobody trace it.
    fn poll_core(node: &Node) -> Option<Self> {
        let thread = thread_of(node.id(), &WORKER);
        let mut python = Command::new("python3")
            .args(["-c", HOLD, &thread.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("python3: {e}; scripts/install-packages installs it"));
        let mut line = String::new();
        let mut said = BufReader::new(python.stdout.take().expect("a pipe"));
        said.read_line(&mut line).expect("text");
        let held = Self(python);
        if line.trim() == "held" {
            return Some(held);
        }
        // No package gives the right to trace: a container may refuse it to a person, never to CI.
        assert!(std::env::var_os("CI").is_none(), "ptrace: {line}");
        println!("SKIPPED a poll core that stands still: ptrace: {line}");
        None
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What it traced goes on when its input ends.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn qemu_waits_for_a_stalled_poll_core_and_the_log_reports_it() {
    let _turn = node::beside_others();
    let mut pair = Pair::new();
    let Some(held) = Held::poll_core(&pair.primary) else {
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
    let Some(held) = Held::poll_core(&pair.primary) else {
        return;
    };
    pair.frames.begin_stop(PVM);
    pair.primary.wait_for_line("ends this process");
    // A thread that is traced has not ended before its tracer knows, nor has its process.
    drop(held);
    let ended = pair.primary.wait();
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{}", ended.stderr);
    let last = ended.own_lines().last().copied().unwrap_or_default();
    assert!(last.starts_with("dpdk-colo: error: pair vm0: "), "{last}");
    for word in ["ends this process", "start it again"] {
        assert!(last.contains(word), "{last}");
    }
}

#[test]
fn a_poll_core_that_stands_still_alone_ends_nothing() {
    let _turn = node::beside_others();
    let pair = Pair::with(Plan {
        of_primary: &["--stall-limit", "1"],
        ..Plan::default()
    });
    let Some(held) = Held::poll_core(&pair.primary) else {
        return;
    };
    // Nobody waits for it.
    thread::sleep(Duration::from_secs(3));
    drop(held);
    pair.end();
}
