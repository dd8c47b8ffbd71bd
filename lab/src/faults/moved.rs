//! Planned moves of the lead that `coloctl` orders: `colo-lab switchover`.
//!
//! In: which order, how often, what is to fail in its midst, a seed. Out: a line for each round, and what the clients
//! saw over all of them. A round is `coloctl protect` under load, the order at the leading node, a new secondary on the
//! host whose VM has ended; in the end the pair is protected once more. Where something was to fail, the operator does
//! what `docs/switchover.md` says, and a VM has to serve all clients again.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::drill::Drill;
use super::plan::Side;
use crate::error::LabError;
use crate::interrupt;
use crate::pair::Host;
use crate::progress::say;
use crate::workload::Noise;

/// A QEMU that was given `quit` is gone by then.
const ENDS: Duration = Duration::from_secs(15);
/// What comes about by itself after a failure does so by then.
const BY_ITSELF: Duration = Duration::from_secs(12);
/// From an operator's act until the order that is to follow it is taken.
const TAKEN: Duration = Duration::from_secs(30);
/// What is to fail does so within this many milliseconds after the order, which itself takes 40 and more: who is killed
/// when nothing protects it any more is lost.
const MIDST: u64 = 35;

/// The order.
const ORDER: &[&str] = &["switchover"];

/// What gets SIGKILL in the midst of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    PrimaryQemu,
    SecondaryQemu,
    PrimaryNode,
    SecondaryNode,
}

const ALL: [Kill; 4] = [
    Kill::SecondaryQemu,
    Kill::PrimaryNode,
    Kill::PrimaryQemu,
    Kill::SecondaryNode,
];

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrimaryQemu => "primary-qemu",
            Self::SecondaryQemu => "secondary-qemu",
            Self::PrimaryNode => "primary-node",
            Self::SecondaryNode => "secondary-node",
        })
    }
}

impl Kill {
    /// The one of this name.
    ///
    /// # Errors
    /// With the names that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = ALL.into_iter().find(|it| it.to_string() == name);
        found.ok_or_else(|| {
            let names: Vec<String> = ALL.iter().map(Kill::to_string).collect();
            format!("{name:?} is no failure: {}", names.join(", "))
        })
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Task {
    /// How often.
    pub rounds: usize,
    /// How often more, with a failure in its midst.
    pub failures: usize,
    /// The failures to go through in turn; all if there are none.
    pub only: Vec<Kill>,
    /// Decides when they come.
    pub seed: u64,
}

/// What has become of the pair after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is protected as before.
    AsBefore,
    /// The host of this side has no VM any more.
    Ended(Side),
}

/// Does all that; true if nothing failed.
///
/// # Errors
/// What kept it from starting, or an interrupt.
pub fn run(host: &Host, bin: PathBuf, task: &Task) -> Result<bool, LabError> {
    let mut drill = Drill::start(host, bin, task.seed)?;
    let only: &[Kill] = match task.only.is_empty() {
        true => &ALL,
        false => &task.only,
    };
    let mut noise = Noise::new(task.seed);
    let (mut done, rounds) = (0, task.rounds + task.failures);
    let outcome = drill.wait_served().and_then(|()| {
        for round in 0..rounds {
            let line = match round.checked_sub(task.rounds) {
                None => planned(&mut drill, round)?,
                Some(failure) => {
                    let kill = only[failure % only.len()];
                    let after = Duration::from_millis(noise.number() % MIDST);
                    disturbed(&mut drill, round, kill, after)?
                }
            };
            done += 1;
            say("round", format!("{done}: {line}"));
        }
        // Both disks are whole while the pair lives.
        protect(&drill).map(drop)
    });
    drill.finish(outcome, done, rounds)
}

