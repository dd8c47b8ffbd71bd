//! What the secondary VM sends, made of what the primary sends.

use colo_testkit::rng::Rng;

use super::bytes::at_or_before;
use super::header::{
    ACK, Body, FIN, FLAGS_AT, RST, SEQ_AT, SYN, Segment, URG, WINDOW_AT, read, timestamp,
};
use super::sender::{Sender, payload};

/// Longest segment that two are joined to, in bytes of payload.
const JOINED: usize = 9_000;

/// How the secondary's stream differs from the primary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variation {
    /// Not at all.
    Equal,
    /// TCP payload is cut and joined at other boundaries.
    Resegmented,
    /// TCP segments come twice.
    Duplicated,
    /// Neighbours of a flow have changed places.
    Reordered,
    /// Header fields that each VM chooses for itself are others.
    OtherHeaders,
    /// One byte is another.
    Flipped,
    /// One frame with content is missing.
    Missing,
}

impl Variation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Equal,
        Self::Resegmented,
        Self::Duplicated,
        Self::Reordered,
        Self::OtherHeaders,
        Self::Flipped,
        Self::Missing,
    ];

    /// Whether both streams say the same.
    pub fn is_equal(self) -> bool {
        !matches!(self, Self::Flipped | Self::Missing)
    }

    /// The word for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Resegmented => "resegmented",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::OtherHeaders => "other headers",
            Self::Flipped => "flipped",
            Self::Missing => "missing",
        }
    }
}

/// A frame of the secondary.
#[derive(Clone, Debug)]
pub struct Made {
    /// The frame with the primary's sequence numbers.
    pub bytes: Vec<u8>,
    /// What it is.
    pub body: Body,
    /// The primary's frame that it was made of; of several, the last.
    pub source: usize,
}

/// The byte in which the two streams differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The primary's frame.
    pub frame: usize,
    /// Offset of the byte in it.
    pub at: usize,
    /// Its position in the stream, of a TCP segment.
    pub position: Option<u32>,
}

/// The secondary's frames; of a variation that differs also where. Nothing if there is nothing to vary.
pub fn vary(
    sender: &Sender,
    variation: Variation,
    rng: &mut Rng,
) -> Option<(Vec<Made>, Option<Target>)> {
    let mut made: Vec<Made> = sender
        .frames
        .iter()
        .enumerate()
        .map(|(source, sent)| Made {
            bytes: sent.bytes.clone(),
            body: sent.body.clone(),
            source,
        })
        .collect();
    match variation {
        Variation::Equal => Some((made, None)),
        Variation::Resegmented => resegmented(sender, rng).map(|made| (made, None)),
        Variation::Duplicated => duplicated(sender, made, rng).map(|made| (made, None)),
        Variation::Reordered => reordered(sender, made, rng).map(|made| (made, None)),
        Variation::OtherHeaders => {
            for frame in &mut made {
                give_other_headers(frame, rng);
            }
            Some((made, None))
        }
        Variation::Flipped => {
            let target = target(sender, rng)?;
            made[target.frame].bytes[target.at] ^= 1 << rng.below(8);
            Some((made, Some(target)))
        }
        Variation::Missing => {
            let target = target(sender, rng)?;
            made.remove(target.frame);
            Some((made, Some(target)))
        }
    }
}

/// A byte that no other frame repeats, in a frame that is always compared.
fn target(sender: &Sender, rng: &mut Rng) -> Option<Target> {
    const TRIES: usize = 64;
    for _ in 0..TRIES {
        let frame = rng.below(sender.frames.len());
        let sent = &sender.frames[frame];
        match &sent.body {
            Body::Tcp(segment) if segment.len > 1 && segment.flags & (SYN | RST) == 0 => {
                let k = rng.below(segment.len);
                let position = segment.first().wrapping_add(k as u32);
                if sender.is_once(frame, position) {
                    return Some(Target {
                        frame,
                        at: segment.payload + k,
                        position: Some(position),
                    });
                }
            }
            Body::Datagram {
                parts: [_, data],
                may_be_exempt: false,
            } if !data.is_empty() => {
                return Some(Target {
                    frame,
                    at: data.start + rng.below(data.len()),
                    position: None,
                });
            }
            Body::Datagram {
                parts: [data, _],
                may_be_exempt: false,
            } if data.len() > 2 => {
                return Some(Target {
                    frame,
                    at: data.start + rng.below(data.len()),
                    position: None,
                });
            }
            _ => {}
        }
    }
    None
}

