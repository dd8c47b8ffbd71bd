//! The targets: ratios of two figures, or one figure, with a bound, and whether they are met.

use serde::Serialize;

use crate::figure::Figure;

/// What a value must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "bound", content = "limit")]
pub enum Bound {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
    /// Anything: it is shown for comparison.
    Shown,
}

use Bound::{AtLeast, AtMost, Shown};

/// A figure, or its ratio to another.
struct Target {
    name: &'static str,
    of: &'static str,
    to: Option<&'static str>,
    bound: Bound,
}

const fn ratio(name: &'static str, of: &'static str, to: &'static str, bound: Bound) -> Target {
    Target {
        name,
        of,
        to: Some(to),
        bound,
    }
}

const fn figure(name: &'static str, of: &'static str, bound: Bound) -> Target {
    Target {
        name,
        of,
        to: None,
        bound,
    }
}

/// The letters are those of `docs/performance.md`.
const TARGETS: &[Target] = &[
    ratio(
        "a engine: CPU per pair, colo-compare / engine, 64 bytes",
        "peer/64/1000/v4/tcp/cpu",
        "engine/64/1000/v4/tcp/ns",
        AtLeast(100.0),
    ),
    ratio(
        "a engine: the same, 1448 bytes of payload",
        "peer/1448/1000/v4/tcp/cpu",
        "engine/1448/1000/v4/tcp/ns",
        AtLeast(100.0),
    ),
    ratio(
        "a engine: the same, 64 bytes, resegmented",
        "peer/64/1000/v4/tcp-resegmented/cpu",
        "engine/64/1000/v4/tcp-resegmented/ns",
        Shown,
    ),
    ratio(
        "a engine: the same, 1448, resegmented",
        "peer/1448/1000/v4/tcp-resegmented/cpu",
        "engine/1448/1000/v4/tcp-resegmented/ns",
        Shown,
    ),
    ratio(
        "a engine: rate with 1,000,000 flows / 1,000",
        "engine/64/1000/v4/tcp/ns",
        "engine/64/1000000/v4/tcp/ns",
        AtLeast(0.5),
    ),
    ratio(
        "a scale: cost with 1 GiB held / none",
        "scale/held-mib/1024",
        "scale/held-mib/0",
        AtMost(1.2),
    ),
    ratio(
        "b ports: comparator / testpmd, 64 bytes",
        "ports/64/colo/mpps",
        "ports/64/testpmd/mpps",
        AtLeast(0.8),
    ),
    ratio(
        "b ports: comparator / testpmd, 1518 bytes",
        "ports/1518/colo/mpps",
        "ports/1518/testpmd/mpps",
        AtLeast(0.8),
    ),
    ratio(
        "b ports: the same, 64 bytes, resegmented",
        "ports/64/colo-resegmented/mpps",
        "ports/64/testpmd/mpps",
        Shown,
    ),
    ratio(
        "b ports: the same, 1518 bytes, resegmented",
        "ports/1518/colo-resegmented/mpps",
        "ports/1518/testpmd/mpps",
        Shown,
    ),
    figure(
        "c delay p50, 64 bytes, half load",
        "ports/64/colo/delay-p50",
        AtMost(2000.0),
    ),
    figure(
        "c delay p99, 64 bytes, half load",
        "ports/64/colo/delay-p99",
        AtMost(5000.0),
    ),
    figure(
        "c delay p50, 1518 bytes, half load",
        "ports/1518/colo/delay-p50",
        AtMost(2000.0),
    ),
    figure(
        "c delay p99, 1518 bytes, half load",
        "ports/1518/colo/delay-p99",
        AtMost(5000.0),
    ),
    figure(
        "c testpmd's delay p50, 64 bytes",
        "ports/64/testpmd/delay-p50",
        Shown,
    ),
    figure(
        "c testpmd's delay p99, 64 bytes",
        "ports/64/testpmd/delay-p99",
        Shown,
    ),
    figure(
        "c differing byte seen to request written, p99",
        "requests/differing/written/p99",
        AtMost(50.0),
    ),
    figure(
        "c missing counterpart: request after the timeout",
        "requests/missing/read/max",
        AtMost(1000.0),
    ),
    ratio(
        "d pair / two unprotected guests, iperf-from-guest",
        "pair/pair-no-offloads/iperf-from-guest",
        "pair/both/iperf-from-guest",
        AtLeast(0.7),
    ),
    ratio(
        "d the same, the pair with offloads",
        "pair/pair/iperf-from-guest",
        "pair/both/iperf-from-guest",
        Shown,
    ),
    ratio(
        "d pair / two unprotected guests, page",
        "pair/pair-no-offloads/page",
        "pair/both/page",
        AtLeast(0.7),
    ),
    ratio(
        "d the same, the pair with offloads",
        "pair/pair/page",
        "pair/both/page",
        Shown,
    ),
    ratio(
        "d pair / two unprotected guests, redis",
        "pair/pair-no-offloads/redis",
        "pair/both/redis",
        AtLeast(0.7),
    ),
    ratio(
        "d the same, the pair with offloads",
        "pair/pair/redis",
        "pair/both/redis",
        Shown,
    ),
    ratio(
        "d pair / two unprotected guests, small-page",
        "pair/pair-no-offloads/small-page",
        "pair/both/small-page",
        AtMost(1.5),
    ),
    ratio(
        "d the same, the pair with offloads",
        "pair/pair/small-page",
        "pair/both/small-page",
        Shown,
    ),
    ratio(
        "d QEMU's proxy / two unprotected guests, iperf-from-guest",
        "pair/stock/iperf-from-guest",
        "pair/both/iperf-from-guest",
        Shown,
    ),
    ratio(
        "d QEMU's proxy / two unprotected guests, page",
        "pair/stock/page",
        "pair/both/page",
        Shown,
    ),
    ratio(
        "d QEMU's proxy / two unprotected guests, redis",
        "pair/stock/redis",
        "pair/both/redis",
        Shown,
    ),
    ratio(
        "e engine on two cores / one",
        "workers/64/1000/v4/tcp/1/ns",
        "workers/64/1000/v4/tcp/2-dispatcher-52/ns",
        AtLeast(1.7),
    ),
    ratio(
        "scale: 8 VM pairs / 1, time of an idle round",
        "scale/vm-pairs/8",
        "scale/vm-pairs/1",
        Shown,
    ),
];

