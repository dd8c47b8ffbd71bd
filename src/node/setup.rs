//! From settings to a wired node: pools, ports, fences, mailboxes, state machines.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, unbounded};

use super::NodeError;
use super::capture::{Recorder, Tap, monotonic_ns};
use super::clock::Clock;
use super::compare::CompareNode;
use super::control::{Control, ControlPair, GuestEvent};
use super::counts::Tally;
use super::lane::{Lane, Queues};
use super::mailbox::{self, PollEnd};
use super::poll::{Builder, Pair, PollCore};
use super::ports::Hardware;
use super::primary::{self, PrimaryNode};
use super::secondary::{self, SecondaryNode};
use crate::compare::{Limits, Numbers, Policy, Rule};
use crate::config::{PairSettings, Place, PolicyRule, PortName, Protocol, RoleSettings, Settings};
use crate::dpdk::{Burst, Eal, Fence, LinkWatch, Mempool, Port, tsc};
use crate::link::Timing;
use crate::monitor::capture::Files;
use crate::monitor::log::Log;
use crate::monitor::{counters, latency};
use crate::protect::{Bare, Primary, Secondary, Setup};

/// Mbufs that rings, bursts and caches may hold besides what is held on purpose.
const IN_FLIGHT: usize = 4096;
/// Input frames that may wait for the SVM.
const WINDOW: usize = 2048;
/// Mbufs for headers and the link's own frames.
const HEADERS: usize = 4096;
/// Connections that the rewriter knows.
const CONNECTIONS: usize = 65536;
/// Of the S kept, the share that may be history.
const HISTORY_SHARE: usize = 4;

const HEARTBEAT: Duration = Duration::from_millis(10);
const RETRANSMIT: Duration = Duration::from_millis(5);
const SILENCE: Duration = Duration::from_millis(500);
const REPEAT: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(120);
/// How long input waits for a guest that takes none while nothing is protected.
const PATIENCE: Duration = Duration::from_millis(1);

/// A node ready to run.
pub struct Wired {
    /// For the poll core.
    pub poll: PollCore,
    /// For the control thread.
    pub control: Control,
    /// For the thread that writes captures; without `--capture` it ends at once.
    pub recorder: Recorder,
    /// To be closed at the end.
    pub hardware: Hardware,
}

/// Opens everything that the settings name.
pub fn wire(eal: &Eal, settings: &Settings, log: &Log) -> Result<Wired, NodeError> {
    let clock = Clock::new(tsc::hz(eal));
    let mut hardware = Hardware::new();
    let mut builders = Vec::new();
    let mut pairs = Vec::new();
    let mut recorder = Recorder::new(clock);
    for (number, pair) in settings.pairs.iter().enumerate() {
        let tap = match &settings.process.capture {
            Some(dir) => recorder.tap(Files::create(dir, pair, monotonic_ns())?),
            None => Tap::off(),
        };
        let (builder, control) = wire_pair(eal, pair, number, clock, tap, &mut hardware)?;
        builders.push(builder);
        pairs.push(control);
    }
    let poll = PollCore {
        pairs: builders,
        clock,
        idle_sleep: settings.process.idle_sleep,
    };
    let control = Control::new(
        eal,
        &settings.process,
        pairs,
        hardware.pools.clone(),
        clock,
        log.clone(),
    )?;
    Ok(Wired {
        poll,
        control,
        recorder,
        hardware,
    })
}

