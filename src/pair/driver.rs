//! A node with a VM, whatever its role is now.
//!
//! Everything that a primary needs is there from the beginning: a takeover moves what exists and allocates nothing.

use super::ports::{Burst, Ports};
use super::primary::PrimaryDriver;
use super::secondary::SecondaryDriver;
use super::state::Counts;
use crate::frame::Ticks;

#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each pair, and a box would be allocated on a poll core"
)]
enum Role<B: Burst> {
    Primary(PrimaryDriver<B>),
    Secondary(SecondaryDriver<B>),
}

/// The driver of a node that begins in one role, and may begin as the secondary and go on as a primary.
pub struct PairDriver<B: Burst> {
    /// Always there but for the moment in which one role becomes the other.
    role: Option<Role<B>>,
}

impl<B: Burst> From<PrimaryDriver<B>> for PairDriver<B> {
    fn from(primary: PrimaryDriver<B>) -> Self {
        Self {
            role: Some(Role::Primary(primary)),
        }
    }
}

impl<B: Burst> From<SecondaryDriver<B>> for PairDriver<B> {
    fn from(secondary: SecondaryDriver<B>) -> Self {
        Self {
            role: Some(Role::Secondary(secondary)),
        }
    }
}

impl<B: Burst> PairDriver<B> {
    fn role(&self) -> &Role<B> {
        self.role.as_ref().expect("one role is there")
    }

    fn role_mut(&mut self) -> &mut Role<B> {
        self.role.as_mut().expect("one role is there")
    }

    /// The driver, while this node's VM speaks.
    pub fn primary(&self) -> Option<&PrimaryDriver<B>> {
        match self.role() {
            Role::Primary(primary) => Some(primary),
            Role::Secondary(_) => None,
        }
    }

    /// The driver, while this node's VM follows another.
    pub fn secondary(&self) -> Option<&SecondaryDriver<B>> {
        match self.role() {
            Role::Primary(_) => None,
            Role::Secondary(secondary) => Some(secondary),
        }
    }

    /// The drivers' own counters.
    pub fn counts(&self) -> Counts {
        match self.role() {
            Role::Primary(primary) => primary.counts(),
            Role::Secondary(secondary) => secondary.counts(),
        }
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        match self.role() {
            Role::Primary(primary) => primary.frames(),
            Role::Secondary(secondary) => secondary.frames(),
        }
    }

    /// One round; true if it found work.
    pub fn round<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) -> bool {
        match self.role_mut() {
            Role::Primary(primary) => primary.round(ports, now),
            Role::Secondary(secondary) => {
                let busy = secondary.round(ports, now);
                if secondary.takes_over() {
                    self.take_over(ports, now);
                }
                busy
            }
        }
    }

    #[cold]
    fn take_over<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        self.role = match self.role.take() {
            Some(Role::Secondary(mut secondary)) => Some(match secondary.take_standby() {
                Some(standby) => Role::Primary(secondary.take_over(standby, ports, now)),
                None => Role::Secondary(secondary),
            }),
            other => other,
        };
    }

    /// What is due every now and then; to be called at least every tenth of a millisecond.
    pub fn tick<P: Ports<Burst = B>>(&mut self, ports: &mut P, now: Ticks) {
        match self.role_mut() {
            Role::Primary(primary) => primary.tick(ports, now),
            Role::Secondary(secondary) => secondary.tick(ports, now),
        }
    }

    /// Somebody on the link says that it is the peer and cannot prove it.
    pub fn hear_foreigner(&mut self, now: Ticks) {
        let link = match self.role_mut() {
            Role::Primary(primary) => primary.peer_link(),
            Role::Secondary(secondary) => secondary.peer_link(),
        };
        link.hear_foreigner(now);
    }

    /// Sends what is free to leave when the node ends.
    pub fn finish<P: Ports<Burst = B>>(&mut self, ports: &mut P) {
        if let Role::Primary(primary) = self.role_mut() {
            primary.finish(ports);
        }
    }
}
