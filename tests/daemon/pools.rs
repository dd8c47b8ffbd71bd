//! Several pairs in one process that has less memory than they ask for.

use std::fs;

use crate::node::{self, Node, prefix};

/// Comparators on net_null ports, as a file of settings and the devices.
fn pairs(n: usize) -> (String, Vec<String>) {
    let mut file = String::new();
    let mut devices = Vec::new();
    for pair in 0..n {
        let port = |k: usize| format!("net_null{}", 3 * pair + k);
        file.push_str(&format!(
            "[[pair]]\nrole = 'compare'\nvm-id = {pair}\nprimary-in = '{}'\nsecondary-in = '{}'\nout = '{}'\n",
            port(0),
            port(1),
            port(2),
        ));
        devices.extend((0..3).map(|k| format!("--vdev={},no-rx=1", port(k))));
    }
    (file, devices)
}

/// Starts `n` pairs with this much memory.
fn start(n: usize, megabytes: u32) -> (Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("colo.toml");
    let (file, devices) = pairs(n);
    fs::write(&path, file).expect("a file");
    let prefix = prefix();
    let mut words: Vec<String> =
        format!("--no-huge --no-pci -l 0 -m {megabytes} --file-prefix {prefix}")
            .split(' ')
            .map(str::to_owned)
            .collect();
    words.extend(devices);
    let own = format!("-- --idle-sleep 50 --config {}", path.display());
    words.extend(own.split(' ').map(str::to_owned));
    (Node::spawn(prefix, words, false), dir)
}

#[test]
fn pairs_share_scarce_memory_alike() {
    let _turn = node::beside_others();
    let (mut node, _dir) = start(4, 512);
    node.wait_for_line("ready");
    let warnings: Vec<String> = node
        .stderr()
        .lines()
        .filter(|line| line.contains("packet buffers"))
        .map(str::to_owned)
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("4 VM pairs") && warnings[0].contains("-m "),
        "{warnings:?}"
    );
    let size = |pool: String| {
        let info = node.ask(&format!("/mempool/info,{pool}"));
        info["size"]
            .as_u64()
            .unwrap_or_else(|| panic!("{pool}: {info}"))
    };
    for purpose in ["primary", "secondary", "cutting"] {
        let sizes: Vec<u64> = (0..4)
            .map(|pair| size(format!("{pair}.{purpose}")))
            .collect();
        println!("{purpose}: {sizes:?}");
        assert!(
            sizes.iter().all(|size| *size == sizes[0]),
            "{purpose}: {sizes:?}"
        );
    }
    let held = size("3.primary".to_owned());
    assert!((8_000..20_480).contains(&held), "{held}");
    node.stop();
}

#[test]
fn what_never_fits_is_refused_in_one_line() {
    let _turn = node::beside_others();
    let ended = start(9, 64).0.wait();
    let lines = ended.own_lines();
    assert_eq!(
        (ended.status.code(), lines.len()),
        (Some(1), 1),
        "{lines:?}"
    );
    for word in ["9 VM pairs", "at the least", "give EAL"] {
        assert!(lines[0].contains(word), "{lines:?}");
    }
}
