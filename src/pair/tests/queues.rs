//! Ports that are queues and take all that they get.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use crate::compare::Release;
use crate::frame::{Frame, HeapFrame, Offload, Ticks};
use crate::link::DATA_HEADER;
use crate::link::secure::Begun;
use crate::observability::capture::{Note, Place};
use crate::pair::{Burst, Host, Port, Ports, ToControl, ToPoll, View};

#[derive(Default)]
pub(super) struct Frames(Vec<HeapFrame>);

impl Deref for Frames {
    type Target = [HeapFrame];

    fn deref(&self) -> &[HeapFrame] {
        &self.0
    }
}

impl DerefMut for Frames {
    fn deref_mut(&mut self) -> &mut [HeapFrame] {
        &mut self.0
    }
}

impl Burst for Frames {
    type Frame = HeapFrame;

    const CAPACITY: usize = 32;

    fn push(&mut self, frame: HeapFrame) -> Result<(), HeapFrame> {
        if self.is_full() {
            return Err(frame);
        }
        self.0.push(frame);
        Ok(())
    }

    fn drain(&mut self) -> impl Iterator<Item = HeapFrame> {
        self.0.drain(..)
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[derive(Default)]
pub(super) struct Queues {
    /// What the control thread sends.
    pub mail: VecDeque<ToPoll>,
    /// Stops of the guest's ring.
    pub stops: u64,
    /// What the guest and the link have sent.
    pub guest: VecDeque<HeapFrame>,
    pub from_link: VecDeque<HeapFrame>,
    /// What the network has sent, and what of it the guest has taken.
    pub network: VecDeque<HeapFrame>,
    pub given: Vec<HeapFrame>,
    /// What has gone to the network and over the link.
    pub left: Vec<HeapFrame>,
    pub to_link: Vec<HeapFrame>,
}

impl Host for Queues {
    type Burst = Frames;

    fn room(&self) -> usize {
        Frames::CAPACITY
    }

    fn release(&mut self, release: Release<HeapFrame>) {
        self.left.push(release.frame);
    }

    fn pass(&mut self, frame: HeapFrame) {
        self.left.push(frame);
    }

    fn flush(&mut self, _epoch: u32) -> usize {
        0
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn give_up(&mut self, _more: usize) {}

    fn next_mail(&mut self) -> Option<ToPoll> {
        self.mail.pop_front()
    }

    fn has_mail_room(&self) -> bool {
        true
    }

    fn post(&mut self, _message: ToControl<HeapFrame>) {}

    fn capture(&mut self, _place: Place, _epoch: u32, _frames: &[HeapFrame]) {}

    fn note(&mut self, _note: Note) {}

    fn watch(&mut self, _view: impl FnOnce() -> View) {}

    fn now(&self) -> Ticks {
        0
    }

    fn pause(&mut self) {}
}

impl Ports for Queues {
    fn quiesce(&mut self) -> u64 {
        self.stops
    }

    fn receive(&mut self, port: Port, burst: &mut Frames, most: usize) -> bool {
        let queue = match port {
            Port::Guest => &mut self.guest,
            Port::Link => &mut self.from_link,
            Port::Uplink => &mut self.network,
        };
        burst.0.extend(queue.drain(..most.min(queue.len())));
        !burst.is_empty()
    }

    fn next_session(&mut self) -> Option<Begun> {
        None
    }

    fn give(&mut self, _epoch: u32, input: &mut Frames) -> usize {
        let taken = input.len();
        self.given.extend(input.drain());
        taken
    }

    fn link_room(&self) -> usize {
        Frames::CAPACITY
    }

    fn push_link(&mut self, frame: HeapFrame) {
        self.to_link.push(frame);
    }

    fn flush_link(&mut self) -> usize {
        0
    }

    fn count_dropped(&mut self, _port: Port, _frames: usize) {}

    fn reserve_headers(&mut self, _frames: usize) -> bool {
        false
    }

    fn mirror(
        &mut self,
        _shares: &mut Frames,
        _taken: usize,
        _header: impl FnMut(&HeapFrame) -> [u8; DATA_HEADER],
    ) {
    }

    fn prepend(&self, _frame: &mut HeapFrame, _header: &[u8; DATA_HEADER]) -> bool {
        false
    }

    fn strip(&self, frame: &mut HeapFrame, length: usize) -> bool {
        let payload = frame.head().get(DATA_HEADER..DATA_HEADER + length);
        let stripped = payload.map(HeapFrame::new);
        stripped.map(|payload| *frame = payload).is_some()
    }

    fn reclaim(&self, _frame: HeapFrame) -> Option<HeapFrame> {
        None
    }

    fn copy(&self, bytes: &[u8]) -> Option<HeapFrame> {
        Some(HeapFrame::new(bytes))
    }

    fn mark(&self, _frame: &mut HeapFrame, _offload: Offload) {}
}
