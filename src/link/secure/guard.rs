//! One end of a session: who has proven what, and which frames count.
//!
//! A session begins when a greeting answers this node's nonce, which was drawn for this session alone: a recorded
//! greeting answers another one. From then on frames are sealed and opened with keys that both nonces are in. A
//! session that no sealed frame has come in yet gives way to any that is proven; one that has been heard gives way
//! only after a good-bye, after a silence shorter than that of a lost peer, or to its own process that has begun
//! another: a recorded question makes its process answer, but never begin.

use super::answers::Answers;
use super::keys::{End, KeyRing, Source, VmKey};
use super::mac::{MacKey, TAG, same};
use super::notice::{Fault, Notice, Notices};
use super::window::Window;
use super::wire::{
    ETHERNET, First, Greeting, HEAD, Head, Hello, Instance, KEYS, Kind, Nonce, Received, Role,
    SEAL, first, source,
};
use crate::frame::Ticks;
use crate::link::Timing;
use crate::link::wire::{ETHER_TYPE, VERSION as PLAIN_VERSION};

/// Of the silence after which a peer counts as lost, the part after which a session gives way.
const GIVES_WAY: Ticks = 2;

/// Bytes of a good-bye, more than Ethernet's least.
const GOOD_BYE: usize = 80;

/// Nobody's nonce.
const NOBODY: Nonce = [0; 16];
const EVERYBODY: [u8; 6] = [0xff; 6];

/// Who this node is on the link.
#[derive(Clone)]
pub struct Identity {
    /// The pair's id.
    pub vm: u16,
    /// What the node was started as.
    pub role: Role,
    /// The link port's address.
    pub mac: [u8; 6],
    /// Random bytes of the operating system's.
    pub seed: [u8; 32],
}

/// What has been void so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that are not the link's, or another VM's.
    pub garbage: u64,
    /// Frames with a wrong tag.
    pub forged: u64,
    /// Frames of an old session, and numbers that had counted.
    pub stale: u64,
    /// Frames of who has another version or key, or none, and of a second peer.
    pub foreign: u64,
}

/// A session that has begun: a number for each end, which both guards know and no other session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// This node's.
    pub own: u32,
    /// The peer's.
    pub peer: u32,
}

impl Begun {
    fn new(own: &Nonce, peer: &Nonce) -> Self {
        let number = |[a, b, c, d, ..]: &Nonce| u32::from_be_bytes([*a, *b, *c, *d]).max(1);
        Self {
            own: number(own),
            peer: number(peer),
        }
    }
}

/// What a received frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It counts, without its first [`SEAL`] bytes.
    Sealed,
    /// It counts as it is: the link is trusted.
    Plain,
    /// It was the guard's own.
    Consumed,
    /// The same, and a session has begun: nothing of an earlier one counts any more.
    Begun(Begun),
    /// It does not count.
    Void,
}

struct Session {
    me: Nonce,
    peer: Nonce,
    instance: Instance,
    address: [u8; 6],
    send: MacKey,
    sends: u16,
    sent: u64,
    receive: MacKey,
    receives: u16,
    window: Window,
    heard: Ticks,
    /// A sealed frame has come.
    is_heard: bool,
    /// The peer has said good-bye.
    ended: bool,
}

/// What a node with a key has.
struct Keyed {
    keys: [Option<VmKey>; KEYS],
    source: Source,
    instance: Instance,
    /// The nonce of the next session.
    nonce: Nonce,
    session: Option<Session>,
    answers: Answers,
    greet_at: Ticks,
}

/// The guard of one link port.
pub struct Guard {
    vm: u16,
    role: Role,
    mac: [u8; 6],
    timing: Timing,
    keyed: Option<Box<Keyed>>,
    notices: Notices,
    counts: Counts,
    /// Somebody claims to be of this pair and cannot prove it.
    foreigner: bool,
}

impl Guard {
    /// A guard that lets only sealed frames pass.
    pub fn new(ring: &KeyRing, identity: &Identity, timing: Timing) -> Self {
        let mut source = Source::new(&identity.seed);
        let mut instance = Instance::default();
        let length = instance.len();
        instance.copy_from_slice(&source.draw()[..length]);
        let keyed = Keyed {
            keys: ring.of_vm(identity.vm),
            nonce: source.nonce(),
            source,
            instance,
            session: None,
            answers: Answers::default(),
            greet_at: 0,
        };
        Self {
            keyed: Some(Box::new(keyed)),
            ..Self::trusting(identity.vm, identity.role, identity.mac, timing)
        }
    }

