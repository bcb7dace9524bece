//! The compose file keeps what `tests/run` and the README rely on. It cannot be run where there is no Docker engine,
//! but it can be read everywhere.

use yaml_rust2::{Yaml, YamlLoader};

fn compose() -> Yaml {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docker-compose.yml");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("failed to read {path}: {error}"));
    parse(&text)
}

fn parse(text: &str) -> Yaml {
    let documents = YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("failed to parse it: {error}"));
    assert_eq!(documents.len(), 1, "one document");
    documents.into_iter().next().expect("one document")
}

/// The strings of a list.
fn strings(list: &Yaml) -> Vec<&str> {
    let items = list.as_vec().unwrap_or_else(|| panic!("not a list: {list:?}"));
    items.iter().map(|item| item.as_str().unwrap_or_else(|| panic!("not a string: {item:?}"))).collect()
}

fn names(mapping: &Yaml) -> Vec<&str> {
    let entries = mapping.as_hash().unwrap_or_else(|| panic!("not a mapping: {mapping:?}"));
    entries.keys().map(|name| name.as_str().expect("names are strings")).collect()
}

#[test]
fn every_image_is_pinned_to_a_version() {
    let compose = compose();
    for name in names(&compose["services"]) {
        let image = compose["services"][name]["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let (_, tag) = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag: it would mean `latest`"));
        let version = tag.trim_start_matches('v').split('-').next().unwrap_or_default();
        let parts: Vec<_> = version.split('.').collect();
        assert!(
            parts.len() >= 2 && parts.iter().all(|part| part.parse::<u32>().is_ok()),
            "{image} names no exact version: what passes today must be what runs tomorrow"
        );
    }
}

#[test]
fn every_service_says_when_it_is_ready() {
    let compose = compose();
    // Nothing waits for these: the worker asks the one again, and goes on without the other.
    for name in names(&compose["services"]).into_iter().filter(|name| !["provider", "collector"].contains(name)) {
        let test = strings(&compose["services"][name]["healthcheck"]["test"]);
        assert_eq!(test.first(), Some(&"CMD"), "{name}: `docker compose up --wait` needs a health check to wait for");
        assert!(test.len() > 1, "{name}: its health check runs nothing");
    }
}

#[test]
fn every_port_is_bound_to_loopback_and_can_be_moved() {
    let compose = compose();
    for name in names(&compose["services"]) {
        let ports = &compose["services"][name]["ports"];
        for port in if ports.is_badvalue() { Vec::new() } else { strings(ports) } {
            assert!(port.starts_with("127.0.0.1:${PITCREW_"), "{name}: {port} is open to the network, or fixed");
        }
    }
}

#[test]
fn two_projects_can_run_side_by_side() {
    let compose = compose();
    for name in names(&compose["services"]) {
        let fixed = &compose["services"][name]["container_name"];
        assert!(fixed.is_badvalue(), "{name}: a container_name belongs to one project only; tests/run starts its own");
    }
    for name in names(&compose["volumes"]) {
        let volume = &compose["volumes"][name];
        assert!(volume["name"].is_badvalue(), "{name}: with a fixed name, `down --volumes` of the tests deletes yours");
        assert!(volume["external"].is_badvalue(), "{name}: an external volume is shared between projects");
    }
}

#[test]
fn postgres_is_what_the_tests_connect_to() {
    let compose = compose();
    let postgres = &compose["services"]["postgres"];
    assert_eq!(strings(&postgres["ports"]), ["127.0.0.1:${PITCREW_POSTGRES_PORT:-5432}:5432"]);
    assert_eq!(postgres["environment"]["POSTGRES_PASSWORD"].as_str(), Some("${PITCREW_POSTGRES_PASSWORD:-pitcrew}"));
    assert!(postgres["environment"]["POSTGRES_USER"].is_badvalue(), "tests/run connects as the default user, postgres");
    assert!(
        postgres["environment"]["POSTGRES_DB"].is_badvalue(),
        "tests/run connects to the default database, postgres"
    );
}

#[test]
fn postgres_keeps_what_it_committed() {
    let compose = compose();
    let postgres = &compose["services"]["postgres"];
    let command = strings(&postgres["command"]);
    assert_eq!(command.first(), Some(&"postgres"));
    for setting in ["fsync=on", "synchronous_commit=on", "max_connections=200"] {
        assert!(command.windows(2).any(|pair| pair == ["-c", setting]), "-c {setting} is not in {command:?}");
    }
    let volumes = strings(&postgres["volumes"]);
    assert_eq!(volumes, ["postgres:/var/lib/postgresql/data"]);
    assert!(names(&compose["volumes"]).contains(&"postgres"), "its volume is not declared");
}

#[test]
fn its_health_check_does_not_take_the_initialising_server_for_the_real_one() {
    let compose = compose();
    let test = strings(&compose["services"]["postgres"]["healthcheck"]["test"]);
    assert!(test.contains(&"pg_isready"), "{test:?}");
    assert!(
        test.windows(2).any(|pair| pair == ["--host", "127.0.0.1"]),
        "while it initialises itself the image runs a server that listens on its socket only: ask over TCP, not {test:?}"
    );
}

