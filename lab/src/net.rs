//! The client's side of the network: a namespace of its own, and the uplink that leads to it.
//!
//! ```text
//!  namespace colo-lab-PID               this machine
//!  lan0 10.0.0.1 fd00::1 ── veth pair ── clPID ── af_packet port of a node
//! ```
//! With taps (QEMU's own proxy) everything is inside the namespace, on a bridge. Where either of two hosts may
//! serve, each has a namespace of its own and an uplink on that bridge, which learns from the guest's
//! own frames who serves; their link ends in the client's namespace, too:
//! ```text
//!  colo-lab-PID-0   colo-lab-PID                colo-lab-PID-1
//!         uplink ── up0 ┬ bridge lan0 ┬ up1 ── uplink
//!       nodelink ── wire0             wire1 ── nodelink
//!        ramlink ── state0           state1 ── ramlink
//! ```
//! On the last one QEMUs exchange the VM's state, where they are to do so by TCP.
//!
//! Where what lies between a node and its client is to be a wire of the lab's, the veth pair is two, whose inner ends
//! are in a namespace that has no addresses and so answers nothing:
//! ```text
//!  namespace colo-lab-PID     colo-lab-PID-wire            this machine
//!  lan0 ── veth pair ── near0    (wire)    far0 ── veth pair ── clPID ── a node
//! ```
//! A lab that needs a second client calls it PID-b1. Deleting a namespace deletes its interfaces with it, and that is
//! what dropping a [`ClientNet`] does. Namespaces of labs that were killed are swept by the next one.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::LabError;
use crate::process::{is_running, run};

/// The guest's IPv4 address.
pub const GUEST_V4: &str = "10.0.0.2";
/// The guest's IPv6 address.
pub const GUEST_V6: &str = "fd00::2";
const CLIENT_V4: &str = "10.0.0.1/24";
const CLIENT_V6: &str = "fd00::1/64";
/// The ends of the nodes' link inside the namespace.
pub const WIRE: [&str; 2] = ["wire0", "wire1"];
/// The ends of the client's wire in its namespace: towards the client, and towards the node.
pub const CLIENT_WIRE: [&str; 2] = ["near0", "far0"];
/// The ends of what QEMUs exchange the VM's state on, inside the client's namespace.
pub const STATE_WIRE: [&str; 2] = ["state0", "state1"];
/// A host's interface to it, in its own namespace.
const STATE: &str = "ramlink";
/// Bytes of payload on it: with less, copying RAM frame by frame would take long.
const STATE_MTU: u32 = 16_000;
/// A host's interface to the client's bridge, in its own namespace.
pub const UPLINK: &str = "uplink";
/// A host's interface to the other host.
pub const LINK: &str = "nodelink";
/// Bytes of payload on the link: a guest's longest frame and the link's own header.
const LINK_MTU: u32 = 1700;
const PREFIX: &str = "colo-lab-";
const NAMESPACES: &str = "/run/netns";

/// The client's namespace.
#[derive(Debug)]
pub struct ClientNet {
    namespace: String,
    /// This machine's interface that leads into it, if there is one.
    uplink: Option<String>,
    /// The namespaces of two hosts, if there are two.
    hosts: Vec<String>,
    /// The namespace of the client's wire, if there is one.
    wire: Option<String>,
}

impl ClientNet {
    /// A veth pair: one end in the namespace, the other one for a node's packet socket.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` or `ethtool` said.
    pub fn veth() -> Result<Self, LabError> {
        let mut net = Self::namespace()?;
        let ns = net.namespace.clone();
        // What the client receives it may merge, as any NIC's driver does.
        net.lead_out("lan0", &ns, "on")?;
        net.address("lan0")?;
        Ok(net)
    }

    /// As [`ClientNet::veth`], with a gap between the client and the uplink: nothing passes until a
    /// [`Wire`](crate::wire::Wire) joins [`CLIENT_WIRE`] in the namespace of [`ClientNet::wire`].
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` or `ethtool` said.
    pub fn wired() -> Result<Self, LabError> {
        let mut net = Self::namespace()?;
        let ns = net.namespace.clone();
        let inner = format!("{ns}-wire");
        ip(&format!("netns add {inner}"))?;
        net.wire = Some(inner.clone());
        let [near, far] = CLIENT_WIRE;
        ip(&format!(
            "-n {ns} link add lan0 type veth peer name {near} netns {inner}"
        ))?;
        within(&inner, || quiet(near).and_then(|()| plain(near, "off")))?;
        ip(&format!("-n {inner} link set {near} up"))?;
        net.enter(|| plain("lan0", "on"))?;
        net.lead_out(far, &inner, "off")?;
        within(&inner, || quiet(far))?;
        ip(&format!("-n {inner} link set {far} up"))?;
        net.address("lan0")?;
        Ok(net)
    }

    /// A bridge with the uplinks of two hosts, and the two ends of their link.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` or `ethtool` said.
    pub fn two_hosts() -> Result<Self, LabError> {
        let mut net = Self::namespace()?;
        net.bridge()?;
        let ns = net.namespace.clone();
        for (host, wire) in WIRE.into_iter().enumerate() {
            let far = format!("{ns}-{host}");
            ip(&format!("netns add {far}"))?;
            net.hosts.push(far);
            net.lead(host, &format!("up{host}"), UPLINK, None)?;
            ip(&format!("-n {ns} link set up{host} master lan0 up"))?;
            net.lead(host, wire, LINK, Some(LINK_MTU))?;
            ip(&format!("-n {ns} link set {wire} up"))?;
            let wire = STATE_WIRE[host];
            net.lead(host, wire, STATE, Some(STATE_MTU))?;
            ip(&format!("-n {ns} link set {wire} up"))?;
            let (other, address) = (&net.hosts[host], state_address(host));
            ip(&format!("-n {other} addr add {address}/24 dev {STATE}"))?;
        }
        net.address("lan0")?;
        Ok(net)
    }

