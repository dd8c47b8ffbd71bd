//! `--capture`: passes the frames and events of a pair's poll core to a thread that writes them to files.
//!
//! A [`Tap`] numbers frames and notes in the order of the poll core and copies them into two rings. The [`Recorder`]'s
//! thread writes the files. Frames are copied and not shared: a shared P could not get the smaller window, a shared S
//! could not get its header, and a slow disk would empty the guests' pools. A full ring costs records, whose numbers
//! are then missing, and never the service. Without `--capture` a tap is one branch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::time::{ClockId, clock_gettime};

use super::anchor::Anchor;
use super::clock::Clock;
use super::port_queue::PortQueue;
use crate::dpdk::{Burst, Mbuf, tsc};
use crate::error_chain::chain;
use crate::frame::{Frame, Ticks};
use crate::observability::capture::{Files, Note, Place};
use crate::observability::log::Log;
use crate::pair::View;

/// Size of the ring of frames in bytes, headers included.
const FRAMES: usize = 64 << 20;
/// Slots of the ring of notes.
const NOTES: usize = 4096;
/// Bytes in front of each frame in the ring.
const HEADER: usize = 32;
/// A burst of the longest frames that IP knows.
const SCRATCH: usize = Burst::CAPACITY * (HEADER + 66_000);
/// How long the thread sleeps when there is nothing to write. A killed node loses at most the records of this time.
const LOOK: Duration = Duration::from_millis(1);

/// What the poll core and the thread share besides the rings.
#[derive(Default)]
struct Shared {
    /// Records that found no room.
    lost: AtomicU64,
    /// Number of all records, set when the tap is dropped.
    records: AtomicU64,
}

struct Noted {
    seq: u64,
    at: Ticks,
    note: Note,
}

/// The poll core's end.
pub(crate) struct Tap(Option<Box<Inner>>);

struct Inner {
    frames: Producer<u8>,
    notes: Producer<Noted>,
    shared: Arc<Shared>,
    scratch: Vec<u8>,
    /// The end of each record in the scratch.
    ends: [usize; Burst::CAPACITY],
    seq: u64,
    seen: Option<View>,
}

impl Tap {
    /// A tap that records nothing.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Records frames that passed one after the other.
    #[inline]
    pub(crate) fn frames(&mut self, place: Place, epoch: u32, frames: &[Mbuf]) {
        if let Some(inner) = &mut self.0 {
            let staged = inner.stage(place, epoch, frames);
            inner.keep(staged, frames.len());
        }
    }

    /// Records a note.
    #[inline]
    pub(crate) fn note(&mut self, note: Note) {
        if let Some(inner) = &mut self.0 {
            inner.note(note);
        }
    }

    /// Records the changes of the state since the last call.
    #[inline]
    pub(crate) fn watch(&mut self, view: impl FnOnce() -> View) {
        if let Some(inner) = &mut self.0 {
            inner.watch(view());
        }
    }

    /// Sends the frames that wait in a queue. Records those that the port took, as they were before.
    #[inline]
    pub(crate) fn flush(&mut self, place: Place, epoch: u32, queue: &mut PortQueue) -> usize {
        let Some(inner) = &mut self.0 else {
            return queue.flush();
        };
        let staged = inner.stage(place, epoch, &queue.out);
        let taken = queue.flush();
        inner.keep(staged, taken);
        taken
    }

    /// Sends the frames of a burst. Records those that the port took, as they were before.
    #[inline]
    pub(crate) fn transmit(
        &mut self,
        place: Place,
        epoch: u32,
        queue: &mut PortQueue,
        burst: &mut Burst,
    ) -> usize {
        let Some(inner) = &mut self.0 else {
            return queue.transmit(burst);
        };
        let staged = inner.stage(place, epoch, burst);
        let taken = queue.transmit(burst);
        inner.keep(staged, taken);
        taken
    }
}

impl Inner {
    /// Copies frames into the scratch, numbered from the next number on. Returns the number that fitted.
    fn stage(&mut self, place: Place, epoch: u32, frames: &[Mbuf]) -> usize {
        self.scratch.clear();
        let at = tsc::now();
        for (i, frame) in frames.iter().enumerate() {
            let len = HEADER + frame.len();
            if self.scratch.len() + len > self.scratch.capacity() {
                return i;
            }
            self.scratch.extend_from_slice(&(len as u32).to_le_bytes());
            self.scratch
                .extend_from_slice(&(place as u32).to_le_bytes());
            let seq = self.seq + 1 + i as u64;
            self.scratch.extend_from_slice(&seq.to_le_bytes());
            self.scratch.extend_from_slice(&at.to_le_bytes());
            self.scratch
                .extend_from_slice(&u64::from(epoch).to_le_bytes());
            for segment in frame.segments() {
                self.scratch.extend_from_slice(segment);
            }
            self.ends[i] = self.scratch.len();
        }
        frames.len()
    }

    /// Records the first `n` frames, of which `staged` are in the scratch.
    fn keep(&mut self, staged: usize, n: usize) {
        let fit = staged.min(n);
        self.seq += n as u64;
        let mut lost = n - fit;
        if fit > 0 {
            let bytes = &self.scratch[..self.ends[fit - 1]];
            if self.frames.push_entire_slice(bytes).is_err() {
                lost = n;
            }
        }
        self.lose(lost);
    }

