//! The two halves and the bare comparator in single situations; how they stand together over time
//! is the simulation's matter.

mod ageing;
mod announcement;
mod cession;
mod epochs;
mod evidence;
mod exempt;
mod failover;
mod last_segment;
mod leadership;
mod mirror;
mod monitor;
mod renunciation;
mod sequence_numbers;
mod shares;
mod silence;
mod standalone;
mod survivor;

use std::iter::{empty, once};

use etherparse::{PacketBuilder, TcpHeader};

use super::{
    Cause, Failover, Migration, OnPeerLost, Primary, QemuEvent, Secondary, Setup, Standalone, State,
};
use crate::compare::{Limits, Numbers, Policy, Reason};
use crate::frame::{Frame, HeapFrame, Ticks};
use crate::link::{DATA_HEADER, Endpoint, Event, Message, Timing};

const TIMEOUT: Ticks = 1_000;
const REPEAT: Ticks = 5_000;
const EVIDENCE: Ticks = 500;
const TIMING: Timing = Timing {
    heartbeat: 100,
    retransmit: 50,
    silence: 100_000,
    gap: Ticks::MAX,
    stall: 1_000_000,
    restart: 3_000_000,
};
const WINDOW: u32 = 64;
const NOTHING: [u8; 0] = [];

fn setup(boot: u32) -> Setup {
    Setup {
        vm: 1,
        boot,
        sealed: false,
        link_mac: [2; 6],
        window: WINDOW,
        link: TIMING,
        limits: Limits {
            primary: 64,
            secondary: 64,
            history: 16,
            flows: 16,
            timeout: TIMEOUT,
            patience: 1,
            idle: 1 << 40,
            half_open: 1 << 40,
        },
        numbers: Numbers::Translated,
        policy: Policy::default(),
        repeat: REPEAT,
        evidence: EVIDENCE,
        connections: 16,
        failover: Failover {
            on_peer_lost: OnPeerLost::Hold,
            auto: false,
            retry: 1_000,
        },
        millisecond: 10,
        last_segments: 16,
    }
}

#[test]
fn nobody_can_tell_the_seeds_of_a_node_from_what_it_says() {
    // The boot number is in every frame of the link.
    let seeds = |boot| Secondary::<HeapFrame>::new(setup(boot), 0).hash_seeds();
    let mut all = [seeds(7), seeds(7)].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4);
}

/// Two ends of a link that know each other.
pub(super) fn ends() -> [Endpoint; 2] {
    let mut ends = [1, 2].map(|boot| Endpoint::new(1, boot, [2; 6], WINDOW, TIMING, 0));
    for _ in 0..3 {
        carry(&mut ends);
        ends.reverse();
        carry(&mut ends);
        ends.reverse();
    }
    ends
}

/// Carries what one end has to say to the other one; returns the messages.
pub(super) fn carry([from, to]: &mut [Endpoint; 2]) -> Vec<Message> {
    while let Some(frame) = from.next_transmit(0) {
        to.receive(frame.bytes(), frame.bytes().len(), 0);
    }
    let mut messages = Vec::new();
    while let Some(event) = to.next_event() {
        if let Event::Message(message) = event {
            messages.push(message);
        }
    }
    messages
}

/// A datagram that says one number.
fn datagram(says: u8) -> HeapFrame {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(53, 5353);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[says]).unwrap();
    HeapFrame::new(&bytes)
}

fn syn(isn: u32) -> HeapFrame {
    let mut header = TcpHeader::new(40_000, 80, isn, 1_000);
    header.syn = true;
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp_header(header);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).unwrap();
    HeapFrame::new(&bytes)
}

fn says(frame: &HeapFrame) -> u8 {
    *frame.to_vec().last().unwrap()
}

/// The VM of a primary sends; returns what leaves at once.
fn output(primary: &mut Primary<HeapFrame>, frame: HeapFrame, now: Ticks) -> Option<HeapFrame> {
    if !primary.compares() {
        return Some(frame);
    }
    primary.ingest(&mut once(frame), &mut empty(), now);
    None
}

/// A primary gets a frame of the link; the epoch and the length of output in it.
fn hear(primary: &mut Primary<HeapFrame>, bytes: &[u8], now: Ticks) -> Option<(u32, usize)> {
    let data = primary.link_frame(bytes, bytes.len(), now);
    primary.link_events(now);
    data
}

/// Both nodes of a pair on a link without loss or delay.
struct Pair {
    primary: Primary<HeapFrame>,
    secondary: Secondary<HeapFrame>,
    /// The link carries nothing.
    cut: bool,
    /// Stops of the PVM's ring.
    stops: u32,
    now: Ticks,
}

const CONNECTED: QemuEvent = QemuEvent::Connected {
    migration: Migration::None,
    running: true,
    leads: false,
};
const CONNECTED_SECONDARY: QemuEvent = QemuEvent::Connected {
    migration: Migration::Colo,
    running: true,
    leads: false,
};
const IN_COLO: QemuEvent = QemuEvent::Connected {
    migration: Migration::Colo,
    running: true,
    leads: true,
};

