//! Everything together: a seed and a profile make a run, and the run is judged at every step.

use std::collections::VecDeque;

use dpdk_colo::compare::{Limits, Numbers, Policy};
use dpdk_colo::frame::Ticks;
use dpdk_colo::link::Timing;
use dpdk_colo::protect::{Setup, State};

use crate::client::Clients;
use crate::frame::Owners;
use crate::guest::CALL_BACK;
use crate::link::Channel;
use crate::log::Capture;
use crate::nodes::{PrimaryNode, PrimaryPorts, SecondaryNode, SecondaryPorts, TICK};
use crate::oracle::Oracle;
use crate::qemu::{Qemu, Told};
use crate::rng::Rng;

/// Times in microseconds.
const MS: Ticks = 1_000;
const TIMEOUT: Ticks = 20 * MS;
const REPEAT: Ticks = 10 * MS;
const TIMING: Timing = Timing {
    heartbeat: MS,
    retransmit: MS / 2,
    silence: 15 * MS,
};
/// What detection may take beyond the timeout: a round, a tick, the link's own times.
const SLACK: Ticks = 2 * MS;

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    LossyLink,
    DeadLink,
    CutMonitor,
    CutSecondaryMonitor,
    SlowMonitor,
    ResetDriver,
    OperatorStop,
    OperatorBlink,
    RestartPrimary,
    RestartSecondary,
    StallSecondary,
    StallPrimary,
    BlockUplink,
    Checkpoint,
    TwoCheckpoints,
    FailOver,
    FailedCheckpoint,
}

/// What a family of runs is like.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub faults: &'static [Fault],
    /// Of a hundred questions, how many ask the machine itself.
    pub divergent: usize,
    pub calls: usize,
    /// Longest delay of an event of the monitor.
    pub monitor: usize,
    /// Longest delay of the link.
    pub link: usize,
    /// The secondary's control thread cannot tell a load from a reset; the SVM may then get input
    /// of an old epoch unnoticed.
    pub confused: bool,
    /// The guest's driver may come up after COLO has begun.
    pub late_driver: bool,
}

impl Profile {
    pub const CALM: Self = Self {
        faults: &[],
        divergent: 0,
        calls: 6,
        monitor: 200,
        link: 100,
        confused: false,
        late_driver: false,
    };
}

impl Profile {
    /// Whether the SVM's ring may stop on its own account. That may hide that the SVM had run under
    /// an old number, and so got input again.
    fn disturbs_the_secondary(&self) -> bool {
        let disturbing = [
            Fault::ResetDriver,
            Fault::OperatorBlink,
            Fault::RestartSecondary,
        ];
        self.faults.iter().any(|fault| disturbing.contains(fault))
    }
}

/// What a run came to.
pub struct Outcome {
    pub requested: u64,
    pub checkpoints: u64,
    pub released_equal: u64,
}

pub struct World {
    rng: Rng,
    profile: Profile,
    now: Ticks,
    qemu: Qemu,
    primary: PrimaryNode,
    secondary: SecondaryNode,
    to_secondary: Channel,
    to_primary: Channel,
    uplink: VecDeque<Vec<u8>>,
    clients: Clients,
    oracle: Oracle,
    capture: Capture,
    owners: Owners,
    boot: u32,
    /// What ends at a time.
    ends: Vec<(Ticks, Fault)>,
    input_waits: Option<Ticks>,
    /// When the node was last seen to do something else than protect.
    unprotected: Ticks,
    /// Since when a request could be written and was wanted.
    able_since: Option<Ticks>,
    /// What happened, told when the run fails.
    story: Vec<String>,
    last_state: String,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story.join("\n"));
        }
    }
}

fn setup(boot: u32) -> Setup {
    Setup {
        vm: 1,
        boot,
        link_mac: [2, 0, 0, 0, 9, boot as u8],
        window: 96,
        link: TIMING,
        limits: Limits {
            primary: 200,
            secondary: 400,
            history: 100,
            flows: 64,
            timeout: TIMEOUT,
            idle: 60_000 * MS,
        },
        numbers: Numbers::Translated,
        policy: Policy::default(),
        repeat: REPEAT,
        connections: 64,
    }
}

