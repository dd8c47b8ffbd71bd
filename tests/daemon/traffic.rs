//! `colo-traffic` as the guests and the network of a node.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::node::{PATIENCE, clean, eal_options, prefix};

/// A `colo-traffic` process, killed when dropped.
pub struct Traffic {
    pub child: Child,
    prefix: String,
}

impl Traffic {
    /// Starts it.
    pub fn spawn(devices: &[String], own: &[&str]) -> Self {
        let prefix = prefix();
        let child = Command::new(env!("CARGO_BIN_EXE_colo-traffic"))
            .args(eal_options(&prefix, 1))
            .args(["--no-telemetry", "--log-level", "error"])
            .args(devices)
            .arg("--")
            .args(own)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("colo-traffic starts");
        Self { child, prefix }
    }

    /// Streams through the virtio_user devices 0 to 2.
    pub fn streams(devices: &[String], more: &[&str]) -> Self {
        let names = [
            "streams",
            "net_virtio_user0",
            "net_virtio_user1",
            "net_virtio_user2",
        ];
        Self::spawn(devices, &[&names, more].concat())
    }

    /// Waits for its end; the line of JSON that it leaves if all was right.
    pub fn report(mut self) -> serde_json::Value {
        let mut stdout = self.child.stdout.take().expect("it is piped");
        let mut line = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut line).expect("text");
        let status = self.child.wait().expect("its status");
        assert!(status.success(), "colo-traffic: {status}");
        serde_json::from_str(&line).expect("a line of JSON")
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        clean(&self.prefix);
    }
}

/// `colo-traffic` under the test's own hand.
pub struct Script {
    _traffic: Traffic,
    input: ChildStdin,
    lines: Receiver<String>,
    /// Frames, and the work left to the port: the segment size in bytes.
    arrived: Vec<VecDeque<(Vec<u8>, Option<u16>)>>,
    /// Times at which those came.
    came: Vec<VecDeque<u128>>,
    /// Times at which the ports took frames.
    sent: Vec<VecDeque<u128>>,
    /// Frames that came in at joined ports and went on to the others.
    pub passed: Vec<Vec<Vec<u8>>>,
    /// Lines of other kinds.
    other: VecDeque<String>,
}

impl Script {
    /// Starts it for the vhost-user sockets of a node, connected to none.
    pub fn new(sockets: &[PathBuf]) -> Self {
        let own: Vec<&str> = std::iter::once("script")
            .chain(
                sockets
                    .iter()
                    .map(|path| path.to_str().expect("a plain path")),
            )
            .collect();
        let mut traffic = Traffic::spawn(&[], &own);
        let input = traffic.child.stdin.take().expect("it is piped");
        let output = BufReader::new(traffic.child.stdout.take().expect("it is piped"));
        let (tell, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let mut script = Self {
            _traffic: traffic,
            input,
            lines,
            arrived: sockets.iter().map(|_| VecDeque::new()).collect(),
            came: sockets.iter().map(|_| VecDeque::new()).collect(),
            sent: sockets.iter().map(|_| VecDeque::new()).collect(),
            passed: sockets.iter().map(|_| Vec::new()).collect(),
            other: VecDeque::new(),
        };
        script.wait_for("ready");
        script
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self._traffic.child.id()
    }

    /// Sends a frame at one port that leaves through another; returns the nanoseconds between.
    pub fn delay(&mut self, from: usize, to: usize, frame: &[u8]) -> u128 {
        let sent = self.send(from, frame);
        let (came, arrived) = self.until("a frame to arrive", |script| {
            Some((
                script.came[to].pop_front()?,
                script.arrived[to].pop_front()?.0,
            ))
        });
        assert_eq!(arrived, frame);
        came.saturating_sub(sent)
    }

    /// Sends a frame again and again, as often as the port takes it.
    pub fn flood(&mut self, port: usize, frame: &[u8]) {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        self.say(&format!("flood {port} {hex}"));
        self.wait_for(&format!("flooding {port}"));
    }

    /// Starts a port's device, as QEMU does when it starts a VM.
    pub fn start(&mut self, port: usize) {
        self.say(&format!("start {port}"));
        self.wait_for(&format!("started {port}"));
    }

    /// Starts a port's device whose driver leaves its ring empty for a while.
    pub fn start_slowly(&mut self, port: usize) {
        self.say(&format!("start {port} slowly"));
        self.wait_for(&format!("started {port}"));
    }

    /// Starts a port's device that leaves checksums and segmentation to the node.
    pub fn start_with_offloads(&mut self, port: usize) {
        self.say(&format!("start {port} offloads"));
        self.wait_for(&format!("started {port}"));
    }

    /// Stops a port's device, as QEMU does when it stops a VM.
    pub fn stop(&mut self, port: usize) {
        self.say(&format!("stop {port}"));
        self.wait_for(&format!("stopped {port}"));
    }

    /// Begins to stop a port's device; back before it has stopped.
    pub fn begin_stop(&mut self, port: usize) {
        self.say(&format!("stop {port}"));
    }

    /// Whether a port's device that began to stop has stopped meanwhile.
    pub fn has_stopped(&mut self, port: usize) -> bool {
        self.look(Duration::from_millis(100));
        let stopped = format!("stopped {port}");
        let at = self.other.iter().position(|line| *line == stopped);
        at.is_some_and(|at| self.other.remove(at).is_some())
    }

    /// Makes ports one segment: what comes in at one leaves at the others, and at each what [`Script::post`] sends.
    pub fn join(&mut self, ports: &[usize]) {
        let ports: Vec<String> = ports.iter().map(usize::to_string).collect();
        self.say(&format!("join {}", ports.join(" ")));
        self.wait_for("joined");
    }

    /// What comes in at this joined port goes nowhere from now on.
    pub fn mute(&mut self, port: usize) {
        self.say(&format!("mute {port}"));
        self.wait_for(&format!("muted {port}"));
    }

    /// Reads what has happened, for a while.
    pub fn look(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.take(left);
        }
    }

