//! One VM pair's flows spread over several cores.
//!
//! The core that polls the ports holds the [`Front`], which takes the comparator's place there: it
//! compares the flows of its own [`Shares`] and passes the other frames on to [`Worker`]s, each a
//! comparator on a core of its own. Without workers the front is the comparator, and no ring is there.
//!
//! What happened goes through one ring of messages, strictly in order: so many frames, the time, and the
//! fences, commits and discards between them. The frames lie in rings of their own, and a message
//! counts them. So no worker compares a frame in another epoch than the front took it in (rules R1 to
//! R3), and the frames of a flow, which always go to the same worker, keep their order. A ring that is
//! full pushes back on the ports (rule R8).
//!
//! | ring | carries |
//! | --- | --- |
//! | P and S, front → worker, one for each VM | the frames |
//! | messages, front → worker | what the worker is to do, in the order in which it happened |
//! | releases, worker → front | P that may leave |
//! | reports, worker → front | the ISNs that releases depend on, divergences, what became of a discard |
//!
//! Nothing here knows a thread: whoever owns a worker calls [`Worker::poll`], and tests let workers
//! run in any turn.

#![warn(unreachable_pub)]

mod control;
mod front;
mod gauge;
mod lane;
mod remote;
mod ring;
mod shares;
mod sorter;
#[cfg(test)]
mod tests;
mod worker;

pub use front::Front;
pub use ring::{FrontEnd, Sizes, WorkerEnd, ends};
pub use shares::{ENTRIES, Shares};
pub use worker::Worker;
