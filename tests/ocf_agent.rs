//! The cluster's resource agent (`packaging/ocf/dpdk-colo`): on what evidence it promotes, and what it reports.
//!
//! The node, QEMU and the cluster are files here: `coloctl` prints one, and each act adds a line to another.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

const SUCCESS: i32 = 0;
const GENERIC: i32 = 1;
const NOT_RUNNING: i32 = 7;
const PROMOTED: i32 = 8;
const FAILED_PROMOTED: i32 = 9;

/// What the agents' shell functions are on a cluster's host, as far as the agent uses them.
const FUNCTIONS: &str = r#"
OCF_SUCCESS=0 OCF_ERR_GENERIC=1 OCF_ERR_ARGS=2 OCF_ERR_UNIMPLEMENTED=3 OCF_ERR_INSTALLED=5 OCF_ERR_CONFIGURED=6
OCF_NOT_RUNNING=7 OCF_RUNNING_MASTER=8 OCF_FAILED_MASTER=9
ocf_log() { shift; echo "$*" >&2; }
ocf_exit_reason() { echo "$*" >&2; }
ocf_is_true() { case $1 in yes|true|1|on) return 0;; esac; return 1; }
ocf_is_probe() { [ -n "${PROBE:-}" ]; }
ocf_local_nodename() { echo here; }
have_binary() { command -v "$1" >/dev/null; }
ocf_promotion_score() { echo "score $*" >> "$SITE/acts"; }
"#;

/// `status` prints the file, with the exit status that coloctl has; other commands do what a test wants.
const COLOCTL: &str = r#"#!/bin/sh
shift 2
case "$*" in
  '--json status')
    echo look >> "$SITE/looks"
    [ -e "$SITE/status" ] || exit 7
    cat "$SITE/status"
    if grep -q '"role":"primary"' "$SITE/status"; then exit 8; fi
    exit 0 ;;
  failover*)
    echo "$*" >> "$SITE/acts"
    [ -e "$SITE/refuses" ] && exit 1
    cp "$SITE/primary" "$SITE/status" ;;
  wait*) exit 0 ;;
esac
"#;

/// The cluster's properties are files.
const CRM_ATTRIBUTE: &str = r#"#!/bin/sh
name= value= default= query=
while [ $# -gt 0 ]; do
  case $1 in
    --name) name=$2; shift ;;
    --update) value=$2; shift ;;
    --default) default=$2; shift ;;
    --query) query=1 ;;
    --type) shift ;;
  esac
  shift
done
[ -e "$SITE/no-cluster" ] && exit 1
if [ -n "$query" ]; then
  if [ -e "$SITE/$name" ]; then cat "$SITE/$name"; exit 0; fi
  [ -n "$default" ] && { echo "$default"; exit 0; }
  exit 1
fi
echo "remember $value" >> "$SITE/acts"
echo "$value" > "$SITE/$name"
"#;

/// The place of one agent.
struct Site {
    dir: TempDir,
}

/// The only pair of a secondary's status that may be promoted.
fn promotable() -> Value {
    json!({
        "name": "x", "role": "secondary", "epoch": 4, "promotable": true, "state": "peer_lost",
        "checkpoints": {"committed": 4},
    })
}

/// The pair of a secondary that has just started.
fn fresh() -> Value {
    json!({
        "name": "x", "role": "secondary", "epoch": 0, "promotable": false, "state": "solo",
        "checkpoints": {"committed": 0},
    })
}

fn primary() -> Value {
    json!({"name": "x", "role": "primary", "epoch": 0, "promotable": false, "checkpoints": {"committed": 0}})
}

/// What QEMU's monitor is to the node, and the version that QEMU has reported.
fn monitor(state: &str, qemu: Option<&str>) -> Value {
    json!({"state": state, "qemu": qemu, "migration": "none"})
}

