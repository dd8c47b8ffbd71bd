//! A pair's bring-up: its script between the monitor, the peer's control thread and the operators who have ordered it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ControlPair;
use crate::bringup::{Addresses, Bringup, ContOwed, Failure, Message, Outcome, Output, Progress};
use crate::config::{ListenAddress, Role};
use crate::control::{Fault, Order};
use crate::error_chain::chain;
use crate::link::{Assembler, Piece};
use crate::node::control::orders::ReplyTo;
use crate::node::mailbox::ToPoll;
use crate::observability::log::Log;
use crate::protect::{Migration, State};
use crate::qmp::{Event, RequestFailure, RunState};

/// Operators that may wait for one and the same bring-up.
const WAITING: usize = 32;

/// A primary's order waits so long for this node's QEMU, which may have been started a moment before.
const MONITOR: Duration = Duration::from_secs(20);

/// At the node's end QEMU's last reply is waited for so long.
const LAST_REPLY: Duration = Duration::from_secs(2);

/// What there is of a pair's bring-up.
#[derive(Default)]
pub(super) struct PairBringup {
    script: Option<Bringup>,
    /// The script tidies disks, and protects nothing.
    tidies: bool,
    begun: Option<Instant>,
    /// Of the command that the monitor has not answered; another one's answer does not count.
    token: u64,
    replies: Vec<ReplyTo>,
    /// What the primary wants of a QEMU whose monitor has not answered yet, and since when.
    early: Option<(Message, Instant)>,
    notes: Assembler,
    /// An operator has announced then that this node restarts.
    restarts: Option<Instant>,
    cont_owed: ContOwed,
    /// The primary's attempt that this node has ended well: the primary may miss the word of it.
    done: Option<u32>,
}

impl PairBringup {
    /// How far it is, if it is under way.
    pub(super) fn progress(&self) -> Option<Progress> {
        let script = self.script.as_ref().filter(|_| !self.tidies);
        script.map(Bringup::progress)
    }

    /// This node is about to restart.
    pub(super) fn announced(&mut self, now: Instant) {
        self.restarts = Some(now);
    }

    /// It does not restart, or not yet.
    pub(super) fn withdrawn(&mut self) {
        self.restarts = None;
    }

    /// Whether it was announced less than this ago; a node that is still here then was not restarted.
    fn is_announced(&self, now: Instant, limit: Duration) -> bool {
        self.restarts
            .is_some_and(|at| now.saturating_duration_since(at) < limit)
    }

    /// The monitor is gone.
    pub(super) fn disconnected(&mut self) {
        if let Some(script) = &mut self.script {
            script.lose_monitor();
        }
    }

    /// The VM goes on.
    pub(super) fn resumed(&mut self) {
        self.cont_owed.resumed();
    }

