//! What surrounds the frames: lcores, the clock, telemetry as its tool shows it, EAL's one start.

#![cfg(feature = "dpdk")]

mod dpdk_support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dpdk_colo::dpdk::lcore::{self, LcoreError};
use dpdk_colo::dpdk::telemetry::{self, TelemetryError};
use dpdk_colo::dpdk::{Eal, EalError, tsc};
use dpdk_support::TestEal;
use serde_json::{Value, json};

#[test]
fn control() {
    rejected_before_eal_starts();
    let eal = TestEal::start(&["-l", "0,1"]);
    eal_starts_once();
    lcores_run_functions(&eal);
    the_clock_runs_at_its_rate(&eal);
    telemetry_shows_trees(&eal);
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn rejected_before_eal_starts() {
    let error = |line: &[String]| Eal::init(line).map(drop).unwrap_err();
    assert!(matches!(error(&[]), EalError::NoProgramName));
    assert!(matches!(
        error(&words("-- --role compare")),
        EalError::NoProgramName
    ));
    assert!(matches!(
        error(&words("colo -l 0\0")),
        EalError::ZeroByte { index: 2 }
    ));
}

fn eal_starts_once() {
    assert!(matches!(
        Eal::init(&words("colo -l 0")).map(drop),
        Err(EalError::StartedBefore)
    ));
}

fn lcores_run_functions(eal: &TestEal) {
    assert_eq!((eal.main_lcore(), eal.worker_lcores()), (0, vec![1]));
    assert_eq!((eal.cpus_of(0), eal.cpus_of(1)), (vec![0], vec![1]));
    assert!(eal.cpus_of(2).is_empty() && eal.cpus_of(u32::MAX).is_empty());
    assert!(!eal.has_hugepages());

    let go = Arc::new(AtomicBool::new(false));
    let running = {
        let go = go.clone();
        lcore::launch(eal, 1, move || {
            while !go.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            thread::current().id()
        })
        .unwrap()
    };
    assert!(running.lcore() == 1 && !running.is_finished());
    let busy = lcore::launch(eal, 1, || ()).map(drop);
    assert!(matches!(busy, Err(LcoreError::Launch { lcore: 1, errno }) if errno.raw() == 16));
    go.store(true, Ordering::Relaxed);
    assert_ne!(running.join().unwrap(), thread::current().id());

    let panicking = lcore::launch(eal, 1, || panic!("as the test wants it")).unwrap();
    let payload = panicking.join().unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"as the test wants it"));
    // The lcore survives a panic.
    assert_eq!(lcore::launch(eal, 1, || 7).unwrap().join().unwrap(), 7);

    for lcore in [0, 2, u32::MAX] {
        let error = lcore::launch(eal, lcore, || ()).map(drop).unwrap_err();
        assert_eq!(error, LcoreError::NoWorker { lcore });
    }
}

fn the_clock_runs_at_its_rate(eal: &TestEal) {
    let (since, start) = (Instant::now(), tsc::now());
    thread::sleep(Duration::from_millis(100));
    let (elapsed, ticks) = (since.elapsed(), tsc::now() - start);
    let measured = ticks as f64 / elapsed.as_secs_f64();
    let rate = tsc::hz(eal) as f64;
    assert!(
        (measured / rate - 1.0).abs() < 0.05,
        "{measured} ticks a second, EAL says {rate}"
    );
}

fn telemetry_shows_trees(eal: &TestEal) {
    let tree = json!({
        "role": "primary",
        "ports": {"net_vhost0": {"rx": 18_446_744_073_709_551_615u64, "tx": {"deep": {"er": 1}}}},
        "hold_ns": {"p50": 1100, "p99.9": 1.5, "min": -3, "far": -5_000_000_000i64},
        "flags": [true, false, null],
        "numbers": [1, 2, 3],
        "names": ["a", "b"],
        "list": [{"x": 1}, {"x": 2}],
        "empty": [],
        "none": null,
        "text": "quote \" \\ \u{1} \u{e4}",
    });
    let reply = tree.clone();
    let command =
        telemetry::register(
            eal,
            "/colo/test",
            "A tree",
            move |parameters| match parameters {
                "" => reply.clone(),
                "panic" => panic!("as the test wants it"),
                "scalar" => json!(7),
                "wide" => (0..400).map(|n| (format!("k{n}"), json!(n))).collect(),
                other => json!([other]),
            },
        )
        .unwrap();
    let taken = telemetry::register(eal, "/colo/test", "", |_| json!(1)).map(drop);
    assert!(matches!(taken, Err(TelemetryError::Taken { .. })));
    let bad = telemetry::register(eal, "colo test", "", |_| json!(1)).map(drop);
    assert!(matches!(bad, Err(TelemetryError::Register { .. })));

    let mut shown = ask(eal, &["/colo/test"]);
    // Telemetry carries it as a number from DPDK 23.03 on.
    let far = shown[0]["/colo/test"]["hold_ns"]["far"].take();
    let far = far.as_i64().or_else(|| far.as_str()?.parse().ok());
    assert_eq!(far, Some(-5_000_000_000));
    assert_eq!(
        shown[0]["/colo/test"],
        json!({
            "role": "primary",
            "ports": tree["ports"],
            "hold_ns": {"p50": 1100, "p99_9": "1.500", "min": -3, "far": null},
            "flags": {"0": 1, "1": 0},
            "numbers": [1, 2, 3],
            "names": ["a", "b"],
            "list": {"0": {"x": 1}, "1": {"x": 2}},
            "empty": [],
            "text": "quote \" \\ ? ??",
        })
    );
    let shown = ask(
        eal,
        &[
            "/colo/test,panic",
            "/colo/test,scalar",
            "/colo/test,wide",
            "/colo/test,words, of it",
        ],
    );
    assert_eq!(shown[0], json!({"/colo/test": null}));
    assert_eq!(shown[1], json!({"/colo/test": "7"}));
    assert_eq!(shown[2]["/colo/test"].as_object().unwrap().len(), 256);
    assert_eq!(shown[3], json!({"/colo/test": ["words, of it"]}));

    drop(command);
    assert_eq!(ask(eal, &["/colo/test"]), [json!({"/colo/test": null})]);
    let _again = telemetry::register(eal, "/colo/test", "", |_| json!([1])).unwrap();
    assert_eq!(ask(eal, &["/colo/test"]), [json!({"/colo/test": [1]})]);
}

/// Puts the requests to DPDK's own tool, and returns its answers.
fn ask(eal: &TestEal, requests: &[&str]) -> Vec<Value> {
    let prefix = eal.directory().file_name().unwrap();
    let mut tool = Command::new("dpdk-telemetry.py")
        .arg("-f")
        .arg(prefix)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("dpdk-telemetry.py is in Debian's package dpdk");
    let requests = requests.join("\n") + "\n";
    tool.stdin
        .take()
        .unwrap()
        .write_all(requests.as_bytes())
        .unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap()
}
