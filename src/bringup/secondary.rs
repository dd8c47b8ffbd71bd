//! The script of the node whose QEMU waits for a VM's state.

use serde_json::{Value, json};

use super::desk::Desk;
use super::disks::{self, Graph};
use super::undo::{self, Undo};
use super::{Addresses, Failure, Message, Outcome, Step, release};
use crate::qmp::Version;

/// A primary that works says so more often than this, in milliseconds.
const SILENCE: u64 = 30_000;
/// How often this node looks whether it is protected.
const LOOK: u64 = 200;

/// What the primary has asked for, and what this node has.
pub(super) struct Order {
    pub(super) attempt: u32,
    pub(super) qemu: [u32; 3],
    pub(super) disks: Vec<String>,
    pub(super) addresses: Addresses,
    pub(super) version: Version,
}

/// Makes this QEMU ready, and waits until the pair is protected; else it leaves it as it was, as far as QEMU can.
pub(super) async fn run(desk: Desk, order: Order) -> Result<Outcome, Failure> {
    let mut undo = Vec::new();
    let attempt = order.attempt;
    desk.begin(Step::Prepares);
    let done = match prepare(&desk, &order, &mut undo).await {
        Ok(ready) => {
            desk.tell(ready);
            desk.begin(Step::MovesState);
            wait(&desk).await
        }
        Err(failure) => Err(failure),
    };
    let failure = match done {
        Ok(()) => {
            desk.tell(Message::Protected { attempt });
            return Ok(Outcome {
                ms: desk.elapsed(),
                disks: order.disks,
                ..Outcome::default()
            });
        }
        Err(failure) => failure,
    };
    // The primary's VM writes to both images: without the server here, this one would silently stay behind.
    if !undo.is_empty() && loads(&desk).await {
        undo.clear();
    }
    let left = undo::all(&desk, undo).await;
    let failure = match left.is_empty() {
        true => failure,
        false => failure.and(&format!("not undone: {}", left.join("; "))),
    };
    desk.tell(Message::refused(attempt, &failure));
    Err(failure)
}

/// Whether a state comes in, or both QEMUs are in COLO.
async fn loads(desk: &Desk) -> bool {
    let Ok(reply) = desk.ask("query-migrate").await else {
        return false;
    };
    matches!(release::status(&reply), "active" | "colo")
}

async fn prepare(desk: &Desk, order: &Order, undo: &mut Vec<Undo>) -> Result<Message, Failure> {
    let own = order.version;
    let [major, minor, micro] = order.qemu;
    if (major, minor) != (own.major, own.minor) {
        return Err(Failure::new(format!(
            "its QEMU is {own}, the primary's is {major}.{minor}.{micro}; COLO needs one release on both hosts"
        )));
    }
    let run = desk.ask("query-status").await?;
    if run["status"] != "inmigrate" {
        return Err(desk.fault(&format!(
            "it does not wait for a state (query-status says {}); start it anew, with -incoming defer: a VM that \
             has run is not overwritten",
            run["status"]
        )));
    }
    let listens = listens(desk, order.addresses).await?;
    release::set(desk, own, undo).await?;
    let nbd = serve(desk, order, undo).await?;
    let uri = match listens {
        Listens::At(uri) => uri,
        Listens::Will(uri) => {
            desk.execute("migrate-incoming", json!({ "uri": uri }))
                .await?;
            uri
        }
    };
    Ok(Message::Ready {
        attempt: order.attempt,
        uri,
        nbd,
    })
}

/// Where QEMU waits for the state.
enum Listens {
    /// It does already: it was started so, or an earlier attempt has come so far.
    At(String),
    /// It is to.
    Will(String),
}

