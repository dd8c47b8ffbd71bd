//! TCP streams as two VMs send them, segmented differently by each, and the check of what leaves.
//!
//! The byte at each offset of each flow of each run is known beforehand, so every released byte is
//! checked by itself, also those that a node still held when an earlier run was killed. A flow's
//! frames must leave without a gap and none twice. Without `--bytes` the streams go on until
//! SIGINT or SIGTERM; at the end one line of JSON says how much left.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dpdk_colo::Frame;
use dpdk_colo::dpdk::{Burst, Eal, Mbuf, Mempool, Port};
use serde_json::json;

use crate::frames::{DESTINATION, HEADER, Random, SEQ, header, start};
use crate::line::{Line, LineError};

/// Flows of a run at most: their number has 12 bits of the server's address.
pub const FLOWS_MAX: u32 = 4096;

/// Payload of a segment at most, with an MTU of 1500.
const PAYLOAD_MAX: usize = 1446;
/// How far either VM is ahead of what has left, in bytes of a flow.
const AHEAD: u64 = 64 << 10;
/// The content of a flow repeats after this many bytes, a prime: a byte that moves by a power of
/// two, as a wrong wrap would have it, is another byte.
const PERIOD: usize = 65_521;
/// How long nothing may leave before the run has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to send.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Number of the run, of which 12 bits count: it seeds the content and the segmentation, and
    /// the frames carry it.
    pub run: u32,
    /// Flows.
    pub flows: u32,
    /// Bytes of each flow; 0: no end.
    pub bytes: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            run: 1,
            flows: 16,
            bytes: 0,
        }
    }
}

/// One flow's positions.
#[derive(Clone, Copy, Default)]
struct Flow {
    sent: [u64; 2],
    released: u64,
}

/// Runs the streams and checks what leaves.
pub fn run(eal: &Eal, names: &[String; 3], pool: &Mempool, plan: Plan) -> Result<(), LineError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let [mut primary, mut secondary, mut out] = [(); 3].map(|()| Line::new(pool));
    let run = plan.run % FLOWS_MAX;
    let mut flows = vec![Flow::default(); plan.flows as usize];
    let mut check = Check::new(run);
    let mut random = Random::new(run);
    let limit = match plan.bytes {
        0 => u64::MAX,
        bytes => u64::from(bytes),
    };
    for (line, name) in [&mut primary, &mut secondary, &mut out]
        .into_iter()
        .zip(names)
    {
        line.start(Port::by_name(eal, name)?, false)?;
    }
    let (started, mut moved) = (Instant::now(), Instant::now());
    let mut burst = Burst::new();
    let mut left = plan.flows;
    while left > 0 && !stop.load(Ordering::Relaxed) {
        for (vm, line) in [&mut primary, &mut secondary].into_iter().enumerate() {
            fill(vm, line, pool, &mut flows, &mut random, limit, &check);
            line.flush();
        }
        if out.receive(&mut burst) > 0 {
            moved = Instant::now();
        }
        for frame in burst.drain() {
            if let Some(at) = check.frame(&frame, &mut flows)?
                && flows[at].released == limit
            {
                left -= 1;
            }
        }
        if moved.elapsed() > PATIENCE {
            return Err(LineError::Stuck {
                released: flows.iter().map(|flow| flow.released).sum(),
                bytes: limit.saturating_mul(flows.len() as u64),
            });
        }
    }
    let released: u64 = flows.iter().map(|flow| flow.released).sum();
    let report = json!({
        "seconds": started.elapsed().as_secs_f64(),
        "bytes": released,
        "frames": check.frames,
        "older_frames": check.older_frames,
    });
    println!("{report}");
    Ok(())
}

