//! One run: two woven streams through a comparator, under the oracle's eyes.

use std::cell::Cell;
use std::rc::Rc;

use colo_testkit::rng::Rng;
use dpdk_colo::compare::{Comparator, Divergence, Limits, Numbers, Policy};
use dpdk_colo::frame::{Frame, HeapFrame, Offload};

use super::header::{Body, SYN};
use super::oracle::{Breach, Oracle, Rule};
use super::sender::Sender;
use super::vary::{Made, Target, Variation, renumbered, vary};
use super::weave::{Order, Step, order};

/// Age at which a frame is overdue, in steps of a run; no run has as many.
const TIMEOUT: u64 = 1 << 32;
/// Age at which the equal part of a long frame leaves, in steps.
const PATIENCE: u64 = 8;

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How the secondary differs.
    pub variation: Variation,
    /// Who sends when.
    pub order: Order,
    /// Which numbers the secondary's segments carry.
    pub numbers: Numbers,
}

impl Plan {
    /// The words for reports.
    pub fn words(&self) -> String {
        let numbers = match self.numbers {
            Numbers::Translated => "translated",
            Numbers::OwnIsn => "own ISN",
        };
        let (variation, order) = (self.variation.word(), self.order.word());
        format!("{variation}, {order}, {numbers}")
    }
}

/// Something that kept equal streams from leaving whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// The comparator's reason, or `held`.
    pub reason: &'static str,
    /// The primary's frame.
    pub frame: Option<usize>,
    /// The flow in the comparator's words, where no frame of the primary's is known.
    pub flow: String,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// P that went in.
    pub taken: usize,
    /// P that came out.
    pub released: usize,
    /// P held at the end.
    pub held: usize,
    /// Rules breached.
    pub breaches: Vec<Breach>,
    /// Why not everything left, or the comparator complained; of every flow the first.
    pub deviations: Vec<Deviation>,
}

/// Distance between the two VMs' initial sequence numbers, per connection.
fn offset(flow: usize, connection: usize, seed: u32) -> u32 {
    let mixed = (flow as u32)
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add((connection as u32).wrapping_mul(0x85eb_ca6b))
        ^ seed;
    mixed.wrapping_mul(0xc2b2_ae35) | 1
}

/// Runs a plan; nothing if the sender has nothing to vary in this way.
pub fn run(sender: &Sender, plan: Plan, rng: &mut Rng) -> Option<Outcome> {
    let (made, target) = vary(sender, plan.variation, rng)?;
    let steps = order(sender.frames.len(), &made, plan.order, rng);
    let seed = rng.next() as u32;
    Some(Feed::new(sender, &made, plan.numbers, seed).go(&steps, target))
}

struct Feed<'a> {
    sender: &'a Sender,
    made: &'a [Made],
    numbers: Numbers,
    seed: u32,
    comparator: Comparator<Tagged>,
    oracle: Oracle<'a>,
    owners: Rc<Cell<usize>>,
    now: u64,
    outcome: Outcome,
}

impl<'a> Feed<'a> {
    fn new(sender: &'a Sender, made: &'a [Made], numbers: Numbers, seed: u32) -> Self {
        let (p, s) = (sender.frames.len(), made.len());
        let limits = Limits {
            primary: p + BURST,
            secondary: 2 * s + p + BURST,
            history: 2 * s + p + BURST,
            flows: sender.flows.len() + 1,
            timeout: TIMEOUT,
            patience: PATIENCE,
            idle: 16 * TIMEOUT,
            half_open: 16 * TIMEOUT,
        };
        Self {
            sender,
            made,
            numbers,
            seed,
            comparator: Comparator::new(limits, numbers, Policy::default()),
            oracle: Oracle::new(sender),
            owners: Rc::default(),
            now: 1,
            outcome: Outcome::default(),
        }
    }

