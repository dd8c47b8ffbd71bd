//! What was read, run and found, in all captures together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::progress::say;

/// What a rule's breach or a deviation is about.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The capture's file.
    pub capture: String,
    /// The source MAC address.
    pub sender: String,
    /// How the two streams were woven.
    pub run: String,
    /// The flow as text.
    pub flow: String,
    /// Number of the frame in the capture, from 1; 0 for none.
    pub frame: usize,
    /// What is wrong, in words.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            capture,
            run,
            flow,
            frame,
            reason,
            ..
        } = self;
        write!(f, "{capture} frame {frame}: {flow}; {run}: {reason}")
    }
}

/// Findings of one kind.
#[derive(Debug, Default, Serialize)]
pub struct Kind {
    /// How many.
    pub count: usize,
    /// Captures in which there are some.
    pub captures: usize,
    /// The first few, each of another capture.
    pub examples: Vec<Finding>,
    #[serde(skip)]
    last: String,
}

/// All counts.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Captures that were read.
    pub captures: usize,
    /// Captures of which only the first frames or bytes were taken.
    pub captures_cut: usize,
    /// Captures without a frame that could be used.
    pub captures_empty: usize,
    /// Files that could not be read, and why.
    pub unreadable: BTreeMap<String, String>,
    /// Files that end with an error, and where.
    pub damaged: BTreeMap<String, String>,
    /// Frames that were taken.
    pub frames: usize,
    /// Frames that their capture had cut, left out.
    pub frames_cut: usize,
    /// Frames longer than any guest sends, left out.
    pub frames_long: usize,
    /// Frames of link types that no Ethernet frame can be made of, by type, left out.
    pub link_types: BTreeMap<u32, usize>,
    /// Senders.
    pub senders: usize,
    /// Comparator runs.
    pub runs: usize,
    /// P that went in, in all runs.
    pub taken: usize,
    /// P that came out.
    pub released: usize,
    /// P that were held at the end.
    pub held: usize,
    /// Breaches of a rule, by rule.
    pub violations: BTreeMap<String, Kind>,
    /// Runs of equal streams that did not end with everything released, by reason.
    pub deviations: BTreeMap<String, Kind>,
    /// Examples that are kept of each kind.
    #[serde(skip)]
    pub examples: usize,
}

impl Tally {
    /// Nothing yet; keeps at most this number of examples of each kind.
    pub fn new(examples: usize) -> Self {
        Self {
            examples,
            ..Self::default()
        }
    }

    /// Names a file that ends with an error.
    pub fn damaged(&mut self, path: &Path, why: &str) {
        self.damaged
            .insert(path.display().to_string(), why.to_owned());
    }

    /// Notes a breach of a rule, and says so at once.
    pub fn violation(&mut self, rule: &str, finding: Finding) {
        let seen = self.violations.get(rule).map_or(0, |kind| kind.count);
        if seen < self.examples {
            say("breach", format!("{rule}: {finding}"));
        }
        note(&mut self.violations, rule, finding, self.examples);
    }

    /// Notes a deviation.
    pub fn deviation(&mut self, kind: &str, finding: Finding) {
        note(&mut self.deviations, kind, finding, self.examples);
    }

    /// Breaches in all.
    pub fn breaches(&self) -> usize {
        self.violations.values().map(|kind| kind.count).sum()
    }

    /// Deviations in all.
    pub fn deviating(&self) -> usize {
        self.deviations.values().map(|kind| kind.count).sum()
    }
}

fn note(kinds: &mut BTreeMap<String, Kind>, name: &str, finding: Finding, most: usize) {
    let kind = kinds.entry(name.to_owned()).or_default();
    kind.count += 1;
    // Captures come one after another.
    if kind.last != finding.capture {
        kind.captures += 1;
        kind.last.clone_from(&finding.capture);
    }
    let known = kind
        .examples
        .iter()
        .any(|other| other.capture == finding.capture);
    if !known && kind.examples.len() < most {
        kind.examples.push(finding);
    }
}