    /// Sends a frame; returns the time when the port had taken it.
    pub fn send(&mut self, port: usize, frame: &[u8]) -> u128 {
        self.post(port, frame);
        self.taken(port)
    }

    /// The same as [`Script::post_unfinished`] says.
    pub fn send_unfinished(&mut self, port: usize, frame: &[u8], size: u16) {
        self.post_unfinished(port, frame, size);
        self.taken(port);
    }

    /// When the port has taken the oldest frame of which that was not asked.
    fn taken(&mut self, port: usize) -> u128 {
        self.until("a frame to be taken", |script| {
            script.sent[port].pop_front()
        })
    }

    /// Sends a frame without waiting until the port has taken it.
    pub fn post(&mut self, port: usize, frame: &[u8]) {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        self.say(&format!("send {port} {hex}"));
    }

    /// Sends a frame whose checksum field holds the pseudo-header's sum, to be cut into segments of
    /// `size` bytes of payload unless that is 0, without waiting until the port has taken it.
    pub fn post_unfinished(&mut self, port: usize, frame: &[u8], size: u16) {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        self.say(&format!("send {port} {hex} {size}"));
    }

    /// The next frame that leaves through a port.
    pub fn receive(&mut self, port: usize) -> Vec<u8> {
        self.receive_with_left(port).0
    }

    /// The next frame that leaves through a port, if one leaves in time.
    pub fn try_receive(&mut self, port: usize) -> Option<Vec<u8>> {
        let since = Instant::now();
        while self.arrived[port].is_empty() && since.elapsed() < PATIENCE {
            self.take(Duration::from_millis(100));
        }
        self.came[port].pop_front();
        self.arrived[port].pop_front().map(|(frame, _)| frame)
    }

    /// The next frame, and the segments' size where checksum or segmentation are left to do.
    pub fn receive_with_left(&mut self, port: usize) -> (Vec<u8>, Option<u16>) {
        self.until("a frame to arrive", |script| {
            script.came[port].pop_front();
            script.arrived[port].pop_front()
        })
    }

    /// Checks that no frame leaves through a port for a while.
    pub fn silent(&mut self, port: usize, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.take(left);
        }
        self.came[port].pop_front();
        let early = self.arrived[port].pop_front();
        assert!(early.is_none(), "a frame came too early: {:02x?}", early);
    }

    fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("colo-traffic reads");
    }

    fn wait_for(&mut self, what: &str) {
        self.until(what, |script| {
            let at = script.other.iter().position(|line| line == what)?;
            script.other.remove(at)
        });
    }

    fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(since.elapsed() < PATIENCE, "{what} did not come in time");
            self.take(Duration::from_millis(100));
        }
    }

    fn take(&mut self, time: Duration) {
        let line = match self.lines.recv_timeout(time) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return,
            Err(RecvTimeoutError::Disconnected) => panic!("colo-traffic has ended"),
        };
        let (at, what) = line.split_once(' ').expect("time and more");
        let at: u128 = at.parse().expect("a time");
        let mut words = what.split(' ');
        let (verb, port) = (
            words.next(),
            words.next().and_then(|n| n.parse::<usize>().ok()),
        );
        match (verb, port, words.next()) {
            (Some("sent"), Some(port), None) => self.sent[port].push_back(at),
            (Some("passed"), Some(port), Some(hex)) => self.passed[port].push(bytes(hex)),
            (Some("received"), Some(port), Some(hex)) => {
                let frame = bytes(hex);
                let left = match (words.next(), words.next()) {
                    (Some("left"), Some(size)) => Some(size.parse().expect("a size")),
                    _ => None,
                };
                self.came[port].push_back(at);
                self.arrived[port].push_back((frame, left));
            }
            _ => self.other.push_back(what.to_owned()),
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|n| u8::from_str_radix(&hex[n..n + 2], 16).expect("hex"))
        .collect()
}
