//! Streams that differ in bytes that rules mask: the comparator, which sees segments, against rules that see both
//! streams whole.

use colo_testkit::packets::{self, Ends};
use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::{Comparator, Extent, Mask, Numbers, Policy, Reason, Rule};
use dpdk_colo::frame::{Frame, HeapFrame};
use dpdk_colo::packet::Packet;

use crate::harness::ample;
use crate::traffic::ends;

const ACK: u32 = 77;
const WINDOW: u16 = 500;
const LITERALS: [&str; 4] = ["Date: ", "t=\"12", "abab", "::::"];
/// What streams are made of besides literals, so that values end, and literals come up by chance.
const ALPHABET: &[u8] = b"ab1279:;\r\" \x00\xff";

/// The naive rule: whether it lets the byte at a position differ, seen the whole streams.
fn covers(mask: &Mask, [p, s]: [&[u8]; 2], at: usize) -> bool {
    let alphanumeric = |stream: &[u8]| stream[at].is_ascii_alphanumeric();
    if !alphanumeric(p) || !alphanumeric(s) {
        return false;
    }
    let (most, end) = match mask.extent {
        Extent::Length(most) => (most, None),
        Extent::Until { end, most } => (most, Some(end)),
    };
    (mask.literal.len()..=at).any(|first| {
        [p, s].iter().all(|stream| {
            let value = &stream[first..=at];
            stream[..first].ends_with(&mask.literal)
                && value.len() <= most
                && !end.is_some_and(|end| value.contains(&end))
        })
    })
}

/// What the rules say of two whole streams.
struct Model {
    /// The first byte that differs and that none masks.
    differs: Option<usize>,
    /// Bytes that each has masked, of all.
    masked: Vec<u64>,
}

impl Model {
    fn of(rules: &[Rule], streams: [&[u8]; 2]) -> Self {
        let mut masked = vec![0; rules.len()];
        let mut differs = None;
        for at in 0..streams[0].len() {
            if streams[0][at] == streams[1][at] {
                continue;
            }
            let by = rules.iter().position(|rule| {
                let mask = rule.mask.as_ref().expect("a mask rule");
                rule.port == Some(PORT) && !mask.tried && covers(mask, streams, at)
            });
            match by {
                Some(rule) => masked[rule] += 1,
                None => {
                    differs = Some(at);
                    break;
                }
            }
        }
        Self { differs, masked }
    }
}

const PORT: u16 = 80;

fn random_rule(rng: &mut Rng, number: usize) -> Rule {
    let literal = LITERALS[rng.below(LITERALS.len())];
    let most = rng.between(1, 12);
    let ends = *b"\r;\"a";
    Rule {
        name: format!("rule-{number}"),
        protocols: vec![6],
        // Now and then the rule of another flow.
        port: Some(if rng.one_in(8) { PORT + 1 } else { PORT }),
        mask: Some(Mask {
            literal: literal.into(),
            extent: match rng.one_in(2) {
                true => Extent::Length(most),
                false => Extent::Until {
                    end: ends[rng.below(ends.len())],
                    most,
                },
            },
            tried: rng.one_in(8),
            expires: None,
        }),
        ..Rule::default()
    }
}

fn random_streams(rng: &mut Rng, rules: &[Rule]) -> [Vec<u8>; 2] {
    let mut p = Vec::new();
    while p.len() < 200 {
        match rng.below(3) {
            0 => p.extend(LITERALS[rng.below(LITERALS.len())].as_bytes()),
            _ => p.extend((0..rng.between(1, 14)).map(|_| ALPHABET[rng.below(ALPHABET.len())])),
        }
    }
    let mut s = p.clone();
    // Many differences that rules mask, and at most a few others.
    let bold = rng.one_in(2);
    for at in 0..p.len() {
        if rng.below(4) > 0 {
            continue;
        }
        let was = s[at];
        s[at] = ALPHABET[rng.below(ALPHABET.len())];
        let masked = Model::of(rules, [&p[..=at], &s[..=at]]).differs.is_none();
        let stays = masked || bold && rng.one_in(15);
        if !stays {
            s[at] = was;
        }
    }
    [p, s]
}

/// One VM's output.
struct Sender<'a> {
    ends: &'a Ends,
    isn: u32,
    bytes: Vec<u8>,
    sent: usize,
}