    /// A guard of a link that the operator trusts: all frames pass, and it only names who has a key.
    pub fn trusting(vm: u16, role: Role, mac: [u8; 6], timing: Timing) -> Self {
        Self {
            vm,
            role,
            mac,
            timing,
            keyed: None,
            notices: Notices::new(&timing),
            counts: Counts::default(),
            foreigner: false,
        }
    }

    /// What this node was started as.
    #[cfg(test)]
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Whether frames are sealed.
    #[inline]
    pub fn seals(&self) -> bool {
        self.keyed.is_some()
    }

    /// Bytes that it puts in front of each frame.
    pub fn overhead(&self) -> usize {
        if self.seals() { SEAL } else { 0 }
    }

    /// What has been void.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What an operator should hear.
    pub fn next_notice(&mut self, now: Ticks) -> Option<Notice> {
        self.notices.next(now)
    }

    /// Whether, since the last call, somebody was heard who claims to be this node's peer and cannot prove it.
    pub fn take_foreigner(&mut self) -> bool {
        std::mem::take(&mut self.foreigner)
    }

    /// Whether there is a session and its peer was heard in it.
    pub fn has_session(&self) -> bool {
        let session = self.keyed.as_ref().and_then(|keyed| keyed.session.as_ref());
        session.is_some_and(|session| session.is_heard && !session.ended)
    }

