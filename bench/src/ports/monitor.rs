//! A monitor of a VM in COLO, as far as a comparator asks: it notes when a request comes, and
//! plays a checkpoint on command.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::sched_policy::SchedPolicy;
use crate::error::BenchError;

/// How long a comparator may take for what it does at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listening monitor.
pub struct Monitor {
    client: Arc<Mutex<Option<UnixStream>>>,
    /// Nanoseconds since 1970 at which each request was read.
    requests: Receiver<u128>,
}

impl Monitor {
    /// Listens at a path.
    pub fn listen(path: &Path, policy: SchedPolicy) -> Result<Self, BenchError> {
        let listener = UnixListener::bind(path).map_err(BenchError::file(path))?;
        let client = Arc::new(Mutex::new(None));
        let (tell, requests) = channel();
        let shared = Arc::clone(&client);
        thread::spawn(move || {
            policy.apply();
            while let Ok((stream, _)) = listener.accept() {
                let Ok(reader) = stream.try_clone() else {
                    return;
                };
                *lock(&shared) = Some(stream);
                say(&shared, &greeting());
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH);
                    let command: Value = serde_json::from_str(&line).unwrap_or_default();
                    if command["execute"] == "migrate-set-parameters"
                        && tell.send(now.unwrap_or_default().as_nanos()).is_err()
                    {
                        return;
                    }
                    say(&shared, &reply(&command));
                }
            }
        });
        Ok(Self { client, requests })
    }

    /// Waits for the next request; returns when its line was read, in nanoseconds since 1970.
    pub fn request(&self) -> Result<u128, BenchError> {
        self.requests
            .recv_timeout(PATIENCE)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected => BenchError::Late {
                    what: "a checkpoint request".to_owned(),
                    seconds: PATIENCE.as_secs(),
                    tail: String::new(),
                },
            })
    }

    /// Plays a checkpoint: what is held is committed.
    pub fn checkpoint(&self) {
        for event in ["STOP", "MIGRATION_PASS", "RESUME"] {
            say(
                &self.client,
                &json!({
                    "timestamp": {"seconds": 1_700_000_000, "microseconds": 0},
                    "event": event,
                    "data": {"pass": 2},
                }),
            );
        }
    }
}

fn lock(client: &Mutex<Option<UnixStream>>) -> MutexGuard<'_, Option<UnixStream>> {
    client.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(client: &Mutex<Option<UnixStream>>, what: &Value) {
    if let Some(stream) = &mut *lock(client) {
        // If the client is gone, the wait for its request fails.
        let _ = stream.write_all(format!("{what}\r\n").as_bytes());
    }
}

fn greeting() -> Value {
    json!({"QMP": {
        "version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""},
        "capabilities": [],
    }})
}

/// What a VM in COLO answers.
fn reply(command: &Value) -> Value {
    let answer = match command["execute"].as_str().unwrap_or_default() {
        "query-qmp-schema" => json!([
            {"name": "7", "meta-type": "object", "members":
                [{"name": "x-checkpoint-delay", "default": null, "type": "int"}]},
            {"name": "migrate-set-parameters", "meta-type": "command", "ret-type": "0",
                "arg-type": "7"},
            {"name": "COLO_EXIT", "meta-type": "event", "arg-type": "0"},
        ]),
        "query-migrate-capabilities" => json!([
            {"state": true, "capability": "events"},
            {"state": true, "capability": "x-colo"},
        ]),
        "query-migrate-parameters" => json!({"x-checkpoint-delay": 600_000}),
        "query-migrate" => json!({"status": "colo"}),
        "query-status" => json!({"status": "running", "singlestep": false, "running": true}),
        _ => json!({}),
    };
    json!({"return": answer, "id": command["id"]})
}
