//! How what was changed is changed back, the last change first.

use serde_json::{Value, json};

use super::desk::Desk;
use super::disks::{self, Graph};
use super::{Step, release};

/// A look at QEMU follows after this, in milliseconds.
const LOOK: u64 = 100;
/// A migration or a job that was cancelled has ended by then.
const LIMIT: u64 = 30_000;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Undo {
    /// This command takes it back.
    Execute(&'static str, Value),
    /// A job copies a disk.
    Job(String),
    /// A quorum has a further child, by its node's name.
    Child {
        /// The quorum.
        parent: String,
        /// The child.
        node: String,
    },
    /// QEMU sends the VM's state.
    Migration,
}

/// Changes all back; what could not be.
pub(super) async fn all(desk: &Desk, undo: Vec<Undo>) -> Vec<String> {
    let mut left = Vec::new();
    if !undo.is_empty() {
        desk.begin(Step::Undoes);
    }
    for change in undo.into_iter().rev() {
        let is_migration = change == Undo::Migration;
        if let Err(why) = one(desk, change).await {
            left.push(why);
            if is_migration {
                // A VM in COLO needs the rest.
                break;
            }
        }
    }
    left
}

async fn one(desk: &Desk, change: Undo) -> Result<(), String> {
    let done = match change {
        Undo::Execute(name, arguments) => desk.execute(name, arguments).await.map(drop),
        Undo::Job(id) => return job(desk, &id).await,
        Undo::Child { parent, node } => match Graph::read(desk).await {
            Ok(graph) => disks::detach(desk, &graph, &parent, &node).await,
            Err(failure) => Err(failure),
        },
        Undo::Migration => return migration(desk).await,
    };
    done.map_err(|failure| failure.to_string())
}

async fn job(desk: &Desk, id: &str) -> Result<(), String> {
    // It may have ended by itself.
    let _ = desk
        .execute("block-job-cancel", json!({ "device": id, "force": true }))
        .await;
    let until = desk.elapsed() + LIMIT;
    while disks::job(desk, id)
        .await
        .map_err(|it| it.to_string())?
        .is_some()
    {
        if desk.elapsed() >= until {
            return Err(format!("the job {id} does not end"));
        }
        desk.pause(LOOK).await;
    }
    Ok(())
}

async fn migration(desk: &Desk) -> Result<(), String> {
    let until = desk.elapsed() + LIMIT;
    loop {
        let reply = desk.ask("query-migrate").await;
        let reply = reply.map_err(|failure| failure.to_string())?;
        match release::status(&reply) {
            status if release::is_idle(status) => return Ok(()),
            "colo" => {
                return Err(
                    "QEMU has entered COLO meanwhile: both VMs run in it; see status at both nodes"
                        .to_owned(),
                );
            }
            "cancelling" | "failing" => {}
            _ => {
                desk.execute("migrate_cancel", Value::Null)
                    .await
                    .map_err(|failure| failure.to_string())?;
            }
        }
        if desk.elapsed() >= until {
            return Err(format!(
                "the migration is {} still",
                release::status(&reply)
            ));
        }
        desk.pause(LOOK).await;
    }
}
