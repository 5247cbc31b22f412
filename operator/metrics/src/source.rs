//! Where values come from: the one thing that whoever runs this API must bring along.

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;

use crate::selector::Selector;

/// A source of metrics.
#[async_trait]
pub trait MetricSource: Send + Sync + 'static {
    /// Names of all metrics.
    fn names(&self) -> Vec<&'static str>;

    /// The values of a metric's series in a namespace, as far as the selector takes them. An autoscaler adds them up, so
    /// one that is not known makes an error of all.
    async fn values(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Vec<MetricValue>, MetricError>;
}

/// A value of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricValue {
    /// Labels of the series.
    pub labels: BTreeMap<String, String>,
    /// The value in thousandths.
    pub milli: u64,
    /// When it was measured.
    pub at: Timestamp,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// There is no such metric, or no such series.
    #[error("failed to find the metric: {0}")]
    NotFound(String),
    /// More series than one request may ask for.
    #[error(
        "failed to read {found} series at once, at most {most} are read: name a deployment in the selector"
    )]
    TooMany {
        /// Series that the selector takes.
        found: usize,
        /// Limit.
        most: usize,
    },
    /// It exists, and its value is not known now.
    #[error("failed to measure: {message} ({reason})")]
    Unavailable {
        /// A stable word.
        reason: &'static str,
        /// What is wrong.
        message: String,
    },
}

impl MetricError {
    /// A stable word for logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "NotFound",
            Self::TooMany { .. } => "TooManySeries",
            Self::Unavailable { reason, .. } => reason,
        }
    }
}
