//! What the daemon does with DPDK, done with queues: the ports of a node's driver.

use std::collections::VecDeque;

use colo_testkit::rng::Rng;
use dpdk_colo::compare::Release;
use dpdk_colo::frame::{Offload, Ticks};
use dpdk_colo::link::DATA_HEADER;
use dpdk_colo::link::secure::Begun;
use dpdk_colo::observability::capture::{Note, Place};
use dpdk_colo::pair::{Burst, Host, Port, Ports, ToControl, ToPoll, View};
use dpdk_colo::protect::QemuEvent;

use crate::frame::{Frames, Numbered, Origin, Owners};
use crate::guest::Vm;
use crate::link::Channel;
use crate::log::Capture;
use crate::monitor::Line;
use crate::nodes::{Round, Waiting};
use crate::oracle::Oracle;
use crate::qemu::Qemu;

/// Longest time for which a node's thread does not run.
pub const PREEMPTED: Ticks = 5_000;

/// What stays in a node's ports from round to round.
pub struct Queues {
    out: Frames,
    link: Frames,
    /// What the control thread sends besides the monitor's events.
    pub inbox: VecDeque<ToPoll>,
    /// Until then the port takes nothing, or no memory is there.
    pub uplink_blocked_until: Ticks,
    pub link_blocked_until: Ticks,
    pub short_until: Ticks,
    owners: Owners,
}

impl Queues {
    pub fn new(owners: Owners) -> Self {
        Self {
            out: Frames::default(),
            link: Frames::default(),
            inbox: VecDeque::new(),
            uplink_blocked_until: 0,
            link_blocked_until: 0,
            short_until: 0,
            owners,
        }
    }

    pub fn frames(&self) -> usize {
        self.out.len() + self.link.len()
    }
}

/// The VM that a node serves, and its monitor.
pub enum Machine<'a> {
    Pvm(&'a mut Qemu),
    Svm(&'a mut Qemu),
    Zombie(&'a mut Vm, &'a mut Line<QemuEvent>),
}

impl Machine<'_> {
    fn vm(&mut self) -> &mut Vm {
        match self {
            Machine::Pvm(qemu) => &mut qemu.pvm,
            Machine::Svm(qemu) => &mut qemu.svm,
            Machine::Zombie(vm, _) => vm,
        }
    }

    fn monitor(&mut self) -> &mut Line<QemuEvent> {
        match self {
            Machine::Pvm(qemu) => &mut qemu.primary,
            Machine::Svm(qemu) => &mut qemu.secondary,
            Machine::Zombie(_, line) => line,
        }
    }
}

/// What is around a node in a round.
pub struct Site<'a> {
    pub machine: Machine<'a>,
    pub from_link: &'a mut Channel,
    pub to_link: &'a mut Channel,
    /// Frames that the network brought.
    pub uplink: &'a mut Waiting,
    pub oracle: &'a mut Oracle,
    pub capture: Option<&'a mut Capture>,
    pub rng: &'a mut Rng,
    /// One call in this many finds that the node's thread did not run for a while; 0: none.
    pub preempt: usize,
}

pub struct SimPorts<'a> {
    queues: &'a mut Queues,
    site: Site<'a>,
    is_secondary: bool,
    now: Ticks,
    round: Round,
    /// How often the PVM had stopped for a checkpoint at this round's quiescent point; none yet.
    fenced: Option<u64>,
    /// What the link brought as S, and how often the PVM had stopped for all that the node knew.
    heard: Vec<(Origin, u64)>,
    reserved: usize,
}

impl<'a> SimPorts<'a> {
    pub fn new(queues: &'a mut Queues, site: Site<'a>, is_secondary: bool, now: Ticks) -> Self {
        Self {
            queues,
            site,
            is_secondary,
            now,
            round: Round::default(),
            fenced: None,
            heard: Vec::new(),
            reserved: 0,
        }
    }

    /// What the round came to, who judges it, and what the link brought as S.
    pub fn end(mut self) -> (Round, &'a mut Oracle, Vec<(Origin, u64)>) {
        self.round.now = self.now;
        (self.round, self.site.oracle, self.heard)
    }

