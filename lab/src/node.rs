//! What stands between the guests and the network: `dpdk-colo` nodes, or testpmd for an unprotected guest.
//!
//! In: the run folder, the uplink's interface. Out: running DPDK processes whose vhost sockets
//! (`pvm.sock`, `svm.sock`) wait for QEMU, and at the end a node's summary.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::error::LabError;
use crate::interrupt;
use crate::pair::Host;
use crate::process::{Handle, Process, run};
use crate::qemu::{node_socket, words};

/// Memory of each DPDK process in MiB.
pub const MEMORY: u64 = 512;
/// EAL starts in 0.2 to 0.4 s on an idle machine.
const START: Duration = Duration::from_secs(30);

/// What sets one `dpdk-colo` node apart.
#[derive(Debug)]
pub struct Colo<'a> {
    /// The program.
    pub bin: &'a Path,
    /// The run folder.
    pub dir: &'a Path,
    /// `primary` or `secondary`.
    pub role: &'static str,
    /// Its guest's name, which names its files, too.
    pub guest: &'a str,
    /// The file of the network namespace that holds its interfaces, if it has one.
    pub namespace: Option<&'a Path>,
    /// The interface that is its uplink.
    pub uplink: Option<&'a str>,
    /// The vdev that is its link, with its arguments.
    pub link: &'a str,
    /// The monitor of its VM.
    pub qmp: &'a Path,
    /// Its memory in MiB.
    pub memory: u64,
    /// Whether guests may leave work to it, and whether it captures all that it sees, in the run folder.
    pub host: &'a Host,
    /// Further options.
    pub options: &'a str,
}

/// A running DPDK process; dropped, it is gone.
#[derive(Debug)]
pub struct Node {
    process: Process,
    role: &'static str,
    summary: PathBuf,
}

impl Node {
    /// The end of its log, under its name.
    pub fn said(&self) -> String {
        format!("\nthe {} node said:\n{}", self.role, self.process.tail())
    }

    /// Starts the secondary node. It listens for the SVM and for the primary node, so it comes first.
    ///
    /// # Errors
    /// [`LabError::Died`] with its last words, [`LabError::Late`].
    pub fn secondary(bin: &Path, dir: &Path, host: &Host) -> Result<Self, LabError> {
        let link = format!("net_vhost1,iface={}/link.sock", dir.display());
        let mut node = Self::colo(&Colo {
            bin,
            dir,
            role: "secondary",
            guest: "svm",
            namespace: None,
            uplink: None,
            link: &link,
            qmp: &node_socket(dir, "svm"),
            memory: MEMORY,
            host,
            options: "",
        })?;
        node.wait_socket(dir, "link.sock")?;
        Ok(node)
    }

    /// Starts the primary node on `uplink`.
    ///
    /// # Errors
    /// As [`Node::secondary`].
    pub fn primary(bin: &Path, dir: &Path, uplink: &str, host: &Host) -> Result<Self, LabError> {
        let reports = dir.join("reports");
        fs::create_dir_all(&reports).map_err(LabError::file(&reports))?;
        let link = format!(
            "net_virtio_user0,path={}/link.sock,queue_size=1024",
            dir.display()
        );
        Self::colo(&Colo {
            bin,
            dir,
            role: "primary",
            guest: "pvm",
            namespace: None,
            uplink: Some(uplink),
            link: &link,
            qmp: &node_socket(dir, "pvm"),
            memory: MEMORY,
            host,
            options: &format!("--report-dir {}", reports.display()),
        })
    }

    /// Starts a primary node on `uplink` whose secondary never comes: it forwards.
    ///
    /// # Errors
    /// As [`Node::secondary`].
    pub fn alone(bin: &Path, dir: &Path, uplink: &str, host: &Host) -> Result<Self, LabError> {
        Self::colo(&Colo {
            bin,
            dir,
            role: "primary",
            guest: "pvm",
            namespace: None,
            uplink: Some(uplink),
            // As it is by default, the null device receives frames without end, and the node would never sleep.
            link: "net_null0,no-rx=1",
            qmp: &node_socket(dir, "pvm"),
            memory: MEMORY,
            host,
            options: "",
        })
    }

