//! The standalone comparator on its poll core: the driver's ports with DPDK.

use super::counts;
use super::host::NodeHost;
use super::port_queue::PortQueue;
use crate::dpdk::{Burst, Mbuf};
use crate::frame::Ticks;
use crate::observability::counters::{Counter, Writer};
use crate::observability::latency::Recorder;
use crate::pair::{Inputs, StandaloneDriver};
use crate::protect::Standalone;

/// The ports that P and S come from.
pub(crate) struct PrimaryAndSecondary {
    /// Of P.
    pub primary: PortQueue,
    /// Of S.
    pub secondary: PortQueue,
}

/// The ports of a standalone comparator.
pub(crate) type ComparePorts = NodeHost<PrimaryAndSecondary>;

impl Inputs for ComparePorts {
    #[inline]
    fn receive_primary(&mut self, burst: &mut Burst, most: usize) -> bool {
        self.inputs.primary.receive(burst, most) > 0
    }

    #[inline]
    fn receive_secondary(&mut self, burst: &mut Burst, most: usize) -> bool {
        self.inputs.secondary.receive(burst, most) > 0
    }
}

/// One comparator on its poll core.
pub(crate) struct CompareNode {
    driver: StandaloneDriver<Burst>,
    ports: ComparePorts,
}

impl CompareNode {
    /// A comparator that this core polls from now on.
    pub(crate) fn new(state: Standalone<Mbuf>, ports: ComparePorts) -> Self {
        Self {
            driver: StandaloneDriver::new(state),
            ports,
        }
    }

    /// One round; true if it found work.
    pub(crate) fn poll(&mut self, now: Ticks) -> bool {
        self.driver.round(&mut self.ports, now)
    }

    /// Does the periodic work.
    pub(crate) fn tick(&mut self, now: Ticks) {
        self.driver.tick(&mut self.ports, now);
    }

    /// Publishes the counters.
    pub(crate) fn publish(&mut self) {
        let ports = &mut self.ports;
        let writer = ports.metrics.writer();
        if let Some(out) = &ports.out {
            let inputs = &ports.inputs;
            counts::queues(writer, [&inputs.primary, &inputs.secondary, &out.queue]);
        }
        let unrecorded = self.driver.state().comparison().unrecorded();
        writer.set(Counter::ReportsLost, ports.mail.lost + unrecorded);
        counts::standalone(writer, self.driver.state());
        ports.metrics.latency.publish();
    }

    /// Sends the released frames.
    pub(crate) fn finish(&mut self) {
        self.driver.finish(&mut self.ports);
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
