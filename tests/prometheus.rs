//! What is made for Prometheus and Grafana fits the metrics: the document, the alerts, the board. promtool judges the
//! text of the metrics and the rules, and fires each alert once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dpdk_colo::observability::openmetrics::{Family, Kind, families};
use serde_json::Value;

const RULES: &str = "share/prometheus/dpdk-colo.rules.yml";
const RULES_TEST: &str = "share/prometheus/dpdk-colo.rules.test.yml";
const BOARD: &str = "share/grafana/dpdk-colo.json";
const DOCUMENT: &str = "docs/metrics.md";

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs promtool with this on its stdin; what it says.
fn promtool(args: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(at("share/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("promtool: {e}; scripts/install-packages installs it"));
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end before it has read all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(said),
    }
}

/// The names of all samples, with the labels that each has.
fn samples() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut samples = BTreeMap::new();
    for family in families() {
        let labels: BTreeSet<_> = family.labels.iter().copied().chain(["pair"]).collect();
        let name = family.sample_name();
        match family.kind {
            Kind::Histogram => {
                samples.insert(format!("{name}_bucket"), labels);
                samples.insert(format!("{name}_sum"), BTreeSet::from(["pair"]));
                samples.insert(format!("{name}_count"), BTreeSet::from(["pair"]));
            }
            _ => {
                samples.insert(name, labels);
            }
        }
    }
    samples
}

/// The samples that a text names, with the labels that it selects them by.
fn named(text: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (start, _) in text.match_indices("colo_") {
        if text[..start].ends_with(is_name) {
            continue;
        }
        let rest = &text[start..];
        let name = rest.split(|c| !is_name(c)).next().unwrap_or_default();
        let behind = &rest[name.len()..];
        // A label's name, as in `{colo_state=`, in a legend or in `without (colo_state)`.
        if behind.starts_with(['=', '!', '}', ')']) {
            continue;
        }
        let selector = behind
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next());
        let matchers = selector
            .into_iter()
            .flat_map(|selector| selector.split("\","));
        let labels = matchers.map(|matcher| matcher.split(|c| !is_name(c)).next());
        found.push((
            name.to_owned(),
            labels.flatten().map(str::to_owned).collect(),
        ));
    }
    found
}

/// Asserts that a text names only what there is; returns how many samples it names.
fn check_names(place: &str, text: &str) -> usize {
    let samples = samples();
    let named = named(text);
    for (name, labels) in &named {
        let known = samples.get(name);
        let known = known.unwrap_or_else(|| panic!("{place}: there is no {name}: {text}"));
        for label in labels {
            assert!(
                known.contains(&**label) || ["instance", "job"].contains(&&**label),
                "{place}: {name} has no label {label}: {text}"
            );
        }
    }
    named.len()
}

