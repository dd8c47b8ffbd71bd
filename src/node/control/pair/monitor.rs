//! What the pair's QEMU says, passed on to the poll core and to the log, and what it is asked.

use std::time::Instant;

use super::event_log::log_event;
use super::facts::SeenCheckpoint;
use super::guest::QUESTION;
use super::{ControlPair, Figures};
use crate::account::{Checkpoint, Origin};
use crate::config::Role;
use crate::dpdk::tsc;
use crate::error_chain::chain;
use crate::node::clock::Clock;
use crate::node::mailbox::ToPoll;
use crate::observability::latency::Interval;
use crate::observability::log::Log;
use crate::protect::{Migration, QemuEvent, Request};
use crate::qmp::{ColoMode, Event, MigrationStatus, Probe, RunState, Stamp};

/// What a state of QEMU's migration says of who may speak.
pub(super) fn migration(status: MigrationStatus) -> Migration {
    match status {
        MigrationStatus::Colo => Migration::Colo,
        MigrationStatus::Completed => Migration::Completed,
        MigrationStatus::Failing
        | MigrationStatus::Failed
        | MigrationStatus::Cancelling
        | MigrationStatus::Cancelled => Migration::Broken,
        _ => Migration::None,
    }
}

/// The VM stands still.
#[derive(Clone, Copy)]
pub(super) struct Stopped {
    /// Since then.
    pub(super) at: Stamp,
    /// It was in COLO before.
    in_colo: bool,
}

/// A checkpoint request on its way.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) written: Option<Instant>,
    /// When it was asked for first.
    pub(super) since: Instant,
}

impl ControlPair {
    pub(super) fn request(&mut self, request: Request, now: Instant, log: &Log) {
        let Some(client) = &mut self.client else {
            return;
        };
        match client.request_checkpoint(request.token, now) {
            Ok(()) => {
                self.facts.requested(request.cause.word());
                let before = self.asked.take();
                let before = before.filter(|before| before.request.seen == request.seen);
                self.asked = Some(Asked {
                    request,
                    written: None,
                    since: before.map_or(now, |before| before.since),
                })
            }
            Err(error) => log.warning(
                "request",
                format_args!(
                    "pair {}: cannot ask for a checkpoint: {error}",
                    self.settings.name
                ),
            ),
        }
    }

    /// Takes in what the monitor says: writes it to the log, and acts on it.
    pub(super) fn monitor_event(
        &mut self,
        event: Event,
        clock: Clock,
        log: &Log,
        figures: &mut impl FnMut(&mut dyn FnMut(&mut Figures)),
    ) {
        log_event(&event, &self.settings, log);
        match event {
            Event::Connected(probe) => self.monitor_connected(&probe, log),
            Event::Disconnected(_) => self.monitor_disconnected(log),
            Event::Stop { at } => self.vm_stopped(at, figures),
            Event::Resume { at } => self.vm_resumed(at, log, figures),
            Event::RunState(run) => self.tell(ToPoll::Monitor(QemuEvent::StoppedFor {
                load: run == RunState::Colo,
            })),
            Event::MigrationPass { .. } => self.tell(ToPoll::Monitor(QemuEvent::Pass)),
            Event::Migration { status, .. } => {
                self.migration = migration(status);
                if self.migration != Migration::Colo {
                    self.orders.end_checkpoint("QEMU has left COLO; see status");
                }
                self.tell(ToPoll::Monitor(QemuEvent::Migration(self.migration)));
            }
            Event::ColoExit { reason, .. } => {
                // No checkpoint follows.
                self.asked = None;
                self.orders
                    .end_checkpoint(&format!("COLO has ended (reason {reason:?}); see status"));
                self.tell(ToPoll::Monitor(QemuEvent::ColoExit));
            }
            Event::RequestWritten { token, at } => self.request_written(token, at, clock, figures),
            Event::RequestFailed { token, cause } => {
                self.orders
                    .request_failed(token, &chain(&cause).to_string());
            }
            Event::Barrier {
                token,
                run,
                migration,
            } => self.barrier_returned(token, run, migration),
            Event::BarrierFailed { token, .. } => self.barrier_failed(token),
            Event::Examined { said } => self.orders.examined(said),
            Event::Executed { token, result } => self.executed(token, result),
            Event::FailOverAccepted => {
                self.failover_owed = None;
                self.orders.failed_over(Ok(()));
            }
            Event::FailOverFailed { cause } => {
                self.failover_owed = None;
                self.orders.failed_over(Err(chain(&cause).to_string()));
            }
            Event::RequestAccepted { .. }
            | Event::EventsCapability { .. }
            | Event::LinkRaised { .. }
            | Event::Yanked { .. }
            | Event::YankFailed { .. }
            | Event::Late { .. }
            | Event::Shutdown { .. }
            | Event::Reset { .. } => {}
        }
    }

    /// What the monitor reported before it was connected is in the probe.
    fn monitor_connected(&mut self, probe: &Probe, log: &Log) {
        self.connected = true;
        self.version = Some(probe.version);
        let migration = migration(probe.migration);
        let running = probe.run == RunState::Running;
        let leads = probe.colo_mode == Some(ColoMode::Primary);
        self.know_offsets(migration, leads, log);
        self.know_renunciation(probe.run, migration, log);
        self.migration = migration;
        if running && migration == Migration::Completed {
            self.runs();
        }
        self.tell(ToPoll::Monitor(QemuEvent::Connected {
            migration,
            running,
            leads,
        }));
        if let Some(stops) = self.ring {
            self.ask_state(stops, Instant::now());
        }
        self.connected_in(probe.run, Instant::now(), log);
    }

