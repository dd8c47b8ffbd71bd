//! dpdk-colo.
fn main() {}
