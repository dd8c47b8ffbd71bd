//! Guest processes: the QEMU command line for a COLO pair, and waiting for a guest to serve.
//!
//! Machine type `pc`, guest RAM a shared memfd (a vhost-user backend maps it), `guest_announce=off`
//! (an announcement after each checkpoint would make the secondary differ), two QMP sockets: one
//! for the lab and one for the program that protects the guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accel::Accel;
use crate::error::LabError;
use crate::image::Image;
use crate::interrupt;
use crate::net::{GUEST_V4, GUEST_V6};
use crate::process::{Handle, Process, tail};
use crate::qmp::Qmp;
use crate::release::Release;

/// What init prints on the console when everything serves.
pub const READY: &str = "GUEST READY";
/// Guest RAM in MiB, enough for every load.
pub const RAM: u32 = 384;
/// Under TCG on a busy machine a boot takes 3 to 15 s.
const BOOT: Duration = Duration::from_secs(240);

/// What sets one guest apart.
#[derive(Debug)]
pub struct Spec<'a> {
    /// `pvm`, `svm`: names its files in the run folder.
    pub name: &'a str,
    /// The run folder.
    pub dir: &'a Path,
    /// Kernel and initramfs.
    pub image: &'a Image,
    /// The QEMU that runs it, and how.
    pub release: &'a Release,
    /// The accelerator.
    pub accel: Accel,
    /// Guest RAM in MiB.
    pub ram: u32,
    /// Whether its TCP sends timestamps.
    pub timestamps: bool,
    /// Netdev, NIC and filter arguments.
    pub network: Vec<String>,
    /// What gives it a disk, or nothing.
    pub disk: Vec<String>,
    /// Where it gets another guest's state from, instead of booting.
    pub incoming: Option<&'a str>,
    /// The file of the network namespace that holds its tap, if it has one.
    pub namespace: Option<&'a Path>,
}

/// A running guest; dropped, it is gone.
#[derive(Debug)]
pub struct Guest {
    /// The lab's monitor session.
    pub qmp: Qmp,
    process: Process,
    serial: PathBuf,
    /// What the differing service notes.
    answers: PathBuf,
}

impl Guest {
    /// Starts QEMU and opens the lab's monitor.
    ///
    /// # Errors
    /// [`LabError::Spawn`], [`LabError::Died`], [`LabError::Qmp`].
    pub fn start(spec: &Spec<'_>) -> Result<Self, LabError> {
        let file = |suffix: &str| spec.dir.join(format!("{}.{suffix}", spec.name));
        let (serial, answers) = (file("serial"), file("answers"));
        let lab_socket = lab_socket(spec.dir, spec.name);
        let mut append = format!("console=ttyS0 quiet guestip={GUEST_V4} guestip6={GUEST_V6}");
        if !spec.timestamps {
            append.push_str(" notimestamps");
        }
        let mut arguments = machine(spec.image, spec.release, spec.accel, spec.ram, &append);
        arguments.extend(words(&format!("-name {0} -serial file:{1} -qmp unix:{2},server=on,wait=off -qmp unix:{3},server=on,wait=off",
            spec.name, serial.display(), lab_socket.display(), node_socket(spec.dir, spec.name).display())));
        arguments.extend(words(&format!(
            "-chardev file,id=answers,path={} -device isa-debugcon,iobase=0xe9,chardev=answers",
            answers.display()
        )));
        arguments.extend(spec.network.iter().chain(&spec.disk).cloned());
        if let Some(uri) = spec.incoming {
            arguments.extend(words(&format!("-incoming {uri}")));
        }
        let environment = spec.release.environment(spec.accel, &spec.image.shim());
        let (program, arguments) = spec.release.command(&arguments);
        let mut process = Process::start(
            spec.name,
            &program,
            &arguments,
            &environment,
            spec.namespace,
            file("log"),
        )?;
        interrupt::wait_for(
            &format!("the monitor of {}", spec.name),
            Duration::from_secs(30),
            || {
                process.alive()?;
                Ok(lab_socket.exists().then_some(()))
            },
        )?;
        let qmp = Qmp::connect(&lab_socket, Duration::from_secs(30))?;
        Ok(Self {
            qmp,
            process,
            serial,
            answers,
        })
    }

    /// Waits until all services of the guest answer.
    ///
    /// # Errors
    /// [`LabError::Late`] with the end of its console, [`LabError::Died`].
    pub fn wait_ready(&mut self) -> Result<(), LabError> {
        let outcome = interrupt::wait_for("the guest's boot", BOOT, || {
            self.process.alive()?;
            Ok(contains(&self.serial, READY).then_some(()))
        });
        match outcome {
            Err(LabError::Late { what, seconds, .. }) => Err(LabError::Late {
                what,
                seconds,
                tail: format!("; its console ends with:\n{}", tail(&self.serial)),
            }),
            other => other,
        }
    }