    /// The node's thread may not run for a while; QEMU, the VMs and the other node's frames go on meanwhile. A node's
    /// round must be right wherever that is.
    fn preempt(&mut self) {
        let Site {
            machine: Machine::Pvm(qemu) | Machine::Svm(qemu),
            oracle,
            rng,
            preempt: one_in @ 1..,
            ..
        } = &mut self.site
        else {
            return;
        };
        if !rng.one_in(*one_in) {
            return;
        }
        let until = self.now + rng.below(PREEMPTED as usize) as Ticks;
        while self.now < until {
            self.now += rng.between(5, 40) as Ticks;
            qemu.pvm.step(self.now);
            qemu.svm.step(self.now);
            qemu.step(oracle, self.now);
        }
    }

    /// The generation of this round's fence, which comes before mail, frames and releases (rule R3).
    fn fenced(&self) -> u64 {
        self.fenced.expect("R3: a round begins with its fence")
    }

    /// The number of frames of `n` that a port takes, often all.
    fn some(&mut self, n: usize, blocked_until: Ticks) -> usize {
        match n {
            _ if self.now < blocked_until => 0,
            0 => 0,
            _ if self.site.rng.one_in(8) => self.site.rng.below(n + 1),
            _ => n,
        }
    }

    fn receive_guest(&mut self, burst: &mut Frames, most: usize) {
        let vm = self.site.machine.vm();
        while burst.len() < most
            && vm.ring
            && let Some(bytes) = vm.guest.tx.pop_front()
        {
            let origin = match self.is_secondary {
                true => Origin::S(self.site.oracle.said(&bytes, &vm.guest)),
                false => Origin::P(self.site.oracle.taken(&bytes, &vm.guest, self.now)),
            };
            let frame = Numbered::new(&bytes, origin, &self.queues.owners);
            assert!(burst.push(frame).is_ok(), "it had room");
        }
    }

    fn receive_link(&mut self, burst: &mut Frames, most: usize) {
        while burst.len() < most
            && let Some(flight) = self.site.from_link.receive(self.now)
        {
            let frame = Numbered::new(&flight.bytes, flight.origin, &self.queues.owners);
            assert!(burst.push(frame).is_ok(), "it had room");
        }
    }

    fn receive_uplink(&mut self, burst: &mut Frames) {
        while !burst.is_full()
            && let Some(bytes) = self.site.uplink.pop_front()
        {
            let frame = Numbered::new(&bytes, Origin::Input(None), &self.queues.owners);
            assert!(burst.push(frame).is_ok(), "it had room");
        }
    }
}

impl Host for SimPorts<'_> {
    type Burst = Frames;

    fn room(&self) -> usize {
        Frames::CAPACITY - self.queues.out.len()
    }

    fn release(&mut self, release: Release<Numbered>) {
        let Origin::P(number) = release.frame.origin() else {
            panic!("what the comparator releases is a P's");
        };
        self.fenced();
        let bytes = release.frame.bytes();
        self.site.oracle.released(number, &bytes, self.now);
        assert!(self.queues.out.push(release.frame).is_ok(), "it had room");
    }

    fn pass(&mut self, frame: Numbered) {
        let bytes = frame.bytes();
        match frame.origin() {
            Origin::P(number) => self.site.oracle.released(number, &bytes, self.now),
            Origin::S(tag) => self.site.oracle.repeated(tag),
            Origin::Own => self.site.oracle.spoke(&bytes),
            Origin::Input(_) => panic!("input leaves through the uplink"),
        }
        assert!(self.queues.out.push(frame).is_ok(), "it had room");
    }

    fn flush(&mut self, epoch: u32) -> usize {
        self.preempt();
        let n = self.some(self.queues.out.len(), self.queues.uplink_blocked_until);
        for frame in self.queues.out.take(n) {
            let bytes = frame.bytes();
            if let Some(capture) = &mut self.site.capture {
                capture.frame(Place::Out, epoch, &bytes);
            }
            self.round.sent.push(bytes);
        }
        n
    }

    fn is_idle(&self) -> bool {
        self.queues.out.is_empty()
    }

    fn give_up(&mut self, _more: usize) {
        self.queues.out.clear();
    }

    fn next_mail(&mut self) -> Option<ToPoll> {
        self.preempt();
        self.fenced();
        let own = self.queues.inbox.pop_front();
        own.or_else(|| Some(ToPoll::Monitor(self.site.machine.monitor().next(self.now)?)))
    }

    fn has_mail_room(&self) -> bool {
        self.round.posted.len() < 4
    }

    fn post(&mut self, message: ToControl<Numbered>) {
        self.round.posted.push(message);
    }

    fn capture(&mut self, place: Place, epoch: u32, frames: &[Numbered]) {
        for frame in frames {
            if place == Place::S && !self.is_secondary {
                self.heard.push((frame.origin(), self.fenced()));
            }
            if let Some(capture) = &mut self.site.capture {
                capture.frame(place, epoch, &frame.bytes());
            }
        }
    }

    fn note(&mut self, note: Note) {
        if let Some(capture) = &mut self.site.capture {
            capture.note(note);
        }
    }

    fn watch(&mut self, view: impl FnOnce() -> View) {
        if let Some(capture) = &mut self.site.capture {
            capture.watch(view());
        }
    }

    fn now(&self) -> Ticks {
        self.now
    }

    fn pause(&mut self) {}
}

