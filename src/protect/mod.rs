//! The state machines of a protected VM pair: epochs, fences, commits, requests.
//!
//! [`Primary`] and [`Secondary`] are the two nodes' halves, [`Bare`] the comparator for traffic that
//! somebody else mirrors. Frames, link frames, monitor events and time go in; frames to send,
//! checkpoint requests and divergences come out. The rules of the design's section 4 that concern
//! more than one frame are kept here: R3 and R6 to R9.

mod bare;
mod cause;
mod primary;
mod request;
mod secondary;
#[cfg(test)]
mod tests;

pub use bare::Bare;
pub use cause::{CAUSES, Cause};
pub use primary::Primary;
pub use request::{Checkpoints, Request};
pub use secondary::{Outgoing, Secondary};

use crate::compare::{Limits, Numbers, Policy};
use crate::frame::Ticks;
use crate::link;

/// What a QEMU monitor tells a node, in the order in which QEMU said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitor {
    /// The monitor answers; what it said before is lost.
    Connected {
        /// Migration state is `colo`.
        colo: bool,
        /// The VM runs.
        running: bool,
    },
    /// The monitor is gone.
    Disconnected,
    /// STOP: the VM stopped, after its rings did.
    Stop,
    /// MIGRATION_PASS: the stop is a checkpoint's.
    Pass,
    /// RESUME: the VM runs again, before its rings do.
    Resume,
    /// MIGRATION: whether the state is `colo` now.
    Migration {
        /// The state is `colo`.
        colo: bool,
    },
    /// COLO_EXIT.
    ColoExit,
    /// The state some time after the guest's ring was found to run and the monitor to answer, which
    /// a node asks for whenever both have come true; every event that came before has been told.
    Barrier {
        /// Stops of the ring when the question was asked.
        stops: u32,
        /// Migration state is `colo`.
        colo: bool,
        /// The VM runs.
        running: bool,
    },
}

/// What protects whom: the word for a node's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No COLO: the primary forwards, holds and mirrors nothing; the secondary's VM does not run.
    Solo,
    /// The nodes hear each other; COLO has not begun.
    Pairing,
    /// Output is compared.
    Protected,
    /// The guest is stopped and what the stop means is not known yet.
    Checkpointing,
    /// Everything is held until the next commit.
    Uncertain,
    /// COLO ended with an error and nobody has said who goes on.
    PeerLost,
}

impl State {
    /// All states, in the order of their numbers.
    pub const ALL: [State; 6] = [
        State::Solo,
        State::Pairing,
        State::Protected,
        State::Checkpointing,
        State::Uncertain,
        State::PeerLost,
    ];

    /// The word that the statistics use.
    pub fn word(self) -> &'static str {
        match self {
            State::Solo => "solo",
            State::Pairing => "pairing",
            State::Protected => "protected",
            State::Checkpointing => "checkpointing",
            State::Uncertain => "uncertain",
            State::PeerLost => "peer_lost",
        }
    }
}

/// Everything that one VM pair's node needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Number of the VM pair on the link.
    pub vm: u16,
    /// Grows from one start of the node to the next; not 0.
    pub boot: u32,
    /// Address of the link port.
    pub link_mac: [u8; 6],
    /// Input frames that may wait for the SVM.
    pub window: u32,
    /// The link's times.
    pub link: link::Timing,
    /// The comparator's bounds.
    pub limits: Limits,
    /// How the SVM's numbers come.
    pub numbers: Numbers,
    /// Output that leaves uncompared.
    pub policy: Policy,
    /// A request that no STOP follows is repeated after this.
    pub repeat: Ticks,
    /// Connections that the rewriter knows at a time.
    pub connections: usize,
}
