//! The one table of refusals: error → HTTP status and the `Status` object that Kubernetes' clients read.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::source::MetricError;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody we know.
    #[error("failed to authenticate: {0}")]
    Unauthenticated(String),
    /// Not known yet whom to believe.
    #[error(
        "failed to authenticate: the apiserver's ConfigMap extension-apiserver-authentication was not read yet"
    )]
    NotSetUp,
    /// Not allowed.
    #[error("failed to authorize: user {user:?} may not {what}")]
    Forbidden {
        /// Who asked.
        user: String,
        /// For what.
        what: String,
    },
    /// The apiserver did not say whether it is allowed.
    #[error("failed to authorize: the apiserver did not answer a SubjectAccessReview: {0}")]
    Undecided(String),
    /// A request that makes no sense.
    #[error("failed to read the request: {0}")]
    Malformed(String),
    /// Only reading is possible.
    #[error("failed to serve {0}: this API is read only")]
    Method(String),
    /// Nothing there.
    #[error("failed to find {0}")]
    NotFound(String),
    /// More than are answered at the same time.
    #[error("failed to serve: {0} requests are in work already")]
    Busy(usize),
    /// It took too long.
    #[error("failed to answer within {0} s")]
    TooSlow(u64),
    /// The source has no value.
    #[error(transparent)]
    Metric(#[from] MetricError),
}

impl Refusal {
    /// HTTP status, and the word of Kubernetes for it.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::Malformed(_) | Self::Metric(MetricError::TooMany { .. }) => {
                (StatusCode::BAD_REQUEST, "BadRequest")
            }
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::NotFound(_) | Self::Metric(MetricError::NotFound(_)) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::TooSlow(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::NotSetUp | Self::Undecided(_) | Self::Metric(MetricError::Unavailable { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, reason) = self.status();
        let body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "reason": reason,
            "code": code.as_u16(),
        });
        let mut response = (code, Json(body)).into_response();
        if matches!(self, Self::Busy(_)) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_never_a_success() {
        let unavailable = MetricError::Unavailable { reason: "QueueUnavailable", message: "refused".into() };
        for (refusal, code) in [
            (Refusal::Unauthenticated("no certificate".into()), 401),
            (Refusal::NotSetUp, 503),
            (Refusal::Forbidden { user: "eve".into(), what: "list".into() }, 403),
            (Refusal::Undecided("away".into()), 503),
            (Refusal::Malformed("selector".into()), 400),
            (Refusal::Method("POST".into()), 405),
            (Refusal::NotFound("/x".into()), 404),
            (Refusal::Busy(9), 429),
            (Refusal::TooSlow(5), 504),
            (unavailable.clone().into(), 503),
            (MetricError::NotFound("x".into()).into(), 404),
            (MetricError::TooMany { found: 99, most: 32 }.into(), 400),
        ] {
            assert_eq!(refusal.status().0.as_u16(), code, "{refusal}");
            assert!(refusal.to_string().starts_with("failed to "), "{refusal}");
        }
        assert!(Refusal::from(unavailable).to_string().contains("QueueUnavailable"));
    }
}
