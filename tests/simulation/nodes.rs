//! The two nodes: the daemon's own drivers, over ports of queues.

use std::collections::VecDeque;

use dpdk_colo::frame::Ticks;
use dpdk_colo::pair::{PairDriver, PrimaryDriver, SecondaryDriver, Times, ToControl, ToPoll};
use dpdk_colo::protect::{Primary, Secondary, Setup, State};

use crate::frame::{Frames, Numbered, Owners};
use crate::ports::{Queues, SimPorts, Site};
use crate::setup::MS;

/// Time between two looks at what depends on time alone.
pub const TICK: Ticks = 50;

const TIMES: Times = Times {
    patience: MS,
    latest: 1_000 * MS,
};

pub struct Node {
    driver: PairDriver<Frames>,
    pub queues: Queues,
    next_tick: Ticks,
}

/// What a round came to.
#[derive(Default)]
pub struct Round {
    /// What left the uplink.
    pub sent: Vec<Vec<u8>>,
    /// What the node sends to its control thread.
    pub posted: Vec<ToControl<Numbered>>,
    /// The node's VM speaks for itself since this round.
    pub took_over: bool,
    /// When it was over.
    pub now: Ticks,
}

impl Node {
    pub fn primary(setup: Setup, owners: Owners, now: Ticks) -> Self {
        let driver = PrimaryDriver::new(Primary::new(setup, now), 0, TIMES);
        Self::new(driver.into(), owners)
    }

    pub fn secondary(setup: Setup, owners: Owners, now: Ticks) -> Self {
        let standby = Primary::new(setup.clone(), now);
        let driver = SecondaryDriver::new(Secondary::new(setup, now), Some(standby), 0, TIMES);
        Self::new(driver.into(), owners)
    }

    fn new(driver: PairDriver<Frames>, owners: Owners) -> Self {
        Self {
            driver,
            queues: Queues::new(owners),
            next_tick: 0,
        }
    }

    /// The state machine of a node whose VM speaks.
    pub fn speaks(&self) -> &Primary<Numbered> {
        self.driver.primary().expect("it is a primary").state()
    }

    /// The state machine of a node whose VM follows.
    pub fn follows(&self) -> &Secondary<Numbered> {
        self.driver.secondary().expect("it is a secondary").state()
    }

    /// The node's control thread sends it something of its own.
    pub fn tell(&mut self, message: ToPoll) {
        self.queues.inbox.push_back(message);
    }

    /// Frames in the node.
    pub fn frames(&self) -> usize {
        self.driver.frames() + self.queues.frames()
    }

    /// Frames that came for a VM that nobody served, and input that its ring has not taken.
    pub fn waiting_input(&self) -> usize {
        self.driver
            .primary()
            .map_or(0, PrimaryDriver::waiting_input)
    }

    pub fn is_protecting(&self) -> bool {
        matches!(self.speaks().state(), State::Protected | State::Uncertain)
    }

    /// One round, and what is due every now and then.
    pub fn poll(&mut self, site: Site<'_>, now: Ticks) -> Round {
        let was_secondary = self.driver.secondary().is_some();
        let before = stale(&self.driver);
        let mut ports = SimPorts::new(&mut self.queues, site, was_secondary, now);
        self.driver.round(&mut ports, now);
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.driver.tick(&mut ports, now);
        }
        let (mut round, oracle, heard) = ports.end();
        if !was_secondary {
            oracle.compared(&heard, stale(&self.driver) - before);
        }
        oracle.end_round(round.now);
        round.took_over = was_secondary && self.driver.primary().is_some();
        round
    }
}

/// S that a primary has dropped since they were of another epoch.
fn stale(driver: &PairDriver<Frames>) -> u64 {
    let primary = driver.primary();
    primary.map_or(0, |primary| primary.state().counts().stale)
}

/// Frames that wait, in order.
pub type Waiting = VecDeque<Vec<u8>>;
