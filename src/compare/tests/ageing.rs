//! Which flows are forgotten, and which make room for others.

use super::*;

const BOTH: [Numbers; 2] = [Numbers::Translated, Numbers::OwnIsn];
const LONG: Ticks = 250 * TIMEOUT;

/// The number of a connection from its peer's address and port.
pub(super) fn between(v6: bool, number: u32) -> Ends {
    let [_, vlan, peer, low] = number.to_be_bytes();
    Ends {
        v6,
        vlans: vec![1 + u16::from(vlan)],
        peer,
        port: 80,
        peer_port: 1024 + u16::from(low),
        from_peer: false,
    }
}

pub(super) fn opening(ends: &Ends, isn: u32) -> Vec<u8> {
    let syn = Segment {
        seq: isn,
        ack: Some(1),
        syn: true,
        options: packets::syn_options(1460, None),
        ..Segment::default()
    };
    packets::tcp(ends, &syn, 0)
}

/// A connection by number that both VMs have answered, the PVM with ISN 1000 and the SVM with 5000.
pub(super) fn open(pair: &mut Pair, ends: &Ends) {
    pair.p(&opening(ends, 1000));
    pair.s(&opening(ends, 5000));
    assert_eq!(pair.left(), 1);
}

/// What both VMs send at a position behind their ISN; the S in its own numbers or behind a rewriter.
fn say(pair: &mut Pair, ends: &Ends, numbers: Numbers, at: u32, s_first: bool) {
    let says = |isn: u32| packets::tcp(ends, &segment(isn + 1 + at, 1, &[at as u8]), 0);
    let (p, s) = match numbers {
        Numbers::Translated => (says(1000), says(1000)),
        Numbers::OwnIsn => (says(1000), says(5000)),
    };
    if s_first {
        pair.s(&s);
        pair.p(&p);
    } else {
        pair.p(&p);
        pair.s(&s);
    }
    assert_eq!((pair.left(), pair.report()), (1, None), "position {at}");
}

/// Lets time pass.
fn wait(pair: &mut Pair, ticks: Ticks) {
    let end = pair.now + ticks;
    while pair.now < end {
        pair.now += TIMEOUT / 4;
        for _ in 0..10 {
            pair.comparator.age(pair.now, 10_000);
        }
    }
}

#[test]
fn a_connection_goes_on_after_any_silence() {
    for numbers in BOTH {
        for (v6, s_first) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut pair = Pair::numbered(numbers, LIMITS, Vec::new());
            let ends = between(v6, 1);
            open(&mut pair, &ends);
            say(&mut pair, &ends, numbers, 0, s_first);
            wait(&mut pair, LONG);
            say(&mut pair, &ends, numbers, 1, s_first);
            wait(&mut pair, LONG);
            say(&mut pair, &ends, numbers, 2, s_first);
            assert_eq!(pair.overdue(), None);
        }
    }
}

#[test]
fn so_does_one_that_follows_another_on_its_ports_or_a_checkpoint() {
    for numbers in BOTH {
        let mut pair = Pair::numbered(numbers, LIMITS, Vec::new());
        let ends = between(false, 1);
        open(&mut pair, &ends);
        say(&mut pair, &ends, numbers, 0, false);
        for isns in [[11_000, 15_000], [21_000, 25_000]] {
            pair.p(&opening(&ends, isns[0]));
            pair.s(&opening(&ends, isns[1]));
            assert_eq!(pair.left(), 1);
            say(&mut pair, &ends, numbers, isns[0] - 1000, false);
            wait(&mut pair, LONG);
            say(&mut pair, &ends, numbers, isns[0] - 999, true);
        }
        pair.checkpoint();
        wait(&mut pair, LONG);
        // Both VMs have the PVM's numbers now.
        pair.both(&packets::tcp(&ends, &segment(21_003, 1, b"x"), 0));
        assert_eq!((pair.left(), pair.overdue()), (1, None));
    }
}

