//! The script of the node whose VM runs.

use serde_json::{Value, json};

use super::desk::Desk;
use super::disks::{self, Disk, Graph};
use super::undo::{self, Undo};
use super::{Failure, Message, Outcome, Step, release};
use crate::qmp::Version;

/// The peer answers within this, in milliseconds: its QEMU takes up to 10 s for each of a few commands.
const ANSWER: u64 = 60_000;
/// How often QEMU is asked how far it is.
const LOOK: u64 = 200;
/// A transfer that moves nothing for so long has failed.
const STALLED: u64 = 60_000;
/// From QEMU's entry into COLO until both nodes are protected.
const SETTLE: u64 = 60_000;
/// A job that has copied all ends within this; the VM stands still meanwhile.
const JOB_END: u64 = 10_000;
/// Overlays are committed within this: they hold what a VM has written since a checkpoint.
const COMMIT: u64 = 600_000;

/// Brings a pair up, or leaves this QEMU as it was.
pub(super) async fn run(desk: Desk, attempt: u32, version: Version) -> Result<Outcome, Failure> {
    let mut undo = Vec::new();
    let mut peer_prepares = false;
    let done = bring_up(&desk, attempt, version, &mut undo, &mut peer_prepares).await;
    desk.rests();
    let mut failure = match done {
        Ok(mut outcome) => {
            outcome.ms = desk.elapsed();
            return Ok(outcome);
        }
        Err(failure) => failure,
    };
    let left = undo::all(&desk, undo).await;
    if peer_prepares {
        desk.tell(Message::abandon(attempt, &failure));
    }
    if !left.is_empty() {
        failure = failure.and(&format!("not undone: {}", left.join("; ")));
    }
    Err(failure)
}

/// Takes the children out of the VM's disks that a secondary has left.
pub(super) async fn tidy(desk: Desk) -> Result<Outcome, Failure> {
    let graph = Graph::read(&desk).await?;
    for disk in &graph.disks() {
        disks::clean(&desk, &graph, disk).await?;
    }
    Ok(Outcome::default())
}

async fn bring_up(
    desk: &Desk,
    attempt: u32,
    version: Version,
    undo: &mut Vec<Undo>,
    peer_prepares: &mut bool,
) -> Result<Outcome, Failure> {
    let run = desk.ask("query-status").await?;
    if run["status"] != "running" {
        return Err(desk.fault(&format!(
            "its VM does not run (query-status says {}); give it cont, and try again",
            run["status"]
        )));
    }
    let migration = desk.ask("query-migrate").await?;
    let status = release::status(&migration);
    if !release::is_idle(status) {
        return Err(desk.fault(&format!(
            "a migration is in state {status:?}; let it end, or give migrate_cancel"
        )));
    }
    let graph = Graph::read(desk).await?;
    let all = graph.disks();
    let others = graph.others(&all);
    if !all.is_empty() {
        disks::end_exports(desk).await?;
    }
    for disk in &all {
        disks::clean(desk, &graph, disk).await?;
    }
    if all.iter().any(|disk| disk.commits) {
        wait_for_overlays(desk).await?;
    }

    desk.begin(Step::Prepares);
    *peer_prepares = true;
    desk.works(attempt);
    let names: Vec<String> = all.iter().map(|disk| disk.name.clone()).collect();
    desk.tell(Message::Prepare {
        attempt,
        qemu: [version.major, version.minor, version.micro],
        disks: names.clone(),
    });
    let (uri, nbd) = ready(desk, peer_prepares).await?;

    if !all.is_empty() {
        let nbd = nbd.ok_or_else(|| {
            Failure::new(
                "the secondary's node names no address for the disks: its release is another one",
            )
        })?;
        copy(desk, version, &all, &nbd, undo).await?;
    }
    release::set(desk, version, undo).await?;

    desk.begin(Step::MovesState);
    undo.push(Undo::Migration);
    desk.execute("migrate", json!({ "uri": uri })).await?;
    let transferred = transfer(desk).await?;
    // From here on both VMs run in COLO: there is no way back that would not be a failover.
    undo.clear();
    desk.begin(Step::Settles);
    settle(desk).await?;
    Ok(Outcome {
        ms: 0,
        transferred,
        disks: names,
        others,
    })
}