/// Fills a VM's burst with segments of flows that may go on.
fn fill(
    vm: usize,
    line: &mut Line,
    pool: &Mempool,
    flows: &mut [Flow],
    random: &mut Random,
    limit: u64,
    check: &Check,
) {
    for _ in 0..Burst::CAPACITY {
        if line.out.is_full() {
            return;
        }
        let number = random.below(flows.len());
        let flow = &mut flows[number];
        let room = limit.min(flow.released + AHEAD) - flow.sent[vm];
        if room == 0 {
            continue;
        }
        let len = (1 + random.below(PAYLOAD_MAX)).min(room as usize);
        let Some(mut frame) = pool.alloc() else {
            return;
        };
        if let Some(bytes) = frame.append(HEADER + len) {
            let at = flow.sent[vm];
            bytes[..HEADER].copy_from_slice(&head(check.run, number as u32, at, len));
            bytes[HEADER..].copy_from_slice(check.content.at(number as u32, at, len));
            flow.sent[vm] += len as u64;
            // The burst has room.
            let _ = line.out.push(frame);
        }
    }
}

/// The number of a run's flow among those of all runs.
fn number(run: u32, flow: u32) -> u32 {
    run << 12 | flow
}

fn head(run: u32, flow: u32, offset: u64, payload: usize) -> [u8; HEADER] {
    let flow = number(run, flow);
    header(flow, start(flow).wrapping_add(offset as u32), payload)
}

/// Checks what leaves.
struct Check {
    run: u32,
    content: Content,
    /// Content and positions of earlier runs, of which a node may still have held frames.
    older: HashMap<u32, (Content, HashMap<u32, u64>)>,
    frames: u64,
    older_frames: u64,
}

impl Check {
    fn new(run: u32) -> Self {
        Self {
            run,
            content: Content::new(run),
            older: HashMap::new(),
            frames: 0,
            older_frames: 0,
        }
    }

    /// Checks a frame; returns its flow if it belongs to this run.
    fn frame(&mut self, frame: &Mbuf, flows: &mut [Flow]) -> Result<Option<usize>, LineError> {
        let foreign = || LineError::Foreign(frame.len());
        let bytes = frame.head();
        let (head, payload) = bytes.split_at_checked(HEADER).ok_or_else(foreign)?;
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (run, flow) = (word(DESTINATION) >> 12 & 0xfff, word(DESTINATION) & 0xfff);
        let within = word(SEQ).wrapping_sub(start(number(run, flow)));
        if run != self.run {
            self.older_frames += 1;
            let (content, positions) = self
                .older
                .entry(run)
                .or_insert_with(|| (Content::new(run), HashMap::new()));
            let next = positions.entry(flow).or_insert(u64::from(within));
            return one(head, payload, content, run, flow, within, next).map(|()| None);
        }
        self.frames += 1;
        let next = &mut flows.get_mut(flow as usize).ok_or_else(foreign)?.released;
        one(head, payload, &self.content, run, flow, within, next)?;
        Ok(Some(flow as usize))
    }
}

/// Checks that a segment is the next one of its flow, whole and right, and moves on.
fn one(
    head: &[u8],
    payload: &[u8],
    content: &Content,
    run: u32,
    flow: u32,
    within: u32,
    next: &mut u64,
) -> Result<(), LineError> {
    let offset = *next;
    let wrong = |offset, what| {
        Err(LineError::Wrong {
            run,
            flow,
            offset,
            what,
        })
    };
    if within != offset as u32 {
        return wrong(offset, "a gap, or left twice");
    }
    if head != self::head(run, flow, offset, payload.len()) {
        return wrong(offset, "the headers are not those that were sent");
    }
    let expected = content.at(flow, offset, payload.len());
    if let Some(at) = payload.iter().zip(expected).position(|(a, b)| a != b) {
        return wrong(offset + at as u64, "another byte than the primary sent");
    }
    *next += payload.len() as u64;
    Ok(())
}

/// What the flows of a run say.
struct Content(Vec<u8>);

impl Content {
    fn new(run: u32) -> Self {
        let mut random = Random::new(run ^ 0xc010_0000);
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| random.next() as u8).collect();
        bytes.extend_from_within(..PAYLOAD_MAX);
        Self(bytes)
    }

    fn at(&self, flow: u32, offset: u64, len: usize) -> &[u8] {
        let from = ((offset + u64::from(flow) * 7919) % PERIOD as u64) as usize;
        &self.0[from..from + len.min(PAYLOAD_MAX)]
    }
}
