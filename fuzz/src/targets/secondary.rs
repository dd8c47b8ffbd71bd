//! The secondary's state machine and driver, and the primary that it becomes: epochs, input, loads, stops, the monitor
//! and time in any order.
//!
//! Nothing reaches the network before QEMU decided that this VM goes on (R6). Input reaches the guest in order, once, in the epoch
//! that it is for, and what is missing is reported (R7). A report of a load follows STOP, run state `colo` and RESUME, and
//! covers no more than was heard before that stop (R3). No frame is lost or kept twice (R10).

use std::collections::VecDeque;

use dpdk_colo::link::{Endpoint, Event, Message, Received};
use dpdk_colo::pair::{PairDriver, Port, SecondaryDriver, ToPoll};
use dpdk_colo::protect::{Action, Migration, Primary, QemuEvent, Secondary};

use super::node::{
    Did, Mock, TIMES, is_sealed, looks, migration, on_peer_lost, output, peer, setup,
};
use crate::frame::{Frames, Origin};
use colo_testkit::rng::Rng;

struct Story {
    driver: PairDriver<Frames>,
    mock: Mock,
    peer: Endpoint,
    sealed: bool,
    boots: u32,
    to_node: VecDeque<Vec<u8>>,
    epoch: u32,
    next: u64,
    next_input: u64,
    last_given: Option<u64>,
    /// Epochs that the node has heard of in this session, with what had happened by then.
    heard: Vec<(u32, usize)>,
    /// Epochs that were sent, whether the node heard of them or not.
    said: Vec<u32>,
    /// What happens, counted; and when the SVM's ring stopped last, or a question was asked.
    steps: usize,
    svm_ran: usize,
    // What the monitor has reported.
    migration: Migration,
    leads: bool,
    stop: bool,
    for_load: bool,
    /// How often STOP, run state `colo` and RESUME were reported, and how many reports of loads followed.
    loads: usize,
    reports: usize,
    runs: bool,
    chosen: bool,
    asked: VecDeque<u32>,
    /// Restarts of this node that were announced, that the peer has heard of, and of which the node knows that.
    announced: usize,
    restarts: usize,
    acknowledged: usize,
}

/// Each draw is something that happens.
pub fn run(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    let sealed = is_sealed(data);
    let setup = setup(20, sealed, on_peer_lost(&mut rng), rng.one_in(2));
    let standby = (!rng.one_in(6)).then(|| Primary::new(setup.clone(), 0));
    let driver = SecondaryDriver::new(Secondary::new(setup, 0), standby, 0, TIMES);
    let mut story = Story {
        driver: driver.into(),
        mock: Mock::new(),
        peer: peer(10, sealed, 0),
        sealed,
        boots: 30,
        to_node: VecDeque::new(),
        epoch: 1,
        next: 0,
        next_input: 0,
        last_given: None,
        heard: Vec::new(),
        said: Vec::new(),
        steps: 1,
        svm_ran: 0,
        migration: Migration::None,
        leads: false,
        stop: false,
        for_load: false,
        loads: 0,
        reports: 0,
        runs: false,
        chosen: false,
        asked: VecDeque::new(),
        announced: 0,
        restarts: 0,
        acknowledged: 0,
    };
    let Story { mock, peer, .. } = &mut story;
    mock.begin_session(peer, sealed);
    if rng.one_in(2) {
        story.begin_protection();
    }
    while rng.is_chosen() {
        story.step(&mut rng);
    }
    story.driver.finish(&mut story.mock);
    story.judge();
}

impl Story {
    fn begin_protection(&mut self) {
        for _ in 0..4 {
            self.speak();
            self.deliver_all();
        }
        self.tell(QemuEvent::Connected {
            migration: Migration::Colo,
            running: true,
            leads: false,
        });
        self.tell(QemuEvent::Resume);
        self.say(Message::Leads(0));
        self.say(Message::Epoch(1));
        self.deliver_all();
        self.barrier(true);
    }

    fn step(&mut self, rng: &mut Rng) {
        self.steps += 1;
        match rng.below(24) {
            0..=3 => self.guest_frame(rng),
            4..=7 => self.input(rng),
            8 => self.stop_ring(),
            9 => self.tell(QemuEvent::Stop),
            10 => self.tell(QemuEvent::StoppedFor {
                load: rng.one_in(2),
            }),
            11 => self.tell(QemuEvent::Resume),
            12 => self.barrier(!rng.one_in(4)),
            13 => self.checkpoint(rng),
            14 => self.epoch(rng),
            15 => self.seldom(rng),
            16 => {
                self.speak();
                self.deliver_all();
            }
            17 => {
                if let Some(frame) = self.to_node.pop_front() {
                    self.deliver(&frame);
                }
            }
            18 => drop(self.to_node.pop_front()),
            19 => self.mock.trouble(rng),
            20 => {
                for ticks in looks([10, 60, 200, 1_100, 6_000][rng.below(5)]) {
                    self.mock.now += ticks;
                    self.tick();
                }
            }
            21 => {
                if let Some(question) = self.asked.pop_front() {
                    let running = rng.one_in(2);
                    self.tell(QemuEvent::Answered { question, running });
                }
            }
            _ => self.round(),
        }
    }

