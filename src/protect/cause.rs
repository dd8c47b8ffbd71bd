//! Why a node asks for a checkpoint.

use crate::compare::{REASONS, Reason};

/// Why a node asks for a checkpoint: a difference, or something that makes comparing impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The comparator's reason.
    Difference(Reason),
    /// Input frames did not reach the SVM (rule R7).
    InputLost,
    /// Output frames of the SVM were lost on the link.
    OutputLost,
    /// The other node was started again.
    PeerRestarted,
    /// The link is silent, or the peer said that its VM is gone.
    LinkDown,
    /// The guest's ring stopped and it was no checkpoint.
    GuestReset,
    /// The monitor was lost while the guest was stopped, or COLO was already under way.
    MonitorLost,
    /// The VM stopped under COLO, and nothing proves that the SVM has loaded its state.
    Unproven,
}

/// Number of causes.
pub const CAUSES: usize = REASONS + 7;

impl Cause {
    /// All causes, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Cause> {
        Reason::ALL.iter().copied().map(Cause::Difference).chain([
            Cause::InputLost,
            Cause::OutputLost,
            Cause::PeerRestarted,
            Cause::LinkDown,
            Cause::GuestReset,
            Cause::MonitorLost,
            Cause::Unproven,
        ])
    }

    /// Its number, less than [`CAUSES`].
    pub fn index(self) -> usize {
        match self {
            Cause::Difference(reason) => reason as usize,
            Cause::InputLost => REASONS,
            Cause::OutputLost => REASONS + 1,
            Cause::PeerRestarted => REASONS + 2,
            Cause::LinkDown => REASONS + 3,
            Cause::GuestReset => REASONS + 4,
            Cause::MonitorLost => REASONS + 5,
            Cause::Unproven => REASONS + 6,
        }
    }

    /// Whether the comparator counts it among its divergences: it does where two frames differ or
    /// one is missing, but knows nothing of full bounds and of other cores.
    pub fn is_counted_by_comparator(self) -> bool {
        match self {
            Cause::Difference(reason) => !matches!(
                reason,
                Reason::HoldFull | Reason::SecondaryOverflow | Reason::WorkerStalled
            ),
            _ => false,
        }
    }

    /// The word that counters, records and the log use.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Difference(reason) => reason.word(),
            Cause::InputLost => "input_lost",
            Cause::OutputLost => "output_lost",
            Cause::PeerRestarted => "peer_restarted",
            Cause::LinkDown => "link_down",
            Cause::GuestReset => "guest_reset",
            Cause::MonitorLost => "monitor_lost",
            Cause::Unproven => "unproven_stop",
        }
    }
}
