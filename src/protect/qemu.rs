//! What a node knows of its VM's QEMU, and the events by which it learns that.

/// The state of a VM's migration, as far as it says who may speak for the VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Migration {
    /// There was none, or one is under way that is not COLO yet.
    #[default]
    None,
    /// `colo`: the VM is one of a pair.
    Colo,
    /// `completed`. Out of `colo` it says that somebody decided that this VM goes on.
    Completed,
    /// `failed` or `cancelled`. Out of `colo` it says nothing of the other VM.
    Broken,
}

/// What a QEMU monitor reports to a node, in the order in which QEMU said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QemuEvent {
    /// The monitor answers; what it said before is lost.
    Connected {
        /// State of the VM's migration.
        migration: Migration,
        /// The VM runs.
        running: bool,
        /// In COLO this VM is the primary one, whatever the node began as.
        leads: bool,
    },
    /// The monitor is gone.
    Disconnected,
    /// STOP: the VM stopped, after its rings did.
    Stop,
    /// MIGRATION_PASS, which QEMU up to 11.0 emits inside a checkpoint.
    Pass,
    /// The secondary's VM was stopped when it was asked why, after its last STOP.
    StoppedFor {
        /// Run state `colo`: for a load, by QEMU's own decision.
        load: bool,
    },
    /// RESUME: the VM runs again, before its rings do.
    Resume,
    /// MIGRATION.
    Migration(Migration),
    /// COLO_EXIT: QEMU takes no more checkpoints.
    ColoExit,
    /// The state some time after the guest's ring was found to run and the monitor to answer, which
    /// a node asks for whenever both have come true. It comes behind every earlier event.
    Barrier {
        /// Stops of the ring when the question was asked.
        stops: u32,
        /// State of the VM's migration.
        migration: Migration,
        /// The VM runs.
        running: bool,
    },
    /// The answer to a question of the secondary's ([`Secondary::next_question`]). It comes behind every
    /// earlier event.
    ///
    /// [`Secondary::next_question`]: super::Secondary::next_question
    Answered {
        /// Number of the question.
        question: u32,
        /// The VM runs.
        running: bool,
    },
    /// The guest's ring was found to run, and there is no monitor to ask what for.
    StartedWithoutMonitor {
        /// Stops of the ring by then.
        stops: u32,
    },
}

/// The VM's QEMU, as its monitor has described it.
#[derive(Debug, Default)]
pub(super) struct Qemu {
    connected: bool,
    migration: Migration,
}

impl Qemu {
    /// The monitor answers.
    pub(crate) fn connected(&mut self) {
        self.connected = true;
    }

    /// The monitor is gone.
    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
    }

    /// Whether the monitor answers.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// The state of the VM's migration is this now. Returns what it was.
    pub(crate) fn migrated(&mut self, migration: Migration) -> Migration {
        std::mem::replace(&mut self.migration, migration)
    }

    /// State of the VM's migration.
    pub(crate) fn migration(&self) -> Migration {
        self.migration
    }

    /// Whether the VM is one of a pair.
    pub(crate) fn in_colo(&self) -> bool {
        self.migration == Migration::Colo
    }

    /// Whether QEMU takes commands that concern the pair.
    pub(crate) fn takes_commands(&self) -> bool {
        self.connected && self.in_colo()
    }
}
