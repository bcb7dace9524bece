//! Who logs in, and what he may: against brokers of these tests' own. Everything comes from the configuration, as it does in a
//! worker, and every refusal names the setting and hides the password.

use crate::{
    bed::{Bed, work},
    node::Node,
};
use pitcrew::{
    config::{BrokerUrl, Config, Sasl, Secret, TransportConfig},
    transport::{Standing, Transport, TransportError},
    worker::open_transport,
};
use std::sync::Arc;

fn transport(url: String, change: impl FnOnce(&mut TransportConfig)) -> Arc<dyn Transport> {
    let mut config = Config::default();
    let of_url = config.transport.values_mut().next().expect("there is a default");
    of_url.url = BrokerUrl::Kafka(Secret::new(url));
    of_url.kafka.partitions = 1;
    change(of_url);
    open_transport(&config).expect("the files are there")
}

/// Why nothing can be declared.
async fn refusal(bed: &Bed, transport: &dyn Transport) -> String {
    let refused = transport.declare(&bed.endpoints()).await;
    let Err(TransportError::Unfit(why) | TransportError::Away(why)) = refused else { panic!("{refused:?}") };
    assert!(!why.contains("secret"), "{why}");
    why
}

/// A message goes out and comes in.
async fn works(bed: &Bed, transport: &dyn Transport) {
    transport.declare(&bed.endpoints()).await.expect("it may");
    let mut consumer = transport.subscribe(&bed.queue).await.expect("it may");
    bed.send(transport, 1, 10).await;
    work(&mut *consumer, 1).await;
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_nothing_is_told_what_he_needs() {
    let (Some(bed), Some(node)) = (Bed::new(), Node::start(&[], "").await) else { return };
    let as_user = |login: &str| {
        transport(format!("kafka://{login}@127.0.0.1:{}", node.open()), |transport| {
            transport.kafka.sasl = Sasl::Plain;
        })
    };
    works(&bed, &*as_user("app:app-secret")).await;
    let stranger = as_user("stranger:stranger-secret");
    let (name, why) = (&bed.queue.name, refusal(&bed, &*stranger).await);
    let needs = [
        format!("may not use topics: {name}, {name}.dead, {name}.retry.1s"),
        format!("may not use group `{name}`: give it READ"),
        format!("may not use group `{name}.retry`"),
    ];
    assert!(needs.iter().all(|needs| why.contains(needs)), "{why}");
    let seen = stranger.inspect(&bed.endpoints()).await.expect("he may ask");
    assert!(seen.findings.iter().all(|finding| finding.standing == Standing::Unseen), "{seen:?}");
    assert!(seen.reach.contains("may not see 3 topics: give it DESCRIBE"), "{seen:?}");

    let why = refusal(&bed, &*as_user("app:wrong-secret")).await;
    assert!(why.contains("refuse user `app`") && why.contains("password_file"), "{why}");
}

#[cfg(feature = "kafka-tls")]
mod tls {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use std::path::PathBuf;

    const SETTINGS: &str = "
listener.name.tls.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.tls.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_app=app-secret;
listener.name.tls.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.tls.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=@DIR/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=@DIR/ca.pem
listener.name.certified.ssl.client.auth=required
";

    /// Who signs.
    struct Authority {
        certificate: String,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new([]).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "authority");
            let key = KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("it signs itself").pem();
            Self { certificate, issuer: Issuer::new(params, key) }
        }

        /// A certificate of this name and its key, in PEM.
        fn sign(&self, name: &str) -> (String, String) {
            let mut params = CertificateParams::new([name.to_owned(), "127.0.0.1".into()]).expect("names");
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().expect("a key");
            (params.signed_by(&key, &self.issuer).expect("it is signed").pem(), key.serialize_pem())
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_worker_proves_who_it_is_and_asks_the_broker_for_the_same() {
        let Some(bed) = Bed::new() else { return };
        let (authority, dir) = (Authority::new(), tempfile::tempdir().expect("a folder"));
        let (certificate, key) = authority.sign("localhost");
        let files = [("ca.pem", authority.certificate.as_str()), ("server.pem", &format!("{key}{certificate}"))];
        let Some(node) = Node::start(&files, SETTINGS).await else { return };
        let write = |name: &str, text: &str| -> PathBuf {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("a file is written");
            path
        };
        let (ca, wrong) = (write("ca.pem", &authority.certificate), write("wrong.pem", &Authority::new().certificate));
        let password = write("password", "app-secret\n");
        let (certificate, key) = authority.sign("cars");
        let (own, own_key) = (write("cars.pem", &certificate), write("cars.key", &key));

        // Names and passwords, from the url and from a file.
        let url = |login: &str, port| format!("kafkas://{login}127.0.0.1:{port}");
        for sasl in Sasl::ALL {
            let settings = |transport: &mut TransportConfig| {
                transport.ca_file = Some(ca.clone());
                transport.user = Some("app".into());
                transport.password_file = Some(password.clone());
                transport.kafka.sasl = *sasl;
            };
            works(&bed, &*transport(url("", node.tls()), settings)).await;
        }
        let trusting = |transport: &mut TransportConfig| transport.ca_file = Some(ca.clone());
        works(&bed, &*transport(url("app:app-secret@", node.tls()), trusting)).await;
        let why = refusal(&bed, &*transport(url("app:wrong-secret@", node.tls()), trusting)).await;
        assert!(why.contains("refuse user `app`") && why.contains("password_file"), "{why}");

        // The broker's certificate.
        let astray = transport(url("app:app-secret@", node.tls()), |transport| transport.ca_file = Some(wrong));
        let of_nobody = transport(url("app:app-secret@", node.tls()), |_| {});
        for transport in [astray, of_nobody] {
            let why = refusal(&bed, &*transport).await;
            assert!(why.contains("ca_file") && why.contains("certificate"), "{why}");
        }
        let why = refusal(&bed, &*transport(format!("kafka://127.0.0.1:{}", node.tls()), |_| {})).await;
        assert!(why.contains("is reached by kafkas://"), "{why}");

        let why = refusal(&bed, &*transport(format!("kafka://127.0.0.1:{}", node.open()), |_| {})).await;
        assert!(why.contains("is reached by kafka://user:password@host"), "{why}");

        // Our own.
        works(
            &bed,
            &*transport(url("", node.certified()), |transport| {
                trusting(transport);
                (transport.client_cert, transport.client_key) = (Some(own), Some(own_key));
            }),
        )
        .await;
        let why = refusal(&bed, &*transport(url("", node.certified()), trusting)).await;
        assert!(why.contains("client_cert"), "{why}");
    }
}
