//! The disk of a pair, replicated by QEMU itself: who holds which image, and the monitor commands before and after a
//! takeover (docs/disk.md).
//!
//! In: the run folder, a guest's name and role. Out: QEMU's arguments; a pair whose secondary's image receives every
//! write of the primary VM; and, after the failover command, an image that is whole by itself.

pub mod check;
mod empty;
mod record;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::LabError;
use crate::interrupt;
use crate::qemu::words;
use crate::qmp::Qmp;
use crate::release::Release;

pub use record::{PORT, RECORDS, Writer, Written, judge};

/// Of both images and both overlays: QEMU wants them alike.
const SIZE: u64 = record::RECORDS * record::LEN as u64 * 2;
/// The quorum that is the VM's disk.
const TOP: &str = "disk";
/// What the secondary exports.
const EXPORT: &str = "parent0";
/// What the primary adds to its quorum, the NBD client below it, and the quorum's name for the former.
const PEER: &str = "peer";
const CLIENT: &str = "nbd0";
const SECOND: &str = "children.1";
/// A copy of the whole image, or of both overlays.
const COPY: Duration = Duration::from_secs(60);

/// The image that the guest `name` reads and writes in the end.
pub fn image(dir: &Path, name: &str) -> PathBuf {
    file(dir, name, "disk")
}

fn file(dir: &Path, name: &str, suffix: &str) -> PathBuf {
    dir.join(format!("{name}.{suffix}"))
}

/// Makes the images of the guest `name`, all zeros, and returns the arguments that give them to it. One that receives
/// a state writes to overlays until it takes over.
///
/// # Errors
/// [`LabError::File`].
pub fn arguments(dir: &Path, name: &str, receives: bool) -> Result<Vec<String>, LabError> {
    let path = image(dir, name);
    File::create(&path)
        .and_then(|file| file.set_len(SIZE))
        .map_err(LabError::file(&path))?;
    let mut line = String::new();
    let child = match receives {
        false => format!(
            "children.0.driver=raw,children.0.file.filename={}",
            path.display()
        ),
        true => {
            let overlays = ["active", "hidden"].map(|suffix| file(dir, name, suffix));
            for overlay in &overlays {
                empty::qcow2(overlay, SIZE)?;
            }
            let [active, hidden] = overlays;
            line = format!(
                "-drive if=none,id={EXPORT},node-name={EXPORT}-node,driver=raw,file.filename={} \
                 -drive if=none,id=overlays,driver=replication,mode=secondary,top-id={TOP},file.driver=qcow2,\
                 file.file.filename={},file.backing.driver=qcow2,file.backing.file.filename={},\
                 file.backing.backing={EXPORT}-node ",
                path.display(),
                active.display(),
                hidden.display()
            );
            "children.0=overlays".to_owned()
        }
    };
    line.push_str(&format!(
        "-drive if=none,id={TOP},driver=quorum,read-pattern=fifo,vote-threshold=1,{child} \
         -device virtio-blk-pci,drive={TOP}"
    ));
    Ok(words(&line))
}

/// Two guests whose disks are to be one.
#[derive(Debug)]
pub struct Ends<'a> {
    /// The primary's monitor.
    pub primary: &'a Qmp,
    /// The secondary's monitor.
    pub secondary: &'a Qmp,
    /// Where the secondary serves its image.
    pub socket: PathBuf,
    /// The QEMU of both.
    pub release: &'a Release,
}

impl Ends<'_> {
    /// Replicates from now on; for images that are alike, before the state moves.
    ///
    /// # Errors
    /// [`LabError::Qmp`] with QEMU's refusal.
    pub fn join(&self) -> Result<(), LabError> {
        self.serve()?;
        self.attach()
    }

    /// Copies the image of a primary that runs alone, stops it, and replicates from then on.
    ///
    /// # Errors
    /// [`LabError::Qmp`] with QEMU's refusal, [`LabError::Late`].
    pub fn copy_and_join(&self) -> Result<(), LabError> {
        self.serve()?;
        let target = format!("nbd+unix:///{EXPORT}?socket={}", self.socket.display());
        self.primary.command(
            "drive-mirror",
            json!({"device": TOP, "job-id": "copy", "target": target, "mode": "existing", "format": "raw",
                   "sync": "full"}),
        )?;
        interrupt::wait_for("a copy of the disk", COPY, || {
            let jobs = self.primary.command("query-block-jobs", json!({}))?;
            Ok((jobs[0]["ready"] == true).then_some(()))
        })?;
        // Nothing may be written between the copy and the replication.
        self.primary.command("stop", json!({}))?;
        self.primary
            .command("block-job-cancel", json!({"device": "copy"}))?;
        interrupt::wait_for("the end of the copy", COPY, || {
            let jobs = self.primary.command("query-block-jobs", json!({}))?;
            Ok(jobs.as_array().is_some_and(Vec::is_empty).then_some(()))
        })?;
        self.attach()
    }

    fn serve(&self) -> Result<(), LabError> {
        let address = json!({"type": "unix", "data": {"path": self.socket}});
        self.secondary
            .command("nbd-server-start", json!({"addr": address}))?;
        self.secondary.command(
            "block-export-add",
            json!({"type": "nbd", "id": EXPORT, "node-name": format!("{EXPORT}-node"), "name": EXPORT,
                   "writable": true}),
        )?;
        Ok(())
    }

    fn attach(&self) -> Result<(), LabError> {
        let address = json!({"type": "unix", "path": self.socket});
        let mut client = json!({"driver": "nbd", "server": address, "export": EXPORT});
        let node = match self.release.replicates_through_driver() {
            true => {
                client["node-name"] = json!(CLIENT);
                json!({"driver": "replication", "mode": "primary", "node-name": PEER, "file": client})
            }
            false => {
                client["node-name"] = json!(PEER);
                client["detect-zeroes"] = json!("on");
                client
            }
        };
        self.primary.command("blockdev-add", node)?;
        self.primary
            .command("x-blockdev-change", json!({"parent": TOP, "node": PEER}))?;
        Ok(())
    }
}

/// Gives a survivor the commands that come before `x-colo-lost-heartbeat`. One that `takes_over` stops serving its
/// image by NBD; one that was the primary removes the peer's image from its quorum.
///
/// # Errors
/// [`LabError::Qmp`] with QEMU's refusal.
pub fn before_failover(survivor: &Qmp, takes_over: bool) -> Result<(), LabError> {
    if takes_over {
        survivor.command("nbd-server-stop", json!({}))?;
    } else {
        survivor.command("x-blockdev-change", json!({"parent": TOP, "child": SECOND}))?;
        survivor.command("blockdev-del", json!({"node-name": PEER}))?;
    }
    Ok(())
}

/// Waits until a secondary that takes over has committed its overlays. The image then holds everything.
///
/// # Errors
/// [`LabError::Late`], [`LabError::Qmp`].
pub fn wait_whole(qmp: &Qmp) -> Result<(), LabError> {
    let mut last = Value::Null;
    interrupt::wait_for("the overlays' commit", COPY, || {
        last = qmp.command("query-named-block-nodes", json!({"flat": true}))?;
        let overlays = last
            .as_array()
            .into_iter()
            .flatten()
            .any(|node| node["drv"] == "qcow2");
        Ok((!overlays).then_some(()))
    })
    .map_err(|error| error.beside(&format!("\n{last:#}")))
}
