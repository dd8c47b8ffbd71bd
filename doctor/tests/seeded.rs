//! Mistakes, each sown into a sound set-up: the doctor finds it, says what to do, and finds nothing else.

use std::collections::BTreeMap;

use colo_doctor::facts::{
    Clock, Cpus, Disk, File, HugePool, Interface, Key, Kind, Lcore, Memory, Monitor, Mount, Nic,
    Node, Pair, PinnedThread, Pool, Port, Process, Qemu, Ram, Refused, Seen, Status, Work,
};
use colo_doctor::{Facts, Severity, examine, is_sound, text};

const MIB: u64 = 1 << 20;

fn port(place: &str, name: &str, interface: Option<&str>) -> Port {
    Port {
        place: place.to_owned(),
        name: name.to_owned(),
        interface: interface.map(str::to_owned),
        ..Port::default()
    }
}

fn pair() -> Pair {
    Pair {
        name: "vm1".to_owned(),
        vm_id: 1,
        role: "primary".to_owned(),
        key: Key::File {
            path: "/etc/colo/vm1.key".to_owned(),
            ids: vec!["0011223344556677".to_owned()],
            fault: None,
        },
        qmp: Some("/run/colo/pvm.qmp".to_owned()),
        compare_timeout_ms: 3000,
        hold_frames: 16_384,
        flows: 65_536,
        heartbeat_ms: 20,
        heartbeat_loss: 25,
        peer_stall_limit_ms: 5000,
        restart_limit_ms: 30_000,
        on_peer_lost: "hold".to_owned(),
        failover: "manual".to_owned(),
        ports: vec![
            Port {
                socket: Some("/run/colo/pvm.sock".to_owned()),
                listens: true,
                ..port("guest", "net_vhost0", None)
            },
            port("uplink", "net_af_packet1", Some("eth0")),
            port("link", "net_af_packet0", Some("link0")),
        ],
        ..Pair::default()
    }
}

fn file(kind: Kind, mode: u32, user: u32) -> File {
    File {
        kind,
        mode,
        user,
        group: user,
    }
}

fn interface(mtu: u32) -> Option<Interface> {
    Some(Interface {
        mtu,
        up: true,
        carrier: Some(true),
        numa: Some(0),
    })
}

/// A node of one pair on a sound host, before it starts.
fn before() -> Facts {
    let lcore = |id, cpu, work, pairs: &[&str]| Lcore {
        id,
        cpus: vec![cpu],
        work,
        pairs: pairs.iter().map(|pair| (*pair).to_owned()).collect(),
    };
    let mut facts = Facts::default();
    let host = &mut facts.host;
    host.user = Some((990, vec![990, 36]));
    host.hugepages = Some(vec![HugePool {
        page: 2 * MIB,
        total: 512,
        free: 512,
        free_of_node: BTreeMap::from([(0, 512)]),
    }]);
    host.mounts = vec![Mount {
        path: "/dev/hugepages".to_owned(),
        page: Some(2 * MIB),
    }];
    host.cpus = Some(Cpus {
        online: vec![0, 1, 2, 3, 4, 5, 6, 7],
        isolated: vec![2, 3],
        allowed: Some(vec![0, 1, 2, 3, 4, 5, 6, 7]),
        siblings: (0..8)
            .map(|cpu| (cpu, vec![cpu % 4, cpu % 4 + 4]))
            .collect(),
        numa: (0..8).map(|cpu| (cpu, 0)).collect(),
    });
    host.pinned = vec![PinnedThread {
        cpu: 5,
        pid: 700,
        name: "pmd-c05".to_owned(),
    }];
    host.interfaces = BTreeMap::from([
        ("eth0".to_owned(), interface(1500)),
        ("link0".to_owned(), interface(9000)),
    ]);
    host.files = BTreeMap::from([
        ("/etc/colo/vm1.key".to_owned(), file(Kind::File, 0o600, 990)),
        ("/run/colo".to_owned(), file(Kind::Directory, 0o770, 990)),
        ("/run/colo/pvm.sock".to_owned(), file(Kind::Missing, 0, 0)),
        (
            "/run/colo/pvm.qmp".to_owned(),
            file(Kind::Socket, 0o770, 990),
        ),
        (
            "/run/colo/control.sock".to_owned(),
            file(Kind::Missing, 0, 0),
        ),
        (
            "/var/lib/colo".to_owned(),
            file(Kind::Directory, 0o750, 990),
        ),
    ]);
    host.clock = Some(Clock {
        unix_s: 1e9,
        source: "tsc".to_owned(),
        missing_flags: Vec::new(),
        keeper: Some("chronyd".to_owned()),
    });
    facts.node = Some(Node {
        version: "0.1.0".to_owned(),
        memory: Memory {
            hugepages: true,
            needed: 200 * MIB,
            least: 40 * MIB,
            pools: vec![Pool {
                pair: "vm1".to_owned(),
                purpose: "output".to_owned(),
                asked: 20_480,
                made: None,
                bytes: 50 * MIB,
            }],
            ..Memory::default()
        },
        lcores: vec![
            lcore(2, 2, Work::Waits, &[]),
            lcore(3, 3, Work::Polls, &["vm1"]),
        ],
        control: Some("/run/colo/control.sock".to_owned()),
        directories: vec!["/var/lib/colo".to_owned()],
        pairs: vec![pair()],
        ..Node::default()
    });
    facts.seen.insert(
        "vm1".to_owned(),
        Seen {
            monitor: Monitor::Free,
            qemu: Some(qemu()),
            process: Some(Process {
                pid: 800,
                user: 64_055,
                groups: vec![64_055, 990],
            }),
            ..Seen::default()
        },
    );
    facts
}

