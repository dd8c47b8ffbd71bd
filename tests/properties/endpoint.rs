//! The ends of a TCP connection over a network that loses: a VM, which repeats what is lost in the
//! ways of real stacks, and its client.
//!
//! Positions count from the first byte of a stream; a FIN takes the position behind the last one.

use colo_testkit::rng::Rng;

use crate::model::Segment;

/// How a VM sends.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Largest segment. Both VMs agree on it, and have at least one of that size in flight.
    pub mss: usize,
    /// Largest frame that is to be cut into segments; 0 for none.
    pub long: usize,
    /// Most bytes in flight, whatever was acknowledged, and at the beginning.
    pub most: u32,
    pub begin: u32,
    /// Time until a retransmission at first.
    pub rto: u64,
    /// Longest delay of an acknowledgment.
    pub delay: usize,
    /// One turn in this many repeats something for no reason.
    pub spurious: usize,
    /// A probe of a closed window has a byte of data (RFC 9293, 3.8.6.1); else it is a bare
    /// acknowledgment below what is expected, as Linux sends it.
    pub byte_probes: bool,
}

impl Habits {
    pub fn random(rng: &mut Rng, mss: usize, long: bool) -> Self {
        let most = [mss, 2 * mss, 60, 400][rng.below(4)] as u32;
        Self {
            mss,
            long: if long { mss * rng.between(2, 6) } else { 0 },
            most,
            begin: most.min([mss, 3 * mss, 400][rng.below(3)] as u32),
            rto: rng.between(6, 40) as u64,
            delay: [0, 2, 8][rng.below(3)],
            spurious: [20, 60, usize::MAX][rng.below(3)],
            byte_probes: rng.one_in(2),
        }
    }
}

/// What a client says.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Bytes of the VM's that it has, and ranges beyond.
    pub ack: u32,
    pub sacks: Vec<(u32, u32)>,
    pub window: u32,
    /// Its own bytes.
    pub at: u32,
    pub len: u32,
}

/// Which positions are known.
#[derive(Clone, Debug, Default)]
struct Known(Vec<bool>);

impl Known {
    fn add(&mut self, from: u32, to: u32) {
        let to = to as usize;
        if self.0.len() < to {
            self.0.resize(to, false);
        }
        if (from as usize) < to {
            self.0[from as usize..to].fill(true);
        }
    }

    fn has(&self, at: u32) -> bool {
        self.0.get(at as usize).copied().unwrap_or(false)
    }

    /// The first position from `at` on that is not known.
    fn gap(&self, at: u32) -> u32 {
        (at..).find(|at| !self.has(*at)).unwrap_or(at)
    }

    /// The first position from `at` on that is known, at most `most`.
    fn next(&self, at: u32, most: u32) -> u32 {
        (at..most).find(|at| self.has(*at)).unwrap_or(most)
    }

    fn forget_from(&mut self, at: u32) {
        self.0.truncate(at as usize);
    }
}

/// A VM's end.
#[derive(Clone, Debug)]
pub struct Vm {
    pub habits: Habits,
    pub stream: Vec<u8>,
    fin: bool,
    una: u32,
    /// What is sent next, below `top` after a timeout, and one behind all that was ever sent.
    next: u32,
    top: u32,
    congestion: u32,
    edge: u32,
    sacked: Known,
    duplicates: u32,
    /// Until which position a recovery goes, and what it repeats next.
    recover: Option<u32>,
    repair: Option<u32>,
    repeat_at: u64,
    tries: u32,
    client: Known,
    received: u32,
    acknowledge_at: Option<u64>,
}

impl Vm {
    pub fn new(habits: Habits, stream: Vec<u8>, fin: bool) -> Self {
        Self {
            congestion: habits.begin,
            habits,
            stream,
            fin,
            una: 0,
            next: 0,
            top: 0,
            edge: 64,
            sacked: Known::default(),
            duplicates: 0,
            recover: None,
            repair: None,
            repeat_at: 0,
            tries: 0,
            client: Known::default(),
            received: 0,
            acknowledge_at: None,
        }
    }

    /// The same state on another machine, with its own habits.
    pub fn loaded_by(&self, habits: &Habits) -> Self {
        Self {
            congestion: habits.begin,
            habits: habits.clone(),
            ..self.clone()
        }
    }

    fn len(&self) -> u32 {
        self.stream.len() as u32
    }

    fn end(&self) -> u32 {
        self.len() + u32::from(self.fin)
    }

    /// Everything has been acknowledged, and nothing is to be.
    pub fn is_done(&self) -> bool {
        self.una == self.end() && self.acknowledge_at.is_none()
    }

