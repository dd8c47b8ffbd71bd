//! The judge of one run: whether what was released is what both VMs have sent.
//!
//! It knows which frames the comparator was given and in which order, and nothing of how it decides.
//! TCP is judged byte by byte at the positions of the primary's stream, everything else by whole
//! datagrams. What it allows beyond equality, and why, docs/captures.md lists.

use std::collections::{HashMap, HashSet};

use super::bytes::{ByteMap, Note, at_or_before};
use super::content::{
    Control, agreement, content, controls, is_stream, name_of, part_of, same_segment,
};
use super::header::{ACK, Body, Class, FIN, RST, SYN, Segment, double, read};
use super::sender::{Sender, Sent, payload};
use super::vary::{Made, Target};

/// A rule, by its letter in docs/captures.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// (a) Everything released was equal at the secondary before.
    Equal,
    /// (b) No position leaves with two values.
    Once,
    /// (d) What differs never leaves, and the difference is seen.
    Seen,
    /// (e) New bytes leave in the primary's order, and no acknowledgment runs ahead.
    Order,
    /// (f) No frame is lost, made or altered.
    Conserved,
}

impl Rule {
    /// The words for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Equal => "(a) released before the secondary sent it equal",
            Self::Once => "(b) released twice with different bytes",
            Self::Seen => "(d) a difference released or not seen",
            Self::Order => "(e) out of order or acknowledged ahead",
            Self::Conserved => "(f) a frame lost, made or altered",
        }
    }
}

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which.
    pub rule: Rule,
    /// The primary's frame, if it is about one.
    pub frame: Option<usize>,
    /// What is wrong.
    pub reason: String,
}

/// A connection: its flow, and which of the flow's it is.
type Connection = (usize, usize);

/// What both VMs have said of one connection.
#[derive(Default)]
struct Stream {
    /// What the secondary sent.
    sent: ByteMap,
    /// What left.
    left: ByteMap,
    sent_controls: HashSet<Control>,
    /// Flags and options of the secondary's SYNs, without time stamps.
    sent_syns: HashSet<Vec<u8>>,
    left_controls: HashSet<Control>,
    /// Highest acknowledgments that the secondary sent: none of them lies behind another.
    acks: Vec<u32>,
    acks_overflow: bool,
    /// End of the furthest byte that left.
    left_end: Option<u32>,
}

/// Where a frame of the primary's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    NotYet,
    Inside,
    Left,
}

/// Acknowledgments that lie more than 2^31 apart, of one connection.
const MOST_ACKS: usize = 64;

/// See the module.
pub struct Oracle<'a> {
    sender: &'a Sender,
    streams: HashMap<Connection, Stream>,
    /// How many datagrams of a flow with some content the secondary sent and how many left.
    datagrams: HashMap<(usize, Vec<u8>), (usize, usize)>,
    /// Of each flow: fresh frames in order, and how many of them have left for certain.
    fresh: Vec<(Vec<usize>, usize)>,
    /// The last frame of each flow of datagrams that left.
    last: Vec<Option<usize>>,
    whereabouts: Vec<Whereabouts>,
    /// Of each frame: bytes of its payload that have left in parts.
    departed: Vec<usize>,
    taken: usize,
    left: usize,
    breaches: Vec<Breach>,
}

impl<'a> Oracle<'a> {
    /// A judge who has seen nothing yet.
    pub fn new(sender: &'a Sender) -> Self {
        let mut fresh = vec![(Vec::new(), 0); sender.flows.len()];
        for (i, sent) in sender.frames.iter().enumerate() {
            if sent.is_fresh && matches!(sent.body, Body::Tcp(_)) {
                fresh[sent.flow].0.push(i);
            }
        }
        Self {
            sender,
            streams: HashMap::new(),
            datagrams: HashMap::new(),
            fresh,
            last: vec![None; sender.flows.len()],
            whereabouts: vec![Whereabouts::NotYet; sender.frames.len()],
            departed: vec![0; sender.frames.len()],
            taken: 0,
            left: 0,
            breaches: Vec::new(),
        }
    }

    /// The secondary has sent a frame.
    pub fn secondary(&mut self, made: &Made) {
        let source = &self.sender.frames[made.source];
        match &made.body {
            Body::Tcp(segment) => {
                let stream = self
                    .streams
                    .entry((source.flow, source.connection))
                    .or_default();
                for (k, value) in payload(&made.bytes, segment).iter().enumerate() {
                    let at = segment.first().wrapping_add(k as u32);
                    stream.sent.note(at, *value);
                }
                stream.sent_controls.extend(controls(segment));
                if segment.has(SYN) {
                    stream.sent_syns.insert(agreement(&made.bytes, segment));
                }
                if segment.has(ACK) {
                    stream.acknowledged(segment.ack);
                }
            }
            body => {
                let content = content(&made.bytes, body);
                self.datagrams.entry((source.flow, content)).or_default().0 += 1;
            }
        }
    }

