//! Two guards and an attacker between them.

use std::collections::BTreeSet;

use colo_testkit::rng::{Rng, for_cases};

use super::notice::{Fault, Notice};
use super::*;
use crate::frame::Ticks;
use crate::link::wire::VERSION as PLAIN_VERSION;
use crate::link::{Endpoint, Event, Message, Timing};

const TIMING: Timing = Timing {
    heartbeat: 20,
    retransmit: 5,
    silence: 500,
    gap: Ticks::MAX,
    stall: 0,
    restart: 0,
};
/// A living session gives way after this.
const GIVES_WAY: Ticks = TIMING.silence / 2;
const VM: u16 = 7;
const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fn ring(text: &str) -> KeyRing {
    KeyRing::parse(text).expect("keys")
}

/// A node that starts: each has another seed.
fn start(text: &str, role: Role, seed: u8) -> Guard {
    let identity = Identity {
        vm: VM,
        role,
        mac: [2, 0, 0, 0, 0, seed],
        seed: [seed; 32],
    };
    Guard::new(&ring(text), &identity, TIMING)
}

fn primary(seed: u8) -> Guard {
    start(OLD, Role::Primary, seed)
}

fn secondary(seed: u8) -> Guard {
    start(OLD, Role::Secondary, seed)
}

fn open(guard: &mut Guard, frame: &[u8], now: Ticks) -> Opened {
    guard.open(frame, std::iter::once(frame), now)
}

/// Some frame of the link with an Ethernet header.
fn plain(n: u8) -> Vec<u8> {
    let mut frame = vec![n; 70];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8]);
    frame[12..20].copy_from_slice(&[0x88, 0xb5, 0xc0, 0x10, PLAIN_VERSION, 3, 0, VM as u8]);
    frame
}

fn sealed(guard: &mut Guard, frame: &[u8]) -> Option<Vec<u8>> {
    let seal = guard.seal(frame, std::iter::once(frame))?;
    Some([&seal[..], frame].concat())
}

/// All that a guard says by itself at a time.
fn says(guard: &mut Guard, now: Ticks) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| guard.next_greeting(now).map(|g| g.bytes().to_vec())).collect()
}

/// Lets two speak by themselves and with heartbeats, without loss. Returns the frames that were on the link.
fn converse(a: &mut Guard, b: &mut Guard, now: Ticks) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for _ in 0..6 {
        for turn in [true, false] {
            let (from, to) = if turn {
                (&mut *a, &mut *b)
            } else {
                (&mut *b, &mut *a)
            };
            let heartbeat = sealed(from, &plain(0));
            let mut frames = says(from, now);
            frames.extend(heartbeat);
            for frame in frames {
                open(to, &frame, now);
                all.push(frame);
            }
        }
    }
    all
}

/// Whether what one sends counts at the other.
fn speaks(from: &mut Guard, to: &mut Guard, now: Ticks) -> bool {
    sealed(from, &plain(1)).is_some_and(|frame| open(to, &frame, now) == Opened::Sealed)
}

fn session() -> (Guard, Guard) {
    let (mut p, mut s) = (primary(1), secondary(2));
    converse(&mut p, &mut s, 0);
    assert!(p.has_session() && s.has_session());
    notices(&mut p);
    notices(&mut s);
    (p, s)
}

fn notices(guard: &mut Guard) -> Vec<Notice> {
    std::iter::from_fn(|| guard.next_notice(Ticks::MAX)).collect()
}

fn faults(guard: &mut Guard) -> Vec<Fault> {
    let fault = |notice| match notice {
        Notice::Void { fault, .. } => Some(fault),
        Notice::Session { .. } => None,
    };
    notices(guard).into_iter().filter_map(fault).collect()
}

