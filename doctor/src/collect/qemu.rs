//! What QEMU says of itself, over anything that passes commands on: a free monitor, or a node.

use serde_json::{Map, Value, json};

use crate::facts::{Disk, Nic, Qemu, Ram};

/// Passes a command on and returns its reply; `None` where QEMU refuses it.
pub type Ask<'a> = dyn FnMut(&str, &Value) -> Option<Value> + 'a;

/// Commands that only read, and whose reply is kept under their names.
const QUERIES: &[&str] = &[
    "query-version",
    "query-status",
    "query-migrate",
    "query-migrate-capabilities",
    "query-migrate-parameters",
    "query-memdev",
    "query-block",
];
/// Where QEMU has its devices: those with an id, and those without.
const PARENTS: &[&str] = &["/machine/peripheral", "/machine/peripheral-anon"];

/// Asks all that [`read`] wants to know.
pub fn inquire(ask: &mut Ask<'_>) -> Value {
    let mut said = Map::new();
    for query in QUERIES {
        if let Some(reply) = ask(query, &Value::Null) {
            said.insert((*query).to_owned(), reply);
        }
    }
    let mut nics = Vec::new();
    for parent in PARENTS {
        let children = ask("qom-list", &json!({ "path": parent })).unwrap_or_default();
        for child in children.as_array().into_iter().flatten() {
            let kind = child["type"].as_str().unwrap_or_default();
            if !kind.starts_with("child<virtio-net") {
                continue;
            }
            let path = format!("{parent}/{}", child["name"].as_str().unwrap_or_default());
            let mut get = |name: &str| ask("qom-get", &json!({ "path": path, "property": name }));
            let (announce, mac) = (get("guest_announce"), get("mac"));
            nics.push(json!({ "path": path, "guest_announce": announce, "mac": mac }));
        }
    }
    said.insert("nics".to_owned(), Value::Array(nics));
    Value::Object(said)
}

/// Reads what was said.
pub fn read(said: &Value) -> Qemu {
    let each = |key: &str| said[key].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let version = &said["query-version"]["qemu"];
    let number = |key: &str| Some(version[key].as_u64()? as u32);
    let version = || Some((number("major")?, number("minor")?, number("micro")?));
    let capability = |one: &Value| Some((text(&one["capability"])?, one["state"].as_bool()?));
    Qemu {
        version: version(),
        capabilities: each("query-migrate-capabilities")
            .iter()
            .filter_map(capability)
            .collect(),
        checkpoint_delay: said["query-migrate-parameters"]["x-checkpoint-delay"].as_u64(),
        migration: text(&said["query-migrate"]["status"]),
        run: text(&said["query-status"]["status"]),
        ram: each("query-memdev").iter().filter_map(ram).collect(),
        nics: each("nics").iter().filter_map(nic).collect(),
        disks: each("query-block").iter().filter_map(disk).collect(),
    }
}

fn ram(backend: &Value) -> Option<Ram> {
    Some(Ram {
        id: backend["id"].as_str().unwrap_or("without an id").to_owned(),
        size: backend["size"].as_u64()?,
        shared: backend["share"].as_bool()?,
    })
}

fn nic(nic: &Value) -> Option<Nic> {
    Some(Nic {
        path: nic["path"].as_str()?.to_owned(),
        guest_announce: nic["guest_announce"].as_bool(),
        mac: nic["mac"].as_str().map(str::to_owned),
    })
}

/// A drive that a device of the guest has and may write to.
fn disk(block: &Value) -> Option<Disk> {
    let inserted = block.get("inserted")?;
    let has_device = block["qdev"].as_str().is_some_and(|qdev| !qdev.is_empty());
    let name = [&block["device"], &block["qdev"]];
    let name = name
        .iter()
        .filter_map(|name| name.as_str())
        .find(|name| !name.is_empty());
    let writable = inserted["ro"] == false && has_device;
    writable.then(|| Disk {
        name: name.unwrap_or("without a name").to_owned(),
        driver: inserted["drv"].as_str().unwrap_or("unknown").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_says_becomes_facts() {
        let said = inquire(&mut |command, arguments| {
            Some(match command {
                "query-version" => {
                    json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "x"})
                }
                "query-status" => json!({"status": "running"}),
                "query-migrate" => json!({}),
                "query-migrate-capabilities" => json!([{"capability": "x-colo", "state": true}]),
                "query-migrate-parameters" => json!({"x-checkpoint-delay": 20000}),
                "query-memdev" => json!([{"id": "pc.ram", "size": 1048576, "share": false}]),
                "query-block" => json!([
                    {"device": "d", "qdev": "/machine/x", "inserted": {"ro": false, "drv": "qcow2"}},
                    {"device": "unused", "inserted": {"ro": false, "drv": "raw"}},
                    {"device": "cd", "qdev": "cd0"},
                    {"device": "ro", "qdev": "/machine/y", "inserted": {"ro": true, "drv": "raw"}},
                ]),
                "qom-list" if arguments["path"] == PARENTS[1] => json!([
                    {"name": "device[0]", "type": "child<virtio-net-pci>"},
                    {"name": "device[1]", "type": "child<virtio-rng-pci>"},
                ]),
                "qom-get" if arguments["property"] == "guest_announce" => json!(true),
                "qom-get" => json!("52:54:00:12:34:56"),
                _ => return None,
            })
        });
        let qemu = read(&said);
        assert_eq!(qemu.version, Some((7, 2, 22)));
        assert_eq!(qemu.capabilities.get("x-colo"), Some(&true));
        assert_eq!(
            (qemu.checkpoint_delay, qemu.migration),
            (Some(20_000), None)
        );
        assert!(!qemu.ram[0].shared && qemu.ram[0].size == 1 << 20);
        let disks: Vec<_> = qemu
            .disks
            .iter()
            .map(|disk| (&*disk.name, &*disk.driver))
            .collect();
        assert_eq!(disks, [("d", "qcow2")]);
        assert_eq!(qemu.nics.len(), 1);
        assert_eq!(qemu.nics[0].path, "/machine/peripheral-anon/device[0]");
        assert_eq!(qemu.nics[0].guest_announce, Some(true));
        assert_eq!(read(&Value::Null), Qemu::default());
    }
}
