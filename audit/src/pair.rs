//! Both nodes together: their logs merged by time, and who may release (rule R6).
//!
//! A node may release from its start (a primary or a comparator) or from its takeover on, until the
//! other one does. Logs of one host share a clock; those of two hosts are ordered by their wall
//! clocks, whose error the caller must know.

use crate::certificate::{Run, Scope, instant};
use crate::node::{Incarnations, Node};
use crate::read::{Ending, Log, ReadError};
use crate::record::{Body, Event, Place, Record, Role, Start};
use crate::report::{Report, Rule, Violation};
use crate::verdict::Fault;

/// Options of an audit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How far the hosts' wall clocks may differ, in nanoseconds; `None`: unknown.
    pub clock_error: Option<u64>,
    /// All bytes that left are kept, to check a client's capture.
    pub keep: bool,
}

/// One node of the audit: its runs, one after the other.
struct Side {
    runs: Vec<Log>,
    run: usize,
    node: Option<Node>,
    next: Option<Record>,
    /// Added to this host's times.
    shift: i128,
    may_release: bool,
    released: bool,
    /// Nothing more of this side is judged.
    over: bool,
    /// Loads of its VM by its monitor's events, and reports of the other side's loads that came.
    loads: u64,
    reports: u64,
    /// A run of it has no end mark, so that loads may be missing.
    cut: bool,
    /// Its runs, as far as they were judged.
    judged: Vec<Part>,
}

/// The side that released last, and since when.
#[derive(Clone, Copy)]
struct Releaser {
    side: usize,
    since: i128,
}

/// An audit of one VM pair.
pub struct Audit {
    sides: Vec<Side>,
    options: Options,
    incarnations: Incarnations,
    releaser: Option<Releaser>,
    one_clock: bool,
    report: Report,
}

impl Audit {
    /// An audit of the runs of one node or of both.
    pub fn new(nodes: Vec<Vec<Log>>, options: Options) -> Self {
        let host = |log: &Log| log.start.host.clone();
        let first = nodes.iter().flatten().next().map(host);
        let one_clock = nodes.iter().flatten().all(|log| Some(host(log)) == first);
        let sides = nodes
            .into_iter()
            .map(|runs| Side {
                runs,
                run: 0,
                node: None,
                next: None,
                shift: 0,
                may_release: false,
                released: false,
                over: false,
                loads: 0,
                reports: 0,
                cut: false,
                judged: Vec::new(),
            })
            .collect();
        Self {
            sides,
            options,
            incarnations: Incarnations::new(),
            releaser: None,
            one_clock,
            report: Report::default(),
        }
    }

