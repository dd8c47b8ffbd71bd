//! What a panic does, on whatever thread: it ends the process.
//!
//! `docs/failure-model.md` says why. The end comes in a bounded time, also where nobody reads stderr.

use std::io::{self, Write};
use std::panic;
use std::process;
use std::thread;
use std::time::Duration;

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// From now on a panic ends the process by SIGABRT, after a line that says so.
pub fn end_the_process() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        let clock = thread::Builder::new().spawn(|| {
            thread::sleep(LAST_WORDS);
            process::abort();
        });
        // Without the clock the words could wait for ever.
        if clock.is_ok() {
            report(panicked);
            let thread = thread::current();
            let _ = writeln!(
                io::stderr(),
                "dpdk-colo: error: the thread {} failed, which ends this process; this is a bug, please report it \
                 with the lines above; start the node again with the same words",
                thread.name().unwrap_or("without a name")
            );
        }
        process::abort();
    }));
}