    /// Its state as text.
    pub fn describe(&self) -> String {
        let Self {
            una,
            next,
            top,
            edge,
            congestion,
            received,
            acknowledge_at,
            ..
        } = self;
        format!(
            "una {una}, next {next}, top {top}, edge {edge}, congestion {congestion}, received {received}, \
             acknowledges at {acknowledge_at:?}"
        )
    }

    /// One behind all that was sent.
    pub fn top(&self) -> u32 {
        self.top
    }

    pub fn hear(&mut self, rng: &mut Rng, answer: &Answer, now: u64) {
        let edge = answer.ack + answer.window;
        if answer.ack > self.una {
            let grown = self.congestion + (answer.ack - self.una);
            self.congestion = grown.min(self.habits.most);
            self.una = answer.ack;
            // A VM that was loaded may be behind the client.
            self.top = self.top.max(self.una);
            self.next = self.next.max(self.una);
            (self.duplicates, self.tries) = (0, 0);
            self.repeat_at = now + self.habits.rto;
            match self.recover {
                Some(recover) if self.una < recover => self.repair = Some(self.una),
                _ => (self.recover, self.repair) = (None, None),
            }
        } else if answer.len == 0 && edge == self.edge && self.una < self.top {
            self.duplicates += 1;
            if self.duplicates == 3 && self.recover.is_none() {
                self.recover = Some(self.top);
                self.repair = Some(self.una);
                self.congestion = (self.congestion / 2).max(self.habits.mss as u32);
            }
        }
        self.edge = edge;
        for (from, to) in &answer.sacks {
            self.sacked.add(*from, *to);
        }
        if answer.len > 0 {
            let in_order = answer.at <= self.received;
            self.client.add(answer.at, answer.at + answer.len);
            self.received = self.client.gap(self.received);
            let delay = if in_order {
                rng.below(self.habits.delay + 1) as u64
            } else {
                0
            };
            let due = self.acknowledge_at.unwrap_or(u64::MAX).min(now + delay);
            self.acknowledge_at = Some(due);
        }
    }

    fn segment(&self, at: u32, size: usize) -> Segment {
        let from = at.min(self.len()) as usize;
        let to = (from + size).min(self.stream.len());
        Segment {
            at,
            data: self.stream[from..to].to_vec(),
            ack: Some(self.received),
            ..Segment::default()
        }
    }

    fn size(&self, rng: &mut Rng) -> usize {
        let largest = match self.habits.long {
            0 => self.habits.mss,
            long if rng.one_in(2) => long,
            _ => self.habits.mss,
        };
        if rng.one_in(3) {
            largest
        } else {
            rng.between(1, largest)
        }
    }

    /// What it sends now, at most about `most` segments.
    pub fn speak(&mut self, rng: &mut Rng, now: u64, most: usize) -> Vec<Segment> {
        let mut said = Vec::new();
        if self.una < self.top && now >= self.repeat_at {
            self.next = self.una;
            self.congestion = self.habits.mss as u32;
            self.tries = (self.tries + 1).min(3);
            self.repeat_at = now + (self.habits.rto << self.tries);
            self.sacked.0.clear();
            (self.recover, self.repair, self.duplicates) = (None, None, 0);
        }
        let idle = self.una == self.top && self.top < self.len();
        if idle && self.edge <= self.top && now >= self.repeat_at {
            self.repeat_at = now + self.habits.rto;
            if self.habits.byte_probes || self.top == 0 {
                said.push(self.segment(self.top, 1));
                self.top += 1;
                self.next = self.top;
            } else {
                said.push(self.segment(self.top - 1, 0));
            }
        }
        if let Some(at) = self.repair.take() {
            self.repair_hole(rng, at, &mut said);
        }
        if self.top > 0 && rng.one_in(self.habits.spurious) {
            let from = rng.below(self.top as usize);
            let size = rng.between(1, self.top as usize - from);
            let mut again = self.segment(from as u32, size.min(self.size(rng)));
            again.fin =
                self.fin && self.top > self.len() && again.end() == self.len() && rng.one_in(2);
            if !again.data.is_empty() {
                said.push(again);
            }
        }
        while said.len() < most {
            while self.next < self.top && self.sacked.has(self.next) {
                self.next += 1;
            }
            let at = self.next;
            let new = at >= self.top && at >= self.edge;
            // Congestion holds back data, and not a FIN alone, as in Linux (tcp_cwnd_test).
            let is_held_back = at - self.una >= self.congestion && at < self.len();
            if at >= self.end() || new || is_held_back {
                break;
            }
            let mut segment = self.segment(at, self.size(rng));
            segment.fin = self.fin
                && segment.end() == self.len()
                && (segment.data.is_empty() || !rng.one_in(3));
            if self.una == self.top {
                self.repeat_at = now + self.habits.rto;
            }
            self.next = segment.end() + u32::from(segment.fin);
            self.top = self.top.max(self.next);
            said.push(segment);
        }
        if said.is_empty() && self.acknowledge_at.is_some_and(|due| due <= now) {
            said.push(self.segment(self.top, 0));
        }
        if !said.is_empty() {
            self.acknowledge_at = None;
        }
        said
    }

