//! One end of the link: numbers, acknowledgments, grants and heartbeats.
//!
//! The peer is heard where a heartbeat returns a mark of this end's: then it lived when the mark came to it, whenever
//! the heartbeat comes. Other frames say nothing of when they were sent.

use std::collections::VecDeque;

use super::secure::Begun;
use super::silence::{Limits, Silence};
use super::wire::{DATA_HEADER, Header, Kind, MARKS, Marks, Message, Transmit};
use crate::frame::Ticks;
use crate::packet::serial::{at_or_before, before, distance, max};

/// How long the link waits for what, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A heartbeat that wants an answer is sent this often.
    pub heartbeat: Ticks,
    /// An unacknowledged control message is sent again after this.
    pub retransmit: Ticks,
    /// The peer counts as gone when nothing that it has sent in this time came. A round trip takes less.
    pub silence: Ticks,
    /// A node that runs looks at the link at least this often.
    pub gap: Ticks,
    /// Reports that the peer lacks CPU count until nothing came for this long.
    pub stall: Ticks,
    /// A restart that the peer has announced may take this long.
    pub restart: Ticks,
}

impl Timing {
    fn limits(&self) -> Limits {
        Limits {
            silence: self.silence,
            gap: self.gap,
            stall: self.stall,
            restart: self.restart,
        }
    }
}

/// What an endpoint has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Data frames sent.
    pub sent: u64,
    /// Data frames received.
    pub received: u64,
    /// Data frames that the peer sent and that did not come.
    pub lost: u64,
    /// Data frames that came twice or late, dropped.
    pub duplicates: u64,
    /// Control messages sent again.
    pub retransmitted: u64,
    /// Frames that are not the link's, or not this VM pair's.
    pub garbage: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Bytes sent, by what their frame is.
    pub sent_bytes: Bytes,
    /// Bytes received, likewise, without garbage and frames of old sessions.
    pub received_bytes: Bytes,
}

/// Bytes of frames with their headers, those of the guard and of fragments aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Of data frames.
    pub data: u64,
    /// Of control messages.
    pub control: u64,
    /// Of heartbeats and acknowledgments.
    pub heartbeat: u64,
}

impl Bytes {
    /// Counts a frame with this many bytes behind its header.
    fn add(&mut self, kind: Kind, length: u32) {
        let bytes = match kind {
            Kind::Data => &mut self.data,
            Kind::Control => &mut self.control,
            Kind::Heartbeat => &mut self.heartbeat,
        };
        *bytes += DATA_HEADER as u64 + u64::from(length);
    }
}

/// What a received frame was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A data frame: its payload begins behind [`DATA_HEADER`] bytes and has `length` bytes.
    Data {
        /// Epoch in which it was sent.
        epoch: u32,
        /// Bytes of payload.
        length: u32,
        /// Control messages that must have come before it counts; see [`Endpoint::has_received`].
        after: u32,
    },
    /// The link's own business.
    Consumed,
    /// Garbage, a frame of an old session, or a duplicate; counted.
    Ignored,
}

/// What the peer said, or what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session begins. Nothing that was sent before counts any more. What is sent from now on waits until
    /// the peer has begun it, too.
    Session,
    /// A control message, each exactly once and in order.
    Message(Message),
    /// This many data frames were lost.
    Lost(u32),
}

/// No more control messages can wait for an acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What differs from one header to the next of a session.
struct Fields {
    kind: Kind,
    epoch: u32,
    data: u32,
    control: u32,
    length: u32,
}

/// Control messages that may be unacknowledged.
const CONTROL_WINDOW: usize = 512;

const EVERYBODY: [u8; 6] = [0xff; 6];

/// What this end does not acknowledge yet.
#[derive(Clone, Copy, Debug)]
struct Withheld {
    /// The peer has to receive this message first.
    until: u32,
    /// What was acknowledged before.
    received: u32,
}