    /// A bridge with the tap of the primary; the tap of the secondary, if wanted, stays alone.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` said.
    pub fn taps() -> Result<Self, LabError> {
        let net = Self::namespace()?;
        net.bridge()?;
        let ns = &net.namespace;
        for tap in ["pvm", "svm"] {
            ip(&format!("-n {ns} tuntap add {tap} mode tap"))?;
            ip(&format!("-n {ns} link set {tap} up"))?;
        }
        ip(&format!("-n {ns} link set pvm master lan0"))?;
        net.address("lan0")?;
        Ok(net)
    }

    /// The file that stands for it.
    pub fn file(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.namespace)
    }

    /// The interface of this machine that leads into the namespace; there is none with taps or two hosts.
    pub fn uplink(&self) -> &str {
        self.uplink.as_deref().unwrap_or_default()
    }

    /// The file that stands for the namespace of `host`, 0 or 1, with the interfaces [`UPLINK`] and [`LINK`].
    pub fn host(&self, host: usize) -> PathBuf {
        Path::new(NAMESPACES).join(&self.hosts[host])
    }

    /// The bridge forgets whom it has heard from `host`, as a switch does whose port loses its carrier. Frames
    /// may still come from there, so that it would be seen if any did.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` said.
    pub fn forget(&self, host: usize) -> Result<(), LabError> {
        let ns = &self.namespace;
        ip(&format!(
            "-n {ns} link set up{host} type bridge_slave fdb_flush"
        ))?;
        Ok(())
    }

    /// The bridge and the uplink of `host` part, without a carrier being lost: what either sends is dropped.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` said.
    pub fn part(&self, host: usize) -> Result<(), LabError> {
        let ns = &self.namespace;
        ip(&format!("-n {ns} link set up{host} nomaster")).map(|_| ())
    }

    /// They are joined again.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` said.
    pub fn join(&self, host: usize) -> Result<(), LabError> {
        let ns = &self.namespace;
        ip(&format!("-n {ns} link set up{host} master lan0")).map(|_| ())
    }

    /// How many frames have come from the uplink of `host`.
    ///
    /// # Errors
    /// [`LabError::Namespace`], [`LabError::File`].
    pub fn frames_from(&self, host: usize) -> Result<u64, LabError> {
        // The counters that this path shows are those of the thread's namespace.
        let path = Path::new("/proc/thread-self/net/dev");
        let text = self.enter(|| fs::read_to_string(path).map_err(LabError::file(path)))?;
        let name = format!("up{host}:");
        let counters = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(&name));
        // Bytes received, then frames received.
        Ok(counters
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0))
    }

    /// Runs `client` on a thread whose sockets belong to the namespace.
    ///
    /// # Errors
    /// [`LabError::Namespace`], or what `client` fails with.
    pub fn enter<T: Send>(
        &self,
        client: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        within(&self.namespace, client)
    }

    /// What a thread of its own enters the namespace with.
    ///
    /// # Errors
    /// [`LabError::Namespace`].
    pub fn handle(&self) -> Result<Namespace, LabError> {
        Namespace::open(&self.namespace)
    }

    /// The namespace of the client's wire, if there is one.
    ///
    /// # Errors
    /// [`LabError::Namespace`].
    pub fn wire(&self) -> Result<Namespace, LabError> {
        Namespace::open(self.wire.as_deref().unwrap_or_default())
    }

    /// A veth pair from `near` in the namespace `inner` to this machine, for a node's packet socket; `gro` as in
    /// [`plain`].
    fn lead_out(&mut self, near: &str, inner: &str, gro: &str) -> Result<(), LabError> {
        let ns = &self.namespace;
        let up = format!("cl{}", ns.strip_prefix(PREFIX).unwrap_or(ns));
        ip(&format!(
            "link add {up} type veth peer name {near} netns {inner}"
        ))?;
        self.uplink = Some(up.clone());
        // The host itself must say nothing on the uplink.
        quiet(&up)?;
        within(inner, || plain(near, gro))?;
        plain(&up, "off")?;
        ip(&format!("link set {up} up")).map(|_| ())
    }

    fn namespace() -> Result<Self, LabError> {
        sweep();
        let net = Self {
            namespace: free_name(),
            uplink: None,
            hosts: Vec::new(),
            wire: None,
        };
        ip(&format!("netns add {}", net.namespace))?;
        Ok(net)
    }

    /// A veth pair from `far` in the namespace of `host`, for a node's packet socket, to `near` in the client's.
    fn lead(&self, host: usize, near: &str, far: &str, mtu: Option<u32>) -> Result<(), LabError> {
        let (ns, other) = (&self.namespace, &self.hosts[host]);
        ip(&format!(
            "-n {ns} link add {near} type veth peer name {far} netns {other}"
        ))?;
        if let Some(mtu) = mtu {
            ip(&format!("-n {ns} link set {near} mtu {mtu}"))?;
            ip(&format!("-n {other} link set {far} mtu {mtu}"))?;
        }
        // Nobody but nodes and clients may say anything there.
        self.enter(|| quiet(near).and_then(|()| plain(near, "off")))?;
        within(other, || quiet(far).and_then(|()| plain(far, "off")))?;
        ip(&format!("-n {other} link set {far} up"))?;
        Ok(())
    }

    fn bridge(&self) -> Result<(), LabError> {
        let ns = &self.namespace;
        ip(&format!(
            "-n {ns} link add lan0 type bridge mcast_snooping 0"
        ))?;
        Ok(())
    }

    fn address(&self, interface: &str) -> Result<(), LabError> {
        let ns = &self.namespace;
        ip(&format!("-n {ns} addr add {CLIENT_V4} dev {interface}"))?;
        ip(&format!(
            "-n {ns} addr add {CLIENT_V6} dev {interface} nodad"
        ))?;
        ip(&format!("-n {ns} link set lo up"))?;
        ip(&format!("-n {ns} link set {interface} up"))?;
        Ok(())
    }
}