fn qemu() -> Qemu {
    Qemu {
        version: Some((7, 2, 22)),
        capabilities: BTreeMap::from([
            ("x-colo".to_owned(), true),
            ("return-path".to_owned(), false),
            ("events".to_owned(), true),
        ]),
        checkpoint_delay: Some(86_400_000),
        migration: None,
        run: Some("running".to_owned()),
        ram: vec![Ram {
            id: "mem".to_owned(),
            size: 4096 * MIB,
            shared: true,
        }],
        nics: vec![Nic {
            path: "/machine/peripheral-anon/device[0]".to_owned(),
            guest_announce: Some(false),
            mac: Some("52:54:00:12:34:56".to_owned()),
        }],
        disks: vec![Disk {
            name: "disk".to_owned(),
            driver: "quorum".to_owned(),
        }],
    }
}

/// The same while it runs and protects.
fn running() -> Facts {
    let mut facts = before();
    let node = facts.node.as_mut().expect("a node");
    node.pid = Some(900);
    node.memory.pools[0].made = Some(20_480);
    let files = &mut facts.host.files;
    files.insert(
        "/run/colo/pvm.sock".to_owned(),
        file(Kind::Socket, 0o770, 990),
    );
    files.insert(
        "/run/colo/control.sock".to_owned(),
        file(Kind::Socket, 0o600, 990),
    );
    let seen = facts.seen.get_mut("vm1").expect("a pair");
    seen.monitor = Monitor::Ours;
    seen.qemu.as_mut().expect("it answers").migration = Some("colo".to_owned());
    seen.status = Some(Status {
        role: "primary".to_owned(),
        state: "protected".to_owned(),
        todo: None,
        monitor: "connected".to_owned(),
        migration: "colo".to_owned(),
        ring: Some(true),
        peer_heard: Some(true),
        refused: None,
    });
    facts
}

/// The same with what the other host's doctor has printed.
fn with_peer() -> Facts {
    let mut facts = running();
    let mut peer = running();
    peer.host.clock.as_mut().expect("a clock").unix_s -= 3.0;
    let pair = &mut peer.node.as_mut().expect("a node").pairs[0];
    pair.role = "secondary".to_owned();
    let seen = peer.seen.get_mut("vm1").expect("a pair");
    seen.status.as_mut().expect("a status").role = "secondary".to_owned();
    seen.qemu.as_mut().expect("it answers").disks[0].driver = "replication".to_owned();
    facts.peer = Some(Box::new(peer));
    facts
}

/// A mistake: what it is called, the set-up into which it is sown, how, and the findings: the name of each, and words
/// of its advice.
struct Mistake {
    name: &'static str,
    setup: fn() -> Facts,
    sow: fn(&mut Facts),
    finds: &'static [(&'static str, &'static str)],
}

