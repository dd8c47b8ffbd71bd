//! The secondary goes on as a primary, beside an old one that may not know (rule R6).

use std::collections::VecDeque;

use dpdk_colo::frame::Ticks;
use dpdk_colo::protect::Monitor;

use super::World;
use crate::guest::Vm;
use crate::log::Capture;
use crate::monitor::Line;
use crate::nodes::{PrimaryNode, PrimaryPorts, SecondaryNode};
use crate::oracle::Oracle;
use crate::setup::{SLACK, setup};

/// A primary whose SVM has taken over and that may not know.
pub struct Zombie {
    pub node: PrimaryNode,
    vm: Vm,
    monitor: Line<Monitor>,
    oracle: Oracle,
    capture: Capture,
    /// It has heard by then.
    knows_at: Ticks,
    uplink: VecDeque<Vec<u8>>,
}

impl World {
    /// The secondary goes on as a primary.
    pub(super) fn promote(&mut self) {
        let now = self.now;
        self.story.push(format!("{now:>7} takeover"));
        self.takeovers += 1;
        let mut next = |failover| {
            self.boot += 1;
            setup(self.boot, failover)
        };
        let failover = self.profile.failover;
        let fresh = SecondaryNode::new(next(failover), self.owners.clone(), now);
        let old = std::mem::replace(&mut self.secondary, fresh);
        let heir = PrimaryNode::heir(next(failover), old, &self.oracle, now);
        self.boot += 1;
        let node = std::mem::replace(&mut self.primary, heir);
        let oracle = std::mem::take(&mut self.oracle);
        self.oracle.translates = true;
        std::mem::swap(&mut self.to_primary, &mut self.to_secondary);
        let (vm, monitor) = self.qemu.promote();
        self.zombie = self.primary_runs.then(|| Zombie {
            node,
            vm,
            monitor,
            oracle,
            capture: Capture::default(),
            knows_at: now.max(self.to_secondary.dead_until)
                + 2 * self.profile.link as Ticks
                + SLACK,
            uplink: VecDeque::new(),
        });
        self.uplink.clear();
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
        let sent = zombie.node.poll(
            &mut PrimaryPorts {
                vm: &mut zombie.vm,
                from_link: &mut self.to_secondary,
                to_link: &mut self.to_primary,
                uplink: &mut zombie.uplink,
                mail: &mut || zombie.monitor.next(now),
                oracle: &mut zombie.oracle,
                capture: &mut zombie.capture,
            },
            now,
        );
        zombie.node.tick(now);
        zombie.node.state.next_action(now);
        assert!(
            sent.is_empty() || now < zombie.knows_at,
            "R6: the primary still speaks at {now}, {:?} {} {:?}",
            zombie.node.state.state(),
            zombie.node.state.is_superseded(),
            zombie.node.state.link().is_up(now)
        );
        for frame in sent {
            self.clients.hear(&frame, now);
        }
    }
}
