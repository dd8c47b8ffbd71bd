//! The frames that a comparison holds, in one slab with three links each.
//!
//! Every held frame has a [`Slot`]. One link chains it with the frames of its flow, another with
//! the frames of its flow that still lack a counterpart, the third with all frames of the same
//! standing in order of arrival: P held, S pending, S kept as history. So the oldest frame that
//! waits is found at once whatever the number of flows (rule R9), and what a commit releases leaves
//! in the order in which the PVM sent it. A P that may leave gives up its slot and waits for the
//! node in a queue. All memory is allocated by [`Hold::new`] (rule R10).

use super::Release;
use super::outgoing::Outgoing;
use super::trail::{Mark, Step, Trail};
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
    Flow,
    Age,
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

/// One held frame and what the comparison needs of its headers. What every frame needs comes
/// first: with a frame of one pointer it fills one cache line.
#[repr(C, align(64))]
pub(super) struct Slot<F> {
    pub frame: Option<F>,
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
    pub place: Place,
    /// A P whose every byte and control bit was found equal, or an S that a P has used up.
    pub complete: bool,
    /// A P whose SYN opens a new incarnation of its connection.
    pub opens: bool,
    is_witnessed: bool,
    /// Latest arrival among the S that a P was compared with, if there was one.
    witnessed: Ticks,
    open: [SlotId; 2],
    pub fragment: u16,
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
            place: Place::Nowhere,
            complete: false,
            opens: false,
            is_witnessed: false,
            witnessed: 0,
            open: [NIL; 2],
            fragment: 0,
        }
    }

    /// Position behind the last payload byte; SYN and FIN are not counted.
    #[inline]
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len)
    }

    /// Notes when an S arrived that a P was compared with.
    #[inline]
    pub fn witness(&mut self, arrived: Ticks) {
        self.witnessed = if self.is_witnessed {
            self.witnessed.max(arrived)
        } else {
            arrived
        };
        self.is_witnessed = true;
    }

    #[inline]
    fn witnessed(&self) -> Option<Ticks> {
        self.is_witnessed.then_some(self.witnessed)
    }

    #[inline]
    fn links(&self, link: Link) -> &[SlotId; 2] {
        match link {
            Link::Flow => &self.chain,
            Link::Age => &self.age,
            Link::Open => &self.open,
        }
    }

    #[inline]
    fn links_mut(&mut self, link: Link) -> &mut [SlotId; 2] {
        match link {
            Link::Flow => &mut self.chain,
            Link::Age => &mut self.age,
            Link::Open => &mut self.open,
        }
    }
}

/// What was found by [`Hold::drop_oldest_history`].
pub(super) enum Oldest {
    None,
    Dropped,
    InSlot(SlotId),
}

/// Bounds of a [`Hold`].
#[derive(Clone, Copy)]
struct Bounds {
    primary: usize,
    secondary: usize,
    history: usize,
}

/// The slab and its lists by age.
pub(super) struct Hold<F> {
    slots: Box<[Slot<F>]>,
    free: SlotId,
    /// P that wait, oldest first.
    pub held: List,
    /// S without a P, oldest first.
    pub pending: List,
    /// S kept as history, oldest first; those of them that have no slot.
    pub history: List,
    trail: Trail<F>,
    /// P to send, in order.
    released: Outgoing<Release<F>>,
    /// P and S in slots.
    primaries: usize,
    secondaries: usize,
    /// Buffers of all P, of S in slots, and of those of them that are history: what the bounds are for.
    primary_buffers: usize,
    secondary_buffers: usize,
    history_buffers: usize,
    /// P more than came in, and their buffers, since the last [`Hold::take_divided`].
    divided: (usize, usize),
    bounds: Bounds,
}

impl<F: Frame> Hold<F> {
    /// Room for `primary` P and `secondary` S, of which at most `history` are history.
    pub fn new(primary: usize, secondary: usize, history: usize) -> Self {
        let slots = primary + secondary;
        let next = |i: usize| if i + 1 < slots { i as SlotId + 1 } else { NIL };
        Self {
            slots: (0..slots).map(|i| Slot::free(next(i))).collect(),
            free: if slots == 0 { NIL } else { 0 },
            held: List::default(),
            pending: List::default(),
            history: List::default(),
            trail: Trail::new(history.min(secondary) + 1),
            released: Outgoing::new(primary),
            primaries: 0,
            secondaries: 0,
            primary_buffers: 0,
            secondary_buffers: 0,
            history_buffers: 0,
            divided: (0, 0),
            bounds: Bounds {
                primary,
                secondary,
                history: history.min(secondary),
            },
        }
    }