    /// Asserts that QEMU still runs.
    ///
    /// # Errors
    /// [`LabError::Died`].
    pub fn alive(&mut self) -> Result<(), LabError> {
        self.process.alive()
    }

    /// As [`Process::id`].
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// QEMU's process, for another thread.
    ///
    /// # Errors
    /// As [`Process::handle`].
    pub fn handle(&self) -> Result<Handle, LabError> {
        self.process.handle()
    }

    /// Ends QEMU at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The first line of its console by which the kernel says that it is broken.
    pub fn complaint(&self) -> Option<String> {
        let console = fs::read(&self.serial).unwrap_or_default();
        complaint(&String::from_utf8_lossy(&console))
    }

    /// Every answer that the differing service of this very VM gave, oldest first.
    pub fn answers(&self) -> Vec<String> {
        let notes = fs::read(&self.answers).unwrap_or_default();
        String::from_utf8_lossy(&notes)
            .lines()
            .filter(|line| line.starts_with("answer "))
            .map(|line| line.trim_end().to_owned())
            .collect()
    }
}

/// What Linux writes when it finds its own memory, a driver's ring or a process broken.
const COMPLAINTS: [&str; 8] = [
    "BUG:",
    "Oops:",
    "kernel BUG at",
    "Kernel panic",
    "corruption",
    "is not a head!",
    "segfault at",
    "soft lockup",
];

fn complaint(console: &str) -> Option<String> {
    console
        .lines()
        .find(|line| COMPLAINTS.iter().any(|what| line.contains(what)))
        .map(|line| line.trim().to_owned())
}

/// The monitor socket of guest `name` that is the lab's.
fn lab_socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.lab.qmp"))
}

/// The monitor socket of guest `name` that is its protector's.
pub fn node_socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.node.qmp"))
}

/// The arguments that every guest shares: a `pc` with about `ram` MiB and no devices, booting the image.
pub fn machine(
    image: &Image,
    release: &Release,
    accel: Accel,
    ram: u32,
    append: &str,
) -> Vec<String> {
    let kib = release.ram_kib(accel, ram);
    let mut arguments = words(&format!(
        "-nodefaults -display none -no-reboot -accel {accel} -cpu {} -smp 1 -machine pc,memory-backend=mem -m {kib}K \
         -object memory-backend-memfd,id=mem,size={kib}K,share=on",
        accel.cpu(),
    ));
    arguments.extend([
        "-kernel".to_owned(),
        image.kernel().display().to_string(),
        "-initrd".to_owned(),
        image.initrd().display().to_string(),
        "-append".to_owned(),
        append.to_owned(),
    ]);
    arguments
}

/// A vhost-user NIC whose backend listens on `socket`.
pub fn vhost_user(socket: &Path, release: &Release, accel: Accel) -> Vec<String> {
    vhost_user_nic(socket, release.reconnect(), release.nic(accel))
}

/// A vhost-user NIC that listens on `socket` for its backend, whose device has `client=1`.
pub fn vhost_user_server(socket: &Path, release: &Release, accel: Accel) -> Vec<String> {
    vhost_user_nic(socket, ",server=on", release.nic(accel))
}

fn vhost_user_nic(socket: &Path, ends: &str, properties: &str) -> Vec<String> {
    words(&format!(
        "-chardev socket,id=vhost,path={}{ends} -netdev vhost-user,id=net,chardev=vhost -device {NIC}{properties}",
        socket.display(),
    ))
}

/// A NIC on the tap `name`, without vhost: QEMU's filters refuse vhost.
pub fn tap(name: &str) -> Vec<String> {
    words(&format!(
        "-netdev tap,id=net,vhost=off,ifname={name},script=no,downscript=no -device {NIC}"
    ))
}

const NIC: &str = "virtio-net-pci,id=nic,netdev=net,mac=52:54:00:12:34:56,guest_announce=off";

/// Splits a command line at spaces; nothing in the lab's paths holds one.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// True if the file holds `text`.
pub fn contains(path: &Path, text: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_kernel_is_heard() {
        let broken = "GUEST READY\n[    5.84] list_del corruption. prev->next should be 8\n[    5.85] Oops: 0010\n";
        assert_eq!(
            complaint(broken).as_deref(),
            Some("[    5.84] list_del corruption. prev->next should be 8")
        );
        assert_eq!(complaint("GUEST READY\n"), None);
    }
}
