//! The disks of a VM as QEMU shows them: which are replicated, and by which of their nodes.
//!
//! A primary's disk is a quorum: its first child is the image, a further one the NBD client of the secondary's. A
//! secondary's has the replication driver above an active and a hidden overlay, and the image below them
//! (`docs/disk.md`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;
use super::desk::Desk;
use super::release::read;

/// Names of exports, and of NBD clients, with a number behind.
const EXPORT: &str = "colo";
const CLIENT: &str = "colo-peer";
/// Ways from a node to the one that it filters, or that holds its data.
const DOWN: [&str; 2] = ["file", "backing"];

#[derive(Debug, Deserialize)]
struct Node {
    id: u64,
    r#type: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Edge {
    parent: u64,
    child: u64,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Shape {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "node-name")]
    name: Option<String>,
    drv: String,
}

/// QEMU's block nodes, and how they hang together.
#[derive(Debug)]
pub(super) struct Graph {
    shape: Shape,
    /// By the nodes' names.
    drivers: BTreeMap<String, String>,
}

/// A disk of a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// The name that the other side's has, too.
    pub(super) name: String,
    /// The quorum's node.
    pub(super) quorum: String,
    /// Children that were another secondary's.
    dead: Vec<String>,
    /// The overlays are not committed to the image yet.
    pub(super) commits: bool,
}

/// A disk of a secondary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) name: String,
    /// The image's node.
    pub(super) node: String,
}

impl Graph {
    /// Asks QEMU for it.
    pub(super) async fn read(desk: &Desk) -> Result<Self, Failure> {
        let (graph, named) = ("x-debug-query-block-graph", "query-named-block-nodes");
        let shape = read(desk, graph, desk.ask(graph).await?)?;
        let all: Vec<Named> = read(
            desk,
            named,
            desk.execute(named, json!({ "flat": true })).await?,
        )?;
        let drivers = all.into_iter().filter_map(|it| Some((it.name?, it.drv)));
        Ok(Self {
            shape,
            drivers: drivers.collect(),
        })
    }

    fn node(&self, id: u64) -> Option<&Node> {
        self.shape.nodes.iter().find(|node| node.id == id)
    }

    fn driver(&self, node: &Node) -> &str {
        self.drivers.get(&node.name).map_or("", String::as_str)
    }

    /// The nodes below one, with the way to each, in QEMU's order.
    fn below(&self, id: u64) -> impl Iterator<Item = (&str, &Node)> {
        let edges = self.shape.edges.iter().filter(move |it| it.parent == id);
        edges.filter_map(|edge| Some((edge.name.as_str(), self.node(edge.child)?)))
    }

    fn down(&self, node: &Node) -> Option<&Node> {
        let mut below = self.below(node.id);
        below
            .find(|(way, _)| DOWN.contains(way))
            .map(|(_, node)| node)
    }

    fn backing(&self, node: &Node) -> Option<&Node> {
        let mut below = self.below(node.id);
        below
            .find(|(way, _)| *way == "backing")
            .map(|(_, node)| node)
    }

    /// Whether a node or one below it has this driver.
    fn has(&self, node: &Node, driver: &str, depth: usize) -> bool {
        self.driver(node) == driver
            || depth > 0
                && self
                    .below(node.id)
                    .any(|(_, node)| self.has(node, driver, depth - 1))
    }

    /// The first node with this driver on the way down from one; a quorum's first child is on it.
    fn find<'a>(&'a self, from: &'a Node, driver: &str) -> Option<&'a Node> {
        let mut at = from;
        // The graph has no circle; this bounds the walk whatever QEMU says.
        for _ in 0..self.shape.nodes.len() {
            if self.driver(at) == driver {
                return Some(at);
            }
            let first = self
                .below(at.id)
                .find(|(way, _)| way.starts_with("children."));
            at = first.map(|(_, node)| node).or_else(|| self.down(at))?;
        }
        None
    }

