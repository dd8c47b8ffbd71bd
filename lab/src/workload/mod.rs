//! The clients: what they ask the guest, and the check of every byte that they get.
//!
//! In: an address family, sizes, limits. Out: rates and times, or a [`TrafficError`] that names the
//! first byte that is wrong or did not come. All of it runs inside the client's namespace. Waits end
//! after [`STALL`] without a byte, and at once on a signal.

pub mod dated;
pub mod differ;
pub mod echo;
pub mod http;
pub mod iperf;
pub mod redis;
pub mod short;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBuf, SndBuf},
};

use crate::interrupt;
use crate::load::Tape;
use crate::net::{GUEST_V4, GUEST_V6};

/// How long a client waits for the next byte. Longer than any timeout that a comparator may have.
pub const STALL: Duration = Duration::from_secs(30);

/// The same for a taped client, to connect or to send: it opens another connection then.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a taped client leaves unread in the kernel at most.
const UNREAD: usize = 64 << 10;
/// Bytes that a client with a time limit leaves unsent in the kernel at most.
const UNSENT: usize = 256 << 10;
/// No line of the guest's services is longer.
const LINE: usize = 256;

/// A client did not get what it must get.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// The network refused.
    #[error("{what}: {source}")]
    Io {
        /// Which exchange.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A byte has another value than it must have.
    #[error("{what}: byte {offset} is {found:#04x}, not {expected:#04x}")]
    Wrong {
        /// Which exchange.
        what: String,
        /// Position in the answer.
        offset: u64,
        /// What it must be.
        expected: u8,
        /// What came.
        found: u8,
    },
    /// The answer ended early.
    #[error("{what}: ended after {offset} of {length} bytes")]
    Short {
        /// Which exchange.
        what: String,
        /// How many bytes came.
        offset: u64,
        /// How many there are.
        length: u64,
    },
    /// The answer has more bytes than it must have.
    #[error("{what}: bytes come after the end at {length}")]
    Long {
        /// Which exchange.
        what: String,
        /// How many there must be.
        length: u64,
    },
    /// Nothing came any more.
    #[error("{what}: no byte in {seconds} s at byte {offset}")]
    Stalled {
        /// Which exchange.
        what: String,
        /// How many bytes came.
        offset: u64,
        /// The limit.
        seconds: u64,
    },
    /// The whole exchange took too long.
    #[error("{what}: the time limit came at byte {offset}")]
    Limit {
        /// Which exchange.
        what: String,
        /// How many bytes had come.
        offset: u64,
    },
    /// iperf3 reported an error or none of the figures.
    #[error("iperf3: {reason}")]
    Iperf {
        /// Its words.
        reason: String,
    },
    /// A signal ended the wait.
    #[error("interrupted")]
    Interrupted,
}

/// What a failed exchange says of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// A byte was wrong, doubled or lost.
    Wrong,
    /// The connection was reset or refused.
    Reset,
    /// Something else, such as a time limit.
    Other,
}

impl TrafficError {
    /// What it says of the stream.
    pub fn harm(&self) -> Harm {
        match self {
            Self::Wrong { .. } | Self::Short { .. } | Self::Long { .. } => Harm::Wrong,
            Self::Io { source, .. }
                if matches!(
                    source.kind(),
                    ErrorKind::ConnectionReset
                        | ErrorKind::ConnectionRefused
                        | ErrorKind::ConnectionAborted
                        | ErrorKind::BrokenPipe
                ) =>
            {
                Harm::Reset
            }
            _ => Harm::Other,
        }
    }
}

/// Which of the guest's addresses a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The guest's address.
    pub fn guest(self) -> IpAddr {
        let text = match self {
            Self::V4 => GUEST_V4,
            Self::V6 => GUEST_V6,
        };
        text.parse().expect("the lab's own addresses are valid")
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A TCP connection to the guest whose answer is checked while it comes.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    what: String,
    received: u64,
    sent: u64,
    /// When the whole exchange must have ended.
    until: Option<Instant>,
    tape: Option<Arc<Tape>>,
}

impl Connection {
    /// Connects to `port`; `what` names the exchange in messages.
    ///
    /// # Errors
    /// [`TrafficError::Io`].
    pub fn open(family: Family, port: u16, what: &str) -> Result<Self, TrafficError> {
        Self::open_within(family, port, what, STALL)
    }

    /// Connects as [`Connection::open`] does, passes every byte that comes to `tape`, and ends when it says so.
    ///
    /// # Errors
    /// [`TrafficError::Io`].
    pub fn open_taped(
        family: Family,
        port: u16,
        what: &str,
        tape: &Arc<Tape>,
    ) -> Result<Self, TrafficError> {
        let mut connection = Self::open_within(family, port, what, PATIENCE)?;
        // What waits unread in the kernel would hide a silence.
        let _ = setsockopt(&connection.stream, RcvBuf, &UNREAD);
        connection.tape = Some(Arc::clone(tape));
        Ok(connection)
    }

