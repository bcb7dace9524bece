"""A foreign client on Kafka: sends commands in every form, listens to what comes of them, prints it as JSON lines.

    kafka.py BROKERS PREFIX EVENTS LETTERS REPLIES

It ends when it has heard so many of each and then nothing for a second, or after a minute.
"""

import json
import sys
import time

from cases import attributes, common, structured, work
from confluent_kafka import Consumer, Producer

brokers, prefix = sys.argv[1:3]
commands = f"{prefix}.commands"
topics = {f"{prefix}.events": "events", f"{commands}.dead": "letters", f"{prefix}.replies": "replies"}
wanted = dict(zip(topics.values(), map(int, sys.argv[3:6])))
producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "acks": "all"})


def delivered(error, _record):
    if error:
        sys.exit(f"not taken: {error}")


def send(body, headers=(), **record):
    producer.produce(commands, body, headers=list(headers), on_delivery=delivered, **record)


def binary(attributes, prefix="ce_"):
    return [(prefix + name, value) for name, value in attributes.items()]


JSON = [("content-type", "application/json")]
STRUCTURED = [("content-type", "application/cloudevents+json")]

# First in its partition, so that everything behind it has to get past it.
for partition in range(4):
    send(b"\xff\x00 garbage", partition=partition)

# Binary mode: with a record key, without one, with the other prefixes.
send(work(200, "keyed"), binary(attributes("keyed")) + JSON, key="ada")
send(work(201, "no key"), binary(attributes("no key")) + JSON)
send(work(202, "key in bytes"), binary(attributes("key in bytes")), key=b"\xff\xfe")
send(work(203, "cloudEvents_"), binary(attributes("binary cloudEvents_"), "cloudEvents_"))
send(work(204, "ce-"), binary(attributes("binary ce-"), "ce-"))

# Structured mode.
send(structured("structured", work(210, "structured")), STRUCTURED, key="ada")

# Without a time: that of the record is the message's.
send(work(220, "no time"), binary(attributes("record time")), timestamp=1_700_000_000_000)
send(work(221, "a time"), binary(attributes("own time", time="2023-11-14T22:00:00Z")), timestamp=1_700_000_000_000)

# Foreign headers: of other tools, not UTF-8, without a value, twice.
foreign = [("b3", "80f198ee56343ba8"), ("spring_json_header_types", '{"a":"b"}'), ("x-tag", "1"), ("x-tag", "2")]
send(work(230, "foreign"), binary(attributes("foreign")) + foreign)
odd = [("x-bytes", b"\xff\xfe\x00"), ("x-null", None), ("", "no name"), ("ce_my-header", b"\xff")]
send(work(231, "odd"), binary(attributes("odd headers")) + odd)
trace = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
send(work(232, "traced"), binary(attributes("traced")) + trace)
send(work(233, "bad trace"), binary(attributes("bad trace")) + [("traceparent", b"\xff")])

for told, body in common(prefix):
    send(body, binary(told) + JSON, key=told.get("subject", told.get("id")))

# Tombstones: with attributes, and without anything.
send(None, binary(attributes("tombstone")), key="ada")
send(None, key="ada")

# What nobody can read.
send(b"{cut off", STRUCTURED)
send(b"[]", [("content-type", "application/cloudevents-batch+json")])
send(work(240, "subject without a value"), binary(attributes("x")) + [("ce_subject", None)])
send(work(241, "subject in latin-1"), binary(attributes("x")) + [("ce_subject", "M\xfcller".encode("latin-1"))])
send(work(242, "id twice"), binary(attributes("x")) + [("ce_id", "y")])
send(work(243, "no headers"))
if producer.flush(30):
    sys.exit("the broker does not take them")

consumer = Consumer(
    {"bootstrap.servers": brokers, "group.id": f"{prefix}.listener", "auto.offset.reset": "earliest"}
)
consumer.subscribe(list(topics))
heard = {name: 0 for name in wanted}
last = time.monotonic()
until = last + 60
while time.monotonic() < until:
    record = consumer.poll(0.2)
    if record is not None and not record.error():
        name, last = topics[record.topic()], time.monotonic()
        heard[name] += 1
        headers = {name: (value or b"").decode() for name, value in record.headers() or ()}
        key, body = ((part or b"").decode(errors="replace") for part in (record.key(), record.value()))
        print(json.dumps({"on": name, "key": key, "headers": headers, "body": body}))
    elif all(heard[name] >= count for name, count in wanted.items()) and time.monotonic() - last > 1:
        break
consumer.close()
