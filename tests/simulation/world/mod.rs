//! Everything together: a seed and a profile make a run, and the run is judged at every step.

mod cession;
mod deaths;
mod faults;
mod judge;
mod takeover;
mod unprotect;

use std::collections::VecDeque;

use colo_testkit::rng::Rng;
use dpdk_colo::compare::{Divergence, Reason};
use dpdk_colo::flow::FlowClass;
use dpdk_colo::frame::{Frame, Ticks};
use dpdk_colo::link::secure::Role;
use dpdk_colo::packet::{Kind, Packet};
use dpdk_colo::pair::{ToControl, ToPoll};

use crate::client::Clients;
use crate::frame::{Numbered, Owners};
use crate::guest::CALL_BACK;
use crate::link::{Channel, Station};
use crate::log::Capture;
use crate::nodes::{Node, Waiting};
use crate::oracle::Oracle;
use crate::outcome::Outcome;
use crate::ports::{Machine, Site};
use crate::profile::{Fault, Profile};
use crate::qemu::{Qemu, Release};
use crate::setup::{MS, TIMING, setup};
use cession::Cession;
use deaths::{Deaths, Side};
use judge::Judge;
use takeover::Zombie;
use unprotect::Ending;

/// Both hosts, the link, the clients, and those who judge.
pub struct World {
    rng: Rng,
    profile: Profile,
    now: Ticks,
    qemu: Qemu,
    primary: Node,
    secondary: Node,
    to_secondary: Channel,
    to_primary: Channel,
    uplink: Waiting,
    /// The same of the secondary's.
    standby_uplink: Waiting,
    clients: Clients,
    /// One frame in this many is lost on the way to a client or from it; 0: none.
    loss: usize,
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
    /// Until when a node's poll core gets no CPU, by side.
    starved_until: [Ticks; 2],
    /// When the control threads report next.
    next_report: Ticks,
    /// The network knows that the VM has moved to the secondary.
    moved: bool,
    deaths: Deaths,
    cession: Cession,
    ending: Ending,
    outcome: Outcome,
    /// What happened, for the message of a run that fails.
    story: Vec<String>,
    last_state: String,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("DPDK_COLO_STORY").is_some() {
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
            primary: Node::primary(setup(1, profile.failover), owners.clone(), 0),
            secondary: Node::secondary(setup(2, profile.failover), owners.clone(), 0),
            to_secondary: Channel::new(rng.next(), profile.link, &primary, &secondary),
            to_primary: Channel::new(rng.next(), profile.link, &secondary, &primary),
            uplink: Waiting::new(),
            standby_uplink: Waiting::new(),
            clients: Clients::new(&mut rng, profile.calls, profile.divergent, 80 * MS),
            loss: if rng.one_in(3) { 0 } else { profile.loss },
            oracle: Oracle::default(),
            capture: Capture::default(),
            owners,
            boot: 3,
            ends: Vec::new(),
            judge: Judge::default(),
            primary_runs: true,
            secondary_runs: true,
            zombie: None,
            starved_until: [0; 2],
            next_report: 0,
            moved: false,
            deaths: Deaths::default(),
            cession: Cession::default(),
            ending: Ending::default(),
            outcome: Outcome::default(),
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
        self.qemu.connect(self.now);
        self.qemu.connect_secondary(self.now);
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
            self.look_at_switchover();
            self.look_at_unprotection();
            self.turn();
            self.note();
            self.check_rules();
            assert!(
                self.now < 3_000 * MS,
                "liveness: {} frames held, state {:?}, calls {:#?} {:#?}",
                self.oracle.held(),
                self.primary.speaks().state(),
                self.clients
                    .calls
                    .iter()
                    .filter(|call| !call.tcp.is_done())
                    .map(|call| (call.peer, call.tcp.describe()))
                    .collect::<Vec<_>>(),
                self.qemu
                    .pvm
                    .guest
                    .connections
                    .iter()
                    .filter(|(_, connection)| !connection.tcp.is_done())
                    .map(|(peer, connection)| (peer, connection.tcp.describe()))
                    .collect::<Vec<_>>()
            );
        }
        self.check_streams();
        // A log of one node tells nothing of what another one did in its place.
        if self.outcome.takeovers + self.outcome.survivals == 0 {
            let capture = std::mem::take(&mut self.capture);
            capture.check(&mut self.rng);
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.requested = self.primary.speaks().comparison().checkpoints().requested();
        outcome.checkpoints = self.qemu.checkpoints;
        outcome.released_equal = self.oracle.released_equal;
        outcome.overtook = self.oracle.overtook;
        outcome.spoken += self.oracle.spoken;
        outcome.reminded = self.clients.reminded;
        let [secondary, primary] = self.qemu.conts;
        for (fault, n) in [
            (Fault::ContInside, primary),
            (Fault::ContInsideSecondary, secondary),
        ] {
            *outcome.faults.entry(fault).or_default() += n;
        }
        outcome
    }