    #[inline]
    pub fn slot(&self, id: SlotId) -> &Slot<F> {
        &self.slots[id as usize]
    }

    #[inline]
    pub fn slot_mut(&mut self, id: SlotId) -> &mut Slot<F> {
        &mut self.slots[id as usize]
    }

    /// The frame of a slot in use.
    #[inline]
    pub fn frame(&self, id: SlotId) -> &F {
        self.slot(id)
            .frame
            .as_ref()
            .expect("a slot in a list holds a frame")
    }

    /// P of one buffer each that may still be taken in. Longer ones are taken in as well, and may
    /// leave no room.
    #[inline]
    pub fn primary_room(&self) -> usize {
        self.bounds.primary.saturating_sub(self.primary_buffers)
    }

    /// P that wait for a counterpart or a commit.
    #[inline]
    pub fn held_count(&self) -> usize {
        self.primaries
    }

    /// Buffers of all P in here.
    pub fn primary_buffers(&self) -> usize {
        self.primary_buffers
    }

    /// Buffers of all S in here.
    #[inline]
    pub fn secondary_buffers(&self) -> usize {
        self.secondary_buffers + self.trail.buffers()
    }

    /// All frames in here.
    pub fn in_use(&self) -> usize {
        self.primaries + self.released.len() + self.secondaries + self.trail.len()
    }

