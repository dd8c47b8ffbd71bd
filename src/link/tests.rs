//! Two ends over a network that loses, repeats and reorders, under the eyes of a model that knows
//! what each end said.

mod delay;

use std::collections::VecDeque;
use std::num::NonZeroU16;

use colo_testkit::rng::{Rng, for_cases};

use super::secure::Begun;
use super::wire::{Header, Kind, MARKS};
use super::{
    Bytes, DATA_HEADER, Endpoint, Event, Message, Piece, Received, Timing, Transmit, offload,
    set_offload,
};
use crate::flow::FlowKey;
use crate::frame::{Offload, Ticks};
use crate::packet::Isn;

const WINDOW: u32 = 64;
const TIMING: Timing = Timing {
    heartbeat: 100,
    retransmit: 50,
    silence: 5_000,
    gap: Ticks::MAX,
    stall: 0,
    restart: 0,
};
const VM: u16 = 7;

fn endpoint(boot: u32, now: Ticks) -> Endpoint {
    let mac = [2, 0, 0, 0, 0, boot as u8];
    Endpoint::new(VM, boot, mac, WINDOW, TIMING, now)
}

/// Lets two ends exchange what they want to say, without loss, until both are silent.
fn converse(a: &mut Endpoint, b: &mut Endpoint, now: Ticks) {
    for _ in 0..8 {
        while let Some(frame) = a.next_transmit(now) {
            b.receive(frame.bytes(), frame.bytes().len(), now);
        }
        while let Some(frame) = b.next_transmit(now) {
            a.receive(frame.bytes(), frame.bytes().len(), now);
        }
    }
}

fn events(end: &mut Endpoint) -> Vec<Event> {
    std::iter::from_fn(|| end.next_event()).collect()
}

/// Two ends in a session, their events read.
fn session() -> (Endpoint, Endpoint) {
    let (mut a, mut b) = (endpoint(10, 0), endpoint(20, 0));
    converse(&mut a, &mut b, 0);
    assert_eq!(events(&mut a), [Event::Session]);
    assert_eq!(events(&mut b), [Event::Session]);
    (a, b)
}

fn receive_data(end: &mut Endpoint, header: [u8; DATA_HEADER], length: usize) -> Received {
    let mut frame = header.to_vec();
    frame.resize(DATA_HEADER + length, 0xa5);
    end.receive(&frame, frame.len(), 0)
}

fn any_message(rng: &mut Rng) -> Message {
    match rng.below(10) {
        7 => {
            let text: Vec<u8> = (0..rng.below(100) + 1).map(|_| rng.word() as u8).collect();
            let pieces: Vec<Piece> = Piece::all(&text).collect();
            Message::Note(pieces[rng.below(pieces.len())])
        }
        0 => Message::Epoch(rng.word()),
        1 => Message::Bound(rng.word()),
        2 => Message::InputLost(rng.word()),
        3 => Message::Runs(rng.word()),
        4 => Message::Loaded(rng.one_in(2).then(|| rng.word())),
        5 => Message::Witnesses(rng.one_in(2)),
        6 => Message::Restarts,
        8 => Message::Cedes(rng.word()),
        _ => {
            let address = |rng: &mut Rng| {
                let ip: std::net::IpAddr = if rng.one_in(2) {
                    rng.word().to_be_bytes().into()
                } else {
                    u128::from(rng.next()).to_be_bytes().into()
                };
                std::net::SocketAddr::new(ip, rng.word() as u16)
            };
            let src = address(rng);
            let mut dst = address(rng);
            if src.is_ipv4() != dst.is_ipv4() {
                dst.set_ip(src.ip());
            }
            let opening = |rng: &mut Rng| Isn {
                number: rng.sequence(),
                timestamp: rng.one_in(2).then(|| rng.word()),
            };
            Message::Synchronized {
                epoch: rng.word(),
                flow: FlowKey::tcp(src, dst),
                pvm: opening(rng),
                svm: opening(rng),
            }
        }
    }
}

