//! Two hosts, each a QEMU and a node, with an uplink each on one bridge and a wire between them.
//!
//! In: which host holds the primary VM. Out: a protected pair whose parts can be killed, stopped and
//! restarted one by one, and whose survivor can be paired anew. Guests start from the saved state of one
//! that has booted.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::plan::Side;
use super::relay::Relay;
use crate::disk::{self, Ends, Written};
use crate::error::LabError;
use crate::interrupt;
use crate::net::{ClientNet, LINK, STATE_WIRE, UPLINK, WIRE, state_address};
use crate::node::{Colo, MEMORY, Node, packet_port};
use crate::pair::{Host, enter_colo};
use crate::qemu::{self, Guest, Spec};
use crate::wire::Wire;

/// Guest RAM in MiB: all services fit, and less is to be copied.
const RAM: u32 = 192;
const LOAD: Duration = Duration::from_secs(60);
/// Where the secondary's QEMU waits for the VM's state, if by TCP.
const STATE_PORT: u16 = 4444;
/// Where the secondary's QEMU takes the writes to its disk, on the same network.
const DISK_PORT: u16 = 4446;
/// Where nodes report whether their poll cores run, on the same network.
const REPORT_PORT: u16 = 4445;

/// What all pairs of a run share.
#[derive(Debug)]
pub struct Site<'a> {
    /// The program under test.
    pub bin: PathBuf,
    /// What guests run on.
    pub host: &'a Host,
    /// Logs, sockets, saved state.
    pub run: TempDir,
    /// The client's side.
    pub net: ClientNet,
    state: PathBuf,
}

impl<'a> Site<'a> {
    /// Makes the network, and boots one guest to save its state.
    ///
    /// # Errors
    /// Whatever kept the guest from booting.
    pub fn prepare(host: &'a Host, bin: PathBuf) -> Result<Self, LabError> {
        let run = crate::pair::run_folder(host)?;
        let net = ClientNet::two_hosts()?;
        let state = run.path().join("state");
        let site = Self {
            bin,
            host,
            run,
            net,
            state,
        };
        site.save()?;
        Ok(site)
    }

    /// The folder of the pair with this number.
    fn folder(&self, number: usize) -> Result<PathBuf, LabError> {
        let dir = self.run.path().join(number.to_string());
        fs::create_dir_all(&dir).map_err(LabError::file(&dir))?;
        Ok(dir)
    }

    /// Deletes the folder of the pair with this number, unless logs are to be kept.
    pub fn clear(&self, number: usize) {
        if !self.host.keep {
            let _ = fs::remove_dir_all(self.run.path().join(number.to_string()));
        }
    }

    /// A node brings up the guest's link: what a driver negotiates belongs to its state.
    fn save(&self) -> Result<(), LabError> {
        let dir = self.folder(0)?;
        let mut member = Member::start(
            self,
            &dir,
            &Place {
                host: 0,
                role: "primary",
                name: "boot",
                incoming: None,
                bounds: Bounds::AMPLE,
            },
        )?;
        member.guest.wait_ready()?;
        let uri = format!("exec:cat>{}", self.state.display());
        member.guest.qmp.command("migrate", json!({"uri": uri}))?;
        interrupt::wait_for("the saved state", LOAD, || {
            let status = member.guest.qmp.command("query-migrate", json!({}))?;
            match status["status"].as_str() {
                Some("completed") => Ok(Some(())),
                Some("failed") => Err(LabError::NoColo {
                    status: status.to_string(),
                }),
                _ => Ok(None),
            }
        })
    }
}

/// What a node may use, and who decides in its place.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// EAL memory in MiB.
    pub memory: u64,
    /// Frames that it holds at most, if not its default.
    pub hold: Option<u64>,
    /// It fences its peer, with the command that [`Cluster::arm`] has made, and gives QEMU the failover command itself.
    pub decides: bool,
    /// The nodes report to each other, by the QEMUs' way, whether their poll cores run.
    pub reports: bool,
    /// QEMUs exchange the VM's state by TCP, over a wire that can be cut.
    pub tcp: bool,
    /// The nodes set COLO up themselves, by an order at their control sockets.
    pub ordered: bool,
}

