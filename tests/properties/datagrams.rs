//! Datagrams: equal ones leave in the PVM's order, however the SVM's are reordered.

use std::collections::VecDeque;

use colo_testkit::packets::{self, Ends, Fragment};
use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::Numbers;

use crate::harness::{Harness, Sent, ample};
use crate::model::Meaning;
use crate::traffic::{Side, content, ends, merge};

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Udp,
    Echo,
    Gre,
    Fragments,
    NotIp,
}

const GRE: u8 = 47;
/// Local experimental EtherType.
const EXPERIMENTAL: u16 = 0x88b5;

/// A datagram: its payload and, of a fragment, where it lies.
#[derive(Clone, Debug)]
struct Datagram {
    payload: Vec<u8>,
    fragment: Fragment,
    /// Of a fragment: which datagram it is of, in the terms of the VM that sends it.
    identification: u8,
}

fn random(rng: &mut Rng) -> Datagram {
    Datagram {
        payload: content(rng, 6),
        fragment: Fragment {
            offset: rng.below(3) as u16,
            more: true,
        },
        identification: 128,
    }
}

/// Datagrams in fragments, no two of which are equal; not more than may be under way at a time.
fn fragments(rng: &mut Rng) -> Vec<Datagram> {
    let mut fragments = Vec::new();
    for number in 0..rng.below(7) as u8 {
        let last = rng.between(1, 2) as u16;
        for offset in 0..=last {
            let mut payload = vec![number, offset as u8];
            payload.resize(8, rng.byte());
            fragments.push(Datagram {
                payload,
                fragment: Fragment {
                    offset,
                    more: offset < last,
                },
                identification: number,
            });
        }
    }
    fragments
}

fn frame(rng: &mut Rng, flow: usize, ends: &Ends, protocol: Protocol, what: &Datagram) -> Sent {
    let trivia = match protocol {
        Protocol::Fragments => what.identification,
        _ => rng.byte(),
    };
    let payload = &what.payload[..];
    let mut content = payload.to_vec();
    let mut bytes = match protocol {
        Protocol::Udp => packets::udp(ends, payload, trivia),
        Protocol::Echo => packets::echo_reply(ends, payload, trivia),
        Protocol::Gre => packets::ip(ends, GRE, None, trivia, payload),
        Protocol::Fragments => {
            content.push(what.fragment.offset as u8);
            packets::ip(ends, packets::UDP, Some(what.fragment), trivia, payload)
        }
        Protocol::NotIp => {
            let mut bytes = packets::ethernet(ends, EXPERIMENTAL);
            bytes.extend(payload);
            bytes
        }
    };
    let headers = bytes.len() - payload.len();
    if !matches!(protocol, Protocol::NotIp) && rng.one_in(2) {
        bytes.extend([trivia; 5]);
    }
    Sent {
        flow,
        meaning: Meaning::Datagram(content),
        bytes,
        headers,
        cut: None,
    }
}

struct Flow {
    ends: Ends,
    protocol: Protocol,
    primary: Vec<Datagram>,
    secondary: Vec<Datagram>,
}

fn flows(rng: &mut Rng) -> Vec<Flow> {
    (0..rng.between(1, 3))
        .map(|flow| {
            let protocol = [
                Protocol::Udp,
                Protocol::Echo,
                Protocol::Gre,
                Protocol::Fragments,
                Protocol::NotIp,
            ][rng.below(5)];
            let mut ends = ends(rng, flow);
            // Not every protocol has ports that distinguish flows.
            ends.peer = 10 + flow as u8;
            let primary: Vec<Datagram> = match protocol {
                Protocol::Fragments => fragments(rng),
                _ => (0..rng.below(24)).map(|_| random(rng)).collect(),
            };
            let mut secondary = primary.clone();
            let salt = rng.byte() & 0x7f;
            for datagram in &mut secondary {
                datagram.identification ^= salt;
            }
            let window = [0, 1, 8, 40][rng.below(4)];
            rng.shuffle(&mut secondary, window);
            Flow {
                ends,
                protocol,
                primary,
                secondary,
            }
        })
        .collect()
}

fn run(rng: &mut Rng, flows: &[Flow]) -> Harness {
    let mut queues = Vec::new();
    for (i, flow) in flows.iter().enumerate() {
        for (side, datagrams) in [
            (Side::Primary, &flow.primary),
            (Side::Secondary, &flow.secondary),
        ] {
            let frames: VecDeque<Sent> = datagrams
                .iter()
                .map(|d| frame(rng, i, &flow.ends, flow.protocol, d))
                .collect();
            queues.push((side, frames));
        }
    }
    let mut harness = Harness::new(ample(80, 80), Numbers::Translated);
    let merged = merge(rng, queues);
    harness.feed(rng, &merged);
    harness
}

#[test]
fn equal_datagrams_leave_in_the_primary_s_order() {
    for_cases("equal_datagrams_leave", 20_000, equal_datagrams);
}

pub fn equal_datagrams(rng: &mut Rng) {
    let flows = flows(rng);
    run(rng, &flows).assert_equal();
}

#[test]
fn a_datagram_that_the_secondary_did_not_send_stays() {
    for_cases("a_datagram_of_one_vm_alone", 20_000, a_datagram_alone);
}

pub fn a_datagram_alone(rng: &mut Rng) {
    let mut flows = flows(rng);
    let which = rng.below(flows.len());
    let flow = &mut flows[which];
    let side = [&mut flow.primary, &mut flow.secondary];
    let [primary, secondary] = side;
    let side = if rng.one_in(2) { primary } else { secondary };
    match rng.below(3) {
        0 if !side.is_empty() => {
            let i = rng.below(side.len());
            let datagram = &mut side[i];
            let k = rng.below(datagram.payload.len() + 1);
            match datagram.payload.get_mut(k) {
                Some(byte) => *byte ^= 1 << rng.below(8),
                None => datagram.payload.push(rng.byte()),
            }
        }
        1 if !side.is_empty() => drop(side.remove(rng.below(side.len()))),
        _ => {
            let i = rng.below(side.len() + 1);
            side.insert(i, random(rng));
        }
    }
    let mut harness = run(rng, &flows);
    assert!(harness.overdue().is_some(), "unnoticed");
    // Datagrams between fence and commit are compared with nothing.
    harness.fence();
    let flow = &flows[which];
    for datagram in &flow.secondary {
        let sent = frame(rng, which, &flow.ends, flow.protocol, datagram);
        harness.secondary(rng, &sent);
    }
    harness.commit();
    for datagram in &flow.primary {
        let sent = frame(rng, which, &flow.ends, flow.protocol, datagram);
        harness.secondary(rng, &sent);
        assert!(harness.primary(rng, &sent));
    }
    harness.assert_equal();
}
