//! A node that begins as the secondary and goes on as a primary when its VM has been told to.
//!
//! Everything that the primary needs is there from the beginning: a takeover moves what exists and
//! allocates nothing.

use super::primary::PrimaryNode;
use super::secondary::{Heir, SecondaryNode};
use crate::frame::Ticks;
use crate::monitor::counters::Writer;
use crate::monitor::latency::Recorder;

/// What the node is now.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each pair, and a box would be allocated on a poll core"
)]
enum Half {
    Secondary(SecondaryNode, Option<Heir>),
    Primary(PrimaryNode),
}

/// A secondary pair on its poll core, whatever becomes of it.
pub struct Survivor {
    /// Always there but for the moment in which one half becomes the other.
    half: Option<Half>,
}

impl Survivor {
    /// A secondary that can go on as `heir`, or, without an uplink, as nothing.
    pub fn new(secondary: SecondaryNode, heir: Option<Heir>) -> Self {
        Self {
            half: Some(Half::Secondary(secondary, heir)),
        }
    }

    fn half(&mut self) -> &mut Half {
        self.half.as_mut().expect("one half is there")
    }

    /// One round; true if it found work.
    pub fn poll(&mut self, now: Ticks) -> bool {
        match self.half() {
            Half::Secondary(secondary, heir) => {
                let busy = secondary.poll(now);
                if let Some(heir) = heir {
                    if secondary.takes_over() {
                        self.take_over(now);
                    } else if secondary.is_chosen() {
                        secondary.announce(&mut heir.uplink, now);
                    } else {
                        secondary.overhear(&mut heir.uplink, now);
                    }
                }
                busy
            }
            Half::Primary(primary) => {
                let busy = primary.poll(now);
                primary.ask(now);
                busy
            }
        }
    }

    fn take_over(&mut self, now: Ticks) {
        self.half = match self.half.take() {
            Some(Half::Secondary(secondary, Some(heir))) => {
                Some(Half::Primary(secondary.take_over(heir, now)))
            }
            other => other,
        };
    }

    /// What is due every now and then.
    pub fn tick(&mut self, now: Ticks) {
        match self.half() {
            Half::Secondary(secondary, _) => secondary.tick(now),
            Half::Primary(primary) => primary.tick(now),
        }
    }

    /// Makes the counters readable for others.
    pub fn publish(&mut self) {
        match self.half() {
            Half::Secondary(secondary, heir) => {
                secondary.publish(heir.as_ref().map(|heir| &heir.uplink));
            }
            Half::Primary(primary) => primary.publish(),
        }
    }

    /// Sends what is free to leave.
    pub fn finish(&mut self) {
        match self.half() {
            Half::Secondary(secondary, _) => secondary.finish(),
            Half::Primary(primary) => primary.finish(),
        }
    }

    /// The histograms, at the end.
    pub fn into_recorder(self) -> Recorder {
        match self.half.expect("one half is there") {
            Half::Secondary(secondary, _) => secondary.into_recorder(),
            Half::Primary(primary) => primary.into_recorder(),
        }
    }

    /// The counters' writer, for the poll loop's own.
    pub fn writer(&self) -> &Writer {
        match self.half.as_ref().expect("one half is there") {
            Half::Secondary(secondary, _) => secondary.writer(),
            Half::Primary(primary) => primary.writer(),
        }
    }
}
