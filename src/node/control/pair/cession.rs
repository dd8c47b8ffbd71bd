//! A lead that is given up or taken over as planned (`docs/switchover.md`): the steps of [`Switchover`] carried out
//! between the poll core, the file, the monitor and the other node's control thread.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ControlPair;
use super::orders::{self, UnderWay, Waiters, Waiting};
use crate::bringup::{Failure, Message};
use crate::config::{PortRole, Role};
use crate::control::{Fault, Moved, Next, Order, Switchover};
use crate::node::control::ceded_file::CededFile;
use crate::node::mailbox::ToPoll;
use crate::observability::log::Log;
use crate::protect::{CessionNews, Migration};

/// Longest time that somebody waits for a move of the lead.
const SWITCHOVER: Duration = Duration::from_secs(45);
/// The token of a command whose reply changes nothing. A bring-up counts its own from 1.
const UNHEEDED: u64 = 1 << 63;

/// What there is of a lead that is given up.
pub(super) struct PairCession {
    file: CededFile,
    /// The file is written: this node leads no more.
    ceded: bool,
    /// The VM that leads in its place was heard.
    succeeded: bool,
    /// The other node has ceded its lead to this one.
    peer_ceded: bool,
    switchover: Option<Switchover>,
    attempt: u32,
    begun: Instant,
    waiters: Option<Waiters>,
}

impl PairCession {
    /// Of a pair with this name; files are in `dir`.
    pub(super) fn new(dir: &Path, pair: &str, now: Instant) -> Self {
        Self {
            file: CededFile::new(dir, pair),
            ceded: false,
            succeeded: false,
            peer_ceded: false,
            switchover: None,
            attempt: 0,
            begun: now,
            waiters: None,
        }
    }

    /// The lead was given up, and no other VM is heard to lead.
    pub(super) fn is_open(&self) -> bool {
        self.ceded && !self.succeeded
    }

    /// A move is under way.
    pub(super) fn is_moving(&self) -> bool {
        self.switchover.is_some()
    }

    /// The other node has ceded its lead to this one.
    pub(super) fn has_peer_ceded(&self) -> bool {
        self.peer_ceded
    }

    /// Milliseconds since it began.
    fn time(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.begun);
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    }

    /// What has no outcome yet and was ordered.
    pub(super) fn under_way(&self) -> Option<UnderWay> {
        let waits_for = self.switchover.as_ref()?.waits_for();
        let waiters = self.waiters.as_ref()?;
        Some(UnderWay::of(Order::Switchover, waits_for, waiters))
    }

    /// The monitor is gone.
    pub(super) fn disconnected(&mut self) {
        if let Some(switchover) = &mut self.switchover {
            switchover.monitor_gone();
        }
    }

    /// The VM is another one, and leads nothing.
    pub(super) fn forget_file(&mut self) {
        // What stays there keeps a later node silent, which is safe and is said at its start.
        let _ = self.file.remove();
    }

    fn tell(&mut self, outcome: &Result<Value, Fault>) {
        if let Some(waiters) = self.waiters.take() {
            waiters.tell(outcome);
        }
    }
}

impl ControlPair {
    /// A node before this one has given up the lead in this place. To be called before the monitor is heard.
    pub(super) fn know_cession(&mut self, log: Option<&Log>) {
        let cession = &mut self.cession;
        if cession.ceded || !cession.file.is_there() {
            return;
        }
        cession.ceded = true;
        cession.switchover = Some(Switchover::left(cession.time(Instant::now())));
        self.tell(ToPoll::CessionIsWritten);
        if let Some(log) = log {
            self.tell_cession(log);
        }
    }

    /// Says at the start that this node is silent.
    pub(crate) fn tell_cession(&self, log: &Log) {
        if self.cession.is_open() {
            log.urgent(
                "ceded",
                format_args!(
                    "pair {}: a node before this one has given up its lead ({}): nothing leaves; see status",
                    self.settings.name,
                    self.cession.file.path().display()
                ),
            );
        }
    }

