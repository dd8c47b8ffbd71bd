//! Which connection of P's a segment of S belongs to, and where its bytes stand in P's numbers.
//!
//! A segment of S has S's own numbers, which lie behind P's by the difference of both SYNs, or P's numbers, since a
//! checkpoint of a pair made S's VM P's. VMs that were the same once choose numbers that lie close together, so that
//! what the segments say decides ([`Connections::taken_over`]). Behind a difference the bytes are aligned anew by
//! content, too ([`Connections::align`]).

use std::collections::HashMap;

use dpdk_colo::Ticks;
use dpdk_colo::flow::FlowKey;
use dpdk_colo::packet::serial::{self, at_or_before, before, distance};
use dpdk_colo::packet::{Kind, TcpFlags};

use super::traffic::{Sent, Traffic};

/// Farther from what P sends, no segment of S belongs to the same connection.
const NEAR: u32 = 1 << 28;
/// How far S may be shifted against P by answers of different length.
const SHIFT: u32 = 1 << 15;
/// Bytes that must be equal for both streams to count as aligned.
const ANCHOR: usize = 32;
/// Anchors of P's stream that are looked for: the bytes behind a difference may differ, too.
const ANCHORS: usize = 32;
/// Bytes of a segment by which its numbers are known.
const LOOK: usize = 64;

/// One connection of P's.
#[derive(Clone, Debug)]
pub struct Primary {
    isn: Option<u32>,
    /// The first acknowledgment number: what the client's numbers count from.
    base: Option<u32>,
    /// When its first segment came.
    pub begins: Ticks,
    /// When its last one came.
    pub ends: Ticks,
    /// The lowest number, for a connection that began before the capture.
    low: u32,
    /// The end of what was sent, as it grew.
    ends_at: Vec<(Ticks, u32)>,
    /// Its frames, by their places.
    pub frames: Vec<usize>,
    /// When its first RST came.
    reset: Option<Ticks>,
}

impl Primary {
    /// The first number where the capture does not show the SYN.
    pub fn begins_in_the_middle(&self) -> Option<u32> {
        self.isn.is_none().then_some(self.low)
    }

    /// The end of what was sent up to a time.
    pub fn end(&self, at: Ticks) -> Option<u32> {
        let past = self.ends_at.partition_point(|(since, _)| *since <= at);
        Some(self.ends_at.get(past.checked_sub(1)?)?.1)
    }

    /// Whether it had sent a RST by that time.
    pub fn was_reset(&self, at: Ticks) -> bool {
        self.reset.is_some_and(|reset| reset <= at)
    }

    fn near(&self, at: Ticks) -> u32 {
        self.end(at).unwrap_or(self.low)
    }
}

/// One connection of S's by its own SYN, or before the first one.
#[derive(Clone, Debug)]
struct Secondary {
    isn: Option<u32>,
    base: Option<u32>,
    begins: Ticks,
    partner: Option<usize>,
    frames: Vec<usize>,
    /// What S's own numbers become P's by, since the last difference.
    aligned: Option<u32>,
    /// The first of its frames that has P's numbers.
    taken_over: Option<usize>,
}

/// A segment of S in P's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The connection of P's.
    pub connection: usize,
    /// What is added to its sequence number.
    pub seq: u32,
    /// What is added to its acknowledgment number.
    pub ack: u32,
}

/// All connections.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    p: Vec<Primary>,
    s: Vec<Secondary>,
    /// The connection of each of P's frames, and of S's.
    of_p: Vec<Option<usize>>,
    of_s: Vec<Option<usize>>,
    flows: HashMap<FlowKey, Vec<usize>>,
}

impl Connections {
    /// Finds the connections of both.
    pub fn new(traffic: &Traffic) -> Self {
        let mut connections = Self::default();
        for (place, sent) in traffic.p.iter().enumerate() {
            let found = is_tcp(sent).then(|| connections.add_primary(place, sent));
            connections.of_p.push(found);
        }
        let mut flows: HashMap<FlowKey, Vec<usize>> = HashMap::new();
        for (place, sent) in traffic.s.iter().enumerate() {
            let found = is_tcp(sent).then(|| {
                let known = flows.entry(sent.packet.key).or_default();
                connections.add_secondary(known, place, sent)
            });
            connections.of_s.push(found);
        }
        for (key, of_s) in flows {
            connections.pair(&key, &of_s);
        }
        for at in 0..connections.s.len() {
            connections.s[at].taken_over = connections.taken_over(traffic, at);
        }
        connections
    }

