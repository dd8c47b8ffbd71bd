//! Reports of multicast membership leave by themselves, queries do not.

use super::*;

/// IGMP or MLD of this type.
fn message(v6: bool, kind: u8, fragment: Option<packets::Fragment>) -> Vec<u8> {
    let ends = Ends { v6, ..ends(0) };
    let mut content = vec![kind, 0, 0, 0];
    content.resize(if v6 { 24 } else { 8 }, 1);
    let protocol = if v6 { packets::ICMPV6 } else { 2 };
    packets::ip(&ends, protocol, fragment, 0, &content)
}

fn reports() -> impl Iterator<Item = (bool, u8, &'static str)> {
    let igmp = [0x12, 0x16, 0x17, 0x22].map(|kind| (false, kind, "igmp"));
    igmp.into_iter()
        .chain([131, 132, 143].map(|kind| (true, kind, "mld")))
}

#[test]
fn a_report_leaves_and_its_counterpart_is_not_waited_for() {
    for (v6, kind, rule) in reports() {
        let mut pair = Pair::new();
        let report = message(v6, kind, None);
        for _ in 0..100 {
            pair.s(&report);
        }
        assert_eq!(pair.comparator.frames(), 0);
        pair.p(&report);
        assert_eq!((pair.left(), pair.overdue()), (1, None), "{kind}");
        let used: Vec<_> = pair
            .comparator
            .policy()
            .uses()
            .filter(|(_, n)| *n > 0)
            .collect();
        assert_eq!(used, [(rule, 1)]);
        // Another node may be about to speak for the VM.
        pair.comparator.suspend();
        pair.p(&report);
        assert_eq!(pair.left(), 0);
        pair.checkpoint();
        assert_eq!(pair.left(), 1);
    }
}

#[test]
fn a_query_and_a_fragment_of_a_report_are_compared() {
    let queries = [(false, 0x11, None), (true, 130, None)];
    let fragments = reports().map(|(v6, kind, _)| {
        let fragment = packets::Fragment {
            offset: 0,
            more: true,
        };
        (v6, kind, Some(fragment))
    });
    for (v6, kind, fragment) in queries.into_iter().chain(fragments) {
        let mut pair = Pair::new();
        let bytes = message(v6, kind, fragment);
        pair.p(&bytes);
        assert_eq!(
            (pair.left(), pair.overdue()),
            (0, Some(Reason::MissingSecondary)),
            "{kind}"
        );
        pair.s(&bytes);
        assert_eq!(pair.left(), 1);
    }
}
