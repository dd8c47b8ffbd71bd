//! One pair as the control thread sees it: its monitor, its mailbox, its figures.

mod bringup;
mod cession;
mod event_log;
mod facts;
mod figures;
mod guest;
mod monitor;
mod notices;
mod orders;
mod peer;
mod record;
mod unprotect;

use std::path::Path;
use std::time::Instant;

use crossbeam_channel::Receiver;
use rustix::event::PollFd;

use self::bringup::PairBringup;
use self::cession::PairCession;
use self::facts::Facts;
pub(crate) use self::figures::Figures;
pub(crate) use self::guest::{GuestEvent, guest_events};
use self::monitor::{Asked, Stopped};
use self::orders::Orders;
use self::unprotect::PairUnprotect;
use super::backlog::Backlog;
use super::fencing::Fencing;
use super::heartbeat::ProgressReports;
use super::link;
use super::offsets::OffsetFile;
use super::starvation::Starvation;
use super::waits::Waits;
use crate::config::{PairSettings, Role};
use crate::control::RoleNow;
use crate::dpdk::LinkWatch;
use crate::frame::Ticks;
use crate::node::clock::Clock;
use crate::node::mailbox::{ControlEnd, ToControl, ToPoll};
use crate::observability::checkpoints::CheckpointTimes;
use crate::observability::counters;
use crate::observability::latency::{self, Set};
use crate::observability::log::Log;
use crate::observability::report::Reports;
use crate::observability::summary::RecordSummary;
use crate::protect::{Action, Migration, State};
use crate::qmp::{Client, Options, Version};

/// One pair as the control thread sees it.
pub(crate) struct ControlPair {
    settings: PairSettings,
    mail: ControlEnd,
    /// Messages that found the poll core's ring full.
    backlog: Backlog,
    client: Option<Client>,
    connected: bool,
    version: Option<Version>,
    guest: Option<(LinkWatch, Receiver<GuestEvent>)>,
    figures: Option<Figures>,
    asked: Option<Asked>,
    waits: Waits,
    records: RecordSummary,
    /// The cause whose way to the monitor was measured last; a repeated request has the same.
    measured: Option<Ticks>,
    stopped: Option<Stopped>,
    /// The guest port runs, after this many stops.
    ring: Option<u32>,
    /// The secondary's VM runs since then, and its ring was not seen to.
    unlinked: Option<Instant>,
    migration: Migration,
    fencing: Option<Fencing>,
    offsets: OffsetFile,
    reports: Option<ProgressReports>,
    starvation: Starvation,
    facts: Facts,
    orders: Orders,
    bringup: PairBringup,
    cession: PairCession,
    unprotect: PairUnprotect,
    /// Whether the log has reported that the VM has no way to the network.
    mute: bool,
    /// What the log has reported last.
    state: State,
    role: RoleNow,
    /// QEMU has been given the failover command then, and has not answered.
    failover_owed: Option<Instant>,
}

impl ControlPair {
    /// A pair whose monitor, if it has one, is not connected yet. `cores` are the counters of its
    /// cores by lcore, those of the core that polls its ports first.
    pub(crate) fn new(
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
        let facts = Facts::new(Instant::now());
        let role = settings.role.role().into();
        let orders = Orders::new(&settings.name);
        let figures = Figures {
            settings: settings.clone(),
            cores,
            latencies,
            own: Set::new(),
            checkpoints: CheckpointTimes::default(),
            monitor: None,
            records: None,
            facts,
            orders: Vec::new(),
            account: None,
        };
        let cession = PairCession::new(state_dir, &settings.name, Instant::now());
        let unprotect = PairUnprotect::new(state_dir, &settings.name, Instant::now());
        let leads = settings.role.role() == Role::Primary;
        let mut pair = Self {
            settings,
            mail,
            backlog: Backlog::default(),
            client,
            connected: false,
            version: None,
            guest: None,
            figures: Some(figures),
            asked: None,
            waits: Waits::default(),
            records: RecordSummary::default(),
            measured: None,
            stopped: None,
            ring: None,
            unlinked: None,
            migration: Migration::None,
            fencing: None,
            offsets,
            reports: None,
            starvation: Starvation::default(),
            facts,
            orders,
            bringup: PairBringup::default(),
            cession,
            unprotect,
            mute: false,
            state: State::Solo,
            role,
            failover_owed: None,
        };
        if leads {
            // Before it hears of any VM. A secondary's is known when its QEMU is.
            pair.know_cession(None);
        }
        pair
    }

