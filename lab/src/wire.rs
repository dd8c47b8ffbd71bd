//! The link between two nodes as a wire that can be cut and worn.
//!
//! In: two interfaces, one per node's end, and an [`Impairment`] for each direction that may change at
//! any time. Out: every frame of one end at the other, or what the impairment makes of it. A thread with
//! a packet socket on each end does it in user space: not every kernel has `tc netem`. A seed repeats
//! the same draws for the same frames. Queues are bounded; what they cannot take is lost, as on a wire.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt::RcvBufForce,
};

use crate::error::LabError;
use crate::interrupt;
use crate::net::ClientNet;
use crate::workload::Noise;

/// No frame of the lab is longer.
const FRAME: usize = 2048;
/// Frames that wait in one direction.
const QUEUE: usize = 16_384;
/// Frames taken from one end before the other one is looked at.
const BURST: usize = 64;
/// What a socket may hold while the thread waits for a CPU.
const BUFFER: usize = 16 << 20;

/// What happens to frames of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Impairment {
    /// Nothing passes.
    pub cut: bool,
    /// Share of frames that are lost, 0 to 1.
    pub loss: f64,
    /// How long every frame takes.
    pub delay: Duration,
    /// Share of frames, 0 to 1, that take [`Impairment::late`] longer, so that others overtake them.
    pub reorder: f64,
    /// How much later the overtaken ones come.
    pub late: Duration,
}

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
    /// Frames that did not, by the impairment or a full queue.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Lane {
    impairment: Mutex<Impairment>,
    passed: AtomicU64,
    lost: AtomicU64,
}

/// A running wire; dropped, its thread has ended.
#[derive(Debug)]
pub struct Wire {
    lanes: Arc<[Lane; 2]>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Joins the interfaces `ends`, which are inside the namespace of `net`.
    ///
    /// # Errors
    /// [`LabError::Wire`] with the system's refusal of a packet socket.
    pub fn join(net: &ClientNet, ends: [&str; 2], seed: u64) -> Result<Self, LabError> {
        let sockets = net.enter(|| Ok([packet_socket(ends[0])?, packet_socket(ends[1])?]))?;
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
        *self.lanes[direction as usize]
            .impairment
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = impairment;
    }

    /// What one direction has carried so far.
    pub fn carried(&self, direction: Direction) -> Carried {
        let lane = &self.lanes[direction as usize];
        Carried {
            passed: lane.passed.load(Ordering::Relaxed),
            lost: lane.lost.load(Ordering::Relaxed),
        }
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

/// A frame and when it is due; frames due at one time leave in their order.
type Waiting = Reverse<(Instant, u64, Vec<u8>)>;

/// What one direction's frames meet.
struct Queue {
    waiting: BinaryHeap<Waiting>,
    noise: Noise,
    number: u64,
}

impl Queue {
    fn new(seed: u64) -> Self {
        Self {
            waiting: BinaryHeap::new(),
            noise: Noise::new(seed),
            number: 0,
        }
    }

    /// When a frame that came at `now` is due; `None` if it is lost. Draws the same numbers whatever the outcome.
    fn judge(&mut self, impairment: Impairment, now: Instant) -> Option<Instant> {
        let mut share = || (self.noise.number() >> 11) as f64 / (1u64 << 53) as f64;
        let (loss, reorder) = (share(), share());
        if impairment.cut || loss < impairment.loss || self.waiting.len() >= QUEUE {
            return None;
        }
        let late = if reorder < impairment.reorder {
            impairment.late
        } else {
            Duration::ZERO
        };
        Some(now + impairment.delay + late)
    }

    fn push(&mut self, due: Instant, frame: &[u8]) {
        self.number += 1;
        self.waiting
            .push(Reverse((due, self.number, frame.to_vec())));
    }

    fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        match self.waiting.peek() {
            Some(Reverse((due, ..))) if *due <= now => {
                self.waiting.pop().map(|Reverse((_, _, frame))| frame)
            }
            _ => None,
        }
    }

    fn due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due, ..))| *due)
    }
}

