//! Everything that the checks know. A fact that nobody could find out is absent, and no check judges it.

mod host;
mod node;
mod seen;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use host::{Clock, Cpus, File, Host, HugePool, Interface, Kind, Mount, PinnedThread};
pub use node::{Key, Lcore, Memory, Node, Pair, Pool, Port, Work};
pub use seen::{Disk, Monitor, Nic, Process, Qemu, Ram, Refused, Seen, Status};

/// Everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The host.
    pub host: Host,
    /// The node: what it is to be, or what it is.
    pub node: Option<Node>,
    /// What was seen of each pair, by its name.
    pub seen: BTreeMap<String, Seen>,
    /// The same of the other host.
    pub peer: Option<Box<Facts>>,
}
