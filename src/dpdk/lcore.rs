//! Work on EAL's lcores.
//!
//! EAL has made and pinned a thread for each; they are the ones with a cache in every mempool, so
//! all polling is done there.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::dpdk_sys;
use super::eal::Eal;
use super::errno::Errno;

/// Why nothing runs on an lcore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LcoreError {
    /// It is the main lcore, or not among EAL's `-l`.
    #[error("lcore {lcore} is no worker; -l names the lcores, the first of them is the main one")]
    NoWorker {
        /// The lcore asked for.
        lcore: u32,
    },
    /// It runs something already, or its thread cannot be woken.
    #[error("lcore {lcore} cannot be started: {errno}")]
    Launch {
        /// The lcore asked for.
        lcore: u32,
        /// EBUSY: it runs something already.
        errno: Errno,
    },
}

/// What the function returned, or what it panicked with.
type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// Where the lcore leaves its outcome.
struct Slot<T> {
    outcome: Mutex<Option<Outcome<T>>>,
    done: Condvar,
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Option<Outcome<T>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A function that runs on an lcore. Dropping the handle leaves it running.
pub struct Running<T> {
    lcore: u32,
    slot: Arc<Slot<T>>,
    /// Waiting for lcores is reserved to the main lcore's thread.
    _main_thread: PhantomData<*const ()>,
}

/// Runs `f` on a worker lcore that is idle.
pub fn launch<T: Send + 'static>(
    eal: &Eal,
    lcore: u32,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<Running<T>, LcoreError> {
    if !eal.worker_lcores().contains(&lcore) {
        return Err(LcoreError::NoWorker { lcore });
    }
    let slot = Arc::new(Slot {
        outcome: Mutex::new(None),
        done: Condvar::new(),
    });
    let theirs = slot.clone();
    let job: Job = Box::new(move || {
        let outcome = panic::catch_unwind(AssertUnwindSafe(f));
        *theirs.lock() = Some(outcome);
        theirs.done.notify_all();
    });
    let job: *mut Job = Box::into_raw(Box::new(job));
    // SAFETY: this is the main lcore's thread, as Eal stays there, and lcore a worker; `run` takes
    // the job over if the launch succeeds.
    let ret = unsafe { dpdk_sys::rte_eal_remote_launch(Some(run), job.cast(), lcore) };
    if let Err(errno) = Errno::check(ret) {
        // SAFETY: made by Box::into_raw, and not launched.
        drop(unsafe { Box::from_raw(job) });
        return Err(LcoreError::Launch { lcore, errno });
    }
    Ok(Running {
        lcore,
        slot,
        _main_thread: PhantomData,
    })
}

unsafe extern "C" fn run(job: *mut c_void) -> c_int {
    // SAFETY: `launch` passes a Job made by Box::into_raw, and EAL calls this once with it.
    let job = unsafe { Box::from_raw(job.cast::<Job>()) };
    job();
    0
}

impl<T> Running<T> {
    /// The lcore it runs on.
    pub fn lcore(&self) -> u32 {
        self.lcore
    }

    /// Whether it has returned or panicked.
    pub fn is_finished(&self) -> bool {
        self.slot.lock().is_some()
    }

    /// Waits for it, asleep, and returns its result, or what it panicked with.
    pub fn join(self) -> Outcome<T> {
        let mut outcome = self.slot.lock();
        loop {
            if let Some(outcome) = outcome.take() {
                // EAL spins in this call, for the few instructions between the outcome and the
                // lcore's being idle again.
                // SAFETY: this is the main lcore's thread, as Running stays there.
                unsafe { dpdk_sys::rte_eal_wait_lcore(self.lcore) };
                return outcome;
            }
            outcome = self
                .slot
                .done
                .wait(outcome)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
