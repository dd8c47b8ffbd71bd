//! What the two nodes' control threads tell each other: JSON over the link.

use serde::{Deserialize, Serialize};

use super::Failure;

/// Characters of a reason at most, so that a message has room on the link.
const REASON: usize = 1000;

/// A word between the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Message {
    /// Primary: make the QEMU ready for the state of a VM on this one.
    Prepare {
        /// Which attempt it is.
        attempt: u32,
        /// Release of the primary's QEMU.
        qemu: [u32; 3],
        /// Its disks that are to be replicated, by their names.
        disks: Vec<String>,
    },
    /// Primary: it still works at it.
    Works {
        /// Which attempt.
        attempt: u32,
    },
    /// Secondary: QEMU waits for the state.
    Ready {
        /// Which attempt.
        attempt: u32,
        /// Where: a URI for `migrate`.
        uri: String,
        /// Where its disks are served, `HOST` and `PORT`, if there are any.
        nbd: Option<(String, String)>,
    },
    /// Secondary: it cannot, and nothing is changed.
    Refused {
        /// Which attempt.
        attempt: u32,
        /// Why, and what to do.
        why: String,
    },
    /// Secondary: its state is protected.
    Protected {
        /// Which attempt.
        attempt: u32,
    },
    /// Primary: could the VM lead, if this one fell silent now?
    MayLead {
        /// Which attempt.
        attempt: u32,
    },
    /// Secondary: it could, and will.
    WillLead {
        /// Which attempt.
        attempt: u32,
    },
    /// Primary: give up the VM for good; this one goes on alone then.
    Renounce {
        /// Which attempt.
        attempt: u32,
    },
    /// Secondary: it is given up, and that is written down.
    Renounced {
        /// Which attempt.
        attempt: u32,
    },
    /// Primary: its VM goes on alone.
    GoesOnAlone {
        /// Which attempt.
        attempt: u32,
    },
    /// Secondary: its QEMU has ended.
    Ended {
        /// Which attempt.
        attempt: u32,
    },
    /// Primary: it has given up.
    Abandon {
        /// Which attempt.
        attempt: u32,
        /// Why.
        why: String,
    },
}

impl Message {
    /// Which attempt it is of.
    pub fn attempt(&self) -> u32 {
        match *self {
            Self::Prepare { attempt, .. }
            | Self::Works { attempt }
            | Self::Ready { attempt, .. }
            | Self::Refused { attempt, .. }
            | Self::Protected { attempt }
            | Self::MayLead { attempt }
            | Self::WillLead { attempt }
            | Self::Renounce { attempt }
            | Self::Renounced { attempt }
            | Self::GoesOnAlone { attempt }
            | Self::Ended { attempt }
            | Self::Abandon { attempt, .. } => attempt,
        }
    }

    /// The secondary's refusal.
    pub fn refused(attempt: u32, why: &Failure) -> Self {
        let why = shortened(why);
        Self::Refused { attempt, why }
    }

    pub(super) fn abandon(attempt: u32, why: &Failure) -> Self {
        let why = shortened(why);
        Self::Abandon { attempt, why }
    }

    /// What a secondary's node whose attempt `done` has ended well answers: the primary that still works at it has
    /// missed that.
    pub fn answered_by(&self, done: Option<u32>) -> Option<Self> {
        match *self {
            Self::Works { attempt } if done == Some(attempt) => Some(Self::Protected { attempt }),
            _ => None,
        }
    }

    /// As it goes over the link.
    pub fn to_text(&self) -> Vec<u8> {
        // A struct of plain fields is always JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What came over the link, if it is one.
    pub fn of_text(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

fn shortened(why: &Failure) -> String {
    why.to_string().chars().take(REASON).collect()
}
