//! What one client of a [`Load`](super::Load) has seen, written by its thread and read by the lab's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::workload::{Harm, TrafficError};

/// Failures whose words are kept.
const KEPT: usize = 4;

/// What a client has seen since the last mark.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Which client.
    pub name: String,
    /// It opens a connection for each answer, so that a lost SYN, which is sent again after a whole second
    /// (RFC 6298, section 2.1), may be in its silence.
    pub opens: bool,
    /// Bytes that came, since the start.
    pub bytes: u64,
    /// Whole answers that came, since the start.
    pub answers: u64,
    /// Bytes that were wrong, doubled or lost: how often the stream was not what it must be.
    pub wrong: u64,
    /// Connections that were reset or refused.
    pub resets: u64,
    /// Connections that timed out or could not be opened.
    pub failures: u64,
    /// The longest time without a byte while one was owed.
    pub silence: Duration,
    /// From the order to the first byte that came after it.
    pub first: Option<Duration>,
    /// The first failures in words.
    pub words: Vec<String>,
}

#[derive(Debug)]
struct State {
    record: Record,
    mark: Instant,
    order: Option<Instant>,
    /// Since when an answer is owed without a byte of it having come.
    owed_since: Option<Instant>,
}

impl State {
    /// Takes the silence that ends, or would end, at `now`.
    fn silence_until(&mut self, now: Instant) {
        if let Some(since) = self.owed_since {
            let silence = now.saturating_duration_since(since.max(self.mark));
            self.record.silence = self.record.silence.max(silence);
        }
    }
}

/// The record of one client while it runs.
#[derive(Debug)]
pub struct Tape {
    state: Mutex<State>,
    stop: Arc<AtomicBool>,
}

impl Tape {
    /// An empty one for the client `name`, which is to end when `stop` is set; `opens` as in [`Record::opens`].
    pub fn new(name: String, opens: bool, stop: Arc<AtomicBool>) -> Self {
        Self {
            state: Mutex::new(State {
                record: Record {
                    name,
                    opens,
                    ..Record::default()
                },
                mark: Instant::now(),
                order: None,
                owed_since: None,
            }),
            stop,
        }
    }

    /// True once the client is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The client asks for something from now on.
    pub fn asks(&self) {
        self.state().owed_since.get_or_insert_with(Instant::now);
    }

    /// `bytes` came.
    pub fn receives(&self, bytes: usize) {
        let now = Instant::now();
        let mut state = self.state();
        state.silence_until(now);
        if state.owed_since.is_some() {
            state.owed_since = Some(now);
        }
        state.record.bytes += bytes as u64;
        if let Some(order) = state.order {
            let first = now.saturating_duration_since(order);
            state.record.first.get_or_insert(first);
        }
    }

    /// The answer is whole; nothing is owed.
    pub fn is_answered(&self) {
        let mut state = self.state();
        state.owed_since = None;
        state.record.answers += 1;
    }

    /// The connection came to a bad end, and with it what was owed on it.
    pub fn fails(&self, error: &TrafficError) {
        let mut state = self.state();
        let record = &mut state.record;
        match error.harm() {
            _ if matches!(error, TrafficError::Interrupted) => return,
            Harm::Wrong => record.wrong += 1,
            Harm::Reset => record.resets += 1,
            Harm::Other => record.failures += 1,
        }
        if record.words.len() < KEPT {
            let words = error.to_string();
            record.words.push(words);
        }
    }

    /// Begins a new measurement of silence; counts and words go on.
    pub fn mark(&self) {
        let mut state = self.state();
        state.mark = Instant::now();
        state.record.silence = Duration::ZERO;
        state.record.first = None;
        state.order = None;
    }

    /// Service is to come back from now on.
    pub fn order(&self) {
        let mut state = self.state();
        state.order = Some(Instant::now());
        state.record.first = None;
    }

    /// What has been seen, a silence that still lasts included.
    pub fn record(&self) -> Record {
        let mut state = self.state();
        state.silence_until(Instant::now());
        state.record.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, ErrorKind};

    const MS: Duration = Duration::from_millis(1);

    fn tape() -> Tape {
        Tape::new("client".to_owned(), false, Arc::default())
    }

    #[test]
    fn silence_counts_only_while_something_is_owed() {
        let tape = tape();
        std::thread::sleep(MS * 30);
        tape.asks();
        tape.receives(1);
        tape.is_answered();
        std::thread::sleep(MS * 30);
        assert!(tape.record().silence < MS * 20);
        tape.asks();
        std::thread::sleep(MS * 30);
        assert!(tape.record().silence >= MS * 30, "it lasts still");
    }

    #[test]
    fn a_mark_cuts_a_silence_in_two() {
        let tape = tape();
        tape.asks();
        std::thread::sleep(MS * 50);
        tape.mark();
        assert!(tape.record().silence < MS * 40);
        tape.order();
        assert_eq!(tape.record().first, None);
        tape.receives(7);
        let record = tape.record();
        assert!(record.first.expect("a byte came") < MS * 40);
        assert_eq!(record.bytes, 7);
    }

    #[test]
    fn ends_are_distinguished() {
        let tape = tape();
        let io = |kind| TrafficError::Io {
            what: "echo".to_owned(),
            source: io::Error::from(kind),
        };
        tape.fails(&io(ErrorKind::ConnectionReset));
        tape.fails(&io(ErrorKind::TimedOut));
        tape.fails(&TrafficError::Short {
            what: "echo".to_owned(),
            offset: 1,
            length: 2,
        });
        tape.fails(&TrafficError::Interrupted);
        let record = tape.record();
        assert_eq!((record.wrong, record.resets, record.failures), (1, 1, 1));
        assert_eq!(record.words.len(), 3);
    }
}
