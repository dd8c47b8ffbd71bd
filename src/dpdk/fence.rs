//! The fence of rule R3: the exact point in a node's traffic where an epoch ends.
//!
//! When QEMU stops the VM, the vhost driver stops the ring and calls back before it answers
//! ([`super::link_state`]). Frames that were taken off the ring just before may still be on their
//! way through a poll core. [`Fence::close_and_wait`], called there, starts a new generation and
//! returns once every core that polls has passed a quiescent point, that is, has seen it. Hence
//!
//! - every frame polled before the stop was tagged with the old generation, and is behind its
//!   core's quiescent point, before QEMU hears that the VM has stopped;
//! - every frame polled after the restart is tagged with the new one.
//!
//! This also covers a poll that the driver's own wait misses: its two flags are plain stores and
//! loads (`allow_queuing`, `while_queuing` in `rte_eth_vhost.c`), so a core may enter the ring
//! just after the driver took it for idle. The core is then still before its quiescent point.
//!
//! To end a program: let the cores leave (or shut the fence down), then drop the link watch, which
//! waits for its callback, then close the port.
//!
//! DPDK's `rte_rcu_qsbr` does the same with the same stores, but consists of inline C functions
//! with its own thread ids and token type; this is less code than binding it, knows when to give
//! up, and can be tested without DPDK.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

/// The most cores that can poll behind one fence.
pub const MAX_CORES: usize = 64;

/// A slot that no core has.
const FREE: u64 = u64::MAX;

/// How often the waiting thread looks before it lets others run.
const SPINS: u32 = 200;
/// A wait this long is not over soon: the waiting thread sleeps between two looks.
const SHORT: Duration = Duration::from_millis(1);
/// Time between two looks of a longer wait.
const LOOK: Duration = Duration::from_micros(50);
/// What counts of the time between two looks, at most: a process that was stopped has not waited.
const STEP: Duration = Duration::from_millis(100);

/// How [`Fence::close_and_wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// All cores are behind it; the new generation.
    Quiet(u64),
    /// The fence was shut down meanwhile; nothing is known about the cores.
    ShutDown,
}

/// A fence; clones are handles of the same one.
#[derive(Clone)]
pub struct Fence(Arc<Shared>);

struct Shared {
    /// Number of times the fence was closed.
    generation: CachePadded<AtomicU64>,
    shut_down: AtomicBool,
    /// The generation that each core saw last, or [`FREE`]. Each is written by its core alone.
    seen: [CachePadded<AtomicU64>; MAX_CORES],
}

impl Default for Fence {
    fn default() -> Self {
        Self::new()
    }
}

impl Fence {
    /// A fence in generation 0 with no cores.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            generation: CachePadded::new(AtomicU64::new(0)),
            shut_down: AtomicBool::new(false),
            seen: [const { CachePadded::new(AtomicU64::new(FREE)) }; MAX_CORES],
        }))
    }

    /// Adds a core that polls from now on; `None` when there are [`MAX_CORES`] already.
    pub fn join(&self) -> Option<FenceCore> {
        let slot = self.0.seen.iter().position(|slot| {
            // First the slot, then the generation, both sequentially consistent: a close that
            // found the slot free comes before, and its generation is read here.
            slot.compare_exchange(FREE, 0, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        })?;
        let seen = self.0.generation.load(Ordering::SeqCst);
        self.0.seen[slot].store(seen, Ordering::Release);
        Some(FenceCore {
            fence: self.clone(),
            slot,
            seen,
        })
    }

    /// The current generation, for any thread.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Starts a new generation and waits until every core has passed a quiescent point in it, or
    /// has left, or the fence is shut down. To be called where nothing new can be polled: in the
    /// callback that reports the stop.
    ///
    /// While it waits it calls `waits` with the time so far. There is no other way out: to return before a
    /// core is quiet would break rule R3. So a caller that may wait no longer ends the process.
    pub fn close_and_wait(&self, mut waits: impl FnMut(Duration)) -> Closed {
        let generation = self.0.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let mut spins = 0;
        let mut wait = Wait::default();
        for slot in &self.0.seen {
            // FREE is larger than any generation. Acquire: what the core did before its quiescent
            // point has happened before this returns.
            while slot.load(Ordering::SeqCst) < generation {
                if self.0.shut_down.load(Ordering::Acquire) {
                    return Closed::ShutDown;
                }
                spins += 1;
                if spins % SPINS != 0 {
                    hint::spin_loop();
                    continue;
                }
                let time = wait.look(Instant::now());
                waits(time);
                if time < SHORT {
                    thread::yield_now();
                } else {
                    thread::sleep(LOOK);
                    // The next look is due at once.
                    spins = SPINS - 1;
                }
            }
        }
        Closed::Quiet(generation)
    }

    /// Lets every present and future wait end at once: the process is going down.
    pub fn shut_down(&self) {
        self.0.shut_down.store(true, Ordering::Release);
    }
}

/// How long somebody has waited, as far as he ran meanwhile.
#[derive(Default)]
struct Wait {
    looked: Option<Instant>,
    time: Duration,
}

impl Wait {
    /// The time until `now`.
    fn look(&mut self, now: Instant) -> Duration {
        let last = self.looked.replace(now).unwrap_or(now);
        self.time += now.saturating_duration_since(last).min(STEP);
        self.time
    }
}

/// A core's place at the fence. Dropping it takes the core off: it polls no more.
pub struct FenceCore {
    fence: Fence,
    slot: usize,
    seen: u64,
}

