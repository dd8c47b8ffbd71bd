//! The way to and from the link: frames are split, then sealed; what counts is opened, then put together.
//!
//! A seal is put into a frame's own headroom where nobody else owns the frame, else in front of it as an mbuf of
//! its own. What is sealed or opened is read where it lies, in as many segments as it has.

use super::egress::ETHERNET_HEADER;
use super::fragments::{Joining, Splitting};
use crate::dpdk::{Burst, Mbuf, Mempool, tsc};
use crate::frame::{Frame, Ticks};
use crate::link::secure::{Begun, Guard, Opened, SEAL};

/// A link port's stage between the node and the driver.
pub struct Sealing {
    /// Which frames count.
    pub guard: Guard,
    splitting: Option<Splitting>,
    joining: Joining,
    /// Mbufs for seals and the guard's own frames.
    headers: Mempool,
    /// Frames of the right length that have no seal yet.
    unsealed: Burst,
    /// The last session that has begun, until it was told.
    begun: Option<Begun>,
    /// Frames that were dropped since nobody could have opened them.
    pub unheard: u64,
}

impl Sealing {
    /// For a port that sends frames of this MTU, if it has one; `cutting` is where slices come from.
    pub fn new(
        guard: Guard,
        headers: Mempool,
        mtu: Option<usize>,
        cutting: Option<Mempool>,
    ) -> Self {
        let overhead = guard.overhead();
        // The link's frames have no tags.
        let longest = mtu.map(|mtu| (mtu + ETHERNET_HEADER).saturating_sub(overhead));
        Self {
            guard,
            splitting: (longest.zip(cutting))
                .and_then(|(longest, pool)| Splitting::new(longest, pool)),
            joining: Joining::default(),
            headers,
            unsealed: Burst::new(),
            begun: None,
            unheard: 0,
        }
    }

    /// Whether frames that were taken are still to come.
    #[inline]
    pub fn is_busy(&self) -> bool {
        !self.unsealed.is_empty() || (self.splitting.as_ref()).is_some_and(Splitting::is_splitting)
    }

    /// Whether a frame cannot go as it is.
    #[inline]
    pub fn concerns(&self, frame: &Mbuf) -> bool {
        self.guard.seals() || (self.splitting.as_ref()).is_some_and(|s| s.concerns(frame))
    }

    /// Whether the guard has something to say.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.guard.seals() && self.guard.is_due(tsc::now())
    }

    /// Moves frames from `from` to `to`, in order, as far as there is room and memory. Returns how many left `from`.
    pub fn fill(&mut self, from: &mut Burst, to: &mut Burst) -> usize {
        if !self.guard.seals() {
            return match &mut self.splitting {
                Some(splitting) => splitting.fill(from, to),
                None => pass(from, to),
            };
        }
        self.greet(to);
        let mut taken = 0;
        loop {
            self.seal(to);
            if !self.unsealed.is_empty() {
                return taken;
            }
            taken += match &mut self.splitting {
                Some(splitting) => splitting.fill(from, &mut self.unsealed),
                None => pass(from, &mut self.unsealed),
            };
            if self.unsealed.is_empty() {
                return taken;
            }
        }
    }

    fn greet(&mut self, to: &mut Burst) {
        let now = tsc::now();
        while !to.is_full()
            && self.guard.is_due(now)
            && let Some(mut frame) = self.headers.alloc()
            && let Some(greeting) = self.guard.next_greeting(now)
        {
            if let Some(room) = frame.append(greeting.bytes().len()) {
                room.copy_from_slice(greeting.bytes());
                let _ = to.push(frame);
            }
        }
    }

    /// Seals what has none, as far as there is room and memory.
    fn seal(&mut self, to: &mut Burst) {
        while !to.is_full()
            && let Some(frame) = self.unsealed.iter().next()
        {
            let header = match frame.can_prepend(SEAL) {
                true => None,
                false => match self.headers.alloc() {
                    None => return,
                    header => header,
                },
            };
            let seal = self.guard.seal(frame.head(), frame.segments());
            let Some(mut frame) = self.unsealed.pop_front() else {
                return;
            };
            let Some(seal) = seal else {
                self.unheard += 1;
                continue;
            };
            let sealed = match header {
                None => frame
                    .prepend(SEAL)
                    .map(|room| room.copy_from_slice(&seal))
                    .map(|()| frame),
                Some(mut header) => {
                    if let Some(room) = header.append(SEAL) {
                        room.copy_from_slice(&seal);
                    }
                    Mbuf::with_header(header, frame).ok()
                }
            };
            debug_assert!(sealed.is_some());
            if let Some(sealed) = sealed {
                // There is room.
                let _ = to.push(sealed);
            }
        }
    }

    /// Takes in what the port received; gives back a frame that counts and is whole.
    #[inline]
    pub fn accept(&mut self, mut frame: Mbuf, now: Ticks) -> Option<Mbuf> {
        match self.guard.open(frame.head(), frame.segments(), now) {
            Opened::Plain => {}
            Opened::Sealed if frame.trim_front(SEAL) => {}
            Opened::Begun(session) => {
                self.begun = Some(session);
                // Fragments of two sessions are no frame (rule R11).
                self.joining = Joining::default();
                return None;
            }
            Opened::Sealed | Opened::Consumed | Opened::Void => return None,
        }
        self.joining.accept(frame)
    }

    /// The session that has begun since the last call.
    #[inline]
    pub fn take_session(&mut self) -> Option<Begun> {
        self.begun.take()
    }

    /// The frame that says good-bye, if there is anybody to say it to.
    pub fn good_bye(&mut self) -> Option<Mbuf> {
        let bytes = self.guard.good_bye()?;
        self.headers.copy_of(&bytes)
    }
}

/// Moves frames as they are.
fn pass(from: &mut Burst, to: &mut Burst) -> usize {
    let mut passed = 0;
    while !to.is_full()
        && let Some(frame) = from.pop_front()
    {
        let _ = to.push(frame);
        passed += 1;
    }
    passed
}