#[test]
fn messages_and_headers_survive_the_wire() {
    for_cases("link_codec", 2_000, |rng| {
        let message = any_message(rng);
        let (bytes, len) = message.encode();
        assert_eq!(Message::decode(&bytes[..len]), Some(message));
        for cut in 0..len {
            assert_eq!(Message::decode(&bytes[..cut]), None);
        }
        let kind = [Kind::Heartbeat, Kind::Data, Kind::Control][rng.below(3)];
        let len = if kind == Kind::Heartbeat { MARKS } else { len };
        let message = &bytes[..len];
        let header = Header {
            kind,
            vm: rng.word() as u16,
            boot: rng.word(),
            peer_boot: rng.word(),
            epoch: rng.word(),
            data: rng.sequence(),
            control: rng.sequence(),
            control_ack: rng.sequence(),
            grant: rng.sequence(),
            length: len as u32,
        };
        let summed: &[u8] = if kind == Kind::Data { &[] } else { message };
        let mut frame = header.encode([1; 6], [2; 6], summed).to_vec();
        frame.extend(message);
        assert_eq!(Header::decode(&frame, frame.len()), Some((header, [2; 6])));
        assert_eq!(offload(&frame), Offload::NONE);
        // A short frame is padded on the way.
        frame.resize(200, 0);
        assert_eq!(Header::decode(&frame, frame.len()), Some((header, [2; 6])));
        assert_eq!(Header::decode(&frame, DATA_HEADER + len - 1), None);
    });
}

/// What the checksum covers depends on the kind, so a bit of that may not be made up for by the payload.
#[test]
fn no_bit_of_a_header_changes_unseen() {
    for kind in [Kind::Heartbeat, Kind::Data, Kind::Control] {
        for sum in [1u64, 2, 3, 4, 5, 6, 7, 8] {
            for sum in [sum, (1 << 16) - 1 - sum] {
                let mut message = [0; MARKS];
                message[8..].copy_from_slice(&sum.to_be_bytes());
                let header = Header {
                    kind,
                    vm: 7,
                    boot: 10,
                    peer_boot: 20,
                    epoch: 3,
                    data: 4,
                    control: 5,
                    control_ack: 6,
                    grant: 7,
                    length: MARKS as u32,
                };
                let summed: &[u8] = if kind == Kind::Data { &[] } else { &message };
                let mut frame = header.encode([1; 6], [2; 6], summed).to_vec();
                frame.extend(message);
                for bit in 12 * 8..18 * 8 {
                    let mut bad = frame.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(Header::decode(&bad, bad.len()), None, "{kind:?}, bit {bit}");
                }
            }
        }
    }
}

#[test]
fn what_is_left_to_do_travels_with_the_payload() {
    for_cases("link_offload", 2_000, |rng| {
        let mut end = Endpoint::new(rng.word() as u16, rng.word(), [1; 6], 8, TIMING, 0);
        let mut header = end.data_header(rng.word(), rng.word() >> 16);
        for _ in 0..2 {
            let left = Offload {
                partial_checksum: rng.one_in(2),
                segment: NonZeroU16::new(rng.word() as u16 & 0x1fff),
            };
            set_offload(&mut header, left);
            let frame = [&header[..], &[0; 1 << 16]].concat();
            assert!(Header::decode(&frame, frame.len()).is_some());
            assert_eq!(offload(&frame), left);
        }
    });
}

/// What an end does next says what it knows; here a few of its frames and counters.
fn fingerprint(end: &mut Endpoint, now: Ticks) -> (usize, u32, bool, bool, Vec<u8>) {
    let heartbeat = end
        .next_transmit(now)
        .map_or_else(Vec::new, |t| t.bytes().to_vec());
    (
        end.room(),
        end.granted(),
        end.has_session(),
        end.has_received(1),
        heartbeat,
    )
}

