//! An operator's orders: how far each has come, and its outcome.
//!
//! An order does what a signal, an operator at QEMU's monitor or `--failover auto` does, and by the same code. What it
//! adds is the reply.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ControlPair;
use super::facts::SeenCheckpoint;
use crate::config::OnPeerLost;
use crate::control::{Fault, Means, Order, PairStatus, check};
use crate::node::control::fencing::Fencing;
use crate::node::control::orders::{PostedOrder, ReplyTo};
use crate::observability::log::Log;

/// Marks the token of a checkpoint that was ordered; the poll core counts its own from 1.
const ORDERED: u64 = 1 << 63;
/// A fencing command of this number is the operator's: no poll core has asked for it.
pub(super) const OPERATORS: u32 = 0;
/// The commit is seen within this after RESUME, or the stop was no checkpoint.
const PROOF: Duration = Duration::from_secs(2);
/// Operators that may wait for one and the same thing.
const WAITING: usize = 32;

/// A checkpoint on its way.
struct Checkpoint {
    token: u64,
    written: Option<Instant>,
    stopped: Option<Instant>,
    seen: Option<SeenCheckpoint>,
    replies: Vec<ReplyTo>,
}

/// A failover on its way.
struct Failover {
    /// The fencing command has to succeed first.
    fences: bool,
    replies: Vec<ReplyTo>,
}

/// The orders of one pair.
#[derive(Default)]
pub(super) struct Orders {
    tokens: u64,
    checkpoint: Option<Checkpoint>,
    failover: Option<Failover>,
    /// Failovers whose fencing command has succeeded.
    fenced: Vec<ReplyTo>,
    announcements: Vec<ReplyTo>,
    name: String,
}

impl Orders {
    /// None yet.
    pub fn new(pair: &str) -> Self {
        Self {
            name: pair.to_owned(),
            ..Self::default()
        }
    }

    fn failed(&self, order: Order, why: impl Into<String>) -> Fault {
        Fault::Failed {
            pair: self.name.clone(),
            order,
            why: why.into(),
        }
    }

    /// A request was written to the monitor.
    pub fn written(&mut self, token: u64, at: Instant) {
        if let Some(checkpoint) = self.checkpoint.as_mut().filter(|it| it.token == token) {
            checkpoint.written = Some(at);
        }
    }

    /// A request failed, perhaps an ordered one.
    pub fn request_failed(&mut self, token: u64, why: &str) {
        if let Some(checkpoint) = self.checkpoint.take_if(|it| it.token == token) {
            let fault = self.failed(Order::Checkpoint, why);
            reply(checkpoint.replies, Err(fault));
        }
    }

    /// The VM has stopped.
    pub fn stopped(&mut self, at: Instant) {
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.stopped.get_or_insert(at);
        }
    }

    /// The VM goes on. Returns the checkpoint that was ordered, if it has been taken.
    pub fn resumed(&mut self, at: Instant) -> Option<SeenCheckpoint> {
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
    pub fn committed(&mut self) {
        let Some(checkpoint) = self.checkpoint.take_if(|it| it.seen.is_some()) else {
            return;
        };
        let seen = checkpoint.seen.as_ref();
        let outcome = json!({
            "stop_ms": seen.and_then(|seen| seen.stop).map(|stop| stop.as_secs_f64() * 1e3),
            "pause_ms": seen.map(|seen| seen.pause.as_secs_f64() * 1e3),
        });
        reply(checkpoint.replies, Ok(outcome));
    }

    /// Gives up a checkpoint that nothing proves.
    pub fn look(&mut self, now: Instant) {
        let late = |checkpoint: &mut Checkpoint| {
            let seen = checkpoint.seen.as_ref();
            seen.is_some_and(|seen| now.saturating_duration_since(seen.at) >= PROOF)
        };
        if let Some(checkpoint) = self.checkpoint.take_if(late) {
            let why = "the VM stopped and went on, and nothing proves that the other VM has loaded its state; see status";
            let fault = self.failed(Order::Checkpoint, why);
            reply(checkpoint.replies, Err(fault));
        }
    }

    /// The monitor is gone: nothing comes of what it was asked.
    pub fn disconnected(&mut self) {
        let why = "QEMU's monitor was lost meanwhile; see status";
        if let Some(checkpoint) = self.checkpoint.take() {
            let fault = self.failed(Order::Checkpoint, why);
            reply(checkpoint.replies, Err(fault));
        }
        self.failed_over(Err(why.to_owned()));
    }

    /// QEMU has accepted the failover command, or there will be none.
    pub fn failed_over(&mut self, outcome: Result<(), String>) {
        let Some(failover) = self.failover.take() else {
            return;
        };
        let fences = failover.fences;
        let order = Order::Failover { fenced: !fences };
        let outcome = outcome
            .map(|()| json!({ "accepted": true }))
            .map_err(|why| self.failed(order, why));
        reply(failover.replies, outcome);
    }

    /// Whether a failover waits for the fencing command.
    pub fn awaits_fencing(&self) -> bool {
        self.failover.as_ref().is_some_and(|it| it.fences)
    }

    /// The peer has received the announcement of a restart.
    pub fn announced(&mut self) {
        let replies = std::mem::take(&mut self.announcements);
        reply(replies, Ok(json!({ "announced": true })));
    }
}

