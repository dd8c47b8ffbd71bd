//! Guests, what protects them, and their client, started in order and stopped in order.
//!
//! In: a [`Mode`]. Out: a [`Pair`] that serves at the guest's addresses, its checkpoints as QEMU shows
//! them, and at the end the nodes' summaries. Fields are dropped from the top: guests, nodes, network, files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::accel::Accel;
use crate::audit;
use crate::disk::{self, Ends};
use crate::error::LabError;
use crate::image::Image;
use crate::interrupt;
use crate::net::ClientNet;
use crate::node::{Node, Summary};
use crate::process::is_running;
use crate::progress::say;
use crate::qemu::{self, Guest, Spec, words};
use crate::qmp::Checkpoint;
use crate::release::Release;

/// Who stands between the guest and its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Two `dpdk-colo` nodes, by this program, and two guests on vhost-user NICs.
    Protected(PathBuf),
    /// QEMU's own proxy: mirror, redirectors, rewriter and colo-compare, and two guests on taps.
    Stock,
    /// One guest on a vhost-user NIC behind testpmd.
    Unprotected,
    /// One guest on a vhost-user NIC behind this program without a secondary: no comparison, the same offloads.
    Alone(PathBuf),
    /// One guest on a tap.
    Plain,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protected(_) => "dpdk-colo",
            Self::Stock => "QEMU's proxy",
            Self::Unprotected => "unprotected (testpmd)",
            Self::Alone(_) => "alone (dpdk-colo)",
            Self::Plain => "unprotected (tap)",
        })
    }
}

/// The machine that guests run on.
#[derive(Debug, Clone)]
pub struct Host {
    /// Kernel and initramfs.
    pub image: Image,
    /// The QEMU that runs guests.
    pub release: Release,
    /// What runs guests here.
    pub accel: Accel,
    /// Whether run folders stay for a look at their logs.
    pub keep: bool,
    /// Whether guests may leave checksums and segmentation to the nodes.
    pub offloads: bool,
    /// Whether nodes connect to their guests' vhost-user sockets, and do not listen.
    pub vhost_client: bool,
    /// Whether nodes have no key for their link.
    pub trusted_link: bool,
    /// Whether guests have a disk, replicated where there are two.
    pub disk: bool,
    /// The `dpdk-colo-audit` program, where all that nodes see is to be captured and judged.
    pub audit: Option<PathBuf>,
    /// `--idle-sleep` of the nodes, in microseconds; without it theirs.
    pub idle_sleep: Option<u32>,
    /// The nodes' policy rules, as in a configuration.
    pub policy: Option<&'static str>,
}

/// What nodes' ports are like.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// See [`Host::offloads`].
    pub offloads: bool,
    /// See [`Host::vhost_client`].
    pub vhost_client: bool,
    /// See [`Host::trusted_link`].
    pub trusted_link: bool,
}

impl Host {
    /// The NIC of a guest whose backend is a `dpdk-colo` node, by its vhost-user socket.
    pub fn nic(&self, socket: &Path) -> Vec<String> {
        match self.vhost_client {
            true => qemu::vhost_user_server(socket, &self.release, self.accel),
            false => qemu::vhost_user(socket, &self.release, self.accel),
        }
    }

    /// Makes the image if need be and decides on the accelerator, and prints both.
    ///
    /// # Errors
    /// As [`Image::ensure`], [`Release::named`] and [`Accel::probe`].
    pub fn prepare(
        image: &Path,
        qemu: Option<&str>,
        keep: bool,
        ports: Ports,
        audit: Option<PathBuf>,
    ) -> Result<Self, LabError> {
        let (image, made) = Image::ensure(image)?;
        say(
            "guest image",
            format!(
                "{} in {}",
                if made { "built" } else { "found" },
                image.dir().display()
            ),
        );
        let release = Release::named(qemu, Path::new(WORK))?;
        say("QEMU", &release);
        let accel = Accel::probe(&image, &release)?;
        say(
            "accelerator",
            match accel {
                Accel::Kvm => "KVM: the probe guest booted",
                Accel::Tcg => "TCG: KVM does not run guests here",
            },
        );
        Ok(Self {
            image,
            release,
            accel,
            keep,
            offloads: ports.offloads,
            vhost_client: ports.vhost_client,
            idle_sleep: None,
            trusted_link: ports.trusted_link,
            disk: false,
            audit,
            policy: None,
        })
    }
}