fn duplicated(sender: &Sender, frames: Vec<Made>, rng: &mut Rng) -> Option<Vec<Made>> {
    let connection_of = |made: &Made| {
        let sent = &sender.frames[made.source];
        (sent.flow, sent.connection)
    };
    let mut made = Vec::with_capacity(2 * frames.len());
    let mut late: Vec<(usize, Made)> = Vec::new();
    let mut is_other = false;
    for frame in frames {
        let (flow, connection) = connection_of(&frame);
        for (wait, other) in &mut late {
            let (other_flow, other_connection) = connection_of(other);
            // A VM that has opened a connection repeats nothing of the one before it.
            let is_over = other_flow == flow && other_connection != connection;
            *wait = if is_over { 0 } else { wait.saturating_sub(1) };
        }
        while let Some(i) = late.iter().position(|(wait, _)| *wait == 0) {
            made.push(late.remove(i).1);
        }
        // A datagram that comes twice is another output.
        if matches!(frame.body, Body::Tcp(_)) && rng.one_in(3) {
            late.push((1 + rng.below(4), frame.clone()));
            is_other = true;
        }
        made.push(frame);
    }
    made.extend(late.into_iter().map(|(_, frame)| frame));
    is_other.then_some(made)
}

/// Pairs of neighbours change places in their flow: data, acknowledgments and datagrams, but no SYN,
/// FIN or RST.
fn reordered(sender: &Sender, mut frames: Vec<Made>, rng: &mut Rng) -> Option<Vec<Made>> {
    let may_move = |made: &Made| match &made.body {
        Body::Tcp(segment) => segment.has(ACK) && segment.flags & (SYN | FIN | RST) == 0,
        Body::Datagram { .. } => true,
        _ => false,
    };
    // The last frame of each flow, unless it has changed places already.
    let mut last: Vec<Option<usize>> = vec![None; sender.flows.len()];
    let mut is_other = false;
    for i in 0..frames.len() {
        let sent = &sender.frames[frames[i].source];
        let (flow, connection) = (sent.flow, sent.connection);
        if !may_move(&frames[i]) {
            last[flow] = None;
            continue;
        }
        match last[flow] {
            Some(before)
                if sender.frames[frames[before].source].connection == connection
                    && rng.one_in(3) =>
            {
                let (early, late) = (frames[before].clone(), frames[i].clone());
                (frames[before].bytes, frames[before].body) = (late.bytes, late.body);
                (frames[i].bytes, frames[i].body) = (early.bytes, early.body);
                last[flow] = None;
                is_other = true;
            }
            _ => last[flow] = Some(i),
        }
    }
    is_other.then_some(frames)
}

/// Another IP identification and hop limit, and of TCP another window and TSval.
fn give_other_headers(made: &mut Made, rng: &mut Rng) {
    let Body::Tcp(segment) = &made.body else {
        return;
    };
    let bytes = &mut made.bytes;
    let other = rng.next();
    match bytes[segment.network] >> 4 {
        4 => {
            bytes[segment.network + 5] ^= other as u8;
            bytes[segment.network + 8] ^= 0x40;
        }
        _ => bytes[segment.network + 7] ^= 0x40,
    }
    let at = segment.transport;
    let window = u16::from_be_bytes([bytes[at + WINDOW_AT], bytes[at + WINDOW_AT + 1]]);
    let window = match rng.one_in(2) {
        true => window / 2,
        false => window.saturating_add(other as u8 as u16),
    };
    bytes[at + WINDOW_AT..at + WINDOW_AT + 2].copy_from_slice(&window.to_be_bytes());
    if let Some(stamp) = timestamp(&bytes[at + 20..segment.payload]) {
        let stamp = at + 20 + stamp;
        bytes[stamp + 3] ^= (other >> 8) as u8;
    }
}

