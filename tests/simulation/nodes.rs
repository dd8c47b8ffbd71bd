//! The two nodes' poll loops: what `node` does with ports, done with queues.

use std::collections::VecDeque;

use dpdk_colo::frame::{Frame, Ticks};
use dpdk_colo::link::DATA_HEADER;
use dpdk_colo::protect::{LastSegment, Monitor, Primary, Secondary, Setup, State};
use dpdk_colo_audit::record::Place;

use crate::frame::{Numbered, Owners};
use crate::guest::Vm;
use crate::link::Channel;
use crate::log::Capture;
use crate::oracle::Oracle;

const BURST: usize = 32;
/// Time between two looks at what depends on time alone.
pub const TICK: Ticks = 50;

pub struct PrimaryNode {
    pub state: Primary<Numbered>,
    /// Stops of the guest's ring that happened, and that the node has seen.
    pub stops: u32,
    pub seen: u32,
    input: VecDeque<Vec<u8>>,
    out: VecDeque<Numbered>,
    /// What the VM sent last before the takeover.
    again: VecDeque<Numbered>,
    pub uplink_blocked_until: Ticks,
    next_tick: Ticks,
    owners: Owners,
}

/// What a round of the primary node touches.
pub struct PrimaryPorts<'a> {
    pub vm: &'a mut Vm,
    pub from_link: &'a mut Channel,
    pub to_link: &'a mut Channel,
    /// Frames that the network brought.
    pub uplink: &'a mut VecDeque<Vec<u8>>,
    pub mail: &'a mut dyn FnMut() -> Option<Monitor>,
    pub oracle: &'a mut Oracle,
    pub capture: &'a mut Capture,
}

impl PrimaryNode {
    pub fn new(setup: Setup, owners: Owners, now: Ticks) -> Self {
        Self {
            state: Primary::new(setup, now),
            stops: 0,
            seen: 0,
            input: VecDeque::new(),
            out: VecDeque::new(),
            again: VecDeque::new(),
            uplink_blocked_until: 0,
            next_tick: 0,
            owners,
        }
    }

    /// Frames in the node.
    pub fn frames(&self) -> usize {
        self.state.frames() + self.out.len() + self.again.len()
    }

    /// One round; gives back what left the uplink.
    pub fn poll(&mut self, ports: &mut PrimaryPorts, now: Ticks) -> Vec<Vec<u8>> {
        // Time alone may have been a commit.
        ports.capture.watch(&self.state, now);
        while self.seen != self.stops {
            self.seen += 1;
            self.state.guest_stopped();
            ports.capture.fence(self.state.epoch());
        }
        while let Some(event) = (ports.mail)() {
            ports.capture.monitor(event);
            self.state.monitor(event, now);
            ports.capture.watch(&self.state, now);
        }
        let mut sent = Vec::new();
        self.send_waiting(ports, &mut sent, now);
        self.hear_link(ports, now);
        for frame in self.again.drain(..) {
            let (place, epoch) = (Place::P, self.state.epoch());
            ports.capture.frame(place, epoch, &frame.bytes());
            self.out.push_back(frame);
        }
        if self.state.wants_output() && self.out.is_empty() {
            for _ in 0..BURST {
                let Some(bytes) = ports
                    .vm
                    .ring
                    .then(|| ports.vm.guest.tx.pop_front())
                    .flatten()
                else {
                    break;
                };
                let number = ports.oracle.taken(&bytes, &ports.vm.guest, now);
                let frame = Numbered::new(&bytes, number, &self.owners);
                let frame = self.state.outward(frame, now).expect("it has one owner");
                ports
                    .capture
                    .frame(Place::P, self.state.epoch(), &frame.bytes());
                if let Some(frame) = self.state.output(frame, now) {
                    ports.oracle.released(frame.number, &frame.bytes(), now);
                    self.out.push_back(frame);
                }
            }
        }
        while self.out.len() < BURST {
            let Some(release) = self.state.next_release() else {
                break;
            };
            ports
                .oracle
                .released(release.frame.number, &release.frame.bytes(), now);
            self.out.push_back(release.frame);
        }
        while let Some(frame) = self.state.next_announcement(now) {
            sent.push(frame.bytes().to_vec());
        }
        self.send_waiting(ports, &mut sent, now);
        self.take_input(ports, now);
        while let Some(transmit) = self.state.next_transmit(now) {
            ports.to_link.send(transmit.bytes().to_vec(), None, now);
        }
        ports.capture.watch(&self.state, now);
        sent
    }

    fn send_waiting(&mut self, ports: &mut PrimaryPorts, sent: &mut Vec<Vec<u8>>, now: Ticks) {
        if self.state.is_superseded() {
            self.out.clear();
        }
        if now >= self.uplink_blocked_until {
            for frame in self.out.drain(..) {
                let bytes = frame.bytes();
                ports.capture.frame(Place::Out, self.state.epoch(), &bytes);
                sent.push(bytes);
            }
        }
    }

    fn hear_link(&mut self, ports: &mut PrimaryPorts, now: Ticks) {
        for _ in 0..BURST {
            let Some(flight) = ports.from_link.receive(now) else {
                break;
            };
            let Some((epoch, length)) =
                self.state
                    .link_frame(&flight.bytes, flight.bytes.len(), now)
            else {
                // A report of a load, one to a frame, is noted by itself, and so is a commit by it.
                ports.capture.watch(&self.state, now);
                continue;
            };
            let tag = flight.tag.expect("data has a tag");
            let payload = &flight.bytes[DATA_HEADER..DATA_HEADER + length];
            let stale = self.state.counts().stale;
            let frame = Numbered::new(payload, u64::MAX, &self.owners);
            let frame = self.state.outward(frame, now).expect("it has one owner");
            ports.capture.frame(Place::S, epoch, &frame.bytes());
            self.state.svm_output(frame, epoch, now);
            if self.state.counts().stale == stale {
                ports.oracle.compared(tag);
            }
        }
    }

