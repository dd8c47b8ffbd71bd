//! The end of a protection as planned, as the two control threads go through it (`docs/unprotect.md`).
//!
//! [`Unprotect`] is the primary's end: in come the other node's words, whether QEMU has left COLO, time in milliseconds;
//! out come the next thing to do, and in the end what came of it. [`Renunciation`] is the secondary's: it goes to the
//! end that its VM never leads, writes that down before it says so, and lets its QEMU live until the primary's VM goes
//! on alone (rule R6).

/// Between two questions, and between two words of a renunciation that was not answered: either may be lost.
const AGAIN: u64 = 1_000;
/// The other node answers within this.
const ANSWER: u64 = 10_000;
/// A QEMU that was given `quit` has ended by then.
const QUIT: u64 = 10_000;

/// What the primary's node is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AloneStep {
    /// Ask the other node to give up its VM for good.
    Ask,
    /// Let the poll core take the other VM for certainly silent, and QEMU go on alone.
    GoOn,
    /// Take what was the other VM's out of the disks.
    Detach,
    /// Tell the other node that this VM goes on alone.
    Tell,
}

/// What came of it: whether the other QEMU has ended, or what kept it.
pub type Unprotected = Result<bool, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alone {
    /// The other node is asked.
    Asks,
    /// It has given up its VM, and QEMU is to leave COLO.
    GoesOn,
    /// The disks are tidied.
    Detaches,
    /// The other QEMU is to end.
    Ends,
    Over,
}

/// The primary's end.
#[derive(Debug)]
pub struct Unprotect {
    stage: Alone,
    since: u64,
    again: u64,
    outcome: Option<Unprotected>,
}

impl Unprotect {
    /// The other node is to be asked.
    pub fn new(now: u64) -> Self {
        Self {
            stage: Alone::Asks,
            since: now,
            again: now,
            outcome: None,
        }
    }

    /// What it waits for.
    pub fn waits_for(&self) -> &'static str {
        match self.stage {
            Alone::Asks => "the other node's word that its VM never leads",
            Alone::GoesOn => "QEMU to leave COLO",
            Alone::Detaches => "QEMU to take the other image out of its disks",
            Alone::Ends | Alone::Over => "the other QEMU to end",
        }
    }

    /// What came of it, once.
    pub fn take_outcome(&mut self) -> Option<Unprotected> {
        self.outcome.take()
    }

    fn end(&mut self, outcome: Unprotected) {
        self.stage = Alone::Over;
        self.outcome = Some(outcome);
    }

    /// The other node has given up its VM for good, or refuses to.
    pub fn answered(&mut self, answer: Result<(), String>, now: u64) -> Option<AloneStep> {
        if self.stage != Alone::Asks {
            return None;
        }
        match answer {
            Ok(()) => {
                (self.stage, self.since) = (Alone::GoesOn, now);
                Some(AloneStep::GoOn)
            }
            Err(why) => {
                self.end(Err(format!("the other node refuses: {why}")));
                None
            }
        }
    }

    /// Time passes; `in_colo`: QEMU is, and `answers`: its monitor does.
    pub fn look(&mut self, in_colo: bool, answers: bool, now: u64) -> Option<AloneStep> {
        match self.stage {
            Alone::Asks if now.saturating_sub(self.since) >= ANSWER => self.end(Err(format!(
                "the other node has not answered within {} s: see its status and log, and whether its release knows this \
                 order. If it gives up its VM after all, this one goes on alone",
                ANSWER / 1000
            ))),
            Alone::Asks if now >= self.again => {
                self.again = now + AGAIN;
                return Some(AloneStep::Ask);
            }
            Alone::GoesOn if answers && !in_colo => {
                self.stage = Alone::Detaches;
                return Some(AloneStep::Detach);
            }
            Alone::Ends if now.saturating_sub(self.since) >= QUIT => self.end(Ok(false)),
            _ => {}
        }
        None
    }

    /// The disks are tidied, as far as QEMU could. The next protection does the rest.
    pub fn detached(&mut self, now: u64) -> Option<AloneStep> {
        if self.stage != Alone::Detaches {
            return None;
        }
        (self.stage, self.since) = (Alone::Ends, now);
        Some(AloneStep::Tell)
    }

    /// Whether the other node may hear that this VM goes on alone.
    pub fn is_alone(&self) -> bool {
        matches!(self.stage, Alone::Ends | Alone::Over)
    }

    /// The other QEMU has ended.
    pub fn peer_ended(&mut self) {
        if self.stage == Alone::Ends {
            self.end(Ok(true));
        }
    }
}

