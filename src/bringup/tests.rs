//! Both scripts against two QEMUs of a few lines each, and every command that can fail.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Addresses, Bringup, ContOwed, Failure, Message, Outcome, Output, Step};
use crate::qmp::{RunState, Version};

const OLD: Version = Version {
    major: 7,
    minor: 2,
    micro: 22,
};
const NEW: Version = Version {
    major: 11,
    minor: 1,
    micro: 3,
};

/// What of a QEMU a bring-up changes.
#[derive(Clone, Debug, PartialEq)]
struct Settings {
    run: &'static str,
    capabilities: BTreeMap<&'static str, bool>,
    delay: u64,
    /// The quorum's children, each by its name and its node's.
    children: Vec<(String, String)>,
    nodes: BTreeSet<String>,
    jobs: Vec<String>,
    exports: Vec<String>,
    serves: bool,
}

/// A QEMU, as far as the scripts ask it.
struct Qemu {
    now: Settings,
    primary: bool,
    disk: bool,
    /// The overlays of a VM that has taken over are not committed.
    commits: bool,
    migration: &'static str,
    incoming: Option<String>,
    /// Where it was ordered to send its state.
    uri: String,
    looks: usize,
    /// Answers to `query-migrate` until the state has come over; none: it never does.
    lasts: Option<usize>,
    seen: Vec<String>,
    /// This command fails, at this occurrence.
    fails: Option<(String, usize)>,
    /// A job ends only if it is forced to.
    stuck: bool,
    /// Host and port at which it says that it waits.
    waits_at: (&'static str, &'static str),
}

impl Qemu {
    fn new(primary: bool, disk: bool) -> Self {
        let capabilities = [("events", true), ("return-path", false), ("x-colo", false)];
        let children = match primary {
            true => vec![("children.0".to_owned(), "img".to_owned())],
            false => Vec::new(),
        };
        Self {
            now: Settings {
                run: if primary { "running" } else { "inmigrate" },
                capabilities: capabilities.into(),
                delay: 20_000,
                children,
                nodes: BTreeSet::new(),
                jobs: Vec::new(),
                exports: Vec::new(),
                serves: false,
            },
            primary,
            disk,
            commits: false,
            migration: "none",
            incoming: None,
            uri: String::new(),
            looks: 0,
            lasts: Some(4),
            seen: Vec::new(),
            fails: None,
            stuck: false,
            waits_at: ("192.0.2.2", "1"),
        }
    }

    fn graph(&self) -> (Value, Value) {
        let (mut nodes, mut edges, mut named) = (Vec::new(), Vec::new(), Vec::new());
        let mut node = |id: u64, kind: &str, name: &str, drv: &str| {
            nodes.push(json!({"id": id, "type": kind, "name": name}));
            if !drv.is_empty() {
                named.push(json!({"node-name": name, "drv": drv, "file": name}));
            }
        };
        let mut edge = |parent: u64, child: u64, name: &str| {
            edges.push(json!({"parent": parent, "child": child, "name": name, "perm": []}));
        };
        node(90, "block-backend", "cd", "");
        node(91, "block-driver", "cd0", "raw");
        edge(90, 91, "root");
        node(92, "block-backend", "", "");
        if self.disk {
            node(1, "block-backend", "disk", "");
            node(2, "block-driver", "quorum0", "quorum");
            edge(1, 2, "root");
            for (at, (way, name)) in self.now.children.iter().enumerate() {
                let id = 10 + at as u64;
                node(
                    id,
                    "block-driver",
                    name,
                    if at == 0 { "raw" } else { "nbd" },
                );
                edge(2, id, way);
            }
            if !self.primary || self.commits {
                for (id, name, drv) in [
                    (3, "overlays", "replication"),
                    (4, "active", "qcow2"),
                    (5, "hidden", "qcow2"),
                    (6, "image", "raw"),
                ] {
                    node(id, "block-driver", name, drv);
                }
                edge(
                    if self.primary { 10 } else { 2 },
                    3,
                    if self.primary { "file" } else { "children.0" },
                );
                // Parts of a disk may have a name of their own.
                node(93, "block-backend", "overlays", "");
                edge(93, 3, "root");
                edge(3, 4, "file");
                edge(4, 5, "backing");
                edge(5, 6, "backing");
            }
        }
        (json!({"nodes": nodes, "edges": edges}), json!(named))
    }

