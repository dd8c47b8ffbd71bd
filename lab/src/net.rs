//! The client's side of the network: a namespace of its own, and the uplink that leads to it.
//!
//! ```text
//!  namespace colo-lab-PID[-N]          this machine
//!  lan0 10.0.0.1 fd00::1 ── veth pair ── clPID[-N] ── af_packet port of a node
//! ```
//! With taps (QEMU's own proxy) everything is inside the namespace, on a bridge. Deleting the namespace
//! deletes its interfaces with it, and that is what dropping a [`ClientNet`] does. Namespaces of labs
//! that were killed are swept by the next one.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
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
const PREFIX: &str = "colo-lab-";
const NAMESPACES: &str = "/run/netns";

/// The client's namespace.
#[derive(Debug)]
pub struct ClientNet {
    namespace: String,
    uplink: String,
}

impl ClientNet {
    /// A veth pair: one end in the namespace, the other one for a node's packet socket.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` or `ethtool` said.
    pub fn veth() -> Result<Self, LabError> {
        let net = Self::namespace()?;
        let (ns, up) = (net.namespace.as_str(), net.uplink.as_str());
        ip(&format!(
            "link add {up} type veth peer name lan0 netns {ns}"
        ))?;
        // The host itself must say nothing on the uplink.
        let quiet = format!("/proc/sys/net/ipv6/conf/{up}/disable_ipv6");
        fs::write(&quiet, "1").map_err(LabError::file(Path::new(&quiet)))?;
        // A packet socket carries no offload requests: frames must be of wire size with checksums in place.
        // What the client receives it may merge, as any NIC's driver does.
        net.enter(|| run(&words("ethtool -K lan0 tx off tso off gso off gro on")))?;
        run(&words(&format!("ethtool -K {up} tso off gso off gro off")))?;
        ip(&format!("link set {up} up"))?;
        net.address("lan0")?;
        Ok(net)
    }

    /// A bridge with the tap of the primary; the tap of the secondary, if wanted, stays alone.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` said.
    pub fn taps() -> Result<Self, LabError> {
        let net = Self::namespace()?;
        let ns = &net.namespace;
        ip(&format!(
            "-n {ns} link add lan0 type bridge mcast_snooping 0"
        ))?;
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

    /// The interface of this machine that leads into the namespace.
    pub fn uplink(&self) -> &str {
        &self.uplink
    }

    /// Runs `client` on a thread whose sockets belong to the namespace.
    ///
    /// # Errors
    /// [`LabError::Namespace`], or what `client` fails with.
    pub fn enter<T: Send>(
        &self,
        client: impl FnOnce() -> Result<T, LabError> + Send,
    ) -> Result<T, LabError> {
        thread::scope(|scope| {
            let run = scope.spawn(|| {
                let refused = |source| LabError::Namespace {
                    namespace: self.namespace.clone(),
                    source,
                };
                let file = File::open(self.file()).map_err(refused)?;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|error| refused(error.into()))?;
                client()
            });
            run.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn namespace() -> Result<Self, LabError> {
        sweep();
        static MADE: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let number = match MADE.fetch_add(1, Ordering::Relaxed) {
            0 => pid.to_string(),
            n => format!("{pid}-{n}"),
        };
        let net = Self {
            namespace: format!("{PREFIX}{number}"),
            uplink: format!("cl{number}"),
        };
        ip(&format!("netns add {}", net.namespace))?;
        Ok(net)
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

impl Drop for ClientNet {
    fn drop(&mut self) {
        // A dying namespace frees its interfaces a moment later; the uplink's name must be free at once.
        let _ = ip(&format!("link del {}", self.uplink));
        let _ = ip(&format!("netns del {}", self.namespace));
    }
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
        let number = name.strip_prefix(PREFIX);
        if let Some(pid) = number.and_then(|number| number.split('-').next())
            && !is_running(pid)
        {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}
