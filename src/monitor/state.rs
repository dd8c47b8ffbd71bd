//! The state of a node as a word in a counter and as a word for people.

use std::fmt;

/// The state of a node in its VM pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum NodeState {
    /// No COLO: forwards, holds and mirrors nothing.
    #[default]
    Solo = 0,
    /// COLO is being set up; nothing is compared yet.
    Pairing = 1,
    /// Output is held and compared.
    Protected = 2,
    /// A checkpoint is under way.
    Checkpointing = 3,
    /// The peer is gone and this node waits for the decision who goes on.
    PeerLost = 4,
}

impl NodeState {
    const ALL: [Self; 5] = [
        Self::Solo,
        Self::Pairing,
        Self::Protected,
        Self::Checkpointing,
        Self::PeerLost,
    ];

    /// The value of the counter.
    pub fn code(self) -> u64 {
        self as u64
    }

    /// The state of a code that [`NodeState::code`] gave.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// The word in the summary.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Solo => "solo",
            Self::Pairing => "pairing",
            Self::Protected => "protected",
            Self::Checkpointing => "checkpointing",
            Self::PeerLost => "peer-lost",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_their_states() {
        for (code, state) in NodeState::ALL.into_iter().enumerate() {
            assert_eq!(NodeState::from_code(code as u64), Some(state));
        }
        assert_eq!(NodeState::from_code(5), None);
    }
}