impl Bounds {
    /// Enough for every load.
    pub const AMPLE: Self = Self {
        memory: MEMORY,
        hold: None,
        decides: false,
        reports: false,
        tcp: false,
        ordered: false,
    };
}

/// Where and as what a member starts.
#[derive(Debug)]
struct Place<'a> {
    host: usize,
    role: &'static str,
    name: &'a str,
    incoming: Option<&'a str>,
    bounds: Bounds,
}

/// One host's QEMU and node.
pub struct Member {
    /// The VM.
    pub guest: Guest,
    /// Its node; `None` while it is down.
    pub node: Option<Node>,
    /// Stands between the two.
    pub relay: Relay,
    /// Its name, which names its files.
    pub name: String,
    host: usize,
    role: &'static str,
    dir: PathBuf,
    bounds: Bounds,
}

impl Member {
    /// Starts a node and a guest that is attached to it.
    fn start(site: &Site<'_>, dir: &Path, place: &Place<'_>) -> Result<Self, LabError> {
        Self::attach(site, dir, place, launch(site, dir, place)?)
    }

    /// Starts the guest of a node that was launched.
    fn attach(
        site: &Site<'_>,
        dir: &Path,
        place: &Place<'_>,
        mut node: Node,
    ) -> Result<Self, LabError> {
        let name = place.name;
        node.wait_guest_socket(site.host, dir, name)?;
        let relay_path = dir.join(format!("{name}.relay.qmp"));
        let relay = Relay::start(&relay_path, &qemu::node_socket(dir, name))?;
        let socket = dir.join(format!("{name}.sock"));
        let namespace = place.bounds.tcp.then(|| site.net.host(place.host));
        let disk = match site.host.disk {
            true => disk::arguments(dir, name, place.role == "secondary")?,
            false => Vec::new(),
        };
        let guest = Guest::start(&Spec {
            name,
            dir,
            image: &site.host.image,
            release: &site.host.release,
            accel: site.host.accel,
            ram: RAM,
            timestamps: true,
            network: site.host.nic(&socket),
            disk,
            incoming: place.incoming,
            namespace: namespace.as_deref(),
        })?;
        Ok(Self {
            guest,
            node: Some(node),
            relay,
            name: name.to_owned(),
            host: place.host,
            role: place.role,
            dir: dir.to_owned(),
            bounds: place.bounds,
        })
    }

    /// Its node's control socket, if it takes orders.
    pub fn control(&self) -> PathBuf {
        control_socket(&self.dir, &self.name)
    }

    /// Which of the two hosts it is on.
    pub fn host(&self) -> usize {
        self.host
    }

    /// Starts its node again with the same arguments, after the old one has ended.
    ///
    /// # Errors
    /// As [`Node::launch`] and [`Node::wait_guest_socket`].
    pub fn restart_node(&mut self, site: &Site<'_>) -> Result<(), LabError> {
        self.node = None;
        let place = Place {
            host: self.host,
            role: self.role,
            name: &self.name,
            incoming: None,
            bounds: self.bounds,
        };
        let mut node = launch(site, &self.dir, &place)?;
        node.wait_guest_socket(site.host, &self.dir, &self.name)?;
        self.node = Some(node);
        Ok(())
    }
}

