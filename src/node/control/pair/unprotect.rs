//! The end of a protection as planned (`docs/unprotect.md`): the steps of [`Unprotect`] at the node whose VM leads, and
//! those of [`Renunciation`] at the other one, carried out between poll core, file, monitor and the other node.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ControlPair;
use super::orders::{self, UnderWay, Waiters, Waiting};
use crate::bringup::{Failure, Message};
use crate::config::Role;
use crate::control::{AloneStep, Fault, Order, RenounceStep, Renunciation, Unprotect, Unprotected};
use crate::node::control::ceded_file::CededFile;
use crate::node::mailbox::ToPoll;
use crate::observability::log::Log;
use crate::protect::{CessionNews, Migration};
use crate::qmp::RunState;

/// Longest time that somebody waits for it.
const UNPROTECT: Duration = Duration::from_secs(45);
/// The token of a command whose reply changes nothing. A bring-up counts its own from 1.
const UNHEEDED: u64 = 1 << 63;

/// What there is of a protection that ends.
pub(super) struct PairUnprotect {
    file: CededFile,
    /// Primary: the order.
    unprotect: Option<Unprotect>,
    /// Secondary: its VM is given up, or is to be.
    renunciation: Option<Renunciation>,
    attempt: u32,
    begun: Instant,
    waiters: Option<Waiters>,
}

impl PairUnprotect {
    /// Of a pair with this name; files are in `dir`.
    pub(super) fn new(dir: &Path, pair: &str, now: Instant) -> Self {
        Self {
            file: CededFile::of_renunciation(dir, pair),
            unprotect: None,
            renunciation: None,
            attempt: 0,
            begun: now,
            waiters: None,
        }
    }

    /// This node's VM is given up, and the other node may know.
    pub(super) fn is_renounced(&self) -> bool {
        self.renunciation
            .as_ref()
            .is_some_and(Renunciation::is_said)
    }

    /// And the other VM goes on alone.
    pub(super) fn is_over(&self) -> bool {
        self.renunciation
            .as_ref()
            .is_some_and(Renunciation::is_over)
    }

    /// Whether this node is in the midst of either end.
    pub(super) fn is_under_way(&self) -> bool {
        self.unprotect.is_some() || self.renunciation.is_some()
    }

    /// Milliseconds since it began.
    fn time(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.begun);
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    }

    /// What has no outcome yet and was ordered.
    pub(super) fn under_way(&self) -> Option<UnderWay> {
        let waits_for = self.unprotect.as_ref()?.waits_for();
        let waiters = self.waiters.as_ref()?;
        Some(UnderWay::of(Order::Unprotect, waits_for, waiters))
    }

    fn tell(&mut self, outcome: &Result<Value, Fault>) {
        if let Some(waiters) = self.waiters.take() {
            waiters.tell(outcome);
        }
    }
}

impl ControlPair {
    /// An operator wants the pair to be one no more; the order was judged before.
    pub(super) fn order_unprotection(&mut self, waiting: Waiting, now: Instant) {
        let name = &self.settings.name;
        let why = match self.bringup.progress() {
            Some(_) => Some("a protection is under way; wait for its end"),
            None if self.cession.is_moving() => Some("a switchover is under way; wait for its end"),
            None if self.fencing.is_some() => {
                Some("the fencing command runs; wait for its end, and see status")
            }
            None if self.failover_owed.is_some() => {
                Some("QEMU has got x-colo-lost-heartbeat, and has not answered; see status")
            }
            None => None,
        };
        if let Some(why) = why {
            return waiting.answer(Err(Fault::Refused {
                pair: name.clone(),
                why: why.to_owned(),
            }));
        }
        let own = &mut self.unprotect;
        if own.unprotect.is_none() {
            own.attempt = super::bringup::attempt();
            own.unprotect = Some(Unprotect::new(own.time(now)));
        }
        match &mut own.waiters {
            Some(waiters) => waiters.join(waiting, || {
                orders::failed(name, Order::Unprotect, orders::TOO_MANY)
            }),
            None => own.waiters = Some(Waiters::new(waiting)),
        }
    }

