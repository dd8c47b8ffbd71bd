//! The link: two ends over any network, one end and a peer of the target's own that counts in 64 bits, fragments, and
//! bytes of a stranger.

use std::collections::{BTreeSet, VecDeque};

use dpdk_colo::link::fragment::{FRAGMENT_HEADER, Fragment, Fragmenter, Reassembly, Step};
use dpdk_colo::link::{DATA_HEADER, Endpoint, Event, Message, Received, Timing, offload};

use colo_testkit::rng::Rng;

const WINDOW: u32 = 16;
const TIMING: Timing = Timing {
    heartbeat: 100,
    retransmit: 50,
    silence: 5_000,
    gap: u64::MAX,
    stall: 0,
    restart: 0,
};
const VM: u16 = 7;
/// Kinds of frames, behind magic and version.
const HEARTBEAT: u8 = 0;
const DATA: u8 = 3;
const CONTROL: u8 = 5;
/// Bytes of the marks in a heartbeat.
const MARKS: usize = 16;
/// Numbers of one life; no story has more.
const LIFE: u32 = 1 << 16;

/// The first draw says which story.
pub fn run(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    match rng.below(4) {
        0 | 1 => Network::new().run(&mut rng),
        2 => Counted::new(&mut rng).run(&mut rng),
        _ => {
            strange(data.get(5..).unwrap_or_default());
            fragments(&mut rng);
        }
    }
}

fn endpoint(boot: u32, now: u64) -> Endpoint {
    let mac = [2, 0, 0, 0, 0, boot as u8];
    Endpoint::new(VM, boot, mac, WINDOW, TIMING, now)
}

/// One end, what it said and what it heard, each item with its number among those of its life.
struct Side {
    end: Endpoint,
    life: u32,
    peer: Option<u32>,
    data_sent: u32,
    control_sent: u32,
    /// What has come or is lost.
    data_known: u32,
    control_heard: u32,
    lost: u32,
    /// Data that was heard and not used: its number, the messages that it follows, in the end's and in our terms.
    waiting: VecDeque<(u32, u32, u32)>,
    used: u32,
}

impl Side {
    fn new(life: u32, now: u64) -> Self {
        Self {
            end: endpoint(life, now),
            life,
            peer: None,
            data_sent: 0,
            control_sent: 0,
            data_known: 0,
            control_heard: 0,
            lost: 0,
            waiting: VecDeque::new(),
            used: 0,
        }
    }

    fn data(&mut self) -> Vec<u8> {
        let epoch = self.life * LIFE + self.data_sent;
        self.data_sent += 1;
        let mut frame = self.end.data_header(epoch, 4).to_vec();
        frame.extend(self.control_sent.to_be_bytes());
        frame
    }

    fn control(&mut self) {
        let number = self.life * LIFE + self.control_sent;
        self.control_sent += u32::from(self.end.send(Message::Epoch(number)).is_ok());
    }

    fn hear(&mut self, frame: &[u8], now: u64) {
        let peer = u32::from_be_bytes(frame[22..26].try_into().expect("a header"));
        let received = self.end.receive(frame, frame.len(), now);
        while let Some(event) = self.end.next_event() {
            match event {
                Event::Session => {
                    let life = self.life;
                    let end = std::mem::replace(&mut self.end, endpoint(1, 0));
                    *self = Self {
                        end,
                        ..Self::new(life, now)
                    };
                    self.peer = Some(peer);
                }
                Event::Message(Message::Epoch(number)) => {
                    assert_eq!(Some(number / LIFE), self.peer, "a message of an old life");
                    assert_eq!(number % LIFE, self.control_heard, "a message out of order");
                    self.control_heard += 1;
                }
                Event::Message(other) => panic!("nobody said {other:?}"),
                Event::Lost(n) => {
                    self.lost += n;
                    self.data_known += n;
                }
            }
        }
        let Received::Data {
            epoch,
            length,
            after,
        } = received
        else {
            return;
        };
        assert_eq!(length, 4);
        assert_eq!(Some(epoch / LIFE), self.peer, "data of an old life");
        assert_eq!(
            epoch % LIFE,
            self.data_known,
            "what came late or twice does not count"
        );
        self.data_known += 1;
        let follows = u32::from_be_bytes(frame[DATA_HEADER..].try_into().expect("a payload"));
        self.waiting.push_back((epoch % LIFE, after, follows));
        self.end.set_backlog(self.waiting.len());
    }

