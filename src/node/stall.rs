//! A poll core that stalls while QEMU waits for it.
//!
//! QEMU waits in its main loop until the fence's callback returns. Its monitor and all other vhost ports of this
//! process wait with it. The callback must not return before the core is quiet (rule R3). So the log reports the wait
//! after a second. The process ends after a time that the operator chooses: its sockets then close, and QEMU goes on.

use std::process;
use std::time::Duration;

use crate::config::ProcessSettings;
use crate::observability::log::Log;

/// A wait of this length is not reported, and neither is a core's sleep.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the program waits for the reader of its last line.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// When a wait for a core is reported, and when the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    report: Duration,
    end: Option<Duration>,
}

impl Patience {
    /// The limits of the settings. A core's own sleep does not count.
    pub(crate) fn new(settings: &ProcessSettings) -> Self {
        let sleep = settings.idle_sleep.unwrap_or_default();
        Self {
            report: PATIENCE + sleep,
            end: settings.stall_limit.map(|limit| limit + sleep),
        }
    }
}

/// One wait for the poll core of a pair.
pub(crate) struct Stall<'a> {
    lcore: u32,
    patience: Patience,
    log: &'a Log,
    pair: &'a str,
    time: Duration,
    reported: bool,
}

impl<'a> Stall<'a> {
    /// A wait that begins.
    pub(crate) fn new(lcore: u32, patience: Patience, log: &'a Log, pair: &'a str) -> Self {
        Self {
            lcore,
            patience,
            log,
            pair,
            time: Duration::ZERO,
            reported: false,
        }
    }

    /// The wait has lasted for `time`. Ends the process if that is too long.
    pub(crate) fn lasts(&mut self, time: Duration) {
        self.time = time;
        if self.patience.end.is_some_and(|end| time >= end) {
            self.log.error(
                "stall",
                format_args!(
                    "pair {}: the poll core of lcore {} stands still for {:.1} s while QEMU waits for it, which ends \
                     this process (--stall-limit); start it again with the same words",
                    self.pair,
                    self.lcore,
                    time.as_secs_f64()
                ),
            );
            self.log.drain(LAST_WORDS);
            process::abort();
        }
        if !self.reported && time >= self.patience.report {
            self.reported = true;
            self.log.alert(format_args!(
                "pair {}: the poll core of lcore {} stands still for {:.1} s; QEMU has stopped the VM and waits for \
                 it, its monitor too; look whether the lcore has its CPU for itself; {}",
                self.pair,
                self.lcore,
                time.as_secs_f64(),
                Outlook(self.patience.end)
            ));
        }
    }
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        if self.reported {
            self.log.info(format_args!(
                "pair {}: lcore {} goes on after {:.1} s",
                self.pair,
                self.lcore,
                self.time.as_secs_f64()
            ));
        }
    }
}

/// What happens if the core does not go on.
struct Outlook(Option<Duration>);

impl std::fmt::Display for Outlook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(end) => write!(
                f,
                "this process ends itself after {:.1} s (--stall-limit)",
                end.as_secs_f64()
            ),
            None => f.write_str("end this process if it does not go on (--stall-limit 0)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::*;

    /// The log of a wait with calls at these times, in milliseconds.
    fn said(settings: &ProcessSettings, looks: &[u64]) -> String {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let log = Log::to(writer);
        let mut stall = Stall::new(3, Patience::new(settings), &log, "vm0");
        for &ms in looks {
            stall.lasts(Duration::from_millis(ms));
        }
        drop(stall);
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("UTF-8");
        text
    }

    #[test]
    fn a_long_wait_is_reported_once_and_so_is_its_end() {
        let settings = ProcessSettings {
            idle_sleep: None,
            ..ProcessSettings::default()
        };
        assert_eq!(said(&settings, &[0, 500, 999]), "");
        let text = said(&settings, &[0, 1000, 1500, 29_000]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for word in [
            "warning: pair vm0",
            "lcore 3",
            "for 1.0 s",
            "after 30.0 s (--stall-limit)",
        ] {
            assert!(lines[0].contains(word), "{text}");
        }
        assert!(
            lines[1].contains("info: pair vm0: lcore 3 goes on after 29.0 s"),
            "{text}"
        );
    }

    #[test]
    fn a_sleeping_core_stands_still_later_and_nobody_has_to_end() {
        let settings = ProcessSettings {
            idle_sleep: Some(Duration::from_secs(1)),
            stall_limit: None,
            ..ProcessSettings::default()
        };
        assert_eq!(said(&settings, &[1999]), "");
        let text = said(&settings, &[2000, 1_000_000]);
        assert!(
            text.contains("for 2.0 s") && text.contains("end this process"),
            "{text}"
        );
    }
}