#[test]
fn a_session_begins_in_any_order_and_with_any_loss() {
    for_cases("link_session", 1_000, |rng| {
        let (mut p, mut s) = (primary(rng.byte() | 1), secondary(2));
        let mut under_way: Vec<(Ticks, bool, Vec<u8>)> = Vec::new();
        let mut now = 0;
        while !(p.has_session() && s.has_session()) {
            now += 1;
            assert!(now < 60 * TIMING.heartbeat, "no session");
            for (to_p, guard) in [(false, &mut p), (true, &mut s)] {
                let mut frames = says(guard, now);
                if now % TIMING.heartbeat == 0 {
                    frames.extend(sealed(guard, &plain(0)));
                }
                for frame in frames {
                    for _ in 0..rng.below(3) {
                        under_way.push((now + rng.below(30) as Ticks, to_p, frame.clone()));
                    }
                }
            }
            let (due, later) = under_way.into_iter().partition(|(at, ..)| *at <= now);
            under_way = later;
            for (_, to_p, frame) in due {
                open(if to_p { &mut p } else { &mut s }, &frame, now);
            }
        }
        assert!(speaks(&mut p, &mut s, now) && speaks(&mut s, &mut p, now));
        assert_eq!((p.counts().forged, s.counts().forged), (0, 0));
    });
}

#[test]
fn a_frame_counts_once_and_only_as_it_was_sent() {
    for_cases("link_seal", 1_000, |rng| {
        let (mut p, mut s) = session();
        let frame = sealed(&mut p, &plain(rng.byte())).expect("a session");
        let mut bad = frame.clone();
        let expected = match rng.below(4) {
            // The outer Ethernet header is the network's.
            0 => {
                bad[rng.between(SEAL, frame.len() - 1)] ^= 1 << rng.below(8);
                Fault::Forged
            }
            1 => {
                bad[rng.between(22, SEAL - 1)] ^= 1 << rng.below(8);
                Fault::Forged
            }
            2 => {
                bad.truncate(rng.between(SEAL, frame.len() - 1));
                Fault::Forged
            }
            _ => {
                bad.push(0);
                Fault::Forged
            }
        };
        assert_eq!(open(&mut s, &bad, 1), Opened::Void);
        let found = faults(&mut s);
        // A number that is too old to know is not looked at.
        assert!(found == [expected] || found == [Fault::Stale], "{found:?}");
        assert_eq!(open(&mut s, &frame, 1), Opened::Sealed);
        assert_eq!(open(&mut s, &frame, 1), Opened::Void);
        assert_eq!(faults(&mut s), [Fault::Stale]);
        assert_eq!(open(&mut p, &frame, 1), Opened::Void);
        assert_eq!(faults(&mut p), [Fault::Reflected]);
    });
}

#[test]
fn a_frame_without_a_whole_tag_is_garbage() {
    let (mut p, mut s) = session();
    let frame = sealed(&mut p, &plain(1)).expect("a session");
    for len in 0..SEAL {
        assert_eq!(open(&mut s, &frame[..len], 1), Opened::Void, "{len}");
    }
    assert!(speaks(&mut p, &mut s, 1));
}

#[test]
fn a_recorded_session_means_nothing_to_nodes_that_start_again() {
    let (mut p, mut s) = (primary(1), secondary(2));
    let recorded = converse(&mut p, &mut s, 0);
    let mut next = primary(3);
    for frame in recorded.iter().chain(&recorded) {
        assert_ne!(open(&mut next, frame, 1), Opened::Sealed);
        for answer in says(&mut next, 1) {
            // The attacker who recorded it cannot answer, and the node that lives does not.
            open(&mut s, &answer, 1);
        }
    }
    assert!(!next.has_session());
    assert!(speaks(&mut p, &mut s, 2) && speaks(&mut s, &mut p, 2));
}

#[test]
fn nothing_that_was_recorded_disturbs_a_living_session() {
    for_cases("link_replay", 300, |rng| {
        let (mut p, mut s) = (primary(1), secondary(2));
        let mut recorded = converse(&mut p, &mut s, 0);
        // The link was cut, both have asked, and it came back before either heard the other's question.
        let cut = TIMING.silence;
        recorded.extend(says(&mut p, cut));
        recorded.extend(says(&mut s, cut));
        let now = cut + 1;
        assert!(speaks(&mut p, &mut s, now) && speaks(&mut s, &mut p, now));
        for _ in 0..60 {
            let frame = recorded[rng.below(recorded.len())].clone();
            let to_p = rng.one_in(2);
            assert_ne!(
                open(if to_p { &mut p } else { &mut s }, &frame, now),
                Opened::Sealed
            );
            let (from_p, from_s) = (says(&mut p, now), says(&mut s, now));
            from_p.iter().for_each(|frame| {
                open(&mut s, frame, now);
            });
            from_s.iter().for_each(|frame| {
                open(&mut p, frame, now);
            });
            recorded.extend(from_p);
            recorded.extend(from_s);
            assert!(speaks(&mut p, &mut s, now) && speaks(&mut s, &mut p, now));
        }
    });
}

