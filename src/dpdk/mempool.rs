//! Pools of mbufs.
//!
//! A pool lives until EAL is cleaned up, whatever becomes of its handles: mbufs and ports point
//! into it. Allocating and freeing are cheap only on lcores, which have a cache in the pool; other
//! threads may do both and pay for the shared ring.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use super::burst::Burst;
use super::dpdk_sys::{self, rte_mempool};
use super::eal::{Eal, Shared};
use super::errno::Errno;
use super::mbuf::Mbuf;
use crate::plan::Cost;

/// Bytes of a buffer: 2048 for a frame behind DPDK's headroom of 128.
pub const DEFAULT_DATA_ROOM: u16 = 2048 + dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

/// Mbufs that each lcore keeps to itself by default.
pub const DEFAULT_CACHE: u32 = 256;

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// A C string cannot carry this byte.
    #[error("the name of a mempool has a zero byte")]
    ZeroByte,
    /// DPDK refused.
    #[error("mempool {name} of {mbufs} mbufs with {data_room} bytes: {errno}")]
    Create {
        /// The name asked for.
        name: String,
        /// The number asked for.
        mbufs: u32,
        /// Bytes of each buffer.
        data_room: u16,
        /// ENOMEM: no memory; EEXIST: the name is in use; EINVAL: cache too large, or no mempool
        /// driver is loaded; ENAMETOOLONG: more than 25 characters.
        errno: Errno,
    },
}

/// What a pool is to be.
#[derive(Clone, Copy, Debug)]
pub struct MempoolConfig<'a> {
    /// Unique in the process, at most 25 characters.
    pub name: &'a str,
    /// Number of mbufs; one below a power of two uses memory best.
    pub mbufs: u32,
    /// Mbufs cached per lcore: at most 512 and two thirds of `mbufs`; 0 for none.
    pub cache: u32,
    /// Bytes of each buffer, the headroom of 128 included.
    pub data_room: u16,
    /// NUMA socket; `None` for the one this thread runs on.
    pub socket: Option<u32>,
}

/// A pool of mbufs; clones are handles of the same pool.
#[derive(Clone)]
pub struct Mempool {
    pool: NonNull<rte_mempool>,
    _eal: Arc<Shared>,
}

// SAFETY: DPDK's packet pools are multi-producer and multi-consumer, and the handle keeps EAL up.
unsafe impl Send for Mempool {}
// SAFETY: as above; all that &Mempool offers is thread-safe in DPDK.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Makes a pool.
    pub fn new(eal: &Eal, config: &MempoolConfig<'_>) -> Result<Self, MempoolError> {
        Ok(Self::watched(eal, Self::create(config)?))
    }

    /// The handle of a fresh pool.
    fn watched(eal: &Eal, pool: NonNull<rte_mempool>) -> Self {
        let shared = eal.shared();
        shared.watch_pool(pool);
        Self { pool, _eal: shared }
    }

    /// Makes a pool; the caller has seen EAL.
    fn create(config: &MempoolConfig<'_>) -> Result<NonNull<rte_mempool>, MempoolError> {
        let name = CString::new(config.name).map_err(|_| MempoolError::ZeroByte)?;
        // SAFETY: EAL is initialised, the name is a C string that DPDK copies.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                name.as_ptr(),
                config.mbufs,
                config.cache,
                0,
                config.data_room,
                config.socket.map_or_else(this_socket, |s| s as i32),
            )
        };
        NonNull::new(pool).ok_or_else(|| MempoolError::Create {
            name: config.name.to_owned(),
            mbufs: config.mbufs,
            data_room: config.data_room,
            errno: Errno::last(),
        })
    }

    /// Makes all of these pools or, where one fails, none.
    pub fn all(eal: &Eal, configs: &[MempoolConfig<'_>]) -> Result<Vec<Self>, MempoolError> {
        let mut made = Vec::new();
        for config in configs {
            match Self::create(config) {
                Ok(pool) => made.push(pool),
                Err(error) => {
                    for pool in made {
                        // SAFETY: made above, and no handle of it was given out.
                        unsafe { dpdk_sys::rte_mempool_free(pool.as_ptr()) };
                    }
                    return Err(error);
                }
            }
        }
        Ok(made
            .into_iter()
            .map(|pool| Self::watched(eal, pool))
            .collect())
    }

    /// Number of mbufs in all.
    pub fn size(&self) -> u32 {
        self.available() + self.in_use()
    }

    /// Mbufs that can be allocated, those in the lcores' caches included. A walk over all
    /// lcores: for reports and tests, not for poll loops. Exact only while no one allocates.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool lives as long as EAL, which the handle keeps.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.as_ptr()) }
    }

    /// Mbufs held by someone: the program, or a port's descriptors. Cost as of
    /// [`Self::available`].
    pub fn in_use(&self) -> u32 {
        // SAFETY: as above.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.as_ptr()) }
    }

    /// An empty mbuf with full headroom, or `None` when the pool is empty.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool lives as long as EAL, which the handle keeps.
        let mbuf = NonNull::new(unsafe { dpdk_sys::shim_pktmbuf_alloc(self.as_ptr()) })?;
        // SAFETY: a fresh mbuf of one segment and reference count 1, owned by nobody else.
        Some(unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Appends `n` empty mbufs to the burst: all of them, or none when the pool has fewer or the
    /// burst less room.
    #[inline]
    pub fn alloc_bulk(&self, burst: &mut Burst, n: usize) -> bool {
        if n > Burst::CAPACITY - burst.len() {
            return false;
        }
        burst.fill(|slots, _| {
            // SAFETY: there are at least n slots. The function fills n of them with fresh mbufs
            // and returns 0, or touches none.
            let ret = unsafe { dpdk_sys::shim_pktmbuf_alloc_bulk(self.as_ptr(), slots, n as u32) };
            if ret == 0 { n as u16 } else { 0 }
        }) == n
    }

    /// An mbuf with these bytes, in as many segments as they take; `None` when the pool is short.
    /// It copies: for control frames and tests.
    pub fn copy_of(&self, bytes: &[u8]) -> Option<Mbuf> {
        let mut whole: Option<Mbuf> = None;
        let mut rest = bytes;
        loop {
            let mut segment = self.alloc()?;
            let (now, later) = rest.split_at(rest.len().min(segment.tailroom()));
            segment.append(now.len())?.copy_from_slice(now);
            whole = Some(match whole {
                None => segment,
                Some(head) => Mbuf::chain(head, segment).ok()?,
            });
            rest = later;
            if rest.is_empty() {
                return whole;
            }
        }
    }

    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }
}

