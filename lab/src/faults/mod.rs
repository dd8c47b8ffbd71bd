//! The fault-injection suite: `colo-lab faults`.
//!
//! In: how many injections, which kinds, a seed. Out: a line for each injection, a table, JSON, and
//! `N passed, N failed`. Each injection has a pair of its own under a load whose every byte is checked,
//! and passes if clients are served again, no connection was reset, no byte was wrong, and no host spoke
//! that must not.

mod cluster;
mod drill;
mod inject;
mod moved;
mod ordered;
mod plan;
mod relay;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use moved::{Kill, Task, run as moved};
pub use ordered::run as ordered;
pub use plan::Kind;
pub use report::Tally;

use crate::error::LabError;
use crate::load::{Client, Record};
use crate::pair::Host;
use crate::progress::say;
use crate::workload::Family;
use cluster::Site;
use plan::{ALL, Part, Phase, Plan, Side, Way};

/// What to inject.
#[derive(Debug, Clone)]
pub struct Order {
    /// How many injections.
    pub count: usize,
    /// The seed of the first; each further one has the next number.
    pub seed: u64,
    /// The kinds to go through in turn; all if there are none.
    pub only: Vec<Kind>,
}

/// Runs the suite.
///
/// # Errors
/// What kept it from starting, or an interrupt.
pub fn run(host: &Host, bin: PathBuf, order: &Order, json: &Path) -> Result<Tally, LabError> {
    let kinds: &[Kind] = if order.only.is_empty() {
        ALL
    } else {
        &order.only
    };
    say(
        "faults",
        format!(
            "{} injections of {} kinds, seeds from {}; --seed S --only KIND --count 1 repeats one",
            order.count,
            kinds.len(),
            order.seed
        ),
    );
    let site = Site::prepare(host, bin)?;
    say("guest", "booted, its state is saved");
    let mut outcomes = Vec::new();
    for number in 0..order.count {
        let seed = order.seed.wrapping_add(number as u64);
        let mut plan = Plan::draw(seed, kinds[number % kinds.len()]);
        if host.disk {
            plan = plan.with_disk();
        }
        let outcome = inject::run(&site, number + 1, plan);
        if let Ok(outcome) = &outcome {
            say("", report::line(outcome));
            if outcome.violations.is_empty() {
                site.clear(number + 1);
            }
        }
        match outcome {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                report::print(&outcomes);
                return Err(error);
            }
        }
    }
    report::print(&outcomes);
    report::write(&outcomes, json)?;
    let tally = Tally::new(&outcomes);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally)
}

/// Kills the host of a primary VM under load, and returns what the clients on its open connections saw once the
/// secondary had taken over, with the time that QEMU took for it.
///
/// # Errors
/// [`LabError::Claim`] with everything that must not be.
pub fn pull_the_plug(
    host: &Host,
    bin: PathBuf,
) -> Result<(Vec<Record>, Option<Duration>), LabError> {
    let site = Site::prepare(host, bin)?;
    say(
        "another pair",
        "each VM on a host of its own, which nothing but a network joins",
    );
    let kind = Kind::Down(Side::Primary, Part::Host, Way::Kill);
    let plan = Plan {
        phase: Phase::Any,
        delay: Duration::from_secs(1),
        notice: Duration::ZERO,
        clients: vec![
            Client::Echo(Family::V4),
            Client::Echo(Family::V6),
            Client::Redis(Family::V4),
            Client::Download(Family::V4),
        ],
        ..Plan::draw(1, kind)
    };
    let outcome = inject::run(&site, 1, plan)?;
    if outcome.violations.is_empty() {
        Ok((outcome.records, outcome.qemu))
    } else {
        Err(LabError::Claim {
            reason: outcome.violations.join("\n"),
        })
    }
}