    /// Takes in a frame: its first bytes, and all of them.
    #[inline]
    pub fn open<'a>(
        &mut self,
        head: &'a [u8],
        pieces: impl Iterator<Item = &'a [u8]>,
        now: Ticks,
    ) -> Opened {
        let kind = match first(head) {
            First::Ours { vm, .. } if vm != self.vm => return self.garbage(),
            First::Ours { kind, .. } => kind,
            other => return self.open_other(other, head),
        };
        let Some(keyed) = &mut self.keyed else {
            return self.void(Fault::Sealed, head);
        };
        if kind == Kind::Greeting {
            return self.greeted(head, now);
        }
        let Some((number_of_session, number, bytes, tag)) = Head::decode(head) else {
            return self.garbage();
        };
        let Some(session) = &mut keyed.session else {
            return self.void(Fault::Stale, head);
        };
        if number_of_session != session.receives {
            let own = number_of_session == session.sends;
            return self.void(if own { Fault::Reflected } else { Fault::Stale }, head);
        }
        if !session.window.accepts(number) || session.ended {
            return self.void(Fault::Stale, head);
        }
        let expected = session.receive.tag(number, &bytes, behind(SEAL, pieces));
        if !same(&expected, &tag) {
            return self.void(Fault::Forged, head);
        }
        session.window.count(number);
        session.heard = now;
        if !session.is_heard {
            session.is_heard = true;
            self.notices.begin(session.address);
        }
        if kind == Kind::GoodBye {
            session.ended = true;
            return Opened::Consumed;
        }
        Opened::Sealed
    }

    /// The bytes to put in front of a frame, whose first bytes and all of them these are; `None` where there is no
    /// session, and nobody could read it.
    #[inline]
    pub fn seal<'a>(
        &mut self,
        head: &[u8],
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Option<[u8; SEAL]> {
        let session = self.keyed.as_mut()?.session.as_mut()?;
        let addresses = head.first_chunk::<12>()?;
        Some(session.seal(Kind::Sealed, self.vm, addresses, pieces))
    }

    /// Whether [`Guard::next_greeting`] has one.
    #[inline]
    pub fn is_due(&self, now: Ticks) -> bool {
        self.keyed.as_ref().is_some_and(|keyed| {
            keyed.answers.is_due(self.timing.heartbeat, now)
                || (now >= keyed.greet_at && self.greets(keyed, now))
        })
    }

    fn greets(&self, keyed: &Keyed, now: Ticks) -> bool {
        (keyed.session.as_ref()).is_none_or(|session| {
            !session.is_heard || session.ended || self.is_silent(session, now)
        })
    }

    fn is_silent(&self, session: &Session, now: Ticks) -> bool {
        now.saturating_sub(session.heard) >= self.timing.silence
    }

    /// The next greeting to send: an answer, or this node's own question.
    pub fn next_greeting(&mut self, now: Ticks) -> Option<Greeting> {
        if !self.is_due(now) {
            return None;
        }
        let (timing, vm, role, mac) = (self.timing, self.vm, self.role, self.mac);
        let keyed = self.keyed.as_mut()?;
        let (begun, to, address) = match keyed.answers.next(timing.heartbeat, now) {
            Some((to, address)) => {
                let begun = keyed.session.as_ref().filter(|session| session.peer == to);
                (begun, to, address)
            }
            None => {
                let unheard = keyed.session.as_ref().filter(|session| !session.is_heard);
                let quick = keyed
                    .session
                    .as_ref()
                    .is_none_or(|s| !s.is_heard || s.ended);
                let pause = if quick {
                    timing.heartbeat
                } else {
                    timing.silence / 2
                };
                keyed.greet_at = now.saturating_add(pause);
                match unheard {
                    Some(session) => (unheard, session.peer, session.address),
                    None => (None, NOBODY, EVERYBODY),
                }
            }
        };
        let hello = Hello {
            vm,
            role,
            begun: begun.is_some(),
            keys: [0, 1].map(|n| keyed.keys[n].as_ref().map_or([0; 8], |key| key.name)),
            instance: keyed.instance,
            from: begun.map_or(keyed.nonce, |session| session.me),
            to,
        };
        Some(Greeting::new(&hello, address, mac, |n, parts| {
            (keyed.keys[n].as_ref()).map_or([0; TAG], |key| key.greeting_tag(parts))
        }))
    }

    /// Says that this node ends, if there is a session: a whole frame, long enough that no driver pads it.
    pub fn good_bye(&mut self) -> Option<[u8; GOOD_BYE]> {
        let (vm, mac) = (self.vm, self.mac);
        let session = self.keyed.as_mut()?.session.as_mut()?;
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&session.address);
        addresses[6..].copy_from_slice(&mac);
        let mut out = [0; GOOD_BYE];
        let nothing: &[u8] = &[0; GOOD_BYE - SEAL];
        let seal = session.seal(Kind::GoodBye, vm, &addresses, std::iter::once(nothing));
        out[..SEAL].copy_from_slice(&seal);
        Some(out)
    }

    /// A frame that is not the guards' own.
    fn open_other(&mut self, frame: First, head: &[u8]) -> Opened {
        match frame {
            First::Plain { vm, .. } if self.seals() && vm != Some(self.vm) => self.garbage(),
            First::Plain { .. } if self.seals() => self.void(Fault::Unsealed, head),
            First::Plain { vm, version } => {
                // What it is exactly its reader finds out; here it is only named.
                if vm == Some(self.vm) && version != PLAIN_VERSION {
                    self.void(Fault::Version(version), head);
                }
                Opened::Plain
            }
            First::Version { vm, .. } if vm != self.vm => self.garbage(),
            First::Version { version, .. } => self.void(Fault::Version(version), head),
            First::Other if self.seals() => self.garbage(),
            First::Other | First::Ours { .. } => Opened::Plain,
        }
    }

    fn garbage(&mut self) -> Opened {
        self.counts.garbage += 1;
        Opened::Void
    }

    #[cold]
    fn void(&mut self, fault: Fault, head: &[u8]) -> Opened {
        let counts = &mut self.counts;
        match fault {
            Fault::Forged => counts.forged += 1,
            Fault::Stale | Fault::Reflected => counts.stale += 1,
            _ => counts.foreign += 1,
        }
        self.foreigner |= matches!(
            fault,
            Fault::Unsealed | Fault::Sealed | Fault::Version(_) | Fault::OtherKey
        );
        self.notices.add(fault, source(head));
        Opened::Void
    }

    #[cold]
    fn greeted(&mut self, head: &[u8], now: Ticks) -> Opened {
        let (Some(received), Some(keyed)) = (Received::decode(head), self.keyed.as_mut()) else {
            return self.garbage();
        };
        let hello = received.hello;
        if hello.instance == keyed.instance {
            return self.void(Fault::Reflected, head);
        }
        let Some((own, theirs)) = keyed.common(&hello) else {
            return self.void(Fault::OtherKey, head);
        };
        let tag = keyed.keys[own]
            .as_ref()
            .map(|key| key.greeting_tag(received.tagged));
        if !tag.is_some_and(|tag| same(&tag, &received.tags[theirs])) {
            return self.void(Fault::Forged, head);
        }
        // Who proves that it has the key is alive, though no session comes of it yet.
        self.foreigner = true;
        if hello.role == Role::Primary && self.role == Role::Primary {
            return self.void(Fault::SameRole, head);
        }
        let address = source(head);
        let pause = self.timing.heartbeat;
        let current = keyed.session.as_ref();
        let lives = current.is_some_and(|session| {
            let gone = now.saturating_sub(session.heard) >= self.timing.silence / GIVES_WAY;
            session.is_heard && !session.ended && !gone
        });
        if hello.to == NOBODY {
            keyed.answer(hello.from, address, pause, now);
            return Opened::Consumed;
        }
        if hello.to != keyed.nonce {
            if current.is_some_and(|s| s.me == hello.to && s.peer == hello.from) {
                return Opened::Consumed;
            }
            // Late, or recorded, or of a node that waited until this one's session was over.
            if !lives {
                keyed.answer(hello.from, address, pause, now);
            }
            return self.void(Fault::Stale, head);
        }
        // The sender has the key and has read the nonce of the next session.
        let renews = current.is_some_and(|session| session.instance == hello.instance);
        if lives && !(renews && hello.begun) {
            return match renews {
                // An answer to a question that this node has not asked, or has no more.
                true => Opened::Consumed,
                false => self.void(Fault::Second, head),
            };
        }
        // The next greeting is due at once and notifies the sender, who need not have begun.
        keyed
            .begin(own, &hello, self.role, address, now)
            .map_or(Opened::Consumed, Opened::Begun)
    }
}