    /// A word of the other node's that belongs to this; false if it does not.
    pub(super) fn take_word_of_unprotection(
        &mut self,
        message: &Message,
        now: Instant,
        log: &Log,
    ) -> bool {
        match message {
            Message::Renounce { attempt } => self.asked_to_renounce(*attempt, now, log),
            Message::Renounced { attempt } => self.peer_renounced(*attempt, now, log),
            Message::GoesOnAlone { attempt } => {
                let lives = self.connected;
                let own = &mut self.unprotect;
                if own.attempt == *attempt
                    && let Some(renunciation) = &mut own.renunciation
                {
                    let step = renunciation.released(lives);
                    self.go_on_renouncing(step, now, log);
                }
            }
            Message::Ended { attempt } => {
                if self.unprotect.attempt == *attempt
                    && let Some(unprotect) = &mut self.unprotect.unprotect
                {
                    unprotect.peer_ended();
                }
            }
            Message::Refused { attempt, why } if self.unprotect.attempt == *attempt => {
                let time = self.unprotect.time(now);
                let Some(unprotect) = &mut self.unprotect.unprotect else {
                    return false;
                };
                let step = unprotect.answered(Err(why.clone()), time);
                self.go_on_alone(step, now, log);
            }
            _ => return false,
        }
        true
    }

    /// The primary's node wants this one to give up its VM.
    fn asked_to_renounce(&mut self, attempt: u32, now: Instant, log: &Log) {
        if self.unprotect.is_renounced() || self.unprotect.file.is_there() {
            // Its answer may be lost, or it is another node's that asks now.
            self.unprotect.attempt = attempt;
            if self.unprotect.is_over() || self.unprotect.renunciation.is_none() {
                self.unprotect.renunciation = Some(Renunciation::left());
            }
            if let Some(renunciation) = &mut self.unprotect.renunciation {
                renunciation.asked_again();
            }
            self.tell(ToPoll::RenunciationIsWritten);
            return self.look_at_renunciation(now, log);
        }
        let why = match self.settings.role.role() {
            Role::Primary | Role::Compare => Some("it was not started as a secondary"),
            Role::Secondary if self.migration == Migration::Completed => {
                Some("its own VM goes on already; order it at the node whose VM leads")
            }
            Role::Secondary if self.bringup.progress().is_some() => {
                Some("it is still at a protection; order it again")
            }
            Role::Secondary if self.fencing.is_some() || self.failover_owed.is_some() => {
                Some("a failover to its own VM is under way; see its status")
            }
            Role::Secondary if self.cession.has_peer_ceded() => {
                Some("it was given the lead (switchover), and goes on; see its status")
            }
            Role::Secondary => None,
        };
        if let Some(why) = why {
            return self.tell_peer(&Message::refused(attempt, &Failure::new(why)));
        }
        self.unprotect.attempt = attempt;
        if self.unprotect.renunciation.is_none() {
            self.unprotect.renunciation = Some(Renunciation::new());
            self.go_on_renouncing(Some(RenounceStep::Silence), now, log);
        }
    }

    /// The other node has given up its VM, whether this one has asked for it or one before.
    fn peer_renounced(&mut self, attempt: u32, now: Instant, log: &Log) {
        let in_colo = self.migration == Migration::Colo;
        if !self.connected || self.bringup.progress().is_some() {
            // It says so again.
            return;
        }
        let time = self.unprotect.time(now);
        if self.unprotect.unprotect.is_none() {
            if !in_colo {
                return self.tell_peer(&Message::GoesOnAlone { attempt });
            }
            self.unprotect.unprotect = Some(Unprotect::new(time));
        }
        self.unprotect.attempt = attempt;
        let unprotect = self.unprotect.unprotect.as_mut();
        let step = unprotect.and_then(|it| match it.is_alone() {
            // It has not heard it.
            true => Some(AloneStep::Tell),
            false => it.answered(Ok(()), time),
        });
        self.go_on_alone(step, now, log);
    }