/// Starts a node.
fn launch(site: &Site<'_>, dir: &Path, place: &Place<'_>) -> Result<Node, LabError> {
    let name = place.name;
    let link = packet_port(1, LINK);
    let namespace = site.net.host(place.host);
    let reports = dir.join(format!("{name}.reports"));
    fs::create_dir_all(&reports).map_err(LabError::file(&reports))?;
    let mut options = format!("--report-dir {}", reports.display());
    if let Some(hold) = place.bounds.hold {
        options.push_str(&format!(" --hold-frames {hold}"));
    }
    if place.bounds.decides {
        let command = fencing_command(dir, name);
        options.push_str(&format!(
            " --failover auto --on-peer-lost exec:{}",
            command.display()
        ));
    }
    if place.bounds.reports {
        let [own, other] = [place.host, 1 - place.host]
            .map(|host| format!("{}:{REPORT_PORT}", state_address(host)));
        options.push_str(&format!(" --heartbeat-udp {own},{other}"));
    }
    if place.bounds.ordered {
        let own = state_address(place.host);
        options.push_str(&format!(
            " --control {} --migrate-listen {own}:{STATE_PORT} --nbd-listen {own}:{DISK_PORT}",
            control_socket(dir, name).display()
        ));
    }
    Node::launch(&Colo {
        bin: &site.bin,
        dir,
        role: place.role,
        guest: name,
        // In one namespace two of the PMD's fanout groups, named by process and interface, may fall together.
        namespace: Some(&namespace),
        uplink: Some(UPLINK),
        link: &link,
        qmp: &dir.join(format!("{name}.relay.qmp")),
        memory: place.bounds.memory,
        host: site.host,
        options: &options,
    })
}

/// What a secondary's `-incoming` says.
fn incoming<'a>(site: &Site<'_>, uri: &'a str, bounds: Bounds) -> &'a str {
    match bounds.ordered {
        true => "defer",
        false => site.host.release.incoming(uri),
    }
}

/// The fencing command of the node that has this name.
fn fencing_command(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.fence"))
}

fn control_socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.control"))
}

/// Two hosts whose VMs are a pair, or are to be one.
pub struct Cluster {
    /// The host whose VM is the primary.
    pub primary: Member,
    /// The host whose VM is the secondary.
    pub secondary: Member,
    /// Between the nodes, from the primary's host to the secondary's.
    pub wire: Wire,
    /// Between the QEMUs, the same way, if they have one.
    pub state: Option<Wire>,
    /// Logs, sockets, captures.
    pub dir: PathBuf,
}

impl Cluster {
    /// Starts the pair with this number; `seed` is for the wire's draws, `bounds` what each node may use.
    ///
    /// # Errors
    /// Whatever kept it from running.
    pub fn start(
        site: &Site<'_>,
        number: usize,
        seed: u64,
        bounds: Bounds,
    ) -> Result<Self, LabError> {
        let (cluster, uri) = Self::apart(site, number, seed, bounds)?;
        if site.host.disk {
            cluster.ends(site, "disk").join()?;
        }
        let (primary, secondary) = (&cluster.primary.guest, &cluster.secondary.guest);
        enter_colo(primary, secondary, &uri, &site.host.release)?;
        Ok(cluster)
    }

