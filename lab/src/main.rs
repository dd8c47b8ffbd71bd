//! `colo-lab`: real QEMU pairs under COLO, on one machine, loaded and checked.
//!
//! | subcommand | what it does |
//! | --- | --- |
//! | `image` | makes the test guest out of Debian packages |
//! | `demo` | shows a protected pair at work, with one real divergence |
//! | `check` | asserts what a protected pair must do |
//! | `short` | counts the checkpoints that short connections cost |
//! | `storm` | measures a pair that differs all the time, without and with a bound on its stops |
//! | `masks` | counts the checkpoints that pages with a date cost, without and with a mask rule |
//! | `faults` | kills, stops and cuts parts of pairs under load, and checks what clients see |
//! | `protect` | lets the nodes set COLO up by `coloctl`, kills hosts under load, and protects the survivors again |
//! | `switchover` | moves the lead by `coloctl`, under load, and kills parts in its midst |
//! | `loss` | wears the wire between node and client, and measures the pair beside unprotected guests |
//! | `operator` | stops and continues the VMs of pairs by hand, and cancels migrations, inside checkpoints, too |
//! | `matrix` | runs the check and a short fault suite on one release of QEMU after the other |
//! | `idle` | measures what a pair costs that does nothing, and what the sleep of its nodes adds |
//! | `paths` | counts which way through the comparator the output of real loads takes |
//! | `predict` | compares the checkpoints that `coloctl compare` predicts with those that pairs made |
//! | `run` | runs a command of the user's beside a protected pair |
//! | `captures` | runs the comparator over any captures and judges what it releases; needs no guest |
//! | `table` | measures QEMU's own proxy, the protected pair and an unprotected guest |
//!
//! Everything that a run starts or makes is gone when it ends, however it ends.

mod accel;
mod audit;
mod captures;
mod check;
mod command;
mod demo;
mod disk;
mod error;
mod faults;
mod idle;
mod image;
mod interrupt;
mod load;
mod loss;
mod masks;
mod matrix;
mod net;
mod node;
mod operator;
mod pair;
mod paths;
mod predict;
mod process;
mod progress;
mod qemu;
mod qmp;
mod release;
mod series;
mod short;
mod storm;
mod table;
mod wire;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::error::LabError;
use crate::image::Image;
use crate::pair::{Host, Ports};
use crate::progress::say;

const USAGE: &str = "\
Usage: colo-lab image DIR                     make the test guest in DIR
       colo-lab demo  --bin FILE [options]    show a protected pair at work
       colo-lab check --bin FILE [options]    assert what a protected pair must do
       colo-lab short --bin FILE [options]    count the checkpoints of short connections: there must be none
       colo-lab masks --bin FILE [options]    count the checkpoints of pages with a date, without and with a mask rule
       colo-lab storm --bin FILE [options]    measure a pair that differs all the time, without and with --checkpoint-share
       colo-lab faults --bin FILE [options]   kill, stop and cut parts of pairs under load
       colo-lab protect --bin FILE [options]  let coloctl (beside FILE) protect, fail over and protect again, under load
       colo-lab switchover --bin FILE [options]  let coloctl move the lead and protect again, under load
       colo-lab loss  --bin FILE [options]    lose frames between a pair and its client, beside unprotected guests
       colo-lab operator --bin FILE [options] stop and continue VMs by hand, inside checkpoints, too
       colo-lab matrix --bin FILE [options]   check pairs and inject faults on one release of QEMU after the other
       colo-lab idle  --bin FILE [options]    what an idle pair costs, by --idle-sleep of its nodes
       colo-lab paths --bin FILE [options]    count the comparator's paths under real loads
       colo-lab predict --bin FILE --audit FILE [options]  let coloctl (beside FILE) predict the checkpoints of pairs
       colo-lab run   --bin FILE [options] -- COMMAND   run a command in the client's namespace beside a pair
       colo-lab captures DIR [options]        run the comparator over all captures below DIR, and judge it
       colo-lab table [--bin FILE] [options]  compare with QEMU's own proxy and no protection
