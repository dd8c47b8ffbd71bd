//! Does the work that a frame still needs before a port can send it.
//!
//! A guest with offloads sends TCP frames of up to 64 KB with partial checksums. They are held, compared and mirrored
//! as they came. A port with TSO and checksum offload then segments and sums them. For other ports this module does it:
//! segments share the frame's payload and get headers of their own, so only headers are copied.

use std::num::NonZeroU16;

use crate::dpdk::{Abilities, Burst, Headers, Mbuf, Mempool, Slices, Transport, TxPoller};
use crate::frame::{Frame, Offload};
use crate::packet::checksum::{TCP_CHECKSUM, UDP_CHECKSUM};
use crate::packet::segmentation::{HEADERS_MAX, Segmentation};
use crate::packet::{Kind, Packet};

/// Bytes of an Ethernet header without tags.
pub(crate) const ETHERNET_HEADER: usize = 14;

/// Prepares frames for one port.
pub(crate) struct Egress {
    abilities: Abilities,
    /// Bytes of the longest frame that the port sends, without Ethernet header and tags.
    mtu: Option<usize>,
    pool: Mempool,
    /// The frame that is being segmented.
    cut: Option<Cut>,
    /// Frames that exceed the MTU and cannot be segmented.
    pub refused: u64,
}

/// A frame that is being segmented: its payload and the plan.
struct Cut {
    payload: Slices,
    plan: Segmentation,
}

/// How to send a frame.
enum TxPrep {
    /// Send it as it is now.
    Ready,
    /// Send this one in its place.
    Replace(Mbuf),
    /// Send its segments.
    Segment(Cut),
    /// Drop it: it cannot be sent.
    Drop,
}

/// No mbufs for headers or slices. There will be some again when ports have sent.
struct NoBuffers;

impl Egress {
    /// Prepares frames for a port with these abilities and this MTU, if it has one.
    pub(crate) fn new(abilities: Abilities, mtu: Option<usize>, pool: Mempool) -> Self {
        Self {
            abilities,
            mtu,
            pool,
            cut: None,
            refused: 0,
        }
    }

    /// Whether the frame must go through [`Egress::fill`].
    #[inline]
    pub(crate) fn concerns(&self, frame: &Mbuf) -> bool {
        frame.offload() != Offload::NONE
            || (self.mtu).is_some_and(|mtu| frame.len() > mtu + ETHERNET_HEADER)
    }

    /// Whether segments of a frame that was taken are still to come.
    #[inline]
    pub(crate) fn is_cutting(&self) -> bool {
        self.cut.is_some()
    }

    /// Moves frames from `from` to `to`, in order, ready for `port`. It ends where room or memory ends. Returns the
    /// number of frames that left `from`.
    pub(crate) fn fill(
        &mut self,
        from: &mut Burst,
        to: &mut Burst,
        mut port: Option<&mut TxPoller>,
    ) -> usize {
        let mut taken = 0;
        while !to.is_full() {
            if let Some(cut) = &mut self.cut {
                match cut.next(&self.pool) {
                    Ok(Some(segment)) => drop(to.push(segment)),
                    Ok(None) => self.cut = None,
                    Err(NoBuffers) => break,
                }
                continue;
            }
            let Some(frame) = from.first_mut() else { break };
            let Ok(prepared) = self.prepare(frame, port.as_deref_mut()) else {
                break;
            };
            let Some(frame) = from.pop_front() else { break };
            taken += 1;
            match prepared {
                TxPrep::Ready => drop(to.push(frame)),
                TxPrep::Replace(other) => drop(to.push(other)),
                TxPrep::Segment(cut) => self.cut = Some(cut),
                TxPrep::Drop => self.refused += 1,
            }
        }
        taken
    }

    fn prepare(
        &self,
        frame: &mut Mbuf,
        mut port: Option<&mut TxPoller>,
    ) -> Result<TxPrep, NoBuffers> {
        let offload = frame.offload();
        let is_longer_than = |header| self.mtu.is_some_and(|mtu| frame.len() > mtu + header);
        if offload == Offload::NONE && !is_longer_than(ETHERNET_HEADER) {
            return Ok(TxPrep::Ready);
        }
        let packet = Packet::parse(frame.head(), frame.len());
        // Tags are not counted in an MTU.
        let too_long = is_longer_than(usize::from(packet.l3).max(ETHERNET_HEADER));
        if offload == Offload::NONE {
            return Ok(match too_long {
                true => TxPrep::Drop,
                false => TxPrep::Ready,
            });
        }
        if let Some(size) = offload.segment
            && packet.kind == Kind::Tcp
        {
            if self.abilities.segmentation && ask(frame, &packet, offload, port.as_deref_mut()) {
                return Ok(TxPrep::Ready);
            }
            let plan = self
                .payload_size(&packet, size)
                .and_then(|size| Segmentation::new(&packet, size));
            let cut = plan.and_then(|plan| Cut::new(frame.share(), plan));
            return Ok(cut.map_or(TxPrep::Drop, TxPrep::Segment));
        }
        if too_long {
            return Ok(TxPrep::Drop);
        }
        let offload = Offload {
            segment: None,
            ..offload
        };
        if !offload.partial_checksum
            || (self.abilities.checksums && ask(frame, &packet, offload, port))
            || complete(frame, &packet)
        {
            return Ok(TxPrep::Ready);
        }
        // The headers have another owner, too, so they must not be changed.
        let Some(rest) = Slices::new(frame.share()) else {
            return Ok(TxPrep::Drop);
        };
        let mut other = with_own_headers(rest, &self.pool).ok_or(NoBuffers)?;
        complete(&mut other, &packet);
        Ok(TxPrep::Replace(other))
    }

