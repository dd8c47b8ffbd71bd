//! The collectors over a directory that looks like a host.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use colo_doctor::Facts;
use colo_doctor::collect::{Root, complete, host, qemu_process};
use colo_doctor::examine;
use colo_doctor::facts::{Key, Kind, Lcore, Memory, Node, Pair, Port, Work};

const STATUS: &str = "Name:\tdpdk-colo\nUid:\t990\t991\t990\t990\nGid:\t990\t990\t990\t990\nGroups:\t36 109 \n\
                      Cpus_allowed_list:\t0-2\n";

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    root
}

fn host_tree() -> tempfile::TempDir {
    tree(&[
        ("proc/sys/kernel/hostname", "alpha\n"),
        ("proc/self/status", STATUS),
        ("proc/self/cgroup", "0::/system.slice/dpdk-colo.service\n"),
        (
            "proc/self/mounts",
            "none / ext4 rw 0 0\nnodev /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n",
        ),
        (
            "proc/cpuinfo",
            "processor: 0\nflags\t\t: fpu tsc constant_tsc\n",
        ),
        ("proc/17/comm", "chronyd\n"),
        ("proc/17/cmdline", "/usr/sbin/chronyd\0-F\0"),
        (
            "proc/17/task/17/status",
            "Name:\tchronyd\nCpus_allowed_list:\t0-3\n",
        ),
        ("proc/18/comm", "CPU 0/KVM\n"),
        (
            "proc/18/cmdline",
            "qemu-system-x86_64\0-chardev\0socket,id=v,path=/run/colo/p.sock,reconnect=1\0-qmp\0unix:/run/colo/p.qmp,server=on\0",
        ),
        (
            "proc/18/status",
            "Uid:\t64055\t64055\nGid:\t64055\t64055\nGroups:\t109\n",
        ),
        (
            "proc/18/task/18/status",
            "Name:\tqemu\nCpus_allowed_list:\t0-3\n",
        ),
        (
            "proc/18/task/19/status",
            "Name:\tCPU 0/KVM\nCpus_allowed_list:\t2\n",
        ),
        ("proc/20/cmdline", ""),
        (
            "proc/20/task/20/status",
            "Name:\tksoftirqd/2\nCpus_allowed_list:\t2\n",
        ),
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("sys/devices/system/cpu/isolated", "\n"),
        (
            "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
            "2,3\n",
        ),
        ("sys/devices/system/node/node0/cpulist", "0-1\n"),
        ("sys/devices/system/node/node1/cpulist", "2-3\n"),
        (
            "sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages",
            "7\n",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc\n",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "64\n",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
            "32\n",
        ),
        (
            "sys/fs/cgroup/system.slice/dpdk-colo.service/cpuset.cpus.partition",
            "isolated\n",
        ),
        (
            "sys/fs/cgroup/system.slice/dpdk-colo.service/cpuset.cpus.effective",
            "1-2\n",
        ),
        ("sys/class/net/link0/mtu", "1500\n"),
        ("sys/class/net/link0/flags", "0x1003\n"),
        ("sys/class/net/link0/carrier", "1\n"),
        ("sys/class/net/link0/device/numa_node", "-1\n"),
        ("sys/bus/pci/devices/0000:03:00.0/numa_node", "1\n"),
        ("etc/colo/key", "# secret\n"),
        ("run/colo/p.sock", "no socket\n"),
    ])
}

fn node() -> Node {
    let port = |place: &str, name: &str| Port {
        place: place.to_owned(),
        name: name.to_owned(),
        ..Port::default()
    };
    Node {
        memory: Memory {
            hugepages: true,
            needed: 32 << 20,
            least: 16 << 20,
            ..Memory::default()
        },
        lcores: vec![Lcore {
            id: 2,
            cpus: vec![2],
            work: Work::Polls,
            pairs: vec!["a".to_owned()],
        }],
        pairs: vec![Pair {
            name: "a".to_owned(),
            role: "primary".to_owned(),
            key: Key::File {
                path: "/etc/colo/key".to_owned(),
                ids: vec!["1".to_owned()],
                fault: None,
            },
            ports: vec![
                Port {
                    socket: Some("/run/colo/p.sock".to_owned()),
                    ..port("guest", "net_vhost0")
                },
                port("uplink", "03:00.0"),
                Port {
                    interface: Some("link0".to_owned()),
                    ..port("link", "net_af_packet0")
                },
            ],
            ..Pair::default()
        }],
        ..Node::default()
    }
}