    /// Judges everything, up to the first violation.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn run(mut self) -> Result<(Report, Incarnations), ReadError> {
        for side in 0..self.sides.len() {
            self.advance(side)?;
        }
        while let Some(side) = self.earliest() {
            let Some(record) = self.sides[side].next.take() else {
                break;
            };
            if let Err(fault) = self.judge(side, &record) {
                self.report.violation = Some(self.violation(side, &record, fault));
                break;
            }
            note(&mut self.sides[side], &record);
            self.advance(side)?;
        }
        let releasers = self.sides.iter().filter(|side| side.released).count();
        if !self.one_clock && self.options.clock_error.is_none() && releasers > 1 {
            self.report.unproven.push(
                "R6: the nodes ran on hosts with clocks of their own; say how far these may differ"
                    .to_owned(),
            );
        }
        for side in &mut self.sides {
            if let Some(node) = &side.node {
                self.report.judged.add(&node.judged);
            }
        }
        self.report.scope = Scope {
            nodes: self.sides.len(),
            ordered: self.one_clock || self.options.clock_error.is_some(),
            client: false,
            connections: connections(&self.incarnations),
        };
        for side in self.sides {
            let runs = side.judged.iter();
            let runs = runs.map(|part| describe(&side.runs[part.run], *part));
            self.report.certificate.runs.extend(runs);
            for log in side.runs {
                self.report.certificate.inputs.extend(log.close()?);
            }
        }
        self.report.certify();
        Ok((self.report, self.incarnations))
    }

    fn earliest(&self) -> Option<usize> {
        let time = |side: &Side| side.next.as_ref().map(|next| time_of(side, next));
        let timed = self.sides.iter().enumerate();
        timed
            .filter_map(|(i, side)| time(side).map(|time| (time, i)))
            .min()
            .map(|(_, i)| i)
    }

    /// Fetches the side's next record, from its next run if need be.
    fn advance(&mut self, number: usize) -> Result<(), ReadError> {
        let side = &mut self.sides[number];
        while !side.over && side.next.is_none() {
            let Some(log) = side.runs.get_mut(side.run) else {
                break;
            };
            if side.node.is_none() {
                self.report.judged.records += 1;
                begin(side, self.one_clock, self.options.keep);
                continue;
            }
            side.next = log.next_record()?;
            if side.next.is_some() {
                self.report.judged.records += 1;
                break;
            }
            match log.ending() {
                Ending::Whole => {}
                Ending::Cut { after } => {
                    side.cut = true;
                    self.report.notes.push(format!(
                        "{} ends with record {after} and no end mark: its node did not end by itself, and \
                         its last milliseconds are not here",
                        log.name
                    ));
                }
                Ending::Gap { after } => {
                    self.report.unproven.push(format!(
                        "{}: records are lost behind record {after}; nothing later was judged",
                        log.name
                    ));
                    side.over = true;
                }
            }
            if let Some(node) = side.node.take() {
                self.report.judged.add(&node.judged);
            }
            side.run += 1;
        }
        Ok(())
    }

    fn judge(&mut self, number: usize, record: &Record) -> Result<(), Fault> {
        let side = &mut self.sides[number];
        let Some(node) = &mut side.node else {
            return Ok(());
        };
        match &record.body {
            Body::Event(event) => {
                if matches!(event, Event::Takeover | Event::Alone) {
                    side.may_release = true;
                }
                side.loads += u64::from(node.ends_load(event));
                if let Event::Loaded { .. } = event {
                    side.reports += 1;
                    self.reported(number)?;
                }
                self.sides[number]
                    .node
                    .as_mut()
                    .map_or(Ok(()), |node| node.event(event))
            }
            Body::Frame {
                place,
                epoch,
                bytes,
            } => {
                if *place == Place::Out {
                    let time = time_of(side, record);
                    self.release(number, time)?;
                }
                let node = self.sides[number].node.as_mut();
                node.map_or(Ok(()), |node| {
                    node.now = record.ns;
                    node.frame(record.seq, *place, *epoch, bytes, &mut self.incarnations)
                })
            }
        }
    }

    /// Rule R3: a side has received a report of a load. The other side's monitor must have shown that load before.
    fn reported(&self, number: usize) -> Result<(), Fault> {
        let reports = self.sides[number].reports;
        for (other, side) in self.sides.iter().enumerate() {
            // A log that goes on has all earlier records.
            let knows = self.one_clock && side.next.is_some() && !side.cut && !side.over;
            if other != number && knows && side.loads < reports {
                return Err(Fault {
                    rule: Rule::R3,
                    position: None,
                    records: Vec::new(),
                    what: format!(
                        "the node counts report {reports} of a load, but the other node's monitor has sent \
                         STOP, run state colo and RESUME only {} times",
                        side.loads
                    ),
                });
            }
        }
        Ok(())
    }

    /// Rule R6: a side releases.
    fn release(&mut self, number: usize, time: i128) -> Result<(), Fault> {
        self.sides[number].released = true;
        if let Some(releaser) = self.releaser
            && releaser.side == number
        {
            return Ok(());
        }
        let tolerated = match (self.one_clock, self.options.clock_error) {
            (true, _) => Some(0),
            (false, error) => error.map(i128::from),
        };
        if !self.sides[number].may_release {
            let since = self.releaser.map_or(time, |releaser| releaser.since);
            return match tolerated {
                Some(error) if time - since >= error => Err(Fault {
                    rule: Rule::R6,
                    position: None,
                    records: Vec::new(),
                    what: match self.releaser {
                        Some(_) => format!(
                            "it leaves {:.3} ms after the other node began to release for the VM",
                            (time - since) as f64 / 1e6
                        ),
                        None => "it leaves a node that has not taken over".to_owned(),
                    },
                }),
                // The order is unknown, and the report says so.
                _ => Ok(()),
            };
        }
        for (other, side) in self.sides.iter_mut().enumerate() {
            side.may_release = other == number;
        }
        self.releaser = Some(Releaser {
            side: number,
            since: time,
        });
        Ok(())
    }

    fn violation(&self, number: usize, record: &Record, fault: Fault) -> Violation {
        let side = &self.sides[number];
        let flow = match &record.body {
            Body::Frame { bytes, .. } => {
                let packet = dpdk_colo::packet::Packet::parse(bytes, bytes.len());
                Some(packet.key.to_string())
            }
            Body::Event(_) => None,
        };
        Violation {
            rule: fault.rule,
            log: side
                .runs
                .get(side.run)
                .map_or_else(String::new, |log| log.name.clone()),
            seq: record.seq,
            ns: record.ns,
            epoch: side.node.as_ref().map_or(0, Node::epoch),
            flow,
            position: fault.position,
            records: fault.records,
            what: fault.what,
        }
    }
}

/// Begins the side's next run.
fn begin(side: &mut Side, one_clock: bool, keep: bool) {
    let Some(log) = side.runs.get(side.run) else {
        return;
    };
    let start: Start = log.start.clone();
    side.shift = if one_clock {
        0
    } else {
        i128::from(start.wall_ns) - i128::from(start.ns)
    };
    // A restarted node may release by its role on the command line.
    side.may_release |= start.role != Role::Secondary;
    side.node = Some(Node::new(start, keep));
}

/// What was judged of a run: its place among the side's, its last record's time, and its records.
#[derive(Clone, Copy)]
struct Part {
    run: usize,
    last: u64,
    records: u64,
}

/// Notes that a record of the side's present run was judged.
fn note(side: &mut Side, record: &Record) {
    match side.judged.last_mut().filter(|part| part.run == side.run) {
        Some(part) => (part.last, part.records) = (record.ns, part.records + 1),
        // The start of the log is a record, too.
        None => side.judged.push(Part {
            run: side.run,
            last: record.ns,
            records: 2,
        }),
    }
}

/// What was judged of a side's run, in words.
fn describe(log: &Log, part: Part) -> Run {
    let start = &log.start;
    let is_wall = start.wall_ns > 0;
    let wall = |ns: u64| match is_wall {
        true => i128::from(ns) + i128::from(start.wall_ns) - i128::from(start.ns),
        false => i128::from(ns),
    };
    Run {
        log: log.name.clone(),
        role: start.role.word(),
        pair: start.pair.clone(),
        from: instant(wall(start.ns), is_wall),
        to: instant(wall(part.last), is_wall),
        ns: part.last.saturating_sub(start.ns),
        records: part.records,
    }
}

/// Connections of which something left.
fn connections(incarnations: &Incarnations) -> u64 {
    let all = incarnations.values().flatten();
    all.filter(|incarnation| incarnation.has_output()).count() as u64
}

fn time_of(side: &Side, record: &Record) -> i128 {
    i128::from(record.ns) + side.shift
}
