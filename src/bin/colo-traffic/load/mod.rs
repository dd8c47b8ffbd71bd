//! As much as the node takes, and then a share of it: packets per second and the delay of each frame.
//!
//! Every segment goes out twice, as the primary and as the secondary sent it, and comes back once.
//! First a window of segments is kept under way without a pause, which gives the most that passes
//! without a loss; then single segments go out at an even pace, and the time is taken from just
//! before the later of its two frames is sent until the released frame has been received. Every
//! byte of every released frame is checked, and each flow's frames must leave in order without a
//! gap. At the end one line of JSON has the figures.

mod paced;
mod report;
mod segments;

use dpdk_colo::Frame;
use dpdk_colo::dpdk::{Burst, Eal, Mempool, MempoolConfig, Port, mempool, tsc};

use crate::frames::{FLOWS_MAX, Random};
use crate::line::{Line, LineError};
use paced::Times;
use segments::{FRAME_MAX, FRAME_MIN, Segments, Vm};

/// Mbufs of each VM: its ring, bursts and caches.
const MBUFS: u32 = 4095;
/// Segments under way at a time at most; fewer than any ring takes, so that a forwarder that drops
/// what finds a ring full drops nothing.
const WINDOW: u64 = 192;
/// How long nothing may leave before the load has failed, in seconds.
const PATIENCE: u64 = 10;
/// What is sent before anything is measured, in milliseconds.
const WARM_UP: u64 = 200;

/// What to send.
#[derive(Clone, Copy)]
pub struct Load {
    /// Bytes of a frame, the Ethernet header included and the FCS not.
    pub frame: usize,
    /// Flows.
    pub flows: u32,
    /// Whether the secondary's frames begin elsewhere in the stream than the primary's.
    pub shifted: bool,
    /// Seed of content and order.
    pub seed: u32,
    /// Milliseconds of each of the two measurements.
    pub milliseconds: u64,
    /// The paced measurement's share of the most, in percent.
    pub percent: u64,
    /// The paced measurement's segments a second, in place of a share.
    pub per_second: Option<u64>,
    /// Delays count from the primary's frame, as for a forwarder that waits for no other.
    pub from_primary: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            frame: 64,
            flows: 1000,
            shifted: false,
            seed: 1,
            milliseconds: 2000,
            percent: 50,
            per_second: None,
            from_primary: false,
        }
    }
}

/// Where one VM is in its streams: all flows take turns.
#[derive(Clone, Copy, Default)]
struct Cursor {
    flow: u32,
    number: u64,
    sent: u64,
}

impl Cursor {
    fn step(&mut self, flows: u32) {
        self.sent += 1;
        self.flow += 1;
        if self.flow == flows {
            self.flow = 0;
            self.number += 1;
        }
    }
}

/// A load on its way.
struct Course {
    segments: Segments,
    flows: u32,
    lines: [Line; 2],
    pools: [Mempool; 2],
    received: Mempool,
    cursors: [Cursor; 2],
    out: Line,
    burst: Burst,
    /// Frames of each flow that have left.
    left: Vec<u64>,
    released: u64,
    random: Random,
    hz: u64,
    moved: u64,
    seed: u32,
}

const VMS: [Vm; 2] = [Vm::Primary, Vm::Secondary];

/// Runs a load over three ports and prints what it measured.
pub fn run(eal: &Eal, names: &[String; 3], load: Load) -> Result<(), LineError> {
    let load = Load {
        frame: load.frame.clamp(FRAME_MIN, FRAME_MAX),
        flows: load.flows.clamp(1, FLOWS_MAX),
        ..load
    };
    let mut course = Course::begin(eal, names, &load)?;
    let ms = course.hz / 1000;
    course.lead()?;
    course.flood(WARM_UP * ms)?;
    let most = course.flood(load.milliseconds * ms)?;
    course.drain()?;
    let share = most.per_second * load.percent.max(1) as f64 / 100.0;
    let per_second = load.per_second.map_or(share, |rate| rate.max(1) as f64);
    let interval = (course.hz as f64 / per_second) as u64;
    let mut times = Times::new(load.from_primary);
    course.pace(WARM_UP * ms, interval, &mut Times::new(load.from_primary))?;
    let paced = course.pace(load.milliseconds * ms, interval, &mut times)?;
    println!("{}", report::line(&load, &most, &paced, &times, course.hz));
    Ok(())
}

/// What a stretch of traffic came to.
struct Stretch {
    /// Segments that left.
    released: u64,
    per_second: f64,
    /// Share of the time in which this program had nothing to do: without any, it and not the node
    /// is the limit.
    waiting: f64,
}