/// Tells all that wait. Nobody may be there any more.
fn reply(to: Vec<ReplyTo>, outcome: Result<Value, Fault>) {
    for to in to {
        let _ = to.send(outcome.clone());
    }
}

impl ControlPair {
    /// Carries an order out, or begins to; `status` is the pair at this moment.
    pub fn carry_out(&mut self, posted: PostedOrder, status: &PairStatus, now: Instant, log: &Log) {
        let PostedOrder { order, reply, .. } = posted;
        let means = match self.settings.failover.on_peer_lost {
            OnPeerLost::Exec(_) => Means::Command,
            OnPeerLost::Hold | OnPeerLost::Release => Means::Nothing,
        };
        if let Err(fault) = check(order, status, means) {
            log.warning("order", format_args!("control socket: refused: {fault}"));
            // Nobody may be there any more.
            let _ = reply.send(Err(fault));
            return;
        }
        log.alert(format_args!(
            "pair {}: control socket: {order} is ordered",
            self.settings.name
        ));
        match order {
            Order::Protect => self.order_protection(reply, now),
            Order::Checkpoint => self.order_checkpoint(reply, now),
            Order::Failover { fenced } => {
                // A primary that goes on alone has made sure already.
                let certain = fenced || status.state == crate::protect::State::Solo;
                self.order_failover(certain, reply, now, log);
            }
            Order::Announce => {
                if self.orders.announcements.len() < WAITING {
                    self.orders.announcements.push(reply);
                }
                self.announce_restart("the control socket", log);
            }
        }
    }

