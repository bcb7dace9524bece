//! Message Dispatcher: which code answers which type. Typed at registration, erased from there on.

use super::{Erased, Handler, Typed};
use crate::{
    BoxFuture, Breaker, Envelope, Message,
    context::{Row, RowSpec},
    message::{self, DecodeError, Intent, Kind},
};
use anyhow::Context as _;
use schemars::Schema;
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, HashMap},
    marker::PhantomData,
    panic::Location,
    sync::{Arc, Mutex, PoisonError},
};

/// What a handler may ask for while it is built. Handlers are built by `run`, `demo` and tests only: `schema export` and
/// `config check` need the types alone and open no connection.
#[derive(Clone, Debug)]
pub struct Setup {
    pub(crate) consumer: Arc<str>,
    pub(crate) sections: Arc<BTreeMap<String, serde_json::Value>>,
    pub(crate) postgres: Option<sqlx::PgPool>,
    /// All of this worker, by name.
    breakers: Arc<Mutex<BTreeMap<String, Breaker>>>,
    /// Those that this handler asked for.
    asked: Arc<Mutex<Vec<Breaker>>>,
}

impl Setup {
    /// This handler's config section `[handlers."<consumer>"]`, typed; unknown keys are refused by the struct's own
    /// `#[serde(deny_unknown_fields)]`, absent ones filled by its `#[serde(default)]`.
    ///
    /// # Errors
    /// Names the section and the key.
    pub fn config<C: DeserializeOwned>(&self) -> anyhow::Result<C> {
        let section = self.sections.get(&*self.consumer).cloned();
        let section = section.unwrap_or_else(|| serde_json::Value::Object(serde_json::Map::new()));
        serde_json::from_value(section).with_context(|| format!("[handlers.\"{}\"]", self.consumer))
    }

    /// The Circuit Breaker of what is called `name`, shared with all handlers of this worker that ask for the same name. While
    /// it is open none of this handler's messages is begun, except one probe at a time.
    pub fn breaker(&self, name: &str) -> Breaker {
        let mut all = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = all.entry(name.to_owned()).or_insert_with(|| Breaker::new(name)).clone();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.iter().all(|other| other.name() != name) {
            asked.push(breaker.clone());
        }
        breaker
    }

    /// The worker's Postgres pool, for reads of the author's own.
    ///
    /// # Errors
    /// On another store.
    pub fn postgres(&self) -> anyhow::Result<sqlx::PgPool> {
        self.postgres.clone().context("this handler needs a Postgres store: start with --store postgres://…")
    }
}

type Build = Box<dyn FnOnce(Setup) -> BoxFuture<'static, anyhow::Result<Box<dyn Erased>>> + Send>;

enum Made {
    Ready(Box<dyn Erased>),
    Later(Build),
}

struct Entry {
    ty: &'static str,
    version: u32,
    intent: Intent,
    /// Given by `named`; the subscription is then its own.
    name: Option<String>,
    rust: &'static str,
    at: &'static Location<'static>,
    made: Made,
    schema: fn() -> Schema,
    check: Check,
    external: Option<External>,
}

/// What a handler calls outside the database, and what a call is worth of which nobody knows whether it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct External {
    pub(crate) system: &'static str,
    pub(crate) in_doubt_is_dead: bool,
}

/// Whether a handler of this build would read the payload.
pub(crate) type Check = fn(&Envelope) -> Result<(), DecodeError>;

#[derive(Clone, Copy)]
struct Emitted {
    version: u32,
    intent: Intent,
    schema: fn() -> Schema,
    check: Check,
}

/// The list of handlers: what `main` passes to [`crate::main`].
#[derive(Default)]
pub struct Handlers {
    entries: Vec<Entry>,
    emits: BTreeMap<&'static str, Emitted>,
    rows: Vec<RowSpec>,
    next_name: Option<String>,
    needs_postgres: Vec<String>,
    mistakes: Vec<String>,
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|e| (e.ty, e.rust))).finish()
    }
}

impl Handlers {
    /// No handler yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a handler. Its name, the first part of the inbox key, is the message's `TYPE`.
    #[track_caller]
    pub fn handle<M: Message>(self, handler: impl Handler<M>) -> Self {
        let rust = std::any::type_name_of_val(&handler);
        self.add::<M>(rust, Made::Ready(Box::new(Typed(handler, PhantomData))))
    }

    /// Registers a handler with dependencies: built once, at start, from its config section.
    #[track_caller]
    pub fn handle_with<M, H, B, Fut>(self, build: B) -> Self
    where
        M: Message,
        H: Handler<M>,
        B: FnOnce(Setup) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<H>> + Send + 'static,
    {
        let build: Build = Box::new(move |setup| {
            Box::pin(async move { Ok(Box::new(Typed::<M, H>(build(setup).await?, PhantomData)) as Box<dyn Erased>) })
        });
        self.add::<M>(std::any::type_name::<H>(), Made::Later(build))
    }