fn node(facts: &mut Facts) -> &mut Node {
    facts.node.as_mut().expect("a node")
}

fn cpus(facts: &mut Facts) -> &mut Cpus {
    facts.host.cpus.as_mut().expect("CPUs")
}

fn seen(facts: &mut Facts) -> &mut Seen {
    facts.seen.get_mut("vm1").expect("a pair")
}

fn its_qemu(facts: &mut Facts) -> &mut Qemu {
    seen(facts).qemu.as_mut().expect("it answers")
}

fn status(facts: &mut Facts) -> &mut Status {
    seen(facts).status.as_mut().expect("a status")
}

fn refuses(facts: &mut Facts, why: &str) {
    status(facts).peer_heard = Some(false);
    status(facts).refused = Some(Refused {
        why: why.to_owned(),
        ago_s: 0.5,
    });
}

fn peer(facts: &mut Facts) -> &mut Facts {
    facts.peer.as_mut().expect("a peer")
}

fn put(facts: &mut Facts, path: &str, kind: Kind, mode: u32, user: u32) {
    facts
        .host
        .files
        .insert(path.to_owned(), file(kind, mode, user));
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "hugetlbfs is not mounted",
        setup: before,
        sow: |facts| facts.host.mounts.clear(),
        finds: &[("hugepages-not-mounted", "mount -t hugetlbfs")],
    },
    Mistake {
        name: "--huge-dir names a directory that is no mount",
        setup: before,
        sow: |facts| node(facts).memory.huge_dir = Some("/mnt/huge".to_owned()),
        finds: &[(
            "hugepages-not-mounted",
            "mount -t hugetlbfs nodev /mnt/huge",
        )],
    },
    Mistake {
        name: "no hugepages are reserved",
        setup: before,
        sow: |facts| {
            let pool = &mut facts.host.hugepages.as_mut().expect("pools")[0];
            (pool.total, pool.free) = (0, 0);
        },
        finds: &[("hugepages-none", "vm.nr_hugepages")],
    },
    Mistake {
        name: "other programs have most of the hugepages",
        setup: before,
        sow: |facts| facts.host.hugepages.as_mut().expect("pools")[0].free = 60,
        finds: &[("hugepages-few", "100 pages of 2 MiB more")],
    },
    Mistake {
        name: "the hugepages are on the other NUMA node",
        setup: before,
        sow: |facts| {
            let pool = &mut facts.host.hugepages.as_mut().expect("pools")[0];
            pool.free_of_node = BTreeMap::from([(0, 10), (1, 502)]);
        },
        finds: &[("hugepages-numa", "/sys/devices/system/node/node0/hugepages")],
    },
    Mistake {
        name: "--no-huge without -m",
        setup: before,
        sow: |facts| {
            let memory = &mut node(facts).memory;
            (memory.hugepages, memory.megabytes) = (false, Some(64));
        },
        finds: &[("pools-too-small", "-m 200")],
    },
    Mistake {
        name: "-m below what a node starts with",
        setup: before,
        sow: |facts| {
            let memory = &mut node(facts).memory;
            (memory.hugepages, memory.megabytes) = (false, Some(32));
        },
        finds: &[("memory-too-small", "-m 200")],
    },
    Mistake {
        name: "pools are smaller than asked for",
        setup: running,
        sow: |facts| node(facts).memory.pools[0].made = Some(2560),
        finds: &[("pools-too-small", "vm.nr_hugepages")],
    },
    Mistake {
        name: "guest memory is not shared",
        setup: before,
        sow: |facts| its_qemu(facts).ram[0].shared = false,
        finds: &[("memory-not-shared", "share=on")],
    },
    Mistake {
        name: "guest_announce is left on",
        setup: before,
        sow: |facts| its_qemu(facts).nics[0].guest_announce = Some(true),
        finds: &[("guest-announce", "guest_announce=off")],
    },
    Mistake {
        name: "the guest's ring stands",
        setup: running,
        sow: |facts| status(facts).ring = Some(false),
        finds: &[("ring-stands", "-netdev vhost-user")],
    },
    Mistake {
        name: "QEMU's release never enters COLO",
        setup: before,
        sow: |facts| its_qemu(facts).version = Some((10, 0, 2)),
        finds: &[("qemu-never-enters-colo", "10.0.7")],
    },
    Mistake {
        name: "QEMU's build has no COLO",
        setup: before,
        sow: |facts| {
            its_qemu(facts)
                .capabilities
                .retain(|name, _| name != "x-colo")
        },
        finds: &[("qemu-no-colo", "CONFIG_REPLICATION")],
    },
    Mistake {
        name: "x-colo is off",
        setup: before,
        sow: |facts| {
            its_qemu(facts)
                .capabilities
                .extend([("x-colo".to_owned(), false)])
        },
        finds: &[("x-colo-off", "migrate-set-capabilities")],
    },
    Mistake {
        name: "return-path is on before 11.0",
        setup: before,
        sow: |facts| {
            its_qemu(facts)
                .capabilities
                .extend([("return-path".to_owned(), true)])
        },
        finds: &[("return-path-set", "\"state\": false")],
    },
    Mistake {
        name: "return-path is off in 11.1",
        setup: before,
        sow: |facts| its_qemu(facts).version = Some((11, 1, 3)),
        finds: &[("return-path-missing", "\"state\": true")],
    },
    Mistake {
        name: "another program has the monitor, before the start",
        setup: before,
        sow: |facts| {
            (seen(facts).monitor, seen(facts).qemu, seen(facts).process) =
                (Monitor::Mute, None, None)
        },
        finds: &[("monitor-taken", "ss -xp | grep /run/colo/pvm.qmp")],
    },
    Mistake {
        name: "another program has the monitor of a running node",
        setup: running,
        sow: |facts| {
            status(facts).monitor = "absent".to_owned();
            (seen(facts).monitor, seen(facts).qemu) = (Monitor::Mute, None);
        },
        finds: &[("monitor-taken", "a second -qmp")],
    },
    Mistake {
        name: "QEMU listens at its vhost-user socket and waits for its node",
        setup: before,
        sow: |facts| {
            (seen(facts).monitor, seen(facts).qemu) = (Monitor::Mute, None);
            node(facts).pairs[0].ports[0].listens = false;
            put(facts, "/run/colo/pvm.sock", Kind::Socket, 0o600, 0);
        },
        finds: &[("qemu-waits", "start the node")],
    },
    Mistake {
        name: "QEMU was started first and waits for its vhost-user socket",
        setup: before,
        sow: |facts| (seen(facts).monitor, seen(facts).qemu) = (Monitor::Mute, None),
        finds: &[("qemu-waits", "start the node")],
    },
    Mistake {
        name: "QEMU has no monitor there",
        setup: before,
        sow: |facts| (seen(facts).monitor, seen(facts).qemu) = (Monitor::Missing, None),
        finds: &[("monitor-missing", "server=on,wait=off")],
    },
    Mistake {
        name: "QEMU has ended and left its socket",
        setup: before,
        sow: |facts| (seen(facts).monitor, seen(facts).qemu) = (Monitor::Dead, None),
        finds: &[("monitor-dead", "start QEMU")],
    },
    Mistake {
        name: "the monitor belongs to another user",
        setup: before,
        sow: |facts| (seen(facts).monitor, seen(facts).qemu) = (Monitor::Denied, None),
        finds: &[("monitor-rights", "group")],
    },
    Mistake {
        name: "the directory of the vhost-user socket is missing",
        setup: before,
        sow: |facts| {
            put(facts, "/run/colo", Kind::Missing, 0, 0);
            node(facts).control = None;
        },
        finds: &[("directory-missing", "install -d -m 0750 /run/colo")],
    },
    Mistake {
        name: "the node's user may not write where its sockets go",
        setup: before,
        sow: |facts| {
            put(facts, "/run/colo", Kind::Directory, 0o755, 0);
            node(facts).control = None;
        },
        finds: &[("directory-rights", "chown")],
    },
    Mistake {
        name: "QEMU's user may not connect to the vhost-user socket",
        setup: running,
        sow: |facts| put(facts, "/run/colo/pvm.sock", Kind::Socket, 0o755, 0),
        finds: &[("vhost-socket-rights", "chmod g+w")],
    },
    Mistake {
        name: "a socket's path is too long",
        setup: before,
        sow: |facts| node(facts).pairs[0].ports[0].socket = Some("/x".repeat(54)),
        finds: &[("socket-path-long", "shorter")],
    },
    Mistake {
        name: "everybody may use the control socket",
        setup: running,
        sow: |facts| put(facts, "/run/colo/control.sock", Kind::Socket, 0o666, 990),
        finds: &[("control-socket-rights", "chmod o-rwx")],
    },
    Mistake {
        name: "the control socket's group may not enter its directory",
        setup: running,
        sow: |facts| {
            node(facts).control_group = Some("haclient".to_owned());
            put(facts, "/run/colo", Kind::Directory, 0o700, 990);
        },
        finds: &[("control-socket-hidden", "--control")],
    },
    Mistake {
        name: "the records' directory is a file",
        setup: before,
        sow: |facts| put(facts, "/var/lib/colo", Kind::File, 0o600, 990),
        finds: &[("directory-is-file", "another directory")],
    },
    Mistake {
        name: "the key file can be read by others",
        setup: before,
        sow: |facts| put(facts, "/etc/colo/vm1.key", Kind::File, 0o644, 990),
        finds: &[("key-mode", "chmod 600 /etc/colo/vm1.key")],
    },
    Mistake {
        name: "there is no key file",
        setup: before,
        sow: |facts| put(facts, "/etc/colo/vm1.key", Kind::Missing, 0, 0),
        finds: &[("key-missing", "--make-link-key /etc/colo/vm1.key")],
    },
    Mistake {
        name: "the key file holds no key",
        setup: before,
        sow: |facts| {
            node(facts).pairs[0].key = Key::File {
                path: "/etc/colo/vm1.key".to_owned(),
                ids: Vec::new(),
                fault: Some("line 1 is no key".to_owned()),
            }
        },
        finds: &[("key-unusable", "--make-link-key")],
    },
    Mistake {
        name: "the link has no key",
        setup: before,
        sow: |facts| node(facts).pairs[0].key = Key::Trusted,
        finds: &[("link-trusted", "--make-link-key")],
    },
    Mistake {
        name: "the other host has another key",
        setup: running,
        sow: |facts| refuses(facts, "other_key"),
        finds: &[("link-refuses", "copy the key file")],
    },
    Mistake {
        name: "both nodes are primaries",
        setup: running,
        sow: |facts| refuses(facts, "same_role"),
        finds: &[("link-refuses", "--role secondary")],
    },
    Mistake {
        name: "nothing comes from the other host",
        setup: running,
        sow: |facts| status(facts).peer_heard = Some(false),
        finds: &[("peer-silent", "0x88b5")],
    },
    Mistake {
        name: "the link's MTU is that of an Ethernet",
        setup: before,
        sow: |facts| {
            facts
                .host
                .interfaces
                .extend([("link0".to_owned(), interface(1500))])
        },
        finds: &[("link-mtu", "mtu 1604")],
    },
    Mistake {
        name: "the link's ring is too short for its interface's MTU",
        setup: before,
        sow: |facts| {
            facts
                .host
                .interfaces
                .extend([("eth0".to_owned(), interface(8000))]);
            let link = &mut node(facts).pairs[0].ports[2];
            (link.driver, link.mtu) = ("net_af_packet".to_owned(), Some(1964));
        },
        finds: &[("link-mtu", "framesz=16384")],
    },
    Mistake {
        name: "the uplink's MTU is lower than --mtu",
        setup: before,
        sow: |facts| node(facts).pairs[0].mtu = Some(8000),
        finds: &[("uplink-mtu", "ip link set dev eth0 mtu 8000")],
    },
    Mistake {
        name: "the link's interface is missing",
        setup: before,
        sow: |facts| facts.host.interfaces.extend([("link0".to_owned(), None)]),
        finds: &[("interface-missing", "ip link")],
    },
    Mistake {
        name: "the uplink's interface is down",
        setup: before,
        sow: |facts| {
            let down = Interface {
                up: false,
                mtu: 1500,
                ..Interface::default()
            };
            facts
                .host
                .interfaces
                .extend([("eth0".to_owned(), Some(down))]);
        },
        finds: &[("interface-down", "ip link set dev eth0 up")],
    },
    Mistake {
        name: "the link's cable is out",
        setup: before,
        sow: |facts| {
            let link = facts.host.interfaces.get_mut("link0").expect("it is there");
            link.as_mut().expect("it is there").carrier = Some(false);
        },
        finds: &[("interface-no-carrier", "cable")],
    },
    Mistake {
        name: "an lcore's CPU is offline",
        setup: before,
        sow: |facts| cpus(facts).online.retain(|cpu| *cpu != 3),
        finds: &[("lcore-offline", "/online")],
    },
    Mistake {
        name: "a cpuset keeps the node off its lcore's CPU",
        setup: before,
        sow: |facts| cpus(facts).allowed = Some(vec![0, 1, 2]),
        finds: &[("lcore-not-allowed", "AllowedCPUs=")],
    },
    Mistake {
        name: "two lcores share a CPU",
        setup: before,
        sow: |facts| {
            let lcores = &mut node(facts).lcores;
            lcores[0].work = Work::Compares;
            lcores[0].cpus = vec![3];
        },
        finds: &[("lcores-share", "-l A,B,C")],
    },
    Mistake {
        name: "another program's thread is bound to the lcore's CPU",
        setup: before,
        sow: |facts| facts.host.pinned[0].cpu = 3,
        finds: &[("cpu-shared", "vcpupin")],
    },
    Mistake {
        name: "the lcore's CPU is not isolated",
        setup: before,
        sow: |facts| cpus(facts).isolated.clear(),
        finds: &[("cpu-not-isolated", "isolcpus=3")],
    },
    Mistake {
        name: "two lcores are threads of one core",
        setup: before,
        sow: |facts| {
            cpus(facts).isolated = vec![3, 7];
            let lcores = &mut node(facts).lcores;
            lcores[0].work = Work::Compares;
            lcores[0].cpus = vec![7];
        },
        finds: &[("lcores-smt", "thread_siblings_list")],
    },
    Mistake {
        name: "a port is on another NUMA node than its lcore",
        setup: before,
        sow: |facts| node(facts).pairs[0].ports[1].numa = Some(1),
        finds: &[("port-numa", "NUMA node 1")],
    },
    Mistake {
        name: "a disk is not replicated",
        setup: before,
        sow: |facts| its_qemu(facts).disks[0].driver = "qcow2".to_owned(),
        finds: &[("disk-not-replicated", "quorum")],
    },
    Mistake {
        name: "the TSC stops",
        setup: before,
        sow: |facts| {
            let clock = facts.host.clock.as_mut().expect("a clock");
            clock.missing_flags = vec!["nonstop_tsc".to_owned()];
        },
        finds: &[("tsc-unsteady", "invtsc")],
    },
    Mistake {
        name: "the other host's clock is ahead",
        setup: with_peer,
        sow: |facts| peer(facts).host.clock.as_mut().expect("a clock").unix_s += 63.0,
        finds: &[("clocks-apart", "chrony")],
    },
    Mistake {
        name: "the other host has another release of dpdk-colo",
        setup: with_peer,
        sow: |facts| node(peer(facts)).version = "0.2.0".to_owned(),
        finds: &[("peer-version", "same release")],
    },
    Mistake {
        name: "the other host's options have another key, by its name",
        setup: with_peer,
        sow: |facts| {
            node(peer(facts)).pairs[0].key = Key::File {
                path: "/etc/colo/vm1.key".to_owned(),
                ids: vec!["8899aabbccddeeff".to_owned()],
                fault: None,
            }
        },
        finds: &[("peer-settings", "copy the file")],
    },
    Mistake {
        name: "the other node has another heartbeat",
        setup: with_peer,
        sow: |facts| node(peer(facts)).pairs[0].heartbeat_ms = 100,
        finds: &[("peer-settings", "give both nodes the same")],
    },
    Mistake {
        name: "the other node decides by itself, and this one does not",
        setup: with_peer,
        sow: |facts| {
            let pair = &mut node(peer(facts)).pairs[0];
            pair.failover = "auto".to_owned();
            pair.on_peer_lost = "exec:/etc/colo/fence".to_owned();
        },
        finds: &[("peer-settings", "the same"), ("peer-settings", "the same")],
    },
    Mistake {
        name: "the other node has another --vm-id",
        setup: with_peer,
        sow: |facts| node(peer(facts)).pairs[0].vm_id = 2,
        finds: &[("peer-settings", "same id")],
    },
    Mistake {
        name: "the other QEMU is of another release",
        setup: with_peer,
        sow: |facts| its_qemu(peer(facts)).version = Some((8, 2, 2)),
        finds: &[("peer-qemu", "same release")],
    },
    Mistake {
        name: "the other QEMU has less memory",
        setup: with_peer,
        sow: |facts| its_qemu(peer(facts)).ram[0].size = 2048 * MIB,
        finds: &[("peer-memory", "same -m")],
    },
    Mistake {
        name: "the other QEMU's NIC has another MAC address",
        setup: with_peer,
        sow: |facts| its_qemu(peer(facts)).nics[0].mac = Some("52:54:00:12:34:57".to_owned()),
        finds: &[("peer-mac", "mac=")],
    },
];