    /// The primary has sent a frame.
    pub fn primary(&mut self, frame: usize) {
        self.taken += 1;
        self.whereabouts[frame] = Whereabouts::Inside;
    }

    /// A frame has left.
    pub fn released(&mut self, frame: usize, bytes: &[u8]) {
        let sent = &self.sender.frames[frame];
        match self.whereabouts[frame] {
            Whereabouts::Inside => self.left += 1,
            Whereabouts::NotYet => self.breach(Rule::Conserved, frame, "it never came in".into()),
            Whereabouts::Left => self.breach(Rule::Conserved, frame, "it leaves again".into()),
        }
        self.whereabouts[frame] = Whereabouts::Left;
        match &sent.body {
            Body::Tcp(segment) if self.departed[frame] > 0 || bytes.len() < sent.bytes.len() => {
                self.part(frame, sent, segment, bytes);
            }
            Body::Tcp(segment) => {
                if let Err(why) = same_segment(&sent.bytes, bytes, segment) {
                    self.breach(Rule::Conserved, frame, why);
                }
                self.segment(frame, sent, segment, bytes);
            }
            Body::Exempt => self.unaltered(frame, sent, bytes),
            body => {
                self.unaltered(frame, sent, bytes);
                let exempt = matches!(
                    body,
                    Body::Datagram {
                        may_be_exempt: true,
                        ..
                    }
                );
                if !exempt {
                    self.datagram(frame, sent.flow, content(bytes, body));
                }
            }
        }
    }

    /// A part of a segment leaves: the parts of one leave from the front to the back.
    fn part(&mut self, frame: usize, sent: &Sent, segment: &Segment, bytes: &[u8]) {
        let from = self.departed[frame];
        let Body::Tcp(part) = read(bytes).body else {
            self.breach(Rule::Conserved, frame, "its part cannot be read".into());
            return;
        };
        if let Err(why) = part_of(&sent.bytes, bytes, (segment, &part), from) {
            self.breach(Rule::Conserved, frame, why);
        }
        self.departed[frame] = from + part.len;
        if from + part.len < segment.len {
            self.whereabouts[frame] = Whereabouts::Inside;
        }
        self.segment(frame, sent, &part, bytes);
    }

    fn unaltered(&mut self, frame: usize, sent: &Sent, bytes: &[u8]) {
        if sent.bytes != bytes {
            self.breach(Rule::Conserved, frame, "its bytes were altered".into());
        }
    }

    fn segment(&mut self, frame: usize, sent: &Sent, segment: &Segment, bytes: &[u8]) {
        let mut stream = self
            .streams
            .remove(&(sent.flow, sent.connection))
            .unwrap_or_default();
        let data = bytes
            .get(segment.payload..segment.payload + segment.len)
            .unwrap_or_default();
        let positions = |k: usize| segment.first().wrapping_add(k as u32);
        let is_new = data
            .iter()
            .enumerate()
            .any(|(k, _)| stream.left.first(positions(k)).is_none())
            || controls(segment).any(|c| is_stream(c) && !stream.left_controls.contains(&c));
        if let Some(why) = is_new
            .then(|| self.overtakes(frame, sent, &stream))
            .flatten()
        {
            self.breach(Rule::Order, frame, why);
        }
        // A keepalive's garbage byte is no data (RFC 9293, 3.8.4); both VMs must have sent it alike.
        let garbage = segment.len == 1
            && stream
                .left_end
                .is_some_and(|end| at_or_before(segment.end(), end));
        let mut unseen = None;
        let mut twice = None;
        for (k, value) in data.iter().enumerate() {
            let at = positions(k);
            if !stream.sent.has(at, *value) {
                unseen.get_or_insert((k, *value, stream.sent.first(at)));
            }
            if !garbage && stream.left.note(at, *value) == Note::Other {
                twice.get_or_insert((k, *value, stream.left.first(at)));
            }
        }
        if let Some((k, value, other)) = unseen {
            let reason = match other {
                Some(other) => format!("byte {k} is {value:#04x}, the secondary sent {other:#04x}"),
                None => format!("byte {k}: the secondary has sent nothing there"),
            };
            self.breach(Rule::Equal, frame, reason);
        }
        if let Some((k, value, other)) = twice {
            let other = other.unwrap_or_default();
            let reason = format!("byte {k} is {value:#04x}, {other:#04x} has left");
            self.breach(Rule::Once, frame, reason);
        }
        for control in controls(segment) {
            let closed = stream.left_controls.iter().any(|c| c.0 == FIN);
            let alone = control.0 == RST && closed;
            if !alone && !stream.sent_controls.contains(&control) {
                let reason = format!("the secondary has not sent its {}", name_of(control.0));
                self.breach(Rule::Equal, frame, reason);
            }
            stream.left_controls.insert(control);
        }
        if segment.has(SYN) && !stream.sent_syns.contains(&agreement(bytes, segment)) {
            let reason = "the secondary has not sent a SYN with these flags and options";
            self.breach(Rule::Equal, frame, reason.into());
        }
        if segment.has(ACK) {
            let ack = double(bytes, segment.transport + 8).unwrap_or(segment.ack);
            if !stream.acks_overflow && !stream.acks.iter().any(|a| at_or_before(ack, *a)) {
                let reason = match stream.acks.last() {
                    Some(most) => format!("it acknowledges {ack}, the secondary {most}"),
                    None => format!("it acknowledges {ack}, the secondary nothing"),
                };
                self.breach(Rule::Order, frame, reason);
            }
        }
        if segment.len > 0
            && stream
                .left_end
                .is_none_or(|end| at_or_before(end, segment.end()))
        {
            stream.left_end = Some(segment.end());
        }
        self.streams.insert((sent.flow, sent.connection), stream);
    }

