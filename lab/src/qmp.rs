//! A small blocking QMP client: the lab's own monitor on each guest.
//!
//! In: the path of a QMP socket. Out: command results, and every event with QEMU's time stamp. A
//! reader thread collects events while nobody asks. Protocol: docs/interop/qmp-spec.txt of QEMU.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::interrupt;

/// How long a command may take; QEMU answers late while it saves or loads a state.
const ANSWER: Duration = Duration::from_secs(30);

/// What can go wrong on a monitor.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket did not open.
    #[error("no QMP session on {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The session ended.
    #[error("QMP command {command}: the monitor is gone")]
    Gone {
        /// The command that was under way.
        command: String,
    },
    /// No answer came.
    #[error("QMP command {command}: no answer in {} s", ANSWER.as_secs())]
    Late {
        /// The command.
        command: String,
    },
    /// QEMU refused.
    #[error("QMP command {command}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        description: String,
    },
    /// A signal ended the wait.
    #[error("interrupted")]
    Interrupted,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its name, as `STOP`.
    pub name: String,
    /// QEMU's wall clock when it was emitted, since the Unix epoch.
    pub at: Duration,
}

/// One checkpoint of a COLO pair as its VM's events show it.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    /// When the VM stopped, since the Unix epoch.
    pub stop: Duration,
    /// When it ran again; on the primary this is the commit.
    pub resume: Duration,
}

/// A session with one monitor.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    answers: Receiver<Value>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Qmp {
    /// Connects, negotiates, and starts to collect events. QEMU may take `limit` to open the socket.
    ///
    /// # Errors
    /// [`QmpError::Connect`] and those of [`Qmp::command`].
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let end = Instant::now() + limit;
        let failed = |source| QmpError::Connect {
            path: path.to_owned(),
            source,
        };
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if interrupt::came() => return Err(QmpError::Interrupted),
                Err(error) if Instant::now() > end => return Err(failed(error)),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        let reader = BufReader::new(stream.try_clone().map_err(failed)?);
        let (answer, answers) = channel();
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        thread::spawn(move || collect(reader, &answer, &sink));
        let session = Self {
            stream,
            answers,
            events,
        };
        session.command("qmp_capabilities", json!({}))?;
        Ok(session)
    }

    /// Sends a command and waits for its result.
    ///
    /// # Errors
    /// [`QmpError::Gone`], [`QmpError::Late`] or [`QmpError::Refused`].
    pub fn command(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        let gone = || QmpError::Gone {
            command: command.to_owned(),
        };
        (&self.stream)
            .write_all(line.as_bytes())
            .map_err(|_| gone())?;
        let end = Instant::now() + ANSWER;
        let mut answer = loop {
            match self.answers.recv_timeout(interrupt::STEP) {
                Ok(answer) => break answer,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(_) if interrupt::came() => return Err(QmpError::Interrupted),
                Err(_) if Instant::now() > end => {
                    return Err(QmpError::Late {
                        command: command.to_owned(),
                    });
                }
                Err(_) => {}
            }
        };
        match answer.get_mut("return") {
            Some(result) => Ok(result.take()),
            None => Err(QmpError::Refused {
                command: command.to_owned(),
                description: answer["error"]["desc"]
                    .as_str()
                    .unwrap_or("no reason given")
                    .to_owned(),
            }),
        }
    }

    /// When the last event called `name` came, since the Unix epoch.
    pub fn last(&self, name: &str) -> Option<Duration> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events
            .iter()
            .rfind(|event| event.name == name)
            .map(|event| event.at)
    }

    /// When the last event called `name` came before `moment`; both since the Unix epoch.
    pub fn last_before(&self, name: &str, moment: Duration) -> Option<Duration> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = |event: &&Event| event.name == name && event.at < moment;
        events.iter().rfind(earlier).map(|event| event.at)
    }

    /// The checkpoints whose RESUME has come, oldest first. A start that no STOP preceded is none.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        pair_up(&events)
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        // Ends the reader thread.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn collect(reader: BufReader<UnixStream>, answers: &Sender<Value>, events: &Mutex<Vec<Event>>) {
    for line in reader.lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(name) = message["event"].as_str() {
            let stamp = &message["timestamp"];
            let event = Event {
                name: name.to_owned(),
                at: Duration::from_secs(stamp["seconds"].as_u64().unwrap_or(0))
                    + Duration::from_micros(stamp["microseconds"].as_u64().unwrap_or(0)),
            };
            events
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(event);
        } else if message.get("QMP").is_none() && answers.send(message).is_err() {
            return;
        }
    }
}

fn pair_up(events: &[Event]) -> Vec<Checkpoint> {
    let mut stopped = None;
    let mut checkpoints = Vec::new();
    for event in events {
        match event.name.as_str() {
            "STOP" => stopped = Some(event.at),
            "RESUME" => {
                if let Some(stop) = stopped.take() {
                    checkpoints.push(Checkpoint {
                        stop,
                        resume: event.at,
                    });
                }
            }
            _ => {}
        }
    }
    checkpoints
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn event(name: &str, ms: u64) -> Event {
        Event {
            name: name.to_owned(),
            at: Duration::from_millis(ms),
        }
    }

    #[test]
    fn a_checkpoint_is_a_stop_and_its_resume() {
        let events = [
            event("RESUME", 1),
            event("STOP", 10),
            event("MIGRATION_PASS", 11),
            event("RESUME", 15),
            event("STOP", 20),
        ];
        let found = pair_up(&events);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].stop, Duration::from_millis(10));
        assert_eq!(found[0].resume, Duration::from_millis(15));
    }

    #[test]
    fn answers_events_and_refusals_are_distinguished() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).expect("a socket");
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("a client");
            let mut lines = BufReader::new(peer.try_clone().expect("a copy")).lines();
            peer.write_all(b"{\"QMP\": {}}\n").expect("greeting");
            for answer in [
                "{\"return\": {}}\n",
                "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 2, \"microseconds\": 5}}\n{\"return\": {\"status\": \"colo\"}}\n",
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n",
            ] {
                lines.next().expect("a line").expect("text");
                peer.write_all(answer.as_bytes()).expect("answer");
            }
        });
        let qmp = Qmp::connect(&path, Duration::from_secs(1)).expect("a session");
        let result = qmp.command("query-migrate", json!({})).expect("a result");
        assert_eq!(result["status"], "colo");
        let refusal = qmp.command("migrate", json!({})).expect_err("refused");
        assert_eq!(refusal.to_string(), "QMP command migrate: not now");
        let gone = qmp.command("stop", json!({})).expect_err("gone");
        assert!(matches!(gone, QmpError::Gone { .. }), "{gone}");
        server.join().expect("the server ended well");
    }
}
