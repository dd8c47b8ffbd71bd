//! The link's own frames, as both roles send them.

use super::mail::ToControl;
use super::ports::Ports;
use crate::link::Transmit;
use crate::protect::PeerLink;

/// Sends what the link itself has to say, as far as there is room; true if there was anything.
#[inline]
pub(super) fn link_out<P: Ports>(
    ports: &mut P,
    mut next: impl FnMut() -> Option<Transmit>,
) -> bool {
    let mut any = false;
    while ports.link_room() > 0
        && let Some(transmit) = next()
        && let Some(frame) = ports.copy(transmit.bytes())
    {
        ports.push_link(frame);
        any = true;
    }
    ports.flush_link();
    any
}

/// Passes on what the peer's control thread has sent to this node's, as far as there is room.
pub(super) fn pass_notes<P: Ports>(ports: &mut P, link: &mut PeerLink) {
    while ports.has_mail_room()
        && let Some(piece) = link.take_note()
    {
        ports.post(ToControl::Note(piece));
    }
}
