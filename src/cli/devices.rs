//! The devices that EAL's half of a command line makes.

use std::ffi::OsString;

/// What stands behind each `--vdev`: a name, and arguments behind commas.
pub(super) fn devices(eal: &[OsString]) -> impl Iterator<Item = &str> {
    eal.iter()
        .enumerate()
        .filter_map(|(at, word)| match word.to_str()?.strip_prefix("--vdev")? {
            "" => eal.get(at + 1)?.to_str(),
            attached => attached.strip_prefix('='),
        })
}