impl Ports for SimPorts<'_> {
    fn quiesce(&mut self) -> u64 {
        self.preempt();
        self.fenced = Some(self.site.oracle.stops);
        let vm = self.site.machine.vm();
        vm.seen = vm.stops;
        vm.stops.into()
    }

    fn receive(&mut self, port: Port, burst: &mut Frames, most: usize) -> bool {
        assert!(burst.is_empty(), "a burst is received into an empty one");
        self.preempt();
        self.fenced();
        match port {
            Port::Guest => self.receive_guest(burst, most),
            Port::Uplink => self.receive_uplink(burst),
            Port::Link => self.receive_link(burst, most),
        }
        !burst.is_empty()
    }

    fn next_session(&mut self) -> Option<Begun> {
        self.site.from_link.take_session()
    }

    fn give(&mut self, epoch: u32, input: &mut Frames) -> usize {
        self.preempt();
        let mut taken = 0;
        while taken < input.len() && self.site.machine.vm().takes_input() {
            let frame = &input[taken];
            match frame.origin() {
                Origin::Input(Some(tag)) => self.site.oracle.input_mirrored(tag, self.now),
                Origin::Input(None) => {
                    let tag = self.site.oracle.input_taken();
                    frame.set_origin(Origin::Input(Some(tag)));
                }
                other => panic!("{other:?} is given to a VM"),
            }
            let bytes = frame.bytes();
            if let Some(capture) = &mut self.site.capture {
                capture.frame(Place::In, epoch, &bytes);
            }
            self.site.machine.vm().guest.rx.push_back(bytes);
            taken += 1;
        }
        input.take(taken);
        taken
    }

    fn link_room(&self) -> usize {
        Frames::CAPACITY - self.queues.link.len()
    }

    fn push_link(&mut self, frame: Numbered) {
        assert!(self.queues.link.push(frame).is_ok(), "it had room");
    }

    fn flush_link(&mut self) -> usize {
        self.preempt();
        let n = self.some(self.queues.link.len(), self.queues.link_blocked_until);
        for frame in self.queues.link.take(n) {
            let origin = frame.origin();
            assert!(
                !matches!(origin, Origin::P(_) | Origin::Input(None)),
                "{origin:?} goes over the link"
            );
            self.site.to_link.send(frame.bytes(), origin, self.now);
        }
        n
    }

    fn count_dropped(&mut self, _port: Port, _frames: usize) {}

    fn reserve_headers(&mut self, frames: usize) -> bool {
        let there = self.now >= self.queues.short_until;
        self.reserved = if there { frames } else { 0 };
        there
    }

    fn mirror(
        &mut self,
        shares: &mut Frames,
        taken: usize,
        mut header: impl FnMut(&Numbered) -> [u8; DATA_HEADER],
    ) {
        assert!(taken <= self.reserved, "headers were set aside");
        for share in shares.take(taken) {
            let Origin::Input(Some(tag)) = share.origin() else {
                panic!("R7: what the ring has not taken is mirrored");
            };
            self.site.oracle.mirrors(tag);
            let mut bytes = header(&share).to_vec();
            bytes.extend(share.bytes());
            let frame = share.with_bytes(&bytes);
            assert!(self.queues.link.push(frame).is_ok(), "it had room");
        }
        shares.clear();
    }

    fn prepend(&self, frame: &mut Numbered, header: &[u8; DATA_HEADER]) -> bool {
        if frame.is_shared() {
            return false;
        }
        let bytes = [&header[..], &frame.bytes()].concat();
        *frame = frame.with_bytes(&bytes);
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
        let there = self.now >= self.queues.short_until;
        there.then(|| Numbered::new(bytes, Origin::Own, &self.queues.owners))
    }

    fn mark(&self, _frame: &mut Numbered, _offload: Offload) {}
}