/// What the secondary's node is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenounceStep {
    /// Let the poll core see to it that the VM never leads, unless it is chosen already.
    Silence,
    /// Write that down, and pass on what came of it.
    Write,
    /// Let the poll core go on as before: nobody has heard anything.
    TakeBack,
    /// Tell the primary's node.
    Say,
    /// Tell it why not.
    Refuse(&'static str),
    /// End QEMU.
    Quit,
    /// Tell the primary's node that QEMU has ended.
    SayEnded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renounces {
    Silences,
    Writes,
    /// The primary is to hear it, and to answer that its VM goes on alone.
    Says,
    /// QEMU is to end.
    Quits,
    Over,
}

/// The secondary's end.
#[derive(Debug)]
pub struct Renunciation {
    stage: Renounces,
    again: u64,
}

impl Renunciation {
    /// The primary's node asks for it. [`RenounceStep::Silence`] comes first.
    pub fn new() -> Self {
        Self {
            stage: Renounces::Silences,
            again: 0,
        }
    }

    /// The one that a node before this one has left: it is written down.
    pub fn left() -> Self {
        Self {
            stage: Renounces::Says,
            again: 0,
        }
    }

    /// Whether the primary's node may have heard of it.
    pub fn is_said(&self) -> bool {
        matches!(
            self.stage,
            Renounces::Says | Renounces::Quits | Renounces::Over
        )
    }

    /// Whether the primary's VM goes on alone.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Renounces::Quits | Renounces::Over)
    }

    /// The poll core keeps the VM from leading, or cannot any more.
    pub fn silenced(&mut self, done: bool) -> Option<RenounceStep> {
        if self.stage != Renounces::Silences {
            return None;
        }
        match done {
            true => {
                self.stage = Renounces::Writes;
                Some(RenounceStep::Write)
            }
            false => {
                self.stage = Renounces::Over;
                Some(RenounceStep::Refuse(
                    "its own VM goes on already; order it at the node whose VM leads",
                ))
            }
        }
    }

    /// Whether it was written down.
    pub fn written(&mut self, written: bool) -> Option<RenounceStep> {
        if self.stage != Renounces::Writes {
            return None;
        }
        self.stage = match written {
            true => Renounces::Says,
            false => Renounces::Over,
        };
        (!written).then_some(RenounceStep::TakeBack)
    }

    /// Time passes.
    pub fn look(&mut self, now: u64) -> Option<RenounceStep> {
        if self.stage != Renounces::Says || now < self.again {
            return None;
        }
        self.again = now + AGAIN;
        Some(RenounceStep::Say)
    }

    /// The primary's node asks once more.
    pub fn asked_again(&mut self) {
        self.again = 0;
    }

    /// The primary's VM goes on alone; `lives`: this node's QEMU still answers.
    pub fn released(&mut self, lives: bool) -> Option<RenounceStep> {
        match (self.stage, lives) {
            (Renounces::Says, true) => {
                self.stage = Renounces::Quits;
                Some(RenounceStep::Quit)
            }
            (Renounces::Says, false) => {
                self.stage = Renounces::Over;
                Some(RenounceStep::SayEnded)
            }
            _ => None,
        }
    }

    /// QEMU's monitor has no connection.
    pub fn monitor_gone(&mut self) -> Option<RenounceStep> {
        let quits = self.stage == Renounces::Quits;
        if quits {
            self.stage = Renounces::Over;
        }
        quits.then_some(RenounceStep::SayEnded)
    }
}

