//! `dpdk-colo`: a DPDK poll-mode network proxy for COLO, QEMU's fault tolerance by
//! coarse-grained lock-stepping of a primary and a secondary virtual machine.
//!
//! Data flows one way through the rooms: port → [`packet`] → [`compare`] → [`protect`] → port.
//! The pure rooms ([`packet`], [`flow`], [`compare`], [`spread`], [`rewrite`], [`protect`], [`link`], [`pair`]) know no
//! DPDK, no clock, no thread and no I/O: frames ([`Frame`]) and time ([`Ticks`]) are arguments.
//! `node` wires them to ports and is the only room that knows all of them.

pub mod cli;
pub mod compare;
pub mod config;
pub mod error_chain;
pub mod flow;
pub mod frame;
pub mod link;
pub mod monitor;
pub mod packet;
pub mod pair;
pub mod panics;
pub mod plan;
pub mod protect;
pub mod qmp;
pub mod rewrite;
pub mod spread;

#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(feature = "dpdk")]
pub mod node;

pub use frame::{Frame, Offload, Ticks};
