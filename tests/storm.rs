//! What a provider that is down costs: calls, attempts, and what waits meanwhile. In paused time, on the memory store.

use pitcrew::{
    Breaker, Command, Context, Envelope, Handler, Handlers, Message, Outage, Setup,
    clock::{self, Instant},
    config::Config,
    store::{Fate, Reason},
    testing::{TestWorker, poll_pause},
    worker::HandlerStatus,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

macro_rules! commands {
    ($($name:ident $ty:literal),+) => {$(
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        struct $name { n: usize }
        impl Message for $name {
            type Kind = Command;
            const TYPE: &'static str = $ty;
        }
        impl<P: Plan> Handler<$name> for Caller<P> {
            async fn handle(&self, m: $name, cx: &mut Context) -> pitcrew::Result {
                self.work(m.n, cx).await
            }
        }
    )+};
}
commands!(Fetch "shop.Fetch", Look "shop.Look", Add "shop.Add");

/// Down until a moment; it counts.
struct Provider {
    down_until: Mutex<Instant>,
    takes: Duration,
    calls: AtomicUsize,
    in_vain: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Failures that messages had behind them when they were done.
    counted: AtomicUsize,
    /// How often they had come again, counted or not.
    again: AtomicUsize,
    done: AtomicUsize,
}

impl Provider {
    fn down_for(seconds: u64) -> Arc<Self> {
        Arc::new(Self {
            down_until: Mutex::new(clock::instant() + Duration::from_secs(seconds)),
            takes: Duration::from_millis(20),
            calls: AtomicUsize::new(0),
            in_vain: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            counted: AtomicUsize::new(0),
            again: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        })
    }

    fn is_down(&self) -> bool {
        clock::instant() < *self.down_until.lock().unwrap()
    }

    async fn call(&self) -> anyhow::Result<()> {
        self.calls.fetch_add(1, SeqCst);
        self.most_at_once.fetch_max(self.at_once.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::time::timeout(self.takes, std::future::pending::<()>()).await.unwrap_err();
        self.at_once.fetch_sub(1, SeqCst);
        if self.is_down() {
            self.in_vain.fetch_add(1, SeqCst);
            anyhow::bail!("503");
        }
        Ok(())
    }
}

/// Whether a handler has a breaker.
trait Plan: Send + Sync + 'static {
    fn breaker(&self) -> Option<&Breaker>;
}
struct Bare;
impl Plan for Bare {
    fn breaker(&self) -> Option<&Breaker> {
        None
    }
}
impl Plan for Breaker {
    fn breaker(&self) -> Option<&Breaker> {
        Some(self)
    }
}

struct Caller<P> {
    provider: Arc<Provider>,
    plan: P,
}

impl<P: Plan> Caller<P> {
    async fn work(&self, n: usize, cx: &mut Context) -> pitcrew::Result {
        if n == WRONG {
            return Err(pitcrew::HandlerError::permanent(anyhow::anyhow!("no such car")));
        }
        match self.plan.breaker() {
            Some(breaker) => breaker.call(self.provider.call(), |_| Some(Outage::Failed)).await??,
            None => self.provider.call().await?,
        }
        self.provider.counted.fetch_add(cx.attempt() as usize - 1, SeqCst);
        self.provider.again.fetch_add(cx.meta().hop.attempt as usize - 1, SeqCst);
        self.provider.done.fetch_add(1, SeqCst);
        Ok(())
    }
}

/// It never calls anybody.
const WRONG: usize = usize::MAX;

fn bare(provider: &Arc<Provider>) -> Caller<Bare> {
    Caller { provider: provider.clone(), plan: Bare }
}

fn behind_a_breaker(
    provider: &Arc<Provider>,
) -> impl FnOnce(Setup) -> std::future::Ready<anyhow::Result<Caller<Breaker>>> + Send + 'static {
    let provider = provider.clone();
    move |setup| std::future::ready(Ok(Caller { provider, plan: setup.breaker("provider") }))
}

async fn send(worker: &TestWorker, count: usize) {
    let envelopes = (0..count).map(|n| Envelope::of(&Fetch { n }, "/test").unwrap()).collect();
    worker.client().send_envelopes(envelopes, None).await.unwrap();
}

/// Until it is so, at most an hour of paused time.
async fn until(what: &str, so: impl Fn() -> bool) {
    let limit = clock::instant() + Duration::from_secs(3600);
    while !so() {
        assert!(clock::instant() < limit, "not within an hour: {what}");
        poll_pause().await;
    }
}

