//! One supervised connection. Recovery is ours: the client's own hangs when something in between accepts and closes.

use super::{
    super::TransportError,
    login::Login,
    recovery::{self, Event, State},
    trouble,
};
use futures::StreamExt;
use lapin::{
    AsyncTcpStream, Channel, Connection, ConnectionProperties, Error, ErrorKind, tcp::RustlsConnector, uri::AMQPUri,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// The handshake takes no longer, else it is tried again.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How to reach the broker.
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    pub(super) login: Login,
    /// For `amqps`.
    pub(super) tls: Option<RustlsConnector>,
    /// As the broker shows its connections: the service.
    pub(super) name: String,
}

/// Dropped, nothing happens to the connection: [`close`](Self::close) ends it.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    address: Arc<Address>,
    /// `consume` or `publish`.
    purpose: &'static str,
    seen: watch::Sender<Seen>,
}

#[derive(Clone)]
struct Seen {
    state: State,
    /// While it is up or blocked.
    connection: Option<Arc<Connection>>,
    /// Why it is not.
    failure: Option<Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    text: String,
    /// No time will mend it.
    unfit: bool,
}

impl Link {
    pub(super) fn new(address: Arc<Address>, purpose: &'static str) -> Self {
        let seen = watch::Sender::new(Seen { state: State::Idle, connection: None, failure: None });
        Self(Arc::new(Inner { address, purpose, seen }))
    }

    /// The connection, once it is up: waits at most `patience`. To publish, also until the broker takes messages again.
    pub(super) async fn connection(
        &self,
        patience: Duration,
        to_publish: bool,
    ) -> Result<Arc<Connection>, TransportError> {
        if self.0.seen.borrow().state == State::Idle {
            let first = self.0.seen.send_if_modified(|seen| step(seen, Event::Wanted));
            if first {
                tokio::spawn(supervise(self.0.clone()));
            }
        }
        let mut seen = self.0.seen.subscribe();
        let settled = seen.wait_for(|seen| match seen.state {
            State::Closed => true,
            // One that was just lost is not yet known to be: its supervisor will say so.
            State::Up => seen.is_alive(),
            State::Blocked => !to_publish && seen.is_alive(),
            _ => seen.failure.as_ref().is_some_and(|failure| failure.unfit),
        });
        let settled = tokio::time::timeout(patience, settled).await.map(|seen| seen.ok().map(|seen| seen.clone()));
        match settled {
            Ok(Some(Seen { connection: Some(connection), .. })) => Ok(connection),
            Ok(Some(Seen { failure: Some(failure), .. })) => Err(TransportError::Unfit(failure.text)),
            Ok(_) => Err(TransportError::Closed),
            Err(_elapsed) => {
                let seen = self.0.seen.borrow();
                Err(TransportError::Away(match (&seen.failure, seen.state) {
                    (Some(failure), _) => failure.text.clone(),
                    (None, State::Blocked) => "it takes no messages: a resource alarm is on".into(),
                    (None, _) => "no answer".into(),
                }))
            }
        }
    }

    /// The connection, or why the first try did not bring one: waits at most `patience`.
    pub(super) async fn first_answer(&self, patience: Duration) -> Result<Arc<Connection>, TransportError> {
        let mut seen = self.0.seen.subscribe();
        tokio::select! {
            connection = self.connection(patience, false) => connection,
            Ok(failed) = seen.wait_for(|seen| seen.failure.as_ref().is_some_and(|failure| !failure.unfit)) => {
                let why = failed.failure.as_ref().map(|failure| failure.text.clone());
                Err(TransportError::Away(why.unwrap_or_default()))
            }
        }
    }

    /// Host and port, where it is reached without TLS.
    pub(super) fn plain(&self) -> Option<(String, u16)> {
        let Address { uri, tls, .. } = &*self.0.address;
        tls.is_none().then(|| (uri.authority.host.clone(), uri.authority.port))
    }

    pub(super) async fn close(&self) {
        let mut connection = None;
        self.0.seen.send_modify(|seen| {
            connection = seen.connection.take();
            seen.state = recovery::next(seen.state, Event::Close);
        });
        if let Some(connection) = connection {
            let _ = tokio::time::timeout(Duration::from_secs(2), connection.close(200, "worker ends".into())).await;
        }
    }
}

impl Seen {
    fn is_alive(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.status().connected())
    }
}

