//! TLS, and who logs in: against listeners of nodes of these tests' own. Everything comes from the configuration, as it does in a
//! worker, and every refusal names the setting and hides what is secret.

use super::{
    bench::{Broker, unique},
    node::Node,
    set_up::endpoints,
};
use pitcrew::{
    config::{BrokerUrl, Config, Hidden, Secret, TransportConfig},
    transport::{Standing, TransportError},
    worker::open_transport,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;

/// Who signs.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("it signs itself").pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate of this name and its key, in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("it is signed").pem(), key.serialize_pem())
    }
}

const SETTINGS: &str = "
listeners.ssl.1 = 127.0.0.1:@TLS
ssl_options.cacertfile = @DIR/ca.pem
ssl_options.certfile = @DIR/server.pem
ssl_options.keyfile = @DIR/server.key
ssl_options.verify = verify_peer
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
ssl_cert_login_from = common_name
management.ssl.ip = 127.0.0.1
management.ssl.port = @MANAGEMENT
management.ssl.cacertfile = @DIR/ca.pem
management.ssl.certfile = @DIR/server.pem
management.ssl.keyfile = @DIR/server.key
";

/// A node behind TLS and the files of its clients.
struct Bed {
    node: Node,
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Bed {
    /// `demanding`: nobody comes in without a certificate.
    async fn start(broker: Broker, demanding: bool) -> Option<Self> {
        let authority = Authority::new();
        let (certificate, key) = authority.sign("localhost");
        let settings = format!("{SETTINGS}ssl_options.fail_if_no_peer_cert = {demanding}\n");
        let files = [
            ("extra.conf", settings.as_str()),
            ("plugins", "[rabbitmq_auth_mechanism_ssl, rabbitmq_management].\n"),
            ("ca.pem", &authority.certificate),
            ("server.pem", &certificate),
            ("server.key", &key),
        ];
        let node = Node::with(broker, &files).await?;
        let bed = Self { node, dir: tempfile::tempdir().expect("a folder"), authority };
        bed.write("ca.pem", &bed.authority.certificate);
        Some(bed)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("a file is written");
        path
    }

    /// The certificate of `name`, signed by `authority`, as its client's.
    fn own(&self, transport: &mut TransportConfig, authority: &Authority, name: &str) {
        let (certificate, key) = authority.sign(name);
        transport.client_cert = Some(self.write("own.pem", &certificate));
        transport.client_key = Some(self.write("own.key", &key));
    }

    /// `user` is `user:password@`, or empty.
    fn transport(&self, user: &str) -> TransportConfig {
        let url = format!("amqps://{user}localhost:{}", self.node.tls_port());
        let url = BrokerUrl::Amqp(Secret::new(url));
        TransportConfig { kind: url.kind(), url, ca_file: Some(self.dir.path().join("ca.pem")), ..Default::default() }
    }
}

/// A start of a worker, up to its first message.
async fn start(transport: TransportConfig, name: &str) -> Result<(), TransportError> {
    let problems = transport.check("default");
    assert_eq!(problems, []);
    let config = Config { transport: [("default".parse().expect("a name"), transport)].into(), ..Config::default() };
    let transport = open_transport(&config).map_err(|error| TransportError::Unfit(format!("{error:#}")))?;
    let declared = transport.declare(&endpoints(name)).await;
    transport.close().await;
    declared
}

/// It is refused for good, in these words, and without a secret.
async fn refused(transport: TransportConfig, words: &[&str]) {
    let why = start(transport, "refused").await.expect_err("it is refused");
    assert!(matches!(why, TransportError::Unfit(_)), "no time will mend it: {why:?}");
    let why = why.to_string();
    for word in words {
        assert!(why.contains(word), "`{word}` is not in: {why}");
    }
    assert!(!why.contains("s3cret") && !why.contains("PRIVATE"), "{why}");
}

async fn who_comes_in_over_tls_and_who_does_not(broker: Broker) {
    let Some(bed) = Bed::start(broker, false).await else { return };
    let (node, name) = (&bed.node, unique());
    node.ctl(&["add_user", "app", "s3cret"]);
    node.ctl(&["set_permissions", "app", "^t-", "^(t-|amq.default)", "^t-"]);
    node.ctl(&["add_user", "cars", "unused"]);
    node.ctl(&["clear_password", "cars"]);
    node.ctl(&["set_permissions", "cars", "^t-", "^(t-|amq.default)", "^t-"]);

    start(bed.transport("app:s3cret@"), &name).await.expect("it trusts its authority");
    let by_file = |text: &str| TransportConfig {
        user: Some("app".into()),
        password_file: Some(bed.write("password", text)),
        ..bed.transport("")
    };
    start(by_file("s3cret\n"), &name).await.expect("the password is the file's");
    let password = Some(Hidden::new("s3cret"));
    start(TransportConfig { password, ..bed.transport("app@") }, &name).await.expect("the password is a setting's");

    refused(by_file("s3cret but wrong"), &["refuses user `app`", "`password_file`"]).await;
    refused(bed.transport("app:s3cret-too@"), &["refuses user `app`", "`url`"]).await;
    refused(bed.transport("app@"), &["no password is given", "`password_file`", "`client_cert`"]).await;
    // Said at the start: the names are outside of what it may touch.
    let why = start(bed.transport("app:s3cret@"), "elsewhere").await.expect_err("it has no right").to_string();
    assert!(why.contains("does not permit") && why.contains("elsewhere"), "{why}");

    let stranger = bed.write("stranger.pem", &Authority::new().certificate);
    refused(
        TransportConfig { ca_file: Some(stranger), ..bed.transport("app:s3cret@") },
        &["`ca_file`", "signed by nobody"],
    )
    .await;
    refused(TransportConfig { ca_file: None, ..bed.transport("app:s3cret@") }, &["`ca_file`"]).await;
    let nonsense = bed.write("nonsense.pem", "no certificate");
    refused(TransportConfig { ca_file: Some(nonsense), ..bed.transport("app:s3cret@") }, &["`ca_file`", "PEM"]).await;
    let missing = Some(PathBuf::from("/nowhere/ca.pem"));
    refused(TransportConfig { ca_file: missing, ..bed.transport("") }, &["/nowhere/ca.pem", "ca_file"]).await;
    let url = |text: String| TransportConfig { url: BrokerUrl::Amqp(Secret::new(text)), ..bed.transport("") };
    let by_number = url(format!("amqps://app:s3cret@127.0.0.1:{}", node.tls_port()));
    refused(by_number, &["not for `127.0.0.1`", "localhost", "`url`"]).await;
    let plain = url(format!("amqps://app:s3cret@localhost:{}", node.port));
    refused(plain, &["does not speak TLS", "`url`"]).await;

    // EXTERNAL: the rights are those of the user whom the certificate names, and there is no other way in for that one.
    let mut by_certificate = bed.transport("");
    bed.own(&mut by_certificate, &bed.authority, "cars");
    start(by_certificate.clone(), &name).await.expect("the certificate is the login");
    let why = start(by_certificate, "elsewhere").await.expect_err("it has no right").to_string();
    assert!(why.contains("`cars`") || why.contains("'cars'"), "{why}");
    let mut unknown = bed.transport("");
    bed.own(&mut unknown, &bed.authority, "nobody");
    refused(unknown, &["`client_cert`", "EXTERNAL"]).await;
    let mut mixed = bed.transport("");
    bed.own(&mut mixed, &bed.authority, "cars");
    mixed.client_key = Some(bed.write("another.key", &bed.authority.sign("cars").1));
    refused(mixed, &["`client_cert`", "`client_key`", "do not go together"]).await;
    the_management_api_is_asked_over_tls(&bed, &name).await;
}

async fn the_management_api_is_asked_over_tls(bed: &Bed, name: &str) {
    let management =
        |host: &str| Some(format!("https://{host}:{}", bed.node.management_port()).parse().expect("a URL"));
    let reach = async |transport: TransportConfig| {
        let config =
            Config { transport: [("default".parse().expect("a name"), transport)].into(), ..Config::default() };
        let transport = open_transport(&config).expect("it opens");
        let seen = transport.inspect(&endpoints(name)).await.expect("it looks");
        transport.close().await;
        assert!(seen.findings.iter().any(|finding| finding.standing == Standing::Fits), "{seen:?}");
        seen.reach
    };
    let guest = bed.transport("guest:guest@");
    assert_eq!(reach(TransportConfig { management: management("localhost"), ..guest.clone() }).await, "");
    // What is wrong there takes nothing from what AMQP shows.
    let told = reach(TransportConfig { management: management("127.0.0.1"), ..guest }).await;
    assert!(told.contains("`management`") && told.contains("not for `127.0.0.1`"), "{told}");
}

async fn a_client_certificate_may_be_demanded(broker: Broker) {
    let Some(bed) = Bed::start(broker, true).await else { return };
    let name = unique();
    let mut known = bed.transport("guest:guest@");
    bed.own(&mut known, &bed.authority, "whoever");
    start(known, &name).await.expect("it shows its certificate, and logs in by password");
    refused(bed.transport("guest:guest@"), &["wants a client certificate", "`client_cert`", "`client_key`"]).await;
    let mut stranger = bed.transport("guest:guest@");
    bed.own(&mut stranger, &Authority::new(), "whoever");
    refused(stranger, &["`client_cert`", "does not take"]).await;
}

super::on_each_version! {
    who_comes_in_over_tls_and_who_does_not
    a_client_certificate_may_be_demanded
}
