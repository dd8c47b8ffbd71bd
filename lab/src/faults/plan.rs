//! What is done to a pair, drawn from a seed.

use std::fmt;
use std::time::Duration;

use crate::load::Client;
use crate::wire::Impairment;
use crate::workload::{Family, Noise};

/// One of the two hosts by the part that its VM has when the fault comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The primary VM's.
    Primary,
    /// The secondary VM's.
    Secondary,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

/// Which processes of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// QEMU.
    Vm,
    /// The node.
    Node,
    /// Both.
    Host,
}

/// How a process goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A part of one host goes down and the other host takes over or goes on alone.
    Down(Side, Part, Way),
    /// The link passes nothing from the primary, from the secondary; one of the two is then fenced.
    Cut(bool, bool),
    /// The link passes nothing for a while and nobody is fenced: the default policy must hold.
    Partition,
    /// The link loses 1 % of its frames.
    Loss,
    /// One in five frames of the link comes 3 ms late.
    Reorder,
    /// Each frame of the link takes 10 ms.
    Delay,
    /// The session between a node and its monitor ends; new ones are refused for a while.
    QmpClosed(Side),
    /// The session between a node and its monitor says nothing for a while.
    QmpFrozen(Side),
    /// A node's poll core gets no CPU for 1 to 3 s, while both nodes fence a peer that is lost.
    Stall(Side),
    /// A part of the secondary host runs half of the time.
    Slow(Part),
    /// All that a host sends or is sent is dropped until the other's node fences it and gives its own QEMU the
    /// failover command.
    Vanish(Side),
    /// A host stands still until the other's node fences it and gives its own QEMU the failover command.
    Fence(Side),
    /// A node is killed and started again with the same arguments.
    Restart(Side),
    /// A host is killed, the survivor is protected by a new one, and then killed itself.
    Twice(Side),
    /// The nodes have little memory and a flood of datagrams meets a secondary VM that stands still.
    Memory,
}

/// Every kind; those first that a short run should have.
pub const ALL: &[Kind] = {
    use Kind::{
        Cut, Delay, Down, Fence, Loss, Memory, Partition, QmpClosed, QmpFrozen, Reorder, Restart,
        Slow, Stall, Twice, Vanish,
    };
    use Part::{Host, Node, Vm};
    use Side::{Primary, Secondary};
    use Way::{Kill, Stop};
    &[
        Down(Primary, Host, Kill),
        Down(Secondary, Host, Kill),
        Cut(true, true),
        Loss,
        QmpClosed(Primary),
        Down(Primary, Vm, Stop),
        Down(Secondary, Node, Kill),
        Slow(Vm),
        Down(Primary, Vm, Kill),
        Down(Primary, Node, Kill),
        Down(Primary, Node, Stop),
        Down(Primary, Host, Stop),
        Down(Secondary, Vm, Kill),
        Down(Secondary, Vm, Stop),
        Down(Secondary, Node, Stop),
        Down(Secondary, Host, Stop),
        Cut(true, false),
        Cut(false, true),
        Partition,
        Reorder,
        Delay,
        QmpClosed(Secondary),
        QmpFrozen(Primary),
        QmpFrozen(Secondary),
        Slow(Node),
        Fence(Primary),
        Fence(Secondary),
        Vanish(Primary),
        Vanish(Secondary),
        Restart(Primary),
        Restart(Secondary),
        Twice(Primary),
        Twice(Secondary),
        Memory,
        Stall(Primary),
        Stall(Secondary),
    ]
};

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vm => "vm",
            Self::Node => "node",
            Self::Host => "host",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(side, part, Way::Kill) => write!(f, "kill-{side}-{part}"),
            Self::Down(side, part, Way::Stop) => write!(f, "stop-{side}-{part}"),
            Self::Cut(true, true) => f.write_str("cut"),
            Self::Cut(true, false) => f.write_str("cut-to-secondary"),
            Self::Cut(false, _) => f.write_str("cut-to-primary"),
            Self::Partition => f.write_str("partition"),
            Self::Loss => f.write_str("loss"),
            Self::Reorder => f.write_str("reorder"),
            Self::Delay => f.write_str("delay"),
            Self::QmpClosed(side) => write!(f, "qmp-closed-{side}"),
            Self::QmpFrozen(side) => write!(f, "qmp-frozen-{side}"),
            Self::Stall(side) => write!(f, "stall-{side}-core"),
            Self::Slow(part) => write!(f, "slow-secondary-{part}"),
            Self::Fence(side) => write!(f, "fence-{side}"),
            Self::Vanish(side) => write!(f, "vanish-{side}"),
            Self::Restart(side) => write!(f, "restart-{side}-node"),
            Self::Twice(side) => write!(f, "protect-again-after-{side}"),
            Self::Memory => f.write_str("memory"),
        }
    }
}

impl Kind {
    /// Whether the primary's host, or a part of it that the VM cannot do without, is lost for good.
    pub fn is_takeover(self) -> bool {
        matches!(self, Self::Down(Side::Primary, ..))
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = ALL.iter().copied().find(|kind| kind.to_string() == name);
        found.ok_or_else(|| {
            let names: Vec<String> = ALL.iter().map(ToString::to_string).collect();
            format!("unknown fault {name}; there are {}", names.join(", "))
        })
    }

