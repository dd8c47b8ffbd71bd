//! The frames that a comparison holds, in one slab with three links each.
//!
//! Every held frame has a [`Slot`]. One link chains it with the frames of its flow, another with
//! the frames of its flow that still lack a counterpart, the third with all frames of the same
//! standing in order of arrival: P held, S pending, S kept as history, P
//! released. So the oldest frame that waits is found at once whatever the number of flows (rule
//! R9), and what a commit releases leaves in the order in which the PVM sent it. All memory is
//! allocated by [`Hold::new`] (rule R10).

use crate::flow::FlowId;
use crate::frame::{Frame, Ticks};
use crate::packet::TcpFlags;

/// Index of a slot, or [`NIL`].
pub(super) type SlotId = u32;

/// The end of a list.
pub(super) const NIL: SlotId = u32::MAX;

/// Which of a slot's links a list runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Flow = 0,
    Age = 1,
    Open = 2,
}

/// A doubly linked list of slots; its links live in the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub head: SlotId,
    pub tail: SlotId,
}

impl Default for List {
    fn default() -> Self {
        Self {
            head: NIL,
            tail: NIL,
        }
    }
}

impl List {
    pub fn is_empty(&self) -> bool {
        self.head == NIL
    }
}

/// Where a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Free,
    /// A P that waits for its counterpart or for a commit.
    Held,
    /// A P that the node may send.
    Released,
    /// An S that no P has used up yet.
    Pending,
    /// An S whose bytes a P has matched, kept as witness for the PVM's retransmissions.
    History,
}

/// Which list of its flow a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In none: the flow is unknown.
    Nowhere,
    /// Among the P of the flow, in order of arrival.
    Primary,
    /// Among the S that P are compared with.
    Witness,
    /// Among the S whose SYN, FIN or RST no P has matched yet.
    Control,
    /// Among the S that belong to the connection's next incarnation.
    Deferred,
}

/// One held frame and what the comparison needs of its headers.
pub(super) struct Slot<F> {
    pub frame: Option<F>,
    pub arrived: Ticks,
    /// Latest arrival among the S that a P was compared with.
    pub witnessed: Option<Ticks>,
    /// When a P became free to leave.
    pub cleared: Ticks,
    pub flow: Option<FlowId>,
    pub place: Place,
    links: [[SlotId; 2]; 3],
    /// Position of the first payload byte in the stream.
    pub seq: u32,
    pub len: u32,
    pub ack: u32,
    /// Of a P: payload bytes found equal so far, from the front.
    pub verified: u32,
    pub payload: u16,
    /// Offset of the TCP header.
    pub transport: u16,
    /// A segment's window field.
    pub window: u16,
    pub fragment: u16,
    pub flags: TcpFlags,
    pub standing: Standing,
    /// A P whose every byte and control bit was found equal, or an S that a P has used up.
    pub complete: bool,
    /// A P whose SYN opens a new incarnation of its connection.
    pub opens: bool,
}

impl<F> Slot<F> {
    /// Position behind the last payload byte; SYN and FIN are not counted.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len)
    }
}

/// The slab and its lists by age.
pub(super) struct Hold<F> {
    slots: Box<[Slot<F>]>,
    free: SlotId,
    /// P that wait, oldest first.
    pub held: List,
    /// P to send, in order.
    pub released: List,
    /// S without a P, oldest first.
    pub pending: List,
    /// S kept as history, oldest first.
    pub history: List,
    primaries: usize,
    secondaries: usize,
    /// Buffers of all P, of all S, and of those S that are history: what the limits are for.
    primary_buffers: usize,
    secondary_buffers: usize,
    history_buffers: usize,
    held_count: usize,
    limit_primary: usize,
    limit_secondary: usize,
    limit_history: usize,
}

