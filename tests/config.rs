//! Conformance of the configuration: what is read, what is refused and in which words.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pitcrew::config::{
    BrokerUrl, ChannelConfig, Config, Dedup, Guarantees, HandlerConfig, Hidden, Name, Ordering, Overrides, Role,
    Sources, StoreUrl, TokenConfig, TransportKind,
};
use pitcrew::message::{Intent, wire::Prefix};

/// A directory with files, and the environment and flags beside it.
struct Case {
    directory: tempfile::TempDir,
    sources: Sources,
}

fn case() -> Case {
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources { service: "pitcrew".into(), directory: directory.path().to_owned(), ..Sources::default() };
    Case { directory, sources }
}

impl Case {
    fn file(self, path: &str, text: &str) -> Self {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }
    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }
    fn config(mut self, path: &str) -> Self {
        self.sources.file = Some(path.into());
        self
    }
    fn flags(mut self, broker: Option<&str>, store: Option<&str>) -> Self {
        self.sources.overrides = Overrides { broker: broker.map(Into::into), store: store.map(Into::into) };
        self
    }
    #[track_caller]
    fn loads(self) -> Config {
        Config::load(&self.sources).unwrap_or_else(|error| panic!("failed to {error}"))
    }
    /// The exact words of every finding.
    #[track_caller]
    fn refused(self, expected: &str) {
        let error = Config::load(&self.sources).expect_err("nothing was found wrong").to_string();
        let here = format!("{}/", self.directory.path().display());
        let found = error.strip_prefix("read the configuration:\n").expect("the heading").replace(&here, "");
        let expected: Vec<_> = expected.trim().lines().map(str::trim).collect();
        assert!(found == expected.join("\n"), "\nfound:\n{found}\n");
    }
}

/// A file with this text is refused in these words.
#[track_caller]
fn check(text: &str, expected: &str) {
    case().file("pitcrew.toml", text).refused(expected);
}

/// The problems of a file that loads, as lines.
#[track_caller]
fn problems(text: &str, expected: &str) {
    let found: Vec<_> = case().file("pitcrew.toml", text).loads().check().iter().map(ToString::to_string).collect();
    let expected: Vec<_> = expected.trim().lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expected, "\nfound:\n{}\n", found.join("\n"));
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

// What is read

#[test]
fn without_any_source_everything_is_default() {
    let config = case().loads();
    assert_eq!(config, Config::default());
    assert_eq!(config.check(), []);
    assert_eq!(config.channel(&name("car.commands")), ChannelConfig::default());
    assert_eq!(config.handler("car.Nobody"), HandlerConfig::default());
}

#[test]
fn each_layer_beats_the_one_before() {
    let layered = || {
        case()
            .file(
                "config/pitcrew.toml",
                "service = 'file'\n[worker]\nbatch = 1\ncommits = 1\nfinished = 1\n[store]\nurl = 'sqlite:file'",
            )
            .file("config/pitcrew.prod.toml", "[worker]\nbatch = 2\ncommits = 2\n[store]\nurl = 'sqlite:profile'")
            .env("PITCREW_PROFILE", "prod")
            .env("PITCREW_WORKER__BATCH", "3")
            .env("PITCREW_STORE", "sqlite:environment")
            .env("PATH", "/bin")
    };
    let config = layered().loads();
    assert_eq!((config.worker.batch, config.worker.commits, config.worker.finished), (3, 2, 1));
    assert_eq!(config.service.as_str(), "file");
    assert_eq!(config.store.url, StoreUrl::sqlite("environment"));
    let config = layered().flags(Some("embedded"), Some("postgres://host/db")).loads();
    assert_eq!(config.store.url.to_string(), "postgres://host/db");
}

#[test]
fn a_file_sets_every_kind_of_key() {
    let config = case()
        .file(
            "elsewhere.toml",
            r#"
            guarantees = "warn"
            replyto_allowed = ["partner.replies"]
            [channel."car.commands"]
            types = ["car.A", "boat.B"]
            ordering = "none"
            deadline = "250ms"
            retry = { attempts = 3, tiers = ["5s"] }
            [handlers."car.A"]
            deadline = "5m"
            dedup = "always"
            catalogue = "data/vehicles.csv"
            weights = { price = 0.5, since = 2024-01-01 }
            "#,
        )
        .config("elsewhere.toml")
        .loads();
    assert_eq!((config.guarantees, &config.replyto_allowed[..]), (Guarantees::Warn, &[name("partner.replies")][..]));
    let channel = config.channel(&name("car.commands"));
    assert_eq!((channel.ordering, channel.deadline), (Ordering::None, Duration::from_millis(250)));
    assert_eq!((channel.retry.attempts, channel.retry.tiers), (3, vec![Duration::from_secs(5)]));
    assert_eq!(channel.concurrency, 64);
    let handler = config.handler("car.A");
    assert_eq!((handler.deadline, handler.concurrency), (Some(Duration::from_secs(300)), None));
    assert_eq!(handler.dedup, Dedup::Always);
    let own = serde_json::json!({"catalogue": "data/vehicles.csv", "weights": {"price": 0.5, "since": "2024-01-01"}});
    assert_eq!(handler.own, own);
}

#[test]
fn the_service_is_named_after_the_binary() {
    let mut case = case();
    case.sources.service = "Car_Worker".into();
    assert_eq!(case.loads().service.as_str(), "car-worker");
}

#[test]
fn a_broker_url_brings_its_kind_over_a_file_that_says_another() {
    let file = "[transport.default]\nkind = 'embedded'";
    let config = case().file("pitcrew.toml", file).env("PITCREW_BROKER", "amqps://u:p@host").loads();
    let transport = &config.transport["default"];
    assert_eq!((transport.kind, transport.url.to_string().as_str()), (TransportKind::Rabbitmq, "amqps://u:***@host"));
    let config = case().file("pitcrew.toml", "transport.default.url = 'kafka://a:1,b:2'").loads();
    assert_eq!(config.transport["default"].kind, TransportKind::Kafka);
    let config = case().file("pitcrew.toml", "transport.default.url = 'amqp://u:p@a:1,b:2/v'").loads();
    let transport = &config.transport["default"];
    assert_eq!(
        (transport.kind, transport.url.to_string().as_str()),
        (TransportKind::Rabbitmq, "amqp://u:***@a:1,b:2/v")
    );
    for slip in ["amqp://a,,b", "amqp://u:p@a,/v", "amqps://,a?heartbeat=5", "kafka://a:1,"] {
        assert!(slip.parse::<BrokerUrl>().is_err(), "{slip}");
    }
    let file = "transport.default.url = 'kafka://a:1,b:2'";
    let config = case().file("pitcrew.toml", file).env("PITCREW_TRANSPORT__DEFAULT__KIND", "embedded").loads();
    assert_eq!(config.transport, Config::default().transport);
}