    /// The devices' names, with the node at the top of each. What is below another node is no device's, though it may
    /// have a name.
    fn devices(&self) -> Vec<(&str, &Node)> {
        let nodes = self.shape.nodes.iter();
        let backends = nodes.filter(|node| node.r#type == "block-backend" && !node.name.is_empty());
        backends
            .filter_map(|backend| {
                let (_, root) = self.below(backend.id).next()?;
                let mut above = self.shape.edges.iter().filter(|edge| edge.child == root.id);
                let is_part = above.any(|edge| {
                    self.node(edge.parent)
                        .is_some_and(|node| node.r#type == "block-driver")
                });
                (!is_part).then_some((backend.name.as_str(), root))
            })
            .collect()
    }

    /// The disks that a primary can replicate.
    pub(super) fn disks(&self) -> Vec<Disk> {
        let mut disks: Vec<Disk> = Vec::new();
        for (name, root) in self.devices() {
            let Some(quorum) = self.find(root, "quorum") else {
                continue;
            };
            if disks.iter().any(|disk| disk.quorum == quorum.name) {
                continue;
            }
            let children: Vec<(&str, &Node)> = self
                .below(quorum.id)
                .filter(|(way, _)| way.starts_with("children."))
                .collect();
            let further = children.iter().skip(1);
            let dead = further.filter(|(_, node)| self.has(node, "nbd", 3));
            let overlays = children.first().and_then(|(_, node)| {
                let replication = self.find(node, "replication")?;
                self.backing(self.down(replication)?)
            });
            disks.push(Disk {
                name: name.to_owned(),
                quorum: quorum.name.clone(),
                dead: dead.map(|(_, node)| node.name.clone()).collect(),
                commits: overlays.is_some(),
            });
        }
        disks
    }

    /// The disks of a secondary, each by the node of its image.
    pub(super) fn images(&self) -> Vec<Image> {
        let devices = self.devices().into_iter();
        devices
            .filter_map(|(name, root)| {
                let replication = self.find(root, "replication")?;
                let active = self.down(replication)?;
                let hidden = self.backing(active)?;
                let image = self.backing(hidden)?;
                Some(Image {
                    name: name.to_owned(),
                    node: image.name.clone(),
                })
            })
            .collect()
    }

    /// Devices with a medium that is none of these.
    pub(super) fn others(&self, disks: &[Disk]) -> Vec<String> {
        let devices = self.devices().into_iter();
        let others = devices.filter(|(name, root)| {
            let known = disks.iter().any(|disk| disk.name == *name);
            !known && self.find(root, "quorum").is_none() && self.driver(root) != "nbd"
        });
        others.map(|(name, _)| name.to_owned()).collect()
    }

    /// The quorum's name for a child, by that child's node.
    fn child(&self, parent: &str, node: &str) -> Option<&str> {
        let parent = self.shape.nodes.iter().find(|it| it.name == parent)?;
        let mut below = self.below(parent.id);
        below
            .find(|(_, child)| child.name == node)
            .map(|(way, _)| way)
    }
}

/// Which image of a secondary is to receive which disk's writes.
///
/// # Errors
/// When one has no counterpart.
pub(super) fn matched(disks: &[String], images: &[Image]) -> Result<Vec<Image>, Failure> {
    let names = |all: &[&str]| match all {
        [] => "none".to_owned(),
        all => all.join(", "),
    };
    let own: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
    let theirs: Vec<&str> = disks.iter().map(String::as_str).collect();
    let wrong = || {
        Failure::new(format!(
            "the replicated disks differ: the primary's QEMU has {} (a quorum), the secondary's {} (a replication \
             node above two overlays); start the secondary's QEMU with a counterpart of each, under the same name \
             (docs/disk.md)",
            names(&theirs),
            names(&own)
        ))
    };
    if disks.len() != images.len() {
        return Err(wrong());
    }
    if let ([_], [image]) = (disks, images) {
        return Ok(vec![image.clone()]);
    }
    let counterpart = |name: &String| images.iter().find(|image| image.name == *name).cloned();
    disks
        .iter()
        .map(counterpart)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(wrong)
}

/// The name of the export with this number.
pub(super) fn export(number: usize) -> String {
    format!("{EXPORT}{number}")
}

/// The name of the NBD client with this number.
pub(super) fn client(number: usize) -> String {
    format!("{CLIENT}{number}")
}

/// Ends what an earlier bring-up of this QEMU serves by NBD, if it does.
pub(super) async fn end_exports(desk: &Desk) -> Result<(), Failure> {
    let exports = desk.ask("query-block-exports").await?;
    let all: Vec<&str> = exports
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["id"].as_str())
        .collect();
    let is_own = |id: &&str| {
        let number = id.strip_prefix(EXPORT).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    if all.is_empty() || !all.iter().all(is_own) {
        return Ok(());
    }
    desk.ask("nbd-server-stop").await.map(drop)
}

/// Takes the children out of a disk's quorum that an earlier secondary has left.
pub(super) async fn clean(desk: &Desk, graph: &Graph, disk: &Disk) -> Result<(), Failure> {
    for node in &disk.dead {
        detach(desk, graph, &disk.quorum, node).await?;
    }
    Ok(())
}

/// Takes a child out of a quorum, and deletes its node.
pub(super) async fn detach(
    desk: &Desk,
    graph: &Graph,
    quorum: &str,
    node: &str,
) -> Result<(), Failure> {
    if let Some(child) = graph.child(quorum, node) {
        desk.execute(
            "x-blockdev-change",
            json!({ "parent": quorum, "child": child }),
        )
        .await?;
    }
    // One that nobody has named is gone with the last that uses it.
    let _ = desk
        .execute("blockdev-del", json!({ "node-name": node }))
        .await;
    Ok(())
}

/// What QEMU says of the job with this id, while there is one.
pub(super) async fn job(desk: &Desk, id: &str) -> Result<Option<Value>, Failure> {
    let jobs = desk.ask("query-block-jobs").await?;
    let all = jobs.as_array().into_iter().flatten();
    let mut own = all.filter(|job| job["device"] == id);
    Ok(own.next().cloned())
}
