//! What the client reports to its caller, and the words of QEMU's schema that it passes on
//! (`qapi/migration.json`, `qapi/run-state.json`).

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::{Probe, QmpError, RequestFailure, Yanked};

/// One thing that happened. Events come in the order of the monitor's stream.
#[derive(Debug)]
pub enum Event {
    /// The monitor has been greeted and probed. Everything that QEMU emitted before is contained
    /// in the probe; what follows comes as events.
    Connected(Box<Probe>),
    /// The connection is gone or could not be made; the client goes on trying. While attempts
    /// fail for one and the same reason this comes once.
    Disconnected(QmpError),

    /// STOP: the virtual machine no longer runs.
    Stop {
        /// When.
        at: Stamp,
    },
    /// RESUME: the virtual machine runs again.
    Resume {
        /// When.
        at: Stamp,
    },
    /// MIGRATION_PASS: the dirty bitmap was synchronised. QEMU up to 11.0 emits it in a checkpoint between
    /// STOP and RESUME (needs the capability `events`).
    MigrationPass {
        /// QEMU's count of passes.
        pass: u64,
        /// When.
        at: Stamp,
    },
    /// The migration state, from a MIGRATION event, or found changed by the periodic query where
    /// the capability `events` is off (then without QEMU's time).
    Migration {
        /// The new state.
        status: MigrationStatus,
        /// When.
        at: Stamp,
    },
    /// COLO_EXIT: this virtual machine left COLO.
    ColoExit {
        /// On which side.
        mode: ColoMode,
        /// Why.
        reason: ColoExitReason,
        /// When.
        at: Stamp,
    },
    /// SHUTDOWN: the guest powered off or QEMU is being ended.
    Shutdown {
        /// When.
        at: Stamp,
    },
    /// RESET: the guest was reset.
    Reset {
        /// When.
        at: Stamp,
    },
    /// The capability `events` was found switched on or off since the probe. Without it neither
    /// `Migration` comes promptly nor `MigrationPass` at all.
    EventsCapability {
        /// The new setting.
        on: bool,
    },

    /// The last byte of a checkpoint request was handed to the kernel.
    RequestWritten {
        /// The caller's token.
        token: u64,
        /// When.
        at: Instant,
    },
    /// QEMU latched a checkpoint request. A [`Event::Stop`] confirms it, this does not.
    RequestAccepted {
        /// The caller's token.
        token: u64,
        /// When the reply was read.
        at: Instant,
    },
    /// A checkpoint request failed; unless QEMU refused it, it may still have been carried out.
    RequestFailed {
        /// The caller's token.
        token: u64,
        /// Why.
        cause: RequestFailure,
    },

    /// What QEMU has answered to [`super::Client::examine`], by the names of the commands; those that it refused are
    /// absent.
    Examined {
        /// The answers, and under `nics` what was asked of each virtio-net device.
        said: Value,
    },

    /// QEMU goes on with this virtual machine alone.
    FailOverAccepted,
    /// The failover command was not sent, or QEMU refused it.
    FailOverFailed {
        /// Why.
        cause: RequestFailure,
    },

    /// QEMU has cut a connection to the other side, before the failover command.
    Yanked {
        /// Which.
        what: Yanked,
    },
    /// QEMU did not cut a connection to the other side.
    YankFailed {
        /// Which.
        what: Yanked,
        /// Why.
        cause: RequestFailure,
    },
    /// A reply is overdue, and the session goes on: QEMU's main loop waits for something, perhaps for the other side.
    Late {
        /// The command's name.
        command: &'static str,
        /// How long was waited.
        after: Duration,
    },

    /// A command to raise the link of this NIC was sent ([`Session::raise_links`]).
    ///
    /// [`Session::raise_links`]: super::Session::raise_links
    LinkRaised {
        /// The NIC's name.
        nic: String,
    },

    /// The answer to [`Session::ask_run_state`], in its place among the events.
    ///
    /// [`Session::ask_run_state`]: super::Session::ask_run_state
    RunState(RunState),

    /// What [`Session::execute`] has given to QEMU was carried out, or was not.
    ///
    /// [`Session::execute`]: super::Session::execute
    Executed {
        /// The caller's token.
        token: u64,
        /// What the reply returns.
        result: Result<Value, RequestFailure>,
    },

    /// A barrier came back: every event that QEMU emitted before this state was taken has been
    /// delivered before this one.
    Barrier {
        /// The caller's token.
        token: u64,
        /// State of the virtual machine.
        run: RunState,
        /// State of its migration.
        migration: MigrationStatus,
    },
    /// A barrier did not come back.
    BarrierFailed {
        /// The caller's token.
        token: u64,
        /// Why.
        cause: RequestFailure,
    },
}

impl Event {
    /// The event that QEMU calls `name`, if it is one that is passed on.
    ///
    /// # Errors
    /// `data` has another shape than that event's.
    pub(super) fn read(
        name: &str,
        data: Value,
        at: Stamp,
    ) -> Result<Option<Self>, serde_json::Error> {
        let event = match name {
            "STOP" => Self::Stop { at },
            "RESUME" => Self::Resume { at },
            "SHUTDOWN" => Self::Shutdown { at },
            "RESET" => Self::Reset { at },
            "MIGRATION_PASS" => {
                let PassData { pass } = serde_json::from_value(data)?;
                Self::MigrationPass { pass, at }
            }
            "MIGRATION" => {
                let MigrationData { status } = serde_json::from_value(data)?;
                Self::Migration { status, at }
            }
            "COLO_EXIT" => {
                let ColoExitData { mode, reason } = serde_json::from_value(data)?;
                Self::ColoExit { mode, reason, at }
            }
            _ => return Ok(None),
        };
        Ok(Some(event))
    }
}