    /// A slot for a P, standing held; the frame comes back when there is none. The caller has seen
    /// [`Hold::primary_room`], if only for a whole burst.
    #[inline(always)]
    pub fn insert_primary(&mut self, frame: F, now: Ticks) -> Result<SlotId, F> {
        if self.primaries == self.bounds.primary {
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
    #[inline(always)]
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

    /// Lets a held P leave, which is in no flow's list any more.
    #[inline(always)]
    pub fn release(&mut self, id: SlotId, now: Ticks) {
        self.leave(id, Standing::Held);
        self.primaries -= 1;
        let slot = self.slot_mut(id);
        let (arrived, witnessed) = (slot.arrived, slot.witnessed());
        let frame = self.vacate(id);
        self.released.push(Release {
            frame,
            arrived,
            cleared: now,
            witnessed,
        });
    }

    /// Lets a P leave that needs no slot. The caller has seen [`Hold::primary_room`].
    #[inline(always)]
    pub fn pass(&mut self, frame: F, now: Ticks, witnessed: Option<Ticks>) {
        self.primary_buffers += frame.buffers();
        self.released.push(Release {
            frame,
            arrived: now,
            cleared: now,
            witnessed,
        });
    }

    /// Lets a part of a held P leave; the rest of it waits in its place. The caller has seen
    /// [`Hold::primary_room`].
    pub fn divide(&mut self, id: SlotId, front: F, rest: F, now: Ticks) {
        let more = (front.buffers() + rest.buffers()).saturating_sub(self.frame(id).buffers());
        self.primary_buffers += more;
        self.divided.0 += 1;
        self.divided.1 += more;
        let slot = self.slot_mut(id);
        slot.frame = Some(rest);
        let (arrived, witnessed) = (slot.arrived, slot.witnessed());
        self.released.push(Release {
            frame: front,
            arrived,
            cleared: now,
            witnessed,
        });
    }

    /// P that became more since the last call, and their buffers.
    pub fn take_divided(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.divided)
    }

    /// Lets a held P leave, which is in no flow's list any more and has met one S, which came now.
    #[inline(always)]
    pub fn release_met(&mut self, id: SlotId, now: Ticks) {
        self.leave(id, Standing::Held);
        self.primaries -= 1;
        let arrived = self.slot(id).arrived;
        let frame = self.vacate(id);
        self.released.push(Release {
            frame,
            arrived,
            cleared: now,
            witnessed: Some(now),
        });
    }

    /// Keeps an S that came now as history, without a slot. The caller has seen
    /// [`Hold::secondary_is_full`].
    #[inline(always)]
    pub fn keep_step(&mut self, step: Step<F>) -> Mark {
        self.push_step(step)
    }

    /// Makes a pending S history that is in no flow's list any more, and gives up its slot.
    #[inline(always)]
    pub fn fold(&mut self, id: SlotId, flow: FlowId, before: Option<Mark>) -> Mark {
        self.leave(id, Standing::Pending);
        let slot = self.slot(id);
        let (arrived, seq, len, payload) = (slot.arrived, slot.seq, slot.len, slot.payload);
        let frame = self.vacate(id);
        self.secondaries -= 1;
        self.secondary_buffers -= frame.buffers();
        self.push_step(Step {
            frame,
            arrived,
            flow,
            before,
            seq,
            len,
            payload,
        })
    }

    #[inline(always)]
    fn push_step(&mut self, step: Step<F>) -> Mark {
        if self.trail.is_full() {
            self.trail.drop_oldest();
        }
        self.trail.push(step)
    }

    /// Takes history of a flow that has no slot back into one, as complete.
    pub fn unfold(&mut self, flow: FlowId, mark: Mark) -> Option<(SlotId, Option<Mark>)> {
        let step = self.trail.take(flow, mark)?;
        self.secondaries += 1;
        self.secondary_buffers += step.frame.buffers();
        let id = self.take(step.frame, step.arrived);
        self.enter(id, Standing::History);
        let slot = self.slot_mut(id);
        (slot.seq, slot.len, slot.payload) = (step.seq, step.len, step.payload);
        slot.flow = Some(flow);
        slot.place = Place::Witness;
        slot.complete = true;
        Some((id, step.before))
    }

    /// The next P to send.
    #[inline]
    pub fn next_release(&mut self) -> Option<Release<F>> {
        let release = self.released.pop()?;
        self.primary_buffers -= release.frame.buffers();
        Some(release)
    }

    /// Whether an S fits without giving up history.
    #[inline]
    pub fn secondary_is_full(&self) -> bool {
        self.secondary_buffers() >= self.bounds.secondary
    }

    /// Whether there is more history than allowed.
    #[inline(always)]
    pub fn history_is_over(&self) -> bool {
        self.history_buffers() > self.bounds.history
    }

    /// Drops the oldest history above what is allowed, as long as none of it has a slot: then the
    /// caller goes on.
    #[inline(always)]
    pub fn trim_steps(&mut self) {
        if self.history.head == NIL {
            while self.history_is_over() && !self.trail.is_empty() {
                self.trail.drop_oldest();
            }
        }
    }

    /// Buffers of the S that are history, in slots or not.
    #[inline(always)]
    fn history_buffers(&self) -> usize {
        self.history_buffers + self.trail.buffers()
    }

    /// Drops the S that came first of those that are history without a slot, unless one with a
    /// slot came before it: then that one comes back, which the caller unlinks from its flow and
    /// drops.
    #[inline(always)]
    pub fn drop_oldest_history(&mut self) -> Oldest {
        let step = self.trail.oldest();
        let head = self.history.head;
        match step {
            Some(arrived) if head == NIL || arrived <= self.slot(head).arrived => {
                self.trail.drop_oldest();
                Oldest::Dropped
            }
            _ if head == NIL => Oldest::None,
            _ => Oldest::InSlot(head),
        }
    }

    /// Makes a pending S history, at the young end of it.
    #[inline(always)]
    pub fn retire(&mut self, id: SlotId) {
        self.leave(id, Standing::Pending);
        self.enter(id, Standing::History);
    }

    /// Frees a slot of history that is in no flow's list any more.
    #[inline(always)]
    pub fn drop_history(&mut self, id: SlotId) {
        self.leave(id, Standing::History);
        self.secondaries -= 1;
        self.secondary_buffers -= self.vacate(id).buffers();
    }

    /// Frees a slot that is in no flow's list any more.
    pub fn remove(&mut self, id: SlotId) -> F {
        let standing = self.slot(id).standing;
        self.leave(id, standing);
        let buffers = self.frame(id).buffers();
        match standing {
            Standing::Held => {
                self.primaries -= 1;
                self.primary_buffers -= buffers;
            }
            Standing::Pending | Standing::History => {
                self.secondaries -= 1;
                self.secondary_buffers -= buffers;
            }
            Standing::Free => unreachable!("a free slot is in no list"),
        }
        self.vacate(id)
    }

    /// The neighbour towards the tail.
    #[inline]
    pub fn next(&self, link: Link, id: SlotId) -> SlotId {
        self.slot(id).links(link)[1]
    }

    /// The neighbour towards the head.
    #[inline]
    pub fn previous(&self, link: Link, id: SlotId) -> SlotId {
        self.slot(id).links(link)[0]
    }

    /// Appends a slot to a list.
    #[inline(always)]
    pub fn push_back(&mut self, link: Link, list: &mut List, id: SlotId) {
        push_back(&mut self.slots, link, list, id);
    }

    /// Inserts a slot behind `after`, at the head if that is [`NIL`].
    pub fn insert_after(&mut self, link: Link, list: &mut List, after: SlotId, id: SlotId) {
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
    pub fn unlink(&mut self, link: Link, list: &mut List, id: SlotId) {
        unlink(&mut self.slots, link, list, id);
    }

    #[inline(always)]
    fn take(&mut self, frame: F, now: Ticks) -> SlotId {
        let id = self.free;
        let slot = &mut self.slots[id as usize];
        self.free = slot.chain[1];
        slot.frame = Some(frame);
        slot.arrived = now;
        slot.flow = None;
        slot.place = Place::Nowhere;
        slot.seq = 0;
        slot.len = 0;
        slot.verified = 0;
        slot.flags = TcpFlags::default();
        slot.complete = false;
        slot.opens = false;
        slot.is_witnessed = false;
        id
    }

    #[inline(always)]
    fn vacate(&mut self, id: SlotId) -> F {
        let free = std::mem::replace(&mut self.free, id);
        let slot = self.slot_mut(id);
        slot.chain[1] = free;
        slot.flow = None;
        slot.frame.take().expect("a slot in use holds a frame")
    }

    #[inline(always)]
    fn enter(&mut self, id: SlotId, standing: Standing) {
        let list = match standing {
            Standing::Held => &mut self.held,
            Standing::Pending => &mut self.pending,
            Standing::History => {
                self.history_buffers += self.frame(id).buffers();
                &mut self.history
            }
            Standing::Free => unreachable!("a free slot is in no list"),
        };
        push_back(&mut self.slots, Link::Age, list, id);
        self.slots[id as usize].standing = standing;
    }

    #[inline(always)]
    fn leave(&mut self, id: SlotId, standing: Standing) {
        let list = match standing {
            Standing::Held => &mut self.held,
            Standing::Pending => &mut self.pending,
            Standing::History => {
                self.history_buffers -= self.frame(id).buffers();
                &mut self.history
            }
            Standing::Free => unreachable!("a free slot is in no list"),
        };
        unlink(&mut self.slots, Link::Age, list, id);
        self.slots[id as usize].standing = Standing::Free;
    }
}

#[inline(always)]
fn push_back<F>(slots: &mut [Slot<F>], link: Link, list: &mut List, id: SlotId) {
    let last = std::mem::replace(&mut list.tail, id);
    *slots[id as usize].links_mut(link) = [last, NIL];
    match last {
        NIL => list.head = id,
        _ => slots[last as usize].links_mut(link)[1] = id,
    }
}

#[inline(always)]
fn unlink<F>(slots: &mut [Slot<F>], link: Link, list: &mut List, id: SlotId) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowKey, FlowTable};
    use crate::frame::HeapFrame;