fn carry(sockets: &[OwnedFd; 2], lanes: &[Lane; 2], stop: &AtomicBool, seed: u64) {
    let mut queues = [Queue::new(seed), Queue::new(!seed)];
    let mut buffer = [0; FRAME];
    while !stop.load(Ordering::Relaxed) {
        wait(sockets, &queues);
        for (from, queue) in queues.iter_mut().enumerate() {
            let lane = &lanes[from];
            let out = &sockets[1 - from];
            let impairment = *lane
                .impairment
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            for _ in 0..BURST {
                let Ok(len) = recv(
                    sockets[from].as_raw_fd(),
                    &mut buffer,
                    MsgFlags::MSG_DONTWAIT,
                ) else {
                    break;
                };
                let frame = &buffer[..len];
                match queue.judge(impairment, now) {
                    None => lane.count(false),
                    Some(due) if due <= now && queue.waiting.is_empty() => {
                        lane.count(put(out, frame));
                    }
                    Some(due) => queue.push(due, frame),
                }
            }
            while let Some(frame) = queue.pop(now) {
                lane.count(put(out, &frame));
            }
        }
    }
}

impl Lane {
    fn count(&self, passed: bool) {
        let counter = if passed { &self.passed } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn put(out: &OwnedFd, frame: &[u8]) -> bool {
    send(out.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT).is_ok()
}

/// Until a frame comes, one is due, or it is time to look at the flag.
fn wait(sockets: &[OwnedFd; 2], queues: &[Queue; 2]) {
    let now = Instant::now();
    let due = queues.iter().filter_map(Queue::due).min();
    let time = due.map_or(interrupt::STEP, |due| due.saturating_duration_since(now));
    // Poll counts whole milliseconds; rounding up could leave a frame a millisecond late.
    let time = PollTimeout::try_from(time.min(interrupt::STEP)).unwrap_or(PollTimeout::ZERO);
    let mut fds = [
        PollFd::new(sockets[0].as_fd(), PollFlags::POLLIN),
        PollFd::new(sockets[1].as_fd(), PollFlags::POLLIN),
    ];
    let _ = poll(&mut fds, time);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_seed_repeats_what_is_lost() {
        let worn = Impairment {
            loss: 0.3,
            ..Impairment::default()
        };
        let now = Instant::now();
        let draw = |seed| {
            let mut queue = Queue::new(seed);
            (0..1000)
                .map(|_| queue.judge(worn, now).is_some())
                .collect::<Vec<_>>()
        };
        let passed = draw(5).iter().filter(|passed| **passed).count();
        assert!((600..800).contains(&passed), "{passed} of 1000 passed");
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn a_cut_wire_passes_nothing_and_a_sound_one_all() {
        let now = Instant::now();
        let mut queue = Queue::new(1);
        let cut = Impairment {
            cut: true,
            ..Impairment::default()
        };
        assert!((0..100).all(|_| queue.judge(cut, now).is_none()));
        assert!((0..100).all(|_| queue.judge(Impairment::default(), now) == Some(now)));
    }

    #[test]
    fn a_late_frame_is_overtaken() {
        let now = Instant::now();
        let mut queue = Queue::new(1);
        queue.push(now + MS * 3, b"late");
        queue.push(now + MS, b"first");
        queue.push(now + MS, b"second");
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.due(), Some(now + MS));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(now + MS * 3)).collect();
        assert_eq!(order, [&b"first"[..], b"second", b"late"]);
    }

    #[test]
    fn a_full_queue_loses() {
        let now = Instant::now();
        let mut queue = Queue::new(1);
        for _ in 0..QUEUE {
            let due = queue.judge(Impairment::default(), now).expect("room");
            queue.push(due, b"");
        }
        assert_eq!(queue.judge(Impairment::default(), now), None);
    }

    #[test]
    #[ignore = "needs root: cargo test -p colo-lab -- --ignored --nocapture wire"]
    fn a_sound_wire_carries_some_hundred_megabits() {
        use crate::net::{LINK, WIRE};
        use crate::process::{Process, run};
        let net = ClientNet::two_hosts().expect("a network");
        let dir = tempfile::tempdir().expect("a folder");
        let spaces = [0, 1].map(|host| format!("--net={}", net.host(host).display()));
        for (host, space) in spaces.iter().enumerate() {
            let address = format!("10.9.0.{}/24", host + 1);
            run(&["nsenter", space, "ip", "addr", "add", &address, "dev", LINK])
                .expect("an address");
        }
        let wire = Wire::join(&net, WIRE, 1).expect("a wire");
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
