//! An operator's orders: how far each has come, and its outcome.
//!
//! An order does what a signal, an operator at QEMU's monitor or `--failover auto` does, and by the same code. What it
//! adds is the reply. Each giver gets its reply within a bounded time; what cannot be withdrawn then is shown until it ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ControlPair;
use super::facts::SeenCheckpoint;
use crate::config::OnPeerLost;
use crate::control::{Fault, Giver, Means, Order, OrderStatus, PairStatus, check};
use crate::node::clock::Clock;
use crate::node::control::fencing::Fencing;
use crate::node::control::orders::{Outcome, PostedOrder, ReplyTo};
use crate::node::mailbox::ToPoll;
use crate::observability::log::Log;

/// Marks the token of a checkpoint that was ordered; the poll core counts its own from 1.
const ORDERED: u64 = 1 << 63;
/// A fencing command of this number is the operator's: no poll core has asked for it.
pub(super) const OPERATORS: u32 = 0;
/// The commit is seen within this after RESUME, or the stop was no checkpoint.
const PROOF: Duration = Duration::from_secs(2);
/// Longest time that somebody waits for the commit of a checkpoint.
const CHECKPOINT: Duration = Duration::from_secs(30);
/// The same for a failover: a fencing command may take 30 s, and QEMU then has the rest for its reply.
const FAILOVER: Duration = Duration::from_secs(45);
/// The same for the acknowledgment of an announcement, by a peer that was heard a moment ago.
const ANNOUNCEMENT: Duration = Duration::from_secs(10);
/// Operators that may wait for one and the same thing.
const WAITING: usize = 32;

/// Somebody who waits for the outcome of an order.
pub(crate) struct Waiting {
    reply: ReplyTo,
    since: Instant,
    by: Giver,
}

impl Waiting {
    /// Sends the outcome at once.
    pub(super) fn answer(self, outcome: Outcome) {
        // Nobody may be there any more.
        let _ = self.reply.send(outcome);
    }
}

/// All who wait for one and the same thing.
pub(super) struct Waiters {
    list: Vec<Waiting>,
    /// Who gave the order first, and when.
    since: Instant,
    by: Giver,
}

impl Waiters {
    pub(super) fn new(first: Waiting) -> Self {
        Self {
            since: first.since,
            by: first.by,
            list: vec![first],
        }
    }

    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One more, unless there are too many.
    pub(super) fn join(&mut self, waiting: Waiting, refusal: impl FnOnce() -> Fault) {
        if self.list.len() < WAITING {
            self.list.push(waiting);
        } else {
            let _ = waiting.reply.send(Err(refusal()));
        }
    }

    /// Answers those who have waited for long enough; whether they were the last ones.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        limit: Duration,
        fault: impl Fn() -> Fault,
    ) -> bool {
        let late = |waiting: &Waiting| now.saturating_duration_since(waiting.since) >= limit;
        let before = self.list.len();
        for waiting in self.list.extract_if(.., |waiting| late(waiting)) {
            let _ = waiting.reply.send(Err(fault()));
        }
        before > 0 && self.list.is_empty()
    }

    /// Answers all. Nobody may be there any more.
    pub(super) fn tell(self, outcome: &Outcome) {
        for waiting in self.list {
            let _ = waiting.reply.send(outcome.clone());
        }
    }
}

/// A checkpoint on its way.
struct Checkpoint {
    token: u64,
    /// Sessions of the link when it was ordered.
    sessions: u64,
    written: Option<Instant>,
    stopped: Option<Instant>,
    seen: Option<SeenCheckpoint>,
    waiters: Waiters,
}

/// How far a failover has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The fencing command has to succeed first.
    Fences,
    /// QEMU has got the command.
    Given,
}

/// A failover on its way.
struct Failover {
    stage: Stage,
    waiters: Waiters,
}

impl Failover {
    /// The order, for what is said of it.
    fn order(&self) -> Order {
        Order::Failover {
            fenced: self.stage == Stage::Given,
            never_led: false,
        }
    }
}

/// An order without an outcome, as `status` shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnderWay {
    order: Order,
    waits_for: &'static str,
    since: Instant,
    timed_out: bool,
    by: Giver,
}

impl UnderWay {
    pub(super) fn of(order: Order, waits_for: &'static str, waiters: &Waiters) -> Self {
        Self {
            order,
            waits_for,
            since: waiters.since,
            timed_out: waiters.is_empty(),
            by: waiters.by,
        }
    }