#[test]
fn a_node_that_starts_again_waits_until_its_predecessor_is_silent() {
    let (mut p, mut s) = session();
    assert!(speaks(&mut p, &mut s, 100));
    let mut next = primary(3);
    for now in (100..100 + GIVES_WAY).step_by(10) {
        converse(&mut next, &mut s, now);
        assert!(
            !next.has_session() || !speaks(&mut next, &mut s, now),
            "at {now}"
        );
    }
    assert!(faults(&mut s).contains(&Fault::Second));
    let mut now = 100 + GIVES_WAY;
    for _ in 0..=TIMING.heartbeat {
        converse(&mut next, &mut s, now);
        now += 1;
    }
    assert!(speaks(&mut next, &mut s, now) && speaks(&mut s, &mut next, now));
    // The predecessor was a zombie: it knows the key, and gets no word in.
    for now in (now..now + 4 * TIMING.silence).step_by(10) {
        assert!(speaks(&mut next, &mut s, now));
        converse(&mut p, &mut s, now);
        assert!(!speaks(&mut p, &mut s, now), "at {now}");
        assert!(speaks(&mut s, &mut next, now));
    }
    // And it is the peer again once the other one is gone.
    let now = now + 5 * TIMING.silence;
    converse(&mut p, &mut s, now);
    converse(&mut p, &mut s, now + TIMING.silence);
    assert!(speaks(&mut p, &mut s, now + TIMING.silence));
}

#[test]
fn after_a_good_bye_nobody_has_to_wait() {
    let (mut p, mut s) = session();
    let bye = p.good_bye().expect("a session");
    assert!(bye.len() >= 60, "a driver would pad it");
    assert_eq!(open(&mut s, &bye, 10), Opened::Consumed);
    let late = sealed(&mut p, &plain(1)).expect("a session");
    assert_eq!(
        open(&mut s, &late, 10),
        Opened::Void,
        "it has said that it ends"
    );
    let mut next = primary(3);
    converse(&mut next, &mut s, 11);
    assert!(speaks(&mut next, &mut s, 11) && speaks(&mut s, &mut next, 11));
    // Nobody can repeat the good-bye.
    assert_eq!(open(&mut s, &bye, 12), Opened::Void);
    assert!(speaks(&mut next, &mut s, 12));
}

#[test]
fn two_ends_that_lost_each_other_go_on() {
    for_cases("link_cut", 300, |rng| {
        let (mut p, mut s) = session();
        let mut now = rng.below(2_000) as Ticks;
        // Each asks as long as it hears nothing; the link comes back between two of those.
        for _ in 0..rng.below(200) {
            now += 10;
            says(&mut p, now);
            says(&mut s, now);
        }
        for _ in 0..100 {
            now += 10;
            converse(&mut p, &mut s, now);
        }
        assert!(speaks(&mut p, &mut s, now) && speaks(&mut s, &mut p, now));
    });
}

#[test]
fn keys_roll_over_without_a_break() {
    let both = [format!("{OLD}\n{NEW}\n"), format!("{NEW}\n{OLD}\n")];
    let old_first = [OLD, &both[0], &both[1]];
    let new_first = [NEW, &both[1], &both[0]];
    for of in [old_first, new_first] {
        for (at, text) in of.iter().enumerate() {
            for other in &of {
                let mut p = start(text, Role::Primary, 1);
                let mut s = start(other, Role::Secondary, 2);
                converse(&mut p, &mut s, 0);
                assert!(
                    speaks(&mut p, &mut s, 1) && speaks(&mut s, &mut p, 1),
                    "{at}"
                );
            }
        }
    }
    let (mut p, mut s) = (start(OLD, Role::Primary, 1), start(NEW, Role::Secondary, 2));
    converse(&mut p, &mut s, 0);
    assert!(!p.has_session() && !s.has_session());
    assert_eq!(
        (faults(&mut p), faults(&mut s)),
        (vec![Fault::OtherKey], vec![Fault::OtherKey])
    );
    assert!(p.take_foreigner() && !p.take_foreigner());
}