/// The pair is protected, and how that went.
fn protect(drill: &Drill<'_>) -> Result<String, LabError> {
    if drill.status(&drill.cluster.primary)["state"] == "protected" {
        return Ok("protected as before".to_owned());
    }
    let (reply, silence) = drill.protect()?;
    interrupt::sleep(Duration::from_millis(500))?;
    Ok(format!(
        "protected in {:.1} s (longest silence {} ms)",
        reply["ms"].as_f64().unwrap_or_default() / 1e3,
        silence.as_millis()
    ))
}

/// A round in which nothing fails.
fn planned(drill: &mut Drill<'_>, round: usize) -> Result<String, LabError> {
    let protected = protect(drill)?;
    drill.load.mark();
    drill.load.order();
    let begun = Instant::now();
    let reply = drill
        .order(&drill.cluster.primary, ORDER)
        .map_err(|error| error.beside(&drill.said()))?;
    let took = begun.elapsed();
    let ended = &reply["pairs"]["vm0"]["qemu_ended"];
    if *ended != true {
        return Err(claim(format!("its QEMU has not ended: {reply}")).beside(&drill.said()));
    }
    let gone = &mut drill.cluster.primary;
    interrupt::wait_for("the end of the QEMU", ENDS, || {
        Ok(gone.guest.alive().is_err().then_some(()))
    })?;
    drill.wait_served()?;
    let silence = drill.silence();
    let gone = &mut drill.cluster.primary;
    if let Some(node) = gone.node.take() {
        node.finish()?;
    }
    fill(drill, Side::Primary, round)?;
    Ok(format!(
        "{protected}; {} in {} ms, silence {} ms",
        ORDER[0],
        took.as_millis(),
        silence.as_millis()
    ))
}

/// A new secondary on the host of `lost`.
fn fill(drill: &mut Drill<'_>, lost: Side, round: usize) -> Result<(), LabError> {
    let name = format!("vm{}", round + 1);
    drill.cluster.replace(&drill.site, lost, &name)?;
    let peer = ["wait", "--for", "peer", "--timeout", "30"];
    drill.order(&drill.cluster.primary, &peer).map(drop)
}

/// A round in which something is killed so long after the order.
fn disturbed(
    drill: &mut Drill<'_>,
    round: usize,
    kill: Kill,
    after: Duration,
) -> Result<String, LabError> {
    let protected = protect(drill)?;
    drill.load.mark();
    drill.load.order();
    let order = drill.order_beside(&drill.cluster.primary, ORDER);
    interrupt::sleep(after)?;
    strike(drill, kill)?;
    let begun = Instant::now();
    let (end, how) = resolve(drill).map_err(|error| error.beside(&drill.said()))?;
    drill.wait_served()?;
    let (resolved, silence) = (begun.elapsed(), drill.silence());
    let said = match order.join() {
        Ok(Ok(reply)) => format!("done ({})", reply["pairs"]["vm0"]),
        Ok(Err(LabError::Command { output, .. })) => message(&output),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its thread ended".to_owned(),
    };
    if let End::Ended(side) = end {
        let gone = match side {
            Side::Primary => &mut drill.cluster.primary,
            Side::Secondary => &mut drill.cluster.secondary,
        };
        gone.guest.kill();
        if let Some(mut node) = gone.node.take() {
            node.kill();
        }
        fill(drill, side, round)?;
    }
    Ok(format!(
        "{protected}; {} with SIGKILL of {kill} after {} ms: {said}; {how}, served after {:.1} s, silence {} ms",
        ORDER[0],
        after.as_millis(),
        resolved.as_secs_f64(),
        silence.as_millis()
    ))
}

fn strike(drill: &mut Drill<'_>, kill: Kill) -> Result<(), LabError> {
    let cluster = &mut drill.cluster;
    let (member, is_node) = match kill {
        Kill::PrimaryQemu => (&mut cluster.primary, false),
        Kill::SecondaryQemu => (&mut cluster.secondary, false),
        Kill::PrimaryNode => (&mut cluster.primary, true),
        Kill::SecondaryNode => (&mut cluster.secondary, true),
    };
    if !is_node {
        // Not reaped here: a QEMU that has ended before is none that was killed.
        member.guest.handle()?.signal(Signal::KILL);
        return Ok(());
    }
    if let Some(node) = &mut member.node {
        node.kill();
    }
    // As a supervisor does.
    member.restart_node(&drill.site)
}

