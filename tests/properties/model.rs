//! What may leave, decided the slow and obvious way: from everything that both VMs have sent.
//!
//! The model shares no code with the comparison and no sequence arithmetic: positions count from
//! the first byte of a connection's stream, acknowledgments from the client's first byte.

use std::collections::VecDeque;

/// A segment by what it means.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Which connection of the flow.
    pub incarnation: usize,
    /// Position of the first byte; a SYN stands at 0 like the byte after it.
    pub at: u32,
    pub data: Vec<u8>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// Bytes of the client that are acknowledged.
    pub ack: Option<u32>,
    /// Each segment of its connection carries a signature (TCP-MD5, TCP-AO), so none may be changed.
    pub signed: bool,
}

impl Segment {
    pub fn end(&self) -> u32 {
        self.at + self.data.len() as u32
    }

    /// Its fields as text.
    pub fn describe(&self) -> String {
        let bits = [(self.syn, " SYN"), (self.fin, " FIN"), (self.rst, " RST")];
        let bits: String = bits.iter().filter(|b| b.0).map(|b| b.1).collect();
        let (at, end, data) = (self.at, self.end(), &self.data);
        let i = self.incarnation;
        format!("#{i}{bits} {at}..{end} ack {:?} {data:x?}", self.ack)
    }

    /// Says no more than that the client's bytes have come.
    pub fn is_bare_ack(&self) -> bool {
        self.data.is_empty() && self.ack.is_some() && !self.syn && !self.fin && !self.rst
    }
}

/// What the S of a connection say together in one epoch.
#[derive(Default)]
struct Said {
    /// The values of each byte of the stream, each once.
    bytes: Vec<Vec<u8>>,
    syn: bool,
    /// Where FIN and RST stand.
    fins: Vec<u32>,
    resets: Vec<u32>,
    /// Most that they acknowledge.
    ack: Option<u32>,
}

impl Said {
    fn add(&mut self, s: &Segment) {
        if !s.data.is_empty() && self.bytes.len() < s.end() as usize {
            self.bytes.resize(s.end() as usize, Vec::new());
        }
        for (position, byte) in (s.at as usize..).zip(&s.data) {
            if !self.bytes[position].contains(byte) {
                self.bytes[position].push(*byte);
            }
        }
        self.syn |= s.syn;
        if s.fin {
            self.fins.push(s.end());
        }
        if s.rst {
            self.resets.push(s.at);
        }
        self.ack = self.ack.max(s.ack);
    }

    fn has_byte(&self, position: u32, byte: u8) -> bool {
        let values = self.bytes.get(position as usize);
        values.is_some_and(|values| values.contains(&byte))
    }
}

/// What a frame is to the model.
#[derive(Clone, Debug)]
pub enum Meaning {
    Tcp(Segment),
    /// Content that some S of the flow must repeat.
    Datagram(Vec<u8>),
    /// Nothing can witness it: it leaves with a commit.
    Unreadable,
    /// The model does not know what it says.
    Unknown,
}

/// One connection of a flow.
#[derive(Default)]
struct Connection {
    /// By the S of this epoch.
    said: Said,
    /// Bytes that have left.
    left: Vec<Option<u8>>,
    syn_left: bool,
    fin_left: Option<u32>,
    rst_left: Vec<(u32, Option<u32>)>,
    /// Most that has been acknowledged to the client, and at the last commit.
    ack_left: Option<u32>,
    ack_committed: Option<u32>,
    /// Highest time stamp that has left.
    clock: Option<u32>,
}

/// What may be read off a frame that leaves, beside its meaning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    /// By how much its sequence number is lower than what the VM sent.
    pub lowered: u32,
    /// The TSval that the VM sent, and the one that leaves.
    pub stamps: Option<(u32, u32)>,
}