impl Pair {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl Fn(&mut Setup)) -> Self {
        let of = |boot| {
            let mut setup = setup(boot);
            change(&mut setup);
            setup
        };
        let mut pair = Self {
            primary: Primary::new(of(1), 0),
            secondary: Secondary::new(of(2), 0),
            cut: false,
            stops: 0,
            now: 1,
        };
        pair.exchange();
        pair
    }

    /// A pair whose VM forwards, its monitor there and its ring running.
    fn forwards(self) -> Self {
        let mut pair = self;
        pair.secondary.monitor(CONNECTED);
        pair.tell(CONNECTED);
        pair.barrier(0, false);
        pair
    }

    /// A pair in COLO.
    fn protected() -> Self {
        Self::protected_with(|_| {})
    }

    /// A pair in COLO whose nodes are set up otherwise.
    fn protected_with(change: impl Fn(&mut Setup)) -> Self {
        let mut pair = Self::with(change).forwards();
        pair.fence();
        pair.tell(QemuEvent::Stop);
        pair.tell(QemuEvent::Migration(Migration::Colo));
        pair.secondary_started(0, true);
        pair.resume();
        pair.exchange();
        assert_eq!(pair.primary.state(), State::Protected);
        assert_eq!(pair.secondary.state(), State::Protected);
        pair
    }

    fn tell(&mut self, event: QemuEvent) {
        self.primary.monitor(event, self.now);
    }

    fn barrier(&mut self, stops: u32, colo: bool) {
        let migration = if colo {
            Migration::Colo
        } else {
            Migration::None
        };
        self.tell(QemuEvent::Barrier {
            stops,
            migration,
            running: true,
        });
    }

    /// The SVM's ring runs after `stops` stops, with a new state or without.
    fn secondary_started(&mut self, stops: u32, loaded: bool) {
        if loaded {
            self.secondary.monitor(QemuEvent::Stop);
            self.secondary.monitor(QemuEvent::StoppedFor { load: true });
            self.secondary.monitor(QemuEvent::Resume);
        }
        self.secondary.monitor(QemuEvent::Barrier {
            stops,
            migration: Migration::Colo,
            running: true,
        });
    }

    /// The PVM's ring stops.
    fn fence(&mut self) {
        self.primary.guest_stopped();
        self.stops += 1;
    }

    /// The PVM goes on, and its ring with it.
    fn resume(&mut self) {
        self.tell(QemuEvent::Resume);
        self.barrier(self.stops, true);
    }

    /// Lets the nodes say what they have to say.
    fn exchange(&mut self) {
        for _ in 0..6 {
            while let Some(t) = self.primary.next_transmit(self.now) {
                if !self.cut {
                    let (bytes, len) = (t.bytes(), t.bytes().len());
                    self.secondary.link_frame(bytes, len, self.now);
                }
            }
            while let Some(t) = self.secondary.next_transmit(self.now) {
                if !self.cut {
                    hear(&mut self.primary, t.bytes(), self.now);
                }
            }
        }
    }

    /// The PVM sends. Returns the frame if it left at once.
    fn output(&mut self, frame: HeapFrame) -> Option<HeapFrame> {
        assert!(self.primary.wants_output(), "the ring must not be polled");
        let frame = self.primary.outward(frame, self.now)?;
        output(&mut self.primary, frame, self.now)
    }

    /// The client sends, and the PVM has taken it.
    fn input(&mut self, frame: &HeapFrame) {
        let mut bytes = self.primary.mirror(frame.len()).to_vec();
        bytes.extend(frame.to_vec());
        let received = self.secondary.link_frame(&bytes, bytes.len(), self.now);
        let (epoch, _, after) = received.unwrap();
        self.secondary.input(frame.clone(), epoch, after);
    }

    /// The SVM sends, under whatever number it has.
    fn svm(&mut self, frame: HeapFrame) {
        assert!(self.secondary.wants_output(), "the SVM must not be polled");
        let outgoing = self.secondary.output(frame, self.now).unwrap();
        if let Some(last) = outgoing.last {
            self.secondary
                .keep(last, HeapFrame::new(&outgoing.frame.to_vec()));
        }
        let mut bytes = outgoing.header.to_vec();
        bytes.extend(outgoing.frame.to_vec());
        let (epoch, length) = hear(&mut self.primary, &bytes, self.now).unwrap();
        let payload = HeapFrame::new(&bytes[DATA_HEADER..DATA_HEADER + length]);
        let payload = self.primary.outward(payload, self.now).unwrap();
        self.svm_output(payload, epoch);
    }

    /// The link brings what the SVM has sent in an epoch.
    fn svm_output(&mut self, frame: HeapFrame, epoch: u32) {
        if self.primary.admits(epoch) {
            self.primary
                .ingest(&mut empty(), &mut once(frame), self.now);
        }
    }

    fn released(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.primary.next_release())
            .map(|release| says(&release.frame))
            .collect()
    }

    /// The cause of the request that is written now.
    fn request(&mut self) -> Option<Cause> {
        self.primary.tick(self.now);
        self.primary.next_request(self.now).map(|r| r.cause)
    }

    /// A checkpoint up to the PVM's STOP.
    fn stop(&mut self, stops: u32) {
        self.secondary.guest_stopped(0);
        self.fence();
        self.tell(QemuEvent::Stop);
        self.tell(QemuEvent::Pass);
        self.secondary_started(stops, true);
        self.exchange();
    }
}
