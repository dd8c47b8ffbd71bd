//! From keys to [`Settings`]: who overrides whom, and the process's defaults.
//!
//! The command line overrides a `[[pair]]` table, which overrides the file's top level. Every
//! fault is named with its place and its key, as the key is spelled there.

mod collisions;
mod pair;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use super::fault::{KeySource, SettingsError};
use super::keys::CaptureLimit;
use super::{
    CaptureSettings, ControlSettings, File, PairKeys, PairSettings, PairTable, ProcessKeys,
    ProcessSettings, Settings,
};
use collisions::refuse_collisions;
use pair::{pair_settings, refuse_sleepers};

const DEFAULT_CAPTURE_LIMIT_MIB: u32 = 16_384;

/// Makes settings of the command line's keys and of the file, which its path names in errors.
///
/// # Errors
/// When a pair lacks what its role needs or has what it forbids, or when two pairs collide.
pub fn resolve(
    process: ProcessKeys,
    pair: PairKeys,
    file: Option<(&Path, &File)>,
) -> Result<Settings, SettingsError> {
    let (process, pairs) = match file {
        None => {
            let name = pair_name(None, &pair);
            let settings = pair_settings(name, pair, Vec::new())
                .map_err(|fault| KeySource::CommandLine.fault(fault))?;
            (process, vec![(KeySource::CommandLine, settings)])
        }
        Some((path, file)) => (
            process.or(file.process_keys()),
            pairs_of_file(&pair, path, file)?,
        ),
    };
    refuse_collisions(&pairs)?;
    let idle_sleep = match process.idle_sleep {
        None => ProcessSettings::default().idle_sleep,
        Some(us) => at_least_one(us.value()).map(|us| Duration::from_micros(us.into())),
    };
    for (place, pair) in &pairs {
        refuse_sleepers(pair, idle_sleep).map_err(|fault| place.fault(fault))?;
    }
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Ok(Settings {
        process: ProcessSettings {
            idle_sleep,
            stall_limit: match process.stall_limit {
                None => ProcessSettings::default().stall_limit,
                Some(limit) => at_least_one(limit.value()).map(seconds),
            },
            stats_period: process
                .stats_period
                .and_then(|s| at_least_one(s.value()))
                .map(seconds),
            summary: process.summary,
            report_dir: process.report_dir,
            capture: process.capture.map(|dir| CaptureSettings {
                dir,
                limit: capture_limit(process.capture_limit),
            }),
            control: ControlSettings {
                place: process.control.unwrap_or_default(),
                group: process.control_group,
            },
            metrics: process.metrics,
        },
        pairs: pairs.into_iter().map(|(_, pair)| pair).collect(),
    })
}

fn capture_limit(given: Option<CaptureLimit>) -> u64 {
    match given.map_or(DEFAULT_CAPTURE_LIMIT_MIB, |mib| mib.value()) {
        0 => u64::MAX,
        mib => u64::from(mib) << 20,
    }
}

fn at_least_one(number: u32) -> Option<u32> {
    (number > 0).then_some(number)
}

fn pairs_of_file(
    cli: &PairKeys,
    path: &Path,
    file: &File,
) -> Result<Vec<(KeySource, PairSettings)>, SettingsError> {
    let top = file.pair_keys();
    if file.pair.is_empty() {
        let keys = cli.clone().or(top);
        let place = KeySource::File {
            path: path.to_owned(),
            pair: None,
        };
        return pair_settings(pair_name(None, &keys), keys, file.policy.clone())
            .map(|settings| vec![(place.clone(), settings)])
            .map_err(|fault| place.fault(fault));
    }
    if let (2.., Some(key)) = (file.pair.len(), cli.first_of_one_pair()) {
        return Err(SettingsError::WhichPair {
            key,
            pairs: file.pair.len(),
        });
    }
    let settings_of = |table: &PairTable| {
        let keys = cli.clone().or(table.pair_keys()).or(top.clone());
        let name = pair_name(table.name.as_deref(), &keys);
        let place = KeySource::File {
            path: path.to_owned(),
            pair: Some(name.clone()),
        };
        let policy = file.policy.iter().chain(&table.policy).cloned().collect();
        pair_settings(name, keys, policy)
            .map(|settings| (place.clone(), settings))
            .map_err(|fault| place.fault(fault))
    };
    file.pair.iter().map(settings_of).collect()
}

fn pair_name(given: Option<&str>, keys: &PairKeys) -> String {
    match given {
        Some(name) => name.to_owned(),
        None => format!("vm{}", keys.vm_id.map_or(0, |id| id.value())),
    }
}
