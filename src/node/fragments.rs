//! Fragments link frames that are longer than the link port's MTU, and reassembles them.
//!
//! Nothing is copied. A fragment is a header and slices of the frame's own mbufs. A reassembled frame is the chain of
//! the mbufs in which its fragments came.

use crate::dpdk::{Burst, Mbuf, Mempool, Slices};
use crate::frame::Frame;
use crate::link::fragment::{FRAGMENT_HEADER, Fragment, Fragmenter, Reassembly, Step};

/// Fragments frames for a link port.
pub(crate) struct MbufFragmenter {
    fragmenter: Fragmenter,
    longest: usize,
    pool: Mempool,
    /// The rest of the frame that is being fragmented.
    rest: Option<Slices>,
}

impl MbufFragmenter {
    /// For frames of up to `longest` bytes; `None` where no fragment fits.
    pub(crate) fn new(longest: usize, pool: Mempool) -> Option<Self> {
        Some(Self {
            fragmenter: Fragmenter::new(longest)?,
            longest,
            pool,
            rest: None,
        })
    }

    /// Whether the frame must be fragmented.
    #[inline]
    pub(crate) fn concerns(&self, frame: &Mbuf) -> bool {
        frame.len() > self.longest
    }

    /// Whether fragments of a frame are still to come.
    #[inline]
    pub(crate) fn is_fragmenting(&self) -> bool {
        self.rest.is_some()
    }

    /// Moves frames from `from` to `to`, in order, and fragments those that are too long. It ends where room or memory
    /// ends. Returns the number of frames that left `from`.
    pub(crate) fn fill(&mut self, from: &mut Burst, to: &mut Burst) -> usize {
        let mut taken = 0;
        while !to.is_full() {
            if let Some(rest) = &mut self.rest {
                let n = self.fragmenter.next_length();
                if n == 0 {
                    self.rest = None;
                    continue;
                }
                let Some(mut head) = self.pool.alloc() else {
                    break;
                };
                let Some(part) = rest.take(n, &self.pool) else {
                    break;
                };
                if let Some(room) = head.append(FRAGMENT_HEADER) {
                    room.copy_from_slice(&self.fragmenter.next_header());
                }
                if let Ok(fragment) = Mbuf::chain(head, part) {
                    // The burst has room.
                    let _ = to.push(fragment);
                }
                continue;
            }
            let Some(frame) = from.pop_front() else {
                break;
            };
            taken += 1;
            if self.concerns(&frame) && self.fragmenter.begin(frame.head(), frame.len()) {
                // A frame that is shorter than it says is lost here, as on the link: the peer misses it.
                self.rest = Slices::new(frame);
            } else {
                let _ = to.push(frame);
            }
        }
        taken
    }
}

/// Reassembles frames from fragments.
#[derive(Default)]
pub(crate) struct MbufReassembler {
    reassembly: Reassembly,
    open: Option<Mbuf>,
}

impl MbufReassembler {
    /// Takes in a frame that the link port received. Returns a frame that is whole.
    #[inline]
    pub(crate) fn accept(&mut self, frame: Mbuf) -> Option<Mbuf> {
        match Fragment::is_one(frame.head()) {
            true => self.fragment(frame),
            false => Some(frame),
        }
    }

    fn fragment(&mut self, mut frame: Mbuf) -> Option<Mbuf> {
        let fragment = Fragment::decode(frame.head(), frame.len())?;
        let length = usize::from(fragment.length);
        if !frame.trim_front(FRAGMENT_HEADER)
            || (frame.len() > length && !frame.trim_end(frame.len() - length))
        {
            return None;
        }
        match self.reassembly.step(&fragment) {
            Step::Whole => {
                self.open = None;
                Some(frame)
            }
            Step::Begin => {
                self.open = Some(frame);
                None
            }
            Step::Append => {
                self.open = self.behind(frame);
                None
            }
            Step::Finish => self.behind(frame),
            Step::Drop => None,
        }
    }

    fn behind(&mut self, frame: Mbuf) -> Option<Mbuf> {
        let whole = Mbuf::chain(self.open.take()?, frame).ok();
        if whole.is_none() {
            self.reassembly.abandon();
        }
        whole
    }
}
