//! A wire that can be cut and worn: the link between two nodes, or what lies between a node and its client.
//!
//! In: two interfaces, one per end, and an [`Impairment`] for each direction that may change at
//! any time. Out: every frame of one end at the other, or what the impairment makes of it. A thread with
//! a packet socket on each end does it in user space: not every kernel has `tc netem`. A seed repeats
//! the same draws for the same frames. Queues are bounded; what they cannot take is lost, as on a wire, and
//! counted apart. A packet socket takes a VLAN tag off a frame that it receives, so tagged frames lose their tag.

mod schedule;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt::RcvBufForce,
};
use nix::sys::time::TimeSpec;

pub use schedule::Impairment;
use schedule::{Fate, Schedule};

use crate::error::LabError;
use crate::interrupt;
use crate::net::Namespace;

/// Bytes of the longest frame: a jumbo frame of any NIC.
const FRAME: usize = 16_384;
/// Frames taken from one end before the other one is looked at.
const BURST: usize = 64;
/// What a socket may hold while the thread waits for a CPU.
const BUFFER: usize = 16 << 20;

/// Which way frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the first end to the second.
    Forth,
    /// From the second end to the first.
    Back,
}

/// What one direction has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Frames that came out.
    pub passed: u64,
    /// Frames that the impairment lost.
    pub lost: u64,
    /// Frames that a full queue or socket lost, or that were too long.
    pub dropped: u64,
}

impl Carried {
    /// What came after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            passed: self.passed - before.passed,
            lost: self.lost - before.lost,
            dropped: self.dropped - before.dropped,
        }
    }
}

/// What the lab asks of one direction.
#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    impairment: Impairment,
    /// The seed whose draws begin, and how many there were before it.
    seed: (u64, u64),
}

#[derive(Debug, Default)]
struct Lane {
    orders: Mutex<Orders>,
    /// Frames that still pass before the wire is cut; 0 if it is not cut.
    fuse: AtomicU32,
    passed: AtomicU64,
    lost: AtomicU64,
    dropped: AtomicU64,
}

/// A running wire; dropped, its thread has ended.
#[derive(Debug)]
pub struct Wire {
    lanes: Arc<[Lane; 2]>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Joins the interfaces `ends`, which are inside `place`.
    ///
    /// # Errors
    /// [`LabError::Wire`] with the system's refusal of a packet socket.
    pub fn join(place: &Namespace, ends: [&str; 2], seed: u64) -> Result<Self, LabError> {
        let sockets = place.run(|| Ok([packet_socket(ends[0])?, packet_socket(ends[1])?]))?;
        let lanes: Arc<[Lane; 2]> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (shared, ended) = (Arc::clone(&lanes), Arc::clone(&stop));
        let thread = std::thread::spawn(move || carry(&sockets, &shared, &ended, seed));
        Ok(Self {
            lanes,
            stop,
            thread: Some(thread),
        })
    }

    /// Sets what one direction does from now on; frames under way keep their time.
    pub fn impair(&self, direction: Direction, impairment: Impairment) {
        self.lane(direction).orders().impairment = impairment;
    }

    /// Begins the draws of `seed` in one direction, and sets what it does from now on.
    pub fn begin(&self, direction: Direction, impairment: Impairment, seed: u64) {
        let mut orders = self.lane(direction).orders();
        let number = orders.seed.1 + 1;
        *orders = Orders {
            impairment,
            seed: (seed, number),
        };
    }

    /// What cuts it, from another thread.
    pub fn cutter(&self) -> Cutter {
        Cutter(Arc::clone(&self.lanes))
    }

    /// What one direction has carried so far.
    pub fn carried(&self, direction: Direction) -> Carried {
        let lane = self.lane(direction);
        Carried {
            passed: lane.passed.load(Ordering::Relaxed),
            lost: lane.lost.load(Ordering::Relaxed),
            dropped: lane.dropped.load(Ordering::Relaxed),
        }
    }

    fn lane(&self, direction: Direction) -> &Lane {
        &self.lanes[direction as usize]
    }
}

/// What cuts a wire, and says whether it is cut.
#[derive(Debug, Clone)]
pub struct Cutter(Arc<[Lane; 2]>);

impl Cutter {
    /// Nothing passes any more, in either direction.
    pub fn cut(&self) {
        cut(&self.0);
    }

    /// Cuts both directions for good, once `frames` more have passed in one.
    pub fn cut_behind(&self, direction: Direction, frames: u32) {
        let lane = &self.0[direction as usize];
        lane.fuse.store(frames.max(1), Ordering::Relaxed);
    }

    /// True if nothing passes.
    pub fn is_cut(&self) -> bool {
        self.0.iter().all(|lane| lane.orders().impairment.cut)
    }
}

