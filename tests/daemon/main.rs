//! The built program from outside: its command line, its ports, its monitor, its end.
//!
//! Each test starts `dpdk-colo` without hugepages or hardware. Frames come from captures
//! (net_pcap), from nowhere (net_null), or from `colo-traffic`, whose virtio_user ports are to the
//! node's vhost ports what a QEMU is. Tests that measure run alone, the others two at a time.

#![cfg(feature = "dpdk")]

mod audit;
mod capture;
mod frames;
mod monitor;
mod node;
mod telemetry;
mod traffic;

mod attack;
mod compare;
mod control;
mod disk;
mod failover;
mod full;
mod garbage;
mod many;
mod metrics;
mod null;
mod offload;
mod orders;
mod pair;
mod pools;
mod protect;
mod quiet;
mod service;
mod settings;
mod stall;
mod starved;
mod surroundings;
mod switchover;
mod unprotect;
mod unresponsive;
mod uplink;
mod usage;
mod vhost;
mod workers;