#[test]
fn what_is_no_frame_of_the_link_changes_nothing() {
    for_cases("link_garbage", 3_000, |rng| {
        let (mut a, mut b) = session();
        let sent = any_message(rng);
        a.send(sent).unwrap();
        let frame: Vec<u8> = match rng.below(3) {
            0 => a
                .next_transmit(1)
                .expect("a control message")
                .bytes()
                .into(),
            1 => {
                let mut data = a.data_header(3, 9).to_vec();
                data.extend([7; 9]);
                data
            }
            _ => endpoint(11, 0)
                .next_transmit(1)
                .expect("a greeting")
                .bytes()
                .into(),
        };
        let mut bad = frame.clone();
        match rng.below(4) {
            0 => {
                // Neither the addresses nor a data frame's payload are the link's to check.
                let is_data = bad[17] == Kind::Data.code();
                let end = if is_data { DATA_HEADER } else { bad.len() };
                bad[rng.between(12, end - 1)] ^= 1 << rng.below(8);
            }
            1 => bad.truncate(rng.below(bad.len())),
            2 => bad.iter_mut().for_each(|byte| *byte = rng.byte()),
            _ => bad = (0..rng.below(120)).map(|_| rng.byte()).collect(),
        }
        let later = 1 + TIMING.heartbeat;
        b.next_transmit(0);
        let received = b.receive(&bad, bad.len(), 2);
        assert_eq!(received, Received::Ignored, "{bad:02x?}");
        assert_eq!(b.counts().garbage, 1);
        assert_eq!(events(&mut b), []);
        let (_, mut untouched) = session();
        untouched.next_transmit(0);
        assert_eq!(
            fingerprint(&mut b, later),
            fingerprint(&mut untouched, later)
        );
        // Less of the frame may be in the first segment than it has in all.
        let head = rng.below(DATA_HEADER);
        assert_eq!(b.receive(&frame[..head], frame.len(), 3), Received::Ignored);
    });
}

#[test]
fn another_pairs_frames_are_not_heard() {
    let (_, mut b) = session();
    let mut other = Endpoint::new(VM + 1, 30, [2; 6], WINDOW, TIMING, 0);
    let greeting = other.next_transmit(0).expect("a greeting");
    let received = b.receive(greeting.bytes(), greeting.bytes().len(), 1);
    assert_eq!(received, Received::Ignored);
    assert!(b.has_session());
}

#[test]
fn a_later_message_does_not_put_off_a_lost_one() {
    let (mut a, mut b) = session();
    a.send(Message::Epoch(0)).unwrap();
    a.next_transmit(0).expect("the message that is lost");
    let mut heard = 0;
    for now in 1..3 * TIMING.retransmit {
        // New messages come more often than a lost one is sent again.
        if now % (TIMING.retransmit / 2) == 0 {
            a.send(Message::Epoch(now as u32)).unwrap();
        }
        while let Some(frame) = a.next_transmit(now) {
            b.receive(frame.bytes(), frame.bytes().len(), now);
        }
        heard += events(&mut b).len();
    }
    assert!(heard > 0, "the lost message was never sent again");
}