    fn note(&mut self, note: Note) {
        self.seq += 1;
        let noted = Noted {
            seq: self.seq,
            at: tsc::now(),
            note,
        };
        let lost = self.notes.push(noted).is_err();
        self.lose(usize::from(lost));
    }

    fn lose(&mut self, n: usize) {
        if n > 0 {
            self.shared.lost.fetch_add(n as u64, Ordering::Relaxed);
        }
    }

    fn watch(&mut self, view: View) {
        let was = self.seen.replace(view);
        view.changes(was.as_ref(), |note| self.note(note));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.records.store(self.seq, Ordering::Release);
    }
}

/// The other ends of one pair's rings, and its files.
struct Sink {
    /// `None` after a file could not be written.
    files: Option<Files>,
    frames: Consumer<u8>,
    notes: Consumer<Noted>,
    shared: Arc<Shared>,
    bytes: Vec<u8>,
    noted: Vec<Noted>,
    reported_lost: u64,
}

/// Writes the records of all pairs' taps.
pub(crate) struct Recorder {
    sinks: Vec<Sink>,
    clock: Clock,
}

impl Recorder {
    /// No tap yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            sinks: Vec::new(),
            clock,
        }
    }

    /// A tap whose records go to these files.
    pub(crate) fn tap(&mut self, files: Files) -> Tap {
        let (frames, frames_end) = RingBuffer::new(FRAMES);
        let (notes, notes_end) = RingBuffer::new(NOTES);
        let shared = Arc::new(Shared::default());
        self.sinks.push(Sink {
            files: Some(files),
            frames: frames_end,
            notes: notes_end,
            shared: Arc::clone(&shared),
            bytes: Vec::new(),
            noted: Vec::with_capacity(NOTES),
            reported_lost: 0,
        });
        Tap(Some(Box::new(Inner {
            frames,
            notes,
            shared,
            scratch: Vec::with_capacity(SCRATCH),
            ends: [0; Burst::CAPACITY],
            seq: 0,
            seen: None,
        })))
    }

    /// Writes until all taps are gone.
    pub(crate) fn run(mut self, log: &Log) {
        while !self.sinks.is_empty() {
            let mut any = false;
            let clock = self.clock;
            self.sinks.retain_mut(|sink| {
                // Checked first: records that come in between are read now or in a later pass.
                let over = sink.frames.is_abandoned();
                any |= sink.work(clock, log);
                if over {
                    sink.end(log);
                }
                !over
            });
            if !any {
                thread::sleep(LOOK);
            }
        }
    }
}

impl Sink {
    /// Writes the records in the rings. Returns whether there were any.
    fn work(&mut self, clock: Clock, log: &Log) -> bool {
        let waiting = self.frames.slots();
        self.bytes.resize(waiting, 0);
        let frames = waiting > 0 && self.frames.pop_entire_slice(&mut self.bytes).is_ok();
        self.noted
            .extend(std::iter::from_fn(|| self.notes.pop().ok()));
        let mut any = frames || !self.noted.is_empty();
        // Times are converted with an anchor that is later than all records of the batch.
        let anchor = Anchor::take(clock, tsc::now, monotonic_ns);
        if frames && let Some(files) = &mut self.files {
            each_frame(&self.bytes, |place, seq, at, epoch, frame| {
                files.frame(place, seq, anchor.time(clock, at), epoch, frame);
            });
        }
        for noted in self.noted.drain(..) {
            if let Some(files) = &mut self.files {
                files.note(noted.seq, anchor.time(clock, noted.at), &noted.note);
            }
        }
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if lost != self.reported_lost {
            self.reported_lost = lost;
            any = true;
            if let Some(files) = &mut self.files {
                files.lost(anchor.ns, lost);
            }
            log.warning(
                "capture",
                format_args!("--capture: {lost} records are lost; the disk is too slow"),
            );
        }
        if any {
            self.flush(log);
        }
        any
    }

    fn end(&mut self, log: &Log) {
        if let Some(files) = &mut self.files {
            files.end(monotonic_ns(), self.shared.records.load(Ordering::Acquire));
        }
        self.flush(log);
    }

    fn flush(&mut self, log: &Log) {
        if let Some(files) = &mut self.files
            && let Err(error) = files.flush()
        {
            log.error("capture", format_args!("{}", chain(&error)));
            self.files = None;
        }
    }
}

/// Reads the records that [`Inner::stage`] has written.
fn each_frame(mut bytes: &[u8], mut tell: impl FnMut(Place, u64, Ticks, u32, &[u8])) {
    let word = |header: &[u8], at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(word)
    };
    while bytes.len() >= HEADER {
        let (header, rest) = bytes.split_at(HEADER);
        let first = word(header, 0);
        let len = (first as u32 as usize).clamp(HEADER, bytes.len());
        let place = Place::ALL[((first >> 32) as usize).min(Place::ALL.len() - 1)];
        let epoch = word(header, 24) as u32;
        tell(
            place,
            word(header, 8),
            word(header, 16),
            epoch,
            &rest[..len - HEADER],
        );
        bytes = &bytes[len..];
    }
}

/// The time of `CLOCK_MONOTONIC`, which all processes of a host share.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
