//! Everything together: a seed and a profile make a run, and the run is judged at every step.

use std::collections::VecDeque;

use dpdk_colo::compare::{Limits, Numbers, Policy};
use dpdk_colo::frame::Ticks;
use dpdk_colo::link::Timing;
use dpdk_colo::protect::{Action, Failover, Monitor, OnPeerLost, Setup, State};

use crate::client::Clients;
use crate::frame::Owners;
use crate::guest::{CALL_BACK, Vm};
use crate::link::Channel;
use crate::log::Capture;
use crate::monitor::Line;
use crate::nodes::{PrimaryNode, PrimaryPorts, SecondaryNode, SecondaryPorts, TICK};
use crate::oracle::Oracle;
use crate::qemu::{Qemu, Step};
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
    /// QEMU or the whole host dies, in a phase of a checkpoint or between two.
    KillPrimary,
    KillSecondary,
    /// The link is dead for long, and nobody dies.
    Partition,
    /// The same, and an operator lets the SVM go on.
    Split,
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
    pub failover: Failover,
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
        failover: Failover {
            on_peer_lost: OnPeerLost::Hold,
            auto: false,
            retry: MS,
        },
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
    /// SVMs that went on, and PVMs that did.
    pub takeovers: u64,
    pub survivals: u64,
}

/// A primary whose SVM has taken over and that may not know.
struct Zombie {
    node: PrimaryNode,
    vm: Vm,
    monitor: Line<Monitor>,
    oracle: Oracle,
    capture: Capture,
    /// It has heard by then.
    knows_at: Ticks,
    uplink: VecDeque<Vec<u8>>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Primary,
    Secondary,
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
    /// When the PVM was not listened to last.
    deaf: Ticks,
    /// Since when a request could be written and was wanted.
    able_since: Option<Ticks>,
    /// The nodes that run.
    primary_runs: bool,
    secondary_runs: bool,
    /// The VMs were equal at least once.
    equal_once: bool,
    zombie: Option<Zombie>,
    /// Who dies in which phase, or at a time.
    kill: Option<(Fault, Step, Ticks)>,
    /// When somebody decides that a side goes on.
    decide: Option<(Ticks, Side)>,
    /// Fencing commands under way: when they end, who runs them, the number.
    fences: Vec<(Ticks, Side, u32)>,
    /// When there is a new secondary, and when COLO begins again.
    renew: Option<Ticks>,
    enter: Option<Ticks>,
    takeovers: u64,
    survivals: u64,
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

fn setup(boot: u32, failover: Failover) -> Setup {
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
            patience: 1,
            idle: 60_000 * MS,
        },
        numbers: Numbers::Translated,
        policy: Policy::default(),
        repeat: REPEAT,
        connections: 64,
        failover,
        millisecond: MS,
        last_segments: 16,
    }
}