Options:
  --bin FILE     the dpdk-colo program
  --image DIR    the test guest, made if it is not there (lab/work/image)
  --qemu RELEASE the QEMU that runs the guests, fetched if need be: 7.2, 10.0, 11.1, or the folder of an unpacked
                 tree (with a slash); without it the installed one
  --audit FILE   the dpdk-colo-audit program: check, run, short, faults, loss: capture all that nodes see, and judge it
  --full         check: the long list, with and without TCP timestamps
  --only NAME    table, run: one row (stock, pair, unprotected, both, alone or plain); faults: one kind of fault; loss: one
                 wire (clean, to-1, both-0.1, ...); matrix: one release, as --qemu has it; switchover: what
                 is killed (primary-qemu, secondary-qemu, primary-node, secondary-node); may be repeated
  --brief        table: with TCP timestamps only
  --count N      faults: how many injections (60); matrix: how many on each release (8); short: how many connections (10000); masks, predict, storm: how many seconds (120; 60; 30); captures: frames of each that are
                 taken (2000); operator: how many rounds (5); switchover: how many more orders with a kill in
                 their midst (0)
  --rounds N     loss: how often each wire is measured (5); protect: how often a host is killed (5);
                 switchover: how often it is ordered (5)
  --pages N      loss: how many pages of 300 kB (200)
  --load NAME    loss: one load (pages, download, upload, echo, redis); may be repeated
  --beside NAME  loss: what unprotected guests stand behind: alone (dpdk-colo without a secondary) or testpmd (alone)
  --assert       loss: fail if a figure is below its goal
  --seed S       faults: the first injection's seed; loss: of what frames suffer (from the clock); captures: of
                 all choices (1)
  --json FILE    table, faults, loss: write the figures there (lab/work/table.json, faults.json, loss.json);
                 captures: likewise
  --examples N   captures: examples of each kind of finding (3)
  --strict       captures: a deviation counts as a failure
  --no-offloads  guests send frames of wire size with checksums (no tso=1)
  --vhost-client nodes connect to their guests' vhost-user sockets (client=1) instead of listening
  --trusted-link nodes have no key for the link between them
  --multifd N    the VMs' state goes over N connections at once (QEMU 11.0 and later)
  --disk         check, faults, matrix, protect, switchover: guests have a disk, and what they acknowledged must be on the survivor's
  --keep         keep the run folder with all logs
";

/// Exit status for a wrong command line, as for `dpdk-colo`.
const USAGE_ERROR: u8 = 2;
/// Exit status after SIGINT, as shells report it.
const INTERRUPTED: u8 = 130;

/// Rounds of `operator` by default.
const OPERATOR_ROUNDS: usize = 5;
/// Injections of `faults` by default: each kind twice.
const INJECTIONS: usize = 60;
/// Injections of `matrix` on each release by default, and the first one's seed.
const OF_EACH: usize = 8;
const OF_EACH_SEED: u64 = 3000;
/// Seconds of each load of `masks` by default.
const MASK_SECONDS: usize = 120;
/// The same of `storm`.
const STORM_SECONDS: usize = 30;
/// The same of `predict`.
const PREDICT_SECONDS: usize = 60;
/// Connections of `short` by default.
const CONNECTIONS: usize = 10_000;

/// Rounds of `loss` by default.
const ROUNDS: usize = 5;
/// Pages of each load of pages of `loss` by default.
const PAGES: usize = 200;

/// A seed that no two runs share.
fn clock() -> u64 {
    workload::wall_clock().as_micros() as u64 % 1_000_000_000
}

/// The command line.
#[derive(Debug)]
struct Arguments {
    command: Command,
    bin: Option<PathBuf>,
    audit: Option<PathBuf>,
    image: PathBuf,
    qemu: Option<String>,
    json: Option<PathBuf>,
    rows: Vec<table::Row>,
    faults: Vec<faults::Kind>,
    kills: Vec<faults::Kill>,
    wires: Vec<loss::Kind>,
    loads: Vec<loss::Load>,
    releases: Vec<String>,
    rounds: usize,
    pages: usize,
    assert: bool,
    beside: loss::Middle,
    count: Option<usize>,
    examples: usize,
    strict: bool,
    seed: Option<u64>,
    full: bool,
    brief: bool,
    keep: bool,
    no_offloads: bool,
    vhost_client: bool,
    trusted_link: bool,
    multifd: Option<u8>,
    disk: bool,
    words: Vec<String>,
    captures: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Image,
    Captures,
    Demo,
    Check,
    Faults,
    Idle,
    Loss,
    Masks,
    Storm,
    Matrix,
    Operator,
    Paths,
    Predict,
    Protect,
    Run,
    Short,
    Switchover,
    Table,
}