    fn monitor_disconnected(&mut self, log: &Log) {
        self.connected = false;
        self.asked = None;
        self.stopped = None;
        self.failover_owed = None;
        self.orders.disconnected();
        self.bringup.disconnected();
        self.cession.disconnected();
        self.renounced_qemu_is_gone(Instant::now(), log);
        self.tell(ToPoll::Monitor(QemuEvent::Disconnected));
    }

    /// STOP.
    fn vm_stopped(&mut self, at: Stamp, figures: &mut impl FnMut(&mut dyn FnMut(&mut Figures))) {
        self.stopped = Some(Stopped {
            at,
            in_colo: self.migration == Migration::Colo,
        });
        self.orders.stopped(at.read);
        if let Some(written) = self.asked.as_ref().and_then(|asked| asked.written) {
            let stop = at.read.saturating_duration_since(written);
            figures(&mut |f| f.checkpoints.record_stop(stop));
        }
        self.tell(ToPoll::Monitor(QemuEvent::Stop));
        if self.settings.role.role() == Role::Secondary
            && let Some(client) = &mut self.client
        {
            // Without an answer the load behind this stop is not reported.
            let _ = client.ask_run_state(at.read);
        }
    }

    /// RESUME.
    fn vm_resumed(
        &mut self,
        at: Stamp,
        log: &Log,
        figures: &mut impl FnMut(&mut dyn FnMut(&mut Figures)),
    ) {
        self.bringup.resumed();
        if let Some(stopped) = self.stopped.take() {
            let checkpoint = self.checkpoint_ended(stopped, at, log);
            // Before, no VM had a state of the other's.
            let in_colo = self.migration == Migration::Colo;
            figures(&mut |f| {
                f.checkpoints
                    .record_pause(checkpoint.origin.word(), checkpoint.stopped);
                if in_colo {
                    f.account_for(checkpoint, at.read);
                }
            });
        }
        self.runs();
        self.tell(ToPoll::Monitor(QemuEvent::Resume));
    }

    /// The VM was stopped from `stopped` to `resumed`. The request that this serves, if there was one, is settled.
    /// Returns the checkpoint, but for what was held.
    fn checkpoint_ended(&mut self, stopped: Stopped, resumed: Stamp, log: &Log) -> Checkpoint {
        let pause = resumed.since(&stopped.at);
        let ordered = self.orders.resumed(resumed.read);
        let asked = self.asked.take();
        let written = asked.as_ref().and_then(|asked| asked.written);
        let stop = written.map(|written| stopped.at.read.saturating_duration_since(written));
        let begins = !stopped.in_colo && self.migration == Migration::Colo;
        let origin = match (&asked, ordered) {
            (Some(asked), _) => Origin::Cause(asked.request.cause),
            (None, Some(_)) => Origin::Ordered,
            (None, None) if begins => Origin::Begin,
            (None, None) => Origin::Qemu,
        };
        let seen = match (&asked, ordered) {
            (None, Some(ordered)) => ordered,
            _ => SeenCheckpoint {
                reason: origin.word(),
                at: resumed.read,
                stop,
                pause,
            },
        };
        let checkpoint = Checkpoint {
            origin,
            flow: asked.as_ref().and_then(|asked| asked.request.flow),
            waited: seen.stop.unwrap_or_default(),
            stopped: pause,
            held: 0,
        };
        self.facts.resumed(seen);
        if let Some(asked) = asked {
            let stop = stop.unwrap_or_default();
            log.info(format_args!(
                "pair {}: checkpoint: {}, STOP {:.1} ms after the request, RESUME {:.1} ms later",
                self.settings.name,
                asked.request.cause.word(),
                stop.as_secs_f64() * 1e3,
                pause.as_secs_f64() * 1e3
            ));
        }
        checkpoint
    }

    /// The last byte of a request was handed to the kernel.
    fn request_written(
        &mut self,
        token: u64,
        at: Instant,
        clock: Clock,
        figures: &mut impl FnMut(&mut dyn FnMut(&mut Figures)),
    ) {
        self.orders.written(token, at);
        let asked = self.asked.as_mut();
        let Some(asked) = asked.filter(|asked| asked.request.token == token) else {
            return;
        };
        asked.written = Some(at);
        let seen = asked.request.seen;
        if self.measured.replace(seen) != Some(seen) {
            let until_now = clock.ns(tsc::now().saturating_sub(seen));
            let since = until_now.saturating_sub(at.elapsed().as_nanos() as u64);
            figures(&mut |f| f.own.record(Interval::Request, since));
        }
    }

    /// Everything that QEMU emitted before it answered has been passed on.
    fn barrier_returned(&mut self, token: u64, run: RunState, status: MigrationStatus) {
        let running = run == RunState::Running;
        self.tell(ToPoll::Monitor(if token & QUESTION != 0 {
            QemuEvent::Answered {
                question: token as u32,
                running,
            }
        } else {
            QemuEvent::Barrier {
                stops: token as u32,
                migration: migration(status),
                running,
            }
        }));
    }

    fn barrier_failed(&mut self, token: u64) {
        if self.settings.role.role() == Role::Secondary && token & QUESTION == 0 {
            let stops = token as u32;
            self.tell(ToPoll::Monitor(QemuEvent::StartedWithoutMonitor { stops }));
        }
    }
}