    fn use_one(&mut self) {
        let Some(&(_, after, follows)) = self.waiting.front() else {
            return;
        };
        if self.end.has_received(after) {
            assert!(
                follows <= self.control_heard,
                "data counts before a message that it follows"
            );
            self.waiting.pop_front();
            self.used += 1;
            self.end.set_backlog(self.waiting.len());
        }
    }
}

/// Two ends, and what is under way from one to the other.
struct Network {
    sides: [Side; 2],
    wires: [Vec<Vec<u8>>; 2],
    now: u64,
    lives: u32,
}

impl Network {
    fn new() -> Self {
        let mut network = Self {
            sides: [Side::new(1, 0), Side::new(2, 0)],
            wires: [Vec::new(), Vec::new()],
            now: 0,
            lives: 2,
        };
        network.settle();
        assert!(network.sides.iter().all(|side| side.end.has_session()));
        network
    }

    fn run(mut self, rng: &mut Rng) {
        while rng.is_chosen() {
            self.step(rng);
        }
        self.wires = [Vec::new(), Vec::new()];
        self.settle();
        self.check_all_is_known();
    }

    fn step(&mut self, rng: &mut Rng) {
        let me = rng.below(2);
        match rng.below(12) {
            0 | 1 => self.sides[me].control(),
            2 | 3 if self.sides[me].end.room() > 0 && self.sides[me].data_sent < LIFE => {
                let frame = self.sides[me].data();
                self.wires[1 - me].push(frame);
            }
            4 => self.speak(me),
            5..=7 if !self.wires[me].is_empty() => {
                // Any frame that is under way comes next; some stay, to come again.
                let at = rng.below(self.wires[me].len());
                let stays = rng.one_in(4) && self.wires[me].len() < 64;
                let frame = match stays {
                    true => self.wires[me][at].clone(),
                    false => self.wires[me].remove(at),
                };
                self.sides[me].hear(&frame, self.now);
            }
            8 if !self.wires[me].is_empty() => {
                let at = rng.below(self.wires[me].len());
                self.wires[me].remove(at);
            }
            9 => self.sides[me].use_one(),
            10 if !self.wires[me].is_empty() => self.damage(me, rng),
            11 if rng.one_in(8) => {
                self.lives += 1;
                self.sides[me] = Side::new(self.lives, self.now);
            }
            _ => self.now += [1, 10, 60, 200][rng.below(4)],
        }
        self.check_window();
    }

    /// A frame with one other bit in what is the link's to check changes nothing.
    fn damage(&mut self, me: usize, rng: &mut Rng) {
        let at = rng.below(self.wires[me].len());
        let mut frame = self.wires[me][at].clone();
        let is_data = frame[17] == DATA;
        let end = if is_data { DATA_HEADER } else { frame.len() };
        frame[rng.between(12, end - 1)] ^= 1 << rng.below(8);
        let side = &mut self.sides[me];
        let garbage = side.end.counts().garbage;
        assert_eq!(
            side.end.receive(&frame, frame.len(), self.now),
            Received::Ignored
        );
        assert_eq!(side.end.counts().garbage, garbage + 1);
        assert_eq!(side.end.next_event(), None);
    }

    fn speak(&mut self, me: usize) {
        while let Some(frame) = self.sides[me].end.next_transmit(self.now) {
            self.wires[1 - me].push(frame.bytes().to_vec());
        }
    }

    fn is_one_session(&self) -> bool {
        let [a, b] = &self.sides;
        a.peer == Some(b.life) && b.peer == Some(a.life)
    }

