//! Connections over a network between node and client that loses frames and lets them overtake one
//! another: what may leave out of the PVM's order, what must, and in which form ([`crate::model`]).
//!
//! Both VMs get what the client sends and repeat what is lost in their own ways, at their own times.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU16;

use colo_testkit::packets::{self, Ends};
use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::{Limits, Numbers, Reason};
use dpdk_colo::packet::Packet;
use etherparse::TcpHeader;

use crate::endpoint::{Answer, Client, Habits, Vm};
use crate::harness::{Harness, Sent, ample};
use crate::model::{Meaning, Overtook, Segment};
use crate::script::Script;
use crate::traffic::{Opening, Side, ends};

/// The bytes of a signature (RFC 2385): kind, length, digest, and padding.
const SIGNATURE: [u8; 20] = [
    19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 1,
];

/// Buffers of P, and of S, for which there is room: much more than a run has at a time, and few enough that their memory
/// is soon made.
const ROOM: usize = 1_000;

/// Room that is left where a run ends early: a turn takes less.
const SPARE: usize = 200;

/// What a run is like.
#[derive(Clone, Copy, Debug)]
struct Profile {
    /// Frames are cut by the node.
    long: bool,
    checkpoints: bool,
    /// The SVM sends another byte, or the PVM repeats another one than it sent.
    differs: bool,
    repeats_other: bool,
    signed: bool,
    /// S that are kept for retransmissions; `None`: all.
    history: Option<usize>,
}

const PLAIN: Profile = Profile {
    long: false,
    checkpoints: false,
    differs: false,
    repeats_other: false,
    signed: false,
    history: None,
};

/// What is fixed about a connection: how its segments become frames.
struct Shape {
    ends: Ends,
    flow: usize,
    opening: Opening,
    numbers: Numbers,
    pvm_isn: u32,
    svm_isn: u32,
    client_isn: u32,
    /// TSvals of both VMs at the beginning.
    clocks: Option<[u32; 2]>,
    signed: bool,
    trailer: bool,
}

impl Shape {
    fn random(rng: &mut Rng, flow: usize, numbers: Numbers, signed: bool) -> Self {
        let opening = [Opening::Passive, Opening::Active, Opening::MidStream][rng.below(3)];
        let pvm_isn = rng.sequence();
        Self {
            ends: ends(rng, flow),
            flow,
            opening,
            numbers,
            pvm_isn,
            svm_isn: match opening {
                Opening::MidStream => pvm_isn,
                _ => rng.sequence(),
            },
            client_isn: rng.sequence(),
            clocks: rng.one_in(2).then(|| [rng.sequence(), rng.sequence()]),
            signed,
            trailer: rng.one_in(3),
        }
    }

    fn sent(&self, rng: &mut Rng, side: Side, segment: &Segment, vm: &Vm, now: u64) -> Sent {
        let isn = match (side, self.numbers, segment.syn) {
            (Side::Primary, ..) | (Side::Secondary, Numbers::Translated, false) => self.pvm_isn,
            (Side::Secondary, ..) => self.svm_isn,
        };
        let number = isn.wrapping_add(u32::from(!segment.syn));
        let mut options = Vec::new();
        if let Some([pvm, svm]) = self.clocks {
            let base = if side == Side::Primary { pvm } else { svm };
            let stamp = base.wrapping_add((now / 3) as u32);
            options = if segment.syn {
                packets::syn_options(1460, Some(stamp))
            } else {
                packets::timestamp_options(stamp)
            };
        } else if segment.syn {
            options = packets::syn_options(1460, None);
        }
        if self.signed {
            options.extend(SIGNATURE);
        }
        let wire = packets::Segment {
            seq: number.wrapping_add(segment.at),
            ack: segment
                .ack
                .map(|ack| self.client_isn.wrapping_add(1).wrapping_add(ack)),
            syn: segment.syn,
            fin: segment.fin,
            rst: false,
            window: [500, rng.word() as u16][rng.below(2)],
            options,
            payload: segment.data.clone(),
        };
        let mut bytes = packets::tcp(&self.ends, &wire, rng.byte());
        sum_up(&mut bytes);
        let headers = bytes.len() - segment.data.len();
        let cut = (segment.data.len() > vm.habits.mss)
            .then(|| NonZeroU16::new(vm.habits.mss as u16))
            .flatten();
        if self.trailer && cut.is_none() {
            bytes.extend([rng.byte(); 6]);
        }
        let mut segment = segment.clone();
        segment.signed = self.signed;
        Sent {
            flow: self.flow,
            meaning: Meaning::Tcp(segment),
            bytes,
            headers,
            cut,
        }
    }
}