/// The same pair with another value, or without one.
fn with(mut pair: Value, key: &str, value: Option<Value>) -> Value {
    let keys = pair.as_object_mut().expect("a pair");
    match value {
        Some(value) => keys.insert(key.to_owned(), value),
        None => keys.remove(key),
    };
    pair
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let site = Self { dir };
        site.write("ocf-shellfuncs", FUNCTIONS);
        site.write("cluster-infrastructure", "corosync\n");
        for (name, text) in [
            ("coloctl", COLOCTL),
            ("crm_attribute", CRM_ATTRIBUTE),
            ("sleep", "#!/bin/sh\n"),
        ] {
            site.write(name, text);
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(site.path(name), mode).expect("it is there");
        }
        site.write("primary", &status(&primary()));
        site.write("secondary", &status(&fresh()));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("it is there");
    }

    /// The node runs with this pair, and QEMU with it.
    fn runs(&self, pair: &Value) {
        self.write("status", &status(pair));
        self.write("vm", "");
    }

    /// Runs the agent; its status and what it did.
    fn act(&self, action: &str, more: &[(&str, &str)]) -> (i32, Vec<String>) {
        let _ = fs::remove_file(self.path("acts"));
        let output = self.agent(action, more);
        let acts = fs::read_to_string(self.path("acts")).unwrap_or_default();
        let code = output.status.code().expect("an exit");
        (code, acts.lines().map(str::to_owned).collect())
    }

    fn agent(&self, action: &str, more: &[(&str, &str)]) -> Output {
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/ocf/dpdk-colo");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.dir.path().display());
        let mut command = Command::new("sh");
        command
            .arg(agent)
            .arg(action)
            .env("PATH", path)
            .env("SITE", self.dir.path())
            .env("OCF_FUNCTIONS_DIR", self.dir.path())
            .env("HA_RSCTMP", self.dir.path())
            .env("OCF_RESKEY_instance", "x")
            .env("OCF_RESKEY_role_file", self.path("role"))
            .env(
                "OCF_RESKEY_vm_start",
                r#"echo "vm $COLO_ROLE" >> $SITE/acts; touch $SITE/vm"#,
            )
            .env(
                "OCF_RESKEY_vm_stop",
                r#"echo "vm ends" >> $SITE/acts; rm -f $SITE/vm"#,
            )
            .env("OCF_RESKEY_vm_monitor", "test -e $SITE/vm || exit 7")
            .env(
                "OCF_RESKEY_node_start",
                r#"echo "node $(cat $SITE/role)" >> $SITE/acts; cp $SITE/$COLO_ROLE $SITE/status"#,
            )
            .env(
                "OCF_RESKEY_node_stop",
                r#"echo "node ends" >> $SITE/acts; rm -f $SITE/status"#,
            )
            .envs(more.iter().copied());
        command.output().expect("sh runs")
    }
}

fn status(pair: &Value) -> String {
    json!({"node": {}, "pairs": [pair]}).to_string()
}

#[test]
fn a_monitor_says_what_the_node_and_its_vm_are() {
    let site = Site::new();
    let nothing = (NOT_RUNNING, vec!["score -D".to_owned()]);
    assert_eq!(site.act("monitor", &[]), nothing);
    for (pair, wanted, score) in [
        (fresh(), SUCCESS, "score -D"),
        (promotable(), SUCCESS, "score -v 100"),
        (primary(), PROMOTED, "score -v 1000"),
        (
            with(primary(), "superseded", Some(json!(true))),
            FAILED_PROMOTED,
            "score -D",
        ),
        (
            with(primary(), "role", Some(json!("superseded"))),
            FAILED_PROMOTED,
            "score -D",
        ),
        (
            with(primary(), "role", Some(json!("compare"))),
            GENERIC,
            "score -D",
        ),
        (with(primary(), "role", None), GENERIC, "score -D"),
    ] {
        site.runs(&pair);
        let (code, acts) = site.act("monitor", &[]);
        let last = acts.last().map(String::as_str);
        assert_eq!((code, last), (wanted, Some(score)), "{pair}: {acts:?}");
    }
    // Whose pairs these are is not known.
    let two = json!({"pairs": [primary(), primary()]});
    site.write("status", &two.to_string());
    assert_eq!(site.act("monitor", &[]).0, GENERIC);
    site.write("status", "{");
    assert_eq!(site.act("monitor", &[]).0, GENERIC);
    // A VM without a node has no network.
    site.remove("status");
    assert_eq!(
        site.act("monitor", &[]),
        (GENERIC, vec!["score -D".to_owned()])
    );
}

