//! A divergence as it is written down, with what is still at hand of its frames.

use std::time::{Duration, SystemTime};

use super::ControlPair;
use crate::compare;
use crate::dpdk::{Mbuf, tsc};
use crate::frame::{Frame, Ticks};
use crate::node::clock::Clock;
use crate::observability::report::{Capture, Divergence};
use crate::packet::Packet;

/// Bytes of each frame that a record keeps.
const CAPTURE: usize = 2048;

impl ControlPair {
    pub(super) fn record(
        &self,
        divergence: compare::Divergence<Mbuf>,
        epoch: u32,
        clock: Clock,
    ) -> Divergence {
        let now = tsc::now();
        let since = |then: Ticks| Duration::from_nanos(clock.ns(now.saturating_sub(then)));
        let capture = |side: &Option<(Mbuf, usize)>, arrived: Option<Ticks>| {
            let (frame, differs_at) = side.as_ref()?;
            let packet = Packet::parse(frame.head(), frame.len());
            Some(Capture {
                bytes: compare::window(frame, 0, 0, CAPTURE),
                wire_len: frame.len(),
                payload_at: packet.payload.into(),
                differs_at: Some(*differs_at),
                age: arrived.map(since).unwrap_or_default(),
            })
        };
        Divergence {
            time: SystemTime::now() - since(divergence.seen),
            role: self.settings.role.role(),
            pair: self.settings.name.clone(),
            vm_id: self.settings.vm_id,
            epoch: epoch.into(),
            flow: divergence
                .flow
                .map_or_else(|| "unknown".to_owned(), |flow| flow.to_string()),
            reason: divergence.reason.word(),
            stream_offset: divergence.stream_offset.map(u64::from),
            primary: capture(&divergence.primary, divergence.primary_arrived),
            secondary: capture(&divergence.secondary, divergence.secondary_arrived),
        }
    }
}