    /// What the wire does meanwhile, from the primary and from the secondary.
    pub fn impairments(self) -> Option<[Impairment; 2]> {
        let cut = |cut| Impairment {
            cut,
            ..Impairment::default()
        };
        let both = |impairment| Some([impairment, impairment]);
        match self {
            Self::Cut(forth, back) => Some([cut(forth), cut(back)]),
            Self::Partition => both(cut(true)),
            Self::Loss => both(Impairment {
                loss: 0.01,
                ..Impairment::default()
            }),
            Self::Reorder => both(Impairment {
                reorder: 0.2,
                late: Duration::from_millis(3),
                ..Impairment::default()
            }),
            Self::Delay => both(Impairment {
                delay: Duration::from_millis(10),
                ..Impairment::default()
            }),
            _ => None,
        }
    }
}

/// Where in a checkpoint a host goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// At any time.
    Any,
    /// Between the node's request and STOP.
    Requested,
    /// Between STOP and RESUME.
    Stopped,
    /// Between RESUME and the restart of the ring.
    Resumed,
    /// While the primary's QEMU sends RAM.
    Transfer,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any time",
            Self::Requested => "request to STOP",
            Self::Stopped => "STOP to RESUME",
            Self::Resumed => "RESUME to ring",
            Self::Transfer => "RAM transfer",
        })
    }
}

/// A checkpoint's RAM has at least this many frames under the suite's load.
const FRAMES: u64 = 24;

/// One injection.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What repeats it.
    pub seed: u64,
    /// What is done.
    pub kind: Kind,
    /// Where in a checkpoint.
    pub phase: Phase,
    /// From the first answers to the fault, or from the phase's message to it.
    pub delay: Duration,
    /// How many frames of a checkpoint's state still pass, where the fault comes inside its transfer.
    pub frames: u32,
    /// How long a fault lasts that ends by itself.
    pub lasts: Duration,
    /// From the fault to the moment when a cluster manager has noticed.
    pub notice: Duration,
    /// Who is to be fenced.
    pub loser: Side,
    /// Who asks meanwhile.
    pub clients: Vec<Client>,
}

impl Plan {
    /// The same with clients that write to the guest's disk, too.
    pub fn with_disk(mut self) -> Self {
        self.clients
            .extend([Client::Disk(Family::V4), Client::Disk(Family::V6)]);
        self
    }

    /// Draws the plan of `seed` for `kind`.
    pub fn draw(seed: u64, kind: Kind) -> Self {
        let mut noise = Noise::new(seed);
        // The first draws of neighbouring seeds are alike.
        for _ in 0..8 {
            noise.number();
        }
        let mut below = |limit: u64| noise.number() % limit;
        let phase = match (kind, below(4)) {
            (Kind::Down(..), 1) => Phase::Requested,
            (Kind::Down(..), 2) => Phase::Stopped,
            (Kind::Down(..), 3) => Phase::Resumed,
            (Kind::Vanish(_), 1) => Phase::Stopped,
            (Kind::Vanish(_), 2 | 3) => Phase::Transfer,
            _ => Phase::Any,
        };
        let delay = match phase {
            Phase::Any => Duration::from_millis(below(1500)),
            // A checkpoint of the idle guest takes 50 to 100 ms.
            Phase::Stopped => Duration::from_millis(below(60)),
            Phase::Requested | Phase::Resumed | Phase::Transfer => Duration::ZERO,
        };
        let lasts = Duration::from_millis(1000 + below(1500));
        let lasts = match kind {
            Kind::Stall(_) => lasts + Duration::from_millis(seed % 501),
            _ => lasts,
        };
        let notice = Duration::from_millis(below(300));
        let loser = match (kind, below(2)) {
            (
                Kind::Down(side, ..) | Kind::Twice(side) | Kind::Fence(side) | Kind::Vanish(side),
                _,
            ) => side,
            (_, 0) => Side::Primary,
            _ => Side::Secondary,
        };
        // Drawn apart, so that the other kinds' seeds repeat what they did.
        let below_frames = Noise::new(seed ^ 0x5eed).number() % FRAMES;
        let mut family = || match below(2) {
            0 => Family::V4,
            _ => Family::V6,
        };
        let clients = vec![
            Client::Echo(Family::V4),
            Client::Echo(Family::V6),
            Client::Redis(family()),
            Client::Download(family()),
            Client::Pages(family()),
        ];
        Self {
            seed,
            kind,
            phase,
            delay,
            frames: 1 + below_frames as u32,
            lasts,
            notice,
            loser,
            clients,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_name_of_its_own_that_parses() {
        let names: BTreeSet<String> = ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), ALL.len());
        for &kind in ALL {
            assert_eq!(Kind::parse(&kind.to_string()), Ok(kind));
        }
        assert!(Kind::parse("flood").expect_err("none").contains("cut,"));
    }

    #[test]
    fn a_seed_repeats_its_plan_and_seeds_reach_every_phase() {
        let kind = ALL[0];
        let text = |seed| format!("{:?}", Plan::draw(seed, kind));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
        for phase in [Phase::Any, Phase::Requested, Phase::Stopped, Phase::Resumed] {
            let hits = (0..400)
                .filter(|&seed| Plan::draw(seed, kind).phase == phase)
                .count();
            assert!((60..140).contains(&hits), "{phase}: {hits} of 400");
        }
        let kind = Kind::Vanish(Side::Primary);
        for (phase, least) in [
            (Phase::Any, 60),
            (Phase::Stopped, 60),
            (Phase::Transfer, 140),
        ] {
            let hits = (0..400)
                .filter(|&seed| Plan::draw(seed, kind).phase == phase)
                .count();
            assert!(hits >= least, "{phase}: {hits} of 400");
        }
    }
}
