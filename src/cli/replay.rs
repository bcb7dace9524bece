//! `replay`: old records of a log through the pipeline again. The inbox decides what is new.

mod account;
mod look;

use super::{
    Globals,
    advice::Advice,
    did_you_mean, output,
    progress::{Signals, Told},
};
use crate::{
    Handlers, Worker, clock,
    config::{Config, parse_duration},
    store::Store,
    topology::Planned,
    transport::{Place, Stretch},
    worker::{self, Replay as Readings, open_store, open_transport},
};
use account::Account;
use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use output::Misuse;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tracing::warn;

/// [`Audit::action`] of a replay.
const REREAD: &str = "reread";

/// Run old records of a Kafka channel through the handlers of this binary again, in this process, beside running workers: their
/// offsets do not move. The inbox decides what is new; what was done is a duplicate. What fails comes again by the retry topics,
/// to a running worker. Ctrl-C ends it in order and says how to go on.
#[derive(clap::Args)]
#[command(after_help = "\
TIME is RFC 3339, or a duration: so long ago. It is the time of the record. A
log is not sorted by it: each record is asked for its own, and a --to that is
a time reads on to the end of the log. OFFSET is counted in each partition.

Examples:
  {bin} replay --channel car.commands --from 2h --dry-run
  {bin} replay --channel car.commands --from 2026-05-03T08:00:00Z \\
    --to 2026-05-03T09:30:00Z
  {bin} replay --channel car.commands --from 1200 --to 1300 --partition 3
  {bin} replay --channel car.commands --from 7d --rate 200 \\
    --type {type}

The exit code is 1 if it ended before the end.")]
pub(super) struct Replay {
    /// The channel
    #[arg(long, value_name = "NAME")]
    channel: String,
    /// The first record: TIME or OFFSET
    #[arg(long, value_name = "PLACE", value_parser = place)]
    from: Place,
    /// Up to here, without it: TIME or OFFSET [default: what the log holds now]
    #[arg(long, value_name = "PLACE", value_parser = place)]
    to: Option<Place>,
    /// This partition only
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// This message type only; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Go on where an earlier replay ended, as it said
    #[arg(long, value_name = "PARTITION:OFFSET,…", value_parser = offsets)]
    resume: Option<BTreeMap<i32, i64>>,
    /// Count what is new, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// At most so many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

impl Replay {
    pub(super) fn run(self, globals: &Globals, handlers: Handlers) -> anyhow::Result<bool> {
        let config = globals.config()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting a runtime")?;
        runtime.block_on(async {
            let planned = self.planned(&handlers, &config)?;
            let transport = open_transport(&config)?;
            let subscriptions = planned.iter().map(|planned| &planned.subscription);
            let begun = Readings::begin(transport.clone(), subscriptions, self.stretch(), self.rate).await;
            let readings = begun.with_context(|| format!("reading `{}` again", self.channel))?;
            if self.dry_run {
                let opened = globals.store().await?;
                let looked = look::look(&self, &readings, &planned, &*opened.store, globals.json).await;
                transport.close().await;
                opened.store.close().await;
                return looked;
            }
            let opened = open_store(&config, true).await?;
            let done = self.work(globals, config, handlers, opened.store.clone(), readings).await;
            drop(opened.lock);
            done
        })
    }

    /// The subscriptions of the channel in this binary.
    fn planned(&self, handlers: &Handlers, config: &Config) -> anyhow::Result<Vec<Planned>> {
        let planned = worker::plan(handlers, config)?.subscriptions;
        let ours: Vec<Planned> =
            planned.iter().filter(|planned| *planned.subscription.channel == *self.channel).cloned().collect();
        if ours.is_empty() {
            let known: Vec<&str> = planned.iter().map(|planned| &*planned.subscription.channel).collect();
            let hint = did_you_mean(&self.channel, known.iter().copied());
            let text =
                format!("no handler of this build listens to `{}`{hint}; known: {}", self.channel, known.join(", "));
            return Err(Misuse(text).into());
        }
        let types: Vec<&str> =
            ours.iter().flat_map(|planned| &planned.subscription.types).map(String::as_str).collect();
        if let Some(stranger) = self.types.iter().find(|ty| !types.contains(&ty.as_str())) {
            let hint = did_you_mean(stranger, types.iter().copied());
            return Err(Misuse(format!("no handler of `{}` takes `{stranger}`{hint}", self.channel)).into());
        }
        Ok(ours)
    }

    fn stretch(&self) -> Stretch {
        Stretch {
            from: self.from,
            to: self.to,
            partition: self.partition,
            resume: self.resume.clone().unwrap_or_default(),
            types: self.types.clone(),
            only_look: self.dry_run,
        }
    }

