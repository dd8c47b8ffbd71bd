//! What an operator sees of a pair: the counters of its poll core, and what the control thread knows of its QEMU.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ControlPair, Figures};
use crate::bringup::Progress;
use crate::config::{FailoverSettings, LinkKey, OnPeerLost, PortRole, Role, RuleName};
use crate::control::{
    self, CheckpointStatus, FailoverParameters, HeldStatus, LastCheckpoint, LinkStatus,
    MonitorStatus, PairParameters, PairStatus, PeerStatus, ProtectStatus, RefusedFrames,
    RingStatus, RoleNow,
};
use crate::node::control::advice::advice;
use crate::node::mailbox::ToPoll;
use crate::observability::counters::{Counter, Snapshot};
use crate::observability::summary::MonitorState;
use crate::protect::{Migration, State};
use crate::qmp::Version;

/// A checkpoint as the monitor has shown it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenCheckpoint {
    pub(super) reason: &'static str,
    pub(super) at: Instant,
    pub(super) stop: Option<Duration>,
    pub(super) pause: Duration,
}

/// What the control thread knows beyond the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(super) state: State,
    since: Instant,
    version: Option<Version>,
    migration: Migration,
    ring: bool,
    /// Commits, or of a secondary its epochs, at the last look.
    commits: u64,
    /// RESUME has come, and the commit has not been seen.
    resumed: Option<SeenCheckpoint>,
    last: Option<SeenCheckpoint>,
    /// Why a checkpoint was requested last.
    cause: Option<&'static str>,
    /// Why frames of the link did not count, and when the last of them came.
    refused: Option<(&'static str, Instant)>,
    /// How far an ordered protection is.
    pub(super) protect: Option<Progress>,
    /// A VM that follows could go on without loss.
    pub(super) promotable: bool,
    /// This node has given up its lead, and no other VM is heard to lead.
    ceded: bool,
    /// The other node has ceded its lead.
    peer_ceded: bool,
}

impl Facts {
    /// Nothing is known yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Solo,
            since: now,
            version: None,
            migration: Migration::None,
            ring: false,
            commits: 0,
            resumed: None,
            last: None,
            cause: None,
            refused: None,
            protect: None,
            promotable: false,
            ceded: false,
            peer_ceded: false,
        }
    }

    /// A checkpoint was requested.
    pub(super) fn requested(&mut self, cause: &'static str) {
        self.cause = Some(cause);
    }

    /// Frames of the link did not count.
    pub(super) fn refused(&mut self, why: &'static str, now: Instant) {
        self.refused = Some((why, now));
    }

    /// The VM has gone on after a stop; whether that was a checkpoint the commits say.
    pub(super) fn resumed(&mut self, seen: SeenCheckpoint) {
        self.resumed = Some(seen);
    }

    /// Looks at the counters; whether a checkpoint was committed since the last look.
    fn look(&mut self, state: State, commits: u64, now: Instant) -> bool {
        if state != self.state {
            (self.state, self.since) = (state, now);
        }
        if std::mem::replace(&mut self.commits, commits) != commits {
            self.last = self.resumed.take().or(self.last);
            return true;
        }
        false
    }
}

impl ControlPair {
    /// Shows in the figures what is known now.
    pub(crate) fn show_facts(&mut self, now: Instant, figures: &mut Figures) {
        let counters = figures.counters();
        let state = state_of(&counters).unwrap_or(State::Solo);
        let role = role_now(self.settings.role.role(), &counters);
        figures.lead(matches!(role, RoleNow::Primary | RoleNow::Compare), now);
        let commits = counters.value(figures.commits());
        if self.facts.look(state, commits, now) {
            self.orders.committed();
        }
        self.orders.session(counters.value(Counter::LinkSessions));
        if self.orders.look(now) {
            self.bringup.withdrawn();
            self.tell(ToPoll::WithdrawRestart);
        }
        figures.set_timeout(self.settings.compare_timeout);
        figures.orders.clear();
        figures.orders.extend(self.orders.under_way());
        figures.orders.extend(self.cession.under_way());
        self.facts.version = self.version;
        self.facts.migration = self.migration;
        self.facts.ring = self.ring.is_some();
        self.facts.protect = self.bringup.progress();
        let role = role_now(self.settings.role.role(), &counters);
        self.facts.promotable =
            role == RoleNow::Secondary && counters.value(Counter::Promotable) == 1;
        self.facts.ceded = self.cession.is_open();
        self.facts.peer_ceded = role == RoleNow::Secondary && self.cession.has_peer_ceded();
        figures.facts = self.facts;
    }
}