/// The address of `host` on the wire of the VM's state.
pub fn state_address(host: usize) -> String {
    format!("10.0.1.{}", host + 1)
}

/// This lab's name for a namespace that it does not have yet.
fn free_name() -> String {
    let own = format!("{PREFIX}{}", std::process::id());
    let names = std::iter::once(own.clone()).chain((1..).map(|n| format!("{own}-b{n}")));
    let mut free = names.skip_while(|name| Path::new(NAMESPACES).join(name).exists());
    free.next().unwrap_or(own)
}

/// A namespace that a thread can enter.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Runs `work` on a thread inside.
    ///
    /// # Errors
    /// [`LabError::Namespace`], or what `work` fails with.
    pub fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        thread::scope(|scope| {
            let run = scope.spawn(|| {
                self.enter()?;
                work()
            });
            run.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn open(name: &str) -> Result<Self, LabError> {
        let name = name.to_owned();
        match File::open(Path::new(NAMESPACES).join(&name)) {
            Ok(file) => Ok(Self { name, file }),
            Err(source) => Err(LabError::Namespace {
                namespace: name,
                source,
            }),
        }
    }

    /// Puts this thread inside: sockets that it makes from now on belong there.
    ///
    /// # Errors
    /// [`LabError::Namespace`].
    pub fn enter(&self) -> Result<(), LabError> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
            |error| LabError::Namespace {
                namespace: self.name.clone(),
                source: error.into(),
            },
        )
    }
}

impl Drop for ClientNet {
    fn drop(&mut self) {
        // A dying namespace frees its interfaces a moment later; the uplink's name must be free at once.
        if let Some(uplink) = &self.uplink {
            let _ = ip(&format!("link del {uplink}"));
        }
        for host in self.hosts.iter().chain(&self.wire) {
            let _ = ip(&format!("netns del {host}"));
        }
        let _ = ip(&format!("netns del {}", self.namespace));
    }
}

/// Runs `work` on a thread inside the namespace `name`.
fn within<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T, LabError> + Send,
) -> Result<T, LabError> {
    Namespace::open(name)?.run(work)
}

/// A packet socket carries no offload requests: frames must be of wire size with checksums in place. `gro` is `on`
/// where what comes in may be merged.
fn plain(interface: &str, gro: &str) -> Result<(), LabError> {
    let command = format!("ethtool -K {interface} tx off tso off gso off gro {gro}");
    run(&words(&command)).map(|_| ())
}

/// Keeps this namespace's own IPv6 from speaking on `interface`.
fn quiet(interface: &str) -> Result<(), LabError> {
    let switch = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    fs::write(&switch, "1").map_err(LabError::file(Path::new(&switch)))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn ip(arguments: &str) -> Result<String, LabError> {
    run(&words(&format!("ip {arguments}")))
}

/// Deletes the namespaces of labs that are no more.
fn sweep() {
    let Ok(entries) = fs::read_dir(NAMESPACES) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix(PREFIX)
            && let Some(pid) = rest.split('-').next()
            && !is_running(pid)
        {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}
