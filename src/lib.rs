//! `dpdk-colo`: a DPDK poll-mode network proxy for COLO, QEMU's fault tolerance by
//! coarse-grained lock-stepping of a primary and a secondary virtual machine.
//!
//! Output flows one way: port → [`protect`] → [`spread`] → [`compare`] → [`protect`] → port. The pure
//! modules ([`frame`], [`proto`], [`flow`], [`packet`], [`compare`], [`spread`], [`rewrite`], [`link`], [`protect`],
//! [`account`], [`bringup`], [`control`], [`pair`], [`switch`]) know no DPDK, no clock, no thread and no I/O:
//! frames ([`Frame`]) and time ([`Ticks`]) are arguments. [`pair`] owns the order of a round, and `node` implements
//! its ports. `docs/rules.md` says what must hold, and `tests/contract` which module may know which.

#![warn(unreachable_pub)]

pub mod account;
pub mod bringup;
pub mod cli;
pub mod compare;
pub mod config;
pub mod control;
pub mod dumps;
pub mod error_chain;
pub mod flow;
pub mod frame;
pub mod link;
pub mod observability;
pub mod packet;
pub mod pair;
pub mod panics;
pub mod plan;
pub mod protect;
pub mod proto;
pub mod qmp;
pub mod rewrite;
pub mod spread;
pub mod switch;

// The one module with unsafe code; everywhere else the compiler refuses it.
#[cfg(feature = "dpdk")]
#[allow(unsafe_code)]
pub mod dpdk;
#[cfg(feature = "dpdk")]
pub mod node;

pub use frame::{Frame, Offload, Ticks};