fn status(worker: &TestWorker, consumer: &str) -> HandlerStatus {
    worker.handlers().into_iter().find(|status| &*status.consumer == consumer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_commands_call_a_provider_that_is_down_for_a_minute_a_few_hundred_times() {
    let (provider, began) = (Provider::down_for(60), clock::instant());
    let worker = TestWorker::new(Handlers::new().handle::<Fetch>(bare(&provider))).await;
    send(&worker, 10_000).await;
    until("down to one probe", || status(&worker, "shop.Fetch").storm == Some(1)).await;
    assert!(clock::instant() - began < Duration::from_secs(2), "it takes {:?}", clock::instant() - began);
    provider.most_at_once.store(0, SeqCst);
    until("the end of the minute", || !provider.is_down()).await;
    assert_eq!(provider.most_at_once.load(SeqCst), 1, "one probe at a time");
    let in_vain = provider.in_vain.load(SeqCst);
    // Six halvings of 51 failures each, what ran beside them, and a probe every 5 s in the end.
    assert!((6 * 51..=6 * 51 + 64 + 30).contains(&in_vain), "{in_vain} calls");
    until("all done", || provider.done.load(SeqCst) == 10_000).await;
    worker.idle().await;
    assert_eq!(provider.calls.load(SeqCst), 10_000 + in_vain, "nothing was called twice");
    assert_eq!(provider.counted.load(SeqCst), in_vain, "each failed call counts");
    assert_eq!(worker.letters().await.len(), 0);
    assert_eq!(status(&worker, "shop.Fetch").storm, None, "the storm is over");
    // 10,000 calls of 20 ms, 64 at once, are 3.1 s.
    assert!(clock::instant() - began < Duration::from_secs(60 + 15), "it takes {:?}", clock::instant() - began);
}

#[tokio::test(start_paused = true)]
async fn behind_a_breaker_they_call_it_less_than_a_hundred_times_and_their_attempts_do_not_count() {
    let (provider, began) = (Provider::down_for(60), clock::instant());
    let worker = TestWorker::new(Handlers::new().handle_with::<Fetch, _, _, _>(behind_a_breaker(&provider))).await;
    send(&worker, 10_000).await;
    until("the breaker is open", || status(&worker, "shop.Fetch").breakers[0].open_until.is_some()).await;
    until("its last calls have ended", || provider.at_once.load(SeqCst) == 0).await;
    provider.most_at_once.store(0, SeqCst);
    until("the end of the minute", || !provider.is_down()).await;
    assert_eq!(provider.most_at_once.load(SeqCst), 1, "one probe at a time");
    let in_vain = provider.in_vain.load(SeqCst);
    // What ran when it opened, and a probe after 1, 2, 4, 8, 16 and 30 s.
    assert!((11..=64 + 11 + 6).contains(&in_vain), "{in_vain} calls");
    until("all done", || provider.done.load(SeqCst) == 10_000).await;
    worker.idle().await;
    assert_eq!(provider.calls.load(SeqCst), 10_000 + in_vain, "nothing was called twice");
    assert_eq!(provider.counted.load(SeqCst), 10, "those before the breaker opened");
    assert_eq!(worker.letters().await.len(), 0);
    assert_eq!(status(&worker, "shop.Fetch").breakers[0].open_until, None);
    assert!(clock::instant() - began < Duration::from_secs(60 + 40), "it takes {:?}", clock::instant() - began);
}

/// A channel that holds 16 messages.
fn narrow() -> Config {
    let mut config = Config::default();
    let channel = pitcrew::config::ChannelConfig { concurrency: 4, ..Default::default() };
    config.channel.insert("shop.commands".parse().unwrap(), channel);
    config.worker.finished = 8;
    config
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_only_handler_is_held_up_is_not_consumed() {
    let provider = Provider::down_for(60);
    let handlers = Handlers::new().handle_with::<Fetch, _, _, _>(behind_a_breaker(&provider));
    let worker = TestWorker::with_config(handlers, narrow()).await;
    send(&worker, 200).await;
    until("all that the channel may hold waits", || status(&worker, "shop.Fetch").waiting == 16).await;
    let calls = provider.calls.load(SeqCst);
    until("the end of the minute", || !provider.is_down()).await;
    assert!(provider.calls.load(SeqCst) - calls <= 6, "probes alone");
    worker.idle().await;
    assert_eq!(provider.done.load(SeqCst), 200);
    let (again, in_vain) = (provider.again.load(SeqCst), provider.in_vain.load(SeqCst));
    assert_eq!(again, in_vain, "who did not call stayed in the broker and was not put off");
}

#[tokio::test(start_paused = true)]
async fn handlers_share_a_breaker_by_its_name_and_others_of_the_channel_go_on() {
    let (provider, other) = (Provider::down_for(3600), Provider::down_for(0));
    let handlers = Handlers::new()
        .handle_with::<Fetch, _, _, _>(behind_a_breaker(&provider))
        .handle_with::<Look, _, _, _>(behind_a_breaker(&provider))
        .handle::<Add>(bare(&other));
    let worker = TestWorker::with_config(handlers, narrow()).await;
    send(&worker, 200).await;
    until("the breaker is open", || status(&worker, "shop.Look").breakers[0].open_until.is_some()).await;
    let calls = provider.calls.load(SeqCst);
    let began = clock::instant();
    for n in 0..50 {
        worker.deliver(&Add { n }).await.assert_done();
    }
    let took = clock::instant() - began;
    assert!(took < Duration::from_secs(3), "50 calls of 20 ms take {took:?}");
    assert!(provider.calls.load(SeqCst) - calls <= 2, "probes alone");
    *provider.down_until.lock().unwrap() = clock::instant();
    worker.idle().await;
    assert_eq!(provider.done.load(SeqCst), 200);
    assert!(provider.again.load(SeqCst) > 100, "most of them were put off meanwhile");
    assert_eq!(provider.counted.load(SeqCst), 10, "uncounted");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_calls_nobody_makes_room_for_the_next_one() {
    let provider = Provider::down_for(30);
    let worker = TestWorker::new(Handlers::new().handle_with::<Fetch, _, _, _>(behind_a_breaker(&provider))).await;
    send(&worker, 20).await;
    until("the breaker is open", || status(&worker, "shop.Fetch").breakers[0].open_until.is_some()).await;
    // Wrong messages would otherwise hold the breaker open for ever.
    for _ in 0..5 {
        worker.deliver(&Fetch { n: WRONG }).await.assert_dead(Reason::Permanent.word());
    }
    worker.idle().await;
    assert_eq!(provider.done.load(SeqCst), 20);
}

#[tokio::test(start_paused = true)]
async fn what_would_be_held_for_longer_than_the_broker_waits_is_put_off_uncounted() {
    let (provider, began) = (Provider::down_for(3600), clock::instant());
    let mut config = narrow();
    config.worker.ack_timeout = Duration::from_secs(120);
    let handlers = Handlers::new().handle_with::<Fetch, _, _, _>(behind_a_breaker(&provider));
    let worker = TestWorker::with_config(handlers, config).await;
    send(&worker, 16).await;
    until("the breaker is open", || status(&worker, "shop.Fetch").breakers[0].open_until.is_some()).await;
    let outcome = worker.deliver(&Fetch { n: 17 }).await;
    outcome.assert_retry();
    assert!(outcome.error().contains("`provider` is left alone"), "{}", outcome.error());
    assert!(clock::instant() - began < Duration::from_secs(60), "held for {:?}", clock::instant() - began);
    let outcome = worker.next_attempt(&outcome).await;
    assert_eq!((outcome.envelope.hop.attempt, outcome.envelope.hop.failures), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_past_its_expiry_is_expired_and_not_handled() {
    let provider = Provider::down_for(3600);
    let worker = TestWorker::new(Handlers::new().handle_with::<Fetch, _, _, _>(behind_a_breaker(&provider))).await;
    send(&worker, 20).await;
    until("the breaker is open for a while", || {
        let open = status(&worker, "shop.Fetch").breakers[0].open_until;
        open.is_some_and(|until| until > clock::instant() + Duration::from_secs(10))
    })
    .await;
    let expires = clock::now() + Duration::from_secs(5);
    let envelope = Envelope { expires: Some(expires), ..Envelope::of(&Fetch { n: 30 }, "/test").unwrap() };
    assert_eq!(worker.deliver_envelope(envelope).await.fate, Fate::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_its_handler_gives_up_is_an_outage() {
    let breaker = Breaker::new("silent");
    for _ in 0..11 {
        let call = breaker.call(std::future::pending::<anyhow::Result<()>>(), |_| Some(Outage::Failed));
        tokio::time::timeout(Duration::from_secs(1), call).await.unwrap_err();
    }
    assert!(breaker.status().open_until.is_some());
    assert!(breaker.call(async { anyhow::Ok(()) }, |_| None).await.is_err(), "nobody is called");
    tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await.unwrap_err();
    assert!(breaker.call(async { anyhow::Ok(()) }, |_| None).await.unwrap().is_ok());
    assert_eq!(breaker.status().open_until, None);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_polls_with_retry_after_makes_no_storm() {
    async fn poll(_: Fetch, cx: &mut Context) -> pitcrew::Result {
        if cx.meta().hop.attempt < 3 {
            return Err(pitcrew::HandlerError::retry_after(Duration::from_secs(60), anyhow::anyhow!("not yet")));
        }
        Ok(())
    }
    let worker = TestWorker::new(Handlers::new().handle(poll)).await;
    send(&worker, 500).await;
    worker.idle().await;
    assert_eq!(status(&worker, "shop.Fetch").storm, None);
    assert_eq!(worker.letters().await.len(), 0);
}