    fn take_input(&mut self, ports: &mut PrimaryPorts, now: Ticks) {
        if self.state.input_room(now) < BURST {
            return;
        }
        if self.input.is_empty() {
            let n = ports.uplink.len().min(BURST);
            for bytes in ports.uplink.drain(..n) {
                let mut frame = Numbered::new(&bytes, 0, &self.owners);
                assert!(self.state.input(&mut frame, now));
                self.input.push_back(frame.bytes());
            }
        }
        let mirrors = self.state.mirrors(now);
        let mut unmirrored = 0;
        while ports.vm.takes_input() {
            let Some(bytes) = self.input.pop_front() else {
                break;
            };
            let tag = ports.oracle.input_taken(mirrors, now);
            if mirrors {
                let taken = Numbered::new(&bytes, 0, &self.owners);
                self.state.mirrored(&taken, now);
                let mut frame = self.state.mirror(bytes.len(), now).to_vec();
                frame.extend(&bytes);
                ports.to_link.send(frame, Some(tag), now);
            } else {
                unmirrored += 1;
            }
            ports.vm.guest.rx.push_back(bytes);
        }
        if !mirrors {
            self.state.input_missed(unmirrored, now);
        }
    }

    /// A secondary that has taken over.
    pub fn heir(setup: Setup, secondary: SecondaryNode, oracle: &Oracle, now: Ticks) -> Self {
        let mut node = Self::new(setup, secondary.owners.clone(), now);
        (node.stops, node.seen) = (secondary.stops, secondary.seen);
        node.state.inherit(secondary.state.into_inheritance(), now);
        while let Some(LastSegment { frame, counts, .. }) = node.state.next_last() {
            if !counts {
                continue;
            }
            oracle.repeated(frame.number);
            let own = Numbered::new(&frame.bytes(), frame.number, &node.owners);
            let again = node.state.outward_again(own).expect("it has one owner");
            node.again.push_back(again);
        }
        node
    }

    /// Whether input waits for the guest.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// What is due every now and then; true when a request is to be written.
    pub fn tick(&mut self, now: Ticks) -> bool {
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.state.tick(now);
            drop(self.state.next_record());
        }
        self.state.next_request(now).is_some()
    }

    pub fn is_protecting(&self) -> bool {
        matches!(self.state.state(), State::Protected | State::Uncertain)
    }
}

pub struct SecondaryNode {
    pub state: Secondary<Numbered>,
    pub stops: u32,
    pub seen: u32,
    input: VecDeque<Numbered>,
    owners: Owners,
}

/// What a round of the secondary node touches.
pub struct SecondaryPorts<'a> {
    pub vm: &'a mut Vm,
    pub from_link: &'a mut Channel,
    pub to_link: &'a mut Channel,
    pub mail: &'a mut dyn FnMut() -> Option<Monitor>,
    pub oracle: &'a mut Oracle,
}

impl SecondaryNode {
    pub fn new(setup: Setup, owners: Owners, now: Ticks) -> Self {
        Self {
            state: Secondary::new(setup, now),
            stops: 0,
            seen: 0,
            input: VecDeque::new(),
            owners,
        }
    }

    /// Frames in the node.
    pub fn frames(&self) -> usize {
        self.state.frames() + self.input.len()
    }

    pub fn poll(&mut self, ports: &mut SecondaryPorts, now: Ticks) {
        while self.seen != self.stops {
            self.seen += 1;
            self.state.guest_stopped(self.input.len());
            self.input.clear();
        }
        while let Some(event) = (ports.mail)() {
            self.state.monitor(event);
        }
        if self.state.takes_over() {
            return;
        }
        for _ in 0..BURST {
            let Some(flight) = ports.from_link.receive(now) else {
                break;
            };
            let Some((epoch, length, after)) =
                self.state
                    .link_frame(&flight.bytes, flight.bytes.len(), now)
            else {
                continue;
            };
            let payload = &flight.bytes[DATA_HEADER..DATA_HEADER + length];
            let tag = flight.tag.expect("data has a tag");
            let frame = Numbered::new(payload, tag, &self.owners);
            self.state.input(frame, epoch, after);
        }
        while self.input.len() < BURST {
            let Some(frame) = self.state.next_input(now) else {
                break;
            };
            self.input.push_back(frame);
        }
        while ports.vm.takes_input() {
            let Some(frame) = self.input.pop_front() else {
                break;
            };
            ports.oracle.input_mirrored(frame.number, now);
            ports.vm.guest.rx.push_back(frame.bytes());
        }
        if self.state.wants_output() && self.state.link().room() >= BURST {
            for _ in 0..BURST {
                let Some(bytes) = ports
                    .vm
                    .ring
                    .then(|| ports.vm.guest.tx.pop_front())
                    .flatten()
                else {
                    break;
                };
                let tag = ports.oracle.said(&bytes, &ports.vm.guest);
                let frame = Numbered::new(&bytes, tag, &self.owners);
                let Some(outgoing) = self.state.output(frame, now) else {
                    continue;
                };
                if let Some(last) = outgoing.last {
                    self.state.keep(last, outgoing.frame.share());
                }
                let mut frame = outgoing.header.to_vec();
                for segment in outgoing.frame.segments() {
                    frame.extend(segment);
                }
                ports.to_link.send(frame, Some(tag), now);
            }
        }
        while let Some(transmit) = self.state.next_transmit(now) {
            ports.to_link.send(transmit.bytes().to_vec(), None, now);
        }
        self.state.tick(now);
    }
}