    fn execute(&mut self, name: &str, arguments: &Value) -> Result<Value, String> {
        self.seen.push(name.to_owned());
        let count = self.seen.iter().filter(|it| *it == name).count();
        if self
            .fails
            .as_ref()
            .is_some_and(|(it, at)| it == name && *at == count)
        {
            // Else it may get into COLO before it is cancelled.
            self.lasts = None;
            if name == "stop" {
                // What failed may be the reply alone.
                self.now.run = "paused";
            }
            return Err("QEMU refused: because".to_owned());
        }
        let text = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
        let now = &mut self.now;
        Ok(match name {
            "query-status" => json!({"status": now.run}),
            "query-migrate" => {
                if self.migration == "active" {
                    self.looks += 1;
                    if self.lasts == Some(self.looks) {
                        self.migration = "colo";
                    }
                }
                let done = self.looks.min(self.lasts.unwrap_or(2)) << 20;
                let at = self.incoming.as_ref().map(|_| {
                    let (host, port) = self.waits_at;
                    json!([{"type": "inet", "host": host, "port": port}])
                });
                match self.migration {
                    "none" => json!({"socket-address": at}),
                    status => {
                        json!({"status": status, "ram": {"transferred": done, "remaining": 1 << 20}})
                    }
                }
            }
            "query-migrate-capabilities" => {
                let all = now.capabilities.iter();
                all.map(|(name, on)| json!({"capability": name, "state": on}))
                    .collect()
            }
            "migrate-set-capabilities" => {
                for it in arguments["capabilities"].as_array().ok_or("no list")? {
                    let names = ["events", "return-path", "x-colo"];
                    let name = names.into_iter().find(|name| it["capability"] == *name);
                    now.capabilities
                        .insert(name.ok_or("unknown")?, it["state"] == true);
                }
                json!({})
            }
            "query-migrate-parameters" => json!({"x-checkpoint-delay": now.delay}),
            "migrate-set-parameters" => {
                now.delay = arguments["x-checkpoint-delay"].as_u64().ok_or("no delay")?;
                json!({})
            }
            "x-debug-query-block-graph" => self.graph().0,
            "query-named-block-nodes" => self.graph().1,
            "query-block-exports" => now.exports.iter().map(|id| json!({"id": id})).collect(),
            "nbd-server-start" if now.serves => return Err("NBD server already running".to_owned()),
            "nbd-server-start" => {
                now.serves = true;
                json!({})
            }
            "nbd-server-stop" => {
                now.serves = false;
                now.exports.clear();
                json!({})
            }
            "block-export-add" => {
                assert_eq!(text("node-name"), "image");
                now.exports.push(text("id"));
                json!({})
            }
            "drive-mirror" => {
                assert_eq!(text("device"), "quorum0");
                now.jobs.push(text("job-id"));
                json!({})
            }
            "query-block-jobs" => {
                let jobs = now.jobs.iter();
                jobs.map(|id| json!({"device": id, "ready": count > 2, "offset": count << 20, "len": 9 << 20})).collect()
            }
            "block-job-cancel" => {
                if !self.stuck || arguments["force"] == true {
                    now.jobs.retain(|id| *id != text("device"));
                }
                json!({})
            }
            "stop" => {
                now.run = "paused";
                json!({})
            }
            "cont" => {
                now.run = "running";
                json!({})
            }
            "blockdev-add" => {
                now.nodes.insert(text("node-name"));
                json!({})
            }
            "blockdev-del" => {
                now.nodes.remove(&text("node-name"));
                json!({})
            }
            "x-blockdev-change" if arguments["node"].is_string() => {
                assert_eq!(now.run, "paused", "what the VM writes now would be missing");
                let way = format!("children.{}", now.children.len());
                now.children.push((way, text("node")));
                json!({})
            }
            "x-blockdev-change" => {
                now.children.retain(|(way, _)| *way != text("child"));
                json!({})
            }
            "migrate-incoming" => {
                self.incoming = Some(text("uri"));
                json!({})
            }
            "migrate" => {
                self.uri = text("uri");
                self.migration = "active";
                json!({})
            }
            "migrate_cancel" => {
                self.migration = "cancelled";
                json!({})
            }
            other => panic!("{other} is no command of a bring-up"),
        })
    }
}

