//! What the figures were measured on and with.

use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::fixture::{Fixture, free_hugepages};
use crate::peer;

/// Absolute figures mean something only together with these.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Model name of the first CPU.
    pub cpu: String,
    /// CPUs that this program may use.
    pub cores: usize,
    /// Frequency governor of the first CPU, where there is one to be read.
    pub governor: Option<String>,
    /// Kernel release.
    pub kernel: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Whether enough hugepages are free for EAL to run on them.
    pub hugepages: bool,
    /// Whether the kernel offers KVM; guests may run under TCG all the same.
    pub kvm_device: bool,
    /// DPDK's version.
    pub dpdk: String,
    /// QEMU's version.
    pub qemu: String,
    /// The compiler.
    pub rustc: &'static str,
    /// Version of dpdk-colo, with git's description where there is one.
    pub dpdk_colo: String,
}

impl Machine {
    /// This one.
    pub fn look(fixture: &Fixture) -> Self {
        let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
        let info = read("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let memory = read("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        let described = said("git", &["describe", "--always", "--dirty", "--tags"]);
        let version = env!("CARGO_PKG_VERSION");
        Self {
            cpu: model.map_or_else(
                || "unknown".to_owned(),
                |model| model.trim_start_matches(['\t', ' ', ':']).to_owned(),
            ),
            cores: fixture.cpu_count(),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok(),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            memory_mib: kib.unwrap_or(0) / 1024,
            hugepages: free_hugepages() > 0,
            kvm_device: fs::exists("/dev/kvm").unwrap_or(false),
            dpdk: said("pkg-config", &["--modversion", "libdpdk"])
                .unwrap_or_else(|| "unknown".to_owned()),
            qemu: said(peer::PROGRAM, &["--version"]).unwrap_or_else(|| "unknown".to_owned()),
            rustc: env!("COLO_BENCH_RUSTC"),
            dpdk_colo: match described {
                Some(commit) => format!("{version} ({commit})"),
                None => version.to_owned(),
            },
        }
    }
}

/// The first line that a program prints, if it is there and prints one.
fn said(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
