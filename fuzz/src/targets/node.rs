//! A node's surroundings for the state machines' targets: ports of queues, and what the driver did to them, in order.

use std::collections::VecDeque;

use dpdk_colo::compare::Release;
use dpdk_colo::frame::{Offload, Ticks};
use dpdk_colo::link::secure::Begun;
use dpdk_colo::link::{DATA_HEADER, Endpoint, Timing};
use dpdk_colo::observability::capture::{Note, Place};
use dpdk_colo::pair::{Burst, Host, Port, Ports, Times, ToControl, ToPoll, View};
use dpdk_colo::protect::{CheckpointShare, Failover, Migration, OnPeerLost, QemuEvent, Setup};

use crate::frame::{Frames, Numbered, Origin, Owners};
use colo_testkit::packets::{self, Ends, Segment};
use colo_testkit::rng::Rng;

pub const TIMING: Timing = Timing {
    heartbeat: 100,
    retransmit: 50,
    silence: 5_000,
    gap: 1_100,
    stall: 20_000,
    restart: 15_000,
};
pub const REPEAT: Ticks = 3_000;
pub const TIMEOUT: Ticks = 1_000;
pub const TIMES: Times = Times {
    patience: 100,
    latest: 10_000,
};

/// The setup of a node.
pub fn setup(boot: u32, sealed: bool, on_peer_lost: OnPeerLost, auto: bool) -> Setup {
    use dpdk_colo::compare::{Limits, Numbers, Policy};
    Setup {
        vm: 1,
        boot,
        sealed,
        link_mac: [2; 6],
        window: 96,
        link: TIMING,
        limits: Limits {
            primary: 96,
            secondary: 64,
            history: 16,
            flows: 8,
            timeout: TIMEOUT,
            patience: 1,
            idle: 1 << 40,
            half_open: 1 << 40,
        },
        numbers: Numbers::Translated,
        policy: Policy::default(),
        repeat: REPEAT,
        checkpoint_share: CheckpointShare::ALL,
        evidence: 500,
        connections: 8,
        failover: Failover {
            on_peer_lost,
            auto,
            retry: 1_000,
        },
        millisecond: 10,
        last_segments: 8,
    }
}

/// Whether the link has a guard: a bit of the seed, which no other draw is.
pub fn is_sealed(data: &[u8]) -> bool {
    data.first().is_some_and(|byte| byte & 1 != 0)
}

/// The other node's end of the link.
pub fn peer(boot: u32, sealed: bool, now: Ticks) -> Endpoint {
    Endpoint::new(1, boot, [4; 6], 96, TIMING, now).behind_guard(sealed)
}

/// The session of this number, as the node's guard and the peer's know it.
fn session(number: u32) -> [Begun; 2] {
    let (own, peer) = (2 * number + 1, 2 * number + 2);
    [
        Begun { own, peer },
        Begun {
            own: peer,
            peer: own,
        },
    ]
}

/// Time in which the node runs: it looks at the link at least once a gap.
pub fn looks(ticks: Ticks) -> impl Iterator<Item = Ticks> {
    let whole = ticks / TIMING.gap;
    (0..whole)
        .map(|_| TIMING.gap)
        .chain([ticks % TIMING.gap].into_iter().filter(|rest| *rest > 0))
}

/// What the driver did that somebody may have to answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It asked for frames of this port.
    Polled(Port),
    /// A compared frame is free to leave.
    Released(Origin),
    /// A frame that was not compared is.
    Passed(Origin),
    /// Frames went to the network.
    Sent(usize),
    /// Input went to the guest.
    Gave(u64),
    /// It asks for a checkpoint.
    Asked,
    /// The peer is said to have received the announcement of a restart.
    RestartAcknowledged,
}

/// The queues.
pub struct Mock {
    pub owners: Owners,
    pub now: Ticks,
    /// Stops of the guest's ring, and what the driver knows of them.
    pub stops: u64,
    pub seen: u64,
    pub mail: VecDeque<ToPoll>,
    pub guest: VecDeque<Numbered>,
    pub link: VecDeque<Numbered>,
    pub uplink: VecDeque<Numbered>,
    pub out: Frames,
    pub to_link: Frames,
    /// What has gone over the link.
    pub carried: Vec<Vec<u8>>,
    /// The ports take something.
    pub uplink_takes: bool,
    pub link_takes: bool,
    /// Frames that the guest's ring takes.
    pub guest_takes: usize,
    pub has_memory: bool,
    pub did: Vec<Did>,
    /// Messages for the control thread.
    pub actions: Vec<dpdk_colo::protect::Action>,
    pub questions: Vec<u32>,
    /// Sessions that the guards have begun, and the one that the node has not been given.
    pub sessions: u32,
    pub begun: Option<Begun>,
}

