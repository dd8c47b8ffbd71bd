//! The client against QEMU itself, which `scripts/install-packages` installs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use colo_testkit::requirement;
use dpdk_colo::qmp::{
    Address, Client, Event, MigrationStatus, NoColo, Probe, QmpError, RequestFailure, RunState,
};
use tempfile::TempDir;

use crate::drive::{during, options, until};

const QEMU: &str = "qemu-system-x86_64";

/// A virtual machine without a guest, ended when dropped.
struct Qemu {
    dir: TempDir,
    child: Child,
}

impl Qemu {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let child = spawn(dir.path(), more)
            .unwrap_or_else(|e| panic!("{QEMU}: {e}; scripts/install-packages installs it"));
        Self { dir, child }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("m.qmp")
    }

    /// Says one command on a second monitor, as an operator would.
    fn operate(&self, command: &str) {
        let path = self.dir.path().join("o.qmp");
        let mut stream = UnixStream::connect(path).expect("the operator's monitor");
        let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
        for line in ["", r#"{"execute": "qmp_capabilities"}"#, command] {
            stream.write_all(line.as_bytes()).unwrap();
            let reply = replies
                .by_ref()
                .map(Result::unwrap)
                .find(|reply| !reply.contains("\"event\""))
                .expect("a reply");
            assert!(!reply.contains("\"error\""), "{reply}");
        }
    }

    fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), &[]).expect("QEMU starts again");
    }

    fn client(&self) -> Client {
        Client::new(Address::Unix(self.path()), options())
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(dir: &Path, more: &[&str]) -> std::io::Result<Child> {
    let mut qemu = Command::new(QEMU);
    qemu.args(["-machine", "none", "-nodefaults", "-display", "none"]);
    for name in ["m.qmp", "o.qmp"] {
        let path = dir.join(name);
        qemu.arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", path.display()));
    }
    qemu.args(more)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// Whether the QEMU that is installed can do COLO; no where the tests do without that.
fn can_do_colo(probe: &Probe) -> bool {
    let lack = match &probe.colo {
        Err(reason @ (NoColo::Version(_) | NoColo::Capability)) => Err(reason),
        _ => Ok(()),
    };
    requirement::met("qemu-colo", lack).is_some()
}

fn connected(client: &mut Client) -> Probe {
    let last = until(client, |event| matches!(event, Event::Connected(_))).pop();
    match last {
        Some(Event::Connected(probe)) => *probe,
        _ => unreachable!("`until` ends at this event"),
    }
}

#[test]
fn probe_request_barrier_stop_and_restart() {
    let mut qemu = Qemu::start();
    let mut client = qemu.client();
    let probe = connected(&mut client);
    assert_eq!(probe.run, RunState::Running);
    assert_eq!(probe.migration, MigrationStatus::None);
    if !can_do_colo(&probe) {
        return;
    }
    assert_eq!(probe.colo, Ok(()));
    assert!(probe.events_capability);
    assert!(probe.checkpoint_delay_ms.is_some());

    client.barrier(1, Instant::now()).unwrap();
    client.request_checkpoint(2, Instant::now()).unwrap();
    let events = until(&mut client, |event| {
        matches!(event, Event::RequestAccepted { token: 2, .. })
    });
    assert!(events.iter().any(|event| matches!(
        event,
        Event::Barrier {
            token: 1,
            run: RunState::Running,
            migration: MigrationStatus::None,
        }
    )));

    qemu.operate(r#"{"execute": "stop"}"#);
    until(
        &mut client,
        |event| matches!(event, Event::Stop { at } if at.qemu.is_some_and(|time| time.seconds > 0)),
    );
    qemu.operate(r#"{"execute": "cont"}"#);
    client.barrier(3, Instant::now()).unwrap();
    let events = until(&mut client, |event| {
        matches!(event, Event::Barrier { token: 3, .. })
    });
    assert!(
        matches!(events[0], Event::Resume { .. }),
        "the barrier overtook an event: {events:?}"
    );

    qemu.end();
    until(&mut client, |event| matches!(event, Event::Disconnected(_)));
    qemu.start_again();
    assert_eq!(connected(&mut client), probe);
}

/// The operator's delay is what a request repeats, so that it stays.
#[test]
fn an_operators_delay_survives_requests() {
    let qemu = Qemu::start();
    let mut client = qemu.client();
    let probe = connected(&mut client);
    if !can_do_colo(&probe) {
        return;
    }
    assert_eq!(probe.colo, Ok(()));
    qemu.operate(
        r#"{"execute": "migrate-set-parameters", "arguments": {"x-checkpoint-delay": 4321}}"#,
    );
    during(&mut client, options().refresh_interval * 5);
    client.request_checkpoint(1, Instant::now()).unwrap();
    until(&mut client, |event| {
        matches!(event, Event::RequestAccepted { .. })
    });
    drop(client);
    assert_eq!(
        connected(&mut qemu.client()).checkpoint_delay_ms,
        Some(4321)
    );
}

/// QEMU's policy on unstable interfaces takes COLO's away, each half in its own way.
#[test]
fn a_policy_against_unstable_interfaces_is_named() {
    let qemu = Qemu::start_with(&["-compat", "unstable-output=hide"]);
    let probe = connected(&mut qemu.client());
    if !can_do_colo(&probe) {
        return;
    }
    assert_eq!(probe.colo, Err(NoColo::CheckpointDelayHidden));
    let qemu = Qemu::start_with(&["-compat", "unstable-input=reject"]);
    let mut client = qemu.client();
    connected(&mut client);
    client.request_checkpoint(1, Instant::now()).unwrap();
    until(&mut client, |event| {
        matches!(
            event,
            Event::RequestFailed {
                token: 1,
                cause: RequestFailure::Refused(_),
            }
        )
    });
}

/// A monitor that others hold and wait for must not block the control thread, and must be had as
/// soon as they leave.
#[test]
fn a_monitor_that_others_hold_is_named_and_had_later() {
    let qemu = Qemu::start();
    let mut client = qemu.client();
    connected(&mut client);
    // The holder is connected for certain; these two fill the listener's backlog.
    let waiting = [(); 2].map(|()| UnixStream::connect(qemu.path()).unwrap());
    let mut other = qemu.client();
    let last = until(&mut other, |event| matches!(event, Event::Disconnected(_))).pop();
    match last {
        Some(Event::Disconnected(error @ QmpError::Connect { .. })) => {
            assert!(error.to_string().contains("one at a time"), "{error}");
        }
        event => panic!("{event:?}"),
    }
    drop((client, waiting));
    connected(&mut other);
}