fn parse(mut parser: lexopt::Parser) -> Result<Arguments, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut command, mut only) = (None, Vec::new());
    let mut arguments = Arguments {
        command: Command::Demo,
        bin: None,
        audit: None,
        image: PathBuf::from("lab/work/image"),
        qemu: None,
        json: None,
        rows: Vec::new(),
        faults: Vec::new(),
        kills: Vec::new(),
        wires: Vec::new(),
        loads: Vec::new(),
        releases: Vec::new(),
        rounds: ROUNDS,
        pages: PAGES,
        assert: false,
        beside: loss::Middle::default(),
        count: None,
        examples: captures::EXAMPLES,
        strict: false,
        seed: None,
        full: false,
        brief: false,
        keep: false,
        no_offloads: false,
        vhost_client: false,
        trusted_link: false,
        multifd: None,
        disk: false,
        words: Vec::new(),
        captures: None,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bin") => arguments.bin = Some(parser.value()?.into()),
            Long("audit") => arguments.audit = Some(parser.value()?.into()),
            Long("image") => arguments.image = parser.value()?.into(),
            Long("qemu") => arguments.qemu = Some(parser.value()?.string()?),
            Long("json") => arguments.json = Some(parser.value()?.into()),
            Long("only") => only.push(parser.value()?.string()?),
            Long("rounds") => arguments.rounds = parser.value()?.parse()?,
            Long("pages") => arguments.pages = parser.value()?.parse()?,
            Long("load") => {
                let load = loss::Load::parse(&parser.value()?.string()?);
                arguments
                    .loads
                    .push(load.map_err(|error| error.to_string())?);
            }
            Long("beside") => {
                arguments.beside = loss::Middle::parse(&parser.value()?.string()?)?;
            }
            Long("assert") => arguments.assert = true,
            Long("count") => arguments.count = Some(parser.value()?.parse()?),
            Long("examples") => arguments.examples = parser.value()?.parse()?,
            Long("strict") => arguments.strict = true,
            Long("seed") => arguments.seed = Some(parser.value()?.parse()?),
            Long("full") => arguments.full = true,
            Long("brief") => arguments.brief = true,
            Long("keep") => arguments.keep = true,
            Long("multifd") => arguments.multifd = Some(parser.value()?.parse()?),
            Long("disk") => arguments.disk = true,
            Long("no-offloads") => arguments.no_offloads = true,
            Long("vhost-client") => arguments.vhost_client = true,
            Long("trusted-link") => arguments.trusted_link = true,
            Value(word) if command.is_none() => {
                command = Some(match word.to_str() {
                    Some("image") => Command::Image,
                    Some("captures") => Command::Captures,
                    Some("demo") => Command::Demo,
                    Some("check") => Command::Check,
                    Some("faults") => Command::Faults,
                    Some("idle") => Command::Idle,
                    Some("loss") => Command::Loss,
                    Some("masks") => Command::Masks,
                    Some("storm") => Command::Storm,
                    Some("matrix") => Command::Matrix,
                    Some("operator") => Command::Operator,
                    Some("paths") => Command::Paths,
                    Some("predict") => Command::Predict,
                    Some("protect") => Command::Protect,
                    Some("run") => Command::Run,
                    Some("short") => Command::Short,
                    Some("switchover") => Command::Switchover,
                    Some("table") => Command::Table,
                    _ => return Err(format!("unknown subcommand {word:?}").into()),
                });
            }
            Value(word) if command == Some(Command::Run) => {
                arguments.words.push(word.string()?);
                for word in parser.raw_args()? {
                    arguments.words.push(word.string()?);
                }
            }
            Value(dir) if command == Some(Command::Image) => arguments.image = dir.into(),
            Value(dir) if command == Some(Command::Captures) && arguments.captures.is_none() => {
                arguments.captures = Some(dir.into());
            }
            _ => return Err(argument.unexpected()),
        }
    }
    arguments.command = command.ok_or("a subcommand is missing")?;
    for name in &only {
        match arguments.command {
            Command::Faults => arguments.faults.push(faults::Kind::parse(name)?),
            Command::Matrix => arguments.releases.push(name.clone()),
            Command::Switchover => {
                arguments.kills.push(faults::Kill::parse(name)?);
            }
            Command::Loss => arguments
                .wires
                .push(loss::Kind::parse(name).map_err(|error| error.to_string())?),
            _ => arguments
                .rows
                .push(table::Row::parse(name).map_err(|error| format!("{name:?}: {error}"))?),
        }
    }
    if matches!(
        arguments.command,
        Command::Demo
            | Command::Check
            | Command::Faults
            | Command::Idle
            | Command::Loss
            | Command::Masks
            | Command::Storm
            | Command::Matrix
            | Command::Operator
            | Command::Paths
            | Command::Predict
            | Command::Protect
            | Command::Run
            | Command::Short
            | Command::Switchover
    ) && arguments.bin.is_none()
    {
        return Err("--bin is missing: name the dpdk-colo program".into());
    }
    if arguments.command == Command::Captures && arguments.captures.is_none() {
        return Err("a directory is missing: captures DIR".into());
    }
    Ok(arguments)
}

