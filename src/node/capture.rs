//! `--capture`: passes the frames and events of a pair's poll core to a thread that writes them to files.
//!
//! A [`Tap`] numbers frames and notes in the order of the poll core and copies them into two rings. The [`Recorder`]'s
//! thread writes the files. Frames are copied and not shared: a shared P could not get the smaller window, a shared S
//! could not get its header, and a slow disk would empty the guests' pools. A full ring costs records, whose numbers
//! are then missing, and never the service. Without `--capture` a tap is one branch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rtrb::{Consumer, Producer, RingBuffer};
use rustix::time::{ClockId, clock_gettime};

use super::anchor::Anchor;
use super::capture_desk::{CaptureOrder, Desk, PostedCapture, TapChange};
use super::clock::Clock;
use super::port_queue::PortQueue;
use crate::dpdk::{Burst, Mbuf, tsc};
use crate::error_chain::chain;
use crate::frame::{Frame, Ticks};
use crate::observability::capture::{Files, Note, Place};
use crate::observability::log::Log;
use crate::observability::port_capture::PortFile;
use crate::pair::View;

/// Size of the ring of frames in bytes, headers included.
const FRAMES: usize = 64 << 20;
/// The same of a capture that is ordered while the node runs.
const ORDERED_FRAMES: usize = 16 << 20;
/// Slots of the ring of notes.
const NOTES: usize = 4096;
/// Bytes in front of each frame in the ring.
const HEADER: usize = 32;
/// A burst of the longest frames that IP knows.
const SCRATCH: usize = Burst::CAPACITY * (HEADER + 66_000);
/// How long the thread sleeps when there is nothing to write. A killed node loses at most the records of this time.
const LOOK: Duration = Duration::from_millis(1);
/// The same without a capture.
const IDLE: Duration = Duration::from_millis(100);
/// Orders that may wait.
const ORDERS: usize = 16;

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
    /// Touches all memory of the ring of frames and of the scratch, so that no poll core waits for a page of it.
    fn touch(&mut self, frames: &mut Consumer<u8>) {
        const PIECE: usize = 1 << 20;
        let mut piece = vec![1; PIECE];
        for _ in 0..frames.buffer().capacity().div_ceil(PIECE) {
            let moved = self.frames.push_entire_slice(&piece).is_ok()
                && frames.pop_entire_slice(&mut piece).is_ok();
            debug_assert!(moved, "the ring is empty");
        }
        self.scratch.resize(self.scratch.capacity(), 1);
        self.scratch.clear();
    }

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

/// What records go to.
enum Out {
    /// The auditor's files; `None` after one could not be written.
    Audit(Option<Files>),
    /// The file of an order to the pair of this place.
    Ports(usize, PortFile),
}

/// The other ends of one pair's rings, and its files.
struct Sink {
    out: Out,
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
    /// By the pairs' places.
    desks: Vec<Desk>,
    orders: (Sender<PostedCapture>, Receiver<PostedCapture>),
}

