//! What the SVM has sent and got, as far as a takeover needs it.
//!
//! In: frames of both directions, the ISNs of connections that open, loads. Out: the same frames translated. The offsets,
//! the last segment of each connection and the VM's addresses go to the primary that this node becomes (`takeover.rs`).

use std::hash::{BuildHasher, RandomState};

use super::Setup;
use super::announce::Announcer;
use super::retransmit_cache::RetransmitCache;
use crate::flow::FlowKey;
use crate::frame::{Frame, Ticks};
use crate::packet::{Isn, Kind, Packet, TcpFlags};
use crate::rewrite::{self, Learned, Outcome, Rewriter};

/// A connection and the kind of its last segment.
#[derive(Clone, Copy, Debug)]
pub struct Last {
    flow: FlowKey,
    /// It takes no place in the stream.
    bare: bool,
    /// It opens the connection.
    opens: bool,
}

/// The traffic of one SVM.
pub(super) struct SvmTraffic<F> {
    /// The offsets of its connections.
    pub rewriter: Rewriter,
    /// What it sent last on each.
    pub last: RetransmitCache<F>,
    /// Its addresses.
    pub announcer: Announcer,
}

/// A seed that no client and no peer knows: its keys come from the operating system.
fn hash_seed() -> u64 {
    RandomState::new().hash_one(())
}

impl<F: Frame> SvmTraffic<F> {
    /// Of a VM that has sent nothing yet.
    pub(crate) fn new(setup: &Setup) -> Self {
        let limits = rewrite::Limits {
            connections: setup.connections,
            linger: setup.limits.idle,
            half_open: setup.limits.half_open,
        };
        Self {
            rewriter: Rewriter::new(limits, hash_seed()),
            last: RetransmitCache::new(setup.last_segments, hash_seed()),
            announcer: Announcer::new(setup.millisecond),
        }
    }

    /// The seeds of its tables.
    #[cfg(test)]
    pub(crate) fn hash_seeds(&self) -> [u64; 2] {
        [self.rewriter.hash_seed(), self.last.hash_seed()]
    }

    /// Input that the SVM does not get.
    pub(crate) fn hear(&mut self, frame: &F) {
        self.last.hear(&Packet::parse(frame.head(), frame.len()));
    }

    /// Input that the SVM gets, in its numbers; false for a frame that has another owner.
    pub(crate) fn translate_input(&mut self, frame: &mut F, now: Ticks) -> bool {
        let packet = Packet::parse(frame.head(), frame.len());
        self.last.hear(&packet);
        self.rewriter.to_guest(frame, &packet, now) != Outcome::Shared
    }

    /// What the SVM has sent, in the PVM's numbers, and what it is the last segment of; `None` for a frame that has
    /// another owner.
    pub(crate) fn translate_output(
        &mut self,
        mut frame: F,
        now: Ticks,
    ) -> Option<(F, Option<Last>)> {
        let packet = Packet::parse(frame.head(), frame.len());
        self.announcer.learn(frame.head(), &packet);
        if self.rewriter.from_guest(&mut frame, &packet, now) == Outcome::Shared {
            return None;
        }
        let ends = packet.tcp.flags.contains(TcpFlags::RST);
        if packet.kind == Kind::Tcp && ends {
            self.last.forget(&packet.key);
        }
        let last = (packet.kind == Kind::Tcp && !ends).then(|| Last {
            flow: packet.key,
            bare: packet.sequence_len() == 0,
            opens: packet.tcp.flags.contains(TcpFlags::SYN),
        });
        Some((frame, last))
    }

    /// Keeps a connection's last segment, as it goes to the link.
    pub(crate) fn keep(&mut self, last: Last, frame: F) {
        if last.opens {
            self.last.keep_opening(last.flow, frame);
        } else {
            self.last.keep(last.flow, frame, last.bare);
        }
    }

    /// Both VMs' ISNs of a connection; false if there is no room for them.
    pub(crate) fn learn(&mut self, flow: FlowKey, pvm: Isn, svm: Isn, now: Ticks) -> bool {
        self.rewriter.learn(flow, pvm, svm, now) != Learned::Full
    }

    /// The SVM has loaded a state. What was known of the one that it ran before is void.
    pub(crate) fn svm_loaded(&mut self) {
        self.rewriter.svm_loaded();
        self.last.svm_loaded();
    }
}
