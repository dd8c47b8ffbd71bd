//! The assertions on a real protected pair.
//!
//! Out: a line `ok …` or `FAILED …` for each claim, and at the end `N passed, N failed`. What is claimed:
//! every byte that a client gets is right; deterministic traffic costs no checkpoint; a divergence is
//! asked about within a millisecond, and what the client then sees is the primary VM's answer, after the
//! commit (rules R1 and R2).

use std::path::PathBuf;
use std::time::Duration;

use crate::disk;
use crate::error::LabError;
use crate::interrupt;
use crate::matrix::spread;
use crate::pair::{Host, Mode, Pair, Summaries};
use crate::progress::say;
use crate::qmp::Checkpoint;
use crate::short;
use crate::workload::http::{self, Page};
use crate::workload::iperf::{self, Direction};
use crate::workload::short::Kind;
use crate::workload::{Family, differ, echo, redis};

/// How many checkpoints all deterministic traffic of one pair may cost.
const FREE: usize = 1;
/// A stream slower than this does not flow, it starts again after each timeout.
const FLOOR_MBIT: f64 = 5.0;
/// Divergences while records are written, at most.
const DISK_DIVERGENCES: usize = 5;
/// Within this of a differing byte the request must be out.
const REQUEST_NS: u64 = 1_000_000;
/// A byte that one VM has not sent is asked about only after the comparator's timeout, so a test waits longer before
/// "no checkpoint" means anything.
const SETTLE: Duration = Duration::from_secs(4);
/// Divergences from which on the median of the requests' times is significant.
const SAMPLE: usize = 10;
/// Failed loads after which the check ends: more of them show nothing new.
const ENOUGH: usize = 3;

/// How much of each load.
#[derive(Debug, Clone, Copy)]
struct Amount {
    pages: usize,
    big: usize,
    small: usize,
    redis: usize,
    echoes: usize,
    short: usize,
    iperf_seconds: u32,
}

const SHORT: Amount = Amount {
    pages: 10,
    big: 1,
    small: 50,
    redis: 2_000,
    echoes: 50,
    short: 200,
    iperf_seconds: 3,
};

const FULL: Amount = Amount {
    pages: 50,
    big: 3,
    small: 200,
    redis: 10_000,
    echoes: 200,
    short: 2_000,
    iperf_seconds: 10,
};

/// One pair's life: loads that cost no checkpoint, a stream, divergences, and whether both VMs are still sound.
struct Life<'a> {
    timestamps: bool,
    /// Address families of the deterministic loads.
    families: &'a [Family],
    stream: (Family, Direction),
    divergences: usize,
}

const BOTH: &[Family] = &[Family::V4, Family::V6];

/// The lives that cover every load: the short list takes each way of a stream once.
fn lives(full: bool) -> Vec<Life<'static>> {
    use Direction::{FromGuest, ToGuest};
    use Family::{V4, V6};
    let life = |timestamps, families, stream, divergences| Life {
        timestamps,
        families,
        stream,
        divergences,
    };
    if !full {
        return vec![
            life(true, BOTH, (V4, FromGuest), 20),
            life(false, &BOTH[..1], (V4, ToGuest), 2),
            life(true, &[], (V6, ToGuest), 0),
        ];
    }
    let mut lives = Vec::new();
    for timestamps in [true, false] {
        lives.push(life(timestamps, BOTH, (V4, FromGuest), 20));
        for stream in [(V4, ToGuest), (V6, FromGuest), (V6, ToGuest)] {
            lives.push(life(timestamps, &[], stream, 0));
        }
    }
    lives
}

/// Checks pairs with TCP timestamps and without.
///
/// # Errors
/// What kept a pair from running at all.
pub fn run(host: &Host, bin: PathBuf, full: bool) -> Result<Tally, LabError> {
    let mode = Mode::Protected(bin);
    let mut tally = Tally::default();
    for life in lives(full) {
        let with = if life.timestamps { "with" } else { "without" };
        say("check", format!("a pair {with} TCP timestamps"));
        let amount = if full { FULL } else { SHORT };
        let outcome = check_pair(&mode, host, &life, amount, &mut tally);
        match outcome {
            Err(error) if error.is_interrupt() => return Err(error),
            Err(error) => tally.note(format!("the pair {with} TCP timestamps"), Err(error))?,
            Ok(()) => {}
        }
    }
    println!(
        "{} checkpoints, STOP to RESUME {} ms (median, longest)",
        tally.pauses.len(),
        spread(&tally.pauses)
    );
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally)
}

