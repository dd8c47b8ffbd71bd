//! One sender's frames, and what the oracle knows of them beforehand: flows, connections, which bytes
//! come for the first time, and what is strange about a flow.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bytes::{ByteMap, Note, at_or_before};
use super::header::{ACK, Body, FIN, Key, RST, Reading, SYN, Segment, URG, read};
use super::read::Captured;

/// A frame that the sender sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its number in the capture, from 1.
    pub number: usize,
    /// The whole frame.
    pub bytes: Vec<u8>,
    /// What it is.
    pub body: Body,
    /// Index of its flow in [`Sender::flows`].
    pub flow: usize,
    /// Which connection of its flow it belongs to, from 0: a SYN begins another.
    pub connection: usize,
    /// Whether its connection's SYN came, with it or before.
    pub is_opened: bool,
    /// Whether it has a byte, SYN or FIN that came in no frame before.
    pub is_fresh: bool,
}

/// A sender of a capture.
pub struct Sender {
    /// Its MAC address.
    pub name: String,
    /// Its frames, in order.
    pub frames: Vec<Sent>,
    /// Its flows.
    pub flows: Vec<Key>,
    /// What is strange about each flow, in words.
    pub traits: Vec<BTreeSet<&'static str>>,
    /// Bytes that came in one frame only, of each connection: (flow, connection).
    once: HashMap<(usize, usize), Sightings>,
}

/// What a connection's bytes were.
#[derive(Default)]
struct Sightings {
    values: ByteMap,
    twice: ByteMap,
}

/// What has been seen of a flow's connection so far.
#[derive(Default)]
struct Connection {
    number: usize,
    isn: Option<u32>,
    is_closed: bool,
    options: Option<Vec<u8>>,
    fin: Option<u32>,
    rst: Option<(u32, u32)>,
    end: Option<u32>,
    frames: usize,
}

impl Sender {
    /// The senders of a capture, by source MAC address.
    pub fn split(frames: Vec<Captured>) -> Vec<Sender> {
        let mut senders: BTreeMap<Vec<u8>, Vec<Captured>> = BTreeMap::new();
        for frame in frames {
            let name = frame.bytes.get(6..12).unwrap_or_default().to_vec();
            senders.entry(name).or_default().push(frame);
        }
        senders
            .into_iter()
            .map(|(name, frames)| {
                let bytes: Vec<String> = name.iter().map(|b| format!("{b:02x}")).collect();
                Self::new(bytes.join(":"), frames)
            })
            .collect()
    }

    /// A sender of these frames.
    pub fn new(name: String, captured: Vec<Captured>) -> Self {
        let mut sender = Self {
            name,
            frames: Vec::with_capacity(captured.len()),
            flows: Vec::new(),
            traits: Vec::new(),
            once: HashMap::new(),
        };
        let mut index: HashMap<Key, usize> = HashMap::new();
        let mut connections: HashMap<usize, Connection> = HashMap::new();
        for frame in captured {
            let Reading { key, body } = read(&frame.bytes);
            let flow = *index.entry(key).or_insert_with(|| {
                sender.flows.push(key);
                sender.traits.push(BTreeSet::new());
                sender.flows.len() - 1
            });
            let mut sent = Sent {
                number: frame.number,
                bytes: frame.bytes,
                body,
                flow,
                connection: 0,
                is_opened: false,
                is_fresh: true,
            };
            sender.study(&mut sent, connections.entry(flow).or_default());
            sender.frames.push(sent);
        }
        sender
    }

