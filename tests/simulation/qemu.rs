//! The two QEMUs: COLO's checkpoints step by step in QEMU's order, what their monitors say, and
//! what an operator or a guest's driver does in between.

use colo_testkit::rng::Rng;
use dpdk_colo::frame::Ticks;
use dpdk_colo::protect::{Migration, QemuEvent};

use crate::guest::{Guest, Vm};
use crate::monitor::Line;
use crate::oracle::Oracle;

/// What comes next in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
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
    /// The PVM is gone; somebody may decide that the SVM goes on.
    Orphan,
    TakeOver,
    /// The SVM goes on.
    TakenOver,
}

impl Step {
    /// The steps of a checkpoint, and the time between two.
    pub const PHASES: [Self; 8] = [
        Self::Idle,
        Self::StopSecondary,
        Self::StopPrimary,
        Self::TellStop,
        Self::Move,
        Self::Load,
        Self::Resume,
        Self::StartPrimary,
    ];
}

/// What a release of QEMU does that others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// MIGRATION_PASS is emitted in each checkpoint.
    pub passes: bool,
    /// `cont` is obeyed inside a checkpoint.
    pub cont_inside: bool,
}

impl Release {
    pub const V7_2: Self = Self {
        passes: true,
        cont_inside: true,
    };
    pub const V11_0: Self = Self {
        passes: true,
        cont_inside: false,
    };
    pub const V11_1: Self = Self {
        passes: false,
        cont_inside: false,
    };
    pub const ALL: [Self; 3] = [Self::V7_2, Self::V11_0, Self::V11_1];
}

pub struct Qemu {
    release: Release,
    pub pvm: Vm,
    pub svm: Vm,
    pub primary: Line<QemuEvent>,
    pub secondary: Line<QemuEvent>,
    /// The secondary's node does not hear of every load.
    pub confused: bool,
    mistaken: bool,
    pub colo: bool,
    pub step: Step,
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
    /// Questions for what the SVM's stops are for.
    stop_questions: Vec<Ticks>,
    /// Questions whether the SVM runs.
    run_questions: Vec<(Ticks, u32)>,
    /// The SVM's ring never runs.
    pub mute: bool,
    /// The SVM's run state is `colo`, or would be but for an operator's `cont`.
    svm_for_load: bool,
    /// The state that goes to the SVM.
    state: Guest,
    /// An operator continues the PVM, or the SVM, in this step of the next checkpoint.
    pub cont: Option<(bool, Step)>,
    /// How often an operator tried to continue the SVM, or the PVM, inside a checkpoint.
    pub conts: [u64; 2],
    svm_stopped_by_operator: bool,
    requests: Vec<Ticks>,
    pub checkpoints: u64,
    stopped_by_operator: bool,
    stop_sent: bool,
    /// State of the PVM's migration before COLO.
    before: Migration,
    rng: Rng,
}

impl Qemu {
    pub fn new(rng: &mut Rng, slow_monitor: usize, release: Release) -> Self {
        let pace = |rng: &mut Rng| [40, 80, 200][rng.below(3)];
        let mut pvm = Vm::new(rng.next(), pace(rng));
        pvm.running = true;
        Self {
            release,
            pvm,
            svm: Vm::new(rng.next(), pace(rng)),
            primary: Line::new(rng.next(), slow_monitor),
            secondary: Line::new(rng.next(), slow_monitor),
            confused: false,
            mistaken: false,
            colo: false,
            step: Step::Idle,
            at: 0,
            primary_backend: true,
            backend: true,
            latched: false,
            fails: false,
            questions: Vec::new(),
            secondary_questions: Vec::new(),
            stop_questions: Vec::new(),
            run_questions: Vec::new(),
            mute: false,
            svm_for_load: false,
            state: Guest::default(),
            cont: None,
            conts: [0; 2],
            svm_stopped_by_operator: false,
            requests: Vec::new(),
            checkpoints: 0,
            stopped_by_operator: false,
            stop_sent: false,
            before: Migration::None,
            rng: Rng::new(rng.next()),
        }
    }

    /// COLO begins: the last stop of the migration.
    pub fn enter(&mut self, now: Ticks) {
        self.step = Step::StopPrimary;
        self.at = now;
    }