#[test]
fn bytes_are_counted_by_what_their_frame_is() {
    let (mut a, mut b) = session();
    let before = (a.counts().sent_bytes, b.counts().received_bytes);
    a.send(Message::Epoch(1)).expect("room");
    let mut control = 0;
    while let Some(frame) = a.next_transmit(1) {
        control += frame.bytes().len() as u64;
        b.receive(frame.bytes(), frame.bytes().len(), 1);
    }
    while let Some(acknowledgment) = b.next_transmit(1) {
        a.receive(acknowledgment.bytes(), acknowledgment.bytes().len(), 1);
    }
    let header = a.data_header(1, 100);
    // A short frame is padded on the way.
    receive_data(&mut b, header, 120);
    let data = (DATA_HEADER + 100) as u64;
    let heartbeat = a.next_transmit(TIMING.heartbeat + 1).expect("one is due");
    b.receive(heartbeat.bytes(), heartbeat.bytes().len(), 1);
    let grown = Bytes {
        data,
        control,
        heartbeat: heartbeat.bytes().len() as u64,
    };
    let after = |before: Bytes| Bytes {
        data: before.data + grown.data,
        control: before.control + grown.control,
        heartbeat: before.heartbeat + grown.heartbeat,
    };
    assert_eq!(a.counts().sent_bytes, after(before.0));
    assert_eq!(b.counts().received_bytes, after(before.1));
    let garbage = [0; DATA_HEADER];
    b.receive(&garbage, garbage.len(), 2);
    assert_eq!(b.counts().received_bytes, after(before.1));
}

#[test]
fn an_acknowledgment_that_comes_after_all_counts() {
    let (mut a, mut b) = session();
    for i in 0..10 {
        a.send(Message::Epoch(i)).unwrap();
    }
    for _ in 0..10 {
        let frame = a.next_transmit(0).expect("a message");
        b.receive(frame.bytes(), frame.bytes().len(), 0);
    }
    let late = b.next_transmit(0).expect("an acknowledgment");
    // Before it comes, the first two are sent again.
    for _ in 0..2 {
        a.next_transmit(TIMING.retransmit).expect("a message again");
    }
    a.receive(late.bytes(), late.bytes().len(), TIMING.retransmit);
    assert_eq!(a.counts().garbage, 0, "the acknowledgment is no lie");
    assert!(
        a.next_transmit(TIMING.retransmit).is_none(),
        "nothing is left to be sent again"
    );
}

#[test]
fn who_takes_the_lead_acknowledges_nothing_new_before_that_was_heard() {
    let (mut a, mut b) = session();
    a.send(Message::Epoch(1)).unwrap();
    converse(&mut a, &mut b, 0);
    assert!(a.is_settled());
    // One message of b's was transmitted and lost, another was not.
    b.send(Message::Bound(1)).unwrap();
    b.next_transmit(0).expect("the message that is lost");
    b.send(Message::InputLost(1)).unwrap();
    b.take_lead(Message::Leads(1));
    a.send(Message::Epoch(2)).unwrap();
    let mut now = 0;
    for _ in 0..4 {
        while let Some(frame) = a.next_transmit(now) {
            b.receive(frame.bytes(), frame.bytes().len(), now);
        }
        while let Some(frame) = b.next_transmit(now) {
            if Header::decode(frame.bytes(), frame.bytes().len())
                .is_some_and(|(header, _)| header.kind != Kind::Control)
            {
                a.receive(frame.bytes(), frame.bytes().len(), now);
            }
        }
        assert!(!a.is_settled(), "it believes what was acknowledged");
        now += TIMING.retransmit;
    }
    assert_eq!(events(&mut b)[1..], [Event::Message(Message::Epoch(2))]);
    converse(&mut a, &mut b, now);
    let said = [Message::Bound(1), Message::Leads(1)].map(Event::Message);
    assert_eq!(events(&mut a), said);
    assert!(a.is_settled() && b.is_settled());
    // Another session begins with nothing withheld.
    b.take_lead(Message::Leads(2));
    let mut next = endpoint(30, now);
    converse(&mut next, &mut b, now);
    next.send(Message::Epoch(3)).unwrap();
    converse(&mut next, &mut b, now);
    assert!(next.is_settled());
}