/// Where fetched releases of QEMU are kept.
const WORK: &str = "lab/work";
/// Run folders are `colo-lab-PID-…` in the folder for temporary files.
const PREFIX: &str = "colo-lab-";
/// Periodic checkpoints are off: every one that comes was asked for.
const CHECKPOINT_PERIOD_MS: u32 = 600_000;
/// State moves as fast as it can: QEMU's own limit is 128 MiB a second.
const BANDWIDTH: u64 = 10 << 30;

/// What becomes of the migration that makes two guests a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Both enter COLO.
    Colo,
    /// It is cancelled at this time after its begin.
    Cancelled { after: Duration },
}

/// A running set-up. Without a second guest it is no pair, but serves the same.
#[derive(Debug)]
pub struct Pair {
    primary: Guest,
    secondary: Option<Guest>,
    primary_node: Option<Node>,
    secondary_node: Option<Node>,
    /// The client's side.
    pub net: ClientNet,
    audit: Option<PathBuf>,
    run: TempDir,
}

/// What the two nodes counted.
#[derive(Debug)]
pub struct Summaries {
    /// The primary's.
    pub primary: Summary,
    /// The secondary's.
    pub secondary: Summary,
    /// What the auditor says, where there is one.
    pub audit: Option<Result<String, LabError>>,
}

impl Pair {
    /// Boots guests and nodes, and starts COLO where the mode has two guests.
    ///
    /// # Errors
    /// Whatever kept it from running, with the last words of the process that failed.
    pub fn start(mode: &Mode, host: &Host, timestamps: bool) -> Result<Self, LabError> {
        let net = match mode {
            Mode::Protected(_) | Mode::Unprotected | Mode::Alone(_) => ClientNet::veth()?,
            Mode::Stock | Mode::Plain => ClientNet::taps()?,
        };
        Self::start_on(net, mode, host, timestamps)
    }

    /// Boots guests and nodes as [`Pair::start`] does, on a network that is there: with taps where `mode` needs them.
    ///
    /// # Errors
    /// As [`Pair::start`].
    pub fn start_on(
        net: ClientNet,
        mode: &Mode,
        host: &Host,
        timestamps: bool,
    ) -> Result<Self, LabError> {
        Self::start_until(net, mode, host, timestamps, Entry::Colo)
    }

    /// Boots two guests and their nodes, and cancels the migration that was to make them a pair after this time.
    ///
    /// # Errors
    /// As [`Pair::start`].
    pub fn start_cancelled(mode: &Mode, host: &Host, after: Duration) -> Result<Self, LabError> {
        Self::start_until(
            ClientNet::veth()?,
            mode,
            host,
            true,
            Entry::Cancelled { after },
        )
    }

