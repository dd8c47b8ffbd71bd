//! One injection: a pair under load, the fault, what a cluster manager does about it, and what must hold after.
//!
//! In: a [`Plan`]. Out: an [`Outcome`]. The suite is the cluster manager: it knows who failed, makes
//! sure with SIGKILL that the loser is down, and gives the survivor's QEMU `x-colo-lost-heartbeat`.

use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use colo_testkit::thread::Held;
use rustix::process::Signal;
use serde_json::json;

use super::cluster::{Bounds, Cluster, Member, Site};
use super::plan::{Kind, Part, Phase, Plan, Side, Way};
use super::relay::{Line, Sight};
use crate::audit;
use crate::disk;
use crate::error::LabError;
use crate::interrupt;
use crate::load::{Load, Record, written};
use crate::process::Handle;
use crate::wire::{Cutter, Direction, Impairment, Wire};
use crate::workload::{Family, TrafficError, differ, echo, wall_clock};

/// Until every client has had its first answers.
const WARM: Duration = Duration::from_secs(30);
/// Until every client has answers again.
const RECOVERY: Duration = Duration::from_secs(30);
/// After this time inside a checkpoint, QEMU does not come out of it any more.
const STANDSTILL: Duration = Duration::from_secs(8);
/// Until a provoked checkpoint comes to the phase that is wanted.
const PHASE: Duration = Duration::from_secs(15);
/// Answers that show that a client is served.
const ANSWERS: u64 = 3;
/// Half a period of a slow process.
const DUTY: Duration = Duration::from_millis(100);
/// Of a node that is to run into its bound.
const LITTLE: Bounds = Bounds {
    memory: 128,
    hold: Some(64),
    ..Bounds::AMPLE
};
/// Of nodes that need no cluster manager.
const ALONE: Bounds = Bounds {
    decides: true,
    ..Bounds::AMPLE
};
/// Of hosts that may vanish.
const APART: Bounds = Bounds { tcp: true, ..ALONE };

/// Of nodes that report to each other whether their poll cores run.
const REPORTING: Bounds = Bounds {
    reports: true,
    ..APART
};

/// What came of an injection.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub plan: Plan,
    /// What each client has seen, from the fault on.
    pub records: Vec<Record>,
    /// From the failover command until QEMU had started the survivor again (RESUME), or, where it did not
    /// stop it, had left COLO (COLO_EXIT); by QEMU's clock. `None` where a node gave the command.
    pub qemu: Option<Duration>,
    /// Both VMs stood still inside a checkpoint, and the primary was fenced for it.
    pub stood_still: bool,
    /// The survivor's VM stood inside a checkpoint from the fault until its QEMU received `x-colo-lost-heartbeat`.
    pub inside: bool,
    /// What the auditor says, where there is one and it found nothing wrong.
    pub audit: Option<String>,
    /// Which living host's disk holds how many acknowledged records.
    pub disks: Vec<String>,
    /// Everything that must not be; empty if the injection passed.
    pub violations: Vec<String>,
}

impl Outcome {
    /// The sum of one count over all clients.
    pub fn sum(&self, count: impl Fn(&Record) -> u64) -> u64 {
        self.records.iter().map(count).sum()
    }

    /// The longest silence on an open connection, or where connections are opened.
    pub fn silence(&self, opens: bool) -> Duration {
        let all = self.of(opens).map(|record| record.silence);
        all.max().unwrap_or_default()
    }

    /// The longest time from the order, which is the failover command or the end of the fault, to a
    /// client's first new byte; `opens` as in [`Outcome::silence`].
    pub fn first(&self, opens: bool) -> Option<Duration> {
        self.of(opens).map(|record| record.first).max()?
    }

    /// As [`Outcome::first`], without what QEMU took.
    pub fn beside_qemu(&self, opens: bool) -> Option<Duration> {
        Some(self.first(opens)?.saturating_sub(self.qemu?))
    }