#[test]
fn the_environment_spells_names_with_underscores() {
    let config = case()
        .file("pitcrew.toml", "[channel.image-jobs]\n[handlers.\"car.ProcessImage\"]\nurl = 'a'")
        .env("PITCREW_CHANNEL__CAR_COMMANDS__CONCURRENCY", "8")
        .env("PITCREW_CHANNEL__IMAGE_JOBS__RETRY__TIERS", "[1s, 5s]")
        .env("PITCREW_CHANNEL__a.b__TYPES", "[car.X, car.Y]")
        .env("PITCREW_HANDLERS__CAR_PROCESSIMAGE__LIMIT", "12")
        .env("PITCREW_HANDLERS__CAR_PROCESSIMAGE__DEADLINE", "1m")
        .env("PITCREW_HANDLERS__car.Other__DEEP__KEY", "yes")
        .env("PITCREW_STORE__SCHEMA", "true")
        .loads();
    assert_eq!(config.channel["car.commands"].concurrency, 8);
    assert_eq!(config.channel["image-jobs"].retry.tiers, [1, 5].map(Duration::from_secs));
    assert_eq!(config.channel["a.b"].types, ["car.X", "car.Y"]);
    assert_eq!(config.handler("car.ProcessImage").own, serde_json::json!({"limit": 12, "url": "a"}));
    assert_eq!(config.handler("car.ProcessImage").deadline, Some(Duration::from_secs(60)));
    assert_eq!(config.handler("car.Other").own, serde_json::json!({"deep": {"key": "yes"}}));
    assert_eq!(config.store.schema, "true");
}