    /// Hears of the guest port's stops and starts.
    pub(crate) fn watch(&mut self, watch: LinkWatch, events: Receiver<GuestEvent>) {
        self.guest = Some((watch, events));
    }

    /// Exchanges reports with the peer's control thread from now on.
    pub(crate) fn report_progress(&mut self, reports: ProgressReports) {
        self.reports = Some(reports);
    }

    /// Announces to the peer that this node restarts, as SIGUSR1 or somebody else wants.
    pub(crate) fn announce_restart(&mut self, by: &str, log: &Log) {
        if self.settings.role.role() == Role::Compare {
            return;
        }
        log.info(format_args!(
            "pair {}: {by}: announcing to the peer that this node restarts",
            self.settings.name
        ));
        self.bringup.announced(Instant::now());
        self.tell(ToPoll::AnnounceRestart);
    }

    /// Gives the figures out, once.
    pub(crate) fn figures(&mut self) -> Figures {
        self.figures.take().expect("the figures are given out once")
    }

    /// Says at the start what it means that nobody has to prove anything on the link.
    pub(crate) fn warn_of_trust(&self, log: &Log) {
        link::warn_of_trust(&self.settings, log);
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> &PairSettings {
        &self.settings
    }

    /// The pair's name.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether it has a monitor, connected or not.
    pub(crate) fn has_monitor(&self) -> bool {
        self.client.is_some()
    }

    /// What to wait for at its sockets.
    pub(crate) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        // What is not read now must not wake this thread.
        let client = self.client.as_ref().filter(|_| !self.backlog.is_full());
        let monitor = client.and_then(Client::poll_fd);
        let reports = self.reports.as_ref().map(ProgressReports::poll_fd);
        monitor.into_iter().chain(reports)
    }

    /// One look at everything; `figures` gives access to the pair's own.
    pub(crate) fn work(
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
                // What the poll core wanted of a VM that was given up a moment later is history.
                ToControl::Act(_) if self.unprotect.is_renounced() => {}
                ToControl::Act(Action::Fence(number)) => self.fence(number, now, log),
                ToControl::Act(Action::FailOver) => self.fail_over(now, log),
                ToControl::Act(Action::Succeed) => self.succeed(now, log),
                ToControl::Cession(news) => self.take_cession_news(news, now, log),
                ToControl::Ask(question) => self.ask_whether_it_runs(question, now),
                ToControl::Offset(flow, offset) => self.offsets.collect(flow, offset),
                ToControl::OffsetsEnd { term } => self.save_offsets(term, log),
                ToControl::RestartAcknowledged => {
                    self.orders.announced();
                    log.warning(
                        "restart",
                        format_args!(
                            "pair {}: the peer has received the announcement of this node's restart; end this process \
                             and start it again within the peer's --restart-limit",
                            self.settings.name
                        ),
                    );
                }
                ToControl::Note(piece) => self.take_note(piece, now, log),
                ToControl::Link(notice) => {
                    if let Some(why) = link::refusal(notice) {
                        self.facts.refused(why, now);
                    }
                    link::tell(notice, &self.settings, log);
                }
            }
        }
        self.look_at_fencing(now, log);
        if let Some(reports) = &mut self.reports
            && reports.work(now, &self.settings.name, log)
            && !self.backlog.is_full()
        {
            // One that finds no room is followed by another.
            self.tell(ToPoll::PeerStalls);
        }
        while !self.backlog.is_full()
            && let Some((_, events)) = &self.guest
            && let Ok(event) = events.try_recv()
        {
            self.guest_event(event, now);
        }
        while !self.backlog.is_full()
            && let Some(event) = self.client.as_mut().and_then(|client| client.poll(now))
        {
            self.monitor_event(event, clock, log, &mut figures);
        }
        self.look_at_link(now, log);
        self.look_at_bringup(now, log);
        self.look_at_cession(now, log);
        self.look_at_unprotection(now, log);
        self.backlog.pass_on(&mut self.mail.outbox);
        for (divergence, epoch) in records {
            let record = self.record(divergence, epoch, clock);
            log.info(format_args!(
                "pair {}: divergence: {} in {}, epoch {epoch}",
                self.settings.name, record.reason, record.flow
            ));
            if let Some(reports) = reports.as_deref_mut() {
                reports.file(&record, log, &mut self.records);
                let counts = self.records;
                figures(&mut |figures| figures.records = Some(counts));
            }
        }
    }

    fn tell(&mut self, message: ToPoll) {
        self.backlog.push(message);
    }
}
