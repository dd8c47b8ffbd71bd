//! Frames in slots of one allocation, and lists of them without any.
//!
//! A [`Slot`] holds a frame, what the comparison needs of its headers, and three pairs of links, so
//! that it can be in the list of its [`Standing`] and in one list of each [`ListKind`] at a time. The owner of a list keeps its head. All
//! memory is allocated by [`Slab::new`] (rule R10).

use crate::flow::FlowId;
use crate::frame::Ticks;
use crate::packet::TcpFlags;

/// Index of a slot, or [`NIL`].
pub(super) type SlotId = u32;

/// The end of a list.
pub(super) const NIL: SlotId = u32::MAX;

/// Marks of a slot: an S that a P was compared with has arrived at [`Slot::witnessed`]; the frame has
/// extras.
const WITNESSED: u8 = 1;
const EXTRAS: u8 = 2;

/// Which of a slot's links a list runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListKind {
    Flow,
    Open,
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
    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }
}

/// Where a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Free,
    /// A P that waits for its counterpart or for a commit.
    Held,
    /// An S that no P has used up yet.
    Pending,
    /// An S whose bytes a P has matched, kept as witness for the PVM's retransmissions.
    History,
}

/// Which list of its flow a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowList {
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

/// One held frame and what the comparison needs of its headers. What every frame needs comes
/// first: with a frame of one pointer it fills one cache line.
#[repr(C, align(64))]
pub(super) struct Slot<F> {
    pub frame: Option<F>,
    /// When it came, or when the wait of an S began anew; see [`Slot::came`].
    pub arrived: Ticks,
    age: [SlotId; 2],
    chain: [SlotId; 2],
    /// Position of the first payload byte in the stream.
    pub seq: u32,
    pub len: u32,
    pub ack: u32,
    /// Of a P: payload bytes found equal so far, from the front.
    pub verified: u32,
    pub flow: Option<FlowId>,
    pub payload: u16,
    /// Offset of the TCP header.
    pub transport: u16,
    /// A segment's window field.
    pub window: u16,
    pub flags: TcpFlags,
    pub standing: Standing,
    pub place: FlowList,
    /// A P whose every byte and control bit was found equal, or an S that a P has used up.
    pub complete: bool,
    /// A P whose SYN opens a new incarnation of its connection.
    pub opens: bool,
    /// Bits: [`WITNESSED`], [`EXTRAS`].
    marks: u8,
    /// Latest arrival among the S that a P was compared with, if there was one. Of an S whose wait began
    /// anew: when it came.
    witnessed: Ticks,
    open: [SlotId; 2],
    pub fragment: u16,
    /// A P that is in its connection's list of those that may leave before older ones.
    pub overtakes: bool,
}

impl<F> Slot<F> {
    fn free(next: SlotId) -> Self {
        Self {
            frame: None,
            arrived: 0,
            age: [NIL; 2],
            chain: [NIL, next],
            seq: 0,
            len: 0,
            ack: 0,
            verified: 0,
            flow: None,
            payload: 0,
            transport: 0,
            window: 0,
            flags: TcpFlags::default(),
            standing: Standing::Free,
            place: FlowList::Nowhere,
            complete: false,
            opens: false,
            marks: 0,
            witnessed: 0,
            open: [NIL; 2],
            fragment: 0,
            overtakes: false,
        }
    }

    /// Position behind the last payload byte; SYN and FIN are not counted.
    #[inline]
    pub(super) fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len)
    }

    /// Notes when an S arrived that a P was compared with.
    #[inline]
    pub(super) fn witness(&mut self, arrived: Ticks) {
        self.witnessed = if self.marks & WITNESSED != 0 {
            self.witnessed.max(arrived)
        } else {
            arrived
        };
        self.marks |= WITNESSED;
    }

    /// See [`Slot::witness`].
    #[inline]
    pub(super) fn witnessed(&self) -> Option<Ticks> {
        (self.marks & WITNESSED != 0).then_some(self.witnessed)
    }

    /// Lets the wait of an S begin now.
    pub(super) fn wait_anew(&mut self, now: Ticks) {
        self.witnessed = self.came();
        self.marks |= WITNESSED;
        self.arrived = now;
    }

    /// When an S came.
    #[inline]
    pub(super) fn came(&self) -> Ticks {
        self.witnessed().unwrap_or(self.arrived)
    }

    /// Notes that the frame has [`crate::packet::Packet::has_extras`].
    pub(super) fn mark_extras(&mut self) {
        self.marks |= EXTRAS;
    }

    /// See [`Slot::mark_extras`].
    #[inline]
    pub(super) fn has_extras(&self) -> bool {
        self.marks & EXTRAS != 0
    }

    /// The next one of its flow's list.
    #[inline(always)]
    pub(super) fn following(&self) -> SlotId {
        self.chain[1]
    }

    #[inline]
    fn links(&self, link: ListKind) -> &[SlotId; 2] {
        match link {
            ListKind::Flow => &self.chain,
            ListKind::Open => &self.open,
        }
    }

    #[inline]
    fn links_mut(&mut self, link: ListKind) -> &mut [SlotId; 2] {
        match link {
            ListKind::Flow => &mut self.chain,
            ListKind::Open => &mut self.open,
        }
    }
}

