//! One node's log: its epochs, the frames that a commit covers, and a judge for each flow.
//!
//! The auditor does not trust the node that a commit was due. The log has the monitor's events and the secondary's
//! reports. A commit must follow a fence, STOP and RESUME with no P taken in between. A report of a load must cover the
//! frames that were taken. If the secondary can report none, MIGRATION_PASS must have come
//! (`docs/commit-evidence.md`). Any other commit violates rule R3.

use std::collections::{BTreeMap, HashMap};

use dpdk_colo::flow::{FlowClass, FlowKey};
use dpdk_colo::packet::serial::at_or_before;
use dpdk_colo::packet::{Kind, Packet, TcpFlags};

use crate::policy::{covering, masking};
use crate::record::{Event, Place, Role, Start};
use crate::report::{Judged, Rule};
use crate::tcp::{Incarnation, Masks};
use crate::verdict::{CapturePoint, Fault, Received, Releasing, Why};
use crate::{datagram, tcp};

/// All connections, whichever node released them.
pub type Incarnations = HashMap<FlowKey, Vec<Incarnation>>;

enum Flow {
    Tcp(Box<tcp::Flow>),
    Datagrams(datagram::Flow),
}

/// The events of a checkpoint that the monitor has sent.
#[derive(Clone, Copy, Default)]
struct CheckpointEvents {
    stop: bool,
    pass: bool,
    /// RESUME came as it must before a commit.
    ended: bool,
    /// Nothing was protected before, or MIGRATION_PASS came.
    begins: bool,
    passed: bool,
}

/// The events of a load that a secondary's monitor has sent.
#[derive(Default)]
struct Load {
    stop: bool,
    colo: bool,
}

/// EtherType of reverse ARP, by which a host that took over a VM announces it to switches.
const RARP: u16 = 0x8035;

/// Whether a frame may be a node's announcement of its VM's place.
fn is_announcement(packet: &Packet) -> bool {
    is_discovery(packet)
        || matches!(packet.kind, Kind::Igmp | Kind::Mld)
        || packet.key.ether_type() == Some(RARP)
        || packet.kind == Kind::Icmp && is_unreachable(packet)
}

fn is_discovery(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Arp | Kind::NeighbourDiscovery)
}

/// Whether a frame is an ICMP error "unreachable". A node sends them for the time before its takeover.
fn is_unreachable(packet: &Packet) -> bool {
    let kind = packet.key.icmp().map(|(kind, _)| kind);
    let ipv6 = packet.key.src_ip().is_some_and(|ip| ip.is_ipv6());
    kind == Some(if ipv6 { 1 } else { 3 })
}

/// States in which nothing is compared.
const OPEN: [&str; 3] = ["solo", "pairing", "alone"];

/// The judge of one run of one node.
pub struct Node {
    start: Start,
    /// The present role: a secondary may become a primary.
    role: Role,
    flows: HashMap<FlowKey, Flow>,
    keep: bool,
    epoch: u32,
    fences: u64,
    committed: u64,
    /// Turns, separated by a frame that left or an event, and whether one has ended.
    turn: u64,
    turned: bool,
    events: CheckpointEvents,
    /// Reports that cover the last P, and that no commit has used.
    loads: u64,
    /// The epoch of the last P that no commit covers.
    taken: Option<u32>,
    witness: bool,
    /// The events of a load, at a secondary.
    load: Load,
    colo: bool,
    /// The VM ran before the node did.
    late: bool,
    open: bool,
    /// An operator or a takeover decided that this node serves without a comparison.
    decided: bool,
    discarded: u64,
    vanished: u64,
    /// The epoch in which something left last.
    left_in: Option<u32>,
    /// The time of the record at hand.
    pub now: u64,
    /// Counts of the judged frames.
    pub judged: Judged,
}

impl Node {
    /// A node that has just begun. With `keep` all bytes are kept.
    pub fn new(start: Start, keep: bool) -> Self {
        Self {
            open: start.role == Role::Primary,
            role: start.role,
            start,
            flows: HashMap::new(),
            keep,
            epoch: 0,
            fences: 0,
            committed: 0,
            turn: 0,
            turned: false,
            events: CheckpointEvents::default(),
            loads: 0,
            taken: None,
            witness: false,
            load: Load::default(),
            colo: false,
            late: false,
            decided: false,
            discarded: 0,
            vanished: 0,
            left_in: None,
            now: 0,
            judged: Judged::default(),
        }
    }