#[test]
fn who_has_no_key_is_named_on_both_sides() {
    let mut trusting = Guard::trusting(VM, Role::Secondary, [2, 0, 0, 0, 0, 5], TIMING);
    let mut p = primary(1);
    assert!(says(&mut trusting, 0).is_empty() && sealed(&mut trusting, &plain(1)).is_none());
    for greeting in says(&mut p, 0) {
        assert_eq!(open(&mut trusting, &greeting, 0), Opened::Void);
    }
    assert_eq!(faults(&mut trusting), [Fault::Sealed]);
    assert_eq!(open(&mut trusting, &plain(1), 0), Opened::Plain);
    assert_eq!(open(&mut p, &plain(1), 0), Opened::Void);
    let expected = Notice::Void {
        fault: Fault::Unsealed,
        source: [2, 0, 0, 0, 0, 8],
        frames: 1,
    };
    assert_eq!(notices(&mut p), [expected]);
    assert!(p.take_foreigner() && trusting.take_foreigner());
    // Other pairs on the segment, and other protocols, are nobody's business.
    let mut other = plain(1);
    other[19] += 1;
    assert_eq!(open(&mut p, &other, 0), Opened::Void);
    assert_eq!(open(&mut p, &[0; 60], 0), Opened::Void);
    assert!(notices(&mut p).is_empty() && !p.take_foreigner());
    assert_eq!(p.counts().garbage, 2);
    let mut later = plain(1);
    later[16] = PLAIN_VERSION + 1;
    assert_eq!(open(&mut trusting, &later, 0), Opened::Plain);
    assert_eq!(faults(&mut trusting), [Fault::Version(PLAIN_VERSION + 1)]);
    let mut greeting = says(&mut primary(9), 0).swap_remove(0);
    greeting[16] = 9;
    open(&mut p, &greeting, 0);
    assert_eq!(faults(&mut p), [Fault::Version(9)]);
}

#[test]
fn two_primaries_are_no_pair() {
    let (mut a, mut b) = (primary(1), primary(2));
    converse(&mut a, &mut b, 0);
    assert!(!a.has_session() && !b.has_session());
    assert_eq!(faults(&mut a), [Fault::SameRole]);
    // A survivor that was started as a secondary gets a new secondary.
    let (mut a, mut b) = (secondary(1), secondary(2));
    converse(&mut a, &mut b, 0);
    assert!(a.has_session() && b.has_session());
}

#[test]
fn a_third_node_with_the_key_is_named_and_changes_nothing() {
    let (mut p, mut s) = session();
    let mut third = secondary(3);
    for now in 1..GIVES_WAY {
        assert!(speaks(&mut p, &mut s, now) && speaks(&mut s, &mut p, now));
        converse(&mut third, &mut p, now);
        assert!(!speaks(&mut third, &mut p, now) && !speaks(&mut p, &mut third, now));
    }
    assert!(faults(&mut p).contains(&Fault::Second));
}

#[test]
fn repeated_questions_get_few_answers() {
    let question = says(&mut primary(9), 0).swap_remove(0);
    let mut s = secondary(2);
    says(&mut s, 0);
    let mut answers = 0;
    for now in 1..TIMING.heartbeat {
        for _ in 0..10 {
            open(&mut s, &question, now);
            answers += says(&mut s, now).len();
        }
    }
    assert_eq!(answers, 1, "one for each heartbeat's time");
}

/// A stranger repeats recorded questions of many nodes, before each honest frame.
#[test]
fn repeated_questions_keep_no_session_from_forming() {
    for_cases("link_crowd", 30, |rng| {
        let question = |role| move |seed| says(&mut start(OLD, role, seed), 0).swap_remove(0);
        let of_primaries: Vec<_> = (10..60).map(question(Role::Primary)).collect();
        let of_secondaries: Vec<_> = (60..110).map(question(Role::Secondary)).collect();
        let (mut p, mut s) = (primary(1), secondary(2));
        let mut now = 0;
        while !(p.has_session() && s.has_session()) {
            now += 1;
            assert!(now < 1_000 * TIMING.heartbeat, "no session");
            for _ in 0..2 {
                open(&mut p, &of_secondaries[rng.below(50)], now);
                open(&mut s, &of_primaries[rng.below(50)], now);
            }
            for frame in says(&mut p, now) {
                open(&mut s, &frame, now);
            }
            for frame in says(&mut s, now) {
                open(&mut p, &frame, now);
            }
            if now % TIMING.heartbeat == 0 {
                speaks(&mut p, &mut s, now);
                speaks(&mut s, &mut p, now);
            }
        }
    });
}

