//! The pools of all pairs, one for each purpose. They are planned and made together, so that pairs share scarce memory
//! alike (rule R10).

use std::collections::HashSet;

use colo_doctor::facts as doctor;

use super::NodeError;
use crate::config::{PairSettings, PortName, PortRole, Role, RoleSettings, Settings};
use crate::dpdk::mempool::cost;
use crate::dpdk::{Eal, Memory, Mempool, MempoolConfig};
use crate::observability::log::Log;
use crate::plan::memory::divide;
use crate::plan::{Cost, Wish};

/// Mbufs that rings, bursts and caches may hold, besides held frames.
pub(crate) const IN_FLIGHT: usize = 4096;
/// Mbufs of a pool that the cache of one more lcore may hold.
pub(crate) const CACHED: usize = 512;
/// Input frames that may wait for the SVM.
pub(crate) const WINDOW: usize = 2048;

/// Bytes of a buffer for frames behind DPDK's headroom, which has room for the link's header.
pub(crate) const FRAME: u16 = 2048;
/// DPDK's headroom of 128 bytes.
const HEADROOM: u16 = 128;
/// Bytes of the buffers for headers and the link's own frames, headroom included.
const HEADER_ROOM: u16 = 512;
/// Mbufs for headers and the link's own frames.
const HEADERS: usize = 4096;
/// Mbufs for the headers and slices of segmented frames: enough for some fifteen frames of 64 KB at a time.
const CUTTING: usize = 2048;
/// Mbufs cached per lcore.
const CACHE: u32 = 256;
/// With fewer a port cannot even fill its rings.
const LEAST: u32 = 1024;
/// Bytes that a driver may take for a port's rings when it is started.
const PORT: usize = 1 << 20;

/// The purpose of a pool. A pair's are listed in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Headers and slices of segmented frames.
    Cutting,
    /// Frames that the guest sends.
    Output,
    /// Input from the network, at a secondary from the link.
    Input,
    /// Frames of the SVM that come over the link.
    Svm,
    /// Frames of the PVM at a comparator.
    Primary,
    /// Frames of the SVM at a comparator.
    Secondary,
    /// Headers and the link's own frames.
    Headers,
    /// Input from a secondary's own uplink.
    Network,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Input => "input",
            Self::Svm => "svm",
            Self::Network => "network",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Headers => "headers",
            Self::Cutting => "cutting",
        }
    }

    /// What a port of a node with a VM receives into.
    pub(crate) fn of_port(place: PortRole, role: Role) -> Self {
        match (place, role) {
            (PortRole::Link, Role::Primary) => Self::Svm,
            (PortRole::Uplink, Role::Secondary) => Self::Network,
            (PortRole::Link | PortRole::Uplink, _) => Self::Input,
            _ => Self::Output,
        }
    }
}

/// A pair's part of a pool.
#[derive(Clone, Copy)]
struct Part {
    pair: usize,
    purpose: Purpose,
    mbufs: usize,
}

/// A pool that a pair wants, or several for a port that they share.
struct Wanted {
    parts: Vec<Part>,
    /// The port that receives into it, where it is no guest's.
    port: Option<PortName>,
    /// Bytes of a buffer, headroom included.
    room: u16,
}

/// A pool that pairs have.
struct Made {
    parts: Vec<Part>,
    pool: Mempool,
    size: u32,
    asked: u32,
    /// Bytes of what was asked for.
    bytes: usize,
}

/// The part of `whole` that `mbufs` are of `asked`.
fn part(whole: u64, mbufs: usize, asked: u32) -> u64 {
    whole * mbufs as u64 / u64::from(asked).max(1)
}

/// What the pools of some pairs are to be, and what they would take.
pub(super) struct Plan {
    /// The pools, each with its pair.
    pub pools: Vec<doctor::Pool>,
    /// Bytes for all that is asked for, without what EAL has for itself.
    pub needed: u64,
    /// Bytes for the least with which a node starts.
    pub least: u64,
}

impl Wanted {
    fn wish(&self, cost: Cost) -> Wish {
        let mbufs: usize = self.parts.iter().map(|part| part.mbufs).sum();
        let mbufs = u32::try_from(mbufs).unwrap_or(u32::MAX);
        let least: usize = (self.parts.iter())
            .map(|part| part.mbufs.min(LEAST as usize))
            .sum();
        Wish {
            mbufs,
            least: (least as u32).min(mbufs),
            cost,
        }
    }

    fn name(&self) -> String {
        let first = self.parts[0];
        format!("{}.{}", first.pair, first.purpose.name())
    }
}

/// The pools of all pairs, those for one port as one.
fn wanted_by_all(
    settings: &Settings,
    comparing: usize,
    buffer: &impl Fn(PortRole, &PairSettings) -> u16,
) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = Vec::new();
    for (number, pair) in settings.pairs.iter().enumerate() {
        for pool in wanted(number, pair, comparing, |place| buffer(place, pair)) {
            let is_same = |other: &&mut Wanted| other.port.is_some() && other.port == pool.port;
            match all.iter_mut().find(is_same) {
                Some(other) => {
                    other.parts.extend(pool.parts);
                    other.room = other.room.max(pool.room);
                }
                None => all.push(pool),
            }
        }
    }
    all
}

