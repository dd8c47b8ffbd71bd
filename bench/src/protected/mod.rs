//! A protected primary on one core: its own driver over queues, so that instructions count what a node does for a
//! frame besides its ports.
//!
//! Each round finds a burst: P in the guest's ring and their counterparts on the link, or input of the network. What
//! the peer says is made by the link's own end before the round, and what the node says is taken in after it.

mod frame;
mod ports;

use dpdk_colo::frame::BURST;
use dpdk_colo::link::{DATA_HEADER, Endpoint, Message};
use dpdk_colo::pair::untimed::{self, Room};
use dpdk_colo::pair::{PrimaryDriver, ToPoll};
use dpdk_colo::protect::{Primary, QemuEvent, State};
use dpdk_colo::{Frame, Ticks};

use crate::engine::pool::Pool;
use crate::engine::{Case, Template, shuffled};
use frame::{Burst, Stripped};
use ports::Queues;

/// A daemon's frames held and frames kept as history, by default.
const HOLD: usize = 16_384;
const HISTORY: usize = HOLD / 16;
/// Rounds in which the nodes greet each other and the epoch is announced.
const GREETINGS: usize = 16;

/// What a round finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// P in the guest's ring, and the S that are equal on the link.
    Pairs,
    /// Input, which the guest's ring takes and the link mirrors.
    Input,
}

impl Traffic {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pairs, Self::Input];

    /// What a case's name has behind that of the frames.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pair",
            Self::Input => "input",
        }
    }

    /// The function in which its instructions are counted, as callgrind names it.
    pub const MEASURED: &'static str = "*protected::measured*";
}

/// A primary under load.
pub struct Protected {
    driver: PrimaryDriver<Burst>,
    ports: Queues,
    /// The link's end at the peer.
    peer: Endpoint,
    traffic: Traffic,
    template: Template,
    /// P, or input.
    primary: Pool,
    /// Frames of the link, with its header.
    secondary: Pool,
    order: Vec<u32>,
    next: usize,
    offset: u32,
    advance: u32,
    now: Ticks,
}

impl Protected {
    /// A primary that compares, has seen every flow once and keeps as much history as it may.
    ///
    /// # Panics
    /// When nothing is protected.
    pub fn new(case: &Case, traffic: Traffic) -> Self {
        let template = Template::new(case, case.payload);
        let on_the_link = [&[0; DATA_HEADER], template.bytes()].concat();
        let room = Room {
            frames: HOLD,
            history: HISTORY,
            flows: case.flows,
        };
        let primary = Primary::new(untimed::setup(room), 0);
        let mut protected = Self {
            driver: PrimaryDriver::new(primary, 0, untimed::TIMES),
            ports: Queues::default(),
            peer: untimed::peer(),
            traffic,
            primary: Pool::new(2 * BURST, template.bytes()),
            secondary: Pool::new(2 * BURST + HISTORY, &on_the_link),
            template,
            order: shuffled(case.flows),
            next: 0,
            offset: 0,
            advance: case.payload as u32,
            now: 1,
        };
        protected.begin();
        for _ in 0..case.flows.max(2 * HISTORY).div_ceil(BURST) {
            protected.prepare();
            round(&mut protected);
            protected.check();
        }
        protected
    }

    /// Lets the VM enter COLO and both nodes hear of it.
    fn begin(&mut self) {
        self.tell(&untimed::connects());
        self.ports.stops += 1;
        let sent = self.peer.send(Message::Witnesses(true));
        assert!(sent.is_ok(), "the first message has room");
        self.tell(&untimed::enters_colo());
        assert_eq!(self.driver.state().state(), State::Protected);
    }

    fn tell(&mut self, events: &[QemuEvent]) {
        let mail = events.iter().map(|event| ToPoll::Monitor(*event));
        self.ports.mail.extend(mail);
        for _ in 0..GREETINGS {
            self.exchange();
            round(self);
        }
        self.exchange();
    }

    /// Takes in what the node has said, and lets the peer answer.
    fn exchange(&mut self) {
        self.now += 1;
        for (header, frame) in self.ports.to_link.drain(..) {
            self.peer
                .receive(&header, DATA_HEADER + frame.len(), self.now);
        }
        for bytes in self.ports.own.drain(..) {
            self.peer.receive(&bytes, bytes.len(), self.now);
        }
        while self.peer.next_event().is_some() {}
        while let Some(transmit) = self.peer.next_transmit(self.now) {
            let frame = Stripped::copy(transmit.bytes());
            self.ports.from_link.push(frame);
        }
    }

    /// Makes what the next round finds.
    fn prepare(&mut self) {
        self.exchange();
        let epoch = self.driver.state().epoch();
        for _ in 0..BURST {
            let (flow, offset) = (self.order[self.next] as usize, self.offset);
            let template = &self.template;
            let frame = self
                .primary
                .take(|bytes| template.write(bytes, flow, offset));
            match self.traffic {
                Traffic::Input => self.ports.uplink.push(frame.into()),
                Traffic::Pairs => {
                    self.ports.guest.push(frame.into());
                    let length = template.bytes().len() as u32;
                    let header = self.peer.data_header(epoch, length);
                    let frame = self.secondary.take(|bytes| {
                        let (front, frame) = bytes.split_at_mut(DATA_HEADER);
                        front.copy_from_slice(&header);
                        template.write(frame, flow, offset);
                    });
                    self.ports.from_link.push(frame.into());
                }
            }
            self.next += 1;
            if self.next == self.order.len() {
                self.next = 0;
                self.offset = self.offset.wrapping_add(self.advance);
            }
        }
    }

    fn check(&mut self) {
        let (left, taken) = (self.ports.sent.len(), self.ports.given.len());
        match self.traffic {
            Traffic::Pairs => assert_eq!((left, taken), (BURST, 0), "released"),
            Traffic::Input => {
                assert_eq!((left, taken), (0, BURST), "given to the guest");
                assert_eq!(self.ports.to_link.len(), BURST, "mirrored");
            }
        }
        assert_eq!(self.driver.state().held(), 0, "held");
        assert!(self.ports.is_drained(), "all was taken");
        self.ports.sent.clear();
        self.ports.given.clear();
    }

    /// Takes this many pairs or input frames, rounded up to a burst, where callgrind counts them.
    ///
    /// # Panics
    /// When a P was not released, or input not mirrored.
    pub fn count(&mut self, frames: usize) {
        for _ in 0..frames.div_ceil(BURST) {
            self.prepare();
            measured(self);
            self.check();
        }
    }
}

/// The part that counts; callgrind knows it by its name.
#[inline(never)]
fn measured(protected: &mut Protected) {
    round(protected);
}

#[inline(never)]
fn round(protected: &mut Protected) {
    let Protected {
        driver, ports, now, ..
    } = protected;
    driver.round(ports, *now);
}