/// A target and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Its name.
    pub name: &'static str,
    /// The middle one of all rounds.
    pub value: f64,
    /// The least and the greatest.
    pub range: [f64; 2],
    /// What it must be.
    #[serde(flatten)]
    pub bound: Bound,
    /// Whether the value is that.
    pub met: bool,
}

/// What became of each target whose figures were measured.
pub fn judge(figures: &[Figure]) -> Vec<Outcome> {
    let find = |name: &str| figures.iter().find(|figure| figure.name == name);
    let outcome = |target: &Target| {
        let of = find(target.of)?;
        let judged = match target.to.map(find) {
            None => of.clone(),
            Some(to) => {
                let to = to.filter(|to| to.min > 0.0)?;
                // Within each round: the machine may be another one a minute later.
                let each = of.each.iter().zip(&to.each).map(|(of, to)| of / to);
                Figure::of(of.name.clone(), "", each.collect())
            }
        };
        let (value, range) = (judged.median, [judged.min, judged.max]);
        let met = match target.bound {
            AtLeast(least) => value >= least,
            AtMost(most) => value <= most,
            Shown => true,
        };
        Some(Outcome {
            name: target.name,
            value,
            range,
            bound: target.bound,
            met,
        })
    };
    TARGETS.iter().filter_map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &str, values: &[f64]) -> Figure {
        Figure::of(name.to_owned(), "", values.to_vec())
    }

    #[test]
    fn a_ratio_is_within_a_round() {
        let figures = [
            measured("ports/64/colo/mpps", &[2.0, 1.0, 3.0]),
            measured("ports/64/testpmd/mpps", &[4.0, 1.0, 4.0]),
        ];
        let outcomes = judge(&figures);
        assert_eq!(outcomes.len(), 1);
        assert_eq!((outcomes[0].value, outcomes[0].met), (0.75, false));
        assert_eq!(outcomes[0].range, [0.5, 1.0]);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert_eq!(judge(&[measured("ports/64/colo/mpps", &[1.0])]), []);
        let figures = [
            measured("ports/64/colo/mpps", &[1.0]),
            measured("ports/64/testpmd/mpps", &[0.0]),
        ];
        assert_eq!(judge(&figures), []);
    }

    #[test]
    fn the_value_and_its_limit_are_distinguished() {
        let outcomes = judge(&[measured("requests/differing/written/p99", &[40.0])]);
        let json = serde_json::to_value(&outcomes[0]).expect("plain data");
        assert_eq!(
            (&json["value"], &json["limit"]),
            (&40.0.into(), &50.0.into())
        );
    }

    #[test]
    fn a_figure_has_a_bound_of_its_own() {
        let slow = judge(&[measured("requests/differing/written/p99", &[60.0])]);
        assert!(!slow[0].met);
        let quick = judge(&[measured("requests/differing/written/p99", &[40.0])]);
        assert!(quick[0].met);
    }
}