    fn start_until(
        net: ClientNet,
        mode: &Mode,
        host: &Host,
        timestamps: bool,
        entry: Entry,
    ) -> Result<Self, LabError> {
        // Should a step fail, what stands is dropped in reverse: guests, nodes, network, folder.
        let run = run_folder(host)?;
        let dir = run.path();
        let net_file = net.file();
        let (secondary_node, primary_node) = match mode {
            Mode::Protected(bin) => {
                let secondary = Node::secondary(bin, dir, host)?;
                let primary = Node::primary(bin, dir, net.uplink(), host)?;
                say(
                    "nodes",
                    "primary and secondary dpdk-colo wait for their VMs",
                );
                (Some(secondary), Some(primary))
            }
            Mode::Unprotected => (None, Some(Node::testpmd(dir, net.uplink())?)),
            Mode::Alone(bin) => {
                let node = Node::alone(bin, dir, net.uplink(), host)?;
                (None, Some(node))
            }
            Mode::Stock | Mode::Plain => (None, None),
        };
        let guest = |name, incoming: Option<&str>| {
            let (network, namespace) = match mode {
                Mode::Protected(_) | Mode::Alone(_) => {
                    (host.nic(&dir.join(format!("{name}.sock"))), None)
                }
                Mode::Unprotected => {
                    let socket = dir.join(format!("{name}.sock"));
                    (qemu::vhost_user(&socket, &host.release, host.accel), None)
                }
                Mode::Stock => (
                    stock_proxy(name, dir, &host.release),
                    Some(net_file.as_path()),
                ),
                Mode::Plain => (qemu::tap(name), Some(net_file.as_path())),
            };
            let disk = match host.disk {
                true => disk::arguments(dir, name, incoming.is_some())?,
                false => Vec::new(),
            };
            Guest::start(&Spec {
                name,
                dir,
                image: &host.image,
                release: &host.release,
                accel: host.accel,
                ram: qemu::RAM,
                timestamps,
                network,
                disk,
                incoming,
                namespace,
            })
        };
        let mut primary = guest("pvm", None)?;
        primary.wait_ready()?;
        say("primary VM", "booted, its services answer");
        let secondary = match mode {
            Mode::Protected(_) | Mode::Stock => {
                let uri = format!("unix:{}", dir.join("state.sock").display());
                let secondary = guest("svm", Some(host.release.incoming(&uri)))?;
                say("secondary VM", "started, waits for the primary's state");
                if host.disk {
                    let ends = Ends {
                        primary: &primary.qmp,
                        secondary: &secondary.qmp,
                        socket: dir.join("disk.sock"),
                        release: &host.release,
                    };
                    ends.join()?;
                    say("disks", "the secondary's receives the primary's writes");
                }
                let nodes = [&primary_node, &secondary_node];
                match entry {
                    Entry::Colo => {
                        enter_colo(&primary, &secondary, &uri, &host.release)
                            .map_err(|error| error.beside(&said(nodes)))?;
                        // The restart that follows the state change, and the comparator's first look at it.
                        interrupt::sleep(Duration::from_secs(1))?;
                        say("COLO", "both VMs run in lock-step");
                    }
                    Entry::Cancelled { after } => {
                        migrate(&primary, &secondary, &uri, &host.release)?;
                        interrupt::sleep(after)?;
                        primary.qmp.command("migrate_cancel", json!({}))?;
                        say("COLO", format!("cancelled after {after:?}"));
                    }
                }
                Some(secondary)
            }
            Mode::Unprotected | Mode::Alone(_) | Mode::Plain => None,
        };
        let mut pair = Self {
            primary,
            secondary,
            primary_node,
            secondary_node,
            net,
            audit: host.audit.clone(),
            run,
        };
        if entry == Entry::Colo {
            pair.alive()?;
        }
        Ok(pair)
    }