/// Two hosts.
struct World {
    qemus: [Qemu; 2],
    scripts: [Option<Bringup>; 2],
    outcomes: [Option<Result<Outcome, Failure>>; 2],
    steps: Vec<Step>,
    release: [Version; 2],
    addresses: Addresses,
    /// The nodes do not hear each other.
    deaf: bool,
    /// The nodes never become protected.
    unprotected: bool,
    /// The secondary's node is protected before the primary's sees its own QEMU in COLO.
    early: bool,
    /// The secondary's message that it is protected is lost this number of times.
    loses: usize,
    /// The attempt that the secondary's node has ended well.
    done: Option<u32>,
    /// Milliseconds for which the primary's VM stood still at most.
    stood: u64,
    /// This side's QEMU ends then.
    ends: Option<(usize, u64)>,
    now: u64,
}

impl World {
    fn new(disk: bool, release: Version) -> Self {
        let at = |port| Some(([192, 0, 2, 2], port).into());
        Self {
            qemus: [Qemu::new(true, disk), Qemu::new(false, disk)],
            scripts: [None, None],
            outcomes: [None, None],
            steps: Vec::new(),
            release: [release; 2],
            addresses: Addresses {
                migration: at(1),
                nbd: at(2),
            },
            deaf: false,
            unprotected: false,
            early: false,
            loses: 0,
            done: None,
            stood: 0,
            ends: None,
            now: 0,
        }
    }

    fn tell(&mut self, to: usize, message: Message) {
        if self.deaf {
            return;
        }
        if matches!(message, Message::Protected { .. }) && self.loses > 0 {
            self.loses -= 1;
            return;
        }
        // As it goes over the link.
        let message = Message::of_text(&message.to_text()).expect("it survives the link");
        if let (1, Message::Prepare { .. }) = (to, &message) {
            self.scripts[1] =
                Bringup::secondary(&message, self.addresses, self.release[1], self.now);
        } else if let Some(script) = &mut self.scripts[to] {
            script.hear(message);
        } else if let (1, Some(answer)) = (to, message.answered_by(self.done)) {
            self.tell(0, answer);
        }
    }

    /// What the primary's QEMU sends, the secondary's loads.
    fn migrates(&mut self) {
        let [primary, secondary] = &mut self.qemus;
        match primary.migration {
            now @ ("active" | "colo") => secondary.migration = now,
            "cancelled" if secondary.migration == "active" => secondary.migration = "failed",
            _ => {}
        }
    }