    fn order_checkpoint(&mut self, reply: ReplyTo, now: Instant) {
        let orders = &mut self.orders;
        if let Some(under_way) = &mut orders.checkpoint {
            if under_way.stopped.is_none() && under_way.replies.len() < WAITING {
                under_way.replies.push(reply);
            } else {
                let fault = orders.failed(
                    Order::Checkpoint,
                    "another one has begun before this order; order it again",
                );
                let _ = reply.send(Err(fault));
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
                    written: None,
                    stopped: None,
                    seen: None,
                    replies: vec![reply],
                });
            }
            Err(error) => {
                let fault = orders.failed(Order::Checkpoint, error.to_string());
                let _ = reply.send(Err(fault));
            }
        }
    }

    fn order_failover(&mut self, certain: bool, reply: ReplyTo, now: Instant, log: &Log) {
        match &mut self.orders.failover {
            Some(under_way) => {
                under_way.fences &= !certain;
                if under_way.replies.len() < WAITING {
                    under_way.replies.push(reply);
                }
            }
            None => {
                self.orders.failover = Some(Failover {
                    fences: !certain,
                    replies: vec![reply],
                });
            }
        }
        if certain {
            return self.give_failover_command(now, log);
        }
        // The node may be fencing by itself.
        if self.fencing.is_none() {
            self.start_fencing(OPERATORS, now, log);
        }
    }

    /// Gives QEMU the command that somebody has ordered.
    fn give_failover_command(&mut self, now: Instant, log: &Log) {
        let Some(client) = &mut self.client else {
            return;
        };
        log.warning(
            "failover-ordered",
            format_args!(
                "pair {}: giving QEMU x-colo-lost-heartbeat, as ordered",
                self.settings.name
            ),
        );
        if let Err(error) = client.fail_over(now) {
            self.orders.failed_over(Err(error.to_string()));
        }
    }

    /// The fencing command has ended: a failover that waits for it goes on, or fails.
    pub(super) fn go_on_after_fencing(&mut self, failure: Option<&str>) {
        if !self.orders.awaits_fencing() {
            return;
        }
        match failure {
            // The peer may have been heard while the command ran, so the order is judged again (rule R6).
            None => self.orders.fenced.extend(
                self.orders
                    .failover
                    .take()
                    .into_iter()
                    .flat_map(|it| it.replies),
            ),
            Some(how) => self.orders.failed_over(Err(format!(
                "the fencing command failed ({how}); nothing was done. Make sure of the peer yourself and order the \
                 failover with fenced"
            ))),
        }
    }

    /// Failovers whose fencing command has succeeded, to be judged again.
    pub fn take_fenced(&mut self) -> Vec<ReplyTo> {
        std::mem::take(&mut self.orders.fenced)
    }

    /// Starts the fencing command; a poll core's number, or [`OPERATORS`].
    pub(super) fn start_fencing(&mut self, number: u32, now: Instant, log: &Log) {
        let OnPeerLost::Exec(command) = &self.settings.failover.on_peer_lost else {
            return;
        };
        let (name, role) = (&self.settings.name, self.settings.role.role());
        log.warning(
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
    use crate::node::control::orders::Outcome;

    const TOKEN: u64 = ORDERED | 1;

    fn ordered() -> (Orders, Receiver<Outcome>) {
        let (reply, outcome) = bounded(1);
        let mut orders = Orders::new("vm0");
        orders.checkpoint = Some(Checkpoint {
            token: TOKEN,
            written: None,
            stopped: None,
            seen: None,
            replies: vec![reply],
        });
        (orders, outcome)
    }

    fn class(outcome: &Receiver<Outcome>) -> Class {
        let outcome = outcome.try_recv().expect("an outcome");
        outcome.expect_err("it failed").class()
    }

    #[test]
    fn a_checkpoint_is_done_when_it_is_committed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut orders, outcome) = ordered();
        orders.written(7, at(1));
        assert!(orders.resumed(at(2)).is_none(), "it has not stopped");
        // The commit of a checkpoint before.
        orders.committed();
        orders.written(TOKEN, at(10));
        orders.stopped(at(12));
        orders.stopped(at(13));
        let seen = orders.resumed(at(20)).expect("it was taken");
        assert_eq!(
            (seen.reason, seen.pause),
            ("ordered", Duration::from_millis(8))
        );
        orders.look(at(21));
        assert_eq!(outcome.try_recv(), Err(TryRecvError::Empty));
        orders.committed();
        let value = outcome.try_recv().expect("an outcome").expect("done");
        assert_eq!(value, json!({"stop_ms": 2.0, "pause_ms": 8.0}));
    }

    #[test]
    fn what_nothing_proves_and_what_qemu_refuses_has_failed() {
        let start = Instant::now();
        let (mut orders, outcome) = ordered();
        orders.stopped(start);
        orders.resumed(start);
        orders.look(start + PROOF - Duration::from_millis(1));
        assert_eq!(outcome.try_recv(), Err(TryRecvError::Empty));
        orders.look(start + PROOF);
        assert_eq!(class(&outcome), Class::Failed);
        let (mut orders, outcome) = ordered();
        orders.request_failed(7, "another's");
        assert_eq!(outcome.try_recv(), Err(TryRecvError::Empty));
        orders.request_failed(TOKEN, "no");
        assert_eq!(class(&outcome), Class::Failed);
        let (mut orders, outcome) = ordered();
        orders.disconnected();
        assert_eq!(class(&outcome), Class::Failed);
    }

    #[test]
    fn all_that_wait_for_a_failover_hear_of_it() {
        let (mut orders, _) = ordered();
        let (reply, outcome) = bounded(2);
        orders.failover = Some(Failover {
            fences: true,
            replies: vec![reply.clone(), reply],
        });
        assert!(orders.awaits_fencing());
        orders.failed_over(Ok(()));
        let accepted = Ok(json!({"accepted": true}));
        assert_eq!(
            outcome.iter().collect::<Vec<_>>(),
            [accepted.clone(), accepted]
        );
        assert!(!orders.awaits_fencing());
    }
}
