//! One connection to a monitor, without I/O and without a clock: bytes and times in, events and
//! bytes out.
//!
//! It keeps the order of the protocol. Every command has its place among the outstanding ones
//! (`pipeline.rs`) and its reply must come in that place; whatever comes otherwise ends the session with a
//! [`ProtocolError`], after which it is only good for [`Session::close`]. Memory is bounded: lines
//! by a limit on their length, commands by a limit on the caller's.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::command::{Capability, ColoStatus, Command, Migration, Nic, Parameters, Status};
use super::error::{CommandError, Excerpt, ProtocolError, RequestError, RequestFailure};
use super::event::{Event, MigrationStatus, RunState, Stamp};
use super::examination::{Examination, Look};
use super::pipeline::Pipeline;
use super::probe::{CHECKPOINT_DELAY, Findings, NoColo, Probe, Schema};
use super::wire::{self, Greeting, Lines, Message};
use super::yank::{self, Graph, Instance, Yanked};

/// Commands of the caller that may be without a reply at a time.
const REQUESTS_MAX: usize = 16;
/// The capability of commands out of band.
const OOB: &str = "oob";

/// The times a session keeps.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a greeting or a reply may take. QEMU replies late while it saves or loads the
    /// state of devices, so this is no measure of a checkpoint.
    pub reply_timeout: Duration,
    /// How often the checkpoint delay, the capability `events` and the migration state are read
    /// again. It is also how soon a dead peer is asked whether it lives.
    pub refresh_interval: Duration,
}

/// One connection to a monitor.
#[derive(Debug)]
pub struct Session {
    timing: Timing,
    phase: Phase,
    lines: Lines,
    pipeline: Pipeline,
    events: VecDeque<Event>,
    findings: Findings,
    events_capability: bool,
    migration: MigrationStatus,
    colo: Result<(), NoColo>,
    /// Offered in the greeting, and then enabled.
    oob: bool,
    /// NBD clients of QEMU's.
    nbd: BTreeSet<String>,
    /// Those that lead to the other host.
    replicas: Vec<String>,
    next_refresh: Instant,
    examination: Option<Examination>,
}

#[derive(Debug)]
enum Phase {
    /// Until the time, for the greeting.
    Greeting(Instant),
    /// For the reply to `query-status`, the probe's last command.
    Probing(Box<Probe>),
    Ready,
}

impl Session {
    /// A session on a connection that was just made. Ids of its commands count up from
    /// `first_id`.
    pub fn new(timing: Timing, first_id: u64, now: Instant) -> Self {
        Self {
            timing,
            phase: Phase::Greeting(now + timing.reply_timeout),
            lines: Lines::default(),
            pipeline: Pipeline::new(timing.reply_timeout, first_id),
            events: VecDeque::new(),
            findings: Findings::default(),
            events_capability: false,
            migration: MigrationStatus::None,
            colo: Ok(()),
            oob: false,
            nbd: BTreeSet::new(),
            replicas: Vec::new(),
            next_refresh: now,
            examination: None,
        }
    }