    /// At this moment.
    pub(super) fn status(&self, now: Instant) -> OrderStatus {
        OrderStatus {
            order: self.order,
            waits_for: self.waits_for,
            since_s: now.saturating_duration_since(self.since).as_secs_f64(),
            timed_out: self.timed_out,
            by: self.by,
        }
    }
}

/// The orders of one pair.
#[derive(Default)]
pub(super) struct Orders {
    tokens: u64,
    checkpoint: Option<Checkpoint>,
    failover: Option<Failover>,
    /// Failovers whose fencing command has succeeded.
    fenced: Vec<Waiting>,
    announcement: Option<Waiters>,
    examinations: Vec<ReplyTo>,
    name: String,
}

impl Orders {
    /// None yet.
    pub(crate) fn new(pair: &str) -> Self {
        Self {
            name: pair.to_owned(),
            ..Self::default()
        }
    }

    fn failed(&self, order: Order, why: impl Into<String>) -> Fault {
        failed(&self.name, order, why)
    }

    /// A request was written to the monitor.
    pub(crate) fn written(&mut self, token: u64, at: Instant) {
        if let Some(checkpoint) = self.checkpoint.as_mut().filter(|it| it.token == token) {
            checkpoint.written = Some(at);
        }
    }

    /// A request failed, perhaps an ordered one.
    pub(super) fn request_failed(&mut self, token: u64, why: &str) {
        if self.checkpoint.as_ref().is_some_and(|it| it.token == token) {
            self.end_checkpoint(why);
        }
    }

    /// No checkpoint comes of the one that was ordered.
    pub(super) fn end_checkpoint(&mut self, why: &str) {
        if let Some(checkpoint) = self.checkpoint.take() {
            let fault = self.failed(Order::Checkpoint, why);
            checkpoint.waiters.tell(&Err(fault));
        }
    }

