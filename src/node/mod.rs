//! The running node: ports, poll loop, control thread, and the wiring of the pure modules to them.
//!
//! A poll core runs its VM pairs to completion. [`poll`] is the loop. [`guest`] and [`compare`] give a pair's driver
//! ([`crate::pair`]) its ports ([`port_queue`]), and [`host`] gives it the rest. Cores without a pair of their own compare
//! for the others ([`worker`]; see [`crate::spread`]).
//!
//! The [`control`] thread does everything that may block, allocate or make a system call: the monitors, the
//! statistics, the divergence records, the log. [`mailbox`] rings connect it to the poll cores. One poll core owns a
//! pair's state, and one comparator a flow's, so the cores need no lock.

mod anchor;
mod capture;
mod capture_desk;
mod check;
mod clock;
mod compare;
mod control;
mod counts;
mod eal_words;
mod egress;
mod facts;
mod fragments;
mod guest;
mod host;
mod idle_sleep;
mod link_frames;
mod mailbox;
mod outlet;
mod poll;
mod pool_headroom;
mod pools;
mod port_queue;
mod ports;
mod round_timer;
mod sealing;
mod setup;
mod shared_port;
mod signals;
mod stall;
mod stamps;
mod worker;

pub use self::check::{Plan, check};
pub use self::signals::Signals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use self::control::{
    ControlSocket, ControlSocketError, HeartbeatUdpError, MetricsError, MetricsListener,
};
use self::poll::PollCore;
use self::worker::WorkerCore;
use crate::config::{KeyFileError, Settings};
use crate::dpdk::{Eal, MempoolError, PortError, lcore, telemetry, vhost};
use crate::observability::capture::CaptureError;
use crate::observability::latency::Recorder;
use crate::observability::log::Log;
use crate::observability::report::ReportError;
use crate::observability::summary::SummaryError;
use crate::plan::DeviceFault;

