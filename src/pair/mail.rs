//! What the poll core and the control thread tell each other of a pair.

use crate::compare::Divergence;
use crate::flow::FlowKey;
use crate::frame::Ticks;
use crate::link::Piece;
use crate::link::secure::Notice;
use crate::protect::{Action, CessionNews, QemuEvent, Request};
use crate::rewrite::Offset;

/// What the control thread tells a poll core.
#[derive(Clone, Copy, Debug)]
pub enum ToPoll {
    /// The monitor said something.
    Monitor(QemuEvent),
    /// A fencing command has ended.
    Fenced {
        /// Its number.
        number: u32,
        /// The peer is certainly down.
        down: bool,
    },
    /// An offset that a node before this one had when it took over.
    Inherit(FlowKey, Offset),
    /// The peer's control thread has reported that its poll core does not run.
    PeerStalls,
    /// Frames that wait for their counterpart are overdue at this age from now on.
    Timeout(Ticks),
    /// An operator has announced that this node restarts.
    AnnounceRestart,
    /// The operator does not wait for the peer to receive that any more.
    WithdrawRestart,
    /// Tell the peer's control thread this.
    Note(Piece),
    /// Give up the lead for good, if the SVM could go on at this moment.
    Cede,
    /// The lead was given up, by this node or by one before it, and that is written down.
    CessionIsWritten,
    /// Take the lead back: the other node heard nothing, or its VM certainly sends nothing.
    TakeBack,
    /// See to it that the VM never leads, unless it is chosen already.
    Renounce,
    /// A node before this one has done so, and has written that down.
    RenunciationIsWritten,
    /// The other node has given up its VM for good, and has written that down.
    PeerRenounced,
    /// A node before this one led in this place.
    Led {
        /// Takeovers before it did.
        term: u32,
    },
}

/// What a poll core tells the control thread.
pub enum ToControl<F> {
    /// Write this request to the monitor.
    Request(Request),
    /// Write this divergence down, seen in this epoch.
    Record(Divergence<F>, u32),
    /// Do this about a peer that is lost.
    Act(Action),
    /// Ask the monitor whether the VM runs, unless its ring does: a question's number.
    Ask(u32),
    /// An offset that the node has inherited from itself as the secondary.
    Offset(FlowKey, Offset),
    /// That was all of them.
    OffsetsEnd {
        /// Takeovers before this node led.
        term: u32,
    },
    /// The peer has received the announcement of this node's restart.
    RestartAcknowledged,
    /// The peer's control thread has sent this.
    Note(Piece),
    /// How a lead that is given up stands.
    Cession(CessionNews),
    /// What an operator should hear of the link.
    Link(Notice),
}
