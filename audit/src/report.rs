//! The report of an audit, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::certificate::{Certificate, Scope};

/// A rule of `docs/rules.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Rule {
    /// Output commit: nothing leaves that the SVM has not sent alike, no commit covers and no
    /// policy rule names.
    R1,
    /// Nothing of a flow leaves from its first difference until the commit.
    R2,
    /// A commit covers what was taken before the stop that it ends. It follows STOP and RESUME, and
    /// the secondary's report of a load; MIGRATION_PASS in its place where the secondary cannot report.
    R3,
    /// Nothing acknowledges what the SVM has not acknowledged.
    R4,
    /// No byte leaves twice with different values, and none is skipped.
    R5,
    /// One node releases at a time.
    R6,
}

/// The first frame or event that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The log that shows it.
    pub log: String,
    /// Number of the record in that log.
    pub seq: u64,
    /// Its time, in nanoseconds of the host's monotonic clock.
    pub ns: u64,
    /// The epoch.
    pub epoch: u32,
    /// The flow, if it is about a frame.
    pub flow: Option<String>,
    /// The position in the flow: a byte of the stream, or a sequence number.
    pub position: Option<String>,
    /// Other records that show it, by number.
    pub records: Vec<u64>,
    /// What was expected and what was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} broken: {} record {} (epoch {}",
            self.rule, self.log, self.seq, self.epoch
        )?;
        if let Some(flow) = &self.flow {
            write!(f, ", {flow}")?;
        }
        if let Some(position) = &self.position {
            write!(f, ", {position}")?;
        }
        write!(f, ")\n  {}", self.what)?;
        if !self.records.is_empty() {
            write!(f, "\n  see records")?;
            for record in &self.records {
                write!(f, " {record}")?;
            }
        }
        Ok(())
    }
}

/// Counts of the judged records, which show how much a clean result covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Records read.
    pub records: u64,
    /// Frames that left.
    pub released: u64,
    /// Of these, because the SVM had sent the same.
    pub compared: u64,
    /// Because a commit covered them.
    pub committed: u64,
    /// Because nothing was protected.
    pub unprotected: u64,
    /// By policy rule.
    pub policy: BTreeMap<String, u64>,
    /// Bytes that differed and left, by mask rule.
    pub masked: BTreeMap<String, u64>,
    /// Masked bytes that left again with another value, after a takeover.
    pub masked_again: u64,
    /// Commits seen.
    pub commits: u64,
    /// Bytes of the frames that left.
    pub released_bytes: u64,
    /// Of these, of frames that left because the SVM had sent the same.
    pub compared_bytes: u64,
    /// Epochs in which something left.
    pub epochs: u64,
    /// Frames that a node dropped because their VM was gone.
    pub dropped: u64,
}

impl Judged {
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.released += other.released;
        self.compared += other.compared;
        self.committed += other.committed;
        self.unprotected += other.unprotected;
        self.commits += other.commits;
        self.released_bytes += other.released_bytes;
        self.compared_bytes += other.compared_bytes;
        self.epochs += other.epochs;
        self.dropped += other.dropped;
        for (rule, n) in &other.policy {
            *self.policy.entry(rule.clone()).or_default() += n;
        }
        self.masked_again += other.masked_again;
        for (rule, n) in &other.masked {
            *self.masked.entry(rule.clone()).or_default() += n;
        }
    }
}

/// The result of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The first violation.
    pub violation: Option<Violation>,
    /// What could not be proven, each in a line.
    pub unproven: Vec<String>,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// How much was judged.
    pub judged: Judged,
    /// Segments of the client's capture that were looked up.
    pub client_segments: u64,
    /// What was proved, to be archived.
    pub certificate: Certificate,
    /// What was given to be judged.
    #[serde(skip)]
    pub scope: Scope,
}

impl Report {
    /// Writes the certificate for what the report says now.
    pub fn certify(&mut self) {
        self.certificate = Certificate::of(self);
    }

    /// The exit status: 0 clean, 1 a violation, 2 not proven.
    pub fn status(&self) -> u8 {
        match (&self.violation, self.unproven.is_empty()) {
            (Some(_), _) => 1,
            (None, false) => 2,
            (None, true) => 0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for line in &self.unproven {
            writeln!(f, "not proven: {line}")?;
        }
        let j = &self.judged;
        writeln!(
            f,
            "judged: {} records, {} frames left: {} compared, {} by {} commits, {} unprotected, {} by policy",
            j.records,
            j.released,
            j.compared,
            j.committed,
            j.commits,
            j.unprotected,
            j.policy.values().sum::<u64>()
        )?;
        for (rule, n) in &j.masked {
            writeln!(
                f,
                "masked: {n} bytes that differed have left by the rule {rule}"
            )?;
        }
        if j.masked_again > 0 {
            writeln!(
                f,
                "masked: {} bytes left again with another value after a takeover",
                j.masked_again
            )?;
        }
        if self.client_segments > 0 {
            writeln!(f, "client: {} segments looked up", self.client_segments)?;
        }
        match &self.violation {
            Some(violation) => write!(f, "{violation}"),
            None if self.unproven.is_empty() => f.write_str("clean"),
            None => f.write_str("no violation in what could be judged"),
        }
    }
}
