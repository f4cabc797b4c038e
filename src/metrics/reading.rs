//! A metric that is read when somebody scrapes.

use super::Metric;

/// A metric as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub(crate) metric: Metric,
    pub(crate) samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Reading {
    /// A metric without labels.
    pub fn of(metric: Metric, value: f64) -> Self {
        Reading {
            metric,
            samples: vec![(Vec::new(), value)],
        }
    }

    /// A metric with one value for each of several values of its label.
    pub fn by_label(metric: Metric, values: impl IntoIterator<Item = (String, f64)>) -> Self {
        let label = metric.labels.first().copied().unwrap_or_default();
        let samples = values
            .into_iter()
            .map(|(name, value)| (vec![(label, name)], value));
        Reading {
            metric,
            samples: samples.collect(),
        }
    }
}
