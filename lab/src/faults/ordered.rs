//! Pairs that their nodes set up themselves: `colo-lab protect`.
//!
//! In: how many rounds, a seed. Out: a line for each round, and what the clients saw over all of them. A round is
//! `coloctl protect` at the leading node while clients load the VM, SIGKILL of one host, `coloctl failover` at the
//! other, and a new secondary in the dead one's place; in the end the pair is protected once more. The lab gives QEMU
//! no command that has to do with COLO, and the clients' connections live through all rounds.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::drill::Drill;
use super::plan::Side;
use crate::error::LabError;
use crate::interrupt;
use crate::pair::Host;
use crate::progress::say;

/// From the death of a host until its peer's node takes the order to fail over.
const NOTICED: Duration = Duration::from_secs(20);

/// Runs this number of rounds; true if nothing failed.
///
/// # Errors
/// What kept it from starting, or an interrupt.
pub fn run(host: &Host, bin: PathBuf, rounds: usize, seed: u64) -> Result<bool, LabError> {
    let mut drill = Drill::start(host, bin, seed)?;
    let mut done = 0;
    let outcome = drill.wait_served().and_then(|()| {
        for round in 0..rounds {
            let lost = match (seed + round as u64) % 2 {
                0 => Side::Primary,
                _ => Side::Secondary,
            };
            let line = one_round(&mut drill, lost, round)?;
            done += 1;
            say("round", format!("{done}: {line}"));
        }
        // Both disks are whole while the pair lives.
        drill.protect().map(drop)
    });
    drill.finish(outcome, done, rounds)
}

/// Protects, kills, fails over, and puts a new secondary in the dead one's place. Returns what it took.
fn one_round(drill: &mut Drill<'_>, lost: Side, round: usize) -> Result<String, LabError> {
    let (protected, bringing) = drill.protect()?;
    interrupt::sleep(Duration::from_millis(500))?;

    drill.load.mark();
    let (dead, word) = match lost {
        Side::Primary => (&mut drill.cluster.primary, "primary"),
        Side::Secondary => (&mut drill.cluster.secondary, "secondary"),
    };
    dead.guest.kill();
    if let Some(mut node) = dead.node.take() {
        node.kill();
    }
    let (killed, host) = (Instant::now(), dead.host());
    drill.site.net.forget(host)?;
    drill.load.order();
    let until = killed + NOTICED;
    let survivor = match lost {
        Side::Primary => &drill.cluster.secondary,
        Side::Secondary => &drill.cluster.primary,
    };
    // The node has to notice the loss first, and refuses until then.
    while let Err(error) = drill.order(survivor, &["failover", "--fenced"]) {
        if error.is_interrupt() || Instant::now() > until {
            return Err(error.beside(&drill.said()));
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
    let ordered = killed.elapsed();
    drill.wait_served()?;
    let silence = drill.silence();
    let name = format!("vm{}", round + 1);
    drill.cluster.replace(&drill.site, lost, &name)?;
    drill.order(
        &drill.cluster.primary,
        &["wait", "--for", "peer", "--timeout", "30"],
    )?;
    Ok(format!(
        "protected in {:.1} s ({} MiB sent, longest silence {} ms); {word} host killed, order accepted after {:.1} s, \
         silence {} ms",
        protected["ms"].as_f64().unwrap_or_default() / 1e3,
        protected["bytes"].as_u64().unwrap_or_default() >> 20,
        bringing.as_millis(),
        ordered.as_secs_f64(),
        silence.as_millis(),
    ))
}