#[test]
fn a_completed_connection_in_which_the_vm_is_silent_keeps_its_numbers() {
    let mut pair = Pair::numbered(Numbers::OwnIsn, LIMITS, Vec::new());
    let ends = between(false, 1);
    open(&mut pair, &ends);
    wait(&mut pair, LONG);
    say(&mut pair, &ends, Numbers::OwnIsn, 0, false);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn a_closed_connection_is_forgotten() {
    for numbers in BOTH {
        let mut pair = Pair::numbered(numbers, LIMITS, Vec::new());
        let ends = between(false, 1);
        open(&mut pair, &ends);
        say(&mut pair, &ends, numbers, 0, false);
        let fin = |seq| Segment {
            fin: true,
            ..segment(seq, 1, b"")
        };
        pair.p(&packets::tcp(&ends, &fin(1002), 0));
        let seq = if numbers == Numbers::OwnIsn {
            5002
        } else {
            1002
        };
        pair.s(&packets::tcp(&ends, &fin(seq), 0));
        assert_eq!(pair.left(), 1);
        wait(&mut pair, LONG);
        assert_eq!(pair.comparator.flows(), 0);
    }
}

#[test]
fn connections_that_nobody_completes_cost_no_checkpoint_and_no_connection() {
    const SYNS: u32 = 70_000;
    let limits = Limits {
        flows: 4096,
        ..LIMITS
    };
    for numbers in BOTH {
        for v6 in [false, true] {
            let mut pair = Pair::numbered(numbers, limits, Vec::new());
            let idle = between(v6, 0);
            open(&mut pair, &idle);
            say(&mut pair, &idle, numbers, 0, false);
            for number in 1..=SYNS {
                open(&mut pair, &between(v6, number));
                if number > 2000 && number % 7 == 0 {
                    // Both VMs repeat an earlier one, the S first, while others come.
                    let again = between(v6, number - 2000);
                    pair.s(&opening(&again, 5000));
                    open(&mut pair, &between(v6, 200_000 + number));
                    pair.p(&opening(&again, 1000));
                    assert_eq!(pair.left(), 1, "{numbers:?}: {number}");
                }
            }
            assert_eq!((pair.overdue(), pair.report()), (None, None));
            assert_eq!(pair.comparator.counts().flow_table_full, 0);
            assert_eq!(pair.comparator.flows(), 4096);
            say(&mut pair, &idle, numbers, 1, false);
            // One that is completed after all lasts.
            let late = between(v6, SYNS);
            say(&mut pair, &late, numbers, 0, true);
            for number in SYNS..SYNS + 5000 {
                open(&mut pair, &between(v6, 100_000 + number));
            }
            wait(&mut pair, LONG);
            say(&mut pair, &idle, numbers, 2, true);
            say(&mut pair, &late, numbers, 1, true);
            assert_eq!(pair.overdue(), None);
        }
    }
}

#[test]
fn half_open_connections_end_with_a_kernel_s_patience() {
    let limits = Limits {
        half_open: TIMEOUT / 2,
        idle: 100 * TIMEOUT,
        ..LIMITS
    };
    let mut pair = Pair::with(limits, Vec::new());
    open(&mut pair, &between(false, 1));
    open(&mut pair, &between(true, 2));
    say(&mut pair, &between(true, 2), Numbers::Translated, 0, false);
    wait(&mut pair, 2 * TIMEOUT);
    assert_eq!(pair.comparator.flows(), 1);
}

#[test]
fn refusals_take_no_place_from_an_open_connection() {
    for numbers in BOTH {
        let mut pair = Pair::numbered(
            numbers,
            Limits {
                flows: 16,
                ..LIMITS
            },
            Vec::new(),
        );
        let idle = between(false, 0);
        open(&mut pair, &idle);
        say(&mut pair, &idle, numbers, 0, false);
        for number in 1..1000 {
            let rst = Segment {
                rst: true,
                ..segment(0, 1, b"")
            };
            pair.both(&packets::tcp(&between(false, number), &rst, 0));
            assert_eq!(pair.left(), 1);
        }
        say(&mut pair, &idle, numbers, 1, false);
    }
}

#[test]
fn a_table_full_of_living_connections_asks_for_a_checkpoint_that_makes_room() {
    let mut pair = Pair::numbered(Numbers::OwnIsn, LIMITS, Vec::new());
    for number in 0..4 {
        open(&mut pair, &between(false, number));
        say(
            &mut pair,
            &between(false, number),
            Numbers::OwnIsn,
            0,
            false,
        );
    }
    wait(&mut pair, LONG);
    pair.p(&opening(&between(false, 4), 1000));
    assert_eq!(pair.left(), 0);
    assert_eq!(pair.overdue(), Some(Reason::FlowTableFull));
    pair.checkpoint();
    assert_eq!(pair.left(), 1);
    open(&mut pair, &between(false, 5));
}
