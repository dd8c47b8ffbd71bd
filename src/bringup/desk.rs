//! Where a script waits: for QEMU's reply, for a message of the peer, for a time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use serde_json::Value;

use super::{Failure, Message, Output, Progress, Step};

/// A primary that works says so this often, in milliseconds.
const WORD: u64 = 3_000;
const LOST: &str = "its monitor was lost; see what QEMU wrote";

/// A script's view of the world; clones share it.
#[derive(Clone)]
pub(super) struct Desk(Arc<Mutex<State>>);

struct State {
    out: VecDeque<Output>,
    reply: Option<Result<Value, String>>,
    heard: VecDeque<Message>,
    begun: u64,
    now: u64,
    protected: bool,
    progress: Progress,
    /// How a failure names this QEMU: the secondary's is read at the primary.
    whose: &'static str,
    /// The monitor was lost. Another QEMU may answer next.
    lost: bool,
    /// The attempt at which the peer is to hear that work goes on, and when next.
    works: Option<(u32, u64)>,
}

impl Desk {
    pub(super) fn new(now: u64, whose: &'static str) -> Self {
        Self(Arc::new(Mutex::new(State {
            out: VecDeque::new(),
            reply: None,
            heard: VecDeque::new(),
            begun: now,
            now,
            protected: false,
            progress: Progress::default(),
            whose,
            lost: false,
            works: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reply(&self, reply: Result<Value, String>) {
        self.lock().reply = Some(reply);
    }

    pub(super) fn lose_monitor(&self) {
        let mut state = self.lock();
        state.lost = true;
        state.reply = Some(Err(LOST.to_owned()));
        state.out.retain(|it| matches!(it, Output::Tell(_)));
    }

    pub(super) fn hear(&self, message: Message) {
        self.lock().heard.push_back(message);
    }

    pub(super) fn look(&self, now: u64, protected: bool) {
        let mut state = self.lock();
        (state.now, state.protected) = (now, protected);
        if let Some((attempt, due)) = state.works
            && now >= due
        {
            state.works = Some((attempt, now + WORD));
            state
                .out
                .push_back(Output::Tell(Message::Works { attempt }));
        }
    }

    pub(super) fn next_output(&self) -> Option<Output> {
        self.lock().out.pop_front()
    }

    pub(super) fn progress(&self) -> Progress {
        self.lock().progress
    }
}

/// What a script does there.
impl Desk {
    /// Milliseconds since it began.
    pub(super) fn elapsed(&self) -> u64 {
        let state = self.lock();
        state.now.saturating_sub(state.begun)
    }

    /// A step begins.
    pub(super) fn begin(&self, step: Step) {
        self.lock().progress = Progress {
            step,
            done: 0,
            total: 0,
        };
    }

    /// The step has come so far.
    pub(super) fn copied(&self, done: u64, total: u64) {
        let progress = &mut self.lock().progress;
        (progress.done, progress.total) = (done, total);
    }

    /// From now on the peer hears now and then that this attempt goes on.
    pub(super) fn works(&self, attempt: u32) {
        let mut state = self.lock();
        state.works = Some((attempt, state.now + WORD));
    }

    /// It does not any more.
    pub(super) fn rests(&self) {
        self.lock().works = None;
    }

    pub(super) fn tell(&self, message: Message) {
        self.lock().out.push_back(Output::Tell(message));
    }

    /// QEMU's reply to a command.
    pub(super) async fn execute(
        &self,
        name: &'static str,
        arguments: Value,
    ) -> Result<Value, Failure> {
        {
            let mut state = self.lock();
            state.reply = state.lost.then(|| Err(LOST.to_owned()));
            if !state.lost {
                state.out.push_back(Output::Execute { name, arguments });
            }
        }
        let reply = poll_fn(|_| match self.lock().reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        });
        reply
            .await
            .map_err(|why| self.fault(&format!("{name}: {why}")))
    }

    /// What is wrong with this QEMU.
    pub(super) fn fault(&self, what: &str) -> Failure {
        Failure::new(format!("{}: {what}", self.lock().whose))
    }

    /// Whether the monitor was lost since the begin.
    ///
    /// # Errors
    /// It was.
    pub(super) fn check_monitor(&self) -> Result<(), Failure> {
        let lost = self.lock().lost;
        match lost {
            true => Err(self.fault(LOST)),
            false => Ok(()),
        }
    }

    /// QEMU's reply to a question.
    pub(super) async fn ask(&self, name: &'static str) -> Result<Value, Failure> {
        self.execute(name, Value::Null).await
    }

    /// What the peer says next; nothing if that takes longer than this.
    pub(super) async fn next_word(&self, limit_ms: u64) -> Option<Message> {
        let until = self.lock().now + limit_ms;
        poll_fn(|_| {
            let mut state = self.lock();
            match state.heard.pop_front() {
                Some(message) => Poll::Ready(Some(message)),
                None if state.now >= until => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// What the peer has said and nobody has read yet.
    pub(super) fn take_word(&self) -> Option<Message> {
        self.lock().heard.pop_front()
    }

    /// The peer's refusal, if it has come. Other words stay for who waits for them.
    pub(super) fn take_refusal(&self) -> Option<String> {
        let mut state = self.lock();
        let is_refusal = |word: &Message| matches!(word, Message::Refused { .. });
        let at = state.heard.iter().position(is_refusal)?;
        match state.heard.remove(at) {
            Some(Message::Refused { why, .. }) => Some(why),
            _ => None,
        }
    }

    /// Whether this node is protected.
    pub(super) fn is_protected(&self) -> bool {
        self.lock().protected
    }

    /// Waits for this time.
    pub(super) async fn pause(&self, ms: u64) {
        let until = self.lock().now + ms;
        poll_fn(|_| match self.lock().now >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}
