//! A Postgres primary that is lost under load, and its streaming standby, promoted. The address of the database moves from one to the
//! other, as a name, a virtual address or a pooler does: a worker knows one address, and needs no other.

use crate::{
    TURN,
    checker::Account,
    scene::Scene,
    server::{Disk, Server},
};
use pitcrew::testing::poll_pause;
use processes::{
    proxy::{Proxy, Wire},
    shop::{LIMIT, broker, has_time},
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// A primary and what follows it.
struct Pair {
    primary: Server,
    standby: Server,
    /// Between the two.
    replication: Proxy,
    /// Where workers find their database.
    address: Proxy,
}

impl Pair {
    /// `None`, said so: it cannot be had here.
    async fn start() -> Option<Self> {
        let primary = Server::start(Disk::OfTheMachine).await?;
        let place = format!("127.0.0.1:{}", primary.port);
        let replication = Proxy::to(place.clone(), Wire::Bytes, None).await;
        let standby = Server::standby_of(replication.port).await?;
        let address = Proxy::to(place, Wire::Bytes, None).await;
        Some(Self { primary, standby, replication, address })
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.address.port)
    }

    /// Each commit waits for the standby from now on.
    async fn waits_for_the_standby(&self) {
        self.primary.does("alter system set synchronous_standby_names = '*'").await;
        self.primary.does("select pg_reload_conf()").await;
        let until = Instant::now() + LIMIT;
        while self.primary.does("select sync_state from pg_stat_replication").await != ["sync"] {
            assert!(Instant::now() < until, "the standby does not follow");
            poll_pause().await;
        }
    }

    /// The primary is gone under load. Its address leads to the standby, which takes no writes for a while, and then is promoted.
    async fn fails_over(&mut self, scene: &mut Scene) {
        self.primary.vanish().await;
        scene.under_load(Duration::from_secs(1)).await;
        self.address.move_to(format!("127.0.0.1:{}", self.standby.port));
        scene.under_load(Duration::from_secs(2)).await;
        assert_eq!(self.standby.does("select pg_promote()::text").await, ["true"]);
        scene.under_load(Duration::from_secs(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_and_doubles_nothing() {
    if !has_time("starts two Postgres and fails over") {
        return;
    }
    for variable in ["PITCREW_RABBITMQ4_URL", "PITCREW_KAFKA_URL"] {
        let Some(broker) = broker(variable) else { continue };
        let _turn = TURN.lock().await;
        let Some(mut pair) = Pair::start().await else { return };
        pair.waits_for_the_standby().await;
        let mut scene = Scene::at(broker, pair.url()).await;
        scene.begins().await;
        pair.fails_over(&mut scene).await;
        scene.adds_up(&format!("{variable}: failover to a synchronous standby")).await;
    }
}

/// What the primary committed last, the standby never got, and the broker has its acks: only its log still knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failover_to_an_asynchronous_standby_loses_a_replay_brings_back() {
    if !has_time("starts two Postgres and fails over") {
        return;
    }
    let Some(broker) = broker("PITCREW_KAFKA_URL") else { return };
    let _turn = TURN.lock().await;
    let Some(mut pair) = Pair::start().await else { return };
    let mut scene = Scene::at(broker.clone(), pair.url()).await;
    scene.begins().await;
    pair.replication.fall_silent();
    scene.under_load(Duration::from_secs(2)).await;
    pair.fails_over(&mut scene).await;
    // As an operator asks whoever is primary now. A command is older than its commit: a minute more, and what was done is a duplicate.
    let last = pair.standby.does(
        "select to_char((pg_last_xact_replay_timestamp() - interval '1 minute') at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
    );
    let from = last.await.remove(0);
    scene.bench.settles().await;
    let gone = gone(&scene.bench.tally().await);
    println!(
        "failover to an asynchronous standby that was 2 s behind: the effects of {} commands are lost",
        gone.len()
    );
    assert!(!gone.is_empty(), "a standby that was behind has lost something");
    let channel = scene.bench.shop.commands();
    let replay = scene.bench.shop.typed(&["replay", "--channel", &channel, "--from", &from], &[]);
    println!("car-worker replay --from {from}: {}", String::from_utf8_lossy(&replay.stdout));
    assert!(replay.status.success(), "{replay:?}");
    scene.bench.settles().await;
    // What had failed before, and was done by a retry that is lost: its first record is known, and its copy stands in a retry topic.
    let still = self::gone(&scene.bench.tally().await);
    println!("{} of them had failed before, and come again by their retry topics", still.len());
    scene.ends_workers().await;
    read_again(&broker, &channel, &from);
    scene.starts_workers().await;
    scene.bench.settles().await;
    let still = self::gone(&scene.bench.tally().await);
    assert!(still.is_empty(), "before anything is sent again: {still:?}; {}", scene.bench.shop.logs());
    scene.adds_up_but_for("the same after the replay", &gone).await;
}

/// What `kafka-consumer-groups.sh --reset-offsets --to-datetime` does to the group of a channel's retries.
fn read_again(broker: &str, channel: &str, from: &str) {
    let from: chrono::DateTime<chrono::Utc> = from.parse().expect("a time");
    let brokers = broker.strip_prefix("kafka://").expect("Kafka");
    let group = format!("{channel}.retry");
    let retries: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", &group).create().expect("a consumer");
    let metadata = retries.fetch_metadata(None, LIMIT).expect("the broker answers");
    let mut times = TopicPartitionList::new();
    for topic in metadata.topics().iter().filter(|topic| topic.name().starts_with(&format!("{group}."))) {
        for partition in topic.partitions() {
            let at = Offset::Offset(from.timestamp_millis());
            times.add_partition_offset(topic.name(), partition.id(), at).expect("a time");
        }
    }
    let found = retries.offsets_for_times(times, LIMIT).expect("the broker answers");
    let mut offsets = TopicPartitionList::new();
    for one in found.elements().iter().filter(|one| matches!(one.offset(), Offset::Offset(_))) {
        offsets.add_partition_offset(one.topic(), one.partition(), one.offset()).expect("an offset");
    }
    assert!(offsets.count() > 0, "something was retried since");
    retries.commit(&offsets, CommitMode::Sync).expect("nobody else is in the group");
}

/// Commands that have no effect.
fn gone(account: &Account) -> BTreeSet<String> {
    account.lost.iter().filter_map(|words| words.strip_suffix(" has no effects")).map(str::to_owned).collect()
}
