//! A scripted QEMU monitor on a unix socket: it answers as [`Monitor`] says, notes when a checkpoint
//! is requested, and emits the events of a COLO sequence when a test says so.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use colo_testkit::qmp::{Monitor, event};
use serde_json::Value;

use crate::node::PATIENCE;

/// A client that asks does so within this.
const A_MOMENT: Duration = Duration::from_millis(500);

/// A checkpoint request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Nanoseconds since 1970, when its line was read.
    pub at: u128,
    pub arguments: Value,
}

#[derive(Default)]
struct State {
    monitor: Monitor,
    client: Option<UnixStream>,
    requests: Vec<Request>,
    /// Says nothing.
    hangs: bool,
    /// What it says when it goes on.
    unsaid: String,
}

/// The monitor of one VM.
#[derive(Clone)]
pub struct Qemu(Arc<Mutex<State>>);

impl Qemu {
    /// Listens at a path.
    pub fn listen(path: &Path, monitor: Monitor) -> Self {
        let listener = UnixListener::bind(path).expect("a listener");
        let qemu = Self(Arc::new(Mutex::new(State {
            monitor,
            ..State::default()
        })));
        let server = qemu.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                server.serve(client);
            }
        });
        qemu
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: UnixStream) {
        let Ok(reader) = client.try_clone() else {
            return;
        };
        {
            let mut state = self.lock();
            let greeting = state.monitor.greeting();
            state.client = Some(client);
            state.say(&greeting);
        }
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let at = now.unwrap_or_default().as_nanos();
            // Replies and events share one ordered stream.
            let mut state = self.lock();
            let reply = state.monitor.reply(&line);
            if line.contains("migrate-set-parameters") {
                let command: Value = serde_json::from_str(&line).expect("a command is JSON");
                let arguments = command["arguments"].clone();
                state.requests.push(Request { at, arguments });
            }
            state.say(&reply);
        }
        self.lock().client = None;
    }

    /// Waits until the client's probe is over.
    pub fn wait_for_client(&self) {
        let since = Instant::now();
        while self.lock().monitor.seen("query-status").is_empty() {
            assert!(since.elapsed() < PATIENCE, "no client came");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a command has come.
    pub fn wait_for_command(&self, name: &str) {
        let since = Instant::now();
        while self.lock().monitor.seen(name).is_empty() {
            assert!(since.elapsed() < PATIENCE, "no {name} came");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// From now on nothing in band is replied to until the migration is yanked.
    pub fn hang_in_band(&self) {
        self.lock().monitor.hung = true;
    }

    /// The commands so far, in their order.
    pub fn commands(&self) -> Vec<Value> {
        self.lock().monitor.seen.clone()
    }

    /// Emits an event.
    pub fn emit(&self, name: &str, data: &str) {
        self.lock().say(&event(name, data));
    }

    /// QEMU waits for a VM's state.
    pub fn waits_for_a_state(&self) {
        self.lock().monitor.run = "inmigrate";
    }

    /// The VM is stopped.
    pub fn stopped(&self) {
        self.lock().monitor.run = "paused";
        self.emit("STOP", "");
    }

    /// QEMU stops the VM for a checkpoint; back when the client has asked why, or has had time to.
    pub fn stopped_for_checkpoint(&self) {
        let asked = self.lock().monitor.seen("query-status").len();
        self.lock().monitor.run = "colo";
        self.emit("STOP", "");
        let since = Instant::now();
        while self.lock().monitor.seen("query-status").len() == asked && since.elapsed() < A_MOMENT
        {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The VM runs.
    pub fn resumed(&self) {
        self.lock().monitor.run = "running";
        self.emit("RESUME", "");
    }

    /// The stop is a checkpoint's.
    pub fn pass(&self) {
        self.emit("MIGRATION_PASS", "{\"pass\": 2}");
    }

    /// The migration state changes.
    pub fn migration(&self, status: &'static str) {
        self.lock().monitor.migration = status;
        self.emit("MIGRATION", &format!("{{\"status\": \"{status}\"}}"));
    }

    /// Hangs, and takes up what comes, or goes on.
    pub fn hang(&self, hangs: bool) {
        let mut state = self.lock();
        state.hangs = hangs;
        let unsaid = std::mem::take(&mut state.unsaid);
        state.say(&unsaid);
    }

    /// Hangs up on the client, which may come again.
    pub fn hang_up(&self) {
        if let Some(client) = self.lock().client.take() {
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Hangs up, and is another QEMU from now on.
    pub fn replace(&self, monitor: Monitor) {
        self.lock().monitor = monitor;
        self.hang_up();
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// Waits for `n` requests in all.
    pub fn wait_for_requests(&self, n: usize) -> Vec<Request> {
        let since = Instant::now();
        loop {
            let requests = self.requests();
            if requests.len() >= n {
                return requests;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{} of {n} requests came",
                requests.len()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl State {
    fn say(&mut self, text: &str) {
        if self.hangs {
            self.unsaid.push_str(text);
            return;
        }
        if let Some(client) = &mut self.client
            && client.write_all(text.as_bytes()).is_err()
        {
            self.client = None;
        }
    }
}
