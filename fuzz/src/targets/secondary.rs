//! The secondary's state machine and driver, and the primary that it becomes: epochs, input, loads, stops, the monitor
//! and time in any order.
//!
//! Nothing reaches the network before QEMU decided that this VM goes on (R6). Input reaches the guest in order, once, in the epoch
//! that it is for, and what is missing is reported (R7). A report of a load follows STOP, run state `colo` and RESUME, and
//! covers no more than was heard before that stop (R3). No frame is lost or kept twice (R10).

use std::collections::VecDeque;

use dpdk_colo::link::{Event, Message, Received};
use dpdk_colo::pair::{PairDriver, Port, SecondaryDriver};
use dpdk_colo::protect::{Migration, Primary, QemuEvent, Secondary};

use super::node::{Did, TIMES, is_sealed, migration, on_peer_lost, output, setup};
use super::story::{Story, Surroundings};
use crate::frame::{Frames, Origin};
use colo_testkit::rng::Rng;

/// Kinds of the link's frames, behind magic and version.
const DATA: u8 = 3;
const CONTROL: u8 = 5;

struct SecondaryStory {
    driver: PairDriver<Frames>,
    around: Surroundings,
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
}

/// Each draw is something that happens.
pub fn run(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    let sealed = is_sealed(data);
    let setup = setup(20, sealed, on_peer_lost(&mut rng), rng.one_in(2));
    let standby = (!rng.one_in(6)).then(|| Primary::new(setup.clone(), 0));
    let driver = SecondaryDriver::new(Secondary::new(setup, 0), standby, 0, TIMES);
    let mut story = SecondaryStory {
        driver: driver.into(),
        around: Surroundings::new(10, 30, sealed),
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
    };
    if rng.one_in(2) {
        story.begin_protection();
    }
    while rng.is_chosen() {
        story.step(&mut rng);
    }
    story.driver.finish(&mut story.around.mock);
    story.judge();
}

impl SecondaryStory {
    fn begin_protection(&mut self) {
        self.meet();
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
            16 => self.speak(),
            17 => self.next_frame(true),
            18 => self.next_frame(false),
            19 => self.around.mock.trouble(rng),
            20 => self.pass_time(rng),
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
                stops: self.around.mock.seen as u32,
            }),
            6 => {
                self.say(Message::Leads(rng.below(3) as u32));
                self.deliver_all();
            }
            7 => self.restart_peer(),
            8 => self.delay(rng),
            _ => {
                let last = self.around.has_fenced();
                let number = if last { 0 } else { rng.below(4) as u32 };
                self.fence(last, number, rng.one_in(2));
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

    fn input(&mut self, rng: &mut Rng) {
        let (payload, _) = output(rng, 1);
        if rng.one_in(6) {
            // What the network sends to this port.
            let frame = self.around.mock.frame(&payload, Origin::Input(None));
            self.around.mock.uplink.push_back(frame);
            return self.round();
        }
        if self.around.peer.room() == 0 {
            return;
        }
        self.next_input += 1;
        let epoch = if rng.one_in(6) {
            self.epoch.wrapping_add(1)
        } else {
            self.epoch
        };
        let header = self.around.peer.data_header(epoch, payload.len() as u32);
        let frame = [&header[..], &payload].concat();
        if !rng.one_in(8) {
            self.deliver(&frame);
        }
    }

    fn guest_frame(&mut self, rng: &mut Rng) {
        let (bytes, _) = output(rng, 5_000);
        let frame = self.around.mock.frame(&bytes, Origin::P(self.next));
        self.next += 1;
        self.around.mock.guest.push_back(frame);
        self.round();
    }

    fn stop_ring(&mut self) {
        self.around.mock.stops += 1;
        self.svm_ran = self.steps;
        self.runs = false;
        self.round();
    }

    fn loaded(&mut self, covers: Option<u32>) {
        self.reports += 1;
        assert!(self.reports <= self.loads, "R3: a report without a load");
        if let Some(epoch) = covers {
            let heard = |(said, at): &(u32, usize)| *said == epoch && *at <= self.svm_ran;
            assert!(
                self.heard.iter().any(heard) || self.around.peer.counts().sessions > 1,
                "R3: a report covers {epoch}, which was not heard while the SVM ran"
            );
        }
    }

    fn judge(&mut self) {
        let follows = self.driver.secondary().is_some();
        for did in std::mem::take(&mut self.around.mock.did) {
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
                Did::RestartAcknowledged => self.around.restart_acknowledged(),
                _ => {}
            }
        }
        let frames = self.driver.frames() + self.around.mock.frames();
        assert_eq!(self.around.mock.owners.get(), frames, "R10: frames");
    }
}

impl Story for SecondaryStory {
    fn around(&mut self) -> &mut Surroundings {
        &mut self.around
    }

    fn migration(&self) -> Migration {
        self.migration
    }

    fn says(&mut self, message: Message) {
        if let Message::Epoch(epoch) = message {
            self.said.push(epoch);
        }
    }

    /// A frame of the link; what it says of epochs counts if the node takes it for the next message.
    fn deliver(&mut self, bytes: &[u8]) {
        let number = bytes
            .get(28..)
            .filter(|_| bytes[17] == DATA)
            .map_or(0, |_| self.next_input.saturating_sub(1));
        if bytes[17] == CONTROL && matches!(bytes[58], 1 | 8) {
            let epoch = u32::from_be_bytes(bytes[59..63].try_into().expect("a number"));
            self.heard.push((epoch, self.steps));
        }
        let frame = self.around.mock.frame(bytes, Origin::Input(Some(number)));
        self.around.mock.link.push_back(frame);
        self.round();
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
                self.runs |= stops == self.around.mock.seen as u32;
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
        self.around.mock.tell(event);
        self.round();
    }

    fn tick(&mut self) {
        let now = self.around.mock.now;
        self.driver.tick(&mut self.around.mock, now);
        self.judge();
        self.round();
    }

    fn round(&mut self) {
        let now = self.around.mock.now;
        self.driver.round(&mut self.around.mock, now);
        self.judge();
        for bytes in std::mem::take(&mut self.around.mock.carried) {
            let before = self.around.peer.counts().sessions;
            let received = self
                .around
                .peer
                .receive(&bytes, bytes.len(), self.around.mock.now);
            if let Received::Data { epoch, .. } = received
                && self.driver.secondary().is_some()
            {
                assert!(
                    self.said.contains(&epoch),
                    "an S bears an epoch that was announced"
                );
            }
            while let Some(event) = self.around.peer.next_event() {
                self.around.hear(event);
                if let Event::Message(Message::Loaded(covers)) = event {
                    self.loaded(covers);
                }
            }
            if self.around.peer.counts().sessions != before {
                self.heard.clear();
            }
        }
        for question in std::mem::take(&mut self.around.mock.questions) {
            self.asked.push_back(question);
            self.svm_ran = self.steps;
        }
    }
}
