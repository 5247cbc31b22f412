//! Reads a resource where no apiserver did: raw value → schema → types → rules over fields.
//!
//! Kubernetes refuses a resource that breaks its schema before anybody sees it. `smallest up` and the tests
//! have no apiserver, so the same schema is applied here: unknown fields, types, bounds, patterns, choices,
//! then the CEL rules, with the same messages. Pure.

use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

use crate::SmallestDeployment;

/// One thing that is wrong with a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Problem {
    /// Field, such as `spec.asr.models[0].sha256`; `resource` for the whole.
    pub path: String,
    /// What is wrong and what to change.
    pub message: String,
}

/// The definition for Kubernetes, as `crdgen` prints it.
pub fn crd() -> CustomResourceDefinition {
    SmallestDeployment::crd()
}

/// Every field and every rule as Markdown, as `docs/resource.md` has them.
pub fn reference() -> String {
    crate::reference::reference(schema())
}

/// Reads a resource, or tells everything that is wrong with it.
pub fn read(resource: &Value) -> Result<SmallestDeployment, Vec<Problem>> {
    let mut problems = Vec::new();
    head(resource, &mut problems);
    walk(schema(), resource, "", &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let deployment: SmallestDeployment = serde_path(resource)?;
    rules(&deployment)?;
    Ok(deployment)
}

fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let crd = serde_json::to_value(crd()).expect("a definition is plain data");
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    })
}

/// Kind and name, which the apiserver knows from the address and not from the schema.
fn head(resource: &Value, problems: &mut Vec<Problem>) {
    for (field, expected) in [("apiVersion", "smallest.ai/v1"), ("kind", "SmallestDeployment")] {
        if resource[field] != expected {
            problems.push(problem(field, format!("must be {expected}")));
        }
    }
    let name = resource["metadata"]["name"].as_str().unwrap_or_default();
    if !is_dns_label(name) {
        problems.push(problem(
            "metadata.name",
            format!(
                "must be 1 to 63 lower-case letters, digits and '-', with a letter first, found {name:?}"
            ),
        ));
    }
}

/// The name of a Service may begin with this one: a label of RFC 1035.
fn is_dns_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
}

fn serde_path(resource: &Value) -> Result<SmallestDeployment, Vec<Problem>> {
    serde_json::from_value(resource.clone()).map_err(|error| vec![problem("", error.to_string())])
}

/// The rules are compiled once: making and compiling the whole definition takes much longer than applying it.
fn rules(deployment: &SmallestDeployment) -> Result<(), Vec<Problem>> {
    static COMPILED: OnceLock<CompiledSchema> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| compile_schema(schema()));
    let object = serde_json::to_value(deployment).expect("a resource is plain data");
    let Err(errors) = Validator::new().validate_compiled(compiled, &object, None) else { return Ok(()) };
    let mut problems: Vec<Problem> =
        errors.iter().map(|error| problem(&error.field_path, error.message.clone())).collect();
    // The compiled tree has no order of its own.
    problems.sort_by(|a, b| a.path.cmp(&b.path));
    Err(problems)
}

fn problem(path: &str, message: String) -> Problem {
    let path = if path.is_empty() { "resource" } else { path };
    Problem { path: path.to_owned(), message }
}

/// Applies a schema to a value, field by field.
fn walk(schema: &Value, value: &Value, path: &str, problems: &mut Vec<Problem>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if let Some(message) = wrong_type(schema, value) {
        problems.push(problem(path, message));
        return;
    }
    match value {
        Value::Object(fields) => walk_object(schema, fields, path, problems),
        Value::Array(items) => walk_array(schema, items, path, problems),
        Value::String(text) => walk_text(schema, text, path, problems),
        Value::Number(number) => walk_number(schema, number, path, problems),
        Value::Bool(_) | Value::Null => {}
    }
}

fn wrong_type(schema: &Value, value: &Value) -> Option<String> {
    if schema["x-kubernetes-int-or-string"] == true {
        let fits = value.is_string() || value.is_i64();
        return (!fits).then(|| "must be a whole number or text".to_owned());
    }
    let (fits, expected) = match schema["type"].as_str()? {
        "object" => (value.is_object(), "an object"),
        "array" => (value.is_array(), "a list"),
        "string" => (value.is_string(), "text (in quotes when it looks like a number)"),
        "integer" => (value.is_i64() || value.is_u64(), "a whole number"),
        "number" => (value.is_number(), "a number"),
        "boolean" => (value.is_boolean(), "true or false"),
        _ => return None,
    };
    (!fits).then(|| format!("must be {expected}"))
}

fn walk_object(
    schema: &Value,
    fields: &serde_json::Map<String, Value>,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            problems.push(problem(&join(path, required), "is required".to_owned()));
        }
    }
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    for (name, value) in fields {
        let inner = join(path, name);
        if let Some(known) = schema["properties"].get(name) {
            walk(known, value, &inner, problems);
        } else if schema["additionalProperties"].is_object() {
            walk(&schema["additionalProperties"], value, &inner, problems);
        } else if !open && schema["properties"].is_object() && !is_root_field(path, name) {
            problems
                .push(problem(&inner, "is no field of SmallestDeployment v1: check its spelling".to_owned()));
        }
    }
}

/// The apiserver owns these; the schema need not name them.
fn is_root_field(path: &str, name: &str) -> bool {
    path.is_empty() && matches!(name, "apiVersion" | "kind" | "metadata")
}

fn walk_array(schema: &Value, items: &[Value], path: &str, problems: &mut Vec<Problem>) {
    let size = bound(schema, ["minItems", "maxItems"], items.len() as f64, " entries");
    problems.extend(size.map(|message| problem(path, message)));
    for (at, item) in items.iter().enumerate() {
        walk(&schema["items"], item, &format!("{path}[{at}]"), problems);
    }
}

fn walk_text(schema: &Value, text: &str, path: &str, problems: &mut Vec<Problem>) {
    let size = bound(schema, ["minLength", "maxLength"], text.chars().count() as f64, " characters");
    problems.extend(size.map(|message| problem(path, message)));
    if let Some(choices) = schema["enum"].as_array()
        && !choices.iter().any(|choice| choice == text)
    {
        let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        problems.push(problem(path, format!("must be one of {}, found {text:?}", choices.join(", "))));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let matches = regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        if !matches {
            problems.push(problem(path, format!("must match {pattern}, found {text:?}")));
        }
    }
}

fn walk_number(schema: &Value, number: &serde_json::Number, path: &str, problems: &mut Vec<Problem>) {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let size = bound(schema, ["minimum", "maximum"], value, "");
    problems.extend(size.map(|message| problem(path, message)));
}

/// What is wrong with a size, if it breaks one of its two bounds.
fn bound(schema: &Value, [least, most]: [&str; 2], value: f64, unit: &str) -> Option<String> {
    let below = schema[least].as_f64().filter(|limit| value < *limit).map(|limit| ("at least", limit));
    let above = schema[most].as_f64().filter(|limit| value > *limit).map(|limit| ("at most", limit));
    let (words, limit) = below.or(above)?;
    Some(format!("must be {words} {limit}{unit}, found {value}"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
