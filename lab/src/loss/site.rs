//! A pair, or an unprotected guest, behind a wire of its own.
//!
//! In: a load, a wire's kind, a seed. Out: what the load came to and what the wire did meanwhile.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use super::load::{self, Done, Load};
use super::plan::Kind;
use crate::error::LabError;
use crate::interrupt;
use crate::net::{CLIENT_WIRE, ClientNet};
use crate::pair::{Host, Mode, Pair};
use crate::wire::{Carried, Direction, Wire};
use crate::workload::Family;

/// For this time nothing may pass before the next load begins, so that no connection of the last one is at work.
const SILENCE: Duration = Duration::from_millis(100);
/// No longer than this is waited for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A guest that has stood still takes its timers up again.
const AWAKE: Duration = Duration::from_millis(300);
/// From the client, towards the client.
const WAYS: [Direction; 2] = [Direction::Forth, Direction::Back];

/// One load on one wire.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// What the wire does meanwhile.
    pub kind: Kind,
    /// The load.
    pub load: Load,
    /// The addresses used.
    pub family: Family,
    /// How many pages.
    pub pages: usize,
    /// Of the wire's draws.
    pub seed: u64,
}

/// What a task came to.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    /// The load's own result.
    pub done: Done,
    /// Frames from the client, and towards it.
    pub frames: [Carried; 2],
}

/// A set-up and its client's wire. The wire ends first.
#[derive(Debug)]
pub struct Site {
    wire: Wire,
    /// The set-up.
    pub pair: Pair,
}

impl Site {
    /// Boots it; its wire is clean.
    ///
    /// # Errors
    /// As [`Pair::start`], [`LabError::Wire`].
    pub fn start(mode: &Mode, host: &Host) -> Result<Self, LabError> {
        let net = ClientNet::wired()?;
        let wire = Wire::join(&net.wire()?, CLIENT_WIRE, 0)?;
        let pair = Pair::start_on(net, mode, host, true)?;
        Ok(Self { wire, pair })
    }

    /// As [`Client::run`].
    ///
    /// # Errors
    /// As [`Client::run`].
    pub fn run(&self, task: Task) -> Result<Figure, LabError> {
        self.client().run(task)
    }

    fn client(&self) -> Client<'_> {
        Client {
            wire: &self.wire,
            net: &self.pair.net,
        }
    }

    /// Frames that the wire lost though its impairment did not ask for it.
    pub fn dropped(&self) -> u64 {
        WAYS.map(|way| self.wire.carried(way).dropped).iter().sum()
    }
}

/// What a client's thread needs of a site.
struct Client<'a> {
    wire: &'a Wire,
    net: &'a ClientNet,
}

impl Client<'_> {
    /// Does `task`; the wire is clean again when it returns, and nothing passes any more.
    ///
    /// # Errors
    /// [`LabError::Interrupted`], [`LabError::Namespace`]. A load that fails is in the figure.
    fn run(&self, task: Task) -> Result<Figure, LabError> {
        self.set(task.kind, task.seed);
        let before = WAYS.map(|way| self.wire.carried(way));
        let done = self
            .net
            .enter(|| Ok(load::run(task.load, task.family, task.pages)?))?;
        let after = WAYS.map(|way| self.wire.carried(way));
        self.set(Kind::Clean, 0);
        self.settle()?;
        Ok(Figure {
            done,
            frames: [0, 1].map(|way| after[way].since(before[way])),
        })
    }

    fn set(&self, kind: Kind, seed: u64) {
        for (way, impairment) in WAYS.into_iter().zip(kind.impairments()) {
            let seed = match way {
                Direction::Forth => seed,
                Direction::Back => !seed,
            };
            self.wire.begin(way, impairment, seed);
        }
    }

    fn settle(&self) -> Result<(), LabError> {
        let passed = || WAYS.map(|way| self.wire.carried(way).passed);
        let (start, mut last) = (Instant::now(), (passed(), Instant::now()));
        while last.1.elapsed() < SILENCE && start.elapsed() < PATIENCE {
            interrupt::sleep(SILENCE / 10)?;
            let now = passed();
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        Ok(())
    }
}

/// Two unprotected guests that do the same at the same time.
#[derive(Debug)]
pub struct Beside {
    sites: [Site; 2],
    /// What is between them and the network polls all the time, so they stand still until it is their turn.
    rests: bool,
}

impl Beside {
    /// Boots them, each set up as `mode` says.
    ///
    /// # Errors
    /// As [`Site::start`] and [`Pair::rest`].
    pub fn start(mode: &Mode, host: &Host) -> Result<Self, LabError> {
        let rests = *mode == Mode::Unprotected;
        let start = || {
            let site = Site::start(mode, host)?;
            if rests {
                site.pair.rest()?;
            }
            Ok::<_, LabError>(site)
        };
        let sites = [start()?, start()?];
        Ok(Self { sites, rests })
    }

    /// Does `tasks` in turn, each at both guests at the same time; the figures are the first one's.
    ///
    /// # Errors
    /// As [`Site::run`] and [`Pair::rest`].
    pub fn run(&self, tasks: &[Task]) -> Result<Vec<Figure>, LabError> {
        if !self.rests {
            return self.run_awake(tasks);
        }
        for site in &self.sites {
            site.pair.wake()?;
        }
        interrupt::sleep(AWAKE)?;
        let figures = self.run_awake(tasks)?;
        for site in &self.sites {
            site.pair.rest()?;
        }
        Ok(figures)
    }

    fn run_awake(&self, tasks: &[Task]) -> Result<Vec<Figure>, LabError> {
        let [one, other] = &self.sites;
        let both = |&task: &Task| {
            let (one, other) = (one.client(), other.client());
            thread::scope(|scope| {
                let beside = scope.spawn(move || other.run(task));
                let figure = one.run(task);
                beside.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                figure
            })
        };
        tasks.iter().map(both).collect()
    }

    /// Asserts that every process still runs.
    ///
    /// # Errors
    /// As [`Pair::alive`].
    pub fn alive(&mut self) -> Result<(), LabError> {
        self.sites.iter_mut().try_for_each(|site| site.pair.alive())
    }

    /// As [`Site::dropped`], of both.
    pub fn dropped(&self) -> u64 {
        self.sites.iter().map(Site::dropped).sum()
    }
}

/// Why checkpoints were asked for, by the words of the node's log.
pub fn causes(log: &str) -> BTreeMap<String, usize> {
    let mut causes = BTreeMap::new();
    for line in log.lines() {
        let cause = line
            .split_once(": checkpoint: ")
            .and_then(|(_, rest)| rest.split_once(','));
        if let Some((cause, _)) = cause {
            *causes.entry(cause.to_owned()).or_default() += 1;
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_read_from_the_log() {
        let log = "dpdk-colo: info: ready\n\
            dpdk-colo: info: pair 0: divergence: ack_ahead in a flow, epoch 1\n\
            dpdk-colo: info: pair 0: checkpoint: ack_ahead, STOP 0.4 ms after the request, RESUME 9.1 ms later\n\
            dpdk-colo: info: pair 0: checkpoint: missing_secondary, STOP 0.4 ms after the request, RESUME 9.1 ms later\n\
            dpdk-colo: info: pair 0: checkpoint: ack_ahead, STOP 0.4 ms after the request, RESUME 9.1 ms later\n";
        let causes = causes(log);
        assert_eq!(causes.len(), 2);
        assert_eq!(causes["ack_ahead"], 2);
        assert_eq!(causes["missing_secondary"], 1);
    }
}