    /// An operator wants the other VM to lead; the order was judged before.
    pub(super) fn order_switchover(&mut self, waiting: Waiting, now: Instant) {
        let name = &self.settings.name;
        let why = match self.bringup.progress() {
            _ if self.restarts(now) => {
                Some("a restart of this node was announced; restart it, and order it again")
            }
            Some(_) => Some("a protection is under way; wait for its end"),
            None if self.unprotect.is_under_way() => {
                Some("an order of unprotect is under way; wait for its end")
            }
            None => None,
        };
        if let Some(why) = why {
            return waiting.answer(Err(Fault::Refused {
                pair: name.clone(),
                why: why.to_owned(),
            }));
        }
        let cession = &mut self.cession;
        if cession.switchover.is_some() {
            return match &mut cession.waiters {
                Some(waiters) => waiters.join(waiting, || {
                    orders::failed(name, Order::Switchover, orders::TOO_MANY)
                }),
                None => cession.waiters = Some(Waiters::new(waiting)),
            };
        }
        cession.begun = now;
        // One that no other attempt has; if no randomness is to be had, an answer to the one before may count.
        cession.attempt = getrandom::u32().unwrap_or(cession.attempt.wrapping_add(1));
        cession.waiters = Some(Waiters::new(waiting));
        cession.switchover = Some(Switchover::new(0));
        let attempt = cession.attempt;
        self.tell_peer(&Message::MayLead { attempt });
    }

    /// The other node asks whether this VM could lead.
    pub(super) fn answer_whether_it_may_lead(&mut self, attempt: u32, now: Instant) {
        let uplink = self
            .settings
            .ports()
            .any(|(place, _)| place == PortRole::Uplink);
        let why = match self.settings.role.role() {
            Role::Secondary if !self.facts.promotable => Some(
                "its VM could not go on without loss (promotable); wait with coloctl wait --for promotable there",
            ),
            Role::Secondary if !uplink => Some("it has no --uplink, so that its VM would be mute"),
            Role::Secondary if self.unprotect.is_under_way() => {
                Some("it gives up its VM (unprotect); see its status")
            }
            Role::Secondary if !self.connected => Some("its QEMU's monitor does not answer"),
            Role::Secondary if self.bringup.progress().is_some() => {
                Some("it is still at a protection; order it again")
            }
            Role::Secondary if self.restarts(now) => {
                Some("its restart was announced; restart it, and order it again")
            }
            Role::Secondary => None,
            Role::Primary | Role::Compare => Some("it was not started as a secondary"),
        };
        let answer = match why {
            None => Message::WillLead { attempt },
            Some(why) => Message::refused(attempt, &Failure::new(why)),
        };
        self.tell_peer(&answer);
    }

    /// The other node's answer to this one's question; false if it is none.
    pub(super) fn take_answer(&mut self, message: &Message, now: Instant) -> bool {
        let answer = match message {
            Message::WillLead { .. } => Ok(()),
            Message::Refused { why, .. } => Err(why.clone()),
            _ => return false,
        };
        let (time, attempt) = (self.cession.time(now), self.cession.attempt);
        match &mut self.cession.switchover {
            Some(switchover) if message.attempt() == attempt => {
                switchover.answered(answer, time);
                true
            }
            _ => false,
        }
    }

    /// What the poll core says of a lead that is given up.
    pub(super) fn take_cession_news(&mut self, news: CessionNews, now: Instant, log: &Log) {
        let name = &self.settings.name;
        match news {
            CessionNews::PeerCeded(ceded) => {
                self.cession.peer_ceded = ceded;
                if ceded {
                    log.alert(format_args!(
                        "pair {name}: the other node has ceded its lead"
                    ));
                }
            }
            CessionNews::Heard => log.info(format_args!(
                "pair {name}: the other node has heard that this one leads no more"
            )),
            CessionNews::Succeeded => self.cession.succeeded = true,
            CessionNews::Renounced | CessionNews::IsChosen => {
                return self.take_news_of_renunciation(news, now, log);
            }
            CessionNews::NotNow | CessionNews::Silent => {}
        }
        let time = self.cession.time(now);
        let switchover = self.cession.switchover.as_mut();
        let next = switchover.and_then(|switchover| switchover.news(news, time));
        self.go_on_with_switchover(next, now, log);
    }