fn cut(lanes: &[Lane; 2]) {
    for lane in lanes {
        lane.orders().impairment.cut = true;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet socket that takes and gives all frames of `interface` of this thread's namespace.
fn packet_socket(interface: &str) -> Result<OwnedFd, LabError> {
    let refused = |error: Errno| LabError::Wire {
        interface: interface.to_owned(),
        source: error.into(),
    };
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )
    .map_err(refused)?;
    // The address names the interface and no protocol, so the socket's own stays: all of them.
    let address = getifaddrs()
        .map_err(refused)?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| {
            entry
                .address
                .filter(|address| address.as_link_addr().is_some())
        })
        .ok_or_else(|| refused(Errno::ENODEV))?;
    bind(socket.as_raw_fd(), &address).map_err(refused)?;
    setsockopt(&socket, RcvBufForce, &BUFFER).map_err(refused)?;
    Ok(socket)
}

fn carry(sockets: &[OwnedFd; 2], lanes: &[Lane; 2], stop: &AtomicBool, seed: u64) {
    let mut schedules = [Schedule::new(seed), Schedule::new(!seed)];
    let mut begun = [0; 2];
    let mut buffer = [0; FRAME];
    while !stop.load(Ordering::Relaxed) {
        wait(sockets, &schedules);
        for (from, schedule) in schedules.iter_mut().enumerate() {
            let lane = &lanes[from];
            let out = &sockets[1 - from];
            let Orders {
                impairment,
                seed: (seed, number),
            } = *lane.orders();
            if begun[from] != number {
                begun[from] = number;
                schedule.begin(seed);
            }
            let now = Instant::now();
            for _ in 0..BURST {
                // With MSG_TRUNC the length is the frame's, even if the buffer is shorter.
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
                let Ok(len) = recv(sockets[from].as_raw_fd(), &mut buffer, flags) else {
                    break;
                };
                let Some(frame) = buffer.get(..len) else {
                    count(&lane.dropped);
                    continue;
                };
                match schedule.judge(impairment, now) {
                    Fate::Lost => count(&lane.lost),
                    Fate::NoRoom => count(&lane.dropped),
                    Fate::Passes { due, copies } => {
                        for _ in 0..copies {
                            if due <= now && schedule.is_empty() {
                                lane.put(out, frame);
                            } else {
                                schedule.push(due, frame);
                            }
                        }
                        if lane.burns_out() {
                            cut(lanes);
                            break;
                        }
                    }
                }
            }
            while let Some(frame) = schedule.pop(now) {
                lane.put(out, &frame);
            }
        }
    }
}

impl Lane {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this frame was the last one before a cut.
    fn burns_out(&self) -> bool {
        let left = self.fuse.load(Ordering::Relaxed);
        left > 0 && self.fuse.fetch_sub(1, Ordering::Relaxed) == 1
    }

    fn put(&self, out: &OwnedFd, frame: &[u8]) {
        let sent = send(out.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
        count(if sent.is_ok() {
            &self.passed
        } else {
            &self.dropped
        });
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Until a frame comes, one is due, or it is time to look at the flag.
fn wait(sockets: &[OwnedFd; 2], schedules: &[Schedule; 2]) {
    let now = Instant::now();
    let due = schedules.iter().filter_map(Schedule::due).min();
    let time = due.map_or(interrupt::STEP, |due| due.saturating_duration_since(now));
    let mut fds = [
        PollFd::new(sockets[0].as_fd(), PollFlags::POLLIN),
        PollFd::new(sockets[1].as_fd(), PollFlags::POLLIN),
    ];
    // Whole milliseconds, as `poll` counts them, would leave a frame late or the thread awake.
    let _ = ppoll(
        &mut fds,
        Some(TimeSpec::from_duration(time.min(interrupt::STEP))),
        None,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    #[ignore = "needs root: cargo test -p colo-lab -- --ignored --nocapture wire"]
    fn a_sound_wire_carries_some_hundred_megabits() {
        use crate::net::{ClientNet, LINK, WIRE};
        use crate::process::{Process, run};
        let net = ClientNet::two_hosts().expect("a network");
        let dir = tempfile::tempdir().expect("a folder");
        let spaces = [0, 1].map(|host| format!("--net={}", net.host(host).display()));
        for (host, space) in spaces.iter().enumerate() {
            let address = format!("10.9.0.{}/24", host + 1);
            run(&["nsenter", space, "ip", "addr", "add", &address, "dev", LINK])
                .expect("an address");
        }
        let wire = Wire::join(&net.handle().expect("a namespace"), WIRE, 1).expect("a wire");
        let _server = Process::start(
            "iperf3",
            std::path::Path::new("iperf3"),
            &["-s".to_owned()],
            &[],
            Some(&net.host(1)),
            dir.path().join("log"),
        )
        .expect("a server");
        std::thread::sleep(MS * 500);
        let client = ["iperf3", "-c", "10.9.0.2", "-t", "3", "-J"];
        let report = run(&[&["nsenter", &spaces[0]], &client[..]].concat()).expect("a report");
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let rate = report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .expect("a rate");
        let carried = wire.carried(Direction::Forth);
        println!("{:.0} Mbit/s, {carried:?}", rate / 1e6);
        assert!(rate > 100e6, "{rate} bit/s");
    }
}
