//! A configuration file and a command line of any text: settings that keep their ranges, or one line that says what is
//! wrong.

use std::ffi::OsString;
use std::path::Path;

use dpdk_colo::cli::{Command, Options, split};
use dpdk_colo::config::{File, ProcessKeys, resolve};
use dpdk_colo::link::secure::KeyRing;

fn is_one_line(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}

/// The file, behind a zero byte the words of the command line, one to a line.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (text, words) = text.split_once('\0').unwrap_or((&text, ""));
    let _ = KeyRing::parse(text);
    let args = words.lines().map(OsString::from);
    let (process, pair) = match split(args).and_then(|split| Options::parse(split.app)) {
        Ok(Command::Run(options)) => (options.process, options.pair),
        Ok(_) => (ProcessKeys::default(), Default::default()),
        Err(error) => {
            is_one_line(&error);
            (ProcessKeys::default(), Default::default())
        }
    };
    let path = Path::new("colo.toml");
    let file = match File::parse(text, path) {
        Ok(file) => file,
        Err(error) => return is_one_line(&error),
    };
    match resolve(process, pair, Some((path, &file))) {
        Ok(settings) => {
            assert!(!settings.pairs.is_empty(), "no pair");
            for (at, one) in settings.pairs.iter().enumerate() {
                assert!(one.compare_timeout.as_millis() >= 1);
                let others = &settings.pairs[..at];
                assert!(others.iter().all(|other| other.name != one.name));
            }
        }
        Err(error) => is_one_line(&error),
    }
}
