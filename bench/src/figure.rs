//! One measured quantity, as tables and `results.json` show it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What several runs of one measurement gave.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Figure {
    /// What was measured, general part first: `engine/64/1000/v4/tcp`.
    pub name: String,
    /// The unit of the three values.
    pub unit: Cow<'static, str>,
    /// The least of all runs.
    pub min: f64,
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
    /// How many runs there were.
    pub runs: usize,
    /// What each gave, in order.
    pub each: Vec<f64>,
}

impl Figure {
    /// The figure of these runs; all 0 when there was none.
    pub fn of(name: String, unit: impl Into<Cow<'static, str>>, each: Vec<f64>) -> Self {
        let mut values = each.clone();
        values.sort_by(f64::total_cmp);
        let runs = values.len();
        let at = |i: usize| values.get(i).copied().unwrap_or_default();
        Self {
            name,
            unit: unit.into(),
            min: at(0),
            median: (at(runs.saturating_sub(1) / 2) + at(runs / 2)) / 2.0,
            max: at(runs.saturating_sub(1)),
            runs,
            each,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_numbers_of_runs() {
        let of = |values: &[f64]| Figure::of(String::new(), "", values.to_vec());
        let odd = of(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.min, odd.median, odd.max, odd.runs), (1.0, 2.0, 3.0, 3));
        assert_eq!(of(&[4.0, 1.0]).median, 2.5);
        assert_eq!(of(&[]).median, 0.0);
    }
}
