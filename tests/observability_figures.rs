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
use dpdk_colo::observability::openmetrics::{self, Format};
use dpdk_colo::observability::summary::{
    Figures, MempoolSummary, MonitorState, MonitorSummary, PairSummary, RecordSummary, Summary,
};
use dpdk_colo::observability::table::Table;
use dpdk_colo::observability::telemetry;
use dpdk_colo::protect::State;
use serde_json::{Value, json};

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
        checkpoints.record_pause("payload", Duration::from_millis(ms * 10));
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
    for (name, format) in [
        ("metrics.txt", Format::OpenMetrics),
        ("metrics-0.0.4.txt", Format::Prometheus),
    ] {
        assert_golden(name, &openmetrics::text(&summary.pairs(), format));
    }

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
    let text = |tree: &Summary| openmetrics::text(&tree.pairs(), Format::OpenMetrics);
    let (json, metrics) = (tree(None).to_json(), text(&tree(None)));
    // Of two texts that are equal nothing need be printed.
    for counter in Counter::ALL {
        let with = tree(Some(*counter));
        assert!(with.to_json() != json, "{counter:?} is not in the summary");
        assert!(text(&with) != metrics, "{counter:?} is not in the metrics");
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
fn a_mask_rule_counts_bytes_and_one_that_is_tried_differences() {
    let rule = |name: &str, more: &str| {
        format!(
            "[[policy]]\nname = '{name}'\naction = 'mask'\nprotocol = 'tcp'\nafter = 'time='\nlength = 8\n{more}\n"
        )
    };
    let settings = settings(&format!(
        "role = 'compare'\nprimary-in = 'a'\nsecondary-in = 'b'\nout = 'c'\n\
         [[policy]]\nname = 'ntp'\naction = 'exempt'\nprotocol = 'udp'\n{}{}",
        rule("date", ""),
        rule("tried", "dry-run = true"),
    ));
    let (writer, reader) = published(3);
    (0..3).for_each(|rule| writer.set_rule(rule, rule as u64 + 5));
    let pair = pair_at(&settings, 1, &reader.snapshot());
    let summary = Summary::new(Duration::from_secs(1), vec![pair]);
    let tree: Value = serde_json::from_str(&summary.to_json()).expect("JSON");
    assert_eq!(tree["policy"]["ntp"], 5);
    assert_eq!(tree["policy"]["date"], Value::Null, "it exempts nothing");
    assert_eq!(tree["masked_bytes"], json!({"date": 6}));
    assert_eq!(tree["mask_dry_run"], json!({"tried": 7}));
    let text = openmetrics::text(&summary.pairs(), Format::OpenMetrics);
    for line in [
        "colo_masked_bytes_total{pair=\"vm0\",rule=\"date\"} 6\n",
        "colo_mask_dry_run_total{pair=\"vm0\",rule=\"tried\"} 7\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
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
    // Telemetry knows no floating point.
    fn round(value: &mut Value) {
        match value {
            Value::Object(entries) => entries.values_mut().for_each(round),
            Value::Number(number) if number.is_f64() => {
                *value = (number.as_f64().expect("a number").round() as u64).into();
            }
            _ => {}
        }
    }
    let whole = |summary: &Summary| {
        let mut tree = serde_json::to_value(summary).expect("JSON");
        round(&mut tree);
        tree
    };
    for pairs in [1, 2] {
        let summary = summary(pairs);
        assert_eq!(answer("/colo/stats", &summary, ""), whole(&summary));
    }
    let all_pairs = summary(20);
    assert!(all_pairs.to_json().len() > 16 << 10);
    let all = answer("/colo/stats", &all_pairs, "");
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
        assert_eq!(
            answer("/colo/stats", &all_pairs, name),
            whole(&all_pairs)["pairs"][name]
        );
    }
    let unknown = answer("/colo/stats", &all_pairs, "vm21");
    assert_eq!(
        (unknown["error"].as_str(), &unknown["pairs"]),
        (Some("no VM pair has this name"), &all["pairs"])
    );
    // Not even the names fit.
    let many = answer("/colo/stats", &summary(3000), "");
    let named = many["pairs"].as_array().expect("names").len() as u64;
    assert!(
        named > 100 && many["pairs_left_out"] == 3000 - named,
        "{many}"
    );
}

/// What a command answers to this parameter.
fn answer(command: &str, summary: &Summary, parameter: &str) -> Value {
    let mut commands = telemetry::COMMANDS.iter();
    let command = commands.find(|known| known.path == command);
    let answer = command.expect("a command").answer(summary, parameter);
    assert!(answer.to_string().len() < 16 << 10, "DPDK cuts it off");
    answer
}

/// The sample of a line: its name, its labels, its value.
fn sample(line: &str) -> (&str, Vec<(&str, &str)>, f64) {
    let (name, rest) = line.split_once('{').expect("labels");
    let (labels, value) = rest.split_once("} ").expect("a value");
    let labels = labels.split(',').map(|label| {
        let (key, value) = label.split_once('=').expect("a label");
        (key, value.trim_matches('"'))
    });
    (name, labels.collect(), value.parse().expect("a number"))
}

/// Where `/colo/stats` and `/colo/latency` have a sample's value, and how many of its units make one of the sample's.
fn place_of(name: &str, label: &dyn Fn(&str) -> String) -> (String, f64) {
    let at = |path: String| (path, 1.0);
    let name = name.strip_prefix("colo_").expect("ours");
    let bare = name.strip_suffix("_total").unwrap_or(name);
    match bare {
        "port_rx_frames" => at(format!("/ports/{}/rx", label("port"))),
        "port_tx_frames" => at(format!("/ports/{}/tx", label("port"))),
        "port_dropped_frames" => at(format!("/ports/{}/dropped", label("port"))),
        "path_frames" => at(format!("/paths/{}", label("path"))),
        "policy_frames" => at(format!("/policy/{}", label("rule"))),
        "input_frames" => at(format!("/input/{}", label("event"))),
        "link_events" => at(format!("/link/{}", label("event"))),
        "link_sent_bytes" | "link_received_bytes" => at(format!("/{bare}/{}", label("kind"))),
        "divergences" => at(format!("/divergences/{}", label("reason"))),
        "faults" => at(format!("/faults/{}", label("fault"))),
        "records" => at(format!("/records/{}", label("outcome"))),
        "vm_stops" => at(format!("/checkpoints/reasons/{}/stops", label("reason"))),
        "vm_stopped_seconds" => (
            format!("/checkpoints/reasons/{}/pause_ns", label("reason")),
            1e9,
        ),
        "monitor_unresponsive" => at("/monitor/unresponsive".into()),
        "monitor_wait_seconds" => ("/monitor/waits_ms".into(), 1e3),
        "monitor_longest_wait_seconds" => ("/monitor/longest_ms".into(), 1e3),
        "mempool_size_buffers" => at(format!("/mempools/{}/size", label("mempool"))),
        "mempool_used_buffers" => at(format!("/mempools/{}/in_use", label("mempool"))),
        "uptime_seconds" => at("/seconds".into()),
        "lost_time_seconds" => ("/lost_time_ns".into(), 1e9),
        "longest_round_seconds" => ("/longest_round_ns".into(), 1e9),
        "peer_silence_seconds" => ("/peer/silence_ms".into(), 1e3),
        _ => {
            if let Some(key) = bare.strip_prefix("core_") {
                let key = key.trim_end_matches("_frames");
                return at(format!("/workers/{}/{key}", label("lcore")));
            }
            if let Some(interval) = bare.strip_suffix("_seconds_count") {
                return at(format!("/latency/{interval}_ns/count"));
            }
            if let Some(interval) = bare.strip_suffix("_seconds_sum") {
                return (format!("/latency/{interval}_ns/sum"), 1e9);
            }
            if let Some(key) = bare.strip_prefix("checkpoints_") {
                return at(format!("/checkpoints/{key}"));
            }
            if let Some(key) = bare.strip_prefix("peer_") {
                return at(format!("/peer/{key}"));
            }
            at(format!("/{}", bare.trim_end_matches("_frames")))
        }
    }
}

#[test]
fn each_metric_has_the_value_that_telemetry_has() {
    let settings = primary();
    let (writer, reader) = published(1);
    for (n, counter) in Counter::ALL.iter().enumerate() {
        writer.set(*counter, 1_000_003 * (n as u64 + 1));
    }
    writer.set(Counter::State, State::Uncertain as u64);
    writer.set_rule(0, 77);
    let pair = pair_at(&settings, 60, &reader.snapshot());
    let summary = Summary::new(Duration::from_secs(60), vec![pair]);
    let mut stats = answer("/colo/stats", &summary, "vm0");
    stats["latency"] = answer("/colo/latency", &summary, "vm0");
    let bounds = stats["latency"]["bounds_ns"].clone();
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let text = openmetrics::text(&summary.pairs(), format);
        let mut seen = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, labels, value) = sample(line);
            assert_eq!(labels[0], ("pair", "vm0"));
            let label = |wanted: &str| {
                let mut labels = labels.iter();
                let found = labels.find(|(key, _)| *key == wanted);
                found.expect(wanted).1.to_owned()
            };
            seen += 1;
            let expected = match name {
                "colo_pair_info" => f64::from(label("role") == stats["role"]),
                "colo_state" => f64::from(stats["state"] == label("colo_state")),
                "colo_monitor" => f64::from(stats["monitor"]["state"] == label("colo_monitor")),
                _ if name.ends_with("_bucket") => {
                    let interval = name.strip_prefix("colo_").expect("ours");
                    let interval = interval.strip_suffix("_seconds_bucket").expect("seconds");
                    let figures = &stats["latency"][format!("{interval}_ns")];
                    let bound = label("le").parse::<f64>().expect("a number");
                    let mut bounds = bounds.as_array().expect("numbers").iter();
                    let is_same = |ns: &Value| ns.as_f64().expect("a number") / 1e9 == bound;
                    match bounds.position(is_same) {
                        Some(at) => figures["buckets"][at].as_f64().expect("a number"),
                        None => figures["count"].as_f64().expect("a number"),
                    }
                }
                _ => {
                    let (path, scale) = place_of(name, &label);
                    let found = stats.pointer(&path).and_then(Value::as_f64);
                    found.unwrap_or_else(|| panic!("{line}: no {path}")) / scale
                }
            };
            assert!(
                (value - expected).abs() <= 1e-9 * expected.abs(),
                "{line}: telemetry has {expected}"
            );
        }
        assert!(seen > 250, "{seen}");
    }
}

