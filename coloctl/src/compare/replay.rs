//! Both guests' output through the comparator, in the captures' time, with the checkpoints that a pair would make.
//!
//! docs/compare.md says how the comparison goes on behind a checkpoint. Each step of it has a function here:
//! [`Replay::commit`], [`Replay::bring_again`], [`Replay::fill`].

use std::collections::BTreeMap;

use dpdk_colo::Ticks;
use dpdk_colo::compare::{Comparator, Divergence, Limits, Numbers, Policy, Reason, Rule, window};
use dpdk_colo::flow::FlowKey;
use dpdk_colo::frame::{BURST, Frame, HeapFrame};
use dpdk_colo::packet::serial::{self, before};
use dpdk_colo::packet::{Kind, Packet, TcpFlags};

use super::connections::Connections;
use super::datagrams::Datagrams;
use super::edit::{self, Rest};
use super::traffic::{Sent, Traffic};

const MILLISECOND: Ticks = 1_000_000;
/// The share of the kept S that is history, as at a node.
const HISTORY_SHARE: usize = 16;
const IDLE: Ticks = 120_000 * MILLISECOND;
const HALF_OPEN: Ticks = 64_000 * MILLISECOND;
const PATIENCE: Ticks = MILLISECOND;
/// Bytes of a window in front of the first one that differs, and from it on.
const WINDOW: (usize, usize) = (16, 32);

/// What a pair's settings would be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `--compare-timeout`.
    pub timeout: Ticks,
    /// From the request for a checkpoint to its end.
    pub checkpoint: Ticks,
    /// `--hold-frames`.
    pub hold: usize,
    /// `--flows`.
    pub flows: usize,
}

/// Bytes of one guest's frame around the first one that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where in the frame the first byte lies that differs.
    pub at: usize,
    /// Which of the shown bytes it is.
    pub lead: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A difference.
#[derive(Clone, Debug)]
pub struct Difference {
    /// When it was seen.
    pub at: Ticks,
    /// Why the outputs differ, or seem to.
    pub reason: Reason,
    /// In which flow.
    pub flow: Option<FlowKey>,
    /// Bytes of the stream in front of it.
    pub offset: Option<u32>,
    /// P's bytes, and S's.
    pub windows: [Option<Window>; 2],
    /// It asked for a checkpoint. Others came while one was on its way.
    pub asks: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// P that went in, and those of them that a rule let out.
    pub taken: u64,
    /// See above.
    pub exempt: u64,
    /// The same of S.
    pub witnessed: u64,
    /// S that no connection of P's is known for.
    pub strange: u64,
    /// Bytes that S went past without having sent them.
    pub passed_over: u64,
    /// All differences.
    pub differences: Vec<Difference>,
    /// Checkpoints, by reason.
    pub checkpoints: BTreeMap<Reason, u64>,
    /// How long each P waited that left because S had sent the same.
    pub equal: Vec<Ticks>,
    /// The same of those that left by a checkpoint.
    pub committed: Vec<Ticks>,
    /// Most P that waited at a time.
    pub held_most: u64,
    /// P that waited at the end.
    pub held_at_end: usize,
    /// Use of each rule.
    pub uses: Vec<(String, u64)>,
}

impl Outcome {
    /// All checkpoints.
    pub fn count(&self) -> u64 {
        self.checkpoints.values().sum()
    }
}

/// What is known of a connection of P's meanwhile.
#[derive(Clone, Debug, Default)]
struct State {
    /// S's bytes below are void: P's have left by a checkpoint.
    horizon: Option<u32>,
    /// P had sent a RST by then.
    reset: bool,
    /// The end of what S has sent.
    next: Option<u32>,
    /// Ranges that S went past without having sent them.
    holes: Vec<(u32, u32)>,
    /// It has differed since the last checkpoint; at which of P's numbers, if that is known.
    differed: Option<Option<u32>>,
}

