//! What the apiserver in memory does with patches: server-side apply of objects and statuses, and notes of
//! who set what.

use http::Response;
use serde_json::{Value, json};

use super::wire::{refuse, respond};
use super::{AnyBody, State, create, fields};

impl State {
    pub(super) fn patch(&mut self, path: &str, query: &str, body: Value) -> Response<AnyBody> {
        if let Some(object) = path.strip_suffix("/status") {
            return self.apply_status(object, &body);
        }
        if query.contains("fieldManager=smallest-operator-replicas") {
            return self.hold(path, &body);
        }
        if !body["metadata"]["managedFields"].is_null() {
            return self.note(path, &body);
        }
        match self.objects.get(path).and_then(|known| fields::refusal(known, query, &body)) {
            Some(refusal) => respond(409, &refusal),
            None => self.apply(path, body),
        }
    }

    /// What is applied becomes the object, beside its status; the same again changes nothing.
    fn apply(&mut self, path: &str, body: Value) -> Response<AnyBody> {
        let known = self.objects.get(path).cloned();
        let edited = known
            .as_ref()
            .is_some_and(|known| !known["metadata"]["managedFields"][0]["fieldsV1"]["f:edited"].is_null());
        if let Some(known) = &known
            && known["applied"] == body
            && !edited
            && create::made(known).is_none()
        {
            return respond(200, known);
        }
        let mut object = body.clone();
        object["metadata"]["managedFields"] = json!([{
            "manager": "smallest-operator", "operation": "Apply",
            "fieldsType": "FieldsV1", "fieldsV1": { "f:version": self.version },
        }]);
        if !body["spec"]["replicas"].is_null() {
            object["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = json!({ "f:replicas": {} });
        }
        let generation = known.as_ref().map_or(1, |known| {
            let before = known["metadata"]["generation"].as_u64().unwrap_or(1);
            before + u64::from(known["applied"]["spec"] != body["spec"])
        });
        object["metadata"]["generation"] = json!(generation);
        object["applied"] = body;
        if let Some(known) = known {
            object["status"] = known["status"].clone();
            object["metadata"]["uid"] = known["metadata"]["uid"].clone();
            if let Some(entry) = create::made(&known) {
                create::keep(&known["applied"], &mut object);
                let noted = object["metadata"]["managedFields"].as_array_mut().expect("it was just noted");
                noted.push(entry.clone());
            }
            if !known["held"].is_null() && object["spec"]["replicas"].is_null() {
                object["spec"]["replicas"] = known["held"].clone();
            }
        }
        respond(200, &self.store(path, object))
    }

    /// Another manager holds the number of replicas too.
    fn hold(&mut self, path: &str, body: &Value) -> Response<AnyBody> {
        let Some(mut object) = self.objects.get(path).cloned() else { return refuse(404, "there is none") };
        object["held"] = body["spec"]["replicas"].clone();
        respond(200, &self.store(path, object))
    }

    fn apply_status(&mut self, path: &str, body: &Value) -> Response<AnyBody> {
        let Some(mut object) = self.objects.get(path).cloned() else { return refuse(404, "there is none") };
        let uid = &body["metadata"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return refuse(409, "it is another one");
        }
        if object["status"] == body["status"] {
            return respond(200, &object);
        }
        object["status"] = body["status"].clone();
        respond(200, &self.store(path, object))
    }
}