/// A segment that is nothing but payload and an acknowledgment.
fn plain(body: &Body) -> Option<&Segment> {
    match body {
        Body::Tcp(segment)
            if segment.len > 0
                && segment.has(ACK)
                && segment.flags & (SYN | FIN | RST | URG) == 0 =>
        {
            Some(segment)
        }
        _ => None,
    }
}

fn resegmented(sender: &Sender, rng: &mut Rng) -> Option<Vec<Made>> {
    let mut made: Vec<Made> = Vec::with_capacity(sender.frames.len());
    // A segment of each flow that the next one may be joined to.
    let mut open: Vec<Option<Vec<u8>>> = vec![None; sender.flows.len()];
    let mut is_other = false;
    let mut next_of = vec![None; sender.frames.len()];
    let mut last = vec![None; sender.flows.len()];
    for (i, sent) in sender.frames.iter().enumerate() {
        if let Some(before) = last[sent.flow].replace(i) {
            next_of[before] = Some(i);
        }
    }
    for (source, sent) in sender.frames.iter().enumerate() {
        let Some(segment) = plain(&sent.body) else {
            made.push(Made {
                bytes: sent.bytes.clone(),
                body: sent.body.clone(),
                source,
            });
            continue;
        };
        let before = open[sent.flow].take().unwrap_or_default();
        let whole = [&before[..], payload(&sent.bytes, segment)].concat();
        let first = segment.seq.wrapping_sub(before.len() as u32);
        let follower = next_of[source].map(|i: usize| &sender.frames[i]);
        let joins = follower.is_some_and(|next| {
            plain(&next.body).is_some_and(|next| {
                next.seq == segment.end()
                    && whole.len() + next.len <= JOINED
                    && at_or_before(segment.ack, next.ack)
            })
        });
        if joins && rng.one_in(3) {
            open[sent.flow] = Some(whole);
            is_other = true;
            continue;
        }
        let mut cuts = vec![0, whole.len()];
        for _ in 0..rng.below(3) {
            cuts.push(rng.below(whole.len()));
        }
        cuts.sort_unstable();
        cuts.dedup();
        is_other |= cuts.len() > 2;
        for cut in cuts.windows(2) {
            let bytes = with_payload(
                &sent.bytes,
                segment,
                first.wrapping_add(cut[0] as u32),
                &whole[cut[0]..cut[1]],
            );
            let body = read(&bytes).body;
            made.push(Made {
                bytes,
                body,
                source,
            });
        }
    }
    is_other.then_some(made)
}

/// A segment's frame with another position and payload. The TCP checksum stays as it was: nobody
/// verifies it.
fn with_payload(frame: &[u8], segment: &Segment, seq: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = frame[..segment.payload].to_vec();
    bytes.extend(data);
    let at = segment.transport + SEQ_AT;
    bytes[at..at + 4].copy_from_slice(&seq.to_be_bytes());
    let length = bytes.len() - segment.network;
    let (field, value) = match bytes[segment.network] >> 4 {
        4 => (segment.network + 2, length),
        _ => (segment.network + 4, length - 40),
    };
    bytes[field..field + 2].copy_from_slice(&(value as u16).to_be_bytes());
    bytes
}

/// The frame with the secondary's own sequence number.
pub fn renumbered(frame: &Made, offset: u32) -> Vec<u8> {
    let mut bytes = frame.bytes.clone();
    if let Body::Tcp(segment) = &frame.body {
        let at = segment.transport + SEQ_AT;
        let seq = segment.seq.wrapping_add(offset);
        bytes[at..at + 4].copy_from_slice(&seq.to_be_bytes());
        debug_assert_eq!(bytes[segment.transport + FLAGS_AT], segment.flags);
    }
    bytes
}
