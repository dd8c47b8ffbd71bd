//! A hash table of flows with a fixed capacity and an order of use.

use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

use super::FlowKey;

/// The place of a flow in its [`FlowTable`]: valid until the flow is removed, after which another
/// flow may get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(NonZeroU32);

impl FlowId {
    /// A number below the table's capacity, for arrays beside the table.
    #[inline]
    pub const fn index(self) -> usize {
        self.0.get() as usize - 1
    }

    #[inline]
    const fn from_link(link: u32) -> Option<Self> {
        match NonZeroU32::new(link) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    #[inline]
    const fn link(self) -> u32 {
        self.0.get()
    }
}

/// How much a flow has proved so far, which decides who makes room for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Anybody can have many of them at no cost, such as half-open connections: they make room first, the longest
    /// unused before the others.
    Provisional,
    /// Any other flow.
    #[default]
    Lasting,
}

/// The table has as many flows as it was made for; the state that found no room is returned.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("flow table is full: remove the oldest flow or make the table larger")]
pub struct Full<T>(pub T);

impl<T> std::fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Full")
    }
}

/// States of type `T` by flow, at most as many as the capacity, in the order of their last use.
///
/// All memory is taken by [`FlowTable::new`] and states never move. A flow is found through an
/// index of 8-byte entries, probed linearly and at most half full, so that a search as a rule reads
/// one cache line of the index and then the flow's own; the order of use lies apart from both. The
/// caller hands in the hash, which it often has already; one table must always see the same hash
/// for the same key.
///
/// Indexing and [`FlowTable::touch`] with the id of a removed flow panic, like an index out of
/// bounds.
pub struct FlowTable<T> {
    slots: Box<[Slot<T>]>,
    order: Box<[Order]>,
    /// The length is a power of two and at least twice the capacity, so that a search meets an
    /// empty entry.
    index: Box<[Entry]>,
    /// First of the free slots, chained through [`Order::newer`].
    free: u32,
    /// By [`Standing`].
    ends: [Ends; 2],
    len: usize,
    removals: u64,
}

/// The first and the last flow of one standing, in the order of use.
#[derive(Clone, Copy, Default)]
struct Ends {
    oldest: u32,
    newest: u32,
}

/// A flow; the key and the first fields of the state share a cache line.
#[repr(C, align(64))]
struct Slot<T> {
    key: FlowKey,
    state: Option<T>,
}

/// A flow's place in the order of use. Links are the number of a slot plus one, and 0 for none.
#[derive(Clone, Copy, Default)]
struct Order {
    older: u32,
    newer: u32,
    tag: u32,
    standing: Standing,
}

/// Low half of a flow's hash and its link, which is 0 in an empty entry.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct Entry {
    tag: u32,
    link: u32,
}

/// Most flows that a table may have: positions in the index come from a tag.
const CAPACITY_LIMIT: usize = 1 << 31;

impl<T> FlowTable<T> {
    /// A table for at most `capacity` flows, all memory touched.
    ///
    /// # Panics
    /// When `capacity` is more than 2^31.
    pub fn new(capacity: usize) -> Self {
        assert!(
            capacity <= CAPACITY_LIMIT,
            "a flow table holds at most 2^31 flows"
        );
        let slot = |_| Slot {
            key: FlowKey::default(),
            state: None,
        };
        let order = |number: usize| Order {
            newer: if number + 1 < capacity {
                number as u32 + 2
            } else {
                0
            },
            ..Order::default()
        };
        let entries = (2 * capacity.max(1)).next_power_of_two();
        Self {
            slots: (0..capacity).map(slot).collect(),
            order: (0..capacity).map(order).collect(),
            index: vec![Entry::default(); entries].into(),
            free: u32::from(capacity > 0),
            ends: [Ends::default(); 2],
            len: 0,
            removals: 0,
        }
    }

    /// Flows in the table.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Flows that were removed since the table was made: as long as that stays, every id is valid.
    #[inline]
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// Whether there is no flow.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Flows that the table can have.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The flow with this key. Its place in the order of use stays; see [`FlowTable::touch`].
    #[inline]
    pub fn find(&self, key: &FlowKey, hash: u64) -> Option<FlowId> {
        let tag = hash as u32;
        let mut at = self.home(tag);
        loop {
            let entry = self.index[at];
            let id = FlowId::from_link(entry.link)?;
            if entry.tag == tag && self.has(id, key) {
                return Some(id);
            }
            at = self.behind(at);
        }
    }

