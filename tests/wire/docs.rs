//! Envelope Wrapper: `docs/wire.md` says what the parser does, because this test reads it.

use super::*;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/wire.md")).unwrap()
}

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let page = page();
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// `name: value` lines, an empty line, the body. Native properties go where a transport would put them.
fn message(block: &str) -> Raw {
    let (head, body) = block.split_once("\n\n").unwrap();
    let mut raw = Raw { body: body.trim_end().to_owned().into(), ..Raw::default() };
    for line in head.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        let native = match name {
            "message-id" => &mut raw.properties.message_id,
            "type" => &mut raw.properties.ty,
            "app-id" => &mut raw.properties.app_id,
            "content-type" => &mut raw.properties.content_type,
            _ => {
                raw.headers.push((name.to_owned(), Some(value.to_owned().into())));
                continue;
            }
        };
        *native = Some(value.to_owned());
    }
    raw
}

#[test]
fn the_examples_are_one_message_in_three_forms_and_a_bare_one() {
    let messages: Vec<_> = blocks("http").iter().map(|block| message(block)).collect();
    let [rabbit, kafka, bare] = &messages[..] else { panic!("{} examples", messages.len()) };
    let [document] = &blocks("json")[..] else { panic!("more than one structured example") };
    let envelope = read(rabbit);
    assert_eq!(envelope.id, UUID_V7);
    assert_eq!(envelope.time, wire::parse(&raw_without_time(rabbit), "c").unwrap().time, "the time is the ID's");
    assert_eq!(envelope.traceparent.as_deref(), Some(PARENT));
    assert_eq!(envelope.extensions, BTreeMap::new(), "every attribute has its place");
    assert_eq!(read(kafka), envelope);
    assert_eq!(read(&json(document.clone())), envelope);
    let bare = read(bare);
    assert_eq!((&*bare.id, &*bare.source, &bare.ty, &bare.data), ("42", "/shop", &envelope.ty, &envelope.data));
    // And what the page shows is what we write.
    let sorted = |raw: &Raw| raw.headers.iter().cloned().collect::<BTreeMap<_, _>>();
    assert_eq!(sorted(&wire::to_raw(&envelope, Prefix::CloudEvents)), sorted(rabbit));
    assert_eq!(sorted(&wire::to_raw(&envelope, Prefix::Ce)), sorted(kafka));
}

fn raw_without_time(raw: &Raw) -> Raw {
    let mut raw = raw.clone();
    raw.headers.retain(|(name, _)| !name.ends_with("_time"));
    raw
}

#[test]
fn the_tables_name_each_header_that_we_write() {
    let some = || Some("x".to_owned());
    let mut envelope = Envelope::new("t", "/s", "{}");
    envelope.subject = some();
    envelope.partition_key = some();
    envelope.actor = some();
    envelope.correlation_id = some();
    envelope.causation_id = some();
    envelope.idempotency_key = some();
    envelope.reply_to = some();
    envelope.data_ref = some();
    envelope.expires = envelope.time;
    envelope.traceparent = Some(PARENT.into());
    envelope.tracestate = Some("a=1".into());
    envelope.hop.attempt = 2;
    envelope.hop.failures = 1;
    envelope.hop.first_failure = envelope.time;
    envelope.hop.due = envelope.time;
    envelope.hop.reason = some();
    envelope.hop.origin = some();
    envelope.hop.worker = some();
    envelope.hop.build = some();
    envelope.hop.replay = some();
    let written: BTreeSet<_> = wire::headers(&envelope, Prefix::Ce)
        .into_iter()
        .map(|(name, _)| name.strip_prefix("ce_").unwrap_or(&name).to_owned())
        .collect();
    let page = page();
    let cells = page.lines().filter(|l| l.starts_with("| `")).filter_map(|l| l.split('|').nth(1));
    let mut named: BTreeSet<_> =
        cells.flat_map(|c| c.split(", ")).map(|c| c.trim().trim_matches('`').to_owned()).collect();
    assert!(named.remove("datacontenttype"), "the page tells it, the header is native");
    assert!(named.remove(wire::AGAIN), "the page tells it, the header is of one publish and not of the message");
    assert_eq!(written, named);
}

#[test]
fn the_refusals_are_the_parsers_own_words() {
    let [refusals] = &blocks("text")[..] else { panic!("one block of refusals") };
    let mine = r#"{"specversion":"1.0","id":"1","type":"t","mine":{}}"#;
    let raws = [
        raw(&[("ce_specversion", "1.0"), ("ce_type", "t")]),
        raw(&[("ce_specversion", "0.3")]),
        good(&[("ce_schemaversion", "0")]),
        good(&[("ce_time", "yesterday")]),
        good(&[("ce_subject", "\0")]),
        json(mine),
        raw(&[("ce_id", "1"), ("ce_type", "t")]),
    ];
    assert_eq!(raws.iter().map(refused).collect::<Vec<_>>(), refusals.lines().collect::<Vec<_>>());
}
