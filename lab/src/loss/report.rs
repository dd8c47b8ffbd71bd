//! What a run has seen: a table with a line per wire and load, JSON, and what must not be.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::load::{LOADS, Load};
use super::plan::Kind;
use super::site::Figure;
use crate::workload::{Family, Harm};

/// Reasons of checkpoints that a lost frame must not lead to where few are lost.
const AVOIDABLE: [&str; 3] = ["missing_secondary", "missing_primary", "ack_ahead"];

/// Checkpoints in some time.
#[derive(Debug, Clone, Default)]
pub struct Checkpoints {
    /// How many, as QEMU shows them.
    pub count: usize,
    /// Why the node asked for them, by the words of its log.
    pub causes: BTreeMap<String, usize>,
}

impl Checkpoints {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        for (cause, count) in &other.causes {
            *self.causes.entry(cause.clone()).or_default() += count;
        }
    }
}

impl fmt::Display for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        if !self.causes.is_empty() {
            let causes: Vec<String> = self
                .causes
                .iter()
                .map(|(cause, count)| format!("{count} {cause}"))
                .collect();
            write!(f, " ({})", causes.join(", "))?;
        }
        Ok(())
    }
}

/// One load on one wire in one round.
#[derive(Debug)]
pub struct Trial {
    /// From 0.
    pub round: usize,
    /// The wire.
    pub kind: Kind,
    /// The load.
    pub load: Load,
    /// The addresses used.
    pub family: Family,
    /// Of the wire's draws.
    pub seed: u64,
    /// The pair's figure.
    pub pair: Figure,
    /// The figure of one of two unprotected guests.
    pub beside: Figure,
    /// The pair's, during the load.
    pub checkpoints: Checkpoints,
}

impl Trial {
    fn ratio(&self) -> f64 {
        self.pair.done.rate() / self.beside.done.rate().max(1e-9)
    }

    /// What went wrong, with whom.
    fn failures(&self) -> impl Iterator<Item = (Harm, String)> {
        let place = format!("round {}, {}, {}", self.round + 1, self.kind, self.load);
        [("pair", &self.pair), ("unprotected", &self.beside)]
            .into_iter()
            .filter_map(|(who, figure)| Some((who, figure.done.failure.as_ref()?)))
            .map(move |(who, failure)| (failure.harm, format!("{place}, {who}: {}", failure.words)))
    }

    fn json(&self) -> Value {
        let side = |figure: &Figure| {
            let [from, to] = figure.frames;
            json!({
                "seconds": figure.done.time.as_secs_f64(),
                "amount": figure.done.amount,
                "limit": figure.done.limit,
                "failure": figure.done.failure.as_ref().map(|failure| &failure.words),
                "frames_from_client": from.passed,
                "lost_from_client": from.lost,
                "frames_to_client": to.passed,
                "lost_to_client": to.lost,
            })
        };
        json!({
            "round": self.round + 1,
            "wire": self.kind.to_string(),
            "load": self.load.name(),
            "family": self.family.to_string(),
            "seed": self.seed,
            "pair": side(&self.pair),
            "unprotected": side(&self.beside),
            "ratio": self.ratio(),
            "checkpoints": self.checkpoints.count,
            "causes": self.checkpoints.causes,
        })
    }
}

/// All that a run has seen.
#[derive(Debug, Default)]
pub struct Results {
    /// Every load of every round.
    pub trials: Vec<Trial>,
    /// The pair's checkpoints after the loads on a wire, before those on the next: what a load left to time out.
    pub late: Vec<(Kind, Checkpoints)>,
    /// Wrong by itself: an audit that failed, a guest whose kernel complains.
    pub broken: Vec<String>,
    /// What the auditor said where all was well.
    pub audits: Vec<String>,
    /// Frames that the wires lost without being asked to.
    pub dropped: u64,
}

/// One line of the table: the trials of one wire and load.
struct Row<'a> {
    kind: Kind,
    load: Load,
    trials: Vec<&'a Trial>,
}

