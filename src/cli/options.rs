//! Reads this program's half of the command line into keys.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lexopt::Arg;

use super::{UsageError, ValueError, split};
use crate::config::{File, PairKeys, ProcessKeys, Settings, pair_keys, resolve};

/// Long options beside the keys of a pair. All take a value.
pub(super) const OTHERS: &[&str] = &[
    MAKE_LINK_KEY,
    CHECK,
    "idle-sleep",
    "stall-limit",
    "stats-period",
    "summary",
    "report-dir",
    "capture",
    "capture-limit",
    "control",
    "control-group",
    "metrics",
    "config",
];

/// The long option of this name.
fn known(name: &str) -> Option<&'static str> {
    let mut all = PairKeys::NAMES.iter().chain(OTHERS);
    all.find(|known| **known == name).copied()
}

/// The option that judges the others and runs nothing.
const CHECK: &str = "check";
/// The option that makes a file and runs nothing.
const MAKE_LINK_KEY: &str = "make-link-key";

/// EAL options that are likely to end up behind `--`, for a better word than "unknown".
const EAL_OPTIONS: [&str; 22] = [
    "allow",
    "block",
    "coremask",
    "file-prefix",
    "huge-dir",
    "huge-unlink",
    "in-memory",
    "iova-mode",
    "lcores",
    "legacy-mem",
    "log-level",
    "main-lcore",
    "match-allocations",
    "no-huge",
    "no-pci",
    "no-shconf",
    "no-telemetry",
    "proc-type",
    "single-file-segments",
    "socket-limit",
    "socket-mem",
    "vdev",
];
const EAL_LETTERS: [char; 9] = ['a', 'b', 'c', 'd', 'l', 'm', 'n', 'r', 's'];

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print [`USAGE`](super::USAGE).
    Help,
    /// Print [`VERSION`](super::VERSION).
    Version,
    /// Make a file with a key for a link.
    MakeLinkKey(PathBuf),
    /// Run.
    Run(Box<Options>),
}

/// How the judgement of a command line is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFormat {
    /// For a reader.
    Text,
    /// For a program.
    Json,
}

/// The options as given: each may be absent, and nothing is known of the file yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Judge these options, and start nothing.
    pub check: Option<CheckFormat>,
    /// The file that gives the rest.
    pub config: Option<PathBuf>,
    /// Keys of the process.
    pub process: ProcessKeys,
    /// Keys of the pair, or of all pairs of the file.
    pub pair: PairKeys,
}

impl Options {
    /// Reads what stands behind `--`.
    ///
    /// # Errors
    /// At the first option that is unknown, repeated, without its value or with a bad one.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
        let mut parser = lexopt::Parser::from_args(args);
        let mut options = Self::default();
        let mut seen = HashSet::new();
        while let Some(arg) = parser.next().map_err(stray_value)? {
            let option = match arg {
                Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
                Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
                Arg::Long(name) => match known(name) {
                    Some(known) => known,
                    None if EAL_OPTIONS.contains(&name) => {
                        return Err(UsageError::EalOption {
                            option: format!("--{name}"),
                        });
                    }
                    None => {
                        return Err(UsageError::UnknownOption {
                            option: format!("--{name}"),
                        });
                    }
                },
                Arg::Short(letter) if EAL_LETTERS.contains(&letter) => {
                    return Err(UsageError::EalOption {
                        option: format!("-{letter}"),
                    });
                }
                Arg::Short(letter) => {
                    return Err(UsageError::UnknownOption {
                        option: format!("-{letter}"),
                    });
                }
                Arg::Value(word) => {
                    return Err(UsageError::StrayWord {
                        word: word.to_string_lossy().into_owned(),
                    });
                }
            };
            if !seen.insert(option) {
                return Err(UsageError::Repeated { option });
            }
            if option == MAKE_LINK_KEY {
                return Ok(Command::MakeLinkKey(value(&mut parser, option)?.into()));
            }
            if option == CHECK {
                options.check = Some(check_format(parser.optional_value())?);
                continue;
            }
            let value = match takes_value(option) {
                true => value(&mut parser, option)?,
                false => OsString::new(),
            };
            options.set(option, value)?;
        }
        Ok(Command::Run(Box::new(options)))
    }

    /// The settings, the file read if one is named.
    ///
    /// # Errors
    /// When the file cannot be read or understood, what is given makes no settings, or the summary's directory
    /// is missing.
    pub fn settings(self) -> Result<Settings, UsageError> {
        let file = match self.config {
            None => None,
            Some(path) => {
                let file = File::read(&path)?;
                Some((path, file))
            }
        };
        let file = file.as_ref().map(|(path, file)| (path.as_path(), file));
        let settings = resolve(self.process, self.pair, file)?;
        if let Some(path) = &settings.process.summary {
            has_directory("summary", path)?;
        }
        Ok(settings)
    }

    /// The settings that the process's command line means now: its file may have changed.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn again() -> Result<Settings, UsageError> {
        let parts = split(std::env::args_os())?;
        match Self::parse(parts.app)? {
            Command::Run(options) => options.settings(),
            // Such a process does not run.
            Command::Help | Command::Version | Command::MakeLinkKey(_) => {
                Self::default().settings()
            }
        }
    }

    fn set(&mut self, option: &'static str, value: OsString) -> Result<(), UsageError> {
        let process = &mut self.process;
        match option {
            "idle-sleep" => process.idle_sleep = parsed(option, value)?,
            "stall-limit" => process.stall_limit = parsed(option, value)?,
            "stats-period" => process.stats_period = parsed(option, value)?,
            "summary" => process.summary = Some(value.into()),
            "report-dir" => process.report_dir = Some(value.into()),
            "capture" => process.capture = Some(value.into()),
            "capture-limit" => process.capture_limit = parsed(option, value)?,
            "control" => process.control = parsed(option, value)?,
            "control-group" => process.control_group = parsed(option, value)?,
            "metrics" => process.metrics = parsed(option, value)?,
            "config" => self.config = Some(value.into()),
            _ => set_of_pair(&mut self.pair, option, value)?,
        }
        Ok(())
    }
}

