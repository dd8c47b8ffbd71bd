//! Which of QEMU's connections lead to the other host, so that they may be cut when it is lost (QEMU `qapi/yank.json`,
//! `qapi/block-core.json`).
//!
//! In: the replies to `query-yank` and `x-debug-query-block-graph`. Out: the names of the NBD nodes of replicated
//! disks, and the arguments of a `yank`. A chardev is never among them: the connection to this program is one, too.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

/// Replicated disks of one VM that are looked at.
const DISKS_MAX: usize = 64;

/// A connection to the other host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yanked {
    /// The state's.
    Migration,
    /// A replicated disk's, to the other host's NBD server.
    Disk,
}

impl fmt::Display for Yanked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Migration => "the migration connection",
            Self::Disk => "a replicated disk's NBD connection",
        })
    }
}

/// One entry of the reply to `query-yank`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Instance {
    r#type: String,
    node_name: Option<String>,
}

/// The block nodes among what can be yanked: all are NBD clients.
pub(super) fn block_nodes(instances: Vec<Instance>) -> BTreeSet<String> {
    let nodes = instances
        .into_iter()
        .filter(|one| one.r#type == "block-node");
    nodes.filter_map(|one| one.node_name).collect()
}

/// The reply to `x-debug-query-block-graph`.
#[derive(Default, Deserialize)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Node {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct Edge {
    parent: u64,
    child: u64,
    name: String,
}

/// Those of `nbd` that lie under a second or later child of a quorum. The first child is the VM's own disk, wherever
/// that is; only a quorum calls its children `children.N`.
pub(super) fn replicas(graph: &Graph, nbd: &BTreeSet<String>) -> Vec<String> {
    let others = graph.edges.iter().filter(|edge| {
        let number = edge.name.strip_prefix("children.");
        number.is_some_and(|number| number != "0")
    });
    let mut below: BTreeSet<u64> = BTreeSet::new();
    let mut open: Vec<u64> = others.map(|edge| edge.child).collect();
    while let Some(id) = open.pop() {
        if below.insert(id) {
            let edges = graph.edges.iter().filter(|edge| edge.parent == id);
            open.extend(edges.map(|edge| edge.child));
        }
    }
    let found = graph
        .nodes
        .iter()
        .filter(|node| below.contains(&node.id) && nbd.contains(&node.name));
    let found = found.map(|node| node.name.clone());
    found.take(DISKS_MAX).collect()
}

/// The arguments that yank the migration.
pub(super) fn migration() -> Value {
    json!({ "instances": [{ "type": "migration" }] })
}

/// The arguments that yank the NBD client of this name.
pub(super) fn block_node(name: &str) -> Value {
    json!({ "instances": [{ "type": "block-node", "node-name": name }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'a> Deserialize<'a>>(value: Value) -> T {
        serde_json::from_value(value).expect("QEMU's shape")
    }

    fn graph(nodes: &[(u64, &str)], edges: &[(u64, u64, &str)]) -> Graph {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|(id, name)| json!({"id": id, "type": "block-driver", "name": name}))
            .collect();
        let edges: Vec<_> = edges
            .iter()
            .map(|(parent, child, name)| {
                json!({"parent": parent, "child": child, "name": name, "perm": ["write"], "shared-perm": []})
            })
            .collect();
        read(json!({"nodes": nodes, "edges": edges}))
    }

    #[test]
    fn only_a_disks_connection_to_the_other_host_is_found() {
        let listed = read(json!([
            {"type": "migration"},
            {"type": "chardev", "id": "vhost"},
            {"type": "block-node", "node-name": "nbd0"},
            {"type": "block-node", "node-name": "own"},
            {"type": "block-node", "node-name": "cdrom"},
        ]));
        let nbd = block_nodes(listed);
        assert_eq!(nbd.len(), 3, "{nbd:?}");
        // quorum 2 has the VM's own disk, itself on NBD, and behind a replication filter the other host's.
        let graph = graph(
            &[
                (1, "nic"),
                (2, "quorum"),
                (3, "raw"),
                (4, "own"),
                (5, "replication0"),
                (6, "nbd0"),
                (7, "cdrom"),
            ],
            &[
                (1, 2, "root"),
                (2, 3, "children.0"),
                (3, 4, "file"),
                (2, 5, "children.1"),
                (5, 6, "file"),
            ],
        );
        assert_eq!(replicas(&graph, &nbd), ["nbd0"]);
    }

    #[test]
    fn a_graph_with_a_circle_ends() {
        let graph = graph(
            &[(1, "a"), (2, "b")],
            &[(1, 2, "children.1"), (2, 1, "file"), (1, 2, "file")],
        );
        let nbd = BTreeSet::from(["b".to_owned()]);
        assert_eq!(replicas(&graph, &nbd), ["b"]);
    }
}
