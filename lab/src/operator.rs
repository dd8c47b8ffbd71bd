//! An operator's `stop` and `cont` at either VM, `cont` inside a checkpoint, and `migrate_cancel` before the pair is
//! one and inside a checkpoint, while the VMs' answers differ.
//!
//! Out: a line for each claim. What is claimed: the client gets the primary VM's own answer and nothing else, and
//! the auditor finds no commit that the secondary VM's load does not cover (rules R3 and R9).

mod cancel;

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::error::LabError;
use crate::interrupt;
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::qemu::Guest;
use crate::qmp::QmpError;
use crate::workload::differ::Answer;
use crate::workload::{Family, differ};

/// How long a VM stays stopped.
const STOPPED: Duration = Duration::from_millis(5);
/// A checkpoint that was asked for has begun by then, on a busy machine, too.
const BEGINS: Duration = Duration::from_secs(3);

/// What the operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    StopPrimary,
    StopSecondary,
    ContPrimaryInside,
    ContSecondaryInside,
}

impl Act {
    const ALL: [Self; 4] = [
        Self::StopPrimary,
        Self::StopSecondary,
        Self::ContPrimaryInside,
        Self::ContSecondaryInside,
    ];

    fn is_inside(self) -> bool {
        matches!(self, Self::ContPrimaryInside | Self::ContSecondaryInside)
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StopPrimary => "stop and cont of the primary VM",
            Self::StopSecondary => "stop and cont of the secondary VM",
            Self::ContPrimaryInside => "cont of the primary VM inside a checkpoint",
            Self::ContSecondaryInside => "cont of the secondary VM inside a checkpoint",
        })
    }
}

/// Does each act this number of times; true if nothing failed. A QEMU that ends at a `cont` inside a checkpoint, as
/// 7.2 sometimes does, is counted by itself, and another pair goes on.
///
/// # Errors
/// What kept a pair from running, or a signal.
pub fn run(host: &Host, bin: PathBuf, count: usize) -> Result<bool, LabError> {
    let mode = Mode::Protected(bin);
    let mut tally = Tally::default();
    let mut round = 0;
    for round in 0..count {
        cancel::before_colo(&mode, host, round, &mut tally)?;
        cancel::inside_checkpoint(&mode, host, round, &mut tally)?;
    }
    while round < count {
        let mut pair = Pair::start(&mode, host, true)?;
        while round < count && all_acts(&mut pair, round, &mut tally)? {
            round += 1;
        }
        // The round that broke off counts, too.
        round += 1;
        end(pair, &mut tally)?;
    }
    println!("{} failed, {} QEMUs ended", tally.failed, tally.ended);
    Ok(tally.failed == 0)
}

/// What came of it all.
#[derive(Debug, Default)]
struct Tally {
    failed: usize,
    ended: usize,
}

impl Tally {
    /// A QEMU ended by itself.
    fn ended(&mut self, what: &str) {
        self.ended += 1;
        println!("ended   {what}");
    }

    fn claim(&mut self, name: &str, outcome: Result<String, LabError>) -> Result<(), LabError> {
        match outcome {
            Err(error) if error.is_interrupt() => return Err(error),
            Err(error) => {
                self.failed += 1;
                println!("FAILED  {name}: {error}");
            }
            Ok(what) => println!("ok      {name}: {what}"),
        }
        Ok(())
    }
}

/// One round; false if a QEMU has ended.
fn all_acts(pair: &mut Pair, round: usize, tally: &mut Tally) -> Result<bool, LabError> {
    for act in Act::ALL {
        let outcome = meddle(pair, act, round);
        if let Err(ended @ LabError::Died { .. }) = pair.guests_alive() {
            if act.is_inside() {
                tally.ended(&format!("{act}: {ended}"));
            } else {
                tally.claim(&act.to_string(), Err(ended))?;
            }
            return Ok(false);
        }
        tally.claim(&act.to_string(), outcome)?;
    }
    Ok(true)
}

/// Ends a pair and judges what left it.
fn end(pair: Pair, tally: &mut Tally) -> Result<(), LabError> {
    let complaints = pair.complaints();
    say(
        "operator",
        format!("the guests' kernels say {complaints:?}"),
    );
    match pair.finish() {
        Ok(Some(mut summaries)) => {
            let counter = |name| summaries.primary.counter(name).unwrap_or(0);
            say(
                "operator",
                format!(
                    "{} checkpoints requested, {} committed, {} stops without proof",
                    counter("/checkpoints/requested"),
                    counter("/checkpoints/committed"),
                    counter("/divergences/unproven_stop"),
                ),
            );
            match summaries.audit.take() {
                Some(audit) => tally.claim("nothing left that should not have", audit)?,
                None => say("operator", "without --audit no commit was judged"),
            }
        }
        Ok(None) => {}
        Err(error) => tally.claim("the nodes' end", Err(error))?,
    }
    Ok(())
}

