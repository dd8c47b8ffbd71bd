//! What a node would have captured: the log of each run of the primary, for the auditor.

use colo_testkit::rng::Rng;
use dpdk_colo::frame::Ticks;
use dpdk_colo::observability::capture::{self, Note};
use dpdk_colo::packet::{Kind, Packet};
use dpdk_colo::pair::View;
use dpdk_colo::protect::{Migration, QemuEvent};
use dpdk_colo_audit::read::Log;
use dpdk_colo_audit::record::{Body, Event, Numbers, Place, Record, Role, Start};
use dpdk_colo_audit::{Audit, Options, Report, Rule};

/// The present run's records, and those of the runs before.
#[derive(Default)]
pub struct Capture {
    runs: Vec<Vec<Record>>,
    now: Ticks,
    seen: Option<View>,
}

impl Capture {
    /// The primary node starts, for the first time or again.
    pub fn start(&mut self) {
        self.runs.push(Vec::new());
        self.seen = None;
    }

    pub fn at(&mut self, now: Ticks) {
        self.now = now;
    }

    fn add(&mut self, body: Body) {
        let ns = self.now * 1_000;
        if self.runs.is_empty() {
            self.start();
        }
        if let Some(run) = self.runs.last_mut() {
            let seq = run.len() as u64 + 1;
            run.push(Record { seq, ns, body });
        }
    }

    pub fn frame(&mut self, place: capture::Place, epoch: u32, bytes: &[u8]) {
        let place = Place::of_interface(place.word());
        let bytes = bytes.into();
        self.add(Body::Frame {
            place,
            epoch,
            bytes,
        });
    }

    /// Notes what has changed, as a node's tap does.
    pub fn watch(&mut self, view: View) {
        let was = self.seen.replace(view);
        view.changes(was.as_ref(), |note| self.note(note));
    }

    pub fn note(&mut self, note: Note) {
        let event = match note {
            Note::Fence { epoch } => Event::Fence { epoch },
            Note::Monitor(said) => match monitor(said) {
                Some(event) => event,
                None => return,
            },
            Note::State { state, epoch } => Event::State {
                state: state.word().to_owned(),
                epoch,
            },
            Note::Commit { epoch } => Event::Commit { epoch },
            Note::Loaded { covers } => Event::Loaded { covers },
            Note::Witness { able } => Event::Witness { able },
            Note::Discarded { frames } => Event::Discarded { frames },
            Note::Alone => Event::Alone,
            Note::Takeover => Event::Takeover,
            // They say nothing of what may leave.
            Note::Divergence { .. } | Note::Request { .. } => return,
        };
        self.add(Body::Event(event));
    }

    fn audit(runs: &[Vec<Record>]) -> Report {
        let start = Start {
            ns: 0,
            wall_ns: 0,
            host: "simulation".to_owned(),
            pair: "vm1".to_owned(),
            role: Role::Primary,
            numbers: Numbers::Translated,
            policy: Vec::new(),
        };
        let logs = runs
            .iter()
            .map(|run| {
                let mut records = run.clone();
                let (seq, ns) = (records.len() as u64 + 1, u64::MAX);
                let body = Body::Event(Event::End);
                records.push(Record { seq, ns, body });
                Log::of_records("primary", start.clone(), records)
            })
            .collect();
        let audit = Audit::new(vec![logs], Options::default());
        audit.run().expect("it is in memory").0
    }

    /// The auditor agrees with the oracle that all was well, and would not if one byte had left
    /// otherwise.
    pub fn check(mut self, rng: &mut Rng) {
        let report = Self::audit(&self.runs);
        if report.status() != 0 && std::env::var_os("DPDK_COLO_TRACE").is_some() {
            self.runs.iter().flatten().for_each(tell);
        }
        assert_eq!(report.status(), 0, "audit: {report}");
        let outs: Vec<(usize, usize)> = self
            .runs
            .iter()
            .enumerate()
            .flat_map(|(run, records)| (0..records.len()).map(move |i| (run, i)))
            .filter(|&(run, i)| match &self.runs[run][i].body {
                Body::Frame { place, bytes, .. } => *place == Place::Out && is_payload_last(bytes),
                Body::Event(_) => false,
            })
            .collect();
        if outs.is_empty() {
            return;
        }
        let (run, i) = outs[rng.below(outs.len())];
        if let Body::Frame { bytes, .. } = &mut self.runs[run][i].body {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }
        let report = Self::audit(&self.runs);
        let violation = report.violation.expect("a flipped byte is seen");
        assert!(
            matches!(violation.rule, Rule::R1 | Rule::R5) && violation.seq == i as u64 + 1,
            "{violation}"
        );
    }
}

/// Whether the last byte of a frame is one of a payload that the VM has sent: of a datagram, or of a segment that is
/// longer than headers with options. A question of the node's own for a neighbour has no original to differ from.
fn is_payload_last(bytes: &[u8]) -> bool {
    bytes.len() > 80
        && matches!(
            Packet::parse(bytes, bytes.len()).kind,
            Kind::Tcp | Kind::Udp
        )
}

/// What the monitor said, in the auditor's words.
fn monitor(said: QemuEvent) -> Option<Event> {
    Some(match said {
        QemuEvent::Connected {
            migration, running, ..
        } => Event::MonitorConnected {
            colo: migration == Migration::Colo,
            running,
        },
        QemuEvent::Disconnected => Event::MonitorLost,
        QemuEvent::Stop => Event::Stop,
        QemuEvent::Pass => Event::Pass,
        QemuEvent::Resume => Event::Resume,
        QemuEvent::Migration(migration) => Event::Migration {
            colo: migration == Migration::Colo,
        },
        QemuEvent::ColoExit => Event::ColoExit,
        QemuEvent::Barrier { migration, .. } => Event::Barrier {
            colo: migration == Migration::Colo,
        },
        // The primary gets none of them.
        QemuEvent::StoppedFor { .. }
        | QemuEvent::Answered { .. }
        | QemuEvent::StartedWithoutMonitor { .. } => {
            return None;
        }
    })
}

/// Prints a record: of a segment its port, its numbers and its length.
fn tell(record: &Record) {
    let seq = record.seq;
    match &record.body {
        Body::Frame { place, bytes, .. } => {
            let packet = Packet::parse(bytes, bytes.len());
            let (tcp, len) = (packet.tcp, packet.payload_len);
            let ports = [packet.key.src_port(), packet.key.dst_port()];
            eprintln!(
                "{seq}: {place:?} {ports:?} {:?} {}+{len} ack {}",
                tcp.flags, tcp.seq, tcp.ack
            );
        }
        Body::Event(event) => eprintln!("{seq}: {event:?}"),
    }
}
