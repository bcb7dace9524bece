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
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// The handshake takes no longer, else it is tried again.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Of several hosts the first time round: one that is frozen does not keep us from its neighbours.
const HANDSHAKE_AMONG_MANY: Duration = Duration::from_secs(2);

/// How to reach the broker.
pub(super) struct Address {
    /// The nodes of its cluster, or the one that it is. All have the same login and vhost.
    pub(super) hosts: Vec<AMQPUri>,
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
    /// Counts up with each host that is tried: after a loss the others come first.
    turn: AtomicUsize,
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
        // Each worker begins somewhere, so that they spread over the nodes.
        let turn = AtomicUsize::new(fastrand::usize(..address.hosts.len()));
        Self(Arc::new(Inner { address, purpose, turn, seen }))
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

    /// Host and port of the node that was tried last, where it is reached without TLS.
    pub(super) fn plain(&self) -> Option<(String, u16)> {
        let Address { hosts, tls, .. } = &*self.0.address;
        let uri = &hosts[self.0.turn.load(Relaxed).wrapping_sub(1) % hosts.len()];
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

/// Tries each host once.
async fn open(link: &Inner, failures: u32) {
    let (hosts, purpose) = (&link.address.hosts, link.purpose);
    let patience = if hosts.len() > 1 && failures == 0 { HANDSHAKE_AMONG_MANY } else { HANDSHAKE };
    let mut refusals = Vec::new();
    for _ in hosts {
        let uri = &hosts[link.turn.fetch_add(1, Relaxed) % hosts.len()];
        let (host, port) = (&uri.authority.host, uri.authority.port);
        let refusal = match tokio::time::timeout(patience, connect(link, uri)).await {
            Ok(Ok(connection)) => {
                if failures > 0 {
                    info!(purpose, failures, host, port, "RabbitMQ is back")
                } else {
                    debug!(purpose, host, port, "connected to RabbitMQ")
                }
                link.seen.send_modify(|seen| {
                    step(seen, Event::Opened);
                    if seen.state == State::Up {
                        (seen.connection, seen.failure) = (Some(Arc::new(connection)), None);
                    }
                });
                return;
            }
            Ok(Err(error)) => Failure::from(trouble::connecting(&error, &link.address.login, uri)),
            Err(_elapsed) => Failure { text: format!("no handshake within {} s", patience.as_secs()), unfit: false },
        };
        refusals.push((format!("{host}:{port}"), refusal));
    }
    let failure = Failure::of_all(refusals);
    if (failures + 1).is_power_of_two() {
        let error = &failure.text;
        warn!(purpose, error, failures = failures + 1, "cannot connect to RabbitMQ; tried again");
    }
    link.seen.send_modify(|seen| {
        step(seen, Event::Refused);
        seen.failure = Some(failure);
    });
}

async fn connect(link: &Inner, uri: &AMQPUri) -> Result<Connection, Error> {
    let Address { tls, name, .. } = &*link.address;
    let tls = tls.clone();
    let runtime = lapin::runtime::default_runtime()?;
    let properties = ConnectionProperties::default().with_connection_name(format!("{name} {}", link.purpose).into());
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
}

impl Failure {
    /// Of all hosts. While one of them may come back, time may mend it.
    fn of_all(mut each: Vec<(String, Self)>) -> Self {
        if each.len() == 1 {
            return each.swap_remove(0).1;
        }
        let unfit = each.iter().all(|(_, failure)| failure.unfit);
        let texts: Vec<_> = each.iter().map(|(host, failure)| format!("{host}: {}", failure.text)).collect();
        Self { text: texts.join("; "), unfit }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Unfit(text) => Self { text, unfit: true },
            TransportError::Away(text) => Self { text, unfit: false },
            TransportError::Closed => Self { text: error.to_string(), unfit: false },
        }
    }
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
