//! Clients on the network: each asks its questions one after the other and checks that no byte
//! ever comes with two values.

use std::collections::BTreeMap;

use colo_testkit::rng::Rng;
use dpdk_colo::frame::Ticks;

use crate::frames::{self, Content, Peer, Segment, Way};
use crate::guest::{CALL_BACK, Kind, request};
use crate::tcp::{Tcp, WINDOW};

/// One connection of a client.
pub struct Call {
    pub peer: Peer,
    pub tcp: Tcp,
    /// Kind and length of the questions still to be asked.
    questions: Vec<(Kind, u32)>,
    /// Bytes that the answers so far have.
    expected: usize,
    begins: Ticks,
    /// Sequence number of the VM's first byte, and the bytes that came, in any order.
    first: Option<u32>,
    /// The VM's last time stamp.
    clock: Option<u32>,
    seen: BTreeMap<u32, u8>,
}

/// Everything on the network side.
pub struct Clients {
    pub calls: Vec<Call>,
    datagrams: Vec<(Ticks, Vec<u8>)>,
    quirks: Rng,
    /// Reminders that a client heeded.
    pub reminded: u64,
}

const UDP: Peer = Peer {
    port: 53,
    client: 8,
    client_port: 5_353,
};

impl Clients {
    /// `calls` clients. Of a hundred questions, `divergent` ask the machine itself.
    pub fn new(rng: &mut Rng, calls: usize, divergent: usize, until: Ticks) -> Self {
        let begin = |rng: &mut Rng| rng.below(until as usize) as Ticks;
        let kind = |rng: &mut Rng| match rng.below(100) {
            n if n < divergent => Kind::Divergent,
            n if n >= 92 => Kind::CallBack,
            _ => Kind::Plain,
        };
        let calls = (0..calls)
            .map(|i| {
                let peer = Peer {
                    port: 80,
                    client: (i % 6) as u8,
                    client_port: 40_000 + i as u16,
                };
                let questions = (0..rng.between(1, 6))
                    .map(|_| (kind(rng), rng.between(1, 5_000) as u32))
                    .collect();
                Call::new(
                    peer,
                    Tcp::new(true, rng.one_in(2), rng),
                    questions,
                    begin(rng),
                )
            })
            .collect();
        let datagrams = (0..rng.below(20))
            .map(|i| {
                let mut payload = vec![kind(rng) as u8, 0, 0, 0, i as u8];
                payload.extend((0..rng.below(200)).map(|_| rng.byte()));
                (begin(rng), payload)
            })
            .collect();
        Self {
            calls,
            datagrams,
            quirks: Rng::new(rng.next()),
            reminded: 0,
        }
    }

    pub fn are_done(&self) -> bool {
        self.datagrams.is_empty() && self.calls.iter().all(|call| call.tcp.is_done())
    }

    /// What the network brings to the VM.
    pub fn step(&mut self, now: Ticks) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        self.datagrams.retain(|(at, payload)| {
            let due = *at <= now;
            if due {
                frames.push(frames::udp(UDP, Way::Input, payload));
            }
            !due
        });
        for call in self.calls.iter_mut().filter(|call| call.begins <= now) {
            call.ask();
            for segment in call.tcp.speak(now, &mut self.quirks, 4, WINDOW) {
                frames.push(frames::tcp(call.peer, Way::Input, &segment));
            }
        }
        frames
    }

    /// A frame that left the uplink.
    pub fn hear(&mut self, frame: &[u8], now: Ticks) {
        if let Some((peer, sequence)) = frames::reminds(frame) {
            let call = self.calls.iter_mut().find(|call| call.peer == peer);
            let call = call.expect("a reminder goes to a client that has a connection");
            self.reminded += u64::from(call.tcp.remind(sequence, now));
            return;
        }
        let (Some(peer), Content::Tcp(segment)) = frames::read(frame, Way::Output) else {
            return;
        };
        let known = self.calls.iter().position(|call| call.peer == peer);
        let index = known.unwrap_or_else(|| {
            assert!(peer.port >= CALL_BACK, "nobody called {peer:?}");
            let tcp = Tcp::new(false, segment.timestamps.is_some(), &mut self.quirks);
            self.calls.push(Call::new(peer, tcp, Vec::new(), now));
            self.calls.len() - 1
        });
        let call = &mut self.calls[index];
        call.witness(&segment);
        call.tcp.hear(&segment, now, &mut self.quirks);
    }
}

impl Call {
    fn new(peer: Peer, tcp: Tcp, questions: Vec<(Kind, u32)>, begins: Ticks) -> Self {
        Self {
            peer,
            tcp,
            questions,
            expected: 0,
            begins,
            first: None,
            clock: None,
            seen: BTreeMap::new(),
        }
    }

    fn ask(&mut self) {
        if self.tcp.received.len() < self.expected {
            return;
        }
        match self.questions.pop() {
            Some((kind, length)) => {
                self.tcp.stream.extend(request(kind, length));
                self.expected += length as usize;
            }
            None if self.peer.port >= CALL_BACK => self.tcp.closing |= self.tcp.finished,
            None => self.tcp.closing = true,
        }
    }

    /// Rule R5: a byte that comes again is the same.
    fn witness(&mut self, segment: &Segment) {
        if segment.syn {
            let first = segment.seq.wrapping_add(1);
            assert_eq!(
                *self.first.get_or_insert(first),
                first,
                "R5: two ISNs in {:?}",
                self.peer
            );
        }
        if let Some((value, _)) = segment.timestamps {
            // RFC 7323, 5: a time that went back is an old segment's.
            let back = self.clock.map_or(0, |last| last.wrapping_sub(value) as i32);
            assert!(
                back < 500,
                "the clock of {:?} went back by {back}",
                self.peer
            );
            self.clock = Some(value);
        }
        let first = self.first.expect("a SYN comes before anything else");
        let from = segment
            .seq
            .wrapping_add(segment.syn.into())
            .wrapping_sub(first);
        for (i, byte) in segment.payload.iter().enumerate() {
            let at = from.wrapping_add(i as u32);
            let known = *self.seen.entry(at).or_insert(*byte);
            assert_eq!(
                known, *byte,
                "R5: byte {at} of {:?} left with two values",
                self.peer
            );
        }
    }
}