/// Sends both through a comparator.
pub fn run(
    traffic: &Traffic,
    connections: Connections,
    rules: Vec<Rule>,
    settings: Settings,
) -> Outcome {
    let mut replay = Replay::new(traffic, connections, rules, settings);
    replay.go();
    replay.finish()
}

struct Replay<'a> {
    traffic: &'a Traffic,
    connections: Connections,
    states: Vec<State>,
    datagrams: Datagrams,
    comparator: Comparator<HeapFrame>,
    settings: Settings,
    /// When the checkpoint ends that was asked for.
    planned: Option<Ticks>,
    ticked: Ticks,
    now: Ticks,
    outcome: Outcome,
}

impl<'a> Replay<'a> {
    fn new(
        traffic: &'a Traffic,
        connections: Connections,
        rules: Vec<Rule>,
        settings: Settings,
    ) -> Self {
        let limits = Limits {
            primary: settings.hold,
            secondary: settings.hold,
            history: settings.hold / HISTORY_SHARE,
            flows: settings.flows,
            timeout: settings.timeout,
            patience: PATIENCE,
            idle: IDLE,
            half_open: HALF_OPEN,
        };
        let states = connections.primaries().map(|(_, connection)| State {
            horizon: connection.begins_in_the_middle(),
            ..State::default()
        });
        Self {
            states: states.collect(),
            datagrams: Datagrams::new(traffic, settings.timeout),
            traffic,
            connections,
            comparator: Comparator::new(limits, Numbers::Translated, Policy::new(rules)),
            settings,
            planned: None,
            ticked: 0,
            now: traffic.span.0,
            outcome: Outcome::default(),
        }
    }

    /// All frames in the order of their times. What lies before the captures' common time counts as settled.
    fn go(&mut self) {
        let traffic = self.traffic;
        let (begin, end) = traffic.span;
        let later = |all: &[Sent]| all.partition_point(|sent| sent.at < begin);
        let (mut p, mut s, mut resets) =
            (later(&traffic.p), later(&traffic.s), later(&traffic.resets));
        self.settle_all(begin.saturating_sub(1));
        self.bring_again(begin.saturating_sub(1));
        loop {
            let at = |all: &'a [Sent], place: usize| all.get(place).map(|sent| sent.at);
            let (of_p, of_s) = (at(&traffic.p, p), at(&traffic.s, s));
            let of_reset = at(&traffic.resets, resets);
            let next = [of_p, of_s, of_reset].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.wait_until(next);
            if of_p == Some(next) {
                self.primary(p);
                p += 1;
            } else if of_s == Some(next) {
                self.secondary(s, next);
                s += 1;
            } else {
                let packet = &traffic.resets[resets].packet;
                self.comparator.client_reset(packet, next);
                resets += 1;
            }
        }
        self.wait_until(end);
    }

    fn finish(mut self) -> Outcome {
        self.outcome.held_at_end = self.comparator.held();
        let counts = self.comparator.counts();
        self.outcome.held_most = counts.held_max;
        self.outcome.exempt = counts.exempted;
        let uses = self.comparator.policy().uses();
        self.outcome.uses = uses.map(|(name, n)| (name.to_owned(), n)).collect();
        self.outcome
    }

