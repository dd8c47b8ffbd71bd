//! What the targets of both roles have in common: the other node's end of the link, and what may happen to either node.

use std::collections::VecDeque;

use dpdk_colo::link::{Endpoint, Event, Message};
use dpdk_colo::pair::ToPoll;
use dpdk_colo::protect::{Action, Migration, QemuEvent};

use super::node::{Mock, looks, peer};
use colo_testkit::rng::Rng;

/// The node's ports and the other node, as far as the link shows it.
pub struct Surroundings {
    pub mock: Mock,
    pub peer: Endpoint,
    sealed: bool,
    boots: u32,
    to_node: VecDeque<Vec<u8>>,
    /// Restarts of this node that were announced, that the peer has heard of, and of which the node knows that.
    announced: usize,
    heard: usize,
    acknowledged: usize,
}

impl Surroundings {
    /// A peer with this boot number; those that it has later follow on `boots`.
    pub fn new(boot: u32, boots: u32, sealed: bool) -> Self {
        let mut mock = Mock::new();
        let mut peer = peer(boot, sealed, 0);
        mock.begin_session(&mut peer, sealed);
        Self {
            mock,
            peer,
            sealed,
            boots,
            to_node: VecDeque::new(),
            announced: 0,
            heard: 0,
            acknowledged: 0,
        }
    }

    /// The peer starts again; what it had said is not there any more.
    fn restart_peer(&mut self) {
        self.boots += 1;
        self.peer = peer(self.boots, self.sealed, self.mock.now);
        self.begin_session();
        self.to_node.clear();
    }

    /// The guards begin anew; what is under way is of the session before.
    fn begin_session(&mut self) {
        self.mock.begin_session(&mut self.peer, self.sealed);
    }

    /// The peer's messages go on their way.
    fn speak(&mut self) {
        for _ in 0..16 {
            let Some(frame) = self.peer.next_transmit(self.mock.now) else {
                break;
            };
            self.to_node.push_back(frame.bytes().to_vec());
        }
    }

    /// Whether the last thing that the node wanted done was a fencing command.
    pub fn has_fenced(&self) -> bool {
        matches!(self.mock.actions.last(), Some(Action::Fence(_)))
    }

    /// The peer hears something.
    pub fn hear(&mut self, event: Event) {
        self.heard += usize::from(event == Event::Message(Message::Restarts));
    }

    /// The node knows that the peer has heard of its restart.
    pub fn restart_acknowledged(&mut self) {
        self.acknowledged += 1;
        assert!(self.acknowledged <= self.announced.min(self.heard));
    }
}

/// A node of either role in its surroundings.
pub trait Story {
    fn around(&mut self) -> &mut Surroundings;

    /// The state of the VM's migration that the monitor has reported.
    fn migration(&self) -> Migration;

    /// The monitor reports something: what that means is written down before the node hears of it.
    fn tell(&mut self, event: QemuEvent);

    /// A frame of the link comes.
    fn deliver(&mut self, bytes: &[u8]);

    /// The peer is about to say this.
    fn says(&mut self, _message: Message) {}

    /// A fencing command is about to end so.
    fn fences(&mut self, _down: bool) {}

    fn tick(&mut self);

    fn round(&mut self);

    /// Both nodes come to know each other.
    fn meet(&mut self) {
        for _ in 0..4 {
            self.speak();
        }
    }

    fn say(&mut self, message: Message) {
        self.says(message);
        let _ = self.around().peer.send(message);
        self.around().speak();
    }

    fn speak(&mut self) {
        self.around().speak();
        self.deliver_all();
    }

    fn deliver_all(&mut self) {
        while let Some(frame) = self.around().to_node.pop_front() {
            self.deliver(&frame);
        }
        self.round();
    }

    /// The next frame that is under way comes, or is lost.
    fn next_frame(&mut self, comes: bool) {
        if let Some(frame) = self.around().to_node.pop_front()
            && comes
        {
            self.deliver(&frame);
        }
    }

    /// Time passes in which the node runs.
    fn pass_time(&mut self, rng: &mut Rng) {
        for ticks in looks([10, 60, 200, 1_100, 6_000][rng.below(5)]) {
            self.around().mock.now += ticks;
            self.tick();
        }
    }

    /// The ring runs, and the monitor has reported everything before; `right` if it has not stopped since.
    fn barrier(&mut self, right: bool) {
        let stops = self.around().mock.seen as u32;
        let migration = self.migration();
        self.tell(QemuEvent::Barrier {
            stops: if right { stops } else { stops.wrapping_sub(1) },
            migration,
            running: true,
        });
    }

    fn restart_peer(&mut self) {
        self.around().restart_peer();
    }

    /// A fencing command ends: the last one of the node's, or one of this number.
    fn fence(&mut self, last: bool, number: u32, down: bool) {
        let number = match self.around().mock.actions.last() {
            Some(Action::Fence(running)) if last => *running,
            _ => number,
        };
        let mail = &mut self.around().mock.mail;
        mail.push_back(ToPoll::Fenced { number, down });
        self.fences(down);
        self.round();
    }

    /// What delays a loss of the peer, or should not count as one.
    fn delay(&mut self, rng: &mut Rng) {
        match rng.below(5) {
            0 => {
                self.around().mock.mail.push_back(ToPoll::PeerStalls);
                self.round();
            }
            1 => {
                self.around().mock.mail.push_back(ToPoll::AnnounceRestart);
                self.around().announced += 1;
                self.round();
            }
            2 => {
                self.say(Message::Restarts);
                self.deliver_all();
            }
            3 => {
                // The node does not run.
                self.around().mock.now += 6_000;
                self.tick();
            }
            _ => {
                self.around().begin_session();
                self.round();
            }
        }
    }
}
