//! What the pair's QEMU says, passed on to the poll core and to the log, and what it is asked.

use std::time::Instant;

use super::facts::SeenCheckpoint;
use super::guest::QUESTION;
use super::{ControlPair, Figures};
use crate::config::Role;
use crate::dpdk::tsc;
use crate::error_chain::chain;
use crate::node::clock::Clock;
use crate::node::mailbox::ToPoll;
use crate::observability::latency::Interval;
use crate::observability::log::Log;
use crate::protect::{Migration, QemuEvent, Request};
use crate::qmp::{ColoMode, Event, MigrationStatus, RunState};

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

    pub(super) fn monitor_event(
        &mut self,
        event: Event,
        clock: Clock,
        log: &Log,
        figures: &mut impl FnMut(&mut dyn FnMut(&mut Figures)),
    ) {
        let name = &self.settings.name;
        match event {
            Event::Connected(probe) => {
                self.connected = true;
                self.version = Some(probe.version);
                log.info(format_args!(
                    "pair {name}: monitor connected: QEMU {}",
                    probe.version
                ));
                if let Err(why) = &probe.colo {
                    log.error(
                        "colo",
                        format_args!("pair {name}: this QEMU cannot be protected: {why}"),
                    );
                }
                if let Some(caution) = probe.caution {
                    log.warning("caution", format_args!("pair {name}: {caution}"));
                }
                let alone = self.settings.role.role() == Role::Compare;
                if alone && !probe.version.passes_in_checkpoints() {
                    log.error(
                        "passes",
                        format_args!(
                            "pair {name}: QEMU {} emits no MIGRATION_PASS in a checkpoint, and a comparator alone has no \
                             other proof of one: nothing that it holds is committed",
                            probe.version
                        ),
                    );
                }
                if !probe.events_capability {
                    log.warning(
                        "events",
                        format_args!(
                            "pair {name}: the migration capability 'events' is off and QEMU refuses to switch it on \
                             now; without it a node commits nothing while the other node is not heard"
                        ),
                    );
                }
                let migration = migration(probe.migration);
                let running = probe.run == RunState::Running;
                let leads = probe.colo_mode == Some(ColoMode::Primary);
                self.know_offsets(migration, leads, log);
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
            }
            Event::Disconnected(error) => {
                self.connected = false;
                self.asked = None;
                self.stopped = None;
                self.orders.disconnected();
                self.bringup.disconnected();
                log.warning("monitor", format_args!("pair {name}: {}", chain(&error)));
                self.tell(ToPoll::Monitor(QemuEvent::Disconnected));
            }
            Event::Stop { at } => {
                self.stopped = Some(at.read);
                self.orders.stopped(at.read);
                if let Some(written) = self.asked.as_ref().and_then(|asked| asked.written) {
                    figures(&mut |f| {
                        f.checkpoints
                            .record_stop(at.read.saturating_duration_since(written))
                    });
                }
                self.tell(ToPoll::Monitor(QemuEvent::Stop));
                if self.settings.role.role() == Role::Secondary
                    && let Some(client) = &mut self.client
                {
                    // Without an answer the load behind this stop is not reported.
                    let _ = client.ask_run_state(at.read);
                }
            }
            Event::Resume { at } => {
                if let Some(stopped) = self.stopped.take() {
                    let pause = at.read.saturating_duration_since(stopped);
                    figures(&mut |f| f.checkpoints.record_pause(pause));
                    let ordered = self.orders.resumed(at.read);
                    let asked = self.asked.take();
                    let written = asked.as_ref().and_then(|asked| asked.written);
                    let stop = written.map(|w| stopped.saturating_duration_since(w));
                    self.facts.resumed(match (&asked, ordered) {
                        (None, Some(ordered)) => ordered,
                        _ => SeenCheckpoint {
                            reason: asked.as_ref().map_or("qemu", |it| it.request.cause.word()),
                            at: at.read,
                            stop,
                            pause,
                        },
                    });
                    if let Some(asked) = asked {
                        let stop = stop.unwrap_or_default();
                        log.info(format_args!(
                            "pair {name}: checkpoint: {}, STOP {:.1} ms after the request, RESUME {:.1} ms later",
                            asked.request.cause.word(),
                            stop.as_secs_f64() * 1e3,
                            pause.as_secs_f64() * 1e3
                        ));
                    }
                }
                self.runs();
                self.tell(ToPoll::Monitor(QemuEvent::Resume));
            }
            Event::RunState(run) => self.tell(ToPoll::Monitor(QemuEvent::StoppedFor {
                load: run == RunState::Colo,
            })),
            Event::MigrationPass { .. } => self.tell(ToPoll::Monitor(QemuEvent::Pass)),
            Event::Migration { status, .. } => {
                self.migration = migration(status);
                self.tell(ToPoll::Monitor(QemuEvent::Migration(self.migration)));
            }
            Event::ColoExit { mode, reason, .. } => {
                log.warning(
                    "exit",
                    format_args!("pair {name}: COLO ended: mode {mode:?}, reason {reason:?}"),
                );
                // No checkpoint follows.
                self.asked = None;
                self.tell(ToPoll::Monitor(QemuEvent::ColoExit));
            }
            Event::RequestWritten { token, at } => {
                self.orders.written(token, at);
                if let Some(asked) = self
                    .asked
                    .as_mut()
                    .filter(|asked| asked.request.token == token)
                {
                    asked.written = Some(at);
                    let seen = asked.request.seen;
                    if self.measured.replace(seen) != Some(seen) {
                        let until_now = clock.ns(tsc::now().saturating_sub(seen));
                        let since = until_now.saturating_sub(at.elapsed().as_nanos() as u64);
                        figures(&mut |f| f.own.record(Interval::Request, since));
                    }
                }
            }
            Event::RequestFailed { token, cause } => {
                self.orders.request_failed(token, &chain(&cause).to_string());
                log.warning(
                    "request",
                    format_args!("pair {name}: checkpoint request: {}", chain(&cause)),
                );
            }
            Event::Barrier { token, run, .. } if token & QUESTION != 0 => {
                self.tell(ToPoll::Monitor(QemuEvent::Answered {
                    question: token as u32,
                    running: run == RunState::Running,
                }));
            }
            Event::Barrier {
                token,
                run,
                migration,
            } => {
                self.tell(ToPoll::Monitor(QemuEvent::Barrier {
                    stops: token as u32,
                    migration: self::migration(migration),
                    running: run == RunState::Running,
                }));
            }
            Event::BarrierFailed { token, .. }
                if self.settings.role.role() == Role::Secondary && token & QUESTION == 0 =>
            {
                let stops = token as u32;
                self.tell(ToPoll::Monitor(QemuEvent::StartedWithoutMonitor { stops }));
            }
            Event::LinkRaised { nic } => log.warning(
                "link",
                format_args!(
                    "pair {name}: the guest has not enabled its vhost port: raising the link of NIC {nic:?}, \
                     which was down in the state that its peer sent"
                ),
            ),
            Event::FailOverAccepted => {
                self.orders.failed_over(Ok(()));
                log.warning(
                    "failover",
                    format_args!("pair {name}: QEMU goes on with this VM alone"),
                );
            }
            Event::FailOverFailed { cause } => {
                self.orders.failed_over(Err(chain(&cause).to_string()));
                log.warning(
                    "failover",
                    format_args!("pair {name}: x-colo-lost-heartbeat: {}", chain(&cause)),
                );
            }
            Event::Yanked { what } => log.warning(
                "yank",
                format_args!("pair {name}: the peer is certainly lost: QEMU has cut {what}"),
            ),
            Event::YankFailed { what, cause } => log.warning(
                "yank",
                format_args!("pair {name}: QEMU has not cut {what}: {}", chain(&cause)),
            ),
            Event::Late { command, after } => log.warning(
                "late",
                format_args!(
                    "pair {name}: QEMU has not replied to {command} within {} s; it waits for a disk, or for a host that is \
                     gone (docs/vanished-peer.md)",
                    after.as_secs()
                ),
            ),
            Event::Executed { token, result } => self.executed(token, result),
            Event::RequestAccepted { .. }
            | Event::BarrierFailed { .. }
            | Event::EventsCapability { .. }
            | Event::Shutdown { .. }
            | Event::Reset { .. } => {}
        }
    }
}