    fn check_window(&self) {
        for me in 0..2 {
            let (sender, receiver) = (&self.sides[me], &self.sides[1 - me]);
            if self.is_one_session() {
                let open = sender.data_sent - receiver.lost - receiver.used;
                assert!(open <= WINDOW, "{open} frames for a window of {WINDOW}");
            }
        }
    }

    /// Nothing is lost for a while, in order.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.now += TIMING.retransmit;
            for me in 0..2 {
                self.speak(me);
                for frame in std::mem::take(&mut self.wires[1 - me]) {
                    self.sides[1 - me].hear(&frame, self.now);
                }
            }
            for side in &mut self.sides {
                for _ in 0..WINDOW {
                    side.use_one();
                }
            }
        }
    }

    fn check_all_is_known(&self) {
        assert!(
            self.is_one_session(),
            "two ends that hear each other have a session"
        );
        for me in 0..2 {
            let (sender, receiver) = (&self.sides[me], &self.sides[1 - me]);
            assert_eq!(receiver.control_heard, sender.control_sent, "messages");
            assert_eq!(
                receiver.data_known, sender.data_sent,
                "heard and lost are what was sent"
            );
            assert!(receiver.waiting.is_empty(), "data that waits for ever");
            assert_eq!(
                sender.end.room(),
                WINDOW as usize,
                "the window is open again"
            );
        }
    }
}

/// A header as `src/link/wire.rs` describes it, without its code.
struct Head {
    kind: u8,
    boot: u32,
    peer_boot: u32,
    epoch: u32,
    data: u32,
    control: u32,
    control_ack: u32,
    grant: u32,
}

impl Head {
    fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x88, 0xb5];
        frame.extend([0xc0, 0x10, 5, self.kind]);
        frame.extend(VM.to_be_bytes());
        frame.extend([0, 0]);
        let length = payload.len() as u32;
        for word in [
            self.boot,
            self.peer_boot,
            self.epoch,
            self.data,
            self.control,
            self.control_ack,
            self.grant,
            length,
            0,
        ] {
            frame.extend(word.to_be_bytes());
        }
        frame.extend(payload);
        let end = match self.kind {
            DATA => DATA_HEADER,
            _ => frame.len(),
        };
        let mut sum = 0u32;
        for pair in frame[14..end].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[20..22].copy_from_slice(&(!sum as u16).to_be_bytes());
        frame
    }
}

/// An end and a peer that knows every number in 64 bits, so that a wrap is a step like any other.
struct Counted {
    end: Endpoint,
    now: u64,
    /// The next data frame of the peer's, and what the end has taken in or counted as lost.
    next: u64,
    known: u64,
    /// Messages of the peer's that the end has got, and its own as far as they were transmitted and acknowledged.
    control: u64,
    queued: u64,
    transmitted: u64,
    acknowledged: u64,
}

const BOOT: u32 = 3;
const PEER: u32 = 5;

impl Counted {
    fn new(rng: &mut Rng) -> Self {
        let mut counted = Self {
            end: endpoint(BOOT, 0),
            now: 1,
            next: 0,
            known: 0,
            control: 0,
            queued: 0,
            transmitted: 0,
            acknowledged: 0,
        };
        counted.heartbeat();
        assert_eq!(counted.end.next_event(), Some(Event::Session));
        // Up to the wrap in steps that serial arithmetic distinguishes from steps back.
        for _ in 0..rng.below(4) {
            counted.next += (1 << 30) + rng.below(8) as u64;
            counted.heartbeat();
            counted.check_loss(counted.next);
        }
        if rng.one_in(2) {
            counted.next = (1 << 32) - rng.below(8) as u64;
            while counted.known < counted.next {
                let far = counted.next;
                counted.next = far.min(counted.known + (1 << 30));
                counted.heartbeat();
                counted.check_loss(counted.next);
                counted.next = far;
            }
        }
        counted
    }

    fn head(&self, kind: u8) -> Head {
        Head {
            kind,
            boot: PEER,
            peer_boot: BOOT,
            epoch: 0,
            data: self.next as u32,
            control: self.control as u32,
            control_ack: self.acknowledged as u32,
            grant: 0,
        }
    }

