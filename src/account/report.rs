//! The ranking of an account, as a program reads it. Keys, once there, stay.

use std::time::Duration;

use serde::Serialize;

use super::Totals;
use super::advice::{Help, help};
use super::checkpoint::Origin;
use super::cost::Cost;
use super::flows::Heavy;
use super::ports::heavier_first;
use super::service::{Direction, Service};

/// Reasons, ports and flows by what their checkpoints cost, the heaviest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Seconds of the interval that is covered.
    pub over_s: f64,
    /// All checkpoints of it.
    pub all: CostRow,
    /// By reason.
    pub reasons: Vec<ReasonRow>,
    /// By port.
    pub ports: Ports,
    /// By flow.
    pub flows: Flows,
}

/// What checkpoints cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CostRow {
    /// How many.
    pub checkpoints: u64,
    /// Milliseconds from STOP to RESUME, in all.
    pub stopped_ms: f64,
    /// The same for each hour of the interval.
    pub stopped_ms_per_hour: f64,
    /// Milliseconds from a request to STOP, in all.
    pub waited_ms: f64,
    /// Frames of the PVM that waited, in all.
    pub held_frames: u64,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReasonRow {
    /// Its word.
    pub reason: &'static str,
    /// What it cost.
    #[serde(flatten)]
    pub cost: CostRow,
    /// What would help, the best first.
    pub help: Vec<Help>,
}

/// Ports: the heaviest, and what is left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ports {
    /// The heaviest.
    pub listed: Vec<PortRow>,
    /// All others together.
    pub other: CostRow,
    /// Checkpoints of no flow.
    pub none: CostRow,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortRow {
    /// `tcp`, `udp` or another protocol.
    pub protocol: String,
    /// The service's port; `None` of a protocol without ports.
    pub port: Option<u16>,
    /// `served` by the guest or `used` by it.
    pub direction: Option<&'static str>,
    /// The reason with most of the time.
    pub reason: &'static str,
    /// What it cost.
    #[serde(flatten)]
    pub cost: CostRow,
    /// What would help, the best first.
    pub help: Vec<Help>,
}

/// Flows: the heaviest, and what is left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flows {
    /// The heaviest.
    pub listed: Vec<FlowRow>,
    /// All others together.
    pub other: CostRow,
    /// Milliseconds by which `stopped_ms` of a flow may be short at most.
    pub error_ms: f64,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowRow {
    /// Its addresses and ports, in the direction of the guest's output.
    pub flow: String,
    /// `served` by the guest or `used` by it.
    pub direction: Option<&'static str>,
    /// The reason with most of the time.
    pub reason: &'static str,
    /// What it certainly cost.
    #[serde(flatten)]
    pub cost: CostRow,
    /// The most that `stopped_ms` may be.
    pub at_most_ms: f64,
    /// What would help, the best first.
    pub help: Vec<Help>,
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// An interval that costs are for.
#[derive(Clone, Copy)]
struct Over(Duration);

impl Over {
    fn row(self, cost: Cost) -> CostRow {
        let hours = self.0.as_secs_f64() / 3600.0;
        let stopped = milliseconds(cost.stopped);
        CostRow {
            checkpoints: cost.checkpoints,
            stopped_ms: stopped,
            stopped_ms_per_hour: if hours > 0.0 { stopped / hours } else { 0.0 },
            waited_ms: milliseconds(cost.waited),
            held_frames: cost.held,
        }
    }

    fn reasons(self, totals: &Totals) -> Vec<ReasonRow> {
        let origins = Origin::all().map(|origin| (origin, totals.origins[origin.index()]));
        let mut seen: Vec<_> = origins.filter(|(_, cost)| cost.checkpoints > 0).collect();
        // Stable, so that equal ones keep the order of their numbers.
        seen.sort_by(|(_, a), (_, b)| heavier_first(a, b));
        let row = |(origin, cost): (Origin, Cost)| ReasonRow {
            reason: origin.word(),
            cost: self.row(cost),
            help: help(origin, None),
        };
        seen.into_iter().map(row).collect()
    }

    fn ports(self, totals: &Totals, most: usize) -> Ports {
        let heaviest = totals.ports.heaviest(most);
        let listed = sum(heaviest.iter().map(|(_, cost, _)| *cost));
        let row = |(service, cost, origin): (Service, Cost, Origin)| PortRow {
            protocol: service.protocol(),
            port: service.port(),
            direction: service.direction().map(Direction::word),
            reason: origin.word(),
            cost: self.row(cost),
            help: help(origin, Some(service)),
        };
        Ports {
            listed: heaviest.into_iter().map(row).collect(),
            other: self.row(totals.ports.all() - listed),
            none: self.row(totals.all - totals.ports.all()),
        }
    }

    fn flows(self, totals: &Totals, most: usize) -> Flows {
        let heaviest = totals.flows.heaviest(most);
        let listed = sum(heaviest.iter().map(|heavy| heavy.cost));
        let row = |heavy: Heavy| {
            let service = Service::of(&heavy.flow);
            FlowRow {
                flow: heavy.flow.to_string(),
                direction: service.direction().map(Direction::word),
                reason: heavy.origin.word(),
                cost: self.row(heavy.cost),
                at_most_ms: milliseconds(heavy.at_most),
                help: help(heavy.origin, Some(service)),
            }
        };
        Flows {
            listed: heaviest.into_iter().map(row).collect(),
            other: self.row(totals.flows.all() - listed),
            error_ms: milliseconds(totals.flows.error()),
        }
    }
}

fn sum(costs: impl Iterator<Item = Cost>) -> Cost {
    costs.fold(Cost::default(), |mut sum, cost| {
        sum += cost;
        sum
    })
}

impl Report {
    /// Of these totals, which cover this time; it lists `most` ports and flows.
    pub(super) fn new(totals: &Totals, over: Duration, most: usize) -> Self {
        let interval = Over(over);
        Self {
            over_s: over.as_secs_f64(),
            all: interval.row(totals.all),
            reasons: interval.reasons(totals),
            ports: interval.ports(totals, most),
            flows: interval.flows(totals, most),
        }
    }
}
