//! The tree of figures, written in its three ways from the same figures. The expected texts lie in
//! `tests/golden`; with `UPDATE_GOLDEN=1` in the environment they are written anew.

use std::path::Path;
use std::time::Duration;

use dpdk_colo::cli::{Command, Options};
use dpdk_colo::compare::Policy;
use dpdk_colo::config::{PortRole, RuleName, Settings};
use dpdk_colo::observability::checkpoints::CheckpointTimes;
use dpdk_colo::observability::counters::{Counter, Group, Snapshot, Writer, published};
use dpdk_colo::observability::latency::{Interval, Set};
use dpdk_colo::observability::openmetrics;
use dpdk_colo::observability::summary::{
    Figures, MempoolSummary, MonitorState, MonitorSummary, PairSummary, RecordSummary, Summary,
};
use dpdk_colo::observability::table::Table;
use dpdk_colo::observability::telemetry::answer;
use dpdk_colo::protect::State;

fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    colo_testkit::golden::assert_golden(&path, found, "observability_figures");
}

fn settings(toml: &str) -> Settings {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("colo.toml");
    std::fs::write(&path, toml).expect("a file");
    match Options::parse(["--config".into(), path.into_os_string()]).expect("one option") {
        Command::Run(options) => options.settings().expect("good settings"),
        text => panic!("{text:?}"),
    }
}

fn primary() -> Settings {
    settings(
        "role = 'primary'\nguest = 'net_vhost0'\nuplink = 'net_tap0'\nlink = 'net_virtio_user0'\nlink-key = 'none'\n\
         qmp = '/run/p.sock'\n[[policy]]\nname = 'ntp'\naction = 'exempt'\nprotocol = 'udp'\n\
         port = 123\n",
    )
}

fn count(writer: &Writer) {
    writer.add(Counter::rx(PortRole::Guest), 1_000_000);
    writer.add(Counter::tx(PortRole::Uplink), 999_000);
    writer.add(Counter::dropped(PortRole::Link), 3);
    writer.add(Counter::Released, 999_000);
    writer.set(Counter::Held, 1000);
    writer.raise(Counter::HeldMax, 4096);
    writer.add(Counter::DivergedPayload, 2);
    writer.add(Counter::Requests, 2);
    writer.add(Counter::Commits, 2);
    writer.set(Counter::Epochs, 3);
    writer.set(Counter::Epoch, 3);
    writer.set(Counter::State, State::Protected as u64);
    writer.add(Counter::Polls, 50_000_000);
    writer.add(Counter::BusyCycles, 300);
    writer.add(Counter::IdleCycles, 700);
    writer.raise(Counter::LongestRound, 2_500_000);
    writer.add(Counter::LostTime, 1_500_000);
    writer.add(Counter::PolicyArp, 12);
    writer.add(Counter::Mirrored, 800_000);
    writer.add(Counter::LinkGarbage, 1);
    writer.set_rule(0, 5);
}

fn pair_at(settings: &Settings, seconds: u64, counters: &Snapshot) -> PairSummary {
    let mut latencies = Set::new();
    for us in 1..=100 {
        latencies.record(Interval::Hold, us * 1000);
    }
    latencies.record_times(Interval::Skew, 700, 40);
    let mut checkpoints = CheckpointTimes::default();
    for ms in [2, 3, 9] {
        checkpoints.record_stop(Duration::from_millis(ms));
        checkpoints.record_pause(Duration::from_millis(ms * 10));
    }
    let mut pair = PairSummary::new(Figures {
        pair: &settings.pairs[0],
        elapsed: Duration::from_secs(seconds),
        cores: &[(1, counters.clone())],
        latencies: &latencies,
        checkpoints: &checkpoints,
    });
    let pool = MempoolSummary {
        size: 32767,
        in_use: 1500,
    };
    pair.mempools.insert("frames".into(), pool);
    pair.monitor = Some(MonitorSummary {
        state: MonitorState::Unresponsive,
        waits_for: Some("query-status"),
        waits_ms: 1_500,
        unresponsive: 2,
        longest_ms: 4_000,
    });
    pair.records = Some(RecordSummary {
        written: 7,
        over_limit: 2,
        failed: 1,
    });
    pair
}

#[test]
fn the_summary_of_one_pair_is_its_tree() {
    let settings = primary();
    let (writer, reader) = published(1);
    count(&writer);
    let elapsed = Duration::from_secs(60);
    let summary = Summary::new(elapsed, vec![pair_at(&settings, 60, &reader.snapshot())]);

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("summary.json");
    summary.write(&path).expect("a writable directory");
    let text = std::fs::read_to_string(&path).expect("the summary");
    assert_golden("summary.json", &text);
    assert_golden("metrics.txt", &openmetrics::text(&summary));

    let pretty: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let line: serde_json::Value = serde_json::from_str(&summary.to_json()).expect("JSON");
    assert_eq!(pretty, line);
    for key in [
        "role",
        "seconds",
        "epochs",
        "ports",
        "released",
        "held",
        "held_max",
        "divergences",
        "checkpoints",
        "hold_ns",
        "skew_ns",
        "release_ns",
        "request_ns",
        "busy_cycles",
        "idle_cycles",
    ] {
        assert!(pretty.get(key).is_some(), "{key}");
    }
    assert!(
        summary.to_json().len() < 16 << 10,
        "a telemetry reply has at most 16 KiB"
    );
}