#[test]
fn one_pair_and_many_have_one_shape() {
    let pair = |n: u32| {
        let settings = settings(&format!(
            "role = 'primary'\nguest = 'a'\nuplink = 'b'\nlink = 'c'\nlink-key = 'none'\n\
             qmp = '/run/s'\nvm-id = {n}\n"
        ));
        pair_at(&settings, 1, &Snapshot::zero(0))
    };
    let text = |pairs: Vec<PairSummary>| {
        let summary = Summary::new(Duration::from_secs(1), pairs);
        openmetrics::text(&summary.pairs(), Format::OpenMetrics)
    };
    let (one, two) = (text(vec![pair(1)]), text(vec![pair(1), pair(2)]));
    let of_second = two.lines().filter(|line| line.contains("{pair=\"vm2\""));
    let of_second: Vec<String> = of_second.map(|line| line.replace("vm2", "vm1")).collect();
    let without_second: Vec<&str> = two
        .lines()
        .filter(|line| !line.contains("{pair=\"vm2\""))
        .collect();
    assert_eq!(without_second, one.lines().collect::<Vec<_>>());
    let of_first: Vec<&str> = one.lines().filter(|line| line.contains("{pair=")).collect();
    assert_eq!(of_second, of_first);
}

#[test]
fn telemetry_has_latencies_and_reasons_in_whole_numbers() {
    let settings = primary();
    let (writer, reader) = published(1);
    count(&writer);
    let summary = Summary::new(
        Duration::from_secs(60),
        vec![pair_at(&settings, 60, &reader.snapshot())],
    );
    for parameter in ["", "vm0", "vm0,"] {
        let latency = answer("/colo/latency", &summary, parameter);
        assert_eq!(latency["hold_ns"]["count"], 100);
        let buckets = latency["hold_ns"]["buckets"].as_array().expect("numbers");
        let bounds = latency["bounds_ns"].as_array().expect("numbers");
        let at = bounds.iter().position(|bound| *bound == 50_000);
        assert_eq!(buckets[at.expect("a bound")], 50);
        assert_eq!(buckets.len(), bounds.len());
        assert_eq!(latency["checkpoint_pause_ns"]["count"], 3);
        let sum = latency["checkpoint_pause_ns"]["sum"].as_f64();
        assert!(
            (sum.expect("a number") / 140e6 - 1.0).abs() < 0.01,
            "{sum:?}"
        );

        let reasons = answer("/colo/divergences", &summary, parameter);
        assert_eq!(reasons["divergences"]["payload"], 2);
        assert_eq!(reasons["divergences"]["link_down"], 0);
        assert_eq!(reasons["checkpoints"]["committed"], 2);
        assert_eq!(reasons["stops"]["payload"]["stops"], 3);
        assert_eq!(reasons["stops"]["payload"]["pause_ns"], 140_000_000);
        assert_eq!(reasons["records"]["over_limit"], 2);
    }
    for command in ["/colo/latency", "/colo/divergences", "/colo/stats"] {
        let unknown = answer(command, &summary, "vm1");
        assert_eq!(unknown["error"], "no VM pair has this name");
        assert_eq!(unknown["pairs"][0], "vm0");
    }
}

