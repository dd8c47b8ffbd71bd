//! Wires a node from its settings: pools, ports, fences, mailboxes, state machines.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Receiver;

use super::NodeError;
use super::capture::{Recorder, Tap, monotonic_ns};
use super::clock::Clock;
use super::compare::{CompareNode, ComparePorts, PrimaryAndSecondary};
use super::control::{Control, ControlPair, GuestEvent, ProgressReports, guest_events};
use super::counts::PairMetrics;
use super::guest::{GuestAndLink, GuestNode, GuestPorts};
use super::mailbox;
use super::outlet::Outlet;
use super::poll::{Builder, Pair, PollCore};
use super::pools::{CACHED, IN_FLIGHT, Purpose, WINDOW};
use super::port_queue::{PortQueue, Queues};
use super::ports::Hardware;
use super::stall::{Patience, Stall};
use super::worker::{WorkerConfig, WorkerCore};
use crate::compare::{Limits, Numbers, Policy, Rule};
use crate::config::{
    self, FailoverMode, FailoverSettings, LinkKey, PairSettings, PolicyRule, PortName, PortRole,
    Protocol, RoleSettings, Settings, link_key,
};
use crate::dpdk::{Burst, Eal, Fence, LinkWatch, Mbuf, Mempool, Port, tsc};
use crate::dumps;
use crate::error_chain::chain;
use crate::link::Timing;
use crate::link::secure::{Guard, Identity, ProgressExchange, Role};
use crate::observability::capture::{CaptureError, Files, Room};
use crate::observability::log::Log;
use crate::observability::{counters, latency};
use crate::pair::{Ports, PrimaryDriver, SecondaryDriver, Times};
use crate::protect::{Failover, OnPeerLost, Primary, Secondary, Setup, Standalone};
use crate::spread::{self, DispatcherEnd, RedirectionTable, RingSizes};

/// Weights in the redirection table of the core that polls the ports and of each comparison worker. The polling core
/// compares no flow itself: to poll three ports costs it more than the workers' comparisons cost them.
const POLL_CORE_WEIGHT: u32 = 0;
const WORKER_WEIGHT: u32 = 1;
/// Connections that the rewriter knows.
const CONNECTIONS: usize = 65536;
/// The history's share of the kept S. It is small enough for a core's second-level cache, because each new S is written
/// into the mbuf of the oldest one.
const HISTORY_SHARE: usize = 16;
/// The share of the SVM's output that may be kept, to be sent again at a takeover.
const LAST_SHARE: usize = 8;

const RETRANSMIT: Duration = Duration::from_millis(5);
const REPEAT: Duration = Duration::from_secs(1);
/// The secondary's report of a load is late after this: its VM resumes before the primary's does, and a busy
/// control thread takes some milliseconds.
const EVIDENCE: Duration = Duration::from_millis(100);
/// Pause before a fencing or failover command is tried again.
const RETRY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(120);
/// Longest time that a Linux kernel waits for an answer after the last SYN or SYN+ACK that it sends: `tcp_syn_retries`
/// is 6, so that it sends the last of them 63 s after the first and gives up after 127 s; with a `tcp_synack_retries`
/// of 5 those are 31 s and 63 s.
const HALF_OPEN: Duration = Duration::from_secs(64);
/// How long the equal part of a long frame waits for the rest: about the lag between the VMs.
const PART_PATIENCE: Duration = Duration::from_millis(1);
/// How long input waits for a guest that takes none while nothing is protected.
const PATIENCE: Duration = Duration::from_millis(1);
/// Greatest age of the input that a VM gets at its takeover.
const LATEST: Duration = Duration::from_secs(1);