impl Course {
    fn begin(eal: &Eal, names: &[String; 3], load: &Load) -> Result<Self, LineError> {
        let segments = Segments::new(load.frame, load.shifted, load.seed);
        let pool = |name| {
            let config = MempoolConfig {
                name,
                mbufs: MBUFS,
                cache: 256,
                data_room: mempool::DEFAULT_DATA_ROOM,
                socket: None,
            };
            Mempool::new(eal, &config)
        };
        let pools = [pool("primary")?, pool("secondary")?];
        for (vm, pool) in VMS.iter().zip(&pools) {
            segments.imprint(*vm, pool);
        }
        let received = pool("received")?;
        let mut lines = [0; 3].map(|_| Line::new(&received));
        for (line, name) in lines.iter_mut().zip(names) {
            line.start(Port::by_name(eal, name)?, false)?;
        }
        let [primary, secondary, out] = lines;
        Ok(Self {
            segments,
            flows: load.flows,
            lines: [primary, secondary],
            pools,
            received,
            cursors: [Cursor::default(); 2],
            out,
            burst: Burst::new(),
            left: vec![0; load.flows as usize],
            released: 0,
            random: Random::new(load.seed),
            hz: tsc::hz(eal),
            moved: tsc::now(),
            seed: load.seed,
        })
    }

    /// Where the VMs segment differently: the secondary's short first frame of each flow.
    fn lead(&mut self) -> Result<(), LineError> {
        let mut flow = 0;
        while self.segments.shifted() && (flow < self.flows || !self.lines[1].out.is_empty()) {
            // Not from the imprinted pool: these frames are shorter.
            while flow < self.flows
                && !self.lines[1].out.is_full()
                && let Some(frame) = self.received.copy_of(&self.segments.lead(flow))
            {
                // There is room.
                let _ = self.lines[1].out.push(frame);
                flow += 1;
            }
            if self.lines[1].flush() > 0 {
                self.moved = tsc::now();
            }
            self.patience(tsc::now())?;
        }
        Ok(())
    }

    /// Puts the next frame of a VM behind those that wait to be sent.
    #[inline]
    fn next(&mut self, vm: usize) -> bool {
        let Cursor { flow, number, .. } = self.cursors[vm];
        let Some(frame) = self.segments.frame(VMS[vm], &self.pools[vm], flow, number) else {
            return false;
        };
        if self.lines[vm].out.push(frame).is_err() {
            return false;
        }
        self.cursors[vm].step(self.flows);
        true
    }

    /// Sends and receives for a time, as fast as it goes.
    fn flood(&mut self, ticks: u64) -> Result<Stretch, LineError> {
        let (began, before) = (tsc::now(), self.released);
        let (mut now, mut waited) = (began, 0);
        while now.wrapping_sub(began) < ticks {
            let first = self.random.below(2);
            let mut busy = false;
            for vm in [first, 1 - first] {
                while self.cursors[vm].sent < self.released + WINDOW
                    && !self.lines[vm].out.is_full()
                    && self.next(vm)
                {}
                busy |= self.lines[vm].flush() > 0;
            }
            busy |= self.receive(now, None)? > 0;
            let then = now;
            now = tsc::now();
            if !busy {
                waited += now.wrapping_sub(then);
            }
        }
        Ok(self.stretch(now.wrapping_sub(began), before, waited))
    }

    fn stretch(&self, ticks: u64, before: u64, waited: u64) -> Stretch {
        let released = self.released - before;
        Stretch {
            released,
            per_second: released as f64 * self.hz as f64 / ticks as f64,
            waiting: waited as f64 / ticks as f64,
        }
    }

    /// Brings both VMs to the same place and waits until all has left.
    fn drain(&mut self) -> Result<(), LineError> {
        let target = self.cursors[0].sent.max(self.cursors[1].sent);
        while self.released < target {
            for vm in 0..2 {
                while self.cursors[vm].sent < target
                    && !self.lines[vm].out.is_full()
                    && self.next(vm)
                {}
                self.lines[vm].flush();
            }
            self.receive(tsc::now(), None)?;
        }
        Ok(())
    }

    /// Takes in and checks what has left; returns how many frames.
    #[inline]
    fn receive(&mut self, now: u64, mut times: Option<&mut Times>) -> Result<usize, LineError> {
        let count = self.out.receive(&mut self.burst);
        if count == 0 {
            return self.patience(now).map(|()| 0);
        }
        let arrived = tsc::now();
        self.moved = arrived;
        if let Some(times) = &mut times {
            times.look(arrived.wrapping_sub(now), self.hz);
        }
        let (left, sent) = (&mut self.left, self.cursors[0]);
        for frame in self.burst.drain() {
            let mut number = 0;
            let flow = self
                .segments
                .check(&frame, |flow| {
                    number = *left.get(flow as usize)?;
                    Some(number)
                })
                .map_err(|what| LineError::Wrong {
                    run: self.seed,
                    flow: 0,
                    offset: number,
                    what,
                })?;
            // Nothing can leave before it is sent.
            if (number, flow) >= (sent.number, sent.flow) {
                return Err(LineError::Foreign(frame.len()));
            }
            left[flow as usize] = number + 1;
            if let Some(times) = &mut times {
                times.left(number * u64::from(self.flows) + u64::from(flow), arrived);
            }
        }
        self.released += count as u64;
        Ok(count)
    }

    fn patience(&self, now: u64) -> Result<(), LineError> {
        if now.saturating_sub(self.moved) < PATIENCE * self.hz {
            return Ok(());
        }
        let bytes = |segments: u64| segments * self.segments.frame_len() as u64;
        Err(LineError::Stuck {
            released: bytes(self.released),
            bytes: bytes(self.cursors[0].sent),
        })
    }
}
