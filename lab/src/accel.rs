//! Which accelerator runs guests on this machine.
//!
//! The file `/dev/kvm` proves nothing: inside some virtual machines it opens, and then guests abort
//! or spin for ever. So a guest is booted once under a time limit, and the answer is kept in the
//! image folder for this kernel release.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::error::LabError;
use crate::image::Image;
use crate::interrupt;
use crate::process::Process;
use crate::qemu::{self, READY};
use crate::release::Release;

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
    pub fn probe(image: &Image, release: &Release) -> Result<Self, LabError> {
        let kept = image.dir().join("accel");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        for accel in [Self::Kvm, Self::Tcg] {
            if fs::read_to_string(&kept).is_ok_and(|text| text == format!("{accel} {kernel}")) {
                return Ok(accel);
            }
        }
        let found = if Path::new("/dev/kvm").exists() && boots_under_kvm(image, release)? {
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
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

fn boots_under_kvm(image: &Image, release: &Release) -> Result<bool, LabError> {
    let dir = tempfile::tempdir().map_err(LabError::file(&std::env::temp_dir()))?;
    let serial = dir.path().join("serial");
    let mut arguments = qemu::machine(image, release, Accel::Kvm, 256, "probe");
    arguments.extend(["-serial".to_owned(), format!("file:{}", serial.display())]);
    let (program, arguments) = release.command(&arguments);
    let environment = release.environment(Accel::Kvm, &image.shim());
    let mut guest = Process::start(
        "probe guest",
        &program,
        &arguments,
        &environment,
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
