//! The thread that serves the control socket: it moves bytes and waits; what they mean is [`crate::control`]'s.
//!
//! No client is waited for. One that reads nothing is read no more; one that does so for long is cut off.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TryRecvError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use serde_json::{Map, Value, json};

use super::SharedStats;
use super::orders::{Outcome, Posted, PostedOrder, posted};
use super::socket::ControlSocket;
use crate::config::ProcessSettings;
use crate::control::{
    self, CHUNK, Fault, Giver, NodeStatus, Order, Session, Snapshot, Step, Waiting,
};
use crate::observability::log::Log;

/// Clients at a time.
const CLIENTS: usize = 32;
/// A client without a request makes room for another after this.
const IDLE: Duration = Duration::from_secs(10);
/// A client that takes nothing of a reply is cut off after this.
const SLOW: Duration = Duration::from_secs(10);
/// Longest time for an order. The control thread ends each one sooner, unless it is kept from running.
const ORDER: Duration = Duration::from_secs(50);
/// The same of a protection, which has its own bounds and is as long as the VM's memory and disks are large.
const PROTECT: Duration = Duration::from_secs(86_400);
/// How often the end of the node is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked whether something that is waited for has come.
const WAIT: Duration = Duration::from_millis(20);

/// The thread's work.
pub(crate) struct Server {
    socket: ControlSocket,
    clients: Vec<Client>,
    stats: Arc<Mutex<SharedStats>>,
    orders: Sender<PostedOrder>,
    settings: ProcessSettings,
    log: Log,
    /// What the node is made of.
    facts: Value,
    /// No client is accepted before: the last attempt failed.
    deaf_until: Option<Instant>,
}

struct Client {
    stream: UnixStream,
    session: Session,
    /// Who is there.
    by: Giver,
    pending: Option<Pending>,
    /// When it last sent or took something.
    active: Instant,
}

/// What a client waits for.
enum Pending {
    Wait(Waiting, Instant),
    Orders(Orders),
}

/// An order to one pair or several, and what has become of it.
struct Orders {
    order: Order,
    waiting: Vec<(String, Posted)>,
    done: Map<String, Value>,
    deadline: Instant,
}

impl Server {
    /// Ready to serve.
    pub(super) fn new(
        socket: ControlSocket,
        stats: Arc<Mutex<SharedStats>>,
        orders: Sender<PostedOrder>,
        settings: ProcessSettings,
        log: Log,
        facts: Value,
    ) -> Self {
        Self {
            socket,
            clients: Vec::new(),
            stats,
            orders,
            settings,
            log,
            facts,
            deaf_until: None,
        }
    }