fn check_format(given: Option<OsString>) -> Result<CheckFormat, UsageError> {
    match given {
        None => Ok(CheckFormat::Text),
        Some(word) if word == "json" => Ok(CheckFormat::Json),
        Some(word) => Err(UsageError::BadValue {
            option: CHECK,
            value: word.to_string_lossy().into_owned(),
            reason: ValueError::CheckFormat,
        }),
    }
}

/// Sets the key of a pair that an option gives.
fn set_of_pair(
    pair: &mut PairKeys,
    option: &'static str,
    value: OsString,
) -> Result<(), UsageError> {
    macro_rules! given {
        (value) => {
            parsed(option, value)?
        };
        (flag) => {
            Some(true)
        };
    }
    macro_rules! set {
        ({} $($(#[$doc:meta])* $field:ident: $type:ty = $name:literal, $kind:ident, $roles:ident, $pairs:ident;)*) => {
            match option {
                $($name => pair.$field = given!($kind),)*
                _ => {
                    return Err(UsageError::UnknownOption {
                        option: format!("--{option}"),
                    });
                }
            }
        };
    }
    pair_keys!(set);
    Ok(())
}

/// Whether a known option takes a value.
fn takes_value(option: &str) -> bool {
    macro_rules! is {
        (value) => {
            true
        };
        (flag) => {
            false
        };
    }
    macro_rules! look_up {
        ({} $($(#[$doc:meta])* $field:ident: $type:ty = $name:literal, $kind:ident, $roles:ident, $pairs:ident;)*) => {
            match option {
                $($name => is!($kind),)*
                _ => true,
            }
        };
    }
    pair_keys!(look_up)
}

/// Whether `arg` is an option of this program, with or without `=value`.
pub(super) fn names_app_option(arg: &OsStr) -> bool {
    let Some(name) = arg.to_str().and_then(|arg| arg.strip_prefix("--")) else {
        return false;
    };
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    known(name).is_some()
}

/// Whether `arg` asks for a key file.
pub(super) fn asks_for_key(arg: &OsStr) -> bool {
    let name = arg.to_str().and_then(|arg| arg.strip_prefix("--"));
    name.and_then(|name| name.split('=').next()) == Some(MAKE_LINK_KEY)
}

/// Whether `arg` asks for the usage or the version.
pub(super) fn asks_for_text(arg: &OsStr) -> bool {
    ["-h", "--help", "-V", "--version"]
        .iter()
        .any(|ask| arg == *ask)
}

/// Finds now what would be found when all figures are in.
fn has_directory(option: &'static str, path: &Path) -> Result<(), UsageError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match directory.is_dir() {
        true => Ok(()),
        false => Err(UsageError::NoDirectory {
            option,
            path: path.to_owned(),
            directory: directory.to_owned(),
        }),
    }
}

/// The value of `option`. A word with two dashes in front is the next option, not a value.
fn value(parser: &mut lexopt::Parser, option: &'static str) -> Result<OsString, UsageError> {
    let attached = parser.optional_value();
    let is_attached = attached.is_some();
    attached
        .or_else(|| parser.value().ok())
        .filter(|value| !value.is_empty())
        .filter(|value| is_attached || !value.as_encoded_bytes().starts_with(b"--"))
        .ok_or(UsageError::NoValue { option })
}

fn parsed<T>(option: &'static str, value: OsString) -> Result<Option<T>, UsageError>
where
    T: FromStr,
    ValueError: From<T::Err>,
{
    let bad = |value: &OsStr, reason| UsageError::BadValue {
        option,
        value: value.to_string_lossy().into_owned(),
        reason,
    };
    let text = value
        .to_str()
        .ok_or_else(|| bad(&value, ValueError::NotUtf8))?;
    match text.parse() {
        Ok(parsed) => Ok(Some(parsed)),
        Err(reason) => Err(bad(&value, ValueError::from(reason))),
    }
}

/// The one error that stepping to the next argument can give: `--raw-secondary=value` and the like.
fn stray_value(error: lexopt::Error) -> UsageError {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => UsageError::TakesNoValue { option },
        other => UsageError::UnknownOption {
            option: other.to_string(),
        },
    }
}