#[derive(Deserialize)]
struct PassData {
    pass: u64,
}

#[derive(Deserialize)]
struct MigrationData {
    status: MigrationStatus,
}

#[derive(Deserialize)]
struct ColoExitData {
    mode: ColoMode,
    reason: ColoExitReason,
}

/// QEMU's clock has been set if it and this process's differ more about a time between two events.
const CLOCK_SET: Duration = Duration::from_secs(1);

/// When something on the monitor's stream happened, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When its line was read here.
    pub read: Instant,
    /// What QEMU wrote beside it; `None` where the news was queried and not emitted.
    pub qemu: Option<QemuTime>,
}

impl Stamp {
    /// How long it was since another event: by QEMU's own times, unless somebody has set that clock meanwhile.
    pub fn since(&self, earlier: &Self) -> Duration {
        let read = self.read.saturating_duration_since(earlier.read);
        let between = |(from, to): (QemuTime, QemuTime)| from.until(to);
        let qemu = earlier.qemu.zip(self.qemu).and_then(between);
        qemu.filter(|qemu| qemu.abs_diff(read) <= CLOCK_SET)
            .unwrap_or(read)
    }
}

/// A time of QEMU's host clock, since the Unix epoch. Both are -1 where that host has none
/// (`qapi/qapi-event`, QMP specification).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct QemuTime {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 to 999999.
    pub microseconds: i64,
}

impl QemuTime {
    /// The time up to a later one; `None` where it is not later, or there is no clock.
    fn until(self, later: Self) -> Option<Duration> {
        let micros = |time: Self| {
            let whole = time.seconds.checked_mul(1_000_000)?;
            whole.checked_add(time.microseconds)
        };
        let is_clock = self.seconds >= 0 && later.seconds >= 0;
        let time = micros(later)?.checked_sub(micros(self)?)?;
        let time = u64::try_from(time).ok().filter(|_| is_clock)?;
        Some(Duration::from_micros(time))
    }
}

/// QEMU's `RunState`, as far as a COLO proxy distinguishes the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// The guest runs.
    Running,
    /// Stopped inside a checkpoint.
    Colo,
    /// Stopped by an operator.
    Paused,
    /// Not yet started (`-S`).
    Prelaunch,
    /// Waiting for an incoming migration.
    Inmigrate,
    /// Any other state; the guest does not run.
    #[serde(other)]
    Stopped,
}

impl RunState {
    /// Whether the guest runs.
    pub fn is_running(self) -> bool {
        self == Self::Running
    }
}

/// QEMU's `MigrationStatus`, as far as a COLO proxy distinguishes the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationStatus {
    /// No migration has been started.
    None,
    /// Being set up.
    Setup,
    /// Copying.
    Active,
    /// Copying the device state.
    Device,
    /// Under COLO.
    Colo,
    /// Done, which after COLO means failed over.
    Completed,
    /// Failed, and being cleaned up (from QEMU 11.0 on).
    Failing,
    /// Failed.
    Failed,
    /// Being cancelled.
    Cancelling,
    /// Cancelled.
    Cancelled,
    /// A state that COLO does not pass through.
    #[serde(other)]
    Other,
}

impl MigrationStatus {
    /// Whether no migration runs, so that QEMU lets capabilities be changed
    /// (`migration_is_running`).
    pub fn is_idle(self) -> bool {
        matches!(
            self,
            Self::None | Self::Completed | Self::Failed | Self::Cancelled
        )
    }
}

/// The side on which COLO ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColoMode {
    /// The primary.
    Primary,
    /// The secondary.
    Secondary,
    /// Neither; QEMU emits no such event today.
    #[serde(other)]
    Other,
}

/// Why COLO ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColoExitReason {
    /// An operator asked for failover.
    Request,
    /// The other side was lost, or a checkpoint failed. A virtual machine that was stopped for
    /// that checkpoint stays stopped until the failover command.
    Error,
    /// A reason of a newer QEMU.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(read: Instant, qemu: Option<(i64, i64)>) -> Stamp {
        let qemu = qemu.map(|(seconds, microseconds)| QemuTime {
            seconds,
            microseconds,
        });
        Stamp { read, qemu }
    }

    #[test]
    fn a_time_between_events_is_qemus_unless_its_clock_was_set() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let between = |from, to, read: u64| {
            let later = stamp(start + ms(read), to);
            later.since(&stamp(start, from)).as_micros()
        };
        // STOP was read 30 ms late.
        let (stop, resume) = (Some((7, 990_000)), Some((8, 40_000)));
        assert_eq!(between(stop, resume, 20), 50_000);
        // The clock was set forward, or back; or QEMU's host has none, or the news was queried.
        for (from, to) in [
            (stop, Some((10, 0))),
            (resume, stop),
            (Some((-1, -1)), Some((-1, -1))),
            (None, resume),
            (stop, None),
            (Some((i64::MIN, 0)), Some((i64::MAX, 0))),
        ] {
            assert_eq!(between(from, to, 20), 20_000, "{from:?} {to:?}");
        }
    }
}