#[test]
fn who_takes_the_lead_again_acknowledges_no_more_than_before() {
    let (mut a, mut b) = session();
    a.send(Message::Epoch(1)).unwrap();
    converse(&mut a, &mut b, 0);
    assert!(a.is_settled());
    b.take_lead(Message::Leads(1));
    b.next_transmit(0).expect("the message that is lost");
    // What is heard meanwhile stays unacknowledged, also when the term is another one by then.
    a.send(Message::Leads(1)).unwrap();
    a.send(Message::Epoch(2)).unwrap();
    while let Some(frame) = a.next_transmit(0) {
        b.receive(frame.bytes(), frame.bytes().len(), 0);
    }
    b.take_lead(Message::Leads(2));
    let mut now = 0;
    for _ in 0..4 {
        while let Some(frame) = a.next_transmit(now) {
            b.receive(frame.bytes(), frame.bytes().len(), now);
        }
        while let Some(frame) = b.next_transmit(now) {
            if Header::decode(frame.bytes(), frame.bytes().len())
                .is_some_and(|(header, _)| header.kind != Kind::Control)
            {
                a.receive(frame.bytes(), frame.bytes().len(), now);
            }
        }
        assert!(!a.is_acknowledged(2), "it believes what was acknowledged");
        now += TIMING.retransmit;
    }
    converse(&mut a, &mut b, now);
    let said = [1, 2].map(|term| Event::Message(Message::Leads(term)));
    assert_eq!(events(&mut a), said);
    assert!(a.is_settled() && b.is_settled());
}

#[test]
fn a_full_queue_keeps_nobody_from_taking_the_lead() {
    let (mut a, mut b) = session();
    for i in 0.. {
        if b.send(Message::InputLost(i)).is_err() {
            break;
        }
        b.next_transmit(0).expect("it is lost");
    }
    b.take_lead(Message::Leads(1));
    converse(&mut a, &mut b, TIMING.retransmit);
    let last = events(&mut a).pop();
    assert_eq!(last, Some(Event::Message(Message::Leads(1))));
}

#[test]
fn a_window_of_any_size_ends_the_talk() {
    for window in 0..9 {
        let mut a = Endpoint::new(VM, 1, [2; 6], window, TIMING, 0);
        let mut b = Endpoint::new(VM, 2, [2; 6], window, TIMING, 0);
        for _ in 0..4 {
            utter(&mut a, &mut b, window);
            utter(&mut b, &mut a, window);
        }
        assert_eq!(a.room(), window as usize);
    }
}

fn utter(from: &mut Endpoint, to: &mut Endpoint, window: u32) {
    let mut said = 0;
    while let Some(frame) = from.next_transmit(0) {
        to.receive(frame.bytes(), frame.bytes().len(), 0);
        said += 1;
        assert!(said < 16, "window {window}: an end never falls silent");
    }
}

#[test]
fn a_lost_frame_shows_in_the_next_heartbeat() {
    let (mut a, mut b) = session();
    a.data_header(1, 0);
    a.data_header(1, 0);
    let heartbeat = a.next_transmit(TIMING.heartbeat).expect("a heartbeat");
    b.receive(heartbeat.bytes(), heartbeat.bytes().len(), TIMING.heartbeat);
    assert_eq!(events(&mut b), [Event::Lost(2)]);
    assert_eq!(b.counts().lost, 2);
}

#[test]
fn data_that_follows_a_message_waits_for_it() {
    let (mut a, mut b) = session();
    let before = a.data_header(1, 0);
    a.send(Message::Epoch(2)).unwrap();
    let message = a.next_transmit(0).expect("a message");
    let behind = a.data_header(2, 0);
    let Received::Data { after, .. } = receive_data(&mut b, before, 0) else {
        panic!("no data");
    };
    assert!(b.has_received(after));
    let Received::Data { after, .. } = receive_data(&mut b, behind, 0) else {
        panic!("no data");
    };
    assert!(!b.has_received(after), "the message has not come");
    b.receive(message.bytes(), message.bytes().len(), 0);
    assert!(b.has_received(after));
    // A message that waits for its turn to be sent counts as well.
    a.send(Message::Epoch(3)).unwrap();
    let behind = a.data_header(3, 0);
    let Received::Data { after, .. } = receive_data(&mut b, behind, 0) else {
        panic!("no data");
    };
    assert!(!b.has_received(after), "the message has not even been sent");
}

