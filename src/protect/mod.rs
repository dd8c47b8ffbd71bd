//! The state machines of a protected VM pair: epochs, fences, commits, requests.
//!
//! [`Primary`] and [`Secondary`] are the two nodes' halves, [`Standalone`] the comparator for traffic that
//! somebody else mirrors. Frames, link frames, monitor events and time go in; frames to send,
//! checkpoint requests and divergences come out. The rules that concern more than one frame are kept
//! here: R3 and R6 to R9 of `docs/rules.md`.

mod address;
mod announce;
mod cause;
mod cession;
mod comparison;
mod coverage;
mod epoch_notice;
mod epochs;
mod groups;
mod handshake_gate;
mod input_mirror;
mod input_queue;
mod leadership;
mod load_reporter;
mod load_reports;
mod neighbour;
mod output_commit;
mod peer;
mod peer_link;
mod primary;
mod qemu;
mod renunciation;
mod request;
mod restart;
mod retransmit_cache;
mod secondary;
mod standalone;
mod stop;
mod svm_epoch;
mod svm_ring;
mod svm_traffic;
mod takeover;
#[cfg(test)]
mod tests;
mod unreachable;

pub use address::Announcement;
pub use cause::{CAUSES, Cause};
pub use cession::CessionNews;
pub use comparison::Comparison;
pub use epochs::Epochs;
pub use load_reports::Reports;
pub use peer::{Action, Failover, OnPeerLost};
pub(crate) use peer_link::PeerLink;
pub use primary::Primary;
pub use qemu::{Migration, QemuEvent};
pub use request::{Checkpoints, Request, UNLUCKY};
pub use retransmit_cache::{AWAITED, CachedSegment};
pub use secondary::{Outgoing, Secondary};
pub use standalone::Standalone;
pub use svm_traffic::Last;
pub use takeover::HandoverState;
pub use unreachable::Unreachable;

use crate::compare::{Limits, Numbers, Policy};
use crate::frame::Ticks;
use crate::link;

/// Protection state of a node, as reported in statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The primary, or a secondary that has taken over, forwards, holds and mirrors nothing; any
    /// other secondary's VM does not run.
    Solo,
    /// The nodes hear each other; COLO has not begun.
    Pairing,
    /// Output is compared.
    Protected,
    /// The guest is stopped and what the stop means is not known yet.
    Checkpointing,
    /// Everything is held until the next commit.
    Uncertain,
    /// The link is silent or COLO has ended, and it is not certain who goes on.
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
    /// Whether the link's frames come through a guard that lets only the peer's pass; see
    /// [`Endpoint::behind_guard`](crate::link::Endpoint::behind_guard).
    pub sealed: bool,
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
    /// The PVM's ring waits so long for the secondary's report of a load.
    pub evidence: Ticks,
    /// Connections that the rewriter knows at a time.
    pub connections: usize,
    /// What happens when the peer is lost.
    pub failover: Failover,
    /// Buffers of the SVM's output that the secondary may keep to send once more at a takeover.
    pub last_segments: usize,
    /// Ticks of a millisecond.
    pub millisecond: Ticks,
}