#[test]
fn a_dead_qemu_is_seen_under_a_living_node() {
    let site = Site::new();
    site.write("dpdk-colo-x-leader", "here\n");
    for (pair, wanted, looks) in [
        (fresh(), GENERIC, 6),
        (promotable(), GENERIC, 6),
        (primary(), FAILED_PROMOTED, 1),
    ] {
        site.runs(&pair);
        site.remove("vm");
        let gone = (wanted, vec!["score -D".to_owned()]);
        site.write("looks", "");
        assert_eq!(site.act("monitor", &[]), gone, "{pair}");
        let count = fs::read_to_string(site.path("looks")).expect("looks");
        assert_eq!(count.lines().count(), looks, "{pair}");
        // Only status 7 says so, not a command that fails.
        let broken = [("OCF_RESKEY_vm_monitor", "exit 1")];
        let lives = if looks == 1 { PROMOTED } else { SUCCESS };
        assert_eq!(site.act("monitor", &broken).0, lives, "{pair}");
    }
    // A node without its QEMU is to be ended: a probe does not call that "not running".
    let probe = site.act("monitor", &[("PROBE", "1")]);
    assert_eq!(probe, (FAILED_PROMOTED, vec![]));
    // A QEMU that starts a moment after its node is none that is gone.
    site.runs(&fresh());
    site.remove("vm");
    site.write("sleep", "#!/bin/sh\ntouch $SITE/vm\n");
    assert_eq!(site.act("monitor", &[]).0, SUCCESS);
    // Nor is one that hangs.
    site.runs(&with(primary(), "monitor", Some(monitor("absent", None))));
    assert_eq!(site.act("monitor", &[]).0, PROMOTED);
}

#[test]
fn a_secondary_is_not_believed_before_its_qemu_has_answered() {
    let site = Site::new();
    let known = monitor("connected", Some("10.0.2"));
    let secondary = |pair, monitor| with(pair, "monitor", Some(monitor));
    site.runs(&secondary(promotable(), known.clone()));
    let ready = (SUCCESS, vec!["score -v 100".to_owned()]);
    assert_eq!(site.act("monitor", &[]), ready);
    assert_eq!(site.act("demote", &[]), (SUCCESS, vec![]));

    site.write("dpdk-colo-x-leader", "here\n");
    for (pair, mute) in [
        (fresh(), monitor("absent", None)),
        (promotable(), monitor("absent", Some("10.0.2"))),
        // It owes the greeting.
        (fresh(), monitor("unresponsive", None)),
        (promotable(), monitor("connected", None)),
    ] {
        let pair = secondary(pair, mute);
        site.runs(&pair);
        let unknown = (GENERIC, vec!["score -D".to_owned()]);
        assert_eq!(site.act("monitor", &[]), unknown, "{pair}");
        assert_eq!(site.act("promote", &[]), (GENERIC, vec![]), "{pair}");
        let ends = (SUCCESS, vec!["vm ends".into(), "node ends".into()]);
        assert_eq!(site.act("demote", &[]), ends, "{pair}");
        site.remove("dpdk-colo-x.resting");
    }
    // Its QEMU answers a moment later: the VM leads.
    site.runs(&secondary(fresh(), monitor("absent", None)));
    site.write("sleep", "#!/bin/sh\ncp $SITE/primary $SITE/status\n");
    assert_eq!(site.act("monitor", &[]).0, PROMOTED);
}