    fn seldom(&mut self, rng: &mut Rng) {
        match rng.below(10) {
            0 => self.tell(QemuEvent::Migration(migration(rng))),
            1 => self.tell(QemuEvent::Connected {
                migration: migration(rng),
                running: rng.one_in(2),
                leads: rng.one_in(4),
            }),
            2 => self.tell(QemuEvent::Disconnected),
            3 => self.tell(QemuEvent::ColoExit),
            4 => self.tell(QemuEvent::Pass),
            5 => self.tell(QemuEvent::StartedWithoutMonitor {
                stops: self.mock.seen as u32,
            }),
            6 => {
                self.say(Message::Leads(rng.below(3) as u32));
                self.deliver_all();
            }
            7 => {
                self.boots += 1;
                self.peer = peer(self.boots, self.sealed, self.mock.now);
                self.mock.begin_session(&mut self.peer, self.sealed);
                self.to_node.clear();
            }
            8 => self.delay(rng),
            _ => {
                let number = match self.mock.actions.iter().next_back() {
                    Some(Action::Fence(last)) => *last,
                    _ => rng.below(4) as u32,
                };
                let down = rng.one_in(2);
                self.mock.mail.push_back(ToPoll::Fenced { number, down });
                self.round();
            }
        }
    }

    /// A whole checkpoint, of which parts may be missing.
    fn checkpoint(&mut self, rng: &mut Rng) {
        let missing = rng.below(9);
        let steps: [&dyn Fn(&mut Self); 7] = [
            &|story| story.stop_ring(),
            &|story| story.tell(QemuEvent::Stop),
            &|story| story.tell(QemuEvent::StoppedFor { load: true }),
            &|story| story.tell(QemuEvent::Resume),
            &|story| story.barrier(true),
            &|story| {
                story.epoch += 1;
                story.say(Message::Epoch(story.epoch));
            },
            &|story| story.deliver_all(),
        ];
        for (at, step) in steps.iter().enumerate() {
            self.steps += 1;
            if at != missing {
                step(self);
            }
        }
    }

    fn epoch(&mut self, rng: &mut Rng) {
        self.epoch = self.epoch.wrapping_add([0, 1, 1, 3][rng.below(4)]);
        let message = match rng.one_in(3) {
            true => Message::Runs(self.epoch),
            false => Message::Epoch(self.epoch),
        };
        self.say(message);
        self.deliver_all();
    }

    fn say(&mut self, message: Message) {
        if let Message::Epoch(epoch) = message {
            self.said.push(epoch);
        }
        let _ = self.peer.send(message);
        self.speak();
    }

    fn speak(&mut self) {
        for _ in 0..16 {
            let Some(frame) = self.peer.next_transmit(self.mock.now) else {
                break;
            };
            self.to_node.push_back(frame.bytes().to_vec());
        }
    }

    fn deliver_all(&mut self) {
        while let Some(frame) = self.to_node.pop_front() {
            self.deliver(&frame);
        }
        self.round();
    }

    /// A frame of the link; what it tells of epochs counts if the node takes it for the next message.
    fn deliver(&mut self, bytes: &[u8]) {
        let number = bytes
            .get(28..)
            .filter(|_| bytes[17] == 1)
            .map_or(0, |_| self.next_input.saturating_sub(1));
        if bytes[17] == 2 && matches!(bytes[58], 1 | 8) {
            let epoch = u32::from_be_bytes(bytes[59..63].try_into().expect("a number"));
            self.heard.push((epoch, self.steps));
        }
        let frame = self.mock.frame(bytes, Origin::Input(Some(number)));
        self.mock.link.push_back(frame);
        self.round();
    }

    fn input(&mut self, rng: &mut Rng) {
        let (payload, _) = output(rng, 1);
        if rng.one_in(6) {
            // What the network sends to this port.
            let frame = self.mock.frame(&payload, Origin::Input(None));
            self.mock.uplink.push_back(frame);
            return self.round();
        }
        if self.peer.room() == 0 {
            return;
        }
        self.next_input += 1;
        let epoch = if rng.one_in(6) {
            self.epoch.wrapping_add(1)
        } else {
            self.epoch
        };
        let header = self
            .peer
            .data_header(epoch, payload.len() as u32, self.mock.now);
        let frame = [&header[..], &payload].concat();
        if !rng.one_in(8) {
            self.deliver(&frame);
        }
    }

    fn guest_frame(&mut self, rng: &mut Rng) {
        let (bytes, _) = output(rng, 5_000);
        let frame = self.mock.frame(&bytes, Origin::P(self.next));
        self.next += 1;
        self.mock.guest.push_back(frame);
        self.round();
    }

