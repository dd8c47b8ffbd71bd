//! One release of QEMU after the other: `colo-lab matrix`.
//!
//! In: which releases, how many injections. Out: of each release the pair's check and a short fault suite, and at
//! the end one table. The auditor judges the injections, and the short check.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::LabError;
use crate::pair::Host;
use crate::progress::say;
use crate::release::Release;
use crate::{check, faults};

/// What to run.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The releases; all that can be fetched if there are none.
    pub releases: &'a [String],
    /// Whether the check is the long one.
    pub full: bool,
    /// Injections on each release.
    pub count: usize,
    /// The seed of each release's first injection.
    pub seed: u64,
    /// Where each release's injections are written, as `faults-RELEASE.json`.
    pub json: &'a Path,
}

/// What a release came to.
struct Row {
    name: String,
    took: Duration,
    seen: Result<Seen, LabError>,
}

/// What was seen of a release that could be run.
struct Seen {
    version: String,
    shim: bool,
    check: check::Tally,
    faults: faults::Tally,
}

impl Row {
    fn is_good(&self) -> bool {
        self.seen
            .as_ref()
            .is_ok_and(|seen| seen.check.failed == 0 && seen.faults.failed == 0)
    }
}

/// Runs the check and the injections on each release; true if nothing failed on any. `host` prepares the machine for
/// a release.
///
/// # Errors
/// An interrupt. A release that cannot be run is a failed row.
pub fn run(
    host: impl Fn(&str) -> Result<Host, LabError>,
    bin: &Path,
    order: &Order<'_>,
) -> Result<bool, LabError> {
    let names: Vec<String> = match order.releases {
        [] => Release::known().map(str::to_owned).collect(),
        named => named.to_vec(),
    };
    let mut rows = Vec::new();
    for name in names {
        say("matrix", format!("QEMU {name}"));
        let start = Instant::now();
        let seen = host(&name).and_then(|host| look(&host, bin, order, &name));
        if let Err(error) = &seen {
            if error.is_interrupt() {
                print(&rows);
                return seen.map(|_| false);
            }
            println!("FAILED  QEMU {name}: {error}");
        }
        rows.push(Row {
            name,
            took: start.elapsed(),
            seen,
        });
    }
    print(&rows);
    Ok(rows.iter().all(Row::is_good))
}

fn look(host: &Host, bin: &Path, order: &Order<'_>, name: &str) -> Result<Seen, LabError> {
    // A capture of ten seconds of iperf3 needs a disk and a core of its own.
    let audit = host.audit.clone().filter(|_| !order.full);
    let watched = Host {
        audit,
        ..host.clone()
    };
    let check = check::run(&watched, bin.to_owned(), order.full)?;
    let injections = faults::Order {
        count: order.count,
        seed: order.seed,
        only: Vec::new(),
    };
    let file: PathBuf = order
        .json
        .join(format!("faults-{}.json", name.replace('/', "_")));
    let faults = faults::run(host, bin.to_owned(), &injections, &file)?;
    Ok(Seen {
        version: host.release.to_string(),
        shim: host.release.needs_shim(host.accel),
        check,
        faults,
    })
}

fn print(rows: &[Row]) {
    println!(
        "\n| QEMU | lock shim | claims passed | failed | checkpoints | STOP to RESUME, ms | injections passed | failed \
         | silence at a takeover, ms | first byte beside QEMU, ms | minutes |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for row in rows {
        println!("{row}");
    }
    println!("\nTimes are medians and the longest.");
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.took.as_secs_f64() / 60.0;
        let seen = match &self.seen {
            Ok(seen) => seen,
            Err(_) => {
                let name = &self.name;
                return write!(
                    f,
                    "| {name} | | | not run | | | | not run | | | {minutes:.1} |"
                );
            }
        };
        let (check, faults) = (&seen.check, &seen.faults);
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {minutes:.1} |",
            seen.version,
            if seen.shim { "yes" } else { "no" },
            check.passed,
            check.failed,
            check.pauses.len(),
            spread(&check.pauses),
            faults.passed,
            faults.failed,
            spread(&faults.silences),
            spread(&faults.beside_qemu),
        )
    }
}

/// The median and the longest, in milliseconds.
pub fn spread(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    match sorted.last() {
        Some(last) => format!("{:.0}, {:.0}", ms(sorted[sorted.len() / 2]), ms(*last)),
        None => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_did_not_run_is_no_good_row() {
        let row = |seen| Row {
            name: "10.0".to_owned(),
            took: Duration::from_secs(90),
            seen,
        };
        let absent = row(Err(LabError::Claim {
            reason: "no mirror".to_owned(),
        }));
        assert!(!absent.is_good());
        assert!(absent.to_string().contains("not run"));
        let seen = |check_failed, faults_failed| Seen {
            version: "10.0.13".to_owned(),
            shim: true,
            check: check::Tally {
                passed: 50,
                failed: check_failed,
                pauses: vec![Duration::from_millis(30), Duration::from_millis(10)],
            },
            faults: faults::Tally {
                passed: 8,
                failed: faults_failed,
                ..faults::Tally::default()
            },
        };
        let good = row(Ok(seen(0, 0)));
        assert!(good.is_good());
        assert_eq!(
            good.to_string(),
            "| 10.0.13 | yes | 50 | 0 | 2 | 30, 30 | 8 | 0 | none | none | 1.5 |"
        );
        assert!(!row(Ok(seen(1, 0))).is_good());
        assert!(!row(Ok(seen(0, 1))).is_good());
    }
}
