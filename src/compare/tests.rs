//! Cases worth a name: what the comparison got wrong, or easily could.

use std::iter;

use colo_testkit::packets::{self, Ends, Segment};

use super::*;
use crate::frame::{BURST, HeapFrame};
use crate::packet::Packet;

mod ageing;
mod crowding;
mod division;
mod ended;
mod masks;
mod membership;
mod overtake;
mod unequal;
mod unlike;

const TIMEOUT: Ticks = 1000;

const LIMITS: Limits = Limits {
    primary: 64,
    secondary: 64,
    history: 64,
    flows: 4,
    timeout: TIMEOUT,
    patience: 1,
    idle: TIMEOUT,
    half_open: TIMEOUT,
};

struct Pair {
    comparator: Comparator<HeapFrame>,
    now: Ticks,
}

impl Pair {
    fn new() -> Self {
        Self::with(LIMITS, Vec::new())
    }

    fn with(limits: Limits, rules: Vec<Rule>) -> Self {
        Self::numbered(Numbers::Translated, limits, rules)
    }

    fn numbered(numbers: Numbers, limits: Limits, rules: Vec<Rule>) -> Self {
        Self {
            comparator: Comparator::new(limits, numbers, Policy::new(rules)),
            now: 1,
        }
    }

    fn p(&mut self, bytes: &[u8]) {
        self.now += 1;
        self.comparator
            .primary(HeapFrame::new(bytes), self.now)
            .expect("has room");
    }

    fn s(&mut self, bytes: &[u8]) {
        self.now += 1;
        self.comparator.secondary(HeapFrame::new(bytes), self.now);
    }

    /// Both VMs send the same.
    fn both(&mut self, bytes: &[u8]) {
        self.p(bytes);
        self.s(bytes);
    }

    /// Both VMs' frames are found in one round.
    fn at_once(&mut self, p: &[u8], s: &[u8]) {
        self.now += 1;
        let [mut p, mut s] = [p, s].map(|bytes| std::iter::once(HeapFrame::new(bytes)));
        self.comparator.ingest(&mut p, &mut s, self.now);
        assert!(p.next().is_none() && s.next().is_none(), "has room");
    }

    /// How many P have left since the last call.
    fn left(&mut self) -> usize {
        std::iter::from_fn(|| self.comparator.next_release()).count()
    }

    fn report(&mut self) -> Option<Reason> {
        self.comparator.take_divergence().map(|d| d.reason)
    }

    fn overdue(&mut self) -> Option<Reason> {
        let later = self.now + TIMEOUT;
        self.comparator.overdue(later).map(|d| d.reason)
    }

    fn checkpoint(&mut self) {
        self.comparator.fence();
        self.now += 1;
        self.comparator.commit(self.now);
    }
}

fn ends(port: u16) -> Ends {
    Ends {
        peer: 2,
        port,
        peer_port: 40_000,
        ..Ends::default()
    }
}

fn segment(seq: u32, ack: u32, payload: &[u8]) -> Segment {
    Segment {
        seq,
        ack: Some(ack),
        payload: payload.to_vec(),
        ..Segment::default()
    }
}

fn tcp(segment: &Segment) -> Vec<u8> {
    packets::tcp(&ends(80), segment, 0)
}

fn data(seq: u32, payload: &[u8]) -> Vec<u8> {
    tcp(&segment(seq, 1, payload))
}

fn syn(isn: u32, ack: Option<u32>) -> Vec<u8> {
    tcp(&Segment {
        seq: isn,
        ack,
        syn: true,
        options: packets::syn_options(1460, None),
        ..Segment::default()
    })
}

fn fin(seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    tcp(&Segment {
        fin: true,
        ..segment(seq, ack, payload)
    })
}

fn rst(seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    tcp(&Segment {
        rst: true,
        ..segment(seq, ack, payload)
    })
}

