//! The frames that a comparison holds: where each stands, and how many there may be.
//!
//! A P is held, an S pending or kept as history. A slot's one link chains it with the frames of its
//! flow, another with the frames of its flow that still lack a counterpart, the third with all frames
//! of the same standing in order of arrival. So the oldest frame that waits is found at once whatever
//! the number of flows (rule R9), and what a commit releases leaves in the order in which the PVM sent
//! it. A P that may leave gives up its slot and waits for the node in a queue. Bounds count buffers; all
//! memory is allocated by [`Hold::new`] (rule R10).

use super::Release;
use super::history::{Entry, EntryNumber, HistoryRing};
use super::outgoing::Outgoing;
use super::slab::Slab;
pub(super) use super::slab::{FlowList, List, ListKind, NIL, Slot, SlotId, Standing};
use crate::flow::FlowId;
use crate::frame::{BURST, Frame, Ticks};

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
    /// From here on a flow has to be entitled to the rest.
    crowded: usize,
    history: usize,
}

/// The part of the room for S that is kept for flows with few waiting frames: one in this many buffers.
const RESERVE: usize = 4;
/// Few waiting frames: at most one in this many buffers.
const LITTLE: usize = 256;

/// Slots that [`Hold::sample`] looks at.
const SAMPLE: u32 = 256;

/// The room for S that any flow may take.
fn without_reserve(secondary: usize) -> usize {
    secondary - secondary / RESERVE
}

/// The slab and its lists by age.
pub(super) struct Hold<F> {
    slab: Slab<F>,
    /// P that wait, oldest first.
    pub held: List,
    /// S without a P, oldest first.
    pub pending: List,
    /// S kept as history, oldest first; those of them that have no slot.
    pub history: List,
    ring: HistoryRing<F>,
    /// P to send, in order.
    released: Outgoing<Release<F>>,
    /// P and S in slots.
    primaries: usize,
    secondaries: usize,
    /// Buffers of all P, of S in slots, and of those of them that are history: what the bounds are for.
    primary_buffers: usize,
    secondary_buffers: usize,
    history_buffers: usize,
    /// P that the division of a frame added, and their buffers, since the last [`Hold::take_divided`].
    divided: (usize, usize),
    /// P that were dropped and their buffers, since the last [`Hold::take_dropped`].
    dropped: (usize, usize),
    bounds: Bounds,
}

impl<F: Frame> Hold<F> {
    /// Room for `primary` P and `secondary` S, of which at most `history` are history.
    pub(super) fn new(primary: usize, secondary: usize, history: usize) -> Self {
        Self {
            slab: Slab::new(primary + secondary),
            held: List::default(),
            pending: List::default(),
            history: List::default(),
            ring: HistoryRing::new(history.min(secondary) + 1),
            released: Outgoing::new(primary),
            primaries: 0,
            secondaries: 0,
            primary_buffers: 0,
            secondary_buffers: 0,
            history_buffers: 0,
            divided: (0, 0),
            dropped: (0, 0),
            bounds: Bounds {
                primary,
                secondary,
                crowded: without_reserve(secondary),
                history: history.min(secondary),
            },
        }
    }

    #[inline]
    pub(super) fn slot(&self, id: SlotId) -> &Slot<F> {
        self.slab.slot(id)
    }

    #[inline]
    pub(super) fn slot_mut(&mut self, id: SlotId) -> &mut Slot<F> {
        self.slab.slot_mut(id)
    }

    /// The frame of a slot in use.
    #[inline]
    pub(super) fn frame(&self, id: SlotId) -> &F {
        self.slot(id)
            .frame
            .as_ref()
            .expect("a slot in a list holds a frame")
    }

    /// P of one buffer each that may still be taken in. Longer ones are taken in as well, and may
    /// leave no room.
    #[inline]
    pub(super) fn primary_room(&self) -> usize {
        self.bounds.primary.saturating_sub(self.primary_buffers)
    }