    /// Starts testpmd as the plainest of middle boxes between an unprotected guest and `uplink`.
    ///
    /// # Errors
    /// As [`Node::secondary`].
    pub fn testpmd(dir: &Path, uplink: &str) -> Result<Self, LabError> {
        let line = format!(
            "{} --vdev net_vhost0,iface={}/pvm.sock --vdev {} -- --forward-mode=io --auto-start --no-mlockall --total-num-mbufs=65536",
            eal("middle", MEMORY)?,
            dir.display(),
            packet_port(0, uplink)
        );
        let mut node = Self {
            process: Process::start(
                "testpmd",
                Path::new("dpdk-testpmd"),
                &words(&line),
                &[("RUNTIME_DIRECTORY", dir.to_owned())],
                None,
                dir.join("middle.log"),
            )?,
            role: "middle",
            summary: dir.join("middle.json"),
        };
        node.wait_socket(dir, "pvm.sock")?;
        Ok(node)
    }

    /// Asserts that it still runs.
    ///
    /// # Errors
    /// [`LabError::Died`].
    pub fn alive(&mut self) -> Result<(), LabError> {
        self.process.alive()
    }

    /// Ends the node with SIGTERM and reads what it leaves behind.
    ///
    /// # Errors
    /// [`LabError::Died`] if it did not exit with 0; [`LabError::File`] or [`LabError::Summary`].
    pub fn finish(mut self) -> Result<Summary, LabError> {
        self.process.alive()?;
        if let Some(status) = self.process.end()
            && !status.success()
        {
            return Err(LabError::Died {
                name: format!("the {} node, after SIGTERM,", self.role),
                status,
                tail: self.process.tail(),
            });
        }
        let text = fs::read_to_string(&self.summary).map_err(LabError::file(&self.summary))?;
        serde_json::from_str(&text)
            .map(Summary)
            .map_err(|source| LabError::Summary {
                role: self.role,
                path: self.summary.clone(),
                source,
            })
    }

    /// Starts a node and waits for its guest's socket.
    ///
    /// # Errors
    /// [`LabError::Died`] with its last words, [`LabError::Late`].
    fn colo(colo: &Colo<'_>) -> Result<Self, LabError> {
        let mut node = Self::launch(colo)?;
        node.wait_guest_socket(colo.host, colo.dir, colo.guest)?;
        Ok(node)
    }

    /// Waits until QEMU can connect to a node that was launched, unless it is the node that connects.
    ///
    /// # Errors
    /// [`LabError::Died`] with its last words, [`LabError::Late`].
    pub fn wait_guest_socket(
        &mut self,
        host: &Host,
        dir: &Path,
        guest: &str,
    ) -> Result<(), LabError> {
        match host.vhost_client {
            true => self.process.alive(),
            false => self.wait_socket(dir, &format!("{guest}.sock")),
        }
    }

    /// Starts a node.
    ///
    /// # Errors
    /// [`LabError::Spawn`].
    pub fn launch(colo: &Colo<'_>) -> Result<Self, LabError> {
        let d = colo.dir.display();
        let name = colo.guest;
        let mut line = format!(
            "{} --vdev {} --vdev {}",
            eal(&format!("{}-{name}", colo.role), colo.memory)?,
            guest_port(colo.dir, name, colo.host),
            colo.link,
        );
        if let Some(uplink) = colo.uplink {
            line.push_str(&format!(" --vdev {}", packet_port(0, uplink)));
        }
        // A vdev's name ends where its first argument begins.
        let link = colo.link.split(',').next().unwrap_or_default();
        line.push_str(&format!(
            " -- --role {} --guest net_vhost0 --link {link} --link-key {} --qmp {} --summary {d}/{name}.json",
            colo.role,
            link_key(colo)?,
            colo.qmp.display(),
        ));
        if let Some(sleep) = colo.host.idle_sleep {
            line.push_str(&format!(" --idle-sleep {sleep}"));
        }
        if colo.uplink.is_some() {
            line.push_str(" --uplink net_af_packet0");
        }
        if colo.host.audit.is_some() {
            line.push_str(&format!(" --capture {d}/{CAPTURE} --capture-limit 0"));
        }
        line.push(' ');
        line.push_str(colo.options);
        let process = Process::start(
            &format!("the {} node", colo.role),
            colo.bin,
            &words(&line),
            // EAL keeps its run-time files there, so they go with the run folder.
            &[("RUNTIME_DIRECTORY", colo.dir.to_owned())],
            colo.namespace,
            colo.dir.join(format!("{name}.node.log")),
        )?;
        Ok(Self {
            process,
            role: colo.role,
            summary: colo.dir.join(format!("{name}.json")),
        })
    }

