//! Frames of an established flow beside a flow that floods, over time: how long they wait, and what is asked for.

use std::collections::VecDeque;

use super::*;

/// From a request to QEMU's STOP, and from there to RESUME.
const LATENCY: Ticks = 100;
const PAUSE: Ticks = 5;

/// A datagram of another flow than [`datagram`]'s.
fn flood(n: u64) -> HeapFrame {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 3], 64)
        .udp(53, 5353);
    let mut bytes = Vec::new();
    builder
        .write(&mut bytes, &[&n.to_be_bytes()[..], &[FLOOD]].concat())
        .unwrap();
    HeapFrame::new(&bytes)
}

/// What the flood's datagrams end with.
const FLOOD: u8 = 255;

/// What came of a run.
#[derive(Default)]
struct Outcome {
    /// The longest that a frame of the established flow has waited.
    longest: Ticks,
    left: u64,
    causes: Vec<Cause>,
}

/// Both VMs send a datagram each eight ticks. Whose floods with one at each tick is the argument's.
fn run(pvm_floods: bool, svm_floods: bool) -> Outcome {
    let mut pair = Pair::protected_with(|setup| {
        setup.limits.primary = 512;
        setup.limits.secondary = 512;
        setup.limits.timeout = 1_000_000;
    });
    let mut outcome = Outcome::default();
    let mut ring = VecDeque::new();
    let mut sent = VecDeque::new();
    let (mut stop_at, mut resume_at, mut stops) = (None, None, 0);
    let start = pair.now;
    while pair.now < start + 4_000 {
        pair.now += 1;
        let n = pair.now;
        if resume_at.is_none() {
            if pvm_floods {
                ring.push_back(flood(n));
            }
            if svm_floods {
                pair.svm(flood(n));
            }
            if n.is_multiple_of(8) {
                let says = (n / 8 % 200) as u8;
                ring.push_back(datagram(says));
                pair.svm(datagram(says));
                sent.push_back((says, n));
            }
        }
        pair.exchange();
        while pair.primary.wants_output()
            && let Some(frame) = ring.pop_front()
        {
            pair.output(frame);
        }
        if let Some(cause) = pair.request() {
            outcome.causes.push(cause);
            stop_at = Some(n + LATENCY);
        }
        if stop_at == Some(n) {
            stops += 1;
            pair.stop(stops);
            (stop_at, resume_at) = (None, Some(n + PAUSE));
        }
        if resume_at == Some(n) {
            pair.resume();
            pair.exchange();
            resume_at = None;
        }
        for said in pair.released() {
            if said != FLOOD {
                let (expected, since) = sent.pop_front().expect("it was sent");
                assert_eq!(said, expected, "in order, and each once");
                outcome.longest = outcome.longest.max(n - since);
                outcome.left += 1;
            }
        }
    }
    outcome
}

#[test]
fn a_flow_that_floods_delays_others_by_a_checkpoint_s_pause_and_no_more() {
    for (pvm_floods, svm_floods, reason) in [
        (true, false, Some(Reason::FlowHold)),
        (false, true, Some(Reason::SecondaryOverflow)),
        (true, true, None),
    ] {
        let Outcome {
            longest,
            left,
            causes,
        } = run(pvm_floods, svm_floods);
        let longest_allowed = if reason.is_some() { PAUSE } else { 0 };
        assert!(
            longest <= longest_allowed && left > 400,
            "{left} left, one after {longest} ticks; asked for: {causes:?}"
        );
        assert_eq!(causes.is_empty(), reason.is_none(), "{causes:?}");
        let expected = reason.map(Cause::Difference);
        assert!(
            causes.iter().all(|cause| Some(*cause) == expected),
            "{causes:?}"
        );
    }
}

#[test]
fn an_s_without_room_is_counted_once_as_a_cause() {
    let mut pair = Pair::protected_with(|setup| setup.limits.secondary = 1);
    let overflow = Cause::Difference(Reason::SecondaryOverflow);
    for n in 1..=2 {
        pair.svm(datagram(n));
    }
    let comparison = pair.primary.comparison();
    let dropped = comparison.comparator().local().counts().secondary_overflow;
    assert_eq!(dropped, 1);
    assert_eq!(comparison.checkpoints().count(overflow), 1);
    assert_eq!(pair.request(), Some(overflow));
    pair.svm(datagram(3));
    let comparison = pair.primary.comparison();
    assert_eq!(comparison.checkpoints().count(overflow), 2);
}