#[test]
fn a_witness_within_a_later_one_is_not_waited_for() {
    let mut pair = Pair::new();
    pair.s(&data(150, b"fgh"));
    pair.s(&data(145, b"abcdefghij"));
    pair.p(&data(145, b"abcdefghij"));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn two_values_for_a_byte_are_noticed_behind_a_short_witness() {
    let mut pair = Pair::new();
    pair.s(&data(50, b"fg"));
    pair.s(&data(45, b"abcdefghij"));
    pair.s(&data(52, b"hX"));
    assert_eq!(pair.report(), Some(Reason::SecondaryInconsistent));
}

#[test]
fn a_fin_that_waits_for_the_acknowledgment_is_matched_already() {
    let mut pair = Pair::new();
    pair.s(&fin(100, 1, b""));
    pair.p(&fin(100, 2, b""));
    assert_eq!(pair.left(), 0);
    pair.s(&fin(100, 2, b""));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn a_fin_on_data_of_the_secondary_alone_is_missed_at_the_primary() {
    let mut pair = Pair::new();
    pair.s(&fin(100, 1, b"bye"));
    pair.p(&data(100, b"bye"));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), Some(Reason::MissingPrimary));
    pair.p(&fin(103, 1, b""));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn an_rst_may_carry_data() {
    let mut pair = Pair::new();
    pair.both(&rst(100, 1, b"why"));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn an_rst_that_answers_another_segment_needs_its_own_counterpart() {
    let mut pair = Pair::new();
    pair.both(&rst(0, 5001, b""));
    pair.p(&rst(0, 5001, b""));
    assert_eq!(pair.left(), 2, "the same one again");
    pair.p(&rst(0, 4001, b""));
    assert_eq!(pair.left(), 0);
    pair.s(&rst(0, 4001, b""));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn a_flow_that_differs_is_not_forgotten_before_the_commit() {
    let mut pair = Pair::new();
    pair.s(&data(50, b"abc"));
    pair.p(&data(50, b"abc"));
    pair.s(&data(50, b"abX"));
    assert_eq!(pair.report(), Some(Reason::SecondaryInconsistent));
    assert_eq!(pair.left(), 1);
    pair.comparator.age(pair.now + 10 * TIMEOUT, 10);
    pair.both(&data(53, b"def"));
    assert_eq!(pair.left(), 0);
    pair.checkpoint();
    assert_eq!(pair.left(), 1);
    pair.both(&data(56, b"ghi"));
    assert_eq!(pair.left(), 1);
}

#[test]
fn a_full_table_gives_up_a_quiet_flow_behind_a_busy_one() {
    let mut pair = Pair::with(Limits { flows: 2, ..LIMITS }, Vec::new());
    pair.p(&packets::udp(&ends(1), b"waits", 0));
    pair.both(&packets::udp(&ends(2), b"done", 0));
    pair.both(&packets::udp(&ends(3), b"new", 0));
    assert_eq!(pair.left(), 2);
    assert_eq!(pair.comparator.counts().flow_table_full, 0);
}

#[test]
fn a_full_table_keeps_the_offset_of_a_living_connection() {
    let limits = Limits { flows: 1, ..LIMITS };
    let mut pair = Pair::numbered(Numbers::OwnIsn, limits, Vec::new());
    pair.p(&syn(1000, Some(1)));
    pair.s(&syn(1010, Some(1)));
    assert_eq!(pair.left(), 1);
    pair.p(&data(1001, b"a"));
    pair.s(&data(1011, b"a"));
    assert_eq!(pair.left(), 1);
    pair.s(&packets::udp(&ends(53), b"another flow", 0));
    pair.s(&data(1012, b"bcdefghijklmnop"));
    pair.p(&data(1011, b"k"));
    assert_eq!(pair.left(), 1, "the byte at 10");
    pair.p(&data(1012, b"b"));
    assert_eq!(pair.report(), Some(Reason::Payload));
}

#[test]
fn what_the_secondary_sends_under_a_rule_is_not_waited_for() {
    let rule = Rule {
        name: "dns".into(),
        protocols: vec![17],
        port: Some(53),
        prefix: None,
        vlan: None,
        mask: None,
    };
    let mut pair = Pair::with(LIMITS, vec![rule]);
    pair.p(&packets::udp(&ends(53), b"12:00:00", 0));
    pair.s(&packets::udp(&ends(53), b"12:00:01", 0));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
    assert_eq!(pair.comparator.frames(), 0);
}

#[test]
fn an_old_incarnation_that_only_the_secondary_spoke_for_is_forgotten() {
    let mut pair = Pair::new();
    // Late output of a connection that the table has forgotten, at numbers of the next one.
    pair.s(&tcp(&segment(1001, 9_000, b"old!")));
    pair.s(&syn(7000, Some(500)));
    pair.p(&syn(1000, Some(500)));
    assert_eq!(pair.left(), 1);
    pair.p(&tcp(&segment(1001, 501, b"old!")));
    assert_eq!(
        pair.left(),
        0,
        "neither bytes nor acknowledgment are the SVM's"
    );
    pair.s(&tcp(&segment(1001, 501, b"old!")));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn the_secondary_s_syn_says_nothing_of_the_incarnation_before() {
    let mut pair = Pair::new();
    pair.s(&syn(7000, Some(9_000)));
    pair.p(&tcp(&segment(400, 8_000, b"")));
    assert_eq!(
        pair.left(),
        0,
        "the SVM's acknowledgment is the next client's"
    );
    pair.p(&syn(1000, Some(9_000)));
    assert_eq!(pair.overdue(), Some(Reason::AckAhead));
    pair.checkpoint();
    assert_eq!(pair.left(), 2);
    pair.both(&tcp(&segment(1001, 9_001, b"new")));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn a_repeated_syn_of_the_former_incarnation_opens_nothing() {
    let mut pair = Pair::new();
    pair.p(&syn(1000, None));
    pair.s(&syn(7000, None));
    pair.p(&syn(2000, None));
    assert_eq!(pair.left(), 1);
    pair.s(&syn(7000, None));
    assert_eq!(pair.left(), 0);
    pair.s(&syn(8000, None));
    assert_eq!(pair.left(), 1);
    while let Some(isns) = pair.comparator.next_synchronized() {
        let expected = if isns.pvm.number == 1000 { 7000 } else { 8000 };
        assert_eq!(isns.svm.number, expected);
    }
}

#[test]
fn data_on_a_syn_waits_for_the_primary_s_to_know_its_position() {
    let mut pair = Pair::new();
    let early = |isn| {
        tcp(&Segment {
            seq: isn,
            syn: true,
            options: packets::syn_options(1460, None),
            payload: b"aaaa".to_vec(),
            ..Segment::default()
        })
    };
    pair.s(&early(1001));
    pair.p(&early(1000));
    assert_eq!(pair.left(), 1);
    pair.both(&data(1005, b"next"));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn history_that_no_primary_asked_for_ends_with_its_epoch() {
    let mut pair = Pair::new();
    pair.s(&data(100, b"abcdef"));
    pair.p(&data(103, b"def"));
    assert_eq!(pair.left(), 1);
    pair.checkpoint();
    pair.p(&data(100, b"abc"));
    assert_eq!(pair.left(), 0, "the SVM has not sent it in this epoch");
    pair.s(&data(100, b"abc"));
    assert_eq!(pair.left(), 1);
}

#[test]
fn a_commit_leaves_witnesses_for_every_byte_that_has_left() {
    let mut pair = Pair::new();
    pair.s(&data(100, b"abcdefghij"));
    pair.p(&data(100, b"abc"));
    pair.p(&data(103, b"dXfghij"));
    assert_eq!(pair.report(), Some(Reason::Payload));
    pair.p(&data(104, b"X"));
    pair.checkpoint();
    assert_eq!(pair.left(), 3);
    pair.p(&data(100, b"abcdXfghij"));
    assert_eq!(pair.left(), 1);
    assert_eq!((pair.report(), pair.overdue()), (None, None));
}

#[test]
fn an_s_without_room_asks_for_a_checkpoint_at_once() {
    let limits = Limits {
        secondary: 1,
        ..LIMITS
    };
    let mut pair = Pair::with(limits, Vec::new());
    pair.s(&data(100, b"abc"));
    pair.s(&data(103, b"def"));
    assert_eq!(pair.report(), Some(Reason::SecondaryOverflow));
    assert_eq!(pair.comparator.counts().secondary_overflow, 1);
    pair.p(&data(100, b"abc"));
    assert_eq!(pair.left(), 0);
    pair.checkpoint();
    assert_eq!(pair.left(), 1);
}

#[test]
fn a_control_bit_without_room_stops_the_flow_too() {
    let limits = Limits {
        secondary: 1,
        ..LIMITS
    };
    for dropped in [syn(7000, Some(1)), fin(103, 1, b"")] {
        let mut pair = Pair::with(limits, Vec::new());
        pair.both(&data(97, b"xyz"));
        pair.s(&data(100, b"abc"));
        pair.s(&dropped);
        assert_eq!(pair.report(), Some(Reason::SecondaryOverflow));
        pair.p(&data(100, b"abc"));
        assert_eq!(pair.left(), 1, "what came after is not trusted");
    }
}

#[test]
fn late_datagrams_find_theirs_behind_any_number_of_complete_ones() {
    let limits = Limits {
        primary: 400,
        ..LIMITS
    };
    let mut pair = Pair::with(limits, Vec::new());
    let datagram = |i: u32| packets::udp(&ends(53), &i.to_be_bytes(), 0);
    for i in 0..300 {
        pair.p(&datagram(i));
    }
    for i in 1..300 {
        pair.s(&datagram(i));
    }
    assert_eq!(pair.left(), 0);
    pair.s(&datagram(0));
    assert_eq!(pair.left(), 300);
}

#[test]
fn nothing_is_remembered_of_a_vm_that_is_gone() {
    let mut pair = Pair::new();
    pair.both(&data(100, b"abc"));
    pair.p(&tcp(&segment(103, 900, b"def")));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.comparator.discard(), 1);
    assert_eq!(pair.comparator.frames(), 0);
    assert_eq!(pair.comparator.flows(), 0);
    pair.checkpoint();
    pair.p(&tcp(&segment(103, 900, b"")));
    assert_eq!(pair.left(), 0, "no VM that lives has acknowledged so much");
}

#[test]
fn the_client_gets_no_more_window_than_the_secondary_has() {
    use crate::packet::checksum::update_u16;

    // The builder's window and the checksum that goes with it, both lowered by hand.
    let narrow = |bytes: &[u8], window: u16| {
        let mut bytes = bytes.to_vec();
        let at = Packet::parse(&bytes, bytes.len()).l4 as usize;
        let (old, sum) = (word(&bytes, at + 14), word(&bytes, at + 16));
        bytes[at + 14..at + 16].copy_from_slice(&window.to_be_bytes());
        let sum = update_u16(sum, old, window);
        bytes[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let wide = |seq: u32, payload: &[u8]| {
        tcp(&Segment {
            window: 1000,
            ..segment(seq, 1, payload)
        })
    };
    let mut pair = Pair::new();
    let frame = wide(500, b"equal");
    pair.p(&frame);
    pair.s(&narrow(&frame, 7));
    let left = pair.comparator.next_release().expect("equal").frame;
    assert_eq!(left.to_vec(), narrow(&frame, 7));

    // A wider one at the SVM changes nothing.
    let next = narrow(&wide(505, b"again"), 9);
    pair.p(&next);
    pair.s(&wide(505, b"again"));
    let left = pair.comparator.next_release().expect("equal").frame;
    assert_eq!(left.to_vec(), next);
}

#[test]
fn limits_count_buffers_and_not_frames() {
    const BUFFERS: usize = 8;
    let limits = Limits {
        history: 2 * BUFFERS,
        ..LIMITS
    };
    let mut pair = Pair::with(limits, Vec::new());
    let chain = |n: u32| {
        let bytes = data(1000 + 800 * n, &[n as u8; 800]);
        let (head, payload) = bytes.split_at(bytes.len() - 700);
        let parts: Vec<&[u8]> = std::iter::once(head).chain(payload.chunks(100)).collect();
        HeapFrame::chain(&parts)
    };
    for n in 0..20 {
        pair.comparator.primary(chain(n), 1).expect("has room");
        pair.comparator.secondary(chain(n), 1);
        assert_eq!(pair.left(), 1);
        assert!(pair.comparator.frames() <= limits.history / BUFFERS);
    }
    let room = pair.comparator.room();
    for n in 0..3 {
        pair.comparator.primary(chain(20 + n), 1).expect("has room");
    }
    assert_eq!(pair.comparator.room(), room - 3 * BUFFERS);
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[test]
fn a_flow_is_not_forgotten_while_an_s_waits_behind_a_gap() {
    let mut pair = Pair::new();
    pair.s(&data(100, b"abcd"));
    pair.s(&data(104, b"efgh"));
    pair.p(&data(104, b"efgh"));
    assert_eq!(pair.left(), 1);
    // History at the far end of the stream, and an S before it that no P has matched.
    pair.comparator.age(pair.now + 10 * TIMEOUT, 10);
    assert_eq!(pair.comparator.flows(), 1);
    assert_eq!(pair.overdue(), Some(Reason::MissingPrimary));
}

/// Everything that a comparator lets out and says of traffic that comes in bursts or one by one.
fn outcome(comparator: &mut Comparator<HeapFrame>) -> (Vec<(HeapFrame, Ticks)>, Option<Reason>) {
    let left = std::iter::from_fn(|| comparator.next_release());
    let left = left.map(|release| (release.frame, release.arrived));
    (
        left.collect(),
        comparator.take_divergence().map(|d| d.reason),
    )
}

/// More flows than the table has room for come and go within the bursts.
#[test]
fn a_burst_is_its_frames_one_by_one() {
    colo_testkit::rng::for_seeds(2000, |random| {
        let limits = Limits {
            // Enough that nothing is given up for want of room: the two may give up different S.
            primary: 1024,
            secondary: 1024,
            history: 1024,
            flows: random.of(&[1, 2, 6, 12]),
            ..LIMITS
        };
        let new = || Comparator::new(limits, Numbers::Translated, Policy::default());
        let (mut bursts, mut singles) = (new(), new().without_fast_path());
        let frame = |flow: usize, n: usize, length: usize| {
            let payload: Vec<u8> = (0..length).map(|i| (n + i) as u8).collect();
            let mut sent = segment(100 + n as u32, 1, &payload);
            sent.fin = n > 60;
            match flow % 4 {
                3 => packets::udp(&ends(flow as u16), &payload, 0),
                _ => packets::tcp(&ends(flow as u16), &sent, 0),
            }
        };
        let mut sent = [[0usize; 8]; 2];
        for now in 1..40 {
            for (side, position) in sent.iter_mut().enumerate() {
                let burst: Vec<HeapFrame> = (0..random.below(10))
                    .map(|_| {
                        let flow = random.below(8);
                        let length = random.of(&[0, 4, 4, 4, 4, 2, 6]);
                        let at = position[flow];
                        position[flow] += length;
                        HeapFrame::new(&frame(flow, at, length))
                    })
                    .collect();
                let mut frames = burst.iter().cloned();
                if side == 0 {
                    bursts.ingest(&mut frames, &mut iter::empty(), now);
                    let taken = burst.len() - frames.len();
                    for (i, p) in burst.iter().enumerate() {
                        let result = singles.primary(p.clone(), now);
                        assert_eq!(result.is_ok(), i < taken, "room");
                    }
                } else {
                    bursts.ingest(&mut iter::empty(), &mut frames, now);
                    for s in &burst {
                        singles.secondary(s.clone(), now);
                    }
                }
                assert_eq!(outcome(&mut bursts), outcome(&mut singles));
                assert_eq!(bursts.held(), singles.held());
                assert_eq!(bursts.flows(), singles.flows());
            }
            if random.one_in(10) {
                for comparator in [&mut bursts, &mut singles] {
                    comparator.fence();
                    comparator.commit(now);
                }
            }
        }
    });
}

#[test]
fn pairs_wait_for_the_commit_behind_a_fence() {
    let mut pair = Pair::new();
    pair.both(&data(100, b"one"));
    pair.at_once(&data(103, b"two"), &data(103, b"two"));
    assert_eq!(pair.left(), 2);
    pair.comparator.fence();
    pair.at_once(&data(106, b"six"), &data(106, b"six"));
    assert_eq!((pair.left(), pair.comparator.held()), (0, 1));
    pair.comparator.commit(pair.now);
    assert_eq!(pair.left(), 1);
}

#[test]
fn pairs_begin_a_new_epoch_without_the_acknowledgments_of_the_old_one() {
    let mut pair = Pair::new();
    pair.both(&tcp(&segment(100, 500, b"one")));
    pair.both(&tcp(&segment(103, 500, b"two")));
    // The SVM has read more than the PVM whose state it gets.
    pair.s(&tcp(&segment(106, 900, b"")));
    assert_eq!(pair.left(), 2);
    pair.checkpoint();
    let (p, s) = (segment(106, 800, b"six"), segment(106, 700, b"six"));
    pair.at_once(&tcp(&p), &tcp(&s));
    assert_eq!((pair.left(), pair.comparator.held()), (0, 1));
    pair.s(&tcp(&segment(109, 800, b"")));
    assert_eq!(pair.left(), 1);
}

/// Two rings that are always full, and a caller that keeps to the budget.
#[test]
fn vms_that_are_apart_meet_in_one_round_again() {
    let segments = |lengths: Vec<usize>| -> Vec<HeapFrame> {
        let mut seq = 100;
        let segment = |length| {
            let frame = HeapFrame::new(&data(seq, &[7; 4][..length]));
            seq += length as u32;
            frame
        };
        lengths.into_iter().map(segment).collect()
    };
    // The SVM's segments begin elsewhere for longer than anybody has patience, then not any more.
    const N: usize = 100 * BURST;
    let rings = [
        vec![4; 2 * N],
        [vec![2], vec![4; N - 1], vec![2], vec![4; N]].concat(),
    ];
    let rings = rings.map(segments);
    let mut pair = Pair::new();
    rings[0][..20].iter().for_each(|p| pair.p(p.head()));
    let (mut taken, mut held) = ([20, 0], Vec::new());
    loop {
        let shares = pair.comparator.take_budget();
        if (0..2).any(|vm| taken[vm] + shares[vm] > rings[vm].len()) {
            break;
        }
        let [mut p, mut s] = [0, 1].map(|vm| {
            let from = taken[vm];
            taken[vm] += shares[vm];
            rings[vm][from..taken[vm]].iter().cloned()
        });
        pair.now += 1;
        pair.comparator.ingest(&mut p, &mut s, pair.now);
        assert_eq!(p.len(), 0, "has room");
        pair.left();
        held.push(pair.comparator.held());
    }
    let (unlike, last) = (&held[..50], &held[held.len() - 10..]);
    assert!(unlike.iter().all(|held| *held > 0), "{unlike:?}");
    assert!(last.iter().all(|held| *held == 0), "{last:?}");
}

#[test]
fn nobody_waits_for_what_a_checkpoint_has_settled() {
    let segments = |from: usize, length: usize| {
        let starts = (0..BURST).map(move |n| from + n * length);
        starts.map(move |seq| HeapFrame::new(&data(seq as u32, &[7; 4][..length])))
    };
    for checkpoint in [false, true] {
        let mut pair = Pair::new();
        let (mut p, mut none) = (segments(100, 4), std::iter::empty());
        pair.comparator.ingest(&mut p, &mut none, 1);
        if checkpoint {
            pair.checkpoint();
        }
        pair.left();
        // Frames that are not alike, so that nothing new is learned.
        let (mut p, mut s) = (segments(228, 4), segments(228, 2));
        pair.comparator.ingest(&mut p, &mut s, 2);
        let share = if checkpoint { BURST } else { 0 };
        assert_eq!(pair.comparator.take_budget(), [share, BURST]);
    }
}
