//! The way of an operator's order from the thread that serves the control socket to the control thread, and back.

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::Value;

use crate::control::{Fault, Order};

/// Orders that may wait for the control thread.
const WAITING: usize = 16;

/// What became of an order.
pub(crate) type Outcome = Result<Value, Fault>;

/// Where the outcome of an order goes. Nobody may be there any more.
pub(crate) type ReplyTo = Sender<Outcome>;

/// An order for one pair.
pub(crate) struct PostedOrder {
    /// The pair's place in the configuration.
    pub pair: usize,
    /// What.
    pub order: Order,
    /// For its outcome.
    pub reply: ReplyTo,
}

/// The two ends of the way of orders.
pub(crate) fn orders() -> (Sender<PostedOrder>, Receiver<PostedOrder>) {
    bounded(WAITING)
}

/// An order for the pair of this place, and where its outcome comes.
pub(crate) fn posted(pair: usize, order: Order) -> (PostedOrder, Receiver<Outcome>) {
    let (reply, outcome) = bounded(1);
    (PostedOrder { pair, order, reply }, outcome)
}
