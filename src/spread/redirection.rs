//! The core that compares a flow: a redirection table, as a NIC's receive-side scaling (RSS) has one.

use crate::compare::Limits;
use crate::flow::FlowKey;

/// Entries of the table. A core's share of the flows is its share of the entries.
pub const ENTRIES: usize = 128;
const BITS: u32 = ENTRIES.trailing_zeros();

/// Maps flows to cores. Core 0 is the dispatcher's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectionTable {
    cores: [u8; ENTRIES],
    /// Seed of the flow hash. It is secret, so that no peer can choose flows that all hash to one core.
    seed: u64,
}

impl RedirectionTable {
    /// RedirectionTable in proportion to `weights`, one weight for each core and at least one of them not 0.
    /// Of more than [`ENTRIES`] cores the rest gets none.
    pub fn weighted(weights: &[u32], seed: u64) -> Self {
        let weights = &weights[..weights.len().min(ENTRIES)];
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum::<u64>().max(1);
        let cores = std::array::from_fn(|i| {
            let at = (i as u64 * total + total / 2) / ENTRIES as u64;
            let mut end = 0;
            let owner = weights.iter().position(|w| {
                end += u64::from(*w);
                at < end
            });
            owner.unwrap_or(0) as u8
        });
        Self { cores, seed }
    }

    /// A table with equally many entries for each of `cores` cores.
    pub fn even(cores: usize, seed: u64) -> Self {
        Self::weighted(&vec![1; cores.max(1)], seed)
    }

    /// The core that compares a flow. Both directions of the flow have the same core.
    #[inline]
    pub fn core_of(&self, key: &FlowKey) -> usize {
        let hash = key.symmetric_hash(self.seed);
        usize::from(self.cores[(hash >> (u64::BITS - BITS)) as usize])
    }

    /// Entries that name a core.
    pub fn entries(&self, core: usize) -> usize {
        self.cores
            .iter()
            .filter(|owner| usize::from(**owner) == core)
            .count()
    }

    /// The limits of one core's comparator where `limits` bound all cores together. P and S are not divided: the
    /// dispatcher counts them for all cores, so one flow may keep as many as without workers.
    pub fn limits(&self, limits: &Limits, core: usize) -> Limits {
        let entries = self.entries(core);
        let part = |whole: usize| (whole * entries).div_ceil(ENTRIES);
        Limits {
            history: part(limits.history),
            flows: part(limits.flows).max(1),
            ..*limits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_follow_the_weights() {
        let entries = |weights: &[u32]| -> Vec<usize> {
            let table = RedirectionTable::weighted(weights, 1);
            (0..weights.len()).map(|core| table.entries(core)).collect()
        };
        assert_eq!(entries(&[1]), [128]);
        assert_eq!(entries(&[1, 1]), [64, 64]);
        assert_eq!(entries(&[1, 3]), [32, 96]);
        assert_eq!(entries(&[0, 1]), [0, 128]);
        let three = entries(&[1, 1, 1]);
        assert!(three.iter().all(|n| (42..=43).contains(n)), "{three:?}");
        assert_eq!(three.iter().sum::<usize>(), ENTRIES);
        assert_eq!(entries(&[1; 200]).iter().sum::<usize>(), ENTRIES);
    }

    #[test]
    fn both_directions_of_a_flow_have_one_core_and_flows_spread_evenly() {
        let table = RedirectionTable::even(4, 0x1234_5678_9abc_def1);
        let mut flows = [0; 4];
        for n in 0..4000u16 {
            let (a, b) = (
                ([192, 0, 2, 1], 80).into(),
                ([198, 51, 100, 7], 1024 + n).into(),
            );
            let key = FlowKey::tcp(a, b);
            assert_eq!(table.core_of(&key), table.core_of(&key.reversed()));
            flows[table.core_of(&key)] += 1;
        }
        assert!(flows.iter().all(|n| (850..1150).contains(n)), "{flows:?}");
    }

    #[test]
    fn limits_are_divided_and_every_core_gets_some() {
        let limits = Limits {
            primary: 100,
            secondary: 100,
            history: 10,
            flows: 1000,
            timeout: 7,
            patience: 1,
            idle: 9,
            half_open: 9,
        };
        let table = RedirectionTable::weighted(&[1, 3], 1);
        let (a, b) = (table.limits(&limits, 0), table.limits(&limits, 1));
        assert_eq!(
            (a.primary, a.secondary, a.history, a.flows),
            (100, 100, 3, 250)
        );
        assert_eq!(
            (b.primary, b.secondary, b.history, b.flows),
            (100, 100, 8, 750)
        );
        assert_eq!((a.timeout, b.idle), (7, 9));
    }
}