    /// Whether a P may come in of which the caller has seen [`Hold::primary_room`] before its burst. Of what
    /// came since, only parts of long P were not in that number.
    pub(super) fn awaits_primary(&self) -> bool {
        self.primaries + self.released.len() < self.bounds.primary + BURST
    }

    /// P that wait for a counterpart or a commit.
    #[inline]
    pub(super) fn held_count(&self) -> usize {
        self.primaries
    }

    /// Buffers of all P in here.
    pub(super) fn primary_buffers(&self) -> usize {
        self.primary_buffers
    }

    /// Buffers of all S in here.
    #[inline]
    pub(super) fn secondary_buffers(&self) -> usize {
        self.secondary_buffers + self.ring.buffers()
    }

    /// All frames in here.
    pub(super) fn in_use(&self) -> usize {
        self.primaries + self.released.len() + self.secondaries + self.ring.len()
    }

    /// A slot for a P, standing held; returns the frame when there is none. The caller has seen
    /// [`Hold::primary_room`], if only for a whole burst.
    #[inline(always)]
    pub(super) fn insert_primary(&mut self, frame: F, now: Ticks) -> Result<SlotId, F> {
        if self.primaries == self.bounds.primary {
            return Err(frame);
        }
        self.primaries += 1;
        self.primary_buffers += frame.buffers();
        let id = self.slab.take(frame, now);
        self.enter(id, Standing::Held);
        Ok(id)
    }

    /// A slot for an S, standing pending; returns the frame when there is no room. History
    /// makes room through [`Hold::drop_oldest_history`], which the caller unlinks from its flow first.
    #[inline(always)]
    pub(super) fn insert_secondary(&mut self, frame: F, now: Ticks) -> Result<SlotId, F> {
        if self.secondary_is_full() {
            return Err(frame);
        }
        self.secondaries += 1;
        self.secondary_buffers += frame.buffers();
        let id = self.slab.take(frame, now);
        self.enter(id, Standing::Pending);
        Ok(id)
    }

    /// Lets a held P leave, which is in no flow's list any more.
    #[inline(always)]
    pub(super) fn release(&mut self, id: SlotId, now: Ticks) {
        self.leave(id, Standing::Held);
        self.primaries -= 1;
        let slot = self.slot_mut(id);
        let (arrived, witnessed) = (slot.arrived, slot.witnessed());
        let frame = self.slab.vacate(id);
        self.released.push(Release {
            frame,
            arrived,
            cleared: now,
            witnessed,
        });
    }

