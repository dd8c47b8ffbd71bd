//! What the poll core is to hear and has no room for yet.
//!
//! A poll core that stands still takes nothing. What makes it grow is then left where it is: events in the monitor's
//! socket, and of the guest's port the last ones only.

use std::collections::VecDeque;

use rtrb::{Producer, PushError};

use crate::node::mailbox::ToPoll;

/// Messages that wait at most before nothing more is taken in. One event makes few of them, but for the offsets of a
/// node before this one, which are bounded by its tables.
const LIMIT: usize = 1024;

/// Messages in their order.
#[derive(Debug, Default)]
pub(crate) struct Backlog(VecDeque<ToPoll>);

impl Backlog {
    /// Whether nothing that makes messages is to be taken in.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= LIMIT
    }

    /// Takes a message, whether it is full or not: the poll core must get every message that was taken in.
    pub(crate) fn push(&mut self, message: ToPoll) {
        self.0.push_back(message);
    }

    /// Passes on what finds room.
    pub(crate) fn pass_on(&mut self, ring: &mut Producer<ToPoll>) {
        while let Some(message) = self.0.pop_front() {
            if let Err(PushError::Full(message)) = ring.push(message) {
                self.0.push_front(message);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rtrb::RingBuffer;

    use super::*;
    use crate::protect::QemuEvent;

    #[test]
    fn it_is_full_at_its_limit_and_keeps_the_order() {
        let (mut ring, mut core) = RingBuffer::new(2);
        let mut backlog = Backlog::default();
        let mut sent = 0;
        while !backlog.is_full() {
            sent += 1;
            backlog.push(ToPoll::Led { term: sent });
            backlog.pass_on(&mut ring);
        }
        assert_eq!(sent as usize, LIMIT + 2);
        backlog.push(ToPoll::Monitor(QemuEvent::Stop));
        for expected in 1..=sent {
            let Ok(ToPoll::Led { term }) = core.pop() else {
                panic!("a message is lost");
            };
            assert_eq!(term, expected);
            backlog.pass_on(&mut ring);
        }
        assert!(!backlog.is_full());
        assert!(matches!(core.pop(), Ok(ToPoll::Monitor(QemuEvent::Stop))));
    }
}