    /// Repeats what lies from `at` to the next range that the client has.
    fn repair_hole(&mut self, rng: &mut Rng, at: u32, said: &mut Vec<Segment>) {
        let hole = self.sacked.next(at, self.top) - at;
        let segment = self.segment(at, self.size(rng).min(hole as usize));
        let end = segment.end();
        if segment.data.is_empty() {
            return;
        }
        said.push(segment);
        let next = self.sacked.gap(end);
        let known = self.sacked.0.len() as u32;
        self.repair = (next < known && self.recover.is_some()).then_some(next);
    }
}

/// The client's end.
#[derive(Clone, Debug)]
pub struct Client {
    have: Known,
    received: u32,
    /// Bytes for which it has room beyond what it has, and until when it has none.
    room: u32,
    closed_until: u64,
    /// What it sends, in bytes.
    total: u32,
    una: u32,
    next: u32,
    repeat_at: u64,
    mss: usize,
    acknowledge: usize,
    reneges: bool,
}

impl Client {
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            have: Known::default(),
            received: 0,
            room: [30, 200, 1_000][rng.below(3)],
            closed_until: 0,
            total: [0, 0, 30, 200][rng.below(4)],
            una: 0,
            next: 0,
            repeat_at: 0,
            mss: rng.between(1, 40),
            acknowledge: 0,
            reneges: rng.one_in(6),
        }
    }

    /// Bytes that it has without a gap.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// It has all bytes up to `end`, and all that it sends was acknowledged.
    pub fn is_done(&self, end: u32) -> bool {
        self.received == end && self.una == self.total && self.acknowledge == 0
    }

    /// Takes no more bytes for a while.
    pub fn close_window(&mut self, until: u64) {
        self.closed_until = until;
        self.acknowledge += 1;
    }

    pub fn hear(&mut self, rng: &mut Rng, segment: &Segment, lowered: u32, now: u64) {
        self.una = self.una.max(segment.ack.unwrap_or(0));
        self.next = self.next.max(self.una);
        let at = segment.at - lowered;
        let last = segment.end() + u32::from(segment.fin);
        let sent_something = last > segment.at;
        if !sent_something && at >= self.received {
            return;
        }
        let before = self.received;
        if now >= self.closed_until {
            let edge = self.received + self.room;
            self.have.add(segment.at, last.min(edge).max(segment.at));
            self.received = self.have.gap(self.received);
        }
        if self.reneges && rng.one_in(20) {
            self.have.forget_from(self.received);
        }
        // One acknowledgment at once for each segment out of order, or for every other one.
        if self.received == before || self.acknowledge > 0 || rng.one_in(2) {
            self.acknowledge += 1;
        }
    }

    fn answer(&self, len: u32, at: u32, now: u64) -> Answer {
        let mut sacks = Vec::new();
        let known = self.have.0.len() as u32;
        let mut from = self.have.next(self.received, known);
        while from < known && sacks.len() < 3 {
            let to = self.have.gap(from);
            sacks.push((from, to));
            from = self.have.next(to, known);
        }
        Answer {
            ack: self.received,
            sacks,
            window: if now < self.closed_until {
                0
            } else {
                self.room
            },
            at,
            len,
        }
    }

    /// What it sends now. `idle`: nothing else happens, so that what it still owes is sent.
    pub fn speak(&mut self, rng: &mut Rng, now: u64, idle: bool) -> Vec<Answer> {
        let mut said = Vec::new();
        if self.una < self.next && now >= self.repeat_at {
            self.next = self.una;
            self.repeat_at = now + 30;
        }
        if self.next < self.total && self.next - self.una < 60 && rng.one_in(4) {
            if self.next == self.una {
                self.repeat_at = now + 30;
            }
            let len = rng
                .between(1, self.mss)
                .min((self.total - self.next) as usize) as u32;
            said.push(self.answer(len, self.next, now));
            self.next += len;
        }
        for _ in 0..std::mem::take(&mut self.acknowledge) {
            said.push(self.answer(0, self.next, now));
        }
        if self.closed_until == now || idle {
            said.push(self.answer(0, self.next, now));
        }
        said
    }
}
