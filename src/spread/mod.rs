//! Steers one VM pair's flows to several cores.
//!
//! The core that polls the ports owns the [`Dispatcher`], which has the comparator's methods. It compares the flows
//! that the [`RedirectionTable`] gives to this core, and passes the other frames to [`Worker`]s. Each worker is a
//! comparator on a core of its own. Without workers the dispatcher is the comparator, and there are no rings.
//!
//! One ring of messages per worker keeps the order of events. A message gives the number of frames and their time, or
//! a fence, a commit or a discard. The frames lie in rings of their own. So a worker compares each frame in the epoch
//! in which the dispatcher took it in (rules R1 to R3). All frames of a flow go to one worker and keep their order. A
//! full ring stops the polling of the ports (rule R8).
//!
//! | ring | carries |
//! | --- | --- |
//! | P and S, dispatcher → worker, one for each VM | the frames |
//! | messages, dispatcher → worker | the worker's orders, in the order of the events |
//! | releases, worker → dispatcher | P that may leave |
//! | reports, worker → dispatcher | the ISNs that releases depend on, divergences, the results of a discard |
//!
//! The module has no threads. The owner of a worker calls [`Worker::poll`], and tests poll workers in any order.

#![warn(unreachable_pub)]

mod classifier;
mod control;
mod dispatcher;
mod frame_queue;
mod redirection;
mod ring;
#[cfg(test)]
mod tests;
mod worker;
mod worker_handle;
mod worker_status;

pub use dispatcher::Dispatcher;
pub use redirection::{ENTRIES, RedirectionTable};
pub use ring::{DispatcherEnd, RingSizes, WorkerEnd, rings};
pub use worker::Worker;
