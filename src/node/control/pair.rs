//! One pair as the control thread sees it: its monitor, its mailbox, its figures.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;

use crate::compare;
use crate::config::{PairSettings, Role};
use crate::dpdk::{LinkWatch, Mbuf, tsc};
use crate::error_chain::chain;
use crate::frame::{Frame, Ticks};
use crate::monitor::checkpoints::CheckpointTimes;
use crate::monitor::counters::{self, Counter, Snapshot};
use crate::monitor::latency::{self, Interval, Recorder, Set};
use crate::monitor::log::Log;
use crate::monitor::report::{Capture, Divergence, Reports};
use crate::monitor::summary::{self, PairSummary};
use crate::node::clock::Clock;
use crate::node::mailbox::{ControlEnd, ToControl, ToPoll};
use crate::packet::Packet;
use crate::protect::{Monitor, Request, State};
use crate::qmp::{Client, Event, MigrationStatus, Options, RunState};

/// Bytes of each frame that a record keeps.
const CAPTURE: usize = 2048;

/// What the guest port's driver says.
#[derive(Clone, Copy, Debug)]
pub enum GuestEvent {
    /// The ring runs, after so many stops.
    Started {
        /// Stops so far.
        stops: u32,
    },
    /// The ring has stopped.
    Stopped,
}

/// A pair's figures, shared with the telemetry thread.
pub struct Figures {
    settings: PairSettings,
    /// By lcore: first the core that polls the ports, then those that compare with it.
    cores: Vec<(u32, counters::Reader)>,
    latencies: latency::Reader,
    /// What the control thread measures itself.
    own: Set,
    checkpoints: CheckpointTimes,
}

impl Figures {
    /// The tree of this moment.
    pub fn summary(&self, elapsed: Duration) -> PairSummary {
        let mut latencies = Set::new();
        latencies.merge(self.latencies.total());
        latencies.merge(&self.own);
        let cores: Vec<(u32, Snapshot)> = self
            .cores
            .iter()
            .map(|(lcore, counters)| (*lcore, counters.snapshot()))
            .collect();
        PairSummary::new(summary::Figures {
            pair: &self.settings,
            elapsed,
            cores: &cores,
            latencies: &latencies,
            checkpoints: &self.checkpoints,
        })
    }

    /// Takes in what the poll core has recorded.
    pub fn collect(&mut self) {
        self.latencies.collect();
    }

    /// Takes in the rest, after the poll core has ended.
    pub fn finish(&mut self, recorder: &mut Recorder) {
        self.latencies.finish(recorder);
    }
}

/// A checkpoint request on its way.
struct Asked {
    request: Request,
    written: Option<Instant>,
}

/// One pair as the control thread sees it.
pub struct ControlPair {
    settings: PairSettings,
    mail: ControlEnd,
    /// Messages that found the poll core's ring full.
    backlog: VecDeque<ToPoll>,
    client: Option<Client>,
    connected: bool,
    guest: Option<(LinkWatch, Receiver<GuestEvent>)>,
    figures: Option<Figures>,
    asked: Option<Asked>,
    /// The cause whose way to the monitor was measured last; a repeated request has the same.
    measured: Option<Ticks>,
    stopped: Option<Instant>,
    /// The guest port runs, after so many stops.
    ring: Option<u32>,
    /// STOP events since the guest port was started last; `None` before its first start.
    stops_since_start: Option<u32>,
    state: State,
}

impl ControlPair {
    /// A pair whose monitor, if it has one, is not connected yet. `cores` are the counters of its
    /// cores by lcore, those of the core that polls its ports first.
    pub fn new(
        settings: PairSettings,
        mail: ControlEnd,
        cores: Vec<(u32, counters::Reader)>,
        latencies: latency::Reader,
    ) -> Self {
        let client = settings
            .role
            .qmp()
            .map(|address| Client::new(address.clone(), Options::default()));
        let figures = Figures {
            settings: settings.clone(),
            cores,
            latencies,
            own: Set::new(),
            checkpoints: CheckpointTimes::default(),
        };
        Self {
            settings,
            mail,
            backlog: VecDeque::new(),
            client,
            connected: false,
            guest: None,
            figures: Some(figures),
            asked: None,
            measured: None,
            stopped: None,
            ring: None,
            stops_since_start: None,
            state: State::Solo,
        }
    }

    /// Hears of the guest port's stops and starts.
    pub fn watch(&mut self, watch: LinkWatch, events: Receiver<GuestEvent>) {
        self.guest = Some((watch, events));
    }