impl Recorder {
    /// No tap yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            sinks: Vec::new(),
            clock,
            desks: Vec::new(),
            orders: bounded(ORDERS),
        }
    }

    /// Where captures are ordered.
    pub(crate) fn orders(&self) -> Sender<PostedCapture> {
        self.orders.0.clone()
    }

    /// The next pair's way to another tap; `audit`: `--capture` records it.
    pub(crate) fn desk(&mut self, pair: &str, audit: bool) -> TapChange {
        let (desk, change) = Desk::new(pair, audit);
        self.desks.push(desk);
        change
    }

    /// A tap whose records go to these files.
    pub(crate) fn tap(&mut self, files: Files) -> Tap {
        self.tap_to(Out::Audit(Some(files)), FRAMES)
    }

    fn tap_to(&mut self, out: Out, bytes: usize) -> Tap {
        let (frames, frames_end) = RingBuffer::new(bytes);
        let (notes, notes_end) = RingBuffer::new(NOTES);
        let shared = Arc::new(Shared::default());
        self.sinks.push(Sink {
            out,
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

    /// Carries an order out, or begins to.
    fn carry_out(&mut self, posted: PostedCapture, ends: bool, log: &Log) {
        let PostedCapture { pair, order, reply } = posted;
        let Some(desk) = self.desks.get_mut(pair) else {
            return;
        };
        let (path, limit) = match order {
            CaptureOrder::Stop => return desk.stop(reply),
            CaptureOrder::Start { path, limit } => (path, limit),
        };
        let refusal = match ends {
            true => Some(desk.refused("the node ends")),
            false => desk.refusal(),
        };
        let made = match refusal {
            Some(fault) => Err(fault),
            None => PortFile::create(&path, limit, monotonic_ns()).map_err(|error| {
                desk.refused(format!(
                    "cannot make {}: {error}; name another file",
                    path.display()
                ))
            }),
        };
        let file = match made {
            Ok(file) => file,
            Err(fault) => {
                let _ = reply.send(Err(fault));
                return;
            }
        };
        let mut tap = self.tap_to(Out::Ports(pair, file), ORDERED_FRAMES);
        if let (Some(inner), Some(sink)) = (&mut tap.0, self.sinks.last_mut()) {
            inner.touch(&mut sink.frames);
        }
        let desk = &mut self.desks[pair];
        log.alert(format_args!(
            "pair {}: what it sees goes to {}, up to {} MiB, until coloctl capture stop",
            desk.pair(),
            path.display(),
            limit >> 20
        ));
        let outcome =
            serde_json::json!({ "path": path.display().to_string(), "limit_mib": limit >> 20 });
        desk.start(tap, path);
        let _ = reply.send(Ok(outcome));
    }

    /// Writes until the node ends and all taps are gone.
    pub(crate) fn run(mut self, stop: &AtomicBool, log: &Log) {
        loop {
            // Without a capture nothing wakes this thread but an order.
            let idle = self.sinks.is_empty();
            let ends = stop.load(Ordering::Relaxed);
            if idle && ends {
                return;
            }
            let order = match idle {
                true => self.orders.1.recv_timeout(IDLE).ok(),
                false => self.orders.1.try_recv().ok(),
            };
            if let Some(order) = order {
                self.carry_out(order, ends, log);
            }
            if ends {
                // A tap that no poll core has taken goes with its ring.
                self.desks.clear();
            }
            self.desks.iter_mut().for_each(Desk::free);
            if !self.write(log) {
                thread::sleep(LOOK);
            }
        }
    }

    /// Writes what is in the rings. Returns whether there was anything, or nothing is captured.
    fn write(&mut self, log: &Log) -> bool {
        let mut any = self.sinks.is_empty();
        let (clock, desks) = (self.clock, &mut self.desks);
        self.sinks.retain_mut(|sink| {
            // Checked first: records that come in between are read now or in a later pass.
            let over = sink.frames.is_abandoned();
            any |= sink.work(clock, log);
            if let Out::Ports(pair, file) = &sink.out
                && file.is_over()
                && let Some(desk) = desks.get_mut(*pair)
            {
                desk.is_over();
            }
            if over {
                sink.end(desks, log);
            }
            !over
        });
        any
    }
}

impl Out {
    fn frame(&mut self, place: Place, seq: u64, ns: u64, epoch: u32, frame: &[u8]) {
        match self {
            Out::Audit(Some(files)) => files.frame(place, seq, ns, epoch, frame),
            Out::Audit(None) => {}
            Out::Ports(_, file) => file.frame(place, ns, epoch, frame),
        }
    }

    /// The auditor's files, which have events, too.
    fn audit(&mut self) -> Option<&mut Files> {
        match self {
            Out::Audit(files) => files.as_mut(),
            Out::Ports(..) => None,
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
        if frames {
            let out = &mut self.out;
            each_frame(&self.bytes, |place, seq, at, epoch, frame| {
                out.frame(place, seq, anchor.time(clock, at), epoch, frame);
            });
        }
        for noted in self.noted.drain(..) {
            if let Some(files) = self.out.audit() {
                files.note(noted.seq, anchor.time(clock, noted.at), &noted.note);
            }
        }
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if lost != self.reported_lost {
            self.reported_lost = lost;
            any = true;
            if let Some(files) = self.out.audit() {
                files.lost(anchor.ns, lost);
            }
            log.warning(
                "capture",
                format_args!("capture: {lost} records are lost; the disk is too slow"),
            );
        }
        if any {
            self.flush(log);
        }
        any
    }

    fn end(&mut self, desks: &mut [Desk], log: &Log) {
        if let Some(files) = self.out.audit() {
            files.end(monotonic_ns(), self.shared.records.load(Ordering::Acquire));
        }
        self.flush(log);
        if let Out::Ports(pair, file) = std::mem::replace(&mut self.out, Out::Audit(None))
            && let Some(desk) = desks.get_mut(pair)
        {
            desk.ended(file.end(), self.reported_lost);
        }
    }

    fn flush(&mut self, log: &Log) {
        match &mut self.out {
            Out::Ports(_, file) => file.flush(),
            Out::Audit(files) => {
                if let Some(written) = files.as_mut().map(Files::flush)
                    && let Err(error) = written
                {
                    log.error("capture", format_args!("{}", chain(&error)));
                    *files = None;
                }
            }
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
