//! The control threads' datagrams, by which each node learns whether the other one's poll core runs.
//!
//! A poll core without CPU sends nothing on the link, as a dead host does. Its control thread still says so, on another
//! way: over the host's own network. In: datagrams, the counters of the own poll core, time. Out: datagrams, and
//! whether the peer's poll core does not run. `docs/starvation.md` has the design.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::config::HeartbeatUdp;
use crate::link::secure::{Heard, PROGRESS, ProgressExchange};
use crate::observability::counters::{Counter, Reader};
use crate::observability::log::Log;

/// Datagrams that are read at a time, so that a flood keeps nobody waiting.
const BURST: usize = 16;
/// Heartbeats for which a poll core may not have finished a round before it counts as stalled.
const STALL: u32 = 2;
/// Heartbeats of a stall that are worth a line: on a busy machine there are many short ones.
const WORTH_A_LINE: u32 = 10;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "--heartbeat-udp {ends}: {source}; give an address of this host that no other pair uses, and the peer's"
)]
pub struct HeartbeatUdpError {
    ends: HeartbeatUdp,
    source: io::Error,
}

/// One end of the exchange, with its socket.
pub(crate) struct ProgressReports {
    socket: UdpSocket,
    exchange: ProgressExchange,
    core: Reader,
    /// The poll core's rounds at the last check, and the time since which that number has not changed.
    rounds: (u64, Instant),
    period: Duration,
    due: Instant,
    /// The log has said that the peer's poll core does not run, and not yet that it runs again.
    said: bool,
}

impl ProgressReports {
    /// Opens the socket. A report leaves in each `heartbeat`.
    ///
    /// # Errors
    /// When the addresses cannot be had.
    pub(crate) fn open(
        ends: HeartbeatUdp,
        exchange: ProgressExchange,
        heartbeat: Duration,
        core: Reader,
    ) -> Result<Self, HeartbeatUdpError> {
        let open = || {
            let socket = UdpSocket::bind(ends.local)?;
            socket.set_nonblocking(true)?;
            socket.connect(ends.remote)?;
            Ok(socket)
        };
        let now = Instant::now();
        Ok(Self {
            socket: open().map_err(|source| HeartbeatUdpError { ends, source })?,
            exchange,
            core,
            rounds: (0, now),
            period: heartbeat,
            due: now,
            said: false,
        })
    }

    /// What to wait for at the socket.
    pub(crate) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.socket, PollFlags::IN)
    }

    /// Sends what is due and reads what came; true if a report says that the peer's poll core does not run.
    pub(crate) fn work(&mut self, now: Instant, pair: &str, log: &Log) -> bool {
        if now >= self.due {
            self.due = now + self.period;
            let stalled = self.stalled(now);
            let report = self.exchange.next(stalled);
            // A report that does not leave is like one that is lost.
            let _ = self.socket.send(&report);
        }
        let mut stalls = false;
        // One byte more than a report shows a longer datagram.
        let mut bytes = [0; PROGRESS + 1];
        for _ in 0..BURST {
            let length = match self.socket.recv(&mut bytes) {
                Ok(length) => length,
                // ICMP says that nobody listens there yet.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => break,
            };
            let Heard::Peer { stalled } = self.exchange.receive(&bytes[..length]) else {
                continue;
            };
            let since = Duration::from_millis(stalled.into());
            let stalled = since >= self.period * STALL;
            stalls |= stalled;
            if !stalled && self.said || since >= self.period * WORTH_A_LINE && !self.said {
                self.said = stalled;
                self.say(stalled, pair, log);
            }
        }
        stalls
    }

    fn say(&self, stalled: bool, pair: &str, log: &Log) {
        match stalled {
            true => log.warning(
                "peer-stalls",
                format_args!(
                    "pair {pair}: the peer reports that its poll core gets no CPU; this node waits for it up to \
                     --peer-stall-limit; see what else runs on that core"
                ),
            ),
            false => log.info(format_args!("pair {pair}: the peer's poll core runs again")),
        }
    }

    /// Milliseconds since the poll core finished a round, as far as its counters show it.
    fn stalled(&mut self, now: Instant) -> u32 {
        let rounds = self.core.value(Counter::Polls);
        if rounds != self.rounds.0 {
            self.rounds = (rounds, now);
        }
        let since = now.saturating_duration_since(self.rounds.1);
        u32::try_from(since.as_millis()).unwrap_or(u32::MAX)
    }
}
