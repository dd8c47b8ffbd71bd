//! The signals that do not end the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::flag;

/// The signals that the process has got.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// SIGINT or SIGTERM: to end.
    pub stop: Arc<AtomicBool>,
    /// SIGHUP, which a terminal sends that closes, and a log's rotation.
    pub hangup: Arc<AtomicBool>,
    /// SIGUSR1: to announce to the peer that this node restarts.
    pub restart: Arc<AtomicBool>,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn catch() -> io::Result<Self> {
        let signals = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // A second signal ends the process at once, should the first not.
            flag::register_conditional_default(signal, Arc::clone(&signals.stop))?;
            flag::register(signal, Arc::clone(&signals.stop))?;
        }
        flag::register(SIGHUP, Arc::clone(&signals.hangup))?;
        flag::register(SIGUSR1, Arc::clone(&signals.restart))?;
        // The write to a file at its limit then fails, as it does on a full disk.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(signals)
    }
}