fn set_mode(root: &Path, path: &str, mode: u32) {
    fs::set_permissions(root.join(path), Permissions::from_mode(mode)).expect("the owner may");
}

#[test]
fn a_host_is_read_as_it_is() {
    let tree = host_tree();
    set_mode(tree.path(), "etc/colo/key", 0o640);
    let root = Root::new(tree.path());
    let mut node = node();
    complete(&root, &mut node);
    assert_eq!(node.pairs[0].ports[1].numa, Some(1));
    assert_eq!(node.pairs[0].ports[2].numa, None);
    let host = host(&root, Some(&node));
    assert_eq!(host.name, "alpha");
    assert_eq!(host.user, Some((991, vec![990, 36, 109])));
    let pools = host.hugepages.expect("pools");
    assert_eq!(
        (pools[0].page, pools[0].total, pools[0].free),
        (2 << 20, 64, 32)
    );
    assert_eq!(pools[0].free_of_node.get(&1), Some(&7));
    assert_eq!(host.mounts[0].path, "/dev/hugepages");
    assert_eq!(host.mounts[0].page, Some(2 << 20));
    let cpus = host.cpus.expect("CPUs");
    assert_eq!(cpus.online, [0, 1, 2, 3]);
    assert_eq!(cpus.isolated, [1, 2]);
    assert_eq!(cpus.allowed, Some(vec![0, 1, 2]));
    assert_eq!(cpus.siblings.get(&2), Some(&vec![2, 3]));
    assert_eq!(cpus.numa.get(&3), Some(&1));
    let pinned: Vec<_> = host
        .pinned
        .iter()
        .map(|it| (it.cpu, it.pid, &*it.name))
        .collect();
    assert_eq!(pinned, [(2, 18, "CPU 0/KVM")]);
    let link = host.interfaces["link0"].as_ref().expect("it is there");
    assert_eq!(
        (link.mtu, link.up, link.carrier, link.numa),
        (1500, true, Some(true), None)
    );
    assert_eq!(host.files["/etc/colo/key"].kind, Kind::File);
    assert_eq!(host.files["/etc/colo/key"].mode, 0o640);
    assert_eq!(host.files["/run/colo"].kind, Kind::Directory);
    let clock = host.clock.expect("a clock");
    assert_eq!(clock.missing_flags, ["nonstop_tsc"]);
    assert_eq!(clock.keeper.as_deref(), Some("chronyd"));
    let process = qemu_process(&root, &["/run/colo/p.qmp"]).expect("it runs");
    assert_eq!((process.pid, process.user), (18, 64_055));
    assert_eq!(qemu_process(&root, &["/run/colo/p.qm"]), None);
}

#[test]
fn mistakes_of_a_host_reach_the_findings() {
    let tree = host_tree();
    set_mode(tree.path(), "etc/colo/key", 0o644);
    let root = Root::new(tree.path());
    let mut node = node();
    complete(&root, &mut node);
    let facts = Facts {
        host: host(&root, Some(&node)),
        node: Some(node),
        ..Facts::default()
    };
    let found = examine(&facts);
    let names: Vec<&str> = found.iter().map(|finding| &*finding.check).collect();
    assert_eq!(
        names,
        [
            "key-mode",
            "hugepages-numa",
            "link-mtu",
            "cpu-shared",
            "tsc-unsteady"
        ],
        "{}",
        colo_doctor::text(&found)
    );
}

#[test]
fn an_empty_host_gives_no_facts_and_no_findings() {
    let tree = tree(&[]);
    let root = Root::new(tree.path());
    let facts = Facts {
        host: host(&root, None),
        ..Facts::default()
    };
    assert_eq!(facts.host.cpus, None);
    assert_eq!(facts.host.hugepages, None);
    assert!(colo_doctor::is_sound(&examine(&facts)));
}
