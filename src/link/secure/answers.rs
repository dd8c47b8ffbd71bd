//! Which questions a guard answers: each answer costs a tag and a frame, and who has recorded questions can repeat
//! them.
//!
//! A question is known by its nonce, which is tagged together with its sender's address. Within a heartbeat's time each
//! is answered once, and a number of them at most; of those beyond, one that is drawn is the first of the next time.
//! So an honest question, which comes again each time, is answered sooner or later whatever else comes.

use super::wire::Nonce;
use crate::frame::Ticks;

/// Answers that one heartbeat's time has.
pub(super) const ANSWERS: usize = 16;

/// Who asks: its nonce, and where the answer goes.
pub(super) type Question = (Nonce, [u8; 6]);

/// The questions of one heartbeat's time.
#[derive(Default)]
pub(super) struct Answers {
    since: Ticks,
    /// In order of arrival.
    asked: [Option<Question>; ANSWERS],
    /// How many of these have been answered.
    answered: usize,
    /// How many came that found no place, and one of them.
    crowded: u32,
    later: Option<Question>,
}

impl Answers {
    /// Takes in a question. `draw` gives any number.
    pub(crate) fn ask(
        &mut self,
        question: Question,
        time: Ticks,
        now: Ticks,
        draw: impl FnOnce() -> u32,
    ) {
        self.turn(time, now);
        let question = Some(question);
        if self.asked.contains(&question) {
            return;
        }
        if let Some(free) = self.asked.iter_mut().find(|asked| asked.is_none()) {
            *free = question;
            return;
        }
        self.crowded = self.crowded.saturating_add(1);
        // Each of them is as likely to stay in the end.
        if draw().is_multiple_of(self.crowded) {
            self.later = question;
        }
    }

    /// Whether [`Answers::next`] has one.
    #[inline]
    pub(crate) fn is_due(&self, time: Ticks, now: Ticks) -> bool {
        self.waits() || self.later.is_some() && self.is_over(time, now)
    }

    /// The next question to answer.
    pub(crate) fn next(&mut self, time: Ticks, now: Ticks) -> Option<Question> {
        if !self.waits() {
            self.turn(time, now);
        }
        let question = *self.asked.get(self.answered)?;
        self.answered += usize::from(question.is_some());
        question
    }

    #[inline]
    fn waits(&self) -> bool {
        matches!(self.asked.get(self.answered), Some(Some(_)))
    }

    #[inline]
    fn is_over(&self, time: Ticks, now: Ticks) -> bool {
        now.saturating_sub(self.since) >= time
    }

    /// Begins the next heartbeat's time where this one is over and has answered all.
    fn turn(&mut self, time: Ticks, now: Ticks) {
        if self.is_over(time, now) && !self.waits() {
            let later = self.later;
            *self = Self {
                since: now,
                ..Self::default()
            };
            self.asked[0] = later;
        }
    }
}