    /// Names the next handler: a second subscription to an event type, with a queue or group and an inbox key of its own.
    pub fn named(mut self, name: &str) -> Self {
        if !crate::route::is_name(name) {
            self.mistakes.push(format!("the handler name `{name}` may hold a–z, 0–9, `.` and `-` only"));
        }
        self.next_name = Some(name.to_owned());
        self
    }

    /// Declares what these handlers send, so that routes are checked at start and the contract can be exported.
    pub fn emits<M: Message>(mut self) -> Self {
        let emitted = Emitted {
            version: M::VERSION,
            intent: <M::Kind as Kind>::INTENT,
            schema: || schemars::schema_for!(M),
            check: |envelope| message::decode::<M>(envelope).map(drop),
        };
        self.emits.insert(M::TYPE, emitted);
        self
    }

    /// Declares a table of the author's own that these handlers write with `cx.put`, so that its columns are checked at start.
    pub fn writes<R: Row>(mut self) -> Self {
        self.rows.push(RowSpec::of::<R>());
        self
    }

    /// The handler registered last uses `cx.transaction()`: a start on another store is refused.
    pub fn needs_postgres(mut self) -> Self {
        if let Some(last) = self.entries.last() {
            self.needs_postgres.push(last.ty.to_owned());
        }
        self
    }

    /// The handler registered last calls `system` outside the database (`"smtp"`, `"stripe"`), where no transaction takes back what
    /// was done. Such a handler asks the inbox before every message, and writes down that it begins before it does: that costs a
    /// query and a commit a message, and what was begun and did not end is known. It runs again then, as any other, unless
    /// [`in_doubt_is_dead`](Self::in_doubt_is_dead) says otherwise; a replay of its dead letters wants `--repeat-external`.
    #[track_caller]
    pub fn external(mut self, system: &'static str) -> Self {
        let at = Location::caller();
        match self.entries.last_mut() {
            Some(last) => last.external = Some(External { system, in_doubt_is_dead: false }),
            None => self.mistakes.push(format!(".external(\"{system}\") follows no handler ({at})")),
        }
        self
    }

    /// The handler registered last must not call its external system twice: what was begun and did not end (its worker died, it
    /// panicked, passed its deadline or outlived a shutdown, or lost a race for a document) is dead(in doubt), for a person to decide.
    #[track_caller]
    pub fn in_doubt_is_dead(mut self) -> Self {
        let at = Location::caller();
        match self.entries.last_mut().and_then(|last| last.external.as_mut()) {
            Some(external) => external.in_doubt_is_dead = true,
            None => self.mistakes.push(format!(".in_doubt_is_dead() belongs behind .external(\"…\") ({at})")),
        }
        self
    }

    #[track_caller]
    fn add<M: Message>(mut self, rust: &'static str, made: Made) -> Self {
        let (at, name) = (Location::caller(), self.next_name.take());
        let intent = <M::Kind as Kind>::INTENT;
        if let Some(first) = self.entries.iter().find(|e| e.ty == M::TYPE && e.name == name) {
            self.mistakes.push(format!(
                "`{}` has two handlers: {} ({}) and {rust} ({at}); an event may have a second one under a name: .named(\"…\")",
                M::TYPE, first.rust, first.at
            ));
        } else if intent == Intent::Command && self.entries.iter().any(|e| e.ty == M::TYPE) {
            self.mistakes.push(format!("the command `{}` has two handlers; a command has exactly one ({at})", M::TYPE));
        }
        let schema: fn() -> Schema = || schemars::schema_for!(M);
        let check: Check = |envelope| message::decode::<M>(envelope).map(drop);
        self.entries.push(Entry {
            ty: M::TYPE,
            version: M::VERSION,
            intent,
            name,
            rust,
            at,
            made,
            schema,
            check,
            external: None,
        });
        self
    }