    /// The number of sessions that the nodes have had.
    pub(super) fn session(&mut self, sessions: u64) {
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|it| it.sessions != sessions)
        {
            self.end_checkpoint(
                "one of the nodes has begun anew meanwhile, and what the other VM has loaded since then is not known; \
                 order it again",
            );
        }
    }

    /// The VM has stopped.
    pub(crate) fn stopped(&mut self, at: Instant) {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.stopped.get_or_insert(at);
        }
    }

    /// The VM goes on. Returns the checkpoint that was ordered, if it has been taken.
    pub(crate) fn resumed(&mut self, at: Instant) -> Option<SeenCheckpoint> {
        let checkpoint = self.checkpoint.as_mut()?;
        let stopped = checkpoint.stopped?;
        let seen = SeenCheckpoint {
            reason: "ordered",
            at,
            stop: checkpoint
                .written
                .map(|written| stopped.saturating_duration_since(written)),
            pause: at.saturating_duration_since(stopped),
        };
        Some(*checkpoint.seen.get_or_insert(seen))
    }

    /// A checkpoint was committed.
    pub(crate) fn committed(&mut self) {
        let Some(checkpoint) = self.checkpoint.take_if(|it| it.seen.is_some()) else {
            return;
        };
        let seen = checkpoint.seen.as_ref();
        let outcome = json!({
            "stop_ms": seen.and_then(|seen| seen.stop).map(|stop| stop.as_secs_f64() * 1e3),
            "pause_ms": seen.map(|seen| seen.pause.as_secs_f64() * 1e3),
        });
        checkpoint.waiters.tell(&Ok(outcome));
    }

    /// Gives up a checkpoint that nothing proves, and answers those whose time is over. Whether an announcement is to
    /// be withdrawn.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let unproven = self.checkpoint.as_ref().is_some_and(|checkpoint| {
            let seen = checkpoint.seen.as_ref();
            seen.is_some_and(|seen| now.saturating_duration_since(seen.at) >= PROOF)
        });
        if unproven {
            self.end_checkpoint(
                "the VM stopped and went on, and nothing proves that the other VM has loaded its state; see status",
            );
        }
        let name = &self.name;
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.waiters.expire(now, CHECKPOINT, || {
                late(
                    name,
                    Order::Checkpoint,
                    CHECKPOINT,
                    "QEMU has got the request, which cannot be withdrawn: it may still take the checkpoint, which costs a \
                     pause and nothing else. Until then status names it, and another order asks QEMU again",
                )
            });
        }
        if let Some(failover) = &mut self.failover {
            let order = failover.order();
            let now_is = match failover.stage {
                Stage::Fences => {
                    "it is withdrawn: the fencing command may still end, and QEMU does not get x-colo-lost-heartbeat"
                }
                Stage::Given => {
                    "QEMU has got x-colo-lost-heartbeat, which cannot be withdrawn, and has not answered: this VM may \
                     still go on, so do not let the other one go on. Until QEMU answers or ends, status names the order"
                }
            };
            let expired = failover
                .waiters
                .expire(now, FAILOVER, || late(name, order, FAILOVER, now_is));
            if expired && failover.stage == Stage::Fences {
                self.failover = None;
            }
        }
        self.announcement.as_mut().is_some_and(|waiters| {
            waiters.expire(now, ANNOUNCEMENT, || {
                late(
                    name,
                    Order::Announce,
                    ANNOUNCEMENT,
                    "it is withdrawn, but what has left may still reach the peer, which then waits up to its \
                     --restart-limit. Until the peer acknowledges it status names it",
                )
            })
        })
    }

    /// What has no outcome yet.
    pub(super) fn under_way(&self) -> impl Iterator<Item = UnderWay> {
        let checkpoint = self.checkpoint.as_ref().map(|it| {
            let waits_for = match (it.stopped, it.seen) {
                (None, _) => "the event STOP",
                (Some(_), None) => "the event RESUME",
                (Some(_), Some(_)) => "the proof that the other VM has loaded the state",
            };
            UnderWay::of(Order::Checkpoint, waits_for, &it.waiters)
        });
        let failover = self.failover.as_ref().map(|it| {
            let waits_for = match it.stage {
                Stage::Fences => "the fencing command",
                Stage::Given => "QEMU's answer to x-colo-lost-heartbeat",
            };
            UnderWay::of(it.order(), waits_for, &it.waiters)
        });
        let announcement = self.announcement.as_ref();
        let announcement =
            announcement.map(|it| UnderWay::of(Order::Announce, "the peer's acknowledgment", it));
        checkpoint.into_iter().chain(failover).chain(announcement)
    }

    /// The monitor is gone: nothing comes of what it was asked.
    pub(crate) fn disconnected(&mut self) {
        let why = "QEMU's monitor was lost meanwhile; see status";
        self.end_checkpoint(why);
        self.failed_over(Err(why.to_owned()));
        let fault = self.failed(Order::Examine, why);
        self.tell_examiners(&Err(fault));
    }

    /// QEMU has answered what it was asked about itself.
    pub(super) fn examined(&mut self, said: Value) {
        self.tell_examiners(&Ok(said));
    }

    fn tell_examiners(&mut self, outcome: &Outcome) {
        for reply in self.examinations.drain(..) {
            // Nobody may be there any more.
            let _ = reply.send(outcome.clone());
        }
    }

    /// QEMU has accepted the failover command, or there will be none.
    pub(crate) fn failed_over(&mut self, outcome: Result<(), String>) {
        let Some(failover) = self.failover.take() else {
            return;
        };
        let outcome = outcome
            .map(|()| json!({ "accepted": true }))
            .map_err(|why| self.failed(failover.order(), why));
        failover.waiters.tell(&outcome);
    }

    /// One more failover is ordered, of a peer that is `certain` to be down, or whose fencing has to be waited for. What
    /// is to be done for it now: nothing where it has joined one that is as far.
    fn order_failover(&mut self, waiting: Waiting, certain: bool) -> Option<Stage> {
        let stage = match certain {
            true => Stage::Given,
            false => Stage::Fences,
        };
        let name = &self.name;
        match &mut self.failover {
            Some(under_way) => {
                let order = under_way.order();
                let refusal = || failed(name, order, TOO_MANY);
                under_way.waiters.join(waiting, refusal);
                let goes_on = under_way.stage == Stage::Fences && certain;
                under_way.stage = if certain {
                    Stage::Given
                } else {
                    under_way.stage
                };
                goes_on.then_some(Stage::Given)
            }
            None => {
                let waiters = Waiters::new(waiting);
                self.failover = Some(Failover { stage, waiters });
                Some(stage)
            }
        }
    }

    /// Whether a failover waits for the fencing command.
    pub(super) fn awaits_fencing(&self) -> bool {
        let stage = self.failover.as_ref().map(|it| it.stage);
        stage == Some(Stage::Fences)
    }

    /// The peer has received the announcement of a restart.
    pub(super) fn announced(&mut self) {
        if let Some(waiters) = self.announcement.take() {
            waiters.tell(&Ok(json!({ "announced": true })));
        }
    }
}

