//! The primary's state machine and driver: stops, the monitor, the link, time and frames in any order.
//!
//! What leaves without an equal S of its epoch has evidence that the secondary has loaded a state with it (R1, R3); the
//! ring is not polled between a stop and the word that it runs (R3); a node that is superseded lets nothing out (R6); one
//! request is outstanding (R9); no frame is lost or kept twice (R10).

use std::collections::BTreeMap;

use dpdk_colo::link::{Event, Message, Received};
use dpdk_colo::packet::serial::at_or_before;
use dpdk_colo::pair::{Port, PrimaryDriver};
use dpdk_colo::protect::{Migration, OnPeerLost, Primary, QemuEvent, State};

use super::node::{Content, Did, REPEAT, TIMES, is_sealed, migration, on_peer_lost, output, setup};
use super::story::{Story, Surroundings};
use crate::frame::{Frames, Origin};
use colo_testkit::rng::Rng;

/// A P that the node has taken or may take.
struct P {
    content: Content,
    epoch: u32,
    /// How much had been committed when it was taken.
    commits: usize,
    taken: bool,
    /// The node may have dropped it, since its VM is gone.
    dropped: bool,
    /// Its VM was not protected for a moment, which lets it go; it may wait for the port.
    free: bool,
}

/// What a commit was for, and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// A report of a state with all epochs up to this one.
    Report(Option<u32>),
    /// COLO's beginning, or MIGRATION_PASS while nobody could report.
    All,
}

struct PrimaryStory {
    driver: PrimaryDriver<Frames>,
    around: Surroundings,
    on_peer_lost: OnPeerLost,
    /// P by number.
    frames: BTreeMap<u64, P>,
    next: u64,
    next_input: u64,
    /// S of the present epoch that nothing has used up.
    secondary: Vec<Content>,
    /// Connections whose SYN has left: it may leave again.
    opened: Vec<u16>,
    /// Connections of which the other node has heard both numbers.
    synchronized: Vec<u16>,
    // What the monitor has reported.
    migration: Migration,
    stop: bool,
    pass: bool,
    resumed: bool,
    passed: bool,
    begins: bool,
    ended: bool,
    /// The monitor reported COLO, and the VM went on since.
    protected: bool,
    /// Somebody may have decided that this VM goes on alone.
    alone: bool,
    /// The ring was said to run since it stopped.
    runs: bool,
    /// The other node could report loads before this round.
    witnessed: bool,
    sessions: u64,
    discarded: u64,
    reports: u32,
    loaded_sent: u32,
    available: Vec<Option<u32>>,
    commits: Vec<Evidence>,
    asked: Option<u64>,
    /// Something has happened since that lets it ask again.
    may_ask: bool,
}

