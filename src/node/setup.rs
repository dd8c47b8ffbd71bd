//! Wires a node from its settings: pools, ports, fences, mailboxes, state machines.

mod guest;
mod ports;
mod standalone;
mod values;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::NodeError;
use super::capture::{Recorder, Tap, monotonic_ns};
use super::clock::Clock;
use super::control::{Control, ControlPair, ProgressReports};
use super::counts::PairMetrics;
use super::host::NodeHost;
use super::mailbox::{self, PollEnd};
use super::outlet::Outlet;
use super::poll::{Builder, PollCore};
use super::pools::Purpose;
use super::port_queue::Queues;
use super::ports::Hardware;
use super::stall::Patience;
use super::worker::{WorkerConfig, WorkerCore};
use crate::compare::Numbers;
use crate::config::{LinkKey, PairSettings, PortName, PortRole, RoleSettings, Settings, link_key};
use crate::dpdk::{Eal, Mbuf, Mempool, tsc};
use crate::error_chain::chain;
use crate::link::secure::ProgressExchange;
use crate::observability::capture::{CaptureError, Files, Room};
use crate::observability::log::Log;
use crate::observability::{counters, latency};
use crate::protect::Setup;
use crate::spread::{self, DispatcherEnd, RedirectionTable, RingSizes};
use ports::GuestWatch;

/// Weights in the redirection table of the core that polls the ports and of each comparison worker. The polling core
/// compares no flow itself: to poll three ports costs it more than the workers' comparisons cost them.
const POLL_CORE_WEIGHT: u32 = 0;
const WORKER_WEIGHT: u32 = 1;

/// A node ready to run.
pub(crate) struct Wired {
    /// For the cores that poll ports, by their lcores.
    pub poll: Vec<(u32, PollCore)>,
    /// For the cores that compare only, by their lcores.
    pub workers: Vec<(u32, WorkerCore)>,
    /// For the control thread.
    pub control: Control,
    /// For the thread that writes captures; without `--capture` it ends at once.
    pub recorder: Recorder,
    /// To be closed at the end.
    pub hardware: Hardware,
}

/// A pair's tap. A node starts even if the disk is full, because a VM may have no network without the node.
fn tap(
    recorder: &mut Recorder,
    room: &Room,
    pair: &PairSettings,
    log: &Log,
) -> Result<Tap, CaptureError> {
    match Files::create(room, pair, monotonic_ns()) {
        Ok(files) => Ok(recorder.tap(files)),
        Err(error @ CaptureError::Open { .. }) => Err(error),
        Err(error @ (CaptureError::Full { .. } | CaptureError::Write { .. })) => {
            log.of(&pair.name)
                .error("capture", format_args!("{}", chain(&error)));
            Ok(Tap::off())
        }
    }
}

