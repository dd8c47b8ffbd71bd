//! A pair of VMs over several epochs: the PVM goes through its conversations once, the SVM starts
//! from the PVM's state in each epoch.

use std::collections::VecDeque;

use colo_testkit::packets::Ends;
use colo_testkit::rng::Rng;
use dpdk_colo::compare::Numbers;

use crate::harness::{Harness, Sent};
use crate::model::{Meaning, Segment};
use crate::streams::spoil;
use crate::traffic::{Connection, Opening, Side, ends, merge};

/// The connections of one flow, one after another over the same ports.
pub struct Conversation {
    connections: Vec<Connection>,
    /// What the PVM sends.
    script: Vec<Segment>,
    sent: usize,
}

impl Conversation {
    pub fn random(
        rng: &mut Rng,
        flow: usize,
        numbers: Numbers,
        connections: usize,
        window: usize,
    ) -> Self {
        let ends: Ends = ends(rng, flow);
        let mut all: Vec<Connection> = Vec::new();
        let mut script = Vec::new();
        for incarnation in 0..connections {
            let mut connection = Connection::random(rng, flow, &ends, numbers);
            connection.incarnation = incarnation;
            while incarnation > 0 && connection.opening == Opening::MidStream {
                connection = Connection::random(rng, flow, &ends, numbers);
                connection.incarnation = incarnation;
            }
            if let Some(last) = all.last()
                && rng.one_in(2)
            {
                // An ISN close to the old numbers, often behind them.
                let near = last.pvm_isn.wrapping_add(rng.below(600) as u32);
                connection.pvm_isn = near.wrapping_sub(300);
            }
            while all.iter().any(|c| c.pvm_isn == connection.pvm_isn) {
                connection.pvm_isn = connection.pvm_isn.wrapping_add(1000);
            }
            script.extend(connection.output(rng, true, 0, window));
            all.push(connection);
        }
        Self {
            connections: all,
            script,
            sent: 0,
        }
    }

    /// The next that the PVM sends, at most `most`.
    fn primary(&self, rng: &mut Rng, most: usize) -> Vec<Sent> {
        let rest = &self.script[self.sent..];
        rest.iter()
            .take(most)
            .map(|p| self.connections[p.incarnation].frame(rng, Side::Primary, p))
            .collect()
    }

    /// The first `most` frames that the SVM sends that has loaded the PVM's present state.
    fn secondary(&mut self, rng: &mut Rng, epoch: &Epoch, most: usize) -> Vec<Sent> {
        let done = &self.script[..self.sent];
        let current = done.last().map_or(0, |p| p.incarnation);
        let of_current = || done.iter().filter(|p| p.incarnation == current);
        let begun = of_current().next().is_some();
        let at = of_current().map(Segment::end).max().unwrap_or(0);
        let reset = of_current().any(|p| p.rst);
        // No stack sends the SYN of a connection again behind its FIN or RST.
        let ended = of_current().any(|p| p.fin || p.rst);
        let mut frames = Vec::new();
        // No stack takes an ISN twice in a row.
        let mut taken: Vec<u32> = self.connections.iter().map(|c| c.svm_isn).collect();
        for connection in &mut self.connections[current..] {
            let loaded = begun && connection.incarnation == current;
            connection.svm_isn = if loaded || connection.opening == Opening::MidStream {
                connection.pvm_isn
            } else {
                let mut isn = rng.sequence();
                while taken.contains(&isn) {
                    isn = rng.sequence();
                }
                isn
            };
            taken.push(connection.svm_isn);
            let mut own = connection.clone();
            if epoch.diverges && rng.one_in(2) {
                spoil(rng, &mut own.bytes);
            }
            let from = if loaded {
                at - rng.below(at as usize + 1).min(rng.below(20)) as u32
            } else {
                0
            };
            let from = from.min(own.bytes.len() as u32);
            let syn = !loaded || (epoch.loss == 0 && !ended && rng.one_in(8));
            let mut segments = own.output(rng, syn, from, epoch.window);
            if loaded && reset {
                segments.retain(|s| !s.rst);
            }
            for segment in segments.iter().take(most - frames.len()) {
                frames.push(own.frame(rng, Side::Secondary, segment));
            }
            if frames.len() == most {
                break;
            }
        }
        frames
    }
}

impl Conversation {
    /// Whether the client can have caused an S already: it answers what has left. Without this an
    /// SVM whose S get lost may seem to speak for another connection than it does.
    fn may_follow(&self, harness: &Harness, sent: &Sent) -> bool {
        let has_begun = |incarnation: usize| {
            self.connections[incarnation].opening == Opening::MidStream
                || harness.syn_has_left(sent.flow, incarnation)
        };
        match incarnation(sent) {
            0 if is_syn(sent) => true,
            i if is_syn(sent) => has_begun(i - 1),
            i => has_begun(i),
        }
    }
}

