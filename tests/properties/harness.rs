//! A comparator under the model's eyes.
//!
//! Every frame that goes in has a number, every owner of a frame is counted, and after each step
//! what came out is judged: order, bytes, the model's verdict, and that no frame was lost or kept.
//! A second comparator without the fast path for segments in order gets the same frames, and must
//! say and let out the same, byte for byte.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::rc::Rc;

use colo_testkit::rng::Rng;
use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy, Reason};
use dpdk_colo::flow::FlowKey;
use dpdk_colo::frame::{Frame, HeapFrame, Offload};
use dpdk_colo::packet::checksum::verify;
use dpdk_colo::packet::{Kind, Packet};

use crate::model::{Flow, Meaning, Overtook, Wire};
use crate::traffic::Side;

/// A frame as a VM sends it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub flow: usize,
    pub meaning: Meaning,
    pub bytes: Vec<u8>,
    /// Bytes of headers, which stay in one segment.
    pub headers: usize,
    /// Of a frame that is to be cut: the size of its segments. Its checksum is partial.
    pub cut: Option<NonZeroU16>,
}

/// A frame that knows its number and counts its owners.
pub struct Numbered {
    frame: HeapFrame,
    number: usize,
    owners: Rc<Cell<usize>>,
}

/// The number of every S.
const SECONDARY: usize = usize::MAX;

impl Numbered {
    fn new(frame: HeapFrame, number: usize, owners: &Rc<Cell<usize>>) -> Self {
        owners.set(owners.get() + 1);
        Self {
            frame,
            number,
            owners: owners.clone(),
        }
    }
}

impl Numbered {
    /// The same frame with bytes of its own, so that both comparators may change theirs.
    fn copy(&self) -> Self {
        let segments: Vec<&[u8]> = self.frame.segments().collect();
        let frame = HeapFrame::chain(&segments).with_offload(self.frame.offload());
        Self::new(frame, self.number, &self.owners)
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.owners.set(self.owners.get() - 1);
    }
}

impl Frame for Numbered {
    fn head(&self) -> &[u8] {
        self.frame.head()
    }

    fn head_mut(&mut self) -> Option<&mut [u8]> {
        self.frame.head_mut()
    }

    fn len(&self) -> usize {
        self.frame.len()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.frame.segments()
    }

    fn share(&self) -> Self {
        Self::new(self.frame.share(), self.number, &self.owners)
    }

    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self> {
        let excerpt = self.frame.excerpt(headers, start, len)?;
        Some(Self::new(excerpt, self.number, &self.owners))
    }

    fn offload(&self) -> Offload {
        self.frame.offload()
    }
}

/// Limits for this many P and S that no case reaches. A frame is overdue only in [`Harness::overdue`].
pub fn ample(primary: usize, secondary: usize) -> Limits {
    Limits {
        primary: primary + 1,
        // A P that a commit lets leave stays as history, and an S may stand for two.
        secondary: 2 * secondary + primary + 1,
        history: 2 * secondary + primary + 1,
        flows: 8,
        timeout: TIMEOUT,
        patience: 1,
        idle: TIMEOUT,
        half_open: TIMEOUT,
    }
}

/// Age of an overdue frame, in steps.
pub const TIMEOUT: u64 = 1 << 20;

pub struct Harness {
    pub comparator: Comparator<Numbered>,
    /// Without the fast path; absent where the bounds are so narrow that both may give up
    /// different history.
    reference: Option<Comparator<Numbered>>,
    flows: BTreeMap<usize, Flow>,
    /// There may be fewer places than flows.
    is_forgetful: bool,
    keys: Vec<(FlowKey, usize)>,
    /// P that have not left.
    inside: BTreeMap<usize, Sent>,
    /// P of which a part has left.
    parts: BTreeSet<usize>,
    owners: Rc<Cell<usize>>,
    next: usize,
    pub now: u64,
    /// Differences that were reported since the last commit.
    pub reports: Vec<Reason>,
    /// P that left without a commit.
    pub released: usize,
    /// Frames that have left, where the caller takes them.
    pub network: Option<Vec<(Sent, Vec<u8>)>>,
    /// Print each step: for the replay of one case.
    trace: bool,
}

