//! SIGINT and SIGTERM as a flag that every wait of the lab looks at.
//!
//! A signal ends no wait by force: the waiting code returns [`LabError::Interrupted`] and the guards
//! on its stack put everything away in order. Children live in process groups of their own, so that
//! the terminal's Ctrl-C reaches the lab alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::LabError;

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The longest time that any wait goes without looking at the flag.
pub const STEP: Duration = Duration::from_millis(100);

/// Catches the signals from now on; to be called once, first thing.
///
/// # Errors
/// The system's refusal to install a handler.
pub fn catch() -> std::io::Result<()> {
    let flag = Arc::clone(FLAG.get_or_init(Arc::default));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(())
}

/// True once a signal came.
pub fn came() -> bool {
    FLAG.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// `Err(Interrupted)` once a signal came.
///
/// # Errors
/// [`LabError::Interrupted`], no other.
pub fn check() -> Result<(), LabError> {
    if came() {
        Err(LabError::Interrupted)
    } else {
        Ok(())
    }
}

/// Sleeps for `time`, or until a signal comes.
///
/// # Errors
/// [`LabError::Interrupted`], no other.
pub fn sleep(time: Duration) -> Result<(), LabError> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(STEP));
    }
}

/// Calls `ready` every 50 ms until it yields a value.
///
/// # Errors
/// [`LabError::Late`] after `limit`, naming `what`; [`LabError::Interrupted`]; whatever `ready` fails with.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    let end = Instant::now() + limit;
    loop {
        check()?;
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if Instant::now() > end {
            return Err(LabError::Late {
                what: what.to_owned(),
                seconds: limit.as_secs(),
                tail: String::new(),
            });
        }
        thread::sleep(Duration::from_millis(50));
    }
}