    /// What the poll core says of a VM that is to be given up.
    pub(super) fn take_news_of_renunciation(&mut self, news: CessionNews, now: Instant, log: &Log) {
        let done = match news {
            CessionNews::Renounced => true,
            CessionNews::IsChosen => false,
            _ => return,
        };
        // The poll core may have wanted a failover a moment before it heard of this.
        let late = done && (self.fencing.is_some() || self.failover_owed.is_some());
        if late {
            self.tell(ToPoll::TakeBack);
        }
        let renunciation = self.unprotect.renunciation.as_mut();
        let step = renunciation.and_then(|it| it.silenced(done && !late));
        self.go_on_renouncing(step, now, log);
    }

    /// Lets both ends go on, and tells what came of the order.
    pub(super) fn look_at_unprotection(&mut self, now: Instant, log: &Log) {
        self.look_at_renunciation(now, log);
        let (time, in_colo) = (self.unprotect.time(now), self.migration == Migration::Colo);
        let answers = self.connected;
        let unprotect = self.unprotect.unprotect.as_mut();
        let step = unprotect.and_then(|it| it.look(in_colo, answers, time));
        self.go_on_alone(step, now, log);
        let Some(unprotect) = &mut self.unprotect.unprotect else {
            return;
        };
        let (name, waits_for) = (&self.settings.name, unprotect.waits_for());
        if let Some(outcome) = unprotect.take_outcome() {
            self.unprotect.unprotect = None;
            return self.end_unprotection(outcome, log);
        }
        if let Some(waiters) = &mut self.unprotect.waiters {
            waiters.expire(now, UNPROTECT, || {
                let now_is = format!(
                    "the other node was asked to give up its VM, which cannot be withdrawn; this waits for {waits_for}, and \
                     status names it until then"
                );
                orders::late(name, Order::Unprotect, UNPROTECT, &now_is)
            });
        }
    }

    fn look_at_renunciation(&mut self, now: Instant, log: &Log) {
        let time = self.unprotect.time(now);
        let renunciation = self.unprotect.renunciation.as_mut();
        let step = renunciation.and_then(|it| it.look(time));
        self.go_on_renouncing(step, now, log);
    }

    fn go_on_alone(&mut self, step: Option<AloneStep>, now: Instant, log: &Log) {
        let attempt = self.unprotect.attempt;
        match step {
            None => {}
            Some(AloneStep::Ask) => self.tell_peer(&Message::Renounce { attempt }),
            Some(AloneStep::GoOn) => {
                log.alert(format_args!(
                    "pair {}: the other node has given up its VM; this one goes on alone",
                    self.settings.name
                ));
                self.tell(ToPoll::PeerRenounced);
            }
            Some(AloneStep::Detach) => self.tidy_disks(now),
            Some(AloneStep::Tell) => self.tell_peer(&Message::GoesOnAlone { attempt }),
        }
    }

    /// The disks hold nothing of the other VM any more, or cannot be tidied now.
    pub(super) fn disks_tidied(&mut self, outcome: Result<(), Failure>, now: Instant, log: &Log) {
        if let Err(failure) = outcome {
            log.warning(
                "tidy",
                format_args!(
                    "pair {}: the other image stays in the VM's disks until it is protected again: {failure}",
                    self.settings.name
                ),
            );
        }
        let time = self.unprotect.time(now);
        let unprotect = self.unprotect.unprotect.as_mut();
        let step = unprotect.and_then(|it| it.detached(time));
        self.go_on_alone(step, now, log);
    }

