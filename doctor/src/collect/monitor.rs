//! QEMU's monitor, asked without a node.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::is_path;
use super::qemu::{inquire, read};
use crate::facts::{Monitor, Qemu};

/// QEMU greets at once unless somebody else has its monitor.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of all that it says at most.
const MOST: u64 = 8 << 20;

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The monitor.
    pub monitor: Monitor,
    /// What QEMU says of itself, where it answers.
    pub qemu: Option<Qemu>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Looks whether a monitor is free, and asks its QEMU. The monitor is free again afterwards.
pub fn look(address: &str) -> Asked {
    let is = |monitor| Asked {
        monitor,
        qemu: None,
    };
    let stream = match connect(address) {
        Ok(stream) => stream,
        Err(error) => {
            return is(match error.kind() {
                ErrorKind::NotFound => Monitor::Missing,
                ErrorKind::ConnectionRefused => Monitor::Dead,
                ErrorKind::PermissionDenied => Monitor::Denied,
                // Its queue of connections is full.
                ErrorKind::WouldBlock => Monitor::Mute,
                _ => Monitor::Unknown,
            });
        }
    };
    let mut talk = Talk(BufReader::new(stream));
    match talk.greeting() {
        Ok(_) => Asked {
            monitor: Monitor::Free,
            qemu: talk.inquire(),
        },
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            is(Monitor::Mute)
        }
        Err(_) => is(Monitor::Unknown),
    }
}

fn connect(address: &str) -> io::Result<Box<dyn Stream>> {
    if is_path(address) {
        let stream = UnixStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        return Ok(Box::new(stream));
    }
    let mut hosts = address.to_socket_addrs()?;
    let host = hosts.next().ok_or(ErrorKind::AddrNotAvailable)?;
    let stream = TcpStream::connect_timeout(&host, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Box::new(stream))
}

struct Talk(BufReader<Box<dyn Stream>>);

impl Talk {
    fn line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        match (&mut self.0).take(MOST).read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => serde_json::from_str(&line).map_err(io::Error::from),
        }
    }

    fn greeting(&mut self) -> io::Result<()> {
        match self.line()?.get("QMP") {
            Some(_) => Ok(()),
            None => Err(ErrorKind::InvalidData.into()),
        }
    }

    fn inquire(&mut self) -> Option<Qemu> {
        self.ask("qmp_capabilities", &Value::Null)?;
        Some(read(&inquire(&mut |command, arguments| {
            self.ask(command, arguments)
        })))
    }

    /// Events may come before a reply.
    fn ask(&mut self, command: &str, arguments: &Value) -> Option<Value> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments.clone();
        }
        let stream = self.0.get_mut();
        stream.write_all(format!("{request}\n").as_bytes()).ok()?;
        loop {
            let mut reply = self.line().ok()?;
            if let Some(value) = reply.get_mut("return") {
                return Some(value.take());
            }
            if reply.get("error").is_some() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn a_monitor_is_missing_dead_mute_or_free() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("q");
        let address = path.to_str().expect("text");
        assert_eq!(look(address).monitor, Monitor::Missing);
        drop(UnixListener::bind(&path).expect("a socket"));
        assert_eq!(look(address).monitor, Monitor::Dead);
        std::fs::remove_file(&path).expect("it is stale");
        let listener = UnixListener::bind(&path).expect("a socket");
        assert_eq!(look(address).monitor, Monitor::Mute);
        let qemu = thread::spawn(move || {
            // The first connection is the one that was given up.
            for stream in listener.incoming().take(2) {
                let mut stream = stream.expect("a client");
                let _ = stream.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
                let mut lines = BufReader::new(stream.try_clone().expect("a socket"));
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                    let request: Value = serde_json::from_str(&line).expect("JSON");
                    let reply = match request["execute"].as_str() {
                        Some("qmp_capabilities") => "{\"event\": \"X\"}\r\n{\"return\": {}}\r\n",
                        Some("query-status") => "{\"return\": {\"status\": \"running\"}}\r\n",
                        _ => "{\"error\": {\"class\": \"CommandNotFound\"}}\r\n",
                    };
                    let _ = stream.write_all(reply.as_bytes());
                    line.clear();
                }
            }
        });
        let asked = look(address);
        assert_eq!(asked.monitor, Monitor::Free);
        let qemu_says = asked.qemu.expect("it answers");
        assert_eq!(qemu_says.run.as_deref(), Some("running"));
        assert!(qemu_says.capabilities.is_empty());
        qemu.join().expect("it ends");
    }
}
