//! What the commands that try `coloctl`'s orders on a real pair share: a pair that its nodes set up themselves, a load
//! whose connections live through all rounds, orders, and the judgement at the end.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::cluster::{Bounds, Cluster, Member, Site};
use crate::audit;
use crate::error::LabError;
use crate::load::{Client, Load, Record, written};
use crate::pair::Host;
use crate::progress::say;
use crate::workload::{Family, differ};

/// Until every client has had answers.
const SERVED: Duration = Duration::from_secs(120);
/// Answers that show that a client is served.
const ANSWERS: u64 = 3;
/// Of nodes that take orders.
const ORDERED: Bounds = Bounds {
    tcp: true,
    ordered: true,
    ..Bounds::AMPLE
};

/// A pair, its load, and an operator. Dropped from the top: clients, hosts, network.
pub struct Drill<'a> {
    /// The clients.
    pub load: Load,
    /// The two hosts.
    pub cluster: Cluster,
    /// The network.
    pub site: Site<'a>,
    clients: Vec<Client>,
    coloctl: PathBuf,
    seed: u64,
    /// Orders that were given.
    commands: Cell<usize>,
}

impl<'a> Drill<'a> {
    /// Starts two hosts that are no pair yet, and the load.
    ///
    /// # Errors
    /// What kept it from starting, or an interrupt.
    pub fn start(host: &'a Host, bin: PathBuf, seed: u64) -> Result<Self, LabError> {
        let coloctl = bin.with_file_name("coloctl");
        let coloctl = coloctl.canonicalize().map_err(LabError::file(&coloctl))?;
        let site = Site::prepare(host, bin)?;
        say("guest", "booted, its state is saved");
        let mut clients = vec![
            Client::Echo(Family::V4),
            Client::Echo(Family::V6),
            Client::Redis(Family::V4),
            Client::Pages(Family::V4),
        ];
        if host.disk {
            clients.extend([Client::Disk(Family::V4), Client::Disk(Family::V6)]);
        }
        let (cluster, _) = Cluster::apart(&site, 1, seed, ORDERED)?;
        let load = Load::start(&site.net, &clients, seed)?;
        Ok(Self {
            load,
            cluster,
            site,
            clients,
            coloctl,
            seed,
            commands: Cell::new(0),
        })
    }

    /// Gives an order at a member's node; its reply.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `coloctl` wrote.
    pub fn order(&self, member: &Member, words: &[&str]) -> Result<Value, LabError> {
        self.commands.set(self.commands.get() + 1);
        run(&self.coloctl, &member.control(), words)
    }

