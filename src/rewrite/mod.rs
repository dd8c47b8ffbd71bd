//! Sequence numbers of the SVM's connections, translated at the secondary node.
//!
//! Both VMs choose their own initial sequence number, and the client knows the PVM's alone. In go
//! the frames between client and SVM and, from the primary, the numbers that the two VMs opened a
//! connection with; the frames come out in the PVM's numbers towards the link and in the SVM's
//! numbers towards the SVM. The primary sends the numbers before it releases the SYN or SYN+ACK,
//! so nothing is ever guessed, whichever side opened the connection.
//!
//! Towards the SVM the acknowledgment, the SACK blocks and the echoed time stamp are translated,
//! as is what an ICMP error quotes; from the SVM the sequence number, and the quotes back. The
//! SVM's SYN and SYN+ACK keep its own number, by which the comparison learns it. Checksums are
//! kept by the difference, so that a wrong one stays wrong; one that the sender left partial
//! covers none of these fields and stays as it is.
//!
//! Segments that TCP-MD5 or TCP-AO signs are not translated: no peer would accept one that was changed.
//! Where the VMs open such a connection with different numbers the comparison asks for a checkpoint before
//! the PVM's SYN leaves, and the numbers are equal from then on.
//!
//! When the secondary has taken over ([`Rewriter::take_over`]) nobody compares any more, and what the
//! SVM sends must be in the PVM's terms whole: its SYN and SYN+ACK and its time stamps, too. A SYN
//! of the guest with another number than the connection began with is another connection's, which
//! has no offset. No connection's time stamps go backwards then, whether it has an offset or not.
//!
//! An offset holds until its connection closes or the SVM loads a state, however long nothing is sent: the two ends may
//! be silent for hours (Linux `tcp_keepalive_time`). Only a half-open connection ends by its age. One whose ends
//! vanished without FIN or RST stays until the next state is loaded.
//!
//! Memory is taken at construction (rule R10). Half-open connections make room for others, the oldest first. A table
//! that is full of open ones takes no more, which is reported: the new connection's bytes will differ until a
//! checkpoint (rule R8), which empties the table. After a takeover no checkpoint helps, and the connection that was
//! silent for longest makes room.

#![warn(unreachable_pub)]

mod clock;
mod connection;
#[cfg(test)]
mod tests;

use self::clock::Clocks;
use self::connection::Connection;
use crate::flow::{FlowClass, FlowId, FlowKey, FlowTable, Standing};
use crate::packet::checksum::ICMP_CHECKSUM;
use crate::packet::edit::Segment;
use crate::packet::{Isn, Kind, Packet, TcpFlags};
pub use crate::packet::{Offset, Outcome};
use crate::{Frame, Ticks};

/// What bounds the memory of a [`Rewriter`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections with an offset. A quarter as many closed ones are remembered besides.
    pub connections: usize,
    /// How long a closed connection is remembered after its last segment, for retransmissions.
    pub linger: Ticks,
    /// How long a half-open connection is remembered after its last segment.
    pub half_open: Ticks,
}

/// What became of a connection's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Learned {
    /// The offset is known from now on; if both VMs chose the same numbers, there is none.
    Stored,
    /// The table is full of open connections: this one has no offset and needs a checkpoint if it is to go on.
    Full,
    /// The flow is not TCP; nothing was stored.
    NotTcp,
}

/// What a [`Rewriter`] has done since its construction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections whose numbers were learned.
    pub learned: u64,
    /// Connections that have no offset because the table was full of open ones.
    pub evicted: u64,
    /// Half-open connections that were forgotten, for their age or to make room.
    pub half_open: u64,
}

/// Slots that one call of [`Rewriter::offset_from`] looks at.
const WALK: usize = 64;

/// Connections that one call of [`Rewriter::age`] looks at, at most, in each of the tables.
const AGE_BATCH: usize = 64;

/// The offsets of the SVM's connections and what they do to frames.
///
/// Keys are always those of the direction from the guest to the client.
pub struct Rewriter {
    /// Half-open connections are the provisional ones.
    open: FlowTable<Connection>,
    /// How many of the oldest among the lasting ones may be of a state before the present one.
    unswept: usize,
    closed: FlowTable<Connection>,
    limits: Limits,
    hash_seed: u64,
    generation: u64,
    taken_over: bool,
    clocks: Clocks,
    counters: Counters,
}