    /// The epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Takes in an event.
    ///
    /// # Errors
    /// When the event breaks a rule.
    pub fn event(&mut self, event: &Event) -> Result<(), Fault> {
        match event {
            Event::Fence { epoch } => {
                self.fences += 1;
                self.epoch = *epoch;
                self.events.ended = false;
            }
            Event::MonitorConnected { colo, running } => {
                self.colo = *colo;
                self.late |= *running && self.fences == 0;
            }
            Event::Migration { colo } | Event::Barrier { colo } => self.colo = *colo,
            Event::MonitorLost => {
                // What a RESUME has ended stays ended.
                (self.events.stop, self.events.pass) = (false, false);
                self.load = Load::default();
            }
            Event::Stop => {
                self.load = Load {
                    stop: true,
                    colo: false,
                };
                self.events = CheckpointEvents {
                    stop: true,
                    pass: false,
                    ..self.events
                };
                if self.role == Role::Compare {
                    // Without a guest port STOP is the fence.
                    self.fences += 1;
                }
            }
            Event::Pass => self.events.pass = self.events.stop,
            Event::RunState { colo } => self.load.colo |= *colo,
            Event::Witness { able } => self.witness = *able,
            Event::Loaded { covers } => {
                let contains = self
                    .taken
                    .is_none_or(|taken| covers.is_some_and(|covers| at_or_before(taken, covers)));
                self.loads += u64::from(contains);
            }
            Event::Resume => {
                self.load = Load::default();
                // Protection begins with the first RESUME in COLO, which nothing has to prove.
                let counts = self.colo && self.events.stop;
                self.events = CheckpointEvents {
                    ended: counts || self.events.ended,
                    begins: counts && self.open,
                    passed: counts && self.events.pass || self.events.ended && self.events.passed,
                    ..CheckpointEvents::default()
                };
            }
            Event::Commit { epoch } => self.commit(*epoch)?,
            Event::State { state, epoch } => self.state(state, *epoch)?,
            Event::Discarded { frames } => {
                self.vanished += frames.saturating_sub(self.discarded);
                self.judged.dropped += frames.saturating_sub(self.discarded);
                self.discarded = *frames;
            }
            Event::Takeover => {
                self.role = Role::Primary;
                self.decided = true;
                self.open = true;
            }
            Event::Alone => {
                self.decided = true;
                self.open = true;
            }
            Event::Start(_) | Event::ColoExit | Event::Gap { .. } | Event::End | Event::Other => {}
        }
        Ok(())
    }

    fn commit(&mut self, epoch: u32) -> Result<(), Fault> {
        self.judged.commits += 1;
        let proven = match self.role {
            // A comparator gets no reports.
            Role::Compare => self.events.passed,
            _ => self.loads > 0 || !self.witness && self.events.passed,
        };
        if !self.events.ended || !(self.events.begins || proven) {
            return Err(Fault {
                rule: Rule::R3,
                position: None,
                records: Vec::new(),
                what: format!(
                    "epoch {epoch} begins with a commit, but since the fence the monitor has not sent \
                     STOP and RESUME in state colo, or no report of a load covers what was taken \
                     (reports that do: {}, the secondary can report: {}, MIGRATION_PASS: {})",
                    self.loads, self.witness, self.events.passed
                ),
            });
        }
        // A STOP that the monitor has sent since then belongs to another checkpoint.
        self.events = CheckpointEvents {
            stop: self.events.stop,
            pass: self.events.pass,
            ..CheckpointEvents::default()
        };
        self.loads = self.loads.saturating_sub(1);
        self.taken = None;
        self.committed = self.fences;
        self.epoch = epoch;
        self.open = false;
        self.decided = false;
        Ok(())
    }

    fn state(&mut self, state: &str, epoch: u32) -> Result<(), Fault> {
        let serves = self.role == Role::Primary && OPEN.contains(&state);
        if serves && !self.open && self.colo && !self.decided {
            return Err(Fault {
                rule: Rule::R1,
                position: None,
                records: Vec::new(),
                what: format!("the node stops comparing (state {state}) while COLO goes on"),
            });
        }
        self.open = serves;
        self.decided &= serves;
        self.epoch = epoch;
        Ok(())
    }

    /// Whether this event, which the node has not taken in yet, is the end of a load of its VM's: a RESUME
    /// behind a STOP in run state `colo`.
    pub fn ends_load(&self, event: &Event) -> bool {
        *event == Event::Resume && self.load.stop && self.load.colo
    }