pub(super) const TOO_MANY: &str = "too many wait for the same; see status";

pub(super) fn failed(pair: &str, order: Order, why: impl Into<String>) -> Fault {
    Fault::Failed {
        pair: pair.to_owned(),
        order,
        why: why.into(),
    }
}

pub(super) fn late(pair: &str, order: Order, limit: Duration, now: &str) -> Fault {
    Fault::Timeout {
        what: format!("pair {pair}: {order}"),
        seconds: limit.as_secs_f64(),
        now: now.to_owned(),
    }
}

impl ControlPair {
    /// Carries an order out, or begins to; `status` is the pair at this moment.
    pub(crate) fn carry_out(
        &mut self,
        posted: PostedOrder,
        status: &PairStatus,
        now: Instant,
        clock: Clock,
        log: &Log,
    ) {
        let PostedOrder {
            order, reply, by, ..
        } = posted;
        let waiting = Waiting {
            reply,
            since: now,
            by,
        };
        let Some(waiting) = self.judge(order, waiting, status, log) else {
            return;
        };
        if order == Order::Examine {
            return self.order_examination(waiting.reply, now);
        }
        log.alert(format_args!(
            "pair {}: control socket ({by}): {order} is ordered",
            self.settings.name
        ));
        match order {
            Order::Examine => {}
            Order::Protect => self.order_protection(waiting.reply, now),
            Order::Switchover => self.order_switchover(waiting, now),
            Order::Checkpoint => {
                let sessions = status.link.as_ref().map_or(0, |link| link.sessions);
                self.order_checkpoint(waiting, sessions, now);
            }
            Order::Failover { fenced, .. } => {
                let certain = fenced || status.is_peer_certainly_lost();
                self.order_failover(certain, waiting, now, log);
            }
            Order::Announce => {
                let name = &self.settings.name;
                match &mut self.orders.announcement {
                    Some(waiters) => {
                        waiters.join(waiting, || failed(name, Order::Announce, TOO_MANY));
                    }
                    None => self.orders.announcement = Some(Waiters::new(waiting)),
                }
                self.announce_restart("the control socket", log);
            }
            Order::SetTimeout(timeout) => {
                self.set_timeout(timeout, clock, log);
                let outcome = json!({ "compare_timeout_ms": timeout.as_millis() as u64 });
                let _ = waiting.reply.send(Ok(outcome));
            }
        }
    }

    /// Frames that wait for their counterpart are overdue at this age from now on.
    pub(crate) fn set_timeout(&mut self, timeout: Duration, clock: Clock, log: &Log) {
        self.settings.compare_timeout = timeout;
        self.tell(ToPoll::Timeout(clock.ticks(timeout)));
        log.info(format_args!(
            "pair {}: compare-timeout is {} ms now",
            self.settings.name,
            timeout.as_millis()
        ));
    }

    /// Goes on with a failover whose fencing command has succeeded, unless the peer was heard meanwhile.
    pub(crate) fn go_on_fenced(
        &mut self,
        waiting: Waiting,
        status: &PairStatus,
        now: Instant,
        log: &Log,
    ) {
        // The operator's word about the past was judged before the command ran.
        let order = Order::Failover {
            fenced: true,
            never_led: true,
        };
        if let Some(waiting) = self.judge(order, waiting, status, log) {
            self.order_failover(true, waiting, now, log);
        }
    }

    /// Whether the pair may be ordered so now; who gave the order hears why it may not.
    fn judge(
        &self,
        order: Order,
        waiting: Waiting,
        status: &PairStatus,
        log: &Log,
    ) -> Option<Waiting> {
        let means = match self.settings.failover.on_peer_lost {
            OnPeerLost::Exec(_) => Means::Command,
            OnPeerLost::Hold | OnPeerLost::Release => Means::Nothing,
        };
        let Err(fault) = check(order, status, means) else {
            return Some(waiting);
        };
        log.urgent(
            "order",
            format_args!(
                "control socket ({}): {order} is refused: {fault}",
                waiting.by
            ),
        );
        let _ = waiting.reply.send(Err(fault));
        None
    }