    /// Places a frame in its flow's history.
    fn study(&mut self, sent: &mut Sent, so_far: &mut Connection) {
        let traits = &mut self.traits[sent.flow];
        let segment = match &sent.body {
            Body::Tcp(segment) => *segment,
            Body::Malformed(why) => {
                traits.insert("malformed");
                traits.insert(why);
                return;
            }
            _ => return,
        };
        if segment.has(SYN) {
            let options = sent.bytes[segment.transport + 20..segment.payload].to_vec();
            let is_new = so_far.isn != Some(segment.seq) || so_far.is_closed;
            if is_new && so_far.frames > 0 {
                traits.insert("ports reused");
                if so_far.isn == Some(segment.seq) {
                    traits.insert("ports reused with one ISN");
                }
                *so_far = Connection {
                    number: so_far.number + 1,
                    ..Connection::default()
                };
            }
            if so_far.options.as_ref().is_some_and(|o| *o != options) {
                traits.insert("SYN again with other options");
            }
            (so_far.isn, so_far.options) = (Some(segment.seq), Some(options));
            if segment.len > 0 {
                traits.insert("SYN with data");
            }
            if segment.has(RST) || segment.has(FIN) {
                traits.insert("SYN with FIN or RST");
            }
        }
        sent.connection = so_far.number;
        sent.is_opened = so_far.isn.is_some();
        note_oddities(traits, &segment, so_far);
        let sightings = self.once.entry((sent.flow, sent.connection)).or_default();
        let mut is_fresh = segment.has(SYN) && so_far.frames == 0;
        for (k, value) in payload(&sent.bytes, &segment).iter().enumerate() {
            let at = segment.first().wrapping_add(k as u32);
            match sightings.values.note(at, *value) {
                Note::New => is_fresh = true,
                note => {
                    sightings.twice.note(at, 0);
                    if note == Note::Other {
                        let garbage = segment.len == 1
                            && so_far
                                .end
                                .is_some_and(|end| at_or_before(segment.end(), end));
                        traits.insert(match garbage {
                            true => "keepalive with another byte",
                            false => "contradicts itself",
                        });
                    }
                }
            }
        }
        if segment.has(FIN) {
            is_fresh |= so_far.fin.is_none();
            so_far.fin.get_or_insert(segment.end());
        }
        if segment.has(RST) {
            so_far.rst.get_or_insert((segment.seq, segment.ack));
        }
        so_far.is_closed |= segment.flags & (FIN | RST) != 0;
        let furthest = so_far.end.unwrap_or(segment.end());
        so_far.end = Some(if at_or_before(furthest, segment.end()) {
            segment.end()
        } else {
            furthest
        });
        so_far.frames += 1;
        sent.is_fresh = is_fresh;
    }

    /// Whether a byte came in one frame only, and its connection never contradicts itself.
    pub fn is_once(&self, frame: usize, at: u32) -> bool {
        let sent = &self.frames[frame];
        self.once
            .get(&(sent.flow, sent.connection))
            .is_some_and(|seen| seen.twice.first(at).is_none())
            && !self.traits[sent.flow].contains("contradicts itself")
    }

    /// What is strange about a flow, as text.
    pub fn oddities(&self, flow: usize) -> String {
        match self.traits[flow].is_empty() {
            true => ORDINARY.to_owned(),
            false => Vec::from_iter(self.traits[flow].iter().copied()).join(", "),
        }
    }

    /// What of that is the likeliest cause of a deviation.
    pub fn oddity(&self, flow: usize) -> &'static str {
        let traits = &self.traits[flow];
        CAUSES
            .iter()
            .find(|cause| traits.contains(*cause))
            .copied()
            .unwrap_or(ORDINARY)
    }
}

const ORDINARY: &str = "an ordinary flow";

/// Oddities, the one that explains most first.
const CAUSES: [&str; 19] = [
    "malformed",
    "contradicts itself",
    "several FINs",
    "data after FIN",
    "FIN before data",
    "SYN with FIN or RST",
    "SYN again with other options",
    "SYN with data",
    "RST with data",
    "several RSTs",
    "RST repeated",
    "frames after RST",
    "ports reused with one ISN",
    "ports reused",
    "keepalive with another byte",
    "numbers jump by more than 2^30",
    "no flag",
    "urgent data",
    "a gap",
];

/// A segment's payload in its frame.
pub fn payload<'a>(frame: &'a [u8], segment: &Segment) -> &'a [u8] {
    &frame[segment.payload..segment.payload + segment.len]
}

fn note_oddities(traits: &mut BTreeSet<&'static str>, segment: &Segment, so_far: &Connection) {
    if segment.flags & (SYN | FIN | RST | ACK) == 0 {
        traits.insert("no flag");
    }
    if segment.has(URG) {
        traits.insert("urgent data");
    }
    if segment.has(RST) && so_far.rst.is_some() {
        traits.insert(match so_far.rst == Some((segment.seq, segment.ack)) {
            true => "RST repeated",
            false => "several RSTs",
        });
    }
    if so_far.rst.is_some() && !segment.has(RST) {
        traits.insert("frames after RST");
    }
    if segment.has(RST) && segment.len > 0 {
        traits.insert("RST with data");
    }
    if let Some(fin) = so_far.fin {
        if segment.has(FIN) && segment.end() != fin {
            traits.insert("several FINs");
        }
        if segment.len > 0 && !at_or_before(segment.end(), fin) {
            traits.insert("data after FIN");
        }
    }
    if segment.has(FIN)
        && so_far
            .end
            .is_some_and(|end| !at_or_before(end, segment.end()))
    {
        traits.insert("FIN before data");
    }
    if let (Some(end), false) = (so_far.end, segment.has(SYN)) {
        let (ahead, behind) = (
            segment.first().wrapping_sub(end),
            end.wrapping_sub(segment.first()),
        );
        if ahead.min(behind) > 1 << 30 {
            traits.insert("numbers jump by more than 2^30");
        } else if ahead != 0 && at_or_before(end, segment.first()) {
            traits.insert("a gap");
        } else if segment.len > 0 && behind != 0 {
            traits.insert("retransmission");
        }
    }
}