/// What a secondary that took over wrote lies in overlays, until QEMU has committed them.
async fn wait_for_overlays(desk: &Desk) -> Result<(), Failure> {
    let until = desk.elapsed() + COMMIT;
    loop {
        let graph = Graph::read(desk).await?;
        if !graph.disks().iter().any(|disk| disk.commits) {
            return Ok(());
        }
        if desk.elapsed() >= until {
            return Err(desk.fault(
                "the overlays of its disk are not committed to the image; see the space there",
            ));
        }
        desk.pause(LOOK).await;
    }
}

/// Where the secondary's QEMU waits for the state, and for the disks' writes.
async fn ready(
    desk: &Desk,
    peer_prepares: &mut bool,
) -> Result<(String, Option<(String, String)>), Failure> {
    loop {
        match desk.next_word(ANSWER).await {
            Some(Message::Ready { uri, nbd, .. }) => return Ok((uri, nbd)),
            Some(Message::Refused { why, .. }) => {
                *peer_prepares = false;
                return Err(Failure::new(format!("the secondary's node refuses: {why}")));
            }
            Some(_) => {}
            None => {
                return Err(Failure::new(format!(
                    "the secondary's node has not answered within {} s; see its log, and whether its QEMU's monitor \
                     answers",
                    ANSWER / 1000
                )));
            }
        }
    }
}

/// Copies all disks to the secondary's while the VM runs, and lets it write to both from then on.
async fn copy(
    desk: &Desk,
    version: Version,
    all: &[Disk],
    (host, port): &(String, String),
    undo: &mut Vec<Undo>,
) -> Result<(), Failure> {
    desk.begin(Step::CopiesDisks);
    let shown = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.clone(),
    };
    let job = |number: usize| format!("colo-copy{number}");
    for (number, disk) in all.iter().enumerate() {
        let target = format!("nbd://{shown}:{port}/{}", disks::export(number));
        let arguments = json!({
            "device": disk.quorum, "job-id": job(number), "target": target, "mode": "existing",
            "format": "raw", "sync": "full",
        });
        desk.execute("drive-mirror", arguments).await?;
        undo.push(Undo::Job(job(number)));
    }
    wait_for_copies(desk, all.len(), job).await?;
    // A client that is no child writes nothing, and to open one may take long.
    for (number, disk) in all.iter().enumerate() {
        let node = disks::client(number);
        let mut client = json!({
            "driver": "nbd", "node-name": node, "export": disks::export(number),
            "server": { "type": "inet", "host": host, "port": port },
        });
        if release::detects_zeroes(version) {
            client["detect-zeroes"] = json!("on");
        }
        desk.execute("blockdev-add", client).await?;
        undo.push(Undo::Child {
            parent: disk.quorum.clone(),
            node,
        });
    }
    // Nothing may be written between the copy and the replication. A stop whose reply is lost is one, too; `cont`
    // changes nothing where the VM runs.
    undo.push(Undo::Execute("cont", Value::Null));
    desk.ask("stop").await?;
    let until = desk.elapsed() + JOB_END;
    for number in 0..all.len() {
        let id = job(number);
        desk.execute("block-job-cancel", json!({ "device": id }))
            .await?;
        while disks::job(desk, &id).await?.is_some() {
            given_up(desk)?;
            if desk.elapsed() >= until {
                return Err(desk.fault(&format!(
                    "the job {id} does not end; see the way to the secondary's --nbd-listen"
                )));
            }
            // The VM stands still meanwhile.
            desk.pause(1).await;
        }
    }
    for (number, disk) in all.iter().enumerate() {
        let change = json!({ "parent": disk.quorum, "node": disks::client(number) });
        desk.execute("x-blockdev-change", change).await?;
    }
    desk.ask("cont").await?;
    undo.retain(|change| !matches!(change, Undo::Job(_) | Undo::Execute("cont", _)));
    Ok(())
}

