//! What the two guests sent, in one time: whose frames those of a capture are, and how the clocks differ.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dpdk_colo::Ticks;
use dpdk_colo::flow::FlowKey;
use dpdk_colo::packet::{Kind, Packet, TcpFlags};

use super::read::{Capture, Place};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "an address such as 52:54:00:12:34:56".to_owned();
        let parts: Vec<_> = text.split(':').collect();
        let mut mac = [0; 6];
        if parts.len() != mac.len() {
            return Err(wrong());
        }
        for (byte, part) in mac.iter_mut().zip(parts) {
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        Ok(Self(mac))
    }
}

/// A frame that a guest sent or got.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When, in the time of both: the first frame of either has [`FIRST`].
    pub at: Ticks,
    /// The frame.
    pub bytes: Vec<u8>,
    /// Its headers.
    pub packet: Packet,
}

impl Sent {
    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        let (from, to) = (usize::from(self.packet.payload), self.packet.end());
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// A number for what it says, whatever the numbers in its headers are.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let packet = &self.packet;
        packet.fragment.hash(&mut hasher);
        if packet.kind == Kind::Tcp {
            (packet.tcp.flags.0 & 0x07, packet.payload_len).hash(&mut hasher);
        }
        self.payload().hash(&mut hasher);
        hasher.finish()
    }
}

/// The time of the earliest frame: the comparator's own times begin above 0.
pub const FIRST: Ticks = 1_000_000_000;

/// One guest's capture.
#[derive(Debug, Default)]
pub struct Guest {
    /// What it sent.
    pub output: Vec<Sent>,
    /// What it got.
    pub input: Vec<Sent>,
    /// Its address, where the capture is not a node's own.
    pub mac: Option<Mac>,
    /// The first and the last frame, by the capture's clock in nanoseconds.
    pub span: (u64, u64),
}

/// Sorts a capture into what the guest sent and what it got. Times are the capture's, in nanoseconds.
///
/// # Errors
/// When it is not clear which frames are the guest's, or there is none.
pub fn guest(
    path: &Path,
    capture: Capture,
    given: Option<Mac>,
    wanted: [Place; 2],
) -> Result<Guest, GuestError> {
    let empty = || GuestError::Empty(path.to_owned());
    let (Some(first), Some(last)) = (capture.frames.first(), capture.frames.last()) else {
        return Err(empty());
    };
    let mut guest = Guest {
        span: (first.ns, last.ns),
        ..Guest::default()
    };
    // Of a node's own capture, the first of the wanted interfaces that has frames.
    let has = |place: Place| capture.frames.iter().any(|seen| seen.place == Some(place));
    let is_of_a_node = capture.frames.iter().any(|seen| seen.place.is_some());
    let place = wanted.into_iter().find(|place| has(*place));
    let mac = match (is_of_a_node, given) {
        (true, _) => None,
        (false, Some(mac)) => Some(mac),
        (false, None) => Some(find(path, &capture)?),
    };
    guest.mac = mac;
    for seen in capture.frames {
        let Some((destination, source)) = addresses(&seen.bytes) else {
            continue;
        };
        let into = match (mac, seen.place) {
            (None, Some(Place::In)) => &mut guest.input,
            (None, at) if at == place && at.is_some() => &mut guest.output,
            (Some(mac), _) if source == mac => &mut guest.output,
            (Some(mac), _) if destination == mac || !destination.is_unicast() => &mut guest.input,
            _ => continue,
        };
        into.push(Sent {
            at: seen.ns,
            packet: Packet::parse(&seen.bytes, seen.bytes.len()),
            bytes: seen.bytes,
        });
    }
    if guest.output.is_empty() {
        return Err(match mac {
            Some(mac) => GuestError::Silent {
                path: path.to_owned(),
                mac,
            },
            None => empty(),
        });
    }
    Ok(guest)
}

fn addresses(bytes: &[u8]) -> Option<(Mac, Mac)> {
    let mac = |at: usize| bytes.get(at..at + 6)?.try_into().ok().map(Mac);
    Some((mac(0)?, mac(6)?))
}

/// The address that takes part in all unicast frames. Where a guest has one peer only, both do: the one that accepts
/// connections is the guest.
fn find(path: &Path, capture: &Capture) -> Result<Mac, GuestError> {
    let mut parts: HashMap<Mac, usize> = HashMap::new();
    let (mut all, mut accepts) = (0, Vec::new());
    for seen in &capture.frames {
        let Some((destination, source)) = addresses(&seen.bytes) else {
            continue;
        };
        if !destination.is_unicast() {
            continue;
        }
        all += 1;
        *parts.entry(destination).or_default() += 1;
        *parts.entry(source).or_default() += usize::from(source != destination);
        let packet = Packet::parse(&seen.bytes, seen.bytes.len());
        let both = TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0);
        if packet.kind == Kind::Tcp && packet.tcp.flags.contains(both) {
            accepts.push(source);
        }
    }
    let mut macs: Vec<_> = parts
        .into_iter()
        .filter_map(|(mac, n)| (n == all).then_some(mac))
        .collect();
    macs.sort_unstable();
    if macs.len() > 1 {
        macs.retain(|mac| accepts.contains(mac));
    }
    match macs[..] {
        [mac] => Ok(mac),
        _ => Err(GuestError::Which(path.to_owned())),
    }
}