/// Waits for what comes about by itself, and decides where nothing does.
fn resolve(drill: &mut Drill<'_>) -> Result<(End, String), LabError> {
    let begun = Instant::now();
    loop {
        interrupt::sleep(Duration::from_millis(100))?;
        let (old, new) = (
            drill.status(&drill.cluster.primary),
            drill.status(&drill.cluster.secondary),
        );
        let alive = [
            drill.cluster.primary.guest.alive().is_ok(),
            drill.cluster.secondary.guest.alive().is_ok(),
        ];
        if let Some(end) = by_itself(&old, &new, alive, begun.elapsed()) {
            return Ok((end, format!("{end:?} by itself")));
        }
        if begun.elapsed() < BY_ITSELF {
            continue;
        }
        let side = match alive {
            // What it has sent is nowhere else.
            [_, false] if new["role"] == "primary" => {
                return Err(claim(
                    "the VM that led was killed, and nothing protected it".to_owned(),
                ));
            }
            [false, true] => Side::Primary,
            [true, true] if new["role"] == "primary" => Side::Primary,
            _ => Side::Secondary,
        };
        let how = decide(drill, side)?;
        return Ok((End::Ended(side), format!("decided: {how}")));
    }
}

/// What has come about without anybody's act.
fn by_itself(old: &Value, new: &Value, alive: [bool; 2], waited: Duration) -> Option<End> {
    let leads = |status: &Value| status["role"] == "primary";
    if leads(new) && new["state"] != "peer_lost" && !alive[0] {
        return Some(End::Ended(Side::Primary));
    }
    // A VM that goes on alone.
    let alone = leads(old) && matches!(old["state"].as_str(), Some("pairing" | "solo"));
    if alone && !alive[1] && !leads(new) {
        return Some(End::Ended(Side::Secondary));
    }
    // An order that still goes on changes that.
    let settled = waited > Duration::from_secs(3) && old["orders"].as_array()?.is_empty();
    let settled = settled && new["renounced"] != true;
    let both = [old, new].iter().all(|it| it["state"] == "protected");
    (settled && both && alive == [true, true] && leads(old)).then_some(End::AsBefore)
}

/// Ends what is left of a host, and lets the other one's VM go on. Returns what was ordered.
fn decide(drill: &mut Drill<'_>, lost: Side) -> Result<String, LabError> {
    let order: &[&str] = match lost {
        // The VM there was seen not to lead.
        Side::Secondary => &["failover", "--fenced", "--never-led"],
        Side::Primary => &["failover", "--fenced"],
    };
    let (dead, survivor) = match lost {
        Side::Primary => (&mut drill.cluster.primary, &drill.cluster.secondary),
        Side::Secondary => (&mut drill.cluster.secondary, &drill.cluster.primary),
    };
    dead.guest.kill();
    if let Some(mut node) = dead.node.take() {
        node.kill();
    }
    let survivor_says = drill.status(survivor);
    if survivor_says["role"] == "primary" && survivor_says["state"] == "pairing" {
        return Ok("nothing".to_owned());
    }
    let until = Instant::now() + TAKEN;
    loop {
        match drill.order(survivor, order) {
            Ok(_) => return Ok(format!("{} at {}", order.join(" "), survivor.name)),
            Err(error) if error.is_interrupt() || Instant::now() > until => return Err(error),
            Err(_) => interrupt::sleep(Duration::from_millis(100))?,
        }
    }
}

fn claim(reason: String) -> LabError {
    LabError::Claim { reason }
}

/// The message of an error that `coloctl --json` has printed.
fn message(output: &str) -> String {
    let error: Value = serde_json::from_str(output.trim()).unwrap_or_default();
    let text = error["error"]["message"].as_str();
    text.map_or_else(|| output.trim().to_owned(), str::to_owned)
}
