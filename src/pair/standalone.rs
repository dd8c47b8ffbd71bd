//! The standalone comparator's round: two ports in, one out.

use super::mail::ToPoll;
use super::output;
use super::ports::{Burst, Inputs};
use super::view::View;
use crate::frame::Ticks;
use crate::observability::capture::{Note, Place};
use crate::protect::Standalone;

/// The driver of a comparator for traffic that somebody else mirrors.
pub struct StandaloneDriver<B: Burst> {
    state: Standalone<B::Frame>,
    /// P and S of this round; empty between two rounds.
    rx: [B; 2],
}

impl<B: Burst> StandaloneDriver<B> {
    /// A comparator that is polled from now on.
    pub fn new(state: Standalone<B::Frame>) -> Self {
        Self {
            state,
            rx: [B::default(), B::default()],
        }
    }

    /// The state machine, for its figures.
    pub fn state(&self) -> &Standalone<B::Frame> {
        &self.state
    }

    /// One round; true if it found work.
    pub fn round<P: Inputs<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        self.mail(ports, now);
        self.watch(ports);
        let mut busy = ports.flush(self.state.epoch()) > 0;
        busy |= self.inputs(ports, now);
        self.state.comparison_mut().exchange(now);
        busy |= self.release(ports);
        output::ask(ports, || self.state.next_request(now));
        busy
    }

    fn mail<P: Inputs<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        while let Some(message) = ports.next_mail() {
            match message {
                ToPoll::Monitor(event) => {
                    ports.note(Note::Monitor(event));
                    self.state.monitor(event, now);
                    self.watch(ports);
                }
                ToPoll::Timeout(timeout) => self.state.set_timeout(timeout),
                // A comparator has no peer.
                _ => {}
            }
        }
    }

    /// Reports to a capture what has changed.
    fn watch<P: Inputs<Burst = B>>(&self, ports: &mut P) {
        let state = &self.state;
        ports.watch(|| View {
            // Its epochs begin with commits and with nothing else.
            committed: Some(state.epoch()),
            discarded: state.comparison().discarded(),
            ..View::plain(state.state(), state.epoch())
        });
    }

    fn inputs<P: Inputs<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        let [primary, secondary] = &mut self.rx;
        let [most_p, most_s] = self.state.comparison_mut().take_budget();
        let mut any = false;
        if self.state.comparison_mut().wants_secondary() {
            any |= ports.receive_secondary(secondary, most_s);
        }
        if self.state.wants_primary() {
            any |= ports.receive_primary(primary, most_p);
        }
        if !primary.is_empty() || !secondary.is_empty() {
            let epoch = self.state.epoch();
            ports.capture(Place::S, epoch, secondary);
            ports.capture(Place::P, epoch, primary);
            self.state
                .ingest(&mut primary.drain(), &mut secondary.drain(), now);
        }
        any
    }

    fn release<P: Inputs<Burst = B>>(&mut self, ports: &mut P) -> bool {
        output::release(ports, self.state.epoch(), || self.state.next_release())
    }

    /// What is due every now and then; to be called at least every tenth of a millisecond.
    pub fn tick<P: Inputs<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        self.state.tick(now);
        let epoch = self.state.epoch();
        output::record(ports, epoch, self.state.comparison_mut());
        output::ask(ports, || self.state.next_request(now));
    }

    /// Sends what is free to leave, as far as the port takes it in a bounded number of tries.
    pub fn finish<P: Inputs<Burst = B>>(&mut self, ports: &mut P) {
        output::finish(
            self,
            ports,
            |driver| driver.state.comparison_mut(),
            |driver, ports| {
                driver.release(ports);
            },
            |driver| driver.state.next_release(),
        );
    }
}