impl Mock {
    pub fn new() -> Self {
        Self {
            owners: Owners::default(),
            now: 1,
            stops: 0,
            seen: 0,
            mail: VecDeque::new(),
            guest: VecDeque::new(),
            link: VecDeque::new(),
            uplink: VecDeque::new(),
            out: Frames::default(),
            to_link: Frames::default(),
            carried: Vec::new(),
            uplink_takes: true,
            link_takes: true,
            guest_takes: 32,
            has_memory: true,
            did: Vec::new(),
            actions: Vec::new(),
            questions: Vec::new(),
            sessions: 0,
            begun: None,
        }
    }

    pub fn frame(&self, bytes: &[u8], origin: Origin) -> Numbered {
        Numbered::new(bytes, origin, &self.owners)
    }

    /// Frames in the queues.
    pub fn frames(&self) -> usize {
        self.guest.len() + self.link.len() + self.uplink.len() + self.out.len() + self.to_link.len()
    }

    /// The guards begin a session, where there are any.
    pub fn begin_session(&mut self, peer: &mut Endpoint, sealed: bool) {
        if sealed {
            let [own, theirs] = session(self.sessions);
            self.sessions += 1;
            self.begun = Some(own);
            peer.begin(theirs);
        }
    }

    pub fn tell(&mut self, event: QemuEvent) {
        self.mail.push_back(ToPoll::Monitor(event));
    }

    /// The port is good for anything; what a guest and a network are like otherwise is drawn.
    pub fn trouble(&mut self, rng: &mut Rng) {
        match rng.below(4) {
            0 => self.uplink_takes = !self.uplink_takes,
            1 => self.link_takes = !self.link_takes,
            2 => self.guest_takes = [0, 1, 32][rng.below(3)],
            _ => self.has_memory = !self.has_memory,
        }
    }
}

impl Host for Mock {
    type Burst = Frames;

    fn room(&self) -> usize {
        Frames::CAPACITY - self.out.len()
    }

    fn release(&mut self, release: Release<Numbered>) {
        self.did.push(Did::Released(release.frame.origin()));
        assert!(
            self.out.push(release.frame).is_ok(),
            "the caller has seen room"
        );
    }

    fn pass(&mut self, frame: Numbered) {
        self.did.push(Did::Passed(frame.origin()));
        assert!(self.out.push(frame).is_ok(), "the caller has seen room");
    }

    fn flush(&mut self, _epoch: u32) -> usize {
        let n = if self.uplink_takes { self.out.len() } else { 0 };
        if n > 0 {
            self.did.push(Did::Sent(n));
        }
        self.out.take(n);
        n
    }

    fn is_idle(&self) -> bool {
        self.out.is_empty()
    }

    fn give_up(&mut self, _more: usize) {
        self.out.clear();
    }

    fn next_mail(&mut self) -> Option<ToPoll> {
        self.mail.pop_front()
    }

    fn has_mail_room(&self) -> bool {
        self.did.len() < 200
    }

    fn post(&mut self, message: ToControl<Numbered>) {
        match message {
            ToControl::Request(_) => self.did.push(Did::Asked),
            ToControl::Act(action) => self.actions.push(action),
            ToControl::RestartAcknowledged => self.did.push(Did::RestartAcknowledged),
            ToControl::Ask(question) => self.questions.push(question),
            _ => {}
        }
    }

    fn capture(&mut self, _place: Place, _epoch: u32, _frames: &[Numbered]) {}

    fn note(&mut self, _note: Note) {}

    fn watch(&mut self, _view: impl FnOnce() -> View) {}

    fn now(&self) -> Ticks {
        self.now
    }

    fn pause(&mut self) {}
}

impl Ports for Mock {
    fn quiesce(&mut self) -> u64 {
        self.seen = self.stops;
        self.stops
    }