impl MempoolError {
    /// Whether there was no memory for a pool.
    pub fn is_short_of_memory(&self) -> bool {
        const ENOMEM: i32 = 12;
        const ENOBUFS: i32 = 105;
        matches!(self, Self::Create { errno, .. } if matches!(errno.raw(), ENOMEM | ENOBUFS))
    }
}

/// EAL's memory on this thread's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that are free now. With hugepages more can come.
    pub free: usize,
    /// Bytes in use.
    pub used: usize,
}

impl Memory {
    /// As it is now.
    pub fn of(_eal: &Eal) -> Self {
        let mut stats = dpdk_sys::rte_malloc_socket_stats {
            heap_totalsz_bytes: 0,
            heap_freesz_bytes: 0,
            greatest_free_size: 0,
            free_count: 0,
            alloc_count: 0,
            heap_allocsz_bytes: 0,
        };
        // SAFETY: stats is a valid structure to write to; an unknown socket returns an error and
        // leaves it as it is.
        unsafe { dpdk_sys::rte_malloc_get_socket_stats(this_socket().max(0), &mut stats) };
        Self {
            free: stats.heap_freesz_bytes,
            used: stats.heap_allocsz_bytes,
        }
    }
}

/// What mbufs with `data_room` bytes of buffer cost. With `--no-huge` no mbuf crosses a page, and
/// pages have 4 KiB.
pub fn cost(eal: &Eal, data_room: u16) -> Cost {
    let element = MBUF_HEADER + u32::from(data_room);
    // SAFETY: only computes; a null third argument means that the parts are not wanted.
    let object =
        unsafe { dpdk_sys::rte_mempool_calc_obj_size(element, 0, std::ptr::null_mut()) } as usize;
    Cost {
        object,
        page: (!eal.has_hugepages()).then_some(4096),
    }
}

/// The same before EAL is started, with hugepages or without.
pub fn cost_before(hugepages: bool, data_room: u16) -> Cost {
    let element = MBUF_HEADER + u32::from(data_room);
    // SAFETY: only computes, with the number of memory channels in EAL's configuration; that is static, and zero before
    // EAL is started, for which DPDK takes a default. A null third argument means that the parts are not wanted.
    let object =
        unsafe { dpdk_sys::rte_mempool_calc_obj_size(element, 0, std::ptr::null_mut()) } as usize;
    Cost {
        object,
        page: (!hugepages).then_some(4096),
    }
}

const MBUF_HEADER: u32 = size_of::<dpdk_sys::rte_mbuf>() as u32;

fn this_socket() -> i32 {
    // SAFETY: reads the calling thread's socket; callers hold a reference to the running EAL. A
    // thread that EAL does not know gets SOCKET_ID_ANY.
    unsafe { dpdk_sys::rte_socket_id() as i32 }
}