    /// Runs both scripts to their ends, or for five minutes; what came of it at the primary.
    fn run(&mut self) -> Result<Outcome, Failure> {
        self.scripts[0] = Some(Bringup::primary(7, self.release[0], self.now));
        let until = self.now + 300_000;
        while self.now < until && (self.outcomes[0].is_none() || self.scripts[1].is_some()) {
            self.now += 50;
            if self.qemus[0].now.run == "paused" {
                self.stood += 50;
            }
            for side in 0..2 {
                self.migrates();
                let in_colo = self.qemus[0].migration == "colo";
                let early = self.early && side == 1 && self.qemus[0].migration == "active";
                let protected = (in_colo || early) && !self.unprotected;
                let Some(script) = &mut self.scripts[side] else {
                    continue;
                };
                if self.ends == Some((side, self.now)) {
                    script.lose_monitor();
                }
                script.look(self.now, protected);
                self.steps.push(script.progress().step);
                while let Some(output) = self.scripts[side].as_mut().and_then(Bringup::next_output)
                {
                    match output {
                        Output::Tell(message) => self.tell(1 - side, message),
                        Output::Execute { name, arguments } => {
                            let reply = self.qemus[side].execute(name, &arguments);
                            if let Some(script) = &mut self.scripts[side] {
                                script.replied(reply);
                            }
                        }
                    }
                }
                let ended = self.scripts[side].as_mut().and_then(Bringup::take_outcome);
                if let Some(ended) = ended {
                    if side == 1 && ended.is_ok() {
                        self.done = self.scripts[1].as_ref().map(Bringup::attempt);
                    }
                    self.outcomes[side] = Some(ended);
                    self.scripts[side] = None;
                }
            }
        }
        self.outcomes[0]
            .take()
            .expect("it has ended within five minutes")
    }

    fn settings(&self) -> [Settings; 2] {
        [0, 1].map(|side| self.qemus[side].now.clone())
    }
}

#[test]
fn two_qemus_become_a_pair_by_what_their_release_needs() {
    for (release, path) in [(OLD, false), (NEW, true)] {
        for disk in [false, true] {
            let mut world = World::new(disk, release);
            let outcome = world.run().expect("it succeeds");
            assert_eq!(outcome.disks.len(), usize::from(disk));
            assert_eq!(outcome.others, ["cd"]);
            assert!(outcome.transferred > 0 && outcome.ms > 0);
            for qemu in &world.qemus {
                assert_eq!(qemu.now.delay, 600_000);
                assert!(qemu.now.capabilities["x-colo"]);
                assert_eq!(qemu.now.capabilities["return-path"], path);
            }
            let [primary, secondary] = &world.qemus;
            assert_eq!(primary.now.run, "running");
            assert_eq!(secondary.incoming.as_deref(), Some("tcp:192.0.2.2:1"));
            assert_eq!(primary.now.children.len(), 1 + usize::from(disk));
            assert_eq!(secondary.now.serves, disk);
            assert_eq!(primary.now.jobs, [""; 0]);
            assert!(world.outcomes[1].as_ref().is_some_and(Result::is_ok));
            for step in [Step::Prepares, Step::MovesState, Step::Settles] {
                assert!(world.steps.contains(&step), "{step:?}");
            }
        }
    }
}

#[test]
fn whichever_command_fails_both_are_as_they_were() {
    let mut done = World::new(true, NEW);
    done.run().expect("it succeeds");
    let mut failures = 0;
    for side in 0..2 {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for name in done.qemus[side].seen.clone() {
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            if name == "blockdev-del" {
                continue;
            }
            let mut world = World::new(true, NEW);
            let before = world.settings();
            world.qemus[side].fails = Some((name.clone(), *count));
            let failure = world.run().expect_err("a command has failed").to_string();
            let what = format!("{name}, {count} at {side}: {failure}");
            assert!(
                failure.contains(&format!("{name}: QEMU refused: because")),
                "{what}"
            );
            assert_eq!(
                failure.contains("the secondary's node"),
                side == 1,
                "{what}"
            );
            assert!(!failure.contains("not undone"), "{what}");
            assert_eq!(world.settings(), before, "{what}");
            assert!(world.scripts[1].is_none(), "{what}");
            assert_ne!(world.qemus[0].migration, "active", "{what}");
            failures += 1;
        }
    }
    assert!(failures > 30, "{failures}");
}

#[test]
fn what_cannot_be_undone_is_named() {
    let mut world = World::new(true, OLD);
    world.qemus[0].fails = Some(("cont".to_owned(), 1));
    let failure = world.run().expect_err("cont fails").to_string();
    assert!(
        !failure.contains("not undone"),
        "the second one works: {failure}"
    );
    let mut world = World::new(false, OLD);
    world.qemus[0].lasts = None;
    world.qemus[0].fails = Some(("migrate_cancel".to_owned(), 1));
    let failure = world.run().expect_err("it stands still").to_string();
    assert!(
        failure.contains("has stood still at 2097152 bytes"),
        "{failure}"
    );
    assert!(
        failure.contains("not undone: this node's QEMU: migrate_cancel"),
        "{failure}"
    );
}

