//! What leaves for the network and what follows from it: the same steps behind the primary's state machine and behind
//! the standalone comparator's.

use super::mail::ToControl;
use super::ports::{FrameOf, Host};
use crate::compare::{Divergence, Release};
use crate::observability::capture::Note;
use crate::protect::Request;

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

/// Ends a node: `send` sends what is free to leave, as far as the port takes it in a bounded number of tries; `drop` frees
/// and counts the rest. Both return whether no worker has anything left to do.
pub(super) fn finish<H: Host, S>(
    state: &mut S,
    ports: &mut H,
    mut send: impl FnMut(&mut S, &mut H) -> bool,
    mut drop: impl FnMut(&mut S, &mut H) -> bool,
) {
    for _ in 0..LAST_TRIES {
        if !send(state, ports) {
            ports.pause();
        } else if ports.is_idle() {
            return;
        }
    }
    for _ in 0..LAST_TRIES {
        if drop(state, ports) {
            return;
        }
    }
}

/// Passes a divergence on to be written down, if the mailbox takes one.
pub(super) fn record<H: Host>(
    ports: &mut H,
    epoch: u32,
    next: impl FnOnce() -> Option<Divergence<FrameOf<H>>>,
) {
    if ports.has_mail_room()
        && let Some(divergence) = next()
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