    /// Takes bytes that the monitor sent and that were read at `now`.
    ///
    /// # Errors
    /// The monitor does not keep to the protocol. Events of what came before stay available.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), ProtocolError> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(bytes);
        let result = self.take_lines(&mut lines, now);
        self.lines = lines;
        result
    }

    /// Keeps the times: ends the session on a reply that is overdue, and asks again for what an
    /// operator may have changed. Where QEMU can be freed by [`Session::fail_over`], a late reply alone ends nothing as
    /// long as QEMU answers out of band: no later session could be set up before it is free.
    ///
    /// # Errors
    /// The greeting or a reply did not come in time.
    pub fn tick(&mut self, now: Instant) -> Result<(), ProtocolError> {
        let after = self.timing.reply_timeout;
        if matches!(self.phase, Phase::Greeting(deadline) if deadline <= now) {
            return Err(ProtocolError::NoGreeting { after });
        }
        let late = self.pipeline.overdue(now);
        let given_up = match late {
            Some(command) if self.frees() => {
                if !self.pipeline.aside().any(|one| one == Command::Alive) {
                    self.aside(Command::Alive, Value::Null, now);
                }
                self.pipeline.wait_on(now);
                let command = command.name();
                self.events.push_back(Event::Late { command, after });
                self.pipeline.overdue_aside(now)
            }
            Some(command) => {
                self.pipeline.give_up();
                Some(command)
            }
            None => self.pipeline.overdue_aside(now),
        };
        if let Some(command) = given_up {
            self.events.extend(command.failed(RequestFailure::TimedOut));
            return Err(ProtocolError::ReplyTimedOut {
                command: command.name(),
                after,
            });
        }
        if matches!(self.phase, Phase::Ready) && self.next_refresh <= now {
            self.next_refresh = now + self.timing.refresh_interval;
            if self.pipeline.pending().next().is_none() {
                if !self.events_capability && self.migration.is_idle() {
                    self.command(Command::EnableEvents, now);
                }
                self.command(Command::Parameters, now);
                self.command(Command::Capabilities, now);
                self.command(Command::Migration, now);
                self.look_for_replicas(now);
            }
        }
        Ok(())
    }

    /// When [`Session::tick`] next has something to do.
    pub fn next_deadline(&self) -> Instant {
        let reply = self.pipeline.deadline();
        match self.phase {
            Phase::Greeting(deadline) => deadline,
            Phase::Probing(_) => reply.unwrap_or(self.next_refresh),
            Phase::Ready => reply.map_or(self.next_refresh, |at| at.min(self.next_refresh)),
        }
    }

    /// The oldest answer that is owed, and since when.
    pub fn awaited(&self) -> Option<(&'static str, Instant)> {
        let begun = |deadline: Instant| deadline.checked_sub(self.timing.reply_timeout);
        match self.phase {
            Phase::Greeting(deadline) => Some(("its greeting", begun(deadline)?)),
            Phase::Probing(_) | Phase::Ready => {
                let command = self.pipeline.pending().next()?;
                Some((command.name(), begun(self.pipeline.deadline()?)?))
            }
        }
    }

    /// What waits to be written.
    pub fn output(&self) -> &[u8] {
        self.pipeline.output()
    }

    /// Takes note that the first `count` bytes of [`Session::output`] were handed to the kernel.
    pub fn written(&mut self, count: usize, at: Instant) {
        for command in self.pipeline.written(count) {
            if let Command::Checkpoint(token) = command {
                self.events.push_back(Event::RequestWritten { token, at });
            }
        }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Asks QEMU for a checkpoint by setting the checkpoint delay to what it is.
    ///
    /// QEMU acts only on a primary in the migration state `colo`; elsewhere the request is
    /// accepted and does nothing. An operator's change of the delay within the last refresh
    /// interval can be undone by it.
    ///
    /// # Errors
    /// The probe has not ended or found no COLO, or too many requests are without a reply.
    pub fn request_checkpoint(&mut self, token: u64, now: Instant) -> Result<(), RequestError> {
        self.admit()?;
        self.command(Command::Checkpoint(token), now);
        Ok(())
    }

    /// Asks for the state of the virtual machine and its migration, behind every event that QEMU
    /// emitted before.
    ///
    /// # Errors
    /// The probe has not ended, or too many requests are without a reply.
    pub fn barrier(&mut self, token: u64, now: Instant) -> Result<(), RequestError> {
        match self.admit() {
            Ok(()) | Err(RequestError::NoColo(_)) => {}
            Err(error) => return Err(error),
        }
        self.command(Command::Migration, now);
        self.command(Command::BarrierStatus(token), now);
        Ok(())
    }

    /// Asks for the run state of a virtual machine that has stopped. The answer is true of the moment at which
    /// it stands in the monitor's stream: [`Event::RunState`].
    ///
    /// # Errors
    /// The probe has not ended or found no COLO, or too many requests are without a reply.
    pub fn ask_run_state(&mut self, now: Instant) -> Result<(), RequestError> {
        self.admit()?;
        self.command(Command::StopStatus, now);
        Ok(())
    }

    /// Reports to QEMU that the other side is lost and that this virtual machine goes on alone. What it
    /// makes of that comes as events: STOP, MIGRATION `completed`, RESUME.
    ///
    /// QEMU may wait for that side, and take no command in band meanwhile. Where it can, this cuts QEMU's connections
    /// to it first, out of band: the caller must be certain of the loss.
    ///
    /// # Errors
    /// The probe has not ended or found no COLO, or too many requests are without a reply.
    pub fn fail_over(&mut self, now: Instant) -> Result<(), RequestError> {
        self.admit()?;
        if self.frees()
            && !self
                .pipeline
                .aside()
                .any(|one| matches!(one, Command::Yank(_)))
        {
            self.aside(Command::Yank(Yanked::Migration), yank::migration(), now);
            for at in 0..self.replicas.len() {
                let arguments = yank::block_node(&self.replicas[at]);
                self.aside(Command::Yank(Yanked::Disk), arguments, now);
            }
        }
        self.command(Command::FailOver, now);
        Ok(())
    }

    /// Asks how QEMU and its guest are set up, by commands that only read: [`Event::Examined`]. An examination that is
    /// under way serves this request, too.
    ///
    /// # Errors
    /// The probe has not ended.
    pub fn examine(&mut self, now: Instant) -> Result<(), RequestError> {
        match self.admit() {
            Ok(()) | Err(RequestError::NoColo(_)) => {}
            Err(error) => return Err(error),
        }
        if self.examination.is_none() {
            let (examination, looks) = Examination::begin();
            self.examination = Some(examination);
            self.look(looks, now);
        }
        Ok(())
    }

    /// Gives every NIC of the virtual machine its link. QEMU takes the link from the NIC of a vhost-user
    /// port whose node is gone, and whether there is a link is part of the state that a checkpoint
    /// carries to the other side (`net_vhost_user_event`, `virtio_net_post_load_device`).
    ///
    /// # Errors
    /// The probe has not ended or found no COLO, or too many requests are without a reply.
    pub fn raise_links(&mut self, now: Instant) -> Result<(), RequestError> {
        self.admit()?;
        self.command(Command::Nics, now);
        Ok(())
    }

    /// Lets QEMU execute a command whose reply is for the caller to read: [`Event::Executed`].
    ///
    /// # Errors
    /// The probe has not ended or found no COLO, or too many requests are without a reply.
    pub fn execute(
        &mut self,
        token: u64,
        name: &'static str,
        arguments: Value,
        now: Instant,
    ) -> Result<(), RequestError> {
        self.admit()?;
        self.pipeline
            .send(Command::Other { token, name }, arguments, now);
        Ok(())
    }

    /// The error that the end of the stream is at this point.
    pub fn end_of_stream(&self) -> ProtocolError {
        match self.lines.rest() {
            [] => ProtocolError::Closed,
            rest => ProtocolError::ClosedWithinLine {
                got: Excerpt::new(rest),
            },
        }
    }

    /// Ends the session: fails what is without a reply, and gives out the events that are left and
    /// the id from which a session after this one may count.
    pub fn close(mut self) -> (VecDeque<Event>, u64) {
        let failed = self
            .pipeline
            .pending()
            .chain(self.pipeline.aside())
            .filter_map(|command| command.failed(RequestFailure::ConnectionLost));
        self.events.extend(failed);
        (self.events, self.pipeline.next_id())
    }
}