impl<F: Frame> Hold<F> {
    /// Room for `primary` P and `secondary` S, of which at most `history` are history.
    pub fn new(primary: usize, secondary: usize, history: usize) -> Self {
        let slots: Box<[Slot<F>]> = (0..primary + secondary)
            .map(|i| Slot {
                frame: None,
                arrived: 0,
                witnessed: None,
                cleared: 0,
                flow: None,
                place: Place::Nowhere,
                links: [[NIL, i as SlotId + 1], [NIL, NIL], [NIL, NIL]],
                seq: 0,
                len: 0,
                ack: 0,
                verified: 0,
                payload: 0,
                transport: 0,
                window: 0,
                fragment: 0,
                flags: Default::default(),
                standing: Standing::Free,
                complete: false,
                opens: false,
            })
            .collect();
        let mut hold = Self {
            free: if slots.is_empty() { NIL } else { 0 },
            slots,
            held: List::default(),
            released: List::default(),
            pending: List::default(),
            history: List::default(),
            primaries: 0,
            secondaries: 0,
            primary_buffers: 0,
            secondary_buffers: 0,
            history_buffers: 0,
            held_count: 0,
            limit_primary: primary,
            limit_secondary: secondary,
            limit_history: history.min(secondary),
        };
        if let Some(last) = hold.slots.last_mut() {
            last.links[0][1] = NIL;
        }
        hold
    }

    pub fn slot(&self, id: SlotId) -> &Slot<F> {
        &self.slots[id as usize]
    }

    pub fn slot_mut(&mut self, id: SlotId) -> &mut Slot<F> {
        &mut self.slots[id as usize]
    }

    /// The frame of a slot in use.
    pub fn frame(&self, id: SlotId) -> &F {
        self.slot(id)
            .frame
            .as_ref()
            .expect("a slot in a list holds a frame")
    }

    /// P of one buffer each that may still be taken in. Longer ones are taken in as well, and may
    /// leave no room.
    pub fn primary_room(&self) -> usize {
        self.limit_primary
            .saturating_sub(self.primaries.max(self.primary_buffers))
    }

    /// P that wait for a counterpart or a commit.
    pub fn held_count(&self) -> usize {
        self.held_count
    }

    /// Buffers of all P in slots.
    pub fn primary_buffers(&self) -> usize {
        self.primary_buffers
    }

    /// Buffers of all S in slots.
    pub fn secondary_buffers(&self) -> usize {
        self.secondary_buffers
    }

    /// All frames in slots.
    pub fn in_use(&self) -> usize {
        self.primaries + self.secondaries
    }

    /// A slot for a P, standing held; the frame comes back when there is no room.
    pub fn insert_primary(&mut self, frame: F, now: Ticks) -> Result<SlotId, F> {
        if self.primaries == self.limit_primary {
            return Err(frame);
        }
        self.primaries += 1;
        self.primary_buffers += frame.buffers();
        let id = self.take(frame, now);
        self.enter(id, Standing::Held);
        Ok(id)
    }

    /// A slot for an S, standing pending; the frame comes back when there is no room. History
    /// makes room through [`Hold::oldest_history`], which the caller unlinks from its flow first.
    pub fn insert_secondary(&mut self, frame: F, now: Ticks) -> Result<SlotId, F> {
        if self.secondary_is_full() {
            return Err(frame);
        }
        self.secondaries += 1;
        self.secondary_buffers += frame.buffers();
        let id = self.take(frame, now);
        self.enter(id, Standing::Pending);
        Ok(id)
    }

    /// Whether an S fits without giving up history.
    pub fn secondary_is_full(&self) -> bool {
        self.secondaries.max(self.secondary_buffers) >= self.limit_secondary
    }

    /// Whether there is more history than allowed.
    pub fn history_is_over(&self) -> bool {
        self.history_buffers > self.limit_history
    }

    /// The S that has been history for longest.
    pub fn oldest_history(&self) -> Option<SlotId> {
        (!self.history.is_empty()).then_some(self.history.head)
    }

    /// Moves a slot to another standing, at the young end of its list.
    pub fn stand(&mut self, id: SlotId, standing: Standing) {
        self.leave(id);
        self.enter(id, standing);
    }