    /// What the frame asks for, or less where the port's frames are shorter.
    fn payload_size(&self, packet: &Packet, asked: NonZeroU16) -> Option<NonZeroU16> {
        let Some(mtu) = self.mtu else {
            return Some(asked);
        };
        let most = (mtu + usize::from(packet.l3)).checked_sub(usize::from(packet.payload))?;
        NonZeroU16::new(most.min(usize::from(asked.get())) as u16)
    }
}

impl Cut {
    /// `None` for a frame that has fewer bytes than the plan.
    fn new(frame: Mbuf, plan: Segmentation) -> Option<Self> {
        let mut payload = Slices::new(frame)?;
        payload.skip(plan.headers());
        Some(Self { payload, plan })
    }

    fn next(&mut self, pool: &Mempool) -> Result<Option<Mbuf>, NoBuffers> {
        let Some(piece) = self.plan.peek() else {
            return Ok(None);
        };
        let mut head = pool.alloc().ok_or(NoBuffers)?;
        let payload = match piece.len {
            0 => None,
            len => Some(self.payload.take(len, pool).ok_or(NoBuffers)?),
        };
        let sum = payload.as_ref().and_then(|p| p.sum(0, piece.len));
        let headers = self.plan.headers();
        if let (Some(room), Some(original)) = (
            head.append(headers),
            self.payload.frame().head().get(..headers),
        ) {
            room.copy_from_slice(original);
            self.plan.write(&piece, room, sum.unwrap_or(0));
        }
        self.plan.advance();
        Ok(match payload {
            Some(payload) => Mbuf::chain(head, payload).ok(),
            None => Some(head),
        })
    }
}

/// Marks input for a guest port of these abilities with what its sender left to do. What the port
/// cannot do is done at once. The caller is the frame's one owner.
pub(crate) fn mark(frame: &mut Mbuf, offload: Offload, abilities: Abilities) {
    if offload == Offload::NONE {
        return;
    }
    let packet = Packet::parse(frame.head(), frame.len());
    if !(abilities.checksums && ask(frame, &packet, offload, None)) && offload.partial_checksum {
        complete(frame, &packet);
    }
}

/// Asks the port to do it; false where the headers or the driver do not allow that.
fn ask(frame: &mut Mbuf, packet: &Packet, offload: Offload, port: Option<&mut TxPoller>) -> bool {
    headers(packet).is_some_and(|headers| frame.request(headers, offload))
        && port.is_none_or(|port| port.prepare(frame))
}

/// The lengths that a driver needs. Behind IPv6 extension headers drivers would sum up a wrong
/// pseudo-header.
fn headers(packet: &Packet) -> Option<Headers> {
    const IPV6_HEADER: u16 = 40;
    let protocol = match packet.kind {
        Kind::Tcp => Transport::Tcp,
        Kind::Udp => Transport::Udp,
        _ => return None,
    };
    let ipv6 = packet.key.src_ip()?.is_ipv6();
    let network = packet.l4 - packet.l3;
    (!ipv6 || network == IPV6_HEADER).then_some(Headers {
        link: u8::try_from(packet.l3).ok()?,
        network,
        transport: u8::try_from(packet.payload - packet.l4).ok()?,
        ipv6,
        protocol,
    })
}

/// Completes a partial checksum; false where the headers are shared. A frame without a checksum
/// that is known stays as it is.
fn complete(frame: &mut Mbuf, packet: &Packet) -> bool {
    let l4 = usize::from(packet.l4);
    let field = match packet.kind {
        Kind::Tcp => l4 + TCP_CHECKSUM,
        Kind::Udp => l4 + UDP_CHECKSUM,
        _ => return true,
    };
    let Some(sum) = frame.sum(l4, packet.end() - l4) else {
        return true;
    };
    let checksum = match !sum {
        // Zero would mean that there is none (RFC 768).
        0 if packet.kind == Kind::Udp => 0xffff,
        checksum => checksum,
    };
    let Some(room) = frame.head_mut() else {
        return false;
    };
    if let Some(room) = room.get_mut(field..field + 2) {
        room.copy_from_slice(&checksum.to_be_bytes());
    }
    frame.settle()
}

/// The same frame with headers that nobody else owns; `None` when `pool` is short.
fn with_own_headers(mut rest: Slices, pool: &Mempool) -> Option<Mbuf> {
    let mut head = pool.alloc()?;
    let frame = rest.frame();
    let own = frame.head().len().min(HEADERS_MAX);
    head.append(own)?.copy_from_slice(&frame.head()[..own]);
    rest.skip(own);
    match rest.left() {
        0 => Some(head),
        left => Mbuf::chain(head, rest.take(left, pool)?).ok(),
    }
}
