//! What a certificate states.

use std::path::Path;

use colo_testkit::golden::assert_golden;
use dpdk_colo_audit::certificate::{PROGRAM, Verdict};
use dpdk_colo_audit::record::{Event, Mask, PolicyRule};
use dpdk_colo_audit::{Report, Rule};

use super::frames::{PAYLOAD, Tcp};
use super::story::{Story, audit};
use super::{clean, failover};

/// As an archive has it, whatever the version is.
fn text(report: &Report) -> String {
    let certificate = &report.certificate;
    let json = serde_json::to_string_pretty(certificate).expect("plain keys");
    format!("{certificate}\n{json}\n").replace(PROGRAM, "PROGRAM")
}

fn golden(name: &str, report: &Report) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    assert_golden(&path, &text(report), "proof");
}

/// The clean log, with a value that differs and is masked.
fn masked() -> Story {
    let (mut story, _) = clean();
    story.records.pop();
    story.start.policy.push(PolicyRule {
        name: "date".to_owned(),
        protocol: "tcp".to_owned(),
        port: Some(80),
        prefix: None,
        vlan: None,
        mask: Some(Mask {
            after: b"Date: ".to_vec(),
            most: 9,
            until: Some(b'\r'),
            dry_run: false,
            expires_ns: None,
        }),
    });
    story.event(Event::Migration { colo: true });
    story.checkpoint();
    let flow = Tcp(12);
    story.agree(&flow.syn(0, 1));
    let page = flow.data(1, 1, b"Date: 10:59\rx");
    story.p(&page);
    story.s(&flow.data(1, 1, b"Date: 11:00\rx"));
    story.out(&page);
    story.end()
}

#[test]
fn a_certificate_states_what_was_judged_and_what_was_excepted() {
    let report = audit(&[&masked()]);
    assert_eq!(report.status(), 0, "{report}");
    golden("certificate.txt", &report);
}

#[test]
fn who_may_release_is_certified_where_both_nodes_show_it() {
    let (primary, secondary) = failover();
    let report = audit(&[&primary, &secondary]);
    golden("certificate-of-both.txt", &report);
    let rules: Vec<_> = report
        .certificate
        .proved
        .iter()
        .map(|row| row.rule)
        .collect();
    assert!(rules.contains(&Rule::R6), "{rules:?}");

    // By clocks of their own it is not.
    let (primary, mut secondary) = failover();
    secondary.start.host = "another".to_owned();
    let certificate = audit(&[&primary, &secondary]).certificate;
    assert!(certificate.proved.iter().all(|row| row.rule != Rule::R6));
    assert_eq!(certificate.verdict, Verdict::Unproven);
}

#[test]
fn a_broken_rule_proves_nothing() {
    let (mut story, at) = clean();
    story.bytes(at.first[1])[PAYLOAD + 41] ^= 4;
    let certificate = audit(&[&story]).certificate;
    assert_eq!(certificate.verdict, Verdict::Violation);
    assert!(certificate.proved.is_empty());
    // The record that breaks the rule was not judged well.
    assert_eq!(certificate.runs[0].records, at.first[2] as u64 + 1);
}
