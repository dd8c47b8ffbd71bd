//! What both VMs have sent of one flow: the one place that knows streams from datagrams.
//!
//! Each stage of [`super::ingest`] calls the method of its name; the others end an epoch, commit one, or make room.

use super::Numbers;
use super::context::Context;
use super::datagram::{self, Datagrams};
use super::divergence::Reason;
use super::hold::{Hold, SlotId};
use super::stream::{Arrival, Path, Stream};
use crate::frame::{Frame, Ticks};
use crate::packet::{Kind, Packet};

/// The output of one flow. The tag comes first, beside the flow's key.
#[repr(u8)]
#[expect(
    clippy::large_enum_variant,
    reason = "most flows are streams, and a box would be an allocation on a poll core"
)]
pub(super) enum Output {
    Stream(Stream),
    Datagrams(Datagrams),
}

/// What a P waits for.
pub(super) struct Wait {
    pub reason: Reason,
    /// What it was compared with last.
    pub counterpart: Option<SlotId>,
    /// Bytes of its payload that were found equal.
    pub equal: u32,
    /// Where that is in the flow.
    pub offset: Option<u32>,
}

impl Output {
    /// Nothing was sent yet, in a flow of this kind.
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Tcp => Self::Stream(Stream::default()),
            _ => Self::Datagrams(Datagrams::default()),
        }
    }

    /// Loads the cache line behind that of the tag.
    #[inline(always)]
    pub(super) fn touch(&self) -> u32 {
        match self {
            Self::Stream(stream) => stream.epoch(),
            Self::Datagrams(_) => 0,
        }
    }

    /// The stage *pair*. Returns both frames where they are not as simple as they look.
    #[inline(always)]
    pub(super) fn pair_in_order<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        secondary: F,
    ) -> Result<(), (F, F)> {
        match self {
            Self::Stream(stream) => stream.pair_in_order(hold, arrival, secondary),
            Self::Datagrams(datagrams) => datagrams.pair_in_order(hold, arrival, secondary),
        }
    }

    /// The stage *in order* of a P; `seen` is when the flow's last frame came.
    #[inline(always)]
    pub(super) fn primary_in_order<F: Frame>(
        &mut self,
        seen: &mut Ticks,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
    ) -> Path<F> {
        match (self, arrival.packet.kind) {
            (Self::Stream(stream), Kind::Tcp) => {
                *seen = arrival.now;
                stream.primary_in_order(hold, arrival)
            }
            (Self::Datagrams(datagrams), Kind::Udp) => {
                *seen = arrival.now;
                datagrams.primary_in_order(hold, arrival)
            }
            _ => Path::General(arrival.frame),
        }
    }

    /// The same of an S.
    #[inline(always)]
    pub(super) fn secondary_in_order<F: Frame>(
        &mut self,
        seen: &mut Ticks,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
    ) -> Path<F> {
        match (self, arrival.packet.kind) {
            (Self::Stream(stream), Kind::Tcp) => {
                *seen = arrival.now;
                stream.secondary_in_order(hold, arrival)
            }
            (Self::Datagrams(datagrams), Kind::Udp) => {
                *seen = arrival.now;
                datagrams.secondary_in_order(hold, arrival)
            }
            _ => Path::General(arrival.frame),
        }
    }

    /// The stage *general* of a P.
    #[inline(always)]
    pub(super) fn primary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        id: SlotId,
        packet: &Packet,
    ) {
        match self {
            Self::Stream(stream) => stream.primary(cx, id, packet),
            Self::Datagrams(datagrams) => datagrams.primary(cx, id, packet),
        }
    }

    /// The same of an S.
    #[inline(always)]
    pub(super) fn secondary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: F,
        packet: &Packet,
        now: Ticks,
    ) {
        match self {
            Self::Stream(stream) => stream.secondary(cx, frame, packet, now),
            Self::Datagrams(datagrams) => datagrams.secondary(cx, frame, packet, now),
        }
    }

    /// Notes whether [`Output::part`] will be called for its oldest P.
    pub(super) fn note_part(&mut self, noted: bool) {
        if let Self::Stream(stream) = self {
            stream.set_partial(noted);
        }
    }

    /// Lets the equal part of a long P leave.
    pub(super) fn part<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        if let Self::Stream(stream) = self {
            stream.part(cx);
        }
    }

    /// Whether it may keep an S where room is left only for flows with few waiting frames.
    pub(super) fn waits_little<F: Frame>(&self, hold: &Hold<F>) -> bool {
        match self {
            Self::Stream(stream) => stream.waits_little(hold),
            Self::Datagrams(datagrams) => datagrams.waits_little(),
        }
    }

    /// Whether it is a flow of datagrams whose P that waits is the only one.
    pub(super) fn has_one_datagram(&self) -> bool {
        match self {
            Self::Stream(_) => false,
            Self::Datagrams(datagrams) => datagrams.has_one(),
        }
    }

    /// Whether it is a connection that is not open yet.
    #[inline]
    pub(super) fn is_half_open(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.is_half_open(),
            Self::Datagrams(_) => false,
        }
    }

    /// Whether nothing of it is held or waited for.
    pub(super) fn is_quiet<F: Frame>(&self, hold: &Hold<F>, epoch: u32) -> bool {
        match self {
            Self::Stream(stream) => stream.is_quiet(hold, epoch),
            Self::Datagrams(datagrams) => datagrams.is_quiet(),
        }
    }

    /// Whether it is a living connection whose numbers differ between the VMs.
    pub(super) fn is_offset(&self, epoch: u32) -> bool {
        match self {
            Self::Stream(stream) => stream.is_offset(epoch),
            Self::Datagrams(_) => false,
        }
    }

    /// The place in the stream of a sequence number.
    pub(super) fn stream_offset(&self, at: u32) -> Option<u32> {
        match self {
            Self::Stream(stream) => stream.stream_offset(at),
            Self::Datagrams(_) => None,
        }
    }

    /// What a held P waits for.
    pub(super) fn wait<F: Frame>(&self, hold: &Hold<F>, p: SlotId) -> Wait {
        match self {
            Self::Stream(stream) => {
                let slot = hold.slot(p);
                Wait {
                    reason: stream.reason_of_wait(hold, p),
                    counterpart: None,
                    equal: slot.verified,
                    offset: stream.stream_offset(slot.seq.wrapping_add(slot.verified)),
                }
            }
            Self::Datagrams(datagrams) => {
                let counterpart = datagrams.counterpart();
                let differs = counterpart.and_then(|s| datagram::first_mismatch(hold, p, s));
                Wait {
                    reason: datagrams.reason_of_wait(hold),
                    counterpart,
                    equal: differs.unwrap_or(0) as u32,
                    offset: differs.map(|at| at as u32),
                }
            }
        }
    }

    /// A fence makes an S void that waits. False if a part of it stays, as a witness of what was compared.
    pub(super) fn fence<F: Frame>(&mut self, hold: &mut Hold<F>, s: SlotId) -> bool {
        match self {
            Self::Stream(stream) if stream.cut(hold, s) => return false,
            Self::Stream(stream) => stream.forget(hold, s),
            Self::Datagrams(datagrams) => datagrams.forget(hold, s),
        }
        true
    }

    /// A held P leaves with a commit.
    pub(super) fn commit<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        p: SlotId,
        numbers: Numbers,
        now: Ticks,
    ) {
        match self {
            Self::Stream(stream) => stream.commit(hold, p, numbers, now),
            Self::Datagrams(datagrams) => datagrams.leave(hold, p),
        }
    }

    /// A held P is dropped.
    pub(super) fn leave<F: Frame>(&mut self, hold: &mut Hold<F>, p: SlotId) {
        match self {
            Self::Stream(stream) => stream.leave(hold, p),
            Self::Datagrams(datagrams) => datagrams.leave(hold, p),
        }
    }

    /// History is dropped that lies in a slot.
    pub(super) fn drop_history<F: Frame>(&mut self, hold: &mut Hold<F>, s: SlotId) {
        if let Self::Stream(stream) = self {
            stream.forget(hold, s);
        }
    }

    /// The flow is forgotten.
    pub(super) fn clear<F: Frame>(&mut self, hold: &mut Hold<F>) {
        match self {
            Self::Stream(stream) => stream.clear(hold),
            Self::Datagrams(datagrams) => datagrams.clear(hold),
        }
    }

    /// The client has reset its connection, with this number; what still comes of it has come at `settled`.
    pub(super) fn client_reset<F: Frame>(
        &mut self,
        hold: &Hold<F>,
        epoch: u32,
        seq: u32,
        settled: Ticks,
    ) {
        if let Self::Stream(stream) = self {
            stream.client_reset(hold, epoch, seq, settled);
        }
    }

    /// Drops an overdue P of a connection that has ended. Whether it did.
    pub(super) fn drop_primary<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        p: SlotId,
        epoch: u32,
        now: Ticks,
    ) -> bool {
        match self {
            Self::Stream(stream) => stream.drop_primary(hold, p, epoch, now),
            Self::Datagrams(_) => false,
        }
    }

    /// Whether the PVM repeats what was lost, so that an overdue S waits on.
    pub(super) fn repeats(&self, epoch: u32, now: Ticks, timeout: Ticks) -> bool {
        match self {
            Self::Stream(stream) => stream.repeats(epoch, now, timeout),
            Self::Datagrams(_) => false,
        }
    }

    /// Drops an overdue S of a connection that has ended. Whether that was a RST that the PVM does not send, if it did.
    pub(super) fn drop_secondary<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        s: SlotId,
        epoch: u32,
        now: Ticks,
    ) -> Option<bool> {
        match self {
            Self::Stream(stream) => stream.drop_secondary(hold, s, epoch, now),
            Self::Datagrams(_) => None,
        }
    }
}