/// One end of the link.
pub struct Endpoint {
    vm: u16,
    boot: u32,
    /// A guard reports sessions, and only what their peer has sealed comes here.
    sealed: bool,
    mac: [u8; 6],
    peer_mac: [u8; 6],
    /// 0 while unknown.
    peer_boot: u32,
    /// The peer knows our boot number.
    established: bool,
    timing: Timing,
    window: u32,
    next_data: u32,
    expected_data: u32,
    peer_grant: u32,
    backlog: u32,
    advertised: u32,
    unacknowledged: VecDeque<Message>,
    /// Number of the first unacknowledged message.
    first_control: u32,
    /// Number of the next message to transmit.
    next_control: u32,
    /// Number behind the last message that was ever transmitted.
    control_end: u32,
    received_control: u32,
    withheld: Option<Withheld>,
    acknowledge: bool,
    /// When the last heartbeat that wants an answer was sent in this session.
    marked: Option<Ticks>,
    /// The peer's latest mark; 0 if there is none.
    peer_mark: u64,
    /// That one has not been returned.
    answer: bool,
    /// The shortest time in which a mark has come back in this session.
    round_trip: Ticks,
    /// When the first unacknowledged message was transmitted, or became the first.
    unanswered_since: Ticks,
    silence: Silence,
    events: VecDeque<Event>,
    counts: Counts,
}

impl Endpoint {
    /// An endpoint that has heard nothing yet. `boot` is not 0 and grows from one start of the
    /// node to the next, unless there is a guard; `window` is how many data frames the peer may send ahead of
    /// [`Endpoint::set_backlog`].
    pub fn new(vm: u16, boot: u32, mac: [u8; 6], window: u32, timing: Timing, now: Ticks) -> Self {
        Self {
            vm,
            boot: boot.max(1),
            sealed: false,
            mac,
            peer_mac: EVERYBODY,
            peer_boot: 0,
            established: false,
            timing,
            window,
            next_data: 0,
            expected_data: 0,
            peer_grant: 0,
            backlog: 0,
            advertised: 0,
            // Two more for `take_lead`.
            unacknowledged: VecDeque::with_capacity(CONTROL_WINDOW + 2),
            first_control: 1,
            next_control: 1,
            control_end: 1,
            received_control: 0,
            withheld: None,
            acknowledge: true,
            marked: None,
            peer_mark: 0,
            answer: false,
            round_trip: Ticks::MAX,
            unanswered_since: now,
            silence: Silence::new(timing.limits(), now),
            events: VecDeque::with_capacity(8),
            counts: Counts::default(),
        }
    }

    /// Says whether a guard ([`secure`](super::secure)) reports sessions ([`Endpoint::begin`]); before the first one
    /// nothing counts.
    pub fn behind_guard(self, sealed: bool) -> Self {
        let boot = if sealed { 0 } else { self.boot };
        Self {
            sealed,
            boot,
            ..self
        }
    }

    /// The guard has begun a session. Both ends begin anew with it, whatever either knows of the other: the numbers of
    /// the session stand in the place of boot numbers, so that what was said before it bears others.
    pub fn begin(&mut self, session: Begun) {
        debug_assert!(
            self.sealed,
            "who has no guard learns of sessions from the peer"
        );
        self.boot = session.own;
        self.restart(session.peer, EVERYBODY);
    }

    /// Somebody was heard who says that it is the peer and cannot prove it: it has another version or key. Before the
    /// first session that is no silence, and nobody is to be shot for it; after it anybody could hide a dead peer so.
    pub fn hear_foreigner(&mut self, now: Ticks) {
        if self.counts.sessions == 0 {
            self.silence.hear(now);
        }
    }

    /// The counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether there is a session and the peer was heard lately.
    pub fn is_up(&self, now: Ticks) -> bool {
        self.established && !self.is_silent(now)
    }

    /// Whether the peer is lost by its silence; see [`Silence`].
    pub fn is_silent(&self, now: Ticks) -> bool {
        self.silence.is_over(now)
    }

    /// How long ago the peer was heard, or the endpoint began.
    pub fn since_heard(&self, now: Ticks) -> Ticks {
        self.silence.since_heard(now)
    }

