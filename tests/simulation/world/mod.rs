//! Everything together: a seed and a profile make a run, and the run is judged at every step.

mod deaths;
mod faults;
mod judge;
mod takeover;

use std::collections::VecDeque;

use dpdk_colo::frame::Ticks;
use dpdk_colo::link::secure::Role;
use dpdk_colo::packet::{Kind, Packet};

use crate::client::Clients;
use crate::frame::Owners;
use crate::guest::CALL_BACK;
use crate::link::{Channel, Station};
use crate::log::Capture;
use crate::nodes::{PrimaryNode, PrimaryPorts, SecondaryNode, SecondaryPorts};
use crate::oracle::Oracle;
use crate::profile::{Fault, Profile};
use crate::qemu::{Qemu, Release};
use crate::rng::Rng;
use crate::setup::{MS, setup};
use deaths::{Deaths, Side};
use judge::Judge;
use takeover::Zombie;

/// What a run came to.
pub struct Outcome {
    pub requested: u64,
    pub checkpoints: u64,
    pub released_equal: u64,
    /// SVMs that went on, and PVMs that did.
    pub takeovers: u64,
    pub survivals: u64,
    /// Frames that were lost between node and client, and P that overtook others.
    pub lost: u64,
    pub overtook: u64,
}

/// Both hosts, the link, the clients, and those who judge.
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
    /// One frame in so many is lost on the way to a client or from it; 0: none.
    loss: usize,
    lost: u64,
    oracle: Oracle,
    capture: Capture,
    owners: Owners,
    boot: u32,
    /// What ends at a time.
    ends: Vec<(Ticks, Fault)>,
    judge: Judge,
    /// The nodes that run.
    primary_runs: bool,
    secondary_runs: bool,
    zombie: Option<Zombie>,
    deaths: Deaths,
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

impl World {
    pub fn new(profile: Profile, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let owners = Owners::default();
        let any = Release::ALL[rng.below(Release::ALL.len())];
        let release = profile.release.unwrap_or(any);
        let mut qemu = Qemu::new(&mut rng, profile.monitor, release);
        qemu.confused = profile.confused;
        qemu.mute = profile.mute;
        let late = profile.late_driver && rng.one_in(2);
        qemu.pvm.guest.driver_at = if late {
            rng.between(1, 40) as Ticks * MS
        } else {
            0
        };
        qemu.pvm.ring = !late;
        let (primary, secondary) = (
            Station::new(Role::Primary, 1),
            Station::new(Role::Secondary, 2),
        );
        Self {
            profile,
            now: 1,
            primary: PrimaryNode::new(setup(1, profile.failover), owners.clone(), 0),
            secondary: SecondaryNode::new(setup(2, profile.failover), owners.clone(), 0),
            to_secondary: Channel::new(rng.next(), profile.link, &primary, &secondary),
            to_primary: Channel::new(rng.next(), profile.link, &secondary, &primary),
            uplink: VecDeque::new(),
            clients: Clients::new(&mut rng, profile.calls, profile.divergent, 80 * MS),
            loss: if rng.one_in(3) { 0 } else { profile.loss },
            lost: 0,
            oracle: Oracle::default(),
            capture: Capture::default(),
            owners,
            boot: 3,
            ends: Vec::new(),
            judge: Judge::default(),
            primary_runs: true,
            secondary_runs: true,
            zombie: None,
            deaths: Deaths::default(),
            takeovers: 0,
            survivals: 0,
            story: vec![format!("{release:?}")],
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
            self.check_rules();
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
            lost: self.lost,
            overtook: self.oracle.overtook,
        }
    }

    /// Whether the network between node and client loses a frame. Datagrams nobody would repeat.
    fn is_lost(&mut self, frame: &[u8]) -> bool {
        let is_tcp = Packet::parse(frame, frame.len()).kind == Kind::Tcp;
        let lost = is_tcp && self.loss > 0 && self.rng.one_in(self.loss);
        self.lost += u64::from(lost);
        lost
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
            if !self.is_lost(&frame) {
                self.uplink.push_back(frame);
            }
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
                if !self.is_lost(&frame) {
                    self.clients.hear(&frame, now);
                }
            }
            if self.primary.tick(now) {
                self.judge.asked();
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
            if let Some(question) = self.secondary.state.next_question() {
                self.qemu.ask_whether_it_runs(question, now);
            }
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
}