    fn of(&self, opens: bool) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(move |record| record.opens == opens)
    }
}

/// Runs `plan` on a fresh pair. What goes wrong is in the outcome.
///
/// # Errors
/// [`LabError`] only if it was interrupted.
pub fn run(site: &Site<'_>, number: usize, plan: Plan) -> Result<Outcome, LabError> {
    let mut outcome = Outcome {
        plan,
        records: Vec::new(),
        qemu: None,
        stood_still: false,
        inside: false,
        audit: None,
        disks: Vec::new(),
        violations: Vec::new(),
    };
    match attempt(site, number, &mut outcome) {
        Err(error) if error.is_interrupt() => return Err(error),
        Err(error) => outcome.violations.push(error.to_string()),
        Ok(()) => {}
    }
    for record in &outcome.records {
        if record.wrong + record.resets + record.failures > 0 {
            let words = record.words.join("; ");
            let name = &record.name;
            outcome.violations.push(format!("{name}: {words}"));
        }
    }
    Ok(outcome)
}

fn attempt(site: &Site<'_>, number: usize, outcome: &mut Outcome) -> Result<(), LabError> {
    let plan = outcome.plan.clone();
    let bounds = match plan.kind {
        Kind::Memory => LITTLE,
        Kind::Fence(_) => ALONE,
        Kind::Vanish(_) => APART,
        Kind::Stall(_) => REPORTING,
        _ => Bounds::AMPLE,
    };
    let mut cluster = Cluster::start(site, number, plan.seed, bounds)?;
    let load = Load::start(&site.net, &plan.clients, plan.seed)?;
    let result = load
        .wait_answers(ANSWERS, WARM)
        .and_then(|()| Injection { site, load: &load }.carry_out(&mut cluster, outcome));
    outcome.records = load.finish();
    if let Kind::Vanish(side) = plan.kind {
        site.net.join(member(&mut cluster, side).host())?;
    }
    result?;
    if site.host.disk {
        let all = written(&plan.clients, plan.seed, &outcome.records);
        outcome.disks = cluster.judge_disks(&all)?;
    }
    let mut full = 0;
    for member in [&mut cluster.primary, &mut cluster.secondary] {
        if let Some(node) = member.node.take() {
            let summary = node.finish()?;
            for reason in ["hold_full", "flow_hold", "half_open_hold", "datagram_hold"] {
                let path = format!("/divergences/{reason}");
                full += summary.counter(&path).unwrap_or(0);
            }
        }
    }
    if let Some(program) = &site.host.audit {
        outcome.audit = Some(audit::run(program, &cluster.dir)?);
    }
    match bounds.hold {
        Some(hold) if full == 0 => Err(LabError::Claim {
            reason: format!("the bound of {hold} held frames was never met"),
        }),
        _ => Ok(()),
    }
}

struct Injection<'a> {
    site: &'a Site<'a>,
    load: &'a Load,
}

