//! What the apiserver in memory does with POST, and with the note of it: fields of a POST are an update's, and no apply
//! takes one of those away before they count as applied.

use http::Response;
use serde_json::{Value, json};

use super::wire::{refuse, respond, status};
use super::{AnyBody, State, fields};

impl State {
    pub(super) fn create(&mut self, path: &str, query: &str, mut body: Value) -> Response<AnyBody> {
        let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap_or_default());
        if self.objects.contains_key(&path) {
            return respond(409, &status(409, "AlreadyExists", &format!("{path} already exists")));
        }
        if query.contains("fieldManager=smallest-operator") {
            body["applied"] = body.clone();
            body["metadata"]["generation"] = json!(1);
            body["metadata"]["managedFields"] = json!([{
                "manager": "smallest-operator", "operation": "Update",
                "fieldsType": "FieldsV1", "fieldsV1": fields::set_of(&body["applied"]),
            }]);
        }
        respond(201, &self.store(&path, body))
    }

    /// Another note of who set what, for the version that was read.
    pub(super) fn note(&mut self, path: &str, body: &Value) -> Response<AnyBody> {
        let Some(mut object) = self.objects.get(path).cloned() else { return refuse(404, "there is none") };
        if body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
            return refuse(409, "it has been changed");
        }
        object["metadata"]["managedFields"] = body["metadata"]["managedFields"].clone();
        respond(200, &self.store(path, object))
    }
}

/// The entry of what an object was made with, if that does not count as applied.
pub(super) fn made(object: &Value) -> Option<&Value> {
    let mut entries = object["metadata"]["managedFields"].as_array()?.iter();
    entries.find(|entry| entry["operation"] == "Update")
}

/// Leaves what was there and is not wanted, as an apply does with what it does not own.
pub(super) fn keep(known: &Value, object: &mut Value) {
    let (Value::Object(known), Value::Object(object)) = (known, object) else { return };
    for (name, value) in known {
        match object.get_mut(name) {
            Some(inner) => keep(value, inner),
            None => drop(object.insert(name.clone(), value.clone())),
        }
    }
}