    /// Does what time alone brings, up to the frames of this time.
    fn wait_until(&mut self, next: Ticks) {
        loop {
            let waits = self.comparator.oldest_primary().is_some()
                || self.comparator.oldest_secondary().is_some();
            let tick = waits.then(|| self.now.max(self.ticked) + MILLISECOND);
            let due = self.planned.into_iter().chain(tick).min();
            let Some(due) = due.filter(|due| *due <= next) else {
                break;
            };
            self.now = due;
            if self.planned == Some(due) {
                self.commit(due);
            } else {
                self.tick();
            }
        }
        self.now = next;
        if next >= self.ticked + MILLISECOND {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.ticked = self.now;
        self.comparator.age(self.now, BURST);
        self.settle(false);
        if self.planned.is_some() {
            return;
        }
        if let Some(late) = self.comparator.overdue(self.now) {
            self.differs(&late);
        } else if let Some(crowded) = self.comparator.crowding(self.now) {
            self.differs(&crowded);
        } else if self.comparator.room() < BURST && self.comparator.held() > 0 {
            let full = Divergence::without_frames(Reason::HoldFull, self.now);
            self.differs(&full);
        }
    }

    /// Takes in a P.
    fn primary(&mut self, place: usize) {
        let sent = &self.traffic.p[place];
        self.outcome.taken += 1;
        match self.connections.of_primary(place) {
            None => self.datagrams.primary(sent),
            Some(connection) => {
                let first = sent.packet.tcp.seq;
                let range = (first, first.wrapping_add(sent.packet.sequence_len()));
                let state = &self.states[connection];
                // S went past it, and will not send it.
                if state.holes.iter().any(|hole| edit::meet(*hole, range)) {
                    self.witness(sent.bytes.clone());
                }
            }
        }
        let mut frame = HeapFrame::new(&sent.bytes);
        while let Err(back) = self.comparator.primary(frame, self.now) {
            // The guest would have to wait here for the checkpoint that makes room.
            if self.planned.is_none() {
                let full = Divergence::without_frames(Reason::HoldFull, self.now);
                self.differs(&full);
            }
            self.commit(self.now);
            frame = back;
        }
        self.settle(false);
    }

    /// Takes in an S that was sent at its time, and comes now.
    fn secondary(&mut self, place: usize, now: Ticks) {
        self.now = now;
        let sent = &self.traffic.s[place];
        self.outcome.witnessed += 1;
        if sent.packet.kind != Kind::Tcp {
            if self.datagrams.secondary(place, sent) {
                self.witness(sent.bytes.clone());
            }
            return;
        }
        let Some(by) = self.connections.place(place, sent) else {
            self.outcome.strange += 1;
            return;
        };
        let packet = &sent.packet;
        let state = &mut self.states[by.connection];
        if packet.tcp.flags.contains(TcpFlags::RST) && state.reset {
            return;
        }
        let seq = packet.tcp.seq.wrapping_add(by.seq);
        let end = seq.wrapping_add(packet.sequence_len());
        let hole = state.next.filter(|next| before(*next, seq));
        if !packet.tcp.flags.contains(TcpFlags::RST) {
            state.next = Some(state.next.map_or(end, |next| serial::max(next, end)));
            if let Some(from) = hole {
                self.fill(by.connection, (from, seq));
            }
        }
        let horizon = self.states[by.connection].horizon;
        let rest = Rest::behind(horizon, seq, packet);
        if rest == Rest::Nothing && packet.tcp.flags.contains(TcpFlags::SYN) {
            // Without its SYN it would be a segment with options that no other has.
            return;
        }
        let bytes = edit::moved(sent, by, rest, horizon.unwrap_or(seq));
        self.witness(bytes);
    }

    fn witness(&mut self, bytes: Vec<u8>) {
        self.comparator.secondary(HeapFrame::new(&bytes), self.now);
        self.settle(false);
    }

    /// S goes on behind bytes that it has not sent: a checkpoint of the pair that was captured made its state P's, or
    /// the capture has lost them. They count as equal.
    fn fill(&mut self, connection: usize, hole: (u32, u32)) {
        self.outcome.passed_over += u64::from(hole.1.wrapping_sub(hole.0));
        self.states[connection].holes.push(hole);
        let traffic = self.traffic;
        let frames = &self.connections.primary(connection).frames;
        let sent = frames.iter().map(|place| &traffic.p[*place]);
        let begin = traffic.span.0;
        let missing = sent.filter(|sent| {
            let first = sent.packet.tcp.seq;
            let range = (first, first.wrapping_add(sent.packet.sequence_len()));
            (begin..=self.now).contains(&sent.at) && edit::meet(range, hole)
        });
        let missing: Vec<Vec<u8>> = missing.map(|sent| sent.bytes.clone()).collect();
        for bytes in missing {
            self.witness(bytes);
        }
    }

    /// Takes out what may leave and what was found.
    fn settle(&mut self, by_commit: bool) {
        while self.comparator.next_synchronized().is_some() {}
        while let Some(release) = self.comparator.next_release() {
            let waited = release.cleared.saturating_sub(release.arrived);
            match by_commit {
                true => self.outcome.committed.push(waited),
                false => self.outcome.equal.push(waited),
            }
        }
        if let Some(found) = self.comparator.take_divergence() {
            self.differs(&found);
        }
    }

    fn differs(&mut self, found: &Divergence<HeapFrame>) {
        let asks = self.planned.is_none();
        if asks {
            self.planned = Some(self.now + self.settings.checkpoint);
            *self.outcome.checkpoints.entry(found.reason).or_default() += 1;
        }
        if let Some(flow) = &found.flow
            && let Some(connection) = self.connections.current(flow, self.now)
        {
            let number = |offset| self.connections.number(connection, offset);
            let number = found.stream_offset.and_then(number);
            self.states[connection].differed.get_or_insert(number);
        }
        let window = |side: &Option<(HeapFrame, usize)>| {
            let (frame, at) = side.as_ref()?;
            let packet = Packet::parse(frame.head(), frame.len());
            let lead = WINDOW.0.min(at.saturating_sub(packet.payload.into()));
            Some(Window {
                at: *at,
                lead,
                bytes: window(frame, *at, lead, WINDOW.1),
            })
        };
        self.outcome.differences.push(Difference {
            at: self.now,
            reason: found.reason,
            flow: found.flow,
            offset: found.stream_offset,
            windows: [window(&found.primary), window(&found.secondary)],
            asks,
        });
    }

    /// The checkpoint is over: all that waits leaves, and both VMs are the same.
    fn commit(&mut self, at: Ticks) {
        self.planned = None;
        self.comparator.fence();
        self.comparator.commit(at);
        self.settle(true);
        self.settle_all(at);
        self.bring_again(at);
    }

    /// What P has sent by that time has left, so that S's copies of it are void.
    fn settle_all(&mut self, at: Ticks) {
        for (place, state) in self.states.iter_mut().enumerate() {
            let connection = self.connections.primary(place);
            let Some(end) = connection.end(at) else {
                continue;
            };
            state.reset = connection.was_reset(at);
            state.horizon = Some(state.horizon.map_or(end, |known| serial::max(known, end)));
            state.next = Some(state.next.map_or(end, |known| serial::max(known, end)));
            state.holes.clear();
            if let Some(number) = state.differed.take() {
                self.connections.align(self.traffic, place, end, number);
            }
        }
    }

    /// What S had sent before that time for what P sends behind it still counts.
    fn bring_again(&mut self, at: Ticks) {
        let traffic = self.traffic;
        let since = at.saturating_sub(self.settings.timeout);
        let first = traffic.s.partition_point(|sent| sent.at <= since);
        let last = traffic.s.partition_point(|sent| sent.at <= at);
        let early = self.datagrams.commit(at);
        self.now = at;
        for place in first..last {
            let sent = &traffic.s[place];
            if sent.packet.kind != Kind::Tcp {
                if early.contains(&place) {
                    self.datagrams.bring_again(place, sent);
                    self.witness(sent.bytes.clone());
                }
                continue;
            }
            let placed = self.connections.place(place, sent);
            let goes_on = placed.is_some_and(|by| {
                let connection = self.connections.primary(by.connection);
                connection.ends > at
            });
            if goes_on {
                self.outcome.witnessed -= u64::from(sent.at >= traffic.span.0);
                self.secondary(place, at);
            }
        }
    }
}
