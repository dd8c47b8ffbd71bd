//! Files as the daemon writes and reads them.

#[path = "../../src/observability/atomic_file.rs"]
pub mod atomic_file;
#[path = "../../src/observability/private.rs"]
pub mod private;
