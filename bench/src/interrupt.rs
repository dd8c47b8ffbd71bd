//! SIGINT, SIGTERM and SIGHUP as a flag that every wait and every measurement's turn looks at.
//!
//! No wait is ended by force: it returns [`BenchError::Interrupted`], and the values on the stack remove programs and
//! folders when they are dropped. Programs that were started have process groups of their
//! own, so that the terminal's Ctrl-C reaches this one alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::BenchError;

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Catches the signals from now on.
///
/// # Errors
/// The system's refusal to install a handler.
pub fn catch() -> Result<(), BenchError> {
    let flag = FLAG.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).map_err(BenchError::Signals)?;
    }
    Ok(())
}

/// Whether to go on.
///
/// # Errors
/// [`BenchError::Interrupted`] once a signal came, no other.
pub fn check() -> Result<(), BenchError> {
    match FLAG.get() {
        Some(flag) if flag.load(Ordering::Relaxed) => Err(BenchError::Interrupted),
        _ => Ok(()),
    }
}