    async fn work(
        &self,
        globals: &Globals,
        config: Config,
        handlers: Handlers,
        store: Arc<dyn Store>,
        readings: Readings,
    ) -> anyhow::Result<bool> {
        let mut signals = Signals::listen()?;
        let progress = readings.progress();
        let worker = Worker::new(config, handlers).channels(vec![self.channel.clone()]);
        let running = worker.start(store.clone(), Arc::new(readings)).await?;
        let counters = running.counters();
        let account = || Account::of(&self.channel, &progress, counters.fates());
        self.record(globals, &*store).await;
        let mut told = Told::default();
        let ended = loop {
            tokio::select! {
                () = running.through() => break true,
                () = signals.next() => break false,
                () = tokio::time::sleep(Duration::from_secs(1)) => told.tell(&account().progress()),
            }
        };
        told.end();
        if !ended {
            eprintln!("ending: what runs may finish; a second signal ends at once");
        }
        tokio::select! {
            () = running.shutdown() => {}
            () = signals.next() => {
                warn!("ended at once; what was open is not finished");
                std::process::exit(130)
            }
        }
        let account = account();
        if globals.json {
            output::line(account.json(&self.again(globals, &account)).to_string());
        } else {
            account.lines(&self.again(globals, &account)).into_iter().for_each(output::line);
        }
        Ok(account.is_whole())
    }

    /// Who read what again, for those who wonder later. A replay is not kept from running by it.
    async fn record(&self, globals: &Globals, store: &dyn Store) {
        let audit = globals.audit(REREAD, &self.channel, &self.arguments().join(" "));
        if let Err(error) = store.record_action(&audit).await {
            warn!(%error, "it is not written down who replays");
        }
    }

    /// This command line with every time spelt out.
    fn arguments(&self) -> Vec<String> {
        let mut words = vec!["--channel".to_owned(), self.channel.clone(), "--from".into(), spelt(self.from)];
        let mut add =
            |name: &str, value: Option<String>| words.extend(value.into_iter().flat_map(|v| [name.into(), v]));
        add("--to", self.to.map(spelt));
        add("--partition", self.partition.map(|number| number.to_string()));
        for ty in &self.types {
            add("--type", Some(ty.clone()));
        }
        add("--rate", self.rate.map(|rate| rate.to_string()));
        words
    }

    /// How to go on where this one ended.
    fn again(&self, globals: &Globals, account: &Account) -> String {
        let resume: Vec<String> =
            account.resume.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
        let words = format!("replay {} --resume {}", self.arguments().join(" "), resume.join(","));
        Advice::of(globals).run(&words)
    }
}

fn spelt(place: Place) -> String {
    match place {
        Place::Offset(offset) => offset.to_string(),
        Place::Time(at) => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    }
}

fn place(text: &str) -> Result<Place, String> {
    if let Ok(offset) = text.parse::<i64>() {
        return if offset < 0 { Err("an offset is 0 or more".into()) } else { Ok(Place::Offset(offset)) };
    }
    if let Some(ago) = parse_duration(text) {
        return Ok(Place::Time(clock::now() - ago));
    }
    let time = DateTime::parse_from_rfc3339(text).map(|at| Place::Time(at.with_timezone(&Utc)));
    time.map_err(|_| {
        format!("`{text}` is no place in a log; for example 2h (ago), 2026-05-03T08:00:00Z or an offset, 1200")
    })
}

fn offsets(text: &str) -> Result<BTreeMap<i32, i64>, String> {
    let one = |part: &str| {
        let (partition, offset) = part.split_once(':')?;
        Some((partition.trim().parse().ok()?, offset.trim().parse().ok()?))
    };
    let offsets: Option<BTreeMap<i32, i64>> = text.split(',').map(one).collect();
    offsets.ok_or_else(|| format!("`{text}` is no list of places; for example 0:1200,1:1170"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_offset_or_a_time() {
        assert_eq!(place("1200"), Ok(Place::Offset(1_200)));
        let time = Place::Time("2026-05-03T08:00:00Z".parse().unwrap());
        assert_eq!((place("2026-05-03T10:00:00+02:00"), spelt(time)), (Ok(time), "2026-05-03T08:00:00Z".into()));
        let Ok(Place::Time(ago)) = place("2h") else { panic!("a duration is a time") };
        let since = clock::now() - ago;
        assert!((7_199..7_201).contains(&since.num_seconds()), "{since}");
        assert!(place("-3").is_err() && place("yesterday").is_err() && place("").is_err());
    }

    #[test]
    fn what_a_replay_says_is_what_the_next_one_reads() {
        assert_eq!(offsets("0:12,1:88"), Ok(BTreeMap::from([(0, 12), (1, 88)])));
        assert!(offsets("0:12,").is_err() && offsets("12").is_err());
    }
}