#[test]
fn telemetry_splits_what_is_longer_than_a_reply() {
    let rules = |n| {
        let rule = |i| {
            format!(
                "[[policy]]\nname = 'a-rule-with-a-name-{i:03}'\naction = 'exempt'\nprotocol = 'udp'\nport = {}\n",
                i + 1
            )
        };
        (0..n).map(rule).collect::<String>()
    };
    let settings = settings(&format!(
        "role = 'compare'\nprimary-in = 'a'\nsecondary-in = 'b'\nout = 'c'\n{}",
        rules(600)
    ));
    let (writer, reader) = published(600);
    (0..600).for_each(|rule| writer.set_rule(rule, rule as u64));
    let pair = pair_at(&settings, 1, &reader.snapshot());
    let summary = Summary::new(Duration::from_secs(1), vec![pair]);
    let whole = answer("/colo/stats", &summary, "vm0");
    let error = whole["error"].as_str().expect("it is too long");
    assert!(error.contains("/colo/stats,PAIR,PART"), "{error}");
    let parts: Vec<&str> = whole["parts"]
        .as_array()
        .expect("names")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        parts.contains(&"policy") && parts.contains(&"released"),
        "{parts:?}"
    );
    let (mut seen, mut from, mut answers) = (Vec::new(), 0, 0);
    loop {
        let page = answer("/colo/stats", &summary, &format!("vm0,policy,{from}"));
        let entries = page["entries"].as_object().expect("rules");
        assert!(!entries.is_empty(), "{page}");
        seen.extend(entries.iter().map(|(name, n)| (name.clone(), n.clone())));
        answers += 1;
        match page["next"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(seen.len(), 600 + RuleName::DEFAULTS.len());
    let rule = seen
        .iter()
        .find(|(name, _)| name == "a-rule-with-a-name-599");
    assert_eq!(rule.expect("the last one").1, 599);
    assert!(answers >= 3, "DPDK takes 256 entries");
    assert_eq!(
        answer("/colo/stats", &summary, "vm0,role"),
        json!({"role": "compare"})
    );
    for (part, word) in [
        ("vm0,colour", "no part"),
        ("vm0,policy,x", "FROM"),
        ("vm0,role,1", "FROM"),
    ] {
        let error = answer("/colo/stats", &summary, part);
        assert!(
            error["error"].as_str().expect("text").contains(word),
            "{error}"
        );
    }
}

#[test]
fn telemetry_lists_every_pair() {
    let pair = |n| {
        let settings = settings(&format!(
            "role = 'compare'\nprimary-in = 'a{n}'\nsecondary-in = 'b{n}'\nout = 'c{n}'\nvm-id = {n}\n"
        ));
        pair_at(&settings, 1, &Snapshot::zero(0))
    };
    let summary = Summary::new(Duration::ZERO, (0..1500).map(pair).collect());
    let (mut seen, mut parameter) = (Vec::new(), String::new());
    loop {
        let page = answer("/colo/pairs", &summary, &parameter);
        assert_eq!(page["count"], 1500);
        let names = page["pairs"].as_array().expect("names");
        assert_eq!(names.len(), page["states"].as_array().expect("words").len());
        assert_eq!(page["roles"][0], "compare");
        seen.extend(
            names
                .iter()
                .filter_map(|name| Some(name.as_str()?.to_owned())),
        );
        match page["next"].as_u64() {
            Some(next) => parameter = next.to_string(),
            None => break,
        }
    }
    seen.sort_by_key(|name| (name.len(), name.clone()));
    let all: Vec<String> = (0..1500).map(|n| format!("vm{n}")).collect();
    assert_eq!(seen, all);
    assert!(answer("/colo/pairs", &summary, "vm1")["error"].is_string());
    assert_eq!(answer("/colo/pairs", &summary, "1500")["pairs"], json!([]));
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
