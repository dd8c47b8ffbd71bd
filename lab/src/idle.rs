//! What a protected pair costs that does nothing, and what the sleep of its nodes adds to a request: `colo-lab idle`.
//!
//! Each length of `--idle-sleep` meets a pair of its own. Out: for each length the CPU time of both nodes in an hour, and
//! how long a datagram and its echo are under way, as a table in Markdown. The datagrams come one at a time behind a
//! pause, so that they find the nodes asleep.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::LabError;
use crate::interrupt;
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::workload::{Family, echo};

/// Values of `--idle-sleep` in microseconds.
const SLEEPS: [u32; 5] = [0, 50, 100, 250, 500];
/// Behind the pair's beginning, so that what that set off is over.
const SETTLE: Duration = Duration::from_secs(3);
/// For how long the CPU time is counted.
const WATCH: Duration = Duration::from_secs(20);
/// Echoes, and the pause before each.
const ECHOES: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// What one length costs.
#[derive(Debug, Clone, Copy)]
struct Cost {
    sleep: u32,
    /// Seconds of CPU in an hour, of both nodes.
    cpu: f64,
    p50: Duration,
    p99: Duration,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "{} | {:.0} | {:.2} ms | {:.2} ms",
            self.sleep,
            self.cpu,
            ms(self.p50),
            ms(self.p99)
        )
    }
}

/// CPU time that the processes have used.
fn used(processes: &[u32]) -> Result<Duration, LabError> {
    let mut sum = Duration::ZERO;
    for process in processes {
        for task in fs::read_dir(format!("/proc/{process}/task"))
            .map_err(LabError::file("/proc".as_ref()))?
            .flatten()
        {
            let path = task.path().join("schedstat");
            // A thread may have ended.
            let text = fs::read_to_string(path).unwrap_or_default();
            let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
            sum += Duration::from_nanos(ns.unwrap_or(0));
        }
    }
    Ok(sum)
}

fn measure(mode: &Mode, host: &Host, sleep: u32) -> Result<Cost, LabError> {
    let host = Host {
        idle_sleep: Some(sleep),
        ..host.clone()
    };
    let mut pair = Pair::start(mode, &host, true)?;
    interrupt::sleep(SETTLE)?;
    let nodes = pair.nodes();
    let (before, began) = (used(&nodes)?, Instant::now());
    interrupt::sleep(WATCH)?;
    let share = (used(&nodes)? - before).as_secs_f64() / began.elapsed().as_secs_f64();
    let mut times = pair.net.enter(|| {
        let mut times = Vec::with_capacity(ECHOES);
        for _ in 0..ECHOES {
            thread::sleep(PAUSE);
            let began = Instant::now();
            echo::udp(Family::V4, 1)?;
            times.push(began.elapsed());
        }
        Ok(times)
    })?;
    pair.alive()?;
    pair.finish()?;
    times.sort();
    Ok(Cost {
        sleep,
        cpu: share * 3600.0,
        p50: times[ECHOES / 2],
        p99: times[ECHOES * 99 / 100],
    })
}

/// Measures a pair at each length of sleep, and prints the table.
///
/// # Errors
/// What kept a pair from running.
pub fn run(host: &Host, bin: PathBuf) -> Result<(), LabError> {
    let mode = Mode::Protected(bin);
    let mut costs = Vec::new();
    for sleep in SLEEPS {
        let cost = measure(&mode, host, sleep)?;
        say("idle", cost);
        costs.push(cost);
    }
    println!("| --idle-sleep | CPU seconds an hour | echo p50 | p99 |");
    println!("| --- | --- | --- | --- |");
    for cost in costs {
        println!("| {cost} |");
    }
    Ok(())
}