    /// This node runs; to be called before anything asks how long the peer has been silent, in each round.
    #[inline]
    pub fn look(&mut self, now: Ticks) {
        self.silence.look(now);
    }

    /// The peer's control thread has reported that its poll core does not run.
    pub fn excuse_stall(&mut self, now: Ticks) {
        self.silence.excuse_stall(now);
    }

    /// The peer has announced that its node restarts.
    pub fn expect_restart(&mut self, now: Ticks) {
        self.silence.expect_restart(now);
    }

    /// The peer's VM is gone, so that no restart is waited for any more.
    pub fn end_restart(&mut self) {
        self.silence.end_restart();
    }

    /// Whether the peer has announced a restart and is waited for.
    pub fn is_restart_expected(&self, now: Ticks) -> bool {
        self.silence.is_restart_expected(now)
    }

    /// Whether both ends know each other.
    pub fn has_session(&self) -> bool {
        self.established
    }

    /// Data frames that may be sent now.
    pub fn room(&self) -> usize {
        if !self.established {
            return 0;
        }
        distance(self.next_data, self.peer_grant).max(0) as usize
    }

    /// Whether another control message can be taken.
    pub fn has_control_room(&self) -> bool {
        self.unacknowledged.len() < CONTROL_WINDOW
    }

    /// Control messages sent so far, as a number to ask [`Endpoint::is_acknowledged`] for.
    pub fn sent(&self) -> u32 {
        self.sent_control()
    }

    /// Whether the peer has received all control messages up to this number.
    pub fn is_acknowledged(&self, control: u32) -> bool {
        before(control, self.first_control)
    }

