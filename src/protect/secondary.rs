//! The secondary node's half: mirrored input waits for an SVM that runs its epoch, and what the SVM
//! sends leaves for the primary with the PVM's numbers and the SVM's epoch.
//!
//! The primary tells of an epoch when it is committed, and from then on the SVM's frames bear its
//! number. From the SVM's stop until then it is not polled, so that none of its frames has an
//! unknown epoch. A number that comes late finds an SVM that runs a later epoch or waits for one:
//! the primary drops what bears it. A number may lag behind the SVM's state, but never runs ahead.

use std::collections::VecDeque;

use super::{Setup, State};
use crate::frame::{Frame, Ticks};
use crate::link::{DATA_HEADER, Endpoint, Event, Message, Received, Transmit};
use crate::packet::Packet;
use crate::packet::serial::before;
use crate::rewrite::{self, Learned, Outcome, Rewriter};

struct Mirrored<F> {
    frame: F,
    epoch: u32,
    after: u32,
}

/// What the secondary has counted besides its link and rewriter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Input frames given to the SVM's ring.
    pub delivered: u64,
    /// Input frames of an epoch that is over, dropped.
    pub stale: u64,
    /// Input frames dropped because there was no room, which the peer's grant should prevent.
    pub overflow: u64,
    /// Output frames of the SVM passed on.
    pub output: u64,
    /// Frames that could not be translated, dropped.
    pub untranslated: u64,
    /// Epochs that the SVM was bound to.
    pub epochs: u64,
}

/// A frame for the link: the bytes to put in front, and the frame.
pub struct Outgoing<F> {
    /// Ethernet and link header.
    pub header: [u8; DATA_HEADER],
    /// What the SVM sent, with the PVM's numbers.
    pub frame: F,
}

/// The secondary node of one VM pair.
pub struct Secondary<F> {
    link: Endpoint,
    rewriter: Rewriter,
    /// The SVM's ring runs.
    started: bool,
    /// The SVM may have loaded a state whose epoch was not told yet.
    awaits_epoch: bool,
    /// The last epoch that was told.
    bound: Option<u32>,
    stops: u32,
    input: VecDeque<Mirrored<F>>,
    input_limit: usize,
    counts: Counts,
}

impl<F: Frame> Secondary<F> {
    /// A node whose VM does not run yet.
    pub fn new(setup: Setup, now: Ticks) -> Self {
        let limits = rewrite::Limits {
            connections: setup.connections,
            linger: setup.limits.idle,
            idle: setup.limits.idle * 8,
        };
        // The window counts frames that were granted; heartbeats in between may let a few more come.
        let input_limit = setup.window as usize * 2;
        Self {
            link: Endpoint::new(
                setup.vm,
                setup.boot,
                setup.link_mac,
                setup.window,
                setup.link,
                now,
            ),
            rewriter: Rewriter::new(limits, u64::from(setup.boot)),
            started: false,
            awaits_epoch: true,
            bound: None,
            stops: 0,
            input: VecDeque::with_capacity(input_limit),
            input_limit,
            counts: Counts::default(),
        }
    }

    /// The word for what the node does now.
    pub fn state(&self) -> State {
        match (self.started, self.bound) {
            _ if self.runs() => State::Protected,
            (false, None) if self.link.has_session() => State::Pairing,
            (false, None) => State::Solo,
            _ => State::Checkpointing,
        }
    }

    /// The SVM runs the bound epoch, as far as is known.
    fn runs(&self) -> bool {
        self.started && !self.awaits_epoch && self.bound.is_some()
    }

    /// The epoch that the SVM runs, or ran last; 0 before the first.
    pub fn epoch(&self) -> u32 {
        self.bound.unwrap_or(0)
    }

    /// The link's end, for its counters.
    pub fn link(&self) -> &Endpoint {
        &self.link
    }

    /// The rewriter, for its counters.
    pub fn rewriter(&self) -> &Rewriter {
        &self.rewriter
    }

    /// The counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Input frames that wait.
    pub fn frames(&self) -> usize {
        self.input.len()
    }

    /// Takes in a frame from the link; gives back the epoch, the payload's length and the control
    /// messages it follows if it carries input, which the caller strips and passes to
    /// [`Secondary::input`].
    pub fn link_frame(
        &mut self,
        head: &[u8],
        frame_len: usize,
        now: Ticks,
    ) -> Option<(u32, usize, u32)> {
        let received = self.link.receive(head, frame_len, now);
        while let Some(event) = self.link.next_event() {
            self.link_event(event, now);
        }
        match received {
            Received::Data {
                epoch,
                length,
                after,
            } => Some((epoch, length as usize, after)),
            Received::Consumed | Received::Ignored => None,
        }
    }

