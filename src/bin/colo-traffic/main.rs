//! `colo-traffic`: plays the VMs and the network at a node's ports.
//!
//!     colo-traffic [EAL options] -- script SOCKET...
//!     colo-traffic [EAL options] -- streams PRIMARY SECONDARY OUT [--run N] [--flows N] [--bytes N]
//!
//! [`script`] sends and shows single frames as standard input says; [`streams`] sends what two VMs
//! would, and checks every byte that the node lets leave. The ports are best `net_virtio_user`, as
//! those of a script are, with the node's `net_vhost` at the other end: that is what a QEMU is to
//! the node.
//!
//! Exit status: 0 when all went well, 1 when a port failed or a byte was wrong, 2 for a wrong
//! command line.

mod line;
mod script;
mod streams;

use std::ffi::OsString;
use std::process::ExitCode;

use dpdk_colo::dpdk::{Eal, Mempool, MempoolConfig, MempoolError, mempool};
use dpdk_colo::error_chain::chain;
use lexopt::Arg;

use line::LineError;
use streams::Plan;

const USAGE: &str = "\
Usage: colo-traffic [EAL options] -- script SOCKET...
       colo-traffic [EAL options] -- streams PRIMARY SECONDARY OUT [--run N] [--flows N] [--bytes N]
";

/// Mbufs for all ports: the rings of three virtio devices, and bursts.
const MBUFS: u32 = 4095;

/// What to do.
enum Task {
    Script(Vec<String>),
    Streams([String; 3], Plan),
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
    let (mut words, mut plan) = (Vec::new(), Plan::default());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Value(word) => words.push(word.into_string()?),
            Arg::Long("run") => plan.run = number(&mut parser)?,
            Arg::Long("flows") => plan.flows = number(&mut parser)?,
            Arg::Long("bytes") => plan.bytes = number(&mut parser)?,
            _ => return Err(arg.unexpected()),
        }
    }
    plan.flows = plan.flows.clamp(1, streams::FLOWS_MAX);
    let mut words = words.into_iter();
    let mode = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    match mode.as_str() {
        "script" if !words.is_empty() => Ok(Task::Script(words)),
        "streams" => match words.try_into() {
            Ok(ports) => Ok(Task::Streams(ports, plan)),
            Err(_) => Err("streams needs three ports".into()),
        },
        _ => Err("say script and sockets, or streams and ports".into()),
    }
}

fn number(parser: &mut lexopt::Parser) -> Result<u32, lexopt::Error> {
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
