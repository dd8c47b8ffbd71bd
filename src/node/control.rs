//! The control thread: monitors, statistics, divergence records, the log.

mod advice;
mod backlog;
mod fencing;
mod heartbeat;
mod link;
mod metrics;
mod offsets;
mod orders;
mod pair;
mod poll_interval;
mod server;
mod service;
mod socket;
mod starvation;
mod waits;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, Timespec, poll};

pub(crate) use heartbeat::{HeartbeatUdpError, ProgressReports};
pub(crate) use metrics::{MetricsError, MetricsListener, MetricsServer};
pub(crate) use pair::{ControlPair, GuestEvent, guest_events};
pub(crate) use server::Server;
pub(crate) use socket::{ControlSocket, ControlSocketError};

use self::orders::PostedOrder;
use self::service::Service;
use super::NodeError;
use super::clock::Clock;
use super::signals::Signals;
use crate::cli::Options;
use crate::config::{ProcessSettings, Settings, reload};
use crate::control::{Order, PairStatus};
use crate::dpdk::telemetry::{self, TelemetryCommand};
use crate::dpdk::{Eal, Mempool};
use crate::observability::counters::Counter;
use crate::observability::latency::Recorder;
use crate::observability::log::Log;
use crate::observability::outlet::Outlet;
use crate::observability::report::{DEFAULT_LIMIT, Reports};
use crate::observability::summary::{MempoolSummary, Summary};
use crate::observability::table::Table;
use crate::observability::telemetry as figures;

/// How often the states and histograms are collected.
const COLLECT: Duration = Duration::from_millis(100);
/// How long the program waits at its end for the reader of stdout.
const STDOUT_WAIT: Duration = Duration::from_secs(1);

/// What the control thread shares with DPDK's telemetry thread and the control socket's.
struct SharedStats {
    pairs: Vec<pair::Figures>,
    pools: Vec<(String, Mempool)>,
    started: Instant,
}

impl SharedStats {
    /// All pairs. The control thread waits for a copy of one pair's figures at most.
    fn summary(stats: &Mutex<Self>) -> Summary {
        let mut pairs = Vec::new();
        loop {
            let stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
            let (number, elapsed) = (pairs.len(), stats.started.elapsed());
            let Some(figures) = stats.pairs.get(number).map(pair::Figures::copy) else {
                return Summary::new(elapsed, pairs);
            };
            let mempools = stats.mempools(number);
            drop(stats);
            let mut summary = figures.summary(elapsed);
            summary.mempools = mempools;
            pairs.push(summary);
        }
    }

    /// The mempools of a pair.
    fn mempools(&self, number: usize) -> BTreeMap<String, MempoolSummary> {
        let own = format!("{number}.");
        let pools = self.pools.iter();
        let pools = pools.filter_map(|(name, pool)| Some((name.strip_prefix(&own)?, pool)));
        let summary = |pool: &Mempool| MempoolSummary {
            size: pool.size().into(),
            in_use: pool.in_use().into(),
        };
        pools
            .map(|(name, pool)| (name.to_owned(), summary(pool)))
            .collect()
    }
}

/// Keeps this thread off the CPUs of the poll cores, where there are others.
pub(crate) fn keep_off(poll_cpus: &[usize]) {
    let Some(all) = core_affinity::get_core_ids() else {
        return;
    };
    if let Some(core) = all.into_iter().find(|core| !poll_cpus.contains(&core.id)) {
        core_affinity::set_for_current(core);
    }
}

/// The control thread's work.
pub(crate) struct Control {
    pairs: Vec<ControlPair>,
    /// Of each pair, so that one does not keep another from being heard.
    logs: Vec<Log>,
    stats: Arc<Mutex<SharedStats>>,
    reports: Option<Reports>,
    settings: ProcessSettings,
    clock: Clock,
    log: Log,
    orders: (Sender<PostedOrder>, Receiver<PostedOrder>),
    _telemetry: Vec<TelemetryCommand>,
}

/// What is left to do when the poll cores and the ports are gone.
pub(crate) struct Finish {
    stats: Arc<Mutex<SharedStats>>,
    settings: ProcessSettings,
    log: Log,
}