/// Gives a TCP segment the right checksum.
fn sum_up(bytes: &mut [u8]) {
    let packet = Packet::parse(bytes, bytes.len());
    let tcp = usize::from(packet.l4);
    let (mut header, payload) = TcpHeader::from_slice(&bytes[tcp..]).expect("a segment");
    header.checksum = match (packet.key.src_ip(), packet.key.dst_ip()) {
        (Some(IpAddr::V4(source)), Some(IpAddr::V4(destination))) => {
            header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), payload)
        }
        (Some(IpAddr::V6(source)), Some(IpAddr::V6(destination))) => {
            header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), payload)
        }
        _ => unreachable!("both addresses are of one version"),
    }
    .expect("a short payload");
    let header = header.to_bytes();
    bytes[tcp..tcp + header.len()].copy_from_slice(&header);
}

/// One connection with everything that takes part in it.
struct World {
    shape: Shape,
    pvm: Vm,
    svm: Vm,
    client: Client,
    /// What is under way to the SVM and to the client.
    to_svm: VecDeque<(u64, Answer)>,
    to_client: Vec<(u64, Segment, u32)>,
    /// How long the SVM gets its input later, and how seldom it gets to send.
    lag: u64,
    slow: usize,
    /// One frame in this many is lost either way; 0: none.
    loss: [usize; 2],
    end: u32,
    /// The PVM repeats another byte.
    other: bool,
}

impl World {
    fn new(rng: &mut Rng, flow: usize, numbers: Numbers, profile: Profile) -> Self {
        let mss = [1, 8, 20, 40][rng.below(4)];
        let most = 300.min(12 * mss);
        let stream: Vec<u8> = (0..rng.between(1, most)).map(|_| rng.byte()).collect();
        let fin = rng.one_in(2);
        let vm = |rng: &mut Rng| {
            let habits = Habits::random(rng, mss, profile.long);
            Vm::new(habits, stream.clone(), fin)
        };
        let (pvm, mut svm) = (vm(rng), vm(rng));
        if profile.differs {
            let at = rng.below(svm.stream.len());
            svm.stream[at] ^= 1 << rng.below(8);
        }
        Self {
            shape: Shape::random(rng, flow, numbers, profile.signed),
            end: stream.len() as u32 + u32::from(fin),
            pvm,
            svm,
            client: Client::new(rng),
            to_svm: VecDeque::new(),
            to_client: Vec::new(),
            lag: [0, 1, 5, 25][rng.below(4)],
            slow: [1, 1, 3, 10][rng.below(4)],
            loss: [0; 2].map(|_| [0, 30, 8, 3][rng.below(4)]),
            other: profile.repeats_other,
        }
    }

    fn open(&self, rng: &mut Rng) -> Vec<(Side, Sent)> {
        if self.shape.opening == Opening::MidStream {
            return Vec::new();
        }
        let syn = Segment {
            syn: true,
            ack: (self.shape.opening == Opening::Passive).then_some(0),
            ..Segment::default()
        };
        let mut sides = [(Side::Primary, &self.pvm), (Side::Secondary, &self.svm)];
        if rng.one_in(2) {
            sides.swap(0, 1);
        }
        sides
            .into_iter()
            .map(|(side, vm)| (side, self.shape.sent(rng, side, &syn, vm, 0)))
            .collect()
    }