    fn heartbeat(&mut self) {
        let frame = self.head(HEARTBEAT).frame(&[0; MARKS]);
        assert_eq!(
            self.end.receive(&frame, frame.len(), self.now),
            Received::Consumed
        );
    }

    /// What was not known before `next` is lost now.
    fn check_loss(&mut self, next: u64) {
        let missing = next.saturating_sub(self.known);
        let lost = match self.end.next_event() {
            None => 0,
            Some(Event::Lost(n)) => u64::from(n),
            Some(other) => panic!("nobody said {other:?}"),
        };
        assert_eq!(lost, missing, "loss");
        assert_eq!(self.end.next_event(), None);
        self.known = self.known.max(next);
    }

    fn run(mut self, rng: &mut Rng) {
        while rng.is_chosen() {
            match rng.below(8) {
                0..=2 => self.data(rng),
                3 => {
                    self.next = self.next.max(self.known) + rng.below(3) as u64;
                    self.heartbeat();
                    self.check_loss(self.next);
                }
                4 => self.message(rng),
                5 => {
                    self.queued +=
                        u64::from(self.end.send(Message::Epoch(self.queued as u32)).is_ok());
                }
                6 => self.transmit(),
                _ => self.acknowledge(rng),
            }
            self.now += rng.below(3) as u64;
        }
    }

    /// A data frame that is next, ahead, late or comes twice.
    fn data(&mut self, rng: &mut Rng) {
        let number = match rng.below(4) {
            0 => self.known.saturating_sub(1 + rng.below(40) as u64),
            1 => self.known + rng.below(40) as u64,
            _ => self.known,
        };
        self.next = self.next.max(number + 1);
        let head = Head {
            data: number as u32,
            epoch: number as u32 ^ 0x55,
            ..self.head(DATA)
        };
        let frame = head.frame(&[1, 2, 3]);
        let received = self.end.receive(&frame, frame.len(), self.now);
        if number < self.known {
            assert_eq!(received, Received::Ignored, "late or twice");
            assert_eq!(self.end.next_event(), None);
            return;
        }
        self.check_loss(number);
        self.known = number + 1;
        let Received::Data {
            epoch,
            length,
            after,
        } = received
        else {
            panic!("{received:?}");
        };
        assert_eq!((epoch, length), (number as u32 ^ 0x55, 3));
        assert!(self.end.has_received(after));
    }

    /// A message that is next, or another one.
    fn message(&mut self, rng: &mut Rng) {
        let number = match rng.below(3) {
            0 => self.control.saturating_sub(rng.below(3) as u64),
            1 => self.control + 2 + rng.below(3) as u64,
            _ => self.control + 1,
        };
        let head = Head {
            control: number as u32,
            ..self.head(CONTROL)
        };
        let payload = [&[8][..], &(number as u32).to_be_bytes()].concat();
        let frame = head.frame(&payload);
        self.end.receive(&frame, frame.len(), self.now);
        // Its header announces the next data frame, too.
        if number != self.control + 1 {
            self.check_loss(self.next.max(self.known));
            return;
        }
        self.control = number;
        let mut said = Vec::new();
        while let Some(event) = self.end.next_event() {
            match event {
                Event::Lost(n) => self.known += u64::from(n),
                other => said.push(other),
            }
        }
        assert_eq!(said, [Event::Message(Message::Runs(number as u32))]);
        assert_eq!(self.known, self.next.max(self.known));
    }

    fn transmit(&mut self) {
        for _ in 0..4 {
            let Some(frame) = self.end.next_transmit(self.now) else {
                return;
            };
            let bytes = frame.bytes();
            let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4"));
            assert_eq!((word(22), word(26)), (BOOT, PEER));
            assert_eq!(word(42), self.control as u32, "what it acknowledges");
            if bytes[17] == CONTROL {
                let number = u64::from(word(38));
                assert!(number > self.acknowledged && number <= self.transmitted + 1);
                self.transmitted = self.transmitted.max(number);
                assert_eq!(
                    &bytes[58..63],
                    [&[1][..], &(number as u32 - 1).to_be_bytes()].concat()
                );
            }
        }
    }