    fn open_within(
        family: Family,
        port: u16,
        what: &str,
        limit: Duration,
    ) -> Result<Self, TrafficError> {
        let what = format!("{what} over {family}");
        let address = SocketAddr::new(family.guest(), port);
        let opened = TcpStream::connect_timeout(&address, limit).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(interrupt::STEP))?;
            stream.set_write_timeout(Some(limit))?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => Ok(Self {
                stream,
                what,
                received: 0,
                sent: 0,
                until: None,
                tape: None,
            }),
            Err(source) => Err(TrafficError::Io { what, source }),
        }
    }

    /// Connects as [`Connection::open`] does; all that is done on it ends at `until`.
    ///
    /// # Errors
    /// [`TrafficError::Limit`] at that time, [`TrafficError::Io`].
    pub fn open_until(
        family: Family,
        port: u16,
        what: &str,
        until: Instant,
    ) -> Result<Self, TrafficError> {
        let left = until.saturating_duration_since(Instant::now());
        let mut connection = match Self::open_within(family, port, what, left.max(interrupt::STEP))
        {
            Err(TrafficError::Io { what, source }) if source.kind() == ErrorKind::TimedOut => {
                return Err(TrafficError::Limit { what, offset: 0 });
            }
            opened => opened?,
        };
        // What the kernel takes and cannot send would count as sent.
        let _ = setsockopt(&connection.stream, SndBuf, &UNSENT);
        let _ = connection.stream.set_write_timeout(Some(interrupt::STEP));
        connection.until = Some(until);
        Ok(connection)
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes the kernel has taken.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`TrafficError::Io`], [`TrafficError::Limit`], [`TrafficError::Interrupted`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), TrafficError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let io = match self.stream.write(rest) {
                Ok(n) if n > 0 => {
                    self.sent += n as u64;
                    rest = &rest[n..];
                    continue;
                }
                Ok(_) => ErrorKind::WriteZero.into(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            match (io.kind(), self.until) {
                (ErrorKind::WouldBlock | ErrorKind::TimedOut, Some(until)) => {
                    if interrupt::came() {
                        return Err(TrafficError::Interrupted);
                    }
                    if Instant::now() > until {
                        return Err(self.limit());
                    }
                }
                _ => {
                    return Err(TrafficError::Io {
                        what: self.what.clone(),
                        source: io,
                    });
                }
            }
        }
        Ok(())
    }

    fn limit(&self) -> TrafficError {
        TrafficError::Limit {
            what: self.what.clone(),
            offset: self.received,
        }
    }

    /// Ends what is sent; the answer may still come.
    ///
    /// # Errors
    /// [`TrafficError::Io`].
    pub fn send_end(&mut self) -> Result<(), TrafficError> {
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|source| TrafficError::Io {
                what: self.what.clone(),
                source,
            })
    }

    /// Receives at least one byte; 0 at the end of the stream.
    ///
    /// # Errors
    /// [`TrafficError::Stalled`], [`TrafficError::Limit`], [`TrafficError::Io`], [`TrafficError::Interrupted`].
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, TrafficError> {
        let limit = Instant::now() + STALL;
        loop {
            match self.stream.read(buffer) {
                Ok(n) => {
                    self.received += n as u64;
                    if let Some(tape) = &self.tape {
                        tape.receives(n);
                    }
                    return Ok(n);
                }
                Err(_) if interrupt::came() || self.is_stopped() => {
                    return Err(TrafficError::Interrupted);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    let now = Instant::now();
                    if self.until.is_some_and(|until| now > until) {
                        return Err(self.limit());
                    }
                    // An exchange with a limit of its own may stand still for as long as that allows.
                    if self.until.is_none() && now > limit {
                        return Err(TrafficError::Stalled {
                            what: self.what.clone(),
                            offset: self.received,
                            seconds: STALL.as_secs(),
                        });
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(TrafficError::Io {
                        what: self.what.clone(),
                        source,
                    });
                }
            }
        }
    }

    /// Receives exactly `expected`, and if `until` passes first, what came of it. Returns how much came.
    ///
    /// # Errors
    /// [`TrafficError::Wrong`] at the first differing byte, [`TrafficError::Short`], and those of
    /// [`Connection::receive`].
    pub fn expect(
        &mut self,
        expected: &[u8],
        until: Option<Instant>,
    ) -> Result<usize, TrafficError> {
        let mut buffer = [0; 65536];
        let mut done = 0;
        while done < expected.len() {
            if until.is_some_and(|until| Instant::now() > until) {
                break;
            }
            let room = buffer.len().min(expected.len() - done);
            let n = self.receive(&mut buffer[..room])?;
            if n == 0 {
                return Err(TrafficError::Short {
                    what: self.what.clone(),
                    offset: done as u64,
                    length: expected.len() as u64,
                });
            }
            let wanted = &expected[done..done + n];
            if let Some(at) = first_difference(&buffer[..n], wanted) {
                return Err(TrafficError::Wrong {
                    what: self.what.clone(),
                    offset: (done + at) as u64,
                    expected: wanted[at],
                    found: buffer[at],
                });
            }
            done += n;
        }
        Ok(done)
    }

    /// Receives exactly `expected`, which begins at `offset` of an answer.
    ///
    /// # Errors
    /// As [`Connection::expect`], with offsets of the answer.
    pub fn expect_at(&mut self, offset: u64, expected: &[u8]) -> Result<(), TrafficError> {
        match self.expect(expected, None) {
            Ok(_) => Ok(()),
            Err(TrafficError::Wrong {
                what,
                offset: at,
                expected,
                found,
            }) => Err(TrafficError::Wrong {
                what,
                offset: offset + at,
                expected,
                found,
            }),
            Err(error) => Err(error),
        }
    }

    /// Receives a line that ends with CR LF, and returns it without them.
    ///
    /// # Errors
    /// [`TrafficError::Short`] at the end of the stream, and those of [`Connection::receive`].
    pub fn line(&mut self) -> Result<String, TrafficError> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            if self.receive(&mut byte)? == 0 || line.len() > LINE {
                return Err(TrafficError::Short {
                    what: self.what.clone(),
                    offset: line.len() as u64,
                    length: line.len() as u64 + 1,
                });
            }
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn is_stopped(&self) -> bool {
        self.tape.as_ref().is_some_and(|tape| tape.stopped())
    }

    /// Receives the end of the stream.
    ///
    /// # Errors
    /// [`TrafficError::Long`] if a byte comes instead, and those of [`Connection::receive`].
    pub fn expect_end(&mut self) -> Result<(), TrafficError> {
        match self.receive(&mut [0])? {
            0 => Ok(()),
            _ => Err(TrafficError::Long {
                what: self.what.clone(),
                length: self.received - 1,
            }),
        }
    }
}