#[test]
fn notices_of_one_kind_come_seldom_and_count() {
    let mut p = primary(1);
    let mut notices = Vec::new();
    for now in 0..10 * TIMING.silence {
        open(&mut p, &plain(1), now);
        notices.extend(p.next_notice(now));
    }
    let frames: Vec<u64> = notices
        .iter()
        .map(|notice| match notice {
            Notice::Void { frames, .. } => *frames,
            Notice::Session { .. } => 0,
        })
        .collect();
    assert_eq!(frames, [1, 1000, 1000, 1000, 1000]);
}

/// An attacker on the segment, who does what it likes with the frames that it has recorded, but has no key.
#[test]
fn no_stranger_makes_anything_count_that_was_not_sent() {
    for_cases("link_stranger", 300, |rng: &mut Rng| {
        let (mut p, mut s) = (primary(1), secondary(2));
        let mut heard = converse(&mut p, &mut s, 0);
        let mut counted = BTreeSet::new();
        for n in 0..200u32 {
            let now = 1 + Ticks::from(n);
            let mut frame = plain(0);
            frame[40..44].copy_from_slice(&n.to_be_bytes());
            let from_p = rng.one_in(2);
            let sent = sealed(if from_p { &mut p } else { &mut s }, &frame).expect("a session");
            let arrives = !rng.one_in(4);
            let to = if from_p { &mut s } else { &mut p };
            if arrives {
                assert_eq!(open(to, &sent, now), Opened::Sealed);
                counted.insert(sent[14..].to_vec());
            }
            heard.push(sent);
            for _ in 0..3 {
                let mut frame = heard[rng.below(heard.len())].clone();
                match rng.below(5) {
                    0 => {
                        let byte = rng.between(12, frame.len() - 1);
                        frame[byte] ^= 1 << rng.below(8);
                    }
                    1 => frame.truncate(rng.below(frame.len())),
                    2 => {
                        let other = &heard[rng.below(heard.len())];
                        let cut = rng.below(frame.len().min(other.len()));
                        frame.truncate(cut);
                        frame.extend(&other[cut..]);
                    }
                    _ => {}
                }
                for guard in [&mut p, &mut s] {
                    if open(guard, &frame, now) == Opened::Sealed {
                        // The outer addresses are the network's.
                        let sent = |it: &Vec<u8>| it[14..] == frame[14..];
                        assert!(heard.iter().any(sent), "it was never sent");
                        assert!(counted.insert(frame[14..].to_vec()), "it counted twice");
                    }
                    for said in says(guard, now) {
                        heard.push(said);
                    }
                }
            }
        }
        assert!(speaks(&mut p, &mut s, 201) && speaks(&mut s, &mut p, 201));
    });
}

/// A node's whole half of the link.
struct Half {
    guard: Guard,
    end: Endpoint,
    /// Starts of this half, and messages said since the last one.
    life: u32,
    said: u32,
    /// The other half's life, and its messages heard in order.
    heard: (u32, u32),
}

impl Half {
    fn start(role: Role, life: u32, rng: &mut Rng, now: Ticks) -> Self {
        let seed = (life * 2 + role as u32) as u8;
        let end = Endpoint::new(VM, rng.word() | 1, [2, 0, 0, 0, 0, seed], 64, TIMING, now);
        Self {
            guard: start(OLD, role, seed),
            end: end.behind_guard(true),
            life,
            said: 0,
            heard: (0, 0),
        }
    }

    /// What it sends now.
    fn send(&mut self, now: Ticks) -> Vec<Vec<u8>> {
        let mut out = says(&mut self.guard, now);
        while let Some(frame) = self.end.next_transmit(now) {
            out.extend(sealed(&mut self.guard, frame.bytes()));
        }
        out
    }