impl Control {
    /// Ready to run; telemetry answers from now on.
    pub(crate) fn new(
        eal: &Eal,
        settings: &ProcessSettings,
        mut pairs: Vec<ControlPair>,
        pools: Vec<(String, Mempool)>,
        clock: Clock,
        log: Log,
    ) -> Result<Self, NodeError> {
        let reports = settings
            .report_dir
            .as_deref()
            .map(|dir| Reports::open(dir, DEFAULT_LIMIT))
            .transpose()?;
        let mut figures: Vec<pair::Figures> = pairs.iter_mut().map(ControlPair::figures).collect();
        if reports.is_some() {
            figures.iter_mut().for_each(pair::Figures::show_records);
        }
        let stats = Arc::new(Mutex::new(SharedStats {
            pairs: figures,
            pools,
            started: Instant::now(),
        }));
        let register = |command: figures::Command| {
            let shown = Arc::clone(&stats);
            telemetry::register(eal, command.path, command.help, move |parameter| {
                let summary = SharedStats::summary(&shown);
                command.answer(&summary, parameter)
            })
        };
        let commands = figures::COMMANDS.into_iter().map(register);
        let commands = commands.collect::<Result<_, _>>()?;
        let logs = pairs.iter().map(|pair| log.of(pair.name())).collect();
        Ok(Self {
            pairs,
            logs,
            stats,
            reports,
            settings: settings.clone(),
            clock,
            log,
            orders: orders::orders(),
            _telemetry: commands,
        })
    }

    /// What serves the control socket, on a thread of its own.
    pub(crate) fn server(&self, socket: ControlSocket, facts: serde_json::Value) -> Server {
        let (orders, _) = &self.orders;
        Server::new(
            socket,
            Arc::clone(&self.stats),
            orders.clone(),
            self.settings.clone(),
            self.log.clone(),
            facts,
        )
    }

    /// What serves the metrics, on a thread of its own.
    pub(super) fn metrics(&self, listener: MetricsListener) -> MetricsServer {
        MetricsServer::new(listener, Arc::clone(&self.stats), self.log.clone())
    }

    /// Begins what operators have ordered.
    fn carry_out_orders(&mut self, now: Instant) {
        // Before later orders, which join them.
        for number in 0..self.pairs.len() {
            for waiting in self.pairs[number].take_fenced() {
                let status = self.status(number, now);
                self.pairs[number].go_on_fenced(waiting, &status, now, &self.logs[number]);
            }
        }
        while let Ok(posted) = self.orders.1.try_recv() {
            let number = posted.pair;
            if number < self.pairs.len() && posted.claim.take() {
                let status = self.status(number, now);
                if let Order::SetTimeout(timeout) = posted.order {
                    // Who has the reply finds it in force.
                    let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
                    stats.pairs[number].set_timeout(timeout);
                }
                self.pairs[number].carry_out(posted, &status, now, self.clock, &self.logs[number]);
            }
        }
    }

    /// A pair at this moment.
    fn status(&mut self, number: usize, now: Instant) -> PairStatus {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = &mut stats.pairs[number];
        self.pairs[number].show_facts(now, figures);
        figures.status(now)
    }

    /// SIGHUP: reads the command line's configuration again and applies what it changes, all of it or nothing.
    fn read_again(&mut self) {
        let now = Settings {
            process: self.settings.clone(),
            pairs: self
                .pairs
                .iter()
                .map(|pair| pair.settings().clone())
                .collect(),
        };
        let then = match Options::again() {
            Ok(then) => then,
            Err(error) => {
                return self.log.alert(format_args!(
                    "SIGHUP: the configuration cannot be read again, and nothing is changed: {error}"
                ));
            }
        };
        match reload::changes(&now, &then) {
            Ok(timeouts) if timeouts.is_empty() => {
                self.log.info(format_args!(
                    "SIGHUP: the configuration was read again, and nothing in it has changed"
                ));
            }
            Ok(timeouts) => {
                for (pair, timeout) in timeouts {
                    self.pairs[pair].set_timeout(timeout, self.clock, &self.logs[pair]);
                }
                self.log.info(format_args!(
                    "SIGHUP: the configuration was read again and applied"
                ));
            }
            Err(fixed) => self.log.alert(format_args!(
                "SIGHUP: nothing is changed, because this needs a restart of the node: {fixed}"
            )),
        }
    }

