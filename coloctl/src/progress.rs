//! A line that shows how far an order is while its reply is waited for.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::client::{self, Reply};
use crate::show;

/// How often the node is asked.
const LOOK: Duration = Duration::from_millis(300);
/// A status comes at once, or it is not worth a wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does something that takes its time, and shows meanwhile how far the node is with the pair that `arguments` name: on a
/// terminal in one line that changes, elsewhere in a line for each step.
pub fn beside<T>(path: &Path, arguments: &Value, task: impl FnOnce() -> T) -> T {
    let (end, ended) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut line = Line::default();
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if let Some(text) = look(path, arguments) {
                    line.show(&text);
                }
            }
            line.clear();
        });
        let done = task();
        drop(end);
        done
    })
}

fn look(path: &Path, arguments: &Value) -> Option<String> {
    let Ok(Reply::Return(status)) = client::ask(path, "status", arguments, PATIENCE) else {
        return None;
    };
    let pairs = status["pairs"].as_array()?;
    pairs.iter().find_map(show::progress)
}

#[derive(Default)]
struct Line {
    /// Characters of what stands there.
    width: usize,
    last: String,
}

impl Line {
    fn show(&mut self, text: &str) {
        let mut out = io::stderr();
        // Nothing depends on it.
        if out.is_terminal() {
            let _ = write!(out, "\r{text:<width$}", width = self.width);
            let _ = out.flush();
            self.width = text.chars().count();
            return;
        }
        let step = text.split(" [").next().unwrap_or(text);
        if self.last != step {
            step.clone_into(&mut self.last);
            let _ = writeln!(out, "{step}");
        }
    }

    fn clear(&mut self) {
        if self.width > 0 {
            let _ = write!(io::stderr(), "\r{:width$}\r", "", width = self.width);
        }
    }
}