    /// The flow that [`FlowTable::find`] finds first, most likely, from the index alone. A burst
    /// asks for all of its flows before it looks at the first, so that their cache misses overlap;
    /// [`FlowTable::has`] then says whether the guess was right.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<FlowId> {
        let tag = hash as u32;
        let mut at = self.home(tag);
        loop {
            let entry = self.index[at];
            let id = FlowId::from_link(entry.link)?;
            if entry.tag == tag {
                return Some(id);
            }
            at = self.behind(at);
        }
    }

    /// Whether a flow has this key. Of a flow that was removed the answer means nothing.
    #[inline]
    pub fn has(&self, id: FlowId, key: &FlowKey) -> bool {
        self.slots[id.index()].key == *key
    }

    /// Adds a lasting flow as the one used last. The table must not have the key; [`FlowTable::find`] says.
    ///
    /// # Errors
    /// [`Full`] with the state when there is no room.
    #[inline]
    pub fn insert(&mut self, key: FlowKey, hash: u64, state: T) -> Result<FlowId, Full<T>> {
        self.insert_as(Standing::Lasting, key, hash, state)
    }

    /// Adds a flow of either standing, as [`FlowTable::insert`] does.
    ///
    /// # Errors
    /// [`Full`] with the state when there is no room.
    #[inline]
    pub fn insert_as(
        &mut self,
        standing: Standing,
        key: FlowKey,
        hash: u64,
        state: T,
    ) -> Result<FlowId, Full<T>> {
        debug_assert!(
            self.find(&key, hash).is_none(),
            "flow {key} is in the table already"
        );
        let Some(id) = FlowId::from_link(self.free) else {
            return Err(Full(state));
        };
        let tag = hash as u32;
        let mut at = self.home(tag);
        while self.index[at].link != 0 {
            at = self.behind(at);
        }
        self.index[at] = Entry {
            tag,
            link: id.link(),
        };
        let slot = &mut self.slots[id.index()];
        slot.key = key;
        slot.state = Some(state);
        let order = &mut self.order[id.index()];
        self.free = order.newer;
        (order.tag, order.standing) = (tag, standing);
        self.append(id);
        self.len += 1;
        Ok(id)
    }

    /// Takes a flow out and returns its state.
    ///
    /// # Panics
    /// When the flow was removed before.
    #[inline]
    pub fn remove(&mut self, id: FlowId) -> T {
        let state = self.slots[id.index()].state.take();
        let state = state.expect("id of a flow that was removed");
        self.detach(id);
        self.unindex(id);
        self.order[id.index()].newer = self.free;
        self.free = id.link();
        self.len -= 1;
        self.removals += 1;
        state
    }

    /// Empties a flow's entry and moves those behind it up that a search would not reach any more.
    fn unindex(&mut self, id: FlowId) {
        let mut hole = self.home(self.order[id.index()].tag);
        while self.index[hole].link != id.link() {
            hole = self.behind(hole);
        }
        let mask = self.index.len() - 1;
        let mut at = hole;
        loop {
            at = self.behind(at);
            let entry = self.index[at];
            if entry.link == 0 {
                break;
            }
            let from_home = at.wrapping_sub(self.home(entry.tag)) & mask;
            let from_hole = at.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                self.index[hole] = entry;
                hole = at;
            }
        }
        self.index[hole] = Entry::default();
    }

    /// Removes all flows.
    pub fn clear(&mut self) {
        while let Some(id) = self.oldest() {
            self.remove(id);
        }
    }

    /// Makes a flow the one used last.
    ///
    /// # Panics
    /// When the flow was removed.
    #[inline]
    pub fn touch(&mut self, id: FlowId) {
        assert!(
            self.slots[id.index()].state.is_some(),
            "id of a flow that was removed"
        );
        if self.ends[self.standing(id) as usize].newest != id.link() {
            self.detach(id);
            self.append(id);
        }
    }

    /// What a flow has proved so far.
    #[inline]
    pub fn standing(&self, id: FlowId) -> Standing {
        self.order[id.index()].standing
    }

    /// Gives a flow this standing; if it had another one it is the one used last by now.
    #[inline]
    pub fn set_standing(&mut self, id: FlowId, standing: Standing) {
        if self.standing(id) != standing {
            self.detach(id);
            self.order[id.index()].standing = standing;
            self.append(id);
        }
    }

    /// The flow to give up first: the provisional one whose last use is longest ago or, if there is none, the lasting
    /// one.
    #[inline]
    pub fn oldest(&self) -> Option<FlowId> {
        self.oldest_of(Standing::Provisional)
            .or_else(|| self.oldest_of(Standing::Lasting))
    }

    /// The flow of this standing whose last use is longest ago.
    #[inline]
    pub fn oldest_of(&self, standing: Standing) -> Option<FlowId> {
        FlowId::from_link(self.ends[standing as usize].oldest)
    }

    /// The flow of the same standing that was used next after this one: for walks that change or remove what they meet.
    #[inline]
    pub fn newer(&self, id: FlowId) -> Option<FlowId> {
        FlowId::from_link(self.order[id.index()].newer)
    }

    /// The flow's state, unless it was removed.
    #[inline]
    pub fn get(&self, id: FlowId) -> Option<&T> {
        self.slots.get(id.index())?.state.as_ref()
    }

    /// The key of a flow and its state.
    ///
    /// # Panics
    /// When the flow was removed.
    #[inline]
    pub fn get_mut(&mut self, id: FlowId) -> (&FlowKey, &mut T) {
        let slot = &mut self.slots[id.index()];
        let state = slot.state.as_mut();
        (&slot.key, state.expect("id of a flow that was removed"))
    }

    /// The key of a flow.
    #[inline]
    pub fn key(&self, id: FlowId) -> &FlowKey {
        &self.slots[id.index()].key
    }

    /// All flows in the order in which they make room: the provisional ones, then the lasting ones, the longest unused
    /// first.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &FlowKey, &T)> {
        [Standing::Provisional, Standing::Lasting]
            .into_iter()
            .flat_map(|standing| {
                std::iter::successors(self.oldest_of(standing), |&id| self.newer(id))
            })
            .map(|id| (id, self.key(id), &self[id]))
    }

    /// The flow in the first used slot from `slot` on, and the slot behind it, looking at no more
    /// than `most` slots; `None` when there is no slot any more. Walks all flows piece by piece while
    /// they are used: one that is added or removed meanwhile may or may not be met.
    pub fn walk(&self, slot: usize, most: usize) -> Option<(usize, Option<(&FlowKey, &T)>)> {
        if slot >= self.slots.len() {
            return None;
        }
        let end = self.slots.len().min(slot.saturating_add(most));
        let found = self.slots[slot..end].iter().position(|s| s.state.is_some());
        let Some(ahead) = found else {
            return Some((end, None));
        };
        let used = &self.slots[slot + ahead];
        let flow = used.state.as_ref().map(|state| (&used.key, state));
        Some((slot + ahead + 1, flow))
    }

    /// Where a search begins.
    #[inline]
    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.index.len() - 1)
    }

    #[inline]
    fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.index.len() - 1)
    }

    #[inline]
    fn append(&mut self, id: FlowId) {
        let ends = &mut self.ends[self.order[id.index()].standing as usize];
        let older = std::mem::replace(&mut ends.newest, id.link());
        match FlowId::from_link(older) {
            Some(older) => self.order[older.index()].newer = id.link(),
            None => ends.oldest = id.link(),
        }
        let order = &mut self.order[id.index()];
        order.older = older;
        order.newer = 0;
    }

    #[inline]
    fn detach(&mut self, id: FlowId) {
        let Order {
            older,
            newer,
            standing,
            ..
        } = self.order[id.index()];
        let ends = &mut self.ends[standing as usize];
        match FlowId::from_link(older) {
            Some(older) => self.order[older.index()].newer = newer,
            None => ends.oldest = newer,
        }
        match FlowId::from_link(newer) {
            Some(newer) => self.order[newer.index()].older = older,
            None => ends.newest = older,
        }
    }
}

