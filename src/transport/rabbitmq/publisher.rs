//! Guaranteed delivery, the broker's half: a row is published when the broker confirmed *and* routed it.

use super::{
    super::{PublishError, Published, Sending},
    convert,
    link::{self, Link},
    trouble,
};
use crate::{message::wire::Prefix, transport::Destination};
use futures::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Connection, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::{FieldTable, ShortString},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A confirm that takes longer has an unknown outcome. Half-open connections show themselves by it before a heartbeat is missed.
const CONFIRM: Duration = Duration::from_secs(10);

/// A destination waits so long for a connection, or for the end of an alarm, before its rows are told why they wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that are in flight to one destination at once.
const WINDOW: usize = 8 << 20;

/// An exchange and a routing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) exchange: String,
    pub(super) key: String,
}

/// 4.x takes no larger message unless told to.
pub(super) const MOST_BYTES: usize = 16 << 20;

type Answer = Result<Published, PublishError>;

/// Channels by destination: an error ends a channel with all that is in flight on it, and must not touch other destinations.
pub(super) struct Publisher {
    link: Link,
    channels: Mutex<HashMap<Destination, Channel>>,
}

impl Publisher {
    pub(super) fn new(link: Link) -> Self {
        Self { link, channels: Mutex::default() }
    }

    /// The answer is by position. `route` says where each row goes.
    pub(super) async fn publish(
        &self,
        to: &Destination,
        rows: &[Sending],
        prefix: Prefix,
        route: impl Fn(&Sending) -> Result<Route, PublishError>,
    ) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(rows.len());
        for window in windows(rows) {
            answers.extend(self.publish_window(to, window, prefix, &route).await);
        }
        answers
    }

    async fn publish_window(
        &self,
        to: &Destination,
        rows: &[Sending],
        prefix: Prefix,
        route: &impl Fn(&Sending) -> Result<Route, PublishError>,
    ) -> Vec<Answer> {
        let routes: Vec<_> = rows.iter().map(route).collect();
        let exchanges: HashSet<&str> = routes.iter().flatten().map(|route| route.exchange.as_str()).collect();
        let channel = match self.channel(to, &exchanges).await {
            Ok(channel) => channel,
            Err(error) => return vec![Err(error); rows.len()],
        };
        let mut sent: Vec<_> = rows.iter().map(|_| Err(Failed::Silence)).collect();
        let sends = rows.iter().zip(routes).enumerate().map(|(n, (sending, route))| {
            let channel = &channel;
            async move { (n, send(channel, sending, prefix, route).await) }
        });
        // Polled in this order for the first time, which is when the frames are written: rows leave in sequence.
        let mut sends: FuturesUnordered<_> = sends.collect();
        let confirmed = async {
            while let Some((n, answer)) = sends.next().await {
                sent[n] = answer;
            }
        };
        let _ = tokio::time::timeout(CONFIRM, confirmed).await;
        if sent.iter().any(|sent| matches!(sent, Err(Failed::Silence | Failed::Channel(_)))) {
            // It is dead, or its confirms can no longer be told apart.
            self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(to);
        }
        let returned: HashMap<String, String> = sent.iter().flatten().filter_map(Sent::returned).collect();
        let died_of = sent.iter().find_map(|sent| sent.as_ref().err().and_then(Failed::in_the_brokers_words));
        let tell = |failed: Failed| failed.tell(died_of.as_deref());
        rows.iter().zip(sent).map(|(sending, sent)| answer(sending, sent.map_err(tell)?, &returned)).collect()
    }

    /// A channel with confirms whose exchanges are there. A connection that is lost meanwhile, by the fault of another destination, says
    /// nothing about this one: the next connection is asked.
    async fn channel(&self, to: &Destination, exchanges: &HashSet<&str>) -> Result<Channel, PublishError> {
        let (connection, opened) = self.open_on_current(to, exchanges).await?;
        match opened {
            Err(PublishError::Refused(_)) if !connection.status().connected() => {
                self.open_on_current(to, exchanges).await?.1
            }
            opened => opened,
        }
    }

    async fn open_on_current(
        &self,
        to: &Destination,
        exchanges: &HashSet<&str>,
    ) -> Result<(Arc<Connection>, Result<Channel, PublishError>), PublishError> {
        let refused = |error: super::super::TransportError| PublishError::Refused(error.to_string());
        let connection = self.link.connection(PATIENCE, true).await.map_err(refused)?;
        let known = self.channels.lock().unwrap_or_else(PoisonError::into_inner).get(to).cloned();
        if let Some(channel) = known.filter(|channel| channel.status().connected()) {
            return Ok((connection, Ok(channel)));
        }
        // A connection that is cut in the middle of this leaves some of the client's questions without an answer for ever.
        let opened = tokio::time::timeout(CONFIRM, open(&connection, exchanges)).await;
        let no_answer = |_elapsed| Err(PublishError::Refused(format!("no channel within {} s", CONFIRM.as_secs())));
        let opened = opened.unwrap_or_else(no_answer);
        if let Ok(channel) = &opened {
            self.channels.lock().unwrap_or_else(PoisonError::into_inner).insert(to.clone(), channel.clone());
        }
        Ok((connection, opened))
    }
}

