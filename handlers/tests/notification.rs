//! The notification worker in a whole worker without services, against a real SMTP server and a real HTTP receiver. Where somebody
//! is called time is real; where somebody waits it is not.

#[path = "notification/smtp.rs"]
mod smtp;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::AppendHeaders,
    routing::post,
};
use car_workers::{
    fraud::contract::{FraudReviewScored, Outcome as Verdict, Seller},
    handlers,
    history::contract::VehicleHistoryFetched,
    image::contract::ListingImageProcessed,
    notification::{
        contract::{CallWebhook, Channel, Letter, Notification, Quiet, Recipient, SendMail, SetContact},
        webhook::{self, KEY, SIGNATURE, WINDOW},
    },
    recommendation::contract::{Buyer, RecommendationBriefGenerated},
};
use chrono::NaiveTime;
use pitcrew::{
    Message, clock,
    config::{ChannelConfig, Config, RetryPolicy},
    store::{AttemptKind, Fate},
    testing::{Outcome, TestWorker},
};
use serde_json::{Value, json};
use smtp::SmtpServer;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

const SECRET: &str = "a secret that both of us know";

struct Bed {
    worker: TestWorker,
    folder: TempDir,
}

impl Bed {
    /// `sections`: of `[handlers."…"]`.
    async fn make(sections: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        for ty in [
            RecommendationBriefGenerated::TYPE,
            ListingImageProcessed::TYPE,
            VehicleHistoryFetched::TYPE,
            FraudReviewScored::TYPE,
        ] {
            let section = json!({ "path": folder.path().join("told.log"), "sync": false });
            config.handlers.insert(ty.into(), serde_json::from_value(section).unwrap());
        }
        for (ty, section) in sections.as_object().unwrap() {
            config.handlers.insert(ty.clone(), serde_json::from_value(section.clone()).unwrap());
        }
        let first = Duration::from_millis(10);
        let retry = RetryPolicy { first, max: Duration::from_millis(20), tiers: vec![first], ..RetryPolicy::default() };
        config.channel.insert("car.commands".parse().unwrap(), ChannelConfig { retry, ..ChannelConfig::default() });
        Self { worker: TestWorker::with_config(handlers(), config).await, folder }
    }

    async fn contact(&self, change: Value) -> Outcome {
        let mut contact = json!({ "user": "ada", "name": "Ada L." });
        contact.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.worker.deliver(&serde_json::from_value::<SetContact>(contact).unwrap()).await
    }