    /// As [`Process::output`].
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// As [`Process::id`].
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its process, for another thread.
    ///
    /// # Errors
    /// As [`Process::handle`].
    pub fn handle(&self) -> Result<Handle, LabError> {
        self.process.handle()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn wait_socket(&mut self, dir: &Path, name: &str) -> Result<(), LabError> {
        let socket = dir.join(name);
        let outcome = interrupt::wait_for(name, START, || {
            self.process.alive()?;
            Ok(socket.exists().then_some(()))
        });
        match outcome {
            Err(LabError::Late { what, seconds, .. }) => Err(LabError::Late {
                what,
                seconds,
                tail: format!("; the log ends with:\n{}", self.process.tail()),
            }),
            other => other,
        }
    }
}

/// What a node's `--link-key` is: the run folder's key, made by the first node, or none.
fn link_key(colo: &Colo<'_>) -> Result<String, LabError> {
    if colo.host.trusted_link {
        return Ok("none".to_owned());
    }
    let path = colo.dir.join("link.key");
    let key = path.display().to_string();
    if !path.exists() {
        run(&[&colo.bin.display().to_string(), "--make-link-key", &key])?;
    }
    Ok(key)
}

/// The vdev that a guest attaches to. With `tso` it offers the guest to send TCP frames of up to 64 KB.
fn guest_port(dir: &Path, guest: &str, host: &Host) -> String {
    let (tso, client) = (u8::from(host.offloads), u8::from(host.vhost_client));
    format!(
        "net_vhost0,iface={}/{guest}.sock,tso={tso},client={client}",
        dir.display()
    )
}

/// The folder in a run folder to which nodes write what they see, for the auditor.
pub const CAPTURE: &str = "capture";

/// The vdev `net_af_packetNUMBER`, which sends and receives on an interface. The ring holds what arrives while the node
/// sleeps or waits for a CPU.
pub fn packet_port(number: usize, interface: &str) -> String {
    format!(
        "net_af_packet{number},iface={interface},blocksz=65536,framesz=2048,framecnt=4096,qdisc_bypass=1"
    )
}

/// EAL options: hugepages where enough are free, and two lcores that float over all allowed CPUs, so that
/// small machines can run several nodes.
fn eal(role: &str, memory_mib: u64) -> Result<String, LabError> {
    let status = Path::new("/proc/self/status");
    let text = fs::read_to_string(status).map_err(LabError::file(status))?;
    let cpus = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .map_or("0", str::trim);
    let memory = if huge_memory_free() >= memory_mib {
        "--in-memory --single-file-segments"
    } else {
        "--no-huge"
    };
    Ok(format!(
        "--lcores 0@({cpus}),1@({cpus}) {memory} -m {memory_mib} --no-pci --file-prefix {role}-{}",
        std::process::id()
    ))
}

/// Free hugepage memory in MiB.
pub fn huge_memory_free() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    field("HugePages_Free:") * field("Hugepagesize:") / 1024
}

/// Which DPDK is installed, as pkg-config or dpkg names it.
pub fn dpdk_version() -> String {
    run(&["pkg-config", "--modversion", "libdpdk"])
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The `--summary` file of a node.
#[derive(Debug, Clone)]
pub struct Summary(pub Value);

/// One latency histogram of a summary, in nanoseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 90 of 100 are at most this.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// The largest.
    pub max: u64,
    /// How many were recorded.
    pub count: u64,
}

impl Summary {
    /// A counter by JSON pointer, as `/checkpoints/requested`.
    pub fn counter(&self, pointer: &str) -> Option<u64> {
        self.0.pointer(pointer)?.as_u64()
    }

    /// A histogram by key, as `hold_ns`.
    pub fn latency(&self, key: &str) -> Option<Latency> {
        Latency::deserialize(self.0.get(key)?).ok()
    }

    /// How often each reason was found to part the VMs.
    pub fn divergences(&self) -> BTreeMap<String, u64> {
        self.0
            .get("divergences")
            .and_then(|value| BTreeMap::deserialize(value).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_summary_gives_counters_histograms_and_reasons() {
        let summary = Summary(json!({
            "checkpoints": {"requested": 3},
            "divergences": {"tcp-bytes": 2},
            "hold_ns": {"p50": 1, "p90": 2, "p99": 3, "p999": 4, "max": 5, "count": 6},
        }));
        assert_eq!(summary.counter("/checkpoints/requested"), Some(3));
        assert_eq!(summary.counter("/checkpoints/committed"), None);
        assert_eq!(summary.divergences()["tcp-bytes"], 2);
        assert_eq!(summary.latency("hold_ns").expect("there").p999, 4);
        assert!(summary.latency("skew_ns").is_none());
    }
}
