//! One end of a TCP connection, simple but with habits of its own: it cuts its stream, delays its
//! acknowledgments and retransmits as its dice say.

use colo_testkit::rng::Rng;
use dpdk_colo::frame::Ticks;

use crate::frames::Segment;

/// Largest segment.
const MSS: usize = 600;
/// Most bytes in flight.
pub const WINDOW: u32 = 4_000;
/// Acknowledgments of the same byte that show a loss (RFC 5681).
const DUPLICATES: u32 = 3;
/// Shortest time before a retransmission.
const RTO: Ticks = 2_500;

/// One end. Positions count from the SYN, so the first byte has position 1.
#[derive(Clone, Debug)]
pub struct Tcp {
    pub iss: u32,
    irs: Option<u32>,
    opens: bool,
    /// The stream that it sends, whole.
    pub stream: Vec<u8>,
    /// A FIN follows the stream.
    pub closing: bool,
    una: u32,
    next: u32,
    /// Highest position ever sent.
    top: u32,
    retransmit_at: Ticks,
    tries: u32,
    duplicates: u32,
    /// The stream that it has received.
    pub received: Vec<u8>,
    pub finished: bool,
    acknowledge_at: Option<Ticks>,
    /// TSval of the SYN, if it speaks of time.
    clock: Option<u32>,
    echo: u32,
}

impl Tcp {
    /// An end that opens a connection, or waits for a SYN.
    pub fn new(opens: bool, timestamps: bool, quirks: &mut Rng) -> Self {
        Self {
            iss: quirks.sequence(),
            irs: None,
            opens,
            stream: Vec::new(),
            closing: false,
            una: 0,
            next: 0,
            top: 0,
            retransmit_at: 0,
            tries: 0,
            duplicates: 0,
            received: Vec::new(),
            finished: false,
            acknowledge_at: None,
            clock: timestamps.then(|| quirks.word()),
            echo: 0,
        }
    }

    /// Its state as text.
    pub fn describe(&self) -> String {
        let Self { una, next, top, .. } = self;
        format!(
            "iss {:#x}, irs {:x?}, una {una}, next {next}, top {top} of {}, received {}, clock {:x?}",
            self.iss,
            self.irs,
            self.end(),
            self.received.len(),
            self.clock
        )
    }

    fn end(&self) -> u32 {
        1 + self.stream.len() as u32 + u32::from(self.closing)
    }

    /// Everything was sent and acknowledged, and the peer has finished.
    pub fn is_done(&self) -> bool {
        self.closing && self.finished && self.una == self.end()
    }

    /// Position of a byte of the peer's that is expected next.
    fn expected(&self) -> u32 {
        1 + self.received.len() as u32 + u32::from(self.finished)
    }

    pub fn hear(&mut self, segment: &Segment, now: Ticks, quirks: &mut Rng) {
        if segment.syn {
            if self.irs.is_none() {
                self.irs = Some(segment.seq);
                if segment.timestamps.is_none() {
                    self.clock = None;
                }
            } else if self.irs != Some(segment.seq) {
                return;
            }
            self.acknowledge_at = Some(now);
            if !self.opens && self.una == 0 {
                self.next = 0;
            }
        }
        let Some(irs) = self.irs else {
            return;
        };
        if let Some((value, echo)) = segment.timestamps {
            // As Linux does during the handshake: an echo of what was never sent is refused.
            let expects_echo = self.una == 0 && segment.ack.is_some();
            if expects_echo && self.clock.is_some_and(|clock| clock != echo) {
                return;
            }
            self.echo = value;
        }
        if let Some(ack) = segment.ack {
            let position = ack.wrapping_sub(self.iss);
            if position > self.top {
                self.acknowledge_at = Some(now);
                return;
            }
            if position > self.una {
                self.una = position;
                self.next = self.next.max(position);
                (self.tries, self.duplicates) = (0, 0);
                self.retransmit_at = now + RTO + quirks.below(2_000) as Ticks;
            } else if segment.payload.is_empty() && self.una > 0 && self.una < self.top {
                self.duplicates += 1;
                if self.duplicates == DUPLICATES {
                    self.next = self.una;
                }
            }
        }
        let start = segment
            .seq
            .wrapping_sub(irs)
            .wrapping_add(segment.syn.into());
        let known = self.expected().wrapping_sub(start) as i32;
        if known < 0 {
            self.acknowledge_at = Some(now);
            return;
        }
        if !segment.payload.is_empty() {
            if let Some(new) = segment.payload.get(known as usize..)
                && !self.finished
            {
                self.received.extend(new);
            }
            let delay = quirks.below(800) as Ticks;
            let due = self.acknowledge_at.unwrap_or(Ticks::MAX).min(now + delay);
            self.acknowledge_at = Some(due);
        }
        if segment.fin {
            let position = start.wrapping_add(segment.payload.len() as u32);
            if position == self.expected() {
                self.finished = true;
            }
            self.acknowledge_at = Some(now);
        }
    }

