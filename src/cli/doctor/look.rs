//! What there is to see: broker and store side by side, each question with a time of its own. Nothing is declared, made or migrated.

use crate::{
    Handlers,
    clock::{self, Instant},
    config::{Config, StoreUrl},
    handler::Contract,
    store::{
        About, Alive, Audit, AuditFilter, Coming, DeadFilter, Gauges, LetterHead, LetterState, OutboxEntry, Store, Told,
    },
    transport::{Depth, Endpoints, Inspection, Promises},
    worker::{BEAT, Carrier, LOST, Plan, look_at_store, open_carriers},
};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// So long for a connection, and then so long again for all that is asked over it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A goodbye that nobody answers.
const TO_CLOSE: Duration = Duration::from_millis(500);

/// Retries, the next ones.
pub(super) const RETRIES: usize = 1_000;
/// Letters, the newest.
pub(super) const LETTERS: usize = 1_000;
/// Rows that could leave: those with a problem, then the oldest.
const WAITING: usize = 20;
/// Losses of the broker, the newest.
const LOSSES: usize = 20;

/// An answer, or why there is none.
pub(super) type Answer<T> = Result<T, String>;

/// All of it, at one moment.
pub(super) struct Facts {
    pub(super) now: DateTime<Utc>,
    pub(super) config: Config,
    pub(super) contract: Contract,
    pub(super) plan: Plan,
    /// One for each that channels may be on; never empty.
    pub(super) brokers: Vec<Broker>,
    pub(super) store: Tables,
}

pub(super) struct Broker {
    /// In the configuration. `None`: it is the only one, and need not be told from another.
    pub(super) name: Option<String>,
    /// Without a password.
    pub(super) url: String,
    /// Whether anything is to be there. If not, it was not asked.
    pub(super) is_needed: bool,
    /// `None`: no transport could be made of the settings.
    pub(super) promises: Option<Promises>,
    pub(super) about: Answer<String>,
    /// Whether a worker makes what is missing.
    pub(super) declares: bool,
    /// `None` of both: not asked, for want of a broker or of a plan.
    pub(super) inspection: Option<Answer<Inspection>>,
    /// By subscription.
    pub(super) depths: Vec<(Arc<str>, Answer<Depth>)>,
}

pub(super) struct Tables {
    /// Without a password.
    pub(super) url: String,
    /// There is nothing yet to connect to: an SQLite file that nobody made.
    pub(super) is_absent: bool,
    /// Nor can a file be made: this folder is not there.
    pub(super) lacks: Option<PathBuf>,
    pub(super) about: Answer<About>,
    /// Warnings of a start, or its refusal.
    pub(super) check: Answer<Vec<String>>,
    /// `None`: there are no tables.
    pub(super) rows: Option<Rows>,
}

pub(super) struct Rows {
    pub(super) workers: Answer<Vec<Alive>>,
    pub(super) gauges: Answer<Gauges>,
    pub(super) waiting: Answer<Vec<OutboxEntry>>,
    pub(super) retries: Answer<Vec<Coming>>,
    pub(super) letters: Answer<Vec<LetterHead>>,
    pub(super) hindered: Answer<Vec<Told>>,
    pub(super) losses: Answer<Vec<Audit>>,
    pub(super) audit: Answer<Vec<Audit>>,
}

impl Facts {
    pub(super) async fn gather(config: Config, handlers: &Handlers) -> Self {
        let (contract, plan, now) = (handlers.contract(), crate::worker::look(handlers, &config), clock::now());
        let endpoints = plan.topology.as_ref().map(|topology| topology.endpoints(&config));
        let brokers = Broker::look_at_all(&config, endpoints);
        let (brokers, store) = tokio::join!(brokers, Tables::look(&config, &contract, now));
        Self { now, config, contract, plan, brokers, store }
    }

    /// Whether a message is a row of the store: that broker stands alone. `None`: no transport could be made of the settings.
    pub(super) fn keeps_rows(&self) -> Option<bool> {
        self.brokers.iter().find_map(|broker| Some(broker.promises?.keeps_rows))
    }

    pub(super) fn depths(&self) -> impl Iterator<Item = (&Broker, &str, &Answer<Depth>)> {
        self.brokers.iter().flat_map(|broker| broker.depths.iter().map(move |(name, depth)| (broker, &**name, depth)))
    }
}

impl Broker {
    /// Each by itself: of one that does not answer the others need not know.
    async fn look_at_all(config: &Config, endpoints: Option<Endpoints>) -> Vec<Self> {
        let is_planned = endpoints.is_some();
        let carriers = open_carriers(config, &endpoints.unwrap_or_default());
        let several = carriers.len() > 1;
        join_all(carriers.into_iter().map(|carrier| Self::look(config, carrier, is_planned, several))).await
    }