    fn add_primary(&mut self, place: usize, sent: &Sent) -> usize {
        let tcp = &sent.packet.tcp;
        let known = self.flows.entry(sent.packet.key).or_default();
        let syn = tcp.flags.contains(TcpFlags::SYN);
        let current = known.last().copied();
        let current = current.filter(|at| !syn || self.p[*at].isn == Some(tcp.seq));
        let at = current.unwrap_or_else(|| {
            known.push(self.p.len());
            self.p.push(Primary {
                isn: syn.then_some(tcp.seq),
                base: None,
                begins: sent.at,
                ends: sent.at,
                low: tcp.seq,
                ends_at: Vec::new(),
                frames: Vec::new(),
                reset: None,
            });
            self.p.len() - 1
        });
        let connection = &mut self.p[at];
        connection.ends = sent.at;
        connection.frames.push(place);
        if tcp.flags.contains(TcpFlags::ACK) {
            connection.base.get_or_insert(tcp.ack);
        }
        if tcp.flags.contains(TcpFlags::RST) {
            connection.reset.get_or_insert(sent.at);
        }
        let end = tcp.seq.wrapping_add(sent.packet.sequence_len());
        if before(tcp.seq, connection.low) && connection.isn.is_none() {
            connection.low = tcp.seq;
        }
        let last = connection.ends_at.last();
        if last.is_none_or(|(_, last)| before(*last, end)) {
            connection.ends_at.push((sent.at, end));
        }
        at
    }

    fn add_secondary(&mut self, known: &mut Vec<usize>, place: usize, sent: &Sent) -> usize {
        let tcp = &sent.packet.tcp;
        let syn = tcp.flags.contains(TcpFlags::SYN);
        let current = known.last().copied();
        let current = current.filter(|at| !syn || self.s[*at].isn == Some(tcp.seq));
        let at = current.unwrap_or_else(|| {
            known.push(self.s.len());
            self.s.push(Secondary {
                isn: syn.then_some(tcp.seq),
                base: None,
                begins: sent.at,
                partner: None,
                frames: Vec::new(),
                aligned: None,
                taken_over: None,
            });
            self.s.len() - 1
        });
        let connection = &mut self.s[at];
        connection.frames.push(place);
        if tcp.flags.contains(TcpFlags::ACK) {
            connection.base.get_or_insert(tcp.ack);
        }
        at
    }

    /// Gives each connection of S that shows its SYN the one of P that began nearest to it.
    fn pair(&mut self, key: &FlowKey, of_s: &[usize]) {
        let Some(of_p) = self.flows.get(key) else {
            return;
        };
        let mut free: Vec<usize> = of_p.clone();
        free.retain(|p| self.p[*p].isn.is_some());
        for s in of_s {
            let begins = self.s[*s].begins;
            if self.s[*s].isn.is_none() {
                continue;
            }
            let nearest = free
                .iter()
                .enumerate()
                .min_by_key(|(_, p)| self.p[**p].begins.abs_diff(begins));
            if let Some((at, p)) = nearest {
                self.s[*s].partner = Some(*p);
                free.remove(at);
            }
        }
    }

    /// A connection of P's.
    pub fn primary(&self, at: usize) -> &Primary {
        &self.p[at]
    }

    /// All connections of P's.
    pub fn primaries(&self) -> impl Iterator<Item = (usize, &Primary)> {
        self.p.iter().enumerate()
    }

    /// The connection of one of P's frames.
    pub fn of_primary(&self, place: usize) -> Option<usize> {
        self.of_p[place]
    }

    /// The latest connection of a flow of P's that has begun by that time.
    pub fn current(&self, key: &FlowKey, at: Ticks) -> Option<usize> {
        let known = self.flows.get(key)?;
        let begun = known.iter().rev().find(|c| self.p[**c].begins <= at);
        begun.or(known.first()).copied()
    }