/// Bytes that drivers may take for the rings of all ports.
fn of_ports(settings: &Settings) -> usize {
    let ports = settings.pairs.iter().flat_map(PairSettings::ports);
    let different: HashSet<&PortName> = ports.map(|(_, name)| name).collect();
    different.len() * PORT
}

/// Plans the pools of all pairs without EAL. The arguments are those of [`Pools::make`]; `cost` says what an mbuf with
/// a buffer of some bytes takes.
pub(super) fn plan(
    settings: &Settings,
    comparing: usize,
    buffer: impl Fn(PortRole, &PairSettings) -> u16,
    cost: impl Fn(u16) -> Cost,
) -> Plan {
    let base = of_ports(settings) as u64;
    let mut plan = Plan {
        pools: Vec::new(),
        needed: base,
        least: base,
    };
    let mut pools = Vec::new();
    for pool in wanted_by_all(settings, comparing, &buffer) {
        let wish = pool.wish(cost(pool.room));
        let bytes = wish.cost.of(wish.mbufs) as u64;
        plan.needed += bytes;
        plan.least += wish.cost.of(wish.least) as u64;
        pools.extend(pool.parts.iter().map(|own| {
            let fact = doctor::Pool {
                pair: settings.pairs[own.pair].name.clone(),
                purpose: own.purpose.name().to_owned(),
                asked: own.mbufs as u32,
                made: None,
                bytes: part(bytes, own.mbufs, wish.mbufs),
            };
            ((own.pair, own.purpose), fact)
        }));
    }
    // Each pair's together, whichever pool it is in.
    pools.sort_by_key(|(place, _)| *place);
    plan.pools = pools.into_iter().map(|(_, fact)| fact).collect();
    plan
}

/// The pools of all pairs.
#[derive(Default)]
pub(super) struct Pools(Vec<Made>);