/// Runs the subcommand; true if everything was as it must be.
fn run(arguments: &Arguments) -> Result<bool, LabError> {
    if arguments.command == Command::Image {
        let (image, made) = Image::ensure(&arguments.image)?;
        let state = if made { "built" } else { "was there already" };
        say("guest image", format!("{} {state}", image.dir().display()));
        return Ok(true);
    }
    if let (Command::Captures, Some(dir)) = (arguments.command, &arguments.captures) {
        return captures::run(&captures::Task {
            dir: dir.clone(),
            frames: arguments.count.unwrap_or(captures::FRAMES),
            examples: arguments.examples,
            seed: arguments.seed.unwrap_or(1),
            json: arguments.json.clone(),
            strict: arguments.strict,
        });
    }
    let program = |path: &Option<PathBuf>| {
        path.as_deref()
            .map(|path| path.canonicalize().map_err(LabError::file(path)))
            .transpose()
    };
    let (bin, audit) = (program(&arguments.bin)?, program(&arguments.audit)?);
    let prepare = |qemu: Option<&str>| {
        let ports = Ports {
            offloads: !arguments.no_offloads,
            vhost_client: arguments.vhost_client,
            trusted_link: arguments.trusted_link,
        };
        let image = &arguments.image;
        let host = Host::prepare(image, qemu, arguments.keep, ports, audit.clone())?;
        let release = host.release.with_channels(arguments.multifd)?;
        Ok::<_, LabError>(Host {
            disk: arguments.disk,
            release,
            ..host
        })
    };
    if let (Command::Matrix, Some(bin)) = (arguments.command, &bin) {
        let order = matrix::Order {
            releases: &arguments.releases,
            full: arguments.full,
            count: arguments.count.unwrap_or(OF_EACH),
            seed: arguments.seed.unwrap_or(OF_EACH_SEED),
            json: Path::new("lab/work"),
        };
        return matrix::run(|release| prepare(Some(release)), bin, &order);
    }
    let host = prepare(arguments.qemu.as_deref())?;
    let json = |name: &str| {
        let usual = || PathBuf::from("lab/work").join(name);
        arguments.json.clone().unwrap_or_else(usual)
    };
    match (arguments.command, bin) {
        (Command::Demo, Some(bin)) => demo::run(&host, bin).map(|()| true),
        (Command::Check, Some(bin)) => {
            check::run(&host, bin, arguments.full).map(|tally| tally.failed == 0)
        }
        (Command::Run, Some(bin)) => {
            let row = arguments.rows.first().copied().unwrap_or(table::Row::Pair);
            command::run(&host, &row.mode(bin), &arguments.words)
        }
        (Command::Short, Some(bin)) => {
            short::run(&host, bin, arguments.count.unwrap_or(CONNECTIONS))
        }
        (Command::Masks, Some(bin)) => {
            masks::run(&host, bin, arguments.count.unwrap_or(MASK_SECONDS) as u64)
        }
        (Command::Storm, Some(bin)) => {
            storm::run(&host, bin, arguments.count.unwrap_or(STORM_SECONDS) as u64)
        }
        (Command::Idle, Some(bin)) => idle::run(&host, bin).map(|()| true),
        (Command::Paths, Some(bin)) => paths::run(&host, bin).map(|()| true),
        (Command::Predict, Some(bin)) => {
            let seconds = arguments.count.unwrap_or(PREDICT_SECONDS) as u64;
            predict::run(&host, &bin, seconds)
        }
        (Command::Operator, Some(bin)) => {
            operator::run(&host, bin, arguments.count.unwrap_or(OPERATOR_ROUNDS))
        }
        (Command::Faults, Some(bin)) => {
            let order = faults::Order {
                count: arguments.count.unwrap_or(INJECTIONS),
                seed: arguments.seed.unwrap_or_else(clock),
                only: arguments.faults.clone(),
            };
            faults::run(&host, bin, &order, &json("faults.json")).map(|tally| tally.failed == 0)
        }
        (Command::Protect, Some(bin)) => {
            let seed = arguments.seed.unwrap_or_else(clock);
            faults::ordered(&host, bin, arguments.rounds, seed)
        }
        (Command::Switchover, Some(bin)) => {
            let task = faults::Task {
                rounds: arguments.rounds,
                failures: arguments.count.unwrap_or(0),
                only: arguments.kills.clone(),
                seed: arguments.seed.unwrap_or_else(clock),
            };
            faults::moved(&host, bin, &task)
        }
        (Command::Loss, Some(bin)) => {
            let order = loss::Order {
                rounds: arguments.rounds,
                seed: arguments.seed.unwrap_or_else(clock),
                only: arguments.wires.clone(),
                loads: arguments.loads.clone(),
                pages: arguments.pages,
                assert: arguments.assert,
                beside: arguments.beside,
            };
            loss::run(&host, bin, &order, &json("loss.json"))
        }
        (_, bin) => table::run(
            &host,
            bin,
            &arguments.rows,
            arguments.brief,
            &json("table.json"),
        )
        .map(|()| true),
    }
}

