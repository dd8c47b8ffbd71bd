//! The TOML file: the keys of the command line at the top level, as the one pair's or as defaults
//! of all, `[[pair]]` tables for several VM pairs, `[[policy]]` and `[[pair.policy]]` tables for
//! flows that leave uncompared. A key that nobody knows is an error with its line.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::keys::{CaptureLimit, IdleSleep, StallLimit, StatsPeriod, pair_keys};
use super::{ControlPlace, MetricsAddress, PairKeys, PolicyRule, ProcessKeys, QmpAddress};

/// Declares a table of the file that has all keys of a pair and some of its own. Serde's own
/// `flatten` would lose the line numbers of errors.
macro_rules! table {
    (
        { $(#[$meta:meta])* $name:ident { $($(#[$own_doc:meta])* $own:ident: $own_type:ty,)* } }
        $($(#[$doc:meta])* $field:ident: $type:ty = $key:literal, $kind:ident, $roles:ident, $pairs:ident;)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$own_doc])* pub(super) $own: $own_type,)*
            $(#[serde(rename = $key)] $field: Option<$type>,)*
        }

        impl $name {
            /// The keys of a pair in this table.
            pub fn pair_keys(&self) -> PairKeys {
                PairKeys { $($field: self.$field.clone(),)* }
            }
        }
    };
}

pair_keys! {
    table
    /// A whole file.
    File {
        idle_sleep: Option<IdleSleep>,
        stall_limit: Option<StallLimit>,
        stats_period: Option<StatsPeriod>,
        summary: Option<PathBuf>,
        report_dir: Option<PathBuf>,
        capture: Option<PathBuf>,
        capture_limit: Option<CaptureLimit>,
        control: Option<ControlPlace>,
        control_group: Option<String>,
        metrics: Option<MetricsAddress>,
        /// The `[[pair]]` tables.
        pair: Vec<PairTable>,
        /// The `[[policy]]` tables, for all pairs.
        policy: Vec<PolicyRule>,
    }
}

pair_keys! {
    table
    /// A `[[pair]]` table.
    PairTable {
        /// The pair's name.
        name: Option<String>,
        /// The `[[pair.policy]]` tables.
        policy: Vec<PolicyRule>,
    }
}

impl<'de> Deserialize<'de> for QmpAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl File {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or is not TOML with the known keys and values in range.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Reads `text`, which `path` names in errors.
    ///
    /// # Errors
    /// As [`File::read`], reading aside.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            ConfigError::Content {
                path: path.to_owned(),
                line: 1 + text.as_bytes()[..start]
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count(),
                what: error.message().trim_end().replace('\n', "; "),
            }
        })
    }

    /// The rules of a pair: those of all pairs, and those of the named one or of the only one. `None` if there is no
    /// pair of that name.
    pub fn policy_of(&self, pair: Option<&str>) -> Option<Vec<PolicyRule>> {
        let mut tables = self.pair.iter();
        let own = match (pair, self.pair.len()) {
            (Some(_), _) => Some(tables.find(|table| table.name.as_deref() == pair)?),
            (None, 1) => tables.next(),
            (None, _) => None,
        };
        let own = own.into_iter().flat_map(|table| &table.policy);
        Some(self.policy.iter().chain(own).cloned().collect())
    }

    /// The keys of the process.
    pub fn process_keys(&self) -> ProcessKeys {
        ProcessKeys {
            idle_sleep: self.idle_sleep,
            stall_limit: self.stall_limit,
            stats_period: self.stats_period,
            summary: self.summary.clone(),
            report_dir: self.report_dir.clone(),
            capture: self.capture.clone(),
            capture_limit: self.capture_limit,
            control: self.control.clone(),
            control_group: self.control_group.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// Why a file gives no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("--config: cannot read {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not say what it should.
    #[error("--config: {path:?} line {line}: {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What the TOML reader says, in one line.
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        File::parse(text, Path::new("colo.toml"))
            .expect_err(text)
            .to_string()
    }

    #[test]
    fn errors_are_one_line_with_the_line_number() {
        for (text, start, middle) in [
            (
                "\n\ncolour = 1",
                "--config: \"colo.toml\" line 3: ",
                "unknown field `colour`",
            ),
            (
                "role = 'third'",
                "--config: \"colo.toml\" line 1: ",
                "`primary`, `secondary`",
            ),
            (
                "flows = 0",
                "--config: \"colo.toml\" line 1: ",
                "from 1 to 16777216",
            ),
            (
                "flows = -1",
                "--config: \"colo.toml\" line 1: ",
                "from 1 to 16777216",
            ),
            (
                "heartbeat-loss = 3",
                "--config: \"colo.toml\" line 1: ",
                "from 4 to 10000",
            ),
            (
                "guest = ''",
                "--config: \"colo.toml\" line 1: ",
                "name of an ethdev",
            ),
            (
                "qmp = 'host:0'",
                "--config: \"colo.toml\" line 1: ",
                "from 1 to 65535",
            ),
            (
                "[[pair]]\n\n\nout = 3",
                "--config: \"colo.toml\" line 4: ",
                "invalid type",
            ),
            (
                "[[pair]]\nsummary = 'x'",
                "--config: \"colo.toml\" line 2: ",
                "unknown field",
            ),
            ("= 3", "--config: \"colo.toml\" line 1: ", ""),
            ("a = 'b", "--config: \"colo.toml\" line 1: ", ""),
        ] {
            let line = complaint(text);
            assert!(line.starts_with(start), "{text}: {line}");
            assert!(line.contains(middle), "{text}: {line}");
            assert!(!line.contains('\n'), "{text}: {line}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let line = File::read(Path::new("/nonexistent/colo.toml"))
            .expect_err("no such file")
            .to_string();
        assert!(
            line.starts_with("--config: cannot read \"/nonexistent/colo.toml\": "),
            "{line}"
        );
    }
}
