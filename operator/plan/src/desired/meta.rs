//! What every object has: name, namespace, labels, owner.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

use crate::component::ComponentKind;
use crate::names;
use crate::valid::Valid;

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// Head of a component's object that bears the component's own name.
pub(super) fn meta(valid: &Valid, kind: ComponentKind) -> ObjectMeta {
    named(valid, kind, names::object(&valid.name, kind))
}

/// Head of a component's object of another name.
pub(super) fn named(valid: &Valid, kind: ComponentKind, name: String) -> ObjectMeta {
    let labels = labels(valid, kind);
    ObjectMeta { labels: Some(labels), ..of_deployment(valid, name) }
}

/// Head of an object that belongs to no component alone.
pub(super) fn of_deployment(valid: &Valid, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(valid.namespace.clone()),
        labels: Some(common(valid)),
        owner_references: owner(valid).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Labels that every object of a component bears.
pub(super) fn labels(valid: &Valid, kind: ComponentKind) -> Labels {
    let mut labels = common(valid);
    labels.insert(names::LABEL_COMPONENT.to_owned(), names::component(kind).to_owned());
    labels
}

/// The labels by which a component's pods are found; they never change.
pub(super) fn selecting(valid: &Valid, kind: ComponentKind) -> Labels {
    let pairs = [
        (names::LABEL_NAME, names::APPLICATION),
        (names::LABEL_INSTANCE, &valid.name),
        (names::LABEL_COMPONENT, names::component(kind)),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A selector of a component's pods.
pub(super) fn selector(valid: &Valid, kind: ComponentKind) -> LabelSelector {
    LabelSelector { match_labels: Some(selecting(valid, kind)), match_expressions: None }
}

fn common(valid: &Valid) -> Labels {
    let pairs = [
        (names::LABEL_NAME, names::APPLICATION),
        (names::LABEL_INSTANCE, &valid.name),
        (names::LABEL_MANAGED_BY, names::OPERATOR),
        (names::LABEL_PART_OF, names::APPLICATION),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The resource itself: when it goes, what it owns goes.
fn owner(valid: &Valid) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: "smallest.ai/v1".to_owned(),
        kind: "SmallestDeployment".to_owned(),
        name: valid.name.clone(),
        uid: valid.uid.clone()?,
        controller: Some(true),
        block_owner_deletion: Some(true),
    })
}