fn check_pair(
    mode: &Mode,
    host: &Host,
    life: &Life<'_>,
    amount: Amount,
    tally: &mut Tally,
) -> Result<(), LabError> {
    let mut pair = Pair::start(mode, host, life.timestamps)?;
    if !life.families.is_empty() {
        deterministic(&mut pair, life.families, amount, tally)?;
        short_connections(&mut pair, life.families, amount.short, tally)?;
    }
    if host.disk {
        disks(&mut pair, life.divergences.min(DISK_DIVERGENCES), tally)?;
    }
    stream(&mut pair, life.stream, amount.iperf_seconds, tally)?;
    for number in 0..life.divergences {
        let family = life.families[number % life.families.len()];
        let outcome = diverge(&pair, family);
        tally.note(format!("divergence over {family}"), outcome)?;
        pair.alive()?;
    }
    if life.divergences > 0 {
        sound(&mut pair, life.divergences, tally)?;
    }
    let pauses = pair.checkpoints();
    let pauses = pauses
        .iter()
        .map(|pause| pause.resume.saturating_sub(pause.stop));
    tally.pauses.extend(pauses);
    match pair.finish() {
        Ok(Some(mut summaries)) => {
            counters(&summaries, life.divergences, tally);
            if let Some(audit) = summaries.audit.take() {
                tally.note("nothing left that should not have".to_owned(), audit)?;
            }
        }
        Ok(None) => {}
        Err(error) => tally.note("the nodes' end".to_owned(), Err(error))?,
    }
    Ok(())
}

/// Connections of one small page each, whichever end closes first.
fn short_connections(
    pair: &mut Pair,
    families: &[Family],
    count: usize,
    tally: &mut Tally,
) -> Result<(), LabError> {
    let mut kinds = Kind::all();
    kinds.retain(|kind| families.contains(&kind.family));
    let each = count.div_ceil(kinds.len());
    let before = pair.checkpoints().len();
    for kind in kinds {
        let outcome = short::connect(pair, kind, each)
            .map(|time| format!("{each} connections in {:.1} s", time.as_secs_f64()));
        tally.note(format!("short connections over {kind}"), outcome)?;
        pair.alive()?;
    }
    interrupt::sleep(SETTLE)?;
    let cost = pair.checkpoints().len() - before;
    let reasons = short::reasons(pair.dir());
    tally.claim(
        "short connections cost no checkpoint",
        cost == 0,
        format!("{cost} in all, records so far {reasons:?}"),
    );
    Ok(())
}

/// Loads whose answers both VMs give alike.
fn deterministic(
    pair: &mut Pair,
    families: &[Family],
    amount: Amount,
    tally: &mut Tally,
) -> Result<(), LabError> {
    let before = pair.checkpoints().len();
    let failed = tally.failed;
    for &family in families {
        for (name, load) in LOADS {
            let seen = pair.checkpoints().len();
            let outcome = pair.net.enter(|| load(family, amount)).map(|what| {
                let cost = pair.checkpoints().len() - seen;
                format!("{what}, {cost} checkpoints")
            });
            tally.note(format!("{name} over {family}"), outcome)?;
            pair.alive()?;
            if tally.failed - failed >= ENOUGH {
                return Ok(());
            }
        }
    }
    interrupt::sleep(SETTLE)?;
    let cost = pair.checkpoints().len() - before;
    tally.claim(
        "deterministic traffic costs no checkpoint",
        cost <= FREE,
        format!("{cost} in all, {FREE} allowed"),
    );
    Ok(())
}

type Load = fn(Family, Amount) -> Result<String, LabError>;

const LOADS: [(&str, Load); 7] = [
    ("pages", |family, amount| {
        pages(family, Page::Usual, amount.pages)
    }),
    ("big pages", |family, amount| {
        pages(family, Page::Big, amount.big)
    }),
    ("small pages", |family, amount| {
        let small = http::fetch(family, Page::Small, amount.small, None)?;
        let median = small.median().unwrap_or_default();
        Ok(format!("{} right, median {median:.1?}", small.each.len()))
    }),
    ("redis", |family, amount| {
        redis_load(family, amount.redis / 2, 1)
    }),
    ("redis pipelined", |family, amount| {
        redis_load(family, amount.redis / 2, 50)
    }),
    ("TCP echo", |family, amount| {
        let bytes = echo::tcp(family, amount.echoes)?;
        Ok(format!("{bytes} bytes right each way"))
    }),
    ("UDP echo", |family, amount| {
        let resent = echo::udp(family, amount.echoes)?;
        Ok(format!(
            "{} datagrams right, {resent} sent again",
            amount.echoes
        ))
    }),
];