/// Opens everything that the settings name. It assigns the pairs to the worker lcores round-robin. Lcores that
/// get none compare for all pairs. Without worker lcores the main lcore polls.
pub(crate) fn wire(eal: &Eal, settings: &Settings, log: &Log) -> Result<Wired, NodeError> {
    let clock = Clock::new(tsc::hz(eal));
    let idle_sleep = settings.process.idle_sleep;
    let mut lcores = eal.worker_lcores();
    if lcores.is_empty() {
        lcores.push(eal.main_lcore());
    }
    let comparing = lcores.split_off(lcores.len().min(settings.pairs.len()));
    let mut poll: Vec<(u32, PollCore)> = lcores
        .iter()
        .map(|&lcore| {
            let pairs = Vec::new();
            let core = PollCore {
                pairs,
                clock,
                idle_sleep,
            };
            (lcore, core)
        })
        .collect();
    let mut workers: Vec<(u32, WorkerCore)> = comparing
        .iter()
        .map(|&lcore| {
            let workers = Vec::new();
            let core = WorkerCore {
                workers,
                clock,
                idle_sleep,
            };
            (lcore, core)
        })
        .collect();
    let mut hardware = Hardware::new(eal, settings, comparing.len(), log)?;
    let mut pairs = Vec::new();
    let mut recorder = Recorder::new(clock);
    let captures = match &settings.process.capture {
        Some(capture) => Some(Room::open(&capture.dir, capture.limit)?),
        None => None,
    };
    for (number, pair) in settings.pairs.iter().enumerate() {
        let tap = match &captures {
            Some(room) => tap(&mut recorder, room, pair, log)?,
            None => Tap::off(),
        };
        let cores = poll.len();
        let (lcore, core) = &mut poll[number % cores];
        let place = Cores {
            poll: *lcore,
            comparing: &comparing,
            idle_sleep,
            patience: Patience::new(&settings.process),
            log,
        };
        let site = Site {
            pair,
            number,
            clock,
            cores: place,
            hardware: &mut hardware,
        };
        let wired = wire_pair(eal, site, tap)?;
        core.pairs.push((number, wired.builder));
        pairs.push(wired.control);
        for ((_, worker), config) in workers.iter_mut().zip(wired.workers) {
            worker.workers.push(config);
        }
    }
    workers.retain(|(_, worker)| !worker.workers.is_empty());
    let control = Control::new(
        eal,
        &settings.process,
        pairs,
        hardware.pools.named(),
        clock,
        log.clone(),
    )?;
    Ok(Wired {
        poll,
        workers,
        control,
        recorder,
        hardware,
    })
}

/// The lcores that a pair runs on.
#[derive(Clone, Copy)]
struct Cores<'a> {
    poll: u32,
    comparing: &'a [u32],
    /// How long the one that polls sleeps.
    idle_sleep: Option<Duration>,
    /// With the one that polls, where QEMU waits for it.
    patience: Patience,
    log: &'a Log,
}

/// A pair ready to run.
struct WiredPair {
    builder: Builder,
    /// For each comparing core, in order.
    workers: Vec<WorkerConfig>,
    control: ControlPair,
}

/// What a pair is wired of.
struct Site<'a> {
    pair: &'a PairSettings,
    /// The pair's place among all.
    number: usize,
    clock: Clock,
    cores: Cores<'a>,
    hardware: &'a mut Hardware,
}

impl Site<'_> {
    /// The pair's pool for a purpose.
    fn pool(&self, purpose: Purpose) -> Mempool {
        self.hardware.pools.of(self.number, purpose).clone()
    }

    /// Opens one of the pair's ports.
    fn open(
        &mut self,
        place: PortRole,
        name: &PortName,
        pool: &Mempool,
    ) -> Result<Queues, NodeError> {
        let (queues, _) = self.hardware.open(self.number, place, name, pool)?;
        Ok(queues)
    }
}

/// What a pair's loop needs beside its ports.
struct Ends {
    mail: PollEnd,
    metrics: PairMetrics,
    tap: Tap,
    clock: Clock,
}

impl Ends {
    /// With the ports that it takes frames from, and the one to the network.
    fn host<I>(self, inputs: I, out: Option<Outlet>) -> NodeHost<I> {
        NodeHost {
            inputs,
            out,
            mail: self.mail,
            metrics: self.metrics,
            tap: self.tap,
            clock: self.clock,
        }
    }
}

fn wire_pair(eal: &Eal, mut site: Site<'_>, tap: Tap) -> Result<WiredPair, NodeError> {
    let pair = site.pair;
    let (mail, control_mail) = mailbox::pair();
    let (writer, counters) = counters::published(pair.policy.len());
    let (recorder, latencies) = latency::exchange();
    let ends = Ends {
        mail,
        metrics: PairMetrics::new(writer, recorder),
        tap,
        clock: site.clock,
    };
    let mut cores = PairCores::new(site.cores, counters);
    let (builder, watch) = wire_role(&mut site, ends, &mut cores)?;
    let (_, core) = &cores.counters[0];
    let reports = progress_reports(pair, core.clone())?;
    let mut control = ControlPair::new(
        pair.clone(),
        control_mail,
        cores.counters,
        latencies,
        &eal.runtime_dir(),
    );
    if let Some(GuestWatch { watch, events }) = watch {
        control.watch(watch, events);
    }
    if let Some(reports) = reports {
        control.report_progress(reports);
    }
    Ok(WiredPair {
        builder,
        workers: cores.workers,
        control,
    })
}