/// Why a node cannot run, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A port that does not exist: the command line is wrong.
    #[error(
        "--{place} {name}: no such port; the ports are: {known} (add it with an EAL option, such as --vdev){}",
        if .complaints.is_empty() { String::new() } else { format!("; EAL says: {}", .complaints) }
    )]
    UnknownPort {
        /// Which port it was to be.
        place: &'static str,
        /// Its name.
        name: String,
        /// The ports that exist.
        known: String,
        /// What EAL said of devices that it could not make.
        complaints: String,
    },
    /// A port that cannot be started.
    #[error("--{place} {name}: {source}")]
    Port {
        /// Which port it was to be.
        place: &'static str,
        /// Its name.
        name: String,
        /// What the driver says.
        source: PortError,
    },
    /// A port whose device would lose frames, or cannot have the MTU asked for.
    #[error("--{place} {name}: {source}")]
    Device {
        /// Which port it was to be.
        place: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: DeviceFault,
    },
    /// A port that cannot be part of a link.
    #[error(
        "--link {name}: the driver cannot send chained mbufs, which the mirror needs; use virtio_user, vhost or a NIC that can"
    )]
    Chains {
        /// Its name.
        name: String,
    },
    /// The link's key cannot be had.
    #[error(transparent)]
    LinkKey(#[from] KeyFileError),
    /// The control threads' datagrams have no way.
    #[error(transparent)]
    HeartbeatUdp(#[from] HeartbeatUdpError),
    /// The control socket cannot be made.
    #[error(transparent)]
    ControlSocket(#[from] ControlSocketError),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Too little memory for the pools of all pairs.
    #[error(
        "the packet buffers of {pairs} VM pair{} need {least} MB at the least, EAL has {free} MB for them; \
         give EAL {whole} MB (-m {whole} with --no-huge, else hugepages), or run fewer pairs in this process",
        if *.pairs == 1 { "" } else { "s" }
    )]
    Memory {
        /// VM pairs.
        pairs: usize,
        /// Megabytes for the smallest pools that make sense.
        least: usize,
        /// Megabytes that are free.
        free: usize,
        /// Megabytes that EAL needs for all that is asked for.
        whole: usize,
    },
    /// A pool cannot be made.
    #[error(
        "packet buffers cannot be made; see EAL's messages above, and if they speak of memory, give it more (-m N with \
         --no-huge, else hugepages)"
    )]
    Pool(#[from] MempoolError),
    /// The records' directory cannot be used.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The capture's files cannot be made.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The summary cannot be written.
    #[error(transparent)]
    Summary(#[from] SummaryError),
    /// A telemetry command cannot be registered.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    /// The poll core cannot be started.
    #[error(transparent)]
    Lcore(#[from] lcore::LcoreError),
    /// More fences than a process has.
    #[error("too many VM pairs for one process")]
    TooManyPairs,
    /// A thread cannot be started, or the signals not be caught.
    #[error("the operating system refuses: {0}")]
    System(#[from] std::io::Error),
    /// The poll core or the control thread ended by a panic, which is a bug.
    #[error("the {thread} thread failed; this is a bug, please report it with the lines above")]
    Panicked {
        /// Which thread.
        thread: &'static str,
    },
}

impl NodeError {
    /// Whether the command line is to blame.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            NodeError::UnknownPort { .. }
                | NodeError::Device { .. }
                | NodeError::LinkKey(_)
                | NodeError::ControlSocket(_)
                | NodeError::Metrics(_)
        )
    }
}

/// Runs a node until it is asked to end.
pub fn run(eal: &Eal, settings: &Settings, signals: &Signals, log: &Log) -> Result<(), NodeError> {
    let stop = Arc::clone(&signals.stop);
    let socket = ControlSocket::wanted(&settings.process.control, &eal.runtime_dir(), log)?;
    let metrics = settings.process.metrics.as_ref();
    let metrics = metrics.map(MetricsListener::open).transpose()?;
    let setup::Wired {
        poll,
        workers,
        control,
        recorder,
        mut hardware,
    } = setup::wire(eal, settings, log)?;
    if let Err(error) = vhost::look_at_sockets(eal) {
        log.warning(
            "vhost",
            format_args!("vhost ports may take a second to be seen: {error}"),
        );
    }
    let lcores = poll.iter().map(|(lcore, _)| lcore);
    let lcores = lcores.chain(workers.iter().map(|(lcore, _)| lcore));
    let busy_cpus: Vec<usize> = lcores.flat_map(|lcore| eal.cpus_of(*lcore)).collect();
    let server = socket.map(|socket| {
        let mut node = facts::running(eal, settings, &hardware);
        node.control = Some(socket.path().display().to_string());
        let facts = serde_json::to_value(&node).unwrap_or_default();
        control.server(socket, facts, recorder.orders(), &eal.runtime_dir())
    });
    let metrics = metrics.map(|listener| control.metrics(listener));
    let control_thread = {
        let (signals, busy_cpus, log) = (signals.clone(), busy_cpus.clone(), log.clone());
        thread::Builder::new()
            .name("colo-control".into())
            .spawn(move || {
                control::keep_off(&busy_cpus);
                let outcome = log
                    .detach()
                    .map_err(NodeError::from)
                    .and_then(|()| control.run(&signals));
                signals.stop.store(true, Ordering::Relaxed);
                outcome
            })?
    };
    let socket_thread = match server {
        None => None,
        Some(server) => {
            let (stop, busy_cpus) = (Arc::clone(&stop), busy_cpus.clone());
            let thread = thread::Builder::new().name("colo-socket".into());
            let serve = move || {
                control::keep_off(&busy_cpus);
                server.run(&stop);
            };
            Some(thread.spawn(serve)?)
        }
    };
    let metrics_thread = match metrics {
        None => None,
        Some(server) => {
            let (stop, busy_cpus) = (Arc::clone(&stop), busy_cpus.clone());
            let thread = thread::Builder::new().name("colo-metrics".into());
            let serve = move || {
                control::keep_off(&busy_cpus);
                server.run(&stop);
            };
            Some(thread.spawn(serve)?)
        }
    };
    let recorder_thread = {
        let (stop, log) = (Arc::clone(&stop), log.clone());
        thread::Builder::new()
            .name("colo-capture".into())
            .spawn(move || {
                control::keep_off(&busy_cpus);
                recorder.run(&stop, &log);
            })?
    };
    let polled = run_cores(eal, poll, workers, &stop);
    stop.store(true, Ordering::Relaxed);
    let controlled = control_thread
        .join()
        .map_err(|_| NodeError::Panicked { thread: "control" });
    // The poll cores have dropped the taps, so the recorder ends.
    recorder_thread
        .join()
        .map_err(|_| NodeError::Panicked { thread: "capture" })?;
    if let Some(thread) = socket_thread {
        thread
            .join()
            .map_err(|_| NodeError::Panicked { thread: "socket" })?;
    }
    if let Some(thread) = metrics_thread {
        thread
            .join()
            .map_err(|_| NodeError::Panicked { thread: "metrics" })?;
    }
    // The poll cores have dropped the queues, so the ports can be stopped.
    hardware.close();
    controlled??.complete(polled?)?;
    Ok(())
}

/// Sets the flag when it is dropped, also by a panic, so that no core runs on alone.
struct StopAtEnd(Arc<AtomicBool>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs all cores until they have ended. Returns the pairs' histograms in the pairs' order.
fn run_cores(
    eal: &Eal,
    poll: Vec<(u32, PollCore)>,
    workers: Vec<(u32, WorkerCore)>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Recorder>, NodeError> {
    // A worker ends after the cores that it works for, so an error here leaves no worker behind.
    let compare = workers
        .into_iter()
        .map(|(lcore, core)| {
            let end = StopAtEnd(Arc::clone(stop));
            lcore::launch(eal, lcore, move || {
                let _end = end;
                core.run();
            })
        })
        .collect::<Result<Vec<_>, _>>();
    let (mut running, mut recorders) = (Vec::new(), Vec::new());
    let mut failed = None;
    for (lcore, core) in poll {
        if lcore == eal.main_lcore() {
            recorders.extend(core.run(stop));
            continue;
        }
        let end = StopAtEnd(Arc::clone(stop));
        match lcore::launch(eal, lcore, move || core.run(&end.0)) {
            Ok(core) => running.push(core),
            Err(error) => failed = Some(error),
        }
    }
    if failed.is_some() || compare.is_err() {
        stop.store(true, Ordering::Relaxed);
    }
    let mut panicked = None;
    for core in running {
        match core.join() {
            Ok(theirs) => recorders.extend(theirs),
            Err(_) => panicked = Some("poll"),
        }
    }
    for core in compare? {
        if core.join().is_err() {
            panicked = Some("worker");
        }
    }
    if let Some(thread) = panicked {
        return Err(NodeError::Panicked { thread });
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    recorders.sort_by_key(|(number, _)| *number);
    Ok(recorders
        .into_iter()
        .map(|(_, recorder)| recorder)
        .collect())
}