impl Harness {
    pub fn new(limits: Limits, numbers: Numbers) -> Self {
        Self {
            comparator: Comparator::new(limits, numbers, Policy::default()),
            reference: (limits.history > limits.primary)
                .then(|| Comparator::new(limits, numbers, Policy::default()).without_fast_path()),
            flows: BTreeMap::new(),
            is_forgetful: limits.flows < ample(0, 0).flows,
            keys: Vec::new(),
            inside: BTreeMap::new(),
            parts: BTreeSet::new(),
            owners: Rc::default(),
            next: 0,
            now: 1,
            reports: Vec::new(),
            released: 0,
            network: None,
            trace: std::env::var_os("DPDK_COLO_TRACE").is_some(),
        }
    }

    /// Without the second comparator: where positions lie 2^31 apart their order is undefined, and
    /// the two ways may see it differently.
    pub fn alone(mut self) -> Self {
        self.reference = None;
        self
    }

    fn trace(&self, what: &str, sent: Option<&Sent>) {
        if !self.trace {
            return;
        }
        let now = self.now;
        match sent.map(|sent| (sent.flow, &sent.meaning)) {
            Some((flow, Meaning::Tcp(segment))) => {
                eprintln!("{now}: {what} flow {flow} {}", segment.describe());
            }
            other => eprintln!("{now}: {what} {other:?}"),
        }
    }

    /// The PVM sends; false when there is no room.
    pub fn primary(&mut self, rng: &mut Rng, sent: &Sent) -> bool {
        self.now += 1;
        let number = self.next;
        self.trace("P", Some(sent));
        let frame = Numbered::new(in_segments(rng, sent), number, &self.owners);
        let key = Packet::parse(frame.head(), frame.len()).key;
        if let Some(reference) = &mut self.reference {
            let taken = reference.primary(frame.copy(), self.now);
            assert_eq!(taken.is_ok(), self.comparator.room() > 0, "room");
        }
        if self.comparator.primary(frame, self.now).is_err() {
            self.settle();
            return false;
        }
        self.next += 1;
        self.name(key, sent);
        self.flows
            .entry(sent.flow)
            .or_default()
            .primary(number, &sent.meaning);
        self.inside.insert(number, sent.clone());
        self.settle();
        true
    }

    /// The SVM sends.
    pub fn secondary(&mut self, rng: &mut Rng, sent: &Sent) {
        self.now += 1;
        let frame = Numbered::new(in_segments(rng, sent), SECONDARY, &self.owners);
        self.trace("S", Some(sent));
        self.name(Packet::parse(frame.head(), frame.len()).key, sent);
        if !self.comparator.is_suspended() {
            let flow = self.flows.entry(sent.flow).or_default();
            flow.secondary(&sent.meaning);
        }
        if let Some(reference) = &mut self.reference {
            reference.secondary(frame.copy(), self.now);
        }
        self.comparator.secondary(frame, self.now);
        self.settle();
    }

    /// Both VMs send at the same time. With a reference at most one frame each: of longer bursts
    /// the order in which P meet S is open, and with it what the reports say.
    pub fn both(&mut self, rng: &mut Rng, primary: &[Sent], secondary: &[Sent]) {
        self.now += 1;
        let (mut p, mut s) = (Vec::new(), Vec::new());
        for sent in primary {
            self.trace("P", Some(sent));
            p.push(Numbered::new(
                in_segments(rng, sent),
                self.next,
                &self.owners,
            ));
            self.name(Packet::parse(&sent.bytes, sent.bytes.len()).key, sent);
            let flow = self.flows.entry(sent.flow).or_default();
            flow.primary(self.next, &sent.meaning);
            self.inside.insert(self.next, sent.clone());
            self.next += 1;
        }
        for sent in secondary {
            self.trace("S", Some(sent));
            s.push(Numbered::new(
                in_segments(rng, sent),
                SECONDARY,
                &self.owners,
            ));
            self.name(Packet::parse(&sent.bytes, sent.bytes.len()).key, sent);
            if !self.comparator.is_suspended() {
                let flow = self.flows.entry(sent.flow).or_default();
                flow.secondary(&sent.meaning);
            }
        }
        if let Some(reference) = &mut self.reference {
            assert!(p.len() <= 1 && s.len() <= 1, "the order is known");
            for frame in &p {
                assert!(reference.primary(frame.copy(), self.now).is_ok(), "room");
            }
            for frame in &s {
                reference.secondary(frame.copy(), self.now);
            }
        }
        let (mut p, mut s) = (p.into_iter(), s.into_iter());
        self.comparator.ingest(&mut p, &mut s, self.now);
        assert_eq!((p.len(), s.len()), (0, 0), "room");
        self.settle();
    }

