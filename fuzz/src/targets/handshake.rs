//! The link's session with an attacker between the nodes: frames come in any order, again, damaged, back to their
//! sender, from an earlier start, or were never sent. What counts was sealed by the peer in this session, and counts once
//! (rule R11).

use dpdk_colo::link::Timing;
use dpdk_colo::link::secure::{Begun, Guard, Identity, KeyRing, Opened, Role, SEAL};

use colo_testkit::rng::Rng;

const TIMING: Timing = Timing {
    heartbeat: 20,
    retransmit: 5,
    silence: 500,
    gap: u64::MAX,
    stall: 0,
    restart: 0,
};
const VM: u16 = 7;
const KEYS: [&str; 4] = [
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\
     ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100",
    "1111111111111111111111111111111111111111111111111111111111111111",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Greeting,
    Sealed,
    GoodBye,
}

/// A frame that a node has sent.
struct Sent {
    what: What,
    bytes: Vec<u8>,
    by: usize,
    /// When among all things that happened.
    when: usize,
    counted: bool,
}

/// A node's start.
struct Node {
    guard: Guard,
    /// When among all things that happened it started.
    born: usize,
    knows: usize,
    /// The session that it has begun last.
    begun: Option<Begun>,
}

impl Node {
    fn start(me: usize, knows: usize, born: usize) -> Self {
        let ring = KeyRing::parse(KEYS[knows]).expect("keys");
        let mut seed = [me as u8; 32];
        seed[..8].copy_from_slice(&(born as u64).to_be_bytes());
        let identity = Identity {
            vm: VM,
            role: [Role::Primary, Role::Secondary][me],
            mac: [2, 0, 0, 0, 0, me as u8],
            seed,
        };
        Self {
            guard: Guard::new(&ring, &identity, TIMING),
            born,
            knows,
            begun: None,
        }
    }
}

/// Both nodes and all that was ever on the link.
struct Link {
    nodes: [Node; 2],
    sent: Vec<Sent>,
    steps: usize,
    now: u64,
}

/// Frames that are remembered.
const MOST: usize = 200;

/// Each draw is something that happens.
pub fn run(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    let keys = [[0, 0], [0, 2], [2, 1], [2, 2], [0, 3]][rng.below(5)];
    let mut link = Link {
        nodes: [Node::start(0, keys[0], 0), Node::start(1, keys[1], 0)],
        sent: Vec::new(),
        steps: 1,
        now: 0,
    };
    if rng.one_in(2) {
        link.converse();
    }
    while rng.is_chosen() && link.sent.len() < MOST {
        link.step(&mut rng);
    }
    link.end();
}

impl Link {
    fn step(&mut self, rng: &mut Rng) {
        self.steps += 1;
        let me = rng.below(2);
        match rng.below(10) {
            0 => self.greet(me),
            1 | 2 => self.seal(me),
            3..=5 if !self.sent.is_empty() => {
                let at = self.sent.len() - 1 - rng.below(self.sent.len());
                self.open(me, at);
            }
            6 if !self.sent.is_empty() => self.damage(me, rng),
            7 => {
                let bytes: Vec<u8> = (0..rng.below(40)).map(|_| rng.byte()).collect();
                self.strange(me, &bytes);
            }
            8 if rng.one_in(4) => {
                let knows = self.nodes[me].knows;
                if let Some(bytes) = self.nodes[me].guard.good_bye() {
                    self.send(me, What::GoodBye, &bytes);
                }
                self.nodes[me] = Node::start(me, knows, self.steps);
            }
            _ => self.now += [1, 20, 100, 260, 600][rng.below(5)],
        }
    }

    fn send(&mut self, by: usize, what: What, bytes: &[u8]) {
        self.sent.push(Sent {
            what,
            bytes: bytes.to_vec(),
            by,
            when: self.steps,
            counted: false,
        });
    }

    fn greet(&mut self, me: usize) {
        while let Some(greeting) = self.nodes[me].guard.next_greeting(self.now) {
            self.send(me, What::Greeting, greeting.bytes());
        }
    }

