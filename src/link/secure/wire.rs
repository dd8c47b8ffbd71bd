//! What the guards of two nodes write, byte by byte.
//!
//! Behind an Ethernet header with the link's EtherType, big endian:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 2 | magic 0xc05e |
//! | 2 | 1 | version 1 |
//! | 3 | 1 | kind: 0 greeting, 1 sealed frame, 2 good-bye |
//! | 4 | 2 | VM id |
//!
//! A sealed frame or good-bye then has
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 6 | 2 | number of the session, which says only what is worth a look |
//! | 8 | 8 | number of the frame, from 1 |
//! | 16 | 16 | tag of the 16 bytes above and of all bytes behind |
//! | 32 | | the frame with an Ethernet header of its own, to the end; a good-bye has zeros |
//!
//! and a greeting
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 6 | 1 | role: 1 primary, 2 secondary |
//! | 7 | 1 | 1 if the sender has begun the session of the two nonces, else 0 |
//! | 8 | 8, 8 | names of the sender's keys, in their order; 0: none |
//! | 24 | 8 | instance of the sender: another one at each start |
//! | 32 | 16 | nonce of the sender |
//! | 48 | 16 | nonce of the receiver that it answers; 0: none |
//! | 64 | 16, 16 | tags of the source address and the 64 bytes above, one for each key |

use super::mac::TAG;
use crate::link::wire::ETHER_TYPE;

/// Bytes that a seal puts in front of a frame.
pub const SEAL: usize = ETHERNET + HEAD + TAG;

pub(super) const ETHERNET: usize = 14;
/// Bytes of a sealed frame that are not the frame's and have the tag behind them.
pub(super) const HEAD: usize = 16;
/// Version of what the link's frames are, the frames below the seal included.
pub(super) const VERSION: u8 = 1;
/// Keys that a node may have.
pub(super) const KEYS: usize = 2;
const MAGIC: u16 = 0xc05e;
const GREETING: usize = ETHERNET + BODY + KEYS * TAG;
const BODY: usize = 64;

/// The name of a key: public; it reveals nothing of the key.
pub(super) type KeyName = [u8; 8];
/// A random number that counts once.
pub(super) type Nonce = [u8; 16];
/// A random number that one process has all its life.
pub(super) type Instance = [u8; 8];

/// What a node was started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// With the PVM.
    Primary = 1,
    /// With the SVM, wherever that speaks by now.
    Secondary = 2,
}

/// What a frame is, as far as its first bytes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Greeting,
    Sealed,
    GoodBye,
}

/// A frame's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Not the link's at all.
    Other,
    /// The link's without a seal, for this VM or another; the version where it has one.
    Plain { vm: Option<u16>, version: u8 },
    /// The guards' own, of another version; every version has its VM id there.
    Version { vm: u16, version: u8 },
    /// The guards' own.
    Ours { kind: Kind, vm: u16 },
}

/// Magics of unsealed frames and fragments: `link::wire` and `link::fragment`.
const PLAIN: u16 = 0xc010;
const FRAGMENT: u16 = 0xc01f;

/// Reads them.
pub(super) fn first(head: &[u8]) -> First {
    let Some(&[e0, e1, m0, m1, version, kind, v0, v1]) =
        head.get(12..20).and_then(|bytes| bytes.first_chunk::<8>())
    else {
        return First::Other;
    };
    if u16::from_be_bytes([e0, e1]) != ETHER_TYPE {
        return First::Other;
    }
    let vm = u16::from_be_bytes([v0, v1]);
    let kind = match (u16::from_be_bytes([m0, m1]), version, kind) {
        (PLAIN, ..) => {
            let vm = Some(vm);
            return First::Plain { vm, version };
        }
        (FRAGMENT, ..) => return First::Plain { vm: None, version },
        (MAGIC, VERSION, 0) => Kind::Greeting,
        (MAGIC, VERSION, 1) => Kind::Sealed,
        (MAGIC, VERSION, 2) => Kind::GoodBye,
        (MAGIC, VERSION, _) => return First::Other,
        (MAGIC, version, _) => return First::Version { vm, version },
        _ => return First::Other,
    };
    First::Ours { kind, vm }
}

/// The id of the VM that a frame says it is for, sealed or not. A fragment has none.
#[inline]
pub fn addressee(head: &[u8]) -> Option<u16> {
    match first(head) {
        First::Ours { vm, .. } | First::Version { vm, .. } => Some(vm),
        First::Plain { vm, .. } => vm,
        First::Other => None,
    }
}

