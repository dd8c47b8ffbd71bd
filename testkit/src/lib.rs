//! What the tests of `dpdk-colo` share: random numbers that a seed replays ([`rng`]), packets built header by header
//! ([`packets`]), a scripted QEMU monitor ([`qmp`]), threads of other processes that a test stops ([`thread`]), expected
//! texts in files ([`golden`]), and what a machine must have ([`requirement`]).
//!
//! The crate works on bytes and does not depend on `dpdk-colo`, so that unit tests of that crate can use it.

pub mod golden;
pub mod packets;
pub mod qmp;
pub mod requirement;
pub mod rng;
pub mod thread;
