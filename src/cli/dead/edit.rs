//! `dead edit`: a letter's payload, mended by a person, goes as a new message, and the letter is given up for it.

mod text;

use super::{OPEN, letters_of, no_letter, resolve::would_repeat};
use crate::{
    Envelope, Handlers,
    cli::{
        Globals,
        advice::{Advice, quoted},
        output,
        send::at_most,
    },
    context::holds_nul,
    dead_letter,
    message::wire,
    payload::{Format, Mistake},
    store::{Bodies, DeadLetter, LetterState, Store},
};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};
use text::{Draft, changes, compact, pretty};

/// Send a letter's payload, mended, as a new message in its place; the letter is discarded.
#[derive(clap::Args)]
#[command(after_help = "\
$VISUAL or $EDITOR opens the payload. What it holds then is checked against the
type's JSON Schema, the changes are shown, and it is asked before anything is
sent. The message has a new ID, the old one as its cause (causationid), and
goes to the handler whose letter it was. Both payloads are kept in the audit.
What was typed and not sent is kept in a file, and its path is told.

Examples:
  {bin} dead edit 019ab0c2-6f3e-7d41-9a51-0f5e3c1b2a77
  {bin} dead edit ID --data mended.json --dry-run
  {bin} dead show ID --json | jq '.payload | .top = 3' \\
    | {bin} dead edit ID --data - --yes --note \"top was a word\"
  {bin} audit list --json | jq 'select(.action == \"edit\")'")]
pub(in crate::cli) struct Edit {
    /// The message's ID, or its beginning
    id: String,
    /// The new payload: a file with JSON, or - for standard input, in place of the editor
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Of this handler, where several have a letter of that ID
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Why; recorded
    #[arg(long, value_name = "TEXT", default_value = "edited from the command line", hide_default_value = true)]
    note: String,
    /// Check it and show the changes, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Also what may have acted outside the database already, and would act again
    #[arg(long)]
    repeat_external: bool,
}

impl Edit {
    pub(super) async fn run(self, store: &dyn Store, handlers: &Handlers, globals: &Globals) -> anyhow::Result<bool> {
        let letter = self.letter(store).await?;
        let editable = Editable::of(&letter, handlers)?;
        if let Some(why) = would_repeat(&letter.head(), &self.external(handlers)) {
            bail!("{}: {why}: --repeat-external edits it all the same", letter.key.id);
        }
        let limit = globals.config()?.worker.payload_limit;
        // Laid out for people it is larger than what is sent, which is measured then.
        let draft = self.typed(&letter, limit.saturating_mul(16))?;
        if draft.is_unchanged(&letter.payload) {
            draft.forget();
            self.say("nothing was changed, so nothing was done", json!({ "unchanged": true }), globals);
            return Ok(true);
        }
        let sent = self.send(store, &letter, &editable, &draft, limit, globals).await;
        match &sent {
            Ok(true) => draft.forget(),
            // What somebody typed is not lost for a mistake in it.
            _ => draft.tell_kept(|path| self.again(&letter.key.id, path, globals)),
        }
        sent
    }

    /// The same with what was typed.
    fn again(&self, id: &str, path: &Path, globals: &Globals) -> String {
        let mut words = String::new();
        for (flag, value) in [("--data", path.to_str()), ("--consumer", self.consumer.as_deref())] {
            words.extend(value.and_then(quoted).map(|value| format!(" {flag} {value}")));
        }
        if self.repeat_external {
            words += " --repeat-external";
        }
        let advice = Advice::of(globals);
        match quoted(id).filter(|id| !id.starts_with('-')) {
            Some(id) => advice.run(&format!("dead edit {id}{words}")),
            None => advice.about(&format!("dead edit{words}"), Some(id), "dead list"),
        }
    }

