//! Single rounds of a primary; how rounds stand together over time is the simulation's matter.

mod queues;

use etherparse::PacketBuilder;

use super::untimed::{self, Room};
use super::{PairDriver, PrimaryDriver, SecondaryDriver, ToPoll};
use crate::frame::{Frame, HeapFrame, Ticks};
use crate::link::{Endpoint, Message};
use crate::packet::Packet;
use crate::protect::{Migration, Primary, QemuEvent, Secondary, State};
use crate::rewrite::Offset;
use queues::{Frames, Queues};

const NOTHING: [u8; 0] = [];
const ROOM: Room = Room {
    frames: 1024,
    history: 64,
    flows: 16,
};

/// A datagram that says one number.
fn datagram(says: u8) -> HeapFrame {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(53, 5353);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[says]).unwrap();
    HeapFrame::new(&bytes)
}

/// The `n`th of a connection's segments of four bytes.
fn segment(n: u32) -> HeapFrame {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(80, 40_000, 1000 + 4 * n, 1024)
        .ack(1);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &n.to_be_bytes()).unwrap();
    HeapFrame::new(&bytes)
}

/// A primary that compares, and the link's end at its peer.
struct Node {
    driver: PrimaryDriver<Frames>,
    ports: Queues,
    peer: Endpoint,
    stops: u32,
    now: Ticks,
}

impl Node {
    fn protected() -> Self {
        let primary = Primary::new(untimed::setup(ROOM), 0);
        let mut node = Self {
            driver: PrimaryDriver::new(primary, 0, untimed::TIMES),
            ports: Queues::default(),
            peer: untimed::peer(),
            stops: 0,
            now: 1,
        };
        node.tell(untimed::connects());
        node.greet();
        node.ring_stops();
        node.tell(untimed::enters_colo());
        node.greet();
        assert_eq!(node.driver.state().state(), State::Protected);
        node
    }

    fn tell(&mut self, events: impl IntoIterator<Item = QemuEvent>) {
        let events = events.into_iter().map(ToPoll::Monitor);
        self.ports.mail.extend(events);
    }

    fn ring_stops(&mut self) {
        self.stops += 1;
        self.ports.stops += 1;
    }

    /// The VM's ring stops, and the VM.
    fn stop(&mut self) {
        self.ring_stops();
        self.tell([QemuEvent::Stop]);
    }

    /// Rounds in which both nodes hear each other.
    fn greet(&mut self) {
        for _ in 0..6 {
            self.transmit();
            self.round();
        }
    }

    /// What the peer's end of the link has to say is on its way.
    fn transmit(&mut self) {
        while let Some(transmit) = self.peer.next_transmit(self.now) {
            let frame = HeapFrame::new(transmit.bytes());
            self.ports.from_link.push_back(frame);
        }
    }

    /// The peer's node says something.
    fn message(&mut self, message: Message) {
        assert!(self.peer.send(message).is_ok());
        self.transmit();
    }

    /// The PVM sends.
    fn p(&mut self, says: u8) {
        self.ports.guest.push_back(datagram(says));
    }

    /// The SVM sends in an epoch.
    fn s(&mut self, says: u8, epoch: u32) {
        self.link(&datagram(says), epoch);
    }

    fn link(&mut self, frame: &HeapFrame, epoch: u32) {
        let header = self.peer.data_header(epoch, frame.len() as u32);
        let bytes = [&header[..], frame.head()].concat();
        self.ports.from_link.push_back(HeapFrame::new(&bytes));
    }

    /// One round; what has left in it.
    fn round(&mut self) -> Vec<u8> {
        self.now += 1;
        self.driver.round(&mut self.ports, self.now);
        for frame in self.ports.to_link.drain(..) {
            self.peer.receive(frame.head(), frame.len(), self.now);
        }
        while self.peer.next_event().is_some() {}
        let left = self.ports.left.drain(..);
        left.map(|frame| *frame.to_vec().last().unwrap()).collect()
    }

    fn epoch(&self) -> u32 {
        self.driver.state().epoch()
    }

    /// P that met their S on the fast path of pairs.
    fn paired(&self) -> u64 {
        let comparator = self.driver.state().comparison().comparator();
        comparator.local().counts().paired
    }
}

#[test]
fn what_both_vms_have_sent_in_a_round_is_compared_at_once() {
    let mut node = Node::protected();
    let epoch = node.epoch();
    // The first one of a flow goes the general path.
    for says in 1..=20 {
        node.p(says);
        node.s(says, epoch);
    }
    assert_eq!(node.round(), Vec::from_iter(1..=20));
    for says in 21..=40 {
        node.s(says, epoch);
        node.p(says);
    }
    assert_eq!(node.round(), Vec::from_iter(21..=40));
    assert!(node.paired() >= 20, "{}", node.paired());
}

