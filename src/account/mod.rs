//! Why a VM makes checkpoints and what each costs: totals by reason, port and flow (`docs/why.md`).
//!
//! In: checkpoints as they end, with their times. Out: a [`Report`] that ranks reasons, ports and flows by the time for
//! which the guest stood still, and says what would help. Memory is bounded.

#![warn(unreachable_pub)]

mod advice;
mod checkpoint;
mod cost;
mod flows;
mod journal;
mod majority;
mod ports;
mod report;
mod service;

use std::time::Duration;

pub use advice::{Help, Means};
pub use checkpoint::{Checkpoint, Origin};
pub use cost::Cost;
pub use report::{CostRow, FlowRow, Flows, PortRow, Ports, ReasonRow, Report};
pub use service::{Direction, Service, Transport};

use checkpoint::ORIGINS;
use flows::HeavyFlows;
use journal::Journal;
use ports::PortTable;

/// Bounds of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows that are counted by themselves.
    pub flows: usize,
    /// Checkpoints that are kept one by one.
    pub journal: usize,
    /// Ports and flows that a report lists.
    pub listed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 1024,
            journal: 32_768,
            listed: 100,
        }
    }
}

/// Sums over checkpoints.
#[derive(Clone, Debug)]
struct Totals {
    all: Cost,
    origins: [Cost; ORIGINS],
    ports: PortTable,
    flows: HeavyFlows,
}

impl Totals {
    fn new(limits: Limits) -> Self {
        Self {
            all: Cost::default(),
            origins: [Cost::default(); ORIGINS],
            ports: PortTable::default(),
            flows: HeavyFlows::new(limits.flows),
        }
    }

    fn add(&mut self, checkpoint: &Checkpoint) {
        let cost = Cost::of(checkpoint);
        self.all += cost;
        self.origins[checkpoint.origin.index()] += cost;
        if let Some(flow) = checkpoint.flow {
            self.ports.add(Service::of(&flow), checkpoint.origin, cost);
            self.flows.add(flow, checkpoint.origin, cost);
        }
    }
}

/// All checkpoints of one VM since it began to lead.
#[derive(Clone, Debug)]
pub struct Account {
    limits: Limits,
    totals: Totals,
    journal: Journal,
}

impl Account {
    /// No checkpoint yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            totals: Totals::new(limits),
            journal: Journal::new(limits.journal),
        }
    }

    /// Takes in a checkpoint that has ended `at` this time since the account began. Checkpoints come in their order.
    pub fn add(&mut self, at: Duration, checkpoint: Checkpoint) {
        self.totals.add(&checkpoint);
        self.journal.push(at, checkpoint);
    }

    /// What a report at `now` is made of: all checkpoints, or those within `since` before now. This copies what it needs,
    /// so that the account can go on while the report is made.
    pub fn extract(&self, now: Duration, since: Option<Duration>) -> Extract {
        let recent = since.filter(|since| *since < now);
        let source = match recent {
            None => Source::All(Box::new(Report::new(&self.totals, now, self.limits.listed))),
            Some(since) => {
                let from = self.journal.reaches(now - since);
                Source::Recent {
                    over: now.saturating_sub(from),
                    checkpoints: self.journal.after(from),
                }
            }
        };
        Extract {
            limits: self.limits,
            source,
        }
    }
}

#[derive(Clone, Debug)]
enum Source {
    All(Box<Report>),
    Recent {
        over: Duration,
        checkpoints: Vec<Checkpoint>,
    },
}

/// A part of an account, for a report.
#[derive(Clone, Debug)]
pub struct Extract {
    limits: Limits,
    source: Source,
}

impl Extract {
    /// The report.
    pub fn report(self) -> Report {
        match self.source {
            Source::All(report) => *report,
            Source::Recent { over, checkpoints } => {
                let mut totals = Totals::new(self.limits);
                checkpoints.iter().for_each(|it| totals.add(it));
                Report::new(&totals, over, self.limits.listed)
            }
        }
    }
}