#[test]
fn nothing_is_promoted_without_evidence() {
    let site = Site::new();
    assert_eq!(site.act("promote", &[]), (GENERIC, vec![]), "no node");
    for pair in [
        fresh(),
        with(promotable(), "promotable", None),
        with(promotable(), "promotable", Some(json!(false))),
        with(promotable(), "promotable", Some(json!("true"))),
        with(promotable(), "superseded", Some(json!(true))),
        with(promotable(), "role", None),
        with(fresh(), "epoch", None),
    ] {
        site.runs(&pair);
        let (code, acts) = site.act("promote", &[]);
        assert_eq!((code, acts.len()), (GENERIC, 0), "{pair}: {acts:?}");
    }
    // A loaded state is no word on the other VM, which only a cluster that fences has.
    site.runs(&promotable());
    site.write("stonith-enabled", "false\n");
    assert_eq!(site.act("promote", &[]), (GENERIC, vec![]));
    site.remove("stonith-enabled");
    site.write("no-cluster", "");
    assert_eq!(site.act("promote", &[]), (GENERIC, vec![]));
    site.remove("no-cluster");
    // A node that does not take over is not remembered as a leader.
    site.write("refuses", "");
    let refused = (GENERIC, vec!["failover --fenced".to_owned(); 10]);
    assert_eq!(site.act("promote", &[]), refused);
}

#[test]
fn a_loaded_state_is_promoted_and_the_cluster_remembers_it() {
    let site = Site::new();
    site.runs(&promotable());
    let (code, acts) = site.act("promote", &[]);
    assert_eq!(code, SUCCESS);
    assert_eq!(
        acts,
        ["failover --fenced", "remember here", "score -v 1000"]
    );
    // Once more is nothing new.
    let (code, acts) = site.act("promote", &[]);
    assert_eq!((code, acts.len()), (SUCCESS, 2), "{acts:?}");
}

#[test]
fn who_led_last_or_is_the_first_begins_as_the_primary() {
    let site = Site::new();
    let (code, acts) = site.act("start", &[("OCF_RESKEY_first", "there")]);
    let node = "node COLO_CLUSTER_OPTIONS=\"--role secondary\"";
    assert_eq!(code, SUCCESS);
    assert_eq!(acts, ["vm secondary", node, "score -D"]);
    assert_eq!(
        site.act("promote", &[("OCF_RESKEY_first", "there")]).0,
        GENERIC
    );

    let first = [("OCF_RESKEY_first", "here")];
    assert_eq!(
        site.act("monitor", &first),
        (SUCCESS, vec!["score -v 10".to_owned()])
    );
    let (code, acts) = site.act("promote", &first);
    assert_eq!(code, SUCCESS);
    let node = "node COLO_CLUSTER_OPTIONS=\"--role primary\"";
    let wanted = [
        "remember here",
        "vm ends",
        "node ends",
        "vm primary",
        node,
        "score -v 1000",
    ];
    assert_eq!(acts, wanted);

    // Another host has led since.
    site.write("dpdk-colo-x-leader", "there\n");
    site.runs(&fresh());
    assert_eq!(
        site.act("monitor", &first),
        (SUCCESS, vec!["score -D".to_owned()])
    );
    assert_eq!(site.act("promote", &first), (GENERIC, vec![]));
    site.write("dpdk-colo-x-leader", "here\n");
    assert_eq!(site.act("promote", &[]).0, SUCCESS);
    // A cluster that does not answer has not said that nobody led.
    site.runs(&fresh());
    site.write("no-cluster", "");
    assert_eq!(site.act("promote", &first), (GENERIC, vec![]));
}