impl World {
    pub fn new(profile: Profile, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let owners = Owners::default();
        let mut qemu = Qemu::new(&mut rng, profile.monitor);
        qemu.confused = profile.confused;
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
            primary: PrimaryNode::new(setup(1, profile.failover), owners.clone(), 0),
            secondary: SecondaryNode::new(setup(2, profile.failover), owners.clone(), 0),
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
            deaf: 0,
            able_since: None,
            primary_runs: true,
            secondary_runs: true,
            equal_once: false,
            zombie: None,
            kill: None,
            decide: None,
            fences: Vec::new(),
            renew: None,
            enter: None,
            takeovers: 0,
            survivals: 0,
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
        self.qemu.connect_secondary(&self.secondary, self.now);
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
            self.disasters();
            self.turn();
            self.note();
            self.judge();
            assert!(
                self.now < 3_000 * MS,
                "liveness: {} frames held, state {:?}, calls {:#?} {:#?}",
                self.oracle.held(),
                self.primary.state.state(),
                self.clients
                    .calls
                    .iter()
                    .filter(|call| !call.tcp.is_done())
                    .map(|call| (call.peer, call.tcp.told()))
                    .collect::<Vec<_>>(),
                self.qemu
                    .pvm
                    .guest
                    .connections
                    .iter()
                    .filter(|(_, connection)| !connection.tcp.is_done())
                    .map(|(peer, connection)| (peer, connection.tcp.told()))
                    .collect::<Vec<_>>()
            );
        }
        self.check_streams();
        // A log of one node tells nothing of what another one did in its place.
        if self.takeovers + self.survivals == 0 {
            let capture = std::mem::take(&mut self.capture);
            capture.check(&mut self.rng);
        }
        let checkpoints = self.primary.state.checkpoints();
        Outcome {
            requested: checkpoints.requested(),
            checkpoints: self.qemu.checkpoints,
            released_equal: self.oracle.released_equal,
            takeovers: self.takeovers,
            survivals: self.survivals,
        }
    }

    fn is_finished(&self) -> bool {
        let (called, heard) = self.calls_back();
        self.clients.are_done() && called == heard
    }

    /// Connections that the VM opened, and that the clients have heard of.
    fn calls_back(&self) -> (usize, usize) {
        let calls = self.qemu.pvm.guest.connections.keys();
        let heard = self.clients.calls.iter().map(|call| &call.peer);
        (
            calls.filter(|peer| peer.port >= CALL_BACK).count(),
            heard.filter(|peer| peer.port >= CALL_BACK).count(),
        )
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
        let (called, heard) = self.calls_back();
        assert_eq!(called, heard, "connections that the guest opened");
    }

    fn turn(&mut self) {
        let now = self.now;
        for frame in self.clients.step(now) {
            self.uplink.push_back(frame);
        }
        if self.qemu.primary_backend && self.primary_runs && !self.rng.one_in(4) {
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
            let action = self.primary.state.next_action(now);
            self.act(Side::Primary, action);
        }
        if self.qemu.backend && self.secondary_runs && !self.rng.one_in(4) {
            let Qemu { svm, secondary, .. } = &mut self.qemu;
            self.secondary.poll(
                &mut SecondaryPorts {
                    vm: svm,
                    from_link: &mut self.to_secondary,
                    to_link: &mut self.to_primary,
                    mail: &mut || secondary.next(now),
                    oracle: &mut self.oracle,
                },
                now,
            );
        }
        if self.secondary_runs {
            let action = self.secondary.state.next_action(now);
            self.act(Side::Secondary, action);
            if self.secondary.state.takes_over() {
                self.promote();
            }
        }
        self.poll_zombie();
        self.qemu.pvm.step(now);
        self.qemu.svm.step(now);
        self.qemu.step(
            &mut self.primary,
            &mut self.secondary,
            &mut self.oracle,
            now,
        );
    }

    /// What a node wants done.
    fn act(&mut self, side: Side, action: Option<Action>) {
        match action {
            Some(Action::Fence(number)) => {
                let at = self.now + self.rng.between(100, 4_000) as Ticks;
                self.story.push(format!("{:>7} {side:?} fences", self.now));
                self.fences.push((at, side, number));
            }
            Some(Action::FailOver) => self.decide = Some((self.now, side)),
            None => {}
        }
    }

    /// Deaths, and what others make of them.
    fn disasters(&mut self) {
        let now = self.now;
        self.equal_once |= self.primary.is_protecting();
        if let Some((fault, phase, at)) = self.kill
            && (self.qemu.step == phase || now >= at)
        {
            self.kill = None;
            let in_phase = Step::PHASES.contains(&self.qemu.step) && self.enter.is_none();
            if in_phase
                && !self.qemu.fails
                && self.qemu.colo
                && self.equal_once
                && self.secondary_runs
                && self.primary_runs
            {
                self.die(fault);
            }
        }
        for (at, side, number) in std::mem::take(&mut self.fences) {
            if at > now {
                self.fences.push((at, side, number));
            } else if !self.rng.one_in(3) {
                self.fenced(side, number, true);
            } else {
                self.fenced(side, number, false);
            }
        }
        if let Some((at, side)) = self.decide
            && now >= at
        {
            match side {
                Side::Secondary => self.qemu.take_over(&mut self.secondary, now),
                Side::Primary => self.qemu.fail_over(now),
            }
            if matches!(self.qemu.step, Step::TakeOver | Step::FailOver) {
                self.decide = None;
            }
        }
        if self.qemu.step == Step::Over && self.renew.is_none() && self.may_renew() {
            self.survivals += u64::from(self.oracle.alone);
            self.renew = Some(now + self.rng.between(2, 30) as Ticks * MS);
        }
        if self.renew.is_some_and(|at| now >= at) {
            self.renew = None;
            self.zombie = None;
            let setup = setup(self.boot, self.profile.failover);
            self.boot += 1;
            self.secondary = SecondaryNode::new(setup, self.owners.clone(), now);
            self.secondary_runs = true;
            self.qemu.renew_secondary(&self.secondary, now);
            self.enter = Some(now + self.rng.between(2, 20) as Ticks * MS);
        }
        // Without a link a new secondary would not learn what the survivor knows from before.
        let linked = now > 5 * MS + self.to_primary.dead_until.max(self.to_secondary.dead_until);
        if linked && self.enter.is_some_and(|at| now >= at) {
            self.enter = None;
            self.equal_once = false;
            self.oracle.begin_again();
            self.qemu.enter(now);
        }
    }

    fn may_renew(&self) -> bool {
        let deadly = [Fault::KillPrimary, Fault::KillSecondary, Fault::Split];
        self.enter.is_none()
            && (self.profile.failover.auto
                || self
                    .profile
                    .faults
                    .iter()
                    .any(|fault| deadly.contains(fault)))
    }

    fn fenced(&mut self, side: Side, number: u32, down: bool) {
        let now = self.now;
        let runs = match side {
            Side::Primary => self.primary_runs,
            Side::Secondary => self.secondary_runs,
        };
        if !runs {
            return;
        }
        // What takes the only VM that is left away ends no case: that command fails.
        let down = down && self.qemu.colo && Step::PHASES.contains(&self.qemu.step);
        if down {
            self.story.push(format!("{now:>7} {side:?} has fenced"));
            match side {
                Side::Primary if self.secondary_runs => self.kill_secondary(true),
                Side::Secondary if self.primary_runs => self.kill_primary(true),
                _ => {}
            }
        }
        match side {
            Side::Primary => self.primary.state.fenced(number, down, now),
            Side::Secondary => self.secondary.state.fenced(number, down, now),
        }
        self.oracle.alone |= down && side == Side::Primary;
    }

    fn die(&mut self, fault: Fault) {
        let now = self.now;
        self.story
            .push(format!("{now:>7} {fault:?} in {:?}", self.qemu.step));
        let after = now + self.rng.between(100, 20_000) as Ticks;
        let host = self.rng.one_in(2);
        match fault {
            Fault::KillPrimary => {
                self.kill_primary(host);
                self.decide = Some((after, Side::Secondary));
            }
            _ => {
                self.kill_secondary(host);
                self.decide = Some((after, Side::Primary));
            }
        }
    }

    fn kill_primary(&mut self, host: bool) {
        self.qemu.kill_primary(
            &mut self.primary,
            &mut self.secondary,
            &mut self.oracle,
            self.now,
        );
        if host {
            self.primary_runs = false;
            self.primary.seen = self.primary.stops;
        }
    }

    fn kill_secondary(&mut self, host: bool) {
        self.qemu.kill_secondary(&mut self.secondary, self.now);
        self.oracle.missed.clear();
        if host {
            self.secondary_runs = false;
            self.secondary.seen = self.secondary.stops;
        }
    }

    /// The secondary goes on as a primary.
    fn promote(&mut self) {
        let now = self.now;
        self.story.push(format!("{now:>7} takeover"));
        self.takeovers += 1;
        let mut next = |failover| {
            self.boot += 1;
            setup(self.boot, failover)
        };
        let failover = self.profile.failover;
        let fresh = SecondaryNode::new(next(failover), self.owners.clone(), now);
        let old = std::mem::replace(&mut self.secondary, fresh);
        let heir = PrimaryNode::heir(next(failover), old, &self.oracle, now);
        self.boot += 1;
        let node = std::mem::replace(&mut self.primary, heir);
        let oracle = std::mem::take(&mut self.oracle);
        self.oracle.translates = true;
        std::mem::swap(&mut self.to_primary, &mut self.to_secondary);
        let (vm, monitor) = self.qemu.promote();
        self.zombie = self.primary_runs.then(|| Zombie {
            node,
            vm,
            monitor,
            oracle,
            capture: Capture::default(),
            knows_at: now.max(self.to_secondary.dead_until)
                + 2 * self.profile.link as Ticks
                + SLACK,
            uplink: VecDeque::new(),
        });
        self.uplink.clear();
        self.primary_runs = true;
        self.secondary_runs = false;
        self.able_since = None;
        self.input_waits = None;
    }

    fn poll_zombie(&mut self) {
        let now = self.now;
        let Some(zombie) = &mut self.zombie else {
            return;
        };
        zombie.vm.step(now);
        let sent = zombie.node.poll(
            &mut PrimaryPorts {
                vm: &mut zombie.vm,
                from_link: &mut self.to_secondary,
                to_link: &mut self.to_primary,
                uplink: &mut zombie.uplink,
                mail: &mut || zombie.monitor.next(now),
                oracle: &mut zombie.oracle,
                capture: &mut zombie.capture,
            },
            now,
        );
        zombie.node.tick(now);
        zombie.node.state.next_action(now);
        assert!(
            sent.is_empty() || now < zombie.knows_at,
            "R6: the primary still speaks at {now}, {:?} {} {:?}",
            zombie.node.state.state(),
            zombie.node.state.is_superseded(),
            zombie.node.state.link().is_up(now)
        );
        for frame in sent {
            self.clients.hear(&frame, now);
        }
    }

    /// Rules R7, R9 and R10, as far as they show from step to step.
    fn judge(&mut self) {
        let now = self.now;
        let zombie = self.zombie.as_ref().map_or(0, |z| z.node.frames());
        let inside = self.primary.frames() + self.secondary.frames() + zombie;
        assert_eq!(
            self.owners.get(),
            inside,
            "R10: frames that nobody owns or that are counted twice"
        );
        if !self.primary_runs {
            return;
        }
        let state = self.primary.state.state();
        let wanted = self.primary.state.checkpoints().is_wanted();
        let limit = TIMEOUT + MS + 2 * TICK + 400;
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
        if !self.primary.state.wants_output() {
            // Until the monitor has told of a commit the PVM is not listened to.
            self.deaf = now;
        }
        let missed = &mut self.oracle.missed;
        while let Some((at, period, again)) = missed.front().copied() {
            let dead = self.to_primary.dead_until.max(self.to_secondary.dead_until);
            let backend = if self.qemu.backend { 0 } else { now };
            let told = at.max(dead).max(self.unprotected).max(backend);
            let told = told.max(self.deaf);
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
                self.qemu.disconnect_secondary(&self.secondary, now);
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
                let setup = setup(self.boot, self.profile.failover);
                self.boot += 1;
                self.primary = PrimaryNode::new(setup, self.owners.clone(), now);
                self.capture.start();
                self.later(fault, 5 * MS);
                self.later(Fault::CutMonitor, 8 * MS);
            }
            Fault::RestartSecondary => {
                self.qemu.lose_backend(now);
                let setup = setup(self.boot, self.profile.failover);
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
            Fault::KillPrimary | Fault::KillSecondary => {
                let phase = Step::PHASES[self.rng.below(Step::PHASES.len())];
                self.qemu.latched |= self.qemu.colo && phase != Step::Idle;
                self.kill.get_or_insert((fault, phase, now + 10 * MS));
            }
            Fault::Partition | Fault::Split => {
                let until = now + self.rng.between(20, 120) as Ticks * MS;
                self.to_secondary.dead_until = until;
                self.to_primary.dead_until = until;
                if fault == Fault::Split && self.qemu.colo && self.equal_once {
                    self.later(fault, 10 * MS);
                }
            }
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
                    self.qemu.connect_secondary(&self.secondary, now);
                }
                Fault::SlowMonitor => self.qemu.primary.delay = self.profile.monitor,
                Fault::OperatorStop => self.qemu.operator_continues(&self.primary, now),
                Fault::RestartPrimary => self.qemu.primary_backend = true,
                Fault::RestartSecondary => {
                    self.qemu.backend = true;
                    self.qemu.connect_secondary(&self.secondary, now);
                }
                Fault::Split if self.qemu.split(now) => {
                    self.decide = Some((now + TIMING.silence, Side::Secondary));
                }
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
