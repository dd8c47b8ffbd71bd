//! What a rule exempts, and what becomes of it when the secondary takes over.

use super::survivor::{numbers, say, segment};
use super::*;
use crate::compare::Rule;
use crate::packet::TcpFlags;

/// A pair that compares nothing on the ports of [`segment`].
fn pair() -> Pair {
    Pair::protected_with(|setup| {
        setup.policy = Policy::new(vec![Rule {
            name: "web".into(),
            protocols: vec![6],
            port: Some(80),
            prefix: None,
            vlan: None,
        }]);
    })
}

/// A segment of the guest that opens the connection.
fn opening(isn: u32) -> HeapFrame {
    let mut bytes = segment(true, isn, 1, b"").to_vec();
    bytes[47] = (TcpFlags::SYN | TcpFlags::ACK).0;
    HeapFrame::new(&bytes)
}

#[test]
fn an_exempt_connection_of_equal_lengths_lives_on() {
    for s_first in [false, true] {
        let mut pair = pair();
        if s_first {
            pair.svm(opening(7000));
            pair.output(opening(1000));
        } else {
            pair.output(opening(1000));
            assert_eq!(pair.released().len(), 1, "it waits for nothing");
            pair.svm(opening(7000));
        }
        pair.released();
        pair.exchange();
        pair.released();
        pair.input(&segment(false, 1, 1001, b"question"));
        let got = pair.secondary.next_input(pair.now).expect("input");
        assert_eq!(numbers(&got), (1, 7001));
        pair.output(segment(true, 1001, 9, b"answer of the PVM"));
        pair.svm(segment(true, 7001, 9, b"answer of the SVM"));
        assert_eq!(pair.released(), [b'M']);
        pair.secondary_fails_over();
        let mut successor = pair.take_over();
        let mut input = segment(false, 9, 1018, b"next");
        assert!(successor.input(&mut input, 0));
        assert_eq!(numbers(&input), (9, 7018));
        let next = say(&mut successor, segment(true, 7018, 13, b"next"), 0);
        assert_eq!(numbers(&next), (1018, 13));
    }
}

#[test]
fn numbers_of_two_connections_or_epochs_are_not_mixed() {
    let learned = |pair: &mut Pair| {
        pair.released();
        pair.exchange();
        pair.secondary.rewriter().counters().learned
    };
    let mut pair = pair();
    pair.output(opening(1000));
    pair.now += TIMEOUT + 1;
    pair.svm(opening(7000));
    assert_eq!(
        learned(&mut pair),
        0,
        "too late to be of the same connection"
    );
    pair.output(opening(2000));
    assert_eq!(learned(&mut pair), 1);
    pair.output(opening(3000));
    pair.stop(1);
    pair.resume();
    pair.exchange();
    pair.svm(opening(3000));
    assert_eq!(learned(&mut pair), 1, "the SVM has the PVM's number");
}
