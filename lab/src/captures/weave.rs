//! The order in which the frames of both VMs arrive.

use std::ops::Range;

use colo_testkit::rng::Rng;

use super::vary::Made;

/// Frames that a lagging VM is behind.
const LAG: usize = 24;
/// Most frames of one VM in a burst.
const BURST: usize = 40;

/// Who sends when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All of the primary's frames, then all of the secondary's.
    PrimaryFirst,
    /// The other way round.
    SecondaryFirst,
    /// In turn.
    Alternating,
    /// The secondary's come [`LAG`] frames later.
    Lagging,
    /// The secondary's come [`LAG`] frames earlier.
    Leading,
    /// Both at once, in bursts of many lengths.
    Bursts,
}

impl Order {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::PrimaryFirst,
        Self::SecondaryFirst,
        Self::Alternating,
        Self::Lagging,
        Self::Leading,
        Self::Bursts,
    ];

    /// The words for reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::PrimaryFirst => "P first",
            Self::SecondaryFirst => "S first",
            Self::Alternating => "alternating",
            Self::Lagging => "S lagging",
            Self::Leading => "S leading",
            Self::Bursts => "bursts",
        }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The primary sends a frame.
    Primary(usize),
    /// The secondary sends one.
    Secondary(usize),
    /// Both send at once.
    Both(Range<usize>, Range<usize>),
}

/// The order in which the frames of both arrive.
pub fn order(primary: usize, secondary: &[Made], order: Order, rng: &mut Rng) -> Vec<Step> {
    let count = secondary.len();
    let after = |lag: usize| {
        let mut steps = Vec::with_capacity(primary + count);
        let mut s = 0;
        for p in 0..primary {
            steps.push(Step::Primary(p));
            while s < count && secondary[s].source + lag <= p {
                steps.push(Step::Secondary(s));
                s += 1;
            }
        }
        steps.extend((s..count).map(Step::Secondary));
        steps
    };
    match order {
        Order::PrimaryFirst => after(usize::MAX / 2),
        Order::SecondaryFirst => (0..count)
            .map(Step::Secondary)
            .chain((0..primary).map(Step::Primary))
            .collect(),
        Order::Alternating => after(0),
        Order::Lagging => after(LAG),
        Order::Leading => {
            let mut steps = Vec::with_capacity(primary + count);
            let mut s = 0;
            for p in 0..primary {
                while s < count && secondary[s].source <= p + LAG {
                    steps.push(Step::Secondary(s));
                    s += 1;
                }
                steps.push(Step::Primary(p));
            }
            steps.extend((s..count).map(Step::Secondary));
            steps
        }
        Order::Bursts => {
            let (mut p, mut s) = (0, 0);
            let mut steps = Vec::new();
            while p < primary || s < count {
                let take = |rng: &mut Rng, at: usize, most: usize| {
                    let few = rng.one_in(3);
                    at..most.min(at + rng.below(if few { 3 } else { BURST }))
                };
                let burst = (take(rng, p, primary), take(rng, s, count));
                (p, s) = (burst.0.end, burst.1.end);
                steps.push(Step::Both(burst.0, burst.1));
            }
            steps
        }
    }
}
