//! One pair as the control thread sees it: its monitor, its mailbox, its figures.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;
use rustix::event::PollFd;

use super::advice::advice;
use super::fencing::{Fencing, Outcome};
use super::heartbeat::ProgressReports;
use super::link;
use super::offsets::{Left, OffsetFile};
use super::starvation::Starvation;
use super::waits::{Awaited, Change, Waits};

use crate::compare;
use crate::config::{OnPeerLost, PairSettings, Place, Role};
use crate::dpdk::{LinkWatch, Mbuf, tsc};
use crate::error_chain::chain;
use crate::frame::{Frame, Ticks};
use crate::monitor::checkpoints::CheckpointTimes;
use crate::monitor::counters::{self, Counter, Snapshot};
use crate::monitor::latency::{self, Interval, Recorder, Set};
use crate::monitor::log::Log;
use crate::monitor::report::{Capture, Divergence, Reports};
use crate::monitor::summary::{self, MonitorSummary, PairSummary};
use crate::node::clock::Clock;
use crate::node::mailbox::{ControlEnd, ToControl, ToPoll};
use crate::packet::Packet;
use crate::protect::{Action, Migration, Monitor, Request, State, UNLUCKY};
use crate::qmp::{Client, ColoMode, Event, MigrationStatus, Options, RunState, Version};

/// How long a VM may take to use its port when it goes on, before its link is looked at.
const RING_START: Duration = Duration::from_millis(20);
/// Marks the token of a question whether the VM runs; any other barrier's token is a number of stops.
const QUESTION: u64 = 1 << 32;
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
    monitor: Option<MonitorSummary>,
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
        let mut summary = PairSummary::new(summary::Figures {
            pair: &self.settings,
            elapsed,
            cores: &cores,
            latencies: &latencies,
            checkpoints: &self.checkpoints,
        });
        summary.monitor = self.monitor;
        summary
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

