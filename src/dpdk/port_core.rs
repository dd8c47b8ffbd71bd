//! What a port, its queues and its link watches share: the ethdev's id and state, and the errors of its steps.

use std::fmt;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dpdk_sys;
use super::eal::Shared;
use super::errno::Errno;

/// A step in a port's life that its driver can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of ethdev's functions")]
pub enum Step {
    Plug,
    ReadInfo,
    ReadMac,
    Configure,
    SetUpRxQueue,
    SetUpTxQueue,
    SetMtu,
    Start,
    Stop,
    Close,
    ReadStats,
    WatchLink,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plug => "plug in the device",
            Self::ReadInfo => "read what the device can do",
            Self::ReadMac => "read the MAC address",
            Self::Configure => "configure the device",
            Self::SetUpRxQueue => "set up a receive queue",
            Self::SetUpTxQueue => "set up a transmit queue",
            Self::SetMtu => "set the MTU",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Close => "close",
            Self::ReadStats => "read the statistics",
            Self::WatchLink => "watch the link",
        })
    }
}

/// Why a port cannot be had or does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// No ethdev has this name.
    #[error("no port {name}; EAL knows: {}", known.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// [`Port::by_name`](super::Port::by_name) gave it out before.
    #[error("port {name} is in use already")]
    Taken {
        /// The port.
        name: String,
    },
    /// More queues than the device has.
    #[error("port {name} has at most {rx} receive and {tx} transmit queues")]
    TooManyQueues {
        /// The port.
        name: String,
        /// Its limit for receiving.
        rx: u16,
        /// Its limit for sending.
        tx: u16,
    },
    /// Queues or link watches are still out, so the port may not stop or close.
    #[error("port {name} is still being polled or watched")]
    Busy {
        /// The port.
        name: String,
    },
    /// The port was started already, or is not started, or is closed.
    #[error("port {name}: cannot {step} in its state")]
    State {
        /// The port.
        name: String,
        /// What was asked.
        step: Step,
    },
    /// The driver refused.
    #[error("port {name}: cannot {step}: {errno}")]
    Driver {
        /// The port.
        name: String,
        /// What was asked.
        step: Step,
        /// The driver's answer.
        errno: Errno,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Stopped,
    Started,
    Closed,
}

/// What a port shares with its queues and monitors; it keeps EAL up.
pub(super) struct Core {
    id: u16,
    name: String,
    /// Held during every control operation, so that none meets a port that is being closed.
    state: Mutex<State>,
    _eal: Arc<Shared>,
}

impl Core {
    /// Of a port that is not started.
    pub(super) fn new(id: u16, name: String, eal: Arc<Shared>) -> Self {
        Self {
            id,
            name,
            state: Mutex::new(State::Stopped),
            _eal: eal,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self, step: Step, ret: i32) -> Result<i32, PortError> {
        Errno::check(ret).map_err(|errno| self.refused(step, errno))
    }

    pub(super) fn refused(&self, step: Step, errno: Errno) -> PortError {
        PortError::Driver {
            name: self.name.clone(),
            step,
            errno,
        }
    }

    pub(super) fn wrong_state(&self, step: Step) -> PortError {
        PortError::State {
            name: self.name.clone(),
            step,
        }
    }

    pub(super) fn busy(&self) -> PortError {
        PortError::Busy {
            name: self.name.clone(),
        }
    }

    pub(super) fn info(&self) -> Result<dpdk_sys::rte_eth_dev_info, PortError> {
        let mut info = MaybeUninit::zeroed();
        // SAFETY: EAL is up (Core keeps it), info is a structure to write to.
        let ret = unsafe { dpdk_sys::rte_eth_dev_info_get(self.id, info.as_mut_ptr()) };
        self.check(Step::ReadInfo, ret)?;
        // SAFETY: plain data, zeroed and then filled in.
        Ok(unsafe { info.assume_init() })
    }
}