/// The fence of a guest port and who hears of its stops and starts.
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
    tap: Tap,
    hardware: &mut Hardware,
) -> Result<(Builder, ControlPair), NodeError> {
    let (mail, control_mail) = mailbox::pair();
    let (writer, counters) = counters::published(pair.policy.len());
    let (recorder, latencies) = latency::exchange();
    let tally = Tally::new(writer, recorder);
    let mut control = ControlPair::new(pair.clone(), control_mail, counters, latencies);
    let hold = pair.hold_frames.get() as usize;
    let builder: Builder = match &pair.role {
        RoleSettings::Primary {
            guest,
            uplink,
            link,
            ..
        } => {
            let output = hardware.frames(eal, format!("{number}.output"), hold + IN_FLIGHT)?;
            let input = hardware.frames(eal, format!("{number}.input"), IN_FLIGHT + WINDOW)?;
            let svm = hardware.frames(eal, format!("{number}.svm"), hold + IN_FLIGHT)?;
            let headers = hardware.headers(eal, format!("{number}.headers"), HEADERS)?;
            let uplink = hardware.open(eal, Place::Uplink, uplink, &input)?;
            let (link, link_mac) = open_link(eal, link, &svm, hardware)?;
            let (guest, watch) = open_guest(eal, guest, &output, hardware)?;
            let mut setup = setup(pair, clock, &output, &svm);
            setup.link_mac = link_mac;
            control.watch(watch.watch, watch.events);
            let fence = watch.fence.join().ok_or(NodeError::TooManyPairs)?;
            Box::new(move || {
                Pair::Primary(Box::new(PrimaryNode::new(primary::Parts {
                    state: Primary::new(setup, tsc::now()),
                    guest: Lane::new(guest),
                    uplink: Lane::new(uplink),
                    link: Lane::new(link),
                    fence,
                    mail,
                    headers,
                    tally,
                    tap,
                    clock,
                    patience: clock.ticks(PATIENCE),
                })))
            })
        }
        RoleSettings::Secondary { guest, link, .. } => {
            let output = hardware.frames(eal, format!("{number}.output"), IN_FLIGHT)?;
            let input = hardware.frames(eal, format!("{number}.input"), IN_FLIGHT + 2 * WINDOW)?;
            let headers = hardware.headers(eal, format!("{number}.headers"), HEADERS)?;
            let (link, link_mac) = open_link(eal, link, &input, hardware)?;
            let (guest, watch) = open_guest(eal, guest, &output, hardware)?;
            let mut setup = setup(pair, clock, &output, &input);
            setup.window = setup
                .window
                .min((input.size() / 4).max(Burst::CAPACITY as u32 * 2));
            setup.link_mac = link_mac;
            control.watch(watch.watch, watch.events);
            let fence = watch.fence.join().ok_or(NodeError::TooManyPairs)?;
            Box::new(move || {
                Pair::Secondary(Box::new(SecondaryNode::new(secondary::Parts {
                    state: Secondary::new(setup, tsc::now()),
                    guest: Lane::new(guest),
                    link: Lane::new(link),
                    fence,
                    mail,
                    headers,
                    tally,
                    tap,
                })))
            })
        }
        RoleSettings::Compare {
            primary_in,
            secondary_in,
            out,
            raw_secondary,
            ..
        } => {
            let p = hardware.frames(eal, format!("{number}.primary"), hold + IN_FLIGHT)?;
            let s = hardware.frames(eal, format!("{number}.secondary"), hold + IN_FLIGHT)?;
            let mut setup = setup(pair, clock, &p, &s);
            if *raw_secondary {
                setup.numbers = Numbers::OwnIsn;
            }
            let primary_in = hardware.open(eal, Place::PrimaryIn, primary_in, &p)?;
            let secondary_in = hardware.open(eal, Place::SecondaryIn, secondary_in, &s)?;
            let out = hardware.open(eal, Place::Out, out, &s)?;
            let ports = [primary_in, secondary_in, out];
            compare(setup, ports, mail, tally, tap, clock)
        }
    };
    Ok((builder, control))
}

fn compare(
    setup: Setup,
    ports: [Queues; 3],
    mail: PollEnd,
    tally: Tally,
    tap: Tap,
    clock: Clock,
) -> Builder {
    Box::new(move || {
        Pair::Compare(Box::new(CompareNode::new(
            Bare::new(setup),
            ports.map(Lane::new),
            mail,
            tally,
            tap,
            clock,
        )))
    })
}

/// Opens the guest port and fences it: its stop does not return before every core that polls it
/// has passed a quiescent point (rule R3).
fn open_guest(
    eal: &Eal,
    name: &PortName,
    pool: &Mempool,
    hardware: &mut Hardware,
) -> Result<(Queues, GuestWatch), NodeError> {
    let queues = hardware.open(eal, Place::Guest, name, pool)?;
    let fence = Fence::new();
    let (tell, events) = unbounded();
    let stops = AtomicU32::new(0);
    let callback_fence = fence.clone();
    let on_change = move |up: bool| {
        if !up {
            stops.fetch_add(1, Ordering::Relaxed);
            callback_fence.close_and_wait();
        }
        let stops = stops.load(Ordering::Relaxed);
        // The control thread ends after the ports are closed, or nobody wants to hear it.
        let _ = tell.send(if up {
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
            place: Place::Guest.key(),
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
    eal: &Eal,
    name: &PortName,
    pool: &Mempool,
    hardware: &mut Hardware,
) -> Result<(Queues, [u8; 6]), NodeError> {
    let queues = hardware.open(eal, Place::Link, name, pool)?;
    if !hardware.last().is_some_and(Port::sends_chains) {
        return Err(NodeError::Chains {
            name: name.as_str().to_owned(),
        });
    }
    Ok((queues, hardware.last().map_or([0; 6], Port::mac)))
}

fn setup(pair: &PairSettings, clock: Clock, p: &Mempool, s: &Mempool) -> Setup {
    let room = |pool: &Mempool| {
        (pool.size() as usize)
            .saturating_sub(IN_FLIGHT)
            .max(pool.size() as usize / 4)
    };
    let hold = pair.hold_frames.get() as usize;
    let (primary, secondary) = (hold.min(room(p)), hold.min(room(s)));
    Setup {
        vm: pair.vm_id,
        boot: boot_number(),
        link_mac: [0; 6],
        window: WINDOW as u32,
        link: Timing {
            heartbeat: clock.ticks(HEARTBEAT),
            retransmit: clock.ticks(RETRANSMIT),
            silence: clock.ticks(SILENCE),
        },
        limits: Limits {
            primary,
            secondary,
            history: secondary / HISTORY_SHARE,
            flows: pair.flows.get() as usize,
            timeout: clock.ticks(pair.compare_timeout),
            idle: clock.ticks(IDLE),
        },
        numbers: Numbers::Translated,
        policy: Policy::new(pair.policy.iter().flat_map(rules).collect()),
        repeat: clock.ticks(REPEAT),
        connections: CONNECTIONS,
    }
}

/// Grows with time, in steps of 16 ms, so that a node that starts again is known to be the later one.
fn boot_number() -> u32 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    ((since.as_millis() >> 4) as u32).max(1)
}

/// A configured rule as the comparison matches it.
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
