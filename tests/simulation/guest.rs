//! A simulated guest: a state that a checkpoint can copy, and a machine that runs it in its own
//! way. Two machines with the same state and the same input say the same, in other pieces and at
//! other times, except where a service asks the machine itself.

use std::collections::{BTreeMap, VecDeque};

use colo_testkit::rng::Rng;
use dpdk_colo::frame::Ticks;

use crate::frames::{self, Content, Peer, Way};
use crate::tcp::{Tcp, WINDOW};

/// Frames that the ring for output holds.
const RING: usize = 48;
/// Frames that the ring for input holds.
const INPUT_RING: usize = 10;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that follow from the request.
    Plain = 0,
    /// Bytes that are the machine's own.
    Divergent = 1,
    /// A connection from the guest to the client.
    CallBack = 2,
}

/// A request: its kind and how many bytes it wants.
pub const REQUEST: usize = 5;

pub fn request(kind: Kind, length: u32) -> [u8; REQUEST] {
    let [a, b, c, d] = length.to_be_bytes();
    [kind as u8, a, b, c, d]
}

/// Ports of the guest's own that it calls back from.
pub const CALL_BACK: u16 = 20_000;

#[derive(Clone, Debug)]
pub struct Connection {
    pub tcp: Tcp,
    served: usize,
}

/// What a checkpoint copies.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    pub connections: BTreeMap<Peer, Connection>,
    /// Input that the guest has not seen.
    pub rx: VecDeque<Vec<u8>>,
    /// Output that nobody has taken.
    pub tx: VecDeque<Vec<u8>>,
    /// Datagrams that wait for room in the ring: one VM must not drop what the other sends.
    replies: VecDeque<Vec<u8>>,
    calls: u16,
    /// When the NIC's driver is there again; 0 if it is.
    pub driver_at: Ticks,
}

/// A guest and the machine that runs it.
pub struct Vm {
    pub guest: Guest,
    pub running: bool,
    /// The NIC's ring may be used by the node.
    pub ring: bool,
    /// Stops of the ring since the node is there, and those of which the node has passed a quiescent point.
    pub stops: u32,
    pub seen: u32,
    pub stalls_until: Ticks,
    quirks: Rng,
    salt: u64,
    next: Ticks,
    pace: usize,
    /// Bytes that each of its connections has in flight at most: each machine has grown its own.
    window: u32,
}

fn byte_of(salt: u64, at: usize) -> u8 {
    (salt ^ (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xff51_afd7_ed55_8ccd)
        .to_be_bytes()[0]
}

impl Vm {
    pub fn new(seed: u64, pace: usize) -> Self {
        let mut quirks = Rng::new(seed);
        Self {
            guest: Guest::default(),
            running: false,
            ring: false,
            stops: 0,
            seen: 0,
            stalls_until: 0,
            salt: quirks.next() | 1,
            window: [700, 1_500, WINDOW][quirks.below(3)],
            quirks,
            next: 0,
            pace,
        }
    }

    pub fn stop_ring(&mut self) {
        self.stops += u32::from(std::mem::take(&mut self.ring));
    }

    /// No stop of the ring waits for the node.
    pub fn is_quiet(&self) -> bool {
        self.seen == self.stops
    }

    /// The node is gone; another will count from the beginning.
    pub fn lose_backend(&mut self) {
        self.ring = false;
        (self.stops, self.seen) = (0, 0);
    }

    pub fn takes_input(&self) -> bool {
        self.ring && self.guest.rx.len() < INPUT_RING
    }

    pub fn step(&mut self, now: Ticks) {
        if !self.running || now < self.next || now < self.stalls_until {
            return;
        }
        self.next = now + 5 + self.quirks.below(self.pace) as Ticks;
        for _ in 0..self.quirks.between(1, 6) {
            let Some(frame) = self.guest.rx.pop_front() else {
                break;
            };
            self.hear(&frame, now);
        }
        while self.guest.tx.len() < RING
            && let Some(reply) = self.guest.replies.pop_front()
        {
            self.say(reply);
        }
        if self.quirks.one_in(400) && self.guest.driver_at == 0 {
            self.say(frames::arp());
        }
        let peers: Vec<Peer> = self.guest.connections.keys().copied().collect();
        for peer in peers {
            let room = RING.saturating_sub(self.guest.tx.len());
            let most = self.quirks.between(1, 4).min(room);
            if most == 0 || self.guest.driver_at != 0 {
                break;
            }
            let connection = self.guest.connections.get_mut(&peer).expect("its key");
            for segment in connection
                .tcp
                .speak(now, &mut self.quirks, most, self.window)
            {
                self.say(frames::tcp(peer, Way::Output, &segment));
            }
        }
    }

    fn say(&mut self, frame: Vec<u8>) {
        if self.guest.tx.len() < RING {
            self.guest.tx.push_back(frame);
        }
    }

    fn hear(&mut self, frame: &[u8], now: Ticks) {
        let (Some(peer), content) = frames::read(frame, Way::Input) else {
            return;
        };
        match content {
            Content::Tcp(segment) => {
                let quirks = &mut self.quirks;
                let connection = self
                    .guest
                    .connections
                    .entry(peer)
                    .or_insert_with(|| Connection {
                        tcp: Tcp::new(false, segment.timestamps.is_some(), quirks),
                        served: 0,
                    });
                connection.tcp.hear(&segment, now, quirks);
                self.serve(peer);
            }
            Content::Udp(payload) => {
                let salt = match payload.first() {
                    Some(&kind) if kind == Kind::Divergent as u8 => self.salt,
                    _ => 1,
                };
                let reply: Vec<u8> = payload
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| {
                        if i < REQUEST {
                            *byte
                        } else {
                            byte ^ byte_of(salt, i)
                        }
                    })
                    .collect();
                let reply = frames::udp(peer, Way::Output, &reply);
                self.guest.replies.push_back(reply);
            }
            Content::Other => {}
        }
    }

    /// Answers the requests that have come whole.
    fn serve(&mut self, peer: Peer) {
        let mut called = Vec::new();
        let connection = self
            .guest
            .connections
            .get_mut(&peer)
            .expect("it was just heard");
        if peer.port >= CALL_BACK {
            return;
        }
        while let Some(bytes) = connection
            .tcp
            .received
            .get(connection.served..connection.served + REQUEST)
        {
            let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
            let salt = match bytes[0] {
                kind if kind == Kind::Divergent as u8 => self.salt,
                kind => {
                    if kind == Kind::CallBack as u8 {
                        called.push(length);
                    }
                    u64::from(peer.client) + 1
                }
            };
            connection.served += REQUEST;
            let from = connection.tcp.stream.len();
            connection
                .tcp
                .stream
                .extend((from..from + length).map(|at| byte_of(salt, at)));
        }
        let whole = connection.tcp.finished && connection.served == connection.tcp.received.len();
        connection.tcp.closing |= whole;
        for length in called {
            let own = Peer {
                port: CALL_BACK + self.guest.calls,
                ..peer
            };
            self.guest.calls += 1;
            let mut tcp = Tcp::new(true, peer.client_port.is_multiple_of(2), &mut self.quirks);
            tcp.stream.extend((0..length).map(|at| byte_of(7, at)));
            tcp.closing = true;
            self.guest
                .connections
                .insert(own, Connection { tcp, served: 0 });
        }
    }
}
