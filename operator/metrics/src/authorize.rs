//! May this user do this: asked of the apiserver by `SubjectAccessReview`, remembered for a moment.
//!
//! The apiserver checks its callers before it passes them on; this is the second lock, as every extension has it. An
//! autoscaler asks the same question every few seconds, so answers are kept for some: a right that is taken away counts
//! that much longer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use crate::front_proxy::User;
use crate::{GROUP, VERSION};

/// How long an answer counts.
const KEPT: Duration = Duration::from_secs(10);
/// Answers kept at most.
const MOST: usize = 1_024;

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Values of a metric in a namespace.
    Metric {
        /// The namespace.
        namespace: String,
        /// The metric.
        metric: String,
    },
    /// A document that is no resource, such as discovery.
    Path(String),
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Metric { namespace, metric } => {
                write!(f, "list resource {metric:?} in API group {GROUP:?} in the namespace {namespace:?}")
            }
            Self::Path(path) => write!(f, "get path {path:?}"),
        }
    }
}

/// Who decides.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether a user may; an error when that is not known, for people.
    async fn allows(&self, user: &User, access: &Access) -> Result<bool, String>;
}

/// The apiserver decides.
pub struct Reviews {
    api: Api<SubjectAccessReview>,
    answers: Mutex<HashMap<String, (bool, Instant)>>,
}

impl Reviews {
    /// Asks through this client.
    pub fn new(client: kube::Client) -> Self {
        Self { api: Api::all(client), answers: Mutex::default() }
    }

    fn known(&self, question: &str) -> Option<bool> {
        let answers = self.lock();
        answers.get(question).filter(|(_, until)| Instant::now() < *until).map(|(allowed, _)| *allowed)
    }

    fn remember(&self, question: String, allowed: bool) {
        let now = Instant::now();
        let mut answers = self.lock();
        if answers.len() >= MOST {
            answers.retain(|_, (_, until)| now < *until);
            if answers.len() >= MOST {
                answers.clear();
            }
        }
        answers.insert(question, (allowed, now + KEPT));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (bool, Instant)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Authorizer for Reviews {
    async fn allows(&self, user: &User, access: &Access) -> Result<bool, String> {
        if user.is_master() {
            return Ok(true);
        }
        let review = SubjectAccessReview { spec: question(user, access), ..SubjectAccessReview::default() };
        let key = serde_json::to_string(&review.spec).map_err(|error| error.to_string())?;
        if let Some(allowed) = self.known(&key) {
            return Ok(allowed);
        }
        let answer =
            self.api.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        let allowed = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        self.remember(key, allowed);
        Ok(allowed)
    }
}

fn question(user: &User, access: &Access) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match access {
        Access::Metric { namespace, metric } => {
            spec.resource_attributes = Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                version: Some(VERSION.to_owned()),
                resource: Some(metric.clone()),
                namespace: Some(namespace.clone()),
                // Values of a metric are a list, so that is what the apiserver calls reading them.
                verb: Some("list".to_owned()),
                ..ResourceAttributes::default()
            });
        }
        Access::Path(path) => {
            let verb = Some("get".to_owned());
            spec.non_resource_attributes = Some(NonResourceAttributes { path: Some(path.clone()), verb });
        }
    }
    spec
}
