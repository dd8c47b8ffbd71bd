//! Exact sums by service.

use std::collections::BTreeMap;

use super::checkpoint::Origin;
use super::cost::Cost;
use super::majority::Majority;
use super::service::Service;

/// The sums. Its size is bounded by the number of services.
#[derive(Clone, Debug, Default)]
pub(super) struct PortTable {
    rows: BTreeMap<Service, (Cost, Majority)>,
    all: Cost,
}

impl PortTable {
    pub(super) fn add(&mut self, service: Service, origin: Origin, cost: Cost) {
        self.all += cost;
        let fresh = (Cost::default(), Majority::new(origin, 0));
        let (sum, majority) = self.rows.entry(service).or_insert(fresh);
        *sum += cost;
        majority.add(origin, cost.stopped);
    }

    /// Of all services.
    pub(super) fn all(&self) -> Cost {
        self.all
    }

    /// The `most` heaviest, the heaviest first.
    pub(super) fn heaviest(&self, most: usize) -> Vec<(Service, Cost, Origin)> {
        let rows = self.rows.iter();
        let mut rows: Vec<_> = rows
            .map(|(service, (cost, majority))| (*service, *cost, majority.origin()))
            .collect();
        // Stable, so that of equal ones the lower service comes first.
        rows.sort_by(|(_, a, _), (_, b, _)| heavier_first(a, b));
        rows.truncate(most);
        rows
    }
}

/// The order of a list.
pub(super) fn heavier_first(a: &Cost, b: &Cost) -> std::cmp::Ordering {
    (b.stopped, b.checkpoints).cmp(&(a.stopped, a.checkpoints))
}
