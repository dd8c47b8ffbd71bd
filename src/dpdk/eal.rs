//! EAL, DPDK's environment: cores, memory, devices; started once in a process.
//!
//! [`Eal`] is the proof that it runs, and everything that needs it takes a reference. Ports and
//! pools keep a share of it, so it is cleaned up only when nothing can reach it any more.

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::dpdk_sys;
use super::errno::Errno;
use super::start::{self, Failure};

/// Why EAL did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// EAL can be started once in the life of a process, even if it failed or was cleaned up.
    #[error("EAL has been started in this process before")]
    StartedBefore,
    /// Without a program name there is no first argument.
    #[error("no argument at all, not even the name of the program")]
    NoProgramName,
    /// A command line cannot carry this byte.
    #[error("EAL option {index} has a zero byte")]
    ZeroByte {
        /// Index in the command line; 0 is the program.
        index: usize,
    },
    /// EAL skips words that are no options; here they are a mistake.
    #[error(
        "{count} unexpected non-option arguments among the EAL options; the program's own options belong \
         behind `--`"
    )]
    StrayWords {
        /// How many.
        count: usize,
    },
    /// `rte_eal_init` failed.
    #[error("EAL did not start: {0}")]
    Start(Failure),
}

impl EalError {
    /// Whether the command line is to blame.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::StartedBefore => false,
            Self::NoProgramName | Self::ZeroByte { .. } | Self::StrayWords { .. } => true,
            Self::Start(failure) => failure.is_contradiction(),
        }
    }
}

/// The running EAL. It stays on the thread that started it, the main lcore.
///
/// Dropping it cleans EAL up unless a port, a pool or an mbuf is still in use; then memory is
/// left to the end of the process.
pub struct Eal {
    shared: Arc<Shared>,
    complaints: String,
    /// Launching on lcores and cleaning up are reserved to the main lcore's thread.
    _main_thread: PhantomData<*const ()>,
}

/// What ports and pools hold on to.
pub(super) struct Shared {
    pools: Mutex<Vec<Pool>>,
}

struct Pool(NonNull<dpdk_sys::rte_mempool>);

// SAFETY: mempools are shared between threads by design, and none is freed before EAL's cleanup.
unsafe impl Send for Pool {}

/// Splits a command line at the first `--`: EAL's half with the program name, and the rest
/// without the `--`.
fn split_arguments(arguments: &[String]) -> (&[String], &[String]) {
    match arguments.iter().position(|a| a == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[]),
    }
}