    /// The same without COLO: a VM that runs, a QEMU that waits for a state, and a node for each. Returns the URI at
    /// which it waits, too.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn apart(
        site: &Site<'_>,
        number: usize,
        seed: u64,
        bounds: Bounds,
    ) -> Result<(Self, String), LabError> {
        let dir = site.folder(number)?;
        let wire = Wire::join(&site.net.handle()?, WIRE, seed)?;
        let saved = format!("exec:cat<{}", site.state.display());
        let (state, uri) = match bounds.tcp {
            true => {
                let wire = Wire::join(&site.net.handle()?, STATE_WIRE, seed)?;
                let uri = format!("tcp:{}:{STATE_PORT}", state_address(1));
                (Some(wire), uri)
            }
            false => (None, format!("unix:{}", dir.join("state.sock").display())),
        };
        let place = |host, role, name, incoming| Place {
            host,
            role,
            name,
            incoming: Some(incoming),
            bounds,
        };
        let places = [
            place(0, "primary", "pvm", saved.as_str()),
            place(1, "secondary", "svm", incoming(site, &uri, bounds)),
        ];
        let first = launch(site, &dir, &places[0])?;
        let second = launch(site, &dir, &places[1])?;
        let primary = Member::attach(site, &dir, &places[0], first)?;
        let secondary = Member::attach(site, &dir, &places[1], second)?;
        interrupt::wait_for("the primary VM", LOAD, || {
            let status = primary.guest.qmp.command("query-status", json!({}))?;
            Ok((status["status"] == "running").then_some(()))
        })?;
        let cluster = Self {
            primary,
            secondary,
            wire,
            state,
            dir,
        };
        Ok((cluster, uri))
    }

    /// Puts a new secondary, called `name`, in the place of the host of `lost`, without pairing it. From then on the
    /// survivor is the primary.
    ///
    /// # Errors
    /// Whatever kept it from starting.
    pub fn replace(&mut self, site: &Site<'_>, lost: Side, name: &str) -> Result<(), LabError> {
        if lost == Side::Primary {
            std::mem::swap(&mut self.primary, &mut self.secondary);
        }
        let bounds = self.secondary.bounds;
        let place = Place {
            host: self.secondary.host,
            role: "secondary",
            name,
            incoming: Some(incoming(site, "", bounds)),
            bounds,
        };
        self.secondary = Member::start(site, &self.dir, &place)?;
        Ok(())
    }

    /// Both disks; `name` names the socket between them.
    fn ends<'a>(&'a self, site: &'a Site<'_>, name: &str) -> Ends<'a> {
        Ends {
            primary: &self.primary.guest.qmp,
            secondary: &self.secondary.guest.qmp,
            socket: self.dir.join(format!("{name}.sock")),
            release: &site.host.release,
        }
    }

    /// Reads the image of each host whose VM lives, and asserts that all acknowledged records are in it. Returns how
    /// many are in which.
    ///
    /// # Errors
    /// As [`disk::judge`] and [`disk::wait_whole`].
    pub fn judge_disks(&mut self, all: &[Written]) -> Result<Vec<String>, LabError> {
        let mut disks = Vec::new();
        let both = self.primary.guest.alive().is_ok() && self.secondary.guest.alive().is_ok();
        for member in [&mut self.primary, &mut self.secondary] {
            if member.guest.alive().is_err() {
                continue;
            }
            if !both {
                disk::wait_whole(&member.guest.qmp)?;
            }
            let right = disk::judge(&disk::image(&self.dir, &member.name), all)?;
            disks.push(format!("{}: {right}", member.name));
        }
        Ok(disks)
    }

    /// Makes the fencing command of the node beside `loser`: it kills both processes of the loser's host.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn arm(&self, loser: Side) -> Result<(), LabError> {
        let (other, loser) = match loser {
            Side::Primary => (&self.secondary, &self.primary),
            Side::Secondary => (&self.primary, &self.secondary),
        };
        let node = loser.node.as_ref().map(Node::id);
        let all: Vec<String> = std::iter::once(loser.guest.id())
            .chain(node)
            .map(|id| id.to_string())
            .collect();
        let path = fencing_command(&self.dir, &other.name);
        let text = format!("#!/bin/sh\nkill -KILL {}\n", all.join(" "));
        fs::write(&path, text).map_err(LabError::file(&path))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(LabError::file(&path))
    }

    /// Puts a new secondary in the place of the host of `lost`, and pairs the survivor with it. From then on
    /// the survivor is the primary.
    ///
    /// # Errors
    /// Whatever kept the new pair from running.
    pub fn protect_again(&mut self, site: &Site<'_>, lost: Side) -> Result<(), LabError> {
        if lost == Side::Primary {
            std::mem::swap(&mut self.primary, &mut self.secondary);
        }
        let uri = format!("unix:{}", self.dir.join("again.sock").display());
        let place = Place {
            host: self.secondary.host,
            role: "secondary",
            name: "new",
            incoming: Some(site.host.release.incoming(&uri)),
            bounds: self.secondary.bounds,
        };
        self.secondary = Member::start(site, &self.dir, &place)?;
        if site.host.disk {
            self.ends(site, "disk-again").copy_and_join()?;
        }
        enter_colo(
            &self.primary.guest,
            &self.secondary.guest,
            &uri,
            &site.host.release,
        )
    }
}