    fn receive(&mut self, frame: &[u8], now: Ticks) {
        match open(&mut self.guard, frame, now) {
            Opened::Begun(session) => self.end.begin(session),
            Opened::Sealed => {
                self.end.receive(&frame[SEAL..], frame.len() - SEAL, now);
            }
            Opened::Plain | Opened::Consumed | Opened::Void => {}
        }
        while let Some(event) = self.end.next_event() {
            if let Event::Message(Message::Epoch(number)) = event {
                let (life, n) = (number >> 16, number & 0xffff);
                assert!(life >= self.heard.0, "of a life that is over");
                let last = if life == self.heard.0 {
                    self.heard.1
                } else {
                    0
                };
                assert!(n > last, "twice, or out of order");
                self.heard = (life, n);
            }
        }
    }

    fn say(&mut self) {
        if self.end.has_session() && self.end.has_control_room() {
            self.said += 1;
            let message = Message::Epoch(self.life << 16 | self.said);
            assert_eq!(self.end.send(message), Ok(()));
        }
    }
}

/// Nodes that start again, with a good-bye or without, on a link that loses, reorders, and on which somebody repeats
/// what was ever said: each hears the other's present life, in order, and they always find each other again.
#[test]
fn nodes_that_start_again_find_each_other_and_hear_nothing_of_lives_before() {
    for_cases("link_lives", 150, |rng| {
        let mut halves = [Role::Primary, Role::Secondary].map(|role| Half::start(role, 1, rng, 0));
        let mut under_way: Vec<(Ticks, usize, Vec<u8>)> = Vec::new();
        let mut recorded = Vec::new();
        let loss = rng.below(4);
        for now in 1..6_000 {
            let calm = now > 4_500;
            for (n, half) in halves.iter_mut().enumerate() {
                if !calm && rng.one_in(1_500) {
                    if rng.one_in(2) {
                        let bye = half.guard.good_bye();
                        under_way.extend(bye.map(|bye| (now + 1, 1 - n, bye.to_vec())));
                    }
                    let (role, life) = (half.guard.role(), half.life + 1);
                    *half = Half::start(role, life, rng, now);
                }
                if rng.one_in(10) {
                    half.say();
                }
                for frame in half.send(now) {
                    if loss == 0 || calm || !rng.one_in(1 + loss) {
                        let late = if rng.one_in(10) { 40 } else { 4 };
                        under_way.push((now + 1 + rng.below(late) as Ticks, 1 - n, frame.clone()));
                    }
                    recorded.push(frame);
                }
                if !recorded.is_empty() && rng.one_in(5) {
                    let frame = recorded[rng.below(recorded.len())].clone();
                    half.receive(&frame, now);
                }
            }
            let (due, later): (Vec<_>, Vec<_>) =
                under_way.into_iter().partition(|(at, ..)| *at <= now);
            under_way = later;
            for (_, to, frame) in due {
                halves[to].receive(&frame, now);
            }
        }
        for (n, half) in halves.iter().enumerate() {
            let other = &halves[1 - n];
            assert!(half.end.is_up(6_000), "no session");
            assert_eq!(half.heard.0, other.life);
            assert!(
                half.heard.1 + 20 > other.said && other.said > 0,
                "it hears little"
            );
        }
    });
}

/// The sessions that begin at either while one greets the other.
fn meet(a: &mut Guard, b: &mut Guard, now: Ticks) -> [Vec<Begun>; 2] {
    let mut begun = [Vec::new(), Vec::new()];
    for _ in 0..6 {
        for frame in says(a, now) {
            if let Opened::Begun(session) = open(b, &frame, now) {
                begun[1].push(session);
            }
        }
        for frame in says(b, now) {
            if let Opened::Begun(session) = open(a, &frame, now) {
                begun[0].push(session);
            }
        }
    }
    begun
}

#[test]
fn each_new_session_is_said_once_and_both_ends_know_its_numbers() {
    let (mut p, mut s, mut next) = (primary(1), secondary(2), secondary(3));
    let mut known = BTreeSet::new();
    let later = 10 * TIMING.silence;
    for (other, now) in [(&mut s, 0), (&mut next, later)] {
        let [at_p, at_other] = meet(&mut p, other, now);
        let ([own], [theirs]) = (&at_p[..], &at_other[..]) else {
            panic!("{at_p:?} {at_other:?}");
        };
        assert_eq!((own.own, own.peer), (theirs.peer, theirs.own));
        assert!(speaks(&mut p, other, now) && speaks(other, &mut p, now));
        known.extend([own.own, own.peer]);
    }
    assert_eq!(known.len(), 4, "no other session has them");
}