    /// Lets a P leave that needs no slot. The caller has seen [`Hold::primary_room`].
    #[inline(always)]
    pub(super) fn pass(&mut self, frame: F, now: Ticks, witnessed: Option<Ticks>) {
        debug_assert!(self.awaits_primary());
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
    pub(super) fn divide(&mut self, id: SlotId, front: F, rest: F, now: Ticks) {
        debug_assert!(self.primary_room() > 0);
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
    pub(super) fn take_divided(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.divided)
    }

    /// Lets a held P leave, which is in no flow's list any more and has met one S, which came now.
    #[inline(always)]
    pub(super) fn release_met(&mut self, id: SlotId, now: Ticks) {
        self.leave(id, Standing::Held);
        self.primaries -= 1;
        let arrived = self.slot(id).arrived;
        let frame = self.slab.vacate(id);
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
    pub(super) fn keep_entry(&mut self, entry: Entry<F>) -> EntryNumber {
        debug_assert!(!self.secondary_is_full());
        self.push_entry(entry)
    }

    /// Makes a pending S history that is in no flow's list any more, and gives up its slot.
    #[inline(always)]
    pub(super) fn archive(
        &mut self,
        id: SlotId,
        flow: FlowId,
        before: Option<EntryNumber>,
    ) -> EntryNumber {
        self.leave(id, Standing::Pending);
        let slot = self.slot(id);
        let (arrived, seq, len, payload) = (slot.came(), slot.seq, slot.len, slot.payload);
        let frame = self.slab.vacate(id);
        self.secondaries -= 1;
        self.secondary_buffers -= frame.buffers();
        self.push_entry(Entry {
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
    fn push_entry(&mut self, entry: Entry<F>) -> EntryNumber {
        if self.ring.is_full() {
            self.make_room_for_a_step();
        }
        self.ring.push(entry)
    }

    /// Only where many entries were taken back: trimming keeps the ring from being full otherwise.
    #[cold]
    #[inline(never)]
    fn make_room_for_a_step(&mut self) {
        self.ring.drop_oldest();
    }

    /// Takes history of a flow that has no slot back into one, as complete.
    pub(super) fn restore(
        &mut self,
        flow: FlowId,
        mark: EntryNumber,
    ) -> Option<(SlotId, Option<EntryNumber>)> {
        let entry = self.ring.take(flow, mark)?;
        self.secondaries += 1;
        self.secondary_buffers += entry.frame.buffers();
        let id = self.slab.take(entry.frame, entry.arrived);
        self.enter(id, Standing::History);
        let slot = self.slot_mut(id);
        (slot.seq, slot.len, slot.payload) = (entry.seq, entry.len, entry.payload);
        slot.flow = Some(flow);
        slot.place = FlowList::Witness;
        slot.complete = true;
        Some((id, entry.before))
    }

    /// The next P to send.
    #[inline]
    pub(super) fn next_release(&mut self) -> Option<Release<F>> {
        let release = self.released.pop()?;
        self.primary_buffers -= release.frame.buffers();
        Some(release)
    }

    /// Whether an S fits without giving up history.
    #[inline]
    pub(super) fn secondary_is_full(&self) -> bool {
        self.secondary_buffers() >= self.bounds.secondary
    }

    /// Whether an S takes of what is kept for flows with few waiting frames, or history does.
    #[inline]
    pub(super) fn secondary_is_crowded(&self) -> bool {
        self.secondary_buffers() >= self.bounds.crowded
    }

    /// Whether S that wait have left nothing but what is kept for flows with few waiting frames.
    pub(super) fn only_reserve_is_left(&self) -> bool {
        self.secondary_buffers - self.history_buffers >= self.bounds.crowded
    }

    /// S of a flow that are little.
    pub(super) fn little(&self) -> usize {
        (self.bounds.secondary / LITTLE).max(1)
    }

    /// Treats all room for S as the part that is kept, or only that part.
    #[inline]
    pub(super) fn reserve_all(&mut self, all: bool) {
        self.bounds.crowded = match all {
            true => 0,
            false => without_reserve(self.bounds.secondary),
        };
    }

    /// Whether half of the room for P is taken, and more by P that wait than by P that may leave.
    pub(super) fn primary_is_half_full(&self) -> bool {
        2 * self.primary_buffers >= self.bounds.primary && self.waits_mostly()
    }

    /// Whether more P wait than may leave.
    pub(super) fn waits_mostly(&self) -> bool {
        self.primaries > self.released.len()
    }

    /// Some of the P that wait, spread over all of them.
    pub(super) fn sample(&self) -> impl Iterator<Item = SlotId> {
        // Steps of the golden ratio: no pattern in which slots were taken lies in step with them.
        const GOLDEN: u32 = 0x9e37_79b9;
        let slots = self.slab.len() as u64;
        (0..SAMPLE)
            .map(move |n| ((u64::from(n.wrapping_mul(GOLDEN)) * slots) >> 32) as SlotId)
            .filter(|id| self.slot(*id).standing == Standing::Held)
    }

    /// Whether there is more history than allowed.
    #[inline(always)]
    pub(super) fn history_is_over(&self) -> bool {
        self.history_buffers() > self.bounds.history
    }

    /// Drops the oldest history above what is allowed, as long as none of it has a slot: then the
    /// caller goes on.
    #[inline(always)]
    pub(super) fn trim_entries(&mut self) {
        if self.history.head == NIL {
            while self.history_is_over() && !self.ring.is_empty() {
                self.ring.drop_oldest();
            }
        }
    }

    /// Buffers of the S that are history, in slots or not.
    #[inline(always)]
    fn history_buffers(&self) -> usize {
        self.history_buffers + self.ring.buffers()
    }

    /// Drops the S that came first of those that are history without a slot, unless one with a
    /// slot came before it: then it returns that one, which the caller unlinks from its flow and
    /// drops.
    #[inline(always)]
    pub(super) fn drop_oldest_history(&mut self) -> Oldest {
        let entry = self.ring.oldest();
        let head = self.history.head;
        match entry {
            Some(arrived) if head == NIL || arrived <= self.slot(head).arrived => {
                self.ring.drop_oldest();
                Oldest::Dropped
            }
            _ if head == NIL => Oldest::None,
            _ => Oldest::InSlot(head),
        }
    }

    /// Makes a pending S history, at the young end of it.
    #[inline(always)]
    pub(super) fn retire(&mut self, id: SlotId) {
        self.leave(id, Standing::Pending);
        self.enter(id, Standing::History);
    }

    /// Lets the wait of a pending S begin now.
    pub(super) fn wait_anew(&mut self, id: SlotId, now: Ticks) {
        self.leave(id, Standing::Pending);
        self.slot_mut(id).wait_anew(now);
        self.enter(id, Standing::Pending);
    }

    /// Frees a slot of history that is in no flow's list any more.
    #[inline(always)]
    pub(super) fn drop_history(&mut self, id: SlotId) {
        self.leave(id, Standing::History);
        self.secondaries -= 1;
        self.secondary_buffers -= self.slab.vacate(id).buffers();
    }

    /// Frees a slot that is in no flow's list any more.
    pub(super) fn remove(&mut self, id: SlotId) -> F {
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
        self.slab.vacate(id)
    }

    /// Drops a held P that is in no flow's list any more, and that nothing will ever let leave.
    pub(super) fn drop_primary(&mut self, id: SlotId) {
        let frame = self.remove(id);
        self.dropped.0 += 1;
        self.dropped.1 += frame.buffers();
    }

    /// P that were dropped since the last call, and their buffers.
    pub(super) fn take_dropped(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.dropped)
    }

    /// The neighbour towards the tail.
    #[inline]
    pub(super) fn next(&self, link: ListKind, id: SlotId) -> SlotId {
        self.slab.next(link, id)
    }

    /// The neighbour towards the head.
    #[inline]
    pub(super) fn previous(&self, link: ListKind, id: SlotId) -> SlotId {
        self.slab.previous(link, id)
    }

    /// Appends a slot to a list.
    #[inline(always)]
    pub(super) fn push_back(&mut self, link: ListKind, list: &mut List, id: SlotId) {
        self.slab.push_back(link, list, id);
    }

    /// Inserts a slot behind `after`, at the head if that is [`NIL`].
    pub(super) fn insert_after(
        &mut self,
        link: ListKind,
        list: &mut List,
        after: SlotId,
        id: SlotId,
    ) {
        self.slab.insert_after(link, list, after, id);
    }

    /// Takes a slot out of a list.
    #[inline(always)]
    pub(super) fn unlink(&mut self, link: ListKind, list: &mut List, id: SlotId) {
        self.slab.unlink(link, list, id);
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
        self.slab.enter(list, id, standing);
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
        self.slab.leave(list, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowKey, FlowTable};
    use crate::frame::HeapFrame;

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
            let mark = hold.archive(s, flow, None);
            assert_eq!((hold.held_count(), hold.in_use()), (0, 2));
            assert!(hold.secondary_is_full() && hold.primary_room() == 0);
            let release = hold.next_release().expect("one");
            assert_eq!((release.arrived, release.cleared), (now, now + 1));
            if now == 1 {
                let (slot, before) = hold.restore(flow, mark).expect("it is there");
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