/// Where a connection is remembered.
#[derive(Clone, Copy)]
enum Place {
    Open(FlowId),
    Closed(FlowId),
}

impl Rewriter {
    /// The seed of its table.
    #[cfg(test)]
    pub(crate) fn hash_seed(&self) -> u64 {
        self.hash_seed
    }

    /// A rewriter that knows no connection. The seed should be one that clients cannot guess, lest
    /// they choose ports that collide in the table.
    ///
    /// # Panics
    /// When `limits.connections` does not fit into 32 bits.
    pub fn new(limits: Limits, hash_seed: u64) -> Self {
        Self {
            open: FlowTable::new(limits.connections),
            unswept: 0,
            closed: FlowTable::new(limits.connections.div_ceil(4)),
            limits,
            hash_seed,
            generation: 0,
            taken_over: false,
            clocks: Clocks::new(limits.connections, hash_seed),
            counters: Counters::default(),
        }
    }

    /// Takes in the numbers that both VMs opened a connection with. `key` is the flow from the
    /// guest to the client. An earlier connection of the same key is forgotten.
    pub fn learn(
        &mut self,
        key: FlowKey,
        pvm: impl Into<Isn>,
        svm: impl Into<Isn>,
        now: Ticks,
    ) -> Learned {
        if key.class() != FlowClass::Tcp {
            return Learned::NotTcp;
        }
        let connection = Connection::new(pvm.into(), svm.into(), self.generation, now);
        let hash = key.hash_seeded(self.hash_seed);
        match self.find_any(&key, hash) {
            Some(place) if self.holds(self.at(place)) && self.at(place).continues(&connection) => {
                self.at_mut(place).last_use = now;
                self.used(place);
                return Learned::Stored;
            }
            Some(place) => {
                self.remove(place);
            }
            None => {}
        }
        self.counters.learned += 1;
        if connection.is_without_offset() {
            return Learned::Stored;
        }
        if !self.make_room() {
            self.counters.evicted += 1;
            return Learned::Full;
        }
        let stored = self
            .open
            .insert_as(Standing::Provisional, key, hash, connection);
        debug_assert!(stored.is_ok(), "there is room");
        Learned::Stored
    }

    /// Makes room for one more connection, if an open one need not give way.
    fn make_room(&mut self) -> bool {
        if self.open.len() < self.open.capacity() {
            return true;
        }
        if let Some(oldest) = self.open.oldest_of(Standing::Provisional) {
            self.forget_half_open(oldest);
            return true;
        }
        let Some(oldest) = self.open.oldest_of(Standing::Lasting) else {
            return false;
        };
        let is_void = self.is_void(&self.open[oldest]);
        if is_void || self.taken_over {
            self.open.remove(oldest);
            self.counters.evicted += u64::from(!is_void);
            return true;
        }
        false
    }

    fn forget_half_open(&mut self, id: FlowId) {
        let connection = self.open.remove(id);
        self.counters.half_open += u64::from(!self.is_void(&connection));
    }

    /// Forgets all offsets: the SVM has loaded the PVM's state, whose numbers it now continues.
    /// Takes the same time for any number of connections.
    pub fn svm_loaded(&mut self) {
        self.generation += 1;
        self.unswept = self.open.len();
    }

    /// The SVM speaks for itself from now on: what it sends leaves without a comparison.
    pub fn take_over(&mut self) {
        self.taken_over = true;
    }

    /// Takes in an offset that an earlier node knew and that outlives every state that is loaded;
    /// it counts from [`Rewriter::take_over`] on. One that does not fit is not kept.
    pub fn inherit(&mut self, key: FlowKey, offset: Offset, now: Ticks) {
        let hash = key.hash_seeded(self.hash_seed);
        if key.class() != FlowClass::Tcp || self.find_any(&key, hash).is_some() {
            return;
        }
        // A full table is the counter's matter: the connection will be reset by its client.
        let connection = Connection::inherited(offset, now);
        if !self.make_room() || self.open.insert(key, hash, connection).is_err() {
            self.counters.evicted += 1;
        }
    }

