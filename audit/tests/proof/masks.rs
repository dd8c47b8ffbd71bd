//! Bytes that a mask rule lets differ.

use dpdk_colo_audit::record::{Event, Mask, PolicyRule, Role};
use dpdk_colo_audit::{Report, Rule};

use super::broken;
use super::frames::{PAYLOAD, Tcp};
use super::story::{Story, audit};

/// Under a rule for the port of [`Tcp`]'s guest, unless another is given.
fn story(role: Role, change: impl Fn(&mut PolicyRule)) -> Story {
    let mut story = Story::new(role);
    let mut rule = PolicyRule {
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
    };
    change(&mut rule);
    story.start.policy = vec![rule];
    story
}

/// The PVM's and the SVM's pages, and what leaves.
fn pages(p: &str, s: &str, change: impl Fn(&mut PolicyRule)) -> Report {
    let mut story = story(Role::Primary, change);
    story.protect();
    let flow = Tcp(1);
    story.agree(&flow.syn(0, 1));
    let page = flow.data(1, 1, p.as_bytes());
    story.p(&page);
    story.s(&flow.data(1, 1, s.as_bytes()));
    story.out(&page);
    audit(&[&story.end()])
}

#[test]
fn masked_bytes_are_counted_and_a_byte_beside_them_is_found() {
    let report = pages("Date: 10:59\rx", "Date: 11:00\rx", |_| ());
    assert_eq!(report.status(), 0, "{report}");
    assert_eq!(report.judged.masked.get("date"), Some(&3));
    assert!(report.to_string().contains("3 bytes"), "{report}");
    for (p, s) in [
        ("Date: 10:59\rx", "Date: 10:59\ry"),
        ("Date: 10:59\rx", "Date: 10-59\rx"),
        ("Date: 1\rxx", "Date: 11\rx"),
        ("Date: 1234567890", "Date: 1234567891"),
        ("Dote: 1\r", "Dote: 2\r"),
    ] {
        assert_eq!(broken(&pages(p, s, |_| ())).0, Rule::R1, "{p:?} {s:?}");
    }
}

#[test]
fn a_rule_masks_its_flows_only_until_its_end_and_not_if_it_is_tried() {
    type Change = fn(&mut PolicyRule);
    let changes: [Change; 3] = [
        |rule| rule.port = Some(81),
        |rule| rule.mask.as_mut().expect("a mask").dry_run = true,
        |rule| rule.mask.as_mut().expect("a mask").after = b"Dote: ".to_vec(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let report = pages("Date: 1\r", "Date: 2\r", change);
        assert_eq!(broken(&report).0, Rule::R1, "change {number}");
    }
}

#[test]
fn a_pattern_may_lie_in_several_segments() {
    let mut story = story(Role::Primary, |_| ());
    story.protect();
    let flow = Tcp(1);
    story.agree(&flow.syn(0, 1));
    story.agree(&flow.data(1, 1, b"Da"));
    let [two, three] = [flow.data(3, 1, b"te: 1"), flow.data(8, 1, b"2\rx")];
    story.p(&two);
    story.p(&three);
    story.s(&flow.data(3, 1, b"te:"));
    story.s(&flow.data(6, 1, b" 34\rx"));
    story.out(&two);
    story.out(&three);
    // Retransmitted as it left, also before what waits.
    story.p(&flow.data(11, 1, b"more"));
    story.p(&two);
    story.out(&two);
    let report = audit(&[&story.clone().end()]);
    assert_eq!(report.status(), 0, "{report}");
    assert_eq!(report.judged.masked.get("date"), Some(&2));
    // And as the SVM sent it.
    let again = flow.data(3, 1, b"te: 3");
    story.p(&again);
    story.out(&again);
    assert_eq!(broken(&audit(&[&story.end()])).0, Rule::R5);
}

#[test]
fn after_a_takeover_a_masked_byte_may_leave_as_the_svm_sent_it() {
    let failover = || {
        let flow = Tcp(1);
        let mut primary = story(Role::Primary, |_| ());
        primary.protect();
        primary.agree(&flow.syn(0, 1));
        let page = flow.data(1, 1, b"Date: 1\rx");
        primary.p(&page);
        primary.s(&flow.data(1, 1, b"Date: 2\rx"));
        primary.out(&page);
        let mut secondary = story(Role::Secondary, |_| ());
        secondary.after(&primary);
        secondary.event(Event::Takeover);
        secondary.state("solo");
        let again = flow.data(1, 1, b"Date: 2\rx");
        let at = [secondary.p(&again), secondary.out(&again)];
        (primary, secondary, at)
    };
    let (primary, secondary, _) = failover();
    let report = audit(&[&primary, &secondary.end()]);
    assert_eq!(report.status(), 0, "{report}");
    assert_eq!(report.judged.masked_again, 1);
    let (primary, mut secondary, at) = failover();
    for record in at {
        secondary.bytes(record)[PAYLOAD + 8] ^= 1;
    }
    let report = audit(&[&primary, &secondary.end()]);
    assert_eq!(broken(&report), (Rule::R5, at[1]));
}
