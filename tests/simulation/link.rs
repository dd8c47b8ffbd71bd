//! One direction of the network between the nodes.

use std::collections::VecDeque;

use dpdk_colo::frame::Ticks;

use crate::frame::Origin;
use crate::rng::Rng;

/// A frame under way; the oracle knows by its origin what it carries.
pub struct Flight {
    arrives: Ticks,
    pub bytes: Vec<u8>,
    pub origin: Origin,
}

pub struct Channel {
    flights: VecDeque<Flight>,
    delay: usize,
    /// One in so many frames is lost; 0: none.
    pub loss: usize,
    /// Nothing passes before.
    pub dead_until: Ticks,
    rng: Rng,
}

impl Channel {
    pub fn new(seed: u64, delay: usize) -> Self {
        Self {
            flights: VecDeque::new(),
            delay,
            loss: 0,
            dead_until: 0,
            rng: Rng::new(seed),
        }
    }

    pub fn send(&mut self, bytes: Vec<u8>, origin: Origin, now: Ticks) {
        if now < self.dead_until || (self.loss > 0 && self.rng.one_in(self.loss)) {
            return;
        }
        let arrives = now + 5 + self.rng.below(self.delay) as Ticks;
        let flight = Flight {
            arrives,
            bytes,
            origin,
        };
        match self.flights.back() {
            // Now and then one frame overtakes another.
            Some(last)
                if last.arrives > arrives
                    && !self.rng.one_in(if self.loss > 0 { 20 } else { usize::MAX }) =>
            {
                let arrives = last.arrives;
                self.flights.push_back(Flight { arrives, ..flight });
            }
            _ => {
                let at = self.flights.partition_point(|f| f.arrives <= arrives);
                self.flights.insert(at, flight);
            }
        }
    }

    pub fn receive(&mut self, now: Ticks) -> Option<Flight> {
        let due = self.flights.front().is_some_and(|f| f.arrives <= now);
        if due { self.flights.pop_front() } else { None }
    }
}