    /// Runs until a signal ends the program.
    pub(super) fn run(mut self, signals: &Signals) -> Result<Finish, NodeError> {
        let mut service = Service::from_env(Instant::now());
        service.ready();
        self.log.info(format_args!("ready"));
        let has_monitor = self.pairs.iter().any(ControlPair::has_monitor);
        let period = poll_interval::begin(has_monitor, self.settings.idle_sleep);
        for (pair, log) in self.pairs.iter().zip(&self.logs) {
            pair.warn_of_trust(log);
        }
        let mut table = Table::new(std::io::IsTerminal::is_terminal(&std::io::stdout()));
        let (mut collected, mut printed) = (Instant::now(), Instant::now());
        let mut stdout = self
            .settings
            .stats_period
            .map(|_| Outlet::new("colo-table", std::io::stdout()))
            .transpose()?;
        while !signals.stop.load(Ordering::Relaxed) {
            self.wait(period);
            if signals.hangup.swap(false, Ordering::Relaxed) {
                self.read_again();
            }
            if signals.restart.swap(false, Ordering::Relaxed) {
                for (pair, log) in self.pairs.iter_mut().zip(&self.logs) {
                    pair.announce_restart("SIGUSR1", log);
                }
            }
            let now = Instant::now();
            self.carry_out_orders(now);
            for (number, pair) in self.pairs.iter_mut().enumerate() {
                // Not for longer: what the pair writes to a disk meanwhile would keep telemetry and the socket waiting.
                let figures = |act: &mut dyn FnMut(&mut pair::Figures)| {
                    let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
                    act(&mut stats.pairs[number]);
                };
                pair.work(
                    now,
                    self.clock,
                    &self.logs[number],
                    self.reports.as_mut(),
                    figures,
                );
            }
            if now.duration_since(collected) >= COLLECT {
                collected = now;
                self.log.tell_left_out(now);
                let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
                let pairs = self.pairs.iter_mut().zip(&mut stats.pairs);
                for ((pair, figures), log) in pairs.zip(&self.logs) {
                    figures.collect();
                    pair.tell_state(figures, log);
                    pair.tell_waits(now, figures, log);
                    pair.show_facts(now, figures);
                }
                let cores = stats.pairs.iter().flat_map(pair::Figures::rounds);
                service.report_progress(cores, now, &self.log);
                if service.wants_status(now) {
                    let pairs: Vec<_> = stats.pairs.iter().map(|pair| pair.status(now)).collect();
                    service.status(&pairs, now);
                }
            }
            if let (Some(period), Some(out)) = (self.settings.stats_period, &stdout)
                && now.duration_since(printed) >= period
            {
                printed = now;
                let summary = SharedStats::summary(&self.stats);
                // One that finds no room is counted.
                let _ = out.say(table.next(&summary).into_bytes());
                if !self.heeds(out) {
                    stdout = None;
                }
            }
        }
        for (pair, log) in self.pairs.iter_mut().zip(&self.logs) {
            pair.end(log);
        }
        if let Some(out) = stdout {
            out.drain(STDOUT_WAIT);
        }
        service.stopping();
        Ok(Finish {
            stats: self.stats,
            settings: self.settings,
            log: self.log,
        })
    }

    /// Says what has become of the tables before; false where nobody reads any more.
    fn heeds(&self, out: &Outlet) -> bool {
        let lost = out.take_lost();
        if lost > 0 {
            self.log.warning(
                "stdout",
                format_args!("--stats-period: nobody reads stdout; {lost} tables are lost"),
            );
        }
        let Some(fault) = out.take_fault() else {
            return true;
        };
        let closed = fault.kind() == ErrorKind::BrokenPipe;
        let what = match closed {
            true => "no more tables are printed",
            false => "this table is lost",
        };
        self.log.warning(
            "stdout",
            format_args!(
                "--stats-period: stdout takes nothing: {fault}; {what}, telemetry goes on with {}",
                figures::STATS
            ),
        );
        !closed
    }

    /// Sleeps until a socket has something to say or the poll cores are to be looked at.
    fn wait(&self, time: Duration) {
        let mut polled: Vec<PollFd<'_>> =
            self.pairs.iter().flat_map(ControlPair::poll_fds).collect();
        let timeout = Timespec::try_from(time).ok();
        // An interrupted wait is as good as one that is over.
        let _ = poll(&mut polled, timeout.as_ref());
    }
}

impl Finish {
    /// Writes the summary and says what was left.
    pub(super) fn complete(self, mut recorders: Vec<Recorder>) -> Result<(), NodeError> {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        for (figures, recorder) in stats.pairs.iter_mut().zip(&mut recorders) {
            figures.finish(recorder);
        }
        drop(stats);
        let summary = SharedStats::summary(&self.stats);
        for pair in summary.pairs() {
            let held = pair.value(Counter::Held);
            if held > 0 {
                self.log.warning(
                    "held",
                    format_args!(
                        "pair {}: {held} frames of the PVM were held at the end and have not left; \
                         clients retransmit what they miss",
                        pair.name
                    ),
                );
            }
        }
        if let Some(path) = &self.settings.summary {
            summary.write(path)?;
        }
        Ok(())
    }
}
