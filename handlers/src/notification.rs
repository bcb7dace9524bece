//! Event-Driven Consumer: users are told of what has happened, by mail, by a webhook, or in a file.
//!
//! Two steps, in reading order. [`Notifier`] answers the events: what is said (`told.rs`, `template.rs`) and by which ways, one
//! command each (`contract.rs`). [`Mailer`] and [`Caller`] answer these commands: when it may be said (`schedule.rs`), and then the
//! call outside the database (`mail.rs`, `webhook.rs`), which no transaction takes back. `address_book.rs` keeps who wants what.
//! A user without an address is told in a file (`file_sink.rs`).

pub mod address_book;
pub mod contract;
pub mod file_sink;
pub mod mail;
pub mod schedule;
pub mod template;
pub mod told;
pub mod webhook;

use crate::{
    fraud::contract::FraudReviewScored, history::contract::VehicleHistoryFetched,
    image::contract::ListingImageProcessed, recommendation::contract::RecommendationBriefGenerated,
};
use contract::{CallWebhook, Channel, Contact, Letter, Notification, Pace, SendMail, SetContact};
use file_sink::{FileSink, SinkConfig};
use mail::{MailConfig, MailError, Smtp};
use pitcrew::{Breaker, Command, Context, Handler, HandlerError, Message, OrElse, Setup};
use serde::Deserialize;
use std::{marker::PhantomData, path::PathBuf, time::Duration};
use template::Template;
use told::Told;
use webhook::{Webhook, WebhookConfig, WebhookError};

/// Answers the event `E`.
///
/// The line in the file is an effect *outside* the database, so it is at-least-once: a worker that dies between the append and
/// the commit appends again when the event comes again. Each line carries the event's ID, by which a reader drops the second
/// one. The [`Notification`] is an effect inside: it is there exactly once. So are the commands to the other ways.
#[derive(Debug)]
pub struct Notifier<E> {
    template: Template,
    sink: FileSink,
    event: PhantomData<fn(E)>,
}

/// `[handlers."car.RecommendationBriefGenerated"]`, and so on for each event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NotifierConfig {
    /// See [`SinkConfig::path`].
    path: PathBuf,
    /// See [`SinkConfig::sync`].
    sync: bool,
    /// A file that says what is told, in place of the words in the binary: see [`Template`].
    template: Option<PathBuf>,
}
impl Default for NotifierConfig {
    fn default() -> Self {
        let SinkConfig { path, sync } = SinkConfig::default();
        Self { path, sync, template: None }
    }
}

impl<E: Told> Notifier<E> {
    /// Reads the template and opens the file once, so that what cannot work stops the start and not the first message.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        let NotifierConfig { path, sync, template } = setup.config()?;
        let template = Template::load(template.as_deref(), E::TEMPLATE)?;
        Ok(Self { template, sink: FileSink::open(SinkConfig { path, sync }).await?, event: PhantomData })
    }

    async fn tell(&self, event: E, cx: &mut Context) -> pitcrew::Result {
        let mut to = event.recipient();
        let contact = cx.load::<Contact>(&to.id).await?.map(|Contact(contact)| contact);
        if let Some(contact) = &contact {
            to.name.clone_from(&contact.name);
        }
        // What a template cannot say today it cannot say tomorrow.
        let (subject, text) = self.template.write(&event, &to).permanent()?;
        let letter = Letter { id: cx.meta().id.clone(), to, about: event.about(), subject, text };

        let (mail, webhook) = contact.as_ref().map_or((false, false), |c| (c.mail.is_some(), c.webhook.is_some()));
        // In a quiet hour the command already waits, and not first its handler.
        let wait =
            contact.as_ref().and_then(|c| c.quiet.as_ref()).map_or(Duration::ZERO, |q| schedule::quiet(q, cx.now()));
        if mail {
            send(&SendMail { letter: letter.clone() }, wait, cx)?;
        }
        if webhook {
            send(&CallWebhook { letter: letter.clone() }, wait, cx)?;
        }
        if mail || webhook {
            return Ok(());
        }
        let sent_to = self.sink.path().display().to_string();
        let notification = Notification { at: cx.now(), channel: Channel::File, sent_to, letter };
        // First what can fail here, then what cannot be taken back.
        cx.save(&notification)?;
        self.sink.append(&notification).await?;
        Ok(())
    }
}

/// One by one: a handler of all events `E` at once would stand in the way of handlers that are functions.
macro_rules! tells {
    ($($event:ty),+) => {$(
        impl Handler<$event> for Notifier<$event> {
            async fn handle(&self, event: $event, cx: &mut Context) -> pitcrew::Result {
                self.tell(event, cx).await
            }
        }
    )+};
}
tells!(RecommendationBriefGenerated, ListingImageProcessed, VehicleHistoryFetched, FraudReviewScored);

fn send<M: Message<Kind = Command>>(command: &M, wait: Duration, cx: &mut Context) -> pitcrew::Result {
    if wait.is_zero() {
        cx.send(command)?
    } else {
        cx.send_after(command, wait)?
    }
    Ok(())
}