/// The time since the Unix epoch, as QEMU stamps its events.
pub fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The index of the first byte in which two slices of one length differ.
pub fn first_difference(found: &[u8], expected: &[u8]) -> Option<usize> {
    if found == expected {
        return None;
    }
    found.iter().zip(expected).position(|(a, b)| a != b)
}

/// Bytes that no two positions of a test share by chance: a 64-bit xorshift, the same on every run.
#[derive(Debug)]
pub struct Noise(u64);

impl Noise {
    /// A sequence of its own for each `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8))
            .flat_map(|_| self.number().to_le_bytes())
            .take(len)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A connection whose peer sends `answer` and closes.
    fn answered(answer: &'static [u8]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("a client");
            peer.write_all(answer).expect("sent");
        });
        let stream = TcpStream::connect(address).expect("connected");
        stream
            .set_read_timeout(Some(interrupt::STEP))
            .expect("a timeout");
        Connection {
            stream,
            what: "test".to_owned(),
            received: 0,
            sent: 0,
            until: None,
            tape: None,
        }
    }

    #[test]
    fn the_right_bytes_pass() {
        let mut connection = answered(b"abcdef");
        assert_eq!(connection.expect(b"abcdef", None).expect("right"), 6);
        connection.expect_end().expect("no more");
    }

    #[test]
    fn a_wrong_a_missing_and_an_added_byte_are_found() {
        let wrong = answered(b"abXdef").expect(b"abcdef", None);
        assert_eq!(
            wrong.expect_err("wrong").to_string(),
            "test: byte 2 is 0x58, not 0x63"
        );
        let short = answered(b"abc").expect(b"abcdef", None);
        assert!(matches!(short, Err(TrafficError::Short { offset: 3, .. })));
        let mut connection = answered(b"abcdefg");
        connection.expect(b"abcdef", None).expect("right so far");
        let long = connection.expect_end();
        assert!(matches!(long, Err(TrafficError::Long { length: 6, .. })));
    }

    #[test]
    fn an_exchange_ends_at_its_limit_both_ways() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address"));
        let (_silent, _) = listener.accept().expect("a client");
        let stream = stream.expect("connected");
        for limit in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            limit(&stream, Some(interrupt::STEP)).expect("a timeout");
        }
        let mut connection = Connection {
            stream,
            what: "test".to_owned(),
            received: 0,
            sent: 0,
            until: Some(Instant::now() + interrupt::STEP),
            tape: None,
        };
        let begun = Instant::now();
        let nothing = connection.expect(b"a", None);
        assert!(matches!(
            nothing,
            Err(TrafficError::Limit { offset: 0, .. })
        ));
        let full = connection.send(&vec![0; 64 << 20]);
        assert!(matches!(full, Err(TrafficError::Limit { .. })), "{full:?}");
        assert!((1..64 << 20).contains(&connection.sent()));
        assert!(begun.elapsed() < STALL / 2);
    }

    #[test]
    fn noise_repeats_for_a_seed_and_only_for_it() {
        assert_eq!(Noise::new(1).bytes(100), Noise::new(1).bytes(100));
        assert_ne!(Noise::new(1).bytes(100), Noise::new(2).bytes(100));
    }
}