    /// An ICMP unreachable about this sequence number: takes one doubling back where it is the first that was not
    /// acknowledged (RFC 6069).
    pub fn remind(&mut self, sequence: u32, now: Ticks) -> bool {
        let heeds = self.una > 0
            && self.una < self.top
            && self.tries > 0
            && sequence == self.iss.wrapping_add(self.una);
        if heeds {
            self.tries -= 1;
            self.retransmit_at = self.retransmit_at.min(now + (RTO << self.tries.min(3)));
        }
        heeds
    }

    fn segment(&self, position: u32, now: Ticks) -> Segment {
        let millis = (now / 1_000) as u32;
        Segment {
            seq: self.iss.wrapping_add(position),
            ack: self.irs.map(|irs| irs.wrapping_add(self.expected())),
            timestamps: self.clock.map(|clock| {
                (
                    clock.wrapping_add(if position == 0 { 0 } else { millis }),
                    self.echo,
                )
            }),
            ..Segment::default()
        }
    }

    /// What it sends now, at most `most` segments and about `window` bytes in flight.
    pub fn speak(
        &mut self,
        now: Ticks,
        quirks: &mut Rng,
        most: usize,
        window: u32,
    ) -> Vec<Segment> {
        let mut said = Vec::new();
        if self.irs.is_none() && !self.opens {
            return said;
        }
        if self.una < self.top && now >= self.retransmit_at {
            self.next = self.una;
            self.duplicates = 0;
            self.tries += 1;
            let patience = RTO << (self.tries - 1).min(3);
            self.retransmit_at = now + patience + quirks.below(2_000) as Ticks;
        }
        while said.len() < most && self.next < self.end() {
            let mut segment = self.segment(self.next, now);
            if self.next == 0 {
                segment.syn = true;
                self.next = 1;
            } else if self.una == 0 || self.next - self.una >= window {
                break;
            } else {
                let from = self.next as usize - 1;
                let size = quirks.between(1, MSS).min(self.stream.len() - from);
                segment.payload = self.stream[from..from + size].to_vec();
                self.next += size as u32;
                if self.closing && self.next as usize == self.stream.len() + 1 && !quirks.one_in(4)
                {
                    segment.fin = true;
                    self.next += 1;
                }
                if segment.payload.is_empty() && !segment.fin {
                    segment.fin = true;
                    self.next += 1;
                }
            }
            if self.top == self.una {
                self.retransmit_at = now + RTO + quirks.below(2_000) as Ticks;
            }
            self.top = self.top.max(self.next);
            said.push(segment);
        }
        if said.is_empty() && self.acknowledge_at.is_some_and(|due| due <= now) && self.una > 0 {
            said.push(self.segment(self.top, now));
        }
        if said.iter().any(|segment| segment.ack.is_some()) {
            self.acknowledge_at = None;
        }
        said
    }
}