/// Until all copies follow what the VM writes.
async fn wait_for_copies(
    desk: &Desk,
    count: usize,
    name: impl Fn(usize) -> String,
) -> Result<(), Failure> {
    let (mut last, mut since) = (0, desk.elapsed());
    loop {
        let (mut done, mut total, mut ready) = (0, 0, 0);
        for number in 0..count {
            let id = name(number);
            let Some(job) = disks::job(desk, &id).await? else {
                return Err(desk.fault(&format!(
                    "the job {id} has ended before the disk was copied; see BLOCK_JOB_COMPLETED \
                     in its monitor, and the space on the secondary's disk"
                )));
            };
            let bytes = |name: &str| job[name].as_u64().unwrap_or(0);
            done += bytes("offset");
            total += bytes("len");
            ready += usize::from(job["ready"] == true);
        }
        desk.copied(done, total);
        if ready == count {
            return Ok(());
        }
        given_up(desk)?;
        if done != last {
            (last, since) = (done, desk.elapsed());
        } else if desk.elapsed() - since >= STALLED {
            return Err(Failure::new(format!(
                "the copy of the disks has stood still at {done} of {total} bytes for {} s; see the way to the \
                 secondary's --nbd-listen",
                STALLED / 1000
            )));
        }
        desk.pause(LOOK).await;
    }
}

/// Whether the secondary has given up meanwhile.
fn given_up(desk: &Desk) -> Result<(), Failure> {
    match desk.take_refusal() {
        Some(why) => Err(Failure::new(format!(
            "the secondary's node gives up: {why}"
        ))),
        None => Ok(()),
    }
}

/// Until QEMU is in COLO; the bytes that it has sent.
async fn transfer(desk: &Desk) -> Result<u64, Failure> {
    let (mut most, mut since) = (0, desk.elapsed());
    loop {
        let reply = desk.ask("query-migrate").await?;
        let done = release::show(desk, &reply);
        match release::status(&reply) {
            "colo" => return Ok(most.max(done)),
            status @ ("failed" | "failing" | "cancelled" | "cancelling" | "completed") => {
                let why = match reply["error-desc"].as_str() {
                    Some(why) => format!(" ({why})"),
                    None => String::new(),
                };
                return Err(Failure::new(format!(
                    "the transfer of the VM's state is {status}{why}; see what the secondary's QEMU wrote, start it \
                     anew, and try again"
                )));
            }
            _ => {}
        }
        given_up(desk)?;
        if done > most {
            (most, since) = (done, desk.elapsed());
        } else if desk.elapsed() - since >= STALLED {
            return Err(Failure::new(format!(
                "the transfer of the VM's state has stood still at {most} bytes for {} s; see the way to the \
                 secondary's --migrate-listen",
                STALLED / 1000
            )));
        }
        desk.pause(LOOK).await;
    }
}

/// Until both nodes are protected.
async fn settle(desk: &Desk) -> Result<(), Failure> {
    let until = desk.elapsed() + SETTLE;
    let mut peer = false;
    loop {
        desk.check_monitor()?;
        while let Some(word) = desk.take_word() {
            match word {
                Message::Protected { .. } => peer = true,
                Message::Refused { why, .. } => {
                    return Err(Failure::new(format!(
                        "this node's QEMU is in COLO, and the secondary's node gives up: {why}; see status at both nodes"
                    )));
                }
                _ => {}
            }
        }
        let own = desk.is_protected();
        if own && peer {
            return Ok(());
        }
        if desk.elapsed() >= until {
            let who = match (own, peer) {
                (false, false) => "neither node is",
                (true, _) => "the secondary's node is not",
                (_, true) => "this node is not",
            };
            return Err(Failure::new(format!(
                "both QEMUs are in COLO, but {who} protected after {} s; see status at both nodes",
                SETTLE / 1000
            )));
        }
        desk.pause(LOOK).await;
    }
}