fn pages(family: Family, page: Page, count: usize) -> Result<String, LabError> {
    let fetched = http::fetch(family, page, count, None)?;
    let rate = fetched.rate() / 1e6;
    Ok(format!(
        "{count} × {} bytes right, {rate:.1} MB/s",
        page.len()
    ))
}

fn redis_load(family: Family, operations: usize, depth: usize) -> Result<String, LabError> {
    let done = redis::exchange(family, operations, depth, None)?;
    Ok(format!("{operations} right, {:.0} per s", done.rate()))
}

/// Records that the guest writes to its disk before it answers.
fn disks(pair: &mut Pair, divergences: usize, tally: &mut Tally) -> Result<(), LabError> {
    pair.wait_quiet()?;
    let seen = match disk::check::write(pair, divergences) {
        Ok(seen) => seen,
        Err(error) => return tally.note("records to the disk".to_owned(), Err(error)),
    };
    tally.claim(
        "records to the disk cost no checkpoint",
        seen.cost <= FREE,
        format!("{} in all, {FREE} allowed", seen.cost),
    );
    for (whose, image) in ["primary", "secondary"].into_iter().zip(seen.images) {
        let name = format!("the {whose}'s disk after {divergences} divergences");
        tally.note(name, image)?;
    }
    pair.alive()
}

/// iperf3 one way. Its data is the same on both VMs; its end is not: the server stops when it reads the client's
/// command, each VM at another byte, and its closing report has its own CPU time.
fn stream(
    pair: &mut Pair,
    (family, direction): (Family, Direction),
    seconds: u32,
    tally: &mut Tally,
) -> Result<(), LabError> {
    let way = match direction {
        Direction::FromGuest => "from",
        Direction::ToGuest => "to",
    };
    let name = format!("iperf3 {way} the guest over {family}");
    pair.wait_quiet()?;
    let before = pair.checkpoints().len();
    let dir = pair.dir();
    let outcome = pair
        .net
        .enter(|| iperf::run(family, direction, seconds, dir));
    let run = match outcome {
        Ok(run) => run,
        Err(error) => return tally.note(name, Err(error)),
    };
    let cost = &pair.checkpoints()[before..];
    let during = cost
        .iter()
        .filter(|checkpoint| checkpoint.stop < run.data_until)
        .count();
    let rate = run.bit_rate / 1e6;
    tally.claim(
        &name,
        rate >= FLOOR_MBIT && during <= FREE,
        format!(
            "{rate:.1} Mbit/s (at least {FLOOR_MBIT}), {} bytes right, {during} checkpoints ({FREE} allowed), {} at its end",
            run.checked,
            cost.len() - during
        ),
    );
    pair.alive()
}

/// Asks the differing service once and holds the answer against both VMs' own records.
fn diverge(pair: &Pair, family: Family) -> Result<String, LabError> {
    pair.wait_quiet()?;
    let answer = pair.net.enter(|| Ok(differ::ask(family)?))?;
    let checkpoint = pair.checkpoint_after(answer.asked, SETTLE)?;
    let (primary, _) = pair.answers();
    if primary.last() != Some(&answer.line) {
        return Err(LabError::Claim {
            reason: format!(
                "the client got {:?}, the primary VM sent {:?}",
                answer.line,
                primary.last()
            ),
        });
    }
    if answer.arrived < checkpoint.resume {
        return Err(LabError::Claim {
            reason: format!(
                "the answer came before the commit: {}",
                moments(&answer, checkpoint)
            ),
        });
    }
    Ok(moments(&answer, checkpoint))
}

/// Whether the secondary VM is still the primary's equal after its checkpoints: its kernel says nothing, it answered
/// each time itself, and traffic that both answer alike still costs nothing.
fn sound(pair: &mut Pair, asked: usize, tally: &mut Tally) -> Result<(), LabError> {
    pair.wait_quiet()?;
    let checkpoints = pair.checkpoints();
    let after = format!("after {} checkpoints", checkpoints.len());
    let outcome = pair
        .net
        .enter(|| pages(Family::V4, Page::Usual, SHORT.pages));
    tally.note(format!("pages {after}"), outcome)?;
    interrupt::sleep(SETTLE)?;
    let cost = pair.checkpoints().len() - checkpoints.len();
    tally.claim(
        &format!("pages {after} cost no checkpoint"),
        cost <= FREE,
        format!("{cost} in all, {FREE} allowed"),
    );
    let (_, secondary) = pair.answers();
    tally.claim(
        "the secondary VM answered each time",
        secondary.len() >= asked,
        format!("{} answers of its own, {asked} asked", secondary.len()),
    );
    let complaints = pair.complaints();
    tally.claim(
        &format!("both kernels are sound {after}"),
        complaints.is_empty(),
        format!("{complaints:?}"),
    );
    pair.alive()
}

