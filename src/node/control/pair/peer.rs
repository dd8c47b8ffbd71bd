//! What the control thread does about a peer that is lost: fence it, give QEMU the failover
//! command, and keep what a takeover needs.

use std::time::Instant;

use super::ControlPair;
use super::orders::OPERATORS;
use crate::config::{PortRole, Role};
use crate::node::control::fencing::Outcome;
use crate::node::control::offsets::Left;
use crate::node::mailbox::ToPoll;
use crate::observability::log::Log;
use crate::protect::Migration;

impl ControlPair {
    pub(super) fn fence(&mut self, number: u32, now: Instant, log: &Log) {
        match &mut self.fencing {
            // An operator has ordered it a moment before: it answers both.
            Some(under_way) if under_way.number == OPERATORS => under_way.number = number,
            _ => self.start_fencing(number, now, log),
        }
    }

    /// Reports the outcome of a fencing command to the poll core, if it has asked for it.
    pub(super) fn tell_fenced(&mut self, number: u32, down: bool) {
        if number != OPERATORS {
            self.tell(ToPoll::Fenced { number, down });
        }
    }

    pub(super) fn look_at_fencing(&mut self, now: Instant, log: &Log) {
        let Some(fencing) = &mut self.fencing else {
            return;
        };
        let Some(outcome) = fencing.outcome(now) else {
            return;
        };
        let (name, number) = (&self.settings.name, fencing.number);
        let failure = match outcome {
            Outcome::Down => {
                log.urgent("fenced", format_args!("pair {name}: the peer is down"));
                None
            }
            Outcome::Failed(how) => {
                log.urgent(
                    "fencing",
                    format_args!(
                        "pair {name}: the fencing command failed ({how}); nothing is certain{}",
                        if number == OPERATORS {
                            ""
                        } else {
                            ", trying again"
                        }
                    ),
                );
                Some(how)
            }
        };
        self.fencing = None;
        self.tell_fenced(number, failure.is_none());
        self.go_on_after_fencing(failure.as_deref());
    }

    pub(super) fn fail_over(&mut self, now: Instant, log: &Log) {
        let Some(client) = &mut self.client else {
            return;
        };
        match client.fail_over(now) {
            Ok(()) => {
                self.failover_owed.get_or_insert(now);
            }
            Err(error) => log.urgent(
                "failover",
                format_args!(
                    "pair {}: QEMU cannot get the failover command: {error}",
                    self.settings.name
                ),
            ),
        }
    }

    pub(super) fn save_offsets(&mut self, term: u32, log: &Log) {
        let name = &self.settings.name;
        match self.offsets.write(term) {
            Ok(n) => log.info(format_args!(
                "pair {name}: this node has taken over; {n} connections are translated until they close"
            )),
            Err(error) => log.warning(
                "offsets",
                format_args!(
                    "pair {name}: the offsets of old connections cannot be saved: {error}; they end \
                     with this process"
                ),
            ),
        }
    }

    /// A node that is started again after its takeover goes on with the offsets that it had.
    pub(super) fn know_offsets(&mut self, migration: Migration, leads: bool, log: &Log) {
        if self.settings.role.role() != Role::Secondary {
            return;
        }
        if migration != Migration::Completed && !leads {
            self.offsets.forget();
            self.cession.forget_file();
            return;
        }
        self.know_cession(Some(log));
        let name = &self.settings.name;
        match self.offsets.read() {
            Ok(None) => {}
            Ok(Some(Left { term, offsets })) => {
                self.tell(ToPoll::Led { term });
                for (flow, offset) in offsets {
                    self.tell(ToPoll::Inherit(flow, offset));
                }
            }
            Err(error) => log.warning(
                "offsets",
                format_args!("pair {name}: the offsets of old connections cannot be read: {error}"),
            ),
        }
        let uplink = self
            .settings
            .ports()
            .any(|(place, _)| place == PortRole::Uplink);
        if !uplink && !std::mem::replace(&mut self.mute, true) {
            log.error(
                "uplink",
                format_args!(
                    "pair {}: the VM goes on alone, but this node has no --uplink: nothing can leave",
                    self.settings.name
                ),
            );
        }
    }
}
