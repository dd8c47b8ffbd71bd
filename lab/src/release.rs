//! Which QEMU runs the guests, and what its release needs.
//!
//! In: nothing, a release (`10.0`) or the folder of an unpacked tree. Out: how its program is started, with the
//! firmware, libraries and loader that belong to it, and every difference between releases that the lab minds.
//! A release that is not installed is fetched by `guest/fetch-qemu` and kept.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::accel::Accel;
use crate::error::LabError;
use crate::process::run;
use crate::progress::say;

/// The installed emulator.
const PROGRAM: &str = "qemu-system-x86_64";
const FETCH: &str = include_str!("../guest/fetch-qemu");

/// The releases that the lab knows, with Debian's suite and the version of its package that was tried.
const SUITES: [(&str, &str, &str); 3] = [
    ("7.2", "bookworm", "1:7.2+dfsg-7+deb12u18+b3"),
    ("10.0", "trixie", "1:10.0.13+ds-0+deb13u1"),
    ("11.1", "trixie-backports", "1:11.1.3+ds-1~bpo13+1"),
];

/// A secondary that waits for `migrate-incoming`.
const DEFERRED: &str = "defer";

/// Where a tree has the firmware, its libraries, and QEMU's modules.
const FIRMWARE: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
const LOADERS: [&str; 2] = [
    "usr/lib64/ld-linux-x86-64.so.2",
    "lib64/ld-linux-x86-64.so.2",
];
const MODULES: &str = "usr/lib/x86_64-linux-gnu/qemu";

/// First two numbers of a release.
type Number = (u32, u32);

/// A QEMU to run guests on.
#[derive(Debug, Clone)]
pub struct Release {
    /// What it says of itself.
    text: String,
    number: Number,
    /// The unpacked tree that it comes from, if it is not the installed one.
    tree: Option<PathBuf>,
    /// Channels of the state's transfer, where it uses several (`multifd`).
    channels: Option<u8>,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Release {
    /// The releases that [`Release::named`] can fetch, oldest first.
    pub fn known() -> impl Iterator<Item = &'static str> {
        SUITES.iter().map(|(release, ..)| *release)
    }

    /// The QEMU that a command line names: the installed one if it names none, an unpacked tree, or a release, which is
    /// fetched into a folder in `work` unless it is installed or there already.
    ///
    /// # Errors
    /// [`LabError::Claim`] for a release of no known suite; what kept it from being fetched or started.
    pub fn named(name: Option<&str>, work: &Path) -> Result<Self, LabError> {
        let Some(name) = name else {
            return Self::at(None);
        };
        if name.contains('/') {
            let tree = Path::new(name);
            let tree = tree.canonicalize().map_err(LabError::file(tree))?;
            return Self::at(Some(tree));
        }
        if let Ok(installed) = Self::at(None)
            && format!("{}.{}", installed.number.0, installed.number.1) == name
        {
            return Ok(installed);
        }
        let Some((_, suite, tried)) = SUITES.iter().find(|(release, ..)| *release == name) else {
            let known: Vec<&str> = Self::known().collect();
            return Err(LabError::Claim {
                reason: format!(
                    "--qemu {name}: known releases are {}; or name the folder of an unpacked tree",
                    known.join(", ")
                ),
            });
        };
        let dir = work.join(format!("qemu-{name}"));
        let tree = dir.join("tree");
        if !tree.exists() {
            fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
            let dir = dir.canonicalize().map_err(LabError::file(&dir))?;
            let script = dir.join("fetch-qemu");
            fs::write(&script, FETCH).map_err(LabError::file(&script))?;
            run(&[
                "bash",
                &script.display().to_string(),
                &dir.display().to_string(),
                suite,
                tried,
            ])?;
        }
        let version = dir.join("version");
        let version = fs::read_to_string(&version).map_err(LabError::file(&version))?;
        if version.trim() != *tried {
            say(
                "QEMU",
                format!(
                    "{suite} has {} now; {tried} is what was tried",
                    version.trim()
                ),
            );
        }
        let release = Self::at(Some(tree.canonicalize().map_err(LabError::file(&tree))?))?;
        let (major, minor) = release.number;
        if format!("{major}.{minor}") != name {
            return Err(LabError::Claim {
                reason: format!(
                    "--qemu {name}: suite {suite} has QEMU {release} now; delete {} and name that release",
                    dir.display()
                ),
            });
        }
        Ok(release)
    }

    /// Asks a QEMU which one it is.
    fn at(tree: Option<PathBuf>) -> Result<Self, LabError> {
        let mut release = Self {
            text: String::new(),
            number: (0, 0),
            tree,
            channels: None,
        };
        let (program, arguments) = release.command(&["--version".to_owned()]);
        let mut words = vec![program.display().to_string()];
        words.extend(arguments);
        let output = Command::new(&words[0])
            .args(&words[1..])
            .output()
            .map_err(|source| LabError::Spawn {
                program: words[0].clone(),
                source,
            })?;
        let said = String::from_utf8_lossy(&output.stdout);
        match number(&said) {
            Some((text, number)) => {
                (release.text, release.number) = (text, number);
                Ok(release)
            }
            None => Err(LabError::Command {
                command: words.join(" "),
                status: output.status,
                output: String::from_utf8_lossy(&output.stderr).into_owned(),
            }),
        }
    }