impl World {
    pub fn new(profile: Profile, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let owners = Owners::default();
        let mut qemu = Qemu::new(&mut rng, profile.monitor);
        qemu.control.confused = profile.confused;
        let late = profile.late_driver && rng.one_in(2);
        qemu.pvm.guest.driver_at = if late {
            rng.between(1, 40) as Ticks * MS
        } else {
            0
        };
        qemu.pvm.ring = !late;
        Self {
            profile,
            now: 1,
            primary: PrimaryNode::new(setup(1), owners.clone(), 0),
            secondary: SecondaryNode::new(setup(2), owners.clone(), 0),
            to_secondary: Channel::new(rng.next(), profile.link),
            to_primary: Channel::new(rng.next(), profile.link),
            uplink: VecDeque::new(),
            clients: Clients::new(&mut rng, profile.calls, profile.divergent, 80 * MS),
            oracle: Oracle::default(),
            capture: Capture::default(),
            owners,
            boot: 3,
            ends: Vec::new(),
            input_waits: None,
            unprotected: 0,
            able_since: None,
            story: Vec::new(),
            last_state: String::new(),
            qemu,
            rng,
        }
    }

    /// Runs to the end and checks that everybody got everything.
    pub fn run(mut self) -> Outcome {
        let entry = self.rng.between(2, 20) as Ticks * MS;
        let trouble = 100 * MS;
        self.qemu.connect(&self.primary, self.now);
        self.qemu.secondary.connect(Told::Connected, self.now);
        let mut faults: Vec<(Ticks, Fault)> = (0..self.profile.faults.len().min(1)
            * self.rng.between(1, 8))
            .map(|_| {
                let fault = self.profile.faults[self.rng.below(self.profile.faults.len())];
                (
                    self.rng
                        .between((entry + 10 * MS) as usize, trouble as usize)
                        as Ticks,
                    fault,
                )
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        let mut faults = VecDeque::from(faults);
        let mut entered = false;
        while self.now < trouble + 20 * MS || !self.is_finished() {
            self.now += self.rng.between(5, 40) as Ticks;
            if !entered && self.now >= entry {
                entered = true;
                self.qemu.enter(self.now);
            }
            while faults.front().is_some_and(|(at, _)| *at <= self.now) {
                let (_, fault) = faults.pop_front().expect("it is there");
                self.begin(fault);
            }
            self.end_faults();
            self.turn();
            self.note();
            self.judge();
            assert!(
                self.now < 3_000 * MS,
                "liveness: {} frames held, state {:?}, calls {:?}",
                self.oracle.held(),
                self.primary.state.state(),
                self.clients
                    .calls
                    .iter()
                    .filter(|call| !call.tcp.is_done())
                    .map(|call| call.peer)
                    .collect::<Vec<_>>()
            );
        }
        self.check_streams();
        let capture = std::mem::take(&mut self.capture);
        capture.check(&mut self.rng);
        let checkpoints = self.primary.state.checkpoints();
        Outcome {
            requested: checkpoints.requested(),
            checkpoints: self.qemu.checkpoints,
            released_equal: self.oracle.released_equal,
        }
    }

    fn is_finished(&self) -> bool {
        self.clients.are_done()
    }

    /// The clients have exactly what the PVM wrote.
    fn check_streams(&self) {
        for call in &self.clients.calls {
            let pvm = &self.qemu.pvm.guest.connections[&call.peer].tcp;
            assert!(
                call.tcp.received == pvm.stream,
                "the stream of {:?}",
                call.peer
            );
        }
        let calls = self.qemu.pvm.guest.connections.keys();
        let called = calls.filter(|peer| peer.port >= CALL_BACK).count();
        let heard = self
            .clients
            .calls
            .iter()
            .filter(|call| call.peer.port >= CALL_BACK);
        assert_eq!(called, heard.count(), "connections that the guest opened");
    }

    fn turn(&mut self) {
        let now = self.now;
        for frame in self.clients.step(now) {
            self.uplink.push_back(frame);
        }
        if self.qemu.primary_backend && !self.rng.one_in(4) {
            self.capture.at(now);
            let Qemu { pvm, primary, .. } = &mut self.qemu;
            let sent = self.primary.poll(
                &mut PrimaryPorts {
                    vm: pvm,
                    from_link: &mut self.to_primary,
                    to_link: &mut self.to_secondary,
                    uplink: &mut self.uplink,
                    mail: &mut || primary.next(now),
                    oracle: &mut self.oracle,
                    capture: &mut self.capture,
                },
                now,
            );
            for frame in sent {
                self.clients.hear(&frame, now);
            }
            if self.primary.tick(now) {
                self.able_since = None;
                self.qemu.request(now);
            }
        }
        if self.qemu.backend && !self.rng.one_in(4) {
            let Qemu { svm, control, .. } = &mut self.qemu;
            let starts = &mut control.starts;
            self.secondary.poll(
                &mut SecondaryPorts {
                    vm: svm,
                    from_link: &mut self.to_secondary,
                    to_link: &mut self.to_primary,
                    mail: &mut || {
                        let due = starts.front().is_some_and(|(at, ..)| *at <= now);
                        if due {
                            starts.pop_front().map(|(_, stops, loaded)| (stops, loaded))
                        } else {
                            None
                        }
                    },
                    oracle: &mut self.oracle,
                },
                now,
            );
        }
        self.qemu.pvm.step(now);
        self.qemu.svm.step(now);
        self.qemu.step(
            &mut self.primary,
            &mut self.secondary,
            &mut self.oracle,
            now,
        );
    }

    /// Rules R7, R9 and R10, as far as they show from step to step.
    fn judge(&mut self) {
        let now = self.now;
        let inside = self.primary.frames() + self.secondary.frames();
        assert_eq!(
            self.owners.get(),
            inside,
            "R10: frames that nobody owns or that are counted twice"
        );
        let state = self.primary.state.state();
        let wanted = self.primary.state.checkpoints().is_wanted();
        let limit = TIMEOUT + MS + 2 * TICK + 200;
        if !self.primary.is_protecting() {
            self.unprotected = now;
        }
        if self.primary.is_protecting()
            && let Some(taken) = self.oracle.oldest()
        {
            // What is free to leave and waits for the uplink is no longer the protection's matter.
            let leaving = self.primary.uplink_blocked_until.max(self.unprotected + MS);
            let taken = taken.max(leaving).min(now);
            assert!(
                wanted || now - taken <= limit,
                "R9: a frame taken at {taken} is held at {now} and no checkpoint is wanted, {state:?}"
            );
        }
        let missed = &mut self.oracle.missed;
        while let Some((at, period, again)) = missed.front().copied() {
            let dead = self.to_primary.dead_until.max(self.to_secondary.dead_until);
            let backend = if self.qemu.backend { 0 } else { now };
            let told = at.max(dead).max(self.unprotected).max(backend);
            if now < told + 4 * SLACK + 2 * self.profile.link as Ticks
                && period == self.oracle.stops
            {
                break;
            }
            assert!(
                self.profile.confused
                    || (again && self.profile.disturbs_the_secondary())
                    || period != self.oracle.stops
                    || wanted
                    || self.oracle.alone
                    || state == State::PeerLost,
                "R7: the SVM missed input at {at} and no checkpoint is wanted at {now}"
            );
            missed.pop_front();
        }
        let waits = (!self.uplink.is_empty() || self.primary.has_input())
            && self.qemu.pvm.takes_input()
            && self.primary.is_protecting()
            && !wanted;
        let since = self.input_waits.filter(|_| waits).unwrap_or(now);
        self.input_waits = waits.then_some(since);
        assert!(
            now - since <= 2 * limit,
            "R9: input waits since {since} and no checkpoint is wanted at {now}"
        );
        let able = wanted && self.qemu.primary.up && self.qemu.colo && self.primary.is_protecting();
        let since = self.able_since.filter(|_| able).unwrap_or(now);
        self.able_since = able.then_some(since);
        assert!(
            now - since <= REPEAT + 8 * MS + 2 * self.qemu.primary.delay as Ticks,
            "R9: a checkpoint is wanted since {since} and not asked for at {now}"
        );
    }

    fn later(&mut self, fault: Fault, most: Ticks) {
        let at = self.now + 100 + self.rng.below(most as usize) as Ticks;
        self.ends.push((at, fault));
    }

    /// Notes changes for the story.
    fn note(&mut self) {
        let state = format!(
            "primary {:?} epoch {}, wanted {}, requested {}; secondary {:?} epoch {}; QEMU {}",
            self.primary.state.state(),
            self.primary.state.epoch(),
            self.primary.state.checkpoints().is_wanted(),
            self.primary.state.checkpoints().requested(),
            self.secondary.state.state(),
            self.secondary.state.epoch(),
            self.qemu.told(),
        );
        if state != self.last_state {
            self.story.push(format!("{:>7} {state}", self.now));
            self.last_state = state;
        }
    }

    fn begin(&mut self, fault: Fault) {
        let now = self.now;
        self.story.push(format!("{now:>7} {fault:?}"));
        match fault {
            Fault::LossyLink => {
                let one_in = [3, 10, 100][self.rng.below(3)];
                self.to_secondary.loss = one_in;
                self.to_primary.loss = one_in;
                self.later(fault, 30 * MS);
            }
            Fault::DeadLink => {
                let until = now + self.rng.between(1, 40) as Ticks * MS;
                for channel in [&mut self.to_secondary, &mut self.to_primary] {
                    if !self.rng.one_in(4) {
                        channel.dead_until = until;
                    }
                }
            }
            Fault::CutMonitor => {
                self.qemu.disconnect(now);
                self.later(fault, 10 * MS);
            }
            Fault::CutSecondaryMonitor => {
                self.qemu.secondary.cut(Told::Gone, now);
                self.later(fault, 10 * MS);
            }
            Fault::SlowMonitor => {
                self.qemu.primary.delay = 20 * MS as usize;
                self.later(fault, 30 * MS);
            }
            Fault::ResetDriver => {
                let which = self.rng.below(3);
                self.qemu
                    .reset_driver(&mut self.primary, &mut self.secondary, which, now);
            }
            Fault::OperatorStop => {
                self.qemu.operator_stops(&mut self.primary, now);
                self.later(fault, 5 * MS);
            }
            Fault::OperatorBlink => self.qemu.operator_blinks(&mut self.secondary, now),
            Fault::RestartPrimary => {
                self.qemu.lose_primary_backend(now);
                self.oracle.forget_held();
                let setup = setup(self.boot);
                self.boot += 1;
                self.primary = PrimaryNode::new(setup, self.owners.clone(), now);
                self.capture.start();
                self.later(fault, 5 * MS);
                self.later(Fault::CutMonitor, 8 * MS);
            }
            Fault::RestartSecondary => {
                self.qemu.lose_backend();
                let setup = setup(self.boot);
                self.boot += 1;
                self.secondary = SecondaryNode::new(setup, self.owners.clone(), now);
                self.later(fault, 10 * MS);
            }
            Fault::StallSecondary => {
                self.qemu.svm.stalls_until = now + self.rng.between(5, 60) as Ticks * MS;
            }
            Fault::StallPrimary => {
                self.qemu.pvm.stalls_until = now + self.rng.between(1, 30) as Ticks * MS;
            }
            Fault::BlockUplink => {
                self.primary.uplink_blocked_until = now + self.rng.between(1, 20) as Ticks * MS;
            }
            Fault::Checkpoint => self.qemu.latched |= self.qemu.colo,
            Fault::TwoCheckpoints => {
                self.qemu.latched |= self.qemu.colo;
                self.later(fault, 4 * MS);
            }
            Fault::FailOver => self.qemu.fail_over(now),
            Fault::FailedCheckpoint => {
                self.qemu.fails = true;
                self.qemu.latched |= self.qemu.colo;
            }
        }
    }

    fn end_faults(&mut self) {
        let now = self.now;
        for (at, fault) in std::mem::take(&mut self.ends) {
            if at > now {
                self.ends.push((at, fault));
                continue;
            }
            match fault {
                Fault::LossyLink => {
                    self.to_secondary.loss = 0;
                    self.to_primary.loss = 0;
                }
                Fault::CutMonitor if !self.qemu.primary.up => {
                    self.qemu.connect(&self.primary, now);
                }
                Fault::CutSecondaryMonitor if !self.qemu.secondary.up => {
                    self.qemu.secondary.connect(Told::Connected, now);
                }
                Fault::SlowMonitor => self.qemu.primary.delay = self.profile.monitor,
                Fault::OperatorStop => self.qemu.operator_continues(&self.primary, now),
                Fault::RestartPrimary => self.qemu.primary_backend = true,
                Fault::RestartSecondary => self.qemu.backend = true,
                Fault::TwoCheckpoints => self.qemu.latched |= self.qemu.colo,
                _ => {}
            }
        }
        if self.qemu.is_idle()
            && self
                .ends
                .iter()
                .all(|(_, fault)| *fault != Fault::OperatorStop)
        {
            self.qemu.operator_continues(&self.primary, now);
        }
    }
}