/// Opens the ports that the pair's role has.
fn wire_role(
    site: &mut Site<'_>,
    ends: Ends,
    cores: &mut PairCores<'_>,
) -> Result<(Builder, Option<GuestWatch>), NodeError> {
    match &site.pair.role {
        RoleSettings::Primary {
            guest,
            uplink,
            link,
            link_key,
            ..
        } => {
            let names = guest::Names {
                guest,
                uplink: Some(uplink),
                link,
                link_key,
            };
            let (builder, watch) = guest::primary(site, names, ends, cores)?;
            Ok((builder, Some(watch)))
        }
        RoleSettings::Secondary {
            guest,
            link,
            link_key,
            uplink,
            ..
        } => {
            let names = guest::Names {
                guest,
                uplink: uplink.as_ref(),
                link,
                link_key,
            };
            let (builder, watch) = guest::secondary(site, names, ends)?;
            Ok((builder, Some(watch)))
        }
        RoleSettings::Compare {
            primary_in,
            secondary_in,
            out,
            raw_secondary,
            ..
        } => {
            let names = standalone::Names {
                primary_in,
                secondary_in,
                out,
            };
            let numbers = match raw_secondary {
                true => Numbers::OwnIsn,
                false => Numbers::Translated,
            };
            let builder = standalone::standalone(site, names, numbers, ends, cores)?;
            Ok((builder, None))
        }
    }
}

/// The cores of one pair.
struct PairCores<'a> {
    comparing: &'a [u32],
    /// The counters of each lcore, the polling core's first.
    counters: Vec<(u32, counters::Reader)>,
    workers: Vec<WorkerConfig>,
}

impl<'a> PairCores<'a> {
    /// The polling core alone.
    fn new(cores: Cores<'a>, counters: counters::Reader) -> Self {
        Self {
            comparing: cores.comparing,
            counters: vec![(cores.poll, counters)],
            workers: Vec::new(),
        }
    }

    /// Gives the pair a worker on each comparing core. Returns the dispatcher's ends of their rings, and the
    /// redirection table.
    fn spread(&mut self, setup: &Setup) -> (Vec<DispatcherEnd<Mbuf>>, RedirectionTable) {
        let weights: Vec<u32> = std::iter::once(POLL_CORE_WEIGHT)
            .chain(self.comparing.iter().map(|_| WORKER_WEIGHT))
            .collect();
        let table = match self.comparing {
            [] => RedirectionTable::even(1, 1),
            _ => RedirectionTable::weighted(&weights, RandomState::new().hash_one(setup.boot)),
        };
        let ends = self.comparing.iter().enumerate().map(|(i, lcore)| {
            let (dispatcher_end, end) = spread::rings(RingSizes::default());
            let (writer, counters) = counters::published(0);
            self.counters.push((*lcore, counters));
            self.workers.push(WorkerConfig {
                end,
                limits: table.limits(&setup.limits, i + 1),
                numbers: setup.numbers,
                policy: setup.policy.clone(),
                writer,
            });
            dispatcher_end
        });
        (ends.collect(), table)
    }
}

/// The exchange of the control threads, where one is configured.
fn progress_reports(
    pair: &PairSettings,
    core: counters::Reader,
) -> Result<Option<ProgressReports>, NodeError> {
    let (Some(ends), Some(LinkKey::File(path))) =
        (pair.failover.heartbeat_udp, pair.role.link_key())
    else {
        return Ok(None);
    };
    let ring = link_key::read(path)?;
    let exchange = ProgressExchange::new(&ring, pair.vm_id, &link_key::random()?);
    let reports = ProgressReports::open(ends, exchange, pair.failover.heartbeat, core)?;
    Ok(Some(reports))
}
