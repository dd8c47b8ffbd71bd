//! Frames that are under way for long, by nature or because somebody in the path holds them back: a dead peer is lost in
//! time, and a peer that lives is not lost.

use super::*;

/// Ticks are milliseconds.
const TIMING: Timing = Timing {
    heartbeat: 20,
    retransmit: 50,
    silence: 500,
    gap: Ticks::MAX,
    stall: 0,
    restart: 0,
};

/// The shortest silence that may be configured for this heartbeat.
const SHORT: Timing = Timing {
    silence: 80,
    ..TIMING
};

const A: usize = 0;
const B: usize = 1;

/// Two ends and what is on its way to each.
struct World {
    ends: [Endpoint; 2],
    lines: [Vec<(Ticks, Vec<u8>)>; 2],
    lives: [bool; 2],
    /// Data is sent as fast as it is granted.
    talks: bool,
    now: Ticks,
}

impl World {
    fn new(timing: Timing) -> Self {
        let end = |boot| Endpoint::new(VM, boot, [2, 0, 0, 0, 0, boot as u8], WINDOW, timing, 0);
        Self {
            ends: [end(10), end(20)],
            lines: [Vec::new(), Vec::new()],
            lives: [true; 2],
            talks: true,
            now: 0,
        }
    }

    /// A tick. Says of a frame to an end when it arrives; `None` loses it.
    fn step(&mut self, mut arrival: impl FnMut(usize, Ticks) -> Option<Ticks>) {
        self.now += 1;
        let now = self.now;
        for from in [A, B] {
            if !self.lives[from] {
                continue;
            }
            let (to, end) = (1 - from, &mut self.ends[from]);
            let data = (self.talks && end.room() > 0).then(|| end.data_header(1, 0).to_vec());
            let own = std::iter::from_fn(|| Some(end.next_transmit(now)?.bytes().to_vec()));
            for frame in data.into_iter().chain(own) {
                self.lines[to].extend(arrival(to, now).map(|at| (at, frame)));
            }
        }
        for ((end, line), lives) in self.ends.iter_mut().zip(&mut self.lines).zip(self.lives) {
            if !lives {
                continue;
            }
            let (mut due, wait): (Vec<_>, Vec<_>) = line.drain(..).partition(|(at, _)| *at <= now);
            *line = wait;
            due.sort_by_key(|(at, _)| *at);
            for (_, frame) in due {
                end.receive(&frame, frame.len(), now);
            }
            while end.next_event().is_some() {}
            end.look(now);
        }
    }

    /// Both ends hear each other over a line of this length.
    fn meet(timing: Timing, latency: Ticks) -> Self {
        let mut world = Self::new(timing);
        while world.now < 1_000 {
            world.step(|_, now| Some(now + latency));
        }
        assert!(world.ends.iter().all(|end| end.is_up(1_000)));
        world
    }

    /// When the first end loses the other one, which is dead.
    fn lost(&mut self, mut arrival: impl FnMut(usize, Ticks) -> Option<Ticks>) -> Ticks {
        self.lives[B] = false;
        while !self.ends[A].is_silent(self.now) {
            self.step(&mut arrival);
            assert!(self.now < 100_000, "it is never lost");
        }
        self.now
    }
}

/// A frame that is ready in a tick leaves in the next one.
const READY: Ticks = 2;

#[test]
fn a_dead_peer_is_lost_in_the_configured_time_and_a_round_trip() {
    for timing in [TIMING, SHORT] {
        for latency in [1, 10, 20] {
            let mut world = World::meet(timing, latency);
            let lost = world.lost(|_, now| Some(now + latency)) - 1_000;
            let most = timing.silence + 2 * latency + READY;
            let least = timing.silence - timing.heartbeat - READY;
            assert!((least..=most).contains(&lost), "after {lost} of {most}");
        }
    }
}

