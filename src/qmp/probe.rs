//! What a monitor is asked once per connection, and whether the QEMU behind it can do COLO.
//!
//! QEMU's own words decide where it has any (schema, capabilities, parameters); the version decides
//! only what no schema says: releases that were built with a fault.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::event::{ColoExitReason, ColoMode, MigrationStatus, RunState};

/// Name of the parameter whose setting requests a checkpoint.
pub(super) const CHECKPOINT_DELAY: &str = "x-checkpoint-delay";

/// The state of a monitor and its QEMU at the moment of [`super::Event::Connected`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// QEMU's release.
    pub version: Version,
    /// The distribution's name for the build; may be empty.
    pub package: String,
    /// Whether this QEMU can do COLO and lets a checkpoint be requested.
    pub colo: Result<(), NoColo>,
    /// A known weakness of this release that does not rule COLO out.
    pub caution: Option<Caution>,
    /// State of the virtual machine.
    pub run: RunState,
    /// State of its migration.
    pub migration: MigrationStatus,
    /// Which side of a pair the virtual machine is, where it is in COLO and QEMU says.
    pub colo_mode: Option<ColoMode>,
    /// Whether QEMU emits MIGRATION and MIGRATION_PASS. Switched on where it was off, unless
    /// QEMU refused for the time being.
    pub events_capability: bool,
    /// The background period of checkpoints in milliseconds, where QEMU has one.
    pub checkpoint_delay_ms: Option<u32>,
    /// A COLO_EXIT that was emitted while the probe ran; the migration state does not show it.
    pub colo_exit: Option<(ColoMode, ColoExitReason)>,
}

/// A release of QEMU. Development builds carry a micro number of 50 and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Why a QEMU cannot run under COLO, or not with an outside proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoColo {
    /// The migration state `colo` is never entered (from QEMU commit 4881411136 to 0b5bf4ea76).
    #[error(
        "QEMU {0} never enters COLO; use 10.0.7, 10.1.3, 10.2.0, a later release of these, or one before 10.0"
    )]
    Version(Version),
    /// The build has no such migration capability.
    #[error("this QEMU has no capability x-colo; use a build with CONFIG_REPLICATION")]
    Capability,
    /// The schema has no event for the end of COLO.
    #[error("this QEMU does not emit COLO_EXIT; use QEMU 3.1 or later, with CONFIG_REPLICATION")]
    ExitEvent,
    /// No checkpoint can be requested.
    #[error(
        "this QEMU's migrate-set-parameters takes no {CHECKPOINT_DELAY}, \
         so no checkpoint can be requested; use a build with CONFIG_REPLICATION"
    )]
    CheckpointDelay,
    /// The value that a request has to repeat cannot be read.
    #[error(
        "this QEMU does not show its {CHECKPOINT_DELAY}; \
         start it without -compat unstable-output=hide"
    )]
    CheckpointDelayHidden,
}

/// What an operator should know of a release before trusting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caution {
    /// A secondary with disks may abort when it enters COLO (QEMU commit 2b3912f135, fixed by
    /// 2cc637f1ea).
    SecondaryWithDisks,
    /// Newer than every release that this program was tried with, or a development build.
    Unknown,
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecondaryWithDisks => {
                "a secondary of QEMU 8.2 or 9.0 with replicated disks may abort when it enters \
                 COLO; use 9.1 or later"
            }
            Self::Unknown => {
                "this QEMU is a development build or newer than 11.1, the last release that this program knows; \
                 try a pair before you rely on it"
            }
        })
    }
}

impl Version {
    /// Whether this release is known never to enter COLO.
    pub fn never_enters_colo(self) -> bool {
        match (self.major, self.minor) {
            (10, 0) => self.micro <= 6 || self.is_development(),
            (10, 1) => self.micro <= 2,
            _ => false,
        }
    }

    /// Whether it lies between two releases.
    fn is_development(self) -> bool {
        self.micro >= 50
    }

    /// Whether MIGRATION_PASS is emitted in each checkpoint (until QEMU commit 9519d3667a, in 11.1).
    pub fn passes_in_checkpoints(self) -> bool {
        (self.major, self.minor) < (11, 1)
            && !((self.major, self.minor) == (11, 0) && self.is_development())
    }

