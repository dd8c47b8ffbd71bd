//! Single frames by hand: commands on standard input, what happens on standard output.
//!
//! | command | effect |
//! | --- | --- |
//! | `send N HEX` | sends a frame through the vhost-user socket N of the command line, from 0 on |
//! | `send N HEX SIZE` | the same, with its TCP or UDP checksum to be completed and, unless SIZE is 0, to be cut into segments of SIZE bytes of payload |
//! | `start N` | connects a virtio_user device to the socket, as when a VM starts |
//! | `start N offloads` | the same, for frames that leave checksums and segmentation to others |
//! | `join N M ...` | what comes in at one of these is sent to the others, like on a segment, and shown as passed |
//! | `mute N` | of those, what comes in at N goes nowhere |
//! | `flood N HEX` | sends a frame again and again, as often as the port takes it, without a word |
//! | `calm N` | ends that |
//! | `start N slowly` | as `start N`, but the device's ring runs for a while before its driver puts the first buffer into it |
//! | `stop N` | stops it as QEMU stops a VM's (`GET_VRING_BASE`), and disconnects, which QEMU does not; what was not taken waits for the next start |
//!
//! Each line of the output begins with the time in nanoseconds since 1970: `ready`, `started N`, `stopped N`, `joined`,
//! `muted N`,
//! `flooding N`, `calm N`, `passed N HEX` for a frame that came in at N and was sent on, `sent N` when the port has taken a frame,
//! `received N HEX`, with `left SIZE` behind it where checksum or segmentation are left to the receiver. The end of the
//! input ends the program.

use std::io::{self, BufRead, Write};
use std::num::NonZeroU16;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, TryRecvError, unbounded};
use dpdk_colo::dpdk::{Burst, Eal, Mempool, Port};
use dpdk_colo::{Frame, Offload};

use crate::line::{Line, LineError};

/// Pause between two looks when nothing happens.
const PAUSE: Duration = Duration::from_micros(20);
/// How long the ring of a slow driver runs without a buffer.
const EMPTY: Duration = Duration::from_millis(50);

/// How a device starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Usual,
    Offloads,
    Slowly,
}

enum Command {
    Send(usize, Vec<u8>, Offload),
    Start(usize, Manner),
    Stop(usize),
    Join(Vec<usize>),
    Mute(usize),
    Flood(usize, Vec<u8>),
    Calm(usize),
}

/// Frames of a flood that wait at a time.
const FLOOD: usize = 32;

