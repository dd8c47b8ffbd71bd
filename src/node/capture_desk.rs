//! Captures that an operator orders: how a pair's poll core gets another tap, and gives the one before back.
//!
//! A poll core neither allocates nor frees: the thread that writes captures makes a tap, touches all its memory, and puts
//! it into a ring; the poll core takes it between two rounds and puts the old one into another ring, to be freed here.

use std::path::PathBuf;

use crossbeam_channel::Sender;
use rtrb::{Consumer, Producer, RingBuffer};
use serde_json::json;

use super::capture::Tap;
use crate::control::Fault;
use crate::observability::port_capture::PortCapture;

/// Taps on their way. Never more than one is, unless a poll core stands still.
const TAPS: usize = 2;

/// The poll core's ends.
pub(crate) struct TapChange {
    fresh: Consumer<Tap>,
    old: Producer<Tap>,
}

impl TapChange {
    /// Takes the tap that is there, if one is, in place of `tap`.
    pub(crate) fn apply(&mut self, tap: &mut Tap) {
        if !self.old.is_full()
            && let Ok(fresh) = self.fresh.pop()
        {
            let old = std::mem::replace(tap, fresh);
            let pushed = self.old.push(old);
            debug_assert!(pushed.is_ok(), "there was room a moment ago");
        }
    }
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CaptureOrder {
    /// Begin.
    Start {
        /// The file.
        path: PathBuf,
        /// Its bytes at most.
        limit: u64,
    },
    /// End.
    Stop,
}

/// Where the outcome of an order goes. Nobody may be there any more.
pub(crate) type ReplyTo = Sender<Result<serde_json::Value, Fault>>;

/// An order for one pair.
pub(crate) struct PostedCapture {
    /// The pair's place in the configuration.
    pub pair: usize,
    /// What.
    pub order: CaptureOrder,
    /// For its outcome.
    pub reply: ReplyTo,
}

/// How far a pair's capture is.
enum Stage {
    /// `--capture` records everything.
    Audit,
    /// There is none.
    Idle,
    /// It runs.
    Runs(PathBuf),
    /// The poll core is to give its tap back; who has ordered that waits.
    Ends(PathBuf, Option<ReplyTo>),
    /// It has ended by itself.
    Ended(PathBuf, PortCapture, u64),
}

/// The other ends of a pair's rings, and its capture.
pub(super) struct Desk {
    pair: String,
    fresh: Producer<Tap>,
    old: Consumer<Tap>,
    stage: Stage,
}

impl Desk {
    /// The ends for a pair; `audit`: `--capture` records it.
    pub(super) fn new(pair: &str, audit: bool) -> (Self, TapChange) {
        let (fresh, fresh_end) = RingBuffer::new(TAPS);
        let (old_end, old) = RingBuffer::new(TAPS);
        let desk = Self {
            pair: pair.to_owned(),
            fresh,
            old,
            stage: if audit { Stage::Audit } else { Stage::Idle },
        };
        let change = TapChange {
            fresh: fresh_end,
            old: old_end,
        };
        (desk, change)
    }

    /// The pair's name.
    pub(super) fn pair(&self) -> &str {
        &self.pair
    }

    /// A refusal.
    pub(super) fn refused(&self, why: impl Into<String>) -> Fault {
        Fault::Refused {
            pair: self.pair.clone(),
            why: why.into(),
        }
    }

    /// Why no capture may begin now.
    pub(super) fn refusal(&self) -> Option<Fault> {
        let why = match &self.stage {
            Stage::Idle | Stage::Ended(..) if self.fresh.slots() < TAPS => {
                "its poll core stands still; see status".to_owned()
            }
            Stage::Idle | Stage::Ended(..) => return None,
            Stage::Audit => {
                "--capture records all that it sees already; see its directory".to_owned()
            }
            Stage::Runs(path) => format!(
                "a capture to {} runs already; end it with coloctl capture stop",
                path.display()
            ),
            Stage::Ends(path, _) => format!(
                "the capture to {} is just ending; order it again",
                path.display()
            ),
        };
        Some(self.refused(why))
    }

    /// A capture begins. The caller has seen that none is refused.
    pub(super) fn start(&mut self, tap: Tap, path: PathBuf) {
        let pushed = self.fresh.push(tap);
        debug_assert!(pushed.is_ok(), "the caller has seen that there is room");
        self.stage = Stage::Runs(path);
    }

    /// Somebody wants the capture to end.
    pub(super) fn stop(&mut self, reply: ReplyTo) {
        let fault = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Runs(path) => {
                self.stage = Stage::Ends(path, Some(reply));
                self.take_back();
                return;
            }
            // It has come to its bound a moment ago.
            Stage::Ends(path, None) => {
                self.stage = Stage::Ends(path, Some(reply));
                return;
            }
            Stage::Ended(path, done, lost) => {
                let _ = reply.send(Ok(outcome(&path, &done, lost)));
                return;
            }
            stage @ Stage::Audit => {
                self.stage = stage;
                self.refused(
                    "--capture records it as long as the node runs; restart the node without it",
                )
            }
            stage @ Stage::Ends(..) => {
                self.stage = stage;
                self.refused("somebody else has ended its capture")
            }
            Stage::Idle => self.refused("no capture runs; begin one with coloctl capture start"),
        };
        let _ = reply.send(Err(fault));
    }

