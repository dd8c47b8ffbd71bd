//! The account of checkpoints against a naive model, and its report as a program reads it. The expected text lies in
//! `tests/golden`; with `UPDATE_GOLDEN=1` in the environment it is written anew.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use colo_testkit::rng::Rng;
use dpdk_colo::account::{Account, Checkpoint, CostRow, Limits, Origin, Report, Service};
use dpdk_colo::compare::Reason;
use dpdk_colo::flow::{FlowKey, Vlans};
use dpdk_colo::protect::Cause;

/// Sums of the model: checkpoints, nanoseconds stopped, nanoseconds waited, frames held.
type Sums = [u64; 4];

fn add(sums: &mut Sums, checkpoint: &Checkpoint) {
    let more = [
        1,
        checkpoint.stopped.as_nanos() as u64,
        checkpoint.waited.as_nanos() as u64,
        checkpoint.held.into(),
    ];
    sums.iter_mut()
        .zip(more)
        .for_each(|(sum, more)| *sum += more);
}

/// Every checkpoint, summed in the plainest way.
#[derive(Default)]
struct Model {
    all: Sums,
    reasons: BTreeMap<&'static str, Sums>,
    ports: BTreeMap<Service, Sums>,
    flows: BTreeMap<String, Sums>,
    of_flows: Sums,
}

impl Model {
    fn of<'a>(checkpoints: impl IntoIterator<Item = &'a Checkpoint>) -> Self {
        let mut model = Self::default();
        for checkpoint in checkpoints {
            add(&mut model.all, checkpoint);
            let reason = checkpoint.origin.word();
            add(model.reasons.entry(reason).or_default(), checkpoint);
            if let Some(flow) = checkpoint.flow {
                add(&mut model.of_flows, checkpoint);
                let port = model.ports.entry(Service::of(&flow)).or_default();
                add(port, checkpoint);
                let flow = model.flows.entry(flow.to_string()).or_default();
                add(flow, checkpoint);
            }
        }
        model
    }
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}

fn sums(row: &CostRow) -> Sums {
    [
        row.checkpoints,
        ns(row.stopped_ms),
        ns(row.waited_ms),
        row.held_frames,
    ]
}

fn total<'a>(rows: impl IntoIterator<Item = &'a CostRow>) -> Sums {
    let mut total = Sums::default();
    for row in rows {
        let more = sums(row);
        total
            .iter_mut()
            .zip(more)
            .for_each(|(sum, more)| *sum += more);
    }
    total
}

fn by_weight<T>(rows: &[T], cost: impl Fn(&T) -> &CostRow) {
    let weights: Vec<u64> = rows.iter().map(|row| ns(cost(row).stopped_ms)).collect();
    assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
}

/// Holds a report against the model.
fn compare(report: &Report, model: &Model, limits: Limits, what: &str) {
    assert_eq!(sums(&report.all), model.all, "{what}");

    by_weight(&report.reasons, |row| &row.cost);
    let reasons: BTreeMap<_, _> = report
        .reasons
        .iter()
        .map(|row| (row.reason, sums(&row.cost)))
        .collect();
    assert_eq!(reasons, model.reasons, "{what}");

    let ports = &report.ports;
    by_weight(&ports.listed, |row| &row.cost);
    assert_eq!(
        ports.listed.len(),
        model.ports.len().min(limits.listed),
        "{what}"
    );
    let found = ports.listed.iter().map(|row| {
        let name = (row.protocol.clone(), row.port, row.direction);
        (name, sums(&row.cost))
    });
    let found: BTreeMap<_, _> = found.collect();
    for (service, sums) in &model.ports {
        let direction = service.direction().map(|it| it.word());
        let name = (service.protocol(), service.port(), direction);
        match found.get(&name) {
            Some(found) => assert_eq!(found, sums, "{what}: {name:?}"),
            None => {
                let least = found.values().map(|sums| sums[1]).min();
                assert!(
                    least.is_some_and(|least| sums[1] <= least),
                    "{what}: {name:?}"
                );
            }
        }
    }
    let listed = ports.listed.iter().map(|row| &row.cost);
    assert_eq!(
        total(listed.chain([&ports.other, &ports.none])),
        model.all,
        "{what}"
    );

    let flows = &report.flows;
    by_weight(&flows.listed, |row| &row.cost);
    let error = ns(flows.error_ms);
    let bound = model.of_flows[1] / limits.flows as u64;
    assert!(error <= bound, "{what}: {error} of {bound}");
    if model.flows.len() <= limits.flows {
        assert_eq!(error, 0, "{what}: every flow has a place");
    }
    for row in &flows.listed {
        let truth = model.flows[&row.flow];
        let certain = sums(&row.cost);
        assert!(
            certain.iter().zip(truth).all(|(some, all)| *some <= all),
            "{what}: {row:?} {truth:?}"
        );
        assert!(truth[1] <= ns(row.at_most_ms), "{what}: {row:?} {truth:?}");
        assert!(ns(row.at_most_ms) <= certain[1] + error, "{what}: {row:?}");
    }
    if limits.listed >= limits.flows {
        for (flow, truth) in &model.flows {
            let is_listed = flows.listed.iter().any(|row| row.flow == *flow);
            assert!(is_listed || truth[1] <= bound, "{what}: {flow} {truth:?}");
        }
    }
    let listed = flows.listed.iter().map(|row| &row.cost);
    assert_eq!(
        total(listed.chain([&flows.other])),
        model.of_flows,
        "{what}"
    );
}

