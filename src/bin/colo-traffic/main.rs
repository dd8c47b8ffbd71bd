//! `colo-traffic`: plays the VMs and the network at a node's ports.
//!
//!     colo-traffic [EAL options] -- script SOCKET...
//!     colo-traffic [EAL options] -- streams PRIMARY SECONDARY OUT [--run N] [--flows N] [--bytes N]
//!     colo-traffic [EAL options] -- load PRIMARY SECONDARY OUT [options]
//!
//! [`script`] sends and shows single frames as standard input says; [`streams`] sends what two VMs
//! would, and checks every byte that the node lets leave; [`load`] does the same as fast as the
//! node can, and measures. Ports are best `net_virtio_user`, as those of a script are, with the
//! node's `net_vhost` at the other end: that is what a QEMU is to the node.
//!
//! Exit status: 0 when all went well, 1 when a port failed or a byte was wrong, 2 for a wrong
//! command line.

mod frames;
mod line;
mod load;
mod script;
mod streams;

use std::ffi::OsString;
use std::process::ExitCode;

use dpdk_colo::dpdk::{Eal, Mempool, MempoolConfig, MempoolError, mempool};
use dpdk_colo::error_chain::chain;
use lexopt::Arg;

use line::LineError;
use load::Load;
use streams::Plan;

const USAGE: &str = "\
Usage: colo-traffic [EAL options] -- script SOCKET...
       colo-traffic [EAL options] -- streams PRIMARY SECONDARY OUT [--run N] [--flows N] [--bytes N]
       colo-traffic [EAL options] -- load PRIMARY SECONDARY OUT [options]
Options of load:
  --frame N       bytes of a frame without FCS (64)
  --flows N       TCP flows (1000)
  --shifted       the secondary's segments begin elsewhere than the primary's
  --seed N        of content and order (1)
  --ms N          duration of each of two measurements: the most, and a share of it (2000)
  --percent N     that share (50)
  --pps N         segments a second in place of that share
  --from-primary  delays count from the primary's frame, not from the later one
";

/// Mbufs for all ports: the rings of as many virtio devices as DPDK has ports, and bursts.
const MBUFS: u32 = 16_383;

/// What to do.
enum Task {
    Script(Vec<String>),
    Streams([String; 3], Plan),
    Load([String; 3], Load),
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let own = words.iter().skip_while(|word| *word != "--").skip(1);
    let task = match task(own.cloned()) {
        Ok(task) => task,
        Err(error) => {
            eprint!("colo-traffic: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let words: Vec<String> = words
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let outcome = match Eal::init(&words) {
        Ok(eal) => pool(&eal)
            .map_err(LineError::from)
            .and_then(|pool| match task {
                Task::Script(sockets) => script::run(&eal, &sockets, &pool),
                Task::Streams(names, plan) => streams::run(&eal, &names, &pool, plan),
                Task::Load(names, load) => load::run(&eal, &names, load),
            }),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("colo-traffic: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn task(own: impl IntoIterator<Item = OsString>) -> Result<Task, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(own);
    let (mut words, mut plan, mut load) = (Vec::new(), Plan::default(), Load::default());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Value(word) => words.push(word.into_string()?),
            Arg::Long("run") => plan.run = number(&mut parser)?,
            Arg::Long("flows") => {
                plan.flows = number(&mut parser)?;
                load.flows = plan.flows;
            }
            Arg::Long("bytes") => plan.bytes = number(&mut parser)?,
            Arg::Long("frame") => load.frame = number(&mut parser)?,
            Arg::Long("shifted") => load.shifted = true,
            Arg::Long("seed") => load.seed = number(&mut parser)?,
            Arg::Long("ms") => load.milliseconds = number(&mut parser)?,
            Arg::Long("percent") => load.percent = number(&mut parser)?,
            Arg::Long("pps") => load.per_second = Some(number(&mut parser)?),
            Arg::Long("from-primary") => load.from_primary = true,
            _ => return Err(arg.unexpected()),
        }
    }
    plan.flows = plan.flows.clamp(1, streams::FLOWS_MAX);
    let mut words = words.into_iter();
    let mode = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    match mode.as_str() {
        "script" if !words.is_empty() => Ok(Task::Script(words)),
        "streams" | "load" => match words.try_into() {
            Ok(ports) if mode == "load" => Ok(Task::Load(ports, load)),
            Ok(ports) => Ok(Task::Streams(ports, plan)),
            Err(_) => Err("streams and load need three ports".into()),
        },
        _ => Err("say script and sockets, or streams or load and ports".into()),
    }
}

fn number<T: std::str::FromStr>(parser: &mut lexopt::Parser) -> Result<T, lexopt::Error>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    use lexopt::ValueExt as _;
    parser.value()?.parse()
}

fn pool(eal: &Eal) -> Result<Mempool, MempoolError> {
    let config = MempoolConfig {
        name: "traffic",
        mbufs: MBUFS,
        cache: 256,
        data_room: mempool::DEFAULT_DATA_ROOM,
        socket: None,
    };
    Mempool::new(eal, &config)
}
