//! What the tests of `dpdk-colo` share: random numbers that a seed replays ([`rng`]), packets built header by header
//! ([`packets`]), and a scripted QEMU monitor ([`qmp`]).
//!
//! The crate works on bytes and does not depend on `dpdk-colo`, so that unit tests of that crate can use it.

pub mod packets;
pub mod qmp;
pub mod rng;
