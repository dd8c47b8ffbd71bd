//! How QEMU and its guest are set up: commands that only read, and what they have answered.

use serde_json::{Map, Value, json};

/// NICs that are looked at, at most.
const NICS: usize = 16;
/// Where QEMU has its devices: those with an id, and those without.
const PARENTS: [&str; 2] = ["/machine/peripheral", "/machine/peripheral-anon"];

/// One command of an examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Version,
    Status,
    Migration,
    Capabilities,
    Parameters,
    Memory,
    Disks,
    /// For the devices below one of the parents.
    Devices(usize),
    /// For the device of this number: whether it announces its guest.
    Announce(usize),
    /// For its address.
    Mac(usize),
}

impl Look {
    /// Its name in QEMU's schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Version => "query-version",
            Self::Status => "query-status",
            Self::Migration => "query-migrate",
            Self::Capabilities => "query-migrate-capabilities",
            Self::Parameters => "query-migrate-parameters",
            Self::Memory => "query-memdev",
            Self::Disks => "query-block",
            Self::Devices(_) => "qom-list",
            Self::Announce(_) | Self::Mac(_) => "qom-get",
        }
    }
}

/// What has been answered so far.
#[derive(Debug)]
pub(super) struct Examination {
    said: Map<String, Value>,
    nics: Vec<Value>,
    /// Looks without an answer.
    left: usize,
}

impl Examination {
    /// The first commands, with their arguments.
    pub(super) fn begin() -> (Self, Vec<(Look, Value)>) {
        let plain = [
            Look::Version,
            Look::Status,
            Look::Migration,
            Look::Capabilities,
            Look::Parameters,
            Look::Memory,
            Look::Disks,
        ];
        let mut looks: Vec<_> = plain.map(|look| (look, Value::Null)).into();
        looks.extend(PARENTS.iter().enumerate().map(|(at, path)| {
            let arguments = json!({ "path": path });
            (Look::Devices(at), arguments)
        }));
        let examination = Self {
            said: Map::new(),
            nics: Vec::new(),
            left: looks.len(),
        };
        (examination, looks)
    }

    /// Takes an answer, `None` where QEMU has refused. Returns what is asked next.
    pub(super) fn take(&mut self, look: Look, answer: Option<Value>) -> Vec<(Look, Value)> {
        self.left = self.left.saturating_sub(1);
        let mut next = Vec::new();
        match (look, answer) {
            (_, None) => {}
            (Look::Devices(parent), Some(children)) => {
                for child in children.as_array().into_iter().flatten() {
                    let kind = child["type"].as_str().unwrap_or_default();
                    let (Some(name), true) = (
                        child["name"].as_str(),
                        kind.starts_with("child<virtio-net") && self.nics.len() < NICS,
                    ) else {
                        continue;
                    };
                    let path = format!("{}/{name}", PARENTS[parent]);
                    let get = |name: &str| json!({ "path": path, "property": name });
                    let nic = self.nics.len();
                    next.push((Look::Announce(nic), get("guest_announce")));
                    next.push((Look::Mac(nic), get("mac")));
                    self.nics.push(json!({ "path": path }));
                }
            }
            (Look::Announce(nic), Some(answer)) => self.nics[nic]["guest_announce"] = answer,
            (Look::Mac(nic), Some(answer)) => self.nics[nic]["mac"] = answer,
            (look, Some(answer)) => {
                self.said.insert(look.name().to_owned(), answer);
            }
        }
        self.left += next.len();
        next
    }

    /// Whether all has been answered.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// All answers.
    pub(super) fn said(mut self) -> Value {
        self.said.insert("nics".to_owned(), Value::Array(self.nics));
        Value::Object(self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_examination_ends_with_the_last_answer_and_goes_on_after_a_refusal() {
        let (mut examination, looks) = Examination::begin();
        assert_eq!(looks.len(), 9);
        let mut due: Vec<Look> = looks.into_iter().map(|(look, _)| look).collect();
        while let Some(look) = due.pop() {
            assert!(!examination.is_over());
            let answer = match look {
                Look::Devices(0) => Some(json!([
                    {"name": "net0", "type": "child<virtio-net-pci>"},
                    {"name": "disk0", "type": "child<virtio-blk-pci>"},
                ])),
                Look::Announce(0) => Some(json!(false)),
                Look::Memory => None,
                _ => Some(json!([look.name()])),
            };
            let next = examination.take(look, answer);
            due.extend(next.into_iter().map(|(look, _)| look));
        }
        assert!(examination.is_over());
        let said = examination.said();
        assert_eq!(
            said["nics"],
            json!([{"path": "/machine/peripheral/net0", "guest_announce": false, "mac": ["qom-get"]}])
        );
        assert_eq!(said["query-block"], json!(["query-block"]));
        assert!(said.get("query-memdev").is_none());
    }
}