    /// `is_planned`: what it is asked for is known.
    async fn look(config: &Config, carrier: Carrier, is_planned: bool, several: bool) -> Self {
        let Carrier { name, transport, share } = carrier;
        let settings = config.transport.get(&name).cloned().unwrap_or_default();
        let mut seen = Self {
            name: several.then(|| name.to_string()),
            url: settings.url.to_string(),
            is_needed: !is_planned || share != Endpoints::default(),
            promises: None,
            about: Err("not asked".into()),
            declares: settings.declare,
            inspection: None,
            depths: Vec::new(),
        };
        let transport = match transport {
            Ok(transport) => transport,
            Err(error) => return Self { about: Err(in_words(&error)), ..seen },
        };
        let promises = transport.promises();
        seen.promises = Some(promises);
        if !seen.is_needed {
            return seen;
        }
        seen.about = within(until(), transport.about()).await;
        if seen.about.is_ok() && is_planned {
            let until = until();
            // First, because from it the transport knows the subscriptions.
            seen.inspection = Some(within(until, transport.inspect(&share)).await);
            // Where a message is a row, its queue is in the process of a worker.
            if !promises.keeps_rows {
                let depths = share.subscriptions.iter().map(|subscription| async {
                    (subscription.name.clone(), within(until, transport.depth(&subscription.name)).await)
                });
                seen.depths = join_all(depths).await;
            }
        }
        let _ = tokio::time::timeout(TO_CLOSE, transport.close()).await;
        seen
    }
}

impl Tables {
    async fn look(config: &Config, contract: &Contract, now: DateTime<Utc>) -> Self {
        let unasked = "not asked".to_owned();
        let url = config.store.url.to_string();
        let (about, check) = (Err(unasked.clone()), Err(unasked));
        let mut seen = Self { url, is_absent: false, lacks: None, about, check, rows: None };
        if let StoreUrl::Sqlite(path) = &config.store.url {
            seen.is_absent = matches!(path.try_exists(), Ok(false));
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            seen.lacks = folder.filter(|folder| matches!(folder.try_exists(), Ok(false))).map(Path::to_owned);
            if seen.is_absent {
                return seen;
            }
        }
        let store = match within(until(), look_at_store(config)).await {
            Ok(store) => store,
            Err(error) => return Self { about: Err(error), ..seen },
        };
        let until = until();
        seen.about = within(until, store.about()).await;
        if let Ok(about) = &seen.about {
            seen.check = within(until, store.check(&contract.rows)).await;
            if about.schema > 0 {
                seen.rows = Some(Rows::look(&*store, now, until).await);
            }
        }
        let _ = tokio::time::timeout(TO_CLOSE, store.close()).await;
        seen
    }
}

impl Rows {
    /// One after another, on two connections at most: a database that has few left is no reason to take them.
    async fn look(store: &dyn Store, now: DateTime<Utc>, until: Instant) -> Self {
        let open = DeadFilter { states: vec![LetterState::Dead, LetterState::Quarantined], ..DeadFilter::default() };
        let quick = async {
            let workers = within(until, store.workers(now)).await;
            let hindered = within(until, store.hindered(now - 5 * BEAT)).await;
            let losses = within(until, store.recorded(LOST, LOSSES)).await;
            (workers, hindered, losses, within(until, store.audit_trail(&AuditFilter::default(), 1)).await)
        };
        let slow = async {
            let gauges = within(until, store.gauges(now)).await;
            let waiting = within(until, store.waiting(now, WAITING)).await;
            let retries = within(until, store.retries(now, RETRIES)).await;
            (gauges, waiting, retries, within(until, store.letter_heads(&open, LETTERS)).await)
        };
        let ((workers, hindered, losses, audit), (gauges, waiting, retries, letters)) = tokio::join!(quick, slow);
        Self { workers, gauges, waiting, retries, letters, hindered, losses, audit }
    }
}

fn until() -> Instant {
    clock::instant() + PATIENCE
}

async fn within<T, E: Into<anyhow::Error>>(until: Instant, asked: impl Future<Output = Result<T, E>>) -> Answer<T> {
    match tokio::time::timeout_at(until, asked).await {
        Ok(answer) => answer.map_err(|error| in_words(&error.into())),
        Err(_elapsed) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// The chain of an error in one sentence. Some say what their cause says.
fn in_words(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |said, cause| match cause.to_string() {
        cause if said.contains(&cause) => said,
        cause => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_says_twice_is_told_once() {
        let error = crate::store::StoreError::Away(anyhow::anyhow!("refused").context("connecting"));
        assert_eq!(
            in_words(&anyhow::Error::from(error).context("opening")),
            "opening: reach the store: connecting: refused"
        );
    }
}