#[test]
fn a_demoted_node_rests_until_another_leads() {
    let site = Site::new();
    site.runs(&primary());
    assert_eq!(
        site.act("demote", &[]),
        (
            SUCCESS,
            vec!["remember here".into(), "vm ends".into(), "node ends".into()]
        )
    );
    assert_eq!(site.act("monitor", &[]).0, SUCCESS);
    let notice = |operation| {
        [
            ("OCF_RESKEY_CRM_meta_notify_type", "post"),
            ("OCF_RESKEY_CRM_meta_notify_operation", operation),
        ]
    };
    assert_eq!(site.act("notify", &notice("demote")).1, ["score -v 10"]);
    let (code, acts) = site.act("notify", &notice("promote"));
    assert_eq!(
        (code, acts[0].as_str()),
        (SUCCESS, "vm secondary"),
        "{acts:?}"
    );
    // A node that follows stays as it is.
    assert_eq!(site.act("demote", &[]), (SUCCESS, vec![]));
}

#[test]
fn a_vm_that_leads_is_remembered_however_it_came_to_lead() {
    for (action, code) in [
        ("monitor", PROMOTED),
        ("demote", SUCCESS),
        ("stop", SUCCESS),
    ] {
        let site = Site::new();
        site.write("dpdk-colo-x-leader", "there\n");
        site.runs(&with(primary(), "superseded", Some(json!(true))));
        let acts = site.act(action, &[]).1;
        assert!(!acts.contains(&"remember here".to_owned()), "{acts:?}");
        let _ = fs::remove_file(site.path("dpdk-colo-x.resting"));

        site.runs(&primary());
        if action == "monitor" {
            assert_eq!(site.act(action, &[("PROBE", "1")]), (code, vec![]));
        }
        site.write("no-cluster", "");
        let (refused, acts) = site.act(action, &[]);
        if action == "monitor" {
            assert_eq!(refused, PROMOTED, "the VM does what it should");
        } else {
            assert_eq!(refused, GENERIC, "{action}");
            assert!(site.path("vm").exists(), "{action}: {acts:?}");
        }
        site.remove("no-cluster");
        let (done, acts) = site.act(action, &[]);
        let place = |act: &str| acts.iter().position(|done| done == act);
        assert_eq!(done, code, "{action}");
        assert!(place("remember here").is_some(), "{action}: {acts:?}");
        let ends = place("vm ends");
        assert!(
            ends.is_none() || ends > place("remember here"),
            "{action}: {acts:?}"
        );
    }
}

#[test]
fn a_stop_succeeds_only_when_qemu_is_gone() {
    let site = Site::new();
    site.runs(&primary());
    let stuck = [("OCF_RESKEY_vm_stop", "true")];
    assert_eq!(site.act("stop", &stuck).0, GENERIC);
    assert!(site.path("status").exists(), "the node stays with its VM");
    assert_eq!(site.act("demote", &stuck).0, GENERIC);
    let (code, acts) = site.act("stop", &[]);
    assert_eq!(
        (code, acts),
        (
            SUCCESS,
            vec!["score -D".into(), "vm ends".into(), "node ends".into()]
        )
    );
    assert_eq!(site.act("stop", &[]).0, SUCCESS);
}

#[test]
fn the_description_has_every_parameter() {
    let site = Site::new();
    let output = site.agent("meta-data", &[]);
    let page = String::from_utf8(output.stdout).expect("text");
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/ocf/dpdk-colo");
    let text = fs::read_to_string(agent).expect("the agent");
    let defaults = text
        .lines()
        .filter_map(|line| line.strip_prefix(": \"${OCF_RESKEY_"));
    let mut count = 0;
    for name in defaults.filter_map(|line| line.split('=').next()) {
        count += 1;
        assert!(
            page.contains(&format!("<parameter name=\"{name}\"")),
            "{name}"
        );
    }
    assert_eq!(count, 9);
    assert_eq!(site.act("validate-all", &[]).0, SUCCESS);
    assert_eq!(
        site.act("validate-all", &[("OCF_RESKEY_instance", "a b")])
            .0,
        6
    );
    assert_eq!(site.act("what", &[]).0, 3);
}