    /// The offset of a connection that is not closed, in a slot or in the next one in use, and the slot to ask for
    /// next; `None` when there is no slot any more. Looks at a bounded number of slots.
    pub fn offset_from(&self, slot: usize) -> Option<(usize, Option<(FlowKey, Offset)>)> {
        let (next, found) = self.open.walk(slot, WALK)?;
        let offset = found
            .filter(|(_, connection)| self.holds(connection))
            .map(|(key, connection)| (*key, connection.offset()));
        Some((next, offset))
    }

    /// Translates a frame from the client into the SVM's numbers. `packet` was parsed from it.
    pub fn to_guest<F: Frame>(&mut self, frame: &mut F, packet: &Packet, now: Ticks) -> Outcome {
        if packet.kind == Kind::Tcp && !(self.taken_over && self.clocks.is_empty()) {
            self.clocks.hear(frame.head(), packet, self.taken_over);
        }
        match packet.kind {
            _ if self.knows_nothing() => Outcome::Untouched,
            Kind::Tcp => self.segment_to_guest(frame, packet, now),
            Kind::Icmp => self.error_to_guest(frame, packet),
            _ => Outcome::Untouched,
        }
    }

    /// Translates a frame from the SVM into the PVM's numbers. `packet` was parsed from it.
    pub fn from_guest<F: Frame>(&mut self, frame: &mut F, packet: &Packet, now: Ticks) -> Outcome {
        let outcome = match packet.kind {
            _ if self.knows_nothing() => Outcome::Untouched,
            Kind::Tcp => self.segment_from_guest(frame, packet, now),
            Kind::Icmp => self.error_from_guest(frame, packet),
            _ => Outcome::Untouched,
        };
        match outcome {
            Outcome::Shared => outcome,
            _ => self.not_backwards(frame, packet).unwrap_or(outcome),
        }
    }

    /// Translates what [`Rewriter::from_guest`] was given before [`Rewriter::take_over`] as it would
    /// be translated after it. `packet` was parsed from the frame as it is now.
    pub fn repeat<F: Frame>(&mut self, frame: &mut F, packet: &Packet) -> Outcome {
        match self.translate_again(frame, packet) {
            Outcome::Shared => Outcome::Shared,
            outcome => self.not_backwards(frame, packet).unwrap_or(outcome),
        }
    }

    fn translate_again<F: Frame>(&mut self, frame: &mut F, packet: &Packet) -> Outcome {
        let is_syn = packet.tcp.flags.contains(TcpFlags::SYN);
        let connection = match packet.kind {
            Kind::Tcp => self.find_hashed(&packet.key).map(|place| self.at(place)),
            _ => None,
        };
        let Some(connection) = connection else {
            return Outcome::Untouched;
        };
        if is_syn && !connection.began_with(packet.tcp.seq) {
            return Outcome::Untouched;
        }
        let (seq, timestamp) = (connection.seq, connection.timestamp);
        // Until then a SYN kept its number, and an inherited offset did not count.
        let kept_its_number = is_syn || connection.is_inherited();
        Segment::edit(frame, packet, |segment| {
            if kept_its_number {
                segment.shift_sequence(seq.wrapping_neg());
            }
            segment.shift_timestamp(timestamp.wrapping_neg());
        })
    }

    /// Gives a segment, which is in its client's numbers already, the time stamp that it must bear at least after a
    /// takeover. `None` if it bears that.
    fn not_backwards<F: Frame>(&mut self, frame: &mut F, packet: &Packet) -> Option<Outcome> {
        if !self.taken_over || packet.kind != Kind::Tcp || self.clocks.is_empty() {
            return None;
        }
        let least = self.clocks.least(frame.head(), packet)?;
        Some(Segment::edit(frame, packet, |segment| {
            segment.set_timestamp(least);
        }))
    }

