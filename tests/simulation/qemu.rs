//! The two QEMUs: COLO's checkpoints step by step in QEMU's order, what their monitors say, and
//! what an operator or a guest's driver does in between.

use dpdk_colo::frame::Ticks;
use dpdk_colo::protect::Monitor;

use crate::guest::Vm;
use crate::monitor::Line;
use crate::nodes::{PrimaryNode, SecondaryNode};
use crate::oracle::Oracle;
use crate::rng::Rng;

/// What comes next in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    StopSecondary,
    StopPrimary,
    TellStop,
    Move,
    Load,
    Resume,
    StartPrimary,
    /// The checkpoint failed; somebody decides that the PVM goes on.
    FailOver,
    GoOn,
    Over,
}

/// What the secondary's monitor says that matters there.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    Stop,
    Answer(u32),
    Connected,
    Gone,
}

/// The secondary's control thread: whether the SVM has loaded a state before its ring started.
#[derive(Default)]
pub struct Control {
    stops_since_start: Option<u32>,
    connected: bool,
    /// It gets everything wrong now and then.
    pub confused: bool,
    pub starts: std::collections::VecDeque<(Ticks, u32, bool)>,
}

pub struct Qemu {
    pub pvm: Vm,
    pub svm: Vm,
    pub primary: Line<Monitor>,
    pub secondary: Line<Told>,
    pub control: Control,
    pub colo: bool,
    step: Step,
    at: Ticks,
    /// The NICs have their backends, the PVM's and the SVM's.
    pub primary_backend: bool,
    pub backend: bool,
    /// A checkpoint was asked for.
    pub latched: bool,
    /// The next checkpoint fails.
    pub fails: bool,
    /// Questions and requests on their way to the primary's QEMU.
    questions: Vec<(Ticks, u32)>,
    secondary_questions: Vec<(Ticks, u32)>,
    requests: Vec<Ticks>,
    pub checkpoints: u64,
    stopped_by_operator: bool,
    told_stop: bool,
    rng: Rng,
}

impl Qemu {
    pub fn new(rng: &mut Rng, slow_monitor: usize) -> Self {
        let pace = |rng: &mut Rng| [40, 80, 200][rng.below(3)];
        let mut pvm = Vm::new(rng.next(), pace(rng));
        pvm.running = true;
        Self {
            pvm,
            svm: Vm::new(rng.next(), pace(rng)),
            primary: Line::new(rng.next(), slow_monitor),
            secondary: Line::new(rng.next(), slow_monitor),
            control: Control::default(),
            colo: false,
            step: Step::Idle,
            at: 0,
            primary_backend: true,
            backend: true,
            latched: false,
            fails: false,
            questions: Vec::new(),
            secondary_questions: Vec::new(),
            requests: Vec::new(),
            checkpoints: 0,
            stopped_by_operator: false,
            told_stop: false,
            rng: Rng::new(rng.next()),
        }
    }

    /// COLO begins: the last stop of the migration.
    pub fn enter(&mut self, now: Ticks) {
        self.step = Step::StopPrimary;
        self.at = now;
    }

    /// Where it is, in words.
    pub fn told(&self) -> String {
        let ring = |up: bool| if up { "up" } else { "down" };
        format!(
            "{:?}, rings {} and {}, monitors {} and {}",
            self.step,
            ring(self.pvm.ring),
            ring(self.svm.ring),
            ring(self.primary.up),
            ring(self.secondary.up)
        )
    }

    pub fn is_idle(&self) -> bool {
        self.step == Step::Idle
    }

    /// The primary's monitor is there again, and its node asks for the state.
    pub fn connect(&mut self, p: &PrimaryNode, now: Ticks) {
        let answer = Monitor::Connected {
            colo: self.colo,
            running: self.pvm.running,
        };
        self.primary.connect(answer, now);
        self.ask(p, now);
    }

    /// The node asks whenever the ring runs and the monitor answers.
    fn ask(&mut self, p: &PrimaryNode, now: Ticks) {
        if self.pvm.ring && self.primary.up {
            let at = self.soon(now, 1_000);
            self.questions.push((at, p.stops));
        }
    }

    pub fn disconnect(&mut self, now: Ticks) {
        self.primary.cut(Monitor::Disconnected, now);
        self.questions.clear();
        self.requests.clear();
    }

    pub fn request(&mut self, now: Ticks) {
        if self.primary.up {
            self.requests.push(now + 50 + self.rng.below(200) as Ticks);
        }
    }

    fn soon(&mut self, now: Ticks, most: usize) -> Ticks {
        now + 20 + self.rng.below(most) as Ticks
    }