/// Plays a script.
pub fn run(eal: &Eal, sockets: &[String], pool: &Mempool) -> Result<(), LineError> {
    let mut lines: Vec<Line> = sockets.iter().map(|_| Line::new(pool)).collect();
    let commands = commands(sockets.len())?;
    let (mut burst, mut starts) = (Burst::new(), 0);
    let (mut joined, mut muted) = (Vec::new(), Vec::new());
    let mut floods: Vec<(usize, Vec<u8>)> = Vec::new();
    say(format_args!("ready"))?;
    loop {
        let mut idle = true;
        match commands.try_recv() {
            Ok(command) => {
                idle = false;
                match command? {
                    Command::Send(n, frame, offload) => lines[n].send(frame, offload),
                    Command::Start(n, manner) => {
                        let device = format!(
                            "net_virtio_user{starts},path={},mac=02:00:00:00:00:{n:02x}",
                            sockets[n]
                        );
                        starts += 1;
                        // DPDK starts the ring here and fills it below.
                        let port = Port::plug(eal, &device)?;
                        if manner == Manner::Slowly {
                            thread::sleep(EMPTY);
                        }
                        lines[n].start(port, manner == Manner::Offloads)?;
                        say(format_args!("started {n}"))?;
                    }
                    Command::Stop(n) => {
                        show(n, &mut lines[n], &mut burst)?;
                        lines[n].stop()?;
                        say(format_args!("stopped {n}"))?;
                    }
                    Command::Join(ports) => {
                        joined = ports;
                        say(format_args!("joined"))?;
                    }
                    Command::Flood(n, frame) => {
                        floods.push((n, frame));
                        say(format_args!("flooding {n}"))?;
                    }
                    Command::Calm(n) => {
                        floods.retain(|(port, _)| *port != n);
                        say(format_args!("calm {n}"))?;
                    }
                    Command::Mute(n) => {
                        muted.push(n);
                        say(format_args!("muted {n}"))?;
                    }
                }
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        for (n, frame) in &floods {
            while lines[*n].waiting() < FLOOD {
                lines[*n].send(frame.clone(), Offload::NONE);
            }
        }
        for &n in &joined {
            idle &= pass_on(n, &joined, &muted, &mut lines, &mut burst)? == 0;
        }
        for (n, line) in lines.iter_mut().enumerate() {
            for _ in 0..line.flush() {
                idle = false;
                if !joined.contains(&n) && floods.iter().all(|(port, _)| *port != n) {
                    say(format_args!("sent {n}"))?;
                }
            }
            if joined.contains(&n) {
                continue;
            }
            idle &= show(n, line, &mut burst)? == 0;
        }
        if idle {
            thread::sleep(PAUSE);
        }
    }
}

/// Shows what has come; returns how many frames.
fn show(n: usize, line: &mut Line, burst: &mut Burst) -> Result<usize, LineError> {
    let count = line.receive(burst);
    for frame in burst.drain() {
        let mut hex = String::with_capacity(2 * frame.len());
        for byte in frame.segments().flatten() {
            hex.push_str(&format!("{byte:02x}"));
        }
        match frame.offload() {
            Offload::NONE => say(format_args!("received {n} {hex}"))?,
            left => {
                let size = left.segment.map_or(0, NonZeroU16::get);
                say(format_args!("received {n} {hex} left {size}"))?;
            }
        }
    }
    Ok(count)
}

/// Sends what has come to the other ports of the segment.
fn pass_on(
    n: usize,
    joined: &[usize],
    muted: &[usize],
    lines: &mut [Line],
    burst: &mut Burst,
) -> Result<usize, LineError> {
    let count = lines[n].receive(burst);
    for frame in burst.drain() {
        let bytes: Vec<u8> = frame.segments().flatten().copied().collect();
        if muted.contains(&n) {
            continue;
        }
        for &other in joined.iter().filter(|other| **other != n) {
            lines[other].send(bytes.clone(), Offload::NONE);
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        say(format_args!("passed {n} {hex}"))?;
    }
    Ok(count)
}

fn say(what: std::fmt::Arguments<'_>) -> io::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut out = io::stdout().lock();
    writeln!(out, "{} {what}", now.as_nanos())?;
    out.flush()
}

/// The commands of standard input, read by a thread of their own.
fn commands(ports: usize) -> Result<Receiver<Result<Command, LineError>>, LineError> {
    let (tell, commands) = unbounded();
    thread::Builder::new()
        .name("colo-script".into())
        .spawn(move || {
            for line in io::stdin().lock().lines() {
                let command = match line {
                    Ok(line) => parse(&line, ports).ok_or(LineError::Script(line)),
                    Err(error) => Err(error.into()),
                };
                if tell.send(command).is_err() {
                    return;
                }
            }
        })?;
    Ok(commands)
}

fn parse(line: &str, ports: usize) -> Option<Command> {
    if let Some(joined) = line.strip_prefix("join ") {
        let numbers = joined
            .split(' ')
            .map(|n| n.parse().ok().filter(|n| *n < ports));
        return numbers.collect::<Option<_>>().map(Command::Join);
    }
    let mut words = line.split(' ');
    let (verb, n) = (words.next()?, words.next()?.parse().ok()?);
    if n >= ports {
        return None;
    }
    match (verb, words.next(), words.next()) {
        ("send", Some(hex), None) => Some(Command::Send(n, bytes(hex)?, Offload::NONE)),
        ("send", Some(hex), Some(size)) => {
            let offload = Offload {
                partial_checksum: true,
                segment: NonZeroU16::new(size.parse().ok()?),
            };
            Some(Command::Send(n, bytes(hex)?, offload))
        }
        ("start", None, None) => Some(Command::Start(n, Manner::Usual)),
        ("start", Some("offloads"), None) => Some(Command::Start(n, Manner::Offloads)),
        ("start", Some("slowly"), None) => Some(Command::Start(n, Manner::Slowly)),
        ("stop", None, None) => Some(Command::Stop(n)),
        ("mute", None, None) => Some(Command::Mute(n)),
        ("flood", Some(hex), None) => Some(Command::Flood(n, bytes(hex)?)),
        ("calm", None, None) => Some(Command::Calm(n)),
        _ => None,
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok())
        .collect()
}
