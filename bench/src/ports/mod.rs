//! `dpdk-colo --role compare` and testpmd on the same three vhost ports, fed by the same generator.
//!
//! testpmd forwards what comes in at the primary's port to the output port, and what comes in at
//! the secondary's to a net_null: it does all that the comparator does, but compare. Both poll on
//! one core; `colo-traffic load` has the other. In each round the set-ups take turns.

mod idle;
mod monitor;
mod requests;
mod sched_policy;
mod script;

pub use idle::run as idle;
pub use requests::run as requests;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::error::BenchError;
use crate::figure::Figure;
use crate::fixture::{Fixture, say};
use crate::process::Process;
use crate::samples::Samples;

/// Bytes of the frames, without FCS.
const FRAMES: [usize; 2] = [64, 1518];
/// Flows that take turns.
const FLOWS: u32 = 1000;
/// Turns of each set-up in a round.
const TURNS: usize = 3;
/// Memory of the program under test, in MiB.
const MEMORY: u64 = 512;

/// Who stands between the ports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The comparator, on equal segments.
    Equal,
    /// The comparator, on the same bytes in other segments.
    Shifted,
    /// testpmd, on equal segments.
    Testpmd,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::Equal => "colo",
            Self::Shifted => "colo-resegmented",
            Self::Testpmd => "testpmd",
        }
    }
}

/// What turns of one set-up gave. What else runs on the machine only worsens each value, so that
/// the best of a few turns is the nearest to the set-up's own.
struct Best {
    /// Millions of released frames per second.
    mpps: f64,
    /// Percent of that time in which the generator had nothing to do: without any, it is the limit.
    generator_waits: f64,
    /// Nanoseconds.
    delay: [f64; 2],
}

impl Best {
    fn of(report: &Value) -> Result<Self, BenchError> {
        let value = |pointer: &str| number(report, pointer);
        Ok(Self {
            mpps: value("/most/per_second")? / 1e6,
            generator_waits: 100.0 * value("/most/waiting")?,
            delay: [value("/paced/delay_ns/p50")?, value("/paced/delay_ns/p99")?],
        })
    }

    fn or(self, other: Self) -> Self {
        let better = if other.mpps > self.mpps {
            &other
        } else {
            &self
        };
        Self {
            mpps: better.mpps,
            generator_waits: better.generator_waits,
            delay: [0, 1].map(|i| self.delay[i].min(other.delay[i])),
        }
    }
}

/// Rates and delays of all set-ups.
pub fn run(fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    let mut samples = Samples::default();
    for frame in FRAMES {
        let subjects = [Subject::Equal, Subject::Testpmd, Subject::Shifted];
        let mut best = subjects.map(|_| None);
        for _ in 0..TURNS {
            for (subject, best) in subjects.into_iter().zip(&mut best) {
                let turn = Best::of(&measure(fixture, subject, frame)?)?;
                *best = Some(match best.take() {
                    Some(earlier) => turn.or(earlier),
                    None => turn,
                });
            }
        }
        for (subject, best) in subjects.into_iter().zip(best) {
            if let Some(best) = best {
                note(subject, frame, &best, &mut samples);
            }
        }
    }
    Ok(samples.figures())
}

fn note(subject: Subject, frame: usize, best: &Best, samples: &mut Samples) {
    let name = format!("ports/{frame}/{}", subject.name());
    let (mpps, [p50, p99]) = (best.mpps, best.delay);
    say(format_args!(
        "{name}: {mpps:.2} Mpps, delay p50 {p50:.0} ns, p99 {p99:.0} ns"
    ));
    samples.add(format!("{name}/mpps"), "Mpps", mpps);
    samples.add(format!("{name}/generator-waits"), "%", best.generator_waits);
    samples.add(format!("{name}/delay-p50"), "ns", p50);
    samples.add(format!("{name}/delay-p99"), "ns", p99);
}

fn number(report: &Value, pointer: &str) -> Result<f64, BenchError> {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.ok_or_else(|| BenchError::Figures {
        name: "colo-traffic".to_owned(),
        said: report.to_string(),
    })
}

