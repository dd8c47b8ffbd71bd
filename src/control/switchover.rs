//! A planned move of the lead, as the primary's control thread goes through it (`docs/switchover.md`).
//!
//! In: the other node's answer, what the poll core says of the cession, whether the file was written, the pair's state,
//! time in milliseconds. Out: the next thing to do, and in the end what came of it. Up to [`Next::Cede`] nothing has
//! changed and the order can be withdrawn; behind it only an operator's word takes the lead back (rule R6).

use crate::protect::{CessionNews, State};

/// The other node answers within this.
const ANSWER: u64 = 10_000;
/// A checkpoint that is under way ends within this, or the order fails.
const CHECKPOINT: u64 = 15_000;
/// The poll core falls silent within this longer: what is free to leave goes out of an uplink that takes frames.
const SILENCE: u64 = 10_000;
/// A QEMU that was given `quit` has ended by then.
const QUIT: u64 = 10_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Let the poll core fall silent, if the pair is protected.
    Cede,
    /// Write down that this node leads no more, and pass on what came of it.
    Write,
    /// Let the poll core notify the other node.
    Tell,
    /// Let the poll core go on as before: nobody has heard anything.
    TakeBack,
    /// End QEMU.
    Quit,
}

/// What came of it: whether the primary's QEMU has ended where the SVM leads, or why nothing has changed.
pub type Moved = Result<bool, String>;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The other node is asked whether its VM could lead.
    Asks,
    /// The pair has to be protected, and no checkpoint under way.
    Waits,
    /// The poll core falls silent.
    Silences,
    /// That is written down.
    Writes,
    /// The other node is to hear it.
    Notifies,
    /// The other node knows, and its QEMU is to go on.
    Succeeds,
    /// The SVM leads, and this QEMU is to end.
    Quits,
    Over,
}

/// A move that is under way.
#[derive(Debug)]
pub struct Switchover {
    stage: Stage,
    since: u64,
    outcome: Option<Moved>,
}

impl Switchover {
    /// The other node is asked now.
    pub fn new(now: u64) -> Self {
        Self::at(Stage::Asks, now)
    }

    /// The one that a node before this one has left: it has written down that it leads no more.
    pub fn left(now: u64) -> Self {
        Self::at(Stage::Notifies, now)
    }

    fn at(stage: Stage, now: u64) -> Self {
        Self {
            stage,
            since: now,
            outcome: None,
        }
    }

    fn go(&mut self, stage: Stage, now: u64) {
        (self.stage, self.since) = (stage, now);
    }

    fn end(&mut self, outcome: Moved) {
        self.stage = Stage::Over;
        self.outcome = Some(outcome);
    }

