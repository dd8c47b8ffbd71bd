//! A node with a VM on its poll core: the driver's ports with DPDK.

use super::counts;
use super::egress::mark;
use super::host::NodeHost;
use super::link_frames::{reclaim, strip};
use super::port_queue::PortQueue;
use crate::dpdk::{Burst, FenceCore, Mbuf, Mempool};
use crate::frame::{Offload, Ticks};
use crate::link::DATA_HEADER;
use crate::link::secure::Begun;
use crate::observability::capture::Place;
use crate::observability::counters::{Counter, Writer};
use crate::observability::latency::Recorder;
use crate::pair::{PairDriver, Port, Ports, ToControl};

/// The ports to the VM and to the other node.
pub(crate) struct GuestAndLink {
    /// The guest port.
    pub guest: PortQueue,
    /// The link.
    pub link: PortQueue,
    /// This poll core's part of the guest port's fence.
    pub fence: FenceCore,
    /// Mbufs for headers and the link's own frames.
    pub headers: Mempool,
    /// Reserved headers; empty between two rounds.
    pub reserved: Burst,
}

/// The ports of a node with a VM.
pub(crate) type GuestPorts = NodeHost<GuestAndLink>;

impl GuestPorts {
    fn queue(&mut self, port: Port) -> Option<&mut PortQueue> {
        match port {
            Port::Guest => Some(&mut self.inputs.guest),
            Port::Uplink => self.out.as_mut().map(|out| &mut out.queue),
            Port::Link => Some(&mut self.inputs.link),
        }
    }
}

impl Ports for GuestPorts {
    #[inline]
    fn quiesce(&mut self) -> u64 {
        self.inputs.fence.quiesce()
    }

    #[inline]
    fn receive(&mut self, port: Port, burst: &mut Burst, most: usize) -> bool {
        self.queue(port)
            .is_some_and(|queue| queue.receive(burst, most) > 0)
    }

    #[inline]
    fn next_session(&mut self) -> Option<Begun> {
        self.inputs.link.take_session()
    }

    #[inline]
    fn give(&mut self, epoch: u32, input: &mut Burst) -> usize {
        self.tap
            .transmit(Place::In, epoch, &mut self.inputs.guest, input)
    }

    #[inline]
    fn link_room(&self) -> usize {
        self.inputs.link.room()
    }

    #[inline]
    fn push_link(&mut self, frame: Mbuf) {
        self.inputs.link.push(frame);
    }

    #[inline]
    fn flush_link(&mut self) -> usize {
        self.inputs.link.flush()
    }

    fn count_dropped(&mut self, port: Port, frames: usize) {
        if let Some(queue) = self.queue(port) {
            queue.dropped += frames as u64;
        }
    }

    #[inline]
    fn reserve_headers(&mut self, frames: usize) -> bool {
        let GuestAndLink {
            headers, reserved, ..
        } = &mut self.inputs;
        debug_assert!(reserved.is_empty(), "they were used in the round before");
        headers.alloc_bulk(reserved, frames)
    }

    #[inline]
    fn mirror(
        &mut self,
        shares: &mut Burst,
        taken: usize,
        mut header: impl FnMut(&Mbuf) -> [u8; DATA_HEADER],
    ) {
        let GuestAndLink { link, reserved, .. } = &mut self.inputs;
        for (share, mut head) in shares.drain().zip(reserved.drain()).take(taken) {
            let bytes = header(&share);
            if let Some(room) = head.append(DATA_HEADER) {
                room.copy_from_slice(&bytes);
            }
            match Mbuf::chain(head, share) {
                Ok(frame) => link.push(frame),
                Err(_) => link.dropped += 1,
            }
        }
    }

    #[inline]
    fn prepend(&self, frame: &mut Mbuf, header: &[u8; DATA_HEADER]) -> bool {
        frame
            .prepend(DATA_HEADER)
            .map(|room| room.copy_from_slice(header))
            .is_some()
    }

    #[inline]
    fn strip(&self, frame: &mut Mbuf, length: usize) -> bool {
        strip(frame, length)
    }

    fn reclaim(&self, frame: Mbuf) -> Option<Mbuf> {
        reclaim(frame, &self.inputs.headers)
    }

    fn copy(&self, bytes: &[u8]) -> Option<Mbuf> {
        self.inputs.headers.copy_of(bytes)
    }

    #[inline]
    fn mark(&self, frame: &mut Mbuf, offload: Offload) {
        mark(frame, offload, self.inputs.guest.abilities());
    }
}

/// One pair with a VM on its poll core.
pub(crate) struct GuestNode {
    driver: PairDriver<Burst>,
    ports: GuestPorts,
}

impl GuestNode {
    /// A pair that this core polls from now on.
    pub(crate) fn new(driver: impl Into<PairDriver<Burst>>, ports: GuestPorts) -> Self {
        Self {
            driver: driver.into(),
            ports,
        }
    }

    /// One round; true if it found work.
    pub(crate) fn poll(&mut self, now: Ticks) -> bool {
        let busy = self.driver.round(&mut self.ports, now);
        if self.ports.inputs.link.take_foreigner() {
            self.driver.hear_foreigner(now);
        }
        busy
    }

    /// Does the periodic work.
    pub(crate) fn tick(&mut self, now: Ticks) {
        self.driver.tick(&mut self.ports, now);
        let (link, mail) = (&mut self.ports.inputs.link, &mut self.ports.mail);
        if mail.has_room()
            && let Some(notice) = link.next_notice()
        {
            mail.post(ToControl::Link(notice));
        }
    }

    /// Publishes the counters.
    pub(crate) fn publish(&mut self) {
        let ports = &self.ports;
        let (guest, link) = (&ports.inputs.guest, &ports.inputs.link);
        let uplink = ports.out.as_ref().map(|out| &out.queue);
        let writer = ports.metrics.writer();
        counts::lanes_of_guest(writer, guest, uplink, link);
        let own = self.driver.counts();
        writer.set(Counter::InputWaits, own.input_waits);
        writer.set(Counter::InputIgnored, own.input_ignored);
        let unrecorded = self
            .driver
            .primary()
            .map_or(0, |primary| primary.state().comparison().unrecorded());
        writer.set(Counter::ReportsLost, ports.mail.lost + unrecorded);
        if let Some(primary) = self.driver.primary() {
            counts::primary(writer, primary.state(), link.void(), ports.clock);
            self.ports.metrics.latency.publish();
        } else if let Some(secondary) = self.driver.secondary() {
            counts::secondary(writer, secondary.state(), link.void(), ports.clock);
        }
    }

    /// Sends the released frames.
    pub(crate) fn finish(&mut self) {
        self.driver.finish(&mut self.ports);
        self.ports.inputs.link.send_good_bye();
    }

    /// The histograms, at the end.
    pub(crate) fn into_recorder(self) -> Recorder {
        self.ports.metrics.latency
    }

    /// The counters' writer, for the poll loop's own.
    pub(crate) fn writer(&self) -> &Writer {
        self.ports.metrics.writer()
    }
}
