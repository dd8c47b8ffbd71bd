//! A comparator under the model's eyes.
//!
//! Every frame that goes in has a number, every owner of a frame is counted, and after each step
//! what came out is judged: order, bytes, the model's verdict, and that no frame was lost or kept.
//! A second comparator without the short way for segments in order gets the same frames, and must
//! say and let out the same.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy, Reason};
use dpdk_colo::flow::FlowKey;
use dpdk_colo::frame::{Frame, HeapFrame};
use dpdk_colo::packet::{Kind, Packet};

use crate::model::{Flow, Meaning};
use crate::rng::Rng;
use crate::traffic::Side;

/// A frame as a VM sends it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub flow: usize,
    pub meaning: Meaning,
    pub bytes: Vec<u8>,
    /// Bytes of headers, which stay in one segment.
    pub headers: usize,
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
}

/// Bounds that no case reaches, for so many frames; waiting is overdue only in [`Harness::overdue`].
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
    /// Without the short way; absent where the bounds are so narrow that both may give up
    /// different history.
    reference: Option<Comparator<Numbered>>,
    flows: BTreeMap<usize, Flow>,
    keys: Vec<(FlowKey, usize)>,
    /// P that have not left.
    inside: BTreeMap<usize, Sent>,
    owners: Rc<Cell<usize>>,
    next: usize,
    pub now: u64,
    /// Differences that were reported since the last commit.
    pub reports: Vec<Reason>,
    /// P that left without a commit.
    pub released: usize,
    /// Tell each step: for the replay of one case.
    trace: bool,
}

impl Harness {
    pub fn new(limits: Limits, numbers: Numbers) -> Self {
        Self {
            comparator: Comparator::new(limits, numbers, Policy::default()),
            reference: (limits.history > limits.primary)
                .then(|| Comparator::new(limits, numbers, Policy::default()).without_express()),
            flows: BTreeMap::new(),
            keys: Vec::new(),
            inside: BTreeMap::new(),
            owners: Rc::default(),
            next: 0,
            now: 1,
            reports: Vec::new(),
            released: 0,
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
        if self.trace {
            let sent = sent.map(|s| (s.flow, &s.meaning));
            eprintln!("{}: {what} {sent:?}", self.now);
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
            let taken = reference.primary(frame.share(), self.now);
            assert_eq!(taken.is_ok(), self.comparator.room() > 0, "room");
        }
        if !self.offer(rng, frame) {
            self.settle();
            return false;
        }
        self.next += 1;
        self.name(key, sent);
        self.flows.entry(sent.flow).or_default().primary(number);
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
            reference.secondary(frame.share(), self.now);
        }
        if rng.one_in(2) {
            self.comparator.secondary(frame, self.now);
        } else {
            let mut burst = std::iter::once(frame);
            self.comparator.secondary_burst(&mut burst, self.now);
        }
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
            flow.primary(self.next);
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
                assert!(reference.primary(frame.share(), self.now).is_ok(), "room");
            }
            for frame in &s {
                reference.secondary(frame.share(), self.now);
            }
        }
        let (mut p, mut s) = (p.into_iter(), s.into_iter());
        self.comparator.both_bursts(&mut p, &mut s, self.now);
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

    /// Gives a P to the comparator, alone or as a burst; false when there is no room.
    fn offer(&mut self, rng: &mut Rng, frame: Numbered) -> bool {
        if rng.one_in(2) {
            return self.comparator.primary(frame, self.now).is_ok();
        }
        let mut burst = std::iter::once(frame);
        self.comparator.primary_burst(&mut burst, self.now);
        burst.next().is_none()
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
            if let Some(reference) = &mut self.reference {
                while reference.next_synchronized().is_some() {}
                let same = reference.next_release().expect("the reference releases");
                assert_eq!(same.frame.number, number, "the reference releases another");
                let times = (release.arrived, release.cleared, release.witnessed);
                assert_eq!((same.arrived, same.cleared, same.witnessed), times);
            }
            assert_ne!(number, SECONDARY, "a frame of the SVM leaves");
            let sent = self.inside.remove(&number).expect("leaves once");
            self.trace("leaves", Some(&sent));
            assert_same(&release.frame.frame.to_vec(), &sent.bytes);
            let flow = self.flows.get_mut(&sent.flow).expect("came in");
            if let Err(why) = flow.leave(number, &sent.meaning, committed) {
                panic!("P {number}: {why}\n{sent:?}");
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

/// A P leaves as it came, but for a window that the SVM's may have lowered.
fn assert_same(left: &[u8], sent: &[u8]) {
    let packet = Packet::parse(sent, sent.len());
    if left == sent || packet.kind != Kind::Tcp {
        assert_eq!(left, sent, "bytes");
        return;
    }
    let window = packet.l4 as usize + 14;
    let lowered = Packet::parse(left, left.len()).tcp.window;
    assert!(lowered < packet.tcp.window, "a wider window");
    // The window and the checksum that covers it lie side by side.
    let rest = |bytes: &[u8]| [&bytes[..window], &bytes[window + 4..]].concat();
    assert_eq!(rest(left), rest(sent), "bytes");
}

/// A frame in one segment or in several, cut at random behind the headers.
pub fn in_segments(rng: &mut Rng, sent: &Sent) -> HeapFrame {
    let bytes = &sent.bytes[..];
    let rest = bytes.len().saturating_sub(sent.headers);
    if rest == 0 || !rng.one_in(4) {
        return HeapFrame::new(bytes);
    }
    let mut cuts = [0; 2].map(|_| sent.headers + rng.below(rest + 1));
    cuts.sort_unstable();
    let [a, b] = cuts;
    HeapFrame::chain(&[&bytes[..a], &bytes[a..b], &bytes[b..]])
}
