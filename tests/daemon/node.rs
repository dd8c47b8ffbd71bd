//! A running `dpdk-colo`, from its start to the summary it leaves.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::telemetry;

/// How long anything may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

static MACHINE: RwLock<()> = RwLock::new(());

/// A place beside other tests.
pub fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// The machine without other tests, for measurements.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// EAL options of a process with this file prefix and two lcores that float over two CPUs, so that
/// several such processes share a small machine.
pub fn eal_options(prefix: &str, lcores: u32) -> Vec<String> {
    let cpus = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(2);
    let lcores = format!("(0-{})@(0-{})", lcores - 1, cpus - 1);
    let options = [
        "--no-huge",
        "--no-pci",
        "-m",
        "256",
        "--file-prefix",
        prefix,
    ];
    let more = ["--lcores", &lcores, "--log-level", "lib.vhost.config:error"];
    options.into_iter().chain(more).map(str::to_owned).collect()
}

/// Cores for polling and comparing where a test does not say: 1, or what `COLO_CORES` says.
pub fn usual_cores() -> u32 {
    std::env::var("COLO_CORES").map_or(1, |cores| cores.parse().expect("COLO_CORES is a number"))
}

/// A file prefix that no other process has.
pub fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("colo-daemon-{}-{n}", std::process::id())
}

/// Text that a thread collects from a process.
type Text = Arc<Mutex<String>>;

/// A process under test, killed where a test fails.
pub struct Node {
    child: Child,
    prefix: String,
    /// Its runtime directory is for another process that follows.
    leaves_files: bool,
    dir: TempDir,
    stdout: Text,
    stderr: Text,
    readers: Vec<JoinHandle<()>>,
}

/// What a process left.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// The `--summary` file, if there is one.
    pub summary: Option<Value>,
}

impl Node {
    /// Starts the program in two halves, EAL's and its own, with a summary file.
    pub fn start<A: AsRef<str>, B: AsRef<str>>(eal: &[A], own: &[B]) -> Self {
        Self::start_on(usual_cores(), eal, own)
    }

    /// Starts it with a file prefix, `cores` cores for polling and comparing, and these words: the
    /// devices, `--` and its own options. Both may have been another process's before.
    pub fn start_at(prefix: String, cores: u32, words: &[String]) -> Self {
        let all = eal_options(&prefix, 1 + cores)
            .into_iter()
            .chain(words.iter().cloned());
        let mut node = Self::spawn(prefix, all.collect(), true);
        node.wait_for_line("ready");
        node
    }

    /// Its file prefix.
    pub fn prefix(&self) -> String {
        self.prefix.clone()
    }

    /// Ends it as a crash does, and leaves the files that it had.
    pub fn crash(mut self) -> String {
        self.child.kill().expect("it runs");
        self.child.wait().expect("its status");
        self.leaves_files = true;
        self.prefix.clone()
    }

    /// The same as [`Node::start`] with `cores` cores for polling and comparing.
    pub fn start_on<A: AsRef<str>, B: AsRef<str>>(cores: u32, eal: &[A], own: &[B]) -> Self {
        let prefix = prefix();
        let mut words = eal_options(&prefix, 1 + cores);
        words.extend(eal.iter().map(|word| word.as_ref().to_owned()));
        words.push("--".into());
        words.extend(own.iter().map(|word| word.as_ref().to_owned()));
        let mut node = Self::spawn(prefix, words, true);
        node.wait_for_line("ready");
        node
    }

    /// Starts the program with exactly these words, which name the file prefix.
    pub fn spawn(prefix: String, words: Vec<String>, summary: bool) -> Self {
        Self::spawn_to(prefix, words, summary, Stdio::piped(), Stdio::piped())
    }

    /// The same with somewhere else to write to.
    pub fn spawn_to(
        prefix: String,
        words: Vec<String>,
        summary: bool,
        out: Stdio,
        err: Stdio,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpdk-colo"));
        command.args(words);
        Self::run(prefix, command, dir, summary, out, err)
    }

    /// Starts it with exactly these words as a member of another group.
    pub fn spawn_in_group(group: u32, prefix: String, words: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpdk-colo"));
        command.args(words).gid(group);
        Self::run(prefix, command, dir, false, Stdio::piped(), Stdio::piped())
    }

    /// Starts it with another library's functions in the place of the system's, and this in its environment.
    pub fn spawn_preloading(
        library: &Path,
        environment: &[(&str, &Path)],
        prefix: String,
        words: Vec<String>,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpdk-colo"));
        command.args(words).env("LD_PRELOAD", library);
        command.envs(environment.iter().copied());
        Self::run(prefix, command, dir, false, Stdio::piped(), Stdio::piped())
    }

    /// Starts it with exactly these words, and with more in its environment.
    pub fn spawn_with(environment: &[(&str, &str)], prefix: String, words: Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpdk-colo"));
        command.args(words).envs(environment.iter().copied());
        Self::run(prefix, command, dir, false, Stdio::piped(), Stdio::piped())
    }