#[test]
fn what_forbids_it_is_said_before_anything_is_changed() {
    let refused = |change: &dyn Fn(&mut World), says: &str| {
        let mut world = World::new(true, OLD);
        change(&mut world);
        let before = world.settings();
        let failure = world.run().expect_err(says).to_string();
        assert!(failure.contains(says), "{failure}");
        assert_eq!(world.settings(), before, "{failure}");
    };
    refused(
        &|world| world.qemus[0].now.run = "paused",
        "its VM does not run",
    );
    refused(
        &|world| world.qemus[0].migration = "active",
        "a migration is in state \"active\"",
    );
    refused(
        &|world| world.qemus[1].now.run = "running",
        "-incoming defer",
    );
    refused(
        &|world| world.qemus[1].migration = "failed",
        "it has begun to load",
    );
    refused(&|world| world.release[1] = NEW, "one release on both hosts");
    refused(
        &|world| world.addresses.migration = None,
        "--migrate-listen",
    );
    refused(&|world| world.addresses.nbd = None, "--nbd-listen");
    refused(
        &|world| world.qemus[1].disk = false,
        "the replicated disks differ",
    );
    refused(
        &|world| world.qemus[0].disk = false,
        "the replicated disks differ",
    );
    refused(&|world| world.deaf = true, "has not answered within 60 s");
}

#[test]
fn a_qemu_that_waits_already_is_used_as_it_is() {
    let mut world = World::new(false, OLD);
    world.addresses.migration = None;
    world.qemus[1].incoming = Some("tcp:".to_owned());
    world.run().expect("it succeeds");
    let seen = &world.qemus[1].seen;
    assert!(!seen.contains(&"migrate-incoming".to_owned()), "{seen:?}");
}

#[test]
fn what_an_earlier_pair_has_left_is_removed_first() {
    let mut world = World::new(true, OLD);
    let qemu = &mut world.qemus[0];
    qemu.now
        .children
        .push(("children.3".to_owned(), "colo-peer0".to_owned()));
    qemu.now.nodes.insert("colo-peer0".to_owned());
    (qemu.now.serves, qemu.now.exports) = (true, vec!["colo0".to_owned()]);
    world.run().expect("it succeeds");
    let now = &world.qemus[0].now;
    assert_eq!(now.children.len(), 2, "{now:?}");
    assert!(!now.serves && now.exports.is_empty());
    // Somebody else's exports stay.
    let mut world = World::new(true, OLD);
    let qemu = &mut world.qemus[0];
    (qemu.now.serves, qemu.now.exports) = (true, vec!["backup".to_owned(), "colo0".to_owned()]);
    world.run().expect("it succeeds");
    assert!(world.qemus[0].now.serves);
}

#[test]
fn a_delay_that_somebody_has_chosen_stays() {
    let mut world = World::new(false, OLD);
    world.qemus[0].now.delay = 5_000;
    world.run().expect("it succeeds");
    assert_eq!(world.settings().map(|it| it.delay), [5_000, 600_000]);
}

#[test]
fn a_pair_in_colo_that_is_not_protected_is_left_to_the_operator() {
    let mut world = World::new(false, OLD);
    world.unprotected = true;
    let failure = world.run().expect_err("it is not protected").to_string();
    assert!(failure.contains("neither node is protected"), "{failure}");
    let seen = &world.qemus[0].seen;
    assert!(!seen.contains(&"migrate_cancel".to_owned()), "{seen:?}");
    assert!(world.qemus[0].now.capabilities["x-colo"]);
}