impl Connection {
    /// Every sequence number of it has left, and it has some.
    fn is_retransmission(&self, p: &Segment) -> bool {
        let known = |position| matches!(self.left.get(position as usize), Some(Some(_)));
        (!p.data.is_empty() || p.fin)
            && !p.rst
            && (p.at..p.end()).all(known)
            && (!p.fin || self.fin_left == Some(p.end()))
            && (!p.syn || self.syn_left)
    }

    /// The first of a segment's sequence numbers that has not left, behind the SYN.
    fn unleft(&self, p: &Segment) -> Option<u32> {
        let gone = |position: &u32| matches!(self.left.get(*position as usize), Some(Some(_)));
        (p.at..p.end())
            .find(|position| !gone(position))
            .or_else(|| {
                let end = p.end();
                (p.fin && self.fin_left != Some(end)).then_some(end)
            })
    }

    /// One behind the last sequence number that has left.
    fn top(&self) -> u32 {
        let bytes = self.left.len() as u32;
        self.fin_left.map_or(bytes, |fin| bytes.max(fin + 1))
    }

    fn acknowledges_too_much(&self, p: &Segment) -> Option<String> {
        let gate = self.said.ack.max(self.ack_committed);
        (p.ack > gate).then(|| format!("acknowledges {:?}, the SVM {gate:?}", p.ack))
    }

    /// Whether the TSval may leave; no older one may afterwards.
    fn stamp(&mut self, p: &Segment, sent: u32, left: u32) -> Result<(), String> {
        let later = |a: u32, b: u32| (a.wrapping_sub(b) as i32) > 0;
        let floor = self.clock.filter(|floor| later(*floor, sent));
        let expected = floor.unwrap_or(sent);
        // Of a SYN that comes again nobody needs the time, and the rewriter knows the first one's.
        if left != expected && !(p.syn && left == sent) {
            return Err(format!(
                "TSval {sent:#x} leaves as {left:#x}, not {expected:#x}"
            ));
        }
        if self.clock.is_none_or(|clock| later(left, clock)) {
            self.clock = Some(left);
        }
        Ok(())
    }

    fn violation(&self, p: &Segment) -> Option<String> {
        let said = &self.said;
        for (position, &byte) in (p.at..).zip(&p.data) {
            let before = self.left.get(position as usize).copied().flatten();
            if before.is_some_and(|b| b != byte) {
                return Some(format!("byte {position} leaves again with another value"));
            }
            if before.is_none() && !said.has_byte(position, byte) {
                return Some(format!("byte {position} is not what the SVM sent"));
            }
        }
        if p.syn && !self.syn_left && !said.syn {
            return Some("SYN without the SVM's".into());
        }
        let end = p.end();
        if p.fin && self.fin_left != Some(end) && !said.fins.contains(&end) {
            return Some("FIN without the SVM's".into());
        }
        let again = self.rst_left.contains(&(p.at, p.ack));
        if p.rst && !again && !said.resets.contains(&p.at) {
            return Some("RST without the SVM's".into());
        }
        self.acknowledges_too_much(p)
    }

    fn leave(&mut self, p: &Segment) {
        if !p.data.is_empty() && self.left.len() < p.end() as usize {
            self.left.resize(p.end() as usize, None);
        }
        for (position, &byte) in (p.at..).zip(&p.data) {
            self.left[position as usize] = Some(byte);
        }
        self.syn_left |= p.syn;
        if p.fin {
            self.fin_left = Some(p.end());
        }
        if p.rst {
            self.rst_left.push((p.at, p.ack));
        }
        self.ack_left = self.ack_left.max(p.ack);
    }
}

/// A P that has not left, or the rest of it.
struct Waiting {
    number: usize,
    meaning: Meaning,
}

