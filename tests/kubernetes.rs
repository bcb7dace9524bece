//! `deploy/k8s` fits together and lets in and out only what it names. No cluster is needed: it is read, and rendered where there is a
//! `kubectl`.

use std::{collections::BTreeSet, path::PathBuf, process::Command};
use yaml_rust2::{Yaml, YamlLoader};

const DOOR: i64 = 9464;
/// OTLP over HTTP.
const COLLECTOR: i64 = 4318;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/k8s")
}

fn read(file: &str) -> Vec<Yaml> {
    let path = folder().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn of_kind(file: &str, kind: &str) -> Yaml {
    let mut found = read(file).into_iter().filter(|document| document["kind"].as_str() == Some(kind));
    found.next().unwrap_or_else(|| panic!("{file} has no {kind}"))
}

fn list(list: &Yaml) -> Vec<Yaml> {
    list.as_vec().unwrap_or_else(|| panic!("not a list: {list:?}")).clone()
}

fn ports(rule: &Yaml) -> BTreeSet<i64> {
    list(&rule["ports"]).iter().map(|port| port["port"].as_i64().expect("a number")).collect()
}

/// Who is meant: by labels, or it is everybody.
fn is_narrow(peer: &Yaml) -> bool {
    let has_labels = |selector: &str| {
        let labels = peer[selector]["matchLabels"].as_hash();
        labels.is_some_and(|labels| !labels.is_empty() && labels.values().all(|value| value.as_str().is_some()))
    };
    // A namespace alone would be all that runs in it.
    has_labels("podSelector")
}

/// Everything that is wrong with a policy, in words.
fn wrong(policy: &Yaml) -> Vec<String> {
    let mut wrong = Vec::new();
    let types: Vec<_> = list(&policy["spec"]["policyTypes"]);
    for wanted in ["Ingress", "Egress"] {
        if !types.iter().any(|named| named.as_str() == Some(wanted)) {
            wrong.push(format!("{wanted} is not restricted"));
        }
    }
    for rule in list(&policy["spec"]["ingress"]) {
        match rule["from"].as_vec() {
            Some(peers) if !peers.is_empty() && peers.iter().all(is_narrow) => {}
            _ => wrong.push(format!("whoever likes may come in: {rule:?}")),
        }
        if ports(&rule) != BTreeSet::from([DOOR]) {
            wrong.push(format!("something else than the door is open: {rule:?}"));
        }
    }
    let out = list(&policy["spec"]["egress"]);
    let to_collector: Vec<_> = out.iter().filter(|rule| ports(rule).contains(&COLLECTOR)).collect();
    match to_collector[..] {
        [rule] if ports(rule).len() == 1 => match rule["to"].as_vec() {
            Some(peers) if !peers.is_empty() && peers.iter().all(is_narrow) => {}
            _ => wrong.push(format!("OTLP may go anywhere: {rule:?}")),
        },
        _ => wrong.push("no rule, or more than one, is for the collector".into()),
    }
    for rule in &out {
        if rule["ports"].as_vec().is_none_or(Vec::is_empty) {
            wrong.push(format!("everything may go out: {rule:?}"));
        }
    }
    wrong
}

#[test]
fn only_those_who_are_named_come_in_and_traces_go_to_the_collector_alone() {
    let policy = of_kind("network.yaml", "NetworkPolicy");
    assert_eq!(wrong(&policy), [""; 0]);
    // Each way to loosen it is seen.
    let text = std::fs::read_to_string(folder().join("network.yaml")).expect("the policy");
    let from_all = text.replace("matchLabels: { app.kubernetes.io/name: prometheus }", "matchLabels: {}");
    let from_anybody = text.replacen(
        "    - from:\n        - podSelector:\n            matchLabels: { car-worker/client: \"true\" }\n      ports:",
        "    - ports:",
        1,
    );
    let to_anywhere = text.replace("app.kubernetes.io/name: opentelemetry-collector", "");
    let no_collector = text.replace("4318", "4319");
    let other_port = text.replacen("port: 9464", "port: 9465", 1);
    let one_way = text.replace("[Ingress, Egress]", "[Egress]");
    for loose in [from_all, from_anybody, to_anywhere, no_collector, other_port, one_way] {
        assert_ne!(loose, text, "nothing was loosened");
        let policy = YamlLoader::load_from_str(&loose).expect("YAML").remove(0);
        assert_eq!(wrong(&policy).len(), 1, "{:?}: {loose}", wrong(&policy));
    }
}

#[test]
fn policy_deployment_and_budget_mean_the_same_pods_and_ports() {
    let deployment = of_kind("worker.yaml", "Deployment");
    let pod = &deployment["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert!(labels["app"].as_str().is_some());
    let policy = of_kind("network.yaml", "NetworkPolicy");
    let budget = of_kind("worker.yaml", "PodDisruptionBudget");
    for selector in [&policy["spec"]["podSelector"], &deployment["spec"]["selector"], &budget["spec"]["selector"]] {
        assert_eq!(&selector["matchLabels"], labels);
    }
    let container = &list(&pod["spec"]["containers"])[0];
    let door = &list(&container["ports"])[0];
    assert_eq!((door["name"].as_str(), door["containerPort"].as_i64()), (Some("http"), Some(DOOR)));
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"].as_str(), Some("9464"));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"].as_str(), Some("http"), "{probe}");
    }
    let config = of_kind("worker.yaml", "ConfigMap");
    let config = config["data"]["pitcrew.toml"].as_str().expect("a config").to_owned();
    assert!(config.contains(&format!("listen = \"0.0.0.0:{DOOR}\"")), "{config}");
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(security["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
}

/// What the commented line would switch on is what the policy lets out.
#[test]
fn the_collector_of_the_worker_is_the_one_that_the_policy_names() {
    let text = std::fs::read_to_string(folder().join("worker.yaml")).expect("the worker");
    let line = text.lines().find(|line| line.contains("OTEL_EXPORTER_OTLP_ENDPOINT")).expect("the endpoint is shown");
    let (_, address) = line.split_once("http://").expect("an address");
    let (host, port) = address.trim_end_matches(['"', ' ', '}']).split_once(':').expect("host and port");
    assert_eq!(port, COLLECTOR.to_string());
    let (_, namespace) = host.split_once('.').expect("a service and its namespace");
    let policy = of_kind("network.yaml", "NetworkPolicy");
    let rules = list(&policy["spec"]["egress"]);
    let rule = rules.iter().find(|rule| ports(rule).contains(&COLLECTOR)).expect("a rule");
    let peer = &list(&rule["to"])[0];
    assert_eq!(peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].as_str(), Some(namespace));
}

#[test]
fn every_file_is_a_resource_or_a_choice_of_the_kustomization() {
    let kustomization = std::fs::read_to_string(folder().join("kustomization.yaml")).expect("a kustomization");
    for entry in std::fs::read_dir(folder()).expect("the folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // What tests check custom resources against is KEDA's, and not applied.
        if name != "kustomization.yaml" && name != "crd" {
            assert!(kustomization.contains(&format!("- {name}\n")), "{name} is in no kustomization");
            assert!(read(&name).iter().all(|document| document["kind"].as_str().is_some()), "{name}");
        }
    }
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        eprintln!("skipped: no kubectl");
        return;
    }
    let rendered = Command::new("kubectl").arg("kustomize").arg(folder()).output().expect("kubectl runs");
    let text = String::from_utf8_lossy(&rendered.stdout).into_owned();
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    for kind in ["ConfigMap", "Deployment", "PodDisruptionBudget", "NetworkPolicy"] {
        assert!(text.contains(&format!("\nkind: {kind}\n")), "{kind} is not rendered");
    }
}
