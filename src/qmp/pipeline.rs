//! The commands of one connection that have no reply yet, in their order.
//!
//! In: commands, what the kernel took of their bytes, the ids of replies, times. Out: the bytes, and
//! which command a reply is of or is overdue. Without `oob` QEMU replies in the order of the
//! commands, so the reply that may come is the oldest command's, and only once that was written.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::command::Command;

#[derive(Debug)]
struct Pending {
    id: u64,
    command: Command,
    /// Bytes of `output` up to and including this command's last.
    unwritten: usize,
    deadline: Instant,
}

/// What was said to a monitor and awaits its reply.
#[derive(Debug)]
pub struct Pipeline {
    reply_timeout: Duration,
    output: Vec<u8>,
    /// Commands without a reply, oldest first.
    pending: VecDeque<Pending>,
    next_id: u64,
}

impl Pipeline {
    /// Ids count up from `first_id`.
    pub fn new(reply_timeout: Duration, first_id: u64) -> Self {
        Self {
            reply_timeout,
            output: Vec::new(),
            pending: VecDeque::new(),
            next_id: first_id,
        }
    }

    /// Puts a command behind the others. `arguments` may be null: none.
    pub fn send(&mut self, command: Command, arguments: Value, now: Instant) {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = json!({ "execute": command.name(), "id": id });
        if !arguments.is_null() {
            line["arguments"] = arguments;
        }
        self.output.extend_from_slice(line.to_string().as_bytes());
        self.output.push(b'\n');
        self.pending.push_back(Pending {
            id,
            command,
            unwritten: self.output.len(),
            deadline: now + self.reply_timeout,
        });
    }

    /// What waits to be written.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` bytes of [`Pipeline::output`] were handed to the kernel. Gives back the
    /// commands whose last byte is among them.
    pub fn written(&mut self, count: usize) -> impl Iterator<Item = Command> {
        let count = count.min(self.output.len());
        self.output.drain(..count);
        self.pending
            .iter_mut()
            .filter(|one| one.unwritten > 0)
            .filter_map(move |one| {
                one.unwritten = one.unwritten.saturating_sub(count);
                (one.unwritten == 0).then_some(one.command)
            })
    }

    /// Commands without a reply, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = Command> {
        self.pending.iter().map(|one| one.command)
    }

    /// When the next reply is overdue.
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.front().map(|first| first.deadline)
    }

    /// The command whose reply is overdue, which is given up.
    pub fn take_overdue(&mut self, now: Instant) -> Option<Command> {
        let overdue = self.pending.front()?.deadline <= now;
        overdue
            .then(|| self.pending.pop_front())?
            .map(|one| one.command)
    }

    /// The command that a reply of this id is of; `None` if that reply is not due.
    pub fn take_replied(&mut self, id: Option<u64>) -> Option<Command> {
        let first = self.pending.front()?;
        let due = id == Some(first.id) && first.unwritten == 0;
        due.then(|| self.pending.pop_front())?
            .map(|one| one.command)
    }

    /// The id that comes after all that were used.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }
}