fn measure(fixture: &Fixture, subject: Subject, frame: usize) -> Result<Value, BenchError> {
    let folder = fixture.folder()?;
    let dir = folder.path();
    let middle = match subject {
        Subject::Testpmd => testpmd(fixture, dir)?,
        Subject::Equal | Subject::Shifted => comparator(fixture, dir, AWAKE, &[])?,
    };
    let more: &[&str] = match subject {
        Subject::Equal => &[],
        Subject::Shifted => &["--shifted"],
        Subject::Testpmd => &["--from-primary"],
    };
    let ms = fixture.effort.pick(600, 300);
    let report = load(fixture, dir, frame, ms, more)?;
    match subject {
        // It ends by the signal itself.
        Subject::Testpmd => drop(middle),
        Subject::Equal | Subject::Shifted => middle.end()?,
    }
    Ok(report)
}

/// `colo-traffic load` at the other ends of the ports; each of its two measurements takes this many milliseconds.
fn load(
    fixture: &Fixture,
    dir: &Path,
    frame: usize,
    ms: u64,
    more: &[&str],
) -> Result<Value, BenchError> {
    let mut words = fixture.eal_of_generator();
    words.extend(["--file-prefix".to_owned(), "generator".to_owned()]);
    for (n, port) in PORTS.iter().enumerate() {
        words.push(format!(
            "--vdev=net_virtio_user{n},path={},mac=02:00:00:00:01:0{n}",
            dir.join(port).display()
        ));
    }
    let (frame, seed) = (frame.to_string(), fixture.effort.seed.to_string());
    let (ms_word, flows) = (ms.to_string(), FLOWS.to_string());
    let own = [
        "--",
        "load",
        "net_virtio_user0",
        "net_virtio_user1",
        "net_virtio_user2",
        "--frame",
        &frame,
        "--flows",
        &flows,
        "--seed",
        &seed,
        "--ms",
        &ms_word,
    ];
    words.extend(own.iter().chain(more).map(|&word| word.to_owned()));
    let generator = Process::start("generator", &fixture.program("colo-traffic"), &words, dir)?;
    let said = generator.complete(Duration::from_millis(4 * ms) + Duration::from_secs(60))?;
    let last = said.lines().rfind(|line| line.starts_with('{'));
    let report = last.and_then(|line| serde_json::from_str(line).ok());
    report.ok_or(BenchError::Figures {
        name: "colo-traffic".to_owned(),
        said,
    })
}

/// The sockets of the three ports, in the generator's order.
const PORTS: [&str; 3] = ["p.sock", "s.sock", "out.sock"];

/// No sleep of an idle poll core.
const AWAKE: &str = "0";

/// A running comparator on three vhost ports, with the longest sleep in microseconds and further options of its own.
fn comparator(
    fixture: &Fixture,
    dir: &Path,
    idle_sleep: &str,
    more: &[&str],
) -> Result<Process, BenchError> {
    let mut words = fixture.eal_of_subject(MEMORY);
    words.extend(["--file-prefix".to_owned(), "middle".to_owned()]);
    for (n, port) in PORTS.iter().enumerate() {
        let socket = dir.join(port);
        words.push(format!("--vdev=net_vhost{n},iface={}", socket.display()));
    }
    let own = [
        "--",
        "--role",
        "compare",
        "--primary-in",
        "net_vhost0",
        "--secondary-in",
        "net_vhost1",
        "--out",
        "net_vhost2",
        "--idle-sleep",
        idle_sleep,
    ];
    words.extend(own.iter().chain(more).map(|&word| word.to_owned()));
    let mut process = Process::start("comparator", &fixture.program("dpdk-colo"), &words, dir)?;
    process.wait_for_line("dpdk-colo: info: ready")?;
    Ok(process)
}

/// A running testpmd on the same ports. In the paired topology it forwards between the first and
/// the second port and between the third and the fourth.
fn testpmd(fixture: &Fixture, dir: &Path) -> Result<Process, BenchError> {
    let mut words = fixture.eal_of_subject(MEMORY);
    words.extend(["--file-prefix".to_owned(), "middle".to_owned()]);
    for (n, port) in ["p.sock", "out.sock", "s.sock"].iter().enumerate() {
        let socket = dir.join(port);
        words.push(format!("--vdev=net_vhost{n},iface={}", socket.display()));
    }
    words.push("--vdev=net_null0,no-rx=1".to_owned());
    let own = [
        "--",
        "--forward-mode=io",
        "--auto-start",
        "--no-mlockall",
        "--port-topology=paired",
        "--total-num-mbufs=32768",
        "--disable-link-check",
    ];
    words.extend(own.map(str::to_owned));
    let mut process = Process::start("testpmd", Path::new("dpdk-testpmd"), &words, dir)?;
    // Its log comes late, in blocks.
    for port in PORTS {
        process.wait_for_socket(&dir.join(port))?;
    }
    Ok(process)
}
