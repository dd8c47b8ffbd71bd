//! This node's end of the link, with what concerns no role: the restarts that either node announces over it, and what
//! the control threads send each other.
//!
//! In: frames, sessions, an operator's announcement, the control thread's notes. Out: what the other node says but for
//! these, its notes, messages, and the link's own frames.

use std::collections::VecDeque;

use super::Setup;
use super::restart::RestartNotice;
use crate::frame::Ticks;
use crate::link::secure::Begun;
use crate::link::{Endpoint, Event, Message, Piece, Transmit};

/// Pieces of notes that wait for the control thread at most: one longest text.
const NOTES: usize = 80;

/// One end of the link.
pub(crate) struct PeerLink {
    /// Its numbers, acknowledgments and grants.
    pub(super) end: Endpoint,
    restart: RestartNotice,
    notes: VecDeque<Piece>,
}

impl PeerLink {
    /// An end that has heard nothing yet.
    pub(super) fn new(setup: &Setup, now: Ticks) -> Self {
        let (timing, mac) = (setup.link, setup.link_mac);
        let end = Endpoint::new(setup.vm, setup.boot, mac, setup.window, timing, now);
        Self::of(end.behind_guard(setup.sealed))
    }

    /// An end that has another past than this node's role; no restart is announced.
    pub(super) fn of(end: Endpoint) -> Self {
        Self {
            end,
            restart: RestartNotice::default(),
            notes: VecDeque::with_capacity(NOTES),
        }
    }

    /// A round begins: what comes next may ask how long the peer has been silent.
    #[inline]
    pub(crate) fn begin_round(&mut self, now: Ticks) {
        self.end.look(now);
    }

    /// Somebody on the link says that it is the peer and cannot prove it.
    pub(crate) fn hear_foreigner(&mut self, now: Ticks) {
        self.end.hear_foreigner(now);
    }

    /// The peer's control thread has reported that its poll core does not run.
    pub(crate) fn peer_stalls(&mut self, now: Ticks) {
        self.end.excuse_stall(now);
    }

    /// An operator has announced that this node restarts.
    pub(crate) fn announce_restart(&mut self) {
        self.restart.announce();
    }

    /// The operator does not wait for the peer to receive that announcement any more.
    pub(crate) fn withdraw_restart(&mut self) {
        self.restart.withdraw();
    }

    /// Whether the peer has received that announcement; true once.
    pub(crate) fn take_restart_acknowledged(&mut self) -> bool {
        self.restart.take_acknowledged(&self.end)
    }

    /// This node's control thread sends a note to the other one. Without a session, or with too much that is not
    /// acknowledged, the text is lost.
    pub(crate) fn tell(&mut self, piece: Piece) {
        if self.end.has_session() {
            // Who sends a note waits for an answer for a limited time.
            let _ = self.end.send(Message::Note(piece));
        }
    }

    /// The next piece of what the other control thread has sent to this one.
    pub(crate) fn take_note(&mut self) -> Option<Piece> {
        self.notes.pop_front()
    }

    /// The link's guard has begun a session.
    pub(super) fn begin(&mut self, session: Begun) {
        self.end.begin(session);
    }

    /// What the other node says next, but for an announced restart, which concerns its silence alone.
    pub(super) fn next_event(&mut self, now: Ticks) -> Option<Event> {
        loop {
            match self.end.next_event()? {
                Event::Message(Message::Restarts) => self.end.expect_restart(now),
                // Without room it is lost, and its text with it.
                Event::Message(Message::Note(piece)) => {
                    if self.notes.len() < NOTES {
                        self.notes.push_back(piece);
                    }
                }
                event => {
                    if event == Event::Session {
                        self.restart.session();
                    }
                    return Some(event);
                }
            }
        }
    }

    /// The next frame of the link's own.
    pub(super) fn next_transmit(&mut self, now: Ticks) -> Option<Transmit> {
        self.restart.send(&mut self.end);
        self.end.next_transmit(now)
    }
}