    fn order_examination(&mut self, reply: ReplyTo, now: Instant) {
        let Some(client) = &mut self.client else {
            return;
        };
        match client.examine(now) {
            Ok(()) if self.orders.examinations.len() < WAITING => {
                self.orders.examinations.push(reply);
            }
            Ok(()) => {}
            Err(error) => {
                let fault = self.orders.failed(Order::Examine, error.to_string());
                let _ = reply.send(Err(fault));
            }
        }
    }

    fn order_checkpoint(&mut self, waiting: Waiting, sessions: u64, now: Instant) {
        let orders = &mut self.orders;
        // One whose time is over is asked for again.
        let dead = |it: &mut Checkpoint| it.waiters.is_empty() && it.stopped.is_none();
        orders.checkpoint.take_if(dead);
        let name = &orders.name;
        if let Some(under_way) = &mut orders.checkpoint {
            let begun = || {
                let why = "another one has begun before this order, and has not ended; order it again after that";
                failed(name, Order::Checkpoint, why)
            };
            if under_way.stopped.is_none() {
                under_way
                    .waiters
                    .join(waiting, || failed(name, Order::Checkpoint, TOO_MANY));
            } else {
                let _ = waiting.reply.send(Err(begun()));
            }
            return;
        }
        orders.tokens += 1;
        let token = ORDERED | orders.tokens;
        let Some(client) = &mut self.client else {
            return;
        };
        match client.request_checkpoint(token, now) {
            Ok(()) => {
                orders.checkpoint = Some(Checkpoint {
                    token,
                    sessions,
                    written: None,
                    stopped: None,
                    seen: None,
                    waiters: Waiters::new(waiting),
                });
            }
            Err(error) => {
                let fault = orders.failed(Order::Checkpoint, error.to_string());
                let _ = waiting.reply.send(Err(fault));
            }
        }
    }

    fn order_failover(&mut self, certain: bool, waiting: Waiting, now: Instant, log: &Log) {
        // QEMU may have got the command from the node itself, which was certain then.
        let given = self.failover_owed.is_some();
        match self.orders.order_failover(waiting, certain || given) {
            Some(Stage::Given) if !given => self.give_failover_command(now, log),
            // The node may be fencing by itself.
            Some(Stage::Fences) if self.fencing.is_none() => {
                self.start_fencing(OPERATORS, now, log);
            }
            _ => {}
        }
    }

    /// Gives QEMU the command that somebody has ordered.
    fn give_failover_command(&mut self, now: Instant, log: &Log) {
        if let Err(why) = self.take_lead_back() {
            return self.orders.failed_over(Err(why));
        }
        let Some(client) = &mut self.client else {
            return;
        };
        log.urgent(
            "failover-ordered",
            format_args!(
                "pair {}: giving QEMU x-colo-lost-heartbeat, as ordered",
                self.settings.name
            ),
        );
        match client.fail_over(now) {
            Ok(()) => self.failover_owed = Some(now),
            Err(error) => self.orders.failed_over(Err(error.to_string())),
        }
    }

    /// The fencing command has ended: a failover that waits for it goes on, or fails.
    pub(super) fn go_on_after_fencing(&mut self, failure: Option<&str>) {
        if !self.orders.awaits_fencing() {
            return;
        }
        match failure {
            // The peer may have been heard while the command ran, so the order is judged again (rule R6).
            None => {
                let failover = self.orders.failover.take();
                let waiting = failover.into_iter().flat_map(|it| it.waiters.list);
                self.orders.fenced.extend(waiting);
            }
            Some(how) => self.orders.failed_over(Err(format!(
                "the fencing command failed ({how}); nothing was done. Make sure of the peer yourself and order the \
                 failover with fenced"
            ))),
        }
    }