    /// The same in a thread of its own.
    pub fn order_beside(
        &self,
        member: &Member,
        words: &'static [&'static str],
    ) -> JoinHandle<Result<Value, LabError>> {
        self.commands.set(self.commands.get() + 1);
        let (coloctl, control) = (self.coloctl.clone(), member.control());
        thread::spawn(move || run(&coloctl, &control, words))
    }

    /// What a member's node says of the pair; null where it says nothing.
    pub fn status(&self, member: &Member) -> Value {
        let status = run_any(&self.coloctl, &member.control(), &["status"]);
        status.map_or(Value::Null, |mut status| status["pairs"][0].take())
    }

    /// Until every client is served.
    ///
    /// # Errors
    /// [`LabError::Late`] with the names of those that are not.
    pub fn wait_served(&self) -> Result<(), LabError> {
        let served = self.load.wait_answers(ANSWERS, SERVED);
        served.map_err(|error| error.beside(&self.said()))
    }

    /// The longest silence of a client that keeps its connection, since the last mark.
    pub fn silence(&self) -> Duration {
        let all = self.load.records().into_iter();
        let kept = all.filter(|record| !record.opens);
        kept.map(|record| record.silence).max().unwrap_or_default()
    }

    /// `coloctl protect`, until both nodes say so, clients are served, and a question to which the VMs' answers differ
    /// has shown that they are compared. Returns the reply, and the longest silence meanwhile.
    ///
    /// # Errors
    /// What kept it from that.
    pub fn protect(&self) -> Result<(Value, Duration), LabError> {
        self.load.mark();
        let mut reply = self
            .order(&self.cluster.primary, &["protect"])
            .map_err(|error| error.beside(&self.said()))?;
        for member in [&self.cluster.primary, &self.cluster.secondary] {
            self.order(member, &["wait", "--for", "protected", "--timeout", "5"])?;
        }
        let silence = self.silence();
        self.wait_served()?;
        self.compares()?;
        Ok((reply["pairs"]["vm0"].take(), silence))
    }

    /// A pair that does not compare would not notice that its VMs' answers differ.
    fn compares(&self) -> Result<(), LabError> {
        let answer = self.site.net.enter(|| Ok(differ::ask(Family::V4)?))?;
        if !self.cluster.primary.guest.answers().contains(&answer.line) {
            return Err(LabError::Claim {
                reason: format!("the primary VM never said {:?}", answer.line),
            });
        }
        for member in [&self.cluster.primary, &self.cluster.secondary] {
            if let Some(line) = member.guest.complaint() {
                return Err(LabError::Claim {
                    reason: format!("the kernel of {} says {line:?}", member.name),
                });
            }
        }
        Ok(())
    }

    /// What both nodes said last.
    pub fn said(&self) -> String {
        let nodes = [&self.cluster.primary.node, &self.cluster.secondary.node];
        let nodes = nodes.into_iter().flatten();
        nodes.map(crate::node::Node::said).collect()
    }

    /// Ends all, and judges it; `outcome` is that of the rounds, `done` of `rounds` were. True if nothing failed.
    ///
    /// # Errors
    /// An interrupt, or what kept a node from its end.
    pub fn finish(
        mut self,
        outcome: Result<(), LabError>,
        done: usize,
        rounds: usize,
    ) -> Result<bool, LabError> {
        let records = self.load.finish();
        let mut failed = Vec::new();
        match outcome {
            Err(error) if error.is_interrupt() => return Err(error),
            Err(error) => failed.push(error.to_string()),
            Ok(()) => {}
        }
        if self.site.host.disk && failed.is_empty() {
            let all = written(&self.clients, self.seed, &records);
            match self.cluster.judge_disks(&all) {
                Ok(disks) => say("disks", disks.join(", ")),
                Err(error) => failed.push(error.to_string()),
            }
        }
        for member in [&mut self.cluster.primary, &mut self.cluster.secondary] {
            if let Some(node) = member.node.take() {
                match failed.is_empty() {
                    true => drop(node.finish()?),
                    false => failed.push(node.said()),
                }
            }
        }
        if let Some(program) = &self.site.host.audit {
            match audit::run(program, &self.cluster.dir) {
                Ok(text) => say("audit", text),
                Err(error) => failed.push(error.to_string()),
            }
        }
        say("commands", format!("{} of coloctl", self.commands.get()));
        let text = judged(&records, &mut failed);
        for line in &failed {
            println!("FAILED  {line}");
        }
        println!("{done} of {rounds} rounds, {text}");
        Ok(failed.is_empty())
    }
}

/// What the clients have seen, in a line; what they should not have seen goes to `failed`.
fn judged(records: &[Record], failed: &mut Vec<String>) -> String {
    let (mut wrong, mut resets, mut failures, mut answers) = (0, 0, 0, 0);
    for record in records {
        wrong += record.wrong;
        resets += record.resets;
        failures += record.failures;
        answers += record.answers;
        if record.wrong + record.resets + record.failures > 0 {
            failed.push(format!("{}: {}", record.name, record.words.join("; ")));
        }
    }
    format!("{answers} answers, {wrong} wrong, {resets} resets, {failures} other failures")
}

fn output(
    coloctl: &Path,
    control: &Path,
    words: &[&str],
) -> Result<std::process::Output, LabError> {
    Command::new(coloctl)
        .arg("--json")
        .arg("--control")
        .arg(control)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Spawn {
            program: coloctl.display().to_string(),
            source,
        })
}

/// Runs `coloctl`; what it printed, whatever its exit status says.
fn run_any(coloctl: &Path, control: &Path, words: &[&str]) -> Option<Value> {
    let output = output(coloctl, control, words).ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// Runs `coloctl`; its reply.
fn run(coloctl: &Path, control: &Path, words: &[&str]) -> Result<Value, LabError> {
    let output = output(coloctl, control, words)?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.success() {
        true => Ok(serde_json::from_str(&text).unwrap_or_default()),
        false => Err(LabError::Command {
            command: format!("coloctl {}", words.join(" ")),
            status: output.status,
            output: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
        }),
    }
}
