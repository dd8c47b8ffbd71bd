//! A monitor that is kept connected: a [`Session`] over a [`Transport`], and another one after a
//! pause whenever it ends.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use serde_json::Value;

use super::error::{ProtocolError, QmpError, RequestError};
use super::session::{Session, Timing};
use super::transport::Transport;
use super::{Address, Event};

/// Bytes that one read takes at most.
const CHUNK: usize = 64 << 10;
/// Reads between two `None` of [`Client::poll`], so that a peer that never stops sending cannot
/// keep the control thread for itself.
const READS_MAX: u32 = 32;
/// Shortest pause between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The times a client keeps.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// See [`Timing`]; also how long a TCP connection may take to stand.
    pub reply_timeout: Duration,
    /// See [`Timing`].
    pub refresh_interval: Duration,
    /// Pause before the first attempt to connect again, at least 1 ms; each failed attempt
    /// doubles it.
    pub reconnect_min: Duration,
    /// Longest pause between attempts.
    pub reconnect_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reply_timeout: Duration::from_secs(10),
            refresh_interval: Duration::from_secs(2),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(2),
        }
    }
}

/// A client of one monitor.
///
/// Whenever [`Client::poll_fd`] is ready or [`Client::next_deadline`] has come, call [`Client::poll`]
/// until it says `None`. The stamps of events are taken from the system's monotonic clock at the
/// read or write itself; `now` arguments drive the timeouts.
#[derive(Debug)]
pub struct Client {
    address: Address,
    options: Options,
    link: Link,
    events: VecDeque<Event>,
    chunk: Box<[u8]>,
    reads_left: u32,
    pause: Duration,
    attempt: usize,
    next_id: u64,
    /// The reason that was reported last, until a connection stands again.
    reported: Option<String>,
}

#[derive(Debug)]
enum Link {
    Pausing {
        until: Option<Instant>,
    },
    Connecting {
        transport: Transport,
        deadline: Instant,
    },
    Open {
        transport: Transport,
        session: Box<Session>,
        /// Reading goes on behind a failed write: QEMU's last events may still be there.
        write_error: Option<io::Error>,
    },
}

impl Client {
    /// A client that connects at its first [`Client::poll`].
    pub fn new(address: Address, mut options: Options) -> Self {
        // With a pause of nothing a poll could attempt for ever and not return.
        options.reconnect_min = options.reconnect_min.max(PAUSE_MIN);
        options.reconnect_max = options.reconnect_max.max(options.reconnect_min);
        Self {
            address,
            link: Link::Pausing { until: None },
            events: VecDeque::new(),
            chunk: vec![0; CHUNK].into(),
            reads_left: READS_MAX,
            pause: options.reconnect_min,
            attempt: 0,
            // Replies to an earlier process on the same monitor must not look like ours.
            next_id: u64::from(std::process::id()) << 24,
            reported: None,
            options,
        }
    }

