//! What a driver needs of its surroundings: ports, mbufs, the control thread, the capture.

use std::ops::DerefMut;

use super::mail::{ToControl, ToPoll};
use super::view::View;
use crate::compare::Release;
use crate::frame::{Frame, Offload, Ticks};
use crate::link::DATA_HEADER;
use crate::link::secure::Begun;
use crate::observability::capture::{Note, Place};

/// Up to [`Burst::CAPACITY`] frames in order, in an array of fixed size.
pub trait Burst: Default + DerefMut<Target = [Self::Frame]> {
    /// What it holds.
    type Frame: Frame;

    /// The most frames that it holds, and that a port receives at once.
    const CAPACITY: usize;

    /// Whether no further frame fits.
    fn is_full(&self) -> bool {
        self.len() == Self::CAPACITY
    }

    /// Appends a frame. Returns it as an error when the burst is full.
    fn push(&mut self, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Takes all frames out, in order; those that the iterator still has when it is dropped are freed.
    fn drain(&mut self) -> impl Iterator<Item = Self::Frame>;

    /// Frees all frames.
    fn clear(&mut self);
}

/// The frames of a [`Host`].
pub type FrameOf<H> = <<H as Host>::Burst as Burst>::Frame;

/// What the driver of every role uses: the way to the network, the control thread, the capture.
///
/// The way to the network (uplink, or the comparator's output port) is a queue of [`Burst::CAPACITY`] frames in front of
/// a transmit queue, which may take nothing for a while.
pub trait Host {
    /// What its ports give and take.
    type Burst: Burst;

    /// Frames that still fit behind those that wait for the network.
    fn room(&self) -> usize;

    /// Puts a compared frame behind those that wait. The caller has seen [`Host::room`].
    fn release(&mut self, release: Release<FrameOf<Self>>);

    /// Puts a frame that was not compared behind those that wait. The caller has seen [`Host::room`].
    fn pass(&mut self, frame: FrameOf<Self>);

    /// Sends what waits for the network, in the name of this epoch; returns how many frames left.
    fn flush(&mut self, epoch: u32) -> usize;

    /// Whether nothing waits for the network, segments of a frame included.
    fn is_idle(&self) -> bool;

    /// Drops and counts what waits for the network, with `more` frames that would have come behind.
    fn give_up(&mut self, more: usize);

    /// The next message of the control thread.
    fn next_mail(&mut self) -> Option<ToPoll>;

    /// Whether another message to the control thread fits.
    fn has_mail_room(&self) -> bool;

    /// Sends the control thread a message. The caller has seen [`Host::has_mail_room`].
    fn post(&mut self, message: ToControl<FrameOf<Self>>);

    /// Records frames that passed one after the other.
    fn capture(&mut self, place: Place, epoch: u32, frames: &[FrameOf<Self>]);

    /// Records a note.
    fn note(&mut self, note: Note);

    /// Looks at the state and records what has changed.
    fn watch(&mut self, view: impl FnOnce() -> View);

    /// Time now, behind the last round.
    fn now(&self) -> Ticks;

    /// Waits a little for workers, behind the last round.
    fn pause(&mut self);
}

/// The ports of a node with a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The VM's.
    Guest,
    /// The network's.
    Uplink,
    /// The other node's.
    Link,
}

/// What the driver of a node with a VM uses.
///
/// The link has a queue as the network has; the guest has none: what its ring does not take stays in the driver.
pub trait Ports: Host {
    /// Passes a quiescent point of the guest port's fence: no frame is on its way between a ring and the state machine.
    /// Returns how often the ring has stopped.
    fn quiesce(&mut self) -> u64;

    /// Takes frames from a port into an empty burst, at most `most` where the port knows their number; returns whether
    /// there were any, fragments of a frame included.
    fn receive(&mut self, port: Port, burst: &mut Self::Burst, most: usize) -> bool;

    /// The session that the link's guard has begun since the last call. Frames of the one before may still come in the
    /// same burst; they bear other numbers and do not count.
    fn next_session(&mut self) -> Option<Begun>;

    /// Gives input to the guest's ring in the name of this epoch; what it does not take stays. Returns how many it took.
    fn give(&mut self, epoch: u32, input: &mut Self::Burst) -> usize;

    /// Frames that still fit behind those that wait for the link.
    fn link_room(&self) -> usize;

    /// Puts a frame behind those that wait for the link. The caller has seen [`Ports::link_room`].
    fn push_link(&mut self, frame: FrameOf<Self>);

    /// Sends what waits for the link; returns how many frames left.
    fn flush_link(&mut self) -> usize;

    /// Counts frames that a port's side has lost.
    fn count_dropped(&mut self, port: Port, frames: usize);

    /// Reserves memory for the headers of `frames` frames. Returns false if there is none now.
    fn reserve_headers(&mut self, frames: usize) -> bool;

    /// Puts the first `taken` of the shared frames behind those that wait for the link, each behind a header and without a
    /// copy; `shares` is empty then. The caller has reserved the headers and seen [`Ports::link_room`].
    fn mirror(
        &mut self,
        shares: &mut Self::Burst,
        taken: usize,
        header: impl FnMut(&FrameOf<Self>) -> [u8; DATA_HEADER],
    );

    /// Puts the link's header in front of a frame; false where there is no room or another owner.
    fn prepend(&self, frame: &mut FrameOf<Self>, header: &[u8; DATA_HEADER]) -> bool;

    /// Takes the link's header off a received frame, and the padding behind `length` bytes; false where it is shorter.
    fn strip(&self, frame: &mut FrameOf<Self>, length: usize) -> bool;

    /// A frame that went over the link, without the link's header. It may have other owners.
    fn reclaim(&self, frame: FrameOf<Self>) -> Option<FrameOf<Self>>;

    /// A frame of the node's own with these bytes.
    fn copy(&self, bytes: &[u8]) -> Option<FrameOf<Self>>;

    /// Marks input with what its sender left to do, as far as the guest port can do it.
    fn mark(&self, frame: &mut FrameOf<Self>, offload: Offload);
}

/// The ports of the standalone comparator.
pub trait Inputs: Host {
    /// Takes at most `most` P into an empty burst; returns whether there were any.
    fn receive_primary(&mut self, burst: &mut Self::Burst, most: usize) -> bool;

    /// The same of S.
    fn receive_secondary(&mut self, burst: &mut Self::Burst, most: usize) -> bool;
}
