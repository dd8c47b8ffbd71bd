//! Real guests: the protected pair, QEMU's own proxy, one unprotected guest, and two unprotected
//! guests that do the same work at the same time, which is the most that a pair can reach where
//! CPUs are few. `colo-lab table` measures; each round runs all set-ups once, in turns.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::bed::Bed;
use crate::error::BenchError;
use crate::figure::Figure;
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

/// All set-ups once.
pub fn run(bed: &Bed) -> Result<Vec<Figure>, BenchError> {
    let mut samples = Samples::default();
    let folder = bed.folder()?;
    let json = folder.path().join("table.json");
    let mut words = vec![
        "table".to_owned(),
        "--brief".to_owned(),
        "--bin".to_owned(),
        bed.program("dpdk-colo").display().to_string(),
        "--image".to_owned(),
        bed.image.display().to_string(),
        "--json".to_owned(),
        json.display().to_string(),
    ];
    for row in ["stock", "pair", "unprotected", "both"] {
        words.extend(["--only".to_owned(), row.to_owned()]);
    }
    let program = bed.program("colo-lab");
    Process::start("colo-lab", &program, &words, folder.path())?.complete(LIMIT)?;
    let text = fs::read_to_string(&json).map_err(BenchError::file(&json))?;
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let rows = document["rows"].as_array().ok_or(BenchError::Figures {
        name: "colo-lab".to_owned(),
        said: text,
    })?;
    for row in rows {
        let setup = row["row"].as_str().unwrap_or("unknown");
        for (key, name, unit, scale) in COLUMNS {
            if let Some(value) = row[key].as_f64() {
                samples.add(format!("pair/{setup}/{name}"), unit, value / scale);
            }
        }
        let checkpoints = row["checkpoints"].as_f64().unwrap_or(0.0);
        samples.add(format!("pair/{setup}/checkpoints"), "", checkpoints);
    }
    Ok(samples.into_figures())
}