impl Row<'_> {
    fn median(&self, figure: impl Fn(&Trial) -> f64) -> f64 {
        median(self.trials.iter().map(|trial| figure(trial)).collect())
    }

    fn ratio(&self) -> f64 {
        self.median(Trial::ratio)
    }

    /// Share of the pair's frames that the wire has lost, by its own count: from the client, towards it.
    fn lost(&self) -> [f64; 2] {
        [0, 1].map(|way| {
            let carried = self.trials.iter().map(|trial| trial.pair.frames[way]);
            let (lost, all) = carried.fold((0, 0), |(lost, all), of| {
                (lost + of.lost, all + of.lost + of.passed)
            });
            lost as f64 / (all as f64).max(1.0)
        })
    }

    fn limits(&self) -> [usize; 2] {
        let count = |side: fn(&Trial) -> &Figure| {
            let hit = self.trials.iter().filter(|trial| side(trial).done.limit);
            hit.count()
        };
        [count(|trial| &trial.pair), count(|trial| &trial.beside)]
    }

    fn checkpoints(&self) -> Checkpoints {
        let mut sum = Checkpoints::default();
        for trial in &self.trials {
            sum.add(&trial.checkpoints);
        }
        sum
    }

    fn seconds(&self) -> [f64; 2] {
        [
            self.median(|trial| trial.pair.done.time.as_secs_f64()),
            self.median(|trial| trial.beside.done.time.as_secs_f64()),
        ]
    }

    fn json(&self) -> Value {
        let ([pair, beside], [pair_limits, beside_limits]) = (self.seconds(), self.limits());
        let checkpoints = self.checkpoints();
        json!({
            "wire": self.kind.to_string(),
            "load": self.load.name(),
            "pair_seconds": pair,
            "unprotected_seconds": beside,
            "ratio": self.ratio(),
            "goal": self.kind.goal(),
            "lost_from_client": self.lost()[0],
            "lost_to_client": self.lost()[1],
            "checkpoints": checkpoints.count,
            "causes": checkpoints.causes,
            "pair_limits": pair_limits,
            "unprotected_limits": beside_limits,
        })
    }
}

/// The middle one, or the mean of the middle two; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

