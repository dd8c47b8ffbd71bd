//! The end of a protection as planned: the steps of both control threads, words between them that are lost, and nodes
//! that are started again in between.

use dpdk_colo::control::{AloneStep, RenounceStep, Renunciation, Unprotect};
use dpdk_colo::frame::Ticks;
use dpdk_colo::pair::ToPoll;
use dpdk_colo::protect::CessionNews;

use super::World;
use crate::profile::Fault;
use crate::setup::MS;

/// A second of the control threads lasts so long here.
const SECOND: Ticks = 20 * MS;

/// A word from one control thread to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Renounce,
    Renounced,
    GoesOnAlone,
    Ended,
    Refused,
}

/// What the control threads know, and the secondary's file.
#[derive(Default)]
pub struct Ending {
    unprotect: Option<Unprotect>,
    renunciation: Option<Renunciation>,
    /// The file is there: the SVM never leads.
    pub written: bool,
    words: Vec<(Ticks, Word)>,
}

impl Ending {
    /// What the secondary's poll core wants has no effect any more.
    pub fn is_renounced(&self) -> bool {
        self.renunciation
            .as_ref()
            .is_some_and(Renunciation::is_said)
    }

    /// An order is under way, or its outcome is not forgotten.
    pub fn is_under_way(&self) -> bool {
        self.unprotect.is_some() || self.renunciation.is_some()
    }
}

impl World {
    fn seconds(&self) -> u64 {
        self.now * 1_000 / SECOND
    }

    /// The order, where the control threads would not refuse it.
    pub(super) fn begin_unprotection(&mut self) {
        let able = !self.ending.is_under_way()
            && self.cession.is_idle()
            && self.primary_runs
            && self.secondary_runs
            && self.zombie.is_none()
            && self.deaths.enter.is_none()
            && self.deaths.decide.is_none()
            && self.qemu.colo
            && self.qemu.primary.up;
        if able {
            self.ending.unprotect = Some(Unprotect::new(self.seconds()));
        }
    }

    /// A word leaves. The session that it is said in may end first, and nobody repeats it then.
    fn say(&mut self, word: Word) {
        let now = self.now;
        let dead = self.to_primary.dead_until.max(self.to_secondary.dead_until) > now;
        let lossy = self.to_primary.loss > 0 && self.rng.one_in(2);
        if dead || lossy || self.rng.one_in(8) {
            return;
        }
        self.ending
            .words
            .push((now + 50 + self.rng.below(MS as usize) as Ticks, word));
    }

