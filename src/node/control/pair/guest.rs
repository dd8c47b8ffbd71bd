//! The guest's port: its stops and starts, whether its VM runs, and its link.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::ControlPair;
use crate::config::Role;
use crate::node::mailbox::ToPoll;
use crate::observability::log::Log;
use crate::protect::QemuEvent;

/// How long a VM may take to use its port when it goes on, before its link is looked at.
const RING_START: Duration = Duration::from_millis(20);
/// Marks the token of a question whether the VM runs; any other barrier's token is a number of stops.
pub(super) const QUESTION: u64 = 1 << 32;

/// What the guest port's driver says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GuestEvent {
    /// The ring runs again.
    Started {
        /// Stops so far.
        stops: u32,
    },
    /// The ring has stopped.
    Stopped,
}

/// Events that wait at most. A guest can stop and start its ring without end, and only the last of it matters.
const WAITING: usize = 64;

/// Where the driver's callback puts events; it never waits.
pub(crate) struct GuestTeller {
    events: Sender<GuestEvent>,
    oldest: Receiver<GuestEvent>,
}

/// The way from a guest port's callback to the control thread.
pub(crate) fn guest_events() -> (GuestTeller, Receiver<GuestEvent>) {
    let (events, receiver) = bounded(WAITING);
    let oldest = receiver.clone();
    (GuestTeller { events, oldest }, receiver)
}

impl GuestTeller {
    /// Reports an event, in the place of the oldest one where too many wait.
    pub(crate) fn tell(&self, event: GuestEvent) {
        let mut event = event;
        while let Err(TrySendError::Full(back)) = self.events.try_send(event) {
            let _ = self.oldest.try_recv();
            event = back;
        }
    }
}

impl ControlPair {
    /// A VM that runs and does not use its port has no link: it loaded the state of a VM whose own
    /// node was gone. It gets it before it may have to take over: Linux forgets its neighbours without one, and
    /// takes its time.
    pub(super) fn look_at_link(&mut self, now: Instant, log: &Log) {
        let Some(since) = self.unlinked else {
            return;
        };
        if self.ring.is_some() {
            self.unlinked = None;
        } else if now.saturating_duration_since(since) >= RING_START {
            self.unlinked = None;
            let raised = self.client.as_mut().map(|client| client.raise_links(now));
            if let Some(Err(error)) = raised {
                log.warning(
                    "link",
                    format_args!(
                        "pair {}: the guest has not enabled its vhost port, and QEMU does not raise its NIC's link: \
                         {error}; raise it with set_link",
                        self.settings.name
                    ),
                );
            }
        }
    }

    pub(super) fn guest_event(&mut self, event: GuestEvent, now: Instant) {
        let GuestEvent::Started { stops } = event else {
            self.ring = None;
            return;
        };
        self.ring = Some(stops);
        match self.settings.role.role() {
            _ if self.connected => self.ask_state(stops, now),
            // Protection can go on without the monitor of a secondary.
            Role::Secondary => {
                self.tell(ToPoll::Monitor(QemuEvent::StartedWithoutMonitor { stops }))
            }
            Role::Primary | Role::Compare => {}
        }
    }

    /// The VM runs, or goes on, perhaps with a state of another VM's.
    pub(super) fn runs(&mut self) {
        let secondary = self.settings.role.role() == Role::Secondary;
        self.unlinked = secondary.then(Instant::now);
    }

    pub(super) fn ask_whether_it_runs(&mut self, question: u32, now: Instant) {
        // A ring that runs is asked about by itself.
        if self.ring.is_none()
            && let Some(client) = &mut self.client
        {
            let _ = client.barrier(QUESTION | u64::from(question), now);
        }
    }

    pub(super) fn ask_state(&mut self, stops: u32, now: Instant) {
        if let Some(client) = &mut self.client {
            // Without a connection the question is asked on the next one.
            let _ = client.barrier(u64::from(stops), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_events_the_last_ones_come_in_order() {
        let (teller, receiver) = guest_events();
        for stops in 0..1_000 {
            teller.tell(GuestEvent::Started { stops });
        }
        let stops: Vec<u32> = receiver
            .try_iter()
            .map(|event| match event {
                GuestEvent::Started { stops } => stops,
                GuestEvent::Stopped => panic!("it did not stop"),
            })
            .collect();
        assert_eq!(stops, (1_000 - WAITING as u32..1_000).collect::<Vec<_>>());
    }
}
