//! A guest that differs in each answer, beside other clients, without and with a bound on the share of its time for which
//! checkpoints stop it: `colo-lab storm`.
//!
//! In: seconds of each run. Out: a line for each run: the share of the time for which the primary VM stood still, by
//! QEMU's events; checkpoints; answers of the differing service and of the other clients; the longest silence.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::LabError;
use crate::interrupt;
use crate::load::{Client, Load};
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::qmp::Checkpoint;
use crate::workload::{Family, differ, wall_clock};

/// The bound in percent, and as an operator writes it. A guest under TCG answers too slowly for more stops than some 10 %.
const BOUNDS: [(u8, Option<&str>); 2] = [(100, None), (3, Some("checkpoint-share = 3\n"))];
/// Each bound is measured this often, in turns.
const TURNS: usize = 2;
/// Clients of the differing service, each with one question at a time.
const ASKERS: usize = 8;
/// What else the VM does.
const CLIENTS: [Client; 3] = [
    Client::Echo(Family::V4),
    Client::Redis(Family::V4),
    Client::Pages(Family::V4),
];
/// By how much the share may exceed its bound: the pause behind a stop is that stop's, and a need that is no difference
/// waits for nothing.
const SLACK: f64 = 0.01;

/// What one run has shown.
struct Outcome {
    /// Part of the time for which the VM stood still.
    stopped: f64,
    checkpoints: usize,
    differing: u64,
    others: u64,
    silence: Duration,
    is_right: bool,
}

/// The part of the time from `start` to `end` for which checkpoints stopped the VM.
fn share(checkpoints: &[Checkpoint], start: Duration, end: Duration) -> f64 {
    let stopped = checkpoints.iter().map(|checkpoint| {
        let until = checkpoint.resume.min(end);
        until.saturating_sub(checkpoint.stop.max(start))
    });
    stopped.sum::<Duration>().as_secs_f64() / end.saturating_sub(start).as_secs_f64()
}

/// Lets clients ask the differing service for this time; how many answers came.
fn ask(pair: &Pair, time: Duration) -> Result<u64, LabError> {
    let (answers, start) = (AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        let mut askers = Vec::new();
        for _ in 0..ASKERS {
            let namespace = pair.net.handle()?;
            let answers = &answers;
            askers.push(scope.spawn(move || -> Result<(), LabError> {
                namespace.enter()?;
                while start.elapsed() < time && !interrupt::came() {
                    differ::ask(Family::V4)?;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        let ended = askers.into_iter().map(|asker| asker.join());
        ended.collect::<Vec<_>>().into_iter().try_for_each(|end| {
            end.unwrap_or_else(|_| {
                Err(LabError::Claim {
                    reason: "a client's thread has ended".to_owned(),
                })
            })
        })
    })?;
    interrupt::check()?;
    Ok(answers.into_inner())
}

fn storm(host: &Host, bin: &Path, time: Duration) -> Result<Outcome, LabError> {
    let mut pair = Pair::start(&Mode::Protected(bin.to_owned()), host, true)?;
    let load = Load::start(&pair.net, &CLIENTS, 1)?;
    let (start, before) = (wall_clock(), answers(&load));
    load.mark();
    let differing = ask(&pair, time)?;
    let end = wall_clock();
    let others = answers(&load) - before;
    let records = load.finish();
    pair.alive()?;
    let checkpoints = pair.checkpoints();
    let meanwhile = checkpoints
        .iter()
        .filter(|it| it.stop >= start && it.stop < end);
    let outcome = Outcome {
        stopped: share(&checkpoints, start, end),
        checkpoints: meanwhile.count(),
        differing,
        others,
        silence: records
            .iter()
            .map(|it| it.silence)
            .max()
            .unwrap_or_default(),
        is_right: records
            .iter()
            .all(|it| it.wrong + it.resets + it.failures == 0),
    };
    let audit = pair.finish()?.and_then(|summaries| summaries.audit);
    Ok(match audit {
        Some(Err(error)) => {
            say("audit", error);
            Outcome {
                is_right: false,
                ..outcome
            }
        }
        Some(Ok(said)) => {
            say("audit", said);
            outcome
        }
        None => outcome,
    })
}

fn answers(load: &Load) -> u64 {
    load.records().iter().map(|record| record.answers).sum()
}

/// Measures each bound in turns; true if each share is within its bound and no client saw anything wrong.
///
/// # Errors
/// What kept a pair from running, or a client from being served.
pub fn run(host: &Host, bin: PathBuf, seconds: u64) -> Result<bool, LabError> {
    let mut good = true;
    for turn in 0..TURNS {
        for (percent, policy) in BOUNDS {
            let host = Host {
                policy,
                ..host.clone()
            };
            let outcome = storm(&host, &bin, Duration::from_secs(seconds))?;
            let each_second = |count: u64| count as f64 / seconds as f64;
            println!(
                "turn {}, checkpoint-share {percent}: stopped for {:.1} % of the time by {:.1} checkpoints/s; answers/s: \
                 {:.1} that differ, {:.1} of other clients, whose longest silence was {} ms{}",
                turn + 1,
                outcome.stopped * 100.0,
                each_second(outcome.checkpoints as u64),
                each_second(outcome.differing),
                each_second(outcome.others),
                outcome.silence.as_millis(),
                match outcome.is_right {
                    true => "",
                    false => "; a client or the auditor found something wrong",
                }
            );
            good &= outcome.is_right && outcome.stopped <= f64::from(percent) / 100.0 + SLACK;
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stops_within_the_run_counts() {
        let at = |stop, resume| Checkpoint {
            stop: Duration::from_secs(stop),
            resume: Duration::from_secs(resume),
        };
        let all = [at(0, 2), at(8, 11), at(18, 40), at(50, 60)];
        let part = share(&all, Duration::from_secs(10), Duration::from_secs(20));
        assert!((part - 0.3).abs() < 1e-9, "{part}");
    }
}