    fn stop_ring(&mut self) {
        self.mock.stops += 1;
        self.svm_ran = self.steps;
        self.runs = false;
        self.round();
    }

    fn barrier(&mut self, right: bool) {
        let stops = self.mock.seen as u32;
        self.tell(QemuEvent::Barrier {
            stops: if right { stops } else { stops.wrapping_sub(1) },
            migration: self.migration,
            running: true,
        });
    }

    fn tell(&mut self, event: QemuEvent) {
        match event {
            QemuEvent::Stop => (self.stop, self.for_load) = (true, false),
            QemuEvent::StoppedFor { load } => self.for_load |= load,
            QemuEvent::Resume => {
                let in_colo = self.migration == Migration::Colo && !self.leads;
                self.loads += usize::from(self.stop && self.for_load && in_colo);
                self.stop = false;
            }
            QemuEvent::Migration(migration) => self.migration = migration,
            QemuEvent::Barrier {
                stops, migration, ..
            } => {
                self.migration = migration;
                self.runs |= stops == self.mock.seen as u32;
            }
            QemuEvent::Connected {
                migration, leads, ..
            } => {
                (self.migration, self.stop) = (migration, false);
                self.leads = leads && migration == Migration::Colo;
            }
            QemuEvent::Disconnected => self.stop = false,
            QemuEvent::StartedWithoutMonitor { .. } => self.runs = true,
            _ => {}
        }
        self.chosen |= self.migration == Migration::Completed || self.leads;
        self.mock.tell(event);
        self.round();
    }

    /// What delays a loss of the peer, or should not count as one.
    fn delay(&mut self, rng: &mut Rng) {
        match rng.below(5) {
            0 => {
                self.mock.mail.push_back(ToPoll::PeerStalls);
                self.round();
            }
            1 => {
                self.mock.mail.push_back(ToPoll::AnnounceRestart);
                self.announced += 1;
                self.round();
            }
            2 => {
                self.say(Message::Restarts);
                self.deliver_all();
            }
            3 => {
                // The node does not run.
                self.mock.now += 6_000;
                self.tick();
            }
            _ => {
                // The guards begin anew; what is under way is of the session before.
                self.mock.begin_session(&mut self.peer, self.sealed);
                self.round();
            }
        }
    }

    fn tick(&mut self) {
        let now = self.mock.now;
        self.driver.tick(&mut self.mock, now);
        self.judge();
        self.round();
    }

    fn round(&mut self) {
        let now = self.mock.now;
        self.driver.round(&mut self.mock, now);
        self.judge();
        for bytes in std::mem::take(&mut self.mock.carried) {
            let before = self.peer.counts().sessions;
            let received = self.peer.receive(&bytes, bytes.len(), self.mock.now);
            if let Received::Data { epoch, .. } = received
                && self.driver.secondary().is_some()
            {
                assert!(
                    self.said.contains(&epoch),
                    "an S bears an epoch that was announced"
                );
            }
            while let Some(event) = self.peer.next_event() {
                self.restarts += usize::from(event == Event::Message(Message::Restarts));
                if let Event::Message(Message::Loaded(covers)) = event {
                    self.loaded(covers);
                }
            }
            if self.peer.counts().sessions != before {
                self.heard.clear();
            }
        }
        for question in std::mem::take(&mut self.mock.questions) {
            self.asked.push_back(question);
            self.svm_ran = self.steps;
        }
    }

    fn loaded(&mut self, covers: Option<u32>) {
        self.reports += 1;
        assert!(self.reports <= self.loads, "R3: a report without a load");
        if let Some(epoch) = covers {
            let heard = |(said, at): &(u32, usize)| *said == epoch && *at <= self.svm_ran;
            assert!(
                self.heard.iter().any(heard) || self.peer.counts().sessions > 1,
                "R3: a report covers {epoch}, which was not heard while the SVM ran"
            );
        }
    }

    fn judge(&mut self) {
        let follows = self.driver.secondary().is_some();
        for did in std::mem::take(&mut self.mock.did) {
            match did {
                Did::Released(origin) | Did::Passed(origin) => {
                    assert!(
                        self.chosen,
                        "R6: {origin:?} leaves a secondary whose VM was not chosen"
                    );
                    assert!(!follows || origin == Origin::Own, "R6: {origin:?} leaves");
                }
                Did::Polled(Port::Guest) if follows => {
                    assert!(self.runs, "R3: a ring is polled that may have stopped");
                }
                Did::Gave(number) if follows => {
                    let is_next = self.last_given.is_none_or(|last| last < number);
                    assert!(is_next, "R7: input {number} behind {:?}", self.last_given);
                    self.last_given = Some(number);
                }
                Did::RestartAcknowledged => {
                    self.acknowledged += 1;
                    assert!(self.acknowledged <= self.announced.min(self.restarts));
                }
                _ => {}
            }
        }
        let frames = self.driver.frames() + self.mock.frames();
        assert_eq!(self.mock.owners.get(), frames, "R10: frames");
    }
}