    /// Where the monitor listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next event, moving bytes as far as they go without waiting.
    pub fn poll(&mut self, now: Instant) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if !self.advance(now) {
                self.reads_left = READS_MAX;
                return None;
            }
        }
    }

    /// What to wait for, while there is a descriptor: that it becomes readable, and writable where bytes
    /// wait.
    pub fn poll_fd(&self) -> Option<PollFd<'_>> {
        let transport = match &self.link {
            Link::Pausing { .. } => return None,
            Link::Connecting { transport, .. } | Link::Open { transport, .. } => transport,
        };
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, self.wants_write());
        Some(PollFd::from_borrowed_fd(transport.as_fd(), flags))
    }

    /// Whether progress needs the descriptor to take bytes.
    fn wants_write(&self) -> bool {
        match &self.link {
            Link::Pausing { .. } => false,
            Link::Connecting { .. } => true,
            Link::Open {
                session,
                write_error,
                ..
            } => write_error.is_none() && !session.output().is_empty(),
        }
    }

    /// When to poll at the latest: `now` where an event already waits.
    pub fn next_deadline(&self, now: Instant) -> Instant {
        if !self.events.is_empty() {
            return now;
        }
        match &self.link {
            Link::Pausing { until } => until.unwrap_or(now),
            Link::Connecting { deadline, .. } => *deadline,
            Link::Open { session, .. } => session.next_deadline(),
        }
    }

    /// The oldest answer that is owed, and since when.
    pub fn awaited(&self) -> Option<(&'static str, Instant)> {
        match &self.link {
            Link::Pausing { .. } | Link::Connecting { .. } => None,
            Link::Open { session, .. } => session.awaited(),
        }
    }

    /// Asks for a checkpoint; see [`Session::request_checkpoint`]. The request is written before
    /// this returns if the kernel takes it.
    ///
    /// # Errors
    /// See [`Session::request_checkpoint`].
    pub fn request_checkpoint(&mut self, token: u64, now: Instant) -> Result<(), RequestError> {
        self.session()?.request_checkpoint(token, now)?;
        self.flush();
        Ok(())
    }

    /// Orders QEMU to go on with this virtual machine alone, and cuts its connections to the other side before;
    /// see [`Session::fail_over`].
    ///
    /// # Errors
    /// See [`Session::fail_over`].
    pub fn fail_over(&mut self, now: Instant) -> Result<(), RequestError> {
        self.session()?.fail_over(now)?;
        self.flush();
        Ok(())
    }

    /// Gives every NIC its link; see [`Session::raise_links`].
    ///
    /// # Errors
    /// See [`Session::raise_links`].
    pub fn raise_links(&mut self, now: Instant) -> Result<(), RequestError> {
        self.session()?.raise_links(now)?;
        self.flush();
        Ok(())
    }

    /// Asks how QEMU and its guest are set up; see [`Session::examine`].
    ///
    /// # Errors
    /// See [`Session::examine`].
    pub fn examine(&mut self, now: Instant) -> Result<(), RequestError> {
        self.session()?.examine(now)?;
        self.flush();
        Ok(())
    }

    /// Asks what a stop is for; see [`Session::ask_run_state`].
    ///
    /// # Errors
    /// See [`Session::ask_run_state`].
    pub fn ask_run_state(&mut self, now: Instant) -> Result<(), RequestError> {
        self.session()?.ask_run_state(now)?;
        self.flush();
        Ok(())
    }

    /// Lets QEMU execute a command; see [`Session::execute`].
    ///
    /// # Errors
    /// See [`Session::execute`].
    pub fn execute(
        &mut self,
        token: u64,
        name: &'static str,
        arguments: Value,
        now: Instant,
    ) -> Result<(), RequestError> {
        self.session()?.execute(token, name, arguments, now)?;
        self.flush();
        Ok(())
    }

    /// Asks for the state behind every event so far; see [`Session::barrier`].
    ///
    /// # Errors
    /// See [`Session::barrier`].
    pub fn barrier(&mut self, token: u64, now: Instant) -> Result<(), RequestError> {
        self.session()?.barrier(token, now)?;
        self.flush();
        Ok(())
    }
}

impl Client {
    fn session(&mut self) -> Result<&mut Session, RequestError> {
        match &mut self.link {
            Link::Open { session, .. } => Ok(session),
            _ => Err(RequestError::NotConnected),
        }
    }