    /// Whether a fresh frame of the flow that came earlier has not left.
    fn overtakes(&mut self, frame: usize, sent: &Sent, stream: &Stream) -> Option<String> {
        let (order, done) = &mut self.fresh[sent.flow];
        while let Some(&earlier) = order.get(*done).filter(|f| **f < frame) {
            let other = &self.sender.frames[earlier];
            let Body::Tcp(segment) = &other.body else {
                return None;
            };
            let same = other.connection == sent.connection;
            let left = if same {
                (0..segment.len).all(|k| {
                    let at = segment.first().wrapping_add(k as u32);
                    stream.left.first(at).is_some()
                }) && controls(segment).all(|c| !is_stream(c) || stream.left_controls.contains(&c))
            } else {
                self.whereabouts[earlier] == Whereabouts::Left
            };
            if !left {
                return Some(format!("it overtakes frame {}", other.number));
            }
            *done += 1;
        }
        None
    }

    fn datagram(&mut self, frame: usize, flow: usize, content: Vec<u8>) {
        let (sent, left) = self.datagrams.entry((flow, content)).or_default();
        *left += 1;
        if left > sent {
            let reason = format!("datagram {left} of this content, the secondary sent {sent}");
            self.breach(Rule::Equal, frame, reason);
        }
        let before = self.last[flow].replace(frame);
        // An end system puts fragments together in any order.
        if let Some(before) = before.filter(|before| *before > frame)
            && self.sender.flows[flow].class != Class::Fragment
        {
            let number = self.sender.frames[before].number;
            self.breach(Rule::Order, frame, format!("frame {number} left before it"));
        }
    }

    /// The end: `held` frames are held, the comparator found a difference or something overdue, and
    /// the streams differed in `target`. `spare` frames came into being by division.
    pub fn finish(
        &mut self,
        held: usize,
        spare: usize,
        has_complained: bool,
        target: Option<Target>,
    ) {
        if self.left + held != self.taken + spare {
            let reason = format!(
                "{} came in, {} left and {held} are held",
                self.taken, self.left
            );
            self.breaches.push(Breach {
                rule: Rule::Conserved,
                frame: None,
                reason,
            });
        }
        let Some(target) = target else {
            return;
        };
        let sent = &self.sender.frames[target.frame];
        if !has_complained {
            let reason = "neither a difference nor a wait was reported".into();
            self.breach(Rule::Seen, target.frame, reason);
        }
        let value = sent.bytes[target.at];
        let left = match target.position {
            Some(position) => self
                .streams
                .get(&(sent.flow, sent.connection))
                .is_some_and(|stream| stream.left.has(position, value)),
            None => {
                let key = (sent.flow, content(&sent.bytes, &sent.body));
                let counts = self.datagrams.get(&key).copied().unwrap_or_default();
                counts.1 > counts.0
            }
        };
        if left {
            let reason = format!("the byte at offset {} left", target.at);
            self.breach(Rule::Seen, target.frame, reason);
        }
    }

    /// What was breached.
    pub fn breaches(&self) -> &[Breach] {
        &self.breaches
    }

    /// The primary's frames that are inside, by flow: the first of each.
    pub fn held(&self) -> Vec<usize> {
        let mut seen = HashSet::new();
        (0..self.whereabouts.len())
            .filter(|i| self.whereabouts[*i] == Whereabouts::Inside)
            .filter(|i| seen.insert(self.sender.frames[*i].flow))
            .collect()
    }

    fn breach(&mut self, rule: Rule, frame: usize, reason: String) {
        self.breaches.push(Breach {
            rule,
            frame: Some(frame),
            reason,
        });
    }
}

impl Stream {
    fn acknowledged(&mut self, ack: u32) {
        if self.acks.iter().any(|known| at_or_before(ack, *known)) {
            return;
        }
        self.acks.retain(|known| !at_or_before(*known, ack));
        if self.acks.len() < MOST_ACKS {
            self.acks.push(ack);
        } else {
            self.acks_overflow = true;
        }
    }
}
