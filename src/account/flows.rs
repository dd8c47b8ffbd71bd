//! The flows that cost most, in bounded memory (Metwally, Agrawal, El Abbadi 2005: space-saving, with times as weights).
//!
//! A flow without a place takes that of the flow with the least time, and inherits this time as what it may have cost
//! before. So the time of a flow is between what was counted since it came and that plus what it inherited. All places
//! together have the time of all flows, so the least one has no more than that divided by the number of places.

use std::collections::HashMap;

use super::checkpoint::Origin;
use super::cost::Cost;
use super::majority::Majority;
use super::ports::heavier_first;
use crate::flow::FlowKey;

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Counted since the flow came.
    cost: Cost,
    /// What it may have cost before, at most: nanoseconds from STOP to RESUME.
    inherited: u64,
    majority: Majority,
    /// Grows from flow to flow, so that a choice between equal ones is not left to the map's order.
    number: u64,
}

impl Place {
    fn at_most(&self) -> u64 {
        self.cost.stopped.saturating_add(self.inherited)
    }
}

/// A flow that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heavy {
    pub(super) flow: FlowKey,
    /// What it certainly cost.
    pub(super) cost: Cost,
    /// The most that it may have cost, in nanoseconds from STOP to RESUME.
    pub(super) at_most: u64,
    pub(super) origin: Origin,
}

/// The heaviest flows.
#[derive(Clone, Debug)]
pub(super) struct HeavyFlows {
    places: HashMap<FlowKey, Place>,
    most: usize,
    next: u64,
    all: Cost,
}

impl HeavyFlows {
    pub(super) fn new(most: usize) -> Self {
        debug_assert!(most > 0, "one place at least");
        Self {
            places: HashMap::new(),
            most,
            next: 0,
            all: Cost::default(),
        }
    }

    pub(super) fn add(&mut self, flow: FlowKey, origin: Origin, cost: Cost) {
        self.all += cost;
        if let Some(place) = self.places.get_mut(&flow) {
            place.cost += cost;
            place.majority.add(origin, cost.stopped);
            return;
        }
        let inherited = match self.places.len() < self.most {
            true => 0,
            false => self.evict(),
        };
        let place = Place {
            cost,
            inherited,
            majority: Majority::new(origin, cost.stopped),
            number: self.next,
        };
        self.next += 1;
        self.places.insert(flow, place);
    }

    /// Makes a place free. Returns the time that its flow may have cost at most.
    fn evict(&mut self) -> u64 {
        let least = self
            .places
            .iter()
            .min_by_key(|(_, place)| (place.at_most(), place.number));
        let Some((flow, at_most)) = least.map(|(flow, place)| (*flow, place.at_most())) else {
            return 0;
        };
        self.places.remove(&flow);
        at_most
    }

    /// Of all flows.
    pub(super) fn all(&self) -> Cost {
        self.all
    }

    /// Nanoseconds by which a flow's time may be short at most.
    pub(super) fn error(&self) -> u64 {
        let inherited = self.places.values().map(|place| place.inherited);
        inherited.max().unwrap_or(0)
    }

    /// The `most` heaviest, by what they certainly cost, the heaviest first.
    pub(super) fn heaviest(&self, most: usize) -> Vec<Heavy> {
        let mut places: Vec<_> = self.places.iter().collect();
        places.sort_by(|(_, a), (_, b)| {
            heavier_first(&a.cost, &b.cost).then(a.number.cmp(&b.number))
        });
        places.truncate(most);
        let heavy = |(flow, place): (&FlowKey, &Place)| Heavy {
            flow: *flow,
            cost: place.cost,
            at_most: place.at_most(),
            origin: place.majority.origin(),
        };
        places.into_iter().map(heavy).collect()
    }
}