async fn open(connection: &Connection, exchanges: &HashSet<&str>) -> Result<Channel, PublishError> {
    for exchange in exchanges.iter().filter(|exchange| !exchange.is_empty()) {
        exists(connection, exchange).await?;
    }
    let opened = async {
        let channel = link::channel(connection).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    };
    opened.await.map_err(|error: lapin::Error| PublishError::Refused(error.to_string()))
}

/// Asked before the first publish on a channel: a missing exchange would end it, with everything in flight in doubt.
async fn exists(connection: &Connection, exchange: &str) -> Result<(), PublishError> {
    let asked = async {
        let channel = link::channel(connection).await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(exchange.into(), ExchangeKind::Direct, options, FieldTable::default()).await?;
        let _ = channel.close(200, "seen".into()).await;
        Ok(())
    };
    match asked.await {
        Ok(()) => Ok(()),
        Err(error) if trouble::is_missing(&error) => {
            Err(PublishError::Unroutable(format!("there is no exchange `{exchange}`")))
        }
        Err(error) => Err(PublishError::Refused(error.to_string())),
    }
}

/// What the broker said of one publish. A return that came with it may be another's: the client gives the oldest return to
/// whichever publish is confirmed next.
struct Sent {
    confirmed: bool,
    with: Option<(String, String)>,
}

impl Sent {
    fn returned(&self) -> Option<(String, String)> {
        self.with.clone()
    }
}

/// Why a publish was not answered.
enum Failed {
    /// It was not sent.
    Unsent(PublishError),
    Silence,
    /// Its channel ended: whatever was in flight on it, the guilty one or not, may be in its queue.
    Channel(lapin::Error),
}

impl From<PublishError> for Failed {
    fn from(error: PublishError) -> Self {
        Self::Unsent(error)
    }
}

impl Failed {
    fn in_the_brokers_words(&self) -> Option<String> {
        let Self::Channel(error) = self else { return None };
        trouble::reply(error).map(|(_, text)| text)
    }

    /// `died_of`: what the broker said when it ended the channel. Who only finds it dead is told by the client that it is.
    fn tell(self, died_of: Option<&str>) -> PublishError {
        match (self, died_of) {
            (Self::Unsent(error), _) => error,
            (Self::Silence, _) => PublishError::Unknown(format!("no confirm within {} s", CONFIRM.as_secs())),
            (Self::Channel(_), Some(why)) => PublishError::Unknown(why.into()),
            (Self::Channel(error), None) => PublishError::Unknown(error.to_string()),
        }
    }
}

async fn send(
    channel: &Channel,
    sending: &Sending,
    prefix: Prefix,
    route: Result<Route, PublishError>,
) -> Result<Sent, Failed> {
    let Route { exchange, key } = route?;
    let envelope = &sending.row.envelope;
    if envelope.data.len() > MOST_BYTES {
        return Err(
            PublishError::Permanent(format!("{} bytes are more than a broker takes", envelope.data.len())).into()
        );
    }
    let too_large = || PublishError::Permanent("its headers are larger than a frame".into());
    let properties = convert::properties(envelope, prefix, sending.begun).ok_or_else(too_large)?;
    let name = |text: String| {
        ShortString::try_new(text).map_err(|error| PublishError::Permanent(format!("its route: {error}")))
    };
    let (exchange, key) = (name(exchange)?, name(key)?);
    let published = async {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        channel.basic_publish(exchange, key, options, &envelope.data, properties).await?.await
    };
    let confirmation = published.await.map_err(Failed::Channel)?;
    let confirmed = !confirmation.is_nack();
    let with = confirmation
        .take_message()
        .map(|back| (id(&back.delivery.properties), format!("{} ({})", back.reply_text, back.reply_code)));
    Ok(Sent { confirmed, with })
}

fn id(properties: &BasicProperties) -> String {
    properties.message_id().as_ref().map_or_else(String::new, |id| id.as_str().to_owned())
}

fn answer(sending: &Sending, sent: Sent, returned: &HashMap<String, String>) -> Answer {
    // By ID and never by position. Two rows of one ID: both stay, and the receiver drops what it gets twice.
    if let Some(why) = returned.get(&sending.row.envelope.id) {
        return Err(PublishError::Unroutable(format!("nobody listens there: {why}")));
    }
    if !sent.confirmed {
        return Err(PublishError::Refused("a queue there is full (reject-publish)".into()));
    }
    Ok(Published::Confirmed)
}

/// Cuts where more bytes would be in flight at once.
fn windows(rows: &[Sending]) -> Vec<&[Sending]> {
    let mut bytes = 0;
    rows.chunk_by(|_, next| {
        bytes += next.row.envelope.data.len();
        let fits = bytes <= WINDOW;
        if !fits {
            bytes = 0;
        }
        fits
    })
    .collect()
}