/// One end, what it said and what it heard, each item numbered in the sender's order.
struct Side {
    end: Endpoint,
    life: u32,
    /// Life of the peer in the session.
    peer: Option<u32>,
    data_sent: u32,
    control_sent: u32,
    data_heard: u32,
    control_heard: u32,
    lost: u32,
    /// Data that was heard and not used yet: its number and the messages it follows.
    waiting: VecDeque<(u32, u32, u32)>,
    used: u32,
}

/// Numbers of one life; more are never sent in a case.
const LIFE: u32 = 1 << 20;

impl Side {
    fn new(life: u32, now: Ticks) -> Self {
        Self {
            end: endpoint(life, now),
            life,
            peer: None,
            data_sent: 0,
            control_sent: 0,
            data_heard: 0,
            control_heard: 0,
            lost: 0,
            waiting: VecDeque::new(),
            used: 0,
        }
    }

    fn begin(&mut self, peer: u32) {
        self.peer = Some(peer);
        (self.data_sent, self.control_sent) = (0, 0);
        (self.data_heard, self.control_heard) = (0, 0);
        (self.lost, self.used) = (0, 0);
        self.waiting.clear();
    }

    /// A data frame: its number is in the epoch, how many messages it follows in the payload.
    fn data(&mut self) -> Vec<u8> {
        let epoch = self.life * LIFE + self.data_sent;
        self.data_sent += 1;
        let mut frame = self.end.data_header(epoch, 4).to_vec();
        frame.extend(self.control_sent.to_be_bytes());
        frame
    }

    fn control(&mut self) {
        let number = self.life * LIFE + self.control_sent;
        if self.end.send(Message::Epoch(number)).is_ok() {
            self.control_sent += 1;
        }
    }

    fn hear(&mut self, frame: &[u8], now: Ticks) {
        let peer = u32::from_be_bytes(frame[22..26].try_into().unwrap());
        let received = self.end.receive(frame, frame.len(), now);
        while let Some(event) = self.end.next_event() {
            match event {
                Event::Session => self.begin(peer),
                Event::Message(Message::Epoch(number)) => {
                    assert_eq!(
                        number / LIFE,
                        self.peer.unwrap(),
                        "a message of an old life"
                    );
                    assert_eq!(number % LIFE, self.control_heard, "a message out of order");
                    self.control_heard += 1;
                }
                Event::Message(other) => panic!("nobody said {other:?}"),
                Event::Lost(n) => self.lost += n,
            }
        }
        if let Received::Data {
            epoch,
            length,
            after,
        } = received
        {
            assert_eq!(length, 4);
            assert_eq!(epoch / LIFE, self.peer.unwrap(), "data of an old life");
            let number = epoch % LIFE;
            assert_eq!(
                number,
                self.data_heard + self.lost,
                "what did not come is lost, and what came late does not come"
            );
            self.data_heard += 1;
            let follows = u32::from_be_bytes(frame[DATA_HEADER..].try_into().unwrap());
            self.waiting.push_back((number, after, follows));
        }
        self.end.set_backlog(self.waiting.len());
    }

    fn use_one(&mut self) {
        let Some(&(_, after, follows)) = self.waiting.front() else {
            return;
        };
        if !self.end.has_received(after) {
            return;
        }
        assert!(
            follows <= self.control_heard,
            "data counts before a message that it follows"
        );
        self.waiting.pop_front();
        self.used += 1;
        self.end.set_backlog(self.waiting.len());
    }
}

/// How bad the network is.
struct Weather {
    loss: usize,
    duplicate: usize,
    delay: usize,
}

struct World {
    sides: [Side; 2],
    /// Arrival, receiver and frame.
    wire: Vec<(Ticks, usize, Vec<u8>)>,
    weather: Weather,
    now: Ticks,
}