    /// Whether the network between node and client loses a frame. Datagrams nobody would repeat.
    fn is_lost(&mut self, frame: &[u8]) -> bool {
        let is_tcp = Packet::parse(frame, frame.len()).kind == Kind::Tcp;
        let lost = is_tcp && self.loss > 0 && self.rng.one_in(self.loss);
        self.outcome.lost += u64::from(lost);
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

    /// The network brings frames for the VM to the port that has its addresses, or floods them.
    fn route(&mut self, frame: Vec<u8>) {
        if !self.primary_runs || self.moved {
            self.standby_uplink.push_back(frame);
            return;
        }
        if self.rng.one_in(50) {
            self.standby_uplink.push_back(frame.clone());
        }
        self.uplink.push_back(frame);
    }

    fn turn(&mut self) {
        let now = self.now;
        for frame in self.clients.step(now) {
            if !self.is_lost(&frame) {
                self.route(frame);
            }
        }
        let [primary_starves, secondary_starves] = self.starved_until.map(|until| now < until);
        let primary_lives = self.qemu.primary_backend && self.primary_runs;
        if primary_lives && !self.rng.one_in(4) && !primary_starves {
            self.poll_primary();
        }
        let secondary_lives = self.qemu.backend && self.secondary_runs;
        if secondary_lives && !self.rng.one_in(4) && !secondary_starves {
            self.poll_secondary();
        }
        if now >= self.next_report {
            self.next_report = now + TIMING.heartbeat;
            // The control threads run, each over a way of its own.
            if primary_lives && primary_starves {
                self.secondary.tell(ToPoll::PeerStalls);
            }
            if secondary_lives && secondary_starves {
                self.primary.tell(ToPoll::PeerStalls);
            }
        }
        self.poll_zombie();
        let now = self.now;
        self.qemu.pvm.step(now);
        self.qemu.svm.step(now);
        self.qemu.step(&mut self.oracle, now);
    }

    fn poll_primary(&mut self) {
        let now = self.now;
        self.capture.at(now);
        let site = Site {
            machine: Machine::Pvm(&mut self.qemu),
            from_link: &mut self.to_primary,
            to_link: &mut self.to_secondary,
            uplink: &mut self.uplink,
            oracle: &mut self.oracle,
            capture: Some(&mut self.capture),
            rng: &mut self.rng,
            preempt: self.profile.preempt,
        };
        let round = self.primary.poll(site, now);
        let now = self.passed(round.now);
        assert!(
            round.sent.is_empty() || self.cession.silent.is_none(),
            "R6: the primary still speaks at {now} though it has ceded"
        );
        for frame in round.sent {
            if !self.is_lost(&frame) {
                self.clients.hear(&frame, now);
            }
        }
        self.control(Side::Primary, round.posted);
    }

    fn poll_secondary(&mut self) {
        let now = self.now;
        let site = Site {
            machine: Machine::Svm(&mut self.qemu),
            from_link: &mut self.to_secondary,
            to_link: &mut self.to_primary,
            uplink: &mut self.standby_uplink,
            oracle: &mut self.oracle,
            capture: None,
            rng: &mut self.rng,
            preempt: self.profile.preempt,
        };
        let round = self.secondary.poll(site, now);
        let now = self.passed(round.now);
        for frame in round.sent {
            assert!(
                !self.ending.written,
                "R6: a secondary speaks whose VM was given up"
            );
            assert!(
                self.qemu.has_chosen_secondary(),
                "R6: a secondary speaks whose VM was not chosen"
            );
            self.moved = true;
            self.clients.hear(&frame, now);
        }
        self.control(Side::Secondary, round.posted);
        if round.took_over {
            self.promote();
        }
    }

    /// Notes that a round ended at this time, and returns it.
    fn passed(&mut self, end: Ticks) -> Ticks {
        self.outcome.preempted += u64::from(end > self.now);
        self.now = end;
        end
    }

    /// What a node's control thread does.
    fn control(&mut self, side: Side, posted: Vec<ToControl<Numbered>>) {
        for message in posted {
            match message {
                ToControl::Request(request) => {
                    assert_eq!(side, Side::Primary, "a secondary asks for no checkpoint");
                    let word = request.cause.word();
                    self.story.push(format!("{:>7} asks for {word}", self.now));
                    *self.outcome.causes.entry(word).or_default() += 1;
                    self.judge.asked();
                    self.qemu.request(self.now);
                }
                ToControl::RestartAcknowledged => unreachable!("nobody announces a restart"),
                ToControl::Act(action) => self.act(side, action),
                ToControl::Ask(question) => self.qemu.ask_whether_it_runs(question, self.now),
                ToControl::Record(divergence, epoch) => self.record(&divergence, epoch),
                ToControl::Cession(news) => self.cession_news(side, news),
                ToControl::Note(_) => unreachable!("no control thread tells anything"),
                ToControl::Offset(..) | ToControl::OffsetsEnd { .. } | ToControl::Link(_) => {}
            }
        }
    }

    /// Notes what a node has found.
    fn record(&mut self, divergence: &Divergence<Numbered>, epoch: u32) {
        let (now, reason, at) = (self.now, divergence.reason, divergence.stream_offset);
        let flow = divergence.flow.map(|flow| flow.to_string());
        let of = |frame: &Option<(Numbered, usize)>| {
            let (frame, _) = frame.as_ref()?;
            let packet = Packet::parse(frame.head(), frame.len());
            let (tcp, len) = (packet.tcp, packet.payload_len);
            Some(format!("{:?} {}+{len} ack {}", tcp.flags, tcp.seq, tcp.ack))
        };
        let frames = [&divergence.primary, &divergence.secondary].map(of);
        self.story.push(format!(
            "{now:>7} {} of {} at {at:?} in epoch {epoch}, P and S {frames:?}",
            reason.word(),
            flow.unwrap_or_default()
        ));
        let waits = matches!(reason, Reason::MissingPrimary | Reason::MissingSecondary);
        let of_stream = divergence
            .flow
            .is_some_and(|flow| flow.class() == FlowClass::Tcp);
        // Who has seen the SYN knows the offset.
        self.outcome.midstream += u64::from(waits && of_stream && at.is_none() && epoch == 1);
    }

    /// Notes changes for the story.
    fn note(&mut self) {
        let state = format!(
            "primary {:?} epoch {}, wanted {}, requested {}; secondary {:?} epoch {}; QEMU {}",
            self.primary.speaks().state(),
            self.primary.speaks().epoch(),
            self.primary.speaks().comparison().checkpoints().is_wanted(),
            self.primary.speaks().comparison().checkpoints().requested(),
            self.secondary.follows().state(),
            self.secondary.follows().epoch(),
            self.qemu.describe(),
        );
        if state != self.last_state {
            self.story.push(format!("{:>7} {state}", self.now));
            self.last_state = state;
        }
    }
}
