//! Real guests: the protected pair, QEMU's own proxy, one unprotected guest, and two unprotected
//! guests that do the same work at the same time, which is the most that a pair can reach where
//! CPUs are few. `colo-lab table` measures; each round runs all set-ups once, in turns.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::error::BenchError;
use crate::figure::Figure;
use crate::fixture::{Fixture, say};
use crate::process::Process;
use crate::samples::Samples;

/// How long a round may take: four set-ups, each with a boot.
const LIMIT: Duration = Duration::from_secs(900);

/// A column of the lab's table: its key, its name here, its unit, and how many of the lab's units
/// one of them is.
const COLUMNS: [(&str, &str, &str, f64); 6] = [
    ("page_bytes_per_s", "page", "MB/s", 1e6),
    ("small_page_ms", "small-page", "ms", 1.0),
    ("redis_per_s", "redis", "1/s", 1.0),
    ("redis_pipelined_per_s", "redis-pipelined", "1/s", 1.0),
    (
        "iperf_from_guest_bit_per_s",
        "iperf-from-guest",
        "Mbit/s",
        1e6,
    ),
    ("iperf_to_guest_bit_per_s", "iperf-to-guest", "Mbit/s", 1e6),
];

/// All set-ups once. Guests behind testpmd make frames of wire size with checksums, so the pair is
/// measured without offloads, too.
pub fn run(fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    let mut samples = Samples::default();
    let rows = ["stock", "pair", "unprotected", "both"];
    table(fixture, &rows, &[], "", &mut samples)?;
    let plain = ["--no-offloads"];
    table(fixture, &["pair"], &plain, "-no-offloads", &mut samples)?;
    Ok(samples.figures())
}

/// Some rows of the lab's table; `suffix` goes behind their names.
fn table(
    fixture: &Fixture,
    rows: &[&str],
    options: &[&str],
    suffix: &str,
    samples: &mut Samples,
) -> Result<(), BenchError> {
    let folder = fixture.folder()?;
    let json = folder.path().join("table.json");
    let mut words = vec![
        "table".to_owned(),
        "--brief".to_owned(),
        "--bin".to_owned(),
        fixture.program("dpdk-colo").display().to_string(),
        "--image".to_owned(),
        fixture.image.display().to_string(),
        "--json".to_owned(),
        json.display().to_string(),
    ];
    words.extend(options.iter().map(|&word| word.to_owned()));
    for &row in rows {
        words.extend(["--only", row].map(str::to_owned));
    }
    let program = fixture.program("colo-lab");
    Process::start("colo-lab", &program, &words, folder.path())?.complete(LIMIT)?;
    let text = fs::read_to_string(&json).map_err(BenchError::file(&json))?;
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let rows = document["rows"].as_array().ok_or(BenchError::Figures {
        name: "colo-lab".to_owned(),
        said: text,
    })?;
    for row in rows {
        let name = row["row"].as_str().unwrap_or("unknown");
        let setup = format!("pair/{name}{suffix}");
        for (key, name, unit, scale) in COLUMNS {
            if let Some(value) = row[key].as_f64() {
                say(format_args!("{setup}/{name}: {:.1} {unit}", value / scale));
                samples.add(format!("{setup}/{name}"), unit, value / scale);
            }
        }
        let checkpoints = row["checkpoints"].as_f64().unwrap_or(0.0);
        samples.add(format!("{setup}/checkpoints"), "", checkpoints);
    }
    Ok(())
}
