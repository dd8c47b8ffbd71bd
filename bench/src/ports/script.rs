//! `colo-traffic script`: single frames by hand, and when the ports took them.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::PORTS;
use super::sched_policy::SchedPolicy;
use crate::error::BenchError;
use crate::fixture::Fixture;
use crate::process::Process;

/// How long a line may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The two VMs and the network in one hand.
pub struct Script {
    process: Process,
    lines: Receiver<String>,
}

impl Script {
    /// Connects to all three ports of a running comparator.
    pub fn start(fixture: &Fixture, dir: &Path, policy: SchedPolicy) -> Result<Self, BenchError> {
        let mut words = fixture.eal_of_generator();
        words.extend(["--file-prefix", "generator", "--", "script"].map(str::to_owned));
        words.extend(PORTS.map(|port| dir.join(port).display().to_string()));
        let (program, words) = policy.command(fixture.program("colo-traffic"), words);
        let (process, stdout) = Process::piped("generator", &program, &words, dir)?;
        let (tell, lines) = channel();
        // It ends with the program, whose output ends then.
        thread::spawn(move || {
            policy.apply();
            let mut said = BufReader::new(stdout).lines().map_while(Result::ok);
            said.try_for_each(|line| tell.send(line))
        });
        let mut script = Self { process, lines };
        script.wait("ready")?;
        for port in 0..PORTS.len() {
            script.process.say(&format!("start {port}\n"))?;
            script.wait(&format!("started {port}"))?;
        }
        Ok(script)
    }

    /// Sends frames through a port; returns when it had taken the last one, in nanoseconds since
    /// 1970.
    pub fn send(&mut self, port: usize, frames: &[Vec<u8>]) -> Result<u128, BenchError> {
        let mut text = String::new();
        for frame in frames {
            let _ = writeln!(text, "send {port} {}", hex(frame));
        }
        self.process.say(&text)?;
        let sent = format!("sent {port}");
        let mut at = 0;
        for _ in frames {
            at = self.wait(&sent)?;
        }
        Ok(at)
    }

    /// Waits until a port has taken in this frame.
    pub fn received(&mut self, port: usize, frame: &[u8]) -> Result<(), BenchError> {
        self.wait(&format!("received {port} {}", hex(frame)))
            .map(drop)
    }

    /// Ends it.
    pub fn end(self) -> Result<(), BenchError> {
        drop(self.process);
        Ok(())
    }

    /// Waits for a line; returns its time. Lines of other kinds pass by.
    fn wait(&mut self, what: &str) -> Result<u128, BenchError> {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            if let Some((at, said)) = line.split_once(' ')
                && said == what
                && let Ok(at) = at.parse()
            {
                return Ok(at);
            }
        }
        Err(BenchError::Figures {
            name: "colo-traffic".to_owned(),
            said: format!("nothing in {} s, not {what:?}", PATIENCE.as_secs()),
        })
    }
}

fn hex(frame: &[u8]) -> String {
    frame.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
