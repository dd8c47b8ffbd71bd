//! `migrate_cancel`: of the state transfer that makes a pair, and inside a checkpoint of a pair.
//!
//! Out: a line for each claim. What is claimed: a primary VM whose first state transfer was cancelled serves by itself;
//! one whose checkpoint was cancelled serves once QEMU has taken `x-colo-lost-heartbeat`; and no node commits anything
//! for it (rule R9). QEMU 10.0 and 11.1 do not take that command then: migration stays `cancelling` and the VM stopped.
//! There nothing may leave, and the secondary VM must go on once the primary's QEMU has been ended.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::{Tally, ask_meanwhile, begins, end, primary_said, word};
use crate::error::LabError;
use crate::interrupt;
use crate::pair::{Host, Mode, Pair};
use crate::qemu::Guest;
use crate::qmp::QmpError;

/// Between a state transfer's begin and its cancellation, in the first round; later rounds wait a multiple.
const ENTRY: Duration = Duration::from_millis(20);
/// The same of a checkpoint, after its stop.
const CHECKPOINT: Duration = Duration::from_millis(3);
/// Until the operator sees what became of a cancelled checkpoint, and acts.
const LOOKS: Duration = Duration::from_millis(300);
/// A secondary VM that may go on does so by then.
const RESUMES: Duration = Duration::from_secs(10);
const OBEYED: &str = "obeyed";

/// A pair whose first state transfer is cancelled.
pub fn before_colo(
    mode: &Mode,
    host: &Host,
    round: usize,
    tally: &mut Tally,
) -> Result<(), LabError> {
    let pair = Pair::start_cancelled(mode, host, ENTRY * (1 + round as u32 % 8))?;
    let outcome = ask_meanwhile(&pair, |primary, _| Ok(word(primary)))
        .and_then(|(answer, done)| Ok(format!("{done}; {}", primary_said(&pair, &answer)?)));
    tally.claim("migrate_cancel before COLO", outcome)?;
    end(pair, tally)
}

/// A pair one of whose checkpoints is cancelled.
pub fn inside_checkpoint(
    mode: &Mode,
    host: &Host,
    round: usize,
    tally: &mut Tally,
) -> Result<(), LabError> {
    let mut pair = Pair::start(mode, host, true)?;
    pair.wait_quiet()?;
    let after = CHECKPOINT * (round as u32 % 8);
    let (mut goes_on, mut taken_over) = (true, false);
    let asked = ask_meanwhile(&pair, |primary, secondary| {
        let (taken, seen) = cancel(primary, after)?;
        goes_on = taken;
        if taken {
            return Ok(seen);
        }
        let lost = take_over(primary, secondary)?;
        taken_over = true;
        Ok(format!("{seen}; {lost}"))
    });
    let outcome = match (asked, goes_on) {
        (Ok((answer, done)), true) => {
            primary_said(&pair, &answer).map(|said| format!("{done}; {said}"))
        }
        (Ok((answer, done)), false) => Err(LabError::Claim {
            reason: format!("{:?} left a stopped VM; {done}", answer.line),
        }),
        // Nothing leaves, and the client's patience ends.
        (Err(LabError::Claim { reason }), false) if taken_over => Ok(reason),
        (Err(error), _) => Err(error),
    };
    if goes_on && let Err(ended @ LabError::Died { .. }) = pair.guests_alive() {
        tally.ended(&format!("migrate_cancel inside a checkpoint: {ended}"));
    } else {
        tally.claim("migrate_cancel inside a checkpoint", outcome)?;
    }
    end(pair, tally)
}

/// Cancels the next checkpoint at this time after its stop; then QEMU is to hear that the peer is lost. Whether it
/// takes that, and what it said.
fn cancel(primary: &Guest, after: Duration) -> Result<(bool, String), LabError> {
    if !begins(primary) {
        return Ok((true, "no checkpoint came".to_owned()));
    }
    interrupt::sleep(after)?;
    let cancelled = said(primary, "migrate_cancel")?;
    interrupt::sleep(LOOKS)?;
    let seen = word(primary);
    let lost = said(primary, "x-colo-lost-heartbeat")?;
    let what = format!("cancelled after {after:?}: {cancelled}; {seen}; lost heartbeat {lost}");
    Ok((lost == OBEYED, what))
}

/// Ends the primary's QEMU, and lets the secondary VM go on.
fn take_over(primary: &Guest, secondary: &Guest) -> Result<String, LabError> {
    primary.handle()?.signal(Signal::KILL);
    let lost = said(secondary, "x-colo-lost-heartbeat")?;
    interrupt::wait_for("the secondary VM", RESUMES, || {
        let status = secondary.qmp.command("query-status", json!({}))?;
        Ok((status["status"] == "running").then_some(()))
    })?;
    Ok(format!(
        "primary QEMU killed; lost heartbeat {lost}, the secondary VM runs"
    ))
}

/// What QEMU says to a command.
fn said(guest: &Guest, command: &str) -> Result<String, LabError> {
    match guest.qmp.command(command, json!({})) {
        Ok(_) => Ok(OBEYED.to_owned()),
        Err(QmpError::Refused { description, .. }) => Ok(format!("refused ({description})")),
        Err(error) => Err(error.into()),
    }
}
