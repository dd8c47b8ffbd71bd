//! What is fuzzed: each of [`TARGETS`] is a function of bytes that panics where a rule is broken or code fails.
//!
//! `fuzz_targets` makes a libFuzzer program of each, `tests/replay.rs` gives each its corpus. Bytes are either what a
//! stranger sends (`packets`, `qmp`, `config`, `offsets`, `captures`), or the choices of a story: what happens next to
//! a state machine (`Rng::of_bytes`). The comparator's model and traffic are those of `tests/properties`.

pub mod targets;

pub use targets::TARGETS;

#[allow(dead_code, reason = "the simulation uses the rest")]
#[path = "../../tests/simulation/frame.rs"]
mod frame;

#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/bursts.rs"]
mod bursts;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/datagrams.rs"]
mod datagrams;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/division.rs"]
mod division;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/endpoint.rs"]
mod endpoint;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/epochs.rs"]
mod epochs;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/garbage.rs"]
mod garbage;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/harness.rs"]
mod harness;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/loss.rs"]
mod loss;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/model.rs"]
mod model;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/pair.rs"]
mod pair;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/script.rs"]
mod script;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/streams.rs"]
mod streams;
#[allow(dead_code, unused_imports, reason = "its own tests use the rest")]
#[path = "../../tests/properties/traffic.rs"]
mod traffic;

/// The daemon's file of offsets, which is built with DPDK alone; it names the modules below.
#[allow(dead_code, reason = "the daemon uses the rest")]
#[path = "../../src/node/control/offsets.rs"]
mod offset_file;

#[allow(dead_code, reason = "the daemon uses the rest")]
mod observability;
use dpdk_colo::{flow, rewrite};
