//! The raw binding that `build.rs` generates from `csrc/shim.h` and the installed DPDK.
//!
//! Only the modules beside this one use it.

#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    unreachable_pub
)]
#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unnecessary_transmutes
)]

include!(concat!(env!("OUT_DIR"), "/dpdk_sys.rs"));