    /// The program to start and its arguments, where QEMU gets these.
    pub fn command(&self, arguments: &[String]) -> (PathBuf, Vec<String>) {
        let Some(tree) = &self.tree else {
            return (PathBuf::from(PROGRAM), arguments.to_vec());
        };
        let qemu = tree.join("usr/bin").join(PROGRAM);
        let loader = LOADERS
            .iter()
            .map(|loader| tree.join(loader))
            .find(|loader| loader.exists());
        let mut all = Vec::new();
        if loader.is_some() {
            let libraries = LIBRARIES.map(|folder| tree.join(folder).display().to_string());
            all.extend(["--library-path".to_owned(), libraries.join(":")]);
            all.push(qemu.display().to_string());
        }
        for folder in FIRMWARE {
            all.extend(["-L".to_owned(), tree.join(folder).display().to_string()]);
        }
        all.extend_from_slice(arguments);
        (loader.unwrap_or(qemu), all)
    }

    /// What its environment needs; `shim` is the library that [`Release::needs_shim`] speaks of.
    pub fn environment(&self, accel: Accel, shim: &Path) -> Vec<(&'static str, PathBuf)> {
        let mut all = Vec::new();
        if self.needs_shim(accel) {
            all.push(("LD_PRELOAD", shim.to_owned()));
        }
        if let Some(tree) = &self.tree {
            all.push(("QEMU_MODULE_DIR", tree.join(MODULES)));
        }
        all
    }

    /// Whether the COLO thread of the primary saves RAM without the big lock, which hangs under TCG: until QEMU
    /// commit 604492a991, in 11.0 (`guest/tcg_lock_shim.c`).
    pub fn needs_shim(&self, accel: Accel) -> bool {
        accel == Accel::Tcg && self.number < (11, 0)
    }

    /// Whether guest RAM must end inside a word of the dirty bitmap ([`Release::ram_kib`]): until 9.0, under TCG.
    fn needs_odd_ram(&self, accel: Accel) -> bool {
        accel == Accel::Tcg && self.number < (9, 0)
    }

    /// Further properties of a vhost-user NIC. With MSI-X, QEMU 7.2 under TCG crashes in vhost_net_start; 10.0 does
    /// not.
    pub fn nic(&self, accel: Accel) -> &'static str {
        match accel == Accel::Tcg && self.number < (10, 0) {
            true => ",vectors=0",
            false => "",
        }
    }

    /// How a socket chardev connects again after a second: `reconnect` is gone from 10.2 on, `reconnect-ms` there from
    /// 9.2 on.
    pub fn reconnect(&self) -> &'static str {
        match self.number < (9, 2) {
            true => ",reconnect=1",
            false => ",reconnect-ms=100",
        }
    }

    /// Whether the primary writes to its peer's disk through the replication driver, as QEMU's own document has it
    /// before 11.0; since then an NBD client is a child of the quorum.
    pub fn replicates_through_driver(&self) -> bool {
        self.number < (11, 0)
    }

    /// Migration capabilities of both sides. Without `return-path` 11.0 and later refuse `x-colo`; with it COLO fails
    /// up to 10.2. The incoming side needs `x-colo` from 8.1 on, and may have it before.
    pub fn capabilities(&self) -> &'static [&'static str] {
        match (self.number < (11, 0), self.channels) {
            (true, _) => &["x-colo"],
            (false, None) => &["return-path", "x-colo"],
            (false, Some(_)) => &["return-path", "multifd", "x-colo"],
        }
    }

    /// The same release, whose VMs' state goes over this many connections at once.
    ///
    /// # Errors
    /// [`LabError::Claim`] before 11.0, where COLO and `multifd` exclude each other.
    pub fn with_channels(self, channels: Option<u8>) -> Result<Self, LabError> {
        if channels.is_some() && self.number < (11, 0) {
            return Err(LabError::Claim {
                reason: format!("--multifd: QEMU {self} has no multifd with COLO, 11.0 has"),
            });
        }
        Ok(Self { channels, ..self })
    }

    /// What a secondary's `-incoming` says where its state will come from `uri`: QEMU takes `multifd` before it waits
    /// for the state only.
    pub fn incoming<'a>(&self, uri: &'a str) -> &'a str {
        match self.channels {
            None => uri,
            Some(_) => DEFERRED,
        }
    }

    /// Migration parameters that both sides need.
    pub fn parameters(&self) -> Option<Value> {
        self.channels
            .map(|channels| json!({"multifd-channels": channels}))
    }

    /// Guest RAM in KiB for a guest of about `mib` MiB.
    ///
    /// Under TCG it may be a little less, so that it is no multiple of 256 KiB, which is what one 64-bit word of QEMU's
    /// dirty bitmap covers. A block that is one is synchronised by whole words, and there QEMU before 9.0 clears dirty
    /// bits without a flush of the vCPU's TLB (`cpu_physical_memory_sync_dirty_bitmap`, include/exec/ram_addr.h). Pages
    /// that the TLB holds as writable are then written without being marked, the next checkpoint does not carry them,
    /// and the secondary VM runs on RAM of two different moments until its kernel crashes. Any other block is
    /// synchronised page by page, and the TLB is flushed.
    pub fn ram_kib(&self, accel: Accel, mib: u32) -> u32 {
        let whole = mib * 1024;
        match self.needs_odd_ram(accel) {
            true => whole - RAM_STEP_KIB,
            false => whole,
        }
    }
}

