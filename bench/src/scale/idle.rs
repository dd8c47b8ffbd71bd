//! One process with many VM pairs that have nothing to do: what a round over all of them takes.

use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::error::BenchError;
use crate::fixture::Fixture;
use crate::process::Process;

/// Memory of the process, in MiB.
const MEMORY: u64 = 1024;

/// Nanoseconds of a round over `pairs` pairs, each a comparator on three ports of net_null.
pub fn round_ns(fixture: &Fixture, pairs: usize) -> Result<f64, BenchError> {
    let folder = fixture.folder()?;
    let dir = folder.path();
    let (config, summary) = (dir.join("colo.toml"), dir.join("summary.json"));
    let mut text = String::new();
    let mut words = fixture.eal_of_subject(MEMORY);
    words.extend(["--file-prefix", "middle"].map(str::to_owned));
    for pair in 0..pairs {
        let [p, s, out] = [0, 1, 2].map(|port| 3 * pair + port);
        let _ = writeln!(
            text,
            "[[pair]]\nname = \"vm{pair}\"\nvm-id = {pair}\nrole = \"compare\"\n\
             primary-in = \"net_null{p}\"\nsecondary-in = \"net_null{s}\"\nout = \"net_null{out}\"\n\
             hold-frames = 1024\nflows = 1024\n"
        );
        words.extend([p, s, out].map(|port| format!("--vdev=net_null{port},no-rx=1")));
    }
    fs::write(&config, text).map_err(BenchError::file(&config))?;
    words.extend(["--", "--config"].map(str::to_owned));
    words.push(config.display().to_string());
    words.push("--summary".to_owned());
    words.push(summary.display().to_string());
    let mut process = Process::start("comparator", &fixture.program("dpdk-colo"), &words, dir)?;
    process.wait_for_line("dpdk-colo: info: ready")?;
    thread::sleep(Duration::from_millis(fixture.effort.pick(500, 200)));
    process.end()?;
    let text = fs::read_to_string(&summary).map_err(BenchError::file(&summary))?;
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    // Several pairs stand under their names, and each has the loop's figures.
    let first = value.pointer("/pairs/vm0").unwrap_or(&value);
    let (polls, seconds) = (first["polls"].as_f64(), first["seconds"].as_f64());
    let seconds = seconds.or(value["seconds"].as_f64());
    match (polls, seconds) {
        (Some(polls), Some(seconds)) if polls > 0.0 => Ok(seconds * 1e9 / polls),
        _ => Err(BenchError::Figures {
            name: "dpdk-colo".to_owned(),
            said: text,
        }),
    }
}