    /// Its state as text.
    pub fn describe(&self) -> String {
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

    /// Stops of both rings.
    pub fn ring_stops(&self) -> [u32; 2] {
        [self.pvm.stops, self.svm.stops]
    }

    pub fn is_idle(&self) -> bool {
        self.step == Step::Idle
    }

    /// The primary's monitor is there again, and its node asks for the state.
    pub fn connect(&mut self, now: Ticks) {
        let answer = QemuEvent::Connected {
            migration: self.migration(),
            running: self.pvm.running,
            leads: self.colo,
        };
        self.primary.connect(answer, now);
        self.ask(now);
    }

    /// The same of the secondary's.
    pub fn connect_secondary(&mut self, now: Ticks) {
        let answer = QemuEvent::Connected {
            migration: self.secondary_migration(),
            running: self.svm.running,
            leads: false,
        };
        self.secondary.connect(answer, now);
        self.ask_secondary(now);
    }

    fn ask_secondary(&mut self, now: Ticks) {
        if !self.svm.ring {
            return;
        }
        if self.secondary.up {
            let at = self.soon(now, 1_000);
            self.secondary_questions.push((at, self.svm.stops));
        } else {
            let stops = self.svm.stops;
            self.secondary
                .notice(QemuEvent::StartedWithoutMonitor { stops }, now);
        }
    }

    fn migration(&self) -> Migration {
        match self.step {
            // It does not know that the SVM goes on in its place.
            _ if self.colo || self.has_chosen_secondary() => Migration::Colo,
            Step::Over | Step::GoOn => Migration::Completed,
            _ => self.before,
        }
    }

    fn secondary_migration(&self) -> Migration {
        match self.step {
            Step::TakeOver | Step::TakenOver => Migration::Completed,
            Step::Orphan => Migration::Colo,
            _ if self.colo => Migration::Colo,
            _ => Migration::None,
        }
    }

    /// It was decided that the SVM goes on.
    pub fn has_chosen_secondary(&self) -> bool {
        matches!(self.step, Step::TakeOver | Step::TakenOver)
    }

    pub fn disconnect_secondary(&mut self, now: Ticks) {
        self.secondary.cut(QemuEvent::Disconnected, now);
        self.stop_questions.clear();
        self.run_questions.clear();
        let asked = !std::mem::take(&mut self.secondary_questions).is_empty();
        if asked {
            self.ask_secondary(now);
        }
    }

    /// The secondary's node asks whether its VM runs.
    pub fn ask_whether_it_runs(&mut self, question: u32, now: Ticks) {
        if !self.svm.ring && self.secondary.up {
            let at = self.soon(now, 1_000);
            self.run_questions.push((at, question));
        }
    }

    /// The node asks whenever the ring runs and the monitor answers.
    fn ask(&mut self, now: Ticks) {
        if self.pvm.ring && self.primary.up {
            let at = self.soon(now, 1_000);
            self.questions.push((at, self.pvm.stops));
        }
    }

    pub fn disconnect(&mut self, now: Ticks) {
        self.primary.cut(QemuEvent::Disconnected, now);
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

    pub fn step(&mut self, oracle: &mut Oracle, now: Ticks) {
        self.drivers(now);
        self.talk(now);
        self.requests.retain(|at| {
            let due = *at <= now;
            self.latched |= due && self.colo;
            !due
        });
        self.cont_inside(now);
        // A stop is over when the nodes have passed a quiescent point.
        if now < self.at || !self.pvm.is_quiet() || !self.svm.is_quiet() {
            return;
        }
        let (next, at) = match self.step {
            Step::Idle if self.colo && self.latched => (Step::StopSecondary, now),
            Step::Idle | Step::Over | Step::Orphan | Step::TakenOver => return,
            Step::TakeOver => {
                self.svm.running = true;
                self.secondary.emit(QemuEvent::Resume, now);
                self.start_secondary_ring(now);
                (Step::TakenOver, now)
            }
            Step::StopSecondary => {
                self.svm_for_load = true;
                self.svm_stopped_by_operator = false;
                self.stop_secondary(now);
                (Step::StopPrimary, self.soon(now, 300))
            }
            Step::StopPrimary => {
                self.stop_sent = self.pvm.running;
                self.stop_ring();
                self.pvm.running = false;
                oracle.stop();
                (Step::TellStop, now)
            }
            Step::TellStop => {
                if self.stop_sent {
                    self.primary.emit(QemuEvent::Stop, now);
                }
                (Step::Move, self.soon(now, 1_000))
            }
            Step::Move => {
                if self.release.passes {
                    self.primary.emit(QemuEvent::Pass, now);
                }
                self.state = self.pvm.guest.clone();
                if self.fails {
                    self.primary.emit(QemuEvent::ColoExit, now);
                    (Step::FailOver, self.soon(now, 8_000))
                } else {
                    if !self.colo {
                        self.colo = true;
                        self.primary
                            .emit(QemuEvent::Migration(Migration::Colo), now);
                    }
                    (Step::Load, self.soon(now, 2_000))
                }
            }
            Step::Load => {
                self.load(oracle, now);
                (Step::Resume, self.soon(now, 300))
            }
            Step::Resume => {
                self.checkpoints += 1;
                self.stopped_by_operator = false;
                self.cont = None;
                // A VM that an operator has continued runs already.
                if !std::mem::replace(&mut self.pvm.running, true) {
                    self.primary.emit(QemuEvent::Resume, now);
                }
                (Step::StartPrimary, self.soon(now, 300))
            }
            Step::StartPrimary => {
                self.start_ring(now);
                (Step::Idle, now)
            }
            Step::FailOver => {
                if self.pvm.running {
                    self.stop_ring();
                    self.pvm.running = false;
                    self.primary.emit(QemuEvent::Stop, now);
                }
                self.colo = false;
                self.svm.running = false;
                self.stop_secondary_ring();
                oracle.alone = true;
                self.primary
                    .emit(QemuEvent::Migration(Migration::Completed), now);
                (Step::GoOn, self.soon(now, 500))
            }
            Step::GoOn => {
                self.pvm.running = true;
                self.primary.emit(QemuEvent::Resume, now);
                self.start_ring(now);
                (Step::Over, now)
            }
        };
        (self.step, self.at) = (next, at);
    }

    fn load(&mut self, oracle: &mut Oracle, now: Ticks) {
        self.latched = false;
        self.svm.guest = self.state.clone();
        oracle.load();
        self.svm_for_load = false;
        self.secondary
            .emit(QemuEvent::Migration(Migration::Colo), now);
        let ran = std::mem::replace(&mut self.svm.running, true);
        // Not twice in a row: without a RESUME nobody can know of a load.
        let mistaken = self.confused && !self.mistaken && self.rng.one_in(2);
        self.mistaken = mistaken;
        if !(ran || mistaken) {
            self.secondary.emit(QemuEvent::Resume, now);
        }
        self.start_secondary_ring(now);
    }

    /// COLO ends while both VMs run, and the PVM goes on.
    pub fn fail_over(&mut self, now: Ticks) {
        if self.step == Step::Idle && self.colo {
            self.primary.emit(QemuEvent::ColoExit, now);
            self.step = Step::FailOver;
            self.at = self.soon(now, 5_000);
        }
    }

    /// The primary's QEMU dies. A state that has come whole is loaded nevertheless.
    pub fn kill_primary(&mut self, oracle: &mut Oracle, now: Ticks) {
        self.stop_ring();
        self.pvm.running = false;
        self.disconnect(now);
        if self.step == Step::Load && self.rng.one_in(2) {
            self.load(oracle, now);
        }
        self.latched = false;
        self.secondary.emit(QemuEvent::ColoExit, now);
        self.step = Step::Orphan;
    }

    /// The secondary's QEMU dies, which the primary's finds out at the next checkpoint.
    pub fn kill_secondary(&mut self, now: Ticks) {
        self.stop_secondary_ring();
        self.svm.running = false;
        self.secondary.cut(QemuEvent::Disconnected, now);
        self.secondary_questions.clear();
        self.stop_questions.clear();
        self.run_questions.clear();
        self.fails = true;
        match self.step {
            // The PVM stays stopped.
            Step::TellStop | Step::Move | Step::Load => {
                if self.step == Step::TellStop && self.stop_sent {
                    self.primary.emit(QemuEvent::Stop, now);
                }
                self.primary.emit(QemuEvent::ColoExit, now);
                self.step = Step::FailOver;
                self.at = self.soon(now, 20_000);
            }
            Step::StopSecondary | Step::StopPrimary => {
                self.primary.emit(QemuEvent::ColoExit, now);
                self.step = Step::FailOver;
                self.at = self.soon(now, 20_000);
            }
            _ => {}
        }
    }

    /// `x-colo-lost-heartbeat` for the SVM.
    pub fn take_over(&mut self, now: Ticks) {
        if self.step == Step::Orphan && self.svm.is_quiet() {
            self.stop_secondary(now);
            self.secondary
                .emit(QemuEvent::Migration(Migration::Completed), now);
            self.colo = false;
            self.step = Step::TakeOver;
            self.at = self.soon(now, 500);
        }
    }

    /// The SVM is the PVM now; there is no SVM. Its node keeps its monitor.
    pub fn promote(&mut self) -> (Vm, Line<QemuEvent>) {
        let pace = [40, 80, 200][self.rng.below(3)];
        let svm = Vm::new(self.rng.next(), pace);
        let svm = std::mem::replace(&mut self.svm, svm);
        let pvm = std::mem::replace(&mut self.pvm, svm);
        let unheard = Line::new(self.rng.next(), self.secondary.delay);
        let secondary = std::mem::replace(&mut self.secondary, unheard);
        let primary = std::mem::replace(&mut self.primary, secondary);
        self.questions = std::mem::take(&mut self.secondary_questions);
        self.stop_questions.clear();
        self.run_questions.clear();
        self.svm_for_load = false;
        self.requests.clear();
        self.primary_backend = true;
        self.colo = false;
        self.step = Step::Over;
        (pvm, primary)
    }

    /// The QEMUs lose each other, and both VMs run on.
    pub fn split(&mut self, now: Ticks) -> bool {
        let splits = self.step == Step::Idle && self.colo;
        if splits {
            self.primary.emit(QemuEvent::ColoExit, now);
            self.secondary.emit(QemuEvent::ColoExit, now);
            self.step = Step::Orphan;
        }
        splits
    }

    /// The SVM's QEMU gets the failover command. It finds out at the next checkpoint that its peer is lost.
    pub fn usurp(&mut self, now: Ticks) -> bool {
        let usurps = self.step == Step::Idle && self.colo;
        if usurps {
            self.secondary.emit(QemuEvent::ColoExit, now);
            self.step = Step::Orphan;
        }
        usurps
    }

    /// A new SVM waits for a state; COLO may begin again.
    pub fn renew_secondary(&mut self, now: Ticks) {
        self.svm = Vm::new(self.rng.next(), 80);
        self.backend = true;
        self.fails = false;
        self.latched = false;
        self.before = Migration::Completed;
        self.step = Step::Idle;
        self.connect_secondary(now);
    }

    fn stop_ring(&mut self) {
        self.pvm.stop_ring();
    }

    fn start_ring(&mut self, now: Ticks) {
        let ready = self.pvm.running && self.primary_backend && self.pvm.guest.driver_at == 0;
        if ready && self.pvm.is_quiet() && !self.pvm.ring {
            self.pvm.ring = true;
            self.ask(now);
        }
    }

    fn stop_secondary(&mut self, now: Ticks) {
        self.stop_secondary_ring();
        if self.svm.running {
            self.svm.running = false;
            self.secondary.emit(QemuEvent::Stop, now);
            if self.secondary.up {
                let at = self.soon(now, 400);
                self.stop_questions.push(at);
            }
        }
    }

    /// An operator's `cont` inside a checkpoint.
    fn cont_inside(&mut self, now: Ticks) {
        let Some((primary, step)) = self.cont else {
            return;
        };
        if self.step != step || !self.colo || now < self.at {
            return;
        }
        self.cont = None;
        self.conts[usize::from(primary)] += 1;
        if !self.release.cont_inside {
            return;
        }
        if primary && !self.pvm.running && self.pvm.is_quiet() {
            self.pvm.running = true;
            self.primary.emit(QemuEvent::Resume, now);
            self.start_ring(now);
        } else if !primary && !self.svm.running && self.svm.is_quiet() {
            self.svm.running = true;
            self.secondary.emit(QemuEvent::Resume, now);
            self.start_secondary_ring(now);
        }
    }

    fn stop_secondary_ring(&mut self) {
        self.svm.stop_ring();
    }

    fn start_secondary_ring(&mut self, now: Ticks) {
        let ready = self.svm.running && self.backend && self.svm.guest.driver_at == 0 && !self.mute;
        if !ready || self.svm.ring || !self.svm.is_quiet() {
            return;
        }
        self.svm.ring = true;
        self.ask_secondary(now);
    }

    /// The monitors answer.
    fn talk(&mut self, now: Ticks) {
        for (at, stops) in std::mem::take(&mut self.questions) {
            if at > now {
                self.questions.push((at, stops));
                continue;
            }
            let answer = QemuEvent::Barrier {
                stops,
                migration: self.migration(),
                running: self.pvm.running,
            };
            self.primary.emit(answer, now);
        }
        for at in std::mem::take(&mut self.stop_questions) {
            if at > now {
                self.stop_questions.push(at);
                continue;
            }
            let load = self.svm_for_load && !self.svm.running;
            self.secondary.emit(QemuEvent::StoppedFor { load }, now);
        }
        for (at, question) in std::mem::take(&mut self.run_questions) {
            if at > now {
                self.run_questions.push((at, question));
                continue;
            }
            let running = self.svm.running;
            self.secondary
                .emit(QemuEvent::Answered { question, running }, now);
        }
        for (at, stops) in std::mem::take(&mut self.secondary_questions) {
            if at > now {
                self.secondary_questions.push((at, stops));
                continue;
            }
            let answer = QemuEvent::Barrier {
                stops,
                migration: self.secondary_migration(),
                running: self.svm.running,
            };
            self.secondary.emit(answer, now);
        }
    }

    /// Drivers that were reset come back.
    fn drivers(&mut self, now: Ticks) {
        for vm in [&mut self.pvm, &mut self.svm] {
            if vm.running && vm.guest.driver_at != 0 && vm.guest.driver_at <= now {
                vm.guest.driver_at = 0;
            }
        }
        let quiet = [
            Step::Idle,
            Step::Over,
            Step::StopSecondary,
            Step::Orphan,
            Step::TakenOver,
        ];
        if quiet.contains(&self.step) {
            self.start_ring(now);
            self.start_secondary_ring(now);
        }
    }

    pub fn reset_driver(&mut self, which: usize, now: Ticks) {
        let back = now + 100 + self.rng.below(6_000) as Ticks;
        if which != 1 && self.pvm.running {
            self.stop_ring();
            self.pvm.guest.driver_at = back;
        }
        if which != 0 && self.svm.running {
            self.stop_secondary_ring();
            self.svm.guest.driver_at = back + self.rng.below(500) as Ticks;
        }
    }

    /// The operator stops the PVM, if nothing else does.
    pub fn operator_stops(&mut self, now: Ticks) {
        if self.step == Step::Idle && self.pvm.running {
            self.stop_ring();
            self.pvm.running = false;
            self.stopped_by_operator = true;
            self.primary.emit(QemuEvent::Stop, now);
        }
    }

    pub fn operator_continues(&mut self, now: Ticks) {
        if self.step == Step::Idle && self.stopped_by_operator {
            self.stopped_by_operator = false;
            self.pvm.running = true;
            self.primary.emit(QemuEvent::Resume, now);
            self.start_ring(now);
        }
    }

    /// The operator stops the SVM and lets it go on, without a state.
    pub fn operator_blinks(&mut self, now: Ticks) {
        if self.step == Step::Idle && self.svm.running {
            self.stop_secondary(now);
            self.svm.running = true;
            self.secondary.emit(QemuEvent::Resume, now);
            self.start_secondary_ring(now);
        }
    }

    /// The operator stops the SVM for a while, if it runs.
    pub fn operator_stops_secondary(&mut self, now: Ticks) {
        if self.step == Step::Idle && self.svm.running {
            self.stop_secondary(now);
            self.svm_stopped_by_operator = true;
        }
    }

    /// A checkpoint may have made it run before.
    pub fn operator_continues_secondary(&mut self, now: Ticks) {
        if self.svm_stopped_by_operator && self.step == Step::Idle && !self.svm.running {
            self.svm_stopped_by_operator = false;
            self.svm.running = true;
            self.secondary.emit(QemuEvent::Resume, now);
            self.start_secondary_ring(now);
        }
    }

    /// The primary node dies, and with it its monitor connection.
    pub fn lose_primary_backend(&mut self, now: Ticks) {
        self.primary_backend = false;
        self.pvm.lose_backend();
        self.disconnect(now);
        self.primary.next(now);
    }

    /// The secondary node dies; the SVM's NIC has no backend.
    pub fn lose_backend(&mut self, now: Ticks) {
        self.backend = false;
        self.svm.lose_backend();
        self.secondary.cut(QemuEvent::Disconnected, now);
        self.secondary.clear();
        self.secondary_questions.clear();
        self.stop_questions.clear();
        self.run_questions.clear();
    }
}
