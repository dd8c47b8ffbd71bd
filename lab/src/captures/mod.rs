//! `captures`: the comparator over real traffic, without a guest or a network.
//!
//! In go the captures below a directory ([`read`]). Of each sender's frames ([`sender`]) the tool makes
//! what a primary and a secondary VM would send ([`vary`], [`weave`]), runs both through the comparator
//! ([`run()`]) and judges what it releases by an oracle of its own ([`oracle`], [`content`], [`header`], [`bytes`]).
//! Out come a table and the same as JSON ([`tally`]). docs/captures.md says what is judged.

mod bytes;
mod content;
mod header;
mod oracle;
mod read;
mod run;
mod sender;
mod tally;
#[cfg(test)]
mod tests;
mod vary;
mod weave;

use std::fs;
use std::path::PathBuf;

use colo_testkit::rng::Rng;
use dpdk_colo::compare::Numbers;

use crate::error::LabError;
use crate::interrupt;
use crate::progress::say;
use run::{Outcome, Plan};
use sender::Sender;
use tally::{Finding, Kind, Tally};
use vary::Variation;
use weave::Order;

/// Frames of a capture that are taken by default.
pub const FRAMES: usize = 2_000;
/// Examples of each kind of finding by default.
pub const EXAMPLES: usize = 3;

/// What the command line asks for.
pub struct Task {
    /// Where the captures are.
    pub dir: PathBuf,
    /// Most frames of a capture.
    pub frames: usize,
    /// Examples of each kind of finding.
    pub examples: usize,
    /// Determines all choices.
    pub seed: u64,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
    /// A deviation counts as a failure.
    pub strict: bool,
}

/// Runs all captures; true if no rule was breached, and with `strict` if nothing deviated.
///
/// # Errors
/// When the directory or the JSON file is out of reach, or a signal came.
pub fn run(task: &Task) -> Result<bool, LabError> {
    let files = read::find(&task.dir).map_err(LabError::file(&task.dir))?;
    say("captures", format!("{} files", files.len()));
    let mut tally = Tally::new(task.examples);
    for (i, path) in files.iter().enumerate() {
        interrupt::check()?;
        let name = path.strip_prefix(&task.dir).unwrap_or(path);
        let name = name.display().to_string();
        match read::read(path, task.frames, &mut tally) {
            Ok(frames) => {
                tally.captures += 1;
                tally.captures_empty += usize::from(frames.is_empty());
                for sender in Sender::split(frames) {
                    judge(&name, &sender, task.seed, &mut tally)?;
                }
            }
            Err(why) => {
                tally.unreadable.insert(name, why);
            }
        }
        if (i + 1) % 100 == 0 {
            let (runs, breaches) = (tally.runs, tally.breaches());
            let done = i + 1;
            say(
                "captures",
                format!("{done} files, {runs} runs, {breaches} breaches"),
            );
        }
    }
    print(&tally);
    if let Some(path) = &task.json {
        let text = serde_json::to_string_pretty(&tally).unwrap_or_default();
        fs::write(path, text + "\n").map_err(LabError::file(path))?;
    }
    Ok(tally.breaches() == 0 && (!task.strict || tally.deviating() == 0))
}

/// All runs of one sender.
fn judge(capture: &str, sender: &Sender, seed: u64, tally: &mut Tally) -> Result<(), LabError> {
    tally.senders += 1;
    let opens = sender.frames.iter().any(|sent| sent.is_opened);
    for variation in Variation::ALL {
        for order in Order::ALL {
            for numbers in [Numbers::Translated, Numbers::OwnIsn] {
                // Without a SYN both are the same.
                if numbers == Numbers::OwnIsn && !opens {
                    continue;
                }
                interrupt::check()?;
                let plan = Plan {
                    variation,
                    order,
                    numbers,
                };
                let purpose = format!("{capture} {} {}", sender.name, plan.words());
                let mut rng = Rng::for_purpose(seed, &purpose);
                if let Some(outcome) = run::run(sender, plan, &mut rng) {
                    note(capture, sender, plan, &outcome, tally);
                }
            }
        }
    }
    Ok(())
}

fn note(capture: &str, sender: &Sender, plan: Plan, outcome: &Outcome, tally: &mut Tally) {
    tally.runs += 1;
    tally.taken += outcome.taken;
    tally.released += outcome.released;
    tally.held += outcome.held;
    let finding = |frame: Option<usize>, flow: &str, reason: String| {
        let sent = frame.map(|frame| &sender.frames[frame]);
        Finding {
            capture: capture.to_owned(),
            sender: sender.name.clone(),
            run: plan.words(),
            flow: sent.map_or(flow.to_owned(), |sent| sender.flows[sent.flow].to_string()),
            frame: sent.map_or(0, |sent| sent.number),
            reason,
        }
    };
    for breach in &outcome.breaches {
        let finding = finding(breach.frame, "", breach.reason.clone());
        tally.violation(breach.rule.word(), finding);
    }
    if !plan.variation.is_equal() {
        return;
    }
    for deviation in &outcome.deviations {
        let flow = deviation.frame.map(|frame| sender.frames[frame].flow);
        let oddity = flow.map_or("no frame", |flow| sender.oddity(flow));
        let oddities = flow.map(|flow| sender.oddities(flow)).unwrap_or_default();
        let kind = format!("{}: {oddity}", deviation.reason);
        let finding = finding(deviation.frame, &deviation.flow, oddities);
        tally.deviation(&kind, finding);
    }
}

fn print(tally: &Tally) {
    let line = |name: &str, value: usize| println!("{name:<46} {value:>10}");
    println!();
    line("captures read", tally.captures);
    line("  of them cut at the bound", tally.captures_cut);
    line("  without a frame that could be used", tally.captures_empty);
    line("  that end with an error", tally.damaged.len());
    line("files that cannot be read", tally.unreadable.len());
    line("frames taken", tally.frames);
    line("frames left out: cut by the capture", tally.frames_cut);
    line("frames left out: too long", tally.frames_long);
    let strange = tally.link_types.values().sum();
    line("frames left out: of another link type", strange);
    line("senders", tally.senders);
    line("runs", tally.runs);
    line("P taken in, all runs", tally.taken);
    line("P released", tally.released);
    line("P held at the end", tally.held);
    line("breaches of a rule", tally.breaches());
    print_kinds(&tally.violations);
    line("deviations of equal streams", tally.deviating());
    print_kinds(&tally.deviations);
    for (what, files) in [
        ("cannot be read", &tally.unreadable),
        ("ends with an error", &tally.damaged),
    ] {
        for (path, why) in files {
            println!("{what}: {path}: {why}");
        }
    }
}

fn print_kinds(kinds: &std::collections::BTreeMap<String, Kind>) {
    let mut sorted: Vec<_> = kinds.iter().collect();
    sorted.sort_by_key(|(_, kind)| std::cmp::Reverse(kind.count));
    for (name, kind) in sorted {
        let (count, captures) = (kind.count, kind.captures);
        println!("  {count:>8} in {captures:>4} captures  {name}");
        for example in &kind.examples {
            println!("      {example}");
        }
    }
}
