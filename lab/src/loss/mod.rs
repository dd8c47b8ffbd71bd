//! Loss between a node and its client: `colo-lab loss`.
//!
//! In: which wires, how many rounds, a seed. Out: for each wire and load the time of a protected pair and of one of two
//! unprotected guests, the ratio of their rates, the pair's checkpoints with their reasons, as a table and
//! as JSON.
//!
//! An unprotected guest stands behind the same program without a secondary, which forwards and sleeps between empty
//! polls as a pair's nodes do. testpmd in its place polls all the time: with two of them the guests get less than
//! half of two cores, and the figures show that, not protection (`--beside testpmd` shows it).
//!
//! One pair and one set of two unprotected guests live for the whole run, since a boot under TCG takes longer than
//! most loads. The two unprotected guests do the same at the same time, as the two VMs of a pair do. Only one set
//! works at a time; the other one is idle, which costs the same in both directions: two nodes that sleep between
//! empty polls, two VMs that sleep between timer ticks. Nothing of a pair may be stopped instead, COLO would see it.
//! Only testpmd is stopped by a signal while the pair is measured, after QEMU has stopped its guest and the guest's
//! clock. Each wire is measured at the pair first and then at the others, which gives the pair the time that the
//! comparator waits for what does not come ([`SETTLE`]): a checkpoint that comes then belongs to that wire, too.
//! Between loads the wire is clean until nothing passes any more.
//!
//! Loads are over IPv4 in rounds 1, 3, ... and over IPv6 in the others. In a round both sets meet the same seed: the
//! n-th frame of a load suffers the same in both. The medians are over rounds, that of the ratio over the ratios
//! within a round.

mod load;
mod plan;
mod report;
mod site;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

pub use load::Load;
pub use plan::{Kind, Way};
pub use site::{Site, Task};

use crate::error::LabError;
use crate::interrupt;
use crate::node::dpdk_version;
use crate::pair::{Host, Mode};
use crate::progress::say;
use crate::workload::Family;
use load::LOADS;
use report::{Checkpoints, Results, Trial};
use site::{Beside, causes};

/// After its last load a pair rests for this time before the next wire: longer than the comparator's timeout.
const SETTLE: Duration = Duration::from_secs(4);

/// What to measure.
#[derive(Debug, Clone)]
pub struct Order {
    /// How often each wire is measured.
    pub rounds: usize,
    /// Of all draws.
    pub seed: u64,
    /// The wires; all if there are none.
    pub only: Vec<Kind>,
    /// The loads; all if there are none.
    pub loads: Vec<Load>,
    /// How many pages a load of pages fetches, as [`Kind::pages`] has it.
    pub pages: usize,
    /// Whether a figure below its goal fails the run.
    pub assert: bool,
    /// What stands between an unprotected guest and its client.
    pub beside: Middle,
}

/// What stands between an unprotected guest and its client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Middle {
    /// The program under test, without a secondary.
    #[default]
    Alone,
    /// testpmd.
    Testpmd,
}

impl Middle {
    /// By its name on the command line.
    ///
    /// # Errors
    /// The names there are.
    pub fn parse(name: &str) -> Result<Self, &'static str> {
        match name {
            "alone" => Ok(Self::Alone),
            "testpmd" => Ok(Self::Testpmd),
            _ => Err("--beside is alone or testpmd"),
        }
    }

    fn mode(self, bin: PathBuf) -> Mode {
        match self {
            Self::Alone => Mode::Alone(bin),
            Self::Testpmd => Mode::Unprotected,
        }
    }
}

/// Measures and reports; true if nothing was wrong, and with `assert`, if all goals were reached.
///
/// # Errors
/// What kept a set-up from running, after the figures there are were reported.
pub fn run(host: &Host, bin: PathBuf, order: &Order, json_file: &Path) -> Result<bool, LabError> {
    let kinds: &[Kind] = if order.only.is_empty() {
        &plan::ALL
    } else {
        &order.only
    };
    say(
        "loss",
        format!(
            "{} wires, {} rounds, seed {}",
            kinds.len(),
            order.rounds,
            order.seed
        ),
    );
    let mut results = Results::default();
    let start = Instant::now();
    let measured = measure(host, bin, order, kinds, &mut results);
    let seconds = start.elapsed().as_secs();
    print!("{results}");
    let mut document = results.json();
    document["qemu"] = json!(host.release.to_string());
    document["dpdk"] = json!(dpdk_version());
    document["accelerator"] = json!(host.accel.to_string());
    document["cpus"] = json!(std::thread::available_parallelism().map_or(0, usize::from));
    document["beside"] = json!(order.beside.mode(PathBuf::new()).to_string());
    document["seed"] = json!(order.seed);
    document["rounds"] = json!(order.rounds);
    document["pages"] = json!(order.pages);
    document["wall_seconds"] = json!(seconds);
    if let Some(dir) = json_file.parent() {
        fs::create_dir_all(dir).map_err(LabError::file(dir))?;
    }
    fs::write(json_file, format!("{document:#}\n")).map_err(LabError::file(json_file))?;
    say(
        "loss",
        format!("{seconds} s; figures are in {}", json_file.display()),
    );
    measured?;
    for audit in &results.audits {
        say("audit", audit);
    }
    if results.dropped > 0 {
        let dropped = results.dropped;
        say(
            "wires",
            format!("{dropped} frames were lost for want of room, unasked"),
        );
    }
    let (violations, misses) = (results.violations(), results.misses());
    for violation in &violations {
        println!("FAILED  {violation}");
    }
    for miss in &misses {
        println!("{}  {miss}", if order.assert { "FAILED" } else { "below " });
    }
    println!(
        "{} violations, {} goals missed",
        violations.len(),
        misses.len()
    );
    Ok(violations.is_empty() && (misses.is_empty() || !order.assert))
}