    fn go(mut self, steps: &[Step], target: Option<Target>) -> Outcome {
        let mut spare = 0;
        for step in steps {
            self.step(step);
            self.settle();
            self.comparator.age(self.now, 4);
            self.settle();
            spare += self.comparator.take_divided().0;
            self.now += 1;
        }
        self.now += 2 * TIMEOUT;
        self.comparator.age(self.now, 4);
        self.settle();
        spare += self.comparator.take_divided().0;
        if let Some(late) = self.comparator.overdue(self.now) {
            self.complain(&late);
        }
        self.finish(spare, target);
        self.outcome
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Primary(i) => {
                self.oracle.primary(*i);
                let frame = self.primary(*i);
                let taken = self.comparator.primary(frame, self.now);
                debug_assert!(taken.is_ok(), "the limits are ample");
            }
            Step::Secondary(i) => {
                self.oracle.secondary(&self.made[*i]);
                let frame = self.secondary(*i);
                self.comparator.secondary(frame, self.now);
            }
            Step::Both(ps, ss) => {
                for p in ps.clone() {
                    self.oracle.primary(p);
                }
                for s in ss.clone() {
                    self.oracle.secondary(&self.made[s]);
                }
                let p: Vec<Tagged> = ps.clone().map(|i| self.primary(i)).collect();
                let s: Vec<Tagged> = ss.clone().map(|i| self.secondary(i)).collect();
                let (mut p, mut s) = (p.into_iter(), s.into_iter());
                self.comparator.ingest(&mut p, &mut s, self.now);
            }
        }
    }

    fn primary(&self, i: usize) -> Tagged {
        let sent = &self.sender.frames[i];
        Tagged::new(&sent.bytes, Tag::Primary(i), &self.owners)
    }

    fn secondary(&self, i: usize) -> Tagged {
        let made = &self.made[i];
        let source = &self.sender.frames[made.source];
        let offset = match &made.body {
            Body::Tcp(segment) if source.is_opened => {
                let translated = self.numbers == Numbers::Translated && !segment.has(SYN);
                match translated {
                    true => 0,
                    false => offset(source.flow, source.connection, self.seed),
                }
            }
            _ => 0,
        };
        let tag = Tag::Secondary(made.source);
        Tagged::new(&renumbered(made, offset), tag, &self.owners)
    }

    /// Takes out what has left and what was found.
    fn settle(&mut self) {
        while self.comparator.next_synchronized().is_some() {}
        while let Some(release) = self.comparator.next_release() {
            let bytes = release.frame.frame.to_vec();
            match release.frame.tag {
                Tag::Primary(i) => self.oracle.released(i, &bytes),
                Tag::Secondary(_) => self.outcome.breaches.push(Breach {
                    rule: Rule::Conserved,
                    frame: None,
                    reason: "a frame of the secondary's left".into(),
                }),
            }
            self.outcome.released += 1;
        }
        if let Some(found) = self.comparator.take_divergence() {
            self.complain(&found);
        }
    }

    fn complain(&mut self, found: &Divergence<Tagged>) {
        let tag = |side: &Option<(Tagged, usize)>| side.as_ref().map(|(frame, _)| frame.tag);
        let frame = match (tag(&found.primary), tag(&found.secondary)) {
            (Some(Tag::Primary(i)), _) | (None, Some(Tag::Secondary(i))) => Some(i),
            _ => None,
        };
        self.outcome.deviations.push(Deviation {
            reason: found.reason.word(),
            frame,
            flow: found.flow.map(|key| key.to_string()).unwrap_or_default(),
        });
    }

    fn finish(&mut self, spare: usize, target: Option<Target>) {
        let held = self.comparator.held();
        let complained = !self.outcome.deviations.is_empty();
        self.oracle.finish(held, spare, complained, target);
        let outcome = &mut self.outcome;
        outcome.breaches.extend_from_slice(self.oracle.breaches());
        outcome.taken = self.sender.frames.len();
        outcome.held = held;
        if self.owners.get() != self.comparator.frames() {
            outcome.breaches.push(Breach {
                rule: Rule::Conserved,
                frame: None,
                reason: format!(
                    "{} frames have an owner, the comparator knows {}",
                    self.owners.get(),
                    self.comparator.frames()
                ),
            });
        }
        let flow_of = |frame: usize| self.sender.frames[frame].flow;
        for frame in self.oracle.held() {
            let known = outcome
                .deviations
                .iter()
                .any(|d| d.frame.is_some_and(|f| flow_of(f) == flow_of(frame)));
            if !known {
                outcome.deviations.push(Deviation {
                    reason: "held",
                    frame: Some(frame),
                    flow: String::new(),
                });
            }
        }
    }
}

/// Frames of a burst beyond the limits that a run needs.
const BURST: usize = 64;

/// Whose a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    /// The primary's, with this index.
    Primary(usize),
    /// The secondary's, made of the primary's with this index.
    Secondary(usize),
}

/// A frame that knows whose it is and counts its owners.
struct Tagged {
    frame: HeapFrame,
    tag: Tag,
    owners: Rc<Cell<usize>>,
}

impl Tagged {
    fn new(bytes: &[u8], tag: Tag, owners: &Rc<Cell<usize>>) -> Self {
        Self::of(HeapFrame::new(bytes), tag, owners)
    }

    fn of(frame: HeapFrame, tag: Tag, owners: &Rc<Cell<usize>>) -> Self {
        owners.set(owners.get() + 1);
        Self {
            frame,
            tag,
            owners: Rc::clone(owners),
        }
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        self.owners.set(self.owners.get() - 1);
    }
}

impl Frame for Tagged {
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
        Self::of(self.frame.share(), self.tag, &self.owners)
    }

    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self> {
        let excerpt = self.frame.excerpt(headers, start, len)?;
        Some(Self::of(excerpt, self.tag, &self.owners))
    }

    fn offload(&self) -> Offload {
        self.frame.offload()
    }
}
