//! One request and its reply.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Value, json};

/// The protocol that this program speaks.
const PROTOCOL: u64 = 1;
/// How long a node may take to accept a connection and to greet.
const WELCOME: Duration = Duration::from_secs(10);
/// Pause between two attempts to connect to a node whose queue is full.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a reply at most: ten pairs have some 20 KiB.
const REPLY: u64 = 4 << 20;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no node answers at {path:?}: {source}; start it, or see its log")]
    Absent {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// This user may not.
    #[error(
        "this user may not use {0:?}; ask as the node's user, or start the node with --control-group GROUP and ask as a \
         member of it"
    )]
    Closed(PathBuf),
    /// The node takes too long.
    #[error(
        "the node at {path:?} has not {what} within {} s; what was ordered may still take effect: see its log, and status",
        .limit.as_secs_f64()
    )]
    Late {
        /// The socket.
        path: PathBuf,
        /// What it should have done.
        what: &'static str,
        /// The time that it had.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection to {path:?} broke: {source}; see the node's log")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another program listens there, or a later node.
    #[error(
        "{path:?} does not speak protocol {PROTOCOL} of dpdk-colo: {greeting}; use its own release of coloctl"
    )]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Its first line.
        greeting: String,
    },
    /// The node turned this client away.
    #[error("{0}")]
    TurnedAway(String),
}

/// What the node has replied.
#[derive(Debug)]
pub enum Reply {
    /// It is done.
    Return(Value),
    /// It is not, with a class and a message.
    Error(Value),
}

/// Asks the node at `path`, and waits for its reply.
///
/// # Errors
/// When there is none.
pub fn ask(
    path: &Path,
    command: &str,
    arguments: &Value,
    patience: Duration,
) -> Result<Reply, ClientError> {
    let failed = |source: io::Error, what, limit| match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::Absent {
            path: path.to_owned(),
            source,
        },
        ErrorKind::PermissionDenied => ClientError::Closed(path.to_owned()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Late {
            path: path.to_owned(),
            what,
            limit,
        },
        _ => ClientError::Broken {
            path: path.to_owned(),
            source,
        },
    };
    let began = Instant::now();
    let stream =
        open(path, WELCOME).map_err(|source| failed(source, "taken the connection", WELCOME))?;
    let until = began + WELCOME;
    let from = Timed {
        stream: &stream,
        until,
    };
    let mut lines = BufReader::new(from.take(REPLY));
    let greeting = read(&mut lines).map_err(|source| failed(source, "greeted", WELCOME))?;
    if let Some(message) = greeting["error"]["message"].as_str() {
        return Err(ClientError::TurnedAway(message.to_owned()));
    }
    if greeting["dpdk-colo"]["protocol"] != PROTOCOL {
        return Err(ClientError::Stranger {
            path: path.to_owned(),
            greeting: greeting.to_string(),
        });
    }
    let request = json!({ "id": 1, "command": command, "arguments": arguments });
    let broken = |source| failed(source, "replied", patience);
    lines.get_mut().get_mut().until = Instant::now() + patience;
    stream
        .set_write_timeout(Some(WELCOME))
        .and_then(|()| (&stream).write_all(format!("{request}\n").as_bytes()))
        .map_err(broken)?;
    let mut reply = read(&mut lines).map_err(broken)?;
    Ok(match reply.get("error") {
        Some(_) => Reply::Error(reply["error"].take()),
        None => Reply::Return(reply["return"].take()),
    })
}

/// Connects. A node whose queue is full is asked again, for `limit` at most.
pub fn open(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let until = Instant::now() + limit;
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < until => thread::sleep(PAUSE),
            connected => {
                connected?;
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
        }
    }
}

/// A connection that is read until a time, however little comes of a line at once.
struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(bytes)
    }
}

fn read(lines: &mut impl BufRead) -> io::Result<Value> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_str(&line)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not JSON, or it is cut off"))
}