    /// JSON Schemas of all messages by type, those handled and those sent.
    pub fn schemas(&self) -> BTreeMap<&'static str, Schema> {
        let handled = self.entries.iter().map(|e| (e.ty, (e.schema)()));
        handled.chain(self.emits.iter().map(|(ty, e)| (*ty, (e.schema)()))).collect()
    }

    /// Whether this build would read the payload, for whoever sends one that no compiler has seen.
    pub(crate) fn check(&self, envelope: &Envelope) -> Result<(), DecodeError> {
        let handled = self.entries.iter().find(|e| e.ty == envelope.ty).map(|e| e.check);
        let check = handled.or_else(|| self.emits.get(envelope.ty.as_str()).map(|e| e.check));
        check.map_or(Ok(()), |check| check(envelope))
    }

    /// For each type, whether a handler of this build would read the payload.
    pub(crate) fn checks(&self) -> BTreeMap<&'static str, Check> {
        let emitted = self.emits.iter().map(|(ty, e)| (*ty, e.check));
        emitted.chain(self.entries.iter().map(|e| (e.ty, e.check))).collect()
    }

    /// What the list says, without building anything.
    pub(crate) fn contract(&self) -> Contract {
        let mut types: BTreeMap<&'static str, TypeInfo> = BTreeMap::new();
        for e in &self.entries {
            let info = types.entry(e.ty).or_insert_with(|| TypeInfo::new(e.version, e.intent));
            info.subscribers.push(e.name.clone());
        }
        for (ty, e) in &self.emits {
            types.entry(ty).or_insert_with(|| TypeInfo::new(e.version, e.intent)).emitted = true;
        }
        Contract {
            types,
            rows: self.rows.clone(),
            needs_postgres: self.needs_postgres.clone(),
            external: self
                .entries
                .iter()
                .filter_map(|e| Some((e.name.clone().unwrap_or_else(|| e.ty.to_owned()), e.external?.system)))
                .collect(),
            mistakes: self.mistakes.clone(),
        }
    }

    /// Builds every handler. All mistakes of the list at once; a failed build names the handler and its place.
    pub(crate) async fn build(
        self,
        sections: BTreeMap<String, serde_json::Value>,
        postgres: Option<sqlx::PgPool>,
    ) -> anyhow::Result<Registry> {
        anyhow::ensure!(self.mistakes.is_empty(), "{}", self.mistakes.join("\n"));
        let (sections, breakers) = (Arc::new(sections), Arc::default());
        let mut handlers = HashMap::new();
        for entry in self.entries {
            let consumer: Arc<str> = entry.name.as_deref().unwrap_or(entry.ty).into();
            let asked = Arc::<Mutex<Vec<Breaker>>>::default();
            let setup = Setup {
                consumer: consumer.clone(),
                sections: sections.clone(),
                postgres: postgres.clone(),
                breakers: Arc::clone(&breakers),
                asked: asked.clone(),
            };
            let call = match entry.made {
                Made::Ready(handler) => handler,
                Made::Later(build) => build(setup)
                    .await
                    .with_context(|| format!("building the handler of `{}` ({})", entry.ty, entry.at))?,
            };
            let breakers = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let registered = Registered { consumer, version: entry.version, breakers, external: entry.external, call };
            handlers.insert((entry.name, entry.ty), Arc::new(registered));
        }
        Ok(Registry { handlers })
    }
}

/// A type as this build knows it.
#[derive(Clone, Debug)]
pub(crate) struct TypeInfo {
    /// The newest version that this build reads or writes.
    pub(crate) version: u32,
    pub(crate) intent: Intent,
    /// `None` for the service's shared subscription, `Some(name)` for a handler's own.
    pub(crate) subscribers: Vec<Option<String>>,
    pub(crate) emitted: bool,
}

impl TypeInfo {
    fn new(version: u32, intent: Intent) -> Self {
        Self { version, intent, subscribers: Vec::new(), emitted: false }
    }
}

/// All that is known of the handlers without building them.
#[derive(Clone, Debug)]
pub(crate) struct Contract {
    pub(crate) types: BTreeMap<&'static str, TypeInfo>,
    pub(crate) rows: Vec<RowSpec>,
    pub(crate) needs_postgres: Vec<String>,
    /// What handlers call outside the database, by consumer.
    pub(crate) external: BTreeMap<String, &'static str>,
    pub(crate) mistakes: Vec<String>,
}

impl Contract {
    /// The names of all handlers.
    pub(crate) fn consumers(&self) -> Vec<String> {
        let of_type = |(ty, info): (&&'static str, &TypeInfo)| -> Vec<String> {
            info.subscribers.iter().map(|name| name.clone().unwrap_or_else(|| (*ty).to_owned())).collect()
        };
        self.types.iter().flat_map(of_type).collect()
    }
}

pub(crate) struct Registered {
    pub(crate) consumer: Arc<str>,
    pub(crate) version: u32,
    /// Those that it asked for while it was built.
    pub(crate) breakers: Vec<Breaker>,
    pub(crate) external: Option<External>,
    pub(crate) call: Box<dyn Erased>,
}

/// The handlers, built.
pub(crate) struct Registry {
    handlers: HashMap<(Option<String>, &'static str), Arc<Registered>>,
}

impl Registry {
    /// The handlers of one subscription: `None` is the one that unnamed handlers share.
    pub(crate) fn of(&self, name: Option<&str>) -> HashMap<&'static str, Arc<Registered>> {
        let mine = self.handlers.iter().filter(|((n, _), _)| n.as_deref() == name);
        mine.map(|((_, ty), handler)| (*ty, handler.clone())).collect()
    }

    pub(crate) fn consumers(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.handlers.values()
    }
}