impl Keyed {
    /// The key that both have: its place here and there.
    fn common(&self, hello: &Hello) -> Option<(usize, usize)> {
        let mut found: Option<(usize, usize)> = None;
        for (own, key) in self.keys.iter().enumerate() {
            let Some(key) = key else {
                continue;
            };
            let theirs = hello.keys.iter().position(|name| *name == key.name);
            let lower = |(n, _): (usize, usize)| {
                self.keys[n]
                    .as_ref()
                    .is_none_or(|found| key.name < found.name)
            };
            if let Some(theirs) = theirs
                && found.is_none_or(lower)
            {
                found = Some((own, theirs));
            }
        }
        found
    }

    fn answer(&mut self, to: Nonce, address: [u8; 6], time: Ticks, now: Ticks) {
        let source = &mut self.source;
        self.answers.ask((to, address), time, now, || {
            let [a, b, c, d, ..] = source.draw();
            u32::from_be_bytes([a, b, c, d])
        });
    }

    fn begin(
        &mut self,
        key: usize,
        hello: &Hello,
        role: Role,
        address: [u8; 6],
        now: Ticks,
    ) -> Option<Begun> {
        let me = std::mem::replace(&mut self.nonce, self.source.nonce());
        let derive = self.keys[key].as_ref()?;
        let own = End { nonce: me, role };
        let peer = End {
            nonce: hello.from,
            role: hello.role,
        };
        let ((send, sends), (receive, receives)) =
            (derive.session(own, peer), derive.session(peer, own));
        self.session = Some(Session {
            me,
            peer: hello.from,
            instance: hello.instance,
            address,
            send,
            sends,
            sent: 0,
            receive,
            receives,
            window: Window::default(),
            heard: now,
            is_heard: false,
            ended: false,
        });
        self.greet_at = now;
        Some(Begun::new(&me, &hello.from))
    }
}

impl Session {
    #[inline]
    fn seal<'a>(
        &mut self,
        kind: Kind,
        vm: u16,
        addresses: &[u8; 12],
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> [u8; SEAL] {
        self.sent += 1;
        let head = Head {
            kind,
            vm,
            session: self.sends,
            number: self.sent,
        };
        let bytes = head.encode();
        let tag = self.send.tag(self.sent, &bytes, pieces);
        let mut out = [0; SEAL];
        out[..12].copy_from_slice(addresses);
        out[12..ETHERNET].copy_from_slice(&ETHER_TYPE.to_be_bytes());
        out[ETHERNET..ETHERNET + HEAD].copy_from_slice(&bytes);
        out[ETHERNET + HEAD..].copy_from_slice(&tag);
        out
    }
}

/// The pieces without their first `n` bytes, which lie in the first of them.
fn behind<'a>(
    n: usize,
    mut pieces: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = &'a [u8]> {
    let first = pieces.next().and_then(|first| first.get(n..));
    first.into_iter().chain(pieces)
}
