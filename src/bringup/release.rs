//! What COLO needs of a QEMU's migration, by its release.

use serde::Deserialize;
use serde_json::{Value, json};

use super::desk::Desk;
use super::undo::Undo;
use super::{Failure, Step};
use crate::qmp::Version;

/// Background period of checkpoints in milliseconds: the nodes ask for those that are needed.
const PERIOD: u64 = 600_000;
/// QEMU's own periods, which nobody has chosen (since 3.1, and before).
const DEFAULT_PERIODS: [u64; 2] = [20_000, 200];
const PERIOD_NAME: &str = "x-checkpoint-delay";

/// Capabilities, and whether they have to be set. `return-path` breaks COLO before 11.0, which demands it.
fn capabilities(version: Version) -> [(&'static str, bool); 2] {
    let demands_path = (version.major, version.minor) >= (11, 0);
    [("return-path", demands_path), ("x-colo", true)]
}

/// Whether an NBD client is to look for zeros in what is written, as QEMU's document has it from 11.0 on.
pub(super) fn detects_zeroes(version: Version) -> bool {
    (version.major, version.minor) >= (11, 0)
}

#[derive(Deserialize)]
struct Capability {
    capability: String,
    state: bool,
}

fn setting(all: &[(&'static str, bool)]) -> Value {
    let all = all
        .iter()
        .map(|(name, on)| json!({ "capability": name, "state": on }));
    json!({ "capabilities": all.collect::<Vec<_>>() })
}

/// Sets what COLO needs, and notes how it was.
pub(super) async fn set(
    desk: &Desk,
    version: Version,
    undo: &mut Vec<Undo>,
) -> Result<(), Failure> {
    let known = desk.ask("query-migrate-capabilities").await?;
    let known: Vec<Capability> = read(desk, "query-migrate-capabilities", known)?;
    let mut wrong = Vec::new();
    for (name, wanted) in capabilities(version) {
        match known.iter().find(|it| it.capability == name) {
            Some(it) if it.state == wanted => {}
            Some(_) => wrong.push((name, wanted)),
            None if wanted => {
                return Err(desk.fault(&format!(
                    "it has no migration capability {name}; use a build with CONFIG_REPLICATION"
                )));
            }
            None => {}
        }
    }
    if !wrong.is_empty() {
        desk.execute("migrate-set-capabilities", setting(&wrong))
            .await?;
        let before: Vec<_> = wrong.iter().map(|(name, on)| (*name, !on)).collect();
        undo.push(Undo::Execute("migrate-set-capabilities", setting(&before)));
    }
    let parameters = desk.ask("query-migrate-parameters").await?;
    if let Some(period) = parameters[PERIOD_NAME].as_u64()
        && DEFAULT_PERIODS.contains(&period)
    {
        desk.execute("migrate-set-parameters", json!({ PERIOD_NAME: PERIOD }))
            .await?;
        undo.push(Undo::Execute(
            "migrate-set-parameters",
            json!({ PERIOD_NAME: period }),
        ));
    }
    Ok(())
}

/// A reply of the shape that it has to have.
pub(super) fn read<T: serde::de::DeserializeOwned>(
    desk: &Desk,
    name: &str,
    reply: Value,
) -> Result<T, Failure> {
    serde_json::from_value(reply)
        .map_err(|error| desk.fault(&format!("{name}: its reply is not understood: {error}")))
}

/// The state of QEMU's migration; `none` before the first.
pub(super) fn status(reply: &Value) -> &str {
    reply["status"].as_str().unwrap_or("none")
}

/// Whether no migration runs.
pub(super) fn is_idle(status: &str) -> bool {
    matches!(status, "none" | "completed" | "failed" | "cancelled")
}

/// How far a migration is.
pub(super) fn show(desk: &Desk, reply: &Value) -> u64 {
    let bytes = |name: &str| reply["ram"][name].as_u64().unwrap_or(0);
    let done = bytes("transferred");
    if desk.progress().step == Step::MovesState && done > 0 {
        desk.copied(done, done + bytes("remaining"));
    }
    done
}
