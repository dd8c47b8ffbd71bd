//! What a stop of the PVM was for: a checkpoint, or something that the SVM knows nothing of.
//!
//! In: stops of the guest's ring, what the monitor says of the VM (STOP, MIGRATION_PASS, RESUME, the
//! barrier behind them), the secondary's reports of loads. Out: whether the state went to the SVM. From
//! its stop on the ring is not polled until it runs again, a barrier has shown that the monitor has
//! reported everything before, and it is known what the stop was. So what is held then is older than the
//! stop (rule R3), and a RESUME that ends no checkpoint commits nothing (rule R9).
//! `docs/commit-evidence.md` says why a report proves what.

use crate::frame::Ticks;
use crate::packet::serial::at_or_before;

/// The ring has stopped, or was not seen to run yet.
#[derive(Clone, Copy, Debug, Default)]
struct Stopped {
    /// STOP came and no RESUME since.
    stop: bool,
    /// MIGRATION_PASS came since.
    pass: bool,
    /// A RESUME has ended a stop of the VM in COLO that nothing has proven so far.
    ended: Option<Ended>,
    /// Reports of states that contain all that was taken and that no commit has used up.
    loads: u32,
    /// The SVM has loaded the PVM's state since the ring stopped.
    committed: bool,
    /// The ring runs since then, and the monitor has reported everything before.
    runs: Option<Ticks>,
}

/// A stop of the VM that may have been a checkpoint.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// MIGRATION_PASS came in it.
    pass: bool,
}

/// What a RESUME ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    /// No stop of the ring: a ring that runs stops before its VM does.
    Nothing,
    /// A stop in which the SVM has loaded the PVM's state.
    Checkpoint,
    /// A stop of which the secondary may still report that.
    Unproven,
    /// Any other stop.
    Other,
}

/// Whether the VM's state may have gone to an SVM, as far as COLO's state says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// There is no COLO, or it has ended.
    Nothing,
    /// COLO has begun since the node saw the VM run: this is the stop in which it does.
    First,
    /// COLO goes on, and not every stop is a checkpoint.
    Checkpoints,
}

/// The stops of one VM and its ring.
#[derive(Debug)]
pub(super) struct Stops {
    /// Of the ring, since the node began.
    number: u32,
    stopped: Option<Stopped>,
    /// The VM has entered COLO and was not seen to run since.
    entering: bool,
    /// The last epoch in which the ring was polled and that no commit covers.
    polled: Option<u32>,
}

impl Stops {
    /// Of a VM whose ring was not seen to run. What its monitor will report is not known yet.
    pub(crate) fn new() -> Self {
        Self {
            number: 0,
            stopped: Some(Stopped::default()),
            entering: false,
            polled: None,
        }
    }

    /// Of a VM whose ring has stopped `number` times and runs in this epoch.
    pub(crate) fn running_after(number: u32, epoch: u32) -> Self {
        Self {
            number,
            stopped: None,
            entering: false,
            polled: Some(epoch),
        }
    }

    /// Stops of the ring.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether the ring must not be polled.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether the VM is stopped. A ring that has stopped alone waits for the guest's driver, which
    /// may take its time.
    pub(crate) fn is_vm_stopped(&self) -> bool {
        self.stopped.is_some_and(|stopped| stopped.stop)
    }

    /// Whether a stop lasts that has committed nothing so far.
    pub(crate) fn is_unexplained(&self) -> bool {
        self.stopped.is_some_and(|stopped| !stopped.committed)
    }

    /// Whether the ring runs and is not polled, because the secondary may still report a load.
    pub(crate) fn awaits_report(&self) -> bool {
        self.stopped.is_some_and(|stopped| stopped.runs.is_some())
    }

    /// The ring has stopped.
    pub(crate) fn ring_stopped(&mut self) {
        self.number = self.number.wrapping_add(1);
        let stopped = self.stopped.get_or_insert_default();
        // A report may still come for a stop before; the RESUME that it needs is this stop's.
        (stopped.committed, stopped.ended, stopped.runs) = (false, None, None);
    }

    /// STOP.
    pub(crate) fn vm_stopped(&mut self) {
        self.tell(true);
    }

    /// The monitor is gone: another stop may be the one that the next RESUME ends.
    pub(crate) fn forget(&mut self) {
        self.tell(false);
    }