    /// Serves until the flag is set.
    pub(crate) fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let (accepts, ready) = self.wait();
            let now = Instant::now();
            for (client, flags) in self.clients.iter_mut().zip(ready) {
                client.transfer(flags, now);
            }
            self.serve(now);
            self.clients
                .retain(|client| !client.session.is_over() && !client.is_slow(now));
            if accepts {
                self.accept(now);
            }
        }
    }

    /// Waits for bytes; whether somebody wants to connect, and what each client's socket is ready for.
    fn wait(&self) -> (bool, Vec<PollFlags>) {
        let now = Instant::now();
        let hears = self.deaf_until.is_none_or(|until| now >= until);
        let listening = match hears {
            true => PollFlags::IN,
            false => PollFlags::empty(),
        };
        let mut polled = vec![PollFd::new(self.socket.listener(), listening)];
        polled.extend(self.clients.iter().map(|client| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, client.session.wants_input());
            flags.set(PollFlags::OUT, !client.session.output().is_empty());
            PollFd::new(&client.stream, flags)
        }));
        let pending = self.clients.iter().any(|client| client.pending.is_some());
        let time = Timespec::try_from(if pending { WAIT } else { LOOK }).ok();
        // An interrupted wait is as good as one that is over.
        let _ = poll(&mut polled, time.as_ref());
        let mut ready = polled.iter().map(|polled| polled.revents());
        let accepts = hears && ready.next().is_some_and(|flags| !flags.is_empty());
        (accepts, ready.collect())
    }

    fn accept(&mut self, now: Instant) {
        loop {
            let stream = match self.socket.listener().accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.log.warning(
                        "control-socket",
                        format_args!("--control: no client can be accepted: {error}"),
                    );
                    self.deaf_until = Some(now + LOOK);
                    return;
                }
            };
            let (Ok(()), Ok(by)) = (stream.set_nonblocking(true), giver(&stream)) else {
                continue;
            };
            if self.clients.len() >= CLIENTS && !self.make_room(now) {
                let line = Session::turned_away(&Fault::Busy { limit: CLIENTS });
                // It is short, and its reader may be gone.
                let _ = (&stream).write_all(&line);
                continue;
            }
            let session = Session::new(env!("CARGO_PKG_VERSION"), std::process::id());
            let mut client = Client {
                stream,
                session,
                by,
                pending: None,
                active: now,
            };
            client.write(now);
            self.clients.push(client);
        }
    }

    /// Cuts off the client that has asked nothing for longest, if that is long; whether there was one.
    fn make_room(&mut self, now: Instant) -> bool {
        let clients = self.clients.iter().enumerate();
        let idle = clients.filter(|(_, client)| client.pending.is_none());
        let longest = idle.min_by_key(|(_, client)| client.active);
        let found = longest.filter(|(_, client)| now.duration_since(client.active) >= IDLE);
        let found = found.map(|(number, _)| number);
        found
            .map(|number| self.clients.swap_remove(number))
            .is_some()
    }

    /// Replies as far as replies are there.
    fn serve(&mut self, now: Instant) {
        // One look at the node serves all clients of this turn.
        let mut snapshot = None;
        for number in 0..self.clients.len() {
            loop {
                let client = &mut self.clients[number];
                let outcome = match client.pending.take() {
                    Some(Pending::Orders(orders)) => match orders.look(now) {
                        Ok(outcome) => outcome,
                        Err(orders) => {
                            client.pending = Some(Pending::Orders(orders));
                            break;
                        }
                    },
                    Some(Pending::Wait(waiting, deadline)) => {
                        let snapshot = snapshot.get_or_insert_with(|| self.snapshot());
                        match waiting.look(snapshot) {
                            Some(reply) => Ok(reply),
                            None if now >= deadline => Err(waiting.late(snapshot)),
                            None => {
                                self.clients[number].pending =
                                    Some(Pending::Wait(waiting, deadline));
                                break;
                            }
                        }
                    }
                    None => {
                        let Some(request) = client.session.next_request() else {
                            // A line that is no request was answered by the session.
                            let answered = !client.session.output().is_empty();
                            client.write(now);
                            match answered && client.session.output().is_empty() {
                                true => continue,
                                false => break,
                            }
                        };
                        let changes = matches!(request.command, control::Command::SetLogLevel(_));
                        client.active = now;
                        let by = client.by;
                        let seen = snapshot.get_or_insert_with(|| self.snapshot());
                        match self.begin(request.command, by, seen, now) {
                            Ok(outcome) => {
                                if changes {
                                    snapshot = None;
                                }
                                outcome
                            }
                            Err(pending) => {
                                self.clients[number].pending = Some(pending);
                                continue;
                            }
                        }
                    }
                };
                let client = &mut self.clients[number];
                client.session.reply(outcome);
                client.write(now);
            }
        }
    }

    /// Carries a command out, or says what its reply waits for.
    fn begin(
        &self,
        command: control::Command,
        by: Giver,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<Outcome, Pending> {
        Ok(match control::begin(command, snapshot) {
            Err(fault) => Err(fault),
            Ok(Step::Reply(reply)) => Ok(reply),
            Ok(Step::Facts) => Ok(self.facts.clone()),
            Ok(Step::SetLogLevel(level, reply)) => {
                self.log.alert(format_args!(
                    "control socket ({by}): lines below {} are not written from now on, but for those that somebody has to \
                     act on",
                    level.word()
                ));
                self.log.set_least(level);
                Ok(reply)
            }
            Ok(Step::Wait(waiting)) => {
                let deadline = now + Duration::try_from_secs_f64(waiting.timeout).unwrap_or(IDLE);
                return Err(Pending::Wait(waiting, deadline));
            }
            Ok(Step::Order { pairs, order }) => {
                let mut orders = Orders {
                    order,
                    waiting: Vec::new(),
                    done: Map::new(),
                    deadline: now
                        + match order {
                            Order::Protect => PROTECT,
                            _ => ORDER,
                        },
                };
                for (pair, name) in pairs {
                    let (order, posted) = posted(pair, order, by);
                    if self.orders.try_send(order).is_err() {
                        orders.withdraw();
                        return Ok(Err(Fault::NoTaker("too many orders wait")));
                    }
                    orders.waiting.push((name, posted));
                }
                return Err(Pending::Orders(orders));
            }
        })
    }

    fn snapshot(&self) -> Snapshot {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        Snapshot {
            node: NodeStatus {
                version: env!("CARGO_PKG_VERSION"),
                pid: std::process::id(),
                seconds: stats.started.elapsed().as_secs_f64(),
                log_level: self.log.least().word(),
                idle_sleep_us: micros(self.settings.idle_sleep),
                stall_limit_s: self.settings.stall_limit.map_or(0, |limit| limit.as_secs()),
            },
            pairs: stats.pairs.iter().map(|pair| pair.status(now)).collect(),
        }
    }
}