    /// The checkpoints of the primary so far, its entry into COLO included.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.primary.qmp.checkpoints()
    }

    /// What the primary node has said so far, line by line.
    pub fn log(&self) -> String {
        self.primary_node
            .as_ref()
            .map(Node::output)
            .unwrap_or_default()
    }

    /// An unprotected guest and its node stand still, and the guest's clock with them.
    ///
    /// # Errors
    /// [`LabError::Qmp`], [`LabError::Spawn`].
    pub fn rest(&self) -> Result<(), LabError> {
        debug_assert!(self.secondary.is_none(), "COLO would see it");
        self.primary.qmp.command("stop", json!({}))?;
        // Last: QEMU stops the node's rings first.
        self.signal(Signal::STOP)
    }

    /// They go on.
    ///
    /// # Errors
    /// As [`Pair::rest`].
    pub fn wake(&self) -> Result<(), LabError> {
        self.signal(Signal::CONT)?;
        self.primary.qmp.command("cont", json!({}))?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), LabError> {
        if let Some(node) = &self.primary_node {
            node.handle()?.signal(signal);
        }
        Ok(())
    }

    /// Waits until one second has passed without a checkpoint: what earlier traffic leaves to settle is settled.
    ///
    /// # Errors
    /// [`LabError::Late`] if they do not end.
    pub fn wait_quiet(&self) -> Result<(), LabError> {
        let mut last = (self.checkpoints().len(), Instant::now());
        interrupt::wait_for("an end of checkpoints", Duration::from_secs(20), || {
            let count = self.checkpoints().len();
            if count != last.0 {
                last = (count, Instant::now());
            }
            Ok((last.1.elapsed() >= Duration::from_secs(1)).then_some(()))
        })
        .map_err(|error| error.beside(&self.said()))
    }

    /// The ends of the nodes' logs, for the error of a wait that failed.
    pub fn said(&self) -> String {
        said([&self.primary_node, &self.secondary_node])
    }

    /// The first checkpoint whose stop came after the wall clock showed `moment`, waiting for it up to `limit`.
    ///
    /// # Errors
    /// [`LabError::Late`] if none comes.
    pub fn checkpoint_after(
        &self,
        moment: Duration,
        limit: Duration,
    ) -> Result<Checkpoint, LabError> {
        interrupt::wait_for("a checkpoint", limit, || {
            let all = self.checkpoints();
            Ok(all.into_iter().find(|checkpoint| checkpoint.stop >= moment))
        })
        .map_err(|error| error.beside(&self.said()))
    }

    /// What the differing service answered on the primary and on the secondary, oldest first.
    pub fn answers(&self) -> (Vec<String>, Vec<String>) {
        let secondary = self.secondary.as_ref().map(Guest::answers);
        (self.primary.answers(), secondary.unwrap_or_default())
    }

    /// The primary's guest and the secondary's, if there is one.
    pub fn guests(&self) -> (&Guest, Option<&Guest>) {
        (&self.primary, self.secondary.as_ref())
    }

    /// What the guests' kernels said of being broken, with the name of the VM.
    pub fn complaints(&self) -> Vec<String> {
        [
            ("pvm", Some(&self.primary)),
            ("svm", self.secondary.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, guest)| Some(format!("{name}: {}", guest?.complaint()?)))
        .collect()
    }

    /// The run folder: logs, summaries, divergence records.
    pub fn dir(&self) -> &Path {
        self.run.path()
    }

    /// The processes of its nodes.
    pub fn nodes(&self) -> Vec<u32> {
        [&self.primary_node, &self.secondary_node]
            .into_iter()
            .flatten()
            .map(Node::id)
            .collect()
    }

    /// Asserts that every process still runs.
    ///
    /// # Errors
    /// [`LabError::Died`], naming the one that does not.
    pub fn alive(&mut self) -> Result<(), LabError> {
        self.guests_alive()?;
        for node in [&mut self.primary_node, &mut self.secondary_node] {
            node.as_mut().map_or(Ok(()), Node::alive)?;
        }
        Ok(())
    }

    /// The same of each QEMU alone.
    ///
    /// # Errors
    /// [`LabError::Died`], naming the one that does not.
    pub fn guests_alive(&mut self) -> Result<(), LabError> {
        for guest in [Some(&mut self.primary), self.secondary.as_mut()] {
            guest.map_or(Ok(()), Guest::alive)?;
        }
        Ok(())
    }

    /// Ends both nodes by SIGTERM and returns their summaries, then ends all the rest. `None` where
    /// no node of `dpdk-colo` ran.
    ///
    /// # Errors
    /// As [`Node::finish`].
    pub fn finish(mut self) -> Result<Option<Summaries>, LabError> {
        match (self.primary_node.take(), self.secondary_node.take()) {
            (Some(primary), Some(secondary)) => Ok(Some(Summaries {
                primary: primary.finish()?,
                secondary: secondary.finish()?,
                audit: self
                    .audit
                    .as_deref()
                    .map(|program| audit::run(program, self.run.path())),
            })),
            _ => Ok(None),
        }
    }
}

/// What nodes wrote last.
fn said(nodes: [&Option<Node>; 2]) -> String {
    nodes.into_iter().flatten().map(Node::said).collect()
}

/// Turns two guests into a pair: state transfer, then both run. The secondary waits for the state at `uri`.
///
/// # Errors
/// [`LabError::NoColo`], [`LabError::Late`], [`LabError::Qmp`].
pub fn enter_colo(
    primary: &Guest,
    secondary: &Guest,
    uri: &str,
    release: &Release,
) -> Result<(), LabError> {
    migrate(primary, secondary, uri, release)?;
    let mut last = json!(null);
    let entered = interrupt::wait_for("migration state colo", Duration::from_secs(90), || {
        last = primary.qmp.command("query-migrate", json!({}))?;
        Ok(matches!(last["status"].as_str(), Some("colo" | "failed")).then_some(()))
    });
    match entered {
        Ok(()) if last["status"] == "colo" => Ok(()),
        Ok(()) => Err(LabError::NoColo {
            status: last.to_string(),
        }),
        Err(error) => Err(error),
    }
}