    /// The capture takes nothing more.
    pub(super) fn is_over(&mut self) {
        if let Stage::Runs(path) = &self.stage {
            self.stage = Stage::Ends(path.clone(), None);
            self.take_back();
        }
    }

    fn take_back(&mut self) {
        // There is room: the poll core has taken the tap that it returns, or it is still in front of this one.
        let pushed = self.fresh.push(Tap::off());
        debug_assert!(pushed.is_ok(), "at most two taps are on their way");
    }

    /// Frees what the poll core has returned; its records come to their end by that.
    pub(super) fn free(&mut self) {
        while let Ok(tap) = self.old.pop() {
            drop(tap);
        }
    }

    /// The file is written.
    pub(super) fn ended(&mut self, done: PortCapture, lost: u64) {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Ends(path, Some(reply)) => {
                let _ = reply.send(Ok(outcome(&path, &done, lost)));
            }
            Stage::Ends(path, None) | Stage::Runs(path) => {
                self.stage = Stage::Ended(path, done, lost);
            }
            stage => self.stage = stage,
        }
    }
}

fn outcome(path: &std::path::Path, done: &PortCapture, lost: u64) -> serde_json::Value {
    json!({
        "path": path.display().to_string(),
        "frames": done.frames,
        "bytes": done.bytes,
        "lost": lost,
        "full": done.full,
        "fault": done.fault,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crossbeam_channel::{Receiver, bounded};
    use serde_json::Value;

    use super::*;
    use crate::control::Class;

    fn reply() -> (ReplyTo, Receiver<Result<Value, Fault>>) {
        bounded(1)
    }

    #[test]
    fn a_tap_goes_to_the_poll_core_and_comes_back() {
        let (mut desk, mut change) = Desk::new("vm0", false);
        let mut tap = Tap::off();
        assert_eq!(desk.refusal(), None);
        desk.start(Tap::off(), "/c/x".into());
        let said = desk.refusal().expect("one runs").to_string();
        assert!(said.contains("/c/x runs already"), "{said}");
        // The poll core takes both at once, if it comes to it so late.
        let (stop, outcome) = reply();
        desk.stop(stop);
        let (again, second) = reply();
        desk.stop(again);
        let fault = second.try_recv().expect("an answer").expect_err("too late");
        assert_eq!(fault.class(), Class::Refused);
        change.apply(&mut tap);
        change.apply(&mut tap);
        desk.free();
        assert!(outcome.try_recv().is_err(), "the file is not written yet");
        let done = PortCapture {
            frames: 3,
            bytes: 900,
            ..PortCapture::default()
        };
        desk.ended(done, 1);
        let outcome = outcome.try_recv().expect("an answer").expect("it ended");
        assert_eq!(
            (&outcome["path"], &outcome["frames"], &outcome["lost"]),
            (&json!("/c/x"), &json!(3), &json!(1))
        );
        assert_eq!(desk.refusal(), None);
        assert_eq!(desk.pair(), "vm0");
    }

    #[test]
    fn what_has_ended_by_itself_is_reported_once() {
        let (mut desk, _change) = Desk::new("vm0", false);
        desk.start(Tap::off(), "/c/x".into());
        desk.is_over();
        desk.is_over();
        let full = PortCapture {
            full: true,
            ..PortCapture::default()
        };
        desk.ended(full, 0);
        let (stop, outcome) = reply();
        desk.stop(stop);
        let said = outcome.try_recv().expect("an answer").expect("it ended");
        assert_eq!(said["full"], true);
        let (stop, outcome) = reply();
        desk.stop(stop);
        let fault = outcome.try_recv().expect("an answer").expect_err("none");
        assert!(fault.to_string().contains("no capture runs"), "{fault}");
    }

    #[test]
    fn an_audit_is_left_alone() {
        let (mut desk, _change) = Desk::new("vm0", true);
        let fault = desk.refusal().expect("--capture runs");
        assert!(fault.to_string().contains("--capture"), "{fault}");
        let (stop, outcome) = reply();
        desk.stop(stop);
        let fault = outcome
            .try_recv()
            .expect("an answer")
            .expect_err("no order's");
        assert!(fault.to_string().contains("restart the node"), "{fault}");
        assert!(!Path::new("/c/x").exists());
    }

    #[test]
    fn a_poll_core_that_stands_still_gets_no_third_tap() {
        let (mut desk, mut change) = Desk::new("vm0", false);
        let mut tap = Tap::off();
        desk.start(Tap::off(), "/c/x".into());
        let (stop, _outcome) = reply();
        desk.stop(stop);
        desk.ended(PortCapture::default(), 0);
        let fault = desk.refusal().expect("it stands still");
        assert!(fault.to_string().contains("stands still"), "{fault}");
        change.apply(&mut tap);
        assert!(desk.refusal().is_some(), "one is still on its way");
        change.apply(&mut tap);
        assert_eq!(desk.refusal(), None);
        // It takes none for which the one before finds no room: it would have to free it.
        desk.start(Tap::off(), "/c/y".into());
        change.apply(&mut tap);
        assert_eq!(desk.fresh.slots(), 1, "it waits");
        desk.free();
        change.apply(&mut tap);
        assert_eq!(desk.fresh.slots(), 2);
    }
}