impl<T> Index<FlowId> for FlowTable<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: FlowId) -> &T {
        self.slots[id.index()]
            .state
            .as_ref()
            .expect("id of a flow that was removed")
    }
}

impl<T> IndexMut<FlowId> for FlowTable<T> {
    #[inline]
    fn index_mut(&mut self, id: FlowId) -> &mut T {
        self.slots[id.index()]
            .state
            .as_mut()
            .expect("id of a flow that was removed")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};
    use std::net::SocketAddr;

    use colo_testkit::rng::for_seeds;

    use super::*;

    fn key(number: usize) -> FlowKey {
        let [a, b, c, _, ..] = (number as u32).to_le_bytes();
        let src = SocketAddr::from(([10, c, 0, b], 1000 + u16::from(a)));
        FlowKey::tcp(src, SocketAddr::from(([10, 0, 0, 1], 80)))
    }

    #[test]
    fn an_id_costs_no_more_when_it_may_be_absent() {
        assert_eq!(size_of::<Option<FlowId>>(), 4);
    }

    /// Against a map and a queue, with hashes that collide often.
    #[test]
    fn behaves_as_a_map_with_an_order_of_use() {
        for_seeds(300, |random| {
            let capacity = random.of(&[0, 1, 2, 7, 32]);
            let hash_mask = random.of(&[0, 3, u64::MAX]);
            let hash = |key: &FlowKey| key.hash() & hash_mask;
            let mut table = FlowTable::new(capacity);
            let mut map: HashMap<FlowKey, (FlowId, u64)> = HashMap::new();
            let mut orders: [VecDeque<FlowKey>; 2] = Default::default();
            for _ in 0..500 {
                let key = key(random.below(2 * capacity + 1));
                let found = table.find(&key, hash(&key));
                assert_eq!(found, map.get(&key).map(|&(id, _)| id));
                let standing = random.of(&[Standing::Provisional, Standing::Lasting]);
                match (random.below(5), found) {
                    (0 | 1, None) => {
                        let state = random.next();
                        match table.insert_as(standing, key, hash(&key), state) {
                            Ok(id) => {
                                map.insert(key, (id, state));
                                orders[standing as usize].push_back(key);
                            }
                            Err(Full(back)) => assert_eq!((back, map.len()), (state, capacity)),
                        }
                    }
                    (0, Some(id)) => {
                        assert_eq!(
                            Some(table.remove(id)),
                            map.remove(&key).map(|(_, state)| state)
                        );
                        for order in &mut orders {
                            order.retain(|other| *other != key);
                        }
                    }
                    (1, Some(id)) => {
                        table.touch(id);
                        let order = &mut orders[table.standing(id) as usize];
                        order.retain(|other| *other != key);
                        order.push_back(key);
                    }
                    (3, Some(id)) => {
                        if table.standing(id) != standing {
                            orders[table.standing(id) as usize].retain(|other| *other != key);
                            orders[standing as usize].push_back(key);
                        }
                        table.set_standing(id, standing);
                    }
                    (2, Some(id)) => {
                        table[id] += 1;
                        map.get_mut(&key).unwrap().1 += 1;
                    }
                    _ if random.one_in(100) => {
                        table.clear();
                        map.clear();
                        orders = Default::default();
                    }
                    _ => {}
                }
                assert_eq!((table.len(), table.is_empty()), (map.len(), map.is_empty()));
                for standing in [Standing::Provisional, Standing::Lasting] {
                    assert_eq!(
                        table.oldest_of(standing).map(|id| *table.key(id)),
                        orders[standing as usize].front().copied()
                    );
                }
                let order = || orders.iter().flatten();
                assert_eq!(
                    table.oldest().map(|id| *table.key(id)),
                    order().next().copied()
                );
                let in_order = table.iter().map(|(id, key, state)| (*key, (id, *state)));
                assert!(in_order.eq(order().map(|key| (*key, map[key]))));
            }
        });
    }

    #[test]
    fn a_million_flows() {
        const FLOWS: usize = 1_000_000;
        let mut table = FlowTable::new(FLOWS);
        for number in 0..FLOWS {
            table
                .insert(key(number), key(number).hash(), number)
                .unwrap();
        }
        assert_eq!(table.insert(key(FLOWS), key(FLOWS).hash(), 0), Err(Full(0)));
        for number in (0..FLOWS).step_by(7) {
            let id = table.find(&key(number), key(number).hash()).unwrap();
            assert_eq!(table.remove(id), number);
        }
        for number in 0..FLOWS {
            let found = table.find(&key(number), key(number).hash());
            assert_eq!(
                found.map(|id| table[id]),
                (number % 7 != 0).then_some(number)
            );
        }
    }

    #[test]
    #[should_panic(expected = "removed")]
    fn an_id_ends_with_its_flow() {
        let mut table = FlowTable::new(1);
        let id = table.insert(key(0), 0, ()).unwrap();
        table.remove(id);
        table.touch(id);
    }
}
