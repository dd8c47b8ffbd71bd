//! What a configuration that is read again changes in a node that runs: all of it can be applied, or nothing is.

use std::time::Duration;

use super::{PairSettings, Settings};

/// Names of keys whose change only a restart can apply, each with its pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join(", "))]
pub struct NeedsRestart(Vec<String>);

/// The pairs, by their places, with the compare timeout that each has to get.
///
/// # Errors
/// With all that cannot be changed while the node runs.
pub fn changes(now: &Settings, then: &Settings) -> Result<Vec<(usize, Duration)>, NeedsRestart> {
    let mut fixed = Vec::new();
    let (is, was) = (&then.process, &now.process);
    let process = [
        ("idle-sleep", is.idle_sleep == was.idle_sleep),
        ("stall-limit", is.stall_limit == was.stall_limit),
        ("stats-period", is.stats_period == was.stats_period),
        ("summary", is.summary == was.summary),
        ("report-dir", is.report_dir == was.report_dir),
        ("capture", is.capture == was.capture),
        ("control", is.control == was.control),
        ("metrics", is.metrics == was.metrics),
    ];
    let differing = process.iter().filter(|(_, same)| !same);
    fixed.extend(differing.map(|(name, _)| (*name).to_owned()));
    let names = |settings: &Settings| -> Vec<String> {
        settings
            .pairs
            .iter()
            .map(|pair| pair.name.clone())
            .collect()
    };
    if names(then) != names(now) {
        fixed.push("the names, number or order of pairs".to_owned());
        return Err(NeedsRestart(fixed));
    }
    let mut timeouts = Vec::new();
    for (at, (is, was)) in then.pairs.iter().zip(&now.pairs).enumerate() {
        let differing = fixed_keys(is, was);
        fixed.extend(differing.map(|key| format!("{key} of pair {}", is.name)));
        if is.compare_timeout != was.compare_timeout {
            timeouts.push((at, is.compare_timeout));
        }
    }
    if fixed.is_empty() && !alike(now, then) {
        fixed.push("a key that this release does not name here".to_owned());
    }
    match fixed.is_empty() {
        true => Ok(timeouts),
        false => Err(NeedsRestart(fixed)),
    }
}

/// Whether nothing differs but what can be changed, also in keys that this page does not know yet.
fn alike(now: &Settings, then: &Settings) -> bool {
    let mut then = then.clone();
    for (is, was) in then.pairs.iter_mut().zip(&now.pairs) {
        is.compare_timeout = was.compare_timeout;
    }
    then == *now
}

fn fixed_keys<'a>(
    is: &'a PairSettings,
    was: &'a PairSettings,
) -> impl Iterator<Item = &'static str> {
    let keys = [
        ("vm-id", is.vm_id == was.vm_id),
        ("role, ports, qmp or link-key", is.role == was.role),
        ("mac", is.macs == was.macs),
        (
            "checkpoint-share",
            is.checkpoint_share == was.checkpoint_share,
        ),
        ("mtu", is.mtu == was.mtu),
        ("hold-frames", is.hold_frames == was.hold_frames),
        ("flows", is.flows == was.flows),
        (
            "failover, on-peer-lost, heartbeat or a limit of the peer's",
            is.failover == was.failover,
        ),
        ("policy", is.policy == was.policy),
        ("migrate-listen", is.migrate_listen == was.migrate_listen),
        ("nbd-listen", is.nbd_listen == was.nbd_listen),
    ];
    keys.into_iter()
        .filter(|(_, same)| !same)
        .map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::super::{File, PairKeys, ProcessKeys, resolve};
    use super::*;

    fn settings(text: &str) -> Settings {
        let path = std::path::Path::new("colo.toml");
        let file = File::parse(text, path).expect("a configuration");
        let place = Some((path, &file));
        resolve(ProcessKeys::default(), PairKeys::default(), place).expect("settings")
    }

    fn pair(more: &str, process: &str) -> String {
        format!(
            "{process}\n[[pair]]\nname = \"a\"\nrole = \"compare\"\nprimary-in = \"p\"\nsecondary-in = \"s\"\n\
             out = \"o\"\n{more}\n"
        )
    }

    #[test]
    fn a_timeout_is_applied_and_anything_else_keeps_all_from_it() {
        let was = settings(&pair("compare-timeout = 50", ""));
        assert_eq!(changes(&was, &was), Ok(Vec::new()));
        let is = settings(&pair("compare-timeout = 70", ""));
        let timeout = Duration::from_millis(70);
        assert_eq!(changes(&was, &is), Ok(vec![(0, timeout)]));
        for (text, says) in [
            (
                pair("compare-timeout = 70\nflows = 64", ""),
                "flows of pair a",
            ),
            (pair("hold-frames = 4096", ""), "hold-frames of pair a"),
            (pair("compare-timeout = 70", "idle-sleep = 9"), "idle-sleep"),
            (pair("", "").replace("\"o\"", "\"x\""), "ports"),
            (pair("", "").replace("\"a\"", "\"b\""), "names"),
        ] {
            let fault = changes(&was, &settings(&text)).expect_err(says);
            assert!(fault.to_string().contains(says), "{fault}");
        }
    }
}