impl Eal {
    /// Starts EAL with a whole command line: the program name, EAL's options, and perhaps `--`
    /// and the program's own options, which EAL only shows in telemetry (`/eal/app_params`).
    ///
    /// The calling thread becomes the main lcore and is pinned. `-h` prints EAL's help and exits.
    pub fn init(arguments: &[String]) -> Result<Self, EalError> {
        static STARTED: AtomicBool = AtomicBool::new(false);

        let eal_words = split_arguments(arguments).0.len();
        if eal_words == 0 {
            return Err(EalError::NoProgramName);
        }
        let mut argv: Vec<*mut c_char> = Vec::with_capacity(arguments.len() + 1);
        for (index, argument) in arguments.iter().enumerate() {
            let argument =
                CString::new(argument.as_str()).map_err(|_| EalError::ZeroByte { index })?;
            // EAL keeps pointers into its arguments; they live as long as the process.
            argv.push(argument.into_raw());
        }
        argv.push(std::ptr::null_mut());
        let argc = argv.len() - 1;
        let argv = argv.leak();

        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(EalError::StartedBefore);
        }
        // SAFETY: called once, before EAL has a thread that could log.
        unsafe { dpdk_sys::shim_log_listen() };
        // SAFETY: argv holds argc writable, leaked, zero-terminated strings and a final null; the
        // flag above keeps this to one call in a process.
        let consumed = unsafe { dpdk_sys::rte_eal_init(argc as c_int, argv.as_mut_ptr()) };
        let errno = Errno::last();
        let said = said();
        if consumed < 0 {
            return Err(EalError::Start(Failure::new(
                errno,
                said,
                split_arguments(arguments).0,
            )));
        }
        // The words before the program's own, the program name left out and `--` counted in.
        let expected = if argc > eal_words {
            eal_words
        } else {
            eal_words - 1
        };
        let count = expected.saturating_sub(consumed as usize);
        let eal = Eal {
            shared: Arc::new(Shared {
                pools: Mutex::new(Vec::new()),
            }),
            complaints: start::in_one_line(&said),
            _main_thread: PhantomData,
        };
        if count > 0 {
            return Err(EalError::StrayWords { count });
        }
        Ok(eal)
    }

    /// What EAL complained of while it started, such as a device that it could not make; in one line.
    pub fn complaints(&self) -> &str {
        &self.complaints
    }

    /// The main lcore, on which this thread runs.
    pub fn main_lcore(&self) -> u32 {
        // SAFETY: EAL is initialised.
        unsafe { dpdk_sys::rte_get_main_lcore() }
    }

    /// The lcores that [`super::lcore::launch`] takes, in ascending order; the main one is none.
    pub fn worker_lcores(&self) -> Vec<u32> {
        let main = self.main_lcore();
        (0..dpdk_sys::RTE_MAX_LCORE)
            // SAFETY: EAL is initialised; any lcore id may be asked about.
            .filter(|&id| id != main && unsafe { dpdk_sys::rte_lcore_is_enabled(id) } != 0)
            .collect()
    }

    /// The CPUs an lcore may run on: one with `-l`, perhaps several with `--lcores`. Empty for an
    /// id that is no lcore. Control threads stay off the CPUs of the workers.
    pub fn cpus_of(&self, lcore: u32) -> Vec<usize> {
        if lcore >= dpdk_sys::RTE_MAX_LCORE
            // SAFETY: EAL is initialised.
            || unsafe { dpdk_sys::rte_lcore_is_enabled(lcore) } == 0
        {
            return Vec::new();
        }
        (0..dpdk_sys::SHIM_CPU_SETSIZE)
            // SAFETY: EAL is initialised; the lcore is below RTE_MAX_LCORE, the CPU within a
            // cpu_set_t.
            .filter(|&cpu| unsafe { dpdk_sys::shim_lcore_runs_on(lcore, cpu) } != 0)
            .map(|cpu| cpu as usize)
            .collect()
    }

    /// Whether memory comes from hugepages, and so can grow; with `--no-huge` it is what `-m`
    /// said, 64 MB by default.
    pub fn has_hugepages(&self) -> bool {
        // SAFETY: EAL is initialised.
        unsafe { dpdk_sys::rte_eal_has_hugepages() != 0 }
    }

    /// The directory of this process's files, by its `--file-prefix`; on a file system that a
    /// restart of the host empties.
    pub fn runtime_dir(&self) -> PathBuf {
        // SAFETY: EAL is initialised; it returns a zero-terminated string that it never changes.
        let dir = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
        PathBuf::from(OsStr::from_bytes(dir.to_bytes()))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
}

/// Ends the memory of EAL's error messages, and gives them out.
fn said() -> String {
    let mut text = [0 as c_char; dpdk_sys::SHIM_LOG_SAID as usize];
    // SAFETY: the text has the length that the shim wants.
    unsafe { dpdk_sys::shim_log_said(text.as_mut_ptr()) };
    // SAFETY: the shim has terminated it.
    let said = unsafe { CStr::from_ptr(text.as_ptr()) };
    said.to_string_lossy().into_owned()
}

impl Shared {
    /// Makes cleanup depend on the pool: mbufs that live keep EAL's memory.
    pub(super) fn watch_pool(&self, pool: NonNull<dpdk_sys::rte_mempool>) {
        self.pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Pool(pool));
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // Ports and pool handles each hold a share.
        if Arc::strong_count(&self.shared) > 1 {
            return;
        }
        let pools = self
            .shared
            .pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // SAFETY: pools are never freed, so every pointer in the list is valid until the cleanup.
        let mbufs_live = pools
            .iter()
            .any(|p| unsafe { dpdk_sys::rte_mempool_in_use_count(p.0.as_ptr()) } > 0);
        if !mbufs_live {
            // SAFETY: EAL is initialised, and no port, pool or mbuf is left that could be used
            // afterwards. This is the thread that called rte_eal_init, as Eal is not Send.
            unsafe { dpdk_sys::rte_eal_cleanup() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_first_double_dash_ends_eals_half() {
        let line = words("dpdk-colo -l 0 -- --role compare -- x");
        let (eal, own) = split_arguments(&line);
        assert_eq!(eal, words("dpdk-colo -l 0"));
        assert_eq!(own, words("--role compare -- x"));
    }

    #[test]
    fn without_a_double_dash_all_belongs_to_eal() {
        let line = words("dpdk-colo -l 0");
        assert_eq!(split_arguments(&line), (&line[..], &[][..]));
    }
}