#[test]
fn kafka_is_what_the_tests_connect_to() {
    let compose = compose();
    let kafka = &compose["services"]["kafka"];
    assert_eq!(strings(&kafka["ports"]), ["127.0.0.1:${PITCREW_KAFKA_PORT:-9092}:9092"]);
    let environment = &kafka["environment"];
    let advertised = environment["KAFKA_ADVERTISED_LISTENERS"].as_str().unwrap_or_default();
    let told = "PLAINTEXT://127.0.0.1:${PITCREW_KAFKA_PORT:-9092},";
    assert!(advertised.starts_with(told), "a client is told to go to {advertised}, which is not the port outside");
    assert_eq!(environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"].as_str(), Some("false"), "a typo would make a topic");
    assert_eq!(strings(&kafka["volumes"]), ["kafka:/var/lib/kafka/data"]);
    assert_eq!(environment["KAFKA_LOG_DIRS"].as_str(), Some("/var/lib/kafka/data"));
    assert!(names(&compose["volumes"]).contains(&"kafka"), "its volume is not declared");
}

#[test]
fn its_health_check_asks_where_the_container_itself_can_reach() {
    let compose = compose();
    let kafka = &compose["services"]["kafka"];
    let test = strings(&kafka["healthcheck"]["test"]);
    let asked = test.last().copied().unwrap_or_default();
    let advertised = kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].as_str().unwrap_or_default();
    assert!(advertised.ends_with(&format!("INTERNAL://{asked}")), "{asked} is not in {advertised}");
}

#[test]
fn rabbitmq_is_what_the_tests_connect_to_and_keeps_its_queues() {
    let compose = compose();
    let rabbitmq = &compose["services"]["rabbitmq"];
    assert_eq!(strings(&rabbitmq["ports"]), ["127.0.0.1:${PITCREW_RABBITMQ_PORT:-5672}:5672"]);
    assert_eq!(rabbitmq["environment"]["RABBITMQ_DEFAULT_USER"].as_str(), Some("pitcrew"));
    assert_eq!(
        rabbitmq["environment"]["RABBITMQ_DEFAULT_PASS"].as_str(),
        Some("${PITCREW_RABBITMQ_PASSWORD:-pitcrew}")
    );
    assert_eq!(strings(&rabbitmq["volumes"]), ["rabbitmq:/var/lib/rabbitmq"]);
    assert!(names(&compose["volumes"]).contains(&"rabbitmq"), "its volume is not declared");
    assert!(rabbitmq["hostname"].as_str().is_some(), "the folder of its data has the host's name in it");
}

#[test]
fn a_worker_waits_for_what_it_needs_and_may_do_little() {
    let compose = compose();
    let worker = &compose["services"]["worker"];
    for needed in ["postgres", "rabbitmq"] {
        assert_eq!(worker["depends_on"][needed]["condition"].as_str(), Some("service_healthy"), "{needed}");
    }
    assert_eq!(worker["build"]["dockerfile"].as_str(), Some("deploy/Dockerfile"));
    assert_eq!(worker["read_only"].as_bool(), Some(true));
    assert_eq!(strings(&worker["cap_drop"]), ["ALL"]);
    assert_eq!(worker["stop_grace_period"].as_str(), Some("30s"), "longer than worker.drain_timeout");
    let test = strings(&worker["healthcheck"]["test"]);
    assert_eq!(test, ["CMD", "/usr/local/bin/car-worker", "health", "--ready"]);
}

#[test]
fn watching_is_for_who_asks_for_it() {
    let compose = compose();
    for name in names(&compose["services"]) {
        let profiles = &compose["services"][name]["profiles"];
        let is_watching = ["prometheus", "grafana", "collector"].contains(&name);
        let wanted = if is_watching { vec!["observability"] } else { vec![] };
        assert_eq!(if profiles.is_badvalue() { vec![] } else { strings(profiles) }, wanted, "{name}");
    }
}

#[test]
fn the_collector_listens_where_its_users_are_told_to_push() {
    let collector = parse(include_str!("../deploy/otel/config.yaml"));
    let listens = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].as_str();
    assert_eq!(listens, Some("0.0.0.0:4318"));
    let pipelines = &collector["service"]["pipelines"];
    for name in names(pipelines) {
        for part in ["receivers", "processors", "exporters"] {
            for one in strings(&pipelines[name][part]) {
                assert!(names(&collector[part]).contains(&one), "{name}: no {part} is called {one}");
            }
        }
    }
}

/// The walk without an engine is through the same stack: what a container is told, and what it waits for.
#[test]
fn the_smoke_test_starts_what_the_file_describes() {
    let compose = compose();
    let smoke = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/smoke")).expect("deploy/smoke");
    for variable in names(&compose["services"]["worker"]["environment"]) {
        // A shell has no variable with a dot in its name: that one is a line of its file.
        let told = match variable.strip_prefix("PITCREW_HANDLERS__").and_then(|rest| rest.strip_suffix("__URL")) {
            Some(handler) => format!("[handlers.\"{handler}\"]"),
            None => format!("export {variable}="),
        };
        assert!(smoke.contains(&told), "{told}");
    }
    let at = |what: &str| smoke.find(what).unwrap_or_else(|| panic!("deploy/smoke has no `{what}`"));
    for dependency in names(&compose["services"]["worker"]["depends_on"]) {
        let begun = match dependency {
            "provider" => at("begin provider"),
            _ => at("\"${name}_start\""),
        };
        assert!(begun < at("begin worker"), "{dependency} before the worker");
    }
    assert!(smoke.contains("for name in postgres rabbitmq kafka; do"), "every service is started");
}