/// The sender of a frame.
pub(super) fn source(head: &[u8]) -> [u8; 6] {
    head.get(6..12)
        .and_then(|bytes| bytes.first_chunk().copied())
        .unwrap_or_default()
}

/// What is written in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: Kind,
    pub vm: u16,
    pub session: u16,
    pub number: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD] {
        let mut out = start(self.kind, self.vm);
        out[6..8].copy_from_slice(&self.session.to_be_bytes());
        out[8..16].copy_from_slice(&self.number.to_be_bytes());
        out
    }

    /// The session, the number, the bytes that they were in, and the tag.
    pub(crate) fn decode(head: &[u8]) -> Option<(u16, u64, [u8; HEAD], [u8; TAG])> {
        let bytes: [u8; HEAD] = *head.get(ETHERNET..)?.first_chunk()?;
        let tag = *head.get(ETHERNET + HEAD..)?.first_chunk()?;
        let session = u16::from_be_bytes([bytes[6], bytes[7]]);
        let number = u64::from_be_bytes(*bytes[8..].first_chunk()?);
        Some((session, number, bytes, tag))
    }
}

fn start(kind: Kind, vm: u16) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[0..2].copy_from_slice(&MAGIC.to_be_bytes());
    out[2] = VERSION;
    out[3] = match kind {
        Kind::Greeting => 0,
        Kind::Sealed => 1,
        Kind::GoodBye => 2,
    };
    out[4..6].copy_from_slice(&vm.to_be_bytes());
    out
}

/// What a greeting says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub vm: u16,
    pub role: Role,
    pub begun: bool,
    pub keys: [KeyName; KEYS],
    pub instance: Instance,
    pub from: Nonce,
    pub to: Nonce,
}

/// A whole greeting, ready to send.
#[derive(Clone, Copy, Debug)]
pub struct Greeting([u8; GREETING]);

impl Greeting {
    /// The frame, its Ethernet header included.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A greeting between two addresses; `tag` gives the tag by the n-th key.
    pub(super) fn new(
        hello: &Hello,
        destination: [u8; 6],
        source: [u8; 6],
        mut tag: impl FnMut(usize, [&[u8]; 2]) -> [u8; TAG],
    ) -> Self {
        let mut out = [0; GREETING];
        out[0..6].copy_from_slice(&destination);
        out[6..12].copy_from_slice(&source);
        out[12..14].copy_from_slice(&ETHER_TYPE.to_be_bytes());
        let (head, tags) = out.split_at_mut(ETHERNET + BODY);
        let body = &mut head[ETHERNET..];
        body[..HEAD].copy_from_slice(&start(Kind::Greeting, hello.vm));
        body[6] = hello.role as u8;
        body[7] = u8::from(hello.begun);
        body[8..16].copy_from_slice(&hello.keys[0]);
        body[16..24].copy_from_slice(&hello.keys[1]);
        body[24..32].copy_from_slice(&hello.instance);
        body[32..48].copy_from_slice(&hello.from);
        body[48..64].copy_from_slice(&hello.to);
        for n in 0..KEYS {
            let tag = tag(n, [&source, &head[ETHERNET..]]);
            tags[n * TAG..(n + 1) * TAG].copy_from_slice(&tag);
        }
        Self(out)
    }
}

/// A greeting that came, nothing proven yet.
pub(super) struct Received<'a> {
    pub hello: Hello,
    /// What the tags are of.
    pub tagged: [&'a [u8]; 2],
    pub tags: [[u8; TAG]; KEYS],
}

impl<'a> Received<'a> {
    pub(crate) fn decode(head: &'a [u8]) -> Option<Self> {
        let body: &[u8; BODY] = head.get(ETHERNET..)?.first_chunk()?;
        let tags = head.get(ETHERNET + BODY..GREETING)?;
        let role = match body[6] {
            1 => Role::Primary,
            2 => Role::Secondary,
            _ => return None,
        };
        let hello = Hello {
            vm: u16::from_be_bytes([body[4], body[5]]),
            role,
            begun: body[7] != 0,
            keys: [*body[8..].first_chunk()?, *body[16..].first_chunk()?],
            instance: *body[24..].first_chunk()?,
            from: *body[32..].first_chunk()?,
            to: *body[48..].first_chunk()?,
        };
        Some(Self {
            hello,
            tagged: [&head[6..12], body],
            tags: [*tags.first_chunk()?, *tags[TAG..].first_chunk()?],
        })
    }
}
