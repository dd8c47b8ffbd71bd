//! The stage between the node and the link port. Outward it fragments frames, then seals them. Inward it opens the
//! seals, then reassembles the frames that count.
//!
//! The seal goes into the frame's own headroom if the frame has one owner, else into a separate mbuf in front of it.
//! The frame's bytes are sealed and opened in place, in all its segments.

use super::egress::ETHERNET_HEADER;
use super::fragments::{MbufFragmenter, MbufReassembler};
use crate::dpdk::{Burst, Mbuf, Mempool, tsc};
use crate::frame::{Frame, Ticks};
use crate::link::secure::{Begun, Guard, Opened, SEAL};

/// Seals and opens the frames of one link port.
pub(crate) struct Sealing {
    /// Decides which frames count.
    pub guard: Guard,
    fragmenter: Option<MbufFragmenter>,
    reassembler: MbufReassembler,
    /// Mbufs for seals and the guard's own frames.
    headers: Mempool,
    /// Frames of the right length that have no seal yet.
    unsealed: Burst,
    /// The last session that has begun, until the caller takes it.
    begun: Option<Begun>,
    /// Frames that were dropped because no peer could have opened them.
    pub unheard: u64,
}

impl Sealing {
    /// For a port with this MTU, if it has one. Slices come from the pool `cutting`.
    pub(crate) fn new(
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
            fragmenter: (longest.zip(cutting))
                .and_then(|(longest, pool)| MbufFragmenter::new(longest, pool)),
            reassembler: MbufReassembler::default(),
            headers,
            unsealed: Burst::new(),
            begun: None,
            unheard: 0,
        }
    }

    /// Whether frames wait to be sealed or fragmented further.
    #[inline]
    pub(crate) fn is_busy(&self) -> bool {
        !self.unsealed.is_empty()
            || (self.fragmenter.as_ref()).is_some_and(MbufFragmenter::is_fragmenting)
    }

    /// Whether a frame must be sealed or fragmented.
    #[inline]
    pub(crate) fn concerns(&self, frame: &Mbuf) -> bool {
        self.guard.seals() || (self.fragmenter.as_ref()).is_some_and(|s| s.concerns(frame))
    }

    /// Whether the guard has a frame to send.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.guard.seals() && self.guard.is_due(tsc::now())
    }

    /// Moves frames from `from` to `to`, in order. It ends where room or memory ends. Returns the number of frames that
    /// left `from`.
    pub(crate) fn fill(&mut self, from: &mut Burst, to: &mut Burst) -> usize {
        if !self.guard.seals() {
            return match &mut self.fragmenter {
                Some(fragmenter) => fragmenter.fill(from, to),
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
            taken += match &mut self.fragmenter {
                Some(fragmenter) => fragmenter.fill(from, &mut self.unsealed),
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

    /// Seals the waiting frames. It ends where room or memory ends.
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
                    Mbuf::chain(header, frame).ok()
                }
            };
            debug_assert!(sealed.is_some());
            if let Some(sealed) = sealed {
                // There is room.
                let _ = to.push(sealed);
            }
        }
    }

    /// Takes in a frame that the port received. Returns a frame that counts and is whole.
    #[inline]
    pub(crate) fn accept(&mut self, mut frame: Mbuf, now: Ticks) -> Option<Mbuf> {
        match self.guard.open(frame.head(), frame.segments(), now) {
            Opened::Plain => {}
            Opened::Sealed if frame.trim_front(SEAL) => {}
            Opened::Begun(session) => {
                self.begun = Some(session);
                // Fragments of two sessions are no frame (rule R11).
                self.reassembler = MbufReassembler::default();
                return None;
            }
            Opened::Sealed | Opened::Consumed | Opened::Void => return None,
        }
        self.reassembler.accept(frame)
    }

    /// The session that has begun since the last call.
    #[inline]
    pub(crate) fn take_session(&mut self) -> Option<Begun> {
        self.begun.take()
    }

    /// The good-bye for the peer, if there is a session.
    pub(crate) fn good_bye(&mut self) -> Option<Mbuf> {
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
