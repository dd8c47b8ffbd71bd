//! `coloctl compare` on captures whose differences are known.

mod captures;

use std::fs;
use std::process::Output;

use serde_json::Value;

use captures::{Bench, Format, MS, Vm};

/// The page that both send, with a date.
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nDate: Tue, 01 Dec 2026 10:00:00 GMT\r\nContent-Length: 4\r\n\r\nbody";
/// The same, a second later.
const LATER: &[u8] =
    b"HTTP/1.1 200 OK\r\nDate: Tue, 01 Dec 2026 10:00:01 GMT\r\nContent-Length: 4\r\n\r\nbody";
/// Where the digit of the second lies.
const SECOND: u64 = 47;
/// How far S is behind P.
const LAG: u64 = 2 * MS;

fn json(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A connection to which both answer at these times with P's and S's bytes, S always later.
fn answers(bench: &mut Bench, connection: u16, begins: u64, all: &[(u64, &[u8], &[u8])]) {
    let (mut p, mut s) = (
        Vm::new(connection, 1_000_000),
        Vm::new(connection, 77_000_000),
    );
    bench.both(begins, |_| p.client_syn());
    bench.p(begins + MS, p.syn_ack());
    bench.s(begins + MS + LAG, s.syn_ack());
    for (at, of_p, of_s) in all {
        let request = p.request();
        s.request();
        bench.both(*at, |_| request.clone());
        bench.p(at + MS, p.answer(of_p));
        bench.s(at + MS + LAG, s.answer(of_s));
    }
}

fn one(all: &[(u64, &[u8], &[u8])], end: u64) -> Bench {
    let mut bench = Bench::new();
    answers(&mut bench, 4000, 0, all);
    bench.end(end);
    bench
}

#[test]
fn equal_guests_need_no_checkpoint_and_hold_as_long_as_s_is_late() {
    let bench = one(&[(10 * MS, PAGE, PAGE), (500 * MS, PAGE, PAGE)], 4000 * MS);
    let report = json(&bench.compare(&["--json"]));
    assert_eq!(report["checkpoints"]["count"], 0, "{report:#}");
    let equal = &report["held"]["equal"];
    assert_eq!((&equal["frames"], &equal["waited"]), (&3.into(), &3.into()));
    for key in ["p50_ms", "p99_ms", "max_ms"] {
        assert_eq!(equal[key], 2.0, "{report:#}");
    }
    assert_eq!(report["held"]["by_checkpoint"]["frames"], 0);
    assert_eq!(report["held"]["most"], 1);
    assert_eq!(report["compared"]["seconds"], 4.0);
    assert_eq!(report["clock"]["offset_ms"], 0.0);
    assert_eq!(report["clock"]["by"], "input");
}

#[test]
fn a_byte_that_differs_is_named_and_held_until_the_checkpoint() {
    let bench = one(
        &[
            (10 * MS, PAGE, PAGE),
            (500 * MS, LATER, PAGE),
            (900 * MS, LATER, LATER),
        ],
        2000 * MS,
    );
    let report = json(&bench.compare(&["--json"]));
    assert_eq!(report["checkpoints"]["count"], 1, "{report:#}");
    assert_eq!(report["checkpoints"]["reasons"]["payload"], 1);
    assert_eq!(report["checkpoints"]["per_second"], 0.5);
    let difference = &report["differences"][0];
    assert_eq!(difference["at_s"], 0.503);
    assert_eq!(difference["stream_offset"], PAGE.len() as u64 + SECOND);
    assert_eq!(difference["checkpoint"], true);
    let flow = difference["flow"].as_str().expect("a flow");
    assert!(
        flow.contains("10.0.0.1:80") && flow.contains("10.0.0.2:4000"),
        "{flow}"
    );
    for (side, digit) in [("primary", "1"), ("secondary", "0")] {
        let window = &difference[side];
        let lead = window["lead"].as_u64().expect("a number") as usize;
        let text = window["ascii"].as_str().expect("text");
        assert_eq!(lead, 16);
        assert_eq!(&text[..lead], "Dec 2026 10:00:0", "{text}");
        assert_eq!(&text[lead..=lead], digit);
    }
    // From its arrival to S's, and for the checkpoint's 20 ms.
    let committed = &report["held"]["by_checkpoint"];
    assert_eq!(
        (&committed["frames"], &committed["max_ms"]),
        (&1.into(), &22.0.into())
    );
    assert_eq!(report["held"]["equal"]["frames"], 3);

    let slow = json(&bench.compare(&["--json", "--checkpoint-time", "100"]));
    assert_eq!(slow["held"]["by_checkpoint"]["max_ms"], 102.0);
}

#[test]
fn differences_within_one_checkpoint_cost_one() {
    let mut bench = Bench::new();
    for (connection, at) in [(4000, 100), (4001, 110), (4002, 300)] {
        answers(
            &mut bench,
            connection,
            connection.into(),
            &[(at * MS, LATER, PAGE)],
        );
    }
    bench.end(1000 * MS);
    let report = json(&bench.compare(&["--json"]));
    assert_eq!(report["checkpoints"]["count"], 2, "{report:#}");
    assert_eq!(report["checkpoints"]["merged"], 1);
    let asked: Vec<_> = report["differences"]
        .as_array()
        .expect("rows")
        .iter()
        .collect();
    let asked: Vec<_> = asked.iter().map(|row| row["checkpoint"].clone()).collect();
    assert_eq!(asked, [true, false, true]);
    let apart = json(&bench.compare(&["--json", "--checkpoint-time", "5"]));
    assert_eq!(apart["checkpoints"]["count"], 3);
}

#[test]
fn an_answer_of_another_length_costs_one_checkpoint_and_the_next_ones_are_compared_again() {
    let long = [LATER, b" and much more of it, which P has not sent"].concat();
    let odd = [&LATER[..LATER.len() - 1], b"Y"].concat();
    let bench = one(
        &[
            (10 * MS, PAGE, PAGE),
            (500 * MS, PAGE, &long),
            (900 * MS, LATER, LATER),
            (1300 * MS, LATER, LATER),
            (1700 * MS, LATER, &odd),
        ],
        3000 * MS,
    );
    let report = json(&bench.compare(&["--json"]));
    assert_eq!(report["checkpoints"]["count"], 2, "{report:#}");
    let last = 5 * PAGE.len() as u64 - 1;
    assert_eq!(
        report["differences"][1]["stream_offset"], last,
        "{report:#}"
    );
}

#[test]
fn a_datagram_that_s_does_not_send_asks_at_the_timeout() {
    let mut bench = one(&[(10 * MS, PAGE, PAGE)], 8000 * MS);
    for at in [100, 200, 300] {
        bench.p(
            at * MS,
            captures::datagram(format!("answer {at}").as_bytes()),
        );
    }
    bench.s(99 * MS, captures::datagram(b"answer 100"));
    bench.s(305 * MS, captures::datagram(b"answer 300"));
    // The counterpart of one that has left by the checkpoint is waited for no more.
    bench.s(3400 * MS, captures::datagram(b"answer 200"));
    let report = json(&bench.compare(&["--json"]));
    assert_eq!(
        report["checkpoints"]["reasons"]["missing_secondary"], 1,
        "{report:#}"
    );
    assert_eq!(report["checkpoints"]["count"], 1, "{report:#}");
    let at = report["differences"][0]["at_s"].as_f64().expect("a time");
    assert!((3.2..3.202).contains(&at), "{at}");
    let soon = json(&bench.compare(&["--json", "--compare-timeout", "50"]));
    assert_eq!(
        soon["checkpoints"]["reasons"]["missing_secondary"], 1,
        "{soon:#}"
    );
    let at = soon["differences"][0]["at_s"].as_f64().expect("a time");
    assert!((0.25..0.252).contains(&at), "{at}");
}

/// Rules for pages: one that masks, one that is tried, and one that exempts nothing that is there.
const POLICY: &str = r#"
[[policy]]
name = "http-date"
action = "mask"
dry-run = true
protocol = "tcp"
port = 80
after = "\r\nDate: "
until = "\r"
max-length = 32

[[policy]]
name = "other"
action = "mask"
protocol = "tcp"
port = 80
after = "Nothing: "
length = 8

[[policy]]
name = "ntp"
action = "exempt"
protocol = "udp"
port = 123
"#;

#[test]
fn each_mask_rule_is_tried_alone() {
    let odd = [&PAGE[..PAGE.len() - 1], b"Y"].concat();
    let bench = one(
        &[
            (100 * MS, LATER, PAGE),
            (300 * MS, PAGE, LATER),
            (500 * MS, PAGE, &odd),
        ],
        1000 * MS,
    );
    let policy = bench.dir().join("policy.toml");
    fs::write(&policy, POLICY).expect("a file");
    let policy = policy.to_str().expect("plain");
    let report = json(&bench.compare(&["--json", "--policy", policy]));
    // As written, nothing is masked.
    assert_eq!(report["checkpoints"]["count"], 3, "{report:#}");
    let masks = &report["masks"];
    assert_eq!(
        (&masks["without"], &masks["with_all"]),
        (&3.into(), &1.into())
    );
    let date = &masks["rules"][0];
    assert_eq!(date["rule"], "http-date");
    assert_eq!(date["dry_run"], true);
    assert_eq!(
        (&date["checkpoints"], &date["saves"]),
        (&1.into(), &2.into())
    );
    assert_eq!(date["masked_bytes"], 2);
    let other = &masks["rules"][1];
    assert_eq!(
        (&other["saves"], &other["masked_bytes"]),
        (&0.into(), &0.into())
    );

    let applied = POLICY.replace("dry-run = true", "dry-run = false");
    fs::write(policy, applied).expect("a file");
    let report = json(&bench.compare(&["--json", "--policy", policy]));
    assert_eq!(report["checkpoints"]["count"], 1, "{report:#}");
    let text = bench.compare(&["--policy", policy]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("http-date alone: 1 checkpoints, saves 2, masks 2 bytes"),
        "{text}"
    );
}

#[test]
fn the_format_of_a_capture_does_not_matter() {
    let all = [(10 * MS, PAGE, PAGE), (500 * MS, LATER, PAGE)];
    let mut bench = one(&all, 1000 * MS);
    let mut reports = Format::ALL.map(|format| {
        bench.format = format;
        let mut report = json(&bench.compare(&["--json"]));
        report["primary"]["file"].take();
        report["secondary"]["file"].take();
        report
    });
    let first = reports[0].take();
    for report in &reports[1..] {
        assert_eq!(*report, first);
    }
}

#[test]
fn the_clocks_offset_is_estimated_from_input_or_from_output_or_given() {
    let all = [(10 * MS, PAGE, PAGE), (500 * MS, PAGE, PAGE)];
    let mut bench = one(&all, 1000 * MS);
    bench.s_clock = 5_000 * MS as i64;
    let report = json(&bench.compare(&["--json"]));
    assert_eq!(report["clock"]["offset_ms"], 5000.0, "{report:#}");
    assert_eq!(report["held"]["equal"]["max_ms"], 2.0);
    let given = json(&bench.compare(&["--json", "--clock-offset", "4999"]));
    assert_eq!(given["clock"]["by"], "option");
    assert_eq!(given["held"]["equal"]["max_ms"], 3.0, "{given:#}");
    let apart = bench.compare(&["--clock-offset", "-100000"]);
    assert_eq!(apart.status.code(), Some(1));
    // Without what both got, neither guest is ahead.
    bench.without_input();
    bench.s_clock = -7 * MS as i64;
    let report = json(&bench.compare(&["--json", "--guest", "02:00:00:00:00:01"]));
    assert_eq!(report["clock"]["by"], "output", "{report:#}");
    assert_eq!(report["clock"]["offset_ms"], -5.0, "{report:#}");
}

#[test]
fn a_pair_that_was_captured_is_followed_through_its_own_checkpoints() {
    let (mut p, mut s) = (Vm::new(4000, 1_000_000), Vm::new(4000, 77_000_000));
    let mut bench = Bench::new();
    bench.both(0, |_| p.client_syn());
    bench.p(MS, p.syn_ack());
    bench.s(MS + LAG, s.syn_ack());
    let request = |p: &mut Vm, s: &mut Vm, bench: &mut Bench, at: u64| {
        let request = p.request();
        s.request();
        bench.both(at, |_| request.clone());
    };
    request(&mut p, &mut s, &mut bench, 10 * MS);
    bench.p(11 * MS, p.answer(LATER));
    bench.s(13 * MS, s.answer(PAGE));
    // P sends one more; then the pair's checkpoint makes S's state P's, and S never sends that one.
    request(&mut p, &mut s, &mut bench, 40 * MS);
    bench.p(41 * MS, p.answer(PAGE));
    s = p.clone();
    for at in [100, 4000, 8000] {
        request(&mut p, &mut s, &mut bench, at * MS);
        bench.p(at * MS + MS, p.answer(PAGE));
        bench.s(at * MS + MS + LAG, s.answer(PAGE));
    }
    bench.end(9000 * MS);
    let report = json(&bench.compare(&["--json"]));
    assert_eq!(report["checkpoints"]["count"], 1, "{report:#}");
    assert_eq!(report["checkpoints"]["reasons"]["payload"], 1, "{report:#}");
    assert_eq!(report["compared"]["passed_over"], PAGE.len() as u64);
}

#[test]
fn a_node_s_own_capture_has_both_guests() {
    let all = [(10 * MS, PAGE, PAGE), (500 * MS, LATER, PAGE)];
    let bench = one(&all, 1000 * MS);
    let report = json(&bench.compare_in_one(&["--json"]));
    assert_eq!(report["checkpoints"]["count"], 1, "{report:#}");
    assert_eq!(report["primary"]["guest"], Value::Null);
    assert_eq!(report["primary"]["output"], 3);
    assert_eq!(report["secondary"]["output"], 3);
}

#[test]
fn what_is_no_capture_is_named_in_a_line() {
    let bench = one(&[(10 * MS, PAGE, PAGE)], 1000 * MS);
    let [p, s] = bench.write();
    let whole = fs::read(&p).expect("the file");
    let refused = |content: &[u8], words: &str| {
        fs::write(&p, content).expect("written");
        let output = bench.run(&[&p, &s], &[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(words), "{words:?}: {error}");
        assert!(output.stdout.is_empty());
    };
    refused(b"", "neither pcap nor pcapng");
    refused(b"GET / HTTP/1.1\r\n\r\n", "neither pcap nor pcapng");
    refused(&whole[..20], "damaged behind frame 0");
    refused(&whole[..24], "no frame that a guest sent");
    // The first frame says that it has more bytes than the file has of it.
    let mut cut = whole.clone();
    cut[36] += 1;
    refused(&cut, "frame 1 had");
    // Raw IP.
    let mut raw = whole.clone();
    raw[20] = 101;
    refused(&raw, "link type 101");
    fs::remove_file(&p).expect("it is there");
    let output = bench.run(&[&p, &s], &[]);
    assert_eq!(output.status.code(), Some(1));

    // The writer was killed: what there is counts, and a note says so.
    fs::write(&p, &whole[..whole.len() - 5]).expect("written");
    let report = json(&bench.run(&[&p, &s], &["--json"]));
    assert_eq!(report["primary"]["torn"], true);
    assert!(
        report["notes"][0]
            .as_str()
            .expect("text")
            .contains("within a frame")
    );
}

#[test]
fn wrong_words_are_refused() {
    let bench = one(&[(10 * MS, PAGE, PAGE)], 1000 * MS);
    let [p, s] = bench.write();
    for words in [
        &["--guest", "02:00"][..],
        &["--compare-timeout", "0"],
        &["--clock-offset", "soon"],
        &["--pair", "a"],
        &["--policy", "/nonexistent.toml"],
    ] {
        let output = bench.run(&[&p, &s], words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    assert_eq!(bench.run(&[&p], &[]).status.code(), Some(2));
    let policy = bench.dir().join("policy.toml");
    fs::write(&policy, "[[policy]]\nname = 'x'\naction = 'mask'\n").expect("a file");
    let output = bench.run(&[&p, &s], &["--policy", policy.to_str().expect("plain")]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("--policy") && error.contains("line "),
        "{error}"
    );
}
