//! Which pairs get a frame of a port that several pairs share.
//!
//! In: a frame's first bytes, and which pairs lead. Out: the pairs that get the frame, and whether it leaves for the
//! network. [`UplinkSwitch`] decides by address and VLAN (rule R6: only a VM that leads is reached or heard),
//! [`LinkSwitch`] by the VM's id. Neither knows a port, and neither allocates after it was made.

mod addresses;
mod link;
mod members;
mod table;
mod uplink;

pub use addresses::{Mac, MacError};
pub use link::LinkSwitch;
pub use members::{MEMBERS, Members};
pub use uplink::{ADDRESSES, Crossing, Standing, UplinkSwitch};