    /// What is known against this release short of that.
    pub fn caution(self) -> Option<Caution> {
        match (self.major, self.minor) {
            (8, 2) | (9, 0) => Some(Caution::SecondaryWithDisks),
            newer if newer > (11, 1) => Some(Caution::Unknown),
            _ if self.is_development() => Some(Caution::Unknown),
            _ => None,
        }
    }
}

/// The answers that decide on COLO, as they come in.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub schema: Schema,
    pub colo_capability: bool,
    pub checkpoint_delay: Option<u32>,
}

impl Findings {
    /// Decides. A missing capability is named before what its build lacks with it.
    pub(super) fn judge(&self, version: Version) -> Result<(), NoColo> {
        if !self.colo_capability {
            Err(NoColo::Capability)
        } else if !self.schema.takes_checkpoint_delay {
            Err(NoColo::CheckpointDelay)
        } else if !self.schema.emits_colo_exit {
            Err(NoColo::ExitEvent)
        } else if version.never_enters_colo() {
            Err(NoColo::Version(version))
        } else if self.checkpoint_delay.is_none() {
            Err(NoColo::CheckpointDelayHidden)
        } else {
            Ok(())
        }
    }
}

/// What of the reply to `query-qmp-schema` matters here. It is read as a stream: of its hundreds of
/// kB only the names of the types that hold the parameter are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Schema {
    pub takes_checkpoint_delay: bool,
    pub emits_colo_exit: bool,
    pub reports_colo_mode: bool,
    pub yanks: bool,
    pub shows_block_graph: bool,
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SchemaVisitor)
    }
}

struct SchemaVisitor;

impl<'de> Visitor<'de> for SchemaVisitor {
    type Value = Schema;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of SchemaInfo")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Schema, A::Error> {
        let mut argument_type = None;
        let mut types_with_delay = BTreeSet::new();
        let mut emits_colo_exit = false;
        let mut reports_colo_mode = false;
        let mut yanks = false;
        let mut shows_block_graph = false;
        while let Some(entry) = entries.next_element::<Entry>()? {
            match entry.meta_type.as_str() {
                "command" if entry.name == "migrate-set-parameters" => {
                    argument_type = entry.arg_type;
                }
                "command" if entry.name == "query-colo-status" => reports_colo_mode = true,
                "command" if entry.name == "yank" => yanks = true,
                "command" if entry.name == "x-debug-query-block-graph" => shows_block_graph = true,
                "event" if entry.name == "COLO_EXIT" => emits_colo_exit = true,
                "object" if entry.members.0 => {
                    types_with_delay.insert(entry.name);
                }
                _ => {}
            }
        }
        Ok(Schema {
            takes_checkpoint_delay: argument_type
                .is_some_and(|name| types_with_delay.contains(&name)),
            emits_colo_exit,
            reports_colo_mode,
            yanks,
            shows_block_graph,
        })
    }
}

/// One `SchemaInfo` (`qapi/introspect.json`). Type names are numbers without a meaning.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    name: String,
    meta_type: String,
    arg_type: Option<String>,
    #[serde(default)]
    members: HasDelay,
}

/// Whether a list of members holds the parameter.
#[derive(Default)]
struct HasDelay(bool);

impl<'de> Deserialize<'de> for HasDelay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = HasDelay;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of members")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<HasDelay, A::Error> {
                let mut found = false;
                while let Some(member) = members.next_element::<Member>()? {
                    found |= member.name.0;
                }
                Ok(HasDelay(found))
            }
        }

        deserializer.deserialize_seq(Members)
    }
}

/// An object's member, an enumeration's member, or an alternate's branch, which has no name.
#[derive(Deserialize)]
struct Member {
    #[serde(default)]
    name: IsDelay,
}

/// Whether a name is the parameter's.
#[derive(Default)]
struct IsDelay(bool);

