//! Builds logs step by step, as two nodes of a protected pair write them.

use dpdk_colo_audit::read::Log;
use dpdk_colo_audit::record::{Body, Event, Numbers, Place, PolicyRule, Record, Role, Start};
use dpdk_colo_audit::{Audit, Options, Report};

/// One node's log.
#[derive(Clone)]
pub struct Story {
    pub start: Start,
    pub records: Vec<Record>,
    pub epoch: u32,
    ns: u64,
}

impl Story {
    pub fn new(role: Role) -> Self {
        let start = Start {
            ns: 0,
            wall_ns: 1_700_000_000_000_000_000,
            host: "one".to_owned(),
            pair: "vm0".to_owned(),
            role,
            numbers: Numbers::Translated,
            policy: vec![PolicyRule {
                name: "clock".to_owned(),
                protocol: "udp".to_owned(),
                port: Some(123),
                prefix: None,
                vlan: None,
                mask: None,
            }],
        };
        let mut story = Self {
            start,
            records: Vec::new(),
            epoch: 0,
            ns: 0,
        };
        story.state("solo");
        story
    }

    fn add(&mut self, body: Body) -> usize {
        self.ns += 1_000;
        self.records.push(Record {
            seq: 0,
            ns: self.ns,
            body,
        });
        self.records.len() - 1
    }

    /// Lets time pass until another story's present.
    pub fn after(&mut self, other: &Story) {
        self.ns = self.ns.max(other.ns);
    }

    pub fn event(&mut self, event: Event) -> usize {
        self.add(Body::Event(event))
    }

    pub fn state(&mut self, state: &str) {
        let (state, epoch) = (state.to_owned(), self.epoch);
        self.event(Event::State { state, epoch });
    }

    pub fn frame(&mut self, place: Place, bytes: &[u8]) -> usize {
        self.add(Body::Frame {
            place,
            epoch: self.epoch,
            bytes: bytes.into(),
        })
    }

    pub fn p(&mut self, bytes: &[u8]) -> usize {
        self.frame(Place::P, bytes)
    }

    pub fn s(&mut self, bytes: &[u8]) -> usize {
        self.frame(Place::S, bytes)
    }

    pub fn out(&mut self, bytes: &[u8]) -> usize {
        self.frame(Place::Out, bytes)
    }

    /// Both VMs send this, and it leaves.
    pub fn agree(&mut self, bytes: &[u8]) -> usize {
        self.p(bytes);
        self.s(bytes);
        self.out(bytes)
    }

    pub fn fence(&mut self) {
        self.epoch += 1;
        self.event(Event::Fence { epoch: self.epoch });
        self.state("checkpointing");
    }

    pub fn commit(&mut self) -> usize {
        let at = self.event(Event::Commit { epoch: self.epoch });
        self.state("protected");
        at
    }

    /// COLO begins: protection from here on.
    pub fn protect(&mut self) {
        self.event(Event::MonitorConnected {
            colo: false,
            running: false,
        });
        self.epoch += 1;
        self.event(Event::Fence { epoch: self.epoch });
        self.event(Event::Stop);
        self.event(Event::Migration { colo: true });
        self.event(Event::Resume);
        self.commit();
    }

    /// A checkpoint, the commit included.
    pub fn checkpoint(&mut self) {
        self.fence();
        self.load();
    }

    /// The monitor's events of a checkpoint, and the commit.
    pub fn load(&mut self) {
        self.event(Event::Stop);
        self.event(Event::Pass);
        self.event(Event::Resume);
        self.commit();
    }

    pub fn end(mut self) -> Self {
        self.event(Event::End);
        self
    }

    /// The frame of a record.
    pub fn bytes(&mut self, at: usize) -> &mut Box<[u8]> {
        match &mut self.records[at].body {
            Body::Frame { bytes, .. } => bytes,
            Body::Event(event) => panic!("record {at} is {event:?}"),
        }
    }

    /// Moves a record to before another one.
    pub fn move_to(&mut self, from: usize, to: usize) {
        let record = self.records.remove(from);
        self.records.insert(to, record);
    }

    pub fn remove(&mut self, at: usize) {
        self.records.remove(at);
    }

    /// The log, numbered from 1.
    pub fn log(&self, name: &str) -> Log {
        let mut records = self.records.clone();
        for (seq, record) in (1..).zip(&mut records) {
            record.seq = seq;
        }
        Log::of_records(name, self.start.clone(), records)
    }
}

pub fn audit(stories: &[&Story]) -> Report {
    audit_with(stories, Options::default())
}

pub fn audit_with(stories: &[&Story], options: Options) -> Report {
    let nodes = stories
        .iter()
        .enumerate()
        .map(|(i, story)| vec![story.log(["primary", "secondary"][i])])
        .collect();
    Audit::new(nodes, options).run().expect("it is in memory").0
}
