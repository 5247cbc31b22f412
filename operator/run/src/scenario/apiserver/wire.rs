//! What the apiserver in memory says and reads on the wire: paths, selectors, Status bodies, lines of a watch. Pure.

use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::AnyBody;

/// `/api/v1/…/<plural>` or `/apis/<group>/<version>/…/<plural>`.
pub(super) fn is_collection(path: &str) -> bool {
    let parts = path.split('/').filter(|part| !part.is_empty()).count();
    let head = if path.starts_with("/apis/") { 3 } else { 2 };
    let rest = parts - head;
    rest == 1 || (rest == 3 && path.contains("/namespaces/"))
}

/// Is the object of this path in the collection, of one namespace or of all?
pub(super) fn belongs(collection: &str, path: &str) -> bool {
    let Some((parent, _)) = path.rsplit_once('/') else { return false };
    let of_all = || {
        let (head, rest) = parent.split_once("/namespaces/")?;
        Some(format!("{head}/{}", rest.split_once('/')?.1))
    };
    parent == collection || of_all().as_deref() == Some(collection)
}

pub(super) fn selected(query: &str, object: &Value) -> bool {
    let ours = object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "smallest-operator";
    let named = |name: &str| query.contains(&format!("metadata.name%3D{name}"));
    (!query.contains("labelSelector") || ours)
        && (!query.contains("fieldSelector") || object["metadata"]["name"].as_str().is_some_and(named))
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message })
}

pub(super) fn refuse(code: u16, message: &str) -> Response<AnyBody> {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    respond(code, &status(code, reason, message))
}

pub(super) fn respond(code: u16, body: &Value) -> Response<AnyBody> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a code");
    response
}

pub(super) fn line(event: &Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}

pub(super) fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or(Value::Null)
}