/// A question to which the VMs' answers differ, with the operator's hands in its checkpoint.
fn meddle(pair: &mut Pair, act: Act, round: usize) -> Result<String, LabError> {
    pair.wait_quiet()?;
    let (answer, done) = ask_meanwhile(pair, |primary, secondary| match act {
        Act::StopPrimary => blink(primary, round),
        Act::StopSecondary => blink(secondary, round),
        Act::ContPrimaryInside => cont_inside(primary),
        Act::ContSecondaryInside => cont_inside(secondary),
    })?;
    pair.alive()?;
    Ok(format!("{done}; {}", primary_said(pair, &answer)?))
}

/// Asks the differing service while the operator does something to the two QEMUs. Returns the client's answer and what
/// the operator saw.
fn ask_meanwhile(
    pair: &Pair,
    act: impl FnOnce(&Guest, &Guest) -> Result<String, LabError>,
) -> Result<(Answer, String), LabError> {
    let namespace = pair.net.handle()?;
    let client = thread::spawn(move || {
        namespace.enter()?;
        Ok::<_, LabError>(differ::ask(Family::V4)?)
    });
    let (primary, secondary) = pair.guests();
    let secondary = secondary.ok_or(LabError::Claim {
        reason: "no secondary VM".to_owned(),
    })?;
    let done = act(primary, secondary);
    // The client's end says more than the operator's.
    let answer = client.join().unwrap_or_else(|_| {
        Err(LabError::Claim {
            reason: "the client's thread ended".to_owned(),
        })
    });
    match answer {
        Err(error) if !error.is_interrupt() => {
            let done = done.unwrap_or_else(|error| error.to_string());
            Err(LabError::Claim {
                reason: format!(
                    "{error}; {done}; primary QEMU: {}; secondary QEMU: {}",
                    word(primary),
                    word(secondary)
                ),
            })
        }
        other => Ok((other?, done?)),
    }
}

/// Asserts that a client's answer is the primary VM's last one.
fn primary_said(pair: &Pair, answer: &Answer) -> Result<String, LabError> {
    let (own, _) = pair.answers();
    if own.last() != Some(&answer.line) {
        return Err(LabError::Claim {
            reason: format!(
                "the client got {:?}, the primary VM sent {:?}",
                answer.line,
                own.last()
            ),
        });
    }
    let took = answer.arrived.saturating_sub(answer.asked);
    Ok(format!("the answer came after {took:.1?}"))
}

/// What a QEMU says of its VM and of its migration.
fn word(guest: &Guest) -> String {
    let ask = |command| match guest.qmp.command(command, json!({})) {
        Ok(answer) => answer["status"].as_str().unwrap_or("no status").to_owned(),
        Err(error) => error.to_string(),
    };
    format!(
        "VM {}, migration {}",
        ask("query-status"),
        ask("query-migrate")
    )
}

/// `stop`, and `cont` a little later, somewhere around the checkpoint.
fn blink(guest: &Guest, round: usize) -> Result<String, LabError> {
    interrupt::sleep(Duration::from_millis(4 * (round as u64 % 10)))?;
    guest.qmp.command("stop", json!({}))?;
    interrupt::sleep(STOPPED)?;
    Ok(format!("stopped, {}", cont(guest)?))
}

/// `cont` as soon as the VM has stopped for the checkpoint.
fn cont_inside(guest: &Guest) -> Result<String, LabError> {
    match begins(guest) {
        true => cont(guest),
        false => Ok("no checkpoint came".to_owned()),
    }
}

/// Waits until a VM stops for a checkpoint; false if none comes.
fn begins(guest: &Guest) -> bool {
    let before = guest.qmp.last("STOP");
    let since = Instant::now();
    while guest.qmp.last("STOP") == before {
        if since.elapsed() > BEGINS {
            return false;
        }
        thread::sleep(Duration::from_micros(100));
    }
    true
}

/// What becomes of a `cont`: QEMU 11.0 and later refuse it inside a checkpoint.
fn cont(guest: &Guest) -> Result<String, LabError> {
    match guest.qmp.command("cont", json!({})) {
        Ok(_) => Ok("cont obeyed".to_owned()),
        Err(QmpError::Refused { description, .. }) => Ok(format!("cont refused ({description})")),
        Err(error) => Err(error.into()),
    }
}
