//! Several cores compare as one does: the same frames leave, in the same order within each flow, and
//! no mbuf is lost. The lcores are more than the CPUs, so workers are held up at any moment.

use colo_testkit::rng::Rng;
use serde_json::Value;

use crate::compare::{agreeing, assert_whole, by_flow, compare_on};
use crate::frames::{Flow, Numbering, connection, payload_of};
use crate::node;

const CORES: [u32; 3] = [1, 2, 4];

/// The shares of a summary, by the numbers of the lcores: the polling core has the lowest.
fn shares(summary: &Value) -> Vec<&Value> {
    let shares = summary["workers"].as_object().expect("an object");
    shares.values().collect()
}

#[test]
fn one_two_and_four_cores_release_the_same() {
    let _turn = node::beside_others();
    let mut random = Rng::for_test("one_two_and_four_cores_release_the_same");
    let (p, s) = agreeing(&mut random, |pvm, svm| Numbering {
        isn: svm,
        stream: pvm,
    });
    let all = p.len() as u64;
    for cores in CORES {
        let dir = tempfile::tempdir().unwrap();
        let done = compare_on(cores, dir.path(), &p, &s, &[], |stats| {
            stats["released"] == all
        });
        assert_whole(&done.released, &p);
        assert_eq!(done.stats["divergences"], Value::Object(Default::default()));

        let summary = done.ended.summary();
        let shares = shares(summary);
        assert_eq!(shares.len(), cores as usize, "{summary:#}");
        assert_eq!(shares[0]["polls_ports"], true, "{summary:#}");
        let flows: u64 = shares.iter().map(|s| s["flows"].as_u64().unwrap()).sum();
        assert_eq!(flows, by_flow(&p).len() as u64, "{summary:#}");
        assert!(
            cores < 4 || shares[1..].iter().filter(|s| s["flows"] != 0).count() > 1,
            "one core has all flows: {summary:#}"
        );
        assert!(
            shares.iter().all(|s| s["idle_cycles"].as_u64() > Some(0)),
            "{summary:#}"
        );
    }
}

#[test]
fn a_difference_holds_its_flow_on_whatever_core() {
    let _turn = node::beside_others();
    let mut random = Rng::for_test("a_difference_holds_its_flow_on_whatever_core");
    let (mut p, mut s) = (Vec::new(), Vec::new());
    for n in 1..8 {
        let (pvm, svm) = (random.next() as u32, random.next() as u32);
        let stream = random.bytes(20_000);
        let translated = Numbering {
            isn: svm,
            stream: pvm,
        };
        let flow = Flow::v4(n);
        p.push(connection(&flow, Numbering::own(pvm), &stream, &mut random));
        s.push(connection(&flow, translated, &stream, &mut random));
    }
    // The first byte of the second flow.
    let segment = &mut s[1][1];
    let (at, _) = payload_of(segment);
    segment[at] ^= 1;
    let differs = p[1].clone();
    let others: Vec<_> = [&p[..1], &p[2..]].concat().concat();
    let (p, s) = (random.interleave(p), random.interleave(s));
    for cores in CORES {
        let dir = tempfile::tempdir().unwrap();
        let done = compare_on(cores, dir.path(), &p, &s, &[], |stats| {
            stats["divergences"]["payload"] == 1
                && stats["released"].as_u64() >= Some(others.len() as u64)
        });
        let port = Flow::v4(2).client.1.to_be_bytes();
        let (ours, rest): (Vec<_>, Vec<_>) = done
            .released
            .into_iter()
            .partition(|frame| frame[36..38] == port);
        assert_whole(&rest, &others);
        // Its SYN+ACK has left, and segments without payload may have.
        assert!(ours[..] == differs[..ours.len()], "not its beginning");
        assert!(ours.iter().all(|frame| payload_of(frame).1 == 0));
        let held = done.ended.summary()["held"].as_u64();
        assert_eq!(held, Some((differs.len() - ours.len()) as u64));
    }
}