    pub fn step(
        &mut self,
        p: &mut PrimaryNode,
        s: &mut SecondaryNode,
        oracle: &mut Oracle,
        now: Ticks,
    ) {
        self.drivers(p, s, now);
        self.talk(s, now);
        self.requests.retain(|at| {
            let due = *at <= now;
            self.latched |= due && self.colo;
            !due
        });
        // A stop is over when the nodes have passed a quiescent point.
        if now < self.at || p.seen != p.stops || s.seen != s.stops {
            return;
        }
        let (next, at) = match self.step {
            Step::Idle if self.colo && self.latched => (Step::StopSecondary, now),
            Step::Idle | Step::Over => return,
            Step::StopSecondary => {
                self.stop_secondary(s, now);
                (Step::StopPrimary, self.soon(now, 300))
            }
            Step::StopPrimary => {
                self.told_stop = self.pvm.running;
                self.stop_ring(p);
                self.pvm.running = false;
                oracle.stop();
                (Step::TellStop, now)
            }
            Step::TellStop => {
                if self.told_stop {
                    self.primary.emit(Monitor::Stop, now);
                }
                (Step::Move, self.soon(now, 1_000))
            }
            Step::Move => {
                self.primary.emit(Monitor::Pass, now);
                if self.fails {
                    self.primary.emit(Monitor::ColoExit, now);
                    (Step::FailOver, self.soon(now, 8_000))
                } else {
                    if !self.colo {
                        self.colo = true;
                        self.primary.emit(Monitor::Migration { colo: true }, now);
                    }
                    (Step::Load, self.soon(now, 2_000))
                }
            }
            Step::Load => {
                self.latched = false;
                self.svm.guest = self.pvm.guest.clone();
                oracle.load();
                self.svm.running = true;
                self.start_secondary_ring(s, now);
                (Step::Resume, self.soon(now, 300))
            }
            Step::Resume => {
                oracle.resumes += 1;
                self.checkpoints += 1;
                self.stopped_by_operator = false;
                self.pvm.running = true;
                self.primary.emit(Monitor::Resume, now);
                (Step::StartPrimary, self.soon(now, 300))
            }
            Step::StartPrimary => {
                self.start_ring(p, now);
                (Step::Idle, now)
            }
            Step::FailOver => {
                if self.pvm.running {
                    self.stop_ring(p);
                    self.pvm.running = false;
                    self.primary.emit(Monitor::Stop, now);
                }
                self.colo = false;
                self.svm.running = false;
                self.stop_secondary_ring(s);
                oracle.alone = true;
                self.primary.emit(Monitor::Migration { colo: false }, now);
                (Step::GoOn, self.soon(now, 500))
            }
            Step::GoOn => {
                self.pvm.running = true;
                self.primary.emit(Monitor::Resume, now);
                self.start_ring(p, now);
                (Step::Over, now)
            }
        };
        (self.step, self.at) = (next, at);
    }

    /// COLO ends while both VMs run, and the PVM goes on.
    pub fn fail_over(&mut self, now: Ticks) {
        if self.step == Step::Idle && self.colo {
            self.primary.emit(Monitor::ColoExit, now);
            self.step = Step::FailOver;
            self.at = self.soon(now, 5_000);
        }
    }

    fn stop_ring(&mut self, p: &mut PrimaryNode) {
        if self.pvm.ring {
            self.pvm.ring = false;
            p.stops += 1;
        }
    }

    fn start_ring(&mut self, p: &PrimaryNode, now: Ticks) {
        let ready = self.pvm.running && self.primary_backend && self.pvm.guest.driver_at == 0;
        if ready && !self.pvm.ring {
            self.pvm.ring = true;
            self.ask(p, now);
        }
    }

    fn stop_secondary(&mut self, s: &mut SecondaryNode, now: Ticks) {
        self.stop_secondary_ring(s);
        if self.svm.running {
            self.svm.running = false;
            self.secondary.emit(Told::Stop, now);
        }
    }

    fn stop_secondary_ring(&mut self, s: &mut SecondaryNode) {
        if self.svm.ring {
            self.svm.ring = false;
            s.stops += 1;
        }
    }

    fn start_secondary_ring(&mut self, s: &SecondaryNode, now: Ticks) {
        let ready = self.svm.running && self.backend && self.svm.guest.driver_at == 0;
        if !ready || self.svm.ring {
            return;
        }
        self.svm.ring = true;
        match self.control.stops_since_start {
            Some(0) if self.control.connected => {
                let at = self.soon(now, 1_000);
                self.secondary_questions.push((at, s.stops));
            }
            _ => self.tell_start(s.stops, true, now),
        }
    }

