//! A unix socket in front of a guest's monitor that can freeze it, close it, and act on what passes.
//!
//! In: the monitor's socket and the path where the node finds the relay. Out: the same bytes both ways
//! while the line is open; and once, when a chosen message passes, a call of the suite's, before the
//! message is passed on. That is how a fault is placed inside a checkpoint.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::LabError;

/// Period at which a thread of the relay reads its orders.
const STEP: Duration = Duration::from_millis(20);

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Line {
    /// They pass.
    #[default]
    Open,
    /// They wait, both ways; the sockets stay open.
    Frozen,
    /// Sessions end at once, and new ones end as they come.
    Closed,
}

/// A message that a fault can be tied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The node asks for a checkpoint.
    Request,
    /// The VM has stopped.
    Stop,
    /// The VM is about to run again.
    Resume,
    /// The node reports the other host's loss to QEMU.
    FailOver,
}

impl Sight {
    /// What the message holds, and whether the node sends it.
    fn mark(self) -> (&'static [u8], bool) {
        match self {
            Self::Request => (b"migrate-set-parameters", true),
            Self::Stop => (b"\"STOP\"", false),
            Self::Resume => (b"\"RESUME\"", false),
            Self::FailOver => (b"x-colo-lost-heartbeat", true),
        }
    }
}

type Act = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    line: Line,
    armed: Option<(Sight, Act)>,
    ended: bool,
}

type Shared = Arc<Mutex<State>>;

/// A running relay; dropped, its sessions have ended.
pub struct Relay {
    shared: Shared,
    listen: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens at `listen` and connects each session to `monitor`.
    ///
    /// # Errors
    /// [`LabError::File`] if the socket cannot be made.
    pub fn start(listen: &Path, monitor: &Path) -> Result<Self, LabError> {
        let listener = UnixListener::bind(listen).map_err(LabError::file(listen))?;
        listener
            .set_nonblocking(true)
            .map_err(LabError::file(listen))?;
        let shared = Shared::default();
        let (state, target) = (Arc::clone(&shared), monitor.to_owned());
        let thread = std::thread::spawn(move || accept(&listener, &target, &state));
        Ok(Self {
            shared,
            listen: listen.to_owned(),
            thread: Some(thread),
        })
    }

    /// Sets what becomes of the bytes from now on.
    pub fn set(&self, line: Line) {
        lock(&self.shared).line = line;
    }

    /// Calls `act` once, on the relay's thread, when `sight` passes next.
    pub fn arm(&self, sight: Sight, act: impl FnOnce() + Send + 'static) {
        lock(&self.shared).armed = Some((sight, Box::new(act)));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        lock(&self.shared).ended = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.listen);
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &UnixListener, monitor: &Path, shared: &Shared) {
    let mut sessions: Vec<JoinHandle<()>> = Vec::new();
    while !lock(shared).ended {
        let Ok((node, _)) = listener.accept() else {
            std::thread::sleep(STEP);
            continue;
        };
        if lock(shared).line == Line::Closed {
            continue;
        }
        let Ok(qemu) = UnixStream::connect(monitor) else {
            continue;
        };
        for (from, to, node_speaks) in [(&node, &qemu, true), (&qemu, &node, false)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                continue;
            };
            let shared = Arc::clone(shared);
            sessions.push(std::thread::spawn(move || {
                copy(&from, &to, &shared, node_speaks);
                // The other direction ends with this one.
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            }));
        }
    }
    for session in sessions {
        let _ = session.join();
    }
}

/// Copies until either end closes, the line is closed or the relay ends.
fn copy(mut from: &UnixStream, mut to: &UnixStream, shared: &Shared, node_speaks: bool) {
    let mut buffer = [0; 16 << 10];
    if from.set_read_timeout(Some(STEP)).is_err() || from.set_nonblocking(false).is_err() {
        return;
    }
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => n,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                let state = lock(shared);
                if state.ended || state.line == Line::Closed {
                    return;
                }
                continue;
            }
            Err(_) => return,
        };
        let act = {
            let mut state = lock(shared);
            let seen = state.armed.as_ref().is_some_and(|(sight, _)| {
                let (mark, by_node) = sight.mark();
                by_node == node_speaks && buffer[..n].windows(mark.len()).any(|part| part == mark)
            });
            if seen { state.armed.take() } else { None }
        };
        if let Some((_, act)) = act {
            act();
        }
        loop {
            let state = lock(shared);
            if state.ended || state.line == Line::Closed {
                return;
            }
            if state.line == Line::Open {
                break;
            }
            drop(state);
            std::thread::sleep(STEP);
        }
        if to.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    struct Bench {
        _dir: tempfile::TempDir,
        relay: Relay,
        node: UnixStream,
        qemu: UnixStream,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let (listen, monitor) = (dir.path().join("relay"), dir.path().join("monitor"));
        let server = UnixListener::bind(&monitor).expect("a socket");
        let relay = Relay::start(&listen, &monitor).expect("a relay");
        let node = UnixStream::connect(&listen).expect("connected");
        let (qemu, _) = server.accept().expect("connected");
        for end in [&node, &qemu] {
            let limit = Some(Duration::from_millis(300));
            end.set_read_timeout(limit).expect("a timeout");
        }
        Bench {
            _dir: dir,
            relay,
            node,
            qemu,
        }
    }

    fn arrives(mut end: &UnixStream, text: &[u8]) -> bool {
        let mut buffer = vec![0; text.len()];
        end.read_exact(&mut buffer).is_ok() && buffer == text
    }

    #[test]
    fn bytes_pass_both_ways_and_wait_while_frozen() {
        let mut bench = bench();
        bench.node.write_all(b"ask").expect("sent");
        assert!(arrives(&bench.qemu, b"ask"));
        bench.relay.set(Line::Frozen);
        bench.qemu.write_all(b"answer").expect("sent");
        assert!(!arrives(&bench.node, b"answer"), "it is frozen");
        bench.relay.set(Line::Open);
        assert!(arrives(&bench.node, b"answer"), "it is open again");
    }

    #[test]
    fn a_closed_line_ends_the_session() {
        let bench = bench();
        bench.relay.set(Line::Closed);
        let ended = (&bench.node).read(&mut [0; 8]);
        assert_eq!(ended.expect("an end, no timeout"), 0);
    }

    #[test]
    fn a_sight_acts_once_and_before_it_is_passed_on() {
        let mut bench = bench();
        let (acted, has_acted) = channel();
        bench
            .relay
            .arm(Sight::Stop, move || acted.send(()).expect("heard"));
        bench.node.write_all(b"{\"STOP\"}").expect("sent");
        assert!(arrives(&bench.qemu, b"{\"STOP\"}"));
        assert!(has_acted.try_recv().is_err(), "the node does not say it");
        bench
            .qemu
            .write_all(b"{\"event\": \"STOP\"}")
            .expect("sent");
        assert!(arrives(&bench.node, b"{\"event\": \"STOP\"}"));
        assert!(has_acted.try_recv().is_ok());
    }
}