async fn listens(desk: &Desk, addresses: Addresses) -> Result<Listens, Failure> {
    let reply = desk.ask("query-migrate").await?;
    let option = addresses.migration;
    let given = option.map(|at| format!("tcp:{at}"));
    let missing = || {
        Failure::new(
            "its node has no --migrate-listen HOST:PORT, an address of its host at which the primary's reaches it",
        )
    };
    match (release::status(&reply), first_address(&reply)) {
        ("none", None) => Ok(Listens::Will(given.ok_or_else(missing)?)),
        ("none" | "setup", Some(At::Address(uri))) => Ok(Listens::At(uri)),
        ("none" | "setup", Some(At::AnyHost(port))) => match option {
            Some(option) if option.port() != port => Err(desk.fault(&format!(
                "it waits at port {port}, and --migrate-listen of its node says {option}; give both the same port"
            ))),
            _ => Ok(Listens::At(given.ok_or_else(missing)?)),
        },
        ("setup", None) => Ok(Listens::At(given.ok_or_else(missing)?)),
        (status, _) => Err(desk.fault(&format!(
            "it has begun to load a state before (its migration is {status}); start it anew, with -incoming defer"
        ))),
    }
}

/// Where QEMU waits.
enum At {
    /// At an address: its URI.
    Address(String),
    /// At this port of all addresses of its host.
    AnyHost(u16),
}

/// The first address at which QEMU waits.
fn first_address(reply: &Value) -> Option<At> {
    let at = &reply["socket-address"][0];
    match at["type"].as_str()? {
        "inet" => {
            let (host, port) = (at["host"].as_str()?, at["port"].as_str()?);
            Some(match host {
                "0.0.0.0" | "::" | "" => At::AnyHost(port.parse().ok()?),
                host if host.contains(':') => At::Address(format!("tcp:[{host}]:{port}")),
                host => At::Address(format!("tcp:{host}:{port}")),
            })
        }
        "unix" => Some(At::Address(format!("unix:{}", at["path"].as_str()?))),
        _ => None,
    }
}

/// Serves the images of the disks, if there are any: where.
async fn serve(
    desk: &Desk,
    order: &Order,
    undo: &mut Vec<Undo>,
) -> Result<Option<(String, String)>, Failure> {
    let images = Graph::read(desk).await?.images();
    let images = disks::matched(&order.disks, &images)?;
    if images.is_empty() {
        return Ok(None);
    }
    let at = order.addresses.nbd.ok_or_else(|| {
        Failure::new(
            "its node has no --nbd-listen HOST:PORT, an address of its host at which the primary's writes to the disks",
        )
    })?;
    disks::end_exports(desk).await?;
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let data = json!({ "host": host, "port": port });
    desk.execute(
        "nbd-server-start",
        json!({ "addr": { "type": "inet", "data": data } }),
    )
    .await?;
    undo.push(Undo::Execute("nbd-server-stop", Value::Null));
    for (number, image) in images.iter().enumerate() {
        let name = disks::export(number);
        let export = json!({
            "type": "nbd", "id": name, "name": name, "node-name": image.node, "writable": true,
        });
        desk.execute("block-export-add", export).await?;
    }
    Ok(Some((host, port)))
}

/// Until this node is protected.
async fn wait(desk: &Desk) -> Result<(), Failure> {
    let mut heard = desk.elapsed();
    loop {
        if desk.is_protected() {
            return Ok(());
        }
        desk.check_monitor()?;
        match desk.take_word() {
            Some(Message::Abandon { why, .. }) => {
                return Err(Failure::new(format!(
                    "the primary's node has given up: {why}"
                )));
            }
            Some(_) => heard = desk.elapsed(),
            None => {}
        }
        if desk.elapsed() - heard >= SILENCE {
            let reply = desk.ask("query-migrate").await?;
            // QEMU knows better than a node that is gone.
            if !matches!(release::status(&reply), "active" | "colo") {
                return Err(Failure::new(format!(
                    "the primary's node has said nothing for {} s; see whether it runs, and order it again",
                    SILENCE / 1000
                )));
            }
            heard = desk.elapsed();
        }
        desk.pause(LOOK).await;
    }
}
