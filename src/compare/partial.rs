//! The flows whose oldest P is a long one that was found equal in part, in the order in which
//! they came here.
//!
//! As a rule the rest follows within the time that the SVM is behind, and the P leaves whole. What
//! still waits after that waits for the client's acknowledgment of the part.

use std::collections::VecDeque;

use super::Comparator;
use crate::flow::FlowId;
use crate::frame::{Frame, Ticks};

/// Flows and since when they wait. A flow may be forgotten meanwhile: what is here is a hint.
pub(super) struct Partial {
    flows: VecDeque<(FlowId, Ticks)>,
}

impl Partial {
    /// Room for this many flows; others are not noted.
    pub(super) fn new(flows: usize) -> Self {
        Self {
            flows: VecDeque::with_capacity(flows),
        }
    }

    /// Notes a flow; false if there is no room.
    pub(super) fn note(&mut self, flow: FlowId, now: Ticks) -> bool {
        let room = self.flows.len() < self.flows.capacity();
        if room {
            self.flows.push_back((flow, now));
        }
        room
    }

    /// Takes a flow that was noted at `until` or before.
    fn take(&mut self, until: Ticks) -> Option<FlowId> {
        let &(flow, since) = self.flows.front()?;
        if since > until {
            return None;
        }
        self.flows.pop_front();
        Some(flow)
    }
}

impl<F: Frame> Comparator<F> {
    /// Has a flow looked at later whose oldest P the fast path has found equal in part.
    pub(super) fn note_part(&mut self, flow: FlowId, now: Ticks) {
        let noted = self.partial.note(flow, now);
        self.flows[flow].output.note_part(noted);
    }

    /// Lets the equal parts of long P leave that have waited for the rest for too long; looks at no
    /// more than `most` flows.
    pub(super) fn part(&mut self, now: Ticks, most: usize) {
        if self.suspended {
            return;
        }
        for _ in 0..most {
            let until = now.saturating_sub(self.limits.patience);
            let Some(flow) = self.partial.take(until) else {
                return;
            };
            if self.flows.get(flow).is_none() {
                continue;
            }
            self.within(flow, now, |output, cx| output.part(cx));
            self.trim_history();
        }
    }
}
