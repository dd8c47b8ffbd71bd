//! The log: one line on stderr for what an operator should know, `dpdk-colo: warning: ...`.
//!
//! Only control threads write it. A source of one pair that repeats itself gets one line in
//! [`REPEAT_PERIOD`]; then the last one that was left out follows, and says how many there were. What comes from
//! outside (a peer's message, a path) cannot break a line or reach the terminal's control codes.
//! Once the poll cores run a thread of its own writes to stderr: a reader that hangs or has gone costs lines,
//! never time.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::outlet::Outlet;

/// Least time between two lines of one source and level.
pub const REPEAT_PERIOD: Duration = Duration::from_secs(10);

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// A step that an operator expects, such as a change of state.
    Info,
    /// Something went wrong, and the node handles it.
    Warning,
    /// Something is broken until somebody acts.
    Error,
}

impl Level {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The level that a word means.
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [Self::Info, Self::Warning, Self::Error];
        all.into_iter().find(|level| level.word() == word)
    }
}

/// What decides whether a line is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Weight {
    /// Its level.
    Level(Level),
    /// It is a warning that is written whatever the least level is.
    Urgent,
}

/// A handle on the log; clones write to the same place.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
    /// Whose repeats are counted; empty for the process.
    scope: Arc<str>,
}

enum Sink {
    Thread(Outlet),
    Here(Box<dyn Write + Send>),
}

struct Inner {
    sink: Sink,
    /// Lines of a lower level are not written.
    least: Level,
    repeats: HashMap<(Weight, Arc<str>, &'static str), Repeat>,
}

struct Repeat {
    last: Instant,
    left_out: u64,
    /// The last line that was left out.
    line: String,
}

impl Repeat {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= REPEAT_PERIOD
    }
}

impl Log {
    /// A log on stderr.
    pub fn stderr() -> Self {
        Self::to(io::stderr())
    }