    /// Takes one step; whether another one may follow.
    fn advance(&mut self, now: Instant) -> bool {
        match &mut self.link {
            Link::Pausing { until } => {
                if until.is_some_and(|until| now < until) {
                    return false;
                }
                self.connect(now);
                true
            }
            Link::Connecting { .. } => self.await_connection(now),
            Link::Open { session, .. } => {
                let kept = session.tick(now);
                self.flush();
                match kept {
                    Ok(()) => self.read(now),
                    Err(source) => self.end(now, source),
                }
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        let attempt = self.attempt;
        self.attempt = attempt.wrapping_add(1);
        match Transport::connect(&self.address, attempt) {
            Ok(transport) => {
                let deadline = now + self.options.reply_timeout;
                self.link = Link::Connecting {
                    transport,
                    deadline,
                };
            }
            Err(error) => self.lose(now, error),
        }
    }

    fn await_connection(&mut self, now: Instant) -> bool {
        let pausing = Link::Pausing { until: Some(now) };
        let Link::Connecting {
            transport,
            deadline,
        } = std::mem::replace(&mut self.link, pausing)
        else {
            return false;
        };
        match transport.is_connected() {
            Ok(true) => {
                let timing = Timing {
                    reply_timeout: self.options.reply_timeout,
                    refresh_interval: self.options.refresh_interval,
                };
                self.link = Link::Open {
                    transport,
                    session: Box::new(Session::new(timing, self.next_id, now)),
                    write_error: None,
                };
                true
            }
            Ok(false) if now < deadline => {
                self.link = Link::Connecting {
                    transport,
                    deadline,
                };
                false
            }
            Ok(false) => {
                let error = QmpError::ConnectTimedOut {
                    address: self.address.clone(),
                    after: self.options.reply_timeout,
                };
                self.lose(now, error);
                true
            }
            Err(source) => {
                let error = QmpError::Connect {
                    address: self.address.clone(),
                    source,
                };
                self.lose(now, error);
                true
            }
        }
    }

    fn read(&mut self, now: Instant) -> bool {
        if self.reads_left == 0 {
            return false;
        }
        let Link::Open {
            transport,
            session,
            write_error,
        } = &mut self.link
        else {
            return false;
        };
        match transport.read(&mut self.chunk) {
            Ok(0) => {
                let source = session.end_of_stream();
                self.end(now, source)
            }
            Ok(count) => {
                self.reads_left -= 1;
                let received = session.receive(&self.chunk[..count], Instant::now());
                self.take_events();
                match received {
                    Ok(()) => true,
                    Err(source) => self.end(now, source),
                }
            }
            Err(error) => {
                let blocked = error.kind() == io::ErrorKind::WouldBlock;
                let source = match write_error.take() {
                    Some(earlier) => earlier,
                    None if blocked => return false,
                    None => error,
                };
                let address = self.address.clone();
                self.lose(now, QmpError::Io { address, source });
                true
            }
        }
    }

    /// Writes what waits, as far as the kernel takes it.
    fn flush(&mut self) {
        let Link::Open {
            transport,
            session,
            write_error,
        } = &mut self.link
        else {
            return;
        };
        while write_error.is_none() && !session.output().is_empty() {
            match transport.write(session.output()) {
                Ok(count) => session.written(count, Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => *write_error = Some(error),
            }
        }
        self.take_events();
    }

    fn take_events(&mut self) {
        let Link::Open { session, .. } = &mut self.link else {
            return;
        };
        while let Some(event) = session.next_event() {
            if matches!(event, Event::Connected(_)) {
                self.pause = self.options.reconnect_min;
                self.reported = None;
            }
            self.events.push_back(event);
        }
    }

    fn end(&mut self, now: Instant, source: ProtocolError) -> bool {
        let address = self.address.clone();
        self.lose(now, QmpError::Protocol { address, source });
        true
    }

    /// Gives up the connection or the attempt, and sets the time of the next one.
    fn lose(&mut self, now: Instant, error: QmpError) {
        let pausing = Link::Pausing {
            until: Some(now + self.pause),
        };
        self.pause = (self.pause * 2).min(self.options.reconnect_max);
        if let Link::Open { session, .. } = std::mem::replace(&mut self.link, pausing) {
            let (left, next_id) = session.close();
            self.events.extend(left);
            self.next_id = next_id;
        }
        let reason = error.to_string();
        if self.reported.as_ref() != Some(&reason) {
            self.reported = Some(reason);
            self.events.push_back(Event::Disconnected(error));
        }
    }
}
