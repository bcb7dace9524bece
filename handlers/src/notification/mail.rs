//! Channel Adapter: one letter as a mail, by SMTP.

use super::{contract::Letter, template::line};
use crate::{http::use_ring, secret::Secret};
use anyhow::{Context as _, ensure};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, SinglePart},
    transport::smtp::{
        Error,
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use pitcrew::Outage;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};
use tracing::{error, info, warn};

/// How long it may take to be let in.
const GREETING: Duration = Duration::from_secs(10);
/// How long it may take from then until the mail is taken. Both together are less than a handler's deadline.
const TAKING: Duration = Duration::from_secs(15);

/// `[handlers."car.SendMail"]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailConfig {
    /// The server. Absent: mails are dead letters until one is set.
    pub host: Option<String>,
    /// Its port; by default 465 with `tls`, 587 with `starttls`, 25 with `none`.
    pub port: Option<u16>,
    /// How the connection is kept private.
    pub security: Security,
    /// PEM: whom to trust beside the authorities that everybody trusts.
    pub ca_file: Option<PathBuf>,
    /// Who logs in.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// A file that holds it, in place of `password`.
    pub password_file: Option<PathBuf>,
    /// Who writes, e.g. `Cars <cars@example.org>`.
    pub from: String,
}
impl Default for MailConfig {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            security: Security::Tls,
            ca_file: None,
            user: None,
            password: None,
            password_file: None,
            from: "Cars <cars@localhost>".into(),
        }
    }
}

/// How the connection to the server is kept private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS after a greeting in the clear; without it nothing is sent.
    StartTls,
    /// None: for a server on the same machine.
    None,
}

/// Why a mail did not go.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// Nobody has said which server.
    #[error("no mail server is set: [handlers.\"car.SendMail\"] host")]
    NotSet,
    /// This mail, today and tomorrow.
    #[error("the mail server refused: {0}")]
    Refused(String),
    /// This mail, later.
    #[error("the mail server does not take it now: {0}")]
    Later(String),
    /// It takes no mail of ours until somebody acts.
    #[error("the mail server does not take our login: {0}")]
    Login(String),
    /// Nothing was sent.
    #[error("the mail server was not reached: {0}")]
    Unreachable(String),
    /// It was lost while it was given the mail: whether it took it nobody knows.
    #[error(
        "the mail server was lost in the middle: {0}; the mail may have gone: look into the server's log before a replay"
    )]
    InDoubt(String),
}

impl MailError {
    /// Whether it is the server's failure, and not about this mail.
    pub fn outage(&self) -> Option<Outage> {
        match self {
            Self::Login(_) | Self::Unreachable(_) => Some(Outage::Failed),
            Self::NotSet | Self::Refused(_) | Self::Later(_) | Self::InDoubt(_) => None,
        }
    }
}

/// One server.
pub struct Smtp {
    server: Option<AsyncSmtpTransport<Tokio1Executor>>,
    from: Mailbox,
    /// Our login was refused, and people were told so.
    alert: AtomicBool,
}
impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Checks the settings. No connection is made.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub fn new(config: MailConfig) -> anyhow::Result<Self> {
        let from = config.from.parse().with_context(|| format!("from: `{}` is no address", config.from))?;
        let password = Secret::given("password", config.password, config.password_file.as_deref())?;
        ensure!(config.user.is_some() == password.is_some(), "give both user and password, or none of them");
        let Some(host) = config.host else {
            warn!("no `host` of a mail server is set: mails become dead letters");
            return Ok(Self { server: None, from, alert: AtomicBool::new(false) });
        };
        ensure!(
            !host.is_empty() && !host.contains(['/', ':', '@']),
            "host: `{host}` is no name of a machine; the port is `port`"
        );
        if config.security == Security::None && password.is_some() && !matches!(&*host, "localhost" | "127.0.0.1") {
            warn!(host, "the password of the mail server goes over the network in the clear");
        }
        let port = config.port.unwrap_or(match config.security {
            Security::Tls => 465,
            Security::StartTls => 587,
            Security::None => 25,
        });
        let tls = match config.security {
            Security::None => Tls::None,
            Security::Tls => Tls::Wrapper(parameters(&host, config.ca_file)?),
            Security::StartTls => Tls::Required(parameters(&host, config.ca_file)?),
        };
        let mut server =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port).tls(tls).timeout(Some(GREETING));
        if let (Some(user), Some(password)) = (config.user, password) {
            server = server.credentials(Credentials::new(user, password.expose().to_owned()));
        }
        Ok(Self { server: Some(server.build()), from, alert: AtomicBool::new(false) })
    }

    /// The letter as a mail to `address`.
    ///
    /// # Errors
    /// It can be none, today or tomorrow.
    pub fn compose(&self, letter: &Letter, address: &str) -> anyhow::Result<Message> {
        let address: Address = address.parse().with_context(|| format!("no address: {}", address.escape_debug()))?;
        let mail = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(Some(line(&letter.to.name)), address))
            .subject(line(&letter.subject))
            // The letter's: programs show a second one of the same ID as the same mail.
            .message_id(Some(format!("<{}@{}>", word(&letter.id), self.from.email.domain())));
        Ok(mail.singlepart(SinglePart::plain(letter.text.clone()))?)
    }

    /// Returns when the server has taken it.
    ///
    /// # Errors
    /// See [`MailError`].
    pub async fn send(&self, mail: Message) -> Result<(), MailError> {
        let server = self.server.as_ref().ok_or(MailError::NotSet)?;
        // First whether it lets us in, which may be asked again as often as one likes: only then is something at stake. The
        // connection is the same, out of the pool.
        match tokio::time::timeout(GREETING, server.test_connection()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Err(MailError::Unreachable("it does not greet".into())),
            Ok(Err(error)) => return Err(self.judge(&error, MailError::Unreachable)),
            Err(_) => return Err(MailError::Unreachable(format!("it took more than {GREETING:?}"))),
        }
        if self.alert.swap(false, Relaxed) {
            info!(alert = "mail_credentials", "the mail server takes our login again");
        }
        match tokio::time::timeout(TAKING, server.send(mail)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.judge(&error, MailError::InDoubt)),
            Err(_) => Err(MailError::InDoubt(format!("it took more than {TAKING:?}"))),
        }
    }

    /// `silent`: what follows if it said nothing.
    fn judge(&self, error: &Error, silent: fn(String) -> MailError) -> MailError {
        let said = error.to_string();
        match error.status().map(|code| code.to_string()).as_deref() {
            Some("454" | "530" | "534" | "535" | "538") => {
                if !self.alert.swap(true, Relaxed) {
                    error!(alert = "mail_credentials", said, "the mail server does not take our login: renew it");
                }
                MailError::Login(said)
            }
            // It is closing down, or too busy for anybody.
            Some("421") => MailError::Unreachable(said),
            Some(code) if code.starts_with('5') => MailError::Refused(said),
            Some(_) => MailError::Later(said),
            None => silent(said),
        }
    }
}

fn parameters(host: &str, ca: Option<PathBuf>) -> anyhow::Result<TlsParameters> {
    use_ring();
    let mut tls = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::WebpkiRoots);
    if let Some(file) = ca {
        let named = || format!("ca_file `{}`", file.display());
        let pem = std::fs::read(&file).with_context(named)?;
        tls = tls.add_root_certificate(Certificate::from_pem(&pem).with_context(named)?);
    }
    tls.build_rustls().context("setting up TLS")
}

/// An ID as a word that a header can hold.
fn word(id: &str) -> String {
    if !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return id.to_owned();
    }
    Sha256::digest(id).iter().map(|byte| format!("{byte:02x}")).collect()
}
