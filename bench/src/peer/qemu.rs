//! A QEMU that has nothing but a colo-compare object.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::BenchError;
use crate::process::Process;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// The sockets of P, S and what is released.
const SOCKETS: [&str; 3] = ["primary", "secondary", "out"];

/// A running one.
pub struct Qemu {
    process: Process,
}

impl Qemu {
    /// Starts it and returns it with the sockets of P, S and what is released. It connects to
    /// them, so that none is used before it is ready.
    pub fn start(dir: &Path) -> Result<(Self, [UnixStream; 3]), BenchError> {
        let mut words: Vec<String> =
            "-machine none -nodefaults -display none -object iothread,id=comparing"
                .split(' ')
                .map(str::to_owned)
                .collect();
        let mut listeners = Vec::new();
        for name in SOCKETS {
            let path = dir.join(name);
            let listener = UnixListener::bind(&path).map_err(BenchError::file(&path))?;
            let listening = listener.set_nonblocking(true);
            listening.map_err(BenchError::file(&path))?;
            listeners.push(listener);
            words.push("-chardev".to_owned());
            words.push(format!("socket,id={name},path={}", path.display()));
        }
        words.push("-object".to_owned());
        words.push(
            "colo-compare,id=compare,primary_in=primary,secondary_in=secondary,outdev=out,\
             iothread=comparing"
                .to_owned(),
        );
        let mut process = Process::start("qemu", Path::new(PROGRAM), &words, dir)?;
        let mut accept = |listener: &UnixListener| {
            let mut accepted = None;
            process.wait_for("QEMU to connect", || {
                accepted = listener.accept().ok();
                accepted.is_some()
            })?;
            let stream = accepted.ok_or(BenchError::Peer("it does not connect"));
            stream.map(|(stream, _)| stream)
        };
        let sockets = [
            accept(&listeners[0])?,
            accept(&listeners[1])?,
            accept(&listeners[2])?,
        ];
        Ok((Self { process }, sockets))
    }

    /// CPU time of all its threads so far (`/proc/PID/task/TID/schedstat`).
    pub fn cpu_time(&self) -> Result<Duration, BenchError> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.process.id()));
        let mut total = 0;
        for task in fs::read_dir(&tasks).map_err(BenchError::file(&tasks))? {
            let path = task
                .map_err(BenchError::file(&tasks))?
                .path()
                .join("schedstat");
            // A thread may end meanwhile.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let on_cpu = text.split(' ').next().and_then(|ns| ns.parse().ok());
            total += on_cpu.unwrap_or(0u64);
        }
        Ok(Duration::from_nanos(total))
    }

    /// Ends it.
    pub fn end(self) {
        drop(self.process);
    }
}