impl Results {
    /// In the order in which they were measured.
    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for kind in super::plan::ALL {
            for load in LOADS {
                let trials: Vec<&Trial> = self
                    .trials
                    .iter()
                    .filter(|trial| trial.kind == kind && trial.load == load)
                    .collect();
                if !trials.is_empty() {
                    rows.push(Row { kind, load, trials });
                }
            }
        }
        rows
    }

    /// The late checkpoints of one wire, of all rounds.
    fn late(&self, kind: Kind) -> Checkpoints {
        let mut sum = Checkpoints::default();
        for (_, checkpoints) in self.late.iter().filter(|(of, _)| *of == kind) {
            sum.add(checkpoints);
        }
        sum
    }

    /// Everything that must not be, whatever is asserted: wrong bytes, resets and other bad ends, a failed audit.
    pub fn violations(&self) -> Vec<String> {
        let failures = self.trials.iter().flat_map(Trial::failures);
        let words = failures.map(|(harm, words)| match harm {
            Harm::Wrong => format!("wrong bytes: {words}"),
            Harm::Reset => format!("reset: {words}"),
            Harm::Other => words,
        });
        words.chain(self.broken.iter().cloned()).collect()
    }

    /// Where the pair is below what it must reach.
    pub fn misses(&self) -> Vec<String> {
        let mut misses = Vec::new();
        let mut avoidable = |kind: Kind, place: &str, checkpoints: &Checkpoints| {
            for (cause, count) in &checkpoints.causes {
                if !kind.is_harsh() && AVOIDABLE.contains(&cause.as_str()) {
                    misses.push(format!("{kind}, {place}: {count} checkpoints for {cause}"));
                }
            }
        };
        for row in self.rows() {
            avoidable(row.kind, row.load.name(), &row.checkpoints());
        }
        for kind in super::plan::ALL {
            avoidable(kind, "after the loads", &self.late(kind));
        }
        for row in self.rows() {
            let (ratio, goal) = (row.ratio(), row.kind.goal());
            if ratio < goal {
                let place = format!("{}, {}", row.kind, row.load);
                misses.push(format!(
                    "{place}: {ratio:.2} of the unprotected rate, not {goal}"
                ));
            }
        }
        misses
    }

    /// The figures, and each trial.
    pub fn json(&self) -> Value {
        let late: Vec<Value> = super::plan::ALL
            .into_iter()
            .map(|kind| (kind, self.late(kind)))
            .filter(|(_, late)| late.count > 0)
            .map(|(kind, late)| {
                json!({"wire": kind.to_string(), "checkpoints": late.count, "causes": late.causes})
            })
            .collect();
        json!({
            "rows": self.rows().iter().map(Row::json).collect::<Vec<_>>(),
            "after_the_loads": late,
            "trials": self.trials.iter().map(Trial::json).collect::<Vec<_>>(),
            "violations": self.violations(),
            "misses": self.misses(),
            "audits": self.audits,
            "frames_dropped_unasked": self.dropped,
        })
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<10} {:<9} {:>8} {:>8} {:>6} {:>6} {:>9} {:>7}  check-",
            "", "", "pair", "unprot.", "", "", "lost, %", "limits"
        )?;
        writeln!(
            f,
            "{:<10} {:<9} {:>8} {:>8} {:>6} {:>6} {:>9} {:>7}  points",
            "wire", "load", "s", "s", "ratio", "goal", "from/to", "p/u"
        )?;
        let rows = self.rows();
        for (at, row) in rows.iter().enumerate() {
            let ([pair, beside], [pair_limits, beside_limits]) = (row.seconds(), row.limits());
            let [from, to] = row.lost().map(|share| 100.0 * share);
            writeln!(
                f,
                "{:<10} {:<9} {pair:>8.2} {beside:>8.2} {:>6.2} {:>6} {:>9} {:>7}  {}",
                row.kind,
                row.load,
                row.ratio(),
                row.kind.goal(),
                format!("{from:.1}/{to:.1}"),
                format!("{pair_limits}/{beside_limits}"),
                row.checkpoints()
            )?;
            let late = self.late(row.kind);
            let last = rows.get(at + 1).is_none_or(|next| next.kind != row.kind);
            if last && late.count > 0 {
                let empty = "";
                writeln!(f, "{:<10} {:<9} {empty:>49}  {late}", row.kind, "after")?;
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::load::{Done, Failure};
    use crate::loss::plan::Way;
    use std::time::Duration;

    fn figure(amount: u64, seconds: u64) -> Figure {
        let done = Done {
            amount,
            time: Duration::from_secs(seconds),
            ..Done::default()
        };
        Figure {
            done,
            ..Figure::default()
        }
    }

    fn trial(kind: Kind, round: usize, pair: Figure, causes: &[(&str, usize)]) -> Trial {
        let causes: BTreeMap<String, usize> = causes
            .iter()
            .map(|(cause, count)| ((*cause).to_owned(), *count))
            .collect();
        Trial {
            round,
            kind,
            load: Load::Pages,
            family: Family::V4,
            seed: 1,
            pair,
            beside: figure(100, 10),
            checkpoints: Checkpoints {
                count: causes.values().sum(),
                causes,
            },
        }
    }

    #[test]
    fn medians_are_over_rounds() {
        let kind = Kind::Loss(Way::To, 10);
        let results = Results {
            trials: vec![
                trial(kind, 0, figure(100, 10), &[]),
                trial(kind, 1, figure(100, 20), &[("payload", 2)]),
                trial(kind, 2, figure(10, 60), &[]),
            ],
            ..Results::default()
        };
        let rows = results.rows();
        assert_eq!(rows.len(), 1);
        assert!((rows[0].ratio() - 0.5).abs() < 1e-9);
        assert_eq!(rows[0].seconds(), [20.0, 10.0]);
        assert_eq!(
            results.misses(),
            ["to-1, pages: 0.50 of the unprotected rate, not 0.7"]
        );
        let text = results.to_string();
        assert!(text.contains("2 (2 payload)"), "{text}");
        assert!(median(vec![]).abs() < 1e-9 && (median(vec![3.0, 1.0]) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn less_is_asked_of_a_harsh_wire() {
        let causes = &[("ack_ahead", 1)];
        let harsh = Kind::Loss(Way::Both, 20);
        let mut results = Results {
            trials: vec![trial(harsh, 0, figure(100, 20), causes)],
            ..Results::default()
        };
        assert!(results.misses().is_empty());
        results
            .trials
            .push(trial(Kind::Bursts, 0, figure(100, 20), causes));
        assert!(results.misses().is_empty(), "it loses 3 in 100");
        results
            .trials
            .push(trial(Kind::Reorder, 0, figure(100, 10), causes));
        let late = Checkpoints {
            count: 3,
            causes: BTreeMap::from([("missing_primary".to_owned(), 3)]),
        };
        results.late.push((Kind::Clean, late));
        assert_eq!(
            results.misses(),
            [
                "reorder, pages: 1 checkpoints for ack_ahead",
                "clean, after the loads: 3 checkpoints for missing_primary",
            ]
        );
    }

    #[test]
    fn a_bad_end_fails_whatever_is_asserted() {
        let mut wrong = figure(100, 10);
        wrong.done.failure = Some(Failure {
            harm: Harm::Wrong,
            words: "byte 5".to_owned(),
        });
        let results = Results {
            trials: vec![trial(Kind::Clean, 1, wrong, &[])],
            broken: vec!["audit".to_owned()],
            ..Results::default()
        };
        assert_eq!(
            results.violations(),
            ["wrong bytes: round 2, clean, pages, pair: byte 5", "audit"]
        );
    }

    #[test]
    fn a_limit_is_a_figure_and_no_violation() {
        let mut slow = figure(10, 60);
        slow.done.limit = true;
        let results = Results {
            trials: vec![trial(Kind::Clean, 0, slow, &[])],
            ..Results::default()
        };
        assert!(results.violations().is_empty());
        assert_eq!(results.rows()[0].limits(), [1, 0]);
        assert!(results.to_string().contains("1/0"));
    }
}
