//! One request and its reply.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

/// The protocol that this program speaks.
const PROTOCOL: u64 = 1;
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
    let absent = |source| ClientError::Absent {
        path: path.to_owned(),
        source,
    };
    let broken = |source| ClientError::Broken {
        path: path.to_owned(),
        source,
    };
    let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        // Somebody may be there.
        ErrorKind::PermissionDenied | ErrorKind::WouldBlock => broken(source),
        _ => absent(source),
    })?;
    stream.set_read_timeout(Some(patience)).map_err(broken)?;
    stream.set_write_timeout(Some(patience)).map_err(broken)?;
    let mut lines = BufReader::new((&stream).take(REPLY));
    let greeting = read(&mut lines).map_err(broken)?;
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
    (&stream)
        .write_all(format!("{request}\n").as_bytes())
        .map_err(broken)?;
    let mut reply = read(&mut lines).map_err(broken)?;
    Ok(match reply.get("error") {
        Some(_) => Reply::Error(reply["error"].take()),
        None => Reply::Return(reply["return"].take()),
    })
}

fn read(lines: &mut impl BufRead) -> io::Result<Value> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_str(&line)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not JSON, or it is cut off"))
}