    /// Gives the figures out, once.
    pub fn figures(&mut self) -> Figures {
        self.figures.take().expect("the figures are given out once")
    }

    /// Whether it has a monitor, connected or not.
    pub fn has_monitor(&self) -> bool {
        self.client.is_some()
    }

    /// The monitor's socket.
    pub fn monitor_fd(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref().and_then(Client::fd)
    }

    /// One look at everything; `figures` gives access to the pair's own.
    pub fn work(
        &mut self,
        now: Instant,
        clock: Clock,
        log: &Log,
        mut reports: Option<&mut Reports>,
        mut figures: impl FnMut(&mut dyn FnMut(&mut Figures)),
    ) {
        // A request does not wait for a record's files.
        let mut records = Vec::new();
        while let Ok(message) = self.mail.inbox.pop() {
            match message {
                ToControl::Request(request) => self.request(request, now, log),
                ToControl::Record(divergence, epoch) => records.push((divergence, epoch)),
            }
        }
        while let Some(event) = self
            .guest
            .as_ref()
            .and_then(|(_, events)| events.try_recv().ok())
        {
            self.guest_event(event, now);
        }
        while let Some(event) = self.client.as_mut().and_then(|client| client.poll(now)) {
            self.monitor_event(event, clock, log, &mut figures);
        }
        while let Some(message) = self.backlog.pop_front() {
            if let Err(rtrb::PushError::Full(message)) = self.mail.outbox.push(message) {
                self.backlog.push_front(message);
                break;
            }
        }
        for (divergence, epoch) in records {
            let record = self.record(divergence, epoch, clock);
            log.info(format_args!(
                "pair {}: divergence: {} in {}, epoch {epoch}",
                self.settings.name, record.reason, record.flow
            ));
            if let Some(reports) = reports.as_deref_mut() {
                reports.file(&record, log);
            }
        }
    }

    fn tell(&mut self, message: ToPoll) {
        self.backlog.push_back(message);
    }