/// A channel of this connection.
///
/// The client answers for a number whose channel the broker once closed with an error (a look at a queue that is not there) with
/// that old error, for the life of the connection. Such numbers are passed over; when all are used up the connection is closed, and
/// its supervisor opens another one.
pub(super) async fn channel(connection: &Connection) -> Result<Channel, Error> {
    for _ in 0..=connection.configuration().channel_max() {
        match connection.create_channel().await {
            Err(error) if trouble::reply(&error).is_some() && connection.status().connected() => {}
            Err(error) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => break,
            opened => return opened,
        }
    }
    let _ = connection.close(200, "no channel number is left".into()).await;
    Err(ErrorKind::ChannelsLimitReached.into())
}

fn step(seen: &mut Seen, event: Event) -> bool {
    let next = recovery::next(seen.state, event);
    let changed = next != seen.state;
    seen.state = next;
    changed
}

/// Follows one connection after the other until the link is closed.
async fn supervise(link: Arc<Inner>) {
    let mut watched = link.seen.subscribe();
    loop {
        let Seen { state, connection, .. } = watched.borrow_and_update().clone();
        let work = async {
            match (state, connection) {
                (State::Opening { failures }, _) => open(&link, failures).await,
                (State::Down { failures }, _) => {
                    tokio::time::sleep(recovery::pause(failures, fastrand::f64())).await;
                    link.seen.send_modify(|seen| _ = step(seen, Event::PauseOver));
                }
                (_, Some(connection)) => watch_over(&link, &connection).await,
                (_, None) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            closed = watched.wait_for(|seen| seen.state == State::Closed) => { drop(closed); return }
            () = work => {}
        }
    }
}

async fn open(link: &Inner, failures: u32) {
    let Address { uri, tls, name, .. } = &*link.address;
    let opened = async {
        let runtime = lapin::runtime::default_runtime()?;
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{name} {}", link.purpose).into());
        let tls = tls.clone();
        Connection::connector(
            uri.clone(),
            runtime,
            async move |uri, runtime| {
                let host = uri.authority.host;
                let addresses = runtime.to_socket_addrs((host.clone(), uri.authority.port));
                let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                Ok(match &tls {
                    Some(tls) => stream.into_rustls(tls, &host).await?,
                    None => stream,
                })
            },
            properties,
        )
        .await
    };
    let error = match tokio::time::timeout(HANDSHAKE, opened).await {
        Ok(Ok(connection)) => {
            let purpose = link.purpose;
            if failures > 0 {
                info!(purpose, failures, "RabbitMQ is back")
            } else {
                debug!(purpose, "connected to RabbitMQ")
            }
            link.seen.send_modify(|seen| {
                step(seen, Event::Opened);
                if seen.state == State::Up {
                    (seen.connection, seen.failure) = (Some(Arc::new(connection)), None);
                }
            });
            return;
        }
        Ok(Err(error)) => trouble::connecting(&error, &link.address),
        Err(_elapsed) => TransportError::Away(format!("no handshake within {} s", HANDSHAKE.as_secs())),
    };
    if (failures + 1).is_power_of_two() {
        warn!(purpose = link.purpose, %error, failures = failures + 1, "cannot connect to RabbitMQ; tried again");
    }
    let failure = match error {
        TransportError::Unfit(text) => Failure { text, unfit: true },
        TransportError::Away(text) => Failure { text, unfit: false },
        TransportError::Closed => Failure { text: error.to_string(), unfit: false },
    };
    link.seen.send_modify(|seen| {
        step(seen, Event::Refused);
        seen.failure = Some(failure);
    });
}

/// Until the connection is lost. An error event of the client is no proof of that: it tells of channels too.
async fn watch_over(link: &Inner, connection: &Connection) {
    let mut events = connection.events_listener();
    let mut look = tokio::time::interval(Duration::from_millis(250));
    let purpose = link.purpose;
    let mut why = "the connection was closed".to_owned();
    loop {
        let event = tokio::select! { event = events.next() => event, _ = look.tick() => None };
        let event = match event {
            Some(lapin::Event::ConnectionBlocked(reason)) => {
                warn!(purpose, reason, "RabbitMQ takes no messages: they wait in the outbox; consuming goes on");
                Some(Event::Blocked)
            }
            Some(lapin::Event::ConnectionUnblocked) => {
                info!(purpose, "RabbitMQ takes messages again");
                Some(Event::Unblocked)
            }
            Some(lapin::Event::Error(error)) => {
                why = error.to_string();
                None
            }
            _ => None,
        };
        if let Some(event) = event {
            link.seen.send_if_modified(|seen| step(seen, event));
        }
        if !connection.status().connected() {
            break;
        }
    }
    warn!(purpose, why, "lost the connection to RabbitMQ; it is opened again");
    link.seen.send_modify(|seen| {
        step(seen, Event::Lost);
        seen.connection = None;
        seen.failure = Some(Failure { text: why, unfit: false });
    });
}