/// The process at the other end, as the kernel knows it. One of another PID namespace has the id 0.
fn giver(stream: &UnixStream) -> rustix::io::Result<Giver> {
    let peer = socket_peercred(stream)?;
    Ok(Giver {
        uid: peer.uid.as_raw(),
        pid: Pid::as_raw(Some(peer.pid)).cast_unsigned(),
    })
}

fn micros(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| {
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    })
}

impl Orders {
    /// The outcome for all pairs, or itself while one is missing. The first fault is the outcome of all.
    fn look(mut self, now: Instant) -> Result<Outcome, Self> {
        while let Some((name, posted)) = self.waiting.pop() {
            match posted.outcome.try_recv() {
                Ok(Ok(value)) => {
                    self.done.insert(name, value);
                }
                Ok(Err(fault)) => return Ok(Err(fault)),
                Err(TryRecvError::Disconnected) => {
                    return Ok(Err(Fault::Failed {
                        pair: name,
                        order: self.order,
                        why: "the control thread has dropped it: the node ends".to_owned(),
                    }));
                }
                Err(TryRecvError::Empty) if now < self.deadline => {
                    self.waiting.push((name, posted));
                    return Err(self);
                }
                Err(TryRecvError::Empty) => {
                    let now_is = match posted.claim.take() {
                        true => {
                            "it is withdrawn: the control thread has not come to it; see the log, and the disks that it writes to"
                        }
                        false => {
                            "the control thread has begun it and does not answer: it may still take effect; see status, and the log"
                        }
                    };
                    self.withdraw();
                    return Ok(Err(Fault::Timeout {
                        what: format!("pair {name}: {}", self.order),
                        seconds: ORDER.as_secs_f64(),
                        now: now_is.to_owned(),
                    }));
                }
            }
        }
        Ok(Ok(json!({ "pairs": self.done })))
    }

    /// What is left of it is not begun any more, if it was not yet.
    fn withdraw(&self) {
        for (_, posted) in &self.waiting {
            posted.claim.take();
        }
    }
}

impl Client {
    /// Moves what its socket is ready for.
    fn transfer(&mut self, ready: PollFlags, now: Instant) {
        if ready.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
            && !ready.contains(PollFlags::IN)
        {
            return self.end();
        }
        if ready.contains(PollFlags::OUT) {
            self.write(now);
        }
        if ready.contains(PollFlags::IN) && self.session.wants_input() {
            let mut bytes = [0; CHUNK];
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.active = now;
                    self.session.receive(&bytes[..count]);
                }
                Err(error) if is_for_later(error.kind()) => {}
                Err(_) => self.end(),
            }
        }
    }

    /// Writes what it takes now.
    fn write(&mut self, now: Instant) {
        while !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(count) => {
                    self.active = now;
                    self.session.wrote(count);
                }
                Err(error) if is_for_later(error.kind()) => return,
                Err(_) => return self.end(),
            }
        }
    }

    /// The client is gone. What it has ordered goes on.
    fn end(&mut self) {
        self.pending = None;
        self.session.abandon();
    }

    fn is_slow(&self, now: Instant) -> bool {
        !self.session.output().is_empty() && now.duration_since(self.active) >= SLOW
    }
}

fn is_for_later(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