impl FenceCore {
    /// Passes a quiescent point: between two polls, with no polled frame untagged. Returns the
    /// generation to tag the next poll's frames with.
    ///
    /// An acquire load; a store only where the generation changed.
    #[inline]
    pub fn quiesce(&mut self) -> u64 {
        let shared = &self.fence.0;
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != self.seen {
            self.seen = generation;
            shared.seen[self.slot].store(generation, Ordering::Release);
        }
        generation
    }
}

impl Drop for FenceCore {
    fn drop(&mut self) {
        self.fence.0.seen[self.slot].store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, RecvTimeoutError};

    use super::*;

    /// Closes the fence on a thread of its own, as the driver's callback does.
    fn close_elsewhere(fence: &Fence) -> mpsc::Receiver<Closed> {
        let (done, closed) = mpsc::channel();
        let fence = fence.clone();
        thread::spawn(move || done.send(fence.close_and_wait(|_| ())));
        closed
    }

    const SOON: Duration = Duration::from_secs(10);
    const A_WHILE: Duration = Duration::from_millis(50);

    #[test]
    fn without_cores_there_is_nothing_to_wait_for() {
        let fence = Fence::new();
        assert_eq!(fence.close_and_wait(|_| ()), Closed::Quiet(1));
        assert_eq!(fence.close_and_wait(|_| ()), Closed::Quiet(2));
    }

    #[test]
    fn closing_waits_for_the_last_core() {
        let fence = Fence::new();
        let mut quick = fence.join().unwrap();
        let mut slow = fence.join().unwrap();
        let closed = close_elsewhere(&fence);
        while quick.quiesce() == 0 {
            hint::spin_loop();
        }
        assert_eq!(closed.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout));
        assert_eq!(slow.quiesce(), 1);
        assert_eq!(closed.recv_timeout(SOON), Ok(Closed::Quiet(1)));
    }

    #[test]
    fn a_core_that_leaves_or_a_shutdown_ends_the_wait() {
        let fence = Fence::new();
        let core = fence.join().unwrap();
        let closed = close_elsewhere(&fence);
        assert_eq!(closed.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout));
        drop(core);
        assert_eq!(closed.recv_timeout(SOON), Ok(Closed::Quiet(1)));

        let _stuck = fence.join().unwrap();
        let closed = close_elsewhere(&fence);
        assert_eq!(closed.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout));
        fence.shut_down();
        assert_eq!(closed.recv_timeout(SOON), Ok(Closed::ShutDown));
    }

    #[test]
    fn a_long_wait_reports_its_time() {
        let fence = Fence::new();
        let mut core = fence.join().unwrap();
        let mut times = Vec::new();
        let since = Instant::now();
        let closed = fence.close_and_wait(|time| {
            times.push(time);
            if time >= A_WHILE {
                core.quiesce();
            }
        });
        assert_eq!(closed, Closed::Quiet(1));
        assert!(
            times.is_sorted() && times.last() >= Some(&A_WHILE),
            "{times:?}"
        );
        assert!(since.elapsed() >= A_WHILE);
    }

    #[test]
    fn a_process_that_was_stopped_has_not_waited() {
        let start = Instant::now();
        let mut wait = Wait::default();
        let at = |ms| start + Duration::from_millis(ms);
        for (ms, time) in [(0, 0), (10, 10), (60_000, 110), (60_020, 130)] {
            assert_eq!(wait.look(at(ms)), Duration::from_millis(time));
        }
    }

    #[test]
    fn slots_are_limited_and_come_back() {
        let fence = Fence::new();
        let mut cores: Vec<_> = (0..MAX_CORES).map(|_| fence.join().unwrap()).collect();
        assert!(fence.join().is_none());
        cores.pop();
        assert_eq!(fence.join().unwrap().quiesce(), 0);
    }

    /// A ring that "QEMU" stops and restarts, polled by two cores: whatever a core took before a
    /// stop must be tagged with the generation before, and recorded before the stop returns.
    #[test]
    fn no_frame_has_an_unknown_generation() {
        const STOPS: u64 = 1_000;
        let fence = Fence::new();
        // The epoch whose frames the ring yields; odd: stopped.
        let ring = Arc::new(AtomicU64::new(0));
        // By core, frames taken and recorded.
        let recorded: Arc<[CachePadded<AtomicU64>; 2]> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));

        let cores: Vec<_> = (0..2)
            .map(|core| {
                let (fence, ring) = (fence.clone(), ring.clone());
                let (recorded, stop) = (recorded.clone(), stop.clone());
                let mut place = fence.join().unwrap();
                thread::spawn(move || {
                    let mut taken = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let tag = place.quiesce();
                        thread::yield_now();
                        let epoch = ring.load(Ordering::Acquire);
                        if epoch % 2 == 1 {
                            continue;
                        }
                        assert_eq!(tag, epoch / 2, "a frame of {epoch} got the tag {tag}");
                        taken += 1;
                        thread::yield_now();
                        recorded[core].store(taken, Ordering::Relaxed);
                    }
                    taken
                })
            })
            .collect();

        for generation in 1..=STOPS {
            ring.fetch_add(1, Ordering::AcqRel);
            assert_eq!(fence.close_and_wait(|_| ()), Closed::Quiet(generation));
            let at_stop: Vec<u64> = recorded.iter().map(|r| r.load(Ordering::Relaxed)).collect();
            thread::yield_now();
            let later: Vec<u64> = recorded.iter().map(|r| r.load(Ordering::Relaxed)).collect();
            assert_eq!(at_stop, later, "a frame came after the fence");
            ring.fetch_add(1, Ordering::AcqRel);
        }
        stop.store(true, Ordering::Relaxed);
        for core in cores {
            core.join().unwrap();
        }
    }
}
