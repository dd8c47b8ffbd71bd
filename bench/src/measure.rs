//! Rounds of measurements: every set-up runs once in each, so that a slow moment of the machine
//! hits all of them, and a ratio is of figures that are minutes apart at most.

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use crate::error::BenchError;
use crate::figure::Figure;
use crate::fixture::{Effort, Fixture, say};
use crate::machine::Machine;
use crate::report::{Earlier, Report};
use crate::samples::Samples;
use crate::{engine, interrupt, pair, peer, ports, scale, targets, workers};

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The comparator alone.
    Engine,
    /// Two cores against one.
    Workers,
    /// QEMU's colo-compare.
    Peer,
    /// On ports, beside testpmd.
    Ports,
    /// Differences, until a checkpoint is asked for.
    Requests,
    /// What the sleep of an idle core adds.
    Idle,
    /// How costs grow.
    Scale,
    /// Real guests.
    Pair,
}

impl Part {
    /// All, in the order in which a round has them.
    pub const ALL: [Self; 8] = [
        Self::Engine,
        Self::Workers,
        Self::Peer,
        Self::Ports,
        Self::Requests,
        Self::Idle,
        Self::Scale,
        Self::Pair,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Workers => "workers",
            Self::Peer => "peer",
            Self::Ports => "ports",
            Self::Requests => "requests",
            Self::Idle => "idle",
            Self::Scale => "scale",
            Self::Pair => "pair",
        }
    }
}

/// What is to be measured, how, and where to.
pub struct Plan {
    /// The parts.
    pub parts: Vec<Part>,
    /// How often.
    pub rounds: usize,
    /// Seed of the first round.
    pub seed: u32,
    /// Shorter runs.
    pub quick: bool,
    /// Engine and workers: part of the names of the cases.
    pub only: String,
    /// Workers: shares of the dispatcher.
    pub shares: Vec<u32>,
    /// The guest image.
    pub image: PathBuf,
    /// Whether results that are there belong to this measurement.
    pub add: bool,
    /// The results' file.
    pub json: PathBuf,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            rounds: 0,
            seed: 1,
            quick: false,
            only: String::new(),
            shares: workers::Options::default().shares,
            image: PathBuf::from("lab/work/image"),
            add: false,
            json: PathBuf::from("bench/results.json"),
        }
    }
}

impl Plan {
    /// Without named parts all are meant, pairs only where there is time; parts are in a round's
    /// order, each once.
    pub fn complete(&mut self, runs: Option<usize>) {
        let named = std::mem::take(&mut self.parts);
        self.parts = Part::ALL
            .into_iter()
            .filter(|part| match named.is_empty() {
                true => !self.quick || *part != Part::Pair,
                false => named.contains(part),
            })
            .collect();
        self.rounds = runs.unwrap_or(if self.quick { 2 } else { 5 }).max(1);
    }

    fn seed(&self, round: usize) -> u32 {
        self.seed.wrapping_add(round as u32)
    }
}

/// Measures all that is planned, writes the results after each round, and prints the table.
///
/// # Errors
/// What could not be measured, or a signal. The rounds before it are in the results' file.
pub fn run(plan: &Plan) -> Result<(), BenchError> {
    interrupt::catch()?;
    let began = Instant::now();
    let mut fixture = Fixture::new(
        plan.image.clone(),
        Effort {
            seed: plan.seed,
            quick: plan.quick,
        },
    )?;
    let earlier = match plan.add {
        true => Earlier::read(&plan.json)?,
        false => Earlier::default(),
    };
    let mut samples = Samples::default();
    let figures = &earlier.figures;
    figures.iter().for_each(|figure| samples.add_figure(figure));
    let mut report = Report {
        machine: Machine::look(&fixture),
        quick: plan.quick,
        seeds: earlier.seeds,
        seconds: earlier.seconds,
        figures: Vec::new(),
        targets: Vec::new(),
    };
    for round in 0..plan.rounds {
        fixture.effort.seed = plan.seed(round);
        let figures = run_round(round, plan, &fixture)?;
        figures.iter().for_each(|figure| samples.add_figure(figure));
        report.seeds.push(fixture.effort.seed);
        report.seconds = earlier.seconds + began.elapsed().as_secs();
        report.figures = samples.figures();
        report.targets = targets::judge(&report.figures);
        report.write(&plan.json)?;
    }
    print!("{report}");
    say(format_args!("results are in {}", plan.json.display()));
    Ok(())
}

fn run_round(round: usize, plan: &Plan, fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for part in &plan.parts {
        say(format_args!(
            "round {} of {}, seed {}: {}",
            round + 1,
            plan.rounds,
            fixture.effort.seed,
            part.name()
        ));
        figures.extend(run_part(*part, plan, fixture)?);
    }
    Ok(figures)
}

fn run_part(part: Part, plan: &Plan, fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    match part {
        Part::Engine => run_engine(plan, fixture),
        Part::Workers => run_workers(plan, fixture),
        Part::Ports => ports::run(fixture),
        Part::Requests => ports::requests(fixture),
        Part::Idle => ports::idle(fixture),
        Part::Peer => peer::run(fixture),
        Part::Pair => pair::run(fixture),
        Part::Scale => scale::run(fixture),
    }
}

fn run_engine(plan: &Plan, fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    let usual = engine::Options::default();
    engine::run(&engine::Options {
        pairs: fixture.effort.pick(usual.pairs, usual.pairs / 4),
        only: plan.only.clone(),
    })
}

fn run_workers(plan: &Plan, fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    if fixture.cpu_count() < 2 {
        say("workers: left out, there is one CPU");
        return Ok(Vec::new());
    }
    let usual = workers::Options::default();
    let options = workers::Options {
        runs: 1,
        pairs: fixture.effort.pick(usual.pairs, usual.pairs / 4),
        shares: plan.shares.clone(),
        only: plan.only.clone(),
    };
    // It ties its thread to a CPU.
    thread::scope(|scope| {
        let figures = scope.spawn(|| workers::run(&options)).join();
        let figures = figures.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        interrupt::check().map(|()| figures)
    })
}
