//! The layer over DPDK: EAL, ports and queues, pools and mbufs, lcores, link events, telemetry.
//!
//! This is the only module with unsafe code. What it gives out is safe: a queue is polled by one
//! thread, an mbuf is freed once, shared bytes are not written, and nothing outlives EAL.
//!
//! In: frames from ports as [`Mbuf`]s in [`Burst`]s, link events of vhost ports. Out: frames to
//! ports. Rule R3's [`fence`] lies here because its wait belongs into the driver's stop callback;
//! rule R10's conservation of mbufs is what [`Mempool::in_use`] shows.

pub mod burst;
pub mod child;
mod device;
mod dpdk_sys;
pub mod eal;
pub mod errno;
pub mod fanout;
pub mod fence;
pub mod lcore;
pub mod link_state;
pub mod mbuf;
mod mbuf_fields;
pub mod mempool;
pub mod offload;
pub mod port;
pub mod port_core;
pub mod queue;
pub mod slices;
mod start;
pub mod telemetry;
pub mod tsc;
pub mod vhost;

pub use burst::Burst;
pub use eal::{Eal, EalError};
pub use errno::Errno;
pub use fence::{Fence, FenceCore};
pub use link_state::LinkWatch;
pub use mbuf::Mbuf;
pub use mempool::{Memory, Mempool, MempoolConfig, MempoolError};
pub use offload::{Abilities, Headers, Transport};
pub use port::{PORTS_MAX, Port, PortConfig, PortMonitor, PortStats, Queues};
pub use port_core::PortError;
pub use queue::{RxPoller, RxQueue, TxPoller, TxQueue};
pub use slices::Slices;
pub use start::Failure;