impl Session {
    fn admit(&self) -> Result<(), RequestError> {
        if !matches!(self.phase, Phase::Ready) {
            return Err(RequestError::NotConnected);
        }
        let asked = self.pipeline.pending().filter(|one| one.is_request());
        if asked.count() >= REQUESTS_MAX {
            return Err(RequestError::TooMany(REQUESTS_MAX));
        }
        self.colo.clone()?;
        Ok(())
    }

    fn look(&mut self, looks: Vec<(Look, Value)>, now: Instant) {
        for (look, arguments) in looks {
            self.pipeline.send(Command::Look(look), arguments, now);
        }
    }

    fn looked(&mut self, look: Look, answer: Option<Value>, now: Instant) {
        let Some(examination) = &mut self.examination else {
            return;
        };
        let looks = examination.take(look, answer);
        self.look(looks, now);
        if let Some(done) = self.examination.take_if(|it| it.is_over()) {
            let said = done.said();
            self.events.push_back(Event::Examined { said });
        }
    }

    fn command(&mut self, command: Command, now: Instant) {
        let arguments = match command {
            Command::EnableEvents => {
                json!({ "capabilities": [{ "capability": "events", "state": true }] })
            }
            Command::Checkpoint(_) => json!({ CHECKPOINT_DELAY: self.findings.checkpoint_delay }),
            Command::Negotiate if self.oob => json!({ "enable": [OOB] }),
            _ => Value::Null,
        };
        self.pipeline.send(command, arguments, now);
    }