impl Pools {
    /// Plans and makes the pools. `comparing` is the number of lcores that compare for each pair, besides the one that
    /// polls. `buffer` gives the buffer size that a port needs, in bytes without headroom.
    pub(crate) fn make(
        eal: &Eal,
        settings: &Settings,
        comparing: usize,
        buffer: impl Fn(PortRole, &PairSettings) -> u16,
        log: &Log,
    ) -> Result<Self, NodeError> {
        let pairs = &settings.pairs;
        let wanted = wanted_by_all(settings, comparing, &buffer);
        let wishes: Vec<Wish> = wanted
            .iter()
            .map(|pool| pool.wish(cost(eal, pool.room)))
            .collect();
        let ports = of_ports(settings);
        let memory = Memory::of(eal);
        // Hugepage memory grows on demand, and only DPDK knows how far.
        let mut free = match eal.has_hugepages() {
            true => usize::MAX,
            false => memory.free.saturating_sub(ports),
        };
        loop {
            let all: usize = wishes.iter().map(|wish| wish.cost.of(wish.mbufs)).sum();
            let whole = megabytes(memory.used + all + ports);
            let division = divide(&wishes, free).map_err(|shortage| NodeError::Memory {
                pairs: pairs.len(),
                least: megabytes(shortage.least),
                free: megabytes(shortage.free),
                whole,
            })?;
            match make_all(eal, &wanted, &wishes, &division.mbufs) {
                Ok(pools) => {
                    if division.is_short() {
                        let asked: u64 = wishes.iter().map(|wish| u64::from(wish.mbufs)).sum();
                        let made: u64 = division.mbufs.iter().copied().map(u64::from).sum();
                        log.warning(
                            "memory",
                            format_args!(
                                "EAL's memory holds {made} of {asked} packet buffers ({} %) for {} VM \
                                 pair{}, each with the same share; so fewer frames can be held than \
                                 --hold-frames says; give EAL {whole} MB (-m {whole} with --no-huge, else \
                                 hugepages)",
                                made * 100 / asked.max(1),
                                pairs.len(),
                                if pairs.len() == 1 { "" } else { "s" },
                            ),
                        );
                    }
                    return Ok(pools);
                }
                Err(error) if error.is_short_of_memory() => {
                    free = division.bytes - division.bytes.div_ceil(8);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The pool of the pair with this number for a purpose of its role. At a shared port it is the pool of all its pairs.
    ///
    /// # Panics
    /// Where the role has no such purpose, which is a bug.
    pub(crate) fn of(&self, pair: usize, purpose: Purpose) -> &Mempool {
        &self.find(pair, purpose).0.pool
    }

    /// The pair's mbufs of it, of which its limits make use.
    pub(crate) fn share(&self, pair: usize, purpose: Purpose) -> u32 {
        let (made, own) = self.find(pair, purpose);
        part(made.size.into(), own.mbufs, made.asked) as u32
    }

    fn find(&self, pair: usize, purpose: Purpose) -> (&Made, &Part) {
        let found = self.0.iter().find_map(|made| {
            let own = |part: &&Part| (part.pair, part.purpose) == (pair, purpose);
            Some((made, made.parts.iter().find(own)?))
        });
        found.expect("each role plans the pools that it uses")
    }

    /// All, each with what was asked for.
    pub(super) fn facts(&self, pairs: &[PairSettings]) -> Vec<doctor::Pool> {
        let facts = self.0.iter().flat_map(|made| {
            made.parts.iter().map(|own| doctor::Pool {
                pair: pairs[own.pair].name.clone(),
                purpose: own.purpose.name().to_owned(),
                asked: own.mbufs as u32,
                made: Some(part(made.size.into(), own.mbufs, made.asked) as u32),
                bytes: part(made.bytes as u64, own.mbufs, made.asked),
            })
        });
        facts.collect()
    }

    /// All, each with its name.
    pub(super) fn named(&self) -> Vec<(String, Mempool)> {
        let name = |made: &Made| {
            let first = made.parts[0];
            let name = format!("{}.{}", first.pair, first.purpose.name());
            (name, made.pool.clone())
        };
        self.0.iter().map(name).collect()
    }
}

fn megabytes(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

fn make_all(
    eal: &Eal,
    wanted: &[Wanted],
    wishes: &[Wish],
    sizes: &[u32],
) -> Result<Pools, crate::dpdk::MempoolError> {
    let names: Vec<String> = wanted.iter().map(Wanted::name).collect();
    let configs: Vec<MempoolConfig<'_>> = wanted
        .iter()
        .zip(sizes)
        .zip(&names)
        .map(|((pool, &mbufs), name)| MempoolConfig {
            name,
            mbufs,
            cache: CACHE.min(mbufs / 8),
            data_room: pool.room,
            socket: None,
        })
        .collect();
    let pools = Mempool::all(eal, &configs)?;
    let each = wanted.iter().zip(wishes).zip(pools);
    let made = each.map(|((wanted, wish), pool)| Made {
        parts: wanted.parts.clone(),
        size: pool.size(),
        pool,
        asked: wish.mbufs,
        bytes: wish.cost.of(wish.mbufs),
    });
    Ok(Pools(made.collect()))
}

/// The pools that a pair's role uses.
fn wanted(
    number: usize,
    pair: &PairSettings,
    comparing: usize,
    buffer: impl Fn(PortRole) -> u16,
) -> Vec<Wanted> {
    let hold = pair.hold_frames.get() as usize;
    let cached = comparing * CACHED;
    let own = |purpose, mbufs| {
        let pair = number;
        let part = Part {
            pair,
            purpose,
            mbufs,
        };
        vec![part]
    };
    let frames = |purpose, mbufs, place| Wanted {
        parts: own(purpose, mbufs),
        port: pair.port(place).cloned(),
        room: buffer(place).saturating_add(HEADROOM),
    };
    let small = |purpose, mbufs| Wanted {
        parts: own(purpose, mbufs),
        port: None,
        room: HEADER_ROOM,
    };
    let mut pools = vec![small(Purpose::Cutting, CUTTING)];
    match &pair.role {
        RoleSettings::Primary { .. } => pools.extend([
            frames(Purpose::Output, hold + IN_FLIGHT, PortRole::Guest),
            frames(Purpose::Input, IN_FLIGHT + WINDOW, PortRole::Uplink),
            frames(Purpose::Svm, hold + IN_FLIGHT + cached, PortRole::Link),
            small(Purpose::Headers, HEADERS),
        ]),
        RoleSettings::Secondary { uplink, .. } => {
            // After a takeover the VM's output may have to be held, and a new SVM's.
            let held = uplink.as_ref().map_or(0, |_| hold);
            let waiting = held.max(2 * WINDOW);
            pools.extend([
                frames(Purpose::Output, held + IN_FLIGHT, PortRole::Guest),
                frames(Purpose::Input, waiting + IN_FLIGHT, PortRole::Link),
                small(Purpose::Headers, HEADERS),
            ]);
            if uplink.is_some() {
                pools.push(frames(
                    Purpose::Network,
                    IN_FLIGHT + WINDOW,
                    PortRole::Uplink,
                ));
            }
        }
        RoleSettings::Compare { .. } => {
            // The output port receives into the second pool, too.
            let mut secondary = frames(
                Purpose::Secondary,
                hold + IN_FLIGHT + cached,
                PortRole::SecondaryIn,
            );
            secondary.room = secondary
                .room
                .max(buffer(PortRole::Out).saturating_add(HEADROOM));
            pools.extend([
                frames(Purpose::Primary, hold + IN_FLIGHT, PortRole::PrimaryIn),
                secondary,
            ]);
        }
    }
    pools
}