    /// Forgets connections that are half-open or closed for longer than the limits allow, and those of a state before
    /// the present one, a bounded number at a time. Returns how many; zero means that no more are due.
    pub fn age(&mut self, now: Ticks) -> usize {
        let before = self.len();
        for _ in 0..AGE_BATCH {
            let Some(oldest) = self.closed.oldest() else {
                break;
            };
            if !self.is_due(&self.closed[oldest], self.limits.linger, now) {
                break;
            }
            self.closed.remove(oldest);
        }
        for _ in 0..AGE_BATCH {
            let Some(oldest) = self.open.oldest_of(Standing::Provisional) else {
                break;
            };
            if !self.is_due(&self.open[oldest], self.limits.half_open, now) {
                break;
            }
            self.forget_half_open(oldest);
        }
        self.sweep();
        before - self.len()
    }

    /// Forgets open connections of an earlier state. What an earlier node learned lies among them and stays.
    fn sweep(&mut self) {
        for _ in 0..AGE_BATCH.min(self.unswept) {
            self.unswept -= 1;
            let Some(oldest) = self.open.oldest_of(Standing::Lasting) else {
                break;
            };
            if self.is_void(&self.open[oldest]) {
                self.open.remove(oldest);
            } else if self.open[oldest].is_inherited() {
                self.open.touch(oldest);
            } else {
                // All others were used since the state was loaded.
                self.unswept = 0;
                break;
            }
        }
    }

    /// Connections remembered, the closed ones included.
    pub fn len(&self) -> usize {
        self.open.len() + self.closed.len()
    }