#[test]
fn what_the_link_has_brought_is_compared_before_what_it_says_next() {
    for s_first in [true, false] {
        let mut node = Node::protected();
        let epoch = node.epoch();
        node.p(1);
        assert_eq!(node.round(), NOTHING);
        node.p(2);
        if s_first {
            node.s(1, epoch);
            node.s(2, epoch);
        }
        // Everything is held from here on.
        node.message(Message::VmLost);
        if !s_first {
            node.s(1, epoch);
            node.s(2, epoch);
        }
        let left = node.round();
        assert_eq!(node.driver.state().state(), State::Uncertain);
        // The second one was taken behind the message.
        assert_eq!(left, if s_first { vec![1] } else { vec![] });
        assert_eq!(node.driver.state().held(), if s_first { 1 } else { 2 });
    }
}

#[test]
fn a_gap_in_the_link_s_numbers_leaves_what_came_before_it() {
    let mut node = Node::protected();
    let epoch = node.epoch();
    node.p(1);
    node.p(3);
    node.s(1, epoch);
    node.s(2, epoch);
    node.ports.from_link.pop_back();
    node.s(3, epoch);
    assert_eq!(node.round(), [1, 3]);
    assert!(node.driver.state().comparison().checkpoints().is_wanted());
}

#[test]
fn a_fence_divides_what_was_taken_before_it_from_what_comes_behind() {
    let mut node = Node::protected();
    let epoch = node.epoch();
    node.p(1);
    node.s(2, epoch);
    assert_eq!(node.round(), NOTHING);
    // Neither the ring nor what the SVM sent in the epoch counts any more.
    node.stop();
    node.p(2);
    node.s(1, epoch);
    assert_eq!(node.round(), NOTHING);
    assert_eq!(node.driver.state().held(), 1);
    assert_eq!(node.driver.state().counts().stale, 1);
    node.message(Message::Loaded(Some(epoch)));
    let barrier = untimed::barrier(node.stops, Migration::Colo);
    node.tell([QemuEvent::Pass, QemuEvent::Resume, barrier]);
    let mut left = Vec::new();
    for _ in 0..6 {
        node.transmit();
        left.extend(node.round());
    }
    // The commit covers the first one. The second one waits for its own counterpart.
    assert_eq!(left, [1]);
    assert_eq!(node.driver.state().held(), 1);
    node.s(2, epoch.wrapping_add(1));
    assert_eq!(node.round(), [2]);
}

#[test]
fn the_vm_that_is_ahead_waits_in_its_port() {
    let mut node = Node::protected();
    let epoch = node.epoch();
    let (mut p, mut s) = ((0..).map(segment), (0..).map(segment));
    let mut paired = Vec::new();
    let once = (32, 32);
    for (of_p, of_s) in [once, once, (32, 0), (32, 64), once, once, once] {
        node.ports.guest.extend(p.by_ref().take(of_p));
        s.by_ref().take(of_s).for_each(|s| node.link(&s, epoch));
        let before = node.paired();
        let left = node.round().len();
        assert_eq!(left, if of_s == 0 { 0 } else { 32 });
        paired.push(node.paired() - before);
    }
    // The connection is new, then in step. The PVM is a burst ahead in the third round, and waits in the fifth.
    assert_eq!(paired, [0, 32, 0, 0, 0, 32, 32]);
}

/// At a port that pairs share, what another VM of the host sends may have other owners: its history, or a port that has
/// not taken it yet.
#[test]
fn a_frame_with_another_owner_reaches_a_vm_that_has_taken_over_in_its_own_numbers() {
    const NUMBERS: Offset = Offset {
        seq: 1_000_000,
        timestamp: 0,
        isn: 0,
    };
    let room = || untimed::setup(ROOM);
    let standby = Primary::new(room(), 0);
    let secondary = Secondary::new(room(), 0);
    let driver = SecondaryDriver::new(secondary, Some(standby), 0, untimed::TIMES);
    let mut driver = PairDriver::from(driver);
    let mut ports = Queues::default();
    let from_client = segment(0);
    let key = Packet::parse(from_client.head(), from_client.len()).key;
    ports
        .mail
        .push_back(ToPoll::Inherit(key.reversed(), NUMBERS));
    let connected = QemuEvent::Connected {
        migration: Migration::Completed,
        running: true,
        leads: false,
    };
    let runs = [connected, untimed::barrier(0, Migration::Completed)];
    ports.mail.extend(runs.map(ToPoll::Monitor));
    for now in 1..4 {
        driver.round(&mut ports, now);
    }
    assert!(driver.primary().is_some(), "it has taken over");

    let shared = from_client.share();
    ports.network.extend([from_client, segment(1)]);
    driver.round(&mut ports, 4);
    let acknowledged = |frame: &HeapFrame| Packet::parse(frame.head(), frame.len()).tcp.ack;
    let given: Vec<u32> = ports.given.iter().map(acknowledged).collect();
    assert_eq!(given, [1 + NUMBERS.seq; 2]);
    assert_eq!(acknowledged(&shared), 1, "the other owner's");
    assert_eq!(ports.given[0].to_vec()[54..], shared.to_vec()[54..]);
}