    /// Where one of S's segments stands. Nothing where no connection of P's is known for it.
    pub fn place(&self, place: usize, sent: &Sent) -> Option<Mapped> {
        let own = &self.s[self.of_s[place]?];
        let tcp = &sent.packet.tcp;
        let by_own = own.partner.and_then(|partner| {
            let connection = &self.p[partner];
            let seq = connection.isn?.wrapping_sub(own.isn?);
            let base = connection.base.zip(own.base);
            Some(Mapped {
                connection: partner,
                seq: own.aligned.unwrap_or(seq),
                ack: base.map_or(0, |(p, s)| p.wrapping_sub(s)),
            })
        });
        if tcp.flags.contains(TcpFlags::SYN) {
            return by_own;
        }
        let by_primary = || {
            let connection = self.current(&sent.packet.key, sent.at)?;
            Some(Mapped {
                connection,
                seq: 0,
                ack: 0,
            })
        };
        let is_own = own.taken_over.is_none_or(|since| place < since);
        let mapped = by_own.filter(|_| is_own).or_else(by_primary)?;
        let near = self.p[mapped.connection].near(sent.at);
        let off = distance(near, tcp.seq.wrapping_add(mapped.seq)).unsigned_abs();
        (off < NEAR).then_some(mapped)
    }

    /// The first frame of a connection of S's that has P's numbers. It says what P says at that number, and not what P
    /// says where S's own numbers would place it; or it goes on where S has not come by itself, and P has.
    fn taken_over(&self, traffic: &Traffic, at: usize) -> Option<usize> {
        let own = &self.s[at];
        let (partner, s_isn) = (own.partner?, own.isn?);
        let p = &self.p[partner];
        let p_isn = p.isn?;
        let (shift, first) = (p_isn.wrapping_sub(s_isn), p_isn.wrapping_add(1));
        let length = distance(first, p.ends_at.last()?.1).max(0).cast_unsigned();
        if shift == 0 {
            return None;
        }
        let stream = stretch(&traffic.p, &p.frames, first, length);
        let is_like = |sent: &Sent, shift: u32| {
            let place = distance(first, sent.packet.tcp.seq.wrapping_add(shift));
            let there = usize::try_from(place).ok().and_then(|at| stream.get(at..));
            let said = &sent.payload()[..sent.payload().len().min(LOOK)];
            there.is_some_and(|there| {
                there.len() >= said.len() && said.iter().zip(there).all(|(a, b)| *b == Some(*a))
            })
        };
        let mut next = s_isn.wrapping_add(1);
        for place in &own.frames {
            let sent = &traffic.s[*place];
            let tcp = &sent.packet.tcp;
            if tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST) {
                continue;
            }
            let goes_on = at_or_before(tcp.seq, next) && before(s_isn, tcp.seq);
            let has_come = || {
                let current = self.current(&sent.packet.key, sent.at)?;
                let current = &self.p[current];
                let end = current.end(sent.at)?;
                let within = before(current.low, tcp.seq) && at_or_before(tcp.seq, end);
                within.then_some(())
            };
            let says = sent.packet.payload_len > 0;
            let by_content = says && is_like(sent, 0) && !is_like(sent, shift);
            let by_place = !(goes_on || says && is_like(sent, shift)) && has_come().is_some();
            if by_content || by_place {
                return Some(*place);
            }
            next = serial::max(next, tcp.seq.wrapping_add(sent.packet.sequence_len()));
        }
        None
    }

    /// P's number of a place in its stream, where the SYN was seen.
    pub fn number(&self, connection: usize, offset: u32) -> Option<u32> {
        let isn = self.p[connection].isn?;
        Some(isn.wrapping_add(1).wrapping_add(offset))
    }

    /// Aligns S's own numbers in a connection of P's anew: bytes that P sends from `from` on are looked for in what S
    /// sends there, and the nearest equal ones count. None of them lies before the difference, whose number at P is
    /// `behind`. True if some were found.
    pub fn align(
        &mut self,
        traffic: &Traffic,
        connection: usize,
        from: u32,
        behind: Option<u32>,
    ) -> bool {
        let Some(at) = self.s.iter().position(|s| s.partner == Some(connection)) else {
            return false;
        };
        let own = &self.s[at];
        let (Some(p_isn), Some(s_isn)) = (self.p[connection].isn, own.isn) else {
            return false;
        };
        if own.taken_over.is_some() {
            // A pair was captured, and it made both the same.
            return false;
        }
        let seq = own.aligned.unwrap_or(p_isn.wrapping_sub(s_isn));
        let reach = (ANCHOR * ANCHORS) as u32;
        let p_bytes = stretch(&traffic.p, &self.p[connection].frames, from, reach);
        let first = from.wrapping_sub(seq).wrapping_sub(SHIFT);
        let s_bytes = stretch(&traffic.s, &own.frames, first, 2 * SHIFT + reach);
        let least = behind.map_or(0, |number| {
            let place = distance(first, number.wrapping_sub(seq));
            usize::try_from(place).map_or(0, |place| place + 1)
        });
        let found = (0..ANCHORS).find_map(|n| {
            let anchor = p_bytes.get(n * ANCHOR..(n + 1) * ANCHOR)?;
            let anchor: Option<Vec<u8>> = anchor.iter().copied().collect();
            let expected = SHIFT as usize + n * ANCHOR;
            let shift = nearest(&s_bytes, &anchor?, expected, least)?;
            Some(shift.wrapping_sub(expected) as u32)
        });
        let Some(shift) = found else {
            return false;
        };
        self.s[at].aligned = Some(seq.wrapping_sub(shift));
        true
    }
}

