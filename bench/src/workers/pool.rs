//! Frames that any core may own, as mbufs are: a header with a reference count, the bytes elsewhere,
//! and no atomic read-modify-write where there is one owner.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_colo::Frame;

/// A buffer; its bytes change only while nobody owns it.
#[repr(align(64))]
struct Buffer {
    owners: AtomicU32,
    bytes: UnsafeCell<Box<[u8]>>,
}

// SAFETY: the bytes are written by `Pool::take` alone, while `owners` is 0, and read by owners.
unsafe impl Sync for Buffer {}

/// An owner of a buffer of a [`Pool`]; a buffer that has one outlives its pool.
pub struct PoolFrame(&'static Buffer);

impl Frame for PoolFrame {
    #[inline]
    fn head(&self) -> &[u8] {
        // SAFETY: this owner keeps the pool from writing.
        unsafe { &*self.0.bytes.get() }
    }

    #[inline]
    fn head_mut(&mut self) -> Option<&mut [u8]> {
        None
    }

    #[inline]
    fn len(&self) -> usize {
        self.head().len()
    }

    #[inline]
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head())
    }

    #[inline]
    fn prefetch(&self) {
        prefetch(std::ptr::from_ref(self.0));
    }

    #[inline]
    fn prefetch_head(&self) {
        prefetch(self.head().as_ptr());
    }

    #[inline]
    fn share(&self) -> Self {
        self.0.owners.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }

    fn excerpt(&self, _headers: usize, _start: usize, _len: usize) -> Option<Self> {
        // No frame here is longer than a wire's.
        None
    }
}

/// Starts to load the cache line at an address, as a node's frames do.
#[inline]
fn prefetch<T>(start: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint and accesses no memory, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}

impl Drop for PoolFrame {
    #[inline]
    fn drop(&mut self) {
        let owners = &self.0.owners;
        // The only owner is this one, so that nobody else can change the count.
        if owners.load(Ordering::Acquire) == 1 {
            owners.store(0, Ordering::Release);
        } else {
            owners.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Buffers of one length, each handed out as a frame while nobody has it.
pub struct Pool {
    buffers: Vec<&'static Buffer>,
    next: usize,
}

impl Pool {
    /// `count` buffers like the given one.
    pub fn new(count: usize, like: &[u8]) -> Self {
        let buffer = || {
            let buffer: &'static Buffer = Box::leak(Box::new(Buffer {
                owners: AtomicU32::new(0),
                bytes: UnsafeCell::new(like.into()),
            }));
            buffer
        };
        Self {
            buffers: (0..count).map(|_| buffer()).collect(),
            next: 0,
        }
    }

    /// The buffer that was handed out longest ago of those that nobody has, written by `fill`.
    ///
    /// # Panics
    /// When there is none: the comparator keeps more frames than it may.
    pub fn take(&mut self, fill: impl FnOnce(&mut [u8])) -> PoolFrame {
        for _ in 0..self.buffers.len() {
            let buffer = self.buffers[self.next];
            self.next = (self.next + 1) % self.buffers.len();
            if buffer.owners.load(Ordering::Acquire) == 0 {
                // SAFETY: nobody owns the buffer, and only the pool makes owners out of none.
                fill(unsafe { &mut *buffer.bytes.get() });
                buffer.owners.store(1, Ordering::Release);
                return PoolFrame(buffer);
            }
        }
        panic!("all {} frames are in use", self.buffers.len());
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for buffer in self.buffers.drain(..) {
            if buffer.owners.load(Ordering::Acquire) == 0 {
                // SAFETY: made by Box::leak in `Pool::new`; nobody owns it, and nobody will.
                drop(unsafe { Box::from_raw(std::ptr::from_ref(buffer).cast_mut()) });
            }
        }
    }
}
