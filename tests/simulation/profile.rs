//! What may go wrong in a run, and what the runs of a family are like.

use dpdk_colo::protect::{Failover, OnPeerLost};

use crate::qemu::Release;
use crate::setup::MS;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    LossyLink,
    DeadLink,
    CutMonitor,
    CutSecondaryMonitor,
    SlowMonitor,
    ResetDriver,
    OperatorStop,
    OperatorBlink,
    RestartPrimary,
    RestartSecondary,
    /// A node's poll core gets no CPU, and its control thread reports so to the peer.
    Starve,
    StallSecondary,
    StallPrimary,
    BlockUplink,
    BlockLink,
    /// A node finds no memory for headers and frames of its own.
    NoHeaders,
    Checkpoint,
    TwoCheckpoints,
    FailOver,
    FailedCheckpoint,
    /// QEMU or the whole host dies, in a phase of a checkpoint or between two.
    KillPrimary,
    KillSecondary,
    /// An operator stops the SVM, and continues it later.
    OperatorStopSecondary,
    /// An operator continues the PVM, or the SVM, inside a checkpoint.
    ContInside,
    ContInsideSecondary,
    /// The link is dead for long, and nobody dies.
    Partition,
    /// The same, and an operator lets the SVM go on.
    Split,
    /// An operator lets the SVM go on beside a PVM that lives and lags. The link works, but the frames that tell who
    /// leads are lost for a while.
    Usurp,
    /// The lead moves as planned.
    Switchover,
    /// The protection ends as planned.
    Unprotect,
}

/// What a family of runs is like.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub faults: &'static [Fault],
    /// Of a hundred questions, how many ask the machine itself.
    pub divergent: usize,
    pub calls: usize,
    /// Longest delay of an event of the monitor.
    pub monitor: usize,
    /// Longest delay of the link.
    pub link: usize,
    /// The secondary's control thread cannot tell a load from a reset; the SVM may then get input
    /// of an old epoch unnoticed.
    pub confused: bool,
    /// The guest's driver may come up after COLO has begun.
    pub late_driver: bool,
    /// The SVM's ring never runs.
    pub mute: bool,
    /// Between node and client one frame in this many is lost in some runs, either way; 0: none ever.
    pub loss: usize,
    /// The release of both QEMUs; `None`: any.
    pub release: Option<Release>,
    pub failover: Failover,
    /// One in this many of a node's calls to its ports finds that its thread did not run for a while; 0: none.
    pub preempt: usize,
}

impl Profile {
    pub const CALM: Self = Self {
        faults: &[],
        divergent: 0,
        calls: 6,
        monitor: 200,
        link: 100,
        confused: false,
        late_driver: false,
        mute: false,
        loss: 0,
        release: None,
        failover: Failover {
            on_peer_lost: OnPeerLost::Hold,
            auto: false,
            retry: MS,
        },
        preempt: 0,
    };

    /// Whether the SVM's ring may stop on its own account. That may hide that the SVM had run under
    /// an old number, and so got input again.
    pub fn disturbs_the_secondary(&self) -> bool {
        let disturbing = [
            Fault::ResetDriver,
            Fault::OperatorBlink,
            Fault::OperatorStopSecondary,
            Fault::ContInsideSecondary,
            Fault::RestartSecondary,
        ];
        self.faults.iter().any(|fault| disturbing.contains(fault))
    }
}
