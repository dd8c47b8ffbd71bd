//! Properties of the comparison, each over many random cases.
//!
//! `DPDK_COLO_CASES=1000000 cargo test --release --test properties` runs a million of each;
//! `DPDK_COLO_SEED` and one case replay the case that a failure names, and
//! `DPDK_COLO_TRACE=1` prints its steps.

mod bursts;
mod datagrams;
mod division;
mod endpoint;
mod epochs;
mod garbage;
mod harness;
mod loss;
mod masks;
mod model;
mod pair;
mod script;
mod spread;
mod streams;
mod switch;
mod traffic;
mod unlike;