    /// Milliseconds since this bring-up began.
    fn time(&self, now: Instant) -> u64 {
        let begun = self.begun.unwrap_or(now);
        u64::try_from(now.saturating_duration_since(begun).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The number of an attempt.
pub(super) fn attempt() -> u32 {
    // Two attempts with one number would have to follow each other; if no randomness is to be had, they do not.
    getrandom::u32().unwrap_or(1)
}

impl ControlPair {
    /// An operator wants the pair to be protected; the order was judged before.
    pub(super) fn order_protection(&mut self, reply: ReplyTo, now: Instant) {
        let restarts = self.restarts(now);
        let refused = |why: &str| Fault::Refused {
            pair: self.settings.name.clone(),
            why: why.to_owned(),
        };
        let fault = match (&self.bringup.script, self.version) {
            _ if restarts => Some(refused(
                "a restart of this node was announced; restart it, and order it again",
            )),
            (Some(_), _) if self.bringup.tidies => Some(refused(
                "QEMU's disks are still tidied after the last protection; order it again",
            )),
            (Some(_), _) => {
                if self.bringup.replies.len() < WAITING && !self.bringup.replies.is_empty() {
                    self.bringup.replies.push(reply);
                    return;
                }
                Some(refused(
                    "the last attempt is still being changed back; order it again",
                ))
            }
            (None, None) => Some(refused(
                "QEMU's monitor has not answered yet; order it again",
            )),
            (None, Some(version)) => {
                self.bringup.begun = Some(now);
                self.bringup.script = Some(Bringup::primary(attempt(), version, 0));
                self.bringup.replies.push(reply);
                return;
            }
        };
        // Nobody may be there any more.
        let _ = reply.send(fault.map_or_else(|| Ok(Value::Null), Err));
    }

    /// Whether a restart of this node was announced, and its time has not passed.
    pub(super) fn restarts(&self, now: Instant) -> bool {
        let limit = self.settings.failover.restart_limit;
        self.bringup.is_announced(now, limit)
    }

    /// A piece of what the peer's control thread tells.
    pub(super) fn take_note(&mut self, piece: Piece, now: Instant, log: &Log) {
        let Some(text) = self.bringup.notes.push(piece) else {
            return;
        };
        let Some(message) = Message::of_text(&text) else {
            log.warning(
                "note",
                format_args!(
                    "pair {}: the peer's node tells something that this release does not understand",
                    self.settings.name
                ),
            );
            return;
        };
        if let Message::MayLead { attempt } = message {
            return self.answer_whether_it_may_lead(attempt, now);
        }
        if self.take_answer(&message, now) || self.take_word_of_unprotection(&message, now, log) {
            return;
        }
        if matches!(message, Message::Prepare { .. }) {
            self.bringup.early = Some((message, now));
            return self.look_at_early(now, log);
        }
        if matches!(message, Message::Abandon { .. }) {
            self.bringup.early = None;
        }
        if let Some(script) = &mut self.bringup.script {
            script.hear(message);
        } else if self.state == State::Protected
            && let Some(answer) = message.answered_by(self.bringup.done)
        {
            self.tell_peer(&answer);
        }
    }

    /// Prepares for what the primary wants, once the monitor answers or has been waited for.
    fn look_at_early(&mut self, now: Instant, log: &Log) {
        let connected = self.connected && self.version.is_some();
        let due = self
            .bringup
            .early
            .take_if(|(_, since)| connected || now.saturating_duration_since(*since) >= MONITOR);
        if let Some((message, _)) = due {
            self.prepare(&message, now, log);
        }
    }

    /// The primary's node wants this node's QEMU for its VM's state.
    fn prepare(&mut self, message: &Message, now: Instant, log: &Log) {
        let name = &self.settings.name;
        let follows = self.settings.role.role() == Role::Secondary;
        let why = match (&self.bringup.script, self.version) {
            _ if !follows => Some("it was not started as a secondary: --role secondary"),
            _ if self.restarts(now) => Some("its restart was announced; restart it first"),
            (_, None) => Some("its QEMU's monitor has not answered; start QEMU, or see its log"),
            _ if !self.connected => {
                Some("its QEMU's monitor does not answer; start QEMU, or see its log")
            }
            _ if self.migration == Migration::Completed => {
                Some("its own VM has gone on by itself; order it at that node")
            }
            (Some(_), _) => {
                Some("it was busy with an earlier attempt, which it gives up; order it again")
            }
            (None, Some(_)) => None,
        };
        if let Some(script) = &mut self.bringup.script {
            let attempt = script.attempt();
            script.hear(Message::Abandon {
                attempt,
                why: "another attempt has begun".to_owned(),
            });
        }
        if let Some(why) = why {
            let failure = Failure::new(why);
            return self.tell_peer(&Message::refused(message.attempt(), &failure));
        }
        let Some(version) = self.version else {
            return;
        };
        log.info(format_args!(
            "pair {name}: the primary's node brings the pair up; making QEMU ready"
        ));
        let addresses = Addresses {
            migration: self.settings.migrate_listen.map(ListenAddress::address),
            nbd: self.settings.nbd_listen.map(ListenAddress::address),
        };
        self.bringup.begun = Some(now);
        self.bringup.script = Bringup::secondary(message, addresses, version, 0);
    }

    /// QEMU has answered.
    pub(super) fn executed(&mut self, token: u64, result: Result<Value, RequestFailure>) {
        self.bringup.cont_owed.replied(token, result.is_ok());
        if token != self.bringup.token {
            return;
        }
        if let Some(script) = &mut self.bringup.script {
            script.replied(result.map_err(|failure| chain(&failure).to_string()));
        }
    }

    /// Lets the script go on, and does what it wants.
    pub(super) fn look_at_bringup(&mut self, now: Instant, log: &Log) {
        self.look_at_early(now, log);
        let time = self.bringup.time(now);
        let protected = self.state == State::Protected && self.migration == Migration::Colo;
        let Some(script) = &mut self.bringup.script else {
            return;
        };
        script.look(time, protected);
        while let Some(output) = self.bringup.script.as_mut().and_then(Bringup::next_output) {
            match output {
                Output::Tell(message) => self.tell_peer(&message),
                Output::Execute { name, arguments } => self.execute(name, arguments, now),
            }
        }
        let ended = self.bringup.script.as_mut().and_then(Bringup::take_outcome);
        if let Some(outcome) = ended {
            let attempt = self.bringup.script.take().map(|script| script.attempt());
            if std::mem::take(&mut self.bringup.tidies) {
                return self.disks_tidied(outcome.map(drop), now, log);
            }
            self.bringup.done = attempt.filter(|_| outcome.is_ok());
            self.end_bringup(outcome, log);
        }
    }

    /// Takes out of the VM's disks what another secondary has left there.
    pub(super) fn tidy_disks(&mut self, now: Instant) {
        self.bringup.begun = Some(now);
        self.bringup.tidies = true;
        self.bringup.script = Some(Bringup::tidying(attempt(), 0));
    }

    fn execute(&mut self, name: &'static str, arguments: Value, now: Instant) {
        self.bringup.token += 1;
        let token = self.bringup.token;
        let sent = match &mut self.client {
            Some(client) => client.execute(token, name, arguments, now),
            None => return,
        };
        if sent.is_ok() {
            self.bringup.cont_owed.executes(token, name);
        }
        if let Err(error) = sent
            && let Some(script) = &mut self.bringup.script
        {
            script.replied(Err(error.to_string()));
        }
    }

    /// The monitor answers again, and the VM is in this state. One that a bring-up has stopped goes on.
    pub(super) fn connected_in(&mut self, run: RunState, now: Instant, log: &Log) {
        if self.bringup.cont_owed.connects(run) {
            log.urgent(
                "cont",
                format_args!(
                    "pair {}: the monitor was lost while a bring-up had stopped the VM; it is given cont",
                    self.settings.name
                ),
            );
            self.execute("cont", Value::Null, now);
        }
    }

    /// The node ends: a VM that a bring-up has stopped goes on, if QEMU answers.
    pub(crate) fn end(&mut self, log: &Log) {
        if !self.bringup.cont_owed.is_owed() {
            return;
        }
        let name = self.settings.name.clone();
        if self.connected {
            self.execute("cont", Value::Null, Instant::now());
        }
        // QEMU drops a command that it has not begun when its monitor's client goes.
        let until = Instant::now() + LAST_REPLY;
        while self.connected && self.bringup.cont_owed.is_owed() && Instant::now() < until {
            match self.client.as_mut().and_then(|it| it.poll(Instant::now())) {
                Some(Event::Executed { token, result }) => {
                    self.bringup.cont_owed.replied(token, result.is_ok());
                }
                Some(Event::Disconnected(_)) => self.connected = false,
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        match self.bringup.cont_owed.is_owed() {
            true => log.urgent(
                "cont",
                format_args!(
                    "pair {name}: a bring-up has stopped the VM, and QEMU has not answered cont; give it cont"
                ),
            ),
            false => log.urgent(
                "cont",
                format_args!("pair {name}: a bring-up had stopped the VM; it was given cont"),
            ),
        }
    }

    pub(super) fn tell_peer(&mut self, message: &Message) {
        for piece in Piece::all(&message.to_text()) {
            self.tell(ToPoll::Note(piece));
        }
    }

    fn end_bringup(&mut self, outcome: Result<Outcome, Failure>, log: &Log) {
        let name = &self.settings.name;
        match &outcome {
            Ok(outcome) => {
                log.info(format_args!(
                    "pair {name}: protected after {:.1} s{}",
                    outcome.ms as f64 / 1e3,
                    match outcome.disks.is_empty() {
                        true => String::new(),
                        false => format!(", disks: {}", outcome.disks.join(", ")),
                    }
                ));
                if !outcome.others.is_empty() {
                    log.alert(format_args!(
                        "pair {name}: not replicated: {}; what the VM writes there does not survive its host \
                         (docs/disk.md)",
                        outcome.others.join(", ")
                    ));
                }
            }
            Err(failure) => log.alert(format_args!("pair {name}: not protected: {failure}")),
        }
        let outcome = match outcome {
            Ok(outcome) => Ok(json!({
                "protected": true,
                "ms": outcome.ms,
                "bytes": outcome.transferred,
                "disks": outcome.disks,
                "not_replicated": outcome.others,
            })),
            Err(failure) => Err(Fault::Failed {
                pair: name.clone(),
                order: Order::Protect,
                why: failure.to_string(),
            }),
        };
        for reply in std::mem::take(&mut self.bringup.replies) {
            // Nobody may be there any more.
            let _ = reply.send(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_restart_that_does_not_come_keeps_nobody_from_protecting() {
        let (begin, limit) = (Instant::now(), Duration::from_secs(30));
        let mut bringup = PairBringup::default();
        assert!(!bringup.is_announced(begin, limit));
        bringup.announced(begin);
        assert!(bringup.is_announced(begin + limit / 2, limit));
        assert!(!bringup.is_announced(begin + limit, limit));
        bringup.announced(begin);
        bringup.withdrawn();
        assert!(!bringup.is_announced(begin, limit));
    }
}