    /// What both VMs send, in order; neighbours of different VMs come at the same time at times.
    pub fn feed(&mut self, rng: &mut Rng, merged: &[(Side, Sent)]) {
        let mut merged = merged.iter().peekable();
        while let Some((side, sent)) = merged.next() {
            let other = merged.next_if(|(other, _)| other != side && rng.one_in(2));
            let one = std::slice::from_ref::<Sent>;
            match (side, other) {
                (Side::Primary, Some((_, s))) => self.both(rng, one(sent), one(s)),
                (Side::Secondary, Some((_, p))) => self.both(rng, one(p), one(sent)),
                (Side::Primary, None) => assert!(self.primary(rng, sent), "has room"),
                (Side::Secondary, None) => self.secondary(rng, sent),
            }
        }
    }

    pub fn fence(&mut self) {
        self.settle();
        self.trace("fence", None);
        self.comparator.fence();
        if let Some(reference) = &mut self.reference {
            reference.fence();
        }
        for flow in self.flows.values_mut() {
            flow.fence();
        }
        self.settle();
    }

    /// All that was held leaves, in the order in which it came.
    pub fn commit(&mut self) {
        self.settle();
        self.now += 1;
        self.trace("commit", None);
        self.comparator.commit(self.now);
        if let Some(reference) = &mut self.reference {
            reference.commit(self.now);
        }
        let waiting: Vec<usize> = self.inside.keys().copied().collect();
        assert_eq!(self.drain(true), waiting, "what leaves with a commit");
        assert_eq!(self.comparator.held(), 0);
        for flow in self.flows.values_mut() {
            flow.commit();
        }
        self.reports.clear();
        self.settle();
    }

    /// What would be reported if nothing more came.
    pub fn overdue(&mut self) -> Option<Reason> {
        let later = self.now + 2 * TIMEOUT;
        let reason = self.comparator.overdue(later).map(|d| d.reason);
        if let Some(reference) = &mut self.reference {
            assert_eq!(reference.overdue(later).map(|d| d.reason), reason);
        }
        self.settle();
        reason
    }

    /// Lets time pass, so that what waited for the rest of a frame for long may leave in part.
    pub fn age(&mut self) {
        self.now += 2;
        self.comparator.age(self.now, 8);
        if let Some(reference) = &mut self.reference {
            reference.age(self.now, 8);
        }
        self.settle();
    }

    /// What could leave has left: where history is ample and acknowledgments only rise.
    pub fn assert_nothing_lingers(&self) {
        for (number, flow) in &self.flows {
            let lingers = flow.lingers();
            assert_eq!(lingers, None, "flow {number}");
        }
    }

    /// P that overtook others.
    pub fn overtook(&self) -> Overtook {
        let mut total = Overtook::default();
        for flow in self.flows.values() {
            total.retransmissions += flow.overtook.retransmissions;
            total.parts += flow.overtook.parts;
            total.acks += flow.overtook.acks;
        }
        total
    }

    /// P that wait.
    pub fn waiting(&self) -> usize {
        self.inside.len()
    }

    /// Whether the network has seen the SYN of a connection.
    pub fn syn_has_left(&self, flow: usize, incarnation: usize) -> bool {
        self.flows
            .get(&flow)
            .is_some_and(|f| f.syn_has_left(incarnation))
    }

    /// P that wait and fulfil a condition.
    pub fn waiting_that(&self, condition: impl Fn(&Sent) -> bool) -> usize {
        self.inside.values().filter(|sent| condition(sent)).count()
    }

    /// Everything has left, nothing differed and nothing is waited for.
    pub fn assert_equal(&mut self) {
        assert_eq!(self.reports, [], "reported");
        assert_eq!(self.overdue(), None, "overdue");
        assert_eq!(self.comparator.held(), 0, "held");
        assert!(self.inside.is_empty(), "inside: {:?}", self.inside);
    }

    fn name(&mut self, key: FlowKey, sent: &Sent) {
        let known = self.keys.iter().any(|(k, _)| *k == key);
        if !known && !matches!(sent.meaning, Meaning::Unknown) {
            self.keys.push((key, sent.flow));
        }
    }

