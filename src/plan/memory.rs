//! Divides memory among the pools of all pairs, so that each gets the same share of what it wants
//! (rule R10).

/// Steps of the share between the least that makes sense and all that is wanted.
const STEPS: u64 = 1 << 16;

/// What the mbufs of a pool cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of an mbuf with its buffer and the mempool's header.
    pub object: usize,
    /// Bytes of a page that no mbuf crosses; `None` where pages are larger than it matters.
    pub page: Option<usize>,
}

impl Cost {
    /// Bytes of the given number of mbufs, with a tenth on top for the pool's ring, its caches and the heap's own
    /// headers.
    pub fn of(self, mbufs: u32) -> usize {
        let mbufs = mbufs as usize;
        let bytes = match self.page {
            None => mbufs * self.object,
            Some(page) if self.object <= page => mbufs.div_ceil(page / self.object) * page,
            Some(page) => mbufs * self.object.next_multiple_of(page),
        };
        bytes + bytes / 10
    }
}

/// A pool that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Mbufs.
    pub mbufs: u32,
    /// The fewest that make sense, at most `mbufs`.
    pub least: u32,
    /// What they cost.
    pub cost: Cost,
}

/// The pools as memory allows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// Mbufs of each pool, in the order of the wishes.
    pub mbufs: Vec<u32>,
    /// Bytes that they take.
    pub bytes: usize,
    /// Bytes that the wishes would take.
    pub wanted: usize,
}

impl Division {
    /// Whether some pool is smaller than wanted.
    pub fn is_short(&self) -> bool {
        self.bytes < self.wanted
    }
}

/// Memory does not hold even the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{least} bytes are needed at the least, {free} are free")]
pub struct Shortage {
    /// Bytes of the least of all pools.
    pub least: usize,
    /// Bytes that there are.
    pub free: usize,
}

/// Divides `free` bytes: each pool gets its least, and all get the same share of what they want beyond
/// it.
///
/// # Errors
/// When the least of all does not fit.
pub fn divide(wishes: &[Wish], free: usize) -> Result<Division, Shortage> {
    let size = |wish: &Wish, step: u64| {
        debug_assert!(wish.least <= wish.mbufs);
        let more = u64::from(wish.mbufs.saturating_sub(wish.least)) * step / STEPS;
        wish.least + more as u32
    };
    let bytes = |step: u64| -> usize {
        let each = wishes.iter().map(|wish| wish.cost.of(size(wish, step)));
        each.sum()
    };
    let least = bytes(0);
    if least > free {
        return Err(Shortage { least, free });
    }
    let wanted = bytes(STEPS);
    // The greatest step that fits; more steps never cost less.
    let (mut fits, mut above) = (0, STEPS + 1);
    while above - fits > 1 {
        let middle = fits + (above - fits) / 2;
        match bytes(middle) <= free {
            true => fits = middle,
            false => above = middle,
        }
    }
    Ok(Division {
        mbufs: wishes.iter().map(|wish| size(wish, fits)).collect(),
        bytes: bytes(fits),
        wanted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGED: Cost = Cost {
        object: 2368,
        page: Some(4096),
    };
    const SMALL: Cost = Cost {
        object: 704,
        page: Some(4096),
    };

    fn wish(mbufs: u32, cost: Cost) -> Wish {
        Wish {
            mbufs,
            least: mbufs.min(1024),
            cost,
        }
    }

    /// The pools of a primary with the default hold.
    fn pair() -> Vec<Wish> {
        vec![
            wish(2048, SMALL),
            wish(20_480, PAGED),
            wish(6144, PAGED),
            wish(20_480, PAGED),
            wish(4096, SMALL),
        ]
    }

    #[test]
    fn an_mbuf_never_crosses_a_page() {
        let cost = |object, page, mbufs| Cost { object, page }.of(mbufs);
        assert_eq!(cost(2368, Some(4096), 10), 45_056);
        assert_eq!(cost(704, Some(4096), 10), 2 * 4096 + 819);
        assert_eq!(cost(16_672, Some(4096), 10), 225_280);
        assert_eq!(cost(1000, None, 10), 11_000);
    }

    #[test]
    fn all_get_what_they_want_where_memory_suffices() {
        let wishes = pair();
        let division = divide(&wishes, usize::MAX).expect("enough");
        let wanted: Vec<u32> = wishes.iter().map(|wish| wish.mbufs).collect();
        assert_eq!(division.mbufs, wanted);
        assert!(!division.is_short());
        assert_eq!(divide(&wishes, division.wanted), Ok(division));
    }

    #[test]
    fn four_pairs_in_512_mb_get_the_same() {
        let wishes: Vec<Wish> = (0..4).flat_map(|_| pair()).collect();
        let free = 500 << 20;
        let division = divide(&wishes, free).expect("the least fits");
        assert!(division.is_short());
        let pairs: Vec<&[u32]> = division.mbufs.chunks(pair().len()).collect();
        assert!(pairs.iter().all(|pair| *pair == pairs[0]), "{pairs:?}");
        // Nothing worth a frame each is left over, and nothing is exceeded.
        assert!(division.bytes <= free && free - division.bytes < 1 << 20);
        // A pool's share beyond its least is the same for all.
        let share = |n: usize| f64::from(pairs[0][n] - 1024) / f64::from(pair()[n].mbufs - 1024);
        assert!((share(1) - share(2)).abs() < 0.001, "{pairs:?}");
        assert!((share(1) - share(4)).abs() < 0.001, "{pairs:?}");
    }

    #[test]
    fn less_memory_never_gives_a_pool_more() {
        let wishes: Vec<Wish> = (0..3).flat_map(|_| pair()).collect();
        let least = divide(&wishes, 0).expect_err("nothing").least;
        let mut before = divide(&wishes, least).expect("the least");
        assert!(before.mbufs.iter().all(|mbufs| *mbufs == 1024));
        assert_eq!(
            divide(&wishes, least - 1),
            Err(Shortage {
                least,
                free: least - 1
            })
        );
        for free in (least..before.wanted + (1 << 21)).step_by(3 << 20) {
            let now = divide(&wishes, free).expect("more than the least");
            assert!(now.bytes <= free);
            let pools = now.mbufs.iter().zip(&before.mbufs);
            assert!(pools.into_iter().all(|(now, before)| now >= before));
            before = now;
        }
    }

    #[test]
    fn a_pool_that_wants_less_than_the_least_of_others_gets_it() {
        let wishes = [wish(100, PAGED), wish(20_000, PAGED)];
        let division = divide(&wishes, 10 << 20).expect("enough for the least");
        assert_eq!(division.mbufs[0], 100);
        assert!(division.mbufs[1] > 1024);
    }
}