fn main() -> ExitCode {
    let arguments = match parse(lexopt::Parser::from_env()) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("colo-lab: {error}\n{USAGE}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    if let Err(error) = interrupt::catch() {
        eprintln!("colo-lab: signals cannot be caught: {error}");
        return ExitCode::FAILURE;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is_interrupt() => {
            eprintln!("colo-lab: interrupted; everything it started is gone");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("colo-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(lexopt::Parser::from_args(line.split_whitespace())).map_err(|error| error.to_string())
    }

    #[test]
    fn command_lines_are_understood() {
        let check = parsed("check --bin target/release/dpdk-colo --full").expect("valid");
        assert_eq!(check.command, Command::Check);
        assert!(check.full && !check.keep);
        let table = parsed("table --only stock --only plain").expect("valid");
        assert_eq!(table.rows, [table::Row::Stock, table::Row::Plain]);
        let loss = parsed("loss --bin x --only to-1 --only delay --load echo --rounds 2 --assert")
            .expect("valid");
        assert_eq!(
            (loss.wires.len(), &loss.loads[..]),
            (2, &[loss::Load::Echo][..])
        );
        assert!(loss.assert && loss.rounds == 2 && loss.pages == PAGES);
        let short = parsed("short --bin x --count 80").expect("valid");
        assert_eq!((short.command, short.count), (Command::Short, Some(80)));
        let captures = parsed("captures here --seed 7 --strict").expect("valid");
        assert_eq!(captures.captures, Some(PathBuf::from("here")));
        assert!(captures.strict && captures.seed == Some(7));
        let matrix = parsed("matrix --bin x --only 7.2 --only 11.1 --full").expect("valid");
        assert_eq!(matrix.releases, ["7.2", "11.1"]);
        let image = parsed("image here").expect("valid");
        assert_eq!(image.image, PathBuf::from("here"));
    }

    #[test]
    fn wrong_command_lines_are_named() {
        assert_eq!(parsed("").expect_err("empty"), "a subcommand is missing");
        assert!(parsed("demo").expect_err("no program").contains("--bin"));
        assert!(
            parsed("check --bin x --fast")
                .expect_err("no option")
                .contains("--fast")
        );
        assert!(
            parsed("captures")
                .expect_err("no directory")
                .contains("DIR")
        );
        assert!(parsed("dance").expect_err("no command").contains("dance"));
        assert!(
            parsed("loss --bin x --only to-3")
                .expect_err("no wire")
                .contains("to-3")
        );
        assert!(
            parsed("loss --bin x --load video")
                .expect_err("no load")
                .contains("video")
        );
        assert!(
            parsed("table --only all")
                .expect_err("no row")
                .contains("all")
        );
    }
}