    /// Failovers whose fencing command has succeeded, to be judged again.
    pub(crate) fn take_fenced(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.orders.fenced)
    }

    /// Starts the fencing command; a poll core's number, or [`OPERATORS`].
    pub(super) fn start_fencing(&mut self, number: u32, now: Instant, log: &Log) {
        let OnPeerLost::Exec(command) = &self.settings.failover.on_peer_lost else {
            return;
        };
        let (name, role) = (&self.settings.name, self.settings.role.role());
        log.urgent(
            "fencing-begins",
            format_args!("pair {name}: the peer is lost; running {command:?}"),
        );
        match Fencing::start(command, number, name, role.as_str(), now) {
            Ok(fencing) => self.fencing = Some(fencing),
            Err(error) => {
                let what = format!("{command:?} cannot be started: {error}");
                log.error(
                    "fencing",
                    format_args!("pair {name}: {what}; still holding"),
                );
                self.tell_fenced(number, false);
                self.go_on_after_fencing(Some(&what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, TryRecvError, bounded};

    use super::*;
    use crate::control::Class;

    const TOKEN: u64 = ORDERED | 1;
    const BY: Giver = Giver { uid: 7, pid: 9 };

    fn waiting(since: Instant) -> (Waiting, Receiver<Outcome>) {
        let (reply, outcome) = bounded(1);
        let waiting = Waiting {
            reply,
            since,
            by: BY,
        };
        (waiting, outcome)
    }

    fn ordered(since: Instant) -> (Orders, Receiver<Outcome>) {
        let (first, outcome) = waiting(since);
        let mut orders = Orders::new("vm0");
        orders.checkpoint = Some(Checkpoint {
            token: TOKEN,
            sessions: 1,
            written: None,
            stopped: None,
            seen: None,
            waiters: Waiters::new(first),
        });
        (orders, outcome)
    }

    fn fault(outcome: &Receiver<Outcome>) -> Fault {
        let outcome = outcome.try_recv().expect("an outcome");
        outcome.expect_err("it failed")
    }

    fn is_open(outcome: &Receiver<Outcome>) -> bool {
        outcome.try_recv() == Err(TryRecvError::Empty)
    }

    /// What waits, and whether its time is over.
    fn under_way(orders: &Orders) -> Vec<(&'static str, bool)> {
        let under_way = orders.under_way();
        under_way.map(|it| (it.waits_for, it.timed_out)).collect()
    }

    #[test]
    fn a_checkpoint_is_done_when_it_is_committed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut orders, outcome) = ordered(start);
        orders.written(7, at(1));
        assert!(orders.resumed(at(2)).is_none(), "it has not stopped");
        // The commit of a checkpoint before.
        orders.committed();
        orders.written(TOKEN, at(10));
        assert_eq!(under_way(&orders), [("the event STOP", false)]);
        orders.stopped(at(12));
        orders.stopped(at(13));
        assert_eq!(under_way(&orders), [("the event RESUME", false)]);
        let seen = orders.resumed(at(20)).expect("it was taken");
        assert_eq!(
            (seen.reason, seen.pause),
            ("ordered", Duration::from_millis(8))
        );
        orders.look(at(21));
        assert!(is_open(&outcome));
        orders.committed();
        let value = outcome.try_recv().expect("an outcome").expect("done");
        assert_eq!(value, json!({"stop_ms": 2.0, "pause_ms": 8.0}));
        assert_eq!(under_way(&orders), []);
    }

    #[test]
    fn what_nothing_proves_and_what_qemu_refuses_has_failed() {
        let start = Instant::now();
        let (mut orders, outcome) = ordered(start);
        orders.stopped(start);
        orders.resumed(start);
        orders.look(start + PROOF - Duration::from_millis(1));
        assert!(is_open(&outcome));
        orders.look(start + PROOF);
        assert_eq!(fault(&outcome).class(), Class::Failed);
        let (mut orders, outcome) = ordered(start);
        orders.request_failed(7, "another's");
        assert!(is_open(&outcome));
        orders.request_failed(TOKEN, "no");
        assert_eq!(fault(&outcome).class(), Class::Failed);
        let (mut orders, outcome) = ordered(start);
        orders.disconnected();
        assert_eq!(fault(&outcome).class(), Class::Failed);
    }

    #[test]
    fn a_checkpoint_ends_with_colo_and_with_the_session() {
        let (mut orders, outcome) = ordered(Instant::now());
        orders.session(1);
        assert!(is_open(&outcome));
        orders.session(2);
        assert!(fault(&outcome).to_string().contains("begun anew"));
        let (mut orders, outcome) = ordered(Instant::now());
        orders.end_checkpoint("COLO has ended");
        assert!(fault(&outcome).to_string().contains("COLO has ended"));
        assert_eq!(under_way(&orders), []);
    }

    #[test]
    fn a_checkpoint_that_is_never_taken_times_out_for_each_who_waits() {
        let start = Instant::now();
        let (mut orders, first) = ordered(start);
        let (later, second) = waiting(start + CHECKPOINT / 2);
        let checkpoint = orders.checkpoint.as_mut().expect("it is there");
        checkpoint
            .waiters
            .join(later, || unreachable!("there is room"));
        orders.look(start + CHECKPOINT - Duration::from_millis(1));
        assert!(is_open(&first) && is_open(&second));
        orders.look(start + CHECKPOINT);
        let said = fault(&first);
        assert_eq!(said.class(), Class::Timeout);
        assert!(said.to_string().contains("cannot be withdrawn"), "{said}");
        assert!(is_open(&second));
        assert_eq!(under_way(&orders), [("the event STOP", false)]);
        orders.look(start + CHECKPOINT / 2 + CHECKPOINT);
        assert_eq!(fault(&second).class(), Class::Timeout);
        assert_eq!(under_way(&orders), [("the event STOP", true)]);
        // QEMU takes it at last.
        orders.stopped(start);
        orders.resumed(start);
        orders.committed();
        assert_eq!(under_way(&orders), []);
    }

    #[test]
    fn all_that_wait_for_a_failover_hear_of_it() {
        let start = Instant::now();
        let mut orders = Orders::new("vm0");
        let (first, one) = waiting(start);
        let (second, other) = waiting(start);
        assert_eq!(orders.order_failover(first, false), Some(Stage::Fences));
        assert_eq!(orders.order_failover(second, false), None);
        assert!(orders.awaits_fencing());
        orders.failed_over(Ok(()));
        for outcome in [one, other] {
            let accepted = Ok(json!({"accepted": true}));
            assert_eq!(outcome.try_recv(), Ok(accepted));
        }
        assert!(!orders.awaits_fencing());
    }

    #[test]
    fn a_failover_joins_one_that_is_as_far_and_does_nothing_twice() {
        let start = Instant::now();
        let mut orders = Orders::new("vm0");
        let order = |orders: &mut Orders, certain| {
            let (waiting, outcome) = waiting(start);
            (orders.order_failover(waiting, certain), outcome)
        };
        assert_eq!(order(&mut orders, false).0, Some(Stage::Fences));
        // The operator's word overtakes the fencing command.
        assert_eq!(order(&mut orders, true).0, Some(Stage::Given));
        for certain in [false, true] {
            assert_eq!(order(&mut orders, certain).0, None, "QEMU has it");
            assert!(!orders.awaits_fencing());
        }
    }

    #[test]
    fn a_failover_that_is_late_is_withdrawn_or_named_until_qemu_answers() {
        let start = Instant::now();
        let mut orders = Orders::new("vm0");
        let (first, outcome) = waiting(start);
        orders.order_failover(first, false);
        orders.look(start + FAILOVER);
        assert!(fault(&outcome).to_string().contains("it is withdrawn"));
        assert_eq!(under_way(&orders), []);
        let (first, outcome) = waiting(start);
        orders.order_failover(first, true);
        orders.look(start + FAILOVER);
        let said = fault(&outcome).to_string();
        assert!(said.contains("cannot be withdrawn"), "{said}");
        let waits_for = "QEMU's answer to x-colo-lost-heartbeat";
        assert_eq!(under_way(&orders), [(waits_for, true)]);
        orders.failed_over(Ok(()));
        assert_eq!(under_way(&orders), []);
    }

    #[test]
    fn an_announcement_that_is_late_is_to_be_withdrawn_once() {
        let start = Instant::now();
        let mut orders = Orders::new("vm0");
        let (first, outcome) = waiting(start);
        orders.announcement = Some(Waiters::new(first));
        assert!(!orders.look(start + ANNOUNCEMENT - Duration::from_millis(1)));
        assert!(orders.look(start + ANNOUNCEMENT));
        assert!(!orders.look(start + ANNOUNCEMENT * 2));
        assert_eq!(fault(&outcome).class(), Class::Timeout);
        assert_eq!(under_way(&orders), [("the peer's acknowledgment", true)]);
        orders.announced();
        assert_eq!(under_way(&orders), []);
    }
}