    /// The peer acknowledges what was transmitted, or lies.
    fn acknowledge(&mut self, rng: &mut Rng) {
        let ack = match rng.below(3) {
            0 => self.transmitted + 1 + rng.below(3) as u64,
            _ => self.acknowledged + rng.below(3) as u64,
        };
        let head = Head {
            control_ack: ack as u32,
            ..self.head(HEARTBEAT)
        };
        let garbage = self.end.counts().garbage;
        let frame = head.frame(&[0; MARKS]);
        self.end.receive(&frame, frame.len(), self.now);
        self.check_loss(self.next.max(self.known));
        if ack > self.transmitted {
            assert_eq!(self.end.counts().garbage, garbage + 1, "a lie is counted");
        } else {
            self.acknowledged = self.acknowledged.max(ack);
        }
        for number in 1..=self.queued + 1 {
            let known = self.end.is_acknowledged(number as u32);
            assert_eq!(known, number <= self.acknowledged, "message {number}");
        }
    }
}

/// Bytes of a stranger: they are read without harm.
fn strange(bytes: &[u8]) {
    let mut end = endpoint(1, 0);
    let [cut, bytes @ ..] = bytes else {
        return;
    };
    let head = &bytes[..usize::from(*cut).min(bytes.len())];
    for head in [head, bytes] {
        end.receive(head, bytes.len(), 1);
        let _ = offload(head);
        while end.next_event().is_some() {}
        while end.next_transmit(1).is_some() {}
        if let Some(fragment) = Fragment::decode(head, bytes.len()) {
            assert!(FRAGMENT_HEADER + usize::from(fragment.length) <= bytes.len());
            Reassembly::default().step(&fragment);
        }
    }
}

/// Frames in fragments that are lost, come twice, late or damaged: what comes whole was sent.
fn fragments(rng: &mut Rng) {
    let longest = FRAGMENT_HEADER + rng.between(64, 200);
    let mut sender = Fragmenter::new(longest).expect("room for 64 bytes");
    let mut frames = BTreeSet::new();
    let mut travelling = Vec::new();
    for number in 0..rng.between(1, 5) as u8 {
        let mut frame = vec![number; rng.between(14, 700)];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        assert!(sender.begin(&frame, frame.len()));
        let mut at = 0;
        while sender.next_length() > 0 {
            let n = sender.next_length();
            let mut bytes = sender.next_header().to_vec();
            assert!(bytes.len() + n <= longest);
            bytes.extend(&frame[at..at + n]);
            at += n;
            travelling.push(bytes);
        }
        assert_eq!(at, frame.len());
        frames.insert(frame);
    }
    while rng.is_chosen() && !travelling.is_empty() {
        let at = rng.below(travelling.len());
        match rng.below(4) {
            0 => drop(travelling.remove(at)),
            1 => travelling.insert(at, travelling[at].clone()),
            2 => {
                let other = rng.below(travelling.len());
                travelling.swap(at, other);
            }
            _ => travelling[at][rng.between(12, FRAGMENT_HEADER - 1)] ^= 1 << rng.below(8),
        }
    }
    let (mut receiver, mut open) = (Reassembly::default(), Vec::new());
    for bytes in travelling {
        let Some(fragment) = Fragment::decode(&bytes, bytes.len()) else {
            receiver.abandon();
            continue;
        };
        let part = &bytes[FRAGMENT_HEADER..FRAGMENT_HEADER + usize::from(fragment.length)];
        let step = receiver.step(&fragment);
        match step {
            Step::Begin | Step::Whole => open = part.to_vec(),
            Step::Append | Step::Finish => open.extend(part),
            Step::Drop => {}
        }
        if matches!(step, Step::Whole | Step::Finish) {
            assert!(frames.contains(&open), "a frame that was never sent");
        }
    }
}
