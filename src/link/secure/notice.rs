//! What an operator hears of the link's session and of strangers, seldom enough.

use super::super::Timing;
use crate::frame::Ticks;

/// Why a frame is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It bears no seal, and this node has a key.
    Unsealed,
    /// It bears a seal, and this node has no key.
    Sealed,
    /// It is of this version of the link.
    Version(u8),
    /// Its sender has another key.
    OtherKey,
    /// Its tag is wrong.
    Forged,
    /// It has counted already, or is of another session.
    Stale,
    /// This node has sent it itself.
    Reflected,
    /// Its sender has the key, but this node's session is with another one, which is alive.
    Second,
    /// Its sender has the key and was started as a primary like this node.
    SameRole,
}

/// Kinds of faults.
const FAULTS: usize = 9;
/// The pause between two notices of one kind, in times of the peer's silence.
const PAUSE: Ticks = 2;

impl Fault {
    fn slot(self) -> usize {
        match self {
            Self::Unsealed => 0,
            Self::Sealed => 1,
            Self::Version(_) => 2,
            Self::OtherKey => 3,
            Self::Forged => 4,
            Self::Stale => 5,
            Self::Reflected => 6,
            Self::Second => 7,
            Self::SameRole => 8,
        }
    }
}

/// A notice for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A session began with the node at this address.
    Session {
        /// Its address.
        peer: [u8; 6],
    },
    /// Frames were void.
    Void {
        /// Why.
        fault: Fault,
        /// The source address of the last of them, which anybody can choose.
        source: [u8; 6],
        /// How many since the last notice of this kind.
        frames: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Untold {
    fault: Fault,
    source: [u8; 6],
    frames: u64,
}

/// Notices that wait.
#[derive(Clone, Debug)]
pub(super) struct Notices {
    session: Option<[u8; 6]>,
    untold: [Option<Untold>; FAULTS],
    next_at: [Ticks; FAULTS],
    pause: Ticks,
}

impl Notices {
    pub(crate) fn new(timing: &Timing) -> Self {
        Self {
            session: None,
            untold: [None; FAULTS],
            next_at: [0; FAULTS],
            pause: timing.silence.saturating_mul(PAUSE),
        }
    }

    pub(crate) fn begin(&mut self, peer: [u8; 6]) {
        self.session = Some(peer);
    }

    pub(crate) fn add(&mut self, fault: Fault, source: [u8; 6]) {
        let untold = &mut self.untold[fault.slot()];
        let frames = untold.map_or(0, |untold| untold.frames) + 1;
        *untold = Some(Untold {
            fault,
            source,
            frames,
        });
    }

    /// The next of them.
    pub(crate) fn next(&mut self, now: Ticks) -> Option<Notice> {
        if let Some(peer) = self.session.take() {
            return Some(Notice::Session { peer });
        }
        let due = (0..FAULTS).find(|&n| self.untold[n].is_some() && now >= self.next_at[n])?;
        self.next_at[due] = now.saturating_add(self.pause);
        let Untold {
            fault,
            source,
            frames,
        } = self.untold[due].take()?;
        Some(Notice::Void {
            fault,
            source,
            frames,
        })
    }
}
