//! Which accelerator runs guests on this machine.
//!
//! The file `/dev/kvm` proves nothing: inside some virtual machines it opens, and then guests abort
//! or spin for ever. So a guest is booted once under a time limit, and the answer is kept in the
//! image folder for this kernel release.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::LabError;
use crate::image::Image;
use crate::interrupt;
use crate::process::Process;
use crate::qemu::{self, READY};

/// How long the probe guest may take; with working KVM it needs about one second.
const PROBE: Duration = Duration::from_secs(6);

/// How guests are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's code generator.
    Tcg,
}

impl Accel {
    /// Decides by a probe boot, or by what an earlier one found.
    ///
    /// # Errors
    /// [`LabError::Interrupted`], or [`LabError::File`] if the answer cannot be kept.
    pub fn probe(image: &Image) -> Result<Self, LabError> {
        let kept = image.dir().join("accel");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        for accel in [Self::Kvm, Self::Tcg] {
            if fs::read_to_string(&kept).is_ok_and(|text| text == format!("{accel} {kernel}")) {
                return Ok(accel);
            }
        }
        let found = if Path::new("/dev/kvm").exists() && boots_under_kvm(image)? {
            Self::Kvm
        } else {
            Self::Tcg
        };
        fs::write(&kept, format!("{found} {kernel}")).map_err(LabError::file(&kept))?;
        Ok(found)
    }

    /// The CPU model that goes with it.
    pub fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }

    /// Guest RAM in KiB for a guest of about `mib` MiB.
    ///
    /// Under TCG it is a little less, so that it is no multiple of 256 KiB, which is what one 64-bit word of QEMU's
    /// dirty bitmap covers. A block that is one is synchronised by whole words, and there QEMU before 9.0 clears dirty
    /// bits without telling the vCPU's TLB (`cpu_physical_memory_sync_dirty_bitmap`, include/exec/ram_addr.h). Pages that
    /// the TLB holds as writable are then written without being marked, the next checkpoint does not carry them, and the
    /// secondary VM runs on RAM of two different moments until its kernel crashes. Any other block is synchronised page
    /// by page, and the TLB is told.
    pub fn ram_kib(self, mib: u32) -> u32 {
        let whole = mib * 1024;
        match self {
            Self::Kvm => whole,
            Self::Tcg => whole - RAM_STEP_KIB,
        }
    }
}

/// QEMU rounds `-m` up to 8 KiB (softmmu/vl.c).
const RAM_STEP_KIB: u32 = 8;

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

fn boots_under_kvm(image: &Image) -> Result<bool, LabError> {
    let dir = tempfile::tempdir().map_err(LabError::file(&std::env::temp_dir()))?;
    let serial = dir.path().join("serial");
    let mut arguments = qemu::machine(image, Accel::Kvm, 256, "probe");
    arguments.extend(["-serial".to_owned(), format!("file:{}", serial.display())]);
    let mut guest = Process::start(
        "probe guest",
        &PathBuf::from(qemu::PROGRAM),
        &arguments,
        &[],
        None,
        dir.path().join("log"),
    )?;
    let outcome = interrupt::wait_for("the probe guest", PROBE, || {
        guest.alive()?;
        Ok(qemu::contains(&serial, READY).then_some(()))
    });
    // A spinning vCPU may not let QEMU act on SIGTERM.
    guest.kill();
    match outcome {
        Err(LabError::Interrupted) => Err(LabError::Interrupted),
        outcome => Ok(outcome.is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 pages of 4 KiB.
    const DIRTY_WORD_KIB: u32 = 256;

    #[test]
    fn ram_under_tcg_ends_inside_a_word_of_the_dirty_bitmap() {
        for mib in [1, 256, 384, 385, 4096] {
            let kib = Accel::Tcg.ram_kib(mib);
            assert!(!kib.is_multiple_of(DIRTY_WORD_KIB), "{mib} MiB: {kib} KiB");
            assert!(kib.is_multiple_of(RAM_STEP_KIB), "{mib} MiB: {kib} KiB");
            assert!(mib * 1024 - kib <= RAM_STEP_KIB, "{mib} MiB: {kib} KiB");
            assert_eq!(Accel::Kvm.ram_kib(mib), mib * 1024);
        }
    }
}