    /// A log to `sink`, which gets whole lines, at once.
    pub fn to(sink: impl Write + Send + 'static) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                sink: Sink::Here(Box::new(sink)),
                least: Level::Info,
                repeats: HashMap::new(),
            })),
            scope: Arc::from(""),
        }
    }

    /// From now on a thread writes, which has the CPUs of the caller's, and no caller waits for the sink.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn detach(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if let Sink::Here(sink) = &mut inner.sink {
            // The thread may not start: the log then has nothing to write to.
            let sink = std::mem::replace(sink, Box::new(io::sink()));
            inner.sink = Sink::Thread(Outlet::new("colo-log", sink)?);
        }
        Ok(())
    }

    /// The same log for one pair, whose repeats are its own.
    pub fn of(&self, pair: &str) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            scope: Arc::from(pair),
        }
    }

    /// Lines of a lower level than this are not written from now on, by any handle.
    pub fn set_least(&self, level: Level) {
        self.lock().least = level;
    }

    /// The least level of the lines that are written.
    pub fn least(&self) -> Level {
        self.lock().least
    }

    /// Writes what was left out, and waits until all lines are written, for `limit` at most; whether they are.
    pub fn drain(&self, limit: Duration) -> bool {
        self.tell(|_| true, Instant::now());
        let outlet = match &self.lock().sink {
            Sink::Thread(outlet) => outlet.clone(),
            Sink::Here(_) => return true,
        };
        outlet.drain(limit)
    }

    /// Writes a line of a step that an operator expects; never left out.
    pub fn info(&self, line: fmt::Arguments<'_>) {
        self.lock().put(Weight::Level(Level::Info), line, 0);
    }

    /// Writes a warning that is never left out, whatever the least level is: of an order, or of a change that somebody
    /// has to act on.
    pub fn alert(&self, line: fmt::Arguments<'_>) {
        self.lock().put(Weight::Urgent, line, 0);
    }

    /// The same for a `source` that may repeat itself: left out only if it has just had one.
    pub fn urgent(&self, source: &'static str, line: fmt::Arguments<'_>) {
        self.limited(Weight::Urgent, source, line, Instant::now());
    }

    /// Writes a warning, or leaves it out if `source` has just had one.
    pub fn warning(&self, source: &'static str, line: fmt::Arguments<'_>) {
        self.limited(Weight::Level(Level::Warning), source, line, Instant::now());
    }

    /// Writes an error, or leaves it out if `source` has just had one.
    pub fn error(&self, source: &'static str, line: fmt::Arguments<'_>) {
        self.limited(Weight::Level(Level::Error), source, line, Instant::now());
    }

    fn limited(
        &self,
        weight: Weight,
        source: &'static str,
        line: fmt::Arguments<'_>,
        now: Instant,
    ) {
        let mut inner = self.lock();
        let key = (weight, Arc::clone(&self.scope), source);
        let left_out = match inner.repeats.get_mut(&key) {
            Some(repeat) if !repeat.is_over(now) => {
                repeat.left_out += 1;
                repeat.line = line.to_string();
                return;
            }
            Some(repeat) => repeat.left_out,
            None => 0,
        };
        let fresh = Repeat {
            last: now,
            left_out: 0,
            line: String::new(),
        };
        inner.repeats.insert(key, fresh);
        inner.put(weight, line, left_out);
    }

    /// Writes the last line of each source that was left out, once its time is over. To be called now and then: a
    /// source that falls silent leaves nothing untold.
    pub fn tell_left_out(&self, now: Instant) {
        self.tell(|repeat| repeat.is_over(now), now);
    }

    fn tell(&self, is_due: impl Fn(&Repeat) -> bool, now: Instant) {
        let mut inner = self.lock();
        let mut due = Vec::new();
        for ((weight, ..), repeat) in &mut inner.repeats {
            if repeat.left_out > 0 && is_due(repeat) {
                let more = std::mem::take(&mut repeat.left_out) - 1;
                due.push((*weight, std::mem::take(&mut repeat.line), more));
                repeat.last = now;
            }
        }
        for (weight, line, more) in due {
            inner.put(weight, format_args!("{line}"), more);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A thread that panicked while it wrote has left at worst half a line.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, weight: Weight, line: fmt::Arguments<'_>, left_out: u64) {
        let level = match weight {
            Weight::Urgent => Level::Warning,
            Weight::Level(level) if level < self.least => return,
            Weight::Level(level) => level,
        };
        let mut text = format!("dpdk-colo: {}: ", level.word());
        for c in line.to_string().chars() {
            match c.is_control() {
                true => text.extend(c.escape_default()),
                false => text.push(c),
            }
        }
        if left_out > 0 {
            text.push_str(&format!(" (and {left_out} more like it)"));
        }
        match &mut self.sink {
            Sink::Thread(outlet) => {
                let lost = outlet.take_lost();
                if lost > 0 {
                    text.push_str(&format!(
                        " (nobody read stderr: {lost} lines before this one are lost)"
                    ));
                }
                text.push('\n');
                if !outlet.say(text.into_bytes()) {
                    // Nobody has heard of them.
                    outlet.lose(lost);
                }
            }
            Sink::Here(sink) => {
                text.push('\n');
                // There is nowhere left to report it when the sink is gone.
                let _ = sink.write_all(text.as_bytes());
                let _ = sink.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            let bytes = std::mem::take(&mut *self.0.lock().expect("no panic"));
            String::from_utf8(bytes).expect("UTF-8")
        }
    }

    #[test]
    fn a_line_has_its_level() {
        let lines = Lines::default();
        let log = Log::to(lines.clone());
        log.info(format_args!("vm0: protected, epoch {}", 1));
        log.warning("qmp", format_args!("vm0: no answer"));
        log.error("uplink", format_args!("vm0: gone"));
        assert_eq!(
            lines.take(),
            "dpdk-colo: info: vm0: protected, epoch 1\n\
             dpdk-colo: warning: vm0: no answer\n\
             dpdk-colo: error: vm0: gone\n"
        );
    }

    #[test]
    fn lines_below_the_least_level_are_not_written() {
        let lines = Lines::default();
        let log = Log::to(lines.clone());
        assert_eq!(log.least(), Level::Info);
        log.of("vm0").set_least(Level::Warning);
        assert_eq!(log.least(), Level::Warning);
        log.info(format_args!("a step"));
        log.warning("x", format_args!("a warning"));
        log.set_least(Level::Error);
        log.warning("y", format_args!("another"));
        log.error("x", format_args!("an error"));
        assert_eq!(
            lines.take(),
            "dpdk-colo: warning: a warning\ndpdk-colo: error: an error\n"
        );
        // What somebody has to act on, or has ordered.
        log.alert(format_args!("held"));
        for line in ["fenced", "repeated"] {
            log.urgent("z", format_args!("{line}"));
        }
        assert_eq!(
            lines.take(),
            "dpdk-colo: warning: held\ndpdk-colo: warning: fenced\n"
        );
        for level in [Level::Info, Level::Warning, Level::Error] {
            assert_eq!(Level::of_word(level.word()), Some(level));
        }
        assert_eq!(Level::of_word("debug"), None);
    }

    #[test]
    fn repeats_are_counted_instead_of_written() {
        let lines = Lines::default();
        let log = Log::to(lines.clone());
        let start = Instant::now();
        let say = |source, after: Duration| {
            log.limited(
                Weight::Level(Level::Warning),
                source,
                format_args!("{source}"),
                start + after,
            );
            lines.take()
        };
        assert_eq!(say("a", Duration::ZERO), "dpdk-colo: warning: a\n");
        assert_eq!(say("a", Duration::from_secs(1)), "");
        assert_eq!(say("b", Duration::from_secs(1)), "dpdk-colo: warning: b\n");
        assert_eq!(say("a", REPEAT_PERIOD - Duration::from_nanos(1)), "");
        assert_eq!(
            say("a", REPEAT_PERIOD),
            "dpdk-colo: warning: a (and 2 more like it)\n"
        );
        assert_eq!(say("a", REPEAT_PERIOD * 2), "dpdk-colo: warning: a\n");
    }

    #[test]
    fn the_number_of_lines_left_out_is_reported_though_nothing_follows() {
        let lines = Lines::default();
        let log = Log::to(lines.clone());
        let start = Instant::now();
        for n in 0..4 {
            let line = format_args!("{n}");
            log.limited(Weight::Level(Level::Warning), "a", line, start);
        }
        assert_eq!(lines.take(), "dpdk-colo: warning: 0\n");
        log.tell_left_out(start + REPEAT_PERIOD / 2);
        assert_eq!(lines.take(), "");
        log.tell_left_out(start + REPEAT_PERIOD);
        assert_eq!(lines.take(), "dpdk-colo: warning: 3 (and 2 more like it)\n");
        // It is a line like another: the next one has to wait.
        let later = start + REPEAT_PERIOD + Duration::from_secs(1);
        log.limited(Weight::Level(Level::Warning), "a", format_args!("4"), later);
        log.tell_left_out(start + REPEAT_PERIOD * 3 / 2);
        assert_eq!(lines.take(), "");
        assert!(log.drain(Duration::ZERO));
        assert_eq!(lines.take(), "dpdk-colo: warning: 4\n");
        log.tell_left_out(start + REPEAT_PERIOD * 9);
        assert_eq!(lines.take(), "");
    }

    #[test]
    fn the_repeats_of_one_pair_are_not_anothers() {
        let lines = Lines::default();
        let log = Log::to(lines.clone());
        for pair in ["vm0", "vm1", "vm0"] {
            log.of(pair).warning("monitor", format_args!("{pair}"));
        }
        log.warning("monitor", format_args!("all"));
        assert_eq!(
            lines.take(),
            "dpdk-colo: warning: vm0\ndpdk-colo: warning: vm1\ndpdk-colo: warning: all\n"
        );
    }

    #[test]
    fn a_detached_log_waits_for_nobody_and_says_what_is_lost() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let log = Log::to(writer);
        log.detach().expect("a thread");
        let (lines, line) = (3_000, "x".repeat(1_000));
        for _ in 0..lines {
            log.info(format_args!("{line}"));
        }
        assert!(!log.drain(Duration::from_millis(20)), "a pipe holds less");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = io::Read::read_to_string(&mut reader, &mut text);
            text
        });
        assert!(log.drain(Duration::from_secs(30)));
        log.alert(format_args!("last"));
        // The thread ends with the log, and with it the text.
        drop(log);
        let text = reader.join().expect("a reader");
        let reported = text.lines().filter_map(|line| {
            let (_, rest) = line.split_once("(nobody read stderr: ")?;
            rest.split(' ').next()?.parse::<usize>().ok()
        });
        let (unread, written) = (reported.sum::<usize>(), text.lines().count());
        assert_eq!(unread + written, lines + 1);
        assert!(unread > 0 && text.contains("dpdk-colo: warning: last"));
    }

    #[test]
    fn what_comes_from_outside_stays_in_its_line() {
        let lines = Lines::default();
        Log::to(lines.clone()).info(format_args!("peer said {}", "a\n\x1b[2Jb\u{9b}é"));
        assert_eq!(
            lines.take(),
            "dpdk-colo: info: peer said a\\n\\u{1b}[2Jb\\u{9b}é\n"
        );
    }
}
