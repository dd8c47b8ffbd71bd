//! The loads of the comparison, one after the other, each with a time limit.
//!
//! In: where a set-up's client stands. Out: its figures. Loads of two set-ups run at the same time
//! when both are given.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::error::LabError;
use crate::net::ClientNet;
use crate::pair::Pair;
use crate::progress::say;
use crate::workload::http::{self, Page};
use crate::workload::iperf::{self, Direction};
use crate::workload::{Family, redis};

/// No load runs longer than this.
const LIMIT: Duration = Duration::from_secs(20);
/// Seconds of each iperf3 run.
const IPERF: u32 = 5;
const V4: Family = Family::V4;

/// What the loads came to; `None` where one failed.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// Of pages of 300,000 bytes.
    pub page_bytes_per_s: Option<f64>,
    /// Median time of a page of one byte.
    pub small_page_ms: Option<f64>,
    /// Operations one at a time.
    pub redis_per_s: Option<f64>,
    /// Operations, 50 at a time.
    pub redis_pipelined_per_s: Option<f64>,
    /// What the client got.
    pub iperf_from_guest_bit_per_s: Option<f64>,
    /// What the guest got.
    pub iperf_to_guest_bit_per_s: Option<f64>,
    /// Why loads failed.
    pub failures: Vec<String>,
}

/// Runs all loads at one set-up, or each at two at the same time; the figures are the first one's.
///
/// # Errors
/// A signal. A load that fails is a figure that is missing.
pub fn run(pair: &Pair, beside: Option<&Pair>) -> Result<Figures, LabError> {
    let client = Client::of(pair);
    let beside = beside.map(Client::of);
    let (mut figures, mut others) = (Figures::default(), Figures::default());
    for load in LOADS {
        thread::scope(|scope| {
            let other = beside
                .as_ref()
                .map(|client| scope.spawn(|| load(client, &mut others)));
            let done = load(&client, &mut figures);
            let other = other.map_or(Ok(Ok(())), thread::ScopedJoinHandle::join);
            done.and(other.unwrap_or_else(|panic| resume_unwind(panic)))
        })?;
    }
    figures.failures.append(&mut others.failures);
    Ok(figures)
}

/// A load and where its figure goes.
type Load = fn(&Client<'_>, &mut Figures) -> Result<(), LabError>;

const LOADS: [Load; 6] = [
    |client, figures| {
        let load = || Ok(http::fetch(V4, Page::Usual, 50, Some(LIMIT))?);
        let pages = client.attempt(&mut figures.failures, load)?;
        figures.page_bytes_per_s = pages.map(|pages| pages.rate());
        Ok(())
    },
    |client, figures| {
        let load = || Ok(http::fetch(V4, Page::Small, 200, Some(LIMIT))?);
        let small = client.attempt(&mut figures.failures, load)?;
        let median = small.and_then(|small| small.median());
        figures.small_page_ms = median.map(|median| median.as_secs_f64() * 1e3);
        Ok(())
    },
    |client, figures| {
        let load = || Ok(redis::exchange(V4, 5000, 1, Some(LIMIT))?);
        let done = client.attempt(&mut figures.failures, load)?;
        figures.redis_per_s = done.map(|done| done.rate());
        Ok(())
    },
    |client, figures| {
        let load = || Ok(redis::exchange(V4, 20_000, 50, Some(LIMIT))?);
        let done = client.attempt(&mut figures.failures, load)?;
        figures.redis_pipelined_per_s = done.map(|done| done.rate());
        Ok(())
    },
    |client, figures| {
        let load = || iperf::run(V4, Direction::FromGuest, IPERF, client.dir);
        let run = client.attempt(&mut figures.failures, load)?;
        figures.iperf_from_guest_bit_per_s = run.map(|run| run.bit_rate);
        Ok(())
    },
    |client, figures| {
        let load = || iperf::run(V4, Direction::ToGuest, IPERF, client.dir);
        let run = client.attempt(&mut figures.failures, load)?;
        figures.iperf_to_guest_bit_per_s = run.map(|run| run.bit_rate);
        Ok(())
    },
];

/// Where the loads of one set-up run and leave their files.
struct Client<'a> {
    net: &'a ClientNet,
    dir: &'a Path,
}

impl<'a> Client<'a> {
    fn of(pair: &'a Pair) -> Self {
        Self {
            net: &pair.net,
            dir: pair.dir(),
        }
    }

    /// Runs a load in the client's namespace. Its failure is noted, a signal is passed on.
    fn attempt<T: Send>(
        &self,
        failures: &mut Vec<String>,
        load: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<Option<T>, LabError> {
        match self.net.enter(load) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_interrupt() => Err(error),
            Err(error) => {
                say("failed", &error);
                failures.push(error.to_string());
                Ok(None)
            }
        }
    }
}
