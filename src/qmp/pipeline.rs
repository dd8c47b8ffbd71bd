//! The commands of one connection that have no reply yet, in their order.
//!
//! In: commands, what the kernel took of their bytes, the ids of replies, times. Out: the bytes, and
//! which command a reply is of or is overdue. QEMU replies to what is in band in the order of the
//! commands, so the reply that may come is the oldest command's, and only once that was written. What is out of band
//! is executed as QEMU reads it, and its reply may come at any time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::command::Command;

/// Commands in band that QEMU may have while `oob` is enabled. It queues one more (QMP_REQ_QUEUE_LEN_MAX), but stops to
/// read then, and what is out of band would not reach it.
const IN_BAND_MAX: usize = 7;

#[derive(Debug)]
struct Pending {
    id: u64,
    command: Command,
    /// Its line, until that is put into `output`.
    waiting: Option<String>,
    /// Bytes of `output` up to and including this command's last.
    unwritten: usize,
    deadline: Instant,
}

impl Pending {
    fn is_written(&self) -> bool {
        self.waiting.is_none() && self.unwritten == 0
    }
}

/// What was said to a monitor and awaits its reply.
#[derive(Debug)]
pub(super) struct Pipeline {
    reply_timeout: Duration,
    output: Vec<u8>,
    /// Commands in band without a reply, oldest first.
    pending: VecDeque<Pending>,
    /// Commands out of band without a reply.
    aside: Vec<Pending>,
    /// How many of `pending` QEMU may have.
    window: usize,
    next_id: u64,
}

impl Pipeline {
    /// Ids count up from `first_id`.
    pub(super) fn new(reply_timeout: Duration, first_id: u64) -> Self {
        Self {
            reply_timeout,
            output: Vec::new(),
            pending: VecDeque::new(),
            aside: Vec::new(),
            window: usize::MAX,
            next_id: first_id,
        }
    }

    /// From now on QEMU can always take a command out of band.
    pub(super) fn keep_room(&mut self) {
        self.window = IN_BAND_MAX;
    }

    /// Puts a command behind the others. `arguments` may be null: none.
    pub(super) fn send(&mut self, command: Command, arguments: Value, now: Instant) {
        let pending = self.prepare("execute", command, arguments, now);
        self.pending.push_back(pending);
        self.fill_window();
    }

    /// Puts a command out of band before those that wait for others' replies.
    pub(super) fn send_aside(&mut self, command: Command, arguments: Value, now: Instant) {
        let mut pending = self.prepare("exec-oob", command, arguments, now);
        put(&mut self.output, &mut pending);
        self.aside.push(pending);
    }

    fn prepare(&mut self, verb: &str, command: Command, arguments: Value, now: Instant) -> Pending {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = json!({ verb: command.name(), "id": id });
        if !arguments.is_null() {
            line["arguments"] = arguments;
        }
        Pending {
            id,
            command,
            waiting: Some(line.to_string()),
            unwritten: 0,
            deadline: now + self.reply_timeout,
        }
    }

    fn fill_window(&mut self) {
        for pending in self.pending.iter_mut().take(self.window) {
            put(&mut self.output, pending);
        }
    }

    /// What waits to be written.
    pub(super) fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` bytes of [`Pipeline::output`] were handed to the kernel. Returns the
    /// commands whose last byte is among them.
    pub(super) fn written(&mut self, count: usize) -> impl Iterator<Item = Command> {
        let count = count.min(self.output.len());
        self.output.drain(..count);
        self.pending
            .iter_mut()
            .chain(&mut self.aside)
            .filter(|one| one.unwritten > 0)
            .filter_map(move |one| {
                one.unwritten = one.unwritten.saturating_sub(count);
                (one.unwritten == 0).then_some(one.command)
            })
    }

    /// Commands in band without a reply, oldest first.
    pub(super) fn pending(&self) -> impl Iterator<Item = Command> {
        self.pending.iter().map(|one| one.command)
    }

    /// Commands out of band without a reply.
    pub(super) fn aside(&self) -> impl Iterator<Item = Command> {
        self.aside.iter().map(|one| one.command)
    }

    /// When the next reply is overdue.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let aside = self.aside.iter().map(|one| one.deadline);
        aside
            .chain(self.pending.front().map(|first| first.deadline))
            .min()
    }

    /// The command in band whose reply is overdue.
    pub(super) fn overdue(&self, now: Instant) -> Option<Command> {
        let first = self.pending.front()?;
        (first.deadline <= now).then_some(first.command)
    }

    /// A command out of band whose reply is overdue.
    pub(super) fn overdue_aside(&self, now: Instant) -> Option<Command> {
        let late = self.aside.iter().find(|one| one.deadline <= now)?;
        Some(late.command)
    }

    /// Gives up the oldest command in band.
    pub(super) fn give_up(&mut self) {
        self.pending.pop_front();
    }

    /// Gives all commands in band time anew.
    pub(super) fn wait_on(&mut self, now: Instant) {
        for one in &mut self.pending {
            one.deadline = now + self.reply_timeout;
        }
    }

    /// The command that a reply of this id is of; `None` if that reply is not due.
    pub(super) fn take_replied(&mut self, id: Option<u64>) -> Option<Command> {
        let id = id?;
        if let Some(at) = self.aside.iter().position(|one| one.id == id) {
            let due = self.aside[at].is_written();
            return due.then(|| self.aside.swap_remove(at).command);
        }
        let first = self.pending.front()?;
        let due = id == first.id && first.is_written();
        let replied = due.then(|| self.pending.pop_front())?;
        self.fill_window();
        replied.map(|one| one.command)
    }

    /// The id that comes after all that were used.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }
}

fn put(output: &mut Vec<u8>, pending: &mut Pending) {
    if let Some(line) = pending.waiting.take() {
        output.extend_from_slice(line.as_bytes());
        output.push(b'\n');
        pending.unwritten = output.len();
    }
}