/// The slots.
pub(super) struct Slab<F> {
    slots: Box<[Slot<F>]>,
    /// The first free one; the next is its neighbour in the flow's chain.
    free: SlotId,
}

impl<F> Slab<F> {
    /// This many free slots.
    pub(super) fn new(slots: usize) -> Self {
        let next = |i: usize| if i + 1 < slots { i as SlotId + 1 } else { NIL };
        Self {
            slots: (0..slots).map(|i| Slot::free(next(i))).collect(),
            free: if slots == 0 { NIL } else { 0 },
        }
    }

    /// All slots, free or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(super) fn slot(&self, id: SlotId) -> &Slot<F> {
        &self.slots[id as usize]
    }

    #[inline]
    pub(super) fn slot_mut(&mut self, id: SlotId) -> &mut Slot<F> {
        &mut self.slots[id as usize]
    }

    /// Puts a frame into a free slot. There must be one: callers count.
    #[inline(always)]
    pub(super) fn take(&mut self, frame: F, now: Ticks) -> SlotId {
        let id = self.free;
        let slot = &mut self.slots[id as usize];
        self.free = slot.chain[1];
        slot.frame = Some(frame);
        slot.arrived = now;
        slot.flow = None;
        slot.place = FlowList::Nowhere;
        slot.seq = 0;
        slot.len = 0;
        slot.verified = 0;
        slot.flags = TcpFlags::default();
        slot.complete = false;
        slot.opens = false;
        slot.marks = 0;
        id
    }

    /// Takes the frame out of a slot that is in no list, and frees it.
    #[inline(always)]
    pub(super) fn vacate(&mut self, id: SlotId) -> F {
        let free = std::mem::replace(&mut self.free, id);
        let slot = self.slot_mut(id);
        slot.chain[1] = free;
        slot.flow = None;
        slot.frame.take().expect("a slot in use holds a frame")
    }

    /// The neighbour towards the tail.
    #[inline]
    pub(super) fn next(&self, link: ListKind, id: SlotId) -> SlotId {
        self.slot(id).links(link)[1]
    }

    /// The neighbour towards the head.
    #[inline]
    pub(super) fn previous(&self, link: ListKind, id: SlotId) -> SlotId {
        self.slot(id).links(link)[0]
    }

    /// Appends a slot to a list.
    #[inline(always)]
    pub(super) fn push_back(&mut self, link: ListKind, list: &mut List, id: SlotId) {
        // Borrowed once, so that its address and length stay in registers over the stores.
        let slots = &mut *self.slots;
        let last = std::mem::replace(&mut list.tail, id);
        *slots[id as usize].links_mut(link) = [last, NIL];
        match last {
            NIL => list.head = id,
            _ => slots[last as usize].links_mut(link)[1] = id,
        }
    }

    /// Appends a slot to the list of its standing.
    #[inline(always)]
    pub(super) fn enter(&mut self, list: &mut List, id: SlotId, standing: Standing) {
        let slots = &mut *self.slots;
        let last = std::mem::replace(&mut list.tail, id);
        let slot = &mut slots[id as usize];
        slot.age = [last, NIL];
        slot.standing = standing;
        match last {
            NIL => list.head = id,
            _ => slots[last as usize].age[1] = id,
        }
    }

    /// Takes a slot out of the list of its standing.
    #[inline(always)]
    pub(super) fn leave(&mut self, list: &mut List, id: SlotId) {
        let slots = &mut *self.slots;
        let slot = &mut slots[id as usize];
        slot.standing = Standing::Free;
        let [before, after] = slot.age;
        match before {
            NIL => list.head = after,
            _ => slots[before as usize].age[1] = after,
        }
        match after {
            NIL => list.tail = before,
            _ => slots[after as usize].age[0] = before,
        }
    }

    /// Inserts a slot behind `after`, at the head if that is [`NIL`].
    pub(super) fn insert_after(
        &mut self,
        link: ListKind,
        list: &mut List,
        after: SlotId,
        id: SlotId,
    ) {
        let before = if after == NIL {
            list.head
        } else {
            self.next(link, after)
        };
        *self.slot_mut(id).links_mut(link) = [after, before];
        match after {
            NIL => list.head = id,
            _ => self.slot_mut(after).links_mut(link)[1] = id,
        }
        match before {
            NIL => list.tail = id,
            _ => self.slot_mut(before).links_mut(link)[0] = id,
        }
    }

    /// Takes a slot out of a list.
    #[inline(always)]
    pub(super) fn unlink(&mut self, link: ListKind, list: &mut List, id: SlotId) {
        // Borrowed once, so that its address and length stay in registers over the stores.
        let slots = &mut *self.slots;
        let [before, after] = *slots[id as usize].links(link);
        match before {
            NIL => list.head = after,
            _ => slots[before as usize].links_mut(link)[1] = after,
        }
        match after {
            NIL => list.tail = before,
            _ => slots[after as usize].links_mut(link)[0] = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_frame_needs_fills_one_cache_line() {
        type OfMbuf = Slot<Box<u8>>;
        assert_eq!(std::mem::offset_of!(OfMbuf, witnessed), 64);
        assert_eq!(size_of::<OfMbuf>(), 128);
    }
}