/// Somebody holds back all that the peer sends, and lets one frame pass now and then: enough for an hour.
#[test]
fn a_dead_peer_is_lost_in_time_however_long_its_frames_are_held_back() {
    for (latency, talks) in [(1, true), (20, true), (1, false), (20, false)] {
        let mut world = World::meet(TIMING, latency);
        world.talks = talks;
        let mut held = 1_000;
        let mut hold_back = |to: usize, now: Ticks| match to {
            A => {
                held += TIMING.silence - 100;
                Some(held)
            }
            _ => Some(now + latency),
        };
        while world.now < 1_300 {
            world.step(&mut hold_back);
        }
        let lost = world.lost(&mut hold_back) - 1_300;
        let most = TIMING.silence + 2 * latency + READY;
        assert!(lost <= most, "after {lost} of {most}");
        assert!(world.lines[A].len() > 20, "more would have come");
    }
}

/// The same from the beginning on: the round trip is as long as the line.
#[test]
fn a_line_that_was_always_long_hides_a_dead_peer_for_its_length_and_no_longer() {
    let latency = TIMING.silence / 2 - 50;
    let mut world = World::meet(TIMING, latency);
    let lost = world.lost(|_, now| Some(now + latency)) - 1_000;
    assert!(lost <= TIMING.silence + 2 * latency + READY, "after {lost}");
}

#[test]
fn what_is_older_than_a_silence_when_it_returns_is_silence() {
    let mut world = World::new(TIMING);
    while world.now < 5_000 {
        world.step(|_, now| Some(now + TIMING.silence / 2));
    }
    assert!(world.ends.iter().all(|end| end.is_silent(5_000)));
}

#[test]
fn a_link_that_carries_one_way_is_silent_at_both_ends() {
    let mut world = World::meet(TIMING, 1);
    while world.now < 1_000 + TIMING.silence + 2 + READY {
        world.step(|to, now| (to == A).then_some(now + 1));
    }
    assert!(world.ends.iter().all(|end| end.is_silent(world.now)));
}

#[test]
fn a_peer_behind_a_long_line_is_not_lost() {
    for timing in [TIMING, SHORT] {
        let mut world = World::meet(timing, 20);
        while world.now < 60_000 {
            world.step(|_, now| Some(now + 20));
            assert!(world.ends.iter().all(|end| end.is_up(world.now)));
        }
    }
}

#[test]
fn no_peer_that_lives_is_lost_for_jitter_or_loss() {
    for_cases("link_jitter", 20, |rng| {
        for (timing, latency, jitter, loss) in [
            (TIMING, 20, 100, 10),
            (TIMING, 1, 30, 4),
            (SHORT, 20, 10, usize::MAX),
            (SHORT, 1, 20, usize::MAX),
        ] {
            let mut world = World::meet(timing, latency);
            while world.now < 10_000 {
                world.step(|_, now| {
                    let late = rng.below(jitter) as Ticks;
                    (!rng.one_in(loss)).then_some(now + latency + late)
                });
                let up = world.ends.iter().all(|end| end.is_up(world.now));
                assert!(up, "{latency} + {jitter} ms, at {}", world.now);
            }
        }
    });
}

/// Its poll core gets no CPU for a second, and its control thread reports that. What came meanwhile waits in its ring,
/// as far as there is room, and the oldest comes first.
#[test]
fn a_peer_without_cpu_is_not_lost_and_is_heard_again_at_once() {
    let timing = Timing {
        gap: TIMING.heartbeat,
        stall: 5_000,
        ..TIMING
    };
    for (latency, ring) in [(1, 16), (1, 4_096), (20, 16), (20, 4_096)] {
        let mut world = World::meet(timing, latency);
        for stalled in 0..1_000 {
            world.lives[B] = false;
            world.step(|_, now| Some(now + latency));
            world.lines[B].truncate(ring);
            if stalled >= 2 * timing.heartbeat {
                world.ends[A].excuse_stall(world.now);
            }
            assert!(world.ends[A].is_up(world.now));
        }
        world.lives[B] = true;
        for ran in 0..1_000 {
            world.step(|_, now| Some(now + latency));
            assert!(world.ends.iter().all(|end| end.is_up(world.now)), "{ran}");
            let heard = world.ends[A].since_heard(world.now);
            let most = 2 * timing.heartbeat + 2 * latency + READY;
            assert!(ran < most || heard <= most, "{heard} ms, {ran} after");
        }
    }
}