/// A node ready to run.
pub struct Wired {
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
pub fn wire(eal: &Eal, settings: &Settings, log: &Log) -> Result<Wired, NodeError> {
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
        let wired = wire_pair(eal, pair, number, clock, place, tap, &mut hardware)?;
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

/// The fence of a guest port, and the receiver of the port's stops and starts.
struct GuestWatch {
    fence: Fence,
    watch: LinkWatch,
    events: Receiver<GuestEvent>,
}

fn wire_pair(
    eal: &Eal,
    pair: &PairSettings,
    number: usize,
    clock: Clock,
    cores: Cores<'_>,
    tap: Tap,
    hardware: &mut Hardware,
) -> Result<WiredPair, NodeError> {
    let pool = |hardware: &Hardware, purpose| hardware.pools.of(number, purpose).clone();
    let (mail, control_mail) = mailbox::pair();
    let (writer, counters) = counters::published(pair.policy.len());
    let (recorder, latencies) = latency::exchange();
    let metrics = PairMetrics::new(writer, recorder);
    let mut cores_of_pair = PairCores::new(cores, counters);
    let mut watched = None;
    let cached = cores.comparing.len() * CACHED;
    let builder: Builder = match &pair.role {
        RoleSettings::Primary {
            guest,
            uplink,
            link,
            link_key,
            ..
        } => {
            let output = pool(hardware, Purpose::Output);
            let input = pool(hardware, Purpose::Input);
            let svm = pool(hardware, Purpose::Svm);
            let headers = pool(hardware, Purpose::Headers);
            let uplink = hardware.open(number, PortRole::Uplink, uplink, &input)?;
            let (link, link_mac) = open_link(number, link, &svm, hardware)?;
            let (guest, watch) = open_guest(number, pair, guest, &output, cores, hardware)?;
            let mut setup = setup(pair, clock, cores.idle_sleep, &output, &svm, cached)?;
            let guard = guard(pair, link_key, Role::Primary, link_mac, setup.link)?;
            let link = Queues {
                link: Some((guard, headers.clone())),
                ..link
            };
            setup.link_mac = link_mac;
            let fence = watch.fence.join().ok_or(NodeError::TooManyPairs)?;
            watched = Some((watch.watch, watch.events));
            let (ends, table) = cores_of_pair.spread(&setup);
            Box::new(move || {
                let guest = PortQueue::new(guest);
                let uplink = uplink_of(&guest, uplink);
                let mut ports = GuestPorts {
                    inputs: GuestAndLink {
                        guest,
                        link: PortQueue::new(link),
                        fence,
                        headers,
                        reserved: Burst::new(),
                    },
                    out: Some(uplink),
                    mail,
                    metrics,
                    tap,
                    clock,
                };
                let state = Primary::with_workers(setup, ends, table, tsc::now());
                let driver = PrimaryDriver::new(state, ports.quiesce(), times(clock));
                Pair::Guest(Box::new(GuestNode::new(driver, ports)))
            })
        }
        RoleSettings::Secondary {
            guest,
            link,
            link_key,
            uplink,
            ..
        } => {
            let output = pool(hardware, Purpose::Output);
            let input = pool(hardware, Purpose::Input);
            let uplink = match uplink {
                Some(uplink) => {
                    let network = pool(hardware, Purpose::Network);
                    Some(hardware.open(number, PortRole::Uplink, uplink, &network)?)
                }
                None => None,
            };
            let headers = pool(hardware, Purpose::Headers);
            let (link, link_mac) = open_link(number, link, &input, hardware)?;
            let (guest, watch) = open_guest(number, pair, guest, &output, cores, hardware)?;
            let mut setup = setup(pair, clock, cores.idle_sleep, &output, &input, 0)?;
            let guard = guard(pair, link_key, Role::Secondary, link_mac, setup.link)?;
            let link = Queues {
                link: Some((guard, headers.clone())),
                ..link
            };
            setup.window = setup
                .window
                .min((input.size() / 4).max(Burst::CAPACITY as u32 * 2));
            setup.link_mac = link_mac;
            setup.last_segments = uplink
                .as_ref()
                .map_or(0, |_| output.size() as usize / LAST_SHARE);
            let fence = watch.fence.join().ok_or(NodeError::TooManyPairs)?;
            watched = Some((watch.watch, watch.events));
            Box::new(move || {
                let guest = PortQueue::new(guest);
                let uplink = uplink.map(|uplink| uplink_of(&guest, uplink));
                let mut ports = GuestPorts {
                    inputs: GuestAndLink {
                        guest,
                        link: PortQueue::new(link),
                        fence,
                        headers,
                        reserved: Burst::new(),
                    },
                    out: uplink,
                    mail,
                    metrics,
                    tap,
                    clock,
                };
                let now = tsc::now();
                let standby = (ports.out.is_some()).then(|| Primary::new(setup.clone(), now));
                let state = Secondary::new(setup, now);
                let driver = SecondaryDriver::new(state, standby, ports.quiesce(), times(clock));
                Pair::Guest(Box::new(GuestNode::new(driver, ports)))
            })
        }
        RoleSettings::Compare {
            primary_in,
            secondary_in,
            out,
            raw_secondary,
            ..
        } => {
            let p = pool(hardware, Purpose::Primary);
            let s = pool(hardware, Purpose::Secondary);
            let mut setup = setup(pair, clock, cores.idle_sleep, &p, &s, cached)?;
            if *raw_secondary {
                setup.numbers = Numbers::OwnIsn;
            }
            let primary_in = hardware.open(number, PortRole::PrimaryIn, primary_in, &p)?;
            let secondary_in = hardware.open(number, PortRole::SecondaryIn, secondary_in, &s)?;
            let out = hardware.open(number, PortRole::Out, out, &s)?;
            let ports = [primary_in, secondary_in, out];
            let (ends, table) = cores_of_pair.spread(&setup);
            Box::new(move || {
                let [primary, secondary, out] = ports.map(PortQueue::new);
                let ports = ComparePorts {
                    inputs: PrimaryAndSecondary { primary, secondary },
                    out: Some(Outlet::new(out)),
                    mail,
                    metrics,
                    tap,
                    clock,
                };
                let state = Standalone::with_workers(setup, ends, table);
                Pair::Compare(Box::new(CompareNode::new(state, ports)))
            })
        }
    };
    let (_, core) = &cores_of_pair.counters[0];
    let reports = progress_reports(pair, core.clone())?;
    let mut control = ControlPair::new(
        pair.clone(),
        control_mail,
        cores_of_pair.counters,
        latencies,
        &eal.runtime_dir(),
    );
    if let Some((watch, events)) = watched {
        control.watch(watch, events);
    }
    if let Some(reports) = reports {
        control.report_progress(reports);
    }
    Ok(WiredPair {
        builder,
        workers: cores_of_pair.workers,
        control,
    })
}

/// The uplink of a node whose guest port this is.
fn uplink_of(guest: &PortQueue, uplink: Queues) -> Outlet {
    let mut uplink = PortQueue::new(uplink);
    uplink.feeds(guest.abilities());
    Outlet::new(uplink)
}

/// The times that a driver keeps.
fn times(clock: Clock) -> Times {
    Times {
        patience: clock.ticks(PATIENCE),
        latest: clock.ticks(LATEST),
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

/// Opens the guest port and fences it: its stop does not return before every core that polls it
/// has passed a quiescent point (rule R3).
fn open_guest(
    number: usize,
    pair: &PairSettings,
    name: &PortName,
    pool: &Mempool,
    cores: Cores<'_>,
    hardware: &mut Hardware,
) -> Result<(Queues, GuestWatch), NodeError> {
    let queues = hardware.open(number, PortRole::Guest, name, pool)?;
    let fence = Fence::new();
    let (teller, events) = guest_events();
    let stops = AtomicU32::new(0);
    let callback_fence = fence.clone();
    let (lcore, patience) = (cores.poll, cores.patience);
    let (log, pair) = (cores.log.of(&pair.name), pair.name.clone());
    let on_change = move |up: bool| {
        if !up {
            stops.fetch_add(1, Ordering::Relaxed);
            let mut stall = Stall::new(lcore, patience, &log, &pair);
            callback_fence.close_and_wait(|time| stall.lasts(time));
        }
        let stops = stops.load(Ordering::Relaxed);
        teller.tell(if up {
            GuestEvent::Started { stops }
        } else {
            GuestEvent::Stopped
        });
    };
    let watch = hardware
        .last()
        .map(|port| port.watch_link(on_change))
        .transpose()
        .map_err(|source| NodeError::Port {
            place: PortRole::Guest.key(),
            name: name.as_str().to_owned(),
            source,
        })?
        .ok_or(NodeError::TooManyPairs)?;
    Ok((
        queues,
        GuestWatch {
            fence,
            watch,
            events,
        },
    ))
}

/// Opens the link port, whose driver must send a header and a shared frame as one chain.
fn open_link(
    number: usize,
    name: &PortName,
    pool: &Mempool,
    hardware: &mut Hardware,
) -> Result<(Queues, [u8; 6]), NodeError> {
    let queues = hardware.open(number, PortRole::Link, name, pool)?;
    if !hardware.last().is_some_and(Port::sends_chains) {
        return Err(NodeError::Chains {
            name: name.as_str().to_owned(),
        });
    }
    Ok((queues, hardware.last().map_or([0; 6], Port::mac)))
}

/// The guard of the link.
fn guard(
    pair: &PairSettings,
    key: &LinkKey,
    role: Role,
    mac: [u8; 6],
    timing: Timing,
) -> Result<Guard, NodeError> {
    Ok(match key {
        LinkKey::Trusted => Guard::trusting(pair.vm_id, role, mac, timing),
        LinkKey::File(path) => {
            dumps::forbid()?;
            let identity = Identity {
                vm: pair.vm_id,
                role,
                mac,
                seed: link_key::random()?,
            };
            Guard::new(&link_key::read(path)?, &identity, timing)
        }
    })
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

fn setup(
    pair: &PairSettings,
    clock: Clock,
    idle_sleep: Option<Duration>,
    p: &Mempool,
    s: &Mempool,
    cached: usize,
) -> Result<Setup, NodeError> {
    let room = |pool: &Mempool, in_flight: usize| {
        (pool.size() as usize)
            .saturating_sub(in_flight)
            .max(pool.size() as usize / 4)
    };
    let hold = pair.hold_frames.get() as usize;
    let primary = hold.min(room(p, IN_FLIGHT));
    let secondary = hold.min(room(s, IN_FLIGHT + cached));
    let sealed = matches!(pair.role.link_key(), Some(LinkKey::File(_)));
    let boot = match sealed {
        true => u32::from_ne_bytes(link_key::random()?).max(1),
        false => boot_number(),
    };
    Ok(Setup {
        vm: pair.vm_id,
        boot,
        sealed,
        link_mac: [0; 6],
        window: WINDOW as u32,
        link: Timing {
            heartbeat: clock.ticks(pair.failover.heartbeat),
            retransmit: clock.ticks(RETRANSMIT),
            silence: clock.ticks(pair.failover.silence()),
            // A core that sleeps looks when it wakes.
            gap: clock.ticks(pair.failover.heartbeat + 2 * idle_sleep.unwrap_or_default()),
            stall: clock.ticks(pair.failover.peer_stall_limit),
            restart: clock.ticks(pair.failover.restart_limit),
        },
        limits: Limits {
            primary,
            secondary,
            history: secondary / HISTORY_SHARE,
            flows: pair.flows.get() as usize,
            timeout: clock.ticks(pair.compare_timeout),
            patience: clock.ticks(PART_PATIENCE),
            idle: clock.ticks(IDLE),
            half_open: clock.ticks(HALF_OPEN),
        },
        numbers: Numbers::Translated,
        policy: Policy::new(pair.policy.iter().flat_map(rules).collect()),
        repeat: clock.ticks(REPEAT),
        evidence: clock.ticks(EVIDENCE),
        connections: CONNECTIONS,
        failover: failover(&pair.failover, clock),
        millisecond: clock.ticks(Duration::from_millis(1)),
        last_segments: 0,
    })
}

fn failover(settings: &FailoverSettings, clock: Clock) -> Failover {
    Failover {
        on_peer_lost: match settings.on_peer_lost {
            config::OnPeerLost::Hold => OnPeerLost::Hold,
            config::OnPeerLost::Release => OnPeerLost::Release,
            config::OnPeerLost::Exec(_) => OnPeerLost::Fence,
        },
        auto: settings.mode == FailoverMode::Auto,
        retry: clock.ticks(RETRY),
    }
}

/// A number that grows with time, in steps of 16 ms. By it a peer knows that a restarted node is the later one. A guard
/// with a key knows that without a clock.
fn boot_number() -> u32 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    ((since.as_millis() >> 4) as u32).max(1)
}

/// A configured rule in the form that the comparator matches.
fn rules(rule: &PolicyRule) -> Option<Rule> {
    let protocols: &[u8] = match rule.protocol {
        Protocol::Tcp => &[6],
        Protocol::Udp => &[17],
        Protocol::Icmp => &[1, 58],
        Protocol::Any => &[],
    };
    Some(Rule {
        name: rule.name.as_str().to_owned(),
        protocols: protocols.to_vec(),
        port: rule.port.map(|port| port.get()),
        prefix: rule
            .prefix
            .map(|prefix| (prefix.address(), prefix.length())),
        vlan: rule.vlan,
    })
}
