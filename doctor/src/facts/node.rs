//! A node: its options as they are in force, and what it has made of them.

use serde::{Deserialize, Serialize};

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Version of the program.
    pub version: String,
    /// Its process, once it runs.
    pub pid: Option<u32>,
    /// Memory.
    pub memory: Memory,
    /// Its lcores.
    pub lcores: Vec<Lcore>,
    /// Sleep of a core without work in microseconds; 0: it polls without a pause.
    pub idle_sleep_us: u64,
    /// The control socket, if its path is known.
    pub control: Option<String>,
    /// Its group.
    pub control_group: Option<String>,
    /// Directories that it writes to: records and captures.
    pub directories: Vec<String>,
    /// Its pairs.
    pub pairs: Vec<Pair>,
}

/// Memory of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// It comes from hugepages.
    pub hugepages: bool,
    /// From hugepages without a file: no mount is needed.
    pub in_memory: bool,
    /// The hugetlbfs that `--huge-dir` names.
    pub huge_dir: Option<String>,
    /// Megabytes that EAL is to take, where its options say.
    pub megabytes: Option<u64>,
    /// Bytes for all that is asked for.
    pub needed: u64,
    /// Bytes for the least with which a node starts.
    pub least: u64,
    /// Pools of packet buffers.
    pub pools: Vec<Pool>,
}

/// A pool of packet buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// Its pair.
    pub pair: String,
    /// What it is for.
    pub purpose: String,
    /// Buffers that are asked for.
    pub asked: u32,
    /// Buffers that it has, once it is made.
    pub made: Option<u32>,
    /// Bytes of what is asked for.
    pub bytes: u64,
}

/// What an lcore does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// It waits for the end.
    #[default]
    Waits,
    /// It polls ports.
    Polls,
    /// It compares for others.
    Compares,
}

/// An lcore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lcore {
    /// Its number.
    pub id: u32,
    /// CPUs that it may run on.
    pub cpus: Vec<u32>,
    /// What it does.
    pub work: Work,
    /// The pairs whose ports it polls.
    pub pairs: Vec<String>,
}

/// Which frames of a link count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// There is no link.
    #[default]
    Absent,
    /// All: the link is declared trusted.
    Trusted,
    /// Those sealed with a key of this file.
    File {
        /// The file.
        path: String,
        /// The public names of its keys; none if it could not be read.
        ids: Vec<String>,
        /// What is wrong with it.
        fault: Option<String>,
    },
}

/// A pair as this node has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pair {
    /// Its name.
    pub name: String,
    /// Its id on the link.
    pub vm_id: u16,
    /// `primary`, `secondary` or `compare`, as it was started.
    pub role: String,
    /// Which frames of the link count.
    pub key: Key,
    /// QEMU's monitor.
    pub qmp: Option<String>,
    /// The MTU that was asked for.
    pub mtu: Option<u16>,
    /// Age at which an unmatched frame asks for a checkpoint.
    pub compare_timeout_ms: u64,
    /// Frames that may be held.
    pub hold_frames: u64,
    /// Flows that the table can hold.
    pub flows: u64,
    /// Time between two heartbeats.
    pub heartbeat_ms: u64,
    /// Heartbeats that may be missing.
    pub heartbeat_loss: u64,
    /// Addresses of the control threads' reports.
    pub heartbeat_udp: Option<(String, String)>,
    /// How long a peer that lacks CPU is waited for.
    pub peer_stall_limit_ms: u64,
    /// How long a peer that restarts is waited for.
    pub restart_limit_ms: u64,
    /// What happens when the peer is lost.
    pub on_peer_lost: String,
    /// Who gives QEMU the failover command.
    pub failover: String,
    /// Policy rules by their names.
    pub policy: Vec<String>,
    /// Its ports.
    pub ports: Vec<Port>,
}

impl Pair {
    /// The port at a place, such as `link`.
    pub fn port(&self, place: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.place == place)
    }
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Which port it is, as its option names it.
    pub place: String,
    /// Its name.
    pub name: String,
    /// Its driver, as far as it is known.
    pub driver: String,
    /// The kernel's interface behind it.
    pub interface: Option<String>,
    /// Its MTU in bytes, once it is open.
    pub mtu: Option<u32>,
    /// The vhost-user socket behind it.
    pub socket: Option<String>,
    /// The node listens there.
    pub listens: bool,
    /// The NUMA node of its device.
    pub numa: Option<u32>,
}
