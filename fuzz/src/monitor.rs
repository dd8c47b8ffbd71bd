//! Files as the daemon writes and reads them.

#[path = "../../src/monitor/atomic_file.rs"]
pub mod atomic_file;
#[path = "../../src/monitor/private.rs"]
pub mod private;