/// Begins the state transfer that ends in COLO.
fn migrate(
    primary: &Guest,
    secondary: &Guest,
    uri: &str,
    release: &Release,
) -> Result<(), LabError> {
    let on = |name: &&str| json!({"capability": name, "state": true});
    let all: Vec<_> = release.capabilities().iter().map(on).collect();
    let colo = json!({ "capabilities": all });
    for guest in [secondary, primary] {
        guest
            .qmp
            .command("migrate-set-capabilities", colo.clone())?;
        if let Some(parameters) = release.parameters() {
            guest.qmp.command("migrate-set-parameters", parameters)?;
        }
    }
    primary.qmp.command(
        "migrate-set-parameters",
        json!({"x-checkpoint-delay": CHECKPOINT_PERIOD_MS, "max-bandwidth": BANDWIDTH}),
    )?;
    if release.incoming(uri) != uri {
        secondary
            .qmp
            .command("migrate-incoming", json!({"uri": uri}))?;
    }
    primary.qmp.command("migrate", json!({"uri": uri}))?;
    Ok(())
}

/// Netdev, NIC and filters of QEMU's own COLO proxy, as docs/COLO-FT.txt arranges them, over unix sockets.
fn stock_proxy(name: &str, dir: &Path, release: &Release) -> Vec<String> {
    let d = dir.display();
    let again = release.reconnect();
    let server = |id: &str, file: &str| {
        format!("-chardev socket,id={id},path={d}/{file}.proxy,server=on,wait=off")
    };
    let client = |id: &str, file: &str, more: &str| {
        format!("-chardev socket,id={id},path={d}/{file}.proxy{more}")
    };
    let filters = if name == "pvm" {
        [
            server("mirror", "mirror"),
            server("secondary", "secondary"),
            server("output", "output"),
            client("output-far", "output", ""),
            server("released", "released"),
            client("released-far", "released", ""),
            "-object filter-mirror,id=mirrors,netdev=net,queue=tx,outdev=mirror,vnet_hdr_support=on"
                .to_owned(),
            "-object filter-redirector,id=puts,netdev=net,queue=rx,indev=released,vnet_hdr_support=on"
                .to_owned(),
            "-object filter-redirector,id=takes,netdev=net,queue=rx,outdev=output,vnet_hdr_support=on"
                .to_owned(),
            "-object iothread,id=comparing".to_owned(),
            "-object colo-compare,id=compare,primary_in=output-far,secondary_in=secondary,outdev=released-far,\
             iothread=comparing,vnet_hdr_support=on"
                .to_owned(),
        ]
        .join(" ")
    } else {
        [
            client("mirror", "mirror", again),
            client("secondary", "secondary", again),
            "-object filter-redirector,id=puts,netdev=net,queue=tx,indev=mirror,vnet_hdr_support=on"
                .to_owned(),
            "-object filter-redirector,id=takes,netdev=net,queue=rx,outdev=secondary,vnet_hdr_support=on"
                .to_owned(),
            "-object filter-rewriter,id=rewrites,netdev=net,queue=all,vnet_hdr_support=on".to_owned(),
        ]
        .join(" ")
    };
    let mut arguments = qemu::tap(name);
    arguments.extend(words(&filters));
    arguments
}

/// A new run folder, after those of labs that were killed have gone.
///
/// # Errors
/// [`LabError::File`].
pub fn run_folder(host: &Host) -> Result<TempDir, LabError> {
    sweep();
    let run = tempfile::Builder::new()
        .prefix(&if host.keep {
            "colo-lab-kept-".to_owned()
        } else {
            format!("{PREFIX}{}-", std::process::id())
        })
        .disable_cleanup(host.keep)
        .tempdir()
        .map_err(LabError::file(&std::env::temp_dir()))?;
    if host.keep {
        say("run folder", run.path().display());
    }
    Ok(run)
}

/// Deletes the run folders of labs that were killed.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((pid, _)) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'))
            && pid.parse::<u32>().is_ok()
            && !is_running(pid)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
