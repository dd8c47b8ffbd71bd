//! The host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The user whom the node runs as: its id and those of its groups.
    pub user: Option<(u32, Vec<u32>)>,
    /// Hugepages by their size.
    pub hugepages: Option<Vec<HugePool>>,
    /// Mounted hugetlbfs.
    pub mounts: Vec<Mount>,
    /// CPUs.
    pub cpus: Option<Cpus>,
    /// Threads of other programs that are bound to one CPU.
    pub pinned: Vec<PinnedThread>,
    /// Interfaces of the kernel by their names; `None` for one that there is not.
    pub interfaces: BTreeMap<String, Option<Interface>>,
    /// Files, directories and sockets that a node names, by their paths.
    pub files: BTreeMap<String, File>,
    /// Its clock.
    pub clock: Option<Clock>,
}

/// Hugepages of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePool {
    /// Bytes of a page.
    pub page: u64,
    /// Pages reserved.
    pub total: u64,
    /// Pages that are free.
    pub free: u64,
    /// Free pages of each NUMA node.
    #[serde(default)]
    pub free_of_node: BTreeMap<u32, u64>,
}

/// A mounted hugetlbfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where.
    pub path: String,
    /// Bytes of its pages, if its options name them.
    pub page: Option<u64>,
}

/// CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpus {
    /// Those that are online.
    pub online: Vec<u32>,
    /// Those that are isolated from the scheduler: `isolcpus`, or an isolated cpuset.
    pub isolated: Vec<u32>,
    /// Those that the node may run on.
    pub allowed: Option<Vec<u32>>,
    /// The hardware threads of the core of each CPU, itself included.
    pub siblings: BTreeMap<u32, Vec<u32>>,
    /// The NUMA node of each CPU.
    pub numa: BTreeMap<u32, u32>,
}

/// A thread that is bound to one CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedThread {
    /// The CPU.
    pub cpu: u32,
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// An interface of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Bytes.
    pub mtu: u32,
    /// It is up.
    pub up: bool,
    /// It has a carrier; not known of one that is down.
    pub carrier: Option<bool>,
    /// The NUMA node of its device.
    pub numa: Option<u32>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Nothing.
    #[default]
    Missing,
    /// It cannot be looked at.
    Hidden,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// Something else.
    Other,
}

/// A file, a directory or a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// What it is.
    pub kind: Kind,
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
}

impl File {
    /// Whether a user may do what these three bits say.
    pub fn lets(&self, (user, groups): (u32, &[u32]), bits: u32) -> bool {
        let shift = match () {
            () if user == 0 => return true,
            () if user == self.user => 6,
            () if groups.contains(&self.group) => 3,
            () => 0,
        };
        self.mode >> shift & bits == bits
    }
}

/// The host's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// Seconds since 1970.
    pub unix_s: f64,
    /// The kernel's clock source.
    pub source: String,
    /// Flags of the CPU that a TSC needs to serve as a clock, and that are missing.
    pub missing_flags: Vec<String>,
    /// The program that keeps the clock right.
    pub keeper: Option<String>,
}