    fn request(&mut self, request: Request, now: Instant, log: &Log) {
        let Some(client) = &mut self.client else {
            return;
        };
        match client.request_checkpoint(request.token, now) {
            Ok(()) => {
                self.asked = Some(Asked {
                    request,
                    written: None,
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

    fn guest_event(&mut self, event: GuestEvent, now: Instant) {
        let GuestEvent::Started { stops } = event else {
            self.ring = None;
            return;
        };
        self.ring = Some(stops);
        match self.settings.role.role() {
            Role::Primary => self.ask_state(stops, now),
            Role::Secondary => match self.stops_since_start {
                // The state came with a checkpoint, or with the migration that began it all.
                None | Some(1..) => self.started(stops, true),
                // Nothing was stopped that the monitor has told of yet: it may be about to.
                Some(0) if self.connected => self.ask_state(stops, now),
                Some(0) => self.started(stops, true),
            },
            _ => {}
        }
    }

    fn started(&mut self, stops: u32, loaded: bool) {
        self.stops_since_start = Some(0);
        self.tell(ToPoll::Started { stops, loaded });
    }

    fn ask_state(&mut self, stops: u32, now: Instant) {
        if let Some(client) = &mut self.client {
            // Without a connection the question is asked on the next one.
            let _ = client.barrier(u64::from(stops), now);
        }
    }

    fn monitor_event(
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
                if !probe.events_capability {
                    log.warning(
                        "events",
                        format_args!(
                            "pair {name}: the migration capability 'events' is off and QEMU refuses to switch it on \
                             now; without it no checkpoint can be told from a stop"
                        ),
                    );
                }
                let colo = probe.migration == MigrationStatus::Colo;
                let running = probe.run == RunState::Running;
                self.tell(ToPoll::Monitor(Monitor::Connected { colo, running }));
                if let (Role::Primary, Some(stops)) = (self.settings.role.role(), self.ring) {
                    self.ask_state(stops, Instant::now());
                }
            }
            Event::Disconnected(error) => {
                self.connected = false;
                self.asked = None;
                self.stopped = None;
                log.warning("monitor", format_args!("pair {name}: {}", chain(&error)));
                self.tell(ToPoll::Monitor(Monitor::Disconnected));
            }
            Event::Stop { at } => {
                self.stops_since_start = self.stops_since_start.map(|n| n + 1);
                self.stopped = Some(at.read);
                if let Some(written) = self.asked.as_ref().and_then(|asked| asked.written) {
                    figures(&mut |f| {
                        f.checkpoints
                            .record_stop(at.read.saturating_duration_since(written))
                    });
                }
                self.tell(ToPoll::Monitor(Monitor::Stop));
            }
            Event::Resume { at } => {
                if let Some(stopped) = self.stopped.take() {
                    let pause = at.read.saturating_duration_since(stopped);
                    figures(&mut |f| f.checkpoints.record_pause(pause));
                    if let Some(asked) = self.asked.take() {
                        let stop = asked
                            .written
                            .map(|w| stopped.saturating_duration_since(w))
                            .unwrap_or_default();
                        log.info(format_args!(
                            "pair {name}: checkpoint: {}, STOP {:.1} ms after the request, RESUME {:.1} ms later",
                            asked.request.cause.word(),
                            stop.as_secs_f64() * 1e3,
                            pause.as_secs_f64() * 1e3
                        ));
                    }
                }
                self.tell(ToPoll::Monitor(Monitor::Resume));
            }
            Event::MigrationPass { .. } => self.tell(ToPoll::Monitor(Monitor::Pass)),
            Event::Migration { status, .. } => {
                let colo = status == MigrationStatus::Colo;
                self.tell(ToPoll::Monitor(Monitor::Migration { colo }));
            }
            Event::ColoExit { mode, reason, .. } => {
                log.warning(
                    "exit",
                    format_args!("pair {name}: COLO ended: mode {mode:?}, reason {reason:?}"),
                );
                self.tell(ToPoll::Monitor(Monitor::ColoExit));
            }
            Event::RequestWritten { token, at } => {
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
            Event::RequestFailed { cause, .. } => {
                log.warning(
                    "request",
                    format_args!("pair {name}: checkpoint request: {}", chain(&cause)),
                );
            }
            Event::Barrier {
                token,
                run,
                migration,
            } => {
                let stops = token as u32;
                if self.settings.role.role() == Role::Secondary {
                    let loaded = self.stops_since_start != Some(0);
                    self.started(stops, loaded);
                } else {
                    let colo = migration == MigrationStatus::Colo;
                    let running = run == RunState::Running;
                    self.tell(ToPoll::Monitor(Monitor::Barrier {
                        stops,
                        colo,
                        running,
                    }));
                }
            }
            Event::BarrierFailed { token, .. } if self.settings.role.role() == Role::Secondary => {
                self.started(token as u32, true);
            }
            Event::RequestAccepted { .. }
            | Event::BarrierFailed { .. }
            | Event::EventsCapability { .. }
            | Event::Shutdown { .. }
            | Event::Reset { .. } => {}
        }
    }

    /// One line for each change of the node's state that is more than a checkpoint.
    pub fn tell_state(&mut self, figures: &Figures, log: &Log) {
        let Some((_, counters)) = figures.cores.first() else {
            return;
        };
        let counters = counters.snapshot();
        let code = counters.value(Counter::State) as usize;
        let Some(state) = State::ALL.get(code).copied() else {
            return;
        };
        if state == State::Checkpointing || state == self.state {
            return;
        }
        self.state = state;
        log.info(format_args!(
            "pair {}: {}, epoch {}",
            self.settings.name,
            state.word(),
            counters.value(Counter::Epoch)
        ));
    }

    fn record(
        &self,
        divergence: compare::Divergence<Mbuf>,
        epoch: u32,
        clock: Clock,
    ) -> Divergence {
        let now = tsc::now();
        let since = |then: Ticks| Duration::from_nanos(clock.ns(now.saturating_sub(then)));
        let capture = |side: &Option<(Mbuf, usize)>, arrived: Option<Ticks>| {
            let (frame, differs_at) = side.as_ref()?;
            let packet = Packet::parse(frame.head(), frame.len());
            Some(Capture {
                bytes: compare::window(frame, 0, 0, CAPTURE),
                wire_len: frame.len(),
                payload_at: packet.payload.into(),
                differs_at: Some(*differs_at),
                age: arrived.map(since).unwrap_or_default(),
            })
        };
        Divergence {
            time: SystemTime::now() - since(divergence.seen),
            role: self.settings.role.role(),
            pair: self.settings.name.clone(),
            vm_id: self.settings.vm_id,
            epoch: epoch.into(),
            flow: divergence
                .flow
                .map_or_else(|| "unknown".to_owned(), |flow| flow.to_string()),
            reason: divergence.reason.word(),
            stream_offset: divergence.stream_offset.map(u64::from),
            primary: capture(&divergence.primary, divergence.primary_arrived),
            secondary: capture(&divergence.secondary, divergence.secondary_arrived),
        }
    }
}
