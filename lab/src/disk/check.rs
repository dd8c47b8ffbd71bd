//! What a protected pair with a disk must do: a load that writes costs no checkpoint, and whatever is acknowledged is
//! in both images, divergences in between or not.

use std::path::Path;
use std::time::Duration;

use super::{image, judge};
use crate::error::LabError;
use crate::load::{Client, Load, written};
use crate::pair::Pair;
use crate::workload::{Family, differ};

const CLIENTS: [Client; 2] = [Client::Disk(Family::V4), Client::Disk(Family::V6)];
const SEED: u64 = 1;
/// Records of each client before the first divergence, and after each.
const QUIET: u64 = 60;
const BETWEEN: u64 = 15;
const LIMIT: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug)]
pub struct Seen {
    /// Checkpoints before the first divergence.
    pub cost: usize,
    /// What is in the primary's image and in the secondary's.
    pub images: [Result<String, LabError>; 2],
}

/// Writes, diverges `divergences` times meanwhile, and reads both images.
///
/// # Errors
/// A client that got no or a wrong answer, a checkpoint that did not come.
pub fn write(pair: &Pair, divergences: usize) -> Result<Seen, LabError> {
    let before = pair.checkpoints().len();
    let load = Load::start(&pair.net, &CLIENTS, SEED)?;
    load.wait_answers(QUIET, LIMIT)?;
    let cost = pair.checkpoints().len() - before;
    for _ in 0..divergences {
        let answer = pair.net.enter(|| Ok(differ::ask(Family::V4)?))?;
        pair.checkpoint_after(answer.asked, LIMIT)?;
        load.wait_answers(BETWEEN, LIMIT)?;
    }
    let records = load.finish();
    if let Some(record) = records.iter().find(|record| !record.words.is_empty()) {
        return Err(LabError::Claim {
            reason: format!("{}: {}", record.name, record.words.join("; ")),
        });
    }
    let all = written(&CLIENTS, SEED, &records);
    let read = |name| {
        let path = image(pair.dir(), name);
        let count = judge(&path, &all)?;
        let file = path
            .file_name()
            .map(Path::new)
            .unwrap_or(&path)
            .display()
            .to_string();
        Ok(format!("{count} acknowledged records in {file}"))
    };
    Ok(Seen {
        cost,
        images: ["pvm", "svm"].map(read),
    })
}
