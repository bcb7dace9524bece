//! A database with a message in every state, made by a real worker of another build.

use crate::session::{Session, block_on};
use chrono::{TimeDelta, Utc};
use pitcrew::{
    Client, Command, Context, Envelope, Handlers, Message, OrElse, Worker,
    client::Outcome,
    config::{ChannelConfig, Config, StoreUrl},
    store::LetterState,
    worker::{open_store, open_transport},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// A command of the same type, whose handler does what it is told.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Told {
    say: String,
}
impl Message for Told {
    type Kind = Command;
    const TYPE: &'static str = "car.GenerateRecommendationBrief";
}

async fn told(m: Told, _: &mut Context) -> pitcrew::Result {
    match m.say.as_str() {
        "done" => Ok(()),
        "permanent" => Err(anyhow::anyhow!("the colour is no colour").context("reading the wish")).permanent(),
        _ => Err(anyhow::anyhow!("connection refused").context("asking the provider").into()),
    }
}

pub(crate) struct Ids {
    pub(crate) done: String,
    pub(crate) retrying: String,
    pub(crate) dead: String,
    pub(crate) exhausted: String,
    pub(crate) waiting: String,
    pub(crate) quarantined: String,
    pub(crate) expired: String,
    pub(crate) discarded: String,
    pub(crate) never_arrived: String,
}

impl Ids {
    pub(crate) fn all(&self) -> [(&'static str, &str); 9] {
        [
            ("done", &self.done),
            ("retrying", &self.retrying),
            ("dead", &self.dead),
            ("exhausted", &self.exhausted),
            ("waiting", &self.waiting),
            ("quarantined", &self.quarantined),
            ("expired", &self.expired),
            ("discarded", &self.discarded),
            ("never arrived", &self.never_arrived),
        ]
    }
}

pub(crate) fn prepared() -> (Session, Ids) {
    let mut session = Session::new();
    let database = session.directory.path().join("pitcrew.db");
    let ids = block_on(prepare(StoreUrl::Sqlite(database)));
    for (_, id) in ids.all() {
        session.name(id);
    }
    session.unseen(&["dead", "discard", &ids.discarded, "--reason", "sent by mistake"]);
    (session, ids)
}

async fn prepare(url: StoreUrl) -> Ids {
    let day = Duration::from_secs(86_400);
    let mut channel = ChannelConfig::default();
    (channel.retry.attempts, channel.retry.give_up_after) = (2, 10 * day);
    // Nothing comes again while a test looks, unless it died of its second failure.
    (channel.retry.first, channel.retry.max, channel.retry.tiers) = (day, day, vec![day]);
    let mut config = Config { service: "car-worker".parse().unwrap(), ..Config::default() };
    config.store.url = url;
    config.channel.insert("car.commands".parse().unwrap(), channel);

    let opened = open_store(&config, true).await.unwrap();
    let transport = open_transport(&config).unwrap();
    let handlers = || Handlers::new().handle(told);
    opened.store.migrate().await.unwrap();
    let client = Client::new(opened.store.clone(), &*transport, &handlers(), &config).unwrap();
    let worker = Worker::new(config, handlers()).start(opened.store.clone(), transport).await.unwrap();

    let envelope = |say: &str| Envelope::of(&Told { say: say.into() }, "/shop").unwrap();
    let send = async |envelope: Envelope, due| {
        let id = envelope.id.clone();
        client.send_envelopes(vec![envelope], due).await.unwrap();
        id
    };
    // One after another, so that they are listed in the same order each time.
    let ended = async |envelope: Envelope| {
        let id = send(envelope, None).await;
        let outcome = client.outcome(&id, Duration::from_secs(20)).await.unwrap();
        assert!(!matches!(outcome, Outcome::Waiting { .. }), "{outcome:?}");
        id
    };
    let mut last_try = envelope("fail");
    (last_try.hop.attempt, last_try.hop.failures) = (2, 1);
    let newer = Envelope { version: 7, ..envelope("done") };
    let late = Envelope { expires: Some(Utc::now() - TimeDelta::hours(1)), ..envelope("done") };
    let ids = Ids {
        done: ended(envelope("done")).await,
        retrying: send(envelope("fail"), None).await,
        dead: ended(envelope("permanent")).await,
        exhausted: ended(last_try).await,
        waiting: send(envelope("done"), Some(Utc::now() + TimeDelta::days(1))).await,
        quarantined: ended(newer).await,
        expired: ended(late).await,
        discarded: ended(envelope("permanent")).await,
        never_arrived: pitcrew::clock::uuid_v7().to_string(),
    };
    let limit = Instant::now() + Duration::from_secs(20);
    while opened.store.history(&ids.retrying).await.unwrap().attempts.is_empty() {
        assert!(Instant::now() < limit, "it was never tried");
        pitcrew::testing::poll_pause().await;
    }
    let letters = opened.store.dead_letters(&Default::default(), 100).await.unwrap();
    assert_eq!(letters.iter().filter(|letter| letter.state == LetterState::Dead).count(), 3);
    worker.shutdown().await;
    ids
}
