//! Pairs that their nodes set up themselves: `colo-lab protect`.
//!
//! In: how many rounds, a seed. Out: a line for each round, and what the clients saw over all of them. A round is
//! `coloctl protect` at the leading node while clients load the VM, SIGKILL of one host, `coloctl failover` at the
//! other, and a new secondary in the dead one's place; in the end the pair is protected once more. The lab gives QEMU no command that has to do with COLO, and the
//! clients' connections live through all rounds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::{Bounds, Cluster, Member, Site};
use super::plan::Side;
use crate::audit;
use crate::error::LabError;
use crate::interrupt;
use crate::load::{Client, Load, written};
use crate::pair::Host;
use crate::progress::say;
use crate::workload::{Family, differ};

/// Until every client has had answers.
const SERVED: Duration = Duration::from_secs(120);
/// Answers that show that a client is served.
const ANSWERS: u64 = 3;
/// From the death of a host until its peer's node takes the order to fail over.
const NOTICED: Duration = Duration::from_secs(20);
/// Of nodes that take orders.
const ORDERED: Bounds = Bounds {
    tcp: true,
    ordered: true,
    ..Bounds::AMPLE
};

/// Runs this number of rounds; true if nothing failed.
///
/// # Errors
/// What kept it from starting, or an interrupt.
pub fn run(host: &Host, bin: PathBuf, rounds: usize, seed: u64) -> Result<bool, LabError> {
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
    let (mut cluster, _) = Cluster::apart(&site, 1, seed, ORDERED)?;
    let load = Load::start(&site.net, &clients, seed)?;
    let mut done = 0;
    let outcome = load.wait_answers(ANSWERS, SERVED).and_then(|()| {
        for round in 0..rounds {
            let lost = match (seed + round as u64) % 2 {
                0 => Side::Primary,
                _ => Side::Secondary,
            };
            let line = one_round(&site, &mut cluster, &load, &coloctl, lost, round)?;
            done += 1;
            say("round", format!("{done}: {line}"));
        }
        // Both disks are whole while the pair lives.
        order(&coloctl, &cluster.primary, &["protect"])
            .map_err(|error| error.beside(&said(&cluster)))?;
        load.wait_answers(ANSWERS, SERVED)
    });
    let records = load.finish();
    let mut failed = Vec::new();
    match outcome {
        Err(error) if error.is_interrupt() => return Err(error),
        Err(error) => failed.push(error.to_string()),
        Ok(()) => {}
    }
    if host.disk && failed.is_empty() {
        let all = written(&clients, seed, &records);
        match cluster.judge_disks(&all) {
            Ok(disks) => say("disks", disks.join(", ")),
            Err(error) => failed.push(error.to_string()),
        }
    }
    for member in [&mut cluster.primary, &mut cluster.secondary] {
        if let Some(node) = member.node.take() {
            match failed.is_empty() {
                true => drop(node.finish()?),
                false => failed.push(node.said()),
            }
        }
    }
    if let Some(program) = &host.audit {
        match audit::run(program, &cluster.dir) {
            Ok(text) => say("audit", text),
            Err(error) => failed.push(error.to_string()),
        }
    }
    let (mut wrong, mut resets, mut failures, mut answers) = (0, 0, 0, 0);
    for record in &records {
        wrong += record.wrong;
        resets += record.resets;
        failures += record.failures;
        answers += record.answers;
        if record.wrong + record.resets + record.failures > 0 {
            failed.push(format!("{}: {}", record.name, record.words.join("; ")));
        }
    }
    for line in &failed {
        println!("FAILED  {line}");
    }
    println!(
        "{done} of {rounds} rounds, {answers} answers, {wrong} wrong, {resets} resets, {failures} other failures"
    );
    Ok(failed.is_empty())
}

/// Protects, kills, fails over, and puts a new secondary in the dead one's place. Returns what it took.
fn one_round(
    site: &Site<'_>,
    cluster: &mut Cluster,
    load: &Load,
    coloctl: &Path,
    lost: Side,
    round: usize,
) -> Result<String, LabError> {
    load.mark();
    let reply = order(coloctl, &cluster.primary, &["protect"])
        .map_err(|error| error.beside(&said(cluster)))?;
    let protected = &reply["pairs"]["vm0"];
    for member in [&cluster.primary, &cluster.secondary] {
        order(
            coloctl,
            member,
            &["wait", "--for", "protected", "--timeout", "5"],
        )?;
    }
    let longest = |records: Vec<crate::load::Record>| {
        let all = records.into_iter().filter(|record| !record.opens);
        all.map(|record| record.silence).max().unwrap_or_default()
    };
    let bringing = longest(load.records());
    load.wait_answers(ANSWERS, SERVED)
        .map_err(|error| error.beside(&said(cluster)))?;
    // A pair that does not compare would not notice that its VMs' answers differ.
    let answer = site.net.enter(|| Ok(differ::ask(Family::V4)?))?;
    let both = [&cluster.primary, &cluster.secondary];
    if !cluster.primary.guest.answers().contains(&answer.line) {
        return Err(LabError::Claim {
            reason: format!("the primary VM never said {:?}", answer.line),
        });
    }
    for member in both {
        if let Some(line) = member.guest.complaint() {
            return Err(LabError::Claim {
                reason: format!("the kernel of {} says {line:?}", member.name),
            });
        }
    }
    interrupt::sleep(Duration::from_millis(500))?;

    load.mark();
    let (dead, survivor) = match lost {
        Side::Primary => (&mut cluster.primary, &cluster.secondary),
        Side::Secondary => (&mut cluster.secondary, &cluster.primary),
    };
    dead.guest.kill();
    if let Some(mut node) = dead.node.take() {
        node.kill();
    }
    let killed = Instant::now();
    site.net.forget(dead.host())?;
    load.order();
    let until = killed + NOTICED;
    // The node has to notice the loss first, and refuses until then.
    while let Err(error) = order(coloctl, survivor, &["failover", "--fenced"]) {
        if error.is_interrupt() || Instant::now() > until {
            return Err(error.beside(&said(cluster)));
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
    let ordered = killed.elapsed();
    load.wait_answers(ANSWERS, SERVED)
        .map_err(|error| error.beside(&said(cluster)))?;
    let silence = longest(load.records());
    let lost_word = match lost {
        Side::Primary => "primary",
        Side::Secondary => "secondary",
    };
    cluster.replace(site, lost, &format!("vm{}", round + 1))?;
    order(
        coloctl,
        &cluster.primary,
        &["wait", "--for", "peer", "--timeout", "30"],
    )?;
    Ok(format!(
        "protected in {:.1} s ({} MiB sent, longest silence {} ms); {lost_word} host killed, order accepted after \
         {:.1} s, silence {} ms",
        protected["ms"].as_f64().unwrap_or_default() / 1e3,
        protected["bytes"].as_u64().unwrap_or_default() >> 20,
        bringing.as_millis(),
        ordered.as_secs_f64(),
        silence.as_millis(),
    ))
}

/// Gives an order at a member's node; its reply.
fn order(coloctl: &Path, member: &Member, words: &[&str]) -> Result<Value, LabError> {
    let output = Command::new(coloctl)
        .arg("--json")
        .arg("--control")
        .arg(member.control())
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::Spawn {
            program: coloctl.display().to_string(),
            source,
        })?;
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

/// What both nodes said last.
fn said(cluster: &Cluster) -> String {
    let nodes = [&cluster.primary.node, &cluster.secondary.node];
    nodes
        .into_iter()
        .flatten()
        .map(crate::node::Node::said)
        .collect()
}