/// One flow of one VM pair.
#[derive(Default)]
pub struct Flow {
    connections: Vec<Connection>,
    /// S of this epoch that no P has used up.
    datagrams: Vec<Vec<u8>>,
    /// P that have not left, in the PVM's order.
    waiting: VecDeque<Waiting>,
    /// A difference was reported in this epoch.
    pub diverged: bool,
    /// Between a fence and its commit.
    suspended: bool,
    /// The comparator may have forgotten the connection, and with it how far it has got.
    pub is_forgetful: bool,
    /// P that left before others of their connection, by what they are.
    pub overtook: Overtook,
    /// More P have waited than may overtake.
    is_crowded: bool,
}

/// How many P overtook others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overtook {
    pub retransmissions: usize,
    pub parts: usize,
    pub acks: usize,
}

/// How many P that may overtake the comparator keeps in mind: the latest.
const LOOKED_AT: usize = 64;

impl Flow {
    fn connection(&mut self, incarnation: usize) -> &mut Connection {
        while self.connections.len() <= incarnation {
            self.connections.push(Connection::default());
        }
        &mut self.connections[incarnation]
    }

    pub fn primary(&mut self, number: usize, meaning: &Meaning) {
        let meaning = meaning.clone();
        self.waiting.push_back(Waiting { number, meaning });
        self.is_crowded |= self.waiting.len() > LOOKED_AT;
    }

    pub fn secondary(&mut self, meaning: &Meaning) {
        match meaning {
            Meaning::Tcp(s) => self.connection(s.incarnation).said.add(s),
            Meaning::Datagram(content) => self.datagrams.push(content.clone()),
            Meaning::Unreadable | Meaning::Unknown => {}
        }
    }

    /// Whether a P may leave before those that came before it.
    fn may_overtake(&self, index: usize, p: &Segment) -> Result<(), String> {
        let first = self.waiting.front().map(|w| w.number);
        let Some(connection) = self.connections.get(p.incarnation) else {
            return Err(format!("{first:?} should leave first"));
        };
        if p.signed {
            return Err(format!("signed, and {first:?} should leave first"));
        }
        if !p.is_bare_ack() && !connection.is_retransmission(p) {
            return Err(format!("it is new, and {first:?} should leave first"));
        }
        for before in self.waiting.iter().take(index) {
            let Meaning::Tcp(other) = &before.meaning else {
                return Err(format!("{} is no segment and is overtaken", before.number));
            };
            if other.incarnation != p.incarnation || other.syn && !connection.syn_left {
                return Err(format!("overtakes {}, which opens", before.number));
            }
        }
        Ok(())
    }

    /// Whether a bare acknowledgment may leave with a sequence number so much lower.
    fn may_lower(&self, index: usize, p: &Segment, lowered: u32) -> Result<(), String> {
        let Some(at) = p.at.checked_sub(lowered) else {
            return Err(format!("its sequence number is {lowered} lower"));
        };
        let connection = &self.connections[p.incarnation];
        let held = self.waiting.iter().take(index);
        let unleft = held
            .filter_map(|w| match &w.meaning {
                Meaning::Tcp(p) => connection.unleft(p),
                _ => None,
            })
            .min()
            .filter(|_| p.is_bare_ack());
        let lowest = unleft.map_or(p.at, |unleft| unleft.min(p.at));
        // Where the PVM sends out of order, there are bytes that have not left below some that have.
        let top = unleft.map_or(p.at, |_| connection.top().min(p.at));
        // Or the first of those that are new lies behind a gap.
        let first_new = self
            .waiting
            .iter()
            .take(index)
            .find_map(|w| match &w.meaning {
                Meaning::Tcp(held)
                    if held.end() + u32::from(held.fin) > top && !held.is_bare_ack() =>
                {
                    Some(held.at.max(top).min(p.at))
                }
                _ => None,
            });
        if at == lowest
            || self.is_forgetful && p.is_bare_ack() && at < lowest.max(top)
            || at == top && (at != 0 || connection.syn_left)
            || at == first_new.unwrap_or(p.at)
        {
            return Ok(());
        }
        Err(format!("leaves at {at}, sent at {}, not at {lowest}", p.at))
    }