    /// What it waits for.
    pub fn waits_for(&self) -> &'static str {
        match self.stage {
            Stage::Asks => "the other node's word that its VM could lead",
            Stage::Waits => "the end of a checkpoint",
            Stage::Silences => "the poll core to fall silent",
            Stage::Writes => "the file that says that this node leads no more",
            Stage::Notifies => "the other node to hear that this one leads no more",
            Stage::Succeeds => "the other VM to lead",
            Stage::Quits | Stage::Over => "this QEMU to end",
        }
    }

    /// Whether nothing has changed yet, so that it can be withdrawn.
    pub fn is_harmless(&self) -> bool {
        matches!(self.stage, Stage::Asks | Stage::Waits)
    }

    /// What came of it, once.
    pub fn take_outcome(&mut self) -> Option<Moved> {
        self.outcome.take()
    }

    /// The other node's answer: its VM could lead, or why not.
    pub fn answered(&mut self, answer: Result<(), String>, now: u64) {
        if self.stage != Stage::Asks {
            return;
        }
        match answer {
            Ok(()) => self.go(Stage::Waits, now),
            Err(why) => self.end(Err(format!("the other node refuses: {why}"))),
        }
    }

    /// Time passes; `state`: the pair's, and `in_colo`: QEMU's.
    pub fn look(&mut self, state: State, in_colo: bool, now: u64) -> Option<Next> {
        let waited = now.saturating_sub(self.since);
        match self.stage {
            Stage::Asks if waited >= ANSWER => self.end(Err(format!(
                "the other node has not answered within {} s; see its log, and whether its release knows this order",
                ANSWER / 1000
            ))),
            Stage::Waits => match state {
                _ if !in_colo => self.end(Err("QEMU has left COLO meanwhile; see status".to_owned())),
                State::Protected => {
                    self.stage = Stage::Silences;
                    return Some(Next::Cede);
                }
                // A loss ends it at once. Any other state may be that of a moment ago, or of a checkpoint.
                state if state != State::PeerLost && waited < CHECKPOINT => {}
                state => self.end(Err(format!(
                    "the pair is not protected (state {}); see status",
                    state.word()
                ))),
            },
            // What is not written down can be taken back.
            Stage::Silences if waited >= CHECKPOINT + SILENCE => {
                self.end(Err(
                    "the uplink has not taken what was free to leave; see status, and the uplink's link".to_owned(),
                ));
                return Some(Next::TakeBack);
            }
            Stage::Quits if waited >= QUIT => self.end(Ok(false)),
            _ => {}
        }
        None
    }

    /// What the poll core says.
    pub fn news(&mut self, news: CessionNews, now: u64) -> Option<Next> {
        match (news, self.stage) {
            // A checkpoint has begun just before. Its time counts from the first look.
            (CessionNews::NotNow, Stage::Silences) => self.stage = Stage::Waits,
            (CessionNews::Silent, Stage::Silences) => {
                self.go(Stage::Writes, now);
                return Some(Next::Write);
            }
            (CessionNews::Heard, Stage::Notifies) => self.go(Stage::Succeeds, now),
            (CessionNews::Succeeded, Stage::Notifies | Stage::Succeeds) => {
                self.go(Stage::Quits, now);
                return Some(Next::Quit);
            }
            _ => {}
        }
        None
    }

    /// Whether it was written down.
    pub fn written(&mut self, written: Result<(), String>, now: u64) -> Option<Next> {
        if self.stage != Stage::Writes {
            return None;
        }
        match written {
            Ok(()) => {
                self.go(Stage::Notifies, now);
                Some(Next::Tell)
            }
            Err(why) => {
                self.end(Err(format!(
                    "it cannot be written down that this node leads no more ({why}), and nothing has changed; make room \
                     in EAL's runtime directory, or mend it"
                )));
                Some(Next::TakeBack)
            }
        }
    }

    /// QEMU's monitor answers again; `leads`: it is still the primary one of the pair.
    pub fn monitor_connected(&self, leads: bool) -> Option<Next> {
        // A node that was started again may hear that the SVM leads before its monitor answers.
        (self.stage == Stage::Quits && leads).then_some(Next::Quit)
    }

    /// QEMU's monitor has no connection.
    pub fn monitor_gone(&mut self) {
        match self.stage {
            Stage::Asks | Stage::Waits => {
                self.end(Err(
                    "QEMU's monitor was lost meanwhile; see status".to_owned()
                ));
            }
            Stage::Quits => self.end(Ok(true)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CESSION: [CessionNews; 4] = [
        CessionNews::NotNow,
        CessionNews::Silent,
        CessionNews::Heard,
        CessionNews::Succeeded,
    ];

    /// One that the other node has agreed to.
    fn agreed() -> Switchover {
        let mut it = Switchover::new(0);
        assert!(it.is_harmless());
        it.answered(Ok(()), 5);
        it
    }

    /// One whose poll core is to fall silent.
    fn silences() -> Switchover {
        let mut it = agreed();
        assert_eq!(it.look(State::Protected, true, 6), Some(Next::Cede));
        it
    }

    #[test]
    fn each_step_waits_for_the_one_before() {
        let mut it = Switchover::new(0);
        for news in CESSION {
            assert_eq!(it.news(news, 1), None);
        }
        assert_eq!(
            it.look(State::Protected, true, 2),
            None,
            "nobody has agreed"
        );
        it.answered(Ok(()), 5);
        for state in [State::Pairing, State::Uncertain, State::Checkpointing] {
            assert_eq!(it.look(state, true, 6), None);
            assert_eq!(it.take_outcome(), None);
        }
        assert_eq!(it.look(State::Protected, true, 7), Some(Next::Cede));
        assert!(!it.is_harmless());
        assert_eq!(it.look(State::PeerLost, true, 8), None);
        assert_eq!(it.news(CessionNews::Heard, 9), None, "nobody has heard");
        assert_eq!(it.news(CessionNews::Silent, 9), Some(Next::Write));
        assert_eq!(
            it.news(CessionNews::Succeeded, 9),
            None,
            "it is not written"
        );
        assert_eq!(it.written(Ok(()), 10), Some(Next::Tell));
        assert_eq!(it.news(CessionNews::Heard, 11), None);
        assert_eq!(it.take_outcome(), None);
        assert_eq!(it.news(CessionNews::Succeeded, 12), Some(Next::Quit));
        it.monitor_gone();
        assert_eq!(
            (it.take_outcome(), it.take_outcome()),
            (Some(Ok(true)), None)
        );
    }

    #[test]
    fn nothing_has_changed_where_the_other_node_or_the_state_forbids_it() {
        let ended = |mut it: Switchover, says: &str| {
            let Some(Err(why)) = it.take_outcome() else {
                panic!("it has not ended: {says}");
            };
            assert!(why.contains(says), "{why}");
            assert_eq!(it.look(State::Protected, true, 1 << 40), None);
        };
        let mut it = Switchover::new(0);
        assert_eq!(it.look(State::Protected, true, ANSWER - 1), None);
        assert_eq!(it.take_outcome(), None);
        it.look(State::Protected, true, ANSWER);
        ended(it, "has not answered");
        let mut it = Switchover::new(0);
        it.answered(Err("no".to_owned()), 1);
        ended(it, "refuses: no");
        let mut it = agreed();
        it.look(State::Protected, false, 6);
        ended(it, "left COLO");
        let mut it = agreed();
        it.look(State::PeerLost, true, 6);
        ended(it, "peer_lost");
        let mut it = agreed();
        assert_eq!(it.look(State::Checkpointing, true, 4 + CHECKPOINT), None);
        assert_eq!(it.take_outcome(), None);
        it.look(State::Checkpointing, true, 5 + CHECKPOINT);
        ended(it, "checkpointing");
        let mut it = agreed();
        it.monitor_gone();
        ended(it, "monitor was lost");
    }

    #[test]
    fn a_checkpoint_that_begins_just_then_is_waited_for() {
        let mut it = silences();
        assert_eq!(it.news(CessionNews::NotNow, 7), None);
        assert!(it.is_harmless());
        assert_eq!(it.look(State::Checkpointing, true, 8), None);
        assert_eq!(it.look(State::Protected, true, 9), Some(Next::Cede));
        assert_eq!(it.news(CessionNews::NotNow, 10), None);
        it.look(State::Checkpointing, true, 5 + CHECKPOINT);
        assert!(it.take_outcome().is_some(), "not for ever");
    }

    #[test]
    fn a_qemu_whose_monitor_answers_late_ends_and_no_other_one_does() {
        let mut it = Switchover::left(0);
        assert_eq!(
            it.monitor_connected(true),
            None,
            "nobody leads in its place"
        );
        assert_eq!(it.news(CessionNews::Succeeded, 1), Some(Next::Quit));
        assert_eq!(it.monitor_connected(false), None, "another one runs there");
        assert_eq!(it.monitor_connected(true), Some(Next::Quit));
        it.look(State::PeerLost, true, 1 + QUIT);
        assert_eq!(it.take_outcome(), Some(Ok(false)));
        assert_eq!(it.monitor_connected(true), None, "it is too late");
    }

    #[test]
    fn an_uplink_that_takes_nothing_is_not_waited_for_for_ever() {
        let mut it = silences();
        let late = 5 + CHECKPOINT + SILENCE;
        assert_eq!(it.look(State::PeerLost, true, late - 1), None);
        assert_eq!(it.look(State::PeerLost, true, late), Some(Next::TakeBack));
        assert!(it.take_outcome().is_some_and(|end| end.is_err()));
        assert_eq!(
            it.news(CessionNews::Silent, late + 1),
            None,
            "nothing is written"
        );
    }

    #[test]
    fn what_cannot_be_written_down_is_taken_back_and_nobody_hears_of_it() {
        let mut it = silences();
        it.news(CessionNews::Silent, 7);
        let next = it.written(Err("full".to_owned()), 8);
        assert_eq!(next, Some(Next::TakeBack));
        assert!(it.take_outcome().is_some_and(|end| end.is_err()));
        assert_eq!(it.written(Ok(()), 9), None);
    }

    #[test]
    fn what_is_ceded_stays_so_whatever_is_lost_until_the_other_one_leads() {
        for before in [true, false] {
            let mut it = match before {
                true => Switchover::left(0),
                false => {
                    let mut it = silences();
                    it.news(CessionNews::Silent, 7);
                    it.written(Ok(()), 8);
                    it
                }
            };
            it.monitor_gone();
            it.answered(Err("late".to_owned()), 9);
            for state in State::ALL {
                assert_eq!(it.look(state, false, 1 << 40), None);
            }
            assert_eq!(it.take_outcome(), None);
            // Its message may come before the acknowledgment does.
            assert_eq!(it.news(CessionNews::Succeeded, 1 << 41), Some(Next::Quit));
            assert_eq!(it.look(State::PeerLost, false, (1 << 41) + QUIT - 1), None);
            assert_eq!(it.take_outcome(), None);
            it.look(State::PeerLost, false, (1 << 41) + QUIT);
            assert_eq!(it.take_outcome(), Some(Ok(false)), "QEMU hangs");
        }
    }
}