    /// The client speaks and both VMs do; what they send, in some order.
    fn turn(&mut self, rng: &mut Rng, now: u64) -> Vec<(Side, Sent)> {
        if rng.one_in(200) {
            self.client.close_window(now + rng.between(5, 60) as u64);
        }
        let idle = now.is_multiple_of(64);
        for answer in self.client.speak(rng, now, idle) {
            if rng.one_in(match self.loss[0] {
                0 => usize::MAX,
                loss => loss,
            }) {
                continue;
            }
            self.pvm.hear(rng, &answer, now);
            self.to_svm.push_back((now + self.lag, answer));
        }
        while self.to_svm.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, answer)) = self.to_svm.pop_front()
        {
            self.svm.hear(rng, &answer, now);
        }
        let mut said = Vec::new();
        for mut segment in self.speak(rng, Side::Primary, now) {
            if self.other && !segment.data.is_empty() && segment.end() < self.pvm.top() {
                // It may have left, or lie still here.
                let k = rng.below(segment.data.len());
                segment.data[k] ^= 1;
            }
            said.push((
                Side::Primary,
                self.shape
                    .sent(rng, Side::Primary, &segment, &self.pvm, now),
            ));
        }
        if rng.one_in(self.slow) {
            let theirs = self.speak(rng, Side::Secondary, now);
            let frames: Vec<_> = theirs
                .iter()
                .map(|s| {
                    (
                        Side::Secondary,
                        self.shape.sent(rng, Side::Secondary, s, &self.svm, now),
                    )
                })
                .collect();
            let first = rng.one_in(2);
            let at = if first { 0 } else { said.len() };
            said.splice(at..at, frames);
        }
        said
    }

    fn speak(&mut self, rng: &mut Rng, side: Side, now: u64) -> Vec<Segment> {
        let most = rng.between(1, 5);
        match side {
            Side::Primary => self.pvm.speak(rng, now, most),
            Side::Secondary => self.svm.speak(rng, now, most),
        }
    }

    /// A frame has left the node.
    fn carry(&mut self, rng: &mut Rng, sent: &Sent, left: &[u8], now: u64) {
        let Meaning::Tcp(segment) = &sent.meaning else {
            return;
        };
        if segment.syn || self.loss[1] > 0 && rng.one_in(self.loss[1]) {
            return;
        }
        let number = |bytes: &[u8]| Packet::parse(bytes, bytes.len()).tcp.seq;
        let lowered = number(&sent.bytes).wrapping_sub(number(left));
        let delay = if rng.one_in(6) {
            rng.below(8) as u64
        } else {
            1
        };
        self.to_client.push((now + delay, segment.clone(), lowered));
    }

    fn deliver(&mut self, rng: &mut Rng, now: u64) {
        let mut later = Vec::new();
        for (at, segment, lowered) in std::mem::take(&mut self.to_client) {
            if at > now {
                later.push((at, segment, lowered));
            } else {
                self.client.hear(rng, &segment, lowered, now);
            }
        }
        self.to_client = later;
    }

    /// The SVM loads the PVM's state.
    fn load(&mut self) {
        self.svm = self.pvm.loaded_by(&self.svm.habits.clone());
        self.shape.svm_isn = self.shape.pvm_isn;
        self.to_svm.clear();
    }

    fn describe(&self) -> String {
        let (client, end) = (&self.client, self.end);
        format!(
            "end {end}, {client:?}, PVM {}, SVM {}",
            self.pvm.describe(),
            self.svm.describe()
        )
    }

    fn is_done(&self) -> bool {
        self.client.is_done(self.end)
            && self.pvm.is_done()
            && self.svm.is_done()
            && self.to_svm.is_empty()
            && self.to_client.is_empty()
    }
}

/// One thing that a comparator was given.
pub enum Given {
    Frame(Side, Sent),
    Fence,
    Commit,
}

/// What a run came to.
struct Outcome {
    harness: Harness,
    overtook: Overtook,
    given: Vec<Given>,
    /// Differences that were reported.
    reported: Vec<Reason>,
    checkpoints: usize,
    /// There was soon no room, of which nothing is to be judged here.
    is_cut_short: bool,
}

