//! The secondary goes on as a primary, beside an old one that may not know (rule R6).

use dpdk_colo::frame::Ticks;
use dpdk_colo::protect::QemuEvent;

use super::World;
use crate::guest::Vm;
use crate::log::Capture;
use crate::monitor::Line;
use crate::nodes::{Node, Waiting};
use crate::oracle::Oracle;
use crate::ports::{Machine, Site};
use crate::profile::Fault;
use crate::setup::{SLACK, TIMING, setup};

/// A primary whose SVM has taken over and that may not know.
pub struct Zombie {
    pub node: Node,
    vm: Vm,
    monitor: Line<QemuEvent>,
    oracle: Oracle,
    capture: Capture,
    /// It has heard by then.
    knows_at: Ticks,
    /// It has ceded its lead.
    ceded: bool,
    uplink: Waiting,
}

impl World {
    /// The secondary goes on as a primary.
    pub(super) fn promote(&mut self) {
        let now = self.now;
        self.story.push(format!("{now:>7} takeover"));
        self.outcome.takeovers += 1;
        let setup = setup(self.boot, &self.profile);
        self.boot += 1;
        let fresh = Node::secondary(setup, self.owners.clone(), now);
        let standby = std::mem::replace(&mut self.secondary, fresh);
        self.outcome.backlog += standby.waiting_input() as u64;
        let node = std::mem::replace(&mut self.primary, standby);
        let next = self.oracle.after_takeover();
        let oracle = std::mem::replace(&mut self.oracle, next);
        self.outcome.spoken += oracle.spoken;
        self.capture.start();
        std::mem::swap(&mut self.to_primary, &mut self.to_secondary);
        let (vm, monitor) = self.qemu.promote();
        // A monitor that was cut stays its node's.
        for (_, fault) in &mut self.ends {
            if *fault == Fault::CutSecondaryMonitor {
                *fault = Fault::CutMonitor;
            }
        }
        let ceded = std::mem::take(&mut self.cession).written;
        self.zombie = self.primary_runs.then(|| Zombie {
            node,
            vm,
            monitor,
            oracle,
            capture: Capture::default(),
            ceded,
            knows_at: now.max(self.to_secondary.dead_until)
                + 2 * self.profile.link as Ticks
                + Ticks::from(self.to_secondary.loses_leads) * 2 * TIMING.retransmit
                + SLACK,
            uplink: Waiting::new(),
        });
        self.uplink = std::mem::take(&mut self.standby_uplink);
        self.moved = false;
        self.primary_runs = true;
        self.secondary_runs = false;
        self.judge.another();
    }

    pub(super) fn poll_zombie(&mut self) {
        let now = self.now;
        let Some(zombie) = &mut self.zombie else {
            return;
        };
        zombie.vm.step(now);
        let site = Site {
            machine: Machine::Zombie(&mut zombie.vm, &mut zombie.monitor),
            from_link: &mut self.to_secondary,
            to_link: &mut self.to_primary,
            uplink: &mut zombie.uplink,
            oracle: &mut zombie.oracle,
            capture: Some(&mut zombie.capture),
            rng: &mut self.rng,
            preempt: 0,
        };
        let sent = zombie.node.poll(site, now).sent;
        assert!(
            sent.is_empty() || now < zombie.knows_at && !zombie.ceded,
            "R6: the primary still speaks at {now}, {:?} {} {:?}",
            zombie.node.speaks().state(),
            zombie.node.speaks().epochs().is_superseded(),
            zombie.node.speaks().link().is_up(now)
        );
        for frame in sent {
            self.clients.hear(&frame, now);
        }
    }
}
