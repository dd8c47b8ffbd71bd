//! Processes that the lab starts, and their certain end.
//!
//! A [`Process`] is ended when it is dropped: SIGTERM, some time, SIGKILL. Should the lab itself be
//! killed, the kernel ends it (`setpriv --pdeathsig`). The parent-death signal follows the thread
//! that forked, so long-lived processes are started from the main thread.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::error::LabError;

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// A running process with its output in a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program arguments…`, output to `log`, in the network namespace of the file `namespace` if one is given.
    ///
    /// `name` is what messages call it. `environment` is added to the lab's own.
    ///
    /// # Errors
    /// [`LabError::Spawn`], or [`LabError::File`] if the log cannot be made.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, PathBuf)],
        namespace: Option<&Path>,
        log: PathBuf,
    ) -> Result<Self, LabError> {
        let output = File::create(&log).map_err(LabError::file(&log))?;
        let errors = output.try_clone().map_err(LabError::file(&log))?;
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.args([&format!("--net={}", namespace.display()), "setpriv"]);
                command
            }
            None => Command::new("setpriv"),
        };
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            // A pipe that is never written: testpmd ends when its input does.
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors);
        let child = command.spawn().map_err(|source| LabError::Spawn {
            program: program.display().to_string(),
            source,
        })?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// The end of its output.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Everything it wrote so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// True while it runs.
    pub fn runs(&mut self) -> bool {
        self.ended().is_none()
    }

    /// Asserts that it still runs.
    ///
    /// # Errors
    /// [`LabError::Died`] with the end of its log.
    pub fn alive(&mut self) -> Result<(), LabError> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(LabError::Died {
                name: self.name.clone(),
                status,
                tail: self.tail(),
            }),
        }
    }

    /// Its number, which is its own until this value is dropped.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What another thread can send signals through; it never means another process.
    ///
    /// # Errors
    /// [`LabError::Spawn`] with the system's refusal.
    pub fn handle(&self) -> Result<Handle, LabError> {
        match pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Handle(pidfd)),
            Err(error) => Err(LabError::Spawn {
                program: self.name.clone(),
                source: error.into(),
            }),
        }
    }

    /// Ends it with SIGTERM, after [`GRACE`] with SIGKILL; returns how it ended.
    pub fn end(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        // Not reaped yet, so the number is still its own.
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM);
        // One that was stopped ends only once it runs again.
        let _ = kill_process(pid, Signal::CONT);
        let limit = Instant::now() + GRACE;
        while Instant::now() < limit {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill()
    }

    /// Ends it at once with SIGKILL; returns how it ended.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait().ok()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

/// A process that may have ended.
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// Sends it `signal`; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        // The only refusal left is that it is gone.
        let _ = pidfd_send_signal(&self.0, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a short command and returns its standard output.
///
/// # Errors
/// [`LabError::Spawn`], or [`LabError::Command`] if it does not exit with 0.
pub fn run(words: &[&str]) -> Result<String, LabError> {
    let (program, arguments) = words.split_first().expect("a command has a first word");
    let output = Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Spawn {
            program: (*program).to_owned(),
            source,
        })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(LabError::Command {
            command: words.join(" "),
            status: output.status,
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// True while the process `pid` runs. One that is dead and only waits for its parent has no program.
pub fn is_running(pid: &str) -> bool {
    fs::read_link(Path::new("/proc").join(pid).join("exe")).is_ok()
}

/// The last lines of a file, or nothing.
pub fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Process {
        let arguments = ["-c".to_owned(), script.to_owned()];
        Process::start(
            "sh",
            Path::new("sh"),
            &arguments,
            &[],
            None,
            dir.join("log"),
        )
        .expect("sh starts")
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().expect("a folder");
        let process = shell("sleep 100", dir.path());
        let pid = process.child.id().to_string();
        assert!(is_running(&pid));
        drop(process);
        assert!(!is_running(&pid));
    }

    #[test]
    fn an_early_end_shows_the_last_words() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut process = shell("echo no such device >&2; exit 3", dir.path());
        let _ = process.child.wait();
        let text = process.alive().expect_err("it has ended").to_string();
        assert!(
            text.contains("no such device") && text.contains('3'),
            "{text}"
        );
    }

    #[test]
    fn a_failing_command_is_reported_with_its_words() {
        let text = run(&["ls", "/nowhere-at-all"])
            .expect_err("no such folder")
            .to_string();
        assert!(text.contains("`ls /nowhere-at-all`"), "{text}");
    }
}