    fn run(
        prefix: String,
        mut command: Command,
        dir: TempDir,
        summary: bool,
        out: Stdio,
        err: Stdio,
    ) -> Self {
        if summary {
            command
                .arg("--summary")
                .arg(dir.path().join("summary.json"));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("the program starts");
        // The test's ends of what the program writes to are closed with the command.
        drop(command);
        let (stdout, stderr) = (Text::default(), Text::default());
        let out = child.stdout.take().map(|out| collect(out, &stdout));
        let err = child.stderr.take().map(|err| collect(err, &stderr));
        let readers = out.into_iter().chain(err).collect();
        Self {
            child,
            prefix,
            leaves_files: false,
            dir,
            stdout,
            stderr,
            readers,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// What it has written to stdout.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Waits until a line of its log has this.
    pub fn wait_for_line(&mut self, what: &str) {
        let since = Instant::now();
        loop {
            let log = self.stderr();
            let said = |line: &str| line.starts_with("dpdk-colo: ") && line.contains(what);
            if log.lines().any(said) {
                return;
            }
            let ended = self.child.try_wait().expect("its status");
            assert!(
                ended.is_none() && since.elapsed() < PATIENCE,
                "no line with {what:?}; status {ended:?}; stderr:\n{log}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until telemetry answers with figures.
    pub fn wait_for_telemetry(&self) {
        let since = Instant::now();
        let has_figures = |stats: Value| stats.get("polls").is_some();
        while !telemetry::ask(&self.prefix, "/colo/stats").is_ok_and(has_figures) {
            assert!(since.elapsed() < PATIENCE, "no answer");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What telemetry answers to a command.
    pub fn ask(&self, command: &str) -> Value {
        telemetry::ask(&self.prefix, command).unwrap_or_else(|error| {
            panic!("telemetry: {error}; stderr:\n{}", self.stderr());
        })
    }

    /// The figures of this moment.
    pub fn stats(&self) -> Value {
        self.ask("/colo/stats")
    }

    /// Waits until the figures are as wanted, and returns them.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let since = Instant::now();
        loop {
            let stats = self.stats();
            if wanted(&stats) {
                return stats;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{what} did not come about: {stats:#}\nstderr:\n{}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process has an id");
        kill_process(pid, signal).expect("a signal is sent");
    }

    /// Ends it as an operator would, and checks that it ends well with every mbuf back.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.wait();
        assert_eq!(ended.status.code(), Some(0), "stderr:\n{}", ended.stderr);
        assert!(!ended.stderr.contains("panic"), "stderr:\n{}", ended.stderr);
        if let Some(pools) = ended
            .summary
            .as_ref()
            .and_then(|s| s["mempools"].as_object())
        {
            for (name, pool) in pools {
                assert_eq!(pool["in_use"], 0, "mbufs of {name} are lost: {pools:?}");
            }
        }
        ended
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                break status;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "it does not end; stderr:\n{}",
                self.stderr()
            );
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let summary = fs::read(self.dir.path().join("summary.json")).ok();
        Ended {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
            summary: summary.map(|text| serde_json::from_slice(&text).expect("it is JSON")),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.leaves_files {
            clean(&self.prefix);
        }
    }
}

impl Ended {
    /// The summary.
    pub fn summary(&self) -> &Value {
        self.summary
            .as_ref()
            .unwrap_or_else(|| panic!("no summary; stderr:\n{}", self.stderr))
    }

    /// The lines that the program itself wrote to stderr, without EAL's.
    pub fn own_lines(&self) -> Vec<&str> {
        let own = self.stderr.lines();
        own.filter(|line| line.starts_with("dpdk-colo: ")).collect()
    }
}

/// Removes what DPDK leaves behind of a process.
pub fn clean(prefix: &str) {
    assert!(!prefix.is_empty(), "that would be everybody's directory");
    let _ = fs::remove_dir_all(runtime_dir(prefix));
}

/// Where DPDK keeps the files of a process.
pub fn runtime_dir(prefix: &str) -> PathBuf {
    Path::new("/var/run/dpdk").join(prefix)
}

/// A device whose frames come from a capture and go to one.
pub fn pcap(n: u32, from: Option<&Path>, to: Option<&Path>) -> String {
    let mut device = format!("--vdev=net_pcap{n}");
    if let Some(path) = from {
        device.push_str(&format!(",rx_pcap={}", path.display()));
    }
    if let Some(path) = to {
        device.push_str(&format!(",tx_pcap={}", path.display()));
    }
    device
}

/// A vhost device that listens.
pub fn vhost(n: u32, socket: &Path) -> String {
    format!("--vdev=net_vhost{n},iface={}", socket.display())
}

/// A virtio device for a vhost device that listens already.
pub fn virtio_user(n: u32, socket: &Path) -> String {
    format!(
        "--vdev=net_virtio_user{n},path={},mac=02:00:00:00:01:0{n}",
        socket.display()
    )
}

/// The options of a comparator on three devices of one kind, that sleeps when idle.
pub fn comparator(kind: &str) -> Vec<String> {
    let mut words: Vec<String> = ["--role", "compare", "--idle-sleep", "50"]
        .map(str::to_owned)
        .to_vec();
    for (n, place) in ["--primary-in", "--secondary-in", "--out"]
        .iter()
        .enumerate()
    {
        words.push((*place).to_owned());
        words.push(format!("{kind}{n}"));
    }
    words
}

fn collect(from: impl Read + Send + 'static, to: &Text) -> JoinHandle<()> {
    let to = Arc::clone(to);
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
            to.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

fn text(of: &Text) -> String {
    of.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