/// Several connections through one comparator until all is done.
fn run(rng: &mut Rng, profile: Profile, numbers: Numbers) -> Outcome {
    let limits = Limits {
        history: profile.history.unwrap_or(ROOM),
        ..ample(ROOM, ROOM)
    };
    let mut harness = Harness::new(limits, numbers);
    harness.network = Some(Vec::new());
    let mut worlds: Vec<World> = (0..[1, 1, 2][rng.below(3)])
        .map(|flow| World::new(rng, flow, numbers, profile))
        .collect();
    let mut outcome = Outcome {
        harness,
        overtook: Overtook::default(),
        given: Vec::new(),
        reported: Vec::new(),
        checkpoints: 0,
        is_cut_short: false,
    };
    for i in 0..worlds.len() {
        let opening = worlds[i].open(rng);
        feed(rng, &mut outcome, &mut worlds, opening, 0);
    }
    let mut fenced_until = None;
    let mut now = 0;
    let mut progress = (0, 0);
    while !worlds.iter().all(World::is_done) {
        now += 1;
        let comparator = &outcome.harness.comparator;
        let used = comparator
            .primary_buffers()
            .max(comparator.secondary_buffers());
        if used > ROOM - SPARE {
            if fenced_until.is_none() {
                outcome.harness.fence();
                outcome.given.push(Given::Fence);
            }
            (fenced_until, outcome.is_cut_short) = (Some(now), true);
            break;
        }
        for i in 0..worlds.len() {
            let said = worlds[i].turn(rng, now);
            feed(rng, &mut outcome, &mut worlds, said, now);
            worlds[i].deliver(rng, now);
        }
        if now.is_multiple_of(2) {
            outcome.harness.age();
            carry(rng, &mut outcome.harness, &mut worlds, now);
        }
        if profile.history.is_none() && !profile.signed {
            outcome.harness.assert_nothing_lingers();
        }
        let reports = std::mem::take(&mut outcome.harness.reports);
        let differs = !reports.is_empty();
        outcome.reported.extend(reports);
        // With little history a counterpart may be gone for good.
        let received: u32 = worlds.iter().map(|world| world.client.received()).sum();
        if received != progress.1 {
            progress = (now, received);
        }
        // A last byte that differs may be a keepalive's, which waits for the SVM's.
        let may_wait =
            profile.history.is_some() || profile.signed || worlds.iter().any(|world| world.other);
        let stuck = now - progress.0 > 100 && may_wait;
        if stuck {
            progress.0 = now;
        }
        let wanted = differs || stuck || profile.checkpoints && rng.one_in(60);
        match fenced_until {
            None if wanted => {
                outcome.harness.fence();
                outcome.given.push(Given::Fence);
                carry(rng, &mut outcome.harness, &mut worlds, now);
                fenced_until = Some(now + rng.below(4) as u64);
            }
            Some(until) if now >= until => {
                worlds.iter_mut().for_each(World::load);
                outcome.harness.commit();
                outcome.given.push(Given::Commit);
                outcome.checkpoints += 1;
                carry(rng, &mut outcome.harness, &mut worlds, now);
                fenced_until = None;
                if worlds.iter().any(|world| world.other) {
                    // A client that has two values of one byte has no more to say.
                    break;
                }
            }
            _ => {}
        }
        assert!(
            now < 60_000,
            "liveness: {} P wait, {:#?}",
            outcome.harness.waiting(),
            worlds.iter().map(World::describe).collect::<Vec<_>>()
        );
    }
    if fenced_until.is_some() {
        outcome.harness.commit();
        outcome.given.push(Given::Commit);
    }
    outcome.overtook = outcome.harness.overtook();
    outcome
}

fn feed(
    rng: &mut Rng,
    outcome: &mut Outcome,
    worlds: &mut [World],
    said: Vec<(Side, Sent)>,
    now: u64,
) {
    for sent in said {
        outcome.harness.feed(rng, std::slice::from_ref(&sent));
        let (side, sent) = sent;
        outcome.given.push(Given::Frame(side, sent));
        carry(rng, &mut outcome.harness, worlds, now);
    }
}

/// Takes to the network what has left.
fn carry(rng: &mut Rng, harness: &mut Harness, worlds: &mut [World], now: u64) {
    for (sent, left) in harness.network.replace(Vec::new()).into_iter().flatten() {
        worlds[sent.flow].carry(rng, &sent, &left, now);
    }
}

fn numbers(rng: &mut Rng) -> Numbers {
    [Numbers::Translated, Numbers::OwnIsn][rng.below(2)]
}