    fn settle(&mut self) {
        self.drain(false);
        let found = self.comparator.take_divergence();
        if let Some(reference) = &mut self.reference {
            let said = reference.take_divergence();
            let of = |d: &dpdk_colo::compare::Divergence<Numbered>| (d.reason, d.stream_offset);
            assert_eq!(found.as_ref().map(of), said.as_ref().map(of));
        }
        if let Some(divergence) = found {
            self.trace(divergence.reason.word(), None);
            self.reports.push(divergence.reason);
            let key = divergence.flow.expect("a difference has a flow");
            if divergence.reason == Reason::SecondaryOverflow {
                // Nothing is known to differ.
            } else if let Some((_, flow)) = self.keys.iter().find(|(k, _)| *k == key) {
                let flow = self.flows.entry(*flow).or_default();
                flow.diverged = true;
            }
        }
        let reference = self.reference.as_ref().map_or(0, Comparator::frames);
        let frames = self.comparator.frames();
        assert_eq!(self.owners.get(), frames + reference, "frames");
        if self.reference.is_some() {
            assert_eq!(frames, reference, "frames of the reference");
        }
        assert_eq!(self.inside.len(), self.comparator.held(), "held");
    }

    fn drain(&mut self, committed: bool) -> Vec<usize> {
        let mut left = Vec::new();
        while self.comparator.next_synchronized().is_some() {}
        while let Some(release) = self.comparator.next_release() {
            let number = release.frame.number;
            let bytes = release.frame.frame.to_vec();
            if let Some(reference) = &mut self.reference {
                while reference.next_synchronized().is_some() {}
                let same = reference.next_release().expect("the reference releases");
                assert_eq!(same.frame.number, number, "the reference releases another");
                assert_eq!(same.frame.frame.to_vec(), bytes, "the reference's bytes");
                let times = (release.arrived, release.cleared, release.witnessed);
                assert_eq!((same.arrived, same.cleared, same.witnessed), times);
            }
            assert_ne!(number, SECONDARY, "a frame of the SVM leaves");
            let sent = self.inside.remove(&number).expect("leaves once");
            let (piece, rest) = divided(&sent, &bytes);
            self.trace("leaves", Some(&piece));
            let is_part = rest.is_some() || self.parts.contains(&number);
            let wire = changes(&piece, &bytes, is_part);
            let flow = self.flows.get_mut(&sent.flow).expect("came in");
            // Where the PVM sends out of order, more has left than the comparator keeps in mind.
            flow.is_forgetful = self.network.is_none() || self.is_forgetful;
            let left_of_it = rest.as_ref().map(|rest| rest.meaning.clone());
            if let Err(why) = flow.leave(number, &piece.meaning, left_of_it, wire, committed) {
                panic!("P {number}: {why}\n{sent:?}");
            }
            if let Some(rest) = rest {
                self.inside.insert(number, rest);
                self.parts.insert(number);
            }
            if let Some(network) = &mut self.network {
                network.push((piece, bytes));
            }
            self.released += usize::from(!committed);
            left.push(number);
        }
        if let Some(reference) = &mut self.reference {
            assert!(
                reference.next_release().is_none(),
                "only the reference releases"
            );
        }
        left
    }
}