    fn external(&self, handlers: &Handlers) -> BTreeMap<String, &'static str> {
        if self.repeat_external { BTreeMap::new() } else { handlers.contract().external }
    }

    /// The one open letter that is meant.
    async fn letter(&self, store: &dyn Store) -> anyhow::Result<DeadLetter> {
        let mut letters = letters_of(store, &self.id).await?;
        let Some(first) = letters.first() else { bail!("{}", no_letter(store, &self.id).await?) };
        let state = first.state.word();
        letters.retain(|letter| {
            OPEN.contains(&letter.state) && self.consumer.as_ref().is_none_or(|name| *name == letter.key.consumer)
        });
        match (letters.pop(), letters.is_empty()) {
            (Some(letter), true) => Ok(letter),
            (None, _) if self.consumer.is_some() => bail!("{}: no open letter of that handler", self.id),
            (None, _) => bail!("{}: it is {state} already", self.id),
            (Some(last), false) => {
                letters.push(last);
                let names: Vec<&str> = letters.iter().map(|letter| &*letter.key.consumer).collect();
                bail!("{}: several handlers have a letter of it; --consumer chooses: {}", self.id, names.join(", "))
            }
        }
    }

    fn typed(&self, letter: &DeadLetter, limit: usize) -> anyhow::Result<Draft> {
        match &self.data {
            None => Draft::from_editor(&pretty(&String::from_utf8_lossy(&letter.payload)), limit),
            Some(path) if path == Path::new("-") => {
                let data = at_most(std::io::stdin().lock(), limit).context("reading standard input")?;
                Ok(Draft::typed(data))
            }
            Some(path) => {
                let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
                let data = at_most(file, limit).with_context(|| format!("reading {}", path.display()))?;
                Ok(Draft::in_file(data))
            }
        }
    }

    /// Checks, shows, asks, sends. `false`: it was told why not.
    async fn send(
        &self,
        store: &dyn Store,
        letter: &DeadLetter,
        editable: &Editable,
        draft: &Draft,
        limit: usize,
        globals: &Globals,
    ) -> anyhow::Result<bool> {
        let (id, ty) = (&letter.key.id, &letter.ty);
        let payload: Value = serde_json::from_slice(draft.data()).context("the new payload is not JSON")?;
        let text = std::str::from_utf8(draft.data()).context("the new payload is not UTF-8")?;
        let data = compact(text);
        ensure!(data.len() <= limit, "the new payload is larger than [worker] payload_limit");
        ensure!(!holds_nul(&data), "the new payload holds a NUL (\\u0000), which no store can keep");
        let after = data.clone().into_bytes();
        let envelope = dead_letter::successor(letter, editable.version, data.into())?;
        wire::check(&envelope)?;
        let mistakes = editable.format.mistakes(&payload, &envelope);
        if !mistakes.is_empty() {
            self.tell_mistakes(ty, &mistakes, globals);
            return Ok(false);
        }
        let changes = changes(serde_json::from_slice(&letter.payload).ok().as_ref(), &payload);
        if !globals.json {
            changes.iter().for_each(output::line);
        }
        if self.dry_run {
            let told = json!({ "dry_run": true, "changes": changes });
            self.say("a dry run: it can be sent as it is, and nothing was done", told, globals);
            return Ok(true);
        }
        let asks = "dead edit asks before it sends";
        if !self.yes && !output::confirmed(&format!("send this in place of {id}"), asks)? {
            return Ok(false);
        }
        let new = self.replace(store, letter, envelope, after, globals).await?;
        let told = json!({ "id": new, "changes": changes });
        self.say(&format!("sent as {new}; {id} is discarded for it"), told, globals);
        Ok(true)
    }

    /// In one transaction: the new message, the letter given up for it, and both payloads in the audit.
    async fn replace(
        &self,
        store: &dyn Store,
        letter: &DeadLetter,
        envelope: Envelope,
        after: Vec<u8>,
        globals: &Globals,
    ) -> anyhow::Result<String> {
        let (id, new) = (&letter.key.id, envelope.id.clone());
        let row = dead_letter::replace(letter, envelope)?;
        let mut audit = globals.audit("edit", id, &format!("replaced by {new}: {}", self.note));
        audit.bodies = Some(Box::new(Bodies { before: letter.payload.clone(), after }));
        let done = store.resolve_letter(&letter.key, LetterState::Discarded, &[row], &audit).await?;
        ensure!(done, "{id}: somebody else has decided it meanwhile");
        Ok(new)
    }

    fn tell_mistakes(&self, ty: &str, mistakes: &[Mistake], globals: &Globals) {
        if globals.json {
            return self.say("", json!({ "errors": mistakes }), globals);
        }
        let count = mistakes.len();
        eprintln!("error: the payload is no {ty}: {count} {}", if count == 1 { "mistake" } else { "mistakes" });
        for Mistake { pointer, detail } in mistakes {
            let place = if pointer.is_empty() { "(the whole)" } else { pointer };
            eprintln!("  {}: {}", output::short(place, 120), output::short(detail, 300));
        }
    }

    fn say(&self, text: &str, mut told: Value, globals: &Globals) {
        if globals.json {
            told["action"] = "edit".into();
            told["letter"] = self.id.as_str().into();
            output::line(told.to_string());
        } else {
            output::line(text);
        }
    }
}

/// What this build knows of the letter's type.
struct Editable {
    version: u32,
    format: Format,
}

impl Editable {
    fn of(letter: &DeadLetter, handlers: &Handlers) -> anyhow::Result<Self> {
        let (id, ty) = (&letter.key.id, letter.ty.as_str());
        ensure!(!ty.is_empty(), "{id}: its bytes are no message, so there is no type to check them against");
        let contract = handlers.contract();
        let known = contract.types.get(ty).zip(Format::find(ty, handlers)?);
        let Some((info, format)) = known else { bail!("{id}: this build knows no type `{ty}`; use one that does") };
        ensure!(
            letter.version <= info.version,
            "{id}: its version {} is newer than {}, the newest this build knows; use a newer build",
            letter.version,
            info.version
        );
        Ok(Self { version: info.version, format })
    }
}