fn measure(
    host: &Host,
    bin: PathBuf,
    order: &Order,
    kinds: &[Kind],
    results: &mut Results,
) -> Result<(), LabError> {
    let mode = order.beside.mode(bin.clone());
    say("beside", format!("two unprotected guests, {mode}"));
    // The auditor judges pairs.
    let unwatched = Host {
        audit: None,
        ..host.clone()
    };
    let mut beside = Beside::start(&mode, &unwatched)?;
    let mode = Mode::Protected(bin);
    let mut running = None;
    for round in 0..order.rounds {
        let mut site = match running.take() {
            Some(site) => site,
            None => Site::start(&mode, host)?,
        };
        for &kind in kinds {
            measure_wire(&mut site, &mut beside, order, round, kind, results)?;
        }
        // What a pair captures of all rounds may not fit on a disk.
        if host.audit.is_some() || round + 1 == order.rounds {
            end(site, results)?;
        } else {
            running = Some(site);
        }
    }
    results.dropped += beside.dropped();
    Ok(())
}

fn measure_wire(
    site: &mut Site,
    beside: &mut Beside,
    order: &Order,
    round: usize,
    kind: Kind,
    results: &mut Results,
) -> Result<(), LabError> {
    let family = if round.is_multiple_of(2) {
        Family::V4
    } else {
        Family::V6
    };
    let loads = LOADS
        .into_iter()
        .filter(|load| order.loads.is_empty() || order.loads.contains(load));
    let tasks: Vec<Task> = loads
        .map(|load| Task {
            kind,
            load,
            family,
            pages: kind.pages(order.pages),
            seed: order
                .seed
                .wrapping_add(load.number() + 10 * kind.number() + 1000 * round as u64),
        })
        .collect();
    let mut pair = Vec::new();
    let mut before = seen(site);
    for &task in &tasks {
        let figure = site.run(task)?;
        let after = seen(site);
        pair.push((figure, since(&before, &after)));
        before = after;
    }
    let ended = Instant::now();
    site.pair.alive()?;
    let figures = beside.run(&tasks)?;
    beside.alive()?;
    interrupt::sleep(SETTLE.saturating_sub(ended.elapsed()))?;
    let late = since(&before, &seen(site));
    let mut line = Vec::new();
    for ((task, (pair, checkpoints)), beside) in tasks.iter().zip(pair).zip(figures) {
        let seconds = |figure: &site::Figure| {
            let limit = if figure.done.limit { " (limit)" } else { "" };
            format!("{:.2}{limit}", figure.done.time.as_secs_f64())
        };
        line.push(format!(
            "{} {}/{} s",
            task.load,
            seconds(&pair),
            seconds(&beside)
        ));
        results.trials.push(Trial {
            round,
            kind,
            load: task.load,
            family,
            seed: task.seed,
            pair,
            beside,
            checkpoints,
        });
    }
    say(&format!("{} {kind}", round + 1), line.join(", "));
    results.late.push((kind, late));
    Ok(())
}

/// How many checkpoints there have been, and what the node has said.
fn seen(site: &Site) -> (usize, String) {
    (site.pair.checkpoints().len(), site.pair.log())
}

fn since(before: &(usize, String), after: &(usize, String)) -> Checkpoints {
    let said = after.1.get(before.1.len()..).unwrap_or_default();
    Checkpoints {
        count: after.0 - before.0,
        causes: causes(said),
    }
}

/// Ends the pair and keeps what is to be said of it.
fn end(site: Site, results: &mut Results) -> Result<(), LabError> {
    results.broken.extend(site.pair.complaints());
    results.dropped += site.dropped();
    if let Some(summaries) = site.pair.finish()? {
        match summaries.audit {
            Some(Ok(said)) => results.audits.push(said),
            Some(Err(error)) if error.is_interrupt() => return Err(error),
            Some(Err(error)) => results.broken.push(format!("audit: {error}")),
            None => {}
        }
    }
    Ok(())
}