/// What happens to a comparator in a run with checkpoints, for several to go through.
pub fn script(rng: &mut Rng) -> Script {
    let profile = Profile {
        checkpoints: rng.one_in(2),
        ..PLAIN
    };
    let numbers = numbers(rng);
    let given = run(rng, profile, numbers).given;
    Script::of(rng, numbers, given)
}

/// Adds up what overtook, so that a property whose cases never come to it is seen.
fn add(total: &mut Overtook, overtook: &Overtook) {
    total.retransmissions += overtook.retransmissions;
    total.parts += overtook.parts;
    total.acks += overtook.acks;
}

#[test]
fn loss_alone_needs_no_checkpoint() {
    let mut overtook = Overtook::default();
    for_cases("loss", 2_000, |rng| add(&mut overtook, &loss_alone(rng)));
    println!("overtook: {overtook:?}");
}

pub fn loss_alone(rng: &mut Rng) -> Overtook {
    let profile = Profile {
        long: rng.one_in(3),
        ..PLAIN
    };
    let numbers = numbers(rng);
    let mut outcome = run(rng, profile, numbers);
    assert_eq!(outcome.reported, [], "equal VMs");
    outcome.harness.assert_equal();
    outcome.overtook
}

#[test]
fn what_overtakes_across_checkpoints_is_of_one_epoch() {
    for_cases("loss_and_checkpoints", 1_000, loss_and_checkpoints);
}

pub fn loss_and_checkpoints(rng: &mut Rng) {
    let profile = Profile {
        checkpoints: true,
        long: rng.one_in(4),
        ..PLAIN
    };
    let numbers = numbers(rng);
    let mut outcome = run(rng, profile, numbers);
    assert_eq!(outcome.reported, [], "equal VMs");
    outcome.harness.assert_equal();
}

#[test]
fn with_little_history_a_retransmission_waits_for_the_other_vm_s() {
    for_cases("loss_and_little_history", 1_000, loss_and_little_history);
}

pub fn loss_and_little_history(rng: &mut Rng) {
    let profile = Profile {
        history: Some(rng.below(4)),
        long: rng.one_in(4),
        ..PLAIN
    };
    let numbers = numbers(rng);
    let mut outcome = run(rng, profile, numbers);
    assert_eq!(outcome.reported, [], "equal VMs");
    outcome.harness.fence();
    outcome.harness.commit();
    assert_eq!(outcome.harness.waiting(), 0);
}

#[test]
fn nothing_overtakes_in_a_connection_that_has_diverged() {
    for_cases("loss_and_difference", 1_000, loss_and_difference);
}

pub fn loss_and_difference(rng: &mut Rng) {
    let profile = Profile {
        differs: true,
        long: rng.one_in(4),
        ..PLAIN
    };
    let numbers = numbers(rng);
    let mut outcome = run(rng, profile, numbers);
    assert!(
        outcome.is_cut_short || !outcome.reported.is_empty(),
        "a difference is seen"
    );
    outcome.harness.assert_equal();
}

#[test]
fn a_retransmission_with_another_byte_does_not_leave() {
    let mut reported = 0;
    for_cases("loss_and_another_byte", 1_000, |rng| {
        reported += usize::from(loss_and_another_byte(rng));
    });
    println!("reported: {reported}");
}

/// Whether the other byte was reported as a difference.
pub fn loss_and_another_byte(rng: &mut Rng) -> bool {
    let profile = Profile {
        repeats_other: true,
        long: rng.one_in(4),
        ..PLAIN
    };
    let numbers = numbers(rng);
    let outcome = run(rng, profile, numbers);
    outcome.reported.contains(&Reason::Payload)
}

#[test]
fn nothing_overtakes_on_a_connection_that_is_signed() {
    for_cases("loss_and_signatures", 500, loss_and_signatures);
}

pub fn loss_and_signatures(rng: &mut Rng) {
    let profile = Profile {
        signed: true,
        ..PLAIN
    };
    let numbers = numbers(rng);
    let mut outcome = run(rng, profile, numbers);
    let Overtook {
        retransmissions,
        acks,
        ..
    } = outcome.overtook;
    assert_eq!((retransmissions, acks), (0, 0));
    outcome.harness.assert_equal();
}