#[test]
fn a_sound_set_up_has_no_finding() {
    for facts in [before(), running(), with_peer()] {
        let found = examine(&facts);
        assert!(found.is_empty(), "{}", text(&found));
        assert!(is_sound(&found));
        // What is unknown is no mistake.
        let node = Facts {
            node: facts.node.clone(),
            ..Facts::default()
        };
        assert!(examine(&node).is_empty(), "{}", text(&examine(&node)));
    }
    assert!(examine(&Facts::default()).is_empty());
}

#[test]
fn what_a_session_before_has_sent_is_no_mistake_while_the_peer_is_heard() {
    let mut facts = running();
    refuses(&mut facts, "stale");
    status(&mut facts).peer_heard = Some(true);
    assert!(examine(&facts).is_empty(), "{}", text(&examine(&facts)));
    status(&mut facts).peer_heard = Some(false);
    assert!(
        !is_sound(&examine(&facts)),
        "it comes from the only peer there is"
    );
    refuses(&mut facts, "garbled");
    status(&mut facts).peer_heard = Some(true);
    assert!(!is_sound(&examine(&facts)), "somebody else sends that");
}

#[test]
fn each_mistake_is_found_with_its_advice_and_nothing_else_is() {
    assert!(MISTAKES.len() >= 15);
    for mistake in MISTAKES {
        let mut facts = (mistake.setup)();
        (mistake.sow)(&mut facts);
        let found = examine(&facts);
        let names: Vec<&str> = found.iter().map(|finding| &*finding.check).collect();
        let wanted: Vec<&str> = mistake.finds.iter().map(|(check, _)| *check).collect();
        assert_eq!(names, wanted, "{}:\n{}", mistake.name, text(&found));
        // What `coloctl protect` sets by itself is no more than a note.
        let noted =
            |check: &&str| ["x-colo-off", "return-path-set", "return-path-missing"].contains(check);
        assert_eq!(
            is_sound(&found),
            wanted.iter().all(noted),
            "{}",
            mistake.name
        );
        for (finding, (_, advice)) in found.iter().zip(mistake.finds) {
            assert!(
                finding.todo.contains(advice),
                "{}: {advice:?} is not in {:?}",
                mistake.name,
                finding.todo
            );
            assert!(!finding.place.is_empty() && !finding.what.contains('\n'));
        }
    }
}

#[test]
fn the_document_lists_each_mistake_and_each_check() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/doctor.md");
    let document = std::fs::read_to_string(path).expect("the document");
    for mistake in MISTAKES {
        for (check, _) in mistake.finds {
            let row = format!("| {} | `{check}`", mistake.name);
            assert!(document.contains(&row), "docs/doctor.md has no row {row:?}");
        }
    }
}

#[test]
fn facts_survive_the_way_to_the_other_host() {
    let facts = with_peer();
    let printed = serde_json::to_string(&facts).expect("JSON");
    let read = colo_doctor::collect::read_facts(&printed).expect("the same");
    assert_eq!(read, facts);
}

#[test]
fn a_core_that_sleeps_may_share_its_cpu() {
    let mut facts = before();
    cpus(&mut facts).isolated.clear();
    node(&mut facts).idle_sleep_us = 100;
    let found = examine(&facts);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, Severity::Note);
    assert!(is_sound(&found) && text(&found).ends_with("nothing is wrong\n"));
}