    /// Whether the peer has received all control messages.
    pub fn is_settled(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// Queues a control message; it is sent until the peer has acknowledged it.
    pub fn send(&mut self, message: Message) -> Result<(), Full> {
        if !self.has_control_room() {
            return Err(Full);
        }
        self.unacknowledged.push_back(message);
        Ok(())
    }

    /// Sends a message that changes what this end's acknowledgments mean, such as a takeover: until the peer has
    /// received it, or another session begins, it acknowledges nothing new. What was never transmitted is dropped.
    pub(crate) fn take_lead(&mut self, message: Message) {
        let transmitted = distance(self.first_control, self.control_end).max(0);
        self.unacknowledged.truncate(transmitted as usize);
        self.unacknowledged.push_back(message);
        self.withheld = Some(Withheld {
            until: self.sent_control(),
            received: self.acknowledges(),
        });
    }

    /// The bytes to put in front of a data frame. The caller has seen [`Endpoint::room`].
    pub fn data_header(&mut self, epoch: u32, length: u32) -> [u8; DATA_HEADER] {
        let number = self.next_data;
        self.next_data = number.wrapping_add(1);
        self.counts.sent += 1;
        let fields = Fields {
            kind: Kind::Data,
            epoch,
            data: number,
            control: self.sent_control(),
            length,
        };
        self.encode(fields, &[])
    }

    /// The next frame of the link's own: a control message, an acknowledgment, a heartbeat.
    pub fn next_transmit(&mut self, now: Ticks) -> Option<Transmit> {
        if self.boot == 0 {
            // The guard has no session.
            return None;
        }
        if self.established {
            let sent = distance(self.first_control, self.next_control) as usize;
            if sent > 0 && now.saturating_sub(self.unanswered_since) >= self.timing.retransmit {
                self.next_control = self.first_control;
                self.counts.retransmitted += sent as u64;
            }
            let sent = distance(self.first_control, self.next_control) as usize;
            if let Some(message) = self.unacknowledged.get(sent).copied() {
                let number = self.next_control;
                self.next_control = number.wrapping_add(1);
                self.control_end = max(self.control_end, self.next_control);
                if sent == 0 {
                    self.unanswered_since = now;
                }
                let (payload, len) = message.encode();
                let fields = Fields {
                    kind: Kind::Control,
                    epoch: 0,
                    data: self.next_data,
                    control: number,
                    length: len as u32,
                };
                let header = self.encode(fields, &payload[..len]);
                return Some(Transmit::new(header, &payload[..len]));
            }
        }
        let grown = distance(self.advertised, self.grant());
        let grant_is_stale = grown > 0 && grown as u32 >= self.window / 4;
        let due = self
            .marked
            .is_none_or(|at| now.saturating_sub(at) >= self.timing.heartbeat);
        if !(self.acknowledge || self.answer || due || (self.established && grant_is_stale)) {
            return None;
        }
        let marks = Marks {
            mark: if due { now.saturating_add(1) } else { 0 },
            echo: self.peer_mark,
        };
        if due {
            self.marked = Some(now);
        }
        self.answer = false;
        let payload = marks.encode();
        let fields = Fields {
            kind: Kind::Heartbeat,
            epoch: 0,
            data: self.next_data,
            control: self.sent_control(),
            length: MARKS as u32,
        };
        Some(Transmit::new(self.encode(fields, &payload), &payload))
    }

    /// Takes in a frame; events that it brings come before its data.
    pub fn receive(&mut self, head: &[u8], frame_len: usize, now: Ticks) -> Received {
        let Some((header, from)) =
            Header::decode(head, frame_len).filter(|(h, _)| h.vm == self.vm && h.boot != 0)
        else {
            self.counts.garbage += 1;
            return Received::Ignored;
        };
        let is_new = header.boot != self.peer_boot;
        let is_old = match self.sealed {
            true => is_new || header.peer_boot != self.boot,
            false => is_new && self.peer_boot != 0 && before(header.boot, self.peer_boot),
        };
        if is_old {
            self.counts.garbage += 1;
            return Received::Ignored;
        }
        self.counts.received_bytes.add(header.kind, header.length);
        if is_new {
            self.restart(header.boot, from);
        }
        if header.peer_boot != self.boot {
            self.silence.hear(now);
            self.acknowledge = true;
            return Received::Consumed;
        }
        if !self.established {
            // Its nonces have made a round trip. Who holds this frame back gains one silence, once in a session.
            self.silence.hear(now);
            self.established = true;
            self.acknowledge = true;
            self.peer_mac = from;
            self.counts.sessions += 1;
            self.silence.end_restart();
        }
        if before(self.peer_grant, header.grant) {
            self.peer_grant = header.grant;
        }
        self.acknowledged(header.control_ack, now);
        match header.kind {
            Kind::Heartbeat => {
                self.account(header.data);
                self.marks(Marks::decode(head), now);
                Received::Consumed
            }
            Kind::Control => {
                self.account(header.data);
                self.control(&header, head)
            }
            Kind::Data => self.data(&header),
        }
    }

    /// Whether [`Endpoint::next_event`] has an event.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What the peer said.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the control messages that a data frame follows have come.
    pub fn has_received(&self, after: u32) -> bool {
        at_or_before(after, self.received_control)
    }

    /// Data frames that the peer has granted since the session began, modulo 2^32.
    pub fn granted(&self) -> u32 {
        self.peer_grant
    }

    /// How many received data frames still wait here; the peer is granted the window less these.
    pub fn set_backlog(&mut self, frames: usize) {
        self.backlog = frames as u32;
    }

    /// Continues both numberings from here, as if these had been sent and received.
    #[cfg(test)]
    pub(super) fn continue_from(&mut self, data: u32, control: u32) {
        self.next_data = data;
        self.expected_data = data;
        self.peer_grant = data.wrapping_add(self.window);
        self.advertised = self.grant();
        self.first_control = control.wrapping_add(1);
        self.next_control = self.first_control;
        self.control_end = self.first_control;
        self.received_control = control;
    }

    fn grant(&self) -> u32 {
        self.expected_data
            .wrapping_sub(self.backlog)
            .wrapping_add(self.window)
    }

    /// The number up to which it says that it has received control messages.
    fn acknowledges(&self) -> u32 {
        self.withheld
            .map_or(self.received_control, |withheld| withheld.received)
    }

    fn sent_control(&self) -> u32 {
        self.first_control
            .wrapping_add(self.unacknowledged.len() as u32)
            .wrapping_sub(1)
    }

    fn encode(&mut self, fields: Fields, message: &[u8]) -> [u8; DATA_HEADER] {
        self.counts.sent_bytes.add(fields.kind, fields.length);
        self.acknowledge = false;
        self.advertised = self.grant();
        Header {
            kind: fields.kind,
            vm: self.vm,
            boot: self.boot,
            peer_boot: self.peer_boot,
            epoch: fields.epoch,
            data: fields.data,
            control: fields.control,
            control_ack: self.acknowledges(),
            grant: self.advertised,
            length: fields.length,
        }
        .encode(self.peer_mac, self.mac, message)
    }

    fn restart(&mut self, boot: u32, from: [u8; 6]) {
        self.peer_boot = boot;
        self.peer_mac = from;
        self.established = false;
        self.next_data = 0;
        self.expected_data = 0;
        self.peer_grant = 0;
        self.backlog = 0;
        self.advertised = 0;
        self.unacknowledged.clear();
        self.first_control = 1;
        self.next_control = 1;
        self.control_end = 1;
        self.received_control = 0;
        self.withheld = None;
        self.acknowledge = true;
        self.marked = None;
        self.peer_mark = 0;
        self.answer = false;
        self.round_trip = Ticks::MAX;
        self.events.clear();
        self.events.push_back(Event::Session);
    }

    /// Notes the mark to return, and that the peer lived when the one that it returns came to it: no earlier than that was
    /// sent, and a round trip before it is back at the latest.
    fn marks(&mut self, marks: Marks, now: Ticks) {
        if marks.mark > self.peer_mark {
            self.peer_mark = marks.mark;
            self.answer = true;
        }
        let sent = marks.echo.checked_sub(1);
        if let Some((sent, took)) = sent.and_then(|sent| Some((sent, now.checked_sub(sent)?)))
            && took < self.timing.silence
        {
            self.round_trip = self.round_trip.min(took);
            self.silence.hear(sent + self.round_trip);
        }
    }

    /// The peer has received control messages up to this one.
    fn acknowledged(&mut self, control: u32, now: Ticks) {
        if !before(control, self.control_end) {
            // An acknowledgment of what was never transmitted is a lie.
            self.counts.garbage += 1;
            return;
        }
        while at_or_before(self.first_control, control) {
            self.unacknowledged.pop_front();
            self.first_control = self.first_control.wrapping_add(1);
            self.unanswered_since = now;
        }
        // What was to be sent again has come after all.
        self.next_control = max(self.next_control, self.first_control);
        if (self.withheld).is_some_and(|withheld| before(withheld.until, self.first_control)) {
            self.withheld = None;
            self.acknowledge = true;
        }
    }

    /// The peer's next data frame has this number: what lies before it and has not come is lost.
    fn account(&mut self, next: u32) {
        let missing = distance(self.expected_data, next);
        if missing > 0 {
            self.counts.lost += missing as u64;
            self.events.push_back(Event::Lost(missing as u32));
            self.expected_data = next;
        }
    }

    fn control(&mut self, header: &Header, head: &[u8]) -> Received {
        self.acknowledge = true;
        if header.control != self.received_control.wrapping_add(1) {
            return Received::Consumed;
        }
        let end = DATA_HEADER + header.length as usize;
        let Some(message) = head.get(DATA_HEADER..end).and_then(Message::decode) else {
            self.counts.garbage += 1;
            return Received::Ignored;
        };
        self.received_control = header.control;
        self.events.push_back(Event::Message(message));
        Received::Consumed
    }

    fn data(&mut self, header: &Header) -> Received {
        if before(header.data, self.expected_data) {
            self.counts.duplicates += 1;
            return Received::Ignored;
        }
        self.account(header.data);
        self.expected_data = header.data.wrapping_add(1);
        self.counts.received += 1;
        Received::Data {
            epoch: header.epoch,
            length: header.length,
            after: header.control,
        }
    }
}
