//! Short connections beside a protected pair, and what they cost: `colo-lab short`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::LabError;
use crate::interrupt;
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::workload::short::{self, Kind};

/// A frame that one VM has not sent is asked about only after the comparator's timeout.
const SETTLE: Duration = Duration::from_secs(4);

/// What one kind of connections cost.
#[derive(Debug)]
struct Cost {
    /// How long the connections took.
    time: Duration,
    /// Checkpoints from then until all that waits has waited for too long.
    checkpoints: usize,
    /// Why, as the primary node recorded it.
    reasons: BTreeMap<String, usize>,
}

/// Makes `count` connections of a kind; returns how long that took.
///
/// # Errors
/// As [`short::run`].
pub fn connect(pair: &Pair, kind: Kind, count: usize) -> Result<Duration, LabError> {
    let start = Instant::now();
    short::run(&pair.net, kind, count)?;
    Ok(start.elapsed())
}

/// The same, and what it cost when all that waits has waited for too long.
fn cost(pair: &Pair, kind: Kind, count: usize) -> Result<Cost, LabError> {
    let before = (pair.checkpoints().len(), reasons(pair.dir()));
    let time = connect(pair, kind, count)?;
    interrupt::sleep(SETTLE)?;
    let mut reasons = reasons(pair.dir());
    for (reason, n) in before.1 {
        if let Some(now) = reasons.get_mut(&reason) {
            *now -= n;
        }
    }
    reasons.retain(|_, n| *n > 0);
    Ok(Cost {
        time,
        checkpoints: pair.checkpoints().len() - before.0,
        reasons,
    })
}

/// The reasons in the primary node's records so far.
pub fn reasons(dir: &Path) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    let files = fs::read_dir(dir.join("reports"));
    for entry in files.into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|end| end == "json")
            && let Ok(text) = fs::read_to_string(entry.path())
            && let Ok(record) = serde_json::from_str::<Value>(&text)
            && let Some(reason) = record["reason"].as_str()
        {
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
    reasons
}

/// Makes `count` connections, divided over all kinds; true if they cost no checkpoint.
///
/// # Errors
/// What kept the pair from running, or a client from being served.
pub fn run(host: &Host, bin: PathBuf, count: usize) -> Result<bool, LabError> {
    let mut pair = Pair::start(&Mode::Protected(bin), host, true)?;
    let kinds = Kind::all();
    let each = count.div_ceil(kinds.len());
    let mut checkpoints = 0;
    for kind in kinds {
        let cost = cost(&pair, kind, each)?;
        pair.alive()?;
        checkpoints += cost.checkpoints;
        println!(
            "{kind}: {each} connections in {:.1} s, {} checkpoints {:?}",
            cost.time.as_secs_f64(),
            cost.checkpoints,
            cost.reasons
        );
    }
    if let Some(summaries) = pair.finish()? {
        let counter = |pointer| summaries.primary.counter(pointer).unwrap_or(0);
        println!(
            "in all {checkpoints} checkpoints; {} RSTs of one VM alone behind the end of a connection",
            counter("/closed_resets")
        );
        if let Some(audit) = summaries.audit {
            say("audit", audit?);
        }
    }
    Ok(checkpoints == 0)
}
