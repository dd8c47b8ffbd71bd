//! Judges a command line without starting anything.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;

use colo_doctor::collect::{self, Root};
use colo_doctor::facts::{self as doctor, Key, Memory};
use colo_doctor::{Facts, Finding, Severity, examine, is_sound, text};

use super::eal_words::{EalWords, Vdev};
use super::facts::{lcores, of_settings, port};
use super::pools::{FRAME, plan};
use crate::config::{PairSettings, PortName, PortRole, Settings};
use crate::dpdk::PORTS_MAX;
use crate::dpdk::mempool::cost_before;
use crate::plan::{Carries, Device, Interface};

/// What a command line would make, and what is wrong with it.
pub struct Plan {
    facts: Facts,
    findings: Vec<Finding>,
}

/// Judges EAL's words, the program's name first, and settings.
pub fn check(eal: &[OsString], settings: &Settings) -> Plan {
    judge(eal, settings, &Root::default())
}

fn judge(eal: &[OsString], settings: &Settings, root: &Root) -> Plan {
    let words = EalWords::read(eal);
    let mut node = of_settings(settings);
    let host = collect::host(root, None);
    let allowed = host.cpus.as_ref().and_then(|cpus| cpus.allowed.clone());
    let all = words.lcores(&allowed.unwrap_or_default());
    let main = words.main_lcore.or(all.keys().next().copied());
    if let Some(main) = main {
        let workers: Vec<u32> = all.keys().copied().filter(|id| *id != main).collect();
        let cpus = |id| all.get(&id).cloned().unwrap_or_default();
        node.lcores = lcores(main, &workers, settings, cpus);
    }
    let mut found = Vec::new();
    if words.vdevs.len() > PORTS_MAX {
        let what = format!(
            "there are {} --vdev options, and this DPDK has {PORTS_MAX} ports",
            words.vdevs.len()
        );
        let todo = "let pairs share a link and an uplink, or run two processes".to_owned();
        found.push(wrong("ports-too-many", "the node", what, todo));
    }
    let mut buffers = HashMap::new();
    for (pair, settings) in node.pairs.iter_mut().zip(&settings.pairs) {
        for (place, name) in settings.ports() {
            let (device, faults) = device(&words, name, root);
            let asked = match place {
                PortRole::Guest | PortRole::Link => None,
                _ => settings.mtu,
            };
            let carries = device
                .one_queue()
                .and_then(|()| device.carries(asked, FRAME));
            let where_to = format!("pair {}: --{} {name}", pair.name, place.key());
            found.extend(faults.map(|(what, todo)| wrong("port-missing", &where_to, what, todo)));
            let carries = carries.unwrap_or_else(|fault| {
                let (what, todo) = (fault.to_string(), "change it as it says");
                found.push(wrong("port-device", &where_to, what, todo.to_owned()));
                Carries::default()
            });
            buffers.insert(name.clone(), carries.buffer.max(FRAME));
            pair.ports.push(port(place, name, &device, carries.mtu));
        }
    }
    let working = node
        .lcores
        .iter()
        .filter(|it| it.work == doctor::Work::Compares);
    let buffer = |place: PortRole, pair: &PairSettings| {
        let mut ports = pair.ports();
        let name = ports.find_map(|(at, name)| (at == place).then_some(name));
        name.and_then(|name| buffers.get(name))
            .copied()
            .unwrap_or(FRAME)
    };
    let pools = plan(settings, working.count(), buffer, |room| {
        cost_before(words.hugepages, room)
    });
    node.memory = Memory {
        hugepages: words.hugepages,
        in_memory: words.in_memory,
        huge_dir: words.huge_dir.clone(),
        megabytes: words.memory_mb(),
        needed: pools.needed,
        least: pools.least,
        pools: pools.pools,
    };
    collect::complete(root, &mut node);
    let facts = Facts {
        host: collect::host(root, Some(&node)),
        node: Some(node),
        ..Facts::default()
    };
    found.extend(examine(&facts));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Plan {
        facts,
        findings: found,
    }
}

fn wrong(check: &'static str, place: &str, what: String, todo: String) -> Finding {
    Finding {
        severity: Severity::Error,
        check: check.into(),
        place: place.to_owned(),
        what,
        todo,
    }
}