impl Sender<'_> {
    fn syn(&self) -> HeapFrame {
        let syn = packets::Segment {
            seq: self.isn,
            ack: Some(ACK),
            syn: true,
            window: WINDOW,
            options: packets::syn_options(1460, None),
            ..packets::Segment::default()
        };
        HeapFrame::new(&packets::tcp(self.ends, &syn, 0))
    }

    /// New bytes, or some that were sent before.
    fn send(&mut self, rng: &mut Rng) -> HeapFrame {
        let from = match rng.one_in(6) {
            true => rng.between(self.sent.saturating_sub(60), self.sent),
            false => self.sent,
        };
        let to = (from + rng.between(1, 24)).min(self.bytes.len());
        self.sent = self.sent.max(to);
        let segment = packets::Segment {
            seq: self.isn.wrapping_add(1 + from as u32),
            ack: Some(ACK),
            window: WINDOW,
            payload: self.bytes[from..to].to_vec(),
            ..packets::Segment::default()
        };
        let bytes = packets::tcp(self.ends, &segment, 0);
        let cut = bytes.len() - rng.below(to - from + 1);
        HeapFrame::chain(&[&bytes[..cut], &bytes[cut..]])
    }

    fn is_done(&self) -> bool {
        self.sent == self.bytes.len()
    }
}

/// What has left, which must be the PVM's bytes and none at or behind the difference.
fn take(comparator: &mut Comparator<HeapFrame>, p: &Sender<'_>, left: &mut usize, bound: usize) {
    while let Some(release) = comparator.next_release() {
        let bytes = release.frame.to_vec();
        let packet = Packet::parse(release.frame.head(), bytes.len());
        let payload = &bytes[usize::from(packet.payload)..];
        if payload.is_empty() {
            continue;
        }
        let at = packet.tcp.seq.wrapping_sub(p.isn.wrapping_add(1)) as usize;
        let end = at + payload.len();
        assert!(end <= bound, "byte {bound} differs and leaves");
        assert_eq!(payload, &p.bytes[at..end], "it leaves as the PVM sent it");
        assert!(at <= *left, "none is skipped");
        *left = (*left).max(end);
    }
}

#[test]
fn masked_bytes_leave_and_no_others_that_differ() {
    for_cases("masked_bytes_leave_and_no_others_that_differ", 4_000, masks);
}

pub fn masks(rng: &mut Rng) {
    let mut ends = ends(rng, 0);
    ends.port = PORT;
    ends.peer_port = 40_000;
    let rules: Vec<Rule> = (0..rng.between(1, 3))
        .map(|n| random_rule(rng, n))
        .collect();
    let [p, s] = random_streams(rng, &rules);
    let model = Model::of(&rules, [&p, &s]);
    let numbers = [Numbers::Translated, Numbers::OwnIsn][rng.below(2)];
    let isn = rng.sequence();
    let own = rng.sequence();
    let sender = |bytes: Vec<u8>, isn| Sender {
        ends: &ends,
        isn,
        bytes,
        sent: 0,
    };
    let svm = if numbers == Numbers::OwnIsn { own } else { isn };
    let (mut p, mut s) = (sender(p, isn), sender(s, svm));
    let mut comparator = Comparator::new(ample(2_000, 2_000), numbers, Policy::new(rules.clone()));
    if rng.one_in(4) {
        comparator = comparator.without_fast_path();
    }
    let bound = model.differs.unwrap_or(usize::MAX);
    let (mut now, mut left) = (1, 0);
    assert!(comparator.primary(p.syn(), now).is_ok(), "there is room");
    comparator.secondary(s.syn(), now);
    let mut repeats = 20;
    while !p.is_done() || !s.is_done() || repeats > 0 {
        now += 1;
        repeats -= usize::from(p.is_done() && s.is_done());
        if rng.one_in(2) {
            let frame = p.send(rng);
            assert!(comparator.primary(frame, now).is_ok(), "there is room");
        } else {
            let frame = s.send(rng);
            comparator.secondary(frame, now);
        }
        if rng.one_in(8) {
            now += 2;
            comparator.age(now, 1);
        }
        take(&mut comparator, &p, &mut left, bound);
    }
    let found = comparator.take_divergence();
    match model.differs {
        None => {
            assert!(found.is_none(), "{:?}", found.map(|found| found.reason));
            assert_eq!(left, p.bytes.len(), "all leaves");
            let uses = comparator.policy().uses().skip(5);
            let masked: Vec<u64> = uses.map(|(_, used)| used).collect();
            for (rule, (masked, expected)) in rules.iter().zip(masked.iter().zip(&model.masked)) {
                assert_eq!(masked, expected, "{rule:?}");
            }
        }
        Some(at) => {
            let found = found.expect("the difference is found");
            assert_eq!(
                (found.reason, found.stream_offset),
                (Reason::Payload, Some(at as u32))
            );
        }
    }
    comparator.fence();
    comparator.commit(now);
    take(&mut comparator, &p, &mut left, usize::MAX);
    assert_eq!(left, p.bytes.len(), "the commit lets all leave");
}
