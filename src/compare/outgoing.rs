//! The P that may leave, in their order, until the node takes them.
//!
//! As a rule a round takes all of them, so the queue is a vector that begins anew at its front,
//! which is still in the cache; a node that is pushed back leaves some for the next round.

use std::mem::ManuallyDrop;

/// The queue.
pub(super) struct Outgoing<T> {
    /// Not dropped by the vector: of all that are gone nothing is left to drop, and to look costs
    /// as much as to move them.
    items: Vec<ManuallyDrop<Option<T>>>,
    /// Place of the oldest; those before it are gone.
    next: usize,
}

impl<T> Outgoing<T> {
    /// Room for `most` items at a time, without an allocation later.
    pub(super) fn new(most: usize) -> Self {
        Self {
            // Half of it may be gone before the rest has to move.
            items: Vec::with_capacity(2 * most),
            next: 0,
        }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.items.len() - self.next
    }

    #[inline(always)]
    pub(super) fn push(&mut self, item: T) {
        if self.items.len() == self.items.capacity() {
            self.close_up();
        }
        self.items.push(ManuallyDrop::new(Some(item)));
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.items.get_mut(self.next)?.take();
        self.next += 1;
        if self.next == self.items.len() {
            self.items.clear();
            self.next = 0;
        }
        item
    }

    #[cold]
    fn close_up(&mut self) {
        self.items.drain(..self.next);
        self.next = 0;
    }
}

impl<T> Drop for Outgoing<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn what_was_not_taken_is_dropped_with_the_queue() {
        let item = Rc::new(());
        let mut queue = Outgoing::new(2);
        for _ in 0..4 {
            queue.push(Rc::clone(&item));
        }
        queue.pop();
        queue.pop();
        queue.push(Rc::clone(&item));
        assert_eq!(Rc::strong_count(&item), 4);
        drop(queue);
        assert_eq!(Rc::strong_count(&item), 1);
    }

    #[test]
    fn items_come_out_in_order_and_no_memory_is_added() {
        let mut queue = Outgoing::new(8);
        let capacity = queue.items.capacity();
        let (mut put, mut took) = (0, 0);
        for round in 0..100 {
            while queue.len() < 8 {
                queue.push(put);
                put += 1;
            }
            for _ in 0..1 + round % 8 {
                assert_eq!(queue.pop(), Some(took));
                took += 1;
            }
            assert_eq!(queue.len(), put - took);
        }
        while queue.pop().is_some() {}
        assert_eq!((queue.len(), queue.items.capacity()), (0, capacity));
        assert!(took > 400);
    }
}
