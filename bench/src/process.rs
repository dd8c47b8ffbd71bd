//! Programs that a measurement starts, and their certain end.
//!
//! A [`Process`] is ended by its own id when it is dropped: SIGTERM, some time, SIGKILL. Should
//! this program itself be killed, the kernel ends them (`setpriv --pdeathsig`). Each has a process
//! group of its own: a signal from the terminal reaches this program, which ends them in order.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::BenchError;
use crate::interrupt;

/// How long a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A running program.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts a program that keeps its files, its log `NAME.log` among them, in `dir`.
    pub fn start(
        name: &'static str,
        program: &Path,
        words: &[String],
        dir: &Path,
    ) -> Result<Self, BenchError> {
        Self::spawn(name, program, words, dir, false).map(|(process, _)| process)
    }

    /// The same with its standard output in this program's hand.
    pub fn piped(
        name: &'static str,
        program: &Path,
        words: &[String],
        dir: &Path,
    ) -> Result<(Self, ChildStdout), BenchError> {
        let (process, stdout) = Self::spawn(name, program, words, dir, true)?;
        let stdout = stdout.ok_or(BenchError::Figures {
            name: name.to_owned(),
            said: "no standard output".to_owned(),
        })?;
        Ok((process, stdout))
    }

    fn spawn(
        name: &'static str,
        program: &Path,
        words: &[String],
        dir: &Path,
        piped: bool,
    ) -> Result<(Self, Option<ChildStdout>), BenchError> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).map_err(BenchError::file(&log))?;
        let errors = file.try_clone().map_err(BenchError::file(&log))?;
        let spawned = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(words)
            .process_group(0)
            // EAL keeps its run-time files there, so they go with the folder.
            .env("RUNTIME_DIRECTORY", dir)
            // testpmd ends when its input does.
            .stdin(Stdio::piped())
            .stdout(if piped { Stdio::piped() } else { file.into() })
            .stderr(errors)
            .spawn();
        let mut child = spawned.map_err(|source| BenchError::Spawn {
            program: program.display().to_string(),
            source,
        })?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let process = Self {
            name,
            child,
            log,
            stdin,
        };
        Ok((process, stdout))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    pub fn say(&mut self, text: &str) -> Result<(), BenchError> {
        let log = self.log.clone();
        match &mut self.stdin {
            Some(stdin) => stdin
                .write_all(text.as_bytes())
                .map_err(BenchError::file(&log)),
            None => Ok(()),
        }
    }

    /// Waits until a socket is there.
    pub fn wait_for_socket(&mut self, path: &Path) -> Result<(), BenchError> {
        self.wait_for(&path.display().to_string(), || path.exists())
    }

    /// Waits until its log has this.
    pub fn wait_for_line(&mut self, text: &str) -> Result<(), BenchError> {
        let log = self.log.clone();
        self.wait_for(text, || {
            fs::read(&log).is_ok_and(|said| String::from_utf8_lossy(&said).contains(text))
        })
    }

    /// Waits until something has happened while this runs.
    pub fn wait_for(
        &mut self,
        what: &str,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), BenchError> {
        let since = Instant::now();
        while !done() {
            interrupt::check()?;
            if let Some(status) = self.ended() {
                return Err(self.failure(status));
            }
            if since.elapsed() > PATIENCE {
                return Err(BenchError::Late {
                    what: what.to_owned(),
                    seconds: PATIENCE.as_secs(),
                    tail: format!("; {} said last:\n{}", self.name, tail(&self.log)),
                });
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until it has ended by itself and well, for `limit` at most.
    pub fn complete(mut self, limit: Duration) -> Result<String, BenchError> {
        let since = Instant::now();
        loop {
            interrupt::check()?;
            match self.ended() {
                Some(status) if status.success() => {
                    return fs::read_to_string(&self.log).map_err(BenchError::file(&self.log));
                }
                Some(status) => return Err(self.failure(status)),
                None if since.elapsed() > limit => {
                    return Err(BenchError::Late {
                        what: format!("the end of {}", self.name),
                        seconds: limit.as_secs(),
                        tail: format!("; it said last:\n{}", tail(&self.log)),
                    });
                }
                None => thread::sleep(LOOK),
            }
        }
    }

    /// Ends it with SIGTERM.
    pub fn end(mut self) -> Result<(), BenchError> {
        if let Some(status) = self.ended() {
            return Err(self.failure(status));
        }
        match self.terminate() {
            Some(status) if !status.success() => Err(self.failure(status)),
            _ => Ok(()),
        }
    }

    fn failure(&self, status: ExitStatus) -> BenchError {
        BenchError::Ended {
            name: self.name.to_owned(),
            status,
            tail: tail(&self.log),
        }
    }

    fn terminate(&mut self) -> Option<ExitStatus> {
        // Not reaped yet, so the number is still its own.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        self.child.wait().ok()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.terminate();
        }
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Process {
        let words = ["-c".to_owned(), script.to_owned()];
        Process::start("sh", Path::new("sh"), &words, dir).expect("sh starts")
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let process = shell("sleep 100", dir.path());
        let exe = PathBuf::from(format!("/proc/{}/exe", process.id()));
        assert!(fs::read_link(&exe).is_ok());
        drop(process);
        assert!(fs::read_link(&exe).is_err());
    }

    #[test]
    fn a_failure_shows_the_last_words() {
        let dir = tempfile::tempdir().expect("a folder");
        let ended = shell("echo no such device; exit 3", dir.path()).complete(PATIENCE);
        let text = ended.expect_err("it failed").to_string();
        assert!(
            text.contains("no such device") && text.contains('3'),
            "{text}"
        );
    }
}