#[test]
fn every_counter_is_shown() {
    let settings = primary();
    let tree = |counted: Option<Counter>| {
        let (writer, reader) = published(1);
        if let Some(counter) = counted {
            writer.set(counter, 1);
        }
        let pair = pair_at(&settings, 1, &reader.snapshot());
        Summary::new(Duration::from_secs(1), vec![pair])
    };
    let (json, metrics) = (tree(None).to_json(), openmetrics::text(&tree(None)));
    // Of two texts that are equal nothing need be printed.
    for counter in Counter::ALL {
        let with = tree(Some(*counter));
        assert!(with.to_json() != json, "{counter:?} is not in the summary");
        // The metrics have the number of the current epoch instead.
        assert!(
            openmetrics::text(&with) != metrics || *counter == Counter::Epochs,
            "{counter:?} is not in the metrics"
        );
    }
}

#[test]
fn a_default_rule_has_one_name() {
    let policy = Policy::default();
    let compared: Vec<_> = policy.uses().map(|(name, _)| name).collect();
    assert_eq!(compared, RuleName::DEFAULTS);
    let counters = Counter::ALL
        .iter()
        .filter(|counter| counter.group() == Group::Policy);
    let shown: Vec<_> = counters.map(|counter| counter.name()).collect();
    assert_eq!(shown, RuleName::DEFAULTS);
}

#[test]
fn several_pairs_lie_under_their_names() {
    let mut pairs = Vec::new();
    for (vm_id, role) in [(1, "a"), (2, "b")] {
        let settings = settings(&format!(
            "role = 'compare'\nprimary-in = '{role}0'\nsecondary-in = '{role}1'\nout = '{role}2'\n\
             vm-id = {vm_id}\n"
        ));
        pairs.push(pair_at(&settings, 1, &Snapshot::zero(0)));
    }
    let summary = Summary::new(Duration::from_secs(1), pairs);
    let tree: serde_json::Value = serde_json::from_str(&summary.to_json()).expect("JSON");
    assert_eq!(tree["pairs"]["vm2"]["ports"]["b1"]["place"], "secondary-in");
    assert_eq!(tree["pairs"]["vm1"]["role"], "compare");
    assert_eq!(tree["seconds"], 1.0);
    assert!(tree["pairs"]["vm1"].get("link").is_none());
}

#[test]
fn telemetry_leaves_no_pair_out_without_a_word() {
    let (writer, reader) = published(0);
    count(&writer);
    let counters = reader.snapshot();
    let summary = |pairs: u32| {
        let pair = |n| {
            let settings = settings(&format!(
                "role = 'primary'\nguest = 'a{n}'\nuplink = 'b{n}'\nlink = 'c{n}'\nlink-key = 'none'\n\
                 qmp = '/run/{n}.sock'\nvm-id = {n}\n"
            ));
            pair_at(&settings, 1, &counters)
        };
        Summary::new(Duration::from_secs(1), (1..=pairs).map(pair).collect())
    };
    let whole = |summary: &Summary| serde_json::to_value(summary).expect("JSON");
    for pairs in [1, 2] {
        let summary = summary(pairs);
        assert_eq!(answer(&summary, ""), whole(&summary));
    }
    let all_pairs = summary(20);
    assert!(all_pairs.to_json().len() > 16 << 10);
    let all = answer(&all_pairs, "");
    assert!(
        all["error"]
            .as_str()
            .is_some_and(|e| e.contains("/colo/stats,PAIR")),
        "{all}"
    );
    let names: Vec<String> = (1..=20).map(|n| format!("vm{n}")).collect();
    let mut listed: Vec<&str> = all["pairs"]
        .as_array()
        .expect("names")
        .iter()
        .filter_map(|n| n.as_str())
        .collect();
    listed.sort_by_key(|name| (name.len(), *name));
    assert_eq!(listed, names);
    for name in &names {
        assert_eq!(answer(&all_pairs, name), whole(&all_pairs)["pairs"][name]);
    }
    let unknown = answer(&all_pairs, "vm21");
    assert_eq!(
        (unknown["error"].as_str(), &unknown["pairs"]),
        (Some("no VM pair has this name"), &all["pairs"])
    );
    // Not even the names fit.
    let many = answer(&summary(3000), "");
    let named = many["pairs"].as_array().expect("names").len() as u64;
    assert!(
        named > 100 && many["pairs_left_out"] == 3000 - named,
        "{many}"
    );
}

#[test]
fn a_summary_that_cannot_be_written_says_where() {
    let summary = Summary::new(Duration::ZERO, Vec::new());
    let error = summary
        .write(Path::new("/nonexistent/s.json"))
        .expect_err("no directory");
    assert_eq!(
        error.to_string(),
        "--summary: cannot write \"/nonexistent/s.json\": No such file or directory (os error 2)"
    );
}

#[test]
fn the_table_shows_rates_since_the_one_before() {
    let settings = primary();
    let (writer, reader) = published(1);
    count(&writer);
    let mut table = Table::new(false);
    let start = Summary::new(
        Duration::ZERO,
        vec![pair_at(&settings, 40, &reader.snapshot())],
    );
    let mut text = table.next(&start);
    count(&writer);
    let then = Summary::new(
        Duration::ZERO,
        vec![pair_at(&settings, 60, &reader.snapshot())],
    );
    text.push_str(&table.next(&then));
    assert_golden("table.txt", &text);
    assert!(!text.contains('\x1b'));
    assert!(Table::new(true).next(&then).starts_with('\x1b'));
}
