//! What the runs of a part gave, by name, until they become figures.

use std::borrow::Cow;

use crate::figure::Figure;

/// Values by name, in the order in which the names first came.
#[derive(Default)]
pub struct Samples(Vec<(String, Cow<'static, str>, Vec<f64>)>);

impl Samples {
    /// Adds the value of one run.
    pub fn add(&mut self, name: impl Into<String>, unit: impl Into<Cow<'static, str>>, value: f64) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, ..)| *known == name) {
            Some((.., values)) => values.push(value),
            None => self.0.push((name, unit.into(), vec![value])),
        }
    }

    /// Adds the values of a figure that is there already.
    pub fn add_figure(&mut self, figure: &Figure) {
        for &value in &figure.each {
            self.add(figure.name.clone(), figure.unit.clone(), value);
        }
    }

    /// One figure for each name.
    pub fn figures(&self) -> Vec<Figure> {
        let samples = self.0.iter().cloned();
        samples
            .map(|(name, unit, values)| Figure::of(name, unit, values))
            .collect()
    }
}

/// The value below which `share` of the sorted values lie.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_name_make_one_figure() {
        let mut samples = Samples::default();
        for (name, value) in [("a", 1.0), ("b", 5.0), ("a", 3.0)] {
            samples.add(name, "x", value);
        }
        let figures = samples.figures();
        assert_eq!(figures.len(), 2);
        assert_eq!((figures[0].min, figures[0].median), (1.0, 2.0));
    }

    #[test]
    fn quantiles_of_few_values() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&sorted, 0.5), 50.0);
        assert_eq!(quantile(&sorted, 0.99), 99.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