fn is_tcp(sent: &Sent) -> bool {
    sent.packet.kind == Kind::Tcp
}

/// Bytes of a stream from a number on, as far as the frames have them.
fn stretch(all: &[Sent], frames: &[usize], from: u32, len: u32) -> Vec<Option<u8>> {
    let mut bytes = vec![None; len as usize];
    for at in frames {
        let sent = &all[*at];
        let syn = u32::from(sent.packet.tcp.flags.contains(TcpFlags::SYN));
        let first = sent.packet.tcp.seq.wrapping_add(syn);
        let end = first.wrapping_add(sent.packet.payload_len);
        if at_or_before(end, from) || !before(first, from.wrapping_add(len)) {
            continue;
        }
        for (i, byte) in sent.payload().iter().enumerate() {
            let place = distance(from, first.wrapping_add(i as u32));
            if let Some(free) = usize::try_from(place).ok().and_then(|i| bytes.get_mut(i)) {
                // The first copy counts: that is the one that a client has.
                free.get_or_insert(*byte);
            }
        }
    }
    bytes
}

/// The place nearest to an expected one, and not below the least, that has these bytes.
fn nearest(bytes: &[Option<u8>], wanted: &[u8], expected: usize, least: usize) -> Option<usize> {
    let is_at = |at: usize| {
        if at < least {
            return false;
        }
        let there = bytes.get(at..at + wanted.len());
        there.is_some_and(|there| there.iter().zip(wanted).all(|(a, b)| *a == Some(*b)))
    };
    let most = bytes.len();
    (0..most).find_map(|off| {
        let below = expected.checked_sub(off).filter(|at| is_at(*at));
        below.or_else(|| Some(expected + off).filter(|at| is_at(*at)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_equal_bytes_are_found() {
        let bytes: Vec<_> = b"abcdXabcd".iter().copied().map(Some).collect();
        for (expected, found) in [(0, 0), (2, 0), (3, 5), (5, 5), (8, 5)] {
            assert_eq!(
                nearest(&bytes, b"abcd", expected, 0),
                Some(found),
                "{expected}"
            );
        }
        assert_eq!(nearest(&bytes, b"abcd", 0, 1), Some(5));
        assert_eq!(nearest(&bytes, b"abce", 4, 0), None);
        let mut holes = bytes;
        holes[1] = None;
        assert_eq!(nearest(&holes, b"abcd", 0, 0), Some(5));
    }
}
