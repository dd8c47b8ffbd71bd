//! A panic on any thread ends the process, and by SIGABRT, so that a supervisor starts it again.
//!
//! A child process runs this very test with a variable that makes it the one that panics.

use std::env;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PLAYS: &str = "COLO_TEST_PANICS";
const SIGABRT: i32 = 6;
/// A process that goes on ends by itself after this, with status 0.
const GOES_ON: Duration = Duration::from_secs(20);

fn child(stderr: Stdio) -> Command {
    let mut child = Command::new(env::current_exe().expect("this test's path"));
    child
        .args(["--exact", "a_panic_ends_the_process", "--nocapture"])
        .env(PLAYS, "1")
        .stdout(Stdio::null())
        .stderr(stderr);
    child
}

#[test]
fn a_panic_ends_the_process() {
    if env::var_os(PLAYS).is_some() {
        dpdk_colo::panics::end_the_process();
        let control = thread::Builder::new()
            .name("colo-control".into())
            .spawn(|| panic!("a bug"))
            .expect("a thread");
        // The poll cores' part: it does not look at the thread that failed.
        thread::sleep(GOES_ON);
        drop(control);
        return;
    }
    let ended = child(Stdio::piped()).output().expect("a child");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(
        ended.status.signal(),
        Some(SIGABRT),
        "{:?}: {said}",
        ended.status
    );
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("dpdk-colo: error: the thread colo-control failed"),
        "{said}"
    );
    assert!(
        said.contains("a bug") && said.contains("tests/panics.rs"),
        "{said}"
    );

    // A full pipe that nobody reads as stderr does not keep it alive.
    let (reader, mut writer) = io::pipe().expect("a pipe");
    fill(&mut writer);
    let since = Instant::now();
    let status = child(writer.into()).status().expect("a child");
    assert_eq!(status.signal(), Some(SIGABRT), "{status:?}");
    assert!(since.elapsed() < GOES_ON);
    drop(reader);
}

/// Fills a pipe to its last byte.
fn fill(pipe: &mut io::PipeWriter) {
    use io::Write;
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    let flags = fcntl_getfl(&*pipe).expect("its flags");
    fcntl_setfl(&*pipe, flags | OFlags::NONBLOCK).expect("a pipe can");
    let mut bytes = vec![b'x'; 1 << 16];
    while !bytes.is_empty() {
        while pipe.write(&bytes).is_ok() {}
        bytes.truncate(bytes.len() / 2);
    }
    fcntl_setfl(&*pipe, flags).expect("a pipe can");
}
