//! What was seen of a pair: its QEMU, and the node's status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was seen of a pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// The node's status.
    pub status: Option<Status>,
    /// The monitor, where the node does not have it.
    pub monitor: Monitor,
    /// QEMU's process.
    pub process: Option<Process>,
    /// What QEMU says of itself.
    pub qemu: Option<Qemu>,
}

/// What is known of a pair's monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Monitor {
    /// Nothing.
    #[default]
    Unknown,
    /// There is no socket.
    Missing,
    /// Nobody listens at the socket.
    Dead,
    /// This user may not connect.
    Denied,
    /// It takes connections and does not greet.
    Mute,
    /// It greets.
    Free,
    /// The node has it.
    Ours,
}

/// QEMU's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its user.
    pub user: u32,
    /// Its groups.
    pub groups: Vec<u32>,
}

/// The node's status of a pair, as far as checks need it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The role now.
    pub role: String,
    /// The state.
    pub state: String,
    /// What an operator is to do.
    pub todo: Option<String>,
    /// `absent`, `connected` or `unresponsive`.
    pub monitor: String,
    /// QEMU's migration: `none`, `colo`, `completed` or `broken`.
    pub migration: String,
    /// The guest uses its port.
    pub ring: Option<bool>,
    /// The other node is heard.
    pub peer_heard: Option<bool>,
    /// Frames of the link that did not count.
    pub refused: Option<Refused>,
}

/// Frames of the link that did not count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// `other_key`, `unsealed`, `sealed`, `version`, `same_role`, `second`, `reflected`, `stale` or `forged`.
    pub why: String,
    /// When the last of them came.
    pub ago_s: f64,
}

/// What QEMU says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Qemu {
    /// Its release: three numbers.
    pub version: Option<(u32, u32, u32)>,
    /// Migration capabilities.
    pub capabilities: BTreeMap<String, bool>,
    /// `x-checkpoint-delay` in milliseconds.
    pub checkpoint_delay: Option<u64>,
    /// `query-migrate`'s status.
    pub migration: Option<String>,
    /// `query-status`.
    pub run: Option<String>,
    /// The guest's memory.
    pub ram: Vec<Ram>,
    /// Its virtio-net devices.
    pub nics: Vec<Nic>,
    /// Its disks that can be written.
    pub disks: Vec<Disk>,
}

/// A memory backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ram {
    /// Its id.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// Other processes can map it.
    pub shared: bool,
}

/// A virtio-net device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nic {
    /// Its path in QEMU's object tree.
    pub path: String,
    /// Whether the guest is asked to announce itself.
    pub guest_announce: Option<bool>,
    /// Its MAC address.
    pub mac: Option<String>,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// The driver of its topmost node.
    pub driver: String,
}
