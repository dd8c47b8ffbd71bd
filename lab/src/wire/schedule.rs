//! What becomes of each frame of one direction of a wire, drawn from a seed.
//!
//! In: an [`Impairment`], the time at which a frame came. Out: its [`Fate`], and the frames that are due. The draws
//! depend on the seed and on the number of the frame alone, so two wires with one seed treat their n-th
//! frames alike, whatever is in them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::workload::Noise;

/// Frames that wait in one direction.
const QUEUE: usize = 16_384;

/// What happens to frames of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Impairment {
    /// Nothing passes.
    pub cut: bool,
    /// Share of frames, 0 to 1, that are lost, or that begin a burst of lost ones.
    pub loss: f64,
    /// How many further frames are lost behind each such one.
    pub further: u32,
    /// How long every frame takes.
    pub delay: Duration,
    /// Share of frames, 0 to 1, that take [`Impairment::late`] longer, so that others overtake them.
    pub reorder: f64,
    /// How much later the overtaken ones come.
    pub late: Duration,
    /// Share of frames, 0 to 1, that come twice.
    pub duplicate: f64,
}

impl Impairment {
    /// Share of frames, 0 to 1, that it loses in the long run: a frame outside a burst begins one by [`Impairment::loss`].
    pub fn lost_share(&self) -> f64 {
        let further = f64::from(self.further);
        self.loss * (1.0 + further) / (1.0 + self.loss * further)
    }
}

/// What becomes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The impairment loses it.
    Lost,
    /// No more frames can wait: it is lost, and the impairment did not ask for that.
    NoRoom,
    /// It comes out.
    Passes {
        /// When.
        due: Instant,
        /// How often, 1 or 2.
        copies: u32,
    },
}

/// A frame and when it is due; frames due at one time leave in their order.
type Waiting = Reverse<(Instant, u64, Vec<u8>)>;

/// What one direction's frames meet.
#[derive(Debug)]
pub struct Schedule {
    waiting: BinaryHeap<Waiting>,
    noise: Noise,
    number: u64,
    /// How many of the next frames belong to a burst of lost ones.
    burst: u32,
}

impl Schedule {
    /// An empty one; `seed` is for its draws.
    pub fn new(seed: u64) -> Self {
        Self {
            waiting: BinaryHeap::new(),
            noise: Noise::new(seed),
            number: 0,
            burst: 0,
        }
    }

    /// Begins the draws of `seed`; frames under way keep their time.
    pub fn begin(&mut self, seed: u64) {
        self.noise = Noise::new(seed);
        self.burst = 0;
    }

    /// What becomes of a frame that came at `now`. Draws the same numbers whatever the outcome.
    pub fn judge(&mut self, impairment: Impairment, now: Instant) -> Fate {
        let mut share = || (self.noise.number() >> 11) as f64 / (1u64 << 53) as f64;
        let (loss, reorder, duplicate) = (share(), share(), share());
        let in_burst = self.burst > 0;
        if in_burst {
            self.burst -= 1;
        } else if loss < impairment.loss {
            self.burst = impairment.further;
        }
        if impairment.cut || in_burst || loss < impairment.loss {
            return Fate::Lost;
        }
        if self.waiting.len() >= QUEUE {
            return Fate::NoRoom;
        }
        let late = if reorder < impairment.reorder {
            impairment.late
        } else {
            Duration::ZERO
        };
        Fate::Passes {
            due: now + impairment.delay + late,
            copies: 1 + u32::from(duplicate < impairment.duplicate),
        }
    }

    /// True if no frame waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps a frame until it is due.
    pub fn push(&mut self, due: Instant, frame: &[u8]) {
        self.number += 1;
        self.waiting
            .push(Reverse((due, self.number, frame.to_vec())));
    }