impl<'de> Deserialize<'de> for IsDelay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = IsDelay;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<IsDelay, E> {
                Ok(IsDelay(name == CHECKPOINT_DELAY))
            }
        }

        deserializer.deserialize_str(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32, micro: u32) -> Version {
        Version {
            major,
            minor,
            micro,
        }
    }

    fn able() -> Findings {
        Findings {
            schema: Schema {
                takes_checkpoint_delay: true,
                emits_colo_exit: true,
                reports_colo_mode: false,
                ..Schema::default()
            },
            colo_capability: true,
            checkpoint_delay: Some(20_000),
        }
    }

    #[test]
    fn releases_that_never_enter_colo_are_named() {
        for (major, minor, micro, broken) in [
            (7, 2, 22, false),
            (9, 2, 4, false),
            (10, 0, 0, true),
            (10, 0, 6, true),
            (10, 0, 7, false),
            (10, 0, 50, true),
            (10, 1, 0, true),
            (10, 1, 2, true),
            (10, 1, 3, false),
            (10, 2, 0, false),
        ] {
            let version = version(major, minor, micro);
            let want = if broken {
                Err(NoColo::Version(version))
            } else {
                Ok(())
            };
            assert_eq!(able().judge(version), want);
        }
        assert_eq!(version(10, 1, 3).caution(), None);
        for unknown in [(10, 2, 50), (11, 1, 90), (11, 2, 0), (12, 0, 0)] {
            let (major, minor, micro) = unknown;
            assert_eq!(
                version(major, minor, micro).caution(),
                Some(Caution::Unknown)
            );
        }
        assert_eq!(version(11, 1, 3).caution(), None);
        assert_eq!(
            version(8, 2, 1).caution(),
            Some(Caution::SecondaryWithDisks)
        );
        assert_eq!(version(7, 2, 22).caution(), None);
    }

    #[test]
    fn releases_whose_checkpoints_show_no_pass_are_known() {
        for (major, minor, micro, passes) in [
            (7, 2, 22, true),
            (10, 2, 2, true),
            (11, 0, 3, true),
            (11, 0, 50, false),
            (11, 1, 0, false),
            (12, 0, 0, false),
        ] {
            assert_eq!(version(major, minor, micro).passes_in_checkpoints(), passes);
        }
    }

    #[test]
    fn each_missing_piece_has_its_reason() {
        let judge = |change: fn(&mut Findings)| {
            let mut findings = able();
            change(&mut findings);
            findings.judge(version(7, 2, 22))
        };
        assert_eq!(judge(|_| ()), Ok(()));
        assert_eq!(
            judge(|f| f.colo_capability = false),
            Err(NoColo::Capability)
        );
        assert_eq!(
            judge(|f| f.schema.takes_checkpoint_delay = false),
            Err(NoColo::CheckpointDelay)
        );
        assert_eq!(
            judge(|f| f.schema.emits_colo_exit = false),
            Err(NoColo::ExitEvent)
        );
        assert_eq!(
            judge(|f| f.checkpoint_delay = None),
            Err(NoColo::CheckpointDelayHidden)
        );
    }

    #[test]
    fn the_schema_is_followed_from_the_command_to_its_argument_type() {
        let schema = |argument: &str| -> Schema {
            serde_json::from_str(&format!(
                r#"[{{"name":"7","meta-type":"object","members":[{{"name":"a","type":"int"}},
                     {{"name":"x-checkpoint-delay","default":null,"type":"int"}}]}},
                    {{"name":"8","meta-type":"object","members":[]}},
                    {{"name":"9","meta-type":"alternate","members":[{{"type":"str"}}]}},
                    {{"name":"COLO_EXIT","meta-type":"event","arg-type":"8"}},
                    {{"name":"migrate-set-parameters","meta-type":"command",
                      "ret-type":"0","arg-type":"{argument}"}}]"#
            ))
            .unwrap()
        };
        assert!(schema("7").takes_checkpoint_delay);
        assert!(!schema("8").takes_checkpoint_delay);
        assert!(schema("8").emits_colo_exit);
        assert_eq!(
            serde_json::from_str::<Schema>("[]").unwrap(),
            Schema::default()
        );
        assert!(serde_json::from_str::<Schema>(r#"{"no":"list"}"#).is_err());
    }
}
