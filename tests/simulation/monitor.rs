//! A QMP connection: events come late but in order, and are lost while it is cut.

use std::collections::VecDeque;

use colo_testkit::rng::Rng;
use dpdk_colo::frame::Ticks;

pub struct Line<E> {
    pub up: bool,
    queue: VecDeque<(Ticks, E)>,
    last: Ticks,
    /// Longest delay of an event.
    pub delay: usize,
    rng: Rng,
}

impl<E> Line<E> {
    pub fn new(seed: u64, delay: usize) -> Self {
        Self {
            up: false,
            queue: VecDeque::new(),
            last: 0,
            delay,
            rng: Rng::new(seed),
        }
    }

    /// QEMU says something.
    pub fn emit(&mut self, event: E, now: Ticks) {
        if self.up {
            self.last = self.last.max(now + self.rng.below(self.delay) as Ticks);
            self.queue.push_back((self.last, event));
        }
    }

    /// The connection breaks: what is under way is lost, and the node notices at once.
    pub fn cut(&mut self, notice: E, now: Ticks) {
        if self.up {
            self.up = false;
            self.queue.clear();
            self.last = now;
            self.queue.push_back((now, notice));
        }
    }

    /// Nobody is there to read.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// The node's own thread sends it something, connected or not.
    pub fn notice(&mut self, event: E, now: Ticks) {
        self.last = self.last.max(now);
        self.queue.push_back((self.last, event));
    }

    /// The connection is there again; `answer` is what QEMU says of its state now.
    pub fn connect(&mut self, answer: E, now: Ticks) {
        self.up = true;
        self.emit(answer, now);
    }

    pub fn next(&mut self, now: Ticks) -> Option<E> {
        let due = self.queue.front().is_some_and(|(at, _)| *at <= now);
        if due {
            self.queue.pop_front().map(|(_, event)| event)
        } else {
            None
        }
    }
}