    #[test]
    fn what_every_frame_needs_fills_one_cache_line() {
        type OfMbuf = Slot<Box<u8>>;
        assert_eq!(std::mem::offset_of!(OfMbuf, witnessed), 64);
        assert_eq!(size_of::<OfMbuf>(), 128);
    }

    #[test]
    fn a_slot_is_used_again_and_history_needs_none() {
        let mut hold = Hold::new(1, 1, 1);
        let frame = || HeapFrame::new(b"frame");
        let flow = FlowTable::new(1)
            .insert(FlowKey::default(), 0, ())
            .expect("room");
        for now in 0..3 {
            let p = hold.insert_primary(frame(), now).expect("room");
            assert!(hold.insert_primary(frame(), now).is_err());
            let s = hold.insert_secondary(frame(), now).expect("room");
            hold.release_met(p, now + 1);
            let mark = hold.fold(s, flow, None);
            assert_eq!((hold.held_count(), hold.in_use()), (0, 2));
            assert!(hold.secondary_is_full() && hold.primary_room() == 0);
            let release = hold.next_release().expect("one");
            assert_eq!((release.arrived, release.cleared), (now, now + 1));
            if now == 1 {
                let (slot, before) = hold.unfold(flow, mark).expect("it is there");
                assert!(before.is_none() && hold.slot(slot).complete);
                assert!(matches!(hold.drop_oldest_history(), Oldest::InSlot(id) if id == slot));
                hold.drop_history(slot);
            } else {
                assert!(matches!(hold.drop_oldest_history(), Oldest::Dropped));
            }
            assert!(matches!(hold.drop_oldest_history(), Oldest::None));
            assert_eq!(hold.in_use(), 0);
        }
    }
}
