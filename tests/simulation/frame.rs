//! A frame that knows where it comes from and counts its owners (rule R10).

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use dpdk_colo::frame::{Frame, HeapFrame};
use dpdk_colo::pair::Burst;

/// Owners of all frames alive.
pub type Owners = Rc<Cell<usize>>;

/// Where a frame comes from, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The PVM.
    P(u64),
    /// The SVM.
    S(u64),
    /// The network; the number is that of the PVM's ring, once that has taken it.
    Input(Option<u64>),
    /// The node.
    Own,
}

pub struct Numbered {
    frame: HeapFrame,
    origin: Rc<Cell<Origin>>,
    owners: Owners,
}

impl Numbered {
    pub fn new(bytes: &[u8], origin: Origin, owners: &Owners) -> Self {
        let origin = Rc::new(Cell::new(origin));
        Self::own(HeapFrame::new(bytes), origin, owners)
    }

    fn own(frame: HeapFrame, origin: Rc<Cell<Origin>>, owners: &Owners) -> Self {
        owners.set(owners.get() + 1);
        Self {
            frame,
            origin,
            owners: owners.clone(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.frame.to_vec()
    }

    pub fn origin(&self) -> Origin {
        self.origin.get()
    }

    /// All owners learn it.
    pub fn set_origin(&self, origin: Origin) {
        self.origin.set(origin);
    }

    /// Another frame with these bytes, of the same origin.
    pub fn with_bytes(&self, bytes: &[u8]) -> Self {
        Self::own(HeapFrame::new(bytes), self.origin.clone(), &self.owners)
    }

    pub fn is_shared(&self) -> bool {
        Rc::strong_count(&self.origin) > 1
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.owners.set(self.owners.get() - 1);
    }
}

impl Frame for Numbered {
    fn head(&self) -> &[u8] {
        self.frame.head()
    }

    fn head_mut(&mut self) -> Option<&mut [u8]> {
        self.frame.head_mut()
    }

    fn len(&self) -> usize {
        self.frame.len()
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.frame.segments()
    }

    fn share(&self) -> Self {
        Self::own(self.frame.share(), self.origin.clone(), &self.owners)
    }

    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self> {
        let excerpt = self.frame.excerpt(headers, start, len)?;
        Some(Self::own(excerpt, self.origin.clone(), &self.owners))
    }
}

/// A burst of them.
#[derive(Default)]
pub struct Frames(Vec<Numbered>);

impl Deref for Frames {
    type Target = [Numbered];

    fn deref(&self) -> &[Numbered] {
        &self.0
    }
}

impl DerefMut for Frames {
    fn deref_mut(&mut self) -> &mut [Numbered] {
        &mut self.0
    }
}

impl Burst for Frames {
    type Frame = Numbered;

    const CAPACITY: usize = 32;

    fn push(&mut self, frame: Numbered) -> Result<(), Numbered> {
        if self.is_full() {
            return Err(frame);
        }
        self.0.push(frame);
        Ok(())
    }

    fn drain(&mut self) -> impl Iterator<Item = Numbered> {
        self.0.drain(..)
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl Frames {
    /// Takes the first `n` out.
    pub fn take(&mut self, n: usize) -> std::vec::Drain<'_, Numbered> {
        self.0.drain(..n)
    }
}