impl Default for Renunciation {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_asks_until_it_is_answered_and_tells_last() {
        let mut it = Unprotect::new(0);
        assert_eq!(it.look(true, true, 0), Some(AloneStep::Ask));
        assert_eq!(it.look(true, true, AGAIN - 1), None);
        assert_eq!(it.look(true, true, AGAIN), Some(AloneStep::Ask));
        assert_eq!(it.detached(1_001), None, "nobody has agreed");
        assert_eq!(it.answered(Ok(()), 1_002), Some(AloneStep::GoOn));
        assert_eq!(it.answered(Ok(()), 1_003), None, "once");
        assert_eq!(it.look(true, true, 1_004), None, "it is in COLO");
        assert_eq!(
            it.look(false, false, 1 << 40),
            None,
            "who knows what QEMU does"
        );
        assert!(!it.is_alone());
        assert_eq!(it.look(false, true, 1_005), Some(AloneStep::Detach));
        assert_eq!(it.look(false, true, 1_006), None);
        it.peer_ended();
        assert_eq!(it.take_outcome(), None, "it knows nothing of this one yet");
        assert_eq!(it.detached(1_007), Some(AloneStep::Tell));
        assert!(it.is_alone());
        it.peer_ended();
        assert_eq!(it.take_outcome(), Some(Ok(true)));
    }

    #[test]
    fn nothing_has_changed_where_the_other_node_refuses_or_says_nothing() {
        let mut it = Unprotect::new(0);
        assert_eq!(it.answered(Err("no".to_owned()), 1), None);
        let why = it
            .take_outcome()
            .expect("it has ended")
            .expect_err("failed");
        assert!(why.contains("refuses: no"), "{why}");
        let mut it = Unprotect::new(0);
        it.look(true, true, ANSWER);
        let why = it
            .take_outcome()
            .expect("it has ended")
            .expect_err("failed");
        assert!(why.contains("has not answered"), "{why}");
        assert_eq!(it.look(true, true, 1 << 40), None);
    }

    #[test]
    fn a_qemu_that_does_not_end_is_named() {
        let mut it = Unprotect::new(0);
        it.answered(Ok(()), 1);
        it.look(false, true, 2);
        it.detached(3);
        assert_eq!(it.look(false, true, 2 + QUIT), None);
        assert_eq!(it.take_outcome(), None);
        it.look(false, true, 3 + QUIT);
        assert_eq!(it.take_outcome(), Some(Ok(false)));
    }

    #[test]
    fn a_secondary_says_nothing_before_it_is_silent_and_that_is_written() {
        let mut it = Renunciation::new();
        assert_eq!(it.look(5), None);
        assert_eq!(it.written(true), None, "nothing is to be written yet");
        assert_eq!(it.silenced(true), Some(RenounceStep::Write));
        assert_eq!(it.look(5), None);
        assert!(!it.is_said());
        assert_eq!(it.written(true), None);
        assert!(it.is_said() && !it.is_over());
        assert_eq!(it.look(5), Some(RenounceStep::Say));
        assert_eq!(it.look(5 + AGAIN - 1), None);
        assert_eq!(it.look(5 + AGAIN), Some(RenounceStep::Say));
        it.asked_again();
        assert_eq!(it.look(6 + AGAIN), Some(RenounceStep::Say));
        assert_eq!(it.monitor_gone(), None, "it is said all the same");
        assert_eq!(it.released(true), Some(RenounceStep::Quit));
        assert_eq!(it.released(true), None);
        assert_eq!(it.look(1 << 40), None);
        assert_eq!(it.monitor_gone(), Some(RenounceStep::SayEnded));
        assert_eq!(it.monitor_gone(), None);
    }

    #[test]
    fn what_cannot_be_done_is_refused_and_nobody_hears_of_it() {
        let mut it = Renunciation::new();
        assert!(matches!(it.silenced(false), Some(RenounceStep::Refuse(_))));
        assert_eq!(it.look(1 << 40), None);
        let mut it = Renunciation::new();
        it.silenced(true);
        assert_eq!(it.written(false), Some(RenounceStep::TakeBack));
        assert_eq!(it.look(1 << 40), None);
        assert!(it.released(true).is_none());
    }

    #[test]
    fn a_node_in_the_place_of_one_that_has_said_it_says_it_again() {
        let mut it = Renunciation::left();
        assert_eq!(it.look(0), Some(RenounceStep::Say));
        assert_eq!(it.released(false), Some(RenounceStep::SayEnded));
        assert_eq!(it.look(1 << 40), None);
    }
}
