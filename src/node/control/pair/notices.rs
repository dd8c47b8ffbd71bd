//! The log of a pair for its operator: changes of its state, waits for QEMU, a lack of evidence.

use std::time::Instant;

use super::facts::role_now;
use super::{ControlPair, Figures};
use crate::control::RoleNow;
use crate::node::control::advice::advice;
use crate::node::control::waits::{Awaited, Change};
use crate::observability::counters::Counter;
use crate::observability::log::Log;
use crate::protect::{Migration, State, UNLUCKY};
use crate::qmp::Version;

impl ControlPair {
    /// One line for each change of the node's state that is more than a checkpoint.
    pub(crate) fn tell_state(&mut self, figures: &Figures, log: &Log) {
        let Some((_, counters)) = figures.cores.first() else {
            return;
        };
        self.starvation
            .look(&figures.cores, &self.settings.name, log);
        let counters = counters.snapshot();
        self.tell_lack_of_evidence(counters.value(Counter::UnprovenStops), log);
        let code = counters.value(Counter::State) as usize;
        let Some(state) = State::ALL.get(code).copied() else {
            return;
        };
        let role = role_now(self.settings.role.role(), &counters);
        // A node that is superseded keeps the state that it has.
        let was = std::mem::replace(&mut self.role, role);
        let is_superseded = role == RoleNow::Superseded && was != role;
        if !is_superseded && (state == State::Checkpointing || state == self.state) {
            return;
        }
        self.state = state;
        let (name, word) = (&self.settings.name, state.word());
        let epoch = counters.value(Counter::Epoch);
        let advice = match self.cession.is_open() {
            // It is said where that is done.
            true if role == RoleNow::Superseded => return,
            // The end of COLO is what it waits for.
            _ if self.unprotect.is_renounced() => None,
            _ => advice(state, role, &self.settings.failover.on_peer_lost),
        };
        match advice {
            None => log.info(format_args!("pair {name}: {word}, epoch {epoch}")),
            Some(advice) => log.alert(format_args!("pair {name}: {word}, epoch {epoch}: {advice}")),
        }
    }

    /// One line when QEMU owes something for long, and one when it does no more.
    pub(crate) fn tell_waits(&mut self, now: Instant, figures: &mut Figures, log: &Log) {
        let Some(client) = &self.client else {
            return;
        };
        let answer = client
            .awaited()
            .map(|(what, since)| Awaited { what, since });
        let name = &self.settings.name;
        let awaited = answer.into_iter().chain(self.awaited_step());
        match self.waits.look(awaited, self.connected, now) {
            None => {}
            Some(Change::Begins(what, time)) => log.alert(format_args!(
                "pair {name}: QEMU at {} owes {what} for {:.1} s, and what is held waits with it; look whether it \
                 is stopped, hangs, or has too little CPU or a slow disk",
                client.address(),
                time.as_secs_f64()
            )),
            Some(Change::Ends(time)) => log.info(format_args!(
                "pair {name}: QEMU goes on after {:.1} s",
                time.as_secs_f64()
            )),
        }
        figures.monitor = Some(self.waits.summary(self.connected));
    }

    /// The step of a checkpoint that is to come, by a request or by QEMU's own timer.
    fn awaited_step(&self) -> Option<Awaited> {
        // Elsewhere QEMU takes a request and does nothing, and a VM that stops is an operator's.
        if self.migration != Migration::Colo {
            return None;
        }
        match (self.stopped, &self.asked) {
            (Some(stopped), _) => Some(Awaited {
                what: "the event RESUME",
                since: stopped.at.read,
            }),
            (None, Some(asked)) => Some(Awaited {
                what: "the event STOP of a checkpoint",
                since: asked.since,
            }),
            (None, None) => None,
        }
    }

    /// What nothing proves is held, and an operator has to know why.
    fn tell_lack_of_evidence(&self, stops: u64, log: &Log) {
        if stops < u64::from(UNLUCKY) {
            return;
        }
        let name = &self.settings.name;
        let passes = self.version.is_none_or(Version::passes_in_checkpoints);
        let why = if passes {
            "the secondary has reported no load of the VM's state; look at its monitor and at the link"
        } else {
            "the secondary has reported no load of the VM's state, and this QEMU emits no MIGRATION_PASS in a \
             checkpoint; until the link and the secondary's monitor work, nothing is committed"
        };
        log.urgent(
            "evidence",
            format_args!(
                "pair {name}: the VM stopped {stops} times, and nothing proves that these were checkpoints: {why}; \
                 its output is held"
            ),
        );
    }
}