    /// Frees a slot that is in no flow's list any more.
    pub fn remove(&mut self, id: SlotId) -> F {
        let standing = self.slot(id).standing;
        self.leave(id);
        let buffers = self.frame(id).buffers();
        match standing {
            Standing::Held | Standing::Released => {
                self.primaries -= 1;
                self.primary_buffers -= buffers;
            }
            Standing::Pending | Standing::History => {
                self.secondaries -= 1;
                self.secondary_buffers -= buffers;
            }
            Standing::Free => unreachable!("a free slot is in no list"),
        }
        let free = self.free;
        let slot = self.slot_mut(id);
        slot.links[0][1] = free;
        slot.flow = None;
        let frame = slot.frame.take().expect("a slot in use holds a frame");
        self.free = id;
        frame
    }

    /// The neighbour towards the tail.
    pub fn next(&self, link: Link, id: SlotId) -> SlotId {
        self.slot(id).links[link as usize][1]
    }

    /// The neighbour towards the head.
    pub fn previous(&self, link: Link, id: SlotId) -> SlotId {
        self.slot(id).links[link as usize][0]
    }

    /// Appends a slot to a list.
    pub fn push_back(&mut self, link: Link, list: &mut List, id: SlotId) {
        self.insert_after(link, list, list.tail, id);
    }

    /// Inserts a slot behind `after`, at the head if that is [`NIL`].
    pub fn insert_after(&mut self, link: Link, list: &mut List, after: SlotId, id: SlotId) {
        let l = link as usize;
        let before = if after == NIL {
            list.head
        } else {
            self.slots[after as usize].links[l][1]
        };
        self.slots[id as usize].links[l] = [after, before];
        match after {
            NIL => list.head = id,
            _ => self.slots[after as usize].links[l][1] = id,
        }
        match before {
            NIL => list.tail = id,
            _ => self.slots[before as usize].links[l][0] = id,
        }
    }

    /// Takes a slot out of a list.
    pub fn unlink(&mut self, link: Link, list: &mut List, id: SlotId) {
        let l = link as usize;
        let [before, after] = self.slots[id as usize].links[l];
        match before {
            NIL => list.head = after,
            _ => self.slots[before as usize].links[l][1] = after,
        }
        match after {
            NIL => list.tail = before,
            _ => self.slots[after as usize].links[l][0] = before,
        }
    }

    fn take(&mut self, frame: F, now: Ticks) -> SlotId {
        let id = self.free;
        let slot = &mut self.slots[id as usize];
        self.free = slot.links[0][1];
        slot.frame = Some(frame);
        slot.arrived = now;
        slot.witnessed = None;
        slot.cleared = now;
        slot.flow = None;
        slot.place = Place::Nowhere;
        slot.seq = 0;
        slot.len = 0;
        slot.flags = TcpFlags::default();
        slot.verified = 0;
        slot.complete = false;
        slot.opens = false;
        id
    }

    fn list_of(&mut self, standing: Standing) -> List {
        match standing {
            Standing::Held => self.held,
            Standing::Released => self.released,
            Standing::Pending => self.pending,
            Standing::History => self.history,
            Standing::Free => List::default(),
        }
    }

    fn store(&mut self, standing: Standing, list: List) {
        match standing {
            Standing::Held => self.held = list,
            Standing::Released => self.released = list,
            Standing::Pending => self.pending = list,
            Standing::History => self.history = list,
            Standing::Free => {}
        }
    }

    fn enter(&mut self, id: SlotId, standing: Standing) {
        match standing {
            Standing::History => self.history_buffers += self.frame(id).buffers(),
            Standing::Held => self.held_count += 1,
            _ => {}
        }
        let mut list = self.list_of(standing);
        self.push_back(Link::Age, &mut list, id);
        self.store(standing, list);
        self.slot_mut(id).standing = standing;
    }

    fn leave(&mut self, id: SlotId) {
        let standing = self.slot(id).standing;
        match standing {
            Standing::History => self.history_buffers -= self.frame(id).buffers(),
            Standing::Held => self.held_count -= 1,
            _ => {}
        }
        let mut list = self.list_of(standing);
        self.unlink(Link::Age, &mut list, id);
        self.store(standing, list);
        self.slot_mut(id).standing = Standing::Free;
    }
}