/// When things happened, counted from the client's first segment.
pub fn moments(answer: &differ::Answer, checkpoint: Checkpoint) -> String {
    let ms = |at: Duration| (at.as_secs_f64() - answer.asked.as_secs_f64()) * 1e3;
    format!(
        "STOP at {:.1} ms, RESUME at {:.1} ms, the primary VM's answer at {:.1} ms",
        ms(checkpoint.stop),
        ms(checkpoint.resume),
        ms(answer.arrived)
    )
}

/// What the nodes themselves counted.
fn counters(summaries: &Summaries, asked: usize, tally: &mut Tally) {
    let primary = &summaries.primary;
    let reasons = primary.divergences();
    let found: u64 = reasons.values().sum();
    tally.claim(
        "the primary counts each divergence",
        found >= asked as u64,
        format!("{reasons:?}"),
    );
    let counter = |pointer| primary.counter(pointer).unwrap_or(0);
    let (requested, committed) = (
        counter("/checkpoints/requested"),
        counter("/checkpoints/committed"),
    );
    tally.claim(
        "checkpoints requested and committed",
        committed >= asked as u64 && requested >= asked as u64,
        format!("{requested} and {committed}, {asked} provoked"),
    );
    // The median of many: a single one shows how long a small machine let the node wait for a CPU.
    if asked >= SAMPLE {
        let request = primary.latency("request_ns");
        tally.claim(
            "a request is out within 1 ms of the differing byte",
            request
                .is_some_and(|latency| latency.count >= asked as u64 && latency.p50 <= REQUEST_NS),
            format!("{request:?}"),
        );
    }
    let (taken, divided, left, held, dropped) = (
        counter("/ports/net_vhost0/rx"),
        counter("/divided"),
        counter("/ports/net_af_packet0/tx"),
        counter("/held"),
        counter("/reset_dropped"),
    );
    tally.claim(
        "every frame of the primary VM left or is held",
        taken > 0 && taken + divided == left + held + dropped,
        format!(
            "{taken} taken, {divided} of them divided, {left} left, {held} held, {dropped} of reset connections"
        ),
    );
    let ports = |summary: &crate::node::Summary| {
        summary
            .0
            .get("ports")
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    println!("        primary ports {}", ports(primary));
    println!("        secondary ports {}", ports(&summaries.secondary));
}

/// Passed and failed claims.
#[derive(Debug, Default)]
pub struct Tally {
    /// Claims that hold.
    pub passed: usize,
    /// Claims that do not.
    pub failed: usize,
    /// How long the primary VM stood at each checkpoint, from STOP to RESUME.
    pub pauses: Vec<Duration>,
}

impl Tally {
    fn claim(&mut self, name: &str, holds: bool, detail: String) {
        if holds {
            self.passed += 1;
            println!("ok      {name}: {detail}");
        } else {
            self.failed += 1;
            println!("FAILED  {name}: {detail}");
        }
    }

    /// Counts an outcome; only a signal is passed on.
    fn note(&mut self, name: String, outcome: Result<String, LabError>) -> Result<(), LabError> {
        match outcome {
            Err(error) if error.is_interrupt() => Err(error),
            Err(error) => {
                self.claim(&name, false, error.to_string());
                Ok(())
            }
            Ok(detail) => {
                self.claim(&name, true, detail);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_and_signals_pass() {
        let mut tally = Tally::default();
        tally
            .note("right".to_owned(), Ok("yes".to_owned()))
            .expect("counted");
        let wrong = LabError::Claim {
            reason: "no".to_owned(),
        };
        tally.note("wrong".to_owned(), Err(wrong)).expect("counted");
        assert_eq!((tally.passed, tally.failed), (1, 1));
        let signal = tally.note("cut".to_owned(), Err(LabError::Interrupted));
        assert!(signal.expect_err("passed on").is_interrupt());
    }
}
