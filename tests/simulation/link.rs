//! One direction of the network between the nodes, with the guards of both at its ends.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use colo_testkit::rng::Rng;
use dpdk_colo::frame::Ticks;
use dpdk_colo::link::DATA_HEADER;
use dpdk_colo::link::secure::{Begun, Guard, Identity, KeyRing, Opened, Role, SEAL};

use crate::frame::Origin;
use crate::setup::TIMING;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// A frame under way; the oracle knows by its origin what it carries.
pub struct Flight {
    arrives: Ticks,
    pub bytes: Vec<u8>,
    pub origin: Origin,
}

/// What lets a node's frames count at the other one, as long as it runs.
pub struct Station {
    guard: Guard,
    role: Role,
    /// The session that has begun, until the node takes it.
    begun: Option<Begun>,
    pub runs: bool,
}

impl Station {
    pub fn new(role: Role, boot: u32) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            guard: guard(role, boot),
            role,
            begun: None,
            runs: true,
        }))
    }

    /// The node is started again, in the role that it had.
    pub fn restart(&mut self, boot: u32) {
        self.guard = guard(self.role, boot);
        self.begun = None;
        self.runs = true;
    }

    /// Another node is started in its place.
    pub fn replace(&mut self, role: Role, boot: u32) {
        self.role = role;
        self.restart(boot);
    }
}

fn guard(role: Role, boot: u32) -> Guard {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&boot.to_be_bytes());
    let identity = Identity {
        vm: 1,
        role,
        mac: [2, 0, 0, 0, 9, boot as u8],
        seed,
    };
    let ring = KeyRing::parse(&"5a".repeat(32)).expect("a key");
    Guard::new(&ring, &identity, TIMING)
}

/// Whether a frame is the control message `Leads` (`link::wire`).
fn says_who_leads(frame: &[u8]) -> bool {
    let (kind, message) = (frame.get(ETHERNET + 3), frame.get(DATA_HEADER));
    (kind, message) == (Some(&2), Some(&5))
}

pub struct Channel {
    flights: VecDeque<Flight>,
    delay: usize,
    /// One frame in this many is lost; 0: none.
    pub loss: usize,
    /// Nothing passes before.
    pub dead_until: Ticks,
    /// This many of the next frames about the lead are lost.
    pub loses_leads: u32,
    rng: Rng,
    /// The sender.
    pub from: Rc<RefCell<Station>>,
    to: Rc<RefCell<Station>>,
}

impl Channel {
    pub fn new(
        seed: u64,
        delay: usize,
        from: &Rc<RefCell<Station>>,
        to: &Rc<RefCell<Station>>,
    ) -> Self {
        Self {
            flights: VecDeque::new(),
            delay,
            loss: 0,
            dead_until: 0,
            loses_leads: 0,
            rng: Rng::new(seed),
            from: Rc::clone(from),
            to: Rc::clone(to),
        }
    }

    /// Sends a frame of the sender's, sealed; before there is a session it goes nowhere.
    pub fn send(&mut self, bytes: Vec<u8>, origin: Origin, now: Ticks) {
        if self.loses_leads > 0 && says_who_leads(&bytes) {
            self.loses_leads -= 1;
            return;
        }
        let from = Rc::clone(&self.from);
        let guard = &mut from.borrow_mut().guard;
        if let Some(seal) = guard.seal(&bytes, std::iter::once(&bytes[..])) {
            self.put([&seal[..], &bytes].concat(), origin, now);
        }
    }

    fn put(&mut self, bytes: Vec<u8>, origin: Origin, now: Ticks) {
        if now < self.dead_until || (self.loss > 0 && self.rng.one_in(self.loss)) {
            return;
        }
        let arrives = now + 5 + self.rng.below(self.delay) as Ticks;
        let flight = Flight {
            arrives,
            bytes,
            origin,
        };
        match self.flights.back() {
            // Now and then one frame overtakes another.
            Some(last)
                if last.arrives > arrives
                    && !self.rng.one_in(if self.loss > 0 { 20 } else { usize::MAX }) =>
            {
                let arrives = last.arrives;
                self.flights.push_back(Flight { arrives, ..flight });
            }
            _ => {
                let at = self.flights.partition_point(|f| f.arrives <= arrives);
                self.flights.insert(at, flight);
            }
        }
    }

    /// The session that the receiver's guard has begun since the last call.
    pub fn take_session(&mut self) -> Option<Begun> {
        self.to.borrow_mut().begun.take()
    }

    /// The next frame that counts at the receiver.
    pub fn receive(&mut self, now: Ticks) -> Option<Flight> {
        let (from, to) = (Rc::clone(&self.from), Rc::clone(&self.to));
        if from.borrow().runs {
            while let Some(greeting) = from.borrow_mut().guard.next_greeting(now) {
                self.put(greeting.bytes().to_vec(), Origin::Own, now);
            }
        }
        while self.flights.front().is_some_and(|f| f.arrives <= now) {
            let mut flight = self.flights.pop_front()?;
            let bytes = &flight.bytes[..];
            let mut to = to.borrow_mut();
            match to.guard.open(bytes, std::iter::once(bytes), now) {
                Opened::Sealed => {
                    flight.bytes.drain(..SEAL);
                    return Some(flight);
                }
                Opened::Begun(session) => to.begun = Some(session),
                Opened::Plain | Opened::Consumed | Opened::Void => {}
            }
        }
        None
    }
}