    fn seal(&mut self, me: usize) {
        let mut frame = vec![0; 64];
        frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8]);
        frame[12..20].copy_from_slice(&[0x88, 0xb5, 0xc0, 0x10, 5, 3, 0, VM as u8]);
        frame[20..28].copy_from_slice(&(self.steps as u64).to_be_bytes());
        let seal = self.nodes[me]
            .guard
            .seal(&frame, std::iter::once(&frame[..]));
        if let Some(seal) = seal {
            self.send(me, What::Sealed, &[&seal[..], &frame].concat());
        }
    }

    fn open(&mut self, me: usize, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[me];
        let sent = &mut self.sent[at];
        let had_session = node.guard.has_session();
        let opened = (node.guard).open(&sent.bytes, std::iter::once(&sent.bytes[..]), now);
        assert_ne!(
            opened,
            Opened::Plain,
            "a guard with a key lets nothing pass as it is"
        );
        if let Opened::Begun(session) = opened {
            assert!(
                sent.what == What::Greeting,
                "a greeting alone begins a session"
            );
            assert_ne!(Some(session), node.begun, "a session begins twice");
            node.begun = Some(session);
        }
        let has_effect = node.guard.has_session() != had_session;
        if opened != Opened::Sealed && !(has_effect && sent.what == What::GoodBye) {
            assert!(!has_effect || sent.what == What::Greeting);
            return;
        }
        assert!(sent.what != What::Greeting, "what is not sealed counts");
        assert_ne!(sent.by, me, "its own frame counts");
        assert!(
            sent.when > node.born,
            "a frame of a life before this one counts"
        );
        assert!(!sent.counted, "a frame counts twice");
        sent.counted = true;
    }

    /// A frame with other bytes than it was sent with.
    fn damage(&mut self, me: usize, rng: &mut Rng) {
        let at = self.sent.len() - 1 - rng.below(self.sent.len());
        let Sent { what, bytes, .. } = &self.sent[at];
        let mut bytes = bytes.clone();
        // A greeting has a tag for each key of its sender's, and padding is the network's.
        if *what == What::Greeting {
            let at = rng.between(14, bytes.len() - 1);
            bytes[at] ^= 1 << rng.below(8);
            let node = &mut self.nodes[me];
            let opened = (node.guard).open(&bytes, std::iter::once(&bytes[..]), self.now);
            if let Opened::Begun(session) = opened {
                node.begun = Some(session);
            }
            assert!(!matches!(opened, Opened::Sealed | Opened::Plain));
            return;
        }
        match rng.below(4) {
            // The outer Ethernet header is the network's.
            0 | 1 => {
                let at = rng.between(14, bytes.len() - 1);
                bytes[at] ^= 1 << rng.below(8);
            }
            2 => bytes.truncate(rng.below(bytes.len())),
            _ => bytes.push(rng.byte()),
        }
        self.strange(me, &bytes);
    }

    fn strange(&mut self, me: usize, bytes: &[u8]) {
        let guard = &mut self.nodes[me].guard;
        let session = guard.has_session();
        let opened = guard.open(bytes, std::iter::once(bytes), self.now);
        assert!(
            matches!(opened, Opened::Consumed | Opened::Void),
            "a stranger's frame counts"
        );
        assert_eq!(
            guard.has_session(),
            session,
            "a stranger begins or ends a session"
        );
    }

    /// Nothing is lost for long enough that a session may begin anew.
    fn converse(&mut self) {
        let begin = self.sent.len();
        for _ in 0..2 * TIMING.silence / TIMING.heartbeat + 8 {
            self.now += TIMING.heartbeat;
            for me in 0..2 {
                self.steps += 1;
                self.sent.truncate(begin);
                self.greet(me);
                self.seal(me);
                for at in begin..self.sent.len() {
                    self.open(1 - me, at);
                }
            }
        }
        self.sent.truncate(begin);
    }

    fn end(mut self) {
        self.converse();
        let together = self.nodes.iter().all(|node| node.knows != 3);
        for me in 0..2 {
            let _ = self.nodes[me].guard.next_notice(u64::MAX);
            assert_eq!(self.nodes[me].guard.has_session(), together, "a session");
            assert_eq!(self.nodes[me].guard.overhead(), SEAL);
        }
        if together {
            let [a, b] = self.nodes.map(|node| node.begun.expect("a session"));
            assert_eq!(
                (a.own, a.peer),
                (b.peer, b.own),
                "both ends know its numbers"
            );
        }
    }
}
