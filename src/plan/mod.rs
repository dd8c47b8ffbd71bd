//! What ports and pools are to be, worked out before any is opened.
//!
//! [`device`] says what frames a port can carry and whether a node would miss some of them, [`driver`] what
//! is known of a driver by its name;
//! [`memory`] divides EAL's memory among the pools of all pairs. Both are pure: what DPDK knows of
//! a device and of its memory is an argument. The pools that they size keep rule R10.

#![warn(unreachable_pub)]

pub mod device;
pub mod driver;
pub mod fault;
pub mod memory;

pub use device::{Carries, Device, Interface};
pub use driver::Driver;
pub use fault::{DeviceFault, ring_for};
pub use memory::{Cost, Division, Shortage, Wish};
