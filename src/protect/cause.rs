//! Why a node asks for a checkpoint.

use crate::compare::{REASONS, Reason};

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why a node asks for a checkpoint: a difference, or something that makes comparing impossible.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause {
            /// The comparator's reason.
            Difference(Reason),
            $($(#[$doc])* $name,)*
        }

        /// The causes that are no difference, for their numbers.
        enum Other { $($name,)* }

        const OTHERS: &[Cause] = &[$(Cause::$name,)*];

        impl Cause {
            /// Its number, less than [`CAUSES`].
            pub fn index(self) -> usize {
                match self {
                    Cause::Difference(reason) => reason as usize,
                    $(Cause::$name => REASONS + Other::$name as usize,)*
                }
            }

            /// The word that counters, records and the log use.
            pub fn word(self) -> &'static str {
                match self {
                    Cause::Difference(reason) => reason.word(),
                    $(Cause::$name => $word,)*
                }
            }
        }
    };
}

causes! {
    /// Input frames did not reach the SVM (rule R7).
    InputLost = "input_lost",
    /// Output frames of the SVM were lost on the link.
    OutputLost = "output_lost",
    /// The other node was started again.
    PeerRestarted = "peer_restarted",
    /// The link is silent, or the peer said that its VM is gone.
    LinkDown = "link_down",
    /// The guest's ring stopped and it was no checkpoint.
    GuestReset = "guest_reset",
    /// The monitor was lost while the guest was stopped, or COLO was already under way.
    MonitorLost = "monitor_lost",
    /// The VM stopped under COLO, and nothing proves that the SVM has loaded its state.
    Unproven = "unproven_stop",
}

/// Number of causes.
pub const CAUSES: usize = REASONS + OTHERS.len();

impl Cause {
    /// All causes, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Cause> {
        let differences = Reason::ALL.iter().copied().map(Cause::Difference);
        differences.chain(OTHERS.iter().copied())
    }

    /// Whether the governor may let it wait: what differs stays held. What makes comparing impossible, and a bound that
    /// is reached, cannot wait.
    pub(super) fn may_wait(self) -> bool {
        matches!(self, Cause::Difference(reason) if !is_bound(reason))
    }

    /// Whether the comparator counts it among its divergences: it does where two frames differ or
    /// one is missing, but knows nothing of full bounds and of other cores.
    pub fn is_counted_by_comparator(self) -> bool {
        matches!(self, Cause::Difference(reason) if !is_bound(reason))
    }
}

/// Whether it is no difference of frames, but a full bound or another core's.
fn is_bound(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::HoldFull | Reason::SecondaryOverflow | Reason::WorkerStalled
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_are_numbered_in_their_order() {
        let numbers = Cause::all().map(Cause::index);
        assert!(numbers.eq(0..CAUSES));
    }
}