    /// Whether a P, or the first part of it with a rest that stays, may leave now; `committed` when
    /// a commit covers it.
    pub fn leave(
        &mut self,
        number: usize,
        meaning: &Meaning,
        rest: Option<Meaning>,
        wire: Wire,
        committed: bool,
    ) -> Result<(), String> {
        let Some(index) = self.waiting.iter().position(|w| w.number == number) else {
            return Err("does not wait".into());
        };
        if committed && index > 0 {
            return Err("not in the PVM's order at a commit".into());
        }
        if self.diverged && !committed {
            return Err("leaves after a difference".into());
        }
        if self.suspended && !committed {
            return Err("leaves between fence and commit".into());
        }
        if let Meaning::Tcp(p) = meaning {
            self.connection(p.incarnation);
            if index > 0 {
                self.may_overtake(index, p)?;
                self.overtook.parts += usize::from(rest.is_some());
                self.overtook.acks += usize::from(p.data.is_empty());
                self.overtook.retransmissions += usize::from(!p.data.is_empty());
            }
            self.may_lower(index, p, wire.lowered)?;
        } else if index > 0 && !matches!(meaning, Meaning::Unknown) {
            return Err(format!("{:?} should leave first", self.waiting[0].number));
        }
        match rest {
            Some(rest) => self.waiting[index].meaning = rest,
            None => drop(self.waiting.remove(index)),
        }
        self.is_crowded &= !self.waiting.is_empty();
        match meaning {
            Meaning::Tcp(p) => {
                let connection = self.connection(p.incarnation);
                if let Some(violation) = connection.violation(p).filter(|_| !committed) {
                    return Err(violation);
                }
                if let Some((sent, left)) = wire.stamps {
                    connection.stamp(p, sent, left)?;
                }
                connection.leave(p);
            }
            Meaning::Datagram(content) if !committed => {
                match self.datagrams.iter().position(|s| s == content) {
                    Some(i) => drop(self.datagrams.swap_remove(i)),
                    None => return Err("datagram that the SVM did not send".into()),
                }
            }
            Meaning::Unreadable if !committed => return Err("unreadable, yet it leaves".into()),
            _ => {}
        }
        Ok(())
    }

    /// A P that should have left: the oldest, or one that may overtake. It holds where history is
    /// ample and the PVM's acknowledgments only rise.
    pub fn lingers(&self) -> Option<String> {
        if self.diverged || self.suspended {
            return None;
        }
        let looked_at = if self.waiting.len() > LOOKED_AT {
            1
        } else {
            LOOKED_AT
        };
        for (index, waiting) in self.waiting.iter().take(looked_at).enumerate() {
            let Meaning::Tcp(p) = &waiting.meaning else {
                return None;
            };
            let connection = self.connections.get(p.incarnation)?;
            // Where nothing has left in sight, the number of a bare acknowledgment is not known.
            let known = connection.top() > 0 || connection.syn_left;
            let free = index == 0 || known && self.may_overtake(index, p).is_ok();
            if free && connection.violation(p).is_none() {
                let number = waiting.number;
                return Some(format!("P {number}, the {index}th, may leave: {p:?}"));
            }
        }
        None
    }

    pub fn syn_has_left(&self, incarnation: usize) -> bool {
        let connection = self.connections.get(incarnation);
        connection.is_some_and(|c| c.syn_left)
    }

    /// What the SVM has sent is void.
    pub fn fence(&mut self) {
        self.suspended = true;
        self.datagrams.clear();
        for connection in &mut self.connections {
            connection.said = Said::default();
        }
    }

    /// The SVM's state is the PVM's.
    pub fn commit(&mut self) {
        (self.diverged, self.suspended) = (false, false);
        for connection in &mut self.connections {
            connection.ack_committed = connection.ack_left;
        }
    }
}
