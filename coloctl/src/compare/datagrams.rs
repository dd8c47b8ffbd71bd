//! Datagrams on both sides of a checkpoint: which of S's belong to one of P's that has left already.

use std::collections::{HashMap, HashSet};

use dpdk_colo::Ticks;
use dpdk_colo::flow::FlowKey;
use dpdk_colo::packet::Kind;

use super::traffic::{Sent, Traffic};

/// A datagram's flow and what it says.
type Message = (FlowKey, u64);

fn message(sent: &Sent) -> Message {
    (sent.packet.key, sent.digest())
}

/// Those that have met no equal one yet.
#[derive(Clone, Debug, Default)]
struct Waiting {
    p: usize,
    /// S by their places.
    s: Vec<usize>,
}

/// All datagrams of both.
#[derive(Debug)]
pub struct Datagrams {
    timeout: Ticks,
    /// When P sends each message.
    times: HashMap<Message, Vec<Ticks>>,
    waiting: HashMap<Message, Waiting>,
    /// P that have left without an equal S, by when theirs are not waited for any more.
    late: HashMap<Message, Vec<Ticks>>,
}

impl Datagrams {
    /// None was sent yet.
    pub fn new(traffic: &Traffic, timeout: Ticks) -> Self {
        let mut times: HashMap<_, Vec<_>> = HashMap::new();
        for sent in traffic
            .p
            .iter()
            .filter(|sent| sent.packet.kind != Kind::Tcp)
        {
            times.entry(message(sent)).or_default().push(sent.at);
        }
        Self {
            timeout,
            times,
            waiting: HashMap::new(),
            late: HashMap::new(),
        }
    }

    /// A P comes.
    pub fn primary(&mut self, sent: &Sent) {
        let key = message(sent);
        let waiting = self.waiting.entry(key).or_default();
        match waiting.s.is_empty() {
            true => waiting.p += 1,
            false => {
                waiting.s.remove(0);
            }
        }
        self.forget(&key);
    }

    /// An S comes. False if it is the counterpart of a P that has left by a checkpoint.
    pub fn secondary(&mut self, place: usize, sent: &Sent) -> bool {
        let key = message(sent);
        if let Some(late) = self.late.get_mut(&key) {
            late.retain(|until| *until >= sent.at);
            if !late.is_empty() {
                late.remove(0);
                return false;
            }
        }
        self.bring_again(place, sent);
        true
    }

    /// An S comes that counts.
    pub fn bring_again(&mut self, place: usize, sent: &Sent) {
        let key = message(sent);
        let waiting = self.waiting.entry(key).or_default();
        match waiting.p {
            0 => waiting.s.push(place),
            _ => waiting.p -= 1,
        }
        self.forget(&key);
    }

    fn forget(&mut self, key: &Message) {
        let is_empty = |waiting: &Waiting| waiting.p == 0 && waiting.s.is_empty();
        if self.waiting.get(key).is_some_and(is_empty) {
            self.waiting.remove(key);
        }
    }

    /// All P leave. Out come the S that P sends the same as within the timeout: they still count.
    pub fn commit(&mut self, at: Ticks) -> HashSet<usize> {
        let mut early = HashSet::new();
        for (key, waiting) in self.waiting.drain() {
            let until = at.saturating_add(self.timeout);
            if waiting.p > 0 {
                let late = self.late.entry(key).or_default();
                late.extend((0..waiting.p).map(|_| until));
            }
            let times = self.times.get(&key).map_or(&[][..], Vec::as_slice);
            let first = times.partition_point(|time| *time <= at);
            let soon = times[first..].iter().take_while(|time| **time <= until);
            early.extend(waiting.s.into_iter().take(soon.count()));
        }
        early
    }
}
