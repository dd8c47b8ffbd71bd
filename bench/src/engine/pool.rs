//! Frames that behave as mbufs do: a reference count in front of the bytes, cheap to share and to
//! drop, and no allocation once the pool is made.

use std::rc::Rc;

use dpdk_colo::Frame;

/// What an mbuf is: a header with the reference count, and the bytes elsewhere.
struct Buffer {
    bytes: Box<[u8]>,
}

/// A frame of a [`Pool`].
pub struct PoolFrame(Rc<Buffer>);

impl Frame for PoolFrame {
    #[inline]
    fn head(&self) -> &[u8] {
        &self.0.bytes
    }

    #[inline]
    fn head_mut(&mut self) -> Option<&mut [u8]> {
        // The pool is the other owner.
        None
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.bytes.len()
    }

    #[inline]
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head())
    }

    #[inline]
    fn share(&self) -> Self {
        Self(Rc::clone(&self.0))
    }

    fn excerpt(&self, _headers: usize, _start: usize, _len: usize) -> Option<Self> {
        // No frame here is longer than a wire's.
        None
    }
}

/// Buffers of one length, each handed out as a frame while nobody else has it.
pub struct Pool {
    buffers: Vec<Rc<Buffer>>,
    next: usize,
}

impl Pool {
    /// `count` buffers like the given one.
    pub fn new(count: usize, like: &[u8]) -> Self {
        Self {
            buffers: (0..count)
                .map(|_| Rc::new(Buffer { bytes: like.into() }))
                .collect(),
            next: 0,
        }
    }

    /// The buffer that was handed out longest ago of those that have come back, written by `fill`.
    ///
    /// # Panics
    /// When none has come back: the comparator keeps more frames than it may.
    pub fn take(&mut self, fill: impl FnOnce(&mut [u8])) -> PoolFrame {
        for _ in 0..self.buffers.len() {
            let at = self.next;
            self.next = (at + 1) % self.buffers.len();
            let buffer = &mut self.buffers[at];
            if let Some(Buffer { bytes }) = Rc::get_mut(buffer) {
                fill(bytes);
                return PoolFrame(Rc::clone(buffer));
            }
        }
        panic!("all {} frames are in use", self.buffers.len());
    }

    /// Frames that are in use.
    pub fn in_use(&self) -> usize {
        let used = |buffer: &&Rc<Buffer>| Rc::strong_count(buffer) > 1;
        self.buffers.iter().filter(used).count()
    }
}
