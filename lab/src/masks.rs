//! Pages whose date differs between the VMs, beside a protected pair without and with a mask rule: `colo-lab masks`.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::LabError;
use crate::interrupt;
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::short::reasons;
use crate::workload::Family;
use crate::workload::dated::{self, Page};

/// The rule, as an operator writes it.
const RULE: &str = r#"
[[policy]]
name = "http-date"
action = "mask"
protocol = "tcp"
port = 80
after = "\r\nDate: "
until = "\r"
max-length = 32
"#;

/// The same, tried.
const TRIED: &str = r#"
[[policy]]
name = "http-date"
action = "mask"
dry-run = true
protocol = "tcp"
port = 80
after = "\r\nDate: "
until = "\r"
max-length = 32
"#;

/// Between two pages: 50 in a second.
const INTERVAL: Duration = Duration::from_millis(20);
/// Until a request that is due has led to its checkpoint.
const SETTLE: Duration = Duration::from_secs(4);
/// Pages with a difference outside of the mask. One in 26 has none.
const ODD: usize = 5;

/// What one run has shown.
struct Outcome {
    pages: usize,
    /// Divergences by a byte of payload while the pages came.
    payload: usize,
    /// The same of the odd pages.
    odd: usize,
    audit: bool,
}

fn payloads(pair: &Pair) -> usize {
    reasons(pair.dir()).get("payload").copied().unwrap_or(0)
}

fn load(host: &Host, bin: &std::path::Path, time: Duration) -> Result<Outcome, LabError> {
    let mut pair = Pair::start(&Mode::Protected(bin.to_owned()), host, true)?;
    let pages = pair.net.enter(|| Ok(dated::run(INTERVAL, time)?))?;
    interrupt::sleep(SETTLE)?;
    pair.alive()?;
    let payload = payloads(&pair);
    for _ in 0..ODD {
        pair.net
            .enter(|| Ok(dated::fetch(Family::V4, Page::Odd)?))?;
    }
    interrupt::sleep(SETTLE)?;
    pair.alive()?;
    let odd = payloads(&pair) - payload;
    let mut audit = true;
    if let Some(summaries) = pair.finish()? {
        let counter = |pointer| summaries.primary.counter(pointer).unwrap_or(0);
        println!(
            "  {} checkpoints asked for in all, {} bytes masked, {} differences that the rule in dry run would have saved",
            counter("/checkpoints/requested"),
            counter("/masked_bytes/http-date"),
            counter("/mask_dry_run/http-date"),
        );
        if let Some(said) = summaries.audit {
            match said {
                Ok(said) => say("audit", said),
                Err(error) => {
                    audit = false;
                    say("audit", error);
                }
            }
        }
    }
    Ok(Outcome {
        pages,
        payload,
        odd,
        audit,
    })
}

/// Fetches pages for `seconds` without a rule, with one that is tried, and with one that masks. True if the last one costs
/// no checkpoint for a byte of payload, and a byte beside the date still does.
///
/// # Errors
/// What kept the pair from running, or a client from being served.
pub fn run(host: &Host, bin: PathBuf, seconds: u64) -> Result<bool, LabError> {
    let mut good = true;
    for (name, policy) in [
        ("no rule", None),
        ("dry run", Some(TRIED)),
        ("mask", Some(RULE)),
    ] {
        let host = Host {
            policy,
            ..host.clone()
        };
        let outcome = load(&host, &bin, Duration::from_secs(seconds))?;
        println!(
            "{name}: {} pages in {seconds} s, {} differences of payload; then {} of {ODD} pages with another difference found",
            outcome.pages, outcome.payload, outcome.odd
        );
        good &= outcome.audit && outcome.odd > 0 && (name != "mask" || outcome.payload == 0);
    }
    Ok(good)
}