    /// Whether no connection is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn segment_to_guest<F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet,
        now: Ticks,
    ) -> Outcome {
        let Some(place) = self.find_hashed(&packet.key.reversed()) else {
            return Outcome::Untouched;
        };
        let connection = self.at_mut(place);
        let (seq, timestamp) = (connection.seq, connection.timestamp);
        let outcome = if packet.tcp.flags.contains(TcpFlags::ACK) {
            Segment::edit(frame, packet, |segment| {
                segment.shift_acknowledgments(seq, timestamp);
            })
        } else {
            Outcome::Untouched
        };
        if outcome != Outcome::Shared {
            connection.heard_client(packet, now);
            self.used(place);
        }
        outcome
    }

    fn segment_from_guest<F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet,
        now: Ticks,
    ) -> Outcome {
        let Some(place) = self.find_hashed(&packet.key) else {
            return Outcome::Untouched;
        };
        let taken_over = self.taken_over;
        let connection = self.at_mut(place);
        let (seq, timestamp) = (connection.seq, connection.timestamp);
        let is_syn = packet.tcp.flags.contains(TcpFlags::SYN);
        if taken_over && is_syn && !connection.began_with(packet.tcp.seq) {
            self.remove(place);
            return Outcome::Untouched;
        }
        let keeps = keeps_its_sequence_number(packet) && !(taken_over && is_syn);
        let outcome = if (seq == 0 || keeps) && !taken_over {
            Outcome::Untouched
        } else {
            Segment::edit(frame, packet, |segment| {
                if !keeps {
                    segment.shift_sequence(seq.wrapping_neg());
                }
                if taken_over {
                    segment.shift_timestamp(timestamp.wrapping_neg());
                }
            })
        };
        if outcome != Outcome::Shared {
            connection.heard_guest(packet, now);
            self.used(place);
        }
        outcome
    }

    /// A router or the client quotes a segment that the guest sent.
    fn error_to_guest<F: Frame>(&mut self, frame: &mut F, packet: &Packet) -> Outcome {
        self.edit_embedded(frame, packet, FlowKey::clone, |segment, connection| {
            segment.shift_sequence(connection.seq);
        })
    }

    /// The SVM quotes a segment that the client sent and [`Rewriter::to_guest`] translated.
    fn error_from_guest<F: Frame>(&mut self, frame: &mut F, packet: &Packet) -> Outcome {
        self.edit_embedded(
            frame,
            packet,
            |key| key.reversed(),
            |segment, connection| {
                if segment
                    .flags()
                    .is_some_and(|flags| flags.contains(TcpFlags::ACK))
                {
                    segment.shift_acknowledgments(
                        connection.seq.wrapping_neg(),
                        connection.timestamp.wrapping_neg(),
                    );
                }
            },
        )
    }

    fn edit_embedded<F: Frame>(
        &mut self,
        frame: &mut F,
        packet: &Packet,
        from_guest: impl Fn(&FlowKey) -> FlowKey,
        edit: impl FnOnce(&mut Segment, &Connection),
    ) -> Outcome {
        let Some(quote) = packet.embedded_tcp(frame.head()) else {
            return Outcome::Untouched;
        };
        let Some(place) = self.find_hashed(&from_guest(&quote.key)) else {
            return Outcome::Untouched;
        };
        let Some(head) = frame.head_mut() else {
            return Outcome::Shared;
        };
        let checksum = usize::from(packet.l4) + ICMP_CHECKSUM;
        let mut segment = Segment::quoted(head, quote.tcp, quote.end, checksum);
        edit(&mut segment, self.at(place));
        segment.outcome()
    }

    /// Makes a connection the one used last, where it belongs by now.
    fn used(&mut self, place: Place) {
        match place {
            Place::Open(id) if self.open[id].is_closed() => {
                let key = *self.open.key(id);
                let connection = self.open.remove(id);
                if self.closed.len() == self.closed.capacity()
                    && let Some(oldest) = self.closed.oldest()
                {
                    self.closed.remove(oldest);
                }
                // There is room: the capacity is not 0 when an open connection exists.
                let _ = self
                    .closed
                    .insert(key, key.hash_seeded(self.hash_seed), connection);
            }
            Place::Open(id) => {
                if self.open[id].is_established() {
                    self.open.set_standing(id, Standing::Lasting);
                }
                self.open.touch(id);
            }
            Place::Closed(id) => self.closed.touch(id),
        }
    }

    fn find_hashed(&mut self, key: &FlowKey) -> Option<Place> {
        self.find(key, key.hash_seeded(self.hash_seed))
    }

    /// The connection with this key, unless the SVM has loaded a state since it was learned.
    fn find(&mut self, key: &FlowKey, hash: u64) -> Option<Place> {
        let place = self.find_any(key, hash)?;
        let connection = self.at(place);
        if self.holds(connection) {
            Some(place)
        } else {
            if !connection.is_inherited() {
                self.remove(place);
            }
            None
        }
    }

    fn find_any(&self, key: &FlowKey, hash: u64) -> Option<Place> {
        let open = self.open.find(key, hash).map(Place::Open);
        open.or_else(|| self.closed.find(key, hash).map(Place::Closed))
    }

    fn holds(&self, connection: &Connection) -> bool {
        connection.generation == self.generation || (self.taken_over && connection.is_inherited())
    }

    fn at(&self, place: Place) -> &Connection {
        match place {
            Place::Open(id) => &self.open[id],
            Place::Closed(id) => &self.closed[id],
        }
    }

    fn at_mut(&mut self, place: Place) -> &mut Connection {
        match place {
            Place::Open(id) => &mut self.open[id],
            Place::Closed(id) => &mut self.closed[id],
        }
    }

    fn remove(&mut self, place: Place) {
        match place {
            Place::Open(id) => self.open.remove(id),
            Place::Closed(id) => self.closed.remove(id),
        };
    }

    fn is_due(&self, connection: &Connection, limit: Ticks, now: Ticks) -> bool {
        // An inherited offset is not used before the SVM's node has taken over.
        let is_idle = now.saturating_sub(connection.last_use) > limit
            && (self.taken_over || !connection.is_inherited());
        self.is_void(connection) || is_idle
    }

    /// The SVM has loaded a state since the connection was learned.
    fn is_void(&self, connection: &Connection) -> bool {
        connection.generation != self.generation && !connection.is_inherited()
    }

    fn knows_nothing(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty()
    }
}

/// Whether a segment of the SVM goes on with the number it has: a SYN, whose number the comparison
/// is to learn, and a reset that answers a segment without ACK, whose number is always 0 (RFC
/// 9293, 3.10.7.1).
fn keeps_its_sequence_number(packet: &Packet) -> bool {
    let flags = packet.tcp.flags;
    flags.contains(TcpFlags::SYN)
        || flags.contains(TcpFlags::RST | TcpFlags::ACK) && packet.tcp.seq == 0
}