    fn go_on_renouncing(&mut self, step: Option<RenounceStep>, now: Instant, log: &Log) {
        let attempt = self.unprotect.attempt;
        match step {
            None => {}
            Some(RenounceStep::Silence) => self.tell(ToPoll::Renounce),
            Some(RenounceStep::Write) => {
                let written = self.unprotect.file.write();
                match &written {
                    Ok(()) => log.alert(format_args!(
                        "pair {}: this node gives up its VM at the other one's request: it never leads",
                        self.settings.name
                    )),
                    Err(error) => {
                        let why = Failure::new(format!(
                            "it cannot be written down there that its VM is given up ({error}); make room in EAL's runtime \
                             directory, or mend it"
                        ));
                        self.tell_peer(&Message::refused(attempt, &why));
                    }
                }
                let renunciation = self.unprotect.renunciation.as_mut();
                let step = renunciation.and_then(|it| it.written(written.is_ok()));
                self.go_on_renouncing(step, now, log);
            }
            Some(RenounceStep::TakeBack) => {
                // A half of it may be there.
                let _ = self.unprotect.file.remove();
                self.unprotect.renunciation = None;
                self.tell(ToPoll::TakeBack);
            }
            Some(RenounceStep::Say) => self.tell_peer(&Message::Renounced { attempt }),
            Some(RenounceStep::Refuse(why)) => {
                self.unprotect.renunciation = None;
                self.tell_peer(&Message::refused(attempt, &Failure::new(why)));
            }
            Some(RenounceStep::Quit) => {
                log.alert(format_args!(
                    "pair {}: the other VM goes on alone; this QEMU is given quit",
                    self.settings.name
                ));
                let client = self.client.as_mut();
                let sent = client.map(|it| it.execute(UNHEEDED, "quit", Value::Null, now));
                if !matches!(sent, Some(Ok(()))) {
                    self.renounced_qemu_is_gone(now, log);
                }
            }
            Some(RenounceStep::SayEnded) => self.tell_peer(&Message::Ended { attempt }),
        }
    }

    /// The monitor is gone.
    pub(super) fn renounced_qemu_is_gone(&mut self, now: Instant, log: &Log) {
        let renunciation = self.unprotect.renunciation.as_mut();
        let step = renunciation.and_then(Renunciation::monitor_gone);
        self.go_on_renouncing(step, now, log);
    }

    /// The monitor of a secondary answers: a VM that a node before this one has given up stays given up, and a QEMU that
    /// has run nothing is another one's.
    pub(super) fn know_renunciation(&mut self, run: RunState, migration: Migration, log: &Log) {
        if self.settings.role.role() != Role::Secondary {
            return;
        }
        if run == RunState::Inmigrate && migration == Migration::None {
            // What stays there keeps the VM from leading, which is safe and is said.
            let gone = self.unprotect.file.remove().is_ok();
            if gone && self.unprotect.renunciation.take().is_some() {
                self.tell(ToPoll::TakeBack);
            }
            if gone {
                return;
            }
        }
        if self.unprotect.file.is_there() {
            self.unprotect
                .renunciation
                .get_or_insert_with(Renunciation::left);
            self.tell(ToPoll::RenunciationIsWritten);
            log.urgent(
                "renounced",
                format_args!(
                    "pair {}: a node has given up this VM ({}): it never leads; see status",
                    self.settings.name,
                    self.unprotect.file.path().display()
                ),
            );
        }
    }

    /// An operator answers for it that the other VM sends nothing: a VM that was given up may lead after all.
    pub(super) fn take_vm_back(&mut self) -> Result<(), String> {
        if self.unprotect.renunciation.is_none() {
            return Ok(());
        }
        self.unprotect.file.remove().map_err(|error| {
            let path = self.unprotect.file.path().display();
            format!("{path} says that this VM is given up, and cannot be removed: {error}")
        })?;
        self.unprotect.renunciation = None;
        self.tell(ToPoll::TakeBack);
        Ok(())
    }

    fn end_unprotection(&mut self, outcome: Unprotected, log: &Log) {
        let name = &self.settings.name;
        let outcome = match outcome {
            Ok(ended) => {
                log.alert(format_args!(
                    "pair {name}: unprotected; the VM goes on alone{}",
                    match ended {
                        true => "",
                        false => "; the other QEMU was not heard to end, end it",
                    }
                ));
                Ok(json!({ "unprotected": true, "qemu_ended": ended }))
            }
            Err(why) => {
                log.alert(format_args!("pair {name}: unprotect: {why}"));
                Err(orders::failed(name, Order::Unprotect, why))
            }
        };
        self.unprotect.tell(&outcome);
    }
}