/// Lets two halves speak for a while, without loss.
fn talk(halves: [&mut Half; 2], from: Ticks, until: Ticks) {
    let [a, b] = halves;
    for now in from..until {
        for half in [&mut *a, &mut *b] {
            half.say();
        }
        for frame in a.send(now) {
            b.receive(&frame, now);
        }
        for frame in b.send(now) {
            a.receive(&frame, now);
        }
    }
}

#[test]
fn a_node_that_comes_back_after_another_took_its_place_is_heard() {
    for_cases("link_swap", 30, |rng| {
        let mut p = Half::start(Role::Primary, 1, rng, 0);
        let mut others = [2, 3].map(|life| Half::start(Role::Secondary, life, rng, 0));
        let mut now = 1;
        for (n, times) in [(0, 1), (1, 2), (0, 3)] {
            let half = &mut others[n];
            let until = now + rng.between(100, 400) as Ticks;
            p.heard = (0, 0);
            let (said, heard) = (p.said, half.heard.1);
            talk([&mut p, &mut *half], now, until);
            assert!(p.heard.1 > 0, "it hears nothing of peer {times}");
            let is_heard = p.said > said && half.heard.1 > heard;
            assert!(is_heard, "peer {times} hears nothing");
            // Both nodes fall silent.
            now = until + TIMING.silence;
        }
    });
}

#[test]
fn what_was_said_in_a_session_before_does_not_count() {
    let mut rng = Rng::new(1);
    let mut p = Half::start(Role::Primary, 1, &mut rng, 0);
    let mut s = Half::start(Role::Secondary, 2, &mut rng, 0);
    talk([&mut p, &mut s], 0, 100);
    // It waits for its seal when the next session begins.
    p.say();
    let late = p.end.next_transmit(100).expect("a message");
    let now = 100 + 2 * TIMING.silence;
    let begun = meet(&mut p.guard, &mut s.guard, now);
    let [at_p, at_s] = begun.map(|begun| *begun.last().expect("a session"));
    p.end.begin(at_p);
    s.end.begin(at_s);
    let heard = s.heard;
    let frame = sealed(&mut p.guard, late.bytes()).expect("a session");
    s.receive(&frame, now);
    assert!(s.heard == heard && !s.end.has_session());
    assert_eq!(s.end.counts().garbage, 1);
    talk([&mut p, &mut s], now, now + 100);
    assert!(s.heard.1 > heard.1);
}

#[test]
fn who_has_the_key_is_alive_before_there_is_a_session() {
    let (mut p, mut s) = (primary(1), secondary(2));
    let greeting = says(&mut s, 0).remove(0);
    open(&mut p, &greeting, 0);
    assert!(!p.has_session() && p.take_foreigner());
    let mut stranger = start(NEW, Role::Secondary, 3);
    open(&mut p, &says(&mut stranger, 0)[0], 0);
    assert!(
        p.take_foreigner(),
        "somebody with another key is alive, too"
    );
}

#[test]
fn a_greeting_without_the_key_proves_nothing() {
    let mut s = secondary(2);
    let named = says(&mut primary(1), 0).swap_remove(0);
    let mut forged = says(&mut start(NEW, Role::Primary, 3), 0).swap_remove(0);
    // The name of a key is public.
    forged[22..30].copy_from_slice(&named[22..30]);
    assert_eq!(open(&mut s, &forged, 0), Opened::Void);
    assert_eq!(faults(&mut s), [Fault::Forged]);
    let own = says(&mut s, 0);
    assert_eq!(own.len(), 1, "it asks, and answers nobody");
    let mut answered = named.clone();
    // What it answers is not tagged anew.
    answered[62..78].copy_from_slice(&own[0][46..62]);
    assert_eq!(open(&mut s, &answered, 0), Opened::Void);
    assert_eq!(faults(&mut s), [Fault::Forged]);
    assert!(sealed(&mut s, &plain(1)).is_none(), "no session");
}