    /// Takes in a mirrored input frame.
    pub fn input(&mut self, frame: F, epoch: u32, after: u32) {
        if self.input.len() == self.input_limit {
            self.counts.overflow += 1;
            self.report_loss(1);
            return;
        }
        self.input.push_back(Mirrored {
            frame,
            epoch,
            after,
        });
        self.link.set_backlog(self.input.len());
    }

    /// The next input frame for the SVM's ring, translated.
    pub fn next_input(&mut self, now: Ticks) -> Option<F> {
        loop {
            let first = self.input.front()?;
            let bound = self.bound?;
            if before(first.epoch, bound) {
                self.input.pop_front();
                self.link.set_backlog(self.input.len());
                self.counts.stale += 1;
                continue;
            }
            if first.epoch != bound || !self.runs() || !self.link.has_received(first.after) {
                return None;
            }
            let mut frame = self.input.pop_front()?.frame;
            self.link.set_backlog(self.input.len());
            let packet = Packet::parse(frame.head(), frame.len());
            if self.rewriter.to_guest(&mut frame, &packet, now) == Outcome::Shared {
                self.counts.untranslated += 1;
                self.report_loss(1);
                continue;
            }
            self.counts.delivered += 1;
            return Some(frame);
        }
    }

    /// Input frames that [`Secondary::next_input`] gave out did not reach the SVM's ring.
    pub fn input_lost(&mut self, frames: usize) {
        self.counts.delivered = self.counts.delivered.saturating_sub(frames as u64);
        self.report_loss(frames as u32);
    }

    /// Whether the SVM's ring may be polled.
    pub fn wants_output(&self) -> bool {
        self.runs()
    }

    /// Takes in a frame that the SVM sent; gives it back for the link. The caller has seen
    /// [`Secondary::wants_output`].
    pub fn output(&mut self, mut frame: F, now: Ticks) -> Option<Outgoing<F>> {
        let epoch = self.bound?;
        let packet = Packet::parse(frame.head(), frame.len());
        if self.rewriter.from_guest(&mut frame, &packet, now) == Outcome::Shared {
            // The primary misses it and asks for a checkpoint.
            self.counts.untranslated += 1;
            return None;
        }
        self.counts.output += 1;
        let header = self.link.data_header(epoch, frame.len() as u32, now);
        Some(Outgoing { header, frame })
    }

    /// The SVM's ring has stopped.
    pub fn guest_stopped(&mut self) {
        self.stops = self.stops.wrapping_add(1);
        self.started = false;
        self.awaits_epoch = true;
    }

    /// The SVM's ring has started again after so many stops; `loaded` says that the SVM has loaded
    /// the PVM's state in between, which a reset of its driver does not do. Without knowledge
    /// either answer is safe: each leads to another checkpoint if it was wrong.
    pub fn guest_started(&mut self, stops: u32, loaded: bool) {
        if stops != self.stops {
            return;
        }
        self.started = true;
        self.awaits_epoch &= loaded;
    }

    fn link_event(&mut self, event: Event, now: Ticks) {
        match event {
            Event::Session => {
                self.bound = None;
                self.awaits_epoch = true;
                self.input.clear();
            }
            Event::Lost(frames) => self.report_loss(frames),
            Event::Message(Message::Epoch(epoch)) => self.bind(epoch),
            Event::Message(Message::Synchronized {
                epoch,
                flow,
                pvm,
                svm,
            }) => {
                if self.bound == Some(epoch)
                    && let Learned::Evicted(_) = self.rewriter.learn(flow, pvm, svm, now)
                {
                    self.report_loss(1);
                }
            }
            Event::Message(_) => {}
        }
    }

    /// The SVM has loaded the state with which this epoch began, and perhaps a later one since.
    fn bind(&mut self, epoch: u32) {
        if self.runs() {
            // It did so under the number before, which came so late that the next load was over: it
            // may have got input twice, and what it said was void.
            self.report_loss(1);
        }
        self.bound = Some(epoch);
        self.awaits_epoch = false;
        self.counts.epochs += 1;
        self.rewriter.svm_loaded();
        // The primary does not wait for this; a full queue means that it hears nothing anyway.
        let _ = self.link.send(Message::Bound(epoch));
    }

    fn report_loss(&mut self, frames: u32) {
        // A full queue holds such a report already, or nothing that the peer would hear.
        let _ = self.link.send(Message::InputLost(frames));
    }

    /// What depends on time alone.
    pub fn tick(&mut self, now: Ticks) {
        self.rewriter.age(now);
    }

    /// The next frame of the link's own.
    pub fn next_transmit(&mut self, now: Ticks) -> Option<Transmit> {
        self.link.next_transmit(now)
    }
}
