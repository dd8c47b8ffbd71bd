//! A vhost port and its guest in two processes: frames both ways, link events, and the fence.
//!
//! The guest is this program again, with a virtio_user port; four of them come one after the
//! other. Two send frames of all shapes (plain, shared, header before shared bytes, header before
//! an indirect clone), and get each back in such a shape behind four more bytes. Then one stops
//! its device in the middle of a stream, with the very messages of QEMU that stops a VM, and one
//! dies there.

#![cfg(feature = "dpdk")]

mod dpdk_support;

use std::collections::VecDeque;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use dpdk_colo::Frame;
use dpdk_colo::dpdk::fence::Closed;
use dpdk_colo::dpdk::{
    Burst, Fence, Mbuf, Mempool, Port, PortConfig, RxQueue, TxQueue, lcore, vhost,
};
use dpdk_support::{TestEal, bytes_of, pattern, pool};

/// Guests whose frames are answered, and frames of each.
const ANSWERED_GUESTS: u64 = 2;
const ANSWERED: u64 = 6_000;
const IN_FLIGHT: u64 = 64;
const GUESTS: u64 = 4;
/// Frames that each of the others puts on its ring, several times the ring's 256; up to a burst
/// more.
const STREAMED: usize = 2_000;
const PREFIX: [u8; 4] = *b"back";
/// In a guest's process: which one it is, and the socket.
const GUEST: &str = "COLO_TEST_GUEST";
const SOCKET: &str = "COLO_TEST_SOCKET";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn frames_events_and_fence() {
    match (env::var(GUEST), env::var(SOCKET)) {
        (Ok(which), Ok(socket)) => guest(which.parse().unwrap(), &socket),
        _ => host(),
    }
}

fn host() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("vhost.sock");
    let device = format!("net_vhost0,iface={}", socket.display());
    let eal = TestEal::start(&["-l", "0,1", "--no-telemetry", "--vdev", &device]);
    let frames = pool(&eal, "frames", 4095);
    let mut port = Port::by_name(&eal, "net_vhost0").unwrap();
    let mut queues = port.start(&PortConfig::new(&frames)).unwrap();
    assert!(port.sends_chains() && !port.monitor().link_is_up());
    // The library's thread is known by a name, which is not the same in all releases.
    assert_eq!(vhost::look_at_sockets(&eal).unwrap(), 1);

    let fence = Fence::new();
    let host = Arc::new(Host::default());
    let watch = {
        let (fence, host) = (fence.clone(), host.clone());
        port.watch_link(move |up| {
            let event = if up {
                Event::Up
            } else {
                let Closed::Quiet(generation) = fence.close_and_wait(|_| ()) else {
                    return;
                };
                Event::Down {
                    generation,
                    frames: host.frames.load(Ordering::Relaxed),
                }
            };
            host.events.lock().unwrap().push(event);
        })
        .unwrap()
    };

    let poller = {
        let (fence, host, pool) = (fence.clone(), host.clone(), frames.clone());
        let (rx, tx) = (queues.rx.pop().unwrap(), queues.tx.pop().unwrap());
        lcore::launch(&eal, 1, move || host.poll(&fence, rx, tx, &pool)).unwrap()
    };

    for which in 0..GUESTS {
        let mut guest = Guest(start_guest(which, &socket));
        wait_for("the guest's end", || guest.0.try_wait().unwrap().is_some());
        let status = guest.0.wait().unwrap().code();
        assert_eq!(
            status,
            Some(if which == GUESTS - 1 {
                DEAD_IN_THE_STREAM
            } else {
                0
            })
        );
        let events = 2 * (which as usize + 1);
        wait_for("the link's end", || {
            host.events.lock().unwrap().len() >= events
        });
    }
    assert!(!port.monitor().link_is_up());
    host.stop.store(true, Ordering::Relaxed);
    let by_generation = poller.join().map_err(|_| "the poller panicked").unwrap();

    println!("frames by generation: {by_generation:?}");
    assert_eq!(by_generation.len() as u64, GUESTS);
    assert_eq!(by_generation[..2], [ANSWERED; ANSWERED_GUESTS as usize]);
    assert!(
        by_generation[2..]
            .iter()
            .all(|&n| n > 0 && n < (STREAMED + Burst::CAPACITY) as u64),
        "a stream was not polled, or what it left in the ring came twice"
    );
    // What the callback saw recorded when the fence was closed is all there is of a generation.
    let mut recorded = 0;
    let mut expected = Vec::new();
    for (generation, frames) in (1..).zip(&by_generation) {
        recorded += frames;
        expected.extend([
            Event::Up,
            Event::Down {
                generation,
                frames: recorded,
            },
        ]);
    }
    assert_eq!(*host.events.lock().unwrap(), expected);

    drop(watch);
    drop(queues);
    port.close().map_err(|(_, error)| error).unwrap();
    assert_eq!(frames.in_use(), 0);
    assert!(!socket.exists());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Up,
    /// The fence's new generation, and the frames that were recorded by then.
    Down {
        generation: u64,
        frames: u64,
    },
}