    pub(super) fn look_at_unprotection(&mut self) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.ending.words)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.ending.words = later;
        for (_, word) in due {
            self.hear_word(word);
        }
        let seconds = self.seconds();
        let renunciation = self.ending.renunciation.as_mut();
        let step = renunciation.and_then(|it| it.look(seconds));
        self.go_on_renouncing(step);
        let (colo, up) = (self.qemu.colo, self.qemu.primary.up);
        let unprotect = self.ending.unprotect.as_mut();
        let step = unprotect.and_then(|it| it.look(colo, up, seconds));
        self.go_on_alone(step);
        let ended = self.ending.unprotect.as_mut();
        if ended.is_some_and(|it| it.take_outcome().is_some()) {
            self.ending.unprotect = None;
        }
    }

    fn hear_word(&mut self, word: Word) {
        let seconds = self.seconds();
        self.story.push(format!("{:>7} {word:?}", self.now));
        match word {
            Word::Renounce if self.ending.written => {
                let renunciation = &mut self.ending.renunciation;
                renunciation
                    .get_or_insert_with(Renunciation::left)
                    .asked_again();
            }
            Word::Renounce if self.ending.renunciation.is_none() && self.secondary_runs => {
                self.ending.renunciation = Some(Renunciation::new());
                self.secondary.tell(ToPoll::Renounce);
            }
            Word::Renounce => {}
            Word::Renounced if !self.qemu.primary.up || !self.primary_runs => {}
            Word::Renounced => {
                if self.ending.unprotect.is_none() {
                    if !self.qemu.colo {
                        return self.say(Word::GoesOnAlone);
                    }
                    self.ending.unprotect = Some(Unprotect::new(seconds));
                }
                let unprotect = self.ending.unprotect.as_mut();
                let step = unprotect.and_then(|it| match it.is_alone() {
                    true => Some(AloneStep::Tell),
                    false => it.answered(Ok(()), seconds),
                });
                self.go_on_alone(step);
            }
            Word::GoesOnAlone => {
                let lives = self.qemu.secondary.up;
                let renunciation = self.ending.renunciation.as_mut();
                let step = renunciation.and_then(|it| it.released(lives));
                self.go_on_renouncing(step);
            }
            Word::Ended => {
                if let Some(unprotect) = &mut self.ending.unprotect {
                    unprotect.peer_ended();
                }
            }
            Word::Refused => {
                if let Some(unprotect) = &mut self.ending.unprotect {
                    unprotect.answered(Err("no".to_owned()), seconds);
                }
            }
        }
    }

    fn go_on_alone(&mut self, step: Option<AloneStep>) {
        match step {
            None => {}
            Some(AloneStep::Ask) => self.say(Word::Renounce),
            Some(AloneStep::GoOn) => {
                assert!(
                    self.ending.written,
                    "R6: the primary goes on though the secondary may lead"
                );
                self.outcome.happened(Fault::Unprotect);
                self.primary.tell(ToPoll::PeerRenounced);
                self.oracle.alone = true;
            }
            Some(AloneStep::Detach) => {
                let seconds = self.seconds();
                let unprotect = self.ending.unprotect.as_mut();
                let step = unprotect.and_then(|it| it.detached(seconds));
                self.go_on_alone(step);
            }
            Some(AloneStep::Tell) => self.say(Word::GoesOnAlone),
        }
    }

    fn go_on_renouncing(&mut self, step: Option<RenounceStep>) {
        match step {
            None | Some(RenounceStep::Silence) => {}
            Some(RenounceStep::Write) => {
                let written = !self.rng.one_in(8);
                self.ending.written = written;
                let renunciation = self.ending.renunciation.as_mut();
                let step = renunciation.and_then(|it| it.written(written));
                self.go_on_renouncing(step);
            }
            Some(RenounceStep::TakeBack) => {
                self.ending.renunciation = None;
                self.secondary.tell(ToPoll::TakeBack);
                self.say(Word::Refused);
            }
            Some(RenounceStep::Say) => self.say(Word::Renounced),
            Some(RenounceStep::Refuse(_)) => {
                self.ending.renunciation = None;
                self.say(Word::Refused);
            }
            Some(RenounceStep::Quit) => {
                assert!(
                    !self.qemu.colo,
                    "the SVM's QEMU ends before the PVM goes on alone"
                );
                let renunciation = self.ending.renunciation.as_mut();
                let step = renunciation.and_then(Renunciation::monitor_gone);
                self.go_on_renouncing(step);
            }
            Some(RenounceStep::SayEnded) => self.say(Word::Ended),
        }
    }

    pub(super) fn renunciation_news(&mut self, news: CessionNews) {
        let done = match news {
            CessionNews::Renounced => true,
            CessionNews::IsChosen => false,
            _ => return,
        };
        let renunciation = self.ending.renunciation.as_mut();
        let step = renunciation.and_then(|it| it.silenced(done));
        self.go_on_renouncing(step);
    }

    /// The node that comes in the primary's place knows of no order.
    pub(super) fn primary_forgets_order(&mut self) {
        self.ending.unprotect = None;
    }

    /// The node that comes in the secondary's place reads the file.
    pub(super) fn secondary_reads_file(&mut self) {
        self.ending.renunciation = None;
        if self.ending.written {
            self.ending.renunciation = Some(Renunciation::left());
            self.secondary.tell(ToPoll::RenunciationIsWritten);
        }
    }
}