/// How the pair's output comes to the comparator in one epoch.
pub struct Epoch {
    pub window: usize,
    pub diverges: bool,
    /// The epoch lasts until everything was sent.
    pub last: bool,
    /// One S in this many is lost; 0: none, and no other shortage either.
    pub loss: usize,
}

/// What both VMs send in one epoch, in the order in which it comes.
fn output(rng: &mut Rng, pair: &mut [Conversation], epoch: &Epoch) -> Vec<(Side, Sent)> {
    let mut queues = Vec::new();
    for conversation in pair.iter_mut() {
        let (most_p, most_s) = match epoch.last {
            true => (usize::MAX, usize::MAX),
            false => (rng.below(40), rng.below(60)),
        };
        let p = conversation.primary(rng, most_p);
        let s = conversation.secondary(rng, epoch, most_s);
        queues.push((Side::Primary, p.into()));
        queues.push((Side::Secondary, s.into()));
    }
    merge(rng, queues)
}

/// The same where nothing is lost and all that the PVM sends is taken.
pub fn whole_output(rng: &mut Rng, pair: &mut [Conversation], epoch: &Epoch) -> Vec<(Side, Sent)> {
    let sent = output(rng, pair, epoch);
    for (side, sent) in &sent {
        pair[sent.flow].sent += usize::from(*side == Side::Primary);
    }
    sent
}

/// Runs the pair through one epoch up to the fence, which the caller sets.
pub fn run(rng: &mut Rng, harness: &mut Harness, pair: &mut [Conversation], epoch: &Epoch) {
    let mut early = vec![VecDeque::new(); pair.len()];
    let mut sent = VecDeque::from(output(rng, pair, epoch));
    while let Some((side, sent)) = take_one(rng, harness, pair, epoch, &mut sent) {
        let flow = sent.flow;
        match side {
            Side::Primary => {
                if !harness.primary(rng, &sent) {
                    // A ring in which nothing moves before the commit.
                    return;
                }
                pair[flow].sent += 1;
            }
            Side::Secondary if epoch.loss > 0 => early[flow].push_back(sent),
            Side::Secondary => harness.secondary(rng, &sent),
        }
        while early[flow]
            .front()
            .is_some_and(|sent| pair[flow].may_follow(harness, sent))
        {
            let sent = early[flow].pop_front().expect("has a front");
            if is_syn(&sent) || !rng.one_in(epoch.loss) {
                harness.secondary(rng, &sent);
            }
        }
        if epoch.loss > 0 && rng.one_in(16) {
            let (now, most) = (harness.now + 5, rng.below(3));
            harness.comparator.age(now, most);
        }
    }
}

/// The next frame that comes by itself; those that come at the same time go in.
fn take_one(
    rng: &mut Rng,
    harness: &mut Harness,
    pair: &mut [Conversation],
    epoch: &Epoch,
    sent: &mut VecDeque<(Side, Sent)>,
) -> Option<(Side, Sent)> {
    loop {
        let first = sent.pop_front()?;
        let turn = sent.front().is_some_and(|(side, _)| *side != first.0);
        if !turn || epoch.loss > 0 || harness.comparator.room() == 0 || rng.one_in(2) {
            return Some(first);
        }
        let (p, s) = match (first, sent.pop_front()?) {
            ((Side::Primary, p), (_, s)) => (p, s),
            ((_, s), (_, p)) => (p, s),
        };
        pair[p.flow].sent += 1;
        harness.both(rng, &[p], &[s]);
    }
}

fn incarnation(sent: &Sent) -> usize {
    match &sent.meaning {
        Meaning::Tcp(segment) => segment.incarnation,
        _ => 0,
    }
}

fn is_syn(sent: &Sent) -> bool {
    matches!(&sent.meaning, Meaning::Tcp(segment) if segment.syn)
}

/// What comes between fence and commit: the SVM's late output and the last of the PVM's.
pub fn fence_to_commit(rng: &mut Rng, harness: &mut Harness, pair: &mut [Conversation]) {
    harness.fence();
    for conversation in pair.iter_mut() {
        let late = Epoch {
            window: 0,
            diverges: true,
            last: false,
            loss: 0,
        };
        let mut late = conversation.secondary(rng, &late, 12);
        let with = rng.below(late.len() + 1);
        let mut together = late.split_off(with).into_iter();
        for sent in late {
            if rng.one_in(3) {
                harness.secondary(rng, &sent);
            }
        }
        let most = rng.below(3);
        for sent in conversation.primary(rng, most) {
            if harness.comparator.room() > 0
                && let Some(late) = together.next()
            {
                conversation.sent += 1;
                harness.both(rng, &[sent], &[late]);
            } else if harness.primary(rng, &sent) {
                conversation.sent += 1;
            } else {
                break;
            }
        }
    }
    harness.commit();
}