impl World {
    fn put(&mut self, rng: &mut Rng, to: usize, frame: Vec<u8>) {
        let copies = 1 + usize::from(rng.one_in(self.weather.duplicate));
        for _ in 0..copies {
            if !rng.one_in(self.weather.loss) {
                let delay = rng.below(self.weather.delay) as Ticks;
                self.wire.push((self.now + delay, to, frame.clone()));
            }
        }
    }

    fn step(&mut self, rng: &mut Rng, quiet: bool) {
        self.now += 1 + rng.below(10) as Ticks;
        for me in 0..2 {
            if !quiet {
                for _ in 0..rng.below(6) {
                    if rng.one_in(4) {
                        self.sides[me].control();
                    } else if self.sides[me].end.room() > 0 {
                        let frame = self.sides[me].data();
                        self.put(rng, 1 - me, frame);
                    }
                }
            }
            for _ in 0..rng.below(if quiet { 20 } else { 6 }) {
                self.sides[me].use_one();
            }
            while let Some(frame) = self.sides[me].end.next_transmit(self.now) {
                self.put(rng, 1 - me, frame.bytes().to_vec());
            }
        }
        let (due, wait): (Vec<_>, Vec<_>) =
            self.wire.drain(..).partition(|(at, ..)| *at <= self.now);
        self.wire = wait;
        for (_, to, frame) in due {
            self.sides[to].hear(&frame, self.now);
        }
        for me in 0..2 {
            let (sender, receiver) = (&self.sides[me], &self.sides[1 - me]);
            if sender.peer == Some(receiver.life) && receiver.peer == Some(sender.life) {
                let open = sender.data_sent - receiver.lost - receiver.used;
                assert!(open <= WINDOW, "{open} frames for a window of {WINDOW}");
            }
        }
    }

    /// The network becomes good, and everything must come to rest.
    fn settle(&mut self, rng: &mut Rng) {
        self.weather = Weather {
            loss: usize::MAX,
            duplicate: usize::MAX,
            delay: 1,
        };
        let end = self.now + 40 * TIMING.retransmit + 2_000;
        while self.now < end {
            self.step(rng, true);
        }
        for me in 0..2 {
            let (sender, receiver) = (&self.sides[me], &self.sides[1 - me]);
            assert_eq!(receiver.control_heard, sender.control_sent, "messages");
            assert_eq!(
                receiver.data_heard + receiver.lost,
                sender.data_sent,
                "data heard and data lost are the data sent"
            );
            assert_eq!(
                receiver.used, receiver.data_heard,
                "data that waits for ever"
            );
            assert_eq!(
                sender.end.room(),
                WINDOW as usize,
                "the window is open again"
            );
        }
    }
}

fn weather(rng: &mut Rng) -> Weather {
    let often = |rng: &mut Rng| [2, 4, 20, 200, usize::MAX][rng.below(5)];
    Weather {
        loss: often(rng),
        duplicate: often(rng),
        delay: [1, 20, 200, 1_000][rng.below(4)],
    }
}

fn world(rng: &mut Rng) -> World {
    let mut world = World {
        sides: [Side::new(1, 0), Side::new(2, 0)],
        wire: Vec::new(),
        weather: Weather {
            loss: usize::MAX,
            duplicate: usize::MAX,
            delay: 1,
        },
        now: 0,
    };
    for _ in 0..20 {
        world.step(rng, true);
    }
    assert!(world.sides.iter().all(|side| side.end.has_session()));
    world
}

#[test]
fn any_network_loses_no_message_and_hides_no_loss() {
    for_cases("link_network", 150, |rng| {
        let mut world = world(rng);
        if rng.one_in(2) {
            // Numbers that are about to wrap.
            let (data, control) = (rng.sequence(), rng.sequence());
            for side in &mut world.sides {
                side.end.continue_from(data, control);
            }
        }
        world.weather = weather(rng);
        for _ in 0..rng.between(50, 600) {
            world.step(rng, false);
        }
        let sides = &world.sides;
        assert!(sides.iter().any(|s| s.data_sent + s.control_sent > 0));
        world.settle(rng);
        for side in &world.sides {
            assert_eq!(side.end.counts().garbage, 0, "taken for garbage");
        }
    });
}