    fn tell(&mut self, stop: bool) {
        if let Some(stopped) = &mut self.stopped {
            (stopped.stop, stopped.pass) = (stop, false);
        }
    }

    /// MIGRATION_PASS.
    pub(crate) fn pass(&mut self) {
        if let Some(stopped) = &mut self.stopped {
            stopped.pass = stopped.stop;
        }
    }

    /// The VM's migration came to COLO, so that the next RESUME needs no proof: nothing of this COLO
    /// was held before.
    pub(crate) fn enter_colo(&mut self) {
        self.entering = true;
    }

    /// The monitor answers: when the VM entered COLO is not known any more.
    pub(crate) fn connected(&mut self) {
        self.entering = false;
    }

    /// RESUME. `witnessed` says that the secondary reports loads.
    pub(crate) fn resumed(&mut self, takes: Takes, witnessed: bool) -> Resumed {
        let Some(was) = self.stopped else {
            return Resumed::Nothing;
        };
        let counts = was.stop && takes != Takes::Nothing;
        let begins = takes == Takes::First || self.entering;
        let proven = was.loads > 0 || !witnessed && was.pass;
        let ended = (counts || was.ended.is_some()).then_some(Ended {
            pass: counts && was.pass || was.ended.is_some_and(|ended| ended.pass),
        });
        self.stopped = Some(Stopped {
            stop: false,
            pass: false,
            committed: false,
            ended,
            ..was
        });
        if counts && (begins || proven) {
            self.commit();
            Resumed::Checkpoint
        } else if counts {
            Resumed::Unproven
        } else {
            Resumed::Other
        }
    }

    /// The secondary has loaded a state that contains what was taken up to the end of this epoch.
    /// True if that commits the stop.
    pub(crate) fn reported(&mut self, covers: Option<u32>) -> bool {
        let Some(stopped) = &mut self.stopped else {
            return false;
        };
        let contains = match (self.polled, covers) {
            (None, _) => true,
            (Some(polled), Some(covers)) => at_or_before(polled, covers),
            (Some(_), None) => false,
        };
        if !contains {
            return false;
        }
        stopped.loads = stopped.loads.saturating_add(1);
        if stopped.ended.is_none() {
            return false;
        }
        self.commit();
        true
    }

    /// What was reported was said in a session that is over.
    pub(crate) fn forget_reports(&mut self) {
        if let Some(stopped) = &mut self.stopped {
            stopped.loads = 0;
        }
    }

    /// Nobody reports loads any more: MIGRATION_PASS has to do. True if it commits the stop.
    pub(crate) fn trust_pass(&mut self) -> bool {
        let passed = |stopped: &Stopped| stopped.ended.is_some_and(|ended| ended.pass);
        let commits = self.stopped.as_ref().is_some_and(passed);
        if commits {
            self.commit();
        }
        commits
    }

    fn commit(&mut self) {
        self.entering = false;
        self.polled = None;
        if let Some(stopped) = &mut self.stopped {
            stopped.ended = None;
            stopped.loads = stopped.loads.saturating_sub(1);
            stopped.committed = true;
        }
    }

    /// The ring runs, and the monitor has reported everything before. True from here on until
    /// [`Stops::goes_on`] while a report may still come.
    pub(crate) fn ring_runs(&mut self, now: Ticks) -> bool {
        self.entering = false;
        self.stopped.as_mut().is_some_and(|stopped| {
            let waits = stopped.ended.is_some() && !stopped.committed;
            stopped.runs = waits.then(|| stopped.runs.unwrap_or(now));
            waits
        })
    }

    /// Whether a report is awaited for longer than `patience`.
    pub(crate) fn is_overdue(&self, now: Ticks, patience: Ticks) -> bool {
        self.stopped
            .and_then(|stopped| stopped.runs)
            .is_some_and(|since| now.saturating_sub(since) >= patience)
    }

    /// The ring is polled from now on, in this epoch. What it says of the stop before: whether the SVM
    /// has loaded the PVM's state since; `None` where there was none.
    pub(crate) fn goes_on(&mut self, epoch: u32) -> Option<bool> {
        let stopped = self.stopped.take()?;
        self.polled = Some(epoch);
        Some(stopped.committed)
    }
}
