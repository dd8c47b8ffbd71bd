//! What a client does on each wire, checked byte by byte, with a time limit.

use std::fmt;
use std::time::{Duration, Instant};

use crate::workload::http::{self, Page};
use crate::workload::{Connection, Family, Harm, Noise, TrafficError, echo, redis};

/// No load runs longer than this.
const LIMIT: Duration = Duration::from_secs(60);
/// Pieces of echo, 8 kB each on average: enough that a load lasts for several retransmission timers.
const PIECES: usize = 500;
/// Operations of redis, likewise.
const OPERATIONS: usize = 500;

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// Pages of 300,000 bytes, a connection each, one after the other.
    Pages,
    /// 8 MiB from the guest.
    Download,
    /// 8 MiB to the guest, which checks them.
    Upload,
    /// Pieces there and back, one after the other.
    Echo,
    /// SET and GET in turn, each waiting for its reply.
    Redis,
}

/// All, in their order.
pub const LOADS: [Load; 5] = [
    Load::Pages,
    Load::Download,
    Load::Upload,
    Load::Echo,
    Load::Redis,
];

impl Load {
    /// By its name on the command line.
    ///
    /// # Errors
    /// The names there are.
    pub fn parse(name: &str) -> Result<Self, UnknownLoad> {
        LOADS
            .into_iter()
            .find(|load| load.name() == name)
            .ok_or_else(|| UnknownLoad {
                name: name.to_owned(),
            })
    }

    /// Its place among all, which its seeds depend on.
    pub fn number(self) -> u64 {
        self as u64
    }

    /// Its name in the table and in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Echo => "echo",
            Self::Redis => "redis",
        }
    }
}

/// A name that is no load's.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} is no load; there are {}", LOADS.map(Load::name).join(", "))]
pub struct UnknownLoad {
    name: String,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a load came to.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Bytes that came back (upload: that were sent), or operations.
    pub amount: u64,
    /// How long it took.
    pub time: Duration,
    /// The time limit ended it.
    pub limit: bool,
    /// Why it ended early, if not by the limit.
    pub failure: Option<Failure>,
}

/// A load's bad end.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What it says of the stream.
    pub harm: Harm,
    /// In words.
    pub words: String,
}

impl Done {
    /// Amount per second.
    pub fn rate(&self) -> f64 {
        self.amount as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Does `load` once, `pages` of pages.
///
/// # Errors
/// [`TrafficError::Interrupted`]; any other failure is in the result.
pub fn run(load: Load, family: Family, pages: usize) -> Result<Done, TrafficError> {
    let start = Instant::now();
    let mut client = Client {
        family,
        until: start + LIMIT,
        amount: 0,
    };
    let outcome = client.run(load, pages);
    let mut done = Done {
        amount: client.amount,
        time: start.elapsed(),
        ..Done::default()
    };
    match outcome {
        Ok(()) => {}
        Err(TrafficError::Interrupted) => return Err(TrafficError::Interrupted),
        Err(TrafficError::Limit { .. }) => done.limit = true,
        Err(error) => {
            done.failure = Some(Failure {
                harm: error.harm(),
                words: error.to_string(),
            });
        }
    }
    Ok(done)
}

struct Client {
    family: Family,
    until: Instant,
    amount: u64,
}

impl Client {
    fn run(&mut self, load: Load, pages: usize) -> Result<(), TrafficError> {
        match load {
            Load::Pages => (0..pages).try_for_each(|_| self.fetch(Page::Usual)),
            Load::Download => self.fetch(Page::Large),
            Load::Upload => {
                let mut connection = self.open(http::PORT, "upload")?;
                let outcome = http::upload(&mut connection, Page::Large);
                self.amount += connection.sent();
                outcome
            }
            Load::Echo => {
                let mut noise = Noise::new(7);
                let mut connection = self.open(echo::PORT, "echo")?;
                (0..PIECES).try_for_each(|_| {
                    self.amount += echo::piece(&mut connection, &mut noise)?;
                    Ok(())
                })
            }
            Load::Redis => {
                let mut connection = self.open(redis::PORT, "redis")?;
                (0..OPERATIONS).try_for_each(|number| {
                    redis::together(&mut connection, number, 1)?;
                    self.amount += 1;
                    Ok(())
                })
            }
        }
    }

    fn fetch(&mut self, page: Page) -> Result<(), TrafficError> {
        let mut connection = self.open(http::PORT, page.path())?;
        let outcome = http::ask(&mut connection, page);
        self.amount += connection.received();
        outcome
    }

    fn open(&self, port: u16, what: &str) -> Result<Connection, TrafficError> {
        Connection::open_until(self.family, port, what, self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_load_has_a_name_and_a_number_of_its_own() {
        for (number, load) in LOADS.into_iter().enumerate() {
            assert_eq!(Load::parse(load.name()).expect("a load"), load);
            assert_eq!(load.number(), number as u64);
        }
        let error = Load::parse("video").expect_err("none").to_string();
        assert!(
            error.contains("video") && error.contains("download"),
            "{error}"
        );
    }

    #[test]
    fn the_rate_is_of_what_came() {
        let done = Done {
            amount: 300,
            time: Duration::from_secs(60),
            limit: true,
            ..Done::default()
        };
        assert!((done.rate() - 5.0).abs() < 1e-9);
    }
}
