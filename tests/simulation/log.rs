//! What a node would have captured: the log of each run of the primary, for the auditor.

use dpdk_colo::frame::Ticks;
use dpdk_colo::packet::Packet;
use dpdk_colo::protect::{Migration, Monitor, Primary, Reports, State};
use dpdk_colo_audit::read::Log;
use dpdk_colo_audit::record::{Body, Event, Numbers, Place, Record, Role, Start};
use dpdk_colo_audit::{Audit, Options, Report, Rule};

use crate::frame::Numbered;
use crate::rng::Rng;

/// The present run's records, and those of the runs before.
#[derive(Default)]
pub struct Capture {
    runs: Vec<Vec<Record>>,
    now: Ticks,
    seen: Option<(State, u32, u64, Option<u32>, Reports, bool)>,
    was_alone: bool,
}

impl Capture {
    /// The primary node starts, for the first time or again.
    pub fn start(&mut self) {
        self.runs.push(Vec::new());
        self.seen = None;
        self.was_alone = false;
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

    pub fn frame(&mut self, place: Place, epoch: u32, bytes: &[u8]) {
        let bytes = bytes.into();
        self.add(Body::Frame {
            place,
            epoch,
            bytes,
        });
    }

    pub fn fence(&mut self, epoch: u32) {
        self.add(Body::Event(Event::Fence { epoch }));
    }

    pub fn monitor(&mut self, said: Monitor) {
        self.add(Body::Event(match said {
            Monitor::Connected {
                migration, running, ..
            } => Event::MonitorConnected {
                colo: migration == Migration::Colo,
                running,
            },
            Monitor::Disconnected => Event::MonitorLost,
            Monitor::Stop => Event::Stop,
            Monitor::Pass => Event::Pass,
            Monitor::Resume => Event::Resume,
            Monitor::Migration(migration) => Event::Migration {
                colo: migration == Migration::Colo,
            },
            Monitor::ColoExit => Event::ColoExit,
            Monitor::Barrier { migration, .. } => Event::Barrier {
                colo: migration == Migration::Colo,
            },
            // The primary is told of none.
            Monitor::StoppedFor { .. } | Monitor::Answered { .. } | Monitor::Unexplained { .. } => {
                return;
            }
        }));
    }

    /// Notes what has changed, as a node's tap does.
    pub fn watch(&mut self, primary: &Primary<Numbered>, now: Ticks) {
        let discarded = primary.counts().discarded;
        let committed = primary.committed();
        let (reports, witnessed) = (primary.reports(), primary.is_witnessed(now));
        let now = (
            primary.state(),
            primary.epoch(),
            discarded,
            committed,
            reports,
            witnessed,
        );
        let (state, epoch, ..) = now;
        let was = self.seen.replace(now);
        if was == Some(now) {
            return;
        }
        if let Some((.., was, _)) = was
            && was != reports
        {
            // A node that has taken over begins again.
            let next = was.number + 1;
            assert!(reports.number <= next, "each report is noted by itself");
            self.add(Body::Event(Event::Loaded {
                covers: reports.covers,
            }));
        }
        if was.is_some_and(|(.., was)| was != witnessed) {
            self.add(Body::Event(Event::Witness { able: witnessed }));
        }
        if was.is_some_and(|(_, _, was, ..)| was != discarded) {
            self.add(Body::Event(Event::Discarded { frames: discarded }));
        }
        if let Some(epoch) = committed
            && was.is_some_and(|(_, _, _, was, ..)| was != Some(epoch))
        {
            self.add(Body::Event(Event::Commit { epoch }));
        }
        if primary.is_alone() && !self.was_alone {
            self.add(Body::Event(Event::Alone));
        }
        self.was_alone = primary.is_alone();
        self.add(Body::Event(Event::State {
            state: state.word().to_owned(),
            epoch,
        }));
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
                // A byte of the payload of a segment without options, or of a datagram.
                Body::Frame { place, bytes, .. } => *place == Place::Out && bytes.len() > 80,
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
