//! Epochs: comparing goes on from the PVM's state after each commit, and over port reuse.

use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::{Limits, Numbers};

use crate::harness::{Harness, ample};
use crate::pair::{Conversation, Epoch, fence_to_commit, run};

#[test]
fn comparing_goes_on_from_the_primary_s_state() {
    for_cases("comparing_goes_on", 10_000, several_epochs);
}

pub fn several_epochs(rng: &mut Rng) {
    let numbers = [Numbers::Translated, Numbers::OwnIsn][rng.below(2)];
    let mut pair: Vec<Conversation> = (0..[1, 1, 2][rng.below(3)])
        .map(|flow| {
            let connections = rng.between(1, 3);
            Conversation::random(rng, flow, numbers, connections, 0)
        })
        .collect();
    let mut harness = Harness::new(ample(300, 600), numbers);
    for _ in 0..rng.below(4) {
        let epoch = Epoch {
            window: [0, 2][rng.below(2)],
            diverges: rng.one_in(3),
            last: false,
            loss: 0,
        };
        run(rng, &mut harness, &mut pair, &epoch);
        if !epoch.diverges {
            assert_eq!(harness.reports, [], "equal output");
        }
        fence_to_commit(rng, &mut harness, &mut pair);
    }
    let last = Epoch {
        window: [0, 2][rng.below(2)],
        diverges: false,
        last: true,
        loss: 0,
    };
    run(rng, &mut harness, &mut pair, &last);
    harness.assert_equal();
}

#[test]
fn nothing_leaves_uncompared_where_everything_is_scarce() {
    for_cases("everything_is_scarce", 5_000, scarcity);
}

pub fn scarcity(rng: &mut Rng) {
    let numbers = [Numbers::Translated, Numbers::OwnIsn][rng.below(2)];
    let mut pair: Vec<Conversation> = (0..rng.between(1, 5))
        .map(|flow| {
            let connections = rng.between(1, 2);
            let window = [0, 0, 3][rng.below(3)];
            Conversation::random(rng, flow, numbers, connections, window)
        })
        .collect();
    let limits = Limits {
        primary: [4, 9, 40][rng.below(3)],
        secondary: [0, 1, 4, 20][rng.below(4)],
        history: rng.below(3),
        flows: rng.between(1, 3),
        timeout: 1 << 20,
        patience: 1,
        idle: [10, 1 << 20][rng.below(2)],
        half_open: [10, 1 << 20][rng.below(2)],
    };
    let mut harness = Harness::new(limits, numbers);
    for _ in 0..rng.between(1, 5) {
        let epoch = Epoch {
            window: [0, 3][rng.below(2)],
            diverges: rng.one_in(4),
            last: rng.one_in(2),
            loss: [5, 30, 1000][rng.below(3)],
        };
        run(rng, &mut harness, &mut pair, &epoch);
        harness.overdue();
        fence_to_commit(rng, &mut harness, &mut pair);
    }
    assert_eq!(harness.waiting(), 0);
    assert_eq!(harness.comparator.counts().unreadable_primary, 0);
}
