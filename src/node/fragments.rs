//! Link frames longer than the link port sends, as fragments; and fragments as frames again.
//!
//! Nothing is copied: a fragment is a header and slices of the frame's own mbufs, and what was put
//! together is the chain of the mbufs in which the fragments came.

use crate::dpdk::{Burst, Mbuf, Mempool, Slices};
use crate::frame::Frame;
use crate::link::fragment::{FRAGMENT_HEADER, Fragment, Fragmenter, Reassembly, Step};

/// The way to a link port that sends frames of a bounded length.
pub struct Splitting {
    fragmenter: Fragmenter,
    longest: usize,
    pool: Mempool,
    /// What is left of the frame that is being split.
    rest: Option<Slices>,
}

impl Splitting {
    /// For frames of up to `longest` bytes; `None` where no fragment fits.
    pub fn new(longest: usize, pool: Mempool) -> Option<Self> {
        Some(Self {
            fragmenter: Fragmenter::new(longest)?,
            longest,
            pool,
            rest: None,
        })
    }

    /// Whether the frame is too long.
    #[inline]
    pub fn concerns(&self, frame: &Mbuf) -> bool {
        frame.len() > self.longest
    }

    /// Whether fragments of a frame that was taken are still to come.
    #[inline]
    pub fn is_splitting(&self) -> bool {
        self.rest.is_some()
    }

    /// Moves frames from `from` to `to`, in order and in fragments where they are too long, as far as
    /// there is room and memory. Returns how many left `from`.
    pub fn fill(&mut self, from: &mut Burst, to: &mut Burst) -> usize {
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
                if let Ok(fragment) = Mbuf::with_header(head, part) {
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

/// Where fragments become frames.
#[derive(Default)]
pub struct Joining {
    reassembly: Reassembly,
    open: Option<Mbuf>,
}

impl Joining {
    /// Takes in what the link port received; gives back a frame that is whole.
    #[inline]
    pub fn accept(&mut self, frame: Mbuf) -> Option<Mbuf> {
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