#[test]
fn a_restarted_end_hears_nothing_of_its_old_life() {
    for_cases("link_restart", 150, |rng| {
        let mut world = world(rng);
        world.weather = weather(rng);
        for life in 3..rng.between(4, 7) as u32 {
            for _ in 0..rng.between(20, 200) {
                world.step(rng, false);
            }
            let me = rng.below(2);
            world.sides[me] = Side::new(life, world.now);
        }
        // What an old life said must be older than the rest of the test.
        for _ in 0..rng.between(0, 100) {
            world.step(rng, false);
        }
        world.weather.loss = usize::MAX;
        for _ in 0..rng.between(200, 400) {
            world.step(rng, false);
        }
        for (me, side) in world.sides.iter().enumerate() {
            let peer = world.sides[1 - me].life;
            assert_eq!(side.peer, Some(peer), "the session is with the new life");
        }
        world.settle(rng);
    });
}

#[test]
fn frames_fit_their_buffer() {
    let message = Message::Synchronized {
        epoch: 1,
        flow: FlowKey::tcp(([1, 2, 3, 4], 5).into(), ([6, 7, 8, 9], 10).into()),
        pvm: Isn::from(1),
        svm: Isn::from(2),
    };
    let (payload, len) = message.encode();
    let frame = Transmit::new([0; DATA_HEADER], &payload[..len]);
    assert_eq!(frame.bytes().len(), DATA_HEADER + len);
}

/// A node whose clock was set back, or whose host has no battery, is not shut out where a guard says who is who.
#[test]
fn behind_a_guard_boot_numbers_need_no_order() {
    // An hour earlier in steps of 16 ms.
    let (mut a, mut b, mut earlier) = (endpoint(10, 0), endpoint(225_020, 0), endpoint(20, 0));
    converse(&mut a, &mut b, 0);
    events(&mut a);
    converse(&mut a, &mut earlier, 1);
    assert!(events(&mut a).is_empty());

    let [mut a, mut b] = [10, 20].map(|boot| endpoint(boot, 0).behind_guard(true));
    assert!(
        a.next_transmit(TIMING.heartbeat).is_none(),
        "who could read it?"
    );
    let mut late = Vec::new();
    for (of_a, of_b) in [(9, 8), (7, 6)] {
        a.begin(Begun {
            own: of_a,
            peer: of_b,
        });
        b.begin(Begun {
            own: of_b,
            peer: of_a,
        });
        for frame in late.drain(..) {
            let frame: Transmit = frame;
            let received = b.receive(frame.bytes(), frame.bytes().len(), 0);
            assert_eq!(received, Received::Ignored, "it is of the session before");
        }
        // The peer begins the session a little later than this end.
        a.send(Message::Epoch(of_a)).unwrap();
        late.extend(a.next_transmit(0));
        converse(&mut a, &mut b, TIMING.retransmit);
        assert_eq!(events(&mut a), [Event::Session]);
        let message = Event::Message(Message::Epoch(of_a));
        assert_eq!(events(&mut b), [Event::Session, message]);
    }
}

/// Who says that it is the peer and cannot prove it is no silence before the first session, and nothing after it.
#[test]
fn a_foreigner_hides_no_peer_that_was_there() {
    let mut a = endpoint(10, 0);
    for now in (0..20_000).step_by(100) {
        a.hear_foreigner(now);
        assert!(!a.is_silent(now));
    }
    assert!(a.is_silent(20_000 + TIMING.silence));
    let (mut a, _) = session();
    for now in 0..TIMING.silence {
        a.hear_foreigner(now);
    }
    assert!(a.is_silent(TIMING.silence));
}
