//! One worker after another on one store and one broker, each on a thread of its own, which stops for good where it is killed.

use super::External;
use crate::{
    Envelope, Handlers,
    clock::{self, VirtualTime},
    config::Config,
    fault::{self, Plan, Point},
    store::memory::MemoryStore,
    testing::worker::{TestWorker, broker::Broker},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
};

/// Nothing that a worker has to do here takes longer.
const LIMIT: Duration = Duration::from_mins(1);
/// How well a worker knows the time at which the one before it died.
const TICK: Duration = Duration::from_secs(10);

/// How the life of a worker ended.
#[derive(Debug)]
pub(super) enum End {
    Died,
    /// There was nothing more to do; so often each point was passed.
    Idle(HashMap<Point, u32>),
}

/// What several lives share.
pub(super) struct Cell {
    store: Arc<MemoryStore>,
    broker: Mutex<Arc<Broker>>,
    /// Messages that were handed to the broker.
    pushed: Arc<AtomicUsize>,
    /// The latest time that anybody here has seen, in µs.
    time: Arc<AtomicI64>,
    real_time: bool,
    /// Each message is delivered once more when all are done.
    again: bool,
}

impl Cell {
    pub(super) fn new(at: DateTime<Utc>, real_time: bool, again: bool) -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            broker: Mutex::default(),
            pushed: Arc::default(),
            time: Arc::new(at.timestamp_micros().into()),
            real_time,
            again,
        }
    }

    pub(super) fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// What was handed in so far was the beginning; the rest counts. Says how much was committed until now.
    pub(super) fn begin_messages(&self) -> usize {
        self.pushed.store(0, SeqCst);
        *self.broker() = Arc::default(); // a worker that ended has closed it
        self.store.recorded().len()
    }

    /// A worker that goes on where the last one ended.
    pub(super) fn live(
        &self,
        handlers: Handlers,
        config: &Config,
        messages: &[Arc<Envelope>],
        external: &External,
        plan: Option<Plan>,
    ) -> End {
        let name = format!("crash-test-{}", clock::uuid_v7());
        let (tell, told) = channel();
        let died = tell.clone();
        fault::arm_and_tell(&name, plan, move || drop(died.send(Ok(End::Died))));
        external.now_of(&name);
        let life = self.life(handlers, config.clone(), messages.to_vec());
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(life)).map(|()| End::Idle(HashMap::new()));
            drop(tell.send(ended));
        });
        drop(thread.expect("the system has threads"));
        match told.recv_timeout(LIMIT) {
            Ok(Ok(End::Died)) => self.bury(),
            Ok(Ok(End::Idle(_))) => return End::Idle(fault::disarm(&name)),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!(
                "the worker still has something to do after {} s: a handler that waits for a server that does not answer, or a \
                 message that comes again and again",
                LIMIT.as_secs()
            ),
        }
        End::Died
    }

    fn life(&self, handlers: Handlers, config: Config, messages: Vec<Arc<Envelope>>) -> impl FnOnce() + Send + 'static {
        let (store, broker) = (self.store.clone(), self.broker().clone());
        let (pushed, time, real_time, again) = (self.pushed.clone(), self.time.clone(), self.real_time, self.again);
        move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(!real_time).build().expect("the system has a runtime");
            runtime.block_on(async move {
                let began = DateTime::from_timestamp_micros(time.load(SeqCst)).unwrap_or_default();
                let _time = VirtualTime::start(began);
                tokio::spawn(tell_the_time(time));
                let worker = match TestWorker::between(store, broker, handlers, config).await {
                    Ok(worker) => worker,
                    Err(refusal) => panic!("the worker does not start: {refusal:#}"),
                };
                worker.at_rest().await; // what a dead one left
                while let Some(message) = messages.get(pushed.fetch_add(1, SeqCst)) {
                    worker.hand_in(message.clone()).await;
                    worker.at_rest().await;
                }
                for message in messages.into_iter().filter(|_| again) {
                    worker.hand_in(message).await;
                    worker.at_rest().await;
                }
                worker.shutdown().await;
            });
        }
    }

    /// What a death leaves to the next.
    fn bury(&self) {
        let mut broker = self.broker();
        let left = broker.after_a_death();
        *broker = Arc::new(left);
        self.store.bury_workers();
    }

    fn broker(&self) -> std::sync::MutexGuard<'_, Arc<Broker>> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So that the next worker does not live before the one that died.
async fn tell_the_time(time: Arc<AtomicI64>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let next = clock::now() + TimeDelta::from_std(TICK).unwrap_or_default();
        time.store(next.timestamp_micros(), SeqCst);
    }
}
