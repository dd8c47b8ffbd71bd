//! What the SVM sent last on a connection leaves again when its node takes over.

use super::survivor::{again, segment};
use super::*;

#[test]
fn what_the_svm_sent_last_leaves_again_at_the_takeover() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.released();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.svm(segment(true, 5_002, 7, b"y"));
    pair.secondary_fails_over();
    assert_eq!(again(&mut pair.take_over()), [(102, 7)]);
}

#[test]
fn an_acknowledgment_behind_data_leaves_again_with_the_data() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.svm(segment(true, 5_002, 7, b""));
    pair.svm(segment(true, 5_002, 8, b""));
    pair.secondary_fails_over();
    assert_eq!(again(&mut pair.take_over()), [(5_001, 7), (5_002, 8)]);
}

#[test]
fn a_syn_that_the_svm_sent_last_leaves_again_with_the_pvm_s_number() {
    let mut pair = Pair::protected();
    pair.output(syn(100));
    pair.svm(syn(5_000));
    pair.released();
    pair.exchange();
    pair.secondary_fails_over();
    assert_eq!(again(&mut pair.take_over()), [(100, 0)]);
}

#[test]
fn what_the_svm_sent_before_it_loaded_a_state_never_leaves() {
    for reported in [false, true] {
        let mut pair = Pair::protected();
        pair.svm(segment(true, 5_001, 7, b"x"));
        pair.stop(1);
        if reported {
            pair.resume();
            pair.exchange();
        }
        pair.secondary_fails_over_at(2);
        assert_eq!(again(&mut pair.take_over()), []);
    }
}

/// Where the clients may wait that a survivor knows of.
fn awaited(pair: Pair) -> Vec<u32> {
    let mut successor = pair.take_over();
    let last = std::iter::from_fn(|| successor.next_last());
    last.flat_map(|last| last.awaited(7)).flatten().collect()
}

#[test]
fn where_a_client_waits_is_known_though_the_vms_state_is_older() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.input(&segment(false, 7, 5_002, b"taken"));
    assert!(pair.secondary.next_input(pair.now).is_some());
    pair.input(&segment(false, 12, 5_003, b""));
    pair.secondary_fails_over();
    assert_eq!(awaited(pair), [7, 12], "7 once");

    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.input(&segment(false, 7, 5_002, b"covered"));
    pair.stop(1);
    pair.resume();
    pair.exchange();
    assert!(pair.secondary.next_input(pair.now).is_none());
    assert_eq!(pair.secondary.counts().stale, 1);
    pair.secondary_fails_over_at(2);
    assert_eq!(awaited(pair), [7, 14]);

    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    pair.stop(1);
    pair.resume();
    pair.input(&segment(false, 20, 5_002, b"waits"));
    pair.secondary_fails_over_at(2);
    assert_eq!(awaited(pair), [7, 20, 25]);
}

#[test]
fn a_connection_that_was_reset_has_no_last_segment() {
    let mut pair = Pair::protected();
    pair.svm(segment(true, 5_001, 7, b"x"));
    let mut reset = segment(true, 5_002, 7, b"").to_vec();
    reset[47] |= 4;
    pair.svm(HeapFrame::new(&reset));
    pair.secondary_fails_over();
    assert_eq!(again(&mut pair.take_over()), []);
}
