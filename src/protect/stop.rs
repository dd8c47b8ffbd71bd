//! What a stop of the PVM was for: a checkpoint, or something that the SVM knows nothing of.
//!
//! In: stops of the guest's ring, what the monitor says of the VM (STOP, MIGRATION_PASS, RESUME, the
//! barrier behind them). Out: whether the state went to the SVM. From its stop on the ring is not
//! polled until it runs again and a barrier has shown that all which the monitor had to tell until
//! then was told. So a RESUME that comes while frames are held ends a stop that came after all of
//! them were taken, however late the monitor and however often the VM or its driver stopped (rule
//! R3), and one that ends no checkpoint commits nothing (rule R9).

/// The ring has stopped, or was not seen to run yet.
#[derive(Clone, Copy, Debug, Default)]
struct Stopped {
    /// STOP was told and no RESUME since.
    stop: bool,
    /// MIGRATION_PASS was told since.
    pass: bool,
    /// The SVM has loaded the PVM's state since the ring stopped.
    committed: bool,
}

/// What a RESUME ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    /// No stop of the ring: a ring that runs stops before its VM does.
    Nothing,
    /// A stop in which the SVM has loaded the PVM's state.
    Checkpoint,
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
}

impl Stops {
    /// Of a VM whose ring was not seen to run. What its monitor has to tell is not known yet.
    pub fn new() -> Self {
        Self {
            number: 0,
            stopped: Some(Stopped::default()),
            entering: false,
        }
    }

    /// Of a VM whose ring has stopped so often and runs.
    pub fn running_after(number: u32) -> Self {
        Self {
            number,
            stopped: None,
            entering: false,
        }
    }

    /// Stops of the ring.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether the ring must not be polled.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether the VM is stopped. A ring that has stopped alone waits for the guest's driver, which
    /// may take its time.
    pub fn is_vm_stopped(&self) -> bool {
        self.stopped.is_some_and(|stopped| stopped.stop)
    }

    /// Whether a stop lasts that has committed nothing so far.
    pub fn is_unexplained(&self) -> bool {
        self.stopped.is_some_and(|stopped| !stopped.committed)
    }

    /// The ring has stopped.
    pub fn ring_stopped(&mut self) {
        self.number = self.number.wrapping_add(1);
        self.stopped.get_or_insert_default().committed = false;
    }

    /// STOP.
    pub fn vm_stopped(&mut self) {
        self.tell(true);
    }

    /// The monitor is gone: another stop may be the one that the next RESUME ends.
    pub fn forget(&mut self) {
        self.tell(false);
    }

    fn tell(&mut self, stop: bool) {
        if let Some(stopped) = &mut self.stopped {
            (stopped.stop, stopped.pass) = (stop, false);
        }
    }

    /// MIGRATION_PASS.
    pub fn pass(&mut self) {
        if let Some(stopped) = &mut self.stopped {
            stopped.pass = stopped.stop;
        }
    }

    /// The VM's migration came to COLO, so that the next RESUME needs no MIGRATION_PASS.
    pub fn enter_colo(&mut self) {
        self.entering = true;
    }

    /// The monitor answers: when the VM entered COLO is not known any more.
    pub fn connected(&mut self) {
        self.entering = false;
    }

    /// RESUME.
    pub fn resumed(&mut self, takes: Takes) -> Resumed {
        let Some(was) = self.stopped else {
            return Resumed::Nothing;
        };
        let committed = was.stop
            && match takes {
                Takes::Nothing => false,
                Takes::First => true,
                Takes::Checkpoints => was.pass || self.entering,
            };
        self.entering &= !committed;
        self.stopped = Some(Stopped {
            committed,
            ..Stopped::default()
        });
        if committed {
            Resumed::Checkpoint
        } else {
            Resumed::Other
        }
    }

    /// The ring runs, and the monitor has told all that came before. Gives back whether the SVM has
    /// loaded the PVM's state since it stopped, if it did.
    pub fn goes_on(&mut self) -> Option<bool> {
        self.entering = false;
        Some(self.stopped.take()?.committed)
    }
}
