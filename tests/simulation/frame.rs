//! A frame that knows its number and counts its owners (rule R10).

use std::cell::Cell;
use std::rc::Rc;

use dpdk_colo::frame::{Frame, HeapFrame};

/// Owners of all frames alive.
pub type Owners = Rc<Cell<usize>>;

pub struct Numbered {
    frame: HeapFrame,
    pub number: u64,
    owners: Owners,
}

impl Numbered {
    pub fn new(bytes: &[u8], number: u64, owners: &Owners) -> Self {
        Self::own(HeapFrame::new(bytes), number, owners)
    }

    fn own(frame: HeapFrame, number: u64, owners: &Owners) -> Self {
        owners.set(owners.get() + 1);
        Self {
            frame,
            number,
            owners: owners.clone(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.frame.to_vec()
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
        Self::own(self.frame.share(), self.number, &self.owners)
    }

    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self> {
        let excerpt = self.frame.excerpt(headers, start, len)?;
        Some(Self::own(excerpt, self.number, &self.owners))
    }
}