    /// Takes in a frame.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn frame(
        &mut self,
        record: u64,
        place: Place,
        epoch: u32,
        bytes: &[u8],
        incarnations: &mut Incarnations,
    ) -> Result<(), Fault> {
        let packet = Packet::parse(bytes, bytes.len());
        match place {
            Place::Out => self.turned = true,
            _ => self.turn += u64::from(std::mem::take(&mut self.turned)),
        }
        match place {
            Place::P => self.taken(record, epoch, packet, bytes, incarnations),
            Place::S => self.witnessed(record, epoch, &packet, bytes, incarnations),
            Place::Out => return self.left(&packet, bytes, incarnations),
            Place::In => self.input(&packet),
            Place::Other => {}
        }
        Ok(())
    }

    /// A client's RST ends what its connection waits for.
    fn input(&mut self, packet: &Packet) {
        if packet.kind == Kind::Tcp
            && packet.tcp.flags.contains(TcpFlags::RST)
            && let Some(Flow::Tcp(flow)) = self.flows.get_mut(&packet.key.reversed())
        {
            flow.client_reset(packet.tcp.seq);
        }
    }

    fn taken(
        &mut self,
        record: u64,
        epoch: u32,
        packet: Packet,
        bytes: &[u8],
        incarnations: &mut Incarnations,
    ) {
        // The ring runs, so every stop that the monitor has reported is over.
        self.events = CheckpointEvents::default();
        (self.loads, self.taken) = (0, Some(epoch));
        let captured = CapturePoint {
            record,
            epoch,
            fences: self.fences,
            open: self.open,
            turn: self.turn,
        };
        let committed = self.committed;
        let bytes = bytes.into();
        match self.flow(&packet, incarnations) {
            (Flow::Tcp(flow), incarnations) => {
                flow.taken(captured, packet, bytes, committed, incarnations)
            }
            (Flow::Datagrams(flow), _) => flow.taken(captured, packet, bytes, committed),
        }
    }

    fn witnessed(
        &mut self,
        record: u64,
        epoch: u32,
        packet: &Packet,
        bytes: &[u8],
        incarnations: &mut Incarnations,
    ) {
        // An S of an ended epoch does not count, and a secondary gets none.
        if epoch != self.epoch || self.role == Role::Secondary {
            return;
        }
        if let Kind::Unreadable(_) = packet.kind {
            return;
        }
        let (committed, turn) = (self.committed, self.turn);
        match self.flow(packet, incarnations) {
            (Flow::Tcp(flow), incarnations) => {
                let received = Received {
                    record,
                    epoch,
                    turn,
                };
                flow.witnessed(received, packet, bytes, committed, incarnations);
            }
            (Flow::Datagrams(flow), _) => flow.witnessed(epoch, packet, bytes, committed),
        }
    }

    fn left(
        &mut self,
        packet: &Packet,
        bytes: &[u8],
        incarnations: &mut Incarnations,
    ) -> Result<(), Fault> {
        self.judged.released += 1;
        let mut cx = Releasing {
            committed: self.committed,
            open: self.open,
            policy: covering(&self.start.policy, packet).map(str::to_owned),
            has_taken_over: self.start.role == Role::Secondary,
            masked: BTreeMap::new(),
            masked_again: 0,
            vanished: self.vanished,
        };
        // A node that is started again asks for the VM's neighbours, once its output may leave: behind its first
        // commit, which need not follow a fence.
        let asks = self.late && (self.judged.commits > 0 || !self.colo) && is_discovery(packet);
        let announces = asks || self.role != self.start.role && is_announcement(packet);
        let why = match self.flow(packet, incarnations) {
            (Flow::Datagrams(flow), _) if announces && !flow.waits() => Ok(Why::Announcement),
            (Flow::Tcp(flow), incarnations) => flow.left(packet, bytes, &mut cx, incarnations),
            (Flow::Datagrams(flow), _) => flow.left(packet, bytes, &mut cx),
        }?;
        let judged = &mut self.judged;
        judged.released_bytes += bytes.len() as u64;
        if self.left_in.replace(self.epoch) != Some(self.epoch) {
            judged.epochs += 1;
        }
        match why {
            Why::Compared => {
                judged.compared += 1;
                judged.compared_bytes += bytes.len() as u64;
            }
            Why::Committed => judged.committed += 1,
            Why::Open | Why::Announcement => judged.unprotected += 1,
            Why::Policy(rule) => *judged.policy.entry(rule).or_default() += 1,
        }
        judged.masked_again += cx.masked_again;
        for (rule, n) in cx.masked {
            *judged.masked.entry(rule).or_default() += n;
        }
        self.vanished = cx.vanished;
        Ok(())
    }

    /// The judge of a packet's flow, known or new, and the flow's connections.
    fn flow<'a>(
        &'a mut self,
        packet: &Packet,
        incarnations: &'a mut Incarnations,
    ) -> (&'a mut Flow, &'a mut Vec<Incarnation>) {
        let incarnations = match packet.key.class() {
            FlowClass::Tcp => incarnations.entry(packet.key).or_default(),
            // Shared by all flows without connections, and empty.
            _ => incarnations.entry(FlowKey::default()).or_default(),
        };
        let (numbers, keep) = (self.start.numbers, self.keep);
        let masks = || Masks::new(masking(&self.start.policy, &packet.key));
        let flow = self
            .flows
            .entry(packet.key)
            .or_insert_with(|| match packet.kind {
                Kind::Tcp => Flow::Tcp(Box::new(
                    tcp::Flow::new(numbers, incarnations, keep).with_masks(masks()),
                )),
                _ => Flow::Datagrams(datagram::Flow::default()),
            });
        if let Flow::Tcp(flow) = flow {
            flow.at(self.now);
        }
        (flow, incarnations)
    }
}
