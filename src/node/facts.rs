//! What a node is made of, for the doctor: its settings, and what EAL has made of them.

use std::path::Path;

use colo_doctor::facts::{self as doctor, Key, Lcore, Memory, Node, Work};

use super::ports::Hardware;
use crate::config::{
    ControlPlace, HeartbeatUdp, LinkKey, OnPeerLost, PairSettings, PortName, PortRole, Settings,
    link_key,
};
use crate::dpdk::Eal;
use crate::plan::Device;

/// A node that runs.
pub(super) fn running(eal: &Eal, settings: &Settings, hardware: &Hardware) -> Node {
    let (main, workers) = (eal.main_lcore(), eal.worker_lcores());
    let mut node = of_settings(settings);
    node.pid = Some(std::process::id());
    let cpus = |lcore| {
        eal.cpus_of(lcore)
            .into_iter()
            .map(|cpu| cpu as u32)
            .collect()
    };
    node.lcores = lcores(main, &workers, settings, cpus);
    let pools = hardware.pools.facts(&settings.pairs);
    node.memory = Memory {
        hugepages: eal.has_hugepages(),
        needed: pools.iter().map(|pool| pool.bytes).sum(),
        pools,
        ..Memory::default()
    };
    for (pair, settings) in node.pairs.iter_mut().zip(&settings.pairs) {
        let ports = settings.ports();
        let facts = ports.filter_map(|(_, name)| hardware.facts.get(name.as_str()).cloned());
        pair.ports = facts.collect();
    }
    node
}

/// What the settings alone say. Ports and lcores are missing.
pub(super) fn of_settings(settings: &Settings) -> Node {
    let process = &settings.process;
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let text = |path: &Path| path.display().to_string();
    let captures = process.capture.as_ref().map(|capture| &capture.dir);
    let directories = process.report_dir.iter().chain(captures);
    Node {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        idle_sleep_us: process.idle_sleep.map_or(0, micros),
        control: match &process.control.place {
            ControlPlace::At(path) => Some(text(path)),
            ControlPlace::Runtime | ControlPlace::None => None,
        },
        control_group: process.control.group.clone(),
        directories: directories.map(|dir| text(dir)).collect(),
        pairs: settings.pairs.iter().map(pair).collect(),
        ..Node::default()
    }
}

fn pair(pair: &PairSettings) -> doctor::Pair {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let failover = &pair.failover;
    doctor::Pair {
        name: pair.name.clone(),
        vm_id: pair.vm_id,
        role: pair.role.role().to_string(),
        key: key(pair),
        qmp: pair.role.qmp().map(ToString::to_string),
        mtu: pair.mtu,
        compare_timeout_ms: millis(pair.compare_timeout),
        hold_frames: pair.hold_frames.get().into(),
        flows: pair.flows.get().into(),
        heartbeat_ms: millis(failover.heartbeat),
        heartbeat_loss: failover.heartbeat_loss.into(),
        heartbeat_udp: failover.heartbeat_udp.map(ends),
        peer_stall_limit_ms: millis(failover.peer_stall_limit),
        restart_limit_ms: millis(failover.restart_limit),
        on_peer_lost: match &failover.on_peer_lost {
            OnPeerLost::Hold => "hold".to_owned(),
            OnPeerLost::Release => "release".to_owned(),
            OnPeerLost::Exec(command) => format!("exec:{command}"),
        },
        failover: failover.mode.to_string(),
        policy: pair
            .policy
            .iter()
            .map(|rule| rule.name.to_string())
            .collect(),
        ports: Vec::new(),
    }
}

fn ends(ends: HeartbeatUdp) -> (String, String) {
    (ends.local.to_string(), ends.remote.to_string())
}

fn key(pair: &PairSettings) -> Key {
    match pair.role.link_key() {
        None => Key::Absent,
        Some(LinkKey::Trusted) => Key::Trusted,
        Some(LinkKey::File(path)) => {
            let ring = link_key::read(path);
            Key::File {
                path: path.display().to_string(),
                fault: ring.as_ref().err().map(ToString::to_string),
                ids: ring.map(|ring| ring.ids()).unwrap_or_default(),
            }
        }
    }
}

/// What each lcore does: `wire` in `setup.rs` assigns the work so.
pub(super) fn lcores(
    main: u32,
    workers: &[u32],
    settings: &Settings,
    cpus: impl Fn(u32) -> Vec<u32>,
) -> Vec<Lcore> {
    let lcore = |id| Lcore {
        id,
        cpus: cpus(id),
        ..Lcore::default()
    };
    let mut lcores = vec![lcore(main)];
    lcores.extend(workers.iter().map(|id| lcore(*id)));
    let working = match workers.is_empty() {
        true => &mut lcores[..],
        false => &mut lcores[1..],
    };
    let polling = working.len().min(settings.pairs.len());
    for (at, lcore) in working.iter_mut().enumerate() {
        lcore.work = match at < polling {
            true => Work::Polls,
            false => Work::Compares,
        };
        let own = settings.pairs.iter().skip(at).step_by(polling.max(1));
        if lcore.work == Work::Polls {
            lcore.pairs = own.map(|pair| pair.name.clone()).collect();
        }
    }
    lcores
}

/// A port by what is known of its device.
pub(super) fn port(
    place: PortRole,
    name: &PortName,
    device: &Device,
    mtu: Option<u16>,
) -> doctor::Port {
    let words = || device.arguments.split(',');
    let value = |key: &str| words().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let has = |wanted: &str| words().any(|word| word == wanted);
    let socket = match device.driver.as_str() {
        "net_vhost" => value("iface").map(|path| (path, !has("client=1"))),
        "net_virtio_user" => value("path").map(|path| (path, has("server=1"))),
        _ => None,
    };
    let of_device = device.interface.as_ref().map(|interface| &*interface.name);
    let named = match device.driver.as_str() {
        "net_af_packet" | "net_af_xdp" => value("iface"),
        _ => None,
    };
    doctor::Port {
        place: place.key().to_owned(),
        name: name.to_string(),
        driver: device.driver.clone(),
        interface: of_device.or(named).map(str::to_owned),
        mtu: mtu.map(u32::from),
        socket: socket.map(|(path, _)| path.to_owned()),
        listens: socket.is_some_and(|(_, listens)| listens),
        numa: None,
    }
}