/// How the time of S's capture becomes that of P's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// S's clock less P's, in nanoseconds.
    pub offset: i64,
    /// How this is known.
    pub by: By,
    /// Frames that show it.
    pub frames: usize,
}

/// How the offset between two clocks is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It was given.
    Option,
    /// By the input that both guests got: the least delay counts as none.
    Input,
    /// By equal output: neither guest counts as ahead of the other, in the median.
    Output,
}

impl By {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Option => "option",
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Estimates S's clock less P's from frames that both captures have once.
pub fn clock(p: &Guest, s: &Guest) -> Option<Clock> {
    let mut input = differences(&p.input, &s.input, |sent| {
        // The seq of what a client sends is the same for both guests where it is mirrored.
        Some((sent.packet.key, sent.digest(), sent.packet.tcp.seq))
    });
    if !input.is_empty() {
        input.sort_unstable();
        return Some(Clock {
            // A frame that was matched with a wrong one is no minimum.
            offset: input[input.len() / 100],
            by: By::Input,
            frames: input.len(),
        });
    }
    let mut output = differences(&p.output, &s.output, |sent| {
        let tells = sent.packet.payload_len > 0 || sent.packet.kind == Kind::Tcp;
        tells.then(|| (sent.packet.key, sent.digest(), 0))
    });
    output.sort_unstable();
    let offset = *output.get(output.len() / 2)?;
    Some(Clock {
        offset,
        by: By::Output,
        frames: output.len(),
    })
}

/// The times in `s` less those in `p` of the frames that each has once.
fn differences(
    p: &[Sent],
    s: &[Sent],
    key: impl Fn(&Sent) -> Option<(FlowKey, u64, u32)>,
) -> Vec<i64> {
    let once = |all: &[Sent]| {
        let mut found: HashMap<_, Option<Ticks>> = HashMap::new();
        for sent in all {
            if let Some(key) = key(sent) {
                let at = found.entry(key);
                at.and_modify(|at| *at = None).or_insert(Some(sent.at));
            }
        }
        found
    };
    let (p, s) = (once(p), once(s));
    let times = p.into_iter().filter_map(|(key, p)| {
        let s = (*s.get(&key)?)?;
        Some(s.wrapping_sub(p?).cast_signed())
    });
    times.collect()
}

/// Both guests' traffic in one time.
#[derive(Debug, Default)]
pub struct Traffic {
    /// What P sent.
    pub p: Vec<Sent>,
    /// What S sent.
    pub s: Vec<Sent>,
    /// RSTs that P's guest got.
    pub resets: Vec<Sent>,
    /// From when on both captures have frames, and until when.
    pub span: (Ticks, Ticks),
    /// P's clock less the time here, in nanoseconds.
    pub origin: i128,
}

impl Traffic {
    /// Puts both into P's time, moved so that the first frame of either has [`FIRST`].
    pub fn new(p: Guest, s: Guest, offset: i64) -> Self {
        let of_p = |ns: u64| i128::from(ns);
        let of_s = |ns: u64| i128::from(ns) - i128::from(offset);
        let origin = of_p(p.span.0).min(of_s(s.span.0)) - i128::from(FIRST);
        // The first frame has FIRST, so nothing lies before 0.
        let ticks = |ns: i128| u64::try_from(ns - origin).unwrap_or_default();
        let moved = |frames: Vec<Sent>, at: &dyn Fn(u64) -> i128| -> Vec<Sent> {
            let frames = frames.into_iter();
            frames
                .map(|sent| Sent {
                    at: ticks(at(sent.at)),
                    ..sent
                })
                .collect()
        };
        let begin = ticks(of_p(p.span.0).max(of_s(s.span.0)));
        let end = ticks(of_p(p.span.1).min(of_s(s.span.1)));
        let is_reset = |sent: &Sent| {
            sent.packet.kind == Kind::Tcp && sent.packet.tcp.flags.contains(TcpFlags::RST)
        };
        let resets = p.input.into_iter().filter(is_reset).collect();
        Self {
            p: moved(p.output, &of_p),
            s: moved(s.output, &of_s),
            resets: moved(resets, &of_p),
            span: (begin, end),
            origin,
        }
    }

    /// Whether the captures have a time in common.
    pub fn overlaps(&self) -> bool {
        self.span.0 < self.span.1
    }

    /// Addresses of IPv4 that one guest sends from and the other does not.
    pub fn other_addresses(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let first = |all: &[Sent]| {
            all.iter().find_map(|sent| match sent.packet.key.src_ip() {
                Some(std::net::IpAddr::V4(ip)) if sent.packet.kind == Kind::Tcp => Some(ip),
                _ => None,
            })
        };
        let (p, s) = (first(&self.p)?, first(&self.s)?);
        (p != s).then_some((p, s))
    }
}

/// It is not clear what the guest sent.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The capture has no frame of a guest.
    #[error("{0:?} has no frame that a guest sent")]
    Empty(PathBuf),
    /// Nothing comes from the given address.
    #[error("{path:?} has no frame from {mac}; give the guest's address with --guest")]
    Silent {
        /// The file.
        path: PathBuf,
        /// The address.
        mac: Mac,
    },
    /// Several addresses may be the guest's, or none.
    #[error("{0:?} does not show which of its addresses is the guest's; give it with --guest")]
    Which(PathBuf),
}
