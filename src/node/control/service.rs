//! What the service manager that started this process hears of it (`sd_notify`): that it is ready, its pairs' states,
//! that its cores go on, and that it ends.
//!
//! Messages never wait. A service manager that reads nothing must not keep a request for a checkpoint waiting.

use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::control::PairStatus;
use crate::observability::log::Log;

/// States change with each checkpoint, and each message costs the service manager work.
const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// Pairs that are named one by one.
const NAMED: usize = 4;
/// Reports that cores go on, in the time that the service manager waits for one.
const REPORTS: u32 = 4;

/// The service manager, where there is one.
#[derive(Debug)]
pub(super) struct Service {
    socket: Option<OsString>,
    watchdog: Option<Watchdog>,
    status: String,
    status_due: Instant,
}

impl Service {
    /// As the environment says.
    pub(super) fn from_env(now: Instant) -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty());
        let time = sd_notify::watchdog_enabled().filter(|_| socket.is_some());
        Self {
            socket,
            watchdog: time.map(|time| Watchdog::new(time, now)),
            status: String::new(),
            status_due: now,
        }
    }

    /// Reports that the node is ready.
    pub(super) fn ready(&self) {
        self.send(&NotifyState::Ready);
    }

    /// Reports that the node ends.
    pub(super) fn stopping(&self) {
        self.send(&NotifyState::Stopping);
    }

    /// Whether a status would be sent now.
    pub(super) fn wants_status(&self, now: Instant) -> bool {
        self.socket.is_some() && now >= self.status_due
    }

    /// Reports the pairs' states, if they have changed.
    pub(super) fn status(&mut self, pairs: &[PairStatus], now: Instant) {
        self.status_due = now + STATUS_PERIOD;
        let status = headline(pairs);
        if status != self.status && self.send(&NotifyState::Status(&status)) {
            self.status = status;
        }
    }

    /// Reports that the cores go on, if that is due and all have finished a round since the last report. `cores` are
    /// lcores with the number of their rounds.
    pub(super) fn report_progress(
        &mut self,
        cores: impl IntoIterator<Item = (u32, u64)>,
        now: Instant,
        log: &Log,
    ) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        match watchdog.look(cores, now) {
            Look::Report => {
                self.send(&NotifyState::Watchdog);
            }
            Look::Stalled(lcore, left) => log.alert(format_args!(
                "lcore {lcore} finishes no round; the service manager ends this process in {:.1} s if it does not go \
                 on (WatchdogSec)",
                left.as_secs_f64()
            )),
            Look::Nothing => {}
        }
    }

    /// Whether the message left. One that does not is followed by another, or of no use any more.
    fn send(&self, message: &NotifyState<'_>) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        let send = || -> io::Result<()> {
            let bytes = socket.as_bytes();
            let to = match bytes.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(socket)?,
            };
            let from = UnixDatagram::unbound()?;
            from.set_nonblocking(true)?;
            from.send_to_addr(message.to_string().as_bytes(), &to)?;
            Ok(())
        };
        send().is_ok()
    }
}

/// What a look at the cores came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Nothing,
    /// All cores go on.
    Report,
    /// This lcore does not, and this is left of the service manager's time limit. Said once.
    Stalled(u32, Duration),
}

/// Whether the cores go on.
#[derive(Debug)]
struct Watchdog {
    /// After this time without a report the service manager ends the process.
    time: Duration,
    reported: Instant,
    /// The rounds of each core at the last report.
    rounds: Vec<u64>,
    said: bool,
}

impl Watchdog {
    fn new(time: Duration, now: Instant) -> Self {
        Self {
            time,
            reported: now,
            rounds: Vec::new(),
            said: false,
        }
    }

    fn look(&mut self, cores: impl IntoIterator<Item = (u32, u64)>, now: Instant) -> Look {
        let since = now.saturating_duration_since(self.reported);
        if since < self.time / REPORTS {
            return Look::Nothing;
        }
        let mut stalled = None;
        let mut rounds = Vec::with_capacity(self.rounds.len());
        for (number, (lcore, count)) in cores.into_iter().enumerate() {
            if self.rounds.get(number) == Some(&count) {
                stalled = Some(lcore);
            }
            rounds.push(count);
        }
        match stalled {
            None => {
                (self.reported, self.rounds, self.said) = (now, rounds, false);
                Look::Report
            }
            Some(lcore) if since >= self.time / 2 && !self.said => {
                self.said = true;
                Look::Stalled(lcore, self.time.saturating_sub(since))
            }
            Some(_) => Look::Nothing,
        }
    }
}

/// What `systemctl status` shows: each pair, or how many are in each state.
fn headline(pairs: &[PairStatus]) -> String {
    // A comparator has no peer, and its state says nothing about protection.
    let word = |pair: &PairStatus| match (pair.peer, pair.leads()) {
        (None, _) => "compares".to_owned(),
        (_, true) => format!("leads, {}", pair.state.word()),
        (_, false) => format!("does not lead, {}", pair.state.word()),
    };
    let mut text = String::new();
    if pairs.len() <= NAMED {
        for (number, pair) in pairs.iter().enumerate() {
            let between = if number == 0 { "" } else { "; " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{between}{}: {}", pair.name, word(pair));
        }
        if let [
            PairStatus {
                todo: Some(todo), ..
            },
        ] = pairs
        {
            let _ = write!(text, " ({todo})");
        }
    } else {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for word in pairs.iter().map(word) {
            match counts.iter_mut().find(|(known, _)| *known == word) {
                Some((_, count)) => *count += 1,
                None => counts.push((word, 1)),
            }
        }
        let _ = write!(text, "{} pairs", pairs.len());
        for (number, (word, count)) in counts.iter().enumerate() {
            let between = if number == 0 { ": " } else { "; " };
            let _ = write!(text, "{between}{count} {word}");
        }
    }
    // A line end would begin another variable.
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_needs_a_round_of_every_core_since_the_last_one() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut watchdog = Watchdog::new(Duration::from_millis(400), begin);
        assert_eq!(watchdog.look([(2, 5), (3, 5)], at(99)), Look::Nothing);
        assert_eq!(watchdog.look([(2, 5), (3, 5)], at(100)), Look::Report);
        assert_eq!(watchdog.look([(2, 6), (3, 6)], at(150)), Look::Nothing);
        assert_eq!(watchdog.look([(2, 7), (3, 5)], at(200)), Look::Nothing);
        let left = Duration::from_millis(200);
        assert_eq!(
            watchdog.look([(2, 8), (3, 5)], at(300)),
            Look::Stalled(3, left)
        );
        assert_eq!(watchdog.look([(2, 9), (3, 5)], at(310)), Look::Nothing);
        assert_eq!(watchdog.look([(2, 9), (3, 6)], at(320)), Look::Report);
        // The next stall is worth a line again.
        assert_eq!(
            watchdog.look([(2, 9), (3, 7)], at(520)),
            Look::Stalled(2, left)
        );
    }
}
