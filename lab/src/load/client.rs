//! The kinds of clients: what each asks for, and what the one right answer is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Tape;
use crate::disk::{PORT, RECORDS, Writer};
use crate::workload::http::{Page, pattern};
use crate::workload::{Connection, Family, Noise, TrafficError};

/// Between two questions, so that a client loads the machine without filling it.
const PAUSE: Duration = Duration::from_millis(8);
/// Each read of a long download, and the pause after it: some 4 MB/s.
const PIECE: usize = 64 << 10;
const PIECE_PAUSE: Duration = Duration::from_millis(16);
/// Keys that one redis client writes in turn.
const KEYS: u64 = 500;

/// One client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// One connection; pieces of 1 to 8,192 bytes, each after the one before is back.
    Echo(Family),
    /// One connection; a counter that must count each increment once, keys that must keep what was
    /// acknowledged.
    Redis(Family),
    /// One connection for each 32 MiB, read at some 4 MB/s.
    Download(Family),
    /// A connection for each page, of one byte or of 300,000.
    Pages(Family),
    /// One connection; records that the guest has on its disk before it answers, each after the one before.
    Disk(Family),
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, family) = match self {
            Self::Echo(family) => ("echo", family),
            Self::Redis(family) => ("redis", family),
            Self::Download(family) => ("download", family),
            Self::Pages(family) => ("pages", family),
            Self::Disk(family) => ("disk", family),
        };
        write!(f, "{name} over {family}")
    }
}

impl Client {
    /// True if each answer comes on a connection of its own.
    pub fn opens(self) -> bool {
        matches!(self, Self::Pages(_))
    }

    /// Of one that writes to the disk: its records.
    pub fn writer(self, seed: u64) -> Option<Writer> {
        match self {
            Self::Disk(Family::V4) => Some(Writer::new(0, seed)),
            Self::Disk(Family::V6) => Some(Writer::new(1, seed)),
            _ => None,
        }
    }

    /// Asks until the tape says stop. A connection that fails is followed by another one.
    pub fn run(self, tape: &Arc<Tape>, seed: u64) {
        let mut noise = Noise::new(seed);
        let mut redis = Redis::new(seed);
        while !tape.stopped() {
            let outcome = match self {
                Self::Echo(family) => echo(family, tape, &mut noise),
                Self::Redis(family) => redis.run(family, tape, &mut noise),
                Self::Download(family) => fetch(family, Page::Big, tape),
                Self::Pages(family) => {
                    let page = match noise.number() % 8 {
                        0 => Page::Usual,
                        _ => Page::Small,
                    };
                    fetch(family, page, tape)
                }
                Self::Disk(family) => match self.writer(seed) {
                    Some(writer) => write(family, writer, tape),
                    None => Ok(()),
                },
            };
            if let Err(error) = outcome {
                tape.fails(&error);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn echo(family: Family, tape: &Arc<Tape>, noise: &mut Noise) -> Result<(), TrafficError> {
    let mut connection = Connection::open_taped(family, 7, "echo", tape)?;
    while !tape.stopped() {
        let len = 1 + (noise.number() % 8192) as usize;
        let piece = noise.bytes(len);
        tape.asks();
        connection.send(&piece)?;
        connection.expect(&piece, None)?;
        tape.is_answered();
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn fetch(family: Family, page: Page, tape: &Arc<Tape>) -> Result<(), TrafficError> {
    tape.asks();
    let mut connection = Connection::open_taped(family, 80, page.path(), tape)?;
    connection.send(page.request().as_bytes())?;
    connection.expect(page.head().as_bytes(), None)?;
    let body = &pattern()[..page.len()];
    let mut at = 0;
    while at < body.len() {
        if tape.stopped() {
            return Ok(());
        }
        let piece = &body[at..body.len().min(at + PIECE)];
        connection.expect_at(at as u64, piece)?;
        at += piece.len();
        if page == Page::Big {
            // Reading slowly owes nothing; each piece counts as an answer.
            tape.is_answered();
            std::thread::sleep(PIECE_PAUSE);
            tape.asks();
        }
    }
    connection.expect_end()?;
    tape.is_answered();
    Ok(())
}

/// Writes the record after the last acknowledged one, and so on.
fn write(family: Family, writer: Writer, tape: &Arc<Tape>) -> Result<(), TrafficError> {
    let mut connection = Connection::open_taped(family, PORT, "disk", tape)?;
    while !tape.stopped() {
        let number = tape.record().answers + 1;
        if number < RECORDS {
            let record = writer.record(number);
            tape.asks();
            connection.send(&record)?;
            connection.expect(writer.answer(number, &record).as_bytes(), None)?;
            tape.is_answered();
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// What a redis server must still know.
struct Redis {
    /// Sets the keys of one client apart.
    name: u64,
    counter: u64,
    /// An increment was sent whose reply never came.
    doubt: bool,
    kept: BTreeMap<u64, u64>,
}

impl Redis {
    fn new(seed: u64) -> Self {
        Self {
            name: seed,
            counter: 0,
            doubt: false,
            kept: BTreeMap::new(),
        }
    }

    fn run(
        &mut self,
        family: Family,
        tape: &Arc<Tape>,
        noise: &mut Noise,
    ) -> Result<(), TrafficError> {
        let mut connection = Connection::open_taped(family, 6379, "redis", tape)?;
        let name = self.name;
        if std::mem::take(&mut self.doubt) {
            // A connection broke in between, which is a failure of its own: go on from either value.
            tape.asks();
            let count = command(&["INCRBY", &format!("count:{name}"), "0"]);
            connection.send(&count)?;
            let reply = connection.line()?;
            let value = reply.strip_prefix(':').and_then(|text| text.parse().ok());
            self.counter = value.unwrap_or(self.counter);
            tape.is_answered();
        }
        while !tape.stopped() {
            tape.asks();
            self.doubt = true;
            connection.send(&command(&["INCR", &format!("count:{name}")]))?;
            connection.expect(format!(":{}\r\n", self.counter + 1).as_bytes(), None)?;
            self.counter += 1;
            self.doubt = false;
            let (key, value) = (noise.number() % KEYS, noise.number());
            let set = command(&[
                "SET",
                &format!("key:{name}:{key}"),
                &format!("{value:016x}"),
            ]);
            // From here on the old value is no longer owed, and the new one not yet.
            self.kept.remove(&key);
            connection.send(&set)?;
            connection.expect(b"+OK\r\n", None)?;
            self.kept.insert(key, value);
            let some = self.kept.range(noise.number() % KEYS..).next();
            let (key, value) = some.map_or((key, value), |(&key, &value)| (key, value));
            connection.send(&command(&["GET", &format!("key:{name}:{key}")]))?;
            connection.expect(format!("$16\r\n{value:016x}\r\n").as_bytes(), None)?;
            tape.is_answered();
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// A command as RESP2 carries it.
fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_counts_its_words_and_their_bytes() {
        assert_eq!(
            command(&["SET", "k", "long"]),
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nlong\r\n"
        );
    }
}