/// What a port's device will be, as far as words say, and why there is none.
fn device(words: &EalWords, name: &PortName, root: &Root) -> (Device, Option<(String, String)>) {
    let known = |device: &&Vdev| device.name == name.as_str();
    let Some(vdev) = words.vdevs.iter().find(known) else {
        // A PCI device of another driver may have limits that only DPDK knows.
        let any = Device {
            mtu: 1500,
            max_mtu: u16::MAX,
            scatters: true,
            ..Device::default()
        };
        let is_pci = name.as_str().contains(':');
        let fault = match is_pci && collect::has_pci_device(root, name.as_str()) {
            true => None,
            false if is_pci => Some((
                "there is no such PCI device".to_owned(),
                "`dpdk-devbind.py --status-dev net` lists those of this host".to_owned(),
            )),
            false => Some((
                "no --vdev makes it".to_owned(),
                format!(
                    "add --vdev {name},... before `--`, or name a port of another --vdev or a PCI address"
                ),
            )),
        };
        return (any, fault);
    };
    let value = |key: &str| {
        let mut words = vdev.arguments.split(',');
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let driver = vdev.name.trim_end_matches(|c: char| c.is_ascii_digit());
    let queues = ["queues", "qpairs", "queue_count"];
    let queues = queues.iter().find_map(|key| value(key)?.parse().ok());
    let interface = value("iface").filter(|_| driver.starts_with("net_af_"));
    let interface = interface.and_then(|name| {
        let mtu = collect::mtu(root, name)?;
        Some(Interface {
            name: name.to_owned(),
            mtu,
        })
    });
    let device = Device {
        driver: driver.to_owned(),
        arguments: vdev.arguments.clone(),
        queues: queues.unwrap_or(1),
        mtu: 1500,
        max_mtu: u16::MAX,
        interface,
        ..Device::default()
    };
    (device, None)
}

impl Plan {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        is_sound(&self.findings)
    }

    /// For a program: the facts, and the findings.
    pub fn json(&self) -> String {
        let value = serde_json::json!({
            "sound": self.is_sound(),
            "findings": self.findings,
            "facts": self.facts,
        });
        format!("{value}\n")
    }

    /// For a reader: the settings in force, the memory of each pair, the findings.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Some(node) = &self.facts.node else {
            return Ok(());
        };
        for lcore in &node.lcores {
            let cpus: Vec<String> = lcore.cpus.iter().map(u32::to_string).collect();
            let work = match lcore.work {
                doctor::Work::Waits => "waits".to_owned(),
                doctor::Work::Polls => format!("polls {}", lcore.pairs.join(", ")),
                doctor::Work::Compares => "compares".to_owned(),
            };
            writeln!(out, "lcore {} on CPU {}: {work}", lcore.id, cpus.join(","))?;
        }
        let memory = &node.memory;
        let kind = match memory.hugepages {
            true => "of hugepages",
            false => "without hugepages",
        };
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let (needed, least) = (megabytes(memory.needed), megabytes(memory.least));
        writeln!(
            out,
            "memory: {needed} MB {kind} for all packet buffers, {least} MB at the least"
        )?;
        for pair in &node.pairs {
            self.write_pair(out, node, pair)?;
        }
        out.push_str(&text(&self.findings));
        Ok(())
    }

    fn write_pair(
        &self,
        out: &mut String,
        node: &doctor::Node,
        pair: &doctor::Pair,
    ) -> std::fmt::Result {
        writeln!(
            out,
            "pair {}: {}, vm-id {}",
            pair.name, pair.role, pair.vm_id
        )?;
        for port in &pair.ports {
            let behind = port.interface.as_ref().or(port.socket.as_ref());
            let behind = behind.map_or(String::new(), |behind| format!(" ({behind})"));
            let mtu = port.mtu.map_or(String::new(), |mtu| format!(", MTU {mtu}"));
            let sharers = node.pairs.iter().flat_map(|pair| &pair.ports);
            let shared = match sharers.filter(|other| other.name == port.name).count() {
                0 | 1 => String::new(),
                n => format!(", shared by {n} pairs"),
            };
            let (place, name) = (&port.place, &port.name);
            writeln!(out, "  {place:<16} {name}{behind}{mtu}{shared}")?;
        }
        let key = match &pair.key {
            Key::Absent => None,
            Key::Trusted => Some("none".to_owned()),
            Key::File { path, ids, .. } => Some(format!("{path}, key {}", ids.join(" and "))),
        };
        for (name, value) in [
            ("link-key", key),
            ("qmp", pair.qmp.clone()),
            (
                "compare-timeout",
                Some(format!("{} ms", pair.compare_timeout_ms)),
            ),
            ("hold-frames", Some(pair.hold_frames.to_string())),
            ("flows", Some(pair.flows.to_string())),
            (
                "policy",
                Some(pair.policy.join(", ")).filter(|rules| !rules.is_empty()),
            ),
        ] {
            if let Some(value) = value {
                writeln!(out, "  {name:<16} {value}")?;
            }
        }
        if pair.role != "compare" {
            let lost = pair.heartbeat_ms * pair.heartbeat_loss;
            let (every, missing) = (pair.heartbeat_ms, pair.heartbeat_loss);
            writeln!(
                out,
                "  {:<16} every {every} ms; the peer is lost after {missing}: {lost} ms",
                "heartbeat"
            )?;
            let (failover, action) = (&pair.failover, &pair.on_peer_lost);
            writeln!(
                out,
                "  {:<16} {failover}, on-peer-lost {action}",
                "failover"
            )?;
        }
        let memory = node.memory.pools.iter();
        let own: Vec<_> = memory.filter(|pool| pool.pair == pair.name).collect();
        let bytes: u64 = own.iter().map(|pool| pool.bytes).sum();
        let pools: Vec<String> = own
            .iter()
            .map(|pool| format!("{} {}", pool.purpose, pool.asked))
            .collect();
        writeln!(
            out,
            "  {:<16} {} MB in packet buffers: {}",
            "memory",
            bytes.div_ceil(1 << 20),
            pools.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, Options, split};

    fn judged(line: &str, root: &Root) -> Plan {
        let halves = split(line.split_whitespace().map(OsString::from)).expect(line);
        let Ok(Command::Run(options)) = Options::parse(halves.app) else {
            panic!("{line}");
        };
        let settings = options.settings().expect(line);
        judge(&halves.eal, &settings, root)
    }

    fn checks(plan: &Plan) -> Vec<&str> {
        plan.findings
            .iter()
            .map(|finding| &*finding.check)
            .collect()
    }

    const COMPARE: &str =
        "--role compare --primary-in net_null0 --secondary-in net_null1 --out net_null2";
    const NULLS: &str = "--vdev net_null0 --vdev=net_null1 --vdev net_null2";

    #[test]
    fn a_sound_line_shows_its_settings_and_its_memory() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path());
        let plan = judged(
            &format!("p -l 2,3 --no-huge -m 512 {NULLS} -- {COMPARE}"),
            &root,
        );
        assert!(plan.is_sound(), "{}", plan.text());
        let text = plan.text();
        for line in [
            "lcore 2 on CPU 2: waits",
            "lcore 3 on CPU 3: polls vm0",
            "pair vm0: compare, vm-id 0",
            "  hold-frames      16384",
            "  compare-timeout  3000 ms",
            "nothing is wrong",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line:?} is not in\n{text}"
            );
        }
        assert!(
            text.contains("MB in packet buffers: cutting 2048, primary 20480"),
            "{text}"
        );
        let value: serde_json::Value = serde_json::from_str(&plan.json()).expect("JSON");
        assert_eq!(value["sound"], true);
        assert_eq!(value["facts"]["node"]["pairs"][0]["hold_frames"], 16_384);
    }

    #[test]
    fn pairs_that_share_ports_are_named_with_what_each_takes() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path());
        let path = dir.path().join("colo.toml");
        let judged_with = |pairs: usize| {
            let mut file = String::from(
                "role = 'primary'\nlink = 'net_vhost90'\nuplink = 'net_vhost91'\nlink-key = '/k'\n",
            );
            let mut line = "p -l 2,3 --no-huge -m 9000 --vdev net_vhost90,iface=/l \
                            --vdev net_vhost91,iface=/u"
                .to_owned();
            for n in 0..pairs {
                file.push_str(&format!(
                    "[[pair]]\nvm-id = {n}\nguest = 'net_vhost{n}'\nqmp = '/q{n}'\n"
                ));
                line.push_str(&format!(" --vdev net_vhost{n},iface=/g{n}"));
            }
            std::fs::write(&path, file).expect("a file");
            judged(&format!("{line} -- --config {}", path.display()), &root)
        };
        let plan = judged_with(28);
        let text = plan.text();
        assert!(
            text.contains("net_vhost90 (/l), shared by 28 pairs"),
            "{text}"
        );
        assert!(
            text.contains("lcore 3 on CPU 3: polls vm0, vm1, vm2"),
            "{text}"
        );
        // What a pair takes does not depend on who shares its ports.
        let memory = |plan: &Plan, pair: &str| {
            let text = plan.text();
            let own = text.split("pair vm").find(|part| part.starts_with(pair));
            let line = own.and_then(|own| own.lines().find(|line| line.contains("memory")));
            line.expect("its memory").to_owned()
        };
        assert_eq!(memory(&plan, "27:"), memory(&judged_with(1), "0:"));
        assert!(!checks(&plan).contains(&"ports-too-many"), "{text}");
        assert!(checks(&judged_with(31)).contains(&"ports-too-many"));
    }

    #[test]
    fn memory_ports_and_queues_are_judged() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path());
        for (line, found) in [
            (
                format!("p -l 2,3 --no-huge {NULLS} -- {COMPARE}"),
                "pools-too-small",
            ),
            (
                format!("p -l 2 --no-huge -m 4 {NULLS} -- {COMPARE}"),
                "memory-too-small",
            ),
            (
                format!("p -l 2 --no-huge -m 512 --vdev net_null0 --vdev net_null1 -- {COMPARE}"),
                "port-missing",
            ),
            (
                "p -l 2 --no-huge -m 512 --vdev net_null0 --vdev net_null1 --vdev \
                     net_af_packet0,iface=x,qpairs=2 -- --role compare --primary-in net_null0 --secondary-in \
                     net_null1 --out net_af_packet0"
                    .to_owned(),
                "port-device",
            ),
            (
                format!("p --lcores 0@(4-5),1@4,2@5 --no-huge -m 512 {NULLS} -- {COMPARE}"),
                "",
            ),
        ] {
            let plan = judged(&line, &root);
            let text = plan.text();
            let is_sound = found.is_empty() && text.contains("nothing is wrong");
            assert!(is_sound || checks(&plan).contains(&found), "{line}: {text}");
        }
    }
}
