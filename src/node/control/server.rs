//! The thread that serves the control socket: it moves bytes and waits; what they mean is [`crate::control`]'s.
//!
//! No client is waited for. One that reads nothing is read no more; one that does so for long is cut off.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use serde_json::{Map, Value, json};

use super::SharedStats;
use super::orders::{Outcome, Posted, PostedOrder, posted};
use super::socket::ControlSocket;
use crate::account::Extract;
use crate::config::ProcessSettings;
use crate::control::{
    self, CHUNK, Counted, Fault, Giver, NodeStatus, Order, PairStatus, Session, Snapshot, Step,
    Waiting,
};
use crate::node::capture_desk::{CaptureOrder, PostedCapture};
use crate::observability::log::Log;
use crate::observability::private;

/// Clients at a time.
const CLIENTS: usize = 32;
/// A client without a request makes room for another after this.
const IDLE: Duration = Duration::from_secs(10);
/// A client that takes nothing of a reply is cut off after this.
const SLOW: Duration = Duration::from_secs(10);
/// Longest time for an order. The control thread ends each one sooner, unless it is kept from running. One that it has
/// not begun by then is withdrawn.
const ORDER: Duration = Duration::from_secs(50);
/// The same of a protection that was begun: it has its own bounds and is as long as the VM's memory and disks are large.
const PROTECT: Duration = Duration::from_secs(86_400);
/// How often the end of the node is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked whether something that is waited for has come.
const WAIT: Duration = Duration::from_millis(20);

/// What a late order is that nobody has begun, and one that was begun.
const WITHDRAWN: &str = "it is withdrawn: the control thread has not come to it; see the log, and the disks that it writes to";
const BEGUN: &str = "the control thread has begun it and does not answer: it may still take effect; see status, and the log";

/// The thread's work.
pub(crate) struct Server {
    socket: ControlSocket,
    clients: Vec<Client>,
    stats: Arc<Mutex<SharedStats>>,
    orders: Sender<PostedOrder>,
    captures: Sender<PostedCapture>,
    settings: ProcessSettings,
    log: Log,
    /// What the node is made of.
    facts: Value,
    /// Where captures go.
    capture_dir: PathBuf,
    /// No client is accepted before: the last attempt failed.
    deaf_until: Option<Instant>,
    /// Of each pair by its place: when an operator has reset its counts, and what they were. The node's own go on.
    resets: BTreeMap<usize, (Instant, Counted)>,
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
    Capture(Capture),
}

/// An order to the thread that writes captures.
struct Capture {
    pair: String,
    outcome: Receiver<Outcome>,
    since: Instant,
}

/// An order to one pair or several, and what has become of it.
struct Orders {
    order: Order,
    waiting: Vec<(String, Posted)>,
    done: Map<String, Value>,
    since: Instant,
}

