//! Fetches facts. Nothing here judges them.

mod clock;
mod cpus;
mod files;
mod hugepages;
mod interfaces;
mod monitor;
mod processes;
mod qemu;

use std::fs;
use std::path::{Path, PathBuf};

pub use monitor::{Asked, look as look_at_monitor};
pub use qemu::{Ask, inquire, read as read_qemu};

use crate::facts::{Facts, Host, Node, Process};

/// The directory below which `/proc`, `/sys` and a node's files are looked at.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Root {
    /// Below this directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    /// The text of a file without space around it.
    fn text(&self, path: &str) -> Option<String> {
        let text = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&text).trim().to_owned())
    }

    fn number<N: std::str::FromStr>(&self, path: &str) -> Option<N> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory, in order.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// Facts of the host, as far as they concern this node.
pub fn host(root: &Root, node: Option<&Node>) -> Host {
    let pid = node.and_then(|node| node.pid);
    let who = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let same_network = pid.is_none() || processes::share(root, "self", &who, "net");
    let cpus = cpus::cpus(root, &who);
    let many = cpus.as_ref().is_some_and(|cpus| cpus.online.len() > 1);
    let mut host = Host {
        name: root.text("/proc/sys/kernel/hostname").unwrap_or_default(),
        user: processes::user(root, &who),
        hugepages: hugepages::pools(root),
        mounts: hugepages::mounts(root),
        cpus,
        pinned: match many {
            true => processes::pinned(root),
            false => Vec::new(),
        },
        clock: Some(clock::clock(root)),
        ..Host::default()
    };
    if let Some(node) = node {
        files::look(root, node, &mut host.files);
        let ports = node.pairs.iter().flat_map(|pair| &pair.ports);
        for name in ports.filter_map(|port| port.interface.as_ref()) {
            if same_network {
                let interface = interfaces::interface(root, name);
                host.interfaces.insert(name.clone(), interface);
            }
        }
    }
    host
}

/// Adds what `/sys` knows of the devices behind the ports.
pub fn complete(root: &Root, node: &mut Node) {
    let ports = node.pairs.iter_mut().flat_map(|pair| &mut pair.ports);
    for port in ports {
        let of_interface = port.interface.as_ref();
        let of_interface = of_interface.and_then(|name| interfaces::numa(root, name));
        port.numa = port
            .numa
            .or_else(|| interfaces::numa_of_pci(root, &port.name));
        port.numa = port.numa.or(of_interface);
    }
}

/// The MTU of an interface.
pub fn mtu(root: &Root, interface: &str) -> Option<u32> {
    root.number(&format!("/sys/class/net/{interface}/mtu"))
}

/// Whether there is a device at this PCI address.
pub fn has_pci_device(root: &Root, address: &str) -> bool {
    interfaces::pci_directory(address).is_some_and(|path| root.path(&path).exists())
}

/// The process of a pair's QEMU, by the path of its monitor's socket or of its vhost-user socket.
pub fn qemu_process(root: &Root, paths: &[&str]) -> Option<Process> {
    processes::qemu(root, paths)
}

/// Whether an address of a monitor is the path of a socket.
pub fn is_path(address: &str) -> bool {
    Path::new(address).is_absolute()
}

/// Reads facts that another host's doctor has printed.
///
/// # Errors
/// When they are no facts.
pub fn read_facts(text: &str) -> Result<Facts, serde_json::Error> {
    serde_json::from_str(text)
}