#[test]
fn a_secondary_that_gives_up_in_colo_is_not_waited_for() {
    let mut world = World::new(true, OLD);
    world.unprotected = true;
    world.ends = Some((1, 10_000));
    let failure = world.run().expect_err("it is not protected").to_string();
    assert!(failure.contains("QEMU is in COLO"), "{failure}");
    assert!(
        failure.contains("gives up: its QEMU: its monitor was lost"),
        "{failure}"
    );
    assert!(world.now < 15_000, "{}", world.now);
    assert!(
        world.qemus[0].now.capabilities["x-colo"],
        "nothing is undone"
    );
}

#[test]
fn a_state_that_comes_while_the_secondary_gives_up_is_named() {
    let prepare = Message::Prepare {
        attempt: 1,
        qemu: [7, 2, 22],
        disks: vec!["disk".to_owned()],
    };
    let mut world = World::new(true, OLD);
    world.tell(1, prepare);
    let mut failure = None;
    while let Some(script) = world.scripts[1].as_mut().filter(|_| failure.is_none()) {
        world.now += 50;
        script.look(world.now, false);
        while let Some(output) = script.next_output() {
            if let Output::Execute { name, arguments } = output {
                let reply = world.qemus[1].execute(name, &arguments);
                if name == "nbd-server-stop" {
                    world.qemus[1].migration = "active";
                }
                script.replied(reply);
            }
        }
        failure = script.take_outcome();
    }
    let failure = failure.expect("it gives up").expect_err("nobody speaks");
    let says = "a state has begun to come in while";
    assert!(failure.to_string().contains(says), "{failure}");
}

#[test]
fn a_secondary_whose_primary_is_gone_gives_up() {
    let mut world = World::new(true, OLD);
    let before = world.settings()[1].clone();
    let prepare = Message::Prepare {
        attempt: 1,
        qemu: [7, 2, 22],
        disks: vec!["disk".to_owned()],
    };
    world.tell(1, prepare);
    while world.scripts[1].is_some() && world.now < 100_000 {
        world.now += 50;
        let Some(script) = &mut world.scripts[1] else {
            break;
        };
        script.look(world.now, false);
        while let Some(output) = script.next_output() {
            if let Output::Execute { name, arguments } = output {
                let reply = world.qemus[1].execute(name, &arguments);
                script.replied(reply);
            }
        }
        if let Some(outcome) = script.take_outcome() {
            world.scripts[1] = None;
            let failure = outcome.expect_err("nobody migrates").to_string();
            assert!(failure.contains("has said nothing for 30 s"), "{failure}");
        }
    }
    assert!((30_000..32_000).contains(&world.now), "{}", world.now);
    assert_eq!(world.settings()[1], before);
}

#[test]
fn a_qemu_that_ends_meanwhile_ends_it() {
    for side in 0..2 {
        let mut world = World::new(true, OLD);
        world.qemus[0].lasts = None;
        world.ends = Some((side, 2_000));
        let failure = world.run().expect_err("one is gone").to_string();
        let whose = [
            "this node's QEMU",
            "the secondary's node gives up: its QEMU",
        ][side];
        assert!(failure.contains(whose), "{failure}");
        assert!(failure.contains("its monitor was lost"), "{failure}");
        assert!(world.now < 40_000, "{}", world.now);
    }
}

#[test]
fn a_secondary_in_colo_keeps_what_the_primary_writes_to() {
    let mut world = World::new(true, OLD);
    world.unprotected = true;
    let failure = world.run().expect_err("it is not protected").to_string();
    assert!(failure.contains("neither node is protected"), "{failure}");
    assert!(world.scripts[1].is_none(), "it has given up, too");
    let now = &world.qemus[1].now;
    assert!(now.serves && now.exports == ["colo0"], "{now:?}");
    assert!(now.capabilities["x-colo"]);
}

#[test]
fn a_vm_does_not_stand_still_for_a_job_that_does_not_end() {
    let mut world = World::new(true, OLD);
    world.qemus[0].stuck = true;
    let before = world.settings();
    let failure = world.run().expect_err("the job stays").to_string();
    assert!(failure.contains("colo-copy0 does not end"), "{failure}");
    assert!((1_000..12_000).contains(&world.stood), "{}", world.stood);
    assert_eq!(world.settings(), before);
}

