//! The queues as a source of external metrics: namespace, metric and selector → values, or why there are none.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use operator_metrics::{MetricError, MetricSource, MetricValue, Selector};
use operator_plan::ComponentKind;
use operator_plan::scale::{LABEL_COMPONENT, LABEL_DEPLOYMENT, Metric};

use super::{Key, Queues};

/// Queues that one request may ask for.
const MOST: usize = 32;

#[async_trait]
impl MetricSource for Queues {
    fn names(&self) -> Vec<&'static str> {
        Metric::ALL.into_iter().map(Metric::name).collect()
    }

    async fn values(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Vec<MetricValue>, MetricError> {
        let Some(metric) = Metric::named(metric) else {
            return Err(MetricError::NotFound(format!("there is no metric {metric:?}")));
        };
        let asked = self.asked(namespace, metric, selector);
        if asked.is_empty() {
            return Err(MetricError::NotFound(format!(
                "no deployment in namespace {namespace:?} has {metric} with labels {selector}"
            )));
        }
        if asked.len() > MOST {
            return Err(MetricError::TooMany { found: asked.len(), most: MOST });
        }
        join_all(asked.into_iter().map(|(key, kind, labels)| self.value(key, (metric, kind), labels)))
            .await
            .into_iter()
            .collect()
    }
}

type Labels = BTreeMap<String, String>;

impl Queues {
    fn asked(
        &self,
        namespace: &str,
        metric: Metric,
        selector: &Selector,
    ) -> Vec<(Key, ComponentKind, Labels)> {
        let mut asked = Vec::new();
        for (key, mut kinds) in self.of_namespace(namespace) {
            kinds.push(ComponentKind::Gateway);
            for kind in kinds.into_iter().filter(|kind| metric.is_of(*kind)) {
                let component = match kind {
                    ComponentKind::Asr => "asr",
                    ComponentKind::Tts => "tts",
                    _ => "gateway",
                };
                let labels = Labels::from([
                    (LABEL_COMPONENT.to_owned(), component.to_owned()),
                    (LABEL_DEPLOYMENT.to_owned(), key.name.clone()),
                ]);
                if selector.matches(&labels) {
                    asked.push((key.clone(), kind, labels));
                }
            }
        }
        asked
    }

    async fn value(
        &self,
        key: Key,
        (metric, kind): (Metric, ComponentKind),
        labels: Labels,
    ) -> Result<MetricValue, MetricError> {
        let view = self.read(&key).await;
        let started = self.started(&key, kind);
        let milli = metric.milli(&view, kind, started).map_err(|unknown| MetricError::Unavailable {
            reason: unknown.reason,
            message: format!("{metric} of {key}: {}", unknown.message),
        })?;
        Ok(MetricValue { labels, milli, at: Timestamp::now() })
    }
}