/// What is the same for both ways: whether it is this letter's turn, and the note that it went.
struct Turn {
    channel: Channel,
    address: String,
    pace: Option<Pace>,
}

impl Turn {
    /// `None`: it is not its turn, and comes again. It waits as a row or in a queue, so no handler and no thread does.
    async fn take<M: Message<Kind = Command>>(
        channel: Channel,
        letter: &Letter,
        command: &M,
        address: impl FnOnce(SetContact) -> Option<String>,
        cx: &mut Context,
    ) -> pitcrew::Result<Option<Self>> {
        let Some(Contact(contact)) = cx.load(&letter.to.id).await? else { return Err(nowhere(channel, letter)) };
        let pace: Option<Pace> = cx.load(pace_id(channel, letter)).await?;
        // As it is wanted now: it may have waited for hours.
        let quiet = contact.quiet.as_ref().map_or(Duration::ZERO, |quiet| schedule::quiet(quiet, cx.now()));
        let slow = contact.per_hour.map_or(Duration::ZERO, |most| schedule::pace(pace.as_ref(), most, cx.now()));
        let wait = quiet.max(slow);
        if !wait.is_zero() {
            cx.send_after(command, wait)?;
            return Ok(None);
        }
        let address = address(contact).ok_or_else(|| nowhere(channel, letter))?;
        Ok(Some(Self { channel, address, pace }))
    }

    fn taken(self, letter: Letter, cx: &mut Context) -> pitcrew::Result {
        let (channel, now) = (self.channel, cx.now());
        // A plain write: a guarded one could fail after the call, and the call would be made again. At worst one letter of two that
        // went at the same moment is not counted.
        cx.save(&schedule::step(self.pace, pace_id(channel, &letter), now))?;
        cx.save(&Notification { at: now, channel, sent_to: self.address, letter })?;
        Ok(())
    }
}

fn pace_id(channel: Channel, letter: &Letter) -> String {
    format!("{}/{}", letter.to.id, channel.name())
}

fn nowhere(channel: Channel, letter: &Letter) -> HandlerError {
    let (user, channel) = (&letter.to.id, channel.name());
    HandlerError::permanent(anyhow::anyhow!(
        "user `{user}` has no {channel} address any more; car.SetContact gives one"
    ))
}

/// Answers `car.SendMail`.
///
/// Registered with `.external("smtp")` and `.in_doubt_is_dead()`: nobody wants the same mail twice, so one whose worker, or whose
/// connection, died in the middle of the call waits for a person.
#[derive(Debug)]
pub struct Mailer {
    smtp: Smtp,
    breaker: Breaker,
}

impl Mailer {
    /// Reads the settings. No connection is made.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        Ok(Self { smtp: Smtp::new(setup.config::<MailConfig>()?)?, breaker: setup.breaker("smtp") })
    }
}

impl Handler<SendMail> for Mailer {
    async fn handle(&self, command: SendMail, cx: &mut Context) -> pitcrew::Result {
        let Some(turn) = Turn::take(Channel::Mail, &command.letter, &command, |c| c.mail, cx).await? else {
            return Ok(());
        };
        let mail = self.smtp.compose(&command.letter, &turn.address).permanent()?;
        let sent = self.breaker.call(self.smtp.send(mail), MailError::outage).await?;
        sent.map_err(|error| match error {
            MailError::Refused(_) | MailError::InDoubt(_) | MailError::NotSet => HandlerError::permanent(error),
            error => error.into(),
        })?;
        turn.taken(command.letter, cx)
    }
}

/// Answers `car.CallWebhook`.
///
/// Registered with `.external("webhook")`: a repeat is harmless where the receiver honours the idempotency key, which is the
/// letter's ID.
///
/// Without a breaker: each user has a receiver of their own, and one that is down says nothing of the others. Storm control slows
/// down if most of them fail.
#[derive(Debug)]
pub struct Caller {
    webhook: Webhook,
}

impl Caller {
    /// Reads the settings. No connection is made.
    pub async fn build(setup: Setup) -> anyhow::Result<Self> {
        Ok(Self { webhook: Webhook::new(setup.config::<WebhookConfig>()?)? })
    }
}

impl Handler<CallWebhook> for Caller {
    async fn handle(&self, command: CallWebhook, cx: &mut Context) -> pitcrew::Result {
        let Some(turn) = Turn::take(Channel::Webhook, &command.letter, &command, |c| c.webhook, cx).await? else {
            return Ok(());
        };
        let posted = self.webhook.post(&turn.address, &command.letter, cx.now()).await;
        posted.map_err(|error| match error {
            WebhookError::Refused { .. }
            | WebhookError::NotPublic(_)
            | WebhookError::NoUrl(_)
            | WebhookError::NotSet => HandlerError::permanent(error),
            WebhookError::Busy { after: Some(wait), .. } => HandlerError::retry_after(wait, error),
            error => error.into(),
        })?;
        turn.taken(command.letter, cx)
    }
}
