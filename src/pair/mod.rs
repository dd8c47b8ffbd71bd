//! The order of a pair's round: when the fence is passed, the mailbox read, frames received, compared, mirrored and
//! sent.
//!
//! The state machines of [`crate::protect`] decide about one frame or one event; a driver calls them in the one order
//! in which rules R3, R6 and R7 hold. It reaches ports, the control thread and the capture through [`Ports`]: the
//! daemon implements that with DPDK, the simulation with queues, and both run the same round. A driver knows no DPDK,
//! no clock and no thread, and allocates nothing after it was made.
//!
//! In: frames, mail and time. Out: frames, messages for the control thread, notes for a capture. A takeover turns
//! [`SecondaryDriver`] into [`PrimaryDriver`] and moves one `PairState`; the ports stay where they are.

mod driver;
mod link_out;
mod mail;
mod output;
mod ports;
mod primary;
mod secondary;
mod standalone;
mod standby;
mod state;
#[cfg(test)]
mod tests;
pub mod untimed;
mod view;

pub use driver::PairDriver;
pub use mail::{ToControl, ToPoll};
pub use ports::{Burst, FrameOf, Host, Inputs, Port, Ports};
pub use primary::PrimaryDriver;
pub use secondary::SecondaryDriver;
pub use standalone::StandaloneDriver;
pub use state::{Counts, Times};
pub use view::View;
