//! Frames of which a part in front can be taken off, as an mbuf's data offset does it, and bursts of them.

use std::ops::{Deref, DerefMut};

use dpdk_colo::Frame;
use dpdk_colo::frame::BURST;
use dpdk_colo::pair;

use crate::engine::pool::{Pool, PoolFrame};

/// A frame, and which of its bytes count.
pub struct Stripped {
    frame: PoolFrame,
    start: u32,
    end: u32,
}

impl From<PoolFrame> for Stripped {
    #[inline]
    fn from(frame: PoolFrame) -> Self {
        let end = frame.len() as u32;
        Self {
            frame,
            start: 0,
            end,
        }
    }
}

impl Stripped {
    /// A frame of no pool.
    pub fn copy(bytes: &[u8]) -> Self {
        Pool::new(1, bytes).take(|_| {}).into()
    }

    /// Takes bytes off in front, and what is behind `length` more; false where there are fewer.
    #[inline]
    pub fn strip(&mut self, front: usize, length: usize) -> bool {
        let fits = front + length <= self.len();
        if fits {
            self.start += front as u32;
            self.end = self.start + length as u32;
        }
        fits
    }
}

impl Frame for Stripped {
    #[inline]
    fn head(&self) -> &[u8] {
        let bytes = self.frame.head();
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    #[inline]
    fn head_mut(&mut self) -> Option<&mut [u8]> {
        self.frame.head_mut()
    }

    #[inline]
    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline]
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head())
    }

    #[inline]
    fn share(&self) -> Self {
        Self {
            frame: self.frame.share(),
            ..*self
        }
    }

    fn excerpt(&self, headers: usize, start: usize, len: usize) -> Option<Self> {
        self.frame.excerpt(headers, start, len).map(Self::from)
    }
}

/// A burst of them.
pub struct Burst(Vec<Stripped>);

impl Default for Burst {
    fn default() -> Self {
        Self(Vec::with_capacity(BURST))
    }
}

impl Deref for Burst {
    type Target = [Stripped];

    #[inline]
    fn deref(&self) -> &[Stripped] {
        &self.0
    }
}

impl DerefMut for Burst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Stripped] {
        &mut self.0
    }
}

impl pair::Burst for Burst {
    type Frame = Stripped;

    const CAPACITY: usize = BURST;

    #[inline]
    fn push(&mut self, frame: Stripped) -> Result<(), Stripped> {
        if self.is_full() {
            return Err(frame);
        }
        self.0.push(frame);
        Ok(())
    }

    #[inline]
    fn drain(&mut self) -> impl Iterator<Item = Stripped> {
        self.0.drain(..)
    }

    #[inline]
    fn clear(&mut self) {
        self.0.clear();
    }
}

impl Burst {
    /// Takes at most `most` frames from the front of a queue.
    #[inline]
    pub fn fill(&mut self, queue: &mut Vec<Stripped>, most: usize) -> usize {
        let most = most.min(queue.len());
        self.0.extend(queue.drain(..most));
        most
    }
}