    fn lines(&self) -> Vec<Notification> {
        let file = std::fs::read_to_string(self.folder.path().join("told.log")).unwrap_or_default();
        file.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn brief() -> RecommendationBriefGenerated {
    let buyer = Buyer { id: "ada".into(), name: "Ada".into() };
    RecommendationBriefGenerated { brief_id: "b-1".into(), buyer, headline: "one line".into(), best: None }
}

fn letter(id: &str) -> Letter {
    Letter {
        id: id.into(),
        to: Recipient { id: "ada".into(), name: "Ada".into() },
        about: "b-1".into(),
        subject: "Grüße".into(),
        text: "Hello Ada,\n.\nbye".into(),
    }
}

// ---- what is said, and where

#[tokio::test]
async fn each_event_is_told_in_a_file_to_whom_no_address_is_known() {
    let bed = Bed::make(json!({})).await;
    let brief = bed.worker.deliver(&brief()).await;
    brief.assert_done();
    let review = FraudReviewScored {
        review_id: "r-1".into(),
        listing_id: "l-1".into(),
        seller: Seller { id: "bob".into(), name: "Bob".into(), since: clock::now() },
        score: 0.5,
        outcome: Verdict::Review,
        reasons: vec![],
    };
    bed.worker.deliver(&review).await.assert_done();
    let history = json!({ "vin": "1FAHP2A00A0000001", "provider": "acme", "known": true, "decoded": {}, "entries": [], "flags": [], "asked_at": clock::now() });
    bed.worker.deliver(&serde_json::from_value::<VehicleHistoryFetched>(history).unwrap()).await.assert_done();
    let image = json!({ "listing_id": "l-1", "photo_id": "p-1", "variants": [], "placeholder": "", "dominant_colour": "#000000",
        "near_duplicates": [{ "photo_id": "p-0", "distance": 1 }] });
    bed.worker.deliver(&serde_json::from_value::<ListingImageProcessed>(image).unwrap()).await.assert_done();

    let told: Vec<(String, String, String)> =
        bed.lines().into_iter().map(|n| (n.letter.to.id, n.letter.about, n.letter.text)).collect();
    let told: Vec<(&str, &str, &str)> = told.iter().map(|(to, about, text)| (&**to, &**about, &**text)).collect();
    assert_eq!(
        told,
        [
            (
                "ada",
                "b-1",
                "Hello Ada, your car recommendation is ready: one line. The brief tells what each wish excluded and what could be given up."
            ),
            ("bob", "l-1", "Hello Bob, somebody will look at your listing l-1 within a day before it is shown."),
            (
                "vin/1FAHP2A00A0000001",
                "1FAHP2A00A0000001",
                "Hello there, the history of 1FAHP2A00A0000001 has 0 entries."
            ),
            (
                "listing/l-1",
                "l-1/p-1",
                "Hello there, photo p-1 of your listing l-1 is online in 0 sizes. It shows nearly the same as 1 other photo of this listing; you may want to take one away."
            ),
        ]
    );
    let kept = bed.worker.document::<Notification>(&brief.envelope.id).await.unwrap();
    assert_eq!((kept.channel, kept), (Channel::File, bed.lines().remove(0)));
    // The line is outside: whoever reads the file drops a second one by its ID.
    bed.worker.deliver_envelope((*brief.envelope).clone()).await.assert_duplicate();
}

#[tokio::test]
async fn who_has_addresses_gets_a_command_for_each_and_no_line() {
    let bed = Bed::make(json!({})).await;
    bed.contact(json!({ "mail": "ada@example.org", "webhook": "https://example.org/in" })).await.assert_done();
    let outcome = bed.worker.deliver(&brief()).await;
    outcome.assert_done();
    let [mail] = &outcome.emitted::<SendMail>()[..] else { panic!("one mail") };
    assert_eq!(
        (&*mail.letter.id, &*mail.letter.to.name),
        (&*outcome.envelope.id, "Ada L."),
        "as the address book says"
    );
    assert_eq!(outcome.emitted::<CallWebhook>(), [CallWebhook { letter: mail.letter.clone() }]);
    assert_eq!(bed.lines().len(), 0);
}

#[tokio::test]
async fn a_template_of_ones_own_is_used_and_one_that_asks_too_much_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("brief.txt");
    std::fs::write(
        &template,
        "{{ event.headline }}!\nDear {{ to.name }}\n{% if event.headline == 'x' %}{{ event.nothing }}{% endif %}",
    )
    .unwrap();
    let section = json!({ "path": folder.path().join("told.log"), "template": template });
    let bed = Bed::make(json!({ "car.RecommendationBriefGenerated": section })).await;
    bed.worker.deliver(&brief()).await.assert_done();
    let line = std::fs::read_to_string(folder.path().join("told.log")).unwrap();
    assert!(line.contains(r#""subject":"one line!","text":"Dear Ada""#), "{line}");
    let outcome = bed.worker.deliver(&RecommendationBriefGenerated { headline: "x".into(), ..brief() }).await;
    outcome.assert_dead("undefined value");
    assert!(outcome.error().contains("text:3"), "{}", outcome.error());
}

#[tokio::test]
async fn a_contact_that_cannot_be_used_is_dead_and_the_old_one_stands() {
    let bed = Bed::make(json!({})).await;
    bed.contact(json!({ "mail": "ada@example.org" })).await.assert_done();
    bed.contact(json!({ "mail": "ada@example.org\r\nBcc: all@example.org" })).await.assert_dead("`mail` is no address");
    assert_eq!(bed.worker.deliver(&brief()).await.emitted::<SendMail>().len(), 1);
}

// ---- when

fn all_day_but_a_minute() -> Value {
    let end = (clock::now() + chrono::TimeDelta::hours(3)).time();
    let from = end.overflowing_add_signed(chrono::TimeDelta::minutes(1)).0;
    let quiet = Quiet { from: minute(from), to: minute(end), zone: chrono_tz::UTC };
    serde_json::to_value(quiet).unwrap()
}

fn minute(time: NaiveTime) -> NaiveTime {
    NaiveTime::parse_from_str(&time.format("%H:%M").to_string(), "%H:%M").unwrap()
}

#[tokio::test(start_paused = true)]
async fn in_quiet_hours_a_letter_waits_without_a_handler() {
    let bed = Bed::make(json!({})).await;
    bed.contact(json!({ "mail": "ada@example.org", "quiet": all_day_but_a_minute() })).await.assert_done();
    let began = clock::now();
    let outcome = bed.worker.deliver(&brief()).await;
    outcome.assert_done();
    bed.worker.idle().await;
    // Without a server its end is a dead letter, and that tells when its turn was.
    let [letter] = &bed.worker.letters().await[..] else { panic!("one letter") };
    assert!(letter.error.contains("no mail server is set"), "{}", letter.error);
    let waited = letter.first_at - began;
    assert!((178..=181).contains(&waited.num_minutes()), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_quiet_hours_were_set_waits_as_well() {
    let bed = Bed::make(json!({})).await;
    bed.contact(json!({ "mail": "ada@example.org", "quiet": all_day_but_a_minute() })).await.assert_done();
    let outcome = bed.worker.deliver(&SendMail { letter: letter("e-1") }).await;
    outcome.assert_done();
    assert_eq!(outcome.emitted::<SendMail>(), [SendMail { letter: letter("e-1") }], "the same letter, later");
}

#[tokio::test]
async fn who_has_no_address_any_more_is_a_dead_letter_that_says_so() {
    let bed = Bed::make(json!({})).await;
    bed.worker
        .deliver(&SendMail { letter: letter("e-1") })
        .await
        .assert_dead("user `ada` has no mail address any more");
    bed.contact(json!({ "mail": "ada@example.org" })).await.assert_done();
    bed.worker.deliver(&CallWebhook { letter: letter("e-1") }).await.assert_dead("no webhook address any more");
}

// ---- mail

async fn mailer(server: &SmtpServer, to: &str) -> Bed {
    let bed = Bed::make(json!({ "car.SendMail": server.section() })).await;
    bed.contact(json!({ "mail": to })).await.assert_done();
    bed
}

#[tokio::test]
async fn a_mail_is_sent_once_with_the_letters_id() {
    let Some(server) = SmtpServer::plain() else { return };
    let bed = mailer(&server, "ada@example.org").await;
    let outcome = bed.worker.deliver(&SendMail { letter: letter("e-1") }).await;
    outcome.assert_done();
    let mail = server.next_mail();
    assert_eq!((&mail["from"], &mail["to"]), (&json!("cars@example.org"), &json!(["ada@example.org"])));
    let data = mail["data"].as_str().unwrap();
    assert!(data.contains("Message-ID: <e-1@example.org>"), "{data}");
    assert!(data.contains("To: Ada <ada@example.org>") && data.contains("From: Cars <cars@example.org>"), "{data}");
    assert!(data.contains("Subject: =?utf-8?b?R3LDvMOfZQ==?="), "{data}");
    assert!(data.contains("\r\n.\r\nbye") || data.contains("\n.\nbye"), "a lone dot is not the end: {data}");
    let kept = bed.worker.document::<Notification>("e-1/mail").await.unwrap();
    assert_eq!((kept.channel, &*kept.sent_to), (Channel::Mail, "ada@example.org"));
    bed.worker.deliver_envelope((*outcome.envelope).clone()).await.assert_duplicate();
    assert_eq!(server.mails_left(), 0);
}

#[tokio::test]
async fn a_stranger_writes_no_header() {
    let Some(server) = SmtpServer::plain() else { return };
    let bed = mailer(&server, "ada@example.org").await;
    let mut letter = letter("e\r\nBcc: all@example.org");
    letter.to.name = "Ada\r\nBcc: all@example.org".into();
    letter.subject = "Hi\r\nBcc: all@example.org".into();
    bed.worker.deliver(&SendMail { letter }).await.assert_done();
    let mail = server.next_mail();
    let data = mail["data"].as_str().unwrap();
    assert!(!data.lines().any(|line| line.starts_with("Bcc")), "{data}");
    assert_eq!(mail["to"], json!(["ada@example.org"]));
}

#[tokio::test]
async fn tls_and_login_work_and_the_certificate_is_checked() {
    for mode in ["tls", "starttls"] {
        let Some(server) = SmtpServer::with_tls(mode) else { return };
        let bed = mailer(&server, "ada@example.org").await;
        let outcome = bed.worker.deliver(&SendMail { letter: letter("e-1") }).await;
        outcome.assert_done();
        let mail = server.next_mail();
        assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!(true)), "{mode}");

        let mut section = server.section();
        section.as_object_mut().unwrap().remove("ca_file");
        let bed = Bed::make(json!({ "car.SendMail": section })).await;
        bed.contact(json!({ "mail": "ada@example.org" })).await.assert_done();
        let outcome = bed.worker.deliver(&SendMail { letter: letter("e-2") }).await;
        outcome.assert_retry();
        assert!(outcome.error().contains("not reached"), "{mode}: {}", outcome.error());
        assert_eq!(server.mails_left(), 0);
    }
}

#[tokio::test]
async fn what_the_server_says_decides() {
    let Some(server) = SmtpServer::plain() else { return };
    let bed = mailer(&server, "refused@example.org").await;
    bed.worker.deliver(&SendMail { letter: letter("e-1") }).await.assert_dead("(550): no such user");
    bed.contact(json!({ "mail": "later@example.org" })).await.assert_done();
    let outcome = bed.worker.deliver(&SendMail { letter: letter("e-2") }).await;
    outcome.assert_retry();
    assert!(outcome.error().contains("does not take it now"), "{}", outcome.error());
    assert_eq!(server.mails_left(), 0);
    bed.contact(json!({ "mail": "cut@example.org" })).await.assert_done();
    bed.worker.deliver(&SendMail { letter: letter("e-3") }).await.assert_dead("the mail may have gone");
    assert_eq!(server.next_mail()["to"], json!(["cut@example.org"]), "and so it was");
}

/// A wrong password is nobody's letter's fault: none is lost, and the server is left alone.
#[tokio::test]
async fn a_login_that_is_refused_is_an_outage() {
    let Some(server) = SmtpServer::with_tls("tls") else { return };
    let mut section = server.section();
    section["password"] = json!("wrong");
    let bed = Bed::make(json!({ "car.SendMail": section })).await;
    bed.contact(json!({ "mail": "ada@example.org" })).await.assert_done();
    let outcome = bed.worker.deliver(&SendMail { letter: letter("e-1") }).await;
    outcome.assert_retry();
    assert!(outcome.error().contains("does not take our login"), "{}", outcome.error());
    assert!(!outcome.error().contains("wrong"), "{}", outcome.error());
}

#[tokio::test]
async fn a_server_that_is_down_burns_no_attempts() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let section = json!({ "host": "127.0.0.1", "port": port, "security": "none", "from": "cars@example.org" });
    let bed = Bed::make(json!({ "car.SendMail": section })).await;
    bed.contact(json!({ "mail": "ada@example.org" })).await.assert_done();
    for n in 0.. {
        let breakers = bed.worker.handlers().into_iter().flat_map(|handler| handler.breakers);
        if breakers.filter(|breaker| &*breaker.name == "smtp").any(|breaker| breaker.open_until.is_some()) {
            break;
        }
        assert!(n < 12, "more than half of the last 20 calls have failed, and the breaker is closed");
        bed.worker.deliver(&SendMail { letter: letter(&format!("e-{n}")) }).await.assert_retry();
    }
    // The next one is not begun; its turn comes with the probe.
    let waiting = SendMail { letter: letter("waits") };
    let waits = bed.worker.deliver(&waiting);
    assert!(tokio::time::timeout(Duration::from_millis(500), waits).await.is_err());
}

#[tokio::test]
async fn more_than_an_hour_takes_waits_for_the_next() {
    let Some(server) = SmtpServer::plain() else { return };
    let bed = mailer(&server, "ada@example.org").await;
    bed.contact(json!({ "mail": "ada@example.org", "per_hour": 2 })).await.assert_done();
    for n in 0..4 {
        let outcome = bed.worker.deliver(&SendMail { letter: letter(&format!("e-{n}")) }).await;
        outcome.assert_done();
        assert_eq!(outcome.emitted::<SendMail>().len(), usize::from(n >= 2), "{n}");
    }
    assert_eq!([server.next_mail(), server.next_mail()].len(), 2);
    assert_eq!(server.mails_left(), 0);
}

// ---- webhook

/// What a receiver was sent.
type Calls = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver that answers with a status.
async fn receiver(status: u16) -> (String, Calls) {
    let calls = Calls::default();
    let answer = move |State(calls): State<Calls>, headers: HeaderMap, body: Bytes| async move {
        calls.lock().unwrap().push((headers, body));
        let wait = (status == 429).then_some([("retry-after", "7")]);
        (StatusCode::from_u16(status).unwrap(), AppendHeaders(wait.into_iter().flatten()), "because")
    };
    let app = Router::new().route("/in", post(answer)).with_state(calls.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, calls)
}

async fn caller(url: &str) -> Bed {
    let bed = Bed::make(json!({ "car.CallWebhook": { "secret": SECRET, "allow": ["127.0.0.1"] } })).await;
    bed.contact(json!({ "webhook": url })).await.assert_done();
    bed
}

#[tokio::test]
async fn a_webhook_is_signed_and_names_the_letter() {
    let (url, calls) = receiver(204).await;
    let bed = caller(&url).await;
    bed.worker.deliver(&CallWebhook { letter: letter("e-1") }).await.assert_done();
    let calls = std::mem::take(&mut *calls.lock().unwrap());
    let [(headers, body)] = &calls[..] else { panic!("one call") };
    let signature = headers[SIGNATURE].to_str().unwrap();
    webhook::verify(SECRET.as_bytes(), signature, body, clock::now(), WINDOW).unwrap();
    assert_eq!(headers[KEY], "e-1");
    assert_eq!(serde_json::from_slice::<Letter>(body).unwrap(), letter("e-1"));
    let kept = bed.worker.document::<Notification>("e-1/webhook").await.unwrap();
    assert_eq!((kept.channel, kept.sent_to), (Channel::Webhook, url));
}

#[tokio::test]
async fn what_a_receiver_says_decides() {
    for (status, is_dead) in [
        (400, true),
        (404, true),
        (410, true),
        (307, true),
        (408, false),
        (409, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let (url, calls) = receiver(status).await;
        let bed = caller(&url).await;
        let outcome = bed.worker.deliver(&CallWebhook { letter: letter("e-1") }).await;
        if is_dead {
            outcome.assert_dead(&status.to_string())
        } else {
            outcome.assert_retry()
        }
        assert!(outcome.error().contains("because"), "{status}: {}", outcome.error());
        if let (429, Fate::Retry(at), Some(attempt)) = (status, &outcome.fate, &outcome.attempt) {
            let wait = (*at - attempt.at).num_milliseconds();
            assert!(attempt.kind == AttemptKind::Later && (6_500..=8_000).contains(&wait), "as it asked: {wait} ms");
        }
        assert_eq!(calls.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_webhook_does_not_lead_inside() {
    let (url, calls) = receiver(200).await;
    let bed = Bed::make(json!({ "car.CallWebhook": { "secret": SECRET } })).await;
    for url in [url.clone(), url.replace("127.0.0.1", "localhost"), "http://169.254.169.254/latest".into()] {
        bed.contact(json!({ "webhook": url })).await.assert_done();
        bed.worker.deliver(&CallWebhook { letter: letter("e-1") }).await.assert_dead("not public");
    }
    assert_eq!(calls.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn without_a_secret_nothing_is_called() {
    let (url, calls) = receiver(200).await;
    let bed = Bed::make(json!({})).await;
    bed.contact(json!({ "webhook": url })).await.assert_done();
    bed.worker.deliver(&CallWebhook { letter: letter("e-1") }).await.assert_dead("no secret is set");
    assert_eq!(calls.lock().unwrap().len(), 0);
}