/// What a state of QEMU's migration says of who may speak.
fn migration(status: MigrationStatus) -> Migration {
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
struct Asked {
    request: Request,
    written: Option<Instant>,
    /// When it was asked for first.
    since: Instant,
}

/// One pair as the control thread sees it.
pub struct ControlPair {
    settings: PairSettings,
    mail: ControlEnd,
    /// Messages that found the poll core's ring full.
    backlog: VecDeque<ToPoll>,
    client: Option<Client>,
    connected: bool,
    version: Option<Version>,
    guest: Option<(LinkWatch, Receiver<GuestEvent>)>,
    figures: Option<Figures>,
    asked: Option<Asked>,
    waits: Waits,
    /// The cause whose way to the monitor was measured last; a repeated request has the same.
    measured: Option<Ticks>,
    stopped: Option<Instant>,
    /// The guest port runs, after so many stops.
    ring: Option<u32>,
    /// The secondary's VM runs since then, and its ring was not seen to.
    unlinked: Option<Instant>,
    migration: Migration,
    fencing: Option<Fencing>,
    offsets: OffsetFile,
    reports: Option<ProgressReports>,
    starvation: Starvation,
    /// Whether it was told that the VM has no way to the network.
    mute: bool,
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
        state_dir: &Path,
    ) -> Self {
        let offsets = OffsetFile::new(state_dir, &settings.name);
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
            monitor: None,
        };
        Self {
            settings,
            mail,
            backlog: VecDeque::new(),
            client,
            connected: false,
            version: None,
            guest: None,
            figures: Some(figures),
            asked: None,
            waits: Waits::default(),
            measured: None,
            stopped: None,
            ring: None,
            unlinked: None,
            migration: Migration::None,
            fencing: None,
            offsets,
            reports: None,
            starvation: Starvation::default(),
            mute: false,
            state: State::Solo,
        }
    }

    /// Hears of the guest port's stops and starts.
    pub fn watch(&mut self, watch: LinkWatch, events: Receiver<GuestEvent>) {
        self.guest = Some((watch, events));
    }

    /// Exchanges reports with the peer's control thread from now on.
    pub fn report_progress(&mut self, reports: ProgressReports) {
        self.reports = Some(reports);
    }

    /// Announces to the peer that this node restarts.
    pub fn announce_restart(&mut self, log: &Log) {
        if self.settings.role.role() == Role::Compare {
            return;
        }
        log.info(format_args!(
            "pair {}: SIGUSR1: announcing to the peer that this node restarts",
            self.settings.name
        ));
        self.tell(ToPoll::AnnounceRestart);
    }

    /// Gives the figures out, once.
    pub fn figures(&mut self) -> Figures {
        self.figures.take().expect("the figures are given out once")
    }

    /// Says at the start what it means that nobody has to prove anything on the link.
    pub fn warn_of_trust(&self, log: &Log) {
        link::warn_of_trust(&self.settings, log);
    }

    /// The pair's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether it has a monitor, connected or not.
    pub fn has_monitor(&self) -> bool {
        self.client.is_some()
    }

    /// What to wait for at its sockets.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let monitor = self.client.as_ref().and_then(Client::poll_fd);
        let reports = self.reports.as_ref().map(ProgressReports::poll_fd);
        monitor.into_iter().chain(reports)
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
                ToControl::Act(Action::Fence(number)) => self.fence(number, now, log),
                ToControl::Act(Action::FailOver) => self.fail_over(now, log),
                ToControl::Ask(question) => self.ask_whether_it_runs(question, now),
                ToControl::Offset(flow, offset) => self.offsets.collect(flow, offset),
                ToControl::OffsetsEnd { term } => self.save_offsets(term, log),
                ToControl::RestartAcknowledged => log.warning(
                    "restart",
                    format_args!(
                        "pair {}: the peer has received the announcement of this node's restart; end this process and \
                         start it again within the peer's --restart-limit",
                        self.settings.name
                    ),
                ),
                ToControl::Link(notice) => link::tell(notice, &self.settings, log),
            }
        }
        self.look_at_fencing(now, log);
        if let Some(reports) = &mut self.reports
            && reports.work(now, &self.settings.name, log)
        {
            self.tell(ToPoll::PeerStalls);
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
        self.look_at_link(now, log);
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

    fn fence(&mut self, number: u32, now: Instant, log: &Log) {
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
                log.error(
                    "fencing",
                    format_args!(
                        "pair {name}: {command:?} cannot be started: {error}; still holding"
                    ),
                );
                self.tell(ToPoll::Fenced {
                    number,
                    down: false,
                });
            }
        }
    }

    fn look_at_fencing(&mut self, now: Instant, log: &Log) {
        let Some(fencing) = &mut self.fencing else {
            return;
        };
        let Some(outcome) = fencing.outcome(now) else {
            return;
        };
        let (name, number) = (&self.settings.name, fencing.number);
        let down = match outcome {
            Outcome::Down => {
                log.warning("fenced", format_args!("pair {name}: the peer is down"));
                true
            }
            Outcome::Failed(how) => {
                log.warning(
                    "fencing",
                    format_args!(
                        "pair {name}: the fencing command failed ({how}); nothing is certain, trying again"
                    ),
                );
                false
            }
        };
        self.fencing = None;
        self.tell(ToPoll::Fenced { number, down });
    }

    fn fail_over(&mut self, now: Instant, log: &Log) {
        let Some(client) = &mut self.client else {
            return;
        };
        if let Err(error) = client.fail_over(now) {
            log.warning(
                "failover",
                format_args!(
                    "pair {}: QEMU cannot be told that the peer is lost: {error}",
                    self.settings.name
                ),
            );
        }
    }

    /// A VM that runs and does not use its port has no link: it loaded the state of a VM whose own
    /// node was gone. It gets it before it may have to take over: Linux forgets its neighbours without one, and
    /// takes its time.
    fn look_at_link(&mut self, now: Instant, log: &Log) {
        let Some(since) = self.unlinked else {
            return;
        };
        if self.ring.is_some() {
            self.unlinked = None;
        } else if now.saturating_duration_since(since) >= RING_START {
            self.unlinked = None;
            let raised = self.client.as_mut().map(|client| client.raise_links(now));
            if let Some(Err(error)) = raised {
                log.warning(
                    "link",
                    format_args!(
                        "pair {}: the guest has not enabled its vhost port, and QEMU does not raise its NIC's link: \
                         {error}; raise it with set_link",
                        self.settings.name
                    ),
                );
            }
        }
    }

    fn save_offsets(&mut self, term: u32, log: &Log) {
        let name = &self.settings.name;
        match self.offsets.write(term) {
            Ok(n) => log.info(format_args!(
                "pair {name}: this node has taken over; {n} connections are translated until they close"
            )),
            Err(error) => log.warning(
                "offsets",
                format_args!(
                    "pair {name}: the offsets of old connections cannot be saved: {error}; they end \
                     with this process"
                ),
            ),
        }
    }

    /// A node that is started again after its takeover goes on with the offsets that it had.
    fn know_offsets(&mut self, migration: Migration, leads: bool, log: &Log) {
        if self.settings.role.role() != Role::Secondary {
            return;
        }
        if migration != Migration::Completed && !leads {
            self.offsets.forget();
            return;
        }
        let name = &self.settings.name;
        match self.offsets.read() {
            Ok(None) => {}
            Ok(Some(Left { term, offsets })) => {
                self.tell(ToPoll::Led { term });
                for (flow, offset) in offsets {
                    self.tell(ToPoll::Inherit(flow, offset));
                }
            }
            Err(error) => log.warning(
                "offsets",
                format_args!("pair {name}: the offsets of old connections cannot be read: {error}"),
            ),
        }
        let uplink = self
            .settings
            .ports()
            .any(|(place, _)| place == Place::Uplink);
        if !uplink && !std::mem::replace(&mut self.mute, true) {
            log.error(
                "uplink",
                format_args!(
                    "pair {}: the VM goes on alone, but this node has no --uplink: nothing can leave",
                    self.settings.name
                ),
            );
        }
    }

    fn guest_event(&mut self, event: GuestEvent, now: Instant) {
        let GuestEvent::Started { stops } = event else {
            self.ring = None;
            return;
        };
        self.ring = Some(stops);
        match self.settings.role.role() {
            _ if self.connected => self.ask_state(stops, now),
            // Protection can go on without the monitor of a secondary.
            Role::Secondary => self.tell(ToPoll::Monitor(Monitor::Unexplained { stops })),
            Role::Primary | Role::Compare => {}
        }
    }

    /// The VM runs, or goes on, perhaps with a state of another VM's.
    fn runs(&mut self) {
        let secondary = self.settings.role.role() == Role::Secondary;
        self.unlinked = secondary.then(Instant::now);
    }

    fn ask_whether_it_runs(&mut self, question: u32, now: Instant) {
        // A ring that runs is asked about by itself.
        if self.ring.is_none()
            && let Some(client) = &mut self.client
        {
            let _ = client.barrier(QUESTION | u64::from(question), now);
        }
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
                self.tell(ToPoll::Monitor(Monitor::Connected {
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
                log.warning("monitor", format_args!("pair {name}: {}", chain(&error)));
                self.tell(ToPoll::Monitor(Monitor::Disconnected));
            }
            Event::Stop { at } => {
                self.stopped = Some(at.read);
                if let Some(written) = self.asked.as_ref().and_then(|asked| asked.written) {
                    figures(&mut |f| {
                        f.checkpoints
                            .record_stop(at.read.saturating_duration_since(written))
                    });
                }
                self.tell(ToPoll::Monitor(Monitor::Stop));
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
                self.runs();
                self.tell(ToPoll::Monitor(Monitor::Resume));
            }
            Event::RunState(run) => self.tell(ToPoll::Monitor(Monitor::StoppedFor {
                load: run == RunState::Colo,
            })),
            Event::MigrationPass { .. } => self.tell(ToPoll::Monitor(Monitor::Pass)),
            Event::Migration { status, .. } => {
                self.migration = migration(status);
                self.tell(ToPoll::Monitor(Monitor::Migration(self.migration)));
            }
            Event::ColoExit { mode, reason, .. } => {
                log.warning(
                    "exit",
                    format_args!("pair {name}: COLO ended: mode {mode:?}, reason {reason:?}"),
                );
                // No checkpoint follows.
                self.asked = None;
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
            Event::Barrier { token, run, .. } if token & QUESTION != 0 => {
                self.tell(ToPoll::Monitor(Monitor::Answered {
                    question: token as u32,
                    running: run == RunState::Running,
                }));
            }
            Event::Barrier {
                token,
                run,
                migration,
            } => {
                self.tell(ToPoll::Monitor(Monitor::Barrier {
                    stops: token as u32,
                    migration: self::migration(migration),
                    running: run == RunState::Running,
                }));
            }
            Event::BarrierFailed { token, .. }
                if self.settings.role.role() == Role::Secondary && token & QUESTION == 0 =>
            {
                let stops = token as u32;
                self.tell(ToPoll::Monitor(Monitor::Unexplained { stops }));
            }
            Event::LinkRaised { nic } => log.warning(
                "link",
                format_args!(
                    "pair {name}: the guest has not enabled its vhost port: raising the link of NIC {nic:?}, \
                     which was down in the state that its peer sent"
                ),
            ),
            Event::FailOverAccepted => log.warning(
                "failover",
                format_args!("pair {name}: QEMU goes on with this VM alone"),
            ),
            Event::FailOverFailed { cause } => log.warning(
                "failover",
                format_args!("pair {name}: x-colo-lost-heartbeat: {}", chain(&cause)),
            ),
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
        self.starvation
            .look(&figures.cores, &self.settings.name, log);
        let counters = counters.snapshot();
        self.tell_lack_of_evidence(counters.value(Counter::UnprovenStops), log);
        let code = counters.value(Counter::State) as usize;
        let Some(state) = State::ALL.get(code).copied() else {
            return;
        };
        if state == State::Checkpointing || state == self.state {
            return;
        }
        self.state = state;
        let (name, word) = (&self.settings.name, state.word());
        let epoch = counters.value(Counter::Epoch);
        match advice(state, &self.settings) {
            None => log.info(format_args!("pair {name}: {word}, epoch {epoch}")),
            Some(advice) => log.alert(format_args!("pair {name}: {word}, epoch {epoch}: {advice}")),
        }
    }

    /// One line when QEMU owes something for long, and one when it does no more.
    pub fn tell_waits(&mut self, now: Instant, figures: &mut Figures, log: &Log) {
        let Some(client) = &self.client else {
            return;
        };
        let answer = client
            .awaited()
            .map(|(what, since)| Awaited { what, since });
        let name = &self.settings.name;
        let awaited = answer.into_iter().chain(self.awaited_step());
        match self.waits.look(awaited, self.connected, now) {
            None => {}
            Some(Change::Begins(what, time)) => log.alert(format_args!(
                "pair {name}: QEMU at {} owes {what} for {:.1} s, and what is held waits with it; look whether it \
                 is stopped, hangs, or has too little CPU or a slow disk",
                client.address(),
                time.as_secs_f64()
            )),
            Some(Change::Ends(time)) => log.info(format_args!(
                "pair {name}: QEMU goes on after {:.1} s",
                time.as_secs_f64()
            )),
        }
        figures.monitor = Some(self.waits.summary(self.connected));
    }

    /// The step of a checkpoint that is to come, whoever has asked for it.
    fn awaited_step(&self) -> Option<Awaited> {
        // Elsewhere QEMU takes a request and does nothing, and a VM that stops is an operator's.
        if self.migration != Migration::Colo {
            return None;
        }
        match (self.stopped, &self.asked) {
            (Some(since), _) => Some(Awaited {
                what: "the event RESUME",
                since,
            }),
            (None, Some(asked)) => Some(Awaited {
                what: "the event STOP of a checkpoint",
                since: asked.since,
            }),
            (None, None) => None,
        }
    }

    /// What nothing proves is held, and an operator has to know why.
    fn tell_lack_of_evidence(&self, stops: u64, log: &Log) {
        if stops < u64::from(UNLUCKY) {
            return;
        }
        let name = &self.settings.name;
        let passes = self.version.is_none_or(Version::passes_in_checkpoints);
        let why = if passes {
            "the secondary has reported no load of the VM's state; look at its monitor and at the link"
        } else {
            "the secondary has reported no load of the VM's state, and this QEMU emits no MIGRATION_PASS in a \
             checkpoint; until the link and the secondary's monitor work, nothing is committed"
        };
        log.warning(
            "evidence",
            format_args!(
                "pair {name}: the VM stopped {stops} times, and nothing proves that these were checkpoints: {why}; \
                 its output is held"
            ),
        );
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