/// Each draw is something that happens.
pub fn run(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    let sealed = is_sealed(data);
    let on_peer_lost = on_peer_lost(&mut rng);
    let setup = setup(10, sealed, on_peer_lost, rng.one_in(2));
    let driver = PrimaryDriver::new(Primary::new(setup, 0), 0, TIMES);
    let mut story = PrimaryStory {
        driver,
        around: Surroundings::new(20, 20, sealed),
        on_peer_lost,
        frames: BTreeMap::new(),
        next: 0,
        next_input: 0,
        secondary: Vec::new(),
        opened: Vec::new(),
        synchronized: Vec::new(),
        migration: Migration::None,
        stop: false,
        pass: false,
        resumed: false,
        passed: false,
        begins: false,
        ended: false,
        protected: false,
        alone: false,
        runs: false,
        witnessed: false,
        sessions: 0,
        discarded: 0,
        reports: 0,
        loaded_sent: 0,
        available: Vec::new(),
        commits: Vec::new(),
        asked: None,
        may_ask: true,
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

impl PrimaryStory {
    /// The usual beginning, to which a random order hardly ever comes.
    fn begin_protection(&mut self) {
        self.meet();
        let connected = QemuEvent::Connected {
            migration: Migration::None,
            running: true,
            leads: false,
        };
        self.tell(connected);
        self.say(Message::Witnesses(true));
        self.deliver_all();
        self.barrier(true);
        self.stop_ring();
        for event in [
            QemuEvent::Stop,
            QemuEvent::Migration(Migration::Colo),
            QemuEvent::Resume,
        ] {
            self.tell(event);
        }
        self.barrier(true);
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.below(24) {
            0..=3 => self.primary_frame(rng),
            4..=7 => self.secondary_frame(rng),
            8 => self.stop_ring(),
            9 => self.tell(QemuEvent::Stop),
            10 => self.tell(QemuEvent::Resume),
            11 => self.barrier(!rng.one_in(4)),
            12 => self.loaded(rng),
            13 => self.checkpoint(rng),
            14 => self.seldom(rng),
            15 => self.speak(),
            16 => self.next_frame(true),
            17 => self.next_frame(false),
            18 => self.input(rng),
            19 => self.around.mock.trouble(rng),
            20 => self.pass_time(rng),
            _ => self.round(),
        }
    }

    fn seldom(&mut self, rng: &mut Rng) {
        match rng.below(9) {
            0 => self.tell(QemuEvent::Migration(migration(rng))),
            1 => self.tell(QemuEvent::Connected {
                migration: migration(rng),
                running: rng.one_in(2),
                leads: rng.one_in(2),
            }),
            2 => self.tell(QemuEvent::Disconnected),
            3 => self.tell(QemuEvent::ColoExit),
            4 => self.tell(QemuEvent::Pass),
            5 => {
                let message = match rng.below(4) {
                    0 => Message::Witnesses(rng.one_in(2)),
                    1 => Message::VmLost,
                    2 => Message::InputLost(1),
                    _ => Message::Leads(rng.below(3) as u32),
                };
                self.say(message);
                self.deliver_all();
            }
            6 => self.restart_peer(),
            7 => self.delay(rng),
            _ => {
                let number = rng.below(4) as u32;
                let last = self.around.has_fenced() && rng.one_in(2);
                self.fence(last, number, rng.one_in(2));
            }
        }
    }

    /// A whole checkpoint, of which parts may be missing.
    fn checkpoint(&mut self, rng: &mut Rng) {
        let missing = rng.below(8);
        let steps: [&dyn Fn(&mut Self); 6] = [
            &|story| story.stop_ring(),
            &|story| story.tell(QemuEvent::Stop),
            &|story| {
                let covers = story.around.mock.seen as u32;
                story.say(Message::Loaded(Some(covers.wrapping_sub(1))));
                story.loaded_sent += 1;
                story.deliver_all();
            },
            &|story| story.tell(QemuEvent::Pass),
            &|story| story.tell(QemuEvent::Resume),
            &|story| story.barrier(true),
        ];
        for (at, step) in steps.iter().enumerate() {
            if at != missing {
                step(self);
            }
        }
    }

    fn loaded(&mut self, rng: &mut Rng) {
        let epoch = self.around.mock.seen as u32;
        let covers = match rng.below(4) {
            0 => None,
            1 => Some(epoch),
            2 => Some(epoch.wrapping_sub(1)),
            _ => Some(epoch.wrapping_sub(rng.below(3) as u32)),
        };
        self.loaded_sent += 1;
        self.say(Message::Loaded(covers));
        self.deliver_all();
    }

    fn primary_frame(&mut self, rng: &mut Rng) {
        let (bytes, content) = output(rng, 1_000);
        let number = self.next;
        self.next += 1;
        let frame = self.around.mock.frame(&bytes, Origin::P(number));
        self.around.mock.guest.push_back(frame);
        let p = P {
            content,
            epoch: 0,
            commits: 0,
            taken: false,
            dropped: false,
            free: false,
        };
        self.frames.insert(number, p);
        self.round();
    }

    fn secondary_frame(&mut self, rng: &mut Rng) {
        let (payload, content) = output(rng, 5_000);
        if self.around.peer.room() == 0 {
            return;
        }
        let now = self.around.mock.seen as u32;
        let epoch = if rng.one_in(6) {
            now.wrapping_sub(1)
        } else {
            now
        };
        let header = self.around.peer.data_header(epoch, payload.len() as u32);
        if epoch == now {
            self.secondary.push(content);
        }
        self.deliver(&[&header[..], &payload].concat());
    }

    fn input(&mut self, rng: &mut Rng) {
        let (bytes, _) = output(rng, 1);
        let number = self.next_input;
        self.next_input += 1;
        let frame = self.around.mock.frame(&bytes, Origin::Input(Some(number)));
        self.around.mock.uplink.push_back(frame);
        self.round();
    }

    fn stop_ring(&mut self) {
        self.around.mock.stops += 1;
        self.round();
    }

    fn unprotected(&mut self) {
        self.protected = false;
        self.frames.values_mut().for_each(|p| p.free |= p.taken);
    }

    fn migrated(&mut self, migration: Migration) {
        match (self.migration, migration) {
            (Migration::Colo, Migration::Colo) => {}
            (_, Migration::Colo) => {
                self.begins = true;
                self.ended = false;
                // It waits for the beginning of another COLO, of which nothing is protected yet.
                if self.driver.state().epochs().is_alone() {
                    self.unprotected();
                }
            }
            (Migration::Colo, Migration::Completed) => self.unprotected(),
            (Migration::Colo, _) => self.ended |= self.protected,
            _ => {}
        }
        self.migration = migration;
    }

    /// With this setting silence, and COLO's end, is somebody's decision.
    fn silence(&mut self) {
        let silent = self.driver.state().link().is_silent(self.around.mock.now) || self.ended;
        self.alone |= silent && self.on_peer_lost == OnPeerLost::Release;
        // A node that goes on alone wants no checkpoint any more; what it asks for afterwards is another one.
        self.may_ask |= silent && self.alone;
    }

    fn judge(&mut self) {
        self.evidence();
        let superseded = self.driver.state().epochs().is_superseded();
        for did in std::mem::take(&mut self.around.mock.did) {
            match did {
                Did::Polled(Port::Guest) => {
                    assert!(self.runs, "R3: a ring is polled that may have stopped");
                }
                Did::Released(Origin::P(number)) => {
                    assert!(!superseded, "R6: a superseded node releases");
                    self.released(number);
                }
                Did::Passed(Origin::P(number)) => {
                    assert!(!superseded, "R6: a superseded node lets out");
                    let p = self
                        .frames
                        .remove(&number)
                        .expect("R5: a frame leaves once");
                    assert!(
                        !self.protected || self.alone,
                        "R1: {:?} leaves uncompared",
                        p.content
                    );
                }
                Did::Released(other) => panic!("{other:?} is released"),
                Did::Passed(Origin::Own) | Did::Sent(_) | Did::Gave(_) | Did::Polled(_) => {}
                Did::Passed(other) => panic!("{other:?} leaves"),
                Did::Asked => self.asked(),
                Did::RestartAcknowledged => self.around.restart_acknowledged(),
            }
        }
        self.take_in();
        let frames = self.driver.frames() + self.around.mock.frames();
        assert_eq!(self.around.mock.owners.get(), frames, "R10: frames");
    }

    /// What the node has taken from the ring in this round, it took in this epoch.
    fn take_in(&mut self) {
        let waiting = self.around.mock.guest.len() as u64;
        let (epoch, commits) = (self.around.mock.seen as u32, self.commits.len());
        for (_, p) in self.frames.range_mut(..self.next - waiting) {
            if !p.taken {
                (p.taken, p.epoch, p.commits) = (true, epoch, commits);
            }
        }
    }

    /// What a commit of this round is due to.
    fn evidence(&mut self) {
        let state = self.driver.state();
        let sessions = state.link().counts().sessions;
        if sessions != self.sessions {
            self.sessions = sessions;
            self.available.clear();
            self.may_ask = true;
        }
        if !state.link().has_session() {
            self.may_ask = true;
        }
        let discarded = state.counts().discarded;
        if discarded != self.discarded {
            self.discarded = discarded;
            self.frames.values_mut().for_each(|p| p.dropped |= p.taken);
        }
        let reports = state.epochs().reports();
        if reports.number != self.reports {
            assert_eq!(
                reports.number,
                self.reports + 1,
                "one report comes at a time"
            );
            assert!(
                reports.number <= self.loaded_sent,
                "a report that nobody sent"
            );
            self.reports = reports.number;
            self.available.push(reports.covers);
            self.may_ask = true;
        }
        let committed = state.comparison().checkpoints().committed_count() as usize;
        // Either may have counted: what the monitor reports comes before what the link does.
        let witnessed = state.is_witnessed(self.around.mock.now) && self.witnessed;
        assert!(committed <= self.commits.len() + 1, "one commit at a time");
        if committed == self.commits.len() {
            return;
        }
        self.may_ask = true;
        assert_eq!(self.migration, Migration::Colo, "R3: a commit without COLO");
        assert!(!self.ended, "R3: a commit when COLO has ended");
        assert!(self.resumed, "R3: a commit without STOP and RESUME in COLO");
        // A report contains all that was taken since the last commit.
        let last = self.commits.len();
        let open = self
            .frames
            .values()
            .filter(|p| p.taken && !p.dropped && p.commits == last);
        let newest = open.map(|p| p.epoch).max();
        let covers = |covers: &Option<u32>| match (newest, covers) {
            (None, _) => true,
            (Some(epoch), Some(covers)) => at_or_before(epoch, *covers),
            (Some(_), None) => false,
        };
        let evidence = if let Some(at) = self.available.iter().position(covers) {
            Evidence::Report(self.available.remove(at))
        } else if std::mem::take(&mut self.begins) || !witnessed && self.passed {
            Evidence::All
        } else {
            panic!(
                "R3: a commit without evidence; reports {:?}",
                self.available
            );
        };
        // A decision holds until the node has seen the peer again, which it does in a tick. It may have come behind the
        // commit, in the same round.
        self.alone &= matches!(state.state(), State::PeerLost | State::Solo);
        self.begins = false;
        self.commits.push(evidence);
    }

    /// A P leaves that the comparator or a commit let go.
    fn released(&mut self, number: u64) {
        let p = self
            .frames
            .remove(&number)
            .expect("R5: a frame leaves once");
        if let Content::Syn(flow) = p.content {
            if self.opened.contains(&flow) {
                return;
            }
            self.opened.push(flow);
        }
        let epoch = if p.taken {
            p.epoch
        } else {
            self.around.mock.seen as u32
        };
        let committed = p.taken
            && self.commits[p.commits..]
                .iter()
                .any(|evidence| match evidence {
                    Evidence::All | Evidence::Report(None) => true,
                    Evidence::Report(Some(covers)) => at_or_before(epoch, *covers),
                });
        if committed || self.alone || !self.protected || p.dropped || p.free {
            return;
        }
        let equal = self.secondary.iter().position(|s| *s == p.content);
        let Some(equal) = equal else {
            // One that was free to leave when the ring stopped waited for the port, or for the other node.
            assert!(
                epoch != self.around.mock.seen as u32,
                "R1: {:?} of epoch {epoch} leaves without an equal S",
                p.content
            );
            return;
        };
        match p.content {
            Content::Datagram(..) => drop(self.secondary.remove(equal)),
            Content::Syn(flow) => assert!(
                self.synchronized.contains(&flow),
                "a SYN leaves before the other node knows both numbers"
            ),
        }
    }

    fn asked(&mut self) {
        if let Some(asked) = self.asked {
            let again = self.around.mock.now - asked >= REPEAT;
            assert!(again || self.may_ask, "R9: a second request is outstanding");
        }
        assert!(!self.ended, "R9: a request when COLO has ended");
        self.asked = Some(self.around.mock.now);
        self.may_ask = false;
    }
}

impl Story for PrimaryStory {
    fn around(&mut self) -> &mut Surroundings {
        &mut self.around
    }

    fn migration(&self) -> Migration {
        self.migration
    }

    fn fences(&mut self, down: bool) {
        self.alone |= down && self.on_peer_lost == OnPeerLost::Fence;
    }

    fn deliver(&mut self, bytes: &[u8]) {
        let frame = self.around.mock.frame(bytes, Origin::S(0));
        self.around.mock.link.push_back(frame);
        self.round();
    }

    fn tell(&mut self, event: QemuEvent) {
        if self.around.mock.stops != self.around.mock.seen {
            self.round();
        }
        self.may_ask = true;
        match event {
            QemuEvent::Stop => (self.stop, self.pass) = (true, false),
            QemuEvent::Pass => self.pass = self.stop,
            QemuEvent::Resume => {
                let counts = self.stop && self.migration == Migration::Colo;
                self.resumed |= counts;
                self.passed |= counts && self.pass;
                (self.stop, self.pass) = (false, false);
                self.protected |= counts && !self.runs;
            }
            QemuEvent::Migration(migration) => self.migrated(migration),
            QemuEvent::Barrier {
                stops, migration, ..
            } if stops == self.around.mock.seen as u32 => {
                self.migrated(migration);
                self.protected |= migration == Migration::Colo && !self.runs;
                (self.runs, self.begins) = (true, false);
            }
            QemuEvent::Connected { migration, .. } => {
                self.begins = false;
                self.ended &= migration != Migration::Colo;
                // A VM that is found in COLO is protected, though nobody saw how that began.
                self.protected |= migration == Migration::Colo;
                if !matches!(migration, Migration::Colo | Migration::Broken) {
                    self.unprotected();
                }
                self.ended |= self.protected && migration == Migration::Broken;
                self.migration = migration;
            }
            QemuEvent::Disconnected => (self.stop, self.pass) = (false, false),
            // A node begins to compare with RESUME, though nothing shows before the ring stops.
            QemuEvent::ColoExit => {
                let state = self.driver.state().state();
                self.ended |= self.protected || !matches!(state, State::Pairing | State::Solo);
            }

            _ => {}
        }
        self.around.mock.tell(event);
        self.round();
    }

    fn tick(&mut self) {
        self.silence();
        let now = self.around.mock.now;
        self.witnessed = self.driver.state().is_witnessed(now);
        self.driver.tick(&mut self.around.mock, now);
        self.judge();
        self.round();
    }

    fn round(&mut self) {
        self.silence();
        if self.around.mock.stops != self.around.mock.seen {
            // The node passes its fence first.
            (self.runs, self.resumed, self.passed) = (false, false, false);
            self.secondary.clear();
        }
        let now = self.around.mock.now;
        self.witnessed = self.driver.state().is_witnessed(now);
        self.driver.round(&mut self.around.mock, now);
        self.judge();
        for bytes in std::mem::take(&mut self.around.mock.carried) {
            let received = self
                .around
                .peer
                .receive(&bytes, bytes.len(), self.around.mock.now);
            assert!(!matches!(received, Received::Data { length, .. } if length == 0));
            while let Some(event) = self.around.peer.next_event() {
                self.around.hear(event);
                if let Event::Message(Message::Synchronized { flow, pvm, svm, .. }) = event {
                    assert_eq!((pvm.number, svm.number), (1_000, 5_000));
                    self.synchronized.push(flow.src_port().unwrap_or(0) - 80);
                }
            }
        }
    }
}
