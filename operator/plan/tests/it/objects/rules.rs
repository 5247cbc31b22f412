//! What must be so whatever a resource asks for: checked on the objects of every case.

use serde_json::{Value, json};

use super::{Objects, all, desired, documents, objects};

/// Pod templates of all workloads, with the workload's name.
fn templates(objects: &Objects) -> impl Iterator<Item = (&String, &Value)> {
    let workloads = objects
        .iter()
        .filter(|(name, _)| name.starts_with("Deployment/") || name.starts_with("StatefulSet/"));
    workloads.map(|(name, object)| (name, &object["spec"]["template"]))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    list(&template["spec"]["initContainers"]).chain(list(&template["spec"]["containers"]))
}

fn check(rule: impl Fn(&str, &Objects)) {
    for (case, objects) in all() {
        rule(case, objects);
    }
}

fn contains(all: &Value, some: &Value) -> bool {
    some.as_object().expect("labels").iter().all(|(name, value)| all[name] == *value)
}

#[test]
fn everything_is_labelled_and_owned_except_what_is_to_stay() {
    check(|case, objects| {
        for (name, object) in objects {
            let head = &object["metadata"];
            assert_eq!(head["labels"]["app.kubernetes.io/managed-by"], "smallest-operator", "{case}: {name}");
            assert_eq!(head["labels"]["app.kubernetes.io/instance"], "speech", "{case}: {name}");
            assert_eq!(head["namespace"], "voice", "{case}: {name}");
            let owners = list(&head["ownerReferences"]).count();
            let stays = name.starts_with("PersistentVolumeClaim/");
            assert_eq!(owners, usize::from(!stays), "{case}: {name}");
            assert!(head["name"].as_str().is_some_and(|name| name.len() <= 63), "{case}: {name}");
        }
    });
}

#[test]
fn every_pod_passes_the_restricted_standard() {
    check(|case, objects| {
        for (name, template) in templates(objects) {
            let pod = &template["spec"];
            assert_eq!(pod["automountServiceAccountToken"], false, "{case}: {name}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{case}: {name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{case}: {name}");
            for host in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[host].is_null(), "{case}: {name} has {host}");
            }
            for container in containers(template) {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{case}: {name}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{case}: {name}");
                assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{case}: {name}");
                assert!(container["resources"]["requests"]["memory"].is_string(), "{case}: {name}");
            }
        }
    });
}

#[test]
fn secrets_stand_in_secrets_only() {
    check(|case, objects| {
        let documents = documents(case);
        let mut values = vec!["generated".to_owned()];
        for name in operator_plan::secret_names(&documents.deployment) {
            for key in documents.secrets.keys(&name).expect("Secret of the case") {
                let entry = operator_plan::SecretRef { name: name.clone(), key: key.to_owned() };
                values.push(documents.secrets.get(&entry).expect("entry").expose().to_owned());
            }
        }
        for (name, object) in objects.iter().filter(|(name, _)| !name.starts_with("Secret/")) {
            let text = object.to_string();
            for value in &values {
                assert!(!text.contains(value.as_str()), "{case}: {name} shows {value}");
            }
        }
    });
}

#[test]
fn every_reference_between_objects_leads_somewhere() {
    check(|case, objects| {
        for (name, template) in templates(objects) {
            let object = &objects[name];
            let labels = &template["metadata"]["labels"];
            assert!(contains(labels, &object["spec"]["selector"]["matchLabels"]), "{case}: {name}");
            let volumes: Vec<&Value> = list(&template["spec"]["volumes"])
                .map(|volume| &volume["name"])
                .chain(list(&object["spec"]["volumeClaimTemplates"]).map(|claim| &claim["metadata"]["name"]))
                .collect();
            for mount in containers(template).flat_map(|container| list(&container["volumeMounts"])) {
                assert!(volumes.contains(&&mount["name"]), "{case}: {name} has no volume {}", mount["name"]);
            }
            let account = template["spec"]["serviceAccountName"].as_str().expect("account");
            assert!(objects.contains_key(&format!("ServiceAccount/{account}")), "{case}: {name}");
        }
        for (name, service) in objects.iter().filter(|(name, _)| name.starts_with("Service/")) {
            let chosen: Vec<_> = templates(objects)
                .filter(|(_, template)| {
                    contains(&template["metadata"]["labels"], &service["spec"]["selector"])
                })
                .collect();
            let [(_, template)] = chosen.as_slice() else {
                panic!("{case}: {name} selects {}", chosen.len())
            };
            for port in list(&service["spec"]["ports"]) {
                let mut ports = containers(template).flat_map(|container| list(&container["ports"]));
                assert!(ports.any(|there| there["name"] == port["targetPort"]), "{case}: {name}: {port}");
            }
        }
    });
}

#[test]
fn who_scales_decides_alone() {
    check(|case, objects| {
        for (name, object) in objects.iter().filter(|(name, _)| name.starts_with("Deployment/")) {
            let autoscaler = name.replace("Deployment/", "HorizontalPodAutoscaler/");
            let scaled = objects.contains_key(&autoscaler);
            assert_eq!(object["spec"]["replicas"].is_null(), scaled, "{case}: {name}");
        }
    });
}

#[test]
fn every_pod_is_closed_by_a_policy_unless_that_is_off() {
    check(|case, objects| {
        let policies: Vec<&Value> = objects
            .iter()
            .filter(|(name, _)| name.starts_with("NetworkPolicy/"))
            .map(|(_, policy)| policy)
            .collect();
        if case == "objects-network-policy-off" {
            assert!(policies.is_empty());
            return;
        }
        for (name, template) in templates(objects) {
            let labels = &template["metadata"]["labels"];
            let of_pod = |policy: &&&Value| contains(labels, &policy["spec"]["podSelector"]["matchLabels"]);
            let closing: Vec<&&Value> = policies.iter().filter(of_pod).collect();
            let [policy] = closing.as_slice() else {
                panic!("{case}: {name} has {} policies", closing.len())
            };
            assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]), "{case}: {name}");
        }
    });
}

#[test]
fn a_program_that_starts_is_not_ended_by_a_liveness_probe() {
    check(|case, objects| {
        for (name, template) in templates(objects) {
            for container in containers(template) {
                assert!(container["startupProbe"].is_object(), "{case}: {name}: {}", container["name"]);
            }
        }
        let worker = &objects["Deployment/speech-asr"];
        let startup = &worker["spec"]["template"]["spec"]["containers"][0]["startupProbe"];
        let number = |field: &str| startup[field].as_u64().expect("number");
        assert!(number("periodSeconds") * number("failureThreshold") >= 600, "{case}: {startup}");
    });
}

#[test]
fn a_pod_has_time_to_drain() {
    check(|case, objects| {
        for (name, template) in templates(objects) {
            let grace = template["spec"]["terminationGracePeriodSeconds"].as_u64().expect("number");
            let milliseconds = |wanted: &str| -> u64 {
                let env = containers(template).flat_map(|container| list(&container["env"]));
                let values = env.filter(|var| var["name"] == wanted).filter_map(|var| var["value"].as_str());
                values.map(|value| value.parse::<u64>().expect("number")).sum()
            };
            let needed = milliseconds("DRAIN_TIMEOUT_MS") + milliseconds("DRAIN_DELAY_MS");
            assert!(needed < grace * 1000, "{case}: {name} drains for {needed} ms of {grace} s");
        }
    });
}

#[test]
fn the_same_input_gives_the_same_objects() {
    check(|case, first| {
        if ["objects-base", "objects-scaling", "objects-redis-external"].contains(&case) {
            assert!(*first == objects(desired(case)), "{case}");
        }
    });
}