impl Server {
    /// Ready to serve.
    pub(super) fn new(
        socket: ControlSocket,
        stats: Arc<Mutex<SharedStats>>,
        (orders, captures): (Sender<PostedOrder>, Sender<PostedCapture>),
        settings: ProcessSettings,
        log: Log,
        facts: Value,
        runtime_dir: &Path,
    ) -> Self {
        let capture_dir = settings.report_dir.clone();
        Self {
            socket,
            clients: Vec::new(),
            stats,
            orders,
            captures,
            settings,
            log,
            facts,
            capture_dir: capture_dir.unwrap_or_else(|| runtime_dir.to_owned()),
            deaf_until: None,
            resets: BTreeMap::new(),
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
                    Some(Pending::Capture(capture)) => match capture.look(now) {
                        Ok(outcome) => outcome,
                        Err(capture) => {
                            client.pending = Some(Pending::Capture(capture));
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
                        let changes = matches!(
                            request.command,
                            control::Command::SetLogLevel(_) | control::Command::ResetStats { .. }
                        );
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
        &mut self,
        command: control::Command,
        by: Giver,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Result<Outcome, Pending> {
        Ok(match control::begin(command, snapshot) {
            Err(fault) => Err(fault),
            Ok(Step::Reply(reply)) => Ok(reply),
            Ok(Step::Facts) => Ok(self.facts.clone()),
            Ok(Step::Pairs(pairs)) => Ok(self.show_pairs(&pairs, snapshot)),
            Ok(Step::Policy(pairs)) => {
                let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
                let policy = pairs
                    .into_iter()
                    .map(|(number, name)| (name, stats.pairs[number].policy().into()));
                Ok(json!({ "pairs": policy.collect::<Map<_, _>>() }))
            }
            Ok(Step::ResetStats(pairs, reply)) => {
                for (number, name) in pairs {
                    let status = self.status(number);
                    self.resets.insert(number, (now, status.counted()));
                    self.log.alert(format_args!(
                        "pair {name}: control socket ({by}): status counts from now on; metrics and telemetry go on"
                    ));
                }
                Ok(reply)
            }
            Ok(Step::Why { pairs, since }) => Ok(self.accounts(&pairs, since, snapshot, now)),
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
            Ok(Step::Capture { pair, name, order }) => {
                let order = match order {
                    control::Capture::Stop => CaptureOrder::Stop,
                    control::Capture::Start { file, limit_mib } => CaptureOrder::Start {
                        path: self.capture_dir.join(file.unwrap_or_else(|| {
                            format!("{name}-{}.pcapng", private::unpredictable())
                        })),
                        limit: limit_mib << 20,
                    },
                };
                self.log.alert(format_args!(
                    "pair {name}: control socket ({by}): {} is ordered",
                    match order {
                        CaptureOrder::Stop => "capture-stop",
                        CaptureOrder::Start { .. } => "capture-start",
                    }
                ));
                let (reply, outcome) = bounded(1);
                let posted = PostedCapture { pair, order, reply };
                if self.captures.try_send(posted).is_err() {
                    return Ok(Err(Fault::NoTaker("too many captures are ordered")));
                }
                return Err(Pending::Capture(Capture {
                    pair: name,
                    outcome,
                    since: now,
                }));
            }
            Ok(Step::Order { pairs, order }) => {
                let mut orders = Orders {
                    order,
                    waiting: Vec::new(),
                    done: Map::new(),
                    since: now,
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

    /// A pair, with its counts from the start.
    fn status(&self, number: usize) -> PairStatus {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.pairs[number].status(Instant::now())
    }

    /// What pairs are made of, and what they are now.
    fn show_pairs(&self, pairs: &[(usize, String)], snapshot: &Snapshot) -> Value {
        let shown = pairs.iter().map(|(number, name)| {
            let mut shown = self.facts["pairs"][*number].clone();
            let now = &snapshot.pairs[*number];
            shown["role_now"] = json!(now.role.word());
            shown["state"] = json!(now.state.word());
            // It may have been set since the start.
            shown["compare_timeout_ms"] = json!(now.parameters.compare_timeout_ms);
            let lcores = self.facts["lcores"].as_array().into_iter().flatten();
            let runs_on = |lcore: &&Value| {
                let polled = lcore["pairs"].as_array();
                polled.is_some_and(|polled| polled.iter().any(|it| it == name))
            };
            shown["lcores"] = lcores.filter(runs_on).map(|it| it["id"].clone()).collect();
            shown
        });
        json!({ "pairs": shown.collect::<Vec<_>>() })
    }

    /// The accounts of the checkpoints of some pairs.
    fn accounts(
        &self,
        pairs: &[(usize, String)],
        since: Option<Duration>,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Value {
        let account = |(number, name): &(usize, String)| {
            // The lock is for the copy alone: a long interval takes its time.
            let extract = {
                let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
                stats.pairs[*number].account(since, now)
            };
            let role = snapshot.pairs[*number].role.word();
            json!({ "name": name, "role": role, "account": extract.map(Extract::report) })
        };
        json!({ "pairs": pairs.iter().map(account).collect::<Vec<_>>() })
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
            pairs: (stats.pairs.iter().enumerate())
                .map(|(number, pair)| {
                    let mut status = pair.status(now);
                    if let Some((at, base)) = self.resets.get(&number) {
                        let seconds = now.saturating_duration_since(*at).as_secs_f64();
                        status.count_from(*base, seconds);
                    }
                    status
                })
                .collect(),
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

impl Capture {
    /// The outcome, or itself while it is missing.
    fn look(self, now: Instant) -> Result<Outcome, Self> {
        let late = now.saturating_duration_since(self.since) >= ORDER;
        let outcome = match self.outcome.try_recv() {
            Ok(outcome) => outcome.map(|value| json!({ "pairs": { self.pair: value } })),
            Err(TryRecvError::Empty) if !late => return Err(self),
            Err(TryRecvError::Empty) => Err(Fault::Timeout {
                what: format!("pair {}: capture", self.pair),
                seconds: ORDER.as_secs_f64(),
                now: "the thread that writes captures does not answer: it may still take effect; see the log, and the \
                      disk"
                    .to_owned(),
            }),
            Err(TryRecvError::Disconnected) => Err(Fault::Refused {
                pair: self.pair,
                why: "the node ends".to_owned(),
            }),
        };
        Ok(outcome)
    }
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
                Err(TryRecvError::Empty) => {
                    let waited = now.saturating_duration_since(self.since);
                    let (limit, now_is) = if waited < ORDER {
                        self.waiting.push((name, posted));
                        return Err(self);
                    } else if posted.claim.take() {
                        (ORDER, WITHDRAWN)
                    } else if waited < self.limit() {
                        self.waiting.push((name, posted));
                        return Err(self);
                    } else {
                        (self.limit(), BEGUN)
                    };
                    self.withdraw();
                    return Ok(Err(Fault::Timeout {
                        what: format!("pair {name}: {}", self.order),
                        seconds: limit.as_secs_f64(),
                        now: now_is.to_owned(),
                    }));
                }
            }
        }
        Ok(Ok(json!({ "pairs": self.done })))
    }

    /// How long its outcome is waited for, once it was begun.
    fn limit(&self) -> Duration {
        match self.order {
            Order::Protect => PROTECT,
            _ => ORDER,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const BY: Giver = Giver { uid: 7, pid: 9 };

    fn ordered(order: Order, since: Instant) -> (Orders, PostedOrder) {
        let (order, posted) = posted(0, order, BY);
        let orders = Orders {
            order: order.order,
            waiting: vec![("vm0".to_owned(), posted)],
            done: Map::new(),
            since,
        };
        (orders, order)
    }

    /// What the giver hears after this time, if anything.
    fn said(orders: Orders, since: Instant, after: Duration) -> Result<String, Orders> {
        let outcome = orders.look(since + after)?;
        Ok(outcome.expect_err("it is late").to_string())
    }

    #[test]
    fn an_order_that_nobody_has_begun_is_withdrawn_after_50_s() {
        for order in [Order::Protect, Order::Checkpoint] {
            let since = Instant::now();
            let (orders, posted) = ordered(order, since);
            let early = said(orders, since, ORDER - Duration::from_millis(1));
            let orders = early.expect_err("it is waited for");
            let text = said(orders, since, ORDER).unwrap_or_default();
            assert!(text.contains("within 50 s: it is withdrawn"), "{text}");
            assert!(!posted.claim.take(), "nobody begins it any more");
        }
    }

    #[test]
    fn a_protection_that_was_begun_has_a_day_and_says_so() {
        let since = Instant::now();
        let (orders, posted) = ordered(Order::Checkpoint, since);
        assert!(posted.claim.take());
        let text = said(orders, since, ORDER).unwrap_or_default();
        assert!(
            text.contains("within 50 s: the control thread has begun it"),
            "{text}"
        );
        let (orders, posted) = ordered(Order::Protect, since);
        assert!(posted.claim.take());
        let early = said(orders, since, PROTECT - Duration::from_millis(1));
        let orders = early.expect_err("it is waited for");
        let text = said(orders, since, PROTECT).unwrap_or_default();
        assert!(
            text.contains("within 86400 s: the control thread has begun it"),
            "{text}"
        );
    }
}
