//! The management API (HTTP, JSON): what AMQP does not show. Optional, asked by operators and for statistics only: a worker never
//! waits for it.

use super::{
    login::{How, Login},
    tls::{self, Tls},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing::{debug, warn};

/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A broker with ten thousand queues answers some megabytes.
const MOST_BYTES: u64 = 64 << 20;

/// What is asked of a queue.
const COLUMNS: &str = "columns=name,arguments,policy,operator_policy,effective_policy_definition,messages,messages_dlx,\
                       messages_unacknowledged,head_message_timestamp";

/// A queue, as far as it is asked for. The numbers are statistics: seconds old, absent for a queue that is new.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) arguments: Map<String, Value>,
    pub(super) policy: Option<String>,
    pub(super) operator_policy: Option<String>,
    /// Both policies together; some versions write an empty one as a list.
    pub(super) effective_policy_definition: Value,
    pub(super) messages: Option<u64>,
    /// Taken out of the queue by the broker, and not taken by where they go.
    pub(super) messages_dlx: Option<u64>,
    pub(super) messages_unacknowledged: Option<u64>,
    /// Seconds since 1970, of the oldest message. Only classic queues have it, of messages with a timestamp.
    pub(super) head_message_timestamp: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Exchange {
    pub(super) name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Binding {
    /// Empty: the default exchange, which binds every queue by its name.
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) destination_type: String,
    pub(super) routing_key: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) state: String,
}

/// A vhost at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) queues: Vec<Queue>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) bindings: Vec<Binding>,
    /// `None`: 3.x shows them to administrators only.
    pub(super) flags: Option<Vec<Flag>>,
}

/// Why the API gave no answer, and what mends it.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    NotPermitted(String),
    #[error("{0}")]
    NoAnswer(String),
    /// What was asked for does not exist.
    #[error("there is no such thing")]
    NotThere,
}

/// A client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Management(Arc<Inner>);

struct Inner {
    agent: ureq::Agent,
    /// Without a login: may be shown.
    base: String,
    user: String,
    authorization: String,
    vhost: String,
    /// It was told that the API does not answer.
    told: AtomicBool,
}

impl Management {
    /// `url` may have a login of its own, else it is the broker's.
    ///
    /// # Errors
    /// There is no login.
    pub(super) fn new(url: &str, login: &Login, vhost: &str, tls: Option<&Tls>) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (own, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = match (own, &login.how) {
            (Some(own), _) => {
                let (user, password) = own.split_once(':').unwrap_or((own, ""));
                (decoded(user), decoded(password))
            }
            (None, How::Password(password)) => (login.user.clone(), password.expose().to_owned()),
            (None, _) => {
                return Err(
                    "`management` of the transport needs user:password@ of its own: the broker's login has no \
                            password"
                        .into(),
                );
            }
        };
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            // Where AMQP goes directly, this does too.
            .proxy(None);
        if let Some(tls) = tls {
            config = config.tls_config(tls.http()?);
        }
        Ok(Self(Arc::new(Inner {
            agent: config.build().new_agent(),
            base: format!("{scheme}://{}", host.trim_end_matches('/')),
            authorization: format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))),
            user,
            vhost: vhost.to_owned(),
            told: AtomicBool::new(false),
        })))
    }

    /// All that there is to see.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, Refusal> {
        self.blocking(|api| {
            let vhost = encoded(&api.vhost);
            Ok(Snapshot {
                queues: api.get(&format!("queues/{vhost}?{COLUMNS}"))?,
                exchanges: api.get(&format!("exchanges/{vhost}?columns=name"))?,
                bindings: api.get(&format!("bindings/{vhost}"))?,
                flags: match api.get("feature-flags") {
                    Ok(flags) => Some(flags),
                    Err(Refusal::NotPermitted(_) | Refusal::NotThere) => None,
                    Err(error) => return Err(error),
                },
            })
        })
        .await
    }

    /// The statistics of these queues, as far as they exist. `None`: no answer, which is told once.
    pub(super) async fn statistics(&self, names: Vec<String>) -> Option<Vec<Queue>> {
        let asked = self.blocking(move |api| {
            let mut found = Vec::new();
            for name in &names {
                match api.get(&format!("queues/{}/{}?{COLUMNS}", encoded(&api.vhost), encoded(name))) {
                    Ok(queue) => found.push(queue),
                    Err(Refusal::NotThere) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        });
        match asked.await {
            Ok(found) => {
                self.0.told.store(false, Ordering::Relaxed);
                Some(found)
            }
            Err(why) if self.0.told.swap(true, Ordering::Relaxed) => {
                debug!(%why, "still without statistics");
                None
            }
            Err(why) => {
                warn!(%why, "without statistics of the broker; nothing else depends on them");
                None
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Inner) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let api = self.0.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&api)).await;
        asked.unwrap_or_else(|_| Err(Refusal::NoAnswer("asking the management API was broken off".into())))
    }
}

impl Inner {
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let url = format!("{}/api/{path}", self.base);
        let answer = self.agent.get(&url).header("authorization", &self.authorization).call();
        let mut answer = answer.map_err(|error| self.no_answer(&error))?;
        let body = answer.body_mut().with_config().limit(MOST_BYTES).read_to_vec();
        let body = body.map_err(|error| self.no_answer(&error))?;
        match answer.status().as_u16() {
            200 => serde_json::from_slice(&body).map_err(|_| self.stranger("something else than it should")),
            401 | 403 => Err(self.not_permitted(&body)),
            404 if serde_json::from_slice::<Value>(&body).is_ok() => Err(Refusal::NotThere),
            status => Err(self.stranger(&format!("status {status}"))),
        }
    }

    fn stranger(&self, what: &str) -> Refusal {
        Refusal::NoAnswer(format!(
            "{} answers {what}: is it RabbitMQ's management API? Check `management` of the transport",
            self.base
        ))
    }

    fn no_answer(&self, error: &ureq::Error) -> Refusal {
        let base = &self.base;
        if let ureq::Error::Io(error) = error
            && let Some(error) = tls_error(error)
        {
            let host = base.split_once("://").map_or(base.as_str(), |(_, host)| host);
            let (host, port) = host.rsplit_once(':').unwrap_or((host, "443"));
            let port = port.parse().unwrap_or(443);
            return Refusal::NoAnswer(tls::failure(error, "`management` of the transport", host, port));
        }
        let why = match error {
            ureq::Error::Timeout(_) => format!("nothing within {} s", PATIENCE.as_secs()),
            other => other.to_string(),
        };
        Refusal::NoAnswer(format!(
            "the management API at {base} does not answer ({why}): check `management` of the transport, and that the plugin \
             rabbitmq_management is enabled"
        ))
    }

    /// In the API's own words, of which each version has others.
    fn not_permitted(&self, body: &[u8]) -> Refusal {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let reason = answer["reason"].as_str().unwrap_or("no reason given");
        let (user, vhost) = (&self.user, &self.vhost);
        let mend = if reason.contains("management user") {
            format!("`rabbitmqctl set_user_tags {user} management` lets it in, or give `management` a login of its own")
        } else if reason.contains("virtual host") {
            format!("it needs a permission in vhost `{vhost}`, if only '^$' '^$' '^$'")
        } else {
            "check user and password: those of the broker, unless `management` of the transport has its own".into()
        };
        Refusal::NotPermitted(format!("the management API refuses user `{user}` ({reason}): {mend}"))
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}