    fn tell_start(&mut self, stops: u32, loaded: bool, now: Ticks) {
        self.control.stops_since_start = Some(0);
        let loaded = if self.control.confused {
            self.rng.one_in(2)
        } else {
            loaded
        };
        let at = now + self.rng.below(300) as Ticks;
        let last = self.control.starts.back().map_or(0, |(at, ..)| *at);
        self.control.starts.push_back((at.max(last), stops, loaded));
    }

    /// The monitors' questions, and what the secondary's control thread makes of what it hears.
    fn talk(&mut self, s: &SecondaryNode, now: Ticks) {
        for (at, stops) in std::mem::take(&mut self.questions) {
            if at > now {
                self.questions.push((at, stops));
                continue;
            }
            let answer = Monitor::Barrier {
                stops,
                colo: self.colo,
                running: self.pvm.running,
            };
            self.primary.emit(answer, now);
        }
        for (at, stops) in std::mem::take(&mut self.secondary_questions) {
            if at > now {
                self.secondary_questions.push((at, stops));
            } else if self.secondary.up {
                self.secondary.emit(Told::Answer(stops), now);
            } else {
                self.tell_start(stops, true, now);
            }
        }
        while let Some(told) = self.secondary.next(now) {
            match told {
                Told::Stop => {
                    self.control.stops_since_start = self.control.stops_since_start.map(|n| n + 1);
                }
                Told::Answer(stops) => {
                    let loaded = self.control.stops_since_start != Some(0);
                    self.tell_start(stops, loaded, now);
                }
                Told::Connected => self.control.connected = true,
                Told::Gone => {
                    self.control.connected = false;
                    // An answer that was under way will not come.
                    self.tell_start(s.stops, true, now);
                }
            }
        }
    }

    /// Drivers that were reset come back.
    fn drivers(&mut self, p: &mut PrimaryNode, s: &mut SecondaryNode, now: Ticks) {
        for vm in [&mut self.pvm, &mut self.svm] {
            if vm.running && vm.guest.driver_at != 0 && vm.guest.driver_at <= now {
                vm.guest.driver_at = 0;
            }
        }
        if self.step == Step::Idle || self.step == Step::Over || self.step == Step::StopSecondary {
            self.start_ring(p, now);
            self.start_secondary_ring(s, now);
        }
    }

    pub fn reset_driver(
        &mut self,
        p: &mut PrimaryNode,
        s: &mut SecondaryNode,
        which: usize,
        now: Ticks,
    ) {
        let back = now + 100 + self.rng.below(6_000) as Ticks;
        if which != 1 && self.pvm.running {
            self.stop_ring(p);
            self.pvm.guest.driver_at = back;
        }
        if which != 0 && self.svm.running {
            self.stop_secondary_ring(s);
            self.svm.guest.driver_at = back + self.rng.below(500) as Ticks;
        }
    }

    /// The operator stops the PVM, if nothing else does.
    pub fn operator_stops(&mut self, p: &mut PrimaryNode, now: Ticks) {
        if self.step == Step::Idle && self.pvm.running {
            self.stop_ring(p);
            self.pvm.running = false;
            self.stopped_by_operator = true;
            self.primary.emit(Monitor::Stop, now);
        }
    }

    pub fn operator_continues(&mut self, p: &PrimaryNode, now: Ticks) {
        if self.step == Step::Idle && self.stopped_by_operator {
            self.stopped_by_operator = false;
            self.pvm.running = true;
            self.primary.emit(Monitor::Resume, now);
            self.start_ring(p, now);
        }
    }

    /// The operator stops the SVM and lets it go on, without a state.
    pub fn operator_blinks(&mut self, s: &mut SecondaryNode, now: Ticks) {
        if self.step == Step::Idle && self.svm.running {
            self.stop_secondary(s, now);
            self.svm.running = true;
            self.start_secondary_ring(s, now);
        }
    }

    /// The primary node dies, and with it its monitor connection.
    pub fn lose_primary_backend(&mut self, now: Ticks) {
        self.primary_backend = false;
        self.pvm.ring = false;
        self.disconnect(now);
        self.primary.next(now);
    }

    /// The secondary node dies; the SVM's NIC has no backend.
    pub fn lose_backend(&mut self) {
        self.backend = false;
        self.svm.ring = false;
        self.control.stops_since_start = None;
        self.control.starts.clear();
        self.secondary_questions.clear();
    }
}
