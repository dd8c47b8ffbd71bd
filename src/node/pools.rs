//! The pools of all pairs, one for each purpose. They are planned and made together, so that pairs share scarce memory
//! alike (rule R10).

use colo_doctor::facts as doctor;

use super::NodeError;
use crate::config::{PairSettings, PortRole, RoleSettings};
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

/// The purpose of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Frames that the guest sends.
    Output,
    /// Input from the network, at a secondary from the link.
    Input,
    /// Frames of the SVM that come over the link.
    Svm,
    /// Input from a secondary's own uplink.
    Network,
    /// Frames of the PVM at a comparator.
    Primary,
    /// Frames of the SVM at a comparator.
    Secondary,
    /// Headers and the link's own frames.
    Headers,
    /// Headers and slices of segmented frames.
    Cutting,
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
}

/// A pool that a pair wants.
struct Wanted {
    pair: usize,
    purpose: Purpose,
    mbufs: usize,
    /// Bytes of a buffer, headroom included.
    room: u16,
}

/// A pool that a pair has.
struct Made {
    pair: usize,
    purpose: Purpose,
    pool: Mempool,
    asked: u32,
    /// Bytes of what was asked for.
    bytes: usize,
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
        let mbufs = u32::try_from(self.mbufs).unwrap_or(u32::MAX);
        Wish {
            mbufs,
            least: LEAST.min(mbufs),
            cost,
        }
    }
}

/// Plans the pools of all pairs without EAL. The arguments are those of [`Pools::make`]; `cost` says what an mbuf with
/// a buffer of some bytes takes.
pub(super) fn plan(
    pairs: &[PairSettings],
    comparing: usize,
    buffer: impl Fn(PortRole, &PairSettings) -> u16,
    cost: impl Fn(u16) -> Cost,
) -> Plan {
    let ports: usize = pairs.iter().map(|pair| pair.ports().count()).sum();
    let base = (ports * PORT) as u64;
    let mut plan = Plan {
        pools: Vec::new(),
        needed: base,
        least: base,
    };
    for (number, pair) in pairs.iter().enumerate() {
        for pool in wanted(number, pair, comparing, |place| buffer(place, pair)) {
            let wish = pool.wish(cost(pool.room));
            let bytes = wish.cost.of(wish.mbufs) as u64;
            plan.needed += bytes;
            plan.least += wish.cost.of(wish.least) as u64;
            plan.pools.push(doctor::Pool {
                pair: pair.name.clone(),
                purpose: pool.purpose.name().to_owned(),
                asked: wish.mbufs,
                made: None,
                bytes,
            });
        }
    }
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
        pairs: &[PairSettings],
        comparing: usize,
        buffer: impl Fn(PortRole, &PairSettings) -> u16,
        log: &Log,
    ) -> Result<Self, NodeError> {
        let wanted: Vec<Wanted> = pairs
            .iter()
            .enumerate()
            .flat_map(|(number, pair)| wanted(number, pair, comparing, |p| buffer(p, pair)))
            .collect();
        let wishes: Vec<Wish> = wanted
            .iter()
            .map(|pool| pool.wish(cost(eal, pool.room)))
            .collect();
        let ports: usize = pairs.iter().map(|pair| pair.ports().count()).sum();
        let memory = Memory::of(eal);
        // Hugepage memory grows on demand, and only DPDK knows how far.
        let mut free = match eal.has_hugepages() {
            true => usize::MAX,
            false => memory.free.saturating_sub(ports * PORT),
        };
        loop {
            let all: usize = wishes.iter().map(|wish| wish.cost.of(wish.mbufs)).sum();
            let whole = megabytes(memory.used + all + ports * PORT);
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

    /// The pool of the pair with this number for a purpose of its role.
    ///
    /// # Panics
    /// Where the role has no such purpose, which is a bug.
    pub(crate) fn of(&self, pair: usize, purpose: Purpose) -> &Mempool {
        let found = self
            .0
            .iter()
            .find(|made| (made.pair, made.purpose) == (pair, purpose));
        &found.expect("each role plans the pools that it uses").pool
    }

    /// All, each with what was asked for.
    pub(super) fn facts(&self, pairs: &[PairSettings]) -> Vec<doctor::Pool> {
        let fact = |made: &Made| doctor::Pool {
            pair: pairs[made.pair].name.clone(),
            purpose: made.purpose.name().to_owned(),
            asked: made.asked,
            made: Some(made.pool.size()),
            bytes: made.bytes as u64,
        };
        self.0.iter().map(fact).collect()
    }

    /// All, each with its name.
    pub(super) fn named(&self) -> Vec<(String, Mempool)> {
        let name = |made: &Made| (name(made.pair, made.purpose), made.pool.clone());
        self.0.iter().map(name).collect()
    }
}

fn name(pair: usize, purpose: Purpose) -> String {
    format!("{pair}.{}", purpose.name())
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
    let names: Vec<String> = wanted
        .iter()
        .map(|pool| name(pool.pair, pool.purpose))
        .collect();
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
        pair: wanted.pair,
        purpose: wanted.purpose,
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
    let frames = |purpose, mbufs, place| Wanted {
        pair: number,
        purpose,
        mbufs,
        room: buffer(place).saturating_add(HEADROOM),
    };
    let small = |purpose, mbufs| Wanted {
        pair: number,
        purpose,
        mbufs,
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