    /// Lets a switchover go on, and tells what came of it.
    pub(super) fn look_at_cession(&mut self, now: Instant, log: &Log) {
        let (time, state) = (self.cession.time(now), self.facts.state);
        let in_colo = self.migration == Migration::Colo;
        let switchover = self.cession.switchover.as_mut();
        let next = switchover.and_then(|switchover| switchover.look(state, in_colo, time));
        self.go_on_with_switchover(next, now, log);
        let Some(switchover) = &mut self.cession.switchover else {
            return;
        };
        if let Some(moved) = switchover.take_outcome() {
            self.cession.switchover = None;
            return self.end_switchover(moved, log);
        }
        let (name, harmless, waits_for) = (
            &self.settings.name,
            switchover.is_harmless(),
            switchover.waits_for(),
        );
        let expired = self.cession.waiters.as_mut().is_some_and(|waiters| {
            waiters.expire(now, SWITCHOVER, || {
                let now_is = match harmless {
                    true => "it is withdrawn, and nothing has changed".to_owned(),
                    false => format!(
                        "this node leads no more, which cannot be withdrawn, and waits for {waits_for}; status says what \
                         to do"
                    ),
                };
                orders::late(name, Order::Switchover, SWITCHOVER, &now_is)
            })
        });
        if expired && harmless {
            (self.cession.switchover, self.cession.waiters) = (None, None);
        }
    }

    fn go_on_with_switchover(&mut self, next: Option<Next>, now: Instant, log: &Log) {
        match next {
            None => {}
            Some(Next::Cede) => self.tell(ToPoll::Cede),
            Some(Next::Write) => {
                let written = self.cession.file.write();
                self.cession.ceded = written.is_ok();
                if written.is_ok() {
                    log.alert(format_args!(
                        "pair {}: this node gives up its lead: nothing leaves any more",
                        self.settings.name
                    ));
                }
                let time = self.cession.time(now);
                let written = written.map_err(|error| error.to_string());
                let switchover = self.cession.switchover.as_mut();
                let next = switchover.and_then(|switchover| switchover.written(written, time));
                self.go_on_with_switchover(next, now, log);
            }
            Some(Next::Tell) => self.tell(ToPoll::CessionIsWritten),
            Some(Next::TakeBack) => {
                // A half of it may be there.
                self.cession.forget_file();
                self.tell(ToPoll::TakeBack);
            }
            Some(Next::Quit) => {
                let client = self.client.as_mut();
                let sent = client.map(|it| it.execute(UNHEEDED, "quit", Value::Null, now));
                if !matches!(sent, Some(Ok(()))) {
                    self.cession.disconnected();
                }
            }
        }
    }

    fn end_switchover(&mut self, moved: Moved, log: &Log) {
        let name = &self.settings.name;
        let outcome = match moved {
            Ok(ended) => {
                log.alert(format_args!(
                    "pair {name}: the other VM leads now{}",
                    match ended {
                        true => "",
                        false => "; this QEMU has not ended, end it",
                    }
                ));
                Ok(json!({ "moved": true, "qemu_ended": ended }))
            }
            Err(why) => {
                log.alert(format_args!("pair {name}: switchover: {why}"));
                Err(orders::failed(name, Order::Switchover, why))
            }
        };
        self.cession.tell(&outcome);
    }

    /// An operator answers for it that the other VM sends nothing: a lead that was given up is taken back.
    pub(super) fn take_lead_back(&mut self) -> Result<(), String> {
        self.take_vm_back()?;
        if !self.cession.is_open() {
            return Ok(());
        }
        let path = self.cession.file.path();
        self.cession.file.remove().map_err(|error| {
            format!(
                "{} says that this node leads no more, and cannot be removed: {error}",
                path.display()
            )
        })?;
        self.cession.ceded = false;
        self.cession.switchover = None;
        let why = "the lead was taken back by an ordered failover";
        let fault = orders::failed(&self.settings.name, Order::Switchover, why);
        self.cession.tell(&Err(fault));
        self.tell(ToPoll::TakeBack);
        Ok(())
    }

    /// The primary, which may run, has ceded its lead: this VM goes on, and its disk takes nothing from there.
    pub(super) fn succeed(&mut self, now: Instant, log: &Log) {
        log.urgent(
            "succession",
            format_args!(
                "pair {}: the other node has ceded its lead; giving QEMU x-colo-lost-heartbeat",
                self.settings.name
            ),
        );
        if let Some(client) = &mut self.client {
            // Where nothing is served QEMU refuses it.
            let _ = client.execute(UNHEEDED, "nbd-server-stop", Value::Null, now);
        }
        self.fail_over(now, log);
    }
}
