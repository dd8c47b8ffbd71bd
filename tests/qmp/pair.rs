//! A session and a scripted monitor that talk without sockets.

use std::time::{Duration, Instant};

use colo_testkit::qmp::Monitor;
use dpdk_colo::qmp::{Event, Probe, QemuTime, Session, Stamp, Timing};

/// The times that sessions keep here.
pub const TIMING: Timing = Timing {
    reply_timeout: Duration::from_secs(10),
    refresh_interval: Duration::from_secs(2),
};

/// A session with its monitor, and the time that both live in.
pub struct Pair {
    pub session: Session,
    pub monitor: Monitor,
    pub now: Instant,
}

impl Pair {
    pub fn new(monitor: Monitor) -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(TIMING, 1, now),
            monitor,
            now,
        }
    }

    pub fn connected(monitor: Monitor) -> (Self, Probe) {
        let mut pair = Self::new(monitor);
        let greeting = pair.monitor.greeting();
        pair.say(&greeting);
        pair.talk();
        match &pair.events()[..] {
            [Event::Connected(probe)] => {
                let probe = probe.as_ref().clone();
                (pair, probe)
            }
            events => panic!("not connected: {events:?}"),
        }
    }

    pub fn say(&mut self, text: &str) {
        self.session
            .receive(text.as_bytes(), self.now)
            .expect("the session goes on");
    }

    /// Commands that wait, as lines, handed to the kernel as a whole.
    pub fn commands(&mut self) -> Vec<String> {
        let text = String::from_utf8(self.session.output().to_vec()).expect("JSON is UTF-8");
        self.session.written(text.len(), self.now);
        text.lines().map(Into::into).collect()
    }

    /// Lets the monitor reply until nothing is left to reply to.
    pub fn talk(&mut self) {
        loop {
            let commands = self.commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                let reply = self.monitor.reply(&command);
                self.say(&reply);
            }
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now).expect("nothing is overdue");
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.next_event()).collect()
    }

    pub fn stamp(&self) -> Stamp {
        Stamp {
            read: self.now,
            qemu: Some(QemuTime {
                seconds: 1_700_000_000,
                microseconds: 42,
            }),
        }
    }
}