/// The part of a P that has left, and what stays.
fn divided(sent: &Sent, left: &[u8]) -> (Sent, Option<Sent>) {
    let Meaning::Tcp(segment) = &sent.meaning else {
        return (sent.clone(), None);
    };
    let n = Packet::parse(left, left.len()).payload_len as usize;
    if n >= segment.data.len() {
        return (sent.clone(), None);
    }
    let (mut piece, mut rest) = (sent.clone(), sent.clone());
    // A trailer does not come along.
    rest.bytes.truncate(sent.headers + segment.data.len());
    let (mut front, mut back) = (segment.clone(), segment.clone());
    front.data.truncate(n);
    front.fin = false;
    back.data.drain(..n);
    back.at += n as u32;
    (piece.meaning, rest.meaning) = (Meaning::Tcp(front), Meaning::Tcp(back));
    piece.bytes.truncate(sent.headers + n);
    rest.bytes.drain(sent.headers..sent.headers + n);
    let packet = Packet::parse(&sent.bytes, sent.bytes.len());
    let (l3, seq) = (packet.l3 as usize, packet.l4 as usize + 4);
    for part in [&mut piece, &mut rest] {
        // IPv4 counts its own header (RFC 791), IPv6 does not (RFC 8200).
        let v6 = part.bytes[l3] >> 4 == 6;
        let (at, len) = match v6 {
            true => (l3 + 4, part.bytes.len() - l3 - 40),
            false => (l3 + 2, part.bytes.len() - l3),
        };
        part.bytes[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
    }
    let field = &mut rest.bytes[seq..seq + 4];
    let at = u32::from_be_bytes(field.try_into().expect("four bytes"));
    field.copy_from_slice(&at.wrapping_add(n as u32).to_be_bytes());
    (piece, Some(rest))
}

/// Offset of the TSval in a segment that has one.
fn stamp_at(packet: &Packet, bytes: &[u8]) -> Option<usize> {
    let (mut at, end) = (packet.l4 as usize + 20, packet.payload as usize);
    while at < end {
        at += match bytes[at] {
            0 => return None,
            1 => 1,
            8 if at + 10 <= end => return Some(at + 2),
            _ => usize::from(*bytes.get(at + 1)?).max(2),
        };
    }
    None
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The sum that a checksum makes 0xffff or leaves as it was (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Both zeros are one.
    if sum == 0xffff { 0 } else { sum as u16 }
}

/// What is different of a P that leaves: the window that the SVM's may have lowered, the sequence
/// number and the time stamp of one that overtakes, and the checksum that covers them. Nothing else is.
fn changes(sent: &Sent, left: &[u8], is_part: bool) -> Wire {
    let bytes = &sent.bytes[..];
    let packet = Packet::parse(bytes, bytes.len());
    if packet.kind != Kind::Tcp {
        assert_eq!(left, bytes, "bytes");
        return Wire::default();
    }
    let l4 = packet.l4 as usize;
    let (seq, window, checksum) = (l4 + 4, l4 + 14, l4 + 16);
    let stamp = stamp_at(&packet, bytes);
    let known = !matches!(sent.meaning, Meaning::Unknown);
    let mut expected = bytes.to_vec();
    let mut take = |from: usize, n: usize| {
        if left.len() >= from + n {
            expected[from..from + n].copy_from_slice(&left[from..from + n]);
        }
    };
    take(seq, 4);
    take(window, 4);
    stamp.iter().for_each(|at| take(*at, 4));
    if is_part {
        // Its own lengths, checksums and the bits of a last segment (RFC 9293, RFC 3168).
        (0..l4).for_each(|at| take(at, 1));
        take(l4 + 13, 1);
    }
    assert_eq!(left, expected, "bytes");
    let lowered = Packet::parse(left, left.len()).tcp.window;
    assert!(lowered <= packet.tcp.window, "a wider window");
    if sent.cut.is_none() && is_part {
        let packet = Packet::parse(left, left.len());
        assert_eq!(verify(&packet, [left]), Some(true), "a part's checksum");
    } else if sent.cut.is_none() {
        let end = packet.end();
        let sums = [bytes, left].map(|bytes| {
            // An option may begin at an odd offset, the header does not.
            sum(&bytes[l4..end])
        });
        assert_eq!(sums[0], sums[1], "checksum");
    } else if !is_part {
        let partial = |bytes: &[u8]| [bytes[checksum], bytes[checksum + 1]];
        assert_eq!(partial(left), partial(bytes), "a partial checksum");
    }
    if !known {
        return Wire::default();
    }
    Wire {
        lowered: word(bytes, seq).wrapping_sub(word(left, seq)),
        stamps: stamp.map(|at| (word(bytes, at), word(left, at))),
    }
}

/// A frame in one segment or in several, cut at random behind the headers.
pub fn in_segments(rng: &mut Rng, sent: &Sent) -> HeapFrame {
    let bytes = &sent.bytes[..];
    let rest = bytes.len().saturating_sub(sent.headers);
    let offload = Offload {
        partial_checksum: sent.cut.is_some(),
        segment: sent.cut,
    };
    if rest == 0 || !rng.one_in(4) {
        return HeapFrame::new(bytes).with_offload(offload);
    }
    let mut cuts = [0; 2].map(|_| sent.headers + rng.below(rest + 1));
    cuts.sort_unstable();
    let [a, b] = cuts;
    HeapFrame::chain(&[&bytes[..a], &bytes[a..b], &bytes[b..]]).with_offload(offload)
}

/// Takes from a frame that left what the comparator may have changed in it, as far as it knew by then: window,
/// time stamp, the sequence number of a bare acknowledgment, and the checksum.
pub fn as_sent(bytes: &mut [u8]) {
    let packet = Packet::parse(bytes, bytes.len());
    if packet.kind != Kind::Tcp {
        return;
    }
    let l4 = usize::from(packet.l4);
    if packet.payload_len == 0 {
        bytes[l4 + 4..l4 + 8].fill(0);
    }
    bytes[l4 + 14..l4 + 18].fill(0);
    bytes[l4 + 20..usize::from(packet.payload)].fill(0);
}
