//! The client's wires: what each does to frames, and what a pair must reach on it.

use std::fmt;
use std::time::Duration;

use crate::wire::Impairment;

/// Which way frames suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Towards the client.
    To,
    /// From the client.
    From,
    /// Either way.
    Both,
}

/// One wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Every frame passes at once.
    Clean,
    /// Frames are lost one by one: the number lost of 1,000.
    Loss(Way, u16),
    /// One frame in 100 is lost together with the two behind it, either way.
    Bursts,
    /// One frame in 20 comes 3 ms late, either way.
    Reorder,
    /// One frame in 100 comes twice, either way.
    Duplicate,
    /// Each frame takes 10 ms, so that a round trip takes 20; 5 of 1,000 are lost, either way.
    Delay,
}

/// Up to this share of lost frames a pair must reach 0.7 of an unprotected guest's rate, and request no checkpoint for
/// it.
const MODERATE: f64 = 0.01;

/// All wires, in the order in which they are measured.
pub const ALL: [Kind; 14] = {
    use Kind::{Bursts, Clean, Delay, Duplicate, Loss, Reorder};
    use Way::{Both, From, To};
    [
        Clean,
        Loss(To, 1),
        Loss(From, 1),
        Loss(Both, 1),
        Loss(To, 10),
        Loss(From, 10),
        Loss(Both, 10),
        Loss(To, 20),
        Loss(From, 20),
        Loss(Both, 20),
        Bursts,
        Reorder,
        Duplicate,
        Delay,
    ]
};

/// A name that is no wire's.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} is no wire; there are {}", names().join(", "))]
pub struct UnknownWire {
    name: String,
}

fn names() -> Vec<String> {
    ALL.iter().map(Kind::to_string).collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => f.pad("clean"),
            Self::Loss(way, share) => {
                let way = match way {
                    Way::To => "to",
                    Way::From => "from",
                    Way::Both => "both",
                };
                f.pad(&format!("{way}-{}", f64::from(*share) / 10.0))
            }
            Self::Bursts => f.pad("bursts"),
            Self::Reorder => f.pad("reorder"),
            Self::Duplicate => f.pad("duplicate"),
            Self::Delay => f.pad("delay"),
        }
    }
}

impl Kind {
    /// By its name on the command line.
    ///
    /// # Errors
    /// The names there are.
    pub fn parse(name: &str) -> Result<Self, UnknownWire> {
        ALL.into_iter()
            .find(|kind| kind.to_string() == name)
            .ok_or_else(|| UnknownWire {
                name: name.to_owned(),
            })
    }

    /// Its place among all, which its seeds depend on.
    pub fn number(self) -> u64 {
        let place = ALL.iter().position(|kind| *kind == self);
        place.unwrap_or(ALL.len()) as u64
    }

    /// What happens to frames from the client and to frames towards it.
    pub fn impairments(self) -> [Impairment; 2] {
        let clean = Impairment::default();
        let both = |impairment| [impairment; 2];
        match self {
            Self::Clean => both(clean),
            Self::Loss(way, share) => {
                let lossy = Impairment {
                    loss: f64::from(share) / 1e3,
                    ..clean
                };
                match way {
                    Way::To => [clean, lossy],
                    Way::From => [lossy, clean],
                    Way::Both => both(lossy),
                }
            }
            Self::Bursts => both(Impairment {
                loss: 0.01,
                further: 2,
                ..clean
            }),
            Self::Reorder => both(Impairment {
                reorder: 0.05,
                late: Duration::from_millis(3),
                ..clean
            }),
            Self::Duplicate => both(Impairment {
                duplicate: 0.01,
                ..clean
            }),
            Self::Delay => both(Impairment {
                delay: Duration::from_millis(10),
                loss: 0.005,
                ..clean
            }),
        }
    }

    /// How many of `pages` pages are fetched on it: a quarter where each takes at least six round trips of 20 ms.
    pub fn pages(self, pages: usize) -> usize {
        match self {
            Self::Delay => pages.div_ceil(4),
            _ => pages,
        }
    }

    /// True if it loses more than one frame in 100 either way: less is asked of a pair there. In a burst the frame that
    /// repeats a lost one is often lost, too, so that a sender's timer doubles; what counts is the share of all frames.
    pub fn is_harsh(self) -> bool {
        let mut ways = self.impairments().into_iter();
        ways.any(|impairment| impairment.lost_share() > MODERATE)
    }

    /// The share of an unprotected guest's rate that a pair must reach.
    pub fn goal(self) -> f64 {
        if self.is_harsh() { 0.33 } else { 0.7 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wire_has_a_name_of_its_own() {
        for (number, kind) in ALL.into_iter().enumerate() {
            assert_eq!(Kind::parse(&kind.to_string()).expect("a wire"), kind);
            assert_eq!(kind.number(), number as u64);
        }
        assert_eq!(Kind::Loss(Way::To, 1).to_string(), "to-0.1");
        assert_eq!(Kind::Loss(Way::Both, 20).to_string(), "both-2");
        let error = Kind::parse("to-3").expect_err("none").to_string();
        assert!(
            error.contains("to-3") && error.contains("from-0.1"),
            "{error}"
        );
    }

    #[test]
    fn a_way_suffers_alone() {
        let [from, to] = Kind::Loss(Way::To, 10).impairments();
        assert_eq!((from.loss, to.loss), (0.0, 0.01));
        let [from, to] = Kind::Loss(Way::From, 20).impairments();
        assert_eq!((from.loss, to.loss), (0.02, 0.0));
        for impairment in Kind::Clean.impairments() {
            assert_eq!(impairment, Impairment::default());
        }
    }

    #[test]
    fn less_is_asked_only_where_two_in_a_hundred_are_lost_or_more() {
        let harsh = ALL.into_iter().filter(|kind| kind.is_harsh());
        assert_eq!(
            harsh.map(|kind| kind.to_string()).collect::<Vec<_>>(),
            ["to-2", "from-2", "both-2", "bursts"]
        );
        let [from, to] = Kind::Bursts.impairments().map(|way| way.lost_share());
        assert!((0.029..0.03).contains(&from) && from == to, "{from}");
        let [_, to] = Kind::Loss(Way::To, 10).impairments();
        assert_eq!(to.lost_share(), 0.01);
    }
}