/// A handler's own key gets what its text looks like; letters beyond ASCII before an escape once ended the process.
#[test]
fn a_variable_may_hold_any_letters_and_escapes() {
    let own = |text: &str| {
        case().env("PITCREW_HANDLERS__car.Other__WORDS", text).loads().handler("car.Other").own["words"].clone()
    };
    assert_eq!(own(r#""gr\u00fc\u00dfe""#), "grüße");
    assert_eq!(own(r#""é\ta""#), "é\ta");
    assert_eq!(own(r#""𜽐\a""#), r#""𜽐\a""#, "no escape: as it is written");
    assert_eq!(own(r#"é\ta"#), r#"é\ta"#);
    assert_eq!(own("grüße"), "grüße");
}

#[test]
fn a_variable_names_the_file_and_the_flag_counts_more() {
    let case = || case().file("etc/one.toml", "service = 'one'").file("two.toml", "service = 'two'");
    let named = || case().env("PITCREW_CONFIG", "etc/one.toml");
    assert_eq!(named().loads().service.as_str(), "one");
    assert_eq!(named().config("two.toml").loads().service.as_str(), "two");
    assert_eq!(
        named().file("etc/one.prod.toml", "service = 'prod'").env("PITCREW_PROFILE", "prod").loads().service.as_str(),
        "prod"
    );
    case()
        .env("PITCREW_CONFIG", "none.toml")
        .refused("environment PITCREW_CONFIG: none.toml cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_channel_may_be_on_another_broker_unless_one_of_them_is_embedded() {
    let events = "[channel.\"car.events\"]\ntransport = 'log'\n[transport.log]\n";
    problems(&format!("{events}url = 'kafka://host:9092'\n[transport.default]\nurl = 'amqp://host'"), "");
    problems(
        &format!("{events}url = 'kafka://host:9092'"),
        "[channel.\"car.events\"] transport: `default` is embedded, and what is inside the process cannot be beside a broker; if all channels are on `log`, call it [transport.default] and leave `transport` away; else set url in [transport.default], which carries every channel that names no transport",
    );
    problems(
        &format!("{events}url = 'embedded'\n[transport.default]\nurl = 'amqp://host'"),
        "[channel.\"car.events\"] transport: `log` is embedded, and what is inside the process cannot be beside a broker; set url in [transport.log]",
    );
}

#[test]
fn settings_of_kafka_are_refused_for_a_rabbitmq_where_they_were_written() {
    let rabbitmq =
        "[transport.log]\nurl = 'amqp://host'\n\n[transport.log.kafka]\nsession_timeout = '6s'\npartitions = 6\n";
    let refusal = |place, key| {
        format!("{place}: {key} in [transport.log.kafka] has no effect: [transport.log] is a RabbitMQ; remove it")
    };
    case().file("pitcrew.toml", rabbitmq).refused(&refusal("pitcrew.toml:5", "session_timeout"));
    let name = "PITCREW_TRANSPORT__LOG__KAFKA__REPLICATION";
    let plain = "[transport.log]\nurl = 'amqp://host'\n";
    let case_of = |file| case().file("pitcrew.toml", file).env(name, "3");
    case_of(plain).refused(&refusal(&format!("environment {name}"), "replication"));
    case_of("[transport.log]\nurl = 'kafka://host:9092'\n").loads();
    // The file is right for its own broker; another one for once makes it no mistake.
    let own = "[transport.default]\nurl = 'kafka://host:9092'\nkafka.partitions = 3\n";
    case().file("pitcrew.toml", own).flags(Some("amqp://host"), None).loads();
    // Written for no broker yet, it must fit the one that comes.
    let open = case().file("pitcrew.toml", "transport.default.kafka.partitions = 3\n").flags(Some("amqp://host"), None);
    open.refused("pitcrew.toml:1: partitions in [transport.default.kafka] has no effect: [transport.default] is a RabbitMQ; remove it");
}

#[test]
fn variables_of_kubernetes_are_no_settings() {
    let config = case()
        .env("PITCREW_SERVICE_HOST", "10.0.0.1")
        .env("PITCREW_SERVICE_PORT", "80")
        .env("PITCREW_PORT", "tcp://10.0.0.1:80")
        .env("PITCREW_PORT_80_TCP_ADDR", "10.0.0.1")
        .env("PITCREW_WORKER_SERVICE_PORT_HTTP", "80")
        .loads();
    assert_eq!(config, Config::default());
}

#[test]
fn variables_of_the_test_command_are_no_settings() {
    let mut case = case();
    for name in [
        "PITCREW_ALL",
        "PITCREW_ONLY",
        "PITCREW_REQUIRE",
        "PITCREW_SEED",
        "PITCREW_SOAK",
        "PITCREW_POSTGRES_URL",
        "PITCREW_FAULT",
    ] {
        case = case.env(name, "1");
    }
    assert_eq!(case.loads(), Config::default());
}

// What is refused

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    check(
        "\n[channel.\"car.commands\"]\nconcurency = 8\n\n[chanel.x]\n[worker]\nretention = 1\nconcurrency = 1\n[channel.x.retry]\nfrist = '1s'\nzzz = 1\n",
        r#"
        pitcrew.toml:3: unknown key `concurency` in [channel."car.commands"]; did you mean `concurrency`?
        pitcrew.toml:5: unknown key `chanel`; did you mean `channel`?
        pitcrew.toml:7: unknown key `retention` in [worker]; it belongs in [store]
        pitcrew.toml:8: unknown key `concurrency` in [worker]; it belongs in [channel.NAME]
        pitcrew.toml:10: unknown key `frist` in [channel.x.retry]; did you mean `first`?
        pitcrew.toml:11: unknown key `zzz` in [channel.x.retry]; known are `attempts`, `first`, `max`, `tiers`, `give_up_after`
        "#,
    );
}

#[test]
fn a_handlers_own_key_may_not_be_a_misspelt_key_of_the_runtime() {
    check(
        "[handlers.\"car.A\"]\nconcurency = 8\nurl = 'mine'\nconcurrency = 'mine'\n",
        "
        pitcrew.toml:2: unknown key `concurency` in [handlers.\"car.A\"]; did you mean `concurrency`?
        pitcrew.toml:4: concurrency in [handlers.\"car.A\"] is \"mine\", expected a whole number from 0 to 1000000, for example 64
        ",
    );
}

#[test]
fn a_wrong_value_is_refused_with_what_is_expected_and_an_example() {
    check(
        r#"
        guarantees = "relaxed"
        service = "Car Worker"
        worker = { batch = -1, commits = 1.5, payload_limit = 1000, in_flight_bytes = "1 MB" }
        replyto_allowed = ["ok", "Not OK"]
        [store]
        schema = "pg_x"
        retention.inbox = "a fortnight"
        [channel.a]
        deadline = 30
        ordering = 1
        concurrency = "64"
        types = "car.X"
        transport = ["default"]
        [channel.b]
        types = [1, "car.Y", "car. Z"]
        retry.tiers = ["1s", "2", "5s", "1h30m"]
        retry.attempts = "x"
        retry.max = "99999999999999999999d"
        "#,
        r#"
        pitcrew.toml:2: guarantees is "relaxed", expected "strict" or "warn", for example "strict"
        pitcrew.toml:3: service is "Car Worker", expected a name: 1 to 100 small letters, digits, dots and hyphens, for example "pitcrew"
        pitcrew.toml:4: batch in [worker] is -1, expected a whole number from 0 to 1000000, for example 256
        pitcrew.toml:4: commits in [worker] is 1.5, expected a whole number from 0 to 1000000, for example 4
        pitcrew.toml:4: in_flight_bytes in [worker] is "1 MB", expected a size: a whole number with one unit of B, KB, MB, GB, KiB, MiB or GiB, for example "64MB"
        pitcrew.toml:4: payload_limit in [worker] is 1000, expected a size: a whole number with one unit of B, KB, MB, GB, KiB, MiB or GiB, for example "1MB"
        pitcrew.toml:5: replyto_allowed[1] is "Not OK", expected a name: 1 to 100 small letters, digits, dots and hyphens, for example "partner.replies"
        pitcrew.toml:7: schema in [store] is "pg_x", expected a schema's name: small letters, digits and underscores, no digit first, at most 63, not beginning with pg_, for example "pitcrew"
        pitcrew.toml:8: inbox in [store.retention] is "a fortnight", expected a duration: a whole number with one unit of ms, s, m, h or d, at most 36500d, for example "14d"
        pitcrew.toml:10: deadline in [channel.a] is 30, expected a duration: a whole number with one unit of ms, s, m, h or d, at most 36500d, for example "30s"
        pitcrew.toml:11: ordering in [channel.a] is 1, expected "key" or "none", for example "key"
        pitcrew.toml:12: concurrency in [channel.a] is "64", expected a whole number from 0 to 1000000, for example 64
        pitcrew.toml:13: types in [channel.a] is "car.X", expected a list, for example ["car.GenerateRecommendationBrief"]
        pitcrew.toml:14: transport in [channel.a] is a list, expected a name: 1 to 100 small letters, digits, dots and hyphens, for example "default"
        pitcrew.toml:16: types[0] in [channel.b] is 1, expected a message type: 1 to 200 characters without spaces, for example "car.GenerateRecommendationBrief"
        pitcrew.toml:16: types[2] in [channel.b] is "car. Z", expected a message type: 1 to 200 characters without spaces, for example "car.GenerateRecommendationBrief"
        pitcrew.toml:17: tiers[1] in [channel.b.retry] is "2", expected a duration: a whole number with one unit of ms, s, m, h or d, at most 36500d, for example "1s"
        pitcrew.toml:17: tiers[3] in [channel.b.retry] is "1h30m", expected a duration: a whole number with one unit of ms, s, m, h or d, at most 36500d, for example "1s"
        pitcrew.toml:18: attempts in [channel.b.retry] is "x", expected a whole number from 0 to 1000000, for example 8
        pitcrew.toml:19: max in [channel.b.retry] is "99999999999999999999d", expected a duration: a whole number with one unit of ms, s, m, h or d, at most 36500d, for example "10m"
        "#,
    );
}

#[test]
fn a_section_without_its_name_or_in_place_of_a_value_is_refused() {
    check(
        "worker = 5\n[channel]\nconcurrency = 5\n[channel.Big]\n[store.url]\nx = 1\n[[transport]]\nkind = 'kafka'",
        r#"
        pitcrew.toml:1: worker is 5, expected a section, for example [worker]
        pitcrew.toml:3: concurrency in [channel] is 5, expected a section, for example [channel.name]
        pitcrew.toml:4: the name Big in [channel] cannot be used, expected a name: 1 to 100 small letters, digits, dots and hyphens, for example [channel."car.commands"]
        pitcrew.toml:5: url in [store] is a table, expected a string, for example "sqlite:pitcrew.db"
        pitcrew.toml:7: transport is a list, expected sections with names, for example [transport.name]
        "#,
    );
}

#[test]
fn the_environment_is_refused_by_the_name_of_the_variable() {
    case()
        .env("PITCREW_STORE__ULR", "x")
        .env("PITCREW_WORKER__BATCH", "many")
        .env("PITCREW_WORKER__COMMITS", "4")
        .env("PITCREW_CHANNEL__A__RETRY__TIERS", "[1s, 2x]")
        .env("PITCREW_CHANNEL__A__DEADLINE", "30")
        .env("PITCREW_HANDLERS__CAR_X__DEADLINE", "30s")
        .env("PITCREW_BROKR", "x")
        .env("PITCREW_A____B", "x")
        .env("PITCREW_BROKER", "redis://host")
        .env("PITCREW_STORE", "sqlite:a")
        .env("PITCREW_STORE__URL", "sqlite:b")
        .flags(None, Some("/tmp/x"))
        .refused(r#"
        environment PITCREW_A____B: a part of the name is empty; parts are divided by two underscores, as in PITCREW_STORE__URL
        environment PITCREW_HANDLERS__CAR_X__DEADLINE: no file has a section of handler `CAR_X`; write one, or the name itself, as in PITCREW_HANDLERS__car.GenerateRecommendationBrief__DEADLINE
        environment PITCREW_STORE__URL: PITCREW_STORE sets the same; remove one of them
        environment PITCREW_BROKER: url in [transport.default] begins with `redis:` and cannot be used, expected embedded, amqp://user:password@host:5672, amqps://…, kafka://host:9092,host:9092 or kafkas://…
        environment PITCREW_BROKR: unknown key `brokr`; did you mean `broker`?
        environment PITCREW_CHANNEL__A__DEADLINE: deadline in [channel.a] is 30, expected a duration: a whole number with one unit of ms, s, m, h or d, at most 36500d, for example "30s"
        environment PITCREW_CHANNEL__A__RETRY__TIERS: tiers[1] in [channel.a.retry] is "2x", expected a duration: a whole number with one unit of ms, s, m, h or d, at most 36500d, for example "1s"
        environment PITCREW_STORE__ULR: unknown key `ulr` in [store]; did you mean `url`?
        environment PITCREW_WORKER__BATCH: batch in [worker] is "many", expected a whole number from 0 to 1000000, for example 256
        flag --store: url in [store] is no address (not shown, it may hold a password), expected postgres://user:password@host/database, sqlite:path or memory:
        "#);
}

#[test]
fn a_syntax_error_is_refused_with_line_and_column() {
    check("service = 'x'\n[store\nurl = 1", "pitcrew.toml:2:7: not TOML: invalid table header, expected `.`, `]`");
    check("service = 'x'\nservice = 'y'", "pitcrew.toml:2:1: not TOML: duplicate key `service` in document root");
    check(
        "[store]\nurl = postgres://u:hunter2@h/d",
        r#"pitcrew.toml:2:7: not TOML: invalid string, expected `"`, `'`"#,
    );
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    case()
        .config("none.toml")
        .refused("flag --config: none.toml cannot be read: No such file or directory (os error 2)");
    case().file("pitcrew.toml", "").env("PITCREW_PROFILE", "prod").refused("environment PITCREW_PROFILE: pitcrew.prod.toml of profile `prod` cannot be read: No such file or directory (os error 2)");
    case().env("PITCREW_PROFILE", "../prod").refused("environment PITCREW_PROFILE: cannot take `../prod` as a name: a name has 1 to 100 small letters, digits, dots and hyphens");
    case()
        .file("pitcrew.toml", "")
        .file("config/pitcrew.toml", "")
        .refused("config/pitcrew.toml: pitcrew.toml is there too; remove one of them, or name one with --config");
    let broken = case();
    fs::write(broken.directory.path().join("pitcrew.toml"), [0xff, 0xfe]).unwrap();
    broken.refused("pitcrew.toml: cannot be read: stream did not contain valid UTF-8");
}

#[test]
fn every_layer_is_judged_at_once() {
    case()
        .file("pitcrew.toml", "[worker]\nbatch = 'x'")
        .file("pitcrew.dev.toml", "[worker]\nbatch = 'y'")
        .env("PITCREW_PROFILE", "dev")
        .env("PITCREW_WORKER__BATCH", "z")
        .refused(r#"
        pitcrew.toml:2: batch in [worker] is "x", expected a whole number from 0 to 1000000, for example 256
        pitcrew.dev.toml:2: batch in [worker] is "y", expected a whole number from 0 to 1000000, for example 256
        environment PITCREW_WORKER__BATCH: batch in [worker] is "z", expected a whole number from 0 to 1000000, for example 256
        "#);
}

#[test]
fn a_type_in_two_channels_is_refused_with_both_places() {
    let file = "[channel.a]\ntypes = ['car.X', 'car.Y']\n[channel.b]\ntypes = [\n'car.Z',\n'car.Y']";
    check(
        file,
        "pitcrew.toml:6: type `car.Y` in [channel.b] is also in [channel.a] (pitcrew.toml:2); a type is in exactly one channel",
    );
    case().file("pitcrew.toml", file).env("PITCREW_CHANNEL__A__TYPES", "[car.Z]").refused("pitcrew.toml:5: type `car.Z` in [channel.b] is also in [channel.a] (environment PITCREW_CHANNEL__A__TYPES); a type is in exactly one channel");
}

// Secrets

#[test]
fn no_output_and_no_error_holds_a_password() {
    let config = case()
        .file(
            "pitcrew.toml",
            r#"
            [store]
            url = "postgres://user:hunt@er/2@host/db?sslmode=require&password=hunter2"
            [transport.default]
            url = "amqp://user:hunter2@host"
            [handlers.a]
            api_key = "hunter2"
            webhook = "https://user:hunter2@host/path"
            nested = [{ token = 5, limit = 6 }]
            "#,
        )
        .loads();
    let shown = format!("{}{}{config:?}{config:#?}", config.show(), config.show_json());
    assert!(!shown.contains("hunter2") && !shown.contains("er/2"), "{shown}");
    assert_eq!(config.store.url.to_string(), "postgres://user:***@host/db?sslmode=require&password=***");
    let StoreUrl::Postgres(url) = &config.store.url else { panic!("{:?}", config.store.url) };
    assert!(url.expose().contains("hunter2"), "the connection needs it");
    for url in ["postgresql:/u:hunter2@h", "hunter2", "u:hunter2@h/d", "mysql://u:hunter2@h", "'postgres://u:hunter2@"]
    {
        let held = case().file("pitcrew.toml", &format!("store.url = {url:?}\ntransport.x.url = {url:?}"));
        let error = Config::load(&held.sources).unwrap_err();
        assert!(error.findings.len() == 2 && !error.to_string().contains("hunter2"), "{error}");
    }
    let misplaced = case().file("pitcrew.toml", "service = 'postgres://u:hunter2@h'");
    misplaced.refused(r#"pitcrew.toml:1: service is "postgres://u:***@h", expected a name: 1 to 100 small letters, digits, dots and hyphens, for example "pitcrew""#);
}

#[test]
fn the_login_of_a_broker_is_never_shown() {
    let file = "[transport.default]\nurl = 'amqps://mq'\nmanagement = 'https://ops:hunter2@mq:15671'";
    let config = case()
        .file("pitcrew.toml", file)
        .env("PITCREW_TRANSPORT__DEFAULT__USER", "cars")
        .env("PITCREW_TRANSPORT__DEFAULT__PASSWORD", "5550123")
        .loads();
    let shown = format!("{}{}{config:?}{config:#?}", config.show(), config.show_json());
    assert!(!shown.contains("hunter2") && !shown.contains("5550123"), "{shown}");
    let broker = &config.transport[&name("default")];
    assert_eq!(broker.password, Some(Hidden::new("5550123")), "text, whatever it looks like");
    assert_eq!(broker.user.as_deref(), Some("cars"));
    assert!(config.show().contains("management = \"https://ops:***@mq:15671\""), "{}", config.show());
    check(
        "[transport.default]\npassword = 5550123\nmanagement = 'mq:hunter2@x'\n[channel.a]\nattribute_prefix = 'ce.'",
        r#"
        pitcrew.toml:2: password in [transport.default] must be a text in quotes (what it is is not shown)
        pitcrew.toml:3: management in [transport.default] begins with `mq:` and cannot be used, expected http://host:15672 or https://host:15671, with user:password@ if it has a login of its own
        pitcrew.toml:5: attribute_prefix in [channel.a] is "ce.", expected "cloudEvents_", "cloudEvents:", "ce-" or "ce_"
        "#,
    );
}

// Routing

#[test]
fn a_type_goes_to_the_channel_that_lists_it_and_else_by_its_prefix() {
    let mut config = case().file("pitcrew.toml", "[channel.images]\ntypes = ['car.ProcessImage']").loads();
    let to = |config: &Config, kind: &str, what| match config.channel_of(kind, what) {
        Ok(channel) => channel.to_string(),
        Err(error) => format!("failed to {error}"),
    };
    assert_eq!(to(&config, "car.ProcessImage", Intent::Command), "images");
    assert_eq!(to(&config, "car.Generate", Intent::Command), "car.commands");
    assert_eq!(to(&config, "car.Generated.v1", Intent::Event), "car.events");
    for wrong in ["Generate", ".Generate", "Car.Generate"] {
        assert_eq!(
            to(&config, wrong, Intent::Event),
            format!(
                "failed to find the channel of `{wrong}`: no channel lists it, and its name begins with no prefix like the `car.` of `car.GenerateRecommendationBrief`; add it to `types` of a channel"
            )
        );
    }
    config.channel.insert(name("more"), config.channel["images"].clone());
    assert_eq!(
        to(&config, "car.ProcessImage", Intent::Command),
        "failed to find the channel of `car.ProcessImage`: [channel.images] and [channel.more] both list it, and a type is in exactly one"
    );
    assert_eq!(config.check().len(), 1);
}

// Cross checks

#[test]
fn settings_that_do_not_go_together_are_problems_with_a_fix() {
    problems(
        r#"
        [store]
        url = "memory:"
        retention.inbox = "1h"
        [worker]
        batch = 0
        payload_limit = "1MB"
        in_flight_bytes = "1KB"
        [transport.a]
        url = "amqp://host"
        [transport.b]
        kind = "kafka"
        [transport.c]
        kind = "embedded"
        url = "amqp://host"
        [transport.d]
        url = "kafka://host"
        kafka = { partitions = 0, session_timeout = "5s" }
        [channel.x]
        transport = "defualt"
        concurrency = 0
        deadline = "1741s"
        retry = { attempts = 0, first = "20m", tiers = [] }
        [channel.y]
        deadline = "29m"
        retry = { tiers = ["0s", "2s", "2s"], give_up_after = "1h" }
        [handlers.h]
        concurrency = 0
        deadline = "0s"
        "#,
        r#"
        [store] url: a memory store forgets every message when the process ends; set url to sqlite:PATH or postgres://…
        [store.retention] inbox: the inbox is kept in days; set it to at least 1 day, for example "14d"
        [worker] batch: with 0 nothing is ever committed; set it to 1 or more
        [worker] in_flight_bytes: it is smaller than payload_limit: the largest messages could never be received; raise it to a multiple of payload_limit
        [transport.b] url: there is none; set it, for example to "kafka://host:9092"
        [transport.c] url: kind is `embedded` and url is an address of `rabbitmq`; leave kind away: the url says it
        [transport.d.kafka] partitions: a topic has at least one; set it to 1 or more
        [transport.d.kafka] session_timeout: 5s is less than a broker takes by default; set it to at least 6s, or lower the broker's group.min.session.timeout.ms
        [channel.x] concurrency: with 0 nothing is ever handled; set it to 1 or more
        [channel.x] deadline: 1741s and 1m for wait and commit are more than the broker's 30m for an ack: it would deliver again while the handler runs; lower it to 29m or less, or raise the broker's ack timeout and [worker] ack_timeout with it
        [channel.x] transport: there is no transport `defualt`; did you mean `default`?
        [channel.x.retry] attempts: with 0 a message is dead before it is tried; set it to 1 (no retry) or more
        [channel.x.retry] first: the first delay, 20m, is above max, 10m; lower first or raise max
        [channel.x.retry] tiers: without a tier no delay can be kept; leave the key away for the default, or list at least one delay
        [channel.x.retry] give_up_after: 24h is longer than the inbox remembers, 1h: a late retry could have its effect twice; lower it, or raise [store.retention] inbox
        [channel.y.retry] tiers: a tier of 0s is no delay; remove it
        [channel.y.retry] tiers: 2s is followed by 2s; list the delays ascending, each once
        [handlers.h] concurrency: with 0 nothing is ever handled; set it to 1 or more
        [handlers.h] deadline: with 0s no handler ever ends in time; set it to what a handler needs, for example "30s"
        "#,
    );
}

#[test]
fn a_login_is_given_once_and_a_certificate_comes_with_its_key() {
    problems(
        r#"
        [transport.a]
        url = "amqps://cars:secret@mq"
        password = "secret"
        password_file = "p"
        client_cert = "c.pem"
        [transport.b]
        url = "amqp://mq:5672"
        password_file = "p"
        client_key = "c.key"
        ca_file = "ca.pem"
        [transport.c]
        url = "amqp://cars@mq"
        management = "https://mq:15671"
        ca_file = "ca.pem"
        [transport.d]
        management = "http://mq:15672"
        "#,
        r#"
        [transport.a] password_file: url has a password too; leave one of them away
        [transport.a] client_cert: there is no client_key to it; set client_key too
        [transport.b] client_key: there is no client_cert to it; set client_cert too
        [transport.b] ca_file: url is amqp://, so nothing is encrypted and it has no effect; write amqps:// (port 5671), or remove it
        [transport.d] management: only RabbitMQ has that API; remove it
        "#,
    );
}

#[test]
fn who_logs_in_to_kafka_and_how_is_checked() {
    problems(
        r#"
        [transport.a]
        url = "kafka://app@host"
        kafka.sasl = "plain"
        [transport.b]
        url = "kafka://host"
        password_file = "b"
        [transport.c]
        url = "kafka://host"
        ca_file = "ca.pem"
        [transport.d]
        url = "kafka://app:secret@host,host"
        kafka.sasl = "plain"
        "#,
        r#"
        [transport.a] user: there is no password to it; set password_file, or the password in PITCREW_TRANSPORT__NAME__PASSWORD or the url
        [transport.a.kafka] sasl: the password goes over the network as it is; write kafkas:// in url, or set it to "scram-sha-512"
        [transport.b] user: there is a password, and nobody who logs in; set user, or name it in url
        [transport.c] ca_file: url is kafka://, so nothing is encrypted and it has no effect; write kafkas://, or remove it
        [transport.d.kafka] sasl: the password goes over the network as it is; write kafkas:// in url, or set it to "scram-sha-512"
        "#,
    );
}

#[test]
#[cfg(not(feature = "kafka-tls"))]
fn a_build_without_openssl_says_how_to_get_one() {
    problems(
        r#"
        [transport.a]
        url = "kafkas://host"
        [transport.b]
        url = "kafka://app:secret@host"
        "#,
        r#"
        [transport.a] url: this build has no TLS for Kafka; build it with --features pitcrew/kafka-tls, which needs the system's OpenSSL (Debian: libssl-dev)
        [transport.b] url: this build has no SCRAM for Kafka; build it with --features pitcrew/kafka-tls, which needs the system's OpenSSL (Debian: libssl-dev)
        "#,
    );
}

#[test]
fn a_section_for_a_handler_that_is_not_there_is_a_problem() {
    let config = case().file("pitcrew.toml", "[handlers.\"car.Generat\"]\n[handlers.\"car.B\"]").loads();
    let found: Vec<_> = config.check_handlers(&["car.Generate", "car.B"]).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["[handlers.\"car.Generat\"]: there is no handler of this name; did you mean `car.Generate`?"]);
}

#[test]
fn weaknesses_pass_where_guarantees_only_warn() {
    let config = case().file("pitcrew.toml", "store.url = 'memory:'\nworker.batch = 0").loads();
    let refused = |guarantees| config.check().iter().filter(|problem| problem.refuses(guarantees)).count();
    assert_eq!((refused(Guarantees::Strict), refused(Guarantees::Warn)), (2, 1));
}

#[test]
fn a_door_that_can_be_reached_from_elsewhere_wants_tokens() {
    let problems = |text: &str| -> Vec<String> {
        let problems = case().file("pitcrew.toml", text).loads().check();
        problems.iter().filter(|p| p.refuses(Guarantees::Warn)).map(ToString::to_string).collect()
    };
    assert_eq!(
        problems("http.listen = '0.0.0.0:9464'"),
        ["[http] listen: 0.0.0.0:9464 can be reached from elsewhere, and nobody needs a token there; add \
          [http.tokens.NAME] with sha256 and roles, or listen on 127.0.0.1"]
    );
    let token = format!("http.tokens.a = {{ sha256 = '{}', roles = ['read'] }}\n", "ab".repeat(32));
    assert_eq!(problems(&(token + "http.listen = '0.0.0.0:9464'")), Vec::<String>::new());
    assert_eq!(problems("http.listen = '[::1]:9464'"), Vec::<String>::new());
    assert_eq!(problems("http.listen = ''"), Vec::<String>::new());
    assert_eq!(
        problems("http.tokens.a = { sha256 = 'secret', roles = [] }\nhttp.tls_cert = 'a.pem'\nhttp.stuck_after = '1s'"),
        [
            "[http.tokens.a] sha256: it is not 64 hex digits; printf %s \"$TOKEN\" | sha256sum makes it",
            "[http.tokens.a] roles: without a role it may do nothing; list \"send\", \"read\" or \"operate\"",
            "[http] tls_cert: a certificate and its key go together; set both, or neither",
            "[http] stuck_after: a slow commit would look like a stuck loop; set it to at least 10s",
        ]
    );
}

// The reference file

fn reference() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pitcrew.toml")).unwrap()
}

/// The reference with its example settings switched on.
fn uncommented() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting.to_owned(),
        _ => line.to_owned(),
    };
    reference().lines().map(|line| on(line) + "\n").collect()
}

#[test]
fn the_reference_file_changes_nothing() {
    assert_eq!(case().file("pitcrew.toml", &reference()).loads(), Config::default());
}

#[test]
fn the_reference_file_names_every_key_with_its_default() {
    let config = case().file("pitcrew.toml", &uncommented()).loads();
    let handler = "car.GenerateRecommendationBrief";
    let mut expected = Config::default();
    expected.channel.insert(name("car.commands"), ChannelConfig::default());
    let (deadline, concurrency) = (ChannelConfig::default().deadline, ChannelConfig::default().concurrency);
    let example =
        HandlerConfig { deadline: Some(deadline), concurrency: Some(concurrency), ..HandlerConfig::default() };
    expected.handlers.insert(handler.into(), example);
    let broker = expected.transport.get_mut("default").unwrap();
    // What has no default that could be written.
    expected.audit.sink = Some("/var/lib/pitcrew/audit".into());
    expected.http.tls_cert = Some("/etc/ssl/door.pem".into());
    expected.http.tls_key = Some("/etc/ssl/door.key".into());
    let sha256 = Hidden::new("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    let token = TokenConfig { sha256, roles: vec![Role::Send, Role::Read] };
    expected.http.tokens.insert(name("shop"), token);
    expected.telemetry.endpoint = Some("http://127.0.0.1:4318".parse().unwrap());
    expected.telemetry.ca_file = Some("/etc/ssl/collector-ca.pem".into());
    broker.user = Some("cars".into());
    broker.password = Some(Hidden::new("secret"));
    broker.password_file = Some("/run/secrets/broker-password".into());
    broker.ca_file = Some("/etc/ssl/broker-ca.pem".into());
    broker.client_cert = Some("/etc/ssl/cars.pem".into());
    broker.client_key = Some("/etc/ssl/cars.key".into());
    broker.management = Some("http://host:15672".parse().unwrap());
    expected.channel.get_mut(&name("car.commands")).unwrap().attribute_prefix = Some(Prefix::CloudEventsColon);
    assert_eq!(config, expected);

    // A key that the file forgot would have its default all the same, so the file itself is asked for each.
    let text = uncommented().parse::<toml_edit::DocumentMut>().unwrap();
    let mut keys = 0;
    for (path, value) in leaves(&expected.show_json()) {
        let item = path.iter().try_fold(text.as_item(), |at, part| at.get(part.as_str()));
        assert!(item.is_some(), "config/pitcrew.toml has no {path:?}, default {value}");
        keys += 1;
    }
    assert!(keys > 30, "{keys}");
    assert_eq!(keys, uncommented().lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count());
}

fn leaves(json: &serde_json::Value) -> Vec<(Vec<String>, serde_json::Value)> {
    match json {
        serde_json::Value::Object(map) => {
            let below = map.iter().flat_map(|(key, value)| {
                leaves(value).into_iter().map(|(path, leaf)| ([vec![key.clone()], path].concat(), leaf))
            });
            below.collect()
        }
        leaf => vec![(Vec::new(), leaf.clone())],
    }
}

#[test]
fn every_setting_of_the_reference_file_has_a_comment_above_it() {
    let text = reference();
    let lines: Vec<_> = text.lines().collect();
    for pair in lines.windows(2) {
        let setting = pair[1].trim_start_matches('#');
        if pair[1].starts_with("# ") || !setting.contains(" = ") {
            continue;
        }
        assert!(pair[0].starts_with("# "), "no comment above `{}`", pair[1]);
    }
}

// Properties

mod generated {
    use super::*;
    use pitcrew::config::{
        BrokerUrl, GroupProtocol, KafkaConfig, Name, OnLost, Retention, RetryPolicy, Sasl, Secret, StoreConfig,
        TelemetryConfig, TooOld, TransportConfig, Unrouted, WorkerConfig,
    };
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use proptest::sample::select;

    fn a_name() -> impl Strategy<Value = Name> {
        "[a-z0-9.-]{1,12}".prop_map(|text| text.parse().unwrap())
    }

    fn a_duration() -> impl Strategy<Value = Duration> {
        let round = select(vec![1_u64, 1_000, 60_000, 3_600_000, 86_400_000]);
        (0_u64..36_500, round).prop_map(|(number, unit)| Duration::from_millis(number * unit))
    }

    /// What a file can hold: no null, no number beyond 64 bits with a sign.
    fn own_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            proptest::num::f64::NORMAL.prop_map(Into::into),
            any::<String>().prop_filter("no url", |text| !text.contains("://")).prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Into::into),
                btree_map(own_key(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    /// Keys of one to three letters of any alphabet: neither a key of the runtime nor the name of a secret.
    fn own_key() -> impl Strategy<Value = String> {
        "\\PC{1,3}".prop_filter("a secret", |key| !key.to_ascii_lowercase().contains("pwd"))
    }

    fn handler() -> impl Strategy<Value = HandlerConfig> {
        let own = btree_map(own_key(), own_value(), 0..4).prop_map(|map| map.into_iter().collect());
        let (deadline, concurrency) = (proptest::option::of(a_duration()), proptest::option::of(0_usize..=1_000_000));
        (deadline, concurrency, select(Dedup::ALL), own).prop_map(|(deadline, concurrency, dedup, own)| HandlerConfig {
            deadline,
            concurrency,
            dedup,
            own,
        })
    }

    fn retry() -> impl Strategy<Value = RetryPolicy> {
        (0_u32..=1_000_000, a_duration(), a_duration(), vec(a_duration(), 0..12), a_duration()).prop_map(
            |(attempts, first, max, tiers, give_up_after)| RetryPolicy { attempts, first, max, tiers, give_up_after },
        )
    }

    fn channel() -> impl Strategy<Value = ChannelConfig> {
        let prefix = proptest::option::of(select(Prefix::ALL.to_vec()));
        let choices = (select(Ordering::ALL), select(TooOld::ALL), select(Unrouted::ALL), prefix);
        (a_name(), 0_usize..=1_000_000, a_duration(), choices, retry()).prop_map(
            |(transport, concurrency, deadline, (ordering, too_old, unrouted, attribute_prefix), retry)| {
                ChannelConfig {
                    transport,
                    types: Vec::new(),
                    concurrency,
                    deadline,
                    ordering,
                    too_old,
                    unrouted,
                    attribute_prefix,
                    retry,
                }
            },
        )
    }

    fn kafka() -> impl Strategy<Value = KafkaConfig> {
        let counts = (0_usize..=1_000_000, 0_usize..=1_000_000, 0_usize..=1_000_000);
        let choices = (select(GroupProtocol::ALL), select(OnLost::ALL), select(Sasl::ALL), "[a-z{}$-]{0,9}");
        (choices, counts, a_duration(), a_duration()).prop_map(
            |(
                (group_protocol, on_lost, sasl, group_instance_id),
                (partitions, retry_partitions, replication),
                topic_retention,
                session_timeout,
            )| {
                KafkaConfig {
                    partitions,
                    retry_partitions,
                    replication,
                    topic_retention,
                    group_protocol,
                    session_timeout,
                    on_lost,
                    sasl,
                    group_instance_id,
                }
            },
        )
    }

    fn transport() -> impl Strategy<Value = TransportConfig> {
        let url = prop_oneof![
            Just(BrokerUrl::Embedded),
            "amqps?://([a-z]{1,5}(:[!-~]{0,8})?@)?[a-z.]{1,9}(:[0-9]{1,5})?(/[a-z%2f]{0,4})?"
                .prop_map(|url| BrokerUrl::Amqp(Secret::new(url))),
            "kafkas?://([a-z]{1,5}(:[!-~]{0,8})?@)?[a-z.]{1,9}(:[0-9]{1,5})?(,[a-z.]{1,9}:[0-9]{1,5}){0,2}"
                .prop_map(|url| BrokerUrl::Kafka(Secret::new(url))),
        ];
        let ca_file = proptest::option::of("[a-z/]{1,12}\\.pem".prop_map(Into::into));
        (url, select(TransportKind::ALL), any::<bool>(), ca_file, kafka()).prop_map(
            |(url, kind, declare, ca_file, kafka)| {
                // For a RabbitMQ they would be refused.
                let is_rabbitmq = [url.kind(), kind].contains(&TransportKind::Rabbitmq);
                let kafka = if is_rabbitmq { KafkaConfig::default() } else { kafka };
                // A section of kind embedded with another url is a problem for `check`; it loads as well.
                TransportConfig { kind, url, declare, ca_file, kafka, ..TransportConfig::default() }
            },
        )
    }

    fn store() -> impl Strategy<Value = StoreConfig> {
        let url = prop_oneof![
            Just(StoreUrl::Memory),
            "[a-zA-Z0-9_./ äß-]{0,20}[a-z]".prop_map(StoreUrl::sqlite),
            "postgres(ql)?://([a-z]{1,5}(:[!-~]{0,8})?@)?[a-z.]{1,9}/[a-z]{1,5}([?](sslmode|password|x)=[a-z]{0,5}){0,1}"
                .prop_map(|url| StoreUrl::Postgres(Secret::new(url))),
        ];
        let schema = "[a-z_][a-z0-9_]{0,62}".prop_filter("of Postgres", |schema| !schema.starts_with("pg_"));
        let retention = (a_duration(), a_duration(), a_duration());
        (url, schema, retention).prop_map(|(url, schema, (inbox, dead_letters, audit))| StoreConfig {
            url,
            schema,
            retention: Retention { inbox, dead_letters, audit },
        })
    }

    fn worker() -> impl Strategy<Value = WorkerConfig> {
        let count = || 0_usize..=1_000_000;
        let size = || any::<u32>().prop_map(|bytes| bytes as usize);
        (a_duration(), a_duration(), a_duration(), size(), count(), size(), count(), count()).prop_map(
            |(start_timeout, drain_timeout, ack_timeout, payload_limit, finished, in_flight_bytes, commits, batch)| {
                WorkerConfig {
                    start_timeout,
                    drain_timeout,
                    ack_timeout,
                    payload_limit,
                    finished,
                    in_flight_bytes,
                    commits,
                    batch,
                }
            },
        )
    }

    fn telemetry() -> impl Strategy<Value = TelemetryConfig> {
        let endpoint = proptest::option::of(
            "https?://[a-z.]{1,9}(:[0-9]{1,5})?(/[a-z]{0,4})?".prop_map(|url| url.parse().unwrap()),
        );
        let ca_file = proptest::option::of("[a-z/]{1,12}\\.pem".prop_map(Into::into));
        (endpoint, ca_file, any::<bool>(), any::<bool>(), 0_f64..=1., a_duration()).prop_map(
            |(endpoint, ca_file, traces, metrics, sample, interval)| TelemetryConfig {
                endpoint,
                ca_file,
                traces,
                metrics,
                sample,
                interval,
            },
        )
    }

    fn config() -> impl Strategy<Value = Config> {
        let head = (a_name(), select(Guarantees::ALL), vec(a_name(), 0..3));
        let named = (
            btree_map(a_name(), transport(), 0..3),
            btree_map(a_name(), channel(), 0..3),
            btree_map("[a-zA-Z.]{1,20}", handler(), 0..3),
        );
        let audit = proptest::option::of("[a-z/]{1,12}".prop_map(Into::into));
        let audit = audit.prop_map(|sink| pitcrew::config::AuditConfig { sink });
        (head, store(), (audit, worker()), telemetry(), named).prop_map(
            |(head, store, (audit, worker), telemetry, named)| {
                let (service, guarantees, replyto_allowed) = head;
                let (mut transport, channel, handlers) = named;
                // The defaults always bring this one.
                transport.entry(name("default")).or_default();
                let http = pitcrew::config::HttpConfig::default();
                Config {
                    service,
                    guarantees,
                    replyto_allowed,
                    store,
                    audit,
                    worker,
                    http,
                    telemetry,
                    transport,
                    channel,
                    handlers,
                }
            },
        )
    }

    /// The configuration as it looks when its passwords are `***`.
    fn masked(mut config: Config) -> Config {
        config.store.url = config.store.url.to_string().parse().unwrap();
        for transport in config.transport.values_mut() {
            transport.url = transport.url.to_string().parse().unwrap();
        }
        config
    }

    proptest! {
        #[test]
        fn what_is_shown_loads_to_the_same_without_the_secrets(config in config()) {
            let loaded = case().file("pitcrew.toml", &config.show()).loads();
            prop_assert_eq!(loaded, masked(config));
        }

        #[test]
        fn any_text_in_a_file_is_read_or_refused(text in "(\\[(channel|store|worker|handlers)(\\.[a-zA-Z]{1,3})?\\]|[a-z]{1,3} = ([0-9.\"a\\[\\]{}=-]{1,6})|url = \\PC{0,5}|\n){0,12}") {
            _ = Config::load(&case().file("pitcrew.toml", &text).sources);
        }

        #[test]
        fn any_variable_is_read_or_refused(name in "PITCREW_[A-Z_a-z.]{0,20}", value in "\\PC{0,12}") {
            _ = Config::load(&case().env(&name, &value).sources);
        }
    }
}
