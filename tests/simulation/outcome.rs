//! What runs came to, and whether what a family is about happened in any of them.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::profile::{Fault, Profile};

/// What a node has sent of its own accord.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spoken {
    /// S that were sent once more at a takeover.
    pub repeated: u64,
    pub announcements: u64,
    pub reminders: u64,
}

impl AddAssign for Spoken {
    fn add_assign(&mut self, other: Self) {
        self.repeated += other.repeated;
        self.announcements += other.announcements;
        self.reminders += other.reminders;
    }
}

/// What one run came to, or several.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Checkpoints that the nodes asked for, and checkpoints in all.
    pub requested: u64,
    pub checkpoints: u64,
    pub released_equal: u64,
    /// SVMs that went on, and PVMs that did.
    pub takeovers: u64,
    pub survivals: u64,
    /// Leads that were given up and taken back.
    pub taken_back: u64,
    /// Frames that were lost between node and client, and P that overtook others.
    pub lost: u64,
    pub overtook: u64,
    pub spoken: Spoken,
    /// Reminders that a client heeded.
    pub reminded: u64,
    /// Frames that came while nobody served the VM, and that waited for it at its takeover.
    pub backlog: u64,
    /// Rounds in which the node's thread did not run for a while.
    pub preempted: u64,
    /// Fencing commands that a node ran.
    pub fences: u64,
    /// What checkpoints were asked for.
    pub causes: BTreeMap<&'static str, u64>,
    /// Of these, how many for a connection that lived when protection began, in the first epoch.
    pub midstream: u64,
    /// What went wrong, as far as it had an effect.
    pub faults: BTreeMap<Fault, u64>,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.requested += other.requested;
        self.checkpoints += other.checkpoints;
        self.released_equal += other.released_equal;
        self.takeovers += other.takeovers;
        self.survivals += other.survivals;
        self.taken_back += other.taken_back;
        self.lost += other.lost;
        self.overtook += other.overtook;
        self.spoken += other.spoken;
        self.reminded += other.reminded;
        self.backlog += other.backlog;
        self.preempted += other.preempted;
        self.fences += other.fences;
        self.midstream += other.midstream;
        for (cause, n) in other.causes {
            *self.causes.entry(cause).or_default() += n;
        }
        for (fault, n) in other.faults {
            *self.faults.entry(fault).or_default() += n;
        }
    }
}

impl Outcome {
    pub fn happened(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Every fault of the profile happened, and what it is to provoke did.
    pub fn check_coverage(&self, profile: &Profile) {
        let covered = |what: &str, n: u64| assert!(n > 0, "no run had {what}: {self:?}");
        for fault in profile.faults {
            let n = self.faults.get(fault).copied().unwrap_or(0);
            covered(&format!("a {fault:?}"), n);
        }
        covered("a release of equal output", self.released_equal);
        if profile.divergent > 0 {
            covered("a checkpoint asked for", self.requested);
        }
        if profile.loss > 0 {
            covered("a frame lost on its way to or from a client", self.lost);
        }
        if profile.preempt > 0 {
            covered("a preempted round", self.preempted);
        }
        let lets = |fault: Fault| profile.faults.contains(&fault);
        if lets(Fault::KillPrimary)
            || lets(Fault::Split)
            || lets(Fault::Usurp)
            || lets(Fault::Switchover)
        {
            covered("a takeover", self.takeovers);
            covered("an announcement", self.spoken.announcements);
            covered("a segment sent once more", self.spoken.repeated);
            covered("a reminder", self.spoken.reminders);
        }
        if lets(Fault::KillPrimary) {
            covered("input in the standby backlog", self.backlog);
        }
        if lets(Fault::KillSecondary) || lets(Fault::Unprotect) {
            covered("a PVM that went on", self.survivals);
        }
    }
}