#[derive(Default)]
struct Host {
    events: Mutex<Vec<Event>>,
    /// Frames polled, checked and answered.
    frames: AtomicU64,
    stop: AtomicBool,
}

impl Host {
    /// Checks and answers frames until `stop` is set. Returns their number by generation.
    fn poll(&self, fence: &Fence, rx: RxQueue, tx: TxQueue, pool: &Mempool) -> Vec<u64> {
        let (mut rx, mut tx) = (rx.enable(), tx.enable());
        let mut place = fence.join().unwrap();
        let mut by_generation: Vec<u64> = Vec::new();
        let (mut received, mut answers) = (Burst::new(), Burst::new());
        let mut kept = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let generation = place.quiesce();
            tx.tx(&mut answers);
            if !answers.is_empty() {
                continue;
            }
            kept.clear();
            if rx.rx(&mut received) == 0 {
                // Lets the guest run where cores are few.
                thread::yield_now();
                continue;
            }
            if generation >= ANSWERED_GUESTS {
                // Slower than the guest, so that it stops while frames are under way here.
                thread::sleep(Duration::from_micros(500));
            }
            by_generation.resize(generation as usize + 1, 0);
            let count = &mut by_generation[generation as usize];
            for frame in received.drain() {
                assert_eq!(
                    bytes_of(&frame),
                    pattern(*count),
                    "frame {count} of {generation}"
                );
                if generation < ANSWERED_GUESTS {
                    let answer = answer(frame, *count, pool, &mut kept);
                    answers.push(answer).map_err(drop).unwrap();
                }
                *count += 1;
                self.frames.fetch_add(1, Ordering::Relaxed);
            }
        }
        by_generation
    }
}

/// The frame behind [`PREFIX`]. What else owns its bytes goes to `kept`.
fn answer(mut frame: Mbuf, n: u64, pool: &Mempool, kept: &mut Vec<Mbuf>) -> Mbuf {
    let prefix = || pool.copy_of(&PREFIX).unwrap();
    let payload = match n % 4 {
        0 => {
            frame
                .prepend(PREFIX.len())
                .unwrap()
                .copy_from_slice(&PREFIX);
            return frame;
        }
        1 => return Mbuf::chain(prefix(), frame).map_err(drop).unwrap(),
        2 => frame.share(),
        _ => frame.clone_indirect(pool).unwrap(),
    };
    kept.push(frame);
    Mbuf::chain(prefix(), payload).map_err(drop).unwrap()
}

/// Kills the guest where the test fails.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const DEAD_IN_THE_STREAM: i32 = 77;

