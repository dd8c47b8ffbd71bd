//! What leaves for the network and what follows from it: the same steps behind the primary's state machine and behind
//! the standalone comparator's.

use super::mail::ToControl;
use super::ports::{FrameOf, Host};
use crate::compare::Release;
use crate::observability::capture::Note;
use crate::protect::{Comparison, Request};

/// Tries to send what is free to leave when the node ends.
const LAST_TRIES: usize = 1000;

/// Sends what may leave, as far as there is room; true if anything left or was released.
#[inline]
pub(super) fn release<H: Host>(
    ports: &mut H,
    epoch: u32,
    mut next: impl FnMut() -> Option<Release<FrameOf<H>>>,
) -> bool {
    let mut any = false;
    while ports.room() > 0 {
        let Some(release) = next() else {
            break;
        };
        ports.release(release);
        any = true;
        if ports.room() == 0 {
            ports.flush(epoch);
        }
    }
    any | (ports.flush(epoch) > 0)
}

/// Ends a node: sends what is free to leave, as far as the port takes it in a bounded number of tries; then frees and counts
/// the rest. Waits for the workers' answers meanwhile.
pub(super) fn finish<H: Host, S>(
    state: &mut S,
    ports: &mut H,
    comparison: fn(&mut S) -> &mut Comparison<FrameOf<H>>,
    mut send: impl FnMut(&mut S, &mut H),
    mut next: impl FnMut(&mut S) -> Option<Release<FrameOf<H>>>,
) {
    for _ in 0..LAST_TRIES {
        comparison(state).exchange(ports.now());
        send(state, ports);
        if !comparison(state).is_settled() {
            ports.pause();
        } else if ports.is_idle() {
            return;
        }
    }
    for _ in 0..LAST_TRIES {
        let left = std::iter::from_fn(|| next(state)).count();
        ports.give_up(left);
        if comparison(state).is_settled() {
            return;
        }
        comparison(state).exchange(ports.now());
    }
}

/// Passes a divergence on to be written down, if the mailbox takes one.
pub(super) fn record<H: Host>(ports: &mut H, epoch: u32, comparison: &mut Comparison<FrameOf<H>>) {
    if ports.has_mail_room()
        && let Some(divergence) = comparison.next_record()
    {
        ports.note(Note::Divergence {
            reason: divergence.reason,
            flow: divergence.flow,
            epoch,
        });
        ports.post(ToControl::Record(divergence, epoch));
    }
}

/// Passes a checkpoint request on, if the mailbox takes one.
#[inline]
pub(super) fn ask<H: Host>(ports: &mut H, next: impl FnOnce() -> Option<Request>) {
    if ports.has_mail_room()
        && let Some(request) = next()
    {
        ports.note(Note::Request {
            cause: request.cause,
        });
        ports.post(ToControl::Request(request));
    }
}
