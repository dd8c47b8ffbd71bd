//! The bring-up of a pair: two QEMUs that run by themselves become one that COLO protects.
//!
//! In: replies of this node's QEMU, what the peer's control thread tells, whether the pair is protected, time in
//! milliseconds. Out: commands for QEMU, one at a time, words for the peer, how far it is, and in the end whether it
//! was done or what kept it from it. There is no socket, clock or thread here; `docs/protect.md` has the order.
//!
//! Each end is a script ([`primary`], [`secondary`]) that reads from top to bottom: an `async` function that waits at its
//! [`Desk`] for a reply, a word or a time. [`Bringup`] polls it once after each input.

#![warn(unreachable_pub)]

mod desk;
mod disks;
mod message;
mod primary;
mod release;
mod secondary;
mod standstill;
#[cfg(test)]
mod tests;
mod undo;

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use serde_json::Value;

use self::desk::Desk;
pub use self::message::Message;
pub use self::standstill::ContOwed;
use crate::qmp::Version;

/// Where a secondary's QEMU listens, for its primary's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// For the VM's state.
    pub migration: Option<SocketAddr>,
    /// For the writes to its disks.
    pub nbd: Option<SocketAddr>,
}

/// What a bring-up wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Let QEMU execute this, and pass its reply to [`Bringup::replied`].
    Execute {
        /// The command.
        name: &'static str,
        /// Its arguments; null: none.
        arguments: Value,
    },
    /// Tell the peer's control thread this.
    Tell(Message),
}

/// Which part of it is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// Reading what QEMU has and does.
    #[default]
    Looks,
    /// The peer's QEMU is made ready.
    Prepares,
    /// The disks are copied.
    CopiesDisks,
    /// RAM and devices are copied.
    MovesState,
    /// Both QEMUs are in COLO; the nodes are not protected yet.
    Settles,
    /// It has failed, and what was changed is changed back.
    Undoes,
}

impl Step {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Looks => "looks",
            Self::Prepares => "prepares",
            Self::CopiesDisks => "copies_disks",
            Self::MovesState => "moves_state",
            Self::Settles => "settles",
            Self::Undoes => "undoes",
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is done now.
    pub step: Step,
    /// Bytes that this step has copied.
    pub done: u64,
    /// Bytes that it has to copy in all, as far as is known; 0: it copies nothing.
    pub total: u64,
}

/// What kept a pair from being protected: what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// With its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same, with what could not be undone.
    fn and(self, more: &str) -> Self {
        Self(format!("{}; {more}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What has come of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Milliseconds from its begin.
    pub ms: u64,
    /// Bytes of the VM's state that were sent.
    pub transferred: u64,
    /// Disks that are replicated.
    pub disks: Vec<String>,
    /// Devices of the VM with a medium that is not replicated.
    pub others: Vec<String>,
}

type Task = Pin<Box<dyn Future<Output = Result<Outcome, Failure>> + Send>>;

/// One end of a bring-up.
pub struct Bringup {
    attempt: u32,
    desk: Desk,
    /// `None` once it has ended.
    task: Option<Task>,
    ended: Option<Result<Outcome, Failure>>,
}

impl Bringup {
    /// The end of the node whose VM runs. `attempt` is a number that no other attempt has.
    pub fn primary(attempt: u32, version: Version, now: u64) -> Self {
        let desk = Desk::new(now, "this node's QEMU");
        let task = Box::pin(primary::run(desk.clone(), attempt, version));
        Self::begin(attempt, desk, task)
    }

    /// The end of the node whose QEMU waits for a VM's state, for [`Message::Prepare`].
    pub fn secondary(
        prepare: &Message,
        addresses: Addresses,
        version: Version,
        now: u64,
    ) -> Option<Self> {
        let Message::Prepare {
            attempt,
            qemu,
            disks,
        } = prepare.clone()
        else {
            return None;
        };
        let desk = Desk::new(now, "its QEMU");
        let order = secondary::Order {
            attempt,
            qemu,
            disks,
            addresses,
            version,
        };
        let task = Box::pin(secondary::run(desk.clone(), order));
        Some(Self::begin(attempt, desk, task))
    }

    /// Takes what another secondary has left out of the disks of a VM that goes on alone.
    pub fn tidying(attempt: u32, now: u64) -> Self {
        let desk = Desk::new(now, "this node's QEMU");
        let task = Box::pin(primary::tidy(desk.clone()));
        Self::begin(attempt, desk, task)
    }

    fn begin(attempt: u32, desk: Desk, task: Task) -> Self {
        let mut bringup = Self {
            attempt,
            desk,
            task: Some(task),
            ended: None,
        };
        bringup.advance();
        bringup
    }

    /// Which attempt it is.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// QEMU's reply to the last command, or why there is none.
    pub fn replied(&mut self, reply: Result<Value, String>) {
        self.desk.reply(reply);
        self.advance();
    }

    /// The monitor is lost: QEMU has ended, or who answers next may be another one.
    pub fn lose_monitor(&mut self) {
        self.desk.lose_monitor();
        self.advance();
    }

    /// What the peer's control thread tells.
    pub fn hear(&mut self, message: Message) {
        if message.attempt() == self.attempt {
            self.desk.hear(message);
            self.advance();
        }
    }

    /// Time passes; `protected`: this node's state is that, and its QEMU is in COLO.
    pub fn look(&mut self, now: u64, protected: bool) {
        self.desk.look(now, protected);
        self.advance();
    }

    /// What it wants next.
    pub fn next_output(&mut self) -> Option<Output> {
        self.desk.next_output()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.desk.progress()
    }

    /// What has come of it, once, when it has ended.
    pub fn take_outcome(&mut self) -> Option<Result<Outcome, Failure>> {
        self.ended.take()
    }

    fn advance(&mut self) {
        let Some(task) = &mut self.task else {
            return;
        };
        // Nothing wakes it: it is polled after each input.
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(outcome) = task.as_mut().poll(&mut context) {
            self.task = None;
            self.ended = Some(outcome);
        }
    }
}