fn start_guest(which: u64, socket: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "frames_events_and_fence", "--nocapture"])
        .env(GUEST, which.to_string())
        .env(SOCKET, socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "no sign of {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn guest(which: u64, socket: &str) {
    // Ring layouts, each with its own transmit function in the driver.
    let ring = ["", ",in_order=0", ",packed_vq=1", ""][which as usize];
    let device = format!("net_virtio_user0,path={socket}{ring}");
    let eal = TestEal::start(&["-l", "0", "--no-telemetry", "--vdev", &device]);
    let frames = pool(&eal, "frames", 4095);
    let mut port = Port::by_name(&eal, "net_virtio_user0").unwrap();
    let mut queues = port.start(&PortConfig::new(&frames)).unwrap();
    let (rx, tx) = (queues.rx.pop().unwrap(), queues.tx.pop().unwrap());
    if which < ANSWERED_GUESTS {
        exchange(rx, tx, &frames);
    } else {
        stream(tx, &frames);
        if which == GUESTS - 1 {
            fs::remove_dir_all(eal.directory()).unwrap();
            process::exit(DEAD_IN_THE_STREAM);
        }
        drop(rx);
    }
    drop(queues);
    port.close().map_err(|(_, error)| error).unwrap();
    assert_eq!(frames.in_use(), 0);
}

/// Sends all frames and checks that each comes back, in order.
fn exchange(rx: RxQueue, tx: TxQueue, pool: &Mempool) {
    let (mut rx, mut tx) = (rx.enable(), tx.enable());
    let (mut outgoing, mut incoming) = (Burst::new(), Burst::new());
    let (mut sent, mut answered) = (0, 0);
    let mut kept = VecDeque::new();
    let since = Instant::now();
    while answered < ANSWERED {
        assert!(
            since.elapsed() < PATIENCE,
            "{answered} of {sent} frames came back"
        );
        while !outgoing.is_full() && sent < ANSWERED && sent - answered < IN_FLIGHT {
            let (frame, other) = in_shape(sent, pool);
            outgoing.push(frame).map_err(drop).unwrap();
            kept.extend(other);
            sent += 1;
        }
        tx.tx(&mut outgoing);
        if rx.rx(&mut incoming) == 0 {
            thread::yield_now();
        }
        for frame in incoming.drain() {
            let expected = [&PREFIX, &pattern(answered)[..]].concat();
            assert_eq!(bytes_of(&frame), expected, "answer {answered}");
            answered += 1;
        }
        while kept.len() > 20 {
            kept.pop_front();
        }
    }
}

/// Sends as fast as it can, until the host has taken some frames, and leaves others in the ring.
fn stream(tx: TxQueue, pool: &Mempool) {
    let mut tx = tx.enable();
    let mut outgoing = Burst::new();
    let (mut made, mut sent) = (0, 0);
    let since = Instant::now();
    while sent < STREAMED {
        assert!(
            since.elapsed() < PATIENCE,
            "the host takes no more than {sent} frames"
        );
        while !outgoing.is_full() {
            outgoing.push(in_shape(made, pool).0).map_err(drop).unwrap();
            made += 1;
        }
        sent += tx.tx(&mut outgoing);
    }
}

/// Frame `n`, and perhaps another owner of its bytes.
fn in_shape(n: u64, pool: &Mempool) -> (Mbuf, Option<Mbuf>) {
    let bytes = pattern(n);
    if n % 4 < 2 {
        let frame = pool.copy_of(&bytes).unwrap();
        let other = (n % 4 == 1).then(|| frame.share());
        return (frame, other);
    }
    let (header, payload) = bytes.split_at(14);
    let (header, payload) = (
        pool.copy_of(header).unwrap(),
        pool.copy_of(payload).unwrap(),
    );
    let behind = if n % 4 == 2 {
        payload.share()
    } else {
        payload.clone_indirect(pool).unwrap()
    };
    (
        Mbuf::chain(header, behind).map_err(drop).unwrap(),
        Some(payload),
    )
}
