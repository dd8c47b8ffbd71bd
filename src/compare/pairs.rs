//! A burst of each VM at once: a P and an S that are the same segment go in together. The stage *pair* of
//! [`super::ingest`].
//!
//! VMs in step send the same segments, and where one round of the poll loop finds both, the second
//! header is not read, hashed and looked up again, and neither frame waits in a slot. Which frames
//! meet is decided by their headers alone. A burst that lags behind the other one, or has a frame
//! more, is brought into line first, and the next round takes less of it ([`super::balance`]). All
//! other frames take the paths of single frames.

use super::intake::{Batch, Bursts};
use super::stream::Arrival;
use super::{Comparator, Numbers};
use crate::flow::FlowId;
use crate::frame::{BURST, Frame, Ticks};
use crate::packet::{Common, Kind, Packet};

/// Pairs of frames of two bursts that are looked at without a match before the rest goes in one by one: all that
/// may be in line, or few where there was nothing to be found for long.
const LOOKS: usize = BURST;
const FEW_LOOKS: usize = BURST / 8;

impl<F: Frame> Comparator<F> {
    /// Takes in the counterparts among the frames of two bursts, and those before them one by one; returns the places
    /// of the first P and S behind the last counterparts.
    #[inline(always)]
    pub(super) fn take_pairs(&mut self, bursts: &mut Bursts<F>, now: Ticks) -> (usize, usize) {
        let ends = (bursts.primary.len, bursts.secondary.len);
        let (mut p, mut s) = (0, 0);
        let mut looks = match self.balance.is_lost() {
            true => FEW_LOOKS,
            false => LOOKS,
        };
        let (mut met, mut released) = (false, 0);
        let common = match self.numbers {
            Numbers::Translated => Common::PORTS_AND_SEQUENCE,
            Numbers::OwnIsn => Common::PORTS,
        };
        while self.fast && !self.suspended && self.policy.is_default() {
            while are_counterparts(bursts, (p, s), common) {
                released += u64::from(self.take_pair(bursts, (p, s), now));
                (p, s) = (p + 1, s + 1);
                met = true;
            }
            let Some(next) = find_counterparts(bursts, (p, s), common, &mut looks) else {
                break;
            };
            self.take_primaries(&mut bursts.primary, p..next.0, now);
            self.take_secondaries(&mut bursts.secondary, s..next.1, now);
            (p, s) = next;
        }
        let behind = met.then(|| [ends.0 - p, ends.1 - s]);
        self.balance.took([ends.0, ends.1], behind);
        self.counts.released += released;
        self.counts.paired += released;
        self.trim_history();
        (p, s)
    }

    /// Whether they met on the paired fast path.
    #[inline(always)]
    fn take_pair(&mut self, bursts: &mut Bursts<F>, (p, s): (usize, usize), now: Ticks) -> bool {
        let (batch, i) = (&mut bursts.primary, p);
        let secondary = bursts.secondary.frames[s].take();
        let (Some(primary), Some(secondary)) = (batch.frames[i].take(), secondary) else {
            return false;
        };
        let packet = &batch.packets[i];
        let flow = self.flow_of(batch, i);
        match self.take_together(primary, secondary, packet, flow, now) {
            Ok(()) => true,
            Err(frames) => {
                self.take_one_by_one(batch, i, frames, now);
                false
            }
        }
    }

    #[inline(never)]
    fn take_one_by_one(
        &mut self,
        batch: &Batch<F>,
        i: usize,
        (primary, secondary): (F, F),
        now: Ticks,
    ) {
        let (packet, hash) = (&batch.packets[i], batch.hashes[i]);
        let mut other = *packet;
        if packet.kind == Kind::Tcp {
            other.tcp = packet.counterpart_fields(secondary.head());
        }
        self.take_primary(primary, packet, hash, self.flow_of(batch, i), now);
        self.take_secondary(secondary, &other, hash, self.flow_of(batch, i), now);
    }

    /// Returns both where they are not as simple as they look.
    #[inline(always)]
    fn take_together(
        &mut self,
        primary: F,
        secondary: F,
        packet: &Packet,
        flow: Option<FlowId>,
        now: Ticks,
    ) -> Result<(), (F, F)> {
        let Some(id) = flow else {
            return Err((primary, secondary));
        };
        let arrival = Arrival {
            frame: primary,
            packet,
            flow: id,
            epoch: self.epoch,
            now,
        };
        let flow = &mut self.flows[id];
        flow.seen = now;
        flow.output
            .pair_in_order(&mut self.hold, arrival, secondary)
    }
}

/// The places of the next P and S beyond these that are the same segment: the pair with the fewest before it.
#[inline(never)]
fn find_counterparts<F: Frame>(
    bursts: &Bursts<F>,
    (p, s): (usize, usize),
    common: Common,
    looks: &mut usize,
) -> Option<(usize, usize)> {
    let (more_p, more_s) = (bursts.primary.len - p, bursts.secondary.len - s);
    if more_p == 0 || more_s == 0 {
        return None;
    }
    for ahead in 1..more_p.max(more_s) {
        *looks = looks.checked_sub(1)?;
        for at in [(p, s + ahead), (p + ahead, s)] {
            if are_counterparts(bursts, at, common) {
                return Some(at);
            }
        }
    }
    None
}

/// Whether the P and the S at these places are the same segment.
#[inline(always)]
fn are_counterparts<F: Frame>(bursts: &Bursts<F>, (p, s): (usize, usize), common: Common) -> bool {
    if p >= bursts.primary.len || s >= bursts.secondary.len {
        return false;
    }
    let frames = (&bursts.primary.frames[p], &bursts.secondary.frames[s]);
    let (Some(primary), Some(secondary)) = frames else {
        return false;
    };
    let packet = &bursts.primary.packets[p];
    packet.has_counterpart(primary.head(), secondary.head(), secondary.len(), common)
}