/// QEMU rounds `-m` up to 8 KiB (softmmu/vl.c).
const RAM_STEP_KIB: u32 = 8;

/// The release and its first two numbers, out of what `--version` writes.
fn number(said: &str) -> Option<(String, Number)> {
    let text = said.split("version ").nth(1)?.split_whitespace().next()?;
    let mut parts = text.split('.').map(|part| part.parse().ok());
    let number = (parts.next()??, parts.next()??);
    Some((text.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(major: u32, minor: u32) -> Release {
        Release {
            text: format!("{major}.{minor}.0"),
            number: (major, minor),
            tree: None,
            channels: None,
        }
    }

    #[test]
    fn what_a_release_says_of_itself_is_read() {
        let said = "QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright";
        assert_eq!(number(said), Some(("10.0.13".to_owned(), (10, 0))));
        assert_eq!(number("no emulator"), None);
    }

    #[test]
    fn each_release_gets_what_it_needs() {
        for (at, shim, nic, reconnect, capabilities) in [
            ((7, 2), true, ",vectors=0", ",reconnect=1", 1),
            ((9, 2), true, ",vectors=0", ",reconnect-ms=100", 1),
            ((10, 0), true, "", ",reconnect-ms=100", 1),
            ((10, 2), true, "", ",reconnect-ms=100", 1),
            ((11, 0), false, "", ",reconnect-ms=100", 2),
            ((11, 1), false, "", ",reconnect-ms=100", 2),
        ] {
            let release = release(at.0, at.1);
            assert_eq!(release.needs_shim(Accel::Tcg), shim, "{release}");
            assert!(!release.needs_shim(Accel::Kvm), "{release}");
            assert_eq!(release.nic(Accel::Tcg), nic, "{release}");
            assert_eq!(release.nic(Accel::Kvm), "", "{release}");
            assert_eq!(release.reconnect(), reconnect, "{release}");
            assert_eq!(release.capabilities().len(), capabilities, "{release}");
        }
    }

    /// 64 pages of 4 KiB.
    const DIRTY_WORD_KIB: u32 = 256;

    #[test]
    fn ram_under_tcg_ends_inside_a_word_of_the_dirty_bitmap_where_it_must() {
        for mib in [1, 256, 384, 385, 4096] {
            let kib = release(7, 2).ram_kib(Accel::Tcg, mib);
            assert!(!kib.is_multiple_of(DIRTY_WORD_KIB), "{mib} MiB: {kib} KiB");
            assert!(kib.is_multiple_of(RAM_STEP_KIB), "{mib} MiB: {kib} KiB");
            assert!(mib * 1024 - kib <= RAM_STEP_KIB, "{mib} MiB: {kib} KiB");
            assert_eq!(release(7, 2).ram_kib(Accel::Kvm, mib), mib * 1024);
            assert_eq!(release(10, 0).ram_kib(Accel::Tcg, mib), mib * 1024);
        }
    }

    #[test]
    fn several_channels_need_a_release_that_has_them() {
        let several = release(11, 0).with_channels(Some(4)).expect("allowed");
        assert_eq!(several.capabilities().len(), 3);
        assert_eq!(several.incoming("unix:state"), "defer");
        assert_eq!(several.parameters(), Some(json!({"multifd-channels": 4})));
        release(10, 2).with_channels(Some(4)).expect_err("refused");
        let one = release(10, 2).with_channels(None).expect("allowed");
        assert_eq!(one.parameters(), None);
        assert_eq!(one.incoming("unix:state"), "unix:state");
    }

    #[test]
    fn a_tree_brings_its_own_loader_libraries_and_firmware() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("usr/lib64")).expect("a folder");
        fs::write(dir.path().join(LOADERS[0]), "").expect("a file");
        let release = Release {
            tree: Some(dir.path().to_owned()),
            ..release(11, 1)
        };
        let (program, arguments) = release.command(&["-S".to_owned()]);
        assert_eq!(program, dir.path().join(LOADERS[0]));
        assert_eq!(arguments[0], "--library-path");
        assert!(arguments[2].ends_with(PROGRAM), "{arguments:?}");
        assert_eq!(arguments.iter().filter(|word| *word == "-L").count(), 3);
        assert_eq!(arguments.last().map(String::as_str), Some("-S"));
    }
}
