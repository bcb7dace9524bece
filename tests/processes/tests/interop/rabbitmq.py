"""A foreign client on RabbitMQ: sends commands in every form, listens to what comes of them, prints it as JSON lines.

    rabbitmq.py URL PREFIX EVENTS LETTERS REPLIES

It ends when it has heard so many of each and then nothing for a second, or after a minute.
"""

import datetime
import json
import sys
import time

import pika
from cases import attributes, common, structured, work

url, prefix = sys.argv[1:3]
wanted = dict(zip(("events", "letters", "replies"), map(int, sys.argv[3:6])))
commands = f"{prefix}.commands"
JSON = "application/json"

connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.confirm_delivery()


def send(body, headers=None, to_queue=False, **native):
    """By the channel's exchange as a producer should, or straight into its queue as some do."""
    properties = pika.BasicProperties(headers=headers, **native)
    exchange, key = ("", commands) if to_queue else (commands, "test.Work")
    channel.basic_publish(exchange, key, body, properties, mandatory=True)


def binary(prefix, attributes):
    return {prefix + name: value for name, value in attributes.items()}


# Queues of our own: at the events, at the dead letters. The replies have one that the worker made.
for name, exchange in (("events", f"{prefix}.events"), ("letters", f"{commands}.dead")):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, "#")
    channel.basic_consume(queue, lambda *got, name=name: hear(name, *got), auto_ack=True)
channel.basic_consume(f"{prefix}.replies", lambda *got: hear("replies", *got), auto_ack=True)

heard = {name: 0 for name in wanted}
last = time.monotonic()


def hear(name, _channel, method, properties, body):
    global last
    heard[name] += 1
    last = time.monotonic()
    native = {name: getattr(properties, name) for name in ("message_id", "type", "correlation_id", "content_type")}
    line = {"on": name, "key": method.routing_key, "native": native, "headers": properties.headers or {}}
    print(json.dumps(line | {"body": body.decode(errors="replace")}, default=str))


# Binary mode, with each of the prefixes there are.
for n, kind in enumerate(("cloudEvents_", "cloudEvents:", "ce-", "ce_"), 100):
    send(work(n, kind), binary(kind, attributes(f"binary {kind}")), content_type=JSON)
send(work(104, "upper case"), binary("CE-", attributes("binary CE-")), content_type=JSON)

# Structured mode.
send(structured("structured", work(110, "structured")), content_type="application/cloudevents+json")
kind = "application/cloudevents+json; charset=utf-8"
send(structured("structured utf-8", work(111, "structured utf-8")), content_type=kind, to_queue=True)

# Native properties alone.
send(work(120, "native"), message_id="native", type="test.Work", app_id="interop", timestamp=1_700_000_000)
answer_to = {"reply_to": f"{prefix}.replies", "correlation_id": "order-8"}
send(work(121, "native, answered"), message_id="native answered", type="test.Work", app_id="interop", **answer_to)

# Headers with types, as clients of typed languages write them; and foreign ones of every type there is.
when = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc)
typed = binary("cloudEvents_", attributes("typed", schemaversion=1, time=when, urgent=True))
send(work(130, "typed"), typed)
foreign = {"table": {"a": 1}, "array": [1, "two"], "nothing": None, "bytes": b"\xff\x00", "ce-my-header": {"a": 1}}
send(work(131, "foreign"), binary("cloudEvents_", attributes("foreign")) | foreign)
trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
send(work(132, "traced"), binary("cloudEvents_", attributes("traced")) | trace)

for told, body in common(prefix):
    send(body, binary("cloudEvents_", told), to_queue=True, content_type=JSON)

# What nobody can read.
send(b"\xff\x00 garbage", to_queue=True)
send(b"", to_queue=True)
send(b"{cut off", content_type="application/cloudevents+json", to_queue=True)
send(b"[]", content_type="application/cloudevents-batch+json", to_queue=True)
table = binary("cloudEvents_", attributes("x")) | {"cloudEvents_id": {"a": "table"}}
send(work(140, "id is a table"), table, to_queue=True)
nothing = binary("cloudEvents_", attributes("x")) | {"cloudEvents_subject": None}
send(work(141, "subject without a value"), nothing, to_queue=True)
latin = binary("cloudEvents_", attributes("x")) | {"cloudEvents_subject": "M\xfcller".encode("latin-1")}
send(work(142, "subject in latin-1"), latin, to_queue=True)
send(work(143, "type alone"), type="test.Work", to_queue=True)

until = time.monotonic() + 60
while time.monotonic() < until:
    connection.process_data_events(time_limit=0.2)
    if all(heard[name] >= count for name, count in wanted.items()) and time.monotonic() - last > 1:
        break
connection.close()
