//! A client of DPDK's telemetry socket (`lib/telemetry`, protocol v2): SEQPACKET, one message per
//! request and per answer, a greeting first.

use std::io;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use serde_json::Value;

/// Longest answer of DPDK 22.11.
const ANSWER_MAX: usize = 64 << 10;

/// What the process with this file prefix answers to a command, with its arguments behind a comma.
pub fn ask(prefix: &str, command: &str) -> io::Result<Value> {
    let path = Path::new("/var/run/dpdk")
        .join(prefix)
        .join("dpdk_telemetry.v2");
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(&path)?)?;
    let mut buffer = vec![0; ANSWER_MAX];
    recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    send(&socket, command.as_bytes(), SendFlags::empty())?;
    let (n, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    let mut answer: Value = serde_json::from_slice(&buffer[..n])?;
    let verb = command.split(',').next().unwrap_or(command);
    Ok(answer[verb].take())
}
