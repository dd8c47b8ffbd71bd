//! The way of an operator's order from the thread that serves the control socket to the control thread, and back.
//!
//! An order is not begun any more once its giver has the reply that its time is over: exactly one of the two threads
//! takes it, the one to carry it out or the other to withdraw it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::Value;

use crate::control::{Fault, Giver, Order};

/// Orders that may wait for the control thread.
const WAITING: usize = 16;

/// What became of an order.
pub(crate) type Outcome = Result<Value, Fault>;

/// Where the outcome of an order goes. Nobody may be there any more.
pub(crate) type ReplyTo = Sender<Outcome>;

/// The right to decide what becomes of an order, which one thread takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Takes it; false where the other thread has taken it.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// An order for one pair.
pub(crate) struct PostedOrder {
    /// The pair's place in the configuration.
    pub pair: usize,
    /// What.
    pub order: Order,
    /// Who gave it.
    pub by: Giver,
    /// For its outcome.
    pub reply: ReplyTo,
    /// To be taken before it is begun.
    pub claim: Claim,
}

/// What the giver of an order keeps of it.
pub(super) struct Posted {
    /// Where its outcome comes.
    pub outcome: Receiver<Outcome>,
    /// To be taken before it is withdrawn.
    pub claim: Claim,
}

/// The two ends of the way of orders.
pub(crate) fn orders() -> (Sender<PostedOrder>, Receiver<PostedOrder>) {
    bounded(WAITING)
}

/// An order for the pair of this place, and what its giver keeps.
pub(super) fn posted(pair: usize, order: Order, by: Giver) -> (PostedOrder, Posted) {
    let (reply, outcome) = bounded(1);
    let claim = Claim::default();
    let posted = Posted {
        outcome,
        claim: claim.clone(),
    };
    let order = PostedOrder {
        pair,
        order,
        by,
        reply,
        claim,
    };
    (order, posted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_begun_or_withdrawn_and_never_both() {
        let by = Giver { uid: 0, pid: 1 };
        let (order, posted) = posted(0, Order::Checkpoint, by);
        assert!(posted.claim.take());
        assert!(!order.claim.take() && !posted.claim.take());
    }
}
