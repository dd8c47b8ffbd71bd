//! The paired fast path: a P and an S that are the same segment, in order, while nothing waits.
//!
//! It leaves the connection as the S and then the P by the fast path would (see
//! [`super::fast_path`]), and everything else to that.

use super::Stream;
use super::fast_path::{Arrival, are_plain, is_equal};
use crate::compare::hold::{Hold, NIL};
use crate::frame::Frame;
use crate::packet::serial::{at_or_before, max};

impl Stream {
    /// Takes in a P and an S whose headers are equal but for TCP fields. The caller has seen
    /// [`Hold::primary_room`], and nothing is suspended. Returns both where this is not all there is to
    /// them.
    #[inline(always)]
    pub(crate) fn pair_in_order<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        secondary: F,
    ) -> Result<(), (F, F)> {
        let (packet, tcp) = (arrival.packet, &arrival.packet.tcp);
        let other = packet.counterpart_fields(secondary.head());
        let seq = tcp.seq.wrapping_sub(self.primary_base);
        let acknowledged = self
            .secondary_ack
            .map_or(other.ack, |ack| max(ack, other.ack));
        let simple = self.fast
            && self.epoch == arrival.epoch
            && are_plain([tcp.flags, other.flags])
            && self.primaries.is_empty()
            && self.first_unused(hold) == NIL
            && other.seq.wrapping_sub(self.secondary_base) == seq
            && self.compared.is_none_or(|(_, to)| to == seq)
            && at_or_before(tcp.ack, acknowledged)
            && packet.payload_len > 0
            && !hold.secondary_is_full();
        let at = usize::from(packet.payload);
        if !simple || !is_equal(&arrival.frame, packet, &secondary, at) {
            return Err((arrival.frame, secondary));
        }
        self.note_acknowledged(other.ack, Some(other.window));
        let witness = Arrival {
            frame: secondary,
            packet,
            flow: arrival.flow,
            epoch: arrival.epoch,
            now: arrival.now,
        };
        self.leave_as_history(hold, witness, seq);
        let now = arrival.now;
        self.pass(hold, arrival, Some(now));
        Ok(())
    }
}
