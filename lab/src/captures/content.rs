//! What of a frame the two VMs must have alike, and what of a released one may be another.

use super::bytes::at_or_before;
use super::header::{
    ACK, Body, CHECKSUM_AT, FIN, RST, SEQ_AT, SYN, Segment, WINDOW_AT, double, timestamp, word,
};

/// SYN, FIN, RST or no flag at all, at a position.
pub type Control = (u8, u32);

/// The control bits of a segment, each at its position.
pub fn controls(segment: &Segment) -> impl Iterator<Item = Control> {
    let at = [
        (SYN, segment.seq),
        (FIN, segment.end()),
        (RST, segment.seq),
        (0, segment.seq),
    ];
    let flags = segment.flags & (SYN | FIN | RST | ACK);
    let is_nothing = flags == 0 && segment.len == 0;
    at.into_iter()
        .filter(move |(bit, _)| flags & bit != 0 || (*bit == 0 && is_nothing))
}

/// What two SYNs must agree on: flags and options, but for the time stamps (RFC 7323, 3.2).
pub fn agreement(frame: &[u8], segment: &Segment) -> Vec<u8> {
    let mut options = frame
        .get(segment.transport + 20..segment.payload)
        .unwrap_or_default()
        .to_vec();
    if let Some(stamp) = timestamp(&options) {
        options[stamp..stamp + 8].fill(0);
    }
    options.push(segment.flags);
    options
}

/// Whether a control bit takes a place in the stream.
pub fn is_stream(control: Control) -> bool {
    matches!(control.0, SYN | FIN)
}

/// The word for a control bit.
pub fn name_of(bit: u8) -> &'static str {
    match bit {
        SYN => "SYN",
        FIN => "FIN",
        RST => "RST",
        _ => "segment without a flag",
    }
}

/// What of a frame without a byte stream must be equal; of a malformed one everything.
pub fn content(frame: &[u8], body: &Body) -> Vec<u8> {
    match body {
        Body::Datagram { parts, .. } => parts
            .iter()
            .flat_map(|part| frame.get(part.clone()).unwrap_or_default())
            .copied()
            .collect(),
        _ => frame.to_vec(),
    }
}

/// Whether a released segment is the one that the primary sent, but for what the proxy may change: the
/// window (lowered), TSval (raised), a bare acknowledgment's sequence number (lowered), and with them the checksum,
/// whose sum stays what it was.
pub fn same_segment(sent: &[u8], released: &[u8], segment: &Segment) -> Result<(), String> {
    if sent.len() != released.len() {
        return Err(format!("{} bytes became {}", sent.len(), released.len()));
    }
    let at = segment.transport;
    let mut masked = released.to_vec();
    let mut keep = |range: std::ops::Range<usize>| {
        masked[range.clone()].copy_from_slice(&sent[range]);
    };
    let (old, new) = (
        word(sent, at + WINDOW_AT).unwrap_or_default(),
        word(released, at + WINDOW_AT).unwrap_or_default(),
    );
    if new > old {
        return Err(format!("the window {old} became {new}"));
    }
    keep(at + WINDOW_AT..at + WINDOW_AT + 2);
    keep(at + CHECKSUM_AT..at + CHECKSUM_AT + 2);
    if segment.is_bare() {
        let new = double(released, at + SEQ_AT).unwrap_or_default();
        if !at_or_before(new, segment.seq) {
            return Err(format!("the sequence number {} became {new}", segment.seq));
        }
        keep(at + SEQ_AT..at + SEQ_AT + 4);
    }
    if let Some(stamp) = timestamp(&sent[at + 20..segment.payload]) {
        let stamp = at + 20 + stamp;
        let (old, new) = (
            double(sent, stamp).unwrap_or_default(),
            double(released, stamp).unwrap_or_default(),
        );
        if !at_or_before(old, new) {
            return Err(format!("TSval {old} became {new}"));
        }
        keep(stamp..stamp + 4);
    }
    if let Some(k) = sent.iter().zip(&masked).position(|(a, b)| a != b) {
        return Err(format!("the byte at offset {k} of the frame was altered"));
    }
    if sum(&sent[at..]) != sum(&released[at..]) {
        return Err("its checksum does not follow its change".into());
    }
    Ok(())
}

/// Control bits that only the first part of a segment keeps (RFC 3168, 6.1.2), and only the last.
const OF_THE_FIRST: u8 = 0x80;
const OF_THE_LAST: u8 = FIN | 0x08;

/// Whether a released segment is a part of the one that the primary sent, from byte `from` of its payload on: with
/// lengths, identification, sequence number and checksum of its own. What else may be another is [`same_segment`]'s.
pub fn part_of(
    sent: &[u8],
    released: &[u8],
    (segment, part): (&Segment, &Segment),
    from: usize,
) -> Result<(), String> {
    let rest = segment.len.saturating_sub(from);
    if part.len == 0 || part.len > rest {
        return Err(format!("{} bytes of payload left, of {rest}", part.len));
    }
    let (network, at) = (segment.network, segment.transport);
    let mut own = sent[..segment.payload].to_vec();
    own.extend_from_slice(&sent[segment.payload + from..][..part.len]);
    let mut put = |at: usize, value: u16| own[at..at + 2].copy_from_slice(&value.to_be_bytes());
    let cut = (segment.len - part.len) as u16;
    let is_v4 = sent[network] >> 4 == 4;
    let length_at = network + if is_v4 { 2 } else { 4 };
    put(length_at, word(sent, length_at).unwrap_or_default() - cut);
    if is_v4 {
        let identification = word(released, network + 4).unwrap_or_default();
        put(network + 4, identification);
        put(network + 10, 0);
    }
    put(at + CHECKSUM_AT, 0);
    let seq = segment.seq.wrapping_add(from as u32);
    own[at + SEQ_AT..at + SEQ_AT + 4].copy_from_slice(&seq.to_be_bytes());
    if from > 0 {
        own[at + FLAGS_AT] &= !OF_THE_FIRST;
    }
    if part.len < rest {
        own[at + FLAGS_AT] &= !OF_THE_LAST;
    }
    if is_v4 {
        let end = network + usize::from(sent[network] & 0xf) * 4;
        let checksum = !(sum(&own[network..end]) as u16);
        own[network + 10..network + 12].copy_from_slice(&checksum.to_be_bytes());
    }
    let addresses = match is_v4 {
        true => network + 12..network + 20,
        false => network + 8..network + 40,
    };
    let pseudo = sum(&own[addresses]) + PROTOCOL_TCP + (own.len() - at) as u64;
    let checksum = !((pseudo + sum(&own[at..])) % 0xffff) as u16;
    own[at + CHECKSUM_AT..at + CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    same_segment(&own, released, part)
}

const PROTOCOL_TCP: u64 = 6;
/// Offset of the control bits in a TCP header.
const FLAGS_AT: usize = 13;

/// Sum of 16-bit words in ones' complement arithmetic (RFC 1071), where 0 and 0xffff are one.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or_default()));
    words.sum::<u64>() % 0xffff
}