impl Injection<'_> {
    fn carry_out(&self, cluster: &mut Cluster, outcome: &mut Outcome) -> Result<(), LabError> {
        let plan = outcome.plan.clone();
        if plan.phase == Phase::Any {
            interrupt::sleep(plan.delay)?;
        }
        self.load.mark();
        match plan.kind {
            Kind::Down(side, part, way) => {
                let asked = self.take_down(cluster, &plan, side, part, way)?;
                self.fail_over(cluster, &plan, outcome)?;
                asked.map_or(Ok(()), |asked| asked.check(cluster))
            }
            Kind::Cut(..) => {
                impair(cluster, plan.kind);
                self.fail_over(cluster, &plan, outcome)
            }
            Kind::Fence(side) => self.await_fencing(cluster, side, outcome),
            Kind::Vanish(side) => self.vanish(cluster, side, outcome),
            Kind::Twice(side) => self.kill_twice(cluster, side, outcome),
            _ => {
                let quiet = self.site.net.frames_from(cluster.secondary.host())?;
                self.disturb(cluster, &plan)?;
                self.recover(cluster, outcome)?;
                let spoke = self.site.net.frames_from(cluster.secondary.host())? != quiet;
                if spoke && !outcome.stood_still {
                    let text = "the secondary's uplink sent while the primary served";
                    outcome.violations.push(text.to_owned());
                }
                Ok(())
            }
        }
    }

    /// A part of one host goes down, at the planned point of a checkpoint if there is one.
    fn take_down(
        &self,
        cluster: &mut Cluster,
        plan: &Plan,
        side: Side,
        part: Part,
        way: Way,
    ) -> Result<Option<Asked>, LabError> {
        let signal = match way {
            Way::Kill => Signal::KILL,
            Way::Stop => Signal::STOP,
        };
        let victims = handles(member(cluster, side), part)?;
        let strike = move || victims.iter().for_each(|victim| victim.signal(signal));
        let sight = match plan.phase {
            Phase::Any => {
                strike();
                return Ok(None);
            }
            Phase::Requested => Sight::Request,
            Phase::Stopped | Phase::Transfer => Sight::Stop,
            Phase::Resumed => Sight::Resume,
        };
        let (acted, has_acted) = channel();
        let delay = plan.delay;
        cluster.primary.relay.arm(sight, move || {
            let struck = move || {
                std::thread::sleep(delay);
                strike();
                let _ = acted.send(());
            };
            if delay.is_zero() {
                struck();
            } else {
                std::thread::spawn(struck);
            }
        });
        let asked = Asked::start(self.site, Family::V4)?;
        interrupt::wait_for(&plan.phase.to_string(), PHASE, || {
            Ok(has_acted.try_recv().ok())
        })?;
        Ok(Some(asked))
    }

    /// A host dies, the survivor is protected by a new one and dies, too.
    fn kill_twice(
        &self,
        cluster: &mut Cluster,
        side: Side,
        outcome: &mut Outcome,
    ) -> Result<(), LabError> {
        let plan = outcome.plan.clone();
        let kill = |cluster: &mut Cluster, side| {
            let victims = handles(member(cluster, side), Part::Host)?;
            victims
                .iter()
                .for_each(|victim| victim.signal(Signal::KILL));
            Ok::<_, LabError>(())
        };
        kill(cluster, side)?;
        self.fail_over(cluster, &plan, outcome)?;
        cluster.protect_again(self.site, side)?;
        self.recover(cluster, outcome)?;
        if outcome.stood_still {
            return Ok(());
        }
        let next = Plan {
            loser: Side::Primary,
            ..plan
        };
        kill(cluster, Side::Primary)?;
        self.fail_over(cluster, &next, outcome)
    }

    /// The cluster manager's part: fence the loser, give the survivor the failover command, see that it serves.
    fn fail_over(
        &self,
        cluster: &mut Cluster,
        plan: &Plan,
        outcome: &mut Outcome,
    ) -> Result<(), LabError> {
        let standby = cluster.secondary.host();
        let loser = member(cluster, plan.loser);
        if loses_power(plan.kind) {
            self.site.net.forget(loser.host())?;
        }
        interrupt::sleep(plan.notice)?;
        let before = self.site.net.frames_from(standby)?;
        loser.guest.kill();
        if let Some(mut node) = loser.node.take() {
            node.kill();
        }
        self.site.net.forget(loser.host())?;
        if self.site.net.frames_from(standby)? != before {
            let text = "the secondary's uplink sent before the primary was fenced";
            outcome.violations.push(text.to_owned());
        }
        let survivor = member(cluster, plan.loser.other());
        self.load.order();
        let ordered = wall_clock();
        let qmp = &survivor.guest.qmp;
        if self.site.host.disk {
            disk::before_failover(qmp, plan.loser == Side::Primary)?;
        }
        qmp.command("x-colo-lost-heartbeat", json!({}))?;
        self.goes_on(cluster, plan.loser, outcome)?;
        outcome.qemu = since(member(cluster, plan.loser.other()), ordered);
        Ok(())
    }

    /// A host stands still, and the other's node does what else a cluster manager does.
    fn await_fencing(
        &self,
        cluster: &mut Cluster,
        side: Side,
        outcome: &mut Outcome,
    ) -> Result<(), LabError> {
        cluster.arm(side)?;
        let loser = member(cluster, side);
        for process in handles(loser, Part::Host)? {
            process.signal(Signal::STOP);
        }
        self.load.order();
        interrupt::wait_for("the fencing command", RECOVERY, || {
            Ok(loser.guest.alive().is_err().then_some(()))
        })?;
        if let Some(mut node) = loser.node.take() {
            node.kill();
        }
        self.goes_on(cluster, side, outcome)
    }

    /// Nothing passes between a host and the rest of the world any more, and nothing is reset. The other's node does
    /// what a cluster manager does.
    fn vanish(
        &self,
        cluster: &mut Cluster,
        side: Side,
        outcome: &mut Outcome,
    ) -> Result<(), LabError> {
        let plan = outcome.plan.clone();
        cluster.arm(side)?;
        let state = cluster.state.as_ref().map(Wire::cutter);
        let state = state.expect("a host that may vanish exchanges state by TCP");
        let cutters = [state.clone(), cluster.wire.cutter()];
        let cut = move || cutters.iter().for_each(Cutter::cut);
        match plan.phase {
            Phase::Transfer => {
                let fuse = state.clone();
                cluster.primary.relay.arm(Sight::Stop, move || {
                    fuse.cut_behind(Direction::Forth, plan.frames);
                });
            }
            Phase::Any => cut(),
            _ => {
                let cut = cut.clone();
                cluster.primary.relay.arm(Sight::Stop, move || {
                    std::thread::spawn(move || {
                        std::thread::sleep(plan.delay);
                        cut();
                    });
                });
            }
        }
        // Only a checkpoint has such a phase.
        let asked = (plan.phase != Phase::Any).then(|| Asked::start(self.site, Family::V4));
        let limit = Instant::now() + PHASE;
        while !state.is_cut() {
            interrupt::check()?;
            if Instant::now() > limit {
                return Err(LabError::Late {
                    what: plan.phase.to_string(),
                    seconds: PHASE.as_secs(),
                    tail: String::new(),
                });
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        cut();
        let lost = member(cluster, side).host();
        self.site.net.part(lost)?;

        let (acted, has_acted) = channel();
        let order = self.load.order_from_elsewhere();
        let survivor = member(cluster, side.other());
        survivor.relay.arm(Sight::FailOver, move || {
            order();
            let _ = acted.send(wall_clock());
        });
        let ordered = interrupt::wait_for("the failover command", RECOVERY, || {
            Ok(has_acted.try_recv().ok())
        })?;
        let qmp = &survivor.guest.qmp;
        outcome.inside = qmp.last_before("STOP", ordered) > qmp.last_before("RESUME", ordered);
        let loser = member(cluster, side);
        interrupt::wait_for("the fenced QEMU's end", RECOVERY, || {
            Ok(loser.guest.alive().is_err().then_some(()))
        })?;
        if let Some(mut node) = loser.node.take() {
            node.kill();
        }
        self.goes_on(cluster, side, outcome)?;
        outcome.qemu = since(member(cluster, side.other()), ordered);
        match asked {
            None => Ok(()),
            Some(asked) => asked?.check(cluster),
        }
    }

    /// The other host serves, and the loser, which is down, is silent.
    fn goes_on(
        &self,
        cluster: &mut Cluster,
        loser: Side,
        outcome: &mut Outcome,
    ) -> Result<(), LabError> {
        let lost = member(cluster, loser).host();
        let dead = self.site.net.frames_from(lost)?;
        let survivor = member(cluster, loser.other());
        self.load.wait_answers(ANSWERS, RECOVERY)?;
        sound(survivor)?;
        // A connection of its own, to a service that says who answers.
        let answer = self.site.net.enter(|| Ok(differ::ask(Family::V4)?))?;
        sound(survivor)?;
        if !survivor.guest.answers().contains(&answer.line) {
            let line = &answer.line;
            let text = format!("the survivor never said {line:?}, which a client got");
            outcome.violations.push(text);
        }
        if self.site.net.frames_from(lost)? != dead {
            outcome
                .violations
                .push("the loser's uplink sent after it was fenced".to_owned());
        }
        Ok(())
    }

    /// A fault that ends by itself.
    fn disturb(&self, cluster: &mut Cluster, plan: &Plan) -> Result<(), LabError> {
        let lasts = plan.lasts;
        match plan.kind {
            Kind::QmpClosed(side) | Kind::QmpFrozen(side) => {
                let relay = &member(cluster, side).relay;
                relay.set(match plan.kind {
                    Kind::QmpClosed(_) => Line::Closed,
                    _ => Line::Frozen,
                });
                interrupt::sleep(lasts)?;
                relay.set(Line::Open);
            }
            Kind::Slow(part) => {
                let slow = handles(&mut cluster.secondary, part)?;
                let end = Instant::now() + lasts;
                while Instant::now() < end {
                    for signal in [Signal::STOP, Signal::CONT] {
                        slow.iter().for_each(|process| process.signal(signal));
                        std::thread::sleep(DUTY);
                    }
                    interrupt::check()?;
                }
            }
            Kind::Stall(side) => {
                // A node that shoots its peer does so.
                cluster.arm(Side::Primary)?;
                cluster.arm(Side::Secondary)?;
                let node = member(cluster, side).node.as_ref();
                let node = node.expect("nothing has ended the node");
                let held = Held::poll_core(node.id()).map_err(|error| LabError::Claim {
                    reason: error.to_string(),
                })?;
                interrupt::sleep(lasts)?;
                drop(held);
            }
            Kind::Restart(side) => {
                let member = member(cluster, side);
                if let Some(mut node) = member.node.take() {
                    node.kill();
                }
                interrupt::sleep(plan.notice)?;
                member.restart_node(self.site)?;
            }
            Kind::Memory => {
                let still = handles(&mut cluster.secondary, Part::Vm)?;
                still.iter().for_each(|vm| vm.signal(Signal::STOP));
                let flood = self
                    .site
                    .net
                    .enter(|| Ok(echo::flood(Family::V4, lasts, FLOOD)?));
                still.iter().for_each(|vm| vm.signal(Signal::CONT));
                flood?;
            }
            kind => {
                impair(cluster, kind);
                interrupt::sleep(lasts)?;
                let lost: u64 = [Direction::Forth, Direction::Back]
                    .map(|direction| cluster.wire.carried(direction).lost)
                    .iter()
                    .sum();
                if lost == 0 && matches!(kind, Kind::Loss | Kind::Partition) {
                    return Err(LabError::Claim {
                        reason: "the wire was to lose frames and lost none".to_owned(),
                    });
                }
            }
        }
        for direction in [Direction::Forth, Direction::Back] {
            cluster.wire.impair(direction, Impairment::default());
        }
        Ok(())
    }

    /// Nobody failed: both hosts live, clients are served, and the pair still makes checkpoints.
    fn recover(&self, cluster: &mut Cluster, outcome: &mut Outcome) -> Result<(), LabError> {
        self.load.order();
        if let Err(error) = self.load.wait_answers(ANSWERS, STANDSTILL) {
            if error.is_interrupt() {
                return Err(error);
            }
            if stands_still(&cluster.primary) {
                // What a cluster manager does about a pair whose QEMUs hang. The primary's does not
                // come out of its checkpoint even when the secondary's is gone.
                outcome.stood_still = true;
                let plan = Plan {
                    loser: Side::Primary,
                    notice: Duration::ZERO,
                    ..outcome.plan.clone()
                };
                return self.fail_over(cluster, &plan, outcome);
            }
            self.load.wait_answers(ANSWERS, RECOVERY)?;
        }
        sound(&mut cluster.primary)?;
        sound(&mut cluster.secondary)?;
        let answer = self.site.net.enter(|| Ok(differ::ask(Family::V4)?))?;
        let primary = &cluster.primary.guest;
        interrupt::wait_for("a checkpoint after the fault", RECOVERY, || {
            let all = primary.qmp.checkpoints();
            Ok(all
                .into_iter()
                .find(|checkpoint| checkpoint.resume >= answer.asked))
        })?;
        self.load.wait_answers(ANSWERS, RECOVERY)
    }
}

/// From `ordered` until the VM ran again, or its QEMU had left COLO.
fn since(survivor: &Member, ordered: Duration) -> Option<Duration> {
    let qmp = &survivor.guest.qmp;
    ["RESUME", "COLO_EXIT"]
        .into_iter()
        .filter_map(|name| qmp.last(name)?.checked_sub(ordered))
        .max()
}

/// Datagrams per second of a flood.
const FLOOD: u32 = 20_000;

/// Whether the VM has been stopped for a checkpoint for too long.
fn stands_still(member: &Member) -> bool {
    let qmp = &member.guest.qmp;
    let since = qmp
        .last("STOP")
        .filter(|stop| qmp.last("RESUME") < Some(*stop));
    since.is_some_and(|stop| wall_clock().saturating_sub(stop) > STANDSTILL / 2)
}

/// Whether the fault takes a host's carrier away with it.
fn loses_power(kind: Kind) -> bool {
    matches!(kind, Kind::Down(_, Part::Host, Way::Kill) | Kind::Twice(_))
}

fn impair(cluster: &Cluster, kind: Kind) {
    if let Some([forth, back]) = kind.impairments() {
        cluster.wire.impair(Direction::Forth, forth);
        cluster.wire.impair(Direction::Back, back);
    }
}

fn member(cluster: &mut Cluster, side: Side) -> &mut Member {
    match side {
        Side::Primary => &mut cluster.primary,
        Side::Secondary => &mut cluster.secondary,
    }
}

fn handles(member: &mut Member, part: Part) -> Result<Vec<Handle>, LabError> {
    let mut handles = Vec::new();
    if matches!(part, Part::Vm | Part::Host) {
        handles.push(member.guest.handle()?);
    }
    if matches!(part, Part::Node | Part::Host)
        && let Some(node) = &member.node
    {
        handles.push(node.handle()?);
    }
    Ok(handles)
}

/// Both processes run, and the guest's kernel has no complaint.
fn sound(member: &mut Member) -> Result<(), LabError> {
    member.guest.alive()?;
    if let Some(node) = &mut member.node {
        node.alive()?;
    }
    match member.guest.complaint() {
        None => Ok(()),
        Some(line) => Err(LabError::Claim {
            reason: format!("the kernel of {} says {line:?}", member.name),
        }),
    }
}

/// A question to the differing service that is under way while a host goes down.
struct Asked(JoinHandle<Result<differ::Answer, TrafficError>>);

impl Asked {
    fn start(site: &Site<'_>, family: Family) -> Result<Self, LabError> {
        let namespace = site.net.handle()?;
        Ok(Self(std::thread::spawn(move || {
            namespace
                .enter()
                .map_err(|_| TrafficError::Interrupted)
                .and_then(|()| differ::ask(family))
        })))
    }

    /// Its connection must have lived, and the answer must be one that a VM gave.
    fn check(self, cluster: &Cluster) -> Result<(), LabError> {
        let answer = match self.0.join() {
            Ok(answer) => answer?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let said = [&cluster.primary, &cluster.secondary]
            .into_iter()
            .any(|member| member.guest.answers().contains(&answer.line));
        if said {
            return Ok(());
        }
        Err(LabError::Claim {
            reason: format!("neither VM said {:?}, which a client got", answer.line),
        })
    }
}
