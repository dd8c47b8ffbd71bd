//! Both streams into colo-compare and the check of what comes out.
//!
//! Each frame has its length in front, 32 bits in network order (`net_fill_rstate` in QEMU's
//! net/net.c reads it). Fewer pairs are under way than colo-compare queues for a connection, so
//! that it drops none.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::template::Template;
use crate::engine::{Case, case::Traffic};
use crate::error::BenchError;

/// Pairs that are written at a time, and how many batches are under way at most.
const BATCH: usize = 128;
const BATCHES: u64 = 4;
/// How long nothing may come out.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks whether all has come.
const LOOK: Duration = Duration::from_millis(2);
/// Bytes of a length.
const LENGTH: usize = 4;

/// What has passed.
pub struct Passed {
    /// P that came out, every byte right.
    pub pairs: u64,
    /// In what time.
    pub time: Duration,
}

/// One VM's frames of a flow's turn: lengths of payload.
type Lengths = Vec<usize>;

/// The streams of a case, on their way.
pub struct Feed {
    primary: Lengths,
    secondary: Lengths,
    templates: Vec<Template>,
    sockets: [UnixStream; 3],
    flows: usize,
    next: usize,
    offset: u32,
    sent: u64,
    came: u64,
    /// Bytes of a frame that has not come whole.
    rest: Vec<u8>,
}

impl Feed {
    /// Nothing was sent.
    pub fn new(case: &Case, sockets: [UnixStream; 3]) -> Self {
        let (long, short) = (case.payload, case.payload - case.payload / 4);
        let (primary, secondary) = match case.traffic {
            Traffic::Resegmented => (vec![long, short], vec![short, long]),
            Traffic::Tcp | Traffic::Udp => (vec![long], vec![long]),
        };
        Self {
            templates: [long, short].map(|n| Template::new(case, n)).into(),
            primary,
            secondary,
            sockets,
            flows: case.flows,
            next: 0,
            offset: 0,
            sent: 0,
            came: 0,
            rest: Vec::new(),
        }
    }

    /// Keeps some batches under way for a time, then waits for all that is due.
    ///
    /// # Errors
    /// [`BenchError::Peer`] where a byte is wrong or nothing comes any more.
    pub fn run(&mut self, time: Duration) -> Result<Passed, BenchError> {
        let came = AtomicU64::new(self.came);
        let (began, before) = (Instant::now(), self.came);
        let refused = |_| BenchError::Peer("the connection is lost");
        let mut out = self.sockets[2].try_clone().map_err(refused)?;
        out.set_read_timeout(Some(LOOK)).map_err(refused)?;
        let mut rest = std::mem::take(&mut self.rest);
        let templates: Vec<&Template> = self.templates.iter().collect();
        let sent = AtomicU64::new(self.sent);
        let over = AtomicU64::new(u64::MAX);
        let (primary, secondary) = (&self.primary, &self.secondary);
        let (mut next, mut offset) = (self.next, self.offset);
        let (flows, templates) = (self.flows, &templates);
        let [p, s, _] = &self.sockets;
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut buffer, mut moved) = (vec![0; 1 << 17], Instant::now());
                loop {
                    let n = came.load(Ordering::Relaxed);
                    if n >= over.load(Ordering::Acquire) {
                        return Ok(());
                    }
                    match out.read(&mut buffer) {
                        Ok(n) if n > 0 => rest.extend_from_slice(&buffer[..n]),
                        Err(_) if moved.elapsed() < PATIENCE => continue,
                        _ => return Err(BenchError::Peer("nothing comes out any more")),
                    }
                    moved = Instant::now();
                    let count = check(&mut rest, templates)?;
                    came.fetch_add(count, Ordering::Release);
                }
            });
            let mut buffers = [Vec::new(), Vec::new()];
            while began.elapsed() < time && !reader.is_finished() {
                let under_way = sent.load(Ordering::Relaxed) - came.load(Ordering::Acquire);
                if under_way > (BATCHES - 1) * BATCH as u64 {
                    thread::sleep(Duration::from_micros(50));
                    continue;
                }
                buffers.iter_mut().for_each(Vec::clear);
                for _ in 0..BATCH / primary.len() {
                    for (lengths, buffer) in [primary, secondary].iter().zip(&mut buffers) {
                        let mut at = offset;
                        for &length in *lengths {
                            put(buffer, templates, length, next, at);
                            at = at.wrapping_add(length as u32);
                        }
                    }
                    next += 1;
                    if next == flows {
                        next = 0;
                        offset = offset.wrapping_add(primary.iter().sum::<usize>() as u32);
                    }
                }
                for (mut socket, buffer) in [p, s].into_iter().zip(&buffers) {
                    socket.write_all(buffer).map_err(refused)?;
                }
                sent.fetch_add(
                    (BATCH / primary.len() * primary.len()) as u64,
                    Ordering::Relaxed,
                );
            }
            over.store(sent.load(Ordering::Relaxed), Ordering::Release);
            reader
                .join()
                .unwrap_or(Err(BenchError::Peer("the reader failed")))
        })?;
        let (came, sent) = (came.into_inner(), sent.into_inner());
        (self.came, self.sent, self.rest, self.next, self.offset) =
            (came, sent, rest, next, offset);
        Ok(Passed {
            pairs: came - before,
            time: began.elapsed(),
        })
    }
}

fn put(buffer: &mut Vec<u8>, templates: &[&Template], length: usize, flow: usize, offset: u32) {
    let template = of_length(templates, length);
    let frame = template.bytes();
    buffer.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    let from = buffer.len();
    buffer.extend_from_slice(frame);
    template.write(&mut buffer[from..], flow, offset);
}

fn of_length<'a>(templates: &[&'a Template], length: usize) -> &'a Template {
    let known = templates.iter().find(|t| t.content_len() == length);
    known.expect("there is a template for each length that is sent")
}

/// Takes whole frames off the front; how many there were, all of them as the primary sent them.
/// Their order is not looked at: colo-compare changes it when its socket blocks.
fn check(bytes: &mut Vec<u8>, templates: &[&Template]) -> Result<u64, BenchError> {
    let (mut at, mut count) = (0, 0);
    let mut expected = Vec::new();
    while let Some(length) = bytes[at..].first_chunk::<LENGTH>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(frame) = bytes[at + LENGTH..].get(..length) else {
            break;
        };
        let template = templates.iter().find(|t| t.bytes().len() == length);
        let template = template.ok_or(BenchError::Peer("a frame that nobody sent came out"))?;
        let (flow, offset) = template.place(frame);
        expected.clear();
        expected.extend_from_slice(template.bytes());
        template.write(&mut expected, flow, offset);
        if expected != frame {
            return Err(BenchError::Peer(
                "another byte than the primary sent came out",
            ));
        }
        at += LENGTH + length;
        count += 1;
    }
    bytes.drain(..at);
    Ok(count)
}