    fn aside(&mut self, command: Command, arguments: Value, now: Instant) {
        self.pipeline.send_aside(command, arguments, now);
    }

    /// Whether QEMU takes a `yank` while its main loop waits.
    fn frees(&self) -> bool {
        self.oob && self.findings.schema.yanks && !matches!(self.phase, Phase::Greeting(_))
    }

    /// Asks while QEMU answers. At a failover its main loop may not answer.
    fn look_for_replicas(&mut self, now: Instant) {
        let asked = |one| matches!(one, Command::Instances | Command::BlockGraph);
        if self.frees() && !self.pipeline.pending().any(asked) {
            self.command(Command::Instances, now);
        }
    }

    fn take_lines(&mut self, lines: &mut Lines, now: Instant) -> Result<(), ProtocolError> {
        loop {
            let schema_due = self.pipeline.pending().next() == Some(Command::Schema);
            let limit = if schema_due {
                wire::SCHEMA_LINE_MAX
            } else {
                wire::LINE_MAX
            };
            let Some(line) = lines.next(limit)? else {
                return Ok(());
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message = if schema_due {
                wire::parse::<Schema>(line, "a list of SchemaInfo")?.map_success(|schema| {
                    self.findings.schema = schema;
                    Value::Null
                })
            } else {
                wire::parse(line, "a QMP message")?
            };
            self.message(message, line, now)?;
        }
    }

    fn message(
        &mut self,
        message: Message,
        line: &[u8],
        now: Instant,
    ) -> Result<(), ProtocolError> {
        if matches!(self.phase, Phase::Greeting(_)) {
            let Some(greeting) = message.greeting else {
                return Err(ProtocolError::NotGreeting {
                    got: Excerpt::new(line),
                });
            };
            self.greeted(greeting, now);
            return Ok(());
        }
        match (message.event, message.success, message.error) {
            (Some(name), None, None) => {
                let at = Stamp {
                    read: now,
                    qemu: message.timestamp,
                };
                let data = message.data.unwrap_or_default();
                match self.event(&name, data, at) {
                    Ok(()) => Ok(()),
                    Err(_) => Err(shape("an event's data", line)),
                }
            }
            (None, Some(success), None) => self.reply(message.id, Ok(success), line, now),
            (None, None, Some(error)) => self.reply(message.id, Err(error), line, now),
            _ => Err(shape("a QMP message", line)),
        }
    }

    fn greeted(&mut self, greeting: Greeting, now: Instant) {
        let version = greeting.version.qemu;
        self.phase = Phase::Probing(Box::new(Probe {
            version,
            package: greeting.version.package,
            colo: Ok(()),
            caution: version.caution(),
            run: RunState::Stopped,
            migration: MigrationStatus::None,
            events_capability: false,
            checkpoint_delay_ms: None,
            colo_exit: None,
            colo_mode: None,
        }));
        let offered = greeting.capabilities;
        self.oob = offered.iter().any(|name| name == OOB);
        self.command(Command::Negotiate, now);
    }

    /// While the probe runs, events only change what it will say: its last reply comes behind
    /// them.
    fn event(&mut self, name: &str, data: Value, at: Stamp) -> Result<(), serde_json::Error> {
        let Some(event) = Event::read(name, data, at)? else {
            return Ok(());
        };
        match event {
            Event::Migration { status, .. } => {
                self.migration = status;
                self.read_delay_again(at.read);
            }
            Event::ColoExit { mode, reason, .. } => {
                if let Phase::Probing(probe) = &mut self.phase {
                    probe.colo_exit = Some((mode, reason));
                }
            }
            _ => {}
        }
        if matches!(self.phase, Phase::Ready) {
            self.events.push_back(event);
        }
        Ok(())
    }

    /// A migration is what an operator sets the delay for.
    fn read_delay_again(&mut self, now: Instant) {
        let asked = self
            .pipeline
            .pending()
            .any(|one| one == Command::Parameters);
        if matches!(self.phase, Phase::Ready) && !asked {
            self.command(Command::Parameters, now);
            self.look_for_replicas(now);
        }
    }

    fn reply(
        &mut self,
        id: Option<Value>,
        result: Result<Value, CommandError>,
        line: &[u8],
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let id = id.as_ref().and_then(Value::as_u64);
        let Some(command) = self.pipeline.take_replied(id) else {
            // A reply to the client that held this monitor before may still be on its way.
            let negotiating = self.pipeline.pending().next() == Some(Command::Negotiate);
            return if negotiating {
                Ok(())
            } else {
                Err(ProtocolError::UnexpectedReply {
                    got: Excerpt::new(line),
                })
            };
        };
        match result {
            Ok(value) => self
                .succeeded(command, value, now)
                .map_err(|_| shape("that command's reply", line)),
            Err(error) => self.refused(command, error, now),
        }
    }

    fn refused(
        &mut self,
        command: Command,
        error: CommandError,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        if let Command::Look(look) = command {
            self.looked(look, None, now);
            return Ok(());
        }
        let probing = matches!(self.phase, Phase::Probing(_));
        if probing && command != Command::EnableEvents {
            return Err(ProtocolError::ProbeRefused {
                command: command.name(),
                source: error,
            });
        }
        self.events
            .extend(command.failed(RequestFailure::Refused(error)));
        Ok(())
    }

    fn succeeded(
        &mut self,
        command: Command,
        value: Value,
        now: Instant,
    ) -> Result<(), serde_json::Error> {
        match command {
            Command::Negotiate => {
                if self.oob {
                    self.pipeline.keep_room();
                }
                self.command(Command::Schema, now);
                self.command(Command::Capabilities, now);
            }
            // Read while its line was parsed.
            Command::Schema => {}
            Command::Capabilities => {
                let capabilities: Vec<Capability> = serde_json::from_value(value)?;
                self.capabilities(&capabilities, now);
            }
            Command::EnableEvents => self.events_capability(true),
            Command::Parameters => {
                let Parameters { checkpoint_delay } = serde_json::from_value(value)?;
                // Kept where it is hidden from now on: a request has to repeat some value.
                self.findings.checkpoint_delay =
                    checkpoint_delay.or(self.findings.checkpoint_delay);
            }
            Command::Migration => {
                let Migration { status } = serde_json::from_value(value)?;
                self.queried_migration(status, now);
            }
            Command::ProbeStatus => {
                let Status { status } = serde_json::from_value(value)?;
                let in_colo = self.migration == MigrationStatus::Colo;
                match &mut self.phase {
                    Phase::Probing(probe) if in_colo && self.findings.schema.reports_colo_mode => {
                        probe.run = status;
                        self.command(Command::ColoStatus, now);
                    }
                    _ => self.probed(status, now),
                }
            }
            Command::ColoStatus => {
                let ColoStatus { mode } = serde_json::from_value(value)?;
                if let Phase::Probing(probe) = &mut self.phase {
                    probe.colo_mode = Some(mode);
                    let run = probe.run;
                    self.probed(run, now);
                }
            }
            Command::FailOver => self.events.push_back(Event::FailOverAccepted),
            Command::Nics => {
                let nics: Vec<Nic> = serde_json::from_value(value)?;
                for Nic { name } in nics {
                    let arguments = json!({ "name": name, "up": true });
                    self.pipeline.send(Command::RaiseLink, arguments, now);
                    self.events.push_back(Event::LinkRaised { nic: name });
                }
            }
            Command::RaiseLink | Command::Alive => {}
            Command::Look(look) => self.looked(look, Some(value), now),
            Command::Other { token, .. } => self.events.push_back(Event::Executed {
                token,
                result: Ok(value),
            }),
            Command::Yank(what) => self.events.push_back(Event::Yanked { what }),
            Command::Instances => {
                let instances: Vec<Instance> = serde_json::from_value(value)?;
                self.nbd = yank::block_nodes(instances);
                // What is known holds until the graph is known anew: it may be needed before.
                self.replicas.retain(|name| self.nbd.contains(name));
                if !self.nbd.is_empty() && self.findings.schema.shows_block_graph {
                    self.command(Command::BlockGraph, now);
                }
            }
            Command::BlockGraph => {
                let graph: Graph = serde_json::from_value(value)?;
                self.replicas = yank::replicas(&graph, &self.nbd);
            }
            Command::StopStatus => {
                let Status { status } = serde_json::from_value(value)?;
                self.events.push_back(Event::RunState(status));
            }
            Command::BarrierStatus(token) => {
                let Status { status } = serde_json::from_value(value)?;
                self.events.push_back(Event::Barrier {
                    token,
                    run: status,
                    migration: self.migration,
                });
            }
            Command::Checkpoint(token) => {
                self.events
                    .push_back(Event::RequestAccepted { token, at: now });
            }
        }
        Ok(())
    }

    fn capabilities(&mut self, capabilities: &[Capability], now: Instant) {
        let state = |name| {
            capabilities
                .iter()
                .find(|one| one.capability == name)
                .map(|one| one.state)
        };
        let events = state("events");
        self.events_capability(events == Some(true));
        if matches!(self.phase, Phase::Probing(_)) {
            self.findings.colo_capability = state("x-colo").is_some();
            if events == Some(false) {
                self.command(Command::EnableEvents, now);
            }
            self.command(Command::Parameters, now);
            self.command(Command::Migration, now);
            self.command(Command::ProbeStatus, now);
        }
    }

    fn events_capability(&mut self, on: bool) {
        if matches!(self.phase, Phase::Ready) && self.events_capability != on {
            self.events.push_back(Event::EventsCapability { on });
        }
        self.events_capability = on;
    }

    fn queried_migration(&mut self, status: MigrationStatus, now: Instant) {
        if matches!(self.phase, Phase::Ready) && self.migration != status {
            let at = Stamp {
                read: now,
                qemu: None,
            };
            self.events.push_back(Event::Migration { status, at });
        }
        self.migration = status;
    }

    fn probed(&mut self, run: RunState, now: Instant) {
        let Phase::Probing(mut probe) = std::mem::replace(&mut self.phase, Phase::Ready) else {
            return;
        };
        self.colo = self.findings.judge(probe.version);
        self.next_refresh = now + self.timing.refresh_interval;
        probe.colo = self.colo.clone();
        probe.run = run;
        probe.migration = self.migration;
        probe.events_capability = self.events_capability;
        probe.checkpoint_delay_ms = self.findings.checkpoint_delay;
        self.events.push_back(Event::Connected(probe));
        self.look_for_replicas(now);
    }
}

fn shape(expected: &'static str, line: &[u8]) -> ProtocolError {
    ProtocolError::Shape {
        expected,
        got: Excerpt::new(line),
    }
}
