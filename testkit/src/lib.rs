//! What the tests of `dpdk-colo` share: random numbers that a seed replays ([`rng`]), packets built header by header
//! ([`packets`]), a scripted QEMU monitor ([`qmp`]), and expected texts in files ([`golden`]).
//!
//! The crate works on bytes and does not depend on `dpdk-colo`, so that unit tests of that crate can use it.

pub mod golden;
pub mod packets;
pub mod qmp;
pub mod rng;