fn flow(rng: &mut Rng, kinds: usize) -> FlowKey {
    // A few are frequent, as services and clients are.
    let few = rng.between(1, kinds);
    let own = rng.of(&[22, 80, 443, 5353, 40_000]);
    let guest: SocketAddr = ([10, 0, 0, 2], own).into();
    let other: SocketAddr = ([10, 0, (few >> 8) as u8, few as u8], rng.of(&[53, 50_000])).into();
    match rng.below(8) {
        0 => FlowKey::udp(guest, other),
        1 => FlowKey::link([2; 6], [4; 6], few as u16, Vlans::default()),
        _ => FlowKey::tcp(guest, other),
    }
}

fn checkpoint(rng: &mut Rng, kinds: usize) -> Checkpoint {
    let origins: Vec<_> = Origin::all().collect();
    let origin = match rng.one_in(3) {
        true => rng.of(&origins),
        false => Origin::Cause(Cause::Difference(Reason::Payload)),
    };
    Checkpoint {
        origin,
        flow: (!rng.one_in(5)).then(|| flow(rng, kinds)),
        waited: Duration::from_nanos(rng.below(3_000_000) as u64),
        stopped: Duration::from_nanos(rng.below(50_000_000) as u64),
        held: rng.below(300) as u32,
    }
}

#[test]
fn an_account_agrees_with_a_naive_model() {
    let mut rng = Rng::for_test("an_account_agrees_with_a_naive_model");
    for round in 0..60 {
        let limits = Limits {
            flows: rng.of(&[1, 4, 16, 1024]),
            journal: rng.of(&[1, 10, 1000]),
            listed: rng.of(&[1, 3, 100, 2000]),
        };
        let kinds = rng.of(&[2, 40, 3000]);
        let mut account = Account::new(limits);
        let mut all = Vec::new();
        let mut now = Duration::ZERO;
        for _ in 0..rng.between(0, 400) {
            now += Duration::from_micros(rng.below(200_000) as u64);
            let checkpoint = checkpoint(&mut rng, kinds);
            account.add(now, checkpoint);
            all.push((now, checkpoint));
        }
        now += Duration::from_micros(1);
        let what = format!("round {round}, {limits:?}");
        let report = account.extract(now, None).report();
        let model = Model::of(all.iter().map(|(_, checkpoint)| checkpoint));
        compare(&report, &model, limits, &what);
        assert!((report.over_s - now.as_secs_f64()).abs() < 1e-6, "{what}");

        for _ in 0..4 {
            let since = Duration::from_micros(rng.below(now.as_micros() as usize + 1) as u64);
            let report = account.extract(now, Some(since)).report();
            let from = now - Duration::from_secs_f64(report.over_s);
            let kept = all.len().saturating_sub(limits.journal);
            // As far as the journal reaches, or as was asked for.
            let reaches = match kept.checked_sub(1) {
                Some(last) => all[last].0.max(now - since),
                None => now - since,
            };
            let skew = from.abs_diff(reaches);
            assert!(
                skew < Duration::from_nanos(100),
                "{what}: {from:?} {reaches:?}"
            );
            let recent = all.iter().filter(|(at, _)| *at > reaches);
            let model = Model::of(recent.map(|(_, checkpoint)| checkpoint));
            compare(&report, &model, limits, &format!("{what}, since {since:?}"));
        }
    }
}

#[test]
fn an_interval_longer_than_the_account_is_the_whole_account() {
    let mut account = Account::new(Limits {
        journal: 1,
        ..Limits::default()
    });
    let mut rng = Rng::new(7);
    for ms in 1..=5 {
        account.add(Duration::from_millis(ms), checkpoint(&mut rng, 2));
    }
    let now = Duration::from_millis(10);
    let whole = account.extract(now, None).report();
    assert_eq!(account.extract(now, Some(now)).report(), whole);
    let recent = account.extract(now, Some(now - Duration::from_nanos(1)));
    let recent = recent.report();
    assert_eq!(recent.all.checkpoints, 1);
    assert!((recent.over_s - 0.006).abs() < 1e-9, "{}", recent.over_s);
}

#[test]
fn a_report_has_the_keys_of_the_documents() {
    let tcp = |own: u16, other: u16| {
        FlowKey::tcp(([10, 0, 0, 2], own).into(), ([10, 0, 0, 1], other).into())
    };
    let difference = |reason| Origin::Cause(Cause::Difference(reason));
    let mut account = Account::new(Limits {
        flows: 4,
        journal: 16,
        listed: 2,
    });
    let checkpoints = [
        (Origin::Begin, None, 300, 0),
        (difference(Reason::Payload), Some(tcp(80, 40_001)), 20, 3),
        (difference(Reason::Payload), Some(tcp(80, 40_002)), 25, 4),
        (
            difference(Reason::MissingSecondary),
            Some(tcp(40_000, 443)),
            15,
            9,
        ),
        (difference(Reason::StreamEnd), Some(tcp(7, 40_003)), 5, 1),
        (Origin::Cause(Cause::LinkDown), None, 10, 40),
        (Origin::Ordered, None, 12, 0),
        (Origin::Qemu, None, 14, 0),
    ];
    for (number, (origin, flow, ms, held)) in checkpoints.into_iter().enumerate() {
        let asked = matches!(origin, Origin::Cause(_));
        account.add(
            Duration::from_secs(number as u64 + 1),
            Checkpoint {
                origin,
                flow,
                waited: Duration::from_micros(if asked { 1_500 } else { 0 }),
                stopped: Duration::from_millis(ms),
                held,
            },
        );
    }
    let report = account.extract(Duration::from_secs(36), None).report();
    let found = serde_json::to_string_pretty(&report).expect("plain keys") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/why.json");
    colo_testkit::golden::assert_golden(&path, &found, "account");
}
