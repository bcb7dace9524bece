//! A whole worker on a broker, whose every effect is counted.

use super::bench::{client, unique};
use lapin::options::QueueDeleteOptions;
use pitcrew::{
    Client, Command, Context, Document, Event, Handlers, Message, Running, Worker,
    config::{ChannelConfig, Config, RetryPolicy},
    store::Store,
    testing::poll_pause,
    transport::{
        Transport,
        rabbitmq::{Options, RabbitMq},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Do it once.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Count {
    pub(crate) n: u32,
    /// The first so many attempts fail.
    #[serde(default)]
    pub(crate) failing: u32,
    /// How long each attempt takes, in milliseconds.
    #[serde(default)]
    pub(crate) takes: u64,
}
impl Message for Count {
    type Kind = Command;
    const TYPE: &'static str = "rig.Count";
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counted {
    n: u32,
}
impl Message for Counted {
    type Kind = Event;
    const TYPE: &'static str = "rig.Counted";
}

/// What must be 1 and 1 in the end.
#[derive(Serialize, Deserialize)]
pub(crate) struct Effects {
    n: u32,
    done: u32,
    heard: u32,
}
impl Document for Effects {
    const COLLECTION: &'static str = "effects";
    fn id(&self) -> impl std::fmt::Display {
        self.n
    }
}

async fn count(m: Count, cx: &mut Context) -> pitcrew::Result {
    if m.takes > 0 {
        tokio::time::sleep(Duration::from_millis(m.takes)).await; // tidy: sleeps, because it is the work that takes so long.
    }
    if cx.attempt() <= m.failing {
        return Err(anyhow::anyhow!("not yet").into());
    }
    change(cx, m.n, |effects| effects.done += 1).await?;
    cx.emit(&Counted { n: m.n })?;
    Ok(())
}

async fn hear(m: Counted, cx: &mut Context) -> pitcrew::Result {
    change(cx, m.n, |effects| effects.heard += 1).await
}

async fn change(cx: &mut Context, n: u32, how: impl Fn(&mut Effects) + Send + Sync) -> pitcrew::Result {
    cx.update(&n.to_string(), |old: Option<Effects>| {
        let mut effects = old.unwrap_or(Effects { n, done: 0, heard: 0 });
        how(&mut effects);
        effects
    })
    .await?;
    Ok(())
}

pub(crate) fn handlers() -> Handlers {
    Handlers::new().handle(count).handle(hear).emits::<Counted>()
}

/// A worker with channels of its own.
pub(crate) struct Rig {
    url: String,
    prefix: String,
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) transport: Arc<dyn Transport>,
    client: Client,
    worker: Option<Running>,
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl Rig {
    pub(crate) async fn start(url: &str, store: Arc<dyn Store>, adjust: impl FnOnce(&mut Config)) -> Self {
        let prefix = unique();
        let mut config = Config::default();
        let retry = RetryPolicy {
            first: Duration::from_millis(100),
            max: Duration::from_millis(200),
            tiers: [100, 200].map(Duration::from_millis).into(),
            ..RetryPolicy::default()
        };
        for (channel, ty) in [("commands", Count::TYPE), ("events", Counted::TYPE)] {
            let name = format!("{prefix}.{channel}").parse().expect("a name");
            let settings = ChannelConfig { types: vec![ty.into()], retry: retry.clone(), ..ChannelConfig::default() };
            config.channel.insert(name, settings);
        }
        adjust(&mut config);
        // A short heartbeat: half-open connections are noticed within a test's patience.
        let transport: Arc<dyn Transport> =
            Arc::new(RabbitMq::new(&format!("{url}?heartbeat=2"), Options::default()).expect("a URL"));
        let client = Client::new(store.clone(), &*transport, &handlers(), &config).expect("a client");
        let worker = Worker::new(config.clone(), handlers()).start(store.clone(), transport.clone()).await;
        let worker = Some(worker.expect("the worker starts"));
        Self { url: url.into(), prefix, config, store, transport, client, worker }
    }

    pub(crate) fn commands(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    pub(crate) async fn send(&self, numbers: std::ops::Range<u32>, failing: u32) {
        for n in numbers {
            self.client.send(&Count { n, failing, takes: 0 }).await.expect("it is sent");
        }
    }

    pub(crate) async fn send_slow(&self, n: u32, takes: Duration) {
        let takes = takes.as_millis().try_into().expect("not for ever");
        self.client.send(&Count { n, failing: 0, takes }).await.expect("it is sent");
    }

    async fn effects(&self, n: u32) -> (u32, u32) {
        let stored = self.store.load(Effects::COLLECTION, &n.to_string()).await.ok().flatten();
        stored.map_or((0, 0), |stored| {
            let Effects { done, heard, .. } = serde_json::from_str(&stored.body).expect("effects");
            (done, heard)
        })
    }

    pub(crate) async fn done(&self, numbers: std::ops::Range<u32>) -> usize {
        let mut done = 0;
        for n in numbers {
            done += usize::from(self.effects(n).await.0 > 0);
        }
        done
    }

    /// Waits until so many are done.
    pub(crate) async fn until(&self, numbers: std::ops::Range<u32>, count: usize) {
        let began = Instant::now();
        while self.done(numbers.clone()).await < count {
            assert!(began.elapsed() < PATIENCE, "{} of {count} done", self.done(numbers.clone()).await);
            poll_pause().await;
        }
    }

    /// Waits until all is done and heard; and nothing was done twice.
    pub(crate) async fn each_once(&self, numbers: std::ops::Range<u32>) {
        let began = Instant::now();
        for n in numbers {
            loop {
                let effects = self.effects(n).await;
                assert!(effects.0 <= 1 && effects.1 <= 1, "command {n} has its effects {effects:?} times");
                if effects == (1, 1) {
                    break;
                }
                assert!(began.elapsed() < PATIENCE, "command {n} has its effects {effects:?} times");
                poll_pause().await;
            }
        }
    }

    pub(crate) async fn end(mut self) {
        if let Some(worker) = self.worker.take() {
            worker.shutdown().await;
        }
        let (connection, channel) = client(&self.url).await;
        let subscriptions = [self.commands(), format!("{}.events.pitcrew", self.prefix)];
        for name in &subscriptions {
            for suffix in ["", ".dead", ".retry.100ms", ".retry.200ms"] {
                let queue = format!("{name}{suffix}");
                let _ = channel.queue_delete((*queue).into(), QueueDeleteOptions::default()).await;
            }
        }
        for name in ["commands", "commands.dead", "events", "events.dead"] {
            let exchange = format!("{}.{name}", self.prefix);
            let _ = channel.exchange_delete((*exchange).into(), Default::default()).await;
        }
        let _ = connection.close(200, "cleared".into()).await;
    }
}
