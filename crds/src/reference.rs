//! The schema as a text for people: every field with its type, default, bounds and meaning, and every rule.
//!
//! What `docs/resource.md` says is made here, so that it cannot say anything else than the schema. Pure.

use std::fmt::Write as _;

use serde_json::Value;

/// Fields whose types are Kubernetes' own, and what those are called: they are described there, not here.
const KUBERNETES: [(&str, &str); 7] = [
    ("affinity", "Affinity"),
    ("behavior", "HorizontalPodAutoscalerBehavior"),
    ("conditions", "[]Condition"),
    ("resources", "ResourceRequirements"),
    ("securityContext", "PodSecurityContext"),
    ("tolerations", "[]Toleration"),
    ("updateStrategy", "DeploymentStrategy"),
];

const HEAD: &str = "# The resource `SmallestDeployment`\n\n\
    Every field of `smallest.ai/v1`, made from the schema by `make generate`.\n\
    Types in *italics* are Kubernetes' own.\n\
    Examples are in [examples](../examples).\n";

/// The reference of the resource as Markdown.
pub(crate) fn reference(schema: &Value) -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n## Rules for the whole\n\n");
    rules(schema, &mut text);
    for part in ["spec", "status"] {
        section(&schema["properties"][part], part, &mut text);
    }
    text
}

/// One object: what it is, its fields, its rules; then the objects inside it.
fn section(schema: &Value, path: &str, text: &mut String) {
    let fields: Vec<(&String, &Value)> = schema["properties"].as_object().into_iter().flatten().collect();
    let _ = write!(text, "\n## {path}\n\n{}\n", line(schema));
    if !fields.is_empty() {
        text.push_str("\n| field | type | default | meaning |\n|---|---|---|---|\n");
    }
    for (name, field) in &fields {
        let required =
            schema["required"].as_array().is_some_and(|names| names.contains(&Value::from(name.as_str())));
        let default = if required { "required".to_owned() } else { default(field) };
        let _ = writeln!(text, "| `{name}` | {} | {default} | {} |", type_of(name, field), line(field));
    }
    if schema["x-kubernetes-validations"].is_array() {
        text.push_str("\nRules:\n\n");
        rules(schema, text);
    }
    for (name, field) in fields {
        if kubernetes(name).is_some() {
            continue;
        }
        // Both kinds of workers are one type.
        if name.as_str() == "tts" && field["properties"] == schema["properties"]["asr"]["properties"] {
            let _ = write!(
                text,
                "\n## {path}.tts\n\n{} Its fields and rules are those of `{path}.asr`.\n",
                line(field)
            );
            continue;
        }
        let (inner, path) = if field["items"].is_object() {
            (&field["items"], format!("{path}.{name}[]"))
        } else {
            (field, format!("{path}.{name}"))
        };
        if inner["properties"].as_object().is_some_and(|properties| !properties.is_empty()) {
            section(inner, &path, text);
        }
    }
}

fn kubernetes(field: &str) -> Option<&'static str> {
    KUBERNETES.iter().find(|(name, _)| *name == field).map(|(_, type_)| *type_)
}

fn rules(schema: &Value, text: &mut String) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = rule["message"].as_str().unwrap_or_default();
        let _ = writeln!(text, "- {}", message.replace('|', "\\|"));
    }
}

/// The description on one line.
fn line(schema: &Value) -> String {
    let description = schema["description"].as_str().unwrap_or_default();
    description.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn default(schema: &Value) -> String {
    match &schema["default"] {
        // The fields of an object have their defaults one by one.
        Value::Null | Value::Object(_) => String::new(),
        value => format!("`{value}`").replace('"', ""),
    }
}

fn type_of(name: &str, schema: &Value) -> String {
    if let Some(type_) = kubernetes(name) {
        return format!("*{type_}*");
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return "*Quantity*".to_owned();
    }
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<String> =
            choices.iter().filter_map(Value::as_str).map(|c| format!("`{c}`")).collect();
        return choices.join(", ");
    }
    if schema["items"].is_object() {
        return format!(
            "list of {}{}",
            type_of("", &schema["items"]),
            bounds(schema, ["minItems", "maxItems"])
        );
    }
    if schema["additionalProperties"].is_object() {
        return "map".to_owned();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "integer" => format!("integer{}", bounds(schema, ["minimum", "maximum"])),
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        other => other.to_owned(),
    }
}

fn bounds(schema: &Value, [least, most]: [&str; 2]) -> String {
    match (schema[least].as_f64(), schema[most].as_f64()) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (None, Some(most)) => format!(", at most {most}"),
        (Some(least), None) if least > 0.0 => format!(", at least {least}"),
        _ => String::new(),
    }
}