    /// The next frame that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        match self.waiting.peek() {
            Some(Reverse((due, ..))) if *due <= now => {
                self.waiting.pop().map(|Reverse((_, _, frame))| frame)
            }
            _ => None,
        }
    }

    /// When the next frame is due.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((due, ..))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// Frames of a test of rates.
    const MANY: usize = 100_000;

    /// The fates of [`MANY`] frames that came at one time.
    fn fates(seed: u64, impairment: Impairment, now: Instant) -> Vec<Fate> {
        let mut schedule = Schedule::new(seed);
        (0..MANY).map(|_| schedule.judge(impairment, now)).collect()
    }

    fn share(fates: &[Fate], counts: impl Fn(&Fate) -> bool) -> f64 {
        fates.iter().filter(|fate| counts(fate)).count() as f64 / fates.len() as f64
    }

    /// Everything at once.
    fn worn() -> Impairment {
        Impairment {
            loss: 0.01,
            further: 2,
            delay: MS * 10,
            reorder: 0.05,
            late: MS * 3,
            duplicate: 0.01,
            ..Impairment::default()
        }
    }

    #[test]
    fn a_seed_repeats_its_fates() {
        let now = Instant::now();
        assert_eq!(fates(5, worn(), now), fates(5, worn(), now));
        assert_ne!(fates(5, worn(), now), fates(6, worn(), now));
        let mut again = Schedule::new(9);
        assert_eq!(
            again.judge(
                Impairment {
                    loss: 1.0,
                    ..worn()
                },
                now
            ),
            Fate::Lost
        );
        again.begin(5);
        let second: Vec<_> = (0..MANY).map(|_| again.judge(worn(), now)).collect();
        assert_eq!(
            second,
            fates(5, worn(), now),
            "a burst does not outlive its seed"
        );
    }

    #[test]
    fn rates_are_those_asked_for() {
        let now = Instant::now();
        for seed in 0..8 {
            for loss in [0.001, 0.01, 0.02] {
                let impairment = Impairment {
                    loss,
                    ..Impairment::default()
                };
                let lost = share(&fates(seed, impairment, now), |fate| *fate == Fate::Lost);
                // Five standard deviations of a binomial count.
                let bound = 5.0 * (loss * (1.0 - loss) / MANY as f64).sqrt();
                assert!(
                    (lost - loss).abs() < bound,
                    "seed {seed}: {lost}, not {loss}"
                );
            }
            let fates = fates(
                seed,
                Impairment {
                    loss: 0.0,
                    ..worn()
                },
                now,
            );
            let late = share(
                &fates,
                |fate| matches!(fate, Fate::Passes { due, .. } if *due == now + MS * 13),
            );
            let twice = share(&fates, |fate| {
                matches!(fate, Fate::Passes { copies: 2, .. })
            });
            assert!((0.0465..0.0535).contains(&late), "seed {seed}: {late} late");
            assert!(
                (0.0084..0.0116).contains(&twice),
                "seed {seed}: {twice} twice"
            );
        }
    }

    #[test]
    fn bursts_have_their_length() {
        let now = Instant::now();
        let impairment = Impairment {
            loss: 0.01,
            further: 2,
            ..Impairment::default()
        };
        let fates = fates(1, impairment, now);
        let mut runs = Vec::new();
        for fate in &fates {
            match (fate, runs.last_mut()) {
                (Fate::Lost, Some(run)) if *run > 0 => *run += 1,
                (Fate::Lost, _) => runs.push(1),
                (_, Some(run)) if *run > 0 => runs.push(0),
                _ => {}
            }
        }
        let runs: Vec<usize> = runs.into_iter().filter(|run| *run > 0).collect();
        let whole = runs.iter().filter(|run| **run % 3 == 0).count();
        assert!(whole + 1 >= runs.len(), "all but one at the end: {runs:?}");
        let lost = share(&fates, |fate| *fate == Fate::Lost);
        assert!((0.026..0.033).contains(&lost), "{lost} lost");
    }

    #[test]
    fn nothing_is_lost_that_need_not_be() {
        let now = Instant::now();
        let passes = Fate::Passes {
            due: now,
            copies: 1,
        };
        let clean = fates(1, Impairment::default(), now);
        assert!(clean.iter().all(|fate| *fate == passes));
        let mut schedule = Schedule::new(1);
        let late = Impairment {
            loss: 0.0,
            further: 0,
            ..worn()
        };
        let mut out = 0;
        for n in 0..MANY {
            let now = now + Duration::from_micros(20) * n as u32;
            match schedule.judge(late, now) {
                Fate::Passes { due, copies } => {
                    out += copies;
                    schedule.push(due, b"");
                    (1..copies).for_each(|_| schedule.push(due, b""));
                }
                lost => panic!("frame {n}: {lost:?}"),
            }
            out -= std::iter::from_fn(|| schedule.pop(now)).count() as u32;
        }
        let end = now + Duration::from_secs(10);
        assert_eq!(std::iter::from_fn(|| schedule.pop(end)).count() as u32, out);
    }

    #[test]
    fn a_cut_wire_passes_nothing() {
        let cut = Impairment {
            cut: true,
            ..Impairment::default()
        };
        let fates = fates(1, cut, Instant::now());
        assert!(fates.iter().all(|fate| *fate == Fate::Lost));
    }

    #[test]
    fn a_late_frame_is_overtaken_and_no_other_is() {
        let start = Instant::now();
        let impairment = Impairment {
            reorder: 0.05,
            late: MS * 3,
            ..Impairment::default()
        };
        let mut schedule = Schedule::new(3);
        let (mut order, mut late) = (Vec::new(), Vec::new());
        let frames = 1000u32;
        for n in 0..frames {
            let now = start + MS * n;
            let Fate::Passes { due, .. } = schedule.judge(impairment, now) else {
                panic!("frame {n} is lost");
            };
            if due > now {
                late.push(n);
            }
            schedule.push(due, &n.to_be_bytes());
            while let Some(frame) = schedule.pop(now) {
                order.push((u32::from_be_bytes(frame.try_into().expect("four bytes")), n));
            }
        }
        assert!((20..100).contains(&late.len()), "{} late", late.len());
        for (frame, at) in &order {
            let wait = at - frame;
            assert_eq!(
                wait,
                if late.contains(frame) { 3 } else { 0 },
                "frame {frame}"
            );
        }
    }

    #[test]
    fn frames_leave_when_due_and_in_their_order() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.push(now + MS * 3, b"late");
        schedule.push(now + MS, b"first");
        schedule.push(now + MS, b"second");
        assert_eq!(schedule.pop(now), None);
        assert_eq!(schedule.due(), Some(now + MS));
        let order: Vec<_> = std::iter::from_fn(|| schedule.pop(now + MS * 3)).collect();
        assert_eq!(order, [&b"first"[..], b"second", b"late"]);
    }

    #[test]
    fn a_full_queue_says_so() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        for _ in 0..QUEUE {
            schedule.push(now, b"");
        }
        assert_eq!(schedule.judge(Impairment::default(), now), Fate::NoRoom);
    }
}