    fn receive(&mut self, port: Port, burst: &mut Frames, most: usize) -> bool {
        assert!(burst.is_empty(), "a burst is received into an empty one");
        self.did.push(Did::Polled(port));
        let queue = match port {
            Port::Guest => &mut self.guest,
            Port::Uplink => &mut self.uplink,
            Port::Link => &mut self.link,
        };
        while burst.len() < most
            && let Some(frame) = queue.pop_front()
        {
            assert!(burst.push(frame).is_ok(), "it had room");
        }
        !burst.is_empty()
    }

    fn next_session(&mut self) -> Option<Begun> {
        self.begun.take()
    }

    fn give(&mut self, _epoch: u32, input: &mut Frames) -> usize {
        let taken = self.guest_takes.min(input.len());
        for frame in input.take(taken) {
            if let Origin::Input(Some(number)) = frame.origin() {
                self.did.push(Did::Gave(number));
            }
        }
        taken
    }

    fn link_room(&self) -> usize {
        Frames::CAPACITY - self.to_link.len()
    }

    fn push_link(&mut self, frame: Numbered) {
        assert!(self.to_link.push(frame).is_ok(), "the caller has seen room");
    }

    fn flush_link(&mut self) -> usize {
        let n = if self.link_takes {
            self.to_link.len()
        } else {
            0
        };
        for frame in self.to_link.take(n) {
            self.carried.push(frame.bytes());
        }
        n
    }

    fn count_dropped(&mut self, _port: Port, _frames: usize) {}

    fn reserve_headers(&mut self, _frames: usize) -> bool {
        self.has_memory
    }

    fn mirror(
        &mut self,
        shares: &mut Frames,
        taken: usize,
        mut header: impl FnMut(&Numbered) -> [u8; DATA_HEADER],
    ) {
        for share in shares.take(taken) {
            let mut bytes = header(&share).to_vec();
            bytes.extend(share.bytes());
            let frame = share.with_bytes(&bytes);
            assert!(self.to_link.push(frame).is_ok(), "the caller has seen room");
        }
        shares.clear();
    }

    fn prepend(&self, frame: &mut Numbered, header: &[u8; DATA_HEADER]) -> bool {
        if frame.is_shared() || !self.has_memory {
            return false;
        }
        *frame = frame.with_bytes(&[&header[..], &frame.bytes()].concat());
        true
    }

    fn strip(&self, frame: &mut Numbered, length: usize) -> bool {
        let bytes = frame.bytes();
        let Some(payload) = bytes.get(DATA_HEADER..DATA_HEADER + length) else {
            return false;
        };
        *frame = frame.with_bytes(payload);
        true
    }

    fn reclaim(&self, frame: Numbered) -> Option<Numbered> {
        Some(frame.with_bytes(frame.bytes().get(DATA_HEADER..)?))
    }

    fn copy(&self, bytes: &[u8]) -> Option<Numbered> {
        self.has_memory.then(|| self.frame(bytes, Origin::Own))
    }

    fn mark(&self, _frame: &mut Numbered, _offload: Offload) {}
}

/// Any state of a migration.
pub fn migration(rng: &mut Rng) -> Migration {
    [
        Migration::Colo,
        Migration::Colo,
        Migration::None,
        Migration::Completed,
        Migration::Broken,
    ][rng.below(5)]
}

/// The fencing command and the operator.
pub fn on_peer_lost(rng: &mut Rng) -> OnPeerLost {
    [
        OnPeerLost::Hold,
        OnPeerLost::Hold,
        OnPeerLost::Release,
        OnPeerLost::Fence,
    ][rng.below(4)]
}

/// A frame of few that a VM may send: datagrams that say a number, and SYNs.
pub fn output(rng: &mut Rng, isn: u32) -> (Vec<u8>, Content) {
    let ends = |port: u16| Ends {
        v6: false,
        vlans: Vec::new(),
        peer: 2,
        port,
        peer_port: 40_000,
        from_peer: false,
    };
    let flow = rng.below(2) as u16;
    if rng.one_in(4) {
        let syn = Segment {
            seq: isn,
            syn: true,
            window: 500,
            options: packets::syn_options(1_460, None),
            ..Segment::default()
        };
        (packets::tcp(&ends(80 + flow), &syn, 0), Content::Syn(flow))
    } else {
        let says = rng.below(3) as u8;
        let bytes = packets::udp(&ends(53 + flow), &[says], 0);
        (bytes, Content::Datagram(flow, says))
    }
}

/// What a frame of [`output`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Datagram(u16, u8),
    Syn(u16),
}