/// The role that a node has now, by what it began as and its counters.
pub(super) fn role_now(began_as: Role, counters: &Snapshot) -> RoleNow {
    let is = |counter| counters.value(counter) == 1;
    match began_as {
        Role::Compare => RoleNow::Compare,
        _ if is(Counter::Superseded) => RoleNow::Superseded,
        Role::Secondary if !is(Counter::TakenOver) => RoleNow::Secondary,
        Role::Primary | Role::Secondary => RoleNow::Primary,
    }
}

fn state_of(counters: &Snapshot) -> Option<State> {
    let code = usize::try_from(counters.value(Counter::State)).ok()?;
    State::ALL.get(code).copied()
}

fn migration_word(migration: Migration) -> &'static str {
    match migration {
        Migration::None => "none",
        Migration::Colo => "colo",
        Migration::Completed => "completed",
        Migration::Broken => "broken",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Figures {
    fn counters(&self) -> Snapshot {
        let mut counters = Snapshot::zero(self.settings.policy.len());
        for (_, core) in &self.cores {
            counters.merge(&core.snapshot());
        }
        counters
    }

    /// The counter that grows with each checkpoint.
    fn commits(&self) -> Counter {
        match self.settings.role.role() {
            Role::Secondary if !self.has_taken_over() => Counter::Epochs,
            _ => Counter::Commits,
        }
    }

    /// The rules that let output leave uncompared, and how many frames each has let out.
    pub(crate) fn policy(&self) -> Vec<Value> {
        let counters = self.counters();
        let of_defaults = [
            Counter::PolicyArp,
            Counter::PolicyNeighbourDiscovery,
            Counter::PolicyLldp,
            Counter::PolicyIgmp,
            Counter::PolicyMld,
        ];
        let defaults = RuleName::DEFAULTS.into_iter().zip(of_defaults);
        let defaults = defaults.map(|(name, counter)| {
            json!({ "name": name, "default": true, "frames": counters.value(counter) })
        });
        let own = self.settings.policy.iter().zip(counters.rules());
        let own = own.map(|(rule, frames)| {
            let mut shown = rule.to_json();
            shown["default"] = json!(false);
            shown["action"] = json!(if rule.mask.is_some() {
                "mask"
            } else {
                "exempt"
            });
            shown["frames"] = json!(frames);
            shown
        });
        defaults.chain(own).collect()
    }

    fn has_taken_over(&self) -> bool {
        let core = self.cores.first();
        core.is_some_and(|(_, core)| core.value(Counter::TakenOver) == 1)
    }

    /// The pair at this moment.
    pub(crate) fn status(&self, now: Instant) -> PairStatus {
        let counters = self.counters();
        let value = |counter| counters.value(counter);
        let facts = &self.facts;
        let began_as = self.settings.role.role();
        let taken_over = self.has_taken_over();
        let state = state_of(&counters).unwrap_or(facts.state);
        let since = match state == facts.state {
            true => now.saturating_duration_since(facts.since),
            false => Duration::ZERO,
        };
        let role = role_now(began_as, &counters);
        let mut pair = PairStatus {
            name: self.settings.name.clone(),
            role,
            taken_over,
            promotable: false,
            promotable_why: String::new(),
            state,
            since_s: since.as_secs_f64(),
            epoch: value(Counter::Epoch),
            why: String::new(),
            todo: None,
            ceded: role == RoleNow::Superseded && facts.ceded,
            monitor: self.monitor_status(),
            ring: (began_as != Role::Compare).then_some(RingStatus { runs: facts.ring }),
            link: self.link_status(&counters, now),
            peer: self.peer_status(&counters),
            checkpoints: CheckpointStatus {
                requested: value(Counter::Requests),
                committed: value(self.commits()),
                last: facts.last.map(|last| LastCheckpoint {
                    reason: last.reason,
                    ago_s: now.saturating_duration_since(last.at).as_secs_f64(),
                    stop_ms: last.stop.map(|stop| stop.as_secs_f64() * 1e3),
                    pause_ms: last.pause.as_secs_f64() * 1e3,
                }),
            },
            reset_s: None,
            protect: facts.protect.map(|progress| ProtectStatus {
                step: progress.step.word(),
                done: progress.done,
                total: progress.total,
            }),
            held: HeldStatus {
                frames: value(Counter::Held),
                most: value(Counter::HeldMax),
                limit: self.settings.hold_frames.get().into(),
            },
            orders: self.orders.iter().map(|it| it.status(now)).collect(),
            parameters: self.parameters(),
        };
        let follows = role == RoleNow::Secondary && pair.has_monitor();
        pair.promotable = follows && value(Counter::Promotable) == 1;
        pair.promotable_why = control::promotable(&pair);
        pair.why = control::why(&pair, facts.cause);
        pair.todo = control::todo(
            &pair,
            advice(state, role, &self.settings.failover.on_peer_lost),
        );
        pair
    }

    fn monitor_status(&self) -> Option<MonitorStatus> {
        let address = self.settings.role.qmp()?;
        let state = self.monitor.map_or(MonitorState::Absent, |seen| seen.state);
        Some(MonitorStatus {
            address: address.to_string(),
            state: state.word(),
            qemu: self.facts.version.map(|version| version.to_string()),
            migration: migration_word(self.facts.migration),
            waits_for: self.monitor.and_then(|seen| seen.waits_for),
            waits_ms: self.monitor.map_or(0, |seen| seen.waits_ms),
        })
    }

    fn link_status(&self, counters: &Snapshot, now: Instant) -> Option<LinkStatus> {
        let mut ports = self.settings.ports();
        let (_, port) = ports.find(|(place, _)| *place == PortRole::Link)?;
        Some(LinkStatus {
            port: port.to_string(),
            sealed: matches!(self.settings.role.link_key(), Some(LinkKey::File(_))),
            sessions: counters.value(Counter::LinkSessions),
            refused: self.facts.refused.map(|(why, at)| RefusedFrames {
                why,
                ago_s: now.saturating_duration_since(at).as_secs_f64(),
            }),
        })
    }

    fn peer_status(&self, counters: &Snapshot) -> Option<PeerStatus> {
        if self.settings.role.role() == Role::Compare {
            return None;
        }
        let silence_ms = counters.value(Counter::PeerSilence);
        let lost_after_ms = millis(self.settings.failover.silence());
        Some(PeerStatus {
            // Before the first session the silence counts from the start.
            heard: counters.value(Counter::LinkSessions) > 0 && silence_ms < lost_after_ms,
            silence_ms,
            lost_after_ms,
            losses: counters.value(Counter::PeerLosses),
            certainly_lost: counters.value(Counter::PeerGone) == 1,
            ceded: self.facts.peer_ceded,
        })
    }

    fn parameters(&self) -> PairParameters {
        let pair = &self.settings;
        let policy = pair.policy.iter().map(|rule| rule.name.to_string());
        PairParameters {
            vm_id: pair.vm_id,
            compare_timeout_ms: millis(pair.compare_timeout),
            flows: pair.flows.get().into(),
            policy: policy.collect(),
            failover: (pair.role.role() != Role::Compare).then(|| failover(&pair.failover)),
        }
    }
}

fn failover(settings: &FailoverSettings) -> FailoverParameters {
    FailoverParameters {
        mode: settings.mode.to_string(),
        on_peer_lost: match &settings.on_peer_lost {
            OnPeerLost::Hold => "hold".to_owned(),
            OnPeerLost::Release => "release".to_owned(),
            OnPeerLost::Exec(command) => format!("exec:{command}"),
        },
        heartbeat_ms: millis(settings.heartbeat),
        peer_stall_limit_ms: millis(settings.peer_stall_limit),
        restart_limit_ms: millis(settings.restart_limit),
    }
}