fn table() -> String {
    let mut text = String::from(
        "| metric | type | unit | labels | what it is |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut families: Vec<Family> = families();
    families.sort_by(|a, b| a.name.cmp(&b.name));
    for family in &families {
        let labels: Vec<String> = family.labels.iter().map(|it| format!("`{it}`")).collect();
        text.push_str(&format!(
            "| `{}` | {} | {} | {} | {} |\n",
            family.name,
            family.kind_word(),
            family.unit,
            labels.join(", "),
            family.help
        ));
    }
    text.push_str("\nThe values of labels:\n\n| metric | label | value | what it counts |\n| --- | --- | --- | --- |\n");
    for family in &families {
        for (value, help) in family.values() {
            let (name, label) = (&family.name, family.labels[0]);
            text.push_str(&format!("| `{name}` | `{label}` | `{value}` | {help} |\n"));
        }
    }
    text
}

#[test]
fn the_document_lists_every_metric() {
    let text = read(DOCUMENT);
    let mark = "--test prometheus`. -->\n";
    let end = text.find(mark).expect("the mark") + mark.len();
    let whole = format!("{}\n{}", &text[..end], table());
    colo_testkit::golden::assert_golden(&at(DOCUMENT), &whole, "prometheus");
}

#[test]
fn the_alerts_are_those_that_the_document_names() {
    let rules = read(RULES);
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert_eq!(alerts.len(), 6);
    let (document, test) = (read(DOCUMENT), read(RULES_TEST));
    for alert in &alerts {
        assert!(document.contains(&format!("| `{alert}` |")), "{alert}");
        assert!(test.contains(&format!("alertname: {alert}")), "{alert}");
    }
    assert!(check_names(RULES, &rules) > 8);
    assert!(check_names(RULES_TEST, &test) > 8);
}

#[test]
fn promtool_takes_the_metrics_and_fires_and_clears_each_alert() {
    let metrics = read("tests/golden/metrics-0.0.4.txt");
    let said = promtool(&["check", "metrics"], &metrics);
    assert_eq!(said.as_deref(), Ok(""));
    // It does judge.
    let wrong = metrics.replace(
        "# TYPE colo_faults_total counter",
        "# TYPE colo_faults_total gauge",
    );
    assert!(promtool(&["check", "metrics"], &wrong).is_err());
    let file = |path: &str| at(path).to_str().expect("UTF-8").to_owned();
    for args in [
        ["check", "rules", &file(RULES)],
        ["test", "rules", &file(RULES_TEST)],
    ] {
        if let Err(said) = promtool(&args, "") {
            panic!("promtool {args:?}: {said}");
        }
    }
}

#[test]
fn each_alert_is_tried_on_both_sides_of_its_threshold() {
    // With a rule that never fires, or always does, the test of the rules fails.
    let (rules, test) = (read(RULES), read(RULES_TEST));
    let lines: Vec<&str> = rules.lines().collect();
    let alerts = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains("- alert: "));
    for (start, alert) in alerts {
        for expression in ["vector(0) > 1", "vector(1)"] {
            let end = start
                + 1
                + lines[start..]
                    .iter()
                    .position(|line| line.contains("labels:"))
                    .expect("labels");
            let body = lines[start..end]
                .iter()
                .find(|line| line.contains(" for: "))
                .expect("a duration");
            let mut changed = lines[..=start].to_vec();
            let expr = format!("        expr: {expression}");
            changed.extend([&*expr, *body]);
            changed.extend(&lines[end - 1..]);
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(dir.path().join("dpdk-colo.rules.yml"), changed.join("\n")).expect("a file");
            let path = dir.path().join("test.yml");
            fs::write(&path, &test).expect("a file");
            let outcome = promtool(&["test", "rules", path.to_str().expect("UTF-8")], "");
            let said = outcome.expect_err(&format!("{alert} with {expression} passes"));
            assert!(said.contains("alertname"), "{alert}: {said}");
        }
    }
}

#[test]
fn the_board_asks_for_metrics_that_there_are() {
    let board: Value = serde_json::from_str(&read(BOARD)).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let mut queries = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query").to_owned();
            let legend = target["legendFormat"].as_str().expect("a legend");
            queries.push((panel["title"].as_str().expect("a title"), query, legend));
        }
    }
    assert!(queries.len() > 25, "{}", queries.len());
    let mut seen = BTreeSet::new();
    for (title, query, legend) in &queries {
        assert!(check_names(title, query) > 0, "{title}: {query}");
        let samples = samples();
        let known: BTreeSet<&str> = named(query)
            .iter()
            .flat_map(|(name, _)| samples[name].iter().copied())
            .chain(["instance"])
            .collect();
        for label in legend.split("{{").skip(1) {
            let label = label.split("}}").next().unwrap_or_default();
            assert!(known.contains(label), "{title}: no label {label}: {query}");
        }
        seen.extend(named(query).into_iter().map(|(name, _)| name));
    }
    for variable in board["templating"]["list"].as_array().expect("variables") {
        if variable["type"] == "query" {
            let query = variable["query"].as_str().expect("a query");
            assert!(check_names("a variable", query) > 0, "{query}");
        }
    }
    // promtool knows the language of the queries, by rules that record them.
    let mut rules = String::from("groups:\n- name: board\n  rules:\n");
    for (n, (_, query, _)) in queries.iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m");
        rules.push_str(&format!("  - record: q{n}\n    expr: '{query}'\n"));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("board.yml");
    fs::write(&path, rules).expect("a file");
    if let Err(said) = promtool(&["check", "rules", path.to_str().expect("UTF-8")], "") {
        panic!("{said}");
    }
    for wanted in [
        "colo_state",
        "colo_hold_seconds_bucket",
        "colo_link_sent_bytes_total",
    ] {
        assert!(seen.contains(wanted), "{wanted}");
    }
}
