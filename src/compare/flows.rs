//! The flows that a comparator knows: finding one, making room for one, forgetting quiet ones.
//!
//! The table's order is that in which flows were looked at last for being forgotten, not that of
//! their last frame: a frame of a known flow then writes the flow's own cache lines alone. A flow
//! that was seen since it got its place goes to the young end when its turn comes, so each is
//! looked at once in an idle time at most.
//!
//! Anybody can open connections by the thousand and complete none of them. Such half-open flows have an order of their
//! own, that of their last frame, and make room before all others. They are forgotten after the time in which a kernel
//! gives a handshake up, but for [`Numbers::OwnIsn`]: there a connection that was completed and is silent since looks the
//! same and could not do without its ISNs. For the same reason a living connection whose ISNs differ is never forgotten
//! for being idle; a table that is full of such asks for a checkpoint, which makes them equal.

use super::output::Output;
use super::{Comparator, Numbers};
use crate::flow::{FlowId, FlowKey, Standing};
use crate::frame::{Frame, Ticks};
use crate::packet::{Kind, Packet};

/// How many flows are looked at for one to give up when the table is full.
const REACH: usize = 16;

/// A flow in the table.
#[repr(C)]
pub(super) struct Flow {
    /// When its last frame came.
    pub seen: Ticks,
    pub output: Output,
    /// When it got its place in the table's order.
    placed: Ticks,
    /// Its standing in the table is provisional.
    half_open: bool,
}

impl Flow {
    /// Loads the cache line of the key and the one behind it.
    #[inline(always)]
    pub(super) fn touch(&self) -> u32 {
        self.output.touch()
    }

    fn new(kind: Kind, now: Ticks) -> Self {
        Self {
            seen: now,
            output: Output::new(kind),
            placed: now,
            half_open: false,
        }
    }

    /// Whether its standing is that of a half-open one.
    #[inline]
    pub(super) fn stands_half_open(&self) -> bool {
        self.half_open
    }

    /// Whether it is half-open.
    #[inline]
    pub(super) fn is_half_open(&self) -> bool {
        self.output.is_half_open()
    }
}

impl<F: Frame> Comparator<F> {
    /// Forgets flows that have been quiet for too long, at the latest after twice that; looks at no more than `most`
    /// flows of either standing. And lets leave what has waited long enough to leave in part.
    pub fn age(&mut self, now: Ticks, most: usize) {
        self.part(now, most);
        if self.numbers == Numbers::Translated {
            self.age_of(Standing::Provisional, self.limits.half_open, now, most);
        }
        self.age_of(Standing::Lasting, self.limits.idle, now, most);
    }

    fn age_of(&mut self, standing: Standing, limit: Ticks, now: Ticks, most: usize) {
        for _ in 0..most {
            let Some(id) = self.flows.oldest_of(standing) else {
                return;
            };
            let since = |then: Ticks| now.saturating_sub(then);
            let flow = &self.flows[id];
            if since(flow.placed) < limit {
                // All others were placed later.
                return;
            }
            if since(flow.seen) >= limit && self.is_quiet(id) && !self.is_offset(id) {
                self.forget(id);
            } else {
                self.place(id, now);
            }
        }
    }

    /// Gives a flow that has taken in a frame, and was half-open before or is now, its standing.
    #[inline(never)]
    pub(super) fn stand(&mut self, id: FlowId, now: Ticks) {
        let flow = &mut self.flows[id];
        let half_open = flow.is_half_open();
        flow.half_open = half_open;
        let standing = match half_open {
            true => Standing::Provisional,
            false => Standing::Lasting,
        };
        self.flows.set_standing(id, standing);
        self.place(id, now);
    }

    /// Gives a flow the last place in the table's order.
    fn place(&mut self, id: FlowId, now: Ticks) {
        self.flows[id].placed = now;
        self.flows.touch(id);
    }

    /// The flow of a packet that came now, known or new; `found` is what a search has found already.
    #[inline(always)]
    pub(super) fn flow(
        &mut self,
        packet: &Packet,
        hash: u64,
        found: Option<FlowId>,
        now: Ticks,
    ) -> Option<FlowId> {
        debug_assert!(found.is_none_or(|id| self.flows.has(id, &packet.key)));
        match found {
            Some(id) => {
                self.flows[id].seen = now;
                Some(id)
            }
            None => self.find_or_add(packet.kind, &packet.key, hash, now),
        }
    }

    #[inline(never)]
    fn find_or_add(&mut self, kind: Kind, key: &FlowKey, hash: u64, now: Ticks) -> Option<FlowId> {
        if let Some(id) = self.flows.find(key, hash) {
            self.flows[id].seen = now;
            return Some(id);
        }
        if self.overfull {
            return None;
        }
        if self.flows.len() == self.flows.capacity() {
            let unused = self.unused(now)?;
            self.forget(unused);
        }
        self.flows.insert(*key, hash, Flow::new(kind, now)).ok()
    }

    /// A flow that may be given up, if possible a half-open one or else one that was not seen for long.
    fn unused(&mut self, now: Ticks) -> Option<FlowId> {
        self.unused_of(Standing::Provisional, now)
            .or_else(|| self.unused_of(Standing::Lasting, now))
    }

    fn unused_of(&mut self, standing: Standing, now: Ticks) -> Option<FlowId> {
        let mut second = None;
        for _ in 0..REACH.min(self.flows.len()) {
            let id = self.flows.oldest_of(standing)?;
            let flow = &self.flows[id];
            if self.is_quiet(id) && (flow.half_open || !self.is_offset(id)) {
                if flow.seen <= flow.placed {
                    return Some(id);
                }
                second = second.or(Some(id));
            }
            self.place(id, now);
        }
        second
    }

    fn is_quiet(&self, id: FlowId) -> bool {
        self.flows[id].output.is_quiet(&self.hold, self.epoch)
    }

    fn is_offset(&self, id: FlowId) -> bool {
        self.flows[id].output.is_offset(self.epoch)
    }

    pub(super) fn forget(&mut self, id: FlowId) {
        self.flows.remove(id).output.clear(&mut self.hold);
    }
}
