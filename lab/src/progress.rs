//! The lab's running commentary: one short line per step, with the seconds since the start.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Prints `text` under `topic`.
pub fn say(topic: &str, text: impl Display) {
    let seconds = START.get_or_init(Instant::now).elapsed().as_secs_f64();
    println!("[{seconds:6.1} s] {topic:<13} {text}");
}