#[test]
fn only_what_has_to_be_is_done_while_the_vm_stands_still() {
    let mut world = World::new(true, OLD);
    world.run().expect("it succeeds");
    let seen = &world.qemus[0].seen;
    let at = |name: &str| seen.iter().position(|it| it == name).expect("it was given");
    assert!(at("blockdev-add") < at("stop"), "{seen:?}");
}

#[test]
fn a_secondary_that_is_protected_first_is_not_missed() {
    let mut world = World::new(true, OLD);
    // The secondary's word comes while the primary's node still asks how far its QEMU is.
    world.early = true;
    world.run().expect("it succeeds");
    assert!(world.now < 3_000, "{}", world.now);
}

#[test]
fn a_lost_word_of_the_secondary_is_asked_for_again() {
    let mut world = World::new(true, OLD);
    world.loses = 2;
    world.run().expect("it succeeds");
    assert!(world.now < 15_000, "{}", world.now);
}

#[test]
fn where_qemu_waits_counts_for_more_than_the_option() {
    let uri = |waits_at, addresses: Addresses| {
        let mut world = World::new(false, OLD);
        world.qemus[1].incoming = Some("tcp:".to_owned());
        world.qemus[1].waits_at = waits_at;
        world.addresses = addresses;
        let outcome = world.run();
        (outcome, world.qemus[0].uri.clone())
    };
    let option = Addresses {
        migration: Some(([192, 0, 2, 2], 1).into()),
        nbd: None,
    };
    let (outcome, at) = uri(("192.0.2.9", "9"), option);
    outcome.expect("it succeeds");
    assert_eq!(at, "tcp:192.0.2.9:9");
    for any in ["0.0.0.0", "::"] {
        let (outcome, at) = uri((any, "1"), option);
        outcome.expect("it succeeds");
        assert_eq!(at, "tcp:192.0.2.2:1");
        let (outcome, at) = uri((any, "9"), option);
        let failure = outcome.expect_err("nobody is at port 1").to_string();
        assert!(failure.contains("waits at port 9"), "{failure}");
        assert_eq!(at, "");
        let (outcome, _) = uri((any, "1"), Addresses::default());
        let failure = outcome.expect_err("no host is known").to_string();
        assert!(failure.contains("--migrate-listen"), "{failure}");
    }
}

#[test]
fn a_vm_that_was_stopped_is_owed_cont_until_qemu_has_executed_it() {
    let mut owed = ContOwed::default();
    owed.executes(1, "query-status");
    assert!(!owed.is_owed());
    owed.executes(2, "stop");
    assert!(owed.is_owed(), "whatever the reply");
    owed.executes(3, "cont");
    owed.replied(2, true);
    owed.replied(3, false);
    assert!(owed.is_owed(), "it has failed");
    assert!(owed.connects(RunState::Paused));
    owed.executes(4, "cont");
    owed.executes(5, "query-status");
    owed.replied(5, true);
    assert!(owed.is_owed());
    owed.replied(4, true);
    assert!(!owed.is_owed() && !owed.connects(RunState::Paused));
    owed.executes(6, "stop");
    assert!(!owed.connects(RunState::Running), "somebody has done it");
    assert!(
        !owed.connects(RunState::Paused),
        "this is somebody's choice"
    );
}

#[test]
fn a_vm_that_somebody_has_let_go_on_is_owed_nothing() {
    let mut owed = ContOwed::default();
    owed.executes(1, "stop");
    owed.resumed();
    assert!(owed.is_owed(), "it was of a stop before this one");
    owed.replied(1, true);
    owed.resumed();
    assert!(!owed.is_owed() && !owed.connects(RunState::Paused));
    // A reply that was lost with the monitor is not waited for.
    owed.executes(2, "stop");
    assert!(owed.connects(RunState::Paused));
    owed.resumed();
    assert!(!owed.is_owed());
}
